"""A process that measures the cases of one group for one peer, when it is told to.

    python -m benchmarks.worker GROUP PEER [--core N] [--quick] [--pace X]

It writes a JSON object a line: {"ready": true, "slow": ...} once it has imported its peer, then for
every name of a case that it reads {"value": ...}, or {"missing": "why"} if it cannot. Setting up
and warming up come with the first round of a case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from dataclasses import replace
from typing import Any, TextIO

from benchmarks.model import FULL, QUICK, Group, Measure, NotMeasured, Scale


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("group")
    parser.add_argument("peer")
    parser.add_argument("--core", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pace", type=float, default=1.0)
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    with own_stdout() as answers, contextlib.ExitStack() as stack:
        serve(arguments, answers, stack)
    return 0


def own_stdout() -> contextlib.AbstractContextManager[TextIO]:
    """The real standard output, for answers alone; what peers print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(arguments: argparse.Namespace, answers: TextIO, stack: contextlib.ExitStack) -> None:
    from benchmarks.groups import GROUPS  # after pinning: what is imported may start threads
    from benchmarks.peers import load

    scale = replace(QUICK if arguments.quick else FULL, pace=arguments.pace)
    group: Group = GROUPS[arguments.group]
    ready: dict[str, Measure] = {}
    try:
        peer = load(arguments.peer)
    except Exception as error:
        peer = error

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    slow = getattr(peer, "slow", False)
    scale = scale.for_slow() if slow else scale
    answer(ready=True, slow=slow)
    for line in sys.stdin:
        try:
            answer(value=one_round(group, line.strip(), peer, scale, ready, stack))
        except Exception as error:
            answer(missing=reason(error))


def one_round(
    group: Group,
    name: str,
    peer: Any,
    scale: Scale,
    ready: dict[str, Measure],
    stack: contextlib.ExitStack,
) -> float:
    if isinstance(peer, Exception):
        raise peer
    if name not in ready:
        ready[name] = stack.enter_context(group.case(name).prepare(peer, scale))
        if not (group.once or group.together):
            ready[name]()  # warm-up
    return ready[name]()


def reason(error: Exception) -> str:
    """What the report says of it, in one line."""
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, NotMeasured) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
