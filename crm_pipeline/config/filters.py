"""From a record filter's text to the tree of values that every room works with.

Holds the grammar: comparisons joined by and, or, not and parentheses, and nothing else. It is an
allow list, so that no text from the settings ever becomes part of a query by itself. Belongs here:
what may follow what. Does not belong here: literals (filter_tokens.py), whether a field exists
(mapping.py), any CRM's query language (crm/<vendor>/).

    filter     = and_part ("or" and_part)*
    and_part   = part ("and" part)*
    part       = "not" part | "(" filter ")" | comparison
    comparison = field sign value
               | field "like" text
               | field ("in" | "not in" | "includes" | "excludes") "(" value ("," value)* ")"
"""

from collections.abc import Callable
from datetime import datetime

from crm_pipeline.config.filter_tokens import ALLOWED, Token, TokenKind, refusal, tokens_of
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.filters import (
    All,
    Any,
    Comparator,
    Comparison,
    FilterValue,
    Not,
    RecordFilter,
)

MAXIMUM_DEPTH = 20
MAXIMUM_LENGTH = 4_000
_SIGNS = {
    "=": Comparator.EQUAL,
    "!=": Comparator.NOT_EQUAL,
    "<>": Comparator.NOT_EQUAL,
    "<": Comparator.LESS,
    "<=": Comparator.LESS_OR_EQUAL,
    ">": Comparator.GREATER,
    ">=": Comparator.GREATER_OR_EQUAL,
}
_WORDS = {
    "like": Comparator.LIKE,
    "in": Comparator.IN,
    "includes": Comparator.INCLUDES,
    "excludes": Comparator.EXCLUDES,
}
_LISTED = frozenset({Comparator.IN, Comparator.NOT_IN, Comparator.INCLUDES, Comparator.EXCLUDES})
_KEYWORDS = frozenset({"and", "or", "not", *_WORDS})
_COMPARISONS = "=, !=, <, <=, >, >=, like, in, not in, includes or excludes"


def parse_filter(text: str) -> RecordFilter:
    """The tree of a record filter; `and` binds tighter than `or`, keywords in any case.

    Args:
        text: at most 4,000 characters, nested at most 20 deep.

    Raises:
        ConfigurationError: anything but comparisons joined by and, or, not and parentheses; the
            sentence gives the position, counted from 1, and what is allowed there.
    """
    if not text.strip():
        raise ConfigurationError(f"The filter is empty; remove it or write a condition. {ALLOWED}")
    if len(text) > MAXIMUM_LENGTH:
        raise ConfigurationError(
            f"The filter has {len(text):,} characters; at most {MAXIMUM_LENGTH:,} are allowed."
        )
    return _Parser(tokens_of(text)).parse()


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._index = 0
        self._depth = 0

    def parse(self) -> RecordFilter:
        """The whole filter, to its end."""
        tree = self._either()
        token = self._peek()
        if token.kind is not TokenKind.END:
            raise refusal(
                token.position, f"expected `and`, `or` or the end, found {token}. {ALLOWED}"
            )
        return tree

    def _peek(self) -> Token:
        return self._tokens[self._index]

    def _take(self) -> Token:
        token = self._tokens[self._index]
        if token.kind is not TokenKind.END:
            self._index += 1
        return token

    def _take_if(self, text: str) -> bool:
        """Step over a keyword or sign if it comes next."""
        token = self._peek()
        is_next = token.kind in {TokenKind.WORD, TokenKind.SIGN} and token.folded == text
        if is_next:
            self._index += 1
        return is_next

    def _expect(self, text: str, expected: str) -> None:
        token = self._peek()
        if not self._take_if(text):
            raise refusal(token.position, f"expected {expected}, found {token}.")

    def _either(self) -> RecordFilter:
        parts = self._joined("or", self._both)
        return parts[0] if len(parts) == 1 else Any(parts)

    def _both(self) -> RecordFilter:
        parts = self._joined("and", self._part)
        return parts[0] if len(parts) == 1 else All(parts)

    def _joined(self, keyword: str, part: Callable[[], RecordFilter]) -> tuple[RecordFilter, ...]:
        parts = [part()]
        while self._take_if(keyword):
            parts.append(part())
        return tuple(parts)

    def _part(self) -> RecordFilter:
        token = self._peek()
        self._depth += 1
        if self._depth > MAXIMUM_DEPTH:
            raise refusal(token.position, f"nested deeper than {MAXIMUM_DEPTH}; write it flatter.")
        if self._take_if("not"):
            tree: RecordFilter = Not(self._part())
        elif self._take_if("("):
            tree = self._either()
            self._expect(")", "`and`, `or` or `)`")
        else:
            tree = self._comparison()
        self._depth -= 1
        return tree

    def _comparison(self) -> Comparison:
        field = self._take()
        if field.kind is not TokenKind.WORD or field.folded in _KEYWORDS:
            raise refusal(field.position, f"expected a field name, `not` or `(`, found {field}.")
        sign = self._peek()
        comparator = self._comparator(field)
        if comparator in _LISTED:
            return Comparison(field.text, comparator, self._values(comparator))
        value = self._value()
        _require_comparable(comparator, value, sign)
        return Comparison(field.text, comparator, value.value)

    def _comparator(self, field: Token) -> Comparator:
        token = self._take()
        if token.kind is TokenKind.SIGN and token.text in _SIGNS:
            return _SIGNS[token.text]
        if token.kind is TokenKind.WORD and token.folded in _WORDS:
            return _WORDS[token.folded]
        if token.kind is TokenKind.WORD and token.folded == "not":
            self._expect("in", "`in` after `not`")
            return Comparator.NOT_IN
        raise refusal(token.position, _why_no_comparison(field, token))

    def _value(self) -> Token:
        token = self._take()
        if token.kind is not TokenKind.VALUE:
            hint = " Subqueries and lists are not allowed here." if token.text == "(" else ""
            raise refusal(
                token.position,
                f"expected a value, found {token}; values are 'text', numbers, true, false, null, "
                f"dates (2026-01-31) and instants (2026-01-31T08:00:00Z).{hint}",
            )
        return token

    def _values(self, comparator: Comparator) -> tuple[FilterValue, ...]:
        self._expect("(", f"a list such as ('a', 'b') after `{comparator}`")
        tokens = [self._value()]
        while self._take_if(","):
            tokens.append(self._value())
        self._expect(")", "`,` or `)`")
        for token in tokens:
            _require_listable(comparator, token, tokens[0])
        return tuple(token.value for token in tokens)


def _why_no_comparison(field: Token, token: Token) -> str:
    """Why what follows a field is no comparison; names the usual habits from other languages."""
    if token.text == "(":
        return f"functions such as `{field.text}(...)` are not allowed; compare a field itself."
    if token.folded == "is":
        return "write `= null` or `!= null` instead of `is null`."
    return f"expected a comparison ({_COMPARISONS}) after `{field.text}`, found {token}."


def _require_comparable(comparator: Comparator, value: Token, sign: Token) -> None:
    """Refuse pairs that no CRM can answer."""
    match comparator:
        case Comparator.EQUAL | Comparator.NOT_EQUAL:
            return
        case Comparator.LIKE if isinstance(value.value, str):
            return
        case Comparator.LIKE:
            raise refusal(value.position, f"`like` takes a text such as 'A%', not {value}.")
        case _ if value.value is None or isinstance(value.value, bool):
            raise refusal(
                value.position, f"{value} can be compared by = or != only, not by {sign}."
            )


def _require_listable(comparator: Comparator, token: Token, first: Token) -> None:
    """Lists hold values of one kind; null in a list means different things to different CRMs."""
    if token.value is None:
        raise refusal(
            token.position, "null cannot stand in a list; write `or Field = null` beside it."
        )
    if comparator in {Comparator.INCLUDES, Comparator.EXCLUDES} and not isinstance(
        token.value, str
    ):
        raise refusal(token.position, f"`{comparator}` takes texts in quotes only, not {token}.")
    if _kind(token.value) is not _kind(first.value):
        raise refusal(
            token.position, f"a list holds values of one kind; {token} differs from {first}."
        )


def _kind(value: FilterValue) -> type:
    """A value's kind; instants are no dates here although Python's are."""
    return datetime if isinstance(value, datetime) else type(value)
