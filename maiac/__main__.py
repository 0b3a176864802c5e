"""``python -m maiac`` is the ``maiac`` command."""

from .cli import main

main()
