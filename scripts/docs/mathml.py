"""What mkdocs does to every page: equations become MathML, which browsers draw without a script or a font from elsewhere."""

import re
from html import escape, unescape
from typing import Any

from latex2mathml.converter import convert

# What pymdownx.arithmatex leaves: <span class="arithmatex">\(...\)</span> and <div class="arithmatex">\[...\]</div>.
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """Replace the equations of a page."""
    return _EQUATION.sub(_mathml, html)


def _mathml(found: re.Match[str]) -> str:
    tag, latex = found[1], unescape(found[2]).strip()
    drawn: str = convert(latex, display="block" if tag == "div" else "inline")
    # Read aloud, and shown by what cannot draw MathML.
    return drawn.replace("<math ", f'<math aria-label="{escape(latex, quote=True)}" ', 1)
