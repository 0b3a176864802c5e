"""How many fusions a module holds, and the error where there are fewer than somebody needs."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping

from maiac.ir import Block, MaiaError, Module, Value
from maiac.ir.graph import Ref

from ..clone import clone_module, clone_ops
from ..inline import Inline
from ..rewrite import Missed, collect_misses

FOUND = "fused"  # the module's attribute that says how often a rule applied that leaves no op of its name behind

# Names that can be asked for -> the rules whose misses say why there are not more.
OPS: dict[str, tuple[str, ...]] = {
    "attention": ("attention_of_parts",),
    "rotary": ("rotary_of_parts", "rotary_of_halves", "rotary_of_complex"),
    "rms_norm": ("rms_norm_of_parts", "norm_weight"),
    "layer_norm": ("layer_norm_of_centered", "rms_norm_of_parts"),
    "group_norm": ("group_norm_of_groups",),
    "gelu": ("gelu_of_parts",),
    "silu": ("silu_of_parts",),
    "hardswish": ("hard_activation_of_parts",),
    "hardsigmoid": ("hard_activation_of_parts",),
    "mish": ("mish_of_parts",),
    "softplus": ("softplus_of_parts",),
}
APPLIED: dict[str, tuple[str, ...]] = {
    "conv_bn": ("batch_norm_into_product",),
    "channel_affine": ("constant_into_product",),
    "grouped_heads": ("repeated_heads",),
    "known_mask": ("mask_of_attention",),
    "merged": ("merge_products",),
}


def fusion_names() -> list[str]:
    """What ``--require-fusion`` takes."""
    return sorted([*OPS, *APPLIED])


def record(module: Module, applied: Mapping[str, int]) -> None:
    """Add to what the module says of rules that leave no op behind."""
    found = Counter(_recorded(module))
    for name, rules in APPLIED.items():
        found[name] += sum(applied.get(rule, 0) for rule in rules)
    if any(found.values()):
        module.attrs[FOUND] = tuple((name, n) for name, n in sorted(found.items()) if n)


def _recorded(module: Module) -> dict[str, int]:
    said = module.attrs.get(FOUND, ())
    pairs: dict[str, int] = {}
    for pair in said if isinstance(said, tuple) else ():
        if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int):
            pairs[pair[0]] = pair[1]
    return pairs


def fusion_counts(module: Module) -> dict[str, int]:
    """Name -> how many ops of it one run meets (those of a function once for each call), and how often rules applied.

    A body that a loop repeats counts once.
    """
    counts = Counter(_recorded(module))
    for name, times in _met(module, module.main.body):
        if name in OPS:
            counts[name] += times
    return {name: counts.get(name, 0) for name in fusion_names()}


def _met(module: Module, block: Block) -> Iterator[tuple[str, int]]:
    """The names of ops that a block runs, through calls."""
    inner: dict[str, list[tuple[str, int]]] = {}
    for op in block.walk():
        yield op.name, 1
        ref = op.attrs.get("callee")
        if op.name != "call" or not isinstance(ref, Ref) or ref.name not in module.functions:
            continue
        if ref.name not in inner:
            found = Counter[str]()
            for name, times in _met(module, module.functions[ref.name].body):
                found[name] += times
            inner[ref.name] = list(found.items())
        yield from inner[ref.name]


def parse_required(texts: list[str]) -> dict[str, int]:
    """``["attention=12,rms_norm=25", "conv_bn=57"]`` as numbers by name; ValueError says what is wrong."""
    required: dict[str, int] = {}
    for part in (p.strip() for text in texts for p in text.split(",")):
        name, equals, number = part.partition("=")
        if not equals or not number.strip().isdigit():
            raise ValueError(f"{part!r} is not NAME=NUMBER, such as attention=12")
        required[name.strip()] = int(number)
    return required


def check_required(module: Module, required: Mapping[str, int]) -> None:
    """MAIA0307 where the module holds fewer fusions than required, with why; MAIA0308 for a name that is none."""
    check_names(required)
    have = fusion_counts(module)
    short = {name: n for name, n in required.items() if have[name] < n}
    if not short:
        return
    details: list[str] = []
    for name, wanted in short.items():
        details.append(f"{name}: {have[name]} found, {wanted} required")
        misses = misses_of(module, name)
        details += [f"  {miss}" for miss in misses[:8]]
        details += [f"  and {len(misses) - 8} more places"] if len(misses) > 8 else []
        details += [] if misses else ["  no place comes near it"]
    hint = "`maiac opt MODEL --passes fuse_patterns --why RULE` lists the places where a rule did not apply"
    raise MaiaError("MAIA0307", "fewer fusions than required", details=details, hint=hint)


def check_names(required: Mapping[str, int]) -> None:
    """MAIA0308 for a name that is no fusion."""
    unknown = [name for name in required if name not in OPS and name not in APPLIED]
    if unknown:
        near = difflib.get_close_matches(unknown[0], fusion_names(), 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"the fusions are {', '.join(fusion_names())}"
        raise MaiaError("MAIA0308", f"there is no fusion {unknown[0]!r}", hint=hint)


def misses_of(module: Module, name: str) -> list[Missed]:
    """Where the rules of a fusion nearly apply still, and why they do not."""
    from .passes import FusePatterns  # late: it records what is counted here

    found: list[Missed] = []
    for rule in (*OPS.get(name, ()), *APPLIED.get(name, ())):
        trial = clone_module(module)
        Inline().run(trial)
        _open_regions(trial)
        with collect_misses(rule) as misses:
            FusePatterns().run(trial)
        found += [m for m in misses if m not in found]
    return found


def _open_regions(module: Module) -> None:
    """Put the ops of ``fusion`` regions back where the regions stand, so that rules see through their edges."""
    for op in [o for o in module.walk() if o.name == "fusion"]:
        assert op.block is not None
        region = op.regions[0]
        given = [v for v in op.operands if v is not None]
        mapping: dict[Value, Value] = dict(zip(region.args, given, strict=True))
        clone_ops([o for o in region if o.name != "yield"], op.block, mapping, before=op)
        op.replace([mapping.get(v, v) for v in region.terminator.operands if v is not None])
