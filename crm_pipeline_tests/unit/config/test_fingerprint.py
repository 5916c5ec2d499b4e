"""The fingerprint changes with the content of the table, and with nothing else."""

import pytest

from crm_pipeline.config.fingerprint import selection_fingerprint
from crm_pipeline.config.mapping import resolve_selection
from crm_pipeline.config.object_settings import ObjectSettings
from crm_pipeline.model.objects import CrmObject

BASE = {"fields": ["Email", "City"], "filter": "Status = 'x' and Email in ('a', 'b')"}


def fingerprint(lead: CrmObject, **changes: object) -> str:
    settings = ObjectSettings.model_validate({**BASE, **changes})
    return selection_fingerprint(resolve_selection(settings, lead))


def test_the_format_is_pinned_because_a_new_one_reads_everything_again(lead: CrmObject) -> None:
    assert fingerprint(lead) == PINNED


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": ["City", "email", "Id"]},
        {"fields": ["City", {"field": "Email", "direction": "both"}]},
        {"table": "people"},
        {"transport": "bulk"},
        {"enabled": False},
        {"filter": "(status='x') AND email in ('a','b')"},
    ],
)
def test_what_does_not_change_the_content_keeps_the_fingerprint(
    lead: CrmObject, changes: dict[str, object]
) -> None:
    assert fingerprint(lead, **changes) == fingerprint(lead)


def test_every_change_of_content_has_a_fingerprint_of_its_own(lead: CrmObject) -> None:
    changes: list[dict[str, object]] = [
        {},
        {"fields": ["Email"]},
        {"fields": ["Email", {"City": "town"}]},
        {"fields": ["Email", "City", {"Id": "key"}]},
        {"filter": None},
        {"filter": "Status = '1'"},
        {"filter": "Status = 1"},
        {"filter": "Status = true"},
        {"filter": "Status = '2026-01-31'"},
        {"filter": "Status = 2026-01-31"},
        {"filter": "Status = 2026-01-31T00:00:00Z"},
        {"filter": "not Status = '1'"},
        {"filter": "Status = '1' or City = '2'"},
        {"filter": "Status = '1' and City = '2'"},
    ]
    assert len({fingerprint(lead, **change) for change in changes}) == len(changes)


def test_equal_numbers_and_equal_instants_are_equal_filters(lead: CrmObject) -> None:
    one = fingerprint(lead, filter="Status = 10 or Status = 2026-01-31T08:00:00+02:00")
    assert one == fingerprint(lead, filter="Status = 10.0 or Status = 2026-01-31T06:00:00.000Z")


PINNED = "f0873c7adf50850b40f1265e6d09b2bd473d463d3982f3c3b30c211c3ba15e21"
