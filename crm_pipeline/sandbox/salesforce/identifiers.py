"""Record Ids: 15 case-sensitive characters, 18 with the checksum that survives case folding.

Belongs here: making, checking and normalising Ids. Does not belong here: which prefix an
object has (schema.py) and where the sequences are kept (storage.py).
"""

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_POD = "8d"  # the two characters that name an instance; constant, so Ids repeat from run to run
_SERIAL_DIGITS = 10
_BODY = 15
_FULL = 18


def checksum(short: str) -> str:
    """The three characters that say which of the 15 are upper case."""
    letters = []
    for start in range(0, _BODY, 5):
        bits = sum(
            1 << place
            for place, character in enumerate(short[start : start + 5])
            if "A" <= character <= "Z"
        )
        letters.append(_CHECKSUM_ALPHABET[bits])
    return "".join(letters)


def make_id(key_prefix: str, number: int) -> str:
    """The 18-character Id of the given number in the object's own sequence."""
    digits = []
    for _ in range(_SERIAL_DIGITS):
        number, rest = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[rest])
    short = key_prefix + _POD + "".join(reversed(digits))
    return short + checksum(short)


def number_of(identifier: str) -> int:
    """The place of an Id of ours in its object's sequence, to go on after imported Ids."""
    number = 0
    for character in identifier[5:_BODY]:
        number = number * len(ALPHABET) + ALPHABET.index(character)
    return number


def normalise(identifier: object) -> str | None:
    """The 18-character form of an Id given in either form; None if it is no Id.

    An 18-character Id whose case was folded on the way is repaired from its checksum, as
    Salesforce does.
    """
    if not isinstance(identifier, str) or not (identifier.isascii() and identifier.isalnum()):
        return None
    if len(identifier) == _BODY:
        return identifier + checksum(identifier)
    if len(identifier) != _FULL:
        return None
    if checksum(identifier[:_BODY]) == identifier[_BODY:]:
        return identifier
    return _repaired(identifier)


def _repaired(identifier: str) -> str | None:
    tail = identifier[_BODY:].upper()
    if any(character not in _CHECKSUM_ALPHABET for character in tail):
        return None
    cased = []
    for place, character in enumerate(identifier[:_BODY]):
        upper = _CHECKSUM_ALPHABET.index(tail[place // 5]) >> (place % 5) & 1
        cased.append(character.upper() if upper else character.lower())
    short = "".join(cased)
    return short + tail if checksum(short) == tail else None
