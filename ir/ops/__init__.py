"""Every operation, by family. Importing this package defines them all."""

from . import (
    attention,
    collective,
    control,
    conv,
    create,
    elementwise,
    index,
    linear,
    norm,
    quant,
    reduce,
    shape,
    state,
)

__all__ = [
    "attention",
    "collective",
    "control",
    "conv",
    "create",
    "elementwise",
    "index",
    "linear",
    "norm",
    "quant",
    "reduce",
    "shape",
    "state",
]
