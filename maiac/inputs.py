"""Inputs for a program: read from files, or random ones that its types and its use of them allow."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ir import DimType, Module, OptionalType, SequenceType, TensorType, UnrankedType
from .ir.dims import Symbol, evaluate, symbols_of
from .ir.dtypes import DType
from .ir.errors import MaiaError, raise_all
from .ir.graph import Op, Ref, Value
from .ir.types import Type

if TYPE_CHECKING:
    import torch

# A dim that nobody fixed gets this size, as near as its range allows: large enough to show a mistake, small to compute.
DEFAULT_SIZE = 16
DEFAULT_INDEX_LIMIT = 2  # 0 and 1 are good mask values, and good indices of nearly everything
_PASSES_VALUES_ON = {"cast", "reshape", "transpose", "expand", "squeeze", "unsqueeze", "slice", "clone", "call"}
_INDEXES = {"embedding", "gather", "gather_elements", "index"}


def choose_sizes(module: Module, given: Mapping[str, int] | None = None) -> dict[str, int]:
    """A size for every symbol that an input has: those given, a moderate one otherwise. MAIA0709 for unusable ones."""
    given = given or {}
    used = sorted({s for arg in module.main.args for s in _symbols(arg.type)})
    faults = [f"the inputs have no symbolic dim {n}; they have {_list(used)}" for n in given if n not in used]
    sizes: dict[str, int] = {}
    for name in used:
        symbol = module.symbols[name]
        sizes[name] = given.get(name, _default_size(symbol))
        if not symbol.admits(sizes[name]):
            faults.append(f"{name} = {sizes[name]}, but {symbol}")
    raise_all("MAIA0709", "sizes of symbolic dims", faults)
    return sizes


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _symbols(type: Type) -> frozenset[str]:
    match type:
        case TensorType():
            return frozenset().union(*(symbols_of(d) for d in type.dims))
        case UnrankedType():
            return frozenset()
        case SequenceType() | OptionalType():
            return _symbols(type.element)
        case DimType():
            return symbols_of(type.value)


def _default_size(symbol: Symbol) -> int:
    """DEFAULT_SIZE, or what the range and step allow next to it."""
    wanted = max(symbol.low, min(DEFAULT_SIZE, symbol.high if symbol.high is not None else DEFAULT_SIZE))
    below = wanted - wanted % symbol.step
    return below if below >= symbol.low else below + symbol.step


def random_inputs(module: Module, sizes: Mapping[str, int], seed: int = 0) -> list[Any]:
    """One value for each parameter of main: normal floats, integers that stay inside what they index.

    MAIA0709 where a dim comes out negative at these sizes.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [_random(module, arg, arg.type, sizes, generator) for arg in module.main.args]


def _random(module: Module, arg: Value, type: Type, sizes: Mapping[str, int], generator: torch.Generator) -> Any:
    import torch

    from .ir.ops.values import to_torch

    match type:
        case DimType():
            return evaluate(type.value, sizes)
        case SequenceType():
            return [_random(module, arg, type.element, sizes, generator) for _ in range(2)]
        case OptionalType():
            return _random(module, arg, type.element, sizes, generator)
        case UnrankedType():
            return _random(module, arg, TensorType(type.dtype), sizes, generator)
        case TensorType():
            pass
    dims = tuple(evaluate(d, sizes) for d in type.dims)
    if any(d < 0 for d in dims):
        raise MaiaError("MAIA0709", f"%{arg.name}: {type} has the shape {list(dims)} at {dict(sizes)}")
    dtype = type.element
    if dtype is DType.STR:
        raise MaiaError("MAIA0709", f"%{arg.name}: {type}: no random strings are made; give them with --input")
    if dtype.is_float or dtype.is_complex:
        wide = to_torch(dtype) if dtype.is_complex else torch.float32
        return torch.randn(dims, generator=generator, dtype=wide).to(to_torch(dtype))
    if "mask" in arg.name:  # a row without any allowed position has no softmax
        return torch.ones(dims, dtype=to_torch(dtype))
    limit = 2 if dtype is DType.BOOL else index_limit(module, arg, sizes)
    return torch.randint(0, limit, dims, generator=generator).to(to_torch(dtype))


def index_limit(module: Module, value: Value, sizes: Mapping[str, int], depth: int = 8) -> int:
    """Below which number an integer input stays inside the tables that it indexes."""
    limits = [n for op in value.uses for n in _limits(module, op, value, sizes, depth)] if depth else []
    return max(1, min(limits, default=DEFAULT_INDEX_LIMIT))


def _limits(module: Module, op: Op, value: Value, sizes: Mapping[str, int], depth: int) -> list[int]:
    """What one use of an index says about its limit."""
    at = op.operands.index(value)
    if op.name == "call":
        ref = op.attrs["callee"]
        assert isinstance(ref, Ref)
        callee = module.functions[ref.name].args[at]
        return [index_limit(module, callee, sizes, depth - 1)] if callee.uses else []
    if op.name in _PASSES_VALUES_ON and at == 0:
        found = index_limit(module, op.results[0], sizes, depth - 1)
        return [found] if found != DEFAULT_INDEX_LIMIT else []
    if at == 0 or op.name not in _INDEXES:
        return []
    table = op.operand(0).type
    assert isinstance(table, TensorType)
    dim = table.dims[_indexed_dim(op, at)]
    known = symbols_of(dim) <= sizes.keys()
    return [evaluate(dim, sizes)] if known else []


def _indexed_dim(op: Op, at: int) -> int:
    """The dim of operand 0 that operand ``at`` is an index into."""
    dims = op.attrs.get("dims")
    if isinstance(dims, tuple):
        found = dims[at - 1]
    else:
        found = op.attrs.get("dim", 0)
    return found if isinstance(found, int) else 0


# **** files ****


def read_inputs(module: Module, files: Sequence[str]) -> list[Any]:
    """The inputs given as ``FILE`` or ``NAME=FILE``: .npz and .safetensors hold named tensors, .npy holds one.

    MAIA0416 lists missing and unknown names; MAIA0705 where a file cannot be used.
    """
    names = [arg.name for arg in module.main.args]
    given: dict[str, Any] = {}
    for text in files:
        name, file = _split(text, names)
        found = read_tensors(Path(file))
        if list(found) != [""]:
            given |= found
            continue
        free = [n for n in names if n not in given]
        if not name and not free:
            raise MaiaError("MAIA0416", f"{file} is one input more than the {len(names)} that the model takes")
        given[name or free[0]] = found[""]
    faults = [f"{n!r} is not an input" for n in given if n not in names]
    faults += [f"{a.name!r} is missing: {a.type}" for a in module.main.args if a.name not in given]
    raise_all("MAIA0416", f"the model takes {_list(names)}", faults)
    return [given[n] for n in names]


def _split(text: str, names: Sequence[str]) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    return (name, file) if equals and (name in names or not Path(text).exists()) else ("", text)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file; a .npy file's only one is named "". MAIA0701 or MAIA0705 where it cannot be read."""
    import numpy as np

    from .tensors import from_numpy

    if not path.is_file():
        raise MaiaError("MAIA0701", f"there is no file {path}")
    try:
        match path.suffix:
            case ".npy":
                return {"": from_numpy(np.load(path, allow_pickle=False))}
            case ".npz":
                with np.load(path, allow_pickle=False) as archive:
                    return {name: from_numpy(archive[name]) for name in archive.files}
            case ".safetensors":
                from .runtime.safetensors import read_header
                from .runtime.weights import MappedTensor

                slots = read_header(path).items()
                return {k: MappedTensor(path, s.offset, s.dtype, s.shape).load().clone() for k, s in slots}
            case suffix:
                raise MaiaError("MAIA0705", f"{path}: {suffix or 'no suffix'} is not one of .npy, .npz, .safetensors")
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError, TypeError) as e:
        # What NumPy does not recognise it takes for a pickle, and advises to load that unsafely.
        what = f"it is not a {path.suffix} file" if "allow_pickle=" in str(e) and "Object arrays" not in str(e) else e
        raise MaiaError("MAIA0705", f"{path}: {what}") from None
    except MaiaError as e:
        raise e if e.code == "MAIA0705" else MaiaError("MAIA0705", e.message) from None
    except OSError as e:
        raise MaiaError("MAIA0701", f"cannot read {path}: {e.strerror or e}") from None


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write named outputs as .npz, .safetensors, or, where there is one, .npy. MAIA0705 for another suffix."""
    import numpy as np

    from .tensors import to_numpy

    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise MaiaError("MAIA0705", f"{path}: {path.suffix or 'no suffix'} is not one of .npy, .npz, .safetensors")
    if path.suffix == ".npy" and len(tensors) != 1:
        raise MaiaError("MAIA0705", f"{path}: .npy holds one tensor, but there are {len(tensors)}; use .npz")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path)
        elif path.suffix == ".npy":
            np.save(path, to_numpy(next(iter(tensors.values()))), allow_pickle=False)
        else:
            np.savez(path, allow_pickle=False, **{k: to_numpy(v) for k, v in tensors.items()})
    except OSError as e:
        raise MaiaError("MAIA0411", f"cannot write {path}: {e.strerror or e}") from None
