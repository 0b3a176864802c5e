"""The command line. Commands import what they need when they run: ``maiac --help`` must answer at once."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from .commands import bench, compare, compile_, explain, inspect_, ops, opt, run, targets, version

if TYPE_CHECKING:
    from .ir.errors import MaiaError

MOST_DETAILS = 12  # lines of an error that a terminal shows
_interruptions: list[float] = []  # when Ctrl-C was pressed
USER_ERROR, USAGE_ERROR, OUR_FAULT, INTERRUPTED, TERMINATED = 1, 2, 3, 130, 143

app = typer.Typer(
    name="maiac",
    help="Bring a PyTorch or ONNX model to Maia-class accelerators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 a mistake in the input, 2 wrong usage, 3 a fault of maiac itself.",
)
for group, commands in {
    "From model to result": (compile_.compile, run.run, compare.compare, bench.bench),
    "Looking inside": (inspect_.inspect, opt.opt),
    "Reference": (ops.ops, targets.targets, explain.explain, version.version),
}.items():
    for function in commands:
        app.command(name=function.__name__.rstrip("_"), rich_help_panel=group)(function)


def main() -> None:
    """The entry point of the ``maiac`` script."""
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, _interrupted)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of libraries are for whoever calls them; `python -W` brings them back
    raise SystemExit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; gives its exit code."""
    as_json = "--json" in arguments
    try:
        app(args=list(arguments), prog_name="maiac")
        return 0
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `maiac ops | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as e:
        if _interruptions:  # a library swallowed Ctrl-C, in the middle of its own import perhaps, and broke for it
            return INTERRUPTED
        from .ir.errors import InternalFault, MaiaError

        e = _out_of_memory(e) or e
        if not isinstance(e, MaiaError):
            _crash(e, arguments, as_json=as_json)
            return OUR_FAULT
        _show(e, as_json=as_json)
        return OUR_FAULT if isinstance(e, InternalFault) else USER_ERROR


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)  # so that half-written files are removed on the way out


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    _interruptions.append(time.monotonic())
    raise KeyboardInterrupt


def _out_of_memory(error: Exception) -> MaiaError | None:
    """MAIA0714 for what allocators of Python, NumPy and torch raise; None for other exceptions."""
    from .console import bytes_text
    from .ir.errors import MaiaError

    if isinstance(error, MemoryError):
        return MaiaError("MAIA0714", str(error) or "memory is exhausted")
    if "Storage size calculation overflowed" in str(error):
        return MaiaError("MAIA0714", "a tensor has more bytes than can be addressed")
    found = re.search(r"allocate (\d+) bytes", str(error))
    return MaiaError("MAIA0714", f"a tensor of {bytes_text(int(found[1]))} does not fit into memory") if found else None


def _show(error: MaiaError, *, as_json: bool) -> None:
    from .console import err

    if as_json:
        table = {
            "code": error.code,
            "message": error.message,
            "location": str(error.loc) if error.loc else None,
            "details": list(error.details),
            "excerpt": error.excerpt,
            "hint": error.hint,
            "reproducers": [str(path) for path in error.reproducers],
        }
        sys.stdout.write(json.dumps({"error": table}, indent=2) + "\n")
        return
    from rich.text import Text

    first, *rest = str(error).splitlines()
    code, colon, message = first.partition(":")
    err().print(Text.assemble((code, "bold red"), colon, (message, "bold")), soft_wrap=True)
    details = [line for line in rest if line.startswith("  - ")]
    for line in details[MOST_DETAILS:]:
        rest.remove(line)
    if len(details) > MOST_DETAILS:
        rest.insert(rest.index(details[MOST_DETAILS - 1]) + 1, f"  - and {len(details) - MOST_DETAILS} more (--json)")
    for line in rest:
        err().print(Text(line, style="cyan" if line.startswith("  help:") else ""), soft_wrap=True)


def _crash(error: Exception, arguments: Sequence[str], *, as_json: bool) -> None:
    """Say that it is our fault, and where the report is."""
    from . import __version__

    report = "\n".join(
        [
            f"maiac {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command: maiac {' '.join(arguments)}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    with tempfile.NamedTemporaryFile("w", prefix="maiac-crash-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(report)
    what = f"{type(error).__name__}: {error}"
    if as_json:
        sys.stdout.write(json.dumps({"crash": {"message": what, "report": file.name}}, indent=2) + "\n")
    sys.stderr.write(
        f"maiac made a mistake: {what.splitlines()[0]}\n"
        f"Please report it with the file {Path(file.name)}, which says what happened and holds no model data.\n"
    )
