"""Handlers by family; importing this package fills the table."""

from . import (
    activation,
    attention,
    control,
    elementwise,
    image,
    indexing,
    linear,
    nn,
    norm,
    quant,
    recurrent,
    reduce,
    sequence,
    shape,
    signal,
)

__all__ = [
    "activation",
    "attention",
    "control",
    "elementwise",
    "image",
    "indexing",
    "linear",
    "nn",
    "norm",
    "quant",
    "recurrent",
    "reduce",
    "sequence",
    "shape",
    "signal",
]
