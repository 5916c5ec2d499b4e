"""The settings file: what loads, and the whole sentence for everything that does not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crm_pipeline.config.load import MAXIMUM_FILE_BYTES, load_settings
from crm_pipeline.config.object_settings import FieldMapping, ObjectSettings
from crm_pipeline.config.settings import EXPRESSIBLE_INTERVALS, DifferentialSettings, Settings
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.filters import Comparator, Comparison
from crm_pipeline.model.objects import Direction, Transport

SMALL = """\
version: 1
objects:
  Lead:
    fields:
      - FirstName
"""
FULL = """\
version: 1
syncs_enabled: false
crm:
  type: salesforce
  api_version: 58.0
  api_budget_percent: 100
  read_streams: 8
  bulk_page_records: 250_000
differential:
  interval_minutes: 15
  overlap_minutes: 30
objects:
  Lead:
    enabled: true
    table: lead
    filter: "Status != 'Spam'"
    transport: bulk
    fields:
      - FirstName
      - Email: email_address
      - {field: Lead_Score__c, column: lead_score, direction: both}
      - Account.Name
      - Id: lead_id
  Account:
    enabled: false
    fields: [Name, order, {field: User__c}]
reference_data: false
marketing:
  enabled: false
  target_schema: marts
"""

Load = Callable[[str], Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    def write_and_load(text: str) -> Settings:
        Path("crm_sync.yaml").write_text(text, encoding="utf-8")
        return load_settings("crm_sync.yaml")

    return write_and_load


def test_the_smallest_file_has_sensible_defaults(load: Load) -> None:
    settings = load(SMALL)
    assert settings.syncs_enabled
    assert settings.reference_data
    assert settings.marketing.enabled
    assert settings.marketing.target_schema == "marketing"
    assert settings.crm.type == "salesforce"
    assert settings.crm.api_version == "62.0"
    assert settings.crm.api_budget_percent == 50
    assert settings.crm.read_streams == 2
    assert settings.crm.bulk_page_records == 100_000
    assert settings.differential.interval_minutes == 60
    assert settings.differential.overlap_minutes == 15
    lead = settings.objects["Lead"]
    assert lead.enabled
    assert lead.table_name("Lead") == "lead"
    assert lead.record_filter is None
    assert lead.transport is Transport.AUTO
    assert [m.column for m in lead.columns] == ["id", "firstname"]


def test_every_setting_of_the_full_file_arrives(load: Load) -> None:
    settings = load(FULL)
    assert not settings.syncs_enabled
    assert not settings.reference_data
    assert settings.crm.api_version == "58.0"
    assert settings.crm.bulk_page_records == 250_000
    assert settings.marketing.target_schema == "marts"
    assert list(settings.enabled_objects) == ["Lead"]
    lead = settings.objects["Lead"]
    assert lead.record_filter == Comparison("Status", Comparator.NOT_EQUAL, "Spam")
    assert lead.transport is Transport.BULK
    assert lead.columns == (
        FieldMapping(field="Id", column="lead_id"),
        FieldMapping(field="FirstName", column="firstname"),
        FieldMapping(field="Email", column="email_address"),
        FieldMapping(field="Lead_Score__c", column="lead_score", direction=Direction.BOTH),
        FieldMapping(field="Account.Name", column="account_name"),
    )
    assert [m.column for m in settings.objects["Account"].columns] == [
        "id",
        "name",
        "order",
        "user__c",
    ]


@pytest.mark.parametrize(
    ("minutes", "line"),
    [
        (5, "*/5 * * * *"),
        (15, "*/15 * * * *"),
        (30, "*/30 * * * *"),
        (60, "0 * * * *"),
        (120, "0 */2 * * *"),
        (360, "0 */6 * * *"),
        (1440, "0 0 * * *"),
    ],
)
def test_an_interval_becomes_a_cron_line(minutes: int, line: str) -> None:
    assert DifferentialSettings(interval_minutes=minutes).cron_schedule == line


def test_every_allowed_interval_ticks_evenly_over_a_day() -> None:
    for minutes in EXPRESSIBLE_INTERVALS:
        minute, hour, *_ = DifferentialSettings(interval_minutes=minutes).cron_schedule.split()
        ticks = [
            60 * h + m
            for h in range(24)
            for m in range(60)
            if _matches(minute, m) and _matches(hour, h)
        ]
        gaps = {b - a for a, b in zip(ticks, [*ticks[1:], ticks[0] + 1440], strict=True)}
        assert gaps == {minutes}


def _matches(pattern: str, value: int) -> bool:
    if pattern == "*":
        return True
    return value % int(pattern[2:]) == 0 if pattern.startswith("*/") else value == int(pattern)


NO_MAPPING = (
    "is no field mapping; write `Email`, `Email: column` or "
    "`{field: Email, column: email, direction: down}`, with quotes around names that YAML reads as "
    "something else."
)
RULE = "use a-z, 0-9 and `_`, a letter first, at most 63 bytes."
LONG = "A" * 60 + "_Field"

ONE_FAULT = {
    "version missing": (
        "objects:\n  Lead: {fields: [Name]}\n",
        1,
        "`version`: this setting is missing; write `version: 1`.",
    ),
    "version unknown": (
        SMALL.replace("version: 1", "version: 2"),
        1,
        "`version`: `2` does not fit; write `version: 1`.",
    ),
    "no objects": (
        "version: 1\n",
        1,
        "`objects`: this setting is missing; write at least one object with its fields.",
    ),
    "objects empty": (
        "version: 1\nobjects: {}\n",
        2,
        "`objects`: a mapping does not fit; write at least one object with its fields.",
    ),
    "object without settings": (
        SMALL + "  Account:\n",
        6,
        (
            "`objects.Account`: an empty value does not fit; write settings below it (`enabled`, "
            "`table`, `filter`, `transport` and `fields`) or remove it."
        ),
    ),
    "unknown key, near": (
        SMALL + "crm:\n  read_stream: 3\n",
        7,
        "`crm.read_stream`: there is no such setting; did you mean `read_streams`?",
    ),
    "unknown key, far": (
        SMALL + "warehouses: {}\n",
        6,
        (
            "`warehouses`: there is no such setting; remove it or write one of `version`, "
            "`syncs_enabled`, `crm`, `differential`, `refresh`, `objects`, `reference_data`, "
            "`marketing`, `events`, `write_backs`, `actions` and `retention`."
        ),
    ),
    "unknown key of an object named like a setting": (
        "version: 1\nobjects:\n  fields:\n    fields: [Name]\n    tabel: x\n",
        5,
        "`objects.fields.tabel`: there is no such setting; did you mean `table`?",
    ),
    "unknown key of a field": (
        SMALL + "      - {field: Name, colum: x}\n",
        6,
        "`objects.Lead.fields[1].colum`: there is no such setting; did you mean `column`?",
    ),
    "a secret": (
        SMALL + "client_secret: hunter2\n",
        6,
        (
            "`client_secret`: secrets and logins do not belong in this file; remove the line "
            "and set "
            "the environment variable (SALESFORCE_..., CRM_PIPELINE_DATABASE_URL)."
        ),
    ),
    "off switch": (
        SMALL + "syncs_enabled: 'no'\n",
        6,
        "`syncs_enabled`: `no` does not fit; write `true` or `false`.",
    ),
    "section that is none": (
        SMALL + "crm: salesforce\n",
        6,
        (
            "`crm`: `salesforce` does not fit; write settings below it (`type`, `api_version`, "
            "`api_budget_percent`, `read_streams` and `bulk_page_records`) or remove it."
        ),
    ),
    "crm type": (
        SMALL + "crm: {type: Sales Force}\n",
        6,
        "`crm.type`: `Sales Force` does not fit; write a connector's name, such as `salesforce`.",
    ),
    "api version": (
        SMALL + "crm: {api_version: 71.0}\n",
        6,
        '`crm.api_version`: `71.0` is not supported; write a version from "50.0" to "70.0".',
    ),
    "budget": (
        SMALL + "crm: {api_budget_percent: 0}\n",
        6,
        "`crm.api_budget_percent`: `0` does not fit; write a whole number from 1 to 100.",
    ),
    "streams": (
        SMALL + "crm: {read_streams: true}\n",
        6,
        "`crm.read_streams`: `true` does not fit; write a whole number from 1 to 8.",
    ),
    "bulk page": (
        SMALL + "crm: {bulk_page_records: 1999}\n",
        6,
        "`crm.bulk_page_records`: `1999` does not fit; write a whole number from 2000 to 1000000.",
    ),
    "interval too short": (
        SMALL + "differential:\n  interval_minutes: 4\n",
        7,
        "`differential.interval_minutes`: `4` does not fit; write a whole number from 5 to 1440.",
    ),
    "interval uneven": (
        SMALL + "differential:\n  interval_minutes: 45\n",
        7,
        (
            "`differential.interval_minutes`: a schedule cannot tick every 45 minutes "
            "evenly; write 30 "
            "or 60."
        ),
    ),
    "overlap": (
        SMALL + "differential:\n  overlap_minutes: 0\n",
        7,
        "`differential.overlap_minutes`: `0` does not fit; write a whole number from 1 to 1440.",
    ),
    "object name": (
        SMALL + "  Le ad: {fields: [Name]}\n",
        6,
        (
            "`objects.Le ad`: `Le ad` is no object name; write an API name such as `Lead` or "
            "`Event_Registration__c`."
        ),
    ),
    "object name of a forger": (
        SMALL + '  "A\\nB": {fields: [Name]}\n',
        6,
        (
            "`objects.A\\u000aB`: `A\\u000aB` is no object name; write an API name such as "
            "`Lead` or "
            "`Event_Registration__c`."
        ),
    ),
    "table name": (
        SMALL + "    table: My-Lead\n",
        6,
        (
            "`objects.Lead.table`: table `My-Lead` is not made of a-z, 0-9 and `_` with a "
            "letter in "
            f"front; {RULE}"
        ),
    ),
    "table for bookkeeping": (
        SMALL + "    table: _lead\n",
        6,
        (
            "`objects.Lead.table`: table `_lead` begins with `_`, which is kept for bookkeeping "
            f"columns; {RULE}"
        ),
    ),
    "table of reference data": (
        SMALL + "  Users: {fields: [Name]}\n",
        6,
        "`objects.Users`: table `users` is filled by reference data; name another with `table:`.",
    ),
    "table taken": (
        SMALL + "  Account:\n    table: lead\n    fields: [Name]\n",
        7,
        (
            "`objects.Account.table`: table `lead` is filled by `Lead` already; name another with "
            "`table:`."
        ),
    ),
    "filter": (
        SMALL + "    filter: Status = Open\n",
        6,
        (
            "`objects.Lead.filter`: The filter goes wrong at position 10: expected a value, found "
            "`Open`; values are 'text', numbers, true, false, null, dates (2026-01-31) and "
            "instants "
            "(2026-01-31T08:00:00Z)."
        ),
    ),
    "filter that is no text": (
        SMALL + "    filter: [a]\n",
        6,
        (
            "`objects.Lead.filter`: a list does not fit; write a condition in quotes, such "
            'as "Status '
            "= 'Open'\"."
        ),
    ),
    "transport": (
        SMALL + "    transport: soap\n",
        6,
        "`objects.Lead.transport`: `soap` does not fit; write `auto`, `rest` or `bulk`.",
    ),
    "no fields": (
        "version: 1\nobjects:\n  Lead:\n    fields: []\n",
        4,
        "`objects.Lead.fields`: a list does not fit; write a list of at least one field.",
    ),
    "field name": (
        SMALL + "      - First Name\n",
        6,
        (
            "`objects.Lead.fields[1]`: `First Name` is no field name; write an API name such as "
            "`Lead_Score__c`, or a path such as `Account.Name`."
        ),
    ),
    "field that YAML reads as a truth": (
        SMALL + "      - yes\n",
        6,
        f"`objects.Lead.fields[1]`: `true` {NO_MAPPING}",
    ),
    "field left empty": (
        SMALL + "      -\n",
        6,
        f"`objects.Lead.fields[1]`: an empty value {NO_MAPPING}",
    ),
    "two fields on a line": (
        SMALL + "      - {Email: a, Phone: b}\n",
        6,
        f"`objects.Lead.fields[1]`: a mapping {NO_MAPPING}",
    ),
    "column name": (
        SMALL + "      - Email: E-Mail\n",
        6,
        (
            "`objects.Lead.fields[1].column`: column `E-Mail` is not made of a-z, 0-9 and "
            "`_` with a "
            f"letter in front; {RULE}"
        ),
    ),
    "column of the server": (
        SMALL + "      - Email: xmin\n",
        6,
        (
            "`objects.Lead.fields[1].column`: column `xmin` is a column that PostgreSQL keeps for "
            f"itself; {RULE}"
        ),
    ),
    "column taken": (
        SMALL + "      - Email: firstname\n",
        6,
        (
            "`objects.Lead.fields[1]`: column `firstname` is filled by `FirstName` already; name "
            "another with `Email: other_name`."
        ),
    ),
    "column of the id": (
        SMALL + "      - Email: id\n",
        6,
        (
            "`objects.Lead.fields[1]`: column `id` is filled by `Id` already; name another with "
            "`Email: other_name`."
        ),
    ),
    "field twice": (
        SMALL + "      - FIRSTNAME: other\n",
        6,
        "`objects.Lead.fields[1]`: field `FIRSTNAME` is listed twice; remove one of the lines.",
    ),
    "default column too long": (
        SMALL + f"      - {LONG}\n",
        6,
        (
            f"`objects.Lead.fields[1]`: the column of field `{LONG[:60]}...` would be "
            f"`{LONG.lower()[:60]}...`, which is longer than 63 bytes; name another with `{{field: "
            f"{LONG}, column: shorter_name}}`."
        ),
    ),
    "direction": (
        SMALL + "      - {field: Email, direction: sideways}\n",
        6,
        (
            "`objects.Lead.fields[1].direction`: `sideways` does not fit; write `down`, `up` or "
            "`both`."
        ),
    ),
    "direction over a relationship": (
        SMALL + "      - {field: Account.Name, direction: up}\n",
        6,
        (
            "`objects.Lead.fields[1].direction`: `Account.Name` cannot be written through "
            "this object; "
            "write `direction: down` or leave it out."
        ),
    ),
    "schema name": (
        SMALL + "marketing: {target_schema: Mart}\n",
        6,
        (
            "`marketing.target_schema`: schema `Mart` is not made of a-z, 0-9 and `_` with a "
            "letter in "
            f"front; {RULE}"
        ),
    ),
    "schema of ours": (
        SMALL + "marketing: {target_schema: crm_sync}\n",
        6,
        (
            "`marketing.target_schema`: schema `crm_sync` is taken; write another, such as "
            "`marketing`."
        ),
    ),
    "schema of the CRM": (
        SMALL + "marketing: {target_schema: salesforce}\n",
        6,
        (
            "`marketing.target_schema`: schema `salesforce` holds the CRM's own tables; "
            "write another, "
            "such as `marketing`."
        ),
    ),
    "empty file": (
        "# nothing\n",
        1,
        "the file holds no settings; let `crm-pipeline init` write them anew.",
    ),
    "list": (
        "# one\n- Lead\n",
        2,
        "the file must be a mapping of settings; begin it with `version: 1`.",
    ),
    "text": ("Lead", 1, "the file must be a mapping of settings; begin it with `version: 1`."),
    "key twice": (
        SMALL + "version: 1\n",
        6,
        "`version` stands here for the second time, the first is on line 1; keep one of them.",
    ),
    "key that is a list": (
        "version: 1\n? [a]\n: 1\n",
        2,
        "a key must be a name; write `name: value`.",
    ),
    "alias": (
        "a: &bomb [x]\nb: *bomb\n",
        2,
        "aliases (`*name`) are not allowed; write the value out again.",
    ),
    "tag": (
        "version: !!python/object/apply:os.system ['true']\n",
        1,
        "tags (`!name`) are not allowed; write the plain value.",
    ),
    "depth": ("version: " + "[" * 100_000, 1, "nested deeper than 20 levels; write it flatter."),
    "two documents": (
        "version: 1\n---\nversion: 1\n",
        2,
        "a second document begins here; remove the line `---`.",
    ),
    "tab": ("version: 1\nobjects:\n\tLead: 1\n", 3, "a tab stands here; indent by spaces."),
    "syntax": (
        "version: [1\nobjects: 2\n",
        2,
        (
            "this is not YAML (expected ',' or ']', but got ':'); check that lines of one "
            "level begin "
            "in the same column, and put texts with `: `, `#` or quotes in them into quotes."
        ),
    ),
    "impossible day": (
        "version: 2026-02-30\n",
        1,
        "`2026-02-30` is no value that exists; put it in quotes if it is a text.",
    ),
    "control character": (
        "version: 1\n# \x07\n",
        2,
        "the invisible character U+0007 is not allowed in YAML; remove it.",
    ),
}


@pytest.mark.parametrize("kind", ONE_FAULT)
def test_one_fault_has_its_line_and_its_sentence(load: Load, kind: str) -> None:
    text, line, sentence = ONE_FAULT[kind]
    with pytest.raises(ConfigurationError) as raised:
        load(text)
    assert str(raised.value) == f"crm_sync.yaml:{line}: {sentence}"
    assert raised.value.file == "crm_sync.yaml"
    assert raised.value.line == line


def test_all_faults_are_named_at_once_in_the_order_of_the_file(load: Load) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(SMALL + "      - a b\n    enabled: 1\ncrm:\n  read_streams: 9\nobject: 1\n")
    assert str(raised.value) == (
        "crm_sync.yaml:6: 4 settings need a change:\n"
        "  line 6: `objects.Lead.fields[1]`: `a b` is no field name; write an API name such as "
        "`Lead_Score__c`, or a path such as `Account.Name`.\n"
        "  line 7: `objects.Lead.enabled`: `1` does not fit; write `true` or `false`.\n"
        "  line 9: `crm.read_streams`: `9` does not fit; write a whole number from 1 to 8.\n"
        "  line 10: `object`: there is no such setting; did you mean `objects`?"
    )
    assert raised.value.line == 6


def test_an_object_listed_twice_in_different_case_is_named_on_both_lines(load: Load) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(SMALL + "  LEAD: {fields: [Name]}\n")
    assert str(raised.value) == (
        "crm_sync.yaml:3: 2 settings need a change:\n"
        "  line 3: `objects.Lead`: object `Lead` is listed twice; remove one of them.\n"
        "  line 6: `objects.LEAD`: object `LEAD` is listed twice; remove one of them."
    )


def test_a_value_of_a_misplaced_secret_is_never_repeated(load: Load) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(SMALL + "crm:\n  password: hunter2\n")
    assert "hunter2" not in f"{raised.value!r}{raised.value.__cause__!r}"
    assert raised.value.__context__ is None


def test_a_missing_file_points_to_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        load_settings("crm_sync.yaml")
    assert str(raised.value) == (
        "crm_sync.yaml: there is no such file; run `crm-pipeline init` to write one, or set "
        "CRM_PIPELINE_CONFIG to where it is."
    )


def test_a_folder_and_a_pipe_are_no_settings_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(ConfigurationError) as raised:
            load_settings(name)
        assert str(raised.value) == f"{name}: this is not a regular file; name a YAML file."


def test_a_file_of_another_encoding_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("crm_sync.yaml").write_bytes(b"version: 1\n# caf\xe9\n")
    with pytest.raises(ConfigurationError) as raised:
        load_settings("crm_sync.yaml")
    assert str(raised.value) == (
        "crm_sync.yaml:2: the file is not UTF-8; save it with that encoding."
    )


def test_a_file_larger_than_a_megabyte_is_refused_unread(load: Load) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(SMALL + "#" * MAXIMUM_FILE_BYTES)
    assert str(raised.value) == (
        "crm_sync.yaml: the file is larger than 1 MB; settings are small, so this is another file."
    )


def test_a_byte_order_mark_and_a_folded_filter_are_welcome(load: Load) -> None:
    settings = load("\ufeff" + SMALL + "    filter: |\n      Status = 'Open'\n      and A__c > 1\n")
    assert settings.objects["Lead"].record_filter is not None


def test_a_file_that_we_may_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(_path: Path, _mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    # Root may read everything, so the answer is given rather than the file's mode changed.
    monkeypatch.setattr(Path, "open", refuse)
    Path("crm_sync.yaml").touch()
    with pytest.raises(ConfigurationError) as raised:
        load_settings("crm_sync.yaml")
    assert str(raised.value) == (
        "crm_sync.yaml: the file cannot be read (Permission denied); allow this user to read it."
    )


def test_settings_can_be_made_of_values_as_well() -> None:
    mapping = FieldMapping(field="Email", column="email")
    assert ObjectSettings(fields=(mapping,)).columns[1] is mapping
