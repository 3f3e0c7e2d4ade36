"""What a server takes over from the session that started it, and what it does not."""

from __future__ import annotations

import fcntl

import pytest

from claude_pool.config import PoolConfig
from mcp_server.session import COORDINATOR_LOCK, present, scrubbed_environment, submitter_of
from workers.main import COORDINATOR_LOCK as WORKERS_LOCK


def test_a_node_gets_nothing_that_belongs_to_the_session() -> None:
    session = ["CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_MESSAGING_TOKEN", "CLAUDE_PROJECT_DIR",
               "CLAUDE_CODE_ENTRYPOINT", "MCP_TIMEOUT", "NODE_OPTIONS", "PYTHONPATH"]  # fmt: skip
    needed = ["PATH", "HOME", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "AWS_PROFILE",
              "CLAUDE_CONFIG_DIR", "CLAUDE_POOL_HOME", "HTTPS_PROXY"]  # fmt: skip
    assert scrubbed_environment(dict.fromkeys([*session, *needed], "x")).keys() == set(needed)


def test_a_coordinator_is_named_by_its_label_else_its_session_else_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    env = {"CLAUDE_CODE_SESSION_ID": "0123\n4567-89ab"}
    assert submitter_of(env, "lead").name == "lead"
    assert submitter_of(env).name == "session-01234567"
    assert submitter_of({}).name == "ada"
    assert {submitter_of(env).kind, submitter_of({}).kind} == {"mcp"}


def test_a_node_can_see_that_coordinators_are_there_and_when_the_last_has_left(config: PoolConfig) -> None:
    def somebody() -> bool:
        with (config.node_dir / COORDINATOR_LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    with present(config):
        with present(config):
            assert somebody()
        assert somebody()
    assert not somebody()


def test_both_programs_mean_the_same_file() -> None:
    assert COORDINATOR_LOCK == WORKERS_LOCK


def test_a_folder_that_can_not_be_written_to_is_no_reason_to_fail(config: PoolConfig) -> None:
    config.home.parent.mkdir(exist_ok=True)
    config.home.write_text("a file where the folder should be")
    with present(config):
        pass
