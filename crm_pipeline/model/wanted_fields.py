"""Fields that the CRM must have so that something can be written to it, and what became of each.

Belongs here: the values that settings, connector and people hand to each other. Does not belong
here: which fields are wanted (config/wanted_fields.py), making one (crm/<vendor>/).
"""

from dataclasses import dataclass
from enum import StrEnum


class FieldKind(StrEnum):
    """What a field must be able to hold. KEY: a unique external id of our own."""

    NUMBER = "number"
    CHECKBOX = "checkbox"
    INSTANT = "date-time"
    TEXT = "text"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class WantedField:
    """One field that something of the settings writes.

    Attributes:
        label: what people in the CRM see.
        setting: the path that names the field.
        help_text: shown beside it in the CRM.
    """

    object_name: str
    name: str
    kind: FieldKind
    label: str
    setting: str
    help_text: str = ""


class FieldState(StrEnum):
    """How a wanted field stands.

    PRESENT: there, of the right type, and ours to write. CREATED and MADE_WRITABLE: it is so now,
    by our doing. LACKING and READ_ONLY: looked at, and left as it is. REFUSED: a person must act.
    """

    PRESENT = "present"
    CREATED = "created"
    MADE_WRITABLE = "made writable"
    LACKING = "lacking"
    READ_ONLY = "read only"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FieldEnsured:
    """What became of a wanted field.

    Attributes:
        crm_type: what it is to be, in the CRM's own words.
        reason: why it stands as it does; empty where there is nothing to say.
        remedy: what a person can do; empty when nothing need be done.
    """

    wanted: WantedField
    state: FieldState
    crm_type: str
    reason: str = ""
    remedy: str = ""

    @property
    def can_be_written(self) -> bool:
        """Whether a write to it would be taken."""
        return self.state in {FieldState.PRESENT, FieldState.CREATED, FieldState.MADE_WRITABLE}
