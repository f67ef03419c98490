from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from medfl.config.reading import dump_config
from medfl.config.settings import Config
from medfl.data.manifest import write_manifest
from medfl.errors import ConfigError
from medfl.governance.ledger import Ledger
from medfl.governance.ledger_events import Account, Budget
from medfl.privacy.composition import ADD_OR_REMOVE
from pipelines.client_app import program_of
from pipelines.run_config import PLAN
from pipelines.site_program import PipelineProgram
from pipelines.sources import load_sites

MakeConfig = Callable[..., Config]

PRIVATE = (
    "network.norm=instance",
    "privacy={kind: dp_sgd, epsilon: 4, delta: 1.0e-3, rate: 0.25}",
)


def context(config: Config, **node: str) -> Context:
    return Context(
        run_id=7, node_id=2, node_config={**node}, state=RecordDict(), run_config={PLAN: dump_config(config)}
    )


@pytest.fixture
def manifest(make_config: MakeConfig, tmp_path: Path) -> Path:
    path = tmp_path / "manifest.csv"
    write_manifest(load_sites(make_config(*PRIVATE)), path)
    return path


def test_a_real_site_without_a_ledger_refuses_private_training(make_config: MakeConfig, manifest: Path) -> None:
    with pytest.raises(ConfigError, match="needs the site's ledger"):
        program_of(context(make_config(*PRIVATE), site="site-1", manifest=str(manifest)))


def test_a_real_site_names_the_account_itself(make_config: MakeConfig, manifest: Path, tmp_path: Path) -> None:
    place = tmp_path / "ledger.db"
    Ledger.create(place).close()
    with Ledger.open(place) as ledger:
        ledger.open_account(Account("chest x-ray", "trial 12"), Budget(4.5, 1e-3, ADD_OR_REMOVE))
    own = {"site": "site-1", "manifest": str(manifest), "ledger": str(place)}
    hub = make_config(*PRIVATE, "ledger={data_set: everything, purpose: anything}")
    program = program_of(context(hub, **own, **{"data-set": "chest x-ray", "purpose": "trial 12"}))
    assert isinstance(program, PipelineProgram)
    assert program.books is not None
    assert program.books.account == Account("chest x-ray", "trial 12")
    assert program.books.run == "tiny 7"
    with pytest.raises(ConfigError, match="must have the account 'site-1' for 'research'"):
        program_of(context(hub, **own))


def test_a_real_site_refuses_a_plan_beyond_its_ledger(make_config: MakeConfig, manifest: Path, tmp_path: Path) -> None:
    place = tmp_path / "ledger.db"
    Ledger.create(place).close()
    with Ledger.open(place) as ledger:
        ledger.open_account(Account("site-1", "research"), Budget(2.0, 1e-3, ADD_OR_REMOVE))
    with pytest.raises(ConfigError, match="no more than the ledger of site-1"):
        program_of(context(make_config(*PRIVATE), site="site-1", manifest=str(manifest), ledger=str(place)))
