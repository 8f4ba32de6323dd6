"""Decode one image file as the training does, apart from every pipeline."""

from __future__ import annotations

from pathlib import Path

from flowersweep.data.files import read_file
from flowersweep.data.images import Images, Size, decode_and_resize


def decode_file(path: str | Path, size: Size, resize: str = "stretch") -> Images:
    """Return the image of a file, uint8 (*size, 3), as a network is trained with it."""
    image: Images = decode_and_resize(read_file(path), size, resize).numpy()
    return image
