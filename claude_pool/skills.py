"""Skills: reusable prompts in folders, as a task, as a step of a chain or as a prompt of the MCP server.

A skill is a folder with a `SKILL.md`: a head between lines of `---` with `name`, `description` and `arguments`, then
the prompt. Project folders come first, the nearest before those above it (`.claude-pool/skills`), then the user's
(`<home>/skills`), then what ships with the package; the first one of a name hides the others. In the prompt,
`$ARGUMENTS` is everything that was given, `$NAME` an argument, `${SKILL_DIR}` the skill's folder. One pass: what is put
in is never looked at again. Everything wrong with a file is said with its path, and spoils none of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field, ValidationError

from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.models.base import Record, explain
from claude_pool.models.options import PlainText, Prompt
from claude_pool.templates import PREVIOUS, escaped

FILE: Final = "SKILL.md"
FOLDER: Final = Path(".claude-pool") / "skills"
SHIPPED: Final = Path(__file__).parent / "skill_library"
LARGEST: Final = 1 << 20
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_WORD: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_MARKER: Final = re.compile(rf"\$\{{({_WORD})\}}|\$({_WORD})")
_GIVEN: Final = re.compile(rf"(?:^|\s)({_WORD})=")


class Skill(Record):
    """A reusable prompt. `arguments`: names, with their defaults; None has to be given."""

    name: str = Field(pattern=f"^{_NAME}$")
    description: PlainText = Field(min_length=1, max_length=1024)
    arguments: dict[str, str | None] = Field(default_factory=dict[str, str | None])
    body: Prompt
    folder: str

    def prompt(self, given: str | Mapping[str, str] = "", *, template: bool = False) -> str:
        """The prompt with its arguments. Text: `NAME=value …`, or words in the arguments' order, the last one the rest.

        As a template (of a chain's step), braces of the skill's own are plain text, but for `{previous_output}`; what
        was given keeps its markers. Raises InvalidRequest for missing and unknown arguments.
        """
        values = self._values(given) | {"ARGUMENTS": _together(given)}
        values |= dict.fromkeys(("SKILL_DIR", "CLAUDE_SKILL_DIR"), self.folder)
        body = escaped(self.body, but=(PREVIOUS,)) if template else self.body
        text = _MARKER.sub(lambda match: values.get(match[1] or match[2], match[0]), body)
        unused = not self.arguments and "$ARGUMENTS" not in self.body.replace("${ARGUMENTS}", "$ARGUMENTS")
        return f"{text}\n\n{values['ARGUMENTS']}" if unused and values["ARGUMENTS"] else text

    def _values(self, given: str | Mapping[str, str]) -> dict[str, str]:
        named = dict(given) if isinstance(given, Mapping) else self._parsed(given)
        if unknown := [name for name in named if name not in self.arguments]:
            there = f"it takes {', '.join(self.arguments)}" if self.arguments else "it takes none by name"
            raise InvalidRequest(f"The skill {self.name!r} has no argument {unknown[0]!r}; {there}.")
        values = {name: named.get(name, default) for name, default in self.arguments.items()}
        if missing := [name for name, value in values.items() if value is None]:
            raise InvalidRequest(f"The skill {self.name!r} needs {', '.join(missing)}.")
        return {name: value for name, value in values.items() if value is not None}

    def _parsed(self, text: str) -> dict[str, str]:
        names = list(self.arguments)
        if not names or not text.strip():
            return {}
        starts = [match for match in _GIVEN.finditer(text) if match[1] in self.arguments]
        if starts and not text[: starts[0].start()].strip():
            return dict(_pairs(text, starts))
        return dict(zip(names, text.split(maxsplit=len(names) - 1), strict=False))


class Found(Record):
    """A folder of a skill: what is in it, or what is wrong with it."""

    name: str
    path: str
    skill: Skill | None = None
    trouble: str = ""


def places(repo: Path | None, home: Path) -> tuple[Path, Path]:
    """Where a pool's skills are looked for: from its repository, else from the working directory, and the user's."""
    return Path.cwd() if repo is None else repo, home


def find(start: Path, home: Path | None) -> list[Found]:
    """All skills that can be seen from a directory, by name."""
    found: dict[str, Found] = {}
    for path in _files(start, home):
        name = path.parent.name
        if name not in found:
            try:
                found[name] = Found(name=name, path=str(path), skill=read(path))
            except InvalidRequest as error:
                found[name] = Found(name=name, path=str(path), trouble=error.message)
    return [found[name] for name in sorted(found)]


def load(name: str, start: Path, home: Path | None) -> Skill:
    """The skill of that name. Raises NotFound, InvalidRequest."""
    for path in _files(start, home):
        if path.parent.name == name:
            return read(path)
    names = ", ".join(dict.fromkeys(path.parent.name for path in _files(start, home)))
    raise NotFound(f"There is no skill {name!r}.", hint=f"There are {names}; more go into {FOLDER}/NAME/{FILE}.")


def with_skill(step: Mapping[str, Any], start: Path, home: Path | None) -> dict[str, Any]:
    """A step whose `skill` is replaced by its prompt; its own prompt is what the skill is given."""
    given = dict(step)
    if (name := given.pop("skill", None)) is None:
        return given
    words = given.get("prompt", "")
    if not isinstance(name, str) or not isinstance(words, str):
        raise InvalidRequest(f"step {given.get('name')!r}: skill is a skill's name, and prompt is what it is given.")
    return given | {"prompt": load(name, start, home).prompt(words, template=True)}


def with_skills(steps: Any, start: Path) -> Any:
    """The same for the steps in a file; what is none is left to whoever checks it."""
    if not isinstance(steps, list):
        return steps
    listed = cast("list[Any]", steps)
    return [with_skill(cast("dict[str, Any]", one), start, None) if isinstance(one, dict) else one for one in listed]


def read(path: Path) -> Skill:
    """One file. Raises InvalidRequest, naming the file and what is wrong in it."""
    text = text_of(path, LARGEST)
    head, body = _parts(text)
    if head is None:
        raise InvalidRequest(f"{path} does not begin with a head between two lines of ---.")
    fields = {name: value for name, value in head.items() if name in {"name", "description"}}
    try:
        return Skill(
            **{"name": path.parent.name, **fields},
            arguments=_arguments(head.get("arguments", "")),
            body=body.strip(),
            folder=str(path.parent),
        )
    except (ValidationError, TypeError) as error:
        told = explain(error) if isinstance(error, ValidationError) else "the head has no description"
        raise InvalidRequest(f"{path}: {told}") from None


def text_of(path: Path, largest: int) -> str:
    """A file of at most so many bytes that a person wrote. Raises InvalidRequest, naming it."""
    try:
        if path.stat().st_size > largest:
            raise InvalidRequest(f"{path} is larger than {largest >> 20} MiB.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} can't be read: {error}.") from None


def _parts(text: str) -> tuple[dict[str, str] | None, str]:
    """The head's lines `name: value`, and what comes after it. Other lines of the head are of other programs."""
    match = re.match(r"---[ \t]*\n(.*?)^---[ \t]*\n", text, re.DOTALL | re.MULTILINE)
    if match is None:
        return None, text
    lines = re.finditer(r"^([a-z-]+):[ \t]*(.*?)[ \t]*$", match[1], re.MULTILINE)
    return {line[1]: line[2].strip("\"'") for line in lines}, text[match.end() :]


def _arguments(text: str) -> dict[str, str | None]:
    """First the names of those that have to be given, then `NAME=default …`; a default may have blanks."""
    starts = list(_GIVEN.finditer(text))
    first = starts[0].start() if starts else len(text)
    return dict.fromkeys(text[:first].split()) | dict(_pairs(text, starts))


def _pairs(text: str, starts: Sequence[re.Match[str]]) -> Iterator[tuple[str, str]]:
    ends = [*(match.start() for match in starts[1:]), len(text)]
    return ((match[1], text[match.end() : end].strip()) for match, end in zip(starts, ends, strict=False))


def _together(given: str | Mapping[str, str]) -> str:
    return given.strip() if isinstance(given, str) else "\n".join(f"{name}: {value}" for name, value in given.items())


def _files(start: Path, home: Path | None) -> Iterator[Path]:
    for folder in (*(at / FOLDER for at in (start, *start.parents)), *([home / "skills"] if home else []), SHIPPED):
        if folder.is_dir():
            yield from sorted(path for path in folder.glob(f"*/{FILE}") if path.is_file())
