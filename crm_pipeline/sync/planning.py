"""From an object's name to a plan: describe it anew, fit its table, decide what to refresh.

Fields come and go in the CRM, and the operator edits her mapping: each sync looks again.

Belongs here: everything that is settled before the first record is read. Does not belong here: what
a mode means (plan.py) and the read itself (merge_path.py).
"""

from dataclasses import dataclass, replace

import psycopg
import stamina

from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector, RecordSource
from crm_pipeline.model.objects import ObjectSelection
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sync.plan import SyncPlan
from crm_pipeline.sync.selection import select_object
from crm_pipeline.warehouse import history, ledger
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.fitting import fit_table
from crm_pipeline.warehouse.schema import table_shape
from crm_pipeline.warehouse.tables import table_is_live


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans for one engine."""

    settings: Settings
    connector: CrmConnector
    warehouse: Warehouse

    def plan(self, object_name: str, mode: SyncMode, run_id: str) -> SyncPlan:
        """Plan a sync of an object of the settings.

        Raises:
            ConfigurationError: it takes no part in syncs.
            ObjectUnavailable: the org does not show it.
        """
        selection, broken = select_object(self.settings, self.connector, object_name)
        return self.plan_selection(
            object_name, selection, mode, run_id, source=self.connector, broken=broken
        )

    def plan_selection(
        self,
        name: str,
        selection: ObjectSelection,
        mode: SyncMode,
        run_id: str,
        *,
        source: RecordSource,
        broken: tuple[str, ...] = (),
    ) -> SyncPlan:
        """Plan a sync of a selection that is known already.

        Columns are added in a transaction of their own: it waits its turn behind slow readers only
        for a moment at a time, so that nobody queues behind it.
        """
        shape = table_shape(selection, self.warehouse.crm_schema)
        keeps_history = self.settings.retention.history_days > 0
        plan = SyncPlan(
            name, selection, mode, run_id, source, shape, broken, keeps_history=keeps_history
        )
        for trial in stamina.retry_context(
            on=psycopg.errors.LockNotAvailable, attempts=30, timeout=60, wait_max=2
        ):
            with trial, self.warehouse.connect() as connection:
                if not table_is_live(connection, shape):
                    return plan
                connection.execute("SET LOCAL lock_timeout = '500ms'")
                fitted = fit_table(connection, shape)
                history.keep(connection, shape, is_wanted=keeps_history)
                if fitted.unfilled:
                    ledger.note_unfilled(connection, name, fitted.unfilled)
                state = ledger.read_state(connection, name)
        misfits = tuple(f"{field} ({reason})" for field, reason in fitted.misfits)
        plan = replace(plan, shape=fitted.shape, broken_fields=(*broken, *misfits))
        filled = state.fields if state else []
        return replace(plan, refreshed=_to_refresh(plan, filled))


def _to_refresh(plan: SyncPlan, filled: list[str]) -> frozenset[str]:
    """Fields that differentials cannot keep true: calculated ones, and those not yet filled."""
    if plan.mode is not SyncMode.REFRESH or not plan.has_stamp:
        return frozenset()
    described = plan.selection.crm_object
    calculated = {
        column.source
        for column in plan.shape.kept
        if (field := described.find(column.source)) is not None and field.is_calculated
    }
    return frozenset(
        calculated | {column.source for column in plan.shape.kept if column.filling not in filled}
    )
