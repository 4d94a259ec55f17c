"""An account's sums of one underlying, held in registers: profits under 28 scenarios, and three terms of its size.

A table row is cut into blocks of 32 doubles. Lanes 0 to 27 are a long lot's profits under 28 scenarios; then, in the
first block, what a long lot and a short lot need beside them, a lot's notional, and a lane that is not summed. One load
of a row so brings everything that a position adds, and a whole sum stays in registers: with sums in memory, and loops
over them, the same work takes six times as long.

1. ``add_position`` adds ``lots × profit`` to a scenario, and to the terms what their side asks for: long lots, short
   lots, |lots|. Every lane is a sequence of fused multiply-adds in the order of the calls.
2. Lanes never meet but in ``worst``, which is a minimum and exact: bits do not depend on the width of a register.
   LLVM makes pairs of 256-bit registers of the vectors below where there are none of 512.
3. Numbers are finite. A minimum may drop a NaN: who fills a table sees to it that a term says so.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

Float64Array = npt.NDArray[np.float64]

LANES: Final = 32
SCENARIOS: Final = 28
# Lanes of the first block, and indices of ``term``.
LONG: Final = 28
SHORT: Final = 29
NOTIONAL: Final = 30
# Not summed: what of LONG and SHORT is for confidence, for whoever takes a number apart.
CHARGE: Final = 31

_WIDTH: Final = 8
_PARTS: Final = LANES // _WIDTH
_DOUBLE: Final = ir.DoubleType()
_INDEX: Final = ir.IntType(32)
_VECTOR: Final = ir.VectorType(_DOUBLE, _WIDTH)
_SUMS: Final = ir.ArrayType(_VECTOR, _PARTS)
# The greater of size × the one and size × the other: lots, for the terms long lots, short lots and |lots|.
_UPWARD: Final = (1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 0.0)
_DOWNWARD: Final = (1.0, 1.0, 1.0, 1.0, 0.0, 0.0, -1.0, 0.0)


class _SumsType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="ScenarioSums")


@register_model(_SumsType)
class _SumsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _SUMS)  # type: ignore[no-untyped-call] # numba is not typed


_sums_type: Final[Any] = cast(Callable[[], Any], _SumsType)()


def _constant(values: Any) -> Any:
    return ir.Constant(_VECTOR, list(values))


def _everywhere(builder: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(_INDEX, 0))
    lanes = ir.Constant(ir.VectorType(_INDEX, _WIDTH), [0] * _WIDTH)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), lanes)


def _lesser(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", left, right), left, right)


def _greater(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    fma = cast(Any, cgutils).get_or_insert_function(builder.module, kind, f"llvm.fma.v{_WIDTH}f64")
    return builder.call(fma, [a, b, c])


def _without_terms(builder: Any, last: Any) -> Any:
    """Return the last vector of a block with zeros in place of the terms."""
    scenarios = ir.Constant(ir.VectorType(_INDEX, _WIDTH), [0, 1, 2, 3, 8, 8, 8, 8])
    return builder.shuffle_vector(last, _constant([0.0] * _WIDTH), scenarios)


def _parts(builder: Any, sums: Any) -> list[Any]:
    return [builder.extract_value(sums, part) for part in range(_PARTS)]


def _joined(builder: Any, parts: list[Any]) -> Any:
    sums = ir.Constant(_SUMS, ir.Undefined)
    for place, part in enumerate(parts):
        sums = builder.insert_value(sums, part, place)
    return sums


def _places(context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> list[Any]:
    """Return pointers to the four vectors of a block that begins at an element of an array."""
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.bitcast(builder.gep(data, [start]), _VECTOR.as_pointer())
    return [builder.gep(first, [ir.Constant(_INDEX, part)]) for part in range(_PARTS)]


def _loaded(builder: Any, places: list[Any], *, align: int) -> list[Any]:
    loaded = [builder.load(place) for place in places]
    for it in loaded:
        it.align = align
    return loaded


def _emit_no_sums(typing_context: Any) -> Any:  # noqa: ARG001 - the signature that numba calls
    def codegen(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.Constant(_SUMS, [_constant([0.0] * _WIDTH)] * _PARTS)

    return _sums_type(), codegen


def _emit_add_position(typing_context: Any, size: Any, table: Any, start: Any, sums: Any) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size, table, start, sums = arguments
        row = _loaded(builder, _places(context, builder, signature.args[1], table, start), align=64)
        lots = _everywhere(builder, size)
        last = _greater(
            builder,
            builder.fmul(lots, _constant(_UPWARD)),
            builder.fmul(lots, _constant(_DOWNWARD)),
        )
        factors = [lots] * (_PARTS - 1) + [last]
        parts = zip(factors, row, _parts(builder, sums), strict=True)
        return _joined(builder, [_multiply_add(builder, *part) for part in parts])

    return _sums_type(types.float64, table, types.uint64, _sums_type), codegen


def _emit_add_row(typing_context: Any, size: Any, table: Any, start: Any, sums: Any) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size, table, start, sums = arguments
        row = _loaded(builder, _places(context, builder, signature.args[1], table, start), align=64)
        lots = _everywhere(builder, size)
        parts = zip(row, _parts(builder, sums), strict=True)
        return _joined(builder, [_multiply_add(builder, lots, *part) for part in parts])

    return _sums_type(types.float64, table, types.uint64, _sums_type), codegen


def _emit_add_fills(typing_context: Any, buys: Any, sells: Any, table: Any, start: Any, sums: Any) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        buys, sells, table, start, sums = arguments
        row = _loaded(builder, _places(context, builder, signature.args[2], table, start), align=64)
        bought, sold = _everywhere(builder, buys), _everywhere(builder, builder.fneg(sells))
        nothing = _constant([0.0] * _WIDTH)
        losses = [
            _lesser(builder, _lesser(builder, builder.fmul(bought, it), builder.fmul(sold, it)), nothing) for it in row
        ]
        losses[-1] = _without_terms(builder, losses[-1])
        pairs = zip(_parts(builder, sums), losses, strict=True)
        return _joined(builder, [builder.fadd(*pair) for pair in pairs])

    return _sums_type(types.float64, types.float64, table, types.uint64, _sums_type), codegen


def _emit_combined(
    typing_context: Any,  # noqa: ARG001
    sums: Any,  # noqa: ARG001
    shares: Any,
    start: Any,  # noqa: ARG001
    scaled: Any,  # noqa: ARG001
    straight: Any,  # noqa: ARG001
    mark: Any,  # noqa: ARG001
    other: Any,  # noqa: ARG001
    aside: Any,  # noqa: ARG001
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, shares, start, *scalars = arguments
        scaled, straight, mark, other, aside = (_everywhere(builder, it) for it in scalars)
        weights = _loaded(builder, _places(context, builder, signature.args[1], shares, start), align=64)
        size = context.make_array(signature.args[1])(context, builder, shares).nitems
        beyond = builder.add(start, builder.udiv(size, ir.Constant(size.type, 2)))
        counting = _loaded(builder, _places(context, builder, signature.args[1], shares, beyond), align=64)
        out = []
        for part, weight, counts in zip(_parts(builder, sums), weights, counting, strict=True):
            share = builder.fsub(straight, builder.fmul(scaled, weight))
            side = builder.select(builder.fcmp_ordered(">=", share, _constant([0.0] * _WIDTH)), mark, other)
            rest = builder.fadd(builder.fmul(share, side), aside)
            out.append(_multiply_add(builder, builder.fmul(scaled, counts), part, rest))
        return _joined(builder, out)

    kind = types.float64
    return _sums_type(_sums_type, shares, types.uint64, kind, kind, kind, kind, kind), codegen


def _emit_pairwise(choose: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    def emit(typing_context: Any, left: Any, right: Any) -> Any:  # noqa: ARG001
        def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pairs = zip(*(_parts(builder, it) for it in arguments), strict=True)
            return _joined(builder, [choose(builder, *pair) for pair in pairs])

        return _sums_type(_sums_type, _sums_type), codegen

    return emit


def _emit_least(typing_context: Any, sums: Any) -> Any:  # noqa: ARG001
    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _least_of(builder, _parts(builder, arguments[0]))

    return types.float64(_sums_type), codegen


def _least_of(builder: Any, parts: list[Any]) -> Any:
    """Return the least of all lanes."""
    while len(parts) > 1:
        parts = [_lesser(builder, *parts[place : place + 2]) for place in range(0, len(parts), 2)]
    least, width = parts[0], _WIDTH
    while width > 1:
        width //= 2
        unused = ir.Constant(least.type, ir.Undefined)
        halves = [
            builder.shuffle_vector(
                least, unused, ir.Constant(ir.VectorType(_INDEX, width), list(range(first, first + width)))
            )
            for first in (0, width)
        ]
        least = _lesser(builder, *halves)
    return builder.extract_element(least, ir.Constant(_INDEX, 0))


def _emit_worst(typing_context: Any, sums: Any) -> Any:  # noqa: ARG001
    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        parts = _parts(builder, arguments[0])
        # Zeros are what nothing happening brings.
        parts[-1] = _without_terms(builder, parts[-1])
        return _least_of(builder, parts)

    return types.float64(_sums_type), codegen


def _emit_term(typing_context: Any, sums: Any, lane: Any) -> Any:  # noqa: ARG001
    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums, lane = arguments
        place = builder.sub(builder.trunc(lane, _INDEX), ir.Constant(_INDEX, LANES - _WIDTH))
        return builder.extract_element(builder.extract_value(sums, _PARTS - 1), place)

    return types.float64(_sums_type, types.int64), codegen


def _emit_put(typing_context: Any, sums: Any, memory: Any, start: Any) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, memory, start = arguments
        for place, part in zip(
            _places(context, builder, signature.args[1], memory, start), _parts(builder, sums), strict=True
        ):
            builder.store(part, place).align = 8
        return context.get_dummy_value()

    return types.void(_sums_type, memory, types.uint64), codegen


def _emit_kept(typing_context: Any, memory: Any, start: Any) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places(context, builder, signature.args[0], *arguments)
        return _joined(builder, _loaded(builder, places, align=8))

    return _sums_type(memory, types.uint64), codegen


def _emit_plus(typing_context: Any, sums: Any, memory: Any, start: Any) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, memory, start = arguments
        kept = _loaded(builder, _places(context, builder, signature.args[1], memory, start), align=8)
        pairs = zip(kept, _parts(builder, sums), strict=True)
        return _joined(builder, [builder.fadd(*pair) for pair in pairs])

    return _sums_type(_sums_type, memory, types.uint64), codegen


# All of these are for compiled code alone. ``start`` is a place in a flat array, as uint64.

# Sums of nothing.
no_sums: Callable[[], Any] = cast(Any, intrinsic(_emit_no_sums))
# (lots, table, start, sums): the sums with a position added; a block of the table begins at ``start``, at 64 bytes.
add_position: Callable[[float, Float64Array, Any, Any], Any] = cast(Any, intrinsic(_emit_add_position))
# (size, table, start, sums): the sums with size × a block of a table added, every lane alike; at 64 bytes.
add_row: Callable[[float, Float64Array, Any, Any], Any] = cast(Any, intrinsic(_emit_add_row))
# (buys, sells, table, start, sums): the sums with what open orders lose in each scenario at the worst of no fill, all
# buys and all sells; terms stay.
add_fills: Callable[[float, float, Float64Array, Any, Any], Any] = cast(Any, intrinsic(_emit_add_fills))
# (sums): the least of the scenarios and of 0.
worst: Callable[[Any], float] = cast(Any, intrinsic(_emit_worst))
# (sums, LONG | SHORT | NOTIONAL): a term.
term: Callable[[Any, int], float] = cast(Any, intrinsic(_emit_term))
# (sums, memory, start): write the sums into memory.
put: Callable[[Any, Float64Array, Any], None] = cast(Any, intrinsic(_emit_put))
# (memory, start): the sums that were put there.
kept: Callable[[Float64Array, Any], Any] = cast(Any, intrinsic(_emit_kept))
# (sums, memory, start): the sums with those of memory added.
plus: Callable[[Any, Float64Array, Any], Any] = cast(Any, intrinsic(_emit_plus))
# For bounds, whose rows say of every lane what is wanted:
# (sums, shares, start, scaled, straight, mark, other, aside): by lane, ``scaled × counts × sum + share × side +
# aside``, share being ``straight - scaled × weight`` and side ``mark`` where share >= 0, else ``other``. ``shares``
# has all weights, then, as many places later, 1 in lanes that count and 0 in others.
combined: Callable[[Any, Float64Array, Any, float, float, float, float, float], Any] = cast(
    Any, intrinsic(_emit_combined)
)
# (sums, sums): the lesser, or greater, of every lane.
lesser: Callable[[Any, Any], Any] = cast(Any, intrinsic(_emit_pairwise(_lesser)))
greater: Callable[[Any, Any], Any] = cast(Any, intrinsic(_emit_pairwise(_greater)))
# (sums): the least of all lanes.
least_lane: Callable[[Any], float] = cast(Any, intrinsic(_emit_least))
