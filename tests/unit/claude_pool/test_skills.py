"""Skills: found near first, filled in once, wrong ones named and harmless to the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool import skills
from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.skills import Skill


def write(folder: Path, name: str, body: str = "Do $what.", head: str = "description: d\narguments: what") -> Path:
    path = folder / name / "SKILL.md"
    path.parent.mkdir(parents=True)
    path.write_text(f"---\n{head}\n---\n{body}\n")
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "repo" / "sub").mkdir(parents=True)
    return tmp_path / "repo"


def skill(body: str, **arguments: str | None) -> Skill:
    return Skill(name="s", description="d", arguments=arguments, body=body, folder="/f")


def test_nearer_skills_hide_those_further_away_and_the_shipped_ones(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    near = write(project / "sub" / skills.FOLDER, "one", "near")
    write(project / skills.FOLDER, "one", "far")
    write(project / skills.FOLDER, "two", "project")
    write(home / "skills", "two", "user")
    write(home / "skills", "audit", "mine")
    found = {one.name: one for one in skills.find(project / "sub", home)}
    assert found["one"].path == str(near)
    assert {name: one.skill.body for name, one in found.items() if one.skill and name in {"one", "two", "audit"}} == {
        "one": "near", "two": "project", "audit": "mine",
    }  # fmt: skip
    assert found["summarise"].path.startswith(str(skills.SHIPPED))


@pytest.mark.parametrize("found", skills.find(Path("/"), None), ids=lambda found: found.name)
def test_shipped_skills_can_be_used(found: skills.Found) -> None:
    assert found.skill is not None, found.trouble
    assert found.skill.name == found.name
    given = {name: "src/" for name, default in found.skill.arguments.items() if default is None}
    prompt = found.skill.prompt(given)
    assert "src/" in prompt
    assert "$" not in prompt


def test_arguments_come_by_name_by_place_or_from_their_defaults() -> None:
    one = skill("$target, ${focus}; all: $ARGUMENTS; here: ${SKILL_DIR}", target=None, focus="speed")
    assert one.prompt("src/a.py").startswith("src/a.py, speed;")
    assert one.prompt("src/a.py the lock order").startswith("src/a.py, the lock order;")
    assert one.prompt("focus=the lock order target=src").startswith("src, the lock order;")
    assert one.prompt({"target": "x"}) == "x, speed; all: target: x; here: /f"


def test_a_default_may_have_blanks(tmp_path: Path) -> None:
    path = write(tmp_path, "s", "x", head="description: d\narguments: what lines=10 reader=a developer new to it")
    assert skills.read(path).arguments == {"what": None, "lines": "10", "reader": "a developer new to it"}


def test_what_is_put_in_is_never_looked_at_again() -> None:
    assert skill("$a $b", a=None, b=None).prompt({"a": "$b", "b": "$a"}) == "$b $a"
    assert skill("costs $5 and $HOME").prompt() == "costs $5 and $HOME"


def test_a_skill_without_arguments_gets_what_was_given_at_its_end() -> None:
    assert skill("Be brief.").prompt("Explain x.") == "Be brief.\n\nExplain x."
    assert skill("Do: $ARGUMENTS.").prompt("x y") == "Do: x y."


def test_missing_and_unknown_arguments_are_named() -> None:
    with pytest.raises(InvalidRequest, match="needs target"):
        skill("$target", target=None).prompt()
    with pytest.raises(InvalidRequest, match="no argument 'x'; it takes target"):
        skill("$target", target=None).prompt({"x": "1"})


def test_in_a_step_braces_of_the_skill_are_text_and_those_that_were_given_are_markers(tmp_path: Path) -> None:
    write(tmp_path / skills.FOLDER, "s", "Use {word} and {previous_output} on $what.")
    step = skills.with_skill({"name": "a", "skill": "s", "prompt": "{args.file}"}, tmp_path, None)
    assert step == {"name": "a", "prompt": "Use {{word}} and {previous_output} on {args.file}."}
    assert skills.with_skill({"name": "a", "prompt": "b"}, tmp_path, None) == {"name": "a", "prompt": "b"}
    with pytest.raises(InvalidRequest, match="step 'a': skill is"):
        skills.with_skill({"name": "a", "skill": 3}, tmp_path, None)


def test_steps_of_a_file_are_left_alone_where_they_are_none(tmp_path: Path) -> None:
    assert skills.with_skills("no list", tmp_path) == "no list"
    assert skills.with_skills([1, {"name": "a"}], tmp_path) == [1, {"name": "a"}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no head at all", "does not begin with a head"),
        ("---\nname: x\n---\nbody", "description"),
        ("---\ndescription: d\n---\n", "body"),
        ("---\nname: a b/c\ndescription: d\n---\nbody", "name"),
    ],
)
def test_a_file_that_can_not_be_used_is_named_and_spoils_no_other(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / skills.FOLDER, "broken")
    path.write_text(text)
    write(tmp_path / skills.FOLDER, "good")
    found = {one.name: one for one in skills.find(tmp_path, None)}
    assert says in found["broken"].trouble
    assert str(path) in found["broken"].trouble
    assert found["good"].skill is not None


def test_an_unknown_skill_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"There is no skill 'x'.*audit"):
        skills.load("x", *skills.places(tmp_path, tmp_path))
