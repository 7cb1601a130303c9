"""The vector goes in at the right token of the right rows, and comes off again."""

import pytest
import tiny
import torch

from instruction_vectors import InstructionVector
from instruction_vectors.errors import HookError, VectorError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.vectors.injection import label_starts

HEADS = ((0, 1), (0, 3), (2, 2))
ROWS = [[1, 9, 14, 7, 30, 11], [1, 20, 21], [1, 33, 8, 8]]
FAMILIES = ["llama", "gpt2", "gemma3", "gptj", "bloom", "gpt-neox"]


def vector_for(causal_lm, layer=1) -> InstructionVector:
    anatomy = anatomy_of(causal_lm)
    generator = torch.Generator().manual_seed(3)
    means = 3 * torch.randn(anatomy.n_layers, anatomy.n_heads, anatomy.head_dim, generator=generator, dtype=torch.float64)
    return InstructionVector.from_means(causal_lm, means, HEADS, layer=layer)


def padded(side) -> dict[str, torch.Tensor]:
    width = max(map(len, ROWS))
    ids, mask = torch.zeros(len(ROWS), width, dtype=torch.long), torch.zeros(len(ROWS), width, dtype=torch.long)
    for number, row in enumerate(ROWS):
        places = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[number, places], mask[number, places] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def last(logits, mask) -> torch.Tensor:
    ends = (mask * torch.arange(1, mask.shape[1] + 1)).argmax(1)
    return logits[torch.arange(len(mask)), ends]


@torch.no_grad()
def by_hand(causal_lm, family, vector, row, mode="distributed", scale=1.0, places=(-1,)) -> torch.Tensor:
    """Logits of one unpadded row with the edit written out."""
    width, handles = vector.values.shape[1], []
    for (layer, head), value in zip(vector.heads, vector.values.double(), strict=True):

        def edit(module, args, columns=slice(head * width, head * width + width), value=value):
            changed = args[0].clone()
            for place in places:
                changed[..., place, columns] = value if mode == "replace" else changed[..., place, columns] + scale * value
            return (changed,)

        handles.append(tiny.o_projs(causal_lm, family)[layer].register_forward_pre_hook(edit))
    logits = causal_lm(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long)).logits[0]
    for handle in handles:
        handle.remove()
    return logits


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize(("mode", "scale"), [("distributed", 1.0), ("distributed", -0.7), ("replace", 1.0)])
@torch.no_grad()
def test_head_edits_equal_edits_by_hand(family, mode, scale):
    causal_lm = tiny.shared(family)
    vector = vector_for(causal_lm)
    row = torch.tensor(ROWS[:1])
    clean = causal_lm(row).logits[0]
    with vector.applied(causal_lm, mode, scale):
        edited = causal_lm(row).logits[0]
    torch.testing.assert_close(edited, by_hand(causal_lm, family, vector, ROWS[0], mode, scale), atol=1e-5, rtol=0)
    assert (edited[-1] - clean[-1]).abs().max() > 0.01
    torch.testing.assert_close(edited[:-1], clean[:-1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gptj", "bloom"])
@torch.no_grad()
def test_the_summed_vector_is_added_to_the_stream_after_its_layer(family):
    causal_lm = tiny.shared(family)
    vector, anatomy = vector_for(causal_lm), anatomy_of(causal_lm)
    row = torch.tensor(ROWS[:1])

    def add(module, args, output):
        stream = (output[0] if isinstance(output, tuple) else output).clone()
        stream[0, -1] += 0.5 * vector.summed
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    handle = anatomy.layers[1].register_forward_hook(add)
    expected = causal_lm(row).logits
    handle.remove()
    with vector.applied(causal_lm, "summed", 0.5):
        torch.testing.assert_close(causal_lm(row).logits, expected)
    assert (expected - causal_lm(row).logits)[0, -1].abs().max() > 0.01


@pytest.mark.parametrize("family", tiny.NORMALISING)
def test_families_that_normalise_writes_have_no_plain_sum(family):
    causal_lm = tiny.shared(family)
    with pytest.raises(VectorError, match="normalises"), vector_for(causal_lm).applied(causal_lm, "summed"):
        pass


@torch.no_grad()
def test_labels_say_where_with_several_answers_a_row():
    causal_lm = tiny.shared("llama")
    vector = vector_for(causal_lm)
    ids = torch.tensor([[1, 9, 14, 7, 30, 11, 8, 5], [1, 4, 5, 6, 7, 8, 9, 10]])
    labels = torch.full_like(ids, -100)
    labels[0, 2:4], labels[0, 6], labels[1, 5:] = ids[0, 2:4], ids[0, 6], ids[1, 5:]
    with vector.applied(causal_lm, positions="labels"):
        found = causal_lm(input_ids=ids, labels=labels).logits
    for row, places in ((0, (1, 5)), (1, (4,))):
        expected = by_hand(causal_lm, "llama", vector, ids[row].tolist(), places=places)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=0)
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[0, 1] = where[0, 5] = where[1, 4] = True
    with vector.applied(causal_lm, positions=where):
        torch.testing.assert_close(causal_lm(input_ids=ids).logits, found)


def test_a_second_forward_without_labels_does_not_reuse_the_first_ones():
    causal_lm = tiny.shared("llama")
    ids = torch.tensor(ROWS[:1])
    with vector_for(causal_lm).applied(causal_lm, positions="labels"):
        causal_lm(input_ids=ids, labels=torch.tensor([[-100, -100, *ROWS[0][2:]]]))
        with pytest.raises(HookError, match="which tokens"):
            causal_lm(input_ids=ids)


def generate(causal_lm, rows, vector=None, **options):
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **options}
    arguments = {"input_ids": ids, "attention_mask": (ids != 0).long(), **settings}
    if vector is None:
        return causal_lm.generate(**arguments)[:, width:]
    with vector.applied(causal_lm, scale=2.0):
        return causal_lm.generate(**arguments)[:, width:]


@torch.no_grad()
def greedy_by_hand(causal_lm, family, vector, row, steps=6) -> list[int]:
    """Greedy decoding without a cache, the edit staying at the prompt's last token."""
    grown = list(row)
    for _ in range(steps):
        logits = by_hand(causal_lm, family, vector, grown, scale=2.0, places=(len(row) - 1,))
        grown.append(int(logits[-1].argmax()))
    return grown[len(row) :]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_edits_the_prompts_end_and_no_decoding_step(family, use_cache):
    causal_lm = tiny.shared(family)
    vector = vector_for(causal_lm)
    for row in ROWS:
        expected = greedy_by_hand(causal_lm, family, vector, row)
        assert generate(causal_lm, [row], vector, use_cache=use_cache).tolist() == [expected]
    clean = [generate(causal_lm, [row]).tolist() for row in ROWS]
    assert clean != [generate(causal_lm, [row], vector).tolist() for row in ROWS]


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 2, "num_return_sequences": 2}])
def test_each_row_of_a_batch_may_have_a_vector_of_its_own(options):
    causal_lm = tiny.shared("llama", "sdpa")
    first, second = vector_for(causal_lm), -2 * vector_for(causal_lm)
    alone = [generate(causal_lm, [row], vector, **options) for row, vector in zip(ROWS, (first, None, second), strict=True)]
    own = first.applied(causal_lm, scale=2.0, rows=[True, False, False])
    with own, second.applied(causal_lm, scale=2.0, rows=[False, False, True]):
        together = generate(causal_lm, ROWS, **options)
    assert together.tolist() == torch.cat(alone).tolist()
    assert together.tolist() != generate(causal_lm, ROWS, **options).tolist()


def test_rows_go_with_labels_and_with_tensors_of_positions():
    causal_lm = tiny.shared("llama", "sdpa")
    vector, inputs = vector_for(causal_lm), padded("right")
    ends = inputs["attention_mask"].sum(1) - 1
    where = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    where[torch.arange(3), ends] = True
    with torch.no_grad():
        plain = last(causal_lm(**inputs).logits, inputs["attention_mask"])
        for positions in (where, "prefill_end"):
            with vector.applied(causal_lm, positions=positions, rows=[False, True, False]):
                found = last(causal_lm(**inputs).logits, inputs["attention_mask"])
            assert torch.equal(found[[0, 2]], plain[[0, 2]])
            expected = by_hand(causal_lm, "llama", vector, ROWS[1])[-1]
            torch.testing.assert_close(found[1], expected, atol=1e-9, rtol=0)


def test_rows_of_another_batch_or_none_are_refused():
    causal_lm = tiny.shared("llama", "sdpa")
    vector = vector_for(causal_lm)
    with (
        pytest.raises(HookError, match="rows are for a batch of 2, the model runs 3"),
        vector.applied(causal_lm, rows=[True, False]),
    ):
        causal_lm(**padded("right"))
    with pytest.raises(VectorError, match="at least one row"), vector.applied(causal_lm, rows=[False, False, False]):
        pass


def test_a_prompt_read_in_chunks_is_edited_at_its_end_only():
    causal_lm = tiny.shared("llama", "sdpa")
    vector = vector_for(causal_lm)
    whole = generate(causal_lm, ROWS[:1], vector)
    assert torch.equal(generate(causal_lm, ROWS[:1], vector, prefill_chunk_size=4), whole)


def test_nested_interventions_add_up_and_undo_in_any_order():
    causal_lm = tiny.model("llama")
    vector = vector_for(causal_lm)
    with vector.applied(causal_lm, scale=0.75), vector.applied(causal_lm, scale=1.25):
        nested = causal_lm.generate(torch.tensor(ROWS[:1]), max_new_tokens=4, do_sample=False, use_cache=False)
    with vector.applied(causal_lm, scale=2.0):
        whole = causal_lm.generate(torch.tensor(ROWS[:1]), max_new_tokens=4, do_sample=False)
    assert torch.equal(nested, whole)
    assert "generate" not in causal_lm.__dict__


def test_a_summed_intervention_may_be_the_first_inside_another():
    causal_lm = tiny.model("llama")
    where = torch.zeros(1, len(ROWS[0]), dtype=torch.bool)
    where[0, -1] = True
    vector = vector_for(causal_lm)
    inputs = {"input_ids": torch.tensor(ROWS[:1])}
    with torch.no_grad(), vector.applied(causal_lm, positions=where), vector.applied(causal_lm, mode="summed", positions=where):
        inside = causal_lm(**inputs).logits
    with torch.no_grad(), vector.applied(causal_lm, mode="summed", positions=where), vector.applied(causal_lm, positions=where):
        assert torch.equal(causal_lm(**inputs).logits, inside)


@pytest.mark.parametrize("positions", ["prefill_end", "labels"])
def test_hooks_come_off_after_exceptions(positions):
    causal_lm = tiny.model("llama")
    ids = torch.tensor(ROWS[:1])
    clean = causal_lm(ids).logits
    failing = causal_lm.lm_head.register_forward_pre_hook(lambda *_: 1 // 0)
    for mode in ("distributed", "summed"):
        with pytest.raises(ZeroDivisionError), vector_for(causal_lm).applied(causal_lm, mode, positions=positions):
            causal_lm(input_ids=ids, labels=ids)
    failing.remove()
    assert torch.equal(causal_lm(ids).logits, clean)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in causal_lm.modules())
    assert "generate" not in causal_lm.__dict__


@pytest.mark.parametrize("shape", [(2, 6), (1, 5), (1, 1)])
def test_positions_of_another_shape_are_refused_with_both_shapes(shape):
    causal_lm = tiny.shared("llama")
    where = torch.ones(*shape, dtype=torch.bool)
    with (
        pytest.raises(HookError, match=rf"\({shape[0]}, {shape[1]}\).*\(1, 6\)"),
        vector_for(causal_lm).applied(causal_lm, positions=where),
    ):
        causal_lm(torch.tensor(ROWS[:1]))


@pytest.mark.parametrize("positions", [torch.ones(1, 6), torch.ones(6, dtype=torch.bool), "start"])
def test_positions_of_another_kind_are_refused(positions):
    causal_lm = tiny.shared("llama")
    with pytest.raises(VectorError, match="positions"), vector_for(causal_lm).applied(causal_lm, positions=positions):
        pass


def test_an_edit_that_never_ran_is_an_error():
    causal_lm = tiny.shared("llama")
    with pytest.raises(HookError, match="never ran"), vector_for(causal_lm).applied(causal_lm, positions=torch.ones(1, 1).bool()):
        causal_lm.get_input_embeddings()(torch.tensor(ROWS[:1]))


def test_a_module_inside_the_model_cannot_tell_where_to_edit():
    causal_lm = tiny.shared("llama")
    with pytest.raises(HookError, match="call the model itself"), vector_for(causal_lm).applied(causal_lm):
        causal_lm.model.layers[0].self_attn.o_proj(torch.zeros(1, 6, 32, dtype=torch.float64))


def test_an_edit_that_found_no_token_is_an_error():
    causal_lm = tiny.shared("llama")
    ids = torch.tensor(ROWS[:1])
    cache = causal_lm(ids, use_cache=True).past_key_values
    with pytest.raises(HookError, match="no token"), vector_for(causal_lm).applied(causal_lm):
        causal_lm(torch.tensor([[5]]), past_key_values=cache)
    for labels in (torch.full_like(ids, -100), ids):  # all masked, none masked
        with (
            pytest.raises(HookError, match="no answer has an input"),
            vector_for(causal_lm).applied(causal_lm, positions="labels"),
        ):
            causal_lm(input_ids=ids, labels=labels)


def test_positions_that_are_true_nowhere_are_refused():
    causal_lm = tiny.shared("llama")
    with (
        pytest.raises(VectorError, match="True nowhere"),
        vector_for(causal_lm).applied(causal_lm, positions=torch.zeros(1, 6).bool()),
    ):
        pass


@pytest.mark.parametrize("mode", ["distributed", "summed", "replace"])
def test_activations_of_another_type_than_the_weights_are_edited_as_they_are(mode):
    causal_lm = tiny.model("llama").float()
    vector = vector_for(causal_lm)
    for module in tiny.o_projs(causal_lm, "llama"):  # as under a GPU's autocast
        module.bfloat16()
        module.register_forward_pre_hook(lambda module, args: (args[0].bfloat16(),))
        module.register_forward_hook(lambda module, args, output: output.float())
    ids = torch.tensor(ROWS[:1])
    with torch.no_grad():
        clean = causal_lm(ids).logits
        with vector.applied(causal_lm, mode):
            edited = causal_lm(ids).logits
    assert (edited - clean).abs().max() > 0.01


def test_padding_is_no_place_for_a_vector():
    labels = torch.tensor([[-100, -100, 1, 5, 6], [-100, 4, -100, -100, 6]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    assert label_starts(labels).tolist() == [[False, True, False, False, False], [True, False, False, True, False]]
    assert label_starts(labels, mask).tolist() == [[False] * 5, [True, False, False, True, False]]


def test_unknown_modes_and_missing_layers_are_refused():
    causal_lm = tiny.shared("llama")
    with pytest.raises(VectorError, match="unknown mode 'add'"), vector_for(causal_lm).applied(causal_lm, "add"):
        pass
    with pytest.raises(VectorError, match="needs a layer"), vector_for(causal_lm, layer=None).applied(causal_lm, "summed"):
        pass


@torch.no_grad()
def test_rows_stand_for_beams_only_while_these_are_searched():
    causal_lm = tiny.shared("llama")
    vector, batch = vector_for(causal_lm), padded("left")
    four = {name: torch.cat([value, value[:1]]) for name, value in batch.items()}
    with (
        pytest.raises(HookError, match="rows are for a batch of 2, the model runs 4"),
        vector.applied(causal_lm, rows=[True, False]),
    ):
        causal_lm(**four)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_model_of_text_and_images_is_steered_as_its_text_part_is(side):
    both, text = tiny.with_images()
    anatomy = anatomy_of(both)
    assert type(anatomy.backbone) is type(anatomy_of(text).backbone)  # not the images' part, which has as many layers
    batch, means = padded(side), tiny.means("gemma3")
    with InstructionVector.from_means(both, means, HEADS).applied(both):
        found = last(both(**batch).logits, batch["attention_mask"])
    with InstructionVector.from_means(text, means, HEADS).applied(text):
        torch.testing.assert_close(found, last(text(**batch).logits, batch["attention_mask"]))
    assert not torch.allclose(found, last(both(**batch).logits, batch["attention_mask"]), atol=1e-3)
    ids = torch.tensor(ROWS[:1])
    with InstructionVector.from_means(text, means, HEADS).applied(text):
        alone = text(input_ids=ids).logits
    with InstructionVector.from_means(both, means, HEADS).applied(both):
        torch.testing.assert_close(both(input_ids=ids).logits, alone)
        torch.testing.assert_close(both(ids, None, torch.ones_like(ids)).logits, alone)
