"""An invented company: people, accounts and what marketing saw of them, by SQL alone.

The typed tables are as a sync leaves them, with the columns that the models read. Half of the
people are leads, the other half contacts; one in fifty leads was converted. Belongs here: inventing
and changing it. Does not belong here: measuring anything (marketing_speed.py).
"""

from pathlib import Path

import psycopg

_BOOKKEEPING = (
    "_synced_at timestamptz NOT NULL DEFAULT now(), _deleted_at timestamptz, _vanished text,"
    " _merged_into text, _restored_at timestamptz"
)
_TABLES = {
    "account": "id text PRIMARY KEY, name text, type text, industry text, ownerid text,"
    " createddate timestamptz, systemmodstamp timestamptz",
    "contact": "id text PRIMARY KEY, accountid text, firstname text, lastname text, name text,"
    " email text, phone text, title text, leadsource text, ownerid text,"
    " hasoptedoutofemail boolean, createddate timestamptz, systemmodstamp timestamptz",
    "lead": "id text PRIMARY KEY, firstname text, lastname text, name text, email text,"
    " phone text, company text, title text, industry text, country text, status text,"
    " leadsource text, isconverted boolean, convertedcontactid text, ownerid text,"
    " hasoptedoutofemail boolean, createddate timestamptz, systemmodstamp timestamptz",
    "opportunity": "id text PRIMARY KEY, accountid text, name text, stagename text,"
    " amount numeric, isclosed boolean, iswon boolean, closedate date, ownerid text,"
    " createddate timestamptz, systemmodstamp timestamptz",
    "users": "id text PRIMARY KEY, name text, email text, phone text, isactive boolean,"
    " systemmodstamp timestamptz",
}
_AGE = "timestamptz '2026-01-01' - {0} * interval '1 minute'"
_ROWS = {
    "account": "SELECT '001' || lpad(i::text, 15, '0'), 'Account ' || i,"
    " CASE i % 4 WHEN 0 THEN 'Customer - Direct' ELSE 'Prospect' END, 'Energy',"
    f" '005' || lpad((i % 50)::text, 15, '0'), {_AGE.format('i')}, {_AGE.format('i')}"
    " FROM generate_series(1, {accounts}) i",
    "contact": "SELECT '003' || lpad(i::text, 15, '0'),"
    " '001' || lpad((i % {accounts} + 1)::text, 15, '0'), 'Ada', 'Contact ' || i,"
    " 'Ada Contact ' || i, 'contact' || i || '@example.com', '+49 30 ' || i,"
    " CASE i % 20 WHEN 0 THEN 'Head of Marketing' ELSE 'Engineer' END,"
    " (ARRAY['Web', 'Referral', 'Trade Show'])[i % 3 + 1],"
    f" '005' || lpad((i % 50)::text, 15, '0'), i % 40 = 0, {_AGE.format('i')}, {_AGE.format('i')}"
    " FROM generate_series(1, {half}) i",
    "lead": "SELECT '00Q' || lpad(i::text, 15, '0'), 'Ben', 'Lead ' || i, 'Ben Lead ' || i,"
    " 'lead' || i || '@example.com', '+49 40 ' || i, 'Company ' || i % 1000, 'Buyer', 'Energy',"
    " (ARRAY['Germany', 'France', 'Spain'])[i % 3 + 1], 'Open', 'Web', i % 50 = 0,"
    " CASE WHEN i % 50 = 0 THEN '003' || lpad(i::text, 15, '0') END,"
    f" '005' || lpad((i % 50)::text, 15, '0'), i % 40 = 0, {_AGE.format('i')}, {_AGE.format('i')}"
    " FROM generate_series(1, {half}) i",
    "opportunity": "SELECT '006' || lpad(i::text, 15, '0'),"
    " '001' || lpad((i % {accounts} + 1)::text, 15, '0'), 'Deal ' || i, 'Open', i * 10,"
    " i % 3 = 0, i % 6 = 0, date '2026-01-01' + i % 300,"
    f" '005' || lpad((i % 50)::text, 15, '0'), {_AGE.format('i')}, {_AGE.format('i')}"
    " FROM generate_series(1, {accounts}) i",
    "users": "SELECT '005' || lpad(i::text, 15, '0'), 'User ' || i, 'user' || i || '@example.com',"
    " '+49 30 1', true, now() FROM generate_series(0, 49) i",
}
# Two thirds are page visits, a quarter e-mails; some people are seen a lot, most a little.
_EVENT = """
SELECT 'e' || i AS event_id,
       timestamptz '2026-11-01' - (i % 260000) * interval '1 minute' AS occurred_at,
       CASE WHEN i % 12 < 8 THEN 'page_visited' WHEN i % 12 = 8 THEN 'email_opened'
            WHEN i % 12 = 9 THEN 'email_sent' WHEN i % 12 = 10 THEN 'email_clicked'
            WHEN i % 1200 = 11 THEN 'email_unsubscribed' ELSE 'form_submitted' END AS kind,
       CASE WHEN i % 2 = 0 THEN 'contact' ELSE 'lead' END
           || ((i::bigint * 7919) % {half} + 1) || '@example.com' AS email,
       NULL::text AS crm_id,
       CASE WHEN i % 5 = 0 THEN 'spring' END AS campaign,
       CASE WHEN i % 7 = 0 THEN 'paid_search' WHEN i % 12 < 8 THEN 'web' ELSE 'email' END
           AS channel,
       CASE WHEN i % 7 = 0 THEN 'google' ELSE 'direct' END AS source,
       'https://www.example.com/page/' || i % 500 AS url
FROM generate_series({first}, {last}) i
"""


def invent_people(database: str, people: int) -> None:
    """Typed tables of so many people, half of them leads."""
    facts = {"half": people // 2, "accounts": max(people // 20, 1)}
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS salesforce")
        for name, columns in _TABLES.items():
            connection.execute(
                f"CREATE TABLE salesforce.{name} ({columns}, {_BOOKKEEPING})".encode()
            )
            kept = ", ".join(column.split()[0] for column in columns.split(", "))
            rows = _ROWS[name].format(**facts)
            connection.execute(f"INSERT INTO salesforce.{name} ({kept}) {rows}".encode())
    vacuum(database)


def invent_events(database: str, people: int, *, first: int, last: int, file: Path) -> None:
    """A CSV file of events, as a tool would export them."""
    select = _EVENT.format(half=people // 2, first=first, last=last)
    _copy_out(database, f"COPY ({select}) TO STDOUT (FORMAT csv, HEADER)", file)


def export(database: str, table: str, file: Path) -> None:
    """The bytes of one typed table."""
    _copy_out(database, f"COPY salesforce.{table} TO STDOUT (FORMAT csv)", file)


def _copy_out(database: str, statement: str, file: Path) -> None:
    with (
        psycopg.connect(database) as connection,
        connection.cursor().copy(statement.encode()) as copy,
        file.open("wb") as out,
    ):
        for block in copy:
            out.write(block)


def change_records(database: str, count: int, turn: int) -> None:
    """As a differential would: so many records are different, spread over both tables."""
    with psycopg.connect(database) as connection:
        for table in ("lead", "contact"):
            connection.execute(
                f"UPDATE salesforce.{table} SET title = 'Changed ' || %s, _synced_at = now(),"
                f" systemmodstamp = now() WHERE id IN (SELECT id FROM salesforce.{table}"
                " ORDER BY md5(id || %s) LIMIT %s)",
                [str(turn), str(turn), count // 2],
            )


def vacuum(database: str) -> None:
    """What PostgreSQL does by itself between two builds."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
