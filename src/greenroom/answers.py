"""Ready-made judgement of what agents return: predicates for `PoolConfig.is_failure`.

    from greenroom import PoolConfig, answers

    PoolConfig(is_failure=answers.any_of(answers.auto, answers.cut_short))

Each takes any value, and says None of a good one and a `Fault` of a failure: why, in words, and of
which kind. An object, a dict, a pydantic model or a dict with attributes is all the same to them;
none of them runs code of the value's own, so that nothing is read, and mocks are good answers.

`auto` is the default of the setting and takes only what is plainly a failure of a client's. The
others are for whoever knows what the agents of a pool return.
"""

from greenroom.actors.reading.answer_judgement import (
    any_of,
    auto,
    content_filter,
    cut_short,
    error_flag,
    html_page,
    http_status,
    is_empty_chunk,
    no_choices,
    no_content,
    refusal,
)
from greenroom.actors.reading.answer_shapes import Fault

__all__ = [
    "Fault",
    "any_of",
    "auto",
    "content_filter",
    "cut_short",
    "error_flag",
    "html_page",
    "http_status",
    "is_empty_chunk",
    "no_choices",
    "no_content",
    "refusal",
]
