"""The architectures of transformers that the zoo tries, at sizes that keep a case to seconds.

An entry is a class, what its config says beyond the defaults, and the kind of its inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.models.zoo import SMALL

from .transformers_text import BERT, DECODERS, ENCODERS, MARIAN, OLD, PAIRS, SCAN
from .zoo_inputs import Kind, batched, images, pair, samples, spoken, text, with_text


@dataclass(frozen=True)
class Entry:
    """One architecture."""

    cls: str
    config: Mapping[str, Any]
    kind: Kind


CAUSAL, PLAIN, WORDS, PAIR = text({"use_cache": False}), text({"use_cache": False}, masked=False), text({}), pair()

# **** images ****

VIT: dict[str, Any] = {**SMALL, "intermediate_size": 128, "image_size": 32, "patch_size": 8}
STAGES: dict[str, Any] = {"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1]}
SWIN: dict[str, Any] = {
    "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
}  # fmt: skip
DETR: dict[str, Any] = {**MARIAN, "num_queries": 5, "use_timm_backbone": False, "use_pretrained_backbone": False}


def config_of(cls: str, config: Mapping[str, Any]) -> Any:
    """The config of a class; functions among the values are called."""
    import transformers

    values = {name: v() if callable(v) else v for name, v in config.items()}
    return getattr(transformers, cls).config_class(**values)


def resnet() -> Any:
    """The config of a small backbone."""
    return config_of("ResNetBackbone", {**STAGES, "embedding_size": 16, "out_features": ["stage4"]})


def dinov2() -> Any:
    """The config of a backbone whose stages are all of one size."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return config_of(
        "Dinov2Backbone", {**VIT, "num_hidden_layers": 4, "out_features": stages, "reshape_hidden_states": False}
    )


def swin() -> Any:
    """The config of a backbone of four stages."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    small = {**SWIN, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "out_features": stages}
    return config_of("SwinBackbone", small)


def detr() -> Any:
    """The config of MaskFormer's decoder."""
    return config_of("DetrModel", {**DETR, "backbone_config": resnet})


def size_of(config: Mapping[str, Any]) -> int:
    """The pixels of an image's side. Models that do not say shrink it up to 32 times."""
    size = config.get("image_size", 64)
    return size if isinstance(size, int) else size[0]


def vision_text(text_config: Mapping[str, Any], vision_config: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A config of two towers."""
    return {"text_config": dict(text_config), "vision_config": dict(vision_config), **more}


IMAGES: dict[str, dict[str, Any]] = {
    "ViTForImageClassification": VIT,
    "DeiTForImageClassification": VIT,
    "BeitForImageClassification": VIT,
    "Data2VecVisionForImageClassification": VIT,
    "ViTMSNForImageClassification": VIT,
    "IJepaForImageClassification": VIT,
    "Dinov2ForImageClassification": VIT,
    "Dinov2WithRegistersForImageClassification": VIT,
    "DINOv3ViTModel": VIT,
    "SwinForImageClassification": SWIN,
    "Swinv2ForImageClassification": SWIN,
    "ConvNextForImageClassification": STAGES,
    "ConvNextV2ForImageClassification": STAGES,
    "PoolFormerForImageClassification": STAGES,
    "ResNetForImageClassification": {**STAGES, "embedding_size": 16},
    "RegNetForImageClassification": {**STAGES, "embedding_size": 16, "groups_width": 8},
    "BitForImageClassification": {**STAGES, "embedding_size": 16, "num_groups": 4},
    "HGNetV2ForImageClassification": {},
    "MobileNetV1ForImageClassification": {"depth_multiplier": 0.25},
    "MobileNetV2ForImageClassification": {"depth_multiplier": 0.35},
    "MobileViTForImageClassification": {
        "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32], "image_size": 64
    },
    "MobileViTV2ForImageClassification": {"width_multiplier": 0.5, "image_size": 64},
    "EfficientNetForImageClassification": {
        "width_coefficient": 0.25, "depth_coefficient": 0.3, "image_size": 64, "hidden_dim": 320
    },
    "LevitForImageClassification": {
        "image_size": 64, "hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "CvtForImageClassification": {"embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depth": [1, 2, 3]},
    "PvtV2ForImageClassification": {**STAGES, "image_size": 64, "num_attention_heads": [1, 2, 2, 4]},
    "PvtForImageClassification": {**STAGES, "image_size": 64, "num_attention_heads": [1, 2, 2, 4]},
    "FocalNetForImageClassification": {"image_size": 32, "embed_dim": 16, "depths": [1, 1], "patch_size": 4,
        "focal_levels": [2, 2], "focal_windows": [3, 3], "hidden_sizes": [16, 32]},
    "SwiftFormerForImageClassification": {"depths": [1, 1, 1, 1], "embed_dims": [16, 24, 32, 48]},
    "HieraForImageClassification": {
        "image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]
    },
    "SegformerForSemanticSegmentation": {**STAGES, "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 32},
    "GLPNForDepthEstimation": {**STAGES, "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 32},
    "YolosForObjectDetection": {**VIT, "image_size": [64, 64], "num_detection_tokens": 5},
    "DetrForObjectDetection": {**DETR, "backbone_config": resnet},
    "ConditionalDetrForObjectDetection": {**DETR, "backbone_config": resnet},
    "TableTransformerForObjectDetection": {**DETR, "backbone_config": resnet},
    "DPTForSemanticSegmentation": {
        **VIT, "image_size": 64, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "is_hybrid": False,
        "neck_hidden_sizes": [16, 16, 32, 32], "fusion_hidden_size": 16,
    },
    "DepthAnythingForDepthEstimation": {
        "backbone_config": dinov2, "patch_size": 8, "reassemble_hidden_size": 64, "fusion_hidden_size": 16,
        "neck_hidden_sizes": [16, 16, 32, 32], "head_hidden_size": 16,
    },
    "MaskFormerForInstanceSegmentation": {
        "backbone_config": swin,
        "decoder_config": detr,
        "fpn_feature_size": 32, "mask_feature_size": 32,
    },
    "Mask2FormerForUniversalSegmentation": {
        "backbone_config": swin,
        "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 48,
        "encoder_layers": 2, "decoder_layers": 3, "num_attention_heads": 4, "dim_feedforward": 48, "num_queries": 5,
    },
    "SamVisionModel": {
        **VIT, "mlp_dim": 96, "output_channels": 32, "window_size": 2, "global_attn_indexes": [1], "image_size": 64,
        "num_pos_feats": 16,
    },
    "Swin2SRForImageSuperResolution": {**SWIN, "patch_size": 1, "upscale": 2},
    "VitDetModel": {**VIT, "window_block_indices": [0], "window_size": 2, "pretrain_image_size": 32},
}  # fmt: skip

# **** sound ****

WAV: dict[str, Any] = {
    **SMALL, "vocab_size": 32, "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 3,
}  # fmt: skip
SOUNDS: dict[str, dict[str, Any]] = {
    "Wav2Vec2ForCTC": WAV,
    "HubertForCTC": WAV,
    "WavLMForCTC": {**WAV, "num_buckets": 16, "max_bucket_distance": 32},
    "UniSpeechForCTC": {**WAV, "num_ctc_classes": 32},
    "UniSpeechSatForCTC": WAV,
    "Wav2Vec2ConformerForCTC": {**WAV, "conv_depthwise_kernel_size": 5},
    "SEWForCTC": {**WAV, "squeeze_factor": 2},
    "SEWDForCTC": {**WAV, "squeeze_factor": 2, "position_buckets": 8, "pos_att_type": ("p2c", "c2p")},
    "Data2VecAudioForCTC": {**WAV, "conv_pos_kernel_size": 3, "num_conv_pos_embeddings": 2},
}
VOICE: dict[str, Any] = {**MARIAN, "max_target_positions": 64, "max_source_positions": 50}

# **** all ****

TOWER: dict[str, Any] = {**SMALL, "projection_dim": 32}
EYE: dict[str, Any] = {**VIT, "projection_dim": 32}


def short(cls: str) -> str:
    """An architecture's name: its class without the task."""
    return re.split("For[A-Z]|MTModel|Model", cls)[0]


ENTRIES: dict[str, Entry] = {
    **{name: Entry(f"{name}ForCausalLM", config, CAUSAL) for name, config in DECODERS.items()},
    "GPT2": Entry("GPT2LMHeadModel", OLD, CAUSAL),
    "OpenAIGPT": Entry("OpenAIGPTLMHeadModel", OLD, WORDS),
    "CTRL": Entry("CTRLLMHeadModel", {**OLD, "dff": 96}, CAUSAL),
    "XLNet": Entry("XLNetModel", {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96, "vocab_size": 128}, WORDS),
    "FNet": Entry("FNetModel", {**BERT, "use_tpu_fourier_optimizations": False}, text({}, masked=False)),
    "Nystromformer": Entry(
        "NystromformerModel",
        {**BERT, "num_landmarks": 4, "segment_means_seq_len": 16},
        text({}, masked=False, length=16),
    ),
    "Funnel": Entry(
        "FunnelModel",
        {"block_sizes": [1, 1], "d_model": 64, "n_head": 4, "d_head": 16, "d_inner": 96, "vocab_size": 128},
        WORDS,
    ),
    **{
        name: Entry(f"{name}ForCausalLM", {**SCAN, **more}, PLAIN)
        for name, more in {
            "Mamba": {},
            "FalconMamba": {},
            "Mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 16},
            "Rwkv": {"attention_hidden_size": 32, "context_length": 128},
        }.items()
    },
    **{name: Entry(f"{name}Model", config, WORDS) for name, config in ENCODERS.items()},
    **{short(cls): Entry(cls, config, PAIR) for cls, config in PAIRS.items()},
    **{
        short(cls): Entry(cls, config, images(size_of(config)))
        for cls, config in IMAGES.items()
    },
    **{short(cls): Entry(cls, config, samples()) for cls, config in SOUNDS.items()},
    "VideoMAE": Entry(
        "VideoMAEForVideoClassification", {**VIT, "num_frames": 4}, batched(pixel_values=(4, 3, 32, 32))
    ),
    "Timesformer": Entry(
        "TimesformerForVideoClassification", {**VIT, "num_frames": 4}, batched(pixel_values=(4, 3, 32, 32))
    ),
    "ASTransformer": Entry(
        "ASTForAudioClassification",
        {**SMALL, "num_mel_bins": 16, "max_length": 64, "patch_size": 8},
        batched(input_values=(64, 16)),
    ),
    "Encodec": Entry(
        "EncodecModel",
        {"num_filters": 4, "hidden_size": 16, "codebook_size": 32, "codebook_dim": 16, "upsampling_ratios": [4, 2]},
        batched(input_values=(1, 320)),
    ),
    "Whisper": Entry(
        "WhisperForConditionalGeneration", {**VOICE, "num_mel_bins": 16}, spoken(input_features=(16, 100))
    ),
    "Speech2Text": Entry(
        "Speech2TextForConditionalGeneration",
        {**VOICE, "input_feat_per_channel": 16, "conv_channels": 32, "max_source_positions": 128},
        spoken(input_features=(64, 16)),
    ),
    "Moonshine": Entry(
        "MoonshineForConditionalGeneration",
        {
            **SMALL, "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2,
            "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4, "decoder_start_token_id": 1,
        },
        spoken(input_values=(4000,)),
    ),
    "CLIP": Entry("CLIPModel", vision_text(TOWER, EYE, projection_dim=32), with_text(images())),
    "ChineseCLIP": Entry("ChineseCLIPModel", vision_text(BERT, EYE, projection_dim=32), with_text(images())),
    "Siglip": Entry("SiglipModel", vision_text(SMALL, VIT), with_text(images())),
    "Blip": Entry(
        "BlipForConditionalGeneration", vision_text(TOWER, EYE, projection_dim=32), with_text(images())
    ),
    "CLIPSeg": Entry(
        "CLIPSegForImageSegmentation",
        vision_text(TOWER, EYE, projection_dim=32, extract_layers=[0, 1], reduce_dim=16, decoder_intermediate_size=32),
        with_text(images()),
    ),
    "OwlViT": Entry(
        "OwlViTForObjectDetection", vision_text(SMALL, VIT, projection_dim=64), with_text(images())
    ),
    "GroupViT": Entry(
        "GroupViTModel",
        vision_text(
            SMALL,
            {**VIT, "depths": [1, 1, 1], "num_group_tokens": [8, 4, 0], "num_output_groups": [8, 4, 0]},
            projection_dim=32,
        ),
        with_text(images()),
    ),
    "Vilt": Entry("ViltModel", {**VIT, **BERT, "image_size": 32}, with_text(images())),
    "Flava": Entry(
        "FlavaModel",
        {
            "image_config": VIT, "text_config": BERT, "multimodal_config": SMALL, "projection_dim": 32,
            "hidden_size": 64,
        },
        with_text(images()),
    ),
    "Git": Entry(
        "GitForCausalLM", {**SMALL, "vision_config": EYE}, with_text(images())
    ),
}  # fmt: skip
