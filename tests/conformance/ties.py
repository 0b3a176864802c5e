"""Orderings whose documentation leaves open which of equal elements an index names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

# How many results each gives, the indices last, and where among the arguments after the input the dim stands.
OPEN = {"argsort": (1, 0), "kthvalue": (2, 1), "sort": (2, 0), "topk": (2, 1)}


def named(operator: str, samples: Sequence[tuple[Any, Any, Any]], results: Sequence[Any]) -> list[Any]:
    """The results of (input, args, kwargs) one after another, with the elements in the place of such indices."""
    results = list(results)
    if operator not in OPEN:
        return results
    count, position = OPEN[operator]
    for last, (x, args, kwargs) in zip(range(count - 1, len(results), count), samples, strict=False):
        if not kwargs.get("stable"):
            dim = args[position] if len(args) > position else kwargs.get("dim", -1)
            results[last] = elements(x, results[last], dim)
    return results


def elements(x: torch.Tensor, indices: torch.Tensor, dim: int) -> torch.Tensor:
    """Which elements indices along a dim name, as their ranks among all of x; none may be named twice."""
    ranks = torch.unique(x, return_inverse=True)[1]
    indices = indices if indices.ndim == x.ndim else indices.unsqueeze(dim)
    ordered = torch.atleast_1d(indices).sort(dim).values
    assert not (ordered.diff(dim=dim) == 0).any(), "one element is named twice"
    return ranks.gather(dim, indices)
