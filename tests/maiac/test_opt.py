"""``maiac opt``: text in, passes, text out."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from maiac.ir import MaiaError, parse

TEXT = """
module @m {
  func @main(%x: f32[4]) -> f32[4] {
    %z = constant {value = 0.0, dtype = f32} : f32[]
    %0 = neg %x : f32[4]
    %1 = neg %0 : f32[4]
    %2 = add %1, %z : f32[4] at "net.bias" "net.py":3
    return %2
  }
}
"""


@pytest.fixture
def invoke():
    app = typer.Typer()
    app.command()(importlib.import_module("maiac.commands.opt").opt)
    return lambda *args, **kwargs: CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False, **kwargs)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.maia"
    path.write_text(TEXT, encoding="utf-8")
    return path


def ops(text: str) -> list[str]:
    return [op.name for op in parse(text).main.body]


def test_text_goes_to_stdout_and_the_story_to_stderr(invoke, file: Path):
    done = invoke(file, "--passes", "canonicalize,cse", "--why", "add_zero")
    assert done.exit_code == 0
    assert ops(done.stdout) == ["constant", "add", "return"]
    assert "canonicalize" in done.stderr and "nothing to do" in done.stderr
    assert "add_zero did not apply in 1 place:" in done.stderr
    assert "net.bias (net.py:3): x + 0.0 turns -0.0 into 0.0" in done.stderr


def test_json_is_one_object(invoke, file: Path):
    done = invoke(file, "--passes", "canonicalize", "--why", "add_zero", "--json")
    told = json.loads(done.stdout)
    assert told["passes"][0]["ops_before"] == 5
    assert told["misses"][0]["rule"] == "add_zero"
    assert ops(told["text"]) == ["constant", "add", "return"]


def test_output_and_dumps_go_to_files(invoke, file: Path, tmp_path: Path):
    done = invoke(file, "--passes", "dce", "-o", tmp_path / "out.maia", "--dump-ir", tmp_path / "ir")
    assert done.stdout == ""
    assert ops((tmp_path / "out.maia").read_text()) == ops(TEXT)
    assert sorted(p.name for p in (tmp_path / "ir").iterdir()) == ["00-captured.maia", "01-dce.maia"]


def test_a_header_names_the_passes(invoke, file: Path, monkeypatch: pytest.MonkeyPatch):
    file.write_text(f"# passes: canonicalize\n{TEXT}", encoding="utf-8")
    assert len(ops(invoke(file).stdout)) == 3
    assert len(ops(invoke(file, "--passes", "cse").stdout)) == 5
    monkeypatch.setattr("sys.stdin", io.StringIO(file.read_text()))
    assert len(ops(invoke("-", input=file.read_text()).stdout)) == 3


@pytest.mark.parametrize(
    ("passes", "why", "code"), [("cannonicalize", "", "MAIA0304"), ("cse", "add_zeros", "MAIA0306")]
)
def test_mistakes_are_numbered(invoke, file: Path, passes: str, why: str, code: str):
    with pytest.raises(MaiaError) as caught:
        invoke(file, "--passes", passes, "--why", why)
    assert caught.value.code == code
