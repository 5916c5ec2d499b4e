"""Logging in: two OAuth flows, one login for many threads, and a stop before a user is locked out.

Belongs here: getting and renewing the access token. Does not belong here: using it (session.py).
SOAP login and the username-password flow are left out on purpose: Salesforce retires the first and
blocks the second in new orgs.

Sources: Salesforce Help "OAuth 2.0 Client Credentials Flow", "OAuth 2.0 JWT Bearer Flow"; the
library's own login is not used because it can only reach `https://*.salesforce.com`, has no
timeouts, and puts answers, which may hold a token, into its exceptions.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import requests
import stamina

from crm_pipeline.crm.salesforce.addresses import checked_url
from crm_pipeline.crm.salesforce.bodies import whole
from crm_pipeline.crm.salesforce.failures import LoginUnavailable, parsed, refusals_in
from crm_pipeline.crm.salesforce.usage import date_in
from crm_pipeline.errors import (
    ConfigurationError,
    CredentialsError,
    CrmPipelineError,
    TransientError,
)

LOGIN_TRIES = 3
_ASSERTION_LIFETIME = timedelta(minutes=3)  # Salesforce refuses more than five
_TOLERATED_SKEW = timedelta(seconds=60)
_ANSWER_LIMIT_BYTES = 1024 * 1024
_PATIENCE_SECONDS = 60.0
_PASSING_ERRORS = frozenset(
    {"rate_limit_exceeded", "login_rate_exceeded", "server_error", "temporarily_unavailable"}
)


@dataclass(frozen=True, slots=True)
class ClientCredentialsLogin:
    """A connected app's id and secret, running as the user set in the app. Needs My Domain."""

    login_url: str
    client_id: str
    client_secret: str = field(repr=False)

    @property
    def settings(self) -> str:
        """The environment variables to look at when it fails."""
        return "SALESFORCE_LOGIN_URL, SALESFORCE_CLIENT_ID and SALESFORCE_CLIENT_SECRET"

    def form(self, now: datetime) -> dict[str, str]:
        """The body of the token request."""
        return {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }


@dataclass(frozen=True, slots=True)
class JwtBearerLogin:
    """A connected app's id and a private key whose certificate the app knows.

    Attributes:
        key_file: PEM file with the RSA key.
        audience: what the assertion is addressed to; None derives it from the login host.
    """

    login_url: str
    client_id: str
    username: str
    key_file: Path
    audience: str | None = None

    @property
    def settings(self) -> str:
        """The environment variables to look at when it fails."""
        return (
            "SALESFORCE_LOGIN_URL, SALESFORCE_CLIENT_ID, SALESFORCE_USERNAME and "
            "SALESFORCE_PRIVATE_KEY_FILE"
        )

    def form(self, now: datetime) -> dict[str, str]:
        """The body of the token request, with an assertion signed for a few minutes."""
        claims = {
            "iss": self.client_id,
            "sub": self.username,
            "aud": self.audience or _audience(self.login_url),
            "exp": int((now + _ASSERTION_LIFETIME).timestamp()),
        }
        return {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": self._signed(claims),
        }

    def _signed(self, claims: dict[str, object]) -> str:
        problem = ""
        try:
            return jwt.encode(claims, self.key_file.read_bytes(), algorithm="RS256")
        except OSError:
            problem = "cannot be read"
        except (jwt.PyJWTError, TypeError, ValueError):
            problem = "is not an RSA private key in PEM form"
        # Raised outside of the except block: the cause could quote the key.
        raise CredentialsError(
            f"The file named by SALESFORCE_PRIVATE_KEY_FILE {problem}; point it at the key of the "
            "certificate that the connected app holds."
        )


SalesforceLogin = ClientCredentialsLogin | JwtBearerLogin


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and the one host that may see it."""

    secret: str = field(repr=False)
    instance_url: str
    identity_url: str


class TokenKeeper:
    """Hands out the token; many threads that find it expired cause one login.

    After a refusal for good the circuit stays open: more tries with the same credentials would
    lock the integration user out, and no later try of this process can succeed.
    """

    def __init__(
        self,
        http: requests.Session,
        login: SalesforceLogin,
        *,
        timeouts: tuple[float, float],
        verify: bool | str,
        before_request: Callable[[], None],
    ) -> None:
        self._http = http
        self._verify = verify
        self._login = login
        self._login_url = checked_url(login.login_url, "SALESFORCE_LOGIN_URL")
        self._timeouts = timeouts
        self._before_request = before_request
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._failures = 0
        self._latest_failure: CrmPipelineError | None = None
        self._skew = timedelta()
        self.logins = 0

    def current(self) -> Token:
        """The token at hand, or a new one.

        Raises:
            CredentialsError: Salesforce refuses us, now or earlier.
            TransientError: it cannot be reached.
        """
        token = self._token
        return token if token is not None else self.renew(None)

    def renew(self, spent: Token | None) -> Token:
        """A token other than the spent one.

        Raises:
            CredentialsError: Salesforce refuses us, now or earlier.
            TransientError: it cannot be reached.
        """
        failures_seen = self._failures
        with self._lock:
            if self._token is not None and self._token is not spent:
                return self._token
            failed = self._latest_failure
            # Whoever waited while a login failed shares its failure instead of trying again.
            if failed is not None and (
                isinstance(failed, CredentialsError) or self._failures != failures_seen
            ):
                raise _again(failed)
            return self._fly()

    def _fly(self) -> Token:
        self._latest_failure = None
        try:
            self._token = self._logged_in()
        except (CredentialsError, TransientError) as failed:
            self._latest_failure = _again(failed)
        if self._latest_failure is not None:
            self._token = None
            self._failures += 1
            raise self._latest_failure
        assert self._token is not None
        return self._token

    def _logged_in(self) -> Token:
        for attempt in stamina.retry_context(
            on=TransientError, attempts=LOGIN_TRIES, wait_initial=0.5, wait_max=10.0
        ):
            with attempt:
                return self._ask()
        raise AssertionError("unreachable: the last attempt raises")

    def _ask(self) -> Token:
        self._before_request()
        status, body, moment = self._post()
        if status == 200:
            self.logins += 1
            return self._token_in(body)
        refusal = next(iter(refusals_in(body)), None)
        code = refusal.code if refusal else ""
        if status in {408, 420, 429} or status >= 500 or code in _PASSING_ERRORS or not code:
            raise TransientError(f"Salesforce cannot log us in now ({status}); it is tried again.")
        if code == "invalid_grant" and self._clock_was_wrong(moment):
            raise TransientError("Our clock differs from Salesforce's; logging in by theirs.")
        raise CredentialsError(
            f"Salesforce refuses the login ({_printable(code)}). Check {self._login.settings}, and "
            "that the connected app and its user are active. Nothing is tried again until the "
            "process starts anew, lest the user be locked out."
        )

    def _post(self) -> tuple[int, bytes, datetime | None]:
        form = self._login.form(datetime.now(UTC) + self._skew)
        problem: CrmPipelineError
        try:
            with self._http.post(
                f"{self._login_url}/services/oauth2/token",
                data=form,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                auth=_no_netrc,
                verify=self._verify,
                timeout=self._timeouts,
                allow_redirects=False,
                stream=True,
            ) as response:
                body = whole(
                    response, patience_seconds=_PATIENCE_SECONDS, limit_bytes=_ANSWER_LIMIT_BYTES
                )
                return response.status_code, body, date_in(response.headers)
        except requests.RequestException as error:
            problem = unreachable(error, self._login_url)
        raise problem

    def _token_in(self, body: bytes) -> Token:
        answer = parsed(body)
        try:
            secret, instance_url = answer["access_token"], answer["instance_url"]
        except (KeyError, TypeError):
            answer, secret, instance_url = {}, "", ""
        if not isinstance(secret, str) or not secret or not isinstance(instance_url, str):
            raise TransientError("Salesforce's login answered without a token; it is tried again.")
        instance_url = checked_url(instance_url, "The instance that Salesforce names at login")
        return Token(secret, instance_url, str(answer.get("id") or ""))

    def _clock_was_wrong(self, moment: datetime | None) -> bool:
        """Learn the difference to Salesforce's clock; says whether that is worth another try."""
        if moment is None or isinstance(self._login, ClientCredentialsLogin):
            return False
        skew = moment - datetime.now(UTC)
        learned = abs(skew - self._skew) > _TOLERATED_SKEW
        self._skew = skew
        return learned


def _again(failed: CrmPipelineError) -> CrmPipelineError:
    """The same verdict as an error of its own; a passing one is not repeated by the session too."""
    return (CredentialsError if isinstance(failed, CredentialsError) else LoginUnavailable)(
        str(failed)
    )


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Any `auth` keeps requests from sending what a .netrc says about the host."""
    return request


def unreachable(error: requests.RequestException, url: str) -> CrmPipelineError:
    """The verdict on a connection that did not come about; requests' own text holds the query."""
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in str(error).upper():
        return ConfigurationError(
            f"The TLS certificate of {host} is not trusted. Check the login URL; if your company "
            "signs its own certificates, name its authority in SALESFORCE_CA_FILE."
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return TransientError(f"The proxy does not let us reach {host}; check HTTPS_PROXY.")
    return TransientError(f"{host} cannot be reached ({type(error).__name__}); it is tried again.")


def _audience(login_url: str) -> str:
    """Assertions are addressed to the login service, not to the My Domain in front of it."""
    host = urlsplit(login_url).hostname or ""
    if not host.endswith(".salesforce.com"):
        return login_url
    is_sandbox = host == "test.salesforce.com" or ".sandbox.my." in host
    return f"https://{'test' if is_sandbox else 'login'}.salesforce.com"


def _printable(code: str) -> str:
    return "".join(letter for letter in code if letter.isalnum() or letter in "_-.")[:60]
