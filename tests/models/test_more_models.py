"""Models beyond the zoo, each with something of its own: compiled, saved, loaded and run equals eager.

One table entry is a transformers class with its config; the others have a builder. Weights are random.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import maiac

from .test_onnx_models import export, tensors
from .zoo import GROUPED, LATENT, SMALL, Case

RTOL, ATOL = 1e-4, 1e-5  # float32

DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Mistral": ("a window of attention", {**GROUPED, "sliding_window": 8}),
    "Qwen2": ("biases of query, key and value", GROUPED),
    "Gemma3": ("windowed and global layers in turn", {**GROUPED, "head_dim": 16, "sliding_window": 8}),
    "Phi3": ("query, key and value in one weight", GROUPED),
    "OPT": ("learned positions with an offset", {**SMALL, "ffn_dim": 96, "word_embed_proj_dim": 64}),
    "Falcon": ("attention and feed-forward side by side", SMALL),
    "Bloom": ("ALiBi", {**SMALL, "n_layer": 2, "n_head": 4}),
    "DeepseekV3": ("latent attention, shared and routed experts", {**SMALL, **LATENT}),
}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Albert": ("one layer used many times", {**SMALL, "embedding_size": 32}),
    "Deberta": ("positions that attention depends on", {**SMALL, "relative_attention": True, "pos_att_type": ["c2p"]}),
    "MPNet": ("bucketed relative positions", SMALL),
}
QUICK = {"Qwen2", "OPT", "Bloom", "MPNet", "wav2vec2", "mamba", "segformer", "flux"}


def ids(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 128, (batch, length), generator=torch.Generator().manual_seed(length))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def text_case(model: torch.nn.Module, extra: dict[str, Any]) -> Case:
    """A text model with a mask that pads its last row; batch and length are dynamic."""

    def inputs(length: int, batch: int = 2) -> dict[str, Any]:
        mask = torch.ones(batch, length, dtype=torch.long)
        mask[-1, -min(4, length // 2) :] = 0  # fewer than a window: rows that see nothing differ between exporters
        return {"input_ids": ids(batch, length), "attention_mask": mask, **extra}

    dims = {0: torch.export.Dim("B", min=1, max=16), 1: torch.export.Dim("T", min=2, max=128)}
    shapes = {"input_ids": dims, "attention_mask": dims, **dict.fromkeys(extra)}
    return Case(model, (), inputs(12), shapes, lambda n: ((), inputs(n, n % 3 + 1)), (2, 7, 33))


def decoder(name: str) -> Case:
    import transformers

    config = getattr(transformers, f"{'Gemma3Text' if name == 'Gemma3' else name}Config")(**DECODERS[name][1])
    return text_case(getattr(transformers, f"{name}ForCausalLM")(config), {"use_cache": False})


def encoder(name: str) -> Case:
    import transformers

    config = getattr(transformers, f"{name}Config")(**ENCODERS[name][1])
    return text_case(getattr(transformers, f"{name}Model")(config), {})


def mamba() -> Case:
    """A state-space model: a scan over time."""
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=128, state_size=8)
    return Case(MambaForCausalLM(config), (), {"input_ids": ids(1, 12), "use_cache": False})


def whisper() -> Case:
    """Convolutions over a spectrogram, encoder and decoder."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=96, decoder_ffn_dim=96, vocab_size=128, num_mel_bins=16, max_source_positions=50,
        max_target_positions=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    kwargs = {"input_features": noise(1, 16, 100), "decoder_input_ids": ids(1, 8), "use_cache": False}
    return Case(WhisperForConditionalGeneration(config), (), kwargs)


def wav2vec2() -> Case:
    """Sound samples in, weight-normalized convolutions."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, vocab_size=32,
        conv_dim=(16, 16, 16), conv_kernel=(10, 3, 2), conv_stride=(5, 2, 2),
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    return Case(Wav2Vec2ForCTC(config), (), {"input_values": noise(1, 1600)})


def swin() -> Case:
    """Shifted windows; the batch is dynamic."""
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)
    return images(SwinForImageClassification(config), 32)


def segformer() -> Case:
    """Attention over reduced images, a head that resizes; the batch is dynamic."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        hidden_sizes=[16, 32, 32, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=32
    )
    return images(SegformerForSemanticSegmentation(config), 64)


def images(model: torch.nn.Module, size: int) -> Case:
    def inputs(batch: int) -> dict[str, Any]:
        return {"pixel_values": noise(batch, 3, size, size)}

    shapes = {"pixel_values": {0: torch.export.Dim("B", min=1, max=16)}}
    return Case(model, (), inputs(2), shapes, lambda n: ((), inputs(n)), (1, 3))


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
    **{name: lambda name=name: decoder(name) for name in DECODERS},
    **{name: lambda name=name: encoder(name) for name in ENCODERS},
    **{f.__name__: f for f in (mamba, whisper, wav2vec2, swin, segformer, flux, vae_decoder)},
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


FILES = [
    "OPT",
    "Mistral",
    "Gemma3",
    "Bloom",
    "Albert",
    "MPNet",
    "whisper",
    "swin",
    "segformer",
    "vae_decoder",
    "yolo12n",
]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "OPT" else pytest.mark.slow) for n in FILES])
def test_an_onnx_file_equals_eager(name: str, tmp_path: Path):
    case, path = build(name), tmp_path / "model.onnx"
    export(case, path, case.vary is not None)
    maiac.compile(path).save(tmp_path / "model.maia")
    loaded = maiac.load(tmp_path / "model.maia")
    for args, kwargs in calls(case):
        with torch.no_grad():
            want = case.model(*args, **kwargs)
        assert_equal(loaded(*(v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor))), want)
