"""Vectors of sixteen numbers for numba kernels.

Numba leaves vectorisation to LLVM, which gives up where one step of a loop needs the last, as an orbit does. These
operations work on sixteen orbits at once and are lowered to LLVM's vector instructions, so the same kernel uses
AVX-512, AVX2 or NEON. ``fma`` is a fused multiply-add everywhere, so results do not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
BYTES = 64
"""In a vector of bytes, which is what ``squeeze`` takes."""


def lowered(generator: Callable[..., Any]) -> Any:
    """Numba's ``intrinsic``: a function of kernels, given by its type and the LLVM instructions it becomes."""
    return intrinsic(generator)


class Vector(types.Type):
    """Numba's type of a vector."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype} x {LANES})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        vector = ir.VectorType(manager.lookup(kind.dtype).get_value_type(), LANES)
        super().__init__(manager, kind, vector)  # type: ignore[no-untyped-call]


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> tuple[Any, int]:
    """Pointer to the vector that begins at ``index``, and its alignment in bytes: an element's."""
    data = context.make_array(array_type)(context, builder, array).data
    element = context.get_value_type(array_type.dtype)
    pointer = builder.bitcast(builder.gep(data, [index]), ir.VectorType(element, LANES).as_pointer())
    return pointer, context.get_abi_sizeof(element)


@lowered
def load(typing: Any, array: Any, index: Any) -> Any:
    """``array[index : index + 16]`` of a contiguous one-dimensional array; nothing checks the bounds."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, align = _place(context, builder, signature.args[0], *args)
        value = builder.load(pointer)
        value.align = align
        return value

    return Vector(array.dtype)(array, types.intp), generate


@lowered
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """The reverse of ``load``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, align = _place(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], pointer).align = align
        return context.get_dummy_value()

    return types.none(array, types.intp, value), generate


@lowered
def splat(typing: Any, value: Any) -> Any:
    """Sixteen times the same number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(args[0].type, LANES)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), args[0], ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

    return Vector(value)(value), generate


@lowered
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum of a * b and c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = args[0].type
        name = f"llvm.fma.v{LANES}f{signature.args[0].dtype.bitwidth}"
        kind = ir.FunctionType(vector, [vector] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, args)

    return a(a, b, c), generate


def _arithmetic(operation: str) -> Any:
    @lowered
    def function(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, operation)(*args)

        return a(a, b), generate

    return function


plus, minus, times, over = _arithmetic("fadd"), _arithmetic("fsub"), _arithmetic("fmul"), _arithmetic("fdiv")
"""Each rounded once; LLVM fuses none of them unless it is told to."""


def _ordered(comparison: str) -> Any:
    @lowered
    def function(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)

        return a(a, b), generate

    return function


least, most = _ordered("<"), _ordered(">")
"""The smaller, the larger of two numbers; the second where one is not a number."""


@lowered
def if_above(typing: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """``then`` where a > b, else ``otherwise``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return then(a, b, then, otherwise), generate


@lowered
def place(typing: Any, row: Any, column: Any, width: Any) -> Any:
    """trunc(row) * width + trunc(column), int32; ``width`` is one number for all."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = ir.VectorType(ir.IntType(32), LANES)
        across = ir.IntType(32)(0)
        one = builder.insert_element(ir.Constant(integers, ir.Undefined), args[2], across)
        widths = builder.shuffle_vector(one, ir.Constant(integers, ir.Undefined), ir.Constant(integers, [0] * LANES))
        row, column = builder.fptosi(args[0], integers), builder.fptosi(args[1], integers)
        return builder.add(builder.mul(row, widths), column)

    return Vector(types.int32)(row, column, types.int32), generate


def _of_bits(name: str) -> Any:
    @lowered
    def function(typing: Any, word: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(args[0].type, [args[0].type])
            full = f"llvm.{name}.i{signature.args[0].bitwidth}"
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, full), args)

        return word(word), generate

    return function


turned_over = _of_bits("bitreverse")
"""A scalar unsigned integer with its bits in reverse order."""
ones = _of_bits("ctpop")
"""How many bits of a scalar unsigned integer are set."""


def _bytes_at(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to the vector of bytes that begins at ``index``."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR_OF_BYTES.as_pointer())


_VECTOR_OF_BYTES, _MASK = ir.VectorType(ir.IntType(8), BYTES), ir.VectorType(ir.IntType(1), BYTES)


@lowered
def squeeze(typing: Any, array: Any, index: Any, sink: Any, place: Any) -> Any:
    """Puts those of ``array[index : index + 64]`` that are not zero at ``sink[place]``; which they are, a bit each.

    Both hold bytes. All 64 places of the sink are written, and nothing checks the bounds. One instruction with AVX-512;
    where it has to be done byte by byte it takes 18 us for 32 KB instead of 1.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_bytes_at(context, builder, signature.args[0], *args[:2]))
        value.align = 1
        filled = builder.icmp_unsigned("!=", value, ir.Constant(_VECTOR_OF_BYTES, [0] * BYTES))
        kind = ir.FunctionType(_VECTOR_OF_BYTES, [_VECTOR_OF_BYTES, _MASK, _VECTOR_OF_BYTES])
        name = f"llvm.experimental.vector.compress.v{BYTES}i8"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        squeezed = builder.call(function, [value, filled, ir.Constant(_VECTOR_OF_BYTES, ir.Undefined)])
        builder.store(squeezed, _bytes_at(context, builder, signature.args[2], *args[2:])).align = 1
        return builder.bitcast(filled, ir.IntType(BYTES))

    return types.uint64(array, types.intp, sink, types.intp), generate


@lowered
def spread_out(typing: Any, array: Any, index: Any, mask: Any, sink: Any, place: Any) -> Any:
    """Fills ``sink[place : place + 64]``: bytes from ``array[index]`` on where a bit of the mask is set, else zeros.

    The reverse of ``squeeze``. As many bytes are read as bits are set; nothing checks the bounds.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        chosen = builder.bitcast(args[2], _MASK)
        kind = ir.FunctionType(_VECTOR_OF_BYTES, [ir.IntType(8).as_pointer(), _MASK, _VECTOR_OF_BYTES])
        name = f"llvm.masked.expandload.v{BYTES}i8"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        nothing = ir.Constant(_VECTOR_OF_BYTES, [0] * BYTES)
        spread = builder.call(function, [builder.gep(data, [args[1]]), chosen, nothing])
        builder.store(spread, _bytes_at(context, builder, signature.args[3], *args[3:])).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64, sink, types.intp), generate
