"""How kernels are found: an ordered list of providers, each asked for each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from maiac.ir.graph import Op


@dataclass(frozen=True, slots=True)
class Kernel:
    """A function of an operation's operands (by position) and attributes (by keyword).

    into: it also takes ``out=``, a tensor for its only result, or None. spelled: attributes that stand at their
    default must be passed too.
    """

    fn: Callable[..., Any]
    into: bool = False
    spelled: bool = False
    provider: str = ""


class Provider(Protocol):
    """A source of kernels."""

    name: str

    def find(self, op: Op) -> Kernel | None:
        """The kernel for this very operation (types and attributes included), or None."""
        ...


@dataclass
class Table:
    """A provider that is a table: operation name -> kernels, each with a guard; the first that applies is taken."""

    name: str
    rows: dict[str, list[tuple[Kernel, Callable[[Op], bool]]]] = field(
        default_factory=dict[str, "list[tuple[Kernel, Callable[[Op], bool]]]"]
    )

    def kernel(
        self, *names: str, into: bool = False, spelled: bool = False, when: Callable[[Op], bool] = lambda op: True
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function for these operations where ``when`` holds."""

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            for name in names:
                self.rows.setdefault(name, []).append((Kernel(fn, into, spelled, self.name), when))
            return fn

        return register

    def find(self, op: Op) -> Kernel | None:
        """The first row of this operation whose guard holds."""
        return next((kernel for kernel, when in self.rows.get(op.name, ()) if when(op)), None)


def default_providers() -> tuple[Provider, ...]:
    """The providers in order of preference."""
    from . import inplace, reference  # late: they name torch's functions

    return (inplace.TABLE, reference.Reference())


def find_kernel(op: Op, providers: Sequence[Provider]) -> Kernel:
    """The kernel of the first provider that has one; the reference has one for every operation."""
    for provider in providers:
        found = provider.find(op)
        if found is not None:
            return found
    raise AssertionError(f"no provider has a kernel for {op.name}; the reference stands last")
