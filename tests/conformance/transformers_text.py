"""Configs of transformers' text models for the zoo: small, and beside that what makes each one what it is."""

from __future__ import annotations

from typing import Any

from tests.models.zoo import GROUPED, LATENT, SMALL

HEADS: dict[str, Any] = {**GROUPED, "head_dim": 16}
OLD: dict[str, Any] = {
    "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128, "n_positions": 128, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
EXPERTS: dict[str, Any] = {**HEADS, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
LOCAL: dict[str, Any] = {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}
SCAN: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 128, "state_size": 8}
HYBRID: dict[str, Any] = {**GROUPED, "mamba_d_state": 8, "mamba_expand": 2, "mamba_d_conv": 4}
SSD: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_n_groups": 1, "mamba_chunk_size": 16}

DECODERS: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Mistral": {**GROUPED, "sliding_window": 8},
    "Ministral": {**HEADS, "sliding_window": 8},
    "Qwen2": GROUPED,
    "Qwen3": HEADS,
    "Gemma": HEADS,
    "Gemma2": {**HEADS, "sliding_window": 8},
    "Gemma3": {**HEADS, "sliding_window": 8},
    "VaultGemma": {**HEADS, "sliding_window": 8},
    "Phi": SMALL,
    "Phi3": GROUPED,
    "GPTNeoX": SMALL,
    "GPTNeo": {
        **SMALL, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8,
    },
    "GPTJ": {**OLD, "rotary_dim": 8},
    "GPTBigCode": OLD,
    "CodeGen": {**OLD, "rotary_dim": 8},
    "OPT": {**SMALL, "ffn_dim": 96, "word_embed_proj_dim": 64},
    "XGLM": {**SMALL, "d_model": 64, "ffn_dim": 96, "num_layers": 2, "attention_heads": 4},
    "BioGpt": SMALL,
    "Falcon": SMALL,
    "Bloom": {**SMALL, "n_layer": 2, "n_head": 4},
    "Mpt": {**SMALL, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 256},
    "Persimmon": SMALL,
    "StableLm": GROUPED,
    "Olmo": GROUPED,
    "Olmo2": GROUPED,
    "Olmo3": {**GROUPED, "sliding_window": 8},
    "Cohere": GROUPED,
    "Cohere2": {**GROUPED, "sliding_window": 8},
    "Granite": GROUPED,
    "Starcoder2": GROUPED,
    "SmolLM3": GROUPED,
    "Exaone4": {**GROUPED, "sliding_window": 8},
    "Glm": HEADS,
    "Glm4": HEADS,
    "Helium": HEADS,
    "Nemotron": GROUPED,
    "DiffLlama": GROUPED,
    "Arcee": GROUPED,
    "Apertus": GROUPED,
    "SeedOss": HEADS,
    "BitNet": GROUPED,
    "Ernie4_5": HEADS,
    "Lfm2": {**GROUPED, "layer_types": ["conv", "full_attention"]},
    "Mixtral": LOCAL,
    "Phimoe": LOCAL,
    "GptOss": {**LOCAL, "head_dim": 16, "sliding_window": 8},
    "JetMoe": {**LOCAL, "kv_channels": 16},
    "GraniteMoe": LOCAL,
    "Olmoe": {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": {**EXPERTS, "shared_expert_intermediate_size": 48},
    "Qwen3Moe": EXPERTS,
    "Dbrx": {
        **SMALL, "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 256,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64},
    },
    "DeepseekV2": {**SMALL, **LATENT, "topk_method": "greedy"},
    "DeepseekV3": {**SMALL, **LATENT},
    "Glm4Moe": {**EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "Dots1": {**EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "Ernie4_5_Moe": {**EXPERTS, "moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1},
    "FlexOlmo": {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "RecurrentGemma": {**HEADS, "lru_width": 64, "attention_window_size": 8, "block_types": ["recurrent", "attention"]},
    "Jamba": {**HYBRID, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 8},
    "Bamba": {**HYBRID, **SSD, "attn_layer_indices": [1]},
    "FalconH1": {**HYBRID, **SSD, "mamba_d_ssm": 128, "head_dim": 16},
    "GraniteMoeHybrid": {
        **LOCAL, **HYBRID, **SSD, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 48,
    },
    "Qwen3Next": {
        **EXPERTS, "shared_expert_intermediate_size": 48, "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    },
}  # fmt: skip

BERT: dict[str, Any] = {**SMALL, "type_vocab_size": 2}
ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": BERT,
    "Roberta": BERT,
    "XLMRoberta": BERT,
    "RobertaPreLayerNorm": BERT,
    "Camembert": BERT,
    "Albert": {**BERT, "embedding_size": 32},
    "Electra": {**BERT, "embedding_size": 32},
    "Deberta": {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DebertaV2": {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
    "MPNet": SMALL,
    "DistilBert": {"dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4, "vocab_size": 128, "pad_token_id": 0},
    "ModernBert": {**SMALL, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
    "EuroBert": GROUPED,
    "NomicBert": BERT,
    "MegatronBert": BERT,
    "RoFormer": {**BERT, "embedding_size": 64},
    "RemBert": {**BERT, "input_embedding_size": 32},
    "ConvBert": {**BERT, "embedding_size": 64, "conv_kernel_size": 3},
    "SqueezeBert": {**BERT, "embedding_size": 64},
    "MobileBert": {**BERT, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "Longformer": {**BERT, "attention_window": 8},
    "BigBird": {**BERT, "attention_type": "original_full"},
    "XLM": {**BERT, "emb_dim": 64, "n_layers": 2, "n_heads": 4, "n_langs": 1, "n_words": 128},
    "IBert": BERT,
    "Lilt": {**BERT, "hidden_size": 48},
    "LayoutLM": BERT,
    "Splinter": BERT,
    "Esm": {**BERT, "position_embedding_type": "rotary", "mask_token_id": 4},
    "Data2VecText": BERT,
}

MARIAN: dict[str, Any] = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 128, "max_position_embeddings": 256, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2,
}  # fmt: skip
T5: dict[str, Any] = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 128}
PAIRS: dict[str, dict[str, Any]] = {
    "T5ForConditionalGeneration": T5,
    "MT5ForConditionalGeneration": T5,
    "UMT5ForConditionalGeneration": T5,
    "LongT5ForConditionalGeneration": {**T5, "local_radius": 7, "encoder_attention_type": "local"},
    "SwitchTransformersForConditionalGeneration": {**T5, "num_experts": 4, "num_sparse_encoder_layers": 1},
    "BartForConditionalGeneration": MARIAN,
    "MBartForConditionalGeneration": MARIAN,
    "PegasusForConditionalGeneration": MARIAN,
    "MarianMTModel": MARIAN,
    "LEDForConditionalGeneration": {**MARIAN, "attention_window": 8, "max_encoder_position_embeddings": 256},
    "M2M100ForConditionalGeneration": MARIAN,
    "BlenderbotForConditionalGeneration": MARIAN,
    "PLBartForConditionalGeneration": MARIAN,
    "ProphetNetForConditionalGeneration": {
        **{k: v for k, v in MARIAN.items() if k.endswith(("ffn_dim", "token_id", "vocab_size"))}, "hidden_size": 64,
        "num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4,
    },
}  # fmt: skip
