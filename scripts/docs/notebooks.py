"""What mkdocs does to notebooks: each becomes a page with its words and code; the notebook itself stays beside it."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# A link to a notebook leads to its page.
_LINK = re.compile(r"\]\(([\w/.-]+)\.ipynb\)")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add a page for every notebook."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            name = file.src_uri.removesuffix(".ipynb") + ".md"
            files.append(File.generated(config, name, content=page(Path(config.docs_dir) / file.src_uri)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to notebooks to their pages."""
    return _LINK.sub(r"](\1.md)", markdown)


def page(notebook: Path) -> str:
    """A notebook as Markdown, the link to the file itself below the heading."""
    parts = [_shown(cell) for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]]
    # An attribute, since a link to a file that is no page would be looked for as one of the words above.
    link = f'<a href="{notebook.name}" download>Download the notebook</a>'
    heading, _, rest = parts[0].partition("\n")
    return "\n\n".join([heading, link, rest.strip(), *parts[1:]]) + "\n"


def _shown(cell: dict[str, Any]) -> str:
    text = "".join(cell["source"])
    return f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
