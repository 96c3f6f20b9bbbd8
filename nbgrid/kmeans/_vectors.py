"""
Vector instructions, written out in LLVM's language.

LLVM's own vectoriser stays at half of AVX-512's width and keeps no tile of sums in registers; vector types that are
written out compile to the full width and stay there. One class emits the few instructions that the tiles need.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, config, types

I32, I64 = ir.IntType(32), ir.IntType(64)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the compiler may count on."""

    bytes: int
    """Of one vector register."""

    vectors: int
    """Of rows in a tile."""

    centers: int
    """That are compared with a tile at once: vectors × centers sums, and what is multiplied, fill the registers."""

    fused: bool
    """Whether a × b + c is one instruction."""


def machine() -> Machine:
    """
    Return what numba compiles for here, as it was told by NUMBA_CPU_FEATURES, or else as the processor says.
    """
    arm = platform.machine().lower() in {"arm64", "aarch64"}
    features = config.CPU_FEATURES if config.CPU_FEATURES is not None else llvm.get_host_cpu_features().flatten()
    has = set(features.split(","))
    if "+avx512f" in has:
        return Machine(bytes=64, vectors=3, centers=8, fused=True)
    if arm:
        return Machine(bytes=16, vectors=3, centers=8, fused=True)
    if "+avx" in has:
        return Machine(bytes=32, vectors=3, centers=4, fused="+fma" in has)
    return Machine(bytes=16, vectors=3, centers=4, fused=False)


MACHINE = machine()


def lanes(itemsize: int) -> int:
    """Return how many numbers of *itemsize* bytes a vector holds."""
    return MACHINE.bytes // itemsize


class Vectors:
    """Emits vector instructions for one dtype at the builder's place."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        single = dtype == types.float32
        self.context, self.builder = context, builder
        self.itemsize = 4 if single else 8
        self.lanes = lanes(self.itemsize)
        self.scalar = ir.FloatType() if single else ir.DoubleType()
        self.integer = I32 if single else I64
        self.floats = ir.VectorType(self.scalar, self.lanes)
        self.integers = ir.VectorType(self.integer, self.lanes)

    def array(self, array_type: Any, value: Any) -> Any:
        """Return the array's struct: data, shape and strides."""
        return self.context.make_array(array_type)(self.context, self.builder, value)

    def at(self, pointer: Any, index: Any) -> Any:
        """Return the address *index* items after *pointer*."""
        return self.builder.gep(pointer, [index if isinstance(index, ir.Value) else I64(index)])

    def scalar_at(self, pointer: Any, index: Any) -> Any:
        """Return the one number there."""
        return self.builder.load(self.at(pointer, index))

    def load(self, pointer: Any, index: Any, count: int | None = None) -> Any:
        """Return a vector, of *count* numbers if given, from anywhere in an array."""
        kind = self.floats if count is None else ir.VectorType(self.scalar, count)
        address = self.builder.bitcast(self.at(pointer, index), kind.as_pointer())
        return self.builder.load(address, align=self.itemsize)

    def store(self, vector: Any, pointer: Any, index: Any, align: int | None = None) -> None:
        """Write *vector* anywhere into an array."""
        address = self.builder.bitcast(self.at(pointer, index), vector.type.as_pointer())
        self.builder.store(vector, address, align=align or self.itemsize)

    def local(self, initial: Any) -> Any:
        """Return a variable that LLVM will keep in a register."""
        place = cgutils.alloca_once(self.builder, initial.type)
        self.builder.store(initial, place)
        return place

    def constant(self, value: float) -> Any:
        """Return a vector of equal numbers."""
        return ir.Constant(self.floats, [float(value)] * self.lanes)

    def splat(self, scalar: Any, kind: Any = None) -> Any:
        """Return a vector whose lanes all hold *scalar*."""
        undefined = ir.Constant(kind or self.floats, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, I32(0))
        return self.builder.shuffle_vector(one, undefined, _mask([0] * self.lanes))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a × b + c, in one rounding where the machine has it: in every kernel alike."""
        if not MACHINE.fused:
            return self.builder.fadd(self.builder.fmul(a, b), c)
        name = f"llvm.fma.v{self.lanes}f{8 * self.itemsize}"
        kind = ir.FunctionType(self.floats, [self.floats] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])

    def lower(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return in which lanes a < b, and the lower of the two."""
        less = self.builder.fcmp_ordered("<", a, b)
        return less, self.builder.select(less, a, b)

    def join(self, parts: list[Any]) -> Any:
        """Return one vector of all the lanes of *parts*, a power of two of them."""
        while len(parts) > 1:
            mask = _mask(list(range(2 * parts[0].type.count)))
            parts = [self.builder.shuffle_vector(*parts[i : i + 2], mask) for i in range(0, len(parts), 2)]
        return parts[0]

    def transpose(self, rows: list[Any]) -> list[Any]:
        """
        Return *rows* with each square block of them transposed: Eklundh (1972), in log2 of the block's side steps.
        """
        rows, block = list(rows), len(rows) // 2
        while block:
            low = _mask([self.lanes + i - block if i & block else i for i in range(self.lanes)])
            high = _mask([self.lanes + i if i & block else i + block for i in range(self.lanes)])
            for i in (i for i in range(len(rows)) if not i & block):
                a, b = rows[i], rows[i + block]
                rows[i] = self.builder.shuffle_vector(a, b, low)
                rows[i + block] = self.builder.shuffle_vector(a, b, high)
            block //= 2
        return rows


def _mask(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(I32, len(lanes)), lanes)
