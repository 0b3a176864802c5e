"""Real models, quantized and partitioned: the ranks agree with one process, and with eager where nothing is rounded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import maiac
from maiac.ir import Module
from maiac.passes import cleaning, run_pipeline
from maiac.passes.clone import clone_module
from maiac.passes.partition import Partition
from maiac.passes.quantization import QuantizeWeights
from maiac.runtime import Executor, tree
from maiac.runtime.launch import launch
from tests.models.test_onnx_models import export
from tests.models.zoo import BUILDERS, Case
from tests.ranks import run_on_mesh

TOLERANCE = 1e-4


def captured(case: Case) -> tuple[Module, list[Any]]:
    """The cleaned-up module and its flat inputs."""
    module = maiac.capture(case.model, case.args, case.kwargs, dynamic_shapes=case.dynamic_shapes)
    run_pipeline(module, cleaning())
    return module, tree.flatten(tree.loads(str(module.attrs["in_tree"])), (case.args, case.kwargs))


def reals(values: list[Any]) -> list[torch.Tensor]:
    return [v for v in values if isinstance(v, torch.Tensor) and v.is_floating_point()]


def sqnr(found: torch.Tensor, wanted: torch.Tensor) -> float:
    noise = float((found.double() - wanted.double()).square().sum())
    return 10 * math.log10(float(wanted.double().square().sum()) / noise) if noise else math.inf


def check_ranks(module: Module, inputs: list[Any], meshes: list[dict[str, int]]) -> None:
    wanted = reals(Executor(module).run(inputs))
    for mesh in meshes:
        for run in run_on_mesh(module, mesh, inputs):
            for found, want in zip(reals(run.results), wanted, strict=True):
                torch.testing.assert_close(found, want, rtol=TOLERANCE, atol=TOLERANCE)


MESHES = [{"tp": 2}, {"pp": 2}, {"pp": 2, "tp": 2}]
SPLIT = {"gpt2": 19, "bert": 19, "t5": 33, "mixtral": 15}  # weights that tp = 2 splits
SLOW = {"vit": 13, "qwen3_moe": 15, "dit": 21, "unet": 53}


@pytest.mark.parametrize("name", [*SPLIT, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_ranks_agree_with_one_process(name: str):
    module, inputs = captured(BUILDERS[name]())
    plain = reals(Executor(module).run(inputs))
    for scheme in (None, "int8"):
        cut = clone_module(module)
        if scheme:
            run_pipeline(cut, [QuantizeWeights(scheme)])
        report = run_pipeline(cut, [Partition(tp=2, pp=2)])
        assert f"tp = 2: {(SPLIT | SLOW)[name]} weights split" in report.passes[0].notes[0]
        check_ranks(cut, inputs, MESHES if scheme is None else MESHES[-1:])
        if scheme is None:
            for found, want in zip(reals(Executor(cut).run(inputs)), plain, strict=True):
                torch.testing.assert_close(found, want, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "weights"), [("llama", 85), ("gpt2", 19), ("bert", 19)])
def test_files_of_onnx_are_quantized_and_split_alike(name: str, weights: int, tmp_path: Path):
    case, path = BUILDERS[name](), tmp_path / "model.onnx"
    export(case, path, dynamic=False)
    module = maiac.capture(str(path))
    run_pipeline(module, cleaning())
    inputs = [v for v in case.kwargs.values() if isinstance(v, torch.Tensor)]
    run_pipeline(module, [QuantizeWeights("int8")])
    report = run_pipeline(module, [Partition(tp=2, pp=2)])
    assert f"tp = 2: {weights} weights split, 0 whole" in report.passes[0].notes[0]
    check_ranks(module, inputs, MESHES)


@pytest.fixture(scope="module")
def llama12() -> tuple[Case, Module, list[Any]]:
    """The 12-layer Llama, its module over the very same weights, and inputs."""
    case = BUILDERS["llama"]()
    return case, *captured(case)


def redraw(model: torch.nn.Module, seed: int) -> None:
    """Other random weights, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02, generator=generator)


@pytest.mark.parametrize("scheme", ["fp8", "int8"])
def test_a_quantized_llama_keeps_its_logits(llama12: tuple[Case, Module, list[Any]], scheme: str):
    # Error grows with depth, by how much is the luck of the weights: 20 to 26 dB for fp8, 30 to 36 dB for int8.
    case, module, inputs = llama12
    logits, layer = {"fp8": (22.0, 30.5), "int8": (32.0, 41.0)}[scheme]
    rounded = clone_module(module)
    report = run_pipeline(rounded, [QuantizeWeights(scheme)])
    assert "85 of 85 weights quantized" in report.passes[0].notes[0]
    reached: list[float] = []
    for seed in range(3):
        redraw(case.model, seed)
        reached.append(sqnr(Executor(rounded).run(inputs)[0], Executor(module).run(inputs)[0]))
    assert sum(reached) / len(reached) > logits, reached
    for name, weight in rounded.weights.items():  # each layer's own rounding
        source = module.weights[name].data
        if "channel" in str(weight.type) and weight.data is not None and source is not None:
            assert sqnr(weight.data.load().dequantize(torch.float32), source.load()) > layer, name


def one_rank(
    path: str, mesh: dict[str, int] | None, kwargs: dict[str, Any]
) -> tuple[torch.Tensor, int, dict[str, int]]:
    """Load an artifact on a rank of a launched group and run it."""
    import torch.distributed as dist

    from maiac.runtime.distributed import MeshCommunicator, choose_mesh

    mesh = choose_mesh(maiac.load(path).module, dist.get_world_size(), mesh)
    artifact = maiac.load(path, mesh=mesh, rank=dist.get_rank(), comm=MeshCommunicator(mesh, dist.get_rank()))
    return artifact(**kwargs).logits, artifact.executor.weight_bytes(), mesh


@pytest.mark.distributed
def test_one_artifact_runs_on_four_real_processes(tmp_path: Path):
    case, path = BUILDERS["llama"](), str(tmp_path / "llama.maia")
    artifact = maiac.compile(
        case.model, case.args, case.kwargs, dynamic_shapes=case.dynamic_shapes, mesh={"tp": 2, "pp": 2}
    )
    artifact.save(path)
    with torch.no_grad():
        wanted = case.model(**case.kwargs).logits
    whole = maiac.load(path)
    torch.testing.assert_close(whole(**case.kwargs).logits, wanted, rtol=TOLERANCE, atol=1e-5)
    ranks = launch(4, one_rank, (path, None, case.kwargs), timeout=200)
    for logits, held, mesh in ranks:
        assert mesh == {"pp": 2, "tp": 2}
        torch.testing.assert_close(logits, wanted, rtol=TOLERANCE, atol=TOLERANCE)
        assert held < 0.28 * whole.executor.weight_bytes()


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("scheme", [None, "fp8", "int8"])
def test_one_artifact_runs_on_every_mesh(scheme: str | None, tmp_path: Path):
    case, path = BUILDERS["llama"](), str(tmp_path / "llama.maia")
    artifact = maiac.compile(
        case.model,
        case.args,
        case.kwargs,
        dynamic_shapes=case.dynamic_shapes,
        mesh={"tp": 2, "pp": 2},
        quantize=scheme,
    )
    artifact.save(path)
    wanted = maiac.load(path)(**case.kwargs).logits
    for count, mesh in ((2, {"tp": 2}), (2, {"pp": 2}), (4, None)):
        for logits, _, _ in launch(count, one_rank, (path, mesh, case.kwargs), timeout=300):
            torch.testing.assert_close(logits, wanted, rtol=TOLERANCE, atol=TOLERANCE)
