"""One API call: what the handlers get and what they answer with.

Belongs here: the shape shared by every handler. Does not belong here: routing, sessions,
faults (server.py, gate.py).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from crm_pipeline.sandbox.salesforce import strange_text
from crm_pipeline.sandbox.salesforce.failures import OrgError, not_found
from crm_pipeline.sandbox.salesforce.owners import check_assignment
from crm_pipeline.sandbox.salesforce.row_locks import RowLocks
from crm_pipeline.sandbox.salesforce.write_ledger import WriteLedger, WriteRequest
from crm_pipeline.sandbox.salesforce.write_options import options_of
from crm_pipeline.sandbox.salesforce.writer import Writer

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.bulk import Jobs
    from crm_pipeline.sandbox.salesforce.cursors import Cursors
    from crm_pipeline.sandbox.salesforce.faults import Fault, FaultPlan
    from crm_pipeline.sandbox.salesforce.ingest import IngestJobs
    from crm_pipeline.sandbox.salesforce.ledger import Ledger
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg
    from crm_pipeline.sandbox.salesforce.tooling_objects import ToolingTables

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - the demo's, printed for everybody


@dataclass(slots=True)
class ServerSettings:
    """How a server of an org behaves; each may be changed while it runs.

    `bulk_page_records` is how many records a Bulk result page holds where the client does not
    say; `bulk_directory` is where result files live (a private one by default). Once there is an
    `instance_url`, logins name it, and any other host answers data requests with `moved_status`:
    a redirect, or an error.

    Limits that are 0 do not apply. Queries that find more than `query_timeout_rows` rows time
    out; `concurrent_requests` are let in at once. `api_disabled` is the error code that every
    request then gets, `login_refusal` what every login hears. Versions below `retired_below`
    are gone. Without `customize_application` the API user makes no fields; `maximum_upload` is
    what the data of one ingest job may weigh, in bytes.
    """

    client_id: str = CLIENT_ID
    client_secret: str = CLIENT_SECRET
    public_keys: dict[str, str] = field(default_factory=dict)
    usernames: dict[str, str] = field(default_factory=dict)
    password: str = "sandbox-password"  # noqa: S105 - the demo's
    rotate_refresh_tokens: bool = False
    gzip: bool = True
    bulk_page_records: int = 50_000
    bulk_directory: Path | None = None
    control: bool = True
    maximum_uri: int = 16_384
    get_deleted_limit: int = 600_000
    maximum_headers: int = 0
    maximum_soql: int = 100_000
    query_timeout_rows: int = 0
    concurrent_requests: int = 0
    logins_per_hour: int = 0
    login_refusal: str = ""
    api_disabled: str = ""
    read_only: bool = False
    retired_below: int = 31
    customize_application: bool = True
    maximum_upload: int = 150_000_000
    instance_url: str = ""
    moved_status: int = 302


def _nowhere(_call: "Call", _request: "SubRequest") -> Response:
    raise not_found()


@dataclass(frozen=True, slots=True)
class SubRequest:
    """A request inside a composite one; the URL may carry parameters."""

    method: str
    url: str
    body: Any
    headers: Mapping[str, str]


@dataclass(slots=True)
class Server:
    """Everything one server of an org keeps between calls."""

    org: "SandboxOrg"
    settings: ServerSettings
    cursors: "Cursors"
    jobs: "Jobs"
    faults: "FaultPlan"
    ledger: "Ledger"
    tooling: "ToolingTables"
    writes: WriteLedger = field(default_factory=WriteLedger)
    locks: RowLocks = field(default_factory=RowLocks)
    dispatch: "Dispatch" = field(default=_nowhere)
    ingest: "IngestJobs" = field(init=False)
    urls: list[str] = field(default_factory=list)

    def move(self, status: int = 302, *, back: bool = False) -> str:
        """Let the org live at the second of its URLs, or at the first again; returns which."""
        self.settings.instance_url = self.urls[0 if back else 1]
        self.settings.moved_status = status
        return self.settings.instance_url


@dataclass(frozen=True, slots=True)
class Call:
    """One request, its body read; `version` is empty outside /services/data.

    `number` is its place in the ledger; `trail` collects what it, and requests inside it, wrote.
    """

    server: Server
    method: str
    path: str
    base_url: str
    version: str
    parts: Mapping[str, Any]
    params: QueryParams
    headers: Headers
    body: bytes
    fault: "Fault | None" = None
    number: int = 0
    trail: list[WriteRequest] = field(default_factory=list)

    @property
    def org(self) -> "SandboxOrg":
        """The org that is asked."""
        return self.server.org

    @property
    def root(self) -> str:
        """The path that record and cursor URLs begin with."""
        return f"/services/data/{self.version}"

    def writer(self) -> Writer:
        """The writes of this request, as its headers want them; from now on it is noted as one."""
        options = options_of(self.headers)
        check_assignment(self.org, options)
        request = self.server.writes.open(
            self.method,
            self.path,
            self.org.clock.stamp(),
            self.headers,
            self.fault.kind if self.fault else "",
        )
        self.trail.append(request)
        holds = self.fault is not None and self.fault.kind == "late_answer"
        return Writer(self.server, options, request, number=self.number, holds=holds)

    def json(self) -> Any:
        """The body's JSON; numbers keep all their digits."""
        try:
            return json.loads(self.body, parse_float=Decimal)
        except ValueError:
            raise OrgError(
                "JSON_PARSER_ERROR", "Unexpected character in the request body"
            ) from None

    def json_object(self) -> dict[str, Any]:
        """The body's JSON, which must be an object."""
        found = self.json()
        if not isinstance(found, dict):
            raise OrgError("JSON_PARSER_ERROR", "The request body must be a JSON object")
        return found

    def param(self, name: str) -> str:
        """A query parameter that must be there."""
        found = self.params.get(name)
        if not found:
            raise OrgError("MALFORMED_QUERY", f"A query parameter '{name}' is required")
        return found


Handler = Callable[[Call], Response]
Dispatch = Callable[[Call, SubRequest], Response]
"""Finds and calls the handler of a request inside another."""


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(
        strange_text.in_json(orjson.dumps(body, default=plain_json)),
        status,
        headers,
        media_type="application/json;charset=UTF-8",
    )


def plain_json(value: Any) -> Any:
    """What JSON has no word for: decimals, written with all their digits."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError(type(value).__name__)


def nothing(status: int = 204) -> Response:
    """An answer without a body."""
    return Response(b"", status)


def refusal(error: OrgError) -> Response:
    """An error in Salesforce's list form."""
    return answer([error.body()], error.status)
