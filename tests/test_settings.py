"""A recipe is read whole, or refused with the key, the value and what would do."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kopwijzer.errors import BadSettings
from kopwijzer.scorer import Abstention
from kopwijzer.settings import Settings, recipe_of, shipped
from kopwijzer.text import Block


def test_the_shipped_recipe_holds_every_key_with_its_default() -> None:
    read = Settings.read()
    assert read == Settings.read(shipped("configs") / "default.toml")
    text = (shipped("configs") / "default.toml").read_text(encoding="utf-8")
    for section, values in Settings().model_dump().items():
        for key in values if section != "features" else ():
            assert key in text, f"{section}.{key} is not in the recipe"
        own = getattr(read, section)
        own = own.values() if section == "features" else [own]
        for part in own:
            missing = set(type(part).model_fields) - part.model_fields_set
            assert missing <= {"prior", "precision", "chunk_rows"}


def test_every_shipped_recipe_can_be_used() -> None:
    for path in shipped("configs").glob("*.toml"):
        if path.name != "search.toml":
            Settings.read(path).blocks()


def test_changes() -> None:
    changes = [
        "learning.C=2.5",
        "learning.seed = 7",
        "abstention.label=geen",
        "abstention.precision.quote=0.9",
        'data.labels=["a", "b"]',
        "features.words.ngrams=[1, 1]",
        "features.extra.field=teaser",
        "learning.prior.quote=0.3",
        "evaluation.learning_curve=false",
        "data.headline=kop = titel",
    ]
    read = Settings.read(changes=changes)
    assert (read.learning.C, read.learning.seed) == (2.5, 7)
    assert (read.abstention.label, read.abstention.precision) == ("geen", {"quote": 0.9})
    assert read.data.labels == ("a", "b")
    assert read.features["words"].ngrams == (1, 1)
    assert read.features["extra"].field == "teaser"
    assert read.learning.prior == {"quote": 0.3}
    assert read.evaluation.learning_curve is False
    assert read.data.columns().headline == "kop = titel"


def test_settings_become_what_the_other_rooms_take() -> None:
    read = Settings.from_mapping(
        {
            "features": {
                "w": {"weight": 2, "min_df": 3, "max_df": 0.5},
                "c": {"kind": "characters", "field": "headline", "ngrams": [3, 4]},
            },
            "abstention": {"label": "geen", "min_known_share": 0.25},
        }
    )
    assert read.blocks() == (
        Block("w", weight=2.0, min_df=3, max_df=0.5),
        Block("c", kind="characters", field="headline", low=3, high=4),
    )
    assert read.abstains({"a": 0.5}) == Abstention("geen", {"a": 0.5}, 0.25)
    assert read.abstains() == Abstention("geen", {}, 0.25)
    # Of rows that are none of the labels comes a threshold for each label without one.
    own = read.abstains({"a": 0.9}, ["b", "a", "geen"])
    assert own == Abstention("geen", {"a": 0.9, "b": 0.5}, 0.25)
    assert read.abstains({}, ["a", "b"]) == Abstention("geen", {}, 0.25)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().learning.C = 3


# Round trip ------------------------------------------------------------------------------------

_text = st.text(max_size=12)
_share = st.floats(0, 1)
_inside = st.floats(0, 1, exclude_min=True, exclude_max=True)
_words = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.just("words"),
        "field": st.sampled_from(["both", "headline", "teaser"]),
        "ngrams": st.sampled_from([[1, 1], [1, 2]]),
        "min_df": st.integers(1, 1000),
        "max_df": st.floats(0, 1, exclude_min=True),
        "weight": st.floats(0, 1000, exclude_min=True),
    },
)
_trees = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries(
            {}, optional={"headline": _text, "labels": st.lists(_text, max_size=3)}
        ),
        "features": st.dictionaries(_text.filter(bool), _words, min_size=1, max_size=3),
        "learning": st.fixed_dictionaries(
            {},
            optional={
                "C": st.floats(0, 1e6, exclude_min=True),
                "epochs": st.integers(1, 10_000),
                "balance": _share,
                "prior": st.dictionaries(_text, _inside, max_size=3),
                "seed": st.integers(0, 2**32 - 1),
            },
        ),
        "abstention": st.fixed_dictionaries(
            {},
            optional={
                "label": _text.filter(bool),
                "min_known_share": _share,
                "precision": _share | st.dictionaries(_text, _share, min_size=1, max_size=3),
            },
        ),
        "evaluation": st.fixed_dictionaries(
            {},
            optional={
                "folds": st.integers(2, 50),
                "newest": _inside,
                "learning_curve": st.booleans(),
            },
        ),
    },
)


@given(_trees)
def test_written_settings_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    settings = Settings.from_mapping(tree)
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_text(settings.to_toml(), encoding="utf-8", newline="")
    assert Settings.read(path) == settings


def test_the_shipped_recipe_reads_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(Settings.read().to_toml(), encoding="utf-8")
    assert Settings.read(path) == Settings.read()


# Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("learning.c=1", "unknown key 'learning.c'; did you mean 'C'"),
        ("lerning.C=1", "unknown key 'lerning'; did you mean 'learning'"),
        ("learning.zzz=1", "unknown key 'learning.zzz'; known are .*C, epochs, balance"),
        ("features.words.nrgams=[1, 2]", "unknown key 'features.words.nrgams'; did you mean 'ngra"),
        ("learning.C=0", "learning.C = 0: input should be greater than 0"),
        ("learning.C=nan", "learning.C = nan: input should be"),
        ("learning.C=inf", "learning.C = inf: input should be"),
        ("learning.C=veel", "learning.C = 'veel': input should be a valid number"),
        ("learning.C=", "learning.C = '': input should be a valid number"),
        ("learning=5", "learning = 5: input should be"),
        ("learning.epochs=1.5", "learning.epochs = 1.5: input should be a valid integer"),
        ("learning.seed=-1", "learning.seed = -1: input should be greater than or equal to 0"),
        ("learning.prior.quote=1.5", "learning.prior.quote = 1.5: input should be less than 1"),
        ("abstention.min_known_share=55", "min_known_share = 55: input should be less than or eq"),
        ("abstention.precision=95", "abstention.precision = 95: input should be less than or"),
        ("abstention.precision.a=95", "abstention.precision.a = 95: input should be less than or"),
        ("abstention.label=", "abstention.label = '': "),
        ("evaluation.folds=1", "evaluation.folds = 1: input should be greater than or equal to 2"),
        (
            "features.words.kind=verbs",
            "features.words.kind = 'verbs': input should be 'words', 'ch",
        ),
        ("features.words.ngrams=[2, 1]", "the smaller n-gram size comes first"),
        ("features.words.ngrams=[1, 3]", r"words come alone and in pairs: \[1, 1\] or \[1, 2\]"),
        ("features.words.ngrams=[2, 2]", r"words come alone and in pairs: \[1, 1\] or \[1, 2\]"),
        ("features.words.ngrams=[0, 2]", "greater than or equal to 1"),
        ("features.characters.ngrams=[2, 9]", "less than or equal to 8"),
        ("features.more={kind='patterns', ngrams=[1, 8]}", "must use the same n-gram sizes"),
        ("features.more={kind='characters', ngrams=[1, 3]}", "must use the same n-gram sizes"),
        ("features={}", "features = {}: "),
        ("C", "--set 'C': write it as section.key=value"),
        ("=5", "--set '=5': write it as section.key=value"),
        ("learning..C=5", "--set 'learning..C=5': write it as section.key=value"),
        ("learning.C.x=5", "--set 'learning.C.x=5': 'C' is a value and holds no keys"),
    ],
)
def test_what_cannot_be_used_is_refused(change: str, said: str) -> None:
    with pytest.raises(BadSettings, match=said) as caught:
        Settings.read(changes=[change])
    assert len(str(caught.value).splitlines()) == 1


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(BadSettings, match=r"learning\.C.*\n.*evaluation\.folds") as caught:
        Settings.read(changes=["learning.C=-1", "evaluation.folds=1"])
    assert len(str(caught.value).splitlines()) == 2


def test_long_values_are_cut_in_the_message() -> None:
    with pytest.raises(BadSettings, match=r"learning\.C = ") as caught:
        Settings.read(changes=["learning.C=" + "x" * 5000])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"learning = [", "is not a TOML file"),
        (b"\xff\xfe", "is not a TOML file"),
        (b"C = 5\nC = 6", "is not a TOML file"),
        (b"x = " + b"[" * 100_000, "is not a TOML file"),
        (b"x = " + b"9" * 10_000, "is not a TOML file"),
        (b"C = 5", "recipe.toml: unknown key 'C'"),
    ],
)
def test_files_that_are_no_recipe_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(BadSettings, match=said):
        Settings.read(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path, "a\0b"):
        with pytest.raises(BadSettings, match=r"cannot be read|is not a TOML file"):
            Settings.read(path)


def test_a_recipe_of_a_few_lines_extends_another(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('extends = "default"\n[features.words]\nweight = 3.0\n', encoding="utf-8")
    assert Settings.read(path) == Settings.read(changes=["features.words.weight=3.0"])
    above = tmp_path / "more.toml"
    above.write_text('extends = "own.toml"\n[learning]\nC = 2.0\n', encoding="utf-8")
    changes = ["features.words.weight=3.0", "learning.C=2.0"]
    assert Settings.read(above) == Settings.read(changes=changes)
    assert Settings.read(str(above), ["learning.C=8.0"]) == Settings.read(path)


def test_a_file_goes_before_a_shipped_recipe_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.read("default") == Settings.read()
    Path("default").write_text("[learning]\nC = 2.0\n", encoding="utf-8")
    assert Settings.read("default").learning.C == 2.0
    assert Settings.read() != Settings.read("default")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends = 1", r"one\.toml: extends = 1: put the name of one recipe, in quotes$"),
        ('extends = "none.toml"', r"none\.toml: cannot be read \(No such file or directory\)$"),
        ('extends = "two"', r"two: cannot be read \(.*\); name a TOML file, or 'default' or 'foo"),
        ('extends = "one.toml"', r"extends = 'one\.toml': that recipe extends this one; cut the"),
        ('extends = "ring.toml"', r"ring\.toml: extends = 'one\.toml': that recipe extends this"),
        ('extends = "default"\nC = 1', r"one\.toml: unknown key 'C'"),
        ('extends = "default"\nlearning = 1', r"one\.toml: learning = 1"),
    ],
)
def test_what_a_recipe_cannot_extend(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "one.toml"
    path.write_text(text, encoding="utf-8")
    (tmp_path / "ring.toml").write_text('extends = "one.toml"', encoding="utf-8")
    with pytest.raises(BadSettings, match=said):
        Settings.read(path)


def test_faults_of_changes_name_no_file_of_ours() -> None:
    for recipe in (None, "football-nl", recipe_of(None)):
        with pytest.raises(BadSettings, match=r"^settings: unknown key 'learning\.c'"):
            Settings.read(recipe, ["learning.c=1"])


def test_the_shipped_corpus_has_a_recipe_of_its_own(tmp_path: Path) -> None:
    for source in (None, shipped("football-nl"), str(shipped("football-nl"))):
        assert recipe_of(source) == shipped("configs") / "football-nl.toml"
    others: list[Any] = [tmp_path, "rows.jsonl", "-", [], "a\0b", "football-nl"]
    for other in others:
        assert recipe_of(other) == shipped("configs") / "default.toml"
    own, plain = Settings.read("football-nl"), Settings.read()
    assert own.features.keys() == plain.features.keys()
    assert own.data.source == "beat"
    assert set(own.learning.prior) == {
        "club_finance",
        "interview",
        "match_report",
        "other",
        "transfer_rumour",
    }
    assert sum(own.learning.prior.values()) == pytest.approx(1)


def test_an_empty_file_is_the_plainest_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.touch()
    assert Settings.read(path) == Settings()
    assert Settings().blocks() == (Block("words"),)
