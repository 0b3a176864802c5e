"""The memory plan: the packing, its independent check, and what runs make of it."""

from __future__ import annotations

import json
import random
from collections.abc import Hashable
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maiac.ir import MaiaError, parse
from maiac.runtime import Executor, memory
from maiac.runtime.arena import MemoryReport
from maiac.runtime.memory import ALIGNMENT, Buffer, Layout, assign, lower_bound
from maiac.runtime.memory_check import Move, faults
from maiac.runtime.memory_timeline import plan_over_time

buffers = st.lists(
    st.builds(
        lambda size, first, length: Buffer(size, first, first + length),
        st.integers(0, 5000),
        st.integers(0, 40),
        st.integers(0, 15),
    ),
    max_size=40,
)


def replay(planned: list[Buffer], layout: Layout) -> list[str]:
    """The check's verdict on buffers as values that are written at ``first`` and read at ``last``."""
    moves = [
        Move(
            f"step {t}",
            tuple(i for i, b in enumerate(planned) if b.last == t and b.first < t),
            tuple(i for i, b in enumerate(planned) if b.first == t),
        )
        for t in range(60)
    ]
    return faults(moves, {i: (layout.offsets[i], b.size) for i, b in enumerate(planned)}, (), layout.size, ALIGNMENT)


@settings(max_examples=200, deadline=None)
@given(buffers)
def test_plans_pass_the_check(planned: list[Buffer]):
    layout = assign(planned)
    assert replay(planned, layout) == []
    assert layout.size >= lower_bound(planned)
    assert layout.size <= sum(-(-b.size // ALIGNMENT) * ALIGNMENT for b in planned)


@settings(max_examples=200, deadline=None)
@given(buffers, st.data())
def test_the_check_finds_overlaps(planned: list[Buffer], data: st.DataObject):
    """Put a buffer onto one that is alive beyond its birth: the check must say so."""
    pairs = [
        (i, j)
        for i, a in enumerate(planned)
        for j, b in enumerate(planned)
        if i != j and a.size and b.size and a.first < b.first < a.last
    ]
    if not pairs:
        return
    i, j = data.draw(st.sampled_from(pairs))
    layout = assign(planned)
    at = list(layout.offsets)
    at[j] = at[i]
    size = max(layout.size, at[j] + planned[j].size)
    found = replay(planned, Layout(tuple(at), size))
    assert any("have been overwritten" in f or "while it reads it" in f for f in found)


def test_the_packing_is_tight_where_it_is_easy():
    chain = [Buffer(1000, i, i + 1) for i in range(50)]
    assert assign(chain).size == lower_bound(chain) == 2048


def test_empty_plans():
    assert assign([]) == Layout((), 0)
    assert assign([Buffer(0, 3, 4)]) == Layout((0,), 0)
    assert lower_bound([]) == 0


# **** the search ****


def first_fit(planned: list[Buffer], order: list[int]) -> int:
    """The arena of buffers that are placed in this order, each at the lowest gap; in plain words."""
    places: dict[int, tuple[int, int]] = {}
    for i in order:
        b, size, at = planned[i], -(-planned[i].size // ALIGNMENT) * ALIGNMENT, 0
        alive = [places[j] for j in places if planned[j].first <= b.last and planned[j].last >= b.first]
        for start, end in sorted(alive):
            if start - at >= size:
                break
            at = max(at, end)
        places[i] = (at, at + size)
    return max((end for _, end in places.values()), default=0)


def orders(planned: list[Buffer]) -> list[list[int]]:
    """By size, by time, by length of life, and by the area that size and life span."""
    keys = (
        lambda b: (-b.size, b.first),
        lambda b: (b.first, -b.size),
        lambda b: (b.first - b.last, -b.size),
        lambda b: (-b.size * (b.last - b.first + 1), b.first),
    )
    return [sorted(range(len(planned)), key=lambda i: key(planned[i])) for key in keys]


@settings(max_examples=200, deadline=None)
@given(buffers)
def test_the_search_is_never_worse_than_any_greedy_order(planned: list[Buffer]):
    greedy = min(first_fit(planned, [i for i in order if planned[i].size]) for order in orders(planned))
    assert assign(planned, search=0).size == greedy
    assert assign(planned, search=20_000).size <= greedy


@settings(max_examples=100, deadline=None)
@given(buffers, st.integers(0, 20_000))
def test_searched_plans_pass_the_check_at_any_budget(planned: list[Buffer], budget: int):
    assert replay(planned, assign(planned, budget)) == []


def crowd(count: int, seed: int, sizes: list[int]) -> list[Buffer]:
    """Buffers as a program makes them, one a step, most of them short-lived."""
    chance = random.Random(seed)
    lengths = [
        chance.randrange(1, 12) if chance.random() < 0.9 else chance.randrange(1, count // 3) for _ in range(count)
    ]
    return [Buffer(chance.choice(sizes), i, i + n) for i, n in enumerate(lengths)]


def test_the_search_reaches_the_bound_where_greedy_orders_do_not():
    better = 0
    for seed in range(12):
        planned = crowd(60, seed, [1 << 16, 1 << 18, 3 << 17, 1 << 20])
        assert assign(planned).size == lower_bound(planned)
        better += assign(planned, search=0).size > lower_bound(planned)
    assert better == 5


def test_plans_are_reproducible():
    planned = crowd(80, 1, [1 << 16, 1 << 18, 3 << 17, 1 << 20])
    assert assign(planned) == assign(planned)


def pairs_looked_at(monkeypatch: pytest.MonkeyPatch, planned: list[Buffer], search: int) -> int:
    """How many neighbors in time all placements of a plan look at: what planning takes."""
    put, looked = memory._Packing.put, [0]

    def counted(packing: memory._Packing, i: int, placed: list[bool]) -> int:
        looked[0] += len(packing.clashes[i])
        return put(packing, i, placed)

    with monkeypatch.context() as m:
        m.setattr(memory._Packing, "put", counted)
        assign(planned, search)
    return looked[0]


@pytest.mark.parametrize("search", [0, 10_000, memory.SEARCH])
def test_the_work_of_large_plans_is_bounded(monkeypatch: pytest.MonkeyPatch, search: int):
    planned = crowd(300, 300, [1 << 16, 1 << 18, 3 << 17, 1 << 20])
    pairs = sum(len(c) for c in memory._clashes(planned, range(len(planned))))
    once_each = len(memory._ORDERS) + 2  # each order, the best of them before the search, and its result
    assert pairs_looked_at(monkeypatch, planned, search) <= once_each * pairs + search + pairs


# **** over time ****


def test_a_plan_over_time():
    planned = [Buffer(100, 0, 2), Buffer(64, 1, 1), Buffer(0, 1, 9), Buffer(1000, 5, 6)]
    layout = assign(planned)
    found = plan_over_time(planned, layout)
    assert [(u.first, u.last, u.live) for u in found.uses] == [
        (0, 0, 128),
        (1, 1, 192),
        (2, 2, 128),
        (3, 4, 0),
        (5, 6, 1024),
    ]
    assert (found.arena, found.bound, found.peak, found.distance) == (1024, 1024, 5, 0)
    assert found.to_json()["uses"][1]["live"] == 192
    loose = plan_over_time(planned, Layout((128, 0, 0, 1024), 2048))
    assert loose.distance == 1 and "100.0% above the 1,024 alive at step 5" in loose.text()
    assert [u.top for u in loose.uses] == [256, 256, 256, 0, 2048]
    chart = loose.text().splitlines()
    assert len(chart) == 6 and chart[-1].count("#") == 24 and chart[-1].count(".") == 26
    assert len(loose.text(lines=2).splitlines()) == 3


def test_nothing_over_time():
    found = plan_over_time([], Layout((), 0))
    assert (found.arena, found.bound, found.distance, found.uses) == (0, 0, 0, ())
    assert found.text().startswith("arena 0 bytes")


@settings(max_examples=100, deadline=None)
@given(buffers)
def test_what_is_alive_over_time_is_the_bound(planned: list[Buffer]):
    layout = assign(planned)
    found = plan_over_time(planned, layout)
    assert found.bound == lower_bound(planned)
    assert all(u.live <= u.top <= layout.size for u in found.uses)
    assert all(a.last + 1 == b.first for a, b in zip(found.uses, found.uses[1:], strict=False))
    found.text()


MOVES = [
    Move("make a", (), ("a",)),
    Move("view v of a", ("a",), ("v",), (("v", "a"),)),
    Move("make b", ("v",), ("b",)),
    Move("make c", ("b",), ("c",)),
    Move("use", ("v", "c"), ("r",)),
]


@pytest.mark.parametrize(
    ("ranges", "size", "message"),
    [
        ({"a": (0, 64), "b": (64, 64), "c": (128, 64)}, 192, ""),
        ({"a": (0, 64), "b": (64, 64), "c": (128, 65)}, 192, "'c' at 128..193 lies outside"),
        ({"a": (-64, 64), "b": (64, 64), "c": (128, 64)}, 192, "'a' at -64..0 lies outside"),
        ({"a": (0, 64), "b": (96, 64), "c": (192, 64)}, 256, "'b' at 96 is not aligned"),
        ({"a": (0, 64), "b": (0, 64), "c": (128, 64)}, 192, "overwrites 'a' with 'b' while it reads it"),
        ({"a": (0, 65), "b": (128, 64), "c": (64, 64)}, 192, "reads 'v', but the bytes of 'a' have been overwritten"),
        ({"a": (0, 64), "b": (64, 64), "c": (128, 64), "r": (64, 64)}, 192, "the result 'r' shows bytes of the arena"),
    ],
)
def test_the_check_says_what_is_wrong(ranges: dict[Hashable, tuple[int, int]], size: int, message: str):
    found = faults(MOVES, ranges, ("r",), size, 64)
    assert any(message in f for f in found) if message else not found


CHAIN = """module @m {
  sym T in 1..100000
  func @main(%x: f32[T, 64], %y: f32[T, 64]) -> (f32[T, 64], f32[64, T]) {
    %a = add %x, %y : f32[T, 64]
    %v = transpose %a {perm = [1, 0]} : f32[64, T]
    %b = exp %v : f32[64, T]
    %c = mul %b, %v : f32[64, T]
    %d = transpose %c {perm = [1, 0]} : f32[T, 64]
    %e = sub %d, %y : f32[T, 64]
    %f = neg %e : f32[T, 64]
    %g = transpose %c {perm = [1, 0]} : f32[T, 64]
    %h = matmul %v, %g : f32[64, 64]
    %i = matmul %h, %b : f32[64, T]
    %j = relu %c : f32[64, T]
    %k = sub %i, %j : f32[64, T]
    return %f, %k
  }
}"""


def expected(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    a = x + y
    v = a.permute(1, 0)
    b = v.exp()
    c = b * v
    d = c.permute(1, 0)
    return -(d - y), (v @ d) @ b - c.relu()


def test_planned_runs_equal_eager_to_the_bit():
    executor = Executor(parse(CHAIN))
    for size in (100, 100, 100, 7, 7, 7, 100, 300, 300, 300):
        x, y = torch.rand(2, size, 64)
        for got, want in zip(executor.run([x, y]), expected(x, y), strict=True):
            assert torch.equal(got, want)
            assert got.stride() == want.stride()


def test_the_arena_is_used_and_reported():
    executor = Executor(parse(CHAIN))
    x, y = torch.rand(2, 512, 64)
    report = executor.memory_report([x, y])
    assert report.values_in_arena == 7 and report.values_outside == 2  # f and k are returned
    assert report.lower_bound <= report.arena < 6 * x.numel() * 4
    assert report.outside >= 1 * x.numel() * 4
    (plan,) = report.plans.values()
    assert report.lower_bound == plan.bound == max(u.live for u in plan.uses)
    assert MemoryReport.from_json(json.loads(json.dumps(asdict(report)))) == report
    first = [executor.run([x, y]) for _ in range(3)][-1]
    (known,) = executor._known.values()
    assert known.plan is not None and known.plan.size == report.arena
    assert len(executor._pool.idle) == 1
    executor.run([x, y])
    assert torch.equal(first[0], expected(x, y)[0])  # results are not in the arena


def test_the_live_bytes_are_those_of_all_values():
    """At step f: a, b and c, which are read later, e, and f; v and d are views."""
    x, y = torch.rand(2, 512, 64)
    assert Executor(parse(CHAIN)).live_bytes([x, y]) == 5 * x.numel() * 4


def test_small_values_stay_with_torch():
    assert Executor(parse(CHAIN)).memory_report([*torch.rand(2, 4, 64)]).values_in_arena == 1  # h: f32[64, 64]


def test_one_arena_serves_all_sizes():
    executor = Executor(parse(CHAIN))
    for size in (100, 300, 200):
        for _ in range(4):
            executor.run([*torch.rand(2, size, 64)])
    (arena,) = executor._pool.idle
    assert arena.size == max(k.plan.size for k in executor._known.values() if k.plan is not None)


def test_plans_are_bounded():
    executor = Executor(parse(CHAIN))
    for size in range(1, 100):
        executor.run([*torch.rand(2, size, 64)])
    assert len(executor._known) == 64


def test_values_put_away_in_lists_or_branches_keep_their_bytes():
    module = parse("""module @m {
      func @main(%x: f32[4096], %c: bool[]) -> f32[4096] {
        %a = exp %x : f32[4096]
        %b = neg %x : f32[4096]
        %p = if %c : f32[4096] () {
          yield %a
        } () {
          yield %b
        }
        %d = add %x, %x : f32[4096]
        %e = add %d, %d : f32[4096]
        %f = add %p, %e : f32[4096]
        return %f
      }
    }""")
    executor = Executor(module)
    x = torch.rand(4096)
    for c in (True, True, True, False):
        assert torch.equal(executor.run([x, torch.tensor(c)])[0], (x.exp() if c else -x) + 4 * x)


def test_undeclared_sharing_is_observed():
    """A cast to the same dtype gives its operand back, though no declaration says so."""
    module = parse("""module @m {
      func @main(%x: f32[4096]) -> f32[4096] {
        %a = exp %x : f32[4096]
        %b = cast %a {to = f32} : f32[4096]
        %c = neg %x : f32[4096]
        %d = neg %c : f32[4096]
        %e = add %b, %d : f32[4096]
        %f = cast %a {to = f32} : f32[4096]
        return %f
      }
    }""")
    executor = Executor(module)
    x = torch.rand(4096)
    kept = [executor.run([x])[0] for _ in range(4)]
    assert executor.memory_report([x]).values_in_arena == 3  # a is what the caller gets
    assert all(torch.equal(k, x.exp()) for k in kept)


def test_a_corrupt_plan_never_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("maiac.runtime.arena.assign", lambda b: Layout(tuple(0 for _ in b), max(x.size for x in b)))
    executor = Executor(parse(CHAIN))
    inputs = [*torch.rand(2, 512, 64)]
    executor.run(inputs)
    with pytest.raises(MaiaError) as caught:
        executor.run(inputs)
    assert caught.value.code == "MAIA0509"


def test_the_arena_can_be_turned_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAIAC_NO_ARENA", "1")
    executor = Executor(parse(CHAIN))
    for _ in range(4):
        executor.run([*torch.rand(2, 512, 64)])
    assert all(k.plan is None for k in executor._known.values())


def test_views_of_channels_last_results_keep_their_layout():
    module = parse("""module @m {
      weight @w : f32[8, 8, 3, 3]
      func @main(%x: f32[1, 8, 32, 32]) -> f32[1, 8, 32, 32] {
        %a = conv %x, @w {stride = [1, 1], padding = [1, 1], dilation = [1, 1]} : f32[1, 8, 32, 32]
        %b = sigmoid %a : f32[1, 8, 32, 32]
        %c = mul %a, %b : f32[1, 8, 32, 32]
        %d = add %c, %x : f32[1, 8, 32, 32]
        %e = neg %d : f32[1, 8, 32, 32]
        return %e
      }
    }""")
    from maiac.runtime.weights import HeldTensor

    w = torch.rand(8, 8, 3, 3)
    module.weights["w"].data = HeldTensor(w)
    executor = Executor(module)
    for layout in (torch.channels_last, torch.contiguous_format, torch.channels_last):
        x = torch.rand(1, 8, 32, 32).to(memory_format=layout)
        a = torch.nn.functional.conv2d(x, w, padding=1)
        for _ in range(3):
            assert torch.equal(executor.run([x])[0], -(a * a.sigmoid() + x))


def test_a_recording_of_other_shapes_is_not_a_plan():
    """Sizes that data determine are left to torch, whatever was recorded."""
    module = parse("""module @m {
      sym u1 in 0..inf
      func @main(%x: f32[4096]) -> f32[u1, 1] {
        %i = nonzero %x : i64[u1, 1]
        %f = cast %i {to = f32} : f32[u1, 1]
        %g = neg %f : f32[u1, 1]
        %h = neg %g : f32[u1, 1]
        return %h
      }
    }""")
    executor = Executor(module)
    for k in (4096, 4096, 4096, 10):
        x = (torch.arange(4096) < k).float()
        assert executor.run([x])[0].shape == (k, 1)
    assert executor.memory_report([x]).values_in_arena == 0
