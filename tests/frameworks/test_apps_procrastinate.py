"""The recipe of docs/durable.md for Procrastinate, as it stands there, on its own stand-in for
Postgres. Behaviour 511.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from frameworks.test_apps_faststream import LIMIT_S, Provider, members, recipe


def test_b511_procrastinate_retries_what_the_pool_could_not_answer() -> None:
    """The job is done when the task returns, and comes back when it raises."""
    testing = pytest.importorskip("procrastinate.testing")

    async def main() -> tuple[list[Any], list[str]]:
        provider, connector = Provider(fails=4), testing.InMemoryConnector()
        made = recipe("procrastinate", MEMBERS=members(provider), CONNECTOR=connector)
        app = made["app"]
        async with app.open_async():
            await made["letter"].defer_async(order={"order": 17})
        async with asyncio.timeout(LIMIT_S):
            await made["work"](wait=False)
            for job in connector.jobs.values():
                job["scheduled_at"] = None  # its backoff is over
            await made["work"](wait=False)
        return provider.had, [each["status"] for each in connector.jobs.values()]

    had, statuses = asyncio.run(main())
    assert had == [{"order": 17}] * 5
    assert statuses == ["succeeded"]
