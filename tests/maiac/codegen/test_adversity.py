"""What a program meets from outside: odd tensors, weights that change, numbers at the edge of their type."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import maiac
from maiac.codegen.store import PackStore
from maiac.ir import MaiaError, parse

from .harness import Ran, check


def program(body: str, result: str, **args: str) -> maiac.ir.Module:
    """A module of one operation."""
    given = ", ".join(f"%{name}: {type}" for name, type in args.items())
    return parse(f"module @m {{ func @main({given}) -> {result} {{ %0 = {body} : {result}\n return %0 }} }}")


DOUBLED = program("add %x, %x", "f32[4, 40]", x="f32[4, 40]")


def test_tensors_of_another_device_are_refused():
    with pytest.raises(MaiaError) as caught:
        Ran(DOUBLED).executor.run([torch.empty(4, 40, device="meta")])
    assert caught.value.code == "MAIA0502" and "f32[4, 40] on meta" in str(caught.value)


def test_negated_and_expanded_views_are_read_as_they_look():
    negated = torch.randn(4, 40, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    for x in (negated, torch.randn(40).expand(4, 40), torch.randn(40, 4).t(), torch.randn(161)[1:].view(4, 40)):
        (got,) = Ran(DOUBLED).executor.run([x])
        torch.testing.assert_close(got, x + x)


QUOTIENTS = ["floor_div", "trunc_div", "remainder", "fmod"]


@pytest.mark.parametrize("op", QUOTIENTS)
@pytest.mark.parametrize("dtype", ["i32", "i64", "i8"])
def test_the_lowest_integer_by_minus_one_wraps_around(op: str, dtype: str):
    torch_type = {"i32": torch.int32, "i64": torch.int64, "i8": torch.int8}[dtype]
    low = torch.iinfo(torch_type).min
    body = f"%0 = constant {{value = -1, dtype = {dtype}}} : {dtype}[]\n %1 = {op} %x, %0 : {dtype}[4]\n return %1"
    ran = Ran(parse(f"module @m {{ func @main(%x: {dtype}[4]) -> {dtype}[4] {{ {body} }} }}"))
    (got,) = ran.run([torch.tensor([low, 7, -7, 6], dtype=torch_type)])
    assert not ran.refused
    assert got.tolist() == ([low, -7, 7, -6] if op.endswith("div") else [0, 0, 0, 0])  # torch itself ends with a signal


@pytest.mark.parametrize("op", QUOTIENTS)
def test_an_integer_by_0_is_an_error(op: str):
    ran = Ran(program(f"{op} %x, %y", "i64[2]", x="i64[2]", y="i64[2]"))
    with pytest.raises(MaiaError, match=f"MAIA0503: {op} failed: ZeroDivisionError"):
        ran.executor.run([torch.tensor([4, 5]), torch.tensor([2, 0])])


def test_quotients_round_down_as_torch_has_them():
    x = torch.tensor([1.0, -1.0, 7.0, -7.0, 0.0, 5.0, 0.6, float("nan")])
    y = torch.tensor([0.1, float("inf"), 0.0, -2.0, -3.0, 0.7, 0.2, 1.0])
    check(program("floor_div %x, %y", "f32[8]", x="f32[8]", y="f32[8]"), x, y)


def test_numbers_that_no_integer_holds_are_cut_as_torch_cuts_them():
    x = torch.tensor([300.0, -5.0, 70000.0, -129.0, 255.9, -0.9])
    for dtype in ("i8", "u8", "i16", "i32", "i64"):
        check(program(f"cast %x {{to = {dtype}}}", f"{dtype}[6]", x="f32[6]"), x)


@pytest.mark.parametrize("shape, dim", [((3, 2_000_000), 1), ((500_000, 5), 0)])
def test_long_sums_stay_exact(shape: tuple[int, int], dim: int):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    module = program(f"sum %x {{dims = [{dim}]}}", f"f32[{shape[1 - dim]}]", x=f"f32[{shape[0]}, {shape[1]}]")
    (got,) = Ran(module).run([x])
    torch.testing.assert_close(got.double(), x.double().sum(dim), rtol=1e-6, atol=0)


class Scaled(torch.nn.Module):
    """Weights in three places: packed, as they are, and copied into another order."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 64)
        self.norm = torch.nn.LayerNorm(64)
        self.turned = torch.nn.Parameter(torch.randn(64, 5).t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x)) + self.turned


def test_weights_that_change_in_place_are_seen_together():
    model, x = Scaled().eval(), torch.randn(5, 64)
    artifact = maiac.compile(model, (x,))
    for _ in range(3):
        with torch.no_grad():
            torch.testing.assert_close(artifact(x), model(x), rtol=1e-4, atol=1e-5)
            for parameter in model.parameters():
                parameter.mul_(1.5).add_(0.1)


def test_packed_weights_are_on_the_disk_before_they_have_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    monkeypatch.delattr("os.posix_fallocate", raising=False)  # as on a Mac
    store = PackStore(tmp_path / "model.maia", "")

    def fill(i: int, block: torch.Tensor) -> None:
        block.fill_(i + 1)

    blocks = store.blocks("key", [5_000_000, 70], fill)
    assert blocks is not None and synced
    assert [int(b.sum()) for b in blocks] == [5_000_000, 140]


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setenv("MAIAC_CACHE_DIR", str(tmp_path / "cache"))
    store = PackStore(tmp_path / "model.maia", "")
    assert store.blocks("key", [5_000_000], lambda i, block: None) is None
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
