"""Views against torch's own strides."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from maiac.codegen.views import Buffer, View, dense, nest
from maiac.ir.dims import evaluate, sym
from maiac.ir.dtypes import DType

SIZES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)


def view_of(x: torch.Tensor) -> View:
    return View(Buffer("arena", DType.F32, x.numel()), tuple(x.shape), x.stride(), int(x.storage_offset()))


def tensor_of(view: View, data: torch.Tensor) -> torch.Tensor:
    dims, strides = ([evaluate(n, {}) for n in numbers] for numbers in (view.dims, view.strides))
    return data.as_strided(dims, strides, evaluate(view.offset, {}))


@st.composite
def moved(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Storage, and a tensor made from it by slices, transposes and broadcasts."""
    shape = draw(SIZES)
    data = torch.arange(math.prod(shape) * 1.0)
    x = data.reshape(shape)
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["transpose", "slice", "expand"]))
        if kind == "transpose":
            x = x.permute(draw(st.permutations(range(x.ndim))))
        elif kind == "slice":
            dim = draw(st.integers(0, x.ndim - 1))
            start = draw(st.integers(0, x.shape[dim] - 1))
            x = x.narrow(dim, start, x.shape[dim] - start)
        elif x.ndim < 5:
            x = x.expand(2, *x.shape)
    return data, x


@given(moved(), st.data())
def test_reshape_is_a_view_wherever_it_is_one_in_torch(made: tuple[torch.Tensor, torch.Tensor], data: st.DataObject):
    storage, x = made
    shape = data.draw(st.permutations([d for n in x.shape for d in factors(n)] or [1]))
    got = view_of(x).reshape(shape)
    try:
        want = x.view(shape)
    except RuntimeError:
        assert got is None
        return
    if got is not None:  # runs of broadcast dims may be beyond us; a copy is right as well
        assert torch.equal(tensor_of(got, storage), want)
    elif 0 not in x.stride():
        raise AssertionError(f"{x.shape} {x.stride()} -> {shape} needs no copy")


def factors(n: int) -> list[int]:
    return {4: [2, 2], 6: [2, 3]}.get(n, [n])


@given(moved())
def test_a_nest_visits_every_element_once(made: tuple[torch.Tensor, torch.Tensor]):
    storage, x = made
    loops = nest([view_of(x)], range(x.ndim))
    offsets = [int(x.storage_offset())]
    for loop in loops:
        step, count = evaluate(loop.steps[0], {}), evaluate(loop.count, {})
        offsets = [o + i * step for o in offsets for i in range(count)]
    assert torch.equal(storage[offsets], x.reshape(-1))


def test_symbolic_dims_reshape_by_their_products():
    t = sym("T")
    x = View(Buffer("arena", DType.F32, t * 768), (1, t, 768), dense((1, t, 768)))
    heads = x.reshape((1, t, 12, 64))
    assert heads is not None and heads.strides[1:] == (768, 64, 1)
    back = heads.transpose((0, 2, 1, 3)).transpose((0, 2, 1, 3)).reshape((t, 768))
    assert back is not None and back.strides == (768, 1)
    assert heads.transpose((0, 2, 1, 3)).reshape((12 * t, 64)) is None
    assert evaluate(back.dims[0], {"T": 5}) == 5
