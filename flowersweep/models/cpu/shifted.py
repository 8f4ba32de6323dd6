"""Convolutions written as shifted copies of their input, for XLA on a CPU: a depthwise one with its
gradient, and one on few channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Window(NamedTuple):
    """How a kernel moves along one axis, in pixels: `low` and `high` are the padding."""

    size: int
    stride: int
    dilation: int
    low: int
    high: int
    outputs: int

    def starts(self) -> range:
        """Where each tap of the kernel begins to read the padded axis."""
        return range(0, self.size * self.dilation, self.dilation)

    def limit(self, start: int) -> int:
        """Where the tap that begins at `start` stops reading."""
        return start + (self.outputs - 1) * self.stride + 1


def depthwise(
    images: Any, kernel: Any, strides: tuple[int, int], padding: str, dilation: tuple[int, int]
) -> Any:
    """Convolve each channel of `images` (N, H, W, C) with its own kernel (h, w, C); padding "same"
    or "valid", as Keras means them.

    The gradient is written by hand: what JAX derives from the slices pads every one of them back to
    the input's size.
    """
    return _convolve(images, kernel, _windows(images, kernel, strides, padding, dilation))


def patches(
    images: Any, kernel: Any, strides: tuple[int, int], padding: str, dilation: tuple[int, int]
) -> Any:
    """Convolve `images` (N, H, W, C) with `kernel` (h, w, C, F) by laying out each output's pixels
    in a row: one matrix product.

    Worth it for the few channels of an image, where twice the speed was measured; slower than the
    real convolution for more.
    """
    windows = _windows(images, kernel, strides, padding, dilation)
    rows = jnp.concatenate(
        [pixels for _, _, pixels in _taps(_pad(images, windows), windows)], axis=-1
    )
    return jnp.matmul(rows, kernel.reshape(-1, kernel.shape[-1]))


def _windows(
    images: Any, kernel: Any, strides: tuple[int, int], padding: str, dilation: tuple[int, int]
) -> tuple[Window, ...]:
    axes = zip(images.shape[1:3], kernel.shape[:2], strides, dilation, strict=True)
    return tuple(_window(side, size, stride, step, padding) for side, size, stride, step in axes)


def _window(side: int, size: int, stride: int, dilation: int, padding: str) -> Window:
    reach = (size - 1) * dilation + 1
    if padding == "valid":
        return Window(size, stride, dilation, 0, 0, (side - reach) // stride + 1)
    outputs = -(-side // stride)
    total = max((outputs - 1) * stride + reach - side, 0)
    return Window(size, stride, dilation, total // 2, total - total // 2, outputs)


Windows = tuple[Window, ...]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    return _multiply_add(_pad(images, windows), kernel, windows)


def _pad(images: jax.Array, windows: Windows) -> jax.Array:
    rows, columns = windows
    return jnp.pad(images, ((0, 0), (rows.low, rows.high), (columns.low, columns.high), (0, 0)))


def _taps(padded: jax.Array, windows: Windows) -> Iterator[tuple[int, int, jax.Array]]:
    """Yield, for each tap of the kernel, its place and the pixels it meets, (N, outputs, outputs,
    C).
    """
    rows, columns = windows
    batch, _, _, channels = padded.shape
    for i, top in enumerate(rows.starts()):
        for j, left in enumerate(columns.starts()):
            limits = (batch, rows.limit(top), columns.limit(left), channels)
            yield (
                i,
                j,
                lax.slice(padded, (0, top, left, 0), limits, (1, rows.stride, columns.stride, 1)),
            )


def _multiply_add(padded: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    products: Iterator[jax.Array] = (
        pixels * kernel[i, j] for i, j, pixels in _taps(padded, windows)
    )
    return reduce(jnp.add, products)


def _forward(
    images: jax.Array, kernel: jax.Array, windows: Windows
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(images, kernel, windows), (images, kernel)


def _backward(
    windows: Windows, saved: tuple[jax.Array, jax.Array], upstream: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    return _image_gradient(images.shape, kernel, windows, upstream), _kernel_gradient(
        images, windows, upstream
    ).astype(kernel.dtype)


def _image_gradient(
    shape: tuple[int, ...], kernel: jax.Array, windows: Windows, upstream: jax.Array
) -> jax.Array:
    """Spread the upstream gradient by the strides, then convolve it with the kernel turned by 180
    degrees.
    """
    edges = [(0, 0, 0)]
    for window, side in zip(windows, shape[1:3], strict=True):
        reach = (window.size - 1) * window.dilation
        low = reach - window.low
        edges.append((low, side + reach - low - window.limit(0), window.stride - 1))
    spread = lax.pad(upstream, jnp.zeros((), upstream.dtype), [*edges, (0, 0, 0)])
    turned = tuple(
        window._replace(stride=1, outputs=side)
        for window, side in zip(windows, shape[1:3], strict=True)
    )
    return _multiply_add(spread, kernel[::-1, ::-1], turned)


def _kernel_gradient(images: jax.Array, windows: Windows, upstream: jax.Array) -> jax.Array:
    sums = [
        jnp.sum(pixels * upstream, axis=(0, 1, 2))
        for _, _, pixels in _taps(_pad(images, windows), windows)
    ]
    return jnp.stack(sums).reshape(windows[0].size, windows[1].size, -1)


_convolve.defvjp(_forward, _backward)
