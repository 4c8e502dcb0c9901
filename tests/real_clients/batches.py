"""`make test-map`: `greenroom map` over servers of llmock, killed again and again; a million lines.

ARGS: nothing runs both; `kills` sends 2,000 prompts through three servers, of which one fails and
one is slow, and kills the command at ten random points (`--seed N`); `million` compares the memory
of a thousand lines with that of a million.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
from llmock.chaos import ChaosSettings
from llmock.simulation import MockResponseSettings
from llmock.testing import LLMockServer

PROMPTS, KILLS = 2_000, 10
FEW, MANY = 1_000, 1_000_000
LOOK_S = 0.002
MOST_GROWTH_MIB = 24.0
_LIMIT_S = 1_800.0


def main() -> int:
    """0 if all holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["kills", "million"])
    parser.add_argument("--seed", type=int, default=12)
    options = parser.parse_args()
    good = True
    if options.what in (None, "kills"):
        good &= kills(options.seed)
    if options.what in (None, "million"):
        good &= million()
    return 0 if good else 1


def kills(seed: int) -> bool:
    """Whether each prompt has one line, and the right one, however often the command is killed."""
    with tempfile.TemporaryDirectory() as name, servers() as urls:
        folder, rng = Path(name), random.Random(seed)
        (folder / "pool.toml").write_text(pool_of(urls))
        lines = ({"id": f"id-{n}", "prompt": f"prompt {n}."} for n in range(PROMPTS))
        (folder / "p.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
        output = folder / "a.jsonl"
        points = sorted(rng.sample(range(1, PROMPTS - 100), KILLS))
        hit = [kill_at(folder, output, point) for point in points]
        began = time.monotonic()
        last = subprocess.run(command("p.jsonl"), cwd=folder, check=False, timeout=_LIMIT_S)
        print(f"killed at {hit} lines; the last run took {time.monotonic() - began:.1f} s")
        return judge(output, last.returncode, sum(each is not None for each in hit))


def judge(output: Path, code: int, killed: int) -> bool:
    """Say what came out; whether it is as it should be."""
    found = [json.loads(line) for line in output.read_bytes().splitlines()]
    ids = Counter(each["id"] for each in found)
    right = sum(each.get("answer", "").endswith(said(each["id"])) for each in found)
    errors = sum("error" in each for each in found)
    members = Counter(each.get("member") for each in found)
    wanted = {f"id-{n}" for n in range(PROMPTS)}
    print(
        f"exit code {code}, {killed} kills, {len(found)} lines, {len(ids)} ids, "
        f"{max(ids.values())} lines an id at most, {right} right, {errors} errors, {dict(members)}"
    )
    once = set(ids) == wanted and max(ids.values()) == 1
    return once and code == 0 and killed == KILLS and right == PROMPTS


def said(id: str) -> str:
    return f"prompt {id.removeprefix('id-')}."


@contextlib.contextmanager
def servers() -> Iterator[list[str]]:
    """One is good, one fails always, one is slow; their base URLs."""
    kinds = (ChaosSettings(), ChaosSettings(error_rates={503: 1.0}), ChaosSettings(latency_ms=300))
    echo = MockResponseSettings(response_style="echo")
    with contextlib.ExitStack() as opened:
        yield [
            opened.enter_context(LLMockServer(chaos=kind, responses=echo)).base_url("openai")
            for kind in kinds
        ]


def pool_of(urls: list[str]) -> str:
    return "".join(
        f'[[members]]\nname = "{name}"\nkind = "openai"\nmodel = "m"\nbase_url = "{url}"\n'
        "max_concurrency = 8\n"
        for name, url in zip(("good", "failing", "slow"), urls, strict=True)
    )


def command(prompts: str) -> list[str]:
    return [sys.executable, "-m", "greenroom", "map", prompts, "-o", "a.jsonl"]


def kill_at(folder: Path, output: Path, lines: int) -> int | None:
    """Kill a run as soon as there are so many lines, or soon after; how many there were then.
    None if it ended sooner.
    """
    with subprocess.Popen(
        command("p.jsonl"), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            if output.exists() and output.read_bytes().count(b"\n") >= lines:
                process.kill()
                break
            time.sleep(LOOK_S)
    killed = process.returncode == -signal.SIGKILL
    return output.read_bytes().count(b"\n") if killed else None


def million() -> bool:
    """Whether a thousand times as many lines take no more memory, but for two bytes each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "echoes.py").write_text("async def echo(prompt):\n    return prompt\n")
        (folder / "pool.toml").write_text(
            '[[members]]\nname = "echo"\nkind = "python"\nagent = "echoes:echo"\n'
        )
        small, _ = measured(folder, FEW)
        large, took = measured(folder, MANY)
        again, took_again = measured(folder, MANY, fresh=False)
    print(
        f"most memory of {FEW:,} lines: {small:.1f} MiB; of {MANY:,}: {large:.1f} MiB in "
        f"{took:.0f} s; started again when all is done: {again:.1f} MiB in {took_again:.0f} s"
    )
    return max(large, again) - small < MOST_GROWTH_MIB


def measured(folder: Path, lines: int, *, fresh: bool = True) -> tuple[float, float]:
    """The most memory of a run, in MiB, and its seconds."""
    output = folder / "a.jsonl"
    if fresh:
        output.unlink(missing_ok=True)
        with (folder / "p.txt").open("w") as file:
            file.writelines(f"what is {number}?\n" for number in range(lines))
    began, most = time.monotonic(), 0
    with subprocess.Popen(
        command("p.txt"), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                most = max(most, watched.memory_info().rss)
            time.sleep(0.05)
    assert process.returncode == 0
    with output.open("rb") as file:
        assert sum(1 for _ in file) == lines
    return most / (1 << 20), time.monotonic() - began


def _no_proxy() -> None:
    for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
        del os.environ[name]


if __name__ == "__main__":
    _no_proxy()
    sys.exit(main())
