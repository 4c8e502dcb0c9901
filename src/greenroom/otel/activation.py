"""Whether a pool tells OpenTelemetry anything: what `AgentPool.start(telemetry=...)` means."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Literal

from greenroom.messages import _validate as check
from greenroom.otel.telemetry import Telemetry

if TYPE_CHECKING:
    from greenroom.otel.pool_telemetry import Told

TelemetrySetting = Telemetry | bool | Literal["auto"]

_NAMED = ("OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER")
"""Variables by which a process has a provider without any code."""

_OF_THE_API = ("opentelemetry.trace", "opentelemetry.metrics")


def check_telemetry(setting: Any) -> None:
    """Refuse what is no setting.

    Raises:
        TypeError, ValueError: it is none of what it may be.
    """
    if isinstance(setting, str):
        if setting != "auto":
            raise ValueError(f"telemetry must be 'auto', a bool or a Telemetry, got {setting!r}")
    elif not isinstance(setting, bool | Telemetry):
        raise check.misfit("telemetry must be 'auto', a bool or a Telemetry", setting)


def told_by(setting: TelemetrySetting) -> Told | None:
    """What is to be told of a pool that starts, and where; None: nothing.

    Raises:
        TypeError, ValueError: it is none of what the setting may be.
        ModuleNotFoundError: it is asked for, and not installed; it names the extra.
        Exception: what a provider that was given raises.
    """
    check_telemetry(setting)
    if setting is False:
        return None
    if isinstance(setting, str):
        return _of_the_process()
    try:
        from greenroom.otel.pool_telemetry import told_to
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ModuleNotFoundError(
            f"telemetry={setting!r} needs the API of OpenTelemetry, which is not installed; "
            "install it with: pip install 'greenroom[otel]'",
            name=error.name,
        ) from error
    return told_to(Telemetry() if setting is True else setting)


def _of_the_process() -> Told | None:
    """What the process has set up for all of its libraries."""
    # Who has set a provider has imported it: else nothing is imported here to find that out.
    if "opentelemetry" not in sys.modules and not any(map(os.environ.get, _NAMED)):
        return None
    try:
        from opentelemetry.metrics import get_meter_provider
        from opentelemetry.trace import get_tracer_provider

        traces, metrics = _is_real(get_tracer_provider()), _is_real(get_meter_provider())
        if not traces and not metrics:
            return None
        from greenroom.otel.pool_telemetry import told_to

        return told_to(Telemetry(), traces=traces, metrics=metrics)
    except Exception:  # only a part of it is there, or cannot be loaded: nobody has asked for it
        return None


def _is_real(provider: Any) -> bool:
    """Whether it is more than the API's own, of which nothing is told to anybody."""
    return not type(provider).__module__.startswith(_OF_THE_API)
