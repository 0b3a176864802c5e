"""The models that are timed, as factories: ``maiac compile benchmarks.models:resnet50 -o resnet50.maia``.

Definitions come from torchvision, transformers, diffusers and ultralytics, with random weights, so nothing is fetched.
``TABLE`` are those of the README's table; ``SIBLINGS`` are others of the same families; ``llama_decode`` is for
``benchmarks.decode``. Each factory gives the model in eval mode, its arguments and its keyword arguments, and gives the
same ones every time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

Made = tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]

TABLE: dict[str, Callable[[], Made]] = {}
SIBLINGS: dict[str, Callable[[], Made]] = {}
VOCABULARY = 32_000


def _listed(table: dict[str, Callable[[], Made]]) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Enter a factory into a table; seeds and eval mode are seen to."""

    def enter(build: Callable[[], Made]) -> Callable[[], Made]:
        @functools.wraps(build)
        def seeded() -> Made:
            _declare_torchvision()  # transformers and ultralytics import it as well
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model, args, kwargs = build()
            return model.eval(), args, kwargs

        table[build.__name__] = seeded
        return seeded

    return enter


def _declare_torchvision() -> None:
    """torchvision's wheel is built for CUDA; beside a CPU torch it imports only where its operators are declared."""
    try:
        from tests._torchvision_shim import declare_operators
    except ImportError:  # not in a clone of the repository: torchvision has to fit its torch
        return
    declare_operators()


def _vision(name: str, size: int = 224) -> Made:
    from torchvision import models

    return getattr(models, name)(), (torch.randn(1, 3, size, size),), {}


def _yolo(config: str) -> Made:
    from ultralytics.nn.tasks import DetectionModel

    return DetectionModel(config, verbose=False), (torch.randn(1, 3, 640, 640),), {}


def _tokens(count: int, vocabulary: int) -> dict[str, Any]:
    return {"input_ids": torch.randint(0, vocabulary, (1, count))}


def _transformer(name: str, head: str, options: dict[str, Any]) -> Any:
    """transformers' model of this name and head, with the default config but for ``options``."""
    import transformers

    return getattr(transformers, name + head)(getattr(transformers, f"{name}Config")(**options))


def _encoder(name: str, **options: Any) -> Made:
    """A transformers encoder over 128 tokens, none of them masked."""
    model = _transformer(name, "Model", options)
    kwargs = _tokens(128, model.config.vocab_size)
    return model, (), {**kwargs, "attention_mask": torch.ones(1, 128, dtype=torch.long)}


def _decoder(name: str, head: str, **options: Any) -> Made:
    """A transformers decoder over 128 tokens, without a cache."""
    model = _transformer(name, head, options)
    return model, (), {**_tokens(128, model.config.vocab_size), "use_cache": False}


# **** the README's table ****


@_listed(TABLE)
def resnet50() -> Made:
    """torchvision's ResNet-50 on one image of 224²."""
    return _vision("resnet50")


@_listed(TABLE)
def yolov8n() -> Made:
    """ultralytics' YOLOv8n on one image of 640², its detection head included."""
    return _yolo("yolov8n.yaml")


# 110 million parameters: 12 layers, 12 heads over 4 of keys and values.
LLAMA = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048,
}


@_listed(TABLE)
def llama_prefill() -> Made:
    """A Llama (see ``LLAMA``) over 128 tokens, without a cache."""
    return _decoder("Llama", "ForCausalLM", **LLAMA)


@_listed(TABLE)
def bert() -> Made:
    """BERT-base over 128 tokens."""
    return _encoder("Bert")


@_listed(TABLE)
def unet() -> Made:
    """A small Stable Diffusion UNet: 128, 256 and 512 channels over 32², cross-attention to 77 states of 512."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(128, 256, 512),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=512,
        attention_head_dim=8,
    )
    return model, (torch.randn(1, 4, 32, 32), torch.tensor(7), torch.randn(1, 77, 512)), {"return_dict": False}


class Decode(torch.nn.Module):
    """One token of a transformers Llama against a cache of ``slots`` positions, which lies in buffers.

    The step writes the token's key and value into the slot of its position and attends to all slots up to it; nothing
    copies the cache, so that a step costs what reading the weights and the cache costs.
    """

    def __init__(self, model: Any, slots: int) -> None:
        super().__init__()
        self.model = model
        self.slots = slots
        config = model.config
        shape = (1, config.num_key_value_heads, slots, config.hidden_size // config.num_attention_heads)
        for i in range(config.num_hidden_layers):
            self.register_buffer(f"keys_{i}", torch.randn(shape))
            self.register_buffer(f"values_{i}", torch.randn(shape))

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """token: i64[1, 1], position: i64[1] below ``slots``; gives logits f32[1, 1, vocabulary]."""
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        inner = self.model.model
        x = inner.embed_tokens(token)
        cos, sin = inner.rotary_emb(x, position_ids=position[None])
        mask = (torch.arange(self.slots) <= position)[None, None, None]
        for i, layer in enumerate(inner.layers):
            attention = layer.self_attn
            y = layer.input_layernorm(x)
            q, k, v = (
                project(y).view(1, 1, -1, attention.head_dim).transpose(1, 2)
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            q, k = apply_rotary_pos_emb(q, k, cos, sin)
            keys, values = getattr(self, f"keys_{i}"), getattr(self, f"values_{i}")
            keys.index_copy_(2, position, k)
            values.index_copy_(2, position, v)
            y = torch.nn.functional.scaled_dot_product_attention(q, keys, values, mask, enable_gqa=True)
            x = x + attention.o_proj(y.transpose(1, 2).reshape(1, 1, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.model.lm_head(inner.norm(x))


def llama_decode() -> Made:
    """That Llama's decode step: one token, the last of a cache of 512."""
    _declare_torchvision()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Decode(_transformer("Llama", "ForCausalLM", LLAMA), 512)
    return model.eval(), (torch.tensor([[17]]), torch.tensor([511])), {}


# **** others of the same families ****


def _sibling(name: str, build: Callable[[], Made]) -> Callable[[], Made]:
    build.__name__ = build.__qualname__ = name
    return _listed(SIBLINGS)(build)


resnet18 = _sibling("resnet18", lambda: _vision("resnet18"))
resnext50 = _sibling("resnext50", lambda: _vision("resnext50_32x4d"))
mobilenet_v2 = _sibling("mobilenet_v2", lambda: _vision("mobilenet_v2"))
mobilenet_v3 = _sibling("mobilenet_v3", lambda: _vision("mobilenet_v3_large"))
efficientnet_b0 = _sibling("efficientnet_b0", lambda: _vision("efficientnet_b0"))
convnext_tiny = _sibling("convnext_tiny", lambda: _vision("convnext_tiny"))
yolo11n = _sibling("yolo11n", lambda: _yolo("yolo11n.yaml"))


@_listed(SIBLINGS)
def vit_b_16() -> Made:
    """torchvision's ViT-B/16 on one image of 224²."""
    model, args, kwargs = _vision("vit_b_16")
    # Untrained it is zero, and so would be all outputs.
    torch.nn.init.normal_(model.get_parameter("heads.head.weight"), std=0.02)
    return model, args, kwargs


@_listed(SIBLINGS)
def gpt2() -> Made:
    """GPT-2 (124 million parameters) over 128 tokens."""
    return _decoder("GPT2", "LMHeadModel")


@_listed(SIBLINGS)
def qwen3() -> Made:
    """A small Qwen3 (norms on queries and keys, heads wider than hidden / heads) over 128 tokens."""
    return _decoder(
        "Qwen3",
        "ForCausalLM",
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=128,
        vocab_size=VOCABULARY,
        max_position_embeddings=2048,
    )


@_listed(SIBLINGS)
def distilbert() -> Made:
    """DistilBERT-base over 128 tokens."""
    return _encoder("DistilBert")


@_listed(SIBLINGS)
def roberta() -> Made:
    """RoBERTa-base over 128 tokens."""
    return _encoder("Roberta", vocab_size=50_265, max_position_embeddings=514)


@_listed(SIBLINGS)
def dit_s() -> Made:
    """DiT-S/2: 12 blocks of 384 channels over a latent of 32²."""
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=6, attention_head_dim=64, in_channels=4, out_channels=8, num_layers=12, sample_size=32,
        patch_size=2, num_embeds_ada_norm=1000,
    )  # fmt: skip
    kwargs = {"timestep": torch.tensor([3]), "class_labels": torch.tensor([5]), "return_dict": False}
    return model, (torch.randn(1, 4, 32, 32),), kwargs


@_listed(SIBLINGS)
def vae_decoder() -> Made:
    """The decoder of a small autoencoder: a latent of 32² to an image of 128²."""
    from diffusers.models.autoencoders.vae import Decoder

    model = Decoder(
        in_channels=4,
        out_channels=3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(64, 128, 256),
        layers_per_block=2,
    )
    return model, (torch.randn(1, 4, 32, 32),), {}


def factory(name: str) -> Callable[[], Made]:
    """The factory of a model of either table, or of the decode step; KeyError with their names where there is none."""
    found = {**TABLE, **SIBLINGS, "llama_decode": llama_decode}
    if name not in found:
        raise KeyError(f"{name}: expected one of {', '.join(found)}")
    return found[name]
