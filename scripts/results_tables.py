"""Writes the numbers and pictures of README.md and docs/ from results/: `make results-tables`. Nothing there is typed by hand."""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from instruction_vectors.continual.gather import finished, gather
from instruction_vectors.continual.headline import GUIDED, PLAIN, against, best_rate, headline
from instruction_vectors.continual.result import probes, rate, way
from instruction_vectors.evaluation.statistics import (
    bootstrap_interval,
    crossed_means,
    mean_of_means,
    paired_differences,
    percentile_interval,
)
from instruction_vectors.files import read_json, write_atomic
from instruction_vectors.reporting import figure_svg, write_summary

ROOT = Path(__file__).parents[1]
_DASH, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def main() -> None:
    """Regenerate; with --check, fail if anything would change."""
    results = read_json(ROOT / "results" / "demo" / "results.json")
    pilot = gather(ROOT / "results" / "pilot")
    func = gather(ROOT / "results" / "func")
    # The pilot's few rows of FUNC are not set beside those of its own folder.
    cells = [each for each in finished(ROOT / "results" / "pilot") if each["cell"]["benchmark"] != "func"]
    headlines = headline([*finished(ROOT / "results" / "func"), *cells])
    diagnosis = {"diagnosis": read_json(ROOT / "results" / "analysis" / "demo-sequence.json")}
    chats = _chats(read_json(ROOT / "results" / "analysis" / "chats.json"))
    steering = [read_json(path) for path in sorted((ROOT / "results" / "benchmarks").glob("steering*.json"))]
    evidence = _between((ROOT / "docs" / "evidence.md").read_text(encoding="utf-8"), "pilot", _folded(write_summary(pilot)))
    fallen = sorted((ROOT / "results" / "analysis").glob("*-?-s?.json"))
    wanted = {
        ROOT / "README.md": _between((ROOT / "README.md").read_text(encoding="utf-8"), "demo", write_summary(results)),
        ROOT / "docs" / "evidence.md": _replaced(
            evidence,
            {
                "func": _folded(write_summary(func)),
                "forms": _forms(finished(ROOT / "results" / "func")),
                "covered": _covered(fallen),
                "gemma": _folded(write_summary(gather(ROOT / "results" / "gemma"))),
                "preset": _preset(finished(ROOT / "results" / "preset")),
                "diagnosis": write_summary(diagnosis),
                "chats": chats,
                "steering": "\n".join(map(_steering, steering)),
            },
        ),
        ROOT / "docs" / "images" / "cost.svg": figure_svg(
            {"mediation": read_json(ROOT / "results" / "benchmarks" / "mediation.json")}, "cost"
        ),
        ROOT / "docs" / "images" / "front.svg": figure_svg(pilot, "front"),
        ROOT / "docs" / "images" / "front-func.svg": figure_svg(func, "front"),
        ROOT / "docs" / "images" / "covered.svg": figure_svg(_as_diagnosis(fallen), "repairs"),
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


def _chats(measured: dict[str, Any]) -> str:
    """Before and after training on chats, with guidance and without."""
    before = next(iter(measured["runs"].values()))["first"]
    rows = [("before", before, None), *((name, run["last"], run["losses"][-1]) for name, run in measured["runs"].items())]
    lines = [
        f"{measured['chats']} chats of {measured['turns']} turns, {measured['tokens']:,} tokens, {measured['steps']} steps, one seed.",
        "",
        "| training | instruction | log P | knowledge | log P | KL to base | loss of the last step |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, now, loss in rows:
        cells = [f"{now[key]:.2f}" for key in ("instruction", "instruction_logprob", "knowledge", "knowledge_logprob")]
        last = _DASH if loss is None else f"{loss:.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {now['kl']:.3f} | {last} |".replace("-", _MINUS))
    return "\n".join(lines) + "\n"


def _preset(cells: list[dict[str, Any]]) -> str:
    """One factor changed at a time: where each ends, and how far that is from the usual settings on the same seeds and rows."""
    ways: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        ways[way(cell)].append(cell)
    usual = ways.pop(GUIDED[0])
    lines = [
        "| method | guide | seeds | AP | FP | IP | GP | instruction | AP, difference | IP, difference |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: |",
        f"| {' | '.join((*GUIDED[0], *_ends(usual), _DASH, _DASH))} |",
    ]
    for (method, guide), others in sorted(ways.items()):
        lines.append(f"| {' | '.join((method, guide, *_ends(others), *_apart(against(usual, others))))} |")
    return "\n".join(lines) + "\n"


def _ends(cells: list[dict[str, Any]]) -> list[str]:
    """How many seeds, and the means over them of what the table shows."""
    ends = [[cell["ap"]["mean"], cell["fp"]["mean"], *(cell["forms"][form][-1]["mean"] for form in _FORMS)] for cell in cells]
    return [str(len(cells)), *(f"{fmean(column):.3f}" for column in zip(*ends, strict=True))]


def _apart(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [_DASH, _DASH]
    low, high = found["ip"]["gain_interval"]
    parts = f"{found['ap_delta']:+.3f}", f"{found['ip']['gain']:+.2f} [{low:+.2f}, {high:+.2f}]"
    return [part.replace("-", _MINUS) for part in parts]


def _forms(cells: list[dict[str, Any]]) -> str:
    """How plain and guided training change each form of the tasks never trained on, over seeds."""
    arms: dict[tuple[str, tuple[str, str]], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        if way(cell) in (PLAIN, GUIDED[0]) and rate(cell) == best_rate(cells):
            arms[cell["cell"]["sequence"], way(cell)].append(cell)
    names = ("IP, written after five examples", "GP, written without any", "instruction form, ranked", "knowledge form, ranked")
    lines = [f"| sequence | training | seeds | {' | '.join(names)} |", "| :-- | :-- | --: |" + " --: |" * len(names)]
    for (sequence, (method, _)), seeds in sorted(arms.items()):
        changes = " | ".join(_change(seeds, form) for form in (*_FORMS, "knowledge"))
        lines.append(f"| {sequence} | {'plain' if method == PLAIN[0] else method.replace('_', ' ')} | {len(seeds)} | {changes} |")
    return "\n".join(lines) + "\n"


def _change(seeds: list[dict[str, Any]], form: str) -> str:
    """Before and after, and the interval of the difference over seeds, tasks and rows."""
    names = [name for name, probe in seeds[0]["stages"][0]["probes"].items() if form in probe]
    before, after = ([probes(cell, stage, form, names) for cell in seeds] for stage in (0, -1))
    differences = [paired_differences(*each) for each in zip(after, before, strict=True)]
    low, high = percentile_interval(crossed_means(differences))
    told = f"{mean_of_means(before):.2f} → {mean_of_means(after):.2f} [{low:+.2f}, {high:+.2f}]"
    return told.replace("-", _MINUS)


Fallen = dict[str, dict[str, list[list[float]]]]
"""By sequence and measure: tasks of seeds."""


def _fallen(paths: list[Path]) -> tuple[Fallen, dict[str, int]]:
    """Five-shot answers of plainly trained models with repairs and controls, of the tasks that fell; and how many seeds."""
    tasks: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    seeds: Counter[str] = Counter()
    for path in paths:
        benchmark, sequence, _ = path.stem.split("-")
        sequence = sequence if benchmark == "func" else f"{sequence}, {benchmark.title()}"
        seeds[sequence] += 1
        for name, task in read_json(path)["tasks"].items():
            if task["written_rungs"]:
                tasks[sequence][name].append(_few_shot(task))
    found = {
        sequence: {key: [[values[key] for values in own] for own in by_task.values()] for key in _CONDITIONS_OF_THE_FALLEN}
        for sequence, by_task in tasks.items()
    }
    return found, seeds


def _covered(paths: list[Path]) -> str:
    """A row a condition, a column a sequence; a diagnosis holds means of tasks, so intervals are over tasks and seeds."""
    fallen, seeds = _fallen(paths)
    lines = [
        f"| five-shot answers, written out | {' | '.join(fallen)} |",
        "| :-- |" + " --: |" * len(fallen),
        f"| tasks that fell | {' | '.join(str(len(found['before'])) for found in fallen.values())} |",
        f"| seeds | {' | '.join(str(seeds[sequence]) for sequence in fallen)} |",
    ]
    for key, label in _CONDITIONS_OF_THE_FALLEN.items():
        digits = 4 if "effect" in label else 2
        means = [(mean_of_means(found[key]), *bootstrap_interval(found[key])) for found in fallen.values()]
        told = " | ".join(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" for mean, low, high in means)
        lines.append(f"| {label} | {told.replace('-', _MINUS)} |")
    return "\n".join(lines) + "\n"


def _as_diagnosis(paths: list[Path]) -> dict[str, Any]:
    """The same means in the shape of a diagnosis, a sequence in the place of a task, for its figure."""

    def estimate(values: list[list[float]]) -> dict[str, Any]:
        return {"value": mean_of_means(values), "interval": list(bootstrap_interval(values))}

    fallen, seeds = _fallen(paths)
    tasks = {}
    for sequence, found in fallen.items():
        means = {key: estimate(values) for key, values in found.items()}
        vector = means[_REPAIR]["value"]
        over = {key: {"value": vector - means[key]["value"]} for key in _CONDITIONS_OF_THE_FALLEN if key in _CONTROLS}
        rungs = [{"name": _REPAIR, "accuracy": means[_REPAIR], "over": over}]
        rungs += [{"name": key, "accuracy": means[key]} for key in found if key.endswith("of the fine-tune")]
        changes = {"in_context": {"base": means["before"], "tuned": means["after"]}}
        name = f"{sequence} ({seeds[sequence]} seed{'s' * (seeds[sequence] > 1)})"
        tasks[name] = {"changes": changes, "written_rungs": rungs}
    return {"diagnosis": {"tasks": tasks}}


_REPAIR = "few-shot+iv(base)"
_CONTROLS = (
    "few-shot+iv(other task)",
    "few-shot+iv(mean of all tasks)",
    "few-shot+iv(random)",
    "few-shot+iv(shuffled heads)",
)
_CONDITIONS_OF_THE_FALLEN = {
    "before": "before training",
    "before, steered": "before training, with θ",
    "after": "after plain training",
    "few-shot+iv(base)": "after, with the θ of before",
    "few-shot+iv(other task)": "after, with another task's",
    "few-shot+iv(mean of all tasks)": "after, with the mean of all tasks'",
    "few-shot+iv(random)": "after, with a random one",
    "few-shot+iv(shuffled heads)": "after, with θ at shuffled heads",
    "few-shot, 0.5 of the fine-tune": "half of the fine-tune",
    "effect_before": "causal effect of the ten heads, before",
    "effect_after": "causal effect of the ten heads, after",
    "cosine": "cosine of θ before and after",
}


def _few_shot(task: dict[str, Any]) -> dict[str, float]:
    """Accuracy of answers written out after examples, with each repair and control, and what changed inside."""
    found = {when: task["changes"]["in_context"][was]["value"] for when, was in (("before", "base"), ("after", "tuned"))}
    for rung in task["written_rungs"]:
        found[rung["name"]] = rung["accuracy"]["value"]
        found |= {name: rung["accuracy"]["value"] - over["value"] for name, over in rung["over"].items()}
        if rung["name"] == _REPAIR:
            found["before, steered"] = rung["accuracy"]["value"] / rung["of_base"]
    return found | task["trace"]


_FORMS = ("in_context", "zero_shot", "instruction")
_CONDITIONS = ("x", "x+c", "x+iv", "x+c+iv", "x+c+other", "x+c+mean", "x+c+random")


def _steering(measured: dict[str, Any]) -> str:
    """First-token accuracy of each task under each condition and mode, with the interval of what is claimed."""
    settings, tasks = measured["settings"], measured["tasks"]
    lines = [
        f"`{settings['model']}`, up to {settings['rows']} test rows a task, {settings['k']} universal heads, scale {settings['scale']:g}; "
        f"summed vectors after layer {measured['layer']}; made from {settings.get('source', 'demonstrations')}.",
        "",
        f"| task | mode | {' | '.join(condition.replace('iv', 'θ') for condition in _CONDITIONS)} |",
        "| :-- | :-- |" + " --: |" * len(_CONDITIONS),
    ]
    for mode, mean in measured["mean"].items():
        for name, table in tasks.items():
            low, high = table[mode]["intervals"]["x+c+iv"]
            cells = [f"{table[mode][c]:.2f}" + f" [{low:.2f}, {high:.2f}]" * (c == "x+c+iv") for c in _CONDITIONS]
            lines.append(f"| {name} | {mode} | {' | '.join(cells)} |")
        for label, measure in (("**mean**", "first_token"), ("mean, whole answers", "exact")):
            lines.append(f"| {label} | {mode} | {' | '.join(f'{mean[measure][c]:.2f}' for c in _CONDITIONS)} |")
    return "\n".join(lines) + "\n"


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
