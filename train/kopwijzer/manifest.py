"""The manifest: what manifest.json says of a version; made, put in bytes, read and checked."""

import hashlib
import json
import mmap
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kopwijzer.errors import BadVersion
from kopwijzer.scorer import Scorer
from kopwijzer.text import Block

__all__ = [
    "FORMAT",
    "NAME",
    "UNUSABLE",
    "check_digest",
    "check_manifest",
    "digests",
    "make_manifest",
    "manifest_bytes",
    "parse_manifest",
]

#: The format of a version folder. It grows when an older kopwijzer could no longer read one.
FORMAT = 1
#: How a model may be called, and an alias.
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
#: What comes of using JSON that holds other things than it should.
UNUSABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_MAX_CELLS = 10_000  # labels times blocks: a batch of rows takes some 100 KB for each of them
_BLOCK = frozenset(Block.__dataclass_fields__)
_KINDS, _FIELDS = ("words", "characters", "patterns"), ("both", "headline", "teaser")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")


# Making ----------------------------------------------------------------------------------------


def make_manifest(
    name: str, number: int, scorer: Scorer, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest of a version that is being written; `files` are yet to come, with `digests`."""
    rule = scorer.abstention
    return {
        "format": FORMAT,
        "name": name,
        "version": number,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "labels": [str(label) for label in scorer.classes_],
        "blocks": [
            {
                "name": b.name,
                "kind": b.kind,
                "field": b.field,
                "low": b.low,
                "high": b.high,
                "weight": b.weight,
                "min_df": b.min_df,
                "max_df": b.max_df,
            }
            for b in scorer.blocks
        ],
        "abstention": {
            "label": rule.label,
            "thresholds": dict(rule.thresholds or {}),
            "min_known_share": rule.min_known_share,
        },
        "n_features": len(scorer.weights.hashes),
        **facts,
    }


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The one way to write a manifest; its digest is over itself without the digest."""
    bare = {key: value for key, value in manifest.items() if key != "digest"}
    text = json.dumps(bare, ensure_ascii=False, indent=1)
    bare["digest"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return (json.dumps(bare, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "surrogatepass")


def digests(work: Path) -> dict[str, dict[str, Any]]:
    """What a manifest says of the files of a folder: of each its SHA-256 and its size."""
    facts = {}
    for path in sorted(work.iterdir()):
        if path.name != "manifest.json":
            data = path.read_bytes()
            facts[path.name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return facts


# Checking --------------------------------------------------------------------------------------


def parse_manifest(raw: bytes, where: Path) -> dict[str, Any]:
    """The manifest that the bytes of a file hold; `where` is for the errors.

    Raises
    ------
    BadVersion
        They hold none, or one of another format, one that was edited, or one that is not safe.
    """
    try:
        manifest = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadVersion(f"{where}: is damaged, it is not JSON") from error
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise BadVersion(f"{where}: is damaged, it names no format")
    if manifest["format"] != FORMAT:
        raise BadVersion(
            f"{where}: is of format {manifest['format']}, this kopwijzer reads format {FORMAT}; "
            "install the kopwijzer that wrote it, or train again"
        )
    try:
        holds = raw == manifest_bytes(manifest)
    except (ValueError, RecursionError) as error:
        raise BadVersion(f"{where}: is damaged ({error})") from error
    if not holds:
        raise BadVersion(f"{where}: is damaged or was edited, its digest does not hold")
    check_manifest(manifest, where)
    return manifest


def check_manifest(manifest: Mapping[str, Any], where: Path) -> None:
    """Check every value that a scorer will be made of.

    Raises
    ------
    BadVersion
        A scorer cannot be made of it safely.
    """
    try:
        _check_values(manifest)
    except UNUSABLE as error:
        raise BadVersion(f"{where}: a manifest cannot hold this: {error}") from error


def _check_values(manifest: Mapping[str, Any]) -> None:
    labels, blocks = manifest["labels"], manifest["blocks"]
    if not isinstance(manifest["settings"], dict):
        raise ValueError("settings")
    if not _is_count(manifest["version"], 1) or not NAME.fullmatch(manifest["name"]):
        raise ValueError("name or version")
    if not re.fullmatch(r"[0-9T:.+Z-]{10,40}", manifest["created"]):
        raise ValueError("created")
    if not _is_count(manifest["n_features"]):
        raise ValueError("n_features")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("labels")
    if len(labels) < 2 or len(set(labels)) < len(labels) or _CONTROL.search("".join(labels)):
        raise ValueError("labels")
    if not isinstance(blocks, list) or not 1 <= len(labels) * len(blocks) <= _MAX_CELLS:
        raise ValueError("too many labels and blocks, or none")
    for block in blocks:
        _check_block(block)
    rule = manifest["abstention"]
    if set(rule) != {"label", "thresholds", "min_known_share"}:
        raise ValueError("abstention")
    if not isinstance(rule["label"], str) or _CONTROL.search(rule["label"]):
        raise ValueError("the abstaining label")
    if not set(rule["thresholds"]) <= set(labels):
        raise ValueError("thresholds")
    if not all(
        _is_within(x, 0, 1.01) for x in (rule["min_known_share"], *rule["thresholds"].values())
    ):
        raise ValueError("thresholds")
    for file, facts in manifest["files"].items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", file) or file == "manifest.json":
            raise ValueError(f"the file name {file!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", facts["sha256"]) or not _is_count(facts["bytes"]):
            raise ValueError(f"the digest of {file}")
    for file in ("scorer.npz", "probes.jsonl"):
        manifest["files"][file]


def _check_block(block: Mapping[str, Any]) -> None:
    sane = (
        set(block) == _BLOCK
        and isinstance(block["name"], str)
        and block["kind"] in _KINDS
        and block["field"] in _FIELDS
        and _is_count(block["low"], 1)
        and _is_count(block["high"], block["low"])
        and block["high"] <= 8
        and _is_within(block["weight"], 0, 1000)
        and block["weight"] > 0
        and _is_count(block["min_df"])
        and _is_within(block["max_df"], 0, 1)
    )
    if not sane:
        raise ValueError("blocks")


def _is_count(value: Any, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _is_within(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def check_digest(where: Path, data: mmap.mmap | bytes, facts: Mapping[str, Any]) -> None:
    """Hold the bytes of a file against what the manifest says of it.

    Raises
    ------
    BadVersion
        They are not the bytes that were saved.
    """
    if len(data) != facts["bytes"] or hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise BadVersion(f"{where}: is damaged or was replaced, its digest does not hold")
