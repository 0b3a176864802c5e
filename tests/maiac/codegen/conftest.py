"""Tests of native code; elsewhere in the suite reference kernels run, unless a test asks for ``native``."""

from collections.abc import Iterator

import pytest

from maiac.codegen.build import find_compiler


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert find_compiler() is not None, "these tests need a C++ compiler"
    monkeypatch.setenv("MAIAC_NATIVE", "1")
    yield
