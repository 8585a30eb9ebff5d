"""What MkDocs cannot find under docs/: measured results, examples, and pages written from the program itself."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from recbole_session.cli import SUBCOMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "recbole_session"
ROOMS = ("data", "model", "evaluator", "run", "inference", "compare", "tune", "report", "converters", "config")


def on_config(config: Any) -> Any:
    """Complete the navigation."""
    reference = next(section["Reference"] for section in config.nav if "Reference" in section)
    reference += [{f"recbole_session.{room}": f"reference/{room}.md"} for room in ROOMS]
    config.nav.append({"Results": [f"results/{path.name}" for path in sorted((ROOT / "results").glob("*.md"))]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add files from beside docs/ and the generated pages of the reference."""
    for path in sorted([ROOT / "CONTRIBUTING.md", *(ROOT / "results").rglob("*.*"), *(ROOT / "examples").glob("*.*")]):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    pages = {"commands": commands(), "keys": keys(), **{room: modules(room) for room in ROOMS}}
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links that are right in the repository be right on the site."""
    for name in ("results/", "examples/", "CONTRIBUTING.md"):
        markdown = markdown.replace(f"](../{name}", f"]({name}")
    markdown = re.sub(r"\[([^]]+)\]\(\.\./recbole_session/[^)]*\)", r"\1", markdown)  # source files are not on the site
    if page.file.src_uri == "CONTRIBUTING.md":
        markdown = markdown.replace("](docs/", "](")
    return markdown.replace("](../docs/", "](../") if page.file.src_uri.startswith("results/") else markdown


def commands() -> str:
    """Write the help of every sub-command."""
    page = ["# Commands", "`python -m recbole_session` is the same program as `recbole-session`."]
    for name in ("", *SUBCOMMANDS):
        command = [sys.executable, "-m", "recbole_session", *filter(None, [name]), "--help"]
        environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
        text = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        page += [f"## recbole-session {name}".rstrip(), f"```text\n{text}```"]
    return "\n\n".join(page)


def keys() -> str:
    """Write out the property files, whose comments explain the keys."""
    properties = PACKAGE / "config" / "properties"
    page = [
        "# Keys",
        "RecBole's keys keep [their meaning](https://recbole.io/docs/user_guide/config_settings.html). "
        "These are added, or have another default here.",
    ]
    for path in [properties / "overall.yaml", *sorted((properties / "model").glob("*.yaml"))]:
        title = "All models" if path.stem == "overall" else path.stem
        page += [f"## {title}", f"```yaml\n{path.read_text(encoding='utf-8')}```"]
    return "\n\n".join(page)


def modules(room: str) -> str:
    """List the modules of a sub-package for mkdocstrings, which writes their docstrings."""
    names = sorted(path.stem for path in (PACKAGE / room).glob("*.py") if path.stem != "__init__")
    return "\n\n".join([f"# recbole_session.{room}", *(f"::: recbole_session.{room}.{name}" for name in names)])
