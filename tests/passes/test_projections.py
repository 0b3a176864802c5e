"""Products with a weight become ``linear``, however they were written."""

from __future__ import annotations

import pytest
import torch

from maiac.ir import verify
from maiac.passes.projections import to_linear
from maiac.runtime import run_module
from tests.passes.quantization.test_weights import held

FORMS = {
    "right": ("f32[4, 3]", "%y = matmul %x, @w : f32[2, 3]"),
    "right of a transpose": (
        "f32[3, 4]",
        "%t = transpose @w {perm = [1, 0]} : f32[4, 3]\n%y = matmul %x, %t : f32[2, 3]",
    ),
    "linear of a transpose": (
        "f32[4, 3]",
        "%t = transpose @w {perm = [1, 0]} : f32[3, 4]\n%y = linear %x, %t : f32[2, 3]",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", ["", "%b = add %y, @b : f32[2, 3]", "%b = add @b, %y : f32[2, 3]"])
def test_forms(form: str, bias: str):
    type, lines = FORMS[form]
    result = "%b" if bias else "%y"
    module = held(f"""module @m {{
      weight @w : {type}
      weight @b : f32[3]
      func @main(%x: f32[2, 4]) -> f32[2, 3] {{
        {lines}
        {bias}
        return {result}
      }}
    }}""")
    x = torch.randn(2, 4)
    wanted = run_module(module, [x])[0]
    assert to_linear(module) and not to_linear(module)
    verify(module)
    ops = [op.name for op in module.main.body]
    assert ops == ["linear", "return"]
    assert str(module.weights["w"].type) == "f32[3, 4]"
    torch.testing.assert_close(run_module(module, [x])[0], wanted)


def test_what_is_no_product_of_an_activation_and_a_matrix_stays():
    module = held("""module @m {
      weight @w : f32[4, 3]
      weight @v : f32[2, 4, 3]
      func @main(%x: f32[2, 4], %z: f32[4, 3]) -> (f32[2, 3], f32[2, 2, 3], f32[4, 3]) {
        %a = matmul %x, %z : f32[2, 3]
        %b = matmul %x, @v : f32[2, 2, 3]
        %c = add %z, @w : f32[4, 3]
        return %a, %b, %c
      }
    }""")
    assert not to_linear(module)
