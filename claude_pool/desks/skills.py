"""Skills at the counter: which there are, and the prompt that one makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from claude_pool import skills
from claude_pool.desks.base import Desk
from claude_pool.skills import Found


class SkillDesk(Desk):
    """The verbs for skills. They are looked for from the pool's repository, else from the working directory."""

    def skills(self, *, start: Path | None = None) -> list[Found]:
        """Every skill that can be seen, with what is wrong with those that can't be used."""
        here, home = skills.places(self.config.repo, self.config.home)
        return skills.find(start or here, home)

    def skill(self, name: str, given: str | Mapping[str, str] = "", *, start: Path | None = None) -> str:
        """The prompt of a skill with its arguments, ready for `submit`. Raises NotFound, InvalidRequest."""
        here, home = skills.places(self.config.repo, self.config.home)
        return skills.load(name, start or here, home).prompt(given)
