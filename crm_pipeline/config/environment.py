"""Secrets and places: what comes from environment variables, and only from there.

Holds `Environment` and which login it configures. Belongs here: a value that differs between
machines or must not stand in a file. Does not belong here: choices about the sync (settings.py) and
logging in (crm/<vendor>/).
"""

import ipaddress
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from crm_pipeline.config.names import listed, printable
from crm_pipeline.errors import ConfigurationError

_DATABASE_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?P<port>:[0-9]{1,5})?/?"
)


class SalesforceFlow(StrEnum):
    """How the integration user logs in: by a shared secret, or by a signed assertion."""

    CLIENT_CREDENTIALS = "client_credentials"
    JWT_BEARER = "jwt_bearer"


def _database_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(_DATABASE_SCHEMES):
        raise ValueError(
            "must begin with postgresql://, postgres:// or postgresql+psycopg://; write "
            "postgresql://user:password@host:5432/database."
        )
    return value


def _login_url(value: str) -> str:
    match = _URL.fullmatch(value)
    if match is None:
        raise ValueError(
            "must be a scheme and a host without a path or user; write "
            "https://login.salesforce.com or https://your-domain.my.salesforce.com."
        )
    if match["scheme"] == "http" and not _is_loopback(match["host"]):
        raise ValueError(
            "must begin with https://; http:// is allowed for this machine's own addresses only, "
            "such as http://127.0.0.1:8080."
        )
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Environment(BaseSettings):
    """The variables that CRM Pipeline reads; an empty variable counts as not set.

    Attributes:
        config_file: CRM_PIPELINE_CONFIG, the settings file.
        home: CRM_PIPELINE_HOME, where the embedded database and Dagster keep their files.
        database_url: CRM_PIPELINE_DATABASE_URL; None means the embedded PostgreSQL.
        salesforce_login_url: SALESFORCE_LOGIN_URL without a slash at its end.
        salesforce_ca_file: SALESFORCE_CA_FILE, a private certificate authority to trust instead.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        case_sensitive=True,
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    config_file: Path = Field(Path("crm_sync.yaml"), validation_alias="CRM_PIPELINE_CONFIG")
    home: Path = Field(Path(".crm_pipeline"), validation_alias="CRM_PIPELINE_HOME")
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        None, validation_alias="CRM_PIPELINE_DATABASE_URL"
    )
    salesforce_login_url: Annotated[str, AfterValidator(_login_url)] = Field(
        "https://login.salesforce.com", validation_alias="SALESFORCE_LOGIN_URL"
    )
    salesforce_client_id: str | None = Field(None, validation_alias="SALESFORCE_CLIENT_ID")
    salesforce_client_secret: SecretStr | None = Field(
        None, validation_alias="SALESFORCE_CLIENT_SECRET"
    )
    salesforce_username: str | None = Field(None, validation_alias="SALESFORCE_USERNAME")
    salesforce_private_key_file: Path | None = Field(
        None, validation_alias="SALESFORCE_PRIVATE_KEY_FILE"
    )
    salesforce_ca_file: Path | None = Field(None, validation_alias="SALESFORCE_CA_FILE")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the environment: a .env file that happens to lie about must not redirect a sync."""
        return (init_settings, env_settings)


def read_environment() -> Environment:
    """The environment as it is now.

    Raises:
        ConfigurationError: variables whose values cannot be used, one sentence each; values are
            never repeated, for they may be secrets.
    """
    try:
        return Environment()
    except ValidationError as error:
        sentences = [
            f"{fault['loc'][0]} {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
    # Raised outside of the except block: the cause would carry the values.
    raise ConfigurationError("\n".join(sentences))


def salesforce_login(environment: Environment) -> SalesforceFlow:
    """Which of the two logins the environment configures.

    Raises:
        ConfigurationError: variables are missing, contradict each other, or name no readable file;
            the sentence names exactly those.
    """
    flow = _chosen_flow(environment)
    _require_variables(environment, flow)
    if flow is SalesforceFlow.JWT_BEARER:
        _require_file("SALESFORCE_PRIVATE_KEY_FILE", environment.salesforce_private_key_file)
        _require_private(environment.salesforce_private_key_file)
    if environment.salesforce_ca_file is not None:
        _require_file("SALESFORCE_CA_FILE", environment.salesforce_ca_file)
    return flow


def _chosen_flow(environment: Environment) -> SalesforceFlow:
    """What the operator seems to want, complete or not."""
    has_secret = environment.salesforce_client_secret is not None
    has_key = environment.salesforce_private_key_file is not None
    if has_secret and has_key:
        raise ConfigurationError(
            "`SALESFORCE_CLIENT_SECRET` and `SALESFORCE_PRIVATE_KEY_FILE` are both set; unset the "
            "first to log in by JWT bearer, or the second to log in by client credentials."
        )
    if has_secret:
        return SalesforceFlow.CLIENT_CREDENTIALS
    if has_key or environment.salesforce_username is not None:
        return SalesforceFlow.JWT_BEARER
    missing = [] if environment.salesforce_client_id else ["SALESFORCE_CLIENT_ID"]
    raise ConfigurationError(
        f"The Salesforce login is not configured: set {listed([*missing, _SECRET])} to log in by "
        f"client credentials, or {listed([*missing, _USERNAME, _KEY_FILE])} to log in by JWT "
        "bearer."
    )


_SECRET = "SALESFORCE_CLIENT_SECRET"  # noqa: S105 - the variable's name, not its value
_USERNAME = "SALESFORCE_USERNAME"
_KEY_FILE = "SALESFORCE_PRIVATE_KEY_FILE"


def _require_variables(environment: Environment, flow: SalesforceFlow) -> None:
    needed: dict[str, object] = {"SALESFORCE_CLIENT_ID": environment.salesforce_client_id}
    if flow is SalesforceFlow.JWT_BEARER:
        needed[_USERNAME] = environment.salesforce_username
        needed[_KEY_FILE] = environment.salesforce_private_key_file
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        by = "JWT bearer" if flow is SalesforceFlow.JWT_BEARER else "client credentials"
        raise ConfigurationError(f"To log in to Salesforce by {by}, set {listed(missing)} as well.")


def _require_file(variable: str, path: Path | None) -> None:
    """A file that is there and ours to read; pipes and devices would hang the login."""
    if path is None or not path.exists():
        raise ConfigurationError(
            f"{variable} names `{printable(str(path), limit=200)}`, which does not exist; write "
            "the path of a PEM file."
        )
    if not path.is_file():
        raise ConfigurationError(
            f"{variable} names `{printable(str(path), limit=200)}`, which is not a regular file; "
            "write the path of a PEM file."
        )
    if not os.access(path, os.R_OK):
        raise ConfigurationError(
            f"{variable} names `{printable(str(path), limit=200)}`, which we may not read; allow "
            "this user to read it."
        )


def _require_private(path: Path | None) -> None:
    """A key that only we read; its group may, which is how containers hand over secrets."""
    if path is not None and path.stat().st_mode & 0o007:
        shown = printable(str(path), limit=200)
        raise ConfigurationError(
            f"{_KEY_FILE} names `{shown}`, which every user of this machine may read; run: "
            f"chmod 600 {shown}"
        )
