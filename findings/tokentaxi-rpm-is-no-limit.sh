#!/usr/bin/env bash
# tokentaxi 1.1.4: `rpm` of a provider ranks it; nothing is held back by it. Providers of a config are never
# registered.
#
# Guess before running: a "rate-limit-aware" router with `rpm=5` sends five calls in a minute to its only
#   provider, and lets the sixth wait, or refuses it. And the first example of its page, `LLMRouter.from_dict`
#   with providers, has providers.
# Seen: fifty requests at once are fifty calls, since a call counts when it has been answered; ten more, one
#   after the other, are ten more: a provider without headroom is the last choice, and so the only one is
#   chosen. A router from a config of one provider raises NoProvidersConfigured at its first request; only
#   `register` adds any.
# So a limit that is told to it keeps nobody from 429s: put a limiter before it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# Without what it imports for no router of one's own functions (boto3, cohere, google-genai, ...).
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-deps tokentaxi==1.1.4 2>"$work/pip.log" &&
  "$work/venv/bin/pip" install -q --disable-pip-version-check httpx==0.28.1 pydantic==2.12.5 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import asyncio
import logging
import sys
from importlib.metadata import version
from types import SimpleNamespace

# Its tokens are counted by a word list from the network, its prices come from openrouter.ai.
words = SimpleNamespace(encode=lambda text: text.split())
sys.modules["tiktoken"] = SimpleNamespace(get_encoding=lambda name: words)
logging.disable(logging.CRITICAL)

from tokentaxi import LLMRouter, RouterRequest
from tokentaxi.exceptions import NoProvidersConfigured

ASK = RouterRequest(messages=[{"role": "user", "content": "hello"}])
PROVIDER = {"name": "a", "api_key": "k", "model": "m", "rpm_limit": 5, "tpm_limit": 200_000}


async def no_prices():
    pass


def router_of(providers):
    router = LLMRouter.from_dict({"providers": providers})
    router.pricing.fetch_pricing = no_prices
    return router


async def main():
    print("tokentaxi", version("tokentaxi"))
    calls = 0

    async def client(**_):
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return "hello", 1, 1

    router = router_of([])
    router.register("a", client=client, model="m", rpm=5, tpm=200_000)
    await asyncio.gather(*(router.chat(ASK) for _ in range(50)))
    print("rpm=5, fifty requests at once:", calls, "calls")
    assert calls == 50, calls
    for _ in range(10):
        await router.chat(ASK)
    print("ten more, one after the other:", calls - 50, "calls;", await router.status())
    assert calls == 60, calls
    try:
        await router_of([PROVIDER]).chat(ASK)
    except NoProvidersConfigured as error:
        print("a router from a config with one provider:", error)
    else:
        raise AssertionError("providers of a config are registered now")


asyncio.run(main())
PY
"$work/venv/bin/python" "$work/seen.py"
