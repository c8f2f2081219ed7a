"""Networks as hubs keep them: the folder, its card, and places there."""

import re
import shutil
import sys

import huggingface_hub
import kagglehub
import keras
import pytest

import keras_l2e
from keras_l2e import config as configs
from keras_l2e import export, hub, pretrained, tables
from keras_l2e.errors import UsageError, WorkError


@pytest.fixture(scope="module")
def folder(small_run, tmp_path_factory):
    """The small run as it would be uploaded."""
    output = tmp_path_factory.mktemp("hub") / "small"
    arguments = {"workdir": str(small_run.folder), "format": "hub", "output": str(output)}
    export.main(export.Arguments(**arguments))
    return output


def test_a_folder_is_what_keras_and_this_package_load(folder, small_run):
    names = ["README.md", "config.json", "evaluation.json", "flags.cfg"]
    names += ["metadata.json", "model.weights.h5"]
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == names
    network, expected = keras_l2e.load(folder), keras_l2e.load(small_run.folder)
    programs = ["print(12+34)", "print(99+1)"]
    assert network.execute(programs) == expected.execute(programs)
    assert network.evaluation == small_run.evaluation
    assert network.config == small_run.config
    weights = keras.saving.load_model(folder).get_weights()
    for x, y in zip(weights, expected.model.get_weights(), strict=True):
        assert (x == y).all()


def test_a_card_tells_a_hub_the_figures_at_the_target(folder, small_run):
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.license) == ("keras", "apache-2.0")
    assert "learning-to-execute" in card.data.tags
    assert card.data.metrics == list(tables.METRICS)
    row = small_run.evaluation["rows"][-1]
    found = [(x.dataset_name, x.metric_type, x.metric_value) for x in card.data.eval_results]
    level = "addition, length 2, nesting 1"
    assert found == [(level, metric, row[metric]) for metric in tables.METRICS]
    assert tables.format_markdown_table(small_run.evaluation) in card.text


@pytest.mark.parametrize("name", pretrained.names())
def test_the_networks_of_the_package_have_such_cards(name, tmp_path):
    run = pretrained.find(name)
    evaluation = tables.read_evaluation(run / "evaluation.json")
    head = hub.front_matter(name, configs.read(run), evaluation)
    assert (run / hub.CARD).read_text().startswith(head)
    hub.write(run, tmp_path / name, keras_l2e.load(name).model)
    links = re.findall(r"\]\(([^)]+)\)", (tmp_path / name / hub.CARD).read_text())
    assert links and all((tmp_path / name / link).is_file() for link in links)


@pytest.mark.parametrize(
    ("place", "library", "function", "asked"),
    [
        ("hf://user/small", huggingface_hub, "snapshot_download", "user/small"),
        ("kaggle://user/a/keras/small", kagglehub, "model_download", "user/a/keras/small"),
    ],
)
def test_places_on_hubs(folder, monkeypatch, capsys, place, library, function, asked, command):
    places = []
    monkeypatch.setattr(library, function, lambda place: places.append(place) or str(folder))
    assert keras_l2e.load(place).folder == folder
    finished = command("execute", f"--model={place}", "print(12+34)")
    assert finished.returncode == 0 and "predicted  " in finished.stdout
    assert places == [asked] * 2


def test_what_cannot_be_downloaded(folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setenv("HF_HOME", str(tmp_path))
        with pytest.raises(WorkError, match="hf://user/nothing cannot be downloaded: "):
            keras_l2e.load("hf://user/nothing")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(UsageError, match=r"needs huggingface_hub: pip install 'keras_l2e\[hub"):
            keras_l2e.load("hf://user/small")
    # Somebody else's network.
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "flags.cfg").unlink()
    monkeypatch.setattr(kagglehub, "model_download", lambda place: str(other))
    with pytest.raises(UsageError, match=r"no training run in .*: .*flags.cfg is missing"):
        keras_l2e.load("kaggle://user/a/keras/other")


def test_a_run_without_an_evaluation_is_refused(small_run, tmp_path):
    run = shutil.copytree(small_run.folder, tmp_path / "run")
    (run / "evaluation.json").unlink()
    arguments = {"workdir": str(run), "format": "hub", "output": str(tmp_path / "new")}
    with pytest.raises(UsageError, match=r"no evaluation in .*run: evaluation.json is missing"):
        export.main(export.Arguments(**arguments))
    assert not (tmp_path / "new").exists()
