"""Resampling of images and volumes, and decoding of compressed images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maiac.ir import DimLike, DType, Value

from ..context import NodeContext
from ..registry import onnx_op


@onnx_op("Resize")
def resize(c: NodeContext) -> Value:
    """Resample to sizes or by factors, from opset 11 on with all of its modes."""
    if c.opset < 11:
        return _resize(
            c, {"factors": _factors(c, 1)}, None, None, 1, {"coordinates": "asymmetric", "rounding": "floor"}
        )
    given = c.has(3) and c.shape(3) != (0,)
    attrs = {
        "coordinates": c.attr("coordinate_transformation_mode", "half_pixel"),
        "rounding": c.attr("nearest_mode", "round_prefer_floor"),
        "cubic": float(c.attr("cubic_coeff_a", -0.75)),
        "exclude_outside": bool(c.attr("exclude_outside", 0)),
        "antialias": bool(c.attr("antialias", 0)),
        "outside": float(c.attr("extrapolation_value", 0.0)),
        "keep_aspect": c.attr("keep_aspect_ratio_policy", "stretch"),
    }
    axes = c.ints("axes")
    if axes is not None:
        attrs["dims"] = tuple(a % c.rank(0) for a in axes)
    roi = c[1] if c.has(1) and c.shape(1) != (0,) and attrs["coordinates"] == "tf_crop_and_resize" else None
    if given:
        sizes = c.dims(3)
        if sizes is not None and attrs["keep_aspect"] == "stretch":
            return _resize(c, {"to": sizes}, roi, None, 3, attrs)
        return _resize(c, {}, roi, c[3], 3, attrs)
    return _resize(c, {"factors": _factors(c, 2)}, roi, None, 2, attrs)


def _factors(c: NodeContext, index: int) -> tuple[float, ...] | None:
    constant = c.constant(index) if c.has(index) else None
    return None if constant is None else tuple(float(v) for v in constant.reshape(-1))


def _resize(
    c: NodeContext, target: dict[str, Any], roi: Value | None, sizes: Value | None, index: int, attrs: dict[str, Any]
) -> Value:
    scales = None
    if target.get("factors", ()) is None:
        target, scales = {}, c[index]
    return c.emit("resize", c[0], roi, sizes, scales, mode=c.attr("mode", "nearest"), **target, **attrs)


@onnx_op("Upsample")
def upsample(c: NodeContext) -> Value:
    """The older form of Resize."""
    given = c.attr("scales")
    factors = tuple(float(v) for v in given) if given else _factors(c, 1)
    return _resize(c, {"factors": factors}, None, None, 1, {"coordinates": "asymmetric", "rounding": "floor"})


@onnx_op("GridSample")
def grid_sample(c: NodeContext) -> Value:
    """Read at positions of a grid."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(c.attr("mode", "linear"), c.attr("mode", "linear"))
    align = bool(c.attr("align_corners", 0))
    return c.emit("grid_sample", c[0], c[1], mode=mode, padding=c.attr("padding_mode", "zeros"), align_corners=align)


@onnx_op("RoiAlign")
def roi_align(c: NodeContext) -> Value:
    """Pooled samples of boxes."""
    default = "half_pixel" if c.opset >= 16 else "output_half_pixel"
    return c.emit(
        "roi_align", c[0], c[1], c[2], height=int(c.attr("output_height", 1)), width=int(c.attr("output_width", 1)),
        samples=int(c.attr("sampling_ratio", 0)), scale=float(c.attr("spatial_scale", 1.0)),
        reduce=c.attr("mode", "avg"), half_pixel=c.attr("coordinate_transformation_mode", default) == "half_pixel",
    )  # fmt: skip


@onnx_op("AffineGrid")
def affine_grid(c: NodeContext) -> Value:
    """Positions in [-1, 1] moved by theta[n d d+1]: [n *s d]."""
    size = c.dims(1)
    if size is None:
        c.fail("the number of dims of size is not known")
    n, spatial = size[0], size[2:]
    count, dtype = len(spatial), c.dtype(0)
    aligned = bool(c.attr("align_corners", 0))
    columns = [_axis_positions(c, spatial, i, dtype, aligned) for i in reversed(range(count))]
    ones = c.emit("full", value=1.0, dtype=dtype, shape=(*spatial, 1))
    base = c.emit("concat", *columns, ones, dim=count)
    total: DimLike = 1
    for s in spatial:
        total = s * total
    flat = c.reshape(base, (total, count + 1))
    moved = c.emit("matmul", flat, c.emit("transpose", c[0], perm=(0, 2, 1)))
    return c.reshape(moved, (n, *spatial, count))


def _axis_positions(c: NodeContext, spatial: Sequence[DimLike], i: int, dtype: DType, aligned: bool) -> Value:
    size = spatial[i]
    steps = c.cast(c.emit("iota", end=size), dtype)
    length = c.cast(c.emit("dim_tensor", value=size), dtype)
    one, two = c.const(1.0, dtype), c.const(2.0, dtype)
    if aligned:
        at = c.emit("sub", c.emit("div", c.emit("mul", steps, two), c.emit("sub", length, one)), one)
    else:
        doubled = c.emit("add", c.emit("mul", steps, two), one)
        at = c.emit("sub", c.emit("div", doubled, length), one)
    along = c.reshape(at, [size if k == i else 1 for k in range(len(spatial) + 1)])
    return c.emit("expand", along, shape=(*spatial, 1))


@onnx_op("ImageDecoder")
def image_decoder(c: NodeContext) -> Value:
    """Pixels of a compressed image."""
    return c.emit("decode_image", c[0], format=c.attr("pixel_format", "RGB"))
