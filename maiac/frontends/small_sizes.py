"""Dims that may be 1. torch.export takes 0 and 1 for special cases and leaves them out of every dynamic dim.

Decoding one token is a size of 1, so where the user's ``Dim`` admits it, the trace decides nothing by it
(``backed_size_oblivious``). What that could get wrong is an operation whose result has another shape at 1, such as
``squeeze``: the model is run at 1 on fake tensors, and its result's shapes are held against the traced ones. Where
that fails, the plain export stands, and a warning says that 1 is left out. Sizes of 0 stay out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import torch
from torch._library.fake_impl import FakeImplCtx
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import OutputKind, TensorArgument
from torch.fx.experimental import _config as shapes_config
from torch.utils import _pytree as pytree
from torch.utils._sympy.value_ranges import ValueRanges

from .symbols import named_by_user


def export_from_one(
    export: Callable[[], ExportedProgram],
    names_of: Callable[[ExportedProgram], Mapping[str, str]],
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic_shapes: Any,
) -> ExportedProgram:
    """``export()``, with sizes of 1 in range where ``dynamic_shapes`` admits them and the model allows it.

    ``names_of``: torch's symbols of a program -> the names of the user's dims.
    """
    specs = {} if dynamic_shapes is None else named_by_user(model, args, kwargs, dynamic_shapes)
    small = {_root(d).__name__ for spec in specs.values() for _, d in _dims(spec) if _admits_one(_root(d))}
    if not small:
        return export()
    try:
        with shapes_config.patch(backed_size_oblivious=True):  # pyright: ignore[reportAttributeAccessIssue]
            program = export()
        reason = _difference_at_one(program, names_of(program), model, args, kwargs, specs)
    except Exception as cause:  # whatever it was: the plain export, which follows, has the last word
        lines = [line.strip(" -") for line in str(cause).splitlines() if line.strip()] or [""]
        guard = next((line for line in lines if "generated guard" in line), lines[0])  # the branch that decides by it
        program, reason = None, f"{type(cause).__name__}: {guard}"
    if program is None or reason:
        program = export()
        listed = ", ".join(sorted(small))
        warnings.warn(f"sizes of 1 are left out of {listed}: the model is another one there ({reason})", stacklevel=4)
        _raise_least(program, {s for s, name in names_of(program).items() if name in small}, 2)
        return program
    _raise_least(program, {s for s, name in names_of(program).items() if name in small}, 1)
    return program


def from_zero(export: Callable[[], ExportedProgram]) -> ExportedProgram:
    """``export()``, with sizes that data decide beginning at 0.

    A shape function of the older kind (torchvision's nms has one) says nothing of 0 and 1, and torch then takes a size
    of 2 or more for granted: a detector that finds nothing would break a promise that nobody made. Where a model cannot
    be traced without deciding by such sizes, the plain export stands, and the run checks its promise.
    """
    asked = False

    def size(self: FakeImplCtx, *, min: int | None = None, max: int | None = None) -> torch.SymInt:
        nonlocal asked
        asked = asked or min is None
        return self.new_dynamic_size(min=min or 0, max=max)

    try:
        with mock.patch.object(FakeImplCtx, "create_unbacked_symint", size):
            return export()
    except Exception:
        if not asked:
            raise
    return export()


def _raise_least(program: ExportedProgram, symbols: set[str], least: int) -> None:
    """Let symbols begin at ``least``: torch writes the user's range even where its trace does not hold in all of it."""
    for symbol, found in list(program.range_constraints.items()):
        if str(symbol) in symbols and found.lower < least:
            program.range_constraints[symbol] = ValueRanges(least, found.upper)


def _dims(spec: Any) -> list[tuple[int, Any]]:
    """(position, dim) of the ``torch.export.Dim`` in one tensor's entry."""
    places = spec.items() if isinstance(spec, dict) else enumerate(spec) if isinstance(spec, (list, tuple)) else ()
    return [(at, d) for at, d in places if isinstance(_root(d), Dim)]


def _root(dim: Any) -> Any:
    """``T`` of a derived dim ``2*T``."""
    return getattr(dim, "root", dim)


def _admits_one(dim: Any) -> bool:
    return dim.min <= 1 <= dim.max


def _difference_at_one(
    program: ExportedProgram,
    names: Mapping[str, str],
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    specs: Mapping[int, Any],
) -> str:
    """How the model's results at size 1 differ from what the trace says of them; empty where they do not."""
    from torch._export.utils import _compiling_state_context  # pyright: ignore[reportPrivateUsage]
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), _compiling_state_context():  # models ask whether they are traced
        leaves, tree = pytree.tree_flatten((args, kwargs))
        small: Any = pytree.tree_unflatten([_at_one(leaf, specs.get(id(leaf))) for leaf in leaves], tree)
        made = pytree.tree_leaves(model(*small[0], **small[1]))
    roots = {_root(d).__name__: _root(d) for spec in specs.values() for _, d in _dims(spec)}
    ones = {s for s, name in names.items() if name in roots and _admits_one(roots[name])}
    nodes = {n.name: n for n in program.graph.nodes}
    traced = [s.arg for s in program.graph_signature.output_specs if s.kind is OutputKind.USER_OUTPUT]
    for at, (value, arg) in enumerate(zip(made, traced, strict=True)):
        if not isinstance(arg, TensorArgument):
            continue
        want = [_size_at_one(d, ones) for d in nodes[arg.name].meta["val"].shape]
        have = list(value.shape)
        if len(want) != len(have) or any(w not in (h, None) for w, h in zip(want, have, strict=True)):
            return f"result {at} has the shape {have}"
    return ""


def _at_one(leaf: Any, spec: Any) -> Any:
    """A fake tensor like the example, whose dims that may be 1 are."""
    if not isinstance(leaf, torch.Tensor):
        return leaf
    shape = list(leaf.shape)
    for at, dim in _dims(spec):
        if _admits_one(_root(dim)):
            shape[at] = 1 if dim is _root(dim) else dim.fn(1)
    return torch.empty(shape, dtype=leaf.dtype)


def _size_at_one(size: Any, ones: set[str]) -> int | None:
    """A traced size where these symbols are 1; None where others have a say."""
    if isinstance(size, int):
        return size
    found = size.node.expr.subs({s: 1 for s in size.node.expr.free_symbols if str(s) in ones})
    return int(found) if found.is_Integer else None
