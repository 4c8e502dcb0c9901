"""A conversation that is its own text, for whatever takes one. Behaviour 198."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest
from helpers_pools import pool_of

from greenroom import Member, Request
from greenroom.kinds import ChatPrompt, CommandAgent


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


TEXTS: list[tuple[list[dict[str, Any]], str]] = [
    ([user("hi")], "hi"),
    ([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], "a\nb"),
    ([user([{"type": "text", "text": "see"}, {"type": "image_url"}])], "see\n[image_url]"),
    ([{"role": "system", "content": "Be short."}, user("hi")], "system: Be short.\n\nuser: hi"),
    ([{"role": "system", "content": "hi"}], "system: hi"),
    (
        [
            user("1+1?"),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "add", "arguments": '{"a":1}'}}],
            },
            {"role": "tool", "content": "2"},
        ],
        'user: 1+1?\n\nassistant: [calls add with {"a":1}]\n\ntool: 2',
    ),
    ([{"role": "assistant", "content": 7, "tool_calls": [7]}], "assistant: "),
    ([{"role": "assistant", "content": "hi", "tool_calls": 7}], "assistant: hi"),
]


@pytest.mark.parametrize(("messages", "text"), TEXTS)
def test_the_text_of_a_conversation(messages: list[dict[str, Any]], text: str) -> None:
    """One message of a user's is its text; else each stands under its role."""
    prompt = ChatPrompt(messages)
    assert prompt == text
    assert list(prompt.messages) == messages


def test_a_command_gets_the_text() -> None:
    """It is a str, and so its prompt."""
    agent = CommandAgent([sys.executable, "-c", "print(input()[::-1])"])
    with pool_of(Member("reverse", agent)) as pool:
        assert pool.execute(ChatPrompt([user("desserts")], {"temperature": 0})) == "stressed"


def test_its_parameters_go_before_others() -> None:
    """A length is one, under whichever of its two names."""
    others = {"temperature": 1, "max_tokens": 5, "seed": 7}
    assert ChatPrompt([user("x")], {"temperature": 0}).params_over(others) == {
        **others,
        "temperature": 0,
    }
    limited = ChatPrompt([user("x")], {"max_completion_tokens": 9})
    assert limited.limits_length
    assert limited.params_over(others) == {
        "temperature": 1,
        "seed": 7,
        "max_completion_tokens": 9,
    }


def test_it_travels_whole_and_is_not_shown() -> None:
    """A pickle has its messages and parameters; the repr of its request has neither."""
    prompt = ChatPrompt([user("a secret")], {"seed": 7})
    again = pickle.loads(pickle.dumps(prompt))
    assert (again, again.messages, again.params) == (prompt, prompt.messages, prompt.params)
    assert type(again) is ChatPrompt
    assert repr(Request(prompt)) == "Request(<ChatPrompt>)"


@pytest.mark.parametrize(
    ("messages", "params", "words"),
    [
        ("hi", None, "messages must be a list of mappings, got a str"),
        (["hi"], None, "messages must be a list of mappings, got a list"),
        ([], None, "messages must not be empty"),
        ([user("x")], "no", "params must be"),
        ([user("x")], {"model": "m"}, "params must not hold 'model'"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: Any, params: Any, words: str) -> None:
    """By its field, and without what it says."""
    with pytest.raises((TypeError, ValueError), match=words):
        ChatPrompt(messages, params)
