"""Ensembles of decision trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..dims import DimLike
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .sampling import Sample, Sampler

_TESTS = (torch.le, torch.lt, torch.ge, torch.gt, torch.eq, torch.ne)
_REDUCE: dict[str, Any] = {"sum": torch.sum, "mean": torch.mean, "min": torch.amin, "max": torch.amax}


@op(
    "x:real[n f], feature:int[m], split:float[m], mode:int[m], yes:int[m], no:int[m], missing:bool[m], "
    "roots:int[t], leaf:float[l k] -> y[n k]",
    dtype="leaf",
    whole="f m t l",
)
def tree_ensemble(
    x: Any,
    feature: Any,
    split: Any,
    mode: Any,
    yes: Any,
    no: Any,
    missing: Any,
    roots: Any,
    leaf: Any,
    *,
    reduce: str = "sum",
) -> Any:
    """Walk each row of x down each tree to a leaf, whose row of ``leaf`` counts; the trees' rows are reduced to one.

    Node m holds the test of ``x[:, feature]`` against ``split`` (mode 0 to 5: <= < >= > == !=; true for NaN where
    ``missing``), and where to go then: to node i, or as ~i to leaf i. reduce: sum, mean, min or max.
    """
    at = roots.expand(x.shape[0], -1)
    for _ in range(feature.shape[0]):
        if not bool((at >= 0).any()):
            break
        node = at.clamp(min=0)
        value, edge = x.gather(1, feature[node]), split[node]
        tests = torch.stack([test(value, edge) for test in _TESTS])
        took = tests.gather(0, mode[node].long()[None])[0] | (missing[node] & value.isnan())
        at = torch.where(at >= 0, torch.where(took, yes[node], no[node]), at)
    return _REDUCE[reduce](leaf[~at], 1)


@tree_ensemble.flops
def _(results: list[Type], x: TensorType, *tables: TensorType, **_: Any) -> DimLike:
    """The sums over trees; comparisons are no arithmetic, and how deep they go only the run tells."""
    roots, leaf = tables[-2:]
    return x.dims[0] * roots.dims[0] * leaf.dims[1]


@tree_ensemble.infer
def _(x: TensorType, *tables: TensorType, reduce: str = "sum") -> Type:
    if reduce not in _REDUCE:
        raise TypeFault(f"reduce is {reduce!r}; expected one of {', '.join(_REDUCE)}")
    return TensorType(tables[-1].dtype, (x.dims[0], tables[-1].dims[1]))


@tree_ensemble.samples
def _(s: Sampler) -> Iterator[Sample]:
    """Two trees: nodes 0 and 1 over leaves 0 to 2, node 2 over leaves 1 and 3; a third is leaf 2 alone."""
    feature, mode = torch.tensor([0, 3, 1]), torch.tensor([0, 3, 5])
    yes, no = torch.tensor([1, ~0, ~1]), torch.tensor([~2, ~1, ~3])
    missing, roots = torch.tensor([False, True, False]), torch.tensor([0, 2, ~2])
    for reduce in _REDUCE:
        tables = (feature, s.real(3), mode, yes, no, missing, roots, s.real(4, 2))
        yield (s.real(6, 4), *tables), {"reduce": reduce}
