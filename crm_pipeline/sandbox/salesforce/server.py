"""The ASGI application: every path, its methods, its handler.

Belongs here: routing and what surrounds a handler (body, errors, gzip). Does not belong here:
any handler, sessions and faults (gate.py), running it (running.py).
"""

import gzip
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from crm_pipeline.sandbox.salesforce import (
    bulk,
    composites,
    control,
    control_rules,
    ingest_calls,
    oauth,
    rest,
    rows,
    subrequests,
    tooling,
)
from crm_pipeline.sandbox.salesforce.bulk import Jobs
from crm_pipeline.sandbox.salesforce.calls import (
    Call,
    Handler,
    Server,
    ServerSettings,
    answer,
    refusal,
)
from crm_pipeline.sandbox.salesforce.cursors import Cursors
from crm_pipeline.sandbox.salesforce.dispatch import Dispatcher
from crm_pipeline.sandbox.salesforce.failures import OrgError, method_not_allowed, not_found
from crm_pipeline.sandbox.salesforce.faults import FaultPlan
from crm_pipeline.sandbox.salesforce.gate import FAULT, NUMBER, Gate
from crm_pipeline.sandbox.salesforce.ingest import IngestJobs
from crm_pipeline.sandbox.salesforce.ledger import Ledger
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.tooling_objects import ToolingTables
from crm_pipeline.sandbox.salesforce.write_ledger import WriteRequest

_log = logging.getLogger(__name__)
_WORTH_PACKING = 1_000  # bytes below which gzip only costs
Handlers = dict[str, Handler]

_OPEN_ROUTES: tuple[tuple[str, Handlers], ...] = (
    ("/services/oauth2/token", {"POST": oauth.token}),
    ("/services/oauth2/userinfo", {"GET": oauth.userinfo, "POST": oauth.userinfo}),
    ("/services/oauth2/revoke", {"GET": oauth.revoke, "POST": oauth.revoke}),
    ("/services/oauth2/introspect", {"POST": oauth.introspect}),
    ("/id/{organization}/{user}", {"GET": oauth.userinfo}),
    ("/services/data", {"GET": rest.versions}),
)
_KEYED: Handlers = dict.fromkeys(("GET", "PATCH", "POST", "DELETE"), rows.by_key)
_RETRIEVED: Handlers = {"GET": composites.retrieve, "POST": composites.retrieve}
_DATA_ROUTES: tuple[tuple[str, Handlers], ...] = (
    ("", {"GET": rest.resources}),
    ("/limits", {"GET": rest.limits}),
    ("/sobjects", {"GET": rest.describe_global}),
    ("/sobjects/{object}", {"GET": rest.object_basics, "POST": rows.create}),
    ("/sobjects/{object}/describe", {"GET": rest.describe_object}),
    ("/sobjects/{object}/updated", {"GET": rest.updated}),
    ("/sobjects/{object}/deleted", {"GET": rest.deleted}),
    (
        "/sobjects/{object}/{id}",
        {"GET": rows.read, "PATCH": rows.update, "DELETE": rows.delete},
    ),
    ("/sobjects/{object}/{field}/{value:path}", _KEYED),
    ("/query", {"GET": rest.query}),
    ("/queryAll", {"GET": rest.query}),
    ("/query/{locator}", {"GET": rest.query_more}),
    ("/queryAll/{locator}", {"GET": rest.query_more}),
    (
        "/composite/sobjects",
        {"POST": composites.create, "PATCH": composites.update, "DELETE": composites.delete},
    ),
    ("/composite/sobjects/{object}", _RETRIEVED),
    ("/composite/sobjects/{object}/{field}", {"PATCH": composites.upsert}),
    ("/composite/tree/{object}", {"POST": composites.tree}),
    ("/composite", {"POST": subrequests.composite}),
    ("/composite/batch", {"POST": subrequests.batch}),
    ("/jobs/query", {"GET": bulk.every, "POST": bulk.create}),
    ("/jobs/query/{job}", {"GET": bulk.read, "PATCH": bulk.abort, "DELETE": bulk.delete}),
    ("/jobs/query/{job}/results", {"GET": bulk.results}),
    ("/jobs/query/{job}/resultPages", {"GET": bulk.result_pages}),
    ("/jobs/ingest", {"GET": ingest_calls.every, "POST": ingest_calls.create}),
    (
        "/jobs/ingest/{job}",
        {
            "GET": ingest_calls.read,
            "PATCH": ingest_calls.update,
            "DELETE": ingest_calls.delete,
        },
    ),
    ("/jobs/ingest/{job}/batches", {"PUT": ingest_calls.upload}),
    ("/jobs/ingest/{job}/successfulResults", {"GET": ingest_calls.successful}),
    ("/jobs/ingest/{job}/failedResults", {"GET": ingest_calls.failed}),
    ("/jobs/ingest/{job}/unprocessedrecords", {"GET": ingest_calls.unprocessed}),
    # Salesforce does not look at the case, and clients write both.
    ("/jobs/ingest/{job}/unprocessedRecords", {"GET": ingest_calls.unprocessed}),
    ("/tooling/query", {"GET": tooling.query}),
    ("/tooling/query/{locator}", {"GET": tooling.query_more}),
    ("/tooling/sobjects/CustomField", {"POST": tooling.create}),
    (
        "/tooling/sobjects/CustomField/{id}",
        {"GET": tooling.read, "PATCH": tooling.update, "DELETE": tooling.delete},
    ),
)
_CONTROL_ROUTES: tuple[tuple[str, Handlers], ...] = (
    ("/sandbox/health", {"GET": control.health}),
    ("/sandbox/ledger", {"GET": control.ledger, "DELETE": control.ledger}),
    (
        "/sandbox/faults",
        {"GET": control.faults, "POST": control.faults, "DELETE": control.faults},
    ),
    ("/sandbox/writes", {"GET": control_rules.writes, "DELETE": control_rules.writes}),
    ("/sandbox/writes/counts", {"GET": control_rules.counts}),
    ("/sandbox/records/{object}/{id}", {"GET": control.record}),
    ("/sandbox/{command}", {"POST": control.command}),
)


class SandboxApp:
    """The ASGI app of one org, and what it keeps: jobs, cursors, faults, ledger."""

    def __init__(self, org: SandboxOrg, settings: ServerSettings) -> None:
        self.server = Server(
            org,
            settings,
            cursors=Cursors(org.clock),
            jobs=Jobs(org, settings),
            faults=FaultPlan(),
            ledger=Ledger(),
            tooling=ToolingTables(org),
        )
        self.server.ingest = IngestJobs(self.server)
        self.server.dispatch = Dispatcher(_DATA_ROUTES)
        self._asgi: ASGIApp = Gate(_starlette(self.server), self.server)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        await self._asgi(scope, receive, send)

    def close(self) -> None:
        """Stop the background jobs; the org itself stays open."""
        self.server.jobs.close()
        self.server.ingest.close()
        self.server.tooling.close()


def create_app(org: SandboxOrg, settings: ServerSettings | None = None) -> SandboxApp:
    """An app that serves the org."""
    return SandboxApp(org, settings or ServerSettings())


def _starlette(server: Server) -> Starlette:
    routes = []
    for path, handlers in _OPEN_ROUTES:
        routes += _both(path, handlers, server)
    for path, handlers in _DATA_ROUTES:
        routes += _both("/services/data/{version}" + path, handlers, server)
    if server.settings.control:
        for path, handlers in _CONTROL_ROUTES:
            routes += _both(path, handlers, server)
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    app.add_exception_handler(404, _missing)
    return app


def _both(path: str, handlers: Handlers, server: Server) -> list[Route]:
    """The route with and without a closing slash: real clients write both."""
    endpoint = _endpoint(handlers, server)
    methods = ["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD"]
    paths = [path] if "{value:path}" in path else [path, path + "/"]
    return [Route(one, endpoint, methods=methods) for one in paths]


def _missing(_request: Request, _error: Exception) -> Response:
    return refusal(not_found())


def _endpoint(handlers: Handlers, server: Server) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        trail: list[WriteRequest] = []
        try:
            version = _version(request.path_params.get("version"), server)
            handler = handlers.get(_method(request))
            if handler is None:
                raise method_not_allowed(request.method, handlers)
            call = Call(
                server=server,
                method=_method(request),
                path=request.url.path,
                base_url=f"{request.url.scheme}://{request.url.netloc}",
                version=version,
                parts=request.path_params,
                params=request.query_params,
                headers=request.headers,
                body=body,
                fault=request.scope.get(FAULT),
                number=request.scope.get(NUMBER, 0),
                trail=trail,
            )
            response = await run_in_threadpool(handler, call)
        except OrgError as error:
            response = refusal(error)
        except Exception:
            _log.exception("the sandbox org failed on %s", request.url.path)
            response = answer(
                [{"message": "An unexpected error occurred", "errorCode": "UNKNOWN_EXCEPTION"}], 500
            )
        _settle(trail, response)
        return _packed(request, response, server)

    return endpoint


def _settle(trail: list[WriteRequest], response: Response) -> None:
    """Note how a request that wrote was answered; what failed as a whole wrote nothing."""
    for written in trail:
        written.status = response.status_code
        if response.status_code >= 500:
            written.roll_back()


def _method(request: Request) -> str:
    """The method; old clients name PATCH in a parameter of a POST."""
    named = request.query_params.get("_HttpMethod", "")
    return named.upper() if request.method == "POST" and named else request.method


def _version(given: str | None, server: Server) -> str:
    if given is None:
        return ""
    number, _, rest_ = given.removeprefix("v").partition(".")
    if not given.startswith("v") or not number.isdigit() or rest_ != "0":
        raise not_found()
    if int(number) < server.settings.retired_below:
        raise OrgError(
            "UNSUPPORTED_API_VERSION", f"API version {number}.0 is no longer supported", status=410
        )
    if not rest.OLDEST_VERSION <= int(number) <= rest.NEWEST_VERSION:
        raise not_found()
    return given


def _packed(request: Request, response: Response, server: Server) -> Response:
    if isinstance(response, StreamingResponse) or not server.settings.gzip:
        return response
    accepted = "gzip" in request.headers.get("accept-encoding", "").lower()
    if accepted and len(response.body) > _WORTH_PACKING:
        response.body = gzip.compress(bytes(response.body), 1, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))
    return response
