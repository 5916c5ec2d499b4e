"""Rules for actions in the settings file: what loads, and the sentence for what does not."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.config.action_settings import RuleKind, Taken
from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.errors import ConfigurationError

RULE: dict[str, Any] = {
    "when": {"event": "form_submitted", "where": "source = 'site' and properties.form = 'Demo'"},
    "do": {"create": "Lead", "match": "email", "if_found": "leave"},
    "fields": {
        "LastName": {"from": "properties.last_name", "otherwise": "Unknown"},
        "Email": {"from": "email"},
        "LeadSource": "Web",
        "NumberOfEmployees": 5,
        "Title": None,
    },
    "options": {
        "assignment": "default",
        "owner": "Inbound",
        "only_new": ["LeadSource"],
        "only_empty": ["Title"],
    },
}
WITH_AUDIENCE = {"audiences": {"hot": {"description": "x", "where": "total_score > 1"}}}


def load(folder: Path, rule: Mapping[str, Any], **settings: Any) -> Settings:
    file = folder / "crm_sync.yaml"
    document = {
        "version": 1,
        "objects": {"Lead": {"fields": ["Email", "Status"]}},
        "marketing": WITH_AUDIENCE,
        "actions": {"rules": {"one": rule}},
        **settings,
    }
    file.write_text(json.dumps(document))
    return load_settings(file)


def changed(**parts: Mapping[str, Any]) -> dict[str, Any]:
    """The rule with other parts; a part is replaced whole."""
    return {**deepcopy(RULE), **parts}


def test_a_rule_says_what_happens_and_what_is_done(tmp_path: Path) -> None:
    rule = load(tmp_path, RULE).actions.rules["one"]
    assert rule.when.kind is RuleKind.EVENT
    assert rule.when.properties == ("properties.form",)
    assert rule.taken == {
        "LastName": Taken("properties.last_name", "Unknown"),
        "Email": Taken("email"),
    }
    assert rule.constants == {"LeadSource": "Web", "NumberOfEmployees": 5, "Title": None}
    assert rule.options.only_new == ("LeadSource",)
    assert rule.options.only_empty == ("Title",)


def test_no_rule_is_needed_and_one_can_be_off(tmp_path: Path) -> None:
    assert load(tmp_path, {**RULE, "enabled": False}).actions.enabled_rules == {}
    file = tmp_path / "crm_sync.yaml"
    file.write_text("version: 1\nobjects: {Lead: {fields: [Email]}}\n")
    assert load_settings(file).actions.rules == {}


@pytest.mark.parametrize(
    ("when", "do", "match"),
    [
        ({"event": "form_submitted"}, {"create": "Lead"}, "email"),
        ({"event": "form_submitted"}, {"create": "Account"}, "none"),
        ({"score": "total", "rises_above": 50}, {"create": "Task"}, "email"),
        ({"audience": "hot", "change": "left"}, {"update": "Lead"}, "email"),
        ({"record": "Lead", "field": "Status", "becomes": "x"}, {"update": "Lead"}, "record"),
        ({"record": "Lead", "field": "Status", "becomes": "x"}, {"create": "Case"}, "email"),
    ],
)
def test_how_the_record_is_found_goes_without_saying(
    tmp_path: Path, when: dict[str, Any], do: dict[str, Any], match: str
) -> None:
    rule = changed(when=when, do=do, fields={"Subject": "x"})
    assert load(tmp_path, rule).actions.rules["one"].match == match


SENTENCES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing that is watched": ({"when": {}}, "a rule watches one thing: write one of `event`"),
    "two things": (
        {"when": {"event": "form_submitted", "score": "total", "rises_above": 1}},
        "a rule watches one thing",
    ),
    "an event that is none": (
        {"when": {"event": "form_submited"}},
        "`form_submited` is no kind of event; did you mean `form_submitted`?",
    ),
    "a condition on no column": (
        {"when": {"event": "form_submitted", "where": "sorce = 'x'"}},
        "there is no column `sorce`; did you mean `source`?",
    ),
    "a number in a property": (
        {"when": {"event": "form_submitted", "where": "properties.size > 5"}},
        "`properties.size` holds text, which `>` does not compare.",
    ),
    "a condition beside a score": (
        {"when": {"score": "total", "rises_above": 5, "where": "source = 'x'"}},
        "`where` does not belong to `score`; remove it.",
    ),
    "a score without a limit": (
        {"when": {"score": "total"}},
        "write either `rises_above` or `falls_below` beside `score`.",
    ),
    "a score with two": (
        {"when": {"score": "total", "rises_above": 5, "falls_below": 2}},
        "write either `rises_above` or `falls_below`",
    ),
    "an audience without a change": (
        {"when": {"audience": "hot"}},
        "write `change: entered` or `change: left` beside `audience`.",
    ),
    "an audience that is none": (
        {"when": {"audience": "cold", "change": "left"}, "fields": {"Title": "x"}},
        "there is no audience `cold`; the file has `hot`.",
    ),
    "a record without a value": (
        {"when": {"record": "Lead", "field": "Status"}},
        "write `field` and `becomes` beside `record`.",
    ),
    "an object that is not synced": (
        {"when": {"record": "Case", "field": "Status", "becomes": "x"}, "fields": {"Title": "x"}},
        "`Case` is not among the objects that are synced.",
    ),
    "a field that is not synced": (
        {"when": {"record": "Lead", "field": "Rating", "becomes": "x"}, "fields": {"Title": "x"}},
        "`Rating` is not among the fields of `Lead` that are synced.",
    ),
    "a source that is not synced": (
        {
            "when": {"record": "Lead", "field": "Status", "becomes": "x"},
            "fields": {"Title": {"from": "Rating"}},
        },
        "`Rating` is not among the fields of `Lead` that are synced.",
    ),
    "nothing to do": ({"do": {}}, "write either `create` or `update` with an object."),
    "two things to do": ({"do": {"create": "Lead", "update": "Lead"}}, "either `create` or"),
    "no object": ({"do": {"create": "a lead"}}, "`a lead` is no object name; write an API name"),
    "a record that is created": (
        {"do": {"create": "Lead", "match": "record"}},
        "a record at hand is updated, not created; write `update`.",
    ),
    "an update of nothing": (
        {"do": {"update": "Lead", "match": "none"}},
        "an update must find its record; write `email` or `record`.",
    ),
    "an update of an account": (
        {"do": {"update": "Account"}, "fields": {"Name": "x"}},
        "an update must find its record; write `match: record` for the record at hand.",
    ),
    "a record where none is at hand": (
        {
            "when": {"score": "total", "rises_above": 5},
            "do": {"update": "Lead", "match": "record"},
            "fields": {"Title": "x"},
        },
        "no record is at hand there; write `match: email`.",
    ),
    "no fields": ({"fields": {}}, "does not fit; write at least one field with a constant"),
    "a field that is none": ({"fields": {"Account.Name": "x"}}, "`Account.Name` is no field name"),
    "a source that is none": (
        {"fields": {"Email": {"from": "emial"}}},
        "there is no `emial` to take; did you mean `email`? There are",
    ),
    "half a source": ({"fields": {"Email": {"form": "email"}}}, "write a constant, or `{from: em"),
    "a list": ({"fields": {"Email": ["x"]}}, "a list is no value; write a constant or"),
    "a duplicate option": (
        {"options": {"on_duplicate": "merge"}},
        "`merge` does not fit; write `park`, `link` or `allow`.",
    ),
    "an unknown option": (
        {"options": {"assignmnt": "default"}},
        "there is no such setting; did you mean `assignment`?",
    ),
}


@pytest.mark.parametrize("what", SENTENCES)
def test_what_makes_no_sense_is_refused_with_a_sentence_that_says_what_to_write(
    tmp_path: Path, what: str
) -> None:
    parts, sentence = SENTENCES[what]
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, changed(**parts))
    assert sentence in str(raised.value)
    assert "actions.rules.one" in str(raised.value)


def test_a_rule_that_nothing_would_show_anything_is_refused(tmp_path: Path) -> None:
    score = changed(when={"score": "total", "rises_above": 5}, fields={"Title": "x"})
    with pytest.raises(ConfigurationError, match="the models are off"):
        load(tmp_path, score, marketing={"enabled": False})
    stage = changed(
        when={"record": "Lead", "field": "Status", "becomes": "x"}, fields={"Title": "x"}
    )
    with pytest.raises(ConfigurationError, match="changes are seen in the history"):
        load(tmp_path, stage, retention={"history_days": 0})


def test_a_rule_has_a_plain_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="rule `My Rule` is not made of a-z"):
        load(tmp_path, RULE, actions={"rules": {"My Rule": RULE}})
