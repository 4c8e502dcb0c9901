"""What a run has come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from chaos.footprint import Footprint, Mark


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be.

    Attributes:
        where: act and round.
        story: the last that is known of the request concerned.
    """

    what: str
    where: str
    request: str = ""
    story: tuple[str, ...] = ()


@dataclass(slots=True)
class Findings:
    """What a run has come to.

    Attributes:
        planned: what the plan says, by name: a function of seed and size.
        performed: what agents, factories, probes and hooks did of it.
        seen: requests by how they ended, events and complaints by name.
        checks: how often each invariant was looked at.
    """

    seed: int
    requests: int
    planned: Counter[str] = field(default_factory=Counter)
    performed: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    sent: int = 0
    acts: list[str] = field(default_factory=list)
    before: Footprint | None = None
    after: Footprint | None = None


class Stuck(Exception):
    """What must come did not: the run cannot go on."""
