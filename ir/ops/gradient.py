"""Gradients that have a kernel of their own, and forward ops that also give what these read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..dims import DimLike, product
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .attention import attention
from .conv import max_pool, pooled
from .sampling import Sample, Sampler

_aten: Any = torch.ops.aten


def _conv_grad(grad: Any, x: Any, w: Any, which: int, attrs: dict[str, Any]) -> Any:
    mask = [i == which for i in range(3)]
    order = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    return _aten.convolution_backward(grad, x, w, None, *(attrs[k] for k in order), mask)[which]


@op("grad:float, x:float, w:float -> y", linear="grad w")
def conv_grad_input(
    grad: Any,
    x: Any,
    w: Any,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    output_padding: tuple[int, ...],
    transposed: bool = False,
    groups: int = 1,
) -> Any:
    """The gradient of conv (or conv_transpose) by x, whose values it does not read."""
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    attrs |= {"output_padding": output_padding, "transposed": transposed}
    return _conv_grad(grad, x, w, 0, attrs)


@op("grad:float, x:float, w:float -> y", linear="grad x")
def conv_grad_weight(
    grad: Any,
    x: Any,
    w: Any,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    output_padding: tuple[int, ...],
    transposed: bool = False,
    groups: int = 1,
) -> Any:
    """The gradient of conv (or conv_transpose) by w, whose values it does not read."""
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    attrs |= {"output_padding": output_padding, "transposed": transposed}
    return _conv_grad(grad, x, w, 1, attrs)


@conv_grad_input.infer
def _(grad: TensorType, x: TensorType, w: TensorType, **_: Any) -> Type:
    return x.whole()


@conv_grad_weight.infer
def _(grad: TensorType, x: TensorType, w: TensorType, **_: Any) -> Type:
    return w.whole()


def _conv_grad_flops(results: list[Type], grad: TensorType, x: TensorType, w: TensorType, **_: Any) -> DimLike:
    return product(grad.dims) * product(w.dims[1:]) * 2


def _conv_grad_samples(s: Sampler) -> Iterator[Sample]:
    same: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "output_padding": (0, 0)}
    x, w = s.real(2, 4, 6, 6, dtype=DType.F32), s.real(6, 4, 3, 3, dtype=DType.F32)
    yield (s.real(2, 6, 6, 6, dtype=DType.F32), x, w), same
    yield (s.real(2, 6, 3, 3, dtype=DType.F32), x, w), {**same, "stride": (2, 2)}
    turned = s.real(4, 6, 3, 3, dtype=DType.F32)
    yield (s.real(2, 6, 6, 6, dtype=DType.F32), x, turned), {**same, "transposed": True}


conv_grad_input.samples(_conv_grad_samples)
conv_grad_weight.samples(_conv_grad_samples)
conv_grad_input.flops(_conv_grad_flops)
conv_grad_weight.flops(_conv_grad_flops)


@op("x:real -> values, indices")
def max_pool_indices(
    x: Any,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...] | None = None,
    ceil_mode: bool = False,
) -> Any:
    """max_pool, and where each greatest element lies among the elements of its plane in row-major order."""
    fn = (torch.nn.functional.max_pool1d, torch.nn.functional.max_pool2d, torch.nn.functional.max_pool3d)
    ones = (1,) * len(kernel)
    return fn[len(kernel) - 1](x, kernel, stride, padding, dilation or ones, ceil_mode, return_indices=True)


@max_pool_indices.infer
def _(
    x: TensorType, *, kernel: Any, stride: Any, padding: Any, dilation: Any = None, ceil_mode: bool = False
) -> list[Type]:
    values = pooled(x, kernel, stride, padding, dilation, ceil_mode)
    return [values, values.with_dtype(DType.I64)]


@max_pool_indices.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 4, 6, 8),), {"kernel": (2, 3), "stride": (2, 2), "padding": (0, 1)}
    yield (s.real(2, 4, 7),), {"kernel": (3,), "stride": (2,), "padding": (1,), "ceil_mode": True}


assert max_pool.flops_rule is not None
max_pool_indices.flops(max_pool.flops_rule)


@op("grad:float, x:float -> y", linear="grad")
def avg_pool_grad(
    grad: Any,
    x: Any,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Any:
    """The gradient of avg_pool over 2 or 3 spatial dims by x, whose values it does not read."""
    fn = (_aten.avg_pool2d_backward, _aten.avg_pool3d_backward)[len(kernel) - 2]
    return fn(grad, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor)


@avg_pool_grad.infer
def _(grad: TensorType, x: TensorType, *, kernel: tuple[int, ...], **_: Any) -> Type:
    if len(kernel) not in (2, 3):
        raise TypeFault(f"kernel is {list(kernel)}; expected two or three spatial dims")
    return x.whole()


@avg_pool_grad.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    yield (s.real(2, 4, 3, 4, dtype=DType.F32), s.real(2, 4, 6, 8, dtype=DType.F32)), attrs
    yield (s.real(2, 4, 4, 5, dtype=DType.F32), s.real(2, 4, 6, 8, dtype=DType.F32)), {**attrs, "padding": (1, 1)}


@op("q:float, k:float, v:float, mask? -> y, lse")
def attention_lse(q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, scale: float | None = None) -> Any:
    """attention of [b h t d] operands, and the logarithm of each row's sum of exponentials, which its gradient reads.

    lse[b, h, t] is float32 for half-precision operands (Dao et al. 2022).
    """
    return _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)


@attention_lse.infer
def _(
    q: TensorType, k: TensorType, v: TensorType, mask: Any = None, *, causal: bool = False, scale: Any = None
) -> list[Type]:
    if q.rank != 4:
        raise TypeFault(f"q is {q}; expected four dims")
    assert attention.infer_rule is not None
    sums = DType.F32 if q.element in (DType.F16, DType.BF16) else q.element
    return [attention.infer_rule(q, k, v, mask, causal=causal, scale=scale), TensorType(sums, q.dims[:3])]


def _heads(s: Sampler) -> tuple[Any, Any, Any]:
    return s.real(2, 4, 6, 8, dtype=DType.F32), s.real(2, 4, 4, 8, dtype=DType.F32), s.real(2, 4, 4, 8, dtype=DType.F32)


@attention_lse.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield _heads(s), {}
    yield (*_heads(s), s.real(2, 1, 6, 4, dtype=DType.F32)), {"scale": 0.5}


@op("grad:float, q:float, k:float, v:float, y:float, lse:float, mask? -> dq, dk, dv", linear="grad")
def attention_grad(
    grad: Any,
    q: Any,
    k: Any,
    v: Any,
    y: Any,
    lse: Any,
    mask: Any = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Any:
    """Gradients of attention_lse by q, k and v, from its results."""
    return _aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, q, k, v, y, lse, 0.0, causal, attn_mask=mask, scale=scale
    )


@attention_grad.infer
def _(grad: TensorType, q: TensorType, k: TensorType, v: TensorType, *_: Any, **__: Any) -> list[Type]:
    return [q.whole(), k.whole(), v.whole()]


@attention_lse.flops
def _(results: list[Type], q: TensorType, k: TensorType, v: TensorType, *_: Any, **__: Any) -> DimLike:
    assert attention.flops_rule is not None
    return attention.flops_rule(results, q, k, v)


@attention_grad.flops
def _(
    results: list[Type], grad: TensorType, q: TensorType, k: TensorType, v: TensorType, *_: Any, **__: Any
) -> DimLike:
    assert attention.flops_rule is not None
    return attention.flops_rule(results, q, k, v) * 5 // 2  # five products for the forward pass's two


@attention_grad.samples
def _(s: Sampler) -> Iterator[Sample]:
    q, k, v = _heads(s)
    y, sums = attention_lse.reference(q, k, v)
    yield (s.real(2, 4, 6, 8, dtype=DType.F32), q, k, v, y, sums), {}
