"""What a case declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from frameworks.provider import Script, talk
from greenroom import Member

KEY = "key-of-nobody"
"""The API key of all clients: a client that is given none may look into the environment."""

Make = Callable[[str, str], Member]
"""A member of this name, whose model is at this URL (it ends with `/v1`)."""

Tool = Callable[[], str]
"""A tool for an agent: without parameters, named `look`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A framework, and how its agents become members.

    Attributes:
        package: the distribution that has its version.
        member: the recipe.
        plain: the framework's own object as a member, with the framework's own defaults: what one
            writes first. It may be refused.
        said: the text of a value that the recipe answers.
        unswitched: the recipe without its switch, where `plain` is refused or cannot be asked: for
            counting the requests of an outage; None: it is `plain`.
        why: why the recipe is not the object as it is: it goes into the table. Empty: it is.
        streaming: the recipe for `pool.stream`, if there is one; often the same as `member`.
        piece: the text of a chunk.
        tooled: the recipe with a tool, which tells what of the caller's context is there. None:
            the framework calls no code of its user's.
        script: what the model says, where an agent wants more than a text.
    """

    package: str
    member: Make
    plain: Make
    said: Callable[[Any], str]
    unswitched: Make | None = None
    why: str = ""
    streaming: Make | None = None
    piece: Callable[[Any], str] = str
    tooled: Callable[[str, str, Tool], Member] | None = None
    script: Script = talk
