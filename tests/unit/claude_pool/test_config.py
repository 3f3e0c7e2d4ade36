from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from claude_pool.config import PREFIX, PoolConfig, find_file, load
from claude_pool.errors import InvalidSettings


def write(folder: Path, text: str) -> Path:
    path = folder / "claude-pool.toml"
    path.write_text(text)
    return path


def test_without_anything_said_the_defaults_hold(tmp_path: Path) -> None:
    config, origins = load(env={}, cwd=tmp_path)
    assert config.slots == 2
    assert config.embedded
    assert set(origins.values()) == {"default"}
    assert set(origins) == set(PoolConfig.model_fields)


def test_arguments_beat_variables_beat_the_file_beats_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, 'slots = 3\nlease_s = 30\nmodel = "haiku"\n')
    env = {"CLAUDE_POOL_SLOTS": "4", "CLAUDE_POOL_LEASE_S": "20"}
    config, origins = load(env=env, cwd=tmp_path, slots=5)
    assert (config.slots, config.lease_s, config.model) == (5, 20, "haiku")
    assert (origins["slots"], origins["lease_s"], origins["model"]) == ("argument", "CLAUDE_POOL_LEASE_S", str(path))


def test_an_argument_of_none_was_not_given(tmp_path: Path) -> None:
    assert load(env={"CLAUDE_POOL_SLOTS": "4"}, cwd=tmp_path, slots=None)[0].slots == 4


def test_the_nearest_file_upwards_is_in_force(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    outer = write(tmp_path, "slots = 3")
    assert find_file(inner, {}) == outer
    nearer = write(tmp_path / "a", "slots = 4")
    assert find_file(inner, {}) == nearer


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="no file"):
        load(env={PREFIX + "CONFIG": str(tmp_path / "gone.toml")}, cwd=tmp_path)
    path = tmp_path / "other.toml"
    path.write_text("slots = 9")
    assert load(env={PREFIX + "CONFIG": str(path)}, cwd=tmp_path)[0].slots == 9


@pytest.mark.parametrize("text", ["slots = ", "\x00", "= 3"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidSettings, match=str(path)):
        load(env={}, cwd=tmp_path)


@pytest.mark.parametrize(
    ("variable", "received"),
    [
        ("CLAUDE_POOL_SLOTS", "many"),
        ("CLAUDE_POOL_SLOTS", "-1"),
        ("CLAUDE_POOL_NAME", "No Blanks"),
        ("CLAUDE_POOL_LEASE_S", "0"),
        ("CLAUDE_POOL_LEASE_S", "nan"),
        ("CLAUDE_POOL_REDIS_URL", "http://host"),
        ("CLAUDE_POOL_MODEL", "--help"),
        ("CLAUDE_POOL_PERMISSION_MODE", "yolo"),
        ("CLAUDE_POOL_WARM", "hot"),
        ("CLAUDE_POOL_BUDGET_USD", "-5"),
        ("CLAUDE_POOL_ALLOW_BYPASS", "perhaps"),
    ],
)
def test_a_bad_value_is_named_with_what_was_received_and_where(tmp_path: Path, variable: str, received: str) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        load(env={variable: received}, cwd=tmp_path)
    assert variable in str(refusal.value)
    assert repr(received) in str(refusal.value)


def test_several_bad_values_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "slots = -1\nspeed = 3\n")
    with pytest.raises(InvalidSettings) as refusal:
        load(env={}, cwd=tmp_path)
    assert "slots = -1" in str(refusal.value)
    assert "there is no setting 'speed'" in str(refusal.value)


def test_an_unknown_variable_is_somebody_elses(tmp_path: Path) -> None:
    assert load(env={"CLAUDE_POOL_FUTURE": "1"}, cwd=tmp_path)[0] == load(env={}, cwd=tmp_path)[0]


def test_an_empty_variable_was_not_given(tmp_path: Path) -> None:
    assert load(env={"CLAUDE_POOL_SLOTS": ""}, cwd=tmp_path)[0].slots == 2


def test_names_in_a_variable_are_separated_by_commas_or_blanks(tmp_path: Path) -> None:
    config, _ = load(env={"CLAUDE_POOL_COPY_FILES": ".env, .npmrc  a.txt"}, cwd=tmp_path)
    assert config.copy_files == (".env", ".npmrc", "a.txt")


def test_paths_are_absolute_and_a_tilde_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    config, _ = load(env={"CLAUDE_POOL_HOME": "state", "CLAUDE_POOL_CLAUDE": "~/bin/claude"}, cwd=tmp_path)
    assert config.home == tmp_path / "state"
    assert config.claude == tmp_path / "me" / "bin" / "claude"


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://h", "unix:///s.sock"])
def test_a_redis_url_ends_the_embedded_server(url: str) -> None:
    assert not PoolConfig(redis_url=url).embedded


def test_all_state_of_a_node_lies_below_the_pools_folder(tmp_path: Path) -> None:
    config = PoolConfig(home=tmp_path, name="p", node="n")
    assert config.pool_dir == tmp_path / "p"
    assert config.pool_dir in config.node_dir.parents


def test_durations_in_milliseconds_follow_the_seconds() -> None:
    config = PoolConfig(lease_s=1.5, slack_s=0.25)
    assert (config.lease_ms, config.slack_ms) == (1500, 250)
    assert config.beat_s * 5 < config.lease_s


def test_settings_do_not_change_once_they_are_read() -> None:
    config: Any = PoolConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.slots = 3


def test_every_setting_is_described() -> None:
    assert [name for name, field in PoolConfig.model_fields.items() if not field.description] == []
