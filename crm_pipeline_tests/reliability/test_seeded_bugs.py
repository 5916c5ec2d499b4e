"""The list of bugs keeps up with the code; `make reliability` puts them in, one by one."""

import pytest

from crm_pipeline_tests.reliability.seeded_bugs import BUGS, ROOT, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_place_of_a_seeded_bug_is_still_there_and_so_is_its_test(bug: Bug) -> None:
    assert (ROOT / "crm_pipeline" / bug.file).read_text().count(bug.right) == 1
    named = bug.named.split(" and ")[0]
    assert named in (ROOT / "crm_pipeline_tests" / bug.tests).read_text()
