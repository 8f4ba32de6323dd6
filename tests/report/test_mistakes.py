"""The worst mistakes: which they are, how they look, and what is said where there are none."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.data.synthetic.dataset import write
from flowersweep.report import write_report as write_page
from flowersweep.report.mistakes import SIDE, Mistake, gallery, keep, stored, worst
from flowersweep.report.page import render
from flowersweep.report.study_page import gallery as section
from flowersweep.report.study_view import Predictions
from tests.report.made_up import MadeUp, Play, smoothed


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("images")
    return open_dataset(
        Data(
            name="flowers",
            dir=str(write(folder / "flowers", classes=3, train=2, val=4, test=1, image_size=32)),
        ),
        folder / "cache",
    )


def predicted(dataset: Dataset) -> Predictions:
    """All is right, but for one image of tune, which is wrong for sure, and one of holdout, which
    is nearly right.
    """
    labels = dataset.splits["val"].labels
    assert labels is not None
    tune, report = labels[dataset.tune], labels[dataset.holdout]
    logits = [np.eye(3)[each] * 9.0 for each in (tune, report)]
    logits[0][1] = np.eye(3)[(tune[1] + 1) % 3] * 20
    logits[1][2] = np.eye(3)[(report[2] + 1) % 3] * 0.5
    return Predictions(logits[0], tune, logits[1], report)


def test_of_a_cross_validated_trial_images_of_train_are_shown_too(
    images: Dataset, tmp_path: Path
) -> None:
    plain, train = predicted(images), images.splits["train"]
    assert train.labels is not None
    labels = np.concatenate([train.labels, plain.tune_labels])
    logits = np.eye(3)[labels] * 9.0
    logits[4] = np.eye(3)[(labels[4] + 1) % 3] * 20  # of train
    logits[len(train) + 1] = plain.tune[1] * 0.4
    wrong = gallery(
        Predictions(logits, labels, plain.holdout, plain.holdout_labels),
        {"data": {"name": "flowers"}},
        {"data": {"dir": images.dir}},
        tmp_path,
    )
    val = images.splits["val"].ids
    assert [(each.half, each.id) for each in wrong if isinstance(each, Mistake)] == [
        ("tune", str(train.ids[4])),
        ("tune", str(val[images.tune[1]])),
        ("holdout", str(val[images.holdout[2]])),
    ]


def test_the_surest_mistakes_of_both_halves_come_first(images: Dataset) -> None:
    first, second = worst(predicted(images))
    assert (first.half, first.row, second.half, second.row) == ("tune", 1, "holdout", 2)
    assert first.probability > 0.99 > second.probability


def test_they_are_shown_with_the_images_they_are_about(images: Dataset, tmp_path: Path) -> None:
    found = gallery(
        predicted(images),
        {"data": {"name": "flowers"}},
        {"data": {"dir": images.dir}},
        Path(images.dir).parent / "cache",
    )
    assert not isinstance(found, str)
    assert found[0].id == str(images.splits["val"].ids[images.tune[1]])
    assert found[0].true != found[0].predicted
    keep(tmp_path, found)
    assert stored(tmp_path) == found
    sheet = Image.open(io.BytesIO((tmp_path / "mistakes.jpg").read_bytes()))
    assert sheet.height > SIDE
    html = render("", [], [section(found)])
    assert html.count("data:image/jpeg;base64,") == 2
    assert f"taken for {found[0].predicted}" in html


def test_other_images_or_none_are_said_to_be_so(images: Dataset, tmp_path: Path) -> None:
    kept, cache = predicted(images), Path(images.dir).parent / "cache"
    assert "are not here" in gallery(kept, {}, {"data": {"dir": str(tmp_path / "nothing")}}, cache)
    other = replace(kept, tune_labels=(kept.tune_labels + 1) % 3)
    assert "other images" in gallery(
        other, {"data": {"name": "flowers"}}, {"data": {"dir": images.dir}}, cache
    )
    right = replace(kept, tune=np.eye(3)[kept.tune_labels], holdout=np.eye(3)[kept.holdout_labels])
    assert gallery(right, {}, {"data": {"dir": images.dir}}, cache) == "No image was mistaken."


def test_a_page_without_the_images_says_so_and_stands(tmp_path: Path) -> None:
    folder = MadeUp([Play(smoothed(0.1, 0.01), 0.3, skill=1.0)]).write(tmp_path)
    assert (
        "The images, flowers, are not here"
        in write_page([folder], tmp_path / "page.html").read_text()
    )


def test_what_somebody_else_wrote_is_text_on_the_page(tmp_path: Path) -> None:
    script = '<img src=x onerror="document.title=1">'
    jpeg = base64.b64encode(b"x").decode()
    mistake = Mistake(script, script, script, script, 0.5, jpeg)
    (tmp_path / "mistakes.json").write_text(json.dumps([asdict(mistake)]))
    pictures = stored(tmp_path)
    assert pictures == [mistake]
    assert "<img src=x" not in render("", [], [section(pictures)])


@pytest.mark.parametrize(
    "change", [{"jpeg": '"><script>'}, {"probability": "0.5"}, {"half": ["tune"]}, {"id": None}]
)
def test_a_file_of_other_types_counts_as_none(tmp_path: Path, change: dict[str, Any]) -> None:
    mistake = {"id": "1", "half": "tune", "true": "a", "predicted": "b", "probability": 0.5}
    (tmp_path / "mistakes.json").write_text(json.dumps([{**mistake, "jpeg": "AAAA", **change}]))
    assert stored(tmp_path) is None


def test_an_address_of_images_is_opened_only_if_the_command_names_it(
    images: Dataset, tmp_path: Path
) -> None:
    elsewhere = {"data": {"dir": "gs://elsewhere/x"}}
    assert "are not here" in gallery(predicted(images), {}, elsewhere, tmp_path)
