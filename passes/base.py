"""What a pass is: a frozen dataclass whose fields are its options, found by name."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from contextvars import ContextVar
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import Any, ClassVar, TypeVar, get_type_hints

from maiac.ir import MaiaError, Module
from maiac.ir.errors import InternalFault

# Where passes live; imported on the first look-up, so that naming a pass costs nothing.
_HOMES = ("canonicalize", "fold", "cse", "dce", "outline", "inline", "quantization", "partition", "fusion")


class PassFault(InternalFault):
    """A pass broke. ``reproducers`` holds the file that shows it."""


@dataclass(frozen=True)
class Pass(ABC):
    """A transformation of a module. Fields are options; ``name`` is what pipelines call it."""

    name: ClassVar[str] = ""

    @abstractmethod
    def run(self, module: Module) -> bool:
        """Transform the module in place; true exactly when anything changed."""

    @classmethod
    def options(cls) -> dict[str, tuple[Any, Any]]:
        """Option name -> (annotated type, default); the default is ``dataclasses.MISSING`` where required."""
        hints = get_type_hints(cls)
        return {
            f.name: (hints[f.name], f.default_factory() if f.default_factory is not MISSING else f.default)
            for f in fields(cls)
        }


# What the running pass has to say to the user; the manager puts a list here and hands it on in its report.
NOTES: ContextVar[list[str] | None] = ContextVar("maiac_pass_notes", default=None)


def note(text: str) -> None:
    """Tell the user something about this run of a pass: what it chose, what it left alone and why."""
    notes = NOTES.get()
    if notes is not None:
        notes.append(text)


P = TypeVar("P", bound=type[Pass])
_PASSES: dict[str, type[Pass]] = {}


def register(cls: P) -> P:
    """Make a pass known under its ``name``."""
    assert cls.name, f"{cls.__name__} has no name"
    assert _PASSES.get(cls.name) in (None, cls), f"two passes are called {cls.name}"
    _PASSES[cls.name] = cls
    return cls


def _loaded() -> dict[str, type[Pass]]:
    for home in _HOMES:
        import_module(f".{home}", __package__)
    return _PASSES


def pass_names() -> list[str]:
    """The names of all passes, sorted."""
    return sorted(_loaded())


def get_pass(name: str) -> type[Pass]:
    """The pass of a name; MAIA0304 with the nearest names where there is none."""
    found = _PASSES.get(name) or _loaded().get(name)
    if found is None:
        near = difflib.get_close_matches(name, _PASSES, 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"the passes are {', '.join(pass_names())}"
        raise MaiaError("MAIA0304", f"there is no pass {name!r}", hint=hint)
    return found
