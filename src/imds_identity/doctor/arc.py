"""Checks of Azure Arc's agent, whose token only certain users may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._core.failure import Malformed, SecretUnreadable, sanitize
from .._core.source import ARC
from .finding import Verdict, failure, ok, skipped, unknown

if TYPE_CHECKING:
    from ._facts.facts import Facts

_NOT_ARC = "tokens do not come from an Azure Arc agent"
_DAY = 86400.0


class _Ways(NamedTuple):
    """What a system has for the same ends: who may do everything, the agent's group, commands."""

    master: str
    group: str
    start: str
    restart: str
    listeners: str
    join: str


_LINUX = _Ways(
    "root",
    "himds",
    "sudo systemctl start himdsd",
    "sudo systemctl restart himdsd",
    "sudo ss -ltnp 'sport = :40342'",
    "sudo usermod -aG himds {user}, then log in again or restart the service",
)
_WINDOWS = _Ways(
    "an administrator",
    "Hybrid agent extension applications",
    "net start himds",
    "net stop himds && net start himds",
    "netstat -ano -p tcp | findstr :40342",
    'net localgroup "Hybrid agent extension applications" /add {user}, then log in again or '
    "restart the service",
)


def _ways(facts: Facts) -> _Ways:
    return _WINDOWS if facts.system.platform.startswith("Windows") else _LINUX


def _member(facts: Facts) -> str:
    ways = _ways(facts)
    return {
        True: f"is {ways.master} or in the group {ways.group}",
        False: f"is not in the group {ways.group}",
        None: f"is not {ways.master}, and there is no group {ways.group} here",
    }[facts.agent.in_group]


def agent_runs(facts: Facts) -> Verdict:
    """Whether the agent is here and takes connections."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    agent, contact = facts.agent, facts.contact
    here = "the agent is installed" if agent.installed else "no agent's program is here"
    if contact.connect_seconds is not None:
        return ok(f"{here}, and its port takes connections")
    if not contact.connect_problem:
        return skipped("it was not asked")
    start = f"{_ways(facts).start}; azcmagent show"
    seen = f"{here}; {sanitize(facts.source.endpoint)}: {contact.connect_problem}"
    if agent.installed:
        return failure(seen, "the Azure Arc agent is installed and does not run", start)
    return failure(
        seen,
        "no Azure Arc agent runs at the address that "
        f"{facts.source.variable or 'the source'} names",
        f"{start}; if this is no Azure Arc server: unset IDENTITY_ENDPOINT IMDS_ENDPOINT",
    )


def port_is_the_agents(facts: Facts) -> Verdict:
    """Who listens on the agent's port."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    if facts.contact.connect_seconds is None:
        return skipped("nobody listens there")
    if facts.agent.port_problem:
        return failure(
            facts.agent.port_problem,
            "somebody else than the Azure Arc agent listens on its port, and would be sent its "
            "secret",
            f"{_ways(facts).listeners}; stop what is there, then {_ways(facts).restart}",
        )
    return ok("it is the agent's, root's or this user's own")


def user_may_read_keys(facts: Facts) -> Verdict:
    """Whether this user may read what the agent proves privilege by."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    agent, problem, group = facts.agent, facts.contact.failure, _ways(facts).group
    who = f"user {agent.user!r} {_member(facts)}" if agent.user else ""
    denied = isinstance(problem, SecretUnreadable) and "may not read" in problem.problem
    if denied and agent.listed and not agent.in_group:
        return failure(
            f"user {agent.user!r} is in the group {group} by now, and this process is not",
            f"user {agent.user!r} was added to the group {group} after this process, or its login, "
            "began",
            "log in again, or restart the service: sudo systemctl restart SERVICE",
        )
    if denied or (facts.contact.claims is None and agent.directory_problem == "Permission denied"):
        return failure(
            f"{who or 'this user'}; {problem.problem if problem else agent.directory_problem}",
            f"user {agent.user!r} may not read the Azure Arc agent's key files"
            if agent.user
            else "this user may not read the Azure Arc agent's key files",
            _how_to_be_let_in(facts),
        )
    if facts.contact.claims is not None:
        return ok(who or "the key file was read")
    return unknown(who or "it was not tried") if agent.in_group is None else ok(who)


def _how_to_be_let_in(facts: Facts) -> str:
    unnamed = "USER" if _ways(facts) is _WINDOWS else "$USER"
    return _ways(facts).join.format(user=facts.agent.user or unnamed)


def key_is_where_it_belongs(facts: Facts) -> Verdict:
    """Whether the challenge names a key file where the agent keeps them."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    agent, problem = facts.agent, facts.contact.failure
    if isinstance(problem, SecretUnreadable) and "key file" in problem.problem:
        return failure(
            f"{problem.problem}; the tokens directory is {sanitize(agent.tokens_directory)}"
            + (f" ({agent.directory_problem})" if agent.directory_problem else ""),
            "the agent's challenge names a key file that is not where the agent keeps them, and "
            "such a file is never read",
            "in a container mount the directory: -v /var/opt/azcmagent/tokens:"
            "/var/opt/azcmagent/tokens:ro; elsewhere update the agent: azcmagent version",
        )
    if facts.contact.claims is not None:
        return ok(f"in {sanitize(agent.tokens_directory)}")
    return unknown("no key file was read")


def agents_certificate_is_good(facts: Facts) -> Verdict:
    """Whether the certificate by which Azure knows the agent has expired."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    ends = facts.agent.certificate_ends
    if ends is None:
        return unknown("the agent's certificate cannot be read by this user, or is elsewhere")
    days = (ends - facts.system.wall) / _DAY
    if days <= 0:
        return failure(
            f"it expired {-days:.0f} days ago",
            "the Azure Arc agent's certificate has expired, because the server was not connected "
            "for 90 days: Azure does not know it any more",
            "sudo azcmagent disconnect --force-local-only; then sudo azcmagent connect",
        )
    return ok(f"it is good for {days:.0f} days more")


def agent_knows_the_identity(facts: Facts) -> Verdict:
    """Whether the agent heeds the selector of a user-assigned identity."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    if not facts.identity.selector:
        return skipped("no user-assigned identity was selected")
    problem = facts.contact.failure
    if isinstance(problem, Malformed) and "did not confirm" in problem.problem:
        return failure(
            problem.problem,
            "this Azure Arc agent has no support for user-assigned identities, and answers for "
            "the system-assigned one whatever it is asked",
            "leave the selector out; or update the agent: azcmagent version",
        )
    if facts.contact.claims is not None:
        return ok("the agent confirmed it")
    return unknown("the agent gave no token")
