"""The page of pass rates."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.conformance import coverage
from tests.conformance.coverage import collect, page
from tests.conformance.suite import Outcome

OUTCOMES = [
    Outcome("node", "good", "pass"),
    Outcome("node", "words", "pass", host=True),
    Outcome("node", "bad", "fail", "\nMaiaError: MAIA0225: no `a_b`\nmore"),
    Outcome("simple", "odd", "refused", "cannot"),
    Outcome("simple", "odd too", "refused", "cannot"),
]


def test_the_page_counts_and_names():
    text = page({"onnx_backend": OUTCOMES})
    assert "| `onnx_backend` | node | 3 | 2 | 66.7% | 33.3% | 0 |" in text
    assert "| `onnx_backend` | simple | 0 | 0 | 0.0% | 0.0% | 2 |" in text
    assert "| `onnx_backend` | **all** | 3 | 2 | 66.7% | 33.3% | 2 |" in text
    assert "- node: `bad`: MaiaError: MAIA0225: no \\`a\\_b\\`\n" in text
    assert "- `odd` (simple), `odd too` (simple): cannot\n" in text
    assert "Nothing fails." in page({"onnx_backend": OUTCOMES[:2]})


def test_kept_outcomes_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coverage, "SUITES", ("onnx_backend", "other"))
    monkeypatch.setattr(coverage, "cases_of", lambda name: [])
    ran: list[str] = []
    monkeypatch.setattr(coverage, "run_suite", lambda name, *_: ran.append(name) or OUTCOMES[:1])
    (tmp_path / "other.json").write_text(json.dumps([asdict(o) for o in OUTCOMES]), encoding="utf-8")
    assert collect(tmp_path, 1, 1) == {"onnx_backend": OUTCOMES[:1], "other": OUTCOMES}
    assert collect(tmp_path, 1, 1) == {"onnx_backend": OUTCOMES[:1], "other": OUTCOMES}
    assert ran == ["onnx_backend"]
