"""A worker that ends gracefully: on SIGTERM it takes no more jobs, finishes those at hand, and
gives back what is not done in time.

    python examples/worker.py
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass

from greenroom import AgentPool, Member, PoolRef, Request

CONSUMERS = 4
GRACE_S = 10.0  # less than what the supervisor of your processes allows: SIGKILL comes after it


# -- the agents: put the calls of your clients here


async def cloud(text: str) -> str:
    await asyncio.sleep(0.001)
    if text.endswith("7"):
        raise ConnectionError("connection reset")
    return text.upper()


async def local(text: str) -> str:
    await asyncio.sleep(0.002)
    return text.upper()


MEMBERS = [Member("cloud", cloud), Member("local", local)]

# -- the queue: put yours here (a table, SQS, Redis, a broker)


@dataclass(frozen=True)
class Job:
    number: int
    text: str


class Queue:
    """What is taken is hidden from others until it is done or given back."""

    def __init__(self) -> None:
        self.taken = self.done = self.given_back = 0

    async def take(self, wait_s: float) -> Job | None:
        """The next job; None if there was none for so long."""
        self.taken += 1
        if self.taken == 20:
            os.kill(os.getpid(), signal.SIGTERM)  # stands for whoever ends this process
        return Job(self.taken, f"job {self.taken}")

    async def finish(self, job: Job, result: str) -> None:
        self.done += 1

    async def give_back(self, job: Job) -> None:
        self.given_back += 1


# -- the worker


async def consume(queue: Queue, pool: PoolRef, stopping: asyncio.Event) -> None:
    """Take one job after the other, until the worker is to stop."""
    while not stopping.is_set():
        job = await queue.take(wait_s=1)
        if job is None:
            continue
        finished = False
        try:
            reply = await pool.ask(Request(job.text, timeout=60), block=False)
            await queue.finish(job, reply.value)
            finished = True
        except Exception as error:  # the pool's, and what is the job's own fault
            print(f"job {job.number}: {type(error).__name__}")
        finally:  # also when the grace is over and this task is cancelled
            if not finished:
                await queue.give_back(job)


async def work(queue: Queue) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)  # on Windows: signal.signal
    async with AgentPool.start(MEMBERS, name="worker") as pool:
        consumers = [asyncio.create_task(consume(queue, pool, stopping)) for _ in range(CONSUMERS)]
        await stopping.wait()
        _, late = await asyncio.wait(consumers, timeout=GRACE_S)
        for consumer in late:
            consumer.cancel()  # cancels its request, and with it the agent's call
        await asyncio.gather(*late, return_exceptions=True)


def main() -> None:
    queue = Queue()
    asyncio.run(work(queue))
    lost = queue.taken - queue.done - queue.given_back
    print(f"{queue.taken} taken, {queue.done} done, {queue.given_back} given back, {lost} lost")


if __name__ == "__main__":
    main()
