"""Running an org's server: beside a test in this process, or alone until it is stopped.

Belongs here: sockets, threads, TLS files. Does not belong here: what is served (server.py).
"""

import asyncio
import importlib
import random
import shutil
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import uvicorn

from crm_pipeline.sandbox.salesforce.calls import Server, ServerSettings
from crm_pipeline.sandbox.salesforce.certificates import (
    CertificateKind,
    Certificates,
    make_certificates,
)
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.server import SandboxApp, create_app

LOOPBACK = "127.0.0.1"
_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RunningOrg:
    """A served org and what a client needs to reach it."""

    url: str
    org: SandboxOrg
    server: Server
    client_id: str
    client_secret: str
    ca_file: Path | None

    @property
    def other_url(self) -> str:
        """The org's second address, to which `server.move()` moves it."""
        return self.server.urls[1]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])


class _Beside(uvicorn.Server):
    """A server that waits for an event instead of waking ten times a second."""

    _loop: asyncio.AbstractEventLoop | None = None
    _over: asyncio.Event | None = None

    async def main_loop(self) -> None:
        """Wait until `stop`; nothing needs a tick, the Date header follows the org's clock."""
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        if not self.should_exit:
            await self._over.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drop whoever is still connected, so that the loop ends with nothing open."""
        transports = [getattr(one, "transport", None) for one in self.server_state.connections]
        await super().shutdown(sockets)
        for transport in transports:
            if transport is not None:
                transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)

    def stop(self) -> None:
        """End the server from another thread."""
        self.should_exit = self.force_exit = True
        if self._loop is not None and self._over is not None:
            with suppress(RuntimeError):  # the loop ended by itself
                self._loop.call_soon_threadsafe(self._over.set)


@contextmanager
def running(
    org: SandboxOrg, *, tls: bool | CertificateKind = False, port: int = 0, **settings: Any
) -> Iterator[RunningOrg]:
    """Serve an org from a background thread of this process; the org is left open after.

    `tls` may name what is wrong with the certificate. Keyword arguments beyond `tls` and `port`
    are those of `ServerSettings`.
    """
    app = create_app(org, ServerSettings(**settings))
    directory = Path(tempfile.mkdtemp(prefix="sandbox-tls-")) if tls else None
    files = make_certificates(directory, _kind(tls)) if directory else None
    listeners = [_listener(port), _listener(0)]
    app.server.urls[:] = [_url(one, tls=bool(tls)) for one in listeners]
    server = _Beside(_config(app, files))
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": listeners}, name="sandbox-org", daemon=True
    )
    thread.start()
    try:
        _wait_until(lambda: server.started or not thread.is_alive())
        yield RunningOrg(
            url=app.server.urls[0],
            org=org,
            server=app.server,
            client_id=app.server.settings.client_id,
            client_secret=app.server.settings.client_secret,
            ca_file=files.authority if files else None,
        )
    finally:
        server.stop()
        thread.join(_START_SECONDS)
        app.close()
        for listener in listeners:
            listener.close()
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


def _kind(tls: bool | CertificateKind) -> CertificateKind:  # noqa: FBT001 - as users say it
    return "good" if isinstance(tls, bool) else tls


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    listener.listen(256)
    return listener


def _url(listener: socket.socket, *, tls: bool) -> str:
    # The certificate names localhost too, but the address spares clients the IPv6 attempt.
    return f"{'https' if tls else 'http'}://{LOOPBACK}:{listener.getsockname()[1]}"


def _config(app: SandboxApp, files: Certificates | None, log_level: str = "critical") -> Any:
    return uvicorn.Config(
        app,
        log_level=log_level,
        access_log=False,
        lifespan="off",
        date_header=False,  # the Date header follows the org's clock
        server_header=False,
        h11_max_incomplete_event_size=1 << 17,
        ssl_certfile=files.certificate if files else None,
        ssl_keyfile=files.key if files else None,
    )


def _wait_until(reached: Callable[[], bool]) -> None:
    waited = 0.0
    while not reached() and waited < _START_SECONDS:
        sleep(0.005)
        waited += 0.005


def serve(
    home: Path | None,
    port: int,
    *,
    records: int = 20_000,
    seed: int = 1,
    live_seconds: float = 0.0,
    tls: bool | CertificateKind = False,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    keeps_past: bool = True,
    load: Sequence[Path] = (),
    announce: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve until interrupted; a home that has records already goes on with them.

    `load` are files that real tools write: sObject tree JSON, plans or folders of them, and CSV
    exports named after their object.
    `live_seconds` above 0 lets simulated sales people edit records that often.
    """
    org = SandboxOrg(home / "org.sqlite" if home else None, keeps_past=keeps_past)
    app = create_app(org, ServerSettings())
    try:
        _populate(org, records, seed, load, announce)
        files = _tls_files(home, tls_cert, tls_key, tls=tls)
        listeners = [_listener(port), _listener(0)]
        app.server.urls[:] = [_url(one, tls=files is not None) for one in listeners]
        settings = app.server.settings
        announce(f"Sandbox org at {app.server.urls[0]}")
        announce(f"client id {settings.client_id}, client secret {settings.client_secret}")
        if files:
            announce(f"trust {files.authority}")
        if live_seconds > 0:
            _start_living(org, live_seconds, seed)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(_config(app, files, "warning")).run(sockets=listeners)
    finally:
        app.close()
        org.close()


def _tls_files(
    home: Path | None,
    certificate: Path | None,
    key: Path | None,
    *,
    tls: bool | CertificateKind,
) -> Certificates | None:
    if certificate is not None and key is not None:
        return Certificates(certificate, certificate, key)
    if not tls:
        return None
    directory = (home or Path(tempfile.mkdtemp(prefix="sandbox-tls-"))) / "tls"
    return make_certificates(directory, _kind(tls))


def _populate(
    org: SandboxOrg,
    records: int,
    seed: int,
    load: Sequence[Path],
    announce: Callable[[str], None],
) -> None:
    """Invent people, then load files; an org that was filled before is left as it is."""
    if org.store.meta("populated"):
        return
    if records > 0:
        announce(f"Inventing {records:,} records ...")
        people = importlib.import_module("crm_pipeline.sandbox.salesforce.people")
        people.seed_org(org, records=records, seed=seed)
    exports = [path for path in load if path.suffix.lower() == ".csv"]
    importer = importlib.import_module("crm_pipeline.sandbox.salesforce.importer").Importer(org)
    loaded = Counter(importer.tree([path for path in load if path not in exports]))
    for export in exports:
        loaded[export.stem] += importer.csv(export.stem, export)
    for name, count in loaded.items():
        announce(f"Loaded {count:,} {name}")
    if records > 0 or load:
        org.store.set_meta("populated", "yes")


def _start_living(org: SandboxOrg, seconds: float, seed: int) -> None:
    living = importlib.import_module("crm_pipeline.sandbox.salesforce.living")

    def live() -> None:
        rng = random.Random(seed)
        while True:
            sleep(seconds)
            living.live_once(org, rng)

    threading.Thread(target=live, name="living", daemon=True).start()
