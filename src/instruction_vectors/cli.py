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
@click.option("--size", default=1.0, show_default=True, help="How large; 1.0 takes about a quarter of an hour on two slow cores.")
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
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(run: Path) -> None:
    """Render RUN/results.json as RUN/report.html; an unfinished run shows what there is.

    \b
    Example:
      iv report runs/demo
    """
    from instruction_vectors.files import read_json
    from instruction_vectors.reporting import write_report

    click.echo(write_report(read_json(run / "results.json"), run / "report.html"))


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
