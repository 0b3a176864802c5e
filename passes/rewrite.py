"""The rewrite engine: rules are pure functions in tables, tried at root ops of one name until nothing changes.

A rule takes the op and a ``Rewriter`` to build with, and gives the value (or the list of values) that takes the place
of the op's results, ``None`` where the op is none of its business, or a ``Miss`` that says why it nearly applied.
"""

from __future__ import annotations

import contextlib
import difflib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from maiac.ir import Block, Builder, DimLike, DType, Location, MaiaError, Module, Op, Result, Value, print_type
from maiac.ir.dims import substitute, symbols_of
from maiac.ir.types import Type, simplify_type, substitute_type, type_symbols

from .analysis import TERMINATORS, Effects, argument_symbols
from .base import PassFault
from .clone import clone_op
from .refine import refine, solve_types

# **** rules and why they missed ****


@dataclass(frozen=True, slots=True)
class Miss:
    """Why a rule did not apply, and the value that stands in its way."""

    reason: str
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """A miss at a place: what ``--why RULE`` lists."""

    rule: str
    op: str
    loc: Location
    reason: str
    value: str = ""

    def __str__(self) -> str:
        at = f" ({self.value})" if self.value else ""
        return f"{self.rule} at {self.op}, {self.loc}: {self.reason}{at}"


Outcome: TypeAlias = Value | Sequence[Value] | Miss | None
RuleFn: TypeAlias = Callable[[Op, "Rewriter"], Outcome]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rewrite rule: its name, the names of the ops it starts from, and the function."""

    name: str
    roots: tuple[str, ...]
    fn: RuleFn


_NAMES: dict[str, str] = {}  # what --why can ask about -> what it does
_COLLECTING: ContextVar[tuple[str, list[Missed]] | None] = ContextVar("collecting", default=None)


def explainable(name: str, doc: str) -> None:
    """Let ``--why`` ask about something that notes its misses without being a rule."""
    _NAMES[name] = doc


def rule(*roots: str, table: list[Rule]) -> Callable[[RuleFn], Rule]:
    """Put a function into a table as the rule of its name, tried at ops of these names."""

    def define(fn: RuleFn) -> Rule:
        name = fn.__name__
        assert name not in _NAMES, f"two rules are called {name}"
        explainable(name, (fn.__doc__ or "").strip())
        made = Rule(name, roots, fn)
        table.append(made)
        return made

    return define


def rule_names() -> dict[str, str]:
    """The names that ``--why`` takes, with what each does."""
    from .base import pass_names

    pass_names()
    return dict(sorted(_NAMES.items()))


@contextlib.contextmanager
def collect_misses(name: str) -> Generator[list[Missed]]:
    """While inside, gather why a rule did not apply; MAIA0306 where there is no such rule."""
    known = rule_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"the rules are {', '.join(known)}"
        raise MaiaError("MAIA0306", f"there is no rewrite rule {name!r}", hint=hint)
    found: list[Missed] = []
    token = _COLLECTING.set((name, found))
    try:
        yield found
    finally:
        _COLLECTING.reset(token)


def note_miss(name: str, op: Op, miss: Miss) -> None:
    """Keep a miss if somebody asks about this rule; the same miss at the same place is kept once."""
    asked = _COLLECTING.get()
    if asked is None or asked[0] != name:
        return
    value = "" if miss.value is None else f"%{miss.value.name or '?'}: {print_type(miss.value.type)}"
    missed = Missed(name, op.name, op.loc, miss.reason, value)
    if missed not in asked[1]:
        asked[1].append(missed)


# **** building ****


class Rewriter:
    """What a rule builds with: new ops stand before the root and carry its location."""

    def __init__(self, module: Module, root: Op) -> None:
        assert root.block is not None
        self.module = module
        self.root = root
        self.made: list[Op] = []
        self.solved: dict[str, DimLike] = {}
        self._builder = Builder(module, root.block, root, root.loc)

    def emit(self, name: str, *operands: Value | None, **attrs: Any) -> Result:
        """Make an op with one result."""
        return self.emit_op(name, operands, attrs).result

    def emit_op(
        self,
        name: str,
        operands: Sequence[Value | None] = (),
        attrs: Mapping[str, Any] | None = None,
        regions: Sequence[Block] = (),
    ) -> Op:
        """Make an op; its result types are inferred."""
        op = self._builder.emit_op(name, operands, attrs, regions)
        self.made.append(op)
        return op

    def like(self, op: Op, operands: Sequence[Value | None]) -> Result:
        """Make the same op of other operands."""
        return self.emit_op(op.name, operands, op.attrs).result

    def constant(self, value: Any, dtype: DType, shape: tuple[int, ...] = ()) -> Result:
        """Make a constant."""
        return self.emit("constant", value=value, dtype=dtype, shape=shape)

    def inline(self, region: Block, operands: Sequence[Value]) -> list[Value]:
        """Copy a region's ops before the root; the values that it yields."""
        mapping: dict[Value, Value] = dict(zip(region.args, operands, strict=True))
        assert self.root.block is not None
        for op in region:
            if op.name == "yield":
                return [mapping.get(v, v) for v in op.operands if v is not None]
            copy = self.root.block.insert(clone_op(op, mapping), self.root)
            self.made += copy.walk()
        raise AssertionError("a region ends with yield")

    def solve(self, symbol: str, dim: DimLike) -> None:
        """Say what a symbol that an op binds is known to be; it is replaced everywhere if the rule applies."""
        self.solved[symbol] = dim


# **** the driver ****


def rewrite(module: Module, rules: Iterable[Rule]) -> bool:
    """Apply rules anywhere in a module until none applies; true if one did.

    Ops that nobody needs any more go on the way. PassFault (MAIA0302) names the rules where they do not settle.
    """
    return _Driver(module, rules).run()


class _Driver:
    """A worklist of ops, first to last; whatever a rule touches comes back into it."""

    def __init__(self, module: Module, rules: Iterable[Rule]) -> None:
        self.module = module
        self.by_root: dict[str, list[Rule]] = {}
        for each in rules:
            for root in each.roots:
                self.by_root.setdefault(root, []).append(each)
        self.effects = Effects(module)
        self.fixed = argument_symbols(module)
        self.queue: deque[Op] = deque()
        self.queued: set[Op] = set()
        self.solved: dict[str, DimLike] = {}
        self.applied: list[str] = []
        self.changed = False

    def run(self) -> bool:
        """Rewrite to the fixpoint."""
        limit = 1024 + 32 * self.push_all()
        while True:
            while self.queue:
                self.visit(self.pop())
                if len(self.applied) > limit:
                    self.endless()
            if not self.solved:
                return self.changed
            refine(self.module, self.solved)
            self.solved = {}
            self.push_all()

    def visit(self, op: Op) -> None:
        """Erase a dead op; otherwise apply the first rule that matches."""
        if op.block is None or op.name in TERMINATORS:
            return
        if self.is_dead(op):
            self.push_producers(op)
            op.erase()
            self.changed = True
            return
        for each in self.by_root.get(op.name, ()):
            if self.attempt(each, op):
                return

    def attempt(self, each: Rule, op: Op) -> bool:
        """Try one rule; true if it applied. What it built is taken back if not."""
        b = Rewriter(self.module, op)
        symbols = set(self.module.symbols)
        try:
            outcome = each.fn(op, b)
        except MaiaError:
            # Between the solution of a symbol and its replacement, types may disagree: the op comes again after it.
            if not self.solved:
                raise
            outcome = None
        if outcome is None or isinstance(outcome, Miss):
            for made in reversed(b.made):
                if made.block is not None:
                    made.erase()
            for name in self.module.symbols.keys() - symbols:
                del self.module.symbols[name]
            if outcome is not None:
                note_miss(each.name, op, outcome)
            return False
        values = [outcome] if isinstance(outcome, Value) else list(outcome)
        self.accept(each, op, values, b)
        return True

    def accept(self, each: Rule, op: Op, values: Sequence[Value], b: Rewriter) -> None:
        """Put the values in place of the op's results."""
        for old, new in zip(op.results, values, strict=True):
            self.check_type(each, old, new)
            for user in old.uses:
                self.push(user)
        for name, dim in b.solved.items():
            self.learn(each, name, dim)
        self.push_producers(op)
        op.replace(values)
        for made in b.made:
            self.push(made)
        self.applied.append(each.name)
        self.changed = True

    def check_type(self, each: Rule, old: Value, new: Value) -> None:
        """The types are equal, or the new one says more of dims that only the run told before."""
        if old.type == new.type:
            return
        have, want = self.known(new.type), self.known(old.type)
        found = {} if have == want else solve_types(want, have)
        if found is None:
            raise PassFault("MAIA0302", f"the rule {each.name} gives {new.type} for {old.type}")
        for name, dim in found.items():
            self.learn(each, name, dim)

    def known(self, type: Type) -> Type:
        """A type with what is known of its symbols by now."""
        return simplify_type(substitute_type(type, self.solved), self.module.symbols)

    def learn(self, each: Rule, name: str, dim: DimLike) -> None:
        """Remember what a symbol is, in terms of symbols that are not known."""
        if name in self.fixed:
            raise PassFault("MAIA0302", f"the rule {each.name} sets {name} = {dim}, which the caller chooses")
        dim = substitute(dim, self.solved)
        if name in self.solved or name in symbols_of(dim):
            return
        self.solved = {k: substitute(v, {name: dim}) for k, v in self.solved.items()} | {name: dim}

    def is_dead(self, op: Op) -> bool:
        """Nobody uses the results, nothing else happens, and no symbol is bound by running it."""
        if not op.results or any(r.uses for r in op.results) or not self.effects.removable(op):
            return False
        known = {s for v in op.operands if v is not None for s in type_symbols(v.type)}
        return all(type_symbols(r.type) <= known for r in op.results)

    def push_all(self) -> int:
        """Queue every op; how many there are."""
        for op in self.module.walk():
            self.push(op)
        return len(self.queue)

    def push(self, op: Op) -> None:
        """Queue an op once."""
        if op not in self.queued:
            self.queued.add(op)
            self.queue.append(op)

    def push_producers(self, op: Op) -> None:
        """Queue the ops that make an op's operands, and those in its regions."""
        for inner in op.walk():
            for value in inner.operands:
                if isinstance(value, Result):
                    self.push(value.op)
                    for user in value.uses:
                        self.push(user)

    def pop(self) -> Op:
        """The next op."""
        op = self.queue.popleft()
        self.queued.discard(op)
        return op

    def endless(self) -> None:
        """Name the rules that went round last."""
        rules = Counter(self.applied[-64:]).most_common(4)
        names = ", ".join(name for name, _ in rules)
        raise PassFault("MAIA0302", f"rewriting does not end; the rules that go round: {names}")
