"""What a command's output means, without a command."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.kinds.command_output import CommandFailedError, CommandOutput, OutputRules
from greenroom.kinds.json_path import JsonPath


def rules(form: Any = "text", **paths: Any) -> OutputRules:
    def path(name: str) -> JsonPath | None:
        return JsonPath(paths[name]) if name in paths else None

    failed = tuple(JsonPath(each) for each in paths.get("failed", ()))
    return OutputRules(
        form, path("answer"), path("chunks"), failed, paths.get("joined", False), 10_000
    )


def read(
    how: OutputRules, *pieces: bytes, exit_code: int = 0, stderr: bytes = b""
) -> tuple[list[Any], Any]:
    output = CommandOutput("tool", how)
    chunks = [chunk for piece in pieces for chunk in output.feed(piece)]
    chunks += output.end()
    return chunks, output.answer(exit_code, stderr)


def failure(how: OutputRules, *pieces: bytes, **end: Any) -> str:
    with pytest.raises(CommandFailedError) as caught:
        read(how, *pieces, **end)
    return str(caught.value)


def test_a_text_is_answered_whole_and_streamed_by_line() -> None:
    """However it comes in pieces, in the middle of a character, too."""
    euro = "€".encode()
    chunks, answer = read(rules(), b"one\ntw", b"o " + euro[:1], euro[1:] + b"\nthree")
    assert chunks == ["one\n", "two €\n", "three"]
    assert answer == "one\ntwo €\nthree"
    assert read(rules(), b"one\n\n")[1] == "one\n"


def test_json_is_read_as_a_whole_or_where_the_answer_stands() -> None:
    """And is no answer where nothing stands."""
    assert read(rules("json"), b'{"a":', b" 1}")[1] == {"a": 1}
    assert read(rules("json", answer="a"), b'{"a": [1]}')[1] == [1]
    assert "without an answer at 'b'" in failure(rules("json", answer="b"), b'{"a": 1}')
    assert "without an answer" in failure(rules("json"), b"")


def test_of_lines_the_last_one_with_an_answer_counts_and_notes_are_passed_over() -> None:
    """Chunks may stand elsewhere."""
    how = rules("jsonl", answer="[type=done].text", chunks="[type=part].text")
    lines = b'note\n{"type": "part", "text": "a"}\n\n{"type": "part", "text": "b"}\n'
    assert read(how, lines, b'{"type": "done", "text": "ab"}')[0] == ["a", "b"]
    assert read(how, lines, b'{"type": "done", "text": "ab"}')[1] == "ab"
    assert "without an answer" in failure(how, lines)
    assert "malformed or was cut off" in failure(how, lines, b'{"type": "do')


def test_parts_are_joined_where_the_answer_comes_in_parts() -> None:
    """Each is a chunk as well."""
    how = rules("jsonl", answer="text", joined=True)
    assert read(how, b'{"text": "a"}\n{"text": "b"}\n') == (["a", "b"], "ab")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"error": "429 too many requests"}', "failed: 429 too many requests"),
        (b'{"error": {"error": {"message": "no key"}}}', "failed: no key"),
        (b'{"error": {"code": 7}}', 'failed: {"code": 7}'),
        (b'{"error": true, "result": "Credit balance is too low"}', "failed: Credit balance is"),
        (b'{"error": ["a", "b"]}', 'failed: ["a", "b"]'),
    ],
)
@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_failure_on_stdout_counts_whatever_the_exit_code(
    line: bytes, words: str, exit_code: int
) -> None:
    """And is told in its own words."""
    how = rules("json", answer="result", failed=("error",))
    assert words in failure(how, line, exit_code=exit_code)


@pytest.mark.parametrize("value", [b"null", b"false", b"0", b'""', b"{}", b"[]"])
def test_what_is_empty_is_no_failure(value: bytes) -> None:
    """Tools write the key all the same."""
    how = rules("json", answer="result", failed=("error",))
    assert read(how, b'{"result": "ok", "error": ' + value + b"}")[1] == "ok"


def test_an_exit_code_is_a_failure_in_the_last_words_of_stderr_or_stdout() -> None:
    """The end of stderr is kept; a signal is named."""
    assert failure(rules(), b"x", exit_code=3, stderr=b"one\ntwo\n") == "command tool exited 3: two"
    assert failure(rules(), b"a\nb\n", exit_code=3) == "command tool exited 3: b"
    assert failure(rules(), exit_code=-9) == "command tool was ended by signal 9"
    assert failure(rules(), exit_code=1, stderr=b"x" * 9_999).endswith("xxx...")


def test_what_is_too_much_or_no_text_is_a_failure() -> None:
    """Of all forms; nothing of it stands in the error."""
    assert "more than max_output_bytes=10000" in failure(rules("json"), b"secret" * 2_000)
    for form in ("text", "json", "jsonl"):
        error = failure(rules(form), b"secret \xff\n")
        assert "not UTF-8" in error
        assert "secret" not in error
    deep = b"[" * 5_000
    assert "malformed" in failure(rules("json"), deep)
