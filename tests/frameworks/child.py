"""Runs in the environment of one group: measures its cases and writes down what came out.

`python -m frameworks.child OUT.jsonl CASE...`, a line a case; `-` is stdout.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
import warnings
from dataclasses import asdict
from typing import Any

from frameworks.measure import measure
from frameworks.provider import Provider

QUIET = {
    "AGNO_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
}
"""No framework is to tell its makers that it runs here."""


def main(arguments: list[str]) -> None:
    os.environ.update(QUIET)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    out, *names = arguments
    with Provider().running() as provider:
        for name in names:
            line = json.dumps(_measured(name, provider))
            if out == "-":
                print(line)
                continue
            with open(out, "a", encoding="utf-8") as lines:
                lines.write(f"{line}\n")


def _measured(name: str, provider: Provider) -> dict[str, Any]:
    try:
        module = importlib.import_module(f"frameworks.cases.{name}")
    except ImportError as error:
        return {"case": name, "skipped": f"{type(error).__name__}: {error}"}
    try:
        return {"case": name, "row": asdict(measure(name, module.CASE, provider))}
    except Exception:
        return {"case": name, "broken": traceback.format_exc()}


if __name__ == "__main__":
    main(sys.argv[1:])
