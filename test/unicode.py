# unicode.py - are the Unicode tables of tokenizer.c those of Python's unicodedata (Unicode 14)?
#
#   python3 test/unicode.py build/peek
#
# `peek unicode` prints a line a code point: its class, as a number in the order of tokenizer.c, and what it is
# replaced by (0: dropped) by the original's rules, by those of `word` that keep accents and by those that keep
# capital letters. `peek NFC` prints lines in NFC, `peek NFD` in NFD. Unassigned code points are not compared. Closes with "N passed,
# N failed, N skipped".
import random
import re
import subprocess
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


def base(c, dropped):
    """What is left of the decomposed character without those marks, if that is one."""
    kept = "".join(x for x in unicodedata.normalize("NFD", chr(c)) if not dropped(x))
    return ord(kept) if len(kept) == 1 else c


def is_mark(x):
    return unicodedata.category(x)[0] == "M"


def is_accent(x):
    return 0x300 <= ord(x) < 0x370


def lower(c):
    text = chr(c).lower()
    return ord(text[0]) if len(text) == 1 or c == 0x130 else c  # I with a dot would be two


if unicodedata.unidata_version != "14.0.0":
    print("skipped: python3 has Unicode", unicodedata.unidata_version, "and not 14")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
peek = sys.argv[1]
same = failed = 0
for c, line in enumerate(subprocess.run([peek, "unicode"], capture_output=True, check=True, text=True).stdout.splitlines()):
    got = tuple(map(int, line.split()))
    category = unicodedata.category(chr(c))
    if category in ("Cn", "Cs"):
        continue
    bare = c if category[0] == "S" else base(c, is_accent)
    want = (class_of(c, category), 0 if is_mark(chr(c)) else lower(base(c, is_mark)), lower(c),
            0 if is_accent(chr(c)) else bare)
    if got == want:
        same += 1
        continue
    failed += 1
    if failed <= 10:
        print("FAIL U+%04X %s: %s, expected %s" % (c, unicodedata.name(chr(c), "?"), got, want))
print(same, "code points agree")
passed = int(failed == 0 and same > 250000)
failed = 1 - passed

# Every character, alone and taken apart; then characters and marks at random, out of order, next to what they join.
letters = [chr(c) for c in range(0x21, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs") and not chr(c).isspace()]
composed = [x for x in letters if unicodedata.normalize("NFD", x) != x]
marks = [x for x in letters if unicodedata.combining(x)]
lines = letters + [unicodedata.normalize("NFD", x) for x in composed]
random.seed(1)
for i in range(100000):
    parts = [random.choice(random.choice((composed, marks, letters, "aeo\u1100\u1161\u11a8\u0344"))) for _ in range(random.randint(1, 6))]
    lines.append("".join(x if random.random() < 0.5 else unicodedata.normalize("NFD", x) for x in parts))
random.shuffle(lines)
text = "\n".join(lines) + "\n"
for form in "NFC", "NFD":
    got = subprocess.run([peek, form], input=text.encode(), capture_output=True, check=True).stdout.decode().split("\n")
    other = [(x, y) for x, y in zip(lines, got) if unicodedata.normalize(form, x) != y]
    for x, y in other[:10]:
        print("FAIL", form, "of", ascii(x), "is", ascii(unicodedata.normalize(form, x)), "and not", ascii(y))
    print(len(lines) - len(other), "of", len(lines), "lines are in", form)
    right = not other and len(got) == len(lines) + 1
    passed += right
    failed += not right
print("%d passed, %d failed, 0 skipped" % (passed, failed))
sys.exit(failed > 0)
