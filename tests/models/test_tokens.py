"""Texts to token ids: what a tokenizer puts around a text, and where a prompt ends and its answer begins."""

import pytest
import tiny
from tokenizers import processors

from instruction_vectors.errors import DataError
from instruction_vectors.models.tokens import encode, encode_pair


@pytest.fixture
def closing():
    """A tokenizer that ends every text it reads."""
    tokenizer = tiny.tokenizer()
    single = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.backend_tokenizer.post_processor = single
    return tokenizer


def test_a_prompt_goes_on_so_no_end_is_read_after_it(closing):
    assert closing("w0 w1")["input_ids"] == [1, 4, 5, 2]
    assert encode(closing, "w0 w1") == encode(tiny.tokenizer(), "w0 w1") == [1, 4, 5]
    assert encode_pair(closing, "w0 w1", " w2") == ([1, 4, 5], [6])


def test_an_end_that_the_text_itself_has_stays():
    assert encode(tiny.tokenizer(), "w0 </s>") == [1, 4, 2]
    assert encode(tiny.tokenizer(), "w0 </s>\n") == [1, 4, 2]


def test_a_start_that_is_the_end_token_too_is_no_end():
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "<s>"
    assert encode(tokenizer, "") == [1]


def test_a_text_that_brings_its_own_start_gets_no_second():
    assert encode(tiny.tokenizer(), "<s> w0") == [1, 4]


def test_what_tokenises_to_nothing_is_refused():
    with pytest.raises(DataError, match="tokenises to nothing"):
        encode(tiny.tokenizer(bos=False), "")
    with pytest.raises(DataError, match="tokenises to nothing after the prompt ending 'w0'"):
        encode_pair(tiny.tokenizer(), "w0", " ")
