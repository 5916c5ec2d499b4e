"""The operator's choice for one object, joined with what the CRM says about it.

Holds the resolution of field names against a describe. Belongs here: whether a chosen field exists,
can be stored and can be filtered by. Does not belong here: asking the CRM (crm/), column types
(warehouse/schema.py), and what the file alone can tell (settings.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from crm_pipeline.config.names import default_column, did_you_mean, listed, printable
from crm_pipeline.config.object_settings import FieldMapping, ObjectSettings
from crm_pipeline.errors import ConfigurationError, FieldUnavailable
from crm_pipeline.model.filters import All, Any, Comparison, Not, RecordFilter, fields_of
from crm_pipeline.model.objects import (
    CrmField,
    CrmObject,
    Direction,
    MappedField,
    ObjectSelection,
)

_COMPONENTS = (
    "Street",
    "City",
    "State",
    "StateCode",
    "PostalCode",
    "Country",
    "CountryCode",
    "Latitude",
    "Longitude",
    "GeocodeAccuracy",
)


def relationship_paths(object_settings: ObjectSettings) -> tuple[str, ...]:
    """Paths over relationships in the mapping and the filter, each once, as the operator spelt it.

    The caller adds each to the object through the connector's `describe_path` before it resolves.
    """
    names = (*(m.field for m in object_settings.fields), *_filter_fields(object_settings))
    return _once(name for name in names if "." in name)


def resolve_selection(object_settings: ObjectSettings, crm_object: CrmObject) -> ObjectSelection:
    """The choice as values that every room works with; names get the case that the CRM uses.

    Args:
        object_settings: the section of the settings file.
        crm_object: the object as described now, relationship paths added.

    Raises:
        FieldUnavailable: mapped or filtered fields are unknown or hidden; all of them at once.
        ConfigurationError: fields cannot be stored or filtered by.
    """
    found = _sort(object_settings, crm_object)
    unknown_filters = _unknown_filter_fields(object_settings, crm_object)
    if found.unknown or unknown_filters:
        raise _unavailable(crm_object, (*found.unknown, *unknown_filters))
    if found.unstorable:
        raise ConfigurationError(
            "\n".join(_why_unstorable(crm_object, field) for field in found.unstorable)
        )
    return _selection(object_settings, crm_object, found.mapped)


def resolve_readable_selection(
    object_settings: ObjectSettings, crm_object: CrmObject
) -> tuple[ObjectSelection, tuple[str, ...]]:
    """The choice without its broken fields, and those fields as the operator spelt them.

    A field that is removed, hidden or retyped to something that cannot be stored must not stop the
    object's other fields: they sync on, and the caller tells that the run is not whole.

    Raises:
        FieldUnavailable: the id or a field of the filter is unknown or hidden; to leave a condition
            out would read records that the operator excluded.
        ConfigurationError: a field of the filter cannot be filtered by.
    """
    found = _sort(object_settings, crm_object)
    unknown_filters = _unknown_filter_fields(object_settings, crm_object)
    has_id = bool(found.mapped) and found.mapped[0].field.name == crm_object.id_field
    if unknown_filters or not has_id:
        ids = () if has_id else (crm_object.id_field,)
        raise _unavailable(crm_object, (*ids, *unknown_filters))
    broken = (*found.unknown, *(field.name for field in found.unstorable))
    return _selection(object_settings, crm_object, found.mapped), broken


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The fields of one choice by what can be done with them."""

    mapped: tuple[MappedField, ...]
    unknown: tuple[str, ...]
    unstorable: tuple[CrmField, ...]


def _sort(object_settings: ObjectSettings, crm_object: CrmObject) -> _Sorted:
    id_mapping, *others = object_settings.columns
    # Another CRM may call its key otherwise; the operator's `Id` means the key.
    first = id_mapping.model_copy(update={"field": crm_object.id_field})
    chosen: list[tuple[FieldMapping, CrmField | None]] = [
        (mapping, crm_object.find(mapping.field)) for mapping in (first, *others)
    ]
    return _Sorted(
        mapped=tuple(
            MappedField(field, mapping.column, mapping.direction)
            for mapping, field in chosen
            if field and field.value_type
        ),
        unknown=tuple(mapping.field for mapping, field in chosen if not field),
        unstorable=tuple(field for _, field in chosen if field and not field.value_type),
    )


def _selection(
    object_settings: ObjectSettings, crm_object: CrmObject, mapped: tuple[MappedField, ...]
) -> ObjectSelection:
    record_filter = object_settings.record_filter
    if record_filter is not None:
        record_filter = _canonical(record_filter, crm_object)
        _require_filterable(record_filter, crm_object)
    columns = tuple(m for m in mapped if m.direction is not Direction.UP)
    return ObjectSelection(
        crm_object=crm_object,
        table=object_settings.table_name(crm_object.name),
        columns=(*columns, *_currency(crm_object, columns)),
        record_filter=record_filter,
        transport=object_settings.transport,
    )


def _currency(crm_object: CrmObject, columns: tuple[MappedField, ...]) -> tuple[MappedField, ...]:
    """The code without which an amount means nothing, where the operator did not map it herself."""
    code = crm_object.find(crm_object.currency_field) if crm_object.currency_field else None
    has_amount = any(m.field.is_amount for m in columns)
    if code is None or not has_amount or any(m.field.name == code.name for m in columns):
        return ()
    column = default_column(code.name)
    return () if any(m.column == column for m in columns) else (MappedField(code, column),)


def _filter_fields(object_settings: ObjectSettings) -> Iterator[str]:
    if object_settings.record_filter is not None:
        yield from fields_of(object_settings.record_filter)


def _unknown_filter_fields(
    object_settings: ObjectSettings, crm_object: CrmObject
) -> tuple[str, ...]:
    names = _filter_fields(object_settings)
    return tuple(name for name in names if crm_object.find(name) is None)


def _canonical(record_filter: RecordFilter, crm_object: CrmObject) -> RecordFilter:
    """The filter with field names in the CRM's own case."""
    match record_filter:
        case Comparison(field=name):
            field = crm_object.find(name)
            return replace(record_filter, field=field.name if field else name)
        case All(parts=parts):
            return All(tuple(_canonical(part, crm_object) for part in parts))
        case Any(parts=parts):
            return Any(tuple(_canonical(part, crm_object) for part in parts))
        case Not(part=part):
            return Not(_canonical(part, crm_object))


def _require_filterable(record_filter: RecordFilter, crm_object: CrmObject) -> None:
    found = [crm_object.find(name) for name in fields_of(record_filter)]
    refused = _once(field.name for field in found if field and not field.is_filterable)
    if refused:
        raise ConfigurationError(
            f"{crm_object.name}: the CRM cannot filter by {listed(refused)}; write the "
            f"condition in `objects.{crm_object.name}.filter` with other fields."
        )


def _unavailable(crm_object: CrmObject, names: Iterable[str]) -> FieldUnavailable:
    """The error that names every field that is not there, with its nearest neighbour."""
    missing = _once(names)
    hints = [
        f"`{printable(name)}`" + (f" (did you mean `{printable(near)}`?)" if near else "")
        for name in missing
        for near in [did_you_mean(name, crm_object.fields)]
    ]
    does = "does not exist, or is" if len(missing) == 1 else "do not exist, or are"
    return FieldUnavailable(
        crm_object.name,
        missing,
        f"{crm_object.name}: {', '.join(hints)} {does} hidden from the integration user. Correct "
        f"the spelling in `objects.{crm_object.name}`, or check the field-level security: in "
        "Salesforce's Setup, open Object Manager, the object, Fields & Relationships, the field, "
        "Set Field-Level Security, and make it visible to the integration user's profile or "
        "permission set.",
    )


def _once(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, whatever its case."""
    by_folded: dict[str, str] = {}
    for name in names:
        by_folded.setdefault(name.casefold(), name)
    return tuple(by_folded.values())


def _why_unstorable(crm_object: CrmObject, field: CrmField) -> str:
    """What to do about a field that fits in no column."""
    start = f"{crm_object.name}: `{field.name}` ({field.native_type}) cannot be stored; "
    parts = _components(crm_object, field)
    if parts:
        return f"{start}it is made of other fields, so map {listed(parts)} instead."
    return f"{start}remove it from `objects.{crm_object.name}.fields`."


def _components(crm_object: CrmObject, field: CrmField) -> tuple[str, ...]:
    """The fields that a compound field puts together, by the CRM's naming habits."""
    if field.native_type.lower() not in {"address", "location"}:
        return ()
    if field.name.endswith("__c"):
        stem, ending = f"{field.name.removesuffix('__c')}__", "__s"
    else:
        stem, ending = field.name.removesuffix("Address"), ""
    names = (f"{stem}{component}{ending}" for component in _COMPONENTS)
    found = (crm_object.find(name) for name in names)
    return tuple(part.name for part in found if part and part.value_type)
