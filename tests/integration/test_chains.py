"""Chains through a real node, with the fake claude: each step by its slot, the next one rung by whoever may."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import Conflict, InvalidRequest, NotFound
from claude_pool.models.chain import ChainResult
from claude_pool.models.task import ErrorCode, TaskState
from claude_pool.pool import Pool
from claude_pool.templates import escaped
from claude_pool.testing import fake_claude
from claude_pool.testing.fake_script import directive
from claude_pool.testing.node import TestNode, until
from claude_pool.testing.redis_server import short_folder

pytestmark = pytest.mark.redis

WAIT_S = 40


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """One node for all tests of this file that do not hurt it."""
    home = short_folder()
    fake = tmp_path_factory.mktemp("fake")
    claude = fake_claude.install(fake, ledger=fake / "ledger")
    config = PoolConfig(name="chains", home=home, node="n1", slots=2, claude=claude, lease_s=2, slack_s=0.2,
                        stop_grace_s=1, timeout_s=60, silence_timeout_s=30, housekeeping_s=0.1, retry_base_s=0.05,
                        retry_max_s=0.5, redis_linger_s=0, inline_output_bytes=2048)  # fmt: skip
    with TestNode(config) as node:
        yield node
    shutil.rmtree(home)


@pytest.fixture
def pool(node: TestNode) -> Pool:
    return node.pool


def ok(text: str, **more: Any) -> str:
    return directive("ok", text=text, **more)


def step(name: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "prompt": prompt, **more}


def states(result: ChainResult) -> list[str]:
    return [one.state for one in result.steps]


def git(repo: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=repo, check=True, capture_output=True, text=True).stdout.strip()


# -- one feeds the next


def test_each_step_is_fed_by_the_ones_before_it(pool: Pool) -> None:
    result = pool.run_chain(
        [
            step("plan", ok('{"risk": "high", "files": ["a.py"]}'), output_vars={"risk": "risk", "first": "files[0]"}),
            step("look", "Risk {steps.plan.risk} in {steps.plan.first} for {args.issue}."),
            step("end", "Before: {previous_output}"),
        ],
        args={"issue": 42},
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    assert result.step("plan").vars == {"risk": "high", "first": "a.py"}
    assert result.step("look").output == "echo: Risk high in a.py for 42."
    assert result.final_output == "echo: Before: echo: Risk high in a.py for 42."
    assert result.cost_usd == pytest.approx(0.03)
    assert result.cost_usd == pytest.approx(sum(one.cost_usd for one in result.steps))


def test_a_marker_in_a_models_output_is_never_expanded(pool: Pool) -> None:
    result = pool.run_chain(
        [step("a", escaped(ok("{args.secret} {previous_output} {{x}}"))), step("b", "Got: {previous_output}")],
        args={"secret": "hidden"},
        wait_s=WAIT_S,
    )
    assert result.final_output == "echo: Got: {args.secret} {previous_output} {{x}}"


def test_all_steps_work_on_one_branch_whichever_slot_runs_them(pool: Pool, scratch_repo: Path) -> None:
    writes = [
        step(f"s{number}", directive("write", path=f"{number}.txt", content=str(number)) + ok("done"))
        for number in range(6)
    ]
    result = pool.run_chain(writes, repo=str(scratch_repo), wait_s=WAIT_S)
    assert result.state is TaskState.COMPLETED, result
    assert {one.branch.branch for one in result.steps if one.branch} == {f"pool/{result.chain_id}"}
    files = git(scratch_repo, "ls-tree", "--name-only", f"pool/{result.chain_id}").splitlines()
    assert {f"{number}.txt" for number in range(6)} <= set(files)
    assert git(scratch_repo, "status", "--porcelain") == ""


def test_a_step_may_continue_the_session_of_the_one_before(pool: Pool) -> None:
    result = pool.run_chain(
        [step("a", ok("one", cost=0.02)), step("b", "go on with it", session="previous")], wait_s=WAIT_S
    )
    first, second = result.steps
    assert result.state is TaskState.COMPLETED, result
    assert second.session_id == first.session_id
    assert second.output == "echo: go on with it"
    assert result.cost_usd == pytest.approx(0.03)


def test_an_output_of_50_megabytes_is_passed_as_a_file_that_is_not_committed(pool: Pool, scratch_repo: Path) -> None:
    result = pool.run_chain(
        [
            step("big", directive("flood", mb=50) + ok("x" * 30_000)),
            step("look", "{steps.big.output}" + directive("report")),
            step("end", directive("write", path="a.txt", content="a") + ok("done")),
        ],
        repo=str(scratch_repo),
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    assert len(pool.detail(result.step("look").id).prompt) < 200
    names = git(scratch_repo, "ls-tree", "-r", "--name-only", f"pool/{result.chain_id}").splitlines()
    assert "a.txt" in names
    assert not [name for name in names if name.startswith(".claude-pool")]


def test_a_long_output_is_a_file_in_the_workspace_with_its_beginning_in_the_prompt(pool: Pool) -> None:
    long = "line\n" * 2_000
    asked = "{steps.big.output}" + directive("read", path=".claude-pool/inputs/steps-big-output.txt") + ok("seen")
    result = pool.run_chain([step("big", ok(long)), step("look", asked)], wait_s=WAIT_S)
    assert result.state is TaskState.COMPLETED, result
    said = " ".join(entry.text for entry in pool.stream(result.step("look").id))
    assert "seen" in said
    echoed = pool.run_chain([step("big", ok(long)), step("look", "{steps.big.output}")], wait_s=WAIT_S)
    assert "the whole is in the file .claude-pool/inputs/steps-big-output.txt" in echoed.final_output


def test_the_whole_of_an_answer_that_was_cut_comes_from_its_file(pool_config: Callable[..., PoolConfig]) -> None:
    with TestNode(pool_config(slots=1, max_output_bytes=4096, inline_output_bytes=1024)) as node:
        read = directive("read", path=".claude-pool/inputs/steps-big-output.txt") + ok("seen")
        result = node.pool.run_chain(
            [step("big", ok("y" * 100_000 + " END")), step("look", "{steps.big.output} " + read)], wait_s=WAIT_S
        )
        assert result.state is TaskState.COMPLETED, result
        assert len(result.step("big").output) < 10_000


# -- when, gates, failures


def test_a_step_whose_condition_does_not_hold_is_skipped_and_costs_nothing(pool: Pool) -> None:
    result = pool.run_chain(
        [
            step("review", ok('{"verdict": "approved"}'), output_vars={"verdict": "verdict"}),
            step("fix", ok("fixed"), when='{steps.review.verdict} != "approved"'),
            step("end", "{previous_output} {steps.fix.state}"),
        ],
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    assert states(result) == ["completed", "skipped", "completed"]
    assert result.step("fix").cost_usd == 0
    assert result.final_output.endswith("skipped")


def test_a_value_that_is_missing_fails_the_step_and_the_model_is_told(pool: Pool) -> None:
    result = pool.run_chain(
        [
            step(
                "plan",
                "Give n as JSON.",
                output_vars={"n": "n"},
                failure_policy={"retries": 1, "backoff_s": 0},
            )
        ],
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.FAILED
    (only,) = result.steps
    assert only.error is not None
    assert only.error.code is ErrorCode.OUTPUT_MISSING
    assert only.retries == 2
    assert "This was tried before and failed" in only.output
    assert "n (at n)" in only.output
    assert result.cost_usd == pytest.approx(0.02)


def test_a_gate_that_passes_lets_the_chain_go_on_and_one_that_does_not_is_told_and_retried(
    pool: Pool, scratch_repo: Path
) -> None:
    result = pool.run_chain(
        [
            step(
                "a",
                ok("done"),
                gate="test -e second || { touch second; exit 3; }",
                failure_policy={"retries": 1, "backoff_s": 0.05},
            ),
            step("b", "{previous_output}"),
        ],
        repo=str(scratch_repo),
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    assert result.step("a").retries == 1
    shut = pool.run_chain([step("a", ok("done"), gate="echo no good; exit 7"), step("b", "x")], wait_s=WAIT_S)
    assert shut.state is TaskState.FAILED
    assert states(shut) == ["failed", "skipped"]
    error = shut.step("a").error
    assert error is not None
    assert error.code is ErrorCode.GATE_FAILED
    assert "ended with 7" in error.message
    assert "no good" in error.detail
    assert shut.step("a").output == "done"


def test_a_gate_that_hangs_is_killed_with_all_it_started(pool: Pool, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = f"setsid sleep 600 & echo $! >> {pids}; echo $$ >> {pids}; sleep 600"
    result = pool.run_chain([step("a", ok("done"), gate={"command": command, "timeout_s": 0.5})], wait_s=WAIT_S)
    assert result.state is TaskState.FAILED
    error = result.steps[0].error
    assert error is not None
    assert "took more than 0.5 s" in error.message
    for pid in map(int, pids.read_text().split()):
        assert not Path(f"/proc/{pid}").exists()


def test_a_review_holds_the_chain_until_somebody_approves(pool: Pool) -> None:
    chain_id = pool.submit_chain([step("a", ok("look at me"), gate="review"), step("b", "{previous_output}")]).chain_id
    waited = pool.wait([chain_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.PENDING_REVIEW
    progress = pool.chain_progress(chain_id)
    assert (progress.waiting, progress.current_step_name) == (True, "a")
    pool.approve(progress.steps[0].id)
    pool.wait([chain_id], timeout_s=WAIT_S)
    assert pool.chain_result(chain_id).final_output == "echo: look at me"


def test_a_whole_chain_is_reviewed_at_its_end_and_a_rejection_has_the_last_step_done_again(pool: Pool) -> None:
    chain_id = pool.submit_chain([step("a", ok("x")), step("b", "{previous_output}")], review=True).chain_id
    (waiting,) = pool.wait([chain_id], timeout_s=WAIT_S).finished
    assert waiting.state is TaskState.PENDING_REVIEW
    first, last = pool.chain_progress(chain_id).steps
    pool.reject(last.id, "Say it louder.")
    until(lambda: pool.get(last.id).counters.runs == 2 and pool.get(chain_id).settled, "the second answer")
    assert pool.chain_result(chain_id).state is TaskState.PENDING_REVIEW
    pool.approve(last.id)
    pool.wait([chain_id], timeout_s=WAIT_S)
    assert pool.get(chain_id).state is TaskState.COMPLETED
    assert pool.get(first.id).counters.runs == 1


def test_a_failure_is_recovered_by_another_prompt_and_a_stronger_model(pool: Pool) -> None:
    result = pool.run_chain(
        [
            step(
                "a",
                "[[fake:api status=400]]",
                failure_policy={
                    "retries": 0,
                    "backoff_s": 0,
                    "recovery_prompt": "Mend this: {error} [[fake:report]]",
                    "escalate_model": "opus",
                },
            ),
            step("b", "{previous_output}"),
        ],
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    assert json.loads(result.step("a").output)["model"].startswith("claude-opus")


@pytest.mark.parametrize(("then", "seen"), [("skip", "echo: [first]"), ("continue", "echo: [half]")])
def test_a_chain_may_go_on_after_a_failure(pool: Pool, then: str, seen: str) -> None:
    result = pool.run_chain(
        [
            step("a", ok("first")),
            step("b", directive("say", text="half") + "[[fake:max-turns]]", failure_policy={"then": then}),
            step("c", "[{previous_output}]"),
        ],
        wait_s=WAIT_S,
    )
    assert result.state is TaskState.COMPLETED, result
    assert states(result) == ["completed", "failed", "completed"]
    assert result.final_output == seen


# -- cancel, resume, money, time


def test_a_chain_that_is_cancelled_stops_its_step_and_skips_the_rest(pool: Pool) -> None:
    chain_id = pool.submit_chain(
        [step("a", directive("say", text="half", cost=0.1) + "[[fake:slow s=60]]"), step("b", ok("x"))]
    ).chain_id
    until(lambda: "half" in pool.chain_progress(chain_id).partial_output, "partial output")
    pool.cancel_chain(chain_id, reason="enough")
    pool.wait([chain_id], timeout_s=WAIT_S)
    result = pool.chain_result(chain_id)
    assert result.state is TaskState.CANCELLED
    assert states(result) == ["cancelled", "skipped"]
    assert result.steps[0].output
    assert result.cost_usd == pytest.approx(0.1)


def test_a_cancel_after_the_step_lets_it_end_and_skips_the_rest(pool: Pool) -> None:
    chain_id = pool.submit_chain([step("a", "[[fake:slow s=1]]" + ok("done")), step("b", ok("x"))]).chain_id
    until(lambda: pool.chain_progress(chain_id).steps[0].state == "running", "running")
    pool.cancel_chain(chain_id, after_step=True)
    pool.wait([chain_id], timeout_s=WAIT_S)
    result = pool.chain_result(chain_id)
    assert (result.state, states(result)) == (TaskState.CANCELLED, ["completed", "skipped"])
    assert result.steps[0].output == "done"


def test_a_cancel_during_a_retry_pause_ends_the_chain_at_once(pool: Pool) -> None:
    chain_id = pool.submit_chain(
        [step("a", "[[fake:api status=400]]", failure_policy={"retries": 3, "backoff_s": 3600}), step("b", ok("x"))]
    ).chain_id
    until(lambda: pool.chain_progress(chain_id).steps[0].state == "parked", "parked for its retry")
    assert pool.cancel_chain(chain_id).state is TaskState.CANCELLED
    assert states(pool.chain_result(chain_id)) == ["cancelled", "skipped"]


def test_a_failed_chain_is_resumed_with_an_edited_prompt_and_keeps_what_was_done(pool: Pool) -> None:
    chain_id = pool.submit_chain(
        [step("a", ok("kept")), step("b", "[[fake:api status=400]]"), step("c", "{steps.a.output} {previous_output}")]
    ).chain_id
    pool.wait([chain_id], timeout_s=WAIT_S)
    before = pool.chain_result(chain_id)
    assert states(before) == ["completed", "failed", "skipped"]
    with pytest.raises(InvalidRequest, match="done already"):
        pool.resume_chain(chain_id, prompts={"a": "x"})
    with pytest.raises(InvalidRequest, match="no step"):
        pool.resume_chain(chain_id, prompts={"z": "x"})
    pool.resume_chain(chain_id, prompts={"b": ok("mended")})
    pool.wait([chain_id], timeout_s=WAIT_S)
    after = pool.chain_result(chain_id)
    assert after.state is TaskState.COMPLETED
    assert after.steps[0] == before.steps[0]
    assert after.final_output == "echo: kept mended"
    with pytest.raises(Conflict):
        pool.resume_chain(chain_id)


def test_a_chain_waits_when_its_budget_is_used_up(pool: Pool) -> None:
    chain_id = pool.submit_chain(
        [step("a", ok("x", cost=0.5)), step("b", ok("y", cost=0.25), max_budget_usd=0.6)], budget_usd=1
    ).chain_id
    waited = pool.wait([chain_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.PARKED
    progress = pool.chain_progress(chain_id)
    assert (progress.cost_usd, progress.budget_usd, progress.waiting) == (0.5, 1.0, True)
    pool.cancel_chain(chain_id)


def test_a_chain_over_its_time_has_failed(pool: Pool) -> None:
    result = pool.run_chain([step("a", "[[fake:slow s=60]]"), step("b", ok("x"))], timeout_s=1, wait_s=WAIT_S)
    assert result.state is TaskState.FAILED
    assert result.error is not None
    assert result.error.code is ErrorCode.TIMEOUT
    assert states(result) == ["cancelled", "skipped"]


def test_an_unknown_chain_is_not_found(pool: Pool) -> None:
    for call in (pool.chain_progress, pool.chain_result, pool.cancel_chain, pool.resume_chain):
        with pytest.raises(NotFound):
            call("c-0000000000")
        with pytest.raises(NotFound, match="no chain 't-"):
            call("t-0000000000")


def test_nothing_is_stored_of_a_chain_that_makes_no_sense(pool: Pool) -> None:
    before = pool.status().blocked, len(pool.chains())
    for steps in ([], [step("a", "x"), step("a", "y")], [step("a", "{steps.b.output}"), step("b", "x")]):
        with pytest.raises(InvalidRequest):
            pool.submit_chain(steps)
    with pytest.raises(InvalidRequest, match="no field 'retires'"):
        pool.submit_chain([step("a", "x")], retires=3)
    assert (pool.status().blocked, len(pool.chains())) == before
