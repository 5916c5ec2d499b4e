"""Record ids: 15 characters where case counts, or 18 with a checksum that saves the case.

Belongs here: checking and lengthening ids. Does not belong here: anything about records.

Source: Salesforce Help 000385585, "Convert 15-character ids to 18-character ids".
"""

import re

from crm_pipeline.errors import PermanentError

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_SHAPE = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?", re.ASCII)


def full_id(text: str) -> str:
    """The 18-character form of an id.

    Raises:
        PermanentError: the text is no id, or its checksum is wrong.
    """
    if not _SHAPE.fullmatch(text):
        raise PermanentError("A record id must have 15 or 18 letters and digits.")
    complete = text[:15] + "".join(_checksum(text[start : start + 5]) for start in (0, 5, 10))
    if len(text) == 18 and complete != text:
        raise PermanentError(
            "The last three characters of a record id do not fit the others; copy the id again."
        )
    return complete


def _checksum(five: str) -> str:
    bits = sum(1 << position for position, letter in enumerate(five) if "A" <= letter <= "Z")
    return _LETTERS[bits]
