"""The cost told beforehand counts the tokens that go through the model."""

import tiny

from instruction_vectors.vectors.cost import Cost


def test_tokens_of_all_prompts_and_half_a_token_a_head_are_counted(tok):
    told, asked = [tiny.text(1, 2, 3), tiny.text(4)], [(tiny.text(5, 6), " w1 w2"), (tiny.text(7), " w3")]
    # Every text begins with <s>.
    assert Cost.of(tok, told, asked, heads=12) == Cost(prompts=2, means=4 + 2, own=3 + 2, heads=12)
    assert Cost.of(tok, told, asked, heads=12, whole_answers=True).heads == 12 * (2 + 1) // 2
    assert Cost.of(tok, told, asked, heads=4, estimated=True) == Cost(prompts=2, means=6, own=15, heads=4)
    assert str(Cost.of(tok, told, asked, heads=12)).startswith("cost: about 23 tokens through the model: 6 to average over")
