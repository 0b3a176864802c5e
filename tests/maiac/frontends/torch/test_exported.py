"""Capture of torch programs: dims, states, constants, trees, locations and errors."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._higher_order_ops import while_loop
from torch.export import Dim

from maiac.frontends.exported import capture, export, import_exported
from maiac.ir.errors import MaiaError
from maiac.ir.graph import Module
from maiac.ir.types import DimType, TensorType
from maiac.ir.verifier import verify
from maiac.runtime.executor import Executor
from tests.maiac import samples

assert samples.LIBRARY  # it holds the operators of torch.ops.samples
X = torch.arange(12.0).reshape(3, 4)


def ops(module: Module) -> list[str]:
    return [op.name for op in module.walk()]


def dims(module: Module) -> list[str]:
    return [str(t) for t in module.main.result_types]


# **** dims ****


def test_dynamic_dims_carry_the_users_names_and_ranges() -> None:
    rows = Dim("rows", min=2, max=64)
    module = capture(lambda x: x.reshape(-1) * x.shape[0], (X,), dynamic_shapes=({0: rows},))
    verify(module)
    assert [str(s) for s in module.symbols.values()] == ["sym rows in 2..64"]
    assert dims(module) == ["f32[4*rows]"]
    for n in (2, 5):
        x = torch.ones(n, 4)
        assert torch.equal(Executor(module).run([x])[0], x.reshape(-1) * n)


def test_names_are_found_inside_nested_arguments_and_derived_dims() -> None:
    even = Dim("half", min=2, max=32)
    pair = {"a": [torch.ones(8), torch.ones(8)]}
    module = capture(
        lambda p, scale: p["a"][0] + p["a"][1] * scale,
        (pair, 2.0),
        dynamic_shapes=({"a": [{0: 2 * even}, {0: 2 * even}]}, None),
    )
    assert [str(a.type) for a in module.main.args] == ["f32[2*half]", "f32[2*half]"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.new_zeros(x.shape[0] // 2 + 2), "f32[T//2+2]"),
        (lambda x: x.new_zeros((x.shape[0] + 3) % 5 + 2), "f32[(T+3)%5+2]"),
        (lambda x: torch.cat([x, x[1:]]), "f32[2*T-1, 4]"),
        (lambda x: x.new_zeros(max(x.shape[0], 7)), "f32[max(7, T)]"),
        (lambda x: torch.nn.functional.interpolate(x[None], scale_factor=1.5), "f32[1, T, 6]"),
        (lambda x: x.new_zeros(x.shape[0] * x.shape[0]), "f32[T*T]"),
    ],
)
def test_sizes_become_dim_expressions(function: Any, expected: str) -> None:
    module = capture(function, (torch.ones(6, 4),), dynamic_shapes=({0: Dim("T", min=4, max=64)},))
    verify(module)
    assert dims(module) == [expected]
    for n in (4, 9):
        x = torch.randn(n, 4)
        torch.testing.assert_close(Executor(module).run([x])[0], function(x))


def test_a_size_that_data_decide_is_bound_while_running() -> None:
    def function(x: torch.Tensor) -> tuple[Any, ...]:
        count: Any = x.sum().long().item()
        torch._check(count >= 1)
        torch._check(count <= 9)
        return torch.ones(count) * 2, (x > 2).nonzero(), count

    module = capture(function, (torch.tensor([1.0, 2.0]),))
    verify(module)
    for x in (torch.tensor([1.0, 3.0]), torch.tensor([4.0, 5.0])):
        got, want = Executor(module).run([x]), function(x)
        assert torch.equal(got[0], want[0])
        assert torch.equal(got[1], want[1])
        assert got[2] == want[2]


def test_a_part_whose_size_data_decide_takes_the_size_that_follows_from_its_bounds() -> None:
    def function(table: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        span: Any = x.sum().long().item()
        return table[5 - span : 5 + span].unsqueeze(0) + 1

    table = torch.randn(10, 3)
    module = capture(function, (table, torch.tensor([1.0, 2.0])))
    verify(module)
    for x in (torch.tensor([1.0, 2.0]), torch.tensor([4.0, 1.0])):
        assert torch.equal(Executor(module).run([table, x])[0], function(table, x))


def test_floats_computed_from_sizes() -> None:
    function = lambda x: x * (x.shape[0] ** -0.5)  # noqa: E731
    module = capture(function, (X,), dynamic_shapes=({0: Dim("T", min=2, max=64)},))
    x = torch.randn(9, 4)
    torch.testing.assert_close(Executor(module).run([x])[0], function(x))


def test_a_dim_named_like_a_dtype_gets_another_name() -> None:
    module = capture(lambda x: x + 1, (X,), dynamic_shapes=({0: Dim("u8", min=2, max=9)},))
    verify(module)
    assert list(module.symbols) == ["u8_1"]


# **** inputs, outputs, weights, states ****


class Counter(torch.nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))
        self.tied = self.weight
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.table: torch.Tensor
        self.register_buffer("table", torch.arange(100.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x * self.weight + self.tied + self.count + self.table[:4]


def test_parameters_share_their_storage_and_changed_buffers_are_states() -> None:
    model = Counter()
    module = capture(model, (X,))
    verify(module)
    assert sorted(module.weights) == ["table", "weight"]
    data = module.weights["weight"].data
    assert data is not None
    assert data.load().data_ptr() == model.weight.data_ptr()
    assert list(module.states) == ["count"]
    executor = Executor(module)
    first, second = executor.run([X])[0].clone(), executor.run([X])[0]
    assert torch.equal(second, first + 1)
    assert torch.equal(first, model(X))


def test_small_constants_stand_in_the_program_and_large_ones_are_weights() -> None:
    few, many = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.arange(40.0).reshape(10, 4)
    module = capture(lambda x: (x + few, x[:1] + many), (X,))
    assert [op.attrs["value"] for op in module.walk() if op.name == "constant"] == [(1.0, 2.0, 3.0, 4.0)]
    assert len(module.weights) == 1


def test_constants_stay_in_the_trees() -> None:
    def function(x: torch.Tensor, flag: bool, *, name: str = "a", nothing: None = None) -> dict[str, Any]:
        return {"y": (x + 1, None), "n": 3, "flag": flag}

    module = capture(function, (X, True), {"name": "b", "nothing": None})
    inputs, outputs = (json.loads(str(module.attrs[k])) for k in ("in_tree", "out_tree"))
    assert module.attrs["convention"] == "torch"
    assert inputs["c"][0]["c"] == [{"t": "leaf"}, {"t": "const", "v": True}]
    assert outputs["k"] == ["y", "n", "flag"]
    assert outputs["c"][0]["c"][1] == {"t": "const", "v": None}
    assert len(module.main.args) == 1


def test_sizes_are_handed_back_as_integers() -> None:
    module = capture(lambda x: x.shape[0] * 2, (X,), dynamic_shapes=({0: Dim("T", min=2, max=9)},))
    assert isinstance(module.main.result_types[0], DimType)
    assert Executor(module).run([torch.ones(5, 4)]) == [10]


def test_meta_tensors_become_weights_without_contents() -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(4, 2)
        module = capture(model, (torch.empty(3, 4),))
    verify(module)
    assert dims(module) == ["f32[3, 2]"]
    data = module.weights["weight"].data
    assert data is not None
    assert data.load().device.type == "meta"


def test_tracing_leaves_no_fake_tensors_in_the_model() -> None:
    class Caching(torch.nn.Module):
        cache: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.cache = x * 2
            return self.cache + 1

    model = Caching()
    with pytest.warns(UserWarning, match="assigned during export"):
        capture(model, (X,))
    assert model.cache is None


def test_hooks_that_a_model_registers_while_it_is_traced_go_with_its_flag() -> None:
    class Hooking(torch.nn.Module):
        seen: set[int]

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.ready, self.calls, self.seen = torch.nn.Linear(4, 4), False, [], set()

        @staticmethod
        def plus_one(_module: torch.nn.Module, _args: Any, y: torch.Tensor) -> torch.Tensor:
            return y + 1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.ready:
                self.inner.register_forward_hook(self.plus_one)
                self.ready = True
            self.calls.append(x)
            self.seen.add(x.ndim)
            return self.inner(x)

    model = Hooking()
    capture(model, (X,))
    got = Executor(capture(model, (X,))).run([X])[0]
    assert not model.calls and not model.seen
    torch.testing.assert_close(got, model(X))


def test_saved_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(4, 2), (X,)), path)
    module = import_exported(export(path).program)
    assert sorted(module.weights) == ["bias", "weight"]
    assert ops(module) == ["linear", "return"]


def test_locations_name_the_module_and_the_line() -> None:
    class Inner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(x)

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Inner())
    sine = next(op for op in capture(model, (X,)).walk() if op.name == "sin")
    lines, first = inspect.getsourcelines(Inner)
    assert (sine.loc.name, sine.loc.file, sine.loc.line) == ("1", __file__, first + len(lines) - 1)


# **** control flow ****


def test_cond_becomes_if() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x * 2, (x,))

    module = capture(function, (X,))
    verify(module)
    assert "if" in ops(module)
    for x in (X, -X):
        assert torch.equal(Executor(module).run([x])[0], function(x))


def test_while_loop_becomes_while() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        start = torch.zeros((), dtype=torch.long)
        step = lambda i, x: (i + 1, x * 2)  # noqa: E731
        return while_loop(lambda i, x: i < 3, step, (start, x))

    module = capture(function, (X,))
    verify(module)
    got = Executor(module).run([X])
    assert torch.equal(got[1], X * 8)


# **** errors ****


def test_every_unsupported_operation_is_listed_with_its_line() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        a = torch.ops.samples.odd(x)
        b = torch.ops.samples.strange(x) + torch.ops.samples.strange(x + 1)
        return a.sum() + b

    with pytest.raises(MaiaError) as caught:
        capture(function, (X,))
    error = caught.value
    assert error.code == "MAIA0201"
    _, first = inspect.getsourcelines(function)
    assert [d.split(":")[0] for d in error.details] == ["samples", "samples"]
    assert "odd.default: 1x" in error.details[0] and "strange.default: 2x" in error.details[1]
    assert f"{__file__}:{first + 1}" in error.details[0]
    assert f"{__file__}:{first + 2}" in error.details[1]


def test_control_flow_on_data_is_explained_at_its_line() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(MaiaError) as caught:
        capture(function, (X,))
    error = caught.value
    assert error.code == "MAIA0202"
    assert error.loc is not None
    assert (error.loc.file, error.loc.line) == (__file__, inspect.getsourcelines(function)[1] + 1)
    assert error.__cause__ is not None


def test_a_dim_that_the_model_fixes_is_reported() -> None:
    with pytest.raises(MaiaError) as caught:
        capture(lambda x: x + torch.ones(3, 1), (X,), dynamic_shapes=({0: Dim("T", min=2, max=9)},))
    assert caught.value.code == "MAIA0203"
    assert "T" in str(caught.value)


def test_a_failing_model_is_reported_at_its_line() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    with pytest.raises(MaiaError) as caught:
        capture(function, (X,))
    assert caught.value.code == "MAIA0204"
    assert caught.value.loc is not None
    assert caught.value.loc.file == __file__


def test_a_file_that_is_no_program_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(MaiaError) as caught:
        export(path)
    assert caught.value.code == "MAIA0205"


def test_a_constant_that_is_no_tensor_is_reported() -> None:
    program = torch.export.export(torch.nn.Linear(4, 2), (X,))
    program.state_dict["weight"] = object()  # type: ignore[assignment]
    from maiac.frontends.exported import ProgramImport

    found = ProgramImport(program, {})
    found.run()
    with pytest.raises(MaiaError) as caught:
        found.journal.check()
    assert caught.value.code == "MAIA0206"


def test_types_are_what_torch_traced() -> None:
    module = capture(lambda x: (x.sum(dtype=torch.float64), x.half(), x > 0), (X,))
    assert [t.dtype.text for t in module.main.result_types if isinstance(t, TensorType)] == ["f64", "f16", "bool"]  # type: ignore[union-attr]


def test_what_torch_cannot_decompose_is_a_numbered_error_at_its_line():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3, momentum=None)).train()  # a factor that depends on data
    with pytest.raises(MaiaError) as caught:
        capture(model, (torch.randn(4, 3),))
    error = caught.value
    assert error.code == "MAIA0204" and "torch cannot decompose" in error.message
