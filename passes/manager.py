"""The manager: runs a pipeline, verifies after each pass, dumps, reports, and leaves a reproducer when one breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maiac.ir import MaiaError, Module, print_module, verify

from .base import NOTES, Pass, PassFault
from .clone import clone_module
from .text import parse_pipeline, pass_text, pipeline_text

__all__ = ["PassFault", "PassReport", "PipelineReport", "parse_pipeline", "pipeline_text", "run_pipeline"]

Progress = Callable[[str, int, int], None]  # (the pass about to run, how many ran, how many there are)


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass did."""

    text: str
    changed: bool
    seconds: float
    ops_before: int
    ops_after: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """What a pipeline did, pass by pass."""

    passes: tuple[PassReport, ...]

    @property
    def changed(self) -> bool:
        """Whether any pass changed the module."""
        return any(p.changed for p in self.passes)

    @property
    def seconds(self) -> float:
        """Time in the passes themselves, without verification and dumps."""
        return sum(p.seconds for p in self.passes)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json`` and report.json."""
        return {"seconds": self.seconds, "changed": self.changed, "passes": [asdict(p) for p in self.passes]}


def run_pipeline(
    module: Module,
    passes: Sequence[Pass],
    *,
    dump_dir: str | Path | None = None,
    verify: bool = True,
    late: bool = False,
    progress: Progress | None = None,
) -> PipelineReport:
    """Run passes in order on a module, in place.

    dump_dir: a folder that gets ``00-captured.maia``, then the text after each pass, ``03-dce.maia``. verify: check
    the module before the first pass and after each one that changed it. A pass that raises anything but a MaiaError, or
    whose result does not verify, raises PassFault (MAIA0301) and leaves ``maiac-repro-<pass>.maia`` in dump_dir or
    here.
    late: check the result alone; only if it is wrong, run again from the start to find the pass that is to blame.
    """
    if late and verify:
        return _checked_late(module, passes, dump_dir, progress)
    return _Run(module, list(passes), Path(dump_dir) if dump_dir is not None else None, verify).all(progress)


def _checked_late(
    module: Module, passes: Sequence[Pass], dump_dir: str | Path | None, progress: Progress | None
) -> PipelineReport:
    verify(module)
    spare = clone_module(module)
    try:
        report = run_pipeline(module, passes, dump_dir=dump_dir, verify=False, progress=progress)
        verify(module)
        return report
    except MaiaError as error:
        if not isinstance(error, PassFault) and error.code != "MAIA0106":
            raise  # a fault of the user's
        run_pipeline(spare, passes, dump_dir=dump_dir)
        raise  # it did not happen again


class _Run:
    """One run of a pipeline."""

    def __init__(self, module: Module, passes: list[Pass], dump_dir: Path | None, check: bool) -> None:
        self.module = module
        self.passes = passes
        self.dump_dir = dump_dir
        self.check = check

    def all(self, progress: Progress | None) -> PipelineReport:
        """Every pass in order."""
        if self.check:
            verify(self.module)
        self.dump("captured", 0)
        reports: list[PassReport] = []
        for i, each in enumerate(self.passes):
            if progress is not None:
                progress(each.name, i, len(self.passes))
            reports.append(self.one(i, each))
            self.dump(each.name, i + 1)
        return PipelineReport(tuple(reports))

    def one(self, index: int, each: Pass) -> PassReport:
        """One pass, checked."""
        before = clone_module(self.module) if self.check else self.module
        count = count_ops(self.module)
        notes: list[str] = []
        token = NOTES.set(notes)
        start = time.perf_counter()
        try:
            changed = each.run(self.module)
        except PassFault as error:
            raise self.failed(index, before, error.message, error.details) from error
        except MaiaError:
            raise
        except Exception as error:
            raise self.failed(index, before, f"it raised {type(error).__name__}: {error}", ()) from error
        finally:
            NOTES.reset(token)
        seconds = time.perf_counter() - start
        if self.check and changed:
            try:
                verify(self.module)
            except MaiaError as error:
                message = f"it left a module that does not verify ({error.message})"
                raise self.failed(index, before, message, error.details) from error
        return PassReport(pass_text(each), changed, seconds, count, count_ops(self.module), tuple(notes))

    def dump(self, name: str, index: int) -> None:
        """Write the module's text into the dump folder, if there is one."""
        if self.dump_dir is None:
            return
        self.dump_dir.mkdir(parents=True, exist_ok=True)
        (self.dump_dir / f"{index:02}-{name}.maia").write_text(print_module(self.module), encoding="utf-8")

    def failed(self, index: int, before: Module, message: str, details: Sequence[str]) -> PassFault:
        """The error that names the pass, those before it, and the reproducer."""
        each = self.passes[index]
        ran = pipeline_text(self.passes[:index]) or "nothing"
        path = (self.dump_dir or Path()) / f"maiac-repro-{each.name}.maia"
        header = f"# pass {each.name} failed after {ran}: {message.splitlines()[0]}\n# passes: {pass_text(each)}\n"
        path.write_text(header + print_module(before), encoding="utf-8")
        fault = PassFault(
            "MAIA0301",
            f"the pass {pass_text(each)} failed after {ran}: {message}",
            details=details,
            hint=f"please report this with the reproducer; `maiac opt {path}` shows it again",
        )
        fault.reproducers = [path]
        return fault


def count_ops(module: Module) -> int:
    """Operations of a module, regions included."""
    return sum(1 for _ in module.walk())


def passes_in_header(text: str) -> str | None:
    """The pipeline that a file's leading comments name (``# passes: fold,cse``); None where they name none."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return None
        key, colon, rest = line[1:].partition(":")
        if key.strip() == "passes" and colon:
            return rest.strip()
    return None
