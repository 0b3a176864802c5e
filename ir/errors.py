"""Errors that a user can act on: numbered, located, and all of one kind at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .catalogue import CATALOGUE


@dataclass(frozen=True, slots=True)
class Location:
    """Where an operation came from: a module path or ONNX node name, and the Python line where known."""

    name: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file else ""
        return f"{self.name} ({place})" if self.name and place else self.name or place or "unknown place"


class MaiaError(Exception):
    """A fault that the user can repair.

    ``code`` is a key of the catalogue (``maiac explain CODE`` prints its page). ``details`` lists every fault of this
    kind, one line each; ``excerpt`` shows the text around the fault; ``hint`` says what to do; ``reproducers`` are
    files that show the fault alone.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        loc: Location | None = None,
        details: Sequence[str] = (),
        excerpt: str = "",
        hint: str = "",
    ) -> None:
        assert code in CATALOGUE, f"{code} is not in ir/catalogue.py"
        super().__init__(message)
        self.code = code
        self.message = message
        self.loc = loc
        self.details = tuple(details)
        self.excerpt = excerpt
        self.hint = hint or CATALOGUE[code].fix
        self.reproducers: list[Path] = []

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.message}"]
        if self.loc is not None and self.loc != Location():
            lines.append(f"  at {self.loc}")
        lines += [f"  - {detail}" for detail in self.details]
        if self.excerpt:
            lines += ["  | " + line for line in self.excerpt.splitlines()]
        lines += [f"  reproducer: {path}" for path in self.reproducers]
        lines.append(f"  help: {self.hint} (maiac explain {self.code})")
        return "\n".join(lines)

    def __reduce__(self):
        # Exceptions cross process boundaries (ranks, test workers); keyword arguments need telling how.
        return _rebuild, (self.code, self.message, self.loc, self.details, self.excerpt, self.hint, self.reproducers)


class InternalFault(MaiaError):
    """A fault of ours, not the user's (exit code 3): it asks for a report and names what to send."""


class TypeFault(Exception):
    """An operand does not fit; the builder or verifier adds where and turns it into a MaiaError."""

    def __init__(self, message: str, code: str = "MAIA0105") -> None:
        super().__init__(message)
        self.code = code


def _rebuild(
    code: str,
    message: str,
    loc: Location | None,
    details: tuple[str, ...],
    excerpt: str,
    hint: str,
    reproducers: list[Path],
) -> MaiaError:
    made = MaiaError(code, message, loc=loc, details=details, excerpt=excerpt, hint=hint)
    made.reproducers = reproducers
    return made


def raise_all(code: str, what: str, faults: Iterable[str], *, hint: str = "") -> None:
    """Raise one error that lists every fault; do nothing when there is none."""
    found = list(faults)
    if found:
        raise MaiaError(code, f"{what} ({len(found)} found)" if len(found) > 1 else what, details=found, hint=hint)
