"""Consent over a real warehouse: either side may say no, and an explicit yes ends an opt-out."""

from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse

STATUS = "SELECT email, status, may_be_emailed FROM marketing.fct_consent ORDER BY email"
MAILABLE = "SELECT email FROM marketing.personalization WHERE may_be_emailed ORDER BY email"
LEDGER = "SELECT email, status, side, evidence FROM events.consent_ledger ORDER BY consent_id"
VERSIONS = "SELECT email, xmin::text FROM marketing.fct_consent ORDER BY email"


# What rows of the CRM and of the ledger pass through; all else was built before.
AGAIN = ("int_people__records", "dim_people", "int_consent__refusals", "fct_consent")


def test_a_no_of_either_side_holds_for_the_address_until_an_explicit_yes(
    synthetic: SyntheticWarehouse,
) -> None:
    ada, bob, cyd, dan = (synthetic.record_id("lead", number) for number in range(1, 5))
    eve = synthetic.record_id("contact", 1)
    at_first = "2026-01-01 00:00:00+00"
    synthetic.leads(
        {"id": ada, "email": "Ada@x ", "hasoptedoutofemail": True, "systemmodstamp": at_first},
        {"id": bob, "email": "bob@x", "emailbounceddate": at_first, "systemmodstamp": at_first},
        {"id": cyd, "email": "cyd@x", "systemmodstamp": at_first},
        {"id": dan, "email": None, "hasoptedoutofemail": True, "systemmodstamp": at_first},
    )
    # Whoever else has the address is meant, too.
    synthetic.contacts({"id": eve, "email": "ada@X", "systemmodstamp": at_first})
    synthetic.events(
        # Without an address, for that of the record.
        {"event_id": "c1", "kind": "email_complained", "crm_id": cyd, "occurred_at": at_first},
        {"kind": "email_clicked", "email": "fay@x", "occurred_at": at_first},
    )
    synthetic.build(select=["+personalization"])
    said_no = [
        ("ada@x", "unsubscribed", False),
        ("bob@x", "hard_bounced", False),
        ("cyd@x", "complained", False),
    ]
    assert synthetic.query(STATUS) == said_no
    assert synthetic.query(MAILABLE) == [("fay@x",)]
    noted = synthetic.query(LEDGER)
    assert sorted(noted) == [
        ("ada@x", "unsubscribed", "crm", f"Lead {ada}"),
        ("bob@x", "hard_bounced", "crm", f"Lead {bob}"),
        ("cyd@x", "complained", "marketing", "c1"),
    ]

    # What is taken back in the CRM changes nothing, and a bounce does not follow to a new address.
    versions = synthetic.query(VERSIONS)
    synthetic.change("lead", ada, hasoptedoutofemail=False, systemmodstamp="2026-01-02Z")
    synthetic.change("lead", bob, email="new-bob@x", systemmodstamp="2026-01-02Z")
    synthetic.build(select=AGAIN)
    assert synthetic.query(STATUS) == said_no
    assert synthetic.query(LEDGER) == noted
    bob_left = synthetic.query("SELECT person_id FROM marketing.fct_consent WHERE email = 'bob@x'")
    assert bob_left == [(None,)]
    assert [v for v in synthetic.query(VERSIONS) if v[0] != "bob@x"] == [
        v for v in versions if v[0] != "bob@x"
    ]

    synthetic.consent(
        *(
            {
                "email": f"{name}@x",
                "status": "subscribed",
                "side": "marketing",
                "evidence": "form 1",
                "occurred_at": "2026-01-03Z",
            }
            for name in ("ada", "bob", "cyd")
        )
    )
    synthetic.build(select=AGAIN)
    assert synthetic.query(STATUS) == [("ada@x", "subscribed", True), *said_no[1:]]
    assert synthetic.query(MAILABLE) == [("ada@x",), ("fay@x",), ("new-bob@x",)]

    # Ticked again, after a yes and after the tick was seen to be gone: that is a new no.
    synthetic.change("lead", ada, hasoptedoutofemail=True, systemmodstamp="2026-01-04Z")
    synthetic.build(select=AGAIN)
    assert synthetic.query(STATUS) == said_no
    assert synthetic.query(LEDGER)[-1] == (
        *("ada@x", "unsubscribed", "crm"),
        f"Lead {ada} at 2026-01-04T00:00:00.000000Z",
    )


def test_a_tick_that_stands_is_noted_once_however_often_its_record_changes(
    synthetic: SyntheticWarehouse,
) -> None:
    ada = synthetic.record_id("lead", 1)
    synthetic.leads(
        {"id": ada, "email": "a@x", "hasoptedoutofemail": True, "systemmodstamp": "2026-01-01Z"}
    )
    synthetic.build(select=["+fct_consent"])
    synthetic.consent(
        {
            "email": "a@x",
            "status": "subscribed",
            "side": "marketing",
            "evidence": "form 1",
            "occurred_at": "2026-01-02Z",
        }
    )
    # A new phone number is no new opinion.
    synthetic.change("lead", ada, phone="1", systemmodstamp="2026-01-03Z")
    synthetic.build(select=["+fct_consent"], full_refresh=True)
    assert synthetic.query(STATUS) == [("a@x", "subscribed", True)]

    # The next address of a record that wants no mail is refused with it.
    synthetic.change("lead", ada, email="b@x", systemmodstamp="2026-01-04Z")
    synthetic.build(select=AGAIN)
    assert synthetic.query(STATUS) == [("a@x", "subscribed", True), ("b@x", "unsubscribed", False)]
