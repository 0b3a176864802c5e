"""What a program asserts about its data while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..errors import MaiaError, TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .sampling import Sample, Sampler


@op("ok:bool ->", effect=True)
def check(ok: Any, *, message: str) -> None:
    """Stop the run with MAIA0511 and the message unless every element of ok is true."""
    if not ok.all():
        raise MaiaError("MAIA0511", message)


@check.infer
def _(ok: TensorType, *, message: str) -> list[Type]:
    return []


@check.shard
def _(results: list[Type], ok: TensorType, *, message: str) -> list[Type]:
    if ok.owed:
        raise TypeFault("check: ok still owes a sum", "MAIA0108")
    return []  # every rank checks the part that it holds


@check.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (torch.ones(2, 3, dtype=torch.bool),), {"message": "never"}
