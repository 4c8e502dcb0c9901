"""`greenroom.testing.http_error`: errors for scripts, as HTTP clients raise them."""

from __future__ import annotations

from http import HTTPStatus
from types import SimpleNamespace

from greenroom.messages import _validate as check


class ScriptedHTTPError(Exception):
    """What an HTTP client raises, as far as a pool looks at it. Made by `http_error`.

    Attributes:
        status_code: the HTTP status.
        headers: with `retry-after` in seconds, where there is one.
        response: has the same two.
    """

    def __init__(self, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(status, retry_after_s)
        self.status_code = status
        self.headers = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:g}"}
        self.response = SimpleNamespace(status_code=status, headers=self.headers)

    def __str__(self) -> str:
        try:
            return f"{self.status_code} {HTTPStatus(self.status_code).phrase}"
        except ValueError:
            return str(self.status_code)


def http_error(status: int, retry_after_s: float | None = None) -> ScriptedHTTPError:
    """An error as HTTP clients raise it, for a script.

    Args:
        status: 400 to 599.
        retry_after_s: seconds for its `retry-after` header; None for no such header.

    Raises:
        TypeError, ValueError: no such status or number of seconds.
    """
    check.whole("status", status, minimum=400)
    check.number("status", status, maximum=599)
    check.number("retry_after_s", retry_after_s, optional=True)
    return ScriptedHTTPError(status, retry_after_s)
