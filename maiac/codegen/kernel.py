"""A kernel: the text of a C++ function, with the memory and the sizes that one step gives it.

Sizes that are not 0 or 1 are arguments, so that layers of other sizes share the text, and with it the machine code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from maiac.ir.dims import DimLike, product
from maiac.ir.errors import Location
from maiac.ir.opdef import bytes_of

from .expr import C_TYPE, Unsupported
from .views import Buffer, View

MOST_POINTERS = 60  # of a kernel; run.cpp holds 64


@dataclass(frozen=True)
class Pointer:
    """An operand of a kernel: where it begins, and what the kernel does to it."""

    view: View
    reads: bool
    writes: bool


@dataclass
class Kernel:
    """One call of a kernel in a program.

    parts: what it calls of the kernel library. flops: as the definitions of the operations in it count them.
    """

    name: str
    body: str
    parts: tuple[str, ...]
    pointers: list[Pointer]
    sizes: list[DimLike]
    loc: Location
    flops: DimLike = 0
    bytes: DimLike = 0

    @property
    def symbol(self) -> str:
        """The function's name: kernels with one body are one function."""
        return f"k_{self.name}_{hashlib.sha256(self.body.encode()).hexdigest()[:12]}"

    @property
    def text(self) -> str:
        """The function."""
        head = f'extern "C" void {self.symbol}(void* const* p, const int64_t* s)'
        return f"{head} {{\n{self.body}}}\n"


@dataclass
class Writer:
    """Collects the text of a kernel and names its arguments."""

    lines: list[str] = field(default_factory=list[str])
    pointers: list[Pointer] = field(default_factory=list[Pointer])
    sizes: list[DimLike] = field(default_factory=list["DimLike"])
    declared: list[str] = field(default_factory=list[str])
    parts: list[str] = field(default_factory=list[str])
    _sizes: dict[DimLike, str] = field(default_factory=dict["DimLike", str])

    def pointer(self, view: View, *, writes: bool = False, reads: bool | None = None, c_type: str = "") -> str:
        """The name of a pointer to a view's first element."""
        if len(self.pointers) >= MOST_POINTERS:
            raise Unsupported("more operands than a kernel takes")
        name = f"p{len(self.pointers)}"
        self.pointers.append(Pointer(view, not writes if reads is None else reads, writes))
        c = c_type or C_TYPE[view.dtype]
        const = "" if writes else "const "
        self.declared.append(f"{const}{c}* __restrict {name} = ({const}{c}*)p[{len(self.pointers) - 1}];")
        return name

    def size(self, dim: DimLike) -> str:
        """The expression of a size."""
        if isinstance(dim, int) and dim in (0, 1):
            return str(dim)
        if dim not in self._sizes:
            name = self._sizes[dim] = f"s{len(self.sizes)}"
            self.declared.append(f"const int64_t {name} = s[{len(self.sizes)}];")
            self.sizes.append(dim)
        return self._sizes[dim]

    def product(self, dims: Sequence[DimLike]) -> str:
        """The expression of a product of sizes."""
        return " * ".join(self.size(d) for d in dims) or "1"

    def emit(self, text: str, depth: int = 1) -> None:
        """Append lines."""
        self.lines += ["    " * depth + line if line else "" for line in text.splitlines()]

    def call(self, text: str, *parts: str) -> None:
        """Append lines that call functions of these parts of the kernel library."""
        self.emit(text)
        self.parts += parts

    def kernel(self, name: str, loc: Location, flops: DimLike = 0, bytes: DimLike | None = None) -> Kernel:
        """What has been written. bytes: what it reads and writes, where that is not all that its pointers see."""
        body = "".join(f"    {line}\n" for line in self.declared) + "".join(f"{line}\n" for line in self.lines)
        moved = _traffic(self.pointers) if bytes is None else bytes
        return Kernel(name, body, tuple(self.parts), self.pointers, self.sizes, loc, flops, moved)


def _traffic(pointers: Sequence[Pointer]) -> DimLike:
    """Bytes read and written where every operand and every result passes once."""
    return sum((_bytes(view) for view in dict.fromkeys(p.view for p in pointers)), 0)


def _bytes(view: View) -> DimLike:
    """Bytes of the elements of a view, each once however often it is repeated; a packed weight's own."""
    if view.buffer.kind == "packed":
        weight, _ = view.buffer.source
        return bytes_of(weight.type, {})
    own = [d for d, s in zip(view.dims, view.strides, strict=True) if s != 0]
    return product(own) * (view.dtype.bits // 8)


def packed(buffer: Buffer) -> View:
    """A view of memory whose layout only its kernel knows."""
    return View(buffer, (buffer.size,), (1,))
