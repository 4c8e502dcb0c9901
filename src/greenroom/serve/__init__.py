"""A pool as an OpenAI-compatible endpoint: `create_app` makes an ASGI app, `serve` runs it.

It needs `pip install 'greenroom[serve]'`.
"""

try:
    from greenroom.serve.endpoint import create_app
    from greenroom.serve.http_server import serve
except ModuleNotFoundError as error:
    if error.name not in ("starlette", "uvicorn"):
        raise
    raise ModuleNotFoundError(
        f"greenroom.serve needs {error.name}: pip install 'greenroom[serve]'", name=error.name
    ) from error

__all__ = ["create_app", "serve"]
