"""PoolConfig: one frozen value, validated whole at start; every program of a pool reads its settings from it.

Order, later wins: defaults, `claude-pool.toml` (the nearest one from the working directory upwards, or the file that
`CLAUDE_POOL_CONFIG` names), `CLAUDE_POOL_*` variables, arguments. `origins` says where each value came from. A value
that is not valid is named together with what was received.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from claude_pool.errors import InvalidSettings
from claude_pool.models.options import Isolation, ModelName, PermissionMode, Warmth

PREFIX: Final = "CLAUDE_POOL_"
FILE_NAME: Final = "claude-pool.toml"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


def default_home() -> Path:
    """`$XDG_STATE_HOME/claude-pool`, usually `~/.local/state/claude-pool`."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "claude-pool"


def default_node() -> str:
    """This host's name, as a node name."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", socket.gethostname().lower()).strip("-.")
    return cleaned[:32] or "node"


class PoolConfig(BaseSettings):
    """All settings of a pool. Durations are seconds, money is US dollars, sizes are bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    name: Name = Field(default="default", description="the pool's name, also the prefix of its keys")
    home: Path = Field(default_factory=default_home, description="folder for all state on this machine")
    redis_url: str | None = Field(default=None, description="Redis server; none starts a private one in `home`")
    node: Name = Field(default_factory=default_node, description="this host's name in the pool")
    slots: Annotated[int, Field(ge=0, le=256)] = Field(default=2, description="slots of a node")
    min_slots: Annotated[int, Field(ge=0, le=256)] = Field(default=0, description="lower bound of `scale`")
    max_slots: Annotated[int, Field(ge=1, le=256)] = Field(default=64, description="upper bound of `scale`")

    claude: Path | None = Field(
        default=None, description="the claude binary; none looks on the PATH, then in claude-agent-sdk"
    )
    model: ModelName | None = Field(default=None, description="default model")
    permission_mode: PermissionMode | None = Field(default=None, description="default permission mode")
    allow_bypass: bool = Field(default=False, description="allow permission_mode bypassPermissions at all")
    permission_ceiling: PermissionMode | None = Field(
        default=None, description="most that can be asked for over MCP; none: permission_mode, else acceptEdits"
    )
    claude_md: bool = Field(
        default=True, description="append the CLAUDE.md of the pool's own repository to workers' system prompt"
    )
    trust_repo: bool = Field(
        default=False, description="let the CLI load settings, hooks and MCP servers of the repository"
    )
    max_turns: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="default limit on model calls"
    )
    timeout_s: Seconds = Field(default=3600, description="default limit per run")
    silence_timeout_s: Seconds = Field(default=900, description="default limit without a sign of life")
    stop_grace_s: Seconds = Field(default=5, description="time for each step of the stop ladder")
    api_retries: Annotated[int, Field(ge=0, le=15)] = Field(default=2, description="retries inside the CLI")
    api_timeout_s: Seconds = Field(default=120, description="wait for the first byte of an API answer, per try")
    warm: Warmth = Field(
        default="spare", description="spare: a process started ahead per slot; reuse: one that serves many tasks"
    )
    warm_age_s: Seconds = Field(default=900, description="how long a process waits for a task before it goes")
    warm_tasks: Annotated[int, Field(ge=1, le=10_000)] = Field(default=100, description="tasks of a reused process")
    warm_memory_mb: Annotated[int, Field(ge=50, le=65_536)] = Field(
        default=400, description="a reused process that holds more is renewed"
    )

    route_model: ModelName = Field(default="haiku", description="model of the call that decides how a task is cut")
    route_budget_usd: Annotated[float, Field(gt=0, le=1e6)] = Field(default=0.1, description="limit of such a call")
    route_timeout_s: Seconds = Field(default=120, description="time for such a call, waiting for a slot included")

    repo: Path | None = Field(default=None, description="repository the tasks work on; none means isolation none")
    isolation: Isolation | None = Field(default=None, description="default isolation")
    target: str | None = Field(default=None, description="target branch; none is what the repository has checked out")
    setup_command: str | None = Field(default=None, description="run once in each new workspace")
    setup_timeout_s: Seconds = Field(default=600, description="limit for the set-up command")
    copy_files: tuple[str, ...] = Field(default=(), description="files copied from the repository into new workspaces")
    clean_ignored: bool = Field(default=False, description="remove ignored files between tasks as well")
    git_filters: tuple[str, ...] = Field(
        default=(),
        description="content filters to run, such as lfs; their commands come from your own git configuration",
    )
    branch_days: Seconds = Field(default=14, description="days that branches of finished work are kept")

    remote: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = Field(
        default=None, description="git remote by which branches travel between nodes; none: bundles through the store"
    )
    repo_url: str | None = Field(
        default=None, description="address that a node clones the repository from when it has none itself"
    )
    parcel_bytes: Annotated[int, Field(ge=1 << 10, le=256 << 20)] = Field(
        default=32 << 20, description="largest bundle of a branch, or transcript, that travels through the store"
    )
    parcel_total_bytes: Annotated[int, Field(ge=1 << 10)] = Field(
        default=512 << 20, description="most that all of them together take in the store; the oldest go"
    )
    port_base: Annotated[int, Field(ge=1024, le=60_000)] = Field(
        default=21_000, description="first port of slot 0; each slot has the next twenty"
    )
    merge_check: str | None = Field(
        default=None, description="command that has to pass on the merged tree before a merge; runs the branch's code"
    )
    merge_check_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=1800, description="limit for that command"
    )

    review_approvers: Literal["anyone", "person"] = Field(
        default="anyone", description="who may approve; person: not over MCP, and reject neither"
    )
    review_expires_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = Field(
        default=None, description="a review that nobody decides for so long fails its task"
    )
    review_remind_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = Field(
        default=86_400, description="pause between two reminder events of a review that waits"
    )

    budget_usd: Annotated[float, Field(ge=0, le=1e9)] | None = Field(
        default=None, description="most the pool may spend"
    )
    task_budget_usd: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="default limit of a task"
    )

    lease_s: Seconds = Field(default=60, description="after this without a sign of life a slot counts as lost")
    slack_s: Annotated[float, Field(ge=0, le=3600)] = Field(default=5, description="between lease end and the next run")
    drain_s: Seconds = Field(default=1800, description="how long a drain waits for running tasks")
    idle_exit_s: Seconds = Field(
        default=1800, description="idle time after which a node started by the MCP server leaves"
    )
    housekeeping_s: Seconds = Field(default=1.0, description="pause between two rounds of the housekeeper")
    retry_base_s: Seconds = Field(default=30, description="first pause after a throttled or failed call")
    retry_max_s: Seconds = Field(default=600, description="longest pause between retries")

    keep_days: Seconds = Field(default=14, description="days that finished tasks are kept")
    log_lines: Annotated[int, Field(ge=10, le=1_000_000)] = Field(
        default=2000, description="live log lines kept per task"
    )
    max_line_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = Field(
        default=64 << 20, description="longest output line"
    )
    max_run_bytes: Annotated[int, Field(ge=1 << 16)] = Field(default=1 << 30, description="most output of one run")
    max_output_bytes: Annotated[int, Field(ge=1 << 10, le=64 << 20)] = Field(
        default=1 << 20, description="most of an answer kept in Redis; the rest is in a file on the node"
    )
    inline_output_bytes: Annotated[int, Field(ge=1 << 10, le=1 << 20)] = Field(
        default=32 << 10,
        description="most of an earlier answer in a later prompt; beyond: its beginning, and a file",
    )
    redis_linger_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=5, description="how long the private Redis stays after its last user"
    )

    @field_validator("home", "repo", "claude")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else Path.cwd() / path.expanduser()

    @field_validator("redis_url")
    @classmethod
    def _scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
            msg = "must begin with redis://, rediss:// or unix://"
            raise ValueError(msg)
        return url

    @property
    def embedded(self) -> bool:
        """True when the pool runs its own private Redis."""
        return self.redis_url is None

    @property
    def pool_dir(self) -> Path:
        """Everything this pool keeps on this machine."""
        return self.home / self.name

    @property
    def node_dir(self) -> Path:
        """Everything this node keeps: slots, logs, journal."""
        return self.pool_dir / "nodes" / self.node

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds."""
        return round(self.lease_s * 1000)

    @property
    def slack_ms(self) -> int:
        """The slack in milliseconds."""
        return round(self.slack_s * 1000)

    @property
    def beat_s(self) -> float:
        """Pause between two heartbeats: five tries before the lease ends."""
        return self.lease_s / 6

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: `load` has already merged file and environment, and knows each origin."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def find_file(start: Path, env: Mapping[str, str]) -> Path | None:
    """The settings file in force, or None. Raises InvalidSettings when the one that is named does not exist."""
    if named := env.get(PREFIX + "CONFIG"):
        if not (path := Path(named).expanduser()).is_file():
            msg = f"{PREFIX}CONFIG names {named!r}, which is no file."
            raise InvalidSettings(msg)
        return path
    return next((path for folder in (start, *start.parents) if (path := folder / FILE_NAME).is_file()), None)


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        msg = f"{path} can't be read: {error}."
        raise InvalidSettings(msg) from None


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    """`CLAUDE_POOL_X` for every setting x; a tuple takes names separated by commas or blanks."""
    found: dict[str, Any] = {}
    for name, info in PoolConfig.model_fields.items():
        if raw := env.get(PREFIX + name.upper()):
            is_list = "tuple" in str(info.annotation)
            found[name] = tuple(part for part in re.split(r"[,\s]+", raw) if part) if is_list else raw
    return found


def load(
    *, env: Mapping[str, str] | None = None, cwd: Path | None = None, **arguments: Any
) -> tuple[PoolConfig, dict[str, str]]:
    """The settings in force and the origin of each: `default`, the file's path, the variable's name or `argument`.

    Arguments that are None count as not given. Raises InvalidSettings.
    """
    env = os.environ if env is None else env
    path = find_file(Path.cwd() if cwd is None else cwd, env)
    given = {name: value for name, value in arguments.items() if value is not None}
    layers = ((str(path), _from_file(path)), ("environment", _from_env(env)), ("argument", given))
    values: dict[str, Any] = {}
    origins = dict.fromkeys(PoolConfig.model_fields, "default")
    for origin, layer in layers:
        for name, value in layer.items():
            values[name] = value
            origins[name] = PREFIX + name.upper() if origin == "environment" else origin
    try:
        return PoolConfig(**values), origins
    except ValidationError as error:
        raise InvalidSettings(_explain(error, origins)) from None


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    def one(item: Any) -> str:
        name = str(item["loc"][0]) if item["loc"] else "settings"
        if item["type"] == "extra_forbidden":
            return f"there is no setting {name!r} (from {origins.get(name, 'argument')})"
        return f"{name} = {item['input']!r} (from {origins.get(name, 'argument')}): {item['msg']}"

    return "; ".join(one(item) for item in error.errors(include_url=False)) + "."
