from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from claude_pool.git import STARTER
from claude_pool.workspace.orphans import end_orphans


def test_a_git_process_that_outlived_its_slot_is_ended_before_the_repair(tmp_path: Path) -> None:
    program = "import subprocess, sys, os\nprint(subprocess.Popen(['sleep', '100'], stdout=-3).pid, flush=True)"
    env = {"PATH": os.environ["PATH"], "GIT_DIR": str(tmp_path), STARTER: "1"}
    started = subprocess.run([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, check=True)
    pid = int(started.stdout)
    assert end_orphans(tmp_path / "elsewhere") == 0
    assert end_orphans(tmp_path) == 1
    assert end_orphans(tmp_path) == 0
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_git_process_of_a_living_program_is_left_alone(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "GIT_DIR": str(tmp_path), STARTER: str(os.getpid())}
    with subprocess.Popen(["sleep", "100"], env=env) as process:
        try:
            assert end_orphans(tmp_path) == 0
            assert process.poll() is None
        finally:
            process.kill()
