"""maiac: bring a PyTorch or ONNX model to Maia-class accelerators.

Names are loaded on first use (PEP 562): ``import maiac`` costs no torch, so that ``maiac --help`` answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .collector import older_objects_frozen

if TYPE_CHECKING:
    from . import ir, onnx_backend, passes, runtime
    from .artifact import Artifact, load
    from .driver import capture, compile
    from .ir.errors import MaiaError

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "MaiaError",
    "__version__",
    "capture",
    "compile",
    "ir",
    "load",
    "onnx_backend",
    "passes",
    "runtime",
]

# No submodule may carry the name of a function here: importing it would put the module in the function's place.
_HOME = {
    "Artifact": ".artifact",
    "MaiaError": ".ir.errors",
    "capture": ".driver",
    "compile": ".driver",
    "load": ".artifact",
}
_SUBMODULES = frozenset({"ir", "onnx_backend", "passes", "runtime"})


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with older_objects_frozen():  # torch is imported here, or was
        value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
