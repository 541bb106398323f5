# unicode.py - are the Unicode tables of tokenizer.c those of Python's unicodedata (Unicode 14)?
#
#   build/peek unicode | python3 test/unicode.py
#
# A line a code point: its class, as a number in the order of tokenizer.c, and what it is replaced by
# (0: dropped) by the original's rules, by those of `word` that keep accents and by those that keep
# capital letters. Unassigned code points are not compared. Closes with "N passed, N failed, N skipped".
import sys
import unicodedata

(LETTER, CIRCLED_LETTER, CONNECTOR, JOINER, MARK, SPACING_MARK, NUMBER,
 OTHER_NUMBER, BLANK, PUNCTUATION, SYMBOL, CONTROL) = range(12)
OTHER_ALPHABETIC = [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)]


def class_of(c, category):
    """The general category, but for what \\w and \\s mean to a Unicode regular expression."""
    if any(first <= c <= last for first, last in OTHER_ALPHABETIC):
        return CIRCLED_LETTER
    if c in (0x200C, 0x200D):
        return JOINER
    if category[0] == "Z" or c in (9, 10, 11, 12, 13, 0x85):
        return BLANK
    exact = {"Pc": CONNECTOR, "Mn": MARK, "No": OTHER_NUMBER}
    return exact.get(category) if category in exact else {
        "L": LETTER, "M": SPACING_MARK, "N": NUMBER, "P": PUNCTUATION, "S": SYMBOL, "C": CONTROL}[category[0]]


def base(c):
    """Of Latin, Greek and Cyrillic: what is left of the decomposed letter without its marks."""
    name = unicodedata.name(chr(c), "").split(" ")
    if name[0] not in ("LATIN", "GREEK", "CYRILLIC", "KELVIN", "ANGSTROM", "OHM", "MICRO"):
        return c
    text = unicodedata.normalize("NFD", chr(c))
    kept = "".join(x for x in text if not unicodedata.combining(x) or len(text) == 1)
    return ord(kept) if len(kept) == 1 else c


def lower(c):
    text = chr(c).lower()
    return ord(text[0]) if len(text) == 1 or c == 0x130 else c  # I with a dot would be two


if unicodedata.unidata_version != "14.0.0":
    print("skipped: python3 has Unicode", unicodedata.unidata_version, "and not 14")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
same = failed = 0
for c, line in enumerate(sys.stdin):
    got = tuple(map(int, line.split()))
    category = unicodedata.category(chr(c))
    if category in ("Cn", "Cs"):
        continue
    accent = 0x300 <= c < 0x370
    want = (class_of(c, category), 0 if category[0] == "M" else lower(base(c)), lower(c),
            0 if accent else base(c))
    if got == want:
        same += 1
        continue
    failed += 1
    if failed <= 10:
        print("FAIL U+%04X %s: %s, expected %s" % (c, unicodedata.name(chr(c), "?"), got, want))
print(same, "code points agree")
print("%d passed, %d failed, 0 skipped" % (same > 250000, failed))
sys.exit(failed > 0)
