"""Single matrix products and convolutions against what the machine can do.

    python -m benchmarks.kernels
    python -m benchmarks.kernels --only conv --seconds 2 --json kernels.json

Each is a module of one operation with float32 weights, compiled as any model is. The time is that of a call of the
executor, the best and the median of many; GFLOP/s count the operations of the definition, so that a convolution that
needs fewer (Winograd) may exceed the peak. Beside it stands torch's own kernel on the same inputs, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import maiac
from maiac.ir.dims import evaluate
from maiac.peaks import machine_peaks, processor
from maiac.report import cost_of
from maiac.timing import in_turns

Made = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]
WARMUPS = 5
TURNS = 10


class Matmul(torch.nn.Module):
    """The product of two inputs: neither is known before the run."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x: [M, K], y: [K, N]."""
        return x @ y


class Attention(torch.nn.Module):
    """Scaled dot-product attention, causal."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Each of [1, heads, tokens, width]."""
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def linear(m: int, k: int, n: int) -> Made:
    """[M, K] times a weight of [K, N]."""
    return torch.nn.Linear(k, n, bias=False), (torch.randn(m, k),)


def conv(channels: int, filters: int, size: int, kernel: int, stride: int = 1, groups: int = 1) -> Made:
    """A convolution over an image of size², padded to keep it."""
    layer = torch.nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
    return layer, (torch.randn(1, channels, size, size),)


CASES: dict[str, Callable[[], Made]] = {
    "linear 128x768x2048": lambda: linear(128, 768, 2048),
    "linear 128x2048x768": lambda: linear(128, 2048, 768),
    "linear 128x768x768": lambda: linear(128, 768, 768),
    "linear 128x768x32000": lambda: linear(128, 768, 32_000),
    "linear 1024x1024x1024": lambda: linear(1024, 1024, 1024),
    "linear 1x768x2048": lambda: linear(1, 768, 2048),
    "linear 1x768x32000": lambda: linear(1, 768, 32_000),
    "matmul 1024x1024x1024": lambda: (Matmul(), (torch.randn(1024, 1024), torch.randn(1024, 1024))),
    "conv 3x3 256x256x56x56": lambda: conv(256, 256, 56, 3),
    "conv 3x3 64x64x56x56": lambda: conv(64, 64, 56, 3),
    "conv 3x3 512x512x7x7": lambda: conv(512, 512, 7, 3),
    "conv 3x3/2 128x128x56x56": lambda: conv(128, 128, 56, 3, stride=2),
    "conv 1x1 256x64x56x56": lambda: conv(256, 64, 56, 1),
    "conv 1x1 1024x256x14x14": lambda: conv(1024, 256, 14, 1),
    "conv 7x7/2 3x64x224x224": lambda: conv(3, 64, 224, 7, stride=2),
    "conv 3x3 depthwise 96x112x112": lambda: conv(96, 96, 112, 3, groups=96),
    "attention 12x128x64": lambda: (Attention(), tuple(torch.randn(3, 1, 12, 128, 64).unbind())),
    "attention 12x1024x64": lambda: (Attention(), tuple(torch.randn(3, 1, 12, 1024, 64).unbind())),
}


def warm_times(runs: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Seconds of each call of each function, after some that do not count; they take turns."""
    for run in runs:
        for _ in range(WARMUPS):
            run()
    return in_turns(runs, seconds, TURNS)


def of_case(name: str, seconds: float) -> dict[str, Any]:
    """Figures of one kernel, and its largest difference from torch's relative to the largest value."""
    torch.manual_seed(0)
    model, args = CASES[name]()
    artifact = maiac.compile(model.eval(), args)
    inputs = list(args)
    with torch.no_grad():
        ours, theirs = warm_times([lambda: artifact.run(inputs), lambda: model(*args)], seconds)
        wanted = model(*args)
    peaks = machine_peaks()
    flops = evaluate(cost_of(artifact.module).flops, {})
    weights = list(model.parameters())
    traffic = sum(t.numel() * t.element_size() for t in (*args, *weights, wanted))
    return {
        "median": statistics.median(ours),
        "best": min(ours),
        "torch": statistics.median(theirs),
        "flops": flops,
        "bytes": traffic,
        "of_flops": flops / min(ours) / peaks.flops,
        "of_bound": peaks.bound(flops, traffic) / min(ours),
        "difference": float((artifact.run(inputs)[0] - wanted).abs().max() / wanted.abs().max()),
    }


def main() -> None:
    """One line for each kernel."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", default="", help="names that contain this text")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each kernel runs, torch's included")
    parser.add_argument("--json", default="", metavar="FILE", help="write all figures, too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    peaks = machine_peaks()
    torch.set_num_threads(peaks.threads)
    print(f"{processor()}, {peaks.threads} threads: {peaks.flops / 1e9:.0f} GFLOP/s, {peaks.read / 1e9:.1f} GB/s\n")
    print("| kernel | best | median | GFLOP/s | of FLOPs peak | of roofline | torch, median |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows: dict[str, Any] = {}
    for name in (n for n in CASES if options.only in n):
        row = rows[name] = of_case(name, options.seconds)
        best, median, torchs = (f"{1e3 * row[k]:.3f} ms" for k in ("best", "median", "torch"))
        rate, of_flops, of_bound = row["flops"] / row["best"] / 1e9, row["of_flops"], row["of_bound"]
        print(
            f"| {name} | {best} | {median} | {rate:.1f} | {100 * of_flops:.0f}% | {100 * of_bound:.0f}% | {torchs} |",
            flush=True,
        )
        if row["difference"] > 1e-4:
            print(f"\n{name} differs from torch by {row['difference']:.1e} of the largest value\n")
    if options.json:
        Path(options.json).write_text(json.dumps({"peaks": vars(peaks), "kernels": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
