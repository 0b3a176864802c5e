"""The engines that ``maiac bench`` times, each as it is asked to be run by its own documents: the inside of a worker.

A worker (``python -m maiac.engines``) reads a question, makes its engine ready, answers, and then times a turn for
each line that comes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bench_source import Question, chosen_inputs, original, prepare, reason
from .ir.errors import MaiaError

if TYPE_CHECKING:
    from .artifact import Artifact

WARMUPS = 3
LEAST_RUNS = 3  # of a turn, however long one takes
_PACKAGES = {
    "ort": ("", "onnxruntime"),
    "openvino": ("", "openvino"),
    "inductor": ("inductor of ", "torch"),
    "eager": ("eager ", "torch"),
}

Run = Callable[[], Any]


def main() -> None:
    """Answer questions until there are none."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not stand between the answers
    first: dict[str, Any] = json.loads(sys.stdin.readline())
    question = Question(first["engine"], **first["setup"], shared=first["shared"])
    try:
        if question.engine in _ONCE:
            _answer(answers, _ONCE[question.engine](question))
            return
        run, facts = _started(question)
    except Exception as e:  # whatever stops an engine is told to the user
        _answer(answers, {"error": reason(e)})
        return
    _answer(answers, facts)
    for line in sys.stdin:
        try:
            _answer(answers, {"times": turn(run, json.loads(line)["seconds"])})
        except Exception as e:
            _answer(answers, {"error": reason(e)})


def _answer(stream: Any, value: Mapping[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def _started(question: Question) -> tuple[Run, dict[str, Any]]:
    """The engine after its first runs, and what there is to say about them."""
    import torch

    torch.set_num_threads(question.threads)
    start = time.perf_counter()
    run = _OPENERS[question.engine](question)
    ready = time.perf_counter()
    made = run()
    first = time.perf_counter()
    if question.outputs:
        torch.save(tensors_of(made), Path(question.outputs) / f"{question.engine}.pt")
    for _ in range(WARMUPS):
        run()
    return run, {"ready": ready - start, "first": first - ready, "versions": versions(question.engine)}


def turn(run: Run, seconds: float) -> list[float]:
    """Seconds of each run of a turn."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def versions(engine: str) -> str:
    """``onnxruntime 1.23.0``"""
    if engine == "maiac":
        from . import __version__

        return f"maiac {__version__}"
    before, package = _PACKAGES[engine]
    try:
        return f"{before}{package} {version(package)}"
    except PackageNotFoundError:  # built by hand
        return f"{before}{package}"


def tensors_of(made: Any) -> list[Any]:
    """The tensors of an engine's outputs, in order, as torch's."""
    import numpy as np
    import torch
    import torch.utils._pytree as pytree

    leaves = [torch.from_numpy(np.array(v)) if isinstance(v, np.ndarray) else v for v in pytree.tree_leaves(made)]
    return [v.detach().clone() for v in leaves if isinstance(v, torch.Tensor)]


def profile(question: Question) -> dict[str, Any]:
    """The artifact's steps; see profile.Profile."""
    import torch

    from .profile import profile as watch

    torch.set_num_threads(question.threads)
    artifact, inputs = _loaded(question)
    shared = question.shared
    return watch(artifact, inputs, shared["seconds"], fresh_peaks=shared["fresh_peaks"]).to_json()


# **** engines ****


def _inputs(question: Question) -> tuple[Any, list[Any]]:
    """The tree of the model's arguments, and its inputs in order."""
    import torch

    held = torch.load(question.shared["inputs"], weights_only=True)
    return held["tree"], held["inputs"]


def _loaded(question: Question) -> tuple[Artifact, list[Any]]:
    """The artifact and its inputs."""
    from .artifact import load

    artifact = load(question.artifact)
    if "inputs" in question.shared:
        return artifact, _inputs(question)[1]
    return artifact, chosen_inputs(question, artifact, original(question.source) if question.source else None)


def _ours(question: Question) -> Run:
    artifact, inputs = _loaded(question)
    return lambda: artifact.run(inputs)


def _arrays(inputs: Sequence[Any]) -> list[Any]:
    """Inputs as ONNX models take them: without those that are no tensors, which the exporter made constants."""
    import torch

    from .tensors import to_numpy

    return [to_numpy(v) for v in inputs if isinstance(v, torch.Tensor)]


def _onnx_file(question: Question) -> str:
    if "onnx" not in question.shared:
        reason = question.shared.get("onnx_error", "")
        raise MaiaError("MAIA0711", f"the source could not be exported to ONNX: {reason}")
    return question.shared["onnx"]


def _ort(question: Question) -> Run:
    import onnxruntime as ort

    file = _onnx_file(question)
    options = ort.SessionOptions()
    options.intra_op_num_threads = question.threads
    options.log_severity_level = 3
    session: Any = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    arrays = _arrays(_inputs(question)[1])
    names = [i.name for i in session.get_inputs()]
    _same_count(names, arrays)
    feeds = dict(zip(names, arrays, strict=True))
    return lambda: session.run(None, feeds)


def _openvino(question: Question) -> Run:
    try:
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MaiaError("MAIA0711", "the package openvino is not installed: pip install 'maiac[bench]'") from None
    ov: Any = openvino
    model = ov.Core().read_model(_onnx_file(question))
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": question.threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = ov.compile_model(model, "CPU", hints).create_infer_request()
    arrays = _arrays(_inputs(question)[1])
    _same_count(request.model_inputs, arrays)
    for i, array in enumerate(arrays):
        request.set_input_tensor(i, ov.Tensor(array))

    def run() -> Any:
        request.infer()
        return [t.data for t in request.output_tensors]

    return run


def _same_count(taken: Sequence[Any], given: Sequence[Any]) -> None:
    if len(taken) != len(given):
        raise MaiaError("MAIA0711", f"the ONNX file takes {len(taken)} inputs, the artifact {len(given)}")


def _torch_call(question: Question) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The source as a callable, with the inputs as its arguments."""
    import torch

    from .runtime import tree
    from .sources import kind_of

    if question.shared.get("is_onnx"):
        raise MaiaError("MAIA0711", f"PyTorch cannot run {question.source} ({kind_of(question.source)})")
    form, inputs = _inputs(question)
    model = original(question.source).model
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    args, kwargs = tree.unflatten(form, inputs)
    return model, args, kwargs


def _eager(question: Question) -> Run:
    import torch

    model, args, kwargs = _torch_call(question)

    def run() -> Any:
        with torch.inference_mode():
            return model(*args, **kwargs)

    return run


def _inductor(question: Question) -> Run:
    import torch
    import torch._inductor.config as config

    config.freezing = True
    model, args, kwargs = _torch_call(question)
    compiled = torch.compile(model, backend="inductor")

    def run() -> Any:
        with torch.no_grad():  # freezing looks for it, and passes over inference mode
            return compiled(*args, **kwargs)

    return run


_ONCE: dict[str, Callable[[Question], dict[str, Any]]] = {"prepare": prepare, "profile": profile}
_OPENERS: dict[str, Callable[[Question], Run]] = {
    "maiac": _ours,
    "ort": _ort,
    "openvino": _openvino,
    "inductor": _inductor,
    "eager": _eager,
}


if __name__ == "__main__":
    main()
