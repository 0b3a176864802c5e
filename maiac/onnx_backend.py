"""maiac as an ONNX backend: ``onnx.backend.base.Backend`` over the whole compiler.

import maiac.onnx_backend as backend
outputs = backend.prepare(model).run([x])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from maiac.ir import DimType, DType, Module, OptionalType, SequenceType, TensorType, Type, UnrankedType
from maiac.ir.errors import MaiaError

from .frontends.onnx import import_onnx
from .frontends.onnx.types import ONNX_DTYPES, to_tensor

__all__ = ["MaiaBackend", "MaiaRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]


class MaiaRep(BackendRep):
    """A compiled model, ready to run many times."""

    def __init__(self, module: Module) -> None:
        from maiac.runtime import Executor

        self.module = module
        self.executor = Executor(module)
        self.inputs = [(a.name, a.type) for a in module.main.args]
        names = module.attrs["outputs"]
        assert isinstance(names, tuple)
        self.names = [str(n) for n in names]
        self.result_types = module.main.result_types

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for arrays given in order, by name, or as one array; MAIA0227 where they do not match."""
        given = self._in_order(inputs)
        leaves = [to_runtime(v, t) for v, (_, t) in zip(given, self.inputs, strict=True)]
        results = self.executor.run(leaves)
        made = [to_array(v, t) for v, t in zip(results, self.result_types, strict=True)]
        return namedtupledict("Outputs", self.names)(*made)

    def _in_order(self, inputs: Any) -> Sequence[Any]:
        names = [name for name, _ in self.inputs]
        if isinstance(inputs, Mapping):
            missing = [n for n in names if n not in inputs]
            unknown = [n for n in inputs if n not in names]
            if missing or unknown:
                raise MaiaError("MAIA0227", f"the model takes {names}; missing {missing}, unknown {unknown}")
            return [inputs[n] for n in names]
        given = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        if len(given) != len(names):
            raise MaiaError("MAIA0227", f"the model takes {len(names)} inputs {names}, but {len(given)} are given")
        return given


class MaiaBackend(Backend):
    """Compiles with the default pipeline for the host and runs on its CPU."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether every operator and type of the model is supported."""
        try:
            import_onnx(model)
        except MaiaError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> MaiaRep:
        """Compile a model; the errors of import_onnx, and MAIA0227 for a device other than the CPU."""
        if not cls.supports_device(device):
            raise MaiaError("MAIA0227", f"there is no device {device!r}; maiac runs ONNX models on CPU")
        return MaiaRep(compile_module(import_onnx(model)))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Compile a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run one node on arrays; ``opset_version`` chooses the operator set."""
        arrays = [np.asarray(v) for v in (inputs if isinstance(inputs, (list, tuple)) else [inputs])]
        names = [n for n in node.input if n]
        if len(arrays) != len(names):
            raise MaiaError(
                "MAIA0227", f"{node.op_type} takes {len(names)} inputs {names}, but {len(arrays)} are given"
            )
        version = int(kwargs.get("opset_version", onnx.defs.onnx_opset_version()))
        values = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in zip(names, arrays, strict=True)
        ]
        results = [onnx.helper.make_empty_tensor_value_info(n) for n in node.output if n]
        graph = onnx.helper.make_graph([node], node.op_type, values, results)
        opset = onnx.helper.make_opsetid(node.domain, version)
        return cls.run_model(onnx.helper.make_model(graph, opset_imports=[opset]), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """CPU only."""
        return Device(device).type == DeviceType.CPU if device.split(":", maxsplit=1)[0] in ("CPU", "CUDA") else False


def compile_module(module: Module) -> Module:
    """The module after the default pipeline for the host."""
    from maiac.passes import default_pipeline, run_pipeline

    run_pipeline(module, default_pipeline())
    return module


def to_runtime(value: Any, type: Type) -> Any:
    """An array, list or None as what the executor takes."""
    match type:
        case SequenceType():
            return [to_runtime(v, type.element) for v in value]
        case OptionalType():
            return None if value is None else to_runtime(value, type.element)
        case TensorType():
            return to_tensor(np.asarray(value), type.element)
        case UnrankedType():
            return to_tensor(np.asarray(value), type.dtype)
        case DimType():
            return int(value)


def to_array(value: Any, type: Type) -> Any:
    """A result of the executor as NumPy arrays, lists or None."""
    match type:
        case SequenceType():
            return [to_array(v, type.element) for v in value]
        case OptionalType():
            return None if value is None else to_array(value, type.element)
        case TensorType():
            return _array(value, type.element)
        case UnrankedType():
            return _array(value, type.dtype)
        case DimType():
            return np.asarray(value, np.int64)


def _array(value: Any, dtype: DType) -> Any:
    if dtype is DType.STR:
        return np.asarray(value, object)
    want = onnx.helper.tensor_dtype_to_np_dtype(ONNX_DTYPES[dtype])
    value = value.detach().contiguous()
    if dtype is DType.F4E2M1:
        return value.numpy().view(want)
    if want.isbuiltin != 1 and dtype.bits >= 8:
        import torch

        bits = {1: torch.uint8, 2: torch.int16}[value.element_size()]
        return value.view(bits).numpy().view(want)
    return value.numpy().astype(want, copy=False)


is_compatible = MaiaBackend.is_compatible
prepare = MaiaBackend.prepare
run_model = MaiaBackend.run_model
run_node = MaiaBackend.run_node
supports_device = MaiaBackend.supports_device
