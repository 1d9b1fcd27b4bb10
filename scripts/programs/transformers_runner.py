#!/usr/bin/env python3
"""Hugging Face transformers as a program of a suite: prints `<nanoseconds>,<tokens>`, or a continuation of a prompt.

    python3 -m venv venv && venv/bin/pip install torch transformers accelerate
    venv/bin/python transformers_runner.py --model FOLDER --threads 2 --prompt-tokens 128            one line: a prompt of 128 tokens
    venv/bin/python transformers_runner.py --model FOLDER --threads 2 --gen-tokens 64                64 lines: a token each
    venv/bin/python transformers_runner.py --model FOLDER --threads 2 --gen-tokens 32 --text ROMEO:  the text, chosen greedily

The folder is what `tritbench model convert` and `trit-train export` write. Times begin after one untimed pass, so that loading and
first touches do not count. Token ids of timed prompts are a fixed pattern: no value takes longer than another.
"""

import argparse
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def pattern(count, vocabulary):
    return torch.tensor([[(7 + 31 * i) % vocabulary for i in range(count)]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt-tokens", type=int, default=0)
    parser.add_argument("--gen-tokens", type=int, default=0)
    parser.add_argument("--text")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()

    with torch.inference_mode():
        if args.text is not None:
            tokenizer = AutoTokenizer.from_pretrained(args.model)
            ids = tokenizer(args.text, return_tensors="pt")["input_ids"]
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=args.gen_tokens, do_sample=False)
            print(tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True))
            return
        vocabulary = model.config.vocab_size
        if args.prompt_tokens:
            ids = pattern(args.prompt_tokens, vocabulary)
            model(ids[:, :8], logits_to_keep=1)
            start = time.perf_counter_ns()
            model(ids, logits_to_keep=1)
            print(f"{time.perf_counter_ns() - start},{args.prompt_tokens}")
            return
        step = model(pattern(8, vocabulary), use_cache=True, logits_to_keep=1)
        for _ in range(args.gen_tokens):
            chosen = step.logits[:, -1:].argmax(-1)
            start = time.perf_counter_ns()
            step = model(chosen, past_key_values=step.past_key_values, use_cache=True, logits_to_keep=1)
            print(f"{time.perf_counter_ns() - start},1")


if __name__ == "__main__":
    main()
