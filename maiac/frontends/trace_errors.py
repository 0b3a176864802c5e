"""What torch.export's failures mean, at which lines of the model, and what else would fail after the first one.

torch.export stops where it first cannot go on. ``draft`` traces again with the values of the example inputs, as
``torch.export.draft_export`` does: it takes one way at each branch and notes every place that depends on data.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from maiac.ir.errors import Location

from .journal import CaptureError
from .locations import in_torch, location_of, module_path, whole_stacks
from .quiet import quiet_torch
from .restore import unchanged
from .statement import statement_of

if TYPE_CHECKING:
    from .exported import ProgramImport

_DATA_DEPENDENT = (
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "GuardOnDataDependentSymNode",
    "PendingUnbackedSymbolNotFound",
)
_NO_FAKE = ("fake impl", "fake kernel", "UnsupportedOperatorException", "meta kernel")


class TraceError(CaptureError):
    """torch.export failed, at these ``lines``. ``rest`` is the program for the example inputs, if there is one."""

    lines: tuple[str, ...] = ()
    rest: ProgramImport | None = None


@dataclass(frozen=True)
class Draft:
    """A program that holds for the example inputs alone, and the places that make it so."""

    program: ExportedProgram
    faults: tuple[tuple[str, Location], ...]  # a line of source and where it is, or a sentence


def trace_error(cause: Exception, model: torch.nn.Module, again: Callable[[], Draft | None]) -> TraceError:
    """The numbered error for a failure of torch.export, at the line of the user's code."""
    text = str(cause)
    loc = user_line(cause, model)
    kind, first = type(cause).__name__, first_line(cause)
    if kind == "GuardOnDataDependentSymNode" and loc.file:  # its message speaks of torch's own symbols
        first = f"`{linecache.getline(loc.file, loc.line).strip()}`"
    if "data-dependent" in text.lower() or kind in _DATA_DEPENDENT:
        made = _drafted("MAIA0202", f"control flow depends on the data: {first}", loc, again())
    elif any(word in text or word in kind for word in _NO_FAKE):
        made = _drafted("MAIA0204", f"{kind}: {first}", loc, again())
    elif "Constraints violated" in text or "dynamic_shapes" in text or "dynamic shapes" in text.lower():
        made = TraceError("MAIA0203", first, loc=loc, details=_suggestions(text))
    else:
        made = TraceError("MAIA0204", f"{kind}: {first}", loc=loc)
    statement = statement_of(own_frame(cause))
    if statement is not None:
        made.cases = ((made.code, statement), *made.cases)
    return made


def _drafted(code: str, message: str, loc: Location, draft: Draft | None) -> TraceError:
    """The error with all that the draft tells: other places of its kind, and operations without a Maia form."""
    if draft is None:
        return TraceError(code, message, loc=loc)
    from .exported import survey_exported

    details = [f"`{text}` at {place}" if place != Location() else text for text, place in draft.faults]
    lines = {(place.file, place.line) for _, place in draft.faults}
    rest = survey_exported(draft.program)
    journal = rest.journal
    journal.faults = [f for f in journal.faults if (f.loc.file, f.loc.line) not in lines]
    other = journal.error()
    details += [f"{line} ({other.code})" for line in other.details] if other is not None else []
    made = TraceError(code, message, loc=loc, details=details)
    made.lines, made.rest = tuple(details[: len(draft.faults)]), rest
    made.cases = other.cases if other is not None else ()
    return made


def draft(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Draft | None:
    """Trace for the example inputs alone; None where that fails as well."""
    from torch.export import draft_export

    try:
        with torch.no_grad(), unchanged(model), whole_stacks(), quiet_torch():
            program = draft_export(model, args, kwargs, dynamic_shapes=dynamic_shapes)
    except Exception:  # the first error, which is what the user gets, says what is wrong
        return None
    report: Any = getattr(program, "_report", None)
    names: dict[int, str] = {} if report is None else report.str_to_filename
    modules = _modules_by_line(program)
    found = [] if report is None else [_failure(f.data, names, modules) for f in report.failures]
    return Draft(program, tuple(dict.fromkeys(found)))


def _modules_by_line(program: ExportedProgram) -> dict[tuple[str, int], str]:
    """File and line -> the path of the module whose code stands there."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    places = [(location_of(node), module_path(node.meta.get("nn_module_stack"))) for node in nodes]
    return {(place.file, place.line): path for place, path in places if path}


def _failure(data: dict[str, Any], names: dict[int, str], modules: dict[tuple[str, int], str]) -> tuple[str, Location]:
    """One entry of draft_export's report."""
    frames = [(_file(f["filename"], names), int(f["line"]), str(f["loc"])) for f in data.get("user_stack") or ()]
    own = [f for f in frames if f[0] and not in_torch(f[0]) and not _is_ours(f[0])]
    if "op" in data:
        return f"{data['op']} has no fake kernel that fits: give it one with torch.library.register_fake", Location()
    if not own:
        return f"{data.get('expr', 'a value')} depends on the data", Location()
    file, line, text = own[-1]
    return text.strip(), Location(modules.get((file, line), ""), file, line)


def _file(index: Any, names: dict[int, str]) -> str:
    from torch._logging import structured

    if index in names:
        return names[index]
    return next((name for name, number in structured.INTERN_TABLE.items() if number == index), "")


def first_line(cause: Exception) -> str:
    """The first line of what an exception says."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__


def told_line(cause: Exception) -> Location | None:
    """The line of the model that torch names in an error of a graph's node, whose own frames are gone."""
    told = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', str(cause))
    own = [frame for frame in told if not in_torch(frame[0])]
    return Location(own[-1][2], own[-1][0], int(own[-1][1])) if own else None


def _suggestions(text: str) -> list[str]:
    """What torch.export says about each constraint, without its log advice."""
    return [line.strip(" -") for line in text.splitlines()[1:] if line.strip().startswith(("-", "*")) or " = " in line]


def _is_ours(file: str) -> bool:
    return file.startswith((str(Path(__file__).parent), "<"))


def own_frame(cause: Exception) -> TracebackType | None:
    """The innermost frame outside torch and outside this compiler."""
    found, frame = None, cause.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not in_torch(file) and not _is_ours(file):
            found = frame
        frame = frame.tb_next
    return found


def user_line(cause: Exception, model: torch.nn.Module) -> Location:
    """The line of that frame, with the path of the module whose method it is, or the function's name."""
    frame = own_frame(cause)
    if frame is None:
        return Location()
    code, owner = frame.tb_frame.f_code, frame.tb_frame.f_locals.get("self")
    path = next((name for name, module in model.named_modules() if module is owner), "")
    return Location(path or code.co_name, code.co_filename, frame.tb_lineno)
