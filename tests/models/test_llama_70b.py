"""Llama-3-70B's configuration, captured on meta tensors: it must fit into 3 GB of memory and print, parse, verify."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LIMIT_GB = 3.0

SCRIPT = """
import json, resource, sys
import tests.conftest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from maiac.frontends.exported import capture
from maiac.ir import parse, print_module
from maiac.ir.verifier import verify
from maiac.passes.manager import parse_pipeline, run_pipeline

config = LlamaConfig(
    hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8,
    vocab_size=128256, max_position_embeddings=8192, rope_theta=500000.0, dtype="bfloat16",
)
with torch.device("meta"):
    model = LlamaForCausalLM(config).bfloat16().eval()
    length = torch.export.Dim("T", min=2, max=8192)
    shapes = {"input_ids": {1: length}, "use_cache": None}
    ids = torch.zeros(1, 16, dtype=torch.long)
    module = capture(model, (), {"input_ids": ids, "use_cache": False}, dynamic_shapes=shapes)
verify(module)
text = print_module(module)
assert print_module(parse(text)) == text
before = sum(1 for _ in module.walk())
run_pipeline(module, parse_pipeline("canonicalize,cse,dce,outline"))
verify(module)
calls = [op.attrs["callee"].name for op in module.main.body if op.name == "call"]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
parameters = sum(w.type.elements() for w in module.weights.values())
print(json.dumps({"peak_gb": peak, "ops": before, "calls": len(calls), "callees": len(set(calls)),
                  "after": sum(1 for _ in module.walk()), "parameters": parameters}))
"""


@pytest.mark.slow
def test_llama_70b_is_captured_in_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["peak_gb"] < LIMIT_GB
    assert found["parameters"] > 70e9
    assert found["calls"] == 80  # one function, called once for each layer
    assert found["callees"] == 1
