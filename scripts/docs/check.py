"""`make docs-check`: builds the documentation strictly and runs what it shows, as printed, on the real model.

Nothing is passed over in silence: what runs at a smaller size, or not at all, stands in `check.toml` with the reason and is
listed at the end, and an entry there that no page shows any more is an error.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shown import Shown, files, in_help, in_notebook, on_page

from instruction_vectors.cli import main as iv

ROOT = Path(__file__).parents[2]
TABLE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("check.toml").read_text(encoding="utf-8"))
# What a page may load from elsewhere: links to follow, but no script, style, font or picture.
_REQUEST = re.compile(
    r"<(?:script|img|iframe|source)[^>]+src=\"https?://|<link(?![^>]*canonical)[^>]+href=\"https?://|url\(https?://"
)


@dataclass(frozen=True)
class Outcome:
    """What became of something shown: `ok`, `failed`, or `not run`."""

    shown: Shown
    state: str
    seconds: float = 0.0
    note: str = ""


def build() -> list[str]:
    """Complaints of a strict build, and of built pages that would ask the network for something."""
    with tempfile.TemporaryDirectory() as site:
        run = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            return [done.stderr.strip() or done.stdout.strip()]
        pages = [path for path in Path(site).rglob("*") if path.suffix in (".html", ".css")]
        return [
            f"{path.relative_to(site)} asks the network" for path in pages if _REQUEST.search(path.read_text(encoding="utf-8"))
        ]


def everything() -> list[Shown]:
    """All that is shown, in the order in which it runs."""
    pages = [shown for page in TABLE["pages"] for shown in on_page(ROOT / page, page)]
    notebooks = [in_notebook(ROOT / name, name) for name in TABLE["notebooks"]]
    return pages + notebooks + in_help(iv)


def stale(shown: list[Shown]) -> list[str]:
    """Entries of the table that nothing shown answers to."""
    known = {(each.where, each.name) for each in shown}
    return [f"{e['where']}: {e['shown']}" for e in TABLE["instead"] if (e["where"], e["shown"]) not in known]


def run(shown: Shown, folder: Path, threads: int | None = None) -> Outcome:
    """Run one thing in `folder`, on so many threads."""
    entry = next((e for e in TABLE["instead"] if (e["where"], e["shown"]) == (shown.where, shown.name)), {})
    needs = entry.get("needs")
    text, why = entry.get("run", "" if entry and not needs else shown.text), entry.get("why", "")
    if not text or (needs and needs not in os.environ):
        return Outcome(shown, "not run", note=why)
    start = time.monotonic()
    arguments = [sys.executable, "-c", text] if shown.name == "python" else ["bash", "-c", text]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    seconds = time.monotonic() - start
    if done.returncode not in entry.get("exits", [0]):
        return Outcome(shown, "failed", seconds, f"exit status {done.returncode}: {done.stderr.strip()[-1500:]}")
    missing = [line for line in shown.prints if line not in done.stdout.splitlines()]
    if missing:
        return Outcome(shown, "failed", seconds, f"does not print {missing}, but:\n{done.stdout}")
    return Outcome(shown, "ok", seconds, f"run as `{text}`: {why}" if "run" in entry else "")


def outcomes(shown: list[Shown], folder: Path) -> list[Outcome]:
    """Run everything in one folder, where what one command leaves behind is there for the next.

    Pages come first. Then notebooks, which need nothing of theirs, run beside the examples of `--help`, on a thread each.
    """
    for page in TABLE["pages"]:
        for name, text in files(ROOT / page).items():
            (folder / name).write_text(text, encoding="utf-8")
    if "IV_DATA_DIR" in os.environ and not (folder / "data").exists():
        (folder / "data").symlink_to(Path(os.environ["IV_DATA_DIR"]).resolve())
    notebooks = [each for each in shown if each.where in TABLE["notebooks"]]
    pages = [each for each in shown if each.where in TABLE["pages"]]
    helped = [each for each in shown if each not in notebooks and each not in pages]
    ran: set[str] = set()

    def all_of(some: list[Shown], threads: int | None = None) -> list[Outcome]:
        found = []
        for each in some:
            above = each.name != "python" and each.name in ran
            outcome = Outcome(each, "not run", note="ran above, the same command") if above else run(each, folder, threads)
            if outcome.state == "ok":
                ran.add(each.name)
            print(f"{outcome.state:8}{outcome.seconds:6.1f} s  {each.where}: {each.name}", flush=True)
            found.append(outcome)
        return found

    found = all_of(pages)
    with ThreadPoolExecutor() as lanes:
        beside = lanes.submit(all_of, notebooks, 1)
        return found + all_of(helped, 1) + beside.result()


def report(found: list[Outcome]) -> int:
    """Print what failed and what did not run as printed; 1 if anything failed."""
    for outcome in found:
        if outcome.state == "failed":
            print(f"\nFAILED {outcome.shown.where}: {outcome.shown.name}\n{outcome.note}")
    others = [outcome for outcome in found if outcome.state != "failed" and outcome.note]
    print(f"\nNot run as printed: {len(others)}")
    for outcome in others:
        print(f"  {outcome.shown.where}: {outcome.shown.name}\n      {outcome.note}")
    states = [outcome.state for outcome in found]
    print(f"\n{states.count('ok')} ran, {states.count('not run')} did not, {states.count('failed')} failed")
    return int("failed" in states)


def main() -> int:
    """Build, then run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="Run only what is shown in places whose name holds this text; 'build' builds only.")
    parser.add_argument("--folder", type=Path, help="Where to run; a temporary folder by default.")
    only = (options := parser.parse_args()).only or ""
    shown = everything()
    complaints = [*(f"check.toml: nobody shows {entry}" for entry in stale(shown)), *(build() if only in ("", "build") else ())]
    if complaints:
        print("\n".join(complaints))
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        chosen = [each for each in shown if only in each.where] if only != "build" else []
        return report(outcomes(chosen, folder))


if __name__ == "__main__":
    sys.exit(main())
