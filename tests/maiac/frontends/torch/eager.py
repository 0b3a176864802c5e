"""A captured function gives what eager gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from maiac.frontends.exported import capture
from maiac.ir.verifier import verify
from maiac.runtime.executor import Executor


def check(function: Callable[..., Any], *inputs: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Compare every tensor of the results; what is captured must hold before the verifier, too."""
    module = capture(function, inputs)
    verify(module)
    got = Executor(module).run([x for x in inputs if isinstance(x, torch.Tensor)])
    for a, b in zip(got, pytree.tree_leaves(function(*inputs)), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, check_stride=False, equal_nan=True)
