"""THE list of passes, top to bottom."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Pass, get_pass
from .canonicalize import Canonicalize
from .cse import Cse
from .dce import Dce
from .fold import Fold
from .outline import Outline


def cleaning() -> list[Pass]:
    """What every program goes through first; quantization and partitioning come after it, and before fusion.

    Weights that the source quantized keep their codes, which Fold would make real.
    """
    return [Canonicalize(), get_pass("qdq")(), Fold(), Canonicalize(), Cse(), Dce()]


def default_pipeline(
    *,
    quantize: str | None = None,
    kv_dtype: str | None = None,
    mesh: Mapping[str, int] | None = None,
    target: str = "host",
) -> list[Pass]:
    """What ``maiac compile`` runs.

    quantize: a scheme of the quantize pass. kv_dtype: the dtype of the KV cache. mesh: axis sizes to partition for
    (``tp``, ``pp``). target: the name of a target; all share this list, and the report says how the program fits it.
    """
    passes = cleaning()
    captured = len(passes)
    if quantize is not None:
        passes.append(get_pass("quantize")(scheme=quantize))  # pyright: ignore[reportCallIssue]
    if kv_dtype is not None:
        passes.append(get_pass("kv_cache")(dtype=kv_dtype))  # pyright: ignore[reportCallIssue]
    if mesh and any(size > 1 for size in mesh.values()):
        passes.append(get_pass("partition")(**mesh))  # pyright: ignore[reportCallIssue]
    if len(passes) > captured:
        passes += [Cse(), Dce()]
    # What exporters spell out becomes the ops that it is; then what one kernel computes becomes a region.
    passes += [get_pass("fuse_patterns")(), Fold(), Cse(), Dce(), get_pass("fuse")(), Dce()]
    return [*passes, Outline()]  # each layer is written once
