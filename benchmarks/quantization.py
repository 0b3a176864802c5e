"""How exact weight quantization is at the logits of 12-layer Llamas with random weights, and how exact it can be.

    python benchmarks/quantization.py

For each size: SQNR in dB of the compiled model against eager, beside the same rounding done in eager on the module's
own parameters (per output channel, absmax, nothing else). Where both agree, what is lost is lost to the format and the
model's depth, not to the compiler.
"""

from __future__ import annotations

import copy
import math
import warnings

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import maiac

SIZES = [(128, 256, 512, 16), (256, 512, 512, 16), (512, 1376, 1000, 32), (768, 2048, 32000, 128)]
SEEDS = range(3)


def model_of(hidden: int, intermediate: int, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A Llama of 12 layers with the initial weights of training."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
        use_cache=False,
    )
    return LlamaForCausalLM(config).eval()


def rounded(weight: torch.Tensor, scheme: str) -> torch.Tensor:
    """A weight through the format and back, one scale for each output channel."""
    largest = 448.0 if scheme == "fp8" else 127.0
    scale = weight.abs().amax(1, keepdim=True) / largest
    codes = weight / scale
    return (codes.to(torch.float8_e4m3fn).float() if scheme == "fp8" else codes.round()) * scale


def in_eager(model: LlamaForCausalLM, scheme: str) -> LlamaForCausalLM:
    """A copy whose projections are rounded."""
    twin = copy.deepcopy(model)
    for layer in twin.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.copy_(rounded(layer.weight, scheme))
    return twin


def sqnr(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Signal to quantization noise in dB."""
    return 10 * math.log10(float(wanted.square().sum() / (found - wanted).square().sum()))


@torch.no_grad()
def main() -> None:
    """One line for each size and seed."""
    warnings.simplefilter("ignore")
    print("hidden tokens seed      fp8  eager     int8  eager   dB at the logits")
    for hidden, intermediate, vocabulary, tokens in SIZES:
        for seed in SEEDS:
            model = model_of(hidden, intermediate, vocabulary, seed)
            ids = torch.randint(0, vocabulary, (1, tokens))
            wanted = model(ids).logits
            row: list[float] = []
            for scheme in ("fp8", "int8"):
                row.append(sqnr(maiac.compile(model, (ids,), quantize=scheme)(ids).logits, wanted))
                row.append(sqnr(in_eager(model, scheme)(ids).logits, wanted))
            fp8, int8 = (f"{row[i]:6.1f} {row[i + 1]:6.1f}" for i in (0, 2))
            print(f"{hidden:6} {tokens:6} {seed:4}   {fp8}   {int8}", flush=True)


if __name__ == "__main__":
    main()
