"""``maiac explain``"""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import JsonFlag, emit, out, table


def explain(
    code: Annotated[str, typer.Argument(help="An error number, such as MAIA0203 or 203; nothing lists all.")] = "",
    json: JsonFlag = False,
) -> None:
    """Explain an error number."""
    from ..explain import AREAS, area_of, find
    from ..ir.catalogue import CATALOGUE

    if not code:
        if json:
            emit({c: {"title": e.title, "cause": e.cause, "fix": e.fix} for c, e in sorted(CATALOGUE.items())})
            return
        listed = table("number", "meaning", wrap=["meaning"])
        last = ""
        for number, entry in sorted(CATALOGUE.items()):
            if area_of(number) != last:
                last = area_of(number)
                listed.add_row("", f"[dim]{AREAS[last]}[/dim]")
            listed.add_row(number, entry.title)
        out().print(listed)
        return
    number, entry = find(code)
    if json:
        emit(
            {
                "code": number,
                "area": AREAS[area_of(number)],
                "title": entry.title,
                "cause": entry.cause,
                "fix": entry.fix,
            }
        )
        return
    out().print(f"[bold red]{number}[/bold red] [bold]{entry.title}[/bold] [dim]({AREAS[area_of(number)]})[/dim]\n")
    out().print("[dim]why[/dim]   ", end="")
    _paragraph(entry.cause)
    out().print("[dim]to do[/dim] ", end="")
    _paragraph(entry.fix)


def _paragraph(text: str) -> None:
    import textwrap

    lines = textwrap.wrap(text, out().width - 8)
    out().print("\n      ".join(lines), markup=False)
