"""Something wrong with the settings, and where: the currency between the models and load.py.

Holds what all sections of the settings file share. Belongs here: how a model says what is wrong and
what it accepts. Does not belong here: rules of one section, and lines (document.py).
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME_RULE = "use a-z, 0-9 and `_`, a letter first, at most 63 bytes"

Location = tuple[str | int, ...]
"""Where in the file a setting stands: keys and list indexes from the root."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the settings: where below the model that noticed it, and a sentence."""

    at: Location
    sentence: str


class SettingFaults(ValueError):
    """Faults that a model notices between its settings; load.py gives each its line."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(" ".join(fault.sentence for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a setting takes, as the sentence for a wrong value goes on after "write"."""

    words: str


OnOff = Annotated[bool, Field(strict=True), Accepts("`true` or `false`")]


class Section(BaseModel):
    """What all sections of the file have in common."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )
