"""Attention written out of products and a softmax becomes the op ``attention``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from maiac.ir import DimLike, DType, Op, Result, TensorType, Value
from maiac.ir.dims import product

from ..pattern import both_orders, producer, splat
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule
from ..rules.shape import int_tuple, tensor_of
from .positions import contents

ATTENTION: list[Rule] = []

HIDDEN = -6e4  # what is added to hide a position: exp() of it is 0 beside any score

Lead = tuple[DimLike, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """How the scores that a softmax takes are made: ``softcap(q k^T * scale) + masks``."""

    q: Value
    kt: Value
    lead: Lead  # of the product
    scale: float
    softcap: float
    masks: tuple[Mask, ...]


@dataclass(frozen=True, slots=True)
class Mask:
    """What is added to scores, times ``times``. ``lead``: what it broadcasts to.

    hidden: what stands in place of scores where bools are false (``negated``: true); None where there are no bools.
    """

    value: Value
    lead: Lead
    times: float = 1.0
    hidden: float | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Walk:
    """What was met between the softmax and the product."""

    scale: float = 1.0
    cap: float = 0.0
    masks: tuple[Mask, ...] = field(default_factory=tuple[Mask, ...])
    left: int = 14  # ops to go: sums are looked into on both sides, which doubles the ways


# **** from the softmax to the product ****


def scores_of(value: Value, walk: Walk) -> Scores | Miss | None:
    """How scores are made; a Miss where something in them has no place in the op, None where no product makes them."""
    op = producer(value, "matmul", "add", "sub", "mul", "div", "where", "cast", "copy", "reshape", "expand")
    if op is None or not walk.left:
        return None
    walk = replace(walk, left=walk.left - 1)
    if op.name == "matmul":
        total = walk.scale * walk.cap if walk.cap else walk.scale
        return Scores(op.operand(0), op.operand(1), tensor_of(value).dims[:-2], total, walk.cap, walk.masks)
    if op.name in ("cast", "copy"):
        return scores_of(op.operand(0), walk) if tensor_of(op.operand(0)).element.is_float else None
    if op.name in ("reshape", "expand"):
        here, there = tensor_of(value).dims, tensor_of(op.operand(0)).dims
        return scores_of(op.operand(0), walk) if here[-2:] == there[-2:] and product(here) == product(there) else None
    if op.name in ("add", "sub"):
        return _masked(op, walk)
    if op.name == "where":
        return _hidden(op, walk)
    return _scaled(op, walk)


def _masked(op: Op, walk: Walk) -> Scores | Miss | None:
    miss: Miss | None = None
    for x, m in both_orders(op):
        if tensor_of(x).dims != tensor_of(op.result).dims:
            continue
        lead = tensor_of(op.result).dims[:-2]
        term = Mask(m, lead, walk.scale if op.name == "add" else -walk.scale)
        found = scores_of(x, replace(walk, masks=(*walk.masks, term)))
        if isinstance(found, Scores) and found.softcap and walk.cap:
            return Miss("a mask is added before the scores are capped", m)
        if isinstance(found, Scores):
            return found
        miss = found or miss
    return miss


def _hidden(op: Op, walk: Walk) -> Scores | Miss | None:
    c, x, y = op.operand(0), op.operand(1), op.operand(2)
    for scores, other, negated in ((x, y, False), (y, x, True)):
        number = splat(other)
        if number is None or tensor_of(scores).dims != tensor_of(op.result).dims:
            continue
        hides = number <= HIDDEN and walk.scale == 1 and not walk.cap
        mask = Mask(c, tensor_of(op.result).dims[:-2], 1.0, float(number), negated)
        found = scores_of(scores, replace(walk, masks=(*walk.masks, mask)))
        if isinstance(found, Scores) and not hides:
            return Miss(f"scores that are replaced by {number} are not hidden", c)
        if found is not None:
            return found
    return None


def _scaled(op: Op, walk: Walk) -> Scores | Miss | None:
    for x, c in both_orders(op):
        number = splat(c)
        if number is None or not number or tensor_of(x).dims != tensor_of(op.result).dims:
            continue
        capped = producer(x, "tanh") if op.name == "mul" else None
        if capped is None:
            return scores_of(x, replace(walk, scale=walk.scale * number if op.name == "mul" else walk.scale / number))
        if walk.scale != 1 or walk.cap or number < 0:
            return Miss("scores are scaled after they are capped", x)
        return scores_of(capped.operand(0), replace(walk, cap=float(number)))
    return None


def weights_under(value: Value) -> tuple[Op, list[Op]] | None:
    """The softmax that makes a product's left operand, and the ops between; 0 in place of NaN is what the op gives."""
    between: list[Op] = []
    while True:
        op = producer(value, "softmax", "cast", "copy", "reshape", "where")
        if op is None:
            return None
        if op.name == "softmax":
            at = op.attrs.get("dim", -1)
            return (op, between) if at in (-1, tensor_of(value).rank - 1) else None
        inner = op.operand(0)
        if op.name == "where":
            test = producer(inner, "is_nan")
            if test is None or test.operand(0) is not op.operand(2) or splat(op.operand(1)) != 0:
                return None
            between.append(test)
            inner = op.operand(2)
        if tensor_of(inner).dims[-2:] != tensor_of(value).dims[-2:] or not tensor_of(inner).element.is_float:
            return None
        between.append(op)
        value = inner


# **** building ****


@rule("matmul", table=ATTENTION)
def attention_of_parts(op: Op, b: Rewriter) -> Outcome:
    """softmax(q k^T * scale + mask) v -> attention q, k, v, mask, in whichever spelling."""
    under = weights_under(op.operand(0))
    turned = producer(op.operand(1), "transpose") if under is None else None
    flipped = turned is not None and _swaps_last(turned)  # v^T softmax(..)^T, where channels stand first
    if turned is not None and flipped:
        under = weights_under(turned.operand(0))
    if under is None:
        return _near(op.operand(0))
    softmax, between = under
    between = [*between, turned] if turned is not None and flipped else between
    found = scores_of(softmax.operand(0), Walk())
    if found is None:
        return Miss("no product makes the scores", softmax.operand(0))
    if isinstance(found, Miss):
        return found
    inner = {*between, op}
    for each in (softmax, *between):
        if any(user not in inner for r in each.results for user in r.uses):
            return Miss("the attention weights are read elsewhere, too", each.result)
    lead = tensor_of(softmax.result).dims[:-2]
    if not flipped:
        return _build(op.operand(0), op.operand(1), tensor_of(op.result), found, lead, b)
    v = op.operand(0)
    type = tensor_of(op.result)
    swap = (*range(type.rank - 2), type.rank - 1, type.rank - 2)
    if tensor_of(v).rank != type.rank:
        return Miss("the values have other leading dims than the product", v)
    want = TensorType(type.dtype, tuple(type.dims[i] for i in swap), tuple(type.split[i] for i in swap), type.owed)
    y = _build(between[-1].operand(0), b.emit("transpose", v, perm=swap), want, found, lead, b)
    return b.emit("transpose", y, perm=swap) if isinstance(y, Value) else y


def _near(value: Value) -> Miss | None:
    """A Miss where a softmax is not far: something between it and the product has no place in the op."""
    for _ in range(4):
        if not isinstance(value, Result) or not value.op.operands:
            return None
        if value.op.name == "softmax":
            return Miss("attention weights are changed before the product, or the softmax is over another dim", value)
        value = value.op.operand(0)
    return None


def _swaps_last(op: Op) -> bool:
    perm = int_tuple(op.attrs["perm"])
    n = len(perm)
    return n >= 2 and perm == (*range(n - 2), n - 1, n - 2)


def _build(weights: Value, values: Value, result: TensorType, found: Scores, lead: Lead, b: Rewriter) -> Outcome:
    """The op in place of the product of attention weights and values; ``result`` is its type."""
    dtype, kt = result.element, tensor_of(found.kt)
    if min(kt.rank, tensor_of(found.q).rank, tensor_of(values).rank) < 2:
        return Miss("an operand is a vector", found.kt)
    if any(tensor_of(x).is_sharded and found.lead != lead for x in (found.q, found.kt, values)):
        return Miss("an operand is sharded, and its leading dims are joined", found.kt)
    keys = b.emit("transpose", found.kt, perm=(*range(kt.rank - 2), kt.rank - 1, kt.rank - 2))
    at = tensor_of(weights).dims[:-2]
    operands = [lifted(b, x, had, lead) for x, had in ((found.q, found.lead), (keys, found.lead), (values, at))]
    q, k, v = (None if x is None else _narrowed(x, dtype) for x in operands)
    if q is None or k is None or v is None:
        return Miss("q, k and v have other leading dims or other dtypes than the product", weights)
    ranks = {tensor_of(x).rank for x in (q, k, v)}
    if len(ranks) > 1 or tensor_of(k).dims[:-2] != tensor_of(v).dims[:-2]:
        return Miss("q, k and v broadcast otherwise than the op allows", k)
    if len(lead) != tensor_of(q).rank - 2:
        return Miss("the scores have leading dims that q lacks", q)
    heads = (tensor_of(q).dims[-3], tensor_of(k).dims[-3]) if len(lead) > 1 else (1, 1)
    if heads[0] != heads[1] != 1:
        return Miss("queries are shared among heads of keys", q)
    mask = _mask(b, found.masks, lead, dtype)
    if isinstance(mask, Miss):
        return mask
    attrs = {"scale": float(found.scale), "softcap": float(found.softcap)}
    y = b.emit("attention", q, k, v, mask, **attrs)
    if product(tensor_of(y).dims) != product(result.dims):
        return Miss("the op would give another shape", y)
    return y if y.type == result else b.emit("reshape", y, shape=result.dims)


def _narrowed(x: Value, dtype: DType) -> Value | None:
    """x in a dtype: what was widened to be multiplied."""
    if tensor_of(x).dtype == dtype:
        return x
    op = producer(x, "cast")
    return op.operand(0) if op is not None and tensor_of(op.operand(0)).dtype == dtype else None


def _mask(b: Rewriter, masks: tuple[Mask, ...], lead: Lead, dtype: DType) -> Value | Miss | None:
    """One mask of all, the innermost first; a bool where all hide with -inf."""
    infinity = float("-inf")
    hidden = {m.hidden for m in masks} - {None, infinity}
    if len(hidden) > 1:
        return Miss("scores are hidden by different numbers", masks[0].value)
    bools = all(m.hidden == infinity for m in masks)
    total: Value | None = None
    for each in reversed(masks):
        term = _term(b, each, lead, dtype)
        if term is None:
            return Miss("the mask has other leading dims than the product, or loses digits in its dtype", each.value)
        if each.hidden is None or bools:
            total = term if total is None else b.emit("logical_and" if bools else "add", total, term)
            continue
        # A row that sees nothing is the mean of all positions: beside the least number, scores are lost.
        number = b.constant(infinity if each.hidden == infinity else _least(dtype), dtype)
        total = b.emit("where", term, b.constant(0.0, dtype) if total is None else total, number)
    return total


def _term(b: Rewriter, mask: Mask, lead: Lead, dtype: DType) -> Value | None:
    """What is added to scores, or where they are seen."""
    value = lifted(b, mask.value, mask.lead, lead)
    if value is None or (mask.hidden is None and not _keeps_digits(mask.value, dtype)):
        return None
    if mask.hidden is not None:
        return b.emit("logical_not", value) if mask.negated else value
    if mask.times != 1:
        value = b.emit("mul", value, b.constant(mask.times, DType.F64))
    return value if tensor_of(value).dtype == dtype else b.emit("cast", value, to=dtype)


def _keeps_digits(value: Value, dtype: DType) -> bool:
    """Whether a mask is the same in a dtype, but for what hides; biases of f32 are not in half precision."""
    have, number = tensor_of(value).element, splat(value)
    if have in (dtype, DType.BOOL) or (have.is_float and have.bits < dtype.bits):
        return True
    op = producer(value, "where", "cast", "copy", "reshape", "expand", "transpose", "slice")
    if op is not None and number is None:
        return all(_keeps_digits(v, dtype) for v in (op.operands[1:] if op.name == "where" else op.operands) if v)
    tensor = contents(value)
    if tensor is None and number is None:
        return False
    import torch

    from maiac.ir.ops.values import to_torch

    wide = torch.tensor(number, dtype=torch.double) if tensor is None else tensor.double()
    return bool(((wide.to(to_torch(dtype)).double() == wide) | (wide <= HIDDEN)).all())


def _least(dtype: DType) -> float:
    """The least finite number of a dtype, where a literal may be below it."""
    return {DType.F16: -65504.0, DType.BF16: -3.3895313892515355e38, DType.F32: -3.4028234663852886e38}.get(
        dtype, -float("inf")
    )


def lifted(b: Rewriter, x: Value, have: Lead, want: Lead) -> Value | None:
    """x, whose leading dims broadcast to ``have``, with leading dims that broadcast to ``want`` alike."""
    from maiac.ir.ops.shape import factor_groups  # late: it imports torch

    type = tensor_of(x)
    if have == want or type.rank <= 2:
        return x
    own = (*[1] * (len(have) + 2 - type.rank), *type.dims[:-2])
    out: list[DimLike] = [1] * len(want)
    for sources, targets in factor_groups(have, want):
        mine = [own[i] for i in sources]
        if all(n == 1 for n in mine):
            continue
        if mine != [have[i] for i in sources]:
            return None
        for j in targets:
            out[j] = want[j]
    shape = (*out, *type.dims[-2:])
    return x if shape == type.dims else b.emit("reshape", x, shape=shape)


# **** what stands before the op ****


@rule("attention", table=ATTENTION)
def scale_into_attention(op: Op, b: Rewriter) -> Outcome:
    """attention(q * c, k) -> attention q, k {scale = scale * c}, and alike for keys."""
    for at in (0, 1):
        views: list[Op] = []
        value = op.operand(at)
        while (view := producer(value, "reshape", "transpose", "expand", "copy")) is not None:
            views.append(view)
            value = view.operand(0)
        scaled = producer(value, "mul", "div")
        if scaled is None:
            continue
        for x, c in both_orders(scaled):
            number = splat(c)
            if number is None or not number or x.type != scaled.result.type:
                continue
            for view in reversed(views):
                x = b.like(view, [x])
            scale = op.attrs.get("scale")
            had = scale if isinstance(scale, float) else _usual(op)
            if had is None:
                return Miss("the head dim is known only at run time", op.operand(0))
            by = float(number) if scaled.name == "mul" else 1 / number
            operands = [*op.operands[:at], x, *op.operands[at + 1 :]]
            return b.emit_op("attention", operands, {**op.attrs, "scale": had * by}).result
    return None


def _usual(op: Op) -> float | None:
    d = tensor_of(op.operand(0)).dims[-1]
    return d**-0.5 if isinstance(d, int) else None


@rule("attention", table=ATTENTION)
def repeated_heads(op: Op, b: Rewriter) -> Outcome:
    """attention(q, repeat(k), repeat(v)) -> attention q, k, v: the op shares key heads among groups of queries."""
    k, v = op.operand(1), op.operand(2)
    if tensor_of(k).rank < 4:
        return None
    found = [_unrepeated(x) for x in (k, v)]
    if found[0] is None and found[1] is None:
        return None
    if found[0] is None or found[1] is None:
        return Miss("only one of keys and values is repeated", k)
    made: list[Value] = []
    for base, shape in (found[0], found[1]):
        if not _split_alike(tensor_of(base), tensor_of(op.operand(0))):
            return Miss("groups of heads are split over ranks otherwise than the queries", base)
        made.append(base if tensor_of(base).dims == shape else b.emit("reshape", base, shape=shape))
    if tensor_of(made[0]).dims[:-2] != tensor_of(made[1]).dims[:-2]:
        return Miss("keys and values are repeated differently", v)
    return b.emit_op("attention", (op.operand(0), *made, *op.operands[3:]), op.attrs).result


def _split_alike(base: TensorType, q: TensorType) -> bool:
    """Whether what is repeated, [*b g 1 s d] or [*b 1 s d], is split over ranks as the queries [*b h t d] are."""
    if not base.is_sharded and not q.is_sharded:
        return True
    kept = (*base.split[:-3], *base.split[-2:]) if base.rank > q.rank else base.split
    return not base.owed and not any(base.split[-3:]) and kept[:-2] == q.split[:-2]


def _unrepeated(value: Value) -> tuple[Value, tuple[DimLike, ...]] | None:
    """What is repeated for each group of heads, and the shape [*b g s d] to give it."""
    want = tensor_of(value).dims
    while (copied := producer(value, "copy")) is not None:
        value = copied.operand(0)
    joined = producer(value, "reshape")
    spread_of = value if joined is None else joined.operand(0)
    while (copied := producer(spread_of, "copy")) is not None:
        spread_of = copied.operand(0)
    spread = producer(spread_of, "expand")
    if spread is None:
        return None
    base, wide = tensor_of(spread.operand(0)).dims, tensor_of(spread.result).dims
    if joined is None:
        same = len(base) == len(wide) and base[-3] == 1 and (*base[:-3], *base[-2:]) == (*wide[:-3], *wide[-2:])
        return (spread.operand(0), base) if same else None
    if len(wide) != len(want) + 1 or len(base) != len(wide) or base[-3] != 1:
        return None
    if wide[:-4] != want[:-3] or wide[-2:] != want[-2:] or (*base[:-4], *base[-2:]) != (*wide[:-4], *wide[-2:]):
        return None
    if base[-4] not in (1, wide[-4]):
        return None
    return spread.operand(0), (*base[:-3], *base[-2:])
