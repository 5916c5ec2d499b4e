"""A few thousand people with everything that makes people hard to count, by generate_series.

Leads 1 to 2,000 and contacts 1 to 1,000: those of one number mostly share an address. Every seventh
lead is converted, some under an address of their own; some are merged, in chains; some have no
address. Events name people by address, by record, by a record that is merged or not there yet, or
not at all.

Belongs here: who there is. Does not belong here: what changes afterwards (changes.py).
"""

from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse

LEADS, CONTACTS, ACCOUNTS, EVENTS = 2_000, 1_000, 100, 12_000
ADDRESS = "'person' || {n} || '@example.com'"
_LEAD_ID = "'00Q' || lpad(({n})::text, 12, '0') || 'EAA'"
_CONTACT_ID = "'003' || lpad(({n})::text, 12, '0') || 'AAA'"
_ACCOUNT_ID = "'001' || lpad(({n})::text, 12, '0') || 'AAA'"
_OPPORTUNITY_ID = "'006' || lpad(({n})::text, 12, '0') || 'AAA'"
_STATEMENTS = (
    f"""
    INSERT INTO salesforce.account (id, name, type, industry, createddate, systemmodstamp)
    SELECT {_ACCOUNT_ID.format(n="n")}, 'Account ' || n,
        CASE WHEN n % 5 = 0 THEN 'Customer - Direct' ELSE 'Prospect' END, 'Engines',
        '2025-01-01', '2025-06-01'
    FROM generate_series(1, {ACCOUNTS}) n
    """,
    f"""
    INSERT INTO salesforce.opportunity
        (id, accountid, name, amount, iswon, isclosed, closedate, createddate, systemmodstamp)
    SELECT {_OPPORTUNITY_ID.format(n="n")}, {_ACCOUNT_ID.format(n=f"1 + n % {ACCOUNTS}")},
        'Deal ' || n, n, n % 11 = 0, n % 11 = 0, '2026-06-01', '2025-06-01', '2025-06-01'
    FROM generate_series(1, 200) n
    """,
    f"""
    INSERT INTO salesforce.contact
        (id, accountid, firstname, lastname, email, title, createddate, systemmodstamp)
    SELECT {_CONTACT_ID.format(n="n")}, {_ACCOUNT_ID.format(n=f"1 + n % {ACCOUNTS}")},
        'Contact', 'Number ' || n,
        CASE WHEN n % 13 <> 0 THEN {ADDRESS.format(n="n")} END,
        CASE n % 4 WHEN 0 THEN 'Director' WHEN 1 THEN 'CTO' END,
        timestamptz '2025-01-01' + n * interval '1 hour', '2025-07-01'
    FROM generate_series(1, {CONTACTS}) n
    """,
    f"""
    INSERT INTO salesforce.lead
        (id, firstname, lastname, email, company, phone, title, leadsource, status, isconverted,
         convertedcontactid, createddate, systemmodstamp)
    SELECT {_LEAD_ID.format(n="n")}, 'Lead', 'Number ' || n,
        CASE WHEN n % 17 = 0 THEN NULL
             WHEN n % 21 = 0 THEN 'former' || n || '@example.com'
             -- Two leads of one person, one spelt with blanks and capitals.
             WHEN n % 19 = 0 THEN ' PERSON' || n - 1 || '@Example.com '
             ELSE {ADDRESS.format(n="n")} END,
        'Company ' || n % 50, CASE WHEN n % 3 = 0 THEN '+49 30 ' || n END,
        CASE n % 5 WHEN 0 THEN 'Manager' WHEN 1 THEN 'Student' END,
        CASE n % 6 WHEN 0 THEN 'Partner Referral' WHEN 1 THEN 'Web' END, 'Open',
        n % 7 = 0 AND n <= {CONTACTS},
        CASE WHEN n % 7 = 0 AND n <= {CONTACTS} THEN {_CONTACT_ID.format(n="n")} END,
        timestamptz '2025-02-01' + n * interval '1 hour', '2025-08-01'
    FROM generate_series(1, {LEADS}) n
    """,
    # Chains of merges: 1,001 into 1,002 into 1,003, and so on.
    f"""
    UPDATE salesforce.lead SET _deleted_at = now(), _vanished = 'merged',
        _synced_at = clock_timestamp(),
        _merged_into = {_LEAD_ID.format(n="substr(id, 4, 12)::int + 1")}
    WHERE substr(id, 4, 12)::int > 1000 AND substr(id, 4, 12)::int % 40 IN (1, 2)
    """,
    f"""
    INSERT INTO events.marketing_events
        (event_id, occurred_at, kind, email, crm_id, channel, source, url, properties)
    SELECT 'event-' || n,
        timestamptz '2026-03-02' - (n * 7919 % 200000) * interval '1 minute',
        kinds[1 + n * 31 % cardinality(kinds)],
        CASE n % 9 WHEN 0 THEN 'stranger' || n % 300 || '@example.com'
                   WHEN 1 THEN 'former' || n % {LEADS} / 21 * 21 || '@example.com'
                   WHEN 2 THEN NULL WHEN 3 THEN NULL
                   ELSE {ADDRESS.format(n=f"n * 13 % {LEADS}")} END,
        CASE WHEN n % 9 = 2 THEN {_LEAD_ID.format(n=f"1 + n * 17 % {LEADS}")}
             WHEN n % 27 = 3 THEN {_CONTACT_ID.format(n=f"1 + n * 19 % {CONTACTS}")}
             -- Of leads that arrive later.
             WHEN n % 27 = 12 THEN {_LEAD_ID.format(n="3001 + n % 50")} END,
        CASE n % 4 WHEN 0 THEN 'social' WHEN 1 THEN 'paid_search' END,
        CASE n % 3 WHEN 0 THEN 'adverts' END,
        CASE WHEN n % 2 = 0 THEN 'https://example.com/' || n % 20 END,
        CASE WHEN kinds[1 + n * 31 % cardinality(kinds)] = 'score_adjusted'
             THEN jsonb_build_object('points', n % 9 - 3) ELSE '{{}}' END
    FROM generate_series(1, {EVENTS}) n,
        (SELECT '{{page_visited,page_visited,page_visited,page_visited,email_sent,email_opened,
            email_clicked,form_submitted,webinar_attended,list_imported,score_adjusted,
            email_unsubscribed,email_hard_bounced}}'::text[] AS kinds) k
    """,
)


def populate(warehouse: SyntheticWarehouse) -> None:
    """Fill the empty tables of a warehouse."""
    for statement in _STATEMENTS:
        warehouse.execute(statement)
