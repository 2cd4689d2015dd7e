"""Vector operations that LLVM's vectoriser does not find by itself, as intrinsics of numba.

They are written in LLVM's own vector types, which it lowers for whatever processor it compiles for.
Nothing is checked: indices must lie inside, and arrays be C-contiguous.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic

ROW: Final = 4
"""How many int64 `add_four_rows` adds side by side."""

WORD: Final = 32
"""How many weights `add_signs` changes at once: the bits of a word."""

_I64: Final = ir.IntType(64)
_ROW: Final = ir.VectorType(_I64, ROW)
_BITS: Final = ir.VectorType(ir.IntType(32), WORD)
_FLOATS: Final = ir.VectorType(ir.FloatType(), WORD)


def _data(context: Any, builder: Any, kind: Any, array: Any, as_: Any) -> Any:
    """Return a pointer to the first number of an array, as a pointer to another type."""
    data = create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(data, as_.as_pointer())


@intrinsic  # type: ignore[misc]
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
        to = builder.gep(_data(context, builder, signature.args[0], sums, _ROW), [i])
        rows = _data(context, builder, signature.args[2], table, _ROW)
        total = builder.load(to, align=8)
        for q, pattern in enumerate(patterns):
            at = builder.add(builder.zext(pattern, _I64), ir.Constant(_I64, 256 * q))
            total = builder.add(total, builder.load(builder.gep(rows, [at]), align=8))
        builder.store(total, to, align=8)
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[misc]
def add_signs(typing_context: Any, values: Any, at: Any, word: Any, minus: Any) -> tuple[Any, Any]:
    """Add to each of values[at : at + 32] the number whose bits are minus, or its negative.

    The lowest bit of word belongs to the first; a set bit stands for the negative. values is
    float32 of shape (n,), at int64, word and minus uint32.
    """
    del typing_context, at, word, minus
    signature = types.void(values, types.int64, types.uint32, types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, word, minus = arguments

        def spread(number: Any) -> Any:
            one = builder.insert_element(
                ir.Constant(_BITS, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
            )
            return builder.shuffle_vector(
                one, ir.Constant(_BITS, ir.Undefined), ir.Constant(_BITS, [0] * WORD)
            )

        shifts = ir.Constant(_BITS, list(range(WORD - 1, -1, -1)))
        signs = builder.and_(
            builder.shl(spread(word), shifts), ir.Constant(_BITS, [0x80000000] * WORD)
        )
        step = builder.bitcast(builder.xor(spread(minus), signs), _FLOATS)
        first = _data(context, builder, signature.args[0], values, ir.FloatType())
        to = builder.bitcast(builder.gep(first, [at]), _FLOATS.as_pointer())
        builder.store(builder.fadd(builder.load(to, align=4), step), to, align=4)
        return context.get_dummy_value()

    return signature, generate
