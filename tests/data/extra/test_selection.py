"""Extra images are trained on, but for those that are nearly one of val or test."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest

from flowersweep.data.pipeline import in_order, read_images, shuffled
from tests.data.counting import counted
from tests.data.extra.opening import labels_by_id, opened
from tests.data.extra.pictures import number_of, save


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Three pictures of their own; twins of two of val, one of test and two of train, in other
    sizes and qualities; and a twin of one of its own.
    """
    place = tmp_path / "more"
    for n in range(3):
        save(place / "rose" / f"own{n}.jpg", 5000 + n, (120, 90))
    save(place / "lily" / "own0-again.jpg", 5000, (64, 48), 70)
    save(place / "rose" / "val-small.jpg", number_of("val", "rose", 0), (48, 48), 75)
    save(place / "lily" / "val-large.jpg", number_of("val", "rose", 1), (300, 300), 95)
    save(place / "rose" / "test-poor.jpg", number_of("test", "lily", 1), (96, 96), 20)
    save(place / "lily" / "train-small.jpg", number_of("train", "lily", 2), (64, 64), 60)
    save(place / "lily" / "train-large.jpg", number_of("train", "lily", 2), (200, 200), 90)
    return place


def test_twins_of_val_and_test_are_left_out_and_listed_and_those_of_train_stay(
    photos: Path, more: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = opened(photos, more)
    assert labels_by_id(dataset) == {
        "lily/own0-again.jpg": "lily",
        "lily/train-large.jpg": "lily",
        "lily/train-small.jpg": "lily",
        "rose/own0.jpg": "rose",
        "rose/own1.jpg": "rose",
        "rose/own2.jpg": "rose",
    }
    twins = {each.image: (each.reason, each.label, each.twin) for each in dataset.extra.left_out}
    halves = {
        str(dataset.splits["val"].ids[row]): half
        for half, rows in (("tune", dataset.tune), ("holdout", dataset.holdout))
        for row in rows
    }
    assert twins == {
        f"{name}.jpg": (f"near-duplicate of {half}", name.partition("/")[0], twin)
        for name, half, twin in (
            ("rose/val-small", halves["rose/0.jpg"], "rose/0.jpg"),
            ("lily/val-large", halves["rose/1.jpg"], "rose/1.jpg"),
            ("rose/test-poor", "test", "lily/1.jpg"),
        )
    }
    train = dataset.splits["train"]
    assert sorted((train.ids[a], train.ids[b]) for a, b in dataset.extra.twins) == [
        ("lily/train-large.jpg", "lily/2.jpg"),
        ("lily/train-small.jpg", "lily/2.jpg"),
    ]
    assert dataset.extra.counts == {str(more): 6}
    said = "kept: 2 extra images that are nearly the same as one of train, 2 pairs among the extra"
    assert any(said in remark for remark in dataset.remarks)
    [line] = [r.message for r in caplog.records if "What is left out" in r.message]
    assert "\n" not in line
    assert "1 (near-duplicate of test)" in line
    [file] = (photos.parent / "cache" / "verified").glob("left-out-*.csv")
    assert line.endswith(str(file))
    with file.open(newline="") as rows:
        assert {row["image"]: row["twin"] for row in csv.DictReader(rows)} == {
            image: twin for image, (*_, twin) in twins.items()
        }


def test_extra_images_are_read_resized_and_shuffled_with_the_others(
    photos: Path, more: Path
) -> None:
    dataset = opened(photos, more, resize="pad")
    plain = opened(photos, resize="pad")
    assert dataset.image_size == plain.image_size == (96, 96)
    train = dataset.splits["train"]
    images = np.concatenate([*in_order(train, (96, 96), 4)])
    own = np.concatenate([*in_order(plain.splits["train"], (96, 96), 4)])
    np.testing.assert_array_equal(images[: len(own)], own)
    row = int(np.flatnonzero(train.ids == "rose/own0.jpg")[0])
    assert not images[row, :10].any(), "a picture of 120x90 has black edges"
    np.testing.assert_array_equal(read_images(train, [row], (96, 96))[0], images[row])
    assert sum(remark.startswith("extra: ") for remark in dataset.remarks) == 1
    assert train.labels is not None
    seen = [
        (batch.astype(int).sum(), int(label))
        for batch_images, labels in shuffled(train, (96, 96), 7, seed=0, epoch=0)
        for batch, label in zip(batch_images, labels, strict=True)
    ]
    known = [
        (image.astype(int).sum(), int(label))
        for image, label in zip(images, train.labels, strict=True)
    ]
    assert sorted(seen) == sorted(known)


def test_the_digest_and_what_is_kept_follow_the_extra_images(photos: Path, more: Path) -> None:
    plain, first = opened(photos), opened(photos, more)
    assert first.digest != plain.digest
    assert first.held_out_digest == plain.held_out_digest == plain.digest
    with counted() as decoded:
        again = opened(photos, more)
    assert (again.digest, decoded) == (first.digest, [])
    save(more / "rose" / "own0.jpg", 5007, (120, 90))
    changed = opened(photos, more)
    assert changed.digest not in (plain.digest, first.digest)
    (more / "rose" / "own1.jpg").rename(more / "lily" / "own1.jpg")
    moved = opened(photos, more)
    assert moved.digest not in (changed.digest, first.digest)
    assert labels_by_id(moved)["lily/own1.jpg"] == "lily"


def test_an_image_that_is_added_to_val_puts_its_twin_out_of_train(photos: Path, more: Path) -> None:
    assert "rose/own2.jpg" in labels_by_id(opened(photos, more))
    save(photos / "val" / "rose" / "new.jpg", 5002, (96, 72), 80)
    assert "rose/own2.jpg" not in labels_by_id(opened(photos, more))


def test_where_all_are_twins_the_data_stays_as_it_was(photos: Path, tmp_path: Path) -> None:
    save(tmp_path / "all" / "rose" / "a.jpg", number_of("val", "rose", 0), (48, 48))
    dataset = opened(photos, tmp_path / "all")
    assert len(dataset.splits["train"]) == len(opened(photos).splits["train"])
    assert (len(dataset.extra.rows), dataset.extra.counts) == (0, {str(tmp_path / "all"): 0})


def test_a_class_that_only_extra_images_have_can_be_trained(photos: Path, tmp_path: Path) -> None:
    save(photos / "val" / "iris" / "a.jpg", 7000)
    save(photos / "val" / "iris" / "b.jpg", 7001)
    save(tmp_path / "more" / "iris" / "c.jpg", 7002)
    assert labels_by_id(opened(photos, tmp_path / "more")) == {"iris/c.jpg": "iris"}
