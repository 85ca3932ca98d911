"""What MkDocs does not do by itself: files of the top folder, and notebooks, become pages."""

import ast
import base64
import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

# files of the top folder that are part of the site too, and what they are called there
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CITATION.cff": "CITATION.cff",
    "NOTICE": "NOTICE.txt",
}


def seen_from_docs(text: str) -> str:
    """Rewrite links that are written as seen from the top folder, to pages of the site."""
    text = re.sub(r"(\]\(|(?:src|srcset|href)=\")docs/", r"\1", text)
    for name, page in PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return to_pages(text)


def to_pages(text: str) -> str:
    """Let links to notebooks, and to files of the top folder, lead to their pages."""
    for name, page in PAGES.items():
        text = text.replace(f"](../{name}", f"]({page}")
    return re.sub(r"(\]\([^)\s]*)\.ipynb", r"\1.md", text)


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown, with the small outputs that it was committed with."""
    notebook = nbformat.read(path, as_version=4)
    text, found = MarkdownExporter().from_notebook_node(notebook)
    for name, picture in found["outputs"].items():
        kind = Path(name).suffix.removeprefix(".")
        inline = f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
        text = text.replace(f"]({name})", f"]({inline})")
    note = f"*This page is the notebook `docs/notebooks/{path.name}`; CI runs it.*\n\n"
    title, _, rest = text.lstrip().partition("\n")
    return f"{title}\n\n{note}{rest}"


def public_names(package: Path) -> dict[str, str]:
    """Return the package's table of public names, read without importing it: name -> full name."""
    for node in ast.parse(package.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_PUBLIC":
            return {k: v.replace(":", ".") for k, v in ast.literal_eval(node.value).items()}
    raise ValueError(f"{package}: holds no table _PUBLIC of names")


def reference(names: dict[str, str]) -> str:
    """Return what mkdocstrings turns into the reference of these names."""
    parts = [
        f"::: {full}\n    options: {{heading: {name}}}" for name, full in sorted(names.items())
    ]
    return "\n\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file of their own in docs/."""
    docs = Path(config.docs_dir)
    for name, page in PAGES.items():
        text = (docs.parent / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=seen_from_docs(text)))
    for path in sorted((docs / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, page, content=to_pages(notebook_page(path))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Let links lead to pages, and put the reference of public names on its page."""
    if page.file.src_uri == "api.md":
        package = Path(config.docs_dir).parent / "synthdp" / "__init__.py"
        markdown = f"{markdown}\n\n{reference(public_names(package))}\n"
    return to_pages(markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Write the index of the search as a script too: pages opened from a folder ask for it so."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    script = f"var __index = {index.read_text(encoding='utf-8')}"
    index.with_suffix(".js").write_text(script, encoding="utf-8")
