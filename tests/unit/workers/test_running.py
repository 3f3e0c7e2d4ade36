"""One run between claim and finish, with a CLI that is only told of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from claude_pool.errors import CliError, Refused, Unreachable, WorkspaceBusy, WorkspaceError
from claude_pool.models.events import LogEntry
from claude_pool.models.run import ExitFacts, RunFacts, StopCause
from claude_pool.models.task import BranchFacts, ErrorCode, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store.base import Claim
from workers.controls import Controls
from workers.running import Running

Change = Callable[..., None]


@pytest.fixture
def change(bench: Any) -> Change:
    """Give the slot other tools or settings."""

    def tools(**changes: Any) -> None:
        for name, value in changes.items():
            object.__setattr__(bench.tools, name, value)

    return tools


def verdict(bench: Any, claim: Claim, controls: Controls | None = None) -> Verdict:
    told = Running(bench.tools, claim, controls or Controls()).verdict()
    assert told is not None
    return told


class Directory:
    """A workspace's double."""

    def __init__(self, path: Path, saves: BranchFacts | Exception | None = None) -> None:
        self.path = path
        self.saves = saves
        self.messages: list[str] = []
        self.closed = 0

    def save(self, message: str) -> BranchFacts | None:
        self.messages.append(message)
        if isinstance(self.saves, Exception):
            raise self.saves
        return self.saves

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1


class Opens:
    """The workspaces' double: gives this directory, or raises this error."""

    def __init__(self, what: Directory | Exception) -> None:
        self.what = what
        self.jobs: list[Any] = []

    def open(self, job: Any) -> Directory:
        self.jobs.append(job)
        if isinstance(self.what, Exception):
            raise self.what
        return self.what


def test_an_answer_completes_the_task_with_its_cost_and_where_it_came_from(bench: Any) -> None:
    claim = bench.claim()
    told = verdict(bench, claim)
    assert (told.to, told.cost_usd) == (TaskState.COMPLETED, 0.02)
    assert told.result is not None
    assert (told.result.output, told.result.node) == ("Hello.", "n1")
    assert told.result.log_path == str(bench.tools.place.log_path(claim.run_id))
    assert not told.result.simulated


def test_the_start_is_durable_before_anything_runs(bench: Any) -> None:
    seen: list[Any] = []
    claim = bench.claim()
    bench.meanwhile = lambda _run: seen.append(bench.task(claim.task.id))
    verdict(bench, claim)
    assert [(task.state, task.run_id) for task in seen] == [(TaskState.RUNNING, claim.run_id)]
    assert seen[0].session_id in " ".join(bench.runs[0].launch.argv)


def test_a_run_that_was_stopped_before_it_began_starts_nothing(bench: Any) -> None:
    controls = Controls()
    controls.stop(StopCause.DRAINED)
    claim = bench.claim()
    assert Running(bench.tools, claim, controls).verdict() is None
    assert bench.runs == []
    assert bench.task(claim.task.id).state is TaskState.CLAIMED


def test_a_claim_that_is_stale_starts_nothing(bench: Any) -> None:
    claim = bench.claim()
    bench.store.tasks.cancel(claim.task.id, reason="no")
    assert Running(bench.tools, claim, Controls()).verdict() is None
    assert bench.runs == []


@pytest.mark.parametrize(
    ("options", "defaults", "mode"),
    [
        ({}, {}, "acceptEdits"),
        ({"working_dir": "given"}, {}, "plan"),
        ({"working_dir": "given", "permission_mode": "acceptEdits"}, {}, "acceptEdits"),
        ({"working_dir": "given"}, {"permission_mode": "dontAsk"}, "dontAsk"),
        ({"permission_mode": "plan"}, {"permission_mode": "dontAsk"}, "plan"),
    ],
)
def test_the_permission_mode_follows_the_isolation_unless_it_was_chosen(
    bench: Any, change: Change, tmp_path: Path, options: dict[str, Any], defaults: dict[str, Any], mode: str
) -> None:
    if "working_dir" in options:
        options = {**options, "working_dir": str(tmp_path)}
    change(config=bench.tools.config.model_copy(update=defaults))
    verdict(bench, bench.claim(**options))
    assert f"--permission-mode={mode}" in bench.runs[0].launch.argv


def test_with_a_repository_a_task_gets_a_worktree_and_without_one_none(
    bench: Any, change: Change, tmp_path: Path
) -> None:
    change(workspaces=(opens := Opens(Directory(tmp_path))))
    verdict(bench, bench.claim())
    change(config=bench.tools.config.model_copy(update={"repo": tmp_path}))
    verdict(bench, bench.claim())
    verdict(bench, bench.claim(isolation="clone"))
    assert [job.isolation for job in opens.jobs] == ["none", "worktree", "clone"]
    assert opens.jobs[1].branch_name == f"pool/{opens.jobs[1].task_id}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorkspaceError("No such ref.", hint="Name another."), ErrorCode.WORKSPACE),
        (CliError("It is gone.", hint="Install it."), ErrorCode.CLI_MISSING),
        (Refused("Not allowed here.", hint="Ask."), ErrorCode.PERMISSION_DENIED),
        (RuntimeError("a bug"), ErrorCode.EXECUTION),
    ],
)
def test_what_goes_wrong_before_the_start_is_a_failure_with_its_reason_and_costs_nothing(
    bench: Any, change: Change, error: Exception, code: ErrorCode
) -> None:
    change(workspaces=Opens(error))
    told = verdict(bench, bench.claim())
    assert (told.to, told.cost_usd) == (TaskState.FAILED, 0.0)
    assert told.error is not None
    assert told.error.code is code
    assert getattr(error, "message", "a bug") in told.error.message
    assert told.error.hint == getattr(error, "hint", "")
    assert told.result is not None
    assert told.result.state is TaskState.FAILED


def test_a_directory_that_is_busy_is_waited_for_without_a_slot_and_uncounted(bench: Any, change: Change) -> None:
    change(workspaces=Opens(WorkspaceBusy("Somebody works there.")))
    claim = bench.claim()
    told = verdict(bench, claim)
    assert (told.to, told.next_kind, told.counts_as) == (TaskState.PARKED, "attempt", "nothing")
    assert told.delay_ms is not None
    parked = bench.store.tasks.finish(claim.task.id, claim.run_id, told)
    assert (parked.state, parked.counters.infra_retries, parked.reserved_usd) == (TaskState.PARKED, 0, 0)


def test_a_store_that_is_away_at_the_start_means_that_nothing_was_started(bench: Any, change: Change) -> None:
    change(workspaces=Opens(Unreachable()))
    assert Running(bench.tools, bench.claim(), Controls()).verdict() is None


def test_a_bug_after_the_run_keeps_what_was_paid_for(bench: Any, change: Change, tmp_path: Path) -> None:
    change(workspaces=Opens(Directory(tmp_path, RuntimeError("a bug"))))
    told = verdict(bench, bench.claim())
    assert (told.to, told.cost_usd) == (TaskState.FAILED, 0.02)
    assert told.result is not None
    assert told.result.output == "Hello."
    assert told.error is not None
    assert told.error.code is ErrorCode.EXECUTION


BRANCH = BranchFacts(branch="pool/t-x", base="a" * 40, tip="b" * 40, commits=1, files=1)


def test_what_the_run_left_is_committed_under_the_tasks_title_and_told(
    bench: Any, change: Change, tmp_path: Path
) -> None:
    change(workspaces=Opens(directory := Directory(tmp_path, BRANCH)))
    claim = bench.claim("Mend the roof.\nWith care.")
    told = verdict(bench, claim)
    [message] = directory.messages
    assert message.splitlines()[0] == claim.task.title
    assert f"Task: {claim.task.id}" in message
    assert f"Run: {claim.run_id}" in message
    assert told.branch == BRANCH
    assert told.result is not None
    assert (told.result.branch, told.result.workspace) == (BRANCH, str(tmp_path))
    assert directory.closed == 1


@pytest.mark.parametrize("error", [WorkspaceError("The disk is full."), OSError(28, "The disk is full.")])
def test_an_answer_whose_work_could_not_be_saved_is_a_failure_that_keeps_answer_and_cost(
    bench: Any, change: Change, tmp_path: Path, error: Exception
) -> None:
    change(workspaces=Opens(Directory(tmp_path, error)))
    told = verdict(bench, bench.claim())
    assert (told.to, told.reason, told.cost_usd) == (TaskState.FAILED, "not saved", 0.02)
    assert told.error is not None
    assert told.error.code is ErrorCode.WORKSPACE
    assert str(tmp_path) in told.error.message
    assert told.result is not None
    assert (told.result.state, told.result.output, told.result.error) == (TaskState.FAILED, "Hello.", told.error)


def test_a_failed_run_keeps_its_own_reason_when_it_could_not_be_saved_either(
    bench: Any, change: Change, tmp_path: Path
) -> None:
    change(workspaces=Opens(Directory(tmp_path, WorkspaceError("The disk is full."))))
    bench.facts = bench.facts.evolve(is_error=True, terminal_reason="max_turns", subtype="error_max_turns")
    told = verdict(bench, bench.claim())
    assert told.error is not None
    assert told.error.code is ErrorCode.MAX_TURNS


def test_an_output_that_is_too_long_leaves_head_and_tail_and_is_whole_in_a_file(bench: Any, change: Change) -> None:
    change(config=bench.tools.config.model_copy(update={"max_output_bytes": 1 << 10}))
    whole = "begin " + "ö" * 5_000 + " end"
    bench.facts = bench.facts.evolve(output=whole)
    told = verdict(bench, bench.claim())
    assert told.result is not None
    assert told.result.output.startswith("begin ö")
    assert told.result.output.endswith("ö end")
    assert told.result.output_path is not None
    assert told.result.output_path in told.result.output
    assert len(told.result.output.encode()) < 1 << 11
    kept = Path(told.result.output_path)
    assert kept.read_text() == whole
    assert kept.stat().st_mode & 0o777 == 0o600


def test_an_output_of_just_the_limit_stays_whole(bench: Any, change: Change) -> None:
    change(config=bench.tools.config.model_copy(update={"max_output_bytes": 1 << 10}))
    bench.facts = bench.facts.evolve(output="x" * (1 << 10))
    told = verdict(bench, bench.claim())
    assert told.result is not None
    assert (told.result.output, told.result.output_path) == ("x" * (1 << 10), None)


def interrupted(bench: Any, **options: Any) -> Claim:
    """A claim that goes on with a run which was drained after its first words."""
    claim = bench.claim("Paint the fence.", **options)
    bench.facts, whole = (
        RunFacts(saw_init=True, saw_output=True, stopped=StopCause.DRAINED, exit=ExitFacts(signal=15)),
        bench.facts,
    )
    told = verdict(bench, claim)
    task = bench.store.tasks.finish(claim.task.id, claim.run_id, told)
    assert (task.state, task.next_kind) == (TaskState.PENDING, "continuation")
    bench.facts = whole
    return bench.hand.claim(claim.task.id)


def test_a_continuation_resumes_the_session_and_is_told_to_go_on(bench: Any) -> None:
    claim = interrupted(bench)
    first = bench.runs[0]
    assert first.prompt == "Paint the fence."
    assert claim.resume_session_id is not None
    verdict(bench, claim)
    again = bench.runs[1]
    assert f"--resume={claim.resume_session_id}" in again.launch.argv
    assert again.prompt != first.prompt
    assert "interrupted" in again.prompt
    assert again.prompt.endswith("Paint the fence.")


def test_only_the_first_run_begins_a_branch_and_a_continuation_needs_it(
    bench: Any, change: Change, tmp_path: Path
) -> None:
    change(workspaces=(opens := Opens(Directory(tmp_path))))
    verdict(bench, interrupted(bench))
    assert [(job.fresh, job.continues) for job in opens.jobs] == [(True, False), (False, True)]


def test_the_tasks_own_limits_come_before_the_settings(bench: Any) -> None:
    verdict(bench, bench.claim())
    verdict(bench, bench.claim(timeout_s=7, silence_timeout_s=3))
    settings, own = (run.how["limits"] for run in bench.runs)
    assert (settings.timeout_s, settings.silence_s) == (3600, 900)
    assert (own.timeout_s, own.silence_s) == (7, 3)


def test_lines_go_to_those_who_watch_and_their_loss_harms_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = bench.claim()
    entry = LogEntry(run_id=claim.run_id, kind="text", text="half way")
    bench.meanwhile = lambda run: run.how["on_entries"]([entry])
    verdict(bench, claim)
    assert [line.text for line in bench.store.logs.read(claim.task.id)] == ["half way"]

    def away(*_a: Any, **_k: Any) -> None:
        raise Unreachable

    monkeypatch.setattr(bench.store.logs, "append", away)
    claim = bench.claim()
    assert verdict(bench, claim).to is TaskState.COMPLETED


def test_an_answer_of_the_simulated_model_says_so(bench: Any, change: Change) -> None:
    change(node_env={"PATH": "/bin", "CLAUDE_POOL_SIMULATED": "1"})
    told = verdict(bench, bench.claim())
    assert told.result is not None
    assert told.result.simulated
