"""Certificates for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def certificate(folder: Path, name: str = "server") -> tuple[Path, Path]:
    """The files of a certificate of 127.0.0.1, signed by nobody else, and of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here to make a certificate: TLS is not tested")
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext"
    argv = [*command.split(), "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    return cert, key
