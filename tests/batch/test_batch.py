"""A batch before it runs: input and output are checked against each other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from greenroom import Reply
from greenroom.batch import ledger
from greenroom.batch.answer_lines import answer_line, error_line
from greenroom.batch.batch import Batch
from greenroom.batch.prompts import BatchError, Format, Prompt, PromptReader

pytest.importorskip("fcntl")


class Files:
    """An input and an output in a folder."""

    def __init__(self, folder: Path) -> None:
        self.input = folder / "p.jsonl"
        self.output = folder / "a.jsonl"

    def ask(self, *said: Any) -> None:
        self.input.write_text("".join(json.dumps(each) + "\n" for each in said))

    def prompts(self) -> list[Prompt]:
        reader = PromptReader(str(self.input))
        return [*reader.feed(self.input.read_bytes()), *reader.end()]

    def answer(self, *prompts: Prompt) -> None:
        self._append(answer_line(each, Reply("x", member="m")) for each in prompts)

    def fail(self, *prompts: Prompt) -> None:
        self._append(error_line(each, ValueError("x"), 0.0, str) for each in prompts)

    def _append(self, lines: Iterable[bytes]) -> None:
        with self.output.open("ab") as file:
            file.writelines(lines)

    def open(self, **how: Any) -> Batch:
        return Batch(str(self.input), str(self.output), Format.AUTO, **how)

    def open_ids(self, **how: Any) -> list[Any]:
        with self.open(**how) as batch:
            batch.begin()
            return ids_of(batch)

    def refusal(self, **how: Any) -> str:
        before = self.output.read_bytes() if self.output.exists() else b""
        with pytest.raises(BatchError) as caught:
            self.open(**how)
        assert self.output.read_bytes() == before
        return str(caught.value)


def ids_of(batch: Batch) -> list[Any]:
    return [each.id for block in batch.blocks() for each in block]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextmanager
def piped(files: Files) -> Iterator[Batch]:
    """The same input from a pipe."""
    read, write = os.pipe()
    os.write(write, files.input.read_bytes())
    os.close(write)
    try:
        with Batch(f"/dev/fd/{read}", str(files.output), Format.JSONL) as batch:
            yield batch
    finally:
        os.close(read)


@pytest.mark.parametrize("ids", [True, False])
def test_what_has_a_line_is_not_asked_again(files: Files, ids: bool) -> None:
    """Be it an answer or an error; what was asked and has none is."""
    asked = [{"id": f"i{n}", "prompt": f"p{n}"} if ids else f"p{n}" for n in range(1, 6)]
    files.ask(*asked)
    first, second, third, fourth, fifth = files.prompts()
    files.answer(fourth, first)
    files.fail(second)
    with files.open() as batch:
        assert ids_of(batch) == [third.id, fifth.id]
        before = batch.before
    assert (before.total, before.answered, before.failed, before.dropped) == (5, 2, 1, 0)


def test_errors_are_asked_again_where_that_is_wanted(files: Files) -> None:
    """Their lines are gone, so that each id has one; a prompt that failed may have changed."""
    files.ask("a", "b", "c")
    first, second, _ = files.prompts()
    files.answer(first)
    files.fail(second)
    files.ask("a", "b, but shorter", "c")
    assert "a.jsonl:2: is of another prompt" in files.refusal()
    with files.open(retry_failed=True) as batch:
        assert ids_of(batch) == [2, 3]
        assert (batch.before.failed, batch.before.dropped) == (0, 1)
        assert [json.loads(line)["id"] for line in files.output.read_text().splitlines()] == [1, 2]
        batch.begin()
    assert [json.loads(line)["id"] for line in files.output.read_text().splitlines()] == [1]


def test_a_torn_last_line_is_cut_and_asked_again(files: Files) -> None:
    """How much that was is told."""
    files.ask("a", "b")
    files.answer(*files.prompts())
    content = files.output.read_bytes()
    files.output.write_bytes(content[:-3])
    with files.open() as batch:
        assert ids_of(batch) == [2]
        assert batch.before.cut == len(content.splitlines()[1]) - 2
        assert files.output.read_bytes() == content[:-3]
        batch.begin()
    assert files.output.read_bytes() == content.splitlines(keepends=True)[0]


def test_an_output_of_another_input_is_refused(files: Files) -> None:
    """Though its ids are the same; with both lines. Nothing of it is touched."""
    files.ask("a", "b", "c")
    files.answer(*files.prompts()[1:])
    files.ask("a", "x", "c")
    assert files.refusal() == (
        f"{files.output}:1: is of another prompt than {files.input}:2, which has its id 2: "
        "it was written for another input, or the prompt has changed"
    )
    files.ask("a", "b")
    assert files.refusal() == (
        f"{files.output}:2: no prompt of {files.input} has the id 3: "
        "it was written for another input"
    )
    files.ask({"id": "a", "prompt": "a"})
    assert "no prompt of" in files.refusal()


def test_an_input_may_grow(files: Files) -> None:
    """What is new is asked."""
    files.ask("a")
    files.answer(*files.prompts())
    files.ask("a", "b")
    assert files.open_ids() == [2]


def test_an_id_that_comes_twice_is_refused(files: Files) -> None:
    """In the input with both lines; in the output with the second."""
    files.ask({"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x"}, {"id": "a", "prompt": "x"})
    assert files.refusal() == (f"{files.input}:3: the id 'a' has been given before, in line 1")
    files.ask({"id": "a", "prompt": "x"})
    files.answer(*files.prompts(), *files.prompts())
    assert files.refusal() == f"{files.output}:2: has the id 'a' once more"


def test_two_ids_of_one_hash_are_not_taken_for_one(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is refused, with both."""
    monkeypatch.setattr(ledger.Ledger, "key_of", lambda self, id: 7)
    files.ask({"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y"})
    assert files.refusal() == (
        f"{files.input}:2: the ids 'b' and 'a' (line 1) have the same hash of 64 bits: "
        "change one of them"
    )


def test_a_wrong_line_is_told_before_anything_is_asked(files: Files) -> None:
    """Wherever it stands; nothing of the output is touched."""
    files.ask(*["x"] * 10_000, 7)
    assert files.refusal().startswith(f"{files.input}:10001: must be an object or a string")


def test_an_input_that_changes_meanwhile_gives_each_prompt_once(files: Files) -> None:
    """What is new is told of, and left to the next run."""
    files.ask("a", "b")
    with files.open() as batch:
        blocks = batch.blocks()
        files.ask("a", "b", "c")
        assert [each.id for each in next(blocks)] == [1, 2]
        with pytest.raises(BatchError, match=r"p.jsonl:3: has come or changed while it was read"):
            next(blocks)


@pytest.mark.parametrize("rest", [("a", "b"), ()])
def test_an_input_that_gets_shorter_meanwhile_is_told_of(
    files: Files, rest: tuple[str, ...]
) -> None:
    """What is left of it is asked, and the run does not end as if all had been."""
    files.ask("a", "b", "c", "d")
    first, *_ = files.prompts()
    files.answer(first)
    with files.open() as batch:
        files.ask(*rest)
        asked: list[Any] = []
        with pytest.raises(BatchError, match=r"p.jsonl: \d of its prompts have gone") as caught:
            for block in batch.blocks():
                asked += (each.id for each in block)
        assert asked == ([2] if rest else [])
        assert f"{3 - len(asked)} of its prompts" in str(caught.value)


def test_an_input_must_not_be_its_output(files: Files) -> None:
    """Nor be missing, nor be a folder."""
    files.ask("a")
    with pytest.raises(BatchError, match="must be another file than the input"):
        Batch(str(files.input), str(files.input), Format.AUTO)
    with pytest.raises(BatchError, match="none: No such file or directory"):
        Batch(str(files.input.with_name("none")), str(files.output), Format.AUTO)
    with pytest.raises(BatchError, match="is a directory"):
        Batch(str(files.input.parent), str(files.output), Format.AUTO)


def test_an_input_in_the_way_of_the_others_is_left_alone(files: Files) -> None:
    """Errors are dropped by way of a file beside the output, which may be the input."""
    files.ask("a")
    files.fail(*files.prompts())
    files.input = files.input.rename(files.output.with_name("a.jsonl.rewritten"))
    content = (files.input.read_bytes(), files.output.read_bytes())
    with (
        files.open(retry_failed=True) as batch,
        pytest.raises(BatchError, match=r"rewritten: is in the way: move it"),
    ):
        batch.begin()
    assert (files.input.read_bytes(), files.output.read_bytes()) == content


def test_of_a_pipe_it_turns_out_on_the_way(files: Files) -> None:
    """What comes before a wrong line is asked; then it is told."""
    files.ask({"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x"}, {"id": "a", "prompt": "x"})
    files.answer(files.prompts()[0])
    with piped(files) as batch:
        assert batch.before.total is None
        blocks = batch.blocks()
        assert [each.id for each in next(blocks)] == ["b"]
        with pytest.raises(BatchError, match=r"/dev/fd/\d+:3: the id 'a' has been given before"):
            next(blocks)
    files.ask({"id": "b", "prompt": "x"}, {"id": "a", "prompt": "other"})
    with piped(files) as batch, pytest.raises(BatchError, match=r"a.jsonl:1: is of another prompt"):
        ids_of(batch)
    files.ask({"id": "b", "prompt": "x"})
    with (
        piped(files) as batch,
        pytest.raises(BatchError, match=r"no prompt of /dev/fd/.* has the id 'a'"),
    ):
        ids_of(batch)


def test_an_empty_input_is_done(files: Files) -> None:
    """Blank lines are none."""
    files.input.write_text("\n \n")
    assert files.open_ids() == []
