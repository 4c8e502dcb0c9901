"""The thread that writes the lines of the log."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

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
            log.write(lambda: "lost")
    log.write(lambda: "written")
    log.stop()
    assert out.getvalue() == "written\n"


def test_b267_a_loguru_without_its_file_costs_the_rotation_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is not public there: other logs go on, and who wants to rotate is told."""
    monkeypatch.setitem(sys.modules, "loguru._file_sink", None)
    with pytest.raises(ValueError, match="rotation is not to be had of this version of loguru"):
        Target(tmp_path / "app.log", rotation="1 MB")
    Target(tmp_path / "app.log").close()
