"""maiac against eager PyTorch, Inductor, ONNX Runtime and OpenVINO on this machine: the README's table.

    python -m benchmarks.host
    python -m benchmarks.host --models resnet50,bert --engines ort,openvino --rounds 3 --json host.json
    python -m benchmarks.host --siblings            # other models of the same families

For each model: milliseconds of each engine (medians; each in a process of its own, all with the same threads, in
turns), how the best peer stands to maiac, and the geometric mean of that. Then what compiling takes from empty caches
and from full ones, beside Inductor's; what loading takes; and by how much a process grows that loads and runs the
artifact, beside weights and live values, which no run can do without. openvino is optional:
pip install 'maiac[bench]'.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import SIBLINGS, TABLE
from maiac.bench_source import Setup
from maiac.benchmark import Measured, bench
from maiac.engines import ENGINES, PEERS
from maiac.ir.errors import MaiaError
from maiac.peaks import Peaks, machine_peaks, processor
from maiac.runtime.threads import VARIABLES, default_threads

ROOT = Path(__file__).resolve().parent.parent
GROWTH, SLACK = 1.15, 60e6  # of the memory target: times weights and live values, plus bytes
ACCEPTED = 1e-3  # the largest difference between two engines' outputs, relative to the largest output


def phase(*arguments: str, **environment: str) -> dict[str, Any]:
    """Run ``benchmarks.phases`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.phases", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def of_model(name: str, options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """All figures of one model."""
    caches = {"MAIAC_CACHE_DIR": str(folder / "maiac"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    caches |= dict.fromkeys(VARIABLES, str(options.threads or default_threads()))
    file, outputs = folder / f"{name}.maia", folder / "outputs"
    outputs.mkdir()
    say("compiling from empty caches")
    found: dict[str, Any] = {"cold": phase("compile", name, str(file), **caches)}
    if not options.times_only:
        say("compiling from full caches")
        found["warm"] = phase("compile", name, str(file), **caches)
        say("loading")
        found["load"] = phase("load", str(file), **caches)
        if "inductor" in options.engines:
            say("compiling with Inductor")
            found["inductor"] = phase("inductor", name, **caches)
    source = f"benchmarks.models:{name}"
    setup = Setup(str(file), source, threads=options.threads, outputs=str(outputs), environment=caches)
    with bench(setup, ["maiac", *options.engines], _reporter(say)) as ready:
        measured = ready.measure(rounds=options.rounds, seconds=options.seconds)
    found["engines"] = {t.engine: t.to_json() for t in measured.timings}
    found["failures"] = measured.failures
    found["ratio"] = measured.ratio
    found["difference"] = differences(measured, outputs)
    return found


def _reporter(say: Callable[[str], None]) -> Callable[[str, int, int], None]:
    def report(what: str, done: int, total: int) -> None:
        del done, total
        say(what)

    return report


def differences(measured: Measured, folder: Path) -> dict[str, float]:
    """For each peer, its outputs' largest difference from ours, relative to the largest value of that output."""
    ours = torch.load(folder / "maiac.pt", weights_only=True)
    found: dict[str, float] = {}
    for timing in measured.timings:
        if timing.engine == "maiac":
            continue
        theirs = torch.load(folder / f"{timing.engine}.pt", weights_only=True)
        if [t.shape for t in theirs] != [t.shape for t in ours]:
            found[timing.engine] = math.inf
            continue
        pairs = [(a.double(), b.double()) for a, b in zip(ours, theirs, strict=True) if a.numel()]
        found[timing.engine] = max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs)
    return found


# **** the tables ****


def time_table(rows: Mapping[str, Any], engines: Sequence[str], peaks: Peaks | None) -> list[str]:
    """Milliseconds of each engine, as Markdown."""
    shown = [e for e in (*reversed(engines), "maiac") if any(e in r["engines"] for r in rows.values())]
    versions = {e: r["engines"][e]["versions"] for e in shown for r in rows.values() if e in r["engines"]}
    titles = [_title(e, versions[e]) for e in shown]
    lines = [
        _line(["model", "FLOPs / peak", *titles, "best peer / maiac"]),
        _line(["---"] + ["---:"] * (len(shown) + 2)),
    ]
    for name, row in rows.items():
        least = f"{row['cold']['flops'] / peaks.flops * 1e3:.1f}" if peaks else ""
        times = [f"{row['engines'][e]['median'] * 1e3:.1f}" if e in row["engines"] else "–" for e in shown]
        lines.append(_line([name, least, *times, f"{row['ratio']:.2f}" if row["ratio"] else "–"]))
    ratios = [r["ratio"] for r in rows.values() if r["ratio"]]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines.append(_line(["geometric mean", *[""] * (len(shown) + 1), f"{mean:.2f}"]))
    return lines


def _title(engine: str, versions: str) -> str:
    number = versions.rsplit(" ", 1)[-1].partition("+")[0]
    return "maiac" if engine == "maiac" else f"{ENGINES[engine].title} {number}"


def life_table(rows: Mapping[str, Any]) -> list[str]:
    """Seconds of compiling and loading, and memory, as Markdown."""
    heads = ["model", "capture", "cold", "warm", "warm without capture", "Inductor cold", "cold / Inductor's"]
    heads += ["load", "memory of a run", "weights + live", "of the target"]
    lines = [_line(heads), _line(["---"] + ["---:"] * (len(heads) - 1))]
    for name, row in rows.items():
        cold, warm, load = row["cold"], row["warm"], row["load"]
        theirs = row.get("inductor", {}).get("total")
        least = load["weights"] + load["live"]
        target = GROWTH * least + SLACK
        lines.append(
            _line(
                [
                    name,
                    f"{cold['capture']:.1f} s",
                    f"{cold['total']:.1f} s",
                    f"{warm['total']:.1f} s",
                    f"{warm['total'] - warm['capture']:.2f} s",
                    f"{theirs:.1f} s" if theirs else "–",
                    f"{cold['total'] / theirs:.2f}" if theirs else "–",
                    f"{load['load']:.2f} s",
                    f"{load['memory'] / 1e6:.0f} MB",
                    f"{least / 1e6:.0f} MB",
                    f"{100 * load['memory'] / target:.0f}%",
                ]
            )
        )
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def notes(rows: Mapping[str, Any]) -> list[str]:
    """What stands below the tables: engines that did not run, outputs that differ."""
    found: list[str] = []
    for name, row in rows.items():
        found += [f"{name}: {engine} did not run: {why}" for engine, why in row["failures"].items()]
        far = {e: d for e, d in row["difference"].items() if not d <= ACCEPTED}
        found += [f"{name}: outputs differ from {engine}'s by {d:.1g} of the largest" for engine, d in far.items()]
    return found


# **** the command ****


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", default="", help=f"of {', '.join([*TABLE, *SIBLINGS])}")
    parser.add_argument("--siblings", action="store_true", help="models of the same families instead of the table's")
    parser.add_argument("--engines", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often the engines take turns")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each turn runs")
    parser.add_argument("--threads", type=int, default=0, help="of each engine; 0: as many as a run has")
    parser.add_argument("--times-only", action="store_true", help="no compile times, no memory")
    parser.add_argument("--json", default="", metavar="FILE", help="write all figures, too")
    options = parser.parse_args(arguments)
    known = {**TABLE, **SIBLINGS}
    options.models = [n for n in options.models.split(",") if n] or list(SIBLINGS if options.siblings else TABLE)
    options.engines = [n for n in options.engines.split(",") if n]
    unknown = [n for n in options.models if n not in known] + [n for n in options.engines if n not in PEERS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return options


def main() -> None:
    """Measure, and print."""
    options = read_options()
    os.chdir(ROOT)
    rows: dict[str, Any] = {}
    for name in options.models:
        with tempfile.TemporaryDirectory(prefix="maiac-host-") as folder:
            rows[name] = of_model(name, options, Path(folder), lambda what, n=name: _progress(f"{n}: {what}"))
    _progress("")
    try:
        peaks = machine_peaks()
    except MaiaError:  # no compiler
        peaks = None
    can = f", {peaks.flops / 1e9:.0f} GFLOP/s and {peaks.read / 1e9:.1f} GB/s at most" if peaks else ""
    print(f"{processor()}, {options.threads or default_threads()} threads{can}; float32, milliseconds\n")
    print("\n".join(time_table(rows, options.engines, peaks)))
    if not options.times_only:
        print("\n" + "\n".join(life_table(rows)))
    for note in notes(rows):
        print(f"\n{note}")
    if options.json:
        machine = {
            "processor": processor(),
            "threads": options.threads or default_threads(),
            "peaks": peaks and vars(peaks),
        }
        Path(options.json).write_text(json.dumps({"machine": machine, "models": rows}, indent=2), encoding="utf-8")


def _progress(text: str) -> None:
    """One line on a terminal that changes."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
