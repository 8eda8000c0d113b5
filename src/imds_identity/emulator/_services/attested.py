"""``/metadata/attested/document``: facts about the machine, signed (RFC 5652, RFC 2315)."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any

from .._messages import Response, json_response
from .rules import (
    Complaint,
    json_only_complaint,
    metadata_error,
    method_complaint,
    request_complaint,
)

if TYPE_CHECKING:
    from .._messages import Request
    from .._pki.attestation import AttestationSigner
    from .._state.fault import Fault
    from .._state.state import World

PATH = "/metadata/attested/document"
INTERMEDIATE_PATH = "/emulator/attested/intermediate.cer"
ROOT_PATH = "/emulator/attested/root.pem"
INTRODUCED = "2018-10-01"
_SINCE = {"subscriptionId": "2019-04-30", "sku": "2019-11-01", "licenseType": "2020-09-01"}
_NONCE = re.compile(r"[A-Za-z0-9]{1,32}")
_VALID = dt.timedelta(hours=6)


class AttestedEndpoint:
    """Answers with a signed document.

    Args:
        world: the shared state.
        base: the scheme and host that this emulator is reached under.
    """

    def __init__(self, world: World, base: str) -> None:
        self._world = world
        self._base = base
        self._made: AttestationSigner | None = None

    @property
    def signer(self) -> AttestationSigner:
        """The signer, made when first needed: most users never ask for a document."""
        if self._made is None:
            from .._pki.attestation import AttestationSigner

            url = self._base + INTERMEDIATE_PATH
            cloud = self._world.machine.environment
            self._made = AttestationSigner(cloud, self._now(), url, self._world.keys)
        return self._made

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer a request for a document."""
        complaint = request_complaint(
            request, introduced=INTRODUCED, supported=self._world.versions
        ) or json_only_complaint(request)
        nonce = request.parameter("nonce")
        if complaint is None and nonce is not None and not _NONCE.fullmatch(nonce):
            complaint = Complaint(400, "Bad request. nonce must be 1 to 32 letters and digits")
        if complaint is not None:
            return metadata_error(complaint)
        wrong = fault.document if fault is not None else None
        shown = self._content(request.parameter("api-version") or "", nonce, wrong)
        content = json.dumps(shown, separators=(",", ":")).encode()
        signature = base64.b64encode(self.signer.sign(content, wrong)).decode()
        return json_response(200, {"encoding": "pkcs7", "signature": signature})

    def serve_root(self, request: Request, fault: Fault | None) -> Response:
        """Answer with the root certificate in PEM."""
        del fault
        complaint = method_complaint(request)
        if complaint is not None:
            return metadata_error(complaint)
        return Response(200, self.signer.root_pem, content_type="application/x-pem-file")

    def serve_intermediate(self, request: Request, fault: Fault | None) -> Response:
        """Answer with the intermediate certificate in DER."""
        del fault
        complaint = method_complaint(request)
        if complaint is not None:
            return metadata_error(complaint)
        return Response(200, self.signer.intermediate_der, content_type="application/pkix-cert")

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._world.clock.time(), dt.timezone.utc)

    def _content(self, version: str, nonce: str | None, wrong: str | None) -> dict[str, Any]:
        created = self._now() - (2 * _VALID if wrong == "expired" else dt.timedelta(0))
        expires = created + _VALID
        machine = self._world.machine
        compute = machine.full_compute(self._world.resource_id)
        if nonce is None:
            # Without one in the request, the service signs the end of the document as its nonce.
            nonce = expires.strftime("%Y%m%d-%H%M%S")
        content = {
            "licenseType": compute["licenseType"],
            "nonce": "0" * 10 if wrong == "wrong-nonce" else nonce,
            "plan": compute["plan"],
            "sku": compute["sku"],
            "subscriptionId": machine.subscription_id,
            "timeStamp": {"createdOn": _stamp(created), "expiresOn": _stamp(expires)},
            "vmId": machine.vm_id,
        }
        return {name: content[name] for name in content if _SINCE.get(name, "") <= version}


def _stamp(moment: dt.datetime) -> str:
    return moment.strftime("%m/%d/%y %H:%M:%S -0000")
