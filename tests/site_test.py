"""The site is built without a warning, as of a broken link, and has what it is to show."""

import html.parser
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_l2e import pretrained

ROOT = Path(__file__).parents[1]
EXTRA = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers", "mkdocs_jupyter")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    if missing := [name for name in EXTRA if not importlib.util.find_spec(name)]:
        pytest.skip(f"needs the extra docs: {', '.join(missing)} is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


class Page(html.parser.HTMLParser):
    """The ids of a page, and where its links lead and its pictures lie."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        self.links |= {found[name] for name in ("href", "src") if found.get(name)}


def test_pages_have_the_places_of_their_sources(site):
    for name in ("index", "docs/running/index", "results/index", "notebooks/results/index"):
        assert (site / f"{name}.html").is_file()
    for name in ("results/paper/addition.png", "results/width/width.png"):
        assert (site / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_page_of_networks_is_in_it(site):
    found = Page(site / "docs/page/index.html")
    assert {"../networks.html"} <= found.links
    page = (site / "docs/networks.html").read_text("utf-8")
    for name in pretrained.names():
        assert f'"name": "{name}"' in page


def test_the_api_is_that_of_the_package(site):
    found = Page(site / "docs/api/index.html")
    names = ("load", "execute", "train", "api.Answer", "api.TrainedNetwork.execute")
    assert {f"keras_l2e.{name}" for name in names} <= found.ids
    text = re.sub("<[^>]+>", "", (site / "docs/api/index.html").read_text("utf-8"))
    # Not the module of this name.
    assert "Has a network of the package that was trained on such programs execute one." in text
    assert "num_epochs = 40: Epochs, at most." in text


@pytest.mark.parametrize("name", ["quickstart", "results"])
def test_notebooks_are_shown_with_their_outputs(site, name):
    links = Page(site / f"notebooks/{name}/index.html").links
    assert any(link.startswith("data:image/png;base64,") for link in links)
