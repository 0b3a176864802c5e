"""Linear algebra: factorizations of matrices and what is solved by them.

Factors that serve the gradient only (the LU of a determinant) are no outputs here.
"""

from __future__ import annotations

from typing import Any

from maiac.ir.graph import Value

from ..importer import Context, type_of
from .registry import aten


def check_info(c: Context, info: Value, what: str) -> None:
    """The run stops where a factorization failed, as eager does."""
    good = c.emit("all", c.emit("eq", info, c.scalar(0, info)), dims=None)
    c.emit_all("check", good, message=f"{what}: a matrix is singular, or not of the kind that it must be")


@aten("cholesky.default")
def cholesky(c: Context, x: Value, upper: bool = False) -> Value:
    """The triangular factor of positive definite matrices."""
    y, info = c.emit_all("cholesky", x, upper=upper)
    check_info(c, info, "cholesky")
    return y


@aten("linalg_cholesky_ex.default")
def cholesky_ex(c: Context, x: Value, *, upper: bool = False, check_errors: bool = False) -> Any:
    """The same, and at which row it failed."""
    return _with_info(c, c.emit_all("cholesky", x, upper=upper), check_errors)


def _with_info(c: Context, results: tuple[Value, ...], check_errors: bool) -> tuple[Value, ...]:
    if check_errors:
        check_info(c, results[-1], c.name.removesuffix("_ex"))
    return results


@aten("linalg_inv_ex.default")
def inverse(c: Context, x: Value, *, check_errors: bool = False) -> Any:
    """The inverse of square matrices."""
    return _with_info(c, c.emit_all("inverse", x), check_errors)


@aten("linalg_lu_factor_ex.default")
def lu_factor(c: Context, x: Value, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """Both factors in one matrix, and which rows were swapped."""
    return _with_info(c, c.emit_all("lu_factor", x, pivot=pivot), check_errors)


@aten("linalg_ldl_factor_ex.default")
def ldl_factor(c: Context, x: Value, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """Factors of symmetric matrices, packed, and which rows were swapped."""
    return _with_info(c, c.emit_all("ldl_factor", x, hermitian=hermitian), check_errors)


@aten("linalg_lu.default")
def lu(c: Context, x: Value, *, pivot: bool = True) -> Any:
    """Permutation and factors; without pivots there is no permutation."""
    packed, pivots, _ = c.emit_all("lu_factor", x, pivot=pivot)
    return _unpacked(c, packed, pivots, True, pivot)


@aten("lu_unpack.default")
def lu_unpack(c: Context, packed: Value, pivots: Value, factors: bool = True, permutation: bool = True) -> Any:
    """Permutation and factors, as far as they are asked for."""
    return _unpacked(c, packed, pivots, factors, permutation)


def _unpacked(c: Context, packed: Value, pivots: Value, factors: bool, permutation: bool) -> tuple[Value | None, ...]:
    made = c.emit_all("lu_unpack", packed, pivots)
    return tuple(v if wanted else None for v, wanted in zip(made, (permutation, factors, factors), strict=True))


@aten("linalg_qr.default")
def qr(c: Context, x: Value, mode: str = "reduced") -> Any:
    """Orthonormal and triangular factors."""
    return c.emit_all("qr", x, mode=mode)


@aten("geqrf.default")
def geqrf(c: Context, x: Value) -> Any:
    """The factors of qr as reflections."""
    return c.emit_all("householder", x)


@aten("linalg_householder_product.default")
def householder_product(c: Context, x: Value, tau: Value) -> Value:
    """The product of reflections."""
    return c.emit("householder_product", x, tau)


@aten("ormqr.default")
def ormqr(c: Context, x: Value, tau: Value, other: Value, left: bool = True, transpose: bool = False) -> Value:
    """The product of reflections and another matrix."""
    return c.emit("reflect", x, tau, other, left=left, transpose=transpose)


@aten("_linalg_svd.default")
def svd(c: Context, x: Value, full: bool = False, vectors: bool = True, *, driver: str | None = None) -> Any:
    """Singular values, with vectors or without."""
    if not vectors:
        return None, c.emit("singular_values", x), None
    return c.emit_all("svd", x, full=full)


@aten("_linalg_eigh.default")
def eigh(c: Context, x: Value, triangle: str = "L", vectors: bool = True) -> Any:
    """Eigenvalues of Hermitian matrices, with vectors or without."""
    upper = triangle.upper() == "U"
    if not vectors:
        return c.emit("eigh_values", x, upper=upper), None
    return c.emit_all("eigh", x, upper=upper)


@aten("linalg_eig.default")
def eig(c: Context, x: Value) -> Any:
    """Eigenvalues and eigenvectors."""
    return c.emit_all("eig", x)


@aten("_linalg_eigvals.default", "linalg_eigvals.default")
def eigvals(c: Context, x: Value) -> Value:
    """Eigenvalues."""
    return c.emit("eig_values", x)


# **** what is computed by factors ****


@aten("_linalg_det.default")
def det(c: Context, x: Value) -> Any:
    """The determinant."""
    return c.emit("det", x), None, None


@aten("_linalg_slogdet.default")
def slogdet(c: Context, x: Value) -> Any:
    """Sign and logarithm of the determinant."""
    return (*c.emit_all("slogdet", x), None, None)


@aten("linalg_matrix_exp.default")
def matrix_exp(c: Context, x: Value) -> Value:
    """The exponential of square matrices."""
    return c.emit("matrix_exp", x)


@aten("linalg_pinv.atol_rtol_tensor")
def pinv(
    c: Context, x: Value, *, atol: Value | None = None, rtol: Value | None = None, hermitian: bool = False
) -> Value:
    """The pseudoinverse."""
    return c.emit("pinv", x, atol, rtol, hermitian=hermitian)


@aten("_linalg_solve_ex.default")
def solve(c: Context, a: Value, b: Value, *, left: bool = True, check_errors: bool = False) -> Any:
    """The solution for matrices, or vectors, at the right-hand side."""
    (*lead, n, _), given = type_of(a).dims, type_of(b).dims
    vectors = len(given) == 1 or given == (*lead, n)
    packed, pivots, info = _with_info(c, c.emit_all("lu_factor", a), check_errors)
    y = c.emit("lu_solve", packed, pivots, c.reshape(b, (*given, 1)) if vectors else b, left=left)
    return c.reshape(y, type_of(y).dims[:-1]) if vectors else y, packed, pivots, info


@aten("linalg_solve_triangular.default")
def solve_triangular(
    c: Context, a: Value, b: Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Value:
    """The solution for triangular matrices."""
    return c.emit("solve_triangular", a, b, upper=upper, left=left, unit=unitriangular)


@aten("triangular_solve.default")
def triangular_solve(
    c: Context, b: Value, a: Value, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    """The older form, which gives a back as well."""
    used = a
    if transpose:
        rank = type_of(a).rank
        used = c.emit("transpose", a, perm=(*range(rank - 2), rank - 1, rank - 2))
    y = c.emit("solve_triangular", used, b, upper=upper != transpose, unit=unitriangular)
    return y, c.expand(a, c.shape(1))


@aten("linalg_lu_solve.default")
def lu_solve(c: Context, packed: Value, pivots: Value, b: Value, *, left: bool = True, adjoint: bool = False) -> Value:
    """The solution by factors that are there."""
    return c.emit("lu_solve", packed, pivots, b, left=left, adjoint=adjoint)


@aten("cholesky_solve.default", "_cholesky_solve_helper.default")
def cholesky_solve(c: Context, b: Value, factor: Value, upper: bool = False) -> Value:
    """The solution by a triangular factor."""
    return c.emit("cholesky_solve", factor, b, upper=upper)


@aten("cholesky_inverse.default")
def cholesky_inverse(c: Context, factor: Value, upper: bool = False) -> Value:
    """The inverse by a triangular factor."""
    return c.emit("cholesky_inverse", factor, upper=upper)


@aten("linalg_ldl_solve.default")
def ldl_solve(c: Context, packed: Value, pivots: Value, b: Value, *, hermitian: bool = False) -> Value:
    """The solution by factors of a symmetric matrix."""
    return c.emit("ldl_solve", packed, pivots, b, hermitian=hermitian)
