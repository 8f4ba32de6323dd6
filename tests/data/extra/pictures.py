"""Pictures that differ from one another, drawn from a number, in any size and quality."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

Size = tuple[int, int]  # width, height
SPLITS = {"train": 4, "val": 4, "test": 2}  # pictures of each class


def picture(number: int, size: Size = (96, 96)) -> Image.Image:
    """Return a smooth picture of coloured patches."""
    rng = np.random.default_rng(number)
    patches = rng.integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(patches).resize((192, 192), Image.Resampling.BICUBIC).resize(size)


def encoded(number: int, size: Size = (96, 96), quality: int = 90) -> bytes:
    """Return a picture as JPEG bytes."""
    file = io.BytesIO()
    picture(number, size).save(file, "JPEG", quality=quality)
    return file.getvalue()


def save(path: Path, number: int, size: Size = (96, 96), quality: int = 90) -> Path:
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number, size, quality))
    return path


def number_of(split: str, label: str, image: int) -> int:
    """Return the number of a picture of `write_photographs`."""
    return 1000 * ("train", "val", "test").index(split) + 100 * (label != "lily") + image


def write_photographs(folder: Path) -> Path:
    """Write two classes of pictures in folders of splits."""
    for split, images in SPLITS.items():
        for label in ("lily", "rose"):
            for image in range(images):
                number = number_of(split, label, image)
                save(folder / split / label / f"{image}.jpg", number)
    return folder
