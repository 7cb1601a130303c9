"""Chats of two turns from a file of single instructions, for `iv train`.

    python scripts/instruction_chats.py DATA/eval/instructions_alpaca.json --out chats.jsonl
    iv train --data chats.jsonl --out runs/chats --guided --epochs 1 --forgetting --learning-rate 1e-3 --target-modules q_proj,v_proj

Two instructions that follow each other, both with answers of at most `--characters`, make one chat, so that every chat has two
answers to learn and two places where a vector goes in.
"""

import argparse
import json
from pathlib import Path


def chats(rows: list[dict[str, str]], characters: int) -> list[dict[str, list[dict[str, str]]]]:
    """`messages` of two turns from rows of `instruction`, `input` and `output`."""
    short = [row for row in rows if len(row["output"]) <= characters]
    turns = [
        [
            {"role": "user", "content": "\n".join(filter(None, (row["instruction"], row["input"])))},
            {"role": "assistant", "content": row["output"]},
        ]
        for row in short
    ]
    return [{"messages": first + second} for first, second in zip(turns[::2], turns[1::2], strict=False)]


def main() -> None:
    """Read, pair, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="a JSON list of rows with instruction, input and output")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    parser.add_argument("--characters", type=int, default=400, help="longest answer")
    options = parser.parse_args()
    made = chats(json.loads(options.file.read_text(encoding="utf-8")), options.characters)
    options.out.write_text("".join(json.dumps(chat) + "\n" for chat in made), encoding="utf-8")
    print(f"{len(made)} chats of two turns in {options.out}")


if __name__ == "__main__":
    main()
