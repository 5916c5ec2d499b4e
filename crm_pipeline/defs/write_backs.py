"""Write-backs in Dagster: what is decided, what is delivered, and the sensors that see it is due.

Each write-back is an asset below the marts that it reads, and the delivery is an asset below all of
them, so that the lineage goes from a CRM object to a mart and back into the CRM.

Belongs here: when write-backs run, what a run says of them, and forms for people. Does not belong
here: what is to be written (writeback/automatic.py) and sending it (writeback/drain.py).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import psycopg
from pydantic import Field

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.failures import RETRY_TAGS, told_as_failure
from crm_pipeline.defs.metadata import OWNERS, without_markup
from crm_pipeline.defs.names import (
    APPROVE_WRITE_BACKS,
    DELIVERY_ASSET,
    DISMISS_WRITE_BACKS,
    REJECT_WRITE_BACKS,
    REQUEUE_WRITE_BACKS,
    WRITE_BACK,
    WRITE_BACK_GROUP,
    WRITE_BACK_POOL,
)
from crm_pipeline.defs.resources import CrmResource, engine_run_id
from crm_pipeline.defs.ticks import reason_not_to_write
from crm_pipeline.errors import CrmPipelineError, LeaseBusy, UsageError
from crm_pipeline.warehouse import outbox_desk
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.outbox_desk import Chosen
from crm_pipeline.writeback.automatic import (
    WRITE_BACKS,
    Decision,
    decide,
    enabled_write_backs,
    is_due,
)
from crm_pipeline.writeback.drain import DrainOutcome

_DELIVERY = dg.AssetKey(DELIVERY_ASSET)
_MOST_SHOWN = 50
_REQUEUE = (
    "Send parked write-backs again, after what they were refused for was mended. Where a newer "
    "value for the same field is known by now, the older one ends as superseded."
)
_DISMISS = "Let parked write-backs rest: they stay parked, and nobody is asked to look any more."
_APPROVE = (
    "Let a batch go that was held because it would change more records at once than "
    "`write_backs.approval` allows. See it first: crm-pipeline write-backs plan."
)
_REJECT = "End a held batch without sending it; a value is asked for again only when it changes."
_SAYS = {
    "consent": "Opt-outs and hard bounces, for every record that has the address.",
    "lead_scores": "Scores that differ from what the CRM holds.",
    "visits": "The instant of the most recent page that somebody looked at.",
    "touches": "Where people came from: first channel and source, last channel and source.",
}
_Answer = dg.RunRequest | dg.SkipReason


class ChosenConfig(dg.Config):
    """Which parked write-backs are meant; naming nothing must be said, for it means everything."""

    object_name: str | None = Field(None, description="Only those of this object, such as Lead.")
    code: str | None = Field(None, description="Only those parked with this code.")
    origin: str | None = Field(None, description="Only those of this write-back or action.")
    write_ids: list[int] = Field([], description="These alone; ids are shown in write_back_log.")
    everything: bool = Field(False, description="All that are parked.")

    def chosen(self) -> Chosen:
        """The choice for the desk.

        Raises:
            UsageError: nothing was named.
        """
        if not (self.object_name or self.code or self.origin or self.write_ids or self.everything):
            raise UsageError("Name an object, a code, an origin or ids; or set `everything`.")
        return Chosen(self.object_name, self.code, self.origin, tuple(self.write_ids) or None)


class BatchConfig(dg.Config):
    """Which held batch."""

    batch: str = Field(description="The batch, as the run that held it names it.")


def build_write_backs(settings: Settings) -> dg.Definitions:
    """Everything about the way to the CRM; a write-back that is off has no asset and no sensor."""
    names = enabled_write_backs(settings) if settings.marketing.enabled else ()
    keys = [dg.AssetKey([WRITE_BACK_GROUP, name]) for name in names]
    return dg.Definitions(
        assets=[*(_decision(settings, name) for name in names), _delivery(keys)],
        asset_checks=[_nothing_is_parked()],
        jobs=[
            dg.define_asset_job(
                WRITE_BACK,
                selection=dg.AssetSelection.groups(WRITE_BACK_GROUP),
                description=(
                    "Find what differs between the marts and the CRM, put it into the outbox, and "
                    "send what is due."
                ),
                tags=RETRY_TAGS,
                executor_def=dg.in_process_executor,
            ),
            _desk_job(REQUEUE_WRITE_BACKS, _REQUEUE, _requeue),
            _desk_job(DISMISS_WRITE_BACKS, _DISMISS, _dismiss),
            _desk_job(APPROVE_WRITE_BACKS, _APPROVE, _approve),
            _desk_job(REJECT_WRITE_BACKS, _REJECT, _reject),
        ],
        sensors=[*(_due_sensor(name, names) for name in names), _waiting_sensor()],
    )


def _decision(settings: Settings, name: str) -> dg.AssetsDefinition:
    schema = settings.marketing.target_schema

    @dg.asset(
        key=[WRITE_BACK_GROUP, name],
        deps=[dg.AssetKey([schema, mart]) for mart in WRITE_BACKS[name].marts],
        group_name=WRITE_BACK_GROUP,
        pool=WRITE_BACK_POOL,
        kinds={"postgres"},
        owners=OWNERS,
        description=f"{_SAYS[name]} What differs is put into the outbox.",
    )
    def write_back(
        context: dg.AssetExecutionContext, crm: CrmResource
    ) -> dg.MaterializeResult[Any]:
        with told_as_failure(context):
            crm.begin(context)
            decision = decide(
                crm.settings(),
                crm.migrated_warehouse(),
                name,
                run_id=engine_run_id(context),
                require_enabled=crm.require_enabled,
            )
        for note in decision.notes:
            context.log.warning(note)
        if decision.held_because:
            context.log.warning(decision.held_because)
        return dg.MaterializeResult(metadata=decision_metadata(decision))

    return write_back


def decision_metadata(decision: Decision) -> Mapping[str, Any]:
    """What was found to differ, and what became of it in the outbox."""
    found = decision.enqueued
    facts: dict[str, Any] = {
        "records": decision.records,
        "waiting": found.waiting,
        "held": found.held,
        "superseded": found.superseded,
        "parked": found.parked,
        "seconds": round(decision.seconds, 3),
    }
    if decision.batch:
        facts["batch"] = decision.batch
    if decision.held_because:
        facts["held_because"] = without_markup(decision.held_because)
    if decision.notes:
        facts["notes"] = without_markup(" ".join(decision.notes))
    return facts


def _delivery(above: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    @dg.asset(
        key=_DELIVERY,
        deps=above,
        group_name=WRITE_BACK_GROUP,
        pool=WRITE_BACK_POOL,
        kinds={"salesforce"},
        owners=OWNERS,
        metadata={"dagster/relation_identifier": "crm_sync.write_back_log"},
        description=(
            "Everything that was sent to the CRM: each write-back ends applied, superseded, or "
            "parked with a reason and a remedy."
        ),
    )
    def delivery(context: dg.AssetExecutionContext, crm: CrmResource) -> dg.MaterializeResult[Any]:
        with told_as_failure(context):
            crm.begin(context)
            try:
                outcome = crm.drain(engine_run_id(context))
            except LeaseBusy as busy:
                # What waits is in good hands; what comes after them, the sensor sees.
                context.log.info(str(busy))
                return dg.MaterializeResult(metadata={"delivered_by": busy.owner})
            facts = delivery_metadata(crm, outcome, engine_run_id(context))
        for problem in outcome.problems:
            context.log.warning(problem)
        return dg.MaterializeResult(metadata=facts)

    return delivery


def delivery_metadata(crm: CrmResource, outcome: DrainOutcome, run_id: str) -> Mapping[str, Any]:
    """How a delivery went, with its results per record and how the whole outbox stands."""
    warehouse = crm.warehouse()
    facts: dict[str, Any] = {
        "applied": outcome.applied,
        "superseded": outcome.superseded,
        "parked": outcome.parked,
        "still_waiting": outcome.waiting,
        "api_calls": outcome.api_calls,
    }
    if outcome.next_due_at is not None:
        facts["next_due_at"] = dg.MetadataValue.timestamp(outcome.next_due_at)
    if outcome.problems:
        facts["problems"] = without_markup(" ".join(outcome.problems))
    if results := outbox_desk.read_results(warehouse, run_id, limit=_MOST_SHOWN):
        facts["results"] = log_table(results)
    if balance := outbox_desk.read_balance(warehouse):
        facts["outbox"] = _table(balance)
    return facts


def log_table(rows: Sequence[Mapping[str, object]]) -> dg.TableMetadataValue:
    """Rows of the log for people; no value of a record is among them."""
    shown = (
        *("write_id", "state", "origin", "object_name", "record_id", "field_names"),
        *("code", "reason", "remedy"),
    )
    return _table([{name: row[name] for name in shown} for row in rows])


def _table(rows: Sequence[Mapping[str, object]]) -> dg.TableMetadataValue:
    def plain(value: object) -> str | int | None:
        return value if value is None or isinstance(value, int) else without_markup(str(value))

    return dg.MetadataValue.table(
        [dg.TableRecord({name: plain(value) for name, value in row.items()}) for row in rows]
    )


def _nothing_is_parked() -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=_DELIVERY,
        name="nothing_is_parked",
        description="No write-back waits for a person: none is parked, and none is held.",
    )
    def nothing_is_parked(
        context: dg.AssetCheckExecutionContext, crm: CrmResource
    ) -> dg.AssetCheckResult:
        """A warning, for everything else is delivered."""
        with told_as_failure(context):
            warehouse = crm.migrated_warehouse()
            parked = outbox_desk.read_log(warehouse, state="parked", limit=_MOST_SHOWN)
            with warehouse.connect(autocommit=True) as connection:
                stopped = outbox_desk.read_stopped(connection)
            total, held = sum(one.parked for one in stopped), sum(one.held for one in stopped)
        says = [
            f"{total:,} are parked: crm-pipeline write-backs list --state parked." if total else "",
            f"{held:,} are held: crm-pipeline write-backs plan." if held else "",
        ]
        return dg.AssetCheckResult(
            passed=not total and not held,
            severity=dg.AssetCheckSeverity.WARN,
            description=" ".join(filter(None, says)) or "Every write-back has its end.",
            metadata={
                "parked": total,
                "held": held,
                **({"parked_write_backs": log_table(parked)} if parked else {}),
            },
        )

    return nothing_is_parked


def _due_sensor(name: str, enabled: Sequence[str]) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{name}_write_back",
        job_name=WRITE_BACK,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"{_SAYS[name]} Launches the write-back when the marts have moved.",
    )
    def due(context: dg.SensorEvaluationContext, crm: CrmResource) -> _Answer:
        """The rows drive it, so neither a cursor nor a run key can strand them.

        | there is | answer |
        |---|---|
        | the off switch, or a warehouse that does not answer | skip with the reason |
        | a run of the job that waits or works | skip: the next look sees what it leaves |
        | a run that failed a moment ago | skip for five minutes |
        | nothing new in the marts since the last decision | skip |
        | none of these | one run of every write-back that is due, and of the delivery |
        """
        if reason := reason_not_to_write(crm, context.instance, WRITE_BACK):
            return dg.SkipReason(reason)
        try:
            settings, warehouse = crm.settings(), crm.warehouse()
            if is_due(settings, warehouse, name) is None:
                return dg.SkipReason("The marts have not moved since the last decision.")
            # One build makes all of them due; they share a run, and its delivery.
            due = [one for one in enabled if is_due(settings, warehouse, one) is not None]
        except psycopg.errors.UndefinedTable:
            return dg.SkipReason("Nothing was ever synced.")
        except (CrmPipelineError, psycopg.Error) as error:
            return dg.SkipReason(str(error))
        return dg.RunRequest(
            asset_selection=[*(dg.AssetKey([WRITE_BACK_GROUP, one]) for one in due), _DELIVERY],
            tags={"crm_pipeline/write_backs": ", ".join(due)},
        )

    return due


def _waiting_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="waiting_write_backs",
        job_name=WRITE_BACK,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends what waits in the outbox, whoever put it there, and what is due again.",
    )
    def waiting(context: dg.SensorEvaluationContext, crm: CrmResource) -> _Answer:
        """As for a write-back that is due; what counts here is what may be sent now.

        | the outbox | answer |
        |---|---|
        | holds nothing that is due | skip, and say when the next one is |
        | holds something | one run of the delivery |
        """
        if reason := reason_not_to_write(crm, context.instance, WRITE_BACK):
            return dg.SkipReason(reason)
        try:
            count, due_at = outbox_desk.waiting(crm.warehouse())
        except psycopg.errors.UndefinedTable:
            count, due_at = 0, None
        except (CrmPipelineError, psycopg.Error) as error:
            return dg.SkipReason(str(error))
        if due_at is None:
            return dg.SkipReason("Nothing waits in the outbox.")
        if due_at > datetime.now(UTC):
            return dg.SkipReason(f"{count:,} write-backs wait until {due_at:%H:%M:%S} UTC.")
        return dg.RunRequest(asset_selection=[_DELIVERY])

    return waiting


def _desk_job(
    name: str, description: str, decide_on: Callable[[Warehouse, Any], Mapping[str, int]]
) -> dg.JobDefinition:
    """A form for people, whose answer is a few numbers."""
    form = BatchConfig if decide_on in (_approve, _reject) else ChosenConfig

    @dg.op(name=name.removesuffix("_write_backs"), description=description)
    def at_the_desk(context: dg.OpExecutionContext, config: form, crm: CrmResource) -> None:  # type: ignore[valid-type]
        with told_as_failure(context):
            context.add_output_metadata(decide_on(crm.migrated_warehouse(), config))

    @dg.job(name=name, description=description, executor_def=dg.in_process_executor)
    def job() -> None:
        at_the_desk()

    return job


def _requeue(warehouse: Warehouse, config: ChosenConfig) -> Mapping[str, int]:
    waiting, superseded = outbox_desk.requeue(warehouse, config.chosen())
    return {"waiting": waiting, "superseded": superseded}


def _dismiss(warehouse: Warehouse, config: ChosenConfig) -> Mapping[str, int]:
    return {"dismissed": outbox_desk.dismiss(warehouse, config.chosen())}


def _approve(warehouse: Warehouse, config: BatchConfig) -> Mapping[str, int]:
    with warehouse.connect() as connection:
        return {"approved": _some(outbox_desk.approve(connection, config.batch), config.batch)}


def _reject(warehouse: Warehouse, config: BatchConfig) -> Mapping[str, int]:
    with warehouse.connect() as connection:
        return {"rejected": _some(outbox_desk.reject(connection, config.batch), config.batch)}


def _some(number: int, batch: str) -> int:
    if not number:
        raise UsageError(f"Nothing is held under the batch {batch}.")
    return number
