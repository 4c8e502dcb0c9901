"""gunicorn for the Flask app beside it: each worker has a pool of its own.

gunicorn -c examples/gunicorn.conf.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

chdir = str(Path(__file__).parent)
wsgi_app = "flask_app:app"
bind = "127.0.0.1:8000"
workers = 2
threads = 8  # its worker class is gthread then
timeout = 60  # of a worker that no longer says that it lives, not of a request
graceful_timeout = 40  # more than the longest request that is to be finished: /ask has 30 s

# The app is imported once, before the forks. A pool that were started by that import would be the
# master's: in the workers each call of it raises a ForkedPoolError. A PoolPerProcess may be.
preload_app = True


def post_fork(server: Any, worker: Any) -> None:
    """Start the pool before the first request comes: wrong members are seen here, and at once."""
    from flask_app import POOL

    POOL()


def worker_exit(server: Any, worker: Any) -> None:
    """By now the worker has answered what it could: clients are closed, threads end."""
    from flask_app import POOL

    POOL.stop(drain_s=1)
