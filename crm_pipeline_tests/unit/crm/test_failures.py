"""What Salesforce refuses, in our error tree."""

import json

import pytest

from crm_pipeline.crm.salesforce.failures import (
    BulkUnsupported,
    Concern,
    LimitReached,
    QueryTimedOut,
    failure,
    is_expired_session,
    job_failure,
)
from crm_pipeline.errors import (
    ConfigurationError,
    CredentialsError,
    FailedMidway,
    FieldUnavailable,
    ObjectUnavailable,
    PermanentError,
    ReadExpired,
    TransientError,
)

LEAD = Concern("Lead")
STORED = Concern("Lead", is_stored_result=True)


def body(code: str, message: str = "Canary") -> bytes:
    return json.dumps([{"errorCode": code, "message": message}]).encode()


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (403, "REQUEST_LIMIT_EXCEEDED", LimitReached),
        (400, "ExceededQuota", LimitReached),
        (503, "SERVER_UNAVAILABLE", TransientError),
        (400, "UNABLE_TO_LOCK_ROW", TransientError),
        (400, "QUERY_TIMEOUT", QueryTimedOut),
        (400, "INVALID_TYPE", ObjectUnavailable),
        (403, "INSUFFICIENT_ACCESS", ObjectUnavailable),
        (404, "NOT_FOUND", ObjectUnavailable),
        (400, "MALFORMED_QUERY", PermanentError),
        (400, "INVALID_QUERY_FILTER_OPERATOR", PermanentError),
        (410, "UNSUPPORTED_API_VERSION", ConfigurationError),
        (410, "GONE", ConfigurationError),
        (404, "UNSUPPORTED_API_VERSION", ConfigurationError),
        (403, "API_DISABLED_FOR_ORG", PermanentError),
        (403, "API_CURRENTLY_DISABLED", TransientError),
        (400, "INVALIDENTITY", BulkUnsupported),
        (401, "SOMETHING", CredentialsError),
        (403, "SOMETHING", PermanentError),
        (400, "INVALIDJOB", PermanentError),
        *((status, "", TransientError) for status in (406, 408, 420, 429, 502, 503, 504)),
        (500, "", FailedMidway),
    ],
)
def test_e4_e7_codes_and_statuses_become_verdicts(
    status: int, code: str, verdict: type[Exception]
) -> None:
    found = failure(status, body(code), concern=LEAD)
    assert type(found) is verdict
    assert "Canary" not in str(found)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "INVALID_QUERY_LOCATOR"), (400, "INVALID_LOCATOR"), (404, "NOT_FOUND"), (409, "X")],
)
def test_e13_stored_results_expire(status: int, code: str) -> None:
    assert type(failure(status, body(code), concern=STORED)) is ReadExpired


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("\nSELECT Gone__c FROM Lead\n  ^\nNo such column 'Gone__c' on entity 'Lead'.", "Gone__c"),
        ("Didn't understand relationship 'Boss__r' in field path.", "Boss__r"),
        ("something else about Canary", ""),
    ],
)
def test_a_refused_field_is_named_if_salesforce_names_it(message: str, fields: str) -> None:
    found = failure(400, body("INVALID_FIELD", message), concern=LEAD)
    assert isinstance(found, FieldUnavailable)
    assert found.fields == ((fields,) if fields else ())
    assert found.object_name == "Lead"
    assert "Canary" not in str(found)


def test_a_field_that_cannot_be_filtered_is_a_matter_of_the_filter() -> None:
    message = "field 'Description' can not be filtered in a query call"
    found = failure(400, body("INVALID_FIELD", message), concern=LEAD)
    assert type(found) is PermanentError
    assert "Description" in str(found)


@pytest.mark.parametrize(
    "message",
    [
        "Entity 'Lead' is not supported by the Bulk API.",
        "Selecting compound data not supported in Bulk Query",
        "Entity 'RecentlyViewed' is not supported by the Bulk Query API.",
    ],
)
def test_e14_what_bulk_does_not_read_is_known_by_its_message(message: str) -> None:
    assert type(failure(400, body("API_ERROR", message), concern=LEAD)) is BulkUnsupported
    assert type(job_failure(message, LEAD)) is BulkUnsupported


def test_an_expired_session_is_known_by_status_and_code() -> None:
    assert is_expired_session(401, body("INVALID_SESSION_ID"))
    assert not is_expired_session(403, body("INVALID_SESSION_ID"))
    assert not is_expired_session(401, body("OTHER"))
    assert not is_expired_session(401, b"<html>")


@pytest.mark.parametrize("rubbish", [b"", b"<html>", b"[]", b"[1]", b"null", b'"x"', b"\xff"])
def test_e8_bodies_of_any_kind_are_survived(rubbish: bytes) -> None:
    assert isinstance(failure(503, rubbish), TransientError)
    assert isinstance(failure(400, rubbish), PermanentError)


def test_s14_codes_cannot_forge_log_lines() -> None:
    found = failure(400, body("BAD\r\n\x1b[31mERROR"), concern=LEAD)
    assert "\n" not in str(found)
    assert "\x1b" not in str(found)


def test_retry_after_is_handed_on() -> None:
    found = failure(503, b"", retry_after_seconds=7.0)
    assert isinstance(found, TransientError)
    assert found.retry_after_seconds == 7.0
