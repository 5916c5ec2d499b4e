"""One page of a Bulk result: bytes from the socket to the caller, header line taken off.

Belongs here: streaming and checking a page. Does not belong here: jobs and the list of pages
(bulk.py). Nothing here looks at a row: at 300 MB/s there is no time to.

Sources: Bulk API 2.0 guide "Get Results for a Query Job" (headers Sforce-Locator and
Sforce-NumberOfRecords; CSV; columns in the order of the query since version 50, by name before).
"""

import csv
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import requests

from crm_pipeline.crm.salesforce.bodies import pieces
from crm_pipeline.crm.salesforce.failures import Concern, not_json
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.errors import PermanentError, TransientError
from crm_pipeline.model.characters import without_nul

_NO_MORE = frozenset({"", "null"})
_LONGEST_HEADER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PageAddress:
    """Where a page is, and what names it within the job."""

    key: str
    address: str


class BulkPage:
    """A page that is still at Salesforce; `chunks` fetches it, again if called again.

    Attributes:
        columns: the requested names in the page's order; as requested until `chunks` has begun.
        record_count: what Salesforce says the page holds; None until it was asked.
        replaced_characters: NULs in the chunks that were fetched last.
    """

    def __init__(
        self,
        session: SalesforceSession,
        where: PageAddress,
        fields: tuple[str, ...],
        concern: Concern,
    ) -> None:
        self.key = where.key
        self.columns = fields
        self.record_count: int | None = None
        self.replaced_characters = 0
        self._address = where.address
        self._session = session
        self._fields = fields
        self._concern = concern
        self._lock = threading.Lock()
        self._opened: requests.Response | None = None
        self._next_locator: str | None = None
        self._was_opened = False

    def chunks(self) -> Iterator[bytes]:
        """The rows in chunks of about 256 kB, cut anywhere.

        Raises:
            TransientError: the body broke off; call again for the whole page.
            ReadExpired: the job is gone.
            PermanentError: the page holds other columns than were asked for.
        """
        with self._take() as response:
            received = pieces(response, patience_seconds=self._session.manners.read_seconds)
            yield from self._rows(received)

    def next_locator(self) -> str | None:
        """What the page says about the page behind it; asks for the page if nobody has yet."""
        with self._lock:
            if not self._was_opened:
                self._opened = self._open()
            return self._next_locator

    def forget(self) -> None:
        """Close an answer that was begun and not taken."""
        with self._lock:
            response, self._opened = self._opened, None
        if response is not None:
            response.close()

    def _take(self) -> requests.Response:
        with self._lock:
            response, self._opened = self._opened, None
            return response if response is not None else self._open()

    def _open(self) -> requests.Response:
        response = self._session.open_stream(self._address, concern=self._concern)
        if "html" in response.headers.get("Content-Type", "").lower():
            response.close()
            raise not_json("Salesforce")
        announced = response.headers.get("Sforce-NumberOfRecords", "")
        locator = response.headers.get("Sforce-Locator", "")
        self.record_count = int(announced) if announced.isdigit() else None
        self._next_locator = None if locator in _NO_MORE else locator
        self._was_opened = True
        return response

    def _rows(self, received: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces without the header line, which may span pieces."""
        self.replaced_characters = 0
        head = b""
        for piece in received:
            head += piece
            if b"\n" in head or len(head) > _LONGEST_HEADER_BYTES:
                break
        line, _, first = head.partition(b"\n")
        if head:
            self.columns = self._checked(line)
        elif self.record_count:
            raise TransientError("Salesforce sent an empty page; the page is read again.")
        if first:
            yield self._storable(first)
        for piece in received:
            yield self._storable(piece)

    def _storable(self, piece: bytes) -> bytes:
        """Only a piece with a NUL in it pays for replacing: looking for one costs nothing."""
        kept, replaced = without_nul(piece)
        self.replaced_characters += replaced
        return kept

    def _checked(self, line: bytes) -> tuple[str, ...]:
        """The header's names in the spelling of the request."""
        text = line.decode("utf-8-sig", errors="replace").rstrip("\r")
        names = next(csv.reader([text]), []) if len(line) <= _LONGEST_HEADER_BYTES else []
        asked = {name.casefold(): name for name in self._fields}
        columns = tuple(asked.pop(name.casefold(), "") for name in names)
        if asked or "" in columns:
            raise PermanentError(
                f"Salesforce answered a Bulk query on {self._concern.object_name} with other "
                "columns than were asked for; set its transport to rest and report this."
            )
        return columns
