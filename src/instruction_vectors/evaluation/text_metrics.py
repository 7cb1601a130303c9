"""Scores of written answers, row by row, each from 0 to 1, by the field's libraries (extra `data`).

Where a row has several references, the best one counts (SARI takes all of them together).
"""

import logging
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from instruction_vectors.errors import DataError, IVError, install_extra
from instruction_vectors.evaluation.sari import sari

logger = logging.getLogger(__name__)

Metric = Callable[[str, Sequence[str]], float]
"""Score of a prediction against references."""


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 if the prediction is a reference, blanks around them aside."""
    return _best(lambda reference: float(prediction.strip() == reference.strip()), references)


def normalised_match(prediction: str, references: Sequence[str]) -> float:
    """`exact_match` of `normalised` texts (SQuAD, NQ)."""
    return _best(lambda reference: float(normalised(prediction) == normalised(reference)), references)


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """F1 of the bags of `normalised` words (Rajpurkar et al. 2016, SQuAD); two empty bags agree."""

    def f1(reference: str) -> float:
        ours, theirs = Counter(normalised(prediction).split()), Counter(normalised(reference).split())
        if not ours or not theirs:
            return float(ours == theirs)
        return 2 * (ours & theirs).total() / (ours.total() + theirs.total())

    return _best(f1, references)


def rouge_l(prediction: str, references: Sequence[str], *, stem: bool = False) -> float:
    """ROUGE-L F1 by `rouge-score` (Lin 2004): words are runs of `[a-z0-9]` in lower case; `stem` for Porter stems."""
    scorer = _rouge(stem)
    return _best(lambda reference: float(scorer.score(reference, prediction)["rougeL"].fmeasure), references)


def edit_similarity(prediction: str, references: Sequence[str]) -> float:
    """`fuzz.ratio` as TRACE scores Py150 (0 to 1 here): 1 - insertions and deletions over the two lengths together.

    By `rapidfuzz`. An empty prediction or reference scores 0, as there.
    """
    fuzz = _library("rapidfuzz.fuzz", "rapidfuzz")
    return _best(lambda reference: fuzz.ratio(prediction, reference) / 100 if prediction and reference else 0.0, references)


METRICS: Mapping[str, Metric] = {
    "exact_match": exact_match,
    "normalised_match": normalised_match,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "rouge_l_stemmed": partial(rouge_l, stem=True),
    "edit_similarity": edit_similarity,
}
"""Metrics by name; `sari` besides, which reads the source too."""


def score_texts(
    metric: str, predictions: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str] | None = None
) -> list[float]:
    """Score of each row.

    Args:
        metric: one of `METRICS`, or `sari`.
        predictions: what was written.
        references: for each row its right answers, one or several.
        sources: for each row the text simplified (`sari` only).

    Raises:
        DataError: unknown metric, unequal lengths, a row without references, SARI without sources.
        IVError: the metric's library is not installed.
    """
    if metric not in (*METRICS, "sari"):
        raise DataError(f"unknown metric {metric!r}; choose {', '.join((*METRICS, 'sari'))}")
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions but {len(references)} rows of references")
    for number, row in enumerate(references, start=1):
        if not row or isinstance(row, str):
            raise DataError(f"row {number}: expected a list of one or more references")
    if metric.startswith("rouge_l") and (unread := sum(not any(map(_ROUGE_READS, row)) for row in references)):
        _tell_unread(unread, tuple(map(tuple, references)))
    if metric != "sari":
        return [METRICS[metric](p, r) for p, r in zip(predictions, references, strict=True)]
    if sources is None or len(sources) != len(predictions):
        raise DataError("SARI compares with the source: give one for each prediction")
    return [sari(s, p, r) for s, p, r in zip(sources, predictions, references, strict=True)]


def normalised(text: str) -> str:
    """Lower case, no punctuation, no English articles, single blanks (SQuAD's evaluation script)."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def code_literals(code: str) -> str:
    """Py150's placeholders as TRACE writes them out before scoring: `<NUM_LIT>` is 0, `<STR_LIT:x>` is x."""
    code = code.replace("<NUM_LIT>", "0").replace("<STR_LIT>", "").replace("<CHAR_LIT>", "")
    return re.sub(r"<(?:STR|NUM|CHAR)_LIT:(.*?)>", r"\1", code, flags=re.DOTALL)


def _best(score: Callable[[str], float], references: Sequence[str]) -> float:
    if not references:
        raise DataError("a row has no reference to score against")
    return max(score(reference) for reference in references)


_ROUGE_READS = re.compile("[a-zA-Z0-9]").search


@cache
def _tell_unread(unread: int, references: tuple[tuple[str, ...], ...]) -> None:
    """Once, though a task is scored at every stage."""
    logger.warning(
        "%d of %d rows have references without any letter from A to Z or digit, which is all that ROUGE-L reads: they score 0",
        unread,
        len(references),
    )


@cache
def _rouge(stem: bool) -> Any:
    return _library("rouge_score.rouge_scorer", "rouge-score").RougeScorer(["rougeL"], use_stemmer=stem)


def _library(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise IVError(f"this metric needs {package}; run {install_extra('data')}") from error
