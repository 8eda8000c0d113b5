"""``/metadata/attested/document``: a signed description of the machine (RFC 5652, RFC 2315)."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from typing import TYPE_CHECKING

from .._messages import Response, json_response
from .request_checks import ApiError, check_method, check_request

if TYPE_CHECKING:
    from .._messages import Request
    from .._pki.attestation import AttestationSigner
    from .._state.fault import Fault
    from .._state.state import EmulatorState

PATH = "/metadata/attested/document"
INTERMEDIATE_PATH = "/emulator/attested/intermediate.cer"
ROOT_PATH = "/emulator/attested/root.pem"
CA_PATH = "/emulator/attested/ca.pem"
INTRODUCED = "2018-10-01"
_SINCE = {"subscriptionId": "2019-04-30", "sku": "2019-11-01", "licenseType": "2020-09-01"}
_NONCE = re.compile(r"[ -~]{1,64}")
_VALIDITY = dt.timedelta(hours=6)


class AttestedEndpoint:
    """Returns a signed document, or a certificate of its chain; URLs start with ``base``."""

    def __init__(self, state: EmulatorState, base: str) -> None:
        self._state = state
        self._base = base
        self._signer: AttestationSigner | None = None

    @property
    def signer(self) -> AttestationSigner:
        """The signer, created at its first use because few users need attested documents."""
        if self._signer is None:
            from .._pki.attestation import AttestationSigner

            url = self._base + INTERMEDIATE_PATH
            cloud = self._state.machine.environment
            self._signer = AttestationSigner(cloud, self._now(), url, self._state.keys)
        return self._signer

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        check_request(request, introduced=INTRODUCED, supported=self._state.versions)
        nonce = request.parameter("nonce")
        if nonce is not None and not _NONCE.fullmatch(nonce):
            raise ApiError(400, "Bad request. nonce must be 1 to 64 printable characters")
        defect = fault.document if fault is not None else None
        document = self._content(request.parameter("api-version") or "", nonce, defect)
        content = json.dumps(document, separators=(",", ":")).encode()
        signature = base64.b64encode(self.signer.sign(content, defect)).decode()
        return json_response(200, {"encoding": "pkcs7", "signature": signature})

    def serve_root(self, request: Request, _fault: Fault | None) -> Response:
        """Return the root certificate in PEM."""
        check_method(request)
        return Response(200, self.signer.root_pem, content_type="application/x-pem-file")

    def serve_ca(self, request: Request, _fault: Fault | None) -> Response:
        """Return the root and the intermediate certificate in PEM."""
        check_method(request)
        return Response(200, self.signer.ca_pem, content_type="application/x-pem-file")

    def serve_intermediate(self, request: Request, _fault: Fault | None) -> Response:
        """Return the intermediate certificate in DER."""
        check_method(request)
        return Response(200, self.signer.intermediate_der, content_type="application/pkix-cert")

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._state.clock.time(), dt.timezone.utc)

    def _content(self, version: str, nonce: str | None, defect: str | None) -> dict[str, object]:
        created = self._now() - (2 * _VALIDITY if defect == "expired" else dt.timedelta(0))
        expires = created + _VALIDITY
        machine = self._state.machine
        compute = machine.full_compute(self._state.resource_id)
        if nonce is None:
            # If the request has no nonce, the service uses the time at which the document expires.
            nonce = expires.strftime("%Y%m%d-%H%M%S")
        times = {"createdOn": _format_time(created), "expiresOn": _format_time(expires)}
        content: dict[str, object] = {
            "licenseType": compute["licenseType"],
            "nonce": "0" * 10 if defect == "wrong-nonce" else nonce,
            "plan": compute["plan"],
            "sku": compute["sku"],
            "subscriptionId": machine.subscription_id,
            "timeStamp": times,
            "vmId": machine.vm_id,
        }
        if defect == "classic":
            content |= {"licenseType": "", "sku": "", "subscriptionId": ""}
            content |= {
                "plan": dict.fromkeys(compute["plan"], ""),
                "timeStamp": dict.fromkeys(times, ""),
            }
        return {name: content[name] for name in content if _SINCE.get(name, "") <= version}


def _format_time(time: dt.datetime) -> str:
    return time.strftime("%m/%d/%y %H:%M:%S -0000")
