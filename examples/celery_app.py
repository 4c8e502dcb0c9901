"""Celery workers on a pool: one in each process, whatever the pool of workers is.

BROKER=amqp:// celery --workdir examples -A celery_app worker                  prefork
BROKER=amqp:// celery --workdir examples -A celery_app worker -P threads       threads

Two retries are at work, and they multiply. The pool's are for one member: another is asked, at once
(`PoolConfig.max_retries`). Celery's are for all of them: the task comes back once one may answer.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, Task, signals
from celery.exceptions import SoftTimeLimitExceeded

from greenroom import AgentPool, Member, PoolPerProcess
from greenroom.web import problem_of

# -- the agents: put the calls of your clients here


async def cloud(prompt: str) -> str:
    if "rain" in prompt:
        raise ConnectionError("connection refused")  # what an outage looks like
    return f"cloud: {prompt.upper()}"


def local(prompt: str) -> str:
    return f"local: {prompt.lower()}"


MEMBERS = [Member("cloud", cloud), Member("local", local, priority=1)]

# -- the pool

POOL = PoolPerProcess(lambda: AgentPool.start(MEMBERS, strategy="priority", name="worker"))


@signals.worker_process_init.connect
def start(**_: Any) -> None:
    """In each child of a prefork; with threads it is the first task that starts it."""
    POOL()


@signals.worker_process_shutdown.connect  # of a child: nothing else is run at its end, no atexit
@signals.worker_shutdown.connect  # of the worker, whose threads have used it
def stop(**_: Any) -> None:
    POOL.stop(drain_s=1)  # Celery has waited for the tasks


# -- the tasks

app = Celery("celery_app", broker=os.environ.get("BROKER"), backend=os.environ.get("BACKEND"))


class RefusedError(Exception):
    """Nobody could answer: with a text only, so that any result backend can keep it."""


@app.task(bind=True, max_retries=5, acks_late=True, soft_time_limit=300)
def answer(task: Task, text: str) -> str:
    """The time limit of the request is the one that ends calls of agents in order."""
    try:
        return str(POOL().execute(text, timeout=240))
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:  # the pool's, or an agent's own: the request is at fault
        problem = problem_of(error)
        refused = RefusedError(problem.message)
        if problem.retry_after_s is None:  # it would fail the next time, too
            raise refused from error
        raise task.retry(exc=refused, countdown=problem.retry_after_s) from error
