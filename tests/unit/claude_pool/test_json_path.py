import json

import pytest

from claude_pool.json_path import Missing, document, parse, take

ANSWER = {
    "verdict": "ok",
    "files": [{"name": "a.py", "n": 1}, {"name": "b.py", "n": 2}],
    "odd name": True,
    "none": None,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("verdict", "ok"),
        ("$.verdict", "ok"),
        (".verdict", "ok"),
        ("files[0].name", "a.py"),
        ("files[-1].n", 2),
        ('["odd name"]', True),
        ("none", None),
        (".", ANSWER),
        ("$", ANSWER),
        ("", ANSWER),
    ],
)
def test_a_path_leads_to_its_value(path: str, value: object) -> None:
    assert take(path, "not looked at", ANSWER) == value


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("verdikt", "has no 'verdikt'"),
        ("files[2]", "has 2 entries"),
        ("verdict.x", "is text"),
        ("files.name", "is a list"),
        ("none.x", "is null"),
        ("files[0].n.x", "is a number"),
    ],
)
def test_a_path_that_misses_says_how_far_it_led(path: str, said: str) -> None:
    with pytest.raises(Missing, match=said):
        take(path, "", ANSWER)


@pytest.mark.parametrize("path", ["a..b", "a[", "a[x]", "a b", "[0", "a.[0]"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        parse(path)


def test_json_is_found_whole_or_in_the_only_fenced_block() -> None:
    text = json.dumps(ANSWER)
    assert document(text) == ANSWER
    assert document(f"Here it is:\n\n```json\n{text}\n```\nDone.") == ANSWER


def test_two_blocks_are_no_answer() -> None:
    with pytest.raises(Missing):
        document("```json\n1\n```\n```json\n2\n```")


def test_text_is_no_json_but_its_whole_can_be_had() -> None:
    assert take(".", "plain words") == "plain words"
    with pytest.raises(Missing, match="no JSON: plain words"):
        take("a", "plain words")


def test_an_answer_nested_without_end_is_a_miss_and_no_crash() -> None:
    with pytest.raises(Missing):
        take("a", "[" * 200_000)
