"""``torch.compile(model, backend="maia")``: inference and training through AOTAutograd.

TorchDynamo traces Python and guards shapes, AOTAutograd derives the backward graph and functionalises both; each
resulting ATen graph becomes a Maia module, runs the default pipeline and is executed by the reference runtime.
What has no Maia form is an error that names it: nothing falls back to eager in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import fx

from .ir.errors import MaiaError

if TYPE_CHECKING:
    from .ir import Module
    from .runtime.executor import Executor

OPTIONS = ("passes", "dump_ir", "freezing")


def maia(
    gm: fx.GraphModule, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None, **_: Any
) -> Any:
    """The backend's entry point, which torch.compile calls with each traced graph.

    options (``torch.compile(..., options={...})``): ``passes``, another pipeline as text; ``dump_ir``, a folder for
    the text after every pass; ``freezing``, whether inference takes parameters and buffers for constants, which are
    folded and packed once (writes to them are seen, except through ``.data``). MAIA0213 for other options, MAIA0201 for
    operations without a Maia form.
    """
    from torch._dynamo.backends.common import aot_autograd

    from .frontends.decompositions import compile_table

    chosen = dict(options or {})
    unknown = sorted(chosen.keys() - set(OPTIONS))
    if unknown:
        raise MaiaError("MAIA0213", f"unknown options: {', '.join(unknown)}; there are {', '.join(OPTIONS)}")

    def compiler(graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Any]:
        return compile_graph(graph, inputs, chosen)

    def inference_compiler(graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Any]:
        return compile_graph(graph, inputs, chosen, _weights() if chosen.get("freezing") else ())

    wrapped: Any = aot_autograd(
        fw_compiler=compiler,
        bw_compiler=compiler,
        inference_compiler=inference_compiler,
        decompositions=compile_table(),
    )
    return wrapped(gm, example_inputs)


def _weights() -> list[int]:
    """Which inputs of the graph that is being compiled are parameters and buffers that it does not write to."""
    from torch._guards import TracingContext

    context = TracingContext.try_get()
    about = context.fw_metadata if context is not None else None
    if about is None:
        return []
    return [i for i in about.static_input_indices if not about.input_info[i].mutates_data]


def compile_graph(
    gm: fx.GraphModule, example_inputs: Sequence[Any], options: Mapping[str, Any], weights: Sequence[int] = ()
) -> Callable[[list[Any]], Any]:
    """One ATen graph as a function of a list of inputs, which it empties (AOTAutograd's boxed convention).

    ``weights`` are the places of inputs that become constants.
    """
    from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore[reportPrivateUsage]

    from .codegen import host_code
    from .freezing import FreezingExecutor, without_gradient
    from .frontends.exported import import_graph_module
    from .passes.manager import parse_pipeline, run_pipeline
    from .passes.pipeline import default_pipeline
    from .runtime.executor import Executor
    from .runtime.tree import loads, unflatten

    passes = parse_pipeline(options["passes"]) if "passes" in options else default_pipeline()
    with _disable_current_modes():  # torch.compile traces with fake tensors; constants that a graph holds are real ones
        module = import_graph_module(gm, example_inputs)
    tree = loads(str(module.attrs["out_tree"]))
    absent = any(child["t"] == "const" for child in tree["c"])

    def prepare(module: Module) -> Executor:
        with (
            _disable_current_modes()
        ):  # torch.compile traces with fake tensors; constant folding computes with real ones
            run_pipeline(module, passes, dump_dir=options.get("dump_ir"))
        return Executor(module, native=host_code())

    executor = FreezingExecutor(module, weights, prepare) if weights else prepare(module)

    def run(inputs: list[Any]) -> Any:
        given = inputs.copy() if weights else list(map(without_gradient, inputs))
        inputs.clear()
        results = executor.run(given)
        return unflatten(tree, results) if absent else results

    run._boxed_call = True  # type: ignore[attr-defined]  # AOTAutograd passes one list and lets go of it
    return run
