"""What may leave the process: errors as plain text, nothing of the payload, and no pool."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Any, NoReturn, cast

LONGEST_LINE = 200

_name_of = type.__dict__["__name__"].__get__  # a metaclass of somebody's is not asked

_SECRETS = re.compile(
    r"""
      \bsk-[\w-]{6,}                                                    # OpenAI, Anthropic, others
    | \b(?:gsk|hf|r8|tgp_v1|gh[opsu]|github_pat)_\w{8,}
    | \b(?:xai|pplx|nvapi|csk|glpat|xox[abprs])-[\w-]{8,}
    | \bAIza[\w-]{10,} | \b(?:AKIA|ASIA)[A-Z0-9]{12,}
    | \beyJ[\w-]{8,}\.[\w.-]{8,}                                        # a JSON web token
    | (?<=://)[^\s/:@]{0,100}:[^\s/@]{1,200}(?=@)                       # user:password@host
    | (?i:\bbearer)\s{1,3}(?P<bearer>[\w.~+/=-]{6,})
    | (?i:\bbasic)\s{1,3}(?P<basic>(?=[a-z+/]{0,80}[A-Z0-9=])[\w+/]{12,}={0,2})
    | (?i:\b(?:x-|\w{1,20}_)?api[-_]?key|\baccess[-_]?key|\b(?:\w{1,20}[-_])?token|\bpassword
        |\b(?:\w{1,20}_)?secret|\bkey|\bauthorization)
      ["']?\s?=\s?["']?(?P<assigned>[^\s"'&,;)}\]]{4,})
    | (?i:\b(?:x-)?api[-_]key|\bapikey|\bauthorization|\bpassword|\b(?:client[-_])?secret)
      ["']?:\s?["']?(?P<stated>(?!(?i:bearer|basic)\b)[^\s"'&,;)}\]]{6,})
    """,
    re.VERBOSE,
)


_HINTS = (
    *("key", "token", "secret", "password", "bearer", "basic", "authorization", "://", "eyj"),
    *("sk-", "gsk_", "hf_", "r8_", "tgp_v1_", "ghp_", "gho_", "ghs_", "ghu_", "github_pat_"),
    *("xai-", "pplx-", "nvapi-", "csk-", "glpat-", "xox", "aiza", "akia", "asia"),
)
"""Each match has one of these in it, in lower case: most lines have none, and need no search."""


Redact = Callable[[str], str]

_redact: Redact | None = None
"""What the app wants to have left out besides. One for the process: an error's text is made where
nobody knows whose pool it is for. Set by any thread, read by all."""


def redact_by(redact: Redact | None) -> None:
    """Have every text that is masked from now on pass that function, too; None: no longer."""
    global _redact
    _redact = redact


def masked(text: str) -> str:
    """The text, with `***` where it shows what looks like a key, a token or a password, and what
    the app's own `redact` has made of it.
    """
    text = masked_known(text)
    redact = _redact
    return text if redact is None else _redacted(redact, text)


def masked_known(text: str) -> str:
    """The same by its look alone, which changes nothing if it is done again."""
    lower = text.lower()
    for hint in _HINTS:
        if hint in lower:
            return _SECRETS.sub(_mask, text)
    return text


# What comes from outside must neither forge a second line, nor move a cursor, nor show the text
# around it in another order (Unicode's Bidi_Control); half of a surrogate pair cannot be encoded.
_UNFIT = (
    *(*range(32), *range(127, 160), 0x2028, 0x2029, 0x61C, 0x200E, 0x200F),
    *(*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)),
)
_ESCAPED = {code: chr(code).encode("unicode_escape").decode() for code in _UNFIT}
_ESCAPED_IN_BLOCK = {code: text for code, text in _ESCAPED.items() if chr(code) not in "\n\t"}


def on_one_line(text: str) -> str:
    """The text with each line end and control character shown, in place of obeyed."""
    return text if text.isprintable() else text.translate(_ESCAPED)


def in_lines(text: str) -> str:
    """The same of a text that has lines, as a traceback."""
    return text.translate(_ESCAPED_IN_BLOCK)


def _redacted(redact: Redact, text: str) -> str:
    """Nothing of the text where the function fails: what it was to leave out may be in it."""
    try:
        left: object = redact(text)
    except BaseException:  # even a SystemExit from it must not end the actor that asks
        return "***"
    return left if isinstance(left, str) else "***"


def _mask(found: re.Match[str]) -> str:
    secret = found.lastgroup
    if secret is None:
        return "***"
    return found[0][: found.start(secret) - found.start()] + "***"


def summary(error: BaseException | None) -> str:
    """An error in one line: its type and the first line of what it says, without secrets."""
    if error is None:
        return ""
    if issubclass(type(error), RemoteCause):  # by the real type: `__class__` may raise
        return str(error)
    name: str = _name_of(type(error))
    said = _said(error)
    return f"{name}: {said}" if said else name


def _said(error: BaseException) -> str:
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # a user's __str__ may raise anything, and this may run in an actor
        return ""
    if not lines:
        return ""
    # Without the calls of `masked` and `on_one_line`: this is done for every failure.
    text, redact = masked_known(lines[0][: 2 * LONGEST_LINE]), _redact
    if redact is not None:
        text = _redacted(redact, text)
    # After the masking: a tab before a key is no part of a word, what is shown for it is.
    return (text if text.isprintable() else text.translate(_ESCAPED))[:LONGEST_LINE]


class RemoteCause(Exception):
    """An agent's error as it was in another process, or in a copy: what it was, and what it said.

    Nothing else of it goes along: a client's error often has the request, with its key and its
    payload.

    Attributes:
        type_name: the name of its class.
        module: where that is defined.
        text: the first line of what it said, up to 200 characters, without secrets.
    """

    def __init__(self, type_name: str, module: str = "", text: str = "") -> None:
        super().__init__(type_name, module, text)
        self.type_name = type_name
        self.module = module
        self.text = text

    @classmethod
    def of(cls, error: BaseException) -> RemoteCause:
        """What may be told of an error."""
        if issubclass(type(error), cls):
            return cast(RemoteCause, error)
        name = _name_of(type(error))
        try:
            module = str(type(error).__module__)
        except BaseException:  # a metaclass may raise anything
            module = ""
        return cls(name, module, _said(error))

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name

    def __reduce__(self) -> Any:
        return type(self), (self.type_name, self.module, self.text)


def fit_to_leave(value: Any, whole: type[BaseException]) -> Any:
    """A value as it may be pickled with an error: causes in a line, plain data without secrets.

    Args:
        whole: errors that are kept, since they see to themselves.
    """
    if value is None or issubclass(type(value), (bool, int, float, complex, Enum)):
        return value
    if issubclass(type(value), str):
        return masked(value)
    if issubclass(type(value), BaseException):
        return value if issubclass(type(value), whole) else RemoteCause.of(value)
    if type(value) in (tuple, list, set, frozenset):
        return type(value)(fit_to_leave(each, whole) for each in value)
    if type(value) is dict:
        return {fit_to_leave(k, whole): fit_to_leave(v, whole) for k, v in value.items()}
    return f"<{_name_of(type(value))}>"


def fit_to_look_at(error: BaseException) -> BaseException:
    """The error; where a look at it raises, be it at its class, what may be told of it: whoever
    judges it, logs it or raises it again must not be hit by that.
    """
    kind = type(error)
    try:
        _ = error.__class__, error.__traceback__, error.__cause__, error.__context__
        _ = error.__suppress_context__, error.__dict__, error.args
        _ = kind.__name__, kind.__qualname__, kind.__module__, kind.__mro__, hash(kind)
    except BaseException:
        return RemoteCause.of(error)
    return error


def refuse(what: str, instead: str) -> NoReturn:
    """Say why something is not pickled (nor copied), and what to do.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"{what} can be neither pickled nor copied: {instead}")
