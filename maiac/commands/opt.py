"""``maiac opt``"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import JsonFlag, emit, err, plural, progress, seconds_text, table

if TYPE_CHECKING:
    from ..ir import Module
    from ..passes import Missed, PipelineReport


def opt(
    file: Annotated[str, typer.Argument(help="Maia text (.maia), any model that compile takes, or - for stdin.")],
    passes: Annotated[
        str | None,
        typer.Option(help="Passes to run, as `fold,cse,outline{min_ops=4}`; else those that the file's header names."),
    ] = None,
    why: Annotated[str, typer.Option(metavar="RULE", help="List where this rule did not apply, and why.")] = "",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the text here, not on stdout.")] = None,
    dump_ir: Annotated[Path | None, typer.Option(help="A folder for the text after each pass.")] = None,
    json: JsonFlag = False,
) -> None:
    """Run passes on Maia text and print what becomes of it."""
    from ..ir import print_module
    from ..passes import collect_misses, run_pipeline
    from ..passes.text import parse_pipeline

    module, header = _read(file)
    chosen = parse_pipeline(passes if passes is not None else header or "")
    with collect_misses(why) if why else contextlib.nullcontext(list[Any]()) as misses, progress() as step:
        report = run_pipeline(module, chosen, dump_dir=dump_ir, progress=step)
    text = print_module(module)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    if json:
        found = [{"rule": m.rule, "op": m.op, "at": str(m.loc), "reason": m.reason, "value": m.value} for m in misses]
        emit({**report.to_json(), "misses": found} | ({} if output is not None else {"text": text}))
        return
    if output is None:
        sys.stdout.write(text)
    _tell(report, why, misses)


def _read(file: str) -> tuple[Module, str | None]:
    """The module of a file, and the pipeline that its header names."""
    from ..ir import parse
    from ..passes.manager import passes_in_header
    from ..sources import kind_of, open_source

    if file == "-":
        text = sys.stdin.read()
        return parse(text, file="<stdin>"), passes_in_header(text)
    header = passes_in_header(Path(file).read_text(encoding="utf-8")) if kind_of(file) == "text" else None
    return open_source(file).module, header


def _tell(report: PipelineReport, why: str, misses: list[Missed]) -> None:
    """What each pass did, and why the rule missed, on stderr."""
    if report.passes:
        listed = table("pass", "ops before", "ops after", "time", "", right=["ops before", "ops after", "time"])
        for each in report.passes:
            mark = "" if each.changed else "[dim]nothing to do[/dim]"
            listed.add_row(each.text, f"{each.ops_before:,}", f"{each.ops_after:,}", seconds_text(each.seconds), mark)
        err().print(listed)
        for note in (n for each in report.passes for n in each.notes):
            err().print(note, markup=False)
    if why:
        err().print(f"{why} did not apply in {plural(len(misses), 'place')}" + (":" if misses else ""))
        for miss in misses:
            err().print(f"  {miss}", markup=False)
