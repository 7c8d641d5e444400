"""Labels of Kubernetes objects: `{app: web, example.com/tier: front}`, with the limits of the Kubernetes API."""

from __future__ import annotations

import re

from labctl.scenario.document import Map, Reader, Text, TreeNode, quote_text
from labctl.scenario.field_types import InvalidValue, Json, Located, MapOf, Scalar

MAX_NAME = 63  # characters of a label's name, and of its value
MAX_PREFIX = 253
_NAME = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_PREFIX = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"


def label_key(text: str) -> str:
    """The key of a label: a name, with or without a DNS name and a slash before it. Raises InvalidValue."""
    prefix, slash, name = text.rpartition("/")
    if slash and (len(prefix) > MAX_PREFIX or not re.fullmatch(_PREFIX, prefix)):
        raise InvalidValue(f"{quote_text(prefix)} is not the prefix of a label", "a DNS name, such as example.com")
    if len(name) > MAX_NAME or not re.fullmatch(_NAME, name):
        raise InvalidValue(f"{quote_text(text)} is not the key of a label", "such as app or example.com/tier")
    return text


def label_value(text: str) -> str:
    """The value of a label; it may be empty. Raises InvalidValue."""
    if len(text) > MAX_NAME or (text and not re.fullmatch(_NAME, text)):
        hint = f"at most {MAX_NAME} of A-Z, a-z, 0-9, '-', '_' and '.'; the first and the last are letters or digits"
        raise InvalidValue(f"{quote_text(text)} is not the value of a label", hint)
    return text


LABEL_KEY = Scalar("the key of a label", label_key, {"type": "string", "maxLength": MAX_PREFIX + 1 + MAX_NAME})
LABEL_VALUE = Scalar("the value of a label", label_value, {"type": ["string", "number", "boolean"]})


class LabelsField:
    """A mapping of labels, read as a tuple of pairs."""

    what = "a mapping of labels, such as {app: web}"

    def read(self, node: TreeNode, label: str, reader: Reader) -> tuple[Located, ...] | None:
        if not isinstance(node, Map) and not (isinstance(node, Text) and node.is_null):
            reader.add_problem(node, f"{label}: expected {self.what}")
            return None
        rows = MapOf(LABEL_KEY, LABEL_VALUE).read(node, label, reader)
        return None if rows is None else tuple(Located((k.value, v.value), v.at, k.at) for k, v in rows)

    def schema(self) -> Json:
        return MapOf(LABEL_KEY, LABEL_VALUE).schema()
