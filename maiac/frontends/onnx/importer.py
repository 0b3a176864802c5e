"""Graphs, subgraphs and functions of an ONNX model, walked in order into one IR function."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import onnx_ir

import onnx
from maiac.ir import Block, Builder, DimLike, DType, Function, Module, Op, Result, TensorType, Type, Value
from maiac.ir.dims import depth, symbols_of
from maiac.ir.errors import Location, MaiaError
from maiac.ir.ops.values import to_torch
from maiac.ir.types import Quantized
from maiac.runtime.weights import MetaTensor

from ..journal import Journal, Maker
from . import handlers
from .contents import in_text, weight, write_out
from .context import NodeContext, Slot
from .functions import expansion
from .known import Known, fold, is_static
from .load import Source, load_model
from .operators import describe, is_supported, node_name, operator_name, resolved, walk_nodes
from .registry import Handler, find_handler, plain_domain
from .reproducer import Operand, operands, reproduce
from .schema import form_faults, inference_fault
from .types import ONNX_DTYPES, DimTable, convert_type, dtype_of, static_shape, tensor_data

assert handlers  # importing them fills the table
UNREADABLE = "MAIA0228"
DEEPEST = 64  # function calls inside function calls


def import_onnx(source: Source) -> Module:
    """The IR of an ONNX model: a ModelProto or the path of a file.

    Weights stay where they are: external data is memory-mapped, initializers are views of the model's bytes. Named
    dims become symbols. Inputs are main's parameters in order (initializers that are also inputs are weights);
    results are the graph's outputs. Errors: MAIA0220 to MAIA0226, every fault of a kind at once.
    """
    importer = survey_onnx(source)
    importer.journal.check()
    return importer.module


def survey_onnx(source: Source, *, graph_only: bool = False) -> Importer:
    """Import as much as can be; ``journal`` holds what is wrong with the rest.

    graph_only: weights in files that are not there are no fault.
    """
    with _numbered("the model"):
        importer = Importer(load_model(source), graph_only=graph_only)
        importer.run()
        return importer


class Unknown(Exception):
    """A value that a faulty node should have computed, and of which nothing is known."""


class Importer:
    """Walks a model once. ``scopes`` are the blocks from the outermost to the one being filled.

    Faults are kept in ``journal``. A value that a faulty node should have computed is stood in for where ONNX tells
    its type; otherwise it is unknown, and what reads it is passed over: it is not to blame.
    """

    def __init__(self, model: onnx_ir.Model, *, graph_only: bool = False) -> None:
        self.model = model
        self.graph_only = graph_only
        self.journal = Journal(describe)
        self.unsupported: set[int] = set()  # nodes whose operators have no handler, by identity
        self.unknown: set[onnx_ir.Value] = set()
        self.missing: list[str] = []  # weights in files that are not there
        self.trying = False  # whether a handler may do without what it asks for
        self.blamed: set[tuple[int, str, str]] = set()  # a loop's body may be imported several times
        self.within = ""  # the operator whose definition by ONNX we are in
        self.opsets = {plain_domain(d): v for d, v in model.graph.opset_imports.items()}
        self.module = Module(model.graph.name or "main", {"convention": "onnx"})
        self.dim_table = DimTable(self.module)
        self.slots: dict[onnx_ir.Value, Slot] = {}
        self.function = self.module.add_function(Function("main"))
        self.scopes: list[Block] = [self.function.body]
        self.builder = Builder(self.module, self.function.body)
        self.path: list[str] = []  # names of the function calls that we are in
        self.given: dict[str, onnx_ir.Attr] = {}  # attributes of the innermost of these calls
        self.carried: set[str] = set()  # symbols of dims that a loop's body changes

    def run(self) -> None:
        """Import the main graph."""
        graph = self.model.graph
        self.find_unsupported()
        self.add_initializers(graph)
        for value in graph.inputs:
            if value not in self.slots:
                self.add_input(value)
        self.import_nodes(graph)
        try:
            outputs = [self.value_of(slot) for v in graph.outputs if (slot := self.slot(v)) is not None]
        except Unknown:
            outputs = []
        except MaiaError as error:
            self.journal.fault("", error.message, error)
            outputs = []
        self.builder.ret(outputs)
        self.module.attrs |= _trees(len(self.function.args), len(outputs))
        self.module.attrs["outputs"] = tuple(v.name or "" for v in graph.outputs)

    def find_unsupported(self) -> None:
        """Note every operator; a fault for each that has neither handler nor function body."""
        for node, version, where in walk_nodes(self.model):
            loc = Location("/".join([*where, node_name(node)]))
            self.journal.met(operator_name(node), loc)
            if (node.domain, node.op_type, node.overload) in self.model.functions:
                continue
            if is_supported(plain_domain(node.domain), node, version):
                continue
            self.unsupported.add(id(node))
            operator = f"{operator_name(node)} (opset {version})"
            error = MaiaError("MAIA0220", f"{operator} is not supported", loc=loc)
            self.journal.fault(operator, "", error, self.reproducer(node))

    def add_input(self, value: onnx_ir.Value) -> None:
        """A graph input as a parameter of main."""
        try:
            type = convert_type(value.type, value.shape, self.dim_table, f"input {value.name!r}")
        except MaiaError as error:
            self.journal.fault("", error.message, error)
            self.unknown.add(value)
            return
        arg = self.function.body.add_arg(type, value.name or "")
        self.slots[value] = Slot(value=arg, dtype=element_of(type))

    def add_initializers(self, graph: onnx_ir.Graph) -> None:
        """Initializers as weights, made when first used; missing external data is reported all at once."""
        for name, value in graph.initializers.items():
            tensor = value.const_value
            try:
                if tensor is None:
                    raise MaiaError("MAIA0223", f"initializer {name!r} has no contents")
                self.slots[value] = Slot(dtype=dtype_of(tensor.dtype), tensor=tensor)
            except MaiaError as error:
                self.journal.fault("", error.message, error)
                self.unknown.add(value)
                continue
            if isinstance(tensor, onnx_ir.ExternalTensor):
                self.look_at(tensor, self.slots[value])

    def look_at(self, tensor: onnx_ir.ExternalTensor, slot: Slot) -> None:
        """A weight whose file is not there is a fault, or has no contents where the graph alone counts."""
        try:
            tensor_data(tensor)  # looks at the file, reads nothing
        except MaiaError as error:
            if not self.graph_only:
                self.journal.fault("", error.message, error)
            self.missing.append(tensor.name or "")
            type = TensorType(dtype_of(tensor.dtype), static_shape(tensor))
            data = MetaTensor(to_torch(type.element), static_shape(tensor))
            slot.tensor, slot.value = None, self.module.add_weight(tensor.name or "const", type, data)

    # **** nodes ****

    def import_nodes(self, graph: Iterable[onnx_ir.Node]) -> None:
        """Import nodes in order."""
        for node in graph:
            loc = self.location(node)
            self.journal.origin(loc, self.within or operator_name(node))
            with self.builder.at(loc):
                self.try_node(node, loc)

    def try_node(self, node: onnx_ir.Node, loc: Location) -> None:
        """Import a node; what goes wrong is noted, and something stands in for its results."""
        if id(node) in self.unsupported:
            self.stand_in(node)
            return
        operator = f"{operator_name(node)} (opset {self.version(node)})"
        try:
            self.import_node(node)
            self.journal.reached.add(operator_name(node))
            return
        except Unknown:
            pass
        except MaiaError as error:
            if self.trying:
                raise
            error.loc = error.loc or loc
            if self.first_blame(node, error.message):
                self.journal.fault(operator, error.message, error, self.reproducer(node))
        except Exception as error:
            if self.first_blame(node, str(error)):
                self.stumble(node, operator, error)
        self.stand_in(node)

    def stumble(self, node: onnx_ir.Node, operator: str, error: Exception) -> None:
        """A handler broke: the node is to blame where ONNX's own inference refuses it."""
        loc, why = self.location(node), ""
        with contextlib.suppress(Exception):  # a second failure must not hide the first
            why = inference_fault(self.context(node))
        if not why:
            self.journal.crash(UNREADABLE, operator, error, loc, self.reproducer(node))
            return
        fault = MaiaError("MAIA0223", f"{node.op_type}: {why}", loc=loc)
        fault.__cause__ = error
        self.journal.fault(operator, fault.message, fault, self.reproducer(node))

    def first_blame(self, node: onnx_ir.Node, why: str) -> bool:
        """Whether this has not been said of the node in this place."""
        key = id(node), "/".join(self.path), why
        known = key in self.blamed
        self.blamed.add(key)
        return not known

    @contextlib.contextmanager
    def attempt(self) -> Generator[None]:
        """Let faults reach the handler that asks for a region, instead of noting them."""
        outer, self.trying = self.trying, True
        try:
            yield
        finally:
            self.trying = outer

    def stand_in(self, node: onnx_ir.Node) -> None:
        """Values of the types that ONNX infers for a node's results. Integers may be shapes, so they stay unknown."""
        for output in node.outputs:
            self.unknown.add(output)
            self.slots.pop(output, None)
            try:
                type = convert_type(output.type, output.shape, self.dim_table, output.name or "")
            except MaiaError:
                continue
            if isinstance(type, TensorType) and type.element.is_float:
                self.unknown.discard(output)
                self.slots[output] = Slot(dtype=type.element, value=Value(type))

    def reproducer(self, node: onnx_ir.Node) -> Maker:
        """How to write a file with this node alone."""
        known = {v.name or "": self.known_of(v) for v in operands(node)}  # known now, not later
        given, opsets = self.given, self.opsets  # those of the function that we are in
        return lambda: reproduce(self, node, known, given, opsets)

    def known_of(self, value: onnx_ir.Value) -> Operand:
        """What is known about a value while importing: its elements, or its type."""
        slot = self.slots.get(value)
        if slot is None or slot.value is not None or slot.known is None or slot.dtype is None:
            return None if slot is None or slot.value is None else slot.value.type
        if not is_static(slot.known):
            return TensorType(slot.dtype, slot.known.shape)
        return slot.known.astype(onnx.helper.tensor_dtype_to_np_dtype(ONNX_DTYPES[slot.dtype]))

    def import_node(self, node: onnx_ir.Node) -> None:
        """Fold a node, hand it to its handler, or expand it by its function body."""
        c = self.context(node)
        own = (node.domain, node.op_type, node.overload) in self.model.functions
        if not own and (faults := form_faults(c)):
            c.fail("; ".join(faults), "MAIA0223")
        if plain_domain(node.domain) == "" and (folded := fold(c)) is not None:
            self.define(node, (folded,))
            return
        handler = None if own else find_handler(node.domain, node.op_type, c.opset)
        made = self.expand(c) if handler is None else self.handle(c, handler)
        self.define(node, made if isinstance(made, (tuple, list)) else (made,))

    def context(self, node: onnx_ir.Node) -> NodeContext:
        """What a handler sees of a node: attributes that refer to the call around it are those of the call."""
        return NodeContext(self, node, self.version(node), {a.name: a for a in resolved(node, self.given)})

    def handle(self, c: NodeContext, handler: Handler) -> Any:
        """Run a handler. One that returns NotImplemented leaves this form of its operator to the function body."""
        made = handler(c)
        return self.expand(c) if made is NotImplemented else made

    def expand(self, c: NodeContext) -> list[Slot | None]:
        """Import the body of the node's function in the node's place."""
        function = expansion(self, c)
        if function is None:
            c.fail("this form of the operator is not supported")
        label = c.node.name or c.op
        if len(self.path) >= DEEPEST:
            c.fail(f"functions call each other more than {DEEPEST} deep", "MAIA0223")
        outer = self.opsets, self.within, self.given
        if (c.node.domain, c.op, c.node.overload) not in self.model.functions:
            self.within = self.within or operator_name(c.node)
        self.opsets = {**self.opsets, **{plain_domain(d): v for d, v in function.opset_imports.items()}}
        defaults = {n: a for n, a in function.attributes.items() if a.value is not None}
        self.given = {**defaults, **c.attrs}
        self.path.append(label)
        try:
            for i, formal in enumerate(function.inputs):
                self.slots.pop(formal, None)  # left from an earlier call of the same function
                self.unknown.discard(formal)
                if c.has(i):
                    self.slots[formal] = c.slot(i)
            self.import_nodes(function)
            if not self.unknown.isdisjoint(function.outputs):
                raise Unknown
            return [self.slots.get(v) for v in function.outputs]
        finally:
            self.path.pop()
            self.opsets, self.within, self.given = outer

    def define(self, node: onnx_ir.Node, made: Sequence[Any]) -> None:
        """Bind the node's outputs to what a handler returned."""
        for output, item in zip(node.outputs, made, strict=False):
            if item is None or not output.name:
                continue
            if isinstance(item, Known):
                item = Slot(dtype=item.dtype, known=item.array)
            elif isinstance(item, Value):
                item = Slot(dtype=element_of(item.type), value=self.refined(output, item))
            if isinstance(item.value, Result) and not item.value.name:
                item.value.name = output.name
            self.slots[output] = item
            self.unknown.discard(output)

    def refined(self, output: onnx_ir.Value, value: Value) -> Value:
        """The value under the dims that the file gives it, where our own are open and its are made of the inputs'."""
        type, shape = value.type, output.shape
        if not isinstance(type, TensorType) or shape is None or len(shape) != type.rank:
            return value
        dims = [self.better(have, told) for have, told in zip(type.dims, shape, strict=True)]
        return value if tuple(dims) == type.dims else self.builder.emit("refine", value, shape=tuple(dims))

    def better(self, have: DimLike, told: int | onnx_ir.SymbolicDim) -> DimLike:
        """The told dim where ours holds symbols of our own, or a call such as ``min(64, T)``; else ours."""
        if isinstance(have, int) or (symbols_of(have) <= self.dim_table.named and not depth(have)):
            return have
        if isinstance(told, int) and (symbols_of(have) & self.carried or symbols_of(have) <= self.dim_table.named):
            return have  # an exporter that traces one step of a loop, or one length, writes the sizes of that
        known = self.dim_table.known_dim(told)
        return have if known is None else known

    # **** values ****

    def slot(self, value: onnx_ir.Value) -> Slot | None:
        """The slot of an ONNX value; None for an optional formal input that the call does not give."""
        if value in self.unknown:
            raise Unknown
        found = self.slots.get(value)
        if found is None and value.const_value is not None:
            found = self.slots[value] = Slot(dtype=dtype_of(value.const_value.dtype), tensor=value.const_value)
        if found is None and value.name and not value.is_graph_input() and not self.path:
            raise MaiaError("MAIA0223", f"the value {value.name!r} is used, but nothing computes it")
        return found

    def value_of(self, slot: Slot) -> Value:
        """The IR value of a slot, written out where it was only known."""
        if slot.value is not None:
            return slot.value
        for block in self.scopes:
            if block in slot.made:
                return slot.made[block]
        if slot.tensor is not None and slot.known is None and not in_text(slot.tensor):
            slot.value = weight(self.module, slot.tensor)
            return slot.value
        if slot.items is not None:
            made = self.builder.emit("sequence_construct", *(self.value_of(s) for s in slot.items))
        else:
            made = write_out(self.builder, slot)
        slot.made[self.scopes[-1]] = made
        return made

    # **** regions ****

    def import_region(self, graph: onnx_ir.Graph, args: Sequence[Type]) -> Block:
        """A subgraph as a region; it sees the values around it."""
        if len(graph.inputs) != len(args):
            raise MaiaError("MAIA0223", f"its graph has {len(graph.inputs)} inputs; expected {len(args)}")
        block = Block(args)
        for arg, formal in zip(block.args, graph.inputs, strict=True):
            arg.name = formal.name or ""
            self.slots[formal] = Slot(value=arg, dtype=element_of(arg.type))
        with self.inside(block):
            self.builder.yield_([self.value_of(s) for s in self.inline_region(graph)])
        return block

    def inline_region(self, graph: onnx_ir.Graph) -> list[Slot]:
        """A subgraph without parameters in the place of its node."""
        self.add_constants(graph)
        self.import_nodes(graph)
        return [slot for v in graph.outputs if (slot := self.slot(v)) is not None]

    def scan_region(self, graph: onnx_ir.Graph, types: Sequence[Type], scanned: Sequence[Value], states: int) -> Block:
        """The body of a Scan as a loop region: it takes slice i of each scanned value (%i, %go, states...)."""
        block = Block([TensorType(DType.I64), TensorType(DType.BOOL), *types[:states]])
        for name, arg in zip(("i", "go"), block.args, strict=False):
            arg.name = name
        with self.inside(block):
            slices = [self.builder.emit("gather", v, block.args[0], dim=0) for v in scanned]
            for formal, value in zip(graph.inputs, [*block.args[2:], *slices], strict=True):
                self.slots[formal] = Slot(value=value, dtype=element_of(value.type))
            self.builder.yield_([block.args[1], *(self.value_of(s) for s in self.inline_region(graph))])
        return block

    @contextlib.contextmanager
    def inside(self, block: Block) -> Generator[None]:
        """Fill a region's block."""
        outer, self.builder = self.builder, Builder(self.module, block, loc=self.builder.loc)
        self.scopes.append(block)
        try:
            yield
        finally:
            self.scopes.pop()
            self.builder = outer

    def builder_before(self, op: Op) -> Builder:
        """A builder for ops in front of another one."""
        assert op.block is not None
        return Builder(self.module, op.block, op, op.loc)

    def add_constants(self, graph: onnx_ir.Graph) -> None:
        """The initializers of a subgraph."""
        for value in graph.initializers.values():
            if value.const_value is not None:
                self.slots[value] = Slot(dtype=dtype_of(value.const_value.dtype), tensor=value.const_value)

    # **** names ****

    def version(self, node: onnx_ir.Node) -> int:
        """The opset version that a node is read under."""
        if node.version is not None:
            return node.version
        return self.opsets.get(plain_domain(node.domain), 1)

    def location(self, node: onnx_ir.Node) -> Location:
        """The node's name, with the names of the function calls around it."""
        return Location("/".join([*self.path, node_name(node)]))


@contextlib.contextmanager
def _numbered(what: str) -> Generator[None]:
    """MAIA0228 for whatever importing stumbles over in a model that only looks like one."""
    try:
        yield
    except MaiaError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        message = f"{what}: {type(error).__name__}{': ' if reason else ''}{reason}"
        raise MaiaError(UNREADABLE, message) from error


def element_of(type: Type) -> DType | None:
    """The element type of a tensor type."""
    if not isinstance(type, TensorType):
        return None
    return type.dtype.storage if isinstance(type.dtype, Quantized) else type.dtype


def _trees(inputs: int, outputs: int) -> dict[str, str]:
    leaf = {"t": "leaf"}
    args = {"t": "tuple", "c": [leaf] * inputs}
    return {
        "in_tree": json.dumps({"t": "tuple", "c": [args, {"t": "dict", "k": [], "c": []}]}),
        "out_tree": json.dumps({"t": "list", "c": [leaf] * outputs}),
    }


__all__ = ["Importer", "import_onnx", "survey_onnx"]
