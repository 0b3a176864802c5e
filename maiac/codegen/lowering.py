"""Lowering: each step becomes views, or kernels that write into new buffers, by a handler for its operation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from maiac.ir.dims import DimLike, Symbol, product
from maiac.ir.dtypes import DType
from maiac.ir.errors import Location
from maiac.ir.graph import State, Weight
from maiac.ir.types import TensorType
from maiac.runtime.plan import Slot, Source, Step

from .expr import Unsupported, plain
from .kernel import Kernel, Writer, packed
from .loops import Place, Splat, map_kernel
from .views import Buffer, View, dense, require_equal

CHANNELS_LAST: dict[int, tuple[int, ...]] = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


@dataclass(frozen=True)
class Packing:
    """A weight in a kernel's own layout: the text of the function that makes it, with its sizes.

    p[0] is the weight, or its codes, with p[1] the scales and p[2] the zero points; p[3] is where the panels go. Called
    without p, the function gives the bytes that they take. parts: what it calls of the kernel library.
    """

    name: str
    body: str
    sizes: tuple[int, ...]
    parts: tuple[str, ...]

    @property
    def symbol(self) -> str:
        """The function's name."""
        return f"pack_{self.name}_{hashlib.sha256(self.body.encode()).hexdigest()[:12]}"

    @property
    def text(self) -> str:
        """The function."""
        return f'extern "C" int64_t {self.symbol}(void* const* p, const int64_t* s) {{\n{self.body}}}\n'


Handler = Callable[["Context", Step], None]
Home = Callable[[Slot, Sequence[int] | None], View]  # the place of a value that a larger one is joined from
HANDLERS: dict[str, Handler] = {}


def lowering(*names: str) -> Callable[[Handler], Handler]:
    """Register the decorated function for operations of these names."""

    def register(fn: Handler) -> Handler:
        for name in names:
            assert name not in HANDLERS, f"{name} is lowered twice"
            HANDLERS[name] = fn
        return fn

    return register


@dataclass
class Context:
    """What lowering knows: where values lie, the kernels so far, how weights are packed."""

    likely: dict[str, int]  # a likely size for each symbol, where only speed depends on it
    places: dict[Source, Place] = field(default_factory=dict[Source, Place])
    kernels: list[Kernel] = field(default_factory=list[Kernel])
    packings: dict[tuple[Weight, Packing], View] = field(default_factory=dict[tuple[Weight, Packing], View])
    homes: dict[Slot, Home] = field(default_factory=dict[Slot, Home])
    targets: dict[Slot, View] = field(default_factory=dict[Slot, View])  # tensors that are being joined in place
    direct: set[Slot] = field(default_factory=set[Slot])  # reads of states that need no copy
    updates: set[Slot] = field(default_factory=set[Slot])  # updates that may be made in a state's own memory
    declared: Mapping[str, Symbol] = field(default_factory=dict[str, Symbol])
    copies: dict[tuple[View, tuple[int, ...]], View] = field(default_factory=dict[tuple[View, tuple[int, ...]], View])
    loc: Location = field(default_factory=Location)
    flops: DimLike = 0  # of the step that is being lowered: whichever kernel does its arithmetic takes them

    # **** operands ****

    def place(self, value: Source | None) -> Place:
        """Where a value lies. Unsupported where native code cannot read it."""
        if value is None:
            raise Unsupported("an operand that is absent")
        if value not in self.places:
            assert isinstance(value, Weight), f"{value} has no place"
            type = plain(value.type)
            kind = "state" if isinstance(value, State) else "weight"
            buffer = Buffer(kind, type.element, product(type.dims), value.name, source=value)
            self.places[value] = View(buffer, type.dims, dense(type.dims))
        return self.places[value]

    def view(self, value: Source | None) -> View:
        """Where a value lies, in memory."""
        place = self.place(value)
        if isinstance(place, View):
            return place
        assert value is not None
        view = self.places[value] = self.filled(place)
        return view

    def filled(self, splat: Splat) -> View:
        """A tensor of one number, in memory."""
        view = self.new(splat.dtype, splat.dims)
        slot, w = Slot("filled", TensorType(splat.dtype, splat.dims)), Writer()
        map_kernel(w, {slot: splat}, {slot: view}, lambda body: None, 1, self.likely)
        self.add(w.kernel("fill", self.loc))
        return view

    def ordered(self, view: View, order: Sequence[int]) -> View:
        """The same tensor without gaps, its dims in this order; a copy unless it lies so already."""
        wanted = dense(view.dims, order)
        if all(d == 1 or a == b for d, a, b in zip(view.dims, view.strides, wanted, strict=True)):
            return View(view.buffer, view.dims, wanted, view.offset)  # a dim of 1 may have had any stride, as -1
        key = (view, tuple(order))
        if key not in self.copies or view.buffer.kind == "state":  # which may have changed since it was copied
            copy = self.new(view.dtype, view.dims, order)
            self.copy(view, copy)
            self.copies[key] = copy
        return self.copies[key]

    def contiguous(self, view: View) -> View:
        """The same tensor in row-major order."""
        return self.ordered(view, range(view.rank))

    # **** results ****

    def new(self, dtype: DType, dims: Sequence[DimLike], order: Sequence[int] | None = None) -> View:
        """A tensor in a buffer of its own."""
        return View(Buffer("arena", dtype, product(dims)), tuple(dims), dense(dims, order))

    def result(self, slot: Slot, order: Sequence[int] | None = None) -> View:
        """Memory for a step's result: its own, or its part of a larger tensor that will be joined from it."""
        type = plain(slot.type)
        home = self.homes.get(slot)
        view = home(slot, order) if home is not None else self.new(type.element, type.dims, order)
        self.places[slot] = view
        return view

    def add(self, kernel: Kernel) -> None:
        """Append a kernel."""
        self.kernels.append(kernel)

    def copy(self, source: View, target: View) -> None:
        """A kernel that copies elements, whatever the strides."""
        if source.rank > 8:
            raise Unsupported("more than 8 dims")
        for a, b in zip(source.dims, target.dims, strict=True):
            require_equal(a, b)
        w = Writer()
        to, of = w.pointer(target, writes=True, c_type="char"), w.pointer(source, c_type="char")
        dims = ", ".join(w.size(d) for d in source.dims) or "1"
        into, out_of = (", ".join(w.size(s) for s in v.strides) or "0" for v in (target, source))
        size = source.dtype.bits // 8
        w.emit(f"const int64_t dims[] = {{{dims}}}, into[] = {{{into}}}, out_of[] = {{{out_of}}};")
        w.call(f"copy_strided({size}, {max(source.rank, 1)}, dims, into, out_of, {to}, {of});", "move")
        self.add(w.kernel("copy", self.loc))

    def packed(self, weight: Weight, packing: Packing) -> View:
        """A weight in a kernel's own layout, made once when the program is prepared."""
        key = (weight, packing)
        if key not in self.packings:
            self.packings[key] = packed(Buffer("packed", DType.U8, 0, weight.name, source=(weight, packing)))
        return self.packings[key]


def numbers(dims: Sequence[DimLike]) -> tuple[int, ...]:
    """Dims that are all numbers; Unsupported otherwise."""
    found = tuple(d for d in dims if isinstance(d, int))
    if len(found) < len(dims):
        raise Unsupported("dims that only the run tells")
    return found
