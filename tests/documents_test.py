"""The documents: links lead somewhere, and flags, flagfiles and ids in them are real."""

import importlib
import pathlib
import re
import runpy
import sys
import tomllib
from types import SimpleNamespace

import pytest

import keras_l2e
from keras_l2e import config, settings
from keras_l2e.language import vocabulary

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "results" / "README.md",
    *sorted(ROOT.glob("results/*/README.md")),
    *sorted(ROOT.glob("datasets/*/README.md")),
    *sorted(ROOT.glob("keras_l2e/pretrained/*/README.md")),
]
EVERY_DOCUMENT = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)
ENTRY_POINTS = ("evaluate", "execute", "export", "reproduce", "show")
# Flags of `pip`, `tfds`, `docker` and the like, of absl itself, and of the benchmarks.
OTHERS = {
    *("beam_pipeline_options", "config", "help", "imports", "sdist", "flagfile"),
    *("command", "json", "max_examples_per_split", "repeats"),
}
GONE = {"carry_share", "dead_after", "first_operations", "sort_window"}
# Where it is said that they are gone.
OBITUARIES = {"CHANGELOG.md", "reproducing.md"}


def prose(document):
    """A document's text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(document):
    """Path and anchor of each link into the repository; the path is the document's own if none."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if not re.match("https?://", link):
            path, _, anchor = link.partition("#")
            yield (document.parent / path).resolve() if path else document, anchor


def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) < 10_000


@EVERY_DOCUMENT
def test_links_lead_somewhere(document):
    broken = [
        f"{path}#{anchor}"
        for path, anchor in links(document)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert broken == []


def test_every_page_is_reached_from_the_readme():
    found, pending = set(), {ROOT / "README.md"}
    while pending:
        found |= pending
        linked = {path for document in pending for path, _ in links(document)}
        pending = {path for path in linked if path.suffix == ".md"} - found
    assert set(DOCUMENTS) - found == set()


def test_pypi_shows_the_readme_with_links_into_the_repository(monkeypatch):
    given = {}
    monkeypatch.setitem(sys.modules, "setuptools", SimpleNamespace(setup=given.update))
    runpy.run_path(str(ROOT / "setup.py"))
    text = given["long_description"]
    places = re.findall(r"""(?:\]\(|src=["']?|href=["']?)([^)"'\s]+)""", text)
    assert [place for place in places if not re.match("https?://|#", place)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address = rf"{project['urls']['Repository']}/(blob|raw)/v{keras_l2e.__version__}/"
    assert re.sub(address, "", text) == (ROOT / "README.md").read_text()


@EVERY_DOCUMENT
def test_flags_exist(document):
    known = set(settings.of(config.Run)) | OTHERS
    for name in ENTRY_POINTS:
        known |= set(settings.of(importlib.import_module(f"keras_l2e.{name}").Arguments))
    if document.name in OBITUARIES:
        known |= GONE
    # Flags with hyphens are other tools'.
    mentioned = set(re.findall(r"(?<![\w-])--([a-z_][a-z0-9_]*)(?![\w-])", document.read_text()))
    assert mentioned - known == set()


@EVERY_DOCUMENT
def test_flagfiles_exist(document):
    text = document.read_text()
    # A run's own, and one that the changelog says is gone.
    named = set(re.findall(r"\w+\.cfg", text)) - {"flags.cfg"}
    if document.name == "CHANGELOG.md":
        named -= {"programs_5_2.cfg"}
    assert named - {path.name for path in ROOT.glob("keras_l2e/flagfiles/*.cfg")} == set()


def test_the_readme_has_the_ids_of_its_example():
    ids = [*vocabulary.encode("print(1+2)"), vocabulary.EOS]
    readme = (ROOT / "README.md").read_text()
    assert f"`encoder_token_ids` {' '.join(map(str, ids))};" in readme
    assert f"`decoder_token_ids` {vocabulary.BOS} {vocabulary.encode('3')[0]};" in readme
    assert f"`labels` {vocabulary.encode('3')[0]} {vocabulary.EOS};" in readme
