"""The artifact: a compiled program with its weights, called the way its source is called."""

from __future__ import annotations

import atexit
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import __version__, golden
from .collector import older_objects_frozen
from .difference import Difference
from .ir import Module
from .ir.errors import MaiaError, raise_all
from .ir.opdef import bytes_of
from .ir.types import TensorType, Type
from .mutation import check_writable, mutated, write_back
from .report import cost_of, output_ports, weight_table
from .runtime.loading import GOLDEN, REPORT, Loaded, check_sums, load_artifact
from .runtime.manifest import Manifest, Port
from .runtime.safetensors import read_header
from .runtime.weights import MappedTensor, MetaTensor
from .tensors import from_numpy, to_numpy
from .writer import Progress, write_artifact

if TYPE_CHECKING:
    from .runtime.comm import Communicator
    from .runtime.executor import Executor

# Golden results are recorded by running the model once while saving, unless that would take long.
GOLDEN_FLOPS = 10**13
GOLDEN_WEIGHTS = 1 << 33


@dataclass(frozen=True, slots=True)
class Place:
    """Where an artifact runs: the sizes of its mesh axes, this process's rank, and who talks to the other ranks."""

    mesh: Mapping[str, int]
    rank: int = 0
    comm: Communicator | None = None


class Artifact:
    """A compiled program; ``artifact(*args, **kwargs)`` takes and gives what the source model takes and gives.

    PyTorch sources: the same tree of tensors in and out. ONNX sources and plain IR: arrays by position or name, a list
    out; NumPy arrays come back if no input was a tensor.
    """

    def __init__(
        self,
        module: Module,
        manifest: Manifest,
        *,
        report: Mapping[str, Any] | None = None,
        place: Place | None = None,
        examples: Sequence[Any] | None = None,
        loaded: Loaded | None = None,
    ) -> None:
        self.module = module
        self.manifest = manifest
        self.report: dict[str, Any] = dict(report or {})
        self.place = place or Place({})
        self._examples = examples
        self._loaded = loaded
        self._executor: Executor | None = None

    def __repr__(self) -> str:
        ins, outs = (", ".join(f"{p.name}: {p.type}" for p in ports) for ports in (self.inputs, self.outputs))
        return f"<maiac artifact {self.module.name}({ins}) -> ({outs})>"

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name and IR type of each input, in order."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name and IR type of each output, in order."""
        return self.manifest.outputs

    @property
    def executor(self) -> Executor:
        """What runs the program; made when first asked for. MAIA0506 where the mesh does not fit."""
        if self._executor is None:
            from .codegen import host_code
            from .runtime.executor import Executor

            place = self.place
            self._executor = Executor(
                self.module, mesh=place.mesh, rank=place.rank, comm=place.comm, native=host_code(self._loaded)
            )
        return self._executor

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program under the source's calling convention. MAIA0416 or MAIA05xx where inputs do not fit."""
        inputs = bind_inputs(self.module, self.manifest, args, kwargs)
        check_writable(self.module, inputs)
        outputs = write_back(self.module, inputs, self.run(inputs))
        if self.manifest.convention != "torch":
            if any(isinstance(v, torch.Tensor) for v in (*args, *kwargs.values())):
                return outputs
            return [_as_array(v, t) for v, t in zip(outputs, self.module.main.result_types, strict=True)]
        from .runtime import tree

        return tree.unflatten(self.manifest.out_tree, outputs)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Run the program on flat inputs, one for each of ``inputs``; gives one value for each of ``outputs``.

        What the program would write into its inputs stands among the outputs; only a call writes it.
        """
        return self.executor.run(inputs)

    def reset(self) -> None:
        """Set states (caches, buffers that the model changes) back to their initial contents."""
        if self._executor is not None:
            self._executor.reset_states()

    # **** self-test ****

    def self_test(self) -> list[Difference]:
        """Run the golden inputs and compare with the results stored when the artifact was written.

        MAIA0413 where they differ; MAIA0414 where none were stored. All checksums are checked first.
        """
        table = self.manifest.golden
        if "inputs" not in table:
            raise MaiaError("MAIA0414", f"no golden results: {table.get('skipped', 'none were recorded')}")
        if self._loaded is not None and not self._loaded.verified:
            check_sums(self._loaded.archive, self.manifest)
        inputs, expected = self.golden()
        fresh = Artifact(self.module, self.manifest, place=self.place)  # its own states
        return golden.check([p.name for p in self.outputs], fresh.run(inputs), expected)

    def golden(self) -> tuple[list[Any], list[Any]]:
        """Golden inputs and outputs of an artifact that was loaded. MAIA0408 where they do not fit together."""
        if self._loaded is None or GOLDEN not in self._loaded.archive.entries:
            tensors: dict[str, torch.Tensor] = {}
        else:
            entry = self._loaded.archive.entries[GOLDEN]
            slots = read_header(entry.path, entry.offset, entry.size)
            views = {k: MappedTensor(entry.path, s.offset, s.dtype, s.shape) for k, s in slots.items()}
            tensors = {k: v.load().clone() for k, v in views.items()}
        table = self.manifest.golden
        return golden.unpack(table.get("inputs"), tensors), golden.unpack(table.get("outputs"), tensors)

    def _record_golden(self, wanted: bool | None) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Golden results to store: those already stored, or those of a run."""
        if wanted is False:
            return golden.skipped("not wanted"), {}
        if self._loaded is not None and "inputs" in self.manifest.golden:
            return golden.pack(*self.golden(), self.manifest.golden.get("origin", ""))
        reason = self._too_costly() if wanted is None else ""
        if reason:
            return golden.skipped(reason), {}
        try:
            inputs, origin = self._golden_inputs()
            runner = Artifact(self.module, self.manifest)
            return golden.pack(inputs, runner.run([_cloned(v) for v in inputs]), origin)
        except MaiaError as e:
            if wanted:
                raise
            return golden.skipped(f"the model could not be run: {e.message}"), {}

    def _golden_inputs(self) -> tuple[list[Any], str]:
        if self._examples is not None:
            return [_cloned(v) for v in self._examples], "example"
        from .inputs import choose_sizes, random_inputs

        return random_inputs(self.module, choose_sizes(self.module)), "random"

    def _too_costly(self) -> str:
        from .ir.dims import evaluate
        from .report import sizes_of_symbols

        if any(w.data is None or isinstance(w.data, MetaTensor) for w in self.module.weights.values()):
            return "the weights have no contents"
        size = sum(row["bytes"] for row in weight_table(self.module.weights).values())
        sizes = sizes_of_symbols(self.module)
        flops = evaluate(cost_of(self.module).flops, sizes)
        if size > GOLDEN_WEIGHTS or flops > GOLDEN_FLOPS:
            return f"a run would take {flops:.3g} FLOPs over {size:,} bytes of weights"
        return golden.too_large(sum(bytes_of(t, sizes) for t in self._port_types()))

    def _port_types(self) -> list[Type]:
        main = self.module.main
        return [*(a.type for a in main.args), *main.result_types]

    # **** files ****

    def save(
        self,
        path: str | Path,
        *,
        golden: bool | None = None,
        link_weights: bool = False,
        progress: Progress | None = None,
    ) -> Manifest:
        """Write the artifact: one file, or a directory where ``path`` is one or ends with a slash.

        golden: record results for the self-test (None: where a run is quick). link_weights: leave weights that lie in
        files in those files. The file appears whole or not at all. MAIA0411 or MAIA0412 where it cannot be written.
        """
        target = Path(path)
        folder = str(path).endswith("/") or target.is_dir()
        if progress:
            progress("recording golden results", 0, 0)
        table, tensors = self._record_golden(golden)
        self.manifest = write_artifact(
            target,
            self.module,
            replace(self.manifest, golden=table),
            report=_without_clock(self.report),
            golden=tensors,
            folder=folder,
            link_weights=link_weights,
            progress=progress,
        )
        return self.manifest


@older_objects_frozen()
def load(
    path: str | Path,
    *,
    mesh: Mapping[str, int] | None = None,
    device: str = "cpu",
    trust: bool = False,
    rank: int = 0,
    comm: Communicator | None = None,
    verify: bool | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Open an artifact; its weights stay in the file until they are needed.

    mesh: ranks along each axis that the program was partitioned over; ``rank`` and ``comm`` place this process in it.
    trust: let the artifact read linked weights outside its folder, and run machine code inside it that another machine
    built (this format version holds none).
    verify: compare the checksums of weights too; by default where they take under 256 MiB.
    MAIA0401 to MAIA0410 and MAIA0419 say what is wrong with the file; MAIA0506 that the mesh does not fit.
    """
    if str(device) != "cpu":
        raise MaiaError("MAIA0417", f"device {device!r}")
    loaded = load_artifact(Path(path), verify=verify, trust=trust, progress=progress)
    manifest = loaded.manifest
    for arg, port in zip(loaded.module.main.args, manifest.inputs, strict=False):
        arg.name = port.name  # the text keeps only what a name may consist of there
    artifact = Artifact(loaded.module, manifest, report=_report(loaded), loaded=loaded)
    raise_all("MAIA0408", f"{path}: the manifest does not fit the program", _interface_faults(artifact))
    if mesh is not None:
        artifact.place = _placed(loaded.module, mesh, rank, comm)
    return artifact


def _placed(module: Module, mesh: Mapping[str, int], rank: int, comm: Communicator | None) -> Place:
    """Where this process stands in a mesh; joins the ranks that torchrun started where nobody did so before."""
    from .runtime.placement import place

    place(module, mesh, 0)
    if comm is not None or math.prod(mesh.values()) == 1:
        return Place(mesh, rank, comm)
    import torch.distributed as dist

    from .runtime.distributed import MeshCommunicator, choose_mesh, process_group

    if not dist.is_initialized():
        group = process_group()
        group.__enter__()  # for the rest of this process: every call of the artifact talks to the other ranks
        atexit.register(group.__exit__, None, None, None)
    mesh = choose_mesh(module, dist.get_world_size(), mesh)
    return Place(mesh, dist.get_rank(), MeshCommunicator(mesh, dist.get_rank()))


def _report(loaded: Loaded) -> dict[str, Any]:
    if REPORT not in loaded.archive.entries:
        return {}
    try:
        found = json.loads(loaded.archive.read(REPORT, 1 << 26))
    except (ValueError, RecursionError):
        raise MaiaError("MAIA0408", f"{loaded.path}: {REPORT} is not JSON") from None
    if not isinstance(found, dict):
        raise MaiaError("MAIA0408", f"{loaded.path}: {REPORT} is not a table")
    return found  # pyright: ignore[reportUnknownVariableType]


def _interface_faults(artifact: Artifact) -> list[str]:
    """Where the manifest's description of inputs and outputs is not the program's."""
    main, manifest = artifact.module.main, artifact.manifest
    taken = [str(a.type) for a in main.args]
    given = [str(t) for t in main.result_types]
    returned = given[: len(given) - len(mutated(artifact.module))]
    faults: list[str] = []
    if [p.type for p in manifest.inputs] != taken:
        faults.append(f"inputs are {', '.join(taken)}")
    if [p.type for p in manifest.outputs] != given:
        faults.append(f"outputs are {', '.join(given)}")
    if len({p.name for p in manifest.inputs}) != len(manifest.inputs):
        faults.append("two inputs have one name")
    if manifest.convention == "torch":
        from .runtime.tree import count_leaves

        for what, tree, ports in (("in", manifest.in_tree, taken), ("out", manifest.out_tree, returned)):
            if tree is None or count_leaves(tree) != len(ports):
                faults.append(f"{what}_tree does not have {len(ports)} leaves")
    elif manifest.convention != "onnx":
        faults.append(f"the convention {manifest.convention!r} is neither torch nor onnx")
    return faults


def new_manifest(module: Module, source: Mapping[str, str], options: Mapping[str, str], pipeline: str) -> Manifest:
    """The manifest of a module that was just compiled."""
    return Manifest(
        compiler={"maiac": __version__, "torch": torch.__version__},
        source=dict(source),
        options=dict(options),
        pipeline=pipeline,
        convention=str(module.attrs.get("convention", "onnx")),
        in_tree=_tree(module, "in_tree"),
        out_tree=_tree(module, "out_tree"),
        inputs=tuple(Port(a.name, str(a.type)) for a in module.main.args),
        outputs=tuple(Port(name, str(type)) for name, type in output_ports(module)),
        symbols={n: str(s).partition(" in ")[2] for n, s in module.symbols.items()},
        mesh=dict(module.mesh),
    )


def _tree(module: Module, name: str) -> Any:
    text = module.attrs.get(name)
    return json.loads(text) if isinstance(text, str) else None


def bind_inputs(module: Module, manifest: Manifest, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """A call's arguments as flat inputs, under the source's convention; MAIA0416 or MAIA05xx where they do not fit."""
    if manifest.convention == "torch":
        from .runtime import tree

        return tree.flatten(manifest.in_tree, (tuple(args), dict(kwargs)))
    given = _by_position(manifest.inputs, args, kwargs)
    return [_from_array(v, a.type) for v, a in zip(given, module.main.args, strict=True)]


def _by_position(ports: Sequence[Port], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """One value for each input; MAIA0416 lists all that is missing, unknown or given twice."""
    given = dict(zip((p.name for p in ports), args, strict=False))
    names = {p.name for p in ports}
    faults = [f"{len(args)} inputs were given by position; there are {len(ports)}"] if len(args) > len(ports) else []
    faults += [f"{n!r} is not an input" for n in kwargs if n not in names]
    faults += [f"{n!r} was given by position and by name" for n in kwargs if n in given]
    given |= kwargs
    faults += [
        f"{p.name!r} is missing: {p.type}" for p in ports if p.name not in given and not p.type.startswith("opt<")
    ]
    expected = ", ".join(p.name for p in ports) or "none"
    raise_all("MAIA0416", f"the inputs are: {expected}", faults)
    return [given.get(p.name) for p in ports]


def _from_array(value: Any, type: Type) -> Any:
    """An input as the executor takes it: tensors as they are, arrays without a copy where their dtype allows."""
    if isinstance(value, torch.Tensor):
        return value
    if _is_plain(type) and getattr(value, "dtype", None) is not None:
        return from_numpy(value)
    from .onnx_backend import to_runtime

    return to_runtime(value, type)


def _as_array(value: Any, type: Type) -> Any:
    """An output as NumPy has it: sequences as lists, absent values as None, small integers as ml_dtypes."""
    if _is_plain(type):
        return to_numpy(value)
    from .onnx_backend import to_array

    return to_array(value, type)


def _is_plain(type: Type) -> bool:
    """A tensor whose elements take a byte or more, and are no strings."""
    return isinstance(type, TensorType) and type.element.bits >= 8


def _cloned(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _without_clock(value: Any) -> Any:
    """The same report without durations: the same model gives the same file."""
    if isinstance(value, dict):
        return {k: _without_clock(v) for k, v in value.items() if k != "seconds"}  # pyright: ignore[reportUnknownVariableType]
    return [_without_clock(v) for v in value] if isinstance(value, (list, tuple)) else value  # pyright: ignore[reportUnknownVariableType]
