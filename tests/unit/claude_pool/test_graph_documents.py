"""Documents of chains and fan-outs: promised fields always, others when they say something."""

from __future__ import annotations

import json

from claude_pool.chain_files import ChainFile, Found
from claude_pool.graph_documents import (
    of_chain_progress,
    of_chain_result,
    of_chain_submitted,
    of_fan_out_progress,
    of_fan_out_result,
    of_fan_out_submitted,
    of_named_chains,
    of_wholes,
)
from claude_pool.models.chain import ChainProgress, ChainResult, ChainSubmitted, StepProgress, StepResult
from claude_pool.models.fanout import BranchProgress, BranchResult, FanOutProgress, FanOutResult, FanOutSubmitted
from claude_pool.models.graph import Whole
from claude_pool.models.task import ErrorCode, TaskError, TaskState

RUNNING, DONE = TaskState.RUNNING, TaskState.COMPLETED


def test_a_chains_result_has_the_promised_fields_and_its_steps() -> None:
    inner = BranchResult(label="x", id="t-2", state="failed", error=TaskError(code=ErrorCode.EXECUTION, message="no"))
    step = StepResult(name="a", label="a", id="t-1", state="completed", output="said", cost_usd=0.5, vars={"n": 1},
                      branches=(inner,))  # fmt: skip
    document = of_chain_result(ChainResult(chain_id="c-1", state=DONE, steps=(step,), final_output="said"))
    assert document == {
        "chain_id": "c-1",
        "state": "completed",
        "steps": [
            {
                "name": "a",
                "id": "t-1",
                "state": "completed",
                "output": "said",
                "cost_usd": 0.5,
                "vars": {"n": 1},
                "branches": [
                    {"label": "x", "id": "t-2", "state": "failed", "output": "", "cost_usd": 0.0,
                     "error": {"code": "execution", "message": "no"}},
                ],
            }
        ],
        "final_output": "said",
        "cost_usd": 0.0,
    }  # fmt: skip
    assert of_chain_submitted(ChainSubmitted(chain_id="c-1", state=RUNNING, step_ids=("t-1",))) == {
        "chain_id": "c-1", "state": "running", "step_ids": ["t-1"],
    }  # fmt: skip


def test_a_fan_outs_documents_have_ids_in_input_order() -> None:
    submitted = of_fan_out_submitted(FanOutSubmitted(fan_out_id="f-1", state=RUNNING, task_ids=("t-1",), labels=("1",)))
    assert submitted == {"fan_out_id": "f-1", "state": "running", "task_ids": ["t-1"], "labels": ["1"]}
    result = FanOutResult(fan_out_id="f-1", state=DONE, results=(BranchResult(label="1", id="t-1", state="completed"),))
    document = of_fan_out_result(result)
    assert document.keys() == {"fan_out_id", "state", "task_ids", "results", "gather", "cost_usd"}
    assert document["gather"] is None
    json.dumps(document)


def test_progress_says_where_it_is() -> None:
    step = StepProgress(name="a", id="t-1", state="running", progress="Bash: make")
    chain = ChainProgress(chain_id="c-1", state=RUNNING, total_steps=1, current_step=0, current_step_name="a",
                          steps=(step,), waiting=True)  # fmt: skip
    document = of_chain_progress(chain)
    assert document["waiting"] is True
    assert document["steps"] == [
        {"name": "a", "id": "t-1", "state": "running", "cost_usd": 0.0, "progress": "Bash: make"}
    ]
    fan = FanOutProgress(fan_out_id="f-1", state=RUNNING, total=2, ended=1, failed=1,
                         branches=(BranchProgress(name="1", id="t-1", state="failed"),))  # fmt: skip
    assert (of_fan_out_progress(fan)["ended"], of_fan_out_progress(fan)["failed"]) == (1, 1)


def test_reusable_chains_say_what_they_take_or_what_is_wrong() -> None:
    good = ChainFile.model_validate(
        {"name": "x", "args": {"a": {"description": "d"}}, "steps": [{"name": "s", "prompt": "p"}]}
    )
    found = [Found(name="x", path="/x.toml", chain=good), Found(name="y", path="/y.toml", trouble="bad")]
    first, second = of_named_chains(found)["chains"]
    assert (first["args"], first["steps"]) == ({"a": {"description": "d", "default": None}}, ["s"])
    assert second == {"name": "y", "path": "/y.toml", "trouble": "bad"}


def test_what_waits_for_somebody_says_so_in_a_list() -> None:
    whole = Whole(id="c-1", state=RUNNING, waiting=TaskState.PENDING_REVIEW, total=3, ended=1)
    (document,) = of_wholes([whole])["runs"]
    assert (document["state"], document["ended"], document["total"]) == ("pending_review", 1, 3)
