"""Custom fields that our writing needs: looked for, made, and opened to our user.

A field made through the API is seen by nobody: describe leaves it out until a permission set of the
user's says Read, and calls it read only until one says Edit. So a field is done when a fresh
describe shows it writable, and not before.

Belongs here: these requests, and what a refusal of them means. Does not belong here: which fields
are wanted (config/wanted_fields.py).

Sources: Tooling API guide "CustomField" (made with FullName and Metadata; Metadata is answered for
one row at a time); Object Reference "FieldPermissions" (parents are permission sets, never
profiles; Edit needs Read; View Setup and Configuration is needed to see them),
"PermissionSetAssignment"; Help "Manage Deleted Custom Fields" (fifteen days, name and all).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crm_pipeline.crm.salesforce.failures import Concern, SetupRefused
from crm_pipeline.crm.salesforce.fields import value_type_of
from crm_pipeline.crm.salesforce.identity import user_id_of
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.soql import quoted
from crm_pipeline.model.objects import CrmField, CrmObject
from crm_pipeline.model.wanted_fields import FieldEnsured, FieldKind, FieldState, WantedField


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a kind of field is made, and what may stand in for it.

    Attributes:
        shown: the type as Setup shows it.
        native_types: describe's words for fields that can hold the same.
    """

    shown: str
    metadata: Mapping[str, object]
    native_types: frozenset[str]


_KEY_LENGTH = 64
_RECIPES: Mapping[FieldKind, _Recipe] = {
    FieldKind.NUMBER: _Recipe(
        "Number(18, 0)",
        {"type": "Number", "precision": 18, "scale": 0},
        frozenset({"double", "int"}),
    ),
    FieldKind.CHECKBOX: _Recipe(
        "Checkbox", {"type": "Checkbox", "defaultValue": "false"}, frozenset({"boolean"})
    ),
    FieldKind.INSTANT: _Recipe("Date/Time", {"type": "DateTime"}, frozenset({"datetime"})),
    FieldKind.TEXT: _Recipe(
        "Text(255)",
        {"type": "Text", "length": 255},
        frozenset({"string", "textarea", "picklist"}),
    ),
    FieldKind.KEY: _Recipe(
        f"Text({_KEY_LENGTH}), External ID, Unique",
        {
            "type": "Text",
            "length": _KEY_LENGTH,
            "externalId": True,
            "unique": True,
            "caseSensitive": True,
        },
        frozenset({"string"}),
    ),
}
_NATIVE_TYPES = {
    "Checkbox": "boolean",
    "DateTime": "datetime",
    "Number": "double",
    "Text": "string",
    "TextArea": "textarea",
    "Picklist": "picklist",
}
_NAME_IS_TAKEN = frozenset({"DUPLICATE_DEVELOPER_NAME", "DUPLICATE_VALUE"})
_MAY_NOT = frozenset(
    {
        "FUNCTIONALITY_NOT_ENABLED",
        "INSUFFICIENT_ACCESS",
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
        "INSUFFICIENT_ACCESS_OR_READONLY",
        "INVALID_TYPE",
        "NOT_FOUND",
    }
)
_FACTS_OF_SETS = ("Label", "Type", "IsCustom", "IsOwnedByProfile", "NamespacePrefix")
_MADE_ELSEWHERE = {"Event": "Activity", "Task": "Activity"}


class _Stopped(Exception):
    """A person must act; caught by `ensure`, whose outcome it becomes."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def judged(crm_object: CrmObject, wanted: WantedField) -> FieldEnsured:
    """How a field stands, by describe alone."""
    field = crm_object.find(wanted.name)
    is_ours = _is_custom(wanted.name)
    if field is None:
        reason = f"Salesforce does not show {_path(wanted)} to our user."
        if is_ours:
            return _ensured(wanted, FieldState.LACKING, reason, _by_hand(wanted))
        remedy = f"Look at the name in {wanted.setting}, and let the integration user edit it."
        return _ensured(wanted, FieldState.REFUSED, reason, remedy)
    if (fault := _fault(field, wanted)) is not None:
        return _ensured(wanted, FieldState.REFUSED, fault, _another_name(wanted))
    if field.is_updateable:
        return _ensured(wanted, FieldState.PRESENT)
    reason = f"Our user may read {_path(wanted)} and not write it."
    state = FieldState.READ_ONLY if is_ours else FieldState.REFUSED
    return _ensured(wanted, state, reason, f"{_permission(wanted)}.")


class FieldWorkshop:
    """Makes custom fields over one session."""

    def __init__(
        self, session: SalesforceSession, version_path: str, describe: Callable[[str], CrmObject]
    ) -> None:
        self._session = session
        self._path = version_path
        self._describe = describe

    def ensure(self, wanted: WantedField) -> FieldEnsured:
        """Make a field, or find it, and open it to our user; the outcome is what describe shows."""
        before = judged(self._describe(wanted.object_name), wanted)
        if before.state not in {FieldState.LACKING, FieldState.READ_ONLY}:
            return before
        try:
            is_new = before.state is FieldState.LACKING and self._make(wanted)
            granted_by = self._grant(wanted)
        except _Stopped as stopped:
            return _ensured(wanted, FieldState.REFUSED, stopped.reason, stopped.remedy)
        after = judged(self._describe(wanted.object_name), wanted)
        if after.state is not FieldState.PRESENT:
            made = "was made" if is_new else "is there"
            reason = f"It {made}, and still: {after.reason}"
            return _ensured(wanted, FieldState.REFUSED, reason, after.remedy)
        if granted_by is None and not is_new:
            return after
        state = FieldState.CREATED if is_new else FieldState.MADE_WRITABLE
        by = f"Our user may write it by the permission set {granted_by}." if granted_by else ""
        return _ensured(wanted, state, by)

    def _make(self, wanted: WantedField) -> bool:
        """Make the field unless it is there; says whether it was made."""
        _check_can_be_made(wanted)
        try:
            known = self._known(wanted)
            if known is None and self._was_made(wanted):
                return True
            known = known or self._known(wanted)
        except SetupRefused as error:
            raise _not_made(wanted, error) from None
        if known is None:
            raise _Stopped(
                f"A deleted field of {wanted.object_name} still holds the name {wanted.name}: "
                "Salesforce keeps deleted fields for fifteen days, names and all.",
                f"Erase it in Setup > Object Manager > {wanted.object_name} > Fields & "
                "Relationships > Deleted Fields, or name another field in "
                f"{wanted.setting}; then run this again.",
            )
        if (fault := _fault(known, wanted)) is not None:
            raise _Stopped(fault, _another_name(wanted))
        return False

    def _was_made(self, wanted: WantedField) -> bool:
        """Make the field; False when its name is taken."""
        metadata = {
            **_RECIPES[wanted.kind].metadata,
            "label": wanted.label,
            "inlineHelpText": wanted.help_text or None,
        }
        address = f"{self._path}/tooling/sobjects/CustomField"
        try:
            self._send("POST", wanted, address, {"FullName": _path(wanted), "Metadata": metadata})
        except SetupRefused as error:
            if error.code not in _NAME_IS_TAKEN:
                raise
            return False
        return True

    def _known(self, wanted: WantedField) -> CrmField | None:
        """The field as the organisation has it, whoever may see it."""
        developer_name = wanted.name.removesuffix("__c")
        records = self._query(
            wanted,
            ("Id", "Metadata"),
            "CustomField",
            f"EntityDefinition.QualifiedApiName = {quoted(wanted.object_name)}"
            f" AND DeveloperName = {quoted(developer_name)} AND NamespacePrefix = null",
            resource="tooling/query",
        )
        if not records:
            return None
        metadata = records[0].get("Metadata") or {}
        spoken = str(metadata.get("type") or "")
        native_type = _NATIVE_TYPES.get(spoken, spoken.lower())
        return CrmField(
            wanted.name,
            str(metadata.get("label") or wanted.label),
            value_type_of(native_type),
            native_type,
            length=int(metadata.get("length") or 0),
            is_calculated=bool(metadata.get("formula")),
            is_unique=bool(metadata.get("unique")),
            is_external_id=bool(metadata.get("externalId")),
        )

    def _grant(self, wanted: WantedField) -> str | None:
        """Let a permission set of our user's say Read and Edit.

        Returns:
            Its label; None when one says so already.
        """
        try:
            sets = self._own_sets(wanted)
            for _ in range(2):
                present = self._permissions(wanted, tuple(sets))
                if any(one.get("PermissionsEdit") for one in present):
                    return None
                try:
                    return self._say_edit(wanted, sets, present)
                except SetupRefused as error:
                    # Somebody was quicker: look again.
                    if error.code != "DUPLICATE_VALUE":
                        raise
        except SetupRefused as error:
            raise _not_granted(wanted, error) from None
        return None

    def _say_edit(
        self, wanted: WantedField, sets: Mapping[str, str], present: list[Mapping[str, Any]]
    ) -> str:
        address = f"{self._path}/sobjects/FieldPermissions"
        words = {"PermissionsRead": True, "PermissionsEdit": True}
        if present:
            one = present[0]
            self._send("PATCH", wanted, f"{address}/{one['Id']}", words)
            return sets[str(one["ParentId"])]
        set_id = next(iter(sets))
        facts = {"ParentId": set_id, "SobjectType": wanted.object_name, "Field": _path(wanted)}
        self._send("POST", wanted, address, {**facts, **words})
        return sets[set_id]

    def _permissions(self, wanted: WantedField, sets: tuple[str, ...]) -> list[Mapping[str, Any]]:
        return self._query(
            wanted,
            ("Id", "ParentId", "PermissionsEdit"),
            "FieldPermissions",
            f"ParentId IN ({', '.join(map(quoted, sets))})"
            f" AND SobjectType = {quoted(wanted.object_name)} AND Field = {quoted(_path(wanted))}",
        )

    def _own_sets(self, wanted: WantedField) -> dict[str, str]:
        """Labels of our user's permission sets that can be changed, by id.

        The one that the fewest users have comes first: nobody else needs to write the field.

        Raises:
            _Stopped: there is none.
        """
        records = self._query(
            wanted,
            ("PermissionSetId", *(f"PermissionSet.{name}" for name in _FACTS_OF_SETS)),
            "PermissionSetAssignment",
            f"AssigneeId = {quoted(user_id_of(self._session))}",
        )
        own = {
            str(one["PermissionSetId"]): str((one.get("PermissionSet") or {}).get("Label") or "")
            for one in records
            if _can_be_changed(one.get("PermissionSet") or {})
        }
        if not own:
            raise _Stopped(
                "Our user has no permission set that could be changed; profiles, groups and sets "
                "of packages cannot be, from here.",
                f"Give the integration user a permission set of its own. {_by_hand(wanted)}",
            )
        if len(own) == 1:
            return own
        holders = Counter(
            str(one["PermissionSetId"])
            for one in self._query(
                wanted,
                ("PermissionSetId",),
                "PermissionSetAssignment",
                f"PermissionSetId IN ({', '.join(map(quoted, own))})",
            )
        )
        return {one: own[one] for one in sorted(own, key=lambda one: (holders[one], own[one]))}

    def _query(
        self,
        wanted: WantedField,
        names: tuple[str, ...],
        source: str,
        condition: str,
        *,
        resource: str = "query",
    ) -> list[Mapping[str, Any]]:
        query = f"SELECT {', '.join(names)} FROM {source} WHERE {condition}"  # noqa: S608 - quoted
        answer = self._session.get_object(
            f"{self._path}/{resource}", "records", params={"q": query}, concern=_concern(wanted)
        )
        return list(answer["records"])

    def _send(
        self, method: str, wanted: WantedField, address: str, body: Mapping[str, object]
    ) -> None:
        # Repeated freely: the second of two says that it is there already, and we look.
        self._session.request(method, address, json=body, repeatable=True, concern=_concern(wanted))


def _concern(wanted: WantedField) -> Concern:
    return Concern(wanted.object_name, is_setup=True)


def _ensured(
    wanted: WantedField, state: FieldState, reason: str = "", remedy: str = ""
) -> FieldEnsured:
    return FieldEnsured(wanted, state, _RECIPES[wanted.kind].shown, reason, remedy)


def _fault(field: CrmField, wanted: WantedField) -> str | None:
    """Why a field cannot be the wanted one, whoever may write it."""
    recipe = _RECIPES[wanted.kind]
    if field.is_calculated:
        return f"{_path(wanted)} is a formula, which nobody can write."
    if field.native_type not in recipe.native_types:
        return f"{_path(wanted)} is of the type {field.native_type}, and must be {recipe.shown}."
    if wanted.kind is FieldKind.KEY and not (
        field.is_unique and field.is_external_id and field.length >= _KEY_LENGTH
    ):
        return f"{_path(wanted)} must be {recipe.shown}, and is not all of that."
    return None


def _check_can_be_made(wanted: WantedField) -> None:
    if "__" in wanted.name.removesuffix("__c"):
        raise _Stopped(
            f"{wanted.name} would be a field of an installed package, which only the package can "
            "make.",
            f"Install the package, or name another field in {wanted.setting}.",
        )
    elsewhere = _MADE_ELSEWHERE.get(wanted.object_name)
    if elsewhere is not None:
        raise _Stopped(
            f"Fields of {wanted.object_name} are made on {elsewhere}, which holds them for tasks "
            "and events together; that is left to a person.",
            _by_hand(wanted).replace(f"on {wanted.object_name}", f"on {elsewhere}"),
        )


def _not_made(wanted: WantedField, error: SetupRefused) -> _Stopped:
    if error.is_full:
        return _Stopped(
            f"{wanted.object_name} has no room for another field of this kind.",
            "Delete fields that nobody uses and erase them under Deleted Fields, or name a field "
            f"that is there already in {wanted.setting}.",
        )
    if error.code in _MAY_NOT:
        return _Stopped(
            "Our user may not make fields: it lacks the permission Customize Application.",
            f"{_by_hand(wanted)} Or give the integration user that permission for as long as this "
            "command takes.",
        )
    return _Stopped(f"Salesforce refuses to make it ({error.code}).", _by_hand(wanted))


def _not_granted(wanted: WantedField, error: SetupRefused) -> _Stopped:
    reason = f"Salesforce refuses to let our user write {_path(wanted)} ({error.code})."
    if error.code in _MAY_NOT:
        reason = (
            f"Our user may not give itself the right to write {_path(wanted)}: it lacks Manage "
            "Profiles and Permission Sets, or View Setup and Configuration."
        )
    return _Stopped(reason, f"{_permission(wanted)}; then run this again.")


def _by_hand(wanted: WantedField) -> str:
    return (
        f"Let an administrator make the field {wanted.name} on {wanted.object_name}: "
        f"{_RECIPES[wanted.kind].shown}, label {wanted.label}. {_permission(wanted)}."
    )


def _permission(wanted: WantedField) -> str:
    return f"Give a permission set of the integration user Read and Edit on {_path(wanted)}"


def _another_name(wanted: WantedField) -> str:
    return f"Name another field in {wanted.setting}, then run this again."


def _path(wanted: WantedField) -> str:
    return f"{wanted.object_name}.{wanted.name}"


def _is_custom(name: str) -> bool:
    return name.lower().endswith("__c")


def _can_be_changed(permission_set: Mapping[str, Any]) -> bool:
    return bool(
        permission_set.get("IsCustom")
        and not permission_set.get("IsOwnedByProfile")
        and not permission_set.get("NamespacePrefix")
        and permission_set.get("Type") in {None, "Regular"}
    )
