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
from crm_pipeline.sandbox.salesforce.custom_objects import custom_object, invented_rows
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
    limit = call.org.limit
    if "remaining" in facts or "max" in facts:
        limit.set(int(facts.get("remaining", limit.remaining)), facts.get("max"))
    for name in ("app_maximum", "app_used", "bulk_batches", "bulk_jobs", "bulk_kilobytes"):
        if name in facts:
            setattr(limit, name, int(facts[name]))
    fields = call.org.custom_fields
    fields.most_per_object = int(facts.get("custom_fields", fields.most_per_object))
    return {
        "remaining": limit.remaining,
        "max": limit.maximum,
        "app_maximum": limit.app_maximum,
        "app_used": limit.app_used,
        "bulk_batches": limit.bulk_batches,
        "bulk_jobs": limit.bulk_jobs,
        "bulk_kilobytes": limit.bulk_kilobytes,
        "custom_fields": fields.most_per_object,
    }


def _field(call: Call, facts: Facts) -> Facts:
    name, field = need(facts, "object", "field")
    if isinstance(field, str):
        action = facts.get("action", "hide")
        if action == "remove":
            call.org.remove_field(name, field)
        elif action == "erase":
            call.org.custom_fields.erase(name, field)
        elif action == "retype":
            call.org.retype_field(name, field, **need(facts, "facts")[0])
        elif action == "rename":
            call.org.rename_field(name, field, need(facts, "to")[0])
        elif action in _ACCESS:
            call.org.catalogue.set_access(name, field, _ACCESS[action])
        else:
            raise OrgError(
                "INVALID_INPUT", f"a field can be one of: {', '.join((*_ACCESS, *_FOR_ALL))}"
            )
        return {"field": field}
    values = tuple(PicklistValue(**one) for one in field.pop("picklist_values", ()))
    references = tuple(field.pop("reference_to", ()))
    made = FieldDefinition(**field, picklist_values=values, reference_to=references)
    call.org.add_field(name, made)
    return {"field": made.name}


_FOR_ALL = ("erase", "remove", "rename", "retype")
_ACCESS: dict[str, Access | None] = {
    "hide": "hidden",
    "mask": "masked",
    "read_only": "read_only",
    "show": None,
}


def _object(call: Call, facts: Facts) -> Facts:
    [name] = need(facts, "object")
    match facts.pop("action", "forbid"):
        case "create":
            records = int(facts.pop("records", 0))
            del facts["object"]
            made = custom_object(call.org, name, **facts)
            call.org.add_object(made)
            call.org.create_many(name, invented_rows(made, records))
        case "forbid":
            call.org.forbid_object(name)
        case "allow":
            call.org.catalogue.allow_object(name)
        case other:
            raise OrgError("INVALID_INPUT", f"no action {other}: create, forbid, allow")
    return {"object": name}


def _picklist(call: Call, facts: Facts) -> Facts:
    name, field, value = need(facts, "object", "field", "value")
    return {"holders": call.org.edit_picklist(name, field, value, to=facts.get("to"))}


def _enable(call: Call, facts: Facts) -> Facts:
    match need(facts, "feature")[0]:
        case "currencies":
            call.org.enable_currencies(*([facts["rates"]] if "rates" in facts else []))
        case "person_accounts":
            call.org.enable_person_accounts()
        case other:
            raise OrgError("INVALID_INPUT", f"no feature {other}: currencies, person_accounts")
    return {"enabled": facts["feature"]}


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


_SETTINGS = (
    "api_disabled",
    "bulk_page_records",
    "concurrent_requests",
    "customize_application",
    "get_deleted_limit",
    "gzip",
    "login_refusal",
    "logins_per_hour",
    "maximum_headers",
    "maximum_soql",
    "maximum_upload",
    "maximum_uri",
    "query_timeout_rows",
    "read_only",
    "retired_below",
    "rotate_refresh_tokens",
)


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


def _move(call: Call, facts: Facts) -> Facts:
    url = call.server.move(int(facts.get("status", 302)), back=bool(facts.get("back")))
    return {"instance_url": url, "urls": call.server.urls}


ADMINISTRATION: dict[str, Command] = {
    "bulk": _bulk,
    "enable": _enable,
    "expire_sessions": _expire_sessions,
    "field": _field,
    "forget_cursors": _forget_cursors,
    "housekeeping": _housekeeping,
    "limit": _limit,
    "move": _move,
    "object": _object,
    "picklist": _picklist,
    "settings": _settings,
    "shuffle": _shuffle,
    "trim_delete_log": _trim_delete_log,
    "sharing": _sharing,
}
