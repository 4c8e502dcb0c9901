"""How many restarts are too many."""

from __future__ import annotations

from greenroom.messages import _validate as check


class RestartWindow:
    """OTP's restart intensity: more than `intensity` crashes in `period_s` seconds are too many.

    Source: `add_restart` in Erlang/OTP's supervisor.erl; a crash just `period_s` ago still counts.
    """

    __slots__ = ("_crashes", "intensity", "period_s")

    def __init__(self, intensity: int, period_s: float) -> None:
        self.configure(intensity, period_s)
        self._crashes: list[float] = []

    def configure(self, intensity: int, period_s: float) -> None:
        """Go by other limits; what has been counted stays."""
        check.whole("intensity", intensity)
        check.number("period_s", period_s, above=True)
        self.intensity = intensity
        self.period_s = period_s

    def add(self, now: float) -> bool:
        """Count a crash at `now` (monotonic seconds); whether a restart is still allowed."""
        recent = [at for at in self._crashes if at >= now - self.period_s]
        self._crashes = [*recent, now]
        return len(self._crashes) <= self.intensity

    def clear(self) -> None:
        """Forget all crashes: the member was reset by hand."""
        self._crashes = []

    def __repr__(self) -> str:
        return (
            f"<RestartWindow {len(self._crashes)} crashes, "
            f"{self.intensity} allowed in {self.period_s:g} s>"
        )
