"""Reference data: users, queues, assignment rules, picklists, case queues and priorities.

Belongs here: an asset per reference table. Does not belong here: which tables there are and what
fills them (sync/reference.py).
"""

from typing import Any

import dagster as dg

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.failures import told_as_failure
from crm_pipeline.defs.metadata import OWNERS, definition_metadata, outcome_metadata
from crm_pipeline.defs.names import REFERENCE_GROUP, SYNC_POOL
from crm_pipeline.defs.progress import ProgressObserver
from crm_pipeline.defs.resources import CrmResource, engine_run_id
from crm_pipeline.sync.reference import (
    REFERENCE_DATASETS,
    ReferenceDataset,
    sync_reference_dataset,
)


def build_reference_data(settings: Settings) -> dg.Definitions:
    """An asset per reference table; none where the operator wants no reference data."""
    if not settings.reference_data:
        return dg.Definitions()
    return dg.Definitions(
        assets=[_reference_asset(dataset, settings.crm.type) for dataset in REFERENCE_DATASETS]
    )


def _reference_asset(dataset: ReferenceDataset, crm_type: str) -> dg.AssetsDefinition:
    key = dg.AssetKey([crm_type, dataset.table])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([crm_type, table]) for table in dataset.depends_on],
        group_name=REFERENCE_GROUP,
        pool=SYNC_POOL,
        kinds={crm_type, "postgres"},
        owners=OWNERS,
        metadata=definition_metadata(f"{crm_type}.{dataset.table}"),
        description=dataset.description,
    )
    def reference(context: dg.AssetExecutionContext, crm: CrmResource) -> dg.MaterializeResult[Any]:
        with told_as_failure(context):
            outcome = sync_reference_dataset(
                crm.engine(context),
                dataset.name,
                run_id=engine_run_id(context),
                report=ProgressObserver(context, key),
            )
        return dg.MaterializeResult(metadata=outcome_metadata(outcome))

    return reference
