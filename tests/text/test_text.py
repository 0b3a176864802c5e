"""Before and after: every *.maia file here holds cases that passes turn into one another, compared structurally.

A file begins with ``# passes: <pipeline>``. A case is ``# === name``, a module, ``# --- after`` and a module; without
the second one the passes must change nothing. ``# results: up to rounding`` in a file's head allows results to differ
by float32's rounding; otherwise they are the same to the bit. ``# why RULE: text`` in a case asks that the rule's
misses say that text.
``MAIAC_UPDATE_TEXT=1 pytest tests/text`` writes what the passes give into the files, to be read before it is kept.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from maiac.ir import parse, print_module, verify
from maiac.passes import collect_misses, parse_pipeline, run_pipeline, structural_text
from maiac.passes.manager import passes_in_header
from tests.passes.running import close, fill, inputs_for, same_bits
from tests.passes.running import run as results_of

FOLDER = Path(__file__).parent
UPDATE = bool(os.environ.get("MAIAC_UPDATE_TEXT"))


@dataclass
class Case:
    file: Path
    passes: str
    name: str
    before: str
    after: str
    why: list[tuple[str, str]] = field(default_factory=list)
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.file.stem}: {self.name}"


def cases() -> list[Case]:
    found: list[Case] = []
    for file in sorted(FOLDER.glob("*.maia")):
        head, *parts = re.split(r"^# === ", file.read_text(encoding="utf-8"), flags=re.M)
        passes = passes_in_header(head)
        assert passes is not None, f"{file} names no passes"
        for part in parts:
            name, _, rest = part.partition("\n")
            before, _, after = rest.partition("# --- after\n")
            why = re.findall(r"^# why (\w+): (.+)$", before, flags=re.M)
            exact = "# results: up to rounding" not in head
            found.append(Case(file, passes, name.strip(), before, after, why, exact))
    return found


CASES = cases()


def run(case: Case):
    module = parse(case.before, file=str(case))
    report = run_pipeline(module, parse_pipeline(case.passes))
    return module, report


@pytest.mark.parametrize("case", CASES, ids=str)
def test_before_becomes_after(case: Case):
    module, report = run(case)
    if UPDATE and report.changed:
        text = case.file.read_text(encoding="utf-8")
        new = f"{case.before.rstrip()}\n# --- after\n{print_module(module)}\n"
        old = case.before + ("# --- after\n" + case.after if case.after else "")
        case.file.write_text(text.replace(old, new), encoding="utf-8")
        return
    wanted = parse(case.after or case.before, file=str(case))
    verify(wanted)
    assert structural_text(module, ordered=True) == structural_text(wanted, ordered=True)
    assert report.changed == bool(case.after.strip())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_passes_tell_the_truth_and_settle(case: Case):
    module = parse(case.before)
    for each in parse_pipeline(case.passes):
        while True:
            before = print_module(module)
            changed = each.run(module)
            assert changed == (print_module(module) != before)
            if not changed:
                break
            assert not each.run(module), f"{each.name} finds more to do when it runs again"


def runs_alone(case: Case) -> bool:
    """Whether a case gives the same results whenever it runs, on one device."""
    return "mesh" not in case.before and "random" not in case.before


@pytest.mark.parametrize("case", [c for c in CASES if c.after and runs_alone(c)], ids=str)
def test_results_stay_the_same(case: Case):
    before = parse(case.before)
    fill(before)
    after = parse(case.before)
    fill(after)
    run_pipeline(after, parse_pipeline(case.passes))
    inputs = inputs_for(before)
    same = same_bits if case.exact else close
    assert same(results_of(before, inputs), results_of(after, inputs))


@pytest.mark.parametrize("case", [c for c in CASES if c.why], ids=str)
def test_a_miss_says_why(case: Case):
    for rule, text in case.why:
        module = parse(case.before)
        with collect_misses(rule) as misses:
            run_pipeline(module, parse_pipeline(case.passes))
        assert any(text in str(m) for m in misses), [str(m) for m in misses]
