"""What the documentation shows to be run: code blocks of pages, notebooks, and the examples of every `--help`."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

_FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is the content of (if it says so), and its text."""

    language: str
    title: str | None
    text: str


@dataclass(frozen=True)
class Shown:
    """Something to run.

    Attributes:
        where: the page, or the verb whose help it is.
        name: how the check calls it: the command itself, or `python`.
        text: the code as printed; a page's Python blocks run as one script.
        prints: lines that the page says it prints.
    """

    where: str
    name: str
    text: str
    prints: tuple[str, ...] = ()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(language, title or None, text) for language, title, text in _FENCE.findall(page.read_text(encoding="utf-8"))]


def files(page: Path) -> dict[str, str]:
    """Files that a page shows whole, by name."""
    return {block.title: block.text for block in blocks(page) if block.title}


def on_page(page: Path, where: str) -> list[Shown]:
    """A page's commands one by one, and its Python as one script, in the order in which they first appear."""
    shown: list[Shown] = []
    script, prints, before = [], [], ""
    for block in blocks(page):
        if block.title:
            continue
        if block.language == "bash":
            lines = re.sub(r"\\\n\s*", "", block.text).splitlines()  # a backslash at its end: the line goes on
            shown += [Shown(where, command(line), line) for line in lines if command(line)]
        elif block.language == "python":
            if not script:
                shown.append(Shown(where, "python", ""))
            script.append(block.text)
        elif block.language == "text" and before == "python":
            prints += block.text.splitlines()
        before = block.language
    whole = Shown(where, "python", "\n".join(script), tuple(prints))
    return [whole if each.name == "python" else each for each in shown]


def in_notebook(notebook: Path, where: str) -> Shown:
    """A notebook's code cells as one script."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return Shown(where, "python", "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))


def command(line: str) -> str:
    """A command as it is known by: without the comment behind it."""
    return re.sub(r"\s+#\s.*$|^#.*$", "", line).strip()


def in_help(group: click.Group, prefix: str = "iv") -> list[Shown]:
    """The examples in the help of every verb, verbs in the order of their names."""
    shown: list[Shown] = []
    for name, verb in sorted(group.commands.items()):
        _, *after = re.split(r"Examples?:\n", verb.help or "", maxsplit=1)
        lines = [line.strip() for line in "".join(after).splitlines()]
        shown += [Shown(f"{prefix} {name} --help", line, line) for line in lines if shlex.split(line)[:1] == ["iv"]]
        if isinstance(verb, click.Group):
            shown += in_help(verb, f"{prefix} {name}")
    return shown
