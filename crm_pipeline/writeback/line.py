"""Claims on their way, the next one begun before the one before it is done.

While the CRM works at one claim, the next is taken out of the outbox, so that neither waits for the
other. No record is in two claims at once, so updates cannot overtake each other. What has no record
id yet, and children of a parent that the CRM locks with them, go by themselves.

Belongs here: which claims go side by side. Does not belong here: sending one (sending.py, jobs.py),
which is next (drain.py).
"""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from crm_pipeline.errors import CrmPipelineError


class Delivery(Protocol):
    """One claim on its way; started, and later finished, by the drainer's own thread."""

    @property
    def goes_alone(self) -> bool:
        """Whether nothing else may be on its way; known once it is prepared."""

    @property
    def unavailable(self) -> str | None:
        """The object, if it turned out that it cannot be written now."""

    def prepare(self) -> None:
        """Whatever comes before the first write; others may be on their way."""

    def start(self) -> None:
        """Begin, without waiting for an end."""

    def finish(self) -> None:
        """Wait until everything is settled, or waits again.

        Raises:
            CrmPipelineError: why the drainer must stop.
        """

    def abandon(self) -> None:
        """The drainer stops: send nothing more, and let what was not sent wait again."""


@dataclass(slots=True)
class Line:
    """Up to two claims on their way.

    Attributes:
        without: objects that turned out not to be writable.
    """

    without: set[str]
    _under_way: deque[Delivery] = field(default_factory=deque)

    def add(self, delivery: Delivery) -> None:
        """Begin one, and finish the one before it meanwhile."""
        delivery.prepare()
        if delivery.goes_alone:
            self.finish()
        self._under_way.append(delivery)
        delivery.start()
        self._finish_all_but(0 if delivery.goes_alone else 1)

    def finish(self) -> bool:
        """Finish what is on its way; says whether there was anything."""
        had_any = bool(self._under_way)
        self._finish_all_but(0)
        return had_any

    def abandon(self) -> None:
        """Stop; what cannot be told to the warehouse, the next drainer finds out."""
        for delivery in self._under_way:
            with suppress(CrmPipelineError):
                delivery.abandon()
        self._under_way.clear()

    def _finish_all_but(self, left: int) -> None:
        while len(self._under_way) > left:
            first = self._under_way[0]
            first.finish()
            self._under_way.popleft()
            if first.unavailable is not None:
                self.without.add(first.unavailable)
