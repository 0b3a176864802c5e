"""How far two tensors are apart: the figures of ``maiac compare`` and of the self-test."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

# Greatest difference, relative to the largest reference value, that another CPU's order of summation may cause in a
# deep network; integers and booleans must be equal.
SAME_MODEL: dict[torch.dtype, float] = {
    torch.float64: 1e-9,
    torch.complex128: 1e-9,
    torch.float32: 1e-4,
    torch.complex64: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor against its reference.

    ``max_abs`` and ``max_rel`` are over elements (relative to the reference's), ``sqnr`` is the power of the reference
    over that of the difference in dB (inf: equal), ``cosine`` the angle's cosine. ``problem`` says why they cannot be
    compared at all. ``excess`` is the greatest |a - b| - (atol + rtol |b|): over 0 is too much.
    """

    name: str
    problem: str = ""
    max_abs: float = 0.0
    max_rel: float = 0.0
    sqnr: float = math.inf
    cosine: float = 1.0
    scale: float = 0.0
    excess: float = -math.inf
    elements: int = 0

    @property
    def fits(self) -> bool:
        """Whether the tensors are within the tolerances."""
        return not self.problem and self.excess <= 0

    def to_json(self) -> dict[str, Any]:
        """Plain values; what JSON has no word for (inf, nan) becomes None."""
        table = {**asdict(self), "fits": self.fits}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in table.items()}


def difference(name: str, found: Any, reference: Any, *, rtol: float = 0.0, atol: float = 0.0) -> Difference:
    """Measure ``found`` against ``reference``. NaNs and infinities at the same places are equal."""
    if not isinstance(found, torch.Tensor) or not isinstance(reference, torch.Tensor):
        return _plain(name, found, reference)
    if found.shape != reference.shape:
        return Difference(name, f"shape {list(found.shape)}, expected {list(reference.shape)}")
    if not reference.numel():
        return Difference(name)
    a, b = _wide(found), _wide(reference)
    alike = (a == b) | (a.isnan() & b.isnan())
    if not bool((alike | (a.isfinite() & b.isfinite())).all()):
        count = int((~(alike | (a.isfinite() & b.isfinite()))).sum())
        return Difference(name, f"{count} of {b.numel()} elements are inf or nan on one side only")
    a, b = a.masked_fill(~b.isfinite(), 0), b.masked_fill(~b.isfinite(), 0)
    gap, size = (a - b).abs(), b.abs()
    noise, signal = float(gap.square().sum()), float(size.square().sum())
    norm = math.sqrt(float(a.abs().square().sum()) * signal)
    dot = float((a * b.conj()).real.sum() if b.is_complex() else (a * b).sum())
    return Difference(
        name,
        max_abs=float(gap.max()),
        max_rel=float((gap / size.clamp_min(torch.finfo(torch.float32).tiny)).max()),
        sqnr=math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal else -math.inf,
        cosine=1.0 if noise == 0 else min(1.0, dot / norm) if norm else 0.0,
        scale=float(size.max()),
        excess=float((gap - rtol * size).max()) - atol,
        elements=b.numel(),
    )


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Wide enough that the subtraction adds no error of its own; integers above 2**53 are out of scope."""
    x = x.detach().cpu()
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _plain(name: str, found: Any, reference: Any) -> Difference:
    if isinstance(found, (list, tuple)) and isinstance(reference, (list, tuple)):
        return _list(name, found, reference)  # pyright: ignore[reportUnknownArgumentType]
    if type(found) is not type(reference):
        return Difference(name, f"is {_kind(found)}, expected {_kind(reference)}")
    same = bool((found == reference) if not hasattr(found, "all") else (found == reference).all())
    return Difference(name) if same else Difference(name, f"is {found!r}, expected {reference!r}")


def _kind(value: Any) -> str:
    return "a tensor" if isinstance(value, torch.Tensor) else f"of type {type(value).__name__}"


def _list(name: str, found: list[Any] | tuple[Any, ...], reference: list[Any] | tuple[Any, ...]) -> Difference:
    """The worst of a sequence's elements."""
    if len(found) != len(reference):
        return Difference(name, f"has {len(found)} elements, expected {len(reference)}")
    each = [difference(f"{name}[{i}]", a, b) for i, (a, b) in enumerate(zip(found, reference, strict=True))]
    return max(each, key=badness, default=Difference(name))


def badness(d: Difference) -> tuple[bool, float]:
    """Sorts the worst last."""
    return bool(d.problem), -d.sqnr


def close_enough(d: Difference, dtype: torch.dtype | None) -> bool:
    """Whether two runs of the same program agree: equal, or within SAME_MODEL of the largest value."""
    tolerance = SAME_MODEL.get(dtype, 0.0) if dtype is not None else 0.0
    return not d.problem and d.max_abs <= tolerance * d.scale
