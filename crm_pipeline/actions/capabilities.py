"""What actions can do in the CRM at hand, as our user: which objects, by which keys and options.

Belongs here: that answer, from describe. Does not belong here: judging one action (deciding.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import ObjectUnavailable
from crm_pipeline.model.actions import MEMBER, PEOPLE
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import OnDuplicate

OFFERED = ("Lead", "Contact", "Account", "Opportunity", "Task", "Case", "CampaignMember")
"""Objects that people ask for most; those of the settings come beside them."""


@dataclass(frozen=True, slots=True)
class Capability:
    """What actions can do with one object.

    Attributes:
        can_create: our user may, the object is among the settings', and it has the key field.
        can_update: our user may, and the object is among the settings'.
        upsert_keys: fields by which a record is made or found.
        found_by: what a record is found by, besides its id.
        required: fields without which none is made.
        assignment: what the option takes; empty where the object has no rules.
        on_duplicate: what that option takes.
        lacks: what keeps it from being created or updated, in sentences.
    """

    object_name: str
    can_create: bool = False
    can_update: bool = False
    upsert_keys: tuple[str, ...] = ()
    found_by: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    assignment: tuple[str, ...] = ()
    on_duplicate: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


def capabilities(
    settings: Settings, connector: CrmConnector, rules: Mapping[str, str]
) -> tuple[Capability, ...]:
    """What can be done with each object; a call for each.

    Args:
        settings: which objects take part.
        connector: the CRM.
        rules: the object of each assignment rule, by its id.
    """
    names = dict.fromkeys((*OFFERED, *settings.enabled_objects))
    return tuple(_capability(settings, connector, rules, name) for name in names)


def _capability(
    settings: Settings, connector: CrmConnector, rules: Mapping[str, str], name: str
) -> Capability:
    try:
        crm_object = connector.describe(name)
    except ObjectUnavailable as error:
        return Capability(name, lacks=(str(error),))
    lacks = _lacks(settings, connector, crm_object)
    is_chosen = name in settings.enabled_objects
    key_field = settings.write_backs.key_field
    has_key = connector.key_refusal(crm_object, key_field) is None
    own = tuple(rule for rule, object_name in rules.items() if object_name == name)
    fields = crm_object.fields.values()
    return Capability(
        name,
        can_create=is_chosen and has_key and "create" in crm_object.allowed_changes,
        can_update=is_chosen and "edit" in crm_object.allowed_changes,
        upsert_keys=tuple(
            one.name
            for one in fields
            if one.is_external_id and connector.key_refusal(crm_object, one.name) is None
        ),
        found_by=_found_by(name),
        required=tuple(one.name for one in fields if one.is_required),
        assignment=("none", "default", *own) if own else (),
        on_duplicate=tuple(one.value for one in OnDuplicate),
        lacks=lacks,
    )


def _lacks(settings: Settings, connector: CrmConnector, crm_object: CrmObject) -> tuple[str, ...]:
    found = []
    if crm_object.name not in settings.enabled_objects:
        found.append("It is not among the objects of the settings.")
    found += [
        f"Our user may not {word} its records."
        for word in ("create", "edit")
        if word not in crm_object.allowed_changes
    ]
    without_key = connector.key_refusal(crm_object, settings.write_backs.key_field)
    if without_key is not None:
        found.append(str(without_key.remedy))
    return tuple(found)


def _found_by(name: str) -> tuple[str, ...]:
    if name in PEOPLE:
        return ("e-mail",)
    return ("campaign and person",) if name == MEMBER else ()
