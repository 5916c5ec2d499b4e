"""A wire that garbles: characters that no test can put into the org come out of it all the same.

Belongs here: changing the bytes of answers on their way. Does not belong here: faults that the
sandbox org knows itself (its fault plan).
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce import running as running_module

HALF = "\u20ac"
"""Leaves the org as half of a surrogate pair, which takes as many bytes."""
NUL = "\x7f"
"""Leaves the org as NUL, in CSV; JSON spells NUL out, so there the org can hold it."""
_HALF_BYTES = b"\xed\xa0\x80"


class GarblingApp:
    """An application in front of the org that changes the bodies of its answers."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        is_csv = scope.get("path", "").endswith("/results") or "/results" in scope.get("path", "")

        async def garbled(message: Any) -> None:
            if message["type"] == "http.response.body":
                body = message.get("body", b"").replace(HALF.encode(), _HALF_BYTES)
                message["body"] = body.replace(NUL.encode(), b"\0") if is_csv else body
            await send(message)

        await self._app(scope, receive, garbled)


def garble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every org that starts from now on stand behind such a wire."""
    config = running_module._config
    monkeypatch.setattr(
        running_module,
        "_config",
        lambda app, *rest: config(GarblingApp(app), *rest),  # type: ignore[arg-type]
    )
