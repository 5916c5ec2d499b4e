"""Pages of a result, as they should be and as a fault makes them: short, doubled, miscounted.

REST and Bulk both cut a frozen result into pages, so one description of a page serves both.

Belongs here: which rows a page shows and what it says about them. Does not belong here: the
bytes (reading.py, bulk_files.py), choosing the fault (faults.py).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from crm_pipeline.sandbox.salesforce.faults import Fault


@dataclass(frozen=True, slots=True)
class Leaf:
    """One page: the places of its rows in the result, and what it says.

    `said` is its own count of records, `total` that of the whole result; `following` is where
    the next page begins, None at the end; `locator` overrules it with any word.
    """

    places: Sequence[int]
    said: int
    total: int
    following: int | None
    locator: str = ""


def true_leaf(first: int, size: int, total: int) -> Leaf:
    """The page as it should be."""
    end = min(first + size, total)
    return Leaf(range(first, end), max(end - first, 0), total, end if end < total else None)


def leaf(fault: Fault | None, first: int, size: int, total: int) -> Leaf:
    """The page that goes out."""
    page = true_leaf(first, size, total)
    match fault:
        case Fault(kind="short_page"):
            return true_leaf(first, fault.records, total)
        case Fault(kind="wrong_count"):
            return replace(page, said=page.said + fault.by, total=page.total + fault.by)
        case Fault(kind="early_end"):
            return replace(page, following=None)
        case Fault(kind="wrong_locator"):
            return replace(page, locator=fault.locator)
        case Fault(kind="drop_records" | "duplicate_records" | "shuffle_records"):
            return _other_rows(fault, page)
    return page


def _other_rows(fault: Fault, page: Leaf) -> Leaf:
    """Rows left out, shown twice or in another order; `consistent` counts agree with them."""
    rng = random.Random(fault.seed)
    places = list(page.places)
    match fault.kind:
        case "drop_records":
            lost = set(rng.sample(places, min(fault.records, len(places))))
            places = [one for one in places if one not in lost]
        case "duplicate_records":
            places = _doubled(fault, places)
        case _:
            rng.shuffle(places)
    if not fault.consistent:
        return replace(page, places=places)
    more = len(places) - len(page.places)
    return replace(page, places=places, said=len(places), total=page.total + more)


def _doubled(fault: Fault, places: list[int]) -> list[int]:
    """The last rows of the page before, again; `instead` of the page's own last rows."""
    if not places:
        return places
    count = min(fault.records, len(places))
    first = places[0]
    again = list(range(max(first - count, 0), first)) or places[:count]
    kept = places[: len(places) - len(again)] if fault.instead else places
    return again + kept
