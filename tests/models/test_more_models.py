"""Models beyond the zoo, each with something of its own: compiled, saved, loaded and run equals eager.

Weights are random. Those of transformers are in tests/conformance/transformers_table.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import maiac

from .test_onnx_models import export, tensors
from .zoo import Case

RTOL, ATOL = 1e-4, 1e-5  # float32

QUICK = {"flux"}


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def flux() -> Case:
    """diffusers' Flux: rotary positions of images, text and image in one attention."""
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    kwargs = {
        "hidden_states": noise(1, 16, 4),
        "encoder_hidden_states": noise(1, 7, 32),
        "pooled_projections": noise(1, 16),
        "timestep": torch.tensor([0.3]),
        "img_ids": torch.arange(48.0).reshape(16, 3),
        "txt_ids": torch.zeros(7, 3),
        "guidance": None,
        "return_dict": False,
    }
    return Case(model, (), kwargs)


def vae_decoder() -> Case:
    """diffusers' image decoder; batch, height and width are dynamic."""
    from diffusers.models.autoencoders.vae import Decoder

    model = Decoder(
        in_channels=4, out_channels=3, block_out_channels=(32, 64), up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )  # fmt: skip
    dims = {at: torch.export.Dim(name, min=2, max=32) for at, name in ((0, "B"), (2, "H"), (3, "W"))}
    return Case(model, (noise(2, 4, 8, 6),), {}, (dims,), lambda n: ((noise(n, 4, n + 3, 5),), {}), (2, 4))


def vision(name: str) -> Case:
    import torchvision.models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name)
    dims = ({0: torch.export.Dim("B", min=1, max=16)},)
    return Case(model, (noise(2, 3, 64, 64),), {}, dims, lambda n: ((noise(n, 3, 64, 64),), {}), (1, 3))


def yolo(name: str, task: str) -> Case:
    from ultralytics.nn import tasks

    return Case(getattr(tasks, task)(f"{name}.yaml", verbose=False), (noise(1, 3, 64, 64),))


BUILDERS: dict[str, Callable[[], Case]] = {
    **{f.__name__: f for f in (flux, vae_decoder)},
    **{
        name: lambda name=name: vision(name)
        for name in ("mobilenet_v3_small", "densenet121", "convnext_tiny", "shufflenet_v2_x0_5")
    },
    "yolo12n": lambda: yolo("yolo12n", "DetectionModel"),
    "yolov8n-seg": lambda: yolo("yolov8n-seg", "SegmentationModel"),
}
CASES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BUILDERS]


def build(name: str) -> Case:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        case = BUILDERS[name]()
    case.model.eval()
    return case


def calls(case: Case) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The example inputs, then others."""
    others = [case.vary(n) for n in case.lengths] if case.vary else []
    return [(case.args, case.kwargs), *others]


def assert_equal(got: Any, want: Any) -> None:
    for a, b in zip(tensors(got), tensors(want), strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_equals_eager(name: str, tmp_path: Path):
    case, path = build(name), tmp_path / "model.maia"
    maiac.compile(case.model, case.args, case.kwargs, dynamic_shapes=case.dynamic_shapes).save(path)
    loaded = maiac.load(path)
    for args, kwargs in calls(case):
        with torch.no_grad():
            want = case.model(*args, **kwargs)
        got = loaded(*args, **kwargs)
        assert type(got) is type(want)
        assert_equal(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae_decoder", "yolo12n"])
def test_an_onnx_file_equals_eager(name: str, tmp_path: Path):
    case, path = build(name), tmp_path / "model.onnx"
    export(case, path, case.vary is not None)
    maiac.compile(path).save(tmp_path / "model.maia")
    loaded = maiac.load(tmp_path / "model.maia")
    for args, kwargs in calls(case):
        with torch.no_grad():
            want = case.model(*args, **kwargs)
        assert_equal(loaded(*(v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor))), want)
