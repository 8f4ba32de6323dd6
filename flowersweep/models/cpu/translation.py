"""A traced JAX program as a network of OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from openvino import opset13 as ops

from flowersweep.models.cpu.operations import (
    ELEMENTWISE,
    OPERATIONS,
    Value,
    constant,
    kind,
    only,
)


def translate(program: ClosedJaxpr) -> openvino.Model:
    """Return a program that JAX traced, constants included, as a network for OpenVINO.

    Raises NotImplementedError if it has an operation that is not translated.
    """
    inputs = [ops.parameter([*v.aval.shape], kind(v.aval.dtype)) for v in program.jaxpr.invars]
    values = [Value(only(node), tuple(only(node).shape)) for node in inputs]
    outputs = _run(program.jaxpr, program.consts, values)
    return openvino.Model([ops.result(value.whole()) for value in outputs], inputs, "network")


def _run(jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    values = dict(zip(jaxpr.constvars, map(_constant, constants), strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: Any) -> Value:
        return _constant(variable.val) if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        outputs = _translated(equation, [read(variable) for variable in equation.invars])
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _translated(equation: JaxprEqn, values: list[Value]) -> list[Value]:
    name = equation.primitive.name
    if name in ("copy", "stop_gradient"):
        return values
    if name in OPERATIONS:
        return [OPERATIONS[name](equation, *values)]
    if name in ELEMENTWISE:
        first = any(value.first for value in values)
        node = ELEMENTWISE[name](equation, *(value.turned(first) for value in values))
        return [Value(only(node), equation.outvars[0].aval.shape, first)]
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    if not isinstance(inner, ClosedJaxpr) or name in ("scan", "while", "cond"):
        raise NotImplementedError(f"JAX's operation {name}")
    return _run(inner.jaxpr, inner.consts, values)


def _constant(array: Any) -> Value:
    array = np.asarray(array)
    kind(array.dtype)
    return Value(constant(array), array.shape)
