"""Policies of the repository: who may import whom, and under which name."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

import maiac

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("ir", "passes", "runtime")

# What of maiac each folder may import; the rest of maiac (and its façade) may import everything.
MAY_IMPORT = {"ir": {"maiac.ir"}, "passes": {"maiac.ir", "maiac.passes"}, "runtime": {"maiac.ir", "maiac.runtime"}}


def imports(path: PurePosixPath, source: str) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, as an absolute name: ``from maiac import ir`` gives ``maiac.ir``."""
    parts = [*(["maiac"] if path.parts[0] in LINKED else []), *path.parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            spread = module == "maiac"
            yield from ((node.lineno, f"maiac.{a.name}" if spread else module) for a in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def faults(path: PurePosixPath, source: str) -> list[str]:
    """Every import in this file that the layout forbids; ``path`` is relative to the root."""
    folder = path.parts[0]
    found: list[str] = []
    for line, name in imports(path, source):
        where = f"{path}:{line}: imports {name}"
        if any(within(name, linked) for linked in LINKED):
            found.append(f"{where}: write maiac.{name}")
        if folder in MAY_IMPORT and within(name, "maiac") and not any(within(name, p) for p in MAY_IMPORT[folder]):
            found.append(f"{where}: {folder}/ may import only {sorted(MAY_IMPORT[folder])} of maiac")
        if folder == "ir" and path.parts[1] != "ops" and within(name, "torch"):
            found.append(f"{where}: only ir/ops/ may import torch")
    return found


def sources() -> list[PurePosixPath]:
    """Every Python file once, under its own folder (not through the links)."""
    folders = [*LINKED, "maiac", "tests", "examples", "benchmarks"]
    files = [f.relative_to(ROOT) for folder in folders for f in (ROOT / folder).rglob("*.py")]
    return sorted(PurePosixPath(f) for f in files if not (f.parts[0] == "maiac" and f.parts[1] in LINKED))


def test_imports_run_one_way():
    files = sources()
    assert {"ir", "passes", "runtime", "maiac", "tests"} <= {f.parts[0] for f in files}
    found = [fault for f in files for fault in faults(f, (ROOT / f).read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ir/graph.py", "import maiac.passes"),
        ("ir/graph.py", "from maiac import runtime"),
        ("ir/graph.py", "import maiac"),
        ("ir/graph.py", "import torch"),
        ("ir/graph.py", "def f():\n    from torch.nn import functional"),
        ("ir/graph.py", "from ..driver import capture"),
        ("ir/ops/linear.py", "from ...passes import base"),
        ("passes/fold.py", "from maiac.runtime import executor"),
        ("passes/fold.py", "from .. import runtime"),
        ("passes/fold.py", "from maiac.errors import X"),
        ("passes/fold.py", "import ir"),
        ("runtime/executor.py", "import maiac.passes.base"),
        ("maiac/cli.py", "from ir.graph import Module"),
        ("tests/ir/test_x.py", "import runtime.executor"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str):
    assert len(faults(PurePosixPath(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ir/ops/linear.py", "import torch\nfrom ..opdef import op\nfrom ... import ir"),
        ("ir/graph.py", "from .types import Type\nimport torchlike"),
        ("passes/fusion/greedy.py", "from maiac.ir import Op\nfrom ..base import Pass\nimport torch"),
        ("runtime/executor.py", "from maiac import ir\nfrom maiac.ir.graph import Module"),
        ("maiac/driver.py", "from . import passes\nfrom .runtime import executor\nfrom maiac.ir import Module"),
    ],
)
def test_an_allowed_import_is_not(path: str, source: str):
    assert faults(PurePosixPath(path), source) == []


@pytest.mark.parametrize("name", LINKED)
def test_links_are_links(name: str):
    assert (ROOT / "maiac" / name).is_symlink()
    assert (ROOT / "maiac" / name).resolve() == ROOT / name


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", LINKED)
def test_a_bare_import_is_refused(name: str):
    done = run(f"import {name}")
    assert done.returncode != 0
    assert f"ImportError: this package is maiac.{name}; importing it as '{name}'" in done.stderr


def test_import_maiac_is_light():
    done = run("import sys, maiac; print([m for m in ('torch', 'numpy', 'onnx', 'typer') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_the_facade_gives_every_name():
    for name in maiac.__all__:
        assert getattr(maiac, name) is not None
    assert set(maiac.__all__) <= set(dir(maiac))


def test_the_facade_refuses_other_names():
    with pytest.raises(AttributeError, match=r"'maiac' has no attribute 'complie'"):
        maiac.complie  # pyright: ignore[reportAttributeAccessIssue, reportUnusedExpression] # noqa: B018


def test_no_module_hides_a_function_of_the_facade():
    modules = {p.stem for p in (ROOT / "maiac").iterdir() if p.is_dir() or p.suffix == ".py"}
    assert not modules & {"Artifact", "MaiaError", "capture", "compile", "load"}


def test_entry_points_name_what_they_should():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"maiac": "maiac.cli:main"}
    assert project["entry-points"]["torch_dynamo_backends"] == {"maia": "maiac.backend:maia"}
