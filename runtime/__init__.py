"""Runtime: everything that executes a compiled artifact."""

if __name__ != "maiac.runtime":
    raise ImportError(
        f"this package is maiac.runtime; importing it as {__name__!r} would make a second copy of every class"
    )
