"""The README as PyPI shows it: outside of the repository, so links into it have its address."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
VERSION = re.search('__version__ = "(.+)"', (ROOT / "keras_l2e/__init__.py").read_text("utf-8"))[1]


def absolute(link):
    """A link or a picture as it was when this version was released."""
    picture, path = link.groups(default="")
    kind = "raw" if picture else "blob"  # From there GitHub leads on to folders, too.
    return f"{picture}]({PROJECT['urls']['Repository']}/{kind}/v{VERSION}/{path})"


setup(
    long_description=re.sub(
        r"(!\[[^\]]*)?\]\((?!\w+:|#)([^)\s]+)\)", absolute, (ROOT / "README.md").read_text("utf-8")
    ),
    long_description_content_type="text/markdown",
)
