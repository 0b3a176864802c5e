"""Buffers that a model changes: running statistics and caches over several calls, in an artifact that was saved."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import maiac


class Statistics(nn.Module):
    """Batch norm in train mode, whose running statistics are seen in the result."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        y = self.norm(x)
        return y, self.norm.running_mean, self.norm.running_var, self.norm.num_batches_tracked


class Cached(nn.Module):
    """Attention of one token at a time to those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.v = nn.Buffer(torch.zeros(1, 2, 16, 4)), nn.Buffer(torch.zeros(1, 2, 16, 4))
        self.used = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(1, 1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        self.k.index_copy_(2, self.used.view(1), k)
        self.v.index_copy_(2, self.used.view(1), v)
        self.used += 1
        seen = torch.arange(16) < self.used
        return nn.functional.scaled_dot_product_attention(q, self.k, self.v, seen[None])


@pytest.mark.parametrize(("model", "shape"), [(Statistics().train(), (2, 3, 4, 4)), (Cached().eval(), (1, 1, 8))])
def test_buffers_change_as_in_eager(model: nn.Module, shape: Sequence[int], tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*shape, generator=draw) + i for i in range(3)]
    with torch.no_grad():
        artifact = maiac.compile(model, (inputs[0],))
        artifact.save(tmp_path / "model.maia")
        for ran in (artifact, maiac.load(tmp_path / "model.maia")):  # a file holds what buffers hold at the start
            eager = copy.deepcopy(model)
            for x in inputs:
                torch.testing.assert_close(ran(x), eager(x), rtol=1e-5, atol=1e-5)
