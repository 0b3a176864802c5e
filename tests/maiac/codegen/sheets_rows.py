"""Sheets of reductions over rows, and of elementwise groups, over views of all kinds."""

from __future__ import annotations

from collections.abc import Sequence

from maiac.ir import DType, Value
from maiac.ir.dims import DimLike, product, sym

from .sheet import FUSED, Runner, Sheet, dims_of
from .sheets_products import viewed

REDUCTIONS = ("sum", "mean", "amax", "amin")
FLOATS = (DType.F32, DType.F32, DType.F32, DType.BF16, DType.F64, DType.F16)
TAME = ("tanh", "sigmoid", "sin", "cos", "relu", "abs", "neg", "erf", "silu", "gelu", "softsign", "hardswish")
PAIRS = ("add", "sub", "mul", "maximum", "minimum")
EPSILON = 1e-3  # of norms
ROW_ULPS = 8
DOUBLE_ULPS = 32  # rows of float64 are summed in one chain where elements do not lie side by side
WHOLE = (DType.I64, DType.I32, DType.I8, DType.U8)


def rows(seed: int, count: int) -> Runner:
    """Softmax, norms and reductions, alone and with elementwise steps before and behind."""
    s = Sheet("rows", seed, FUSED, T=(0, 150), S=(1, 150), U=(1, 9))
    t, u, v = sym("T"), sym("S"), sym("U")
    for _ in range(count):
        dtype = s.pick(*FLOATS)
        # The last symbol has no empty sizes: the greatest element of nothing is an error.
        dims = s.pick((t, u), (t, 40), (t, v, u), (t, 17, u), (v, u, 3, 5), (t, v, 64), (2, u, v), (u,), (t, 8, v, 7))
        x = viewed(s, dtype, *dims)
        if s.chance(0.3):  # channels last
            x = s.emit("transpose", s.arg(dtype, dims[0], *dims[2:], *dims[1:2]), perm=_last_to_second(len(dims)))
        x = prologue(s, x)
        for label, y, scale in reduced(s, x):
            epilogue(s, f"{label} of {dims_of(x)}", x, y, scale)
    return s.finish()


def _last_to_second(rank: int) -> tuple[int, ...]:
    return (0, *([rank - 1] if rank > 1 else []), *range(1, rank - 1))


def prologue(s: Sheet, x: Value) -> Value:
    """Elementwise steps in front of a reduction."""
    dtype, dims = dims_of(x).element, dims_of(x).dims
    kind = s.pick("none", "none", "scale", "row", "column", "activation", "where")
    if kind == "scale":
        return s.emit("mul", x, s.number(0.37, dtype))
    if kind == "row":
        return s.emit("add", x, s.arg(dtype, dims[-1]))
    if kind == "column":
        return s.emit("mul", x, s.arg(dtype, *dims[:-1], 1))
    if kind == "activation":
        return s.emit(s.pick("tanh", "sin", "gelu"), x)
    if kind == "where":
        return s.emit("where", s.arg(DType.BOOL, *dims[-2:]), x, s.number(-1.5, dtype))
    return x


def reduced(s: Sheet, x: Value) -> Sequence[tuple[str, Value, DimLike]]:
    """One or two reductions of a value over the same dims, and the size of what they are summed from."""
    dims, dtype = dims_of(x).dims, dims_of(x).element
    kept = [i for i, d in enumerate(dims) if d == sym("T")]  # may be empty
    kind = s.pick("softmax", "log_softmax", "layer_norm", "rms_norm", "reduce", "reduce", "two")
    if kind in ("softmax", "log_softmax"):
        dim = s.random.choice([i for i in range(len(dims)) if i not in kept])
        return [(f"{kind} dim={dim}", s.emit(kind, x, dim=dim), 1 if kind == "log_softmax" else 0)]
    if kind == "layer_norm":
        last = s.random.randint(1, max(len(dims) - len(kept), 1))
        shape = dims[len(dims) - last :]
        affine = [s.arg(dtype, *shape) if s.chance(0.7) else None for _ in range(2)]
        y = s.emit("layer_norm", x, *affine, dims=last, eps=EPSILON)
        return [(f"layer_norm dims={last}", y, round(EPSILON**-0.5))]  # a row of one element is all rounding
    if kind == "rms_norm":
        y = s.emit(kind, x, s.arg(dtype, dims[-1]) if s.chance(0.7) else None, eps=EPSILON)
        return [(kind, y, 1)]
    over = [i for i in range(len(dims)) if i not in kept]
    over = sorted(s.random.sample(over, s.random.randint(1, len(over))))
    names = [s.pick(*REDUCTIONS)] if kind == "reduce" else s.random.sample(REDUCTIONS, 2)
    attrs = {"dims": None if len(over) == len(dims) and s.chance() else tuple(over), "keepdim": s.chance()}
    terms = product([dims[i] for i in over])
    return [(f"{name} {attrs}", s.emit(name, x, **attrs), terms if name == "sum" else 1) for name in names]


def epilogue(s: Sheet, label: str, x: Value, y: Value, scale: DimLike) -> None:
    """Elementwise steps behind a reduction: with the row itself where shapes allow."""
    ulps = DOUBLE_ULPS if dims_of(x).element is DType.F64 else ROW_ULPS
    fits = len(dims_of(x).dims) == len(dims_of(y).dims)
    kind = s.pick("none", "activation", "row", "cast", "both")
    if kind == "both" and fits:
        s.give(f"{label} both", s.emit("mul", x, y), ulps=ulps, scale=scale)
    elif kind == "activation":
        y = s.emit("tanh", y)
    elif kind == "row" and fits:
        y = s.emit("sub", x, y)
    elif kind == "cast":
        y = s.emit("cast", y, to=DType.BF16)
    s.give(f"{label} {kind}", y, ulps=ulps, scale=scale)


def elementwise(seed: int, count: int) -> Runner:
    """Groups of elementwise steps over operands that broadcast and lie in any way."""
    s = Sheet("elementwise", seed, FUSED, T=(0, 150), S=(0, 150), U=(0, 7))
    t, u, v = sym("T"), sym("S"), sym("U")
    for i in range(count):
        dims: tuple[DimLike, ...] = s.pick((t,), (t, u), (v, t, u), (t, 5, u), (3, t, v, 4), (t, u, 1), (2, 1, t))
        values = [viewed(s, s.pick(*FLOATS), *dims), viewed(s, DType.F32, *dims)]
        for _ in range(s.random.randint(1, 6)):
            values.append(step(s, values, dims))
        label = f"{i}: " + " ".join(op.name for op in s.main.body if op.results and op.results[0] in values)
        s.give(label, *values[-2:])
        whole = [viewed(s, s.pick(*WHOLE), *dims), s.arg(DType.I64, dims[-1])]
        whole.append(s.emit(s.pick("add", "sub", "mul", "maximum"), *whole))
        s.give(f"{i}: whole", whole[-1], s.emit(s.pick("lt", "eq", "ge"), whole[0], whole[-1]))
    return s.finish()


def step(s: Sheet, values: Sequence[Value], dims: tuple[DimLike, ...]) -> Value:
    """One elementwise step on values at hand."""
    x = s.random.choice(values)
    dtype = dims_of(x).element
    kind = s.pick("one", "one", "pair", "pair", "broadcast", "cast", "where", "number", "clamp", "move")
    if kind == "one":
        return s.emit(s.pick(*TAME), x)
    if kind == "pair":
        return s.emit(s.pick(*PAIRS), x, s.emit("tanh", s.random.choice(values)))
    if kind == "broadcast":
        shape = [d if s.chance() else 1 for d in dims][s.random.randrange(len(dims)) :]
        return s.emit(s.pick(*PAIRS), x, s.arg(dtype, *shape))
    if kind == "cast":
        return s.emit("cast", x, to=s.pick(*FLOATS))
    if kind == "where":
        like = s.random.choice([v for v in values if dims_of(v).element is dtype])
        given = values[s.pick(0, 1)]  # equal to the bit in both runs, and so what is compared
        return s.emit("where", s.emit("lt", given, s.number(0.1, dims_of(given).element)), like, x)
    if kind == "number":
        return s.emit("sub", s.number(0.75, dtype), x)
    if kind == "clamp":
        return s.emit("clamp", x, min=-0.5, max=s.pick(0.75, None))
    return s.emit("flip", x, dims=(s.random.randrange(len(dims)),))
