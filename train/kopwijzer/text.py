"""Text -> pieces -> hashed features: the one definition that training and scoring share.

A document is a headline and a teaser. Each is cut at white space into *chunks*, and a chunk gives

- word features: its tokens and neighbouring pairs of tokens. A token is a run of letters and
  digits, a number with its inner signs ("2-1", "5,5"), or one other sign by itself: quotation
  marks, colons and sums of money stay, since they are what tells these labels apart;
- character features: n-grams of the lower-cased chunk with a blank on either side, so that they
  never cross a word border (what scikit-learn calls ``char_wb``, with the punctuation kept).

Pairs of tokens across two chunks complete the words. A third kind, *patterns*, is n-grams of
tokens in which names (tokens that open with a capital) and numbers are masked: "^ X haalt X weg"
says what a headline does whoever does it, and "^ ' X" or "0-0 $" who speaks and what was played.

Every feature is a 32-bit hash of its text. With 200,000 features about five share their hash with
another one (n^2 / 2^33); such a pair is one feature, in training and in scoring alike.

**Additive pieces.** A document vector is a sum over its pieces (chunks, pairs, patterns), and its
norm is the root of the *sum of the pieces' squared norms*. That is the usual L2 norm as if no two
pieces had a feature in common. It costs nothing in accuracy (measured: +0.001 macro-F1 against the
exact norm on the football corpus), and buys the speed: a chunk is expanded once in the life of a
scorer and is one row of numbers afterwards.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kopwijzer.errors import BadSettings

__all__ = [
    "Block",
    "Chunks",
    "Documents",
    "classify",
    "code_points",
    "expand",
    "gather",
    "gram_sizes",
    "lower",
    "pair_hashes",
    "pattern_hashes",
    "spell",
    "spell_patterns",
]

Hashes = npt.NDArray[np.uint32]
Mixed = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, from the golden ratio (Steele et al. 2014, SplitMix64)
MIX = np.uint64(0xBF58476D1CE4E5B9)  # the multiplier of SplitMix64's finaliser
BASE = np.uint64(0x100000001B3)  # the FNV prime: the base of the polynomial over characters
WORD, PAIR, GRAM = (np.uint64(kind << 40) for kind in (1, 2, 3))
OPEN, CLOSE, NAME = np.uint64(11), np.uint64(13), np.uint64(17)  # no token mixes to so little
with np.errstate(over="ignore"):
    # A token longer than this is no word; its powers start again, which only costs collisions.
    POWERS = np.cumprod(np.full(256, BASE, dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class Block:
    """A group of features that is weighed and normalised by itself.

    `kind` is "words", "characters" or "patterns", `field` the text it reads: "both", "headline" or
    "teaser". `low` and `high` are the n-gram sizes, both included (words: 1 to 2, others: 1 to 8).
    `weight` (> 0) scales the normalised block. Training keeps the features that stand in at least
    `min_df` documents and in at most a share of `max_df` (0-1) of them.
    """

    name: str
    kind: Literal["words", "characters", "patterns"] = "words"
    field: Literal["both", "headline", "teaser"] = "both"
    low: int = 1
    high: int = 2
    weight: float = 1.0
    min_df: int = 2
    max_df: float = 1.0

    def reads(self, field: int) -> bool:
        """Whether the block reads field 0 (headline) or 1 (teaser)."""
        return self.field == "both" or self.field == ("headline", "teaser")[field]


def gram_sizes(blocks: Iterable[Block], kind: str = "characters") -> tuple[int, int]:
    """The n-gram sizes that serve every block of a kind.

    Raises
    ------
    BadSettings
        Two blocks want different ones.
    """
    sizes = {(block.low, block.high) for block in blocks if block.kind == kind}
    if len(sizes) > 1:
        raise BadSettings(f"all blocks of {kind} must use the same n-gram sizes")
    return sizes.pop() if sizes else (2, 2)


@dataclass(frozen=True, slots=True)
class Chunks:
    """What a list of n chunks expands to; arrays in the order of the chunks.

    `first` and `last` (n,) are the mixed hashes of each chunk's outer tokens, for `pair_hashes`.
    `words` and `characters` hold feature hashes; those of chunk i are ``[ptr[i]:ptr[i + 1]]``.
    `is_word` and `is_plain` say of each entry of `words` whether it is a token with a letter in
    it, and whether that token moreover opens in lower case: what "unknown words" is measured on.
    `masked` holds every token's mixed hash with names and numbers masked, for `pattern_hashes`.
    """

    first: Mixed
    last: Mixed
    words: Hashes
    words_ptr: Ints
    is_word: npt.NDArray[np.bool_]
    is_plain: npt.NDArray[np.bool_]
    characters: Hashes
    characters_ptr: Ints
    masked: Mixed
    masked_ptr: Ints


_NOTHING = Chunks(
    first=np.empty(0, dtype=np.uint64),
    last=np.empty(0, dtype=np.uint64),
    words=np.empty(0, dtype=np.uint32),
    words_ptr=np.zeros(1, dtype=np.int64),
    is_word=np.empty(0, dtype=np.bool_),
    is_plain=np.empty(0, dtype=np.bool_),
    characters=np.empty(0, dtype=np.uint32),
    characters_ptr=np.zeros(1, dtype=np.int64),
    masked=np.empty(0, dtype=np.uint64),
    masked_ptr=np.zeros(1, dtype=np.int64),
)


def _finish(mixed: Mixed) -> Hashes:
    """The 32 best bits of a mixed hash."""
    mixed = (mixed ^ (mixed >> np.uint64(29))) * MIX
    return (mixed >> np.uint64(32)).astype(np.uint32)


OTHER, SPACE, DIGIT, LETTER, UNSEEN = 0, 1, 2, 3, 255  # of these, DIGIT and LETTER make tokens
CLASSES = np.full(0x110000, UNSEEN, dtype=np.uint8)


def classify(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """The class of each code point; the table fills itself with the characters that occur."""
    classes = CLASSES[codes]
    unseen = classes == UNSEEN
    if unseen.any():
        for code in np.unique(codes[unseen]):
            sign = chr(code)
            if sign.isspace():
                kind = SPACE
            elif sign.isalpha() or sign == "_" or unicodedata.category(sign)[0] == "M":
                kind = LETTER
            else:
                kind = DIGIT if sign.isalnum() else OTHER
            CLASSES[code] = kind
        classes = CLASSES[codes]
    return classes


def expand(chunks: Sequence[str], low: int = 2, high: int = 5) -> Chunks:
    """The features of each chunk: tokens, pairs within it, and n-grams of `low` to `high` signs.

    A chunk is non-empty and holds no white space (what `str.split` returns).

    >>> cut = expand(["Genk:", "'Ik"])
    >>> cut.words_ptr.tolist()  # genk, ':', the pair; then ', ik, the pair
    [0, 3, 6]
    """
    if not chunks:
        return _NOTHING
    return _expand(chunks, low, high)


def _expand(chunks: Sequence[str], low: int, high: int) -> Chunks:
    # One separator stands before, between and after the chunks: it is the blank of both.
    text = "\n" + "\n".join(chunks) + "\n"
    written, codes = code_points(text), code_points(lower(text))
    borders = np.flatnonzero(codes == 10)
    place = np.arange(len(codes))
    chunk = np.cumsum(codes == 10) - 1
    mixed = _mixed(codes)

    kind = classify(codes)
    digit = kind == DIGIT
    sign = np.isin(codes, INNER_SIGNS)
    sign[1:-1] &= digit[:-2] & digit[2:]
    inside = (kind >= DIGIT) | sign
    starts = inside.copy()
    starts[1:] &= ~inside[:-1]
    starts |= ~inside
    starts[borders] = False
    start = np.flatnonzero(starts)
    offset = place - np.maximum.accumulate(np.where(starts, place, 0))
    terms = mixed * POWERS[offset & 255]
    terms[borders] = 0
    letters = kind == LETTER
    tokens = np.add.reduceat(terms, start) if len(start) else np.empty(0, np.uint64)
    named = np.add.reduceat(letters, start, dtype=np.int64) > 0
    plain = named & (written[start] == codes[start])
    # Masked: a name is one sign for all of them, and of a number only its first four signs stay,
    # with a nought for each digit.
    numeric = digit[start]
    zero = _mixed(np.array([48], dtype=np.uint32))[0]
    shapes = np.where(digit, zero, mixed) * POWERS[offset & 255]
    shapes[offset > 3] = 0
    shapes[borders] = 0
    masked = np.where(numeric, np.add.reduceat(shapes, start), tokens)
    masked[named & ~plain & ~numeric] = NAME
    owner = chunk[start]
    count = np.bincount(owner, minlength=len(chunks))
    ends = np.cumsum(count)
    # Words: each token, and after it the pair that it opens, where there is one.
    paired = np.append(owner[1:] == owner[:-1], False)
    both = np.empty((len(tokens), 2), dtype=np.uint32)
    both[:, 0] = _finish(tokens + WORD)
    both[:-1, 1] = _pair(tokens[:-1], tokens[1:])
    use = np.stack([np.ones(len(tokens), bool), paired], axis=1)
    no_pair = np.zeros(len(tokens), bool)

    # Characters: at each place the n-grams that start there and cross no border.
    room = borders[np.minimum(chunk + 1, len(borders) - 1)] - place + 1
    sizes = range(low, high + 1)
    grams = np.empty((len(codes), len(sizes)), dtype=np.uint32)
    fits = np.empty(grams.shape, dtype=bool)
    running = mixed.copy()
    for size in range(1, high + 1):
        if size > 1:
            running[: 1 - size] += mixed[size - 1 :] * POWERS[size - 2]
        if size >= low:
            grams[:, size - low] = _finish(running + GRAM * np.uint64(size))
            fits[:, size - low] = room >= size
    fits[-1] = False
    if low == 1:
        fits[borders, 0] = False
    per_chunk = np.add.reduceat(fits.sum(axis=1), borders[:-1])

    return Chunks(
        first=tokens[ends - count],
        last=tokens[ends - 1],
        words=both[use],
        words_ptr=_pointers(2 * count - 1),
        is_word=np.stack([named, no_pair], axis=1)[use],
        is_plain=np.stack([plain, no_pair], axis=1)[use],
        characters=grams[fits],
        characters_ptr=_pointers(per_chunk),
        masked=masked,
        masked_ptr=_pointers(count),
    )


def _mixed(codes: npt.NDArray[np.uint32]) -> Mixed:
    """Each code point spread over 64 bits."""
    mixed: Mixed = (codes.astype(np.uint64) + np.uint64(1)) * STEP
    mixed ^= mixed >> np.uint64(32)
    return mixed


def lower(text: str) -> str:
    """Lower case, sign for sign: the one letter that would become two is its base letter."""
    return text.replace("\u0130", "i").lower()


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code points of a text, lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


INNER_SIGNS = np.array([ord(sign) for sign in "-.,:"], dtype=np.uint32)


def gather(values: npt.NDArray[Any], start: Ints, count: Ints) -> npt.NDArray[Any]:
    """The values ``[start[i]:start[i] + count[i]]`` of each i, one after the other."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    found: npt.NDArray[Any] = values[np.arange(total) + np.repeat(start - (ends - count), count)]
    return found


def _pointers(counts: npt.NDArray[np.integer]) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _pair(left: Mixed, right: Mixed) -> Hashes:
    first: Mixed = left * STEP
    second: Mixed = (right ^ (right >> np.uint64(31))) * BASE
    return _finish(first + second + PAIR)


def pair_hashes(left: Mixed, right: Mixed) -> Hashes:
    """The features of neighbouring tokens: `Chunks.last` of one, `Chunks.first` of the next."""
    return _pair(left, right)


def pattern_hashes(masked: Mixed, owner: Ints, low: int, high: int) -> tuple[Hashes, Ints]:
    """The patterns of documents, and whose each is.

    `masked` (m,) are the documents' tokens one after the other (`Chunks.masked`), `owner` (m,) the
    rising numbers of their documents. An opening and a closing sign stand around each document.
    The patterns come by size, and within a size in the order of the text.
    """
    if not len(owner):
        return np.empty(0, dtype=np.uint32), owner
    if owner[0] == owner[-1]:  # one document: nothing can cross a border
        tokens = np.empty(len(masked) + 2, dtype=np.uint64)
        tokens[0], tokens[1:-1], tokens[-1] = OPEN, masked, CLOSE
        hashes = _finish(np.concatenate([tokens[:0], *_running(tokens, low, high)]))
        return hashes, np.full(len(hashes), owner[0])
    first = np.append(True, owner[1:] != owner[:-1])
    rank = np.cumsum(first) - 1
    n_documents = int(rank[-1]) + 1
    tokens = np.full(len(masked) + 2 * n_documents, CLOSE, dtype=np.uint64)
    place = np.arange(len(masked)) + 2 * rank
    tokens[place + 1] = masked
    tokens[place[first]] = OPEN
    whose = np.repeat(owner[first], np.bincount(rank, minlength=n_documents) + 2)
    parts, owners = [masked[:0]], [owner[:0]]
    for size, running in zip(range(low, high + 1), _running(tokens, low, high), strict=False):
        fits = whose[: len(running)] == whose[size - 1 :]
        parts.append(running[fits])
        owners.append(whose[: len(running)][fits])
    return _finish(np.concatenate(parts)), np.concatenate(owners)


def _running(tokens: Mixed, low: int, high: int) -> Iterator[Mixed]:
    """The mixed hashes of every run of `low` to `high` tokens, a size after the other."""
    running = tokens
    for size in range(1, min(high, len(tokens)) + 1):
        if size > 1:
            running = running[: len(tokens) - size + 1] * STEP + tokens[size - 1 :]
        if size >= low:
            yield running + np.uint64(size << 43)


def spell_patterns(text: str, low: int, high: int) -> list[str]:
    """The texts of a text's patterns, in the order `pattern_hashes` gives them.

    >>> spell_patterns("Genk wint 2-1", 2, 2)
    ['^ X', 'X wint', 'wint 0-0', '0-0 $']
    """
    tokens = ["^"]
    for chunk in text.split():
        place = 0
        for token in _TOKEN.findall(lower(chunk)):
            written = chunk[place : place + len(token)]
            place += len(token)
            tokens.append(_TOKEN.mask(token, written))
    tokens.append("$")
    if len(tokens) == 2:
        return []
    return [
        " ".join(tokens[start : start + size])
        for size in range(low, high + 1)
        for start in range(len(tokens) - size + 1)
    ]


def spell(chunk: str, low: int = 2, high: int = 5) -> tuple[list[str], list[str]]:
    """The texts of a chunk's word and character features, in the order `expand` gives them.

    A blank stands for the border of the chunk; a pair is two tokens with a blank between.

    >>> spell("2-1!", 4, 5)
    (['2-1', '2-1 !', '!'], [' 2-1', ' 2-1!', '2-1!', '2-1! ', '-1! '])
    """
    lowered = lower(chunk)
    tokens = _TOKEN.findall(lowered)
    words: list[str] = []
    for here, after in zip(tokens, [*tokens[1:], None], strict=True):
        words.append(here)
        if after is not None:
            words.append(f"{here} {after}")
    padded = f" {lowered} "
    grams = [
        padded[start : start + size]
        for start in range(len(padded) - 1)
        for size in range(low, high + 1)
        if start + size <= len(padded) and not (size == 1 and start == 0)
    ]
    return words, grams


class _Token:
    """The tokens of a lower-cased chunk in plain Python, by the same classes as `expand`."""

    def findall(self, text: str) -> list[str]:
        kinds = [int(classify(np.array([ord(sign)], dtype=np.uint32))[0]) for sign in text]
        tokens: list[str] = []
        open_ = False
        for i, sign in enumerate(text):
            inner = (
                sign in "-.,:" and 0 < i < len(text) - 1 and kinds[i - 1] == kinds[i + 1] == DIGIT
            )
            inside = kinds[i] >= DIGIT or inner
            if inside and open_:
                tokens[-1] += sign
            else:
                tokens.append(sign)
            open_ = inside
        return tokens

    def mask(self, token: str, written: str) -> str:
        """A token as patterns see it, from its lower-cased and its written form."""
        kinds = [int(classify(np.array([ord(sign)], dtype=np.uint32))[0]) for sign in token]
        if kinds[0] == DIGIT:
            signs = zip(token, kinds, strict=True)
            return "".join("0" if kind == DIGIT else sign for sign, kind in signs)[:4]
        if LETTER in kinds and written[:1] != token[:1]:
            return "X"
        return token


_TOKEN = _Token()


@dataclass(frozen=True, slots=True)
class Documents:
    """n documents cut into chunks: `chunks` are the distinct ones, numbers point into them.

    `numbers` holds first every headline's chunks and then every teaser's; those of document i
    are ``numbers[ptr[i]:ptr[i + 1]]`` and ``numbers[ptr[n + i]:ptr[n + i + 1]]``.
    """

    chunks: list[str]
    numbers: npt.NDArray[np.int64]
    ptr: Ints

    @classmethod
    def cut(cls, headlines: Sequence[str], teasers: Sequence[str]) -> "Documents":
        """Documents from as many headlines as teasers."""
        known = _Numbers()
        flat: list[str] = []
        lengths: list[int] = []
        for text in (*headlines, *teasers):
            parts = text.split()
            flat += parts
            lengths.append(len(parts))
        numbers = np.fromiter(map(known.__getitem__, flat), dtype=np.int64, count=len(flat))
        return cls(list(known), numbers, _pointers(np.array(lengths, dtype=np.int64)))


class _Numbers(dict[str, int]):
    """Chunk -> its number, in order of first use."""

    def __missing__(self, chunk: str) -> int:
        number = self[chunk] = len(self)
        return number
