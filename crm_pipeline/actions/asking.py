"""Actions that a person asks for, on a shell or in a form.

Belongs here: from what a person types to an action. Does not belong here: rules (rules.py), and
whether it can be done (reading.py, deciding.py).
"""

from collections.abc import Iterable, Mapping
from uuid import uuid4

from crm_pipeline.actions.reading import read_options
from crm_pipeline.actions.refusing import Refusal
from crm_pipeline.config.names import is_object_name, show
from crm_pipeline.errors import UsageError
from crm_pipeline.model.actions import OPTIONS_THAT_LIST_FIELDS, Action, ActionKind


def new_action(
    *,
    requested_by: str,
    object_name: str,
    fields: Mapping[str, object],
    options: Mapping[str, object],
    kind: ActionKind = ActionKind.CREATE,
    action_id: str | None = None,
    record_id: str | None = None,
    email: str | None = None,
    external_id: str | None = None,
) -> Action:
    """An action with an id of its own, if none is given.

    Args:
        requested_by: `cli`, `form`.
        object_name: such as Lead.
        fields: values by API name; None empties.
        options: as docs/how-to/actions.md lists them.
        kind: what is done.
        action_id: the same id is the same action.
        record_id: the record, if it is known.
        email: the person's address.
        external_id: `Field=value`.

    Raises:
        UsageError: what was typed means nothing; the sentence says what to type.
    """
    if not is_object_name(object_name):
        raise UsageError(f"{show(object_name)} is no object name; write one such as Lead.")
    if action_id is not None and ("/" in action_id or not 1 <= len(action_id) <= 200):
        raise UsageError("An action's id has 1 to 200 characters and no slash.")
    try:
        read_options(options)
    except Refusal as refusal:
        raise UsageError(refusal.reason) from None
    key_field, key = _pair(external_id, "external id") if external_id else (None, None)
    return Action(
        action_id=action_id or f"{requested_by}-{uuid4().hex}",
        kind=kind,
        object_name=object_name,
        fields=dict(fields),
        options=dict(options),
        record_id=record_id,
        match_email=email,
        external_id_field=key_field,
        external_id=key,
        requested_by=requested_by,
    )


def fields_typed(pairs: Iterable[str]) -> dict[str, object]:
    """Fields as `Name=value`; `Name=` empties.

    Raises:
        UsageError: one is no such pair, or a field comes twice.
    """
    found: dict[str, object] = {}
    for pair in pairs:
        name, value = _pair(pair, "field")
        if name in found:
            raise UsageError(f"The field {show(name)} is given twice.")
        found[name] = value or None
    return found


def options_typed(pairs: Iterable[str]) -> dict[str, object]:
    """Options as `name=value`; a list of fields is parted by commas.

    Raises:
        UsageError: one is no such pair.
    """
    found: dict[str, object] = {}
    for pair in pairs:
        name, value = _pair(pair, "option")
        found[name] = value.split(",") if name in OPTIONS_THAT_LIST_FIELDS else value
    return found


def _pair(text: str, what: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise UsageError(f"{show(text)} is no {what}; write Name=value.")
    return name.strip(), value
