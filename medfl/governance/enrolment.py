"""How a site joins a hub: one file to the hub, one file back, each signed, neither of them secret.

The request proves that the site has the private key of the public one in it. The answer is signed by the hub's own
authority; whose authority that is, the site's administrator finds out by comparing its fingerprint with one that came
another way, best by telephone.
"""

import base64
import hmac
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from medfl.errors import ConfigError, EnrolmentError, KeyFileError
from medfl.governance.certificates import Authority, fingerprint_of, verify_by_authority
from medfl.governance.plan import SiteName
from medfl.results.atomic import write_bytes
from medfl.results.canonical import canonical_json

REQUEST, ANSWER = "medfl/enrolment-request/1", "medfl/enrolment/1"
SHORTEST_FINGERPRINT = 16
_LONGEST_FILE = 64 * 1024
_LONGEST_KEY = 8 * 1024

PublicLine = Annotated[str, StringConstraints(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/=]{100,300}$")]
HubAddress = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})?:[0-9]{1,5}$")]
HubName = Annotated[str, StringConstraints(pattern=r"^[\w][\w .-]{0,63}$")]
Signature = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/=]{8,400}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+!-]{1,40}$")]


class _Signed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    signature: Signature

    def signed_bytes(self) -> bytes:
        """Return what the signature is over: the canonical JSON of everything else."""
        return canonical_json(self.model_dump(mode="json", by_alias=True, exclude={"signature"}))


class EnrolmentRequest(_Signed):
    """A site asks to join.

    Attributes
    ----------
    site : str
        Name, as plans will have it.
    public_key : str
        "ecdsa-sha2-nistp384 AAAA...", without a comment.
    medfl_version : str
        What the site has installed.
    made : date
    signature : str
        By the site's private key: ECDSA over SHA-384, base64.
    """

    schema_: Literal["medfl/enrolment-request/1"] = Field(default="medfl/enrolment-request/1", alias="schema")
    site: SiteName
    public_key: PublicLine
    medfl_version: Version
    made: date


class EnrolmentAnswer(_Signed):
    """A hub takes a site in.

    Attributes
    ----------
    hub : str
        Name.
    address : str
        HOST:PORT that the site connects to; its only one.
    site : str
    public_key : str
        Which the hub will know the site by.
    ca : str
        Certificate of the hub's authority, PEM.
    allowed_signers : str
        Public keys that sign for the hub, in the format of OpenSSH.
    medfl_version : str
        What the hub has installed.
    made : date
    signature : str
        By the authority: ECDSA over SHA-256, base64.
    """

    schema_: Literal["medfl/enrolment/1"] = Field(default="medfl/enrolment/1", alias="schema")
    hub: HubName
    address: HubAddress
    site: SiteName
    public_key: PublicLine
    ca: Annotated[str, Field(max_length=16 * 1024)]
    allowed_signers: Annotated[str, Field(max_length=16 * 1024)]
    medfl_version: Version
    made: date

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, in hexadecimal."""
        return fingerprint_of(self.ca)


def make_request(private_key: Path, *, site: str, medfl_version: str, now: datetime) -> EnrolmentRequest:
    """Return a site's signed request.

    Parameters
    ----------
    private_key : Path
        From `create_site_key`; only its public half is in the request.
    site, medfl_version : str
    now : datetime
        With a time zone.

    Raises
    ------
    KeyFileError
        If the key cannot be read, others may read it, or it is of another kind.
    """
    key = _private_key(private_key)
    unsigned = EnrolmentRequest(
        site=site,
        public_key=_line(key.public_key()),
        medfl_version=medfl_version,
        made=now.astimezone(UTC).date(),
        signature="A" * 8,
    )
    made = key.sign(unsigned.signed_bytes(), ec.ECDSA(hashes.SHA384()))
    return unsigned.model_copy(update={"signature": base64.b64encode(made).decode()})


def read_request(path: Path) -> EnrolmentRequest:
    """Read a site's request.

    Raises
    ------
    EnrolmentError
        If it cannot be read, breaks the schema, or is not signed by the key in it.
    """
    try:
        request = EnrolmentRequest.model_validate(_content(path))
    except ValidationError as error:
        raise _broken(path, REQUEST, error) from error
    try:
        key = serialization.load_ssh_public_key(request.public_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError
        key.verify(_decoded(request.signature), request.signed_bytes(), ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise EnrolmentError(
            "signature",
            f"A request must be signed by the key in it; {path.name} is not. Ask the site for a new one, made by "
            "'medfl site init'.",
        ) from error
    return request


def make_answer(
    authority: Authority,
    request: EnrolmentRequest,
    *,
    hub: str,
    address: str,
    allowed_signers: str,
    medfl_version: str,
    now: datetime,
) -> EnrolmentAnswer:
    """Return a hub's signed answer to a request that `read_request` returned.

    Parameters
    ----------
    authority : Authority
    request : EnrolmentRequest
    hub, address, allowed_signers, medfl_version : str
        See `EnrolmentAnswer`.
    now : datetime
        With a time zone.

    Raises
    ------
    ConfigError
        If a value does not fit.
    """
    try:
        unsigned = EnrolmentAnswer(
            hub=hub,
            address=address,
            site=request.site,
            public_key=request.public_key,
            ca=authority.pem,
            allowed_signers=allowed_signers,
            medfl_version=medfl_version,
            made=now.astimezone(UTC).date(),
            signature="A" * 8,
        )
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"An answer needs values that fit: {places}.") from error
    signed = authority.sign(unsigned.signed_bytes())
    return unsigned.model_copy(update={"signature": base64.b64encode(signed).decode()})


def read_answer(path: Path, *, fingerprint: str, site: str, private_key: Path) -> EnrolmentAnswer:
    """Read a hub's answer, and check that it is for this site and from the hub whose fingerprint is given.

    Parameters
    ----------
    path : Path
    fingerprint : str
        SHA-256 of the authority's certificate, all of it or at least its first 16 hexadecimal digits, from the hub's
        operator by another way than this file. Blanks, colons and capitals do not matter.
    site : str
        This site's name.
    private_key : Path
        Of this site.

    Raises
    ------
    EnrolmentError
        If it cannot be read, breaks the schema, has another fingerprint or signature, or is for another site or key.
    KeyFileError
        If the site's key cannot be used.
    """
    try:
        answer = EnrolmentAnswer.model_validate(_content(path))
    except ValidationError as error:
        raise _broken(path, ANSWER, error) from error
    try:
        found = answer.fingerprint
        is_signed = verify_by_authority(answer.ca, answer.signed_bytes(), _decoded(answer.signature))
    except (ConfigError, ValueError) as error:
        raise EnrolmentError(
            "signature", f"{path.name} must hold the certificate of a hub's authority; it does not. Ask for a new one."
        ) from error
    _check_fingerprint(found, fingerprint)
    if not is_signed:
        raise EnrolmentError(
            "signature",
            f"{path.name} must be signed by the authority in it; it was changed after the hub made it. Ask for a new "
            "one.",
        )
    if answer.site != site:
        raise EnrolmentError("site", f"{path.name} must be for the site '{site}'; it is for '{answer.site}'.")
    if answer.public_key != _line(_private_key(private_key).public_key()):
        raise EnrolmentError(
            "key", f"{path.name} must be for the key that this site has; it is for another. Send the hub a new request."
        )
    return answer


def write_signed(made: EnrolmentRequest | EnrolmentAnswer, path: Path) -> None:
    """Write a request or an answer, readable and atomically."""
    text = json.dumps(made.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def _check_fingerprint(found: str, given: str) -> None:
    wanted = "".join(letter for letter in given.lower() if letter not in ": \t-")
    is_long = SHORTEST_FINGERPRINT <= len(wanted) <= len(found)
    if not is_long or not hmac.compare_digest(found[: len(wanted)].encode(), wanted.encode()):
        raise EnrolmentError(
            "fingerprint",
            f"The fingerprint must be the one of this hub, or at least its first {SHORTEST_FINGERPRINT} digits, from "
            "its operator by telephone or letter; the file has another. Do not use this file before you know why.",
        )


def _content(path: Path) -> object:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_FILE + 1)
        if len(content) > _LONGEST_FILE:
            raise ValueError("too long")
        return json.loads(content.decode(), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise EnrolmentError("unreadable", f"{path.name} must be a readable file: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise EnrolmentError(
            "unreadable", f"{path.name} must be JSON of at most 64 KiB with every key once; it is not."
        ) from error


def _broken(path: Path, schema: str, error: ValidationError) -> EnrolmentError:
    places = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors())
    return EnrolmentError("unreadable", f"{path.name} must follow {schema}: {places}.")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _line(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        mode, content = path.stat().st_mode, path.read_bytes()[:_LONGEST_KEY]
        key = serialization.load_ssh_private_key(content, password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"The site's key {path.name} must be a readable OpenSSH key; it is not.") from error
    if mode & 0o077:
        raise KeyFileError(f"Only the site's account may read {path.name}; others can. Run: chmod 600 {path.name}")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyFileError(f"The site's key {path.name} must be ECDSA P-384, as 'medfl site init' makes it.")
    return key
