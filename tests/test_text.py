"""Text to features: two spellings of one definition agree, and nothing that tells is lost."""

import unicodedata
from collections.abc import Sequence
from itertools import chain
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import ODD, anything, chunks, headlines
from kopwijzer.text import (
    Block,
    Chunks,
    Documents,
    expand,
    gather,
    pair_hashes,
    pattern_hashes,
    spell,
    spell_patterns,
)

sizes = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(sorted).map(tuple)

# The definition once more, a sign at a time and with Python's integers -------------------------

_MASK = (1 << 64) - 1
_STEP, _MIX, _BASE = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x100000001B3
_WORD, _PAIR, _GRAM = (kind << 40 for kind in (1, 2, 3))


def _mixed(sign: str) -> int:
    mixed = (ord(sign) + 1) * _STEP & _MASK
    return mixed ^ mixed >> 32


def _finish(mixed: int) -> int:
    mixed &= _MASK
    return ((mixed ^ mixed >> 29) * _MIX & _MASK) >> 32


def _token(text: str) -> int:
    powers = [pow(_BASE, place % 256 + 1, 1 << 64) for place in range(len(text))]
    return sum(_mixed(sign) * power for sign, power in zip(text, powers, strict=True)) & _MASK


def _word(text: str) -> int:
    """The hash of a token, or of two with a blank between."""
    left, blank, right = text.partition(" ")
    if not blank:
        return _finish(_token(left) + _WORD)
    second = _token(right)
    return _finish(_token(left) * _STEP + (second ^ second >> 31) * _BASE + _PAIR)


def _gram(text: str) -> int:
    signs = text.replace(" ", "\n")
    mixed = sum(_mixed(sign) * pow(_BASE, place, 1 << 64) for place, sign in enumerate(signs))
    return _finish(mixed + _GRAM * len(text))


def _masked(written: str) -> tuple[int, str]:
    """The hash and the text of a token as patterns see it."""
    token = written.replace("İ", "i").lower()
    if token[0].isalnum() and not _is_letter(token[0]):
        shape = "".join("0" if s.isalnum() and not _is_letter(s) else s for s in token)[:4]
        return _token(shape), shape
    if any(map(_is_letter, token)) and written[0] != token[0]:
        return 17, "X"
    return _token(token), token


def _is_letter(sign: str) -> bool:
    return sign.isalpha() or sign == "_" or unicodedata.category(sign)[0] == "M"


def _patterns(text: str, low: int, high: int) -> tuple[list[int], list[str]]:
    masked = [_masked(token) for chunk in text.split() for token in _written(chunk)]
    if not masked:
        return [], []
    hashes, texts = zip((11, "^"), *masked, (13, "$"), strict=True)
    codes, told = [], []
    for size in range(low, high + 1):
        for start in range(len(texts) - size + 1):
            mixed = 0
            for code in hashes[start : start + size]:
                mixed = mixed * _STEP + code & _MASK
            codes.append(_finish(mixed + (size << 43)))
            told.append(" ".join(texts[start : start + size]))
    return codes, told


def _written(chunk: str) -> list[str]:
    """The tokens of a chunk as they are written."""
    place, found = 0, []
    for token in _tokens(chunk):
        found.append(chunk[place : place + len(token)])
        place += len(token)
    return found


def _tokens(chunk: str) -> list[str]:
    words, _ = spell(chunk)
    return [words[0], *(pair.partition(" ")[2] for pair in words if " " in pair)]


# Agreement -------------------------------------------------------------------------------------


def _parts(cut: Chunks, number: int) -> tuple[list[int], list[int]]:
    words = cut.words[cut.words_ptr[number] : cut.words_ptr[number + 1]]
    grams = cut.characters[cut.characters_ptr[number] : cut.characters_ptr[number + 1]]
    return words.tolist(), grams.tolist()


@given(st.lists(chunks, max_size=8), sizes)
@example(["ΣΑΣ", "ΣΑΣ.", "Σ'Α"], (2, 5))
@example(["İİ", "Iİ\u0307"], (1, 8))
@example(["2-1", "-2-1-", "5,5.", "1--1", "٣-٤", "²-²", "a-1", "1-a"], (1, 2))
@example(["\ud800", "\udc00\ud800", "e\u0301\u0308"], (2, 5))
@example(["x" * 700], (2, 3))
def test_the_two_spellings_agree(parts: list[str], low_high: tuple[int, int]) -> None:
    cut = expand(parts, *low_high)
    assert len(cut.words_ptr) == len(cut.characters_ptr) == len(parts) + 1
    assert len(cut.first) == len(cut.last) == len(parts)
    for number, chunk in enumerate(parts):
        words, grams = spell(chunk, *low_high)
        assert _parts(cut, number) == (list(map(_word, words)), list(map(_gram, grams)))
        assert int(cut.first[number]) == _token(words[0])
        assert int(cut.last[number]) == _token(words[-1])


@given(st.lists(chunks, min_size=1, max_size=6), sizes)
def test_a_chunk_expands_alone_as_among_others(parts: list[str], low_high: tuple[int, int]) -> None:
    together = expand(parts, *low_high)
    for number, chunk in enumerate(parts):
        alone = expand([chunk], *low_high)
        assert _parts(together, number) == _parts(alone, 0)
        assert (together.first[number], together.last[number]) == (alone.first[0], alone.last[0])
        own = slice(together.words_ptr[number], together.words_ptr[number + 1])
        assert together.is_word[own].tolist() == alone.is_word.tolist()
        assert together.is_plain[own].tolist() == alone.is_plain.tolist()


@given(chunks)
def test_no_sign_is_lost(chunk: str) -> None:
    assert "".join(_tokens(chunk)) == chunk.replace("İ", "i").lower()
    assert len(spell(chunk)[0]) == 2 * len(_tokens(chunk)) - 1


def test_every_code_point_keeps_its_place_in_lower_case() -> None:
    every = [chr(code) for code in range(0x110000)]
    parts = [sign for sign in every if sign.split()]
    cut = expand(parts, 2, 2)
    assert (np.diff(cut.words_ptr) == 1).all()
    assert (np.diff(cut.characters_ptr) == 2).all()


@given(st.lists(chunks, min_size=1, max_size=6))
def test_a_word_is_a_token_with_a_letter(parts: list[str]) -> None:
    cut = expand(parts)
    texts = list(chain.from_iterable(spell(chunk)[0] for chunk in parts))
    for text, word, plain in zip(texts, cut.is_word, cut.is_plain, strict=True):
        if " " in text:  # a pair is no word
            assert not word
        elif any(sign.isalpha() or sign == "_" for sign in text):
            assert word
        assert word or not plain


@pytest.mark.parametrize(
    ("chunk", "word", "plain"),
    [
        ("Genk", True, False),
        ("wint", True, True),
        ("2-1", False, False),
        ("€", False, False),
        ("3de", True, True),
        ("ɐ", True, True),
        ("俱", True, True),
    ],
)
def test_plain_words_open_in_lower_case(chunk: str, word: bool, plain: bool) -> None:
    cut = expand([chunk])
    assert (cut.is_word.tolist(), cut.is_plain.tolist()) == ([word], [plain])


def test_nothing_expands_to_nothing() -> None:
    cut = expand([])
    assert cut.words_ptr.tolist() == cut.characters_ptr.tolist() == [0]
    for array in (cut.first, cut.last, cut.words, cut.is_word, cut.is_plain, cut.characters):
        assert len(array) == 0


def test_hashes_are_those_of_saved_models() -> None:
    # A saved model knows features by these numbers alone: they may never change.
    cut = expand(["Genk:", "'Ik"], 2, 3)
    assert cut.words.tolist() == [_word(t) for t in ("genk", "genk :", ":", "'", "' ik", "ik")]
    words = ["624f5f5e", "57f022a7", "0e1455f6", "a3b425bb", "777f50e9", "4323501a"]
    assert [f"{code:08x}" for code in cut.words] == words
    grams = ["240fb41a", "576c7c76", "ab6b4501", "22a0b24c"]
    assert [f"{code:08x}" for code in cut.characters[:4]] == grams
    assert f"{pair_hashes(cut.last[:1], cut.first[1:])[0]:08x}" == "f5ebdd79"


@given(st.lists(chunks, min_size=2, max_size=8))
def test_pairs_across_chunks_are_pairs_within_them(parts: list[str]) -> None:
    cut = expand(parts)
    across = pair_hashes(cut.last[:-1], cut.first[1:]).tolist()
    for pair, left, right in zip(across, parts, parts[1:], strict=False):
        assert pair == _word(f"{spell(left)[0][-1]} {spell(right)[0][0]}")


@given(st.lists(st.one_of(headlines, anything), min_size=1, max_size=5), sizes)
@example(["Genk wint 2-1 van Ajax", "", "'Ik 3de 12:30 U21"], (1, 3))
@example(["İlkay ΣΑΣ ²x a\u0301 \u0301A"], (1, 3))
@example(["a", "b"], (8, 8))
def test_the_two_spellings_of_patterns_agree(texts: list[str], low_high: tuple[int, int]) -> None:
    cuts = [expand(text.split()) for text in texts]
    owner = np.repeat(np.arange(len(texts)), [len(cut.masked) for cut in cuts])
    hashes, whose = pattern_hashes(np.concatenate([cut.masked for cut in cuts]), owner, *low_high)
    for number, text in enumerate(texts):
        codes, told = _patterns(text, *low_high)
        assert hashes[whose == number].tolist() == codes
        assert spell_patterns(text, *low_high) == told


def test_patterns_mask_names_and_numbers() -> None:
    one, other = (spell_patterns(t, 1, 8) for t in ("Genk wint 2-1", "Ajax wint 3-0"))
    assert one == other
    assert one[-1] == "^ X wint 0-0 $"
    assert spell_patterns("ajax wint 10-0", 2, 2) == ["^ ajax", "ajax wint", "wint 00-0", "00-0 $"]


@given(st.lists(st.integers(0, 4), max_size=6), st.randoms(use_true_random=False))
def test_gathering_is_joining_slices(counts: list[int], random: Random) -> None:
    values = np.arange(50)
    starts = [random.randint(0, 46) for _ in counts]
    slices = [values[start : start + n].tolist() for start, n in zip(starts, counts, strict=True)]
    start, count = np.array(starts, dtype=np.int64), np.array(counts, dtype=np.int64)
    assert gather(values, start, count).tolist() == list(chain.from_iterable(slices))


def test_features_seldom_share_a_hash() -> None:
    numbers = [f"{number}x" for number in range(60_000)]
    codes = expand(numbers, 2, 2).words
    words = codes[::3] if len(codes) == 3 * len(numbers) else codes
    # 60,000 features: 0.4 collisions are expected, 10 have a probability below 1e-10.
    assert len(words) - len(set(words.tolist())) < 10


# Tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk", "tokens"),
    [
        ("'Genk", ["'", "genk"]),
        ("Genk:", ["genk", ":"]),
        ("“Nooit”", ["“", "nooit", "”"]),
        ("„Ja,”", ["„", "ja", ",", "”"]),
        ("2-1", ["2-1"]),
        ("(2-1)", ["(", "2-1", ")"]),
        ("2–1", ["2", "–", "1"]),
        ("€5,5", ["€", "5,5"]),
        ("€1.250.000,-", ["€", "1.250.000", ",", "-"]),
        ("20:45", ["20:45"]),
        ("1-", ["1", "-"]),
        ("-1", ["-", "1"]),
        ("1--1", ["1", "-", "-", "1"]),
        ("a-1", ["a", "-", "1"]),
        ("oud-speler", ["oud", "-", "speler"]),
        ("U21", ["u21"]),
        ("e\u0301e\u0301n", ["e\u0301e\u0301n"]),
        ("_x_", ["_x_"]),
        ("İlkay", ["ilkay"]),
        ("⚽⚽", ["⚽", "⚽"]),
        ("\ud83d!", ["\ud83d", "!"]),
    ],
)
def test_tokens(chunk: str, tokens: list[str]) -> None:
    assert _tokens(chunk) == tokens


def test_character_grams_see_the_border_and_keep_the_signs() -> None:
    assert spell("a:", 1, 3)[1] == [" a", " a:", "a", "a:", "a: ", ":", ": "]


# Documents -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(headlines, anything), max_size=6))
def test_documents_give_back_their_chunks(texts: list[tuple[str, str]]) -> None:
    n = len(texts)
    documents = Documents.cut([h for h, _ in texts], [t for _, t in texts])
    assert len(set(documents.chunks)) == len(documents.chunks)

    def read(row: int) -> list[str]:
        own = documents.numbers[documents.ptr[row] : documents.ptr[row + 1]]
        return [documents.chunks[number] for number in own]

    for i, (headline, teaser) in enumerate(texts):
        assert read(i) == headline.split()
        assert read(n + i) == teaser.split()


@pytest.mark.parametrize(
    ("field", "reads"),
    [("both", (True, True)), ("headline", (True, False)), ("teaser", (False, True))],
)
def test_a_block_reads_its_field(field: str, reads: Sequence[bool]) -> None:
    block = Block("b", field=field)  # type: ignore[arg-type]
    assert (block.reads(0), block.reads(1)) == reads


def test_the_odd_signs_hold_no_white_space() -> None:
    assert ODD.split() == [ODD]
