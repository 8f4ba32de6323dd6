"""What mkdocs builds besides the pages in docs/: those at the root, and the reference.

Links stay as they are on GitHub; here they become links within the site.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import reference  # noqa: E402 - it lies beside this file

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def _pages() -> dict[str, str]:
    """Return the page of each file of the repository that has one."""
    pages = {f"docs/{path.name}": path.name for path in (ROOT / "docs").iterdir() if path.is_file()}
    pages |= {"README.md": "index.md", "bench/README.md": "bench/index.md"}
    pages |= {f"{name}.md": f"{name.lower()}.md" for name in ("CONTRIBUTING", "CHANGELOG")}
    for path in (ROOT / "bench" / "results").glob("*.md"):
        pages[f"bench/results/{path.name}"] = f"bench/results/{path.name}"
    return pages


PAGES = _pages()
SOURCES = {page: source for source, page in PAGES.items()}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages at the root of the repository, and the generated ones."""
    for source, page in PAGES.items():
        if not source.startswith("docs/"):
            content = (ROOT / source).read_text()
            files.append(File.generated(config, page, content=content))
    for page, content in reference.pages().items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to pages of the site; what the site does not have is text."""
    source = SOURCES.get(page.file.src_uri)
    if source is None:
        return markdown
    here, there = posixpath.dirname(page.file.src_uri) or ".", posixpath.dirname(source)

    def rewritten(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups()
        if "://" in target:
            return link[0]
        name = PAGES.get(posixpath.normpath(posixpath.join(there, target)))
        if name is None:
            return text
        return f"{image}[{text}]({posixpath.relpath(name, here)}{anchor or ''})"

    parts = FENCE.split(markdown)
    return "".join(
        part if index % 2 else LINK.sub(rewritten, part) for index, part in enumerate(parts)
    )
