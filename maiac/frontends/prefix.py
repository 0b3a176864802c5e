"""Associative scans over a length that only the run tells.

torch halves the length again and again while it traces, so that a dynamic length would be decided by. Where it is
dynamic, each position here takes in the result 1, 2, 4, ... positions back instead (Hillis and Steele 1986), which is
a loop.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch._higher_order_ops import while_loop
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx

_torch_scan: Any = importlib.import_module("torch._higher_order_ops.associative_scan")  # a function has its name too
_torch_modes: Any = importlib.import_module("torch.overrides")
_halving = _torch_scan.generic_associative_scan


def generic_scan(
    operator: Callable[..., Any], leaves: Sequence[torch.Tensor], dim: int = 0, additional_inputs: Sequence[Any] = ()
) -> Any:
    """torch's ``generic_associative_scan``, as a loop where the length is symbolic.

    operator: (earlier..., later..., additional...) -> combined..., over slices stacked along dim 0.
    """
    length: Any = leaves[0].shape[0]
    if isinstance(length, int) or dim:
        return _halving(operator, leaves, dim, additional_inputs)

    combine = _without_vmap(operator, [*leaves, *leaves, *additional_inputs])

    def more(back: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return back < length

    def step(back: torch.Tensor, *later: torch.Tensor) -> tuple[torch.Tensor, ...]:
        places = torch.arange(length) - back
        earlier = [x.index_select(0, places.clamp(min=0)) for x in later]
        made = combine(*earlier, *later, *additional_inputs)
        made = made if isinstance(made, (tuple, list)) else [made]
        inside = [(places >= 0).reshape(-1, *[1] * (x.ndim - 1)) for x in later]
        return back * 2, *(torch.where(i, m, x) for i, m, x in zip(inside, made, later, strict=True))

    start = torch.ones((), dtype=torch.int64)
    return list(while_loop(more, step, (start, *(x.clone() for x in leaves)))[1:])


def _without_vmap(operator: Callable[..., Any], examples: Sequence[Any]) -> Callable[..., Any]:
    """An operator as plain operations: a loop's body cannot hold a vmap."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(disable_proxy_modes_tracing())
        for _ in range(_torch_modes._len_torch_function_stack()):
            stack.enter_context(_torch_modes._pop_mode_temporarily())
        distinct = [x.clone() if isinstance(x, torch.Tensor) else x for x in examples]
        return make_fx(operator)(*distinct)


@contextlib.contextmanager
def dynamic_lengths() -> Generator[None]:
    """Let ``associative_scan`` be traced with a length that stays dynamic."""
    _torch_scan.generic_associative_scan = generic_scan
    try:
        yield
    finally:
        _torch_scan.generic_associative_scan = _halving
