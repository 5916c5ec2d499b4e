"""simple-salesforce on top of our session, for the verbs that it words well.

Belongs here: the client for the global describe, limits, and other small calls (SOQL of a few rows,
single records). Does not belong here: reading records.

With our session beneath, its known traps are shut: it gets time limits, refreshed sessions with
unchanged headers, http for the sandbox org, and errors of our tree. Describe, pages and jobs go
past it nevertheless: importing it costs 0.5 s and 27 MB (it brings a SOAP client), which would
double the time of a differential that finds nothing, so it is loaded when first used.
"""

import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crm_pipeline.crm.salesforce.session import SalesforceSession

if TYPE_CHECKING:
    from simple_salesforce.api import Salesforce

_UNUSED_TOKEN = "kept-by-the-session"  # noqa: S105 - the session puts its own in the place of it


class LibraryClient:
    """Makes the client once, when it is first asked for."""

    def __init__(self, session: SalesforceSession, api_version: str) -> None:
        self._session = session
        self._api_version = api_version
        self._lock = threading.Lock()
        self._client: Salesforce | None = None

    def __call__(self) -> "Salesforce":
        """The client; logs in if need be, for it must know the host."""
        with self._lock:
            if self._client is None:
                from simple_salesforce.api import Salesforce  # noqa: PLC0415 - see above

                self._client = Salesforce(
                    session=self._session,
                    session_id=_UNUSED_TOKEN,
                    instance=urlsplit(self._session.instance_url).netloc,
                    version=self._api_version,
                )
            return self._client
