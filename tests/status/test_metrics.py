"""`/metrics`: what Prometheus is told, and that docs/grafana asks for nothing else."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest
from helpers_pages import DOCS, names, rows
from helpers_pools import WAIT_S
from helpers_status import ANY, address_of, get
from prometheus_client.parser import text_string_to_metric_families

from greenroom import AgentPool, AllPoolMembersFailedError, Limit, Member, PoolRef, Request
from greenroom.status.metric_names import METRICS, MetricKind

GRAFANA = DOCS / "grafana"


def samples(pool: PoolRef, **headers: str) -> dict[tuple[str, str], float]:
    """Each sample, by its name and its labels as text, `pool` left out."""
    text = get(address_of(pool), "/metrics", **headers).text
    return {
        (each.name, ",".join(f"{k}={v}" for k, v in sorted(each.labels.items()) if k != "pool")): (
            each.value
        )
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def test_each_request_and_attempt_is_counted_once() -> None:
    """By outcome, by member, by kind; each with what it took."""

    def fail(_: str) -> str:
        raise ConnectionError("refused")

    limits = [
        Limit(60, per_s=60),
        Limit(9, per_s=60, group="key"),
    ]  # two of one kind: the tighter one is told
    members = [Member("bad", fail, limits=limits), Member("good", str.upper)]
    with AgentPool.start(members, strategy="failover", status=ANY, name="writers") as pool:
        for _ in range(3):
            pool.execute("x")
        pool.force_open("good")
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("x")
        said = samples(pool)
        stats = pool.stats()
    assert said["greenroom_up", ""] == said["greenroom_ready", ""] == 1
    assert said["greenroom_requests_total", "outcome=answered"] == 3
    assert said["greenroom_requests_total", "outcome=failed"] == 1
    assert said["greenroom_requests_total", "outcome=turned_away"] == 0
    attempts = "greenroom_attempts_total"
    failed = said[attempts, "kind=unavailable,member=bad,outcome=failed"]
    assert failed == stats["bad"].failures > 0
    assert said[attempts, "kind=,member=good,outcome=succeeded"] == 3
    assert said["greenroom_request_duration_seconds_count", "outcome=answered"] == 3
    assert said["greenroom_request_duration_seconds_bucket", "le=+Inf,outcome=failed"] == 1
    of_good = "member=good,outcome=succeeded"
    assert said["greenroom_attempt_duration_seconds_count", of_good] == 3
    assert said["greenroom_queue_wait_seconds_count", ""] == 4
    assert said["greenroom_retries_total", ""] == stats.retries > 0
    assert said["greenroom_queue_depth", ""] == 0
    assert said["greenroom_breaker_state", "member=good,state=forced_open"] == 1
    assert said["greenroom_breaker_state", "member=good,state=closed"] == 0
    assert said["greenroom_breaker_transitions_total", "member=good,state=open"] == 1
    assert said["greenroom_member_available", "member=good"] == 0
    assert said["greenroom_concurrency_limit", "member=good"] == 1
    left = said["greenroom_rate_limit_headroom", "cost=requests,member=bad,window=60s"]
    assert 0 <= left < 9


def test_a_stream_is_counted_to_its_end() -> None:
    """Its first chunk has a histogram of its own."""

    def words(prompt: str) -> Any:
        yield from prompt.split()

    with AgentPool.start([Member("a", words)], status=ANY) as pool:
        assert pool.stream(Request("one two")).collect() == ["one", "two"]
        said = samples(pool)
    assert said["greenroom_first_chunk_seconds_count", "member=a"] == 1
    assert said["greenroom_attempt_duration_seconds_count", "member=a,outcome=succeeded"] == 1


def test_what_is_given_up_is_counted_as_that() -> None:
    """The request is cancelled, its attempt was left; what a pool turns away is counted, too."""
    begun, going_on = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        begun.set()
        going_on.wait(WAIT_S)

    with AgentPool.start([Member("a", wait)], status=ANY) as pool:
        future = pool.ask(Request("x"), block=False)
        assert begun.wait(WAIT_S)
        assert samples(pool)["greenroom_in_flight", "member=a"] == 1
        assert future.cancel()
        assert pool.stats().cancelled == 1  # the router has read of it before there is an answer
        going_on.set()
        assert pool.drain(WAIT_S)
        with pytest.raises(Exception, match="draining"):
            pool.execute("x")
        said = samples(pool)
    assert said["greenroom_requests_total", "outcome=cancelled"] == 1
    assert said["greenroom_requests_total", "outcome=turned_away"] == 1
    assert said["greenroom_attempts_total", "kind=caller,member=a,outcome=left"] == 1
    assert said["greenroom_ready", ""] == 0


def test_who_has_left_is_in_no_series() -> None:
    """Of a member that is gone nothing is told any more."""
    with AgentPool.start([Member("a", str.upper), Member("b", str.upper)], status=ANY) as pool:
        for _ in range(4):
            pool.execute("x")
        pool.remove_member("a")
        assert not [labels for _, labels in samples(pool) if "member=a" in labels]


def test_openmetrics_for_who_asks_for_it() -> None:
    """By the `Accept` of Prometheus."""
    with AgentPool.start([Member("a", str.upper)], status=ANY) as pool:
        accept = "application/openmetrics-text; version=1.0.0"
        answer = get(address_of(pool), "/metrics", Accept=accept)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# -- names, and who asks for them


def exposed() -> set[str]:
    """The names that a query may have."""
    found = {each.name for each in METRICS}
    for each in METRICS:
        if each.kind is MetricKind.HISTOGRAM:
            found |= {f"{each.name}_{part}" for part in ("bucket", "sum", "count")}
    return found


def test_names_follow_the_rules_of_prometheus() -> None:
    """Base units; `_total` of what only grows, and of nothing else."""
    for each in METRICS:
        assert re.fullmatch(r"greenroom(_[a-z]+)+", each.name), each.name
        assert each.name.endswith("_total") == (each.kind is MetricKind.COUNTER), each.name
        assert each.name.endswith("_seconds") == (each.kind is MetricKind.HISTOGRAM), each.name
        assert each.help.endswith("."), each.name
        assert "pool" not in each.labels


def test_all_that_is_declared_is_told() -> None:
    """And nothing else."""
    with AgentPool.start([Member("a", str.upper)], status=ANY) as pool:
        text = get(address_of(pool), "/metrics").text
    told = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert told == {each.name for each in METRICS}


def test_every_metric_has_its_row() -> None:
    """With its kind and its labels, in the page on the endpoint."""
    said = {
        name: (row[1], tuple(names(row[2])))
        for row in rows(DOCS / "status.md", "metric")
        for name in names(row[0])
    }
    assert said == {each.name: (each.kind.value, ("pool", *each.labels)) for each in METRICS}


@pytest.mark.parametrize("name", ["greenroom.json", "alerts.yaml"])
def test_what_asks_for_metrics_asks_for_those_that_there_are(name: str) -> None:
    """With labels that these have."""
    text = (GRAFANA / name).read_text(encoding="utf-8")
    asked = set(re.findall(r"\bgreenroom_\w+", text))
    assert asked
    assert asked <= exposed()


def test_the_dashboard_shows_every_metric() -> None:
    """One that nobody looks at might as well not be there."""
    text = (GRAFANA / "greenroom.json").read_text(encoding="utf-8")
    shown = {each.name for each in METRICS if each.name in text}
    assert {each.name for each in METRICS} - shown <= {
        "greenroom_member_error_ratio",
        "greenroom_concurrency_learned",
    }


def test_labels_of_queries_are_those_of_their_metrics() -> None:
    """A misspelt one would select nothing, in silence."""
    labels = {each.name: {"pool", "le", *each.labels} for each in METRICS}
    text = (GRAFANA / "alerts.yaml").read_text(encoding="utf-8")
    board = json.loads((GRAFANA / "greenroom.json").read_text(encoding="utf-8"))
    queries = [each["expr"] for panel in board["panels"] for each in panel["targets"]]
    for query in (*queries, text):
        for name, chosen in re.findall(r"(greenroom_\w+)\{([^}]*)\}", query):
            metric = re.sub(r"_(bucket|sum|count)$", "", name)
            assert set(re.findall(r"(\w+)\s*=", chosen)) <= labels[metric], query


def test_panels_have_places_of_their_own() -> None:
    """No two of the dashboard lie over each other."""
    board = json.loads((GRAFANA / "greenroom.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    assert all(0 <= x < 24 for x, _ in taken)


def test_there_are_four_alerts() -> None:
    """Each with an expression, a time, a severity and words."""
    text = (GRAFANA / "alerts.yaml").read_text(encoding="utf-8")
    for word in ("- alert:", "expr:", "for:", "severity:", "summary:", "description:"):
        assert text.count(word) == 4, word
