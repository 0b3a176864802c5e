"""Fixtures for the tests of commands."""

from .terminal import columns, mlp, say, terminal

__all__ = ["columns", "mlp", "say", "terminal"]
