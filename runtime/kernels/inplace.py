"""Torch kernels that write into memory given to them, for operations whose reference body only returns."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from maiac.ir.dtypes import DType
from maiac.ir.graph import Op
from maiac.ir.ops.values import to_torch
from maiac.ir.types import Quantized, TensorType

from .registry import Table

TABLE = Table("torch")


def _plain(op: Op) -> bool:
    """Every operand is a tensor of real elements (no codes with scales)."""
    types = [v.type for v in op.operands if v is not None]
    return all(isinstance(t, TensorType) and not isinstance(t.dtype, Quantized) for t in types)


def _rounds_alike(op: Op) -> bool:
    """Whether torch's `out` variant rounds as F.linear does: only for matrices does it add a bias in one kernel."""
    x = op.operand(0).type
    biased = len(op.operands) > 2 and op.operands[2] is not None
    return _plain(op) and isinstance(x, TensorType) and (x.rank == 2 or (x.rank > 2 and not biased))


# The function behind F.linear; the public one has no `out`.
TABLE.kernel("linear", into=True, when=_rounds_alike)(torch._C._nn.linear)  # pyright: ignore
TABLE.kernel("where", into=True)(torch.where)
TABLE.kernel("relu", into=True)(partial(torch.clamp_min, min=0))  # what torch.relu calls


@TABLE.kernel("concat", into=True)
def concat(*xs: torch.Tensor, dim: int, out: Any = None) -> torch.Tensor:
    """Join along a dim."""
    return torch.cat(xs, dim, out=out)


@TABLE.kernel("cast", into=True, when=_plain)
def cast(x: torch.Tensor, *, to: DType, out: torch.Tensor | None = None) -> torch.Tensor:
    """Convert each element."""
    return x.to(to_torch(to)) if out is None else out.copy_(x)


@TABLE.kernel("copy", into=True, when=_plain)
def copy(x: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """The same elements in other storage."""
    return x.clone(memory_format=torch.contiguous_format) if out is None else out.copy_(x)
