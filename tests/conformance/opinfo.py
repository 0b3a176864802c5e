"""PyTorch's own samples of its operators.

    python -m tests.conformance opinfo --group float32

The cases are the OpInfos of ``torch.testing._internal.common_methods_invocations.op_db``. Of each, the first samples
are exported, compiled, run and compared with eager. The group ``float32`` holds every operator, with int64 samples
where it takes no float32; the others hold those that take their dtype.
"""

from __future__ import annotations

import copy
import random
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from typing import Any
from unittest import mock

import torch
from torch._export.utils import _collect_all_valid_cia_ops_for_namespace
from torch.utils import _pytree as pytree

from .closeness import double, errors, is_as_near
from .suite import Case, RefusedError
from .ties import named

SAMPLES = 3
GROUPS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int64": torch.int64, "bool": torch.bool}

# What these give, or what they add to a tensor, is whatever lay in the memory: only the shape is told.
UNFILLED = (
    "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided", "resize_", "resize_as_",
)  # fmt: skip


def cases() -> Iterator[Case]:
    """Every operator in each dtype that it takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db

    infos: list[Any] = list(op_db)
    for group, dtype in GROUPS.items():
        for info in infos:
            taken = info.supported_dtypes("cpu")
            if dtype in taken:
                yield Case(group, info.full_name, partial(check, info, dtype))
            elif group == "float32" and torch.int64 in taken:
                yield Case(group, info.full_name, partial(check, info, torch.int64))


def check(info: Any, dtype: torch.dtype) -> None:
    """All samples in one program, which takes a third of the time; where that fails, one by one as well."""
    # OpInfos of random operators set one seed each time; what a seed gives is checked here where it is promised.
    with mock.patch("torch.testing._internal.common_methods_invocations.wrapper_set_seed", _unseeded):
        _check(list(samples(info, dtype)), info.name)


def _unseeded(operator: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return operator(*args, **kwargs)


def _check(found: list[Operator], name: str) -> None:
    together = _fault_together(found, name)
    if together is None:
        return
    refusals: list[str] = []
    for i, sample in enumerate(found):
        try:
            check_program(sample, name)
        except RefusedError as refusal:
            refusals.append(str(refusal))
        except Exception as error:
            raise AssertionError(f"sample {i}: {type(error).__name__}: {error}") from error
    if len(refusals) == len(found):
        raise RefusedError(refusals[0] if refusals else "there are no samples")
    if not isinstance(together, RefusedError):
        raise AssertionError(f"only together: {type(together).__name__}: {together}") from together


def _fault_together(found: list[Operator], name: str) -> Exception | None:
    """What is wrong with the samples in one program; one alone is not tried here."""
    if len(found) < 2:
        return RefusedError("there is no other sample")
    try:
        check_program(Together(found), name)
    except Exception as error:
        return error
    return None


class Operator(torch.nn.Module):
    """An operator on a sample: the sample's tensors are inputs, everything else is constant."""

    def __init__(self, operator: Callable[..., Any], sample: Any) -> None:
        super().__init__()
        self.operator = operator
        self.leaves, self.tree = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        self.places = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, torch.Tensor)]

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The sample's tensors."""
        return tuple(self.leaves[i] for i in self.places)

    def samples(self) -> list[Any]:
        """The one sample: input, args and kwargs."""
        return [pytree.tree_unflatten(self.leaves, self.tree)]

    def forward(self, *tensors: torch.Tensor) -> Any:
        """What the operator gives for other tensors in the places of the sample's."""
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        x, args, kwargs = pytree.tree_unflatten(leaves, self.tree)
        return self.operator(x, *args, **kwargs)


class Together(torch.nn.Module):
    """Several samples as one program."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        super().__init__()
        self.operators = operators

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The tensors of all samples."""
        return tuple(t for o in self.operators for t in o.tensors())

    def samples(self) -> list[Any]:
        """Input, args and kwargs of each."""
        return [sample for o in self.operators for sample in o.samples()]

    def forward(self, *tensors: torch.Tensor) -> Any:
        """What the operator gives for each sample."""
        left = iter(tensors)
        return [o(*islice(left, len(o.places))) for o in self.operators]


def samples(info: Any, dtype: torch.dtype) -> Iterator[Operator]:
    """The first samples of an operator, the same ones in every run."""
    _seed(zlib.crc32(info.full_name.encode()))
    for sample in islice(info.sample_inputs("cpu", dtype, requires_grad=False), SAMPLES):
        yield Operator(info.op, sample)


def check_program(model: Operator | Together, name: str) -> None:
    """Compile samples and compare what they return, and what they leave in their inputs, with eager."""
    tensors = model.tensors()
    run = partial(_run, tensors=tensors, settle=partial(named, name, model.samples()))
    try:
        wanted = run(model)
        random_places = set(range(len(wanted))) if name in UNFILLED else _differing(wanted, run(model, seed=1))
    except Exception as error:
        raise RefusedError(f"eager: {type(error).__name__}: {error}") from error
    with torch.no_grad():
        try:
            program = torch.export.export(model, copy.deepcopy(tensors), strict=False)
        except Exception as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error
    try:
        compare(run(_compile(program)), wanted, random_places, partial(_exact, model, tensors))
    except Exception:
        _refuse_faulty(program, lambda: compare(run(program.module()), wanted, random_places))
        raise


# torch asks anew for each program which composite operators there are, half of an export's time; here none come.
_composite_operators = cache(_collect_all_valid_cia_ops_for_namespace)


def _compile(program: Any) -> Any:
    import maiac

    with mock.patch("torch._export.utils._collect_all_valid_cia_ops_for_namespace", _composite_operators):
        return maiac.compile(program)


def _seed(seed: int) -> None:
    import numpy as np

    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _run(
    function: Callable[..., Any],
    tensors: Sequence[torch.Tensor],
    seed: int = 0,
    settle: Callable[[list[Any]], list[Any]] = list,
) -> list[Any]:
    """The leaves that a function returns, settled, and then its inputs, which it may have changed."""
    given = copy.deepcopy(tuple(tensors))
    _seed(seed)
    with torch.no_grad():
        returned = function(*given)
    return [*settle(pytree.tree_leaves(returned)), *given]


def _differing(first: list[Any], second: list[Any]) -> set[int]:
    """The places of random results: two seeds give two values."""
    return {
        i
        for i, (a, b) in enumerate(zip(first, second, strict=True))
        if isinstance(a, torch.Tensor) and not (a.shape == b.shape and torch.equal(_bits(a), _bits(b)))
    }


def _bits(x: torch.Tensor) -> torch.Tensor:
    x = x if x.layout is torch.strided else x.to_dense()
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    return torch.nan_to_num(x) if x.is_floating_point() else x


def _exact(model: Operator | Together, tensors: Sequence[torch.Tensor]) -> list[Any]:
    """What eager gives in double precision; nothing where it cannot."""
    try:
        return _run(model, [double(t) for t in tensors])
    except Exception:
        return []


def compare(got: list[Any], wanted: list[Any], random_places: set[int], exact: Callable[[], list[Any]] = list) -> None:
    """Results equal to eager's: exactly for integers, within the dtype's precision for others.

    Where that fails, both are held against the ``exact`` results, if there are any.
    """
    assert len(got) == len(wanted), f"{len(got)} results; eager gives {len(wanted)}"
    truth = cache(exact)
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        if not isinstance(b, torch.Tensor):
            assert type(a) is type(b) and a == b, f"result {i} is {a!r}; eager gives {b!r}"
        elif i in random_places:
            assert a.shape == b.shape and a.dtype == b.dtype, f"result {i} is {_kind(a)}; eager gives {_kind(b)}"
        else:
            _close(a, b, lambda at=i: truth()[at] if truth() else None)


def _close(a: torch.Tensor, b: torch.Tensor, truth: Callable[[], torch.Tensor | None]) -> None:
    try:
        torch.testing.assert_close(a, b, equal_nan=True, check_stride=False)
    except AssertionError:
        exact = truth()
        if exact is None or not is_as_near(errors(a, b, exact)):
            raise


def _kind(x: Any) -> str:
    return f"{x.dtype} {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)


def _refuse_faulty(program: Any, check_exported: Callable[[], None]) -> None:
    """Refused where the exported program, run by torch itself, does not do what eager does."""
    try:
        check_exported()
        program.run_decompositions()
    except Exception as error:
        raise RefusedError(f"the exported program: {type(error).__name__}: {error}") from error
