"""The control API's rules and ledger of writes, and what it does to ingest jobs.

Belongs here: commands about writes. Does not belong here: what a rule does (rule_kinds.py).
"""

from collections.abc import Callable
from typing import get_args

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.calls import Call, answer
from crm_pipeline.sandbox.salesforce.control_admin import Command, Facts, need
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.rule_kinds import (
    ORDER,
    ApprovalLock,
    Assignment,
    Automation,
    Duplicate,
    InactiveOwner,
    Poison,
    Scope,
    Validation,
)
from crm_pipeline.sandbox.salesforce.rules import Rule, check_condition, check_fields

_PAGE = 1_000


def _rule(call: Call, facts: Facts) -> Facts:
    """Put a rule into force, or with `remove` out of it; say which there are."""
    rules = call.org.rules
    if "remove" in facts:
        rules.clear() if facts["remove"] == "all" else rules.remove(str(facts["remove"]))
        return {"rules": rules.report()}
    if "kind" not in facts:
        return {"rules": rules.report()}
    name, kind = need(facts, "object", "kind")
    object_name = call.org.catalogue.object(name).name
    check_condition(call.org, object_name, facts.get("condition", ""))
    if kind == "lock":
        ids = tuple(identifiers.normalise(one) or "" for one in facts.get("ids", ()))
        lock = ApprovalLock(object_name, ids, facts.get("condition", ""))
        return {"rule": rules.add_lock(lock)}
    make = _KINDS.get(kind)
    if make is None:
        raise OrgError("INVALID_INPUT", f"a rule is one of: {', '.join((*_KINDS, 'lock'))}")
    made = make(call, object_name, facts)
    order = ORDER.index(type(made))
    answered: Facts = {"rule": rules.add(made, order)}
    if isinstance(made, Assignment):
        answered["assignment_rule"] = made.rule_id
    return answered


def _validation(call: Call, name: str, facts: Facts) -> Rule:
    fields = tuple(facts.get("fields", ()))
    check_fields(call.org, name, fields)
    [condition] = need(facts, "condition")
    return Validation(name, condition, facts.get("message", "Not valid."), fields)


def _duplicate(call: Call, name: str, facts: Facts) -> Rule:
    made = Duplicate(
        name,
        tuple(facts.get("fields", ("Email",))),
        tuple(facts.get("against", ())),
        block=bool(facts.get("block")),
        name=facts.get("name", ""),
        message=facts.get("message", "Use one of these records?"),
    )
    check_fields(call.org, name, made.fields)
    for other in made.against or (name,):
        for field in made.fields:
            call.org.store.index(call.org.catalogue.object(other), field)
    return made


def _assignment(call: Call, name: str, facts: Facts) -> Rule:
    [entries] = need(facts, "entries")
    for entry in entries:
        need(entry, "owner")
        check_condition(call.org, name, entry.get("condition", ""))
    rule_id = identifiers.normalise(facts.get("rule_id"))
    if rule_id is None:
        active = bool(facts.get("active", True))
        named = {"Name": f"{name} rule", "SobjectType": name, "Active": active}
        rule_id = call.org.create("AssignmentRule", named)
    return Assignment(name, rule_id, entries)


def _automation(call: Call, name: str, facts: Facts) -> Rule:
    made = Automation(
        name,
        facts.get("condition", ""),
        tuple(facts.get("when", ())),
        dict(facts.get("set", {})),
        tuple(facts.get("back", ())),
    )
    check_fields(call.org, name, (*made.when, *made.set, *made.back))
    return made


def _poison(_call: Call, name: str, facts: Facts) -> Rule:
    scope = facts.get("scope", "batch")
    if scope not in get_args(Scope):
        raise OrgError("INVALID_INPUT", f"a poison has a scope: {', '.join(get_args(Scope))}")
    return Poison(name, need(facts, "condition")[0], scope, facts.get("message", ""))


def _inactive_owner(_call: Call, name: str, _facts: Facts) -> Rule:
    return InactiveOwner(name)


_KINDS: dict[str, Callable[[Call, str, Facts], Rule]] = {
    "assignment": _assignment,
    "automation": _automation,
    "duplicate": _duplicate,
    "inactive_owner": _inactive_owner,
    "poison": _poison,
    "validation": _validation,
}


def _ingest(call: Call, facts: Facts) -> Facts:
    jobs = call.server.ingest
    for name in ("stick_next", "fail_after", "fail_message"):
        if name in facts:
            setattr(jobs, name, facts[name])
    if "hold" in facts:
        (jobs.hold if facts["hold"] else jobs.release)()
    if "state" in facts:
        [name] = need(facts, "job")
        for job in jobs.all() if name == "all" else [jobs.find(name)]:
            jobs.act(job, facts["state"], facts.get("error", ""))
    return {"jobs": [one.details(call.org.user_id) for one in jobs.all()]}


def writes(call: Call) -> Response:
    """GET what was written, page by page; DELETE to begin anew."""
    if call.method == "DELETE":
        call.server.writes.clear()
    after, limit = (int(call.params.get(name) or 0) for name in ("after", "limit"))
    return answer(call.server.writes.page(after, limit or _PAGE))


def counts(call: Call) -> Response:
    """GET how often each record and field was written; `object` and `id` narrow it."""
    return answer(
        call.server.writes.counts(call.params.get("object", ""), call.params.get("id", ""))
    )


WRITING: dict[str, Command] = {"ingest": _ingest, "rule": _rule}
