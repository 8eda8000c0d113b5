"""Explains why a token source was selected and the others were not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._platform.environment import Environment
from . import registry

if TYPE_CHECKING:
    from .host import HostSpec


class Candidate(NamedTuple):
    """The conditions of one rule. It names variables and does not contain their values.

    Attributes:
        rule: the rule's name.
        present: the conditions that are met, as in `Condition.text`.
        missing: the others.
    """

    rule: str
    present: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        if self.missing:
            return f"{self.rule} lacks {', '.join(self.missing)}"
        return f"{self.rule} has {', '.join(self.present) or 'no conditions'}"


class Explanation(NamedTuple):
    """Why a source was selected.

    Attributes:
        chosen: the name of the rule that was used.
        forced: whether the caller named the source.
        candidates: all rules in their order. A rule that lacks nothing and follows the chosen one
            would be next.
    """

    chosen: str
    forced: bool
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        candidates = "; ".join(str(candidate) for candidate in self.candidates)
        reason = "the caller requested it" if self.forced else "it is the first that matches"
        return f"{self.chosen} was selected because {reason}: {candidates}"


def explain(forced: str | None = None, *, environment: Environment | None = None) -> Explanation:
    """Return why `registry.detect` selects its source with the same arguments.

    Raise ValueError for an unknown ``forced``.
    """
    environment = environment or Environment()
    candidates = tuple(_candidate(spec, environment) for spec in registry.HOSTS)
    chosen = registry.spec_for(forced, environment).rule
    return Explanation(chosen, forced is not None, candidates)


def _candidate(spec: HostSpec, environment: Environment) -> Candidate:
    present = [c.text for c in spec.conditions if c.holds(environment)]
    missing = [c.text for c in spec.conditions if c.text not in present]
    return Candidate(spec.rule, tuple(present), tuple(missing))
