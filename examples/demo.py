"""Compile an ONNX model and a PyTorch model, run both in a fresh process, and compare with what they came from.

    python examples/demo.py

Nothing is downloaded: the ONNX file lies in the ``onnx`` package, and both models get random weights. Exits with 1 if a
result differs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import maiac

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}  # float32


def main() -> int:
    """Both models; the exit code."""
    quiet()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="maiac-demo-") as name:
        folder = Path(name)
        good = [resnet(folder), llama(folder)]
    verdict = "all results match" if all(good) else "RESULTS DIFFER"
    print(f"\n{verdict} ({time.perf_counter() - started:.0f} s)")
    return 0 if all(good) else 1


def resnet(folder: Path) -> bool:
    """ResNet-50 from its ONNX file, against ONNX Runtime."""
    import onnxruntime

    title("ResNet-50 from ONNX")
    source = resnet_file(folder)
    artifact = timed("compile", lambda: maiac.compile(source))
    pixels = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    found = run_elsewhere(artifact, folder / "resnet50.maia", pixels)
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(source)
    return compared("ONNX Runtime", found, session.run(None, {session.get_inputs()[0].name: pixels})[0])


def resnet_file(folder: Path) -> Path:
    """The ResNet-50 of the onnx package, which keeps its size down by constant weights, with random ones instead."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx")
    graph = model.graph
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    rng = np.random.default_rng(1)
    for node in [n for n in graph.node if n.op_type == "ConstantOfShape" and shapes[n.input[0]].size > 1]:
        shape = shapes[node.input[0]]
        spread = np.sqrt(2 / np.prod(shape[1:]))  # He et al. 2015: activations keep their size through ReLU layers
        weight = rng.standard_normal(shape, dtype=np.float32) * np.float32(spread)
        graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
        graph.node.remove(node)
    model.ir_version = max(model.ir_version, 4)  # the first one whose initializers need not be inputs as well
    path = folder / "resnet50.onnx"
    onnx.save(model, path)
    return path


def llama(folder: Path) -> bool:
    """A Llama with random weights and a dynamic number of tokens, against eager PyTorch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    title("Llama from PyTorch: 4 layers, any number of tokens up to 128")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=1000,
        use_cache=False,
    )
    model = LlamaForCausalLM(config).eval()
    tokens = {"input_ids": {1: torch.export.Dim("tokens", min=2, max=128)}}
    example = torch.randint(0, 1000, (1, 16))
    artifact = timed("compile", lambda: maiac.compile(model, (example,), dynamic_shapes=tokens))
    longer = torch.randint(0, 1000, (1, 40))
    found = run_elsewhere(artifact, folder / "llama.maia", longer.numpy())
    with torch.no_grad():
        return compared("eager PyTorch", found, model(longer).logits.numpy())


def run_elsewhere(artifact: Any, path: Path, inputs: np.ndarray) -> np.ndarray:
    """Save the artifact; let another process load and run it; give the first output."""
    timed("save", lambda: artifact.save(path), lambda _: f"{path.stat().st_size / 1e6:.1f} MB")
    np.save(path.with_suffix(".in.npy"), inputs)
    done = subprocess.run([sys.executable, __file__, str(path)], check=True, capture_output=True, text=True)
    print(done.stdout, end="")
    return np.load(path.with_suffix(".out.npy"))


def fresh_process(path: Path) -> None:
    """What the other process does: it knows nothing but the file."""
    quiet()
    artifact = timed("load", lambda: maiac.load(path), str, where="in a fresh process")
    inputs = np.load(path.with_suffix(".in.npy"))
    if path.stem == "llama":
        import torch

        inputs = torch.from_numpy(inputs)
    result = timed("run", lambda: artifact(inputs), where="in a fresh process")
    first = result[0]  # a list for ONNX, the model's own output class for PyTorch
    np.save(path.with_suffix(".out.npy"), np.asarray(first))


def compared(name: str, found: np.ndarray, wanted: np.ndarray) -> bool:
    """Say how far the result is from the source's own."""
    good = found.shape == wanted.shape and bool(np.allclose(found, wanted, **TOLERANCE))
    worst = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
    verdict = "ok" if good else "DIFFERS"
    print(f"  {'compare':8} {verdict:>7}   largest difference to {name}: {worst:.1e}, shape {wanted.shape}")
    return good


def timed(what: str, work: Callable[[], Any], tell: Callable[[Any], str] = lambda _: "", where: str = "") -> Any:
    """Do the work and print how long it took."""
    started = time.perf_counter()
    made = work()
    notes = ", ".join(n for n in (where, tell(made)) if n)
    print(f"  {what:8} {time.perf_counter() - started:5.2f} s   {notes}".rstrip(), flush=True)
    return made


def title(text: str) -> None:
    """A heading."""
    print(f"\n{text}", flush=True)


def quiet() -> None:
    """Keep the warnings of libraries out of the summary, and a torchvision that may not fit this torch out of reach."""
    warnings.simplefilter("ignore")
    sys.modules["torchvision"] = None  # type: ignore[assignment]  # transformers would import it where it is installed


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fresh_process(Path(sys.argv[1]))
    else:
        raise SystemExit(main())
