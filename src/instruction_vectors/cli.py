"""The `iv` command: one thin function a verb. Heavy imports happen inside the verbs."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from instruction_vectors.errors import IVError
from instruction_vectors.version import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Verbs(click.Group):
    """Turns what this package refuses into one line and exit status 1, and Ctrl-C into a word on how to go on."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IVError as error:
            click.echo(f"iv: {error} [{error.code}]", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("iv: stopped; finished steps are kept, the same command goes on from here", err=True)
            ctx.exit(130)


@click.group(cls=_Verbs, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="iv")
def main() -> None:
    """See what a fine-tune breaks, find out whether it is gone or only covered, and keep it from breaking.

    Exit status: 0 done, 1 the work failed, 2 bad use, 130 stopped by Ctrl-C.
    """


@main.command()
@click.option("--size", default=1.0, show_default=True, help="How large; 1.0 takes about ten minutes on two cores.")
@click.option("--seed", default=0, show_default=True, help="What every draw depends on.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print results.json to standard output.")
def demo(size: float, seed: int, out: Path, as_json: bool) -> None:
    """The main job end to end on a real model: vectors, steering, forgetting with and without guidance.

    Stop it with Ctrl-C; the same command goes on from the last finished step.

    \b
    Example:
      iv demo --size 0.2 --out runs/quick
    """
    _quiet()
    from instruction_vectors.continual.stage import StageConfig
    from instruction_vectors.demo import DemoConfig, run_demo

    results = run_demo(DemoConfig(size=size, seed=seed, stage=StageConfig(seed=seed)), out)
    if as_json:
        click.echo(json.dumps(results))
    else:
        click.echo(f"{out / 'report.html'}\n{out / 'results.json'}")


class _TaskVerbs(click.Group):
    """`iv tasks` alone lists, `iv tasks NAME...` shows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            names = [argument for argument in args if not argument.startswith("-")]
            args = ["show" if names else "list", *args]
        return super().parse_args(ctx, args)


@main.group(cls=_TaskVerbs)
def tasks() -> None:
    """List and show tasks, check data, fetch benchmarks; `iv tasks` alone lists, `iv tasks NAME...` shows.

    \b
    Example:
      iv tasks
      iv tasks country-capital my_task.jsonl
      iv tasks validate trace --data-dir data
    """


@tasks.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_tasks(as_json: bool) -> None:
    """List the shipped tasks.

    \b
    Example:
      iv tasks list
    """
    from instruction_vectors.tasks import load_task, task_names

    _print_tasks([load_task(name) for name in task_names()], as_json, rows=False)


@tasks.command("show")
@click.argument("names", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show_tasks(names: tuple[str, ...], as_json: bool) -> None:
    """Show tasks with their first rows: a shipped name, or a .jsonl or .yaml file of your own.

    \b
    Example:
      iv tasks show country-capital my_task.jsonl
    """
    from instruction_vectors.tasks import load_task

    _print_tasks([load_task(name) for name in names], as_json, rows=True)


@tasks.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the benchmark.")
@click.option("--task", "only", multiple=True, help="Only this task of the benchmark; may be given again.")
@click.option("--tokenizer", help="Short name, folder or hub id of a model: lengths in its tokens.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Count the rows that are longer.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def validate(
    name: str, data_dir: Path | None, only: tuple[str, ...], tokenizer: str | None, max_tokens: int | None, as_json: bool
) -> None:
    """Check NAME: a benchmark, a shipped task, or a .jsonl or .yaml file of your own.

    Counts rows, repeats, overlaps between train and test, labels and lengths. Exit status 1 where the data is malformed,
    with file and row; overlaps and repeats are reported, not refused, since published benchmarks have some.

    \b
    Example:
      iv tasks validate trace --data-dir data --tokenizer smollm2-135m-instruct --max-tokens 512
      iv tasks validate my_task.yaml
    """
    from instruction_vectors.tasks import benchmark_names, load_benchmark, load_task
    from instruction_vectors.tasks.validate import tokenizer_of
    from instruction_vectors.tasks.validate import validate as check
    from instruction_vectors.tasks.validation_report import render

    if name in benchmark_names() and data_dir is None:
        raise click.UsageError(f"{name} is read from a folder of yours: give --data-dir")
    if max_tokens is not None and tokenizer is None:
        raise click.UsageError("--max-tokens needs --tokenizer")
    subject = load_benchmark(name, data_dir, tasks=only or None) if data_dir is not None else load_task(name)
    report = check(subject, tokenizer_of(tokenizer) if tokenizer else None, max_tokens)
    click.echo(json.dumps(report.to_dict(), ensure_ascii=False) if as_json else render(report))


@tasks.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where to put it.")
def fetch(name: str, data_dir: Path) -> None:
    """Download the published files of benchmark NAME (func or trace), each checked against its SHA-256.

    Stop it with Ctrl-C; the same command goes on where it stopped.

    \b
    Example:
      iv tasks fetch func --data-dir data
    """
    from instruction_vectors.tasks.fetch import fetch as download

    click.echo(f"{data_dir}: {len(download(name, data_dir))} files")


def _print_tasks(loaded: Any, as_json: bool, rows: bool) -> None:
    if as_json:
        click.echo(json.dumps([_task_summary(task, rows) for task in loaded], ensure_ascii=False))
    for task in () if as_json else loaded:
        forms = "both forms" if task.knowledge else "instruction form only"
        click.echo(f"{task.name:26}{len(task.rows):5} rows  {forms:22} {task.instruction}")
        for row in task.rows[:5] if rows else ():
            click.echo(f"    {row.input} → {row.output}")


def _task_summary(task: Any, rows: bool) -> dict[str, Any]:
    summary = {
        "name": task.name,
        "rows": len(task.rows),
        "instructions": task.instructions,
        "knowledge": task.knowledge,
        "options": task.options,
        "kind": task.kind,
        "sources": task.sources,
        "fingerprint": task.fingerprint,
    }
    return summary | ({"examples": [{"input": r.input, "output": r.output} for r in task.rows[:5]]} if rows else {})


@main.command()
@click.argument("task")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the vector.")
@click.option("--heads", "k", type=click.IntRange(min=1), default=10, show_default=True, help="How many heads.")
@click.option("--prompts", type=click.IntRange(min=1), default=25, show_default=True, help="Prompts to average over.")
@click.option("--shots", type=click.IntRange(min=0), default=5, show_default=True, help="Shots a prompt.")
@click.option("--effect-prompts", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts to find the heads on.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the vector's config.json.")
def extract(
    task: str, model: str, out: Path, k: int, prompts: int, shots: int, effect_prompts: int, seed: int, as_json: bool
) -> None:
    """Extract the instruction vector of TASK (a shipped name or a .jsonl file).

    \b
    Example:
      iv extract present-past --out vectors/present-past
    """
    from instruction_vectors.tasks import load_task

    loaded = load_task(task)  # complains before a model is opened
    _quiet()
    from instruction_vectors.models.loading import load
    from instruction_vectors.progress import track
    from instruction_vectors.vectors import extraction

    opened, tokenizer = load(model)
    with track("Exact effects of every head", effect_prompts, "prompt") as advance:
        vector = extraction.extract(
            opened,
            tokenizer,
            loaded,
            k=k,
            prompts=prompts,
            shots=shots,
            effect_prompts=effect_prompts,
            seed=seed,
            progress=advance,
        )
    vector.save_pretrained(out)
    click.echo((out / "config.json").read_text() if as_json else f"{out}: {len(vector.heads)} heads {list(vector.heads)}")


@main.command()
@click.argument("task")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--prompts", type=click.IntRange(min=1), default=8, show_default=True, help="Counterfactual prompts.")
@click.option("--mean-prompts", type=click.IntRange(min=1), default=25, show_default=True, help="Prompts to average over.")
@click.option("--shots", type=click.IntRange(min=0), default=5, show_default=True, help="Shots a prompt.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many heads to list.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for all effects.")
@click.option("--json", "as_json", is_flag=True, help="Print the listed heads as JSON.")
def effects(
    task: str, model: str, prompts: int, mean_prompts: int, shots: int, top: int, seed: int, out: Path | None, as_json: bool
) -> None:
    """Exact causal effect of every attention head on TASK (a shipped name or a .jsonl file), the strongest listed.

    \b
    Example:
      iv effects present-past --prompts 4 --out effects.json
    """
    from instruction_vectors.tasks import load_task

    loaded = load_task(task)  # complains before a model is opened
    _quiet()
    from instruction_vectors.analysis.heads import strongest
    from instruction_vectors.files import write_json
    from instruction_vectors.models.anatomy import anatomy_of
    from instruction_vectors.models.loading import load
    from instruction_vectors.progress import track
    from instruction_vectors.vectors import extraction

    opened, tokenizer = load(model)
    anatomy = anatomy_of(opened)
    cost = anatomy.n_heads * anatomy.n_layers // 2
    click.echo(f"cost: {prompts} prompts, each its own tokens and about {cost} more (heads x layers / 2)", err=True)
    built = extraction.demonstrations(loaded, prompts=mean_prompts, shots=shots, seed=seed)
    means = extraction.mean_head_outputs(opened, tokenizer, [text for text, _ in built])
    with track("Exact effects of every head", prompts, "prompt") as advance:
        found = extraction.head_effects(
            opened, tokenizer, loaded, means, prompts=prompts, shots=shots, seed=seed, progress=advance
        )
    if out:
        write_json(out, {"task": task, "model": model, "shots": shots, "seed": seed, "effects": found.tolist()})
    heads = strongest([found], top, seed=seed)
    if as_json:
        click.echo(json.dumps(heads))
        return
    for head in heads:
        click.echo("({layer}, {head})  {effect:+.4f}  [{low:+.4f}, {high:+.4f}]".format(**head))


@main.command("eval")
@click.argument("tasks", nargs=-1, required=True)
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--adapter", help="Folder or hub id of a PEFT adapter to put over it.")
@click.option("--vector", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a vector to apply.")
@click.option("--scale", default=1.0, show_default=True, help="How strongly; negative subtracts.")
@click.option("--rows", type=click.IntRange(min=1), default=40, show_default=True, help="Rows a task.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, row by row.")
def evaluate(
    tasks: tuple[str, ...],
    model: str,
    adapter: str | None,
    vector: Path | None,
    scale: float,
    rows: int,
    seed: int,
    as_json: bool,
) -> None:
    """What a model can do on TASKS: five-shot, zero-shot, and knowledge against instruction on the same rows.

    \b
    Example:
      iv eval country-capital present-past --rows 20
    """
    from instruction_vectors.evaluation.abilities import Probe, measure
    from instruction_vectors.tasks import load_task

    probes = {name: Probe.of(load_task(name), rows, seed=seed) for name in tasks}  # complains before a model is opened
    _quiet()
    from instruction_vectors.evaluation.statistics import bootstrap_interval
    from instruction_vectors.models.loading import load
    from instruction_vectors.progress import track
    from instruction_vectors.vectors.vector import InstructionVector

    loaded = InstructionVector.from_pretrained(vector) if vector else None
    opened, tokenizer = load(model, adapter=adapter)
    edit = (lambda where: loaded.applied(opened, scale=scale, positions=where)) if loaded else None
    measured = {}
    with track("Measuring", len(probes), "task") as advance:
        for done, (name, probe) in enumerate(probes.items(), start=1):
            measured[name] = measure(opened, tokenizer, probe, edit=edit)
            advance(done)
    if as_json:
        click.echo(json.dumps(measured))
        return
    for name, forms in measured.items():
        for form, values in forms.items():
            low, high = bootstrap_interval(values, seed=seed)
            click.echo(f"{name}  {form}  {sum(values) / len(values):.2f}  [{low:.2f}, {high:.2f}]  n={len(values)}")


@main.command()
@click.argument("prompt")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--vector", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a vector to apply.")
@click.option("--scale", default=1.0, show_default=True, help="How strongly; negative subtracts.")
@click.option("--mode", type=click.Choice(["distributed", "summed", "replace"]), default="distributed", show_default=True)
@click.option("--tokens", default=20, show_default=True, help="New tokens at most.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def generate(prompt: str, model: str, vector: Path | None, scale: float, mode: str, tokens: int, as_json: bool) -> None:
    """Continue PROMPT greedily, with a vector applied where the prompt ends (\\n is a line break).

    \b
    Example:
      iv generate "Give the past tense of the verb.\\nInput: sing\\nOutput:" --vector vectors/present-past
    """
    _quiet()
    from contextlib import nullcontext

    from instruction_vectors.models.loading import load
    from instruction_vectors.vectors.vector import InstructionVector

    loaded = InstructionVector.from_pretrained(vector) if vector else None
    opened, tokenizer = load(model)
    text = prompt.replace("\\n", "\n")
    inputs = tokenizer(text, return_tensors="pt").to(opened.device)
    with loaded.applied(opened, mode=mode, scale=scale) if loaded else nullcontext():  # type: ignore[arg-type]
        ids = opened.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    written = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    click.echo(json.dumps({"prompt": text, "continuation": written}, ensure_ascii=False) if as_json else written)


@main.command()
@click.option("--base", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--tuned", help="Its fine-tuned child: folder or hub id of whole weights, or folder of an adapter.")
@click.option("--adapter", type=click.Path(exists=True, file_okay=False), help="Folder of an adapter over the base.")
@click.option("--task", "tasks", multiple=True, help="Shipped name or .jsonl/.yaml file; repeat. Default: all with both forms.")
@click.option("--last", help="The task last trained on: its vector is then tried subtracted.")
@click.option("--rows", type=click.IntRange(min=1), default=24, show_default=True, help="Rows a task.")
@click.option("--relearn", type=click.IntRange(min=0), default=0, help="Also try this many steps of relearning (slow).")
@click.option("--seed", default=0, show_default=True, help="What every draw depends on.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for numbers, tables, vectors.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON instead of Markdown.")
@click.pass_context
def diagnose(
    ctx: click.Context, base: str, tuned: str | None, adapter: str | None, tasks: tuple[str, ...], last: str | None, rows: int,
    relearn: int, seed: int, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Say what a fine-tune did to each task: intact, suppressed, lost, or inconclusive.

    Exit status 1 where a task is suppressed or lost (or the work failed), fit for a CI gate.

    \b
    Example:
      iv diagnose --adapter runs/demo/adapters/sequential/3 --task antonym --task present-past --out runs/diagnosis
    """
    if (tuned is None) == (adapter is None):
        raise click.UsageError("give --tuned or --adapter, one of the two")
    _quiet()
    from instruction_vectors.analysis.diagnosis import diagnose as examine
    from instruction_vectors.analysis.plan import Plan
    from instruction_vectors.analysis.remedies import write_diagnosis
    from instruction_vectors.analysis.words import markdown

    plan = Plan(rows=rows, relearn_steps=relearn, seed=seed)
    found = examine(base, tuned or adapter, tasks or None, last=last, plan=plan)
    if out:
        write_diagnosis(found, out)
    click.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else markdown(found))
    ctx.exit(1 if found.bad else 0)


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(run: Path) -> None:
    """Render RUN/results.json, or the finished cells of a grid, as RUN/report.html; an unfinished run shows what there is.

    \b
    Example:
      iv report runs/demo
    """
    from instruction_vectors.continual.gather import gather
    from instruction_vectors.files import read_json
    from instruction_vectors.reporting import write_report

    results = gather(run) if (run / "cells").is_dir() else read_json(run / "results.json")
    click.echo(write_report(results, run / "report.html"))


@main.command()
@click.option("--model", help="Also open this model (short name, folder or hub id) and check that its heads are found.")
@click.option("--json", "as_json", is_flag=True, help="Print every finding as JSON.")
@click.pass_context
def doctor(ctx: click.Context, model: str | None, as_json: bool) -> None:
    """Check versions, devices, threads, processes, cache, disk and data, and say what to fix.

    Exit status 1 where something stops the work; a warning does not.

    \b
    Example:
      iv doctor
      iv doctor --model smollm2-135m-instruct --json
    """
    import contextlib

    from rich.console import Console

    from instruction_vectors.doctor import examine, healthy, show, to_dict

    with Console(stderr=True).status("Looking around"):
        with contextlib.suppress(ImportError):  # a broken installation is what this verb is for
            _quiet()
        findings = examine(model)
    if as_json:
        click.echo(json.dumps(to_dict(findings), ensure_ascii=False))
    else:
        show(findings, Console())
    ctx.exit(0 if healthy(findings) else 1)


@main.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML with the same names as these flags, and any other setting of a cell.",
)
@click.option("--benchmark", help="func, long, trace, superni, or shipped (the package's own tasks).")
@click.option(
    "--sequence", multiple=True, help="Order of the benchmark; with shipped, task names parted by commas. May be repeated."
)
@click.option("--methods", help="Parted by commas; sequential by default.")
@click.option("--guided", type=click.Choice(["no", "yes", "both"]), help="Without guidance, with it, or each method both ways.")
@click.option("--guides", help="Guidance and its controls by name, in place of --guided: none,iv,plain_kl,random,...")
@click.option("--seeds", help="Parted by commas.")
@click.option("--learning-rates", help="Parted by commas.")
@click.option("--epochs", help="Parted by commas.")
@click.option("--train-rows", type=int, help="Rows a task.")
@click.option("--test-rows", type=int, help="Rows a task of the score matrix.")
@click.option("--general", multiple=True, help="Also measure this set of eval/ in the data folder (arc_easy, ...); repeatable.")
@click.option("--batch-size", type=int, help="Rows a step.")
@click.option("--triangle", is_flag=True, default=None, help="Measure only the tasks learnt so far.")
@click.option("--model", help="Short name, hub id or folder.")
@click.option(
    "--data-dir", envvar="IV_DATA_DIR", type=click.Path(file_okay=False, path_type=Path), help="Where benchmarks are read from."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/bench"), show_default=True)
@click.option("--list-cells", is_flag=True, help="Print the cells' names and stop.")
@click.option("--cell", "only", help="Run this cell only (SLURM: one job a cell).")
@click.option("--ray", "on_ray", is_flag=True, help="Run the cells on a local Ray cluster.")
@click.option("--ray-address", help="Run the cells on this Ray cluster.")
@click.option("--cpus", default=2.0, show_default=True, help="On Ray: processors a cell.")
@click.option("--gpus", default=0.0, show_default=True, help="On Ray: accelerators a cell.")
@click.option("--memory-gb", default=4.0, show_default=True, help="On Ray: memory a cell.")
@click.option("--watch", is_flag=True, help="Show how far the grid is, until it is finished; runs nothing.")
@click.option(
    "--replay",
    "replayed",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Run the cell of this result.json again and compare.",
)
@click.option(
    "--bisect",
    "bisected",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Which task of this result.json's sequence broke what.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    out: Path,
    data_dir: Path | None,
    list_cells: bool,
    only: str | None,
    on_ray: bool,
    ray_address: str | None,
    cpus: float,
    gpus: float,
    memory_gb: float,
    watch: bool,
    replayed: Path | None,
    bisected: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Task sequences under many methods, guided or not: a grid of cells, each resumable.

    Finished cells are never run again; a cell that was stopped goes on from its last finished step. With --replay the
    exit status is 1 if a number differs.

    \b
    Example:
      iv bench --benchmark shipped --sequence english-french,sentiment-word --guided both --train-rows 100
      iv bench --benchmark func --sequence A --methods sequential,olora,ewc --guided both --seeds 0,1,2 --data-dir data
    """
    _quiet()
    from instruction_vectors.continual import bench as grids

    if bisected:
        _bisect(bisected, as_json)
        return
    if replayed:
        from instruction_vectors.continual.replay import replay

        different = replay(replayed, out / "replay", data_dir)
        click.echo(json.dumps({"different": different}) if as_json else ", ".join(different) or "the same numbers")
        ctx.exit(1 if different else 0)
    cells = grids.cells_of(_bench_settings(flags))
    if list_cells:
        click.echo("\n".join(cell.name for cell in cells))
        return
    if only:
        cells = [cell for cell in cells if cell.name == only]
        if not cells:
            raise click.BadParameter(f"no cell {only!r}; --list-cells names them", param_hint="--cell")
    if watch:
        grids.watch(cells, out)
        return
    if on_ray or ray_address:
        from instruction_vectors.continual.ray_grid import run_on_ray

        results = run_on_ray(cells, out, data_dir, address=ray_address, cpus=cpus, gpus=gpus, memory_gb=memory_gb)
    else:
        from instruction_vectors.continual.grid import run_grid

        results = run_grid(cells, out, data_dir)
    click.echo(json.dumps(results) if as_json else "\n".join(str(out / "cells" / cell.name / "result.json") for cell in cells))


def _bench_settings(flags: dict[str, Any]) -> dict[str, Any]:
    from instruction_vectors.continual.bench import AXES, read_settings

    guided = {"no": ["none"], "yes": ["iv"], "both": ["none", "iv"], None: None}[flags.pop("guided")]
    path = flags.pop("config")
    settings: dict[str, Any] = read_settings(path) if path else {}
    batch = flags.pop("batch_size")
    for name, value in flags.items():
        if value is not None and value != ():
            settings[name] = value.split(",") if name in AXES else value
    if guided is not None:
        settings["guides"] = guided
    if batch is not None:
        settings["stage"] = {**settings.get("stage", {}), "batch_size": batch}
    return settings


def _bisect(path: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from instruction_vectors.continual.bisect import bisect
    from instruction_vectors.files import read_json

    breaks = bisect(read_json(path))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in breaks]))
        return
    for each in breaks:
        change = f"{each.drop:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"
        click.echo(f"{each.ability}: {change}, {'not broken' if each.after is None else f'broken by {each.after}'}")


def _quiet() -> None:
    """Leave the screen to our own progress."""
    import warnings

    # Notices of one library to another about coming versions, of no use to whoever runs a command.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
