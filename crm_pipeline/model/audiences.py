"""What is known of a person, as far as an audience may be chosen by it.

Holds the columns of the mart `personalization` with the kinds of their values. Belongs here: what
the settings check and the warehouse compiles. Does not belong here: the operator's audiences
(config/audience_settings.py) and SQL (warehouse/conditions.py).
"""

from collections.abc import Mapping
from types import MappingProxyType

from crm_pipeline.model.objects import ValueType

_TEXTS = (
    *("email", "consent_status", "first_name", "last_name", "full_name", "title", "company"),
    *("country", "industry", "lead_status", "lead_source", "primary_record_type"),
    *("account_id", "account_name", "account_type", "account_industry"),
    *("owner_id", "owner_name", "owner_email", "owner_phone", "owner_title"),
    *("first_touch_channel", "first_touch_source", "last_touch_channel", "last_touch_source"),
)
_INSTANTS = ("most_recent_visit_at", "last_engaged_at", "created_at")
FACTS: Mapping[str, ValueType] = MappingProxyType(
    {
        **dict.fromkeys(_TEXTS, ValueType.TEXT),
        **dict.fromkeys(("may_be_emailed", "is_customer"), ValueType.BOOLEAN),
        **dict.fromkeys(("total_score", "open_opportunity_count"), ValueType.INTEGER),
        "open_opportunity_amount": ValueType.DECIMAL,
        "next_close_on": ValueType.DATE,
        **dict.fromkeys(_INSTANTS, ValueType.DATETIME),
    }
)
"""The columns of `personalization` but its key."""
