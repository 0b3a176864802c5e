"""The catalogue of errors and its pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maiac.explain import AREAS, area_of, find, markdown
from maiac.ir.catalogue import CATALOGUE
from maiac.ir.errors import MaiaError

ROOT = Path(__file__).parents[2]


def test_the_page_in_docs_is_current():
    page = ROOT / "docs" / "errors.md"
    assert page.read_text(encoding="utf-8") == markdown(), "python -m maiac.explain > docs/errors.md"


def test_every_number_has_an_area_and_a_full_page():
    for code, entry in CATALOGUE.items():
        assert re.fullmatch(r"MAIA\d{4}", code) and area_of(code) in AREAS
        assert entry.title[0].islower() or entry.title.startswith(("ONNX", "PyTorch", "Hugging")), entry.title
        assert entry.cause.endswith((".", ")")) and entry.fix.endswith((".", ")", "`")), code


def test_every_number_is_used():
    code = "".join(
        f.read_text(encoding="utf-8")
        for folder in ("ir", "passes", "runtime", "maiac")
        for f in (ROOT / folder).rglob("*.py")
        if f.name != "catalogue.py"
    )
    unused = [c for c in CATALOGUE if c not in code]
    assert not unused, unused


@pytest.mark.parametrize("text", ["", "MAIA", "MAIA99999", "x404"])
def test_numbers_that_are_none(text: str):
    with pytest.raises(MaiaError, match="MAIA0708"):
        find(text)
