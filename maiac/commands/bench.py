"""``maiac bench``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import JsonFlag, bytes_text, emit, err, out, plural, progress, seconds_text, table
from .options import ArtifactArgument, DimOption, SeedOption, TrustFlag, read_dims

if TYPE_CHECKING:
    from ..benchmark import Measured, Timing
    from ..profile import Profile, Row
    from ..runtime.arena import MemoryReport

LONGEST_PLACE = 60  # characters of a module path that the table shows: its end
LONGEST_CHART = 20  # lines of a memory plan


def bench(
    artifact: ArtifactArgument,
    vs: Annotated[
        str, typer.Option(metavar="ENGINES", help="Others to take turns with: ort, openvino, inductor, eager.")
    ] = "",
    source: Annotated[str, typer.Option(metavar="MODEL", help="What the other engines run; needed for --vs.")] = "",
    profile: Annotated[
        bool, typer.Option("--profile", help="Show the time of every kernel, against what the machine can do.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many rows --profile shows.")] = 25,
    trace: Annotated[
        str, typer.Option(metavar="FILE", help="Write one run for ui.perfetto.dev or chrome://tracing.")
    ] = "",
    fresh_peaks: Annotated[
        bool, typer.Option("--fresh-peaks", help="Measure again what the machine can do, for --profile.")
    ] = False,
    seed: SeedOption = 0,
    dim: DimOption = [],  # noqa: B006  (typer reads the default)
    rounds: Annotated[int, typer.Option(min=1, help="How often the engines take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each turn runs.")] = 1.0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of each engine; 0: as many as a run has.")] = 0,
    trust: TrustFlag = False,
    json: JsonFlag = False,
) -> None:
    """Time an artifact, alone or against other engines.

    Each engine runs in a process of its own; they take turns on the same inputs: those that the source gives, or
    random ones. PyTorch sources are exported to ONNX for ort and openvino.
    """
    from ..bench_source import Setup
    from ..benchmark import bench as opened
    from ..benchmark import names_of
    from ..ir.errors import MaiaError
    from ..storage import require_folder
    from .run import require_artifact

    require_artifact(artifact)
    engines = ["maiac", *names_of(vs)]
    if len(engines) > 1 and not source:
        raise MaiaError("MAIA0706", f"--vs {vs} needs --source MODEL: what the artifact was compiled from")
    if trace:
        require_folder(Path(trace))
    setup = Setup(artifact, source, seed, read_dims(dim), threads, trust=trust)
    watched: Profile | None = None
    with progress() as report, opened(setup, engines, report) as ready:
        results = ready.measure(rounds=rounds, seconds=seconds)
        if profile or trace:
            watched = ready.profile(seconds=seconds, fresh_peaks=fresh_peaks)
    if watched and trace:
        from ..trace import trace as events
        from ..trace import write_trace

        write_trace(Path(trace), events(watched.steps, f"maiac {Path(artifact).name}", watched.peaks))
    if json:
        emit({**_to_json(results), **({"profile": _profile_json(watched)} if watched and profile else {})})
        return
    _show(results, rounds, seconds)
    if watched and profile:
        _show_profile(watched, top)
    if trace:
        out().print(f"[dim]one run is in {trace}: open it with ui.perfetto.dev[/dim]")


# **** engines ****


def _to_json(results: Measured) -> dict[str, Any]:
    peer = results.best_peer
    return {
        "threads": results.timings[0].threads,
        "engines": {r.engine: r.to_json() for r in results.timings},
        "failures": results.failures,
        "best_peer": peer.engine if peer else None,
        "ratio": results.ratio,
    }


def _show(results: Measured, rounds: int, seconds: float) -> None:
    figures = ["median", "best", "spread", "runs", "first run"]
    listed = table("engine", *figures, "", right=figures)
    ours = results.timings[0].median
    for r in results.timings:
        listed.add_row(
            r.versions or r.engine,
            seconds_text(r.median),
            seconds_text(r.best),
            f"{100 * r.spread:.0f}%",
            f"{len(r.times):,}",
            seconds_text(r.ready + r.first),
            "" if r.engine == "maiac" else _ratio(r, ours),
        )
    out().print(listed)
    for engine, why in results.failures.items():
        err().print(f"[yellow]{engine} did not run:[/yellow] ", end="")
        err().print(why.removeprefix(f"{engine}: "), markup=False, soft_wrap=True)
    how = f"{plural(results.timings[0].threads, 'thread')} each, {rounds} turns of {seconds:g} s"
    out().print(f"[dim]{how}; the spread is that of the quartiles; the first run includes compiling and loading[/dim]")
    peer = results.best_peer
    if peer is not None and results.ratio is not None:
        out().print(f"best peer / maiac: [bold]{results.ratio:.2f}[/bold] ({peer.versions})")


def _ratio(timing: Timing, ours: float) -> str:
    """How the artifact stands against an engine."""
    ratio, name = timing.median / ours, timing.engine
    if 0.97 <= ratio <= 1.03:
        return f"maiac and {name} are even"
    return f"[{'green' if ratio > 1 else 'yellow'}]maiac is {ratio:.2f}x as fast[/]"


# **** kernels ****


def _profile_json(profile: Profile) -> dict[str, Any]:
    from dataclasses import asdict

    from ..profile import by_kernel, by_place, total_row

    places, kernels = by_place(profile.steps), by_kernel(profile.steps)
    total = total_row(kernels)
    return {
        "run": profile.run,
        "peaks": asdict(profile.peaks) if profile.peaks else None,
        "why_no_peaks": profile.why,
        "total": total.figures(total.seconds, profile.peaks),
        "places": [r.figures(total.seconds, profile.peaks) for r in places],
        "kernels": [r.figures(total.seconds, profile.peaks) for r in kernels],
        "memory": _memory_json(profile.memory) if profile.memory else None,
    }


def _memory_json(memory: MemoryReport) -> dict[str, Any]:
    return {
        "arena": memory.arena,
        "lower_bound": memory.lower_bound,
        "outside": memory.outside,
        "plans": {name: plan.to_json() for name, plan in memory.plans.items()},
    }


def _show_profile(profile: Profile, top: int) -> None:
    from ..profile import by_kernel, by_place, total_row

    places, kernels = by_place(profile.steps), by_kernel(profile.steps)
    total = total_row(kernels)
    _print_rows("Kernels", kernels[:top], kernels[top:], total, profile, where=False)
    _print_rows("Places", places[:top], places[top:], total, profile, where=True)
    outside = f"a run takes {seconds_text(profile.run)} when nobody looks, its steps {seconds_text(total.seconds)}"
    out().print(f"[dim]{outside}[/dim]")
    if profile.memory:
        _show_memory(profile.memory)
    peaks = profile.peaks
    if peaks is None:
        err().print(f"the machine's peaks are not known: {profile.why}", markup=False, soft_wrap=True)
        return
    can = f"{peaks.flops / 1e9:.0f} GFLOP/s and {peaks.read / 1e9:.1f} GB/s with {plural(peaks.threads, 'thread')}"
    out().print(f"[dim]measured peaks: {can}; the bound is the slower of both for a step's work[/dim]")


def _show_memory(memory: MemoryReport) -> None:
    """How full each arena is while a run goes on: ``#`` is alive, ``.`` a hole below something alive."""
    for name, plan in memory.plans.items():
        if plan.arena:
            out().print(f"\nMemory, {name}: {plan.text(LONGEST_CHART)}", markup=False, highlight=False, soft_wrap=True)
    out().print(
        f"[dim]arenas {bytes_text(memory.arena)}, values beside them {bytes_text(memory.outside)} at most[/dim]"
    )


def _print_rows(title: str, rows: list[Row], rest: list[Row], total: Row, profile: Profile, *, where: bool) -> None:
    from ..profile import total_row

    figures = ["calls", "time", "share", "GFLOP/s", "GB/s", "of bound"]
    listed = table("kernel", *(["place"] if where else []), *figures, right=figures, title=title)
    shown: list[tuple[str, str, Row]] = [(r.name, r.place, r) for r in rows]
    if rest:
        shown.append((plural(len(rest), "other"), "", total_row(rest)))
    for name, place, row in [*shown, ("total", "", total)]:
        f = row.figures(total.seconds, profile.peaks)
        listed.add_row(
            name,
            *([place if len(place) <= LONGEST_PLACE else "…" + place[1 - LONGEST_PLACE :]] if where else []),
            f"{row.calls:,}",
            seconds_text(row.seconds) if row.seconds else "0",
            f"{100 * f['share']:.1f}%",
            f"{f['flops_rate'] / 1e9:.1f}" if row.flops else "",
            f"{f['bytes_rate'] / 1e9:.1f}" if row.bytes else "",
            f"{100 * f['of_bound']:.0f}%" if f["of_bound"] is not None else "",
        )
    out().print(listed)
