import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from medfl.data.catalog import PublicSet, fetch, list_sets
from medfl.errors import ConfigError, DataError, NetworkError


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class ShortHandler(QuietHandler):
    """Announces more bytes than it sends, as a broken connection does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"x" * 10)


def serve(handler: Callable[..., SimpleHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "mirror").mkdir()
    yield from serve(partial(QuietHandler, directory=str(tmp_path / "mirror")))


def publish(folder: Path, *, members: dict[str, bytes], link: bool = False) -> str:
    """Put small.tar on the mirror and return its MD5."""
    with tarfile.open(folder / "mirror" / "small.tar", "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("Small/link")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(entry)
    return hashlib.md5((folder / "mirror" / "small.tar").read_bytes(), usedforsecurity=False).hexdigest()


def catalog(mirror: str, md5: str) -> dict[str, PublicSet]:
    return {"Small": PublicSet("Small", f"{mirror}/small.tar", md5)}


def test_the_list_is_monais_own_with_a_checksum_each() -> None:
    names = {entry.name for entry in list_sets()}
    assert {"Task04_Hippocampus", "Task09_Spleen", "MedNIST"} <= names
    assert all(len(entry.md5) == 32 and entry.url.startswith("https://") for entry in list_sets())


def test_a_set_is_downloaded_verified_and_unpacked(tmp_path: Path, mirror: str) -> None:
    md5 = publish(tmp_path, members={"Small/images/a.txt": b"voxels", "Small/labels/a.txt": b"mask"})
    folder = fetch("Small", tmp_path / "out", sets=catalog(mirror, md5))
    assert folder == tmp_path / "out" / "Small"
    assert (folder / "images" / "a.txt").read_bytes() == b"voxels"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Small"]


def test_an_archive_without_a_top_folder_lands_in_the_same_place(tmp_path: Path, mirror: str) -> None:
    md5 = publish(tmp_path, members={"a.txt": b"1", "b.txt": b"2"})
    folder = fetch("Small", tmp_path / "out", sets=catalog(mirror, md5))
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"]


def test_a_mirror_can_replace_the_address(tmp_path: Path, mirror: str) -> None:
    md5 = publish(tmp_path, members={"Small/a.txt": b"1"})
    sets = {"Small": PublicSet("Small", "https://nowhere.invalid/deep/small.tar", md5)}
    assert (fetch("Small", tmp_path / "out", sets=sets, base_url=mirror) / "a.txt").is_file()


def test_a_set_that_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "Small").mkdir()
    sets = {"Small": PublicSet("Small", "http://127.0.0.1:9/small.tar", "0" * 32)}
    assert fetch("Small", tmp_path, sets=sets) == tmp_path / "Small"


def test_a_wrong_checksum_keeps_nothing(tmp_path: Path, mirror: str) -> None:
    publish(tmp_path, members={"Small/a.txt": b"1"})
    with pytest.raises(NetworkError, match="MD5"):
        fetch("Small", tmp_path / "out", sets=catalog(mirror, "0" * 32))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_file_and_a_dead_server_keep_nothing(tmp_path: Path, mirror: str) -> None:
    for address in (f"{mirror}/small.tar", "http://127.0.0.1:9/small.tar"):
        with pytest.raises(NetworkError, match="--base-url"):
            fetch("Small", tmp_path / "out", sets={"Small": PublicSet("Small", address, "0" * 32)})
        assert list((tmp_path / "out").iterdir()) == []


def test_a_connection_that_breaks_keeps_nothing(tmp_path: Path) -> None:
    for address in serve(ShortHandler):
        with pytest.raises(NetworkError):
            fetch("Small", tmp_path / "out", sets=catalog(address, "0" * 32))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("members", "link"), [({"../evil.txt": b"1"}, False), ({"Small/a": b"1"}, True)])
def test_an_archive_that_leaves_its_folder_is_refused(
    tmp_path: Path, mirror: str, members: dict[str, bytes], link: bool
) -> None:
    md5 = publish(tmp_path, members=members, link=link)
    with pytest.raises(DataError, match="archive"):
        fetch("Small", tmp_path / "out", sets=catalog(mirror, md5))
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()


def test_an_archive_that_is_none_is_refused(tmp_path: Path, mirror: str) -> None:
    (tmp_path / "mirror" / "small.tar").write_bytes(b"not an archive")
    md5 = hashlib.md5(b"not an archive", usedforsecurity=False).hexdigest()
    with pytest.raises(DataError, match="archive"):
        fetch("Small", tmp_path / "out", sets=catalog(mirror, md5))


def test_an_unknown_name_and_an_odd_address_are_settings_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="medfl data list"):
        fetch("Smal", tmp_path, sets={})
    with pytest.raises(ConfigError, match="must end in"):
        fetch("Small", tmp_path, sets={"Small": PublicSet("Small", "http://127.0.0.1:9/x.exe", "0" * 32)})
