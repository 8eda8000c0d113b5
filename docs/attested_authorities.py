"""Update the table of certificate authorities in metadata.md."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

from cryptography.x509.oid import NameOID

from imds_identity.metadata._attestation.trust import intermediates

PAGE = Path(__file__).with_name("metadata.md")
CHINA = """
Not contained: DigiCert Basic RSA CN CA G2 of Azure in China, issued by DigiCert Global Root CA and
valid until 2030-03-04. Without access to
<http://cacerts.digicert.cn/DigiCertBasicRSACNCAG2.crt>, pass this file in `intermediates`, or with
`imds-identity attested --intermediate`.
"""
TABLE = re.compile(r"(?<=<!-- authorities -->\n).*?(?=<!-- end -->)", re.DOTALL)


def rows() -> list[str]:
    """Return the rows of the table, in order of the names."""
    found = {
        f"| {_name(each.subject)} | {_name(each.issuer)} | {each.not_valid_after_utc:%Y-%m-%d} |"
        for each in intermediates()
    }
    return sorted(found)


def _name(name: object) -> str:
    (common_name,) = name.get_attributes_for_oid(NameOID.COMMON_NAME)  # type: ignore[attr-defined]
    return str(common_name.value)


def update() -> None:
    """Write the table with the date of today."""
    today = dt.datetime.now(dt.timezone.utc).date()
    head = [f"As of {today}:", "", "| Authority | Issued by | Valid until |", "|---|---|---|"]
    table = "\n".join([*head, *rows(), CHINA])
    PAGE.write_text(TABLE.sub(lambda _: table, PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    update()
