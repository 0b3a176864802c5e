"""The chunked cross entropy of a linear layer: losses, and the gradients that come with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import maiac

pytestmark = pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="this torch has none")

GENERATOR = torch.Generator().manual_seed(0)
X, W, BIAS, WEIGHT = (torch.randn(s, generator=GENERATOR) for s in ((5, 4), (6, 4), (6,), (6,)))
TARGET = torch.tensor([0, 5, 2, 3, 2])


def loss(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor, **options: Any) -> torch.Tensor:
    """Two rows at a time, row 3 left out."""
    chunks: Any = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2, allow_retain_graph=True)
    return F.linear_cross_entropy(x, w, TARGET, linear_bias=bias, ignore_index=3, options=chunks, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_are_eagers(reduction: str, dtype: torch.dtype) -> None:
    def both(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor, weight: torch.Tensor) -> Any:
        return loss(x, w, bias, reduction=reduction), loss(x, w, bias, reduction=reduction, weight=weight)

    inputs = tuple(t.to(dtype) for t in (X, W, BIAS, WEIGHT.abs()))
    for got, want in zip(maiac.compile(both, inputs)(*inputs), both(*inputs), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_eagers(reduction: str) -> None:
    def gradients(function: Any) -> tuple[torch.Tensor, ...]:
        leaves = [t.clone().requires_grad_() for t in (X, W, BIAS)]
        return torch.autograd.grad(function(*leaves, reduction=reduction, weight=WEIGHT.abs()), leaves)

    for got, want in zip(gradients(torch.compile(loss, backend="maia")), gradients(loss), strict=True):
        torch.testing.assert_close(got, want)
