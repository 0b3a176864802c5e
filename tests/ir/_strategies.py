"""Hypothesis strategies for parts of the IR: dims, types, attributes, names, locations, whole modules."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from maiac.ir import DimType, DType, Location, Module, OptionalType, Quantized, SequenceType, Symbol, TensorType
from maiac.ir.dims import DimLike, floordiv, maximum, minimum, mod, sym
from maiac.ir.graph import Block, Function, Op, Ref, Value
from maiac.ir.types import Type

SYMBOLS = ("T", "B", "s0", "in", "func", "step")
AXES = ("tp", "pp", "dp")


def dims(depth: int = 2) -> st.SearchStrategy[DimLike]:
    """Expressions over SYMBOLS, as deep as a model makes them."""
    leaf = st.one_of(st.integers(0, 2**40), st.sampled_from(SYMBOLS).map(sym))
    if not depth:
        return leaf
    below = dims(depth - 1)
    pair = st.tuples(below, below)
    divided = st.tuples(below, st.integers(1, 64))
    return st.one_of(
        leaf,
        pair.map(lambda p: p[0] + p[1]),
        pair.map(lambda p: p[0] - p[1]),
        st.tuples(below, st.integers(-8, 8)).map(lambda p: p[0] * p[1]),
        st.tuples(below, leaf).map(lambda p: p[0] * p[1]),
        divided.map(lambda p: floordiv(*p)),
        divided.map(lambda p: mod(*p)),
        st.tuples(below, st.sampled_from(SYMBOLS).map(sym)).map(lambda p: floordiv(*p)),
        pair.map(lambda p: minimum(*p)),
        pair.map(lambda p: maximum(*p)),
    ).filter(lambda d: len(str(d)) < 200)


def dtypes() -> st.SearchStrategy[DType]:
    """Every element type."""
    return st.sampled_from(list(DType))


@st.composite
def quantized(draw: st.DrawFn) -> Quantized:
    """Every granularity."""
    per = draw(st.sampled_from(["tensor", "channel", "token", "group", "block", "mx"]))
    count = {"channel": 1, "group": 1, "block": 2}.get(per, 0)
    at = tuple(draw(st.integers(0 if per == "channel" else 1, 256)) for _ in range(count))
    storage = draw(st.sampled_from([d for d in DType if d.is_integer or d.is_float]))
    scale = draw(st.sampled_from([d for d in DType if d.is_float]))
    return Quantized(storage, per, at, scale, draw(st.booleans()))


@st.composite
def tensors(draw: st.DrawFn) -> TensorType:
    """Tensor types with any element type, dims and sharding."""
    shape = draw(st.lists(dims(1), max_size=3))
    axes = st.lists(st.sampled_from(AXES), max_size=2, unique=True).map(tuple)
    return TensorType(
        draw(st.one_of(dtypes(), quantized())), tuple(shape), tuple(draw(axes) for _ in shape), draw(axes)
    )


def types() -> st.SearchStrategy[Type]:
    """Every kind of type."""
    leaf: st.SearchStrategy[Type] = st.one_of(tensors(), dims().map(DimType))
    return st.recursive(leaf, lambda t: st.one_of(t.map(SequenceType), t.map(OptionalType)), max_leaves=4)


def texts() -> st.SearchStrategy[str]:
    """Any text: unicode, quotes, line breaks, control characters, what looks like keywords."""
    odd = st.sampled_from(["f32", "true", "none", "inf", "T", "at", "_", "", 'a"b', "a\n", "%x", "@y", "é", "\ud800"])
    return st.one_of(st.text(max_size=12), odd)


def attributes() -> st.SearchStrategy[Any]:
    """Every kind of attribute."""
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False),
        texts(),
        dtypes(),
        dims(1),
        texts().filter(bool).map(Ref),
    )
    return st.recursive(leaf, lambda a: st.lists(a, max_size=3).map(tuple), max_leaves=6)


def names() -> st.SearchStrategy[str]:
    """What an attribute may be called."""
    return st.from_regex(r"\A[A-Za-z_][A-Za-z_0-9]{0,8}\Z")


def locations() -> st.SearchStrategy[Location]:
    """With and without file."""
    return st.builds(Location, texts(), texts(), st.integers(0, 10**6))


@st.composite
def modules(draw: st.DrawFn) -> Module:
    """Modules that the text can hold: names, types and structure at random, so not valid ones."""
    attrs = st.dictionaries(names(), attributes(), max_size=3)
    module = Module(draw(texts()), draw(attrs))
    for axis in AXES:
        module.mesh[axis] = draw(st.one_of(st.none(), st.integers(1, 64)))
    for name in SYMBOLS:
        low = draw(st.integers(-5, 5))
        module.symbols[name] = Symbol(
            name, low, draw(st.one_of(st.none(), st.integers(low, 99))), draw(st.integers(1, 3))
        )
    for name in draw(st.lists(texts(), max_size=3)):
        add = module.add_state if draw(st.booleans()) else module.add_weight
        add(name, draw(types())).attrs.update(draw(attrs))
    for name in draw(st.lists(texts(), max_size=2, unique=True)):
        stage = draw(st.one_of(st.none(), st.tuples(st.sampled_from(AXES), st.integers(0, 9))))
        function = Function(name, draw(st.lists(types(), max_size=2)), draw(st.lists(types(), max_size=2)), stage=stage)
        function.attrs, function.loc = draw(attrs), draw(locations())
        module.add_function(function)
        fill(draw, function.body, [*module.weights.values(), *module.states.values()], 2)
    return module


def fill(draw: st.DrawFn, block: Block, seen: list[Value], depth: int) -> None:
    """Ops at random in a block, with regions."""
    seen = [*seen, *block.args]
    for arg in block.args:
        arg.name = draw(texts())
    for _ in range(draw(st.integers(0, 3))):
        operands = draw(st.lists(st.sampled_from([None, *seen]), max_size=3))
        op = Op(
            draw(st.sampled_from(["add", "linear", "f32", "weight", "return", "min"])),
            operands,
            draw(st.dictionaries(names(), attributes(), max_size=2)),
            draw(st.lists(types(), max_size=2)),
            loc=draw(locations()),
        )
        for result in op.results:
            result.name = draw(texts())
        for _ in range(draw(st.integers(0, 2)) if depth else 0):
            region = Block(draw(st.lists(types(), max_size=2)))
            op.add_region(region)
            fill(draw, region, seen, depth - 1)
        block.append(op)
        seen = [*seen, *op.results]
