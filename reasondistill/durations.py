"""Seconds as people read them, wherever we print how long something took or will take."""

from __future__ import annotations

_ENDLESS_S = 1e7


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `12 min 05 s`, `1 h 12 min`.

    >>> duration(725)
    '12 min 05 s'
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds >= _ENDLESS_S:  # what a server asked us to wait, say
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_past = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_past:02d} min"
    if minutes:
        return f"{minutes} min {rest:02d} s"
    return f"{rest} s"


def short_duration(seconds: float) -> str:
    """`41s`, `12m05s`, `1h12m`: for the lines of progress.

    >>> short_duration(4320)
    '1h12m'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_past = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes_past:02d}m"
    if minutes:
        return f"{minutes}m{rest:02d}s"
    return f"{rest}s"
