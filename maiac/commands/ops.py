"""``maiac ops``"""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from ..console import JsonFlag, emit, out, table


def ops(
    name: Annotated[str, typer.Argument(help="An operation to describe; nothing lists all.")] = "",
    json: JsonFlag = False,
) -> None:
    """List the operations of Maia IR, or describe one."""
    from ..ir import get_op, op_names

    if name:
        found = get_op(name)
        emit(_plain(found)) if json else _describe(found)
        return
    if json:
        emit({n: _plain(get_op(n)) for n in op_names()})
        return
    families: dict[str, list[str]] = {}
    for each in op_names():
        families.setdefault(get_op(each).reference.__module__.rpartition(".")[2], []).append(each)
    listed = table("operation", "signature", "meaning", wrap=["signature", "meaning"])
    for family, names in families.items():
        listed.add_row(f"[dim]{family}[/dim]", "", "")
        for each in names:
            found = get_op(each)
            listed.add_row(each, _escape(found.signature.text), _escape(_first_line(found.doc)))
    out().print(listed)
    out().print(f"[dim]{len(op_names())} operations. `maiac ops NAME` describes one.[/dim]")


def _plain(found: Any) -> dict[str, Any]:
    return {
        "name": found.name,
        "family": found.reference.__module__.rpartition(".")[2],
        "signature": found.signature.text,
        "doc": found.doc,
        "attributes": {
            name: {"type": _kind(kind), "required": default is inspect.Parameter.empty}
            | ({} if default is inspect.Parameter.empty else {"default": str(default)})
            for name, (kind, default) in found.attributes.items()
        },
        "sharding": _sharding(found),
        "effect": found.effect,
        "random": found.random,
        "host": found.host,
        "regions": found.regions,
    }


def _describe(found: Any) -> None:
    out().print(f"[bold]{found.name}[/bold]  {_escape(found.signature.text)}\n")
    out().print(found.doc + "\n", markup=False)
    if found.attributes:
        listed = table("attribute", "type", "default")
        for name, (kind, default) in found.attributes.items():
            shown = "[red]required[/red]" if default is inspect.Parameter.empty else _escape(str(default))
            listed.add_row(name, _escape(_kind(kind)), shown)
        out().print(listed)
    for line in _sharding(found):
        out().print(f"[dim]sharding[/dim]  {_escape(line)}")
    facts = [
        word
        for word, true in (
            ("has an effect", found.effect),
            ("random", found.random),
            ("runs on the host only", found.host),
            ("a view of " + found.alias, bool(found.alias)),
        )
        if true
    ]
    if facts:
        out().print(f"[dim]also[/dim]      {', '.join(facts)}")


def _sharding(found: Any) -> list[str]:
    """What the definition says about splits, in words."""
    if found.shard_rule is not None:
        return ["has a rule of its own"]
    if not found.signature.has_letters:
        return ["operands must not be sharded"]
    lines = ["a split of a dim passes to every result dim of the same letter"]
    kept = {x for term in found.signature.results for x in term.letters or ()}
    summed = sorted(
        {x for t in found.signature.operands for x in t.letters or () if x not in kept and x[0] not in "*~"}
    )
    if summed and found.linear:
        lines.append(f"a split of {', '.join(summed)} leaves a sum owed")
    if found.whole:
        lines.append(f"never split: {', '.join(sorted(found.whole))}")
    may = sorted(found.linear | found.additive)
    if may:
        lines.append(f"may arrive with a sum owed: {', '.join(may)}")
    return lines


def _kind(kind: Any) -> str:
    if isinstance(kind, type) and not getattr(kind, "__args__", ()):
        return kind.__name__
    return str(kind).replace("maiac.ir.dtypes.", "").replace("maiac.ir.dims.", "").replace("maiac.ir.graph.", "")


def _first_line(doc: str) -> str:
    return doc.splitlines()[0] if doc else ""


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
