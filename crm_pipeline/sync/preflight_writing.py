"""Preflight of the way to the CRM: fields, rights and owner that write-backs will meet.

Belongs here: what would park a write-back and can be seen beforehand. Does not belong here: reading
(preflight.py), and mending it (writeback/field_setup.py).
"""

from collections.abc import Iterator

from crm_pipeline.config.names import listed
from crm_pipeline.config.settings import Settings
from crm_pipeline.config.wanted_fields import wanted_fields
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.wanted_fields import FieldState, WantedField
from crm_pipeline.sync.findings import Finding, notice, problem

_MAKES_FIELDS = "`crm-pipeline write-backs fields`"
_MENDED_BY_US = frozenset({FieldState.LACKING, FieldState.READ_ONLY})


def is_written(settings: Settings, crm_object: CrmObject) -> bool:
    """Whether records of an object are changed by write-backs, or can be made by actions.

    The key field tells of the latter: nobody has it who makes no records.
    """
    return bool(_wanted_on(settings, crm_object.name)) or _has_key(settings, crm_object)


def writing_of(
    settings: Settings, connector: CrmConnector, crm_object: CrmObject
) -> Iterator[Finding]:
    """Fields of one object that cannot be written as they are, and rights that are missing."""
    wanted = _wanted_on(settings, crm_object.name)
    for one in wanted:
        found = connector.judge_field(crm_object, one)
        if not found.can_be_written:
            is_ours = found.state in _MENDED_BY_US
            remedy = f"Run {_MAKES_FIELDS}. If it may not: {found.remedy}"
            yield problem(
                crm_object.name,
                f"{found.reason} {one.setting} writes it.",
                remedy if is_ours else found.remedy,
            )
    if wanted and "edit" not in crm_object.allowed_changes:
        settings_named = listed(list(dict.fromkeys(one.setting for one in wanted)))
        yield problem(
            crm_object.name,
            f"The integration user may not edit its records, which {settings_named} writes.",
            f"Give its permission set Edit on {crm_object.name}.",
        )
    if _has_key(settings, crm_object):
        yield from _creating(settings, connector, crm_object)


def left_out(settings: Settings) -> Iterator[Finding]:
    """Write-backs of objects that the settings leave alone: nothing is written there."""
    by_object: dict[str, list[str]] = {}
    for one in wanted_fields(settings):
        if one.object_name not in settings.enabled_objects:
            by_object.setdefault(one.object_name, []).append(one.setting)
    for name, found in by_object.items():
        yield notice(
            name,
            f"{listed(found)} names a field of {name}, which is not among the enabled objects: "
            "nothing is written to it.",
            f"Add {name} under `objects:`, or write `{name}: null` in that setting.",
        )


def default_owner(settings: Settings, connector: CrmConnector) -> Iterator[Finding]:
    """A default owner who could not own a record either."""
    owner = settings.write_backs.default_owner
    if owner is not None and (reason := connector.owner_refusal(owner)) is not None:
        yield problem(
            "write-backs", reason, "Name an active user or a queue in `write_backs.default_owner`."
        )


def _creating(
    settings: Settings, connector: CrmConnector, crm_object: CrmObject
) -> Iterator[Finding]:
    refusal = connector.key_refusal(crm_object, settings.write_backs.key_field)
    if refusal is not None:
        yield notice(crm_object.name, refusal.reason or "", refusal.remedy or "")
    if "create" not in crm_object.allowed_changes:
        yield notice(
            crm_object.name,
            f"It has the key field {settings.write_backs.key_field}, but the integration user may "
            "not create its records.",
            f"Give its permission set Create on {crm_object.name}, if actions shall make records.",
        )


def _wanted_on(settings: Settings, object_name: str) -> list[WantedField]:
    return [one for one in wanted_fields(settings) if one.object_name == object_name]


def _has_key(settings: Settings, crm_object: CrmObject) -> bool:
    return crm_object.find(settings.write_backs.key_field) is not None
