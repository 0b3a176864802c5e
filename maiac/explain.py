"""Pages about error numbers. ``python -m maiac.explain > docs/errors.md`` writes them all."""

from __future__ import annotations

import difflib
import re
import sys

from .ir.catalogue import CATALOGUE, Entry
from .ir.errors import MaiaError

AREAS: dict[str, str] = {
    "01": "Maia text and IR",
    "02": "capture",
    "03": "passes",
    "04": "artifacts",
    "05": "running",
    "06": "distribution",
    "07": "command line",
}


def area_of(code: str) -> str:
    """The first two digits of a number, a key of AREAS."""
    return code[4:6]


def find(text: str) -> tuple[str, Entry]:
    """The page for ``MAIA0203``, ``maia203`` or ``203``; MAIA0708 where there is none."""
    digits = re.fullmatch(r"(?:MAIA)?[ -]?0*(\d{1,4})", text.strip(), re.IGNORECASE)
    code = f"MAIA{int(digits.group(1)):04}" if digits else text
    if code not in CATALOGUE:
        near = difflib.get_close_matches(code, CATALOGUE, 3)
        hint = f"near it are {', '.join(near)}; `maiac explain` lists all" if near else "`maiac explain` lists all"
        raise MaiaError("MAIA0708", f"there is no error {text!r}", hint=hint)
    return code, CATALOGUE[code]


def markdown() -> str:
    """docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "Every error that a user can repair has a number. `maiac explain NUMBER` prints its page.",
        "This file is generated: `python -m maiac.explain > docs/errors.md`.",
    ]
    last = ""
    for code, entry in sorted(CATALOGUE.items()):
        if area_of(code) != last:
            last = area_of(code)
            lines += ["", f"## MAIA{last}xx: {AREAS[last]}"]
        lines += ["", f"### {code}: {entry.title}", "", entry.cause, "", f"**What to do:** {entry.fix}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
