"""Count how many of the ONNX project's backend tests pass.

    python tests/conformance/onnx_backend.py --out failures.txt

The cases are those of ``onnx.backend.test``: node, pytorch-converted, pytorch-operator and simple. Each is compiled by
``maiac.onnx_backend`` and compared at the suite's own tolerances. The ``real`` ones need a network and are left out.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("node", "pytorch-converted", "pytorch-operator", "simple")


@dataclass(frozen=True)
class Outcome:
    """What became of one case; an empty reason means that it passed."""

    kind: str
    name: str
    reason: str
    seconds: float


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


class OutOfTimeError(BaseException):
    """A case took longer than its limit. No Exception, so that nothing on the way takes it for a fault of its own."""


def run_case(kind: str, case: Any, limit: int = 60) -> Outcome:
    """Compile and run one case, and compare."""
    start = time.perf_counter()
    old = signal.signal(signal.SIGALRM, _expire)
    signal.alarm(limit)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check(case)
        reason = ""
    except OutOfTimeError:
        reason = f"took longer than {limit} s"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    return Outcome(kind, case.name, reason, time.perf_counter() - start)


def _expire(*_: Any) -> None:
    raise OutOfTimeError


def _check(case: Any) -> None:
    from onnx.backend.test.runner import Runner

    import maiac.onnx_backend as backend

    model, sets = data_of(case)
    ready = backend.prepare(model)
    for inputs, expected in sets:
        Runner.assert_similar_outputs(expected, list(ready.run(inputs)), case.rtol, case.atol)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Totals by kind, and the reasons that stand most often."""
    total: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for o in outcomes:
        total[o.kind][0] += not o.reason
        total[o.kind][1] += 1
    lines = [f"{kind:20} {good:5} of {count:5}" for kind, (good, count) in total.items()]
    good, count = sum(not o.reason for o in outcomes), len(outcomes)
    lines.append(f"{'all':20} {good:5} of {count:5}  ({100 * good / max(count, 1):.1f}%)")
    return "\n".join(lines)


def _code(reason: str) -> str:
    found = re.search(r"MAIA\d+", reason)
    return found.group() if found else reason.split(":", maxsplit=1)[0]


def main() -> int:
    """Run the suite; exit code 1 where fewer cases pass than --least percent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--filter", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only cases of this kind (may be repeated)")
    parser.add_argument("--out", type=Path, help="write the failures with their reasons to this file")
    parser.add_argument("--limit", type=int, default=60, help="seconds that a case may take")
    parser.add_argument("--least", type=float, default=0.0, help="percent that must pass")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    for kind, case in load_cases(options.filter, options.kind or KINDS):
        outcomes.append(run_case(kind, case, options.limit))
        if sys.stderr.isatty():
            print(f"\r{len(outcomes)} {case.name[:70]:70}", end="", file=sys.stderr)
    failed = [o for o in outcomes if o.reason]
    if options.out:
        options.out.write_text("".join(f"{o.kind} {o.name}: {o.reason}\n" for o in failed), encoding="utf-8")
    else:
        for o in failed:
            print(f"{o.kind} {o.name}: {o.reason.splitlines()[0][:200]}")
    print(summary(outcomes))
    print("reasons:", ", ".join(f"{n} {code}" for code, n in Counter(_code(o.reason) for o in failed).most_common(12)))
    return 0 if 100 * (len(outcomes) - len(failed)) >= options.least * len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
