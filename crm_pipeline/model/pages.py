"""One page of records on its way: what a connector hands over and the warehouse lands.

Belongs here: the one shape that both sides must agree on to pass bytes. Does not belong here: how a
CRM makes pages (crm/<vendor>/) and how they land (warehouse/staging.py).
"""

from collections.abc import Iterator
from typing import Protocol


class ResultPage(Protocol):
    """One page of records as CSV bytes: the unit of loading, checkpointing and repeating."""

    @property
    def key(self) -> str:
        """Names the page within its read, also after a restart."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Field names in the order of the page's columns; known once `chunks` has begun."""

    @property
    def record_count(self) -> int | None:
        """Records in the page by the CRM's own count; None when the CRM does not say."""

    @property
    def replaced_characters(self) -> int:
        """Characters that the page's latest chunks replaced (model/characters.py)."""

    def chunks(self) -> Iterator[bytes]:
        """The page's CSV rows without a header line; may be called again to read the page again.

        RFC 4180 with LF or CRLF, UTF-8, `""` or nothing for null, no NUL bytes; ISO 8601 times;
        `true` and `false`.

        Raises:
            TransientError: the connection broke or the body was cut; calling again may help.
            ReadExpired: the page no longer exists.
        """
