"""ONNX files of real models with dynamic dims against eager, and the files in the onnx package.

Static ones are in test_fresh_process.py.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
import torch

from maiac import onnx_backend
from maiac.frontends.onnx import import_onnx
from maiac.ir import Module, parse, print_module, verify
from maiac.runtime import Executor

from .zoo import BUILDERS, Case

Files: TypeAlias = Callable[[str, bool], tuple[Case, Path]]

DYNAMIC = ["llama", "bert"]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
RTOL, ATOL = 1e-4, 1e-5  # float32


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors of a model's output, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if hasattr(value, "to_tuple"):
        value = value.to_tuple()
    items: Sequence[Any] = list(value.values()) if isinstance(value, dict) else value
    return [t for v in items if v is not None for t in tensors(v)] if isinstance(items, (list, tuple)) else []


def export(case: Case, path: Path, dynamic: bool) -> None:
    """Write a model's ONNX file."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case.model(*case.args, **case.kwargs)  # YOLO keeps its anchors from the first call, which export must not be
        torch.onnx.export(
            case.model,
            case.args,
            str(path),
            kwargs=case.kwargs,
            dynamo=True,
            verbose=False,
            dynamic_shapes=case.dynamic_shapes if dynamic else None,
        )


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], tuple[Case, Path]]:
    """The file of a model, exported once for all tests."""

    @functools.cache
    def file(name: str, dynamic: bool) -> tuple[Case, Path]:
        case = BUILDERS[name]()
        path = tmp_path_factory.mktemp(name) / "model.onnx"
        export(case, path, dynamic)
        return case, path

    return file


def compiled(path: Path) -> Module:
    """The file imported, printed and parsed, verified and taken through the default pipeline."""
    module = import_onnx(path)
    verify(module)
    text = print_module(module)
    assert print_module(parse(text)) == text
    return onnx_backend.compile_module(module)


def check(ready: Executor, case: Case, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The compiled file's results are eager's."""
    with torch.no_grad():
        expected = tensors(case.model(*args, **kwargs))
    inputs = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
    results = ready.run(inputs)
    assert len(results) == len(expected)
    for got, want in zip(results, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("name", DYNAMIC)
def test_one_file_serves_all_lengths(name: str, file_of: Files):
    case, path = file_of(name, True)
    module = compiled(path)
    assert len(module.symbols) == 1, f"one dim is dynamic, but there are {list(module.symbols)}"
    ready = Executor(module)
    assert case.vary is not None
    for length in case.lengths:
        check(ready, case, *case.vary(length))


def test_layers_of_a_file_become_one_function(file_of: Files):
    module = compiled(file_of("llama", True)[1])
    calls = [op for op in module.main.body if op.name == "call"]
    assert len(calls) >= 11


def test_weights_stay_in_their_file(file_of: Files):
    module = import_onnx(file_of("gpt2", False)[1])
    large = [w for w in module.weights.values() if np.prod(w.type.dims) > 1000]  # type: ignore[union-attr]
    assert large
    assert {type(getattr(w.data, "source", w.data)).__name__ for w in large} == {"MappedTensor"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(p.stem.removeprefix("light_"), marks=[] if p.stem == "light_squeezenet" else pytest.mark.slow)
        for p in sorted(LIGHT.glob("light_*.onnx"))
    ],
)
def test_a_file_of_the_onnx_package(name: str):
    model = onnx.load(str(LIGHT / f"light_{name}.onnx"))
    expected = onnx.TensorProto.FromString((LIGHT / f"light_{name}_output_0.pb").read_bytes())
    weights = {i.name for i in model.graph.initializer}
    inputs = []
    for value in model.graph.input:
        if value.name not in weights:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    got = onnx_backend.run_model(model, inputs)
    np.testing.assert_allclose(got[0], onnx.numpy_helper.to_array(expected), rtol=1e-3, atol=1e-5)
