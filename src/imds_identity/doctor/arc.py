"""Checks of the Azure Arc agent, whose tokens only some users may request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from .._core.failure import Reason, sanitize
from .._core.source import ARC
from .._sources.arc.key_file import LINUX_GROUP, WINDOWS_GROUP
from .._sources.arc.source import AGENT_PORT
from .finding import UNIT, USER, Verdict, argument, failure, ok, skipped, unknown
from .host import restart_command

if TYPE_CHECKING:
    from ._facts.facts import Facts

_NOT_ARC = "the token source is not an Azure Arc agent"
_DAY = 86400.0
_MOUNT = "docker run -v /var/opt/azcmagent/tokens:/var/opt/azcmagent/tokens:ro"
_INSTALL = "install the agent and run: sudo azcmagent connect"
_UPDATE = "update the agent: azcmagent version"


class _KeyFileProblem(NamedTuple):
    """Why a key file cannot be used, and the remedy, in which ``{restart}`` is a command."""

    meaning: str  # empty: the failure states it
    remedy: str
    remedy_in_container: str = ""  # if it is another one


_KEY_FILES = {
    Reason.ARC_CHALLENGE_MALFORMED: _KeyFileProblem(
        "the response to the first request names no key file: another server responds, or the "
        "agent is old",
        _UPDATE,
    ),
    Reason.ARC_KEY_FILE_INVALID: _KeyFileProblem("", f"{{restart}}; if it persists, {_UPDATE}"),
    Reason.ARC_KEY_FILE_LINK: _KeyFileProblem(
        "the key file is a symbolic link, which is never followed",
        "sudo find /var/opt/azcmagent/tokens -type l -delete; {restart}",
    ),
    Reason.ARC_KEY_FILE_OUTSIDE: _KeyFileProblem(
        "the challenge does not name a key file in the Azure Arc agent's directory, and other "
        "files are never read",
        _UPDATE,
        _MOUNT,
    ),
    Reason.ARC_KEY_FILE_MISSING: _KeyFileProblem(
        "the key file that the Azure Arc agent names does not exist: the directory of this process "
        "is not the agent's, or the agent could not write it",
        "{restart}",
        _MOUNT,
    ),
    Reason.ARC_KEY_REJECTED: _KeyFileProblem(
        "the Azure Arc agent rejects the content of its own key file, as after a restart of the "
        "agent or with files of another server",
        "{restart}",
        _MOUNT,
    ),
    Reason.ARC_KEY_FILE_UNREADABLE: _KeyFileProblem(
        "the Azure Arc agent's key file cannot be read",
        "sudo ls -l /var/opt/azcmagent/tokens; then {restart}",
    ),
}
_GROUP_IN_CONTAINER = (
    'docker run --group-add "$(getent group himds | cut -d: -f3)" # run this command on the host'
)
_GROUP_WITHOUT_USER = (
    "sudo systemd-run --uid={user} --property=SupplementaryGroups=himds PROGRAM # this user has no "
    "entry in /etc/passwd; in a unit file: SupplementaryGroups=himds"
)


class _SystemTerms(NamedTuple):
    """The names and commands of one operating system."""

    administrator: str
    group: str
    start: str
    show_listener: str
    join_group: str


_LINUX = _SystemTerms(
    "root",
    LINUX_GROUP,
    "sudo systemctl start himdsd",
    "sudo ss -ltnp 'sport = :40342'",
    f"sudo usermod -aG {LINUX_GROUP} {{user}} # then log in again or restart the service",
)
_WINDOWS = _SystemTerms(
    "an administrator",
    WINDOWS_GROUP,
    "net start himds",
    "netstat -ano -p tcp | findstr :40342",
    f'net localgroup "{WINDOWS_GROUP}" /add {{user}} & rem then log in again',
)


def _terms(facts: Facts) -> _SystemTerms:
    return _WINDOWS if facts.system.platform.startswith("Windows") else _LINUX


def _user_and_group(facts: Facts) -> str:
    """Return who this process runs as, and whether that user may read the key files."""
    if not facts.agent.user:
        return ""
    terms = _terms(facts)
    membership = {
        True: f"is {terms.administrator} or in the group {terms.group}",
        False: f"is not in the group {terms.group}",
        None: f"is not {terms.administrator}, and the group {terms.group} does not exist",
    }[facts.agent.in_group]
    return f"user {facts.agent.user!r} {membership}"


def check_agent_running(facts: Facts) -> Verdict:
    """Check that the agent is installed and accepts connections."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    agent, probe = facts.agent, facts.probe
    installed = "the agent is installed" if agent.installed else "the agent is not installed"
    if probe.connect_seconds is not None:
        return ok(f"{installed}, and its port accepts connections")
    if not probe.connect_error:
        return skipped("no connection was attempted")
    seen = f"{installed}; {facts.source.shown_endpoint}: {probe.connect_error}"
    return failure(seen, *_agent_problem(facts))


def _agent_problem(facts: Facts) -> tuple[str, str]:
    """Return why nothing listens at the agent's endpoint, and the remedy."""
    source, in_container = facts.source, bool(facts.system.container)
    start = f"{_terms(facts).start}; azcmagent show"
    if in_container:  # it has no services of its own
        start = f"on the host: {start}"
    unset = f"unset {' '.join(source.spec.variables)}"
    if facts.agent.installed and urlsplit(source.endpoint).port != AGENT_PORT:
        meaning = f"{source.variable} names another port than the Azure Arc agent's, {AGENT_PORT}"
        return meaning, unset
    if facts.agent.installed:
        return "the Azure Arc agent is installed but not running", start
    if source.variable and not in_container:
        meaning = f"{source.variable} is left over: no Azure Arc agent is installed or running"
        return meaning, f"{unset} # or, on an Azure Arc server: {_INSTALL}"
    if source.forced and not in_container:
        meaning = "the source arc was requested, but no Azure Arc agent is installed or running"
        return meaning, f"omit --source arc (in a program: source='arc'), or {_INSTALL}"
    where = source.variable or "the source setting"
    return f"no Azure Arc agent is running at the address from {where}", start


def check_agent_port(facts: Facts) -> Verdict:
    """Check that a trusted process listens on the agent's port."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    if facts.probe.connect_seconds is None:
        return skipped("no process listens on the agent's port")
    if facts.agent.port_problem:
        return failure(
            facts.agent.port_problem,
            "a process other than the Azure Arc agent listens on the agent's port and would "
            "receive the agent's secret",
            f"{_terms(facts).show_listener}; stop that process, then {restart_command(facts)}",
        )
    return ok("the listener belongs to the agent, to root or to this user")


def check_key_file_access(facts: Facts) -> Verdict:
    """Check that this user may read the agent's key files."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    agent, problem, group = facts.agent, facts.probe.failure, _terms(facts).group
    user = _user_and_group(facts)
    denied = problem is not None and problem.reason is Reason.ARC_KEY_FILE_DENIED
    if denied and agent.listed and not agent.in_group:
        return failure(
            f"user {agent.user!r} is in the group {group}, but this process is not",
            f"user {agent.user!r} was added to the group {group} after the start of this process "
            "or of its login session",
            f"sudo systemctl restart {argument(facts.system.unit, UNIT)}"
            if facts.system.unit
            else f"newgrp {group} # for this shell; or log in again",
        )
    if denied or (facts.probe.claims is None and agent.directory_denied):
        name = f"user {agent.user!r}" if agent.user else "this user"
        return failure(
            f"{user or name}; {problem.problem if problem else agent.directory_problem}",
            f"{name} may not read the Azure Arc agent's key files",
            _join_group(facts),
        )
    if facts.probe.claims is not None:
        return ok(user or "this process read the key file")
    return unknown(user or "no key file was read") if agent.in_group is None else ok(user)


def _join_group(facts: Facts) -> str:
    if facts.system.container and _terms(facts) is _LINUX:
        return _GROUP_IN_CONTAINER
    if facts.agent.user.isdigit() and _terms(facts) is _LINUX:
        return _GROUP_WITHOUT_USER.format(user=argument(facts.agent.user, USER))
    return _terms(facts).join_group.format(user=argument(facts.agent.user, USER))


def check_key_file_path(facts: Facts) -> Verdict:
    """Check that the challenge names a key file in the agent's directory."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    agent, problem = facts.agent, facts.probe.failure
    directory = sanitize(agent.tokens_directory)
    if problem is not None and problem.reason in _KEY_FILES:
        meaning, remedy, in_container = _KEY_FILES[problem.reason]
        if facts.system.container:
            remedy = in_container or remedy
        return failure(
            f"{problem.problem}; the tokens directory is {directory}"
            + (f" ({agent.directory_problem})" if agent.directory_problem else ""),
            meaning or problem.problem,
            remedy.replace("{restart}", restart_command(facts)),
        )
    if facts.probe.claims is not None:
        return ok(f"in {directory}")
    return unknown("no key file was read")


def check_agent_certificate(facts: Facts) -> Verdict:
    """Check that the certificate with which the agent authenticates to Azure has not expired."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    expiry = facts.agent.certificate_expiry
    if expiry is None:
        return unknown(facts.agent.certificate_problem or "no certificate was read")
    days = (expiry - facts.system.wall_time) / _DAY
    if days <= 0:
        return failure(
            f"the certificate expired {-days:.0f} days ago",
            "the Azure Arc agent's certificate has expired, because the server was not connected "
            "to Azure for 90 days; Azure no longer accepts the agent",
            "sudo azcmagent disconnect --force-local-only; then sudo azcmagent connect",
        )
    return ok(f"the certificate expires in {days:.0f} days")


def check_agent_connection(facts: Facts) -> Verdict:
    """Check that the agent is connected to Azure, according to its configuration and response."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    resource, problem = facts.agent.resource, facts.probe.failure
    is_refused = problem is not None and problem.reason is Reason.ARC_NOT_CONNECTED
    if facts.probe.claims is not None:
        return ok(resource or "the agent issued a token")
    if is_refused and resource:
        return failure(
            f"{problem.problem if problem else ''}; connected as {resource}",
            "the Azure Arc agent cannot reach Azure, or its resource was deleted there",
            "azcmagent check; azcmagent show",
        )
    if is_refused or resource == "":
        return failure(
            problem.problem if problem else "the agent's configuration names no resource",
            "the Azure Arc agent is not connected to Azure",
            "sudo azcmagent connect",
        )
    if resource is None:
        return unknown("this user cannot read the agent's configuration")
    return ok(resource)


def check_agent_version(facts: Facts) -> Verdict:
    """Check that the agent knows the version of the request."""
    problem = facts.probe.failure
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    version = f"version {facts.agent.version}" if facts.agent.version else ""
    if facts.probe.claims is not None:
        return ok(version or "the agent knows the version of the request")
    if problem is None or problem.reason is not Reason.BAD_REQUEST or facts.identity.selector:
        return ok(version) if version else unknown("the agent's response does not show it")
    return failure(
        f"{version}{version and '; '}{problem.problem}",
        "the Azure Arc agent refuses the request, as an agent does that is too old for its "
        "api-version",
        "azcmagent version; sudo apt-get install --only-upgrade azcmagent # or: sudo dnf update "
        "azcmagent",
    )


def check_selector_support(facts: Facts) -> Verdict:
    """Check that the agent supports user-assigned identities."""
    if facts.source.name != ARC:
        return skipped(_NOT_ARC)
    if not facts.identity.selector:
        return skipped("the request selects no user-assigned identity")
    problem = facts.probe.failure
    if problem is not None and problem.reason is Reason.IDENTITY_MISMATCH:
        return failure(
            problem.problem,
            "this Azure Arc agent does not support user-assigned identities: it ignores the "
            "selector and uses the system-assigned identity",
            "remove the selector, or update the agent: azcmagent version",
        )
    if facts.probe.claims is not None:
        return ok("the agent confirmed the identity")
    return unknown("the agent issued no token")
