"""The documents are true: their IR verifies, their Python runs, their links and commands exist."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from maiac import console
from maiac.cli import app, run_command
from maiac.ir import op_names, opdef, parse, print_module, verify

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The line and the text of each fenced block of a language."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        if match[1] == language:
            yield text.count("\n", 0, match.start()) + 2, match[2]


IR = [pytest.param(text, id=f"{page.name}:{line}") for page in PAGES for line, text in blocks(page, "maia")]


@pytest.mark.parametrize("text", IR)
def test_ir_is_valid_and_in_printed_form(text: str):
    module = parse(text)
    verify(module)
    assert print_module(module) == text


def test_there_is_ir():
    assert len(IR) > 8


@pytest.fixture
def own_ops(monkeypatch: pytest.MonkeyPatch):
    """What a page declares ends with it."""
    assert op_names()  # all are declared before the copy is made
    monkeypatch.setattr(opdef, "_OPS", dict(opdef._OPS))


@pytest.mark.usefixtures("own_ops")
@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "pycon"))], ids=lambda p: p.name)
def test_sessions_give_what_they_show(page: Path):
    names: dict[str, Any] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    shown: list[str] = []
    for line, text in blocks(page, "pycon"):
        test = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), line - 1)
        runner.run(test, out=shown.append, clear_globs=False)
        names = test.globs
    assert runner.failures == 0, "".join(shown)
    assert runner.tries > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path):
    text = re.sub(_BLOCK, "", page.read_text(encoding="utf-8"))
    headings = {anchor(h) for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, fragment = target.partition("#")
        if target.startswith("http"):
            continue
        assert not path or (page.parent / path).exists(), f"{page.name} links to {target}"
        assert path or fragment in headings, f"{page.name} links to {target}"


def anchor(heading: str) -> str:
    """The anchor that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_are_named_exist(page: Path):
    """`ir/opdef.py` and the like, in running text and tables."""
    text = re.sub(_BLOCK, "", page.read_text(encoding="utf-8"))
    named = set(re.findall(r"`((?:ir|passes|runtime|maiac|tests|docs|examples|benchmarks)/[\w./-]*)`", text))
    missing = sorted(n for n in named if not (ROOT / n).exists())
    assert not missing, f"{page.name} names {missing}"


def test_the_readme_s_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Sequential(torch.nn.Embedding(16, 8), torch.nn.Linear(8, 16)).eval()
    names: dict[str, Any] = {"torch": torch, "model": model, "tokens": torch.tensor([[1, 2, 3]])}
    ((_, text),) = blocks(ROOT / "README.md", "python")
    exec(text, names)
    wanted = model(names["tokens"])
    torch.testing.assert_close(names["trained"](names["tokens"]), wanted)
    with torch.no_grad():
        torch.testing.assert_close(names["fast"](names["tokens"]), wanted)
    torch.testing.assert_close(names["logits"], wanted, rtol=0.05, atol=0.05)  # int8 weights


def test_the_session_of_inspect_is_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    page = ROOT / "docs" / "inspect.md"
    ((_, code),), ((_, session),) = blocks(page, "python"), blocks(page, "console")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "acoustic.py").write_text(code)
    console.out.cache_clear()
    command, _, shown = session.partition("\n")
    assert run_command(command.removeprefix("$ maiac ").split()) == 1
    said = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert [line for line in said.split("\n") if line] == [line for line in shown.split("\n") if line]


COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_that_are_named_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    for found in re.findall(r"^\$ (maiac [a-z].*)|^\| `(maiac [a-z].*)|`(maiac [a-z][^`\n]*)`", text, re.MULTILINE):
        line = "".join(found[:2]) or found[2]
        command = COMMANDS.get(line.split()[1].rstrip("`,"))
        assert command is not None, f"{page.name}: {line}"
        known = {option for p in command.params for option in p.opts}
        unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)) - known
        assert not unknown, f"{page.name}: {line.split()[1]} has no {', '.join(sorted(unknown))}"


@pytest.mark.parametrize("name", ["toy_ir.py"])
def test_examples_run(name: str):
    done = subprocess.run([sys.executable, str(ROOT / "examples" / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
def test_the_demo_matches():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all results match" in done.stdout
