"""dspy: a program takes its fields by name, and its model from the context."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from typing import Any

import dspy

from greenroom import Member


def model(url: str) -> dspy.LM:
    once = {"num_retries": 0, "cache": False}  # the switches
    return dspy.LM("openai/gpt-5", api_base=url, api_key="...", **once)


def member(name: str, url: str) -> Member:
    lm, program = model(url), dspy.Predict("question -> answer")

    async def run(prompt: str) -> dspy.Prediction:
        with dspy.context(lm=lm):
            return await program.acall(question=prompt)

    return Member(name, run)  # its answer: reply.value.answer


def streaming(name: str, url: str) -> Member:
    lm = model(url)
    listeners = [dspy.streaming.StreamListener(signature_field_name="answer")]
    program = dspy.streamify(
        dspy.Predict("question -> answer"), stream_listeners=listeners, is_async_program=True
    )

    async def texts(prompt: str) -> AsyncIterator[str]:
        with dspy.context(lm=lm):
            async for event in program(question=prompt):
                if isinstance(event, dspy.streaming.StreamResponse):
                    yield event.chunk

    return Member(name, texts)


# end of recipe
from frameworks import case, provider  # noqa: E402


def plain(name: str, url: str) -> Member:
    return Member(name, dspy.Predict("question -> answer"))


def unswitched(name: str, url: str) -> Member:
    lm = dspy.LM("openai/gpt-5", api_base=url, api_key=case.KEY)
    program = dspy.Predict("question -> answer")

    async def run(prompt: str) -> Any:
        with dspy.context(lm=lm):
            return await program.acall(question=prompt)

    return Member(name, run)


def tooled(name: str, url: str, tool: case.Tool) -> Member:
    lm, program = model(url), dspy.ReAct("question -> answer", tools=[tool])

    async def run(prompt: str) -> Any:
        with dspy.context(lm=lm):
            return await program.acall(question=prompt)

    return Member(name, run)


def script(asked: provider.Asked) -> dict[str, Any]:
    """Fields under headings; of a `ReAct` first a thought, and the tool that it leads to."""
    system, last = asked["messages"][0]["content"], asked["messages"][-1]["content"]
    fields = {"reasoning": "Seen.", "answer": provider.ANSWER}
    if "next_tool_name" in system:
        tool = "finish" if "observation_0" in last else "look"
        fields = {"next_thought": "Well.", "next_tool_name": tool, "next_tool_args": "{}"}
    elif "reasoning" not in system:
        del fields["reasoning"]
    said = [f"[[ ## {name} ## ]]\n{text}\n\n" for name, text in fields.items()]
    return {"content": "".join([*said, "[[ ## completed ## ]]"])}


CASE = case.Case(
    package="dspy",
    member=member,
    plain=plain,
    unswitched=unswitched,
    why="a program takes its fields by name",
    said=lambda value: str(value.answer),
    streaming=streaming,
    tooled=tooled,
    script=script,
)
