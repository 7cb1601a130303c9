"""What vectors do, with controls."""

from typing import Any

_CONDITIONS = ("x", "x+c", "x+iv", "x+c+iv", "x+c+other", "x+c+mean", "x+c+random")


def steering(measured: dict[str, Any]) -> str:
    """First-token accuracy of each task under each condition and mode, with the interval of what is claimed."""
    settings, tasks = measured["settings"], measured["tasks"]
    lines = [
        f"`{settings['model']}`, up to {settings['rows']} test rows a task, {settings['k']} universal heads, scale {settings['scale']:g}; "
        f"summed vectors after layer {measured['layer']}; made from {settings.get('source', 'demonstrations')}.",
        "",
        f"| task | mode | {' | '.join(condition.replace('iv', 'θ') for condition in _CONDITIONS)} |",
        "| :-- | :-- |" + " --: |" * len(_CONDITIONS),
    ]
    for mode, mean in measured["mean"].items():
        for name, table in tasks.items():
            low, high = table[mode]["intervals"]["x+c+iv"]
            cells = [f"{table[mode][c]:.2f}" + f" [{low:.2f}, {high:.2f}]" * (c == "x+c+iv") for c in _CONDITIONS]
            lines.append(f"| {name} | {mode} | {' | '.join(cells)} |")
        for label, measure in (("**mean**", "first_token"), ("mean, whole answers", "exact")):
            lines.append(f"| {label} | {mode} | {' | '.join(f'{mean[measure][c]:.2f}' for c in _CONDITIONS)} |")
    return "\n".join(lines) + "\n"
