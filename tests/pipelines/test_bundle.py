import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from app.cli.main import cli
from medfl.config.reading import dump_config, parse_config
from medfl.config.settings import Config
from medfl.errors import ConfigError, RunFolderError
from medfl.results.metrics import MetricValue, RunMetrics
from medfl.results.store import RunStore
from pipelines.build import build_pipeline
from pipelines.bundle import export_bundle, load_bundle
from pipelines.plan import make_plan
from pipelines.weights import as_arrays

_SEGMENTATION = """
name: organs
task: {kind: segmentation, dimensions: 3, classes: {liver: 1, spleen: 2}, patch: [16, 16, 16], sliding_window: true}
data: {source: {kind: phantoms}, sites: {kind: column}}
preprocessing: {channels: 2}
network: {kind: unet, channels: [4, 8, 8], strides: [2, 2], residual_units: 1, features: 4, norm: group, dropout: 0.2}
training: {rounds: 1}
"""
_CLASSIFICATION = """
name: findings
task: {kind: classification, dimensions: 2, classes: {normal: [normal], lesion: [lesion], other: [other]}}
data: {source: {kind: phantoms, dimensions: 2}, sites: {kind: column}}
preprocessing: {size: [32, 32], intensity: unit}
network: {kind: densenet, initial_features: 8, growth_rate: 4, block_layers: [2, 2]}
training: {rounds: 1}
"""
_FROZEN = """
name: frozen
task: {kind: classification, dimensions: 2, classes: {normal: [normal], lesion: [lesion]}}
data: {source: {kind: phantoms, dimensions: 2}, sites: {kind: column}}
network: {kind: efficientnet_lite0}
training: {rounds: 1}
"""
_IMAGES = {_SEGMENTATION: (2, 2, 16, 16, 16), _CLASSIFICATION: (3, 1, 32, 32)}


def a_network(config: Config) -> nn.Module:
    """The network of a run, with weights and running statistics unlike those it starts with."""
    network = build_pipeline(config, torch.device("cpu")).network
    generator = torch.Generator().manual_seed(1)
    for tensor in network.shared_state().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.05)
    return network.eval()


def a_run(text: str, folder: Path) -> tuple[Path, nn.Module]:
    config = parse_config(text)
    with torch.no_grad():
        network = a_network(config)
    store = RunStore(folder)
    store.write_settings(dump_config(config), make_plan(config, {}))
    store.write_model(as_arrays(network.state_dict()), "# Model card: a test\n")
    return folder, network


def random_images(text: str) -> Tensor:
    return torch.randn(_IMAGES[text], generator=torch.Generator().manual_seed(2))


def built_by_monai(bundle: Path) -> nn.Module:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    parser.read_meta(bundle / "configs" / "metadata.json")
    network = parser.get_parsed_content("network_def")
    assert isinstance(network, nn.Module)
    return network


@pytest.mark.parametrize("text", [_SEGMENTATION, _CLASSIFICATION], ids=["unet-3d", "densenet"])
@torch.inference_mode()
def test_monai_alone_builds_the_network_that_gives_the_same_logits(text: str, tmp_path: Path) -> None:
    run, network = a_run(text, tmp_path / "run")
    bundle = export_bundle(run, tmp_path / "bundle")

    theirs = built_by_monai(bundle)
    theirs.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True), strict=True)

    images = random_images(text)
    assert torch.equal(theirs.eval()(images), network(images))


@pytest.mark.parametrize("text", [_SEGMENTATION, _CLASSIFICATION], ids=["unet-3d", "densenet"])
@torch.inference_mode()
def test_a_loaded_bundle_gives_the_same_logits_from_either_file_of_weights(text: str, tmp_path: Path) -> None:
    run, network = a_run(text, tmp_path / "run")
    bundle = export_bundle(run, tmp_path / "bundle")
    images = random_images(text)
    expected = network(images)

    assert torch.equal(load_bundle(bundle)(images), expected)
    (bundle / "models" / "model.safetensors").unlink()
    assert torch.equal(load_bundle(bundle)(images), expected)


@pytest.mark.parametrize("text", [_SEGMENTATION, _CLASSIFICATION], ids=["unet-3d", "densenet"])
def test_monai_finds_the_metadata_true_to_the_network(text: str, tmp_path: Path) -> None:
    run, _ = a_run(text, tmp_path / "run")
    bundle = export_bundle(run, tmp_path / "bundle")

    configs = bundle / "configs"
    verify_net_in_out(
        "network_def", str(configs / "metadata.json"), str(configs / "inference.json"), device="cpu"
    )  # raises when channels or dtypes differ

    metadata = json.loads((configs / "metadata.json").read_text())
    required = {"version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task"}
    required |= {"description", "authors", "copyright", "network_data_format"}
    assert required <= metadata.keys()
    tensors = [
        *metadata["network_data_format"]["inputs"].values(),
        *metadata["network_data_format"]["outputs"].values(),
    ]
    keys = {"type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"}
    assert all({*keys, "channel_def"} <= tensor.keys() for tensor in tensors)
    assert (bundle / "docs" / "README.md").read_text() == "# Model card: a test\n"
    assert "does not cover these weights" in (bundle / "docs" / "license.txt").read_text()


@pytest.mark.slow
def test_a_bundle_works_without_medfl(tmp_path: Path) -> None:
    run, _ = a_run(_SEGMENTATION, tmp_path / "run")
    bundle = export_bundle(run, tmp_path / "bundle")
    program = """
import sys
from monai.bundle import ConfigParser
import torch
parser = ConfigParser()
parser.read_config("configs/inference.json")
network = parser.get_parsed_content("network_def")
network.load_state_dict(torch.load("models/model.pt", weights_only=True))
parser.get_parsed_content("inferer")(torch.zeros(1, 2, 20, 20, 20), network.eval())
assert not [name for name in sys.modules if name.split(".")[0] in ("medfl", "pipelines")]
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=bundle, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_both_files_of_weights_hold_the_same(tmp_path: Path) -> None:
    run, _ = a_run(_CLASSIFICATION, tmp_path / "run")
    models = export_bundle(run, tmp_path / "bundle") / "models"
    plain = torch.load(models / "model.pt", weights_only=True)
    safe = load_file(models / "model.safetensors")
    assert plain.keys() == safe.keys()
    assert all(torch.equal(plain[name], safe[name]) for name in plain)


def test_a_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    run, _ = a_run(_SEGMENTATION + "federation: {strategy: {kind: fedbn}}\n", tmp_path / "run")
    with pytest.raises(ConfigError, match="whole model; with strategy 'fedbn' the sites keep"):
        export_bundle(run, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_figures_of_the_sites_own_models_are_not_passed_off_as_the_bundles(tmp_path: Path) -> None:
    run, _ = a_run(_CLASSIFICATION + "federation: {personalize_epochs: 2}\n", tmp_path / "run")
    value = MetricValue(value=0.9, ci_low=0.8, ci_high=1.0, n=9)
    RunStore(run).write_metrics(RunMetrics(split="test", pooled={"auroc": value}, sites={}))
    bundle = export_bundle(run, tmp_path / "bundle")
    assert json.loads((bundle / "configs" / "metadata.json").read_text())["eval_metrics"] == {}
    assert "This bundle holds the shared model." in (bundle / "docs" / "README.md").read_text()


def test_a_network_that_monai_cannot_build_is_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    config = parse_config(_FROZEN)
    store.write_settings(dump_config(config), make_plan(config, {}))
    with pytest.raises(ConfigError, match="efficientnet_lite0"):
        export_bundle(tmp_path / "run", tmp_path / "bundle")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    run, _ = a_run(_CLASSIFICATION, tmp_path / "run")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="new or empty"):
        export_bundle(run, tmp_path / "bundle")
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["thesis.txt"]


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    config = parse_config(_CLASSIFICATION)
    RunStore(tmp_path / "run").write_settings(dump_config(config), make_plan(config, {}))
    with pytest.raises(RunFolderError, match=r"model\.safetensors"):
        export_bundle(tmp_path / "run", tmp_path / "bundle")


@pytest.mark.parametrize(
    "network",
    [
        "$__import__('pathlib').Path('ran').touch()",
        {"_target_": "pathlib.Path.touch", "self": "ran"},
        {"_target_": "monai.networks.nets.DenseNet", "spatial_dims": "$print('ran')"},
        {"_target_": "monai.networks.nets.UNet", "unknown": 1},
        None,
    ],
)
def test_loading_runs_nothing_that_a_bundle_names(network: object, tmp_path: Path) -> None:
    run, _ = a_run(_CLASSIFICATION, tmp_path / "run")
    bundle = export_bundle(run, tmp_path / "bundle")
    (bundle / "configs" / "inference.json").write_text(json.dumps({"network_def": network}))
    with pytest.raises(RunFolderError):
        load_bundle(bundle)


def test_weights_of_another_network_and_broken_weights_are_named(tmp_path: Path) -> None:
    run, _ = a_run(_CLASSIFICATION, tmp_path / "run")
    bundle = export_bundle(run, tmp_path / "bundle")
    (bundle / "models" / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, bundle / "models" / "model.pt")
    with pytest.raises(RunFolderError, match="names and shapes"):
        load_bundle(bundle)
    (bundle / "models" / "model.pt").write_bytes(b"no zip")
    with pytest.raises(RunFolderError, match="readable"):
        load_bundle(bundle)


def test_the_command_prints_where_the_bundle_is(tmp_path: Path) -> None:
    run, _ = a_run(_CLASSIFICATION, tmp_path / "run")
    result = CliRunner().invoke(cli, ["export", str(run), "--out", str(tmp_path / "bundle"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"bundle": str(tmp_path / "bundle")}
    assert (tmp_path / "bundle" / "models" / "model.pt").exists()
