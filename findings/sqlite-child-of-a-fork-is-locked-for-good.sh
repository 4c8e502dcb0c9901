#!/usr/bin/env bash
# apsw 3.54.1.0 (SQLite 3.54.1): a process that is forked while its parent writes finds the database locked
# for good, by connections of its own, too.
#
# Guess before running: the child must not use the parent's connection, as SQLite's page says. One that it
#   opens itself is as that of any other process: it waits for the lock, and has it once the parent has
#   committed.
# Seen: a connection that the child opens after the parent has committed and closed still ends with "database
#   is locked", each time, however long it waits; what is written down of locks is kept for the whole process,
#   by file, and the child has a copy of it from within the transaction. Another process has the lock at once.
#   Forked between two transactions, the same child writes.
# So whatever keeps its state in SQLite next to code that forks (web workers, multiprocessing) has to hold
#   forks back while it writes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check apsw==3.54.1.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import os
import subprocess
import sys
from importlib.metadata import version

import apsw

PATH = sys.argv[1]


def insert():
    connection = apsw.Connection(PATH)
    connection.set_busy_timeout(1000)
    try:
        connection.execute("INSERT INTO t VALUES (1)")
    except apsw.BusyError:
        return "locked"
    finally:
        connection.close()
    return "written"


def of_a_child(within):
    """What becomes of its own connection, which it opens when the parent has none any more."""
    parent = apsw.Connection(PATH)
    if within:
        parent.execute("BEGIN IMMEDIATE")
        parent.execute("INSERT INTO t VALUES (0)")
    go, goes = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(go, 1)
        first, second = insert(), insert()
        os.write(tell, f"{first}, {second}".encode())
        os._exit(0)
    if within:
        parent.execute("COMMIT")
    parent.close()
    other = subprocess.run([sys.executable, __file__, PATH, "other"], capture_output=True, text=True)
    os.write(goes, b"x")
    said = os.read(told, 100).decode()
    os.waitpid(child, 0)
    return said, other.stdout.strip()


if sys.argv[2:] == ["other"]:
    print(insert())
    sys.exit()
print("apsw", version("apsw"), "SQLite", apsw.sqlite_lib_version())
setup = apsw.Connection(PATH)
setup.execute("PRAGMA journal_mode=WAL")
setup.execute("CREATE TABLE t (a)")
setup.close()
between, within = of_a_child(False), of_a_child(True)
print("forked between two transactions: the child's own two:", between[0], "- another process:", between[1])
print("forked within one, since committed: the child's own two:", within[0], "- another process:", within[1])
assert between == ("written, written", "written"), between
assert within == ("locked, locked", "written"), within
PY
"$work/venv/bin/python" "$work/seen.py" "$work/state.db"
