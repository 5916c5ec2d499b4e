"""How tests ask a connector for records, and read what comes.

Belongs here: shorthands. Does not belong here: fixtures (conftest.py), assertions.
"""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime

from crm_pipeline.crm.port import ReadRequest, RecordRead
from crm_pipeline.crm.salesforce.bulk import BulkManners
from crm_pipeline.crm.salesforce.connector import SalesforceConnector, connect
from crm_pipeline.crm.salesforce.login import ClientCredentialsLogin, SalesforceLogin
from crm_pipeline.crm.salesforce.wire import Manners
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.sandbox.salesforce.running import RunningOrg

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FEW_FIELDS = ("Id", "LastName", "Email", "SystemModstamp", "IsDeleted")
QUICK = BulkManners(first_poll_seconds=0.01, slowest_poll_seconds=0.05, patience_seconds=20.0)


class Connections:
    """Connectors that a test made."""

    def __init__(self) -> None:
        self._made: list[SalesforceConnector] = []

    def to(
        self,
        org: RunningOrg,
        *,
        login: SalesforceLogin | None = None,
        api_version: str = "62.0",
        api_budget_percent: float | None = None,
        gzip: bool = False,
        bulk: BulkManners = QUICK,
        manners: Manners | None = None,
        check_interrupt: Callable[[], None] | None = None,
    ) -> SalesforceConnector:
        """A connector to the org."""
        connector = connect(
            login or ClientCredentialsLogin(org.url, org.client_id, org.client_secret),
            api_version=api_version,
            api_budget_percent=api_budget_percent,
            ca_file=org.ca_file,
            gzip=gzip,
            bulk=bulk,
            manners=manners,
            check_interrupt=check_interrupt,
        )
        self._made.append(connector)
        return connector

    def close(self) -> None:
        """Close them all."""
        for connector in self._made:
            connector.close()


def ask(
    crm_object: CrmObject,
    *fields: str,
    by: Transport = Transport.AUTO,
    since: datetime | None = None,
    include_deleted: bool = True,
) -> ReadRequest:
    """A request for a few fields."""
    return ReadRequest(
        crm_object,
        fields or FEW_FIELDS,
        changed_since=since,
        include_deleted=include_deleted,
        only_transport=by,
    )


def storable(crm_object: CrmObject) -> tuple[str, ...]:
    """All fields that we could keep."""
    return tuple(one.name for one in crm_object.fields.values() if one.value_type is not None)


def rows_of(pages: bytes) -> list[list[str]]:
    """CSV rows, parsed as PostgreSQL would."""
    return list(csv.reader(io.StringIO(pages.decode(), newline=""), strict=True))


def read_all(read: RecordRead) -> list[list[str]]:
    """All rows of a read, in the order in which they came."""
    return rows_of(b"".join(b"".join(page.chunks()) for page in read.pages()))
