"""Settings joined with a describe."""

from dataclasses import replace

import pytest

from crm_pipeline.config.mapping import (
    relationship_paths,
    resolve_readable_selection,
    resolve_selection,
)
from crm_pipeline.config.object_settings import ObjectSettings
from crm_pipeline.errors import ConfigurationError, FieldUnavailable
from crm_pipeline.model.filters import All, Comparator, Comparison, Not
from crm_pipeline.model.objects import CrmObject, Direction, Transport

WHAT_TO_DO = (
    "hidden from the integration user. Correct the spelling in `objects.Lead`, or check the "
    "field-level security: in Salesforce's Setup, open Object Manager, the object, Fields & "
    "Relationships, the field, Set Field-Level Security, and make it visible to the integration "
    "user's profile or permission set."
)


def settings(*fields: object, **others: object) -> ObjectSettings:
    return ObjectSettings.model_validate({"fields": list(fields), **others})


def test_a_selection_has_the_id_first_and_the_names_of_the_describe(lead: CrmObject) -> None:
    chosen = settings(
        {"field": "EMAIL", "direction": "both"},
        "account.name",
        {"id": "lead_id"},
        transport="rest",
        filter="not status = 'Spam' and FIRSTNAME != null",
    )
    selection = resolve_selection(chosen, lead)
    assert selection.name == "Lead"
    assert selection.table == "lead"
    assert selection.transport is Transport.REST
    assert [(m.field.name, m.column, m.direction) for m in selection.columns] == [
        ("Id", "lead_id", Direction.DOWN),
        ("Email", "email", Direction.BOTH),
        ("Account.Name", "account_name", Direction.DOWN),
    ]
    assert selection.record_filter == All(
        (
            Not(Comparison("Status", Comparator.EQUAL, "Spam")),
            Comparison("FirstName", Comparator.NOT_EQUAL, None),
        )
    )


def test_the_key_of_another_crm_takes_the_place_of_the_id(lead: CrmObject) -> None:
    key = replace(lead.fields["Id"], name="hs_object_id")
    contact = replace(lead, fields={**lead.fields, key.name: key}, id_field=key.name)
    selection = resolve_selection(settings("Email", table="contact"), contact)
    assert selection.columns[0].field is key
    assert selection.id_column == "id"
    assert selection.table == "contact"


def test_relationship_paths_come_from_mapping_and_filter_once() -> None:
    chosen = settings("Account.Name", "Email", filter="account.name = 'x' or Owner.Email = 'y'")
    assert relationship_paths(chosen) == ("Account.Name", "Owner.Email")


def test_all_unknown_fields_are_named_at_once(lead: CrmObject) -> None:
    chosen = settings("Emial", "Secret__c", "Email", filter="Statsu = 'x' and Emial = 'y'")
    with pytest.raises(FieldUnavailable) as raised:
        resolve_selection(chosen, lead)
    assert str(raised.value) == (
        "Lead: `Emial` (did you mean `Email`?), `Secret__c`, `Statsu` (did you mean `Status`?) do "
        f"not exist, or are {WHAT_TO_DO}"
    )
    assert raised.value.object_name == "Lead"
    assert raised.value.fields == ("Emial", "Secret__c", "Statsu")


def test_one_unknown_field_is_named_in_the_singular(lead: CrmObject) -> None:
    with pytest.raises(FieldUnavailable) as raised:
        resolve_selection(settings("Secret__c"), lead)
    assert str(raised.value) == f"Lead: `Secret__c` does not exist, or is {WHAT_TO_DO}"


def test_fields_that_fit_in_no_column_say_what_to_map_instead(lead: CrmObject) -> None:
    with pytest.raises(ConfigurationError) as raised:
        resolve_selection(settings("Address", "Home__c", "Photo__c"), lead)
    assert str(raised.value) == (
        "Lead: `Address` (address) cannot be stored; it is made of other fields, so map `Street` "
        "and `City` instead.\n"
        "Lead: `Home__c` (location) cannot be stored; it is made of other fields, so map "
        "`Home__Latitude__s` and `Home__Longitude__s` instead.\n"
        "Lead: `Photo__c` (base64) cannot be stored; remove it from `objects.Lead.fields`."
    )


def test_a_filter_by_a_field_that_cannot_be_filtered_by_is_refused(lead: CrmObject) -> None:
    chosen = settings("Email", filter="notes__c = 'x'")
    for resolve in (resolve_selection, resolve_readable_selection):
        with pytest.raises(ConfigurationError) as raised:
            resolve(chosen, lead)
        assert str(raised.value) == (
            "Lead: the CRM cannot filter by `Notes__c`; write the condition in "
            "`objects.Lead.filter` with other fields."
        )


def test_broken_fields_are_left_out_so_that_the_rest_can_sync(lead: CrmObject) -> None:
    chosen = settings("Email", "Gone__c", "Photo__c", "City", filter="Status = 'x'")
    selection, broken = resolve_readable_selection(chosen, lead)
    assert [m.column for m in selection.columns] == ["id", "email", "city"]
    assert selection.record_filter is not None
    assert broken == ("Gone__c", "Photo__c")


def test_with_nothing_broken_both_resolutions_agree(lead: CrmObject) -> None:
    chosen = settings("Email", "City")
    assert resolve_readable_selection(chosen, lead) == (resolve_selection(chosen, lead), ())


def test_a_broken_filter_never_widens_what_is_read(lead: CrmObject) -> None:
    with pytest.raises(FieldUnavailable) as raised:
        resolve_readable_selection(settings("Email", filter="Gone__c = 'x'"), lead)
    assert raised.value.fields == ("Gone__c",)


def test_without_its_id_an_object_cannot_be_read(lead: CrmObject) -> None:
    hidden = replace(lead, fields={"Email": lead.fields["Email"]})
    with pytest.raises(FieldUnavailable) as raised:
        resolve_readable_selection(settings("Email"), hidden)
    assert raised.value.fields == ("Id",)
