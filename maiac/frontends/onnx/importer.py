"""Graphs, subgraphs and functions of an ONNX model, walked in order into one IR function."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import onnx_ir

import onnx
from maiac.ir import Block, Builder, Dim, DimLike, DType, Function, Module, Op, Result, TensorType, Type, Value
from maiac.ir.dims import depth, symbols_of
from maiac.ir.errors import Location, MaiaError
from maiac.ir.types import Quantized

from . import handlers
from .context import NodeContext, Slot
from .functions import expansion
from .known import Known, fold
from .load import Source, load_model
from .registry import Handler, find_handler, plain_domain
from .types import DimTable, TransposedTensor, convert_type, dtype_of, static_shape, tensor_data

assert handlers  # importing them fills the table
DEEPEST = 64  # function calls inside function calls
SMALL = 8  # constants of up to this many elements are written in the text


def import_onnx(source: Source) -> Module:
    """The IR of an ONNX model: a ModelProto or the path of a file.

    Weights stay where they are: external data is memory-mapped, initializers are views of the model's bytes. Named
    dims become symbols. Inputs are main's parameters in order (initializers that are also inputs are weights);
    results are the graph's outputs. Errors: MAIA0220 to MAIA0226, every fault of a kind at once.
    """
    with _numbered("the model"):
        model = load_model(source)
        refuse_unsupported(model)
        return Importer(model).run()


class Importer:
    """Walks a model once. ``scopes`` are the blocks from the outermost to the one being filled."""

    def __init__(self, model: onnx_ir.Model) -> None:
        self.model = model
        self.opsets = {plain_domain(d): v for d, v in model.graph.opset_imports.items()}
        self.module = Module(model.graph.name or "main", {"convention": "onnx"})
        self.dim_table = DimTable(self.module)
        self.slots: dict[onnx_ir.Value, Slot] = {}
        self.function = self.module.add_function(Function("main"))
        self.scopes: list[Block] = [self.function.body]
        self.builder = Builder(self.module, self.function.body)
        self.path: list[str] = []  # names of the function calls that we are in

    def run(self) -> Module:
        """Import the main graph."""
        graph = self.model.graph
        self.add_initializers(graph)
        faults: list[str] = []
        for value in graph.inputs:
            if value not in self.slots:
                self.add_input(value, faults)
        if faults:
            raise MaiaError("MAIA0226", "the model has inputs of types that are not supported", details=faults)
        self.import_nodes(graph)
        outputs = [self.value_of(slot) for v in graph.outputs if (slot := self.slot(v)) is not None]
        self.builder.ret(outputs)
        self.module.attrs |= _trees(len(self.function.args), len(outputs))
        self.module.attrs["outputs"] = tuple(v.name or "" for v in graph.outputs)
        return self.module

    def add_input(self, value: onnx_ir.Value, faults: list[str]) -> None:
        """A graph input as a parameter of main."""
        try:
            type = convert_type(value.type, value.shape, self.dim_table, f"input {value.name!r}")
        except MaiaError as error:
            faults.append(error.message)
            return
        arg = self.function.body.add_arg(type, value.name or "")
        self.slots[value] = Slot(value=arg, dtype=element_of(type))

    def add_initializers(self, graph: onnx_ir.Graph) -> None:
        """Initializers as weights, made when first used; missing external data is reported all at once."""
        faults: list[str] = []
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                raise MaiaError("MAIA0223", f"initializer {name!r} has no contents")
            try:
                if isinstance(tensor, onnx_ir.ExternalTensor):
                    tensor_data(tensor)  # looks at the file, reads nothing
            except MaiaError as error:
                faults.append(error.message)
            self.slots[value] = Slot(dtype=dtype_of(tensor.dtype), tensor=tensor)
        if faults:
            raise MaiaError("MAIA0222", "external data of the model is not there", details=faults)

    # **** nodes ****

    def import_nodes(self, graph: Iterable[onnx_ir.Node], attrs: dict[str, onnx_ir.Attr] | None = None) -> None:
        """Import nodes in order; ``attrs`` are those of the function call they stand in."""
        for node in graph:
            with self.builder.at(self.location(node)), _numbered(node.op_type, self.location(node)):
                self.import_node(node, attrs or {})

    def import_node(self, node: onnx_ir.Node, outer: dict[str, onnx_ir.Attr]) -> None:
        """Fold a node, hand it to its handler, or expand it by its function body."""
        version = self.version(node)
        resolved = [_resolve(a, outer) for a in node.attributes.values()]
        attrs = {a.name: a for a in resolved if a is not None}
        c = NodeContext(self, node, version, attrs)
        if plain_domain(node.domain) == "" and (folded := fold(c)) is not None:
            self.define(node, (folded,))
            return
        key = (node.domain, node.op_type, node.overload)
        handler = None if key in self.model.functions else find_handler(node.domain, node.op_type, version)
        made = self.expand(c) if handler is None else self.handle(c, handler)
        self.define(node, made if isinstance(made, (tuple, list)) else (made,))

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
        outer = self.opsets
        self.opsets = {**self.opsets, **{plain_domain(d): v for d, v in function.opset_imports.items()}}
        defaults = {n: a for n, a in function.attributes.items() if a.value is not None}
        self.path.append(label)
        try:
            for i, formal in enumerate(function.inputs):
                self.slots.pop(formal, None)  # left from an earlier call of the same function
                if c.has(i):
                    self.slots[formal] = c.slot(i)
            self.import_nodes(function, {**defaults, **c.attrs})
            return [self.slots.get(v) for v in function.outputs]
        finally:
            self.path.pop()
            self.opsets = outer

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
        known = self.dim_table.known_dim(told)
        return have if known is None else known

    # **** values ****

    def slot(self, value: onnx_ir.Value) -> Slot | None:
        """The slot of an ONNX value; None for an optional formal input that the call does not give."""
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
        if slot.tensor is not None and slot.known is None:
            return self.constant(slot, slot.tensor)
        if slot.items is not None:
            made = self.builder.emit("sequence_construct", *(self.value_of(s) for s in slot.items))
        else:
            made = self.write_known(slot)
        slot.made[self.scopes[-1]] = made
        return made

    def constant(self, slot: Slot, tensor: onnx_ir.TensorProtocol) -> Value:
        """An initializer or Constant: a weight, or where it is small a constant in the text."""
        dtype = dtype_of(tensor.dtype)
        shape = static_shape(tensor)
        in_text = dtype.family in ("int", "uint", "bool") and dtype.bits >= 8 and dtype is not DType.U64
        if dtype in (DType.F32, DType.F64, DType.F16, DType.BF16) and tensor.size == 1:
            in_text = abs(float(tensor.numpy().reshape(-1)[0])) != float("inf")
        if in_text and tensor.size <= SMALL and not isinstance(tensor, onnx_ir.ExternalTensor):
            return self.write_constant(slot, tensor.numpy(), dtype)
        weight = self.module.add_weight(tensor.name or "const", TensorType(dtype, shape), tensor_data(tensor))
        slot.value = weight
        return weight

    def transposed_weight(self, slot: Slot) -> Value:
        """A matrix initializer as a weight with its dims swapped: a strided view of the same memory."""
        if slot.turned is None:
            tensor = slot.tensor
            assert tensor is not None
            rows, columns = static_shape(tensor)
            data = TransposedTensor(tensor_data(tensor))
            type = TensorType(dtype_of(tensor.dtype), (columns, rows))
            slot.turned = self.module.add_weight(f"{tensor.name or 'const'}.T", type, data)
        return slot.turned

    def write_constant(self, slot: Slot, array: Any, dtype: DType) -> Value:
        """A small constant in the text."""
        values = array.reshape(-1).tolist()
        content = values[0] if len(values) == 1 else tuple(values)
        made = self.builder.emit("constant", value=content, dtype=dtype, shape=tuple(array.shape))
        slot.made[self.scopes[-1]] = made
        return made

    def write_known(self, slot: Slot) -> Value:
        """Known dims as a tensor: a constant, or dims joined together."""
        array, dtype = slot.known, slot.dtype
        assert array is not None and dtype is not None
        items = [bool(v) if dtype is DType.BOOL else v for v in array.flat]
        if not any(isinstance(v, Dim) for v in items):
            content = items[0] if len(items) == 1 else tuple(items)
            return self.builder.emit("constant", value=content, dtype=dtype, shape=array.shape)
        parts = [self.builder.emit("dim_tensor", value=v, dtype=dtype) for v in items]
        if not array.ndim:
            return parts[0]
        rows = [self.builder.emit("reshape", p, shape=(1,)) for p in parts]
        flat = rows[0] if len(rows) == 1 else self.builder.emit("concat", *rows, dim=0)
        return flat if array.ndim == 1 else self.builder.emit("reshape", flat, shape=array.shape)

    # **** regions ****

    def import_region(self, graph: onnx_ir.Graph, args: Sequence[Type]) -> Block:
        """A subgraph as a region; it sees the values around it."""
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
        name = node.name or (node.outputs[0].name if node.outputs else "") or node.op_type
        return Location("/".join([*self.path, name]))


@contextlib.contextmanager
def _numbered(what: str, loc: Location | None = None) -> Generator[None]:
    """MAIA0228 for whatever importing stumbles over in a model that only looks like one."""
    try:
        yield
    except MaiaError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        message = f"{what}: {type(error).__name__}{': ' if reason else ''}{reason}"
        raise MaiaError("MAIA0228", message, loc=loc) from error


def element_of(type: Type) -> DType | None:
    """The element type of a tensor type."""
    if not isinstance(type, TensorType):
        return None
    return type.dtype.storage if isinstance(type.dtype, Quantized) else type.dtype


def _resolve(attr: onnx_ir.Attr, outer: dict[str, onnx_ir.Attr]) -> onnx_ir.Attr | None:
    """An attribute, or what the enclosing function call gives for it."""
    if not attr.is_ref():
        return attr
    given = outer.get(attr.ref_attr_name or "")
    return None if given is None else onnx_ir.Attr(attr.name, given.type, given.value)


def _trees(inputs: int, outputs: int) -> dict[str, str]:
    leaf = {"t": "leaf"}
    args = {"t": "tuple", "c": [leaf] * inputs}
    return {
        "in_tree": json.dumps({"t": "tuple", "c": [args, {"t": "dict", "k": [], "c": []}]}),
        "out_tree": json.dumps({"t": "list", "c": [leaf] * outputs}),
    }


def refuse_unsupported(model: onnx_ir.Model) -> None:
    """Raise MAIA0220 that lists every operator without handler and function body."""
    opsets = {plain_domain(d): v for d, v in model.graph.opset_imports.items()}
    found: Counter[tuple[str, str, int]] = Counter()
    first: dict[tuple[str, str, int], str] = {}
    for graph, versions in [(model.graph, opsets), *((f, _versions(f, opsets)) for f in model.functions.values())]:
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            domain = plain_domain(node.domain)
            version = node.version or versions.get(domain, 1)
            if (node.domain, node.op_type, node.overload) in model.functions or _supported(domain, node, version):
                continue
            key = (domain or "ai.onnx", node.op_type, version)
            found[key] += 1
            first.setdefault(key, node.name or (node.outputs[0].name or "" if node.outputs else ""))
    if found:
        details = [
            f"{d}.{name} (opset {v}): {n} node{'s' if n > 1 else ''}, first {first[d, name, v]!r}"
            for (d, name, v), n in sorted(found.items())
        ]
        raise MaiaError("MAIA0220", f"{len(found)} operators of the model are not supported", details=details)


def _versions(function: onnx_ir.Function, outer: dict[str, int]) -> dict[str, int]:
    return {**outer, **{plain_domain(d): v for d, v in function.opset_imports.items()}}


def _supported(domain: str, node: onnx_ir.Node, version: int) -> bool:
    if not onnx.defs.has(node.op_type, domain):
        return find_handler(domain, node.op_type, version) is not None
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        return False
    return (
        find_handler(domain, node.op_type, version) is not None
        or schema.has_function
        or schema.has_context_dependent_function
    )


__all__ = ["Importer", "import_onnx"]
