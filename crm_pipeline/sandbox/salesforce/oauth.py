"""Logging in: the OAuth flows that machines use, and who am I.

Belongs here: /services/oauth2 and /id. Does not belong here: the tokens' life (sessions.py).
Left out: the browser flows and the password grant, which new orgs refuse.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import jwt
from starlette.responses import Response

from crm_pipeline.sandbox.salesforce.calls import Call, answer
from crm_pipeline.sandbox.salesforce.sessions import Session

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LOGIN_HOSTS = frozenset({"login.salesforce.com", "test.salesforce.com"})
_ASSERTION_LIFE = 300  # seconds into the future that `exp` may lie at most


class _Refused(Exception):
    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.answer = answer({"error": error, "error_description": description}, status)


def token(call: Call) -> Response:
    """POST /services/oauth2/token."""
    form = dict(parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True))
    grant = form.get("grant_type", "")
    try:
        _check_allowed(call)
        return _FLOWS.get(grant, _unsupported)(call, form)
    except _Refused as refused:
        return refused.answer


def _check_allowed(call: Call) -> None:
    """Refuse whoever it is: the user may not log in, or logged in too often within an hour."""
    settings = call.server.settings
    if settings.login_refusal:
        raise _Refused("invalid_grant", settings.login_refusal)
    if settings.logins_per_hour and call.org.sessions.latest_hour() >= settings.logins_per_hour:
        raise _Refused("invalid_grant", "login rate exceeded")


def _unsupported(_call: Call, form: dict[str, str]) -> Response:
    if form.get("grant_type") == "password":
        raise _Refused("invalid_grant", "authentication failure")
    raise _Refused("unsupported_grant_type", "grant type not supported")


def _client_credentials(call: Call, form: dict[str, str]) -> Response:
    client_id = _client(call, form)
    session = call.org.sessions.open(call.org.organization_id, client_id, call.org.user_id)
    return answer(_granted(call, session))


def _refresh(call: Call, form: dict[str, str]) -> Response:
    client_id = _client(call, form)
    found = call.org.sessions.use_refresh(
        form.get("refresh_token", ""),
        client_id,
        rotate=call.server.settings.rotate_refresh_tokens,
    )
    if found is None:
        raise _Refused("invalid_grant", "expired access/refresh token")
    user_id, following = found
    session = call.org.sessions.open(call.org.organization_id, client_id, user_id)
    body = _granted(call, session)
    if following != form.get("refresh_token"):
        body["refresh_token"] = following
    return answer(body)


def _assertion(call: Call, form: dict[str, str]) -> Response:
    """A signed assertion; its audience and end are checked on the org's clock."""
    try:
        unverified = jwt.decode(form.get("assertion", ""), options={"verify_signature": False})
        issuer = str(unverified.get("iss", ""))
        key = call.server.settings.public_keys.get(issuer)
        if key is None:
            raise _Refused("invalid_client_id", "client identifier invalid")
        claims = jwt.decode(
            form["assertion"],
            key,
            algorithms=["RS256"],
            options={"verify_aud": False, "verify_exp": False, "verify_iat": False},
        )
    except jwt.PyJWTError:
        raise _Refused("invalid_grant", "invalid assertion") from None
    audience = urlsplit(str(claims.get("aud", "")))
    if audience.netloc not in _LOGIN_HOSTS and audience.netloc != urlsplit(call.base_url).netloc:
        raise _Refused("invalid_grant", "audience is invalid")
    now = call.org.clock.now().timestamp()
    if not now < float(claims.get("exp", 0)) <= now + _ASSERTION_LIFE:
        raise _Refused("invalid_grant", "assertion expired")
    users = call.server.settings.usernames
    user_id = users.get(str(claims.get("sub", "")), call.org.user_id)
    if users and str(claims.get("sub", "")) not in users:
        raise _Refused("invalid_grant", "user hasn't approved this consumer")
    return answer(_granted(call, call.org.sessions.open(call.org.organization_id, issuer, user_id)))


_FLOWS: dict[str, Callable[[Call, dict[str, str]], Response]] = {
    "client_credentials": _client_credentials,
    "refresh_token": _refresh,
    JWT_BEARER: _assertion,
}


def _client(call: Call, form: dict[str, str]) -> str:
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise _Refused("invalid_client", "invalid client credentials", 401) from None
    settings = call.server.settings
    if client_id != settings.client_id:
        raise _Refused("invalid_client_id", "client identifier invalid")
    if not hmac.compare_digest(secret.encode(), settings.client_secret.encode()):
        raise _Refused("invalid_client", "invalid client credentials", 401)
    return client_id


def _granted(call: Call, session: Session) -> dict[str, str]:
    issued = str(int(session.issued.timestamp() * 1000))
    identity = f"{call.base_url}/id/{call.org.organization_id}/{session.user_id}"
    secret = call.server.settings.client_secret.encode()
    signature = hmac.new(secret, (identity + issued).encode(), hashlib.sha256).digest()
    return {
        "access_token": session.token,
        "signature": base64.b64encode(signature).decode(),
        "scope": "api refresh_token",
        "instance_url": call.server.settings.instance_url or call.base_url,
        "id": identity,
        "token_type": "Bearer",
        "issued_at": issued,
    }


def _session(call: Call) -> Session | None:
    given = call.headers.get("authorization", "").partition(" ")[2].strip()
    given = given or dict(parse_qsl(call.body.decode(errors="replace"))).get("access_token", "")
    return call.org.sessions.find(given or call.params.get("access_token", ""))


def userinfo(call: Call) -> Response:
    """GET /services/oauth2/userinfo and /id/<org>/<user>."""
    session = _session(call)
    if session is None:
        return Response("Bad_OAuth_Token", 403, media_type="text/html")
    user = call.org.get("User", session.user_id) if call.org.catalogue.has("User") else None
    facts = user or {}
    identity = f"{call.base_url}/id/{call.org.organization_id}/{session.user_id}"
    return answer(
        {
            "sub": identity,
            "id": identity,
            "user_id": session.user_id,
            "organization_id": call.org.organization_id,
            "preferred_username": facts.get("Username"),
            "username": facts.get("Username"),
            "nickname": facts.get("Alias"),
            "name": facts.get("Name"),
            "display_name": facts.get("Name"),
            "email": facts.get("Email"),
            "active": True,
            "user_type": "STANDARD",
            "language": "en_US",
            "locale": "en_US",
            "utcOffset": 0,
            "zoneinfo": "GMT",
            "urls": {
                "rest": f"{call.base_url}/services/data/v{{version}}/",
                "query": f"{call.base_url}/services/data/v{{version}}/query/",
                "sobjects": f"{call.base_url}/services/data/v{{version}}/sobjects/",
            },
        }
    )


def revoke(call: Call) -> Response:
    """POST or GET /services/oauth2/revoke."""
    form = dict(parse_qsl(call.body.decode(errors="replace")))
    given = form.get("token") or call.params.get("token", "")
    if call.org.sessions.end(given):
        return Response(b"", 200)
    return answer({"error": "unsupported_token_type", "error_description": "invalid token"}, 400)


def introspect(call: Call) -> Response:
    """POST /services/oauth2/introspect."""
    form = dict(parse_qsl(call.body.decode(errors="replace")))
    try:
        _client(call, form)
    except _Refused as refused:
        return refused.answer
    session = call.org.sessions.find(form.get("token", ""))
    if session is None:
        return answer({"active": False})
    return answer(
        {
            "active": True,
            "scope": "api refresh_token",
            "client_id": session.client_id,
            "sub": session.user_id,
            "token_type": "access_token",
            "exp": int(session.expires.timestamp()),
            "iat": int(session.issued.timestamp()),
        }
    )
