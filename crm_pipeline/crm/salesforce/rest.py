"""Reading over REST: pages of JSON in order of id, each known by the last id that it holds.

Belongs here: following a query to its end, and going on behind any page. Does not belong here: the
form of the rows (json_rows.py), choosing REST (connector.py).

The order by id is what makes a read resumable: a cursor lives for two days and dies with a revoked
session, while `Id > last` can be asked at any time.

Sources: REST API guide "Query", "QueryAll", "Query More Results" (up to 2,000 records a page, fewer
when rows are wide, `done` alone says whether it was the last); Help 000384958 on
INVALID_QUERY_LOCATOR.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from crm_pipeline.crm.port import ReadRequest, ResumePoint
from crm_pipeline.crm.salesforce import soql
from crm_pipeline.crm.salesforce.failures import Concern
from crm_pipeline.crm.salesforce.json_rows import Row, RowWriter, decoded
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.errors import ReadExpired, TransientError
from crm_pipeline.model.objects import Transport
from crm_pipeline.model.pages import ResultPage

TOKEN = "rest"  # noqa: S105 - where to go on is in the keys; nothing is kept for us in the CRM
PAGE_RECORDS = 2000
_FRUITLESS_RESTARTS = 3
_EMPTY_PAGES = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a query."""

    records: list[Row]
    total: int
    next_address: str | None


@dataclass(frozen=True, slots=True)
class RestPage:
    """A page that is already here.

    Its key is the last id and the number of records up to it: `00Q...AAA+4000`.
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

    def begin(self, after_id: str | None = None) -> Answer:
        """The first answer, of the records behind an id if one is given."""
        query = soql.select(self._request, after_id=after_id, ordered=True)
        concern = Concern(self._request.crm_object.name)
        response = self._session.request("GET", self._path, params={"q": query}, concern=concern)
        return _answer(response.content)

    def go_on(self, address: str) -> Answer:
        """A further answer.

        Raises:
            ReadExpired: the cursor is gone.
        """
        concern = Concern(self._request.crm_object.name, is_stored_result=True)
        return _answer(self._session.request("GET", address, concern=concern).content)


class RestRead:
    """An open read over REST."""

    def __init__(
        self,
        queries: RestQueries,
        request: ReadRequest,
        reason: str,
        *,
        first: Answer | None = None,
        resume: ResumePoint | None = None,
    ) -> None:
        names = soql.field_names(request)
        self._queries = queries
        self._request = request
        self._names = names
        self._writer = RowWriter(request.crm_object, names)
        self._last_id, self._count = _position(resume)
        self._answer = first if first is not None else queries.begin(self._last_id)
        self._expected = self._count + self._answer.total
        self.transport = Transport.REST
        self.reason = reason
        self.token = TOKEN

    @property
    def record_count(self) -> int | None:
        """Landed records and the total of the open query."""
        return self._expected

    def pages(self) -> Iterator[ResultPage]:
        """The pages behind the landed ones, in order.

        Raises:
            ReadExpired: the end came early or late, even after asking what lies behind it; what
                is missing may lie anywhere, so only a new read can mend it.
        """
        yield from self._to_the_end()
        if self._count < self._expected:
            # Once more behind the last id: a cursor that ended early is not the end of the data.
            expected = self._expected
            self._start_again()
            yield from self._to_the_end()
            self._expected = max(self._expected, expected)
        if self._count != self._expected:
            raise ReadExpired(
                f"Salesforce announced {self._expected:,} records of "
                f"{self._request.crm_object.name} and handed over {self._count:,}; the object is "
                "read anew. If this repeats, set its transport to bulk."
            )

    def close(self) -> None:
        """Nothing is kept for us that could be given back; cursors end by themselves."""

    def _to_the_end(self) -> Iterator[ResultPage]:
        answer: Answer | None = self._answer
        empty = 0
        while answer is not None:
            empty = 0 if answer.records else empty + 1
            if answer.records:
                yield self._page(answer.records)
            if empty > _EMPTY_PAGES:
                raise TransientError("Salesforce answers a query with empty pages without end.")
            answer = self._after(answer)

    def _page(self, records: Sequence[Row]) -> RestPage:
        id_field = self._request.crm_object.id_field
        try:
            rows, replaced = self._writer.rows(records)
            self._last_id = str(records[-1][id_field])
        except (KeyError, TypeError):
            rows, replaced = b"", 0
        if not rows:
            raise TransientError("Salesforce sent records without the requested fields.")
        self._count += len(records)
        key = f"{self._last_id}+{self._count}"
        return RestPage(key, self._request.fields, len(records), replaced, rows)

    def _after(self, answer: Answer) -> Answer | None:
        if answer.next_address is None:
            return None
        count_before = self._count
        for _ in range(_FRUITLESS_RESTARTS):
            try:
                return self._queries.go_on(answer.next_address)
            except ReadExpired:
                # The cursor died; what lies behind the last id can always be asked for.
                again = self._start_again()
            if again.records or again.next_address is None or self._count > count_before:
                return again
            answer = again
        raise TransientError("Salesforce forgets its cursors at once; the read is tried again.")

    def _start_again(self) -> Answer:
        self._answer = self._queries.begin(self._last_id)
        self._expected = self._count + self._answer.total
        return self._answer


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


def _position(resume: ResumePoint | None) -> tuple[str | None, int]:
    """Behind which id to go on, and how many records lie before it."""
    if resume is None or not resume.landed_keys:
        return None, 0
    last_id, _, count = resume.landed_keys[-1].partition("+")
    if resume.token != TOKEN or not count.isdigit():
        raise ReadExpired("The stored position is not one of a REST read; the object is read anew.")
    return last_id, int(count)
