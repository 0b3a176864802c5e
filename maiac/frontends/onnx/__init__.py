"""ONNX files into Maia IR.

Read in this order: ``load`` (file or proto to a checked onnx-ir model), ``importer`` (graphs and functions to IR),
``context`` (what a handler sees of its node), ``known`` (shape arithmetic done while importing), then the handlers by
family. A handler is one function under ``@onnx_op("Name", since=opset)``.
"""

from .importer import import_onnx

__all__ = ["import_onnx"]
