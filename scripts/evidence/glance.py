"""Every way of training on one line: what is learnt, what is left of it, and what is left of what was never trained on."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, mode

from instruction_vectors.continual.headline import PLAIN, WITHOUT_VECTORS, Arm
from instruction_vectors.continual.methods import method_named
from instruction_vectors.continual.result import Result, probes, rate, way
from instruction_vectors.evaluation.statistics import mean_of_means
from instruction_vectors.reporting.values import DASH

_BETWEEN = " · "


def glance(cells: Sequence[Result]) -> str:
    """Means over tasks and seeds in percent, a number a sequence; plain training first, what shows earlier rows again last.

    A line names its epochs where most cells had others.
    """
    arms: dict[Arm, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    first: dict[str, list[Result]] = {}
    for cell in cells:
        sequence = cell["cell"]["sequence"]
        arms[way(cell), rate(cell)][sequence].append(cell)
        first.setdefault(sequence, [cell])
    sequences = sorted(first)
    named = _BETWEEN.join(sequences)
    heads = [f"{head}: {named}" for head in ("learnt (AP)", "left of it (FP)", "five-shot (IP)", "zero-shot (GP)", "seeds")]
    before = [_each(sequences, first, _asked(0, form)) for form in ("in_context", "zero_shot")]
    rows = [["training", *heads], [":--"] * 6, ["none", DASH, DASH, *before, DASH]]
    usual = mode(rate(cell)[1] for cell in cells)
    for arm in sorted(arms, key=_place):
        seeds = _each(sequences, arms[arm], lambda own: str(len(own)))
        rows.append([_called(arm, usual), *(_each(sequences, arms[arm], measure) for measure in _MEASURES), seeds])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _asked(stage: int, form: str) -> Callable[[list[Result]], str]:
    """The mean over all tasks never trained on that were asked in one form at a stage."""

    def mean(seeds: list[Result]) -> str:
        names = [name for name, probe in seeds[0]["stages"][0]["probes"].items() if form in probe]
        return _percent(mean_of_means([probes(cell, stage, form, names) for cell in seeds]))

    return mean


def _of(score: str) -> Callable[[list[Result]], str]:
    return lambda seeds: _percent(fmean(cell[score]["mean"] for cell in seeds))


_MEASURES = (_of("ap"), _of("fp"), _asked(-1, "in_context"), _asked(-1, "zero_shot"))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _each(sequences: Sequence[str], own: Mapping[str, list[Result]], measure: Callable[[list[Result]], str]) -> str:
    return _BETWEEN.join(measure(own[sequence]) if sequence in own else DASH for sequence in sequences)


def _place(arm: Arm) -> tuple[object, ...]:
    """Plain training first, then what has neither anchors nor earlier rows, then anchors without vectors, with them, and earlier rows."""
    (method, guide), (lr, epochs) = arm
    known = method_named(method.split()[0])
    vectors = known.anchors_steered or guide.split()[0] not in WITHOUT_VECTORS
    return known.keeps_rows, bool(known.anchors_share), vectors, arm[0] != PLAIN, *arm[0], -lr, epochs


def _called(arm: Arm, usual: int) -> str:
    """As `iv bench` is told."""
    (method, guide), (lr, epochs) = arm
    for_long = f", {epochs} epoch{'s' * (epochs > 1)}" * (epochs != usual)
    return f"`{method}`{f', `{guide}`' * (guide != 'none')}, lr {lr:g}{for_long}"
