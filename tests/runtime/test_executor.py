"""The executor: what it computes, binds, refuses, and tells."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from maiac.ir import MaiaError, Module, parse, verify
from maiac.runtime import Executor, run_module
from maiac.runtime.weights import DerivedTensor, HeldTensor, MetaTensor


def with_data(text: str, **tensors: Any) -> Module:
    module = parse(text)
    for name, tensor in tensors.items():
        (module.weights.get(name) or module.states[name]).data = HeldTensor(tensor)
    return module


def raises(code: str, call: Any, *args: Any) -> str:
    with pytest.raises(MaiaError) as caught:
        call(*args)
    assert caught.value.code == code
    return str(caught.value)


LAYERS = """module @m {
  sym T in 1..64 step 2
  func @layer(%x: f32[T, 4]) -> f32[T, 4] at "model.layers.0" {
    %a = add %x, %x : f32[T, 4] at "model.layers.0.attn"
    %r = reshape %a {shape = [T*2, 2]} : f32[2*T, 2] at "model.layers.01"
    %s = reshape %r {shape = [T, 4]} : f32[T, 4]
    return %s
  }
  func @main(%x: f32[T, 4], %n: dim<T>) -> (f32[T, 4], dim<2*T+1>) {
    %c = constant {value = 2.0, dtype = f64} : f64[]
    %y = call %x {callee = @layer} : f32[T, 4] at "model.layers.0"
    %z = call %y {callee = @layer} : f32[T, 4] at "model.layers.7"
    %k = mul %z, %c : f32[T, 4]
    %d = dim {value = 2*T+1} : dim<2*T+1>
    return %k, %d
  }
}"""


def test_calls_are_inlined_and_every_run_gives_the_same():
    executor = Executor(parse(LAYERS))
    for size in (4, 4, 4, 4, 6, 6, 6, 4):
        x = torch.rand(size, 4)
        y, n = executor.run([x, size])
        assert torch.equal(y, x * 8)
        assert n == 2 * size + 1 and type(n) is int


def test_locations_follow_the_call():
    seen = [(o.name, o.loc.name) for o in Executor(parse(LAYERS)).run_observed([torch.rand(2, 4), 2])]
    assert ("layer.0/a", "model.layers.0.attn") in seen
    assert ("layer.1/a", "model.layers.7.attn") in seen
    assert ("layer.1/r", "model.layers.01") in seen  # another module whose name only begins alike


def test_observer_sees_each_result():
    found: list[tuple[str, torch.Tensor]] = []
    executor = Executor(parse(LAYERS), observer=lambda name, loc, value: found.append((name, value)))
    x = torch.rand(2, 4)
    y, _ = executor.run([x, 2])
    values = dict(found)
    assert torch.equal(values["layer.0/a"], x + x)
    assert torch.equal(values["k"], y)


def test_observed_run_gives_results_and_leaves_grad_mode_alone():
    running = Executor(parse(LAYERS)).run_observed([torch.rand(2, 4), 2])
    while True:
        try:
            next(running)
            assert torch.is_grad_enabled()
        except StopIteration as done:
            assert done.value[1] == 5
            break


def test_results_are_ordinary_tensors():
    x = torch.rand(2, 4, requires_grad=True)
    y, _ = Executor(parse(LAYERS)).run([x, 2])
    assert not y.requires_grad and not y.is_inference()
    w = torch.rand(2, 4, requires_grad=True)
    (y * w).sum().backward()
    assert w.grad is not None and torch.equal(w.grad, y)
    assert torch.is_grad_enabled()


def test_inputs_may_be_views_arrays_or_numbers():
    executor = Executor(parse(LAYERS))
    whole = torch.rand(4, 2)
    assert torch.equal(executor.run([whole.t(), 2])[0], whole.t() * 8)
    array = np.random.rand(2, 4).astype(np.float32)
    array.flags.writeable = False
    assert torch.equal(executor.run([array, np.int64(2)])[0], torch.from_numpy(array.copy()) * 8)
    scalar = parse("module @m { func @main(%x: f32[]) -> f32[] { %y = neg %x : f32[] return %y } }")
    assert run_module(scalar, [2])[0].item() == -2.0
    assert run_module(scalar, [np.float32(3)])[0].item() == -3.0


def test_results_of_a_call_survive_the_next():
    executor = Executor(parse(LAYERS))
    kept = [(x, executor.run([x, 2])[0]) for x in torch.rand(5, 2, 4)]
    assert all(torch.equal(y, x * 8) for x, y in kept)


def test_autocast_of_the_caller_does_not_reach_the_program():
    module = parse("module @m { func @main(%x: f32[4, 4]) -> f32[4, 4] { %y = matmul %x, %x : f32[4, 4] return %y } }")
    x = torch.rand(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (y,) = run_module(module, [x])
    assert torch.equal(y, x @ x)


def test_a_returned_constant_is_the_callers_own():
    module = parse(
        "module @m { func @main() -> f32[2] { %c = constant {value = [1.0, 2.0], dtype = f32, shape = [2]} : f32[2] "
        "return %c } }"
    )
    executor = Executor(module)
    executor.run([])[0].zero_()
    assert executor.run([])[0].tolist() == [1.0, 2.0]


# **** inputs that do not fit ****


def test_wrong_count():
    text = raises("MAIA0501", Executor(parse(LAYERS)).run, [torch.rand(2, 4)])
    assert "takes 2 inputs (x: f32[T, 4], n: dim<T>), but 1 are given" in text


def test_all_faults_of_inputs_at_once():
    text = raises("MAIA0502", Executor(parse(LAYERS)).run, [torch.rand(2, 5, dtype=torch.float64), 2.5])
    assert "input x is f64[2, 5]; expected f32[T, 4]" in text
    assert "input n is float 2.5; expected dim<T>" in text


@pytest.mark.parametrize(
    ("shape", "n", "message"),
    [
        ((66, 4), 66, "dim 0 of input x makes T = 66; expected T in 1..64 step 2"),
        ((3, 4), 3, "dim 0 of input x makes T = 3; expected T in 1..64 step 2"),
        ((2, 5), 2, "dim 1 of input x is 5; expected 4"),
        ((2, 4), 4, "input n is 4; expected T = 2 (T = 2 from dim 0 of input x)"),
        ((2, 4), True, "input n is bool True; expected dim<T>"),
        ((2,), 2, "input x is f32[2]; expected f32[T, 4]"),
    ],
)
def test_one_fault_of_inputs(shape: tuple[int, ...], n: Any, message: str):
    assert message in raises("MAIA0502", Executor(parse(LAYERS)).run, [torch.rand(shape), n])


def test_dims_that_are_expressions_are_solved():
    module = parse("""module @m {
      sym T in 0..100
      sym S in 0..100
      func @main(%y: f32[T+S], %x: f32[2*T+1]) -> (dim<T>, dim<S>) {
        %t = dim {value = T} : dim<T>
        %s = dim {value = S} : dim<S>
        return %t, %s
      }
    }""")
    executor = Executor(module)
    assert executor.run([torch.rand(10), torch.rand(7)]) == [3, 7]
    text = raises("MAIA0502", executor.run, [torch.rand(10), torch.rand(8)])
    assert "dim 0 of input x is 8, which 2*T+1 cannot be" in text


def test_symbols_may_have_any_name():
    module = parse("""module @m {
      sym lambda in 1..9
      sym min in 1..9
      sym _v1 in 1..9
      func @main(%x: f32[lambda, min, _v1]) -> f32[_v1*min, lambda] {
        %y = reshape %x {shape = [_v1*min, lambda]} : f32[_v1*min, lambda]
        return %y
      }
    }""")
    assert run_module(module, [torch.rand(2, 3, 4)])[0].shape == (12, 2)


def test_a_symbol_that_nothing_determines():
    module = parse("""module @m {
      sym A in 1..9
      sym B in 1..9
      func @main(%x: f32[A*B]) -> f32[A] {
        %y = full {value = 1.0, dtype = f32, shape = [A]} : f32[A] at "model.mask"
        return %y
      }
    }""")
    assert "full at model.mask uses A" in raises("MAIA0508", run_module, module, [torch.rand(4)])


# **** symbols that the run tells ****


def test_symbols_from_results_and_bind():
    module = parse("""module @m {
      sym T in 1..64
      sym u1 in 0..inf
      sym n in 0..inf
      func @main(%x: f32[T], %k: i64[]) -> (i64[u1, 1], f32[u1+n], dim<u1>) {
        %i = nonzero %x : i64[u1, 1]
        bind %k {to = [n]}
        %f = full {value = 1.0, dtype = f32, shape = [u1+n]} : f32[u1+n]
        %d = dim {value = u1} : dim<u1>
        return %i, %f, %d
      }
    }""")
    executor = Executor(module)
    for _ in range(4):
        i, f, d = executor.run([torch.tensor([0.0, 1.0, 2.0]), torch.tensor(5)])
        assert i.tolist() == [[1], [2]] and f.shape == (7,) and d == 2


def test_a_callee_binds_its_symbols_at_each_call():
    module = parse("""module @m {
      sym T in 1..64
      sym u1 in 0..inf
      func @count(%x: f32[T]) -> f32[] {
        %i = nonzero %x : i64[u1, 1]
        %n = dim_tensor {value = u1, dtype = f32} : f32[]
        return %n
      }
      func @main(%x: f32[T], %y: f32[T]) -> (f32[], f32[]) {
        %a = call %x {callee = @count} : f32[]
        %b = call %y {callee = @count} : f32[]
        return %a, %b
      }
    }""")
    a, b = run_module(module, [torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0])])
    assert (a.item(), b.item()) == (1.0, 2.0)


# **** control flow ****

CONTROL = """module @m {
  sym T in 1..64
  sym u1 in 0..inf
  func @main(%c: bool[], %x: f32[T], %n: i64[]) -> (f32[u1], f32[T], f32[T]) {
    %one = constant {value = 1.0, dtype = f32} : f32[]
    %b = if %c : f32[u1] () {
      %s = slice %x {dim = 0, start = 1} : f32[T-1]
      yield %s
    } () {
      yield %x
    }
    %w = while %x : f32[T] (%v: f32[T]) {
      %t = sum %v : f32[]
      %lim = full {value = 100.0, dtype = f32, shape = []} : f32[]
      %go = lt %t, %lim : bool[]
      yield %go
    } (%u: f32[T]) {
      %d = add %u, %u : f32[T]
      %e = add %d, %one : f32[T]
      yield %e
    }
    %l = loop %n, _, %x {scans = 0} : f32[T] (%i: i64[], %g: bool[], %a: f32[T]) {
      %p = add %a, %one : f32[T]
      yield %g, %p
    }
    return %b, %w, %l
  }
}"""


@pytest.mark.parametrize("c", [True, False])
def test_control_flow(c: bool):
    executor = Executor(parse(CONTROL))
    x = torch.tensor([1.0, 2.0, 3.0])
    want = x
    while want.sum() < 100:
        want = want * 2 + 1
    for _ in range(4):
        b, w, n = executor.run([torch.tensor(c), x, torch.tensor(3)])
        assert torch.equal(b, x[1:] if c else x)
        assert torch.equal(w, want) and torch.equal(n, x + 3)


def test_fusions_run_as_their_ops():
    module = parse("""module @m {
      func @main(%x: f32[8192]) -> f32[8192] {
        %y = fusion %x : f32[8192] (%a: f32[8192]) {
          %e = exp %a : f32[8192]
          %s = add %e, %a : f32[8192]
          yield %s
        }
        %z = neg %y : f32[8192]
        return %z
      }
    }""")
    executor = Executor(module)
    assert [s.op.name for s in executor.program.steps] == ["exp", "add", "neg"]
    x = torch.rand(8192)
    assert all(torch.equal(executor.run([x])[0], -(x.exp() + x)) for _ in range(4))


# **** weights and states ****

LINEAR = """module @m {
  weight @w : f32[3, 4]
  func @main(%x: f32[2, 4]) -> f32[2, 3] {
    %y = linear %x, @w : f32[2, 3]
    return %y
  }
}"""


def test_weights_are_shared_and_loaded_once():
    loads: list[int] = []
    w = torch.rand(3, 4)

    def make() -> torch.Tensor:
        loads.append(1)
        return w

    module = parse(LINEAR)
    module.weights["w"].data = DerivedTensor(make)
    executors = [Executor(module), Executor(module)]
    assert not loads
    x = torch.rand(2, 4)
    assert all(torch.equal(e.run([x])[0], torch.nn.functional.linear(x, w)) for e in executors * 3)
    assert loads == [1]
    held = [e.prepare().space.globals[e.prepare().space.weights[module.weights["w"]]] for e in executors]
    assert held[0] is w and held[1] is w


def test_weights_without_contents():
    module = parse(LINEAR)
    assert "weight @w : f32[3, 4]" in raises("MAIA0504", run_module, module, [torch.rand(2, 4)])
    module.weights["w"].data = MetaTensor(torch.float32, (3, 4))
    assert "weight @w : f32[3, 4] (on meta)" in raises("MAIA0504", run_module, module, [torch.rand(2, 4)])


COUNTER = """module @m {
  sym B in 1..64
  state @s : f32[B, 2048]
  func @main(%x: f32[2048]) -> (f32[B, 2048], f32[B, 2048], dim<B>) {
    %old = read @s : f32[B, 2048]
    %new = add %old, %x : f32[B, 2048]
    write @s, %new
    %now = read @s : f32[B, 2048]
    %twice = add %now, %now : f32[B, 2048]
    %d = dim {value = B} : dim<B>
    return %now, %twice, %d
  }
}"""


def test_states_change_and_reset():
    start = torch.zeros(3, 2048)
    module = with_data(COUNTER, s=start)
    executor, other = Executor(module), Executor(module)
    kept: list[torch.Tensor] = []
    for i in range(1, 6):
        now, twice, size = executor.run([torch.ones(2048)])
        kept.append(now)
        assert (now == i).all() and (twice == 2 * i).all() and size == 3
    assert [int(k[0, 0]) for k in kept] == [1, 2, 3, 4, 5]  # later writes do not reach what was returned
    assert (other.run([torch.ones(2048)])[0] == 1).all() and (start == 0).all()
    executor.memory_report([torch.ones(2048)])
    executor.reset_states()
    assert (executor.run([torch.ones(2048)])[0] == 1).all()


def test_a_read_is_copied_only_where_that_shows():
    executor = Executor(with_data(COUNTER, s=torch.zeros(3, 2048)))
    for _ in range(3):
        executor.run([torch.ones(2048)])
    (known,) = executor._known.values()
    assert known.plan is not None
    reads = [s for s in executor.program.steps if s.op.name == "read"]
    assert known.plan.direct == {reads[0]}  # the second one is returned


def test_a_read_that_a_write_would_change_is_copied():
    module = with_data(
        """module @m {
          state @s : f32[4]
          func @main(%x: f32[4]) -> f32[4] {
            %old = read @s : f32[4]
            write @s, %x
            %y = add %old, %x : f32[4]
            return %y
          }
        }""",
        s=torch.zeros(4),
    )
    executor = Executor(module)
    for i in range(5):
        assert executor.run([torch.full((4,), float(i))])[0][0] == i + max(i - 1, 0)


# **** failures ****

FAILING = """module @m {
  sym T in 1..8
  func @main(%x: f32[T, 4], %y: f32[4, 4], %i: i64[1]) -> f32[1, 4] {
    %h = add %x, %x : f32[T, 4]
    %z = gather %h, %i {dim = 0} : f32[1, 4] at "model.embed" "model.py":12
    return %z
  }
}"""


def test_a_kernels_failure_names_the_operation():
    executor = Executor(parse(FAILING))
    good = [torch.rand(2, 4), torch.rand(4, 4), torch.tensor([1])]
    for _ in range(4):
        text = raises("MAIA0503", executor.run, [*good[:2], torch.tensor([7])])
        assert "gather failed: index out of range" in text and "model.embed (model.py:12)" in text
        assert "operand 0: %h : f32[T, 4], which is f32[2, 4]" in text and "dim = 0" in text
        assert executor.run(good)[0].shape == (1, 4)


def test_a_failure_inside_a_region_names_the_inner_operation():
    module = parse("""module @m {
      func @main(%c: bool[], %x: f32[2], %i: i64[1]) -> f32[1] {
        %b = if %c : f32[1] () {
          %g = gather %x, %i {dim = 0} : f32[1] at "then.gather"
          yield %g
        } () {
          %h = slice %x {dim = 0, end = 1} : f32[1]
          yield %h
        }
        return %b
      }
    }""")
    text = raises("MAIA0503", run_module, module, [torch.tensor(True), torch.rand(2), torch.tensor([9])])
    assert "gather failed" in text and "then.gather" in text and "f32[2]" in text


def test_the_cause_is_chained_and_interrupts_pass():
    class Fails:
        name = "fails"

        def __init__(self, error: BaseException) -> None:
            self.error = error

        def find(self, op: Any) -> Any:
            from maiac.runtime.kernels import Kernel

            def fail(*_: Any, **__: Any) -> Any:
                raise self.error

            return Kernel(fail)

    inputs = [torch.rand(2, 4), 2]
    with pytest.raises(KeyboardInterrupt):
        Executor(parse(LAYERS), providers=[Fails(KeyboardInterrupt())]).run(inputs)
    assert torch.is_grad_enabled()
    with pytest.raises(MaiaError) as caught:
        Executor(parse(LAYERS), providers=[Fails(RuntimeError("boom"))]).run(inputs)
    assert isinstance(caught.value.__cause__, RuntimeError) and "add failed: boom" in str(caught.value)


# **** containers ****


def test_sequences_and_optionals():
    module = parse("""module @m {
      sym u1 in 0..inf
      func @main(%s: seq<f32[u1]>, %o: opt<f32[2]>, %i: i64[]) -> (seq<f32[u1]>, f32[u1], dim<u1>, bool[]) {
        %y = sequence_at %s, %i : f32[u1]
        %d = dim {value = u1} : dim<u1>
        %h = optional_has %o : bool[]
        return %s, %y, %d, %h
      }
    }""")
    executor = Executor(module)
    x, y = torch.rand(3), torch.rand(5)
    for _ in range(4):
        s, got, size, has = executor.run([(x, y.numpy()), None, torch.tensor(1)])
        assert s[0] is x and torch.equal(got, y) and size == 5 and not has
    assert executor.run([[x], torch.rand(2), 0])[3]
    assert "input s is f32[3]; expected seq<f32[u1]>" in raises("MAIA0502", executor.run, [x, None, torch.tensor(0)])


def test_sequences_keep_their_members_alive():
    module = parse("""module @m {
      func @main(%x: f32[4096], %i: i64[]) -> f32[4096] {
        %a = exp %x : f32[4096]
        %b = neg %x : f32[4096]
        %s = sequence_construct %a, %b : seq<f32[4096]>
        %c = add %x, %x : f32[4096]
        %d = add %c, %c : f32[4096]
        %y = sequence_at %s, %i : f32[4096]
        %z = add %y, %d : f32[4096]
        return %z
      }
    }""")
    executor = Executor(module)
    x = torch.rand(4096)
    assert all(torch.equal(executor.run([x, torch.tensor(0)])[0], x.exp() + (x + x + (x + x))) for _ in range(5))


def test_element_types_that_numpy_lacks():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    module = parse("module @m { func @main(%x: bf16[2]) -> bf16[2] { %y = neg %x : bf16[2] return %y } }")
    assert run_module(module, [np.array([1, 2], ml_dtypes.bfloat16)])[0].tolist() == [-1, -2]


# **** threads ****


def test_concurrent_calls_do_not_share_memory():
    module = parse("""module @m {
      sym T in 1..100000
      func @main(%x: f32[T]) -> f32[T] {
        %a = exp %x : f32[T]
        %b = add %a, %x : f32[T]
        %c = mul %b, %a : f32[T]
        %d = sub %c, %b : f32[T]
        return %d
      }
    }""")
    executor = Executor(module)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(30):
            x = torch.rand(2000 + 1000 * (i % 3), generator=torch.Generator().manual_seed(seed * 100 + i))
            a = x.exp()
            b = a + x
            if not torch.equal(executor.run([x])[0], b * a - b):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


LOOP = """module @m {
  sym T in 1..8
  sym n in 0..inf
  sym k in 0..inf
  sym m in 0..inf
  func @main(%trips: i64[], %x: f64[T, 3]) -> (f64[T, 3], f64[n, T, 3], i64[m, k]) {
    %0, %1, %2 = loop %trips, _, %x {scans = 2} : (f64[T, 3], f64[n, T, 3], i64[m, k]) \
(%i: i64[], %c: bool[], %a: f64[T, 3]) {
      %b = add %a, %a : f64[T, 3]
      %p = nonzero %b : i64[k, 2]
      %q = slice %p {dim = 1, end = 1} : i64[k, 1]
      %r = reshape %q {shape = [k]} : i64[k]
      yield %c, %b, %b, %r
    }
    return %0, %1, %2
  }
}"""


def test_a_loop_of_no_trips_scans_nothing_of_the_declared_types() -> None:
    module = parse(LOOP)
    verify(module)
    x = torch.ones(5, 3, dtype=torch.float64)
    for trips in (0, 1, 2):
        last, rows, found = run_module(module, [torch.tensor(trips), x])
        assert torch.equal(last, x * 2**trips)
        assert rows.shape == (trips, 5, 3) and rows.dtype == torch.float64
        assert found.shape == (trips, 15 if trips else 0) and found.dtype == torch.int64
