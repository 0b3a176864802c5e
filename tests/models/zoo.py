"""Real model definitions at sizes that keep tests quick: builder name -> (model, example inputs, dynamic shapes).

Definitions come from torchvision, transformers, diffusers and ultralytics; weights are random, so nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Case:
    """A model in eval mode with what it is called on. ``vary`` makes other inputs of the sizes that are dynamic."""

    model: torch.nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    dynamic_shapes: Any = None
    vary: Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]] | None = None
    lengths: tuple[int, ...] = ()


BUILDERS: dict[str, Callable[[], Case]] = {}


def builder(build: Callable[[], Case]) -> Callable[[], Case]:
    """Register a builder under its own name; seeds and eval mode are seen to."""

    def seeded() -> Case:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            case = build()
        case.model.eval()
        return case

    BUILDERS[build.__name__] = seeded
    return seeded


def calibrate(model: torch.nn.Module, run: Callable[[], Any]) -> None:
    """Give batch norms the statistics of what ``run`` shows the model, so that features are of order 1 at any depth."""
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None
    model.train()
    with torch.no_grad():
        run()
    model.eval()


def ids(length: int, vocabulary: int = 128, batch: int = 1) -> torch.Tensor:
    """Token numbers."""
    generator = torch.Generator().manual_seed(length)
    return torch.randint(0, vocabulary, (batch, length), generator=generator)


def _image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# **** vision ****


@builder
def resnet50() -> Case:
    """torchvision's ResNet-50 on a small image."""
    from torchvision.models import resnet50

    # Untrained, it ends in logits of 50, where float32 itself is off by 3e-5 (eager against float64); a trained one's
    # are of order 1.
    model = resnet50()
    with torch.no_grad():
        model.fc.weight.mul_(0.05)
    return Case(model, (_image(1, 3, 64, 64),))


@builder
def yolov8n() -> Case:
    """ultralytics' YOLOv8n from its yaml, the detection head included."""
    from ultralytics.nn.tasks import DetectionModel

    return Case(DetectionModel("yolov8n.yaml", verbose=False), (_image(1, 3, 64, 64),))


@builder
def vit() -> Case:
    """transformers' ViT for classification."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=32, patch_size=8
    )
    return Case(ViTForImageClassification(config), (), {"pixel_values": _image(1, 3, 32, 32)})


# **** language ****


def _language(model: Any, longest: int, extra: dict[str, Any] | None = None) -> Case:
    """A text model whose sequence length ``T`` is dynamic."""
    extra = extra or {}
    length = torch.export.Dim("T", min=2, max=longest)
    shapes: dict[str, Any] = {"input_ids": {1: length}, **dict.fromkeys(extra)}

    def vary(n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"input_ids": ids(n), **extra}

    return Case(model, (), {"input_ids": ids(12), **extra}, shapes, vary, (2, 12, 33))


# What configs of text models share in tests; GROUPED: with queries in groups; LATENT: DeepSeek's attention and experts.
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED: dict[str, Any] = {**SMALL, "num_key_value_heads": 2}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
}


def llama_config(layers: int = 12, **changes: Any) -> Any:
    """A small Llama with grouped queries."""
    from transformers import LlamaConfig

    small: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 128,
        "max_position_embeddings": 256,
    }
    return LlamaConfig(**(small | changes))


@builder
def llama() -> Case:
    """A 12-layer Llama."""
    from transformers import LlamaForCausalLM

    return _language(LlamaForCausalLM(llama_config()), 256, {"use_cache": False})


@builder
def gpt2() -> Case:
    """transformers' GPT-2."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=128, n_positions=128)
    return _language(GPT2LMHeadModel(config), 128, {"use_cache": False})


@builder
def bert() -> Case:
    """transformers' BERT with a padding mask."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, vocab_size=128
    )
    length = torch.export.Dim("T", min=2, max=512)

    def inputs(n: int) -> dict[str, Any]:
        mask = torch.ones(2, n, dtype=torch.long)
        mask[1, n // 2 :] = 0
        return {"input_ids": ids(n, batch=2), "attention_mask": mask}

    shapes = {"input_ids": {1: length}, "attention_mask": {1: length}}
    return Case(BertModel(config), (), inputs(12), shapes, lambda n: ((), inputs(n)), (2, 12, 33))


@builder
def t5() -> Case:
    """transformers' T5, encoder and decoder."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=128)
    length = torch.export.Dim("T", min=2, max=256)
    target = torch.export.Dim("D", min=2, max=256)

    def inputs(n: int) -> dict[str, Any]:
        return {"input_ids": ids(n), "decoder_input_ids": ids(n // 2 + 2), "use_cache": False}

    shapes = {"input_ids": {1: length}, "decoder_input_ids": {1: target}, "use_cache": None}
    return Case(T5ForConditionalGeneration(config), (), inputs(12), shapes, lambda n: ((), inputs(n)), (4, 12, 33))


@builder
def mixtral() -> Case:
    """transformers' Mixtral: a mixture of experts."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        vocab_size=128,
        max_position_embeddings=256,
    )
    return Case(MixtralForCausalLM(config), (), {"input_ids": ids(12), "use_cache": False})


@builder
def qwen3_moe() -> Case:
    """transformers' Qwen3-MoE."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        hidden_size=64,
        intermediate_size=96,
        moe_intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,  # pyright: ignore[reportCallIssue]  (it is read from kwargs)
        num_experts=4,
        num_experts_per_tok=2,
        vocab_size=128,
        max_position_embeddings=256,
    )
    return Case(Qwen3MoeForCausalLM(config), (), {"input_ids": ids(12), "use_cache": False})


# **** diffusion ****


@builder
def unet() -> Case:
    """diffusers' Stable Diffusion UNet, small."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    states = _image(1, 7, 32)
    return Case(model, (_image(1, 4, 16, 16), torch.tensor(7), states), {"return_dict": False})


@builder
def dit() -> Case:
    """diffusers' DiT."""
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=20, norm_num_groups=4,
    )  # fmt: skip
    kwargs = {"timestep": torch.tensor([3]), "class_labels": torch.tensor([5]), "return_dict": False}
    return Case(model, (_image(1, 4, 8, 8),), kwargs)
