"""Everything that fuzzing began with and found, once more: numbered errors only, no file elsewhere, in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from .seeds import CORPUS
from .targets import TARGETS

INPUTS = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_inputs_of_the_corpus(path: Path):
    TARGETS[path.parent.name](path.read_bytes())


def test_the_corpus_is_small():
    assert {p.parent.name for p in INPUTS} == set(TARGETS)
    assert sum(p.stat().st_size for p in INPUTS) < 200_000
