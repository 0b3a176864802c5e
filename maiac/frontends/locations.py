"""Where a traced operation came from: its module's path, and the line of the model's own code."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from maiac.ir.errors import Location

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
    import torch  # noqa: PLC0415

    return file.startswith(os.path.dirname(torch.__file__) + os.sep)
