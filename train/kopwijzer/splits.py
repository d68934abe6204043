"""Splits: rows -> (train, test) row numbers, without one story on both sides."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kopwijzer.duplicates import linked, near_duplicate_groups
from kopwijzer.headlines import Headline
from kopwijzer.learning import Split
from kopwijzer.settings import Settings

__all__ = ["splits", "story_groups"]


def splits(
    kind: str,
    rows: Sequence[Headline],
    truth: Sequence[str],
    groups: Sequence[int],
    settings: Settings,
) -> list[Split]:
    """The (train, test) row numbers of a way to split; empty where the rows do not allow it.

    "random": folds that ignore groups (flattering, shown for contrast). "grouped": rows of one
    story stay together. "leave-one-source-out": each source is the test part once. "newest": the
    newest rows by date are the test part. Of these three none has a story on both sides.
    """
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

    folds, seed = settings.evaluation.folds, settings.learning.seed
    y = np.asarray(truth)
    rare = min(Counter(truth).values())
    if kind == "random" and rare >= 2:
        folder = StratifiedKFold(min(folds, rare), shuffle=True, random_state=seed)
        return [(a, b) for a, b in folder.split(y, y)]
    if kind == "grouped" and rare >= 2 and len(set(groups)) >= 2:
        n = min(folds, rare, len(set(groups)))
        folder = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
        return [(a, b) for a, b in folder.split(y, y, groups) if len(set(y[a])) > 1 and len(b)]
    if kind == "leave-one-source-out":
        sources = np.array([row.source or "" for row in rows])
        if 2 <= len(set(sources)) <= 100:
            story = np.asarray(groups)
            parts = LeaveOneGroupOut().split(y, y, sources)
            # A story that several sources have is left out of the training part.
            apart = [(a[~np.isin(story[a], story[b])], b) for a, b in parts]
            return [(a, b) for a, b in apart if len(set(y[a])) > 1]
    if kind == "newest" and all(row.date for row in rows):
        order = np.argsort([row.date or "" for row in rows], kind="stable")
        cut = int(len(rows) * (1 - settings.evaluation.newest))
        # A story that began before the cut is no news after it.
        old = {groups[i] for i in order[:cut]}
        test = np.array([i for i in order[cut:] if groups[i] not in old], dtype=np.int64)
        if len(test) and len(set(y[order[:cut]])) > 1:
            return [(order[:cut], test)]
    return []


def story_groups(rows: Sequence[Headline], settings: Settings) -> list[int]:
    """One number per story: near-duplicates, and rows that name the same group."""
    named: dict[str, int] = {}
    same = [
        (named.setdefault(row.group, number), number)
        for number, row in enumerate(rows)
        if row.group
    ]
    near = near_duplicate_groups(rows, settings.evaluation.near_duplicates)
    return linked(len(rows), [*enumerate(near), *same])
