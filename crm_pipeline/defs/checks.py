"""Whether the tables are what they claim to be, with the evidence.

| check | says | costs |
|---|---|---|
| row_count_parity | as many records as the CRM, or the gap is explained | 1-2 calls |
| unique_ids | no id stands in two rows | a query |
| freshness | the watermark is no older than three intervals; a warning | a query |

Belongs here: those three per object, from one factory. Does not belong here: tests of the models,
which are dbt's.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.crm_objects import ObjectAssets, object_assets
from crm_pipeline.defs.failures import told_as_failure
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.sync.engine import SyncEngine

INTERVALS_UNTIL_STALE = 3
Evaluate = Callable[[SyncEngine, str], dg.AssetCheckResult]


def build_checks(settings: Settings) -> dg.Definitions:
    """The three checks of every object."""
    kinds: Sequence[tuple[str, Evaluate, str]] = (
        ("row_count_parity", row_count_parity, "As many records as in the CRM."),
        ("unique_ids", unique_ids, "No id in two rows."),
        ("freshness", freshness, "Synced within the last three intervals."),
    )
    return dg.Definitions(
        asset_checks=[
            _check(named, name, evaluate, description)
            for named in object_assets(settings)
            for name, evaluate, description in kinds
        ]
    )


def _check(
    named: ObjectAssets, name: str, evaluate: Evaluate, description: str
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=named.table_key, name=name, description=description)
    def check(context: dg.AssetCheckExecutionContext, crm: CrmResource) -> dg.AssetCheckResult:
        with told_as_failure(context):
            return evaluate(crm.engine(context), named.object_name)

    return check


def row_count_parity(engine: SyncEngine, object_name: str) -> dg.AssetCheckResult:
    """The CRM's count beside ours; changes that no differential has read yet explain a gap."""
    parity = engine.count_parity(object_name)
    return dg.AssetCheckResult(
        passed=parity.is_in_step,
        description=parity.sentence,
        metadata={
            "crm_count": parity.crm_count,
            "table_count": parity.table_count,
            "changed_since": parity.changed_since,
        },
    )


def unique_ids(engine: SyncEngine, object_name: str) -> dg.AssetCheckResult:
    """The key forbids it; here everybody sees that it holds."""
    duplicates = engine.count_duplicate_ids(object_name)
    return dg.AssetCheckResult(
        passed=duplicates == 0,
        description=f"{object_name}: {duplicates} ids stand in more than one row.",
        metadata={"duplicate_ids": duplicates},
    )


def freshness(engine: SyncEngine, object_name: str) -> dg.AssetCheckResult:
    """A warning, for old data is served on purpose while a full sync of days runs."""
    differential = engine.settings.differential
    allowed = timedelta(
        minutes=INTERVALS_UNTIL_STALE * differential.interval_minutes + differential.overlap_minutes
    )
    watermark = engine.watermark(object_name)
    if watermark is None:
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{object_name} was never fully synced: launch full_sync.",
        )
    age = datetime.now(UTC) - watermark
    return dg.AssetCheckResult(
        passed=age <= allowed,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{object_name} is complete up to {watermark:%Y-%m-%d %H:%M} UTC.",
        metadata={
            "synced_through": dg.MetadataValue.timestamp(watermark),
            "age_minutes": round(age.total_seconds() / 60, 1),
            "allowed_minutes": round(allowed.total_seconds() / 60, 1),
        },
    )
