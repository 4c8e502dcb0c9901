"""Whether a request can still be in time, by how long members take. Pure.

First come, first served, under more load than there is room for, everybody who is served has waited
for as long as he could, and has no time left for the call itself: of 1,291 requests in 100 s, each
of use for three, two members of five calls a second answered 355, and did the rest for nobody. So
who cannot be in time any more gives his place to one that can. He is let go rather than served
last: his time only gets shorter, and who asks can do something else with what is left of it.

He cannot be where less is left than what three of four calls of the quickest member take. By the
quickest tenth next to nobody is let go, and most of those that are served fail. By nine of ten more
of these are in time, and many are let go who would have been, where lengths vary much. The
comparison is `tests/simulate/test_simulated_deadlines.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHARE = 0.75
"""So many of a member's last calls have not taken longer than what it usually takes."""
_ABOUT = 1e-9


def is_too_late(left_s: float, usual_s: Iterable[float | None]) -> bool:
    """Whether nobody who may have it usually answers in what is left.

    Args:
        left_s: seconds until the deadline.
        usual_s: what each member that it may be given to in that time usually takes, in seconds;
            None of one of which too little is known: that one may be quick enough.
    """
    known = False
    for each in usual_s:
        if each is None or each <= left_s:
            return False
        known = True
    return known


def usual_s(took_s: Sequence[float], cut_s: Sequence[float]) -> float:
    """What three of four of a member's calls do not exceed, in seconds.

    A call that a deadline has cut short would have taken longer. To leave those out is to see quick
    calls alone, the more so the less time there is: they count as what they are (Kaplan and Meier,
    Nonparametric estimation from incomplete observations, 1958). Where too many were cut short to
    say it, it is the longest that is known.

    Args:
        took_s: of those that have ended; one at least.
        cut_s: of those that were cut short, after how long.
    """
    ended = sorted([*((each, False) for each in took_s), *((each, True) for each in cut_s)])
    left, longer = len(ended), 1.0
    for each, cut in ended:
        if not cut:
            longer *= 1.0 - 1.0 / left
            if longer <= 1.0 - SHARE + _ABOUT:
                return each
        left -= 1
    return ended[-1][0]
