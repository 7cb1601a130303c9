"""How likely a model finds given answers: first token, whole answer, rank classification; each prefix computed once.

Prompts and their possible answers go into prefix trees (`models.tree`), so the shots that prompts share, and the prompt
that options share, run through the model once. Scores equal those of separate forwards.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, ModelError
from instruction_vectors.evaluation.endings import Endings, Ends
from instruction_vectors.evaluation.generation import context_length
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, evaluating
from instruction_vectors.models.hooks import refuse_ends_edited
from instruction_vectors.models.tokens import encode_pair
from instruction_vectors.models.tree import TokenTree, chunks, packs
from instruction_vectors.tasks.prompts import Prompt

Edit = Callable[[Tensor], AbstractContextManager[None]]
"""Makes an intervention for given positions, e.g. `lambda where: vector.applied(model, positions=where)`."""
TokenPair = tuple[list[int], list[int]]
"""Token ids of a prompt and of an answer after it."""
Normalisation = Literal["sum", "token", "character"]
Rounding = Literal["least", "lm_eval"]
"""How log-probabilities are rounded: as little as float32 logits allow, or as lm-eval's default rounds them."""


@dataclass(frozen=True, slots=True)
class Score:
    """What the model makes of one answer after one prompt.

    Attributes:
        logprob: log P(answer | prompt), summed over the answer's tokens, in nats.
        tokens: number of the answer's tokens.
        first_token: greedy decoding would begin with the answer's first token.
        exact: greedy decoding would write the whole answer and then end the word (None if not asked for), perhaps with a token
            that holds the answer's last one and what ends it: `greedy`, and of one token `first_token`, are then False.
        characters: length of the answer.
        greedy: greedy decoding would write the whole answer, whatever comes after it.
    """

    logprob: float
    tokens: int
    first_token: bool
    exact: bool | None
    characters: int
    greedy: bool = False

    def normalised(self, by: Normalisation) -> float:
        """The log-probability as it is, per token, or per character."""
        return self.logprob / {"sum": 1, "token": self.tokens, "character": self.characters}[by]


def score(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    exact: bool | Sequence[bool] = False,
    ends: Ends = "word",
    edit: Edit | Sequence[Edit | None] | None = None,
    max_nodes: int = 512,
    progress: Callable[[int], None] | None = None,
) -> list[list[Score]]:
    """Score every answer after its prompt.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        prompts: texts that end where an answer begins.
        answers: for each prompt, the answers to score, each with its own leading space if it needs one.
        exact: also tell whether greedy decoding writes the whole answer (costs one more token an answer); for all prompts
            or for each.
        ends: what must follow a whole answer: something that ends its last word, or the end of the line or text.
        edit: an intervention at the last token of every prompt, or one (or None) for each prompt: a prompt asked for under
            several interventions is then computed once but for its last token.
        max_nodes: tokens a forward; bounds memory, does not change results.
        progress: called with the number of prompts done.

    Returns:
        For each prompt, a `Score` for each answer, in the given order.

    Raises:
        DataError: an answer that tokenises to nothing, a prompt without answers, or one that is longer than the model's
            context with its answer.
        ModelError: logits that are no numbers.
        HookError: inside a block that edits the last token read (`with vector.applied(model)`), where answers are read too.
    """
    if len(prompts) != len(answers):
        raise DataError(f"{len(prompts)} prompts but {len(answers)} lists of answers")
    for number, row in enumerate(answers, start=1):
        if not row:
            raise DataError(f"prompt {number} has no answers to score")
    return score_tokens(
        model,
        [[encode_pair(tokenizer, prompt, answer) for answer in row] for prompt, row in zip(prompts, answers, strict=True)],
        characters=[[len(answer.strip()) or len(answer) for answer in row] for row in answers],
        exact=exact,
        endings=Endings.of(tokenizer, ends) if exact else None,
        edit=edit,
        max_nodes=max_nodes,
        progress=progress,
    )


@torch.no_grad()
def score_tokens(
    model: nn.Module,
    pairs: Sequence[Sequence[TokenPair]],
    *,
    characters: Sequence[Sequence[int]],
    exact: bool | Sequence[bool] = False,
    endings: Endings | None = None,
    edit: Edit | Sequence[Edit | None] | None = None,
    rounding: Rounding = "least",
    max_nodes: int = 512,
    progress: Callable[[int], None] | None = None,
) -> list[list[Score]]:
    """`score` for texts that are tokens already.

    Args:
        model: a decoder-only causal language model.
        pairs: for each prompt, the ids of the prompt and of an answer, once for each answer; neither is empty.
        characters: for each prompt, the length of each answer in characters.
        exact: as in `score`.
        endings: what may follow a whole answer; needed where `exact` is asked for.
        edit: as in `score`.
        rounding: `lm_eval` for numbers that are to be set beside lm-eval's: its log-softmax over the vocabulary is in
            float32, which on a CPU is off by about 1e-5 a token, always to the same side.
        max_nodes: as in `score`.
        progress: as in `score`.

    Raises:
        DataError, ModelError, HookError: as in `score`.
    """
    anatomy = anatomy_of(model)
    edits = list(edit) if isinstance(edit, Sequence) else [edit] * len(pairs)
    if len(edits) != len(pairs):
        raise DataError(f"{len(pairs)} prompts but {len(edits)} edits")
    wanted = [exact] * len(pairs) if isinstance(exact, bool) else list(exact)
    if len(wanted) != len(pairs):
        raise DataError(f"{len(pairs)} prompts but {len(wanted)} values of exact")
    _check_room(context_length(anatomy), pairs, wanted)
    flat = [_Pair(i, k, *pair, whole=wanted[i]) for i, row in enumerate(pairs) for k, pair in enumerate(row)]
    if any(len(pair.read) > len(pair.prompt) for pair in flat):
        refuse_ends_edited(anatomy, "pass edit=lambda where: vector.applied(model, positions=where) in place of the `with` block")
    results: list[list[Score | None]] = [[None] * len(row) for row in pairs]
    done = 0
    with evaluating(anatomy.causal_lm):
        for group in _groups(anatomy, flat, max_nodes):
            for pair, values in zip(group, _score_group(anatomy, group, endings, edits, rounding), strict=True):
                results[pair.row][pair.column] = Score(**values, characters=characters[pair.row][pair.column])
            done += len(group)
            if progress:
                progress(round(len(pairs) * done / len(flat)))
    return results  # type: ignore[return-value]  # every place was filled


def _check_room(context: int | None, pairs: Sequence[Sequence[TokenPair]], wanted: Sequence[bool]) -> None:
    """A model reads nonsense beyond its context, most without a word."""
    for number, (row, whole) in enumerate(zip(pairs, wanted, strict=True), start=1):
        longest = max(len(prompt) + len(target) for prompt, target in row)
        # The last token of an answer is predicted, not read, unless what follows it is asked for.
        if context is not None and longest - (not whole) > context:
            raise DataError(
                f"prompt {number} takes {longest} tokens with its longest answer, more than the model's {context}; "
                "shorten it, or take fewer shots"
            )


@dataclass(frozen=True, slots=True)
class _Pair:
    """One answer after its prompt: its place in the results, its ids, and whether it is to be found whole."""

    row: int
    column: int
    prompt: list[int]
    target: list[int]
    whole: bool
    read: list[int] = field(init=False)

    def __post_init__(self) -> None:
        # Unless what follows the answer is asked for, its last token is only predicted, never read.
        object.__setattr__(self, "read", self.prompt + (self.target if self.whole else self.target[:-1]))


_FORWARD_COST = 16
"""What a forward costs beyond its tokens (reading the weights once), in tokens."""


def _groups(anatomy: Anatomy, pairs: Sequence[_Pair], max_nodes: int) -> Iterator[list[_Pair]]:
    """Pairs that go into one forward: all answers of a prompt together, and prompts that begin alike side by side.

    A group grows until the attention among its tokens, which is quadratic, costs more than a forward of its own would,
    the tokens shared with the group before computed anew included; and never beyond `max_nodes`.
    """
    if not packs(anatomy):
        yield from ([pair] for pair in pairs)
        return
    rows: dict[int, list[_Pair]] = {}
    for pair in pairs:
        rows.setdefault(pair.row, []).append(pair)
    units = [sorted(row, key=lambda pair: pair.read) for row in rows.values()]
    group: list[_Pair] = []
    size = 0
    for unit in sorted(units, key=lambda unit: (unit[0].read, unit[0].row)):
        alone = _nodes([], unit)
        if alone > max_nodes:
            yield from ([unit[i] for i in part] for part in chunks(anatomy, [pair.read for pair in unit], max_nodes))
            continue
        new = _nodes(group[-1].read, unit) if group else alone
        # A token reads one pair of keys and values for 6 * hidden multiplications with weights (12 hidden^2 a layer).
        attention = 2 * size * new / (6 * anatomy.hidden_size)
        if group and (size + new > max_nodes or attention > alone - new + _FORWARD_COST):
            yield group
            group, size, new = [], 0, alone
        group = group + unit
        size += new
    if group:
        yield group


def _nodes(before: Sequence[int], unit: Sequence[_Pair]) -> int:
    """Tokens that a unit, in sorted order, adds to a tree whose last sequence is `before`."""
    total = 0
    for pair in unit:
        shared = next(
            (k for k, (a, b) in enumerate(zip(before, pair.read, strict=False)) if a != b), min(len(before), len(pair.read))
        )
        total += len(pair.read) - shared
        before = pair.read
    return total


def _score_group(
    anatomy: Anatomy, pairs: Sequence[_Pair], endings: Endings | None, edits: Sequence[Edit | None], rounding: Rounding
) -> Iterator[dict[str, Any]]:
    """One forward; for each pair the fields of its `Score` but the characters."""
    last_input = [len(pair.prompt) - 1 for pair in pairs]
    # An edited token is shared by the answers of its own prompt, never with another prompt.
    owners = [None if edits[pair.row] is None else pair.row for pair in pairs]
    tree = TokenTree.of([pair.read for pair in pairs], list(zip(last_input, owners, strict=True)))
    places: dict[int, tuple[Edit, Tensor]] = {}
    for pair, path, place in zip(pairs, tree.paths, last_input, strict=True):
        if (edit := edits[pair.row]) is not None:
            where = places.setdefault(id(edit), (edit, torch.zeros(1, len(tree), dtype=torch.bool)))[1]
            where[0, path[place]] = True
    with ExitStack() as stack:
        for edit, where in places.values():
            stack.enter_context(edit(where))
        hidden = anatomy.backbone(**tree.model_inputs(anatomy))[0]
    needed = sorted({node for path, place in zip(tree.paths, last_input, strict=True) for node in path[place:]})
    row_of = {node: row for row, node in enumerate(needed)}
    logits = anatomy.logits(hidden[:, needed])[0]
    # Half precision would round a sum over the vocabulary.
    logits = logits if logits.dtype == torch.float64 else logits.float()
    highest, best = logits.max(-1)
    if not highest.isfinite().all():  # else every ranking would name its first option, and no answer be written
        raise ModelError("the model's logits are not numbers; load it in float32, or look whether its training diverged")
    spans = [path[place : place + len(pair.target)] for pair, path, place in zip(pairs, tree.paths, last_input, strict=True)]
    rows = torch.tensor([row_of[node] for span in spans for node in span], device=logits.device)
    tokens = torch.tensor([token for pair in pairs for token in pair.target], device=logits.device)
    if rounding == "lm_eval":
        logprobs = logits.float().log_softmax(-1)[rows, tokens].tolist()
    else:
        logprobs = (logits[rows, tokens] - logits.logsumexp(-1)[rows]).tolist()
    hits = (best[rows] == tokens).tolist()
    best_of = best.tolist()
    start = 0
    for pair, path, place in zip(pairs, tree.paths, last_input, strict=True):
        span = slice(start, start + len(pair.target))
        start = span.stop
        *before, last = hits[span]
        whole = None
        if pair.whole:
            assert endings is not None
            written, after = (best_of[row_of[path[place + len(pair.target) - back]]] for back in (1, 0))
            whole = all(before) and (endings.after(after) if last else endings.within(pair.target[-1], written))
        yield {
            "logprob": math.fsum(logprobs[span]),
            "tokens": len(pair.target),
            "first_token": hits[span.start],
            "exact": whole,
            "greedy": last and all(before),
        }


def score_prompts(model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], **options: Any) -> list[Score]:
    """Score each prompt's own answer."""
    scored = score(model, tokenizer, [p.text for p in prompts], [[p.target] for p in prompts], **options)
    return [row[0] for row in scored]


def rank(options: Sequence[Score], by: Normalisation = "sum") -> int:
    """Index of the option with the highest log-likelihood (rank classification; Jiang et al. 2406.12227, Figures 3-4)."""
    return max(range(len(options)), key=lambda k: options[k].normalised(by))


def chance_corrected(accuracy: float, chance: float) -> float:
    """`(acc - chance) / (1 - chance)`: 0 for guessing, 1 for always right.

    Raises:
        DataError: a chance of 1, where there was only one option.
    """
    if chance >= 1:
        raise DataError("a choice needs at least two different options")
    return (accuracy - chance) / (1 - chance)


def copies_input(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, input: str) -> bool:
    """Whether the answer's first token is also the input's first token, so that copying would earn the first-token score."""
    answer = encode_pair(tokenizer, prompt.text, prompt.target)[1][0]
    space = prompt.target[: len(prompt.target) - len(prompt.target.lstrip())]
    return answer == encode_pair(tokenizer, prompt.text, space + input)[1][0]
