"""``maiac bench``"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..console import JsonFlag, emit, out, plural, progress, seconds_text, table
from .options import ArtifactArgument, DimOption, SeedOption, read_dims


def bench(
    artifact: ArtifactArgument,
    vs: Annotated[str, typer.Option(metavar="ENGINES", help="Others to take turns with: ort, eager, inductor.")] = "",
    source: Annotated[str, typer.Option(metavar="MODEL", help="What the other engines run; needed for --vs.")] = "",
    seed: SeedOption = 0,
    dim: DimOption = [],  # noqa: B006  (typer reads the default)
    rounds: Annotated[int, typer.Option(min=1, help="How often the engines take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each turn runs.")] = 1.0,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of each engine; 0: as many as the machine has cores.")
    ] = 0,
    json: JsonFlag = False,
) -> None:
    """Time an artifact, alone or against other engines.

    Each engine runs in a process of its own; they take turns on the same inputs.
    """
    from ..benchmark import ENGINES, Setup, measure
    from ..ir.errors import MaiaError
    from .run import require_artifact

    require_artifact(artifact)
    engines = ["maiac", *(e.strip() for e in vs.split(",") if e.strip())]
    for engine in engines:
        if engine not in ENGINES:
            raise MaiaError("MAIA0706", f"--vs {engine}: expected one of {', '.join(ENGINES[1:])}")
    if len(engines) > 1 and not source:
        raise MaiaError("MAIA0706", f"--vs {vs} needs --source MODEL: what the artifact was compiled from")
    setup = Setup(artifact, source, seed, read_dims(dim), threads)
    with progress() as report:
        results = measure(setup, engines, rounds=rounds, seconds=seconds, progress=report)
    if json:
        emit({"threads": results[0].threads, "engines": {r.engine: r.to_json() for r in results}})
        return
    listed = table(
        "engine",
        "median",
        "best",
        "spread",
        "runs",
        "first run",
        "",
        right=["median", "best", "spread", "runs", "first run"],
    )
    ours = results[0].median
    for r in results:
        ratio = "" if r.engine == "maiac" else _ratio(r.median / ours)
        listed.add_row(
            r.engine,
            seconds_text(r.median),
            seconds_text(r.best),
            f"{100 * r.spread:.0f}%",
            f"{len(r.times):,}",
            seconds_text(r.first),
            ratio,
        )
    out().print(listed)
    how = f"{plural(results[0].threads, 'thread')} each, {rounds} turns of {seconds:g} s"
    out().print(f"[dim]{how}; the spread is that of the quartiles[/dim]")


def _ratio(ratio: float) -> Any:
    """How the artifact stands against an engine."""
    if 0.97 <= ratio <= 1.03:
        return "maiac is even"
    return (
        f"[green]maiac is {ratio:.2f}x as fast[/green]"
        if ratio > 1
        else f"[yellow]maiac is {ratio:.2f}x as fast[/yellow]"
    )
