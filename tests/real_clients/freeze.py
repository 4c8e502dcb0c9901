"""Writes what the clients raised and returned as files that tests read without any client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def freeze(records: Iterable[Record], errors: Path, values: Path) -> None:
    """Write both files: each client in each situation once, sync and async as one where alike."""
    records = list(records)
    _write(errors, _merged(r for r in records if r["outcome"] == "raised"), "error")
    _write(values, _merged(r for r in records if r["outcome"] == "value"), "value")


def _merged(records: Iterable[Record]) -> list[Record]:
    shapes: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        same = shapes.setdefault((record["client"], record["situation"]), [])
        it = record.get("error", record.get("value"))
        alike = next((s for s in same if _alike(s.get("error", s.get("value")), it)), None)
        if alike:
            alike["mode"] = f"{alike['mode']}+{record['mode']}"
        else:
            same.append(dict(record))
    merged = []
    for (client, situation), same in sorted(shapes.items()):
        for shape in same:
            mode = "" if len(same) == 1 else f"/{shape['mode']}"
            merged.append({"id": f"{client}/{situation}{mode}"} | shape)
    return merged


def _alike(one: Any, other: Any) -> bool:
    """Whether they look the same but for the names of classes, which are async in one of them."""
    return _flat(one) == _flat(other)


def _flat(shape: Any) -> str:
    return json.dumps(shape).replace("Async", "").replace("async", "sync")


_KEPT = ("id", "client", "version", "mode", "situation", "right", "retry_after_s")


def _write(path: Path, shapes: list[Record], what: str) -> None:
    classes: dict[str, int] = {}
    lines = []
    for shape in shapes:
        kept = {key: shape[key] for key in _KEPT if shape.get(key) is not None}
        if shape["stream"]:
            kept["stream"] = True
        if shape["situation"] == "429date":
            kept["wall_now"] = shape["wall_now"]
        lines.append(json.dumps(kept | {what: _interned(shape[what], classes)}, ensure_ascii=True))
    head = ",\n".join(json.dumps(key.split(" ")) for key in classes)
    body = ",\n".join(lines)
    path.write_text(f'{{"classes": [\n{head}\n],\n"shapes": [\n{body}\n]}}\n')


def _interned(shape: Any, classes: dict[str, int]) -> Any:
    """The shape with a number in place of each list of classes."""
    if isinstance(shape, list):
        return [_interned(item, classes) for item in shape]
    if not isinstance(shape, dict):
        return shape
    done = {}
    for key, value in shape.items():
        if key in ("mro", "~map", "~object", "~enum", "~pairs") and isinstance(value, list):
            done[key] = classes.setdefault(" ".join(value), len(classes))
        else:
            done[key] = _interned(value, classes)
    return done
