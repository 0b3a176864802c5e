"""Silence for libraries that print what they raise as well: the error that a user reads should say it once."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator


@contextlib.contextmanager
def quiet_torch() -> Generator[None]:
    """Without the log lines of torch, such as stack traces from inside of its tracer; TORCH_LOGS brings them back."""
    if "TORCH_LOGS" in os.environ:
        yield
        return
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.split(".")[0] == "torch"]
    handlers = {handler: handler.level for logger in loggers for handler in logger.handlers}
    for handler in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in handlers.items():
            handler.setLevel(level)
