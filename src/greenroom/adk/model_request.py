"""A request to a model, as each attempt has its own."""

from __future__ import annotations

from typing import Any, TypeVar

from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


def request_for(model: BaseLlm, request: LlmRequest) -> LlmRequest:
    """A copy that the model may change as it likes, under its own name.

    Models edit what they are given, before they send it. Copied are the models of pydantic, lists
    and dicts of which it consists; what is none of them (a tool, an HTTP client, a session of
    MCP's) is shared: it cannot be copied, and nobody edits it.
    """
    own = _copied_model(request, but="tools_dict")
    own.tools_dict = dict(request.tools_dict)
    own.model = model.model
    return own


def _copied(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _copied_model(value)
    if type(value) is list:
        return [_copied(each) for each in value]
    if type(value) is dict:
        return {name: _copied(each) for name, each in value.items()}
    return value


def _copied_model(value: M, but: str = "") -> M:
    """Past its validators: it holds what it held."""
    made = value.model_copy()
    for held in (made.__dict__, made.__pydantic_private__ or {}):
        for name, each in held.items():
            if name != but:
                held[name] = _copied(each)
    return made
