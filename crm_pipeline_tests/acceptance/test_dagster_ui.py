"""A data engineer launches a full sync in the Dagster UI, by clicking, and watches the tables fill.

Pictures of what she sees are kept where CRM_PIPELINE_SCREENSHOTS says.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline_tests.house import House, all_objects

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
UI_SECONDS = 180
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture
def house(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    """An org of 20,000 records and a database with nothing in it."""
    org = SandboxOrg()
    seed_org(org, records=20_000)
    with running(org) as served:
        made = House(org, served, tmp_path, empty_database_url, monkeypatch)
        made.configure(version=1, objects=all_objects())
        yield made
    org.close()


@pytest.fixture
def ui(house: House) -> Iterator[str]:
    """The address of the UI that `crm-pipeline up` serves."""
    command = [sys.executable, "-m", "crm_pipeline.cli.main", "up", "--port", "3700"]
    services = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=house.folder)
    assert services.stderr is not None
    told: list[str] = []
    try:
        for line in services.stderr:
            told.append(line)
            if found := re.search(r"UI is at (http://\S+)", line):
                yield found[1]
                break
        else:
            raise AssertionError("".join(told))
    finally:
        services.send_signal(signal.SIGINT)
        services.communicate(timeout=60)


@pytest.fixture
def page() -> Iterator[Page]:
    """A browser window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(BROWSER_FLAGS))
        window = browser.new_page(viewport={"width": 1500, "height": 950})
        window.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield window
        browser.close()


def picture(page: Page, name: str) -> None:
    """Keep what the window shows."""
    if folder := os.environ.get("CRM_PIPELINE_SCREENSHOTS"):
        page.wait_for_timeout(1_500)  # for eyes alone: charts glide into place
        page.screenshot(path=Path(folder) / f"{name}.png")


def launch_from_the_launchpad(page: Page, ui: str) -> None:
    """Job page, arrow, launchpad, Materialize; the run's page opens."""
    page.goto(f"{ui}/locations/crm_pipeline/jobs/full_sync")
    expect(page.get_by_text("Materialize all")).to_be_visible()
    page.locator("button:has([aria-label=arrow_drop_down])").last.click()
    page.get_by_text("Open launchpad").click()
    launchpad = page.get_by_text("Launchpad (configure assets)")
    confirm = page.get_by_role("button", name="Confirm")
    expect(launchpad.or_(confirm)).to_be_visible()
    if confirm.is_visible():
        confirm.click()
    expect(page.get_by_text("No errors")).to_be_visible()
    expect(page.get_by_text("resume: true")).to_be_visible()
    picture(page, "1-launchpad")
    page.locator("button", has_text=re.compile(r"^Materialize$")).last.click()
    page.wait_for_url("**/runs/*")


def test_a_full_sync_is_launched_by_clicking_and_the_tables_equal_the_org(
    house: House, ui: str, page: Page
) -> None:
    launch_from_the_launchpad(page, ui)
    expect(page.get_by_text("STEP_START").first).to_be_visible(timeout=UI_SECONDS * 1000)
    picture(page, "2-run-in-progress")
    expect(page.get_by_text("Success", exact=True)).to_be_visible(timeout=UI_SECONDS * 1000)
    picture(page, "3-run-done")
    house.assert_in_step()

    page.goto(f"{ui}/assets/salesforce/lead")
    expect(page.get_by_text("Row count")).to_be_visible()
    live = len(house.truth("Lead"))
    expect(page.get_by_text(f"{live:,}").first).to_be_visible()
    picture(page, "4-asset")
    page.goto(f"{ui}/assets/salesforce/lead?view=events")
    expect(page.get_by_text("rows_inserted").first).to_be_visible()
    picture(page, "5-asset-events")
    page.goto(f"{ui}/assets/marketing/dim_people?view=lineage&lineageScope=upstream")
    expect(page.get_by_text("dim_people").first).to_be_visible()
    picture(page, "6-lineage")
    page.goto(f"{ui}/asset-groups")
    expect(page.get_by_text("crm_changes").first).to_be_visible()
    picture(page, "7-groups")
    page.goto(f"{ui}/locations/crm_pipeline/schedules/differential_schedule")
    expect(page.get_by_text("differential_sync").first).to_be_visible()
    picture(page, "8-schedule")
