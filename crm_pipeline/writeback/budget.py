"""How many API calls writing may spend, and what is kept for consent.

Belongs here: the threshold. Does not belong here: counting calls (the connector does), and refusing
requests beyond the last one, which the connector does too.
"""

from dataclasses import dataclass

from crm_pipeline.crm.port import ApiUsage
from crm_pipeline.model.writeback import Lane


@dataclass(frozen=True, slots=True)
class WriteBudget:
    """A share of the CRM's daily calls for everything, and a reserve on top for consent alone.

    Syncs and all other write-backs stop at the share, so whatever they do, an opt-out still finds
    calls. The connector of the drainer is given share and reserve together.

    Attributes:
        share_percent: where everything else stops.
        reserve_percent: what only consent may spend beyond.
    """

    share_percent: float
    reserve_percent: float

    @property
    def hard_percent(self) -> float:
        """Where the connector must stop whoever asks."""
        return min(100.0, self.share_percent + self.reserve_percent)

    def lowest_lane(self, usage: ApiUsage) -> Lane:
        """The last lane that may be served now."""
        if usage.used_today is None or not usage.daily_limit:
            return Lane.SCORE
        is_spent = 100 * (usage.used_today + 1) > self.share_percent * usage.daily_limit
        return Lane.CONSENT if is_spent else Lane.SCORE
