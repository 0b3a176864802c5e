"""Ranks of torch.distributed: the mesh they form and the collectives between them (gloo on CPUs, NCCL on GPUs).

A mesh names axes and their sizes: ``tp=2,pp=2``. Ranks are numbered row-major in the order of the module's axes, so
that neighbours on the last axis, which talk most, sit next to each other. ``launch`` (in ``launch.py``) starts ranks
on this machine; torchrun starts them on many.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Generator, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from maiac.ir.errors import MaiaError
from maiac.ir.graph import Module

from .comm import part_of
from .placement import coordinates

TIMEOUT = 600.0  # seconds that a rank waits for another
ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

# Summed in f32: gloo has no sums of 8-bit floats, and a sum in 16 bits loses what the ranks computed.
_NARROW = {torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}


# **** meshes ****


def parse_mesh(text: str) -> dict[str, int]:
    """``tp=2,pp=2`` as sizes; MAIA0601 where it does not read so."""
    mesh: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        axis, equals, size = (p.strip() for p in part.partition("="))
        if not equals or not axis.isidentifier() or not size.isdecimal() or int(size) < 1 or axis in mesh:
            raise MaiaError("MAIA0601", f"{part!r} in mesh {text!r} is not AXIS=SIZE, once an axis")
        mesh[axis] = int(size)
    return mesh


def choose_mesh(module: Module, world: int, given: Mapping[str, int] | None = None) -> dict[str, int]:
    """The sizes of the module's axes for ``world`` ranks, in the module's order.

    What ``given`` leaves open: pipeline axes take as many ranks as they have stages, as far as those divide what is
    left; one axis without a greatest size takes the rest. MAIA0602 where the product is not ``world``.
    """
    unknown = [a for a in given or {} if a not in module.mesh]
    if unknown:
        axes = ", ".join(module.mesh) or "none: it is not partitioned"
        raise MaiaError("MAIA0601", f"the program has no mesh axis {', '.join(unknown)}; it has {axes}")
    sizes = dict(given or {})
    left = world // math.prod(sizes.values()) if world % math.prod(sizes.values()) == 0 else 0
    for axis, most in module.mesh.items():
        if axis not in sizes and most is not None:
            sizes[axis] = math.gcd(left, most) or 1
            left //= sizes[axis]
    for axis in module.mesh:
        if axis not in sizes:
            sizes[axis], left = max(left, 1), 1
    mesh = {axis: sizes[axis] for axis in module.mesh}
    if math.prod(mesh.values()) != world:
        shown = mesh_text(given or {}) or mesh_text(mesh) or "of one rank (the program is not partitioned)"
        raise MaiaError("MAIA0602", f"a mesh {shown} cannot be laid out on {world} ranks")
    return mesh


def mesh_text(mesh: Mapping[str, int]) -> str:
    """``tp=2,pp=2``"""
    return ",".join(f"{axis}={size}" for axis, size in mesh.items())


# **** the process group ****


def started_by_torchrun() -> bool:
    """Whether the environment says that this process is one rank of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def process_group(device: str = "cpu", timeout: float = TIMEOUT) -> Generator[tuple[int, int]]:
    """Join the group that torchrun's variables describe, or use the one that exists; gives (rank, world size).

    MAIA0606 where variables are missing or the other ranks cannot be reached.
    """
    if dist.is_initialized():
        yield dist.get_rank(), dist.get_world_size()
        return
    missing = [name for name in ENVIRONMENT if name not in os.environ]
    if missing:
        raise MaiaError("MAIA0606", f"no process group: {', '.join(missing)} not set")
    try:
        dist.init_process_group(backend_for(device), timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        raise MaiaError("MAIA0606", f"the process group could not be made: {error}") from error
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def backend_for(device: str) -> str:
    """The backend of torch.distributed that moves tensors of a device."""
    return "nccl" if torch.device(device).type == "cuda" else "gloo"


class MeshCommunicator:
    """The collectives of one rank of a mesh, over torch.distributed (see ``comm.Communicator``)."""

    def __init__(self, mesh: Mapping[str, int], rank: int, device: str = "cpu") -> None:
        """Collective: every rank of the group makes one, with the same mesh."""
        world = dist.get_world_size() if dist.is_initialized() else 1
        if math.prod(mesh.values()) != world:
            wanted = math.prod(mesh.values())
            raise MaiaError("MAIA0602", f"the mesh {mesh_text(mesh)} needs {wanted} ranks; {world} run")
        self.mesh = dict(mesh)
        self.at = coordinates(self.mesh, rank)
        self.device = torch.device(device)
        self._groups = {axis: self._make_groups(axis) for axis, size in self.mesh.items() if size > 1}

    def rank_at(self, axis: str, coordinate: int) -> int:
        """The rank with this coordinate along an axis, and this rank's along all others."""
        rank = 0
        for name, size in self.mesh.items():
            rank = rank * size + (coordinate if name == axis else self.at[name])
        return rank

    def _make_groups(self, axis: str) -> dist.ProcessGroup:
        """The group along an axis that holds this rank; every rank makes all groups, in one order."""
        mine: dist.ProcessGroup | None = None
        lines: dict[tuple[int, ...], list[int]] = {}
        for rank in range(math.prod(self.mesh.values())):
            at = coordinates(self.mesh, rank)
            lines.setdefault(tuple(n for name, n in at.items() if name != axis), []).append(rank)
        for line in lines.values():
            group = dist.new_group(line)
            if self.rank_at(axis, self.at[axis]) in line:
                assert isinstance(group, dist.ProcessGroup)
                mine = group
        assert mine is not None
        return mine

    def run(self, name: str, x: Any, attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype) -> Any:
        """Run one collective (see ``comm.Communicator.run``); MAIA0605 where another rank does not answer."""
        try:
            return getattr(self, name)(x, attrs, shape, dtype)
        except RuntimeError as error:
            if is_unanswered(error):
                raise unanswered(name, error) from error
            raise

    def all_reduce(self, x: torch.Tensor, attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype) -> Any:
        """The sum over the ranks of the axis; narrow floats are summed in f32."""
        wide = x.float() if x.dtype in _NARROW else x.clone(memory_format=torch.contiguous_format)
        total = torch.view_as_real(wide) if wide.is_complex() else wide
        dist.all_reduce(total, group=self._groups[attrs["over"]])
        return wide.to(dtype)

    def reduce_scatter(
        self, x: torch.Tensor, attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype
    ) -> Any:
        """This rank's part of the sum."""
        axis, total = attrs["over"], self.all_reduce(x, attrs, shape, dtype)
        return part_of(total, attrs["dim"], self.mesh[axis], self.at[axis]).clone()

    def all_gather(self, x: torch.Tensor, attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype) -> Any:
        """The parts of all ranks of the axis, joined."""
        mine = as_bytes(x)
        parts = [torch.empty_like(mine) for _ in range(self.mesh[attrs["over"]])]
        dist.all_gather(parts, mine, group=self._groups[attrs["over"]])
        return torch.cat([p.view(x.dtype).reshape(x.shape) for p in parts], attrs["dim"])

    def send_recv(
        self, x: torch.Tensor | None, attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype
    ) -> Any:
        """Move a value from the rank at ``source`` to the one at ``target``."""
        axis = attrs["along"]
        group = self._groups[axis]
        if x is not None:
            dist.send(as_bytes(x), self.rank_at(axis, attrs["target"]), group=group)
            return x
        into = torch.empty(shape, dtype=dtype, device=self.device)
        dist.recv(into.reshape(-1).view(torch.uint8), self.rank_at(axis, attrs["source"]), group=group)
        return into

    def broadcast(
        self, x: torch.Tensor | None, attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype
    ) -> Any:
        """Give every rank of the axis the value of the one at ``source``."""
        axis = attrs["along"]
        mine = self.at[axis] == attrs["source"]
        value = x.contiguous() if x is not None and mine else torch.empty(shape, dtype=dtype, device=self.device)
        dist.broadcast(as_bytes(value), self.rank_at(axis, attrs["source"]), group=self._groups[axis])
        return value


def as_bytes(x: torch.Tensor) -> torch.Tensor:
    """The elements as bytes, so that any dtype travels; a view where they are contiguous."""
    return x.contiguous().reshape(-1).view(torch.uint8)


def is_unanswered(error: BaseException) -> bool:
    """Whether an error means that another rank is gone or late, rather than that this one is at fault."""
    words = ("timed out", "timeout", "connection", "peer")
    lost = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    return lost or isinstance(error, dist.DistBackendError)


def unanswered(name: str, error: BaseException) -> MaiaError:
    """MAIA0605 for an error of torch.distributed."""
    return MaiaError("MAIA0605", f"{name}: another rank did not answer: {str(error).splitlines()[0]}")


def resident_bytes() -> int:
    """Bytes of memory that this process holds (Linux; 0 where that cannot be told)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
