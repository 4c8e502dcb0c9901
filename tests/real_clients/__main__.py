"""`make test-clients`: calls every client in every situation and says what was judged rightly.

ARGS: nothing runs all; `core agents litellm context llmock serve` chooses groups; `retries` counts
the HTTP requests that one call makes with a client's defaults; `freeze` also rewrites what
`make test` reads; `entered` has clients made by factories, entered and left, and nothing else;
`model` is what `make test-model` runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import greenroom
from real_clients.freeze import freeze
from real_clients.groups import ASKED_FOR, GROUPS, TESTED
from real_clients.known import reason_of

_TESTS = Path(__file__).resolve().parents[1]
_ROOT = _TESTS.parent
_GREENROOM = Path(greenroom.__file__).parents[1]
"""Where this environment has it from: those of the clients need only what it stands on."""
_ALL = (*GROUPS, *TESTED, *ASKED_FOR)
_LIMIT_S = 900.0
_LATE_S = 2.0
GOAL = 0.98

Record = dict[str, Any]


def main(arguments: list[str]) -> int:
    """0 if at least `GOAL` of the raised errors are judged rightly, and each other has a reason."""
    unknown = set(arguments) - {*_ALL, "retries", "freeze", "entered"}
    if unknown:
        print(f"not known: {' '.join(sorted(unknown))}; groups are {' '.join(_ALL)}")
        return 2
    if "entered" in arguments:
        return _entered()
    mode = "retries" if "retries" in arguments else "calls"
    records = [r for group in GROUPS if _wanted(group, arguments) for r in _group(group, mode)]
    for skipped in (r for r in records if "skipped" in r):
        print(f"skipped {skipped['skipped']}: {skipped['why']}")
    records = [r for r in records if "skipped" not in r]
    if mode == "retries":
        _print_retries(records)
        return 0
    if "freeze" in arguments:
        freeze(records, _TESTS / "client_shapes.json", _TESTS / "client_values.json")
    tested = [*TESTED, *(group for group in ASKED_FOR if group in arguments)]
    failed = [group for group in tested if _wanted(group, arguments) and not _passes(group)]
    entered = _entered() if _wanted("core", arguments) else 0
    return max(_judge(records) if records else 0, bool(failed), bool(entered))


def _entered() -> int:
    """0 if every client that a factory makes is entered, used and left in order."""
    if not _python("core").exists():
        print("skipped core: its environment could not be made")
        return 0
    command = [str(_python("core")), "-m", "real_clients.entered"]
    return subprocess.run(command, env=_environment(), timeout=_LIMIT_S, check=False).returncode


def _wanted(group: str, arguments: list[str]) -> bool:
    chosen = [a for a in arguments if a in _ALL]
    return not chosen or group in chosen


def _python(group: str) -> Path:
    return _ROOT / f".venv-clients-{group}" / "bin" / "python"


def _environment() -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment["PYTHONPATH"] = os.pathsep.join((str(_TESTS), str(_GREENROOM)))
    return environment


def _passes(group: str) -> bool:
    """Whether a group's tests do; what is not installed is skipped, and pytest says so."""
    if not _python(group).exists():
        print(f"skipped {group}: its environment could not be made")
        return True
    command = [str(_python(group)), "-m", "pytest", "-q", "--noconftest", "-W", "default"]
    command += [str(_TESTS / "real_clients" / file) for file in (TESTED | ASKED_FOR)[group]]
    return not subprocess.run(command, env=_environment(), cwd=_ROOT, check=False).returncode


def _group(group: str, mode: str) -> list[Record]:
    """What one group's environment brought; bounded in time."""
    python = _python(group)
    if not python.exists():
        return [{"skipped": group, "why": "its environment could not be made"}]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "records.jsonl"
        command = [str(python), "-m", "real_clients.child", mode, str(out), ",".join(GROUPS[group])]
        records: list[Record] = []
        try:
            done = subprocess.run(command, env=_environment(), timeout=_LIMIT_S, check=False)
            if done.returncode:
                records.append({"skipped": group, "why": f"ended with {done.returncode}"})
        except subprocess.TimeoutExpired:
            records.append({"skipped": f"the rest of {group}", "why": f"over {_LIMIT_S:g} s"})
        lines = out.read_text().splitlines() if out.exists() else []
        return [*map(json.loads, lines), *records]


def _judge(records: list[Record]) -> int:
    raised = [r for r in records if r["outcome"] == "raised"]
    families: dict[str, list[Record]] = defaultdict(list)
    for record in raised:
        families[f"{record['client']} {record['version']}"].append(record)
    for family, members in families.items():
        right = sum(map(_is_right, members))
        print(f"{family}: {right} of {len(members)} raised errors judged rightly")
    unexplained = 0
    for record in raised:
        unexplained += _print_wrong(record, "kind", _is_right(record))
        unexplained += _print_wrong(record, "retry_after", _is_wait_right(record))
    for record in (r for r in records if r["outcome"] == "still running"):
        print(f"  {_title(record)}: did not come back")
    right = sum(map(_is_right, raised))
    values = [r for r in records if r["outcome"] == "value"]
    print(
        f"{right} of {len(raised)} raised errors judged rightly ({right / max(1, len(raised)):.1%})"
    )
    refused = [r for r in values if r["right"]]
    print(f"{len(values)} values, {len(refused)} of failures that raise nothing")
    wrong = [r for r in values if r.get("value_right") is False]
    for record in wrong:
        print(f"  {_title(record)}: the value is judged {record['value_judged']}")
    if any("value_right" in r for r in values):
        print(f"{len(values) - len(wrong)} of {len(values)} values judged rightly")
    return 1 if unexplained or right < GOAL * len(raised) else 0


def _title(record: Record) -> str:
    return f"{record['client']} {record['mode']} {record['situation']}"


def _is_right(record: Record) -> bool:
    return record["judged"] in record["right"]


def _is_wait_right(record: Record) -> bool:
    asked, read = record["retry_after_s"], record["judged_retry_after_s"]
    return asked is None or (read is not None and abs(asked - read) <= _LATE_S)


def _print_wrong(record: Record, what: str, right: bool) -> int:
    """Name an error that is misjudged; 1 if there is no reason for it."""
    if right:
        return 0
    reason = reason_of(record["client"], record["situation"], record["mode"], what)
    found = record["judged" if what == "kind" else "judged_retry_after_s"]
    wanted = " or ".join(record["right"]) if what == "kind" else record["retry_after_s"]
    print(f"  {_title(record)}: {found}, right is {wanted} ({reason or 'NO REASON KNOWN'})")
    return 0 if reason else 1


def _print_retries(records: list[Record]) -> None:
    print("| client | version | mode | against 429 | against 500 | took (429) | took (500) |")
    print("|---|---|---|---|---|---|---|")
    for r in records:
        found = [f"{r[s]['requests']}{'' if r[s]['ended'] else '+'}" for s in ("429", "500")]
        took = [f"{r[s]['took_s']:.1f} s" for s in ("429", "500")]
        print(f"| {r['client']} | {r['version']} | {r['mode']} | {' | '.join(found + took)} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
