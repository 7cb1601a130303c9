"""Write the report: one HTML file that loads nothing and runs nothing but its own small, hashed script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from ..files import write_atomic
from . import findings
from .contents import arm_name
from .palette import arm_colours, variables
from .sections import build
from .tables import as_text
from .values import mapping, printable

_FACTS = ("size", "seed", "train_rows", "epochs", "learning_rate")
_MOST_LINKS = 200
_INTERVAL = re.compile(r" \[([^\s\[\],]+), ([^\s\[\],]+)\]")
_TEMPLATES = files(__package__) / "templates"


def render_html(results: Mapping[str, Any], raw: Sequence[str] = ()) -> str:
    """The report as one HTML string; ``raw`` names files beside it that hold the numbers, as links.

    Parts of ``results`` that are missing or unfinished are left out and listed as not run yet. Every string from
    ``results`` is escaped.
    """
    results = printable(results)
    script, style = _read("report.js"), _read("style.css")
    sections, missing = build(results)
    config = mapping(results.get("config"))
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=DictLoader({"report.html.j2": _read("report.html.j2")}),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(soft=soft, together=together)
    return environment.get_template("report.html.j2").render(
        title=str(results.get("title") or "Instruction vectors and forgetting"),
        subject=findings.subject(results),
        headline=findings.headline(results),
        cards=findings.cards(results),
        sections=sections,
        missing=missing,
        facts=[(name.replace("_", " "), as_text(config[name])) for name in _FACTS if config.get(name) is not None],
        arm_name=arm_name,
        arm_colours=arm_colours(list(mapping(results.get("forgetting")))),
        # Ours, from files of the package and from the palette; nothing from the results is in them.
        style=Markup(_root_colours() + style),
        # As paths below the report's folder, whatever they are called.
        raw=[(f"./{quote(name)}", name) for name in printable(list(raw[:_MOST_LINKS]))],
        more=max(0, len(raw) - _MOST_LINKS),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def soft(content: str) -> Markup:
    """The text escaped, with places where a long name may break."""
    return Markup("<wbr>").join(re.split(r"(?<=[-_/.])(?=\w)", content))


def together(content: str) -> str:
    """The text with each value kept on one line with its interval; still to be escaped."""
    return _INTERVAL.sub("\N{NO-BREAK SPACE}[\\1,\N{NO-BREAK SPACE}\\2]", content)


def write_report(results: Mapping[str, Any], path: Path | str, *, raw: Sequence[str] = ()) -> Path:
    """Write the report of ``results`` to ``path`` atomically and return the path.

    ``raw`` names files in the report's folder, or below it, that hold the numbers; the page links to them. A second run under
    ``results["against"]`` (``{"name", "results"}``) is shown beside this one, number by number.

    The file is self-contained: no request leaves the page, and a Content-Security-Policy enforces it.
    Folders on the way are made. Raises OSError if the file cannot be written.
    """
    path = Path(path)
    write_atomic(path, render_html(results, raw))
    return path


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _root_colours() -> str:
    light, dark = variables(dark=False), variables(dark=True)
    return (
        f":root{{color-scheme:light;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}\n"
    )
