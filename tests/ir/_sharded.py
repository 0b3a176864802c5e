"""Running an operation on the parts that two ranks hold, and putting the results together by their types."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from maiac.ir.opdef import OpDef
from maiac.ir.ops.sampling import type_of
from maiac.ir.ops.values import QTensor, part
from maiac.ir.types import TensorType, Type

RANKS = 2
MESH = {"tp": RANKS}


@dataclass(frozen=True)
class Held:
    """How the ranks hold an operand: split along a dim, as a sum still owed, or whole (neither)."""

    dim: int | None = None
    owed: bool = False

    def type(self, value: Any) -> Type:
        """The operand's type."""
        whole = type_of(value)
        if not isinstance(whole, TensorType):
            return whole
        return whole.with_split([("tp",) if i == self.dim else () for i in range(whole.rank)], ("tp",) * self.owed)

    def part(self, value: Any, rank: int) -> Any:
        """What one rank holds."""
        if self.dim is not None:
            each = value.shape[self.dim] // RANKS
            return part(value, (*[slice(None)] * self.dim, slice(rank * each, (rank + 1) * each)))
        if self.owed:
            noise = torch.linspace(-1, 1, max(value.numel(), 1), dtype=torch.float64)[: value.numel()]
            noise = noise.reshape(value.shape).to(value.dtype)
            return noise if rank else value - noise
        return value


WHOLE = Held()


def ways(value: Any, *, linear: bool) -> list[Held]:
    """Every way in which ranks may hold an operand; owed sums where the op says that it is linear in it."""
    if not isinstance(value, (torch.Tensor, QTensor)):
        return [WHOLE]
    found = [WHOLE, *(Held(i) for i, n in enumerate(value.shape) if n and n % RANKS == 0)]
    if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
        found.append(Held(owed=True))
    return found


def assignments(definition: OpDef, operands: Sequence[Any], limit: int = 400) -> Iterator[tuple[Held, ...]]:
    """Combinations of ways, except everything whole; the first ``limit`` of a fixed shuffle where there are more."""
    options = [ways(v, linear=True) for v in operands]
    combined = [c for c in itertools.product(*options) if any(h != WHOLE for h in c)]
    step = max(1, len(combined) // limit)
    return iter(combined[::step])


def local_attrs(definition: OpDef, attrs: Mapping[str, Any], results: Sequence[Type]) -> dict[str, Any]:
    """The attributes that one rank's reference sees: dims of a sharded result become its part."""
    out = dict(attrs)
    names = [t.name for t in definition.signature.results]
    for attr, result in definition.local.items():
        type = results[names.index(result)]
        assert isinstance(type, TensorType)
        out[attr] = type.local(MESH)
    return out


def divides(results: Sequence[Type]) -> bool:
    """Whether the mesh divides every split dim, which is checked when an artifact is loaded."""
    tensors = [t for t in results if isinstance(t, TensorType)]
    return all(not axes or d % RANKS == 0 for t in tensors for d, axes in zip(t.dims, t.split, strict=True))  # type: ignore[operator]


def recombine(type: Type, parts: Sequence[Any]) -> Any:
    """The whole result from what the ranks have, as its type says."""
    first = parts[0]
    if not isinstance(type, TensorType) or not type.is_sharded:
        return first
    if type.owed:
        return sum(parts[1:], start=first)
    dim = next(i for i, axes in enumerate(type.split) if axes)
    if isinstance(first, QTensor):
        shared = first.type.scale_shape(type.dims)[dim] == 1
        scale = first.scale if shared else torch.cat([p.scale for p in parts], dim)
        return QTensor(torch.cat([p.codes for p in parts], dim), scale, None, first.type)
    return torch.cat(list(parts), dim)
