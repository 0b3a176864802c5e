"""Where this process stands: its coordinates in the mesh, the stages it owns, its part of a split tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from maiac.ir.dims import DimLike
from maiac.ir.errors import MaiaError, raise_all
from maiac.ir.graph import Module
from maiac.ir.ops.values import block_of
from maiac.ir.types import Quantized, TensorType, Type


def coordinates(mesh: Mapping[str, int], rank: int) -> dict[str, int]:
    """The coordinates of a rank: row-major, the last axis varies fastest."""
    found: dict[str, int] = {}
    for axis, size in reversed([*mesh.items()]):
        rank, found[axis] = divmod(rank, size)
    return {axis: found[axis] for axis in mesh}


def stage_owner(stage: int, stages: int, size: int) -> int:
    """Which of ``size`` ranks along the axis runs a stage: stages are dealt out in contiguous runs."""
    return stage * size // stages


@dataclass(frozen=True)
class Placement:
    """One rank of a mesh, for one module."""

    mesh: dict[str, int]  # every axis of the module, with its size
    at: dict[str, int]  # this rank's coordinates
    stages: dict[str, int]  # stages cut along an axis

    def size(self, axis: str) -> int:
        """Ranks along an axis."""
        return self.mesh.get(axis, 1)

    def owner(self, axis: str, stage: int) -> int:
        """The coordinate along the axis that runs this stage."""
        return stage_owner(stage, self.stages.get(axis, stage + 1), self.size(axis))

    def owns(self, stage: tuple[str, int] | None) -> bool:
        """Whether this rank runs functions of a stage; those of no stage run everywhere."""
        return stage is None or self.owner(*stage) == self.at.get(stage[0], 0)

    def local(self, type: TensorType) -> tuple[DimLike, ...]:
        """The dims of this rank's part."""
        return type.local(self.mesh) if any(type.split) else type.dims

    def pieces(self, type: TensorType, dim: int) -> int:
        """Into how many parts a dim is split."""
        return math.prod(self.size(a) for a in type.split[dim])

    def slices(self, type: TensorType, shape: tuple[int, ...]) -> tuple[slice, ...] | None:
        """This rank's part of a tensor of that (whole) shape; None where that is all of it."""
        cuts: list[slice] = []
        for dim, size in enumerate(shape):
            index, pieces = 0, 1
            for axis in type.split[dim]:
                index = index * self.size(axis) + self.at.get(axis, 0)
                pieces *= self.size(axis)
            each = size // pieces
            cuts.append(slice(index * each, (index + 1) * each) if pieces > 1 else slice(None))
        return tuple(cuts) if any(c != slice(None) for c in cuts) else None


def place(module: Module, mesh: Mapping[str, int] | None, rank: int) -> Placement:
    """This rank's placement; MAIA0506 lists every way in which mesh and module do not fit."""
    given = dict(mesh or {})
    count = math.prod(given.values())
    axes = ", ".join(module.mesh) or "none"
    faults = [f"the program has no mesh axis {a}; it has: {axes}" for a in given if a not in module.mesh]
    faults += [f"axis {a} has {n} ranks; expected at least 1" for a, n in given.items() if n < 1]
    for axis, most in module.mesh.items():
        if most is not None and given.get(axis, 1) > most:
            faults.append(f"axis {axis} has {given[axis]} ranks, but the program was cut for at most {most}")
    if not 0 <= rank < max(count, 1):
        faults.append(f"rank {rank} lies outside a mesh of {count}")
    shown = ", ".join(f"{a} = {n}" for a, n in given.items()) or "of one rank"
    what = f"the mesh {shown} does not fit module @{module.name}"
    raise_all("MAIA0506", what, faults)
    sizes = {axis: given.get(axis, 1) for axis in (*given, *(a for a in module.mesh if a not in given))}
    placement = Placement(sizes, coordinates(sizes, rank), _stages(module))
    uneven = _uneven(module, placement)
    if uneven:
        raise MaiaError("MAIA0506", f"{what}: {_that_fit(module)}", details=_by_reason(uneven))
    return placement


def fitting_sizes(module: Module) -> dict[str, list[int] | None]:
    """For each mesh axis the numbers of ranks that divide all that it splits; None where any number does."""
    types = _splits(module)
    found: dict[str, list[int] | None] = {}
    for axis, most in module.mesh.items():
        split = {t for t in types if any(axis in axes for axes in t.split)}
        whole = math.gcd(*(size for t in split for size in _cut_sizes(t, axis)))
        limit = most or whole
        each = [n for n in range(1, limit + 1) if not whole % n and _divides(split, {axis: n})]
        found[axis] = each if limit else None
    return found


def sizes_text(sizes: list[int] | None) -> str:
    """``1, 2 or 4``"""
    if sizes is None:
        return "any number"
    *first, last = sizes
    return f"{', '.join(map(str, first))} or {last}" if first else str(last)


def _that_fit(module: Module) -> str:
    return "; ".join(f"{axis} may be {sizes_text(sizes)}" for axis, sizes in fitting_sizes(module).items())


def _cut_sizes(type: TensorType, axis: str) -> list[int]:
    """The static dims that an axis splits."""
    return [d for d, axes in zip(type.dims, type.split, strict=True) if isinstance(d, int) and axis in axes]


def _splits(module: Module) -> set[TensorType]:
    """Every type of the module that is split."""
    types: list[Type] = [g.type for g in (*module.weights.values(), *module.states.values(), *module.main.args)]
    types += [result.type for op in module.walk() for result in op.results]
    return {t for t in types if isinstance(t, TensorType) and any(t.split)}


def _divides(types: set[TensorType], mesh: dict[str, int]) -> bool:
    placement = Placement(mesh, dict.fromkeys(mesh, 0), {})
    return not any(fault for t in types for fault in _uneven_dims("", t, placement))


def _by_reason(faults: list[tuple[str, str]]) -> list[str]:
    """One line for each size that does not divide, with the first place where it stands."""
    grouped: dict[str, list[str]] = {}
    for reason, place in faults:
        grouped.setdefault(reason, []).append(place)
    return [f"{r}: {p[0]}{f' and {len(p) - 1} more' if len(p) > 1 else ''}" for r, p in grouped.items()]


def _stages(module: Module) -> dict[str, int]:
    """How many stages each axis was cut into: what the mesh says, or else the stages that occur."""
    found: dict[str, int] = {}
    for function in module.functions.values():
        if function.stage is not None:
            axis, index = function.stage
            found[axis] = max(found.get(axis, 0), index + 1, module.mesh.get(axis) or 0)
    return found


def _uneven(module: Module, placement: Placement) -> list[tuple[str, str]]:
    """(why, where) of static dims that the mesh does not divide.

    Of weights, states and inputs, and (once each) of values inside.
    """
    named: list[tuple[str, Type]] = [(f"@{w.name}", w.type) for w in module.weights.values()]
    named += [(f"@{s.name}", s.type) for s in module.states.values()]
    named += [(f"%{a.name}", a.type) for a in module.main.args]
    inside: dict[Type, str] = {}
    for op in module.walk():
        for result in op.results:
            inside.setdefault(result.type, f"%{result.name} in {op.loc.name or op.name}")
    named += [(name, type) for type, name in inside.items()]
    return [
        fault for name, type in named if isinstance(type, TensorType) for fault in _uneven_dims(name, type, placement)
    ]


def _uneven_dims(name: str, type: TensorType, placement: Placement) -> Iterator[tuple[str, str]]:
    for i, dim in enumerate(type.dims):
        pieces = placement.pieces(type, i)
        if isinstance(dim, int) and dim % pieces:
            yield f"{dim} does not divide into {pieces} parts", f"dim {i} of {name} = {type}"
            continue
        block = block_of(type.dtype, i - type.rank) if isinstance(type.dtype, Quantized) else 1
        if pieces > 1 and isinstance(dim, int) and (dim // pieces) % block:
            yield f"{dim} would be cut inside a block of {block} that shares a scale", f"dim {i} of {name} = {type}"


def no_communicator(name: str, axis: str, size: int) -> MaiaError:
    """The error for a collective that nobody can run."""
    return MaiaError("MAIA0507", f"{name} over {axis} = {size} needs a communicator")
