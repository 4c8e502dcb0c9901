"""Flask on a pool, under any server that has threads; it may fork before or after this is imported.

flask --app examples/flask_app run                     to try it
gunicorn -c examples/gunicorn.conf.py                  to serve it
python examples/flask_app.py                           to see what its clients see, without a server
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, Response, abort, jsonify, make_response, request

from greenroom import AgentPool, Member, PoolError, PoolPerProcess, PoolStream, Request
from greenroom.web import problem_of

# -- the agents: put the calls of your clients here


def cloud(prompt: str) -> Iterator[str]:
    if "rain" in prompt:
        raise ConnectionError("connection refused")  # what an outage looks like
    yield "cloud: "
    yield prompt.upper()


def local(prompt: str) -> Iterator[str]:
    yield "local: "
    yield prompt.lower()


MEMBERS = [  # as many calls at a time as the server has threads
    Member("cloud", cloud, max_concurrency=8),
    Member("local", local, priority=1, max_concurrency=8),
]

# -- the service

POOL = PoolPerProcess(lambda: AgentPool.start(MEMBERS, strategy="priority", name="web"))
atexit.register(POOL.stop)  # that of the process which ends, if it has one

app = Flask(__name__)


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong with the pool as a status."""
    try:
        yield
    except Exception as error:  # the pool's, or an agent's own: the request is at fault
        problem = problem_of(error)
        if problem.status == 500:  # a mistake of this app: with its traceback to the log
            raise
        abort(make_response(problem.body(), problem.status, problem.headers()))


def text() -> str:
    """The prompt in the body; Flask answers 400 where there is none."""
    body = request.get_json()
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        abort(400)
    return str(body["text"])


@app.post("/ask")
def ask() -> Response:
    prompt = text()
    with told():
        reply = POOL().ask(Request(prompt, timeout=30))
    return jsonify(answer="".join(reply.value), by=reply.member)


@app.post("/stream")
def stream() -> Response:
    """Each chunk is a server-sent event. A client that has left is noticed by the next one."""
    prompt = text()
    with told():  # until there is a chunk another member can take over, and a status be sent
        chunks = POOL().stream(Request(prompt, timeout=120))
        chunks.first().get()
    response = Response(events(chunks), mimetype="text/event-stream")
    response.call_on_close(chunks.close)
    return response


def events(chunks: PoolStream[str]) -> Iterator[str]:
    try:
        for chunk in chunks:
            yield f"data: {json.dumps(chunk)}\n\n"
    except PoolError as error:  # it broke off: too late for a status
        yield f"event: error\ndata: {json.dumps(problem_of(error).body())}\n\n"


@app.get("/health")
def health() -> tuple[Response, int]:
    """For a load balancer: is there a member that can be asked, and no drain?"""
    stats = POOL().stats()
    members = {member.name: str(member.status) for member in stats.members}
    return jsonify(members), 200 if stats.can_serve else 503


# -- what its clients see


def main() -> None:
    client = app.test_client()
    for path, said in (
        ("/ask", "Sun"),
        ("/ask", "rain"),
        ("/stream", "Sun"),
        ("/stream", "rain"),
    ):
        answer = client.post(path, json={"text": said})
        print(path, said, answer.status_code, answer.text.strip().replace("\n\n", " | "))
    answer = client.get("/health")
    print("/health", answer.status_code, answer.text.strip())


if __name__ == "__main__":
    main()
