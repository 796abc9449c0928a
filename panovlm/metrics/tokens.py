"""Words of captions, cut as the Penn Treebank does, without Java.

Papers report caption scores over the tokens of Stanford's PTBTokenizer, in lower case and without
punctuation. This follows its rules as far as captions need them; `docs/lab/benchmark_rules.md` says
how often it agrees.

Other scripts have rules of their own, since n-grams need parts: where words are not separated by
spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) every character with its marks is a
token; Korean, Arabic, Hindi and others are cut at spaces. Letters are composed first (NFC).
"""

import unicodedata

import regex as re

_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""What pycocoevalcap drops; it means brackets too, but they come in lower case and so stay."""

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-"})
_HALVES = re.compile(
    r"\b(can)(not)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b|\b(gim|lem)(me)\b|\b(d')(ye)\b"
)
_UNSPACED = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}ー"
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
)
"""A character of a script that does not separate words."""
_LETTER = rf"(?:(?!{_UNSPACED})\p{{L}}\p{{M}}*)"
_TOKEN = re.compile(
    rf"""
    \.\.\.|--+                            # an ellipsis, a dash
    |(?:[a-z]\.){{2,}}                    # u.s.
    |\b(?:mr|mrs|ms|dr|st|jr|sr|prof|inc|co|corp|ltd|no|vs|etc|mt|ft|ave|blvd)\.(?=\s+\S)
    |n't\b|'(?:s|m|d|re|ve|ll)\b          # what `_split` cut off
    |{_UNSPACED}\p{{M}}*                   # a character of a script without spaces
    |\#?\d+(?:[.,:/]\d+)*(?:-?[a-z]+\d*)*(?:-[a-z0-9]+)*
    |{_LETTER}+(?:[-_&'./](?:{_LETTER}|\d)+|\d+|_)*  # words, with hyphens and slashes
    |[^\s]                                # anything else alone
    """,
    re.VERBOSE,
)
_CLITIC = re.compile(r"(?<=[^\W_])(n't|'(?:s|m|d|re|ve|ll))\b")


def caption_tokens(caption: str) -> list[str]:
    """Cut a caption into words or characters, in lower case and without punctuation.

    Source:
        The Penn Treebank's tokenisation (Marcus et al., 1993) with what pycocoevalcap 1.2 drops
        from it afterwards.
    """
    text = unicodedata.normalize("NFC", caption).translate(_QUOTES).lower().replace('"', " ")
    text = _CLITIC.sub(r" \1", text)
    text = _HALVES.sub(lambda match: " ".join(part for part in match.groups() if part), text)
    tokens = [_BRACKETS.get(token, token) for token in _TOKEN.findall(text)]
    return [token for token in tokens if token not in _PUNCTUATION and not _is_foreign_mark(token)]


def _is_foreign_mark(token: str) -> bool:
    """Return whether a token is punctuation beyond ASCII, as the Chinese full stop."""
    return not token.isascii() and all(unicodedata.category(c).startswith("P") for c in token)
