"""SOQL text cut into tokens, and the error message that points at one.

Belongs here: characters. Does not belong here: grammar (soql.py).
"""

import re
from dataclasses import dataclass

from crm_pipeline.sandbox.salesforce.failures import OrgError

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d))
  | (?P<date>\d{4}-\d\d-\d\d)
  | (?P<time>\d\d:\d\d:\d\d(?:\.\d+)?Z)
  | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
  | (?P<text>'(?:[^'\\]|\\.)*')
  | (?P<symbol>!=|<>|<=|>=|[=<>(),:])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "b": "\b",
    "f": "\f",
    "'": "'",
    '"': '"',
    "\\": "\\",
    "%": "%",
    "_": "_",
}
_CONTEXT = 70  # characters of the query an error message shows before and after the place


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the query and where it stands."""

    kind: str
    text: str
    position: int

    @property
    def upper(self) -> str:
        """The text as a keyword would be compared."""
        return self.text.upper()


def tokens(soql: str) -> list[Token]:
    """Cut a query; MALFORMED_QUERY where nothing fits."""
    found: list[Token] = []
    position = 0
    while position < len(soql):
        match = _TOKEN.match(soql, position)
        if match is None:
            raise malformed(soql, position, f"unexpected token: '{soql[position]}'")
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(Token(kind, match.group(), position))
        position = match.end()
    found.append(Token("end", "<EOF>", len(soql)))
    return found


def unquoted(soql: str, token: Token) -> tuple[str, str]:
    r"""A quoted text's value, and its form as a LIKE pattern where `\%` and `\_` stay escaped."""
    body = token.text[1:-1]
    value: list[str] = []
    pattern: list[str] = []
    place = 0
    while place < len(body):
        character, place, escaped = _character(soql, token, body, place)
        value.append(character)
        keep = (escaped and character in "%_") or character == "\\"
        pattern.append("\\" + character if keep else character)
    return "".join(value), "".join(pattern)


def _character(soql: str, token: Token, body: str, place: int) -> tuple[str, int, bool]:
    character = body[place]
    if character != "\\":
        return character, place + 1, False
    following = body[place + 1]
    if following in "uU":
        digits = body[place + 2 : place + 6]
        if not re.fullmatch(r"[0-9A-Fa-f]{4}", digits):
            raise malformed(soql, token.position, "invalid unicode escape sequence")
        return chr(int(digits, 16)), place + 6, True
    meant = _ESCAPES.get(following.lower() if following.isalpha() else following)
    if meant is None:
        raise malformed(soql, token.position, f"Illegal character sequence '\\{following}'")
    return meant, place + 2, True


def pointed(soql: str, position: int, message: str) -> str:
    """The message with the piece of the query it is about, a caret, row and column."""
    row = soql.count("\n", 0, position) + 1
    line_start = soql.rfind("\n", 0, position) + 1
    line_end = soql.find("\n", position)
    line_end = len(soql) if line_end < 0 else line_end
    start = max(line_start, position - _CONTEXT)
    shown = soql[start : min(line_end, position + _CONTEXT)]
    caret = " " * (position - start) + "^"
    column = position - line_start + 1
    return f"\n{shown}\n{caret}\nERROR at Row:{row}:Column:{column}\n{message}"


def malformed(soql: str, position: int, message: str) -> OrgError:
    """A query that is no SOQL."""
    return OrgError("MALFORMED_QUERY", pointed(soql, position, message))
