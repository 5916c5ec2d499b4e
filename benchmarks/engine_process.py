"""The engine's own process: one sync without Dagster, its seconds and its peak memory.

Belongs here: starting it, being it, and what it says at its end. Does not belong here: why it is
started (scenarios.py), and imports that the engine does without, for its memory is measured.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phases import Phases

from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sync.assembly import Installation

_PROFILE = "--phases"


@dataclass(frozen=True)
class EngineRun:
    """What one sync took.

    Attributes:
        seconds: from a ready engine to the commit, login and describe included.
        peak_bytes: of its process, and of the children it has not got.
        watermark: complete up to here; the next differential begins here.
    """

    seconds: float
    peak_bytes: int
    updated: int
    records_read: int
    api_calls: int
    transport: str
    watermark: str
    phases: dict[str, float] = field(default_factory=dict)
    statements: dict[str, float] = field(default_factory=dict)


def run_engine(object_name: str, mode: SyncMode, *, profile: bool = False) -> EngineRun:
    """Sync an object in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), object_name, mode.value]
    done = subprocess.run(
        [*command, *([_PROFILE] if profile else [])], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"the engine failed:\n{done.stderr}")
    return EngineRun(**json.loads(done.stdout))


def configure(
    object_name: str, fields: Sequence[str], *, folder: Path, database: str, url: str
) -> None:
    """The settings and the environment of the engine."""
    (folder / "crm_sync.yaml").write_text(
        json.dumps(
            {
                "version": 1,
                "reference_data": False,
                "marketing": {"enabled": False},
                "objects": {object_name: {"fields": list(fields)}},
            }
        )
    )
    os.environ |= {
        "CRM_PIPELINE_CONFIG": str(folder / "crm_sync.yaml"),
        "CRM_PIPELINE_HOME": str(folder / "home"),
        "CRM_PIPELINE_DATABASE_URL": database,
        "SALESFORCE_LOGIN_URL": url,
        "SALESFORCE_CLIENT_ID": "sandbox-client",
        "SALESFORCE_CLIENT_SECRET": "sandbox-secret",
    }


def main() -> None:
    """Sync, and print what it took."""
    name, mode = sys.argv[1], SyncMode(sys.argv[2])
    seen: dict[str, Any] = {}
    if _PROFILE in sys.argv:
        phases = Phases()
        phases.watch()
        seen = {"phases": phases.seconds, "statements": phases.statements}
    with Installation.from_environment().engine() as made:
        started = time.monotonic()
        outcome = made.sync_object(name, mode=mode, run_id=f"bench {time.time()}")
        seconds = time.monotonic() - started
        watermark, calls = made.inspector.watermark(name), made.connector.usage.calls
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_bytes": _peak_bytes(),
                "updated": outcome.updated,
                "records_read": outcome.records_read,
                "api_calls": calls,
                "transport": outcome.transport,
                "watermark": watermark.isoformat() if watermark else "",
                **seen,
            }
        )
    )


def _peak_bytes() -> int:
    """Of this process and of its largest child.

    What getrusage says of a process includes what its parent had in memory when it was started.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")
    if not status.exists():
        return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + children)
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * (int(peak.split()[1]) + children)


if __name__ == "__main__":
    main()
