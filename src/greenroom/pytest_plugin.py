"""The fixture `greenroom_events`. pytest loads this by itself; `-p no:greenroom` leaves it out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from greenroom.testing import EventRecorder


@pytest.fixture
def greenroom_events() -> Iterator[EventRecorder]:
    """Every event of every pool during the test, DEBUG ones included: an `EventRecorder`."""
    # Imported here: what pytest loads at its start is never seen by a coverage tool.
    from greenroom.testing import EventRecorder

    with EventRecorder() as recorder:
        yield recorder
