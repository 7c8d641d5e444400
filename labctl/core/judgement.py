"""What the judges return: whether a task is done, and what was seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

# passed; failed (try again); missed (a prediction that was wrong: the measured answer is known now);
# unclear (the evidence is not enough: it counts as no attempt)
JudgementState: TypeAlias = Literal["passed", "failed", "missed", "unclear"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judgement on one task. `seen` are sentences on what was observed; none of them says what would be right."""

    state: JudgementState
    seen: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether the task is closed."""
        return self.state in ("passed", "missed")
