"""What an agent can write into a repository, and that nothing of it runs in our git calls. One test per trick.

Every trap is live: where there is a `proof`, the user's own git steps into it first.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace import MergeRequest, Repository


@dataclass(frozen=True)
class Trap:
    project: Any
    tree: Path
    script: Path
    marker: Path

    @property
    def common(self) -> Path:
        return self.project.path / ".git"

    @property
    def admin(self) -> Path:
        return self.common / "worktrees" / self.tree.name

    def git(self, *words: str, **how: Any) -> str:
        return self.project.git("-C", str(self.tree), *words, **how)

    def config(self, **keys: str) -> None:
        for key, value in keys.items():
            self.git(
                "config",
                key.replace("__", "."),
                value.replace("SCRIPT", str(self.script)).replace("ENDER", f"{self.script}.end"),
            )

    def write(self, name: str, text: str) -> Path:
        (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (self.tree / name).write_text(text)
        return self.tree / name


def hooks(trap: Trap) -> None:
    for name in (
        "post-checkout",
        "pre-commit",
        "post-commit",
        "post-index-change",
        "reference-transaction",
        "post-merge",
    ):
        shutil.copy(trap.script, trap.common / "hooks" / name)


def hooks_path(trap: Trap) -> None:
    trap.write("hooks/post-index-change", "").unlink()
    shutil.copy(trap.script, trap.tree / "hooks" / "post-index-change")
    trap.config(core__hooksPath=str(trap.tree / "hooks"))


def filters(trap: Trap) -> None:
    trap.config(filter__x__clean="SCRIPT", filter__x__smudge="SCRIPT", filter__x__required="true")
    trap.write(".gitattributes", "* filter=x\n")


def filter_process(trap: Trap) -> None:
    trap.config(filter__x__process="SCRIPT")
    (trap.common / "info" / "attributes").write_text("* filter=x\n")


def filter_with_an_odd_name(trap: Trap) -> None:
    with (trap.common / "config").open("a") as config:
        config.write(f'[filter "a=b.c\\"d"]\n\tclean = {trap.script}\n')
    trap.write(".gitattributes", '* filter=a=b.c"d\n')


def attributes_file(trap: Trap) -> None:
    trap.config(core__attributesFile=str(trap.write("attributes", "* filter=x\n")), filter__x__clean="SCRIPT")


def textconv(trap: Trap) -> None:
    trap.config(diff__x__textconv="SCRIPT", diff__x__command="SCRIPT")
    (trap.common / "info" / "attributes").write_text("* diff=x\n")
    trap.write(".gitattributes", "* diff=x\n")


def merge_driver(trap: Trap) -> None:
    trap.config(merge__x__driver="SCRIPT %A %O %B", merge__default="x")
    (trap.common / "info" / "attributes").write_text("* merge=x\n")
    trap.write(".gitattributes", "* merge=x\n")


def include(trap: Trap) -> None:
    evil = trap.write("evil.config", f'[core]\n\tfsmonitor = {trap.script}\n[filter "x"]\n\tclean = {trap.script}\n')
    trap.write(".gitattributes", "* filter=x\n")
    trap.config(include__path=str(evil))


def include_if(trap: Trap) -> None:
    evil = trap.write("evil.config", f"[core]\n\tfsmonitor = {trap.script}\n")
    trap.git("config", f"includeIf.gitdir:{trap.common}/.path", str(evil))


def worktree_config(trap: Trap) -> None:
    trap.git("config", "extensions.worktreeConfig", "true")
    trap.git("config", "--worktree", "core.fsmonitor", str(trap.script))


def other_git_dir(trap: Trap) -> None:
    evil = trap.tree.parent / "evil"
    trap.project.git("init", "-q", str(evil))
    trap.project.git("-C", str(evil), "config", "core.fsmonitor", str(trap.script))
    (trap.tree / ".git").write_text(f"gitdir: {evil}/.git\n")


def other_common_dir(trap: Trap) -> None:
    evil = trap.tree.parent / "evil"
    trap.project.git("clone", "-q", "--bare", str(trap.project.path), str(evil))
    trap.project.git("-C", str(evil), "config", "core.fsmonitor", str(trap.script))
    (trap.admin / "commondir").write_text(f"{evil}\n")


def git_dir_instead_of_the_pointer(trap: Trap) -> None:
    (trap.tree / ".git").unlink()
    trap.project.git("init", "-q", str(trap.tree))
    trap.git("config", "core.fsmonitor", str(trap.script))


def submodule_with_its_own_traps(trap: Trap) -> None:
    trap.project.git("clone", "-q", str(trap.project.path), str(trap.tree / "sub"))
    trap.git("-C", str(trap.tree / "sub"), "config", "core.fsmonitor", str(trap.script))
    trap.git("-C", str(trap.tree / "sub"), "config", "filter.x.clean", str(trap.script))
    trap.write("sub/.gitattributes", "* filter=x\n")
    trap.write("sub/README.md", "dirty\n")
    trap.write(".gitmodules", '[submodule "sub"]\n\tpath = sub\n\turl = ./sub\n')
    trap.git("update-index", "--add", "--cacheinfo", f"160000,{trap.project.tip()},sub")
    trap.git("config", "submodule.sub.update", f"!{trap.script}")
    trap.git("config", "submodule.sub.url", f"ext::{trap.script}")
    trap.git("config", "submodule.recurse", "true")
    trap.git("config", "status.submoduleSummary", "true")
    trap.git("config", "diff.submodule", "diff")


def promisor(trap: Trap) -> None:
    trap.config(
        extensions__partialClone="evil",
        core__repositoryformatversion="1",
        remote__evil__promisor="true",
        remote__evil__url=str(trap.project.path),
        remote__evil__uploadpack="ENDER",
    )


def alternates(trap: Trap) -> None:
    other = trap.tree.parent / "other.git"
    trap.project.git("clone", "-q", "--bare", str(trap.project.path), str(other))
    (trap.common / "objects" / "info" / "alternates").write_text(f"{other}/objects\n")
    trap.config(core__alternateRefsCommand="SCRIPT")


def setting(**keys: str) -> Callable[[Trap], None]:
    return lambda trap: trap.config(**keys)


STATUS = ("status",)
TRICKS: dict[str, tuple[Callable[[Trap], None], tuple[str, ...] | None]] = {
    "hooks": (hooks, ("commit", "--allow-empty", "-qm", "x")),
    "core.hooksPath": (hooks_path, ("reset", "-q")),
    "core.fsmonitor": (setting(core__fsmonitor="SCRIPT"), STATUS),
    "filter by .gitattributes": (filters, ("add", "-A")),
    "filter process by info/attributes": (filter_process, ("add", "-A")),
    "filter with an odd name": (filter_with_an_odd_name, ("add", "-A")),
    "core.attributesFile": (attributes_file, ("add", "-A")),
    "textconv": (textconv, ("diff", "HEAD")),
    "diff.external": (setting(diff__external="SCRIPT"), ("diff", "HEAD")),
    "merge driver": (merge_driver, None),
    "include": (include, STATUS),
    "includeIf": (include_if, STATUS),
    "configuration of the worktree": (worktree_config, STATUS),
    "pointer to another git directory": (other_git_dir, STATUS),
    "pointer to another repository": (other_common_dir, STATUS),
    "git directory in the tree": (git_dir_instead_of_the_pointer, STATUS),
    "submodule": (submodule_with_its_own_traps, STATUS),
    "promisor remote": (promisor, ("cat-file", "-e", "1" * 40)),
    "alternates": (alternates, ("fetch", "-q", ".", "HEAD")),
    "gpg.program": (
        setting(gpg__program="SCRIPT", commit__gpgSign="true", log__showSignature="true"),
        ("commit", "--allow-empty", "-qm", "x"),
    ),
    "core.editor": (setting(core__editor="SCRIPT", sequence__editor="SCRIPT"), ("commit", "--allow-empty", "-q")),
    "core.pager": (setting(core__pager="SCRIPT", pager__diff="SCRIPT"), None),
    "alias": (setting(alias__status="!SCRIPT", alias__add="!SCRIPT", alias__x="!SCRIPT"), ("x",)),
    "credential.helper": (setting(credential__helper="!SCRIPT", core__askPass="SCRIPT"), None),
    "core.sshCommand": (setting(core__sshCommand="ENDER"), ("ls-remote", "ssh://localhost/x")),
    "remote with a program": (setting(remote__origin__url="ext::ENDER", protocol__ext__allow="always"), ("fetch",)),
    "trailer command": (setting(trailer__x__command="SCRIPT", trailer__x__ifmissing="add"), None),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_that_a_run_plants_is_executed_by_us(
    project: Any, slots: Any, repository: Repository, tmp_path: Path, trick: str
) -> None:
    plant, proof = TRICKS[trick]
    marker, script = tmp_path / "executed", tmp_path / "trap.sh"
    for path, end in ((script, "exec cat"), (script.with_name("trap.sh.end"), "exit 1")):
        path.write_text(f"#!/bin/sh\ntouch {marker}\n{end}\n")
        path.chmod(0o755)
    configuration = (project.path / ".git" / "config").read_bytes()
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        (workspace.path / "README.md").write_text("# By the run\n")
        plant(Trap(project, workspace.path, script, marker))
        if proof is not None:
            project.git("-C", str(workspace.path), *proof, check=False)
            assert marker.exists(), "the trap is no trap"
            marker.unlink()
        repository.branches()
        repository.forecast("pool/t-1")
        facts = workspace.save("Work")
    assert facts is not None
    with slots(1).open(WorkspaceJob(task_id="t-1", continues=True)) as workspace:
        (workspace.path / "b.txt").write_text("b\n")
    assert not marker.exists()
    project.git(
        "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "commit", "--allow-empty", "-qm", "Other"
    )
    assert repository.diff("pool/t-1", against="target").files_total >= 2
    assert repository.export_bundle("pool/t-1", "main")
    for how in ("squash", "rebase", "merge"):
        repository.merge(MergeRequest(branch="pool/t-1", how=how, check_command="true"))
    repository.gc()
    assert not marker.exists()
    assert (project.path / ".git" / "config").read_bytes() == configuration
    assert project.git("for-each-ref", "refs/claude-pool/arrived") == ""


def test_a_work_tree_setting_does_not_turn_our_calls_against_another_folder(
    project: Any, slots: Any, repository: Repository, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "README.md").write_text("precious")
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        (workspace.path / "a.txt").write_text("a")
        project.git("-C", str(workspace.path), "config", "core.worktree", str(canary))
        repository.merge(MergeRequest(branch="pool/t-1"))
        assert "core.worktree" in workspace.save("Work").warnings[0]
    with slots().open(WorkspaceJob(task_id="t-2")):
        pass
    assert [path.name for path in canary.iterdir()] == ["README.md"]
    assert (canary / "README.md").read_text() == "precious"


def test_a_folder_that_became_a_link_out_of_the_tree_is_not_written_through(
    project: Any, slots: Any, tmp_path: Path
) -> None:
    project.write("src/file.txt", "ours\n")
    project.write(".env", "SECRET=1\n")
    project.commit()
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file.txt").write_text("precious")
    slot = slots(copy_files=("conf/.env", ".env"))
    project.write("conf/.env", "SECRET=2\n")
    with slot.open(WorkspaceJob(task_id="t-1")) as workspace:
        shutil.rmtree(workspace.path / "src")
        (workspace.path / "src").symlink_to(canary)
        shutil.rmtree(workspace.path / "conf", ignore_errors=True)
        (workspace.path / "conf").symlink_to(canary)
        assert "src" in workspace.save("Work").paths
    with slot.open(WorkspaceJob(task_id="t-2")) as workspace:
        assert (workspace.path / "src" / "file.txt").read_text() == "ours\n"
        assert not (workspace.path / "src").is_symlink()
    assert {path.name: path.read_text() for path in canary.iterdir()} == {"file.txt": "precious"}


def test_names_that_look_like_options_are_names(
    project: Any, slots: Any, repository: Repository, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    names = (f"--upload-pack=touch {marker}", "-x", "--output=x", "--exec=touch x", "$(touch x)", "a;touch x")
    for name in names:
        (project.path / ".git" / "refs" / "heads" / name.replace("/", "_")).write_text(f"{project.tip()}\n")
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        for name in names:
            (workspace.path / name.replace("/", "_")).write_text("a")
        facts = workspace.save("--amend --no-verify")
    assert facts.files == len(names)
    assert repository.merge(MergeRequest(branch="pool/t-1", message="--file=/etc/passwd")).merged
    assert project.git("log", "-1", "--format=%B") == "--file=/etc/passwd"
    assert [branch.name for branch in repository.branches()] == ["pool/t-1"]
    assert not marker.exists()


def test_a_replaced_commit_does_not_show_another_diff_than_what_is_merged(
    project: Any, work: Any, repository: Repository
) -> None:
    evil = work(0, "t-1", {"evil.txt": "evil\n"}).tip
    good = work(0, "t-2", {"good.txt": "good\n"}).tip
    project.git("replace", evil, good)
    assert [file.path for file in repository.diff("pool/t-1").files] == ["evil.txt"]


def test_a_branch_that_is_another_name_for_the_target_does_not_move_it(
    project: Any, slots: Any, repository: Repository
) -> None:
    main = project.tip("main")
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        project.git("-C", str(workspace.path), "checkout", "-q", "--detach")
        project.git("symbolic-ref", "refs/heads/pool/t-1", "refs/heads/main")
        (workspace.path / "a.txt").write_text("a")
        workspace.save("Work")
    assert project.tip("main") == main
    assert project.show("pool/t-1", "a.txt") == "a"


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("hooks/pre-commit", lambda git_dir: (git_dir / "hooks" / "pre-commit").write_text("#!/bin/sh\n")),
        ("hooks", lambda git_dir: (shutil.rmtree(git_dir / "hooks"), (git_dir / "hooks").symlink_to("/tmp"))),
        ("info/attributes", lambda git_dir: (git_dir / "info" / "attributes").write_text("* filter=x\n")),
        ("info/exclude", lambda git_dir: (git_dir / "info" / "exclude").write_text("*\n")),
        ("config", lambda git_dir: (git_dir / "config").write_text("rubbish [[[")),
        ("config", lambda git_dir: (git_dir / "config").unlink()),
        ("config", lambda git_dir: ((git_dir / "config").unlink(), (git_dir / "config").symlink_to("/etc/passwd"))),
    ],
)
def test_what_a_run_changes_for_all_is_undone_and_reported(
    project: Any, slots: Any, home: Path, name: str, harm: Callable[[Path], object]
) -> None:
    git_dir = project.path / ".git"
    shutil.rmtree(git_dir / "hooks")
    project.write(".git/hooks/pre-push", "#!/bin/sh\n# the user's\n").chmod(0o755)
    before = {
        path: path.read_bytes() for path in git_dir.rglob("*") if path.is_file() and path.parent.name != "objects"
    }
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        (workspace.path / "a.txt").write_text("a")
        harm(git_dir)
        facts = workspace.save("Work")
    assert name.partition("/")[0] in facts.warnings[0] or "git configuration" in facts.warnings[0]
    assert "undone" in facts.warnings[0]
    assert str(home) in facts.warnings[-1]
    for path in (git_dir / "config", git_dir / "hooks" / "pre-push", git_dir / "info" / "exclude"):
        assert path.read_bytes() == before[path]
        assert not path.is_symlink()
    assert not (git_dir / "hooks" / "pre-commit").exists()
    assert (git_dir / "hooks" / "pre-push").stat().st_mode & 0o111
    assert facts.paths == ("a.txt",)


def test_harmless_settings_of_branches_stay(project: Any, slots: Any) -> None:
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        (workspace.path / "a.txt").write_text("a")
        project.git("config", "branch.feature.merge", "refs/heads/feature")
        assert workspace.save("Work").warnings == ()
        project.git("config", "core.fsmonitor", "evil")
        project.git("config", "branch.other.merge", "refs/heads/other")
    assert project.git("config", "branch.feature.merge") == "refs/heads/feature"
    assert project.git("config", "branch.other.merge") == "refs/heads/other"
    assert project.git("config", "--get", "core.fsmonitor", check=False) == ""


def test_what_one_of_two_runs_plants_is_not_taken_for_the_original_by_the_other(project: Any, slots: Any) -> None:
    with slots(0).open(WorkspaceJob(task_id="t-1")) as one:
        project.git("config", "core.fsmonitor", "evil")
        with slots(1).open(WorkspaceJob(task_id="t-2")) as two:
            (one.path / "a.txt").write_text("a")
            assert "core.fsmonitor" in one.save("Work").warnings[0]
            (two.path / "a.txt").write_text("a")
            assert two.save("Work").warnings == ()
        with slots(2).open(WorkspaceJob(task_id="t-3")):
            pass
    assert project.git("config", "--get", "core.fsmonitor", check=False) == ""


def test_changes_that_the_user_makes_between_runs_are_the_users(project: Any, slots: Any, work: Any) -> None:
    work(0, "t-1", {"a.txt": "a"})
    project.git("config", "core.editor", "vim")
    project.write(".git/hooks/pre-commit", "#!/bin/sh\n")
    assert work(0, "t-2", {"a.txt": "a"}).warnings == ()
    assert project.git("config", "core.editor") == "vim"
    assert (project.path / ".git" / "hooks" / "pre-commit").exists()
