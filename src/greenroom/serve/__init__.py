"""A pool as an OpenAI-compatible endpoint: `create_app` makes an ASGI app, `serve` runs it.

For handlers of your own under Starlette or FastAPI: `unless_left` and `EventsResponse` end a
request whose client has hung up.

It needs `pip install 'greenroom[serve]'`.
"""

try:
    from greenroom.serve.endpoint import create_app
    from greenroom.serve.hang_up import ClientLeftError, EventsResponse, unless_left
    from greenroom.serve.http_server import serve
except ModuleNotFoundError as error:
    if error.name not in ("starlette", "uvicorn"):
        raise
    raise ModuleNotFoundError(
        f"greenroom.serve needs {error.name}: pip install 'greenroom[serve]'", name=error.name
    ) from error

__all__ = ["ClientLeftError", "EventsResponse", "create_app", "serve", "unless_left"]
