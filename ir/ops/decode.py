"""Compressed images (ONNX ImageDecoder), decoded on the host by Pillow, which is an optional dependency."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import TensorType, Type
from .sampling import Sample, Sampler

_CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}


@op("x:u8[n] -> y", host=True)
def decode_image(x: Any, *, format: str = "RGB") -> Any:
    """The pixels u8[height width channels] of a compressed image: any kind that Pillow reads.

    format: the channels, which are RGB, BGR or Grayscale.
    """
    try:
        from PIL import Image
    except ImportError as missing:
        raise ImportError("decoding images needs Pillow; install it with `pip install pillow`") from missing
    image = Image.open(io.BytesIO(x.cpu().numpy().tobytes())).convert("L" if format == "Grayscale" else "RGB")
    pixels = torch.from_numpy(np.array(image)).reshape(image.height, image.width, _CHANNELS[format])
    return pixels.flip(2) if format == "BGR" else pixels


@decode_image.infer
def _(x: TensorType, *, format: str = "RGB") -> Type:
    if format not in _CHANNELS:
        raise TypeFault(f"format is {format!r}; expected one of {', '.join(_CHANNELS)}")
    return TensorType(DType.U8, (unknown(0), unknown(1), _CHANNELS[format]))


@decode_image.samples
def _(s: Sampler) -> Iterator[Sample]:
    """Images in the plainest format there is: PNM, whose header is text."""
    pixels = s.ints(4 * 6 * 3, high=256, dtype=DType.U8)
    header = torch.tensor(list(b"P6 6 4 255\n"), dtype=torch.uint8)
    for format in _CHANNELS:
        yield (torch.cat([header, pixels]),), {"format": format}
