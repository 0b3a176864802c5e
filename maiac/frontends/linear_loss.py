"""torch.nn.functional.linear_cross_entropy's chunked operators, written out.

They take logits a few rows at a time, which saves memory and changes nothing else, and give the gradients together
with the loss. Here all rows are taken at once; what is not wanted of them goes with other dead code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def loss_and_gradients(
    x: Tensor, w: Tensor, target: Tensor, bias: Tensor | None, weight: Tensor | None,
    reduction: str, ignore_index: int, smoothing: float, rows: int, policy: str, dtype: torch.dtype, retain: bool,
    by_x: bool, by_w: bool, by_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The mean or sum over rows x[n k] of the cross entropy of x w^T + bias, and its gradients by x, w and bias.

    ``dtype`` is what it is computed in. A gradient that is not wanted is empty.
    """
    wide_x, wide_w, logits = _logits(x, w, bias, dtype)
    factors = None if weight is None else weight.to(dtype)
    loss = F.cross_entropy(logits, target, factors, None, ignore_index, None, reduction, smoothing)
    gradient = _by_logits(logits, target, factors, reduction, ignore_index)
    return (
        loss.to(x.dtype),
        (gradient @ wide_w).to(x.dtype) if by_x else x.new_empty((0, 0)),
        (gradient.t() @ wide_x).to(x.dtype) if by_w else x.new_empty((0, 0)),
        gradient.sum(0).to(x.dtype) if by_bias else x.new_empty((0,)),
    )


def losses(
    x: Tensor, w: Tensor, target: Tensor, bias: Tensor | None, weight: Tensor | None,
    ignore_index: int, rows: int, policy: str, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """The cross entropy of each row."""
    logits = _logits(x, w, bias, dtype)[2]
    factors = None if weight is None else weight.to(dtype)
    return F.cross_entropy(logits, target, factors, None, ignore_index, None, "none").to(x.dtype)


def _logits(x: Tensor, w: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    x, w = x.to(dtype), w.to(dtype)
    return x, w, F.linear(x, w, None if bias is None else bias.to(dtype))


def _by_logits(logits: Tensor, target: Tensor, weight: Tensor | None, reduction: str, ignore_index: int) -> Tensor:
    """The gradient of the loss: softmax less one at the target, times each row's share of the result."""
    counted = target != ignore_index
    target = torch.where(counted, target, 0)
    share = counted.to(logits.dtype)
    if weight is not None:
        share = share * weight[target]
    if reduction == "mean":
        share = share / share.sum()
    hits = target[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return (logits.softmax(1) - hits.to(logits.dtype)) * share[:, None]


def decompositions() -> dict[Any, Any]:
    """The operators that this torch has, and what they compute."""
    written = {
        "_linear_cross_entropy_batch_chunked": loss_and_gradients,
        "_linear_cross_entropy_batch_chunked_no_reduction": losses,
    }
    space = torch.ops.torch_nn
    return {getattr(space, name).default: function for name, function in written.items() if hasattr(space, name)}
