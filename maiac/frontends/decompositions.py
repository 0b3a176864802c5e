"""Which ATen operations reach the IR whole, and which torch decomposes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Eager runs one kernel for each of these, or a later pass or kernel wants to see it in one piece.
KEEP = (
    "adaptive_avg_pool1d.default",
    "avg_pool1d.default",
    "avg_pool2d.default",
    "avg_pool3d.default",
    "baddbmm.default",
    "celu.default",
    "einsum.default",
    "glu.default",
    "hardsigmoid.default",
    "hardswish.default",
    "layer_norm.default",
    "linear.default",
    "log_sigmoid.default",
    "log_softmax.int",
    "logsumexp.default",
    "matmul.default",
    "max_pool1d.default",
    "max_pool2d.default",
    "max_pool3d.default",
    "mish.default",
    "group_norm.default",
    "pixel_shuffle.default",
    "pixel_unshuffle.default",
    "prelu.default",
    "rms_norm.default",
    "scaled_dot_product_attention.default",
    "_scaled_dot_product_flash_attention_for_cpu.default",
    "silu.default",
    "softmax.int",
    "softplus.default",
    "square.default",
    "tril.default",
    "triu.default",
    "upsample_bicubic2d.vec",
    "upsample_bilinear2d.vec",
    "upsample_linear1d.vec",
    "upsample_nearest1d.vec",
    "upsample_nearest2d.vec",
    "upsample_nearest3d.vec",
    "upsample_trilinear3d.vec",
)


def kept() -> list[Any]:
    """The overloads of KEEP that this torch has."""
    import torch

    found: list[Any] = []
    for text in KEEP:
        name, overload = text.split(".")
        packet = getattr(torch.ops.aten, name, None)
        if packet is not None and overload in packet.overloads():
            found.append(getattr(packet, overload))
    return found


def export_table() -> Any:
    """The table for ``ExportedProgram.run_decompositions``: core ATen, without what is kept whole."""
    from torch.export import default_decompositions

    from .linear_loss import decompositions

    table = default_decompositions()
    for overload in kept():
        table.pop(overload, None)
    table.update(decompositions())
    return table


# Backward formulas and others outside core ATen that training graphs hold and torch can write out.
_TRAINING = (
    "binary_cross_entropy",
    "elu_backward",
    "embedding_dense_backward",
    "gelu_backward",
    "glu_backward",
    "hardsigmoid_backward",
    "hardswish_backward",
    "hardtanh_backward",
    "huber_loss_backward",
    "leaky_relu_backward",
    "log_sigmoid_backward",
    "logit_backward",
    "mish_backward",
    "mse_loss",
    "mse_loss_backward",
    "native_batch_norm_backward",
    "native_dropout",
    "native_dropout_backward",
    "native_group_norm_backward",
    "native_layer_norm_backward",
    "nll_loss_backward",
    "nll_loss_forward",
    "nll_loss2d_backward",
    "nll_loss2d_forward",
    "select_backward",
    "sigmoid_backward",
    "silu_backward",
    "slice_backward",
    "smooth_l1_loss_backward",
    "softplus_backward",
    "tanh_backward",
    "threshold_backward",
    "_softmax_backward_data",
    "_log_softmax_backward_data",
    "_prelu_kernel_backward",
    "batch_norm_backward",
)


def compile_table() -> dict[Any, Any]:
    """The table for AOTAutograd: core ATen and the backward formulas, without what is kept whole."""
    import torch
    from torch._decomp import core_aten_decompositions, get_decompositions

    from .linear_loss import decompositions

    packets = [getattr(torch.ops.aten, name) for name in _TRAINING if hasattr(torch.ops.aten, name)]
    table = {**core_aten_decompositions(), **get_decompositions(packets)}
    for overload in kept():
        table.pop(overload, None)
    return {**table, **decompositions(), torch.ops.aten._transformer_encoder_layer_fwd.default: encoder_layer}


def encoder_layer(
    src: Tensor, width: int, heads: int, qkv: Tensor, qkv_bias: Tensor, proj: Tensor, proj_bias: Tensor,
    gelu: bool, norm_first: bool, eps: float, norm1: Tensor, norm1_bias: Tensor, norm2: Tensor, norm2_bias: Tensor,
    up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor,
    mask: Tensor | None = None, mask_type: int | None = None,
) -> Tensor:  # fmt: skip
    """What nn.TransformerEncoderLayer's inference kernel computes, for src [batch, tokens, width].

    ``mask`` is true where a key is left out: [tokens, tokens] (type 0), [batch, tokens] (1), or for each head (2).
    """
    from torch.nn import functional as F

    allowed = None if mask is None else ~mask.bool()
    if allowed is not None and mask_type == 1:
        allowed = allowed[:, None, None, :]

    def attend(x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        parts = F.linear(x, qkv, qkv_bias).reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        made = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=allowed)
        return F.linear(made.transpose(1, 2).reshape(batch, tokens, width), proj, proj_bias)

    def forward(x: Tensor) -> Tensor:
        hidden = F.linear(x, up, up_bias)
        return F.linear(F.gelu(hidden) if gelu else F.relu(hidden), down, down_bias)

    if norm_first:
        src = src + attend(F.layer_norm(src, (width,), norm1, norm1_bias, eps))
        return src + forward(F.layer_norm(src, (width,), norm2, norm2_bias, eps))
    src = F.layer_norm(src + attend(src), (width,), norm1, norm1_bias, eps)
    return F.layer_norm(src + forward(src), (width,), norm2, norm2_bias, eps)


# Core ATen overloads that need neither a handler nor a decomposition, each with the reason.
NEVER_SEEN: dict[str, str] = {
    "aten::atan2.out": "functionalisation turns out= forms into functional ones before a graph is seen",
    "aten::resize_.default": "functionalisation turns it into as_strided before a graph is seen",
}
