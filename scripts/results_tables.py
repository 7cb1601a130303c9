"""Writes the numbers and pictures of README.md from results/: `make results-tables`. Nothing there is typed by hand."""

import sys
from pathlib import Path

from instruction_vectors.files import read_json, write_atomic
from instruction_vectors.reporting import figure_svg, write_summary

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- demo:begin -->", "<!-- demo:end -->"


def main() -> None:
    """Regenerate; with --check, fail if anything would change."""
    results = read_json(ROOT / "results" / "demo" / "results.json")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    wanted = {
        ROOT / "README.md": f"{before}{BEGIN}\n{write_summary(results)}{END}{after}",
        ROOT / "docs" / "images" / "forgetting.svg": figure_svg(results, "forgetting"),
        ROOT / "docs" / "images" / "steering.svg": figure_svg(results, "steering"),
        ROOT / "docs" / "images" / "effects.svg": figure_svg(results, "effects"),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"out of date, run `make results-tables`: {', '.join(p.name for p in stale)}" if stale else 0)
    for path in stale:
        write_atomic(path, wanted[path])


if __name__ == "__main__":
    main()
