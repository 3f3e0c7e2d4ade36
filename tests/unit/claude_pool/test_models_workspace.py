from __future__ import annotations

import pytest
from pydantic import ValidationError

from claude_pool.models.workspace import WorkspaceJob


def test_a_job_works_on_its_tasks_branch_unless_it_shares_one() -> None:
    assert WorkspaceJob(task_id="t-8f3k2m9q0d").branch_name == "pool/t-8f3k2m9q0d"
    assert WorkspaceJob(task_id="t-1", branch="pool/c-2").branch_name == "pool/c-2"
    assert WorkspaceJob(task_id="t-1", branch="pool/t-1.left-3").branch_name == "pool/t-1.left-3"


@pytest.mark.parametrize(
    "branch",
    ["main", "pool/", "pool/-x", "pool/a/b", "pool/a..b", "pool/a.lock", "pool/A", "pool/a\n", "--upload-pack=x"],
)
def test_a_branch_that_is_not_of_a_pool_is_no_branch_for_a_job(branch: str) -> None:
    with pytest.raises(ValidationError):
        WorkspaceJob(task_id="t-1", branch=branch)


@pytest.mark.parametrize("ref", ["-x", "--upload-pack=x", "a b", "", "a:b", "a\nb", "x" * 300])
def test_refs_that_could_be_taken_for_something_else_are_refused(ref: str) -> None:
    for field in ("base_ref", "target"):
        with pytest.raises(ValidationError):
            WorkspaceJob.model_validate({"task_id": "t-1", field: ref})


def test_a_commit_is_named_in_full() -> None:
    assert WorkspaceJob(task_id="t-1", expects="a" * 40).expects == "a" * 40
    with pytest.raises(ValidationError):
        WorkspaceJob(task_id="t-1", expects="abc123")
