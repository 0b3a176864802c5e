"""Meshes, collectives on real gloo processes, and the launcher's ways to fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maiac.ir import MaiaError, Module
from maiac.runtime.distributed import choose_mesh, mesh_text, parse_mesh, process_group
from maiac.runtime.launch import launch


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(MaiaError) as error:
        call()
    return error.value.code


# **** meshes ****


def test_a_mesh_reads_as_it_prints():
    assert parse_mesh("tp=2, pp=3") == {"tp": 2, "pp": 3}
    assert mesh_text(parse_mesh("tp=2,pp=3")) == "tp=2,pp=3"
    assert parse_mesh("") == {}


@pytest.mark.parametrize("text", ["tp", "tp=", "=2", "tp=0", "tp=-1", "tp=x", "tp=2,tp=2", "2=tp"])
def test_bad_meshes(text: str):
    assert code_of(lambda: parse_mesh(text)) == "MAIA0601"


BOTH = Module(mesh={"pp": 2, "tp": None})


@pytest.mark.parametrize(
    ("world", "given", "wanted"),
    [
        (1, None, {"pp": 1, "tp": 1}),
        (2, None, {"pp": 2, "tp": 1}),
        (4, None, {"pp": 2, "tp": 2}),
        (6, None, {"pp": 2, "tp": 3}),
        (3, None, {"pp": 1, "tp": 3}),
        (2, {"tp": 2}, {"pp": 1, "tp": 2}),
        (4, {"tp": 2}, {"pp": 2, "tp": 2}),
        (4, {"tp": 2, "pp": 2}, {"pp": 2, "tp": 2}),
        (4, {"pp": 1}, {"pp": 1, "tp": 4}),
    ],
)
def test_what_a_mesh_leaves_open_is_chosen(world: int, given: dict[str, int] | None, wanted: dict[str, int]):
    found = choose_mesh(BOTH, world, given)
    assert found == wanted and list(found) == ["pp", "tp"]


def test_meshes_that_cannot_be_laid_out():
    assert code_of(lambda: choose_mesh(BOTH, 4, {"tp": 3})) == "MAIA0602"
    assert code_of(lambda: choose_mesh(BOTH, 8, {"tp": 2, "pp": 2})) == "MAIA0602"
    assert code_of(lambda: choose_mesh(Module(), 2)) == "MAIA0602"
    assert code_of(lambda: choose_mesh(BOTH, 2, {"ep": 2})) == "MAIA0601"


def test_a_group_needs_its_variables(monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)

    def join() -> None:
        with process_group():
            pass

    assert code_of(join) == "MAIA0606"


# **** ranks ****

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.bool, torch.complex64]


def all_collectives() -> dict[str, Any]:
    """Every collective with every dtype that travels; the body of one rank of a 2 x 2 mesh."""
    import torch.distributed as dist

    from maiac.runtime.distributed import MeshCommunicator

    rank = dist.get_rank()
    comm = MeshCommunicator({"pp": 2, "tp": 2}, rank)
    pp, tp = comm.at["pp"], comm.at["tp"]
    found: dict[str, Any] = {"at": (pp, tp)}

    def run(name: str, x: torch.Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, **attrs: Any) -> Any:
        return comm.run(name, x, attrs, shape, dtype)

    for dtype in DTYPES:
        x = torch.tensor([[1, 0, 1], [0, 1, 1]]).to(dtype) if tp else torch.tensor([[1, 1, 0], [0, 0, 0]]).to(dtype)
        before = x.float() if dtype is not torch.complex64 else x.clone()
        kept: dict[str, Any] = {}
        if dtype is not torch.bool:
            kept["sum"] = run("all_reduce", x, (2, 3), dtype, over="tp")
            kept["scattered"] = run("reduce_scatter", x, (1, 3), dtype, over="tp", dim=0)
        kept["gathered"] = run("all_gather", x, (2, 6), dtype, over="tp", dim=1)
        kept["moved"] = run("send_recv", None if pp else x, (2, 3), dtype, along="pp", source=0, target=1)
        kept["told"] = run("broadcast", x if pp else None, (2, 3), dtype, along="pp", source=1)
        after = x.float() if dtype is not torch.complex64 else x
        assert torch.equal(before, after), f"a collective changed its operand of {dtype}"
        found[str(dtype)] = {k: (v.dtype, v.to(torch.complex64)) for k, v in kept.items()}
    scalar = run("broadcast", torch.tensor(7) if pp else None, (), torch.int64, along="pp", source=1)
    empty = run("all_gather", torch.zeros(0, 2), (0, 4), torch.float32, over="tp", dim=1)
    return {**found, "scalar": scalar, "empty": tuple(empty.shape)}


@pytest.mark.distributed
def test_collectives_move_every_dtype():
    ranks = launch(4, all_collectives, timeout=120)
    assert [r["at"] for r in ranks] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    left, right = torch.tensor([[1, 1, 0], [0, 0, 0]]), torch.tensor([[1, 0, 1], [0, 1, 1]])
    for rank, found in enumerate(ranks):
        pp, tp = divmod(rank, 2)
        mine = right if tp else left
        assert int(found["scalar"]) == 7 and found["empty"] == (0, 4)
        for dtype in DTYPES:
            got = found[str(dtype)]
            assert all(d is dtype for d, _ in got.values())
            values = {k: v.real.long() for k, (_, v) in got.items()}
            assert torch.equal(values["gathered"], torch.cat([left, right], 1))
            assert torch.equal(values["moved"], mine) and torch.equal(values["told"], mine)
            if dtype is not torch.bool:
                assert torch.equal(values["sum"], left + right)
                assert torch.equal(values["scattered"], (left + right)[tp : tp + 1])
            assert pp in (0, 1)


def fails(how: str) -> int:
    """One rank fails in some way while the other waits for it."""
    import torch.distributed as dist

    if dist.get_rank() == 1:
        if how == "error":
            raise MaiaError("MAIA0501", "this rank was given too little")
        if how == "exception":
            raise ZeroDivisionError("this rank divided by zero")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    dist.barrier()
    return dist.get_rank()


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("error", "MAIA0501", "given too little"),
        ("exception", "MAIA0604", "rank 1 raised ZeroDivisionError: this rank divided by zero"),
        ("killed", "MAIA0603", "rank 1 was ended by SIGKILL"),
        ("asleep", "MAIA0605", "not done after"),
    ],
)
def test_a_failing_rank_stops_the_others_and_is_named(how: str, code: str, said: str):
    with pytest.raises(MaiaError) as error:
        launch(2, fails, (how,), timeout=8 if how == "asleep" else 100)
    assert error.value.code == code and said in str(error.value)
    assert not [line for line in children() if "spawn_main" in line]


def children() -> list[str]:
    """Command lines of this process's children."""
    found: list[str] = []
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            line = Path(f"/proc/{pid}/cmdline")
            found.append(line.read_bytes().replace(b"\0", b" ").decode() if line.exists() else "")
    return found


def test_at_least_one_process():
    assert code_of(lambda: launch(0, fails)) == "MAIA0602"


INTERRUPTED = """
import time
from maiac.runtime.launch import launch
def main():
    try:
        launch(2, time.sleep, (60,))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.distributed
def test_ctrl_c_ends_all_ranks(tmp_path: Path):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(8)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert out == "interrupted\n"
    end = time.monotonic() + 10  # Python's own helper process takes a moment to notice
    while time.monotonic() < end and alive(process.pid):
        time.sleep(0.1)
    assert not alive(process.pid)


def alive(group: int) -> bool:
    """Whether a process of the group runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
