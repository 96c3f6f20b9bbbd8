"""
Tiles: some rows, transposed so that vectors run across them, and the search for their nearest centres.

A tile's rows are given by their numbers, so that rows which lie apart cost what neighbours cost. The distance of a row
from a centre is one chain of multiply-adds over the features, in order, whatever else is in the tile: a row's label
does not depend on its company. Sums stay in registers; no BLAS is used, and nothing is packed but the tile itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nbgrid.kmeans._vectors import I32, I64, MACHINE, Vectors, lanes

TILE_FLOAT32 = MACHINE.vectors * lanes(4)
TILE_FLOAT64 = MACHINE.vectors * lanes(8)
"""Rows in a tile."""


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def take_turn(_: Any, turns: Any) -> Any:
    """
    Return turns[0] and add 1 to it, in one step for all threads.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", place, I64(1), "monotonic")

    return types.int64(turns), emit


@intrinsic  # type: ignore[untyped-decorator]
def fill_tile(_: Any, X: Any, numbers: Any, shift: Any, tile: Any, norms: Any) -> Any:
    """
    Set tile[f, r] to X[numbers[r], f] - shift[f], and norms[r] to the squared norm of that row.

    numbers is int64 of as many rows as a tile has, tile (d, rows); all of it in the dtype of X.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = Vectors(context, builder, signature.args[0].dtype)
        data, number, shifts, out, squares = (v.array(*pair) for pair in zip(signature.args, args, strict=True))
        features = cgutils.unpack_tuple(builder, data.shape, 2)[1]
        for m in range(MACHINE.vectors):
            first = m * v.lanes
            rows = [v.at(data.data, builder.mul(v.scalar_at(number.data, first + r), features)) for r in range(v.lanes)]
            norm = v.local(v.constant(0))
            _transpose_features(v, features, rows, _Column(v, shifts.data, out.data, first, norm))
            v.store(builder.load(norm), squares.data, first)
        return context.get_dummy_value()

    return types.void(X, numbers, shift, tile, norms), emit


class _Column:
    """Where the features of one vector of rows are written."""

    def __init__(self, v: Vectors, shift: Any, out: Any, first: int, norm: Any) -> None:
        self.v, self.shift, self.out, self.first, self.norm = v, shift, out, first, norm

    def write(self, feature: Any, values: Any) -> None:
        """Write the *values* of one feature less its shift."""
        v, builder = self.v, self.v.builder
        values = builder.fsub(values, v.splat(v.scalar_at(self.shift, feature)))
        width = I64(MACHINE.vectors * v.lanes)
        v.store(values, self.out, builder.add(builder.mul(feature, width), I64(self.first)))
        builder.store(v.multiply_add(values, values, builder.load(self.norm)), self.norm)


def _transpose_features(v: Vectors, features: Any, rows: list[Any], column: _Column) -> None:
    """
    Emit the transposition of *rows*: whole squares first, then blocks of half, a quarter, … of their width.
    """
    builder = v.builder
    done = builder.and_(features, I64(-v.lanes))
    with cgutils.for_range_slice(builder, I64(0), done, I64(v.lanes), I64) as (feature, _):
        for f, values in enumerate(v.transpose([v.load(row, feature) for row in rows])):
            column.write(builder.add(feature, I64(f)), values)
    width = v.lanes // 2
    while width:
        present = builder.and_(features, I64(width))
        with builder.if_then(builder.icmp_unsigned("!=", present, I64(0))):
            shares = [v.join([v.load(row, done, width) for row in rows[i::width]]) for i in range(width)]
            for f, values in enumerate(v.transpose(shares)):
                column.write(builder.add(done, I64(f)), values)
        done = builder.add(done, present)
        width //= 2


@intrinsic  # type: ignore[untyped-decorator]
def nearest_two(_: Any, tile: Any, negative: Any, half: Any, k: Any, best: Any, second: Any, label: Any) -> Any:
    """
    Find, among the first *k* centres, the nearest and the second nearest of each row of the tile.

    negative is minus the centres, (at least k, d), half their halved squared norms; best and second are set to
    ½‖c‖² − c·x, half of what the squared distance is above ‖x‖², and label (int32) to the nearest centre's number.
    Ties go to the lower number; what does not exist is infinitely far away.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = Vectors(context, builder, signature.args[0].dtype)
        search = _Search(v, *(v.array(kind, args[i]) for i, kind in enumerate(signature.args[:3])))
        step = MACHINE.centers
        done = builder.and_(args[3], I64(-step))
        with cgutils.for_range_slice(builder, I64(0), done, I64(step), I64) as (j, _):
            search.compare(j, step)
        while step > 1:
            step //= 2
            present = builder.and_(args[3], I64(step))
            with builder.if_then(builder.icmp_unsigned("!=", present, I64(0))):
                search.compare(done, step)
            done = builder.add(done, present)
        search.write(*(v.array(kind, value).data for kind, value in zip(signature.args[4:], args[4:], strict=True)))
        return context.get_dummy_value()

    return types.void(tile, negative, half, types.int64, best, second, label), emit


class _Search:
    """The running best and second best of a tile."""

    def __init__(self, v: Vectors, tile: Any, negative: Any, half: Any) -> None:
        self.v, self.tile, self.centers, self.half = v, tile.data, negative.data, half.data
        self.features = cgutils.unpack_tuple(v.builder, negative.shape, 2)[1]
        vectors = range(MACHINE.vectors)
        self.best = [v.local(v.constant(np.inf)) for _ in vectors]
        self.second = [v.local(v.constant(np.inf)) for _ in vectors]
        self.label = [v.local(ir.Constant(v.integers, [0] * v.lanes)) for _ in vectors]

    def compare(self, first: Any, count: int) -> None:
        """Emit the comparison of the tile with *count* centres from *first* on."""
        v, builder = self.v, self.v.builder
        numbers = [builder.add(first, I64(c)) for c in range(count)]
        centers = [v.at(self.centers, builder.mul(number, self.features)) for number in numbers]
        constants = [v.splat(v.scalar_at(self.half, number)) for number in numbers]
        sums = [[v.local(constant) for _ in range(MACHINE.vectors)] for constant in constants]
        with cgutils.for_range_slice(builder, I64(0), self.features, I64(1), I64) as (feature, _):
            place = builder.mul(feature, I64(MACHINE.vectors * v.lanes))
            rows = [v.load(self.tile, builder.add(place, I64(m * v.lanes))) for m in range(MACHINE.vectors)]
            for c in range(count):
                value = v.splat(v.scalar_at(centers[c], feature))
                for m, row in enumerate(rows):
                    builder.store(v.multiply_add(row, value, builder.load(sums[c][m])), sums[c][m])
        for c, number in enumerate(numbers):
            name = v.splat(builder.trunc(number, I32) if v.itemsize == 4 else number, v.integers)
            for m in range(MACHINE.vectors):
                self._keep(m, builder.load(sums[c][m]), name)

    def _keep(self, m: int, value: Any, name: Any) -> None:
        v, builder = self.v, self.v.builder
        best = builder.load(self.best[m])
        less, lower = v.lower(value, best)
        _, second = v.lower(builder.select(less, best, value), builder.load(self.second[m]))
        builder.store(second, self.second[m])
        builder.store(lower, self.best[m])
        builder.store(builder.select(less, name, builder.load(self.label[m])), self.label[m])

    def write(self, best: Any, second: Any, label: Any) -> None:
        """Emit the writing of what was found."""
        v, builder = self.v, self.v.builder
        for m in range(MACHINE.vectors):
            v.store(builder.load(self.best[m]), best, m * v.lanes)
            v.store(builder.load(self.second[m]), second, m * v.lanes)
            found = builder.load(self.label[m])
            short = found if v.itemsize == 4 else builder.trunc(found, ir.VectorType(I32, v.lanes))
            v.store(short, label, m * v.lanes, align=4)
