"""Preflight: everything that would stop a sync, found before the first row moves.

It asks the CRM and the warehouse the questions that a sync would stumble over later, goes on after
each bad answer, and returns all of them with a remedy each. Nothing is written on either side.

Belongs here: a condition that the operator can mend and that we can see beforehand. Does not belong
here: how findings are shown (cli/).
"""

from collections.abc import Callable, Iterator, Mapping

import psycopg

from crm_pipeline.config.mapping import relationship_paths, resolve_selection
from crm_pipeline.config.names import did_you_mean, listed
from crm_pipeline.config.object_settings import ObjectSettings
from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector, OrgIdentity, ReadRequest
from crm_pipeline.errors import (
    CrmPipelineError,
    FieldUnavailable,
    ObjectUnavailable,
    TransientError,
)
from crm_pipeline.model.objects import CrmObject, Direction, ObjectSelection
from crm_pipeline.sync.findings import Finding, Severity, fine, problem
from crm_pipeline.sync.preflight_writing import (
    default_owner,
    is_written,
    left_out,
    writing_of,
)
from crm_pipeline.sync.reference import REFERENCE_DATASETS
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.fitting import (
    Fate,
    columns_left,
    fate_of,
    set_aside_name,
)
from crm_pipeline.warehouse.schema import (
    MAXIMUM_ROW_BYTES,
    TableShape,
    column_types,
    table_shape,
)


def run_preflight(
    settings: Settings, connector: CrmConnector, open_warehouse: Callable[[], Warehouse]
) -> tuple[Finding, ...]:
    """Look at everything a sync needs; each finding says what to do.

    The connector need not be logged in, and the warehouse that is opened need not be migrated.
    """
    findings: list[Finding] = []
    if not settings.syncs_enabled:
        findings.append(
            Finding(
                Severity.NOTICE,
                "settings",
                "Syncs are disabled: nothing moves in either direction.",
                "Set `syncs_enabled: true` in the settings file when you want them to run.",
            )
        )
    identity: OrgIdentity | None = None
    try:
        identity = connector.identity()
        findings.append(
            fine(
                "CRM",
                f"Logged in to {identity.organization_name} ({identity.organization_id}) as "
                f"{identity.user_name}.",
            )
        )
    except TransientError as error:
        remedy = "Check the login address (SALESFORCE_LOGIN_URL) and the network, then try again."
        findings.append(problem("CRM", str(error), remedy))
    except CrmPipelineError as error:
        findings.append(problem("CRM", str(error)))
    warehouse: Warehouse | None = None
    try:
        opened = open_warehouse()
        findings.extend(_warehouse(opened, identity))
        warehouse = opened
    except CrmPipelineError as error:
        findings.append(problem("warehouse", str(error)))
    if identity is not None:
        findings.extend(_crm(settings, connector, warehouse))
    return tuple(findings)


def _warehouse(warehouse: Warehouse, identity: OrgIdentity | None) -> Iterator[Finding]:
    warehouse.require_supported_server()
    with warehouse.connect(autocommit=True) as connection:
        version = connection.info.server_version // 10_000
        database = connection.info.dbname
        tables = column_types(connection, "crm_sync", "organization")
        if tables:
            yield fine("warehouse", f"PostgreSQL {version}, database {database}, is set up.")
            yield from _owner(connection, identity)
            return
        row = connection.execute(
            "SELECT has_database_privilege(current_user, current_database(), 'CREATE'),"
            " current_user"
        ).fetchone()
    assert row is not None
    if row[0]:
        yield Finding(
            Severity.NOTICE,
            "warehouse",
            f"PostgreSQL {version}, database {database}, holds no control tables yet.",
            "Nothing to do: the first sync creates them.",
        )
    else:
        yield problem(
            "warehouse",
            f"The user {row[1]} may not create schemas in database {database}.",
            f'Run: GRANT CREATE ON DATABASE "{database}" TO "{row[1]}".',
        )


def _owner(connection: psycopg.Connection, identity: OrgIdentity | None) -> Iterator[Finding]:
    row = connection.execute(
        "SELECT organization_id, organization_name FROM crm_sync.organization"
    ).fetchone()
    if row is not None and identity is not None and row[0] != identity.organization_id:
        yield problem(
            "warehouse",
            f"It holds the data of {row[1]} ({row[0]}), but the credentials lead to "
            f"{identity.organization_name} ({identity.organization_id}).",
            "Use another database for another organisation.",
        )


def _crm(
    settings: Settings, connector: CrmConnector, warehouse: Warehouse | None
) -> Iterator[Finding]:
    try:
        visible = connector.object_names()
        for name in settings.enabled_objects:
            try:
                yield from _object(settings, connector, warehouse, visible, name)
            except CrmPipelineError as error:
                yield problem(name, str(error))
        yield from left_out(settings)
        yield from default_owner(settings, connector)
        if settings.reference_data:
            yield from _reference_data(visible)
        yield from _excess_permissions(connector)
        yield from _api_budget(settings, connector)
    except CrmPipelineError as error:
        yield problem("CRM", str(error))


def _object(
    settings: Settings,
    connector: CrmConnector,
    warehouse: Warehouse | None,
    visible: tuple[str, ...],
    name: str,
) -> Iterator[Finding]:
    chosen = settings.objects[name]
    if name not in visible:
        near = did_you_mean(name, visible)
        yield problem(
            name,
            "The org has no such object, or hides it from the integration user"
            + (f"; did you mean {near}?" if near else "."),
            "Correct the name under `objects:`, or give the integration user's permission set Read "
            "and View All on the object.",
        )
        return
    crm_object, hidden = _described(connector, name, chosen)
    yield from hidden
    try:
        selection = resolve_selection(chosen, crm_object)
    except CrmPipelineError as error:
        fields = error.fields if isinstance(error, FieldUnavailable) else (name,)
        # Paths that lead nowhere were named one by one already.
        if not set(fields) <= set(relationship_paths(chosen)):
            yield problem(name, str(error))
        return
    findings = [
        *_writable(selection),
        *_calculated(selection),
        *_masked(selection),
        *_excess(settings, selection),
        *writing_of(settings, connector, crm_object),
    ]
    if warehouse is not None:
        findings.extend(_table(selection, warehouse))
    request = ReadRequest(
        crm_object, (crm_object.id_field,), selection.record_filter, include_deleted=False
    )
    try:
        count = connector.count(request)  # the org's own parser is the judge of the filter
        if not any(f.severity is Severity.PROBLEM for f in findings):
            yield fine(name, f"{count:,} records, {len(selection.columns)} mapped fields.")
    except CrmPipelineError as error:
        yield problem(name, str(error), f"Look at `objects.{name}.filter`.")
    yield from findings


def _described(
    connector: CrmConnector, name: str, chosen: ObjectSettings
) -> tuple[CrmObject, tuple[Finding, ...]]:
    """The object with its relationship paths, and the paths that lead nowhere."""
    crm_object = connector.describe(name)
    findings = []
    for path in relationship_paths(chosen):
        try:
            crm_object = connector.describe_path(crm_object, path)
        except FieldUnavailable as error:
            findings.append(problem(name, str(error)))
    return crm_object, tuple(findings)


def _writable(selection: ObjectSelection) -> Iterator[Finding]:
    refused = [
        mapped.field.name
        for mapped in selection.columns
        if mapped.direction is not Direction.DOWN and not mapped.field.is_updateable
    ]
    if refused:
        yield problem(
            selection.name,
            f"The integration user may not edit {listed(refused)}, which the mapping writes.",
            "Give its permission set Edit on the field, or write `direction: down`.",
        )


def _calculated(selection: ObjectSelection) -> Iterator[Finding]:
    found = [m.field.name for m in selection.columns if m.field.is_calculated]
    if found:
        yield Finding(
            Severity.NOTICE,
            selection.name,
            f"{listed(found)} change without the record being marked as changed.",
            "The refresh reads them once a day by itself; differentials only with the record.",
        )


def _masked(selection: ObjectSelection) -> Iterator[Finding]:
    found = [m.field.name for m in selection.columns if m.field.may_be_masked]
    if found:
        yield Finding(
            Severity.NOTICE,
            selection.name,
            f"{listed(found)} may arrive masked, and the mask is stored as if it were the value.",
            "Give the integration user the permission View Encrypted Data, or map other fields.",
        )


def _table(selection: ObjectSelection, warehouse: Warehouse) -> Iterator[Finding]:
    """What PostgreSQL will say to the shape: its walls, and the table that is there already."""
    shape = table_shape(selection, warehouse.crm_schema)
    if shape.widest_row_bytes > MAXIMUM_ROW_BYTES:
        yield Finding(
            Severity.NOTICE,
            selection.name,
            f"A record that fills all {len(selection.columns)} mapped fields is wider than a row "
            f"of PostgreSQL ({MAXIMUM_ROW_BYTES:,} bytes); such records go to the quarantine.",
            f"Map fewer fields in `objects.{selection.name}.fields`, and watch the quarantine.",
        )
    with warehouse.connect(autocommit=True) as connection:
        present = column_types(connection, shape.schema, shape.table)
        left = columns_left(connection, shape.schema, shape.table)
    if not present:
        return
    if "_synced_at" not in present:
        yield problem(
            selection.name,
            f"{shape.schema}.{shape.table} exists already and was not made by CRM Pipeline.",
            f"Move it away, or name another table with `objects.{selection.name}.table`.",
        )
        return
    yield from _retyped(selection.name, shape, present)
    beyond = [c.source for c in shape.kept if c.name not in present][left:]
    if beyond:
        yield problem(
            selection.name,
            f"{shape.schema}.{shape.table} has no room for {listed(beyond)}: PostgreSQL allows "
            "1,600 columns, dropped ones included.",
            "Rename the table and launch a full sync, which makes a new one, or take the fields "
            f"out of `objects.{selection.name}.fields`.",
        )


def _retyped(name: str, shape: TableShape, present: Mapping[str, str]) -> Iterator[Finding]:
    """Columns whose type is not what the CRM describes now; each has its way, so none is fatal."""
    for column in shape.kept:
        found = present.get(column.name, column.column_type)
        if found == column.column_type:
            continue
        match fate_of(found, column.column_type):
            case Fate.KEEP_WIDER:
                continue
            case Fate.WIDEN:
                remedy = f"Nothing to do: the next sync widens it to {column.column_type}."
            case Fate.SET_ASIDE:
                former = set_aside_name(column.name, found, present)
                remedy = (
                    f"Nothing to do: the next sync keeps the old values in `{former}` and fills a "
                    f"new `{column.name}`. A full sync fills the older rows."
                )
        yield Finding(
            Severity.NOTICE,
            name,
            f"{shape.schema}.{shape.table}.{column.name} holds {found}, but the CRM describes "
            f"{column.source} as {column.column_type}.",
            remedy,
        )


def _reference_data(visible: tuple[str, ...]) -> Iterator[Finding]:
    wanted = dict.fromkeys(d.source for d in REFERENCE_DATASETS if d.source)
    hidden = [name for name in wanted if name not in visible]
    if hidden:
        yield problem(
            "reference data",
            f"The integration user may not see {listed(hidden)}.",
            "Give it the permission View Setup and Configuration, or write "
            "`reference_data: false`.",
        )


def _excess(settings: Settings, selection: ObjectSelection) -> Iterator[Finding]:
    """Rights on an object that no sync needs: a stolen token can do what its user can."""
    goes_up = any(m.direction is not Direction.DOWN for m in selection.columns)
    is_needed = goes_up or is_written(settings, selection.crm_object)
    needed = ("create", "edit") if is_needed else ()
    found = [word for word in selection.crm_object.allowed_changes if word not in needed]
    if found:
        yield Finding(
            Severity.NOTICE,
            selection.name,
            f"The integration user may {listed(found)} its records; no sync needs that.",
            "Take the right out of its permission set: a stolen token can do what its user can.",
        )


def _excess_permissions(connector: CrmConnector) -> Iterator[Finding]:
    """The same over the whole organisation."""
    try:
        found = connector.excess_permissions()
    except ObjectUnavailable:
        return  # whoever may not see its own permissions has few
    if found:
        yield Finding(
            Severity.NOTICE,
            "permissions",
            f"The integration user has {listed(found)}; no sync needs that.",
            "Take it out of its profile and permission sets; docs/how-to/own-org.md lists what it "
            "needs.",
        )


def _api_budget(settings: Settings, connector: CrmConnector) -> Iterator[Finding]:
    usage = connector.usage
    if usage.used_today is None or not usage.daily_limit:
        return
    allowed = usage.daily_limit * settings.crm.api_budget_percent // 100
    sentence = (
        f"{usage.used_today:,} of the org's {usage.daily_limit:,} daily API calls are used; we "
        f"stop at {allowed:,} ({settings.crm.api_budget_percent} %)."
    )
    if usage.used_today >= allowed:
        yield problem(
            "API budget",
            sentence,
            "Wait until calls are free again, or raise `crm.api_budget_percent`.",
        )
    else:
        yield fine("API budget", sentence)
