"""`crm-pipeline demo --once` tells the whole story, proves it, and leaves nothing running."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest


@pytest.mark.long
def test_one_round_of_the_demo_is_true_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    # What could lead the demo elsewhere must not.
    misleading = {
        "CRM_PIPELINE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "SALESFORCE_USERNAME": "somebody@example.com",
    }
    done = subprocess.run(
        [sys.executable, "-m", "crm_pipeline.cli.main", "demo", "--once", "--records", "3000"],
        cwd=tmp_path,
        env={**os.environ, **misleading, "CRM_PIPELINE_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "137 updates, 40 inserts, 9 deletes, 2 undeletes" in done.stdout
    assert re.search(r"load_events loaded [\d,]+ from [3-9] files and rejected 0 rows", done.stdout)
    assert "Every table holds as many records as the org." in done.stdout
    assert "DIFFERENT" not in done.stdout
    left = [process for process in psutil.process_iter() if str(home) in _words(process)]
    assert left == []


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
