"""Asks members' `accepts` about a payload, in the thread or the task of whoever makes the request.

It is the app's code: in an actor it could hold up everybody's requests. Here it holds up its own.
"""

from __future__ import annotations

import inspect
from typing import Any

from greenroom.messages.screening import Accepts, Heard

_SAYS_NO = "its accepts says no"


def heard_of(screens: tuple[Accepts, ...], payload: Any) -> Heard:
    """What each of them says of a payload. Who raises does not accept it; why is told by the type
    of the error alone, whose words may repeat the payload.

    Raises:
        BaseException: what is no `Exception` is for whoever makes the request: a Ctrl-C, say.
    """
    return Heard(screens, tuple([(id(each), _refusal(each, payload)) for each in screens]))


def _refusal(accepts: Accepts, payload: Any) -> str:
    """Why its members must not have the payload; "" if they may."""
    try:
        says = accepts(payload)
        if inspect.iscoroutine(says):
            says.close()
            return "its accepts returned a coroutine, which nobody awaits"
        return "" if says else _SAYS_NO
    except Exception as error:
        return f"its accepts raised {type(error).__name__}"
