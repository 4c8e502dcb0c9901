"""What real clients raised at a misbehaving server is judged rightly, by the look of it.

The shapes are frozen: no client is installed. `make test-clients` makes the calls themselves.
"""

from __future__ import annotations

from itertools import groupby

import pytest
from helpers_shapes import Shape, error_shapes
from real_clients.known import reason_of

from greenroom.actors.reading.classify import classify

FAMILIES = [
    (client, tuple(shapes)) for client, shapes in groupby(error_shapes(), lambda s: s.client)
]
LATE_S = 2.0
"""A date in a Retry-After is in whole seconds, and the client was called a moment later."""


CLIENTS = [pytest.param(shapes, id=client) for client, shapes in FAMILIES]


@pytest.mark.parametrize("shapes", CLIENTS)
def test_what_a_client_raises_is_judged_rightly(shapes: tuple[Shape, ...]) -> None:
    """The kind of failure is the situation's, but for what `known` gives a reason for."""
    wrong = []
    for shape in shapes:
        kind = classify(shape.error(), wall_now=shape.wall_now).kind.value
        if kind not in shape.right and not reason_of(shape.client, shape.situation, shape.mode):
            wrong.append(f"{shape.id}: {kind}, right is {' or '.join(shape.right)}")
    assert wrong == []


@pytest.mark.parametrize("shapes", CLIENTS)
def test_what_a_backend_asks_to_wait_is_read(shapes: tuple[Shape, ...]) -> None:
    """Retry-After is found where the client keeps it, but for what `known` gives a reason for."""
    wrong = []
    for shape in shapes:
        if shape.retry_after_s is None:
            continue
        wait = classify(shape.error(), wall_now=shape.wall_now).retry_after_s
        right = wait is not None and abs(wait - shape.retry_after_s) <= LATE_S
        if not right and not reason_of(shape.client, shape.situation, shape.mode, "retry_after"):
            wrong.append(f"{shape.id}: {wait}, right is {shape.retry_after_s}")
    assert wrong == []


def test_at_least_98_of_100_errors_are_judged_rightly() -> None:
    """Those with a reason count as misjudged here, so the list of reasons cannot grow at will."""
    shapes = error_shapes()
    right = sum(
        classify(shape.error(), wall_now=shape.wall_now).kind.value in shape.right
        for shape in shapes
    )
    assert right >= 0.98 * len(shapes), f"{right} of {len(shapes)}"


def test_a_403_alone_opens_nothing() -> None:
    """A 401 is certain to be the member's; a 403 may be the request's."""
    for shape in error_shapes():
        verdict = classify(shape.error(), wall_now=shape.wall_now)
        if verdict.kind.value == "auth":
            forbidden = shape.situation in ("403", "PERMISSION_DENIED")
            assert verdict.opens_at_once is not forbidden, shape.id
