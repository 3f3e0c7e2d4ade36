import sys
from pathlib import Path

import pytest

from claude_pool.chain import plan_chain
from claude_pool.chain_files import FOLDER, SHIPPED, find, load
from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.fanout import Site
from claude_pool.ids import new_id

TOML = """
description = "Say it."
[args.word]
description = "what to say"
[args.times]
default = 2
[options]
budget_usd = 1.5
[[steps]]
name = "say"
prompt = "Say {args.word} {args.times} times."
model = "haiku"
[[steps]]
name = "check"
prompt = "{previous_output}"
gate = "true"
"""
YAML = """
description: Say it.
args:
  word: {description: what to say}
steps:
  - name: say
    prompt: "Say {args.word}."
"""


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_a_chain_with_arguments_and_options(tmp_path: Path) -> None:
    put(tmp_path, "talk.toml", TOML)
    chain = load("talk", tmp_path)
    assert (chain.name, chain.description, chain.options.budget_usd) == ("talk", "Say it.", 1.5)
    assert [step.name for step in chain.steps] == ["say", "check"]
    assert chain.steps[0].options.model == "haiku"
    assert chain.arguments({"word": "hi"}) == {"word": "hi", "times": 2}
    assert not chain.shipped


@pytest.mark.parametrize(("given", "said"), [({}, "needs word: what to say"), ({"wort": 1}, "no argument 'wort'")])
def test_missing_and_unknown_arguments_are_named(tmp_path: Path, given: dict[str, object], said: str) -> None:
    put(tmp_path, "talk.toml", TOML)
    with pytest.raises(InvalidRequest, match=said):
        load("talk", tmp_path).arguments(given)


def test_yaml_is_read_as_well_and_asked_for_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "talk.yaml", YAML)
    assert load(str(path), tmp_path).steps[0].prompt == "Say {args.word}."
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InvalidRequest, match="PyYAML is not installed") as caught:
        load("talk", tmp_path)
    assert "claude-pool[yaml]" in caught.value.hint


def test_the_nearest_file_of_a_name_hides_the_others(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    put(tmp_path, "talk.toml", TOML)
    put(tmp_path, "review-and-fix.toml", TOML)
    put(inner, "talk.toml", TOML.replace("Say it.", "Nearer."))
    found = {one.name: one.chain for one in find(inner)}
    assert found["talk"] is not None
    assert found["talk"].description == "Nearer."
    assert found["review-and-fix"] is not None
    assert not found["review-and-fix"].shipped
    assert found["issue-to-branch"] is not None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.toml", "steps = [", "x.toml"),
        ("x.toml", "", "has no steps"),
        ("x.toml", "steps = []", "steps"),
        ("x.toml", '[[steps]]\nname = "a"\nprompt = "x"\nmodle = "y"', "no field 'steps.0.modle'"),
        ("x.yaml", "steps: [", "x.yaml"),
        ("x.yaml", "- 1", "has no steps"),
        ("x y.toml", TOML, "a chain's name"),
    ],
)
def test_a_broken_file_is_named_and_spoils_no_other(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = put(tmp_path, name, text)
    with pytest.raises(InvalidRequest, match=said):
        load(str(path), tmp_path)
    put(tmp_path, "talk.toml", TOML)
    found = {one.name: one for one in find(tmp_path)}
    assert found[path.stem].trouble
    assert found["talk"].chain is not None


def test_an_unknown_name_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no chain 'nope'") as caught:
        load("nope", tmp_path)
    assert "issue-to-branch" in caught.value.hint


def test_three_good_chains_ship_and_can_be_planned(tmp_path: Path) -> None:
    found = [one for one in find(tmp_path) if one.chain and one.chain.shipped]
    assert [one.name for one in found] == ["issue-to-branch", "refactor-and-test", "review-and-fix"]
    for one in found:
        assert one.chain is not None
        assert one.chain.description.endswith(".")
        assert all(argument.description for argument in one.chain.args.values())
        options = one.chain.options.evolve(args=one.chain.specimen())
        site = Site(new_id=new_id, settle=lambda options: options)
        assert plan_chain("c-0", one.chain.steps, options, site=site)
    assert {path.suffix for path in SHIPPED.iterdir()} == {".toml"}
