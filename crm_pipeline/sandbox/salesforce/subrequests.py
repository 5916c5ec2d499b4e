"""Requests in one: /composite, whose parts may refer to each other, and /composite/batch.

Belongs here: order, references, all-or-none over whole requests. Does not belong here: many rows
in one call (composites.py), finding a handler (dispatch.py).
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from crm_pipeline.sandbox.salesforce.calls import Call, SubRequest, answer
from crm_pipeline.sandbox.salesforce.failures import OrgError

Row = dict[str, Any]
_MOST = 25
_MOST_QUERIES = 5  # queries and collections among them
_REFERENCE = re.compile(r"@\{([A-Za-z0-9_]+)((?:\[\d+\])?(?:\.\w+(?:\[\d+\])?)*)\}")
_STEP = re.compile(r"\[(\d+)\]|\.(\w+)")
_ROLLED_BACK = (
    "The transaction was rolled back since another operation in the same transaction failed."
)
_SHOWN_HEADERS = ("location", "etag")


class _Undone(Exception):
    """The transaction of an all-or-none request, taken back."""


def composite(call: Call) -> Response:
    """POST /composite: up to 25 requests, one after the other."""
    body = call.json_object()
    given = _checked(body.get("compositeRequest"))
    if not body.get("allOrNone"):
        return answer({"compositeResponse": _carried_out(call, given)})
    answers: list[Row] = []
    try:
        with call.org.transaction():
            answers = _carried_out(call, given)
            if any(one["httpStatusCode"] >= HTTPStatus.BAD_REQUEST for one in answers):
                raise _Undone
    except _Undone:
        for request in call.trail:
            request.roll_back()
        answers = [_undone(one) for one in answers]
    return answer({"compositeResponse": answers})


def _checked(given: Any) -> list[Row]:
    if not isinstance(given, list) or not given:
        raise OrgError("INVALID_INPUT", "The compositeRequest attribute is missing")
    if len(given) > _MOST:
        raise OrgError("INVALID_INPUT", f"The limit of {_MOST} subrequests is exceeded")
    names: set[str] = set()
    heavy = 0
    for one in given:
        name, url = str(one.get("referenceId") or ""), str(one.get("url") or "")
        if not name or not url or not one.get("method"):
            raise OrgError("INVALID_INPUT", "A subrequest needs a method, a url and a referenceId")
        if name in names:
            raise OrgError("INVALID_INPUT", f"The referenceId {name} is used more than once")
        names.add(name)
        heavy += "/query" in url or "/composite/" in url
    if heavy > _MOST_QUERIES:
        raise OrgError(
            "INVALID_INPUT", f"At most {_MOST_QUERIES} subrequests may be queries or collections"
        )
    return given


def _carried_out(call: Call, given: list[Row]) -> list[Row]:
    known: dict[str, Any] = {}
    answers: list[Row] = []
    for one in given:
        name = one["referenceId"]
        try:
            url, body = _filled(one["url"], known), _filled(one.get("body"), known)
        except OrgError as error:
            found: Row = {"body": [error.body()], "httpHeaders": {}, "httpStatusCode": 400}
        else:
            headers = {str(k).lower(): str(v) for k, v in (one.get("httpHeaders") or {}).items()}
            request = SubRequest(str(one["method"]).upper(), url, body, headers)
            found = _shown(call.server.dispatch(call, request))
        if found["httpStatusCode"] < HTTPStatus.BAD_REQUEST:
            known[name] = found["body"]
        answers.append({**found, "referenceId": name})
    return answers


def _shown(response: Response) -> Row:
    kept = {name.title(): response.headers.get(name) for name in _SHOWN_HEADERS}
    return {
        "body": orjson.loads(response.body) if response.body else None,
        "httpHeaders": {name: one for name, one in kept.items() if one},
        "httpStatusCode": response.status_code,
    }


def _undone(found: Row) -> Row:
    """Halted is what did nothing wrong; the culprit keeps its own words."""
    if found["httpStatusCode"] >= HTTPStatus.BAD_REQUEST:
        return found
    body = [{"errorCode": "PROCESSING_HALTED", "message": _ROLLED_BACK}]
    return {**found, "body": body, "httpHeaders": {}, "httpStatusCode": 400}


def _filled(value: Any, known: Mapping[str, Any]) -> Any:
    """The value with every `@{name.path}` in it replaced by what that request answered."""
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return _looked_up(whole, known)
        return _REFERENCE.sub(lambda found: str(_looked_up(found, known)), value)
    if isinstance(value, dict):
        return {name: _filled(one, known) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, known) for one in value]
    return value


def _looked_up(found: "re.Match[str]", known: Mapping[str, Any]) -> Any:
    name, path = found.groups()
    value = known.get(name)
    for index, key in _STEP.findall(path):
        if index:
            inside = isinstance(value, list) and int(index) < len(value)
            value = value[int(index)] if inside and isinstance(value, list) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        raise OrgError(
            "PROCESSING_HALTED",
            f"Invalid reference specified. No value for {name}{path} found in {name}",
        )
    return value


def batch(call: Call) -> Response:
    """POST /composite/batch: up to 25 requests that know nothing of each other."""
    body = call.json_object()
    given = body.get("batchRequests")
    if not isinstance(given, list) or not 0 < len(given) <= _MOST:
        raise OrgError("INVALID_INPUT", f"A batch holds 1 to {_MOST} requests")
    results: list[Row] = []
    failed = False
    for one in given:
        if failed and body.get("haltOnError"):
            halted = {
                "errorCode": "BATCH_PROCESSING_HALTED",
                "message": "Batch processing halted per request",
            }
            results.append({"statusCode": 412, "result": [halted]})
            continue
        request = SubRequest(
            str(one.get("method")).upper(), str(one.get("url")), one.get("richInput"), {}
        )
        response = call.server.dispatch(call, request)
        failed |= response.status_code >= HTTPStatus.BAD_REQUEST
        result = orjson.loads(response.body) if response.body else None
        results.append({"statusCode": response.status_code, "result": result})
    return answer({"hasErrors": failed, "results": results})
