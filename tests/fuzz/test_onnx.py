"""Changed ONNX models: what is wrong with a node is told by a check, and no handler trips over it."""

from __future__ import annotations

import random

import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maiac.frontends.onnx import import_onnx
from maiac.frontends.onnx.handlers import linear

from . import mutate
from .seeds import CORPUS, nodes
from .targets import look_for_slips

SEEDS = sorted(CORPUS.glob("onnx/*"))
changed = st.tuples(st.sampled_from(SEEDS), st.integers(0, 2**32))


def check(data: bytes, seed: int) -> None:
    made = onnx.ModelProto()
    try:
        made.ParseFromString(mutate.model(data, random.Random(seed)))
    except DecodeError:
        return
    look_for_slips(made)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changed)
def test_no_handler_trips_over_a_changed_model(given):
    check(given[0].read_bytes(), given[1])


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changed)
def test_no_handler_trips_over_a_changed_model_at_length(given):
    check(given[0].read_bytes(), given[1])


@pytest.mark.parametrize("name", list(nodes()))
def test_the_nodes_that_are_changed_are_in_order(name: str):
    import_onnx(onnx.ModelProto.FromString(nodes()[name]))


def test_a_handler_that_trips_is_found(monkeypatch: pytest.MonkeyPatch):
    def trips(*_: object) -> None:
        raise IndexError("there is no such dim")

    monkeypatch.setattr(linear, "projection_weight", trips)
    model = '<ir_version: 10, opset_import: ["" : 21]> g (float[2, 2] x) => (float[2, 2] y) { y = MatMul(x, x) }'
    with pytest.raises(IndexError, match="no such dim"):
        look_for_slips(onnx.parser.parse_model(model))
