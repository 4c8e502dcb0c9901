"""LangChain: every runnable has `ainvoke` and `astream`; here a chat model has."""

from __future__ import annotations

# recipe
from langchain_openai import ChatOpenAI

from greenroom import Member


def model(url: str) -> ChatOpenAI:
    return ChatOpenAI(base_url=url, api_key="...", model="gpt-5", max_retries=0)  # the switch


def member(name: str, url: str) -> Member:
    return Member(name, model(url))  # its answer: reply.value.text


# end of recipe
from langchain_core.runnables import RunnableLambda  # noqa: E402

from frameworks.case import KEY, Case, Tool  # noqa: E402


def plain(name: str, url: str) -> Member:
    return Member(name, ChatOpenAI(base_url=url, api_key=KEY, model="gpt-5"))


def tooled(name: str, url: str, tool: Tool) -> Member:
    return Member(name, RunnableLambda(lambda prompt: tool() and prompt) | model(url))


CASE = Case(
    package="langchain-core",
    member=member,
    plain=plain,
    said=lambda value: str(value.text),
    streaming=member,
    piece=lambda chunk: str(chunk.text),
    tooled=tooled,
)
