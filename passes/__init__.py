"""Passes: everything that turns Maia IR into better Maia IR.

Read in this order: ``base`` (what a pass is), ``text`` (pipelines as text), ``manager`` (running, checking, dumping),
``pipeline`` (THE list), ``analysis`` (effects and symbols), ``pattern`` and ``rewrite`` (rules), ``canonicalize`` with
``rules/``, ``fold``, ``cse``, ``dce``, ``outline`` and ``inline``, ``compare``.
"""

if __name__ != "maiac.passes":
    raise ImportError(
        f"this package is maiac.passes; importing it as {__name__!r} would make a second copy of every class"
    )

from .base import Pass, get_pass, pass_names, register
from .compare import structural_text, structurally_equal
from .manager import PassFault, PassReport, PipelineReport, run_pipeline
from .pipeline import cleaning, default_pipeline
from .rewrite import Miss, Missed, Rewriter, Rule, collect_misses, rule, rule_names
from .text import parse_pipeline, pipeline_text

__all__ = [
    "Miss",
    "Missed",
    "Pass",
    "PassFault",
    "PassReport",
    "PipelineReport",
    "Rewriter",
    "Rule",
    "cleaning",
    "collect_misses",
    "default_pipeline",
    "get_pass",
    "parse_pipeline",
    "pass_names",
    "pipeline_text",
    "register",
    "rule",
    "rule_names",
    "run_pipeline",
    "structural_text",
    "structurally_equal",
]
