"""Records whose text breaks careless loaders; the same few in every seeded org.

Belongs here: values that are legal in Salesforce and awkward everywhere else. Does not belong
here: values that Salesforce refuses, and believable people (people.py).
"""

from typing import Any

HOSTILE_TEXTS: dict[str, str] = {
    "quotes": 'She said "yes" and \'no\' and \'\'both\'\' and """more"""',
    "newline": "first line\nsecond line\n\nfourth line",
    "crlf": "first line\r\nsecond line\r\n",
    "lone carriage return": "first\rsecond",
    "commas and semicolons": "a,b;c,,;d,",
    "tab": "left\tright\t",
    "backslash": "C:\\new\\table\\0\\",
    "null marker": "\\N",
    "end of data": "before\n\\.\nafter",
    "end of data alone": "\\.",
    "line separator": "one\u2028two",
    "paragraph separator": "one\u2029two",
    "next line": "one\u0085two",
    "vertical tab and form feed": "one\x0btwo\x0cthree",
    "file separators": "one\x1ctwo\x1dthree\x1efour",
    "byte order mark": "\ufeffstarts with a mark",
    "zero width": "zero\u200bwidth\u200djoiner",
    "emoji": "👩‍👩‍👧‍👦 family, flag 🇺🇳, skin 👍🏽",
    "astral": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 and 𠮷野家",
    "right to left": "مرحبا بالعالم \u202eabc\u202c שלום",
    "decomposed": "Cafe\u0301 Zu\u0308rich A\u030angstro\u0308m",
    "composed": "Café Zürich Ångström",
    "turkish i": "Iİıi",
    "sharp s": "Straße STRASSE ﬁ",
    "replacement": "lost \ufffd character",
    "leading zeros": "00123",
    "na": "NA",
    "not available": "N/A",
    "null word": "null",
    "none word": "None",
    "not a number": "NaN",
    "infinity": "-inf",
    "true word": "TRUE",
    "exponent": "1e5",
    "hash na": "#N/A",
    "leading and trailing spaces": "  two before and three after   ",
    "only spaces": "   ",
    "formula": '=cmd|" /C calc"!A0',
    "formula sum": "@SUM(1+1)*cmd|' /C calc'!A0",
    "plus and minus": "+1-1",
    "html": "<script>alert('x')</script><b>bold</b>&amp;&nbsp;",
    "sql": 'Robert\'); DROP TABLE "Lead";--',
    "soql": "x' OR Name LIKE '%",
    "percent formats": "%s %d %(name)s {0} {name} {{ jinja }} ${shell} $1 \\1",
    "json": '{"a": [1, null, "\\u0000"]}',
    "path": "../../etc/passwd",
    "url": "https://example.org/?a=1&b=2#c%20d",
}
"""What is wrong with it -> the text, exactly as it must arrive in the warehouse."""

VERY_LONG_TEXT = ('Long text, with commas, "quotes" and\nlines. ' * 800)[:32_000]

EXTREMES: tuple[dict[str, Any], ...] = (
    {"Name": "Largest amount", "Amount": "99999999999999.99", "CloseDate": "4000-12-31"},
    {"Name": "Smallest step", "Amount": "0.1", "CloseDate": "1700-01-01"},
    {"Name": "Negative amount", "Amount": "-99999999999999.99", "CloseDate": "1969-12-31"},
    {"Name": "A cent", "Amount": "0.01", "CloseDate": "2000-02-29"},
    {"Name": "Zero is not nothing", "Amount": "0", "CloseDate": "2038-01-20"},
    {"Name": "No amount", "Amount": None, "CloseDate": "1900-03-01"},
    {"Name": "Binary cannot say it", "Amount": "1234567890123456.78", "CloseDate": "2262-04-12"},
)
"""Opportunities at the edges of what a currency and a date can hold."""

_ODD_NAMES: tuple[dict[str, Any], ...] = (
    {"LastName": "Null", "State": "NA", "PostalCode": "00123", "Company": "N/A"},
    {"LastName": "None", "State": "NaN", "PostalCode": "01e05", "Company": "NaN"},
    {"LastName": "True", "State": "false", "PostalCode": "1e5", "Company": "TRUE"},
    {"LastName": "1e5", "State": "-", "PostalCode": "0", "Company": "1e5"},
    {"LastName": "Nan", "State": "null", "PostalCode": "١٢٣", "Company": "null"},
    {"LastName": 'O\'Connor-"Ace"', "State": "'", "PostalCode": "007", "Company": "\\N"},
    {"LastName": "  Spaces  ", "State": " CA ", "PostalCode": " 00501", "Company": " A B "},
    {"LastName": "-", "State": "\\.", "PostalCode": "\\N", "Company": ","},
)

_ODD_NUMBERS: tuple[dict[str, Any], ...] = (
    {"NumberOfEmployees": 0, "AnnualRevenue": "0", "Lead_Score__c": "0"},
    {"NumberOfEmployees": 99_999_999, "AnnualRevenue": "999999999999999999"},
    {"Lead_Score__c": "9999999999999999.99", "Preferred_Call_Time__c": "00:00:00.000Z"},
    {"Lead_Score__c": "-0.01", "Preferred_Call_Time__c": "23:59:59.999Z"},
    {"Lead_Score__c": "0.10", "Marketing_Segments__c": "Churn risk;Newsletter;Webinar"},
)


def hostile_leads() -> list[dict[str, Any]]:
    """One lead per hostile text and per odd name or number; the Description says what it is."""
    leads: list[dict[str, Any]] = [
        {"FirstName": "Hostile", "LastName": what, "Company": value, "Description": value}
        for what, value in HOSTILE_TEXTS.items()
        if value.strip()
    ]
    leads.append(
        {"FirstName": "Hostile", "LastName": "only spaces", "Company": "-", "Description": "   "}
    )
    leads.append(
        {"FirstName": "Hostile", "LastName": "long", "Company": "-", "Description": VERY_LONG_TEXT}
    )
    leads += [{"FirstName": None, "Description": "odd name"} | one for one in _ODD_NAMES]
    leads += [
        {"FirstName": "Odd", "LastName": f"Number {place}", "Company": "Edges Ltd"} | one
        for place, one in enumerate(_ODD_NUMBERS)
    ]
    return [
        one | {"External_Key__c": f"hostile-{place:03d}", "LeadSource": "Other"}
        for place, one in enumerate(leads)
    ]
