"""Programs that look like a pattern and are not, or not quite: the numbers stay what they were."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from maiac.ir import parse
from maiac.passes import parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.runtime import Executor
from maiac.runtime.weights import HeldTensor
from tests.passes.running import fill, inputs_for

FUSION = "fuse_patterns,fold,cse,dce,fuse,dce"


@dataclass(frozen=True)
class Trap:
    """A program, and an op that it still holds after the fusions."""

    name: str
    keeps: str
    text: str

    def __str__(self) -> str:
        return self.name


TRAPS = [
    Trap("a deviation of what is not centered", "var", """
module @m {
  func @main(%x: f32[4,8]) -> f32[4,8] {
    %0 = var %x {dims=[1], keepdim=true, correction=0} : f32[4,1]
    %e = constant {value=1e-5, dtype=f32} : f32[]
    %1 = add %0, %e : f32[4,1]
    %2 = rsqrt %1 : f32[4,1]
    %3 = mul %x, %2 : f32[4,8]
    return %3
  }
}
"""),
    Trap("a gate times about a half", "erf", """
module @m {
  func @main(%x: f32[4,8]) -> f32[4,8] {
    %h = constant {value=0.5005, dtype=f32} : f32[]
    %s = constant {value=0.70710678, dtype=f32} : f32[]
    %o = constant {value=1.0, dtype=f32} : f32[]
    %0 = mul %x, %s : f32[4,8]
    %1 = erf %0 : f32[4,8]
    %2 = add %1, %o : f32[4,8]
    %3 = mul %x, %2 : f32[4,8]
    %4 = mul %3, %h : f32[4,8]
    return %4
  }
}
"""),
    Trap("a tanh of three factors", "tanh", """
module @m {
  func @main(%x: f32[4,8], %y: f32[4,8]) -> f32[4,8] {
    %h = constant {value=0.5, dtype=f32} : f32[]
    %s = constant {value=0.79788456, dtype=f32} : f32[]
    %o = constant {value=1.0, dtype=f32} : f32[]
    %a = mul %x, %y : f32[4,8]
    %b = mul %a, %y : f32[4,8]
    %c = mul %a, %b : f32[4,8]
    %0 = mul %c, %s : f32[4,8]
    %1 = tanh %0 : f32[4,8]
    %2 = add %1, %o : f32[4,8]
    %3 = mul %x, %2 : f32[4,8]
    %4 = mul %3, %h : f32[4,8]
    return %4
  }
}
"""),
    Trap("a softplus of what is broadcast", "log", """
module @m {
  func @main(%x: f32[8]) -> f32[4,8] {
    %o = full {value=1.0, dtype=f32, shape=[4,8]} : f32[4,8]
    %0 = exp %x : f32[8]
    %1 = add %0, %o : f32[4,8]
    %2 = log %1 : f32[4,8]
    return %2
  }
}
"""),
    Trap("a clamp over about six", "clamp", """
module @m {
  func @main(%x: f32[4,8]) -> f32[4,8] {
    %h = constant {value=0.1668, dtype=f32} : f32[]
    %t = constant {value=3.0, dtype=f32} : f32[]
    %0 = add %x, %t : f32[4,8]
    %1 = clamp %0 {min=0.0,max=6.0} : f32[4,8]
    %2 = mul %1, %h : f32[4,8]
    return %2
  }
}
"""),
    Trap("bools added to scores", "attention", """
module @m {
  func @main(%q: f32[2,5,8], %k: f32[2,6,8], %b: bool[5,6]) -> f32[2,5,8] {
    %0 = transpose %k {perm=[0,2,1]} : f32[2,8,6]
    %1 = matmul %q, %0 : f32[2,5,6]
    %2 = add %1, %b : f32[2,5,6]
    %3 = softmax %2 : f32[2,5,6]
    %4 = matmul %3, %k : f32[2,5,8]
    return %4
  }
}
"""),
    Trap("queries shared among heads of keys", "softmax", """
module @m {
  func @main(%q: f32[2,1,5,8], %k: f32[2,4,6,8]) -> f32[2,4,5,8] {
    %0 = transpose %k {perm=[0,1,3,2]} : f32[2,4,8,6]
    %1 = matmul %q, %0 : f32[2,4,5,6]
    %3 = softmax %1 : f32[2,4,5,6]
    %4 = matmul %3, %k : f32[2,4,5,8]
    return %4
  }
}
"""),
    Trap("a bias of more digits than the queries have", "softmax", """
module @m {
  func @main(%q: bf16[2,64,8], %k: bf16[2,64,8], %far: f32[64,64]) -> bf16[2,64,8] {
    %0 = transpose %k {perm=[0,2,1]} : bf16[2,8,64]
    %1 = matmul %q, %0 : bf16[2,64,64]
    %1f = cast %1 {to=f32} : f32[2,64,64]
    %2 = add %1f, %far : f32[2,64,64]
    %3 = softmax %2 : f32[2,64,64]
    %3h = cast %3 {to=bf16} : bf16[2,64,64]
    %4 = matmul %3h, %k : bf16[2,64,8]
    return %4
  }
}
"""),
    Trap("rows without positions beside a bias", "attention", """
module @m {
  func @main(%q: f32[2,6,8], %k: f32[2,6,8], %c: bool[6,1], %bias: f32[6,6]) -> f32[2,6,8] {
    %0 = transpose %k {perm=[0,2,1]} : f32[2,8,6]
    %1 = matmul %q, %0 : f32[2,6,6]
    %i = constant {value=-inf, dtype=f32} : f32[]
    %z = constant {value=0.0, dtype=f32} : f32[]
    %a = add %1, %bias : f32[2,6,6]
    %2 = where %c, %a, %i : f32[2,6,6]
    %3 = softmax %2 : f32[2,6,6]
    %n = is_nan %3 : bool[2,6,6]
    %w = where %n, %z, %3 : f32[2,6,6]
    %4 = matmul %w, %k : f32[2,6,8]
    return %4
  }
}
"""),
    Trap("NaN in place of scores", "softmax", """
module @m {
  func @main(%q: f32[2,6,8], %k: f32[2,6,8], %c: bool[6,6]) -> f32[2,6,8] {
    %0 = transpose %k {perm=[0,2,1]} : f32[2,8,6]
    %1 = matmul %q, %0 : f32[2,6,6]
    %i = constant {value=nan, dtype=f32} : f32[]
    %2 = where %c, %1, %i : f32[2,6,6]
    %3 = softmax %2 : f32[2,6,6]
    %4 = matmul %3, %k : f32[2,6,8]
    return %4
  }
}
"""),
    Trap("a constant bias of one number for each head", "attention", """
module @m {
  weight @bias : f32[4,1,1]
  func @main(%q: f32[2,4,5,8], %k: f32[2,4,5,8]) -> f32[2,4,5,8] {
    %0 = transpose %k {perm=[0,1,3,2]} : f32[2,4,8,5]
    %1 = matmul %q, %0 : f32[2,4,5,5]
    %2 = add %1, @bias : f32[2,4,5,5]
    %3 = softmax %2 : f32[2,4,5,5]
    %4 = matmul %3, %k : f32[2,4,5,8]
    return %4
  }
}
"""),
    Trap("positions in steps of a half", "attention", """
module @m {
  weight @half : f32[6]
  func @main(%q: f32[2,6,8], %k: f32[2,6,8]) -> f32[2,6,8] {
    %0 = transpose %k {perm=[0,2,1]} : f32[2,8,6]
    %1 = matmul %q, %0 : f32[2,6,6]
    %i = iota {start=0, end=6, dtype=f32} : f32[6]
    %c = reshape %i {shape=[6,1]} : f32[6,1]
    %n = le @half, %c : bool[6,6]
    %3 = attention %q, %k, %k, %n : f32[2,6,8]
    return %3
  }
}
"""),
    Trap("a window that the last queries have passed", "attention", """
module @m {
  func @main(%q: f32[2,12,8], %k: f32[2,4,8]) -> f32[2,12,8] {
    %i = iota {start=0, end=12, dtype=i64} : i64[12]
    %j = iota {start=0, end=4, dtype=i64} : i64[4]
    %c = reshape %i {shape=[12,1]} : i64[12,1]
    %d = sub %c, %j : i64[12,4]
    %t = constant {value=3, dtype=i64} : i64[]
    %near = lt %d, %t : bool[12,4]
    %past = le %j, %c : bool[12,4]
    %both = logical_and %near, %past : bool[12,4]
    %z = constant {value=0.0, dtype=f32} : f32[]
    %h = constant {value=-1e9, dtype=f32} : f32[]
    %mask = where %both, %z, %h : f32[12,4]
    %3 = attention %q, %k, %k, %mask : f32[2,12,8]
    return %3
  }
}
"""),
    Trap("one sine for all pairs", "concat", """
module @m {
  func @main(%x: f32[6,8], %c: f32[6,4], %s: f32[]) -> f32[6,8] {
    %a, %b = split %x {dim=1, parts=[4,4]} : (f32[6,4], f32[6,4])
    %1 = mul %a, %c : f32[6,4]
    %2 = mul %b, %s : f32[6,4]
    %3 = sub %1, %2 : f32[6,4]
    %4 = mul %b, %c : f32[6,4]
    %5 = mul %a, %s : f32[6,4]
    %6 = add %4, %5 : f32[6,4]
    %7 = concat %3, %6 {dim=1} : f32[6,8]
    return %7
  }
}
"""),
    Trap("a batch norm whose mean is large, in half precision", "mul", """
module @m {
  weight @mean : f32[6]
  weight @var : f32[6]
  func @main(%large: bf16[2,6,5]) -> bf16[2,6,5] {
    %0 = neg %large : bf16[2,6,5]
    %1 = batch_norm %0, @mean, @var : bf16[2,6,5]
    return %1
  }
}
"""),
    Trap("what one region reads, another makes", "fusion", """
module @m {
  func @main(%x: f32[4,8], %y: f32[8]) -> (f32[4,8], f32[8]) {
    %g1 = exp %x : f32[4,8]
    %p1 = slice %g1 {dim=0, start=0, end=1} : f32[1,8]
    %p = reshape %p1 {shape=[8]} : f32[8]
    %o = exp %y : f32[8]
    %g5 = add %g1, %o : f32[4,8]
    %n = add %o, %p : f32[8]
    return %g5, %n
  }
}
"""),
    Trap("states updated one after the other", "write", """
module @m {
  state @s : f32[4]
  state @t : f32[4]
  func @main(%x: f32[4]) -> f32[4] {
    %r = read @s : f32[4]
    %a = add %r, %x : f32[4]
    write @s, %a
    %q = read @t : f32[4]
    %b = add %a, %q : f32[4]
    write @t, %b
    return %b
  }
}
"""),
    Trap("a state written and read between", "fusion", """
module @m {
  state @s : f32[4,8]
  func @main(%x: f32[4,8]) -> f32[4,8] {
    %b = exp %x : f32[4,8]
    write @s, %b
    %r = read @s : f32[4,8]
    %a = add %r, %b : f32[4,8]
    return %a
  }
}
"""),
    Trap("hidden twice by one number", "attention", """
module @m {
  func @main(%q: f32[2,6,8], %k: f32[2,6,8], %c: bool[6,1], %d: bool[6,6]) -> f32[2,6,8] {
    %0 = transpose %k {perm=[0,2,1]} : f32[2,8,6]
    %1 = matmul %q, %0 : f32[2,6,6]
    %h = constant {value=-1e9, dtype=f32} : f32[]
    %2 = where %d, %1, %h : f32[2,6,6]
    %3 = where %c, %2, %h : f32[2,6,6]
    %4 = softmax %3 : f32[2,6,6]
    %5 = matmul %4, %k : f32[2,6,8]
    return %5
  }
}
"""),
    Trap("a finite causal mask and finite padding", "attention", """
module @m {
  func @main(%q: f32[2,6,8], %k: f32[2,6,8], %pad: bool[2,1,6]) -> f32[2,6,8] {
    %i = iota {start=0, end=6, dtype=i64} : i64[6]
    %r = reshape %i {shape=[6,1]} : i64[6,1]
    %c = le %i, %r : bool[6,6]
    %z = constant {value=0.0, dtype=f32} : f32[]
    %h = constant {value=-1e9, dtype=f32} : f32[]
    %0 = where %c, %z, %h : f32[6,6]
    %1 = where %pad, %z, %h : f32[2,1,6]
    %2 = add %0, %1 : f32[2,6,6]
    %3 = attention %q, %k, %k, %2 : f32[2,6,8]
    return %3
  }
}
"""),
]  # fmt: skip
CONTENTS = {
    "bias": torch.tensor([-1.0, 0.5, 2.0, -0.25]).reshape(4, 1, 1),
    "half": torch.arange(6) * 0.5,
    "mean": torch.full((6,), 1000.0),
    "var": torch.full((6,), 0.37),
}


def numbers(like: torch.Tensor, name: str | None, seed: int) -> torch.Tensor:
    """Numbers that are neither whole nor small; those of a bias are large, as far positions have them."""
    if not like.is_floating_point():
        return like
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)) * 1.5
    return (drawn - 1000 if name in ("far", "large") else drawn).to(like.dtype)


@pytest.mark.parametrize("trap", TRAPS, ids=str)
def test_numbers_stay(trap: Trap):
    module = parse(trap.text)
    for weight in module.weights.values():
        weight.data = HeldTensor(CONTENTS[weight.name]) if weight.name in CONTENTS else None
    fill(module)
    inputs = [numbers(x, a.name, i) for i, (x, a) in enumerate(zip(inputs_for(module), module.main.args, strict=True))]
    after = clone_module(module)
    run_pipeline(after, parse_pipeline(FUSION))
    assert trap.keeps in [op.name for op in after.walk()]
    befores, afters = Executor(module), Executor(after)
    for _ in range(2):  # what is left in states shows in the second
        for want, got in zip(befores.run(inputs), afters.run(inputs), strict=True):
            digits = 2e-5 if want.dtype is torch.float32 else 8e-3  # a rounding of f32, and of bf16
            torch.testing.assert_close(got, want, rtol=digits, atol=digits, equal_nan=True)
