"""Whether a program fits a target: its dtypes, and the memory that weights and states take on each rank."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .ir import Location, Module
from .ir.dtypes import DType
from .ir.graph import Weight
from .ir.opdef import bytes_of
from .ir.types import Quantized, TensorType, Type, inner_types
from .report import sizes_of_symbols
from .runtime.placement import place
from .runtime.plan import flatten
from .targets import Target

MOST_OPS = 4  # names of operations that a warning lists


def fit(module: Module, target: Target, mesh: Mapping[str, int] | None = None) -> dict[str, Any]:
    """What the report says about a target: bytes on the fullest rank, and ``warnings``, one line each.

    mesh: the sizes that the program was partitioned for. Dims of states count at the sizes of report.sizes_of_symbols.
    The host computes everything and has what memory it has, so nothing is said about it.
    """
    if target.kind == "cpu":
        return {"name": target.name, "warnings": []}
    held = max(_bytes_of_rank(module, mesh or {}, rank) for rank in range(math.prod((mesh or {}).values())))
    memory = target.main_memory
    warnings = _dtype_warnings(module, target)
    if held > memory.capacity:
        ranks = f" on a rank of {', '.join(f'{a}={n}' for a, n in mesh.items())}" if mesh else ""
        have = f"{memory.capacity / 1e9:g} GB of {memory.name}"
        warnings.append(f"weights and states take {held / 1e9:.1f} GB{ranks}; {target.name} has {have}")
    return {"name": target.name, "bytes": held, "capacity": memory.capacity, "warnings": warnings}


def _bytes_of_rank(module: Module, mesh: Mapping[str, int], rank: int) -> int:
    """Bytes of the weights and states that one rank reads, its parts of those that are split."""
    placement = place(module, dict(mesh), rank)
    program = flatten(module, placement)
    sizes = sizes_of_symbols(module)
    kept = (*program.weights, *program.states)
    types = [w.type for w in kept if isinstance(w.type, TensorType)]
    return sum(bytes_of(TensorType(t.dtype, placement.local(t)), sizes) for t in types)


def _dtype_warnings(module: Module, target: Target) -> list[str]:
    """A line for each dtype that the program uses and the target does not list."""
    weights: Counter[DType] = Counter()
    ops: dict[DType, Counter[str]] = {}
    first: dict[DType, Location] = {}
    for weight in itertools.chain(module.weights.values(), module.states.values()):
        weights.update(_dtypes(weight.type))
    for op in module.walk():
        used = {
            d
            for v in (*op.operands, *op.results)
            if v is not None and not isinstance(v, Weight)
            for d in _dtypes(v.type)
        }
        for dtype in used:
            ops.setdefault(dtype, Counter())[op.name] += 1
            first.setdefault(dtype, op.loc)
    known = set(target.storage)
    foreign = sorted({*weights, *ops} - {d for d in DType if str(d) in known}, key=str)
    return [_dtype_line(d, target, weights[d], ops.get(d, Counter()), first.get(d)) for d in foreign]


def _dtypes(type: Type) -> set[DType]:
    found: set[DType] = set()
    for tensor in inner_types(type):
        found.add(tensor.element)
        if isinstance(tensor.dtype, Quantized):
            found.add(tensor.dtype.scale)
    return found


def _dtype_line(dtype: DType, target: Target, weights: int, ops: Counter[str], first: Location | None) -> str:
    uses = [f"{weights} {'weight' if weights == 1 else 'weights'}"] if weights else []
    if ops:
        names = ", ".join(f"{n}x {name}" for name, n in ops.most_common(MOST_OPS))
        more = f" and {len(ops) - MOST_OPS} other kinds" if len(ops) > MOST_OPS else ""
        uses.append(f"{names}{more}, first at {first}")
    return f"{dtype} is no dtype of {target.name}: {'; '.join(uses)}"
