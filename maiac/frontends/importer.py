"""Walks a traced graph (torch.fx over ATen) node by node and emits Maia operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import fx

from maiac.ir.builder import Builder
from maiac.ir.dims import Dim, DimLike
from maiac.ir.dtypes import DType
from maiac.ir.errors import Location, MaiaError
from maiac.ir.graph import Block, Module, Result, Value, Weight
from maiac.ir.ops.values import FROM_TORCH
from maiac.ir.types import TensorType
from maiac.runtime.weights import HeldTensor, MetaTensor

from .aten import handlers
from .aten.registry import Unsupported
from .journal import INTERNAL, Journal
from .locations import location_of
from .reproducer import key_of, reproducer_of
from .symbols import LEAST, NoDim, Symbols

Number = bool | int | float


class Context:
    """What a handler works with: the builder, the node at hand, and helpers that speak torch's terms."""

    def __init__(self, importer: Importer, builder: Builder) -> None:
        self.importer = importer
        self.builder = builder
        self.symbols = importer.symbols
        self.node: fx.Node = None  # type: ignore[assignment]  # set before each handler runs

    # **** emitting ****

    def emit(self, name: str, *operands: Any, **attrs: Any) -> Value:
        """Append an op with one result."""
        return self.builder.emit(name, *operands, **attrs)

    def emit_all(self, name: str, *operands: Any, **attrs: Any) -> tuple[Value, ...]:
        """Append an op with several results."""
        return tuple(self.builder.emit_op(name, operands, attrs).results)

    # **** what torch says about the node ****

    @property
    def val(self) -> Any:
        """The fake tensor (or tuple, or symbolic number) that torch traced for this node."""
        return self.node.meta["val"]

    @property
    def name(self) -> str:
        """The operation's name without namespace and overload: ``add`` of ``aten.add.Tensor``."""
        return key_of(self.node.target).partition("::")[2].partition(".")[0]

    def shape(self, index: int | None = None) -> tuple[DimLike, ...]:
        """The dims of the node's result, or of its ``index``-th one."""
        val = self.val if index is None else self.val[index]
        return tuple(self.symbols.dim(d) for d in val.shape)

    @property
    def dtype(self) -> DType:
        """The dtype of the node's (first) result."""
        val = self.val[0] if isinstance(self.val, (tuple, list)) else self.val
        return from_torch(val.dtype)

    def strides_of(self, index: int) -> tuple[DimLike, ...]:
        """The strides that torch traced for the node's ``index``-th argument."""
        source = self.node.args[index]
        assert isinstance(source, fx.Node)
        return tuple(self.symbols.dim(s) for s in source.meta["val"].stride())

    def offset_of(self, index: int) -> DimLike:
        """Where in its storage torch traced the node's ``index``-th argument to begin."""
        source = self.node.args[index]
        assert isinstance(source, fx.Node)
        return self.symbols.dim(source.meta["val"].storage_offset())

    # **** values ****

    def scalar(self, number: Any, like: Value | None = None) -> Value:
        """A rank-0 tensor of a Python or symbolic number; beside a rank-0 tensor it takes that one's dtype."""
        if isinstance(number, Value):
            return number
        if isinstance(number, Dim):
            return self.emit("dim_tensor", value=number)
        if isinstance(number, complex):
            raise Unsupported("a complex number as an operand")
        dtype = {bool: DType.BOOL, int: DType.I64}.get(type(number), DType.F64)
        if like is not None and type_of(like).rank == 0:
            example = torch.empty((), dtype=to_torch(type_of(like).element))
            dtype = from_torch(torch.result_type(example, number))
        return self.emit("constant", value=number, dtype=dtype)

    def operands(self, *values: Any) -> list[Value]:
        """Tensors as they are, numbers as rank-0 tensors."""
        like = next((v for v in values if is_tensor(v)), None)
        return [self.scalar(v, like) for v in values]

    def cast(self, x: Value, dtype: DType) -> Value:
        """x in another dtype; x itself where it has that already."""
        return x if type_of(x).dtype == dtype else self.emit("cast", x, to=dtype)

    def reshape(self, x: Value, shape: Sequence[DimLike]) -> Value:
        """x under other dims; x itself where they are equal."""
        return x if type_of(x).dims == tuple(shape) else self.emit("reshape", x, shape=tuple(shape))

    def expand(self, x: Value, shape: Sequence[DimLike]) -> Value:
        """x broadcast to a shape; x itself where it has that."""
        return x if type_of(x).dims == tuple(shape) else self.emit("expand", x, shape=tuple(shape))

    def full(self, value: Number, shape: Sequence[DimLike], dtype: DType) -> Value:
        """A tensor of one number."""
        if dtype is DType.BOOL:
            value = bool(value)
        return self.emit("full", value=value, dtype=dtype, shape=tuple(shape))

    def as_dim(self, value: Any, least: int = LEAST) -> DimLike:
        """A Python integer, or the element of an integer tensor bound to a fresh symbol that is ``least`` or more."""
        if isinstance(value, (int, Dim)):
            return value
        symbol = self.importer.module.fresh_symbol(low=least)
        dim = self.symbols_dim(symbol.name)
        self.builder.emit_op("bind", (value,), {"to": (dim,)})
        return dim

    def symbols_dim(self, name: str) -> Dim:
        """The dim of a declared symbol."""
        from maiac.ir.dims import sym

        return sym(name)


def type_of(value: Value) -> TensorType:
    """The tensor type of a value."""
    assert isinstance(value.type, TensorType), f"{value} is not a tensor"
    return value.type


def is_tensor(value: Any) -> TypeGuard[Value]:
    """Whether a resolved argument is a tensor value."""
    return isinstance(value, Value) and isinstance(value.type, TensorType)


def from_torch(dtype: torch.dtype) -> DType:
    """The IR dtype of a torch dtype."""
    found = FROM_TORCH.get(dtype)
    if found is None:
        raise Unsupported(f"dtype {dtype}")
    return found


def to_torch(dtype: DType) -> torch.dtype:
    """The torch dtype of an IR dtype."""
    from maiac.ir.ops.values import to_torch as convert

    return convert(dtype)


def wider(dtype: DType) -> DType:
    """What eager sums numbers of half precision in; other dtypes as they are."""
    return DType.F32 if dtype in (DType.F16, DType.BF16) else dtype


class Importer:
    """One graph into one block. Faults are gathered in ``journal``, which raises them together."""

    def __init__(self, module: Module, symbols: Symbols) -> None:
        self.module = module
        self.symbols = symbols
        self.journal = Journal(_fault_line)
        self.unknown: set[fx.Node] = set()  # faulty nodes that give numbers; what reads them is not to blame
        self.constants: dict[Any, Weight] = {}

    def run(self, graph: fx.Graph, owner: torch.nn.Module, block: Block, inputs: Mapping[fx.Node, Any]) -> Any:
        """Emit the graph's nodes at the end of ``block`` and return the (nested) values of its output node."""
        context = Context(self, Builder(self.module, block))
        env: dict[fx.Node, Any] = dict(inputs)
        for node in graph.nodes:
            if node.op == "output":
                return fx.map_arg(node.args[0], lambda n: env[n])
            if node in env:
                continue
            env[node] = self.import_node(context, node, env, owner)
        raise AssertionError("a graph without output")

    def import_node(self, context: Context, node: fx.Node, env: Mapping[fx.Node, Any], owner: torch.nn.Module) -> Any:
        """The value of one node; a fault is recorded and stands in for its value."""
        if not self.unknown.isdisjoint(node.all_input_nodes):
            return self.stand_in(node)
        loc = location_of(node)
        key = key_of(node.target)
        if node.op == "call_function" and not key.startswith("python::"):
            self.journal.met(key, loc)
            self.journal.origin(loc, key)
        try:
            with context.builder.at(loc):
                value = self.value_of(context, node, env, owner)
            self.journal.reached.add(key)
            return value
        except (Unsupported, NoDim) as miss:
            return self.fault(node, key, str(miss))
        except MaiaError as error:
            return self.fault(node, key, error.message)
        except Exception as error:
            self.journal.crash(INTERNAL, key, error, loc, reproducer_of(node))
            return self.stand_in(node)

    def value_of(self, context: Context, node: fx.Node, env: Mapping[fx.Node, Any], owner: torch.nn.Module) -> Any:
        """The value of one node, by its handler."""
        if node.op == "get_attr":
            found = _attribute(owner, str(node.target))
            return self.tensor_constant(found, str(node.target)) if isinstance(found, torch.Tensor) else found
        if _only_asserted(node):
            return None
        known = self.symbolic(node)
        if known is not None:
            return known
        handler = handlers().get(key_of(node.target))
        if handler is None:
            raise Unsupported
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: env[n])
        context.node = node
        args, kwargs = _by_position(node.target, self.resolve(args), self.resolve(kwargs))
        return self.settle(context, node, handler(context, *args, **kwargs))

    def symbolic(self, node: fx.Node) -> Any:
        """A SymInt node is a dim expression, unless the run alone tells it; other nodes: None."""
        val = node.meta.get("val")
        if isinstance(val, int):
            return val
        if not isinstance(val, torch.SymInt) or node.target is torch.ops.aten._local_scalar_dense.default:
            return None
        try:
            return self.symbols.dim(val)
        except NoDim:
            return None

    def tensor_constant(self, tensor: torch.Tensor, name: str) -> Value:
        """A tensor that the trace holds; the same storage seen twice is one weight."""
        type = TensorType(from_torch(tensor.dtype), tuple(tensor.shape))
        key = storage_key(tensor)
        if key not in self.constants:
            self.constants[key] = self.module.add_weight(name, type, weight_data(tensor))
        return self.constants[key]

    def resolve(self, arg: Any) -> Any:
        """fx arguments after substitution: symbolic numbers become dims, immutable lists plain ones."""
        if isinstance(arg, (list, tuple)):
            return [self.resolve(a) for a in arg]
        if isinstance(arg, dict):
            return {k: self.resolve(v) for k, v in arg.items()}
        return arg

    def settle(self, context: Context, node: fx.Node, value: Any) -> Any:
        """Name the results after the node, and give their dims the form that torch found for them."""
        val = node.meta.get("val")
        if isinstance(value, (tuple, list)) and isinstance(val, (tuple, list)):
            return tuple(
                self._settle_one(context, v, t, f"{node.name}_{i}")
                for i, (v, t) in enumerate(zip(value, val, strict=False))
            )
        return self._settle_one(context, value, val, node.name)

    def _settle_one(self, context: Context, value: Any, val: Any, name: str) -> Any:
        if value is None and isinstance(val, torch.Tensor) and tuple(val.shape) == (0,):
            return context.full(0, (0,), from_torch(val.dtype))  # what torch gives for a result that is not wanted
        if not is_tensor(value) or not isinstance(val, torch.Tensor):
            return value
        if not value.name:
            value.name = name
        type = type_of(value)
        assert type.rank == val.ndim, f"{name}: {type} for {tuple(val.shape)}"
        assert type.element is from_torch(val.dtype), f"{name}: {type} for {val.dtype}"
        for have, size in zip(type.dims, val.shape, strict=True):
            if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
                self.symbols.adopt(str(size.node.expr), have)
        wanted = tuple(self.symbols.dim(d) for d in val.shape)
        if wanted == type.dims:
            return value
        if all(a == b or self._fresh(a) for a, b in zip(type.dims, wanted, strict=True)):
            return self._retype(value, wanted)
        return context.emit("reshape", value, shape=wanted)

    def _fresh(self, dim: DimLike) -> bool:
        """Whether a dim is just a symbol that inference made up and torch does not know."""
        return isinstance(dim, Dim) and str(dim) in self.module.symbols and dim not in self.symbols.known.values()

    def _retype(self, value: Value, dims: tuple[DimLike, ...]) -> Value:
        """Put torch's dims in the place of made-up symbols, which go, from all results of the operation."""
        told = {have: dim for have, dim in zip(type_of(value).dims, dims, strict=True) if have != dim}
        for symbol in told:
            self.module.symbols.pop(str(symbol), None)
        for result in value.op.results if isinstance(value, Result) else (value,):
            type = type_of(result)
            result.type = type.with_dims(tuple(told.get(d, d) for d in type.dims))
        return value

    def fault(self, node: fx.Node, key: str, why: str) -> Any:
        """Record what has no Maia form; a value of the traced type stands in, so that the rest is looked at too."""
        error = MaiaError("MAIA0201", f"{key} has no Maia form", loc=location_of(node))
        self.journal.fault(key, why, error, reproducer_of(node))
        return self.stand_in(node)

    def stand_in(self, node: fx.Node) -> Any:
        """A value of the type that torch traced for a node."""
        val = node.meta.get("val")
        if not isinstance(val, (torch.Tensor, tuple, list)):
            self.unknown.add(node)
        return self._stand_in(val)

    def _stand_in(self, val: Any) -> Any:
        if isinstance(val, (tuple, list)):
            return tuple(self._stand_in(v) for v in val)
        if not isinstance(val, torch.Tensor):
            return None
        try:
            return Value(TensorType(from_torch(val.dtype), tuple(self.symbols.dim(d) for d in val.shape)))
        except (NoDim, Unsupported):
            return Value(TensorType(DType.F32, (1,) * val.ndim))


def _fault_line(key: str, why: str, places: Sequence[Location]) -> str:
    name = key.removeprefix("aten::")
    shown = ", ".join(dict.fromkeys(map(str, places[:3])))
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"{name}{f' ({why})' if why else ''}: {len(places)}x at {shown}{more}"


def _attribute(owner: Any, path: str) -> Any:
    for name in path.split("."):
        owner = getattr(owner, name)
    return owner


def _only_asserted(node: fx.Node) -> bool:
    """Whether an operator on symbols feeds nothing but assertions, which write the condition themselves."""
    if not isinstance(node.meta.get("val"), (torch.SymBool, bool)) or not key_of(node.target).startswith("python::"):
        return False
    return all(u.target is torch.ops.aten._assert_scalar.default or _only_asserted(u) for u in node.users)


def _by_position(target: Any, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments that the schema lets stand by position, there; only keyword-only ones stay in kwargs."""
    schema = getattr(target, "_schema", None)
    if schema is None or not kwargs:
        return args, kwargs
    places = [a for a in schema.arguments if not a.kwarg_only]
    wanted = [i for i, a in enumerate(places) if a.name in kwargs]
    for place in places[len(args) : max(wanted, default=-1) + 1]:
        args = [*args, kwargs.get(place.name, place.default_value)]
    names = {a.name for a in places}
    return args, {k: v for k, v in kwargs.items() if k not in names}


def storage_key(tensor: Any) -> Any:
    """Equal for two tensors that show the same elements of one storage."""
    if not isinstance(tensor, torch.Tensor):
        return id(tensor)
    storage = tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def weight_data(tensor: torch.Tensor) -> HeldTensor | MetaTensor:
    """The lazy contents of a traced parameter: the tensor itself, never a copy."""
    if tensor.device.type == "meta":
        return MetaTensor(tensor.dtype, tuple(tensor.shape))
    return HeldTensor(tensor.detach())
