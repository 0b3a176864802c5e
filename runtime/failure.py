"""From a kernel's exception to an error that names the operation, its place and what it was given."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from maiac.ir.errors import MaiaError

from .codegen import Compiled, Line
from .plan import Source
from .signature import describe


def explain(error: Exception, compiled: Compiled) -> Exception:
    """MAIA0503 for an exception that a generated line raised; a numbered error gets the place where it arose."""
    found = _innermost(error.__traceback__, compiled)
    if found is None:
        return error
    line, scope = found
    if isinstance(error, MaiaError):
        error.loc = error.loc or line.step.loc
        return error
    op = line.step.op
    details = [
        f"operand {i}: {_declared(value)}, which is {_actual(text, scope)}"
        for i, (value, text) in enumerate(zip(line.step.operands, line.operands, strict=True))
        if value is not None
    ]
    details += [f"{k} = {v}" for k, v in line.step.attrs.items()]
    what = str(error).strip().splitlines()
    message = f"{op.name} failed: {what[0] if what else type(error).__name__}"
    return MaiaError("MAIA0503", message, loc=line.step.loc, details=details)


def _innermost(tb: TracebackType | None, compiled: Compiled) -> tuple[Line, dict[str, Any]] | None:
    """The deepest generated frame's line, with its variables."""
    found = None
    while tb is not None:
        frame = tb.tb_frame
        if frame.f_code.co_filename == compiled.filename and tb.tb_lineno in compiled.lines:
            found = compiled.lines[tb.tb_lineno], {**frame.f_globals, **frame.f_locals}
        tb = tb.tb_next
    return found


def _declared(value: Source) -> str:
    return f"%{value.name} : {value.type}" if value.name else str(value.type)


def _actual(text: str | None, scope: dict[str, Any]) -> str:
    return describe(scope[text]) if text in scope else "absent"
