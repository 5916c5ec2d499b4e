"""Features an administrator switches on for good: several currencies, person accounts.

Belongs here: what they add to the objects, and how a person account's two records stay one.
Does not belong here: single fields (schema_changes.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition, PicklistValue

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Row = dict[str, Any]
_PERSON = {
    "FirstName": "FirstName",
    "LastName": "LastName",
    "Salutation": "Salutation",
    "PersonEmail": "Email",
    "PersonTitle": "Title",
    "PersonMobilePhone": "MobilePhone",
    "PersonBirthdate": "Birthdate",
    "PersonHasOptedOutOfEmail": "HasOptedOutOfEmail",
}
_TWIN = FieldDefinition(
    "IsPersonAccount",
    "Is Person Account",
    "boolean",
    nillable=False,
    createable=False,
    updateable=False,
    default=False,
)


def enable_currencies(org: "SandboxOrg", rates: Mapping[str, str]) -> None:
    """Let every object with an amount say its currency; the first code is that of old records.

    No stamp moves, though every record gains a value. The rates live in CurrencyType, and
    nothing moves when they change but their own stamps.
    """
    codes = tuple(PicklistValue(code) for code in rates)
    field = FieldDefinition(
        "CurrencyIsoCode",
        "Currency ISO Code",
        "picklist",
        length=255,
        picklist_values=codes,
        restricted_picklist=True,
        default=codes[0].value,
        defaulted_on_create=True,
    )
    with org.transaction():
        for definition in org.catalogue.all():
            if any(one.type == "currency" for one in definition.fields):
                org.add_field(definition.name, field)
        if not org.catalogue.has("CurrencyType"):
            org.add_object(_CURRENCY_TYPE)
        for code, rate in rates.items():
            corporate = code == codes[0].value
            facts = {"IsoCode": code, "ConversionRate": Decimal(rate), "IsActive": True}
            org.create("CurrencyType", {**facts, "IsCorporate": corporate, "DecimalPlaces": 2})


_CURRENCY_TYPE = ObjectDefinition(
    "CurrencyType",
    "Currency Type",
    "Currency Types",
    "01L",
    (
        FieldDefinition("IsoCode", "Currency ISO Code", "picklist", length=3, nillable=False),
        FieldDefinition("ConversionRate", "Conversion Rate", "double", precision=18, scale=6),
        FieldDefinition("DecimalPlaces", "Decimal Places", "int", precision=9),
        FieldDefinition("IsActive", "Active", "boolean", nillable=False, default=False),
        FieldDefinition("IsCorporate", "Corporate Currency", "boolean", default=False),
    ),
    soft_delete=False,
)


def enable_person_accounts(org: "SandboxOrg") -> None:
    """Let an account be a person: fields on Account, and a contact that is its twin."""
    contact = org.catalogue.object("Contact")
    with org.transaction():
        for name, source in _pairs(contact).items():
            field = contact.field(source)
            if field is not None and org.catalogue.object("Account").field(name) is None:
                whose = replace(field, name=name, nillable=True, unique=False, external_id=False)
                org.add_field("Account", whose)
        org.add_field("Account", _TWIN)
        org.add_field("Contact", _TWIN)
        org.add_field(
            "Account",
            FieldDefinition(
                "PersonContactId",
                "Contact ID",
                "reference",
                length=18,
                createable=False,
                updateable=False,
                reference_to=("Contact",),
                relationship_name="PersonContact",
            ),
        )


def _pairs(contact: ObjectDefinition) -> dict[str, str]:
    """Account fields by the contact fields that they show: custom ones end in __pc."""
    pairs = {name: source for name, source in _PERSON.items() if contact.field(source)}
    custom = (one.name for one in contact.fields if one.name.endswith("__c") and one.stored)
    return pairs | {f"{name.removesuffix('__c')}__pc": name for name in custom}


def is_person(definition: ObjectDefinition, values: Mapping[str, Any]) -> bool:
    """Whether a new record is a person account: an account that has a last name."""
    if definition.name != "Account" or definition.field("IsPersonAccount") is None:
        return False
    return any(name.lower() == "lastname" for name in values)


def create_person(
    org: "SandboxOrg", values: Mapping[str, Any], *, as_user: str | None = None
) -> str:
    """Create an account and the contact that is its twin; returns the account's Id."""
    pairs = _pairs(org.catalogue.object("Contact"))
    with org.transaction():
        whole = {**values, "Name": _name(values), "IsPersonAccount": True}
        [account] = org.create_many("Account", [whole], as_user=as_user)
        mine = {pairs[name]: value for name, value in values.items() if name in pairs}
        twin = {**mine, "AccountId": account, "IsPersonAccount": True}
        contact = org.create("Contact", twin, as_user=as_user)
        org.update("Account", account, {"PersonContactId": contact}, stamps="none")
    return account


def mirror(org: "SandboxOrg", account_id: str, changed: Mapping[str, Any]) -> None:
    """After an edit of a person account: its name and its twin follow."""
    account = org.get("Account", account_id) or {}
    if not account.get("IsPersonAccount") or not account.get("PersonContactId"):
        return
    pairs = _pairs(org.catalogue.object("Contact"))
    twin = {pairs[name]: account[name] for name in changed if name in pairs}
    if not twin:
        return
    name = _name(account)
    if name != account["Name"]:
        org.update("Account", account_id, {"Name": name}, stamps="none")
    org.update("Contact", str(account["PersonContactId"]), twin)


def check_not_twin(org: "SandboxOrg", definition: ObjectDefinition, record_id: str) -> None:
    """An API user writes a person through the account, never through its contact."""
    if definition.name != "Contact" or definition.field("IsPersonAccount") is None:
        return
    contact = org.get("Contact", record_id) or {}
    if contact.get("IsPersonAccount"):
        raise OrgError(
            "INSUFFICIENT_ACCESS_OR_READONLY",
            "person contacts are changed through their account",
            status=403,
        )


def _name(values: Mapping[str, Any]) -> str:
    return " ".join(str(one) for one in (values.get("FirstName"), values.get("LastName")) if one)
