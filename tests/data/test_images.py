"""One decoder for every reader: upright, eight bits and three channels, whatever the file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from flowersweep.data.images import (
    DECODED,
    Known,
    Note,
    decode,
    decode_and_note,
    decode_and_resize,
    describe_notes,
    is_plain,
    traced_decoder,
)
from flowersweep.errors import DataError

GREY = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))  # 16 x 24, darker on the left
PHOTO = Image.fromarray(np.stack([GREY, 255 - GREY, GREY // 2], axis=-1))
EXIF_ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(kind: str, orientation: int) -> bytes:
    exif = PHOTO.getexif()
    exif[EXIF_ORIENTATION] = orientation
    return encoded(PHOTO, kind, exif=exif)


def difference(image: Any, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(image).astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("kind", DECODED)
def test_every_format_is_decoded_alike(kind: str) -> None:
    image = decode(encoded(PHOTO, kind))
    assert image.dtype == tf.uint8
    assert difference(image, np.asarray(PHOTO)) < 8  # a palette of GIF, JPEG's losses


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_an_image_is_turned_upright_by_its_exif_orientation(orientation: int, upright: Any) -> None:
    image, note = decode_and_note(turned("PNG", orientation))
    assert np.array_equal(image, upright(np.asarray(PHOTO)))
    assert note == Note.TURNED
    image, note = decode_and_note(turned("JPEG", orientation))
    assert difference(image, upright(np.asarray(PHOTO))) < 8
    assert note == Note.TURNED


def test_an_orientation_of_no_turn_or_damaged_exif_leaves_the_image_as_it_is() -> None:
    damaged = encoded(PHOTO, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    for data in (turned("JPEG", 1), turned("JPEG", 99), damaged):
        image, note = decode_and_note(data)
        assert image.shape == (16, 24, 3)
        assert note == 0


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    image, note = decode_and_note(encoded(deep, "PNG"))
    assert np.array_equal(image[..., 0], GREY)
    assert note == Note.DEEP


def test_four_printing_colours_become_three() -> None:
    image, note = decode_and_note(encoded(PHOTO.convert("CMYK"), "JPEG", quality=95))
    assert difference(image, np.asarray(PHOTO)) < 8
    assert note == Note.CMYK


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_shows_white(mode: str) -> None:
    ghost = PHOTO.convert(mode)
    ghost.putalpha(0)
    image, note = decode_and_note(encoded(ghost, "PNG"))
    assert np.all(image == 255)
    assert note == Note.TRANSPARENT


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palettes_become_three_channels(mode: str) -> None:
    image, note = decode_and_note(encoded(PHOTO.convert(mode), "PNG"))
    assert np.array_equal(image, np.asarray(PHOTO.convert(mode).convert("RGB")))
    assert note == 0


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    image, note = decode_and_note(data)
    assert np.array_equal(image[0, 0], [255, 0, 0])
    assert note == Note.ANIMATED


def test_a_jpeg_without_extras_is_decoded_by_tensorflow_and_within_a_graph() -> None:
    plain = encoded(PHOTO, "JPEG")
    assert is_plain(plain)
    assert not is_plain(turned("JPEG", 6))
    data = tf.data.Dataset.from_tensor_slices([plain, turned("JPEG", 6), encoded(PHOTO, "PNG")])
    shapes = [image.shape for image in data.map(decode).as_numpy_iterator()]
    assert shapes == [(16, 24, 3), (24, 16, 3), (16, 24, 3)]
    assert np.array_equal(decode(plain), tf.io.decode_jpeg(plain, channels=3))


def test_another_format_or_damage_is_an_error_that_names_the_formats() -> None:
    with pytest.raises(DataError, match="not one of JPEG, PNG, WEBP, BMP, GIF"):
        decode(encoded(PHOTO, "TIFF"))
    with pytest.raises(DataError):
        decode(encoded(PHOTO, "PNG")[:-40])


def test_a_picture_too_large_for_memory_is_refused_by_its_header() -> None:
    data = bytearray(encoded(PHOTO, "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = b"\xff\xdc\xff\xdc"  # 65500 x 65500
    with pytest.raises(DataError, match="pixels"):
        decode(bytes(data))


def test_what_was_changed_is_counted() -> None:
    notes = np.array([0, Note.TURNED, Note.TURNED | Note.CMYK], np.uint8)
    assert list(describe_notes(notes)) == [
        "2 turned upright by their EXIF orientation",
        "1 converted from CMYK",
    ]


@pytest.mark.parametrize("kind", ["plain", "turned"])
def test_an_image_of_the_known_size_is_decoded_without_questions_to_the_same_pixels(
    kind: str,
) -> None:
    content = turned("JPEG", 6) if kind == "turned" else encoded(PHOTO, "JPEG")
    size = (24, 16) if kind == "turned" else (16, 24)
    asked = decode_and_resize(content, size).numpy()
    known = Known(size, plain=kind == "plain")
    decoded = traced_decoder(size, "stretch", known)(tf.constant(content)).numpy()
    np.testing.assert_array_equal(decoded, asked)
    with pytest.raises(tf.errors.InvalidArgumentError):
        traced_decoder((20, 20), "stretch", Known((20, 20)))(tf.constant(content))
