"""Operations on storages: strides over those that programs see, refusals of those that they do not."""

from __future__ import annotations

import pytest
import torch

from maiac.frontends.exported import capture
from maiac.ir.errors import MaiaError

from .eager import check

X, Y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def test_what_reads_a_storage_wants_it_in_the_order_of_the_elements() -> None:
    with pytest.raises(MaiaError, match="as_strided_scatter of a part of a storage"):
        capture(lambda x, y: x[1:].as_strided_scatter(y[0], (4,), (1,), 0), (X, Y))
    with pytest.raises(MaiaError, match="as_strided_scatter of a tensor that is not contiguous"):
        capture(lambda x, y: x.mT.as_strided_scatter(y[0], (4,), (1,)), (X, Y))
    with pytest.raises(MaiaError, match="resize of a tensor that is not contiguous"):
        capture(lambda x: torch.ops.aten.resize(x.mT, [2, 2]), (X,))
    check(lambda x, y: x[1:].as_strided_scatter(y[0], (4,), (1,), 4), X, Y)


def test_a_view_of_a_part_of_its_storage_is_no_strided_view() -> None:
    with pytest.raises(MaiaError, match="as_strided of a part of a storage"):
        capture(lambda x: x.as_strided((2,), (1,), 0), (X[1],))
    with pytest.raises(MaiaError, match="as_strided of a part of a storage"):
        capture(lambda x: x.as_strided((2,), (4,), 0), (X[0],))
    check(lambda x: x.as_strided((2,), (2,), 5), X[1])
