"""Whether the tables are what they claim to be, with the evidence.

| check | says | costs |
|---|---|---|
| row_count_parity | as many records as the CRM, or the gap is explained | 1-2 calls |
| unique_ids | no id stands in two rows | a query |
| no_alerts | nothing of the object needs a person, old data included; a warning | a query |
| in_step_with_crm | what the last reconciliation found, and mended; a warning | a query |

Belongs here: those four per object, from one factory. Does not belong here: tests of the models,
which are dbt's.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import dagster as dg

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.alerts import alert_table
from crm_pipeline.defs.crm_objects import ObjectAssets, object_assets
from crm_pipeline.defs.failures import told_as_failure
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.model.sync import Finding, Vanished
from crm_pipeline.sync.alerts import read_alerts
from crm_pipeline.sync.engine import SyncEngine
from crm_pipeline.warehouse.ledger import read_status

IN_STEP = "in_step_with_crm"
Evaluate = Callable[[SyncEngine, str], dg.AssetCheckResult]


def build_checks(settings: Settings) -> dg.Definitions:
    """The four checks of every object."""
    kinds: Sequence[tuple[str, Evaluate, str]] = (
        ("row_count_parity", row_count_parity, "As many records as in the CRM."),
        ("unique_ids", unique_ids, "No id in two rows."),
        ("no_alerts", no_alerts, "Nothing needs a person: no old data, nothing held or due."),
        (IN_STEP, in_step_with_crm, "The last reconciliation found nothing out of step."),
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
    parity = engine.inspector.count_parity(object_name)
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
    duplicates = engine.inspector.count_duplicate_ids(object_name)
    return dg.AssetCheckResult(
        passed=duplicates == 0,
        description=f"{object_name}: {duplicates} ids stand in more than one row.",
        metadata={"duplicate_ids": duplicates},
    )


def no_alerts(engine: SyncEngine, object_name: str) -> dg.AssetCheckResult:
    """A warning, for the table is whole: it is only old, or lacks what the sentence says."""
    found = [
        a for a in read_alerts(engine.warehouse, engine.settings) if a.object_name == object_name
    ]
    watermark = engine.inspector.watermark(object_name)
    complete = f"complete up to {watermark:%Y-%m-%d %H:%M} UTC" if watermark else "not there yet"
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(a.sentence for a in found) or f"{object_name} is {complete}.",
        metadata={
            **({"synced_through": dg.MetadataValue.timestamp(watermark)} if watermark else {}),
            **({"alerts": alert_table(found)} if found else {}),
        },
    )


def in_step_with_crm(engine: SyncEngine, object_name: str) -> dg.AssetCheckResult:
    """A warning, for what was found is mended: somebody should ask how it came about."""
    status = {row["object_name"]: row for row in read_status(engine.warehouse)}.get(object_name, {})
    compared_at, found = status.get("last_reconciled_at"), status.get("last_findings")
    if not isinstance(compared_at, datetime):
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{object_name} was never compared with the CRM: launch reconcile.",
        )
    findings: dict[str, int] = dict(found) if isinstance(found, dict) else {}
    total = sum(findings.values())
    return dg.AssetCheckResult(
        passed=not total,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{object_name}: {total:,} rows were out of step with the CRM when they were compared "
            f"on {compared_at:%Y-%m-%d %H:%M} UTC; all of them were mended."
            if total
            else f"{object_name} was in step with the CRM on {compared_at:%Y-%m-%d %H:%M} UTC."
        ),
        metadata={
            "compared_at": dg.MetadataValue.timestamp(compared_at),
            "out_of_step": total,
            **({"findings": findings_table(findings)} if total else {}),
        },
    )


def findings_table(findings: Mapping[str, int]) -> dg.TableMetadataValue:
    """What a reconciliation found, by kind, with what each means."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"found": kind, "rows": count, "means": _MEANINGS.get(kind, "")})
            for kind, count in findings.items()
        ]
    )


_MEANINGS: Mapping[str, str] = {
    Finding.MISSING: "in the CRM, but not here",
    Finding.STALE: "older here than in the CRM",
    Finding.ALTERED: "changed here by somebody else",
    Finding.RESTORED: "gone here, but alive in the CRM",
    Finding.QUARANTINED: "in quarantine before; tried again",
    Vanished.DELETED: "in the CRM's recycle bin",
    Vanished.MERGED: "merged into another record",
    Vanished.LEFT_FILTER: "does not match the record filter any more",
    Vanished.NOT_VISIBLE: "deleted for good, or hidden from our user",
}
