"""Trees of arguments and results as plain JSON, so that an artifact keeps its model's own calling convention.

    {"t": "leaf"}                                    a tensor or another value that the program takes or gives
    {"t": "leaf", "as": "number"}                    a tensor of one element that the model gives as a Python number
    {"t": "const", "v": 3}                           None, bool, int, float or str fixed at capture
    {"t": "tuple" | "list", "c": [...]}
    {"t": "dict", "k": [...], "c": [...]}
    {"t": "named", "type": "pkg.mod.Class", "k": [...], "c": [...]}

``named`` is a dataclass, a named tuple, a transformers ModelOutput or a class known to torch's pytree; where the class
cannot be imported a dict takes its place. A class of torch's pytree keeps its context as JSON text under ``x``.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch.utils._pytree as pytree

from maiac.ir.errors import MaiaError, raise_all

Tree: TypeAlias = dict[str, Any]

LEAF: Tree = {"t": "leaf"}
NUMBER: Tree = {"t": "leaf", "as": "number"}
_LIBRARIES = ("torch", "transformers", "diffusers")
_classes: dict[str, Any] = {}  # name in a tree -> class, so that a call does not look for modules
_CONSTANTS = (bool, int, float, str, type(None))


def dumps(tree: Tree) -> str:
    """A tree as JSON text, for a module's attributes."""
    return json.dumps(tree, separators=(",", ":"))


def loads(text: str) -> Tree:
    """A tree from its JSON text."""
    return json.loads(text)


# **** from objects to trees ****


def describe(obj: Any, is_leaf: Callable[[Any], bool]) -> tuple[Tree, list[Any]]:
    """The tree of an object, and its leaves in order. Plain constants that are no leaves become part of the tree.

    MAIA0505 names the paths of values that are neither.
    """
    leaves: list[Any] = []
    faults: list[str] = []
    tree = _describe(obj, is_leaf, "", leaves, faults)
    raise_all("MAIA0505", "values that are neither tensors, constants nor containers", faults)
    return tree, leaves


def _describe(obj: Any, is_leaf: Callable[[Any], bool], path: str, leaves: list[Any], faults: list[str]) -> Tree:
    if is_leaf(obj):
        leaves.append(obj)
        return LEAF
    if isinstance(obj, _CONSTANTS):
        return {"t": "const", "v": obj}
    parts = _open(obj)
    if parts is None:
        faults.append(f"{path or 'the value'} is a {type_name(type(obj))}")
        return LEAF
    head, children, labels = parts
    head["c"] = [_describe(c, is_leaf, path + at, leaves, faults) for c, at in zip(children, labels, strict=True)]
    return head


def _open(obj: Any) -> tuple[Tree, list[Any], list[str]] | None:
    """A container's tree without children, its children, and how a path names each; None where it is no container."""
    kind: Any = type(obj)
    if kind is tuple or kind is list:
        return {"t": kind.__name__}, list(obj), [f"[{i}]" for i in range(len(obj))]
    if kind in (dict, OrderedDict) and all(isinstance(k, str) for k in obj):
        return {"t": "dict", "k": list(obj)}, list(obj.values()), [f".{k}" for k in obj]
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named(kind, obj._asdict())
    if _is_model_output(kind):
        return _named(kind, dict(obj.items()))
    if _known_to_torch(kind):
        children, context = pytree.SUPPORTED_NODES[kind].flatten_fn(obj)
        return _registered(kind, context, len(children)), list(children), [f"[{i}]" for i in range(len(children))]
    if dataclasses.is_dataclass(obj):
        return _named(kind, {f.name: getattr(obj, f.name) for f in dataclasses.fields(obj)})
    if isinstance(obj, Mapping) and all(isinstance(k, str) for k in obj):
        return {"t": "dict", "k": list(obj)}, list(obj.values()), [f".{k}" for k in obj]
    return None


def _named(kind: type, fields: dict[str, Any]) -> tuple[Tree, list[Any], list[str]]:
    return {"t": "named", "type": type_name(kind), "k": list(fields)}, list(fields.values()), [f".{k}" for k in fields]


def _registered(kind: Any, context: Any, count: int) -> Tree:
    named: Any = context if isinstance(context, list) else ()
    keys = [k for k in named if isinstance(k, str)]
    keys = keys if len(keys) == len(named) == count else [str(i) for i in range(count)]
    return {"t": "named", "type": type_name(kind), "k": keys, "x": _dump_context(kind, context)}


def _known_to_torch(kind: Any) -> bool:
    """Whether torch's pytree takes instances apart; transformers tells it about its cache only when asked to."""
    if kind in pytree.SUPPORTED_NODES:
        return True
    if getattr(kind, "__module__", "") != "transformers.cache_utils" or kind.__name__ != "DynamicCache":
        return False
    from transformers.integrations.executorch import register_dynamic_cache_export_support

    register_dynamic_cache_export_support()
    return kind in pytree.SUPPORTED_NODES


def _dump_context(kind: Any, context: Any) -> str:
    node = pytree.SUPPORTED_SERIALIZED_TYPES.get(kind)
    if node is not None and node.to_dumpable_context is not None:
        context = node.to_dumpable_context(context)
    try:
        return json.dumps(context)
    except TypeError:
        raise MaiaError(
            "MAIA0505", f"the structure of a {type_name(kind)} cannot be written as JSON: {context!r}"
        ) from None


def type_name(kind: Any) -> str:
    """``pkg.mod.Class``"""
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_model_output(kind: type) -> bool:
    """A transformers or diffusers output: an ordered dict of the fields that are set, and a dataclass."""
    return issubclass(kind, OrderedDict) and dataclasses.is_dataclass(kind)


def from_treespec(spec: Any) -> Tree:
    """The tree of a torch TreeSpec (torch.export's in_spec and out_spec); None in it is a constant."""
    if spec.is_leaf():
        return LEAF
    kind, context = spec.type, spec.context
    children = [from_treespec(c) for c in spec.children()]
    if kind in (tuple, list) or (isinstance(kind, type) and kind.__name__ in ("immutable_list",)):
        return {"t": "tuple" if kind is tuple else "list", "c": children}
    if _is_dict(kind) and all(isinstance(k, str) for k in context):
        return {"t": "dict", "k": list(context), "c": children}
    if kind is namedtuple:
        return {"t": "named", "type": type_name(context), "k": list(context._fields), "c": children}
    if isinstance(kind, type) and (_is_model_output(kind) or dataclasses.is_dataclass(kind)):
        keys = _field_names(kind, context, len(children))
        return {"t": "named", "type": type_name(kind), "k": keys, "c": children}
    return {**_registered(kind, context, len(children)), "c": children}


def _is_dict(kind: Any) -> bool:
    return kind in (dict, OrderedDict) or getattr(kind, "__name__", "") == "immutable_dict"


def _field_names(kind: type, context: Any, count: int) -> list[str]:
    """The names of the children: torch's contexts hold them as a list, or as (fields, fields that are None)."""
    nested = isinstance(context, (list, tuple)) and context and isinstance(context[0], (list, tuple))
    names: list[Any] = list(context[0] if nested else context or ())
    if len(names) == count and all(isinstance(n, str) for n in names):
        return names
    return [f.name for f in dataclasses.fields(kind)][:count]


def graft(tree: Tree, leaves: Sequence[Tree]) -> Tree:
    """The tree with these trees in place of its leaves: torch.export lists fixed arguments among the leaves."""
    return _graft(tree, iter(leaves))


def _graft(tree: Tree, leaves: Iterator[Tree]) -> Tree:
    if tree["t"] == "leaf":
        return next(leaves)
    return {**tree, "c": [_graft(c, leaves) for c in tree["c"]]} if "c" in tree else tree


# **** from objects to leaves, checked against a tree ****


def flatten(tree: Tree, obj: Any) -> list[Any]:
    """The leaves of an object of this structure, in order. MAIA0505 lists every place where it differs.

    A list may stand for a tuple and the other way round. A keyword whose value was a constant may be left out; one
    that was not captured may be passed as None.
    """
    leaves: list[Any] = []
    faults: list[str] = []
    for path, child, value in _roots(tree, obj):
        _flatten(child, value, path, leaves, faults)
    raise_all("MAIA0505", "the arguments do not have the structure that was captured", faults)
    return leaves


def _roots(tree: Tree, obj: Any) -> Iterator[tuple[str, Tree, Any]]:
    """The whole, or ``args`` and ``kwargs`` by name where the tree is that of a call."""
    kinds = [c["t"] for c in tree.get("c", ())]
    if tree["t"] == "tuple" and kinds == ["tuple", "dict"] and isinstance(obj, tuple) and len(obj) == 2:
        yield from zip(("args", "kwargs"), tree["c"], obj, strict=True)
    else:
        yield "", tree, obj


def _flatten(tree: Tree, obj: Any, path: str, leaves: list[Any], faults: list[str]) -> None:
    kind = tree["t"]
    if kind == "leaf":
        if obj is None or isinstance(obj, (dict, list, tuple)):
            faults.append(f"{path or 'the value'} is {_show(obj)}; expected a tensor")
        leaves.append(obj)
    elif kind == "const":
        if not _same_constant(tree["v"], obj):
            faults.append(f"{path or 'the value'} is {_show(obj)}; it was {tree['v']!r} at capture and is fixed")
    elif kind in ("tuple", "list"):
        _flatten_sequence(tree, obj, path, leaves, faults)
    else:
        _flatten_fields(tree, obj, path, leaves, faults)


def _flatten_sequence(tree: Tree, obj: Any, path: str, leaves: list[Any], faults: list[str]) -> None:
    children = tree["c"]
    if not isinstance(obj, (list, tuple)) or len(obj) != len(children):
        faults.append(f"{path or 'the value'} is {_show(obj)}; expected a {tree['t']} of {len(children)}")
        return
    for i, (child, value) in enumerate(zip(children, obj, strict=True)):
        _flatten(child, value, f"{path}[{i}]", leaves, faults)


def _flatten_fields(tree: Tree, obj: Any, path: str, leaves: list[Any], faults: list[str]) -> None:
    fields = _fields(tree, obj)
    where = path or "the value"
    if fields is None:
        faults.append(f"{where} is {_show(obj)}; expected a {tree.get('type', 'dict')}")
        return
    for key, child in zip(tree["k"], tree["c"], strict=True):
        if key in fields:
            _flatten(child, fields[key], f"{path}.{key}" if path else key, leaves, faults)
        elif count_leaves(child):
            faults.append(f"{path}.{key} is missing" if path else f"{key} is missing")
    had = ", ".join(tree["k"]) or "nothing"
    for key, value in fields.items():
        if key not in tree["k"] and value is not None:
            faults.append(f"{where} has {key!r}, which was not there at capture; it had: {had}")


def _fields(tree: Tree, obj: Any) -> dict[str, Any] | None:
    """A container's children by name; None where it is another kind of container."""
    if isinstance(obj, Mapping):
        return dict(obj)
    parts = None if type(obj) in (list, tuple) else _open(obj)
    if parts is None or tree["t"] != "named" or "k" not in parts[0]:
        return None
    return dict(zip(parts[0]["k"], parts[1], strict=True))


def _same_constant(want: Any, got: Any) -> bool:
    return want == got and (type(want) is type(got) or (isinstance(want, float) and type(got) is int))


def _show(obj: Any) -> str:
    if isinstance(obj, _CONSTANTS):
        return repr(obj)
    if isinstance(obj, (list, tuple)) and type(obj) in (list, tuple):
        return f"a {type(obj).__name__} of {len(obj)}"
    return f"a {type_name(type(obj)).removeprefix('builtins.')}"


def count_leaves(tree: Tree) -> int:
    """How many leaves a tree has."""
    return 1 if tree["t"] == "leaf" else sum(count_leaves(c) for c in tree.get("c", ()))


# **** from leaves to objects ****


def unflatten(tree: Tree, leaves: Sequence[Any]) -> Any:
    """The object of this structure with these leaves. MAIA0505 where their number differs."""
    want = count_leaves(tree)
    if want != len(leaves):
        raise MaiaError("MAIA0505", f"the structure has {want} leaves, but {len(leaves)} values are given")
    return _unflatten(tree, iter(leaves))


def _unflatten(tree: Tree, leaves: Iterator[Any]) -> Any:
    kind = tree["t"]
    if kind == "leaf":
        return next(leaves).item() if tree.get("as") == "number" else next(leaves)
    if kind == "const":
        return tree["v"]
    children = [_unflatten(c, leaves) for c in tree["c"]]
    if kind == "tuple":
        return tuple(children)
    if kind == "list":
        return children
    if kind == "dict":
        return dict(zip(tree["k"], children, strict=True))
    return _rebuild(tree, children)


def _rebuild(tree: Tree, children: list[Any]) -> Any:
    """An instance of the named class, or a dict where there is no such class to be had.

    The name comes from a file: nothing is called unless it is a class of one of the kinds that trees describe.
    """
    fields = dict(zip(tree["k"], children, strict=True))
    kind = _classes.get(tree["type"])
    if kind is None:  # not asked for yet, or not imported by the user yet
        kind = _classes[tree["type"]] = _import(tree["type"])
    if "x" in tree and _known_to_torch(kind):
        return pytree.SUPPORTED_NODES[kind].unflatten_fn(children, _load_context(kind, tree["x"]))
    if not isinstance(kind, type):
        return fields
    if issubclass(kind, tuple) and tuple(getattr(kind, "_fields", ())) == tuple(fields):
        return kind(*children)
    if not dataclasses.is_dataclass(kind) or not {f.name for f in dataclasses.fields(kind)} >= fields.keys():
        return fields
    if _is_model_output(kind):
        return kind(**fields)
    return _dataclass(kind, fields)


def _dataclass(kind: type, fields: dict[str, Any]) -> Any:
    """An instance with these fields; its constructor does not run, as it may want what is not there."""
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def _load_context(kind: Any, text: str) -> Any:
    context = json.loads(text)
    node = pytree.SUPPORTED_SERIALIZED_TYPES.get(kind)
    if node is not None and node.from_dumpable_context is not None:
        return node.from_dumpable_context(context)
    return context


def _import(name: str) -> Any:
    """What a dotted name stands for; None where it cannot be had.

    Only these libraries are imported for a file's sake; a module of the user's must be imported already.
    """
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        try:
            found: Any = importlib.import_module(module) if parts[0] in _LIBRARIES else sys.modules[module]
        except (ImportError, KeyError):
            continue
        for attribute in parts[end:]:
            found = getattr(found, attribute, None)
        return found
    return None
