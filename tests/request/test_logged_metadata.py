"""`PoolConfig.log_metadata`: what of a request's metadata stands in its lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers_log import SECRET, logged
from helpers_pools import WAIT_S

from greenroom import AgentPool, AllPoolMembersFailedError, Member, PoolConfig, Request
from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.request.job import Job
from greenroom.actors.request.logged_metadata import LONGEST, logged_metadata
from greenroom.kinds.pool_file import read_pool_file
from greenroom.testing import FakeClock, ScriptedAgent

pytestmark = pytest.mark.usefixtures("log_off_after")


def shown(metadata: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    policy = RetryPolicy.from_config(PoolConfig(log_metadata=keys))
    return logged_metadata(Job("r", Request("x", metadata=metadata), None, 0.0, None, policy))


def test_b385_only_what_is_named_is_shown() -> None:
    """In the order of the names; what is not there is left out."""
    metadata = {"job": 7, "tenant": "acme", "prompt": SECRET}
    assert shown(metadata, "tenant", "job", "none") == ("tenant=acme", "job=7")
    assert shown(metadata) == ()
    assert shown({}, "tenant") == ()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "True"),
        (None, "None"),
        (1.5, "1.5"),
        ("two words", '"two words"'),
        ("a\nb\x1b[2J", '"a\\nb\\u001b[2J"'),
        ("sk-123456789", "***"),
        ("x" * 500, "x" * LONGEST + "..."),
        (["a"], "<list>"),
        (10**400, "<int>"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_b385_values_are_plain_masked_and_short(value: Any, told: str) -> None:
    """What is not plain is shown as its type."""
    (line,) = shown({"k": value}, "k")
    assert line == f"k={told}"


def test_b385_a_mapping_that_raises_costs_no_request() -> None:
    """It is shown that there is something."""

    armed: list[bool] = []

    class Odd(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            if armed:
                raise ValueError(SECRET)
            return "well"

        def __iter__(self) -> Iterator[str]:
            return iter(["k"])

        def __len__(self) -> int:
            return 1

        def __contains__(self, key: object) -> bool:
            return True

    policy = RetryPolicy.from_config(PoolConfig(log_metadata="k"))
    job = Job("r", Request("x", metadata=Odd()), None, 0.0, None, policy)
    assert logged_metadata(job) == ("k=well",)
    armed.append(True)
    assert logged_metadata(job) == ("k=?",)


def test_b386_every_line_of_a_request_has_it() -> None:
    """In JSON as the field `metadata`; those of the pool and its members have none."""
    members = [
        Member("a", ScriptedAgent.failing(1)),
        Member("b", ScriptedAgent(["hi"]), priority=1),
    ]
    config = PoolConfig(log_metadata=["tenant", "job"], max_retries=0)
    request = Request(SECRET, metadata={"tenant": "acme", "job": 7, "text": SECRET})
    with (
        logged("DEBUG", format="json") as lines,
        AgentPool.start(members, config=config, strategy="priority", clock=FakeClock()) as pool,
    ):
        with pytest.raises(AllPoolMembersFailedError):
            pool.ask(Request("x", metadata={"tenant": "zeta"}), timeout=WAIT_S)
        pool.ask(request, timeout=WAIT_S)
    data = [json.loads(line) for line in lines()]
    of_requests = [each for each in data if "request_id" in each]
    told = {each["metadata"] for each in of_requests}
    assert told == {"tenant=zeta", "tenant=acme, job=7"}
    assert {"attempt.failed", "request.exhausted", "request.completed"} <= {
        each["event"] for each in of_requests
    }
    assert all("metadata" not in each for each in data if "request_id" not in each)
    assert SECRET not in "\n".join(lines())


def test_b386_it_can_change_while_the_pool_runs() -> None:
    """For the requests that come then."""
    with (
        logged("DEBUG", format="json") as lines,
        AgentPool.start([Member("a", ScriptedAgent(["hi"]))], clock=FakeClock()) as pool,
    ):
        pool.ask(Request("x", metadata={"tenant": "one"}), timeout=WAIT_S)
        pool.configure(log_metadata=["tenant"])
        pool.ask(Request("x", metadata={"tenant": "two"}), timeout=WAIT_S)
    told = [json.loads(line).get("metadata") for line in lines() if "request.completed" in line]
    assert told == [None, "tenant=two"]


@pytest.mark.parametrize(
    ("keys", "error", "text"),
    [
        (7, TypeError, "log_metadata must be a name, or several, got 7"),
        (["a", 1], TypeError, "log_metadata must be a string, got 1"),
        (["a\n"], ValueError, "log_metadata must not contain line breaks"),
    ],
)
def test_b385_keys_that_are_none_are_refused(keys: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        PoolConfig(log_metadata=keys)


def test_b385_a_pool_s_file_names_them(tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text(
        '[pool]\nlog_metadata = ["tenant"]\n'
        '[[members]]\nname = "a"\nkind = "command"\nargv = ["cat"]\n'
    )
    assert read_pool_file(path).config.log_metadata == ("tenant",)
