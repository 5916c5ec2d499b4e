"""What stands in the UI where something could not be set up: its sentence, not a stack trace.

Belongs here: the one asset that says what is wrong. Does not belong here: finding out what is wrong
(config/).
"""

import logging

import dagster as dg

from crm_pipeline.defs.metadata import OWNERS

_log = logging.getLogger(__name__)


def build_refusal(name: str, sentence: str) -> dg.Definitions:
    """An asset whose description is the sentence; materialising it fails with the sentence."""
    _log.warning("%s", sentence)

    @dg.asset(
        name=name,
        group_name="not_set_up",
        owners=OWNERS,
        kinds={"yaml"},
        description=f"{sentence}\n\nThen reload this location.",
    )
    def refusal() -> None:
        raise dg.Failure(description=sentence, allow_retries=False)

    return dg.Definitions(assets=[refusal])
