"""Pattern fusions: what exporters write out of primitives becomes the op that it is.

Read ``cleanup`` (copies and views), ``norms``, ``batch_norm`` (constants per channel join weights, whose lazy contents
are in ``derived``), ``activations``, ``attention`` with ``masks`` and ``positions`` (what a mask says), ``rotary``,
``merge`` (products of one value), ``sharing`` (equal constants) and ``required`` (how many were found). Results differ
from the source's by rounding only; docs/fusion.md says where.
"""

from __future__ import annotations

from .passes import (
    DropCopies,
    FuseActivations,
    FuseAttention,
    FuseChannels,
    FuseNorms,
    FusePatterns,
    FuseRotary,
    MergeProducts,
    ShareConstants,
)
from .regions import Fuse
from .required import check_required, fusion_counts, fusion_names, parse_required

__all__ = [
    "DropCopies",
    "Fuse",
    "FuseActivations",
    "FuseAttention",
    "FuseChannels",
    "FuseNorms",
    "FusePatterns",
    "FuseRotary",
    "MergeProducts",
    "ShareConstants",
    "check_required",
    "fusion_counts",
    "fusion_names",
    "parse_required",
]
