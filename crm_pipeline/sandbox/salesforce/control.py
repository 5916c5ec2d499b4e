"""The control API under /sandbox: what a test or the demo does to the org from outside.

JSON, no session; the server listens on loopback only. Belongs here: translating HTTP to the
org's Python methods. Does not belong here: anything a Salesforce client may call.
"""

import importlib

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce.calls import Call, answer
from crm_pipeline.sandbox.salesforce.clock import stamp_moment, stamp_text
from crm_pipeline.sandbox.salesforce.control_admin import ADMINISTRATION, Command, Facts, need
from crm_pipeline.sandbox.salesforce.control_rules import WRITING
from crm_pipeline.sandbox.salesforce.failures import OrgError, not_found
from crm_pipeline.sandbox.salesforce.transactions import OpenTransaction


def health(call: Call) -> Response:
    """GET /sandbox/health: that it runs, and what it holds."""
    org = call.org
    counts = {one.name: org.count(one.name) for one in org.catalogue.all()}
    return answer(
        {
            "status": "ok",
            "name": org.name,
            "organization_id": org.organization_id,
            "now": stamp_text(org.clock.now()),
            "revision": org.revision,
            "logins": org.sessions.logins,
            "urls": call.server.urls,
            "records": counts,
        }
    )


def ledger(call: Call) -> Response:
    """GET the ledger, DELETE to begin anew."""
    if call.method == "DELETE":
        call.server.ledger.clear()
    return answer(call.server.ledger.report())


def faults(call: Call) -> Response:
    """GET the plan with its uses, POST faults to it, DELETE it."""
    if call.method == "DELETE":
        call.server.faults.clear()
    elif call.method == "POST":
        given = call.json()
        if "random" in given:
            call.server.faults.random(**given["random"])
        else:
            call.server.faults.script(given if isinstance(given, list) else [given])
    return answer(call.server.faults.report())


def record(call: Call) -> Response:
    """GET a record whatever its state: /sandbox/records/<object>/<id>."""
    found = call.org.get(str(call.parts["object"]), str(call.parts["id"]))
    if found is None:
        raise not_found()
    return answer(found)


def command(call: Call) -> Response:
    """POST /sandbox/<command>: one of the verbs below."""
    do = _COMMANDS.get(str(call.parts["command"]))
    if do is None:
        raise not_found()
    return answer(do(call, call.json_object() if call.body else {}))


def _within(call: Call, facts: Facts) -> OpenTransaction | None:
    """The open transaction that a change belongs to, if it names one."""
    name = facts.get("transaction")
    return None if name is None else call.org.transactions.find(str(name))


def _create(call: Call, facts: Facts) -> Facts:
    [name] = need(facts, "object")
    rows = facts["records"] if "records" in facts else [need(facts, "values")[0]]
    within = _within(call, facts)
    if within is not None:
        made = within.insert_many(name, rows)
    else:
        made = call.org.create_many(name, rows, as_user=facts.get("as_user"))
    return {"id": made[0], "ids": made} if made else {"ids": []}


def _update(call: Call, facts: Facts) -> Facts:
    name, values = need(facts, "object", "values")
    stamps = facts.get("stamps", "all")
    if "matching" in facts:
        return {"updated": call.org.update_all(name, values, facts["matching"], stamps=stamps)}
    [record_id] = need(facts, "id")
    within = _within(call, facts)
    if within is not None:
        within.update(name, record_id, values, stamps=stamps)
    else:
        call.org.update(name, record_id, values, stamps=stamps, as_user=facts.get("as_user"))
    return {"id": record_id}


def _removal(verb: str) -> Command:
    def do(call: Call, facts: Facts) -> Facts:
        name, record_id = need(facts, "object", "id")
        getattr(_within(call, facts) or call.org, verb)(name, record_id)
        return {"id": record_id}

    return do


def _begin(call: Call, _facts: Facts) -> Facts:
    made = call.org.open_transaction()
    return {"transaction": made.name, "begun": made.begun}


def _commit(call: Call, facts: Facts) -> Facts:
    [name] = need(facts, "transaction")
    call.org.transactions.find(str(name)).commit()
    return {"transaction": name, "commit": call.org.commits.last}


def _rollback(call: Call, facts: Facts) -> Facts:
    [name] = need(facts, "transaction")
    call.org.transactions.find(str(name)).rollback()
    return {"transaction": name}


def _truth(call: Call, facts: Facts) -> Facts:
    [name] = need(facts, "object")
    if "forget_before" in facts:
        call.org.forget_past(facts["forget_before"])
    if "id" in facts:
        return {"versions": call.org.versions(name, facts["id"])}
    found = call.org.truth_at(
        name,
        facts.get("at"),
        commit=facts.get("commit"),
        include_deleted=bool(facts.get("include_deleted")),
    )
    return {"records": list(found.values())}


def _query(call: Call, facts: Facts) -> Facts:
    [soql] = need(facts, "soql")
    found = call.org.query(
        soql,
        include_deleted=bool(facts.get("include_deleted")),
        as_user=bool(facts.get("as_user")),
    )
    return {"records": found}


def _clock(call: Call, facts: Facts) -> Facts:
    clock = call.org.clock
    if "set" in facts:
        clock.set(stamp_moment(facts["set"]))
    if "advance" in facts:
        clock.advance(seconds=float(facts["advance"]))
    if "step" in facts:
        clock.step(seconds=float(facts["step"]))
    if facts.get("release"):
        clock.release()
    return {"now": stamp_text(clock.now()), "frozen": clock.frozen}


def _live(call: Call, facts: Facts) -> Facts:
    living = importlib.import_module("crm_pipeline.sandbox.salesforce.living")
    counts = {name: int(facts.get(name, 0)) for name in _BURST}
    try:
        summary: Facts = living.apply_burst(
            call.org,
            **counts,
            seed=int(facts.get("seed", 1)),
            object_names=facts.get("object_names"),
        )
    except ValueError as error:
        raise OrgError("INVALID_INPUT", str(error)) from None
    return summary


_BURST = ("updates", "inserts", "deletes", "undeletes")


def _empty_bin(call: Call, facts: Facts) -> Facts:
    [name] = need(facts, "object")
    return {"gone": call.org.empty_bin(name)}


def _merge(call: Call, facts: Facts) -> Facts:
    name, winner, losers = need(facts, "object", "winner", "losers")
    call.org.merge(name, winner, losers)
    return {"id": winner}


def _convert_lead(call: Call, facts: Facts) -> Facts:
    [lead] = need(facts, "id")
    return call.org.convert_lead(
        lead, account_id=facts.get("account_id"), opportunity=facts.get("opportunity", True)
    )


_COMMANDS: dict[str, Command] = {
    **ADMINISTRATION,
    **WRITING,
    "begin": _begin,
    "clock": _clock,
    "commit": _commit,
    "convert_lead": _convert_lead,
    "create": _create,
    "delete": _removal("delete"),
    "empty_bin": _empty_bin,
    "hard_delete": _removal("hard_delete"),
    "live": _live,
    "merge": _merge,
    "query": _query,
    "rollback": _rollback,
    "truth": _truth,
    "undelete": _removal("undelete"),
    "update": _update,
}
