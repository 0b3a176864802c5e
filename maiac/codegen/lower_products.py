"""Matrix products and convolutions, with what follows them as an epilogue."""

from __future__ import annotations

from collections.abc import Sequence

from maiac.ir.dims import DimLike, evaluate, product
from maiac.ir.dtypes import DType
from maiac.ir.graph import State, Weight
from maiac.ir.kinds import PRODUCTS
from maiac.ir.types import TensorType
from maiac.runtime.plan import Slot, Source, Step

from .convolution import Convolution
from .epilogue import epilogue
from .expr import Unsupported, compute, plain
from .kernel import Writer, packed
from .loops import Group, attributes, type_of
from .lowering import CHANNELS_LAST, Context, lowering, numbers
from .packing import matrix
from .views import Buffer, Loop, View, nest, require_equal


def lower_product(ctx: Context, step: Step, group: Group) -> None:
    """A product and the elementwise steps of its group."""
    if compute(type_of(step.results[0]).element) is not DType.F32:
        raise Unsupported(f"products of {type_of(step.results[0]).element}")
    {"linear": _linear, "matmul": _matmul, "conv": _conv}[step.op.name](ctx, step, group)


@lowering(*sorted(PRODUCTS))
def single(ctx: Context, step: Step) -> None:
    """A product of its own."""
    lower_product(ctx, step, Group([], {}, [step.results[0]]))


def _outputs(ctx: Context, group: Group, order: Sequence[int]) -> dict[Slot, View]:
    return {slot: ctx.result(slot, order) for slot in group.results}


def rows_of(ctx: Context, x: View) -> tuple[View, DimLike]:
    """x with its last dim in one piece and all others as rows of one stride; a copy where it does not lie so."""
    if x.strides[-1] != 1:
        x = ctx.contiguous(x)
    loops = nest([x], range(x.rank - 1))
    if len(loops) > 1:
        x = ctx.contiguous(x)
        loops = nest([x], range(x.rank - 1))
    assert len(loops) == 1
    stride = loops[0].steps[0]
    return x, x.dims[-1] if loops[0].count == 1 else stride


def _linear(ctx: Context, step: Step, group: Group) -> None:
    """y[*b, n] = x[*b, k] w[n, k]"""
    source, weight, *biases = step.operands
    bias = biases[0] if biases else None
    if not isinstance(weight, Weight) or isinstance(weight, State):
        _product(ctx, step, group, ctx.view(source), ctx.view(weight).transpose([1, 0]), bias)
        return
    x, lda = rows_of(ctx, ctx.view(source))
    _gemm(ctx, step, group, x, lda, weight, False, bias)


def _gemm(
    ctx: Context, step: Step, group: Group, x: View, lda: DimLike, weight: Weight, flipped: bool, bias: Source | None
) -> None:
    if not isinstance(weight.type, TensorType):
        raise Unsupported(f"a weight of {weight.type}")
    packing, kind, n, k, scales = matrix(weight.type, flipped)
    require_equal(x.dims[-1], k)
    panels = ctx.packed(weight, packing)
    w = Writer()
    anchor = step.results[0]
    order = range(len(plain(anchor.type).dims))
    outputs = _outputs(ctx, group, order)
    finish = epilogue(w, group, anchor, outputs, order, [] if bias is None else [("+", ctx.view(bias))])
    a, b = w.pointer(x, c_type="void"), w.pointer(panels, c_type="void")
    shape = f"{{Weight::{kind}, {w.size(n)}, {w.size(k)}, {w.size(scales)}, {b}}}"
    rows, lead = product(x.dims[:-1]), w.size(lda)
    w.emit(f"const Packed factor = {shape};")
    widening, parts = ("nullptr", ["gemm"]) if kind == "f32" else ("&low_precision", ["gemm", "lowp"])
    given = f"{w.size(rows)}, {memory_type(x)}, {a}, {lead}, factor, {widening}"
    w.call(f"gemm({given}, epilogue<decltype({finish})>, &{finish});", *parts)
    ctx.add(w.kernel(_name("gemm", group), ctx.loc, ctx.flops))


def memory_type(x: View) -> str:
    """What the library calls a view's elements. Unsupported where it does not know them."""
    if x.dtype not in (DType.F32, DType.BF16, DType.F16):
        raise Unsupported(f"products of {x.dtype}")
    return f"Type::{x.dtype}"


def _name(base: str, group: Group) -> str:
    return "_".join([base, *dict.fromkeys(s.op.name for s in group.steps)])[:40]


def _matmul(ctx: Context, step: Step, group: Group) -> None:
    """z[*b, m, n] = x[*b, m, k] y[*b, k, n]"""
    x, y = ctx.view(step.operands[0]), step.operands[1]
    if isinstance(y, Weight) and not isinstance(y, State) and len(plain(y.type).dims) == 2 and x.rank >= 2:
        rows, lda = rows_of(ctx, x)
        _gemm(ctx, step, group, rows, lda, y, True, None)
        return
    _product(ctx, step, group, x, ctx.view(y), None)


def _product(ctx: Context, step: Step, group: Group, x: View, y: View, bias: Source | None) -> None:
    """A product of two activations: y is packed on the way."""
    anchor = step.results[0]
    dims = plain(anchor.type).dims
    if len(dims) < 2 or x.rank < 2 or y.rank < 2:
        raise Unsupported("a product with a vector")
    lead = dims[:-2]
    if x.dtype is not y.dtype:
        raise Unsupported("a product of two dtypes")
    m, n, k = dims[-2], dims[-1], x.dims[-1]
    require_equal(k, y.dims[-2])
    if y.rank == 2 and x.rank > 2:  # one right factor: all of x is its rows
        x, stride = rows_of(ctx, x)
        m = product(x.dims[:-1])
        x, lead = View(x.buffer, (m, k), (stride, 1), x.offset), ()
    batched = [v.expand((*lead, *v.dims[-2:])) for v in (x, y)]
    loops = nest(batched, range(len(lead)))
    if len(loops) > 2:
        raise Unsupported("a product over three batch dims that do not lie in one piece")
    while len(loops) < 2:
        loops.insert(0, Loop(1, (0, 0)))
    w = Writer()
    outputs = _outputs(ctx, group, range(len(dims)))
    extra = [] if bias is None else [("+", ctx.view(bias))]
    finish = epilogue(w, group, anchor, outputs, range(len(dims)), extra)
    factors: list[str] = []
    for at, (view, row, inner) in enumerate(((x, -2, -1), (y, -1, -2))):
        steps = [loops[0].steps[at], loops[1].steps[at], view.strides[row], view.strides[inner]]
        given = ", ".join(w.size(s) for s in steps)
        factors.append(f"{{{memory_type(view)}, {w.pointer(view, c_type='void')}, {given}}}")
    w.emit(f"const Factor left = {factors[0]}, right = {factors[1]};")
    sizes = ", ".join(w.size(d) for d in (loops[0].count, loops[1].count, m, n, k))
    w.call(f"matmul({sizes}, left, right, epilogue<decltype({finish})>, &{finish});", "gemm")
    ctx.add(w.kernel(_name("matmul", group), ctx.loc, ctx.flops))


def _conv(ctx: Context, step: Step, group: Group) -> None:
    """Channels-last convolution of one or two spatial dims."""
    a, anchor = attributes(step), step.results[0]
    x, weight = ctx.view(step.operands[0]), step.operands[1]
    bias = step.operands[2] if len(step.operands) > 2 else None
    spatial = len(a["stride"])
    if spatial > 2 or not isinstance(weight, Weight) or isinstance(weight, State):
        raise Unsupported(f"a convolution of {spatial} dims, or of a weight that is computed")
    type = plain(weight.type)
    if type.element is not DType.F32 or x.dtype is not DType.F32:
        raise Unsupported(f"convolutions of {x.dtype}")
    if x.strides[1] != 1 and x.dims[1] != 1:
        x = ctx.ordered(x, CHANNELS_LAST[x.rank])
    o, c, *kernel = numbers(type.dims)
    require_equal(x.dims[1], c * a["groups"])
    pads = [*a["padding"]]
    before = pads[::2] if len(pads) == 2 * spatial else pads
    out = plain(anchor.type).dims
    lift = [1] * (2 - spatial)
    zero = [0] * (2 - spatial)
    geometry: dict[str, Sequence[DimLike]] = {
        "n": [x.dims[0]],
        "h": [*lift, *x.dims[2:]],
        "c": [x.dims[1]],
        "oh": [*lift, *out[2:]],
        "o": [o],
        "kh": [*lift, *kernel],
        "sh": [*lift, *a["stride"]],
        "pt": [*zero, *before],
        "dh": [*lift, *a["dilation"]],
        "groups": [a["groups"]],
        "xn": [x.strides[0], *([0] if spatial == 1 else []), *x.strides[2:]],
    }
    fields = [v for values in geometry.values() for v in values]
    convolution = Convolution.choose(fields, ctx.likely)
    panels = ctx.packed(weight, convolution.packing([evaluate(f, ctx.likely) for f in fields]))
    order = CHANNELS_LAST[x.rank]
    w = Writer()
    outputs = _outputs(ctx, group, order)
    extra: list[tuple[str, View]] = []
    if bias is not None:
        extra.append(("+", ctx.view(bias).unsqueeze(1, spatial)))
    finish = epilogue(w, group, anchor, outputs, order, extra)
    source, b = w.pointer(x), w.pointer(panels, c_type="void")
    workspace = packed(Buffer("arena", DType.U8, 0, source=convolution))
    room = w.pointer(workspace, writes=True, reads=False, c_type="void")
    w.emit(f"const Conv geometry = {{{', '.join(w.size(d) for d in fields)}}};")
    call = f"geometry, {source}, {b}, {room}, epilogue<decltype({finish})>, &{finish}"
    w.call(f"conv(ConvKind::{convolution.kind}, {call});", "conv")
    ctx.add(w.kernel(_name(convolution.kind, group), ctx.loc, ctx.flops))
