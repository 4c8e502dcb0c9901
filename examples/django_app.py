"""Django on a pool, in one file: sync and async views of the same pool, under WSGI and ASGI.

gunicorn --threads 8 --chdir examples django_app:application      WSGI; or gunicorn.conf.py's way
uvicorn --app-dir examples django_app:asgi                        ASGI
python examples/django_app.py            to see what its clients see, without a server
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import AsyncIterator, Iterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import Client
from django.urls import path
from django.views.decorators.http import require_POST

from greenroom import AgentPool, Member, PoolConfig, PoolError, PoolPerProcess, PoolStream, Request
from greenroom.web import problem_of

# -- the agents: put the calls of your clients here


async def cloud(prompt: str) -> AsyncIterator[str]:
    if "rain" in prompt:
        raise ConnectionError("connection refused")  # what an outage looks like
    yield "cloud: "
    yield prompt.upper()


def local(prompt: str) -> Iterator[str]:
    yield "local: "
    yield prompt.lower()


MEMBERS = [Member("cloud", cloud), Member("local", local, priority=1, max_concurrency=8)]

# -- the pool: ASGI in Django has no start and no end of its own, so each process starts it on first
# use. On a loop of its own: sync views, which run in threads, use it as well.

CONFIG = PoolConfig(event_loop="own")
POOL = PoolPerProcess(
    lambda: AgentPool.start(MEMBERS, strategy="priority", config=CONFIG, name="web")
)
atexit.register(POOL.stop)  # that of the process which ends, if it has one

# -- the views


def refusal(error: Exception) -> JsonResponse:
    """What went wrong with the pool as a status."""
    problem = problem_of(error)
    if problem.status == 500:  # a mistake of this app: with its traceback to the log
        raise error
    return JsonResponse(problem.body(), status=problem.status, headers=problem.headers())


def prompt_of(web: HttpRequest) -> str:
    return str(json.loads(web.body)["text"])


@require_POST
def ask(web: HttpRequest) -> HttpResponse:
    """Its thread waits. Under ASGI too: there each sync view needs a thread of Django's."""
    request = Request(prompt_of(web), timeout=30)
    try:
        reply = POOL().ask(request)
    except Exception as error:  # the pool's, or an agent's own: the request is at fault
        return refusal(error)
    return JsonResponse({"answer": "".join(reply.value), "by": reply.member})


@require_POST
async def aask(web: HttpRequest) -> HttpResponse:
    """Nobody waits in a thread; and Django cancels it when its client leaves, the agent with it."""
    request = Request(prompt_of(web), timeout=30)
    try:
        reply = await POOL().aask(request)
    except Exception as error:
        return refusal(error)
    return JsonResponse({"answer": "".join(reply.value), "by": reply.member})


@require_POST
async def stream(web: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Each chunk is a server-sent event. For ASGI: a sync one would hold a thread all the time."""
    chunks = POOL().stream(Request(prompt_of(web), timeout=120))
    try:
        await chunks.first()  # until then another member can take over, and a status be sent
    except Exception as error:
        return refusal(error)
    return StreamingHttpResponse(events(chunks), content_type="text/event-stream")


async def events(chunks: PoolStream[str]) -> AsyncIterator[str]:
    async with chunks:
        try:
            async for chunk in chunks:
                yield f"data: {json.dumps(chunk)}\n\n"
        except PoolError as error:  # it broke off: too late for a status
            yield f"event: error\ndata: {json.dumps(problem_of(error).body())}\n\n"


async def health(web: HttpRequest) -> JsonResponse:
    """For a load balancer: is there a member that can be asked, and no drain?"""
    stats = await POOL().astats()
    members = {member.name: str(member.status) for member in stats.members}
    return JsonResponse(members, status=200 if stats.can_serve else 503)


urlpatterns = [
    path("ask", ask),
    path("aask", aask),
    path("stream", stream),
    path("health", health),
]

# -- the project

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "only-to-try-it"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost", "testserver"],
)
django.setup()
application = get_wsgi_application()
asgi = get_asgi_application()

# -- what its clients see


def main() -> None:
    client = Client()
    for where, text in (
        ("/ask", "Sun"),
        ("/ask", "rain"),
        ("/aask", "Sun"),
        ("/aask", "rain"),
    ):
        answer = client.post(where, {"text": text}, "application/json")
        print(where, text, answer.status_code, answer.content.decode())
    answer = client.get("/health")
    print("/health", answer.status_code, answer.content.decode())


if __name__ == "__main__":
    main()
