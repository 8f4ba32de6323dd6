"""A tiny data set on disk, in the schema of the competition: 12 training and 7 validation images of
3 classes, 3 test images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowersweep.data.records import write_split
from tests.data.tiny_records import TRAIN, VAL, split


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return the folder of the tiny data set."""
    folder = tmp_path / "tiny"
    split(folder / "train", TRAIN, len(TRAIN), shards=3)
    split(folder / "val", VAL, len(VAL))
    split(folder / "test", None, 3, shards=1)
    return folder


@pytest.fixture
def rewrite(tiny: Path) -> Callable[..., str]:
    """Return a function that replaces the files of a split by a single one of the given records."""

    def write(name: str, records: list[bytes]) -> str:
        for file in (tiny / name).glob("*.tfrec"):
            file.unlink()
        return write_split(str(tiny / name), records, (8, 8))[0]

    return write
