"""`make test-status`: promtool and a Prometheus read `/metrics`, Chromium shows the page."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from status_live.browser import browsing, executable
from status_live.scene import LIMIT_S, Scene, playing

ROOT = next(each for each in Path(__file__).resolve().parents if (each / "pyproject.toml").exists())
RULES = ROOT / "docs/grafana/alerts.yaml"
SERIES = Path(__file__).with_name("alerts_test.yaml")
PICTURE = ROOT / "docs/status.png"
MOST_BYTES = 150_000


class Missing(Exception):
    """A program that is not installed."""


def program(name: str) -> str:
    """Where it is."""
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} is not installed (apt-get install prometheus)")
    return path


def browser() -> str:
    """The same for Chromium."""
    path = executable()
    if path is None:
        raise Missing("chromium is not installed (apt-get install chromium)")
    return path


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
        body: bytes = answer.read()
        return body


def check_metrics() -> str:
    """promtool accepts what `/metrics` says, and finds nothing to improve."""
    promtool = program("promtool")
    with playing() as scene:
        scene.failing.set()
        until(lambda: scene.pool.stats()["gpt"].circuit == "open")
        text = read(f"{scene.url}/metrics")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    said = (done.stdout + done.stderr).decode().strip()
    assert (done.returncode, said) == (0, "")
    return f"promtool accepts {len(text.splitlines())} lines of /metrics"


def check_rules() -> str:
    """promtool accepts the rules, and each fires where it is to."""
    promtool = program("promtool")
    for arguments in (["check", "rules", str(RULES)], ["test", "rules", str(SERIES)]):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return "promtool accepts four alert rules, and each fires where it is to"


def check_scrape() -> str:
    """A Prometheus scrapes it; every query of the dashboard has an answer there."""
    prometheus = program("prometheus")
    with playing(reset_s=0.2) as scene, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "prometheus.yml"
        target = scene.url.removeprefix("http://")
        config.write_text(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: writers\n"
            f"    static_configs:\n      - targets: ['{target}']\n"
        )
        port = free_port()
        server = subprocess.Popen(
            [
                prometheus,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            ask = _Queries(f"http://127.0.0.1:{port}")
            scene.failing.set()
            until(lambda: ask('greenroom_breaker_transitions_total{state="open"} > 0'))
            scene.failing.clear()
            until(lambda: ask('rate(greenroom_requests_total{outcome="answered"}[10s]) > 0'))
            (health,) = ask.targets()
            assert health == "up", health
            asked = queries()
            empty = [query for query in asked if not ask(query)]
        finally:
            server.terminate()
            server.wait(LIMIT_S)
    # What there is none of in this scene: first chunks are of those who ask for a stream.
    assert all("first_chunk" in query for query in empty), empty
    told = len(asked) - len(empty)
    return f"a Prometheus scrapes it, and answers {told} of the dashboard's {len(asked)} queries"


class _Queries:
    """The HTTP API of a Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, query: str) -> list[Any]:
        """What it answers; nothing where it does not listen yet."""
        try:
            said = json.loads(
                read(f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
            )
        except OSError:
            return []
        result: list[Any] = said["data"]["result"]
        return result

    def targets(self) -> list[str]:
        """How each target is."""
        said = json.loads(read(f"{self._url}/api/v1/targets"))
        return [each["health"] for each in said["data"]["activeTargets"]]


def queries() -> list[str]:
    """Those of the dashboard, for all pools and members."""
    board = json.loads((ROOT / "docs/grafana/greenroom.json").read_text(encoding="utf-8"))
    said = [each["expr"] for panel in board["panels"] for each in panel["targets"]]
    for name, value in (("$pool", ".*"), ("$member", ".*"), ("$__rate_interval", "10s")):
        said = [each.replace(name, value) for each in said]
    return said


def check_page() -> str:
    """The page shows a breaker's opening as it happens, without an error of its own."""
    path = browser()

    async def look(scene: Scene) -> float:
        async with browsing(path) as page:
            await page.open(f"{scene.url}/")
            closed = "[data-member=gpt] [data-circuit=closed]"
            await page.until(f"document.querySelector('{closed}')")
            before = await page.value("performance.timeOrigin")
            scene.failing.set()
            await page.until("document.querySelector('[data-event=\"breaker.opened\"]')")
            took_ms = await page.until(
                "document.querySelector('[data-member=gpt] [data-circuit=open]')"
            )
            assert await page.value("performance.timeOrigin") == before  # the same page, not anew
            assert not page.problems, page.problems
            return took_ms

    with playing() as scene:
        took_ms = asyncio.run(look(scene))
    return f"the page shows a breaker that opens, its row {took_ms:.0f} ms behind the event"


def take_shots() -> str:
    """The picture of the page."""
    path = browser()

    async def look(scene: Scene) -> bytes:
        async with browsing(path) as page:
            await page.open(f"{scene.url}/")
            await page.until("document.querySelector('[data-member=gpt]')")
            await page.until("(curves.get('writers') || []).length > 25")
            scene.failing.set()
            await page.until("document.querySelector('[data-member=gpt] [data-circuit=open]')")
            await page.until("curves.get('writers').length > 40")
            return await page.picture(1200, 560)

    with playing() as scene:
        image = asyncio.run(look(scene))
    assert len(image) < MOST_BYTES, len(image)
    PICTURE.write_bytes(image)
    return f"{PICTURE.relative_to(ROOT)}: {len(image):,} bytes"


CHECKS: dict[str, Callable[[], str]] = {
    "metrics": check_metrics,
    "rules": check_rules,
    "scrape": check_scrape,
    "page": check_page,
}


def until(holds: Callable[[], object]) -> None:
    """Wait for it.

    Raises:
        TimeoutError: in vain.
    """
    end = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for has not come")
        time.sleep(0.05)


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def main(wanted: list[str]) -> int:
    if wanted == ["shots"]:
        print(take_shots())
        return 0
    unknown = set(wanted) - set(CHECKS)
    if unknown:
        print(f"there is no {', '.join(unknown)}; there are {', '.join(CHECKS)}, shots")
        return 2
    failed = False
    for name in wanted or CHECKS:
        try:
            print(f"{name}: {CHECKS[name]()}", flush=True)
        except Missing as missing:
            print(f"{name}: SKIPPED, {missing}", flush=True)
        except (AssertionError, TimeoutError, RuntimeError) as error:
            failed = True
            print(f"{name}: FAILED, {type(error).__name__}: {error}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
