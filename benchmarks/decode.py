"""Tokens a second of a Llama's decode step, against what reading its bytes from memory takes.

    python -m benchmarks.decode
    python -m benchmarks.decode --quantize ,int8,fp8 --seconds 5

One token against a cache of 512, for 110 million float32 parameters (``benchmarks.models.llama_decode``) and for the
same with quantized weights, in turns. A step has to read every weight but the embedding table, and the cache; the
fraction is that of the measured read bandwidth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from pathlib import Path
from typing import Any

import torch

import maiac
from benchmarks.kernels import warm_times
from benchmarks.models import llama_decode
from maiac.ir.graph import Weight
from maiac.ir.opdef import bytes_of
from maiac.peaks import machine_peaks, processor


def bytes_read(artifact: Any) -> int:
    """What a step reads at least: all weights and states that it takes whole."""
    program = artifact.executor.program
    gathered = {v for step in program.steps if step.op.name == "embedding" for v in step.operands[:1]}
    used = {v for step in program.steps if step.op.name != "embedding" for v in step.operands if isinstance(v, Weight)}
    return sum(bytes_of(w.type, {}) for w in used - gathered)


def main() -> None:
    """One line for each scheme."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quantize", default=",int8", help="schemes; the empty one is float32")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long all of them run together")
    parser.add_argument("--json", default="", metavar="FILE", help="write all figures, too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    peaks = machine_peaks()
    torch.set_num_threads(peaks.threads)
    schemes = options.quantize.split(",")
    artifacts: list[Any] = []
    inputs: list[torch.Tensor] = []
    for scheme in schemes:
        model, args, _ = llama_decode()
        artifacts.append(maiac.compile(model, args, quantize=scheme or None))
        inputs = list(args)
    times = warm_times([lambda a=a: a.run(inputs) for a in artifacts], options.seconds)
    print(f"{processor()}, {peaks.threads} threads, {peaks.read / 1e9:.1f} GB/s read at most\n")
    print("| weights | tokens/s | ms a token | MB a token | GB/s | of read bandwidth | to the first |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows: dict[str, Any] = {}
    first = statistics.median(times[0])
    for scheme, artifact, found in zip(schemes, artifacts, times, strict=True):
        median, size = statistics.median(found), bytes_read(artifact)
        rate = size / median
        rows[scheme or "f32"] = {
            "median": median, "best": min(found), "bytes": size, "rate": rate, "of_read": rate / peaks.read
        }  # fmt: skip
        print(
            f"| {scheme or 'f32'} | {1 / median:.1f} | {1e3 * median:.2f} | {size / 1e6:.0f} | {rate / 1e9:.1f}"
            f" | {100 * rate / peaks.read:.0f}% | {first / median:.2f} |"
        )
    if options.json:
        Path(options.json).write_text(json.dumps({"peaks": vars(peaks), "decode": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
