"""The command line of the fake `claude`: the flags of the real one that the pool uses, and what is wrong with them.

Flags that the fake does nothing with are accepted; one that the real CLI does not have is an error, as there (exit 1).
"""

from __future__ import annotations

import json
import os
import re

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from typing import Any

VERSION = "2.1.330"
MODELS = {
    "opus": "claude-opus-5-5",
    "sonnet": "claude-sonnet-5-5",
    "haiku": "claude-haiku-5-5",
    "fable": "claude-fable-5-2",
}

_SWITCHES = frozenset(
    {
        "-p",
        "--print",
        "--verbose",
        "--version",
        "-v",
        "--include-partial-messages",
        "--replay-user-messages",
        "--include-hook-events",
        "--forward-subagent-text",
        "--strict-mcp-config",
        "--fork-session",
        "--continue",
        "-c",
        "--no-session-persistence",
        "--disable-slash-commands",
        "--bare",
        "--safe-mode",
        "--restricted",
        "--dangerously-skip-permissions",
        "--allow-dangerously-skip-permissions",
        "--exclude-dynamic-system-prompt-sections",
    }
)
_VALUED = frozenset(
    {
        "--output-format",
        "--input-format",
        "--model",
        "--fallback-model",
        "--effort",
        "--max-turns",
        "--max-budget-usd",
        "--permission-mode",
        "--permission-prompts",
        "--permission-prompt-tool",
        "--system-prompt",
        "--system-prompt-file",
        "--append-system-prompt",
        "--append-system-prompt-file",
        "--system-prompt-snapshot",
        "--json-schema",
        "--settings",
        "--setting-sources",
        "--session-id",
        "--resume",
        "-r",
        "--agents",
        "--agent",
        "--thinking",
        "--max-thinking-tokens",
        "--debug-file",
        "--name",
        "-n",
        "--debug",
    }
)
_LISTS = frozenset(
    {"--allowedTools", "--disallowedTools", "--tools", "--mcp-config", "--add-dir", "--betas", "--plugin-dir"}
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Wrong(Exception):
    """The command line can't be used; the real CLI says so on stderr and exits 1 without any JSON."""


class Options:
    """One parsed command line."""

    def __init__(self, argv: list[str]) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.switches: set[str] = set()
        self.prompt: str | None = None
        self._parse(argv)

    def _parse(self, argv: list[str]) -> None:
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.partition("=")
            if word == "--":
                self.prompt = " ".join(rest) or self.prompt
                return
            if not word.startswith("-"):
                self.prompt = word
            elif word in _SWITCHES:
                self.switches.add(word)
            elif name in _VALUED:
                self.values[name] = value if equals else self._taken(name, rest)
            elif name in _LISTS:
                self.lists[name] = [value] if equals else self._many(rest)
            else:
                raise Wrong(f"error: unknown option '{word}'")

    @staticmethod
    def _taken(name: str, rest: list[str]) -> str:
        if not rest:
            raise Wrong(f"error: option '{name} <value>' argument missing")
        return rest.pop(0)

    @staticmethod
    def _many(rest: list[str]) -> list[str]:
        taken: list[str] = []
        while rest and not rest[0].startswith("-"):
            taken.append(rest.pop(0))
        return taken

    @property
    def version(self) -> bool:
        return bool(self.switches & {"--version", "-v"})

    @property
    def persists(self) -> bool:
        return "--no-session-persistence" not in self.switches

    @property
    def partial(self) -> bool:
        return "--include-partial-messages" in self.switches

    @property
    def replays(self) -> bool:
        return "--replay-user-messages" in self.switches

    @property
    def forks(self) -> bool:
        return "--fork-session" in self.switches

    @property
    def model(self) -> str:
        chosen = self.values.get("--model", "opus")
        return MODELS.get(chosen, chosen)

    @property
    def resume(self) -> str | None:
        return self.values.get("--resume") or self.values.get("-r")

    @property
    def session_id(self) -> str | None:
        return self.values.get("--session-id")

    @property
    def max_turns(self) -> int | None:
        raw = self.values.get("--max-turns") or os.environ.get("CLAUDE_CODE_MAX_TURNS")
        return int(raw) if raw else None

    @property
    def max_budget_usd(self) -> float | None:
        raw = self.values.get("--max-budget-usd")
        return float(raw) if raw else None

    @property
    def schema(self) -> dict[str, Any] | None:
        raw = self.values.get("--json-schema")
        return None if raw is None else json.loads(raw)

    def check(self) -> None:
        """Refuse what the real CLI refuses before it says anything on stdout."""
        if self.values.get("--output-format") == "stream-json" and "--verbose" not in self.switches:
            raise Wrong("Error: When using --print, --output-format=stream-json requires --verbose")
        if self.session_id and not _UUID.fullmatch(self.session_id):
            raise Wrong("Error: Invalid session ID. Must be a valid UUID.")
        if self.session_id and self.resume and not self.forks:
            raise Wrong("Error: --session-id can only be used with --resume if --fork-session is also specified.")
        try:
            _ = self.schema, self.max_turns, self.max_budget_usd
        except ValueError as error:
            raise Wrong(f"Error: invalid value on the command line: {error}") from None
