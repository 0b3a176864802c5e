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
from maiac.ir.ops.values import QTensor
from tests.ir.sampled import is_implemented

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


def is_sampled(definition: OpDef) -> bool:
    ready = definition.sample_rule is not None or not needs_rule(definition)
    return ready and not is_excused(definition) and not definition.random


def is_foreign(definition: OpDef) -> bool:
    """Whether it is about strings, sequences or codes, which native code does not know."""
    # cast_string makes strings or reads them, as an attribute says.
    if definition.name == "cast_string" or "str" in {t.family for t in definition.signature.operands}:
        return True
    found = [operands for operands, _ in samples(definition, Sampler(11))]
    return bool(found) and all(any(isinstance(v, (list, QTensor)) for v in operands) for operands in found)


def tensors_only(operands: tuple[Any, ...]) -> bool:
    given = [v for v in operands if v is not None]
    return all(isinstance(v, torch.Tensor) and v.numel() for v in given)


def drawn(name: str, dtype: DType, most: int) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Operands and attributes of some calls that native code might run."""
    definition = get_op(name)
    found = [s for s in samples(definition, Sampler(11, dtype)) if tensors_only(s[0])]
    return [s for s in found[:most] if is_implemented(definition, *s)]


def program(names: list[str], dtype: DType, most: int) -> tuple[Module, list[Any], list[str]]:
    """One module with many calls, its inputs, and what each result is of."""
    module = Module("samples")
    main = module.add_function(Function("main"))
    builder = Builder(module, main.body, None)
    inputs: list[Any] = []
    results: list[Any] = []
    labels: list[str] = []
    for name in names:
        for operands, attrs in drawn(name, dtype, most):
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


SAMPLED = [n for n in op_names() if is_sampled(get_op(n))]
NAMES = [n for n in SAMPLED if not is_foreign(get_op(n))]
DTYPES = [DType.F32, DType.F64, DType.BF16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operations_have_samples_unless_they_are_foreign(dtype: DType):
    assert [n for n in SAMPLED if drawn(n, dtype, 100)] == NAMES


def test_a_few_samples_of_the_usual_operations():
    ran = compare(sorted(ALWAYS), DType.F32, 2)
    assert not [r for r in ran.refused if r[0] in ALWAYS]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(2, 4, 6), (3, 17, 40)], ids=["small", "large"])
def test_all_samples_of_all_operations(dtype: DType, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "SIZES", sizes)
    compare(NAMES, dtype, 100)
