"""Write IR as text, verify it, run it, and see what a pass makes of it."""

from __future__ import annotations

import torch

from maiac.ir import parse, print_module, verify
from maiac.passes.manager import parse_pipeline, run_pipeline
from maiac.runtime import run_module

TEXT = """
module @toy {
  sym T in 1..1024
  weight @scale : f32[4]

  func @main(%x: f32[T, 4]) -> f32[T, 4] {
    %one = constant {value = 1.0, dtype = f32} : f32[]
    %0 = mul %x, %one : f32[T, 4]
    %1 = mul %0, @scale : f32[T, 4]
    %unused = exp %1 : f32[T, 4]
    return %1
  }
}
"""


class Scale:
    """The contents of a weight: anything that loads a tensor."""

    def load(self) -> torch.Tensor:
        """The whole of it."""
        return torch.tensor([1.0, 10.0, 100.0, 1000.0])

    def load_slice(self, slices: tuple[slice, ...]) -> torch.Tensor:
        """A part, for a rank that holds no more."""
        return self.load()[slices]


def main() -> None:
    """Parse, verify, run, optimize, run again."""
    module = parse(TEXT)
    module.weights["scale"].data = Scale()
    verify(module)
    x = torch.arange(8.0).reshape(2, 4)
    (before,) = run_module(module, [x])
    run_pipeline(module, parse_pipeline("canonicalize,fold,cse,dce"))
    (after,) = run_module(module, [x])
    print(print_module(module))
    print(after)
    assert torch.equal(before, after)


if __name__ == "__main__":
    main()
