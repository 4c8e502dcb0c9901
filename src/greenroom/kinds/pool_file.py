"""A pool in a file: what stands there is checked by the classes that it is for, and told by line.

TOML is read by the standard library. No other library checks it: `PoolConfig`, `Member` and the
kinds name each field, value and rule themselves; a schema beside them would say all of it again.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import tomllib
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from greenroom.kinds.command_agent import CommandAgent
from greenroom.kinds.environment import hint_within, value_of
from greenroom.kinds.openai_agent import OpenAIAgent
from greenroom.kinds.secrets import note_secret
from greenroom.kinds.toml_lines import lines_of, meant
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import summary
from greenroom.messages.limits import Limit
from greenroom.messages.member import Member

GROUP = "greenroom.kinds"
"""The group of entry points in which other packages have kinds of their own."""

FILE_LIMIT = 1 << 20
"""Bytes of a file that are too many."""

COMMANDS_AT_A_TIME = 4
"""`max_concurrency` of a command whose file does not say it: each call is a process."""

_OF_POOL = ("name", "strategy", "shared", "courier")
_OF_MEMBER = (
    *("weight", "priority", "group", "max_concurrency", "max_concurrency_ceiling"),
    *("isolated", "limits"),
    *("metadata", "tags", "cost"),
)
_SECRET = re.compile(r"(?:^|_)(?:key|token|secret|password)$")
_FROM_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_]\w*)(?::-(.*))?\}", re.DOTALL)


class PoolFileError(ValueError):
    """A file that is none of a pool: which, where, which key, and what is wrong with it."""


OnWrongMember = Callable[[int, str, PoolFileError | ModuleNotFoundError], object]
"""Is told the number of a member, from 0, its name, and what is wrong with it."""

Place = tuple[str, ...]
"""Where something stands in a file: the keys that lead there, members by their number."""


@dataclass(frozen=True, slots=True)
class Making:
    """What an agent is made of: where two of these are equal, the agents do the same.

    Attributes:
        kind: the name of it.
        settings: those of the kind, and what a member has that is no setting to be changed. (Not in
            the repr: what comes from the environment may be secret.)
    """

    kind: str
    settings: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PoolFile:
    """What a file says.

    Attributes:
        name: of the pool.
        strategy: of a strategy; None where the file does not say.
        path: of the file.
        makings: what each member's agent is made of, by the member's name.
        lines: where what stands in it.
        shared: where processes leave word for each other; None where the file does not say.
        courier: what keeps durable tells; None where the file does not say.
    """

    name: str
    strategy: str | None
    config: PoolConfig
    members: tuple[Member, ...]
    path: Path = field(default=Path(), compare=False)
    makings: Mapping[str, Making] = field(default_factory=dict, compare=False, repr=False)
    lines: Mapping[Place, int] = field(default_factory=dict, compare=False, repr=False)
    shared: str | None = field(default=None, repr=False)  # it may hold a password
    courier: str | None = field(default=None, repr=False)  # as that

    def error(self, place: Place, what: str) -> PoolFileError:
        """The error that says what is wrong at a place."""
        names = [member.name for member in self.members]
        return PoolFileError(_told(self.path, self.lines, names, place, what))


T = TypeVar("T")

Kind = Callable[..., Any]
"""Makes an agent; its parameters by name are the settings of the kind."""


def python_agent(*, agent: str | None = None, factory: str | None = None) -> Any:
    """What stands at `module:attribute`; of the kind `python`."""
    if (agent is None) == (factory is None):
        given = "neither" if agent is None else "both"
        raise ValueError(f"agent must be given, or factory, and not both: got {given}")
    name = "agent" if factory is None else "factory"
    place = agent if factory is None else factory
    module, colon, attribute = str(place).partition(":")
    if not isinstance(place, str) or not module or not colon or not attribute:
        raise ValueError(f"{name} must be 'module:attribute', got {place!r}")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ValueError(f"{name} must be something to import, got {place!r}: {error}") from error
    return found


_KINDS: dict[str, Kind] = {"openai": OpenAIAgent, "command": CommandAgent, "python": python_agent}


def read_pool_file(
    path: str | os.PathLike[str],
    made: Mapping[str, tuple[Making, Member]] | None = None,
    on_wrong_member: OnWrongMember | None = None,
) -> PoolFile:
    """Read and check a file.

    Args:
        made: members that there are, by name, each with what its agent was made of: where the file
            says the same of it, that agent is taken, and none is made.
        on_wrong_member: is told of a member that cannot be made, which is left out; None: raise.

    Raises:
        PoolFileError: it cannot be read, or says something that does not hold.
        ModuleNotFoundError: a kind needs an extra that is not installed.
    """
    return _Reader(Path(path), {} if made is None else made, on_wrong_member).read()


@dataclass(slots=True)
class _Reader:
    path: Path
    _made_before: Mapping[str, tuple[Making, Member]]
    _on_wrong_member: OnWrongMember | None = None
    _makings: dict[str, Making] = field(default_factory=dict)
    _lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)

    def read(self) -> PoolFile:
        said = self._parsed()
        self._only(said, ("pool", "members"), (), "a table of a pool's file")
        pool = self._table(said.get("pool", {}), ("pool",))
        members = said.get("members", [])
        if not isinstance(members, list) or not all(isinstance(each, dict) for each in members):
            self._wrong(("members",), "must be tables: [[members]]")
        if not members:
            self._wrong((), "has no members: each is a table [[members]]")
        hints = typing.get_type_hints(PoolConfig)
        allowed = (*_OF_POOL, *(each.name for each in fields(PoolConfig)))
        self._only(pool, allowed, ("pool",), "a setting of a pool")
        settings = {
            key: self._value(value, hints.get(key), ("pool", key)) for key, value in pool.items()
        }
        name, strategy = settings.pop("name", "pool"), settings.pop("strategy", None)
        shared, courier = settings.pop("shared", None), settings.pop("courier", None)
        if not all(isinstance(each, str | None) for each in (name, strategy, shared, courier)):
            self._wrong(("pool",), "name, strategy, shared and courier must be texts")
        config = self._made(lambda: PoolConfig(**settings), ("pool",), settings)
        made = tuple(self._each(members))
        path, makings, lines = self.path, self._makings, self._lines
        return PoolFile(name, strategy, config, made, path, makings, lines, shared, courier)

    def _parsed(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                data = file.read(FILE_LIMIT + 1)
        except OSError as error:
            raise PoolFileError(f"{self.path}: {error.strerror or error}") from error
        if len(data) > FILE_LIMIT:
            raise PoolFileError(f"{self.path}: must have at most {FILE_LIMIT} bytes")
        try:
            text = data.decode("utf-8")
            said = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise PoolFileError(f"{self.path}: is no TOML: {error}") from error
        self._note_lines(text)
        return said

    def _note_lines(self, text: str) -> None:
        """Where each key stands, for the errors: as far as can be seen line by line."""
        self._lines.update(lines_of(text))

    def _each(self, members: Sequence[dict[str, Any]]) -> Iterator[Member]:
        for at, said in enumerate(members):
            try:
                yield self._member(said, at)
            except (PoolFileError, ModuleNotFoundError) as error:
                if self._on_wrong_member is None:
                    raise
                self._on_wrong_member(at, self._names[at], error)

    def _member(self, said: dict[str, Any], at: int) -> Member:
        place = ("members", str(at))
        self._names.append(str(said.get("name", at)))
        name, kind = said.get("name"), said.get("kind")
        if not isinstance(name, str):
            self._wrong((*place, "name"), f"must be a text, got {name!r}")
        kinds = _all_kinds()
        if not isinstance(kind, str) or kind not in kinds:
            self._wrong(
                (*place, "kind"), f"must be one of {', '.join(sorted(kinds))}, got {kind!r}"
            )
        make = self._kind(kinds[kind], (*place, "kind"))
        parameters = _settings_of(make)
        method = ("method",) if make is python_agent else ()
        allowed = ("name", "kind", *_OF_MEMBER, *method, *parameters)
        rest = {key: value for key, value in said.items() if key not in ("name", "kind")}
        self._only(rest, allowed, place, f"a setting of kind {kind}")
        hints = {**typing.get_type_hints(Member), **parameters}
        values = {
            key: self._value(value, hints.get(key), (*place, key)) for key, value in rest.items()
        }
        if isinstance(key_env := values.get("api_key_env"), str):
            note_secret(key_env)
        of_member = {key: values.pop(key) for key in (*_OF_MEMBER, *method) if key in values}
        if "limits" in of_member:
            of_member["limits"] = self._limits(of_member["limits"], (*place, "limits"))
        fixed = {key: of_member[key] for key in ("isolated", *method) if key in of_member}
        making = self._makings[name] = Making(kind, {**fixed, **values})
        before, known = self._made_before.get(name, (None, None))
        if known is not None and before == making:
            agent = known.agent if known.factory is None else known.factory
        else:
            agent = self._made(lambda: make(**values), place, values)
        if make is python_agent and "factory" in values:
            of_member["factory"] = agent
        else:
            of_member["agent"] = agent
            for hook, close in (("aclose", _aclose), ("close", _close)):
                if make is not python_agent and callable(getattr(agent, hook, None)):
                    of_member["close"] = close
                    break
        if make is CommandAgent:
            of_member.setdefault("max_concurrency", COMMANDS_AT_A_TIME)
        return self._made(lambda: Member(name, **of_member), place, of_member)

    def _limits(self, said: Any, place: Place) -> tuple[Limit, ...]:
        """The rate limits of a member, each from a table."""
        if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
            self._wrong(place, "must be an array of tables: [{ amount = 60, per_s = 60 }]")
        known = [each.name for each in fields(Limit)]
        limits = []
        for each in said:
            self._only(each, known, place, "a setting of a limit")
            for name in ("amount", "per_s"):
                if name not in each:
                    self._wrong((*place, name), "must be given")
            limits.append(self._made(functools.partial(Limit, **each), place, each))
        return tuple(limits)

    def _kind(self, kind: Any, place: tuple[str, ...]) -> Kind:
        """The kind itself, be it that another package has it."""
        if not hasattr(kind, "load"):
            return typing.cast(Kind, kind)
        try:
            return typing.cast(Kind, kind.load())
        except Exception as error:
            self._wrong(place, f"cannot be loaded from {kind.value}: {summary(error)}", error)

    def _made(
        self, make: Callable[[], T], place: tuple[str, ...], settings: Mapping[str, Any]
    ) -> T:
        """What is made of them; its error with the place of the field that it names first."""
        try:
            return make()
        except ModuleNotFoundError:
            raise
        except (TypeError, ValueError) as error:
            words = str(error)
            first, _, rest = words.partition(" ")
            if first in settings or (*place, first) in self._lines:
                self._wrong((*place, first), rest, error)
            self._wrong(place, f": {words}", error)

    def _value(self, value: Any, hint: Any, place: tuple[str, ...]) -> Any:
        """A value; a text `${NAME}` or `${NAME:-otherwise}`, be it in a table or an array, is that
        of the environment, as a number, a truth or a word where the field wants one.
        """
        if isinstance(value, dict):
            return {
                key: self._value(each, hint_within(hint, key), (*place, key))
                for key, each in value.items()
            }
        if isinstance(value, list):
            return [self._value(each, hint_within(hint), place) for each in value]
        if not isinstance(value, str) or (found := _FROM_ENVIRONMENT.fullmatch(value)) is None:
            return value
        if _SECRET.search(place[-1].lower()) or place in (("pool", "shared"), ("pool", "courier")):
            note_secret(found[1])
        text = os.environ.get(found[1], found[2])
        if text is None:
            self._wrong(place, f"must be in the environment, and {found[1]} is not set")
        try:
            return value_of(text, hint)
        except ValueError as rule:  # what stands there is not told: it may be the wrong variable
            self._wrong(place, f"{rule}, and what {found[1]} holds is not")

    def _table(self, value: Any, place: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._wrong(place, "must be a table")
        return value

    def _only(
        self, said: Mapping[str, Any], allowed: Iterable[str], place: tuple[str, ...], what: str
    ) -> None:
        known = list(allowed)
        for key in said:
            if key in known:
                continue
            if _SECRET.search(key):
                hint = " (api_key_env)" if "api_key_env" in known else ""
                self._wrong(
                    (*place, key), f"is not a setting: keys come from the environment{hint}"
                )
            self._wrong(
                (*place, key), f"is not {what}; {meant(key, known)}those are {', '.join(known)}"
            )

    def _wrong(
        self, place: tuple[str, ...], what: str, error: BaseException | None = None
    ) -> NoReturn:
        """Say where it stands, as near as is known, and what is wrong."""
        told = _told(self.path, self._lines, self._names, place, what)
        raise PoolFileError(told) from error


def _told(
    path: Path, lines: Mapping[Place, int], names: Sequence[str], place: Place, what: str
) -> str:
    """What is wrong at a place, with the file and the line, as near as that is known.

    Args:
        names: those of the members, in order.
    """
    line = next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), 0)
    where = f"{path}:{line}" if line else str(path)
    keys = list(place)
    if keys[:1] == ["members"] and len(keys) > 1 and int(keys[1]) < len(names):
        keys[1] = names[int(keys[1])]
    key = ".".join(keys)
    said = f"{key}{what}" if what.startswith(":") else f"{key} {what}".strip()
    return f"{where}: {said}"


def _all_kinds() -> dict[str, Any]:
    """Ours, and those of other packages, which cannot take a name of ours."""
    return {each.name: each for each in entry_points(group=GROUP)} | _KINDS


def _settings_of(make: Kind) -> dict[str, Any]:
    """The settings of a kind, with their types as far as those can be told."""
    parameters = inspect.signature(make).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [each.name for each in parameters if each.kind in kinds]
    try:
        hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
    except Exception:  # of another package's, under TYPE_CHECKING, say
        hints = {}
    return {name: hints.get(name) for name in names}


async def _aclose(agent: Any) -> None:
    await agent.aclose()


def _close(agent: Any) -> None:
    agent.close()
