"""Antialiased resampling to sizes, by factors and with aligned corners."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.export import Dim

import maiac
from maiac.frontends.exported import capture
from maiac.ir.errors import MaiaError

LINEAR, CUBIC = torch.ops.aten._upsample_bilinear2d_aa, torch.ops.aten._upsample_bicubic2d_aa
IMAGE = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
NONE = (None, None)


@pytest.mark.parametrize("resample", [LINEAR, CUBIC], ids=["linear", "cubic"])
def test_antialiased_resampling_is_eagers(resample: Any) -> None:
    def resampled(x: torch.Tensor) -> Any:
        return (
            resample(x, (3, 11), False, *NONE),
            resample(x, (3, 11), True, *NONE),
            resample(x, (1, 5), True, 2.0, 2.0),
            resample(x[..., :1], (9, 4), True, *NONE),
            resample(x, (3, 9), False, 0.4, 1.3),
            resample(x, (6, 9), False, 0.4, 1.3),
            resample(x, (3, 9), False, None, 1.3),
            resample(x, None, False, (0.5, 1.7)),
        )

    for got, want in zip(maiac.compile(resampled, (IMAGE,))(IMAGE), resampled(IMAGE), strict=True):
        torch.testing.assert_close(got, want)


def test_dynamic_sizes_are_resampled_to_sizes_only() -> None:
    shapes: Any = {"x": {2: Dim("H", min=4, max=9)}}
    artifact = maiac.compile(lambda x: CUBIC(x, (4, 6), False, *NONE), (IMAGE,), dynamic_shapes=shapes)
    torch.testing.assert_close(artifact(IMAGE[:, :, :5]), CUBIC(IMAGE[:, :, :5], (4, 6), False, *NONE))
    with pytest.raises(MaiaError, match="antialiased resampling of a dynamic size"):
        capture(lambda x: CUBIC(x, (4, 6), False, 0.7, 0.8), (IMAGE,), dynamic_shapes=shapes)
