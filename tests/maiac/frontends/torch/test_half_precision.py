"""What eager computes in single precision for half-precision floats, and rounds once."""

from __future__ import annotations

import torch
import torch.nn.functional as F

import maiac
from maiac.frontends.exported import capture
from maiac.runtime.executor import Executor

from .eager import check


def test_batch_statistics_of_half_precision_floats_are_kept_in_single() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w, b, mean, var = (torch.rand(s, generator=generator).bfloat16() for s in ((4, 3, 50), (3,), (3,), (3,), (3,)))

    def norm(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, mean, var, w, b, True, 0.25)

    artifact = maiac.compile(norm, (x, w, b, mean.clone(), var.clone()))
    ours, exact = (mean.clone(), var.clone()), (mean.double(), var.double())
    y = artifact(x, w, b, *ours)
    truth = norm(x.double(), w.double(), b.double(), *exact)
    for got, want in ((y, truth), *zip(ours, exact, strict=True)):
        assert got.dtype is torch.bfloat16
        torch.testing.assert_close(got.double(), want, rtol=2**-8, atol=2**-9)  # half a unit in the last place


def test_norms_of_half_precision_floats_are_rounded_once() -> None:
    x, y = (torch.randn(4, 300, generator=torch.Generator().manual_seed(s)).bfloat16() for s in (0, 1))
    for p in (1.5, 2, 3):
        (got,) = Executor(capture(lambda x, p=p: torch.linalg.vector_norm(x, p, 1), (x,))).run([x])
        torch.testing.assert_close(got.double(), torch.linalg.vector_norm(x.double(), p, 1), rtol=2**-8, atol=0)
    check(lambda x, y: (F.cosine_similarity(x, y), torch.dist(x, y)), x, y, rtol=0, atol=0)
