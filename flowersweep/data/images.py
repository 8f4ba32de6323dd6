"""Decode an image file: upright, 8 bits, three channels. Every reader of images decodes here.

A plain JPEG goes to TensorFlow's decoder. Everything else goes to Pillow: JPEGs with EXIF, a colour
profile or four channels, PNG, WebP, BMP and GIF. Which of them decodes depends on the bytes alone.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import ExifTags, Image, UnidentifiedImageError

from flowersweep.errors import DataError

Images = npt.NDArray[np.uint8]
Size = tuple[int, int]  # height, width

# what Pillow calls a format -> how the names of its files end
DECODED = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}
SUFFIXES = tuple(suffix for suffixes in DECODED.values() for suffix in suffixes)
LARGEST = 178_956_970  # pixels; Pillow refuses more as well
_BACKGROUND = "white"  # shows through transparent pixels

_T = Image.Transpose
_UPRIGHT = {
    2: _T.FLIP_LEFT_RIGHT,
    3: _T.ROTATE_180,
    4: _T.FLIP_TOP_BOTTOM,
    5: _T.TRANSPOSE,
    6: _T.ROTATE_270,
    7: _T.TRANSVERSE,
    8: _T.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)  # of these orientations, width and height are exchanged
_SCALES = (1, 2, 4, 8)  # that a JPEG can be decoded at: 1 / n
# An image with damaged EXIF is taken as it is stored; of large ones only those beyond LARGEST are
# refused.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# what Pillow raises when bytes are damaged
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    NotImplementedError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class Note(IntFlag):
    """What decoding changed in an image besides its size; or that it is `is_plain`."""

    TURNED = 1
    CMYK = 2
    DEEP = 4
    TRANSPARENT = 8
    ANIMATED = 16
    PLAIN = 32


_MEANING = {
    Note.TURNED: "turned upright by their EXIF orientation",
    Note.CMYK: "converted from CMYK",
    Note.DEEP: "reduced from 16 to 8 bits",
    Note.TRANSPARENT: f"laid on {_BACKGROUND} where they are transparent",
    Note.ANIMATED: "animated, of which the first frame counts",
}


@dataclass(frozen=True)
class Known:
    """What is known of all images of a split, so that no image has to be asked."""

    size: Size | None = None  # of each; None: they have several
    plain: bool = False  # each is a plain JPEG


NOTHING_KNOWN = Known()


def describe_notes(notes: npt.NDArray[np.uint8]) -> Iterator[str]:
    """Say how many of the images with these notes (n,) were changed, and how."""
    for note, meaning in _MEANING.items():
        if count := int(np.count_nonzero(notes & note)):
            yield f"{count} {meaning}"


def is_plain(data: Any) -> Any:
    """Whether image bytes (scalar string tensor) are a JPEG without any marker that could turn or
    recolour it: JFIF header, then tables; one or three channels.
    """
    header = tf.strings.join([tf.strings.substr(data, 0, 22), b"\0" * 22])  # never too short
    start = tf.strings.substr(header, 0, 4)
    headed = (start == b"\xff\xd8\xff\xe0") & (tf.strings.substr(header, 20, 2) == b"\xff\xdb")

    def shaped() -> Any:
        height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(data, tf.int64))
        return (channels < 4) & (height * width <= LARGEST)

    return tf.cond(headed | (start == b"\xff\xd8\xff\xdb"), shaped, lambda: False)


def decode(data: Any) -> Any:
    """Decode image bytes to a uint8 tensor (height, width, 3)."""
    return decode_and_note(data)[0]


def decode_and_note(data: Any) -> tuple[Any, Any]:
    """Decode image bytes to a uint8 tensor (height, width, 3) and its `Note`, a uint8 scalar."""
    data = tf.convert_to_tensor(data)
    image, note = tf.cond(
        is_plain(data),
        lambda: [tf.io.decode_jpeg(data, channels=3), tf.constant(Note.PLAIN, tf.uint8)],
        lambda: tf.numpy_function(_decode_any, [data], [tf.uint8, tf.uint8], stateful=False),
    )
    return tf.ensure_shape(image, (None, None, 3)), tf.ensure_shape(note, ())


def decode_with_pillow(data: bytes, least: Size | None = None) -> tuple[Images, np.uint8]:
    """Decode image bytes to uint8 (height, width, 3); return it with its `Note`.

    A JPEG is decoded at the smallest scale that leaves ``least``.

    Raises:
        DataError: The bytes are damaged, or of a format that is not in `DECODED`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[*DECODED]) as image:
            return _eight_bits(image, least)
    except UnidentifiedImageError as error:
        raise DataError(f"not one of {', '.join(DECODED)}") from error
    except _DAMAGED as error:
        raise DataError(f"{error}") from error


def decode_facts(data: bytes) -> tuple[int, int, int]:
    """Return height, width (upright) and `Note` of an image that is decoded whole, JPEGs at the
    smallest scale.

    Raises:
        DataError, OpError: The bytes are damaged, or of another format.
    """
    tensor = tf.constant(data)
    if is_plain(tensor):
        height, width = tf.io.extract_jpeg_shape(tensor).numpy()[:2].tolist()
        tf.io.decode_jpeg(tensor, channels=3, ratio=_SCALES[-1])
        return height, width, int(Note.PLAIN)
    try:
        _, _, height, width = read_header(data)
    except DataError:  # what is wrong, the next line says
        height = width = 0
    return height, width, int(decode_with_pillow(data, (1, 1))[1])


def read_header(data: bytes) -> tuple[str, str, int, int]:
    """Return format, mode (of Pillow), height and width (upright) of an image; nothing is decoded.

    Raises:
        DataError: The header is damaged, or of another format.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[*DECODED]) as image:
            width, height = image.size
            if _orientation(image) in _ON_ITS_SIDE:
                height, width = width, height
            return str(image.format), image.mode, height, width
    except _DAMAGED as error:
        raise DataError(f"{error}") from error


def decode_reduced(data: Any, least: Size | None, *, plain: bool = False) -> Any:
    """Decode image bytes, which may be known to be ``plain``, to a uint8 tensor (height, width, 3).

    A JPEG is decoded at 1/8, 1/4 or 1/2 of its size where that leaves ``least`` pixels, which
    saves most of the time that a large photograph takes; None: at its size.
    """
    data = tf.convert_to_tensor(data)

    def decoded() -> Any:
        return tf.io.decode_jpeg(data, channels=3) if least is None else _scaled_jpeg(data, least)

    image = (
        decoded()
        if plain
        else tf.cond(
            is_plain(data),
            decoded,
            lambda: tf.numpy_function(
                partial(_pixels, least=least), [data], tf.uint8, stateful=False
            ),
        )
    )
    return tf.ensure_shape(image, (None, None, 3))


def decode_and_resize(
    data: Any, size: Size, resize: str = "stretch", *, known: Known = NOTHING_KNOWN
) -> Any:
    """Decode image bytes to a uint8 tensor (*size, 3).

    Args:
        data: Bytes of an image file, a scalar string tensor.
        size: Height and width.
        resize: What is done to an image of another shape: ``stretch`` it, ``crop`` its centre, or
            ``pad`` it with black. Resizing is bilinear and antialiased.
        known: What the image is known to be.
    """
    if known.size == size:
        return tf.ensure_shape(decode_reduced(data, None, plain=known.plain), (*size, 3))
    # twice the size: what is seen is then decided by our filter, not by the JPEG's scales
    image = decode_reduced(data, (2 * size[0], 2 * size[1]), plain=known.plain)
    same = tf.reduce_all(tf.shape(image)[:2] == tf.constant(size))
    image = tf.cond(same, lambda: image, lambda: _FIT[resize](image, size))
    return tf.ensure_shape(image, (*size, 3))


@lru_cache(maxsize=16)
def traced_decoder(size: Size, resize: str, known: Known = NOTHING_KNOWN) -> Callable[[Any], Any]:
    """Return `decode_and_resize` for bytes alone, which TensorFlow traces once a process."""
    decode: Callable[[Any], Any] = tf.function(
        # a function with a name would put its place before each message
        lambda data: decode_and_resize(data, size, resize, known=known),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,  # nothing of it is Python's control flow over tensors
    )
    return decode


def compress(image: Images) -> bytes:
    """Return an image, uint8 (height, width, 3), as JPEG bytes."""
    return bytes(tf.io.encode_jpeg(image, quality=90).numpy())


def compress_losslessly(image: Images) -> bytes:
    """Return an image, 0..255 (height, width, 3), as PNG bytes.

    Raises:
        DataError: It has another shape.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"pixels have the shape {image.shape}, and must have (height, width, 3)")
    return bytes(tf.io.encode_png(np.clip(np.rint(image), 0, 255).astype(np.uint8)).numpy())


def _decode_any(data: Any, least: Size | None = None) -> tuple[Images, np.uint8]:
    # TensorFlow passes bytes in a graph, and otherwise an array of one object
    return decode_with_pillow(data if isinstance(data, bytes) else data.item(), least)


def _pixels(data: Any, least: Size | None) -> Images:
    return _decode_any(data, least)[0]


def _scaled_jpeg(data: Any, least: Size) -> Any:
    shape = tf.io.extract_jpeg_shape(data)[:2]
    smaller = tf.reduce_all(shape >= np.outer(_SCALES[1:], least), axis=1)
    decoders = [
        lambda ratio=ratio: tf.io.decode_jpeg(data, channels=3, ratio=ratio) for ratio in _SCALES
    ]
    return tf.switch_case(tf.reduce_sum(tf.cast(smaller, tf.int32)), decoders)


def _stretch(image: Any, size: Size) -> Any:
    return tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8)


def _crop(image: Any, size: Size) -> Any:
    """Resize the largest centre of an image that has the shape of ``size``."""
    shape = tf.shape(image)[:2]
    inside = _fitted(size, shape)
    top, left = tf.unstack((shape - inside) // 2)
    return _stretch(image[top : top + inside[0], left : left + inside[1]], size)


def _pad(image: Any, size: Size) -> Any:
    """Resize a whole image into ``size``; what is left of that on both sides is black."""
    inside = _fitted(tf.shape(image)[:2], size)
    before = (np.array(size) - inside) // 2
    after = np.array(size) - inside - before
    edges = tf.concat([tf.stack([before, after], axis=1), [[0, 0]]], axis=0)
    return tf.pad(_stretch(image, inside), edges)


def _fitted(shape: Any, room: Any) -> Any:
    """Return the largest height and width (int32) in ``room`` with the proportions of ``shape``."""
    shape, room = tf.cast(shape, tf.float64), tf.cast(room, tf.float64)
    scale = tf.reduce_min(room / shape)
    return tf.cast(tf.clip_by_value(tf.round(shape * scale), 1, room), tf.int32)


_FIT = {"stretch": _stretch, "crop": _crop, "pad": _pad}


def _reduce(image: Image.Image, turned: bool, least: Size) -> None:
    """Have Pillow read a JPEG at the smallest scale that leaves ``least``, after it is turned."""
    height, width = reversed(least) if turned else least
    ratio = max(
        (n for n in _SCALES if image.height >= n * height and image.width >= n * width), default=1
    )
    if ratio > 1:
        image.draft(None, (image.width // ratio, image.height // ratio))


def _eight_bits(image: Image.Image, least: Size | None) -> tuple[Images, np.uint8]:
    orientation = _orientation(image)
    turn = _UPRIGHT.get(orientation)
    note = Note.TURNED if turn is not None else Note(0)
    if getattr(image, "is_animated", False):
        note |= Note.ANIMATED
    if least is not None:
        _reduce(image, orientation in _ON_ITS_SIDE, least)
    image.load()
    picture: Image.Image = image
    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow would cut off what exceeds 255
        note |= Note.DEEP
        grey = np.asarray(picture).astype(np.uint32)
        picture = Image.fromarray(((grey + 128) // 257).clip(0, 255).astype(np.uint8))
    elif picture.mode == "CMYK":
        note |= Note.CMYK
    if picture.has_transparency_data:
        note |= Note.TRANSPARENT
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, _BACKGROUND), picture)
    picture = picture.convert("RGB")
    if turn is not None:
        picture = picture.transpose(turn)
    return np.array(picture), np.uint8(note)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none that can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1
    return orientation if isinstance(orientation, int) else 1
