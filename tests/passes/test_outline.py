"""Outlining on whole decoders, and inlining back."""

from __future__ import annotations

import pytest
import torch

from maiac.ir import Builder, DType, Function, Location, MaiaError, Module, print_module, tensor, verify
from maiac.passes import parse_pipeline, run_pipeline, structural_text, structurally_equal
from maiac.passes.clone import clone_module
from maiac.passes.outline import Outline, components, stem
from tests.passes.models import decoder, weight
from tests.passes.running import inputs_for, run, same_bits


def call_places(module: Module) -> list[str]:
    return [op.loc.name for op in module.main.body if op.name == "call"]


@pytest.mark.parametrize("shared_in_first", [True, False])
def test_a_decoder_becomes_one_layer(shared_in_first: bool):
    module = decoder(4, shared_in_first=shared_in_first)
    before = clone_module(module)
    run_pipeline(module, [Outline()])
    assert call_places(module) == [f"model.layers.{i}" for i in range(4)]
    layer = module.functions["layer"]
    assert layer.loc.name == "model.layers.0"
    assert [a.name for a in layer.args][:2] == ["x", "norm.g"]
    assert len(layer.result_types) == 1
    inputs = inputs_for(before)
    assert same_bits(run(before, inputs), run(module, inputs))


@pytest.mark.parametrize("shared_in_first", [True, False])
def test_inline_is_the_inverse(shared_in_first: bool):
    module = decoder(3, shared_in_first=shared_in_first)
    run_pipeline(module, parse_pipeline("cse,dce"))
    before = structural_text(module, locations=True)
    run_pipeline(module, parse_pipeline("outline"))
    assert len(module.functions) == 2
    run_pipeline(module, parse_pipeline("inline,cse,dce"))
    assert structural_text(module, locations=True) == before


def test_a_second_run_finds_nothing():
    module = decoder(12)
    assert Outline().run(module)
    text = print_module(module)
    assert not Outline().run(module)
    assert print_module(module) == text


def test_windows_apart_and_in_between():
    """Something is tapped off between layers, so that they do not all follow each other."""
    m = Module("m")
    main = m.add_function(Function("main", [tensor(DType.F32, 4, 4)]))
    b = Builder(m, main.body)
    h, taps = main.args[0], []
    for i in range(6):
        with b.at(Location(f"h.{i}")):
            for j, name in enumerate(("tanh", "sin", "cos", "relu", "abs")):
                h = b.emit(name, b.emit("linear", h, weight(m, f"h.{i}.{j}", torch.eye(4) * (j + 1))))
        if i in (2, 3):
            taps.append(b.emit("cumsum", h, dim=i - 2))
    b.ret([h, *taps])
    before = clone_module(m)
    run_pipeline(m, [Outline()])
    assert call_places(m) == [f"h.{i}" for i in range(6)]
    assert "h" in m.functions
    inputs = inputs_for(before)
    assert same_bits(run(before, inputs), run(m, inputs))


def test_experts_inside_layers_become_a_function_in_a_function():
    m = Module("m")
    main = m.add_function(Function("main", [tensor(DType.F32, 2, 4)]))
    b = Builder(m, main.body)
    h = main.args[0]
    for i in range(3):
        total = b.emit("sin", h)
        for e in range(4):
            with b.at(Location(f"layers.{i}.experts.{e}")):
                u = h
                for j, name in enumerate(("silu", "sin", "cos", "relu")):
                    u = b.emit(name, b.emit("linear", u, weight(m, f"l.{i}.{e}.{j}", torch.randn(4, 4))))
                total = b.emit("add", total, u)
        with b.at(Location(f"layers.{i}")):
            h = b.emit("relu", total)
    b.ret([h])
    before = clone_module(m)
    run_pipeline(m, [Outline()])
    assert set(m.functions) == {"main", "layer", "expert"}
    assert sum(op.name == "call" for op in m.functions["layer"].body) == 4
    inputs = inputs_for(before)
    assert same_bits(run(before, inputs), run(m, inputs))
    run_pipeline(m, parse_pipeline("inline"))
    assert structurally_equal(m, before)


def test_stages_are_not_mixed():
    m = Module("m", mesh={"pp": None})
    functions = [Function(f"s{i}", [tensor(DType.F32, 4)], stage=("pp", i)) for i in range(2)]
    main = m.add_function(Function("main", [tensor(DType.F32, 4)]))
    for f in functions:
        m.add_function(f)
        b, h = Builder(m, f.body), f.args[0]
        for _ in range(2):
            for name in ("exp", "sin", "cos", "tan", "tanh", "neg", "exp", "abs", "log"):
                h = b.emit(name, h)
        b.ret([h])
    b = Builder(m, main.body)
    h = main.args[0]
    for f in functions:
        h = b.call(f, [h]).result
    b.ret([h])
    verify(m)
    run_pipeline(m, [Outline()])
    assert {f.stage for f in m.functions.values() if f.name.startswith("block")} == {("pp", 0), ("pp", 1)}
    for f in m.functions.values():
        for op in f.body:
            callee = m.functions[op.attrs["callee"].name] if op.name == "call" else f  # pyright: ignore
            assert f.name == "main" or callee.stage == f.stage


def test_short_stretches_over_and_over_are_left():
    m = Module("m")
    main = m.add_function(Function("main", [tensor(DType.F32, 4)]))
    b, h = Builder(m, main.body), main.args[0]
    for _ in range(64):
        h = b.emit("tanh", h)
    b.ret([h])
    assert not Outline().run(m)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("model.layers.3", "layer"),
        ("transformer.h.0", "h"),
        ("encoder.layer.11", "layer"),
        ("layer1.0", "layer1"),
        ("/model/blocks.2", "block"),
        ("down_blocks.0.attentions", "attentions"),
        ("", "block"),
        ("7", "block"),
        ("main.0", "block_main"),
        ("a.3d", "block_3d"),
    ],
)
def test_functions_are_named_after_their_place(place: str, name: str):
    assert stem(place) == name


def test_components():
    assert components("/model/layers.0/attn") == ["model", "layers", "0", "attn"]


def test_outlined_text_parses_back():
    module = decoder(3)
    Outline().run(module)
    from maiac.ir import parse

    text = print_module(module)
    assert print_module(parse(text)) == text


def test_errors_name_the_place_in_the_source():
    module = decoder(2)
    Outline().run(module)
    op = next(o for o in module.functions["layer"].body if o.name == "softmax")
    op.results[0].type = tensor(DType.F32, 1)
    with pytest.raises(MaiaError, match=r"softmax at model\.layers\.0\.attn"):
        verify(module)
