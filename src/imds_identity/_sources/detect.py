"""Which token source this process has, and why that one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from .._core.environment import Environment
from .._core.source import ARC, IMDS
from .kinds import ArcSource
from .rules import INSTALLED_ARC, NAMED_ARC, RULES, VM

if TYPE_CHECKING:
    from .kinds import TokenSource
    from .rules import Rule

# Who names a source gets it: the last of its rules builds it if none fits.
_FORCED = {IMDS: (VM,), ARC: (NAMED_ARC, INSTALLED_ARC)}


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


def detect(
    forced: str | None = None,
    *,
    tokens_directory: str | os.PathLike[str] | None = None,
    environment: Environment | None = None,
) -> TokenSource:
    """The token source of this process.

    Args:
        forced: ``imds`` or ``arc`` to look no further.
        tokens_directory: another place for Arc's key files; only code may name one.
        environment: that of the process, unless it has been read already.

    Raises:
        ValueError: for another ``forced``.
    """
    env = environment or Environment()
    source = _rule(forced, env).build(env)
    if tokens_directory is not None and isinstance(source, ArcSource):
        source.tokens_directory = os.fspath(tokens_directory) or source.tokens_directory
    return source


def explain(forced: str | None = None, *, environment: Environment | None = None) -> Explanation:
    """Why `detect` chooses what it does, with the same arguments.

    Args:
        forced: ``imds`` or ``arc`` to look no further.
        environment: that of the process, unless it has been read already.

    Raises:
        ValueError: for another ``forced``.
    """
    env = environment or Environment()
    candidates = tuple(_candidate(rule, env) for rule in RULES)
    return Explanation(_rule(forced, env).name, forced is not None, candidates)


def _rule(forced: str | None, environment: Environment) -> Rule:
    """The rule to build the source by."""
    if forced is not None and forced not in _FORCED:
        raise ValueError(f"source is 'imds', 'arc' or None for what is found, not {forced!r}")
    rules = RULES if forced is None else _FORCED[forced]
    return next((rule for rule in rules if rule.fits(environment)), rules[-1])


def _candidate(rule: Rule, environment: Environment) -> Candidate:
    present = [c.words for c in rule.conditions if c.holds(environment)]
    missing = [c.words for c in rule.conditions if c.words not in present]
    return Candidate(rule.name, tuple(present), tuple(missing))
