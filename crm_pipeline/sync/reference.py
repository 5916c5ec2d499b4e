"""Reference data: who may own records, how they are assigned, and what drop-downs offer.

Users, queues, their members and assignment rules are records of the CRM like any others; picklist
values are described, not stored, and are turned into records here. All take the one way into a
table. Case queues and case priorities are views over those, since they hold nothing of their own.

Belongs here: which reference tables there are, and from what. Does not belong here: objects that
the operator lists in the settings.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from crm_pipeline.crm.port import (
    CrmConnector,
    ReadRequest,
    RecordRead,
    RecordSource,
    ResumePoint,
)
from crm_pipeline.model.filters import Comparator, Comparison, RecordFilter
from crm_pipeline.model.objects import (
    CrmField,
    CrmObject,
    MappedField,
    ObjectSelection,
    Transport,
    ValueType,
)
from crm_pipeline.model.pages import ResultPage
from crm_pipeline.model.sync import SyncMode, SyncOutcome
from crm_pipeline.sync.engine import SyncEngine, ignore_progress
from crm_pipeline.sync.reading import Report
from crm_pipeline.warehouse.schema import publish_view


@dataclass(frozen=True, slots=True)
class ReferenceDataset:
    """One reference table.

    Attributes:
        source: the CRM object whose records it holds; None for described and derived data.
        fields: what is asked for, as far as the org has it.
        view: a query over other reference tables, for derived data; `{schema}` stands for theirs.
        depends_on: tables that the view reads.
    """

    table: str
    description: str
    source: str | None = None
    fields: tuple[str, ...] = ()
    record_filter: RecordFilter | None = None
    view: str | None = None
    depends_on: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The dataset is named as its table."""
        return self.table


REFERENCE_DATASETS: tuple[ReferenceDataset, ...] = (
    ReferenceDataset(
        "users",
        "People who can own records and send mail: name, address, title, phone and whether they "
        "are active. Deactivated users stay.",
        source="User",
        fields=(
            "Name",
            "FirstName",
            "LastName",
            "Email",
            "Username",
            "Title",
            "Department",
            "CompanyName",
            "Phone",
            "MobilePhone",
            "Street",
            "City",
            "State",
            "PostalCode",
            "Country",
            "IsActive",
            "UserType",
            "TimeZoneSidKey",
            "LanguageLocaleKey",
            "UserRoleId",
            "ProfileId",
            "ManagerId",
        ),
    ),
    ReferenceDataset(
        "queues",
        "Queues that can own records until a person takes them.",
        source="Group",
        fields=("Name", "DeveloperName", "Email", "Type"),
        record_filter=Comparison("Type", Comparator.EQUAL, "Queue"),
    ),
    ReferenceDataset(
        "queue_members",
        "Users and groups in groups and queues.",
        source="GroupMember",
        fields=("GroupId", "UserOrGroupId"),
    ),
    ReferenceDataset(
        "queue_objects",
        "Which objects a queue can own.",
        source="QueueSobject",
        fields=("QueueId", "SobjectType"),
    ),
    ReferenceDataset(
        "assignment_rules",
        "Assignment rules for leads and cases; at most one of each is active.",
        source="AssignmentRule",
        fields=("Name", "SobjectType", "Active"),
    ),
    ReferenceDataset(
        "picklist_values",
        "Drop-down options per object and field: API value, label, whether active and default.",
    ),
    ReferenceDataset(
        "case_queues",
        "Queues that can own cases.",
        view="SELECT q.* FROM {schema}.queues q JOIN {schema}.queue_objects o ON o.queueid = q.id"
        " WHERE o.sobjecttype = 'Case' AND q._deleted_at IS NULL AND o._deleted_at IS NULL",
        depends_on=("queues", "queue_objects"),
    ),
    ReferenceDataset(
        "case_priorities",
        "Priorities that a case can have.",
        view="SELECT value, label, position, is_active, is_default FROM {schema}.picklist_values"
        " WHERE object_name = 'Case' AND field_name = 'Priority' AND _deleted_at IS NULL",
        depends_on=("picklist_values",),
    ),
)


def reference_dataset(name: str) -> ReferenceDataset:
    """The dataset of that name."""
    return next(dataset for dataset in REFERENCE_DATASETS if dataset.name == name)


def sync_reference_dataset(
    engine: SyncEngine, name: str, *, run_id: str, report: Report = ignore_progress
) -> SyncOutcome:
    """Bring one reference table up to date.

    Raises:
        ObjectUnavailable: the org does not show the object behind it.
    """
    dataset = reference_dataset(name)
    if dataset.view is not None:
        return _publish_view(engine, dataset, dataset.view)
    source: RecordSource = engine.connector
    if dataset.source is None:
        crm_object, source = _OPTION, _DescribedOptions(engine.connector, _options(engine))
    else:
        crm_object = engine.connector.describe(dataset.source)
    wanted = dataset.fields if dataset.source else tuple(_OPTION.fields)
    known = [crm_object.fields[n] for n in dict.fromkeys(("Id", *wanted)) if n in crm_object.fields]
    selection = ObjectSelection(
        crm_object,
        dataset.table,
        tuple(MappedField(field, field.name.lower()) for field in known),
        dataset.record_filter,
        Transport.REST,
    )
    return engine.sync_reference(selection, source, run_id=run_id, report=report)


def _publish_view(engine: SyncEngine, dataset: ReferenceDataset, view: str) -> SyncOutcome:
    engine.require_enabled()
    schema = engine.warehouse.crm_schema
    query = sql.SQL(view).format(schema=sql.Identifier(schema))
    with engine.warehouse.connect() as connection:
        publish_view(connection, schema, dataset.table, query, comment=dataset.description)
    return SyncOutcome(dataset.name, f"{schema}.{dataset.table}", SyncMode.REFERENCE)


def _option_field(name: str, value_type: ValueType) -> CrmField:
    return CrmField(name, name.replace("_", " ").capitalize(), value_type, value_type.value)


_OPTION = CrmObject(
    name="picklist_values",
    label="Picklist values",
    fields={
        field.name: field
        for field in (
            CrmField("Id", "Object, field and value", ValueType.IDENTIFIER, "id"),
            _option_field("object_name", ValueType.TEXT),
            _option_field("field_name", ValueType.TEXT),
            _option_field("position", ValueType.INTEGER),
            _option_field("value", ValueType.TEXT),
            _option_field("label", ValueType.TEXT),
            _option_field("is_active", ValueType.BOOLEAN),
            _option_field("is_default", ValueType.BOOLEAN),
        )
    },
)


def _options(engine: SyncEngine) -> list[tuple[str, ...]]:
    """The options of every drop-down of the objects that take part, and of Case for its queues."""
    names = dict.fromkeys((*engine.settings.enabled_objects, "Case"))
    visible = set(engine.connector.object_names())
    return [
        (
            f"{name}.{field.name}.{option.value}",
            name,
            field.name,
            str(position),
            option.value,
            option.label,
            str(option.is_active).lower(),
            str(option.is_default).lower(),
        )
        for name in names
        if name in visible
        for field in engine.connector.describe(name).fields.values()
        for position, option in enumerate(field.options, start=1)
    ]


@dataclass(frozen=True, slots=True)
class _DescribedOptions:
    """A source of records that the CRM describes but does not store; read as one page."""

    connector: CrmConnector
    rows: list[tuple[str, ...]]

    def server_time(self) -> datetime:
        return self.connector.server_time()

    def open_read(self, request: ReadRequest, *, resume: ResumePoint | None = None) -> RecordRead:
        del request, resume
        return _OptionsRead(self.rows)

    def forget(self, token: str) -> None:
        del token


@dataclass(frozen=True, slots=True)
class _OptionsRead:
    """The one page, open."""

    rows: list[tuple[str, ...]]
    transport: Transport = Transport.REST
    reason: str = "Read from describe, which is needed anyway"
    token: str = "describe"  # noqa: S105 - names a read, opens nothing

    @property
    def record_count(self) -> int:
        return len(self.rows)

    def pages(self) -> Iterator[ResultPage]:
        yield _OptionsPage(self.rows)

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _OptionsPage:
    """All options as CSV."""

    rows: list[tuple[str, ...]]
    key: str = "all"
    columns: tuple[str, ...] = tuple(_OPTION.fields)
    replaced_characters: int = 0  # describe.py reads no text that cannot be kept

    @property
    def record_count(self) -> int:
        return len(self.rows)

    def chunks(self) -> Iterator[bytes]:
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(self.rows)
        yield text.getvalue().encode()
