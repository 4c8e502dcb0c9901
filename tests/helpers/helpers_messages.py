"""What the tests of messages share: values that are refused, and what is said then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

NAN, INFINITY = float("nan"), float("inf")


def agent(payload: object) -> object:
    return payload


def refused(make: Callable[[], object]) -> str:
    """What a message says when it refuses a value."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    return f"{type(caught.value).__name__}: {caught.value}"


MARKS = "marks of text direction or halves of surrogate pairs"
