"""When a run has to stop: after a while, or at a time of the day."""

import datetime
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from batchsent.errors import UsageError
from batchsent.text import printable

UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
# 3h, 90m, 1h30m, 1.5h: each unit once at most, the longest first.
DURATION = re.compile(
    "".join(rf"(?:([0-9]{{1,7}}(?:\.[0-9]{{1,3}})?){unit})?" for unit in UNITS_S), re.ASCII
)
TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?", re.ASCII)


@dataclass(frozen=True)
class Deadline:
    """The moment at which a run has to stop."""

    name: str  # the option that set it, as it was typed
    at: float  # seconds of `clock`
    # Durations are measured by a clock that nobody sets; a time of the day is that of the machine.
    clock: Callable[[], float]

    @classmethod
    def of(cls, after: str | None, at: str | None) -> "Deadline | None":
        """Return the first of the two moments; None without any. Raises UsageError."""
        found = []
        if after is not None:
            seconds = parse_duration(after)
            found.append(cls(f"--stop-after {after}", time.monotonic() + seconds, time.monotonic))
        if at is not None:
            found.append(cls(f"--stop-at {at}", next_time(at, time.time()), time.time))
        return min(found, key=Deadline.left_s, default=None)

    def left_s(self) -> float:
        """Return the seconds that are left, less than 0 afterwards."""
        return self.at - self.clock()

    def is_over(self) -> bool:
        """Tell whether the moment has come."""
        return self.left_s() <= 0


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as 3h, 90m, 45s, 1h30m or 1.5h. Raises UsageError.

    >>> parse_duration("1h30m")
    5400.0
    """
    match = DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        number = re.match(r"[0-9]*", text.strip())
        example = (number and number[0]) or "3"
        raise UsageError(
            f"--stop-after {printable(text[:60])} is not a duration with its unit",
            hint=f"write for instance {example}h, {example}m or {example}s, or 1h30m",
        )
    parts = zip(match.groups(), UNITS_S.values(), strict=True)
    seconds = sum(float(number) * unit_s for number, unit_s in parts if number)
    if not seconds:
        raise UsageError(
            f"--stop-after {printable(text)} leaves no time", hint="write for instance 3h or 45s"
        )
    return seconds


def next_time(text: str, now: float) -> float:
    """Return when the clock of this machine next shows a time such as 06:00.

    `now` and what is returned are seconds of time.time(). Where clocks are put forward over that
    time it is as long after midnight as on other days; where they are put back it comes twice.
    Raises UsageError.
    """
    match = TIME.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError(text)
        hour, minute, second = (int(number or 0) for number in match.groups())
        of_day = datetime.time(hour, minute, second)
    except ValueError as error:
        raise UsageError(
            f"--stop-at {printable(text[:60])} is not a time of the day",
            hint="write it with hours and minutes, such as 06:00 or 23:30",
        ) from error
    today = datetime.datetime.fromtimestamp(now).date()  # noqa: DTZ006 (the local day)
    moments = []
    for days in range(3):
        day = today + datetime.timedelta(days=days)
        first = datetime.datetime.combine(day, of_day).timestamp()
        again = datetime.datetime.combine(day, of_day.replace(fold=1)).timestamp()
        # Of a time that is left out the second moment is before the first, and shows another time.
        moments += [first, max(first, again)]
    return min(moment for moment in moments if moment > now)
