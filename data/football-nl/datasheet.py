"""Counts the corpus and keeps the tables of DATASHEET.md true.

python data/football-nl/datasheet.py           print the tables
python data/football-nl/datasheet.py --write   put them into DATASHEET.md
"""

import json
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
LABELS = ("transfer_rumour", "match_report", "interview", "club_finance", "other")
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"


def count(folder: Path = HERE) -> dict[str, Counter[str]]:
    """Beat -> label -> number of rows, and under "no teaser" the rows without one."""
    counts: dict[str, Counter[str]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        beat: Counter[str] = Counter()
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            beat[row["label"]] += 1
            beat["no teaser"] += not row["teaser"]
        counts[path.stem] = beat
    return counts


def table(counts: dict[str, Counter[str]]) -> str:
    """The counts as a Markdown table with a total."""
    columns = (*LABELS, "no teaser")
    lines = [
        "| beat | rows | " + " | ".join(columns) + " |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    total: Counter[str] = Counter()
    for beat, found in counts.items():
        total += found
        lines.append(_line(beat, found, columns))
    lines.append(_line("**all**", total, columns))
    return "\n".join(lines)


def _line(name: str, found: Counter[str], columns: tuple[str, ...]) -> str:
    rows = sum(found[label] for label in LABELS)
    return f"| {name} | {rows:,} | " + " | ".join(f"{found[c]:,}" for c in columns) + " |"


def main() -> None:
    text = table(count())
    if "--write" in sys.argv[1:]:
        sheet = HERE / "DATASHEET.md"
        before, _, rest = sheet.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        sheet.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    else:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
