"""Python's garbage collector while much is made and little dropped."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def older_objects_frozen() -> Generator[None]:
    """Collections look at new objects only; one over all of torch's takes a tenth of a second, as long as a load.

    Where somebody has frozen objects already, nothing changes: unfreezing would set theirs free as well.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
