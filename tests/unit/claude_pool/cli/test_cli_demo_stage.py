"""The demonstration's place: apart from everything of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool.cli import demo_stage
from claude_pool.errors import InvalidRequest

MODEL = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_API_KEY": "dummy"}


def test_nothing_of_the_users_pools_and_sign_ins_gets_to_the_simulated_model() -> None:
    given = {
        "PATH": "/bin", "CLAUDE_POOL_REDIS_URL": "redis://theirs", "ANTHROPIC_API_KEY": "secret", "AWS_PROFILE": "x",
        "CLAUDE_CODE_OAUTH_TOKEN": "secret", "HTTPS_PROXY": "http://proxy", "ANTHROPIC_MODEL": "opus",
    }  # fmt: skip
    assert demo_stage.environment(given, simulated=MODEL) == {"PATH": "/bin", **MODEL, "CLAUDE_POOL_SIMULATED": "1"}


def test_a_real_model_keeps_the_sign_in_and_loses_the_settings() -> None:
    given = {"PATH": "/bin", "CLAUDE_POOL_REDIS_URL": "redis://theirs", "ANTHROPIC_API_KEY": "secret"}
    assert demo_stage.environment(given, simulated=None) == {"PATH": "/bin", "ANTHROPIC_API_KEY": "secret"}


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch()
    with pytest.raises(InvalidRequest, match="not an empty folder"):
        demo_stage.prepare(tmp_path, claude=Path("/bin/true"), simulated=None)
