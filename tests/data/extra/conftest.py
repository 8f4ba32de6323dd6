"""A folder of pictures that others are added to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.extra.pictures import write_photographs


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes: in train 4 pictures each, in val 4, in test 2."""
    return write_photographs(tmp_path / "photos")
