"""Passes: everything that turns Maia IR into better Maia IR."""

if __name__ != "maiac.passes":
    raise ImportError(
        f"this package is maiac.passes; importing it as {__name__!r} would make a second copy of every class"
    )
