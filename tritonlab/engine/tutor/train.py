"""Train the tutor model: PYTHONPATH=. ENGINE_PYTHON tritonlab/engine/tutor/train.py (the engine's Python has torch).

A prompt reaches vLLM as it is, so the model learns "QUESTION ANSWER": a bare question as prompt yields the answer.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tritonlab.engine.tutor import MODEL, Question, questions

VOCABULARY = 2048
LENGTH = 2048
BATCH = 48
PEAK_RATE, WARM_UP = 2e-3, 60
# The last steps are averaged, which steadies what the last batches pull about.
AVERAGED = 0.15
CHAT_TEMPLATE = "{{ bos_token }}{{ messages[-1]['content'] }}"
PREFIXES = (
    "Please: ",
    "Hi, ",
    "Quick question: ",
    "Could you tell me, ",
    "So ",
    "ok, ",
    "Help me: ",
    "I wonder: ",
)
SUFFIXES = (" please", " Thanks!", " And why?", " In short.", "?", " (for a beginner)")


def tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", model_max_length=LENGTH)
    made.chat_template = CHAT_TEMPLATE
    return made


def model(vocabulary: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=0,
            eos_token_id=1,
            tie_word_embeddings=True,
            attention_dropout=0.1,
        )
    )


def wording(question: Question, chance: random.Random) -> str:
    """One of the trained wordings, at times as a person in a hurry writes it."""
    text = chance.choice((question.question, *question.also)) if chance.random() < 0.75 else question.question
    if chance.random() < 0.35:
        if chance.random() < 0.4:
            text = chance.choice(PREFIXES) + text[:1].lower() + text[1:]
        if chance.random() < 0.3:
            text = text.rstrip("?.!") + chance.choice(SUFFIXES)
        if chance.random() < 0.3:
            text = text.lower()
        if chance.random() < 0.4:
            text = text.rstrip("?.!")
        words = text.split(" ")
        if len(words) > 4 and chance.random() < 0.5:
            del words[chance.randrange(len(words))]
            text = " ".join(words)
    return text


def batch(asked: list[Question], made: PreTrainedTokenizerFast, chance: random.Random) -> dict[str, torch.Tensor]:
    rows, labels = [], []
    for question in chance.sample(asked, min(BATCH, len(asked))):
        prompt = made(wording(question, chance)).input_ids
        answer = [*made(f" {question.answer}", add_special_tokens=False).input_ids, made.eos_token_id]
        rows.append(prompt + answer)
        labels.append([-100] * len(prompt) + answer)
    width = max(map(len, rows))
    pad = made.eos_token_id
    return {
        "input_ids": torch.tensor([row + [pad] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        "labels": torch.tensor([row + [-100] * (width - len(row)) for row in labels]),
    }


def train(steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    chance = random.Random(seed)
    asked = questions()
    made = tokenizer([text for q in asked for text in (q.question, f" {q.answer}", *q.also)])
    net = model(len(made))
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {len(asked)} questions")
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(step / WARM_UP, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01),
    )
    averaged = torch.optim.swa_utils.AveragedModel(net)
    started = time.monotonic()
    net.train()
    for step in range(1, steps + 1):
        loss = net(**batch(asked, made, chance)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step > steps * (1 - AVERAGED):
            averaged.update_parameters(net)
        if step % 50 == 0:
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)
    final = averaged.module.to(torch.bfloat16).eval()
    final.save_pretrained(MODEL)
    made.save_pretrained(MODEL)
    name_for_older_readers()
    print(f"saved after {time.monotonic() - started:.0f} s: {size(MODEL / 'model.safetensors'):.1f} MB")


def name_for_older_readers() -> None:
    """Add the names that transformers 4 used, which TensorRT-LLM's converter and older vLLM read."""
    path = MODEL / "config.json"
    config = json.loads(path.read_text())
    config |= {"torch_dtype": config["dtype"], "rope_theta": config["rope_parameters"]["rope_theta"]}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (MODEL / "model.safetensors").chmod(0o644)


def size(path: Path) -> float:
    return path.stat().st_size / 1e6


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=1500)
    options.add_argument("--seed", type=int, default=1)
    train(**vars(options.parse_args()))
