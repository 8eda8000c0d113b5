"""Why a token source was chosen, and what was missing for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._platform.environment import Environment
from .registry import RULES, rule_for

if TYPE_CHECKING:
    from .registry import Rule


class Candidate(NamedTuple):
    """What one rule found. It says which variables are set, never what they hold.

    Attributes:
        rule: the rule's name.
        present: the conditions that hold; a variable's name if it is that the variable is set.
        missing: those that do not.
    """

    rule: str
    present: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        if self.missing:
            return f"{self.rule} lacks {', '.join(self.missing)}"
        return f"{self.rule} has {', '.join(self.present) or 'no conditions'}"


class Explanation(NamedTuple):
    """Why a source was chosen.

    Attributes:
        chosen: the name of the rule that was used.
        forced: whether the caller named the source, so that other rules were not asked.
        candidates: all rules in their order. One that lacks nothing and comes after the chosen one
            would be next.
    """

    chosen: str
    forced: bool
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        said = "; ".join(str(candidate) for candidate in self.candidates)
        why = "it was asked for" if self.forced else "it is the first that fits"
        return f"{self.chosen} was chosen because {why}: {said}"


def explain(forced: str | None = None, *, environment: Environment | None = None) -> Explanation:
    """Why `detect` chooses what it does with the same arguments.

    Args:
        forced: ``imds`` or ``arc`` to look no further.
        environment: that of the process, unless it has been read already.

    Raises:
        ValueError: for another ``forced``.
    """
    env = environment or Environment()
    candidates = tuple(_candidate(rule, env) for rule in RULES)
    return Explanation(rule_for(forced, env).name, forced is not None, candidates)


def _candidate(rule: Rule, environment: Environment) -> Candidate:
    present = [c.error_text for c in rule.conditions if c.holds(environment)]
    missing = [c.error_text for c in rule.conditions if c.error_text not in present]
    return Candidate(rule.name, tuple(present), tuple(missing))
