"""Two assets for every CRM object: the changes of an hour, and the table that people query.

`salesforce_changes/lead` stages and verifies what changed; `salesforce/lead` merges it. Only the
form of its own job makes a table asset read everything (`mode: full`): nothing is ever inferred
from a missing partition, by which differentials elsewhere turned into rebuilds.

| the table's config | this run has staged changes | what happens |
|---|---|---|
| changes (default) | yes | they are merged |
| changes (default) | no: the asset alone, or a retry | a whole differential of this object |
| full | - | everything is read, an interrupted full sync is continued |
| reconcile | - | ids and stamps of everything are compared, what differs is read again |
| refresh | - | calculated and newly mapped columns are read in every record |
| skip | - | nothing; the log says so |

Belongs here: those assets. Does not belong here: jobs over them (jobs.py), checks (checks.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from crm_pipeline.config.object_settings import ObjectSettings
from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.failures import broken_fields_failure, told_as_failure
from crm_pipeline.defs.metadata import (
    OWNERS,
    definition_metadata,
    outcome_metadata,
    staged_metadata,
    table_metadata,
)
from crm_pipeline.defs.names import CHANGES_GROUP, SYNC_POOL, TABLES_GROUP
from crm_pipeline.defs.partitions import window_key
from crm_pipeline.defs.progress import ProgressObserver
from crm_pipeline.defs.resources import CrmResource, engine_run_id
from crm_pipeline.model.sync import SyncMode, SyncOutcome
from crm_pipeline.sync.engine import SyncEngine

_Materializations = Iterator[dg.MaterializeResult[Any]]
_MODES = {
    "changes": SyncMode.DIFFERENTIAL,
    "full": SyncMode.FULL,
    "reconcile": SyncMode.RECONCILE,
    "refresh": SyncMode.REFRESH,
}


class TableConfig(dg.Config):
    """What one run does with one table; the forms of the jobs fill it in."""

    mode: Literal["changes", "full", "reconcile", "refresh", "skip"] = Field(
        "changes",
        description=(
            "changes: read what changed. full: read everything. reconcile: compare ids and stamps "
            "with the CRM and mend what differs. refresh: read calculated and newly mapped columns "
            "of every record. skip: nothing."
        ),
    )
    restart: bool = Field(
        False, description="Full only: begin anew instead of continuing an interrupted full sync."
    )


@dataclass(frozen=True, slots=True)
class ObjectAssets:
    """How one CRM object is called in Dagster."""

    object_name: str
    chosen: ObjectSettings
    crm_type: str

    @property
    def table(self) -> str:
        """The table's bare name."""
        return self.chosen.table_name(self.object_name)

    @property
    def changes_key(self) -> dg.AssetKey:
        """Windows of changes."""
        return dg.AssetKey([f"{self.crm_type}_changes", self.table])

    @property
    def table_key(self) -> dg.AssetKey:
        """Schema and table, so that dbt sources meet it by name."""
        return dg.AssetKey([self.crm_type, self.table])

    @property
    def table_op(self) -> str:
        """The step's name in run config."""
        return self.table_key.to_python_identifier()


def object_assets(settings: Settings) -> tuple[ObjectAssets, ...]:
    """Every object that takes part."""
    return tuple(
        ObjectAssets(name, chosen, settings.crm.type)
        for name, chosen in settings.enabled_objects.items()
    )


def build_crm_objects(settings: Settings, windows: dg.PartitionsDefinition[str]) -> dg.Definitions:
    """The two assets of every object."""
    return dg.Definitions(
        assets=[
            asset
            for named in object_assets(settings)
            for asset in (_changes_asset(named, windows), _table_asset(named))
        ]
    )


def _changes_asset(
    named: ObjectAssets, windows: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    @dg.asset(
        key=named.changes_key,
        group_name=CHANGES_GROUP,
        partitions_def=windows,
        output_required=False,
        pool=SYNC_POOL,
        kinds={named.crm_type, "postgres"},
        owners=OWNERS,
        description=(
            f"Changes of {named.object_name} since its last completed sync: read, counted and "
            "staged, not merged yet. The hour says when they were read, not when they happened."
        ),
    )
    def changes(context: dg.AssetExecutionContext, crm: CrmResource) -> _Materializations:
        with told_as_failure(context):
            attempt = crm.engine(context).stage_changes(
                named.object_name,
                run_id=engine_run_id(context),
                report=ProgressObserver(context, named.changes_key),
            )
        yield dg.MaterializeResult(metadata=staged_metadata(attempt))

    return changes


def _table_asset(named: ObjectAssets) -> dg.AssetsDefinition:
    @dg.asset(
        key=named.table_key,
        deps=[named.changes_key],
        group_name=TABLES_GROUP,
        output_required=False,
        pool=SYNC_POOL,
        kinds={named.crm_type, "postgres"},
        owners=OWNERS,
        metadata=definition_metadata(f"{named.crm_type}.{named.table}", named.chosen),
        description=(
            f"{named.object_name} as it is in the CRM now, one row per record; records that are "
            "gone stay with `_deleted_at`. Materialised alone it reads what changed."
        ),
    )
    def table(
        context: dg.AssetExecutionContext, config: TableConfig, crm: CrmResource
    ) -> _Materializations:
        if config.mode == "skip":
            context.log.info("%s was not chosen: its table stays as it is.", named.object_name)
            return
        with told_as_failure(context):
            engine = crm.engine(context)
            outcome = _sync(engine, named, context, config)
            looks = table_metadata(engine, named.object_name, outcome)
        if outcome.mode is SyncMode.FULL:
            context.log_event(_window_of_full_sync(named, outcome))
        yield dg.MaterializeResult(metadata={**outcome_metadata(outcome), **looks})
        if outcome.broken_fields:
            raise broken_fields_failure(named.object_name, outcome.broken_fields)

    return table


def _window_of_full_sync(named: ObjectAssets, outcome: SyncOutcome) -> dg.AssetMaterialization:
    """Reading everything reads the open hour's changes, too; the UI would else miss that hour."""
    return dg.AssetMaterialization(
        named.changes_key,
        description="Contained in a full sync",
        partition=window_key(datetime.now(UTC)),
        metadata={"rows_read": outcome.records_read},
    )


def _sync(
    engine: SyncEngine,
    named: ObjectAssets,
    context: dg.AssetExecutionContext,
    config: TableConfig,
) -> SyncOutcome:
    """What the table in this module's docstring says."""
    name, run_id = named.object_name, engine_run_id(context)
    if config.mode == "changes" and engine.has_staged_changes(name, run_id=run_id):
        return engine.commit_changes(name, run_id=run_id)
    return engine.sync_object(
        name,
        mode=_MODES[config.mode],
        run_id=run_id,
        restart=config.restart,
        report=ProgressObserver(context, named.table_key),
    )
