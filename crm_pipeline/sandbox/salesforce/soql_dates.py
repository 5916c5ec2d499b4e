"""SOQL's date literals (TODAY, LAST_N_DAYS:7, THIS_YEAR ...) as spans of days.

The org's user lives in UTC, so a day is a UTC day.

Belongs here: which days a literal means on the org's clock. Does not belong here: comparing.
"""

from datetime import date, timedelta

_DAYS = {
    "TODAY": (0, 1),
    "YESTERDAY": (-1, 0),
    "TOMORROW": (1, 2),
    "LAST_90_DAYS": (-90, 1),
    "NEXT_90_DAYS": (1, 91),
}
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


def span(literal: str, today: date) -> tuple[date, date]:
    """The first day of the literal and the first day after it."""
    word, _, count = literal.partition(":")
    if count:
        return _counted(word, int(count), today)
    if word in _DAYS:
        return _days(today, *_DAYS[word])
    which, _, unit = word.partition("_")
    steps = {"LAST": -1, "THIS": 0, "NEXT": 1}[which]
    if unit == "WEEK":
        sunday = today - timedelta(days=(today.weekday() + 1) % 7)
        return _days(sunday, 7 * steps, 7 * steps + 7)
    length = _MONTHS[unit]
    begin = date(today.year, (today.month - 1) // length * length + 1, 1)
    return _months(begin, steps * length), _months(begin, (steps + 1) * length)


def _counted(word: str, count: int, today: date) -> tuple[date, date]:
    if word == "N_DAYS_AGO":
        return _days(today, -count, 1 - count)
    unit = word.rpartition("_")[2]
    last = word.startswith("LAST")
    if unit == "DAYS":
        return _days(today, -count, 1) if last else _days(today, 1, count + 1)
    if unit == "WEEKS":
        begin, end = span("THIS_WEEK", today)
        reach = timedelta(weeks=count)
    else:
        begin, end = span(f"THIS_{unit[:-1]}", today)
        length = _MONTHS[unit[:-1]] * count
        return (_months(begin, -length), begin) if last else (end, _months(end, length))
    return (begin - reach, begin) if last else (end, end + reach)


def _days(day: date, begin: int, end: int) -> tuple[date, date]:
    return day + timedelta(days=begin), day + timedelta(days=end)


def _months(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)
