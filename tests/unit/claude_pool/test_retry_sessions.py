from typing import Any

import pytest

from claude_pool.models.options import TaskOptions
from claude_pool.models.run import ExitFacts, RunFacts
from claude_pool.models.task import Counters, ErrorCode, TaskState
from claude_pool.models.verdict import CountsAs, Verdict
from claude_pool.retry import RunContext, judge


def _gone(session: str, **context: Any) -> Verdict:
    facts = RunFacts(stderr_tail="No conversation found with session ID: x", exit=ExitFacts(code=1))
    options = TaskOptions(session=session)
    return judge(facts, RunContext(task_id="t", run_id="r", options=options, **context))


@pytest.mark.parametrize("session", ["continue:t-0123456789", "fork:t-0123456789"])
def test_another_tasks_session_that_is_gone_can_not_be_replaced(session: str) -> None:
    verdict = _gone(session)
    assert verdict.to is TaskState.FAILED
    assert verdict.error is not None
    assert (verdict.error.code, session in verdict.error.message) == (ErrorCode.SESSION_GONE, True)


def test_a_name_whose_session_is_gone_begins_a_new_one_but_not_for_ever() -> None:
    verdict = _gone("name:n")
    assert (verdict.to, verdict.next_kind, verdict.session_gone) == (TaskState.PENDING, "attempt", True)
    assert verdict.counts_as is CountsAs.INFRA
    assert _gone("name:n", counters=Counters(infra_retries=10)).to is TaskState.FAILED


def test_an_own_session_that_is_gone_is_not_taken_for_the_one_that_was_asked_for() -> None:
    assert not _gone("name:n", kind="continuation", session_id="s").session_gone
