"""Environment variables: what they may say, and which login they configure."""

import os
from pathlib import Path

import pytest

from crm_pipeline.config.environment import (
    Environment,
    SalesforceFlow,
    read_environment,
    salesforce_login,
)
from crm_pipeline.errors import ConfigurationError

SECRET = "canary-7f3a"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("CRM_PIPELINE_", "SALESFORCE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Environment:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return read_environment()


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        salesforce_login(environment(monkeypatch, **variables))
    seen = f"{raised.value!r}{raised.value.__cause__!r}{raised.value.__context__!r}"
    assert SECRET not in seen
    return str(raised.value)


def test_an_empty_environment_has_defaults() -> None:
    read = read_environment()
    assert read.config_file == Path("crm_sync.yaml")
    assert read.home == Path(".crm_pipeline")
    assert read.database_url is None
    assert read.salesforce_login_url == "https://login.salesforce.com"


def test_every_variable_arrives_and_an_empty_one_counts_as_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = environment(
        monkeypatch,
        CRM_PIPELINE_CONFIG="other.yaml",
        CRM_PIPELINE_HOME="home",
        CRM_PIPELINE_DATABASE_URL=f"postgresql://me:{SECRET}@db/crm",
        SALESFORCE_LOGIN_URL="https://acme.my.salesforce.com/",
        SALESFORCE_CLIENT_ID="id",
        SALESFORCE_CLIENT_SECRET=SECRET,
        SALESFORCE_USERNAME="",
        SALESFORCE_CA_FILE="ca.pem",
    )
    assert read.config_file == Path("other.yaml")
    assert read.home == Path("home")
    assert read.database_url
    assert read.database_url.get_secret_value().endswith("@db/crm")
    assert read.salesforce_login_url == "https://acme.my.salesforce.com"
    assert read.salesforce_username is None
    assert read.salesforce_ca_file == Path("ca.pem")
    assert SECRET not in repr(read)
    assert SECRET not in read.model_dump_json()


def test_a_dotenv_file_that_lies_about_is_not_read() -> None:
    Path(".env").write_text("CRM_PIPELINE_CONFIG=evil.yaml\n", encoding="utf-8")
    assert read_environment().config_file == Path("crm_sync.yaml")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_database_urls_of_postgres_are_taken(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    assert environment(monkeypatch, CRM_PIPELINE_DATABASE_URL=f"{scheme}://db/crm").database_url


@pytest.mark.parametrize("scheme", ["mysql", "postgresql+psycopg2", "sqlite", "host=x"])
def test_other_databases_are_refused_without_repeating_the_url(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    assert refusal(monkeypatch, CRM_PIPELINE_DATABASE_URL=f"{scheme}://me:{SECRET}@db/crm") == (
        "CRM_PIPELINE_DATABASE_URL must begin with postgresql://, postgres:// or "
        "postgresql+psycopg://; write postgresql://user:password@host:5432/database."
    )


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "http://127.0.0.1:8080/", "http://[::1]:80", "https://test.example:8443"],
)
def test_https_anywhere_and_http_at_home_are_taken(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    read = environment(monkeypatch, SALESFORCE_LOGIN_URL=url)
    assert read.salesforce_login_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://login.salesforce.com",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://0x7f000001",
        "http://10.0.0.1",
        "http://[::2]",
    ],
)
def test_http_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert refusal(monkeypatch, SALESFORCE_LOGIN_URL=url) == (
        "SALESFORCE_LOGIN_URL must begin with https://; http:// is allowed for this machine's own "
        "addresses only, such as http://127.0.0.1:8080."
    )


@pytest.mark.parametrize(
    "url",
    [
        "login.salesforce.com",
        "ftp://login.salesforce.com",
        f"https://me:{SECRET}@login.salesforce.com",
        "https://login.salesforce.com/services/oauth2/token",
        "https://login.salesforce.com?x=1",
        "http://127.0.0.1\\@evil.example",
        "http://127.0.0.1\n",
        "https://",
    ],
)
def test_what_is_no_host_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert refusal(monkeypatch, SALESFORCE_LOGIN_URL=url) == (
        "SALESFORCE_LOGIN_URL must be a scheme and a host without a path or user; write "
        "https://login.salesforce.com or https://your-domain.my.salesforce.com."
    )


def test_two_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = refusal(monkeypatch, CRM_PIPELINE_DATABASE_URL="x", SALESFORCE_LOGIN_URL="y")
    assert [line.split()[0] for line in sentences.splitlines()] == [
        "CRM_PIPELINE_DATABASE_URL",
        "SALESFORCE_LOGIN_URL",
    ]


def test_a_shared_secret_means_client_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    read = environment(
        monkeypatch, SALESFORCE_CLIENT_ID="id", SALESFORCE_CLIENT_SECRET=SECRET,
        SALESFORCE_USERNAME="me@example.com",
    )  # fmt: skip
    assert salesforce_login(read) is SalesforceFlow.CLIENT_CREDENTIALS


def test_a_key_file_means_jwt_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("key.pem").write_text(SECRET, encoding="utf-8")
    Path("key.pem").chmod(0o600)
    Path("ca.pem").write_text("", encoding="utf-8")
    read = environment(
        monkeypatch, SALESFORCE_CLIENT_ID="id", SALESFORCE_USERNAME="me@example.com",
        SALESFORCE_PRIVATE_KEY_FILE="key.pem", SALESFORCE_CA_FILE="ca.pem",
    )  # fmt: skip
    assert salesforce_login(read) is SalesforceFlow.JWT_BEARER


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {},
            (
                "The Salesforce login is not configured: set `SALESFORCE_CLIENT_ID` and "
                "`SALESFORCE_CLIENT_SECRET` to log in by client credentials, or "
                "`SALESFORCE_CLIENT_ID`, `SALESFORCE_USERNAME` and "
                "`SALESFORCE_PRIVATE_KEY_FILE` to "
                "log in by JWT bearer."
            ),
        ),
        (
            {"CLIENT_ID": "id"},
            (
                "The Salesforce login is not configured: set "
                "`SALESFORCE_CLIENT_SECRET` to log in by "
                "client credentials, or `SALESFORCE_USERNAME` and "
                "`SALESFORCE_PRIVATE_KEY_FILE` to log "
                "in by JWT bearer."
            ),
        ),
        (
            {"CLIENT_SECRET": SECRET},
            "To log in to Salesforce by client credentials, set `SALESFORCE_CLIENT_ID` as well.",
        ),
        (
            {"CLIENT_ID": "id", "USERNAME": "me"},
            "To log in to Salesforce by JWT bearer, set `SALESFORCE_PRIVATE_KEY_FILE` as well.",
        ),
        (
            {"PRIVATE_KEY_FILE": "key.pem"},
            (
                "To log in to Salesforce by JWT bearer, set `SALESFORCE_CLIENT_ID` and "
                "`SALESFORCE_USERNAME` as well."
            ),
        ),
        (
            {"CLIENT_ID": "id", "CLIENT_SECRET": SECRET, "PRIVATE_KEY_FILE": "key.pem"},
            (
                "`SALESFORCE_CLIENT_SECRET` and `SALESFORCE_PRIVATE_KEY_FILE` are both "
                "set; unset the "
                "first to log in by JWT bearer, or the second to log in by client credentials."
            ),
        ),
        (
            {"CLIENT_ID": "id", "USERNAME": "me", "PRIVATE_KEY_FILE": "none.pem"},
            (
                "SALESFORCE_PRIVATE_KEY_FILE names `none.pem`, which does not exist; "
                "write the path of "
                "a PEM file."
            ),
        ),
        (
            {"CLIENT_ID": "id", "USERNAME": "me", "PRIVATE_KEY_FILE": "."},
            (
                "SALESFORCE_PRIVATE_KEY_FILE names `.`, which is not a regular file; "
                "write the path of "
                "a PEM file."
            ),
        ),
        (
            {"CLIENT_ID": "id", "CLIENT_SECRET": SECRET, "CA_FILE": "none.pem"},
            (
                "SALESFORCE_CA_FILE names `none.pem`, which does not exist; write the "
                "path of a PEM "
                "file."
            ),
        ),
    ],
)
def test_an_unfinished_login_names_exactly_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    named = {f"SALESFORCE_{name}": value for name, value in variables.items()}
    assert refusal(monkeypatch, **named) == sentence


def test_a_key_file_that_we_may_not_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("key.pem").write_text("", encoding="utf-8")
    # Root may read everything, so the answer is given rather than the file's mode changed.
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    sentence = refusal(
        monkeypatch, SALESFORCE_CLIENT_ID="id", SALESFORCE_USERNAME="me",
        SALESFORCE_PRIVATE_KEY_FILE="key.pem",
    )  # fmt: skip
    assert sentence == (
        "SALESFORCE_PRIVATE_KEY_FILE names `key.pem`, which we may not read; allow this user to "
        "read it."
    )
