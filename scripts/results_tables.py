"""Writes the numbers and pictures of README.md and docs/ from results/: `make results-tables`. Nothing there is typed by hand."""

import json
import sys
from pathlib import Path

from evidence.chats import chats
from evidence.fallen import as_diagnosis, covered, fallen
from evidence.forms import forms
from evidence.glance import glance
from evidence.own_rows import own_rows
from evidence.preset import preset
from evidence.steering import steering
from evidence.wider import wider

from instruction_vectors.continual.gather import finished, gather
from instruction_vectors.continual.headline import headline
from instruction_vectors.files import read_json, write_atomic
from instruction_vectors.reporting import figure_svg, write_summary

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Regenerate; with --check, fail if anything would change."""
    results = read_json(ROOT / "results" / "demo" / "results.json")
    pilot = gather(ROOT / "results" / "pilot")
    func = gather(ROOT / "results" / "func")
    func_cells = finished(ROOT / "results" / "func")
    # The pilot's few rows of FUNC are not set beside those of its own folder.
    cells = [each for each in finished(ROOT / "results" / "pilot") if each["cell"]["benchmark"] != "func"]
    headlines = headline([*func_cells, *cells])
    # Measured on more rows than the pilot's LONG-short: the two are not set beside each other.
    long = gather(ROOT / "results" / "long")
    headlines["long, 200 test rows"] = headline(finished(ROOT / "results" / "long"))["long"]
    diagnosis = {"diagnosis": read_json(ROOT / "results" / "analysis" / "demo-sequence.json")}
    steered = [read_json(path) for path in sorted((ROOT / "results" / "benchmarks").glob("steering*.json"))]
    evidence = _between((ROOT / "docs" / "evidence.md").read_text(encoding="utf-8"), "pilot", _folded(write_summary(pilot)))
    pooled = fallen(sorted((ROOT / "results" / "analysis").glob("*-[A-Z]-s*.json")))
    ways = glance(func_cells)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    wanted = {
        ROOT / "README.md": _replaced(readme, {"demo": write_summary(results), "glance": ways}),
        ROOT / "docs" / "evidence.md": _replaced(
            evidence,
            {
                "glance": ways,
                "func": _folded(write_summary(func)),
                "wider-A-B": wider(func_cells, ROOT / "results" / "func", ROOT / "results" / "wider" / "A-B"),
                "forms": forms(func_cells),
                "long": _folded(write_summary(long)),
                "covered": covered(pooled),
                "gemma": _folded(write_summary(gather(ROOT / "results" / "gemma"))),
                "preset": preset(finished(ROOT / "results" / "preset")),
                "diagnosis": write_summary(diagnosis),
                "own-rows": own_rows(ROOT / "results" / "own_rows"),
                "chats": chats(read_json(ROOT / "results" / "analysis" / "chats.json")),
                "steering": "\n".join(map(steering, steered)),
            },
        ),
        ROOT / "docs" / "images" / "cost.svg": figure_svg(
            {"mediation": read_json(ROOT / "results" / "benchmarks" / "mediation.json")}, "cost"
        ),
        ROOT / "docs" / "images" / "front.svg": figure_svg(pilot, "front"),
        ROOT / "docs" / "images" / "front-func.svg": figure_svg(func, "front"),
        ROOT / "docs" / "images" / "covered.svg": figure_svg(as_diagnosis(pooled), "repairs"),
        ROOT / "results" / "headline.json": json.dumps(headlines, indent=1) + "\n",
        ROOT / "docs" / "images" / "forgetting.svg": figure_svg(results, "forgetting"),
        ROOT / "docs" / "images" / "steering.svg": figure_svg(results, "steering"),
        ROOT / "docs" / "images" / "effects.svg": figure_svg(results, "effects"),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"out of date, run `make results-tables`: {', '.join(p.name for p in stale)}" if stale else 0)
    for path in stale:
        write_atomic(path, wanted[path])


def _folded(summary: str) -> str:
    """A grid's summary, what stands cell by cell behind a line to open it."""
    arms, _, cells = summary.partition("### Cells")
    return f'{arms}<details markdown="1">\n<summary>Every cell, and its course</summary>\n\n### Cells{cells}\n</details>\n'


def _replaced(page: str, parts: dict[str, str]) -> str:
    for part, content in parts.items():
        page = _between(page, part, content)
    return page


def _between(page: str, part: str, content: str) -> str:
    """The page with what stands between the marks of `part` replaced."""
    begin, end = f"<!-- {part}:begin -->", f"<!-- {part}:end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{content}{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    main()
