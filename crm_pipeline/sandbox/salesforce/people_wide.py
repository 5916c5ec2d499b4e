"""Wide leads at the rate benchmarks need: a million of them in seconds.

Belongs here: leads put together from prepared halves. Does not belong here: careful records
with relations (people.py).
"""

from collections.abc import Iterator
from typing import Any

from crm_pipeline.sandbox.salesforce.people_cast import Cast
from crm_pipeline.sandbox.salesforce.people_words import LANGUAGES, TITLES
from crm_pipeline.sandbox.salesforce.standard_objects_fields import (
    LEAD_SOURCES,
    RATINGS,
    SALUTATIONS,
)
from crm_pipeline.sandbox.salesforce.standard_objects_marketing import LEAD_STATUSES, SEGMENTS

# Powers of two, so that the bits of one random number choose from every pool without division.
_PEOPLE, _COMPANIES, _PLACES, _NOTES, _STATES = 4096, 1024, 1024, 512, 256


def lead_rows(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Wide, believable leads of 25 fields that a client may write, without relations.

    Every value is drawn from prepared pools, which is what makes it fast; the mail address and
    the external key carry the row's number, so that they are unique. A fifth of the optional
    texts is missing.

    Args:
        count: How many rows.
        seed: The same seed gives the same rows.
    """
    cast = Cast(seed)
    people = [cast.person() for _ in range(_PEOPLE)]
    companies = [cast.company(serial) for serial in range(_COMPANIES)]
    places = [tuple(_place(cast).values()) for _ in range(_PLACES)]
    notes = [cast.remark() for _ in range(_NOTES)]
    states = [_state(cast) for _ in range(_STATES)]
    bits = cast.rng.getrandbits
    for number in range(count):
        draw = bits(64)
        person = people[draw & 4095]
        company = companies[draw >> 12 & 1023]
        street, city, state, postal_code, country = places[draw >> 22 & 1023]
        salutation, title, source, status, rating, opted_out, segments, code = states[
            draw >> 41 & 255
        ]
        phone = code + str(draw >> 49)
        yield {
            "Salutation": salutation,
            "FirstName": person.first_name,
            "LastName": person.last_name,
            "Title": title,
            "Company": company.name,
            "Street": street,
            "City": city,
            "State": state,
            "PostalCode": postal_code,
            "Country": country,
            "Phone": phone,
            "MobilePhone": phone + "0" if draw & 64 else None,
            "Email": f"{person.mailbox}.{number}@{company.domain}",
            "Website": "https://www." + company.domain,
            "Description": notes[draw >> 32 & 511],
            "LeadSource": source,
            "Status": status,
            "Industry": company.industry,
            "Rating": rating,
            "AnnualRevenue": company.revenue,
            "NumberOfEmployees": company.employees,
            "HasOptedOutOfEmail": opted_out,
            "Lead_Score__c": (draw & 0x3FFF) / 4,
            "Marketing_Segments__c": segments,
            "External_Key__c": f"wide-{number:08d}",
        }


def _place(cast: Cast) -> dict[str, Any]:
    return cast.address(cast.language())


def _state(cast: Cast) -> tuple[Any, ...]:
    rng = cast.rng
    chosen = [one for one in SEGMENTS if rng.random() < 0.3]
    return (
        rng.choice(SALUTATIONS) if rng.random() < 0.5 else None,
        rng.choice(TITLES) if rng.random() < 0.8 else None,
        rng.choice(LEAD_SOURCES),
        rng.choice((*LEAD_STATUSES[:2], LEAD_STATUSES[3])),
        rng.choice((*RATINGS, None)),
        rng.random() < 0.08,
        ";".join(chosen) or None,
        rng.choice(LANGUAGES).dialling_code + " 01",
    )
