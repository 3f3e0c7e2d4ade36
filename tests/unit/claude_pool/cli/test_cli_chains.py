"""The verbs for chains, over a store without a server; the steps are played by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pool.cli import chains, live
from claude_pool.cli.app import GROUPS, function_name
from claude_pool.cli.chains import EXAMPLES, pairs
from claude_pool.errors import InvalidRequest
from claude_pool.models.task import TaskState
from claude_pool.pool import Pool

TWO_STEPS = """
description = "Two steps."
[args.what]
description = "what to look at"
[args.how]
default = "well"
[[steps]]
name = "look"
prompt = "Look at {args.what} {args.how}."
[[steps]]
name = "tell"
prompt = "Tell: {previous_output}"
"""


@pytest.fixture(autouse=True)
def chain_file(place: Path) -> Path:
    folder = place / ".claude-pool" / "chains"
    folder.mkdir(parents=True)
    file = folder / "two.toml"
    file.write_text(TWO_STEPS)
    return file


@pytest.mark.parametrize("word", GROUPS["chain"])
def test_every_second_word_has_its_function_and_examples(word: str) -> None:
    assert callable(getattr(chains, function_name(f"chain {word}")))
    assert EXAMPLES[f"chain {word}"]


def test_a_chain_is_handed_in_by_its_name_with_arguments_and_options(cli: Any, pool: Pool) -> None:
    answer = cli("chain", "submit", "two", "--arg", "what=x=y", "--model", "haiku", "--tag", "n", "--budget", "2",
                 "--timeout", "60", "--json")  # fmt: skip
    assert answer.code == 0, answer
    assert answer.document["state"] == "running"
    progress = pool.chain_progress(answer.document["chain_id"])
    assert (progress.title, progress.budget_usd, progress.total_steps) == ("two", 2, 2)
    first = pool.detail(answer.document["step_ids"][0])
    assert (first.task.options.model, first.task.options.tags, first.task.options.timeout_s) == ("haiku", ("n",), None)


def test_a_run_prints_the_final_output_alone_on_stdout_and_the_steps_beside_it(
    cli: Any, pool: Pool, slot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _play(monkeypatch, pool, slot, "first", "last words")
    answer = cli("chain", "run", "two", "--arg", "what=it")
    assert (answer.code, answer.out) == (0, "last words\n")
    assert "2 of 2 steps" in answer.err
    assert "look" in answer.err


def test_the_document_of_a_run_has_every_step(cli: Any, pool: Pool, slot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _play(monkeypatch, pool, slot, "first", "last words")
    document = cli("chain", "run", "two", "--arg", "what=it", "--json").document
    assert document["state"] == "completed"
    assert document["final_output"] == "last words"
    assert [(one["name"], one["state"], one["output"]) for one in document["steps"]] == [
        ("look", "completed", "first"),
        ("tell", "completed", "last words"),
    ]
    assert document["cost_usd"] == pytest.approx(0.025)


def test_exit_codes_say_how_a_chain_ended(cli: Any, pool: Pool, slot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished = cli("chain", "run", "two", "--arg", "what=it", "--wait", "0")
    assert unfinished.code == 5
    chain_id = pool.chains()[0].id
    slot.do(pool.chain_progress(chain_id).steps[0].id, TaskState.FAILED)
    failed = cli("result", chain_id)
    assert failed.code == 1
    assert "no such model" in failed.err
    assert cli("wait", chain_id).code == 1
    assert cli("chain", "submit", "two").code == 2
    assert "needs what: what to look at" in cli("chain", "submit", "two").err
    assert cli("chain", "submit", "three").code == 2


def test_a_failed_chain_is_shown_and_resumed_with_another_prompt(cli: Any, pool: Pool, slot: Any) -> None:
    chain_id = cli("chain", "submit", "two", "--arg", "what=it", "--json").document["chain_id"]
    first, second = (step.id for step in pool.chain_progress(chain_id).steps)
    slot.do(first, output="first")
    slot.do(second, TaskState.FAILED)
    shown = cli("chain", "show", chain_id)
    assert shown.code == 0
    assert "model_not_found" in shown.out
    assert cli("chain", "resume", chain_id, "--prompt", "look=again").code == 2
    resumed = cli("chain", "resume", chain_id, "--prompt", "tell=Tell it again", "--json")
    assert (resumed.code, resumed.document["state"]) == (0, "running")
    assert pool.detail(resumed.document["step_ids"][1]).prompt == "Tell it again"
    assert cli("chain", "resume", chain_id).code == 4
    assert cli("chain", "show", chain_id, "--json").document["current_step_name"] == "tell"


def test_ids_of_chains_are_taken_wherever_ids_are(cli: Any, pool: Pool, slot: Any) -> None:
    chain_id = cli("chain", "submit", "two", "--arg", "what=it", "--json").document["chain_id"]
    first = pool.chain_progress(chain_id).steps[0].id
    run_id = slot.start(first)
    slot.say(first, run_id, "here I am")
    slot.finish(first, run_id, output="first")
    assert "look" in cli("logs", chain_id).out
    assert "here I am" in cli("logs", chain_id).out
    assert cli("cancel", chain_id, "--json").document == {"task_id": chain_id, "state": "cancelled"}
    assert cli("result", chain_id, "--json").document["state"] == "cancelled"
    assert cli("wait", chain_id, "--json").document["finished"] == [{"id": chain_id, "state": "cancelled"}]
    assert chain_id in cli("chain", "list", "--runs").out


def test_reusable_chains_are_listed_shown_and_checked(cli: Any, pool: Pool, chain_file: Path) -> None:
    listed = cli("chain", "list", "--json").document["chains"]
    assert {"two", "issue-to-branch", "refactor-and-test", "review-and-fix"} <= {one["name"] for one in listed}
    assert "what, [how]" in cli("chain", "list").out
    shown = cli("chain", "show", "two")
    assert "what (required): what to look at" in shown.out
    assert cli("chain", "check").code == 0
    chain_file.with_name("bad.toml").write_text('[[steps]]\nname = "a"\nprompt = "{steps.b.output}"')
    bad = cli("chain", "check", "bad")
    assert bad.code == 2
    assert bad.out.startswith("bad: ")
    assert cli("chain", "check", "two", "--json").document["chains"][0].get("trouble") is None
    assert cli("chain", "show", "nothing").code == 2


def test_values_of_arguments_come_from_files_and_stdin(cli: Any, place: Path, pool: Pool) -> None:
    (place / "x.txt").write_text("from a file")
    assert pairs(["a=1", "b=@x.txt"], flag="--arg") == {"a": "1", "b": "from a file"}
    for bad in (["a"], ["=1"], ["a=1", "a=2"], ["a=@nothing"]):
        with pytest.raises(InvalidRequest):
            pairs(bad, flag="--arg")
    document = cli("chain", "submit", "two", "--arg", "what=-", "--json", stdin=b"a diff").document
    assert pool.store.graph.get(document["chain_id"]).args["what"] == "a diff"


def _play(monkeypatch: pytest.MonkeyPatch, pool: Pool, slot: Any, *outputs: str) -> None:
    """Have the steps done while the program waits."""
    waits = live.wait

    def played(pool: Pool, ids: list[str], **how: Any) -> Any:
        for step, output in zip(pool.chain_progress(ids[0]).steps, outputs, strict=True):
            slot.do(step.id, output=output)
        return waits(pool, ids, **how)

    monkeypatch.setattr(live, "wait", played)
