"""A dose is the norm of what an intervention adds over that of the stream it is added to."""

from dataclasses import replace

import pytest
import tiny
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from instruction_vectors import InstructionVector
from instruction_vectors.errors import DataError, VectorError
from instruction_vectors.models.loading import tokenizer_fingerprint
from instruction_vectors.vectors.dose import dose

HEADS = ((0, 1), (2, 3), (2, 0))


@torch.no_grad()
def stream_after(causal_lm, tok, prompt, layer) -> torch.Tensor:
    """The stream after a layer at the last token, the last layer's before the final norm."""
    ids = torch.tensor([tok(prompt)["input_ids"]])
    kept = []
    handle = causal_lm.model.layers[layer].register_forward_hook(
        lambda module, args, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    causal_lm(input_ids=ids)
    handle.remove()
    return kept[0].reshape(-1, kept[0].shape[-1])[-1]


@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_summed_doses_are_ratios_of_norms(scale, tok):
    causal_lm = tiny.shared("llama")
    vector = InstructionVector.from_means(causal_lm, tiny.means("llama"), HEADS, layer=1)
    streams = [stream_after(causal_lm, tok, prompt, 1) for prompt in tiny.PROMPTS]
    expected = sum(abs(scale) * float(vector.summed.norm() / stream.norm()) for stream in streams) / len(streams)
    found = dose(causal_lm, tok, vector, tiny.PROMPTS, mode="summed", scale=scale)
    assert found == {1: pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize("mode", ["distributed", "replace"])
def test_what_heads_add_is_the_difference_that_the_intervention_makes_to_attention(mode, tok):
    causal_lm, prompt = tiny.shared("llama"), tiny.PROMPTS[0]
    vector = InstructionVector.from_means(causal_lm, tiny.means("llama"), HEADS)
    found = dose(causal_lm, tok, vector, [prompt], mode=mode)
    assert set(found) == {0, 2}
    ids = torch.tensor([tok(prompt)["input_ids"]])
    written = []
    o_proj = tiny.o_projs(causal_lm, "llama")[0]
    handle = o_proj.register_forward_hook(lambda module, args, output: written.append(output[0, -1]))
    with torch.no_grad():
        causal_lm(input_ids=ids)
        with vector.applied(causal_lm, mode=mode):
            causal_lm(input_ids=ids)
    handle.remove()
    change = (written[1] - written[0]).norm()
    assert change > 1e-3
    assert found[0] == pytest.approx(float(change / stream_after(causal_lm, tok, prompt, 0).norm()), rel=1e-5)


def test_what_cannot_have_a_dose_is_refused(tok):
    causal_lm = tiny.shared("llama")
    vector = InstructionVector.from_means(causal_lm, tiny.means("llama"), HEADS)
    with pytest.raises(DataError, match="at least one prompt"):
        dose(causal_lm, tok, vector, [])
    with pytest.raises(VectorError, match="needs a layer"):
        dose(causal_lm, tok, vector, tiny.PROMPTS, mode="summed")


def test_a_vector_of_another_vocabulary_of_the_same_size_is_refused(tok):
    causal_lm = tiny.shared("llama")
    words = tok.get_vocab()
    turned = {word: len(words) - 1 - number for word, number in words.items()}
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(turned, unk_token="<unk>")))
    assert len(other) == len(tok)
    facts = {"tokenizer_fingerprint": tokenizer_fingerprint(other)}
    vector = InstructionVector.from_means(causal_lm, tiny.means("llama"), HEADS, metadata=facts)
    with pytest.raises(VectorError, match="another vocabulary"):
        dose(causal_lm, tok, vector, tiny.PROMPTS)
    assert dose(causal_lm, tok, replace(vector, metadata={"tokenizer_fingerprint": tokenizer_fingerprint(tok)}), tiny.PROMPTS)


def test_another_mode_is_refused(tok):
    causal_lm = tiny.shared("llama")
    vector = InstructionVector.from_means(causal_lm, tiny.means("llama"), HEADS)
    with pytest.raises(VectorError, match="mode must be 'distributed' or"):
        dose(causal_lm, tok, vector, tiny.PROMPTS, mode="distribute")
