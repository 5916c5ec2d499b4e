"""What of an object is synced: the operator's choice held against the org as it is now.

Belongs here: joining settings and describe, and what that means for rows synced earlier. Does not
belong here: reading settings (config/) and describing (crm/).
"""

from datetime import datetime, timedelta

from crm_pipeline.config.fingerprint import filter_fingerprint
from crm_pipeline.config.mapping import relationship_paths, resolve_readable_selection
from crm_pipeline.config.object_settings import ObjectSettings
from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import ConfigurationError, FieldUnavailable
from crm_pipeline.model.objects import ObjectSelection
from crm_pipeline.warehouse.ledger import Completeness, ObjectState


def select_object(
    settings: Settings, connector: CrmConnector, object_name: str
) -> tuple[ObjectSelection, tuple[str, ...]]:
    """Describe an object and resolve its mapping.

    Returns:
        The selection, and mapped fields that the org does not show us; the rest can be synced.

    Raises:
        ObjectUnavailable: the org does not show the object.
        ConfigurationError: the object is not in the settings, or is switched off there.
    """
    chosen = chosen_object(settings, object_name)
    crm_object = connector.describe(object_name)
    hidden: list[str] = []
    for path in relationship_paths(chosen):
        try:
            crm_object = connector.describe_path(crm_object, path)
        except FieldUnavailable as error:
            hidden.extend(error.fields)
    selection, broken = resolve_readable_selection(chosen, crm_object)
    return selection, tuple(dict.fromkeys((*broken, *hidden)))


def chosen_object(settings: Settings, object_name: str) -> ObjectSettings:
    """What the operator chose for one object.

    Raises:
        ConfigurationError: the object is not in the settings, or is switched off there.
    """
    chosen = settings.enabled_objects.get(object_name)
    if chosen is None:
        raise ConfigurationError(
            f"{object_name} is not among the objects that take part in syncs "
            f"({', '.join(settings.enabled_objects)}). Add it under `objects:` in the settings "
            "file, or set `enabled: true` there."
        )
    return chosen


HARD_DELETES_FORGOTTEN_AFTER = timedelta(days=15)
"""A CRM keeps deleted records that long at most; older deletions leave no trace to read."""
_HORIZON = "no sync ran for more than 15 days, so deletions may have been missed"


def completeness_after(
    selection: ObjectSelection,
    state: ObjectState,
    *,
    everything_was_read: bool,
    read_started_at: datetime,
) -> Completeness:
    """What holds for every row after a sync commits.

    A differential cannot fill a newly mapped field in rows that did not change, nor judge them by a
    new filter: it says so, and goes on.
    """
    record_filter = filter_fingerprint(selection.record_filter)
    fields = [mapped.field.name for mapped in selection.columns]
    if everything_was_read:
        return Completeness(record_filter, fields)
    unfilled = [name for name in fields if name not in state.fields]
    reasons = []
    if unfilled:
        reasons.append(f"newly mapped and not yet filled for older rows: {', '.join(unfilled)}")
    if state.record_filter != record_filter:
        reasons.append("the record filter changed, and older rows were judged by the former one")
    was_missed = _HORIZON in (state.full_sync_due_reason or "")
    gap = read_started_at - (state.watermark or read_started_at)
    if was_missed or gap > HARD_DELETES_FORGOTTEN_AFTER:
        reasons.append(_HORIZON)
    return Completeness(
        state.record_filter or record_filter,
        [name for name in fields if name in state.fields],
        "; ".join(reasons) or None,
    )
