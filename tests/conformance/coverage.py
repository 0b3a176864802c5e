"""Write docs/coverage.md: what passes of every conformance suite, and what does not, by name.

    python -m tests.conformance.coverage                                   # all suites: hours on two cores
    python -m tests.conformance.coverage --results results/ --seconds 1800  # keeps outcomes, and goes on another time

With ``--results``, outcomes are kept in a file for each suite, and cases that have one are not run again; delete the
file to have them run anew. The page says how many cases have not been run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import math
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TextIO

from .__main__ import SUITES, cases_of, suite, tell
from .suite import Outcome, percent, run_suite

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
PACKAGES = ("torch", "onnx", "torchvision", "transformers", "diffusers", "ultralytics")
REASON = 160  # characters of a reason that the page shows


def collect(folder: Path, workers: int, limit: int, seconds: float = math.inf) -> dict[str, list[Outcome]]:
    """The outcomes of all suites: those kept in the folder, and those of the cases that time is left for."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    found: dict[str, list[Outcome]] = {}
    for name in SUITES:
        file = folder / f"{name}.jsonl"
        kept = {(o.group, o.name): o for o in read_outcomes(file)}
        cases = cases_of(name)
        left = itertools.takewhile(lambda _: time.monotonic() < end, [c for c in cases if c.key not in kept])
        with file.open("a", encoding="utf-8") as out:
            run_suite(name, left, workers, limit, partial(_keep, out))
        kept = {(o.group, o.name): o for o in read_outcomes(file)}
        found[name] = [kept.get(c.key) or Outcome(*c.key, "not run") for c in cases]
    return found


def read_outcomes(file: Path) -> list[Outcome]:
    """The outcomes of a file, a line each."""
    if not file.exists():
        return []
    return [Outcome(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def _keep(out: TextIO, outcome: Outcome) -> None:
    out.write(json.dumps(asdict(outcome)) + "\n")
    out.flush()
    tell(outcome)


def page(found: Mapping[str, Sequence[Outcome]]) -> str:
    """The whole page."""
    versions = ", ".join(f"{p} {v}" for p in PACKAGES if (v := _version(p)))
    lines = [
        "# Coverage",
        "",
        "What passes of suites that others wrote, through the whole compiler. This page is generated:",
        "`python -m tests.conformance.coverage`.",
        "",
        f"With {versions}.",
        "",
        "*Native* cases run without a host operation; host operations (strings, compressed images, trees over strings)",
        "are what no accelerator has. *Refused* are cases that the exporter itself cannot express (`torch.export`,",
        "`torch.onnx`): maiac never sees them, and they are not among those tried.",
        "",
        "| Suite | Group | Tried | Pass | Share | Native | Refused | Not run |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, outcomes in found.items():
        groups = _by_group(outcomes)
        lines += [_row(name, group, of) for group, of in groups.items()]
        if len(groups) > 1:
            lines.append(_row(name, "**all**", outcomes))
    for name, outcomes in found.items():
        lines += ["", *_section(name, outcomes)]
    return "\n".join(lines) + "\n"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def _by_group(outcomes: Iterable[Outcome]) -> Mapping[str, list[Outcome]]:
    groups: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.group].append(outcome)
    return groups


def _row(name: str, group: str, outcomes: Sequence[Outcome]) -> str:
    count = Counter(o.status for o in outcomes)
    native = sum(o.status == "pass" and not o.host for o in outcomes)
    tried = count["pass"] + count["fail"]
    cells = [f"`{name}`", group, f"{tried:,}", f"{count['pass']:,}", f"{percent(outcomes):.1f}%"]
    cells += [f"{100 * native / max(tried, 1):.1f}%", str(count["refused"]), str(count["not run"])]
    return f"| {' | '.join(cells)} |"


def _section(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    about = (suite(name).__doc__ or name).splitlines()[0]
    lines = [f"## `{name}`", "", about, "", f"`python -m tests.conformance {name}`", ""]
    failed = [o for o in outcomes if o.status == "fail"]
    if not failed:
        lines.append("Nothing that was run fails.")
    else:
        lines += ["Failing:", "", *(f"- {o.group}: `{o.name}`: {_short(o.reason)}" for o in failed)]
    refused: defaultdict[str, list[str]] = defaultdict(list)
    for o in outcomes:
        if o.status == "refused":
            refused[_short(o.reason)].append(f"`{o.name}` ({o.group})")
    if refused:
        lines += [
            "",
            "Refused by the exporter:",
            "",
            *(f"- {', '.join(names)}: {why}" for why, names in refused.items()),
        ]
    return lines


def _short(reason: str) -> str:
    """The first line of a reason, as text that Markdown leaves alone."""
    first = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
    cut = first if len(first) <= REASON else f"{first[:REASON].rstrip()} …"
    return "".join(f"\\{c}" if c in "\\`*_<>[]|" else c for c in cut)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, help="folder in which outcomes are kept, a file for each suite")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--limit", type=int, default=300, help="seconds that a case may take")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no case after so many")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        found = collect(options.results or Path(fresh), options.workers, options.limit, options.seconds)
    options.out.write_text(page(found), encoding="utf-8")
    for name, outcomes in found.items():
        print(f"{name}: {percent(outcomes):.1f}%")


if __name__ == "__main__":
    main()
