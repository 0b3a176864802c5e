"""What the executor asks of whoever moves tensors between ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

# The mesh axis that a collective works over stands in this attribute.
AXIS_ATTR: dict[str, str] = {
    "all_reduce": "over",
    "all_gather": "over",
    "reduce_scatter": "over",
    "shard": "over",
    "send_recv": "along",
    "broadcast": "along",
}


class Communicator(Protocol):
    """Runs the collectives of one rank; ``maiac.runtime.distributed`` implements it over torch.distributed."""

    def run(
        self,
        name: str,
        x: torch.Tensor | None,
        attrs: Mapping[str, Any],
        shape: tuple[int, ...],
        dtype: torch.dtype,
    ) -> torch.Tensor | None:
        """Run the collective ``name`` (a key of AXIS_ATTR) on this rank's part ``x``; return this rank's result.

        ``shape`` and ``dtype`` are the result's on this rank. It is called only where the axis has more than one rank.
        ``source`` and ``target`` in ``attrs`` are coordinates along the axis (the executor has turned stages into
        owners). ``shard`` sends nothing and never gets here. send_recv is called on the two ranks that take part:
        ``x`` is None on the receiving one, the result is not used on the sending one. broadcast is called on all ranks
        of the axis: ``x`` may be None except at source.
        """
        ...


def part_of(x: torch.Tensor, dim: int, pieces: int, index: int) -> torch.Tensor:
    """One of equal parts of a dim, as a view (the op ``shard``)."""
    each, rest = divmod(x.shape[dim], pieces)
    if rest:
        raise ValueError(f"dim {dim} of size {x.shape[dim]} does not divide into {pieces} parts")
    return x.narrow(dim, index * each, each)
