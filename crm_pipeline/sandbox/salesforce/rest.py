"""The read side of REST: versions, describe, queries, what changed and what was deleted.

Belongs here: GETs over many records. Does not belong here: single records and writes
(rows.py, composites.py), Bulk (bulk.py).
"""

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce import describe
from crm_pipeline.sandbox.salesforce.calls import Call, answer
from crm_pipeline.sandbox.salesforce.clock import spoken, stamp_moment, stamp_text
from crm_pipeline.sandbox.salesforce.cursors import Cursor
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.query_limits import check_length, check_time
from crm_pipeline.sandbox.salesforce.reading import Result, json_shape
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.soql_compiler import compile_soql
from crm_pipeline.sandbox.salesforce.storage import quoted
from crm_pipeline.sandbox.salesforce.wrong_pages import leaf

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

OLDEST_VERSION, NEWEST_VERSION = 50, 66
_SEASONS = ("Spring", "Summer", "Winter")
_BATCH_SIZE = 2_000
_SMALLEST_BATCH = 200
_REPLICATION_DAYS = 30
_DEFINITIONS = re.compile(r"\bFROM\s+(?:EntityDefinition|FieldDefinition)\b", re.IGNORECASE)


def versions(call: Call) -> Response:
    """GET /services/data: no session needed."""
    oldest = max(OLDEST_VERSION, call.server.settings.retired_below)
    return answer(
        [
            {
                "label": _label(number),
                "url": f"/services/data/v{number}.0",
                "version": f"{number}.0",
            }
            for number in range(oldest, NEWEST_VERSION + 1)
        ]
    )


def _label(number: int) -> str:
    # v60 was Spring '24; three releases a year.
    season = _SEASONS[(number - 60) % 3]
    year = 24 + (number - 60) // 3 + (season == "Winter")
    return f"{season} '{year}"


def resources(call: Call) -> Response:
    """GET /services/data/vXX.X: what else there is."""
    names = ("limits", "sobjects", "query", "queryAll", "composite", "jobs", "tooling")
    identity = f"{call.base_url}/id/{call.org.organization_id}/{call.org.user_id}"
    return answer({name: f"{call.root}/{name}" for name in names} | {"identity": identity})


def limits(call: Call) -> Response:
    """GET /limits."""
    return answer(call.org.limit.resource())


def describe_global(call: Call) -> Response:
    """GET /sobjects."""
    return answer(describe.global_json(call.org.catalogue, call.root))


def describe_object(call: Call) -> Response:
    """GET /sobjects/X/describe."""
    name = _known(call).name
    return answer(describe.object_json(call.org.catalogue, name, call.root))


def object_basics(call: Call) -> Response:
    """GET /sobjects/X."""
    definition = _known(call)
    body = describe.basic_json(definition, call.root)
    return answer(body | {"recentItems": []})


def _known(call: Call) -> ObjectDefinition:
    """The object named in a path; REST says NOT_FOUND where SOQL says INVALID_TYPE."""
    name = str(call.parts["object"])
    try:
        return call.org.catalogue.visible(name)
    except OrgError:
        raise OrgError("NOT_FOUND", "The requested resource does not exist", status=404) from None


def query(call: Call) -> Response:
    """GET /query and /queryAll; two tables of the Tooling API can be asked for here too."""
    defining = _DEFINITIONS.search(call.params.get("q", ""))
    org = call.server.tooling.org() if defining else call.org
    return answered(call, org, call.root)


def answered(call: Call, org: "SandboxOrg", url: str) -> Response:
    """The first page of what an org answers; `url` is where the way to the next one begins."""
    everything = "queryall" in call.path.lower()
    soql = call.param("q")
    check_length(soql, call.server.settings.maximum_soql)
    compiled = compile_soql(org, soql, include_deleted=everything, as_user=True)
    check_time(org, compiled, call.server.settings.query_timeout_rows)
    result = Result(org, compiled)
    cursor = Cursor(result, _batch_size(call))
    return answer(_page(call, cursor, 0, "", url))


def _batch_size(call: Call) -> int:
    options = call.headers.get("sforce-query-options", "")
    asked = re.search(r"batchSize\s*=\s*(\d+)", options, re.IGNORECASE)
    if asked is None:
        return _BATCH_SIZE
    return min(max(int(asked.group(1)), _SMALLEST_BATCH), _BATCH_SIZE)


def query_more(call: Call) -> Response:
    """GET /query/<locator>: the next batch of a cursor."""
    return continued(call, call.root)


def continued(call: Call, url: str) -> Response:
    """The next page of a cursor."""
    name, cursor, start = call.server.cursors.find(str(call.parts["locator"]))
    return answer(_page(call, cursor, start, name, url))


def _page(call: Call, cursor: Cursor, start: int, name: str, url: str) -> dict[str, object]:
    result = cursor.result
    if result.compiled.count_only:
        page = leaf(call.fault, 0, 0, result.total)
        return {"totalSize": page.total, "done": True, "records": []}
    page = leaf(call.fault, start, cursor.size, result.total)
    body: dict[str, object] = {"totalSize": page.total, "done": page.following is None}
    if page.following is not None:
        name = name or call.server.cursors.open(result, cursor.size)
        locator = page.locator or f"{name}-{page.following}"
        body["nextRecordsUrl"] = f"{url}/query/{locator}"
    shape = json_shape(result.org, result.compiled, url)
    body["records"] = result.page(page.places, shape)
    return body


def updated(call: Call) -> Response:
    """GET /sobjects/X/updated: Ids of living records whose stamp lies in the window."""
    definition = _known(call)
    start, end = _window(call, definition)
    alive = " AND IsDeleted = 'false'" if definition.soft_delete else ""
    shown, parameters = call.org.sharing.filter(definition, "Id") or ("1", ())
    rows = call.org.store.reader().execute(
        f"SELECT Id FROM {quoted(definition.name)} WHERE SystemModstamp >= ? "
        f"AND SystemModstamp < ?{alive} AND {shown} ORDER BY SystemModstamp, Id",
        (stamp_text(start), stamp_text(end), *parameters),
    )
    ids = [row[0] for row in rows]
    _check_count(call, len(ids))
    return answer({"ids": ids, "latestDateCovered": _covered(call, end)})


def deleted(call: Call) -> Response:
    """GET /sobjects/X/deleted: what the log knows, hard deletions included."""
    definition = _known(call)
    start, end = _window(call, definition)
    reader = call.org.store.reader()
    # "The last physically deleted object": what the log lost, or nothing if it lost nothing.
    earliest = call.org.delete_log_since or stamp_text(start)
    if stamp_text(end) < earliest:
        raise OrgError("INVALID_REPLICATION_DATE", "endDate before org replication enabled date")
    shown, parameters = call.org.sharing.filter(definition, "_sandbox_deletions.id") or ("1", ())
    rows = reader.execute(
        "SELECT id, deleted_at FROM _sandbox_deletions WHERE object = ? "
        f"AND deleted_at >= ? AND deleted_at < ? AND {shown} ORDER BY deleted_at, id",
        (definition.name, stamp_text(start), stamp_text(end), *parameters),
    )
    records = [{"deletedDate": spoken(row[1]), "id": row[0]} for row in rows]
    _check_count(call, len(records))
    return answer(
        {
            "deletedRecords": records,
            "earliestDateAvailable": spoken(earliest),
            "latestDateCovered": _covered(call, end),
        }
    )


def _window(call: Call, definition: ObjectDefinition) -> tuple[datetime, datetime]:
    """The asked window; the org ignores its seconds."""
    if not definition.replicateable:
        raise OrgError("INVALID_TYPE", f"{definition.name} is not replicable")
    try:
        start, end = (
            stamp_moment(call.param(name).replace(" ", "+")).replace(second=0, microsecond=0)
            for name in ("start", "end")
        )
    except ValueError:
        raise OrgError("INVALID_FIELD", "start and end must be ISO 8601 date-times") from None
    now = call.org.clock.now()
    if end <= start:
        raise OrgError(
            "INVALID_REPLICATION_DATE",
            "startDate must chronologically precede endDate by at least one minute",
        )
    if start < now - timedelta(days=_REPLICATION_DAYS):
        raise OrgError(
            "INVALID_REPLICATION_DATE",
            f"startDate cannot be more than {_REPLICATION_DAYS} days ago",
        )
    return start, end


def _covered(call: Call, end: datetime) -> str:
    """Until when the answer is complete: open transactions hold it back, as in the real org."""
    covered = stamp_text(min(end, call.org.clock.now()))
    begun = call.org.transactions.earliest_begin()
    return spoken(covered if begun is None else min(covered, begun))


def _check_count(call: Call, count: int) -> None:
    if count > call.server.settings.get_deleted_limit:
        raise OrgError("EXCEEDED_ID_LIMIT", "The window holds too many records: narrow it")
