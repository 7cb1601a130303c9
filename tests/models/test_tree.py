"""A packed tree gives what separate forwards give."""

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instruction_vectors.errors import ModelError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.tree import TokenTree, attention_mask, chunks, packs

SEQUENCES = [
    [1, 9, 14, 7, 30, 11, 5, 22],
    [1, 9, 14, 7, 30, 11, 6],
    [1, 9, 14, 20],
    [1, 9, 14, 20, 8, 8, 8, 8, 8, 8],
    [33, 34],
    [1, 9, 14, 7, 30, 11, 5, 22],
]
PACKING = [(family, way) for family, way in tiny.GRID if family not in tiny.WHOLE_FORWARDS]
tokens = st.integers(0, 3)
sequences = st.lists(st.lists(tokens, min_size=1, max_size=9), min_size=1, max_size=6)


@torch.no_grad()
def packed_and_apart(causal_lm, sequences) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    anatomy = anatomy_of(causal_lm)
    tree = TokenTree.of(sequences)
    logits = anatomy.logits(anatomy.backbone(**tree.model_inputs(anatomy))[0])[0]
    packed = [logits[list(path)] for path in tree.paths]
    return packed, [causal_lm(input_ids=torch.tensor([s])).logits[0] for s in sequences]


def worst(packed, apart) -> float:
    """Largest difference, relative to the largest logit."""
    gaps = [(a - b).abs().max() for a, b in zip(packed, apart, strict=True)]
    return float(max(gaps) / max(b.abs().max() for b in apart))


@pytest.mark.parametrize(("family", "attention"), PACKING)
def test_packed_logits_equal_those_of_separate_forwards(family, attention):
    exact = attention == "sdpa" or family in ("falcon", "gpt2", "gpt-oss")
    assert worst(*packed_and_apart(tiny.shared(family, attention), SEQUENCES)) < (1e-9 if exact else 1e-6)


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "gemma3"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sequences=sequences)
def test_any_sequences_pack(family, sequences):
    assert worst(*packed_and_apart(tiny.shared(family, "sdpa"), sequences)) < 1e-9


def test_a_window_that_is_ignored_would_be_noticed():
    causal_lm = tiny.model("mistral", attention="sdpa")
    _, windowed = packed_and_apart(causal_lm, SEQUENCES)
    causal_lm.config.sliding_window = None
    wide, _ = packed_and_apart(causal_lm, SEQUENCES)
    assert worst(wide, windowed) > 1e-2


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_families_that_cannot_read_branches_are_found_out(family):
    assert packs(anatomy_of(tiny.shared(family))) == (family not in tiny.WHOLE_FORWARDS)


@pytest.mark.parametrize("family", tiny.WHOLE_FORWARDS)
def test_families_that_cannot_read_branches_get_sequences_one_by_one(family):
    causal_lm = tiny.shared(family)
    anatomy = anatomy_of(causal_lm)
    assert sorted(chunks(anatomy, SEQUENCES, 1000)) == [[i] for i in range(len(SEQUENCES))]
    assert worst(*packed_and_apart(causal_lm, SEQUENCES[:1])) < 1e-9
    with pytest.raises(ModelError, match="packed tree"):
        TokenTree.of(SEQUENCES).model_inputs(anatomy)


@given(sequences=sequences)
def test_paths_spell_their_sequences_and_shared_prefixes_are_nodes_once(sequences):
    tree = TokenTree.of(sequences)
    assert [[int(tree.tokens[node]) for node in path] for path in tree.paths] == sequences
    prefixes = {tuple(s[: i + 1]) for s in sequences for i in range(len(s))}
    assert len(tree) == len(prefixes)
    for path in tree.paths:
        assert [int(tree.depths[node]) for node in path] == list(range(len(path)))
        assert tree.ancestors()[path[-1]].nonzero().flatten().tolist() == sorted(path)


def test_private_tokens_are_kept_from_other_owners_with_all_that_follows():
    same = [5, 6, 7, 8]
    tree = TokenTree.of([same, same, same, same], [(2, "a"), (2, "b"), (2, None), (2, "a")])
    first, second, third, fourth = tree.paths
    assert first[:2] == second[:2] == third[:2]
    assert len({first[2], second[2], third[2]}) == 3
    assert len({first[3], second[3], third[3]}) == 3
    assert fourth == first
    assert not tree.ancestors()[first[3], second[2]]


@given(sequences=sequences, size=st.integers(1, 20))
def test_chunks_hold_every_sequence_once_within_the_size(sequences, size):
    anatomy = anatomy_of(tiny.shared("llama"))
    groups = chunks(anatomy, sequences, size)
    assert sorted(index for group in groups for index in group) == list(range(len(sequences)))
    for group in groups:
        assert len(group) == 1 or len(TokenTree.of([sequences[i] for i in group])) <= size


def test_one_chunk_holds_what_fits():
    assert len(chunks(anatomy_of(tiny.shared("llama")), SEQUENCES, 1000)) == 1


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")],
    ids=["gpu", "cpu"],
)
def test_a_model_that_memory_did_not_hold_is_not_taken_for_one_that_reads_no_branches(error):
    causal_lm = tiny.model("llama")
    anatomy = anatomy_of(causal_lm)

    def full(module, args, kwargs):
        if kwargs["attention_mask"] is not None and kwargs["attention_mask"].dim() == 4:
            raise error

    handle = causal_lm.model.layers[0].register_forward_pre_hook(full, with_kwargs=True)
    with pytest.raises(RuntimeError, match="memory"):
        packs(anatomy)
    handle.remove()
    assert packs(anatomy)


def test_a_kernel_that_reads_masks_as_padding_is_given_none():
    causal_lm = tiny.model("llama")
    anatomy = anatomy_of(causal_lm)
    assert packs(anatomy)
    ran = []
    causal_lm.model.register_forward_pre_hook(lambda *_: ran.append(1))
    causal_lm.config._attn_implementation = "flash_attention_2"
    assert not packs(anatomy)
    assert not ran  # not even tried
    places = torch.arange(3)[None]
    with pytest.raises(ModelError, match="flash_attention_2 takes no 4-D mask"):
        attention_mask(anatomy, torch.ones(1, 1, 3, 3, dtype=torch.bool), places, places)
    causal_lm.config._attn_implementation = "eager"
    assert packs(anatomy)
