"""Logging in and out: every flow, every refusal, and how sessions end."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline_tests.sandbox.client import Client

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def trusting(noon_org: SandboxOrg) -> Iterator[RunningOrg]:
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with running(
        noon_org, public_keys={"my-app": public.decode()}, rotate_refresh_tokens=True
    ) as served:
        yield served


def token(served: RunningOrg, basic: str = "", **form: str) -> requests.Response:
    headers = {"Authorization": f"Basic {basic}"} if basic else {}
    url = f"{served.url}/services/oauth2/token"
    return requests.post(url, data=form, headers=headers, timeout=5)


def credentials(served: RunningOrg) -> dict[str, str]:
    return {"client_id": served.client_id, "client_secret": served.client_secret}


def test_client_credentials_open_a_session_by_form_or_header(served: RunningOrg) -> None:
    by_form = token(served, grant_type="client_credentials", **credentials(served)).json()
    pair = f"{served.client_id}:{served.client_secret}".encode()
    basic = base64.b64encode(pair).decode()
    by_header = token(served, basic, grant_type="client_credentials").json()
    assert by_form["instance_url"] == served.url
    assert by_form["token_type"] == "Bearer"
    assert by_form["id"].startswith(f"{served.url}/id/{served.org.organization_id}/005")
    assert by_form["issued_at"] == str(int(NOON.timestamp()) * 1000)
    assert by_header["access_token"] != by_form["access_token"]
    for one in (by_form, by_header):
        who = requests.get(
            one["id"], headers={"Authorization": f"Bearer {one['access_token']}"}, timeout=5
        ).json()
        assert who["organization_id"] == served.org.organization_id


REFUSED_FORMS = (
    ({"grant_type": "client_credentials", "client_secret": "wrong"}, 401, "invalid_client"),
    ({"grant_type": "client_credentials", "client_id": "who"}, 400, "invalid_client_id"),
    ({"grant_type": "password", "username": "u", "password": "p"}, 400, "invalid_grant"),
    ({"grant_type": "magic"}, 400, "unsupported_grant_type"),
    ({"grant_type": "refresh_token", "refresh_token": "none"}, 400, "invalid_grant"),
    ({"grant_type": JWT_BEARER, "assertion": "x.y.z"}, 400, "invalid_grant"),
)


@pytest.mark.parametrize(("form", "status", "error"), REFUSED_FORMS)
def test_a_wrong_login_is_refused_in_oauths_words(
    served: RunningOrg, form: dict[str, str], status: int, error: str
) -> None:
    answer = token(served, **{**credentials(served), **form})
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "error_description" in answer.json()


def assertion(key: rsa.RSAPrivateKey = KEY, **claims: object) -> str:
    facts = {"iss": "my-app", "sub": "me", "aud": "https://login.salesforce.com"}
    end = int(NOON.timestamp()) + 180
    return jwt.encode({**facts, "exp": end, **claims}, key, algorithm="RS256")


def test_a_signed_assertion_opens_a_session(trusting: RunningOrg) -> None:
    for audience in ("https://login.salesforce.com", trusting.url):
        given = assertion(aud=audience)
        answer = token(trusting, grant_type=JWT_BEARER, assertion=given)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "given",
    [
        assertion(key=OTHER_KEY),
        assertion(exp=int(NOON.timestamp()) - 1),
        assertion(exp=int(NOON.timestamp()) + 10_000),
        assertion(aud="https://elsewhere.example"),
        assertion(iss="another-app"),
    ],
    ids=["wrong key", "expired", "too long", "wrong audience", "unknown app"],
)
def test_a_doubtful_assertion_is_refused(trusting: RunningOrg, given: str) -> None:
    answer = token(trusting, grant_type=JWT_BEARER, assertion=given)
    assert answer.status_code == 400
    assert answer.json()["error"] in {"invalid_grant", "invalid_client_id"}


def test_a_rotated_refresh_token_works_once(trusting: RunningOrg) -> None:
    sessions = trusting.org.sessions
    first = sessions.grant_refresh(trusting.client_id, trusting.org.user_id)
    form = {"grant_type": "refresh_token", **credentials(trusting)}
    granted = token(trusting, refresh_token=first, **form).json()
    assert granted["refresh_token"] != first
    assert token(trusting, refresh_token=first, **form).status_code == 400
    again = token(trusting, refresh_token=granted["refresh_token"], **form)
    assert again.status_code == 200


def test_a_session_ends_by_time_by_revocation_and_by_order(
    client: Client, noon_org: SandboxOrg
) -> None:
    def refused() -> bool:
        answer = client.get("/limits")
        expected = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
        return answer.status_code == 401 and bool(answer.json() == expected)

    assert not refused()
    noon_org.clock.advance(seconds=noon_org.sessions.lifetime)
    assert refused()
    client.login()
    assert not refused()
    client.sandbox("expire_sessions")
    assert refused()
    client.login()
    given = str(client.http.headers["Authorization"]).partition(" ")[2]
    revoke = f"{client.served.url}/services/oauth2/revoke"
    assert client.http.post(revoke, data={"token": given}).status_code == 200
    assert refused()


def test_a_token_can_be_looked_into(client: Client) -> None:
    given = str(client.http.headers["Authorization"]).partition(" ")[2]
    url = f"{client.served.url}/services/oauth2/introspect"
    form = {"token": given, **credentials(client.served)}
    assert requests.post(url, data=form, timeout=5).json()["active"] is True
    client.served.org.expire_sessions()
    assert requests.post(url, data=form, timeout=5).json() == {"active": False}
