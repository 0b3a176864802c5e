"""Every overload of the core ATen set is accounted for, and the handlers give eager's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import maiac
from maiac.frontends.aten import handlers
from maiac.frontends.decompositions import NEVER_SEEN, export_table
from maiac.frontends.exported import capture
from maiac.frontends.importer import key_of
from maiac.ir.errors import MaiaError
from maiac.runtime.executor import Executor

from .eager import check


def core_overloads() -> list[Any]:
    packets = [getattr(torch.ops.aten, name) for name in dir(torch.ops.aten)]
    overloads = [getattr(p, o) for p in packets if hasattr(p, "overloads") for o in p.overloads()]
    return [o for o in overloads if torch.Tag.core in o.tags]


def test_every_core_overload_is_handled_decomposed_or_excused() -> None:
    table = export_table()
    core = core_overloads()
    handled = [o for o in core if key_of(o) in handlers()]
    lost = [str(o) for o in core if o not in handled and o not in table and key_of(o) not in NEVER_SEEN]
    assert lost == []
    assert len(core) >= 189
    assert len(handled) >= len(core) - 3
    assert not any(key in handlers() for key in NEVER_SEEN)


def real(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def whole(*shape: int) -> torch.Tensor:
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(7))


X, Y, N = real(3, 4), real(3, 4), whole(3, 4)
IMAGE = real(2, 4, 6, 8)
DEFINITE = X.mT @ X + torch.eye(4)


def _written(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x.clone()
    y[1] = 0
    y[:, 2] += 1
    y[0, ::2] = 5
    y.mul_(2)
    z = torch.zeros_like(x)
    z[1:, :2] = x[:2, 2:]
    return y, z


CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "alpha": (lambda x, y: (torch.add(x, y, alpha=2), torch.sub(x, y, alpha=0.5), torch.rsub(x, y, alpha=3)), (X, Y)),
    "scalars": (lambda x: (x + 1, 2 - x, x * 0.1, x / 3, 1 / x, x**2, 2**x, x // 0.7, x % 0.3), (X,)),
    "int and float": (lambda n: (n + 0.5, n * 2, n / 2, n // 2, n % 3, n * 1.5, n > 0.5), (N,)),
    "rank 0": (lambda x, n: (x.sum() * 2, n.sum() * 2, n.sum() * 0.5, n.sum() / 3), (X, N)),
    "low precision": (lambda x: (x.bfloat16() * 0.1 + 1, x.half() / 3), (X,)),
    "division modes": (
        lambda n: (torch.div(n, 3, rounding_mode="floor"), torch.div(n, 3, rounding_mode="trunc")),
        (N,),
    ),
    "integers and truth values": (
        lambda n, x: (
            torch.atan2(n.sum(), n.amax()),
            torch.fmax(n > 0, n > 1),
            torch.fmin(n, n.flip(0)),
            torch.addmv(n[:, 0], n, n[0], beta=2.6, alpha=1.2),
            n.sum().all(dim=0),
            x.sum().any(dim=-1),
        ),
        (N, X),
    ),
    "comparisons": (lambda x, y: (x == y, x < 0, (x > 0) & (y > 0), ~(x > 0), (x > 0).float() + (y > 0)), (X, Y)),
    "where": (lambda x: (torch.where(x > 0, x, 0.0), x.masked_fill(x > 0, -1.0), torch.where(x > 0, 1, 0)), (X,)),
    "clamp": (lambda x, y: (x.clamp(-1, 1), x.clamp(min=0), x.clamp(max=y), F.relu6(x), F.hardtanh(x)), (X, Y)),
    "activations": (
        lambda x: (F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.elu(x, 2.0), F.celu(x, 0.5), F.mish(x)),
        (X,),
    ),
    "more activations": (
        lambda x: (F.softplus(x), F.leaky_relu(x, 0.2), F.glu(x, 1), F.hardswish(x), F.logsigmoid(x), F.selu(x)),
        (X,),
    ),
    "reductions": (
        lambda x, n: (x.sum(), x.sum(-1, keepdim=True), n.sum(), x.mean((0, 1)), n.float().mean(0), x.amax(1), x.max()),
        (X, N),
    ),
    "indices": (lambda x: (*x.max(1), *x.min(0), x.argmax(), x.argmin(-1), *x.topk(2), *x.sort(descending=True)), (X,)),
    "variance": (lambda x: (x.var(), x.std(1), x.var(1, correction=0), *torch.var_mean(x, 0)), (X,)),
    "bool reductions": (lambda x: ((x > 0).any(), (x > 0).all(1), (x > 0).sum(), x.bool().any(0)), (X,)),
    "products": (lambda x: (x.prod(), x.prod(1), x.cumsum(0), x.cumprod(1), x.logsumexp(1)), (X,)),
    "norms of vectors": (lambda x: (x.norm(), x.norm(1, 1), x.norm(float("inf"), 0), F.normalize(x), x.norm(3)), (X,)),
    "views": (
        lambda x: (x.view(2, 6), x.t(), x.unsqueeze(1), x.flatten(), x.unflatten(1, (2, 2)), x.expand(2, 3, 4)),
        (X,),
    ),
    "slices": (lambda x: (x[1:], x[:, -2:], x[::2], x[-1], x[:, 1], x[..., :-1], x[None, 1:2, 3]), (X,)),
    "writes": (_written, (X,)),
    "joins": (
        lambda x, n: (torch.cat([x, n]), torch.stack([x, x], 1), *x.split(3, 1), *x.chunk(2, 1), *x.unbind()),
        (X, N),
    ),
    "movement": (
        lambda x: (x.flip(0), x.roll(1, 0), x.roll(-5), x.repeat(2, 1, 3), x.tril(), x.triu(1), x.diagonal(1)),
        (X,),
    ),
    "pads": (
        lambda x: (
            F.pad(x, (1, 2)),
            F.pad(x, (-1, 1), value=3.0),
            F.pad(x[None], (1, 1, 2, 0), "reflect"),
            F.pad(x[None], (1, 1), "replicate"),
            F.pad(x[None], (2, 1), "circular"),
        ),
        (X,),
    ),
    "gathers": (
        lambda x, n: (
            x[n.abs() % 3],
            x[:, [0, 2]],
            x[[0, 1], :, None],
            x.gather(1, n.abs() % 4),
            x.index_select(1, n[0].abs() % 4),
        ),
        (X, N),
    ),
    "scatters": (
        lambda x, n, y: (
            x.scatter(1, n.abs() % 4, y),
            x.scatter_add(0, n.abs() % 3, y),
            x.scatter_reduce(1, n.abs() % 4, y, "amax", include_self=False),
            x.index_put((n[:, 0].abs() % 3,), y[0], accumulate=True),
            x.index_add(0, n[:, 0].abs() % 3, y),
        ),
        (X, N, Y),
    ),
    "masks": (lambda x: (x.masked_scatter(x > 0, torch.ones(12)),), (X,)),
    "matrix products": (
        lambda x, y: (
            x @ y.t(),
            F.linear(x, y),
            torch.addmm(x[:, :3], x, y.t(), beta=0.5, alpha=2),
            x[None] @ y.t()[None],
            torch.baddbmm(x[None, :, :3], x[None], y.t()[None]),
            torch.einsum("ij,kj", x, y),
            x @ y[0],
        ),
        (X, Y),
    ),
    "einsum with ellipsis": (lambda x: torch.einsum("...chw,...dhw->...cd", x, x), (IMAGE,)),
    "distances": (lambda x, y: (torch.cdist(x, y), torch.cdist(x, y, 1.0), F.pdist(x)), (X, Y)),
    "attention": (
        lambda x: (
            F.scaled_dot_product_attention(x, x, x),
            F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
            F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
        ),
        (IMAGE,),
    ),
    "normalisations": (
        lambda x: (
            F.layer_norm(x, (8,)),
            F.group_norm(x, 2),
            F.rms_norm(x, (6, 8)),
            F.instance_norm(x),
            F.softmax(x, 1),
            F.log_softmax(x, -1),
            F.batch_norm(x, x.mean((0, 2, 3)), x.var((0, 2, 3))),
        ),
        (IMAGE,),
    ),
    "convolutions": (
        lambda x: (
            F.conv2d(x, x[:, :, :3, :3]),
            F.conv2d(x, x[:, :2, :3, :3].repeat(2, 1, 1, 1), groups=2, padding="same"),
            F.conv_transpose2d(x, x.transpose(0, 1)[..., :3, :3], stride=2, padding=1, output_padding=1),
            F.conv1d(x[0], x[0, :2, :, :3], stride=2),
        ),
        (IMAGE,),
    ),
    "pools": (
        lambda x: (
            F.max_pool2d(x, 2),
            F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            F.adaptive_avg_pool2d(x, (2, 3)),
            F.adaptive_avg_pool2d(x, 1),
            F.adaptive_max_pool2d(x, 2),
            *F.max_pool2d(x, 3, 2, 1, return_indices=True),
            F.avg_pool1d(x[0], 2),
        ),
        (IMAGE,),
    ),
    "resampling": (
        lambda x: (
            F.interpolate(x, scale_factor=2.0),
            F.interpolate(x, (5, 9), mode="bilinear"),
            F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True),
            F.interpolate(x, (7, 7), mode="bicubic"),
            F.pixel_shuffle(x, 2),
            F.pixel_unshuffle(x, 2),
        ),
        (IMAGE,),
    ),
    "grid sample": (lambda x: F.grid_sample(x, x.permute(0, 2, 3, 1)[..., :2].tanh(), align_corners=False), (IMAGE,)),
    "patches": (lambda x: (F.unfold(x, 2), F.fold(F.unfold(x, 2), (6, 8), 2), x.unfold(2, 3, 2)), (IMAGE,)),
    "fourier": (
        lambda x: (
            torch.fft.rfft(x),
            torch.fft.irfft(torch.fft.rfft(x), 8),
            torch.fft.fft2(x).abs(),
            torch.fft.ifft(x).imag,
        ),
        (IMAGE,),
    ),
    "complex": (
        lambda x: torch.view_as_real(torch.view_as_complex(x.view(3, 2, 2)) * torch.polar(x[:, :2], x[:, 2:])),
        (X,),
    ),
    "embeddings": (
        lambda x, n: (
            F.embedding(n.abs() % 3, x),
            F.embedding_bag(n.flatten().abs() % 3, x, torch.tensor([0, 5])),
            F.one_hot(n.abs(), 5),
        ),
        (X, N),
    ),
    "creation": (
        lambda x: (
            torch.arange(1.0, 2.0, 0.3),
            torch.full((2,), 7),
            x.new_zeros(2),
            torch.ones_like(x),
            torch.eye(3),
            torch.linspace(0, 1, 5),
            torch.tensor([1, 2]) + 0,
            torch.tril_indices(3, 3),
        ),
        (X,),
    ),
    "order statistics": (lambda x: (x.median(), *x.median(1), *x.kthvalue(2, 0), torch.histc(x, 4, -1, 1)), (X,)),
    "factorizations": (
        lambda x, a: (
            torch.linalg.cholesky(a),
            torch.linalg.cholesky(a, upper=True),
            *torch.linalg.lu_factor(x),
            *torch.linalg.lu(x),
            *torch.linalg.qr(x, mode="complete"),
            *torch.linalg.svd(x, full_matrices=False),
            *torch.linalg.eigh(a),
            torch.linalg.eigvalsh(a, UPLO="U"),
            torch.linalg.svdvals(x),
            *torch.linalg.eig(a),
            torch.linalg.eigvals(a),
            *torch.linalg.ldl_factor(a),
        ),
        (X, DEFINITE),
    ),
    "solutions": (
        lambda x, a: (
            torch.linalg.solve(a, x.mT),
            torch.linalg.solve(a, x, left=False),
            torch.linalg.solve(a, x[0]),
            torch.linalg.inv(a),
            torch.linalg.pinv(x),
            torch.linalg.det(a),
            *torch.linalg.slogdet(a),
            torch.linalg.matrix_exp(a / 10),
            torch.linalg.solve_triangular(a, x.mT, upper=False),
            *torch.triangular_solve(x.mT, a, transpose=True),
            torch.cholesky_solve(x.mT, a),
            torch.cholesky_inverse(a),
            torch.linalg.lu_solve(*torch.linalg.lu_factor(a), x.mT),
            torch.linalg.ldl_solve(*torch.linalg.ldl_factor(a), x.mT),
            torch.linalg.householder_product(*torch.geqrf(x.mT)),
            torch.ormqr(*torch.geqrf(x.mT), x.mT),
        ),
        (X, DEFINITE),
    ),
    "running extremes and frequent elements": (
        lambda x, n: (*x.cummax(0), *n.cummin(1), *n.mode(1), *n.mode(0, keepdim=True)),
        (X, N),
    ),
    "medians among numbers": (
        lambda x: (x.nanmedian(), *x.nanmedian(1), *x.nanmedian(0, keepdim=True)),
        (torch.where(X > 0.2, X, torch.nan),),
    ),
    "more scatters": (
        lambda x, n, y: (
            x.index_reduce(0, n[:, 0].abs() % 3, y, "prod"),
            x.scatter(1, n.abs() % 4, y, reduce="multiply"),
            x.put(n.abs(), y, accumulate=True),
            x.as_strided_scatter(y[:2, :2], (2, 2), (4, 1), 5),
        ),
        (X, N, Y),
    ),
    "counts": (
        lambda n: (
            torch.bincount(n.flatten().abs()),
            torch.bincount(n.flatten().abs(), minlength=9),
            *torch.unique(n, return_inverse=True, return_counts=True),
            *torch.unique(n, dim=0, return_counts=True),
            *torch.unique_consecutive(n.sort().values, return_inverse=True, return_counts=True),
            torch.nonzero_static(n, size=3),
        ),
        (N,),
    ),
    "segments": (
        lambda x: (
            torch.segment_reduce(x, "mean", lengths=torch.tensor([1, 2])),
            torch.segment_reduce(x, "max", offsets=torch.tensor([0, 3]), initial=0.5),
        ),
        (X,),
    ),
    "more pools": (
        lambda x: (
            *F.adaptive_max_pool2d(x, (4, 3), return_indices=True),
            F.adaptive_max_pool2d(x[0], 2),
            F.fractional_max_pool2d(x, 2, 3, _random_samples=torch.full((2, 4, 2), 0.3)),
        ),
        (IMAGE,),
    ),
    "bilinear products": (lambda x, y: F.bilinear(x, y, torch.ones(2, 4, 4), x[0, :2]), (X, Y)),
    "slopes": (lambda x: F.rrelu(x) + 1, (X,)),
    "sorted places": (
        lambda x: (torch.searchsorted(x[0].sort().values, 0.3), torch.bucketize(0.1, x[0].sort().values)),
        (X,),
    ),
    "sorted places of what stands there, and of no number": (
        lambda x, y: (
            torch.searchsorted(x, y, side="right"),
            torch.searchsorted(x, y),
            torch.bucketize(y, x, right=True),
        ),
        (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, torch.nan, torch.inf])),
    ),
    "special functions": (
        lambda x, n: (
            torch.special.i0(x),
            torch.special.bessel_j1(n),
            torch.special.chebyshev_polynomial_t(x, 3),
            torch.special.zeta(2.5, x.abs() + 1),
            torch.polygamma(2, x.abs() + 1),
            torch.igamma(x.abs(), x.abs() + 1),
            torch.nextafter(x, x + 1),
            torch.gcd(n, n + 2),
            torch.angle(x),
            *torch.frexp(x),
        ),
        (X, N),
    ),
    "casts": (
        lambda x, n: (x.long(), n.bool(), x.to(torch.float64), n.float(), x.half().float(), (n > 0).to(torch.uint8)),
        (X, N),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operations_give_eagers_numbers(name: str) -> None:
    function, inputs = CASES[name]
    check(function, *inputs)


def test_random_numbers_are_eagers_with_the_same_seed() -> None:
    module = capture(lambda x: (torch.rand(4), torch.randn_like(x)), (X,))
    executor = Executor(module)
    torch.manual_seed(3)
    got = executor.run([X])
    torch.manual_seed(3)
    assert torch.equal(got[0], torch.rand(4))
    assert torch.equal(got[1], torch.randn_like(X))


def test_dropout_keeps_about_as_many_as_it_says_and_scales_them() -> None:
    module = capture(lambda x: F.dropout(x, 0.25, True), (torch.ones(4000),))
    (got,) = Executor(module).run([torch.ones(4000)])
    kept = got != 0
    assert torch.allclose(got[kept], torch.tensor(1 / 0.75))
    assert 0.7 < kept.float().mean() < 0.8


def test_a_matrix_without_a_factor_stops_the_run() -> None:
    executor = Executor(capture(lambda a: torch.linalg.cholesky(a) + 1, (DEFINITE,)))
    with pytest.raises(MaiaError, match="cholesky: a matrix is singular"):
        executor.run([-DEFINITE])


def test_numbers_come_back_as_numbers() -> None:
    artifact = maiac.compile(lambda x: (x.sum().item(), x.long().max().item()), (X,))
    got = artifact(torch.tensor([[0.5, 2.0, 0.0, -1.0]] * 3))
    assert got == (4.5, 2)
    assert [type(v) for v in got] == [float, int]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.nanmedian(),
        lambda x: torch.unique(x, return_inverse=True, return_counts=True),
        lambda x: torch.unique_consecutive(x, return_inverse=True, return_counts=True),
    ],
    ids=["nanmedian", "unique", "unique_consecutive"],
)
def test_of_no_elements(function: Callable[..., Any]) -> None:
    check(function, torch.empty(0))


def test_what_torch_traces_with_a_wrong_shape_is_refused() -> None:
    with pytest.raises(MaiaError, match="wrong shape"):
        capture(lambda x: torch.unique_consecutive(x, dim=1), (N,))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: F.conv2d(x, w, padding=1),
        lambda x, w: F.conv_transpose2d(x, w.transpose(0, 1), stride=2),
        lambda x, w: F.avg_pool2d(x, 3, stride=2, padding=1),
        lambda x, w: torch.atan2(x, w.sum()),
        lambda x, w: torch.copysign(x, w.min()),
    ],
    ids=["conv2d", "conv_transpose2d", "avg_pool2d", "atan2", "copysign"],
)
def test_floating_operations_take_integers(function: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randint(-9, 9, shape, generator=generator) for shape in ((2, 3, 7, 6), (4, 3, 3, 3)))
    (got,) = Executor(capture(function, (x, w))).run([x, w])
    torch.testing.assert_close(got, function(x, w))


def test_hardtanh_of_integers_has_integer_bounds() -> None:
    x = torch.arange(-4, 5)
    (got,) = Executor(capture(lambda x: F.hardtanh(x, -2.7, 1.5), (x,))).run([x])
    assert torch.equal(got, F.hardtanh(x, -2.7, 1.5))


def test_a_hash_is_the_xor_of_bits() -> None:
    def hashes(x: torch.Tensor, n: torch.Tensor) -> Any:
        return torch.hash_tensor(x), torch.hash_tensor(n > 0, 0), torch.hash_tensor(n, 1, keepdim=True)

    found = maiac.compile(hashes, (X, N))(X, N)
    for got, want in zip(found, hashes(X, N), strict=True):
        assert got.dtype is torch.uint64 and torch.equal(got.view(torch.int64), want.view(torch.int64))
    assert found[2].view(torch.int64).flatten().tolist() == [a ^ b ^ c ^ d for a, b, c, d in N.tolist()]
