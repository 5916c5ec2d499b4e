"""The operator's choices for the way to the CRM: what is written by itself, and how much at once.

Holds the write-back sections of the settings file. Belongs here: rules that these sections can
check by themselves. Does not belong here: what is due to be written (writeback/), and anything that
needs the CRM's describe.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from crm_pipeline.config.faults import Accepts, Fault, OnOff, Section, SettingFaults
from crm_pipeline.config.names import is_field_name, show

PEOPLE = ("Lead", "Contact")
"""The objects whose records are people."""

OPT_OUT_BOX = "HasOptedOutOfEmail"
"""The box that the models read as an opt-out, whichever box is written."""

BOUNCED_AT = "EmailBouncedDate"
"""The instant that the models read as a bounce."""


def _field_name(value: str) -> str:
    if not is_field_name(value) or "." in value:
        raise SettingFaults(
            Fault((), f"{show(value)} is no field name; write an API name such as `Lead_Score__c`.")
        )
    return value


FieldName = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_field_name),
    Accepts("a field's API name, such as `Lead_Score__c`"),
]


_OWNER = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?", re.ASCII)


def _owner_id(value: str) -> str:
    if not _OWNER.fullmatch(value):
        raise SettingFaults(
            Fault(
                (),
                f"{show(value)} is no id; open the user or the queue in the CRM and take the 15 or "
                "18 letters and digits out of the page's address.",
            )
        )
    return value


class FieldsOfPeople(Section):
    """A field on objects whose records are people; an object without one is left alone."""

    Lead: FieldName | None = None
    """Field of leads."""
    Contact: FieldName | None = None
    """Field of contacts."""

    @property
    def by_object(self) -> Mapping[str, str]:
        """Field by object, of those that have one."""
        pairs = ((name, getattr(self, name)) for name in PEOPLE)
        return {name: field for name, field in pairs if field is not None}


def on_both(field: str) -> FieldsOfPeople:
    """The same name on leads and contacts."""
    return FieldsOfPeople(Lead=field, Contact=field)


class ConsentDirection(StrEnum):
    """Which way opt-outs and bounces travel by themselves; nothing loosens them either way."""

    BOTH = "both"
    TO_CRM = "to_crm"
    FROM_CRM = "from_crm"
    OFF = "off"

    @property
    def is_read(self) -> bool:
        """Whether what the CRM says holds here."""
        return self in {ConsentDirection.BOTH, ConsentDirection.FROM_CRM}

    @property
    def is_written(self) -> bool:
        """Whether what is said here is written to the CRM."""
        return self in {ConsentDirection.BOTH, ConsentDirection.TO_CRM}


class EditedInCrm(StrEnum):
    """What becomes of a value that people entered in the CRM over ours, or before us."""

    OVERWRITE = "overwrite"
    KEEP = "keep"


_EditedInCrm = Annotated[EditedInCrm, Accepts("`overwrite` or `keep`")]


class ScoreKind(StrEnum):
    """Columns of the mart fct_lead_scores."""

    TOTAL = "total"
    CONTACT = "contact"
    ACTIVITY = "activity"
    ENGAGEMENT = "engagement"
    MANUAL = "manual"


class LeadScoreSettings(Section):
    """Scores in the CRM: a number on each lead and contact."""

    enabled: OnOff = False
    """Whether scores are written."""
    score: Annotated[
        ScoreKind, Accepts("`total`, `contact`, `activity`, `engagement` or `manual`")
    ] = ScoreKind.TOTAL
    """Which score."""
    fields: FieldsOfPeople = on_both("Lead_Score__c")
    """Where it is written."""
    smallest_change: Annotated[
        int, Field(strict=True, ge=1, le=10_000), Accepts("a whole number from 1 to 10000")
    ] = 1
    """By how much a score must differ from what the CRM holds to be written."""
    thresholds: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=0, le=1_000_000)], ...],
        Accepts("a list of whole numbers, such as `[50, 100]`"),
    ] = ()
    """Scores that matter: crossing one is written however small the change."""
    edited_in_crm: _EditedInCrm = EditedInCrm.OVERWRITE
    """Whether a number that people entered is written over, or kept until they empty the field."""


class ConsentSettings(Section):
    """Opt-outs, and addresses that do not exist any more."""

    direction: Annotated[ConsentDirection, Accepts("`both`, `to_crm`, `from_crm` or `off`")] = (
        ConsentDirection.FROM_CRM
    )
    """Which way they travel by themselves."""
    unsubscribed: FieldsOfPeople = on_both(OPT_OUT_BOX)
    """Checkboxes that are ticked when the address may not be written to."""
    hard_bounced: FieldsOfPeople = on_both("Email_Hard_Bounced__c")
    """Checkboxes that are ticked when mail to the address came back for good."""


class VisitSettings(Section):
    """When somebody was last on the website."""

    enabled: OnOff = False
    """Whether visits are written."""
    fields: FieldsOfPeople = on_both("Most_Recent_Visit__c")
    """Where the instant of the most recent page is written."""


class TouchSettings(Section):
    """Where somebody came from, first and last."""

    enabled: OnOff = False
    """Whether touches are written."""
    first_channel: FieldsOfPeople = on_both("First_Touch_Channel__c")
    """Written once, never changed."""
    first_source: FieldsOfPeople = on_both("First_Touch_Source__c")
    """Written once, never changed."""
    last_channel: FieldsOfPeople = on_both("Last_Touch_Channel__c")
    """Follows the newest touch."""
    last_source: FieldsOfPeople = on_both("Last_Touch_Source__c")
    """Follows the newest touch."""
    edited_in_crm: _EditedInCrm = EditedInCrm.OVERWRITE
    """The same of last touches; a first touch that people entered is always kept."""


class ApprovalSettings(Section):
    """How much may be written at once without a person's word; opt-outs never wait for one."""

    most_records: Annotated[
        int, Field(strict=True, ge=1, le=100_000_000), Accepts("a whole number from 1")
    ] = 10_000
    """More records of one write-back at once wait for approval."""
    most_percent: Annotated[
        int, Field(strict=True, ge=1, le=100), Accepts("a whole number from 1 to 100")
    ] = 50
    """So does a larger share of the object's records, where it is more than 200 of them."""


class WriteBackSettings(Section):
    """How changes go to the CRM, and which do so by themselves."""

    enabled: OnOff = True
    """The off switch of this direction: false keeps the outbox as it is."""
    key_field: FieldName = "Crm_Pipeline_Key__c"
    """External id, unique, by which records that we create are made once."""
    default_owner: (
        Annotated[
            str,
            Field(strict=True),
            AfterValidator(_owner_id),
            Accepts("the id of an active user or of a queue"),
        ]
        | None
    ) = None
    """Who gets a record that the CRM refuses because its owner is inactive or gone."""
    consent_reserve_percent: Annotated[
        int, Field(strict=True, ge=0, le=50), Accepts("a whole number from 0 to 50")
    ] = 5
    """Share of the daily API calls, beyond the budget, that consent alone may use."""
    approval: ApprovalSettings = ApprovalSettings()
    """How much may be written at once without a person's word."""
    consent: ConsentSettings = ConsentSettings()
    """Opt-outs and hard bounces."""
    lead_scores: LeadScoreSettings = LeadScoreSettings()
    """Scores."""
    visits: VisitSettings = VisitSettings()
    """Most recent visits."""
    touches: TouchSettings = TouchSettings()
    """First and last touches."""

    @model_validator(mode="after")
    def _each_field_has_one_meaning(self) -> "WriteBackSettings":
        faults = []
        for name in PEOPLE:
            owners: dict[str, str] = {}
            for meaning, fields in self._fields_by_meaning().items():
                field = fields.by_object.get(name)
                other = owners.setdefault((field or meaning).casefold(), meaning)
                if other != meaning:
                    faults.append(
                        Fault(
                            (*meaning.split("."), name),
                            f"{name}.{field} is written by `{other}` already; name another field.",
                        )
                    )
        if faults:
            raise SettingFaults(*faults)
        return self

    def _fields_by_meaning(self) -> Mapping[str, FieldsOfPeople]:
        """What each setting that names fields would write, whether it is on or not."""
        return {
            "consent.unsubscribed": self.consent.unsubscribed,
            "consent.hard_bounced": self.consent.hard_bounced,
            "lead_scores.fields": self.lead_scores.fields,
            "visits.fields": self.visits.fields,
            "touches.first_channel": self.touches.first_channel,
            "touches.first_source": self.touches.first_source,
            "touches.last_channel": self.touches.last_channel,
            "touches.last_source": self.touches.last_source,
        }
