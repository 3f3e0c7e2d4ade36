"""What the simulated API remembers while it runs: settings, rules, how often a fault was played, and what was asked."""

from __future__ import annotations

import fnmatch
import json
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_pool.testing.simulated.script import Json

DEFAULT_MODELS: Final = (
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "claude-fable-5-2",
    "claude-sonnet-5",
    "claude-opus-4-[0-9]*",
    "claude-sonnet-4-[0-9]*",
    "claude-haiku-4-5-20251001",
    "claude-3-5-haiku-20241022",
    "claude-*-fake",
)
"""Names or shell patterns; the first four are what the CLI's aliases mean (2.1.330)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server is to behave. Durations are seconds."""

    host: str = "127.0.0.1"
    port: int = 0
    latency_s: float = 0.0
    """Waited before every answer."""
    models: tuple[str, ...] = DEFAULT_MODELS
    """Model names (or shell patterns) that exist; others get a 404."""
    prompt_head: int = 80
    """Characters of the prompt to log."""
    log: Path | None = None
    """One JSON line a request is appended here."""
    dump: Path | None = None
    """Folder for whole request bodies."""


class State:
    """Shared by all requests; every change under one lock."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._log = settings.log.open("a", buffering=1) if settings.log else None
        self._rules: list[Json] = []
        self._used: dict[Hashable, int] = {}
        self._records: list[Json] = []
        self._count = 0
        self._active = 0
        self._peak = 0

    def reset(self) -> None:
        with self._lock:
            self._rules, self._used, self._records = [], {}, []
            self._count = self._active = self._peak = 0

    def close(self) -> None:
        if self._log:
            self._log.close()

    def set_rules(self, rules: list[Json]) -> None:
        """Replace all rules; their counts begin again."""
        with self._lock:
            self._rules = list(rules)
            self._used = {key: n for key, n in self._used.items() if not (isinstance(key, tuple) and key[0] == "rule")}

    def spend(self, key: Hashable, times: int | None) -> bool:
        """Whether a fault is still to be played: at most `times` times, or always."""
        with self._lock:
            self._used[key] = self._used.get(key, 0) + 1
            return times is None or self._used[key] <= times

    def rule_for(self, model: str, prompt: str) -> Json | None:
        """The first rule that fits and is not used up."""
        with self._lock:
            rules = list(enumerate(self._rules))
        for index, rule in rules:
            fits = fnmatch.fnmatchcase(model, str(rule.get("model", "*"))) and str(rule.get("match", "")) in prompt
            if fits and self.spend(("rule", index), rule.get("times")):
                return rule
        return None

    def knows(self, model: str) -> bool:
        return any(fnmatch.fnmatchcase(model, known) for known in self.settings.models)

    def enter(self) -> int:
        """A request begins; gives its number."""
        with self._lock:
            self._count += 1
            self._active += 1
            self._peak = max(self._peak, self._active)
            return self._count

    def leave(self, record: Json) -> None:
        """A request ended; this is what is to be known of it."""
        with self._lock:
            self._active = max(0, self._active - 1)
            self._records.append(record)
            if self._log and not self._log.closed:
                self._log.write(json.dumps(record) + "\n")

    def records(self) -> list[Json]:
        with self._lock:
            return list(self._records)

    def health(self) -> Json:
        with self._lock:
            return {"ok": True, "requests": self._count, "active": self._active, "peak": self._peak}
