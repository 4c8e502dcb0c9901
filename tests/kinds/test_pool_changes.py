"""The way from one file of a pool to another: what is added, removed, replaced, changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from greenroom import Configure, Member, PoolConfig
from greenroom.kinds import PoolFileError
from greenroom.kinds.pool_changes import changes
from greenroom.kinds.pool_file import PoolFile, read_pool_file

Read = Callable[[str], PoolFile]

A = """
[[members]]
name = "a"
kind = "command"
argv = ["cat"]
"""
B = A.replace('"a"', '"b"')


BY_CODE = Member("by code", str.upper)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str) -> PoolFile:
        path = tmp_path / "pool.toml"
        path.write_text(text)
        return read_pool_file(path)

    return read


def way(before: PoolFile, after: PoolFile, *present: str) -> Configure:
    standing = {each.name: each for each in before.members}
    names = present or standing
    return changes(before, after, {name: standing.get(name, BY_CODE) for name in names})


def test_who_is_about_to_leave_is_replaced_or_left_alone(read: Read) -> None:
    """They have a name for a while yet, and nothing else."""
    before = read(A + B)
    present: dict[str, Member | None] = {"a": None, "b": before.members[1]}
    assert [each.name for each in changes(before, read(A + B), present).replace] == ["a"]
    assert changes(before, read(B), present).remove == ()
    only_a = read(A)
    here: dict[str, Member | None] = {"a": only_a.members[0], "b": None}
    assert [each.name for each in changes(only_a, read(A + B), here).replace] == ["b"]


def test_what_code_has_put_under_a_name_of_the_files_is_replaced(read: Read) -> None:
    """One whose settings code has changed is the file's all the same."""
    before, after = read(A), read(A)
    (member,) = before.members
    other = Member("a", member.agent, weight=7.0, close=member.close)
    assert changes(before, after, {"a": other}).replace == ()
    by_code = Member("a", str.upper)
    assert changes(before, after, {"a": by_code}).replace == after.members


def test_the_same_file_says_again_what_it_says(read: Read) -> None:
    """So that the pool is that again, whatever code has changed meanwhile."""
    said = 'weight = 2.0\ncost = 0.5\ntags = ["eu"]\nmetadata = { team = "x" }\nargv'
    text = A.replace("argv", said) + B
    command = way(read(text), read(text))
    alike = {
        "priority": 0,
        "group": None,
        "max_concurrency": 4,
        "max_concurrency_ceiling": None,
        "limits": (),
    }
    assert (command.add, command.remove, command.replace) == ((), (), ())
    assert command.members == {
        "a": {"weight": 2.0, "metadata": {"team": "x"}, "tags": ("eu",), "cost": 0.5, **alike},
        "b": {"weight": 1.0, "metadata": {}, "tags": (), "cost": 0.0, **alike},
    }
    assert PoolConfig().replace(**command.settings) == PoolConfig()


def test_members_come_go_and_are_others(read: Read) -> None:
    after = read(A.replace("cat", "tac") + B.replace('"b"', '"c"'))
    command = way(read(A + B), after)
    assert [each.name for each in command.replace] == ["a"]
    assert [each.name for each in command.add] == ["c"]
    assert (command.remove, command.members) == (("b",), {})


@pytest.mark.parametrize(
    "line",
    [
        'argv = ["cat", "-u"]',
        'argv = ["cat"]\noutput = "json"\nanswer = "x"',
        'argv = ["cat"]\nisolated = true',
        'argv = ["cat"]\nenv = { X = "1" }',
    ],
    ids=str,
)
def test_whatever_makes_another_agent_has_the_member_replaced(read: Read, line: str) -> None:
    command = way(read(A), read(A.replace('argv = ["cat"]', line)))
    assert [each.name for each in command.replace] == ["a"]
    assert command.members == {}


def test_what_comes_from_the_environment_is_compared_by_what_it_is(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = A.replace('argv = ["cat"]', 'preset = "${TOOL}"')
    monkeypatch.setenv("TOOL", "claude")
    before = read(text)
    assert way(before, read(text)).replace == ()
    monkeypatch.setenv("TOOL", "codex")
    assert [each.name for each in way(before, read(text)).replace] == ["a"]
    assert "claude" not in repr(before.makings["a"])


def test_members_that_code_has_taken_out_come_back_and_those_that_it_has_added_stay(
    read: Read,
) -> None:
    command = way(read(A + B), read(A + B), "b", "by code")
    assert [each.name for each in command.add] == ["a"]
    assert command.remove == ()
    assert list(command.members) == ["b"]


def test_an_agent_that_is_the_same_is_not_made_again(read: Read, tmp_path: Path) -> None:
    before = read(A + B)
    made = {each.name: (before.makings[each.name], each) for each in before.members[:1]}
    (tmp_path / "pool.toml").write_text(A.replace("kind", "weight = 3.0\nkind") + B)
    after = read_pool_file(tmp_path / "pool.toml", made)
    a, b = after.members
    assert (a.agent is before.members[0].agent, a.weight) == (True, 3.0)
    assert b.agent is not before.members[1].agent
    assert isinstance(a, Member)


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (
            'event_loop = "own"',
            (
                ":2: pool.event_loop cannot change while the pool runs (the agents live there): "
                "start the pool anew for it; got 'own', it is 'auto'"
            ),
        ),
        (
            "stream_buffer = 3",
            (
                ":2: pool.stream_buffer cannot change while the pool runs (loops and streams that "
                "run have been made with it): start the pool anew for it; got 3, it is 64"
            ),
        ),
        (
            'strategy = "random"',
            (
                ":2: pool.strategy cannot change while the pool runs: start the pool anew for it; "
                "got 'random', it is 'adaptive'"
            ),
        ),
        (
            'name = "other"',
            (
                ":2: pool.name cannot change while the pool runs: start the pool anew for it; got "
                "'other', it is 'pool'"
            ),
        ),
    ],
)
def test_what_a_running_pool_cannot_take_over_is_told_with_its_line(
    read: Read, pool: str, said: str
) -> None:
    before = read(A)
    with pytest.raises(PoolFileError) as caught:
        way(before, read(f"[pool]\n{pool}\n{A}"))
    assert str(caught.value).endswith(said)
    # By default, or by name: it is the same.
    read_again = read(f'[pool]\nname = "pool"\nstrategy = "adaptive"\nevent_loop = "auto"\n{A}')
    assert way(before, read_again).replace == ()


def test_a_name_that_code_has_given_is_not_taken_from_it(read: Read) -> None:
    with pytest.raises(PoolFileError, match=r":8: members\.b\.name is that of a member that the"):
        way(read(A), read(A + B), "a", "b")


def test_a_name_stands_once_in_a_file(read: Read) -> None:
    with pytest.raises(PoolFileError, match=r":8: members\.a\.name must be unique in the file"):
        way(read(A), read(A + A))
