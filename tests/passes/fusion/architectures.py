"""Small models of many architectures: name -> builder, and how many of each op their fused programs hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from tests.models.zoo import BUILDERS, GROUPED, LATENT, SMALL, Case

HEADS: dict[str, Any] = {**GROUPED, "head_dim": 16}
BY_N: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128, "n_positions": 128}
VISION: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@dataclass(frozen=True)
class Architecture:
    """A class of transformers with its config, or the name of a builder of the zoo; what is found in it.

    masks: what the attributes and the fourth operand of its attention ops are: (causal, window, a mask stays).
    """

    model: str
    config: str = ""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    masks: frozenset[tuple[bool, int, bool]] = frozenset()
    inputs: str = "ids"


CAUSAL, ALL, MASKED = (True, 0, False), (False, 0, False), (False, 0, True)
DECODER = {"attention": 2, "rms_norm": 5, "rotary": 4}


def _lm(name: str, settings: dict[str, Any], counts: dict[str, int], *masks: Any) -> Architecture:
    return Architecture(f"{name}ForCausalLM", f"{name}Config", settings, counts, frozenset(masks or (CAUSAL,)))


def _bare(name: str, settings: dict[str, Any], counts: dict[str, int], *masks: Any, inputs: str = "") -> Architecture:
    return Architecture(f"{name}Model", f"{name}Config", settings, counts, frozenset(masks or (ALL,)), inputs)


ARCHITECTURES: dict[str, Architecture] = {
    "llama": _lm("Llama", GROUPED, DECODER | {"silu": 2, "grouped_heads": 2, "merged": 6}),
    "mistral": _lm("Mistral", {**GROUPED, "sliding_window": 8}, DECODER, (True, 8, False)),
    "qwen3": _lm("Qwen3", HEADS, DECODER | {"rms_norm": 9}),
    "gemma": _lm("Gemma", HEADS, DECODER | {"gelu": 2}),
    "gemma2": _lm("Gemma2", {**HEADS, "sliding_window": 8}, DECODER | {"rms_norm": 9}, (True, 8, False), CAUSAL),
    "gemma3": Architecture(
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        {**HEADS, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        DECODER | {"rms_norm": 13, "gelu": 2},
        frozenset([(True, 8, False), CAUSAL]),
    ),
    "phi": _lm("Phi", SMALL, {"attention": 2, "rotary": 4, "layer_norm": 3, "gelu": 2}),
    "phi3": _lm("Phi3", GROUPED, DECODER | {"silu": 2}),
    "gpt_neox": _lm("GPTNeoX", SMALL, {"attention": 2, "rotary": 4, "layer_norm": 5}),
    "gptj": _lm("GPTJ", BY_N | {"rotary_dim": 8}, {"attention": 2, "rotary": 4, "layer_norm": 3, "gelu": 2}),
    "gpt2": Architecture(
        "GPT2LMHeadModel",
        "GPT2Config",
        BY_N,
        {"attention": 2, "layer_norm": 5, "gelu": 2},
        frozenset([CAUSAL]),
    ),
    "opt": _lm("OPT", SMALL | {"ffn_dim": 96, "word_embed_proj_dim": 64}, {"attention": 2, "layer_norm": 5}),
    "falcon": _lm("Falcon", SMALL | {"alibi": False}, {"attention": 2, "rotary": 4, "layer_norm": 3}),
    "falcon_alibi": _lm("Falcon", SMALL | {"alibi": True}, {"attention": 2, "layer_norm": 3}, (True, 0, True)),
    "bloom": _lm(
        "Bloom",
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128},
        {"attention": 2, "layer_norm": 6, "gelu": 2},
        (True, 0, True),
    ),
    "mixtral": _lm("Mixtral", GROUPED | {"num_local_experts": 4}, DECODER),
    "olmo2": _lm("Olmo2", GROUPED, DECODER | {"rms_norm": 9}),
    "cohere": _lm("Cohere", GROUPED, {"attention": 2, "rotary": 4, "layer_norm": 3}),
    "glm": _lm("Glm", HEADS, DECODER),
    "deepseek_v3": _lm("DeepseekV3", SMALL | LATENT, {"attention": 2, "rms_norm": 9, "silu": 3}),
    "bert": _bare("Bert", SMALL, {"attention": 2, "layer_norm": 5, "gelu": 2}, MASKED, inputs="ids mask"),
    "mpnet": _bare("MPNet", SMALL, {"attention": 2, "layer_norm": 5, "gelu": 2}, MASKED, inputs="ids mask"),
    "modernbert": _bare(
        "ModernBert",
        SMALL | {"local_attention": 8, "global_attn_every_n_layers": 2, "reference_compile": False},
        {"attention": 2, "rotary": 4, "layer_norm": 5, "gelu": 2},
        MASKED,
        (False, 5, True),
        inputs="ids mask",
    ),
    "deberta": _bare(
        "DebertaV2", SMALL | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        {"attention": 2, "layer_norm": 5}, MASKED, inputs="ids mask",
    ),
    "vit": _bare(
        "ViT", VISION | {"intermediate_size": 96, "image_size": 32, "patch_size": 8},
        {"attention": 2, "layer_norm": 5, "gelu": 2}, inputs="image",
    ),
    "dinov2": _bare(
        "Dinov2", VISION | {"image_size": 32, "patch_size": 8},
        {"attention": 2, "layer_norm": 5, "channel_affine": 4}, inputs="image",
    ),
    "swin": _bare(
        "Swin",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        {"attention": 4, "layer_norm": 11, "gelu": 4},
        ALL,
        MASKED,
        inputs="image",
    ),
    "convnext": _bare(
        "ConvNext", {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "image_size": 32},
        {"layer_norm": 9, "gelu": 4, "channel_affine": 4}, inputs="image",
    ),
    "t5": Architecture("t5", counts={"attention": 6, "rms_norm": 12}, masks=frozenset([ALL, MASKED, (True, 0, True)])),
    "unet": Architecture(
        "unet",
        counts={"attention": 8, "layer_norm": 12, "group_norm": 21, "silu": 19},
        masks=frozenset([ALL]),
    ),
    "dit": Architecture("dit", counts={"attention": 2, "layer_norm": 5, "gelu": 2, "silu": 4}, masks=frozenset([ALL])),
    "yolov8n": Architecture("yolov8n", counts={"conv_bn": 57, "silu": 54, "merged": 6}),
    "resnet50": Architecture("resnet50", counts={"conv_bn": 53}),
}  # fmt: skip


def build(name: str, *, dynamic: bool = False, attention: str = "") -> Case:
    """A model with random weights that are no ones and zeros, and what it is called on."""
    found = ARCHITECTURES[name]
    if not found.config:
        case = BUILDERS[found.model]()
        stir(case.model)
        return case
    import transformers

    config = getattr(transformers, found.config)(**found.settings)
    if attention:
        config._attn_implementation = attention
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, found.model)(config).eval()
        stir(model)
    if found.inputs == "image":
        return Case(model, (), {"pixel_values": torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))})
    tokens = {1: torch.export.Dim("T", min=2, max=128)} if dynamic else None
    kwargs: dict[str, Any] = {"input_ids": _ids(12)}
    shapes: dict[str, Any] = {"input_ids": tokens}
    if "mask" in found.inputs:
        kwargs["attention_mask"], shapes["attention_mask"] = torch.ones(1, 12, dtype=torch.long), tokens
    if "LM" in found.model:
        kwargs["use_cache"], shapes["use_cache"] = False, None

    def vary(n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask = {"attention_mask": torch.ones(1, n, dtype=torch.long)} if "mask" in found.inputs else {}
        return (), {**kwargs, "input_ids": _ids(n), **mask}

    return Case(model, (), kwargs, shapes if dynamic else None, vary if dynamic else None, (3, 17))


def stir(model: torch.nn.Module) -> None:
    """Weights and biases of norms that matter, and statistics that do."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for each in (*model.parameters(), *model.buffers()):
            if each.ndim == 1 and each.is_floating_point():
                each.add_(torch.rand(each.shape, generator=generator) * 0.2)


def _ids(length: int) -> torch.Tensor:
    return torch.randint(3, 128, (1, length), generator=torch.Generator().manual_seed(length))
