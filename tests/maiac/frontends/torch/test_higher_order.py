"""Higher-order operators of torch: branches, loops, scans and flex_attention against eager, also with dynamic sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._higher_order_ops import scan, while_loop
from torch._higher_order_ops.associative_scan import associative_scan, associative_scan_op
from torch.export import Dim
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

import maiac
from maiac.frontends.aliases import without_aliases
from maiac.frontends.exported import export

map_rows: Any = import_module("torch._higher_order_ops.map").map  # its annotations refuse every use
T = Dim("T", min=2, max=64)
X = torch.linspace(-1.0, 1.5, 24).reshape(6, 4)
LONGER = torch.linspace(-2.0, 1.0, 36).reshape(9, 4)


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.int64)


def same(model: Any, *calls: Sequence[Any], shapes: Any = None, rtol: float = 1e-5, atol: float = 1e-6) -> list[str]:
    """Compile on the first call's arguments, compare all calls with eager; the names of the program's ops."""
    with torch.no_grad():
        artifact = maiac.compile(model, calls[0], dynamic_shapes=shapes)
        for args in calls:
            torch.testing.assert_close(artifact(*args), model(*args), rtol=rtol, atol=atol)
    return [op.name for op in artifact.module.walk()]


# **** branches ****


class Branches(torch.nn.Module):
    """Both branches read parameters, a buffer and a value from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.register_buffer("offset", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        return torch.cond(x.sum() > 0, lambda x: self.a(x) + y, lambda x: self.b(x) - self.offset, (x,))


def nested_branches(x: Tensor) -> Tensor:
    def inner(x: Tensor) -> Tensor:
        return torch.cond(x.max() > 1, lambda x: x + 1, lambda x: x - 1, (x,))

    return torch.cond(x.sum() > 0, inner, torch.cos, (x,))


def branches_by_size(x: Tensor) -> Tensor:
    return torch.cond(x.shape[0] > 6, torch.sin, torch.cos, (x,))


@pytest.mark.parametrize("model", [Branches(), nested_branches, branches_by_size])
def test_branches(model: Any) -> None:
    assert "if" in same(model, (X,), (-X,), (LONGER,), (-LONGER,), shapes=({0: T},))


def test_branches_of_different_sizes_join_in_one_of_the_run() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: x[:3].clone(), lambda x: x[1:].clone(), (x,)) * 2

    same(model, (X,), (-X,))


def test_a_branch_may_give_back_what_it_was_given() -> None:
    """torch traces this, but refuses to decompose it: the copies that it asks for are made and taken away again."""

    def model(x: Tensor) -> dict[str, Tensor]:
        made = torch.cond(x.sum() > 0, lambda x: (x.sin(), x.sum()), lambda x: (x, x.sum() * 2), (x,))
        return {"a": made[0], "b": made[1]}

    artifact = maiac.compile(model, (X,))
    assert torch.equal(artifact(-X)["a"], -X)
    assert torch.equal(artifact(X)["a"], X.sin())


def test_copies_against_aliases_leave_the_graph_as_it_was() -> None:
    def model(x: Tensor) -> Any:
        return while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y + x), (zero(), x))

    program = export(model, (X,)).program
    before = program.graph_module.print_readable(print_output=False)
    with without_aliases(program.graph_module):
        assert "clone" in program.graph_module.code
    assert program.graph_module.print_readable(print_output=False) == before


# **** loops ****


def carries_numbers(x: Tensor) -> Any:
    """The counter is a Python integer."""
    return while_loop(lambda i, a: i < x.shape[0], lambda i, a: (i + 1, a + x[i]), (0, torch.zeros(4)))


def reads_what_it_carries(x: Tensor) -> Any:
    """x is carried and read from outside as well."""
    return while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, torch.tanh(y) + x), (zero(), x))


def nested_loops(x: Tensor) -> Any:
    def step(i: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        _, y = while_loop(lambda j, y: j < i, lambda j, y: (j + 1, y + 1), (zero(), x))
        return i + 1, y * 2

    return while_loop(lambda i, x: i < 4, step, (zero(), x))


def branch_in_a_loop(x: Tensor) -> Any:
    def step(i: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return i + 1, torch.cond(x.sum() > 0, lambda x: x - 1, lambda x: x + 2, (x,))

    return while_loop(lambda i, x: i < 5, step, (zero(), x))


@pytest.mark.parametrize("model", [carries_numbers, reads_what_it_carries, nested_loops, branch_in_a_loop])
def test_loops(model: Any) -> None:
    assert "while" in same(model, (X,), (LONGER,), shapes=({0: T},))


def test_a_loop_may_run_never() -> None:
    def model(x: Tensor, n: Tensor) -> Any:
        return while_loop(lambda i, x: i < n, lambda i, x: (i + 1, x * 1.5), (zero(), x))

    same(model, (X, torch.tensor(3)), (X, torch.tensor(0)), (LONGER, torch.tensor(7)), shapes=({0: T}, None))


# **** scans ****


class Recurrent(torch.nn.Module):
    """An LSTM cell over time, which carries two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.LSTMCell(4, 5)

    def forward(self, x: Tensor) -> Any:
        def step(state: tuple[Tensor, Tensor], x: Tensor) -> Any:
            h, c = self.cell(x, state)
            return (h, c), h.clone()

        start = torch.zeros(x.shape[1], 5)
        return scan(step, (start, start.clone()), x)


def test_a_scan_over_a_dynamic_length_is_a_loop() -> None:
    calls = [(torch.linspace(-1, 1, n * 8).reshape(n, 2, 4),) for n in (6, 2, 9)]
    assert "loop" in same(Recurrent().eval(), *calls, shapes=({0: T},))


def test_a_scan_from_the_end_along_another_dim() -> None:
    def model(x: Tensor) -> Any:
        return scan(lambda c, x: (c + x, (c * x).sum()), torch.zeros(6), x, dim=1, reverse=True)

    same(model, (X,))


def test_map_takes_trees_and_values_from_outside() -> None:
    def model(x: Tensor, y: Tensor) -> Any:
        rows = {"a": x, "b": x[:, None].repeat(1, 3, 1)}
        return map_rows(lambda row: {"sum": row["a"].sum() + y, "square": row["b"] @ row["b"].T}, rows)

    same(model, (X, torch.ones(3)), (LONGER, torch.ones(3)), shapes=({0: T}, None))


def test_a_scan_inside_of_map() -> None:
    def model(x: Tensor) -> Any:
        return map_rows(lambda row: scan(lambda c, e: (c + e, c * e), torch.zeros(()), row)[1], x)

    same(model, (X,), (LONGER,), shapes=({0: T},))


def recurrence(a: Tensor, b: Tensor) -> Any:
    """h[t] = a[t] h[t-1] + b[t] (a state-space model)."""
    return associative_scan(
        lambda early, late: (early[0] * late[0], early[1] * late[0] + late[1]), (a, b), 0, combine_mode="generic"
    )


def test_an_associative_scan_takes_any_length() -> None:
    lengths = (6, 2, 3, 16, 33)
    calls = [
        (torch.linspace(0.1, 0.9, n * 4).reshape(n, 4), torch.linspace(-1, 1, n * 4).reshape(n, 4)) for n in lengths
    ]
    assert "while" in same(recurrence, *calls, shapes=({0: T}, {0: T}))


def test_an_associative_scan_of_a_known_length_has_no_loop() -> None:
    assert "while" not in same(recurrence, (X.sigmoid(), X))


def test_an_associative_scan_along_the_last_dim_from_the_end() -> None:
    same(lambda x: associative_scan(lambda a, b: a * b, x, 1, reverse=True, combine_mode="generic"), (X,))


def test_the_operator_of_an_associative_scan_itself() -> None:
    """What torch leaves in programs that were exported on an accelerator."""

    class Scan(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Any:
            def combine(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
                return a * c, c * b + d

            return associative_scan_op(combine, [x, y], ())

    length = Dim("N", min=2, max=20)
    for shapes in (None, ({0: length}, {0: length})):
        program = torch.export.export(Scan(), (X, X + 1), dynamic_shapes=shapes, strict=False)
        a, b = maiac.compile(program)(X, X + 1)
        torch.testing.assert_close(a, X.cumprod(0))
        want = [X[0] + 1]
        for row in X[1:]:
            want.append(row * want[-1] + row + 1)
        torch.testing.assert_close(b, torch.stack(want))


# **** flex_attention ****

B, H, S, D = 2, 4, 40, 8
Mod = Callable[..., Any]
SLOPES = torch.exp2(-torch.arange(1, H + 1) * 2.0)
DOCUMENTS = torch.arange(S) // 15


def heads(count: int, tokens: int, seed: int) -> Tensor:
    return torch.randn(B, count, tokens, D, generator=torch.Generator().manual_seed(seed))


def qkv(tokens: int = S, groups: int = H) -> tuple[Tensor, Tensor, Tensor]:
    return heads(H, tokens, 0), heads(groups, tokens, 1), heads(groups, tokens, 2)


def causal(b: Any, h: Any, i: Any, j: Any) -> Any:
    return i >= j


def sliding(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (i >= j) & (i - j < 8)


def documents(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (DOCUMENTS[i] == DOCUMENTS[j]) & (i >= j)


def alibi(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    return score + SLOPES[h] * (j - i)


def capped(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    return 5 * torch.tanh(score / 5)


def all_of_it(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    return torch.where(i >= j, 5 * torch.tanh(score / 5) - SLOPES[h] * (i - j), -float("inf"))


@pytest.mark.parametrize(
    ("score", "mask", "attrs"),
    [
        (None, None, {}),
        (None, causal, {"causal": True}),
        (None, sliding, {"causal": True, "window": 8}),
        (None, documents, {}),
        (alibi, causal, {"causal": True}),
        (capped, sliding, {"softcap": 5.0, "causal": True, "window": 8}),
        (all_of_it, None, {"softcap": 5.0, "causal": True}),
    ],
)
def test_known_score_functions_become_the_attention_op(score: Mod | None, mask: Mod | None, attrs: Any) -> None:
    block_mask = None if mask is None else create_block_mask(mask, None, None, S, S, device="cpu")

    def model(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return flex_attention(q, k, v, score_mod=score, block_mask=block_mask, scale=0.3)

    artifact = maiac.compile(model, qkv())
    torch.testing.assert_close(artifact(*qkv()), model(*qkv()), rtol=1e-4, atol=1e-5)
    (op,) = [op for op in artifact.module.walk() if op.name == "attention"]
    assert {k: v for k, v in op.attrs.items() if k != "scale"} == attrs
    assert "softmax" not in [op.name for op in artifact.module.walk()]


def test_grouped_queries() -> None:
    block_mask = create_block_mask(causal, None, None, S, S, device="cpu")

    def model(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return flex_attention(q, k, v, block_mask=block_mask, enable_gqa=True)

    assert same(model, qkv(groups=2), rtol=1e-4, atol=1e-5) == ["attention", "return"]


def test_any_other_score_function_is_computed_as_eager_does() -> None:
    def odd(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        return torch.where(score > 0, score * 2, score.sin()) + (i == j)

    ops = same(lambda q, k, v: flex_attention(q, k, v, score_mod=odd), qkv(), rtol=1e-4, atol=1e-5)
    assert "attention" not in ops


def test_the_logarithm_of_the_sum_is_given_too() -> None:
    def model(q: Tensor, k: Tensor, v: Tensor) -> Any:
        out, more = flex_attention(q, k, v, score_mod=alibi, return_aux=AuxRequest(lse=True))
        return out, more.lse

    same(model, qkv(), rtol=1e-4, atol=1e-5)


def test_low_precision_keeps_a_bias_in_f32() -> None:
    q, k, v = (x.bfloat16() for x in qkv())

    def model(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return flex_attention(q, k, v, score_mod=alibi)

    assert "attention" in same(model, (q, k, v), rtol=2e-2, atol=2e-2)


class Layer(torch.nn.Module):
    """Self-attention that makes its mask from an input, and biases its scores by a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = torch.nn.Linear(H * D, 3 * H * D)
        self.slopes = torch.nn.Buffer(SLOPES.clone())

    def forward(self, x: Tensor, documents: Tensor) -> Tensor:
        def visible(b: Any, h: Any, i: Any, j: Any) -> Any:
            return (i >= j) & (documents[b, i] == documents[b, j])

        def biased(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
            return torch.where(visible(b, h, i, j), score + self.slopes[h] * (j - i), -float("inf"))

        q, k, v = self.qkv(x).view(*x.shape[:2], 3, H, D).permute(2, 0, 3, 1, 4)
        return flex_attention(q, k, v, score_mod=biased).transpose(1, 2).flatten(2)


def test_a_layer_of_dynamic_length_whose_mask_depends_on_an_input() -> None:
    calls = [(heads(1, n, 3)[:, 0].repeat(1, 1, H), torch.arange(n).repeat(B, 1) // 5) for n in (20, 7, 33)]
    assert "attention" in same(Layer().eval(), *calls, shapes=({1: T}, {1: T}), rtol=1e-4, atol=1e-5)


def test_a_block_mask_made_inside_of_the_model() -> None:
    blocks = Dim("blocks", min=2, max=8)

    def model(q: Tensor, k: Tensor, v: Tensor) -> Any:
        mask = create_block_mask(causal, None, None, q.shape[2], k.shape[2], device="cpu", BLOCK_SIZE=16)
        return flex_attention(q, k, v, block_mask=mask)

    ops = same(model, qkv(48), qkv(32), qkv(128), shapes=({2: 16 * blocks},) * 3, rtol=1e-4, atol=1e-5)
    assert ops == ["attention", "return"]


# **** torch.compile ****


def counts(x: Tensor) -> Any:
    return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 1.5), (torch.tensor(0), x))


def running(x: Tensor) -> Any:
    return scan(lambda c, x: (c + x, c * x), torch.zeros(4), x)


def attends(x: Tensor) -> Any:
    q = x.reshape(1, 1, 6, 4)
    return flex_attention(q, q * 2, q, score_mod=lambda s, b, h, i, j: s + (j - i))


@pytest.mark.parametrize("model", [nested_branches, counts, running, attends, lambda x: map_rows(torch.sin, x)])
def test_through_torch_compile(model: Any) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="maia", fullgraph=True)
    for x in (X, -X):
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-5)
