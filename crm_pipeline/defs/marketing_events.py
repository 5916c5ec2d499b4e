"""Marketing events in Dagster: the table as an asset, its check, and the sensor that sees files.

Belongs here: when files are loaded and what a run says of it. Does not belong here: loading itself
(events/), and the models of events (marketing_models.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import psycopg

from crm_pipeline.config.names import listed
from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.failures import told_as_failure
from crm_pipeline.defs.metadata import OWNERS, without_markup
from crm_pipeline.defs.names import EVENTS_ASSET, EVENTS_GROUP, EVENTS_POOL, LOAD_EVENTS
from crm_pipeline.defs.resources import CrmResource, engine_run_id
from crm_pipeline.defs.ticks import switched_off, unfinished_run
from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.events.files import event_folder
from crm_pipeline.events.formats import is_plain_name
from crm_pipeline.events.intake import Intake, take_in, waiting_files
from crm_pipeline.events.models_state import newest_event_not_built
from crm_pipeline.events.quarantine import count_rejected, refused_files, rejected_rows
from crm_pipeline.model.events import FileOutcome

NO_FOLDER = "No folder of event files is set (`events.folder` in the settings file)."
_KEY = dg.AssetKey(EVENTS_ASSET)
_MOST_SHOWN = 20
_TABLE = ".".join(EVENTS_ASSET)


def build_marketing_events(settings: Settings) -> dg.Definitions:
    """The asset, its check and its sensor; tools may insert events where no folder is set."""
    return dg.Definitions(
        assets=[_events()], asset_checks=[_no_rejected_rows()], sensors=[_event_files(settings)]
    )


def _events() -> dg.AssetsDefinition:
    @dg.asset(
        key=_KEY,
        group_name=EVENTS_GROUP,
        pool=EVENTS_POOL,
        kinds={"file", "postgres"},
        owners=OWNERS,
        metadata={"dagster/relation_identifier": _TABLE},
        description=(
            "What people did and what happened to mails, one row per event, from files that are "
            "new or have changed. Rows that are no events are in the quarantine, with the reason."
        ),
    )
    def marketing_events(
        context: dg.AssetExecutionContext, crm: CrmResource
    ) -> dg.MaterializeResult[Any]:
        intake = Intake()
        with told_as_failure(context):
            crm.begin(context)
            folder = crm.event_folder()
            if folder is None:
                context.log.info(NO_FOLDER)
            else:
                intake = take_in(
                    crm.migrated_warehouse(),
                    event_folder(folder),
                    run_id=engine_run_id(context),
                    require_enabled=crm.require_enabled,
                )
        return dg.MaterializeResult(metadata=intake_metadata(intake))

    return marketing_events


def intake_metadata(intake: Intake) -> Mapping[str, Any]:
    """What an intake did, with its first files by name."""
    facts: dict[str, Any] = {
        "files": len(intake.files),
        "events_loaded": intake.loaded,
        "events_known_already": intake.known,
        "rows_rejected": intake.rejected,
        "files_refused": len(intake.refused),
        "files_waiting": intake.waiting,
        "seconds": round(intake.seconds, 3),
    }
    if intake.rows and intake.seconds:
        facts["rows_per_second"] = round(intake.rows / intake.seconds)
    if intake.files:
        facts["loaded_files"] = _file_table(intake.files[:_MOST_SHOWN])
    if intake.left_aside:
        facts["left_aside"] = without_markup(listed(intake.left_aside[:_MOST_SHOWN]))
    return facts


def _file_table(files: Sequence[FileOutcome]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "file": without_markup(one.file),
                    "rows": one.rows,
                    "loaded": one.loaded,
                    "known": one.known,
                    "rejected": one.rejected,
                    "seconds": round(one.seconds, 3),
                    "refused": without_markup(one.refusal or ""),
                }
            )
            for one in files
        ]
    )


def _no_rejected_rows() -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=_KEY,
        name="no_rejected_rows",
        description="No row of a file waits in the quarantine, and every file could be read.",
    )
    def no_rejected_rows(
        context: dg.AssetCheckExecutionContext, crm: CrmResource
    ) -> dg.AssetCheckResult:
        """A warning, for every other event is loaded."""
        with told_as_failure(context):
            warehouse = crm.migrated_warehouse()
            count, refused = count_rejected(warehouse), refused_files(warehouse)
            shown = rejected_rows(warehouse, limit=_MOST_SHOWN)
        # The rows themselves are personal data, and more people read this page than that table.
        table = [
            dg.TableRecord(
                {
                    "file": without_markup(one.file),
                    "row": one.row_number,
                    "column": one.column if is_plain_name(one.column) else "(a value)",
                    "reason": one.reason,
                }
            )
            for one in shown
        ]
        return dg.AssetCheckResult(
            passed=not count and not refused,
            severity=dg.AssetCheckSeverity.WARN,
            description=(
                f"{count:,} rows are in the quarantine, and {len(refused)} files could not be "
                "read: crm-pipeline events rejected"
                if count or refused
                else "Every row of every file is an event."
            ),
            metadata={
                "rejected_rows": count,
                "refused_files": len(refused),
                **({"rejected": dg.MetadataValue.table(table)} if table else {}),
            },
        )

    return no_rejected_rows


def _event_files(settings: Settings) -> dg.SensorDefinition:
    has_folder = settings.events.folder is not None
    status = dg.DefaultSensorStatus

    @dg.sensor(
        name="event_files",
        job_name=LOAD_EVENTS,
        minimum_interval_seconds=settings.events.poll_minutes * 60,
        default_status=status.RUNNING if has_folder else status.STOPPED,
        description="Loads files of events when there are new ones, and lets the models follow.",
    )
    def event_files(
        context: dg.SensorEvaluationContext, crm: CrmResource
    ) -> dg.RunRequest | dg.SkipReason:
        """A listing and two queries; the files are read by the run.

        | there are | answer |
        |---|---|
        | syncs disabled, or the folder or the warehouse cannot be asked | skip with the reason |
        | a load that waits or works | skip: the next look sees what it leaves |
        | files that are new or have changed | one run |
        | events that a tool inserted and no model has seen | one run, once for the newest |
        | none of these | skip |
        """
        if reason := switched_off(crm):
            return dg.SkipReason(reason)
        if run := unfinished_run(context.instance, LOAD_EVENTS):
            return dg.SkipReason(f"A load of events is not over yet (run {run.run_id}).")
        try:
            waiting = _waiting(crm)
            newest = newest_event_not_built(crm.warehouse()) if _follows(crm) else None
        except psycopg.errors.UndefinedTable:
            waiting, newest = _any_file(crm), None
        except (CrmPipelineError, psycopg.Error) as error:
            return dg.SkipReason(str(error))
        if not waiting and (newest is None or newest == context.cursor):
            return dg.SkipReason(NO_FOLDER if crm.event_folder() is None else "No file is new.")
        # No run key: a file may change as often as it likes.
        context.update_cursor(newest or "")
        return dg.RunRequest()

    return event_files


def _waiting(crm: CrmResource) -> int:
    folder = crm.event_folder()
    return 0 if folder is None else len(waiting_files(crm.warehouse(), event_folder(folder)).files)


def _any_file(crm: CrmResource) -> int:
    """Before the first migration, every file is new."""
    folder = crm.event_folder()
    return 0 if folder is None else len(event_folder(folder).listing().files)


def _follows(crm: CrmResource) -> bool:
    return crm.settings().marketing.enabled
