"""Silence for libraries that print what they raise as well: the error that a user reads should say it once."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Generator
from typing import Any


def _nothing(*_: Any, **__: Any) -> None:
    """Print nothing."""


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
    tracer: Any = importlib.import_module("torch.export._trace")
    tracer.print = _nothing  # it prints the graph so far when it fails
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r".*treespec, LeafSpec", FutureWarning
            )  # torch's own use of what it retires
            yield
    finally:
        vars(tracer).pop("print", None)
        for handler, level in handlers.items():
            handler.setLevel(level)
