"""A batch before and while it runs: what its input asks, what its output answers already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import NoReturn, Self

from greenroom.batch.answers_file import AnswersFile
from greenroom.batch.ledger import Ledger, Seen
from greenroom.batch.prompts import BatchError, Format, Prompt, PromptReader
from greenroom.batch.source import Source, blocks_of


@dataclass(frozen=True, slots=True)
class Before:
    """What there was when the batch was opened.

    Attributes:
        total: how many prompts there are; None where the input can be read only once.
        answered: lines of the output with an answer.
        failed: lines of the output with an error, which stay.
        dropped: such lines that are asked again, and left out.
        cut: bytes of a torn last line, which are cut off.
    """

    total: int | None
    answered: int
    failed: int
    dropped: int
    cut: int


class Batch:
    """An input and its output, checked against each other.

    An input that can be read twice is read whole at first: nothing is asked if one of its lines is
    wrong, or if the output has been written for another input. Of a pipe that turns out on the way.
    The output is as it was until `begin`.

    Args:
        prompts: the path of the input; `-` is stdin.
        answers: that of the output, which is made if there is none.
        format: how prompts are written.
        retry_failed: whether prompts whose line is an error are asked again.

    Attributes:
        before: what there was.

    Raises:
        BatchError: a file cannot be used; the message names it, the line and the rule.
    """

    def __init__(
        self, prompts: str, answers: str, format: Format, *, retry_failed: bool = False
    ) -> None:
        self._format = format
        with ExitStack() as opened:
            self._source = Source(prompts)
            opened.callback(self._source.close)
            self.answers = AnswersFile(answers)
            opened.callback(self.answers.close)
            if self.answers.is_same(self._source.fd):
                raise BatchError(f"{answers}: must be another file than the input")
            self.before = self._open(retry_failed)
            self._opened = opened.pop_all()

    def begin(self) -> None:
        """Have the output ready: without a torn last line, and without errors to be asked again.
        To be called once, before anything is written.

        Raises:
            BatchError: that cannot be done.
        """
        if self.before.dropped:
            self.answers.drop_failed(self._ledger.explicit, self._source.fd)
        self.answers.cut_torn()

    def blocks(self) -> Iterator[list[Prompt]]:
        """The prompts that are still to be asked, by blocks of the input; once.

        Raises:
            BatchError: a line that had not been read before is wrong, or one that had been is
                missing; the others have come.
        """
        count = 0
        for block in self._blocks:
            asked: list[Prompt] = []
            wrong: BatchError | None = None
            for each in block:
                try:
                    if self._is_open(each):
                        asked.append(each)
                except BatchError as error:
                    wrong = error
                    break
            count += len(asked)
            if asked:
                yield asked
            if wrong is not None:
                raise wrong
        self._all_seen()
        self._none_missing(count)

    def close(self) -> None:
        """Close both files."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, retry_failed: bool) -> Before:
        reader = PromptReader(self._source.name, self._format)
        blocks = blocks_of(self._source, reader)
        first = next(blocks, [])  # it shows whether prompts have ids
        explicit = bool(reader.explicit)
        self._ledger = Ledger(explicit)
        answered, failed = self._read_answers(explicit, retry_failed)
        self._blocks: Iterable[list[Prompt]] = chain([first], blocks)
        total = self._check_all() if self._source.rereadable else None
        dropped = failed if retry_failed else 0
        return Before(total, answered, failed - dropped, dropped, self.answers.torn())

    def _read_answers(self, explicit: bool, retry_failed: bool) -> tuple[int, int]:
        answered = failed = 0
        for number, each in self.answers.lines(explicit):
            if each.failed:
                failed += 1
            else:
                answered += 1
            if each.failed and retry_failed:
                continue
            if not self._ledger.note_answer(each.id, each.digest):
                raise BatchError(f"{self.answers.path}:{number}: has the id {each.id!r} once more")
        return answered, failed

    def _check_all(self) -> int:
        """Read the whole input; how many prompts it has. Then it begins anew."""
        total = 0
        for block in self._blocks:
            total += len(block)
            for each in block:
                self._see(each)
        self._all_seen()
        self._source.rewind()
        reader = PromptReader(self._source.name, self._format)
        self._blocks = blocks_of(self._source, reader)
        return total

    def _is_open(self, prompt: Prompt) -> bool:
        if not self._source.rereadable:
            self._see(prompt)
        elif not self._ledger.is_seen(prompt.id):
            raise BatchError(
                f"{self._source.name}:{prompt.line}: has come or changed while it was read; "
                "run it again for what is new"
            )
        return self._ledger.take(prompt.id)

    def _none_missing(self, asked: int) -> None:
        """What was there at first, and was still to be asked, has come."""
        if self.before.total is None:
            return
        missing = self.before.total - self._ledger.matched - asked
        if missing:
            raise BatchError(
                f"{self._source.name}: {missing} of its prompts have gone while it was read; "
                "run it again"
            )

    def _see(self, prompt: Prompt) -> None:
        seen = self._ledger.see(prompt.id, prompt.digest)
        if seen is Seen.TWICE:
            self._refuse_twice(prompt)
        if seen is Seen.OTHER:
            self._refuse_other(prompt)

    def _refuse_twice(self, prompt: Prompt) -> NoReturn:
        place = f"{self._source.name}:{prompt.line}"
        if not self._source.rereadable:
            raise BatchError(f"{place}: the id {prompt.id!r} has been given before")
        self._source.rewind()
        key = self._ledger.key_of(prompt.id)
        blocks = blocks_of(self._source, PromptReader(self._source.name, self._format))
        first = next(
            each for block in blocks for each in block if self._ledger.key_of(each.id) == key
        )
        if first.id == prompt.id:
            raise BatchError(
                f"{place}: the id {prompt.id!r} has been given before, in line {first.line}"
            )
        raise BatchError(
            f"{place}: the ids {prompt.id!r} and {first.id!r} (line {first.line}) have the same "
            "hash of 64 bits: change one of them"
        )

    def _refuse_other(self, prompt: Prompt) -> NoReturn:
        key = self._ledger.key_of(prompt.id)
        number = next(
            number
            for number, each in self.answers.lines(self._ledger.explicit)
            if self._ledger.key_of(each.id) == key
        )
        raise BatchError(
            f"{self.answers.path}:{number}: is of another prompt than {self._source.name}:"
            f"{prompt.line}, which has its id {prompt.id!r}: it was written for another input, "
            "or the prompt has changed"
        )

    def _all_seen(self) -> None:
        """Whatever is answered has to stand in the input."""
        if self._ledger.matched == self._ledger.answered:
            return
        number, id = next(
            (number, each.id)
            for number, each in self.answers.lines(self._ledger.explicit)
            if not self._ledger.is_seen(each.id)
        )
        raise BatchError(
            f"{self.answers.path}:{number}: no prompt of {self._source.name} has the id {id!r}: "
            "it was written for another input"
        )
