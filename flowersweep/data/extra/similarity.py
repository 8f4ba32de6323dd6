"""Tell whether two images are nearly the same, by a tiny version of each in brightness.

Duplicates may differ in bytes, quality, size, colours and contrast, and one may be the centre of
the other; mirrored, rotated or otherwise cropped copies are not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.data.images import decode_reduced
from flowersweep.data.readers import Reader, Rows

# Duplicates have a correlation above one of these, and at most that share of edges that go the
# other way. docs/design.md, ADR 30, has the figures: edges alone are chance in poor copies, and
# correlation alone takes horizons for one another.
RULES = ((0.9, 0.08), (0.97, 0.19))
EDGE = 2  # grey levels between two cells, below which it is chance which one is brighter
FEWEST = 32  # edges; all differences count where there are fewer
SIDE = 16  # pixels of the tiny version
BLOCK = 2048  # images of each side that are compared at once
VERSION = 1  # increase it when other images are alike

Tiny = npt.NDArray[np.float32]  # (n, SIDE, SIDE), brightness
Views = npt.NDArray[np.float32]  # (n, 2, SIDE, SIDE): the image, and the square in its centre


def read_thumbnails(reader: Reader, files: Sequence[str], rows: Rows) -> Views:
    """Return two views of images as brightness (n, 2, 16, 16), in file order.

    A JPEG is decoded at the smallest scale that suffices.
    """

    def decoded(data: Any) -> Any:
        # a JPEG that is decoded at 1/8 may end in a part of a pixel, which moves all others
        image = decode_reduced(data, (8 * SIDE, 8 * SIDE))
        shape = tf.shape(image)[:2]
        side = tf.reduce_min(shape)
        top, left = tf.unstack((shape - side) // 2)
        centre = image[top : top + side, left : left + side]
        tiny = [tf.image.resize(view, (SIDE, SIDE), "area") for view in (image, centre)]
        return tf.tensordot(tf.stack(tiny), tf.constant([0.299, 0.587, 0.114]), 1)

    images = reader.images(files, rows, decoded).batch(1024)
    return np.concatenate([np.empty((0, 2, SIDE, SIDE), np.float32), *images.as_numpy_iterator()])


def near(images: Tiny) -> Rows:
    """Return the pairs (m, 2) of images that are nearly the same, the smaller index first."""
    return _sorted(_close_pairs(images, images, within=True))


def near_between(ones: Views, others: Views) -> Rows:
    """Return the pairs (m, 2) of an image of ``ones`` and one of ``others`` that are nearly the
    same, or of which one is nearly the centre of the other.
    """
    pairs = []
    for view, other_view in ((0, 0), (1, 0), (0, 1)):
        rows, other_rows = (_rows_of(ones, view), _rows_of(others, other_view))
        close = _close_pairs(ones[rows, view], others[other_rows, other_view])
        pairs += [np.stack([rows[p[:, 0]], other_rows[p[:, 1]]], axis=1) for p in close]
    return np.unique(_sorted(pairs), axis=0)


def _rows_of(images: Views, view: int) -> Rows:
    """Return which images have something of their own to show in a view."""
    if view == 0:
        return np.arange(len(images))
    return np.flatnonzero(np.abs(images[:, 1] - images[:, 0]).max(axis=(1, 2), initial=0) > 1)


def _sorted(pairs: Iterable[Rows]) -> Rows:
    both = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    return both[np.lexsort((both[:, 1], both[:, 0]))]


def _close_pairs(ones: Tiny, others: Tiny, *, within: bool = False) -> Iterator[Rows]:
    """Yield pairs block by block, so that memory does not grow with the number of images.

    ``within``: both are the same images, and each pair is yielded once.
    """
    sides = [(_units(images), _steps(images)) for images in (ones, others)]
    for start in range(0, len(ones), BLOCK):
        for other_start in range(start if within else 0, len(others), BLOCK):
            (unit, steps), (other_unit, other_steps) = (
                (units[first : first + BLOCK], every[first : first + BLOCK])
                for first, (units, every) in zip((start, other_start), sides, strict=True)
            )
            alike = unit @ other_unit.T
            one, other = np.nonzero(alike > min(RULES)[0])
            turned = _turned(steps[one], other_steps[other])
            chosen = np.any(
                [(alike[one, other] > least) & (turned <= most) for least, most in RULES], axis=0
            )
            pair = np.stack([one[chosen] + start, other[chosen] + other_start], axis=1)
            yield pair[pair[:, 0] < pair[:, 1]] if within else pair


def _steps(images: Tiny) -> Tiny:
    """Return how brightness changes between cells, (n, 128): 64 steps across, 64 down."""
    eight, nine = _cells(8), _cells(9)
    across = np.diff(np.einsum("ij,njk,lk->nil", eight, images, nine), axis=2)
    down = np.diff(np.einsum("ij,njk,lk->nil", nine, images, eight), axis=1)
    return np.concatenate([across.reshape(-1, 64), down.reshape(-1, 64)], axis=1)


def _turned(ones: Tiny, others: Tiny) -> npt.NDArray[np.floating]:
    """Return the share of edges that go one way in the first image and the other in the second."""
    edges = np.maximum(np.abs(ones), np.abs(others)) > EDGE
    edges |= edges.sum(axis=1, keepdims=True) < FEWEST
    turned = ((ones > 0) != (others > 0)) & edges
    return np.asarray(turned.sum(axis=1) / edges.sum(axis=1))


def _units(images: Tiny) -> npt.NDArray[np.float32]:
    """Return images (n, 256) with mean 0 and length 1, whose products are correlations."""
    flat = images.reshape(len(images), SIDE * SIDE)
    centred = flat - flat.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    units: Tiny = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    return units


def _cells(count: int) -> npt.NDArray[np.float32]:
    """Return the weights (count, 16) that average 16 pixels into ``count`` equal cells."""
    ends = np.linspace(0, SIDE, count + 1)
    pixels = np.arange(SIDE)
    overlap = np.minimum(ends[1:, np.newaxis], pixels + 1) - np.maximum(
        ends[:-1, np.newaxis], pixels
    )
    weights = np.maximum(overlap, 0)
    shares: npt.NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(
        np.float32
    )
    return shares
