"""``maiac inspect``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import JsonFlag, bytes_text, count_text, emit, facts, out, plural, progress, table
from .compile_ import file_size, flops_text, mesh_text, ports_text, weights_text
from .options import DimOption, TrustFlag, read_dims


def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An artifact, or any model that compile takes.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every checksum of an artifact, weights too.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="List every weight.")] = False,
    dim: DimOption = [],  # noqa: B006  (typer reads the default)
    trust: TrustFlag = False,
    json: JsonFlag = False,
) -> None:
    """Show what a model consists of, and whether it can be compiled."""
    from ..inspection import inspect_model

    with progress() as report:
        found = inspect_model(model, read_dims(dim), verify=verify, trust=trust, progress=report)
    if json:
        emit(found)
    else:
        _show(found, model, weights=weights)
    if found["unsupported"]:
        raise typer.Exit(1)


def _show(found: dict[str, Any], model: str, *, weights: bool) -> None:
    where = Path(model)
    size = f"  {bytes_text(file_size(where))}" if where.exists() else ""
    out().print(f"[bold]{model}[/bold]{size}  [dim]{found['kind']}[/dim]\n", highlight=False)
    if found["unsupported"]:
        _show_unsupported(found)
        return
    summary = found["summary"]
    rows: list[tuple[str, Any]] = []
    if found["artifact"]:
        rows += _artifact_rows(found["artifact"])
    if summary["mesh"]:
        rows.append(("mesh", mesh_text(summary)))
    rows += [("inputs", ports_text(summary["inputs"])), ("outputs", ports_text(summary["outputs"]))]
    if summary["symbols"]:
        rows.append(("dims", ", ".join(f"{n} in {r}" for n, r in summary["symbols"].items())))
    rows.append(("weights", weights_text(summary)))
    if summary["states"]:
        rows.append(("states", bytes_text(summary["state_bytes"])))
    rows.append(("compute", flops_text(summary)))
    if summary["flops_expression"]:
        rows.append(("", f"[dim]{summary['flops_expression']}[/dim]"))
    if not found["artifact"]:
        rows.append(("supported", "[green]yes[/green], every operation"))
    out().print(facts(rows))
    _show_ops(summary)
    if weights:
        listed = table("weight", "type", "bytes", right=["bytes"])
        for name, row in found["weights"].items():
            listed.add_row(name, row["type"].replace("[", r"\["), f"{row['bytes']:,}")
        out().print(listed)


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


def _show_unsupported(found: dict[str, Any]) -> None:
    error = found["unsupported"]
    out().print(f"[red]cannot be compiled[/red]: {error['message']} [dim]({error['code']})[/dim]")
    for line in error["details"]:
        out().print(f"  - {line}", markup=False)
    if found["source_ops"]:
        listed = table("operator in the file", "count", right=["count"])
        for name, count in found["source_ops"].items():
            listed.add_row(name, f"{count:,}")
        out().print(listed)
