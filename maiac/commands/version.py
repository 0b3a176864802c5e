"""``maiac version``"""

from __future__ import annotations

from .. import __version__
from ..console import JsonFlag, emit, out

_SHOWN = ("torch", "onnx", "onnxruntime", "numpy", "transformers", "triton")


def version(json: JsonFlag = False) -> None:
    """Print the versions of maiac and of what it stands on."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    from ..runtime.manifest import FORMAT_VERSION, OLDEST_VERSION

    formats = f"{OLDEST_VERSION} to {FORMAT_VERSION}" if OLDEST_VERSION < FORMAT_VERSION else str(FORMAT_VERSION)
    found = {"maiac": __version__, "artifact format": formats, "python": platform.python_version()}
    for name in _SHOWN:
        try:
            found[name] = version_of(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if json:
        emit(found)
        return
    for name, value in found.items():
        out().print(f"{name:<16} {value}")
