"""Requests inside a request: the handler that a sub-request's URL leads to.

Belongs here: finding and calling it. Does not belong here: composite answers (subrequests.py),
requests from outside (server.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.routing import compile_path

from crm_pipeline.sandbox.salesforce.calls import (
    Call,
    Handler,
    SubRequest,
    plain_json,
    refusal,
)
from crm_pipeline.sandbox.salesforce.failures import (
    OrgError,
    RequestFails,
    method_not_allowed,
    not_found,
)

_PREFIX = "/services/data/"
_NOT_INSIDE = ("/composite/batch", "/composite/graph", "/jobs/", "/tooling/")


class Dispatcher:
    """The data routes of a server, for calls that are made of other calls."""

    def __init__(self, routes: Sequence[tuple[str, dict[str, Handler]]]) -> None:
        self._routes = [
            (*compile_path(path), handlers)
            for path, handlers in routes
            if path and path != "/composite" and not path.startswith(_NOT_INSIDE)
        ]

    def __call__(self, call: Call, request: SubRequest) -> Response:
        """Answer a request inside a call; its refusals are answers too."""
        url = urlsplit(request.url)
        path = url.path if url.path.startswith("/") else f"{_PREFIX}{url.path}"
        version, _, rest = path.removeprefix(_PREFIX).partition("/")
        first = len(call.trail)
        within = f"/{unquote(rest)}".rstrip("/")
        try:
            for pattern, _, convertors, handlers in self._routes:
                found = pattern.match(within)
                if found is None:
                    continue
                handler = handlers.get(request.method)
                if handler is None:
                    raise method_not_allowed(request.method, handlers)
                parts = {
                    name: convertors[name].convert(one) for name, one in found.groupdict().items()
                }
                body = b"" if request.body is None else orjson.dumps(request.body, plain_json)
                inner = replace(
                    call,
                    method=request.method,
                    path=path,
                    version=version,
                    parts=parts,
                    params=QueryParams(url.query),
                    headers=Headers(dict(request.headers)),
                    body=body,
                )
                return handler(inner)
            raise not_found()
        except OrgError as error:
            if isinstance(error, RequestFails):
                for request_inside in call.trail[first:]:
                    request_inside.roll_back()
            return refusal(error)
