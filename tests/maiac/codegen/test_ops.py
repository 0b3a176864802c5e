"""Every operation that has a native form, on the samples of its definition, against its reference body."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maiac.ir import Builder, Function, Module, Op, verify
from maiac.ir.dtypes import DType
from maiac.ir.opdef import OpDef, get_op, op_names
from maiac.ir.ops import sampling
from maiac.ir.ops.sampling import Sampler, is_excused, needs_rule, samples, type_of

from .harness import Ran, difference, reference

# Operations that must have a native form for float32, whatever their rank and attributes in the samples below.
# fmt: off
ALWAYS = frozenset((
    "add", "sub", "mul", "div", "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "silu", "gelu", "relu",
    "erf", "sin", "cos", "pow", "abs", "neg", "maximum", "minimum", "eq", "lt", "where", "softmax",
    "log_softmax", "layer_norm", "rms_norm", "embedding", "gather", "rotary", "attention", "concat", "split",
    "copy",
))
# fmt: on


def natively_runnable(definition: OpDef) -> bool:
    ready = definition.sample_rule is not None or not needs_rule(definition)
    return ready and not is_excused(definition) and not definition.random


def tensors_only(operands: tuple[Any, ...]) -> bool:
    given = [v for v in operands if v is not None]
    return all(isinstance(v, torch.Tensor) and v.numel() for v in given)


def is_implemented(definition: OpDef, operands: tuple[Any, ...], attrs: dict[str, Any]) -> bool:
    """Whether torch has the reference's kernel for these dtypes."""
    try:
        definition.reference(*operands, **attrs)
    except RuntimeError as error:  # anything else that a reference raises is a fault of ours
        if "not implemented" not in str(error):
            raise
        return False
    return True


def program(names: list[str], dtype: DType, most: int) -> tuple[Module, list[Any], list[str]]:
    """One module with many calls, its inputs, and what each result is of."""
    module = Module("samples")
    main = module.add_function(Function("main"))
    builder = Builder(module, main.body, None)
    inputs: list[Any] = []
    results: list[Any] = []
    labels: list[str] = []
    for name in names:
        definition = get_op(name)
        drawn = [s for s in samples(definition, Sampler(11, dtype)) if tensors_only(s[0])]
        drawn = [s for s in drawn[:most] if is_implemented(definition, *s)]
        for operands, attrs in drawn:
            args = [None if v is None else main.body.add_arg(type_of(v), f"x{len(inputs)}") for v in operands]
            inputs += [v for v in operands if v is not None]
            op = builder.emit_op(name, args, attrs)
            results += op.results
            labels += [f"{name}({', '.join(str(type_of(v)) for v in operands)}) {attrs}"] * len(op.results)
    main.body.append(Op("return", results))
    main.result_types = tuple(r.type for r in results)
    verify(module)
    return module, inputs, labels


def compare(names: list[str], dtype: DType, most: int) -> Ran:
    module, inputs, labels = program(names, dtype, most)
    ran = Ran(module)
    got, want = ran.run(inputs), reference(module, inputs)
    wrong = [f"{label}: {d}" for label, a, b in zip(labels, want, got, strict=True) if (d := difference(a, b))]
    assert not wrong, "\n".join(wrong)
    return ran


NAMES = [n for n in op_names() if natively_runnable(get_op(n))]


def test_a_few_samples_of_the_usual_operations():
    ran = compare(sorted(ALWAYS), DType.F32, 2)
    assert not ran.refused.keys() & ALWAYS, ran.refused


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64, DType.BF16], ids=str)
@pytest.mark.parametrize("sizes", [(2, 4, 6), (3, 17, 40)], ids=["small", "large"])
def test_all_samples_of_all_operations(dtype: DType, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "SIZES", sizes)
    compare(NAMES, dtype, 100)
