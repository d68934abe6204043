"""Text to features: two spellings of one definition agree, and nothing that tells is lost."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import ODD, anything, chunks, headlines
from kopwijzer.text import (
    SIGNALS,
    Block,
    Chunks,
    Documents,
    expand,
    pair_hashes,
    signal_hashes,
    signals,
    spell,
)

sizes = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(sorted).map(tuple)

# The definition once more, a sign at a time and with Python's integers -------------------------

_MASK = (1 << 64) - 1
_STEP, _MIX, _BASE = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x100000001B3
_WORD, _PAIR, _GRAM, _SIGNAL = (kind << 40 for kind in (1, 2, 3, 4))


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


def _signal(text: str) -> int:
    powers = [pow(_BASE, place % 256 + 1, 1 << 64) for place in range(len(text) + 1)]
    terms = [(ord(sign) + 1) * _STEP for sign in "\n" + text]
    return _finish(sum(t * power for t, power in zip(terms, powers, strict=True)) + _SIGNAL)


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
    words, _ = spell(chunk)
    tokens = [words[0], *(pair.partition(" ")[2] for pair in words if " " in pair)]
    assert "".join(tokens) == chunk.replace("İ", "i").lower()
    assert len(words) == 2 * len(tokens) - 1


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
    assert f"{signal_hashes(['quotes:wraps=s'])[0]:08x}" == "b02e6759"
    assert f"{pair_hashes(cut.last[:1], cut.first[1:])[0]:08x}" == "f5ebdd79"


@given(st.lists(chunks, min_size=2, max_size=8))
def test_pairs_across_chunks_are_pairs_within_them(parts: list[str]) -> None:
    cut = expand(parts)
    across = pair_hashes(cut.last[:-1], cut.first[1:]).tolist()
    for pair, left, right in zip(across, parts, parts[1:], strict=False):
        assert pair == _word(f"{spell(left)[0][-1]} {spell(right)[0][0]}")


_said = st.text(st.characters(exclude_characters="\n"), max_size=300)


@given(st.lists(_said, max_size=6))
def test_signals_hash_alone_as_among_others(told: list[str]) -> None:
    together = signal_hashes(told).tolist() if told else []
    assert together == [int(signal_hashes([signal])[0]) for signal in told]
    assert together == list(map(_signal, told))


def test_features_seldom_share_a_hash() -> None:
    numbers = [f"{number}x" for number in range(60_000)]
    codes = expand(numbers, 2, 2).words
    words = codes[::3] if len(codes) == 3 * len(numbers) else codes
    # 60,000 features: 0.4 collisions are expected, 10 have a probability below 1e-10.
    assert len(words) - len(set(words.tolist())) < 10


# Tokens ----------------------------------------------------------------------------------------


def _tokens(chunk: str) -> list[str]:
    words, _ = spell(chunk)
    return [words[0], *(pair.partition(" ")[2] for pair in words if " " in pair)]


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


# Signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headline", "teaser", "told"),
    [
        ("'Genk polst spits'", "", ["wraps=s"]),
        ("“Genk polst spits”", "", ["wraps=d"]),
        ("'Nooit', zegt Bos", "", ["opens=s"]),
        ("'", "", ["opens=s"]),
        ("'Dubbel”", "", ["opens=s"]),
        ("Bos: 'Ik blijf'", "", ["colon=s:0"]),
        ("Jan Bos: “Ik blijf”", "", ["colon=d:1"]),
        ("De trainer van Genk: 'Ik blijf'", "", ["colon=s:2"]),
        ("Bos: geen paniek", "", ["colon=bare:0"]),
        ("Bos noemt het een 'schande'", "", ["ends=s"]),
        ("Genk wint", "", ["silent"]),
        ("Genk wint", "Hij zei: “ja”", ["silent", "silent+teaser"]),
        ("Genk wint", "zo 'n dag", ["silent", "silent+teaser"]),
        ("Genk wint", "auto's", ["silent"]),
        ("", "", ["silent"]),
        (" \t", "", ["silent"]),
    ],
)
def test_quotes(headline: str, teaser: str, told: list[str]) -> None:
    assert signals(["quotes"], headline, teaser) == [f"quotes:{said}" for said in told]


@pytest.mark.parametrize(
    ("headline", "teaser", "told"),
    [
        ("Genk wint met 2-1", "", ["headline=score", "no-teaser"]),
        ("Genk wint met 2 – 1", "x", ["headline=score"]),
        ("seizoen 2024-2025", "x", []),
        ("€ 5,5", "x", ["headline=money"]),
        ("vijf miljoen", "3-0", ["headline=money", "teaser=score"]),
        ("Euro League", "Miljard", ["teaser=money"]),
        ("tien euro", "x", ["headline=money"]),
        ("", "", ["no-teaser"]),
    ],
)
def test_football(headline: str, teaser: str, told: list[str]) -> None:
    assert signals(["football"], headline, teaser) == [f"football:{said}" for said in told]


def test_edges() -> None:
    told = signals(["edges"], " 'Genk polst  Spits'\n", "De Spits")
    assert told == ["edges:first='genk", "edges:last=spits'", "edges:teaser=de"]
    assert signals(["edges"], "", "") == []


@given(anything, anything)
def test_signals_hold_no_white_space_at_their_start_and_no_line_break(
    headline: str, teaser: str
) -> None:
    for said in signals(SIGNALS, headline, teaser):
        assert "\n" not in said
        assert said.partition(":")[0] in SIGNALS
        assert said == "".join(said.split())


def test_the_odd_signs_hold_no_white_space() -> None:
    assert ODD.split() == [ODD]
