"""What a compilation is asked to do: options that are checked once, when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .ir.dtypes import BY_NAME
from .ir.errors import MaiaError
from .targets import get_target

QUANTIZE = ("fp8", "int8")
MESH_AXES = ("pp", "tp")


@dataclass(frozen=True)
class CompileOptions:
    """Options of ``maiac compile``; MAIA0706 or MAIA0707 where one has a value that does not exist.

    target: a file in maiac/targets. quantize: None, or the scheme for weights. kv_dtype: None, or the dtype of caches.
    mesh: how many ranks each axis is cut for, at most; axes of size 1 are left out.
    """

    target: str = "host"
    quantize: str | None = None
    kv_dtype: str | None = None
    mesh: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        get_target(self.target)
        if self.quantize is not None and self.quantize not in QUANTIZE:
            raise MaiaError("MAIA0706", f"quantize = {self.quantize!r}; expected one of {', '.join(QUANTIZE)}")
        if self.kv_dtype is not None and (self.kv_dtype not in BY_NAME or not BY_NAME[self.kv_dtype].is_float):
            floats = [n for n, d in BY_NAME.items() if d.is_float]
            raise MaiaError("MAIA0706", f"kv_dtype = {self.kv_dtype!r}; expected one of {', '.join(floats)}")
        object.__setattr__(self, "mesh", checked_mesh(self.mesh))

    def describe(self) -> dict[str, str]:
        """The options that are not at their defaults, as text for the manifest."""
        mesh = ",".join(f"{a}={n}" for a, n in self.mesh.items())
        chosen = {"target": self.target, "quantize": self.quantize, "kv_dtype": self.kv_dtype, "mesh": mesh}
        return {k: v for k, v in chosen.items() if v}


def checked_mesh(mesh: Mapping[str, int] | None) -> dict[str, int]:
    """A mesh in the order of its axes (major first), without axes of size 1; MAIA0706 for others."""
    given = dict(mesh or {})
    for axis, size in given.items():
        if axis not in MESH_AXES:
            raise MaiaError("MAIA0706", f"the mesh axis {axis!r}; expected {' or '.join(MESH_AXES)}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MaiaError("MAIA0706", f"mesh axis {axis} = {size!r}; expected an integer of at least 1")
    return {axis: given[axis] for axis in MESH_AXES if given.get(axis, 1) > 1}
