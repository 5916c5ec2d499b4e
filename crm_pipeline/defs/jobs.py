"""What people and schedules launch.

| job | reads | launched by |
|---|---|---|
| full_sync | everything of the chosen objects, reference data | people, never a schedule |
| differential_sync | what changed since the watermark | its schedule, or people |
| reconcile | ids and stamps of everything, and what differs | a daily schedule, or people |
| refresh | calculated and newly mapped columns of every record | its schedule, or people |
| sync_record | one record | people |
| reference_data | reference tables | a daily schedule, or people |
| load_events | new files of marketing events, then the models of them | a sensor, or people |
| marketing | nothing; rebuilds the models | a daily schedule, a sensor, or people |
| write_back | nothing; decides and writes to the CRM (write_backs.py) | sensors, or people |
| check_tables | counts; runs every check | a daily schedule, or people |
| check_models | nothing; runs the models' tests | an hourly schedule, or people |

All run in one process: eight steps take 0.4 to 1.6 s so, and 15 to 29 s in a process each. A step
that fails does not keep the other objects from being synced.

Belongs here: selections by group, forms, tags. Does not belong here: bodies of assets, and when
jobs are launched (schedules.py, sensors.py).
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import dagster as dg
from pydantic import Field

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.checks import IN_STEP
from crm_pipeline.defs.crm_objects import ObjectAssets, object_assets
from crm_pipeline.defs.failures import RETRY_TAGS, told_as_failure
from crm_pipeline.defs.metadata import outcome_metadata
from crm_pipeline.defs.names import (
    CHANGES_GROUP,
    CHECK_MODELS,
    CHECK_TABLES,
    DIFFERENTIAL_SYNC,
    EVENTS_ASSET,
    FULL_SYNC,
    LOAD_EVENTS,
    MARKETING,
    MARKETING_GROUP,
    RECONCILE,
    REFERENCE_DATA,
    REFERENCE_GROUP,
    REFRESH,
    SYNC_RECORD,
    TABLES_GROUP,
    WRITE_BACK_GROUP,
)
from crm_pipeline.defs.resources import CrmResource, engine_run_id

_MODELS = dg.AssetSelection.groups(MARKETING_GROUP)
_MODELS_ALONE = _MODELS.without_checks()
"""For jobs that run often: the tests take as long as an incremental build."""
_OBJECTS_FIELD = "Objects to read; leave it empty to read all of them."
_RECONCILE = (
    "Find what no watermark can, and mend it: records that were missed, deleted long ago or hidden "
    "from us, and rows that somebody changed here. Reads the id and the stamp of every record (by "
    "Bulk, a few calls per object whatever its size), and the records that differ. Differentials "
    "wait meanwhile. Costs minutes per million records; runs every night by itself."
)
_REFRESH = (
    "Read the columns that change without a sign of it, such as formulas, roll-ups and fields of a "
    "parent record, and columns that were mapped since the last full sync. Reads only these "
    "columns, of every record, and writes only rows that differ: far less than a full sync. Costs "
    "nothing where no such column is mapped. Differentials wait meanwhile."
)
_RESUME_FIELD = (
    "Continue a full sync that was interrupted. Off: drop what it had read, and begin anew."
)


class RecordConfig(dg.Config):
    """Which record to read now."""

    object: str = Field(description="The CRM object, such as Lead or Contact.")
    record_id: str = Field(description="The record's id, 15 or 18 characters.")


def build_jobs(settings: Settings) -> dg.Definitions:
    """Every job; those over groups that the settings leave empty are left out."""
    named = object_assets(settings)
    jobs: list[Any] = [
        _full_sync(named),
        _differential_sync(),
        _whole(RECONCILE, named, _RECONCILE, checks=(IN_STEP,)),
        _whole(REFRESH, named, _REFRESH),
        build_record_job(named),
        _load_events(),
        dg.define_asset_job(
            CHECK_TABLES,
            selection=dg.AssetSelection.checks_for_assets(*(one.table_key for one in named)),
            description=(
                "Compare the tables with the CRM: counts (1-2 API calls per object), duplicate "
                "ids, alerts, and what the last reconciliation found. Changes nothing."
            ),
            executor_def=dg.in_process_executor,
        ),
    ]
    if settings.reference_data:
        jobs.append(_group_job(REFERENCE_DATA, REFERENCE_GROUP, "Read the reference tables anew."))
    if settings.marketing.enabled:
        jobs.append(
            _group_job(MARKETING, MARKETING_GROUP, "Rebuild the marketing models, and test them.")
        )
        jobs.append(
            dg.define_asset_job(
                CHECK_MODELS,
                selection=_MODELS - _MODELS_ALONE,
                description="Test the marketing models as they are. Builds nothing.",
                executor_def=dg.in_process_executor,
            )
        )
    return dg.Definitions(jobs=jobs)


def _group_job(name: str, group: str, description: str) -> Any:
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.groups(group),
        description=description,
        tags=RETRY_TAGS,
        executor_def=dg.in_process_executor,
    )


def _full_sync(named: tuple[ObjectAssets, ...]) -> Any:
    return dg.define_asset_job(
        FULL_SYNC,
        selection=dg.AssetSelection.groups(TABLES_GROUP, REFERENCE_GROUP, MARKETING_GROUP),
        config=full_sync_form(named),
        description=(
            "Read every chosen object from its first record to its last, then rebuild the models. "
            "It may take days and survives restarts: launch it again and it goes on. While it "
            "runs, differential syncs wait."
        ),
        tags=RETRY_TAGS,
        executor_def=dg.in_process_executor,
    )


def _whole(
    name: str, named: tuple[ObjectAssets, ...], description: str, checks: tuple[str, ...] = ()
) -> Any:
    """A job over every table whose name is also the mode of its tables, and the models after it."""
    evaluated = [dg.AssetCheckKey(one.table_key, check) for one in named for check in checks]
    tables = dg.AssetSelection.groups(TABLES_GROUP).without_checks()
    return dg.define_asset_job(
        name,
        selection=tables | _MODELS_ALONE | dg.AssetSelection.checks(*evaluated),
        config=objects_form(named, lambda _: {"mode": name}),
        description=description,
        tags=RETRY_TAGS,
        executor_def=dg.in_process_executor,
    )


def full_sync_form(named: tuple[ObjectAssets, ...]) -> dg.ConfigMapping:
    """The two questions that the Launchpad asks; the only place where *full* is decided."""
    resume = dg.Field(bool, default_value=True, description=_RESUME_FIELD)
    return objects_form(
        named, lambda form: {"mode": "full", "restart": not form["resume"]}, resume=resume
    )


def objects_form(
    named: tuple[ObjectAssets, ...],
    chosen_config: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    **questions: dg.Field,
) -> dg.ConfigMapping:
    """A form that asks which objects take part; the others are skipped.

    Args:
        named: every object.
        chosen_config: the config of a chosen table, from the filled form.
        questions: what the form asks besides.
    """

    def to_steps(form: Mapping[str, Any]) -> Mapping[str, Any]:
        chosen = set(form["objects"]) or {one.object_name for one in named}
        return {
            "ops": {
                one.table_op: {
                    "config": chosen_config(form) if one.object_name in chosen else {"mode": "skip"}
                }
                for one in named
            }
        }

    names = [one.object_name for one in named]
    # Dagster remembers lists of an enum by the enum's name, for as long as the process lives.
    digest = sha256(",".join(names).encode()).hexdigest()[:8]
    choices = dg.Enum(f"CrmObjects_{digest}", [dg.EnumValue(name) for name in names])
    objects = dg.Field([choices], default_value=[], description=_OBJECTS_FIELD)
    return dg.ConfigMapping(config_fn=to_steps, config_schema={"objects": objects, **questions})


def _differential_sync() -> Any:
    # Checks of the tables cost queries and calls, and have a job of their own.
    tables = dg.AssetSelection.groups(CHANGES_GROUP, TABLES_GROUP).without_checks()
    return dg.define_asset_job(
        DIFFERENTIAL_SYNC,
        selection=tables | _MODELS_ALONE,
        description=(
            "Read what changed since the last completed sync, merge it, and rebuild the models if "
            "a row is different now. The hour only says where the run is shown."
        ),
        tags=RETRY_TAGS,
        executor_def=dg.in_process_executor,
    )


def _load_events() -> Any:
    events = dg.AssetSelection.assets(dg.AssetKey(EVENTS_ASSET))
    return dg.define_asset_job(
        LOAD_EVENTS,
        # The write-backs below the models have a job of their own.
        selection=(
            events.downstream() - dg.AssetSelection.groups(WRITE_BACK_GROUP)
        ).without_checks()
        | dg.AssetSelection.checks_for_assets(dg.AssetKey(EVENTS_ASSET)),
        description=(
            "Load new and changed files of marketing events, then rebuild the models that read "
            "events, if one is new. Asks the CRM nothing."
        ),
        tags=RETRY_TAGS,
        executor_def=dg.in_process_executor,
    )


def build_record_job(named: tuple[ObjectAssets, ...]) -> dg.JobDefinition:
    """The job that reads one record now; it holds no pool, for it is safe beside every sync."""
    keys = {one.object_name: one.table_key for one in named}

    @dg.op(description="Reads one record from the CRM and writes it into its table.")
    def sync_one_record(
        context: dg.OpExecutionContext, config: RecordConfig, crm: CrmResource
    ) -> None:
        with told_as_failure(context):
            outcome = crm.engine(context).sync_record(
                config.object, config.record_id, run_id=engine_run_id(context)
            )
        facts = {"record_id": config.record_id, **outcome_metadata(outcome)}
        context.add_output_metadata(facts)
        # An observation: of the whole table this run says nothing.
        context.log_event(dg.AssetObservation(keys[config.object], metadata=facts))

    @dg.job(
        name=SYNC_RECORD,
        description="Read one record now, whatever else runs: for the person who waits for it.",
        executor_def=dg.in_process_executor,
    )
    def sync_record() -> None:
        sync_one_record()

    return sync_record
