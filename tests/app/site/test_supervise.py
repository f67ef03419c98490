import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.site import supervise
from app.site.hub_link import HubCheckError, HubFacts, HubLink, Reason
from app.site.settings import SiteSettings, load_settings
from app.site.supervise import executor_program, executor_settings, run_site, supernode_program
from app.supervision.running import Running, read_running
from app.supervision.supervised import Patience, Program
from medfl.errors import ConfigError
from medfl.governance.audit_log import AuditLog

PATIENCE = Patience(first_s=0.05, longest_s=0.1, settled_s=0.5, stuck_s=1, grace_s=1)
LINK = HubLink("hub:8443", Path("/ca.crt"), Path("/site_key"))
STAYS = "import time; time.sleep(1000)"


class Site:
    """A site whose programs and hub are fakes."""

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.said, self.stop = state, list[str](), threading.Event()
        self.codes = {"supernode": STAYS, "executor": STAYS}
        self.hub: list[Reason] = []
        self.raised: list[Exception] = []
        monkeypatch.setattr(supervise, "check_hub", self._check)
        monkeypatch.setattr(
            supervise,
            "supernode_program",
            lambda settings, link, port: self._fake(supernode_program(settings, link, port)),
        )
        monkeypatch.setattr(supervise, "executor_program", lambda settings: self._fake(executor_program(settings)))
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def running(self) -> Running:
        wait_for(lambda: self.raised or read_running(self.state))
        found = read_running(self.state)
        assert found is not None
        return found

    def both_run(self) -> bool:
        found = read_running(self.state)
        return found is not None and bool(found.programs) and all(one.number for one in found.programs)

    def operations(self) -> list[tuple[str, str, str]]:
        entries = AuditLog(self.state / "audit.jsonl").entries()[1:]
        return [(entry.operation, entry.verdict, entry.reason) for entry in entries]

    def _run(self) -> None:
        try:
            run_site(self.state, LINK, say=self.said.append, stop=self.stop, patience=PATIENCE)
        except Exception as error:
            self.raised.append(error)

    def _check(self, link: HubLink) -> HubFacts:
        assert link is LINK
        if self.hub:
            raise HubCheckError(self.hub.pop(0), "The hub is not as it must be.")
        return HubFacts(0)

    def _fake(self, program: Program) -> Program:
        command = (sys.executable, "-I", "-S", "-c", self.codes[program.name])
        return dataclasses.replace(program, command=command)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def site(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    umask = os.umask(0o077)
    made = Site(state, monkeypatch)
    yield made
    made.end()
    os.umask(umask)


def test_both_programs_run_until_the_site_is_stopped(site: Site) -> None:
    site.start()
    wait_for(site.both_run)
    numbers = [one.number for one in site.running().programs]
    site.end()
    assert not [number for number in numbers if number and Path(f"/proc/{number}").exists()]
    assert read_running(site.state) is None
    assert site.raised == []
    assert site.operations() == [("site.start", "ok", ""), ("site.stop", "ok", "stopped")]


@pytest.mark.parametrize("name", ["supernode", "executor"])
def test_a_program_that_ends_is_said_and_started_again_without_the_other(site: Site, name: str) -> None:
    site.codes[name] = "raise SystemExit(0)"
    site.start()
    wait_for(lambda: {one.name: one.restarts for one in site.running().programs}.get(name, 0) >= 3)
    found = {one.name: one for one in site.running().programs}
    other = next(one for one in found.values() if one.name != name)
    assert (found[name].last_exit, other.restarts) == (0, 0)
    assert any(line.startswith(f"The {name} ended with code 0") for line in site.said)


def test_what_the_executor_says_about_itself_is_shown_and_nothing_else_it_printed(site: Site) -> None:
    site.codes["executor"] = (
        "print('patient Doe'); print('ERROR The executor must read the secret.'); raise SystemExit(3)"
    )
    site.start()
    wait_for(lambda: site.both_run() and site.running().problem)
    assert site.running().problem.endswith("The executor must read the secret.")
    assert "Doe" not in " ".join(site.said)


def test_a_problem_that_is_over_is_forgotten(site: Site, tmp_path: Path) -> None:
    once = tmp_path / "once"
    site.codes["executor"] = (
        f"import os, time\nonce = {str(once)!r}\n"
        "if not os.path.exists(once):\n    open(once, 'w')\n    raise SystemExit(1)\ntime.sleep(1000)"
    )
    site.start()
    wait_for(lambda: site.said[1:] and site.running().problem)
    wait_for(lambda: not site.running().problem)


@pytest.mark.parametrize("reason", ["clock", "hub_certificate"])
def test_a_site_with_another_clock_or_another_hub_is_not_started(site: Site, reason: Reason) -> None:
    site.hub = [reason]
    site.start()
    wait_for(lambda: site.raised)
    assert isinstance(site.raised[0], HubCheckError)
    assert not list((site.state / "logs").glob("*.log"))
    assert site.operations() == [("site.start", "refused", reason)]


def test_a_hub_that_is_down_is_waited_for(site: Site) -> None:
    site.hub = ["hub_unreachable"]
    site.start()
    wait_for(lambda: site.said)
    assert site.running().phase == "waiting"
    assert not site.running().programs[0].number
    wait_for(site.both_run)
    assert site.running().phase == "running"


def test_a_site_that_waits_for_its_hub_can_be_stopped(site: Site) -> None:
    site.hub = ["hub_unreachable"] * 99
    site.start()
    wait_for(lambda: site.said)
    site.end()
    assert site.raised == []
    assert site.operations() == []


def test_the_clock_is_looked_at_again_before_a_supernode_is_started_again(site: Site) -> None:
    site.codes["supernode"] = "import time; time.sleep(0.3)"
    site.start()
    wait_for(site.both_run)
    site.hub = ["clock"] * 999
    wait_for(lambda: "The hub is not as it must be." in site.said)
    before = site.running().programs[0].restarts
    time.sleep(0.5)
    assert site.running().programs[0].restarts == before
    site.hub = []
    wait_for(lambda: site.running().programs[0].restarts > before)


def test_a_second_supervisor_is_refused_and_the_first_goes_on(site: Site) -> None:
    site.start()
    wait_for(site.both_run)
    with pytest.raises(ConfigError, match="once at a time"):
        run_site(site.state, LINK, say=site.said.append, stop=threading.Event())
    assert site.both_run()


def settings_of(state: Path) -> SiteSettings:
    return load_settings(state)


def test_the_supernode_proves_who_it_is_and_runs_nothing_by_itself(state: Path) -> None:
    program = supernode_program(settings_of(state), LINK, 9999)
    pairs = list(zip(program.command, program.command[1:], strict=False))
    for pair in (
        ("--superlink", "hub:8443"),
        ("--root-certificates", "/ca.crt"),
        ("--auth-supernode-private-key", "/site_key"),
        ("--isolation", "process"),
        ("--host", "127.0.0.1"),
        ("--superexec-auth-secret-file", str(state / "secrets" / "superexec")),
    ):
        assert pair in pairs
    assert "--insecure" not in program.command


def test_programs_see_no_variable_that_is_not_meant_for_them(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "MEDFL_SITE_PROXY", "MY_PASSWORD"):
        monkeypatch.setenv(name, "http://user:secret@proxy:1")
    plain = supernode_program(settings_of(state), LINK, 9999)
    for program in (plain, executor_program(settings_of(state))):
        assert "secret@" not in " ".join([*program.command, *program.environment.values()])
        assert program.environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert program.environment["FLWR_HOME"].startswith(str(state))
    through = dataclasses.replace(LINK, proxy="http://user:secret@proxy:1")
    meant = supernode_program(settings_of(state), through, 9999)
    assert meant.environment["HTTPS_PROXY"] == "http://user:secret@proxy:1"
    assert meant.environment["NO_PROXY"] == "127.0.0.1,localhost"
    assert "secret@" not in repr(meant) + " ".join(meant.command)


def test_the_worker_can_open_neither_the_sites_key_nor_secrets_and_writes_beside_no_key(state: Path) -> None:
    settings = settings_of(state)
    made = executor_settings(settings, 9999)
    assert settings.private_key in made.hidden
    assert made.keys == state / "keys" / "transforms"
    assert not settings.private_key.is_relative_to(made.keys)
    assert made.ledger is None
    settings.ledger.write_bytes(b"")
    assert executor_settings(settings, 9999).ledger == settings.ledger
    assert made.most_bytes_out == settings.policy.run_bytes
    assert json.loads(made.model_dump_json())["runtime"] == "127.0.0.1:9999"
