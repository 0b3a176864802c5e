"""Where a traced operation came from: its module's path, and the line of the model's own code."""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Generator
from functools import lru_cache
from typing import Any

from maiac.ir.errors import Location

_HERE = os.path.dirname(__file__) + os.sep
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in ')
_ROOTS = ("L['self']", "L__self__", "self")


def location_of(node: Any) -> Location:
    """The module path and source line of an fx node; what is not known stays empty."""
    file, line = _innermost(node.meta.get("stack_trace") or "")
    return Location(module_path(node.meta.get("nn_module_stack")) or node.name, file, line)


def module_path(stack: Any) -> str:
    """The dotted path of the innermost module in an ``nn_module_stack``; "" for the root."""
    if not stack:
        return ""
    path, *_ = next(reversed(stack.values()))
    for root in _ROOTS:
        if path == root or path.startswith(f"{root}."):
            return path[len(root) + 1 :]
    return path


@lru_cache(maxsize=4096)
def _innermost(trace: str) -> tuple[str, int]:
    """The last frame outside torch itself; the last one at all where there is no other."""
    frames = _FRAME.findall(trace)
    if not frames:
        return "", 0
    own = [f for f in frames if not in_torch(f[0])]
    file, line = (own or frames)[-1]
    return file, int(line)


@lru_cache(maxsize=1024)
def in_torch(file: str) -> bool:
    """Whether a source file belongs to torch itself."""
    import torch

    return file.startswith(os.path.dirname(torch.__file__) + os.sep)


@contextlib.contextmanager
def whole_stacks() -> Generator[None]:
    """Let torch note every frame of the model's own code, not only those of functions called ``forward``.

    A fault in a helper function is then reported at the helper's line. Where this torch has no such filter, the
    lines of ``forward`` must do.
    """
    from torch.fx.proxy import TracerBase

    original = getattr(TracerBase, "_filter_traceback_frames", None)
    if original is None:
        yield
        return

    def own_frames(_tracer: Any, summary: traceback.StackSummary) -> traceback.StackSummary:
        first = next((i for i, frame in enumerate(summary) if frame.name == "forward"), len(summary))
        kept = [f for f in summary[first:] if not in_torch(f.filename) and not f.filename.startswith(_HERE)]
        return traceback.StackSummary.from_list(kept)

    TracerBase._filter_traceback_frames = own_frames  # type: ignore[method-assign]
    try:
        yield
    finally:
        TracerBase._filter_traceback_frames = original  # type: ignore[method-assign]
