"""Asks members' `accepts` about a payload, and `fair_by` whose it is, in the thread or the task of
whoever makes the request.

It is the app's code: in an actor it could hold up everybody's requests. Here it holds up its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greenroom.messages.config import FairBy
from greenroom.messages.requests import Request, RequestOptions
from greenroom.messages.screening import (
    WEIGHT_IN_METADATA,
    Accepts,
    FairKey,
    Heard,
    check_weight,
    plain_key,
)

_SAYS_NO = "its accepts says no"


@dataclass(frozen=True, slots=True)
class Questions:
    """What is to be asked about each request.

    Attributes:
        screens: each `accepts` of the members once.
    """

    screens: tuple[Accepts, ...] = ()
    fair_by: FairBy | None = None
    fair_weights: Mapping[Any, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.screens) or self.fair_by is not None

    def heard_of(self, message: RequestOptions) -> Heard:
        """What they say of it. A member whose `accepts` raises does not accept it; why is told by
        the type of the error alone, whose words may repeat the payload.

        Raises:
            Exception: what `fair_by` raises; a `TypeError` or `ValueError` for a key or a weight
                that is none.
            BaseException: what is no `Exception` is for whoever makes the request: a Ctrl-C, say.
        """
        screens = self.screens if isinstance(message, Request) else ()
        payload = message.payload if isinstance(message, Request) else None
        refusals = tuple([(id(each), _refusal(each, payload)) for each in screens])
        if self.fair_by is None:
            return Heard(screens, refusals)
        key = message.key if self.fair_by == "key" else self.fair_by(message)
        key = plain_key("fair_by", key)
        return Heard(screens, refusals, key, self._weight_of(key, message))

    def _weight_of(self, key: FairKey, message: RequestOptions) -> float:
        table = self.fair_weights
        weight = None if table is None else table.get(key)
        if weight is None and message.metadata:
            weight = message.metadata.get(WEIGHT_IN_METADATA)
            if weight is not None:
                check_weight(f"metadata[{WEIGHT_IN_METADATA!r}]", weight)
        return 1.0 if weight is None else float(weight)


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
