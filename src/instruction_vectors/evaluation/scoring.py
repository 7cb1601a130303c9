"""How likely a model finds given answers: first token, whole answer, rank classification; each prefix computed once.

Prompts and their possible answers go into prefix trees (`models.tree`), so the shots that prompts share, and the prompt
that options share, run through the model once. Scores equal those of separate forwards.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of
from instruction_vectors.models.tokens import encode_pair
from instruction_vectors.models.tree import TokenTree, chunks
from instruction_vectors.tasks.prompts import Prompt

Edit = Callable[[Tensor], AbstractContextManager[None]]
"""Makes an intervention for given positions, e.g. `lambda where: vector.applied(model, positions=where)`."""
Normalisation = Literal["sum", "token", "character"]


@dataclass(frozen=True, slots=True)
class Score:
    """What the model makes of one answer after one prompt.

    Attributes:
        logprob: log P(answer | prompt), summed over the answer's tokens, in nats.
        tokens: number of the answer's tokens.
        first_token: greedy decoding would begin with the answer's first token.
        exact: greedy decoding would write the whole answer and then end the word (None if not asked for).
    """

    logprob: float
    tokens: int
    first_token: bool
    exact: bool | None
    characters: int

    def normalised(self, by: Normalisation) -> float:
        """The log-probability as it is, per token, or per character."""
        return self.logprob / {"sum": 1, "token": self.tokens, "character": self.characters}[by]


@torch.no_grad()
def score(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    exact: bool = False,
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
        exact: also tell whether greedy decoding writes the whole answer (costs one more token an answer).
        edit: an intervention at the last token of every prompt, or one (or None) for each prompt: a prompt asked for under
            several interventions is then computed once but for its last token.
        max_nodes: tokens a forward; bounds memory, does not change results.
        progress: called with the number of prompts done.

    Returns:
        For each prompt, a `Score` for each answer, in the given order.

    Raises:
        DataError: an answer that tokenises to nothing, or a prompt without answers.
    """
    if len(prompts) != len(answers):
        raise DataError(f"{len(prompts)} prompts but {len(answers)} lists of answers")
    for number, options in enumerate(answers, start=1):
        if not options:
            raise DataError(f"prompt {number} has no answers to score")
    pairs = [(i, k, *encode_pair(tokenizer, p, a)) for i, p in enumerate(prompts) for k, a in enumerate(answers[i])]
    anatomy = anatomy_of(model)
    edits = list(edit) if isinstance(edit, Sequence) else [edit] * len(prompts)
    if len(edits) != len(prompts):
        raise DataError(f"{len(prompts)} prompts but {len(edits)} edits")
    # Without `exact` the last token of an answer is only predicted, never read.
    sequences = [prompt + (target if exact else target[:-1]) for _, _, prompt, target in pairs]
    ends_word = _word_ends(tokenizer) if exact else None
    results: list[list[Score | None]] = [[None] * len(a) for a in answers]
    done = 0
    training = anatomy.causal_lm.training
    anatomy.causal_lm.eval()
    try:
        for group in chunks(anatomy, sequences, max_nodes):
            for index, scored in _score_group(
                anatomy, [pairs[g] for g in group], [sequences[g] for g in group], ends_word, edits
            ):
                i, k = pairs[group[index]][:2]
                results[i][k] = Score(*scored, characters=len(answers[i][k].strip()) or len(answers[i][k]))
            done += len(group)
            if progress:
                progress(round(len(prompts) * done / len(pairs)))
    finally:
        anatomy.causal_lm.train(training)
    return results  # type: ignore[return-value]  # every place was filled


def _score_group(
    anatomy: Anatomy, pairs: list[tuple], sequences: list[list[int]], ends_word: Tensor | None, edits: list[Edit | None]
) -> Iterator[tuple[int, tuple[float, int, bool, bool | None]]]:
    last_input = [len(prompt) - 1 for _, _, prompt, _ in pairs]
    # An edited token is shared by the answers of its own prompt, never with another prompt.
    owners = [None if edits[i] is None else i for i, *_ in pairs]
    tree = TokenTree.of(sequences, list(zip(last_input, owners, strict=True)))
    places: dict[int, tuple[Edit, Tensor]] = {}
    for (i, *_), path, place in zip(pairs, tree.paths, last_input, strict=True):
        if (edit := edits[i]) is not None:
            where = places.setdefault(id(edit), (edit, torch.zeros(1, len(tree), dtype=torch.bool)))[1]
            where[0, path[place]] = True
    with ExitStack() as stack:
        for edit, where in places.values():
            stack.enter_context(edit(where))
        hidden = anatomy.backbone(**tree.model_inputs(anatomy))[0]
    needed = sorted({node for path, place in zip(tree.paths, last_input, strict=True) for node in path[place:]})
    row_of = {node: row for row, node in enumerate(needed)}
    logits = anatomy.logits(hidden[:, needed])[0]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    best = logits.argmax(-1)
    norm = logits.logsumexp(-1)
    for index, ((_, _, _, target), path, place) in enumerate(zip(pairs, tree.paths, last_input, strict=True)):
        rows = torch.tensor([row_of[node] for node in path[place : place + len(target)]], device=logits.device)
        tokens = torch.tensor(target, device=logits.device)
        hits = best[rows] == tokens
        whole = None
        if ends_word is not None:
            follows = int(best[row_of[path[place + len(target)]]])
            # A model may have more outputs than its tokenizer has tokens; the rest write nothing.
            whole = bool(hits.all()) and (follows >= len(ends_word) or bool(ends_word[follows]))
        yield index, (float((logits[rows, tokens] - norm[rows]).sum()), len(target), bool(hits[0]), whole)


def _word_ends(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """For each token of the vocabulary, whether it ends the word before it (does not begin with a letter or digit)."""
    known = getattr(tokenizer, "_iv_word_ends", None)
    if known is None:
        # Decoding after a letter keeps the leading space that some tokenizers strip from a lone token.
        anchor = tokenizer("x", add_special_tokens=False)["input_ids"]
        skip = len(tokenizer.decode(anchor))
        texts = tokenizer.batch_decode([[*anchor, token] for token in range(len(tokenizer))])
        known = torch.tensor([not text[skip : skip + 1].isalnum() for text in texts])
        tokenizer._iv_word_ends = known
    return known


def score_prompts(model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], **options: Any) -> list[Score]:
    """Score each prompt's own answer."""
    scored = score(model, tokenizer, [p.text for p in prompts], [[p.target] for p in prompts], **options)
    return [row[0] for row in scored]


def rank(options: Sequence[Score], by: Normalisation = "sum") -> int:
    """Index of the option with the highest log-likelihood (rank classification; Jiang et al. 2406.12227, Figures 3-4)."""
    return max(range(len(options)), key=lambda k: options[k].normalised(by))


def chance_corrected(accuracy: float, chance: float) -> float:
    """`(acc - chance) / (1 - chance)`: 0 for guessing, 1 for always right (METHOD §1).

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
