"""What the tests share: invented headlines, a model fitted on them, and strategies for text."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from kopwijzer.learning import fit_pipeline, settle, to_scorer
from kopwijzer.scorer import Abstention, Scorer
from kopwijzer.text import Block
from kopwijzer.versions import Version, save

# Whoever ignores Ctrl-C (a background job, nohup) hands that on to every command under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run; `HYPOTHESIS_PROFILE=wide` looks further, by other ones.
_common: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("default", derandomize=True, max_examples=100, **_common)
settings.register_profile("wide", max_examples=2000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

#: Other processes are forks: they have imported everything already.
PROCESSES = multiprocessing.get_context("fork")

BLOCKS = (
    Block("words", min_df=1),
    Block("characters", kind="characters", low=2, high=4),
    Block("headline", field="headline", weight=0.7),
    Block("teaser", field="teaser", weight=0.4),
    Block("patterns", kind="patterns", low=2, high=4, min_df=1, weight=0.8),
    Block("headline_characters", kind="characters", field="headline", low=2, high=4, weight=1.5),
)

_CLUBS = ("Genk", "Ajax", "Vitesse", "NEC", "Zulte", "Excelsior", "Standard", "Sparta")
_PEOPLE = ("De Wolf", "Janssen", "Okafor", "Van Aken", "Pereira", "Smolders", "Diallo", "Bos")
_FORMS = {
    "match_report": (
        ("{club} wint met {n}-1 van {other}", "{person} scoort twee keer in eigen huis."),
        ("{club} en {other} houden elkaar op {n}-{n}", "Een late treffer van {person} telde niet."),
        ("Ruime zege: {club} verslaat {other} ({n}-0)", ""),
        ("{other} verliest opnieuw, {club} stijgt naar plaats {n}", "Het werd 0-{n} na rust."),
        ("{club} klopt tien man van {other} in slotfase", "De {n}-1 viel in minuut 9{n}."),
    ),
    "transfer_rumour": (
        ("'{club} polst {person} van {other}'", "De spits heeft een contract tot 202{n}."),
        ("{club} wil {person} halen voor € {n},5 miljoen", "{other} vraagt meer voor hem."),
        ("{person} op weg naar {club}", "De middenvelder ondergaat morgen medische keuring."),
        ("“{other} biedt {n} miljoen euro op {person}”", ""),
        ("Transfer van {person} naar {club} lijkt rond", "Hij tekent voor {n} seizoenen."),
    ),
    "quote": (
        ("{person}: 'Wij waren vandaag de betere ploeg'", "De trainer van {club} was tevreden."),
        ('{person}: "Ik blijf volgend jaar bij {club}"', ""),
        ("'Zo kan het niet langer,' zegt {person} van {club}", "'Wij moeten beter,' klinkt het."),
        ("Coach {person} boos: ‘Dit was nooit een penalty’", "Hij zag {club} met {n}-0 verliezen."),
        ("{person} over {club}: “Mijn hart ligt hier”", "„Daar denk ik elke dag aan.”"),
    ),
    "other": (
        ("{n} cafés in de stad gaan vroeger dicht", "De burgemeester vreest rellen na {club}."),
        ("Quiz: hoeveel weet jij over {club}?", "Test je kennis in {n} vragen."),
        ("Zo laat begint {club} - {other} op televisie", ""),
        ("Supporter van {club} wordt {n}0 en krijgt taart", "Familie {person} vierde mee."),
        ("Kaarten voor {club} kosten {n} euro", "Abonnees gaan voor, aldus de club."),
    ),
}


def _invent() -> Iterator[dict[str, str]]:
    for label, forms in _FORMS.items():
        for number, (headline, teaser) in enumerate(forms * len(_CLUBS)):
            words = {
                "club": _CLUBS[number % 8],
                "other": _CLUBS[(3 * number + 1) % 8],
                "person": _PEOPLE[(number + number // 5) % 8],
                "n": str(number % 5 + 2),
            }
            yield {
                "headline": headline.format(**words),
                "teaser": teaser.format(**words),
                "label": label,
            }


ROWS = list(_invent())
TRUTH = [row["label"] for row in ROWS]
CHUNKS = sorted({chunk for row in ROWS for chunk in f"{row['headline']} {row['teaser']}".split()})

# Text ------------------------------------------------------------------------------------------

#: Signs at which cutting, lower case or hashing could go wrong.
ODD = (
    "İıŞßſKÅΣσςǅﬁŉΐ"  # change their length, or look at their neighbours, in lower case
    "\u0301\u0308\u0345\u0483\u200d\ufe0f\u0e31\u3099"  # marks and joiners
    "\ud800\udbff\udc00\udfff\udc80"  # lone surrogates
    "0129٣٤²½Ⅷ①〇"  # numbers of all sorts
    "-.,:–'‘’\"“”„«»€$@#_/\\|()[]"
    "\0\x01\x07\x7f\xad\ufeff\u202e\u2066\U0001f1e7\U0001f1ea\U0001f468⚽"
)
BLANKS = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2003\u2028\u2029\u3000"

_signs = st.one_of(
    st.sampled_from(ODD),
    st.sampled_from("abcdefgij klmnoprstuvwz AEIOU"),
    st.characters(),
    st.integers(0xD800, 0xDFFF).map(chr),
)
#: Any text at all, white space included.
anything = st.text(_signs, max_size=40)
#: One chunk: what `str.split` gives.
chunks = anything.map(lambda text: "".join(text.split())).filter(bool)
#: Words of the model's own, among anything else, between any white space.
headlines = st.lists(
    st.tuples(st.one_of(st.sampled_from(CHUNKS), chunks), st.sampled_from(BLANKS)), max_size=14
).map(lambda parts: "".join(word + blank for word, blank in parts))
rows_ = st.fixed_dictionaries({"headline": headlines, "teaser": st.one_of(st.just(""), headlines)})


# Models ----------------------------------------------------------------------------------------


def fitted(
    rows: Sequence[Any] = ROWS, truth: Sequence[str] = TRUTH, blocks: Sequence[Block] = BLOCKS
) -> Any:
    """A small pipeline, settled as training settles it."""
    return settle(fit_pipeline(rows, truth, blocks=blocks, epochs=5), temperature=0.8)


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """The fitted pipeline of all tests; nobody may change it."""
    return fitted()


@pytest.fixture(scope="session")
def scorer(pipeline: Any) -> Scorer:
    """The same model as a scorer that abstains for every reason there is."""
    rule = Abstention(
        "other", {"quote": 0.5, "match_report": 0.6, "transfer_rumour": 0.5}, min_known_share=0.4
    )
    return to_scorer(pipeline, rule)


# Versions --------------------------------------------------------------------------------------

PROBES = [("", ""), ("Genk wint met 3-1 van Ajax", "Bos scoort."), ("qqq zzz", "⚽"), ("'a'", "")]
FILES = {
    "config.toml": b"[learning]\nC = 5.0\n",
    "report.json": b'{"macro_f1": 0.5}\n',
    "report.html": b"<!doctype html><title>a report</title>\n",
    "README.md": b"# A model\n",
}
FACTS: dict[str, Any] = {"settings": {}, "figures": {"macro_f1": 0.5}, "data": {"n_rows": 160}}


def save_version(models: Path, scorer: Scorer, pipeline: Any, name: str = "nieuws") -> Version:
    """One more version of a model, as training saves it."""
    return save(
        name,
        scorer=scorer,
        pipeline=pipeline,
        probes=PROBES,
        facts=FACTS,
        files=lambda _: FILES,
        models=models,
    )


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, scorer: Scorer, pipeline: Any) -> Path:
    """A models folder with two versions; nobody may change it (see `models`)."""
    folder = tmp_path_factory.mktemp("shelf")
    for _ in range(2):
        save_version(folder, scorer, pipeline)
    return folder


@pytest.fixture
def models(shelf: Path, tmp_path: Path) -> Path:
    """A models folder of one's own: nieuws@v1, the champion, and nieuws@v2."""
    folder = tmp_path / "models"
    shutil.copytree(shelf, folder)
    return folder


def start(target: Callable[..., None], *args: Any) -> Any:
    """A process of its own that runs a function."""
    process = PROCESSES.Process(target=target, args=args)
    with warnings.catch_warnings():
        # Python warns of threads that hold locks while it forks; those of BLAS hold none.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    return process


def leftovers(models: Path) -> list[str]:
    """What writers left that are gone; the lock of all of them stays."""
    return sorted(path.name for path in models.glob("*/.*") if path.name != ".lock")


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a version's manifest as one would who can also make its digest anew."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    change(manifest)
    manifest.pop("digest", None)
    text = json.dumps(manifest, ensure_ascii=False, indent=1)
    manifest["digest"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
    (path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))


def replace_file(path: Path, file: str, content: bytes) -> None:
    """Replace a version's file, and its digest in the manifest."""
    (path / file).unlink(missing_ok=True)
    (path / file).write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    rewrite(path, lambda manifest: manifest["files"].update({file: facts}))
