"""``maiac targets``"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..console import JsonFlag, bytes_text, emit, facts, out, plural, table


def targets(
    name: Annotated[str, typer.Argument(help="A target to describe; nothing lists all.")] = "",
    json: JsonFlag = False,
) -> None:
    """List the chips that maiac knows, or describe one."""
    from dataclasses import asdict

    from ..targets import get_target, target_names

    if name:
        target = get_target(name)
        emit(asdict(target)) if json else _describe(target)
        return
    found = [get_target(n) for n in target_names()]
    if json:
        emit({t.name: asdict(t) for t in found})
        return
    listed = table("target", "chip", "memory", "bandwidth", "peak, dense", right=["memory", "bandwidth"])
    for t in found:
        memory = t.main_memory
        best = max(t.rates.items(), key=lambda r: r[1], default=None)
        listed.add_row(
            t.name,
            t.title,
            _size(memory.capacity),
            _rate(memory.bandwidth),
            f"{best[1] / 1e12:,.0f} TFLOP/s {best[0]}" if best else "-",
        )
    out().print(listed)


def _describe(target: Any) -> None:
    out().print(f"[bold]{target.name}[/bold]  {target.title}\n")
    rows: list[tuple[str, Any]] = [("kind", target.kind)]
    rows += [(f"peak {d}", f"{r / 1e12:,.0f} TFLOP/s") for d, r in target.rates.items()]
    rows += [
        (m.name, ", ".join(x for x in (_size(m.capacity), _rate(m.bandwidth)) if x != "-") or "as the machine has")
        for m in target.memories
    ]
    for link in target.links:
        latency = f", {link.latency * 1e6:.2g} µs" if link.latency else ""
        peers = f", to {plural(link.peers, 'peer')} directly" if link.peers else ""
        rows.append((link.name, f"{_rate(link.bandwidth)} each way{latency}{peers}"))
    rows.append(("dtypes", ", ".join(target.storage)))
    if target.power:
        rows.append(("power", f"{target.power:.0f} W"))
    out().print(facts(rows))
    if target.notes:
        out().print("\n" + " ".join(target.notes.split()))


def _size(capacity: int) -> str:
    return "-" if not capacity else f"{capacity / 1e9:g} GB" if capacity >= 1e9 else bytes_text(capacity)


def _rate(bandwidth: float) -> str:
    return "-" if not bandwidth else f"{bandwidth / 1e12:g} TB/s" if bandwidth >= 1e12 else f"{bandwidth / 1e9:g} GB/s"
