"""What a vector's heads cost to find, counted before anything runs: tokens that go through the whole model."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from instruction_vectors.models.tokens import encode, encode_pair


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens, each of which passes through all layers once (or two through half of them).

    Attributes:
        prompts: counterfactual prompts.
        means: of the prompts that head outputs are averaged over, tokens that they share counted for each.
        own: of the counterfactual prompts themselves; three times where effects are estimated first (a forward and a backward).
        heads: one for every second head, times the tokens measured of an answer: a head's row joins the sweep at its layer.
    """

    prompts: int
    means: int
    own: int
    heads: int

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, told: Sequence[str], asked: Sequence[tuple[str, str]], *,
        heads: int, estimated: bool = False, whole_answers: bool = False,
    ) -> "Cost":  # fmt: skip
        """Count them.

        Args:
            tokenizer: the model's.
            told: prompts to average over.
            asked: counterfactual prompts with their answers.
            heads: how many heads are measured.
            estimated: whether all heads are estimated before.
            whole_answers: whether the whole answer is measured, not its first token.
        """
        lengths = [len(encode_pair(tokenizer, *pair)[1]) if whole_answers else 1 for pair in asked]
        own = sum(len(encode(tokenizer, prompt)) for prompt, _ in asked)
        means = sum(len(encode(tokenizer, prompt)) for prompt in told)
        return cls(len(asked), means, own * (3 if estimated else 1), heads * sum(lengths) // 2)

    def __str__(self) -> str:
        total = self.means + self.own + self.heads
        return (
            f"cost: about {total:,} tokens through the model: {self.means:,} to average over, {self.own:,} of "
            f"{self.prompts} counterfactual prompts, {self.heads:,} for their heads (half a token a head); many more where a "
            "family does not fit the sweep"
        )
