"""diffusers' networks, tiny: denoisers for images, video and sound, their autoencoders, and what steers them.

``MODELS``: name -> builder of a Case. Weights are random; layers that start as zero are made random too,
or whatever stands before them would not show.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .zoo import Case

Shapes = dict[str, Any]

PLAIN: dict[str, Any] = {"return_dict": False}


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _tensors(shapes: Shapes) -> dict[str, Any]:
    """Shapes become noise; what is no shape stays as it is."""
    return {n: _noise(*v) if isinstance(v, tuple) and isinstance(v[0], int) else v for n, v in shapes.items()}


def _model(name: str, options: dict[str, Any], inputs: Shapes) -> Case:
    import diffusers

    model = getattr(diffusers, name)(**options)
    _fill_zeros(model)
    return Case(model, (), {**_tensors(inputs), **PLAIN})


def _fill_zeros(model: torch.nn.Module) -> None:
    for weight in model.parameters():
        if not bool(weight.any()):
            torch.nn.init.normal_(weight, std=0.05)


class Steered(torch.nn.Module):
    """A UNet that takes a ControlNet's residuals."""

    def __init__(self, unet: torch.nn.Module, control: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.control = control

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, states: torch.Tensor, hint: torch.Tensor) -> Any:
        """sample[b 4 h w], states[b t c], hint[b 3 8h 8w] -> noise[b 4 h w]."""
        down, middle = self.control(sample, timestep, states, hint, return_dict=False)
        return self.unet(
            sample, timestep, states, down_block_additional_residuals=down, mid_block_additional_residual=middle,
            return_dict=False,
        )  # fmt: skip


def _steered() -> Case:
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    control = ControlNetModel(**CONTROL)
    _fill_zeros(control)
    model = Steered(UNet2DConditionModel(**UNET), control)
    return Case(model, (_noise(1, 4, 16, 16), torch.tensor(7), _noise(1, 7, 32), _noise(1, 3, 128, 128)))


# **** U-Nets ****

TWO: dict[str, Any] = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
UNET: dict[str, Any] = {
    **TWO,
    "sample_size": 16,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
}
CONTROL: dict[str, Any] = {
    **{k: UNET[k] for k in ("block_out_channels", "layers_per_block", "norm_num_groups", "down_block_types")},
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "conditioning_embedding_out_channels": (8, 16, 16, 16),
}
XL: dict[str, Any] = {
    **UNET,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
}
MOTION: dict[str, Any] = {
    **{k: v for k, v in UNET.items() if k != "attention_head_dim"},
    "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
    "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
    "num_attention_heads": 2,
    "motion_num_attention_heads": 2,
}
CUBE: dict[str, Any] = {
    **UNET,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
}
STEP: Shapes = {"timestep": torch.tensor(7)}
UNETS: dict[str, tuple[dict[str, Any], Shapes]] = {
    "UNet2DConditionModel": (UNET, {"sample": (1, 4, 16, 16), **STEP, "encoder_hidden_states": (1, 7, 32)}),
    "UNet2DConditionModel:xl": (
        XL,
        {
            "sample": (1, 4, 16, 16),
            "timestep": torch.tensor(7),
            "encoder_hidden_states": (1, 7, 32),
            "added_cond_kwargs": {"text_embeds": _noise(1, 32), "time_ids": torch.arange(6.0)[None]},
        },
    ),
    "UNet2DModel": (
        {**TWO, "sample_size": 16, "attention_head_dim": 8, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
         "up_block_types": ("AttnUpBlock2D", "UpBlock2D")},
        {"sample": (1, 3, 16, 16), "timestep": torch.tensor(7)},
    ),
    "UNet1DModel": (
        {"sample_size": 16, "in_channels": 14, "out_channels": 14, "time_embedding_type": "positional",
         "flip_sin_to_cos": False, "freq_shift": 1, "use_timestep_embedding": True, "act_fn": "mish",
         "out_block_type": "OutConv1DBlock", "mid_block_type": "MidResTemporalBlock1D",
         "down_block_types": ("DownResnetBlock1D",) * 2, "up_block_types": ("UpResnetBlock1D",),
         "block_out_channels": (16, 32)},
        {"sample": (1, 14, 16), "timestep": torch.tensor(7)},
    ),
    "UNet3DConditionModel": (CUBE, {"sample": (1, 4, 3, 16, 16), **STEP, "encoder_hidden_states": (1, 7, 32)}),
    "UNetMotionModel": (MOTION, {"sample": (1, 4, 3, 16, 16), **STEP, "encoder_hidden_states": (3, 7, 32)}),
    "UNetSpatioTemporalConditionModel": (
        {"sample_size": 16, "block_out_channels": (32, 64), "layers_per_block": 1, "num_attention_heads": (2, 4),
         "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
         "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), "cross_attention_dim": 32,
         "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 24},
        {"sample": (1, 2, 8, 16, 16), "timestep": torch.tensor(7.0), "encoder_hidden_states": (1, 1, 32),
         "added_time_ids": (1, 3)},
    ),
    "Kandinsky3UNet": (
        {"time_embedding_dim": 32, "groups": 8, "attention_head_dim": 8, "layers_per_block": 2,
         "block_out_channels": (32, 64), "cross_attention_dim": 16, "encoder_hid_dim": 16},
        {"sample": (1, 4, 16, 16), "timestep": torch.tensor([7]), "encoder_hidden_states": (1, 7, 16),
         "encoder_attention_mask": torch.ones(1, 7)},
    ),
    "I2VGenXLUNet": (
        {**CUBE, "attention_head_dim": 2},
        {"sample": (1, 4, 3, 16, 16), "timestep": torch.tensor(7), "fps": torch.tensor([8]),
         "image_latents": (1, 4, 3, 16, 16), "image_embeddings": (1, 32), "encoder_hidden_states": (1, 7, 32)},
    ),
    "ControlNetModel": (
        CONTROL,
        {"sample": (1, 4, 16, 16), "timestep": torch.tensor(7), "encoder_hidden_states": (1, 7, 32),
         "controlnet_cond": (1, 3, 128, 128)},
    ),
}  # fmt: skip

# **** transformers ****

HEADS: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2}
SQUARE: dict[str, Any] = {"hidden_states": (1, 4, 8, 8), "timestep": torch.tensor([3])}
JOINT: dict[str, Any] = {**HEADS, "joint_attention_dim": 32, "pooled_projection_dim": 16}
SD3: dict[str, Any] = {
    **JOINT,
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "caption_projection_dim": 32,
    "out_channels": 4,
}
STABLE: dict[str, Any] = {**SQUARE, "encoder_hidden_states": (1, 7, 32), "pooled_projections": (1, 16)}
FLUX: dict[str, Any] = {**JOINT, "patch_size": 1, "in_channels": 4, "num_single_layers": 1, "axes_dims_rope": (4, 4, 8)}
TOKENS: dict[str, Any] = {
    "hidden_states": (1, 16, 4),
    "encoder_hidden_states": (1, 7, 32),
    "pooled_projections": (1, 16),
    "timestep": torch.tensor([0.3]),
    "img_ids": torch.arange(48.0).reshape(16, 3),
    "txt_ids": torch.zeros(7, 3),
}
VIDEO: dict[str, Any] = {"timestep": torch.tensor([3]), "encoder_hidden_states": (1, 7, 32)}
TRANSFORMERS: dict[str, tuple[dict[str, Any], Shapes]] = {
    "DiTTransformer2DModel": (
        {**HEADS, "in_channels": 4, "out_channels": 8, "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 20,
         "norm_num_groups": 4},
        {**SQUARE, "class_labels": torch.tensor([5])},
    ),
    "PixArtTransformer2DModel": (
        {**HEADS, "sample_size": 8, "cross_attention_dim": 32, "caption_channels": 24, "norm_num_groups": 4,
         "use_additional_conditions": False},
        {**SQUARE, "encoder_hidden_states": (1, 7, 24), "encoder_attention_mask": torch.ones(1, 7),
         "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    ),
    "Transformer2DModel": (
        {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 32, "norm_num_groups": 8,
         "cross_attention_dim": 24},
        {"hidden_states": (1, 32, 8, 8), "encoder_hidden_states": (1, 7, 24)},
    ),
    "SD3Transformer2DModel": (SD3, STABLE),
    "SD3Transformer2DModel:3.5": ({**SD3, "qk_norm": "rms_norm", "dual_attention_layers": (0,)}, STABLE),
    "FluxTransformer2DModel": (FLUX, TOKENS),
    "FluxTransformer2DModel:dev": ({**FLUX, "guidance_embeds": True}, {**TOKENS, "guidance": torch.tensor([3.5])}),
    "Flux2Transformer2DModel": (
        {**HEADS, "in_channels": 4, "num_single_layers": 1, "joint_attention_dim": 32, "timestep_guidance_channels": 16,
         "axes_dims_rope": (4, 4, 4, 4)},
        {**{k: v for k, v in TOKENS.items() if k != "pooled_projections"}, "img_ids": torch.arange(64.0).reshape(16, 4),
         "txt_ids": torch.zeros(7, 4), "guidance": torch.tensor([3.5])},
    ),
    "ChromaTransformer2DModel": (
        {**HEADS, "in_channels": 4, "num_single_layers": 1, "joint_attention_dim": 32, "axes_dims_rope": (4, 4, 8),
         "approximator_num_channels": 16, "approximator_hidden_dim": 32, "approximator_layers": 1},
        {k: v for k, v in TOKENS.items() if k != "pooled_projections"},
    ),
    "AuraFlowTransformer2DModel": (
        {"sample_size": 8, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 32, "caption_projection_dim": 32, "pos_embed_max_size": 16},
        {**SQUARE, "encoder_hidden_states": (1, 7, 32)},
    ),
    "HunyuanDiT2DModel": (
        {**HEADS, "in_channels": 4, "patch_size": 2, "sample_size": 8, "hidden_size": 32, "mlp_ratio": 2.0,
         "cross_attention_dim": 16, "cross_attention_dim_t5": 24, "pooled_projection_dim": 16, "text_len": 5,
         "text_len_t5": 7, "use_style_cond_and_image_meta_size": False},
        {"hidden_states": (1, 4, 8, 8), "timestep": torch.tensor([3.0]), "encoder_hidden_states": (1, 5, 16),
         "text_embedding_mask": torch.ones(1, 5),
         "encoder_hidden_states_t5": (1, 7, 24), "text_embedding_mask_t5": torch.ones(1, 7),
         "image_rotary_emb": [torch.ones(16, 16), torch.zeros(16, 16)]},
    ),
    "Lumina2Transformer2DModel": (
        {"sample_size": 8, "in_channels": 4, "hidden_size": 24, "num_layers": 2, "num_refiner_layers": 1,
         "num_attention_heads": 3, "num_kv_heads": 1, "multiple_of": 2, "axes_dim_rope": (4, 2, 2),
         "axes_lens": (32, 16, 16), "cap_feat_dim": 32},
        {**SQUARE, "encoder_hidden_states": (1, 7, 32), "encoder_attention_mask": torch.ones(1, 7, dtype=torch.bool)},
    ),
    "SanaTransformer2DModel": (
        {**HEADS, "in_channels": 4, "out_channels": 4, "num_cross_attention_heads": 2, "cross_attention_head_dim": 16,
         "cross_attention_dim": 32, "caption_channels": 24, "sample_size": 8},
        {**SQUARE, "encoder_hidden_states": (1, 7, 24)},
    ),
    "CogView3PlusTransformer2DModel": (
        {**HEADS, "in_channels": 4, "out_channels": 4, "text_embed_dim": 32, "time_embed_dim": 16, "condition_dim": 4,
         "pos_embed_max_size": 8, "sample_size": 8},
        {**SQUARE, "encoder_hidden_states": (1, 7, 32), "original_size": torch.tensor([[64.0, 64.0]]),
         "target_size": torch.tensor([[64.0, 64.0]]), "crop_coords": torch.zeros(1, 2)},
    ),
    "CogView4Transformer2DModel": (
        {**HEADS, "in_channels": 4, "out_channels": 4, "text_embed_dim": 32, "time_embed_dim": 16, "condition_dim": 4,
         "sample_size": 8, "rope_axes_dim": (8, 8)},
        {**SQUARE, "encoder_hidden_states": (1, 7, 32), "original_size": torch.tensor([[64.0, 64.0]]),
         "target_size": torch.tensor([[64.0, 64.0]]), "crop_coords": torch.zeros(1, 2)},
    ),
    "QwenImageTransformer2DModel": (
        {**HEADS, "in_channels": 16, "out_channels": 4, "joint_attention_dim": 32, "axes_dims_rope": (8, 4, 4)},
        {"hidden_states": (1, 16, 16), "timestep": torch.tensor([0.3]), "encoder_hidden_states": (1, 7, 32),
         "encoder_hidden_states_mask": torch.ones(1, 7, dtype=torch.long), "img_shapes": [[(1, 4, 4)]]},
    ),
    "PriorTransformer": (
        {**HEADS, "embedding_dim": 8, "num_embeddings": 7, "additional_embeddings": 4},
        {"hidden_states": (1, 8), "timestep": torch.tensor([3]), "proj_embedding": (1, 8),
         "encoder_hidden_states": (1, 7, 8)},
    ),
    "StableAudioDiTModel": (
        {"sample_size": 4, "in_channels": 4, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 4,
         "num_key_value_attention_heads": 2, "out_channels": 4, "cross_attention_dim": 16, "time_proj_dim": 16,
         "global_states_input_dim": 16, "cross_attention_input_dim": 16},
        {"hidden_states": (1, 4, 8), "timestep": torch.tensor([3.0]), "encoder_hidden_states": (1, 7, 16),
         "global_hidden_states": (1, 1, 16), "rotary_embedding": (_noise(9, 4), _noise(9, 4))},
    ),
    "LatteTransformer3DModel": (
        {**HEADS, "in_channels": 4, "out_channels": 8, "cross_attention_dim": 32, "attention_bias": True,
         "sample_size": 8, "patch_size": 2, "activation_fn": "gelu-approximate", "num_embeds_ada_norm": 20,
         "norm_type": "ada_norm_single", "norm_elementwise_affine": False, "caption_channels": 24, "video_length": 2},
        {"hidden_states": (1, 4, 2, 8, 8), "timestep": torch.tensor([3]), "encoder_hidden_states": (1, 7, 24)},
    ),
    "CogVideoXTransformer3DModel": (
        {**HEADS, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8, "text_embed_dim": 32, "sample_width": 8,
         "sample_height": 8, "sample_frames": 9, "max_text_seq_length": 7},
        {**VIDEO, "hidden_states": (1, 3, 4, 8, 8)},
    ),
    "HunyuanVideoTransformer3DModel": (
        {**HEADS, "in_channels": 4, "out_channels": 4, "num_single_layers": 1, "num_refiner_layers": 1,
         "mlp_ratio": 2.0, "text_embed_dim": 32, "pooled_projection_dim": 16, "rope_axes_dim": (4, 6, 6)},
        {**VIDEO, "hidden_states": (1, 4, 2, 8, 8), "encoder_attention_mask": torch.ones(1, 7),
         "pooled_projections": (1, 16), "guidance": torch.tensor([1000.0])},
    ),
    "LTXVideoTransformer3DModel": (
        {**HEADS, "in_channels": 8, "out_channels": 8, "cross_attention_dim": 32, "caption_channels": 32},
        {**VIDEO, "hidden_states": (1, 32, 8), "encoder_attention_mask": torch.ones(1, 7), "num_frames": 2, "height": 4,
         "width": 4},
    ),
    "MochiTransformer3DModel": (
        {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "pooled_projection_dim": 16,
         "in_channels": 4, "text_embed_dim": 32, "time_embed_dim": 8, "max_sequence_length": 7},
        {**VIDEO, "hidden_states": (1, 4, 2, 8, 8), "encoder_attention_mask": torch.ones(1, 7, dtype=torch.bool)},
    ),
    "WanTransformer3DModel": (
        {**HEADS, "in_channels": 4, "out_channels": 4, "text_dim": 32, "freq_dim": 32, "ffn_dim": 64,
         "rope_max_seq_len": 32},
        {**VIDEO, "hidden_states": (1, 4, 2, 8, 8)},
    ),
    "SD3ControlNetModel": (
        {k: v for k, v in SD3.items() if k != "out_channels"}, {**STABLE, "controlnet_cond": (1, 4, 8, 8)},
    ),
    "FluxControlNetModel": ({**FLUX, "axes_dims_rope": [4, 4, 8]}, {**TOKENS, "controlnet_cond": (1, 16, 4)}),
}  # fmt: skip

# **** autoencoders ****

IMAGE: dict[str, Any] = {"sample": (1, 3, 32, 32)}
CLIP: dict[str, Any] = {"sample": (1, 3, 9, 16, 16)}
CODER: dict[str, Any] = {
    **TWO,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
AUTOENCODERS: dict[str, tuple[dict[str, Any], Shapes]] = {
    "AutoencoderKL": (CODER, IMAGE),
    "AsymmetricAutoencoderKL": (
        {"down_block_types": ("DownEncoderBlock2D",) * 2, "down_block_out_channels": (16, 32),
         "up_block_types": ("UpDecoderBlock2D",) * 2, "up_block_out_channels": (16, 32), "norm_num_groups": 8},
        {**IMAGE, "mask": torch.ones(1, 1, 32, 32)},
    ),
    "AutoencoderTiny": (
        {"encoder_block_out_channels": (16, 16), "decoder_block_out_channels": (16, 16), "num_encoder_blocks": (1, 2),
         "num_decoder_blocks": (2, 1)},
        IMAGE,
    ),
    "VQModel": ({**CODER, "num_vq_embeddings": 32}, IMAGE),
    "AutoencoderDC": (
        {"latent_channels": 4, "attention_head_dim": 2, "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
         "decoder_block_types": ("ResBlock", "EfficientViTBlock"), "encoder_block_out_channels": (8, 8),
         "decoder_block_out_channels": (8, 8), "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1),
         "encoder_qkv_multiscales": ((), (5,)), "decoder_qkv_multiscales": ((), (5,))},
        IMAGE,
    ),
    "AutoencoderKLTemporalDecoder": (
        {"block_out_channels": (32, 32), "down_block_types": ("DownEncoderBlock2D",) * 2, "layers_per_block": 1},
        {"sample": (2, 3, 16, 16), "num_frames": 2},
    ),
    "AutoencoderKLCogVideoX": (
        {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4,
         "block_out_channels": (8, 8, 8, 8), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2},
        CLIP,
    ),
    "AutoencoderKLHunyuanVideo": (
        {"latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}, CLIP,
    ),
    "AutoencoderKLLTXVideo": (
        {"latent_channels": 8, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
         "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1), "patch_size": 1,
         "encoder_causal": True},
        CLIP,
    ),
    "AutoencoderKLMochi": (
        {"encoder_block_out_channels": (32, 32, 32, 32), "decoder_block_out_channels": (32, 32, 32, 32),
         "layers_per_block": (1, 1, 1, 1, 1), "in_channels": 15, "out_channels": 3, "latent_channels": 4},
        {"sample": (1, 3, 7, 16, 16)},
    ),
    "AutoencoderKLWan": (
        {"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
         "temperal_downsample": [False, True, True]},
        CLIP,
    ),
    "AutoencoderOobleck": (
        {"encoder_hidden_size": 8, "decoder_channels": 8, "decoder_input_channels": 4, "audio_channels": 2,
         "downsampling_ratios": [2, 4], "channel_multiples": [1, 2]},
        {"sample": (1, 2, 64)},
    ),
}  # fmt: skip


def _listed() -> dict[str, Callable[[], Case]]:
    tables = {**UNETS, **TRANSFORMERS, **AUTOENCODERS}
    return {name: partial(_model, name.partition(":")[0], *entry) for name, entry in tables.items()}


MODELS: dict[str, Callable[[], Case]] = {**_listed(), "ControlNet and UNet": _steered}
