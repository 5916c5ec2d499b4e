"""Where "now" comes from.

Holds the clock that every room takes as an argument, so that tests drive time. Does not belong
here: the CRM's own time, which the connector reads from the CRM's answers.
"""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the current instant."""

    def now(self) -> datetime:
        """The current instant, aware and in UTC."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The current instant, aware and in UTC."""
        return datetime.now(UTC)
