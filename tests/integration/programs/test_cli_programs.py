"""The command line as a program: completion, what it imports, readers that go away."""

from __future__ import annotations

import os
import subprocess
import sys

from claude_pool.cli import output


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


def test_a_reader_that_goes_away_ends_the_program_quietly() -> None:
    code = "from claude_pool.cli.main import main; import sys; sys.exit(main(['config']))"
    receiver, sender = os.pipe()
    os.close(receiver)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=sender, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(sender)
    assert (done.returncode, done.stderr) == (output.PIPE_CLOSED, b"")


def test_importing_the_package_brings_nothing_heavy_with_it() -> None:
    program = (
        "import sys, claude_pool, claude_pool.launch\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) - {"__main__", "sitecustomize"} <= {"claude_pool", "_distutils_hack"}
