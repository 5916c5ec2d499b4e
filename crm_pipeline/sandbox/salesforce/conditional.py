"""Conditional requests for single records: If-Unmodified-Since and If-Modified-Since.

Salesforce compares with LastModifiedDate, to the second. Belongs here: these two headers. Does
not belong here: the record itself (rows.py).
"""

from datetime import datetime
from email.utils import parsedate_to_datetime

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce.calls import Call
from crm_pipeline.sandbox.salesforce.clock import stamp_moment
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition

_SINCE = {"GET": ("if-modified-since", 304), "PATCH": ("if-unmodified-since", 412)}


def stopped(call: Call, definition: ObjectDefinition, record_id: str) -> Response | None:
    """The answer of a request whose condition does not hold; None if it may go on."""
    header, status = _SINCE.get(call.method, ("", 0))
    given = call.headers.get(header) if header else None
    if given is None:
        return None
    wanted = _moment(given)
    if wanted is None:
        if call.method == "GET":
            return None  # a bad date is ignored where nothing is written
        raise OrgError("INVALID_HEADER", f"Invalid value for header {header}: {given}")
    record = call.org.get(definition.name, record_id)
    if record is None:
        return None
    modified = stamp_moment(record["LastModifiedDate"]).replace(microsecond=0) > wanted
    return Response(b"", status) if modified == (status == 412) else None


def _moment(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
