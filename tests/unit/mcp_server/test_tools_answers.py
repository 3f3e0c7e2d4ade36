"""Answers as schemas and documents."""

from __future__ import annotations

from claude_pool.models.pool import PoolStatus
from claude_pool.models.task import ErrorCode, TaskError, TaskResult, TaskState
from mcp_server.tools.answers import gives, result_document, status_document


def test_a_schema_promises_some_fields_and_knows_others() -> None:
    assert gives({"b": str}, a=int) == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["a"],
    }


def test_the_output_stands_last_where_a_reader_has_the_facts_already() -> None:
    result = TaskResult(task_id="t-1", state=TaskState.COMPLETED, output="x", cost_usd=1, model="m")
    assert list(result_document(result, full=True, offset=None, limit=10))[-1] == "output"


def test_an_error_is_brief_unless_its_evidence_is_wanted() -> None:
    error = TaskError(code=ErrorCode.NETWORK, message="no\nnetwork", detail="stderr")
    result = TaskResult(task_id="t-1", state=TaskState.FAILED, error=error)
    assert result_document(result, full=False, offset=None, limit=10)["error"] == {
        "code": "network",
        "message": "no network",
    }
    full = result_document(result, full=True, offset=None, limit=10)["error"]
    assert "stderr" in full["detail"]
    assert "data to judge" in full["detail"]


def test_a_pool_that_takes_no_work_says_so() -> None:
    assert "accepting" not in status_document(PoolStatus(pool="p"), notes=[])
    assert status_document(PoolStatus(pool="p", accepting=False), notes=[])["accepting"] is False
