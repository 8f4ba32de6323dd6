"""Train a network without keeping the maps of all of its layers: it is cut into pieces, and the
backward pass computes each piece anew from the map that enters it (Chen et al. 2016, "Training deep
nets with sublinear memory cost").
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import keras
from jax import Array

# (trainable, non-trainable, inputs, training=) -> outputs, new non-trainable: as Keras'
# `stateless_call`
Call = Callable[..., tuple[Array, list[Array]]]


class Piece(NamedTuple):
    """A part of a network between two tensors, and where its variables are among the network's."""

    model: keras.Model
    trainable: list[int]
    non_trainable: list[int]
    whole: bool  # computed anew as a whole; else its layers see to it themselves


def rematerialised(network: keras.Model) -> Call:
    """Return the network's `stateless_call`, which keeps the maps between its pieces alone."""
    pieces = [_piece(network, model) for model in _pieces(network)]

    def call(
        trainable: Sequence[Array], non_trainable: Sequence[Array], inputs: Array, *, training: bool
    ) -> tuple[Array, list[Array]]:
        changed = list(non_trainable)
        for piece in pieces:

            def run(*arguments: Any, piece: Piece = piece) -> tuple[Array, list[Array]]:
                result: tuple[Array, list[Array]] = piece.model.stateless_call(
                    *arguments, training=training
                )
                return result

            own = [trainable[n] for n in piece.trainable], [changed[n] for n in piece.non_trainable]
            inputs, new = (jax.checkpoint(run) if piece.whole else run)(*own, inputs)
            for place, value in zip(piece.non_trainable, new, strict=True):
                changed[place] = value
        return inputs, changed

    return call


def _piece(network: keras.Model, model: keras.Model) -> Piece:
    blocks = [block for layer in model.layers for block in _blocks(layer)]
    for block in blocks:
        block.call = _anew(block.call)
    return Piece(
        model,
        _places(model.trainable_variables, network.trainable_variables),
        _places(model.non_trainable_variables, network.non_trainable_variables),
        not blocks,
    )


def _anew(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a layer's `call` whose inner values are computed anew backwards.

    Keras' own `RematScope` would trace the argument ``training`` too, which layers branch on.
    """
    if hasattr(call, "plain"):
        return call

    @functools.wraps(call)
    def checkpointed(inputs: Any, *others: Any, **options: Any) -> Any:
        return jax.checkpoint(lambda inputs: call(inputs, *others, **options))(inputs)

    checkpointed.plain = call  # type: ignore[attr-defined]
    return checkpointed


def _blocks(layer: keras.Layer) -> list[keras.Layer]:
    """Return the blocks of a layer that is a stack of them, as a transformer's encoder is."""
    if _is_graph(layer):
        return []
    return [
        block
        for block in layer._flatten_layers(include_self=False, recursive=False)
        if any(block._flatten_layers(include_self=False))
    ]


def _is_graph(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and hasattr(layer, "_nodes_by_depth")


def _places(variables: Sequence[Any], among: Sequence[Any]) -> list[int]:
    numbers = {id(variable): number for number, variable in enumerate(among)}
    return [numbers[id(variable)] for variable in variables]


class Cut(NamedTuple):
    """A place where a single tensor passes."""

    tensor: Any
    values: int  # that are computed for an image since the cut before
    network: keras.Model | None  # which is all that lies between the two


def _pieces(model: keras.Model) -> Iterator[keras.Model]:
    """Yield models that one after the other compute what the model does.

    They are about as many as the root of the cuts: what enters each piece is kept, and one piece at
    a time is computed anew.
    """
    cuts = [*_cuts(model)]
    wanted = sum(cut.values for cut in cuts) / max(1, math.isqrt(len(cuts)))
    start, values = model.inputs[0], 0
    for cut, after in zip(cuts, [*cuts[1:], None], strict=True):
        values += cut.values
        if cut.network is not None:
            yield from _pieces(cut.network)
        elif cut.tensor is not start and (values >= wanted or after is None or after.network):
            yield keras.Model(start, cut.tensor)
        else:
            continue
        start, values = cut.tensor, 0


def _cuts(model: keras.Model) -> Iterator[Cut]:
    depths = sorted(model._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in model._nodes_by_depth[depth]]
    last_use = {id(tensor): n for n, node in enumerate(nodes) for tensor in node.input_tensors}
    last_use[id(model.outputs[0])] = len(nodes)
    alive: list[Any] = []
    between: list[Any] = []
    for n, node in enumerate(nodes):
        alive = [t for t in (*alive, *node.outputs) if last_use.get(id(t), -1) > n]
        between.append(node)
        if len(alive) > 1:
            continue
        values = sum(math.prod(t.shape[1:]) for node in between for t in node.outputs)
        alone = len(between) == 1 and _is_graph(node.operation)
        yield Cut(alive[0], values, node.operation if alone else None)
        between = []
