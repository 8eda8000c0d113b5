"""``/metadata/attested/document``: facts about the machine, signed (RFC 5652, RFC 2315)."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

from .._http.certificates import Authority, common_name, pem
from .._messages import Response, json_response
from .rules import Complaint, json_only_complaint, metadata_error, request_complaint

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request
    from .._world.faults import Fault
    from .._world.world import World

PATH = "/metadata/attested/document"
INTERMEDIATE_PATH = "/emulator/attested/intermediate.cer"
ROOT_PATH = "/emulator/attested/root.pem"
INTRODUCED = "2018-10-01"
_NONCE = re.compile(r"[A-Za-z0-9]{1,32}")
_VALID = dt.timedelta(hours=6)
_SIGNER_OF = {
    "AzurePublicCloud": "metadata.azure.com",
    "AzureUSGovernmentCloud": "metadata.azure.us",
    "AzureChinaCloud": "metadata.azure.cn",
    "AzureGermanCloud": "metadata.microsoftazure.de",
    "AzureStack": "metadata.azure.com",
}


class AttestationSigner:
    """A root, an intermediate, and a signer named as the cloud's real one.

    Args:
        environment: The cloud, as ``azEnvironment`` names it.
        now: A moment inside the certificates' validity.
        intermediate_url: Where the intermediate is served, which the signer's certificate names.
    """

    def __init__(self, environment: str, now: dt.datetime, intermediate_url: str) -> None:
        self._root = Authority("imds-identity emulator attestation root", today=now)
        self._intermediate = Authority("imds-identity emulator attestation CA", self._root, now)
        # The real signer's key is RSA, and clients may expect no other.
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = "emulator." + _SIGNER_OF[environment]
        issuer = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS,
            x509.UniformResourceIdentifier(intermediate_url),
        )
        builder = (
            self._intermediate.prepare(common_name(name), self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
            .add_extension(x509.AuthorityInformationAccess([issuer]), False)
        )
        self._certificate = self._intermediate.sign(builder)

    @property
    def root(self) -> x509.Certificate:
        """The root that a verifier must trust."""
        return self._root.certificate

    @property
    def intermediate(self) -> x509.Certificate:
        """The authority between the root and the signer."""
        return self._intermediate.certificate

    def sign(self, content: bytes) -> bytes:
        """Returns PKCS#7 SignedData, in DER, that holds the content and both certificates."""
        builder = (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(content)
            .add_signer(self._certificate, self._key, hashes.SHA256())
            .add_certificate(self.intermediate)
        )
        options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes]
        return builder.sign(serialization.Encoding.DER, options)


class AttestedEndpoint:
    """Answers with a signed document.

    Args:
        world: The shared state.
        base: Returns the scheme and host that this emulator is reached under.
    """

    def __init__(self, world: World, base: Callable[[], str]) -> None:
        self._world = world
        self._base = base
        self._made: AttestationSigner | None = None

    @property
    def signer(self) -> AttestationSigner:
        """The signer, made when first needed: most users never ask for a document."""
        if self._made is None:
            url = self._base() + INTERMEDIATE_PATH
            self._made = AttestationSigner(self._world.machine.environment, self._now(), url)
        return self._made

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answers a request for a document."""
        del fault
        complaint = request_complaint(
            request, introduced=INTRODUCED, supported=self._world.versions
        ) or json_only_complaint(request)
        nonce = request.parameter("nonce")
        if complaint is None and nonce is not None and not _NONCE.fullmatch(nonce):
            complaint = Complaint(400, "Bad request. nonce must be 1 to 32 letters and digits")
        if complaint is not None:
            return metadata_error(complaint)
        content = json.dumps(self._content(nonce), separators=(",", ":")).encode()
        signature = base64.b64encode(self.signer.sign(content)).decode()
        return json_response(200, {"encoding": "pkcs7", "signature": signature})

    def serve_root(self, request: Request, fault: Fault | None) -> Response:
        """Answers with the root certificate in PEM."""
        del fault
        if request.method != "GET":
            return metadata_error(Complaint(405, "Method not allowed", headers={"Allow": "GET"}))
        return Response(200, pem(self.signer.root), content_type="application/x-pem-file")

    def serve_intermediate(self, request: Request, fault: Fault | None) -> Response:
        """Answers with the intermediate certificate in DER."""
        del fault
        if request.method != "GET":
            return metadata_error(Complaint(405, "Method not allowed", headers={"Allow": "GET"}))
        der = self.signer.intermediate.public_bytes(serialization.Encoding.DER)
        return Response(200, der, content_type="application/pkix-cert")

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._world.clock.time(), dt.timezone.utc)

    def _content(self, nonce: str | None) -> dict[str, Any]:
        now = self._now()
        machine = self._world.machine
        compute = machine.full_compute(self._world.resource_id)
        return {
            "licenseType": compute["licenseType"],
            # With none given, the service puts the time in its place.
            "nonce": nonce if nonce is not None else now.strftime("%Y%m%d-%H%M%S"),
            "plan": compute["plan"],
            "sku": compute["sku"],
            "subscriptionId": machine.subscription_id,
            "timeStamp": {"createdOn": _stamp(now), "expiresOn": _stamp(now + _VALID)},
            "vmId": machine.vm_id,
        }


def _stamp(moment: dt.datetime) -> str:
    return moment.strftime("%m/%d/%y %H:%M:%S -0000")
