"""Forks: in which process a thing was made, and what is made new in a child.

A fork copies the memory and one thread. The threads of a pool are not in the child, and a lock that
one of them held is held there for ever. So what belongs to a pool keeps the `generation` in which
it was made, and whoever uses it compares before any lock is taken; what lives on without threads
has its locks made anew.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

generation = 0
"""How many forks lie between the process that imported this and the present one. Read it as an
attribute of this module, which costs no call."""

this_thread = threading.get_ident

main_thread = threading.main_thread().ident
"""The identifier of the thread in which signal handlers run."""

_pids = [os.getpid()]
_actions: list[Callable[[], object]] = []
_owners: weakref.WeakSet[HasLocks] = weakref.WeakSet()


class HasLocks(Protocol):
    """What keeps locks and is of use in a child as well."""

    def renew_locks(self) -> None:
        """Replace each of them: run in a child, where there is only one thread."""


def pid_of(born: int) -> int:
    """The process in which that was the generation."""
    return _pids[born]


def in_child(action: Callable[[], object]) -> None:
    """Have `action` called in every child, before anything else runs there. It must not raise."""
    _actions.append(action)


def renew(owner: HasLocks) -> None:
    """Have an object renew its locks in every child, for as long as it lives."""
    _owners.add(owner)


def _after_fork() -> None:
    global generation, main_thread
    # First: what is made anew from here on belongs to the child.
    generation += 1
    main_thread = threading.get_ident()
    _pids.append(os.getpid())
    # Before the actions, which may use what has such locks. There is no other thread here, so
    # nothing need be locked for it.
    for owner in list(_owners):
        owner.renew_locks()
    for action in _actions:
        action()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
