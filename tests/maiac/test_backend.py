"""torch.compile(backend="maia"): inference, training, dynamic shapes, errors."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters
from torch.multiprocessing.reductions import StorageWeakRef

from maiac.freezing import FreezingExecutor
from maiac.ir import Module, parse
from maiac.passes.manager import run_pipeline
from maiac.passes.pipeline import default_pipeline
from maiac.runtime.executor import Executor
from tests.maiac import samples
from tests.models.zoo import llama_config

RTOL, ATOL = 1e-4, 1e-5


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


class Net(torch.nn.Module):
    """A convolutional net with normalisation, pooling and a head: most backward formulas of vision models."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.groups = torch.nn.GroupNorm(2, 8)
        self.down = torch.nn.Conv2d(8, 8, 3, stride=2, bias=False)
        self.up = torch.nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        x = self.up(F.silu(self.down(x)))
        x = F.gelu(self.groups(F.interpolate(x, scale_factor=2.0, mode="bilinear")))
        x = F.avg_pool2d(F.hardswish(x), 2) + F.adaptive_avg_pool2d(x, (3, 3)).mean()
        return self.head(F.adaptive_avg_pool2d(F.leaky_relu(x), 1).flatten(1))


class Block(torch.nn.Module):
    """Attention and a gated layer: most backward formulas of language models."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(20, 16)
        self.norm = torch.nn.LayerNorm(16)
        self.scale = torch.nn.RMSNorm(16)
        self.qkv = torch.nn.Linear(16, 48)
        self.out = torch.nn.Linear(16, 20)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(ids))
        q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        y = self.scale(torch.tanh(y) + F.softmax(y, -1) * F.elu(y) + F.softplus(y))
        return self.out(y + F.mish(x) * torch.sigmoid(x))


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("make", "inputs"), [(Net, torch.randn(2, 3, 12, 12)), (Block, torch.randint(0, 20, (2, 6)))], ids=["net", "block"]
)
def test_gradients_equal_eager(make: Any, inputs: torch.Tensor) -> None:
    model = make()
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="maia")
    want_loss, got_loss = model(inputs).square().mean(), compiled(inputs).square().mean()
    torch.testing.assert_close(got_loss, want_loss, rtol=RTOL, atol=ATOL)
    want, got = gradients(model, want_loss), gradients(twin, got_loss)
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-3, atol=ATOL, msg=lambda m, n=name: f"{n}: {m}")
    for (name, a), (_, b) in zip(twin.named_buffers(), model.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=ATOL, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.usefixtures("kernels")
def test_three_training_steps_of_a_llama_give_eagers_losses() -> None:
    from transformers import LlamaForCausalLM

    ids = torch.randint(0, 128, (2, 16))

    def losses(model: Any, call: Any) -> list[float]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        found: list[float] = []
        for _ in range(3):
            optimizer.zero_grad()
            logits = call(input_ids=ids, use_cache=False).logits
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    model = LlamaForCausalLM(llama_config(2))
    twin = copy.deepcopy(model)
    assert losses(twin, torch.compile(twin, backend="maia")) == pytest.approx(losses(model, model), abs=1e-4)


@pytest.mark.usefixtures("kernels")
def test_inference_equals_eager() -> None:
    model = Block().eval()
    compiled = torch.compile(model, backend="maia")
    ids = torch.randint(0, 20, (2, 6))
    with torch.no_grad():
        torch.testing.assert_close(compiled(ids), model(ids), rtol=RTOL, atol=ATOL)


def test_it_is_the_first_thing_that_a_process_does() -> None:
    code = (
        "import torch, maiac\n"
        "model, x = torch.nn.Sequential(torch.nn.LayerNorm(4), torch.nn.Linear(4, 4)).eval(), torch.ones(2, 4)\n"
        "with torch.no_grad():\n"
        "    torch.testing.assert_close(torch.compile(model, backend='maia')(x), model(x))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("kernels")
def test_a_shape_in_range_traces_nothing_again() -> None:
    model = Block().eval()
    compiled = torch.compile(model, backend="maia", dynamic=True)
    counters.clear()
    with torch.no_grad():
        for length in (6, 9, 17, 3):
            ids = torch.randint(0, 20, (2, length))
            torch.testing.assert_close(compiled(ids), model(ids), rtol=RTOL, atol=ATOL)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.usefixtures("kernels")
def test_training_with_dynamic_shapes() -> None:
    model = Block()
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="maia", dynamic=True)
    for length in (6, 9):
        ids = torch.randint(0, 20, (2, length))
        model.zero_grad()
        twin.zero_grad()
        want, got = gradients(model, model(ids).square().mean()), gradients(twin, compiled(ids).square().mean())
        for name in want:
            torch.testing.assert_close(got[name], want[name], rtol=1e-3, atol=ATOL)


@pytest.mark.usefixtures("kernels")
def test_writes_to_inputs_are_seen_by_the_caller() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x * 2

    x = torch.ones(3)
    got = torch.compile(function, backend="maia")(x)
    assert torch.equal(x, torch.full((3,), 2.0))
    assert torch.equal(got, torch.full((3,), 4.0))


def test_an_unsupported_operation_is_named() -> None:
    assert samples.LIBRARY  # it holds the operators of torch.ops.samples
    compiled = torch.compile(lambda x: torch.ops.samples.odd(x) + 1, backend="maia")
    with pytest.raises(Exception, match=r"MAIA0201[\s\S]*odd.default"):
        compiled(torch.ones(3))


def test_unknown_options_are_refused() -> None:
    compiled = torch.compile(lambda x: x + 1, backend="maia", options={"speed": 11})
    with pytest.raises(Exception, match="MAIA0213: unknown options: speed"):
        compiled(torch.ones(3))


def test_another_pipeline_can_be_asked_for() -> None:
    compiled = torch.compile(lambda x: x + 1, backend="maia", options={"passes": "dce"})
    assert torch.equal(compiled(torch.ones(3)), torch.full((3,), 2.0))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_inference_kernel_of_an_encoder_layer(norm_first: bool) -> None:
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first)
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(2, 5, 16)
    padding = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    compiled = torch.compile(model, backend="maia")
    with torch.no_grad():
        for masks in ({}, {"mask": causal}, {"src_key_padding_mask": padding}):
            torch.testing.assert_close(compiled(x, **masks), model(x, **masks), rtol=RTOL, atol=ATOL)


def test_what_a_gradient_needs_and_no_handler_makes_is_named() -> None:
    model = torch.nn.EmbeddingBag(10, 4, mode="mean")
    ids, offsets = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 2])
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="maia")(ids, offsets), model(ids, offsets))
    with pytest.raises(Exception, match=r"MAIA0201.*(\n.*)*_embedding_bag.*which the gradient needs"):
        torch.compile(model, backend="maia")(ids, offsets)


FREEZING: dict[str, Any] = {"freezing": True}


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("make", "inputs"), [(Net, torch.randn(2, 3, 12, 12)), (Block, torch.randint(0, 20, (2, 6)))], ids=["net", "block"]
)
def test_frozen_inference_equals_eager(make: Any, inputs: torch.Tensor) -> None:
    model = make().eval()
    compiled = torch.compile(model, backend="maia", options=FREEZING)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(compiled(inputs), model(inputs), rtol=RTOL, atol=ATOL)


def _count_programs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of inputs of all programs that are made from now on."""
    made: list[int] = []
    original = Executor.__init__

    def init(self: Executor, module: Module, **more: Any) -> None:
        made.append(len(module.main.args))
        original(self, module, **more)

    monkeypatch.setattr(Executor, "__init__", init)
    return made


def test_frozen_weights_are_inputs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _count_programs(monkeypatch)
    model, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with torch.no_grad():
        for options in ({}, FREEZING):
            torch._dynamo.reset()
            compiled = torch.compile(model, backend="maia", options=options)
            for _ in range(3):
                compiled(x)
    assert made == [3, 1]


@pytest.mark.usefixtures("kernels")
def test_writes_to_frozen_weights_are_seen() -> None:
    linear, norm, x = torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4, affine=False), torch.randn(2, 4)
    mean = torch.zeros(4)
    norm.running_mean = mean
    model = torch.nn.Sequential(linear, norm).eval()
    compiled = torch.compile(model, backend="maia", options=FREEZING)

    def check() -> None:
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), model(x), rtol=RTOL, atol=ATOL)

    check()
    with torch.no_grad():
        linear.weight.mul_(2)
    check()
    mean.add_(1)
    check()
    linear.weight = torch.nn.Parameter(torch.randn(4, 4))
    check()
    model.load_state_dict({k: torch.full_like(v, 2) for k, v in model.state_dict().items()})
    check()


def test_layers_that_share_a_graph_keep_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _count_programs(monkeypatch)
    layers = [torch.nn.Linear(4, 4) for _ in range(3)]
    compiled = [torch.compile(layer, backend="maia", options=FREEZING) for layer in layers]
    x = torch.randn(2, 4)
    with torch.no_grad():
        for _ in range(2):
            for layer, fast in zip(layers, compiled, strict=True):
                torch.testing.assert_close(fast(x), layer(x))
    assert made == [1, 1, 1]


def test_a_buffer_that_the_model_writes_is_not_frozen() -> None:
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.full((2,), 3.0))
            self.register_buffer("count", torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return x * self.scale + self.count

    compiled = torch.compile(Counter(), backend="maia", options=FREEZING)
    with torch.no_grad():
        assert [compiled(torch.ones(2)).tolist() for _ in range(3)] == [[4, 4], [5, 5], [6, 6]]


def test_frozen_programs_go_with_their_weights() -> None:
    body = "%0 = add %x, %w : f32[2]\n return %0"
    module = parse(f"module @m {{ func @main(%x: f32[2], %w: f32[2]) -> f32[2] {{ {body} }} }}")
    executor = FreezingExecutor(module, [1], Executor)
    weight = torch.ones(2)
    assert executor.run([torch.ones(2), weight])[0].tolist() == [2, 2]
    assert len(executor._frozen) == 1
    del weight
    assert not executor._frozen


def test_no_weight_comes_to_lie_where_a_folded_one_lay() -> None:
    body = "%0 = add %w, %v : f32[2]\n %1 = add %x, %0 : f32[2]\n return %1"
    module = parse(f"module @m {{ func @main(%x: f32[2], %w: f32[2], %v: f32[2]) -> f32[2] {{ {body} }} }}")

    def folded(program: Module) -> Executor:
        run_pipeline(program, default_pipeline())
        return Executor(program)

    executor = FreezingExecutor(module, [1, 2], folded)
    weights = [torch.ones(2), torch.ones(2)]
    assert executor.run([torch.ones(2), *weights])[0].tolist() == [3, 3]
    memory = StorageWeakRef(weights[1].untyped_storage())
    weights[1].data = torch.zeros(2)
    assert not memory.expired()
    assert executor.run([torch.ones(2), *weights])[0].tolist() == [2, 2]
    del weights[1]
    assert not executor._frozen
    assert memory.expired()
