"""Causal effects by the book: one forward a head, with hooks of its own. Nothing here comes from the library."""

import torch


@torch.no_grad()
def effects(
    causal_lm, tokenizer, o_projs, prompts, targets, means, *, measure="probability", patch="replace", heads=None, shift=0
):
    """`[prompt, layer, head]` in float64; only `heads` if given, and head `j + shift` in place of j (to be wrong on purpose)."""
    layers, count, width = means.shape
    result = torch.full((len(prompts), layers, count), float("nan"), dtype=torch.float64)
    heads = [(layer, head) for layer in range(layers) for head in range(count)] if heads is None else heads
    for number, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        answer = tokenizer(target, add_special_tokens=False)["input_ids"]
        last = ids.shape[1] - 1
        clean = _score(causal_lm, ids, answer, measure)
        for layer, head in heads:
            start = (head + shift) % count * width
            hook = _patching(last, slice(start, start + width), means[layer, head], patch)
            handle = o_projs[layer].register_forward_pre_hook(hook)
            result[number, layer, head] = _score(causal_lm, ids, answer, measure) - clean
            handle.remove()
    return result


def _patching(last, columns, value, patch):
    def hook(module, args):
        changed = args[0].clone()
        rows = changed.view(-1, changed.shape[-1])
        rows[last, columns] = value + (rows[last, columns] if patch == "add" else 0)
        return (changed,)

    return hook


def _score(causal_lm, ids, answer, measure) -> float:
    if measure == "answer":
        whole = torch.cat([ids, torch.tensor([answer])], dim=1)
        scores = causal_lm(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0].double().log_softmax(-1)
        return sum(float(scores[ids.shape[1] - 1 + place, token]) for place, token in enumerate(answer))
    scores = causal_lm(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].double().log_softmax(-1)
    return float(scores[answer[0]] if measure == "log_probability" else scores[answer[0]].exp())
