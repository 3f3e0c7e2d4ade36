"""Environment: what a run's process sees of the node's variables. Pure.

An allow-list, since a worker's environment holds what a model must not read (the pool's Redis password, for one) and
what changes how programs behave (`LD_PRELOAD`, `GIT_DIR`). A task may name more; what is in `NEVER` it can't have.
Variables of a cloud provider pass only where the node has chosen that provider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

from claude_pool.config import PoolConfig
from claude_pool.errors import Refused
from claude_pool.models.options import TaskOptions
from workers.places import Place

ALLOWED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TZ|LANG|LANGUAGE|LC_[A-Z]+"
    r"|(?i:https?_proxy|all_proxy|no_proxy)"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|NODE_EXTRA_CA_CERTS"  # companies' proxies sign with their own certificate
    r"|ANTHROPIC_\w+|CLAUDE_CODE_OAUTH_TOKEN"
    r"|CLAUDE_CODE_USE_\w+|CLAUDE_CODE_SKIP_\w+_AUTH|CLAUDE_CODE_CLIENT_(CERT|KEY|KEY_PASSPHRASE)"
)

PROVIDERS: Final = {
    "CLAUDE_CODE_USE_BEDROCK": re.compile(r"AWS_\w+"),
    "CLAUDE_CODE_USE_ANTHROPIC_AWS": re.compile(r"AWS_\w+"),
    "CLAUDE_CODE_USE_MANTLE": re.compile(r"AWS_\w+"),
    "CLAUDE_CODE_USE_VERTEX": re.compile(r"GOOGLE_\w+|GCLOUD_\w+|CLOUDSDK_\w+|CLOUD_ML_REGION|VERTEX_\w+"),
    "CLAUDE_CODE_USE_FOUNDRY": re.compile(r"AZURE_\w+"),
}
"""What a provider's sign-in needs, where the node has switched that provider on."""

NEVER: Final = re.compile(
    r"GIT_\w+|LD_\w+|DYLD_\w+|PYTHON\w*|NODE_OPTIONS|BASH_ENV|BASHOPTS|SHELLOPTS|PROMPT_COMMAND|BASH_FUNC_.*"
    r"|CLAUDECODE|CLAUDE_CODE_SESSION_ID|CLAUDE_CODE_ENTRYPOINT|CLAUDE_CODE_SSE_PORT|CLAUDE_CODE_MESSAGING_\w+"
    r"|CLAUDE_CODE_SIMPLE|CLAUDE_CODE_RETRY_WATCHDOG|CLAUDE_POOL_\w+"
)
"""Never passed on, not even by name: they change which code runs, tie it to a session around it, or are the pool's."""

_FIXED: Final = {
    "TERM": "dumb",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    # notes of one task would be in the next one's prompt, and their path, the slot's own, at the head of every prompt:
    # no two slots would share a cached prefix
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "BASH_DEFAULT_TIMEOUT_MS": "120000",
    "BASH_MAX_TIMEOUT_MS": "600000",
}


class Wanted(Protocol):
    """What a launch says about its environment."""

    @property
    def options(self) -> TaskOptions: ...
    @property
    def config(self) -> PoolConfig: ...
    @property
    def place(self) -> Place: ...
    @property
    def node_env(self) -> Mapping[str, str]: ...


def build_env(marks: Mapping[str, str], wanted: Wanted) -> dict[str, str]:
    """The whole environment of a run. Raises Refused when the task names a variable that may never pass."""
    if refused := [name for name in wanted.options.env if NEVER.fullmatch(name)]:
        raise Refused(f"A task may not have {', '.join(refused)} passed on from the node.")
    named = set(wanted.options.env)
    node_env = {name: value for name, value in wanted.node_env.items() if value}
    patterns = (ALLOWED, *(pattern for switch, pattern in PROVIDERS.items() if _is_on(node_env.get(switch))))
    passed = {
        name: value
        for name, value in node_env.items()
        if name in named or (any(pattern.fullmatch(name) for pattern in patterns) and not NEVER.fullmatch(name))
    }
    place, config = wanted.place, wanted.config
    own = {
        "CLAUDE_CONFIG_DIR": str(place.config),
        "CLAUDE_CODE_TMPDIR": str(place.tmp),
        "TMPDIR": str(place.tmp),
        "CLAUDE_CODE_MAX_RETRIES": str(config.api_retries),
        "API_TIMEOUT_MS": str(round(config.api_timeout_s * 1000)),
    }
    return {"LANG": "C.UTF-8", "HOME": str(place.home), **passed, **_FIXED, **own, **marks}


def _is_on(value: str | None) -> bool:
    return value is not None and value.strip().lower() not in {"", "0", "false", "no", "off"}
