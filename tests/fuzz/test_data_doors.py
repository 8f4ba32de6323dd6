"""Whatever bytes come in as records, images or class names: they are read, or refused in words."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from flowersweep.data.classes import read_classes
from flowersweep.data.images import DECODED, decode_with_pillow
from flowersweep.data.records import checksums_digest, encode, write_split
from flowersweep.data.verify import read_records
from flowersweep.errors import DataError
from tests.data.tiny_records import jpeg

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr")
RECORDS = [encode(jpeg(50 * label), f"{label}", label) for label in range(3)]


def pictures() -> list[bytes]:
    """Return an image of each format and mode that can be written."""
    written = []
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8))
    for kind in DECODED:
        for mode in MODES:
            image = noise.convert("L") if mode == "I;16" else noise
            exif = image.getexif()
            exif[0x0112] = 6
            file = io.BytesIO()
            try:
                image.convert(mode).save(file, kind, exif=exif)
            except (OSError, ValueError):  # a mode that the format lacks
                continue
            written.append(file.getvalue())
    return written


PICTURES = pictures()
DAMAGE = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5)


def damaged(content: bytes, changes: list[tuple[int, int]], kept: float) -> bytes:
    """Change some bytes and cut off the end."""
    data = bytearray(content)
    for place, value in changes:
        data[place % len(data)] = value
    return bytes(data[: round(len(data) * kept)])


KEPT = st.one_of(st.just(1.0), st.floats(0, 1))


@settings(max_examples=100)
@given(st.sampled_from(PICTURES), DAMAGE, KEPT)
def test_a_damaged_image_is_decoded_or_refused(
    picture: bytes, changes: list[tuple[int, int]], kept: float
) -> None:
    try:
        image, _ = decode_with_pillow(damaged(picture, changes, kept))
    except DataError:
        return
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1), KEPT)
def test_a_damaged_file_of_records_is_read_or_refused(
    changes: list[tuple[int, int]], kept: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(write_split(folder, RECORDS, (8, 8))[0])
        path.write_bytes(damaged(path.read_bytes(), changes, kept))
        assert checksums_digest(str(path)) == checksums_digest(str(path))
        labels = [0, 1, 2]
        with contextlib.suppress(DataError):
            labels = read_records([str(path)]).labels.tolist()
        assert labels == [0, 1, 2]


@settings(max_examples=100)
@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
@example("\ufeffrose\r\ntulip\r\n".encode())
@example(b"rose\x0c\ntulip")
def test_a_file_of_class_names_is_read_line_by_line_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classes.txt"
        path.write_bytes(content)
        try:
            names = read_classes(None, folder)
        except DataError:
            return
    assert names
    lines = content.decode("utf-8-sig").rstrip().replace("\r\n", "\n").replace("\r", "\n")
    assert len(names) == len(set(names)) == lines.count("\n") + 1
