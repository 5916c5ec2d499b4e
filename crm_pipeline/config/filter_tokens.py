"""A record filter's text cut into words, signs and values.

Holds the scanner of the filter language and its literals. Belongs here: what a single word may look
like. Does not belong here: how words may follow each other (filters.py).
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum

from crm_pipeline.config.names import FIELD_PATTERN, printable
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.filters import FilterValue

ALLOWED = (
    "A filter compares fields with values by =, !=, <, <=, >, >=, like, in, not in, includes or "
    "excludes, joined by and, or, not and parentheses; values are 'text', numbers, true, false, "
    "null, dates (2026-01-31) and instants (2026-01-31T08:00:00Z)."
)
_END = r"(?![A-Za-z0-9_.:+\-])"
_SIGNS = r"<>|!=|<=|>=|[=<>(),]"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_INSTANT = _DAY + r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,3})?(?:Z|[+-][0-9]{2}:?[0-9]{2})"
_TOKEN = re.compile(
    rf"(?P<space>[ \n]+)|(?P<instant>{_INSTANT}){_END}|(?P<day>{_DAY}){_END}"
    rf"|(?P<number>-?[0-9]{{1,18}}(?:\.[0-9]{{1,18}})?){_END}"
    rf"|(?P<word>{FIELD_PATTERN}){_END}|(?P<sign>{_SIGNS})"
)
_CONSTANTS: dict[str, FilterValue] = {"true": True, "false": False, "null": None}
# CRMs know no other years, and these can be moved between time zones without overflow.
_FIRST_YEAR, _LAST_YEAR = 1700, 4000
# Direction marks make a text read otherwise than it runs.
_DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class TokenKind(Enum):
    """What a piece of a filter is."""

    WORD = "word"
    SIGN = "sign"
    VALUE = "value"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of a filter.

    Attributes:
        position: of its first character, counted from 1.
        value: what a VALUE stands for.
    """

    kind: TokenKind
    text: str
    position: int
    value: FilterValue = None

    @property
    def folded(self) -> str:
        """The text as keywords are compared: without regard to case."""
        return self.text.lower()

    def __str__(self) -> str:
        """As a sentence names it."""
        return "the end" if self.kind is TokenKind.END else f"`{printable(self.text)}`"


def refusal(position: int, sentence: str) -> ConfigurationError:
    """The error for a filter that goes wrong at a position, counted from 1."""
    return ConfigurationError(f"The filter goes wrong at position {position}: {sentence}")


def tokens_of(text: str) -> list[Token]:
    """The pieces of a filter, an END last.

    Raises:
        ConfigurationError: a character that the language does not have, an open text, an impossible
            date.
    """
    tokens: list[Token] = []
    index = 0
    while index < len(text):
        if text[index] == "'":
            token, index = _text_token(text, index)
            tokens.append(token)
            continue
        match = _TOKEN.match(text, index)
        if match is None:
            raise refusal(index + 1, _why_not(text, index))
        if match.lastgroup != "space":
            tokens.append(_token(match))
        index = match.end()
    tokens.append(Token(TokenKind.END, "", len(text) + 1))
    return tokens


def _token(match: re.Match[str]) -> Token:
    """A piece that is no quoted text."""
    text, position = match.group(), match.start() + 1
    match match.lastgroup:
        case "number":
            return Token(TokenKind.VALUE, text, position, Decimal(text))
        case "day" | "instant":
            return Token(TokenKind.VALUE, text, position, _moment(text, position))
        case "word" if text.lower() in _CONSTANTS:
            return Token(TokenKind.VALUE, text, position, _CONSTANTS[text.lower()])
        case "word":
            return Token(TokenKind.WORD, text, position)
        case _:
            return Token(TokenKind.SIGN, text, position)


def _moment(text: str, position: int) -> date | datetime:
    """A date, or an instant in UTC so that equal instants are equal filters."""
    try:
        if "T" not in text:
            moment: date = date.fromisoformat(text)
        else:
            moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise refusal(position, f"`{text}` is no day or time that exists.") from error
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise refusal(position, f"`{text}` is outside the years {_FIRST_YEAR} to {_LAST_YEAR}.")
    return moment.astimezone(UTC) if isinstance(moment, datetime) else moment


def _text_token(text: str, start: int) -> tuple[Token, int]:
    """A text in single quotes, and the index after it."""
    characters: list[str] = []
    index = start + 1
    while index < len(text):
        character = text[index]
        if character == "'":
            quoted = text[start : index + 1]
            return Token(TokenKind.VALUE, quoted, start + 1, "".join(characters)), index + 1
        if character == "\\":
            index += 1
            character = text[index : index + 1]
            if character not in {"'", "\\"}:
                raise refusal(
                    index, r"in a text, a backslash stands only before ' or \; write \\ for one."
                )
        elif _is_hidden(character):
            raise refusal(
                index + 1,
                f"the invisible character U+{ord(character):04X} is not allowed in a text.",
            )
        characters.append(character)
        index += 1
    raise refusal(start + 1, "the text that begins here has no closing single quote.")


def _is_hidden(character: str) -> bool:
    """Control characters, halves of characters, line separators and direction marks."""
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _DIRECTION_MARKS
    )


def _why_not(text: str, index: int) -> str:
    """What is wrong with the character at the index, and what to write instead."""
    rest = text[index:]
    if rest[0] in '"`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u2032\u2033\u00b4\u00ab\u00bb':
        return f"`{rest[0]}` is not a quote of this language; write texts in single quotes: 'text'."
    if not rest[0].isprintable():
        return f"the invisible character U+{ord(rest[0]):04X} is not allowed; write spaces."
    if rest[0].isascii() and (rest[0].isalnum() or rest[0] == "-"):
        piece = re.split(r"[ \n(),=<>!']", rest, maxsplit=1)[0]
        return f"`{printable(piece)}` is neither a field nor a value. {ALLOWED}"
    return f"`{rest[0]}` is not allowed. {ALLOWED}"
