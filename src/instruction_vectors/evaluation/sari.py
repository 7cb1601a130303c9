"""SARI: how well a simplification adds, keeps and deletes words against its source and references.

Of each n-gram order 1 to 4, over source I, output O and references R (Xu et al. 2016, *Optimizing Statistical Machine
Translation for Text Simplification*, TACL 4, §4):

    SARI = (F_add + F_keep + P_del) / 3

`F_add`, `F_keep`: mean F1 of n-grams rightly added and kept; `P_del`: mean precision of n-grams deleted. Counts of source
and output are weighted by the number of references. Conventions are those of Hugging Face `evaluate`'s `sari`, which
TRACE scores with: lower case, sacreBLEU's `13a` tokens, 0/0 = 1, recall of kept n-grams over their total count.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from instruction_vectors.errors import DataError, IVError, install_extra

_ORDERS = (1, 2, 3, 4)


def sari(source: str, prediction: str, references: Sequence[str]) -> float:
    """SARI of one sentence, 0 to 1.

    Raises:
        DataError: no reference.
        IVError: sacrebleu is not installed.
    """
    if not references:
        raise DataError("SARI needs at least one reference")
    parts = [
        _operations(_grams(source, n), _grams(prediction, n), [_grams(reference, n) for reference in references]) for n in _ORDERS
    ]
    return sum(sum(part) for part in parts) / (3 * len(_ORDERS))


def _operations(source: Counter, output: Counter, references: Sequence[Counter]) -> tuple[float, float, float]:
    """F1 of keeping, precision of deleting, F1 of adding, for one n-gram order."""
    wanted: Counter = sum(references, Counter())
    source = Counter({gram: count * len(references) for gram, count in source.items()})
    output = Counter({gram: count * len(references) for gram, count in output.items()})

    kept, keepable = source & output, source & wanted
    right = kept & wanted
    keep = _f1(_mean_share(right, kept), _share(right.total(), keepable.total()))

    deleted = source - output
    delete = _mean_share(deleted - wanted, deleted)

    added, addable = set(output) - set(source), set(wanted) - set(source)
    good = len(added & set(wanted))
    return keep, delete, _f1(_share(good, len(added)), _share(good, len(addable)))


def _mean_share(part: Counter, whole: Counter) -> float:
    return sum(part[gram] / count for gram, count in whole.items()) / len(whole) if whole else 1.0


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _grams(text: str, order: int) -> Counter:
    words = _tokenizer()(text.lower()).split()
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


@cache
def _tokenizer() -> Any:
    try:
        from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    except ImportError as error:
        raise IVError(f"SARI needs the data extra; run {install_extra('data')}") from error
    return Tokenizer13a()
