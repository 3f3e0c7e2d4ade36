"""Tasks through a real node, with the fake claude: what a user of one machine sees."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import KeyReused, NotFound
from claude_pool.models.task import ErrorCode, ParkedFor, TaskState
from claude_pool.pool import Pool
from claude_pool.testing import fake_claude
from claude_pool.testing.fake_script import directive
from claude_pool.testing.node import TestNode, until
from claude_pool.testing.redis_server import short_folder

pytestmark = pytest.mark.redis

WAIT_S = 30


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """One node for all tests of this file that do not hurt it."""
    home = short_folder()
    fake = tmp_path_factory.mktemp("fake")
    claude = fake_claude.install(fake, ledger=fake / "ledger")
    config = PoolConfig(name="tasks", home=home, node="n1", slots=2, claude=claude, lease_s=2, slack_s=0.2,
                        stop_grace_s=1, timeout_s=60, silence_timeout_s=30, housekeeping_s=0.1, retry_base_s=0.05,
                        retry_max_s=0.5, redis_linger_s=0)  # fmt: skip
    with TestNode(config) as node:
        yield node
    shutil.rmtree(home)


@pytest.fixture
def pool(node: TestNode) -> Pool:
    return node.pool


def test_a_task_comes_back_with_its_answer_cost_and_session(pool: Pool) -> None:
    before = pool.status().spent_usd
    result = pool.run('[[fake:ok text="42" cost=0.25]]', wait_s=WAIT_S)
    assert result.state is TaskState.COMPLETED
    assert result.output == "42"
    assert result.cost_usd == pytest.approx(0.25)
    assert result.session_id
    assert result.exit.code == 0
    assert Path(result.log_path or "").read_text().count('"type":') >= 2
    detail = pool.detail(result.task_id)
    assert [run.outcome for run in detail.runs] == ["completed"]
    assert pool.status().spent_usd - before == pytest.approx(0.25)


def test_two_slots_work_at_the_same_time(pool: Pool) -> None:
    ids = [pool.submit("[[fake:slow s=1.5]]").task_id for _ in range(2)]
    until(lambda: pool.status().busy == 2, "both slots busy")
    slots = {pool.get(task_id).slot for task_id in ids}
    assert slots == {"slot-0@n1", "slot-1@n1"}
    waited = pool.wait(ids, timeout_s=WAIT_S)
    assert [task.state for task in waited.finished] == [TaskState.COMPLETED] * 2


def test_any_returns_with_the_first_and_a_cursor_that_leaves_it_out_next_time(pool: Pool) -> None:
    quick = pool.submit("[[fake:ok]]").task_id
    slow = pool.submit("[[fake:slow s=1.5]]").task_id
    first = pool.wait([quick, slow], until="any", timeout_s=WAIT_S)
    assert [task.id for task in first.finished] == [quick]
    assert first.running == (slow,)
    second = pool.wait([quick, slow], until="any", after=first.cursor, timeout_s=WAIT_S)
    assert [task.id for task in second.finished] == [slow]
    again = pool.wait([quick, slow], until="any", after=first.cursor, timeout_s=WAIT_S)
    assert [task.id for task in again.finished] == [slow]


def test_a_wait_that_runs_out_of_time_says_so_and_the_task_goes_on(pool: Pool) -> None:
    task_id = pool.submit("[[fake:slow s=1]]").task_id
    assert pool.wait([task_id], timeout_s=0.05).timed_out
    assert not pool.wait([task_id], timeout_s=WAIT_S).timed_out


def test_one_idempotency_key_is_one_task(pool: Pool) -> None:
    first = pool.submit("[[fake:ok]]", idempotency_key="k1")
    again = pool.submit("[[fake:ok]]", idempotency_key="k1")
    assert again.task_id == first.task_id
    assert (first.created, again.created) == (True, False)
    with pytest.raises(KeyReused):
        pool.submit("[[fake:ok]] other", idempotency_key="k1")


def test_the_live_log_is_replayed_and_followed_to_its_end(pool: Pool) -> None:
    task_id = pool.submit('[[fake:say text="first words"]] [[fake:slow s=0.5]] [[fake:ok text="the end"]]').task_id
    entries = list(pool.stream(task_id))
    assert any("first words" in entry.text for entry in entries)
    assert entries[-1].kind == "result"
    assert list(pool.stream(task_id)) == entries


def test_a_prompt_that_looks_like_a_flag_a_command_or_a_file_reaches_the_model_as_text(pool: Pool) -> None:
    for prompt in ("--help", "/clear", "@/etc/passwd", "-p x"):
        assert prompt in pool.run(prompt, wait_s=WAIT_S).output


def test_a_prompt_of_eight_mebibytes_is_carried(pool: Pool) -> None:
    prompt = "[[fake:ok text=done]]" + "x" * ((8 << 20) - 21)
    assert pool.run(prompt, wait_s=WAIT_S).output == "done"


def test_structured_output_comes_back_as_data(pool: Pool) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    result = pool.run("[[fake:ok]]", json_schema=schema, wait_s=WAIT_S)
    assert result.state is TaskState.COMPLETED
    assert isinstance(result.structured_output, dict)


def test_a_running_task_that_is_cancelled_keeps_its_output_and_its_cost(pool: Pool) -> None:
    task_id = pool.submit('[[fake:say text="half way" cost=0.1]] [[fake:slow s=60]]').task_id
    until(lambda: bool(pool.get(task_id).progress), "progress")
    pool.cancel(task_id, reason="changed my mind")
    waited = pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.CANCELLED
    result = pool.result(task_id)
    assert result.output
    assert result.partial
    assert result.cost_usd == pytest.approx(0.1)


def test_a_pending_task_that_is_cancelled_never_starts(pool: Pool) -> None:
    busy = [pool.submit("[[fake:slow s=2]]").task_id for _ in range(2)]
    waiting = pool.submit("[[fake:ok]]").task_id
    assert pool.cancel(waiting).state is TaskState.CANCELLED
    pool.wait(busy, timeout_s=WAIT_S)
    after = pool.run("[[fake:ok]]", wait_s=WAIT_S)
    assert after.state is TaskState.COMPLETED
    assert pool.detail(waiting).runs == ()


def test_cancel_by_tag_ends_those_and_no_others(pool: Pool) -> None:
    mine = [pool.submit("[[fake:slow s=60]]", tags=("mine",)).task_id for _ in range(3)]
    other = pool.submit("[[fake:slow s=1]]").task_id
    cancelled = pool.cancel_all(tags=["mine"])
    assert {task.id for task in cancelled} == set(mine)
    waited = pool.wait([*mine, other], timeout_s=WAIT_S)
    states = {task.id: task.state for task in waited.finished}
    assert states == {**dict.fromkeys(mine, TaskState.CANCELLED), other: TaskState.COMPLETED}


@pytest.mark.parametrize(
    ("prompt", "options", "code"),
    [
        ("[[fake:hang ignore-term]]", {"timeout_s": 0.5}, ErrorCode.TIMEOUT),
        ("[[fake:silent s=60]]", {"silence_timeout_s": 0.5}, ErrorCode.SILENCE_TIMEOUT),
        ("[[fake:max-turns]]", {}, ErrorCode.MAX_TURNS),
        ("[[fake:budget]]", {"max_budget_usd": 1}, ErrorCode.BUDGET_EXHAUSTED),
        ("[[fake:api status=404]]", {"model": "no-such-model"}, ErrorCode.MODEL_NOT_FOUND),
        ("[[fake:api status=400]]", {}, ErrorCode.INVALID_REQUEST),
        ("[[fake:too-long]]", {}, ErrorCode.CONTEXT_TOO_LONG),
        ("[[fake:signal]]", {}, ErrorCode.DEAD_LETTER),
    ],
)
def test_every_bad_end_has_its_own_code(pool: Pool, prompt: str, options: dict[str, object], code: ErrorCode) -> None:
    result = pool.run(prompt, wait_s=WAIT_S, **options)
    assert result.state is TaskState.FAILED, result
    assert result.error is not None
    assert result.error.code is code
    assert result.error.message


@pytest.mark.parametrize("noise", ["garbage", "binary", "ansi", "huge mb=8", "huge mb=2 broken", "split", "inject"])
def test_noise_on_stdout_costs_no_answer(pool: Pool, noise: str) -> None:
    result = pool.run(f'[[fake:{noise}]] [[fake:ok text="still here"]]', wait_s=WAIT_S)
    assert result.state is TaskState.COMPLETED, result.error
    assert "still here" in result.output or noise in {"ansi", "split"}


def test_an_overload_is_waited_out_and_then_answered(pool: Pool) -> None:
    result = pool.run("[[fake:api status=529 times=2]] [[fake:ok text=done]]", wait_s=WAIT_S)
    assert result.output == "done"
    assert pool.get(result.task_id).counters.infra_retries == 2


def test_a_wrong_key_parks_the_task_for_somebody_and_stops_the_next_before_it_starts(
    pool_config: Callable[..., PoolConfig],
) -> None:
    with TestNode(pool_config(slots=1)) as node:
        first = node.pool.run("[[fake:api status=401]]", wait_s=WAIT_S)
        assert first.state is TaskState.PARKED
        assert first.error is not None
        assert first.error.code is ErrorCode.AUTH
        assert node.pool.get(first.task_id).parked_for is ParkedFor.BREAKER
        second = node.pool.run("[[fake:ok]]", wait_s=WAIT_S)
        assert second.state is TaskState.PARKED
        assert node.pool.detail(second.task_id).runs == ()


def test_an_answer_larger_than_the_limit_leaves_head_and_tail_and_a_file(
    pool_config: Callable[..., PoolConfig],
) -> None:
    with TestNode(pool_config(slots=1, max_output_bytes=4096)) as node:
        result = node.pool.run(directive("ok", text="start " + "x" * 20_000 + " end"), wait_s=WAIT_S)
    assert result.output_bytes > 20_000
    assert len(result.output.encode()) < 5_000
    assert len(Path(result.output_path or "").read_bytes()) == result.output_bytes


def test_what_a_task_edits_is_on_its_branch_and_not_in_the_users_checkout(pool: Pool, scratch_repo: Path) -> None:
    result = pool.run('[[fake:write path=a.txt content="hi"]] [[fake:ok]]', repo=str(scratch_repo), wait_s=WAIT_S)
    assert result.state is TaskState.COMPLETED, result.error
    assert result.branch is not None
    assert result.branch.branch == f"pool/{result.task_id}"
    assert result.branch.paths == ("a.txt",)
    assert not (scratch_repo / "a.txt").exists()


def test_an_isolation_that_cannot_be_had_fails_the_task_clearly(pool: Pool, tmp_path: Path) -> None:
    result = pool.run("[[fake:ok]]", repo=str(tmp_path / "nowhere"), wait_s=WAIT_S)
    assert result.state is TaskState.FAILED
    assert result.error is not None
    assert result.error.code is ErrorCode.WORKSPACE


def test_an_unknown_task_is_not_found(pool: Pool) -> None:
    with pytest.raises(NotFound):
        pool.wait(["t-0000000000"], timeout_s=1)


def test_status_counts_what_is_there(pool: Pool) -> None:
    before = pool.status()
    pool.run("[[fake:ok]]", wait_s=WAIT_S)
    status = pool.status()
    assert (status.slots, status.nodes) == (2, 1)
    assert status.completed == before.completed + 1
