"""Files that show the faults of a model alone: written beside the dumps of passes, each tried before it is named."""

from __future__ import annotations

import contextlib
import re
import runpy
from collections.abc import Generator
from pathlib import Path
from typing import Any

from .frontends.journal import CaptureError, Reproducer
from .ir.errors import MaiaError
from .sources import open_source

MOST = 12  # files that one error leaves
MOST_LETTERS = 100  # of what a model says in a file's name
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")


@contextlib.contextmanager
def reproducers_in(folder: str | Path | None) -> Generator[None]:
    """Write a reproducer for each kind of fault that capture finds inside, into a folder or here, and name it."""
    try:
        yield
    except CaptureError as error:
        write_reproducers(error, Path(folder or "."))
        raise


def write_reproducers(error: CaptureError, folder: Path) -> None:
    """Add the files to ``error.reproducers``. One that does not show its fault, or cannot be written, is left out."""
    for code, make in error.cases[:MOST]:
        try:
            made = make()
        except Exception:  # what is damaged may not be copied either; the fault counts
            continue
        if made is None:
            continue
        path = _free_name(folder, made, error.reproducers)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made.content)
        except OSError:
            return
        try:
            shows = fault_of(path) == code
        except BaseException:  # Ctrl-C: what was not tried does not stay
            path.unlink(missing_ok=True)
            raise
        if shows:
            error.reproducers.append(path)
        else:
            path.unlink(missing_ok=True)  # another process may have tidied up


def _free_name(folder: Path, made: Reproducer, taken: list[Path]) -> Path:
    """A name that no other file of this error has; one that an earlier compilation left is written anew."""
    stem = _NO_NAME.sub("_", made.stem)[:MOST_LETTERS]  # it holds names of the model, which may be anything
    names = (f"maiac-repro-{stem}{f'-{i}' if i > 1 else ''}{made.suffix}" for i in range(1, MOST + 1))
    return next(path for name in names if (path := folder / name) not in taken)


def fault_of(path: Path) -> str:
    """The number of the error that a reproducer shows; "" where it shows none."""
    try:
        if path.suffix == ".py":
            made: Any = runpy.run_path(str(path))["make"]()
            open_source(made[0], made[1], made[2], made[3])
        else:
            open_source(path)
    except MaiaError as error:
        return error.code
    except Exception:  # whatever a script does that cannot be run alone
        return ""
    return ""
