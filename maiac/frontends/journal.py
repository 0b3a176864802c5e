"""What an importer meets on its way through a model: every operator with its places, and every fault.

An importer goes on after a fault, so that one error tells all of them (``Journal.check``), and ``maiac inspect`` shows
what else the model consists of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from maiac.ir.errors import InternalFault, Location, MaiaError

from .advice import advice_for

if TYPE_CHECKING:
    from maiac.ir import Op

INTERNAL = "MAIA0229"
# What is wrong with the whole comes before what is wrong with one use; our own faults come last.
_ORDER = ("MAIA0220", "MAIA0201", "MAIA0222", "MAIA0226")


@dataclass(frozen=True)
class Reproducer:
    """A small file that shows one fault: ``maiac-repro-<stem><suffix>``."""

    stem: str
    suffix: str
    content: bytes


Maker: TypeAlias = "Callable[[], Reproducer | None]"


@dataclass(frozen=True)
class Fault:
    """What is wrong with one use of an operator; ``why`` is empty where the operator itself is unknown.

    ``operator`` is empty where the fault is none of an operator. ``error`` is what is raised if nothing else is wrong.
    """

    operator: str
    why: str
    error: MaiaError
    make: Maker | None = None

    @property
    def loc(self) -> Location:
        """Where it is."""
        return self.error.loc or Location()


class CaptureError(MaiaError):
    """Everything that is wrong with a model, and how to make a reproducer for each kind of it."""

    cases: tuple[tuple[str, Maker], ...] = ()  # error number, what makes a file that shows it


class CaptureFault(CaptureError, InternalFault):
    """An importer broke: our fault."""


Describe: TypeAlias = Callable[[str, str, Sequence[Location]], str]  # operator, why, places -> one line


class Journal:
    """Operators and faults in the order in which they are met."""

    def __init__(self, describe: Describe) -> None:
        self.describe = describe
        self.places: dict[str, list[Location]] = {}
        self.faults: list[Fault] = []
        self.reached: set[str] = set()  # operators of which at least one use was imported
        self._origins: dict[int, tuple[Location, str]] = {}  # by identity: nodes of one line have equal locations

    def met(self, operator: str, loc: Location) -> None:
        """An operator of the source stands at a place."""
        self.places.setdefault(operator, []).append(loc)

    def origin(self, loc: Location, operator: str) -> None:
        """What is made under this very location object is made for an operator of the source."""
        self._origins[id(loc)] = (loc, operator)

    def operator_of(self, op: Op) -> str | None:
        """The operator of the source that an operation was made for."""
        _, operator = self._origins.get(id(op.loc), (None, None))
        return operator

    def fault(self, operator: str, why: str, error: MaiaError, make: Maker | None = None) -> None:
        """Something is wrong with one use of an operator."""
        self.faults.append(Fault(operator, why, error, make))

    def crash(self, code: str, operator: str, error: Exception, loc: Location, make: Maker | None = None) -> None:
        """The importer itself stumbled over an operator."""
        reason = " ".join(str(error).split())
        why = f"{type(error).__name__}{f': {reason}' if reason else ''}{_raised_at(error)}"
        fault = MaiaError(code, f"{operator}: {why}", loc=loc)
        fault.__cause__ = error
        self.fault(operator, why, fault, make)

    def groups(self) -> dict[tuple[str, str, str], list[Fault]]:
        """Faults by (error number, operator, why), the weightiest first."""
        found: dict[tuple[str, str, str], list[Fault]] = {}
        for fault in self.faults:
            found.setdefault((fault.error.code, fault.operator, fault.why), []).append(fault)
        return dict(sorted(found.items(), key=lambda item: _rank(item[0][0])))

    def check(self) -> None:
        """Raise one error that lists every fault; do nothing where there is none."""
        error = self.error()
        if error is not None:
            raise error from self.faults[0].error.__cause__

    def error(self) -> CaptureError | None:
        """The error that lists every fault."""
        groups = self.groups()
        if not groups:
            return None
        (lead, _, _), first = next(iter(groups.items()))
        cls = CaptureFault if lead == INTERNAL else CaptureError
        alone = first[0].error if len(groups) == 1 and lead not in _HEADLINES else None
        if alone is not None and len(first) == 1:
            made = cls(lead, alone.message, loc=alone.loc, details=alone.details, hint=alone.hint)
        else:
            details = [self._line(*key, faults, lead) for key, faults in groups.items()]
            loc = next((f.loc for f in first if f.loc != Location()), None)
            made = cls(lead, self._headline(lead, groups), loc=loc, details=details)
        made.cases = tuple((code, f.make) for (code, *_), (f, *_) in groups.items() if f.make is not None)
        return made

    def _line(self, code: str, operator: str, why: str, faults: Sequence[Fault], lead: str) -> str:
        line = self.describe(operator, why, [f.loc for f in faults]) if operator else why
        advice = advice_for(operator)
        return f"{line}{f'; {advice}' if advice else ''}{f' ({code})' if code != lead else ''}"

    def _headline(self, lead: str, groups: dict[tuple[str, str, str], list[Fault]]) -> str:
        counts = Counter(code for code, *_ in groups)
        places = sum(len(faults) for (code, *_), faults in groups.items() if code == lead)
        one, many = _HEADLINES.get(lead, ("a fault in the model", "{places} faults in the model"))
        text = (one if (counts[lead] if lead == "MAIA0220" else places) == 1 else many).format(
            operators=counts[lead], places=places
        )
        others = counts.total() - counts[lead]
        return f"{text}, and {others} other fault{'s' if others > 1 else ''}" if others else text


_HEADLINES = {
    "MAIA0201": ("an operation has no Maia form", "{places} operations of the model have no Maia form"),
    "MAIA0220": ("an operator of the model is not supported", "{operators} operators of the model are not supported"),
    "MAIA0222": ("external data of the model is not there", "external data of the model is not there"),
    "MAIA0226": (
        "the model has an input of a type that is not supported",
        "the model has inputs of types that are not supported",
    ),
    INTERNAL: ("maiac made a mistake at an operation", "maiac made a mistake at {places} operations"),
}


def _rank(code: str) -> int:
    """Where a kind of fault stands in the list."""
    return _ORDER.index(code) if code in _ORDER else len(_ORDER) + (code == INTERNAL)


def _raised_at(error: Exception) -> str:
    """``, raised at shape.py:12``: where our own code broke."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    file = trace.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f", raised at {file}:{trace.tb_lineno}"
