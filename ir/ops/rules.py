"""Rules that many operations share: a dim's position, sharding as inferred, flops by elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dims import DimLike
from ..errors import TypeFault
from ..signature import broadcast_dim
from ..types import Axes, TensorType, Type


def axis(x: TensorType, dim: int) -> int:
    """A dim counted from the front; TypeFault where x has no such dim."""
    rank = max(x.rank, 1)
    if not -rank <= dim < rank:
        raise TypeFault(f"x is {x}, which has no dim {dim}")
    return dim % rank


def keep_split(result: Type, split: Sequence[Axes], owed: Sequence[str]) -> TensorType:
    """The result with these splits and owed sums."""
    assert isinstance(result, TensorType)
    return result.with_split(split, owed)


def as_inferred(results: list[Type], *_: Any, **__: Any) -> list[Type]:
    """A sharding rule: ``infer`` has said it already."""
    return results


def per_input(results: list[Type], x: TensorType, *_: Any, **__: Any) -> DimLike:
    """A flops rule: one for each element of the first operand."""
    return x.elements()


def per_output(results: list[Type], *_: Any, **__: Any) -> DimLike:
    """A flops rule: one for each element of the first result."""
    assert isinstance(results[0], TensorType)
    return results[0].elements()


def broadcast(shapes: Sequence[tuple[DimLike, ...]]) -> tuple[DimLike, ...]:
    """NumPy's broadcast of shapes; TypeFault where two dims differ and neither is 1."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[DimLike] = [1] * rank
    for shape in shapes:
        for i, d in enumerate(shape, rank - len(shape)):
            found = broadcast_dim(out[i], d, f"b{i}")
            if found is None:
                raise TypeFault(f"shapes {', '.join(_text(s) for s in shapes)} do not broadcast")
            out[i] = found
    return tuple(out)


def _text(shape: tuple[DimLike, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
