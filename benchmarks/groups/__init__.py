"""What is measured: the groups of cases, each of which can be run alone with `--only`."""

from __future__ import annotations

from benchmarks.groups import (
    callers,
    context,
    failover,
    in_flight,
    latency,
    lifecycle,
    limited,
    limits,
    log,
    members,
    memory,
    pipelined,
    recorder,
    remote,
    sharing,
    streams,
    telemetry,
    tells,
)

GROUPS = {
    group.name: group
    for group in (
        latency.GROUP,
        context.GROUP,
        callers.GROUP,
        pipelined.GROUP,
        in_flight.GROUP,
        failover.GROUP,
        members.GROUP,
        streams.GROUP,
        tells.GROUP,
        lifecycle.GROUP,
        memory.REQUEST,
        memory.MEMBER,
        log.GROUP,
        limited.GROUP,
        limited.MEMORY,
        limits.GROUP,
        recorder.GROUP,
        telemetry.GROUP,
        sharing.GROUP,
        remote.GROUP,
    )
}
