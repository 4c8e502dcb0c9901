"""The thread that writes the lines of the log."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import pytest

from greenroom.logs.writer import Target, Writer


def test_a_log_whose_thread_could_not_be_started_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line of that moment is lost, those after it are written, and its end is one."""
    out = io.StringIO()

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    log = Writer(Target(out), str)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            log.write(SimpleNamespace(record="lost"))
    log.write(SimpleNamespace(record="written"))
    log.stop()
    assert out.getvalue() == "written\n"
