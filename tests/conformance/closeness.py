"""How near a result must be to eager's where rounding alone can take two right ways of computing further apart."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

FACTOR = 4  # how many times eager's own error ours may be


def double(values: Any) -> Any:
    """The same with floats and complex numbers in double precision."""
    return pytree.tree_map(_double, values)


def _double(x: Any) -> Any:
    if not isinstance(x, torch.Tensor) or not (x.is_floating_point() or x.is_complex()):
        return x
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def errors(got: torch.Tensor, want: torch.Tensor, truth: torch.Tensor) -> tuple[float, float] | None:
    """How far both results are from the one in double precision; None where they cannot be compared."""
    if got.is_floating_point() != want.is_floating_point() or not (got.is_floating_point() or got.is_complex()):
        return None
    if not got.shape == want.shape == truth.shape or got.dtype != want.dtype or not got.numel():
        return None
    ours, theirs = ((v.to(truth.dtype) - truth).abs().max().item() for v in (got, want))
    return ours, theirs


def is_as_near(found: tuple[float, float] | None) -> bool:
    """Whether our error is of eager's size."""
    return found is not None and found[0] <= FACTOR * found[1]
