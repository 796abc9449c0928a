"""Questions a second: the evaluator's answers against a loop of single `generate` calls.

    python benchmarks/evaluation.py MODEL DATA [--limit 64] [--repeats 2]

Both begin from the same cached patch tokens, so the vision encoder's time is in neither. Prints the
CPU time of this process as well as the time that passed (on a busy machine the first says more),
the ratio of both, and whether the answers are the same. Writes nothing.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from panovlm.data.record_files import read_records
from panovlm.data.records import Needs, Record
from panovlm.evaluation.ours import OurEvaluator, used_bf16
from panovlm.inference.answerer import MAX_NEW_TOKENS, LatentQuestion
from panovlm.inference.loading import load_model

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Measure both ways in turn and print what they gave."""
    options = _options()
    torch.set_num_threads(options.threads)
    records = read_records(options.data, Needs(text=True, image=True))[: options.limit]
    model, processor = load_model(options.model)
    pictures = [record.picture for record in records]
    evaluator = OurEvaluator(model, processor, pictures, use_bf16=used_bf16(options.model))
    patch_tokens = {picture: evaluator.cache.load(picture) for picture in evaluator.pictures}
    ways: dict[str, Callable[[], list[str]]] = {
        "batched": lambda: _together(evaluator, records, patch_tokens),
        "one by one": lambda: [
            _alone(evaluator, record, patch_tokens[record.picture]) for record in records
        ],
    }
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    answers: dict[str, list[str]] = {}
    for _ in range(options.repeats):
        for name, ask in ways.items():
            started = {clock: now() for clock, now in CLOCKS.items()}
            answers[name] = ask()
            spent = {clock: now() - started[clock] for clock, now in CLOCKS.items()}
            seconds[name].append(spent)
    print(json.dumps(_summary(len(records), len(patch_tokens), seconds, answers), indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=64, help="questions")
    parser.add_argument("--repeats", type=int, default=2, help="rounds; the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _together(
    evaluator: OurEvaluator, records: Sequence[Record], patch_tokens: dict[Path, Tensor]
) -> list[str]:
    """Answer all questions as an evaluation does, each panorama resampled once."""
    latents = {picture: evaluator.latents.resampled(of) for picture, of in patch_tokens.items()}
    prompts = [LatentQuestion(latents[record.picture], record.prompt) for record in records]
    return evaluator.answerer(prompts, lambda _: None)


@torch.inference_mode()
def _alone(evaluator: OurEvaluator, record: Record, patch_tokens: Tensor) -> str:
    """Answer one question as a script would: its image tokens, then `generate`."""
    answerer = evaluator.answerer
    model, processor = answerer.model, answerer.processor
    messages = [{"role": each.role, "content": each.content} for each in record.prompt]
    ids, _ = processor.tokenize(messages, add_generation_prompt=True)
    images = model.get_image_features(patch_tokens=patch_tokens[None].to(model.device))
    output = model.generate(
        input_ids=torch.tensor([ids], device=model.device),
        mm_encoder_outputs={"image": images},
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
    )
    text: str = processor.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
    return text.strip()


def _summary(
    questions: int,
    panoramas: int,
    seconds: dict[str, list[dict[str, float]]],
    answers: dict[str, list[str]],
) -> dict[str, object]:
    best = {
        name: {clock: min(each[clock] for each in rounds) for clock in CLOCKS}
        for name, rounds in seconds.items()
    }
    per_second = {
        name: {clock: round(questions / value, 2) for clock, value in each.items()}
        for name, each in best.items()
    }
    ratio = {
        clock: round(best["one by one"][clock] / best["batched"][clock], 2) for clock in CLOCKS
    }
    same = sum(a == b for a, b in zip(answers["batched"], answers["one by one"], strict=True))
    return {
        "questions": questions,
        "panoramas": panoramas,
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "questions_per_second": per_second,
        "batched_is_faster_by": ratio,
        "same_answers": same,
    }


if __name__ == "__main__":
    main()
