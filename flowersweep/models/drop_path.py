"""Stochastic depth with a traced rate (Huang et al. 2016): a training image skips some blocks of a
transformer. The random numbers are the step's, so that nothing of it is state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import keras

BLOCKS = {  # classes of keras-hub whose output is their input with something added
    *("ViTEncoderBlock", "DeiTEncoderBlock", "DINOV2Layer", "DINOV3Layer", "SwinTransformerBlock"),
    *("SigLIPEncoderLayer", "CLIPEncoderLayer", "MetaCLIP2EncoderLayer"),
}
# the key of the random numbers and the rate of the last block, while a step is traced
_dropping: ContextVar[tuple[Any, Any] | None] = ContextVar("dropping", default=None)


@contextmanager
def drop_path(key: Any, rate: Any) -> Iterator[None]:
    """Within it, networks skip blocks: the last one for a share ``rate`` of the images, those
    before it for fewer, in proportion to their depth.
    """
    token = _dropping.set((key, rate))
    try:
        yield
    finally:
        _dropping.reset(token)


def blocks(model: keras.Model) -> list[keras.Layer]:
    """Return the blocks that can be skipped, from the images on."""
    return [layer for layer in model._flatten_layers() if type(layer).__name__ in BLOCKS]


def prepare_blocks(model: keras.Model) -> None:
    """Let the blocks of a model skip images where `drop_path` says so. What is saved of the model
    does not change.
    """
    skippable = blocks(model)
    for number, block in enumerate(skippable, start=1):
        block.call = _skipping(block.call, number, number / len(skippable))


def _skipping(call: Callable[..., Any], number: int, share: float) -> Callable[..., Any]:
    def skipping(inputs: Any, *args: Any, **options: Any) -> Any:
        outputs = call(inputs, *args, **options)
        if (drawn := _dropping.get()) is None:
            return outputs
        key, rate = drawn
        tokens, *rest = outputs if isinstance(outputs, tuple) else (outputs,)
        tokens = _skipped(jax.random.fold_in(key, number), rate * share, inputs, tokens)
        return (tokens, *rest) if isinstance(outputs, tuple) else tokens

    return skipping


def _skipped(key: Any, rate: Any, inputs: Any, outputs: Any) -> Any:
    """Return outputs (n, ...), for a share of the images the inputs instead; what a block adds
    grows for the others, so that the mean stays. With a rate of 0 they are the outputs, to the bit.
    """
    shape = (inputs.shape[0], *[1] * (inputs.ndim - 1))
    scale = jax.random.bernoulli(key, 1.0 - rate, shape) / (1.0 - rate)
    changed = inputs + (outputs - inputs) * scale.astype(outputs.dtype)
    return jnp.where(rate > 0.0, changed, outputs)
