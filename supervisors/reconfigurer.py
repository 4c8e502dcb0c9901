"""Other settings and other members for a pool that runs: all of it at once, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from greenroom.messages.config import PoolConfig
from greenroom.messages.configure import Configure, Configured
from greenroom.messages.errors import MemberExistsError
from greenroom.messages.events import PoolConfigured
from greenroom.messages.member import Member
from greenroom.messages.supervision import Reconfigured
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.supervisors.roster import Roster
from greenroom.supervisors.route_publisher import RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts


class _Change(NamedTuple):
    """A member that shall be another, and what is different in it, in words."""

    record: MemberRecord
    after: Member
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reconfigurer:
    """Carries a `Configure` out.

    Args:
        _configured: told once the settings have changed, before anybody acts by them.
        _check_agent: raises for an agent that this pool cannot have.
    """

    _ports: SupervisorPorts
    _roster: Roster
    _routes: RoutePublisher
    _judge: OutcomeJudge
    _configured: Callable[[], object]
    _check_agent: Callable[[Member], object]

    def carry_out(self, command: Configure) -> Configured:
        """Check all of it against the pool as it is; then do it.

        Raises:
            TypeError, ValueError: settings that do not go together, named.
            MemberExistsError, UnknownMemberError: a name that is taken, or nobody's.
        """
        before = self._ports.config
        # The first half may refuse, and has changed nothing by then.
        config = before.replace(**command.settings)
        changed = self._changes_of_members(command)
        leaving = [self._roster.known(name) for name in command.remove]
        replaced = [(self._roster.known(each.name), each) for each in command.replace]
        self._check(command, changed)
        self._add(command.add)
        settings = list(_differences(before, config))
        if settings:
            self._take_over(config)
        changes = settings + self._change(changed)
        for record in leaving:
            self._roster.let_go(record)
        for record, member in replaced:
            self._roster.replace(record, member)
        if settings or changed:
            self._review()
        changes += [f"{each.name} added" for each in command.add]
        changes += [f"{each.name} removed" for each in leaving]
        changes += [f"{record.name} replaced" for record, _ in replaced]
        self._ports.emit(PoolConfigured(pool=self._ports.pool, changes=tuple(changes)))
        return Configured(config, tuple(changes))

    # -- what may refuse

    def _changes_of_members(self, command: Configure) -> list[_Change]:
        changes = []
        for name, said in command.members.items():
            record = self._roster.known(name)
            before = _next(record)
            after = _changed(before, said)
            # Looked at here: what stands in metadata may raise when it is compared.
            changes.append(_Change(record, after, tuple(_differences(before, after))))
        return changes

    def _check(self, command: Configure, changed: Iterable[_Change]) -> None:
        records = self._routes.records
        for member in command.add:
            if member.name in records:
                raise MemberExistsError(
                    f"name must be unique in pool {self._ports.pool!r}, got {member.name!r} again"
                )
        arriving = (*command.add, *command.replace)
        for member in arriving:
            self._check_agent(member)
        members = {name: _next(record) for name, record in records.items()}
        members |= {each.record.name: each.after for each in changed}
        members |= {member.name: member for member in arriving}
        for name in command.remove:
            del members[name]
        if members and not any(each.weight > 0 for each in members.values()):
            raise ValueError("weight must be greater than 0 for at least one member, got 0 for all")

    def _add(self, members: Iterable[Member]) -> None:
        """Before all else: it may raise, and who waits for somebody who leaves shall find them."""
        added: list[MemberRecord] = []
        try:
            for member in members:
                added.append(self._roster.add(member))
        except BaseException:
            for record in added:
                self._roster.let_go(record)
            raise
        if added:
            self._routes.publish(*added)

    # -- what does not

    def _take_over(self, config: PoolConfig) -> None:
        now = self._ports.now()
        self._ports.config = config
        self._configured()
        self._judge.configure()
        for record in self._routes.records.values():
            record.configure(config, now)
            self._ports.tell(record, Reconfigured(record.member, config))

    def _change(self, changed: Iterable[_Change]) -> list[str]:
        """Have members be others; what has changed by that, in words."""
        words: list[str] = []
        for record, after, differences in changed:
            words += [f"{record.name}: {each}" for each in differences]
            if record.successor is not None:
                record.successor = after
            elif differences:
                record.change(after)
                # Before the router hears of it: what it sends then must not be one too many.
                self._ports.tell(record, Reconfigured(after, self._ports.config))
        return words

    def _review(self) -> None:
        now = self._ports.now()
        for record in self._routes.records.values():
            self._judge.review_health(record, now)
        self._routes.publish()


def _next(record: MemberRecord) -> Member:
    """Who bears the name, or is to when the one has left that does."""
    return record.member if record.successor is None else record.successor


def _changed(member: Member, said: Mapping[str, Any]) -> Member:
    """A member with other values, which have been checked: without the checks of a new one, that
    look at the agent, and so run the app's code.
    """
    changed: Member = object.__new__(Member)
    for each in fields(Member):
        value = said[each.name] if each.name in said else getattr(member, each.name)
        object.__setattr__(changed, each.name, value)
    return changed


def _differences(before: Any, after: Any) -> Iterator[str]:
    """What is different in the second of two alike, a field each, in words."""
    for each in fields(before):
        old, new = getattr(before, each.name), getattr(after, each.name)
        if old is new or (type(old) is type(new) and old == new):
            continue
        # Anything may stand in there, what nobody else shall read included.
        if each.name == "metadata":
            if dict(old) != dict(new):
                yield "metadata"
        elif old != new:
            yield f"{each.name} {old!r} -> {new!r}"
