"""The model card: README.md of a version, with the metadata header that model hubs read."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["render"]


def render(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The card as Markdown; a section without facts is left out."""
    ref = f"{manifest['name']}@v{manifest['version']}"
    parts = [
        _header(manifest),
        f"# {manifest['name']} v{manifest['version']}\n",
        _use(manifest, ref),
        _figures(manifest, report),
        _data(manifest),
        _limits(manifest),
        _loading(ref),
    ]
    return "\n".join(part for part in parts if part)


def _header(manifest: Mapping[str, Any]) -> str:
    """YAML front matter, written as JSON values, which YAML takes as they are."""
    figures = manifest.get("figures") or {}
    fields: dict[str, Any] = {
        "library_name": "kopwijzer",
        "pipeline_tag": "text-classification",
        "tags": ["tf-idf", "logistic-regression", "abstention", "news"],
    }
    if manifest.get("language"):
        fields["language"] = manifest["language"]
    metrics = [
        {"type": kind, "name": kind, "value": round(figures[key], 4)}
        for kind, key in (("f1", "macro_f1"), ("accuracy", "accuracy"))
        if isinstance(figures.get(key), float)
    ]
    if metrics:
        fields["model-index"] = [
            {
                "name": manifest["name"],
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": manifest["data"]["source"], "type": "custom"},
                        "metrics": metrics,
                    }
                ],
            }
        ]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _use(manifest: Mapping[str, Any], ref: str) -> str:
    labels = [label for label in manifest["labels"] if label != manifest["abstention"]["label"]]
    named = ", ".join(map(_code, labels))
    return f"""## Intended use

Tells which of {len(labels)} kinds a headline with its teaser is: {named}. Where it is none of
them, or the model is not sure, it says {_code(manifest["abstention"]["label"])} with a reason.

    from kopwijzer import load
    load("{ref}").score("headline", "teaser")
"""


def _code(text: str) -> str:
    """A text that Markdown takes as it is, whatever signs are in it."""
    fence = "`"
    while fence in text:
        fence += "`"
    blank = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{blank}{' '.join(text.splitlines())}{blank}{fence}"


def _figures(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    rows = []
    for kind, figures in (report.get("figures") or {}).items():
        macro = figures.get("macro_f1")
        if not macro:
            continue
        interval = f"{macro['low']:.3f}-{macro['high']:.3f}" if macro.get("low") is not None else ""
        rows.append(f"| {kind} | {macro['value']:.3f} | {interval} | {figures['n_rows']:,} |")
    if not rows:
        return ""
    honest = manifest["figures"].get("split", "")
    thresholds = manifest["abstention"]["thresholds"]
    promise = (
        "\nThresholds of confidence: "
        + ", ".join(f"{_code(label)} {value:.2f}" for label, value in thresholds.items())
        + ".\n"
        if thresholds
        else ""
    )
    return (
        "## Figures\n\nMacro-F1 of models that had not seen the rows they were measured on "
        f"(quote the line *{honest}*):\n\n| split | macro-F1 | 95% interval | rows |\n"
        "|---|---|---|---|\n" + "\n".join(rows) + "\n" + promise
    )


def _data(manifest: Mapping[str, Any]) -> str:
    data = manifest["data"]
    counts = ", ".join(f"{_code(label)} {n:,}" for label, n in data["labels"].items())
    origin = (
        "\nEvery row was written for the purpose; the events and persons in them are invented. "
        "See DATASHEET.md beside the corpus.\n"
        if data["source"] == "football-nl"
        else ""
    )
    return f"""## Training data

{data["n_rows"]:,} rows of {data["source"]} ({counts}); fingerprint `{data["fingerprint"][:16]}`.
{origin}"""


def _limits(manifest: Mapping[str, Any]) -> str:
    return f"""## Limits

- It reads words, not the world: an item in words that training lacks is abstained on or wrong.
- Its confidence was calibrated on rows like those it was trained on; check it on your own with
  `kopwijzer evaluate YOUR_ROWS --model {manifest["name"]}`.
- It sees one headline and one teaser, not the article.
"""


def _loading(ref: str) -> str:
    return f"""## Loading

`scorer.npz` and `manifest.json` are plain data and run nothing. `model.joblib` is a pickle of the
scikit-learn pipeline; load it (`kopwijzer.versions.load_pipeline`) only if you trust its source.
Check the folder with `kopwijzer models verify {ref}`.
"""
