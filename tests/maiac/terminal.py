"""What a command writes to a terminal: fixtures for conftest.py, and what error messages have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import maiac
from maiac.cli import run_command
from tests.maiac.samples import onnx_mlp


class Spoken:
    """What a command wrote, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Say: TypeAlias = Callable[..., Spoken]


@pytest.fixture
def columns() -> int:
    """How wide the terminal is; a test module may define another."""
    return 160


@pytest.fixture
def terminal(columns: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands write to a terminal of so many columns, in a folder of their own."""
    from maiac import console

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(tmp_path)
    console.out.cache_clear()
    console.err.cache_clear()


@pytest.fixture
def say(terminal: None, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command."""

    def run(*arguments: Any) -> Spoken:
        code = run_command([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Spoken(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An ONNX file and the artifact made from it."""
    folder = tmp_path_factory.mktemp("mlp")
    onnx_mlp(folder / "mlp.onnx")
    maiac.compile(folder / "mlp.onnx").save(folder / "mlp.maia")
    return folder / "mlp.onnx", folder / "mlp.maia"


def refused(spoken: Spoken, code: str) -> str:
    """The message of a command that ended with a user's error."""
    assert spoken.code == 1, spoken.err
    assert spoken.err.startswith(f"{code}: "), spoken.err
    assert f"maiac explain {code}" in spoken.err
    assert spoken.out == ""
    return spoken.err
