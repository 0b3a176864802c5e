"""Reading by indices: embeddings and gathers along one dim."""

from __future__ import annotations

from maiac.ir.dims import DimLike, product
from maiac.ir.dtypes import DType
from maiac.runtime.plan import Step

from .expr import C_TYPE, Unsupported, plain
from .kernel import Writer
from .loops import attributes
from .lowering import Context, lowering
from .views import View, dense, nest


def take(ctx: Context, step: Step, x: View, ids: View, dim: int, wrap: bool) -> None:
    """Slices of x along a dim at indices, whose dims take the dim's place."""
    if ids.dtype not in (DType.I32, DType.I64):
        raise Unsupported(f"indices of {ids.dtype}")
    inner = x.dims[dim + 1 :]
    if len(nest([x], range(dim))) > 1 or not _in_one_piece(x, dim + 1):
        x = ctx.contiguous(x)
    if len(nest([ids], range(ids.rank))) > 1:
        ids = ctx.contiguous(ids)
    outer, rows = nest([x], range(dim)), nest([ids], range(ids.rank))
    size = x.dtype.bits // 8
    slot = step.results[0]
    type = plain(slot.type)
    target = ctx.new(type.element, type.dims)
    w = Writer()
    y, table, at = w.pointer(target, writes=True, c_type="char"), w.pointer(x, c_type="char"), w.pointer(ids)
    block: DimLike = product(inner) * size
    numbers = [outer[0].count, rows[0].count, block]
    places = [outer[0].steps[0] * size, x.strides[dim] * size, x.dims[dim]]
    given = ", ".join(w.size(n) for n in numbers)
    where = ", ".join(w.size(n) for n in places)
    w.call(
        f"take<{C_TYPE[ids.dtype]}>({given}, {table}, {where}, {at}, {w.size(rows[0].steps[0])},"
        f" {str(wrap).lower()}, {y});",
        "index",
    )
    ctx.add(w.kernel(step.op.name, ctx.loc, bytes=product(type.dims) * size * 2))
    home = ctx.homes.get(slot)
    if home is not None:
        place = ctx.result(slot)
        ctx.copy(target, place)
        return
    ctx.places[slot] = target


def _in_one_piece(x: View, first: int) -> bool:
    """Whether the dims from ``first`` on lie in row-major order without gaps."""
    dims = x.dims[first:]
    own = zip(dims, x.strides[first:], dense(dims), strict=True)
    return all(d == 1 or have == want for d, have, want in own)


@lowering("embedding")
def embedding(ctx: Context, step: Step) -> None:
    """Rows of a table."""
    take(ctx, step, ctx.view(step.operands[0]), ctx.view(step.operands[1]), 0, wrap=False)


@lowering("gather")
def gather(ctx: Context, step: Step) -> None:
    """Slices along a dim; negative indices count from the end."""
    x = ctx.view(step.operands[0])
    take(ctx, step, x, ctx.view(step.operands[1]), int(attributes(step)["dim"]) % x.rank, wrap=True)


@lowering("index_put")
def index_put(ctx: Context, step: Step) -> None:
    """Rows at indices replaced: in a state itself where it may be, else in a copy."""
    a, slot = attributes(step), step.results[0]
    x, values = ctx.view(step.operands[0]), ctx.view(step.operands[1])
    if len(step.operands) != 3 or a["accumulate"] or len(a["dims"]) != 1:
        raise Unsupported("writing at several indices, or adding")
    ids = ctx.view(step.operands[2])
    if ids.dtype not in (DType.I32, DType.I64) or ids.rank > 1 or values.dtype is not x.dtype:
        raise Unsupported("indices that are no row of numbers")
    dim = int(a["dims"][0]) % x.rank
    behind = x.rank - 1 - dim
    if not ids.rank:  # one row, which values then have no dim for
        ids = ids.unsqueeze(0)
        values = values.unsqueeze(max(values.rank - behind, 0))
    values = values.expand((*x.dims[:dim], ids.dims[0], *x.dims[dim + 1 :]))
    target = x
    if x.buffer.kind != "state" or slot not in ctx.updates:
        target = ctx.new(x.dtype, x.dims)
        ctx.copy(x, target)
    rows = nest([target, values], range(dim))
    if len(rows) > 1 or not _in_one_piece(values, dim + 1):
        values = ctx.contiguous(values)
        rows = nest([target, values], range(dim))
    outer = rows[0]
    size = x.dtype.bits // 8
    w = Writer()
    y = w.pointer(target, writes=True, reads=True, c_type="char")
    at, of = w.pointer(ids), w.pointer(values, c_type="char")
    count = w.size(ids.dims[0])
    block: DimLike = product(x.dims[dim + 1 :]) * size
    to = ", ".join(w.size(n) for n in (outer.steps[0] * size, target.strides[dim] * size, x.dims[dim]))
    source = ", ".join(w.size(n) for n in (outer.steps[1] * size, values.strides[dim] * size))
    w.call(
        f"put<{C_TYPE[ids.dtype]}>({w.size(outer.count)}, {count}, {w.size(block)}, {y}, {to}, {at},"
        f" {w.size(ids.strides[0])}, {of}, {source});",
        "index",
    )
    ctx.add(w.kernel("index_put", ctx.loc, bytes=product(values.dims) * size * 2))
    ctx.places[slot] = target
