"""Vision models of torchvision, diffusers and ultralytics, through torch.export and through ONNX, against eager.

    python -m tests.conformance vision_zoo --workers 1

Definitions come from the installed packages, with tiny or default configs and random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from tests import _environment

from .suite import Case, RefusedError

if TYPE_CHECKING:
    from tests.models.zoo import Case as Model

_environment.prepare()


def libraries() -> dict[str, ModuleType]:
    """The modules that hold the builders of each library's models."""
    from tests.models import diffusers_models, torchvision_models, ultralytics_models

    return {"torchvision": torchvision_models, "diffusers": diffusers_models, "ultralytics": ultralytics_models}


def cases() -> Iterator[Case]:
    """Every model twice: exported, and as an ONNX file."""
    for library, module in libraries().items():
        for way in ("export", "onnx"):
            for name, build in module.MODELS.items():
                yield Case(f"{library} {way}", name, partial(_check, way, build))


def _check(way: str, build: Callable[[], Model]) -> None:
    from .zoo_check import check_export

    case = made(build)
    if way == "onnx":
        _check_onnx(case)
    else:
        check_export(case)


def _check_onnx(case: Model) -> None:
    """Through torch.onnx.export, or where that refuses (detectors branch by what they find), its older exporter."""
    from .zoo_check import check_onnx

    try:
        check_onnx(case)
    except RefusedError as refused:
        try:
            check_onnx(case, dynamo=False)
        except RefusedError as older:
            raise RefusedError(f"{refused}; through TorchScript: {older}") from None


def made(build: Callable[[], Model]) -> Model:
    """A model in eval mode with what it is called on: the same one every time."""
    import torch

    from tests._torchvision_shim import import_with_operators

    import_with_operators()  # diffusers and ultralytics import torchvision as well
    with torch.random.fork_rng():
        torch.manual_seed(0)
        case = build()
    case.model.eval()
    return case
