from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import Refused
from claude_pool.models.options import TaskOptions
from workers.command import LaunchRequest, build_launch
from workers.places import Place

RUN = "11111111-1111-4111-8111-111111111111"


def env_of(node_env: dict[str, str], *names: str, **values: Any) -> dict[str, str]:
    config = PoolConfig(home=Path("/pool"), node="n1", **values)
    request = LaunchRequest(
        binary="/bin/claude",
        options=TaskOptions(env=names),
        task_id="t-0000000000",
        run_id=RUN,
        slot_id="slot-0@n1",
        session_id=RUN,
        place=Place.of(config, 0),
        cwd="/work",
        config=config,
        node_env=node_env,
    )
    return build_launch(request).env


def test_only_what_is_allowed_passes_from_the_node() -> None:
    allowed = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LANG": "de_DE.UTF-8",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "localhost",
        "ANTHROPIC_API_KEY": "key",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "CLAUDE_CODE_OAUTH_TOKEN": "token",
    }
    refused = {
        "CLAUDE_POOL_REDIS_URL": "redis://:password@host",
        "GIT_DIR": "/x",
        "LD_PRELOAD": "/x.so",
        "PYTHONPATH": "/x",
        "NODE_OPTIONS": "--require=/x",
        "CLAUDECODE": "1",
        "CLAUDE_CODE_SESSION_ID": "s",
        "AWS_SECRET_ACCESS_KEY": "aws",
        "GITHUB_TOKEN": "gh",
        "SSH_AUTH_SOCK": "/s",
        "BASH_ENV": "/x",
    }
    env = env_of({**allowed, **refused})
    assert {name: env[name] for name in allowed} == allowed
    assert not set(refused) & set(env)


@pytest.mark.parametrize(
    ("switch", "variable"),
    [
        ("CLAUDE_CODE_USE_BEDROCK", "AWS_REGION"),
        ("CLAUDE_CODE_USE_VERTEX", "CLOUD_ML_REGION"),
        ("CLAUDE_CODE_USE_VERTEX", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("CLAUDE_CODE_USE_FOUNDRY", "AZURE_CLIENT_ID"),
    ],
)
def test_a_providers_variables_pass_only_where_it_is_switched_on(switch: str, variable: str) -> None:
    assert env_of({switch: "1", variable: "x"})[variable] == "x"
    assert variable not in env_of({switch: "0", variable: "x"})
    assert variable not in env_of({variable: "x"})


def test_a_task_may_name_more_but_not_everything() -> None:
    assert env_of({"NPM_TOKEN": "x"}, "NPM_TOKEN", "NOT_SET")["NPM_TOKEN"] == "x"
    for name in ("CLAUDE_POOL_REDIS_URL", "LD_PRELOAD", "GIT_SSH_COMMAND", "NODE_OPTIONS"):
        with pytest.raises(Refused, match=name):
            env_of({name: "x"}, name)


def test_marks_and_places_can_not_be_overridden() -> None:
    env = env_of({"TMPDIR": "/t", "CLAUDE_CONFIG_DIR": "/c", "TERM": "xterm"}, "TMPDIR", "CLAUDE_CONFIG_DIR", "TERM")
    root = "/pool/default/nodes/n1/slots/0"
    assert (env["TMPDIR"], env["CLAUDE_CODE_TMPDIR"], env["CLAUDE_CONFIG_DIR"]) == (
        f"{root}/tmp",
        f"{root}/tmp",
        f"{root}/claude",
    )
    assert env["TERM"] == "dumb"
    assert {name: value for name, value in env.items() if name.startswith("CLAUDE_POOL_")} == {
        "CLAUDE_POOL_NAME": "default",
        "CLAUDE_POOL_NODE": "n1",
        "CLAUDE_POOL_SLOT": "slot-0@n1",
        "CLAUDE_POOL_RUN": RUN,
        "CLAUDE_POOL_TASK": "t-0000000000",
        "CLAUDE_POOL_PORT_BASE": "21000",
    }


def test_retries_and_timeouts_inside_the_cli_are_the_pools() -> None:
    env = env_of({}, api_retries=1, api_timeout_s=2.5)
    assert (env["CLAUDE_CODE_MAX_RETRIES"], env["API_TIMEOUT_MS"]) == ("1", "2500")
    assert env["CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"] == "1"


def test_a_node_without_a_home_lends_the_slots() -> None:
    assert env_of({"HOME": ""})["HOME"] == "/pool/default/nodes/n1/slots/0/home"
