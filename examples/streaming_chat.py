"""A chat in the terminal that survives a stream which breaks off: another member starts over.

python examples/streaming_chat.py            to talk to it
python examples/streaming_chat.py < /dev/null    to watch it
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from greenroom import AgentPool, Member, PoolConfig, PoolError, PoolRef, Request, Restarted

Message = dict[str, str]


# -- the agents: put the streaming calls of your clients here


def cloud(messages: list[Message]) -> Iterator[str]:
    yield "You said "
    if "story" in messages[-1]["content"]:
        raise ConnectionError("connection reset")  # in the middle of its answer
    yield f"{messages[-1]['content']!r}."


def local(messages: list[Message]) -> Iterator[str]:
    yield from ("Once ", "upon ", "a ", "time.")


MEMBERS = [Member("cloud", cloud), Member("local", local, priority=1)]
CONFIG = PoolConfig(
    on_cut="restart",
    first_chunk_timeout_s=20,  # a model that thinks for longer is given up
    chunk_timeout_s=10,
)

# -- the chat


def answer(pool: PoolRef, messages: list[Message]) -> str:
    """Print the answer as it comes; returns the whole of it."""
    shown: list[str] = []
    for chunk in pool.stream(Request(messages), timeout=120):
        if isinstance(chunk, Restarted):  # what was shown is void
            print(f" [{chunk.member} broke off, starting over]")
            shown.clear()
        else:
            print(chunk, end="", flush=True)
            shown.append(chunk)
    print()
    return "".join(shown)


def questions() -> Iterator[str]:
    """What the user types, until an empty line; without a terminal, two examples."""
    if sys.stdin.isatty():
        yield from iter(lambda: input("> "), "")
        return
    for question in ("hello", "tell me a story"):
        print(f"> {question}")
        yield question


def main() -> None:
    messages: list[Message] = []
    with AgentPool.start(MEMBERS, strategy="priority", config=CONFIG, name="chat") as pool:
        for question in questions():
            messages.append({"role": "user", "content": question})
            try:
                text = answer(pool, messages)
            except PoolError as error:
                print(f"\n[no answer: {str(error).splitlines()[0]}]")
                messages.pop()  # as if it had not been asked
            else:
                messages.append({"role": "assistant", "content": text})


if __name__ == "__main__":
    main()
