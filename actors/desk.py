"""The answer desk: where a call that succeeds, on this machine, answers its asker without detour.

Telling the router first and leaving the answer to it costs a wake-up of the router's thread that
the asker would wait for. So whoever ends an attempt claims it here: the thread in which its agent
returned, or the router that gives it up. There is one claim for an attempt, hence one answer.
"""

from __future__ import annotations

from typing import Any

from greenroom.actors.jobs import Job
from greenroom.messages.execution import Ticket
from greenroom.messages.replies import Reply


class Desk:
    """Attempts whose answer is still open. Each operation is one of a dict, hence atomic."""

    def __init__(self) -> None:
        self._open: dict[Ticket, Job] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, ticket: Ticket, job: Job) -> None:
        """The router has given an attempt to a member."""
        self._open[ticket] = job

    def claim(self, ticket: Ticket) -> Job | None:
        """Take it upon oneself to answer for an attempt; None when somebody has already."""
        return self._open.pop(ticket, None)

    def start_side_effects(self, ticket: Ticket) -> bool:
        """Note that an attempt must not be repeated; False when it has been given up already.

        The note comes before the second look: whoever claims the attempt finds it, or is seen.
        Where the asker is another pool, its attempt must not be repeated either.

        Raises:
            RequestCancelledError: that pool has given its attempt up.
        """
        job = self._open.get(ticket)
        attempt = job.current if job is not None else None
        if attempt is None or attempt.ticket != ticket:
            return False
        attempt.side_effects = True
        if ticket not in self._open:
            return False
        if job is not None and job.future is not None:
            job.future.on_side_effects()
        return True


def reply(job: Job, value: Any, member: str, elapsed_s: float) -> None:
    """Give the asker, if there is one, what a member returned."""
    if job.future is not None:
        job.future.resolve(
            Reply(
                value,
                member=member,
                attempts=job.attempts,
                elapsed_s=elapsed_s,
                request_id=job.id,
                errors=tuple(job.failures.values()) if job.failures else (),
            )
        )
