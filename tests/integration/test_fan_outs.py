"""Fan-outs through a real node, with the fake claude."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.models.fanout import FanOut
from claude_pool.models.task import ErrorCode, TaskState
from claude_pool.pool import Pool
from claude_pool.testing import fake_claude, ledger
from claude_pool.testing.fake_script import directive
from claude_pool.testing.node import TestNode, until
from claude_pool.testing.redis_server import short_folder

pytestmark = pytest.mark.redis

WAIT_S = 40
FAILS = "[[fake:api status=400]]"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """One node for all tests of this file."""
    home = short_folder()
    fake = tmp_path_factory.mktemp("fake")
    claude = fake_claude.install(fake, ledger=fake / "ledger")
    config = PoolConfig(name="fans", home=home, node="n1", slots=3, claude=claude, lease_s=2, slack_s=0.2,
                        stop_grace_s=1, timeout_s=60, silence_timeout_s=30, housekeeping_s=0.1, retry_base_s=0.05,
                        retry_max_s=0.5, redis_linger_s=0)  # fmt: skip
    with TestNode(config) as node:
        yield node
    shutil.rmtree(home)


@pytest.fixture
def pool(node: TestNode) -> Pool:
    return node.pool


def ok(text: str, **more: Any) -> str:
    return directive("ok", text=text, **more)


def test_results_come_in_input_order_and_partial_ones_are_kept(pool: Pool) -> None:
    result = pool.run_fan_out(
        ["[[fake:slow s=0.5]]" + ok("one"), {"prompt": FAILS, "label": "bad"}, ok("three")], wait_s=WAIT_S
    )
    assert result.state is TaskState.FAILED
    assert [(one.label, one.state, one.output) for one in result.results if one.label != "bad"] == [
        ("1", "completed", "one"),
        ("3", "completed", "three"),
    ]
    assert result.results[1].error is not None
    assert result.results[1].error.code is ErrorCode.INVALID_REQUEST
    assert result.error is not None
    assert result.error.message == "1 of 3 branches did not complete"
    assert result.cost_usd == pytest.approx(sum(one.cost_usd for one in result.results))


def test_ids_are_there_at_once_and_a_wait_takes_every_kind_of_id(pool: Pool) -> None:
    fan = pool.fan_out([ok("a"), ok("b")], gather="{branches}")
    chain = pool.submit_chain([{"name": "s", "prompt": ok("c")}])
    task = pool.submit(ok("t"))
    waited = pool.wait([fan.fan_out_id, chain.chain_id, task.task_id, *fan.task_ids], timeout_s=WAIT_S)
    assert {one.id: one.state for one in waited.finished} == dict.fromkeys(
        [fan.fan_out_id, chain.chain_id, task.task_id, *fan.task_ids], TaskState.COMPLETED
    )
    again = pool.wait([fan.fan_out_id, chain.chain_id], after=waited.cursor, timeout_s=WAIT_S)
    assert again.finished == ()
    assert fan.gather_id is not None
    with pytest.raises(NotFound, match="no fan-out f-0000000000"):
        pool.wait(["f-0000000000"], timeout_s=1)


def test_the_gather_gets_every_branchs_answer_fenced_and_runs_once(pool: Pool, node: TestNode) -> None:
    fan = pool.fan_out([ok("alpha"), {"prompt": FAILS, "label": "bad"}], gather="Sum up: {branches}", policy="all")
    pool.wait([fan.fan_out_id], timeout_s=WAIT_S)
    result = pool.fan_out_result(fan.fan_out_id)
    assert result.state is TaskState.FAILED
    assert 'label="1" state="completed">\nalpha\n</branch-' in result.output
    assert 'label="bad" state="failed">\n[invalid_request' in result.output
    runs = ledger.read(Path(str(node.config.claude)).parent / "ledger")
    assert len(runs.of(fan.gather_id or "")) == 1


def test_fail_fast_stops_what_runs_and_skips_what_waits(pool: Pool) -> None:
    slow = "[[fake:slow s=60]]"
    result = pool.run_fan_out([slow, FAILS, slow, slow, slow], policy="fail_fast", wait_s=WAIT_S)
    assert result.state is TaskState.FAILED
    found = [one.state for one in result.results]
    assert found[1] == "failed"
    assert set(found) <= {"failed", "cancelled", "skipped"}
    assert result.results[4].cost_usd == 0


def test_a_quorum_is_enough(pool: Pool) -> None:
    result = pool.run_fan_out([ok("a"), ok("b"), "[[fake:slow s=60]]"], policy="quorum(2)", wait_s=WAIT_S)
    assert result.state is TaskState.COMPLETED
    assert [one.state for one in result.results][:2] == ["completed", "completed"]


def test_no_more_run_at_once_than_allowed(pool: Pool) -> None:
    fan = pool.fan_out(["[[fake:slow s=0.3]]" + ok("x")] * 4, max_parallel=1)
    most = 0
    while not pool.get(fan.fan_out_id).state.final:
        busy = [one for one in pool.fan_out_progress(fan.fan_out_id).branches if one.state in {"claimed", "running"}]
        most = max(most, len(busy))
    assert most == 1
    assert [one.state for one in pool.fan_out_result(fan.fan_out_id).results] == ["completed"] * 4


def test_a_branch_that_fails_is_repeated_by_itself(pool: Pool) -> None:
    result = pool.run_fan_out(
        [ok("fine"), "[[fake:api status=400 times=1]]" + ok("second try")],
        failure_policy={"retries": 1, "backoff_s": 0},
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    assert result.results[1].output == "second try"
    runs = [len(pool.detail(one.id).runs) for one in result.results]
    assert runs == [1, 2]


def test_a_cancelled_fan_out_keeps_what_was_done(pool: Pool) -> None:
    fan = pool.fan_out(
        [ok("done"), "[[fake:slow s=60]]", "[[fake:slow s=60]]", "[[fake:slow s=60]]"], gather="{branches}"
    )
    pool.wait([fan.task_ids[0]], timeout_s=WAIT_S)
    until(lambda: pool.get(fan.task_ids[1]).state is TaskState.RUNNING, "running")
    pool.cancel_fan_out(fan.fan_out_id)
    pool.wait([fan.fan_out_id], timeout_s=WAIT_S)
    result = pool.fan_out_result(fan.fan_out_id)
    assert result.state is TaskState.CANCELLED
    assert (result.results[0].state, result.results[0].output) == ("completed", "done")
    assert result.gather is not None
    assert result.gather.state == "skipped"


def test_the_same_prompt_over_many_targets(pool: Pool) -> None:
    fan = pool.fan_out_template("Audit {target}.", ["a.py", "b {x}.py"])
    pool.wait([fan.fan_out_id], timeout_s=WAIT_S)
    assert fan.labels == ("a.py", "b {x}.py")
    assert [one.output for one in pool.fan_out_result(fan.fan_out_id).results] == [
        "echo: Audit a.py.",
        "echo: Audit b {x}.py.",
    ]


def test_chains_run_side_by_side_and_come_back_labelled(pool: Pool) -> None:
    def steps(word: str) -> list[dict[str, Any]]:
        return [{"name": "a", "prompt": ok(word)}, {"name": "b", "prompt": "{previous_output} {args.end}"}]

    fan = pool.fan_out_chains({"left": steps("L"), "right": steps("R")}, args={"end": "!"}, model="haiku")
    assert all(id_.startswith("c-") for id_ in fan.task_ids)
    pool.wait([fan.fan_out_id], timeout_s=WAIT_S)
    result = pool.fan_out_result(fan.fan_out_id)
    assert result.state is TaskState.COMPLETED, result
    assert [(one.label, one.output) for one in result.results] == [("left", "echo: L !"), ("right", "echo: R !")]
    assert result.cost_usd == pytest.approx(0.04)
    assert [one.progress for one in pool.fan_out_progress(fan.fan_out_id).branches] == ["", ""]


def test_a_step_may_be_a_fan_out_with_a_gather(pool: Pool) -> None:
    result = pool.run_chain(
        [
            {"name": "plan", "prompt": ok("the plan")},
            {
                "name": "views",
                "fan_out": {
                    "branches": [{"prompt": "one of {previous_output}", "label": "A"}, "two of {steps.plan.output}"],
                    "gather": ok("both"),
                },
            },
            {"name": "end", "prompt": "{steps.views.output} {previous_output}"},
        ],
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    views = result.step("views")
    assert [one.output for one in views.branches] == ["echo: one of the plan", "echo: two of the plan"]
    assert views.output == "both"
    assert result.final_output == "echo: both both"
    progress = pool.chain_progress(result.chain_id)
    assert [(one.name, one.fan_out, one.state) for one in progress.steps] == [
        ("plan", False, "completed"),
        ("views", True, "completed"),
        ("end", False, "completed"),
    ]


def test_branches_of_a_step_begin_at_the_chains_branch_and_leave_it_alone(pool: Pool, scratch_repo: Path) -> None:
    result = pool.run_chain(
        [
            {"name": "base", "prompt": directive("write", path="base.txt", content="b") + ok("x")},
            {
                "name": "tries",
                "fan_out": {
                    "branches": [directive("read", path="base.txt") + directive("write", path="t.txt", content="t")]
                },
            },
        ],
        repo=str(scratch_repo),
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    (branch,) = result.step("tries").branches
    assert branch.branch is not None
    assert branch.branch.branch == f"pool/{branch.id}"
    assert branch.branch.paths == ("t.txt",)


def test_what_makes_no_sense_is_refused(pool: Pool) -> None:
    for fields in ({"policy": "quorum(3)"}, {"gather": "{steps.x.output}"}, {"max_paralel": 2}):
        with pytest.raises(InvalidRequest):
            pool.fan_out([ok("a"), ok("b")], **fields)
    with pytest.raises(InvalidRequest):
        pool.fan_out([])
    with pytest.raises(InvalidRequest):
        pool.fan_out_chains({})
    with pytest.raises(NotFound):
        pool.fan_out_result("c-0000000000")


def test_a_fan_out_may_be_written_as_a_record(pool: Pool) -> None:
    asked = FanOut.model_validate({"branches": [ok("a")], "title": "one thing", "tags": ["x"]})
    fan = pool.fan_out(asked, model="haiku")
    pool.wait([fan.fan_out_id], timeout_s=WAIT_S)
    assert pool.get(fan.task_ids[0]).options.model == "haiku"
    assert pool.get(fan.fan_out_id).title == "one thing"
    assert [whole.id for whole in pool.chains(limit=1)] == [fan.fan_out_id]
