"""Kernels: for each operation, the first provider that has one. The last provider is the reference body."""

from .registry import Kernel, Provider, Table, default_providers, find_kernel

__all__ = ["Kernel", "Provider", "Table", "default_providers", "find_kernel"]
