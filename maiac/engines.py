"""The engines that ``maiac bench`` times, each as it is asked to be run by its own documents: the inside of a worker.

A worker (``python -m maiac.engines``) reads a question, makes its engine ready, answers, and then times a turn for
each line that comes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bench_source import Question, Setup, chosen_inputs, original, prepare, reason
from .ir.errors import MaiaError
from .timing import Run, timed, turn

if TYPE_CHECKING:
    from .artifact import Artifact

WARMUPS = 3


def main() -> None:
    """Answer questions until there are none."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not stand between the answers
    first: dict[str, Any] = json.loads(sys.stdin.readline())
    question = Question(first["engine"], Setup(**first["setup"]), first["shared"])
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

    torch.set_num_threads(question.setup.threads)
    runs: list[Run] = []
    ready = timed(lambda: runs.append(ENGINES[question.engine].open(question)))
    (run,) = runs
    made: list[Any] = []
    first = timed(lambda: made.append(run()))
    if question.setup.outputs:
        torch.save(tensors_of(made), Path(question.setup.outputs) / f"{question.engine}.pt")
    for _ in range(WARMUPS):
        run()
    return run, {"ready": ready, "first": first, "versions": versions(question.engine)}


def versions(engine: str) -> str:
    """``onnxruntime 1.23.0``"""
    from . import __version__

    found = ENGINES[engine]
    if engine == "maiac":
        return f"maiac {__version__}"
    try:
        return f"{found.prefix}{found.package} {version(found.package)}"
    except PackageNotFoundError:  # built by hand
        return f"{found.prefix}{found.package}"


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

    torch.set_num_threads(question.setup.threads)
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

    artifact = load(question.setup.artifact, trust=question.setup.trust)
    return artifact, _inputs(question)[1] if "inputs" in question.shared else chosen_inputs(question.setup, artifact)


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
    options.intra_op_num_threads = question.setup.threads
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
        "INFERENCE_NUM_THREADS": question.setup.threads,
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

    path = question.setup.source
    if question.shared["is_onnx"]:
        raise MaiaError("MAIA0711", f"PyTorch cannot run {path} ({kind_of(path)})")
    form, inputs = _inputs(question)
    model = original(path, random_weights=question.shared["random_weights"]).model
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


@dataclass(frozen=True)
class Engine:
    """An engine: its title in tables, what makes it ready to run, and the package that its version is that of.

    prefix: what stands before the package's name. takes_onnx: whether it runs the source's ONNX file.
    """

    title: str
    open: Callable[[Question], Run]
    package: str
    prefix: str = ""
    takes_onnx: bool = False


ENGINES = {
    "maiac": Engine("maiac", _ours, "maiac"),
    "ort": Engine("ONNX Runtime", _ort, "onnxruntime", takes_onnx=True),
    "openvino": Engine("OpenVINO", _openvino, "openvino", takes_onnx=True),
    "inductor": Engine("Inductor (freezing)", _inductor, "torch", prefix="inductor of "),
    "eager": Engine("eager PyTorch", _eager, "torch", prefix="eager "),
}
PEERS = [name for name in ENGINES if name != "maiac"]

_ONCE: dict[str, Callable[[Question], dict[str, Any]]] = {"prepare": prepare, "profile": profile}


if __name__ == "__main__":
    main()
