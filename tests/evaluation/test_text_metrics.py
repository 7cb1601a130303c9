"""Text metrics by values worked out by hand, and SARI's published example."""

import pytest

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.sari import sari
from instruction_vectors.evaluation.text_metrics import (
    code_literals,
    edit_similarity,
    exact_match,
    normalised_match,
    rouge_l,
    score_texts,
    token_f1,
)


def test_exact_match_ignores_blanks_around_and_nothing_else():
    assert exact_match(" Paris\n", ["Rome", "Paris"]) == 1
    assert exact_match("paris", ["Paris"]) == 0
    assert normalised_match("The Paris.", ["paris"]) == 1


def test_token_f1():
    # Shared: cat, sat. Precision 2/3, recall 2/2: F1 = 0.8; articles do not count.
    assert token_f1("the cat sat down", ["a cat sat"]) == pytest.approx(0.8)
    assert token_f1("the cat sat down", ["dog", "cat sat down"]) == 1
    assert token_f1("", ["x"]) == 0
    assert token_f1("the", ["a"]) == 1


def test_rouge_l():
    # Longest common subsequence "the cat mat" of 3 words; lengths 4 and 6: P 3/4, R 3/6, F1 0.6.
    assert rouge_l("the cat on mat", ["the cat sat by the mat"]) == pytest.approx(0.6)
    assert rouge_l("the cat on mat", ["dogs", "The cat on mat!"]) == 1
    assert rouge_l("running", ["runs"]) == 0
    assert rouge_l("running", ["runs"], stem=True) == 1


def test_references_that_rouge_l_cannot_read_are_told_of_once(caplog):
    rows = [["Привет"], ["你好", "hi"], ["!"]]
    for _ in range(2):
        assert score_texts("rouge_l", ["Привет", "hi", "!"], rows) == [0, 1, 0]
    assert caplog.messages == [
        "2 of 3 rows have references without any letter from A to Z or digit, which is all that ROUGE-L reads: they score 0"
    ]
    score_texts("rouge_l", ["", "", ""], [["Мир"], ["世界"], ["b"]])
    assert len(caplog.messages) == 2
    caplog.clear()
    score_texts("exact_match", ["Привет"], [["Привет"]])
    score_texts("rouge_l_stemmed", ["hi"], [["HI"]])
    assert not caplog.messages


def test_edit_similarity_counts_insertions_and_deletions():
    # "kitten" to "sitting": common subsequence "ittn" of 4 in 6 + 7 letters: 2 * 4 / 13.
    assert edit_similarity("kitten", ["sitting"]) == pytest.approx(8 / 13)
    assert edit_similarity("", [""]) == 0
    assert edit_similarity("abc", ["x", "abc"]) == 1


def test_code_literals_as_trace_writes_them():
    assert code_literals("x = <NUM_LIT> + <NUM_LIT:3>; s = <STR_LIT:a b>, <STR_LIT>") == "x = 0 + 3; s = a b, "


def test_sari_of_the_published_example():
    source = "About 95 species are currently accepted."
    references = ["About 95 species are currently known.", "About 95 species are now accepted.", "95 species are now accepted."]
    assert sari(source, "About 95 you now get in.", references) == pytest.approx(0.26953601953601954)


def test_sari_by_hand():
    # "a b" to "a c", reference "a c": every operation is right, and empty ones (orders 3, 4) count as right.
    assert sari("a b", "a c", ["a c"]) == pytest.approx(1)
    # The source kept as it is, "c" wanted for "b". Order 1: keep P 1/2, R 1/1, F1 2/3; nothing deleted: 1; nothing added of
    # one wanted: P 1, R 0, F1 0. Order 2: keep P 0, recall 1 (nothing to keep), F1 0; delete 1; add 0. Orders 3, 4: all 1.
    by_order = [(2 / 3 + 1 + 0) / 3, (0 + 1 + 0) / 3, 1, 1]
    assert sari("a b", "a b", ["a c"]) == pytest.approx(sum(by_order) / 4)


def test_rows_are_scored_one_by_one():
    assert score_texts("exact_match", ["a", "b"], [["a"], ["c", "b"]]) == [1, 1]
    assert score_texts("sari", ["a c"], [["a c"]], sources=["a b"]) == [pytest.approx(1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bleu", ["a"], [["a"]]), "unknown metric 'bleu'"),
        (("exact_match", ["a"], []), "1 predictions but 0"),
        (("exact_match", ["a", "b"], [["a"], []]), "row 2"),
        (("exact_match", ["a"], ["a"]), "row 1"),
        (("sari", ["a"], [["a"]]), "source"),
    ],
)
def test_bad_use_is_named(arguments, message):
    with pytest.raises(DataError, match=message):
        score_texts(*arguments)
