"""A script of one call: the smallest model that shows what is wrong with a traced operation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload

from .journal import Maker, Reproducer

SCRIPT = '''"""{what}: `python {file}` shows the error."""

import torch

import maiac
{library}

class Model(torch.nn.Module):
    def forward(self{parameters}):
        {body}


def make():
    """The model, its example inputs, and which of their dims are dynamic."""
    args = ({inputs})
    return Model(), args, {{}}, {shapes}


if __name__ == "__main__":
    try:
        maiac.capture(*make()[:2], dynamic_shapes=make()[3])
    except maiac.MaiaError as error:
        raise SystemExit(str(error))
    print("nothing is wrong")
'''


def key_of(target: Any) -> str:
    """``aten::add.Tensor`` of an overload; ``hop::cond`` of a higher-order op; ``python::mul`` of a function."""
    if isinstance(target, OpOverload):
        return f"{target.namespace}::{str(target).removeprefix(f'{target.namespace}.')}"
    if isinstance(target, HigherOrderOperator):
        return f"hop::{target.name()}"
    return f"python::{getattr(target, '__name__', target)}"


def reproducer_of(node: fx.Node) -> Maker | None:
    """How to write a script with this call alone; None for what is no call of an operator on tensors."""
    if not isinstance(node.target, OpOverload):
        return None
    return lambda: _reproduce(node)


@dataclass
class _Call:
    """The text of a call: nodes become parameters of the script's model."""

    inputs: dict[fx.Node, str] = field(default_factory=dict[fx.Node, str])

    def text(self, arg: Any) -> str:
        """An argument as Python text."""
        if isinstance(arg, fx.Node):
            return self.node(arg)
        if isinstance(arg, (list, tuple)):
            return f"[{', '.join(self.text(a) for a in arg)}]"
        return literal(arg)

    def node(self, node: fx.Node) -> str:
        """A tensor is an input; a number is what it was while tracing."""
        val = node.meta.get("val")
        if isinstance(val, torch.SymInt | torch.SymFloat | torch.SymBool):
            return repr(_hint(val))
        if isinstance(val, int | float | bool):
            return repr(val)
        if not isinstance(val, torch.Tensor):
            raise NoTextError
        return self.inputs.setdefault(node, f"x{len(self.inputs)}")


class NoTextError(Exception):
    """An argument that no short script can hold."""


def literal(value: Any) -> str:
    """A value that is no tensor as Python text."""
    if isinstance(value, torch.memory_format | torch.dtype | torch.layout):
        return str(value)
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return repr(_hint(value))
    if isinstance(value, (list, tuple)):
        parts = "".join(f"{literal(v)}, " for v in value)
        return f"[{parts}]" if isinstance(value, list) else f"({parts})"
    if value is None or isinstance(value, (bool, int, float, str, complex)):
        return repr(value)
    raise NoTextError


def _reproduce(node: fx.Node) -> Reproducer | None:
    call = _Call()
    try:
        texts = [call.text(a) for a in node.args]
        texts += [f"{name}={call.text(a)}" for name, a in node.kwargs.items()]
        inputs = "".join(f"{example(n.meta['val'])}, " for n in call.inputs)
        library = _library(node)
    except NoTextError:
        return None
    stem = key_of(node.target).removeprefix("aten::").replace("::", ".").replace(".", "_")
    file = f"maiac-repro-{stem}.py"
    text = SCRIPT.format(
        what="One operation that maiac does not take",
        file=file,
        library=library,
        parameters="".join(f", {name}" for name in call.inputs.values()),
        body=f"return torch.ops.{node.target}({', '.join(texts)})",
        inputs=inputs,
        shapes=_dynamic(call),
    )
    return Reproducer(stem, ".py", text.encode())


def _hint(size: Any) -> Any:
    """The number that a symbolic one had while tracing."""
    if isinstance(size, bool | int | float):
        return size
    found = size.node.hint
    if found is None:
        raise NoTextError
    return found


def example(val: torch.Tensor) -> str:
    """An expression for a tensor of the same shape, strides and dtype."""
    shape = [_hint(d) for d in val.shape]
    strides = [_hint(s) for s in val.stride()] if val.layout is torch.strided else []
    plain = torch.empty(shape, device="meta").stride()
    if tuple(strides) == tuple(plain):
        make = "torch.ones" if val.dtype.itemsize > 1 or val.dtype is torch.bool else "torch.empty"
        return f"{make}({shape}, dtype={val.dtype})"
    return f"torch.empty_strided({shape}, {strides}, dtype={val.dtype})"


def _dynamic(call: _Call) -> str:
    """Which dims were symbolic, as dynamic_shapes; None where none was."""
    specs = [list(_symbolic_dims(n.meta["val"])) for n in call.inputs]
    if not any(specs):
        return "None"
    rows = ["{" + ", ".join(f"{i}: torch.export.Dim.AUTO" for i in dims) + "}" for dims in specs]
    return "{" + ", ".join(f'"{name}": {row}' for name, row in zip(call.inputs.values(), rows, strict=True)) + "}"


def _symbolic_dims(val: torch.Tensor) -> Iterator[int]:
    return (i for i, d in enumerate(val.shape) if isinstance(d, torch.SymInt))


def _library(node: fx.Node) -> str:
    """The declaration of a custom operator, whose own code the script does without; "" for torch's."""
    target: Any = node.target
    if target.namespace in ("aten", "prims", "prim"):
        return ""
    name = key_of(target).removesuffix(".default")
    schema = str(target._schema).partition("(")
    vals = node.meta.get("val")
    many = isinstance(vals, (tuple, list))
    outputs = [f"{example(v)}" for v in (vals if many else [vals]) if isinstance(v, torch.Tensor)]
    made = f"({', '.join(outputs)},)" if many else "".join(outputs) or "None"
    return (
        f'\nif not hasattr(torch.ops.{target.namespace}, "{name.split("::")[1].split(".")[0]}"):  # else it is loaded\n'
        f'    torch.library.define("{name}", "({schema[2]}")\n\n'
        f'    @torch.library.register_fake("{name}")\n'
        f"    def _(*args, **kwargs):\n        return {made}\n\n"
    )
