"""Peaks of the machine, times of steps, and the files that show them."""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maiac import MaiaError, peaks
from maiac.ir import parse
from maiac.ir.errors import Location
from maiac.peaks import Peaks, machine_peaks
from maiac.profile import Profile, by_kernel, by_place, place_of, total_row, typical
from maiac.runtime import Executor
from maiac.runtime.arena import MemoryReport
from maiac.runtime.memory import Buffer, Layout
from maiac.runtime.memory_timeline import PlanOverTime, plan_over_time
from maiac.runtime.plan import Program
from maiac.runtime.profiling import StepTime
from maiac.runtime.weights import HeldTensor
from maiac.trace import trace, write_trace

PEAKS = Peaks(100e9, 10e9, 2)


def step(name: str = "linear", place: str = "a", seconds: float = 1e-3, start: float = 0.0) -> StepTime:
    return StepTime(name, Location(place), seconds, 50_000_000, 2_000_000, "native", start)


# **** peaks ****


class Library:
    """The kernel library's measurements: one thread does 50 GFLOP/s; ``together`` is what both do, call by call."""

    def __init__(self, together: list[float]) -> None:
        self.together = iter(together)
        self.calls = 0
        # ctypes puts result types onto functions: a lambda takes them, a bound method does not.
        self.maia_peak_flops: Any = lambda count, seconds, runs: 50e9 if count.value == 1 else next(self.together)
        self.maia_peak_read: Any = lambda size, runs: self._read(size)

    def maia_threads(self) -> int:
        return 2

    def _read(self, size: Any) -> float:
        self.calls += 1
        assert peaks.LEAST_BYTES <= size.value <= peaks.MOST_BYTES
        return 10e9 + self.calls


def library(monkeypatch: pytest.MonkeyPatch, together: list[float]) -> Library:
    made = Library(together)
    monkeypatch.setattr("maiac.codegen.library.library", lambda part: made)
    return made


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MAIAC_CACHE_DIR", str(tmp_path / "cache"))


def test_measuring_goes_on_while_somebody_else_has_a_core(monkeypatch):
    made = library(monkeypatch, [50e9, 60e9, 55e9, 96e9, 10e9])
    assert machine_peaks() == Peaks(96e9, 10e9 + 4, 2)
    assert made.calls == 4


def test_measuring_ends_where_threads_share_a_core(monkeypatch):
    made = library(monkeypatch, [60e9] * 99)
    assert machine_peaks().flops == 60e9
    assert made.calls == peaks.MOST_ROUNDS


def test_peaks_are_kept_until_the_machine_starts_anew(monkeypatch, tmp_path: Path):
    made = library(monkeypatch, [100e9] * 99)
    first = machine_peaks()
    assert machine_peaks() == first and made.calls == 3
    assert machine_peaks(fresh=True) != first and made.calls == 6
    monkeypatch.setattr(peaks, "_boot", lambda: "another")
    machine_peaks()
    assert made.calls == 9
    (table,) = json.loads((tmp_path / "cache" / "peaks.json").read_text()).values()
    assert table["boot"] == "another" and table["threads"] == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"KEY": 3}', '{"KEY": {"boot": "BOOT", "flops": "many"}}'])
def test_a_damaged_file_only_means_measuring_again(monkeypatch, tmp_path: Path, text: str):
    file = tmp_path / "cache" / "peaks.json"
    file.parent.mkdir()
    key = f"{peaks.processor()}, 2 threads"
    file.write_text(text.replace("KEY", key).replace("BOOT", peaks._boot()))
    library(monkeypatch, [100e9] * 9)
    assert machine_peaks().flops == 100e9
    assert json.loads(file.read_text())[key]["flops"] == 100e9


def test_a_folder_that_cannot_be_written_is_no_fault(monkeypatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAIAC_CACHE_DIR", str(tmp_path / "file"))
    library(monkeypatch, [100e9] * 9)
    assert machine_peaks().flops == 100e9


def test_a_measurement_that_cannot_take_its_place_leaves_nothing(monkeypatch, tmp_path: Path):
    file = tmp_path / "cache" / "peaks.json"
    file.mkdir(parents=True)
    library(monkeypatch, [100e9] * 9)
    assert machine_peaks().flops == 100e9
    assert [p.name for p in file.parent.iterdir()] == ["peaks.json"]


def test_the_bound_is_whichever_is_slower():
    assert PEAKS.bound(100e9, 0) == 1 and PEAKS.bound(0, 20e9) == 2 and PEAKS.bound(300e9, 10e9) == 3


def test_this_machine(monkeypatch):
    monkeypatch.delenv("MAIAC_CACHE_DIR")  # the library may be built already
    monkeypatch.setattr(peaks, "MOST_ROUNDS", 1)
    from maiac.codegen.library import library as kernel_library

    found = peaks.measure(kernel_library("peaks"))
    assert found.threads >= 1 and 1e9 < found.flops < 1e14 and 1e8 < found.read < 1e13


# **** steps ****

PROGRAM = """module @m {
  sym T in 1..64
  weight @w : f32[6, 4]
  state @s : f32[2]

  func @main(%x: f32[T, 4]) -> f32[6, T] {
    %y = linear %x, @w : f32[T, 6] at "fc" "m.py":3
    %v = transpose %y {perm = [1, 0]} : f32[6, T] at "view"
    %o = read @s : f32[2]
    %n = neg %o : f32[2]
    write @s, %n
    %z = relu %v : f32[6, T] at "act"
    return %z
  }
}"""


def test_steps_of_a_program_without_native_code():
    module = parse(PROGRAM)
    module.weights["w"].data = HeldTensor(torch.randn(6, 4))
    module.states["s"].data = HeldTensor(torch.ones(2))
    executor = Executor(module)
    found = executor.profile([torch.randn(5, 4)])
    assert [s.name for s in found] == ["linear", "transpose", "read", "neg", "write", "relu"]
    linear, view, *_, relu = found
    assert (linear.flops, linear.bytes) == (2 * 5 * 4 * 6, 4 * (5 * 4 + 6 * 4 + 5 * 6))
    assert (view.flops, view.bytes) == (0, 0)
    assert relu.bytes == 2 * 4 * 30 and str(relu.loc) == "act" and linear.loc.line == 3
    assert all(s.seconds > 0 and s.kind == "torch" for s in found)
    assert all(a.start + a.seconds <= b.start + 1e-9 for a, b in itertools.pairwise(found))
    assert executor.run([torch.zeros(1, 4)])[0].shape == (6, 1)


class Call:
    """In place of a step, as machine code would be: runs the whole program again, from another thread, as it runs."""

    symbols = aliases = writes = ()
    weight_bytes = 0

    def __init__(self, executor: Executor, inputs: list[torch.Tensor]) -> None:
        self.executor, self.inputs = executor, inputs

    def memory(self, sizes: tuple[int, ...]) -> PlanOverTime:
        return plan_over_time([], Layout((), 0))

    def __call__(
        self, operands: tuple[Any, ...], sizes: tuple[int, ...], times: list[StepTime] | None = None
    ) -> tuple[Any, ...]:
        if times is not None:
            other = threading.Thread(target=self.executor.run, args=(self.inputs,))
            other.start()
            other.join()
            times.append(step("native"))
        return (operands[0].relu(),)


def test_a_run_of_another_thread_is_not_in_the_profile():
    module = parse(
        "module @m {\n  func @main(%x: f32[4]) -> f32[4] {\n    %y = relu %x : f32[4]\n    return %y\n  }\n}"
    )
    inputs = [torch.randn(4)]

    def native(program: Program) -> Program:
        return replace(program, steps=[replace(s, native=Call(executor, inputs)) for s in program.steps])

    executor = Executor(module, native=native)
    assert [s.name for s in executor.profile(inputs)] == ["native"]
    assert torch.equal(executor.run(inputs)[0], inputs[0].relu())


def test_sizes_that_nobody_knows_count_nothing():
    module = parse("""module @m {
      sym u1 in 0..inf
      func @main(%x: f32[64]) -> f32[] {
        %i = nonzero %x : i64[u1, 1]
        %f = cast %i {to = f32} : f32[u1, 1]
        %s = sum %f {dims = [0, 1]} : f32[]
        return %s
      }
    }""")
    found = Executor(module).profile([(torch.arange(64) < 10).float()])
    assert [(s.flops, s.bytes) for s in found[:2]] == [(0, 0), (0, 0)] and found[1].seconds > 0


# **** tables ****


def test_a_typical_run_takes_the_median_of_each_step():
    runs = [[step("a", seconds=s), step("b", seconds=2 * s)] for s in (1.0, 9.0, 3.0)]
    assert [(s.seconds, s.start) for s in typical(runs)] == [(3.0, 0.0), (6.0, 3.0)]
    odd = [step("a", seconds=4.0)]
    assert typical([*runs[:2], odd]) == odd  # of runs that differ, the one of median length: 3, 4, 27 seconds


def test_rows_by_place_and_kernel():
    steps = [step("conv", "a"), step("conv", "b", 5e-3), step("relu", "a", 0.5e-3), step("conv", "a")]
    assert [(r.name, r.place, r.calls) for r in by_place(steps)] == [
        ("conv", "b", 1),
        ("conv", "a", 2),
        ("relu", "a", 1),
    ]
    assert [(r.name, r.calls, r.seconds) for r in by_kernel(steps)] == [("conv", 3, 7e-3), ("relu", 1, 0.5e-3)]
    total = total_row(by_place(steps))
    assert total.calls == 4 and total.flops == 200_000_000
    row = by_place(steps)[1].figures(total.seconds, PEAKS)
    assert row["share"] == pytest.approx(2 / 7.5)
    assert row["flops_rate"] == pytest.approx(50e9) and row["bytes_rate"] == pytest.approx(2e9)
    assert row["of_bound"] == pytest.approx(0.5)  # 0.5 ms of arithmetic, 0.2 ms of memory, in 1 ms
    assert by_place(steps)[1].figures(1.0, None)["of_bound"] is None
    nothing = total_row([]).figures(0.0, PEAKS)
    assert nothing["share"] == nothing["flops_rate"] == 0 and nothing["of_bound"] is None


def test_places():
    assert place_of(Location("layers.0.fc", "m.py", 3)) == "layers.0.fc"
    assert place_of(Location("", "/a/b/m.py", 3)) == "m.py:3" and place_of(Location()) == ""


def test_a_profile_survives_json():
    memory = MemoryReport({"torch": plan_over_time([Buffer(100, 0, 1)], Layout((0,), 128))}, 5, 1, 2)
    for given in (Profile([step()], 1e-3, PEAKS, "", memory), Profile([], 0.0, None, "no compiler")):
        assert Profile.from_json(json.loads(json.dumps(given.to_json()))) == given


# **** the trace ****


def check_trace(value: Any) -> None:
    """What the Trace Event Format asks of an object with complete and metadata events."""
    assert isinstance(value["traceEvents"], list) and value["displayTimeUnit"] in ("ms", "ns")
    for event in value["traceEvents"]:
        assert isinstance(event["name"], str) and event["ph"] in ("X", "M")
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert isinstance(event.get("args", {}), dict)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name") and isinstance(event["args"]["name"], str)
            continue
        assert isinstance(event["cat"], str)
        assert all(isinstance(event[k], (int, float)) and event[k] >= 0 for k in ("ts", "dur"))


def test_the_trace_is_in_the_trace_event_format(tmp_path: Path):
    steps = [step("conv", "a", 1e-3, 0.0), step("view", "", 0.0, 1e-3), step("relu", "b", 2e-3, 1.5e-3)]
    write_trace(tmp_path / "t.json", trace(steps, "maiac m.maia", PEAKS))
    found = json.loads((tmp_path / "t.json").read_text())
    check_trace(found)
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]
    first, view, last = (e for e in found["traceEvents"] if e["ph"] == "X")
    assert (first["ts"], first["dur"], first["name"], first["args"]["place"]) == (0, 1000, "conv", "a")
    assert first["args"]["GFLOP/s"] == 50 and first["args"]["of bound"] == 0.5
    assert "GFLOP/s" not in view["args"]
    assert (last["ts"], last["dur"]) == (1500, 2000)


def test_a_trace_of_a_run(tmp_path: Path):
    module = parse(PROGRAM)
    module.weights["w"].data = HeldTensor(torch.randn(6, 4))
    module.states["s"].data = HeldTensor(torch.ones(2))
    start = time.perf_counter()
    value = trace(Executor(module).profile([torch.randn(5, 4)]), "m")
    check_trace(value)
    assert value["traceEvents"][2]["args"]["source"] == "m.py:3"
    ends = [e["ts"] + e["dur"] for e in value["traceEvents"] if e["ph"] == "X"]
    assert max(ends) <= (time.perf_counter() - start) * 1e6


def test_a_trace_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(MaiaError) as caught:
        write_trace(tmp_path / "no" / "t.json", {})
    assert caught.value.code == "MAIA0411"
    (tmp_path / "folder").mkdir()
    with pytest.raises(MaiaError):
        write_trace(tmp_path / "folder", {})
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
