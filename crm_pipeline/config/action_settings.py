"""The operator's rules for actions: when something happens, then something is done in the CRM.

Holds the action sections of the settings file. Belongs here: rules that these sections can check by
themselves. Does not belong here: what else a rule needs of the file (settings.py), whether the CRM
has the fields (actions/), and what has happened (actions/rules.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from crm_pipeline.config.audience_settings import (
    comparison_problem,
    comparisons_of,
    require_readable,
)
from crm_pipeline.config.faults import NAME_RULE, Accepts, Fault, OnOff, Section, SettingFaults
from crm_pipeline.config.filters import parse_filter
from crm_pipeline.config.names import (
    did_you_mean,
    identifier_problem,
    is_field_name,
    is_object_name,
    listed,
    show,
)
from crm_pipeline.config.write_back_settings import FieldName, ScoreKind
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.actions import CARRIERS, PEOPLE, IfFound
from crm_pipeline.model.audiences import FACTS
from crm_pipeline.model.events import EventKind, is_kind
from crm_pipeline.model.filters import RecordFilter
from crm_pipeline.model.objects import ValueType
from crm_pipeline.model.writeback import OnDuplicate

EVENT_COLUMNS: Mapping[str, ValueType] = MappingProxyType(
    {
        **dict.fromkeys(
            ("event_id", "kind", "email", "crm_id", "campaign", "channel", "source", "url"),
            ValueType.TEXT,
        ),
        "occurred_at": ValueType.DATETIME,
    }
)
"""Columns of a marketing event; its properties are texts named `properties.<name>`."""

PROPERTY = "properties."
_PROPERTY = re.compile(r"properties\.[A-Za-z0-9_ -]{1,100}")
Constant = str | bool | int | float | date | datetime | None
"""What a setting can spell out; null empties a field."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A value that is taken from what happened.

    Attributes:
        source: a column of the event, the person or the record.
        otherwise: what a new record gets where there is none.
    """

    source: str
    otherwise: Constant = None


def _field_value(raw: object) -> object:
    """A constant, or `{from: column}`."""
    if not isinstance(raw, dict):
        if raw is not None and not isinstance(raw, str | bool | int | float | date):
            raise SettingFaults(
                Fault((), f"{show(raw)} is no value; write a constant or `{{from: email}}`.")
            )
        return raw
    unknown = [key for key in raw if key not in {"from", "otherwise"}]
    if unknown or not isinstance(raw.get("from"), str):
        raise SettingFaults(
            Fault(
                (), "write a constant, or `{from: email}`, with `otherwise:` beside it if need be."
            )
        )
    return Taken(raw["from"], raw.get("otherwise"))


FieldValue = Annotated[object, BeforeValidator(_field_value)]


class Change(StrEnum):
    """What a person did to an audience."""

    ENTERED = "entered"
    LEFT = "left"


class RuleKind(StrEnum):
    """What a rule watches."""

    EVENT = "event"
    SCORE = "score"
    AUDIENCE = "audience"
    RECORD = "record"


_BELONGS: Mapping[RuleKind, tuple[str, ...]] = MappingProxyType(
    {
        RuleKind.EVENT: ("where",),
        RuleKind.SCORE: ("rises_above", "falls_below"),
        RuleKind.AUDIENCE: ("change",),
        RuleKind.RECORD: ("field", "becomes"),
    }
)
_Score = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]


class WhenSettings(Section):
    """What makes a rule act: an event, a score, an audience or a record."""

    event: Annotated[
        str | None, Field(strict=True), Accepts("a kind of event, such as `form_submitted`")
    ] = None
    """A marketing event of this kind arrives."""
    where: Annotated[
        str | None,
        Field(strict=True),
        Accepts("a condition in quotes, such as \"source = 'website'\""),
    ] = None
    """Which events of the kind."""
    score: Annotated[
        ScoreKind | None, Accepts("`total`, `contact`, `activity`, `engagement` or `manual`")
    ] = None
    """A person's score crosses a value."""
    rises_above: Annotated[_Score | None, Accepts("a whole number from 0 to 1000000")] = None
    """From this value or less to more."""
    falls_below: Annotated[_Score | None, Accepts("a whole number from 0 to 1000000")] = None
    """From this value or more to less."""
    audience: Annotated[
        str | None, Field(strict=True), Accepts("the name of an audience of this file")
    ] = None
    """A person enters or leaves this audience."""
    change: Annotated[Change | None, Accepts("`entered` or `left`")] = None
    """Which of the two."""
    record: Annotated[
        str | None, Field(strict=True), Accepts("a CRM object of this file, such as `Lead`")
    ] = None
    """A record of this object changes in the CRM."""
    field: FieldName | None = None
    """Which field of it."""
    becomes: Annotated[
        str | int | float | bool | None, Accepts("a value, such as `Working - Contacted`")
    ] = None
    """The value that the field gets."""

    @property
    def kind(self) -> RuleKind:
        """What is watched; exactly one after validation."""
        return next(kind for kind in RuleKind if getattr(self, kind) is not None)

    @property
    def condition(self) -> RecordFilter | None:
        """The condition on events as a tree."""
        return None if self.where is None else parse_filter(self.where)

    @property
    def properties(self) -> tuple[str, ...]:
        """Properties that the condition looks at, spelt as the events spell them."""
        tree = self.condition
        names = () if tree is None else (one.field for one in comparisons_of(tree))
        return tuple(dict.fromkeys(name for name in names if name.lower().startswith(PROPERTY)))

    @field_validator("event")
    @classmethod
    def _event_is_known(cls, kind: str | None) -> str | None:
        if kind is not None and not is_kind(kind):
            near = did_you_mean(kind, EventKind)
            hint = f"did you mean {show(near)}?" if near else "own kinds begin with `custom_`."
            raise SettingFaults(Fault((), f"{show(kind)} is no kind of event; {hint}"))
        return kind

    @field_validator("where")
    @classmethod
    def _where_makes_sense(cls, text: str | None) -> str | None:
        if text is None:
            return None
        require_readable(text)
        try:
            tree = parse_filter(text)
        except ConfigurationError as error:
            raise SettingFaults(Fault((), str(error))) from error
        comparisons = tuple(comparisons_of(tree))
        named = {
            one.field.lower(): ValueType.TEXT for one in comparisons if _is_property(one.field)
        }
        problems = [
            problem
            for one in comparisons
            if (problem := comparison_problem(one, {**EVENT_COLUMNS, **named}))
        ]
        if problems:
            raise SettingFaults(*(Fault((), problem) for problem in dict.fromkeys(problems)))
        return text

    @model_validator(mode="after")
    def _watches_one_thing(self) -> "WhenSettings":
        kinds = [kind for kind in RuleKind if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise SettingFaults(
                Fault(
                    (),
                    "a rule watches one thing: write one of `event`, `score`, `audience` and"
                    " `record`.",
                )
            )
        [kind] = kinds
        strange = [
            name
            for other, names in _BELONGS.items()
            for name in names
            if other is not kind and getattr(self, name) is not None
        ]
        if strange:
            raise SettingFaults(
                *(
                    Fault((name,), f"`{name}` does not belong to `{kind}`; remove it.")
                    for name in strange
                )
            )
        if kind is RuleKind.SCORE and (self.rises_above is None) == (self.falls_below is None):
            raise SettingFaults(
                Fault((), "write either `rises_above` or `falls_below` beside `score`.")
            )
        if kind is RuleKind.AUDIENCE and self.change is None:
            raise SettingFaults(
                Fault((), "write `change: entered` or `change: left` beside `audience`.")
            )
        if kind is RuleKind.RECORD and (self.field is None or self.becomes is None):
            raise SettingFaults(Fault((), "write `field` and `becomes` beside `record`."))
        return self


class DoSettings(Section):
    """What a rule asks for."""

    create: Annotated[str | None, Field(strict=True), Accepts("a CRM object, such as `Lead`")] = (
        None
    )
    """A record of this object, unless it is there already."""
    update: Annotated[str | None, Field(strict=True), Accepts("a CRM object, such as `Lead`")] = (
        None
    )
    """A record of this object that is there."""
    match: Annotated[
        Literal["email", "record", "none"] | None, Accepts("`email`, `record` or `none`")
    ] = None
    """How the record is found: by the person's address, the record at hand, or not at all."""
    if_found: Annotated[IfFound, Accepts("`update` or `leave`")] = IfFound.UPDATE
    """What a create does with the record that is there."""

    @property
    def object_name(self) -> str:
        """The object that is created or updated."""
        return self.create or self.update or ""

    @model_validator(mode="after")
    def _does_one_thing(self) -> "DoSettings":
        if (self.create is None) == (self.update is None):
            raise SettingFaults(Fault((), "write either `create` or `update` with an object."))
        if not is_object_name(self.object_name):
            raise SettingFaults(
                Fault(
                    (),
                    f"{show(self.object_name)} is no object name; write an API name such as"
                    " `Lead`.",
                )
            )
        if self.match == "record" and self.create is not None:
            raise SettingFaults(
                Fault(("match",), "a record at hand is updated, not created; write `update`.")
            )
        if self.match == "none" and self.update is not None:
            raise SettingFaults(
                Fault(("match",), "an update must find its record; write `email` or `record`.")
            )
        return self


class RuleOptions(Section):
    """How the CRM's own rules shall treat what a rule asks for."""

    on_duplicate: Annotated[OnDuplicate, Accepts("`park`, `link` or `allow`")] = OnDuplicate.PARK
    """When the CRM's duplicate rules know a new record already."""
    assignment: Annotated[
        str, Field(strict=True, min_length=1), Accepts("`none`, `default` or the id of a rule")
    ] = "none"
    """Who chooses the owner of a new record."""
    owner: Annotated[str | None, Field(strict=True, min_length=1), Accepts("a user or a queue")] = (
        None
    )
    """Owner of a new record: a user by id, user name or e-mail address, a queue by id or name."""
    campaign: Annotated[
        str | None, Field(strict=True, min_length=1), Accepts("a campaign's id or name")
    ] = None
    """Of a campaign member: the campaign by id or name."""
    only_new: Annotated[tuple[FieldName, ...], Accepts("a list of fields")] = ()
    """Fields that a new record gets, and a record that is there keeps."""
    only_empty: Annotated[tuple[FieldName, ...], Accepts("a list of fields")] = ()
    """Fields that a record that is there gets only where it holds nothing in them."""


class RuleSettings(Section):
    """One rule: what it watches, and what it asks for."""

    enabled: OnOff = True
    """Whether the rule acts; one that is switched on again acts on nothing in between."""
    when: Annotated[WhenSettings, Accepts("what happens, such as `{event: form_submitted}`")]
    """What happens."""
    do: Annotated[DoSettings, Accepts("what is done, such as `{create: Lead}`")]
    """What is done."""
    fields: Annotated[
        dict[str, FieldValue],
        Field(min_length=1),
        Accepts("at least one field with a constant or `{from: ...}`"),
    ]
    """Values by CRM field: constants, or what the event, person or record says."""
    options: RuleOptions = RuleOptions()
    """How the CRM's own rules shall treat it."""

    @property
    def match(self) -> str:
        """How the record is found, where the rule does not say it."""
        if self.do.match is not None:
            return self.do.match
        if self.when.kind is RuleKind.RECORD and self.do.update is not None:
            return "record"
        return "email" if self.do.object_name in (*PEOPLE, *CARRIERS) else "none"

    @property
    def constants(self) -> Mapping[str, object]:
        """Fields whose values the file spells out."""
        return {name: v for name, v in self.fields.items() if not isinstance(v, Taken)}

    @property
    def taken(self) -> Mapping[str, Taken]:
        """Fields whose values come from what happened."""
        return {name: v for name, v in self.fields.items() if isinstance(v, Taken)}

    @model_validator(mode="after")
    def _finds_what_it_names(self) -> "RuleSettings":
        faults = [
            Fault(("fields", name), f"{show(name)} is no field name; write an API name.")
            for name in self.fields
            if not is_field_name(name) or "." in name
        ]
        faults += [
            Fault(("fields", name), problem)
            for name, taken in self.taken.items()
            if (problem := self._source_problem(taken.source))
        ]
        if self.match == "none" and self.do.update is not None:
            faults.append(
                Fault(
                    ("do",),
                    "an update must find its record; write `match: record` for the record at hand.",
                )
            )
        if self.match == "record" and self.when.kind not in {RuleKind.RECORD, RuleKind.EVENT}:
            faults.append(
                Fault(("do", "match"), "no record is at hand there; write `match: email`.")
            )
        if faults:
            raise SettingFaults(*faults)
        return self

    def _source_problem(self, source: str) -> str | None:
        """Why nothing can be taken from there; fields of records need the whole file."""
        kind = self.when.kind
        if kind is RuleKind.RECORD or (kind is RuleKind.EVENT and _is_property(source)):
            return None
        columns = sources_of(kind)
        if source in columns:
            return None
        near = did_you_mean(source, columns)
        hint = f"did you mean {show(near)}? There are" if near else "write one of"
        more = " and `properties.<name>`" if kind is RuleKind.EVENT else ""
        return f"there is no {show(source)} to take; {hint} {listed(sorted(columns))}{more}."


def sources_of(kind: RuleKind) -> tuple[str, ...]:
    """What fields can be taken from, besides properties of events and fields of records."""
    match kind:
        case RuleKind.EVENT:
            return tuple(EVENT_COLUMNS)
        case RuleKind.SCORE:
            return (*FACTS, "score", "former_score")
        case RuleKind.AUDIENCE:
            return (*FACTS, "audience")
        case RuleKind.RECORD:
            return ("record_id", "value", "former_value")


def _is_property(name: str) -> bool:
    return _PROPERTY.fullmatch(name) is not None


class ActionSettings(Section):
    """What is created and updated in the CRM because something happened."""

    most_at_once: Annotated[
        int, Field(strict=True, ge=1, le=1_000_000), Accepts("a whole number from 1 to 1000000")
    ] = 1_000
    """If a rule asks for more than this at one look, a person must let it go."""
    rules: Annotated[
        dict[str, RuleSettings], Accepts("rules by name, each with `when`, `do` and `fields`")
    ] = {}  # noqa: RUF012 - pydantic copies defaults
    """What is done when."""

    @field_validator("rules")
    @classmethod
    def _rules_are_named(cls, rules: dict[str, RuleSettings]) -> dict[str, RuleSettings]:
        faults = [
            Fault((name,), f"rule {show(name)} {problem}; {NAME_RULE}.")
            for name in rules
            if (problem := identifier_problem(name))
        ]
        if faults:
            raise SettingFaults(*faults)
        return rules

    @property
    def enabled_rules(self) -> Mapping[str, RuleSettings]:
        """The rules that act."""
        return {name: rule for name, rule in self.rules.items() if rule.enabled}
