"""Records: what is written is what is read, in order, at the size asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from flowersweep.data import images, records
from tests.data.tiny_records import jpeg


def test_tensorflow_sees_no_accelerator() -> None:
    assert tf.config.get_visible_devices("GPU") == []


@pytest.mark.parametrize(
    ("name", "count"),
    [("00-192x192-347.tfrec", 347), ("train/3-8x8-0.tfrec", 0), ("flowers.tfrec", None)],
)
def test_the_count_is_read_from_the_file_name(name: str, count: int | None) -> None:
    assert records.declared_count(name) == count


def test_file_order_holds_over_more_files_than_are_read_at_once(tmp_path: Path) -> None:
    wanted = [f"{i}".encode() for i in range(100)]
    files = records.write_split(str(tmp_path), wanted, (8, 8), shards=11)
    assert [raw.numpy() for raw in records.raw_records(files)] == wanted


def test_large_files_are_read_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "READ_AHEAD", 10)
    wanted = [f"{i}".encode() for i in range(100)]
    files = records.write_split(str(tmp_path), wanted, (8, 8), shards=7)
    assert [raw.numpy() for raw in records.raw_records(files)] == wanted


def test_a_gray_jpeg_is_delivered_in_three_channels_at_the_size_asked_for() -> None:
    image = images.decode_and_resize(jpeg(90, size=(20, 30), channels=1), (8, 6)).numpy()
    assert image.shape == (8, 6, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - 90).max() <= 1
