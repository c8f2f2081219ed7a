"""The site: which files of the repository are its pages, and where links to all others lead.

Files keep the places that they have in the repository, so links between them hold as they are. A
link to any other file leads to the repository, whose address is the one in pyproject.toml.
"""

import re
import tomllib
from pathlib import Path

from griffe import Extension
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

from keras_l2e import export, pretrained, settings
from keras_l2e.config import Config

ROOT = Path(__file__).parents[1]
SHOWN = (
    "*.md",
    "docs/*.md",
    "docs/images/*.png",
    "benchmarks/*.md",
    "results/**/*.md",
    "results/**/*.png",
    "datasets/*/*.md",
    "keras_l2e/pretrained/*/*.md",
    "notebooks/*.ipynb",
)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    config.repo_url = project["urls"]["Repository"]
    config.site_description = project["description"]


@event_priority(100)  # Before the plugin that looks for notebooks among them.
def on_files(files, config):
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    names = [path.relative_to(ROOT).as_posix() for shown in SHOWN for path in ROOT.glob(shown)]
    where = str(ROOT), config.site_dir, config.use_directory_urls
    return Files([*of_theme, *(File(name, *where) for name in sorted(names))])


def on_page_markdown(markdown, page, config, files):
    folder = (ROOT / page.file.src_uri).parent

    def lead(link):
        path = (folder / link[1]).resolve()
        name = path.relative_to(ROOT).as_posix()
        if files.get_file_from_path(name) or not path.exists():  # MkDocs says what does not exist.
            return link[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/HEAD/{name}{link[2] or ''})"

    return LINK.sub(lead, markdown).replace("<!-- fields of Config -->", list_of_fields())


def on_post_build(config):
    """Exports the page that docs/page.md shows."""
    page = Path(config.site_dir) / "docs/networks.html"
    page.unlink(missing_ok=True)  # Of the build before, where pages are served as they are written.
    networks = ",".join(dict.fromkeys(["programs", *pretrained.names()]))  # That one is chosen.
    export.main(export.Arguments(format="page", pretrained=networks, output=str(page)))


def list_of_fields():
    """Every field of a `Config`, as the help of `train` has it."""
    lines = []
    for name, setting in settings.of(Config).items():
        names = f" One of {', '.join(setting.names)}." if setting.names else ""
        lines.append(f"- `{name}` = `{getattr(Config, name)!r}`: {setting.help}{names}")
    return "\n".join(lines)


class AsImported(Extension):
    """Has griffe, which reads the sources, see the package as Python and its readers do.

    `train` and `execute` are functions of the package, although modules have these names too. The
    examples of docstrings are code; in Markdown their prompts would be quotations.
    """

    def on_module_members(self, *, mod, **others):
        if mod.parent is None:
            self.functions = {name: mod.members[name] for name in mod.exports}

    def on_package(self, *, pkg, **others):
        for name, function in self.functions.items():
            pkg.set_member(name, function)

    def on_instance(self, *, obj, **others):
        if obj.docstring:
            fenced = r"```pycon\n\g<0>\n```"
            obj.docstring.value = re.sub(r"(?m)^>>> .*(\n.+)*", fenced, obj.docstring.value)
