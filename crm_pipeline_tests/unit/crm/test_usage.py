"""The API budget: hard, for the org and for our app, and looked at anew after a while."""

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from crm_pipeline.crm.salesforce.failures import LimitReached
from crm_pipeline.crm.salesforce.usage import UsageMeter, retry_after_in

QUARTER_HOUR = 900.0


class Ticks:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def answered(meter: UsageMeter, limits: str, **headers: str) -> None:
    with meter.call() as note:
        note({"Sforce-Limit-Info": limits, **headers})


def test_e5_the_orgs_day_and_the_apps_own_quota_are_told_apart() -> None:
    meter = UsageMeter(50)
    answered(meter, "api-usage=25/5000; per-app-api-usage=17/250(appName=x)")
    assert (meter.report().used_today, meter.report().daily_limit) == (25, 5000)
    answered(meter, "per-app-api-usage=249/250(appName=x)", Date="rubbish")
    assert meter.report().used_today == 25
    assert meter.server_time is None
    answered(meter, "per-app-api-usage=250/250(appName=x)")
    with pytest.raises(LimitReached, match="our connected app used 250 of 250"):
        answered(meter, "")
    assert meter.report().calls == 3


@pytest.mark.parametrize(("used", "allowed"), [(2496, 4), (2499, 1), (2500, 0), (2600, 0)])
def test_e5_calls_whose_answers_are_out_count_as_used(used: int, allowed: int) -> None:
    meter = UsageMeter(50)
    answered(meter, f"api-usage={used}/5000")
    with ExitStack() as out:
        for _ in range(allowed):
            out.enter_context(meter.call())
        with pytest.raises(LimitReached, match=f"{used:,} of 5,000"):
            out.enter_context(meter.call())


def test_e5_answers_that_overtake_each_other_do_not_lower_the_count() -> None:
    meter = UsageMeter(50)
    answered(meter, "api-usage=2500/5000")
    assert meter.report().used_today == 2500
    meter = UsageMeter(50)
    with meter.call() as slow:
        answered(meter, "api-usage=2500/5000")
        slow({"Sforce-Limit-Info": "api-usage=2499/5000"})
    with pytest.raises(LimitReached):
        answered(meter, "")


def test_e5_a_spent_day_is_looked_at_again_after_a_quarter_of_an_hour_by_one_call() -> None:
    ticks = Ticks()
    meter = UsageMeter(50, clock=ticks)
    answered(meter, "api-usage=2500/5000")
    with pytest.raises(LimitReached) as caught:
        answered(meter, "")
    assert caught.value.retry_after_seconds == QUARTER_HOUR
    ticks.now += QUARTER_HOUR
    with meter.call() as note:
        with pytest.raises(LimitReached):
            answered(meter, "")
        note({"Sforce-Limit-Info": "api-usage=100/5000"})
    answered(meter, "api-usage=101/5000")


def test_e5_without_a_budget_or_an_answer_nothing_is_refused() -> None:
    meter = UsageMeter()
    answered(meter, "api-usage=5000/5000")
    answered(meter, "")
    answered(UsageMeter(1), "api-usage=0/0")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "-7"}, 0.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
        (
            {
                "Retry-After": "Mon, 02 Mar 2026 12:00:42 GMT",
                "Date": "Mon, 02 Mar 2026 12:00:00 GMT",
            },
            42.0,
        ),
        (
            {
                "Retry-After": "Mon, 02 Mar 2026 11:00:00 GMT",
                "Date": "Mon, 02 Mar 2026 12:00:00 GMT",
            },
            0.0,
        ),
        ({"Retry-After": "Mon, 02 Mar 2026 12:00:42 GMT"}, None),
    ],
)
def test_e7_retry_after_is_seconds_or_a_date_by_the_servers_own_clock(
    headers: Mapping[str, str], seconds: float | None
) -> None:
    assert retry_after_in(headers) == seconds


def test_a6_the_time_is_the_one_of_the_answer() -> None:
    meter = UsageMeter()
    answered(meter, "", Date="Mon, 02 Mar 2026 12:00:42 GMT")
    answered(meter, "", Date="rubbish")
    assert meter.server_time == datetime(2026, 3, 2, 12, 0, 42, tzinfo=UTC)
