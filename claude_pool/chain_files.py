"""Chain files: reusable chains with a name, a description and arguments, in TOML or YAML.

They are looked for in `.claude-pool/chains/` of the working directory and the folders above it, the nearest first; then
come the ones that ship with the package. The file's name is the chain's name. Everything wrong with a file is said with
the file's path; a file that can't be used spoils none of the others.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field, ValidationError

from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.models.base import Record, explain
from claude_pool.models.chain import ChainOptions, ChainStep
from claude_pool.models.fanout import VarName
from claude_pool.models.options import PlainText
from claude_pool.skills import text_of, with_skills

FOLDER: Final = Path(".claude-pool") / "chains"
SHIPPED: Final = Path(__file__).parent / "chains"
KINDS: Final = (".toml", ".yaml", ".yml")
LARGEST: Final = 4 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Argument(Record):
    """An argument of a reusable chain; without a default it has to be given."""

    description: PlainText = ""
    default: str | int | float | bool | None = None

    @property
    def required(self) -> bool:
        return self.default is None


class ChainFile(Record):
    """A reusable chain."""

    name: str = ""
    path: str = ""
    description: PlainText = ""
    args: dict[VarName, Argument] = Field(default_factory=dict[str, Argument])
    options: ChainOptions = ChainOptions()
    steps: tuple[ChainStep, ...] = Field(min_length=1)

    @property
    def shipped(self) -> bool:
        return Path(self.path).parent == SHIPPED

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments, with defaults for what was not given. Raises InvalidRequest for missing and unknown ones."""
        if unknown := [name for name in given if name not in self.args]:
            there = f"it takes {', '.join(self.args)}" if self.args else "it takes none"
            raise InvalidRequest(f"The chain {self.name!r} has no argument {unknown[0]!r}; {there}.")
        if missing := [name for name, one in self.args.items() if one.required and name not in given]:
            about = "; ".join(f"{name}: {self.args[name].description}".rstrip(": ") for name in missing)
            raise InvalidRequest(f"The chain {self.name!r} needs {about}.", hint=f"--arg {missing[0]}=…")
        return {name: given.get(name, one.default) for name, one in self.args.items()}

    def specimen(self) -> dict[str, Any]:
        """Arguments to check the chain with, when nobody has given any."""
        return {name: f"({name})" if one.required else one.default for name, one in self.args.items()}


class Found(Record):
    """A file of a chain: what is in it, or what is wrong with it."""

    name: str
    path: str
    chain: ChainFile | None = None
    trouble: str = ""


def find(start: Path) -> list[Found]:
    """All reusable chains that can be seen from a directory, by name; nearer ones hide those further away."""
    found: dict[str, Found] = {}
    for path in _files(start):
        if path.stem not in found:
            found[path.stem] = _found(path)
    return [found[name] for name in sorted(found)]


def look(name: str, start: Path) -> Found:
    """The chain of that name, or in that file, with what is wrong with it. Raises NotFound."""
    return _found(_path(name, start))


def _found(path: Path) -> Found:
    try:
        return Found(name=path.stem, path=str(path), chain=read(path))
    except InvalidRequest as error:
        return Found(name=path.stem, path=str(path), trouble=error.message)


def load(name: str, start: Path) -> ChainFile:
    """The chain of that name, or in that file. Raises NotFound, InvalidRequest."""
    return read(_path(name, start))


def _path(name: str, start: Path) -> Path:
    """The file of a chain; a path that is written as one need not exist. Raises NotFound."""
    if "/" in name or name.endswith(KINDS):
        return Path(start, Path(name).expanduser())
    for path in _files(start):
        if path.stem == name:
            return path
    names = ", ".join(dict.fromkeys(path.stem for path in _files(start)))
    raise NotFound(f"There is no chain {name!r}.", hint=f"There are {names}; more go into {FOLDER}/.")


def _files(start: Path) -> Iterator[Path]:
    for folder in (*(at / FOLDER for at in (start, *start.parents)), SHIPPED):
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.suffix in KINDS and path.is_file())


def read(path: Path) -> ChainFile:
    """One file. Raises InvalidRequest, naming the file and what is wrong in it."""
    text = text_of(path, LARGEST)
    if not _NAME.fullmatch(path.stem):
        raise InvalidRequest(f"{path}: a chain's name is letters, digits, dots and dashes.")
    data = _parsed(path, text)
    try:
        data["steps"] = with_skills(data["steps"], path.parent)
        return ChainFile.model_validate({**data, "name": path.stem, "path": str(path)})
    except ValidationError as error:
        raise InvalidRequest(f"{path}: {explain(error)}") from None


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        data: Any = tomllib.loads(text) if path.suffix == ".toml" else _yaml(path, text)
    except ValueError as error:
        raise InvalidRequest(f"{path}: {error}.") from None
    if not isinstance(data, dict) or "steps" not in data:
        raise InvalidRequest(f"{path} has no steps.")
    return cast("dict[str, Any]", data)


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise InvalidRequest(
            f"{path} is YAML, and PyYAML is not installed.", hint="pip install 'claude-pool[yaml]', or write TOML."
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
