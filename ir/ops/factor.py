"""Factorizations of matrices, and equations that are solved by them. The matrices are the last two dims.

All are torch.linalg's, in f32, f64 and complex. ``info`` is 0 where a factorization went well, and else says at which
row it did not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ..dims import DimLike, minimum
from ..dtypes import DType
from ..opdef import OpDef, op
from ..types import TensorType, Type
from .sampling import Sample, Sampler

_REAL = {DType.C64: DType.F32, DType.C128: DType.F64}
_COMPLEX = {real: c for c, real in _REAL.items()}


def _real(dtype: DType) -> DType:
    """The dtype of magnitudes."""
    return _REAL.get(dtype, dtype)


def _wide(s: Sampler) -> DType:
    """torch.linalg has no half precision."""
    return DType.F64 if s.dtype is DType.F64 else DType.F32


def _definite(s: Sampler, *shape: int) -> torch.Tensor:
    """Symmetric positive definite matrices."""
    a = s.real(*shape, dtype=_wide(s))
    return a @ a.mT + torch.eye(shape[-1], dtype=a.dtype)


def _drawn(make: Callable[[Sampler], Iterator[Sample]], *definitions: OpDef) -> None:
    for definition in definitions:
        definition.samples(make)


def _symmetric(s: Sampler) -> Iterator[Sample]:
    yield (_definite(s, 4, 4),), {}
    yield (_definite(s, 2, 4, 4),), {}


def _general(s: Sampler) -> Iterator[Sample]:
    for shape in ((4, 4), (2, 6, 4), (2, 4, 6)):
        yield (s.real(*shape, dtype=_wide(s)),), {}


# **** factorizations ****


@op("x:floatc[*b n n] -> y[*b n n], info[*b]", whole="n")
def cholesky(x: Any, *, upper: bool = False) -> Any:
    """The triangular factor of positive definite matrices: x = l l^H, or u^H u for ``upper``."""
    return tuple(torch.linalg.cholesky_ex(x, upper=upper))


@cholesky.infer
def _(x: TensorType, *, upper: bool = False) -> list[Type]:
    return [x.whole(), TensorType(DType.I32, x.dims[:-2])]


@op("x:floatc[*b n n] -> y[*b n n], info[*b]", whole="n")
def inverse(x: Any) -> Any:
    """The inverse of square matrices."""
    return tuple(torch.linalg.inv_ex(x))


@inverse.infer
def _(x: TensorType) -> list[Type]:
    return [x.whole(), TensorType(DType.I32, x.dims[:-2])]


@op("x:floatc[*b m n] -> lu[*b m n], pivots[*b k], info[*b]", whole="m n")
def lu_factor(x: Any, *, pivot: bool = True) -> Any:
    """Lower and upper factors in one matrix, and which rows were swapped on the way (counted from 1)."""
    return tuple(torch.linalg.lu_factor_ex(x, pivot=pivot))


@lu_factor.infer
def _(x: TensorType, *, pivot: bool = True) -> list[Type]:
    *b, m, n = x.dims
    return [x.whole(), TensorType(DType.I32, (*b, minimum(m, n))), TensorType(DType.I32, tuple(b))]


@op("lu:floatc[*b m n], pivots:int[*b k] -> p[*b m m], l[*b m k], u[*b k n]", whole="m n k")
def lu_unpack(lu: Any, pivots: Any) -> Any:
    """The permutation and the two factors that lu_factor packs: x = p l u."""
    return tuple(torch.lu_unpack(lu, pivots))


@lu_unpack.infer
def _(lu: TensorType, pivots: TensorType) -> list[Type]:
    *b, m, n = lu.dims
    k = minimum(m, n)
    return [TensorType(lu.dtype, dims) for dims in ((*b, m, m), (*b, m, k), (*b, k, n))]


@op("x:floatc[*b m n] -> q, r", whole="m n")
def qr(x: Any, *, mode: str = "reduced") -> Any:
    """x = q r, q with orthonormal columns and r upper triangular. mode: reduced, complete, or r (q is empty)."""
    return tuple(torch.linalg.qr(x, mode))


@qr.infer
def _(x: TensorType, *, mode: str = "reduced") -> list[Type]:
    *b, m, n = x.dims
    k = m if mode == "complete" else minimum(m, n)
    q: tuple[DimLike, ...] = (0,) if mode == "r" else (*b, m, k)
    return [TensorType(x.dtype, q), TensorType(x.dtype, (*b, k, n))]


@qr.samples
def _(s: Sampler) -> Iterator[Sample]:
    for operands, _ in _general(s):
        for mode in ("reduced", "complete", "r"):
            yield operands, {"mode": mode}


@op("x:floatc[*b m n] -> reflectors[*b m n], tau[*b k]", dtype="x", whole="m n")
def householder(x: Any) -> Any:
    """qr as reflections: r above the diagonal, and the vectors and scales of the reflections that make q."""
    return tuple(torch.geqrf(x))


@householder.infer
def _(x: TensorType) -> list[Type]:
    *b, m, n = x.dims
    return [x.whole(), TensorType(x.dtype, (*b, minimum(m, n)))]


@op("x:floatc[*b m n] -> u, s, v", whole="m n")
def svd(x: Any, *, full: bool = False) -> Any:
    """x = u diag(s) v, the singular values in falling order; ``full``: u and v are square."""
    return tuple(torch.linalg.svd(x, full))


@svd.infer
def _(x: TensorType, *, full: bool = False) -> list[Type]:
    *b, m, n = x.dims
    k = minimum(m, n)
    u, v = ((*b, m, m), (*b, n, n)) if full else ((*b, m, k), (*b, k, n))
    return [TensorType(x.dtype, u), TensorType(_real(x.element), (*b, k)), TensorType(x.dtype, v)]


@op("x:floatc[*b m n] -> s[*b k]", whole="m n")
def singular_values(x: Any) -> Any:
    """The singular values, in falling order."""
    return torch.linalg.svdvals(x)


@singular_values.infer
def _(x: TensorType) -> Type:
    *b, m, n = x.dims
    return TensorType(_real(x.element), (*b, minimum(m, n)))


@op("x:floatc[*b n n] -> values[*b n], vectors[*b n n]", whole="n")
def eigh(x: Any, *, upper: bool = False) -> Any:
    """Eigenvalues in rising order, and eigenvectors, of Hermitian matrices, of which one triangle is read."""
    return tuple(torch.linalg.eigh(x, "U" if upper else "L"))


@eigh.infer
def _(x: TensorType, *, upper: bool = False) -> list[Type]:
    return [TensorType(_real(x.element), x.dims[:-1]), x.whole()]


@op("x:floatc[*b n n] -> values[*b n]", whole="n")
def eigh_values(x: Any, *, upper: bool = False) -> Any:
    """Eigenvalues of Hermitian matrices, in rising order."""
    return torch.linalg.eigvalsh(x, "U" if upper else "L")


@eigh_values.infer
def _(x: TensorType, *, upper: bool = False) -> Type:
    return TensorType(_real(x.element), x.dims[:-1])


@op("x:floatc[*b n n] -> values[*b n], vectors[*b n n]", whole="n")
def eig(x: Any) -> Any:
    """Complex eigenvalues and eigenvectors of square matrices."""
    return tuple(torch.linalg.eig(x))


@eig.infer
def _(x: TensorType) -> list[Type]:
    dtype = _COMPLEX.get(x.element, x.element)
    return [TensorType(dtype, x.dims[:-1]), TensorType(dtype, x.dims)]


@op("x:floatc[*b n n] -> values[*b n]", whole="n")
def eig_values(x: Any) -> Any:
    """Complex eigenvalues of square matrices."""
    return torch.linalg.eigvals(x)


@eig_values.infer
def _(x: TensorType) -> Type:
    return TensorType(_COMPLEX.get(x.element, x.element), x.dims[:-1])


@op("x:floatc[*b n n] -> ld[*b n n], pivots[*b n], info[*b]", whole="n")
def ldl_factor(x: Any, *, hermitian: bool = False) -> Any:
    """Symmetric, possibly indefinite matrices as l d l^T (l^H for ``hermitian``), packed, and the rows swapped."""
    return tuple(torch.linalg.ldl_factor_ex(x, hermitian=hermitian))


@ldl_factor.infer
def _(x: TensorType, *, hermitian: bool = False) -> list[Type]:
    return [x.whole(), TensorType(DType.I32, x.dims[:-1]), TensorType(DType.I32, x.dims[:-2])]


_drawn(_symmetric, cholesky, inverse, eigh, eigh_values, eig, eig_values, ldl_factor)
_drawn(_general, lu_factor, householder, svd, singular_values)


@lu_unpack.samples
def _(s: Sampler) -> Iterator[Sample]:
    for (x,), attrs in _general(s):
        yield lu_factor.reference(x)[:2], attrs


# **** what is computed by factors ****


@op("x:floatc[*b n n] -> sign[*b], log[*b]", whole="n")
def slogdet(x: Any) -> Any:
    """The sign of the determinant, and the logarithm of its magnitude."""
    return tuple(torch.linalg.slogdet(x))


@slogdet.infer
def _(x: TensorType) -> list[Type]:
    return [TensorType(x.dtype, x.dims[:-2]), TensorType(_real(x.element), x.dims[:-2])]


@op("x:floatc[*b n n] -> y[*b n n]", dtype="x", whole="n")
def matrix_exp(x: Any) -> Any:
    """The exponential of square matrices."""
    return torch.linalg.matrix_exp(x)


_drawn(_symmetric, slogdet, matrix_exp)


@op("x:floatc[*b m n], atol:float[*c]?, rtol:float[*c]? -> y[*b n m]", dtype="x", whole="m n")
def pinv(x: Any, atol: Any = None, rtol: Any = None, *, hermitian: bool = False) -> Any:
    """The pseudoinverse; singular values up to max(atol, rtol * the greatest) count as 0."""
    return torch.linalg.pinv(x, atol=atol, rtol=rtol, hermitian=hermitian)


@pinv.samples
def _(s: Sampler) -> Iterator[Sample]:
    for operands, attrs in _general(s):
        yield operands, attrs
        yield (*operands, torch.tensor(0.1, dtype=operands[0].dtype)), attrs


@op("x:floatc[*b m n], tau:floatc[*b k] -> q[*b m n]", dtype="x", whole="m n k")
def householder_product(x: Any, tau: Any) -> Any:
    """The first columns of the product of reflections (householder)."""
    return torch.linalg.householder_product(x, tau)


@householder_product.samples
def _(s: Sampler) -> Iterator[Sample]:
    for shape in ((4, 4), (2, 6, 4)):
        yield tuple(torch.geqrf(s.real(*shape, dtype=_wide(s)))), {}


@op("x:floatc[*b m n], tau:floatc[*b k], c:floatc[*b p q] -> y[*b p q]", dtype="x", whole="m n k p q")
def reflect(x: Any, tau: Any, c: Any, *, left: bool = True, transpose: bool = False) -> Any:
    """q c, where q is the product of reflections (householder); ``transpose``: q^H c; not ``left``: c q."""
    return torch.ormqr(x, tau, c, left, transpose)


@reflect.samples
def _(s: Sampler) -> Iterator[Sample]:
    x, tau = torch.geqrf(s.real(2, 6, 4, dtype=_wide(s)))
    yield (x, tau, s.real(2, 6, 2, dtype=_wide(s))), {"transpose": True}
    yield (x, tau, s.real(2, 2, 6, dtype=_wide(s))), {"left": False}


@op("a:floatc[~b n n], b:floatc[~b p q] -> y[~b p q]", dtype="a", whole="n p q")
def solve_triangular(a: Any, b: Any, *, upper: bool, left: bool = True, unit: bool = False) -> Any:
    """y, where a y = b and one triangle of a is read; not ``left``: y a = b; ``unit``: a's diagonal counts as 1."""
    return torch.linalg.solve_triangular(a, b, upper=upper, left=left, unitriangular=unit)


@op("lu:floatc[~b n n], pivots:int[~b n], b:floatc[~b p q] -> y[~b p q]", dtype="lu", whole="n p q")
def lu_solve(lu: Any, pivots: Any, b: Any, *, left: bool = True, adjoint: bool = False) -> Any:
    """y, where x y = b for the x of lu_factor; not ``left``: y x = b; ``adjoint``: x^H for x."""
    return torch.linalg.lu_solve(lu, pivots, b, left=left, adjoint=adjoint)


@op("f:floatc[~b n n], b:floatc[~b n q] -> y[~b n q]", dtype="f", whole="n q")
def cholesky_solve(f: Any, b: Any, *, upper: bool = False) -> Any:
    """y, where x y = b for the x whose factor cholesky gave."""
    return torch.cholesky_solve(b, f, upper)


@op("f:floatc[*b n n] -> y[*b n n]", dtype="f", whole="n")
def cholesky_inverse(f: Any, *, upper: bool = False) -> Any:
    """The inverse of the x whose factor cholesky gave."""
    return torch.cholesky_inverse(f, upper)


@op("ld:floatc[*b n n], pivots:int[*b n], b:floatc[*b n q] -> y[*b n q]", dtype="ld", whole="n q")
def ldl_solve(ld: Any, pivots: Any, b: Any, *, hermitian: bool = False) -> Any:
    """y, where x y = b for the x of ldl_factor."""
    return torch.linalg.ldl_solve(ld, pivots, b, hermitian=hermitian)


def _equations(
    factor: Callable[[Any], Sequence[Any]], sides: bool, **attrs: Any
) -> Callable[[Sampler], Iterator[Sample]]:
    """Samples of a solver: what ``factor`` makes of a matrix, and right-hand sides at one side or both."""

    def draw(s: Sampler) -> Iterator[Sample]:
        parts = factor(_definite(s, 2, 4, 4))
        yield (*parts, s.real(2, 4, 6, dtype=_wide(s))), attrs
        if sides:
            yield (*parts, s.real(2, 6, 4, dtype=_wide(s))), {**attrs, "left": False}

    return draw


solve_triangular.samples(_equations(lambda x: (x,), True, upper=True))
lu_solve.samples(_equations(lambda x: lu_factor.reference(x)[:2], True))
cholesky_solve.samples(_equations(lambda x: cholesky.reference(x)[:1], False))
ldl_solve.samples(_equations(lambda x: ldl_factor.reference(x)[:2], False))


@cholesky_inverse.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield cholesky.reference(_definite(s, 2, 4, 4))[:1], {}
