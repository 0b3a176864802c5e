"""What a program consists of: operations, parameters, bytes, floating-point operations."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .inputs import choose_sizes
from .ir import Function, Module, Op, get_op
from .ir.dims import DimLike, evaluate, product, symbols_of
from .ir.graph import Ref, Weight
from .ir.opdef import bytes_of
from .ir.types import TensorType
from .mutation import mutated
from .runtime.placement import fitting_sizes


@dataclass(frozen=True)
class Cost:
    """Operations of a function with all that it calls. FLOPs are numbers, or expressions over symbols.

    ``data_dependent``: some sizes are known to the run only, or a loop repeats unknown times; those count once.
    """

    ops: Counter[str] = field(default_factory=Counter[str])
    flops_by_op: dict[str, DimLike] = field(default_factory=dict[str, DimLike])
    data_dependent: bool = False

    @property
    def flops(self) -> DimLike:
        """All floating-point operations."""
        return sum(self.flops_by_op.values(), 0)

    def __add__(self, other: Cost) -> Cost:
        flops = dict(self.flops_by_op)
        for name, count in other.flops_by_op.items():
            flops[name] = flops.get(name, 0) + count
        return Cost(self.ops + other.ops, flops, self.data_dependent or other.data_dependent)


def cost_of(module: Module) -> Cost:
    """The cost of main, each function counted as often as it is called."""
    known: dict[str, Cost] = {}
    return _function_cost(module, module.main, known)


def _function_cost(module: Module, function: Function, known: dict[str, Cost]) -> Cost:
    if function.name not in known:
        total = Cost()
        for op in function.body.walk():
            total += _op_cost(module, op, known)
        known[function.name] = total
    return known[function.name]


def _op_cost(module: Module, op: Op, known: dict[str, Cost]) -> Cost:
    if op.name in ("return", "yield"):
        return Cost()
    if op.name == "call":
        ref = op.attrs["callee"]
        assert isinstance(ref, Ref)
        return _function_cost(module, module.functions[ref.name], known)
    types = [None if v is None else v.type for v in op.operands]
    flops = get_op(op.name).count_flops(types, op.attrs, [r.type for r in op.results])
    return Cost(Counter({op.name: 1}), {op.name: flops}, op.name in ("loop", "while"))


def costs_of_ops(module: Module, sizes: Mapping[str, int] | None = None) -> Iterator[tuple[Op, int]]:
    """Every op of main and of what it calls, once for each call, with its FLOPs at ``sizes``."""
    at = sizes_of_symbols(module, sizes)
    for name, times in _calls(module).items():
        for op in module.functions[name].body.walk():
            flops = sum(_op_cost(module, op, {}).flops_by_op.values(), 0) if op.name != "call" else 0
            if op.name not in ("return", "yield", "call"):
                yield from [(op, evaluate(flops, at))] * times


def _calls(module: Module) -> Counter[str]:
    """How often each function runs in one run of main"""
    found, queue = Counter({"main": 1}), [("main", 1)]
    while queue:
        name, times = queue.pop()
        for op in module.functions[name].body.walk():
            ref = op.attrs.get("callee") if op.name == "call" else None
            if isinstance(ref, Ref):
                found[ref.name] += times
                queue.append((ref.name, times))
    return found


def costs_by_place(module: Module, sizes: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
    """FLOPs, parameters and their bytes by the place in the source, the costliest first.

    A place is a module path of PyTorch, or the folder of an ONNX node's name. A weight counts where it is first used.
    """
    rows: dict[str, dict[str, Any]] = {}
    left = {name: w for name, w in module.weights.items() if isinstance(w.type, TensorType)}

    def row_of(place: str) -> dict[str, Any]:
        return rows.setdefault(place, {"place": place, "flops": 0, "parameters": 0, "bytes": 0})

    def count(weight: Weight, place: str) -> None:
        row = row_of(place)
        row["parameters"] += evaluate(weight.type.elements(), {}) if isinstance(weight.type, TensorType) else 0
        row["bytes"] += bytes_of(weight.type, {})

    for op, flops in costs_of_ops(module, sizes):
        place = place_of(op.loc.name)
        row_of(place)["flops"] += flops
        for value in op.operands:
            if isinstance(value, Weight) and left.pop(value.name, None) is not None:
                count(value, place)
    for name, weight in left.items():  # what no operation reads counts where its name says
        count(weight, name.rpartition(".")[0])
    return sorted(rows.values(), key=lambda r: (-r["flops"], -r["parameters"], r["place"]))


def place_of(name: str) -> str:
    """``/layers.0/attn`` of the ONNX node ``/layers.0/attn/MatMul``; a module path as it is."""
    folder, _, _ = name.strip("/").rpartition("/")
    return folder or name


def merge_alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for places that differ in numbers only: ``layers.*.mlp``, with how many they are as ``times``."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = re.sub(r"(?<![^./])\d+(?![^./])", "*", row["place"])
        if key not in found:
            found[key] = {**row, "times": 1}
            continue
        merged = found[key]
        merged["place"] = key
        for figure in ("flops", "parameters", "bytes"):
            merged[figure] += row[figure]
        merged["times"] += 1
    return sorted(found.values(), key=lambda r: (-r["flops"], -r["parameters"], r["place"]))


def sizes_of_symbols(module: Module, given: Mapping[str, int] | None = None) -> dict[str, int]:
    """A size for every symbol: the inputs' as chosen, those that only the run tells at their least."""
    chosen = choose_sizes(module, given)
    return {n: chosen.get(n, max(s.low, 1)) for n, s in module.symbols.items()}


def weight_table(weights: Mapping[str, Weight]) -> dict[str, dict[str, int]]:
    """dtype -> how many tensors, elements and bytes."""
    table: dict[str, dict[str, int]] = {}
    for weight in weights.values():
        if not isinstance(weight.type, TensorType) or not weight.type.is_static:
            continue
        row = table.setdefault(str(weight.type.dtype), {"tensors": 0, "elements": 0, "bytes": 0})
        row["tensors"] += 1
        row["elements"] += evaluate(product(weight.type.dims), {})
        row["bytes"] += bytes_of(weight.type, {})
    return dict(sorted(table.items(), key=lambda item: -item[1]["bytes"]))


def summarize(module: Module, sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The figures of a program as plain values; FLOPs at ``sizes`` (default: see inputs.choose_sizes)."""
    cost = cost_of(module)
    at = sizes_of_symbols(module, sizes)
    used = sorted(symbols_of(cost.flops))
    weights, states = weight_table(module.weights), weight_table(module.states)
    return {
        "name": module.name,
        "inputs": [{"name": a.name, "type": str(a.type)} for a in module.main.args],
        "outputs": [{"name": n, "type": str(t)} for n, t in output_ports(module)],
        "symbols": {
            n: str(s).removeprefix(f"sym {n} in ") for n, s in module.symbols.items() if n in choose_sizes(module)
        },
        "mesh": dict(module.mesh),
        "mesh_sizes": fitting_sizes(module),
        "functions": len(module.functions),
        "ops": dict(cost.ops.most_common()),
        "host_ops": {n: k for n, k in cost.ops.most_common() if get_op(n).host},
        "ops_in_program": sum(1 for _ in module.walk()),
        "parameters": sum(row["elements"] for row in weights.values()),
        "weights": weights,
        "weight_bytes": sum(row["bytes"] for row in weights.values()),
        "states": states,
        "state_bytes": sum(row["bytes"] for row in states.values()),
        "flops": evaluate(cost.flops, at),
        "flops_by_op": {n: evaluate(f, at) for n, f in cost.flops_by_op.items() if f != 0},
        "flops_at": {n: at[n] for n in used},
        "flops_expression": str(cost.flops) if used and len(str(cost.flops)) < 200 else "",
        "data_dependent": cost.data_dependent or any(n not in choose_sizes(module) for n in used),
    }


def output_ports(module: Module) -> list[tuple[str, Any]]:
    """Name and type of each output; one without a name, or with a name that stands there already, gets a number."""
    values = [v for v in module.main.body.terminator.operands if v is not None]
    names = _output_names(module, len(values)) or [v.name for v in values]
    out: dict[str, Any] = {}
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        out[name if name and name not in out else f"output_{i}"] = value.type
    return list(out.items())


def _output_names(module: Module, count: int) -> list[str]:
    """What the source calls its outputs: an ONNX graph by name, a PyTorch model by place in what it returns."""
    given, tree = module.attrs.get("outputs"), module.attrs.get("out_tree")
    names: list[str] = []
    if isinstance(given, tuple):
        names = [str(n) for n in given]
    elif isinstance(tree, str) and module.attrs.get("convention") == "torch":
        changed = [f"{module.main.args[at].name}.after" for at, _ in mutated(module)]
        names = [*leaf_paths(json.loads(tree)), *changed]
    return names if len(names) == count else []


def leaf_paths(tree: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """A name for each leaf of a JSON tree: ``logits``, ``past.0.1``; a lone leaf has none, places are ``output_0``."""
    if tree["t"] == "leaf":
        name = ".".join(path)
        yield f"output_{name}" if name[:1].isdigit() else name
    for key, child in zip(tree.get("k") or range(len(tree.get("c", ()))), tree.get("c", ()), strict=False):
        yield from leaf_paths(child, (*path, str(key)))
