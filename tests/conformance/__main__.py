"""Run a conformance suite and count what passes.

    python -m tests.conformance onnx_backend
    python -m tests.conformance opinfo --filter 'conv' --group float32

Suites that others wrote, run through the whole compiler. Failing cases are printed with their reasons. Programs run by
reference kernels, unless MAIAC_NATIVE=1 asks for machine code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .suite import Case, Outcome, percent, run_suite, select, serve, summary

SUITES = ("onnx_backend", "opinfo", "transformers_zoo", "vision_zoo")


def suite(name: str) -> Any:
    """A suite's module."""
    return importlib.import_module(f"tests.conformance.{name}")


def cases_of(name: str, pattern: str = "", groups: Sequence[str] = ()) -> list[Case]:
    """The cases of a suite that match."""
    return list(select(suite(name).cases(), pattern, groups))


def tell(outcome: Outcome) -> None:
    """Print a case that fails."""
    if outcome.status == "fail":
        print(f"{outcome.group} {outcome.name}: {(outcome.reason.splitlines() or [''])[0][:240]}", flush=True)


def main() -> int:
    """Exit code 1 where fewer pass than --least percent of those that could be exported."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--filter", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--group", action="append", default=[], help="only cases of this group (may be repeated)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--limit", type=int, default=60, help="seconds that a case may take")
    parser.add_argument("--out", type=Path, help="write all outcomes to this file, as JSON")
    parser.add_argument("--least", type=float, default=0.0, help="percent that must pass")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("MAIAC_NATIVE", "0")
    if options.serve:
        serve(suite(options.suite).cases(), options.limit)
        return 0
    chosen = cases_of(options.suite, options.filter, options.group)
    outcomes = run_suite(options.suite, chosen, options.workers, options.limit, tell)
    if options.out:
        options.out.write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n", encoding="utf-8")
    print(summary(outcomes))
    return 0 if percent(outcomes) >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
