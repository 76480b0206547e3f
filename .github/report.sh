#!/usr/bin/env bash
# Print what has changed since a revision as Markdown, and write a page of plots into a folder.
# It needs no data and no cache: metrics and curves are in Git.
#   .github/report.sh origin/main report > report.md
set -euo pipefail
base=$1 folder=$2
curve=metrics/train/plots/metrics/validation/accuracy.tsv

values() { # the second column of a curve, separated by commas
    tail -n +2 | cut -f 2 | paste -sd, -
}

echo "## Figures against \`$base\`"
echo
stale=$(dvc status --json | python -c '
import json, sys
changed = json.load(sys.stdin).items()  # data that was never fetched is reported as deleted
seen = {stage: set(json.dumps(what).split("\"")) for stage, what in changed}
print(", ".join(stage for stage, words in seen.items() if words & {"modified", "new"}))
')
if [[ -n $stale ]]; then
    echo "> **These figures are not from this code:** \`dvc repro\` would run $stale."
    echo
fi
for what in metrics params; do
    table=$(dvc "$what" diff --md "$base")
    echo "### ${what^}"
    echo
    if (($(wc -l <<<"$table") > 2)); then echo "$table"; else echo "No change."; fi
    echo
done

new=$(values <"$curve")
old=$(git show "$base:$curve" 2>/dev/null | values || true)
echo "### Validation accuracy by epoch"
echo
echo '```mermaid'
echo 'xychart-beta'
if [[ $old == "$new" ]]; then old=; fi
echo "    title \"this branch${old:+, and $base}\""
echo '    x-axis "epoch"'
echo '    y-axis "accuracy" 0 --> 1'
echo "    line [$new]"
if [[ -n $old ]]; then echo "    line [$old]"; fi
echo '```'

dvc plots diff "$base" --out "$folder" >/dev/null
