"""An ASGI app on loopback, in a thread of its own: for cases that need a server of their kind."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any


def serve(app_of: Callable[[str], Any]) -> str:
    """Serve what it makes of its own URL, until the process ends; the URL."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = uvicorn.Config(app_of(url), log_level="critical", ws="none")
    server = uvicorn.Server(config)
    run = threading.Thread(target=server.run, args=([listening],), daemon=True)
    run.start()
    return url
