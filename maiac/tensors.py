"""Between torch and NumPy, small float types included (through ml_dtypes); memory is shared where it can be."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import torch


@cache
def _small() -> dict[torch.dtype, np.dtype[Any]]:
    """torch's dtypes that NumPy itself does not have."""
    return {
        torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
        torch.float8_e4m3fn: np.dtype(ml_dtypes.float8_e4m3fn),
        torch.float8_e5m2: np.dtype(ml_dtypes.float8_e5m2),
        torch.float8_e4m3fnuz: np.dtype(ml_dtypes.float8_e4m3fnuz),
        torch.float8_e5m2fnuz: np.dtype(ml_dtypes.float8_e5m2fnuz),
        torch.float8_e8m0fnu: np.dtype(ml_dtypes.float8_e8m0fnu),
    }


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """A tensor (or number) as an array."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    tensor = value.detach().cpu().resolve_conj().resolve_neg()
    small = _small().get(tensor.dtype)
    if small is None:
        return tensor.numpy()
    carrier = torch.int16 if tensor.dtype.itemsize == 2 else torch.uint8
    return tensor.contiguous().view(carrier).numpy().view(small)


def from_numpy(array: Any) -> Any:
    """An array as a tensor; strings stay arrays."""
    array = np.asarray(array)
    if array.dtype.kind in "OUST":
        return array
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    for dtype, small in _small().items():
        if array.dtype == small:
            carrier = np.int16 if dtype.itemsize == 2 else np.uint8
            return torch.from_numpy(np.array(array).view(carrier)).view(dtype)
    if array.dtype.itemsize == 1 and array.dtype in (np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.uint4)):
        array = array.astype(np.int8 if array.dtype == np.dtype(ml_dtypes.int4) else np.uint8)
    if any(s < 0 for s in array.strides) or not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array)
