"""An action as it was asked for, made into something that can be decided.

Belongs here: what can be judged of an action by itself. Does not belong here: which record is meant
and what is written to it (deciding.py).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crm_pipeline.actions.refusing import Refusal
from crm_pipeline.config.names import did_you_mean, listed, show
from crm_pipeline.model.actions import (
    CARRIERS,
    MEMBER,
    OPTIONS,
    PEOPLE,
    Action,
    ActionKind,
    ActionOptions,
    IfFound,
)
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import OnDuplicate

LONGEST_KEY = 320
"""Characters; that long is an e-mail address at most."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Asked:
    """An action that makes sense by itself.

    Attributes:
        crm_object: as our user sees it now.
        email: the address by which a person is looked for; None where none is.
    """

    action: Action
    options: ActionOptions
    crm_object: CrmObject
    email: str | None

    @property
    def is_about_chosen(self) -> bool:
        """Whether its record is the person that somebody chose for a task, case or membership."""
        return self.action.record_object in PEOPLE and self.crm_object.name in CARRIERS

    @property
    def record_id(self) -> str | None:
        """The record to update, if the action names it."""
        return None if self.is_about_chosen else self.action.record_id

    @property
    def looks_first(self) -> bool:
        """Whether its record is looked for by the key; else the CRM finds or makes it by itself.

        A member that is there takes no campaign and no person, which a new one must name.
        """
        return (
            self.action.kind is ActionKind.UPDATE
            or self.options.depends_on_record
            or self.crm_object.name == MEMBER
        )


def read(action: Action, describe: Callable[[str], CrmObject | None]) -> Asked:
    """What the action asks for.

    Args:
        action: as it was sent.
        describe: an object by its name; None where our user sees none.

    Raises:
        Refusal: it cannot mean anything.
    """
    if not action.is_readable:
        raise Refusal("BAD_VALUE", "The fields or options are nested too deeply.")
    options = read_options(action.options)
    crm_object = describe(action.object_name)
    if crm_object is None:
        raise Refusal("NO_OBJECT", f"There is no object {show(action.object_name)} for our user.")
    require_key(action.external_id, "external id")
    require_key(action.match_email, "address")
    _require_known(crm_object, options)
    return Asked(action, options, crm_object, _email(action, options, crm_object))


def read_options(given: Mapping[str, object]) -> ActionOptions:
    """Options as the sender wrote them.

    Raises:
        Refusal: one is unknown, or has a value that means nothing.
    """
    for name in given:
        if name not in OPTIONS:
            near = did_you_mean(name, OPTIONS)
            hint = f"did you mean {show(near)}?" if near else f"the options are {listed(OPTIONS)}."
            raise Refusal("BAD_OPTION", f"There is no option {show(name)}; {hint}")
    return ActionOptions(
        on_duplicate=_one_of(given, "on_duplicate", tuple(OnDuplicate)) or "park",
        assignment=_word(given, "assignment") or "none",
        if_found=IfFound(_one_of(given, "if_found", tuple(IfFound)) or "update"),
        by_email=_one_of(given, "match", ("email", "none")) != "none",
        owner=_word(given, "owner"),
        campaign=_word(given, "campaign"),
        only_new=_fields(given, "only_new"),
        only_empty=_fields(given, "only_empty"),
    )


def require_key(value: str | None, what: str) -> None:
    """Refuse what no record could be found by.

    Raises:
        Refusal: the value is empty, too long, or holds control characters.
    """
    if value is None:
        return
    if not value.strip() or _CONTROL.search(value):
        raise Refusal("BAD_KEY", f"The {what} is empty or holds control characters.")
    if len(value) > LONGEST_KEY:
        raise Refusal("BAD_KEY", f"The {what} has {len(value):,} characters.")


def field_value(action: Action, name: str) -> object:
    """What the action says of a field, whatever the case of its name; None if nothing."""
    folded = name.casefold()
    return next((v for key, v in action.fields.items() if key.casefold() == folded), None)


def _email(action: Action, options: ActionOptions, crm_object: CrmObject) -> str | None:
    """The address: the one that is named, else that of the person who is to be created."""
    is_update = action.kind is ActionKind.UPDATE
    if action.record_id:
        return None
    if action.external_id and (is_update or crm_object.name not in CARRIERS):
        return None
    email = action.match_email
    if crm_object.name in PEOPLE and not is_update:
        if not options.by_email:
            return None
        in_fields = field_value(action, "Email")
        email = email or (in_fields.strip().lower() if isinstance(in_fields, str) else None)
    if not email:
        return None
    if crm_object.name not in (*PEOPLE, *CARRIERS):
        raise Refusal("NO_ADDRESS", f"A record of {crm_object.name} is not found by an address.")
    require_key(email, "address")
    if "@" not in email:
        raise Refusal("BAD_KEY", "What should be an e-mail address is none.")
    return email


def _fields(given: Mapping[str, object], name: str) -> frozenset[str]:
    """A list of fields, in lower case as their names are compared."""
    listed_fields = given.get(name) or []
    if not isinstance(listed_fields, list) or not all(isinstance(f, str) for f in listed_fields):
        raise Refusal("BAD_OPTION", f"The option `{name}` is a list of fields.")
    return frozenset(one.strip().casefold() for one in listed_fields if one.strip())


def _require_known(crm_object: CrmObject, options: ActionOptions) -> None:
    """A field that is spelt wrong would be spared from nothing, and nobody would notice."""
    for name in sorted(options.only_new | options.only_empty):
        if crm_object.find(name) is None:
            near = did_you_mean(name, crm_object.fields)
            hint = f" Did you mean {show(near)}?" if near else ""
            raise Refusal("BAD_OPTION", f"{crm_object.name} has no field {show(name)}.{hint}")


def _word(given: Mapping[str, object], name: str) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or _CONTROL.search(value):
        raise Refusal("BAD_OPTION", f"The option {show(name)} is a text.")
    if len(value) > LONGEST_KEY:
        raise Refusal("BAD_OPTION", f"The option {show(name)} has {len(value):,} characters.")
    return value.strip()


def _one_of(given: Mapping[str, object], name: str, words: tuple[str, ...]) -> str | None:
    value = _word(given, name)
    if value is not None and value not in words:
        raise Refusal(
            "BAD_OPTION", f"The option {show(name)} is one of {listed(words)}, not {show(value)}."
        )
    return value
