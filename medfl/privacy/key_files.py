"""Master keys on disk: one file for the key, and beside it one for what happened to it.

`NAME` holds the key and what it is for, `NAME.state.json` how many images were released under it and whether it was
revoked. Both belong to one user and nobody else can read them. The counts and the cap keep an honest site from
releasing too much by mistake; they do not bind an owner who edits files.
"""

import base64
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from errno import ELOOP
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from medfl.errors import ConfigError, KeyFileError
from medfl.privacy.keys import MasterKey, decode_base64, parse_json
from medfl.privacy.keystream import KEY_BYTES
from medfl.results.atomic import locked, write_bytes

KINDS = ("federation", "site")
_SCHEMA = "medfl/key/1"
_STATE_SCHEMA = "medfl/key-state/1"
_MOST_BYTES = 1024 * 1024
_KEY_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class KeyInfo:
    """What is known about a key; nothing here is secret."""

    key_id: str  # 16 hexadecimal digits
    kind: str  # "federation" or "site"
    created: date
    epoch: int  # 1 for a first key; rotation counts it up
    not_after: date | None  # last day of use
    image_cap: int | None  # most images under one context key


@dataclass(frozen=True)
class KeyState:
    """What happened to a key: images by the id of the context key they were released under, and its revocation."""

    released: Mapping[str, int]
    revoked_on: date | None


@dataclass(frozen=True, repr=False)
class KeyFile:
    """A key file that may be used; made by `create`, `install` or `load`."""

    path: Path
    key: MasterKey
    info: KeyInfo

    def __repr__(self) -> str:
        """Show the key id only."""
        return f"<KeyFile {self.info.key_id}>"

    @property
    def epoch(self) -> int:
        """Which key in a row of rotated ones this is."""
        return self.info.epoch

    @classmethod
    def create(
        cls,
        path: Path,
        kind: str,
        *,
        created: date | None = None,
        epoch: int = 1,
        not_after: date | None = None,
        image_cap: int | None = None,
    ) -> Self:
        """Make a new key and write it, readable by its owner only.

        The other parameters are the fields of `KeyInfo`; the key is created today (UTC) unless `created` is given.

        Raises
        ------
        ConfigError
            If a value is out of range.
        KeyFileError
            If there is a file already, or the files cannot be written.
        """
        created = created or _today()
        if kind not in KINDS:
            raise ConfigError(f"The kind of a key must be one of {', '.join(KINDS)}.")
        if epoch < 0 or (image_cap is not None and image_cap < 1):
            raise ConfigError("The epoch of a key must be at least 0 and its image cap, if any, at least 1.")
        if not_after is not None and not_after < created:
            raise ConfigError(f"The last day of a key must not be before {created}; it is {not_after}.")
        key = MasterKey.generate()
        return cls(path, key, KeyInfo(key.key_id, kind, created, epoch, not_after, image_cap))._written()

    @classmethod
    def install(cls, path: Path, content: bytes) -> Self:
        """Write a key that arrived as the content of somebody else's key file; its counts start at zero here.

        Raises
        ------
        KeyFileError
            If the content is not that of a usable key file, or there is a file already.
        """
        info, key = _parse(content, path.name)
        if key is None:
            raise KeyFileError("The key must not be revoked, but it is; ask for a new one.")
        return cls(path, key, info)._written()

    @classmethod
    def load(cls, path: Path, today: date | None = None) -> Self:
        """Read a key file; `today` is that of UTC unless given.

        Raises
        ------
        KeyFileError
            If a file is missing, a link, somebody else's, readable by others or broken, or the key is revoked or
            expired.
        """
        info, key = _parse(read_private(path), path.name)
        state = _read_state(path, info)
        if key is None or state.revoked_on is not None:
            raise KeyFileError(f"The key {path.name} must not be revoked, but it is; use the key of the next epoch.")
        if info.not_after is not None and (today or _today()) > info.not_after:
            raise KeyFileError(f"The key {path.name} must be in date; it expired after {info.not_after}. Rotate it.")
        return cls(path, key, info)

    def secret_content(self) -> bytes:
        """Return the content of the key file, with its secret: for writing and wrapping and for nothing else."""
        return _content(self.info, self.key)

    def charge(self, key_id: str, images: int) -> int:
        """Count images before they are released; safe between processes.

        `key_id` is that of the context key; returns how many images, these included, were released under it so far.
        It locks the key's folder meanwhile, so do not call it under a lock of that folder.

        Raises
        ------
        ConfigError
            If `key_id` is no key id or the number is negative.
        KeyFileError
            If the cap would be exceeded or the key was revoked meanwhile; nothing is counted then.
        """
        if not _is_key_id(key_id) or images < 0:
            raise ConfigError("Images are counted under a key id of 16 hexadecimal digits, and they are at least 0.")
        with locked(self.path.parent):
            state = _read_state(self.path, self.info)
            if state.revoked_on is not None:
                raise KeyFileError(f"The key {self.path.name} was revoked on {state.revoked_on}; nothing is released.")
            before, cap = state.released.get(key_id, 0), self.info.image_cap
            if cap is not None and before + images > cap:
                raise KeyFileError(
                    f"At most {cap} images may be released under one key; {before} were, and {images} more are too "
                    "many. Rotate the key."
                )
            state = replace(state, released={**state.released, key_id: before + images})
            write_bytes(_state_path(self.path), _state_content(self.info, state))
        return before + images

    def _written(self) -> Self:
        if not self.path.parent.is_dir():
            raise KeyFileError(f"The folder of the key {self.path.name} must exist; make it first.")
        with locked(self.path.parent):
            if os.path.lexists(self.path):
                raise KeyFileError(f"The file {self.path.name} must not exist yet; choose another name.")
            write_private(_state_path(self.path), _state_content(self.info, KeyState({}, None)))
            write_private(self.path, self.secret_content())
        return self


def describe(path: Path) -> tuple[KeyInfo, KeyState]:
    """Return what is known about a key, also when it is expired or revoked; never its secret.

    Raises
    ------
    KeyFileError
        If a file is missing, unsafe or broken.
    """
    info, _ = _parse(read_private(path), path.name)
    return info, _read_state(path, info)


def revoke(path: Path, today: date | None = None) -> None:
    """Refuse every further use of a key and destroy its secret; its date is that of UTC unless given.

    It recalls nothing: what was released under the key stays out there, and copies of the key elsewhere, backups and
    wrapped ones included, go on working for whoever holds them. The old content is overwritten as far as the file
    system does that in place.

    Raises
    ------
    KeyFileError
        If the file is missing, unsafe or broken.
    """
    info, _ = _parse(read_private(path), path.name)
    with locked(path.parent):
        state = _read_state(path, info) if _state_path(path).exists() else KeyState({}, None)
        state = replace(state, revoked_on=state.revoked_on or today or _today())
        write_bytes(_state_path(path), _state_content(info, state))
        old = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_bytes(path, _content(info, None))
            os.write(old, bytes(os.fstat(old).st_size))
            os.fsync(old)
        finally:
            os.close(old)


def rotate(
    path: Path,
    new_path: Path,
    *,
    today: date | None = None,
    not_after: date | None = None,
    image_cap: int | None = None,
    revoke_old: bool = False,
) -> KeyFile:
    """Make the key of the next epoch: a new random key of the same kind.

    The old key may be expired or revoked. It goes on working unless `revoke_old` is set. The new one takes over the
    cap, and lives as many days as the old one was meant to, unless `image_cap` and `not_after` say otherwise.

    Raises
    ------
    KeyFileError
        If the old file cannot be read or the new one exists already; then nothing was revoked.
    """
    info, _ = describe(path)
    today = today or _today()
    if not_after is None and info.not_after is not None:
        not_after = today + (info.not_after - info.created)
    cap = info.image_cap if image_cap is None else image_cap
    new = KeyFile.create(new_path, info.kind, created=today, epoch=info.epoch + 1, not_after=not_after, image_cap=cap)
    if revoke_old:
        revoke(path, today)
    return new


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that its owner alone can read, and wait for the disk.

    Raises
    ------
    KeyFileError
        If something exists under this name, or the file cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise KeyFileError(f"{path.name} must be a new file in a writable folder ({_reason(error)}).") from None


def read_private(path: Path) -> bytes:
    """Return the content of a file that its owner alone can read.

    Raises
    ------
    KeyFileError
        If it is missing, no regular file, a link, somebody else's, open to others or too large.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            problem = _problem(os.fstat(handle))
            content = b"" if problem else os.read(handle, _MOST_BYTES)
        finally:
            os.close(handle)
    except OSError as error:
        content, problem = b"", "a file and no link" if error.errno == ELOOP else f"readable ({_reason(error)})"
    if problem:
        raise KeyFileError(f"{path.name} must be {problem}.")
    return content


def _problem(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
        return f"a regular file of at most {_MOST_BYTES} bytes"
    if found.st_uid != os.geteuid():
        return "your own file; it belongs to another user"
    return "closed to other users; do so with 'chmod 600'" if found.st_mode & 0o077 else ""


def _parse(content: bytes, name: str) -> tuple[KeyInfo, MasterKey | None]:
    facts = _checked(parse_json(content), _SCHEMA, _FIELDS, name)
    last = facts["not_after"]
    info = KeyInfo(
        **{name: facts[name] for name in ("key_id", "kind", "epoch", "image_cap")},
        created=date.fromisoformat(facts["created"]),
        not_after=None if last is None else date.fromisoformat(last),
    )
    secret, salt = decode_base64(facts["key"]), decode_base64(facts["salt"])
    key = None if secret is None or salt is None else MasterKey(secret, salt)
    if key is not None and key.key_id != info.key_id:
        raise KeyFileError(f"The file {name} must hold the key that its key id names; it does not. Restore a copy.")
    return info, key


def _content(info: KeyInfo, key: MasterKey | None) -> bytes:
    secret = {"salt": key.salt, "key": key.secret_bytes()} if key else {}
    encoded = {name: base64.b64encode(value).decode() for name, value in secret.items()}
    return _json({"schema": _SCHEMA, **vars(info), "salt": None, "key": None, **encoded})


def _state_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.state.json")


def _read_state(path: Path, info: KeyInfo) -> KeyState:
    name = _state_path(path).name
    facts = _checked(parse_json(read_private(_state_path(path))), _STATE_SCHEMA, _STATE_FIELDS, name)
    if facts["key_id"] != info.key_id:
        raise KeyFileError(f"The file {name} must be about the key {info.key_id}; it is about another one.")
    revoked = facts["revoked_on"]
    return KeyState(facts["released"], None if revoked is None else date.fromisoformat(revoked))


def _state_content(info: KeyInfo, state: KeyState) -> bytes:
    return _json({"schema": _STATE_SCHEMA, "key_id": info.key_id, **vars(state)})


def _checked(
    facts: dict[str, Any] | None, schema: str, fields: Mapping[str, Callable[[Any], bool]], name: str
) -> dict[str, Any]:
    """Return the facts of a file whose every field is there and has its form."""
    if facts is None or facts.get("schema") != schema:
        raise KeyFileError(f"The file {name} must be a JSON object of schema {schema}; it is not.")
    wrong = [field for field, is_right in fields.items() if field not in facts or not is_right(facts[field])]
    if wrong or len(facts) != len(fields) + 1:
        found = ", ".join(wrong) or "unknown ones"
        raise KeyFileError(f"The file {name} must have the fields of schema {schema}; wrong: {found}. Restore a copy.")
    return facts


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def _is_key_id(value: Any) -> bool:
    return isinstance(value, str) and _KEY_ID.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_date(value: Any) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _is_secret(value: Any) -> bool:
    return value is None or len(decode_base64(value) or b"") == KEY_BYTES


_FIELDS: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "key_id": _is_key_id,
        "kind": lambda value: value in KINDS,
        "created": _is_date,
        "epoch": _is_count,
        "not_after": lambda value: value is None or _is_date(value),
        "image_cap": lambda value: value is None or _is_count(value),
        "salt": _is_secret,
        "key": _is_secret,
    }
)
_STATE_FIELDS: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "key_id": _is_key_id,
        "revoked_on": lambda value: value is None or _is_date(value),
        "released": lambda value: isinstance(value, dict) and all(_is_key_id(k) and _is_count(value[k]) for k in value),
    }
)


def _json(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=2, default=date.isoformat) + "\n").encode()


def _today() -> date:
    return datetime.now(UTC).date()
