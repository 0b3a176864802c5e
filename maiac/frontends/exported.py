"""PyTorch programs: capture through torch.export, then import of the exported graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    SymBoolArgument,
    SymFloatArgument,
    SymIntArgument,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from maiac.ir.builder import Builder
from maiac.ir.dims import Dim
from maiac.ir.errors import MaiaError
from maiac.ir.graph import Function, Module, State, Value
from maiac.ir.types import DimType, TensorType
from maiac.runtime.tree import LEAF, NUMBER, Tree, dumps, from_treespec, graft

from .aliases import without_aliases
from .aten.registry import Unsupported
from .decompositions import export_table
from .importer import Importer, from_torch, storage_key, weight_data
from .locations import whole_stacks
from .prefix import dynamic_lengths
from .quiet import quiet_torch
from .reproducer import key_of
from .restore import unchanged
from .small_sizes import export_from_one, from_zero
from .symbols import Symbols, named_by_user, symbol_names
from .trace_errors import draft, first_line, told_line, trace_error

if TYPE_CHECKING:
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

SMALL = 16  # tensors of at most so many elements that a trace holds are written into the program


@dataclass(frozen=True)
class Exported:
    """An exported program, and the names that the user gave to its dynamic dims (torch symbol -> name)."""

    program: ExportedProgram
    names: Mapping[str, str] = field(default_factory=dict[str, str])


def capture(
    model: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, *, dynamic_shapes: Any = None
) -> Module:
    """The Maia module of a torch model: ``export``, then ``import_exported``."""
    exported = export(model, args, kwargs, dynamic_shapes=dynamic_shapes)
    return import_exported(exported.program, names=exported.names)


def export(
    model: torch.nn.Module | ExportedProgram | Callable[..., Any] | str | Path,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
) -> Exported:
    """Trace a module or function, or read a ``.pt2`` file. Parameters keep their storage.

    Raises MAIA0202 where control flow depends on data, MAIA0203 where ``dynamic_shapes`` does not hold, MAIA0204 where
    the model fails otherwise, MAIA0205 for a file that is no exported program.
    """
    if isinstance(model, ExportedProgram):
        return Exported(model)
    if isinstance(model, (str, Path)):
        return Exported(_load(Path(model)))
    kwargs = dict(kwargs or {})
    if not isinstance(model, torch.nn.Module):
        model = _Function(model)
    program = _trace(model, tuple(args), kwargs, dynamic_shapes)
    return Exported(program, _user_names(program, model, tuple(args), kwargs, dynamic_shapes))


class _Function(torch.nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()

        def forward(*args: Any, **kwargs: Any) -> Any:  # torch notes source lines inside functions of this name only
            return function(*args, **kwargs)

        # torch.export matches dynamic_shapes and keyword arguments against forward's own signature.
        forward.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        self.forward = forward


def _load(path: Path) -> ExportedProgram:
    try:
        with quiet_torch():
            return torch.export.load(path)
    except Exception as cause:
        raise MaiaError("MAIA0205", f"{path} is not an exported program: {first_line(cause)}") from cause


def _trace(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> ExportedProgram:
    def once() -> ExportedProgram:
        with unchanged(model), whole_stacks(), dynamic_lengths():
            return from_zero(
                lambda: torch.export.export(model, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False)
            )

    def names(program: ExportedProgram) -> dict[str, str]:
        return _user_names(program, model, args, kwargs, dynamic_shapes)

    try:
        # Without gradients, blocks of the model under no_grad need no wrapper of their own.
        with torch.no_grad(), unchanged(model), quiet_torch():
            return export_from_one(once, names, model, args, kwargs, dynamic_shapes)
    except Exception as cause:
        raise trace_error(cause, model, lambda: draft(model, args, kwargs, dynamic_shapes)) from cause


def _user_names(
    program: ExportedProgram, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> dict[str, str]:
    if dynamic_shapes is None:
        return {}
    spec_of = named_by_user(model, args, kwargs, dynamic_shapes)
    leaves = pytree.tree_leaves((args, kwargs))
    specs = [spec_of.get(id(leaf)) for leaf in leaves]
    nodes = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    users = [s for s in program.graph_signature.input_specs if s.kind is InputKind.USER_INPUT]
    if len(users) != len(specs):
        return {}
    vals = [nodes[s.arg.name].meta.get("val") if isinstance(s.arg, TensorArgument) else None for s in users]
    return symbol_names([tuple(v.shape) if isinstance(v, torch.Tensor) else None for v in vals], specs)


# **** import ****


def import_exported(program: ExportedProgram, *, names: Mapping[str, str] | None = None) -> Module:
    """The Maia module of an exported program.

    Parameters, buffers and tensor constants become weights over their own storage, buffers that the program changes
    become states. ``names`` renames torch's symbols. MAIA0201 lists every operation without a Maia form at once.
    """
    found = survey_exported(program, names=names)
    found.journal.check()
    return found.module


def survey_exported(program: ExportedProgram, *, names: Mapping[str, str] | None = None) -> ProgramImport:
    """Import as much as can be; ``journal`` holds what is wrong with the rest. MAIA0204 where torch cannot go on."""
    table = export_table()
    try:
        with without_aliases(program.graph_module), quiet_torch():
            decomposed = from_zero(lambda: program.run_decompositions(table))
    except Exception as cause:
        what = f"torch cannot decompose the program that it traced: {type(cause).__name__}: {first_line(cause)}"
        raise MaiaError("MAIA0204", what, loc=told_line(cause)) from cause
    found = ProgramImport(decomposed, names or {})
    found.run()
    return found


class ProgramImport:
    """The state of importing one exported program."""

    def __init__(self, program: ExportedProgram, names: Mapping[str, str]) -> None:
        self.program = program
        self.module = Module("main", {"convention": "torch"})
        self.symbols = Symbols(self.module, names, program.range_constraints)
        self.importer = Importer(self.module, self.symbols)
        self.journal = self.importer.journal
        self.main = self.module.add_function(Function("main"))
        self.builder = Builder(self.module, self.main.body)
        self.mutated = set(program.graph_signature.buffers_to_mutate.values())
        self.globals: dict[Any, Value] = {}
        # Of the names of one tied tensor, the first counts.
        self.first_name: dict[Any, str] = {}
        for name, tensor in program.state_dict.items():
            self.first_name.setdefault(storage_key(tensor), name)

    def run(self) -> None:
        """Inputs, then the graph, then outputs and states; these only where nothing is wrong."""
        nodes = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        inputs: dict[fx.Node, Any] = {}
        arguments: list[Any] = []
        for spec in self.program.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind is InputKind.USER_INPUT:
                arguments.append(spec.arg)
            inputs[node] = self.input(node, spec)
        results = self.importer.run(self.program.graph, self.program.graph_module, self.main.body, inputs)
        if self.journal.faults:
            self.builder.ret([])
            return
        self.outputs(list(results))
        self.module.attrs["in_tree"] = _tree(self.program.call_spec.in_spec, arguments)

    def input(self, node: fx.Node, spec: InputSpec) -> Any:
        """What a placeholder stands for; of an unknown kind, it is a fault and what reads it is passed over."""
        try:
            if spec.kind is InputKind.USER_INPUT:
                return self.user_input(node, spec)
            if spec.kind is not InputKind.TOKEN and (node.users or spec.target in self.mutated):
                return self.held(spec)
        except Unsupported as miss:
            error = MaiaError("MAIA0206", f"{spec.target or node.name} is of an unknown kind: {miss}")
            self.journal.fault("", error.message, error)
            return self.importer.stand_in(node)
        except MaiaError as error:
            self.journal.fault("", error.message, error)
            return self.importer.stand_in(node)
        return None

    def user_input(self, node: fx.Node, spec: InputSpec) -> Any:
        """A parameter of main, or the constant that the program was traced with."""
        if isinstance(spec.arg, ConstantArgument):
            return spec.arg.value
        val = node.meta.get("val")
        if isinstance(val, torch.Tensor):
            dims = tuple(self.symbols.dim(d) for d in val.shape)
            return self.main.body.add_arg(TensorType(from_torch(val.dtype), dims), node.name)
        if isinstance(spec.arg, SymIntArgument) and isinstance(val, torch.SymInt):
            dim = self.symbols.dim(val)
            self.main.body.add_arg(DimType(dim), node.name)
            return dim
        raise MaiaError("MAIA0206", f"the input {node.name} is a {type(val).__name__}")

    def held(self, spec: InputSpec) -> Value:
        """A parameter, buffer or constant of the model as a weight or state."""
        target = spec.target or spec.arg.name
        table = self.program.state_dict
        tensor = table[target] if target in table else self.program.constants.get(target)
        if not isinstance(tensor, torch.Tensor):
            raise MaiaError("MAIA0206", f"the constant {target} is a {type(tensor).__name__}")
        if spec.kind is InputKind.CONSTANT_TENSOR and tensor.numel() <= SMALL and _plain(tensor):
            return self.small_constant(tensor, spec.arg.name)
        key = (storage_key(tensor), target if target in self.mutated else None)
        if key not in self.globals:
            self.globals[key] = self.declare(tensor, target)
        return self.globals[key]

    def declare(self, tensor: torch.Tensor, target: str) -> Value:
        """A new weight, or a new state with what it holds when the program starts."""
        type = TensorType(from_torch(tensor.dtype), tuple(tensor.shape))
        if target not in self.mutated:
            return self.module.add_weight(self.first_name.get(storage_key(tensor), target), type, weight_data(tensor))
        state = self.module.add_state(target, type, weight_data(tensor))
        return self.builder.emit("read", state, hint=target.replace(".", "_"))

    def small_constant(self, tensor: torch.Tensor, name: str) -> Value:
        """A tensor of few elements, written into the program."""
        values = tuple(tensor.detach().reshape(-1).tolist())
        value = values[0] if tensor.ndim == 0 else values
        shape = tuple(tensor.shape)
        return self.builder.emit("constant", value=value, dtype=from_torch(tensor.dtype), shape=shape, hint=name)

    def outputs(self, results: Sequence[Any]) -> None:
        """Write states, return what the user gets, and describe it."""
        states = {s.name: s for s in self.module.states.values()}
        returned: list[Value] = []
        given: list[Any] = []
        changed: dict[int, Value] = {}  # parameter of main -> what it holds afterwards
        places = {a.name: i for i, a in enumerate(self.main.args)}
        for spec, value in zip(self.program.graph_signature.output_specs, results, strict=True):
            if spec.kind is OutputKind.BUFFER_MUTATION:
                self.write(states, spec, value)
            elif spec.kind is OutputKind.USER_INPUT_MUTATION:
                changed[places[str(spec.target)]] = self.as_value(value)
            elif spec.kind is OutputKind.USER_OUTPUT:
                given.append(spec.arg)
                if not isinstance(spec.arg, ConstantArgument):
                    returned.append(self.as_value(value))
            elif spec.kind is not OutputKind.TOKEN:
                raise MaiaError("MAIA0206", f"an output of kind {spec.kind.name}")
        if changed:
            self.module.attrs["mutates"] = tuple((at, len(returned) + i) for i, at in enumerate(changed))
        self.builder.ret([*returned, *changed.values()])
        self.module.attrs["out_tree"] = _tree(self.program.call_spec.out_spec, given)

    def write(self, states: Mapping[str, State], spec: OutputSpec, value: Value) -> None:
        """Keep the new contents of a buffer."""
        assert spec.target is not None
        self.builder.emit_op("write", (states[spec.target], value))

    def as_value(self, value: Any) -> Value:
        """An output as a value: sizes are handed back as Python integers."""
        if isinstance(value, (int, Dim)) and not isinstance(value, bool):
            return self.builder.emit("dim", value=value)
        if not isinstance(value, Value):
            raise MaiaError("MAIA0206", f"an output is a {type(value).__name__}")
        return value


def _tree(spec: Any, arguments: Sequence[Any]) -> str:
    """The tree of inputs or outputs as JSON, whose constant leaves are part of it."""
    return dumps(graft(from_treespec(spec), [_leaf(a) for a in arguments]))


def _leaf(argument: Any) -> Tree:
    """What stands in a tree for an argument: programs compute Python floats and truth values as tensors of rank 0."""
    if isinstance(argument, ConstantArgument):
        return {"t": "const", "v": argument.value}
    return NUMBER if isinstance(argument, (SymBoolArgument, SymFloatArgument)) else LEAF


def _plain(tensor: torch.Tensor) -> bool:
    """Whether numbers in text can stand for the elements: not for complex ones, codes or meta tensors."""
    numbers = tensor.dtype.itemsize > 1 and not tensor.is_complex()
    return tensor.device.type == "cpu" and (numbers or tensor.dtype is torch.bool)


# **** graphs that torch.compile hands over ****


def import_graph_module(gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Module:
    """The Maia module of an ATen graph whose inputs and outputs are flat (AOTAutograd's).

    Symbolic integers among the inputs become ``dim`` parameters; a None or constant output stands in the tree only.
    """
    module = Module("main", {"convention": "torch"})
    placeholders = [n for n in gm.graph.nodes if n.op == "placeholder"]
    vals = [n.meta.get("val", given) for n, given in zip(placeholders, example_inputs, strict=True)]
    env = _shape_env(vals)
    symbols = Symbols(module, {}, env.var_to_range if env is not None else {})
    main = module.add_function(Function("main"))
    inputs: dict[fx.Node, Any] = {}
    for node, val in zip(placeholders, vals, strict=True):
        inputs[node] = _flat_input(main, symbols, node, val)
    importer = Importer(module, symbols)
    outputs = importer.run(gm.graph, gm, main.body, inputs)
    _no_lost_outputs(importer, gm.graph, outputs)
    importer.journal.check()
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    builder = Builder(module, main.body)
    builder.ret([v for v in (_flat_output(builder, o) for o in outputs) if v is not None])
    args: Tree = {"t": "tuple", "c": [LEAF] * len(placeholders)}
    module.attrs["in_tree"] = dumps({"t": "tuple", "c": [args, {"t": "dict", "k": [], "c": []}]})
    absent: Tree = {"t": "const", "v": None}
    module.attrs["out_tree"] = dumps({"t": "list", "c": [absent if o is None else LEAF for o in outputs]})
    return module


def _no_lost_outputs(importer: Importer, graph: fx.Graph, outputs: Any) -> None:
    """A fault for each tensor that the graph hands out, such as one saved for a gradient, and that no handler makes."""
    given = graph.output_node().args[0]
    if not isinstance(given, (tuple, list)):
        return
    for node, value in zip(given, outputs, strict=True):
        if value is None and isinstance(node, fx.Node) and isinstance(node.meta.get("val"), torch.Tensor):
            source = node.args[0] if isinstance(node.args[0], fx.Node) else node
            importer.fault(source, key_of(source.target), f"its output {node.name}, which the gradient needs")


def _shape_env(vals: Sequence[Any]) -> ShapeEnv | None:
    """Where torch keeps the ranges of symbols; None for a static graph."""
    for val in vals:
        if isinstance(val, torch.SymInt):
            return val.node.shape_env
        mode = getattr(val, "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            return mode.shape_env
    return None


def _flat_input(main: Function, symbols: Symbols, node: fx.Node, val: Any) -> Any:
    if isinstance(val, (int, torch.SymInt)):
        dim = symbols.dim(val)
        main.body.add_arg(DimType(dim), node.name)
        return dim
    if not isinstance(val, torch.Tensor):
        raise MaiaError("MAIA0206", f"the input {node.name} is a {type(val).__name__}")
    dims = tuple(symbols.dim(d) for d in val.shape)
    return main.body.add_arg(TensorType(from_torch(val.dtype), dims), node.name)


def _flat_output(builder: Builder, value: Any) -> Value | None:
    if isinstance(value, (int, Dim)):
        return builder.emit("dim", value=value)
    return value
