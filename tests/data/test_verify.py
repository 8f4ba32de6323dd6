"""Verification: whatever is wrong with a record is found before training, and named by file and
record number.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.data.pipeline import in_order
from flowersweep.data.records import encode
from flowersweep.errors import DataError
from tests.data.tiny_records import TRAIN, jpeg

Rewrite = Callable[..., str]
GOOD = [encode(jpeg(i), f"{i}", i % 3) for i in range(6)]


def opened(folder: Path, **options: object) -> Dataset:
    return open_dataset(Data(name="tiny", dir=str(folder), **options), folder.parent / "cache")  # type: ignore[arg-type]


def without(name: str) -> bytes:
    example = tf.train.Example.FromString(GOOD[0])
    del example.features.feature[name]
    return bytes(example.SerializeToString())


def labelled_by_bytes() -> bytes:
    example = tf.train.Example.FromString(without("class"))
    example.features.feature["class"].bytes_list.value.append(b"1")
    return bytes(example.SerializeToString())


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        pytest.param(without("image"), "feature 'image' is missing", id="no image"),
        pytest.param(without("id"), "feature 'id' is missing", id="no id"),
        pytest.param(without("class"), "feature 'class' is missing", id="no class"),
        pytest.param(labelled_by_bytes(), "feature 'class' holds bytes (1 value)", id="a text"),
        pytest.param(encode(b"no picture", "9", 1), "not one of JPEG, PNG", id="no image file"),
        pytest.param(
            encode(jpeg(5)[:-300], "9", 1), "the image cannot be decoded", id="half a JPEG"
        ),
        pytest.param(b"nonsense", "not a tf.train.Example", id="not an Example"),
        pytest.param(encode(jpeg(5), "9", -1), "label -1", id="negative label"),
    ],
)
def test_a_bad_record_is_named_by_file_and_number(
    tiny: Path, rewrite: Rewrite, bad: bytes, told: str
) -> None:
    file = rewrite("val", [*GOOD[:4], bad, *GOOD[4:]])
    with pytest.raises(DataError) as raised:
        opened(tiny)
    assert f"{file}, record 4: " in str(raised.value)
    assert told in str(raised.value)
    assert "counted from 0" in str(raised.value)


def test_several_bad_records_are_named_at_once(tiny: Path, rewrite: Rewrite) -> None:
    file = rewrite("train", [*GOOD, encode(b"", "a", 0), without("id")])
    with pytest.raises(DataError, match=f"(?s){file}, record 6: .*{file}, record 7: "):
        opened(tiny)


def test_compressed_files_are_read_and_a_mixture_is_named(tiny: Path, rewrite: Rewrite) -> None:
    file = Path(rewrite("train", GOOD))
    plain = images(opened(tiny))
    content = file.read_bytes()
    file.write_bytes(gzip.compress(content))
    for one, other in zip(plain, images(opened(tiny)), strict=True):
        np.testing.assert_array_equal(one, other)
    (file.parent / "01-8x8-6.tfrec").write_bytes(content)
    with pytest.raises(DataError, match=rf"{file} is compressed by GZIP and .*01-8x8-6.tfrec is"):
        opened(tiny)


def images(dataset: Dataset) -> list[np.ndarray]:
    return list(in_order(dataset.splits["train"], dataset.image_size, 4))


@pytest.mark.parametrize("kept", [0.6, 0.97])
def test_a_truncated_file_is_named(tiny: Path, rewrite: Rewrite, kept: float) -> None:
    file = Path(rewrite("train", GOOD))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    with pytest.raises(
        DataError,
        match=rf"{file}, record {3 if kept == 0.6 else 5}: the file is truncated or corrupt",
    ):
        opened(tiny)


def test_a_flipped_bit_is_found(tiny: Path, rewrite: Rewrite) -> None:
    file = Path(rewrite("train", GOOD))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="truncated or corrupt"):
        opened(tiny)


def test_a_count_in_a_file_name_that_is_not_what_the_file_holds_is_an_error(tiny: Path) -> None:
    file = next((tiny / "train").glob("00-*"))
    file.rename(file.with_name("00-8x8-5.tfrec"))
    with pytest.raises(DataError, match=r"00-8x8-5.tfrec: its name says 5 records, it holds 4"):
        opened(tiny)


def test_a_label_beyond_the_class_file_is_named_by_file_and_record(tiny: Path) -> None:
    (tiny / "classes.txt").write_text("aster\nbeech\n")
    with pytest.raises(
        DataError,
        match=r"train/00-8x8-4.tfrec, record 2: label 2, must be 0 to 1 \(the class file names 2\)",
    ):
        opened(tiny)


def test_a_split_without_a_record_is_an_error(tiny: Path, rewrite: Rewrite) -> None:
    rewrite("val", [])
    with pytest.raises(DataError, match=r"val: 1 files, first .*00-8x8-0.tfrec, hold no record"):
        opened(tiny)


def test_an_id_that_occurs_twice_is_a_warning_only(
    tiny: Path, rewrite: Rewrite, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite("train", [*GOOD, GOOD[0]])
    with caplog.at_level(logging.WARNING):
        assert len(opened(tiny).splits["train"]) == 7
    assert "train: 1 id more than once, first '0'" in caplog.text


def test_a_test_split_needs_no_class(tiny: Path) -> None:
    assert opened(tiny).splits["test"].labels is None
    assert tuple(opened(tiny).splits["train"].labels) == TRAIN  # type: ignore[arg-type]


def test_a_label_that_is_no_index_is_refused_before_a_name_is_made_for_each_below(
    tiny: Path, rewrite: Rewrite
) -> None:
    file = rewrite("train", [*GOOD, encode(jpeg(5), "9", 1_900_000_000)])
    with pytest.raises(DataError, match=f"{file}, record 6: label 1900000000, must be the index"):
        opened(tiny, allow_missing_classes=True)
