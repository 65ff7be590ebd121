"""Measure the tutor model on vLLM, with the engine's Python; prints one line of JSON.

exact: share of the questions answered word for word by greedy decoding; held_out: share of the wordings never trained
on that get their question's answer; wrong: the questions and wordings that did not.
"""

from __future__ import annotations

import json

from tritonlab.engine.tutor import MODEL, questions


def main() -> None:
    from vllm import LLM, SamplingParams  # only the engine's Python has it

    engine = LLM(str(MODEL), dtype="bfloat16", enforce_eager=True, max_model_len=1024, disable_log_stats=True)
    greedy = SamplingParams(temperature=0, max_tokens=200)

    def share(pairs: list[tuple[str, str]]) -> tuple[float, list[str]]:
        outputs = engine.generate([prompt for prompt, _ in pairs], greedy, use_tqdm=False)
        wrong = [
            prompt
            for (prompt, answer), output in zip(pairs, outputs, strict=True)
            if output.outputs[0].text.strip() != answer
        ]
        return 1 - len(wrong) / len(pairs), wrong

    known = questions()
    exact, wrong = share([(q.question, q.answer) for q in known])
    held_out, missed = share([(wording, q.answer) for q in known for wording in q.held_out])
    print(json.dumps({"exact": exact, "held_out": held_out, "wrong": wrong, "missed": missed}))


if __name__ == "__main__":
    main()
