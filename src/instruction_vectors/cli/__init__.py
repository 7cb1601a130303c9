"""The `iv` command: one thin function a verb, one verb a file. Heavy imports happen inside the verbs."""

import click

from instruction_vectors.cli.bench import bench
from instruction_vectors.cli.demo import demo
from instruction_vectors.cli.diagnose import diagnose
from instruction_vectors.cli.doctor import doctor
from instruction_vectors.cli.effects import effects
from instruction_vectors.cli.evaluate import evaluate
from instruction_vectors.cli.export import export
from instruction_vectors.cli.extract import extract
from instruction_vectors.cli.generate import generate
from instruction_vectors.cli.group import Verbs
from instruction_vectors.cli.report import report
from instruction_vectors.cli.tasks import tasks
from instruction_vectors.cli.train import train
from instruction_vectors.version import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=Verbs, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="iv")
def main() -> None:
    """See what a fine-tune breaks, find out whether it is gone or only covered, and keep it from breaking.

    Exit status: 0 done, 1 the work failed, 2 bad use, 3 a bad verdict (iv diagnose), 130 stopped by Ctrl-C.
    """


for verb in (bench, demo, diagnose, doctor, effects, evaluate, export, extract, generate, report, tasks, train):
    main.add_command(verb)
