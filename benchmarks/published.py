"""Figures that authors publish, computed again from the predictions and grades that they release.

    git clone https://github.com/InSAI-Lab/PanoVQA CLONES/PanoVQA    # and so on, see `REPOSITORIES`
    python benchmarks/published.py CLONES [--docs docs/lab/benchmark_rules.md]

Where no predictions are released, the official scorer and ours score the same 1,000 made answers.
Of the clones, files are read and scorers are run as they stand; nothing of them is kept.
"""

import argparse
import ast
import csv
import importlib.util
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from panovlm.evaluation.benchmarks.bench_360 import BENCH_360
from panovlm.evaluation.benchmarks.choosing import LETTERS
from panovlm.evaluation.benchmarks.hstar_bench import HSTAR_BENCH
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.benchmarks.omnicot import OMNICOT
from panovlm.evaluation.benchmarks.osr_bench import MAP, OSR_BENCH
from panovlm.evaluation.benchmarks.panoenv import PANOENV
from panovlm.evaluation.benchmarks.panovqa import PANOVQA
from panovlm.evaluation.scoring import Prediction, summary_of
from panovlm.metrics.cognitive_maps import map_of_grid, parse_map, score_map
from panovlm.metrics.scores import Score, counted
from reporting import markdown, put_between_markers

REPOSITORIES = {
    "PanoVQA": "InSAI-Lab/PanoVQA",
    "OSR-Bench-code": "UUUserna/OSR-Bench-code",
    "PanoEnv": "7zk1014/PanoEnv",
    "hstar": "humanoid-vstar/hstar",
    "OmniCoT": "Chenfei-Liao/OmniCoT",
    "360Bench-Free360": "TranHuyen1191/360Bench-Free360",
}
"""Folders of clones, and whose repositories on GitHub they are of."""
NUM_MADE = 1000
HEADER = ("what is published", "figures", "equal", "differ, as `differs` says", "differ otherwise")


@dataclass
class Compared:
    """Figures that are published, or given by the official scorer, beside ours.

    Attributes:
        name: What they are.
        pairs: Theirs, ours, and whether a difference is named in `differs`.
    """

    name: str
    pairs: list[tuple[float, float, bool]]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """How many there are, are equal, differ as is named, and differ otherwise."""
        equal = sum(abs(a - b) < 1e-9 for a, b, _ in self.pairs)
        named = sum(abs(a - b) >= 1e-9 and is_named for a, b, is_named in self.pairs)
        return len(self.pairs), equal, named, len(self.pairs) - equal - named


def panovqa(clone: Path) -> Iterator[Compared]:
    """Yield the figures of the released judgements: 12 categories and their mean, of each model."""
    for file in sorted((clone / "eval_benchmark" / "outputs" / "gpt_score").glob("*.json")):
        first, _, rest = file.read_text(encoding="utf-8").partition("\n")
        report, published = json.loads(rest), [float(figure) for figure in first.split("\t")]
        samples = report["samples"]
        items = [
            Item(each["id"], Path(each["id"]), each["question"], ("",), each["category"])
            for each in samples
        ]
        rubric = PANOVQA.rubric
        assert rubric is not None
        reach = rubric.highest - rubric.lowest
        scores = [Score((each["score"] - rubric.lowest) / reach) for each in samples]
        predictions = [*map(Prediction, items, [""] * len(items), scores)]
        means = [
            summary_of(PANOVQA, [p for p in predictions if p.item.kind == kind])["mean"]
            for kind in [each["category"] for each in report["category_summary"]]
        ]
        extras = PANOVQA.extras(items, [""] * len(items), scores)
        ours = [*means, extras["mean_of_categories"]["mean"]]
        named = f"PanoVQA, {file.stem}: {len(samples):,} grades, 12 categories and their mean"
        rounded = [round(100 * value, 2) for value in ours]
        yield Compared(named, [(a, b, False) for a, b in zip(published, rounded, strict=True)])


def osr_bench(clone: Path) -> Iterator[Compared]:
    """Yield the released scores of Gemini 1.5 Pro's answers about the example scenes."""
    csv.field_size_limit(sys.maxsize)
    maps: list[tuple[float, float, bool]] = []
    for file in sorted(clone.glob("example/*/*_qa_results.csv")):
        with file.open(encoding="utf-8", newline="") as opened:
            for row in csv.DictReader(opened):
                if row["skills_tested"] == MAP:
                    maps += _map_figures(row)
    yield Compared("OSR-Bench, Gemini 1.5 Pro's maps: F1, precision, recall of each", maps)
    metric = load(clone / "evaluation" / "metric.py")
    yield Compared("OSR-Bench, `evaluation_re`: made answers", [*_osr_made(clone, metric)])


def _map_figures(row: dict[str, str]) -> list[tuple[float, float, bool]]:
    theirs = json.loads(row["score"])["overall"]
    known, answered = map_of_grid(ast.literal_eval(row["ground_truth"])), row["model_answer"]
    ours = score_map(parse_map(answered) or {}, known)
    return [(theirs[key], getattr(ours, key), True) for key in ("f1", "precision", "recall")]


def _osr_made(clone: Path, metric: ModuleType) -> Iterator[tuple[float, float, bool]]:
    files = sorted(clone.glob("example/*/*_qa.json"))
    items = [item for file in files for item in OSR_BENCH.read(file, clone) if item.kind != MAP]
    asked = [item for item in items if item.references]
    pool = [item.references[0] for item in asked]
    pool += [f"{text}." for text in pool] + ["", "2 chairs", "about 3, or 4", "back right", "no"]
    for item, answer in made(asked, pool):
        theirs = metric.evaluation_re(item.references[0], answer, item.kind)
        yield theirs, ours(OSR_BENCH, item, answer), answer.endswith(".")


def panoenv(clone: Path) -> Iterator[Compared]:
    """Yield the rewards of the official function for answers drawn from those of the test split."""
    items = PANOENV.read(clone / "dataset" / "test.jsonl", clone)
    file = next(clone.glob("training/**/vlm_modules/qwen_module.py"))
    official = functions(file)
    official["Qwen2VLModule"] = SimpleNamespace(**official)
    pool = [f"<Answer>{item.references[0]}</Answer>" for item in items[::7]]
    pool += [
        "<Answer>12 meters</Answer>",
        "<Answer>in 3</Answer>",
        "<answer>the left</answer>",
        "?",
    ]
    pairs = []
    for item, answer in made(items, pool):
        (theirs,) = official["accuracy_reward_vqa"](
            [[{"content": answer}]],
            accu_reward_method=[item.kind],
            expected_answer=[item.references[0]],
        )
        is_named = bool(re.search(r"\bin\b|mm|millim", answer + item.references[0]))
        pairs.append((theirs, ours(PANOENV, item, answer), is_named))
    yield Compared("PanoEnv, `accuracy_reward_vqa`: made answers", pairs)


def hstar(clone: Path) -> Iterator[Compared]:
    """Yield whether the official environment takes made submissions for made targets."""
    environment = functions(clone / "vagen" / "env" / "hstar" / "env.py")
    random_ = random.Random(0)
    pairs = []
    for number in range(NUM_MADE):
        start, width = random_.randrange(360), random_.choice([4, 30, 90, 200])
        yaw, low = [start, (start + width) % 360], random_.randrange(-60, 40)
        pitch = None if number % 3 == 0 else [low, low + random_.choice([5, 60])]
        at = (random_.randrange(360), random_.randrange(-80, 81))
        facts = {"yaw": tuple(yaw), "pitch": pitch}
        item = Item(str(number), clone, "?", (), "k", facts=facts)
        said = f"submit({at[0]},{at[1]})"
        theirs, is_wrapped = _submitted(environment, yaw, pitch, said)
        pairs.append((float(theirs), ours(HSTAR_BENCH, item, said), is_wrapped))
    yield Compared("H*Bench, `HstarEnv.step`: made submissions", pairs)


def _submitted(
    official: dict[str, Any], yaw: list[int], pitch: list[int] | None, said: str
) -> tuple[bool, bool]:
    """Run the official environment on one submission; also whether its target crosses yaw 0."""
    row = {"task": "t", "yaw": [*yaw], "start_yaw": 0, "level": 0}
    row |= {"pitch": [*pitch]} if pitch else {}

    class Config(SimpleNamespace):
        def get(self, key: str, default: Any = None) -> Any:
            return default

    environment = SimpleNamespace(
        number_of_episodes=1,
        dataset=[row],
        _render=lambda init_obs=True: {},
        parse_func=lambda response, **_: {"actions": [response], "format_correct": True},
        config=Config(
            yaw_tolerance=30,
            pitch_tolerance=20,
            max_actions_per_step=1,
            traj_success_reward=0.5,
            traj_fail_penalty=0,
        ),
    )
    official["reset"](environment, seed=0)
    official["step"](environment, said)
    return environment.success, environment.target_yaw[0] > environment.target_yaw[1]


def omnicot(clone: Path) -> Iterator[Compared]:
    """Yield both official accuracies of made answers to the sample's questions."""
    folder = clone / "lmms-eval" / "lmms_eval" / "tasks" / "omnicot"
    official = load(folder / "utils.py")
    items = OMNICOT.read(folder / "sample_data" / "OmniCoT_sample.json", folder)
    words = [
        *(item.references[0] for item in items),
        "North",
        "the north east",
        "45 degrees",
        "yes",
    ]
    pool = [f"<answer>{word}</answer>" for word in words]
    pool += [f"So the answer: {word}\nreally" for word in words] + ["hm\nYes", "Failed to Answer"]
    exact, loose = [], []
    for item, answer in made(items, pool):
        theirs = official.omnicot_process_results(
            {"answer": item.references[0], "type": item.kind}, [answer]
        )
        extras = OMNICOT.extras([item], [answer], OMNICOT.score([item], [answer]))
        exact.append((float(theirs["accuracy"]), ours(OMNICOT, item, answer), False))
        mean = extras["contains_accuracy"]["mean"]
        loose.append((float(theirs["contains_accuracy"]), mean, False))
    yield Compared("OmniCoT, `accuracy`: made answers", exact)
    yield Compared("OmniCoT, `contains_accuracy`: made answers", loose)


def bench_360(clone: Path) -> Iterator[Compared]:
    """Yield the official reading of made choices; ours reads more, which `differs` says."""
    read = functions(clone / "src" / "evaluation.py")["extract_answerABCDonly"]
    items = BENCH_360.read(clone / "data" / "360Bench.tsv", clone)
    plain = [*LETTERS[:4], *(f"({letter})" for letter in LETTERS[:4])]
    pairs = []
    for item, answer in made(items, [*plain, *plain, "A. left", "The answer is B", "None"]):
        theirs = float(read(answer) == item.references[0])
        pairs.append((theirs, ours(BENCH_360, item, answer), answer not in plain))
    yield Compared("360Bench, `extract_answerABCDonly`: made answers", pairs)


def made(items: Sequence[Item], pool: Sequence[str]) -> Iterator[tuple[Item, str]]:
    """Yield items with answers drawn from a pool, one in four the item's own reference in tags."""
    random_ = random.Random(0)
    for _ in range(NUM_MADE):
        item = random_.choice(items)
        own = pool[0][: pool[0].find(">") + 1] if pool[0].startswith("<") else ""
        close = own.replace("<", "</")
        right = f"{own}{item.references[0]}{close}"
        yield item, right if random_.random() < 0.25 else random_.choice(pool)


def ours(benchmark: Benchmark, item: Item, answer: str) -> float:
    """Return our score of an answer, the worst where it cannot be read."""
    (score,) = counted(benchmark.score([item], [answer]), benchmark.unit.worst)
    return 0.0 if score.value is None else score.value


def load(file: Path) -> ModuleType:
    """Run a module of a clone."""
    spec = importlib.util.spec_from_file_location(f"official_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def functions(file: Path) -> dict[str, Any]:
    """Define the functions of a module of a clone without its imports of other packages."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    namespace: dict[str, Any] = {"re": re, "json": json, "Dict": dict, "Any": Any}
    for node in found:
        node.decorator_list, node.returns = [], None
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            argument.annotation = None
        code = compile(ast.Module([node], []), str(file), "exec")
        exec(code, namespace)  # the official scorer, as the user cloned it
    return namespace


CHECKS: dict[str, Callable[[Path], Iterator[Compared]]] = {
    "PanoVQA": panovqa,
    "OSR-Bench-code": osr_bench,
    "PanoEnv": panoenv,
    "hstar": hstar,
    "OmniCoT": omnicot,
    "360Bench-Free360": bench_360,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare what the clones allow, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clones", type=Path, help="folder of clones")
    parser.add_argument("--docs", type=Path, help="page with the markers <!-- published -->")
    options = parser.parse_args(arguments)
    found = [
        compared
        for name, check in CHECKS.items()
        if (options.clones / name).is_dir()
        for compared in check(options.clones / name)
    ]
    if not found:
        print(f"published: found none of {', '.join(CHECKS)} in {options.clones}", file=sys.stderr)
        return 2
    rows = [(each.name, *(f"{count:,}" for count in each.counts)) for each in found]
    table = markdown([HEADER, *rows])
    print(table)
    if options.docs:
        put_between_markers(options.docs, "published", table)
    return int(any(each.counts[-1] for each in found))


if __name__ == "__main__":
    sys.exit(main())
