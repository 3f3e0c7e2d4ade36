import os
from pathlib import Path

import pytest

from claude_pool.config import PoolConfig
from workers.furnish import CREDENTIALS, furnish, node_config_dir, share_sign_in, write_files
from workers.places import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(PoolConfig(home=tmp_path / "pool", node="n1"), 0)


@pytest.fixture
def sign_in(tmp_path: Path) -> Path:
    folder = tmp_path / "user" / ".claude"
    folder.mkdir(parents=True)
    (folder / CREDENTIALS).write_text("dummy")
    return folder


def test_everything_a_run_needs_is_made_private_and_making_it_again_is_harmless(place: Place) -> None:
    for _ in range(2):
        furnish(place)
    assert all(path.is_dir() for path in (*place.own, *place.shared))
    assert {path.stat().st_mode & 0o777 for path in (*place.own, *place.shared)} == {0o700}


def test_a_transcript_written_by_one_slot_is_seen_by_another(place: Place, tmp_path: Path) -> None:
    other = Place.of(PoolConfig(home=tmp_path / "pool", node="n1"), 1)
    furnish(place)
    furnish(other)
    (place.config / "projects" / "s.jsonl").write_text("x")
    assert (other.config / "projects" / "s.jsonl").read_text() == "x"


def test_transcripts_that_a_slot_kept_for_itself_are_moved_to_the_others(place: Place) -> None:
    own = place.config / "projects" / "-work"
    own.mkdir(parents=True)
    (own / "s.jsonl").write_text("old")
    furnish(place)
    assert (place.config / "projects").is_symlink()
    assert (place.projects / "-work" / "s.jsonl").read_text() == "old"


def test_the_nodes_sign_in_is_linked_and_a_renewed_one_reaches_all(place: Place, sign_in: Path) -> None:
    furnish(place, sign_in=sign_in)
    link = place.config / CREDENTIALS
    assert link.readlink() == sign_in / CREDENTIALS
    link.write_text("renewed")
    assert (sign_in / CREDENTIALS).read_text() == "renewed"


def test_a_newer_sign_in_of_the_slot_is_kept_and_an_older_one_replaced(place: Place, sign_in: Path) -> None:
    furnish(place)
    own = place.config / CREDENTIALS
    own.write_text("own")
    os.utime(sign_in / CREDENTIALS, (1000, 1000))
    os.utime(own, (2000, 2000))
    assert not share_sign_in(place, sign_in)
    assert own.read_text() == "own"
    os.utime(own, (500, 500))
    assert share_sign_in(place, sign_in)
    assert own.is_symlink()


def test_after_a_sign_out_no_dead_link_stays(place: Place, sign_in: Path) -> None:
    furnish(place, sign_in=sign_in)
    (sign_in / CREDENTIALS).unlink()
    assert not share_sign_in(place, sign_in)
    assert not (place.config / CREDENTIALS).is_symlink()


def test_the_nodes_config_directory_is_found_as_the_cli_finds_it() -> None:
    assert node_config_dir({"CLAUDE_CONFIG_DIR": "/c", "HOME": "/h"}) == Path("/c")
    assert node_config_dir({"HOME": "/h"}) == Path("/h/.claude")
    assert node_config_dir({}) is None


def test_files_are_private_and_replace_what_was_planted(tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "mcp.json", tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    target.symlink_to(elsewhere)
    write_files({str(target): "{}"})
    assert not target.is_symlink()
    assert (target.read_text(), elsewhere.read_text()) == ("{}", "untouched")
    assert target.stat().st_mode & 0o777 == 0o600
