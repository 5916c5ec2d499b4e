"""The control API's administrator: sessions, limits, fields, sharing, jobs, settings.

Belongs here: commands that change how the org behaves. Does not belong here: those that change
its records and its clock (control.py).
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from crm_pipeline.sandbox.salesforce.calls import Call
from crm_pipeline.sandbox.salesforce.catalogue import Access
from crm_pipeline.sandbox.salesforce.clock import stamp_moment, stamp_text
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, PicklistValue

Facts = dict[str, Any]
Command = Callable[[Call, Facts], Facts]


def need(facts: Facts, *names: str) -> list[Any]:
    """The named facts, which must be there."""
    missing = [name for name in names if name not in facts]
    if missing:
        raise OrgError("REQUIRED_FIELD_MISSING", f"missing: {', '.join(missing)}")
    return [facts[name] for name in names]


def _expire_sessions(call: Call, facts: Facts) -> Facts:
    if "lifetime" in facts:
        call.org.sessions.lifetime = float(facts["lifetime"])
    return {"expired": call.org.expire_sessions()}


def _limit(call: Call, facts: Facts) -> Facts:
    [remaining] = need(facts, "remaining")
    call.org.set_api_limit(int(remaining), facts.get("max"))
    return {"remaining": call.org.limit.remaining, "max": call.org.limit.maximum}


def _field(call: Call, facts: Facts) -> Facts:
    name, field = need(facts, "object", "field")
    if isinstance(field, str):
        action = facts.get("action", "hide")
        if action == "remove":
            call.org.remove_field(name, field)
        elif action in _ACCESS:
            call.org.catalogue.set_access(name, field, _ACCESS[action])
        else:
            raise OrgError("INVALID_INPUT", f"a field can be one of: {', '.join(_ACCESS)}, remove")
        return {"field": field}
    values = tuple(PicklistValue(**one) for one in field.pop("picklist_values", ()))
    references = tuple(field.pop("reference_to", ()))
    made = FieldDefinition(**field, picklist_values=values, reference_to=references)
    call.org.add_field(name, made)
    return {"field": made.name}


_ACCESS: dict[str, Access | None] = {
    "hide": "hidden",
    "mask": "masked",
    "read_only": "read_only",
    "show": None,
}


def _object(call: Call, facts: Facts) -> Facts:
    [name] = need(facts, "object")
    forbid = facts.get("action", "forbid") == "forbid"
    (call.org.forbid_object if forbid else call.org.catalogue.allow_object)(name)
    return {"object": name, "forbidden": forbid}


def _bulk(call: Call, facts: Facts) -> Facts:
    jobs = call.server.jobs
    for name in ("fail_next", "stick_next", "empty_next"):
        if name in facts:
            setattr(jobs, name, facts[name])
    if "hold" in facts:
        (jobs.hold if facts["hold"] else jobs.release)()
    if "page_records" in facts:
        call.server.settings.bulk_page_records = int(facts["page_records"])
    if "state" in facts:
        [name] = need(facts, "job")
        for job in jobs.all() if name == "all" else [jobs.find(name)]:
            jobs.act(job, facts["state"], facts.get("error", ""))
    return {"jobs": [one.body(call.org.user_id) for one in jobs.all()]}


def _housekeeping(call: Call, facts: Facts) -> Facts:
    keeping = call.org.housekeeping
    for name in ("bin_days", "log_days", "log_limit"):
        if name in facts:
            setattr(keeping, name, facts[name])
    keeping.run()
    return {
        "bin_days": keeping.bin_days,
        "log_days": keeping.log_days,
        "log_limit": keeping.log_limit,
        "log_since": call.org.delete_log_since,
    }


def _settings(call: Call, facts: Facts) -> Facts:
    """Look at the server's settings, and change those that are named."""
    settings = call.server.settings
    unknown = set(facts) - set(_SETTINGS)
    if unknown:
        raise OrgError("INVALID_INPUT", f"no setting {', '.join(sorted(unknown))}")
    for name, value in facts.items():
        setattr(settings, name, value)
    return {name: getattr(settings, name) for name in _SETTINGS}


_SETTINGS = ("bulk_page_records", "get_deleted_limit", "gzip", "maximum_uri")


def _forget_cursors(call: Call, facts: Facts) -> Facts:
    if "lifetime" in facts:
        call.server.cursors.lifetime = timedelta(seconds=float(facts["lifetime"]))
    return {"forgotten": call.server.cursors.forget()}


def _shuffle(call: Call, facts: Facts) -> Facts:
    seed = facts.get("seed")
    call.org.row_order_seed = None if seed is None else int(seed)
    return {"seed": call.org.row_order_seed}


def _trim_delete_log(call: Call, facts: Facts) -> Facts:
    [before] = need(facts, "before")
    call.org.trim_delete_log(stamp_text(stamp_moment(before)))
    return {"earliest": call.org.delete_log_since}


def _sharing(call: Call, facts: Facts) -> Facts:
    [name] = need(facts, "object")
    if facts.get("action", "hide") == "show":
        call.org.show_records(name, facts.get("ids"))
    else:
        call.org.hide_records(name, facts.get("ids", ()), where=facts.get("where", ""))
    return {"object": name}


ADMINISTRATION: dict[str, Command] = {
    "bulk": _bulk,
    "expire_sessions": _expire_sessions,
    "field": _field,
    "forget_cursors": _forget_cursors,
    "housekeeping": _housekeeping,
    "limit": _limit,
    "object": _object,
    "settings": _settings,
    "shuffle": _shuffle,
    "trim_delete_log": _trim_delete_log,
    "sharing": _sharing,
}
