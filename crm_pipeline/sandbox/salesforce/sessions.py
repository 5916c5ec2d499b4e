"""Who is logged in: access tokens, refresh tokens, and when they end.

Belongs here: tokens and their lifetime on the org's clock. Does not belong here: how a client
earns one (oauth.py).
"""

import secrets
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_pipeline.sandbox.salesforce.clock import OrgClock

DEFAULT_LIFETIME = 7200.0  # seconds; the session timeout an org is born with


@dataclass(frozen=True, slots=True)
class Session:
    """One access token's owner and end."""

    token: str
    client_id: str
    user_id: str
    issued: datetime
    expires: datetime


class Sessions:
    """The live sessions of an org. `logins` counts every token ever given out."""

    def __init__(self, clock: OrgClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._live: dict[str, Session] = {}
        self._refresh: dict[str, tuple[str, str]] = {}
        self.lifetime = DEFAULT_LIFETIME
        self.logins = 0
        self._times: deque[datetime] = deque(maxlen=10_000)

    def latest_hour(self) -> int:
        """How many logins there were within the hour that ends now."""
        oldest = self._clock.now() - timedelta(hours=1)
        with self._lock:
            return sum(1 for one in self._times if one > oldest)

    def open(self, organization_id: str, client_id: str, user_id: str) -> Session:
        """Give out a token; its form is the real one's, org Id first."""
        now = self._clock.now()
        token = f"{organization_id[:15]}!{secrets.token_urlsafe(64)}"
        session = Session(token, client_id, user_id, now, now + timedelta(seconds=self.lifetime))
        with self._lock:
            self._live[token] = session
            self.logins += 1
            self._times.append(now)
        return session

    def find(self, token: str) -> Session | None:
        """The session of a token, unless it ended."""
        session = self._live.get(token)
        if session is None or session.expires <= self._clock.now():
            return None
        return session

    def end(self, token: str) -> bool:
        """End one session or refresh token; says whether there was one."""
        with self._lock:
            refresh = self._refresh.pop(token, None)
            return self._live.pop(token, None) is not None or refresh is not None

    def expire_all(self) -> int:
        """End every session; refresh tokens stay good."""
        with self._lock:
            count = len(self._live)
            self._live.clear()
            return count

    def grant_refresh(self, client_id: str, user_id: str) -> str:
        """Give out a refresh token."""
        token = f"5Aep861{secrets.token_urlsafe(48)}"
        with self._lock:
            self._refresh[token] = (client_id, user_id)
        return token

    def use_refresh(self, token: str, client_id: str, *, rotate: bool) -> tuple[str, str] | None:
        """The user of a refresh token and the token to use next time; None if it is no good."""
        with self._lock:
            owner = self._refresh.get(token)
            if owner is None or owner[0] != client_id:
                return None
            if rotate:
                del self._refresh[token]
        if not rotate:
            return owner[1], token
        return owner[1], self.grant_refresh(client_id, owner[1])
