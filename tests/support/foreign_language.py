"""A language in which every sentence is unreadable, so that what is left in English stands out."""

from __future__ import annotations

import re
from gettext import NullTranslations
from string import Formatter

# words that an English sentence has and a command, a rule or a route does not
ENGLISH = re.compile(
    r"(?<![\w-])(and|answered|any|are|at|because|but|by|came|does|got|has|have|in|is|it|its|no|not|of|or|so|than|that|the|them"
    r"|there|was|were|which|with|without)(?![\w-])"
)


class Foreign(NullTranslations):
    """A catalogue that replaces every letter of a sentence, and keeps its placeholders."""

    def gettext(self, message: str) -> str:
        parts = []
        for text, field, form, conversion in Formatter().parse(message):
            parts.append(re.sub(r"[A-Za-z]", "x", text).replace("{", "{{").replace("}", "}}"))
            if field is not None:
                parts.append(
                    "{" + field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}"
                )
        return "".join(parts)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)
