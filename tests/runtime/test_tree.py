"""Trees: any structure of arguments and results survives as JSON, and differences are named by path."""

from __future__ import annotations

import collections
import dataclasses
import sys
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.modeling_outputs import CausalLMOutputWithPast

from maiac.ir import MaiaError
from maiac.runtime import tree as trees


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Record:
    a: Any
    b: Any = 3

    def __post_init__(self) -> None:
        assert self.a is not None


def is_leaf(obj: Any) -> bool:
    return isinstance(obj, torch.Tensor)


def round_trip(obj: Any) -> Any:
    tree, leaves = trees.describe(obj, is_leaf)
    assert trees.loads(trees.dumps(tree)) == tree
    assert [id(x) for x in trees.flatten(tree, obj)] == [id(x) for x in leaves]
    return trees.unflatten(trees.loads(trees.dumps(tree)), leaves)


X, Y = torch.zeros(2), torch.ones(3)

structures = st.recursive(
    st.sampled_from([X, Y, None, 3, 2.5, "s", True]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=12,
)


@given(structures)
def test_any_structure_survives(obj: Any):
    assert round_trip(obj) == obj if not _has_tensor(obj) else type(round_trip(obj)) is type(obj)


def _has_tensor(obj: Any) -> bool:
    return bool(trees.describe(obj, is_leaf)[1])


def test_classes_survive():
    assert isinstance(round_trip(Pair(X, 3)), Pair)
    assert round_trip(Record(X, 4)) == Record(X, 4)
    output = round_trip(CausalLMOutputWithPast(logits=X, hidden_states=(X, Y)))
    assert isinstance(output, CausalLMOutputWithPast)
    assert output.loss is None and output.logits is X and output["hidden_states"][1] is Y and output[0] is X
    values, indices = torch.rand(2, 3).max(1)
    again = round_trip(torch.return_types.max((values, indices)))
    assert again.indices is indices
    assert list(round_trip(collections.OrderedDict(b=X, a=Y))) == ["b", "a"]


def _values(cache: Any) -> torch.Tensor:
    return cache.layers[1].values


def test_a_cache_survives():
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer in range(2):
        cache.update(torch.rand(1, 2, 3, 4), torch.rand(1, 2, 3, 4), layer)
    again = round_trip((X, {"cache": cache}))[1]["cache"]
    assert isinstance(again, DynamicCache) and again.get_seq_length() == 3
    assert torch.equal(_values(again), _values(cache))


def test_a_class_that_is_not_there_becomes_a_dict():
    tree = {"t": "named", "type": "nowhere.Output", "k": ["a"], "c": [{"t": "leaf"}]}
    assert trees.unflatten(tree, [X]) == {"a": X}


@pytest.mark.parametrize("name", ["subprocess.Popen", "os.system", "builtins.exec", "antigravity.Flight"])
def test_a_file_cannot_make_us_call_anything(name: str):
    tree = {"t": "named", "type": name, "k": ["args"], "c": [{"t": "const", "v": "true"}]}
    assert trees.unflatten(tree, []) == {"args": "true"}
    assert "antigravity" not in sys.modules


class Model(torch.nn.Module):
    def forward(self, x: torch.Tensor, *, mask: list[torch.Tensor], flag: bool | None = None) -> Any:
        return CausalLMOutputWithPast(logits=x + mask[1]), torch.max(x, 0), Pair(x, mask[0]), {"z": x + 1}


@pytest.fixture(scope="module")
def exported() -> torch.export.ExportedProgram:
    return torch.export.export(Model(), (X,), {"mask": [X, X]})


def test_trees_from_torch(exported: torch.export.ExportedProgram):
    tree = trees.from_treespec(exported.call_spec.out_spec)
    result = Model()(X, mask=[X, X])
    leaves = trees.flatten(tree, result)
    assert len(leaves) == trees.count_leaves(tree) == 6
    logits, largest, pair, last = trees.unflatten(tree, leaves)
    assert logits.logits is leaves[0] and largest.values is leaves[1] and pair.b is X and last["z"] is leaves[5]


def test_grafts_put_constants_in():
    tree, _ = trees.describe((X, [Y]), is_leaf)
    fixed = trees.graft(tree, [{"t": "const", "v": None}, trees.LEAF])
    assert trees.unflatten(fixed, [Y]) == (None, [Y])


@pytest.mark.parametrize(
    ("args", "kwargs", "messages"),
    [
        ((X,), {"mask": [X]}, ["kwargs.mask is a list of 1; expected a list of 2"]),
        ((X, X), {}, ["args is a tuple of 2; expected a tuple of 1", "kwargs.mask is missing"]),
        ((X,), {"mask": [X, None]}, ["kwargs.mask[1] is None; expected a tensor"]),
        ((X,), {"mask": [X, [X]]}, ["kwargs.mask[1] is a list of 1; expected a tensor"]),
        ((X,), {"mask": [X, X], "q": 1}, ["kwargs has 'q', which was not there at capture; it had: mask"]),
        ((X,), {"mask": X}, ["kwargs.mask is a torch.Tensor; expected a list of 2"]),
    ],
)
def test_differences_are_named(exported: torch.export.ExportedProgram, args: Any, kwargs: Any, messages: list[str]):
    with pytest.raises(MaiaError) as caught:
        trees.flatten(trees.from_treespec(exported.call_spec.in_spec), (args, kwargs))
    assert caught.value.code == "MAIA0505"
    assert list(caught.value.details) == messages


def test_what_may_differ(exported: torch.export.ExportedProgram):
    tree = trees.from_treespec(exported.call_spec.in_spec)
    assert len(trees.flatten(tree, ((X,), {"mask": (X, Y), "flag": None}))) == 3
    fixed, _ = trees.describe({"x": X, "n": 3}, is_leaf)
    assert trees.flatten(fixed, {"x": X}) == [X]
    with pytest.raises(MaiaError, match="n is 4; it was 3 at capture and is fixed"):
        trees.flatten(fixed, {"x": X, "n": 4})
    with pytest.raises(MaiaError, match="n is True; it was 3"):
        trees.flatten(fixed, {"x": X, "n": True})
    pair, _ = trees.describe(Pair(X, Y), is_leaf)
    with pytest.raises(MaiaError, match=r"the value is a list of 2; expected a .*Pair"):
        trees.flatten(pair, [X, Y])


def test_values_that_are_nothing_to_us():
    with pytest.raises(MaiaError, match=r"\[1\]\.b is a builtins.object") as caught:
        trees.describe((X, {"b": object()}), is_leaf)
    assert caught.value.code == "MAIA0505"


def test_wrong_number_of_leaves():
    with pytest.raises(MaiaError, match="1 leaves, but 2 values"):
        trees.unflatten(trees.LEAF, [X, Y])
