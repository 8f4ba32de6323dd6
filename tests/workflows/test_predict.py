"""Predictions over several views of an image, by a real network from a real registry."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.config.compose import compose
from flowersweep.config.schema import Config, Data
from flowersweep.data.dataset import open_dataset
from flowersweep.data.pipeline import in_order
from flowersweep.errors import ConfigError, DataError, TrackingError
from flowersweep.training.augment.views import tta_views
from flowersweep.workflows.predict import mean_probabilities, predict
from tests.workflows.conftest import DATA, FETCH


def pictures(config: Config) -> np.ndarray:
    dataset = open_dataset(DATA, Path(config.dir) / "cache")
    return np.concatenate(list(in_order(dataset.splits["test"], dataset.image_size, 16)))


def submitted(config: Config) -> list[int]:
    with Path(str(config.output)).open() as file:
        heading, *rows = csv.reader(file)
    assert heading == ["id", "label"]
    return [int(label) for _, label in rows]


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_one_view_is_the_plain_prediction_and_two_the_mean_with_the_mirror_image(
    champion: Config, network: Any
) -> None:
    images = pictures(champion)
    straight, mirrored = (network.predict(seen, verbose=0) for seen in (images, images[:, :, ::-1]))
    one = predict(champion, [])
    assert (one.images, one.changed) == (120, 0)
    assert submitted(champion) == straight.argmax(axis=1).tolist()
    two = predict(replace(champion, tta_views=2), [])
    wanted = (softmax(straight) + softmax(mirrored)).argmax(axis=1)
    assert submitted(champion) == wanted.tolist()
    assert two.changed == (wanted != straight.argmax(axis=1)).sum() > 0


def test_a_version_that_is_named_predicts_in_place_of_the_champion(
    champion: Config, network: Any
) -> None:
    asked = replace(champion, alias=None, version=1)
    predict(asked, [])
    assert (
        submitted(champion)
        == network.predict(pictures(champion), verbose=0).argmax(axis=1).tolist()
    )
    with pytest.raises(TrackingError, match=r"has no version 7\. Versions: 1"):
        predict(replace(asked, version=7), [])
    with pytest.raises(ConfigError, match="version=1 names a model, and so does alias"):
        predict(replace(champion, version=1), [])


@pytest.mark.parametrize("count", [2, 4, 6])
def test_mirrored_images_are_predicted_alike_from_both_sides(count: int, network: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    (straight, plain), (mirrored, plain_mirrored) = (
        mean_probabilities(network, seen, count) for seen in (images, images[:, :, ::-1])
    )
    assert (straight.argmax(axis=1) == mirrored.argmax(axis=1)).all()
    assert (plain != plain_mirrored).any()  # which one view of them does not give


def test_further_views_are_closer_about_the_centre_in_pairs() -> None:
    down, across = np.mgrid[0:64, 0:64].astype(np.float32)
    images = (
        np.stack([down, across, np.full_like(down, 7)], axis=-1)[None]
        .repeat(2, axis=0)
        .astype(np.uint8)
    )
    seen = list(tta_views(images, 6))
    assert {(view.shape, view.dtype) for view in seen} == {(images.shape, np.dtype(np.uint8))}
    np.testing.assert_array_equal(seen[0], images)
    for pair, side in enumerate((1.0, 0.9, 0.8)):
        straight, mirrored = seen[2 * pair : 2 * pair + 2]
        np.testing.assert_array_equal(mirrored, straight[:, :, ::-1])
        places = 31.5 + side * (np.arange(64) - 31.5)  # where each pixel is looked up
        np.testing.assert_allclose(straight[0, :, 5, 0], places, atol=0.51)
        np.testing.assert_allclose(straight[1, 9, :, 1], places, atol=0.51)
        assert (straight[..., 2] == 7).all()


def test_no_views_and_too_many_are_refused() -> None:
    for count in (0, 7):
        with pytest.raises(ConfigError, match=f"tta_views={count}: must be between 1 and 6"):
            compose([f"tta_views={count}"])


def test_a_word_that_names_no_images_does_not_change_them(champion: Config) -> None:
    """The command line's own data set may have as many classes."""
    other = replace(champion, data=Data(name="other", fetch={**FETCH, "seed": 7}, cache_bytes=0))
    predict(champion, [])
    first = Path(str(champion.output)).read_text()
    predict(other, ["data.cache_bytes=0"])
    assert Path(str(champion.output)).read_text() == first


def test_other_classes_of_the_same_number_are_refused(champion: Config, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\n")
    other = replace(champion, data=replace(DATA, classes=str(names)))
    with pytest.raises(DataError, match="the model does not know 'a'"):
        predict(other, ["data=synthetic", f"data.classes={names}"])


def test_the_same_classes_in_another_order_are_refused(champion: Config, tmp_path: Path) -> None:
    classes = open_dataset(DATA, Path(champion.dir) / "cache").classes
    names = tmp_path / "names.txt"
    names.write_text("\n".join(reversed(classes)))
    other = replace(champion, data=replace(DATA, classes=str(names)))
    with pytest.raises(DataError, match=r"the same in another order\. Leave data out"):
        predict(other, ["data=synthetic", f"data.classes={names}"])
