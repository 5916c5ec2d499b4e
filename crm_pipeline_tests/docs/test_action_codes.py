"""The page on actions shows every code and option of an action, and what to do."""

import re
from pathlib import Path

from crm_pipeline.actions.refusing import REMEDIES
from crm_pipeline.model.actions import OPTIONS, ActionState

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "actions.md").read_text()


def test_every_code_is_shown_with_its_remedy() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert dict(rows) == dict(REMEDIES)


def test_every_code_that_is_used_is_known_and_every_known_one_is_used() -> None:
    rooms = [*(ROOT / "crm_pipeline" / "actions").glob("*.py")]
    text = "\n".join(file.read_text() for file in rooms if file.name != "refusing.py")
    used = set(re.findall(r'Refusal\(\s*"([A-Z_]+)"', text)) | {"AMBIGUOUS", "MANY_AT_ONCE"}
    assert used == set(REMEDIES)


def test_every_option_and_every_state_is_explained() -> None:
    explained = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE))
    assert set(OPTIONS) <= explained
    assert {state.value for state in ActionState} - {"enqueued"} <= explained
