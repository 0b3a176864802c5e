"""Let torchvision be imported, and its operators be called, beside a torch that it was not built for.

torchvision's wheel is built for CUDA. Beside a CPU torch its extension does not load, and its import stops at the two
operators whose shape functions it registers without looking whether they exist. Here they are declared, and those that
models call get a body: plain, and written apart from the bodies of Maia's own operations, which are held against them.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# As torchvision/csrc/ops declares them.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask) -> Tensor",
)


@functools.cache  # a library's declarations live as long as the object does
def declare_operators() -> torch.library.Library | None:
    """Declare torchvision's operators; do nothing where its own extension loads or it is not installed."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _extension_loads(Path(spec.origin).parent):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    for name, body in (("nms", _nms), ("roi_align", _roi_align), ("deform_conv2d", _deform_conv2d)):
        library.impl(name, body, "CPU")
    for name, shape in (("roi_align", _roi_align_shape), ("deform_conv2d", _deform_conv2d_shape)):
        torch.library.register_fake(f"torchvision::{name}", shape, lib=library)
    return library


def import_with_operators() -> Any:
    """torchvision, whose functions call its operators; those declared here where its extension does not load."""
    library = declare_operators()
    torchvision = importlib.import_module("torchvision")
    if library is not None:
        for name in ("extension", "ops.roi_align"):
            vars(importlib.import_module(f"torchvision.{name}"))["_has_ops"] = _has_ops
    return torchvision


def _has_ops() -> bool:  # TorchScript compiles it: no lambda
    return True


def _extension_loads(package: Path) -> bool:
    """Whether the compiled operators are there: loading them is the only sure test, and torchvision does it anyway."""
    candidates = sorted(package.glob("_C*.so"))
    if not candidates:
        return False
    try:
        torch.ops.load_library(str(candidates[0]))
    except OSError:
        return False
    return True


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """torchvision/csrc/ops/cpu/nms_kernel.cpp: each kept box suppresses those behind it."""
    x1, y1, x2, y2 = dets.unbind(1)
    area = (x2 - x1) * (y2 - y1)
    left = scores.argsort(descending=True, stable=True)
    kept: list[torch.Tensor] = []
    while left.numel():
        i, left = left[0], left[1:]
        kept.append(i)
        width = (torch.minimum(x2[i], x2[left]) - torch.maximum(x1[i], x1[left])).clamp(min=0)
        height = (torch.minimum(y2[i], y2[left]) - torch.maximum(y1[i], y1[left])).clamp(min=0)
        shared = width * height
        left = left[~((shared / (area[i] + area[left] - shared)).double() > iou_threshold)]
    return torch.stack(kept) if kept else scores.new_empty(0, dtype=torch.int64)


def _roi_align(*args: Any) -> torch.Tensor:
    """torchvision's own body in Python, which it keeps for other devices."""
    module = importlib.import_module("torchvision.ops.roi_align")
    body: Callable[..., torch.Tensor] = module._roi_align.__wrapped__
    return body(*args)


def _roi_align_shape(
    input: torch.Tensor, rois: torch.Tensor, spatial_scale: float, height: int, width: int, *_: Any
) -> torch.Tensor:
    return input.new_empty(rois.shape[0], input.shape[1], height, width)


def _deform_conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    bias: torch.Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> torch.Tensor:
    """Tap by tap: what each reads, times its weights, added up."""
    n, c = input.shape[:2]
    kh, kw = weight.shape[2:]
    oh, ow = offset.shape[2:]
    out = input.new_zeros(n, weight.shape[0], oh, ow) + bias.reshape(-1, 1, 1)
    moves = offset.reshape(n, offset_groups, kh * kw, 2, oh, ow)
    scales = mask.reshape(n, offset_groups, kh * kw, oh, ow) if use_mask else None
    for tap in range(kh * kw):
        i, j = divmod(tap, kw)
        y = moves[:, :, tap, 0] + torch.arange(oh).reshape(-1, 1) * stride_h - pad_h + i * dilation_h
        x = moves[:, :, tap, 1] + torch.arange(ow) * stride_w - pad_w + j * dilation_w
        read = _bilinear(input.reshape(n, offset_groups, c // offset_groups, *input.shape[2:]), y, x)
        if scales is not None:
            read = read * scales[:, :, None, tap]
        column = weight[:, :, i : i + 1, j : j + 1]
        out = out + torch.nn.functional.conv2d(read.reshape(n, c, oh, ow), column, groups=groups)
    return out


def _bilinear(planes: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """planes[n g c h w] at y, x [n g oh ow]; what lies outside counts as zero."""
    n, g, c, h, w = planes.shape
    out = planes.new_zeros(n, g, c, *y.shape[2:])
    for yi in (y.floor(), y.floor() + 1):
        for xi in (x.floor(), x.floor() + 1):
            part = (1 - (y - yi).abs()) * (1 - (x - xi).abs())
            part = part * ((yi >= 0) & (yi < h) & (xi >= 0) & (xi < w))
            place = yi.clamp(0, h - 1).long() * w + xi.clamp(0, w - 1).long()
            index = place.reshape(n, g, 1, -1).expand(-1, -1, c, -1)
            out += planes.reshape(n, g, c, h * w).gather(3, index).reshape(out.shape) * part[:, :, None]
    return out


def _deform_conv2d_shape(input: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor, *_: Any) -> torch.Tensor:
    return input.new_empty(input.shape[0], weight.shape[0], *offset.shape[-2:])
