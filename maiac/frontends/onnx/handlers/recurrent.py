"""LSTM, GRU and RNN."""

from __future__ import annotations

from typing import Any

from maiac.ir import Value
from maiac.ir.ops.recurrent import ACTIVATIONS

from ..context import NodeContext
from ..registry import onnx_op

_GATES = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def _common(c: NodeContext) -> dict[str, Any]:
    direction = c.attr("direction", "forward")
    default = _GATES[c.op] * (2 if direction == "bidirectional" else 1)
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in c.attr("activations") or default]
    strange = [n for n in names if n.lower() not in ACTIVATIONS]
    if strange:
        c.fail(f"its activations {', '.join(strange)} are not known")
    clip = c.attr("clip")
    return {
        "hidden": int(c.attr("hidden_size") or c.dim(2, 2)),
        "direction": direction,
        "activations": tuple(n.lower() for n in names),
        "alphas": tuple(float(a) for a in c.attr("activation_alpha") or ()),
        "betas": tuple(float(b) for b in c.attr("activation_beta") or ()),
        "clip": None if clip is None else float(clip),
        "layout": int(c.attr("layout", 0)),
    }


@onnx_op("LSTM")
def lstm(c: NodeContext) -> list[Value]:
    """Long short-term memory."""
    operands = [c.opt(i) for i in range(8)]
    return list(c.emit_op("lstm", *operands, couple=bool(c.attr("input_forget", 0)), **_common(c)).results)


@onnx_op("GRU")
def gru(c: NodeContext) -> list[Value]:
    """Gated recurrent units."""
    operands = [c.opt(i) for i in range(6)]
    reset = bool(c.attr("linear_before_reset", 0))
    return list(c.emit_op("gru", *operands, reset_after=reset, **_common(c)).results)


@onnx_op("RNN")
def rnn(c: NodeContext) -> list[Value]:
    """Plain recurrent layer."""
    return list(c.emit_op("rnn", *(c.opt(i) for i in range(6)), **_common(c)).results)
