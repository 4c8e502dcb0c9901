"""The pool's settings: one frozen class, checked where it is made."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict, Unpack

from greenroom.messages import _validate as check
from greenroom.messages.agent_shape import is_function
from greenroom.messages.limits import CostFunction
from greenroom.messages.screening import check_weights
from greenroom.messages.status import FailureKind

MOST_KEPT = 1_000_000
"""The most that a window or a buffer may be told to keep."""

Classifier = Callable[[BaseException], FailureKind | None]

FairBy = Literal["key"] | Callable[[Any], Any]
"""Says whose a request is."""


class ChangeableSettings(TypedDict, total=False):
    """The fields of `PoolConfig` that can change while a pool runs; `FIXED` names the others."""

    circuit: Literal["on", "observe"]
    circuit_max_open_share: float | None
    circuit_failure_threshold: int
    circuit_reset_timeout_s: float
    circuit_reset_max_s: float | None
    circuit_success_threshold: int
    circuit_window: int
    circuit_min_calls: int
    circuit_failure_rate: float
    circuit_slow_rate: float | None
    circuit_slow_call_s: float | None
    half_open_permits: int
    health_check_interval_s: float
    health_check_timeout_s: float
    degraded_error_rate_threshold: float
    unhealthy_error_rate_threshold: float
    max_retries: int
    retry_delay_s: float
    retry_backoff_multiplier: float
    retry_max_delay_s: float
    same_member_retries: int | None
    stay_for_retry_after_s: float
    retry_budget_ratio: float
    retry_budget_floor: float
    request_timeout_s: float | None
    deadline_s: float | None
    first_chunk_timeout_s: float | None
    chunk_timeout_s: float | None
    hedge_after_s: float | Literal["p95"] | None
    max_pending: int
    fair_weights: Mapping[Any, float] | None
    max_pending_per_key: int | None
    when_unavailable: Literal["fail", "wait"]
    restart_intensity: int
    restart_period_s: float
    restart_backoff_s: float
    log_metadata: Sequence[str]


class PoolSettings(ChangeableSettings, total=False):
    """The fields of `PoolConfig`, each of which may be left out: what its `replace` takes."""

    cancel_grace_s: float
    stream_buffer: int
    on_cut: Literal["raise", "restart", "hold"]
    stream_complete: Callable[[Any], bool] | Literal["auto"] | None
    priority_ageing_s: float
    fair_by: FairBy | None
    loop_check_interval_s: float
    loop_stalled_after_s: float
    loop_replaced_after_s: float | None
    event_loop: Literal["auto", "running", "own", "asyncio", "uvloop"]
    propagate_context: bool
    classify: Classifier | None
    is_failure: Callable[[Any], object] | Literal["auto"] | None
    is_empty: Callable[[Any], bool] | Literal["auto"] | None
    cost: CostFunction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How a pool behaves. Times are in seconds, rates are fractions from 0 to 1.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    circuit: Literal["on", "observe"] = "on"
    """Whether breakers keep members out; "observe": their events say what they would do, and they
    do nothing, but for what is done by hand."""
    circuit_max_open_share: float | None = None
    """Share of the members that may be out at a time. Where it would be more, the least bad of them
    is tried all the same, one request at a time; None: all but one, and the only one of a pool."""
    circuit_failure_threshold: int = 5
    """Failures in a row that open a member's breaker."""
    circuit_reset_timeout_s: float = 5.0
    """How long the first opening lasts before a trial. For `auth` and `quota`, which do not pass by
    themselves, it is at least 30 s."""
    circuit_reset_max_s: float | None = None
    """The longest that a repeated opening lasts; None: twice `circuit_reset_timeout_s`. So much
    later than it could be is a member back at most, and so long does a trial that hangs keep others
    out. For `auth` and `quota` it is at least 300 s."""
    circuit_success_threshold: int = 2
    """Successful trials that close a half-open breaker."""
    circuit_window: int = 20
    """Outcomes over which the failure and slow rates are taken."""
    circuit_min_calls: int = 10
    """Outcomes needed before a rate can open the breaker."""
    circuit_failure_rate: float = 0.5
    """Share of failures in the window that opens the breaker."""
    circuit_slow_rate: float | None = None
    """Share of slow calls in the window that opens the breaker; None: off."""
    circuit_slow_call_s: float | None = None
    """A call that takes longer than this is slow; None: off."""
    half_open_permits: int = 1
    """Trial calls that a half-open breaker lets through at a time."""
    health_check_interval_s: float = 30.0
    """Time between two probes of a member that has one (with 10% jitter)."""
    health_check_timeout_s: float = 5.0
    """How long a probe may take."""
    degraded_error_rate_threshold: float = 0.3
    """Recent error rate from which a member is called degraded."""
    unhealthy_error_rate_threshold: float = 0.7
    """Recent error rate from which a member is called unhealthy."""
    max_retries: int = 3
    """Attempts that may follow the first one of a request."""
    retry_delay_s: float = 0.1
    """Ceiling of the first backoff (full jitter), when no untried member is left."""
    retry_backoff_multiplier: float = 2.0
    """Growth of that ceiling with every further backoff."""
    retry_max_delay_s: float = 30.0
    """The highest that ceiling gets, and the longest Retry-After that a request sits out."""
    same_member_retries: int | None = None
    """How often a reset connection, a 500, 502 or 503 without a Retry-After is tried again on the
    same member at once; None: once in a pool of one member, else not at all."""
    stay_for_retry_after_s: float = 0.0
    """The longest Retry-After of a preferred or sticky member that is waited for instead of going
    to another member; with the strategies priority, failover and consistent_hash only."""
    retry_budget_ratio: float = 0.2
    """Retries allowed per request, over the last ten seconds, on top of the floor."""
    retry_budget_floor: float = 10.0
    """Retries a second that are always allowed."""
    request_timeout_s: float | None = 30.0
    """How long one attempt may take; None: as long as it likes."""
    cancel_grace_s: float = 1.0
    """How long a cancelled coroutine may clean up before it is abandoned."""
    deadline_s: float | None = None
    """How long a whole request may take, retries and waiting included; None: no limit."""
    first_chunk_timeout_s: float | None = None
    """How long until the first chunk of a stream that is not empty; None: `request_timeout_s`."""
    chunk_timeout_s: float | None = None
    """How long from one such chunk to the next; None: `request_timeout_s`."""
    stream_buffer: int = 64
    """Chunks that an agent may be ahead of the consumer."""
    on_cut: Literal["raise", "restart", "hold"] = "raise"
    """When a stream breaks off after its first chunk: raise, let another member start over, or show
    nothing of any stream before its end, so that every failure can fail over."""
    stream_complete: Callable[[Any], bool] | Literal["auto"] | None = "auto"
    """Says of a chunk whether it is the mark of a whole stream; "auto": the finish reasons and end
    events of clients, where a stream shows that it has such a thing; None: none is needed."""
    hedge_after_s: float | Literal["p95"] | None = None
    """When a second member is given an idempotent request that is still unanswered: after so long,
    or later than 95% of the recent ones; None: never."""
    max_pending: int = 10_000
    """Requests that may wait for a free member before the pool refuses more; 0: none may."""
    priority_ageing_s: float = 10.0
    """Waiting this long counts as much as one level of `Request.priority`."""
    fair_by: FairBy | None = None
    """Whom the waiting room is shared out to: "key", those of one `Request.key` together; or a
    function of a request that gives whose it is, called where the request is made; None: nobody,
    requests of equal priority are served in order."""
    fair_weights: Mapping[Any, float] | None = None
    """What each of them gets in proportion, by what `fair_by` gives; who is not in it has what
    `Request.metadata["fair_weight"]` says, else 1."""
    max_pending_per_key: int | None = None
    """Requests of one of them that may wait before the pool refuses more of his; None: as many as
    there is room for."""
    when_unavailable: Literal["fail", "wait"] = "fail"
    """With every member unroutable: fail at once, or wait for the earliest reopening."""
    restart_intensity: int = 3
    """Restarts of a member actor within `restart_period_s` before it is given up."""
    restart_period_s: float = 60.0
    """The period over which restarts are counted."""
    restart_backoff_s: float = 0.1
    """Wait before the first restart, or the next creation after a failed one; doubles each time."""
    loop_check_interval_s: float = 1.0
    """Time between two heartbeats of an event loop on which async agents run."""
    loop_stalled_after_s: float = 1.0
    """How long a loop may leave a heartbeat unanswered before it is reported."""
    loop_replaced_after_s: float | None = 10.0
    """How long it may before its members get a fresh one; None: they wait until it answers."""
    event_loop: Literal["auto", "running", "own", "asyncio", "uvloop"] = "auto"
    """Whose event loop the async agents run on. "auto": the app's, if the pool is started where one
    runs, else one of the pool's own; "running": the app's, or it does not start; "own" (or
    "asyncio"): the pool's; "uvloop": the pool's, of that kind, by the extra of that name."""
    propagate_context: bool = True
    """Whether an agent sees its caller's context variables, in a copy, and factories, probes and
    close hooks those of the pool's start; False: each of them begins in an empty context."""
    classify: Classifier | None = None
    """Says what kind of failure an exception is; None from it falls back to the built-in rules."""
    is_failure: Callable[[Any], object] | Literal["auto"] | None = "auto"
    """Says whether a returned value is a failure all the same, and maybe of which kind; "auto":
    what is plainly a client's failure, see `greenroom.answers`; None: no value is."""
    is_empty: Callable[[Any], bool] | Literal["auto"] | None = "auto"
    """Says whether a chunk is empty (a keep-alive); "auto": None, what has no content, and objects
    of clients that carry no text, as a role or a usage; None: the first two only."""
    log_metadata: Sequence[str] = ()
    """Keys of `Request.metadata` whose values the events of a request have, and so its lines in the
    log: as `tenant=acme`, masked, and cut at 100 characters. Nothing else of it is shown."""
    cost: CostFunction | None = None
    """Estimates what a payload costs, for the rate limits of members: `{"tokens": 1200}`, or None
    for nothing; called where the request is asked for. `Request.cost` goes before it."""

    def __post_init__(self) -> None:
        for names, rule in _RULES.items():
            for name in names.split():
                rule(name, getattr(self, name))
        for name, other in _AT_LEAST.items():
            value, least = getattr(self, name), getattr(self, other)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {other} ({least!r}), got {value!r}")
        if self.log_metadata != ():
            keys = check.names("log_metadata", self.log_metadata)
            object.__setattr__(self, "log_metadata", keys)
        if self.circuit_min_calls > self.circuit_window:
            raise ValueError(
                f"circuit_min_calls must be at most circuit_window "
                f"({self.circuit_window!r}), got {self.circuit_min_calls!r}"
            )
        if (self.circuit_slow_rate is None) != (self.circuit_slow_call_s is None):
            raise ValueError(
                "circuit_slow_rate and circuit_slow_call_s must be given together, got "
                f"circuit_slow_rate={self.circuit_slow_rate!r}, "
                f"circuit_slow_call_s={self.circuit_slow_call_s!r}"
            )
        for name in ("fair_weights", "max_pending_per_key"):
            if self.fair_by is None and getattr(self, name) is not None:
                raise ValueError(f"{name} must be given together with fair_by, got no fair_by")
        if self.on_cut not in ("raise", "restart", "hold"):
            raise ValueError(f"on_cut must be 'raise', 'restart' or 'hold', got {self.on_cut!r}")
        if self.event_loop not in ("auto", "running", "own", "asyncio", "uvloop"):
            raise ValueError(
                "event_loop must be 'auto', 'running', 'own', 'asyncio' or 'uvloop', "
                f"got {self.event_loop!r}"
            )

    def replace(self, **changes: Unpack[PoolSettings]) -> PoolConfig:
        """A copy with some settings changed, checked like a new one."""
        return dataclasses.replace(self, **changes)


def _function_or_auto(field: str, value: Any) -> None:
    """Refuse whatever is neither "auto", nor None, nor can be called."""
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"{field} must be 'auto', a function or None, got {value!r}")
    else:
        check.function(field, value, optional=True)


def _key_or_function(field: str, value: Any) -> None:
    """Refuse whatever is neither "key", nor None, nor a plain function."""
    if isinstance(value, str):
        if value != "key":
            raise ValueError(f"{field} must be 'key', a function or None, got {value!r}")
        return
    check.function(field, value, optional=True)
    if is_function(inspect.iscoroutinefunction, value):
        raise check.misfit(f"{field} must be a plain function, since nobody awaits it", value)


def _seconds_or_p95(field: str, value: Any) -> None:
    """Refuse whatever is neither "p95", nor None, nor a number above 0."""
    if isinstance(value, str):
        if value != "p95":
            raise ValueError(f"{field} must be a number or 'p95', got {value!r}")
    else:
        check.number(field, value, above=True, optional=True)


def _keys(field: str, value: Any) -> None:
    """Refuse whatever is neither a name nor several."""
    check.names(field, value)


def _on_or_observe(field: str, value: Any) -> None:
    """Refuse whatever is neither "on" nor "observe"."""
    if value not in ("on", "observe"):
        raise ValueError(f"{field} must be 'on' or 'observe', got {value!r}")


def _fail_or_wait(field: str, value: Any) -> None:
    """Refuse whatever is neither "fail" nor "wait"."""
    if value not in ("fail", "wait"):
        raise ValueError(f"{field} must be 'fail' or 'wait', got {value!r}")


_RULES: dict[str, Callable[[str, Any], None]] = {
    "circuit_failure_threshold circuit_success_threshold circuit_min_calls half_open_permits": (
        partial(check.whole, minimum=1)
    ),
    "circuit_window stream_buffer": partial(check.whole, minimum=1, maximum=MOST_KEPT),
    "max_retries max_pending restart_intensity": check.whole,
    "same_member_retries max_pending_per_key": partial(check.whole, optional=True),
    "fair_by": _key_or_function,
    "fair_weights": check_weights,
    "circuit_reset_timeout_s health_check_interval_s health_check_timeout_s priority_ageing_s"
    " restart_period_s loop_check_interval_s loop_stalled_after_s": (
        partial(check.number, above=True)
    ),
    "circuit_reset_max_s circuit_slow_call_s request_timeout_s deadline_s first_chunk_timeout_s"
    " chunk_timeout_s loop_replaced_after_s": partial(check.number, above=True, optional=True),
    "circuit_failure_rate degraded_error_rate_threshold unhealthy_error_rate_threshold": (
        partial(check.number, maximum=1.0, above=True)
    ),
    "circuit_slow_rate": partial(check.number, maximum=1.0, above=True, optional=True),
    "circuit_max_open_share": partial(check.number, maximum=1.0, optional=True),
    "retry_delay_s retry_max_delay_s stay_for_retry_after_s retry_budget_ratio retry_budget_floor"
    " cancel_grace_s restart_backoff_s": check.number,
    "retry_backoff_multiplier": partial(check.number, minimum=1.0),
    "hedge_after_s": _seconds_or_p95,
    "propagate_context": check.flag,
    "classify cost": partial(check.function, optional=True),
    "is_failure is_empty stream_complete": _function_or_auto,
    "when_unavailable": _fail_or_wait,
    "circuit": _on_or_observe,
    "log_metadata": _keys,
}
"""What is checked of each setting by itself."""

_AT_LEAST = {
    "circuit_reset_max_s": "circuit_reset_timeout_s",
    "retry_max_delay_s": "retry_delay_s",
    "unhealthy_error_rate_threshold": "degraded_error_rate_threshold",
    "loop_replaced_after_s": "loop_stalled_after_s",
}
"""Settings that must not be below another one."""

_RULE_OF = {name: rule for names, rule in _RULES.items() for name in names.split()}


def check_setting(name: str, value: Any) -> None:
    """Refuse a value that no pool's settings can have, whatever the others are.

    Raises:
        TypeError, ValueError: as `PoolConfig` has them.
    """
    rule = _RULE_OF.get(name)
    if rule is not None:
        rule(name, value)
