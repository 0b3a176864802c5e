"""Where what was computed once is kept for later processes."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """MAIAC_CACHE_DIR, else XDG_CACHE_HOME/maiac, else ~/.cache/maiac."""
    given = os.environ.get("MAIAC_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "maiac"
