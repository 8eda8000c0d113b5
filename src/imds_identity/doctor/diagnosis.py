"""Run all checks on the facts and name the most likely cause."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .._core.failure import sanitize
from .._version import __version__
from . import arc, connection, host, identity, network, service, source, token, workload
from ._catalog.checks import CATALOG
from ._catalog.lookup import category_of, page_of
from .finding import Finding, unknown

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._facts.facts import Facts
    from .finding import Status, Verdict

_MAX_TEXT_LENGTH = 1000
SCHEMA = 1
"""The version of `Diagnosis.document`. It changes when a field is removed or renamed, not when one
is added."""
_GUID = re.compile(r"\b([0-9a-fA-F]{4})[0-9a-fA-F]{4}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")

# Causes come before their consequences: the first of several failures is the most likely cause.
CHECKS: dict[str, Callable[[Facts], Verdict]] = {
    "II001": source.check_endpoint,
    "II002": source.check_leftover_variables,
    "II003": source.check_source_selection,
    "II010": workload.check_workload_token,
    "II015": source.check_container,
    "II016": host.check_host,
    "II020": network.check_ipv4,
    "II021": network.check_route,
    "II022": network.check_network_interface,
    "II030": arc.check_agent_running,
    "II031": arc.check_agent_port,
    "II024": connection.check_proxies,
    "II027": connection.check_certificate,
    "II023": connection.check_connection,
    "II025": service.check_responder,
    "II029": service.check_metadata_security,
    "II026": connection.check_response,
    "II040": service.check_shared_backoff,
    "II041": service.check_throttling,
    "II028": connection.check_egress,
    "II036": arc.check_agent_connection,
    "II032": arc.check_key_file_access,
    "II033": arc.check_key_file_path,
    "II034": arc.check_agent_certificate,
    "II035": arc.check_selector_support,
    "II037": arc.check_agent_version,
    "II042": service.check_service_health,
    "II005": source.check_resource,
    "II050": identity.check_identity_assigned,
    "II051": identity.check_identity_recreated,
    "II070": token.check_clock,
    "II011": workload.check_federation,
    "II012": workload.check_application,
    "II060": token.check_error_code,
    "II061": token.check_token_request,
    "II062": token.check_token_claims,
    "II071": token.check_token_validity,
    "II006": source.check_environment_credential,
    "II004": source.check_client_id_variable,
    "II080": token.check_cache_directory,
    "II081": token.check_cache_contents,
    "II090": source.check_firmware,
    "II091": source.check_versions,
}


class Diagnosis(NamedTuple):
    """The findings of all checks.

    Attributes:
        headline: The most likely cause, in a sentence.
        status: ``failure``, ``warning`` or ``ok``: the worst status among the findings.
        findings: One finding for each check. Causes come before their consequences.
        requests: The number of requests that were sent.
    """

    headline: str
    status: Status
    findings: tuple[Finding, ...]
    requests: int

    @property
    def cause(self) -> Finding | None:
        """The finding that the headline describes; None if there is no fault."""
        if self.status == "ok":
            return None
        return next((finding for finding in self.findings if finding.status == self.status), None)

    def only(self, number: str) -> Diagnosis:
        """Return the diagnosis of the check with the ID ``number``."""
        [only] = [each for each in self.findings if each.id == number]
        status = only.status if only.status in ("failure", "warning") else "ok"
        headline = only.meaning if status != "ok" else f"{only.title}: {only.seen}"
        return self._replace(headline=headline, status=status, findings=(only,))

    def document(self) -> dict[str, Any]:
        """Return the diagnosis as a JSON object with the schema in docs/doctor.md."""
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
        """Return a copy to share with others, with each GUID cut to its first four digits."""
        findings: list[Finding] = []
        for each in self.findings:
            seen, meaning, remedy = map(_shorten, (each.seen, each.meaning, each.remedy))
            findings.append(each._replace(seen=seen, meaning=meaning, remedy=remedy))
        return self._replace(headline=_shorten(self.headline), findings=tuple(findings))


def run_checks(facts: Facts) -> Diagnosis:
    """Run all checks on ``facts``."""
    findings = tuple(_run_check(number, check, facts) for number, check in CHECKS.items())
    status, headline = _worst(findings, facts)
    return Diagnosis(headline, status, findings, _request_count(facts))


def _request_count(facts: Facts) -> int:
    return len(facts.probe.requests) + len(facts.probe.application_requests)


def _run_check(number: str, check: Callable[[Facts], Verdict], facts: Facts) -> Finding:
    entry = CATALOG[number]
    try:
        verdict = check(facts)
    except Exception as error:  # noqa: BLE001 - a bug in one check must not hide the others
        verdict = unknown(f"this check failed: {type(error).__name__}")
    return Finding(
        number,
        entry.title,
        verdict.status,
        entry.looked_at,
        sanitize(verdict.seen, _MAX_TEXT_LENGTH),
        sanitize(verdict.meaning, _MAX_TEXT_LENGTH),
        # Not sanitized as a whole: a shell would take <hidden> for a redirection. The checks use
        # `finding.argument` for each value.
        verdict.remedy,
        entry.link,
        category_of(number),
        page_of(number),
    )


def _worst(findings: tuple[Finding, ...], facts: Facts) -> tuple[Status, str]:
    statuses: tuple[Status, ...] = ("failure", "warning")
    for status in statuses:
        for finding in findings:
            if finding.status == status:
                return status, finding.meaning
    if facts.probe.claims is None:
        return "ok", "no fault was found, and no token was requested"
    return "ok", f"no fault was found: {facts.source} issued a token"


def _shorten(text: str) -> str:
    return _GUID.sub(r"\1…", text)
