"""A small Llama as text: grouped queries spread by views, rotary positions, optional biases."""

from __future__ import annotations

import torch

from maiac.ir import Module, parse, verify
from maiac.ir.types import TensorType
from maiac.runtime.weights import HeldTensor


def llama(
    layers: int = 2, d: int = 32, heads: int = 4, kv: int = 2, ff: int = 48, vocab: int = 64, bias: bool = False
) -> Module:
    """The module, with random weights that depend on their names only."""
    module = parse(llama_text(layers, d, heads, kv, ff, vocab, bias))
    for weight in module.weights.values():
        assert isinstance(weight.type, TensorType)
        dims = [int(n) for n in weight.type.dims]  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(sum(map(ord, weight.name)))
        tensor = torch.randn(dims, generator=generator)
        weight.data = HeldTensor(tensor * (0.2 if len(dims) > 1 else 1.0))
    verify(module)
    return module


def llama_text(layers: int, d: int, heads: int, kv: int, ff: int, vocab: int, bias: bool) -> str:
    """The text of the module."""
    size, half = d // heads, d // heads // 2
    head = ["module @llama {", "  sym T in 1..64"]
    head += [f"  weight @emb : f32[{vocab}, {d}]", f"  weight @freq : f32[{half}]"]
    head += [f"  weight @norm : f32[{d}]", f"  weight @head : f32[{vocab}, {d}]"]
    shapes = {"n1": (d,), "n2": (d,), "q": (d, d), "k": (kv * size, d), "v": (kv * size, d), "o": (d, d)}
    shapes |= {"gate": (ff, d), "up": (ff, d), "down": (d, ff)}
    if bias:
        shapes |= {"qb": (d,), "ob": (d,), "downb": (d,)}
    for i in range(layers):
        head += [f"  weight @l{i}.{n} : f32[{', '.join(map(str, s))}]" for n, s in shapes.items()]
    body = [f"%x0 = embedding @emb, %ids : f32[1, T, {d}]", "%p = iota {end = T} : i64[T]"]
    body += ["%pf = cast %p {to = f32} : f32[T]", "%pc = reshape %pf {shape = [T, 1]} : f32[T, 1]"]
    body += [f"%a = mul %pc, @freq : f32[T, {half}]", f"%aa = concat %a, %a {{dim = 1}} : f32[T, {size}]"]
    body += [f"%cos = cos %aa : f32[T, {size}]", f"%sin = sin %aa : f32[T, {size}]"]
    for i in range(layers):
        body += _layer(i, d, heads, kv, ff, bias)
    body += [f"%fin = rms_norm %x{layers}, @norm : f32[1, T, {d}]"]
    body += [f'%logits = linear %fin, @head : f32[1, T, {vocab}] at "lm_head"', "return %logits"]
    start = f"  func @main(%ids: i64[1, T]) -> f32[1, T, {vocab}] {{"
    return "\n".join([*head, start, *("    " + line for line in body), "  }", "}"])


def _layer(i: int, d: int, heads: int, kv: int, ff: int, bias: bool) -> list[str]:
    size, w = d // heads, f"@l{i}."
    out = [f"%n1{i} = rms_norm %x{i}, {w}n1 : f32[1, T, {d}]"]
    for n, h in (("q", heads), ("k", kv), ("v", kv)):
        b = f", {w}qb" if bias and n == "q" else ""
        out.append(f'%{n}l{i} = linear %n1{i}, {w}{n}{b} : f32[1, T, {h * size}] at "layers.{i}.{n}"')
        out.append(f"%{n}v{i} = reshape %{n}l{i} {{shape = [1, T, {h}, {size}]}} : f32[1, T, {h}, {size}]")
        out.append(f"%{n}t{i} = transpose %{n}v{i} {{perm = [0, 2, 1, 3]}} : f32[1, {h}, T, {size}]")
    out += _rope(f"q{i}", f"%qt{i}", heads, size) + _rope(f"k{i}", f"%kt{i}", kv, size)
    for n, v in (("k", f"%k{i}e"), ("v", f"%vt{i}")):
        spread = f"[1, {kv}, {heads // kv}, T, {size}]"
        out.append(f"%{n}u{i} = reshape {v} {{shape = [1, {kv}, 1, T, {size}]}} : f32[1, {kv}, 1, T, {size}]")
        out.append(f"%{n}x{i} = expand %{n}u{i} {{shape = {spread}}} : f32{spread}")
        out.append(f"%{n}h{i} = reshape %{n}x{i} {{shape = [1, {heads}, T, {size}]}} : f32[1, {heads}, T, {size}]")
    ob, db = (f", {w}ob", f", {w}downb") if bias else ("", "")
    out += [
        f"%at{i} = attention %q{i}e, %kh{i}, %vh{i} {{causal = true}} : f32[1, {heads}, T, {size}]",
        f"%am{i} = transpose %at{i} {{perm = [0, 2, 1, 3]}} : f32[1, T, {heads}, {size}]",
        f"%av{i} = reshape %am{i} {{shape = [1, T, {d}]}} : f32[1, T, {d}]",
        f'%o{i} = linear %av{i}, {w}o{ob} : f32[1, T, {d}] at "layers.{i}.o"',
        f"%r{i} = add %x{i}, %o{i} : f32[1, T, {d}]",
        f"%n2{i} = rms_norm %r{i}, {w}n2 : f32[1, T, {d}]",
        f'%g{i} = linear %n2{i}, {w}gate : f32[1, T, {ff}] at "layers.{i}.gate"',
        f"%s{i} = silu %g{i} : f32[1, T, {ff}]",
        f'%up{i} = linear %n2{i}, {w}up : f32[1, T, {ff}] at "layers.{i}.up"',
        f"%m{i} = mul %s{i}, %up{i} : f32[1, T, {ff}]",
        f'%d{i} = linear %m{i}, {w}down{db} : f32[1, T, {d}] at "layers.{i}.down"',
        f"%x{i + 1} = add %r{i}, %d{i} : f32[1, T, {d}]",
    ]
    return out


def _rope(n: str, v: str, h: int, size: int) -> list[str]:
    half = size // 2
    whole, part = f"f32[1, {h}, T, {size}]", f"f32[1, {h}, T, {half}]"
    return [
        f"%{n}c = mul {v}, %cos : {whole}",
        f"%{n}a = slice {v} {{dim = 3, end = {half}}} : {part}",
        f"%{n}b = slice {v} {{dim = 3, start = {half}}} : {part}",
        f"%{n}n = neg %{n}b : {part}",
        f"%{n}r = concat %{n}n, %{n}a {{dim = 3}} : {whole}",
        f"%{n}s = mul %{n}r, %sin : {whole}",
        f"%{n}e = add %{n}c, %{n}s : {whole}",
    ]
