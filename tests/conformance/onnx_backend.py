"""The ONNX project's backend tests.

    python -m tests.conformance onnx_backend

The cases are those of ``onnx.backend.test``: node, pytorch-converted, pytorch-operator and simple. Each is compiled by
``maiac.onnx_backend`` and compared at the suite's own tolerances. The ``real`` ones need a network and are left out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .suite import Case

KINDS = ("node", "pytorch-converted", "pytorch-operator", "simple")


def cases() -> Iterator[Case]:
    """All cases, by kind."""
    return (Case(kind, case.name, partial(_check, case)) for kind, case in load_cases())


def load_cases(pattern: str = "", kinds: Sequence[str] = KINDS) -> Iterator[tuple[str, Any]]:
    """(kind, case) of all cases whose name matches."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in kinds:
            for case in load_model_tests(kind=kind):
                if re.search(pattern, case.name):
                    yield kind, case


def data_of(case: Any) -> tuple[Any, list[tuple[list[Any], list[Any]]]]:
    """The model of a case, and its pairs of inputs and expected outputs."""
    import onnx

    if case.model is not None:
        return case.model, [([_array(v) for v in i], [_array(v) for v in o]) for i, o in case.data_sets]
    folder = Path(case.model_dir)
    model = onnx.load(str(folder / "model.onnx"))
    sets = [
        (_read(data, "input", model.graph.input), _read(data, "output", model.graph.output))
        for data in sorted(folder.glob("test_data_set*"))
    ]
    return model, sets


def _array(value: Any) -> Any:
    import onnx

    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _read(folder: Path, what: str, infos: Any) -> list[Any]:
    import onnx

    out: list[Any] = []
    for i, info in enumerate(infos):
        path = folder / f"{what}_{i}.pb"
        if not path.exists():
            continue
        kind = info.type.WhichOneof("value")
        readers: dict[str, tuple[Any, Any]] = {
            "sequence_type": (onnx.SequenceProto(), onnx.numpy_helper.to_list),
            "optional_type": (onnx.OptionalProto(), onnx.numpy_helper.to_optional),
        }
        proto, read = readers.get(kind, (onnx.TensorProto(), onnx.numpy_helper.to_array))
        proto.ParseFromString(path.read_bytes())
        out.append(read(proto))
    return out


def _check(case: Any) -> bool:
    from onnx.backend.test.runner import Runner

    import maiac.onnx_backend as backend
    from maiac.ir.opdef import get_op
    from maiac.report import cost_of

    model, sets = data_of(case)
    ready = backend.prepare(model)
    for inputs, expected in sets:
        Runner.assert_similar_outputs(expected, list(ready.run(inputs)), case.rtol, case.atol)
    return any(get_op(name).host for name in cost_of(ready.module).ops)
