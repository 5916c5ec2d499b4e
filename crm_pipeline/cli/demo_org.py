"""The demo's organisation: the sandbox org as a child process, and what the demo does to it.

Belongs here: starting it, pointing our environment at it, editing it over HTTP. Does not belong
here: the org itself (sandbox/).
"""

import json
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crm_pipeline.cli.services import free_port
from crm_pipeline.cli.supervisor import Service, Supervisor
from crm_pipeline.errors import PermanentError, TransientError

_FOREIGN = (
    "CRM_PIPELINE_DATABASE_URL",
    "CRM_PIPELINE_DAGSTER_DATABASE_URL",
    "SALESFORCE_USERNAME",
    "SALESFORCE_PRIVATE_KEY_FILE",
    "SALESFORCE_CA_FILE",
)
"""What could lead the demo to somebody's real org or database."""


@dataclass(frozen=True, slots=True)
class DemoOrg:
    """A sandbox org that is being served."""

    address: str

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            self._ask("/sandbox/health")
        except OSError:
            return False
        return True

    def record_count(self) -> int:
        """Records of every kind."""
        return sum(self._ask("/sandbox/health")["records"].values())

    def edit(self, **counts: int) -> dict[str, Any]:
        """Let that many records change at once, as people in the org would change them.

        Args:
            **counts: of `updates`, `inserts`, `deletes` and `undeletes`.

        Raises:
            PermanentError: the org has not enough records for it.
        """
        try:
            return self._ask("/sandbox/live", counts)
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            raise PermanentError(f"The sandbox org refuses the edits: {reason}") from error

    def _ask(self, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own http address
            self.address + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return dict(json.load(answer))


def start_org(supervisor: Supervisor, home: Path, *, records: int, live_seconds: float) -> DemoOrg:
    """Serve the org that the home keeps; an empty one is filled first."""
    port = free_port()
    folder = home / "org"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "crm_pipeline.sandbox.salesforce"]
    command += ["--port", str(port), "--home", str(folder), "--records", str(records)]
    command += ["--live-seconds", str(live_seconds)]
    supervisor.start(Service("sandbox org", command))
    return DemoOrg(f"http://127.0.0.1:{port}")


def enter_demo(org: DemoOrg, home: Path) -> None:
    """Point this process and its children at the demo, and at nothing else."""
    # Its server's libraries take half a second to import.
    from crm_pipeline.sandbox.salesforce.calls import (  # noqa: PLC0415
        CLIENT_ID,
        CLIENT_SECRET,
    )

    for name in _FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(
        {
            "CRM_PIPELINE_HOME": str(home),
            "CRM_PIPELINE_CONFIG": str(home / "crm_sync.yaml"),
            "SALESFORCE_LOGIN_URL": org.address,
            "SALESFORCE_CLIENT_ID": CLIENT_ID,
            "SALESFORCE_CLIENT_SECRET": CLIENT_SECRET,
        }
    )


def wait_for_org(supervisor: Supervisor, org: DemoOrg) -> None:
    """Wait until the org answers.

    Raises:
        TransientError: it does not in time.
        PermanentError: it died; the error carries the end of its log.
    """
    try:
        supervisor.wait_until(org.is_ready, what="The sandbox org")
    except OSError as error:
        raise TransientError(f"The sandbox org does not answer: {error}") from error
