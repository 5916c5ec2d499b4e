"""The models as a page: written from a warehouse, whole, and silent on the network."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crm_pipeline_tests.marketing.golden.month import PROJECT, GoldenMonth

# Whoever comes first builds the month.
pytestmark = pytest.mark.timeout(900)
DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = """
version: 1
objects:
  Lead: {fields: [LastName, Email]}
"""


def test_the_page_holds_every_model_and_no_row(golden_month: GoldenMonth, tmp_path: Path) -> None:
    (tmp_path / "crm_sync.yaml").write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "crm_pipeline.cli.main", "docs", "--to", "public"],
        cwd=tmp_path,
        env={**os.environ, "CRM_PIPELINE_DATABASE_URL": golden_month.warehouse.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Written: public/index.html\n"
    page = (tmp_path / "public" / "index.html").read_text()
    for model in (PROJECT / "models" / "marts").glob("*.sql"):
        assert f'"{model.stem}"' in page, model.stem
    assert "Stable id of the person" in page
    # Types come from the warehouse, and nothing else does.
    assert '"type": "timestamp with time zone"' in page
    assert "ana@example.com" not in page
    # With this the page does not call home.
    (told,) = re.findall(r'"send_anonymous_usage_stats": (\w+)', page)
    assert json.loads(told) is False


def test_without_models_there_is_nothing_to_describe(tmp_path: Path) -> None:
    (tmp_path / "crm_sync.yaml").write_text(SETTINGS + "marketing: {enabled: false}\n")
    done = subprocess.run(
        [sys.executable, "-m", "crm_pipeline.cli.main", "docs"],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "There are no models to describe" in done.stderr


def test_the_analysts_page_names_every_mart_and_draws_it() -> None:
    text = (DOCS / "how-to" / "analysts.md").read_text()
    drawn = text.partition("```mermaid")[2].partition("```")[0]
    marts = {model.stem for model in (PROJECT / "models" / "marts").glob("*.sql")}
    row = re.compile(r"^\| `(dim_\w+|fct_\w+|audiences|personalization)` \|", re.MULTILINE)
    assert set(row.findall(text)) == marts
    assert marts <= set(re.findall(r"\w+", drawn))
