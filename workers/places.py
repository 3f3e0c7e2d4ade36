"""Place: the directories of one slot. Paths only; `workers.furnish` makes them.

    <node_dir>/slots/<n>/home     HOME of a run, when the node has none itself
                         claude   CLAUDE_CONFIG_DIR: settings, locks, sockets of this slot alone
                         tmp      TMPDIR of everything the run starts
                         work     default working directory, for isolation none without `working_dir`
    <node_dir>/projects           transcripts of all sessions; each slot's claude/projects leads here
    <node_dir>/logs               whole event logs, one file a run
    <node_dir>/journal            results that could not be delivered yet

A config directory per slot keeps a damaged `.claude.json` from stopping every slot. The transcripts are shared, because
`--resume` looks for a session in `projects` of the config directory only: this way any slot continues any session.
"""

from __future__ import annotations

from pathlib import Path

from claude_pool.config import PoolConfig
from claude_pool.models.base import Record


class Place(Record):
    """Where one slot keeps its things."""

    root: Path
    home: Path
    config: Path
    tmp: Path
    work: Path
    logs: Path
    projects: Path
    journal: Path

    @classmethod
    def of(cls, config: PoolConfig, number: int) -> Place:
        """The place of the n-th slot of this node."""
        node_dir = config.node_dir
        root = node_dir / "slots" / str(number)
        return cls(
            root=root,
            home=root / "home",
            config=root / "claude",
            tmp=root / "tmp",
            work=root / "work",
            logs=node_dir / "logs",
            projects=node_dir / "projects",
            journal=node_dir / "journal",
        )

    @property
    def number(self) -> int:
        """Which slot of its node."""
        return int(self.root.name)

    @property
    def own(self) -> tuple[Path, ...]:
        """Directories of this slot alone."""
        return (self.root, self.home, self.config, self.tmp, self.work)

    @property
    def shared(self) -> tuple[Path, ...]:
        """Directories that all slots of the node use."""
        return (self.logs, self.projects, self.journal)

    def log_path(self, run_id: str) -> Path:
        """The whole event log of one run."""
        return self.logs / f"{run_id}.jsonl"
