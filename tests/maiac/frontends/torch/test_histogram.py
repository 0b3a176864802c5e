"""Histograms are eager's: edges, counts, weights, densities, points of several coordinates."""

from __future__ import annotations

import pytest
import torch

import maiac
from maiac.ir.errors import MaiaError

from .eager import check

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randint(-3, 4, (40, 3), generator=GENERATOR) / 2  # many of them lie on edges
WEIGHT = torch.rand(40, 3, generator=GENERATOR)
EDGES = torch.tensor([-1.0, -0.5, 0.25, 1.5])


@pytest.mark.parametrize("density", [False, True])
def test_elements_are_counted(density: bool) -> None:
    check(
        lambda x, w, edges: (
            torch.histogram(x, 6, density=density),
            torch.histogram(x, 7, range=(-1, 0.5), weight=w, density=density),
            torch.histogram(x, 3, range=(0.5, 0.5)),
            torch.histogram(x[0, 0], 2),
            torch.histogram(x[:0], 2),
            torch.histogram(torch.where(x > 1, torch.nan, x), edges, weight=w, density=density),
        ),
        X, WEIGHT, EDGES,
    )  # fmt: skip


@pytest.mark.parametrize("density", [False, True])
def test_points_are_counted(density: bool) -> None:
    check(
        lambda x, w, edges: (
            torch.histogramdd(x, [2, 3, 4], density=density),
            torch.histogramdd(x.view(5, 8, 3), [2, 1, 2], weight=w[:, 0].view(5, 8), density=density),
            torch.histogramdd(x, 2, range=[-1, 0, -2, 2, 0, 1]),
            torch.histogramdd(x, [edges, edges[1:], edges * 2], density=density),
        ),
        X, WEIGHT, EDGES,
    )  # fmt: skip


def test_the_range_of_values_is_finite() -> None:
    artifact = maiac.compile(lambda x: torch.histogram(x, 4), (X,))
    for value in (torch.inf, torch.nan):
        with pytest.raises(MaiaError, match="a histogram over the range of its values needs finite ones"):
            artifact(torch.full_like(X, value))
