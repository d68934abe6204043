"""Signing: whose a version is, and that nothing else passes for it."""

import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from conftest import leftovers, replace_file, rewrite
from kopwijzer import signing, versions
from kopwijzer.errors import BadSettings, BadVersion, MissingExtra, NoRoom

_PEM = serialization.Encoding.PEM
_PRIVATE = serialization.PrivateFormat.PKCS8
_PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo


def _write(folder: Path, name: str, private: Any, password: bytes | None = None) -> tuple[str, str]:
    """The paths of a private key and of its public half."""
    lock: Any = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    pair = folder / f"{name}.pem", folder / f"{name}.pub"
    pair[0].write_bytes(private.private_bytes(_PEM, _PRIVATE, lock))
    pair[1].write_bytes(private.public_key().public_bytes(_PEM, _PUBLIC))
    return str(pair[0]), str(pair[1])


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, str]:
    return _write(tmp_path, "key", ed25519.Ed25519PrivateKey.generate())


def test_a_signature_holds_for_its_key(models: Path, keys: tuple[str, str]) -> None:
    version = versions.find("nieuws@v1", models)
    place = signing.sign(version, keys[0])
    assert place == models / "nieuws" / "v1" / "manifest.json.sig"
    assert len(bytes.fromhex(place.read_text())) == 64
    assert signing.verify(version, keys[1]) == "the signature holds"
    again = versions.find("nieuws@v1", models)  # the signature is no foreign file
    assert versions.verify(again)
    assert again.scorer().score("Genk wint met 3-1 van Ajax").label == "match_report"
    assert leftovers(models) == []


def test_signing_again_gives_the_same_signature(models: Path, keys: tuple[str, str]) -> None:
    version = versions.find("nieuws@v1", models)
    first = signing.sign(version, keys[0]).read_bytes()
    assert signing.sign(version, keys[0]).read_bytes() == first


def test_another_key_takes_the_place_of_the_first(
    models: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    other = _write(tmp_path, "other", ed25519.Ed25519PrivateKey.generate())
    version = versions.find("nieuws@v1", models)
    signing.sign(version, keys[0])
    with pytest.raises(BadVersion, match="does not fit this key; the version was changed, or sig"):
        signing.verify(version, other[1])
    signing.sign(version, other[0])
    assert signing.verify(version, other[1])
    with pytest.raises(BadVersion, match="does not fit this key"):
        signing.verify(version, keys[1])


def test_a_manifest_made_anew_with_its_digest_does_not_fit(
    models: Path, keys: tuple[str, str]
) -> None:
    signing.sign(versions.find("nieuws@v1", models), keys[0])
    path = models / "nieuws" / "v1"
    rewrite(path, lambda manifest: manifest["figures"].update(macro_f1=0.99))
    changed = versions.find("nieuws@v1", models)  # by its digests it is sound
    assert versions.verify(changed)
    with pytest.raises(BadVersion, match=r"manifest\.json\.sig: does not fit this key"):
        signing.verify(changed, keys[1])


def test_a_file_changed_with_its_digest_does_not_fit(models: Path, keys: tuple[str, str]) -> None:
    signing.sign(versions.find("nieuws@v1", models), keys[0])
    replace_file(models / "nieuws" / "v1", "report.html", b"<!doctype html>better")
    with pytest.raises(BadVersion, match="does not fit this key"):
        signing.verify(versions.find("nieuws@v1", models), keys[1])


def test_a_file_changed_alone_is_found_by_its_digest(models: Path, keys: tuple[str, str]) -> None:
    version = versions.find("nieuws@v1", models)
    signing.sign(version, keys[0])
    (version.path / "report.html").write_bytes(b"<!doctype html>better")
    assert signing.verify(version, keys[1])
    with pytest.raises(BadVersion, match=r"report\.html"):
        versions.verify(version)


def test_the_signature_of_another_version_does_not_fit(models: Path, keys: tuple[str, str]) -> None:
    place = signing.sign(versions.find("nieuws@v1", models), keys[0])
    other = versions.find("nieuws@v2", models)
    (other.path / place.name).write_bytes(place.read_bytes())
    with pytest.raises(BadVersion, match="does not fit this key"):
        signing.verify(other, keys[1])


def test_a_version_without_a_signature_is_said_to_have_none(
    models: Path, keys: tuple[str, str]
) -> None:
    with pytest.raises(BadVersion, match=r"v1: is not signed$") as caught:
        signing.verify(versions.find("nieuws@v1", models), keys[1])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not hexadecimal", "is damaged, it is no signature"),
        (b"\xff\xfe", "is damaged, it is no signature"),
        (b"", "does not fit this key"),
        (b"00" * 64, "does not fit this key"),
        (b"00" * 65, "does not fit this key"),
    ],
)
def test_a_damaged_signature_is_none(
    models: Path, keys: tuple[str, str], content: bytes, sentence: str
) -> None:
    version = versions.find("nieuws@v1", models)
    signing.sign(version, keys[0]).write_bytes(content)
    with pytest.raises(BadVersion, match=sentence):
        signing.verify(version, keys[1])


def test_what_is_no_key_is_refused(models: Path, keys: tuple[str, str], tmp_path: Path) -> None:
    version = versions.find("nieuws@v1", models)
    private, public = keys
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"\x00 no key")
    locked, _ = _write(tmp_path, "locked", ed25519.Ed25519PrivateKey.generate(), b"secret")
    curve = _write(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
    no_private = "holds no private key in PEM form without a password"
    no_public = "holds no public key in PEM form"
    for place, sentence in (
        (str(garbage), no_private),
        (public, no_private),
        (locked, no_private),
        (curve[0], "holds a key of another kind; use an Ed25519 key"),
        (str(tmp_path / "none.pem"), "cannot be read"),
        (str(tmp_path), "cannot be read"),
    ):
        with pytest.raises(BadSettings, match=sentence) as caught:
            signing.sign(version, place)
        assert str(caught.value).startswith(place)
    assert not (version.path / "manifest.json.sig").exists()
    signing.sign(version, private)
    for place, sentence in (
        (str(garbage), no_public),
        (private, no_public),
        (curve[1], "holds a key of another kind; use an Ed25519 key"),
        (str(tmp_path / "none.pub"), "cannot be read"),
    ):
        with pytest.raises(BadSettings, match=sentence):
            signing.verify(version, place)


def test_a_signature_that_cannot_be_written_leaves_nothing(
    models: Path, keys: tuple[str, str]
) -> None:
    version = versions.find("nieuws@v1", models)
    (version.path / "manifest.json.sig").mkdir()
    with pytest.raises(NoRoom, match=r"v1: cannot be written|nieuws: cannot be written"):
        signing.sign(version, keys[0])
    assert leftovers(models) == []


def test_without_the_library_the_extra_is_named(
    models: Path, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    version = versions.find("nieuws@v1", models)
    for use, key in ((signing.sign, keys[0]), (signing.verify, keys[1])):
        with pytest.raises(MissingExtra, match=r"pip install 'kopwijzer\[sign\]'"):
            use(version, key)
