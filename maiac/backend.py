"""``torch.compile(model, backend="maia")``: inference and training through AOTAutograd.

TorchDynamo traces Python and guards shapes, AOTAutograd derives the backward graph and functionalises both; each
resulting ATen graph becomes a Maia module, runs the default pipeline and is executed by the reference runtime.
What has no Maia form is an error that names it: nothing falls back to eager in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from .ir.errors import MaiaError

OPTIONS = ("passes", "dump_ir")


def maia(
    gm: fx.GraphModule, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None, **_: Any
) -> Any:
    """The backend's entry point, which torch.compile calls with each traced graph.

    options (``torch.compile(..., options={...})``): ``passes``, another pipeline as text; ``dump_ir``, a folder for
    the text after every pass. MAIA0213 for other options, MAIA0201 for operations without a Maia form.
    """
    from torch._dynamo.backends.common import aot_autograd

    from .frontends.decompositions import compile_table

    chosen = dict(options or {})
    unknown = sorted(chosen.keys() - set(OPTIONS))
    if unknown:
        raise MaiaError("MAIA0213", f"unknown options: {', '.join(unknown)}; there are {', '.join(OPTIONS)}")

    def compiler(graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Any]:
        return compile_graph(graph, inputs, chosen)

    wrapped: Any = aot_autograd(fw_compiler=compiler, bw_compiler=compiler, decompositions=compile_table())
    return wrapped(gm, example_inputs)


def compile_graph(
    gm: fx.GraphModule, example_inputs: Sequence[Any], options: Mapping[str, Any]
) -> Callable[[list[Any]], Any]:
    """One ATen graph as a function of a list of inputs, which it empties (AOTAutograd's boxed convention)."""
    from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore[reportPrivateUsage]

    from .codegen import host_code
    from .frontends.exported import import_graph_module
    from .passes.manager import parse_pipeline, run_pipeline
    from .passes.pipeline import default_pipeline
    from .runtime.executor import Executor
    from .runtime.tree import loads, unflatten

    module = import_graph_module(gm, example_inputs)
    passes = parse_pipeline(options["passes"]) if "passes" in options else default_pipeline()
    with _disable_current_modes():  # torch.compile traces with fake tensors; constant folding computes with real ones
        run_pipeline(module, passes, dump_dir=options.get("dump_ir"))
    executor = Executor(module, native=host_code())
    tree = loads(str(module.attrs["out_tree"]))
    absent = any(child["t"] == "const" for child in tree["c"])

    def run(inputs: list[Any]) -> Any:
        given = [x.detach() if isinstance(x, torch.Tensor) and x.requires_grad else x for x in inputs]
        inputs.clear()
        results = executor.run(given)
        return unflatten(tree, results) if absent else results

    run._boxed_call = True  # type: ignore[attr-defined]  # AOTAutograd passes one list and lets go of it
    return run
