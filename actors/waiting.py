"""The queue of requests that wait for a member."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from greenroom.actors.jobs import Job


class WaitingQueue:
    """First in, first served; a request may leave from the middle at no cost."""

    def __init__(self) -> None:
        self._cells: deque[list[Job | None]] = deque()
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def __iter__(self) -> Iterator[Job]:
        """The requests that wait, in order; it is safe to add and remove meanwhile."""
        for cell in list(self._cells):
            if cell[0] is not None:
                yield cell[0]

    def add(self, job: Job) -> None:
        """Take a request in, at the end; one that is in it already keeps its place."""
        if job.cell is None:
            job.cell = [job]
            self._cells.append(job.cell)
            self._live += 1

    def discard(self, job: Job) -> None:
        """Let a request go, if it is in."""
        if job.cell is not None:
            job.cell[0] = None
            job.cell = None
            self._live -= 1
            self._sweep()

    def first(self) -> Job | None:
        """The request that has waited longest; it stays in."""
        while self._cells and self._cells[0][0] is None:
            self._cells.popleft()
        return self._cells[0][0] if self._cells else None

    def _sweep(self) -> None:
        """Drop the places that were given up, when they are the majority."""
        if len(self._cells) > 64 and len(self._cells) > 2 * self._live:
            self._cells = deque(cell for cell in self._cells if cell[0] is not None)
