"""The list of verbs and what is imported for one of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from claude_pool.cli.app import VERBS, build, function_name

PROMISED = {"up", "down", "worker", "mcp", "doctor", "config", "demo", "run", "submit", "wait", "result", "list",
            "status", "logs", "cancel", "scale", "drain"}  # fmt: skip


def test_the_promised_verbs_are_there() -> None:
    assert set(VERBS) >= PROMISED


def test_one_verb_is_built_alone_and_an_unknown_one_brings_all() -> None:
    assert [command.name for command in build("status").registered_commands] == ["status"]
    assert {command.name for command in build("frobnicate").registered_commands} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_and_functions_have_the_same_names(verb: str) -> None:
    assert function_name(verb).rstrip("_") == verb.replace("-", "_")


def test_the_shell_can_complete_verbs_and_flags() -> None:
    def complete(words: str) -> list[str]:
        count = len(words.split()) - (0 if words.endswith(" ") else 1)
        env = {"_CLAUDE_POOL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        code = "from claude_pool.cli.main import main; main([])"
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        return done.stdout.split()

    assert complete("claude-pool su") == ["submit"]
    assert "--max-budget-usd" in complete("claude-pool run --max-")


def test_a_verb_that_needs_no_pool_imports_neither_celery_nor_redis() -> None:
    code = (
        "import sys; from claude_pool.cli.main import main; main(['config', '--json']);"
        "print(sorted({'celery', 'redis', 'kombu', 'mcp'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
