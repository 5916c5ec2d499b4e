"""Reading over REST: pages of JSON in order of id, each known by the last id that it holds.

Belongs here: following a query to its end, and going on behind any page. Does not belong here: the
form of the rows (json_rows.py), choosing REST (connector.py).

The order by id is what makes a read resumable: a cursor lives for two days and dies with a revoked
session, while `Id > last` can be asked at any time. It also lets a query that Salesforce does not
finish be asked in portions: each begins behind the last id that came, so there is no other half
that could be lost.

Sources: REST API guide "Query", "QueryAll", "Query More Results" (up to 2,000 records a page, fewer
when rows are wide, `done` alone says whether it was the last; the address of the next page ends in
the number of records before it); Help 000384958 on INVALID_QUERY_LOCATOR.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from crm_pipeline.crm.port import ReadRequest, ResumePoint
from crm_pipeline.crm.salesforce import soql
from crm_pipeline.crm.salesforce.failures import Concern, QueryTimedOut, too_long
from crm_pipeline.crm.salesforce.json_rows import Row, RowWriter, decoded
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.errors import ReadExpired, TransientError
from crm_pipeline.model.objects import Transport
from crm_pipeline.model.pages import ResultPage

TOKEN = "rest"  # noqa: S105 - where to go on is in the keys; nothing is kept for us in the CRM
PAGE_RECORDS = 2000
PORTIONS = (2000, 200, 20)
"""Records per query where Salesforce does not finish a larger one in its two minutes. The first
costs nothing: it is a page."""
_LONGEST_ADDRESS = (
    12_000  # of the 16,384 bytes for address and headers, where tokens may take 2,000
)
_FRUITLESS_RESTARTS = 3
_EMPTY_PAGES = 100
_PLACE = re.compile(r"-(\d+)$")


def fits_into_an_address(request: ReadRequest) -> bool:
    """Whether REST can be asked for the request at all."""
    longest = soql.select(request, ordered=True, after_id="0" * 15, limit=PORTIONS[0])
    return len(quote(longest)) <= _LONGEST_ADDRESS


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a query."""

    records: list[Row]
    total: int
    next_address: str | None


@dataclass(frozen=True, slots=True)
class RestPage:
    """A page that is already here.

    Its key is the last id, the number of records up to it, and of how many if that is known:
    `00Q...AAA+4000/4500`. So what was announced once is not forgotten by whoever goes on.
    """

    key: str
    columns: tuple[str, ...]
    record_count: int
    replaced_characters: int
    rows: bytes = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """The rows, as often as wanted."""
        yield self.rows


class RestQueries:
    """Sends the queries of one request."""

    def __init__(self, session: SalesforceSession, version_path: str, request: ReadRequest) -> None:
        self._session = session
        self._path = f"{version_path}/{soql.resource(request)}"
        self._request = request

    def begin(self, after_id: str | None = None, *, limit: int | None = None) -> Answer:
        """The first answer, of the records behind an id if one is given.

        Raises:
            QueryTooLong: nothing was sent.
            QueryTimedOut: a smaller limit may help.
        """
        concern = Concern(self._request.crm_object.name)
        if not fits_into_an_address(self._request):
            raise too_long(concern)
        query = soql.select(self._request, after_id=after_id, ordered=True, limit=limit)
        response = self._session.request("GET", self._path, params={"q": query}, concern=concern)
        return _answer(response.content)

    def count(self) -> int:
        """How many records there are now."""
        answer = self._session.get_object(
            self._path,
            "totalSize",
            params={"q": soql.count(self._request)},
            concern=Concern(self._request.crm_object.name),
        )
        return int(answer["totalSize"])

    def go_on(self, address: str) -> Answer:
        """A further answer.

        Raises:
            ReadExpired: the cursor is gone.
        """
        concern = Concern(self._request.crm_object.name, is_stored_result=True)
        return _answer(self._session.request("GET", address, concern=concern).content)


class RestRead:
    """An open read over REST.

    `record_count` is None until the end when the read is made in portions.
    """

    def __init__(
        self,
        queries: RestQueries,
        request: ReadRequest,
        reason: str,
        *,
        first: Answer | None = None,
        in_portions: bool = False,
        resume: ResumePoint | None = None,
    ) -> None:
        names = soql.field_names(request)
        self._queries = queries
        self._request = request
        self._writer = RowWriter(request.crm_object, names)
        self._last_id, self._count, self._announced = _position(resume)
        self._limit = PORTIONS[0] if in_portions else None
        self._begun_at = self._count
        self._is_short = False
        self._previous_ids: frozenset[str] = frozenset()
        self._answer = self._begun(first) if first is not None else self._begin()
        announced = self.record_count
        if self._count and announced is not None:
            self._require_in_all(announced)
        self.transport = Transport.REST
        self.reason = reason
        self.token = TOKEN

    @property
    def record_count(self) -> int | None:
        """Landed records and what the open query announced."""
        return self._announced

    def pages(self) -> Iterator[ResultPage]:
        """The pages behind the landed ones, in order.

        Raises:
            ReadExpired: the end came early or late, even after asking what lies behind it; what
                is missing may lie anywhere, so only a new read can mend it.
            QueryTimedOut: not even the smallest portion is finished in time.
        """
        yield from self._to_the_end()
        if self._announced is not None and self._count < self._announced:
            # Once more behind the last id: a cursor that ended early is not the end of the data.
            self._answer = self._begin()
            yield from self._to_the_end()
        if self._is_short or self._count != (self._announced or self._count):
            self._require_in_all(self._count)
        self._announced = self._count

    def close(self) -> None:
        """Nothing is kept for us that could be given back; cursors end by themselves."""

    def _to_the_end(self) -> Iterator[ResultPage]:
        answer: Answer | None = self._answer
        empty = 0
        while answer is not None:
            empty = 0 if answer.records else empty + 1
            if answer.records:
                page = self._page(answer.records)
                answer.records.clear()  # of a wide page, they are most of what we hold
                yield page
            if empty > _EMPTY_PAGES:
                raise TransientError("Salesforce answers a query with empty pages without end.")
            answer = self._after(answer)

    def _page(self, records: Sequence[Row]) -> RestPage:
        id_field = self._request.crm_object.id_field
        ids: frozenset[str] = frozenset()
        try:
            rows, replaced = self._writer.rows(records)
            ids = frozenset(str(record[id_field]) for record in records)
        except (KeyError, TypeError):
            rows, replaced = b"", 0
        if not rows:
            raise TransientError("Salesforce sent records without the requested fields.")
        if len(ids) < len(records) or not ids.isdisjoint(self._previous_ids):
            # A record that comes twice may stand in the place of another one.
            raise ReadExpired(
                f"Salesforce handed over records of {self._request.crm_object.name} twice; the "
                "object is read anew."
            )
        self._previous_ids = ids
        self._last_id = str(records[-1][id_field])
        self._count += len(records)
        of = "" if self._announced is None else f"/{self._announced}"
        key = f"{self._last_id}+{self._count}{of}"
        return RestPage(key, self._request.fields, len(records), replaced, rows)

    def _after(self, answer: Answer) -> Answer | None:
        received = self._count - self._begun_at
        if answer.next_address is None:
            self._is_short |= self._limit is not None and received != self._answer.total
            is_last = self._limit is None or self._answer.total < self._limit
            return None if is_last else self._begin()
        place = _PLACE.search(answer.next_address)
        self._is_short |= place is not None and int(place[1]) != received
        return self._going_on(answer.next_address)

    def _going_on(self, address: str) -> Answer:
        count_before = self._count
        for _ in range(_FRUITLESS_RESTARTS):
            try:
                return self._queries.go_on(address)
            except QueryTimedOut as error:
                self._narrow(error)
            except ReadExpired:
                pass
            # The cursor died; what lies behind the last id can always be asked for.
            again = self._begin()
            if again.records or again.next_address is None or self._count > count_before:
                return again
            address = again.next_address
        raise TransientError("Salesforce forgets its cursors at once; the read is tried again.")

    def _begin(self) -> Answer:
        """What lies behind the last id; in smaller portions as long as they take too long."""
        while True:
            try:
                return self._begun(self._queries.begin(self._last_id, limit=self._limit))
            except QueryTimedOut as error:
                self._narrow(error)

    def _begun(self, answer: Answer) -> Answer:
        self._answer = answer
        self._begun_at = self._count
        if self._limit is None:
            # Never lower than announced before: what went missing on the way must stay visible.
            self._announced = max(self._announced or 0, self._count + answer.total)
        return answer

    def _narrow(self, error: QueryTimedOut) -> None:
        limit = self._limit
        smaller = [one for one in PORTIONS if limit is None or one < limit]
        if not smaller:
            raise error
        self._limit = smaller[0]

    def _require_in_all(self, known: int) -> None:
        """Make sure that so many records are all that there are now.

        A read that goes on does not know what an earlier attempt was promised and did not get. A
        read that ends accepts less than it was promised only if it was deleted for good meanwhile.
        """
        there = self._queries.count()
        if there != known:
            raise ReadExpired(
                f"Salesforce announced {max(there, self._announced or 0):,} records of "
                f"{self._request.crm_object.name} and handed over {self._count:,}; the object is "
                "read anew. If this repeats, set its transport to bulk."
            )


def _answer(body: bytes) -> Answer:
    found: Any = decoded(body)
    try:
        records, is_done = found["records"], found["done"]
        next_address = None if is_done else str(found["nextRecordsUrl"])
        return Answer(records, int(found["totalSize"]), next_address)
    except (KeyError, TypeError, ValueError):
        broken = True
    assert broken
    raise TransientError("Salesforce answered a query without records; it is tried again.")


def _position(resume: ResumePoint | None) -> tuple[str | None, int, int | None]:
    """Behind which id to go on, how many records lie before it, and of how many announced."""
    if resume is None or not resume.landed_keys:
        return None, 0, None
    last_id, _, place = resume.landed_keys[-1].partition("+")
    count, _, announced = place.partition("/")
    if resume.token != TOKEN or not count.isdigit():
        raise ReadExpired("The stored position is not one of a REST read; the object is read anew.")
    return last_id, int(count), int(announced) if announced.isdigit() else None
