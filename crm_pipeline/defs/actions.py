"""Actions in Dagster: the job that decides and delivers them, its sensor, and a form.

Belongs here: when actions are decided and what a run says of them. Does not belong here: deciding
(actions/) and sending (writeback/).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import psycopg
from pydantic import Field

from crm_pipeline.actions.asking import new_action
from crm_pipeline.actions.resolving import resolve
from crm_pipeline.actions.rules import apply_rules
from crm_pipeline.defs.failures import RETRY_TAGS, told_as_failure
from crm_pipeline.defs.metadata import without_markup
from crm_pipeline.defs.names import ACTIONS, ACTIONS_POOL, REQUEST_ACTION
from crm_pipeline.defs.resources import CrmResource, engine_run_id
from crm_pipeline.defs.ticks import reason_not_to_write
from crm_pipeline.errors import CrmPipelineError, LeaseBusy, UsageError
from crm_pipeline.model.actions import Action, ActionKind, ActionsOutcome
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.warehouse.actions import ask, is_any_due, read_log, warehouse_time
from crm_pipeline.writeback.drain import DrainOutcome

_MOST_ROUNDS = 20
"""So often a run goes on with what its own delivery has left to decide; then the sensor does."""
_MOST_SHOWN = 50
_SHOWN = (
    "action_id",
    "state",
    "object_name",
    "record_id",
    "is_created",
    "code",
    "reason",
    "remedy",
)


class ActionForm(dg.Config):
    """What is asked for in the Launchpad."""

    object: str = Field(description="The CRM object, such as Lead, Contact, Task or Case.")
    kind: str = Field(
        default="create",
        description=(
            "create: a new record, or the person's that is there. update: only what is there. "
            "upsert: by the external id below."
        ),
    )
    fields: dict[str, Any] = Field(
        default={},
        description="Values by API name, such as LastName: Doe. A null empties the field.",
    )
    email: str = Field(default="", description="The person's address, by which she is found.")
    record_id: str = Field(default="", description="The record to update, if its id is known.")
    external_id: str = Field(default="", description="What it is found by, as Field=value.")
    assignment: str = Field(
        default="none",
        description="Who chooses a new record's owner: none, default, or an assignment rule's id.",
    )
    owner: str = Field(
        default="",
        description="A user by id, user name or e-mail address, or a queue by id or name.",
    )
    campaign: str = Field(default="", description="Of a CampaignMember: a campaign's id or name.")
    if_found: str = Field(
        default="update", description="If the record is there already: update it, or leave it."
    )
    on_duplicate: str = Field(
        default="park",
        description="If the CRM's duplicate rules object: park it, link the record, or allow it.",
    )
    match: str = Field(
        default="email", description="email looks for the person before making her; none does not."
    )


def build_actions() -> dg.Definitions:
    """The jobs and the sensor."""
    jobs = [_actions_job(), _request_job()]
    return dg.Definitions(jobs=jobs, sensors=[_requested_actions()])


def _actions_job() -> dg.JobDefinition:
    @dg.op(
        pool=ACTIONS_POOL,
        description="Lets the rules look, decides what was asked for, and sends it.",
    )
    def carry_out_actions(context: dg.OpExecutionContext, crm: CrmResource) -> None:
        with told_as_failure(context):
            crm.begin(context)
            _carry_out(context, crm)

    @dg.job(
        name=ACTIONS,
        description=(
            "Create and update what tools, people and rules asked for, in the CRM. A sensor "
            "launches it whenever something was asked for."
        ),
        tags=RETRY_TAGS,
        executor_def=dg.in_process_executor,
    )
    def actions() -> None:
        carry_out_actions()

    return actions


def _request_job() -> dg.JobDefinition:
    @dg.op(
        pool=ACTIONS_POOL,
        description="Asks for one action, decides what was asked for, and sends it.",
    )
    def request_one_action(
        context: dg.OpExecutionContext, config: ActionForm, crm: CrmResource
    ) -> None:
        with told_as_failure(context):
            crm.begin(context)
            action = action_of(config, action_id=f"form {engine_run_id(context)}")
            warehouse = crm.migrated_warehouse()
            ask(warehouse, action)
            _carry_out(context, crm)
            _require_carried_out(read_log(warehouse, action_ids=[action.action_id], limit=1))

    @dg.job(
        name=REQUEST_ACTION,
        description="Ask for a record to be created or updated in the CRM, by a form.",
        tags=RETRY_TAGS,
        executor_def=dg.in_process_executor,
    )
    def request_action() -> None:
        request_one_action()

    return request_action


def action_of(form: ActionForm, *, action_id: str) -> Action:
    """The action that a filled form asks for; retried, it is the same one.

    Raises:
        UsageError: something of it means nothing.
    """
    if form.kind not in list(ActionKind):
        raise UsageError("A form's `kind` is create, update or upsert.")
    options = {
        "assignment": form.assignment,
        "if_found": form.if_found,
        "on_duplicate": form.on_duplicate,
        "match": form.match,
        **({"owner": form.owner} if form.owner else {}),
        **({"campaign": form.campaign} if form.campaign else {}),
    }
    return new_action(
        requested_by="form",
        object_name=form.object,
        kind=ActionKind(form.kind),
        fields=form.fields,
        options=options,
        action_id=action_id,
        record_id=form.record_id or None,
        email=form.email or None,
        external_id=form.external_id or None,
    )


def _carry_out(context: dg.OpExecutionContext, crm: CrmResource) -> None:
    """Decide and deliver, again while delivery leaves something to decide.

    That is what waited for a record which was just made, and what delivery handed back.
    """
    installation = Installation.from_environment()
    warehouse, run_id = installation.warehouse(), engine_run_id(context)
    began_at = warehouse_time(warehouse)
    decided: list[ActionsOutcome] = []
    delivered: list[DrainOutcome] = []
    for _ in range(_MOST_ROUNDS):
        decided += _decide(context, installation, run_id)
        if not decided or not decided[-1].enqueued:
            break
        delivered += _deliver(context, crm, run_id)
        if not is_any_due(warehouse):
            break
    rows = read_log(warehouse, decided_since=began_at, limit=_MOST_SHOWN)
    context.add_output_metadata(actions_metadata(decided, delivered, rows))
    problems = [*decided[-1].problems] if decided else []
    problems += [problem for one in delivered for problem in one.problems]
    for problem in dict.fromkeys(problems):
        context.log.warning(problem)


def _require_carried_out(rows: Sequence[Mapping[str, object]]) -> None:
    """Who fills in a form waits for the answer, so a run whose action came to nothing is red.

    Raises:
        UsageError: it was refused, held or parked; the sentence is the action's own.
    """
    for row in rows:
        if row["state"] in {"refused", "held", "parked"}:
            raise UsageError(f"The action was {row['state']}: {row['reason']} {row['remedy']}")


def actions_metadata(
    decided: Sequence[ActionsOutcome],
    delivered: Sequence[DrainOutcome],
    rows: Sequence[Mapping[str, object]],
) -> Mapping[str, Any]:
    """What a run did, with its first actions one by one; no value of a record."""
    names = ("enqueued", "unneeded", "held", "refused", "asked_by_rules")
    facts: dict[str, Any] = {name: sum(getattr(one, name) for one in decided) for name in names}
    facts["applied"] = sum(one.applied for one in delivered)
    facts["parked"] = sum(one.parked for one in delivered)
    facts["api_calls"] = sum(one.api_calls for one in decided)
    facts["api_calls"] += sum(one.api_calls for one in delivered)
    if decided and decided[-1].waiting:
        facts["waiting"] = decided[-1].waiting
    if rows:
        facts["actions"] = dg.MetadataValue.table(
            [
                dg.TableRecord({name: without_markup(_cell(row[name])) for name in _SHOWN})
                for row in rows
            ]
        )
    return facts


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _decide(
    context: dg.OpExecutionContext, installation: Installation, run_id: str
) -> Sequence[ActionsOutcome]:
    settings = installation.settings
    connector = installation.connector(settings)
    try:
        return (
            resolve(
                settings,
                connector,
                installation.warehouse(),
                run_id=run_id,
                require_enabled=installation.switch.require,
            ),
        )
    except LeaseBusy:
        context.log.info("Another process decides just now; the sensor sees what it leaves.")
        return ()
    finally:
        connector.close()


def _deliver(
    context: dg.OpExecutionContext, crm: CrmResource, run_id: str
) -> Sequence[DrainOutcome]:
    try:
        return (crm.drain(run_id),)
    except LeaseBusy:
        context.log.info("Another drainer is at work; it sends what was decided.")
        return ()


def _why_not_now(crm: CrmResource, instance: dg.DagsterInstance) -> str | None:
    """Why no run is to be launched; the rules have looked by then."""
    if reason := reason_not_to_write(crm, instance, ACTIONS):
        return reason
    settings, warehouse = crm.settings(), crm.warehouse()
    apply_rules(settings, warehouse)
    return None if is_any_due(warehouse) else "Nothing was asked for."


def _requested_actions() -> dg.SensorDefinition:
    @dg.sensor(
        name="requested_actions",
        job_name=ACTIONS,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches the job actions when something was asked for, or a rule wants it.",
    )
    def requested_actions(
        context: dg.SensorEvaluationContext, crm: CrmResource
    ) -> dg.RunRequest | dg.SkipReason:
        """The rules' look costs a few queries and no call; what they ask for is rows like others.

        The rows say what is due: no cursor and no run key, so nothing is lost with Dagster's own
        database, and what a failed run has left is due again.

        | there is | answer |
        |---|---|
        | something disabled, or a warehouse that does not answer | skip, with the reason |
        | a run of `actions` that waits or works | skip: the next look sees what it leaves |
        | a run that failed in the last five minutes | skip: most likely, so would this one |
        | an action that was asked for, by somebody or just now by a rule | one run |
        | only actions that wait for a record which is on its way | skip |
        | none of these | skip |
        """
        try:
            reason = _why_not_now(crm, context.instance)
        except psycopg.errors.UndefinedTable:
            reason = "Nothing was ever synced into this warehouse."
        except (CrmPipelineError, psycopg.Error) as error:
            reason = str(error)
        return dg.SkipReason(reason) if reason else dg.RunRequest()

    return requested_actions
