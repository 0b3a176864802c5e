"""How near a result must be to eager's where rounding alone can take two right ways of computing further apart."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

FACTOR = 4  # how many times eager's own error ours may be
NEAR = 16  # so many larger elements still tell how eager rounds at one, whose own error may be 0 by luck


def double(values: Any) -> Any:
    """The same with floats and complex numbers in double precision."""
    return pytree.tree_map(_double, values)


def _double(x: Any) -> Any:
    if not isinstance(x, torch.Tensor) or not (x.is_floating_point() or x.is_complex()):
        return x
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def errors(got: torch.Tensor, want: torch.Tensor, truth: torch.Tensor) -> tuple[float, float] | None:
    """How far ours is from the result in double precision, and eager's, where ours is worst; None without comparison.

    Eager's is its largest error at elements that are no larger, or are among the ``NEAR`` next: what rounds off a
    large element excuses no small one.
    """
    if got.dtype != want.dtype or not (got.is_floating_point() or got.is_complex()):
        return None
    if not got.shape == want.shape == truth.shape or not got.numel():
        return None
    order = truth.abs().flatten().argsort()
    ours, theirs = ((v.to(truth.dtype) - truth).abs().flatten()[order] for v in (got, want))
    largest = theirs.cummax(0).values
    at = (torch.arange(len(order)) + NEAR).clamp(max=len(order) - 1)
    worst = (ours - FACTOR * largest[at]).argmax()
    return ours[worst].item(), largest[at][worst].item()


def is_as_near(found: tuple[float, float] | None) -> bool:
    """Whether our error is of eager's size."""
    return found is not None and found[0] <= FACTOR * found[1]
