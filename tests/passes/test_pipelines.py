"""Pipelines as text, and the manager that runs them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from maiac.ir import DType, MaiaError, Module, Op, parse, print_module, tensor
from maiac.passes import (
    Pass,
    PassFault,
    default_pipeline,
    get_pass,
    parse_pipeline,
    pass_names,
    pipeline_text,
    register,
    run_pipeline,
)
from maiac.passes import base as base_module
from maiac.passes.manager import passes_in_header
from maiac.passes.outline import Outline
from tests.passes.models import decoder

TEXT = """
module @m {
  func @main(%x: f32[4]) -> f32[4] {
    %0 = neg %x : f32[4]
    %1 = neg %0 : f32[4]
    %2 = exp %1 : f32[4]
    return %2
  }
}
"""


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch):
    """Passes made for a test are forgotten after it."""
    pass_names()  # loads all of them: one that was first loaded below would be forgotten too
    monkeypatch.setattr(base_module, "_PASSES", dict(base_module._PASSES))

    @register
    @dataclass(frozen=True)
    class Options(Pass):
        name: ClassVar[str] = "options"
        need: int
        word: str = "plain"
        ratio: float = 0.5
        flag: bool = False
        kind: Literal["a", "b"] = "a"
        maybe: int | None = None

        def run(self, module: Module) -> bool:
            return False

    @register
    @dataclass(frozen=True)
    class Raises(Pass):
        name: ClassVar[str] = "raises"

        def run(self, module: Module) -> bool:
            module.main.body.terminator.erase()
            raise KeyError("lost")

    @register
    @dataclass(frozen=True)
    class Breaks(Pass):
        name: ClassVar[str] = "breaks"

        def run(self, module: Module) -> bool:
            op = module.main.body.first
            assert op is not None
            op.results[0].type = tensor(DType.I64, 3)
            return True

    @register
    @dataclass(frozen=True)
    class Interrupts(Pass):
        name: ClassVar[str] = "interrupts"

        def run(self, module: Module) -> bool:
            raise KeyboardInterrupt

    @register
    @dataclass(frozen=True)
    class Refuses(Pass):
        name: ClassVar[str] = "refuses"

        def run(self, module: Module) -> bool:
            raise MaiaError("MAIA0105", "not this model")

    return Options


# **** text ****


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fold",
        "canonicalize,fold,cse,dce",
        "outline{min_ops=4,min_repeats=3},inline",
        "options{need=1,word=x.y,ratio=2.5,flag=true,kind=b,maybe=7}",
        'options{need=-1,word="two words, {and} \\"more\\""}',
        'options{need=1,word="7"}',
        'options{need=1,word="true"}',
    ],
)
def test_text_round_trips(text: str, passes: type[Pass]):
    found = parse_pipeline(text)
    assert pipeline_text(found) == text
    assert parse_pipeline(pipeline_text(found)) == found


def test_white_space_and_defaults_are_not_kept(passes: type[Pass]):
    text = " fold , options{ need = 1 , flag = false , maybe = none }\n"
    assert pipeline_text(parse_pipeline(text)) == "fold,options{need=1}"


@pytest.mark.parametrize(
    ("text", "code", "message", "column"),
    [
        ("fold,,cse", "MAIA0303", "expected a pass, found ','", 6),
        ("fold cse", "MAIA0303", "expected ',', found 'c'", 6),
        ("fold{limit=1", "MAIA0303", "expected ',', found the end", 13),
        ("fold{limit 1}", "MAIA0303", "expected '=', found '1'", 12),
        ("fold{limit=}", "MAIA0303", "expected a value, found '}'", 12),
        ("fold,canonicalise", "MAIA0304", "there is no pass 'canonicalise'", 6),
        ("outline{min_opps=4}", "MAIA0305", "outline has no option 'min_opps'", 9),
        ("outline{min_ops=4,min_ops=5}", "MAIA0305", "given twice", 19),
        ("outline{min_ops=four}", "MAIA0305", "min_ops = 'four' is not an integer", 17),
        ("outline{min_ops=true}", "MAIA0305", "is not an integer", 17),
        ("options", "MAIA0305", "options needs the option 'need'", 1),
        ("options{need=1,flag=1}", "MAIA0305", "flag = 1 is not true or false", 21),
        ("options{need=1,kind=c}", "MAIA0305", "kind = 'c' is not one of a, b", 21),
        ("options{need=1,ratio=x}", "MAIA0305", "is not a number", 22),
        ("options{need=1,maybe=x}", "MAIA0305", "is not an integer or none", 22),
    ],
)
def test_a_fault_is_located(text: str, code: str, message: str, column: int, passes: type[Pass]):
    with pytest.raises(MaiaError) as caught:
        parse_pipeline(text)
    assert caught.value.code == code
    assert message in caught.value.message
    assert f"column {column}:" in caught.value.message
    assert caught.value.excerpt.splitlines()[-1] == " " * (column - 1) + "^"


def test_a_misspelt_pass_or_option_gets_a_suggestion():
    with pytest.raises(MaiaError, match="canonicalise") as caught:
        get_pass("canonicalise")
    assert caught.value.hint == "did you mean canonicalize?"
    with pytest.raises(MaiaError) as caught:
        parse_pipeline("outline{min_opps=4}")
    assert "min_ops" in caught.value.hint


FUSION = ["fuse_patterns", "fold", "cse", "dce", "fuse", "dce", "outline"]


def test_the_default_pipeline_is_text_too():
    chosen = default_pipeline()
    assert parse_pipeline(pipeline_text(chosen)) == chosen
    clean = ["canonicalize", "qdq", "fold", "canonicalize", "cse", "dce"]
    assert [p.name for p in chosen] == [*clean, *FUSION]


def test_the_default_pipeline_quantizes_and_partitions_before_it_outlines():
    names = [p.name for p in default_pipeline(quantize="int8", mesh={"tp": 2, "pp": 1})]
    assert names[6:] == ["quantize", "partition", "cse", "dce", *FUSION]
    assert "partition" not in [p.name for p in default_pipeline(mesh={"tp": 1})]


# **** the manager ****


def test_a_report_tells_what_each_pass_did():
    seen: list[tuple[str, int, int]] = []
    report = run_pipeline(
        parse(TEXT), parse_pipeline("canonicalize,cse"), progress=lambda name, i, n: seen.append((name, i, n))
    )
    assert seen == [("canonicalize", 0, 2), ("cse", 1, 2)]
    first, second = report.passes
    assert (first.text, first.changed, first.ops_before, first.ops_after) == ("canonicalize", True, 4, 2)
    assert (second.changed, second.ops_before, second.ops_after) == (False, 2, 2)
    assert report.changed and report.seconds == first.seconds + second.seconds
    assert json.loads(json.dumps(report.to_json()))["passes"][0]["ops_after"] == 2


def test_dumps_show_the_way(tmp_path):
    module = parse(TEXT)
    run_pipeline(module, parse_pipeline("canonicalize,cse"), dump_dir=tmp_path / "ir")
    files = sorted((tmp_path / "ir").iterdir())
    assert [f.name for f in files] == ["00-captured.maia", "01-canonicalize.maia", "02-cse.maia"]
    assert files[0].read_text() == print_module(parse(TEXT))
    assert files[2].read_text() == print_module(module)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("broken", "why"), [("raises", "it raised KeyError: 'lost'"), ("breaks", "does not verify")])
def test_a_broken_pass_is_named_and_leaves_a_reproducer(
    broken: str, why: str, late: bool, passes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PassFault) as caught:
        run_pipeline(parse(TEXT), parse_pipeline(f"fold,canonicalize,{broken},dce"), late=late)
    assert caught.value.code == "MAIA0301"
    assert f"the pass {broken} failed after fold,canonicalize: " in caught.value.message
    assert why in caught.value.message
    file = tmp_path / f"maiac-repro-{broken}.maia"
    assert [path.resolve() for path in caught.value.reproducers] == [file]
    text = file.read_text()
    assert passes_in_header(text) == broken
    again = parse(text)
    assert [op.name for op in again.main.body] == ["exp", "return"]
    with pytest.raises(PassFault, match="failed after nothing"):
        run_pipeline(again, parse_pipeline(broken))


def test_a_reproducer_lies_beside_the_dumps(passes, tmp_path):
    with pytest.raises(PassFault):
        run_pipeline(parse(TEXT), parse_pipeline("raises"), dump_dir=tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["00-captured.maia", "maiac-repro-raises.maia"]


def test_a_module_that_is_broken_before_is_the_users_fault():
    module = parse(TEXT)
    module.main.result_types = ()
    with pytest.raises(MaiaError) as caught:
        run_pipeline(module, parse_pipeline("fold"))
    assert caught.value.code == "MAIA0106" and not isinstance(caught.value, PassFault)


def test_a_users_fault_in_a_pass_passes_through(passes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MaiaError, match="not this model") as caught:
        run_pipeline(parse(TEXT), parse_pipeline("refuses"))
    assert not isinstance(caught.value, PassFault)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_passes_through(passes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(parse(TEXT), parse_pipeline("interrupts"))
    assert not list(tmp_path.iterdir())


def test_verification_can_be_left_out(passes):
    module = parse(TEXT)
    assert run_pipeline(module, parse_pipeline("breaks"), verify=False).changed


def test_a_header_without_passes_names_none():
    assert passes_in_header("# a remark\n# passes: fold,cse\nmodule @m {}") == "fold,cse"
    assert passes_in_header("# a remark\nmodule @m {}\n# passes: fold") is None


def test_the_whole_pipeline_is_quick_on_a_deep_model():
    module = decoder(80, data=False)
    report = run_pipeline(module, default_pipeline())
    assert report.passes[-1].ops_after < report.passes[0].ops_before / 15
    assert [f.name for f in module.functions.values()] == ["main", "layer"]
    assert sum(op.name == "call" for op in module.main.body) == 80


def test_options_are_frozen():
    with pytest.raises(AttributeError):
        Outline().min_ops = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_two_passes_of_one_name_are_refused(passes: type[Pass]):
    with pytest.raises(AssertionError, match="two passes are called fold"):

        @register
        @dataclass(frozen=True)
        class Fold2(Pass):
            name: ClassVar[str] = "fold"

            def run(self, module: Module) -> bool:
                return bool(Op)
