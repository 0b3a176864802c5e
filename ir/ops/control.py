"""Control flow: regions that run or repeat. A body receives its regions as Python callables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..dtypes import DType
from ..errors import TypeFault
from ..graph import Block
from ..opdef import op, unknown
from ..printer import types_text
from ..signature import same_dim
from ..types import OptionalType, SequenceType, TensorType, Type
from .rules import as_inferred
from .sequence import joined

Run = Callable[..., tuple[Any, ...]]


def _yielded(region: Block) -> list[Type]:
    if region.last is None or region.last.name != "yield":
        raise TypeFault("a region must end with yield")
    return [v.type for v in region.last.operands if v is not None]


def _check_takes(region: Block, given: Sequence[Type]) -> None:
    """TypeFault where a region's parameters are not for such values; dims may differ where one is symbolic."""
    takes = [a.type for a in region.args]
    if len(takes) != len(given) or not all(map(_may_be, given, takes)):
        raise TypeFault(f"the region takes {types_text(takes)}; expected {types_text(given)}")


def _may_be(value: Type, parameter: Type) -> bool:
    if not isinstance(value, TensorType) or not isinstance(parameter, TensorType):
        return type(value) is type(parameter)
    if value.rank != parameter.rank or value.dtype != parameter.dtype:
        return False
    return all(same_dim(a, b) is not None for a, b in zip(value.dims, parameter.dims, strict=True))


def _check_condition(type: Type) -> None:
    if not isinstance(type, TensorType) or type.dtype is not DType.BOOL:
        raise TypeFault(f"the condition's region yields {type}; expected bool[]")


def _common_type(a: Type, b: Type, index: int) -> Type:
    """The type that covers both branches: dims that differ are unknown."""
    if a == b:
        return a
    if isinstance(a, TensorType) and isinstance(b, TensorType) and a.dtype == b.dtype and a.rank == b.rank:
        dims = (x if x == y else unknown(100 * index + i) for i, (x, y) in enumerate(zip(a.dims, b.dims, strict=True)))
        return a.with_dims(dims)
    if isinstance(a, SequenceType) and isinstance(b, SequenceType):
        return SequenceType(joined(a.element, b.element))
    if isinstance(a, OptionalType):
        return OptionalType(_common_type(a.element, b.element if isinstance(b, OptionalType) else b, index))
    raise TypeFault(f"the branches yield {a} and {b}")


@op("c:bool -> ys*", name="if", regions=2)
def if_(c: Any, *, regions: Sequence[Run]) -> Any:
    """Run the first region where c is true, the second otherwise; the results are what it yields."""
    return regions[0]() if bool(c) else regions[1]()


@if_.infer
def _(c: TensorType, *, regions: Sequence[Block]) -> list[Type]:
    if c.dtype is not DType.BOOL:
        raise TypeFault(f"the condition is {c}; expected bool[]")
    then, other = _yielded(regions[0]), _yielded(regions[1])
    if len(then) != len(other):
        raise TypeFault(f"the branches yield {len(then)} and {len(other)} values")
    return [_common_type(a, b, i) for i, (a, b) in enumerate(zip(then, other, strict=True))]


@op("init:value* -> ys*", name="while", regions=2)
def while_(*init: Any, regions: Sequence[Run]) -> Any:
    """While the first region yields true of the carried values, the second makes the next ones."""
    carried = init
    while bool(regions[0](*carried)[0]):
        carried = regions[1](*carried)
    return carried


@while_.infer
def _(*init: Type, regions: Sequence[Block]) -> list[Type]:
    condition, after = _yielded(regions[0]), _yielded(regions[1])
    if len(condition) != 1 or len(after) != len(init):
        raise TypeFault(f"the regions yield {len(condition)} and {len(after)} values; expected 1 and {len(init)}")
    _check_condition(condition[0])
    for region in regions:
        _check_takes(region, init)
    return [_common_type(a, b, i) for i, (a, b) in enumerate(zip(init, after, strict=True))]


@op("trips:int?, c:bool?, init:value* -> ys*", regions=1)
def loop(
    trips: Any = None,
    c: Any = None,
    *init: Any,
    regions: Sequence[Run],
    empty: Callable[[], Sequence[Any]] | None = None,
    scans: int = 0,
) -> Any:
    """Repeat the region (%i: i64[], %c: bool[], carried...) -> (c, carried..., scanned...) while c.

    At most ``trips`` times (ONNX Loop). The results are the last carried values and, for each of the ``scans``
    scanned ones, all of them stacked; ``empty`` makes these where there was no trip, of the declared types.
    """
    limit = 2**63 - 1 if trips is None else int(trips)
    go, carried, rows, i = True if c is None else bool(c), init, [[] for _ in range(scans)], 0
    while i < limit and go:
        again, *rest = regions[0](torch.tensor(i), torch.tensor(go), *carried)
        go, carried, i = bool(again), tuple(rest[: len(init)]), i + 1
        for row, value in zip(rows, rest[len(init) :], strict=True):
            row.append(value)
    if scans and not i:
        return (*carried, *(empty() if empty is not None else [torch.empty(0)] * scans))
    return (*carried, *map(torch.stack, rows))


@loop.infer
def _(
    trips: Type | None = None, c: Type | None = None, *init: Type, regions: Sequence[Block], scans: int = 0
) -> list[Type]:
    yielded = _yielded(regions[0])
    after = yielded[1:]
    if not yielded or len(after) != len(init) + scans:
        raise TypeFault(f"the body yields {len(after)} values for {len(init)} carried and {scans} scanned ones")
    _check_condition(yielded[0])
    _check_takes(regions[0], [TensorType(DType.I64), TensorType(DType.BOOL), *init])
    carried = [_common_type(a, b, i) for i, (a, b) in enumerate(zip(init, after, strict=False))]
    rows: list[Type] = []
    for i, t in enumerate(after[len(init) :], len(init)):
        if not isinstance(t, TensorType):
            raise TypeFault(f"a scanned value is {t}; expected a tensor")
        rows.append(t.with_dims((unknown(100 * i + 99), *t.dims)))
    return [*carried, *rows]


@op("xs:value* -> ys*", regions=1)
def fusion(*xs: Any, regions: Sequence[Run]) -> Any:
    """A region of primitive ops that a code generator turns into one kernel."""
    return regions[0](*xs)


@fusion.infer
def _(*xs: Type, regions: Sequence[Block]) -> list[Type]:
    given, wanted = list(xs), [a.type for a in regions[0].args]
    if given != wanted:
        raise TypeFault(f"the region takes {types_text(wanted)}; expected {types_text(given)}")
    return _yielded(regions[0])


fusion.shard(as_inferred)
