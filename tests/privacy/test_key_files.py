import base64
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import ConfigError, KeyFileError
from medfl.privacy.key_files import KeyFile, KeyInfo, describe, read_private, revoke, rotate, write_private

TODAY = date(2026, 3, 1)
KID, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "north.key"


def create(path: Path, **settings: Any) -> KeyFile:
    return KeyFile.create(path, "site", created=TODAY, **settings)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def chain(error: BaseException | None) -> str:
    """Return everything that an error and those behind it hold."""
    held = ""
    while error is not None:
        held += f"{error!s} {error!r} {vars(error)} {getattr(error, 'doc', '')} {getattr(error, 'object', '')}"
        error = error.__cause__ or error.__context__
    return held


def test_a_key_file_is_read_back_as_it_was_made(path: Path) -> None:
    made = create(path, not_after=date(2026, 4, 1), image_cap=9)
    read = KeyFile.load(path, TODAY)
    assert read.info == made.info == KeyInfo(made.key.key_id, "site", TODAY, 1, date(2026, 4, 1), 9)
    assert read.key.secret_bytes() == made.key.secret_bytes()
    assert read.key.salt == made.key.salt
    assert describe(path)[0] == made.info
    assert describe(path)[1].released == {}


def test_a_key_is_made_today_in_utc_unless_told_otherwise(path: Path) -> None:
    before = datetime.now(UTC).date()
    made = KeyFile.create(path, "federation").info.created
    assert before <= made <= datetime.now(UTC).date()


def test_only_the_owner_can_read_the_files(path: Path) -> None:
    before = os.umask(0)
    try:
        create(path)
        KeyFile.load(path, TODAY).charge(KID, 1)
    finally:
        os.umask(before)
    assert [file.stat().st_mode & 0o777 for file in sorted(path.parent.iterdir())] == [0o600, 0o600]


def test_an_existing_file_is_never_overwritten(path: Path) -> None:
    first = create(path).info
    with pytest.raises(KeyFileError, match="must not exist yet"):
        create(path)
    assert KeyFile.load(path, TODAY).info == first
    path.unlink()
    with pytest.raises(KeyFileError, match="must be a new file"):
        create(path)  # the counts of the lost key stay
    assert not path.exists()


def test_a_missing_folder_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="folder"):
        create(tmp_path / "none" / "north.key")
    with pytest.raises(KeyFileError, match=r"north\.key must be readable \(no such file"):
        KeyFile.load(tmp_path / "north.key", TODAY)
    with pytest.raises(KeyFileError, match="no such file"):
        write_private(tmp_path / "none" / "x", b"")


@pytest.mark.parametrize(
    "settings",
    [{"kind": "patient"}, {"epoch": -1}, {"image_cap": 0}, {"not_after": date(2026, 2, 28)}],
)
def test_a_key_with_values_out_of_range_is_not_made(path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        KeyFile.create(path, **{"kind": "site", "created": TODAY, **settings})
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o610, 0o777])
def test_a_file_open_to_others_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    create(path)
    for file in (path, path.with_name("north.key.state.json")):
        file.chmod(mode)
        with pytest.raises(KeyFileError, match="chmod 600"):
            KeyFile.load(path, TODAY)
        file.chmod(0o600)
    KeyFile.load(path, TODAY)


def test_a_link_a_folder_a_pipe_and_somebody_elses_file_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(path)
    link, pipe = path.with_name("link"), path.with_name("pipe")
    link.symlink_to(path)
    os.mkfifo(pipe, 0o600)
    for wrong, reason in ((link, "no link"), (pipe, "regular file"), (path.parent, "regular file")):
        with pytest.raises(KeyFileError, match=reason):
            read_private(wrong)
    uid = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(KeyFileError, match="another user"):
        KeyFile.load(path, TODAY)


def test_a_key_is_never_written_through_a_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(KeyFileError, match="must not exist yet"):
        create(path)
    assert not path.with_name("elsewhere").exists()


def test_a_huge_file_is_refused(path: Path) -> None:
    write_private(path, b"x" * (1024 * 1024 + 1))
    with pytest.raises(KeyFileError, match="at most"):
        read_private(path)


def test_the_last_day_counts_and_the_next_one_does_not(path: Path) -> None:
    create(path, not_after=date(2026, 4, 1))
    KeyFile.load(path, date(2026, 4, 1))
    with pytest.raises(KeyFileError, match="expired after 2026-04-01"):
        KeyFile.load(path, date(2026, 4, 2))
    assert describe(path)[0].not_after == date(2026, 4, 1)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"schema": "medfl/key/2"}, "schema medfl/key/1"),
        ({"kind": "patient"}, "kind"),
        ({"kind": ["site"]}, "kind"),
        ({"created": "20260301"}, "created"),
        ({"created": "2026-02-30"}, "created"),
        ({"epoch": -1}, "epoch"),
        ({"epoch": True}, "epoch"),
        ({"epoch": 1.0}, "epoch"),
        ({"not_after": 7}, "not_after"),
        ({"image_cap": "9"}, "image_cap"),
        ({"key_id": "0123456789ABCDEF"}, "key_id"),
        ({"key_id": KID}, "key that its key id names"),
        ({"key": "AAAA"}, "key"),
        ({"key": 5}, "key"),
        ({"salt": "?"}, "salt"),
        ({"key": base64.b64encode(bytes(32)).decode()}, "key that its key id names"),
        ({"owner": "Mustermann"}, "unknown"),
    ],
)
def test_broken_content_is_refused_and_the_field_named(path: Path, values: dict[str, object], named: str) -> None:
    create(path)
    change(path, **values)
    with pytest.raises(KeyFileError, match=named) as caught:
        KeyFile.load(path, TODAY)
    assert "Mustermann" not in chain(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"schema": "medfl/key/1"},
        {"released": [1]},
        {"released": {"x": 1}},
        {"released": {KID: -1}},
        {"released": {KID: 1.5}},
        {"revoked_on": "soon"},
        {"key_id": OTHER},
    ],
)
def test_a_broken_missing_or_foreign_state_stops_every_use(path: Path, values: dict[str, object]) -> None:
    file, state = create(path), path.with_name("north.key.state.json")
    change(state, **values)
    for use in (lambda: KeyFile.load(path, TODAY), lambda: file.charge(KID, 1)):
        with pytest.raises(KeyFileError, match=r"north\.key\.state\.json"):
            use()
    state.unlink()
    for use in (lambda: KeyFile.load(path, TODAY), lambda: file.charge(KID, 1)):
        with pytest.raises(KeyFileError, match=r"north\.key\.state\.json must be readable"):
            use()


def test_no_broken_file_puts_its_secret_into_an_error(path: Path) -> None:
    file = create(path)
    content, secret = path.read_bytes(), file.key.secret_bytes()
    spelled = [base64.b64encode(secret).decode(), base64.b64encode(file.key.salt).decode(), repr(secret)[2:-1]]
    broken = [content[:-3], content + b"]", content.replace(b"medfl/key/1", b"x"), content[:-3] + b"\xff\xff"]
    broken += [content.replace(b'"key": "', b'"key": "!'), content.replace(b'"epoch": 1', b'"epoch": 1e999')]
    for text in broken:
        path.write_bytes(text)
        with pytest.raises(KeyFileError) as caught:
            KeyFile.load(path, TODAY)
        held = chain(caught.value)
        assert not any(part in held for part in spelled)
    path.write_bytes(content)
    assert not any(part in f"{file} {file!r} {file.info} {describe(path)}" for part in spelled)


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_arbitrary_bytes_are_no_key(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with pytest.raises(KeyFileError):
        KeyFile.install(tmp_path_factory.getbasetemp() / "never.key", content)
    assert not (tmp_path_factory.getbasetemp() / "never.key").exists()


def test_the_cap_holds_for_each_context_key_and_an_excess_is_not_counted(path: Path) -> None:
    file = create(path, image_cap=10)
    assert [file.charge(KID, 4), file.charge(KID, 6), file.charge(OTHER, 9), file.charge(KID, 0)] == [4, 10, 9, 10]
    for key_id, images in ((KID, 1), (OTHER, 2)):
        with pytest.raises(KeyFileError, match="At most 10 images"):
            KeyFile.load(path, TODAY).charge(key_id, images)
    assert describe(path)[1].released == {KID: 10, OTHER: 9}


def test_without_a_cap_images_are_counted_all_the_same(path: Path) -> None:
    file = create(path)
    file.charge(KID, 10**6)
    assert file.charge(KID, 1) == 10**6 + 1


@pytest.mark.parametrize(("key_id", "images"), [(KID, -1), ("x", 1), (KID.upper(), 1), (KID + "\n", 1)])
def test_nothing_is_uncounted_or_counted_under_no_key_id(path: Path, key_id: str, images: int) -> None:
    file = create(path)
    with pytest.raises(ConfigError):
        file.charge(key_id, images)
    assert describe(path)[1].released == {}


def charge_often(path: Path) -> int:
    file, accepted = KeyFile.load(path, TODAY), 0
    for _ in range(40):
        try:
            file.charge(KID, 1)
            accepted += 1
        except KeyFileError:
            pass
    return accepted


def test_processes_that_charge_at_once_never_lose_a_count_or_pass_the_cap(path: Path) -> None:
    create(path, image_cap=60)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        accepted = list(pool.map(charge_often, [path, path]))
    assert sum(accepted) == 60
    assert describe(path)[1].released == {KID: 60}


def test_a_revoked_key_is_refused_destroyed_and_still_described(path: Path) -> None:
    file = create(path)
    file.charge(KID, 5)
    secret = file.key.secret_bytes()
    old = path.with_name("old")
    os.link(path, old)
    revoke(path, date(2026, 3, 2))
    with pytest.raises(KeyFileError, match="must not be revoked"):
        KeyFile.load(path, TODAY)
    with pytest.raises(KeyFileError, match="revoked on 2026-03-02"):
        file.charge(KID, 1)
    info, state = describe(path)
    assert info == file.info
    assert (state.released, state.revoked_on) == ({KID: 5}, date(2026, 3, 2))
    assert set(old.read_bytes()) == {0}
    for left in path.parent.iterdir():
        assert base64.b64encode(secret) not in left.read_bytes()
    revoke(path, date(2026, 3, 9))
    assert describe(path)[1].revoked_on == date(2026, 3, 2)


def test_a_restored_state_or_a_restored_key_does_not_bring_a_revoked_key_back(path: Path) -> None:
    create(path)
    state = path.with_name("north.key.state.json")
    key_before, state_before = path.read_bytes(), state.read_bytes()
    revoke(path, TODAY)
    state_after = state.read_bytes()
    state.write_bytes(state_before)
    with pytest.raises(KeyFileError, match="must not be revoked"):
        KeyFile.load(path, TODAY)
    state.write_bytes(state_after)
    path.write_bytes(key_before)
    with pytest.raises(KeyFileError, match="must not be revoked"):
        KeyFile.load(path, TODAY)


def test_an_expired_key_and_one_without_state_can_be_revoked(path: Path) -> None:
    create(path, not_after=TODAY)
    path.with_name("north.key.state.json").unlink()
    revoke(path, date(2027, 1, 1))
    assert describe(path)[1].revoked_on == date(2027, 1, 1)


def test_rotation_makes_a_new_key_of_the_next_epoch_and_leaves_the_old_one(path: Path) -> None:
    old, day = create(path, not_after=date(2026, 3, 31), image_cap=7), date(2026, 5, 1)
    new = rotate(path, path.with_name("next.key"), today=day)
    assert (new.epoch, new.info.kind, new.info.created, new.info.image_cap) == (2, "site", day, 7)
    assert new.info.not_after == date(2026, 5, 31)
    assert new.key.secret_bytes() != old.key.secret_bytes()
    assert new.key.salt != old.key.salt
    KeyFile.load(path, TODAY)
    other = rotate(path, path.with_name("other.key"), today=day, not_after=date(2027, 1, 1), image_cap=8)
    assert (other.info.not_after, other.info.image_cap) == (date(2027, 1, 1), 8)


def test_rotation_revokes_the_old_key_on_request_but_not_if_it_fails(path: Path) -> None:
    create(path)
    with pytest.raises(KeyFileError, match="must not exist yet"):
        rotate(path, path, today=TODAY, revoke_old=True)
    KeyFile.load(path, TODAY)
    rotate(path, path.with_name("next.key"), today=TODAY, revoke_old=True)
    with pytest.raises(KeyFileError, match="revoked"):
        KeyFile.load(path, TODAY)
    assert rotate(path, path.with_name("again.key"), today=TODAY).epoch == 2


def test_a_key_is_installed_with_its_facts_and_counts_from_zero(path: Path) -> None:
    file = create(path, image_cap=5)
    file.charge(KID, 5)
    there = KeyFile.install(path.with_name("there.key"), file.secret_content())
    assert there.info == file.info
    assert there.charge(KID, 2) == 2
    revoke(path, TODAY)
    with pytest.raises(KeyFileError, match="must not be revoked"):
        KeyFile.install(path.with_name("more.key"), path.read_bytes())
