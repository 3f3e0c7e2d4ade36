"""The verb for fan-outs, over a store without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from claude_pool.cli import live
from claude_pool.models.task import TaskState
from claude_pool.pool import Pool


def test_prompts_are_handed_in_and_all_ids_come_at_once(cli: Any, pool: Pool) -> None:
    answer = cli("fan-out", "one", "two", "--detach", "--json", "--model", "haiku", "--gather", "join")
    document = answer.document
    assert (answer.code, document["state"], document["labels"]) == (0, "running", ["1", "2"])
    assert pool.detail(document["task_ids"][1]).prompt == "two"
    assert pool.get(document["task_ids"][1]).options.model == "haiku"
    assert document["gather_id"]
    plain = cli("fan-out", "one", "--detach").out.splitlines()
    assert plain[0].startswith("f-")
    assert plain[1].strip().startswith("t-")


def test_one_prompt_over_many_targets_from_flags_and_stdin(cli: Any, pool: Pool) -> None:
    document = cli("fan-out", "--template", "audit {target}", "--target", "a", "--target", "-", "--detach", "--json",
                   stdin=b"b\n\nc\n").document  # fmt: skip
    assert document["labels"] == ["a", "b", "c"]
    assert pool.detail(document["task_ids"][2]).prompt == "audit c"


def test_branches_with_options_of_their_own_come_from_a_file(cli: Any, pool: Pool, place: Path) -> None:
    (place / "b.json").write_text(json.dumps(["plain", {"prompt": "own", "label": "mine", "model": "opus"}]))
    document = cli("fan-out", "--file", "b.json", "--policy", "quorum(1)", "--detach", "--json").document
    assert document["labels"] == ["1", "mine"]
    assert pool.get(document["task_ids"][1]).options.model == "opus"
    (place / "bad.json").write_text('{"prompt": "x"}')
    assert cli("fan-out", "--file", "bad.json").code == 2


@pytest.mark.parametrize(
    "arguments",
    [(), ("x", "--file", "y"), ("--template", "no marker", "--target", "a"), ("--target", "a"),
     ("x", "--policy", "quorum(2)"), ("--template", "{target}", "--target", "a", "x")],
)  # fmt: skip
def test_what_makes_no_sense_is_wrong_usage(cli: Any, pool: Pool, arguments: tuple[str, ...]) -> None:
    assert cli("fan-out", *arguments, "--detach").code == 2
    assert pool.chains() == []


def test_answers_come_under_their_labels_and_a_failure_is_kept_and_told(
    cli: Any, pool: Pool, slot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = live.wait

    def played(pool: Pool, ids: list[str], **how: Any) -> Any:
        good, bad = (one.id for one in pool.fan_out_progress(ids[0]).branches)
        slot.do(good, output="fine")
        slot.do(bad, TaskState.FAILED, output="half")
        return waits(pool, ids, **how)

    monkeypatch.setattr(live, "wait", played)
    answer = cli("fan-out", "one", "two")
    assert answer.code == 1
    assert "== 1: completed\nfine" in answer.out
    assert "== 2: failed\nhalf" in answer.out
    assert "2 of 2 branches, 1 failed" in answer.err
    document = cli("fan-out", "one", "two", "--json").document
    assert [one["output"] for one in document["results"]] == ["fine", "half"]
    assert cli("result", document["fan_out_id"]).out == answer.out


def test_the_gathers_answer_is_the_answer(cli: Any, pool: Pool, slot: Any) -> None:
    document = cli("fan-out", "one", "--gather", "join", "--detach", "--json").document
    slot.do(document["task_ids"][0], output="part")
    slot.do(document["gather_id"], output="the whole")
    answer = cli("result", document["fan_out_id"])
    assert (answer.code, answer.out) == (0, "the whole\n")
    assert pool.result(document["fan_out_id"]).output == "the whole"
    assert cli("chain", "show", document["fan_out_id"], "--json").document["ended"] == 1


def test_branches_nobody_gathered_are_told_apart_in_one_result(cli: Any, pool: Pool, slot: Any) -> None:
    document = cli("fan-out", "one", "two", "--detach", "--json").document
    for id_, text in zip(document["task_ids"], ("a", "b"), strict=True):
        slot.do(id_, output=text)
    output = pool.result(document["fan_out_id"]).output
    assert 'label="1" state="completed">\na\n' in output
    assert 'label="2"' in output
