"""torchvision's operators from torch.export and from ONNX, held against bodies of another making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import maiac
from tests._torchvision_shim import import_with_operators

OPS: Any = import_with_operators().ops


class Call(torch.nn.Module):
    """A function of torchvision.ops as a model."""

    def __init__(self, name: str, *options: Any) -> None:
        super().__init__()
        self.name = name
        self.options = options

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The function's result."""
        return getattr(OPS, self.name)(*tensors, *self.options)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def boxes(count: int, size: float) -> torch.Tensor:
    corner = noise(count, 2) * size * 0.6
    return torch.cat((corner, corner + 1 + noise(2, count, 2)[1] * size * 0.4), 1)


def numbered(images: int, count: int, size: float) -> torch.Tensor:
    return torch.cat((torch.arange(count)[:, None] % images, boxes(count, size)), 1)


X = noise(2, 6, 12, 10)
CASES: dict[str, tuple[torch.nn.Module, tuple[torch.Tensor, ...]]] = {
    "nms": (Call("nms", 0.3), (boxes(40, 10.0), noise(40))),
    "nms of nothing": (Call("nms", 0.3), (torch.zeros(0, 4), torch.zeros(0))),
    "roi_align": (Call("roi_align", (3, 2), 0.5, 2), (X, numbered(2, 5, 16.0))),
    "roi_align, shifted": (Call("roi_align", (3, 2), 0.5, 2, True), (X, numbered(2, 5, 16.0))),
    "roi_align, as many samples as pixels": (Call("roi_align", (3, 2), 0.5, -1), (X, numbered(2, 5, 16.0))),
    "roi_align of empty boxes": (Call("roi_align", (3, 2), 0.5, -1, True), (X, torch.tensor([[1.0, 4, 4, 4, 4]]))),
    "deform_conv2d": (OPS.DeformConv2d(6, 4, 3, stride=2, padding=1, groups=2), (X, noise(2, 18, 6, 5) * 4 - 2)),
    "deform_conv2d, with a mask": (
        OPS.DeformConv2d(6, 4, (3, 2), padding=(2, 0), dilation=(2, 1), bias=False),
        (X, noise(2, 24, 12, 9) * 4 - 2, noise(2, 12, 12, 9)),
    ),
}
ONNX = [n for n in CASES if "as many" not in n and "nothing" not in n]


def check(got: torch.Tensor, name: str) -> None:
    model, args = CASES[name]
    with torch.no_grad():
        want = model(*args)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_exported(name: str):
    model, args = CASES[name]
    check(maiac.compile(model, args)(*args), name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_overlap_is_held_against_the_limit_in_double_precision(dtype: torch.dtype):
    """3/10 in single precision is more than 0.3, and in double precision it is not; 7/10 never is more than 0.7."""
    for overlap, limit in ((3.0, 0.3), (7.0, 0.7)):
        args = torch.tensor([[0, 0, 10, 1], [0, 0, overlap, 1]], dtype=dtype), torch.tensor([1.0, 0.5], dtype=dtype)
        kept = [0] if overlap == 3 and dtype is torch.float32 else [0, 1]
        assert maiac.compile(Call("nms", limit), args)(*args).tolist() == kept
        assert Call("nms", limit)(*args).tolist() == kept


@pytest.mark.parametrize("name", ONNX)
def test_as_onnx(name: str, tmp_path: Path):
    model, args = CASES[name]
    with torch.no_grad():
        torch.onnx.export(model, args, str(tmp_path / "model.onnx"), dynamo=True, verbose=False)
    (got,) = maiac.compile(tmp_path / "model.onnx")(*args)
    check(got, name)


def test_each_is_one_operation():
    for name, op in {"nms": "non_max_suppression", "roi_align": "roi_align", "deform_conv2d": "deform_conv"}.items():
        model, args = CASES[name]
        assert [o.name for o in maiac.capture(model, args).walk()].count(op) == 1
