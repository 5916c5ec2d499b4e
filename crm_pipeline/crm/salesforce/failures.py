"""The one place that turns what Salesforce refuses into our error tree.

Belongs here: which error code means which verdict, and the sentence that says what to do. Does not
belong here: deciding whether to try again (session.py). Sentences are built from codes and API
names alone: Salesforce's own messages and bodies may repeat queries, values or tokens.

Sources: REST API guide "Status Codes and Error Responses"; SOAP API guide "ExceptionCode"; Bulk API
2.0 guide "Errors"; the shapes were compared with answers quoted in issues of open connectors.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crm_pipeline.config.names import printable
from crm_pipeline.errors import (
    ConfigurationError,
    CredentialsError,
    CrmPipelineError,
    FailedMidway,
    FieldUnavailable,
    NotAccepted,
    ObjectUnavailable,
    PermanentError,
    ReadExpired,
    TransientError,
    UsageError,
)

EXPIRED_SESSION = "INVALID_SESSION_ID"


class LimitReached(NotAccepted):
    """A quota is used up: waiting seconds cannot help, so nothing is tried again in place."""


class LoginUnavailable(NotAccepted):
    """Nobody can log in at the moment; the login was tried as often as it may be."""


class QueryTimedOut(TransientError):
    """The query ran into Salesforce's two minutes; a Bulk job has more time."""


class ReadOnlyOrganization(NotAccepted):
    """Maintenance of hours, in which records can be read and nothing can be written or begun."""


class QueryTooLong(PermanentError):
    """The query does not fit into an address; a Bulk job takes it in a body."""


class TooManyDeletions(TransientError):
    """The window holds more deletions than one answer may; a narrower one can be asked for."""


class BulkUnsupported(PermanentError):
    """Salesforce reads this object, or this kind of field, over REST only."""


class SetupRefused(PermanentError):
    """A change of what the organisation is made of is refused; whoever asked knows what it means.

    Attributes:
        code: Salesforce's own word.
        is_full: there is no room for more.
    """

    def __init__(self, code: str, *, is_full: bool) -> None:
        super().__init__(f"Salesforce refuses a change of its set-up ({code}).")
        self.code = code
        self.is_full = is_full


@dataclass(frozen=True, slots=True)
class Concern:
    """What a request was about, for the sentence.

    Attributes:
        object_name: the CRM object, if there is one.
        is_stored_result: it asks for a job or cursor, so "not found" means that it expired.
        is_setup: it looks at or changes what the organisation is made of.
    """

    object_name: str = ""
    is_stored_result: bool = False
    is_setup: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Salesforce's own words; `message` is for recognising, never for showing."""

    code: str
    message: str = ""


_TRANSIENT_STATUSES = frozenset({406, 408, 420, 425, 429, 500, 502, 503, 504})
_BUSY_CODES = frozenset(
    {
        "API_CURRENTLY_DISABLED",
        "REQUEST_RUNNING_TOO_LONG",
        "RATE_LIMIT_EXCEEDED",
        "SERVER_UNAVAILABLE",
        "TXN_SECURITY_METERING_ERROR",
        "TXN_SECURITY_RUNTIME_ERROR",
        "UNABLE_TO_LOCK_ROW",
        "UNKNOWN_EXCEPTION",
    }
)
_LIMIT_CODES = frozenset(
    {
        "EXCEEDEDQUOTA",
        "EXCEEDED_QUOTA",
        "LIMIT_EXCEEDED",
        "REQUEST_LIMIT_EXCEEDED",
        "TOTAL_REQUESTS_LIMIT_EXCEEDED",
    }
)
_HIDDEN_OBJECT_CODES = frozenset(
    {
        "INSUFFICIENT_ACCESS",
        "INSUFFICIENT_ACCESS_OR_READONLY",
        "INVALID_TYPE",
        "INVALID_TYPE_FOR_OPERATION",
    }
)
_QUERY_CODES = frozenset(
    {
        "INVALID_FIELD_TYPE_FOR_FILTER",
        "INVALID_OPERATOR_FIELD",
        "INVALID_QUERY_FILTER_OPERATOR",
        "MALFORMED_ID",
        "MALFORMED_QUERY",
    }
)
_NO_API = (
    "Salesforce does not let our user call its API; give the integration user the permission API "
    "Enabled, and check that the edition includes the API."
)
_DENIALS = {
    "API_DISABLED": _NO_API,
    "API_DISABLED_FOR_ORG": _NO_API,
    "TXN_SECURITY_NO_ACCESS": (
        "A transaction security policy of the organisation forbids our user what the sync asks "
        "for; exempt the integration user in Setup > Transaction Security Policies."
    ),
}
_EXPIRED_CODES = frozenset({"INVALID_LOCATOR", "INVALID_QUERY_LOCATOR", "INVALIDJOB"})
_TOO_MANY_AT_ONCE = re.compile(r"concurrent", re.IGNORECASE)
_CONCURRENCY_WAIT_SECONDS = 5.0  # it is about requests that last longer than 20 seconds
_LIMIT_WAIT_SECONDS = 900.0  # the daily limit is a rolling window: some of it comes back soon
_NO_BULK = re.compile(r"not supported (by the|in) Bulk", re.IGNORECASE)
_UNFILTERABLE = re.compile(r"field '?(?P<field>[\w.]+)'? can ?not be filtered", re.IGNORECASE)
_NO_ROOM = re.compile(
    r"(maximum|limit)\b.*\b(custom fields?|external ids?)\b"
    r"|\b(custom fields?|external ids?)\b.*(maximum|limit)",
    re.IGNORECASE | re.DOTALL,
)
_MISSING_FIELD = re.compile(
    r"No such column '(?P<column>[\w.]+)'|understand relationship '(?P<relationship>\w+)'"
    r"|relationship '?(?P<step>\w+)'? in field path",
    re.IGNORECASE,
)


def parsed(body: bytes) -> Any:
    """The JSON of a body; None if it is none, or nested deeper than any answer is."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def refusals_in(body: bytes) -> tuple[Refusal, ...]:
    """The error entries of a body: a list of them, one of them, an OAuth error, or none."""
    answer = parsed(body)
    entries = answer if isinstance(answer, list) else [answer]
    found = []
    for entry in entries:
        if isinstance(entry, Mapping):
            code = entry.get("errorCode") or entry.get("error") or ""
            text = entry.get("message") or entry.get("error_description") or ""
            found.append(Refusal(str(code), str(text)))
    return tuple(found)


def is_expired_session(status: int, body: bytes) -> bool:
    """Whether a new login would have let the request through."""
    return status == 401 and any(
        refusal.code.upper() in {EXPIRED_SESSION, "INVALID_AUTH_HEADER", "INVALIDSESSIONID"}
        for refusal in refusals_in(body)
    )


def failure(
    status: int,
    body: bytes,
    *,
    retry_after_seconds: float | None = None,
    concern: Concern | None = None,
) -> CrmPipelineError:
    """The verdict on a refused request."""
    concern = concern or Concern()
    refusal = next(iter(refusals_in(body)), Refusal(""))
    if concern.is_setup and (of_setup := _setup_refused(status, refusal)) is not None:
        return of_setup
    by_code = refused(refusal, concern, retry_after_seconds=retry_after_seconds)
    return by_code or _by_status(status, refusal, concern, retry_after_seconds)


def refused(
    refusal: Refusal, concern: Concern, *, retry_after_seconds: float | None = None
) -> CrmPipelineError | None:
    """The verdict on an error code, whatever the status it came with; None for unknown codes."""
    code = refusal.code.upper()
    if code in _LIMIT_CODES and _TOO_MANY_AT_ONCE.search(refusal.message):
        return TransientError(
            f"Salesforce answers {code}: too many long requests at once; it is tried again.",
            retry_after_seconds=retry_after_seconds or _CONCURRENCY_WAIT_SECONDS,
        )
    if code in _LIMIT_CODES:
        return LimitReached(
            f"Salesforce answers {code}: a limit of the organisation is used up. The sync goes on "
            "when calls are free again; lower crm.api_budget_percent or sync less often.",
            retry_after_seconds=retry_after_seconds or _LIMIT_WAIT_SECONDS,
        )
    if code == "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE":
        return ReadOnlyOrganization(
            "Salesforce is read-only for maintenance; what has to be written waits."
        )
    if code in _BUSY_CODES:
        kind = FailedMidway if code == "UNKNOWN_EXCEPTION" else TransientError
        return kind(
            f"Salesforce is busy or in maintenance ({code}); it is tried again.",
            retry_after_seconds=retry_after_seconds,
        )
    return _needs_another_way(refusal, concern) or _refused_for_good(refusal, concern)


def _setup_refused(status: int, refusal: Refusal) -> SetupRefused | None:
    code = refusal.code.upper()
    is_full = _NO_ROOM.search(refusal.message) is not None
    is_passing = code in _BUSY_CODES | _LIMIT_CODES and not is_full
    if status not in {400, 403, 404} or is_passing:
        return None
    return SetupRefused(_printable(code) or str(status), is_full=is_full)


def _needs_another_way(refusal: Refusal, concern: Concern) -> CrmPipelineError | None:
    """Refusals whose remedy is known to whoever asked."""
    code = refusal.code.upper()
    if code == "QUERY_TIMEOUT":
        return QueryTimedOut(
            f"Salesforce did not finish the query on {_named(concern)} within its time limit; "
            "set its transport to auto, or filter it by an indexed field."
        )
    if code in _EXPIRED_CODES and concern.is_stored_result:
        return _expired(concern)
    if code == "INVALID_REPLICATION_DATE":
        return forgotten_deletions(concern.object_name)
    if code == "EXCEEDED_ID_LIMIT":
        return TooManyDeletions(
            f"More records of {_named(concern)} were deleted than one answer may hold."
        )
    if code in {"INVALIDENTITY", "FEATURENOTENABLED"} or _NO_BULK.search(refusal.message):
        return BulkUnsupported(
            f"Salesforce does not read {_named(concern)} by Bulk ({code or 'refused'}); set its "
            "transport to rest or auto."
        )
    return None


def _refused_for_good(refusal: Refusal, concern: Concern) -> CrmPipelineError | None:
    code = refusal.code.upper()
    if code in {"INVALID_FIELD", "INVALIDFIELD"}:
        return _field_failure(refusal, concern)
    if code in _HIDDEN_OBJECT_CODES:
        return hidden_object(concern.object_name)
    if code in _QUERY_CODES:
        return PermanentError(
            f"Salesforce refuses the query on {_named(concern)} ({code}); look at its record "
            "filter."
        )
    if code == "UNSUPPORTED_API_VERSION":
        return _retired_version()
    sentence = _DENIALS.get(code)
    return PermanentError(sentence) if sentence else None


def job_failure(message: str, concern: Concern) -> CrmPipelineError:
    """The verdict on a Bulk job that ended as Failed, from the job's error message.

    Messages begin with a code in front of a colon, sometimes behind `InvalidBatch : Failed to
    process query: `.
    """
    codes = re.findall(r"\b([A-Z][A-Z_]{4,})\b(?=\s*:)", message)
    verdicts = (refused(Refusal(code, message), concern) for code in (*codes, ""))
    verdict = next((one for one in verdicts if one is not None), None)
    if isinstance(verdict, PermanentError | UsageError | LimitReached | QueryTimedOut):
        return verdict
    return ReadExpired(
        f"Salesforce gave up a Bulk job on {_named(concern)}; it is begun anew. If this repeats, "
        "look at Setup > Bulk Data Load Jobs, or set its transport to rest."
    )


def hidden_object(object_name: str) -> ObjectUnavailable:
    """The verdict on an object that is not there for us."""
    return ObjectUnavailable(
        object_name,
        f"Salesforce does not show {_shown(object_name) or 'the object'} to our user; check its "
        "API name, and give the integration user Read on it.",
    )


def missing_fields(object_name: str, fields: tuple[str, ...]) -> FieldUnavailable:
    """The verdict on fields that are not there for us."""
    return FieldUnavailable(
        object_name,
        fields,
        f"Salesforce does not show {', '.join(map(_shown, fields)) or 'a mapped field'} of "
        f"{_shown(object_name) or 'the object'} to our user; check the API names, and the "
        "field-level security of the integration user.",
    )


def forgotten_deletions(object_name: str) -> ReadExpired:
    """The verdict on a log of deletions that does not reach back far enough."""
    return ReadExpired(
        f"Salesforce's log of deletions no longer tells all that was deleted of {object_name} "
        "since the last sync; the ids are compared instead."
    )


def not_json(host: str, *, retry_after_seconds: float | None = None) -> TransientError:
    """The verdict on a page of HTML, or on broken JSON, where an answer should be."""
    return TransientError(
        f"{host} answered something else than Salesforce's API does, most likely a maintenance "
        "page; it is tried again.",
        retry_after_seconds=retry_after_seconds,
    )


def _field_failure(refusal: Refusal, concern: Concern) -> CrmPipelineError:
    unfilterable = _UNFILTERABLE.search(refusal.message)
    if unfilterable:
        return PermanentError(
            f"Salesforce cannot filter {_named(concern)} by {unfilterable['field']}; take it out "
            "of the record filter."
        )
    found = _MISSING_FIELD.search(refusal.message)
    name = next((part for part in found.groups() if part), None) if found else None
    return missing_fields(concern.object_name, (name,) if name else ())


def _by_status(
    status: int, refusal: Refusal, concern: Concern, retry_after_seconds: float | None
) -> CrmPipelineError:
    code = f" {_printable(refusal.code)}" if refusal.code else ""
    if status in _TRANSIENT_STATUSES:
        kind = FailedMidway if status == 500 else TransientError
        return kind(
            f"Salesforce answers {status}{code}; it is tried again.",
            retry_after_seconds=retry_after_seconds,
        )
    if status in {404, 409} and concern.is_stored_result:
        return _expired(concern)
    return _refused_by_status(status, code, concern)


def _refused_by_status(status: int, code: str, concern: Concern) -> CrmPipelineError:
    if status == 404 and concern.object_name:
        return hidden_object(concern.object_name)
    if status == 410:
        return _retired_version()
    if status == 401:
        return CredentialsError(
            f"Salesforce answers 401{code} to a fresh login; look at SALESFORCE_LOGIN_URL and at "
            "the policies of the connected app."
        )
    if status in {414, 431}:
        return too_long(concern)
    return PermanentError(
        f"Salesforce refuses a request about {_named(concern)} ({status}{code}); check what the "
        "integration user may do."
    )


def too_long(concern: Concern) -> QueryTooLong:
    """The verdict on a query that does not fit into an address."""
    return QueryTooLong(
        f"The query on {_named(concern)} is too long for REST; map fewer fields, or set its "
        "transport to bulk."
    )


def _expired(concern: Concern) -> ReadExpired:
    return ReadExpired(
        f"Salesforce no longer holds the half-read result of {_named(concern)}; it is read anew."
    )


def _retired_version() -> ConfigurationError:
    return ConfigurationError(
        "Salesforce does not serve this version of its API (21.0 to 30.0 ended in June 2025); set "
        "crm.api_version to one that it lists under /services/data."
    )


def _named(concern: Concern) -> str:
    return concern.object_name or "the organisation"


def _shown(name: str) -> str:
    """Names come from describe and from people; neither may break a line."""
    return printable(name, limit=200)


def _printable(code: str) -> str:
    """Codes come from the network: anything else than a word could forge a log line."""
    return re.sub(r"[^\w.-]", "", code)[:60]
