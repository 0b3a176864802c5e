"""The gradient of a stretch of IR: its reference bodies traced under autograd, and the trace imported as a function."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from maiac.ir import Function, Module, Op, Result, Value, get_op
from maiac.ir.ops.values import to_torch

from .context import tensor_type


def operations_between(inputs: Sequence[Value], y: Value) -> tuple[list[Op], list[Value]]:
    """The operations that y is computed by, in order, and what they take that is neither among the inputs nor made."""
    found: dict[Op, None] = {}
    others: dict[Value, None] = {}
    stack = [y]
    while stack:
        value = stack.pop()
        if value in inputs:
            continue
        if not isinstance(value, Result):
            others[value] = None
        elif value.op not in found:
            found[value.op] = None
            stack += [v for v in value.op.operands if v is not None]
    return [op for op in (y.op.block or () if isinstance(y, Result) else ()) if op in found], list(others)


def derived(module: Module, ops: Sequence[Op], inputs: Sequence[Value], y: Value, count: int) -> Function:
    """A function of the inputs, added to the module, that gives the gradients of y's sum by the first ``count``."""
    from torch.fx.experimental.proxy_tensor import make_fx

    from ..decompositions import compile_table
    from ..exported import import_graph_module

    def gradients(*given: torch.Tensor) -> list[torch.Tensor]:
        wanted = [x.detach().requires_grad_() for x in given[:count]]
        made = _run(ops, dict(zip(inputs, [*wanted, *given[count:]], strict=True)))[y]
        if not made.requires_grad:  # y is computed without them
            return [torch.zeros_like(x) for x in wanted]
        return list(torch.autograd.grad(made.sum(), wanted, materialize_grads=True))

    examples = [torch.ones(_sizes(v), dtype=to_torch(tensor_type(v).element)) for v in inputs]
    traced = make_fx(gradients, decomposition_table=compile_table(), tracing_mode="fake")(*examples)
    traced.graph.eliminate_dead_code()
    made = import_graph_module(traced, examples)
    for weight in made.weights.values():
        weight.name = module.free_global(weight.name)
        module.weights[weight.name] = weight
    function = made.main
    function.name = next(n for i in itertools.count() if (n := f"gradient_{i}") not in module.functions)
    return module.add_function(function)


def _sizes(value: Value) -> list[int]:
    return [d for d in tensor_type(value).dims if isinstance(d, int)]


def _run(ops: Sequence[Op], values: dict[Value, Any]) -> dict[Value, Any]:
    """The operations by their reference bodies."""
    for op in ops:
        definition = get_op(op.name)
        made = definition.reference(*(None if v is None else values[v] for v in op.operands), **op.attrs)
        single = len(definition.signature.results) == 1 and not definition.signature.results[0].variadic
        values.update(zip(op.results, [made] if single else made, strict=True))
    return values
