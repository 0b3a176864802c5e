"""Normalisations and softmax."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, type_of, wider
from .registry import Unsupported, aten


@aten("softmax.int", "_softmax.default", "_safe_softmax.default", "log_softmax.int", "_log_softmax.default")
def softmax(c: Context, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    """Softmax or its logarithm along a dim, computed in the result's dtype."""
    name = "log_softmax" if "log_softmax" in c.name else "softmax"
    if not type_of(x).rank:
        return c.full(1 if name == "softmax" else 0, (), c.dtype)
    y = c.emit(name, c.cast(x, c.dtype), dim=dim)
    if "_safe_softmax" not in c.name:
        return y
    none = c.emit("all", c.emit("eq", x, c.scalar(float("-inf"))), dims=(dim,), keepdim=True)
    return c.emit("where", none, c.cast(c.scalar(0.0), c.dtype), y)


@aten("layer_norm.default")
def layer_norm(
    c: Context,
    x: Value,
    shape: list[DimLike],
    g: Value | None = None,
    b: Value | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    """Zero mean and unit variance over the last dims."""
    return c.emit("layer_norm", x, g, b, dims=len(shape), eps=eps)


@aten("native_layer_norm.default")
def native_layer_norm(c: Context, x: Value, shape: list[DimLike], g: Value | None, b: Value | None, eps: float) -> Any:
    """layer_norm with the mean and 1/deviation that its gradient reads."""
    y = c.emit("layer_norm", x, g, b, dims=len(shape), eps=eps)
    if not any(_reads(c, i) for i in (1, 2)):
        return y, None, None
    wide = c.cast(x, wider(type_of(x).element))
    dims = tuple(range(-len(shape), 0))
    mean = c.emit("mean", wide, dims=dims, keepdim=True)
    deviation = _rstd(c, c.emit("var", wide, dims=dims, correction=0, keepdim=True), eps)
    return y, c.cast(mean, _of(c, 1)), c.cast(deviation, _of(c, 2))


def _reads(c: Context, output: int) -> bool:
    """Whether anything reads an output of the node."""
    return any(len(user.args) < 2 or user.args[1] == output for user in c.node.users)


def _of(c: Context, index: int) -> DType:
    from ..importer import from_torch

    return from_torch(c.val[index].dtype)


def _rstd(c: Context, variance: Value, eps: float) -> Value:
    return c.emit("rsqrt", c.emit("add", variance, c.scalar(eps, variance)))


@aten("rms_norm.default", "_fused_rms_norm.default")
def rms_norm(c: Context, x: Value, shape: list[DimLike], g: Value | None = None, eps: float | None = None) -> Any:
    """Unit mean square over the last dim; several dims are one after a reshape."""
    type = type_of(x)
    if eps is None:
        import torch

        from ..importer import to_torch

        eps = torch.finfo(to_torch(type.element)).eps
    lead = type.dims[: type.rank - len(shape)]
    size: DimLike = 1
    for d in shape:
        size = d * size
    flat = c.reshape(x, (*lead, size))
    y = c.emit("rms_norm", flat, None if g is None else c.reshape(g, (size,)), eps=eps)
    y = c.reshape(y, type.dims)
    if "_fused" not in c.name:
        return y
    if not _reads(c, 1):
        return y, None
    wide = c.cast(x, wider(type.element))
    mean = c.emit("mean", c.emit("square", wide), dims=tuple(range(-len(shape), 0)), keepdim=True)
    return y, c.cast(_rstd(c, mean, eps), _of(c, 1))


@aten("group_norm.default")
def group_norm(
    c: Context, x: Value, groups: int, g: Value | None = None, b: Value | None = None, eps: float = 1e-5, *_: Any
) -> Value:
    """Zero mean and unit variance over each group of channels."""
    return c.emit("group_norm", x, g, b, groups=groups, eps=eps)


@aten("native_group_norm.default")
def native_group_norm(
    c: Context,
    x: Value,
    g: Value | None,
    b: Value | None,
    n: DimLike,
    channels: DimLike,
    size: DimLike,
    groups: int,
    eps: float,
) -> Any:
    """group_norm with the mean and 1/deviation that its gradient reads."""
    y = c.emit("group_norm", x, g, b, groups=groups, eps=eps)
    if not any(_reads(c, i) for i in (1, 2)):
        return y, None, None
    wide = c.reshape(c.cast(x, wider(type_of(x).element)), (n, groups, channels // groups * size))
    mean = c.emit("mean", wide, dims=(-1,))
    deviation = _rstd(c, c.emit("var", wide, dims=(-1,), correction=0), eps)
    return y, c.cast(mean, _of(c, 1)), c.cast(deviation, _of(c, 2))


@aten("_native_batch_norm_legit_no_training.default", "cudnn_batch_norm.default")
def batch_norm_inference(
    c: Context, x: Value, g: Value | None, b: Value | None, mean: Value, var: Value, momentum: float, eps: float
) -> Any:
    """batch_norm by running statistics; the saved ones are empty."""
    return c.emit("batch_norm", x, mean, var, g, b, eps=eps), None, None


@aten(
    "_native_batch_norm_legit.default",
    "_native_batch_norm_legit.no_stats",
    "_native_batch_norm_legit_functional.default",
    "native_batch_norm.default",
)
def batch_norm_training(c: Context, x: Value, g: Value | None, b: Value | None, *rest: Any) -> Any:
    """batch_norm by the batch's own statistics, which come out too; ``functional`` also updates the running ones."""
    *running, training, momentum, eps = rest
    mean, var = running if running else (None, None)
    if not training:
        assert mean is not None and var is not None
        kept = [c.cast(v, _of(c, place)) for place, v in ((-2, mean), (-1, var))] if len(c.val) > 3 else []
        return c.emit("batch_norm", x, mean, var, g, b, eps=eps), None, None, *kept
    over = tuple(d for d in range(type_of(x).rank) if d != 1)
    wide, g, b = (v and c.cast(v, wider(type_of(v).element)) for v in (x, g, b))
    batch_mean = c.emit("mean", wide, dims=over)
    batch_var = c.emit("var", wide, dims=over, correction=0)
    y = c.emit("batch_norm", wide, batch_mean, batch_var, g, b, eps=eps)
    made = (y, batch_mean, _rstd(c, batch_var, eps))
    outputs = [c.cast(v, _of(c, i)) for i, v in enumerate(made)]
    if len(c.val) > 3 and mean is not None and var is not None:
        count = type_of(x).elements() // type_of(x).dims[1]
        outputs += _updated(c, mean, var, batch_mean, batch_var, count, momentum)
    return tuple(outputs)


@aten("_batch_norm_with_update_functional.default")
def batch_norm_with_update(
    c: Context, x: Value, g: Value | None, b: Value | None, mean: Value, var: Value, momentum: float, eps: float
) -> Any:
    """The same with updated statistics; the reserve serves a GPU's gradient."""
    y, *saved, new_mean, new_var = batch_norm_training(c, x, g, b, mean, var, True, momentum, eps)
    return y, *saved, None, new_mean, new_var


def _updated(c: Context, mean: Value, var: Value, new_mean: Value, new_var: Value, count: Any, momentum: float) -> Any:
    """Running statistics after this batch; the variance counts as of a sample (n / (n - 1))."""
    sample = c.emit("mul", new_var, c.scalar(count))
    sample = c.emit("div", sample, c.cast(c.scalar(count - 1), type_of(new_var).element))
    out: list[Value] = []
    for place, old, new in ((-2, mean, new_mean), (-1, var, sample)):
        wide = c.cast(old, type_of(new).element)
        kept, added = c.emit("mul", wide, c.scalar(1 - momentum)), c.emit("mul", new, c.scalar(momentum))
        out.append(c.cast(c.emit("add", kept, added), _of(c, place)))  # the trace may have wider ones
    return out


@aten("instance_norm.default")
def instance_norm(
    c: Context,
    x: Value,
    g: Value | None,
    b: Value | None,
    mean: Value | None,
    var: Value | None,
    use_input: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Value:
    """Each channel of each sample normalised alone."""
    if not use_input:
        return c.emit("batch_norm", x, mean, var, g, b, eps=eps)
    channels = type_of(x).dims[1]
    if not isinstance(channels, int):
        raise Unsupported("instance_norm over a dynamic number of channels")
    return c.emit("group_norm", x, g, b, groups=channels, eps=eps)


@aten("_softmax_backward_data.default", "_log_softmax_backward_data.default")
def softmax_backward(c: Context, grad: Value, y: Value, dim: int, dtype: Any) -> Value:
    """The gradient of softmax, or of its logarithm, from the result."""
    if "_log_softmax" in c.name:
        total = c.emit("sum", grad, dims=(dim,), keepdim=True)
        out = c.emit("sub", grad, c.emit("mul", c.emit("exp", y), total))
    else:
        product = c.emit("mul", grad, y)
        total = c.emit("sum", product, dims=(dim,), keepdim=True)
        out = c.emit("sub", product, c.emit("mul", y, total))
    return c.cast(out, c.dtype)


def _masked(c: Context, values: tuple[Value, ...], mask: list[bool]) -> Any:
    return tuple(v if wanted else None for v, wanted in zip(values, mask, strict=True))


@aten("native_layer_norm_backward.default")
def layer_norm_backward(
    c: Context,
    grad: Value,
    x: Value,
    shape: list[DimLike],
    mean: Value,
    rstd: Value,
    g: Value | None,
    b: Value | None,
    mask: list[bool],
) -> Any:
    """Gradients of layer_norm by x, scale and shift."""
    over = tuple(range(-len(shape), 0))
    lead = tuple(range(type_of(x).rank - len(shape)))
    normal = c.emit("mul", c.emit("sub", x, mean), rstd)
    inner = grad if g is None else c.emit("mul", grad, g)
    centre = c.emit("mean", inner, dims=over, keepdim=True)
    along = c.emit("mean", c.emit("mul", inner, normal), dims=over, keepdim=True)
    dx = c.emit("sub", c.emit("sub", inner, centre), c.emit("mul", normal, along))
    dx = c.cast(c.emit("mul", dx, rstd), type_of(x).element)
    scaled = c.emit("mul", grad, normal)
    sums = [c.emit("sum", v, dims=lead) if lead else v for v in (scaled, grad)]
    return _masked(c, (dx, *(c.cast(s, type_of(x).element) for s in sums)), mask)


@aten("native_group_norm_backward.default")
def group_norm_backward(
    c: Context,
    grad: Value,
    x: Value,
    mean: Value,
    rstd: Value,
    g: Value | None,
    n: DimLike,
    channels: DimLike,
    size: DimLike,
    groups: int,
    mask: list[bool],
) -> Any:
    """Gradients of group_norm by x, scale and shift."""
    each = channels // groups
    split, flat = (n, groups, each, size), (n, groups, each * size)
    grad4 = c.reshape(grad, split)
    mean4, rstd4 = (c.reshape(v, (n, groups, 1, 1)) for v in (mean, rstd))
    normal = c.emit("mul", c.emit("sub", c.reshape(x, split), mean4), rstd4)
    inner = grad4 if g is None else c.emit("mul", grad4, c.reshape(g, (groups, each, 1)))
    centre = c.reshape(c.emit("mean", c.reshape(inner, flat), dims=(-1,)), (n, groups, 1, 1))
    product = c.reshape(c.emit("mul", inner, normal), flat)
    along = c.reshape(c.emit("mean", product, dims=(-1,)), (n, groups, 1, 1))
    dx = c.emit("sub", c.emit("sub", inner, centre), c.emit("mul", normal, along))
    dx = c.reshape(c.emit("mul", dx, rstd4), type_of(x).dims)
    by_g = c.reshape(c.emit("sum", c.emit("mul", grad4, normal), dims=(0, 3)), (channels,))
    by_b = c.reshape(c.emit("sum", grad4, dims=(0, 3)), (channels,))
    return _masked(c, (dx, by_g, by_b), mask)
