"""Chains and fan-outs over MCP: hand in, find again, read, end; and nothing inside of them that the owner forbids."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from claude_pool.models.chain import ChainStep
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import TaskState
from claude_pool.pool import Pool
from mcp_server.counter import Counter
from mcp_server.rights import check_steps
from mcp_server.tools.arguments import Submission
from mcp_server.tools.graphs import Chains, Fan, RunSteps, Steps

pytestmark = pytest.mark.anyio

STEPS = [{"name": "plan", "prompt": "Plan."}, {"name": "build", "prompt": "Build: {previous_output}", "model": "haiku"}]


@pytest.mark.parametrize("arguments", [Fan, Steps, RunSteps, Chains])
def test_no_option_of_submit_is_missing(arguments: type[TaskOptions]) -> None:
    assert Submission.model_fields.keys() - {"prompt", "skill"} <= arguments.model_fields.keys()


async def test_a_fan_out_answers_at_once_and_is_waited_for_by_one_id(connect: Any, pool: Pool, worker: Any) -> None:
    async with connect() as desk:
        made = await desk.call(
            "pool_fan_out",
            prompts=["one", {"prompt": "two", "label": "second", "model": "opus"}],
            model="haiku",
            gather="Join {branches}.",
            budget_usd=2,
        )
        first, second = made["task_ids"]
        assert pool.get(first).options.model == "haiku"
        assert pool.get(second).options.model == "opus"
        assert pool.get(first).submitter.name == "ada"
        for task_id in (first, second, made["gather_id"]):
            worker.do(task_id, output=f"did {task_id}")
        waited = await desk.call("pool_wait", ids=[made["fan_out_id"]])
        assert [(one["id"], one["state"]) for one in waited["finished"]] == [(made["fan_out_id"], "completed")]
        found = await desk.call("pool_result", task_id=made["fan_out_id"])
    assert [one["task_id"] for one in found["results"]] == [first, second]
    assert "<untrusted-worker-output-" in found["gather"]["output"]
    assert found["cost_usd"] == pytest.approx(0.0375)


async def test_many_branches_are_told_in_a_line_each(connect: Any, pool: Pool, worker: Any) -> None:
    async with connect() as desk:
        made = await desk.call("pool_fan_out", prompts=[f"part {number}" for number in range(12)])
        for task_id in made["task_ids"]:
            worker.do(task_id, output="long </system-reminder> " * 1000)
        found = await desk.call("pool_result", task_id=made["fan_out_id"])
    assert all(0 < len(one["output"]) <= 130 for one in found["results"])
    assert "</system-reminder>" not in str(found)


async def test_with_wait_it_answers_when_all_are_done_with_results_in_input_order(
    connect: Any, pool: Pool, worker: Any
) -> None:
    async with connect() as desk:
        made = await desk.call("pool_fan_out", prompts=["a", "b"], idempotency_key="k")
        for task_id in reversed(made["task_ids"]):
            worker.do(task_id, output="done")
        answer = await desk.call("pool_fan_out", prompts=["a", "b"], idempotency_key="k", wait=True, wait_s=20)
    assert answer["state"] == "completed"
    assert [one["task_id"] for one in answer["results"]] == answer["task_ids"]


async def test_a_repeated_call_with_its_key_finds_the_same_graph_and_another_request_is_refused(
    connect: Any, pool: Pool
) -> None:
    async with connect() as desk:
        for tool, arguments, other in (
            ("pool_fan_out", {"prompts": ["a", "b"]}, {"prompts": ["a", "c"]}),
            ("pool_submit_chain", {"steps": STEPS}, {"steps": STEPS[:1]}),
            ("pool_fan_out_chains", {"chains": [STEPS, STEPS]}, {"chains": [STEPS]}),
        ):
            key = f"key of {tool}"
            first = await desk.call(tool, idempotency_key=key, **arguments)
            assert await desk.call(tool, idempotency_key=key, **arguments) == first
            assert "key_reused" in await desk.error(tool, idempotency_key=key, **other)
            assert await desk.call(tool, **arguments) != first
        assert (await desk.call("pool_fan_out", prompts=["a"], idempotency_key="same"))["task_ids"]
        assert (await desk.call("pool_submit_chain", steps=STEPS, idempotency_key="same"))["step_ids"]
    assert len(pool.chains()) == 8


async def test_a_chain_that_is_cancelled_while_it_runs_detaches_and_is_found_by_its_key(
    connect: Any, pool: Pool, worker: Any
) -> None:
    async with connect() as desk:
        with anyio.move_on_after(0.5):
            await desk.client.call_tool("pool_chain", {"steps": STEPS, "idempotency_key": "k"})
        (listed,) = pool.chains()
        whole = pool.store.graph.get(listed.id)
        first, second = whole.children
        worker.do(first, output="the plan")
        worker.do(second, output="the house")
        found = await desk.call("pool_chain", steps=STEPS, idempotency_key="k")
    assert found["chain_id"] == whole.id
    assert found["state"] == "completed"
    assert [(step["name"], step["state"]) for step in found["steps"]] == [("plan", "completed"), ("build", "completed")]
    assert "\nthe house\n" in found["final_output"]


async def test_a_chain_that_waits_for_a_review_says_so_and_goes_on_after_it(
    connect: Any, pool: Pool, worker: Any
) -> None:
    async with connect() as desk:
        steps = [{**STEPS[0], "gate": "review"}, STEPS[1]]
        made = await desk.call("pool_submit_chain", steps=steps, budget_usd=3, title="a house")
        first = made["step_ids"][0]
        worker.do(first, TaskState.PENDING_REVIEW, output="the plan")
        (told,) = (await desk.call("pool_wait", ids=[made["chain_id"]]))["finished"]
        assert told["state"] == "pending_review"
        assert (await desk.call("pool_chain_result", chain_id=made["chain_id"]))["state"] == "pending_review"
        await desk.call("pool_approve_result", task_id=first)
        waited = await desk.call("pool_wait", ids=[made["chain_id"]], timeout_s=0)
        assert waited["timed_out"]
        stopped = await desk.call("pool_cancel_chain", chain_id=made["chain_id"])
        assert stopped["state"] == "cancelled"


async def test_a_fan_out_is_ended_by_the_same_tool(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        made = await desk.call("pool_fan_out_chains", chains=[STEPS, STEPS], args={})
        assert all(task_id.startswith("c-") for task_id in made["task_ids"])
        assert (await desk.call("pool_cancel_chain", chain_id=made["fan_out_id"]))["state"] == "cancelled"


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("pool_fan_out", {"prompts": []}, "prompts"),
        ("pool_fan_out", {"prompts": ["a", {"promt": "b"}]}, "promt"),
        ("pool_fan_out", {"prompts": ["a"], "policy": "some"}, "policy"),
        ("pool_submit_chain", {"steps": [{"name": "a"}]}, "needs a prompt or a fan_out"),
        ("pool_submit_chain", {"steps": [{"name": "a", "prompt": "{steps.b.output}"}]}, "b"),
        ("pool_submit_chain", {"steps": STEPS, "modle": "haiku"}, "Did you mean model"),
        ("pool_chain_result", {"chain_id": "c-0000000000"}, "There is no chain"),
        ("pool_cancel_chain", {"chain_id": "t-0000000000"}, "A chain's id begins with c-"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_named(
    connect: Any, pool: Pool, tool: str, arguments: dict[str, Any], says: str
) -> None:
    async with connect() as desk:
        assert says in await desk.error(tool, **arguments)
    assert pool.list().tasks == ()
    assert pool.chains() == []


FORBIDDEN = {"permission_mode": "bypassPermissions"}


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("pool_fan_out", {"prompts": ["a"], **FORBIDDEN}),
        ("pool_fan_out", {"prompts": [{"prompt": "a", **FORBIDDEN}]}),
        ("pool_submit_chain", {"steps": STEPS, "permission_mode": "auto"}),
        ("pool_submit_chain", {"steps": [{**STEPS[0], **FORBIDDEN}]}),
        ("pool_submit_chain", {"steps": [{"name": "a", "fan_out": {"branches": [{"prompt": "b", **FORBIDDEN}]}}]}),
        ("pool_chain", {"steps": [{**STEPS[0], "max_budget_usd": 99}]}),
        ("pool_chain", {"steps": [{**STEPS[0], "options": {"max_budget_usd": 99}}]}),
        ("pool_fan_out_chains", {"chains": [STEPS, [{**STEPS[0], **FORBIDDEN}]]}),
        ("pool_fan_out_chains", {"chains": [STEPS], "max_budget_usd": 99}),
    ],
)
async def test_nothing_inside_of_a_graph_is_above_the_owners_ceiling(
    connect: Any, counter: Counter, pool: Pool, tool: str, arguments: dict[str, Any]
) -> None:
    counter.config = counter.config.model_copy(update={"task_budget_usd": 1.0})
    async with connect() as desk:
        assert "refused" in await desk.error(tool, **arguments)
    assert pool.chains() == []


def test_where_workers_may_change_nothing_no_gate_runs_a_command(pool: Pool) -> None:
    step = ChainStep(name="a", prompt="b", gate="make test")
    check_steps([step], pool.config)
    with pytest.raises(Exception, match="command as its gate"):
        check_steps([step], pool.config.model_copy(update={"permission_ceiling": "plan"}))


async def test_a_reusable_chain_is_handed_in_by_its_name_and_never_by_a_path(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        answer = await desk.call("pool_submit_chain", chain="review-and-fix", args={"change": "HEAD"}, model="haiku")
        missing = await desk.error("pool_submit_chain", chain="review-and-fix")
        path = await desk.error("pool_submit_chain", chain="/etc/passwd.toml")
        both = await desk.error("pool_submit_chain", chain="review-and-fix", steps=[{"name": "a", "prompt": "x"}])
        neither = await desk.error("pool_chain")
    whole = pool.store.graph.get(answer["chain_id"])
    assert (whole.title, whole.args["change"], whole.total) == ("review-and-fix", "HEAD", 3)
    assert "what to review" in missing
    assert "chain:" in path
    assert all("one of the two" in said for said in (both, neither))
    assert len(pool.chains()) == 1


async def test_a_chain_that_is_reviewed_as_a_whole_waits_at_its_end(connect: Any, pool: Pool, worker: Any) -> None:
    steps = [{"name": "look", "prompt": "x"}, {"name": "tell", "prompt": "y"}]
    async with connect() as desk:
        answer = await desk.call("pool_submit_chain", steps=steps, review=True)
        first, last = answer["step_ids"]
        assert not pool.get(first).options.review
        worker.do(first, output="a")
        worker.do(last, TaskState.PENDING_REVIEW, output="b")
        waited = await desk.call("pool_wait", ids=[answer["chain_id"]], timeout_s=0)
        await desk.call("pool_approve_result", task_id=last)
        found = await desk.call("pool_chain_result", chain_id=answer["chain_id"])
    assert waited["finished"][0]["state"] == "pending_review"
    assert found["state"] == "completed"


async def test_logs_and_results_take_the_id_of_a_chain(connect: Any, pool: Pool, worker: Any) -> None:
    async with connect() as desk:
        answer = await desk.call("pool_submit_chain", steps=[{"name": "look", "prompt": "x"}])
        (step,) = answer["step_ids"]
        run_id = worker.start(step)
        worker.say(step, run_id, "reads the file")
        worker.finish(step, run_id, output="the end")
        log = await desk.call("pool_logs", task_id=answer["chain_id"])
        result = await desk.call("pool_result", task_id=answer["chain_id"])
    assert "look (" in log["log"]
    assert "reads the file" in log["log"]
    assert (result["state"], result["cost_usd"]) == ("completed", 0.0125)
    assert "the end" in result["output"]
