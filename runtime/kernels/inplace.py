"""Torch kernels that write into memory given to them, for operations whose reference body only returns."""

from __future__ import annotations

from typing import Any

import torch

from maiac.ir.graph import Op
from maiac.ir.types import Quantized, TensorType

from .registry import Table

TABLE = Table("torch")


def _plain(op: Op) -> bool:
    """Every operand is a tensor of real elements (no codes with scales)."""
    types = [v.type for v in op.operands if v is not None]
    return all(isinstance(t, TensorType) and not isinstance(t.dtype, Quantized) for t in types)


# The function behind F.linear; the public one has no `out`.
TABLE.kernel("linear", into=True, when=_plain)(torch._C._nn.linear)  # pyright: ignore
TABLE.kernel("where", into=True)(torch.where)


@TABLE.kernel("concat", into=True)
def concat(*xs: torch.Tensor, dim: int, out: Any = None) -> torch.Tensor:
    """Join along a dim."""
    return torch.cat(xs, dim, out=out)
