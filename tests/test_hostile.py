"""Model folders by strangers: nothing runs, nothing hangs, and every change is refused by name."""

import contextlib
import csv
import io
import json
import math
import os
import pickle
import random
import shutil
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kopwijzer
from conftest import ROWS, anything, replace_file, rewrite, save_version
from kopwijzer import records, signing
from kopwijzer.arrays import pack
from kopwijzer.errors import BadVersion, KopwijzerError, NoRoom, NoSuchVersion
from kopwijzer.headlines import Headline
from kopwijzer.scorer import Scorer
from kopwijzer.versions import (
    Version,
    find,
    history,
    list_versions,
    load_pipeline,
    pack_scorer,
    rollback,
    set_alias,
    verify,
)

LOADED = ("manifest.json", "scorer.npz")
EVERY = (
    "manifest.json",
    "scorer.npz",
    "probes.jsonl",
    "model.joblib",
    "config.toml",
    "report.json",
    "report.html",
    "README.md",
)


@pytest.fixture
def folder(models: Path) -> Path:
    """The folder of nieuws@v1, to be tampered with."""
    return models / "nieuws" / "v1"


@pytest.fixture(autouse=True)
def _no_test_hangs() -> Iterator[None]:
    """A file that blocks its reader ends the test, not the run."""

    def stop(*_: Any) -> None:
        raise TimeoutError("something waits for a file")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def load(folder: Path) -> Scorer:
    """What predict and score do with a version."""
    return find(f"{folder.parent.name}@{folder.name}", folder.parents[1]).scorer()


def check(folder: Path) -> list[str]:
    """What `models verify` does."""
    return verify(find(f"{folder.parent.name}@{folder.name}", folder.parents[1]))


@contextlib.contextmanager
def little_memory(most: int) -> Iterator[None]:
    """Less than `most` bytes are taken at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


# Every byte ------------------------------------------------------------------------------------


def _flips(path: Path, most: int, seed: int) -> Iterator[int]:
    """Change a byte, give its place, change it back: all bytes of a file, or `most` of them."""
    content = path.read_bytes()
    chance = random.Random(seed)  # noqa: S311 (positions, no secret)
    places = range(len(content))
    with path.open("r+b", buffering=0) as file:
        for place in places if len(content) <= most else chance.sample(places, most):
            flip = chance.choice([1, 2, 4, 8, 16, 32, 64, 128, 255, chance.randint(1, 255)])
            os.pwrite(file.fileno(), bytes([content[place] ^ flip]), place)
            yield place
            os.pwrite(file.fileno(), content[place : place + 1], place)


@pytest.mark.parametrize("file", LOADED)
def test_loading_refuses_every_changed_byte(folder: Path, file: str) -> None:
    for place in _flips(folder / file, 700, seed=1):
        with pytest.raises(BadVersion, match=rf"v1/{file}: ") as caught:
            load(folder)
        assert "damaged" in str(caught.value) or "format" in str(caught.value), place
    load(folder)


@pytest.mark.parametrize("file", EVERY)
def test_verifying_refuses_every_changed_byte(folder: Path, file: str) -> None:
    for _ in _flips(folder / file, 450, seed=2):
        with pytest.raises(BadVersion, match=rf"v1/{file}: is (damaged|of format)"):
            check(folder)
    check(folder)


@pytest.mark.parametrize("file", EVERY)
def test_other_sizes_are_refused(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    for other in (b"", content[:-1], content[1:], content + b"\n", content + content, b"\0"):
        (folder / file).write_bytes(other)
        with pytest.raises(BadVersion, match=rf"v1/{file}: is damaged"):
            check(folder)
        if file in LOADED:
            with pytest.raises(BadVersion, match=rf"v1/{file}: is damaged"):
                load(folder)
    (folder / file).unlink()
    with pytest.raises(BadVersion, match=rf"v1/{file}: cannot be read \(No such file"):
        check(folder)


def test_a_file_that_nobody_named_is_refused(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text("raise SystemExit")
    with pytest.raises(BadVersion, match=r"sitecustomize\.py: is not named in the manifest"):
        check(folder)


def test_files_of_another_version_are_refused(
    models: Path, folder: Path, scorer: Scorer, pipeline: Any
) -> None:
    other = Scorer(
        scorer.weights,
        labels=list(scorer.classes_),
        blocks=scorer.blocks,
    )
    version = save_version(models, other, pipeline)
    shutil.copy(version.path / "manifest.json", folder / "manifest.json")
    with pytest.raises(BadVersion, match=r"belongs to nieuws@v3; put the folder back"):
        load(folder)
    shutil.rmtree(models / "nieuws" / "v2")
    (models / "sport").mkdir()
    (models / "nieuws" / "v3").rename(models / "sport" / "v3")
    with pytest.raises(BadVersion, match=r"belongs to nieuws@v3; put the folder back"):
        find("sport@v3", models)


# Pickles ---------------------------------------------------------------------------------------


class Bomb:
    """Runs something when it is unpickled; the tests look whether it did."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def _joblib(bomb: Bomb) -> bytes:
    stream = io.BytesIO()
    joblib.dump(bomb, stream, compress=3)
    return stream.getvalue()


def _object_array(bomb: Bomb) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=True, hashes=np.array([bomb], dtype=object))
    return stream.getvalue()


BOMBS: list[Callable[[Bomb], bytes]] = [pickle.dumps, _joblib, _object_array]


def _everything_but_the_pipeline(folder: Path) -> None:
    """Every way to use a version that does not ask for the pickle; failures are welcome."""
    models, ref = folder.parents[1], f"nieuws@{folder.name}"
    calls: list[Callable[[], Any]] = [
        lambda: list_versions(models),
        lambda: kopwijzer.load(ref, models).score_many(ROWS[:3]),
        lambda: kopwijzer.score("Genk wint", ref=ref, models=models),
        lambda: kopwijzer.load(ref, models).explain("Genk wint"),
        lambda: pickle.dumps(kopwijzer.load(ref, models)),
        lambda: check(folder),
        lambda: set_alias(ref, "proef", models),
        lambda: [find(ref, models).read(file) for file in EVERY[1:]],
        lambda: history(models, "nieuws"),
        lambda: rollback("nieuws", models),
    ]
    for call in calls:
        with contextlib.suppress(KopwijzerError):
            call()


@pytest.mark.parametrize("make", BOMBS)
@pytest.mark.parametrize("digest", ["old", "new"])
@pytest.mark.parametrize("file", [*EVERY[1:], "manifest.json"])
def test_a_planted_pickle_does_not_run(
    folder: Path, tmp_path: Path, make: Callable[[Bomb], bytes], digest: str, file: str
) -> None:
    mark = tmp_path / "ran"
    if digest == "old" or file == "manifest.json":
        (folder / file).write_bytes(make(Bomb(mark)))
    else:
        replace_file(folder, file, make(Bomb(mark)))
    _everything_but_the_pipeline(folder)
    assert not mark.exists()
    if file in LOADED:
        with pytest.raises(BadVersion, match=rf"v1/{file}: is (damaged|not a file of plain)"):
            load(folder)
    if digest == "old":
        with pytest.raises(BadVersion, match=rf"v1/{file}: is damaged"):
            check(folder)


def test_an_object_array_within_the_arrays_does_not_run(
    folder: Path, tmp_path: Path, scorer: Scorer
) -> None:
    mark = tmp_path / "ran"
    arrays = dict(np.load(io.BytesIO(pack_scorer(scorer))))
    for name in arrays:
        stream = io.BytesIO()
        bombs = np.array([Bomb(mark)], dtype=object)
        np.savez(stream, allow_pickle=True, **{**arrays, name: bombs})
        replace_file(folder, "scorer.npz", stream.getvalue())
        with pytest.raises(BadVersion, match=rf"scorer\.npz: .*{name}\.npy holds other things"):
            load(folder)
    _everything_but_the_pipeline(folder)
    assert not mark.exists()


def test_the_pipeline_is_not_unpickled_before_its_digest_holds(
    folder: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    (folder / "model.joblib").write_bytes(_joblib(Bomb(mark)))
    with pytest.raises(BadVersion, match=r"model\.joblib: is damaged or was replaced"):
        load_pipeline(find("nieuws", folder.parents[1]))
    assert not mark.exists()


# Manifests -------------------------------------------------------------------------------------

_Change = Callable[[dict[str, Any]], Any]


def _set(path: str, value: Any) -> Any:
    """A change of one key, "a.b" for nested ones."""
    *parents, last = path.split(".")

    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in parents:
            place = place[int(key)] if key.isdigit() else place[key]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return pytest.param(change, id=f"{path}={value!r:.30}")


def _each(path: str, *values: Any) -> list[Any]:
    return [_set(path, value) for value in values]


def _file(name: str, sha: Any = "0" * 64, size: Any = 1) -> Any:
    facts = {"sha256": sha, "bytes": size}
    return pytest.param(
        lambda manifest: manifest["files"].update({name: facts}), id=f"{name!r:.30}:{facts!r:.40}"
    )


ABSURD: list[Any] = [
    *_each("version", 0, -1, True, 1.0, "1", None, [], 10**30),
    *_each("name", "../nieuws", "", "nieuws\0", "Nieuws", 5, None, ["nieuws"]),
    *_each("labels", [], ["a"], ["a", "a"], [1, 2], "ab", {"a": 1}, None, 5),
    *_each("labels", ["a", "\x1b[31m"], ["a", None], [f"l{n}" for n in range(20_000)]),
    *_each("blocks", [], {}, None, "words", [None], [[]], [{}], ["words"]),
    *_each("blocks.0.kind", "bombs", None, 1, ["words"], ...),
    *_each("blocks.0.field", "footer", None, {}, ...),
    *_each("blocks.1.low", 0, -3, 1.5, True, "2", None, 10**9, ...),
    *_each("blocks.1.high", 0, 1, 9, 10**12, 4.0, "4", None, ...),
    *_each("blocks.0.weight", 0, -1, 1e9, True, "1", None, [], ...),
    *_each("blocks.0.min_df", -1, 1.5, None, ...),
    *_each("blocks.0.max_df", -1, 2, "1", ...),
    *_each("blocks.0.name", 5, None, ...),
    _set("blocks.0.more", 1),
    *_each("abstention", None, {}, [], "other", 5, ...),
    *_each("abstention.label", 5, None, ["other"], "\x1b]0;x\x07", ...),
    *_each("abstention.thresholds", None, [], {"goal": 0.5}, ["quote"], 0.5, ...),
    *_each("abstention.thresholds.quote", -0.1, 2, "0.5", True, None, []),
    *_each("abstention.min_known_share", -0.1, 2, "0.5", True, None, {}, ...),
    *_each("n_features", -1, 1.5, "many", True, None, ...),
    *_each("settings", None, [], "x", ...),
    *_each("created", "\x1b[2J", "", 5, None, "x" * 50, ...),
    *_each("files", {}, [], None, "scorer.npz", 5, ...),
    *(_file(x) for x in ("../x", "/etc/passwd", "a/b", "a\\b", "", ".", "..", ".hidden", "x\0y")),
    *(_file(x) for x in ("manifest.json", "x" * 200, "é", "x\n", "-rf", "x y")),
    *(_file("x", sha=x) for x in ("", "0" * 63, "G" * 64, "0" * 64 + "\n", None, 5, ["0"])),
    *[_file("x", size=-1), _file("x", size=1.5), _file("x", size="1"), _file("x", size=True)],
    *[_file("x", size=None), _file("x", size=[])],
    _file("scorer.npz", size=-5),
]


@pytest.mark.parametrize("change", ABSURD)
def test_absurd_manifests_are_refused_though_their_digest_holds(
    folder: Path, change: _Change
) -> None:
    rewrite(folder, change)
    with little_memory(16 << 20):
        for use in (load, check, lambda f: list_versions(f.parents[1])):
            with pytest.raises(BadVersion, match=r"v1/manifest\.json: (a manifest cannot|belongs)"):
                use(folder)


@pytest.mark.parametrize("file", ["scorer.npz", "probes.jsonl"])
def test_a_manifest_without_what_scoring_needs_is_refused(folder: Path, file: str) -> None:
    rewrite(folder, lambda manifest: manifest["files"].pop(file))
    with pytest.raises(BadVersion, match=rf"manifest\.json: a manifest cannot hold this: .*{file}"):
        load(folder)


def test_what_the_manifest_does_not_name_cannot_be_read(folder: Path) -> None:
    version = find("nieuws@v1", folder.parents[1])
    (folder / "more").touch()
    for file in ("more", "../log.jsonl", "/etc/hostname", "manifest.json", ""):
        with pytest.raises(BadVersion, match="v1: has no "):
            version.read(file)


@pytest.mark.parametrize("number", [0, 2, 99, -1, 10**30])
def test_another_format_says_what_to_do(folder: Path, number: int) -> None:
    rewrite(folder, lambda manifest: manifest.update(format=number))
    said = rf"manifest\.json: is of format {number}, this kopwijzer reads format 1; install"
    with pytest.raises(BadVersion, match=said):
        load(folder)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], {}])
def test_a_format_that_is_no_number_is_damage(folder: Path, value: Any) -> None:
    rewrite(folder, lambda manifest: manifest.update(format=value))
    with pytest.raises(BadVersion, match=r"manifest\.json: is damaged, it names no format"):
        load(folder)


def _text(raw: bytes, old: bytes, new: bytes) -> bytes:
    assert old in raw
    return raw.replace(old, new, 1)


RAW: list[bytes | Callable[[bytes], bytes]] = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b'"x"',
    b'{"format": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    lambda raw: b"\xff" + raw,
    lambda raw: b"\xef\xbb\xbf" + raw,
    lambda raw: raw.decode().encode("utf-16"),
    lambda raw: raw.decode().encode("utf-32"),
    lambda raw: raw + raw,
    lambda raw: raw.rstrip() + b" \n",
    lambda raw: json.dumps(json.loads(raw)).encode(),
    lambda raw: json.dumps(json.loads(raw), indent=1, sort_keys=True).encode() + b"\n",
    lambda raw: _text(raw, b'"version": 1', b'"version": NaN'),
    lambda raw: _text(raw, b'"version": 1', b'"version": Infinity'),
    lambda raw: _text(raw, b'"version": 1', b'"version": -Infinity'),
    lambda raw: _text(raw, b'"version": 1', b'"version": 1e999'),
    lambda raw: _text(raw, b'"version": 1', b'"version": ' + b"9" * 5000),
    lambda raw: _text(raw, b'"version": 1', b'"version": 2, "version": 1'),
    lambda raw: _text(raw, b'"format": 1', b'"format": ' + b"[" * 100_000),
]


@pytest.mark.parametrize("change", RAW, ids=range(len(RAW)))
def test_manifests_that_are_no_plain_json_are_refused(
    folder: Path, change: bytes | Callable[[bytes], bytes]
) -> None:
    path = folder / "manifest.json"
    path.write_bytes(change if isinstance(change, bytes) else change(path.read_bytes()))
    with pytest.raises(BadVersion, match=r"v1/manifest\.json: is damaged"):
        load(folder)


@pytest.mark.parametrize("depth", [50, 200, 300, 320, 330, 400, 500, 900, 990, 1000, 5000])
def test_deep_manifests_are_refused_or_read(folder: Path, depth: int) -> None:
    raw = (folder / "manifest.json").read_bytes()
    deep = _text(raw, b'"settings": {}', b'"settings": {"x": ' + b"[" * depth + b"]" * depth + b"}")
    (folder / "manifest.json").write_bytes(deep)
    with pytest.raises(BadVersion, match=r"v1/manifest\.json: is damaged"):
        load(folder)


_json = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def _paths(tree: Any, depth: int = 0) -> list[tuple[Any, ...]]:
    """Every place in a manifest that something else could stand in."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: list[tuple[Any, ...]] = []
    for key, value in items:
        found.append((key,))
        if isinstance(value, dict | list):
            found += [(key, *rest) for rest in _paths(value, depth + 1)]
    return found


@given(st.data())
@settings(max_examples=200)
def test_whatever_a_manifest_says_it_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, shelf: Path, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "said" / "nieuws" / "v1"
    if not folder.exists():
        shutil.copytree(shelf / "nieuws" / "v1", folder)
    shutil.copy(shelf / "nieuws" / "v1" / "manifest.json", folder / "manifest.json")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    path = data.draw(st.sampled_from(_paths(manifest)))
    value = data.draw(_json)

    def change(tree: Any) -> None:
        for key in path[:-1]:
            tree = tree[key]
        tree[path[-1]] = value

    rewrite(folder, change)
    with contextlib.suppress(BadVersion):
        proba = load(folder).predict_proba(ROWS[:2])
        assert np.isfinite(proba).all()
        assert np.abs(proba.sum(axis=1) - 1).max() < 1e-9
    with contextlib.suppress(BadVersion):
        check(folder)


# Arrays ----------------------------------------------------------------------------------------


def _arrays(scorer: Scorer) -> dict[str, Any]:
    return dict(np.load(io.BytesIO(pack_scorer(scorer))))


def _changed(name: str, change: Callable[[Any], Any]) -> Any:
    return pytest.param(name, change, id=name)


def _put(place: Any, value: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        _changed("n_documents", lambda a: a - a),
        _changed("n_documents", lambda a: -a),
        _changed("n_documents", lambda a: a[None]),
        _changed("n_documents", lambda a: a.astype(np.float64)),
        _changed("n_documents", lambda a: np.int64(1) + 0 * a),
        _changed("hashes", lambda a: a[::-1]),
        _changed("hashes", lambda a: a[:-1]),
        _changed("hashes", lambda a: a * 0),
        _changed("hashes", lambda a: a.reshape(1, -1)),
        _changed("hashes", lambda a: a.astype(np.int64)),
        _changed("block_ptr", _put(0, -1)),
        _changed("block_ptr", _put(1, -(2**62))),
        _changed("block_ptr", _put(-1, 2**62)),
        _changed("block_ptr", lambda a: a[::-1]),
        _changed("block_ptr", lambda a: a[:-1]),
        _changed("block_ptr", lambda a: np.append(a, a[-1])),
        _changed("df", lambda a: a[:-1]),
        _changed("df", lambda a: a + np.uint16(60_000)),
        _changed("df", lambda a: a.astype(np.float32)),
        _changed("coef", lambda a: a[:-1]),
        _changed("coef", lambda a: a[:, :-1]),
        _changed("coef", lambda a: a.T),
        _changed("coef", lambda a: a[..., None]),
        _changed("coef", lambda a: a * np.float32("nan")),
        _changed("coef", lambda a: a + np.float32("inf")),
        _changed("coef", lambda a: a.astype(np.float64)),
        _changed("scale", _put(0, np.nan)),
        _changed("scale", _put(0, np.inf)),
        _changed("scale", _put(0, -1e300)),
        _changed("scale", lambda a: a[:-1]),
        _changed("scale", lambda a: a.astype(np.float32)),
        _changed("intercept", _put(0, np.nan)),
        _changed("intercept", _put(0, -np.inf)),
        _changed("intercept", _put(0, 1e300)),
        _changed("intercept", lambda a: a[None]),
    ],
)
def test_absurd_arrays_are_refused_though_their_digest_holds(
    folder: Path, scorer: Scorer, name: str, change: Callable[[Any], Any]
) -> None:
    arrays = _arrays(scorer)
    replace_file(folder, "scorer.npz", pack({**arrays, name: np.asarray(change(arrays[name]))}))
    with pytest.raises(BadVersion, match=r"v1/scorer\.npz: "):
        load(folder)


_numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from([0, 1, -1, 127, 2**16 - 1, 2**32 - 1, 1e30, 1e300]),
)


@given(st.data())
@settings(max_examples=120)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_whatever_arrays_load_give_probabilities(
    tmp_path_factory: pytest.TempPathFactory, shelf: Path, scorer: Scorer, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "arrays" / "nieuws" / "v1"
    if not folder.exists():
        shutil.copytree(shelf / "nieuws" / "v1", folder)
    arrays = _arrays(scorer)
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=2)):
        array = np.atleast_1d(arrays[name]).copy()
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, array.size - 1))
            with np.errstate(all="ignore"):
                new = np.asarray(data.draw(_numbers)).astype(np.float64).astype(array.dtype)
            array.reshape(-1)[place] = new
        arrays[name] = array.reshape(arrays[name].shape)
    replace_file(folder, "scorer.npz", pack(arrays))
    with contextlib.suppress(BadVersion), little_memory(64 << 20):
        loaded = load(folder)
        proba = loaded.predict_proba(ROWS[::20])
        assert np.isfinite(proba).all()
        assert np.abs(proba.sum(axis=1) - 1).max() < 1e-9
        told = loaded.explain(ROWS[0]["headline"])
        assert all(math.isfinite(c.value) for c in told.contributions)


def test_frequencies_beyond_memory_take_none(folder: Path, scorer: Scorer) -> None:
    arrays = _arrays(scorer)
    df = arrays["df"].astype(np.uint32)
    df[0] = 2**32 - 1
    arrays |= {"df": df, "n_documents": np.array(2**62)}
    replace_file(folder, "scorer.npz", pack(arrays))
    with little_memory(8 << 20):
        assert np.isfinite(load(folder).predict_proba(ROWS[:1])).all()


def test_many_labels_without_features_take_no_memory(folder: Path) -> None:
    # A few kilobytes that would ask for gigabytes when the first row is scored.
    labels = [f"label{n}" for n in range(9_000)]
    nothing: dict[str, Any] = {
        "hashes": np.empty(0, np.uint32),
        "block_ptr": np.zeros(31, np.int64),
        "df": np.empty(0, np.uint32),
        "coef": np.empty((0, 9_000), np.int8),
        "scale": np.ones(9_000),
        "intercept": np.zeros(9_000),
        "n_documents": np.array(1),
    }
    replace_file(folder, "scorer.npz", pack(nothing))
    rewrite(
        folder,
        lambda m: m.update(labels=labels, blocks=m["blocks"][:1] * 30, abstention=_plain_rule()),
    )
    with little_memory(16 << 20), pytest.raises(BadVersion, match="too many labels and blocks"):
        load(folder)


def _plain_rule() -> dict[str, Any]:
    return {"label": "other", "thresholds": {}, "min_known_share": 0.5}


def test_blocks_that_cannot_serve_together_are_refused(folder: Path) -> None:
    rewrite(folder, lambda manifest: manifest["blocks"][1].update(low=1))
    with pytest.raises(BadVersion, match=r"scorer\.npz: .* must use the same n-gram sizes"):
        load(folder)


# Sizes -----------------------------------------------------------------------------------------


def _sparse(path: Path, size: int) -> None:
    path.unlink()
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("file", "size"),
    [("manifest.json", 9 << 20), ("manifest.json", 1 << 40), ("scorer.npz", 1 << 40)],
)
def test_files_beyond_any_model_are_not_read(folder: Path, file: str, size: int) -> None:
    _sparse(folder / file, size)
    with little_memory(1 << 20), pytest.raises(BadVersion, match=rf"{file}: is no file of at most"):
        load(folder)


@pytest.mark.parametrize("file", EVERY[1:])
def test_files_of_another_size_are_not_hashed(folder: Path, file: str) -> None:
    _sparse(folder / file, 3 << 30)
    start = time.process_time()
    with pytest.raises(BadVersion, match=rf"{file}: is (damaged|no file of at most)"):
        check(folder)
    assert time.process_time() - start < 1


# Links, pipes, folders -------------------------------------------------------------------------


@pytest.mark.parametrize("file", EVERY)
def test_linked_files_are_refused(folder: Path, tmp_path: Path, file: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (folder / file).rename(elsewhere)
    (folder / file).symlink_to(elsewhere)
    with pytest.raises(BadVersion, match=rf"v1/{file}: is a link; a version holds only files of"):
        check(folder)
    if file in LOADED:
        with pytest.raises(BadVersion, match=rf"v1/{file}: is a link"):
            load(folder)


def test_linked_versions_are_refused(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadVersion, match=r"nieuws/v1: is a link; a version is a folder of its own"):
        load(folder)
    with pytest.raises(BadVersion, match=r"nieuws/v1: is a link"):
        list_versions(folder.parents[1])


def test_a_linked_alias_means_nothing(folder: Path, tmp_path: Path) -> None:
    models = folder.parents[1]
    alias = folder.parent / "aliases" / "champion"
    alias.rename(tmp_path / "champion")
    alias.symlink_to(tmp_path / "champion")
    with pytest.raises(NoSuchVersion, match="no version 'nieuws'"):
        find("nieuws", models)
    set_alias("nieuws@v2", "champion", models)
    assert find("nieuws", models).number == 2
    assert (tmp_path / "champion").read_text() == "v1\n"


def test_nothing_is_written_through_links(
    folder: Path, tmp_path: Path, scorer: Scorer, pipeline: Any
) -> None:
    models, home = folder.parents[1], tmp_path / "home"
    home.mkdir()
    (home / "profile").write_text("a line without an end")
    for name in ("log.jsonl", ".lock"):
        saved = tmp_path / name
        if (folder.parent / name).exists():
            (folder.parent / name).rename(saved)
        (folder.parent / name).symlink_to(home / "profile")
        writes: list[Callable[[], Any]] = [
            lambda: set_alias("nieuws@v2", "champion", models),
            lambda: save_version(models, scorer, pipeline),
            lambda: rollback("nieuws", models),
        ]
        for write in writes:
            with pytest.raises((NoRoom, BadVersion), match=rf"{name}|links|link"):
                write()
        (folder.parent / name).unlink()
        if saved.exists():
            saved.rename(folder.parent / name)
    shutil.rmtree(folder.parent / "aliases")
    (folder.parent / "aliases").symlink_to(home)
    with pytest.raises(NoRoom, match="aliases: is a link; make it a folder"):
        set_alias("nieuws@v2", "profile", models)
    assert {path.name: path.read_text() for path in home.iterdir()} == {
        "profile": "a line without an end"
    }


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("file", EVERY)
def test_pipes_and_folders_are_refused_at_once(
    folder: Path, file: str, make: Callable[[Path], None]
) -> None:
    (folder / file).unlink()
    make(folder / file)
    with pytest.raises(BadVersion, match=rf"v1/{file}: is no file of at most"):
        check(folder)
    if file in LOADED:
        with pytest.raises(BadVersion, match=rf"v1/{file}: is no file of at most"):
            load(folder)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_pipes_and_folders_beside_the_versions_hang_nobody(
    folder: Path, scorer: Scorer, pipeline: Any, make: Callable[[Path], None]
) -> None:
    models = folder.parents[1]
    for name in ("log.jsonl", ".lock", "aliases/champion"):
        place = folder.parent / name
        aside = folder.parent / "aside"
        if place.exists():
            place.rename(aside)
        make(place)
        for call in (
            lambda: history(models, "nieuws"),
            lambda: find("nieuws", models),
            lambda: kopwijzer.score("x", ref="nieuws@v1", models=models),
            lambda: rollback("nieuws", models),
            lambda: set_alias("nieuws@v2", "champion", models),
            lambda: save_version(models, scorer, pipeline),
        ):
            with contextlib.suppress(KopwijzerError):
                call()
        if place.is_dir():
            place.rmdir()
        else:
            place.unlink()
        if aside.exists():
            aside.rename(place)
    for number in (7, 8):
        os.mkfifo(models / "nieuws" / f"v{number}")
        with pytest.raises(BadVersion, match=rf"v{number}/manifest\.json: cannot be read"):
            list_versions(models)
        with pytest.raises(NoSuchVersion, match=f"no version 'nieuws@v{number}'"):
            find(f"nieuws@v{number}", models)
        (models / "nieuws" / f"v{number}").unlink()


def test_a_hostile_log_leads_nowhere(folder: Path) -> None:
    models = folder.parents[1]
    log = folder.parent / "log.jsonl"
    moves = [
        {"event": "alias", "alias": "champion", "version": version}
        for version in ("../../../etc", "v2/../..", "v1\n", "", "/", None, 5, ["v1"], "v99", "v1")
    ]
    log.write_text("".join(json.dumps(move) + "\n" for move in moves))
    with pytest.raises(NoSuchVersion, match="the log knows no earlier version"):
        rollback("nieuws", models)
    assert find("nieuws", models).number == 1


# Signatures ------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key, as files."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    form = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_signature_holds_until_anything_changes(folder: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    version = find("nieuws@v1", folder.parents[1])
    assert signing.sign(version, private) == folder / "manifest.json.sig"
    assert signing.verify(version, public) == "the signature holds"
    check(folder)
    # Whoever changes a file can make its digest anew, but not the signature.
    replace_file(folder, "config.toml", b"C = 6\n")
    check(folder)
    with pytest.raises(BadVersion, match=r"\.sig: does not fit this key; the version was changed"):
        signing.verify(find("nieuws@v1", folder.parents[1]), public)
    assert signing.verify(version, public)  # what was found before is what was signed
    with pytest.raises(BadVersion, match="v2: is not signed"):
        signing.verify(find("nieuws@v2", folder.parents[1]), public)


def test_every_changed_byte_of_a_signature_is_refused(
    folder: Path, keys: tuple[Path, Path]
) -> None:
    version = find("nieuws@v1", folder.parents[1])
    place = signing.sign(version, keys[0])
    signature = bytes.fromhex(place.read_text())
    for _ in _flips(place, 200, seed=3):
        try:
            same = bytes.fromhex(place.read_text()) == signature  # "a" and "A" are one
        except ValueError:
            same = False
        if not same:
            with pytest.raises(BadVersion, match=r"\.sig: (is damaged|does not fit)"):
                signing.verify(version, keys[1])


def test_signatures_that_are_no_files_hang_nobody(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    version = find("nieuws@v1", folder.parents[1])
    place = signing.sign(version, keys[0])
    content = place.read_bytes()
    for said in (b"", b"zz", b"\xff", b"00" * 64, content[:-3], content * 2):
        place.write_bytes(said)
        with pytest.raises(BadVersion, match=r"\.sig: (is damaged, it is no sign|does not fit)"):
            signing.verify(version, keys[1])
    place.unlink()
    for make in (os.mkfifo, os.mkdir):
        make(place)
        with pytest.raises(BadVersion, match=r"\.sig: is no file of at most"):
            signing.verify(version, keys[1])
        place.rmdir() if place.is_dir() else place.unlink()
    (tmp_path / "sig").write_bytes(content)
    place.symlink_to(tmp_path / "sig")
    with pytest.raises(BadVersion, match=r"\.sig: is a link"):
        signing.verify(version, keys[1])
    # Signing anew replaces the link, and not what it points to.
    (tmp_path / "sig").write_bytes(b"kept")
    signing.sign(version, keys[0])
    assert signing.verify(version, keys[1])
    assert (tmp_path / "sig").read_bytes() == b"kept"


# Probes ----------------------------------------------------------------------------------------

_PROBES: list[bytes] = [
    b"{}\n",
    b"null\n",
    b"[]\n",
    b"\xff\n",
    b"[" * 100_000 + b"\n",
    b'{"headline": "x", "teaser": "", "scores": {}}\n',
    b'{"headline": "x", "teaser": "", "scores": null}\n',
    b'{"headline": 5, "teaser": "", "scores": {}}\n',
    b'{"headline": "x", "teaser": ["x"], "scores": {}}\n',
    b'{"headline": "x", "scores": "many"}\n',
    b'{"teaser": "x"}\n',
    b'"x"\n',
    b"9" * 10_000 + b"\n",
]


@pytest.mark.parametrize("content", _PROBES, ids=range(len(_PROBES)))
def test_senseless_probes_are_refused(folder: Path, content: bytes) -> None:
    replace_file(folder, "probes.jsonl", content)
    with pytest.raises(BadVersion, match=r"v1/probes\.jsonl: holds no probes"):
        check(folder)


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, -1, 10**400, "0.5", True, None, [0.1]])
def test_probes_that_score_otherwise_are_refused(folder: Path, value: Any) -> None:
    probes = (folder / "probes.jsonl").read_bytes().splitlines()
    probe = json.loads(probes[1])
    probe["scores"]["quote"] = value
    replace_file(folder, "probes.jsonl", b"\n".join([*probes, json.dumps(probe).encode(), b""]))
    with pytest.raises(BadVersion, match=r"a probe scores .* away|holds no probes"):
        check(folder)


# Rows in, records out --------------------------------------------------------------------------

_cells = st.one_of(
    anything, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(anything, max_size=2)
)
_headlines = st.builds(
    Headline,
    headline=anything,
    teaser=anything,
    extra=st.dictionaries(
        st.one_of(
            st.sampled_from(
                ["headline", "label", "label_in", "more", "error", "scores", "score_quote", "top"]
            ),
            anything,
        ),
        _cells,
        max_size=4,
    ),
    error=st.one_of(st.none(), st.none(), st.just("line 3: is no JSON")),
)


@given(st.lists(_headlines, max_size=6), st.booleans(), st.sampled_from([None, 1, 3]))
@example([Headline("a\rb", "c\r\nd", extra={"more": "\r", "label": math.nan})], False, None)
def test_each_row_gives_one_record_in_its_place(
    scorer: Scorer, rows: list[Headline], explain: bool, top: int | None
) -> None:
    def lines(form: Any) -> list[str]:
        answers = records.predict(scorer, iter(rows), batch=4)
        return list(records.write(answers, form, scorer, explain=explain, top=top))

    written = lines("jsonl")
    assert len(written) == len(rows)
    for row, line in zip(rows, written, strict=True):
        assert line.endswith("\n")
        assert line.count("\n") == 1
        found = json.loads(line, parse_constant=_no_constant)
        assert found["headline"] == row.headline
        assert found["error"] == row.error
        assert (found["label"] is None) == (row.error is not None)
        if row.error is None:
            assert found["label"] == scorer.score(row.headline, row.teaser).label
        for key, value in row.extra.items():
            kept = [found.get(key + "_in" * times) for times in range(4)]
            assert (None if _is_nan(value) else value) in kept or key in ("headline", "teaser")
    table = list(csv.reader(io.StringIO("".join(lines("csv")), newline=""), strict=True))
    assert len(table) == len(rows) + 1
    assert len({len(row) for row in table}) == 1
    place = table[0].index("headline")
    assert [row[place] for row in table[1:]] == [row.headline for row in rows]
    assert "".join(lines("table")).count("\n") > len(rows)


def _no_constant(text: str) -> float:
    raise AssertionError(f"{text} is no JSON")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def test_a_version_can_be_shown_whatever_it_holds(folder: Path) -> None:
    version = find("nieuws@v1", folder.parents[1])
    assert isinstance(version, Version)
    assert json.loads(json.dumps(version.manifest)) == version.manifest
