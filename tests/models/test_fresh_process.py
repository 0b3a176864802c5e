"""Saved artifacts of real models, from torch.export and ONNX, run by a process that has only the files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import maiac

from .test_onnx_models import ATOL, RTOL, export, tensors
from .zoo import BUILDERS, Case

NAMES = ["resnet50", "yolov8n", "llama", "gpt2", "bert", "unet", "dit"]
FEW = ["resnet50", "llama"]

# The other process imports nothing but maiac: no model library, no frontends.
OTHER = """
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import maiac

for path in map(Path, sys.argv[1:]):
    inputs = load_file(path.with_suffix(".in"))
    values = [inputs[name] for name in sorted(inputs)]
    artifact = maiac.load(path)
    leaves = artifact.executor.run(values)
    save_file({f"{i:02}": t.contiguous().clone() for i, t in enumerate(leaves)}, path.with_suffix(".out"))
assert "transformers" not in sys.modules and "maiac.frontends" not in sys.modules
"""


def saved(case: Case, path: Path, model: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Path:
    """Compile, save, and lay the inputs beside it."""
    maiac.compile(model, args, kwargs).save(path)
    inputs = [v for v in (*case.args, *case.kwargs.values()) if isinstance(v, torch.Tensor)]
    save_file({f"{i:02}": t.contiguous() for i, t in enumerate(inputs)}, path.with_suffix(".in"))
    return path


@pytest.mark.parametrize(
    ("kernels", "names"),
    [
        pytest.param("reference", FEW, id="reference"),
        pytest.param("native", FEW, id="native"),
        pytest.param("reference", NAMES, id="reference-all", marks=pytest.mark.slow),
        pytest.param("native", NAMES, id="native-all", marks=pytest.mark.slow),
    ],
    indirect=["kernels"],
)
def test_artifacts_give_eagers_results_in_a_fresh_process(tmp_path: Path, kernels: str, names: list[str]):
    wanted: dict[Path, list[torch.Tensor]] = {}
    for name in names:
        case = BUILDERS[name]()
        source = tmp_path / f"{name}.onnx"
        export(case, source, False)
        with torch.no_grad():
            expected = tensors(case.model(*case.args, **case.kwargs))
        wanted[saved(case, tmp_path / f"{name}-torch.maia", case.model, case.args, case.kwargs)] = expected
        wanted[saved(case, tmp_path / f"{name}-onnx.maia", source, (), {})] = expected
    subprocess.run([sys.executable, "-c", OTHER, *map(str, wanted)], check=True, timeout=900)
    for path, expected in wanted.items():
        found = load_file(path.with_suffix(".out"))
        assert len(found) == len(expected), path.name
        for got, want in zip((found[k] for k in sorted(found)), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=RTOL, atol=ATOL, msg=lambda m, p=path: f"{p.name}: {m}")
