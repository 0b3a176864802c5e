"""How a model of a zoo is checked: compiled from torch.export or from its ONNX file, it gives what eager gives.

Dims are dynamic where the exporter can make them so, else the sizes of the example hold. What the exporter cannot
express, tried alone, is refused.
"""

from __future__ import annotations

import copy
import inspect
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"

import numpy as np
import torch
from torch.utils import _pytree as pytree

from tests._torchvision_shim import declare_operators
from tests.models.zoo import Case as Model

from .closeness import double, errors, is_as_near
from .suite import RefusedError

RTOL, ATOL = 1e-4, 1e-5  # float32

declare_operators()

Call = tuple[tuple[Any, ...], dict[str, Any]]


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model with a little noise on all weights and statistics: a bias of zeros would hide that it is forgotten."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point():
                p.add_(torch.randn(p.shape, generator=generator), alpha=0.02)
        for name, b in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                b.add_(torch.rand(b.shape, generator=generator), alpha=0.2)
    return model


def check_export(case: Model) -> None:
    """``maiac.compile`` of the module, saved and loaded."""
    import maiac
    from maiac.ir import MaiaError

    eager(case.model, calls(case)[0])  # what cannot run is no case at all
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            artifact = maiac.compile(case.model, case.args, case.kwargs, dynamic_shapes=case.dynamic_shapes)
    except MaiaError:
        reason = why_not(lambda: export(case))
        if not reason:
            raise
        if not case.dynamic_shapes:
            raise RefusedError(f"torch.export: {reason}") from None
        check_export(fixed(case))
        return
    if any("sizes of 1 are left out" in str(w.message) for w in warned):  # torch.export leaves them out by itself
        case = replace(case, lengths=tuple(n for n in case.lengths if case.vary and not _has_one(case.vary(n))))
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(Path(folder) / "model.maia")
        loaded = maiac.load(Path(folder) / "model.maia")
        compare(case, lambda call: loaded(*call[0], **call[1]))


def _has_one(call: Call) -> bool:
    return any(v.shape and v.shape[0] == 1 for v in inputs_of(call))


def export(case: Model) -> None:
    """torch.export alone."""
    with torch.no_grad():
        torch.export.export(case.model, case.args, case.kwargs, dynamic_shapes=case.dynamic_shapes, strict=False)


def check_onnx(case: Model, dynamo: bool = True) -> None:
    """``maiac.compile`` of the file that torch.onnx.export writes; not ``dynamo``: the one through TorchScript."""
    import maiac
    from maiac.ir import MaiaError

    eager(case.model, calls(case)[0])
    case = case if dynamo else in_order(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        reason = why_not(lambda: to_onnx(case, path, dynamo))
        if reason and case.dynamic_shapes:
            case = fixed(case)
            reason = why_not(lambda: to_onnx(case, path, dynamo))
        if reason:
            raise RefusedError(f"torch.onnx.export: {reason}")
        case = replace(case, lengths=tuple(n for n in case.lengths if case.vary and takes(path, case.vary(n))))
        try:
            artifact = maiac.compile(path)
        except MaiaError:
            if reason := invalid_file(path):
                raise RefusedError(f"torch.onnx.export: ONNX Runtime, too, refuses its file: {reason}") from None
            raise

        def run(call: Call) -> Any:
            return artifact(*inputs_of(call))

        try:
            compare(case, run)
        except AssertionError:
            if wrong_file(case, path, run):
                raise RefusedError("torch.onnx.export: its file is not eager's under ONNX Runtime, too") from None
            raise


def to_onnx(case: Model, path: Path, dynamo: bool = True) -> None:
    """Write a model's ONNX file."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad():
        torch.onnx.export(
            case.model, case.args, str(path), kwargs=case.kwargs, dynamo=dynamo, verbose=False,
            dynamic_shapes=case.dynamic_shapes,
        )  # fmt: skip


def in_order(case: Model) -> Model:
    """The case with keywords in the order of the model's parameters, in which TorchScript puts a file's inputs."""
    names = inspect.signature(case.model.forward).parameters

    def ordered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return args, {k: kwargs[k] for k in (*names, *kwargs) if k in kwargs}

    vary = case.vary
    _, kwargs = ordered(case.args, case.kwargs)
    return replace(case, kwargs=kwargs, vary=vary and (lambda n: ordered(*vary(n))))


def takes(path: Path, call: Call) -> bool:
    """Whether a file says that it takes these sizes: the exporter fixes some dims that it was asked to leave open."""
    import onnx

    given = zip(onnx.load(str(path), load_external_data=False).graph.input, inputs_of(call), strict=True)
    pairs = [(d, size) for i, v in given for d, size in zip(i.type.tensor_type.shape.dim, v.shape, strict=True)]
    return all(d.dim_value == size for d, size in pairs if d.HasField("dim_value"))


def invalid_file(path: Path) -> str:
    """Why ONNX Runtime takes the file for no model; empty where it does not, or only lacks a kernel for it."""
    import onnxruntime

    reason = why_not(lambda: onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
    return "" if reason.startswith("NotImplemented") else reason


def wrong_file(case: Model, path: Path, run: Callable[[Call], Any]) -> bool:
    """Whether ONNX Runtime, too, gives for the file what differs from eager."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def other(call: Call) -> list[torch.Tensor]:
        values = (v.numpy() for v in inputs_of(call))
        feeds = dict(zip((i.name for i in session.get_inputs()), values, strict=True))
        return [torch.from_numpy(np.asarray(v)) for v in session.run(None, feeds)]

    return all(not differences(run(c), other(c), None, equal_nan=True) for c in calls(case))


def why_not(export: Callable[[], object]) -> str:
    """The reason why an export fails, empty where it does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            export()
        except Exception as error:
            root = _root(error)
            lines = [line.strip() for line in str(root).splitlines() if line.strip()]
            return f"{type(root).__name__}: {(lines or [''])[0]}"
    return ""


def _root(error: BaseException) -> BaseException:
    """What torch.onnx wraps in errors of its own."""
    cause = error.__cause__ if "torch.onnx" in type(error).__module__ else None
    return error if cause is None else _root(cause)


def fixed(case: Model) -> Model:
    """The case at the sizes of its example."""
    return replace(case, dynamic_shapes=None, vary=None, lengths=())


def calls(case: Model) -> list[Call]:
    """The example inputs, then others."""
    others = [case.vary(n) for n in case.lengths] if case.vary else []
    return [(case.args, case.kwargs), *others]


def inputs_of(call: Call) -> list[torch.Tensor]:
    """The tensors that an ONNX file of a model takes."""
    return [v for v in pytree.tree_leaves(call) if isinstance(v, torch.Tensor)]


def tensors(outputs: Any) -> list[torch.Tensor]:
    """All tensors of a model's output, in order."""
    if hasattr(outputs, "to_tuple"):
        outputs = outputs.to_tuple()
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        return [t for v in outputs for t in tensors(v)]
    return [outputs] if isinstance(outputs, torch.Tensor) else []


def eager(model: torch.nn.Module, call: Call) -> Any:
    """What the model gives."""
    args, kwargs = copy.deepcopy(call)
    with torch.no_grad():
        return model(*args, **kwargs)


def compare(case: Model, run: Callable[[Call], Any]) -> None:
    """AssertionError where what ``run`` gives for a call is not what eager gives."""
    for call in calls(case):
        want = eager(case.model, call)
        wrong = differences(run(call), want, None)
        if wrong:
            wrong = differences(run(call), want, exact(case.model, call))
        assert not wrong, "; ".join(wrong)


def exact(model: torch.nn.Module, call: Call) -> Any:
    """What eager gives in float64."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        return eager(copy.deepcopy(model).double(), double(call))
    finally:
        torch.set_default_dtype(before)


def differences(got: Any, want: Any, truth: Any, equal_nan: bool = False) -> list[str]:
    """What is wrong with outputs. With ``truth``, in float64, ours may be off by ``FACTOR`` times what eager is."""
    ours, theirs = tensors(got), tensors(want)
    if len(ours) != len(theirs):
        return [f"{len(ours)} outputs, eager gives {len(theirs)}"]
    truths: Sequence[Any] = tensors(truth) if truth is not None else [None] * len(ours)
    found = (difference(*each, equal_nan) for each in zip(ours, theirs, truths, strict=True))
    return [f"output {i}: {text}" for i, text in enumerate(found) if text]


def difference(got: torch.Tensor, want: torch.Tensor, truth: torch.Tensor | None, equal_nan: bool = False) -> str:
    """What is wrong with one output; empty if nothing."""
    try:
        torch.testing.assert_close(got, want, rtol=RTOL, atol=ATOL, equal_nan=equal_nan)
    except AssertionError as error:
        found = None if truth is None else errors(got, want, truth)
        if is_as_near(found) or (truth is not None and chosen_alike(got, want, truth)):
            return ""
        return f"off by {found[0]:.2e} from float64, eager by {found[1]:.2e}" if found else " ".join(str(error).split())
    return ""


def chosen_alike(got: torch.Tensor, want: torch.Tensor, truth: torch.Tensor) -> bool:
    """Whether results near a threshold, of which float64 chooses others, differ by what rounds off the largest only."""
    if truth.shape == want.shape or got.shape != want.shape or not got.is_floating_point() or not want.numel():
        return False
    return bool((got - want).abs().max() <= ATOL * want.abs().max())
