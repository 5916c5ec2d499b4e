"""The one error the org raises, in the terms a client sees.

Belongs here: Salesforce's error codes as constructors that are used in more than one room.
Does not belong here: HTTP (server.py turns an OrgError into a response).
"""

from collections.abc import Iterable, Mapping
from typing import Any

NOT_FOUND = 404


class OrgError(Exception):
    """A refusal by the org: Salesforce's error code, its message, the fields at fault.

    `status` is the HTTP status the REST API answers with, `duplicates` what a duplicate rule found.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        fields: tuple[str, ...] = (),
        status: int = 400,
        duplicates: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.fields = fields
        self.status = status
        self.duplicates = duplicates

    def body(self) -> dict[str, Any]:
        """One entry of the error list a client receives."""
        answer: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        if self.fields or self.code in _CODES_WITH_FIELDS:
            answer["fields"] = list(self.fields)
        if self.duplicates is not None:
            answer["duplicateResut"] = self.duplicates  # Salesforce's own spelling for single rows
        return answer

    def row(self) -> dict[str, Any]:
        """The same, as the collections answer it per row."""
        answer: dict[str, Any] = {
            "statusCode": self.code,
            "message": self.message,
            "fields": list(self.fields),
        }
        if self.duplicates is not None:
            answer["duplicateResult"] = self.duplicates
        return answer

    def cell(self) -> str:
        """The same, as a Bulk result tells it in `sf__Error`."""
        named = f"{','.join(self.fields)} " if self.fields else ""
        return f"{self.code}:{self.message}:{named}--"


class BatchFails(OrgError):
    """A refusal that takes all rows of its batch along, as an unhandled Apex exception does."""


class RequestFails(OrgError):
    """A failure of the whole request: nothing of it is written, no row is named."""


_CODES_WITH_FIELDS = frozenset(
    {
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        "DUPLICATE_VALUE",
        "ENTITY_IS_DELETED",
        "ENTITY_IS_LOCKED",
        "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        "INACTIVE_OWNER_OR_USER",
        "INVALID_CROSS_REFERENCE_KEY",
        "INVALID_FIELD_FOR_INSERT_UPDATE",
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "MALFORMED_ID",
        "NUMBER_OUTSIDE_VALID_RANGE",
        "REQUIRED_FIELD_MISSING",
        "STRING_TOO_LONG",
        "UNABLE_TO_LOCK_ROW",
    }
)


def not_found(message: str = "The requested resource does not exist") -> OrgError:
    """A record, object or resource that is not there."""
    return OrgError("NOT_FOUND", message, status=NOT_FOUND)


def method_not_allowed(method: str, allowed: Iterable[str]) -> OrgError:
    """A resource that knows other methods."""
    return OrgError(
        "METHOD_NOT_ALLOWED",
        f"HTTP Method '{method}' not allowed. Allowed are {', '.join(sorted(allowed))}",
        status=405,
    )


def entity_is_deleted() -> OrgError:
    """A write to a record that is in the recycle bin or gone."""
    return OrgError("ENTITY_IS_DELETED", "entity is deleted", status=NOT_FOUND)


def invalid_type(name: str) -> OrgError:
    """An object that the org does not have, or that the user may not see."""
    return OrgError(
        "INVALID_TYPE",
        f"sObject type '{name}' is not supported. If you are attempting to use a custom object, "
        "be sure to append the '__c' after the entity name. Please reference your WSDL or the "
        "describe call for the appropriate names.",
    )


def no_such_column(name: str, object_name: str) -> OrgError:
    """A field in a written record that the object does not have."""
    return OrgError("INVALID_FIELD", f"No such column '{name}' on sobject of type {object_name}")


def malformed_id(value: object, label: str = "Record ID") -> OrgError:
    """Text that is no Id where one is needed."""
    return OrgError("MALFORMED_ID", f"{label}: id value of incorrect type: {value}")
