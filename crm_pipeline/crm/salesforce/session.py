"""One thin session: every request to Salesforce passes here, and only here.

Belongs here: connections, timeouts, the token on each request, a new login when it expired,
repeating what may be repeated, counting calls. Does not belong here: logging in (login.py), what
an error means (failures.py), and the meaning of any resource.

`request` has the shape of `requests.Session.request`, so that the client library can run on top
(library.py): it never sees an expired session, http, or a refusal.
"""

import io
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
import stamina

from crm_pipeline.crm.port import ApiUsage
from crm_pipeline.crm.salesforce.addresses import path_on
from crm_pipeline.crm.salesforce.bodies import whole
from crm_pipeline.crm.salesforce.failures import (
    Concern,
    LimitReached,
    LoginUnavailable,
    QueryTimedOut,
    ReadOnlyOrganization,
    TooManyDeletions,
    failure,
    is_expired_session,
    not_json,
    parsed,
)
from crm_pipeline.crm.salesforce.login import SalesforceLogin, TokenKeeper, unreachable
from crm_pipeline.crm.salesforce.usage import UsageMeter, retry_after_in
from crm_pipeline.crm.salesforce.wire import Bearer, Manners, pooled_http, verification
from crm_pipeline.errors import (
    CredentialsError,
    CrmPipelineError,
    PermanentError,
    ReadExpired,
    TransientError,
)

_ANSWER_LIMIT_BYTES = 64 * 1024**2  # 2,000 records with 32 kB each
_REFUSAL_LIMIT_BYTES = 1024**2
_LONGEST_WAIT_SECONDS = 60.0  # a longer Retry-After is for the scheduler, not for a held lease
_RENEWALS_PER_CALL = 2
_NOT_REPEATED = (
    *(LimitReached, LoginUnavailable, ReadOnlyOrganization),
    *(QueryTimedOut, ReadExpired, TooManyDeletions),
)
_DROPPED_HEADERS = frozenset({"authorization", "x-prettyprint", "host"})


class SalesforceSession:
    """An HTTP session with one org as one user; safe from several threads.

    `check_interrupt` is called before every request and raises to stop it. Proxies come from the
    environment, as everywhere on the operator's machine.
    """

    def __init__(
        self,
        login: SalesforceLogin,
        *,
        ca_file: Path | None = None,
        gzip: bool = False,
        api_budget_percent: float | None = None,
        check_interrupt: Callable[[], None] | None = None,
        manners: Manners | None = None,
    ) -> None:
        self.manners = manners or Manners()
        self.check_interrupt = check_interrupt or _go_on
        self._accept_encoding = "gzip" if gzip else "identity"
        self._usage = UsageMeter(api_budget_percent)
        self._http = pooled_http(self.manners.connections)
        # Given with each request: a session's own `verify` loses against REQUESTS_CA_BUNDLE.
        self._verify = verification(ca_file)
        self._keeper = TokenKeeper(
            self._http,
            login,
            timeouts=(self.manners.connect_seconds, self.manners.read_seconds),
            verify=self._verify,
            before_request=self.check_interrupt,
        )

    @property
    def proxies(self) -> Mapping[str, str]:
        """What the client library wants to see of a session."""
        return self._http.proxies

    @property
    def usage(self) -> ApiUsage:
        """API calls so far."""
        return self._usage.report()

    @property
    def logins(self) -> int:
        """Successful logins so far."""
        return self._keeper.logins

    @property
    def server_time(self) -> datetime | None:
        """The Date of the latest answer."""
        return self._usage.server_time

    @property
    def instance_url(self) -> str:
        """The host that the token is for; logs in if need be."""
        return self._keeper.current().instance_url

    @property
    def identity_url(self) -> str:
        """The address whose end names organisation and user; logs in if need be."""
        return self._keeper.current().identity_url

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: str | bytes | None = None,
        repeatable: bool | None = None,
        concern: Concern | None = None,
    ) -> requests.Response:
        """Send and read the whole answer, which is a success.

        Args:
            method: GET, POST and so on.
            url: a path, or an address on the instance.
            params: for the query string.
            headers: sent with every repetition too.
            json: a body to be sent as JSON.
            data: a body to be sent as it is.
            repeatable: whether sending twice is as good as once; None believes the method.
            concern: what the request is about, for errors.

        Raises:
            CrmPipelineError: one of errors.py, never one of requests.
        """
        call = _Call(method, url, params, headers, json, data, concern or Concern())
        if repeatable is None:
            repeatable = method in {"GET", "HEAD", "DELETE", "PUT"}
        return self._repeated(lambda: self._read(call), repeatable=repeatable)

    def get_object(
        self,
        path: str,
        *holding: str,
        params: Mapping[str, str] | None = None,
        concern: Concern | None = None,
    ) -> dict[str, Any]:
        """The JSON object that a GET answers with.

        Raises:
            TransientError: the answer is none, or lacks one of the keys that it must hold.
        """
        return object_in(self.request("GET", path, params=params, concern=concern), *holding)

    @contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, str] | None = None, concern: Concern | None = None
    ) -> Iterator[requests.Response]:
        """An answer whose body is still on the wire; beginning it is repeated, reading is not."""
        response = self.open_stream(path, params=params, concern=concern)
        try:
            yield response
        finally:
            response.close()

    def open_stream(
        self, path: str, *, params: Mapping[str, str] | None = None, concern: Concern | None = None
    ) -> requests.Response:
        """The same for callers that hold on to the answer; they close it."""
        headers = {"Accept": "text/csv"}
        call = _Call("GET", path, params, headers, None, None, concern or Concern())
        return self._repeated(lambda: self._answered(call), repeatable=True)

    def close(self) -> None:
        """Give connections back."""
        self._http.close()

    def _repeated(
        self, send: Callable[[], requests.Response], *, repeatable: bool
    ) -> requests.Response:
        if not repeatable:
            return send()
        for attempt in stamina.retry_context(
            on=_pause_before_repeating,
            attempts=self.manners.attempts,
            timeout=self.manners.call_seconds,
            wait_initial=0.2,
            wait_max=30.0,
        ):
            with attempt:
                return send()
        raise AssertionError("unreachable: the last attempt raises")

    def _read(self, call: "_Call") -> requests.Response:
        with self._answered(call) as response:
            body = self._body(response)
            if _is_html(response):
                raise not_json(self.instance_url)
        # What requests caches as the content comes from here; the connection is free again.
        response.raw = io.BytesIO(body)
        return response

    def _answered(self, call: "_Call") -> requests.Response:
        """An answer of success, after a new login if that was all that lacked."""
        token = self._keeper.current()
        for _ in range(_RENEWALS_PER_CALL + 1):
            response = self._sent(call, token.instance_url, token.secret)
            if response.status_code < 300:
                return response
            body = self._refusal_body(response)
            if not is_expired_session(response.status_code, body):
                raise self._verdict(response, body, call.concern)
            token = self._keeper.renew(token)
        raise CredentialsError(
            "Salesforce gives us a session and refuses it at once; look at the connected app's "
            "policies: IP restrictions, session timeout, and the permission API Enabled."
        )

    def _sent(self, call: "_Call", instance_url: str, secret: str) -> requests.Response:
        self.check_interrupt()
        url = instance_url + path_on(instance_url, call.url)
        kept = {
            name: value
            for name, value in (call.headers or {}).items()
            if name.lower() not in _DROPPED_HEADERS
        }
        kept.setdefault("Accept", "application/json")
        kept["Accept-Encoding"] = self._accept_encoding
        problem: CrmPipelineError
        try:
            with self._usage.call() as note:
                response = self._http.request(
                    call.method,
                    url,
                    params=dict(call.params) if call.params else None,
                    headers=kept,
                    json=call.json,
                    data=call.data,
                    auth=Bearer(secret),
                    verify=self._verify,
                    timeout=(self.manners.connect_seconds, self.manners.read_seconds),
                    allow_redirects=False,
                    stream=True,
                )
                note(response.headers)
                return response
        except requests.RequestException as error:
            problem = unreachable(error, instance_url)
        # Raised outside of the except block: the cause would carry the URL, and so the query.
        raise problem

    def _body(self, response: requests.Response) -> bytes:
        return whole(
            response,
            patience_seconds=self.manners.read_seconds,
            limit_bytes=_ANSWER_LIMIT_BYTES,
        )

    def _refusal_body(self, response: requests.Response) -> bytes:
        try:
            with response:
                return whole(
                    response,
                    patience_seconds=self.manners.read_seconds,
                    limit_bytes=_REFUSAL_LIMIT_BYTES,
                )
        except (TransientError, PermanentError):
            return b""

    def _verdict(
        self, response: requests.Response, body: bytes, concern: Concern
    ) -> CrmPipelineError:
        if response.status_code < 400:
            return PermanentError(
                "Salesforce redirects us, which our token does not follow; set "
                "SALESFORCE_LOGIN_URL to the org's own My Domain."
            )
        wait = retry_after_in(response.headers)
        if _is_html(response):
            return not_json(self.instance_url, retry_after_seconds=wait)
        return failure(response.status_code, body, retry_after_seconds=wait, concern=concern)


@dataclass(frozen=True, slots=True)
class _Call:
    """Everything about a request except who sends it, so that repeating repeats all of it."""

    method: str
    url: str
    params: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    json: object
    data: str | bytes | None
    concern: Concern


def object_in(response: requests.Response, *holding: str) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        TransientError: it is none, or lacks one of the keys that it must hold.
    """
    answer = parsed(response.content)
    if not isinstance(answer, dict) or not all(key in answer for key in holding):
        raise not_json("Salesforce")
    return answer


def _pause_before_repeating(error: Exception) -> bool | float:
    """Whether to repeat, and after how many seconds if Salesforce said so."""
    if not isinstance(error, TransientError) or isinstance(error, _NOT_REPEATED):
        return False
    wait = error.retry_after_seconds
    if wait is None:
        return True
    # Longer than asked, and differently so for each: not all of us come back at once.
    return random.uniform(wait, 1.5 * wait) if wait <= _LONGEST_WAIT_SECONDS else False  # noqa: S311


def _is_html(response: requests.Response) -> bool:
    return "html" in response.headers.get("Content-Type", "").lower()


def _go_on() -> None:
    """No switch and no lease to look at."""
