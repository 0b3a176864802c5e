"""One rank of a mesh, in one process: a communicator made of arithmetic stands for the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from maiac.ir import MaiaError, Module, parse, verify
from maiac.ir.dtypes import DType
from maiac.ir.ops.quant import absmax_scale, encode
from maiac.ir.types import Quantized
from maiac.runtime import Executor
from maiac.runtime.placement import coordinates, fitting_sizes, place, stage_owner
from maiac.runtime.weights import HeldTensor

MLP = """module @m {
  mesh <tp>
  sym T in 1..64
  weight @up : f32[8/tp, 4]
  weight @down : f32[4, 8/tp]
  func @main(%x: f32[T, 4]) -> f32[T, 4] {
    %h = linear %x, @up : f32[T, 8/tp]
    %s = reshape %h {shape = [T, 2, 4]} : f32[T, 2/tp, 4]
    %r = reshape %s {shape = [T, 8]} : f32[T, 8/tp]
    %y = linear %r, @down : f32[T, 4]+tp
    %z = all_reduce %y {over = tp} : f32[T, 4]
    return %z
  }
}"""


class Recorder:
    """Remembers what the executor asks, and answers with the operand."""

    def __init__(self, answer: Any = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answer = answer

    def run(
        self, name: str, x: torch.Tensor | None, attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype
    ) -> torch.Tensor | None:
        self.calls.append((name, x, dict(attrs), shape, dtype))
        return x if self.answer is None else self.answer


def mlp(up: Any, down: Any) -> Module:
    module = parse(MLP)
    module.weights["up"].data = HeldTensor(up)
    module.weights["down"].data = HeldTensor(down)
    return module


def test_parts_add_up():
    x, up, down = torch.rand(3, 4), torch.rand(8, 4), torch.rand(4, 8)
    module = mlp(up, down)
    want = F.linear(F.linear(x, up), down)
    parts: list[torch.Tensor] = []
    for rank in range(2):
        comm = Recorder()
        executor = Executor(module, mesh={"tp": 2}, rank=rank, comm=comm)
        parts += executor.run([x])
        ((name, _, attrs, shape, dtype),) = comm.calls
        assert (name, attrs, shape, dtype) == ("all_reduce", {"over": "tp"}, (3, 4), torch.float32)
        assert executor.weight_bytes() == (up.numel() + down.numel()) * 4 // 2
    torch.testing.assert_close(parts[0] + parts[1], want, rtol=1e-6, atol=1e-6)
    assert torch.equal(Executor(module).run([x])[0], want)  # on a mesh of one nothing is sent


def test_quantized_parts_have_their_scales():
    up, down = torch.rand(8, 4), torch.rand(4, 8)
    dtype = Quantized(DType.I8, "channel", (0,))
    text = MLP.replace("weight @up : f32", "weight @up : channel<i8, 0>")
    module = parse(text.replace("weight @down : f32", "weight @down : channel<i8, 0>"))
    verify(module)
    q = {n: encode(w, dtype, absmax_scale(w, dtype)) for n, w in (("up", up), ("down", down))}
    for name, tensor in q.items():
        module.weights[name].data = HeldTensor(tensor)
    x = torch.rand(3, 4)
    parts = [Executor(module, mesh={"tp": 2}, rank=r, comm=Recorder()).run([x])[0] for r in range(2)]
    torch.testing.assert_close(parts[0] + parts[1], Executor(module).run([x])[0], rtol=1e-6, atol=1e-6)


STAGES = """module @m {
  mesh <pp = 2>
  weight @a : f32[4]
  weight @b : f32[4]
  func @first(%x: f32[4]) -> f32[4] on pp = 0 {
    %y = add %x, @a : f32[4]
    return %y
  }
  func @second(%x: f32[4]) -> f32[4] on pp = 1 {
    %y = mul %x, @b : f32[4]
    return %y
  }
  func @main(%x: f32[4]) -> f32[4] {
    %h = call %x {callee = @first} : f32[4]
    %m = send_recv %h {along = pp, source = 0, target = 1} : f32[4]
    %y = call %m {callee = @second} : f32[4]
    %z = broadcast %y {along = pp, source = 1} : f32[4]
    return %z
  }
}"""


def test_each_stage_runs_where_it_lives():
    module = parse(STAGES)
    a, b, x, other = torch.rand(4), torch.rand(4), torch.rand(4), torch.rand(4)
    module.weights["a"].data = HeldTensor(a)
    module.weights["b"].data = HeldTensor(b)
    assert torch.equal(Executor(module).run([x])[0], (x + a) * b)

    module.weights["b"].data = None  # the first rank never asks for it
    comm = Recorder(other)
    assert Executor(module, mesh={"pp": 2}, rank=0, comm=comm).run([x])[0] is other
    (send, last) = comm.calls
    assert send[0] == "send_recv" and torch.equal(send[1], x + a) and send[2]["target"] == 1
    assert last[:2] == ("broadcast", None) and last[2]["source"] == 1 and last[3:] == ((4,), torch.float32)

    module.weights["b"].data, module.weights["a"].data = HeldTensor(b), None
    comm = Recorder(other)
    Executor(module, mesh={"pp": 2}, rank=1, comm=comm).run([x])
    (receive, last) = comm.calls
    assert receive[:2] == ("send_recv", None) and torch.equal(last[1], other * b)


def test_four_stages_on_two_ranks():
    assert [stage_owner(s, 4, 2) for s in range(4)] == [0, 0, 1, 1]
    assert [stage_owner(s, 3, 2) for s in range(3)] == [0, 0, 1]


def test_a_result_that_stays_elsewhere():
    text = STAGES.replace("%z = broadcast %y {along = pp, source = 1} : f32[4]\n", "").replace("return %z", "return %y")
    with pytest.raises(MaiaError, match=r"results \[0\] of @main do not reach the rank at pp = 0"):
        Executor(parse(text), mesh={"pp": 2}, rank=0, comm=Recorder())


def test_shard_cuts_without_sending():
    module = parse("""module @m {
      mesh <tp>
      sym T in 1..64
      func @main(%x: f32[T, 4]) -> f32[T/tp, 4] {
        %y = shard %x {over = tp, dim = 0} : f32[T/tp, 4]
        return %y
      }
    }""")
    x = torch.rand(4, 4)
    assert torch.equal(Executor(module, mesh={"tp": 2}, rank=1).run([x])[0], x[2:])
    with pytest.raises(MaiaError, match="does not divide into 2 parts"):
        Executor(module, mesh={"tp": 2}, rank=1).run([x[:3]])


def test_coordinates_are_row_major():
    found = [tuple(coordinates({"pp": 2, "tp": 3}, rank).values()) for rank in range(6)]
    assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize(
    ("mesh", "rank", "message"),
    [
        ({"dp": 2}, 0, "the program has no mesh axis dp; it has: tp"),
        ({"tp": 3}, 0, "8 does not divide into 3 parts: dim 0 of @up = f32[8/tp, 4] and "),
        ({"tp": 0}, 0, "axis tp has 0 ranks"),
        ({"tp": 2}, 2, "rank 2 lies outside a mesh of 2"),
    ],
)
def test_meshes_that_do_not_fit(mesh: dict[str, int], rank: int, message: str):
    with pytest.raises(MaiaError) as caught:
        place(parse(MLP), mesh, rank)
    assert caught.value.code == "MAIA0506" and message in str(caught.value)


def test_a_mesh_that_does_not_divide_is_told_what_would():
    with pytest.raises(MaiaError, match="the mesh tp = 3 does not fit module @m: tp may be 1 or 2") as caught:
        place(parse(MLP), {"tp": 3}, 0)
    assert len(caught.value.details) == 2  # one line for each size, not for each tensor
    assert fitting_sizes(parse(MLP)) == {"tp": [1, 2]}
    assert fitting_sizes(parse(STAGES)) == {"pp": [1, 2]}


def test_more_ranks_than_stages():
    with pytest.raises(MaiaError, match="axis pp has 3 ranks, but the program was cut for at most 2"):
        place(parse(STAGES), {"pp": 3}, 0)


def test_a_communicator_is_needed():
    module = mlp(torch.rand(8, 4), torch.rand(4, 8))
    with pytest.raises(MaiaError) as caught:
        Executor(module, mesh={"tp": 2}).run([torch.rand(3, 4)])
    assert caught.value.code == "MAIA0507" and "all_reduce over tp = 2" in str(caught.value)
