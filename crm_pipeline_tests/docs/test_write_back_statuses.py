"""The page of status codes and the code say the same, and both tell what to do."""

import pytest

from crm_pipeline.crm.salesforce.write_failures import MEANINGS
from crm_pipeline.model.writeback import Verdict
from crm_pipeline_tests.docs.write_back_statuses import PAGE, with_table


def test_the_page_shows_the_table_of_the_code() -> None:
    text = PAGE.read_text()
    assert text == with_table(text), "run: python -m crm_pipeline_tests.docs.write_back_statuses"


@pytest.mark.parametrize("code", MEANINGS)
def test_every_code_says_what_it_means_and_what_to_do(code: str) -> None:
    meaning = MEANINGS[code]
    assert meaning.reason.endswith(".")
    assert meaning.remedy.endswith(".")
    assert meaning.verdict is not Verdict.APPLIED
