"""``maiac inspect``"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..console import JsonFlag, bytes_text, count_text, emit, facts, out, plural, progress, table
from .compile_ import file_size, flops_text, mesh_text, ports_text, weights_text
from .options import DimOption, TrustFlag, read_dims

LONGEST = 44  # columns of an operator's name that are never broken
MOST_PLACES = 8  # of one fault, that a terminal shows
WIDE = 110  # columns from which on the table of operators says what they become


def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An artifact, or any model that compile takes.")],
    top: Annotated[int, typer.Option(min=0, help="How many modules to list, the costliest first.")] = 10,
    reproducers: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a small file for each kind of fault that shows it alone.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check every checksum of an artifact, weights too.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="List every weight.")] = False,
    dim: DimOption = [],  # noqa: B006  (typer reads the default)
    trust: TrustFlag = False,
    json: JsonFlag = False,
) -> None:
    """Show what a model consists of, and what keeps it from compiling. Reads no weights and needs no device."""
    from ..inspection import inspect_model

    sizes = read_dims(dim)
    with progress() as report:
        found = inspect_model(model, sizes, verify=verify, trust=trust, reproducers=reproducers, progress=report)
    if json:
        emit(found)
    else:
        _show(found, model, weights=weights, top=top)
    if found["unsupported"]:
        raise typer.Exit(1)


def _show(found: dict[str, Any], model: str, *, weights: bool, top: int) -> None:
    where = Path(model)
    size = f", {bytes_text(file_size(where))}" if where.exists() else ""
    color = "red" if found["unsupported"] else "green"
    out().print(f"[bold]{escape(model)}[/bold]: [{color}]{escape(found['verdict'])}[/{color}]", highlight=False)
    out().print(f"[dim]{found['kind']}{size}[/dim]\n")
    _show_faults(found)
    out().print(facts(_facts(found)))
    if found["operators"]:
        _show_operators(found["operators"])
    else:
        _show_ops(found["summary"])
    _show_modules(found["modules"], top)
    if weights:
        listed = table("weight", "type", "bytes", right=["bytes"])
        for name, row in found["weights"].items():
            listed.add_row(escape(name), escape(row["type"]), f"{row['bytes']:,}")
        out().print(listed)


def _facts(found: dict[str, Any]) -> list[tuple[str, Any]]:
    summary = found["summary"]
    rows: list[tuple[str, Any]] = []
    if found["artifact"]:
        rows += _artifact_rows(found["artifact"])
    if summary["mesh"]:
        rows.append(("mesh", mesh_text(summary)))
    rows.append(("inputs", ports_text(summary["inputs"])))
    if not found["unsupported"]:
        rows.append(("outputs", ports_text(summary["outputs"])))
    if summary["symbols"]:
        rows.append(("dims", "\n".join(f"{n} in {r}" for n, r in summary["symbols"].items())))
    rows.append(("weights", weights_text(summary)))
    if summary["states"]:
        rows.append(("states", bytes_text(summary["state_bytes"])))
    without = " without what is not supported" if found["unsupported"] else ""
    rows.append(("compute", flops_text(summary) + without))
    if summary["flops_expression"]:
        rows.append(("", f"[dim]{summary['flops_expression']}[/dim]"))
    return rows + [("note", note) for note in found["notes"]]


def _artifact_rows(artifact: dict[str, Any]) -> list[tuple[str, Any]]:
    source = artifact["source"]
    options = ", ".join(f"{k} {v}" for k, v in artifact["options"].items())
    rows: list[tuple[str, Any]] = [
        ("source", f"{source.get('kind', 'unknown')} {source.get('name', '')}"),
        ("compiled by", f"maiac {artifact['compiler'].get('maiac')}, torch {artifact['compiler'].get('torch')}"),
        ("for", options or "host"),
        (
            "checksums",
            "[green]all correct[/green]" if artifact["verified"] else "correct; weights not checked (--verify)",
        ),
        ("self-test", "stored" if "inputs" in artifact["golden"] else f"none: {artifact['golden'].get('skipped')}"),
    ]
    if artifact["links"]:
        rows.append(("linked", "\n".join(f"{k['path']} ({bytes_text(k['size'])})" for k in artifact["links"])))
    return rows


def _show_ops(summary: dict[str, Any]) -> None:
    """Operations by the compute that they take."""
    listed = table("operation", "count", "FLOPs", "share", right=["count", "FLOPs", "share"])
    total = summary["flops"] or 1
    rows = sorted(summary["ops"].items(), key=lambda row: (-summary["flops_by_op"].get(row[0], 0), -row[1], row[0]))
    for name, count in rows:
        flops = summary["flops_by_op"].get(name, 0)
        share = f"{100 * flops / total:.1f}%" if flops else ""
        listed.add_row(name, f"{count:,}", count_text(flops) if flops else "", share)
    calls = sum(summary["ops"].values())
    shared = f", {summary['ops_in_program']:,} written" if summary["ops_in_program"] < calls else ""
    out().print(listed)
    host = sum(summary["host_ops"].values())
    apart = f", {host:,} of them on the host only" if host else ""
    out().print(f"[dim]{plural(calls, 'operation')} in a run{shared}{apart}[/dim]")


def _show_faults(found: dict[str, Any]) -> None:
    """Each kind of fault with its places, one a line: this is what the command is for, so nothing is cut off."""
    for fault in found["faults"]:
        places = fault["places"]
        what = operator_text(fault["operator"]) or fault["why"]
        count = f"  [dim]{plural(len(places), 'place')}[/dim]" if fault["operator"] else ""
        out().print(f"[red]x[/red] {escape(what)}{count}  [dim]{fault['code']}[/dim]", soft_wrap=True)
        if fault["operator"]:
            for place in places[:MOST_PLACES]:
                out().print(f"    {escape(place_text(place))}", soft_wrap=True)
        if len(places) > MOST_PLACES:
            out().print(f"    [dim]and {len(places) - MOST_PLACES} more (--json)[/dim]")
        if fault["operator"] and fault["why"]:
            out().print(f"    {escape(fault['why'])}", soft_wrap=True)
        if fault["advice"]:
            out().print(f"    [cyan]instead: {escape(fault['advice'])}[/cyan]", soft_wrap=True)
    for path in found["reproducers"]:
        out().print(f"reproducer: {escape(path)}", soft_wrap=True)
    if found["faults"]:
        out().print("")


def operator_text(name: str) -> str:
    """``aten.relu`` of ``aten::relu.default``; other overloads keep their names."""
    return name.replace("::", ".").removesuffix(".default")


def place_text(place: dict[str, Any], *, short: bool = False) -> str:
    """``encoder.0 model.py:12``: files here and in packages without their folder; short: the file's name alone."""
    file = place["file"]
    if short:
        file = file.rpartition(os.sep)[2]
    elif "site-packages/" in file:
        file = file.rpartition("site-packages/")[2]
    elif file.startswith(f"{Path.cwd()}{os.sep}"):
        file = os.path.relpath(file)
    line = f"{file}:{place['line']}" if file else ""
    return "  ".join(part for part in (place["name"], line) if part)


def _show_operators(operators: list[dict[str, Any]]) -> None:
    """The operators of the source; what they become stands there where the terminal is wide enough."""
    wide = out().width >= WIDE
    names = ["operator", "count", "FLOPs", "runs on", "first at", *(["becomes"] if wide else [])]
    listed = table(*names, right=["count", "FLOPs"], wrap=["first at", "becomes"])
    listed.columns[0].min_width = min(max(len(operator_text(row["operator"])) for row in operators), LONGEST)
    for row in operators:
        where = row["runs_on"] if row["supported"] else f"[red]{row['runs_on']}[/red]"
        flops = count_text(row["flops"]) if row["flops"] else ""
        cells = [escape(operator_text(row["operator"])), f"{row['count']:,}", flops, where]
        cells.append(escape(place_text(row["places"][0], short=not wide)))
        if wide:
            cells.append(", ".join(f"{n} x{k}" if k > 1 else n for n, k in row["becomes"].items()))
        listed.add_row(*cells)
    out().print(listed)


def _show_modules(modules: list[dict[str, Any]], top: int) -> None:
    from ..report import merge_alike

    rows = [row for row in merge_alike(modules) if row["flops"] or row["parameters"]]
    if not rows or not top:
        return
    listed = table("module", "FLOPs", "share", "parameters", right=["FLOPs", "share", "parameters"])
    total = sum(row["flops"] for row in rows) or 1
    for row in rows[:top]:
        times = f"  [dim]x{row['times']}[/dim]" if row["times"] > 1 else ""
        flops = count_text(row["flops"]) if row["flops"] else ""
        share = f"{100 * row['flops'] / total:.1f}%" if row["flops"] else ""
        parameters = count_text(row["parameters"]) if row["parameters"] else ""
        listed.add_row(escape(row["place"] or "(top)") + times, flops, share, parameters)
    out().print(listed)
    if len(rows) > top:
        out().print(f"[dim]and {len(rows) - top} modules more (--top, --json)[/dim]")
