import base64
import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.attacks import key_hygiene
from medfl.attacks.key_hygiene import evaluate_key_hygiene, scan_for_keys, written
from medfl.errors import AuditError, ConfigError

MASTER = hashlib.sha256(b"a master key of a test").digest()
DERIVED = hashlib.sha256(b"a derived key of a test").digest()
BLOCK = 64
FILLER = hashlib.shake_128(b"other bytes").digest(4 * BLOCK)


def in_folder(folder: Path, content: bytes, name: str = "log.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return folder


@pytest.mark.parametrize("way", sorted(written(MASTER)))
@pytest.mark.parametrize("offset", [0, 1, BLOCK - 40, BLOCK - 9, BLOCK - 1, 2 * BLOCK - 3])
def test_a_key_is_found_however_it_is_written_and_wherever_blocks_end(tmp_path: Path, way: str, offset: int) -> None:
    planted = FILLER[:offset] + written(DERIVED)[way] + FILLER[offset:]
    folder = in_folder(tmp_path, planted, "released/A/log.txt")
    in_folder(tmp_path, FILLER, "clean.txt")
    assert scan_for_keys(folder, [MASTER, DERIVED], block_bytes=BLOCK) == ("released/A/log.txt",)
    assert scan_for_keys(folder, [MASTER], block_bytes=BLOCK) == ()


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 16), before=st.binary(max_size=7), after=st.binary(max_size=7), block=st.integers(1, 90))
def test_any_sixteen_bytes_are_found_inside_other_bytes(
    tmp_path_factory: pytest.TempPathFactory, start: int, before: bytes, after: bytes, block: int
) -> None:
    inside = before + MASTER[start : start + 16] + after
    for content in (inside, inside.hex().encode(), base64.b64encode(inside), base64.urlsafe_b64encode(inside)):
        folder = in_folder(tmp_path_factory.mktemp("run"), content)
        assert scan_for_keys(folder, [MASTER], block_bytes=block) == ("log.txt",)


def test_a_clean_folder_gives_no_finding_and_passes_its_controls(tmp_path: Path) -> None:
    in_folder(tmp_path, FILLER * 20, "model.safetensors")
    in_folder(tmp_path, hashlib.sha256(MASTER).hexdigest().encode(), "deep/er/privacy.json")
    (result,), controls = evaluate_key_hygiene(tmp_path, [MASTER, DERIVED])
    assert (result.value, result.chance, result.subjects, result.negatives) == (0, 0, 2, 2)
    assert [(one.kind, one.passed) for one in controls] == [("positive", True), ("null", True)]


def test_every_file_with_a_key_counts_once(tmp_path: Path) -> None:
    in_folder(tmp_path, MASTER + DERIVED + MASTER.hex().encode(), "a.bin")
    in_folder(tmp_path, base64.b64encode(DERIVED), "b.json")
    in_folder(tmp_path, FILLER, "c.bin")
    (result,), _ = evaluate_key_hygiene(tmp_path, [MASTER, DERIVED])
    assert (result.value, result.positives, result.negatives) == (2, 2, 1)


def test_the_positive_control_fails_when_the_search_is_blind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_folder(tmp_path, FILLER)
    monkeypatch.setattr(key_hygiene, "_base64", lambda block: b"")
    _, (positive, _) = evaluate_key_hygiene(tmp_path, [MASTER])
    assert positive.passed is False
    assert 0 < positive.value < 1


def test_neither_results_nor_names_nor_errors_hold_a_secret(tmp_path: Path) -> None:
    in_folder(tmp_path, FILLER, f"keys/{MASTER.hex()}.txt")
    in_folder(tmp_path, MASTER.hex().encode(), f"keys/{MASTER.hex()}/inner.txt")
    in_folder(tmp_path, MASTER, "plain.bin")
    names = scan_for_keys(tmp_path, [MASTER])
    assert len(names) == 3
    assert "plain.bin" in names
    results, controls = evaluate_key_hygiene(tmp_path, [MASTER])
    shown = repr(names) + "".join(one.model_dump_json() for one in (*results, *controls))
    with pytest.raises(ConfigError) as refused:
        scan_for_keys(tmp_path, [MASTER[:15]])
    shown += str(refused.value)
    assert not any(text.decode("latin-1")[:12] in shown for text in written(MASTER).values())


@pytest.mark.parametrize("secrets", [[], [b"short"], [bytes(32)]])
def test_what_cannot_be_searched_for_is_refused(tmp_path: Path, secrets: list[bytes]) -> None:
    with pytest.raises(ConfigError):
        scan_for_keys(tmp_path, secrets)


def test_a_folder_that_cannot_be_read_does_not_pass(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="readable"):
        scan_for_keys(tmp_path / "missing", [MASTER])


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = in_folder(tmp_path / "outside", MASTER)
    run = in_folder(tmp_path / "run", FILLER)
    (run / "link.txt").symlink_to(outside / "log.txt")
    (run / "loop").symlink_to(run)
    assert scan_for_keys(run, [MASTER]) == ()
