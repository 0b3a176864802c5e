"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help=".onnx, .pt2, .maia text, Hugging Face folder, or pkg.mod:factory.")
]
ArtifactArgument = Annotated[str, typer.Argument(metavar="ARTIFACT", help="What `maiac compile` wrote.")]
InputOption = Annotated[
    list[str],
    typer.Option(
        "--input", "-i", metavar="[NAME=]FILE", help=".npy, .npz or .safetensors; .npy files go to the inputs in order."
    ),
]
RandomOption = Annotated[bool, typer.Option("--random", help="Make inputs up, as types and ranges allow.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of --random.")]
DimOption = Annotated[
    list[str], typer.Option("--dim", metavar="NAME=SIZE", help="Size of a symbolic dim, for --random and for figures.")
]
TpOption = Annotated[int, typer.Option("--tp", min=1, help="Ranks that split each layer (tensor parallel).")]
PpOption = Annotated[int, typer.Option("--pp", min=1, help="Pipeline stages (pipeline parallel).")]

TrustFlag = Annotated[bool, typer.Option("--trust", help="Read linked weights that lie outside the artifact's folder.")]


def read_dims(texts: Sequence[str]) -> dict[str, int]:
    """``["T=16"]`` as a table; MAIA0706 for what is no size."""
    from ..ir.errors import MaiaError

    sizes: dict[str, int] = {}
    for text in texts:
        name, equals, size = text.partition("=")
        if not equals or not name.strip() or not size.strip().isdigit():
            raise MaiaError("MAIA0706", f"--dim {text}: expected NAME=SIZE, such as --dim T=16")
        sizes[name.strip()] = int(size)
    return sizes
