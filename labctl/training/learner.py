"""Who does an exercise: the user who typed the command."""

from __future__ import annotations

from labctl.kernel.host.user import MAX_LENGTH, VARIABLE, label, user_name, valid_name

learner_name = user_name

__all__ = ["MAX_LENGTH", "VARIABLE", "label", "learner_name", "valid_name"]
