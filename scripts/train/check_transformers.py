#!/usr/bin/env python3
"""Compares the logits of an exported folder in Hugging Face transformers with those of tritbench.

    python3 -m venv venv && venv/bin/pip install torch transformers accelerate
    venv/bin/python check_transformers.py --folder model-hf --tritbench ../../target/release/tritbench

Not part of the gate: it needs PyPI and gigabytes. Exits with 1 when the two do not agree. Programs sum floats in different orders, and an
int8 rounding that falls on the other side moves everything behind it a little, so close is: the cosine of every position's logits
at least 0.999, and the mean negative log-likelihood of the text within 0.03.
"""

import argparse
import csv
import io
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = [
    "ROMEO:\nIf I profane with my unworthiest hand",
    "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n",
    "Ternary weights are -1, 0 and 1; naïve sums of 1,000 products fit in 32 bits.\n",
    "KING RICHARD III:\n" + "A horse! a horse! my kingdom for a horse! " * 6,
]


def tritbench_logits(program, folder, ids):
    command = [program, "logits", "--model", folder, "--all-positions", "--kv", "f32"]
    command += ["--tokens", ",".join(map(str, ids))]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    return torch.tensor([float(row["logit"]) for row in rows], dtype=torch.float64).reshape(len(ids), -1)


def nll(logits, ids):
    logs = torch.log_softmax(logits[:-1], dim=-1)
    return -logs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True)
    parser.add_argument("--tritbench", required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
    agree = True
    print("tokens,min_cosine,max_difference,nll_transformers,nll_tritbench,same_top")
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].double()
        ours = tritbench_logits(args.tritbench, args.folder, ids)
        cosine = torch.nn.functional.cosine_similarity(ours, theirs, dim=-1).min().item()
        difference = (ours - theirs).abs().max().item()
        top = (ours.argmax(-1) == theirs.argmax(-1)).double().mean().item()
        a, b = nll(theirs, ids), nll(ours, ids)
        print(f"{len(ids)},{cosine:.7f},{difference:.5f},{a:.5f},{b:.5f},{top:.3f}")
        agree &= cosine >= 0.999 and abs(a - b) <= 0.03
    if not agree:
        sys.exit("the logits do not agree")


if __name__ == "__main__":
    main()
