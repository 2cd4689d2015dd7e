"""Vector operations that LLVM's vectoriser does not find by itself, as intrinsics of numba.

They are written in LLVM's own vector types, which it lowers for whatever processor it compiles for.
Nothing is checked: indices must lie inside, and arrays be C-contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import create_struct_proxy
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, register_model

ROW: Final = 4
"""How many int64 `add_four_rows` adds side by side."""

WORD: Final = 32
"""How many weights `add_signs` changes at once: the bits of a word."""

NUMBERS: Final = 16
"""How many Gaussian numbers are made at once."""

_I32: Final = ir.IntType(32)
_I64: Final = ir.IntType(64)
_FLOAT: Final = ir.FloatType()
_DOUBLE: Final = ir.DoubleType()

# A product that meets a sum here is exact, so fusing both changes nothing.
_EXACT: Final = ("contract",)


_intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic


class _Numbers(types.Type):
    """Sixteen float64 side by side."""

    def __init__(self) -> None:
        super().__init__(name="Numbers")


_NUMBERS: Final = _Numbers()


@register_model(_Numbers)
class _NumbersModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, ir.VectorType(_DOUBLE, NUMBERS))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any, item: Any, to: Any) -> Any:
    """Return a pointer to number `at` of an array of LLVM type item, as a pointer to type to."""
    data = create_struct_proxy(kind)(context, builder, value=array).data
    first = builder.bitcast(data, item.as_pointer())
    return builder.bitcast(builder.gep(first, [at]), to.as_pointer())


def _splat(builder: Any, number: Any, count: int) -> Any:
    """Return a vector of count times a number."""
    kind = ir.VectorType(number.type, count)
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(
        one, nothing, ir.Constant(ir.VectorType(_I32, count), [0] * count)
    )


def _constant(number: int, count: int) -> Any:
    return ir.Constant(ir.VectorType(_I32, count), [number] * count)


@_intrinsic
def add_four_rows(
    typing_context: Any, sums: Any, i: Any, table: Any, a: Any, b: Any, c: Any, d: Any
) -> tuple[Any, Any]:
    """Add table[0, a], table[1, b], table[2, c] and table[3, d] to sums[i].

    sums is int64 of shape (n, 4), table int64 of shape (4, 256, 4); i is int64, the others uint8.
    """
    del typing_context, i, a, b, c, d
    signature = types.void(sums, types.int64, table, *(types.uint8,) * 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, i, table, *patterns = arguments
        row = ir.VectorType(_I64, ROW)
        to = _pointer(context, builder, signature.args[0], sums, i, row, row)
        total = builder.load(to, align=8)
        for q, pattern in enumerate(patterns):
            at = builder.add(builder.zext(pattern, _I64), ir.Constant(_I64, 256 * q))
            found = _pointer(context, builder, signature.args[2], table, at, row, row)
            total = builder.add(total, builder.load(found, align=8))
        builder.store(total, to, align=8)
        return context.get_dummy_value()

    return signature, generate


@_intrinsic
def add_signs(typing_context: Any, values: Any, at: Any, word: Any, minus: Any) -> tuple[Any, Any]:
    """Add to each of values[at : at + 32] the number whose bits are minus, or its negative.

    The lowest bit of word belongs to the first; a set bit stands for the negative. values is
    float32 of shape (n,), at int64, word and minus uint32.
    """
    del typing_context, at, word, minus
    signature = types.void(values, types.int64, types.uint32, types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, word, minus = arguments
        floats = ir.VectorType(_FLOAT, WORD)
        shifts = ir.Constant(ir.VectorType(_I32, WORD), list(range(WORD - 1, -1, -1)))
        lifted = builder.shl(_splat(builder, word, WORD), shifts)
        signs = builder.and_(lifted, _constant(0x80000000, WORD))
        step = builder.bitcast(builder.xor(_splat(builder, minus, WORD), signs), floats)
        to = _pointer(context, builder, signature.args[0], values, at, _FLOAT, floats)
        builder.store(builder.fadd(builder.load(to, align=4), step), to, align=4)
        return context.get_dummy_value()

    return signature, generate


@_intrinsic
def coordinates(
    typing_context: Any, words: Any, found: Any, at: Any, lift: Any, drop: Any
) -> tuple[Any, Any]:
    """Return sixteen numbers: one coordinate of the points found[at : at + 16], with its sign.

    Shifting a word up by lift brings the bit of the sign to the top; shifting a point down by drop
    brings the coordinate to the lower half. words and found are uint32 of shape (n,), at is int64,
    lift and drop are uint32.
    """
    del typing_context, at, lift, drop
    signature = _NUMBERS(words, found, types.int64, types.uint32, types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words, found, at, lift, drop = arguments
        integers = ir.VectorType(_I32, NUMBERS)
        from_words = _pointer(context, builder, signature.args[0], words, at, _I32, integers)
        lifted = builder.shl(builder.load(from_words, align=4), _splat(builder, lift, NUMBERS))
        minus = builder.ashr(lifted, _constant(31, NUMBERS))
        from_found = _pointer(context, builder, signature.args[1], found, at, _I32, integers)
        dropped = builder.lshr(builder.load(from_found, align=4), _splat(builder, drop, NUMBERS))
        size = builder.and_(dropped, _constant(0xFFFF, NUMBERS))
        signed = builder.sub(builder.xor(size, minus), minus)
        return builder.sitofp(signed, ir.VectorType(_DOUBLE, NUMBERS))

    return signature, generate


@_intrinsic
def keep(typing_context: Any, z: Any, at: Any, numbers: Any) -> tuple[Any, Any]:
    """Set z[at : at + 16], float64, to sixteen numbers; at is int64."""
    del typing_context, at
    signature = types.void(z, types.int64, numbers)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        z, at, numbers = arguments
        to = _pointer(context, builder, signature.args[0], z, at, _DOUBLE, numbers.type)
        builder.store(numbers, to, align=8)
        return context.get_dummy_value()

    return signature, generate


@_intrinsic
def take(typing_context: Any, z: Any, at: Any) -> tuple[Any, Any]:
    """Return z[at : at + 16], float64; at is int64."""
    del typing_context, at
    signature = _NUMBERS(z, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(_DOUBLE, NUMBERS)
        z, at = arguments
        from_ = _pointer(context, builder, signature.args[0], z, at, _DOUBLE, kind)
        return builder.load(from_, align=8)

    return signature, generate


@_intrinsic
def plus_scaled(typing_context: Any, sums: Any, a: Any, numbers: Any) -> tuple[Any, Any]:
    """Return sixteen sums and a times sixteen numbers; a is float64, the product exact."""
    del typing_context, a
    signature = _NUMBERS(sums, types.float64, numbers)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        sums, a, numbers = arguments
        product = builder.fmul(_splat(builder, a, NUMBERS), numbers, flags=_EXACT)
        return builder.fadd(sums, product, flags=_EXACT)

    return signature, generate


@_intrinsic
def add_scaled(
    typing_context: Any, values: Any, at: Any, scale: Any, numbers: Any
) -> tuple[Any, Any]:
    """Add scale times sixteen numbers to values[at : at + 16], as `reference` defines a pass.

    values is float32 of shape (n,), at int64, scale float64.
    """
    del typing_context, at, scale
    signature = types.void(values, types.int64, types.float64, numbers)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, scale, numbers = arguments
        floats = ir.VectorType(_FLOAT, NUMBERS)
        to = _pointer(context, builder, signature.args[0], values, at, _FLOAT, floats)
        weights = builder.fpext(builder.load(to, align=4), numbers.type)
        step = builder.fmul(_splat(builder, scale, NUMBERS), numbers, flags=_EXACT)
        moved = builder.fadd(weights, step, flags=_EXACT)
        builder.store(builder.fptrunc(moved, floats), to, align=4)
        return context.get_dummy_value()

    return signature, generate


@_intrinsic
def plus_product(
    typing_context: Any, sums: Any, values: Any, at: Any, numbers: Any
) -> tuple[Any, Any]:
    """Return sixteen sums and values[at : at + 16] times sixteen numbers, the products exact.

    values is float32 of shape (n,), at int64.
    """
    del typing_context, at
    signature = _NUMBERS(sums, values, types.int64, numbers)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, values, at, numbers = arguments
        floats = ir.VectorType(_FLOAT, NUMBERS)
        from_ = _pointer(context, builder, signature.args[1], values, at, _FLOAT, floats)
        factors = builder.fpext(builder.load(from_, align=4), numbers.type)
        product = builder.fmul(factors, numbers, flags=_EXACT)
        return builder.fadd(sums, product, flags=_EXACT)

    return signature, generate


@_intrinsic
def plus_signed(typing_context: Any, sums: Any, values: Any, at: Any, word: Any) -> tuple[Any, Any]:
    """Return sixteen sums and values[at : at + 16], or their negatives.

    The lowest bit of word belongs to the first; a clear bit stands for the negative. values is
    float32 of shape (n,), at int64, word uint32.
    """
    del typing_context, at, word
    signature = _NUMBERS(sums, values, types.int64, types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, values, at, word = arguments
        integers = ir.VectorType(_I32, NUMBERS)
        shifts = ir.Constant(integers, list(range(31, 31 - NUMBERS, -1)))
        lifted = builder.shl(_splat(builder, builder.not_(word), NUMBERS), shifts)
        signs = builder.and_(lifted, _constant(0x80000000, NUMBERS))
        from_ = _pointer(context, builder, signature.args[1], values, at, _FLOAT, integers)
        signed = builder.xor(builder.load(from_, align=4), signs)
        floats = builder.bitcast(signed, ir.VectorType(_FLOAT, NUMBERS))
        return builder.fadd(sums, builder.fpext(floats, sums.type))

    return signature, generate


@_intrinsic
def no_numbers(typing_context: Any) -> tuple[Any, Any]:
    """Return sixteen zeros."""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, builder, signature, arguments
        return ir.Constant(ir.VectorType(_DOUBLE, NUMBERS), [0.0] * NUMBERS)

    return _NUMBERS(), generate
