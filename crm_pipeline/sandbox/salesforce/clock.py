"""The org's own clock: every stamp, token and Date header follows it.

Belongs here: what time the org believes it is, and how it writes times down.
Does not belong here: date literals of SOQL (soql_dates.py).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class OrgClock:
    """Wall clock time until someone sets it; then it stands still until it is moved.

    SystemModstamp has a resolution of one second and shows `.000`; `milliseconds=True` keeps
    the thousandths, for tests that need stamps between two seconds.
    """

    def __init__(self, start: datetime | None = None, *, milliseconds: bool = False) -> None:
        self._frozen = _utc(start) if start is not None else None
        self._ahead = timedelta()
        self.milliseconds = milliseconds
        self._listeners: list[Callable[[], None]] = []

    def on_move(self, listener: Callable[[], None]) -> None:
        """Call this whenever somebody moves the clock."""
        self._listeners.append(listener)

    def _moved(self) -> None:
        for listener in self._listeners:
            listener()

    def now(self) -> datetime:
        """The org's time, aware, UTC."""
        moment = self._frozen or datetime.now(UTC) + self._ahead
        kept = moment.microsecond // 1000 * 1000 if self.milliseconds else 0
        return moment.replace(microsecond=kept)

    def set(self, moment: datetime) -> None:
        """Freeze the clock at a moment; it may lie before the present one."""
        self._frozen = _utc(moment)
        self._moved()

    def advance(self, seconds: float) -> datetime:
        """Move the clock (freezing it if it ran) and return the new time."""
        self._frozen = (self._frozen or datetime.now(UTC) + self._ahead) + timedelta(
            seconds=seconds
        )
        self._moved()
        return self.now()

    def step(self, seconds: float) -> datetime:
        """Let the clock jump, as a time server makes it; one that runs goes on running."""
        if self._frozen is not None:
            return self.advance(seconds)
        self._ahead += timedelta(seconds=seconds)
        self._moved()
        return self.now()

    def release(self) -> None:
        """Go back to wall clock time."""
        self._frozen = None
        self._ahead = timedelta()

    @property
    def frozen(self) -> bool:
        """Whether tests drive the clock."""
        return self._frozen is not None

    def stamp(self) -> str:
        """The present moment in the form the org stores."""
        return stamp_text(self.now())


def stamp_text(moment: datetime) -> str:
    """The stored form of a moment: UTC, milliseconds, `Z`; it sorts as text."""
    return _utc(moment).isoformat(timespec="milliseconds")[:23] + "Z"


def spoken(moment: datetime | str) -> str:
    """A moment, or its stored form, as answers show it: milliseconds, an offset without a colon."""
    stored = moment if isinstance(moment, str) else stamp_text(moment)
    return stored[:23] + "+0000"


def stamp_moment(text: str) -> datetime:
    """The moment that a stored stamp (or any ISO 8601 text with an offset) means."""
    return _utc(datetime.fromisoformat(text))


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)
