"""The operator's choices: every setting of `crm_sync.yaml`, typed, bounded and frozen.

Holds the models that the file must fit. Belongs here: a setting, its bounds, and rules between
settings of the file. Does not belong here: reading YAML and lines (load.py), secrets and places
(environment.py), anything that needs the CRM's describe (mapping.py).
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from crm_pipeline.config.action_settings import ActionSettings, RuleKind, RuleSettings, sources_of
from crm_pipeline.config.audience_settings import AudienceSettings
from crm_pipeline.config.event_folder import checked_folder
from crm_pipeline.config.faults import (
    NAME_RULE,
    Accepts,
    Fault,
    Location,
    OnOff,
    Section,
    SettingFaults,
)
from crm_pipeline.config.names import (
    REFERENCE_TABLES,
    identifier_problem,
    is_object_name,
    listed,
    show,
)
from crm_pipeline.config.object_settings import ObjectSettings
from crm_pipeline.config.write_back_settings import WriteBackSettings

EXPRESSIBLE_INTERVALS = (5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440)
"""Minutes between ticks that a cron line can keep evenly: divisors of an hour or of a day."""
MOST_AUDIENCE_CHARACTERS = 16_000
_OUR_SCHEMAS = frozenset({"crm_sync", "crm_staging", "events", "history", "information_schema"})


def _expressible(minutes: int) -> int:
    """Refuse intervals that a cron line cannot keep."""
    if minutes in EXPRESSIBLE_INTERVALS:
        return minutes
    below = max(i for i in EXPRESSIBLE_INTERVALS if i < minutes)
    above = min(i for i in EXPRESSIBLE_INTERVALS if i > minutes)
    raise SettingFaults(
        Fault(
            (), f"a schedule cannot tick every {minutes} minutes evenly; write {below} or {above}."
        )
    )


def _api_version(value: object) -> object:
    """62.0 without quotes is a number to YAML, and means the same."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.1f}" if is_number else value


def _known_api_version(value: str) -> str:
    if re.fullmatch(r"[5-6][0-9]\.0|70\.0", value) is None:
        raise SettingFaults(
            Fault((), f'{show(value)} is not supported; write a version from "50.0" to "70.0".')
        )
    return value


def _target_schema(value: str) -> str:
    problem = identifier_problem(value)
    if problem:
        raise SettingFaults(Fault((), f"schema {show(value)} {problem}; {NAME_RULE}."))
    if value in _OUR_SCHEMAS or value.startswith("pg_"):
        raise SettingFaults(
            Fault((), f"schema {show(value)} is taken; write another, such as `marketing`.")
        )
    return value


def cron_line(interval_minutes: int, *, minute: int = 0, hour: int = 0) -> str:
    """An expressible interval as a cron line.

    Args:
        interval_minutes: one of EXPRESSIBLE_INTERVALS.
        minute: of the hour, for intervals of an hour and more.
        hour: of the day, for an interval of a day.
    """
    hours, minutes = divmod(interval_minutes, 60)
    if minutes:
        return f"*/{minutes} * * * *"
    if hours == 24:
        return f"{minute} {hour} * * *"
    return f"{minute} * * * *" if hours == 1 else f"{minute} */{hours} * * *"


class CrmSettings(Section):
    """Which CRM we speak to, and how much of it we may use."""

    type: Annotated[
        str,
        Field(pattern=r"^[a-z][a-z0-9_]*$"),
        Accepts("a connector's name, such as `salesforce`"),
    ] = "salesforce"
    """The connector; also the schema of the typed tables."""
    api_version: Annotated[
        str,
        BeforeValidator(_api_version),
        AfterValidator(_known_api_version),
        Accepts('a version from "50.0" to "70.0"'),
    ] = "62.0"
    """Salesforce API version; pinned, so that an upgrade of the org changes nothing by itself."""
    api_budget_percent: Annotated[
        int, Field(strict=True, ge=1, le=100), Accepts("a whole number from 1 to 100")
    ] = 50
    """Share of the org's daily API calls at which we stop asking."""
    read_streams: Annotated[
        int, Field(strict=True, ge=1, le=8), Accepts("a whole number from 1 to 8")
    ] = 2
    """Result pages that are streamed side by side."""
    bulk_page_records: Annotated[
        int,
        Field(strict=True, ge=2_000, le=1_000_000),
        Accepts("a whole number from 2000 to 1000000"),
    ] = 100_000
    """Records to ask for per result page when the CRM does not offer its pages in parallel."""


class DifferentialSettings(Section):
    """When changes are read, and how far back each read overlaps the one before."""

    interval_minutes: Annotated[
        int,
        Field(strict=True, ge=5, le=1440),
        AfterValidator(_expressible),
        Accepts("a whole number from 5 to 1440"),
    ] = 60
    """Minutes between differential syncs."""
    overlap_minutes: Annotated[
        int, Field(strict=True, ge=1, le=1440), Accepts("a whole number from 1 to 1440")
    ] = 15
    """Minutes of CRM time that each differential reads again, for changes that commit late."""

    @property
    def cron_schedule(self) -> str:
        """The interval as a cron line, in UTC."""
        return cron_line(self.interval_minutes)


class RefreshSettings(Section):
    """When columns are read whole that change without a sign of it: formulas and the like."""

    interval_minutes: Annotated[
        int,
        Field(strict=True, ge=5, le=1440),
        AfterValidator(_expressible),
        Accepts("a whole number from 5 to 1440"),
    ] = 1440
    """Minutes between refreshes of calculated columns."""

    @property
    def cron_schedule(self) -> str:
        """The interval as a cron line, in UTC, away from the full hour of the differentials."""
        return cron_line(self.interval_minutes, minute=35, hour=2)


class RetentionSettings(Section):
    """How long the past is kept: of syncs, and of records. The tables themselves are not pruned."""

    runs_days: Annotated[
        int, Field(strict=True, ge=1, le=3650), Accepts("a whole number from 1 to 3650")
    ] = 30
    """Days for which Dagster keeps runs, their events and logs."""
    ledger_days: Annotated[
        int, Field(strict=True, ge=1, le=3650), Accepts("a whole number from 1 to 3650")
    ] = 90
    """Days for which the ledger keeps its rows."""
    history_days: Annotated[
        int, Field(strict=True, ge=0, le=3650), Accepts("a whole number from 0 to 3650")
    ] = 365
    """Days for which former values of records can be asked for; 0 keeps none."""


class MarketingSettings(Section):
    """The marketing marts that dbt builds from the typed tables."""

    enabled: OnOff = True
    """Whether the models are rebuilt after syncs."""
    target_schema: Annotated[
        str, Field(strict=True), AfterValidator(_target_schema), Accepts(f"a schema: {NAME_RULE}")
    ] = "marketing"
    """Schema of the marts."""
    audiences: Annotated[
        dict[str, AudienceSettings],
        Accepts("audiences by name, each with `description` and `where` or `query`"),
    ] = {}  # noqa: RUF012 - pydantic copies defaults
    """Who belongs to which audience, by its name."""

    @field_validator("audiences")
    @classmethod
    def _audiences_are_named_and_small(
        cls, audiences: dict[str, AudienceSettings]
    ) -> dict[str, AudienceSettings]:
        faults = [
            Fault((name,), f"audience {show(name)} {problem}; {NAME_RULE}.")
            for name in audiences
            if (problem := identifier_problem(name))
        ]
        # They reach dbt on its command line, whose length the system limits.
        characters = sum(
            len(f"{name}{one.description}{one.where or one.query}")
            for name, one in audiences.items()
        )
        if characters > MOST_AUDIENCE_CHARACTERS:
            faults.append(
                Fault(
                    (),
                    f"the audiences have {characters:,} characters together; at most "
                    f"{MOST_AUDIENCE_CHARACTERS:,} are allowed. Make views of the long queries, "
                    "and select from those.",
                )
            )
        if faults:
            raise SettingFaults(*faults)
        return audiences


class EventsSettings(Section):
    """Where files of marketing events come from."""

    folder: Annotated[
        str | None,
        Field(strict=True),
        Accepts("a folder, or a URL such as `s3://bucket/events`"),
    ] = None
    """A folder, as seen from this file, or a URL of an object store; none switches files off."""
    poll_minutes: Annotated[
        int, Field(strict=True, ge=1, le=1440), Accepts("a whole number from 1 to 1440")
    ] = 5
    """Minutes between looks for new files."""

    @field_validator("folder")
    @classmethod
    def _folder_is_allowed(cls, value: str | None) -> str | None:
        return None if value is None else checked_folder(value)


class Settings(Section):
    """The whole file."""

    version: Annotated[Literal[1], Accepts("`version: 1`")]
    """Version of this file's format."""
    syncs_enabled: OnOff = True
    """The off switch: false lets nothing move in either direction."""
    crm: CrmSettings = CrmSettings()
    """The CRM."""
    differential: DifferentialSettings = DifferentialSettings()
    """Differential syncs."""
    refresh: RefreshSettings = RefreshSettings()
    """Refreshes of calculated columns."""
    objects: Annotated[
        dict[str, ObjectSettings],
        Field(min_length=1),
        Accepts("at least one object with its fields"),
    ]
    """The CRM objects that take part, by API name."""
    reference_data: OnOff = True
    """Whether users, queues, assignment rules and picklists are kept beside the objects."""
    marketing: MarketingSettings = MarketingSettings()
    """Marketing marts."""
    events: EventsSettings = EventsSettings()
    """Files of marketing events."""
    write_backs: WriteBackSettings = WriteBackSettings()
    """Changes towards the CRM."""
    actions: ActionSettings = ActionSettings()
    """What is created and updated because something happened."""
    retention: RetentionSettings = RetentionSettings()
    """How long the past is kept."""

    @property
    def enabled_objects(self) -> Mapping[str, ObjectSettings]:
        """The objects that take part in syncs, in the file's order."""
        return {name: chosen for name, chosen in self.objects.items() if chosen.enabled}

    @model_validator(mode="after")
    def _names_do_not_clash(self) -> "Settings":
        faults = [*self._wrong_object_names(), *self._clashing_tables()]
        if self.marketing.target_schema == self.crm.type:
            faults.append(
                Fault(
                    ("marketing", "target_schema"),
                    f"schema {show(self.crm.type)} holds the CRM's own tables; write another, such "
                    "as `marketing`.",
                )
            )
        if faults:
            raise SettingFaults(*faults)
        return self

    @model_validator(mode="after")
    def _rules_watch_what_there_is(self) -> "Settings":
        faults = [
            Fault(("actions", "rules", name, *fault.at), fault.sentence)
            for name, rule in self.actions.enabled_rules.items()
            for fault in self._blind_spots(rule)
        ]
        if faults:
            raise SettingFaults(*faults)
        return self

    def _blind_spots(self, rule: RuleSettings) -> list[Fault]:
        """What a rule watches and nothing shows it."""
        when, kind = rule.when, rule.when.kind
        if kind in {RuleKind.SCORE, RuleKind.AUDIENCE} and not self.marketing.enabled:
            return [Fault(("when",), "the models are off; write `marketing.enabled: true`.")]
        if when.audience is not None and when.audience not in self.marketing.audiences:
            known = listed(sorted(self.marketing.audiences)) or "none"
            return [
                Fault(
                    ("when", "audience"),
                    f"there is no audience {show(when.audience)}; the file has {known}.",
                )
            ]
        return self._unseen_fields(rule) if kind is RuleKind.RECORD else []

    def _unseen_fields(self, rule: RuleSettings) -> list[Fault]:
        """Fields of records that no column holds."""
        name = rule.when.record or ""
        chosen = self.enabled_objects.get(name)
        if chosen is None:
            return [
                Fault(("when", "record"), f"{show(name)} is not among the objects that are synced.")
            ]
        if self.retention.history_days == 0:
            return [
                Fault(
                    ("when",), "changes are seen in the history; write `retention.history_days: 1`."
                )
            ]
        mapped = {mapping.field for mapping in chosen.columns}
        wanted = {("when", "field"): rule.when.field or ""} | {
            ("fields", field): taken.source
            for field, taken in rule.taken.items()
            if taken.source not in sources_of(RuleKind.RECORD)
        }
        return [
            Fault(at, f"{show(field)} is not among the fields of {show(name)} that are synced.")
            for at, field in wanted.items()
            if field not in mapped
        ]

    def _wrong_object_names(self) -> list[Fault]:
        times = Counter(name.casefold() for name in self.objects)
        return [
            Fault(
                ("objects", name),
                f"{show(name)} is no object name; write an API name such as `Lead` or "
                "`Event_Registration__c`."
                if not is_object_name(name)
                else f"object {show(name)} is listed twice; remove one of them.",
            )
            for name in self.objects
            if not is_object_name(name) or times[name.casefold()] > 1
        ]

    def _clashing_tables(self) -> list[Fault]:
        faults: list[Fault] = []
        owners: dict[str, str] = {}
        for name, chosen in self.objects.items():
            table = chosen.table_name(name)
            where: Location = ("objects", name, "table") if chosen.table else ("objects", name)
            problem = identifier_problem(table)
            owner = owners.setdefault(table, name)
            if table in REFERENCE_TABLES:
                problem = "is filled by reference data"
            elif owner.casefold() != name.casefold():
                problem = f"is filled by {listed([owner])} already"
            if problem and is_object_name(name):
                faults.append(
                    Fault(where, f"table {show(table)} {problem}; name another with `table:`.")
                )
        return faults
