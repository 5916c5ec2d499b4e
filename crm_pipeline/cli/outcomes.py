"""What one run did, object by object: the table and the JSON at the end of every sync.

Belongs here: reading it from the ledger and showing it. Does not belong here: running (sync.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql
from rich.console import Console

from crm_pipeline.cli.console import table_of
from crm_pipeline.errors import CrmPipelineError, PermanentError, UsageError
from crm_pipeline.warehouse import ledger
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import is_relation

COLUMNS = {
    "object_name": "Object",
    "mode": "Mode",
    "status": "Result",
    "records_read": "Read",
    "inserted": "Inserted",
    "updated": "Updated",
    "deleted": "Deleted",
    "rejected": "Rejected",
    "rows_in_table": "Rows in table",
    "seconds": "Seconds",
    "api_calls": "API calls",
    "transport": "Transport",
}


@dataclass(frozen=True, slots=True)
class RunReport:
    """One finished run.

    Attributes:
        objects: one row per object that the run touched.
        failures: what stopped objects, as errors that say what to do.
    """

    run_id: str
    job: str
    objects: Sequence[Mapping[str, object]]
    failures: Sequence[CrmPipelineError]
    is_success: bool

    def document(self) -> dict[str, object]:
        """The report as JSON."""
        return {
            "run_id": self.run_id,
            "job": self.job,
            "is_success": self.is_success,
            "objects": list(self.objects),
            "errors": [str(failure) for failure in self.failures],
        }

    def show(self, console: Console) -> None:
        """The report as a table."""
        if self.objects:
            console.print(table_of(self.objects, COLUMNS), soft_wrap=False)

    def require_success(self) -> None:
        """Raise what stopped the run.

        Raises:
            UsageError: every failure can be mended by the operator's settings.
            PermanentError: something else went wrong.
        """
        if self.is_success:
            return
        sentences = "\n".join(dict.fromkeys(str(failure) for failure in self.failures))
        sentences = sentences or (
            f"The run {self.run_id} did not succeed; its log is in the Dagster UI: crm-pipeline up"
        )
        if self.failures and all(isinstance(failure, UsageError) for failure in self.failures):
            raise UsageError(sentences)
        raise PermanentError(sentences)


def report_of(
    warehouse: Warehouse,
    run_id: str,
    job: str,
    *,
    is_success: bool,
    failures: Sequence[CrmPipelineError] = (),
    expected_objects: Sequence[str] = (),
) -> RunReport:
    """What the ledger says about a run.

    Args:
        warehouse: already migrated.
        run_id: of the run.
        job: its job's name.
        is_success: what Dagster thinks of it.
        failures: of its steps.
        expected_objects: those that must have committed for the run to be a success.
    """
    objects = [_with_rows(warehouse, row) for row in ledger.outcomes_of(warehouse, run_id)]
    committed = {row["object_name"] for row in objects if row["status"] == "committed"}
    missing = [name for name in expected_objects if name not in committed]
    told = list(failures)
    if missing and not told:
        told = [PermanentError(f"Nothing was committed for {', '.join(missing)}.")]
    return RunReport(run_id, job, objects, told, is_success and not missing)


def _with_rows(warehouse: Warehouse, row: dict[str, object]) -> dict[str, object]:
    table = sql.Identifier(warehouse.crm_schema, str(row["table_name"]))
    with warehouse.connect(autocommit=True) as connection:
        if not is_relation(connection, table):
            return {**row, "rows_in_table": 0}
        query = sql.SQL("SELECT count(*) FROM {} WHERE _deleted_at IS NULL").format(table)
        found = connection.execute(query).fetchone()
    return {**row, "rows_in_table": found[0] if found else 0}
