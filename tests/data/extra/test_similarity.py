"""Copies of a picture in other sizes, shapes and qualities are found, others are not."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from flowersweep.data.extra.similarity import BLOCK, Views, near, near_between, read_thumbnails
from flowersweep.data.readers import FileReader
from flowersweep.data.synthetic.dataset import write
from tests.data.extra.pictures import picture

FLOWERS = Path(__file__).parents[4] / "shared" / "data" / "flowers104" / "tfrecords-jpeg-192x192"
Copy = Callable[[Image.Image], Image.Image]


def resized(width: int, height: int) -> Copy:
    return lambda image: image.resize((width, height), Image.Resampling.LANCZOS)


def centre(image: Image.Image) -> Image.Image:
    """Return the square in the centre of an image that is wider than high."""
    edge = (image.width - image.height) / 2
    return image.crop((round(edge), 0, round(edge) + image.height, image.height))


def inner(image: Image.Image) -> tuple[int, int, int, int]:
    """Return the box of an image without a hundredth at each edge."""
    edge = round(image.width / 100)
    return edge, edge, image.width - edge, image.height - edge


COPIES: dict[str, tuple[Copy, int, float]] = {  # what is done, JPEG quality, least recall
    "quality 30": (lambda image: image, 30, 1),
    "quality 10": (lambda image: image, 10, 0.99),
    "quality 5": (lambda image: image, 5, 0.95),
    "32 pixels, quality 40": (resized(32, 32), 40, 0.95),
    "48 pixels": (resized(48, 48), 75, 1),
    "64 pixels": (resized(64, 64), 75, 1),
    "331 pixels": (resized(331, 331), 75, 1),
    "1000 pixels": (resized(1000, 1000), 75, 1),
    "300x500 pixels": (resized(300, 500), 60, 1),
    "without colour": (lambda image: image.convert("L"), 85, 1),
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.3), 85, 0.95),
    "2 % cut off": (lambda image: image.crop(inner(image)), 85, 0.98),
}


POOR = ("quality 5", "32 pixels, quality 40")  # little is left of a drawing on a plain ground


def views(images: Sequence[Image.Image], folder: Path, quality: int = 90) -> Views:
    """Return the tiny versions of images that are stored as JPEGs."""
    folder.mkdir(parents=True)
    files = [str(folder / f"{number:05}.jpg") for number in range(len(images))]
    for image, file in zip(images, files, strict=True):
        image.save(file, quality=quality)
    return read_thumbnails(FileReader(), files, np.arange(len(files)))


def recall(found: np.ndarray, count: int) -> float:
    """Return the share of images that are paired with their own copy."""
    return sum(one == other for one, other in found.tolist()) / count


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    """Drawn flowers and smooth pictures, of 96 pixels."""
    folder = write(
        classes=6, train=8, val=1, test=1, image_size=96, cache=tmp_path_factory.mktemp("drawn")
    )
    return [*stored(Path(folder) / "train"), *(picture(n) for n in range(48))]


def stored(folder: Path) -> list[Image.Image]:
    """Return the images of TFRecords."""
    feature = {"image": tf.io.FixedLenFeature([], tf.string)}
    return [
        Image.open(io.BytesIO(tf.io.parse_single_example(raw, feature)["image"].numpy()))
        for raw in tf.data.TFRecordDataset(sorted(map(str, folder.glob("*.tfrec"))))
    ]


def test_copies_of_drawn_pictures_are_found_and_other_pictures_are_not(
    drawn: list[Image.Image], tmp_path: Path
) -> None:
    own = views(drawn, tmp_path / "own")
    assert len(near(own[:, 0])) == 0
    for number, (name, (copy, quality, _)) in enumerate(COPIES.items()):
        copies = views([copy(image) for image in drawn], tmp_path / str(number), quality)
        found = near_between(copies, own)
        if name not in POOR:
            assert recall(found, len(drawn)) >= 0.9, name
        assert all(one == other for one, other in found.tolist()), name


def test_the_square_in_the_centre_of_a_picture_is_found(tmp_path: Path) -> None:
    wide = [picture(n, (160, 96)) for n in range(24)]
    squares = views([resized(64, 64)(centre(image)) for image in wide], tmp_path / "squares", 75)
    own = views(wide, tmp_path / "own")
    for found in (near_between(own, squares), near_between(squares, own)):
        assert found.tolist() == [[n, n] for n in range(24)]


def test_pairs_are_the_same_however_many_images_are_compared_at_once() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((BLOCK + 300, 2, 16, 16), np.float32)
    images[BLOCK + 7] = images[5] + 0.01 * images[6]
    images[BLOCK + 9] = images[BLOCK + 8] * 0.5
    assert near(images[:, 0]).tolist() == [[5, BLOCK + 7], [BLOCK + 8, BLOCK + 9]]
    assert near_between(images[:50], images[50:]).tolist() == [[5, BLOCK + 7 - 50]]


def test_pictures_of_one_colour_are_like_nothing() -> None:
    plain = np.repeat(np.arange(6, dtype=np.float32), 512).reshape(6, 2, 16, 16)
    assert len(near(plain[:, 0])) == len(near_between(plain, plain)) == 0
    assert len(near_between(plain[:0], plain)) == 0


@pytest.mark.slow
@pytest.mark.skipif(not FLOWERS.is_dir(), reason=f"the real flowers are not at {FLOWERS}")
def test_copies_of_photographs_are_found_and_other_photographs_are_not(tmp_path: Path) -> None:
    photographs = [
        image.convert("RGB") for split in ("val", "test") for image in stored(FLOWERS / split)
    ]
    own = views(photographs, tmp_path / "own")
    twice = {tuple(pair) for pair in near(own[:, 0]).tolist()}
    assert len(twice) < 20, "photographs that are there twice"
    some = np.random.default_rng(0).choice(len(photographs), 400, replace=False)
    for number, (name, (copy, quality, least)) in enumerate(COPIES.items()):
        copies = [copy(photographs[row]) for row in some]
        found = near_between(views(copies, tmp_path / str(number), quality), own)
        found[:, 0] = some[found[:, 0]]
        share = sum(one == other for one, other in found.tolist()) / len(some)
        others = {tuple(sorted(pair)) for pair in found.tolist() if pair[0] != pair[1]}
        print(f"{name}: {share:.4f} found, {len(others - twice)} false of {len(some) * len(own)}")
        assert share >= min(least, 0.99), name
        assert others <= twice, name
