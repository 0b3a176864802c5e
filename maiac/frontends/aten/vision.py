"""torchvision's operators: suppression of boxes, regions of images, convolutions whose taps are moved."""

from __future__ import annotations

import sys
from typing import Any

import torch

from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, to_torch, type_of
from .registry import aten

_ALL = sys.maxsize  # how many boxes may be kept


@aten("torchvision::nms.default")
def nms(c: Context, boxes: Value, scores: Value, iou: float) -> Value:
    """The places of boxes[n 4] that no better one overlaps, the best first."""
    (n,) = type_of(scores).dims
    limits = c.scalar(_ALL), c.emit("constant", value=_limit(iou, type_of(boxes).element), dtype=DType.F64)
    kept = c.emit("non_max_suppression", c.reshape(boxes, (1, n, 4)), c.reshape(scores, (1, 1, n)), *limits)
    places = c.emit("slice", kept, dim=1, start=2, end=3)
    return c.reshape(places, type_of(places).dims[:1])


def _limit(iou: float, dtype: DType) -> float:
    """The greatest number of the dtype up to a limit: torchvision compares in double precision, the operation in it."""
    near = torch.tensor(iou, dtype=to_torch(dtype))
    return float(near) if float(near) <= iou else float(near.nextafter(torch.tensor(-torch.inf, dtype=near.dtype)))


@aten("torchvision::roi_align.default")
def roi_align(
    c: Context, x: Value, rois: Value, scale: float, height: int, width: int, samples: int, aligned: bool
) -> Value:
    """Means of bilinear samples in the cells of rois[r 5]: the image's number, then two corners."""
    number, corners = (c.emit("slice", rois, dim=1, start=a, end=b) for a, b in ((0, 1), (1, 5)))
    batch = c.cast(c.reshape(number, type_of(rois).dims[:1]), DType.I64)
    return c.emit(
        "roi_align", x, corners, batch, height=height, width=width, samples=max(samples, 0), scale=float(scale),
        half_pixel=aligned,
    )  # fmt: skip


@aten("torchvision::deform_conv2d.default")
def deform_conv2d(c: Context, x: Value, w: Value, offset: Value, mask: Value, bias: Value, *sizes: Any) -> Value:
    """A convolution whose taps are moved; sizes: strides, padding, dilations, groups, offset groups, use_mask."""
    stride, padding, dilation = (tuple(sizes[i : i + 2]) for i in (0, 2, 4))
    groups, offset_groups, use_mask = sizes[6:]
    return c.emit(
        "deform_conv", x, w, offset, bias, mask if use_mask else None, stride=stride,
        padding=(padding[0], padding[0], padding[1], padding[1]), dilation=dilation, groups=groups,
        offset_groups=offset_groups,
    )  # fmt: skip
