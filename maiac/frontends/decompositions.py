"""Which ATen operations reach the IR whole, and which torch decomposes first."""

from __future__ import annotations

from typing import Any

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

    table = default_decompositions()
    for overload in kept():
        table.pop(overload, None)
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

    packets = [getattr(torch.ops.aten, name) for name in _TRAINING if hasattr(torch.ops.aten, name)]
    table = {**core_aten_decompositions(), **get_decompositions(packets)}
    for overload in kept():
        table.pop(overload, None)
    return table


# Core ATen overloads that need neither a handler nor a decomposition, each with the reason.
NEVER_SEEN: dict[str, str] = {
    "aten::atan2.out": "functionalisation turns out= forms into functional ones before a graph is seen",
}
