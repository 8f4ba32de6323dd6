"""JAX's primitives as operations of OpenVINO, in tables by the primitive's name.

Images stay channels first behind a convolution, and broadcast arrays small, for as long as they
can: OpenVINO would otherwise spend most of its time on copies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import openvino
from openvino import opset13 as ops

ROUNDING = {"TO_NEAREST_EVEN": "half_to_even", "AWAY_FROM_ZERO": "half_away_from_zero"}
LARGEST_PRODUCT = 16  # factors that a power is written as
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # from channels last to channels first, and back

Equation = Any  # jax.extend.core.JaxprEqn
Node = Any  # openvino.Output


class Value(NamedTuple):
    """An array on its way. `node` may have its channels first, and axes of length 1 that are yet
    to be broadcast to `shape`, which is the one that JAX knows.
    """

    node: Node
    shape: tuple[int, ...]
    first: bool = False

    def turned(self, first: bool) -> Node:
        """Return it with its channels first or last, not broadcast."""
        if first == self.first or len(self.node.shape) != 4:
            return self.node
        return transpose(self.node, FIRST if first else LAST)

    def whole(self, first: bool = False) -> Node:
        """Return it with its channels first or last, broadcast to its shape."""
        node, shape = self.turned(first), turn(self.shape, FIRST) if first else self.shape
        return node if tuple(node.shape) == shape else only(ops.broadcast(node, integers(shape)))


def turn(axes: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axes[place] for place in order)


def constant(array: Any) -> Node:
    """Return an array as a node."""
    return only(ops.constant(np.asarray(array)))


def integers(numbers: Any) -> Node:
    """Return whole numbers, such as axes or a shape, as a node."""
    return constant(np.asarray(numbers, np.int64))


def only(node: Any) -> Node:
    """Return the one output of a node, or the first."""
    return node.output(0)


def transpose(node: Node, order: Any) -> Node:
    return node if [*order] == sorted(order) else only(ops.transpose(node, integers(order)))


def reshape(node: Node, shape: Any) -> Node:
    return only(ops.reshape(node, integers(shape), False))


def kind(dtype: Any) -> openvino.Type:
    """Return OpenVINO's name of a type. Raises NotImplementedError if it has none."""
    if dtype.kind not in "fiub":
        raise NotImplementedError(f"arrays of {dtype}")
    return openvino.Type(np.dtype(dtype))


def require(condition: bool, equation: Equation) -> None:
    """Raise NotImplementedError unless this form of an operation can be translated."""
    if not condition:
        raise NotImplementedError(f"{equation.primitive} of this form")


def convolution(equation: Equation, images: Value, kernel: Value) -> Value:
    numbers, layout = equation.params, equation.params["dimension_numbers"]
    require(numbers["batch_group_count"] == 1 and {*numbers["lhs_dilation"]} == {1}, equation)
    usual, groups = layout.lhs_spec == layout.out_spec == FIRST, numbers["feature_group_count"]
    pixels = images.whole(first=True) if usual else transpose(images.whole(), layout.lhs_spec)
    weights = transpose(kernel.whole(), layout.rhs_spec)
    run, low_high = ops.convolution, zip(*numbers["padding"], strict=True)
    if groups > 1:
        filters, *rest = weights.shape
        weights = reshape(weights, (groups, filters // groups, *rest))
        run = ops.group_convolution
    strides, dilations = [*numbers["window_strides"]], [*numbers["rhs_dilation"]]
    node = only(run(pixels, weights, strides, *map(list, low_high), dilations))
    shape = equation.outvars[0].aval.shape
    return Value(node if usual else transpose(node, np.argsort(layout.out_spec)), shape, usual)


def pool(equation: Equation, images: Value) -> Value:
    numbers = equation.params
    window, strides = numbers["window_dimensions"], numbers["window_strides"]
    require(len(window) == 4 and {*numbers["base_dilation"]} == {1}, equation)
    require(window[0] == window[3] == strides[0] == strides[3] == 1, equation)
    size, steps, dilations = (
        [*numbers[name][1:3]] for name in ("window_dimensions", "window_strides", "window_dilation")
    )
    low, high = ([*part[1:3]] for part in zip(*numbers["padding"], strict=True))
    pixels, shape = images.whole(first=True), equation.outvars[0].aval.shape
    if equation.primitive.name == "reduce_window_max":
        return Value(only(ops.max_pool(pixels, steps, dilations, low, high, size)), shape, True)
    require(dilations == [1, 1], equation)
    mean = ops.avg_pool(pixels, steps, low, high, size, exclude_pad=False)
    count = np.float32(size[0] * size[1])
    return Value(only(ops.multiply(mean, constant(count))), shape, True)


def product(equation: Equation, left: Value, right: Value) -> Value:
    """A product of matrices, or of many of them."""
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]

    def free(value: Value, *used: tuple[int, ...]) -> list[int]:
        return [axis for axis in range(len(value.shape)) if not any(axis in axes for axes in used)]

    def laid_out(value: Value, *groups: Any) -> Node:
        *batch, rows, columns = groups
        node = transpose(value.whole(), [*batch[0], *rows, *columns])
        sides = [int(np.prod(turn(value.shape, axes), dtype=int)) for axes in (rows, columns)]
        return reshape(node, [*turn(value.shape, batch[0]), *sides])

    rows = laid_out(left, left_batch, free(left, left_batch, left_sum), left_sum)
    columns = laid_out(right, right_batch, right_sum, free(right, right_batch, right_sum))
    shape = equation.outvars[0].aval.shape
    return Value(reshape(ops.matmul(rows, columns, False, False), shape), shape)


def broadcast(equation: Equation, value: Value) -> Value:
    """Only insert the axes: what needs the whole array asks for it."""
    shape, sides = equation.params["shape"], [1] * len(equation.params["shape"])
    node = value.turned(first=False)
    for place, side in zip(equation.params["broadcast_dimensions"], node.shape, strict=True):
        sides[place] = side
    return Value(reshape(node, sides), shape)


def pad(equation: Equation, value: Value, filling: Value) -> Value:
    config = equation.params["padding_config"]
    require(not any(inside for _, _, inside in config), equation)
    config = turn(config, FIRST) if value.first else config
    low, high, _ = zip(*config, strict=True)
    node = ops.pad(
        value.whole(value.first), integers(low), integers(high), "constant", filling.node
    )
    return Value(only(node), equation.outvars[0].aval.shape, value.first)


def concatenate(equation: Equation, *values: Value) -> Value:
    first, axis = any(value.first for value in values), equation.params["dimension"]
    nodes = [value.whole(first) for value in values]
    axis = FIRST.index(axis) if first else axis
    return Value(only(ops.concat(nodes, axis)), equation.outvars[0].aval.shape, first)


def reduction(shrink: Callable[..., Any]) -> Callable[..., Value]:
    def run(equation: Equation, value: Value) -> Value:
        axes = equation.params["axes"]
        first = value.first and (3 in axes or {1, 2} <= {*axes})  # what is left keeps its order
        own = [FIRST.index(axis) for axis in axes] if first else axes
        node = shrink(value.whole(first), integers(own), False)
        return Value(only(node), equation.outvars[0].aval.shape)

    return run


def plainly(run: Callable[..., Any]) -> Callable[..., Value]:
    """Make an operation of one that takes whole arrays as JAX has them."""

    def operation(equation: Equation, *values: Value) -> Value:
        node = run(equation, *(value.whole() for value in values))
        return Value(getattr(node, "output", lambda _: node)(0), equation.outvars[0].aval.shape)

    return operation


def sliced(equation: Equation, node: Node) -> Any:
    begin, end = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or [1] * len(begin)
    return ops.slice(node, integers(begin), integers(end), integers(steps))


def reverse(equation: Equation, node: Node) -> Any:
    for axis in equation.params["dimensions"]:
        back, end = integers([-1]), integers([np.iinfo(np.int64).min])
        node = only(ops.slice(node, back, end, back, integers([axis])))
    return node


def iota(equation: Equation) -> Any:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    numbers = np.arange(shape[axis], dtype=equation.params["dtype"])
    return constant(np.broadcast_to(np.expand_dims(numbers, [*range(1, len(shape) - axis)]), shape))


def _reshaped(equation: Equation, node: Node) -> Any:
    return reshape(node, equation.outvars[0].aval.shape)


def _power(node: Node, exponent: int) -> Any:
    if exponent < 0:
        return ops.divide(constant(np.float32(1)), _power(node, -exponent))
    # not `power`: of a negative number it is none
    return reduce(ops.multiply, [node] * exponent, constant(np.float32(1)))


def _power_of(_: Equation, node: Node, exponent: Node) -> Any:
    known = exponent.get_node()
    if known.get_type_name() == "Constant" and known.data.size == 1:
        number = float(known.data.item())
        if number.is_integer() and abs(number) <= LARGEST_PRODUCT:
            return _power(node, int(number))
    if exponent.get_element_type() != node.get_element_type():
        raise NotImplementedError("a power whose exponent is an integer array")
    return ops.power(node, exponent)


OPERATIONS: dict[str, Callable[..., Value]] = {
    "broadcast_in_dim": broadcast,
    "concatenate": concatenate,
    "conv_general_dilated": convolution,
    "dot_general": product,
    "expand_dims": plainly(_reshaped),
    "iota": plainly(iota),
    "pad": pad,
    "reduce_max": reduction(ops.reduce_max),
    "reduce_min": reduction(ops.reduce_min),
    "reduce_sum": reduction(ops.reduce_sum),
    "reduce_window_max": pool,
    "reduce_window_sum": pool,
    "reshape": plainly(_reshaped),
    "rev": plainly(reverse),
    "slice": plainly(sliced),
    "squeeze": plainly(_reshaped),
    "transpose": plainly(lambda equation, node: transpose(node, equation.params["permutation"])),
}


def _of_nodes(run: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *nodes: run(*nodes)


# of numbers one by one, whose layout does not matter: of the equation and the nodes
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "clamp": lambda _, low, x, high: ops.minimum(ops.maximum(x, low), high),
    "convert_element_type": lambda e, x: ops.convert(x, kind(e.params["new_dtype"])),
    "erfc": lambda _, x: ops.subtract(constant(np.float32(1)), ops.erf(x)),
    "expm1": lambda _, x: ops.subtract(ops.exp(x), constant(np.float32(1))),
    "integer_pow": lambda e, x: _power(x, e.params["y"]),
    "pow": _power_of,
    "log1p": lambda _, x: ops.log(ops.add(constant(np.float32(1)), x)),
    "round": lambda e, x: ops.round(x, ROUNDING[e.params["rounding_method"].name]),
    "rsqrt": lambda _, x: ops.divide(constant(np.float32(1)), ops.sqrt(x)),
    "select_n": lambda _, condition, no, yes: ops.select(condition, yes, no),
    "square": lambda _, x: ops.multiply(x, x),
}
ELEMENTWISE |= {
    primitive: _of_nodes(run)
    for primitive, run in {
        "abs": ops.abs,
        "add": ops.add,
        "and": ops.logical_and,
        "ceil": ops.ceiling,
        "div": ops.divide,
        "eq": ops.equal,
        "erf": ops.erf,
        "exp": ops.exp,
        "floor": ops.floor,
        "ge": ops.greater_equal,
        "gt": ops.greater,
        "is_finite": ops.is_finite,
        "le": ops.less_equal,
        "log": ops.log,
        "logistic": ops.sigmoid,
        "lt": ops.less,
        "max": ops.maximum,
        "min": ops.minimum,
        "mul": ops.multiply,
        "ne": ops.not_equal,
        "neg": ops.negative,
        "not": ops.logical_not,
        "or": ops.logical_or,
        "sign": ops.sign,
        "sqrt": ops.sqrt,
        "sub": ops.subtract,
        "tanh": ops.tanh,
    }.items()
}
