"""All checks on all facts, and what comes first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from .._core.failure import sanitize
from .._version import __version__
from . import arc, cache, clock, identity, network, service, source, token
from .catalogue import CATALOGUE
from .finding import Finding, unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._facts.facts import Facts
    from .finding import Status, Verdict

_LONGEST = 1000
SCHEMA = 1
"""Of `Diagnosis.document`: it grows when something is taken away or renamed, not with additions."""
_GUID = re.compile(r"\b([0-9a-fA-F]{4})[0-9a-fA-F]{4}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")

# A cause stands before its consequences: of several failures the first is the likeliest cause.
CHECKS: dict[str, Callable[[Facts], Verdict]] = {
    "II001": source.endpoint_is_a_url,
    "II002": source.no_variables_are_left_over,
    "II003": source.source_is_explained,
    "II010": source.workload_has_its_token,
    "II015": source.container_sees_the_host,
    "II020": network.has_ipv4,
    "II021": network.there_is_a_route,
    "II022": network.route_is_the_first_nics,
    "II030": arc.agent_runs,
    "II031": arc.port_is_the_agents,
    "II023": network.connection_is_made,
    "II025": service.answer_is_the_services,
    "II026": service.answer_comes_in_time,
    "II040": service.nobody_asked_for_rest,
    "II041": service.machine_is_not_throttled,
    "II032": arc.user_may_read_keys,
    "II033": arc.key_is_where_it_belongs,
    "II034": arc.agents_certificate_is_good,
    "II035": arc.agent_knows_the_identity,
    "II042": service.service_is_up,
    "II005": source.resource_is_no_scope,
    "II050": identity.identity_is_assigned,
    "II051": identity.identity_is_the_same,
    "II070": clock.clock_is_right,
    "II060": token.no_code_was_given,
    "II061": token.token_is_given,
    "II062": token.token_is_decoded,
    "II071": clock.token_is_in_its_time,
    "II004": source.client_id_variable_fits,
    "II024": network.proxies_are_bypassed,
    "II080": cache.cache_is_this_users,
    "II081": cache.cache_is_shown,
    "II090": source.firmware_is_azures,
    "II091": source.python_is_told,
}


class Diagnosis(NamedTuple):
    """What the doctor found.

    Attributes:
        headline: the most likely cause, in a sentence.
        status: ``failure``, ``warning`` or ``ok``: the worst there is among the findings.
        findings: one for each check, causes before their consequences.
        requests: how many requests were sent.
    """

    headline: str
    status: Status
    findings: tuple[Finding, ...]
    requests: int

    @property
    def cause(self) -> Finding | None:
        """The finding that the headline is about; None if there is no fault."""
        if self.status == "ok":
            return None
        return next((finding for finding in self.findings if finding.status == self.status), None)

    def document(self) -> dict[str, Any]:
        """The diagnosis as JSON has it, by the schema in docs/doctor.md."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "status": self.status,
            "headline": self.headline,
            "cause": self.cause.id if self.cause else None,
            "requests": self.requests,
            "findings": [finding._asdict() for finding in self.findings],
        }

    def shortened(self) -> Diagnosis:
        """The same with each GUID cut to its first four digits, for whoever shows it to others."""
        findings = (Finding(*map(_short, finding)) for finding in self.findings)
        return self._replace(headline=_short(self.headline), findings=tuple(findings))


def diagnosed(facts: Facts) -> Diagnosis:
    """What all checks say of ``facts``."""
    findings = tuple(_finding(number, check, facts) for number, check in CHECKS.items())
    status, headline = _worst(findings, facts)
    return Diagnosis(headline, status, findings, len(facts.contact.requests))


def _finding(number: str, check: Callable[[Facts], Verdict], facts: Facts) -> Finding:
    entry = CATALOGUE[number]
    try:
        verdict = check(facts)
    except Exception as error:  # noqa: BLE001 - one check that trips is not to keep the others
        verdict = unknown(f"the check itself failed: {type(error).__name__}")
    return Finding(
        number,
        entry.title,
        verdict.status,
        entry.looked_at,
        sanitize(verdict.seen, _LONGEST),
        sanitize(verdict.meaning, _LONGEST),
        sanitize(verdict.remedy, _LONGEST),
        entry.link,
    )


def _worst(findings: tuple[Finding, ...], facts: Facts) -> tuple[Status, str]:
    statuses: tuple[Status, ...] = ("failure", "warning")
    for status in statuses:
        for finding in findings:
            if finding.status == status:
                return status, finding.meaning
    if facts.contact.claims is None:
        return "ok", "no fault was found, and no token was asked for"
    return "ok", f"no fault was found: {facts.source} gives a token"


def _short(text: str) -> Any:
    return _GUID.sub(r"\1…", text)
