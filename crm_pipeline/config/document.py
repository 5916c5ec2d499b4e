"""A YAML document as plain values, and the line on which each of them stands.

Holds the strict reading of YAML: no aliases, no tags, no key twice, little depth, one document.
Belongs here: what makes a text unreadable. Does not belong here: what the settings mean
(settings.py).
"""

from dataclasses import dataclass

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from crm_pipeline.config.faults import Location
from crm_pipeline.config.names import listed, printable
from crm_pipeline.errors import ConfigurationError

MAXIMUM_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Document:
    """A settings file before anybody has asked what it means.

    Attributes:
        content: the root mapping, its keys as written.
        lines: 1-based line of every key and list item, by location.
    """

    content: dict[str, object]
    lines: dict[Location, int]

    def line_of(self, location: Location) -> int:
        """The line of a location, or of the nearest thing around it that the file spells out."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]


def read_document(text: str, *, file: str) -> Document:
    """The text as plain values with their lines.

    Raises:
        ConfigurationError: not YAML, or YAML with more in it than settings need.
    """
    try:
        loader = _StrictLoader(text)
        root = loader.get_single_node()
        if root is None:
            raise _Refusal(
                1, "the file holds no settings; let `crm-pipeline init` write them anew."
            )
        reading = _Reading(loader)
        content = reading.value(root, ())
    except _Refusal as refusal:
        raise ConfigurationError(refusal.sentence, file=file, line=refusal.line) from None
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        line = text.count("\n", 0, position) + 1
        character = error.character
        code = character if isinstance(character, int) else ord(character)
        raise ConfigurationError(
            f"the invisible character U+{code:04X} is not allowed in YAML; remove it.",
            file=file,
            line=line,
        ) from error
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from error
    if not isinstance(content, dict):
        raise ConfigurationError(
            "the file must be a mapping of settings; begin it with `version: 1`.",
            file=file,
            line=root.start_mark.line + 1,
        )
    return Document(content, reading.lines)


class _Refusal(Exception):
    """Something that YAML allows and settings do not."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


class _StrictLoader(yaml.SafeLoader):
    """Composes nodes with their marks, and refuses what could blow a small file up."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """One node; checks it before anything below it is read."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1 if event.start_mark else 1
        if self.check_event(yaml.AliasEvent):
            raise _Refusal(line, "aliases (`*name`) are not allowed; write the value out again.")
        if getattr(event, "tag", None) is not None:
            raise _Refusal(line, "tags (`!name`) are not allowed; write the plain value.")
        self._depth += 1
        if self._depth > MAXIMUM_DEPTH:
            raise _Refusal(line, f"nested deeper than {MAXIMUM_DEPTH} levels; write it flatter.")
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Reading:
    """Turns nodes into values and notes their lines."""

    def __init__(self, loader: _StrictLoader) -> None:
        self._loader = loader
        self.lines: dict[Location, int] = {(): 1}

    def value(self, node: Node, location: Location) -> object:
        """A node's plain value."""
        match node:
            case MappingNode():
                return self._mapping(node, location)
            case SequenceNode():
                return [self._item(child, (*location, i)) for i, child in enumerate(node.value)]
            case _:
                return self._scalar(node)

    def _item(self, node: Node, location: Location) -> object:
        self.lines[location] = node.start_mark.line + 1
        return self.value(node, location)

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, object]:
        content: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                raise _Refusal(line, "a key must be a name; write `name: value`.")
            # As written: YAML reads a key such as `on` or `no` as true or false.
            key = str(key_node.value)
            if key in content:
                first = self.lines[(*location, key)]
                raise _Refusal(
                    line,
                    f"{listed([key])} stands here for the second time, the first is on line "
                    f"{first}; keep one of them.",
                )
            self.lines[(*location, key)] = line
            content[key] = self.value(value_node, (*location, key))
        return content

    def _scalar(self, node: Node) -> object:
        try:
            return self._loader.construct_object(node)
        except ValueError as error:
            raise _Refusal(
                node.start_mark.line + 1,
                f"{listed([str(node.value)])} is no value that exists; put it in quotes if it is a "
                "text.",
            ) from error


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> ConfigurationError:
    """A syntax error in our words."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    if mark and text[mark.index : mark.index + 1] == "\t":
        sentence = "a tab stands here; indent by spaces."
    elif "single document" in (error.context or ""):
        sentence = "a second document begins here; remove the line `---`."
    else:
        sentence = (
            f"this is not YAML ({printable(error.problem or 'unreadable', limit=120)}); check that "
            "lines of one level begin in the same column, and put texts with `: `, `#` or quotes "
            "in them into quotes."
        )
    return ConfigurationError(sentence, file=file, line=line)
