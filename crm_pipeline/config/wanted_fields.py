"""Which fields the enabled write-backs need in the CRM, as the settings say it.

Belongs here: the list. Does not belong here: whether a field is there (crm/<vendor>/), and making
it (writeback/field_setup.py).
"""

from collections.abc import Collection, Iterator

from crm_pipeline.config.settings import Settings
from crm_pipeline.config.write_back_settings import FieldsOfPeople
from crm_pipeline.model.wanted_fields import FieldKind, WantedField

_PATH = "write_backs"
_OURS = "Written by CRM Pipeline. Do not edit it by hand."


def wanted_fields(settings: Settings, *, key_field_on: Collection[str] = ()) -> list[WantedField]:
    """Fields of every write-back that is enabled, and the key field where records are created.

    That is where it is asked for, and where a rule for actions creates any.

    Objects that are not enabled are among them: whether something can be written to these is
    another question.
    """
    chosen = settings.write_backs
    found: list[WantedField] = []
    if chosen.consent.direction.is_written:
        consent = chosen.consent
        found += _each(
            consent.unsubscribed, FieldKind.CHECKBOX, "Email Opt Out", "consent.unsubscribed"
        )
        found += _each(
            consent.hard_bounced, FieldKind.CHECKBOX, "Email Hard Bounced", "consent.hard_bounced"
        )
    if chosen.lead_scores.enabled:
        fields = chosen.lead_scores.fields
        found += _each(fields, FieldKind.NUMBER, "Lead Score", "lead_scores.fields")
    if chosen.visits.enabled:
        found += _each(
            chosen.visits.fields, FieldKind.INSTANT, "Most Recent Visit", "visits.fields"
        )
    if chosen.touches.enabled:
        for name in ("first_channel", "first_source", "last_channel", "last_source"):
            which, what = name.title().split("_")
            fields = getattr(chosen.touches, name)
            found += _each(fields, FieldKind.TEXT, f"{which} Touch {what}", f"touches.{name}")
    created = [rule.do.create for rule in settings.actions.enabled_rules.values()]
    for name in dict.fromkeys((*key_field_on, *filter(None, created))):
        label, path = "CRM Pipeline Key", f"{_PATH}.key_field"
        found.append(WantedField(name, chosen.key_field, FieldKind.KEY, label, path, _OURS))
    return found


def _each(
    fields: FieldsOfPeople, kind: FieldKind, label: str, setting: str
) -> Iterator[WantedField]:
    for object_name, name in fields.by_object.items():
        yield WantedField(object_name, name, kind, label, f"{_PATH}.{setting}", _OURS)
