"""Versions: folders under models/ that are written whole or not at all, and never edited.

    models/<name>/v<N>/           one version
        manifest.json             what it is, and the digests of the other files
        scorer.npz                the model as plain arrays: what predict and score read
        model.joblib              the fitted scikit-learn pipeline (a pickle: see `load_pipeline`)
        config.toml report.json report.html README.md probes.jsonl
    models/<name>/aliases/<alias> one line, "v3"; replaced atomically
    models/<name>/log.jsonl       what happened when; it only ever grows

A reference is "name", "name@alias", "name@latest" or "name@v3"; a bare name means its champion.
This is the only room that touches joblib, and it does so in `save` and `load_pipeline` alone.
"""

import contextlib
import json
import mmap
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kopwijzer.arrays import pack, unpack
from kopwijzer.errors import BadRows, BadSettings, BadVersion, NoRoom, NoSuchVersion
from kopwijzer.folders import (
    locked,
    map_file,
    read_file,
    replace_file,
    sync,
    translated,
    workplace,
    write_file,
)
from kopwijzer.manifest import (
    FORMAT,
    NAME,
    UNUSABLE,
    check_digest,
    check_manifest,
    digests,
    make_manifest,
    manifest_bytes,
    parse_manifest,
)
from kopwijzer.scorer import Abstention, Scorer
from kopwijzer.text import Block
from kopwijzer.weights import Weights

__all__ = [
    "FORMAT",
    "Version",
    "aliases",
    "champion",
    "find",
    "history",
    "list_versions",
    "load_pipeline",
    "models_folder",
    "pack_scorer",
    "rollback",
    "save",
    "set_alias",
    "stamp",
    "verify",
]

#: The file of a version that may stand there though the manifest does not name it.
SIGNATURE = "manifest.json.sig"

_NUMBER = re.compile(r"v([1-9][0-9]{0,8})")
_ARRAYS = frozenset(["hashes", "block_ptr", "df", "coef", "scale", "intercept", "n_documents"])
_MANIFEST_BYTES = 8 << 20
_MODEL_BYTES = 4 << 30
_PROBE_BYTES = 64 << 20
_LOG_BYTES = 256 << 20
_LAST_NUMBER = 999_999_999


@dataclass(frozen=True, slots=True)
class Version:
    """One saved version: where it is, and its manifest (checked against its digest)."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def number(self) -> int:
        return int(self.manifest["version"])

    @property
    def ref(self) -> str:
        """The reference that always means this version: "name@v3"."""
        return f"{self.name}@v{self.number}"

    def read(self, file: str) -> bytes:
        """The bytes of one of the version's files, after its digest was checked."""
        return _read_checked(self, file, _MODEL_BYTES)

    def signed_bytes(self) -> bytes:
        """What a signature of the version is over: the manifest, as it was found in its file."""
        return manifest_bytes(self.manifest)

    def signature(self) -> bytes | None:
        """What stands in the file beside the manifest, if there is one; it may be anything."""
        place = self.path / SIGNATURE
        return read_file(place, 4096) if os.path.lexists(place) else None

    def add_signature(self, content: bytes) -> Path:
        """Put a signature beside the manifest, whole or not at all; gives its place."""
        place = self.path / SIGNATURE
        with translated(self.path.parent), locked(self.path.parent):
            replace_file(self.path.parent, place, content)
        return place

    def scorer(self) -> Scorer:
        """The model, ready to score; its arrays stay in the mapped file."""
        where = self.path / "scorer.npz"
        data = _map_checked(self, "scorer.npz")
        try:
            return _scorer(self.manifest, data)
        except (BadVersion, BadSettings) as error:
            raise BadVersion(f"{where}: {error}") from error


# Reading ---------------------------------------------------------------------------------------


def models_folder(models: str | os.PathLike[str] | None = None) -> Path:
    """The folder of all models: the argument, else $KOPWIJZER_MODELS, else ./models."""
    return Path(models or os.environ.get("KOPWIJZER_MODELS") or "models")


def find(ref: str, models: str | os.PathLike[str] | None = None) -> Version:
    """The version that a reference means.

    Raises
    ------
    NoSuchVersion
        There is none; the message names what there is.
    BadVersion
        Its manifest is damaged or of another format.
    """
    root = models_folder(models)
    name, _, which = ref.partition("@")
    folder = root / _name(name)
    which = which or "champion"
    if _NUMBER.fullmatch(which):
        number = which
    elif which == "latest":
        numbers = _numbers(folder)
        number = f"v{numbers[-1]}" if numbers else ""
    else:
        number = _read_alias(folder, _name(which, "alias")) or ""
    if not number or not (folder / number).is_dir():
        raise NoSuchVersion(_absent(ref, root, folder))
    return _open(folder / number, name)


def stamp(ref: str, models: str | os.PathLike[str] | None = None) -> object:
    """Something that changes when `ref` may have come to mean another version; costs one stat."""
    name, _, which = ref.partition("@")
    folder = models_folder(models) / _name(name)
    which = which or "champion"
    computed = which == "latest" or _NUMBER.fullmatch(which)
    try:
        facts = (folder if computed else folder / "aliases" / _name(which, "alias")).stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ino


def list_versions(
    models: str | os.PathLike[str] | None = None, name: str | None = None
) -> list[Version]:
    """Every whole version, by name and number. A damaged one raises `BadVersion`."""
    root = models_folder(models)
    names = [_name(name)] if name else _names(root)
    return [_open(root / n / f"v{i}", n) for n in names for i in _numbers(root / n)]


def aliases(models: str | os.PathLike[str] | None, name: str) -> dict[str, str]:
    """Alias -> "v3" of one model, in alphabetical order."""
    folder = models_folder(models) / _name(name)
    try:
        found = sorted(path.name for path in (folder / "aliases").iterdir())
    except OSError:
        return {}
    pairs = ((alias, _read_alias(folder, alias)) for alias in found if NAME.fullmatch(alias))
    return {alias: number for alias, number in pairs if number}


def champion(models: str | os.PathLike[str] | None, name: str) -> Version | None:
    """The version that `champion` points to, if there is one."""
    try:
        return find(name, models)
    except NoSuchVersion:
        return None


def history(models: str | os.PathLike[str] | None, name: str) -> list[dict[str, Any]]:
    """The log of one model, oldest first: time (UTC), event, version, alias, who, note."""
    path = models_folder(models) / _name(name) / "log.jsonl"
    if not os.path.lexists(path):
        return []
    entries = []
    for line in read_file(path, _LOG_BYTES).split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                entries.append(entry)
    return entries


def verify(version: Version) -> list[str]:
    """Replay the probes and check every digest; what was checked, a line each.

    Raises
    ------
    BadVersion
        A file is missing, damaged or not named in the manifest, or a probe scores otherwise.
    """
    done = []
    allowed = {*version.manifest["files"], "manifest.json", SIGNATURE}
    for path in sorted(version.path.iterdir()):
        if path.name not in allowed:
            raise BadVersion(f"{path}: is not named in the manifest; remove it or do not trust it")
    for file in version.manifest["files"]:
        _map_checked(version, file)
        done.append(f"{file}: digest holds")
    where = version.path / "probes.jsonl"
    raw = _read_checked(version, "probes.jsonl", _PROBE_BYTES)
    scorer = version.scorer()
    try:
        probes = [json.loads(line) for line in raw.splitlines()]
        gap = _probe_gap(scorer, probes)
    except (*UNUSABLE, BadRows) as error:
        raise BadVersion(f"{where}: holds no probes ({type(error).__name__})") from error
    if not gap <= 1e-6:
        raise BadVersion(f"{version.path}: a probe scores {gap:.2g} away from what was saved")
    done.append(f"{len(probes)} probes score as saved (largest gap {gap:.1e})")
    return done


def load_pipeline(version: Version) -> Any:
    """The fitted scikit-learn `Pipeline` of a version, to go on with it in scikit-learn.

    This unpickles `model.joblib`, and a pickle can run anything when it is loaded: do it only
    with versions from people you trust. The file's digest is checked first, against a manifest
    that whoever wrote the file could have written too.
    """
    import io

    import joblib

    return joblib.load(io.BytesIO(version.read("model.joblib")))


def _open(path: Path, name: str) -> Version:
    if path.is_symlink():
        raise BadVersion(f"{path}: is a link; a version is a folder of its own")
    where = path / "manifest.json"
    manifest = parse_manifest(read_file(where, _MANIFEST_BYTES), where)
    if manifest["name"] != name or f"v{manifest['version']}" != path.name:
        raise BadVersion(
            f"{where}: belongs to {manifest['name']}@v{manifest['version']}; "
            "put the folder back where it came from"
        )
    return Version(path, manifest)


def _facts(version: Version, file: str) -> Mapping[str, Any]:
    facts: Mapping[str, Any] | None = version.manifest["files"].get(file)
    if facts is None:
        raise BadVersion(f"{version.path}: has no {file}")
    return facts


def _read_checked(version: Version, file: str, limit: int) -> bytes:
    facts, where = _facts(version, file), version.path / file
    data = read_file(where, limit)
    check_digest(where, data, facts)
    return data


def _map_checked(version: Version, file: str) -> mmap.mmap | bytes:
    facts, where = _facts(version, file), version.path / file
    data = map_file(where, _MODEL_BYTES)
    check_digest(where, data, facts)
    return data


def _scorer(manifest: Mapping[str, Any], data: mmap.mmap | bytes) -> Scorer:
    arrays = unpack(data, _ARRAYS)
    kinds = {name: array.dtype.str for name, array in arrays.items()}
    if (
        kinds["hashes"] != "<u4"
        or kinds["block_ptr"] != "<i8"
        or kinds["df"] not in ("<u2", "<u4")
        or kinds["coef"] not in ("|i1", "<f4")
        or kinds["scale"] != "<f8"
        or kinds["intercept"] != "<f8"
        or kinds["n_documents"] != "<i8"
        or arrays["n_documents"].shape != ()
        or any(arrays[name].ndim != 1 for name in ("hashes", "block_ptr", "df"))
    ):
        raise BadVersion("holds arrays of other kinds than a scorer has")
    rule = manifest["abstention"]
    return Scorer(
        Weights(
            hashes=arrays["hashes"],
            block_ptr=arrays["block_ptr"],
            df=arrays["df"],
            coef=arrays["coef"],
            scale=arrays["scale"],
            intercept=arrays["intercept"],
            n_documents=int(arrays["n_documents"]),
        ),
        labels=manifest["labels"],
        blocks=[Block(**block) for block in manifest["blocks"]],
        abstention=Abstention(rule["label"], rule["thresholds"], rule["min_known_share"]),
    )


def _name(name: str, what: str = "model name") -> str:
    if not NAME.fullmatch(name) or ".." in name:
        raise BadSettings(
            f"{name!r} is no {what}: use 1 to 64 lower-case letters, digits, '-', '_' and '.', "
            "with a letter or digit at both ends"
        )
    return name


def _names(root: Path) -> list[str]:
    try:
        return sorted(p.name for p in root.iterdir() if NAME.fullmatch(p.name) and p.is_dir())
    except OSError:
        return []


def _numbers(folder: Path) -> list[int]:
    """The numbers of a model's versions, rising. A folder that has its name is whole."""
    try:
        found = [_NUMBER.fullmatch(path.name) for path in folder.iterdir()]
    except OSError:
        return []
    return sorted(int(match[1]) for match in found if match)


def _read_alias(folder: Path, alias: str) -> str | None:
    if (folder / "aliases").is_symlink():
        return None
    try:
        text = read_file(folder / "aliases" / alias, 64).decode("ascii", "replace").strip()
    except BadVersion:
        return None
    return text if _NUMBER.fullmatch(text) else None


def _absent(ref: str, root: Path, folder: Path) -> str:
    numbers, names = _numbers(folder), _names(root)
    if numbers:
        known = ", ".join([f"v{n}" for n in numbers[-5:]] + sorted(aliases(root, folder.name)))
        return f"no version {ref!r} in {folder}; there are {known}"
    if names:
        return f"no model {folder.name!r} in {root}; there are {', '.join(names)}"
    return (
        f"no models in {root}: train one with 'kopwijzer train', or name the folder with --models"
    )


# Writing ---------------------------------------------------------------------------------------


def pack_scorer(scorer: Scorer) -> bytes:
    """The bytes of scorer.npz: equal for equal models."""
    weights = scorer.weights
    return pack(
        {
            "hashes": weights.hashes,
            "block_ptr": weights.block_ptr,
            "df": weights.df,
            "coef": weights.coef,
            "scale": weights.scale,
            "intercept": weights.intercept,
            "n_documents": np.array(weights.n_documents, dtype=np.int64),
        }
    )


def save(
    name: str,
    *,
    scorer: Scorer,
    pipeline: Any,
    probes: Sequence[tuple[str, str]],
    facts: Mapping[str, Any],
    files: Callable[[Mapping[str, Any]], Mapping[str, bytes]],
    models: str | os.PathLike[str] | None = None,
) -> Version:
    """Write a new version, whole or not at all, and give it back.

    `facts` go into the manifest; `files` gets the manifest (without digests) and gives further
    files. The first version of a model becomes its champion.

    Raises
    ------
    BadVersion
        The scikit-learn pipeline and the arrays do not score the probes alike (1e-6).
    NoRoom
        The folder cannot be written.
    """
    folder = models_folder(models) / _name(name)
    with translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with workplace(folder) as work:
            records = _probe_records(scorer, pipeline, probes)
            write_file(work / "scorer.npz", pack_scorer(scorer))
            write_file(work / "probes.jsonl", "".join(map(_line, records)).encode())
            _dump_pipeline(pipeline, work / "model.joblib")
            while True:
                number = (_numbers(folder) or [0])[-1] + 1
                if number > _LAST_NUMBER:
                    raise NoRoom(f"{folder}: v{_LAST_NUMBER} is the last number there is")
                manifest = make_manifest(name, number, scorer, facts)
                for file, content in files(manifest).items():
                    write_file(work / file, content)
                manifest["files"] = digests(work)
                check_manifest(manifest, folder)
                write_file(work / "manifest.json", manifest_bytes(manifest))
                sync(work)
                if _publish(work, folder, number):
                    break
    return _open(folder / f"v{number}", name)


def _publish(work: Path, folder: Path, number: int) -> bool:
    """Give a finished folder its place, or say that another writer took the number before."""
    with locked(folder):
        place = folder / f"v{number}"
        if os.path.lexists(place):
            return False
        _reconcile(folder)
        work.rename(place)
        sync(folder)
        _log(folder, event="saved", version=place.name)
        if _read_alias(folder, "champion") is None:
            first = f"v{_numbers(folder)[0]}"
            _point(folder, "champion", first, note="the first version")
    return True


def set_alias(
    ref: str,
    alias: str,
    models: str | os.PathLike[str] | None = None,
    *,
    note: str = "",
) -> Version:
    """Point an alias to a version; what was live before stays in the log."""
    if alias == "latest" or _NUMBER.fullmatch(_name(alias, "alias")):
        raise BadSettings(f"{alias!r} is computed and cannot be set; choose another alias")
    version = find(ref, models)
    folder = version.path.parent
    with translated(folder), locked(folder):
        _point(folder, alias, f"v{version.number}", note=note)
    return version


def rollback(
    name: str, models: str | os.PathLike[str] | None = None, alias: str = "champion"
) -> Version:
    """Point an alias back to the version that it pointed to before the last move.

    Raises
    ------
    NoSuchVersion
        The log knows no earlier version of it.
    """
    folder = models_folder(models) / _name(name)
    with translated(folder), locked(folder):
        _reconcile(folder)
        moves: list[str] = []
        for entry in history(models, name):
            number = str(entry.get("version"))
            if entry.get("alias") != alias or not _NUMBER.fullmatch(number):
                continue
            if entry.get("event") == "rollback" and moves:
                moves.pop()
            elif entry.get("event") == "alias" and moves[-1:] != [number]:
                moves.append(number)
        if len(moves) < 2 or not (folder / moves[-2]).is_dir():
            raise NoSuchVersion(f"{name}@{alias}: the log knows no earlier version to go back to")
        version = _open(folder / moves[-2], name)
        _point(folder, alias, moves[-2], event="rollback")
    return version


def _probe_records(
    scorer: Scorer, pipeline: Any, probes: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    rows = [{"headline": headline, "teaser": teaser} for headline, teaser in probes]
    ours = scorer.predict_proba(rows)
    theirs = pipeline.predict_proba(rows)
    gap = float(np.abs(ours - theirs).max()) if len(rows) else 0.0
    if not gap <= 1e-6:
        raise BadVersion(
            f"the arrays score a probe {gap:.2g} away from scikit-learn; nothing was saved"
        )
    return [
        {**row, "scores": dict(zip(map(str, scorer.classes_), scores.tolist(), strict=True))}
        for row, scores in zip(rows, ours, strict=True)
    ]


def _probe_gap(scorer: Scorer, probes: Sequence[Mapping[str, Any]]) -> float:
    scores = scorer.predict_proba(probes)
    saved = [[probe["scores"][str(label)] for label in scorer.classes_] for probe in probes]
    return float(np.abs(scores - np.array(saved)).max()) if len(probes) else 0.0


def _dump_pipeline(pipeline: Any, path: Path) -> None:
    import joblib

    with path.open("xb") as file:
        joblib.dump(pipeline, file, compress=3)
        file.flush()
        os.fsync(file.fileno())


def _point(folder: Path, alias: str, number: str, *, event: str = "alias", note: str = "") -> None:
    """Move an alias and log it; the caller holds the lock."""
    _reconcile(folder)
    place = folder / "aliases"
    if place.is_symlink():
        raise NoRoom(f"{place}: is a link; make it a folder")
    place.mkdir(exist_ok=True)
    replace_file(folder, place / alias, f"{number}\n".encode())
    _log(folder, event=event, version=number, alias=alias, note=note)


def _reconcile(folder: Path) -> None:
    """Log what one that was killed between moving and logging left unlogged, and sweep after it."""
    logged: dict[str, str] = {}
    saved: set[str] = set()
    for entry in history(folder.parent, folder.name):
        if entry.get("event") in ("alias", "rollback"):
            logged[str(entry.get("alias"))] = str(entry.get("version"))
        elif entry.get("event") == "saved":
            saved.add(str(entry.get("version")))
    for number in (f"v{n}" for n in _numbers(folder)):
        if number not in saved:
            _log(folder, event="saved", version=number, note="found unlogged")
    for alias, number in aliases(folder.parent, folder.name).items():
        if logged.get(alias) != number:
            _log(folder, event="alias", version=number, alias=alias, note="found unlogged")


def _log(folder: Path, **entry: Any) -> None:
    """Add one line. The file is replaced: no crash can tear a line, and no link is written to."""
    who = os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    place = folder / "log.jsonl"
    told = read_file(place, _LOG_BYTES) if os.path.lexists(place) else b""
    whole = told[: told.rfind(b"\n") + 1]  # what something else may have torn goes
    replace_file(folder, place, whole + _line({"time": now, **entry, "who": who}).encode())


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=True) + "\n"
