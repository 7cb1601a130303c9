"""Training on chats, watched."""

from typing import Any

from instruction_vectors.reporting.values import DASH, MINUS


def chats(measured: dict[str, Any]) -> str:
    """Before and after training on chats, with guidance and without."""
    before = next(iter(measured["runs"].values()))["first"]
    rows = [("before", before, None), *((name, run["last"], run["losses"][-1]) for name, run in measured["runs"].items())]
    lines = [
        f"{measured['chats']} chats of {measured['turns']} turns, {measured['tokens']:,} tokens, {measured['steps']} steps, one seed.",
        "",
        "| training | instruction | log P | knowledge | log P | KL to base | loss of the last step |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, now, loss in rows:
        cells = [f"{now[key]:.2f}" for key in ("instruction", "instruction_logprob", "knowledge", "knowledge_logprob")]
        last = DASH if loss is None else f"{loss:.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {now['kl']:.3f} | {last} |".replace("-", MINUS))
    return "\n".join(lines) + "\n"
