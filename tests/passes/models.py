"""Small and large modules for tests of passes."""

from __future__ import annotations

import torch

from maiac.ir import Block, Builder, DType, Function, Location, Module, Value, tensor
from maiac.ir.dims import Symbol, sym
from maiac.ir.ops.values import FROM_TORCH
from maiac.runtime.weights import HeldTensor


def weight(module: Module, name: str, value: torch.Tensor):
    """Add a weight that holds a tensor."""
    return module.add_weight(name, tensor(FROM_TORCH[value.dtype], *value.shape), HeldTensor(value))


def decoder(layers: int, width: int = 16, heads: int = 2, *, data: bool = True, shared_in_first: bool = True) -> Module:
    """A Llama-like decoder over x: f32[T, width]; what all layers share stands in the first one, as after cse."""
    torch.manual_seed(0)
    m = Module("decoder", symbols={"T": Symbol("T", 1, 64)})
    t, hd = sym("T"), width // heads
    main = m.add_function(Function("main", [tensor(DType.F32, t, width), tensor(DType.F32, t, hd)]))
    x, rope = main.args
    x.name, rope.name = "x", "rope"
    b = Builder(m, main.body)

    def param(name: str, *dims: int) -> Value:
        held = HeldTensor(torch.randn(*dims) / 4) if data else None
        return m.add_weight(name, tensor(DType.F32, *dims), held)

    turned: Value | None = None
    h: Value = x
    for i in range(layers):
        at = f"model.layers.{i}"
        with b.at(Location(f"{at}.norm")):
            two = b.emit("constant", value=2.0, dtype=DType.F32)
            n = b.emit("rms_norm", h, param(f"{at}.norm.g", width))
        with b.at(Location(f"{at}.attn")):
            q, k, v = (b.emit("linear", n, param(f"{at}.attn.{s}", width, width)) for s in "qkv")
            q, k, v = (b.emit("reshape", y, shape=(t, heads, hd)) for y in (q, k, v))
            if turned is None or not shared_in_first:
                turned = b.emit("reshape", b.emit("cos", rope), shape=(t, 1, hd))
            q, k = b.emit("mul", q, turned), b.emit("mul", k, turned)
            q, k, v = (b.emit("transpose", y, perm=(1, 0, 2)) for y in (q, k, v))
            s = b.emit("matmul", q, b.emit("transpose", k, perm=(0, 2, 1)))
            p = b.emit("softmax", b.emit("div", s, two))
            o = b.emit("transpose", b.emit("matmul", p, v), perm=(1, 0, 2))
            o = b.emit("linear", b.emit("reshape", o, shape=(t, width)), param(f"{at}.attn.o", width, width))
        with b.at(Location(at)):
            h = b.emit("add", h, o)
        with b.at(Location(f"{at}.mlp")):
            n = b.emit("rms_norm", h, param(f"{at}.norm2.g", width))
            g = b.emit("silu", b.emit("linear", n, param(f"{at}.mlp.gate", 2 * width, width)))
            u = b.emit("mul", g, b.emit("linear", n, param(f"{at}.mlp.up", 2 * width, width)))
            d = b.emit("linear", u, param(f"{at}.mlp.down", width, 2 * width))
        with b.at(Location(at)):
            h = b.emit("add", h, d)
    with b.at(Location("model.norm")):
        h = b.emit("rms_norm", h, param("model.norm.g", width))
    b.ret([h])
    return m


def block_of(module: Module) -> Block:
    """The body of main."""
    return module.main.body
