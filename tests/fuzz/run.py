"""Coverage-guided fuzzing of one target: ``python -m tests.fuzz.run onnx --seconds 600``.

It begins with the corpus, goes on after a finding, and ends with one input for each place that failed, in ``--out``.
Needs atheris: ``pip install maiac[fuzz]``. Put findings into ``corpus/TARGET`` once they are mended: test_corpus.py
gives them to the target again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import logging
import os
import random
import re
import resource
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

GIB = 1 << 30
_WORDS = """module func weight state sym mesh return yield call if loop fusion split slice reshape constant matmul
f32 bf16 i64 i4 bool f8e4m3fn mx group channel seq opt dim step inf .. -> // min( max( %x @main { } [ ] : location
offset length ../outside.bin weights.bin link.bin manifest.json program.maia weights.safetensors dims shape axes
links path size sha256 key file data scale zero_point golden inputs outputs entries"""
DICTIONARY = re.split(r"\s+", _WORDS)
WORDS = [
    w.encode() for w in (*DICTIONARY, "//", "-1", "0", "99999999999999999999999", "nan", "[", "]", "{", "}", "null")
]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("target", choices=["text", "onnx", "artifact"])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--memory", type=int, default=4, help="GiB that reading an input may take")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where findings go")
    return parser.parse_args()


class Findings:
    """One input for each place where something else than a numbered error came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, data: bytes, error: BaseException) -> None:
        """Keep the input, where its place is new."""
        place = f"{type(error).__name__} at {innermost(error.__traceback__)}"
        if place in self.places:
            return
        self.places.add(place)
        name = self.folder / hashlib.sha256(data).hexdigest()[:12]
        name.write_bytes(data)
        print(f"FOUND {place}: {str(error)[:200]}\n  {name}", flush=True)
        name.with_suffix(".txt").write_text("".join(traceback.format_exception(error)[-40:]))


def innermost(tb: TracebackType | None) -> str:
    """The deepest frame that is the project's own, and not the harness."""
    frames = [f for f in traceback.extract_tb(tb) if "/maiac/" in f.filename or "/tests/fuzz/targets" in f.filename]
    return f"{frames[-1].filename.rpartition('/maiac/')[2]}:{frames[-1].lineno}" if frames else "?"


def limit_memory(gib: int) -> None:
    """Let the process map so much more than it has now: what asks for more gets an error, not the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + gib * GIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Fuzz until the time is over. What is found is told and kept; libFuzzer ends the process."""
    given = arguments()
    os.environ["MAIAC_NATIVE"] = "0"  # building machine code takes longer than everything else together
    logging.disable()
    atheris: Any = importlib.import_module("atheris")  # which the type checker need not have

    with atheris.instrument_imports(include=["maiac", "lark", "onnx_ir", "zipfile"], enable_loader_override=False):
        from . import mutate
        from .targets import TARGETS
        from .watch import Elsewhere, TookLong

    target, findings = TARGETS[given.target], Findings(given.out / given.target)

    def one(data: bytes) -> None:
        try:
            target(data)
        except (Exception, Elsewhere, TookLong) as error:
            findings.add(data, error)

    def change(data: bytes, most: int, seed: int) -> bytes:
        """Half of the changes are libFuzzer's own; the others keep the form, which bytes alone rarely do."""
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return atheris.Mutate(data, most)
        made = mutate.model(data, rng) if given.target == "onnx" else mutate.tokens(data, WORDS, rng)
        return made[:most]

    with tempfile.TemporaryDirectory(prefix="maiac-fuzz-") as home:
        words = Path(home) / "words"
        words.write_text("".join(f'"{w}"\n' for w in DICTIONARY))
        grown = Path(home) / "corpus"
        grown.mkdir()
        corpus = Path(__file__).with_name("corpus") / given.target
        flags = [f"-max_total_time={given.seconds}", "-timeout=60", f"-rss_limit_mb={(given.memory + 2) * 1024}"]
        flags += ["-max_len=16384", f"-dict={words}", f"-artifact_prefix={findings.folder}/", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *flags, str(grown), str(corpus)], one, custom_mutator=change)
        limit_memory(given.memory)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
