"""Is B better than A? Paired by clip, with an interval and an exact test.

A and B are experiments, Git revisions, "workspace", or families of them (folds, seeds) with
commas between: python -m tools.compare HEAD workspace
"""

import argparse
import json

from genrepro import comparison, runs
from genrepro.runtime import run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="what to compare with, e.g. main or exp-1,exp-2")
    parser.add_argument("b", metavar="B", help="what may be better, e.g. workspace")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    args = parser.parse_args()
    result = comparison.compare(runs.family(args.a), runs.family(args.b))
    sentence = comparison.sentence(result, args.a, args.b)
    if args.json:
        print(json.dumps({"sentence": sentence, "a": args.a, "b": args.b, **result}, indent=2))
        return
    print(sentence)
    for name, side in ((args.a, "a"), (args.b, "b")):
        print(
            f"  {100 * result[f'accuracy_{side}']:5.1f}  {name}: {result[f'runs_{side}']} run(s), "
            f"better on {result[f'clips_{side}_better']} clips"
        )
    if alone := result["clips_in_one_only"]:
        print(f"  {alone} clip(s) that only one of them was tested on were left out.")


if __name__ == "__main__":
    run(main)
