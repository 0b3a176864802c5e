"""Native host code: segments of a program as C++ that the system's compiler builds, run in one call each.

In order of execution: ``host`` cuts the program, ``lower_*`` and ``lowering`` turn steps into kernels over ``views``,
``expr``, ``loops``, ``rows`` and ``epilogue`` write their text, ``build`` compiles it, ``segment`` plans memory and
runs. The kernel library that the text calls is in ``cpp``.
"""

from __future__ import annotations

import functools
import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maiac.runtime.executor import Nativizer
    from maiac.runtime.loading import Loaded


def host_code(loaded: Loaded | None = None) -> Nativizer | None:
    """What puts machine code into a program; None where MAIAC_NATIVE=0, or there is no compiler (one warning).

    loaded: the artifact that the program was loaded from; packed weights are kept beside it.
    """
    if not _is_wanted() or not _has_compiler():
        return None
    from .host import nativize
    from .store import store_of

    return functools.partial(nativize, store=store_of(loaded))


def prepare_host_code() -> None:
    """Begin to build, in the background, what host code will call: while a model is captured there is time for it."""
    if not _is_wanted():
        return
    from .build import find_compiler
    from .library import prepare_in_background

    if find_compiler() is not None:
        prepare_in_background()


def _is_wanted() -> bool:
    return os.environ.get("MAIAC_NATIVE", "1") != "0"


@functools.cache
def _has_compiler() -> bool:
    from maiac.ir.errors import MaiaError

    from .build import find_compiler

    if find_compiler() is not None:
        return True
    warnings.warn(str(MaiaError("MAIA0512", "no C++ compiler was found: reference kernels run instead")), stacklevel=3)
    return False
