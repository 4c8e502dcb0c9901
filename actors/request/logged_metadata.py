"""What of a request's metadata its events have: what `PoolConfig.log_metadata` names. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from greenroom.actors.request.job import Job
from greenroom.messages.pickling import masked

LONGEST = 100
"""Characters of a value that are shown; what is longer ends with an ellipsis."""

NOTHING: tuple[str, ...] = ()

_PLAIN = re.compile(r"[\w.:/@+*-]+", re.ASCII)


def logged_metadata(job: Job | None) -> tuple[str, ...]:
    """`key=value` for each key that is named and there, in the order in which they are named.

    A value that is not a string, a number or a flag is shown as its type: it may be anything.
    """
    if job is None or not job.policy.config.log_metadata or not job.work.metadata:
        return NOTHING
    metadata, found = job.work.metadata, []
    for key in job.policy.config.log_metadata:
        try:
            if key in metadata:
                found.append(f"{key}={_shown(metadata[key])}")
        except Exception:  # a mapping of the app's own
            found.append(f"{key}=?")
    return tuple(found)


def _shown(value: Any) -> str:
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return str(value)
    if kind is int:  # Python refuses to print those of more than some thousand digits
        return str(value) if value.bit_length() < 256 else "<int>"
    if not issubclass(kind, str):
        return f"<{kind.__name__}>"
    # Masked whole: half a key does not look like one.
    text = masked(str.__str__(value)[: 40 * LONGEST])
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
