# unicode.py - are the Unicode tables of tokenizer.c those of Python's unicodedata (Unicode 14)?
#
#   build/peek unicode | python3 test/unicode.py
#
# A line a code point: its class (0 word, 1 mark, 2 number, 3 blank, 4 symbol) and what it is folded
# to. Unassigned code points are not compared. Closes with "N passed, N failed, N skipped".
import sys
import unicodedata

WORD, MARK, NUMBER, BLANK, SYMBOL = range(5)
OTHER_ALPHABETIC = [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)]


def class_of(c, category):
    """What \\w and \\s mean to a Unicode regular expression; marks and numbers apart."""
    if any(first <= c <= last for first, last in OTHER_ALPHABETIC) or c in (0x200C, 0x200D):
        return WORD
    if category[0] == "Z" or c in (9, 10, 11, 12, 13, 0x85):
        return BLANK
    return {"L": WORD, "M": MARK, "N": NUMBER}.get(category[0], WORD if category == "Pc" else SYMBOL)


def folded(c):
    """Latin, Greek and Cyrillic: decomposed, lower-cased, without marks. Others: lower-cased."""
    name = unicodedata.name(chr(c), "").split(" ")
    text = chr(c)
    if name[0] in ("LATIN", "GREEK", "CYRILLIC", "KELVIN", "ANGSTROM", "OHM", "MICRO"):
        text = unicodedata.normalize("NFD", text)
    lower = "".join(x.lower() for x in text)
    kept = "".join(x for x in lower if not unicodedata.combining(x) or len(lower) == 1)
    return ord(kept) if len(kept) == 1 else c


if unicodedata.unidata_version != "14.0.0":
    print("skipped: python3 has Unicode", unicodedata.unidata_version, "and not 14")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
same = failed = 0
for c, line in enumerate(sys.stdin):
    kind, fold = map(int, line.split())
    category = unicodedata.category(chr(c))
    if category in ("Cn", "Cs"):
        continue
    want = class_of(c, category), folded(c)
    if (kind, fold) == want:
        same += 1
        continue
    failed += 1
    if failed <= 10:
        print("FAIL U+%04X %s: class %d, folded to U+%04X, expected %d and U+%04X"
              % (c, unicodedata.name(chr(c), "?"), kind, fold, *want))
print(same, "code points agree")
print("%d passed, %d failed, 0 skipped" % (same > 250000, failed))
sys.exit(failed > 0)
