"""Every error number, once: what it means, why it happens, what to do. docs/errors.md is generated from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One page of ``maiac explain``."""

    title: str
    cause: str
    fix: str


# 01xx text and IR, 02xx capture, 03xx passes, 04xx artifact, 05xx running, 06xx distribution, 07xx command line.
CATALOGUE: dict[str, Entry] = {
    "MAIA0101": Entry(
        "syntax error in Maia text",
        "The text does not follow the grammar in docs/ir.md.",
        "Look at the caret: it marks the first character that cannot follow what stands before it.",
    ),
    "MAIA0102": Entry(
        "unknown operation",
        "The text or a pass names an operation that no file in ir/ops declares.",
        "Check the spelling against `maiac ops`, or declare the operation (docs/adding-an-op.md).",
    ),
    "MAIA0103": Entry(
        "undefined name",
        "A value, weight, state, function or symbol is used before it is defined, or never defined.",
        "Define the name before its first use; declare dims with `sym NAME in LOW..HIGH`.",
    ),
    "MAIA0104": Entry(
        "name defined twice",
        "Two values of one function, two globals or two symbols carry the same name.",
        "Rename one of them.",
    ),
    "MAIA0105": Entry(
        "operation applied to types it does not take",
        "An operand's rank, dims, dtype or sharding does not fit the operation's signature.",
        "Compare the operand types in the message with the signature printed by `maiac ops NAME`.",
    ),
    "MAIA0106": Entry(
        "module is not valid",
        "The verifier found places where the IR breaks its own rules.",
        "Each line names the operation and shows the IR around it; repair the pass or text that made it.",
    ),
    "MAIA0107": Entry(
        "bad attribute",
        "An attribute is missing, unknown, or of the wrong kind.",
        "`maiac ops NAME` lists the attributes with their types and defaults.",
    ),
    "MAIA0108": Entry(
        "sharding not allowed here",
        "A mesh axis splits a dim that must be whole, or a sum that is still owed reaches an operation that is not linear.",
        "Insert all_reduce or all_gather before it, or choose another split.",
    ),
}
