"""How to rewrite what is not supported, by family of operators: the first pattern that fits a name counts."""

from __future__ import annotations

import re

# Names are those of errors: ``aten::name.overload``, ``hop::name``, ``namespace::name`` for PyTorch, ``domain.Name``
# for ONNX (``ai.onnx`` for its own domain).
ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"aten::(_local_scalar_dense|item|equal|is_nonzero)\b",
        "keep the value a tensor: torch.where or torch.cond instead of `if`, torch.while_loop instead of `while`",
    ),
    (
        r"aten::(nonzero|masked_select|unique|_unique|bincount|repeat_interleave\.Tensor)",
        "its size depends on data: keep a fixed size with torch.where, a mask or topk",
    ),
    (r"aten::_?histog|aten::histc", "find each value's bin with torch.bucketize, then count with torch.bincount"),
    (r"aten::(_?sparse|.*_sparse|to_dense|coalesce|_coalesce|_to_sparse)", "use dense tensors: call to_dense() first"),
    (r"aten::.*(_cudnn|cudnn_|miopen|mkldnn|_cuda)", "trace the model on the CPU, so that it uses portable operators"),
    (
        r"aten::.*(rand|bernoulli|multinomial|normal_|poisson|dropout)",
        "call model.eval(), or take the random numbers as an input",
    ),
    (r"aten::(_?fft_|stft|istft)", "write it as a product with a constant DFT matrix, or leave it outside the model"),
    (
        r"aten::(_?linalg_|svd|geqrf|ormqr|orgqr|lu_|_lu|cholesky|triangular_solve)",
        "factorise outside the model and pass the factors in",
    ),
    (
        r"(quantized|torchao|quantized_decomposed)::",
        "export the model before it is quantized and give --quantize, or use QDQ in an ONNX file",
    ),
    (r"hop::(triton|flex|auto_functionalized)", "call the operator's plain PyTorch form while exporting"),
    (r"hop::", "write it as torch.cond, torch.while_loop or plain tensor code"),
    (r"python::", "compute with tensors instead of Python numbers, or with integers only"),
    (
        r"(?!aten::)\w[\w.]*::",
        "a custom operator is opaque: call its Python code while exporting, or register a decomposition of it "
        "(program.run_decompositions({op: function}))",
    ),
    (r"(org\.pytorch\.aten|aten)\.", "export with torch.onnx.export(..., dynamo=True), without the ATen fallback"),
    (r"com\.microsoft", "save the model before ONNX Runtime optimises it, or export it again"),
    (r"ai\.onnx\.ml\.", "compute features outside the model"),
    (r"ai\.onnx\.(preview\.)?training\.", "export the forward pass alone"),
    (
        r"(?!ai\.onnx\.)[^:]+ \(opset",
        "put its function body into the file (onnx.helper.make_function), or export the operators that it is made of",
    ),
)


def advice_for(operator: str) -> str:
    """What to write instead of an operator; "" where the error's own page says all."""
    return next((text for pattern, text in ADVICE if re.match(pattern, operator)), "")
