/* text.c - the tests of tokenizer.c: JSON, rules, the kinds of tokenizers, files, blanks.
 *
 *   build/text FOLDER             all tests; FOLDER is for files of theirs
 *   build/text blanks A B         the share of the lines of B that a vocabulary made of A's gives
 *                                 back as they were, up to case, accents and [UNK]; prints the
 * others */
#include "tdiff.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *name;
    int passed, failed;
} group;

static int check(int ok, const char *format, ...)
{
    va_list args;
    if (ok) return group.passed++, 1;
    group.failed++;
    printf("FAIL %s: ", group.name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    return 0;
}

static int same(const Buffer *got, const char *want)
{
    return !got->failed && got->text && strcmp(got->text, want) == 0;
}

/* A tokenizer of this kind whose vocabulary is made from a text. */
static int make(Tokenizer *t, const char *kind, const char *text)
{
    const TokenizerOptions o = {.tokenizer = kind, .vocab_size = 1000, .min_frequency = 1};
    Error err;
    return check(!tokenizer_make(t, &o, text, strlen(text), &err), "%s: %s", kind, err.text);
}

/* The tokens of a line, without [CLS] and [SEP], joined by a character. */
static void tokens_of(const Tokenizer *t, const char *line, char joint, Buffer *out)
{
    static int ids[4000];
    const long n = tokenizer_encode(t, line, strlen(line), ids, 4000);
    out->length = 0;
    buffer_add(out, "", 0);
    for (long i = 1; i + 1 < n; i++) {
        if (i > 1) buffer_add(out, &joint, 1);
        buffer_print(out, "%s", t->token[ids[i]]);
    }
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (f) fwrite(text, 1, strlen(text), f);
    check(f && !fclose(f), "cannot write %s", path);
}

static int read_from(Tokenizer *t, const char *folder, const char *name, Error *err)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return tokenizer_read(t, path, err);
}

/* A counter-based random number below n */
static int random_below(uint64_t *draws, int n)
{
    return rng_below(rng_key(7, RNG_T, (*draws)++, 0), 0, n);
}

/* ---- columns --------------------------------------------------------------------------------- */

static void test_columns(void)
{
    static const struct {
        const char *text;
        int most, columns;
        size_t fits;
    } of[] = {
        {"", 9, 0, 0},
        {"red", 9, 3, 3},
        {"red", 2, 2, 2},
        {"caf\xc3\xa9!", 4, 4, 5},
        {"cafe\xcc\x81!", 4, 4, 6},            /* the accent is a mark */
        {"\xe6\x98\x8e\xe6\x9c\x88", 9, 4, 6}, /* two Chinese characters */
        {"\xe6\x98\x8e\xe6\x9c\x88", 3, 2, 3}, /* the second one would be cut */
        {"\xef\xbd\xb1\xed\x95\x9c", 9, 3, 6}, /* a narrow kana, a wide Hangul */
        {"\xf0\x9f\x98\x80", 9, 2, 4},         /* an emoji */
        {"\xe0\xb8\x81\xe0\xb8\xb4", 9, 1, 6}, /* Thai with a vowel above */
        {"a\xff\xe6", 9, 3, 3},                /* no UTF-8 */
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        size_t fits;
        const int columns = text_columns(of[i].text, strlen(of[i].text), of[i].most, &fits);
        check(columns == of[i].columns && fits == of[i].fits,
              "text %zu: %d columns for %zu bytes, expected %d for %zu", i, columns, fits,
              of[i].columns, of[i].fits);
    }
}

static void test_durations(void)
{
    static const struct {
        double seconds;
        const char *text;
    } of[] = {{0, "0s"},       {8.4, "8s"},        {59.6, "1m 00s"},
              {309, "5m 09s"}, {3599.7, "1h 00m"}, {101400, "28h 10m"}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        Buffer b = {0};
        buffer_duration(&b, of[i].seconds);
        check(same(&b, of[i].text), "%g seconds are %s, expected %s", of[i].seconds, b.text,
              of[i].text);
        free(b.text);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void test_json(void)
{
    static const char *const valid[] = {"null",
                                        "true",
                                        " false ",
                                        "0",
                                        "-0",
                                        "12",
                                        "-3.5",
                                        "1e5",
                                        "1E-5",
                                        "1.25e+10",
                                        "\"\"",
                                        "\"a\"",
                                        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                                        "\"\\u0041\"",
                                        "\"\\ud83d\\ude00\"",
                                        "\"\xC3\xA9\"",
                                        "\"\x7F\"",
                                        "[]",
                                        "[ ]",
                                        "[1]",
                                        "[1, 2 ,3]",
                                        "[[[]]]",
                                        "{}",
                                        "{ }",
                                        "{\"a\":1}",
                                        "{\"a\": {\"b\": [null]}}",
                                        "{\"a\":1, \"a\":2}",
                                        "\t\r\n[\n]\r\n",
                                        "[\"[\", \"]\"]"};
    static const char *const invalid[] = {"",
                                          " ",
                                          "nul",
                                          "nulll",
                                          "True",
                                          "01",
                                          "-",
                                          "+1",
                                          ".5",
                                          "1.",
                                          "1e",
                                          "0x1",
                                          "NaN",
                                          "'a'",
                                          "\"a",
                                          "\"\\x\"",
                                          "\"\\u12\"",
                                          "\"\\ud83d\"",
                                          "\"\\ude00\"",
                                          "\"\xC3\"",
                                          "\"\xC0\x80\"",
                                          "\"\xED\xA0\x80\"",
                                          "\"\n\"",
                                          "[",
                                          "]",
                                          "[1",
                                          "[1,]",
                                          "[,1]",
                                          "[1 2]",
                                          "{",
                                          "{\"a\"}",
                                          "{\"a\":}",
                                          "{a:1}",
                                          "{\"a\":1,}",
                                          "{1:2}",
                                          "[}",
                                          "1 2",
                                          "[] []",
                                          "\xEF\xBB\xBF[]",
                                          "{\"a\" 1}"};
    Error err;
    Json j;
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        check(!json_parse(&j, valid[i], strlen(valid[i]), &err), "%s is refused: %s", valid[i],
              err.text);
        json_free(&j);
    }
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        check(json_parse(&j, invalid[i], strlen(invalid[i]), &err), "%s is accepted", invalid[i]);
        json_free(&j);
    }
}

/* ---- how text is cut ------------------------------------------------------------------------- */

static void test_rules(void)
{
    static const struct {
        const char *kind, *text, *pieces;
    } cases[] = {
        {"word", "Caf\xC3\xA9, 42 of them?!", "cafe|,|4|2|of|them|?!"},
        {"word", "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8\xE0\xA5\x8D\xE0\xA4\xA6\xE0\xA5\x80",
         "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8\xE0\xA5\x8D\xE0\xA4\xA6\xE0\xA5\x80"}, /* Hindi,
                                                                                         whole */
        {"original", "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8", "\xE0\xA4\xB9\xE0\xA4\xA8"},
        {"word", "\xD8\xA8\xD9\x8E", "\xD8\xA8\xD9\x8E"}, /* an Arabic letter with its vowel */
        {"original", "\xD8\xA8\xD9\x8E", "\xD8\xA8"},
        {"word",
         "a\xC2\xAD"
         "b",
         "a|\xC2\xAD|b"}, /* a soft hyphen */
        {"word", "\xE6\x88\x91\xE4\xBB\xAC read", "\xE6\x88\x91|\xE4\xBB\xAC|read"},
        {"original", "\xE6\x88\x91\xE4\xBB\xAC read", "\xE6\x88\x91\xE4\xBB\xAC|read"},
        {"word", "e\xCC\x81", "e"}, /* an accent by itself */
        {"word", "\xCE\xA3\xCE\x9F\xCE\xA6\xCE\x8C\xCE\xA3",
         "\xCF\x83\xCE\xBF\xCF\x86\xCE\xBF\xCF\x83"},
        {"word", "a [MASK] b[PAD]", "a|[MASK]|b|[PAD]"},
        {"word", "a \xFF b", "a|\xEF\xBF\xBD|b"}, /* not UTF-8 */
        {"char", "a e\xCC\x81!", "a| |e\xCC\x81|!"},
        {"char", "ab\r", "a|b"},
        {"char", "[MASK]x", "[MASK]|x"},
        {"bpe", "I'm  here, 42!",
         "I|'m|\xC4\xA0|\xC4\xA0here|,|\xC4\xA0"
         "42|!"},
        {"bpe", "<s>[MASK]", "<|s|>[|MASK|]"},
    };
    Tokenizer t = {0};
    Buffer got = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!make(&t, cases[i].kind, "some text")) continue;
        got.length = 0;
        tokenizer_split(&t, cases[i].text, strlen(cases[i].text), &got);
        for (size_t k = 0; k < got.length; k++)
            if (got.text[k] == '\n') got.text[k] = '|';
        check(same(&got, cases[i].pieces), "%s: '%s' is cut as %s", cases[i].kind, cases[i].text,
              got.text);
        tokenizer_free(&t);
    }
    /* the options of word */
    static const struct {
        int keep_case, keep_accents;
        const char *word;
    } kept[] = {{0, 0, "eae"},
                {1, 0, "\xC3\x89\xC3\x84\xC3\xA9"},
                {0, 1, "\xC3\xA9\xC3\xA4\xC3\xA9"},
                {1, 1, "\xC3\x89\xC3\x84\xC3\xA9"}};
    for (int i = 0; i < 4; i++) {
        const TokenizerOptions o = {"word", kept[i].keep_case, kept[i].keep_accents, 100, 1};
        Error err;
        const char *text = "\xC3\x89\xC3\x84\xC3\xA9", *want = i == 1 ? "EAe" : kept[i].word;
        check(!tokenizer_make(&t, &o, text, strlen(text), &err), "%s", err.text);
        check(t.size == 6 && !strcmp(t.token[5], want), "case %d: %s", i,
              t.size ? t.token[t.size - 1] : "");
        tokenizer_free(&t);
    }
    free(got.text);
}

/* ---- WordPiece ------------------------------------------------------------------------------- */

static const char bert_vocabulary[] =
    "[PAD]\n[unused0]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
    "un\n##aff\n##able\nthe\nquick\n##est\n##s\nrun\n##ning\nwant\n##ed\nwa\n,\n.\n!\n?\n'\n-\n(\n)"
    "\n$\n\"\n"
    "a\nb\nc\n##a\n##b\n##c\n1\n2\n##2\n##3\n\xE6\x88\x91\n\xE4\xBB\xAC\n##\xE4\xBB\xAC\ncafe\n##"
    "e\nhello\nhello2\n"
    "\xE2\x82\xAC\n##\xE2\x82\xAC\n_\n\xE0\xA4\xB9\xE0\xA4\xBF\n\xE2\x80\x94\n\xCF\x83\n##"
    "\xCF\x83\n##o\nunwanted\n";

static void test_wordpiece(const char *folder)
{
    static const struct {
        const char *text, *tokens;
    } cases[] = {
        {"", ""},
        {"   ", ""},
        {"unaffable", "un ##aff ##able"},
        {"UNaffable", "un ##aff ##able"},
        {"the quickest", "the quick ##est"},
        {"unwanted", "unwanted"}, /* the longest token first */
        {"unwant", "[UNK]"},      /* un, then nothing fits: all of it */
        {"wanted, running.", "want ##ed , run ##ning ."},
        {"wantedx", "[UNK]"},
        {"x", "[UNK]"},
        {"the x the", "the [UNK] the"},
        {"hello!?", "hello ! ?"}, /* each mark by itself */
        {"(the)", "( the )"},
        {"the-quick", "the - quick"},
        {"don't", "[UNK] ' [UNK]"},
        {"a'b", "a ' b"},
        {"$1", "$ 1"},                         /* ASCII symbols are punctuation */
        {"1\xE2\x82\xAC", "1 ##\xE2\x82\xAC"}, /* the euro is not */
        {"\xE2\x82\xAC", "\xE2\x82\xAC"},
        {"a_b", "a _ b"},
        {"12", "1 ##2"},
        {"123", "1 ##2 ##3"},
        {"hello2", "hello2"},
        {"Caf\xC3\xA9", "cafe"},  /* accents, composed */
        {"Cafe\xCC\x81", "cafe"}, /* and not */
        {"CAF\xC3\x89", "cafe"},
        {"cafee", "cafe ##e"},
        {"\xE6\x88\x91\xE4\xBB\xAC", "\xE6\x88\x91 \xE4\xBB\xAC"}, /* Chinese characters apart */
        {"the\xE6\x88\x91", "the \xE6\x88\x91"},
        {"a\tb\nc\rb", "a b c b"},
        {"a\xC2\xA0"
         "b",
         "a b"}, /* a blank that does not break */
        {"a\xE3\x80\x80"
         "b",
         "a b"},                    /* an ideographic one */
        {"t\x01he", "the"},         /* control characters are dropped */
        {"t\xE2\x80\x8Dhe", "the"}, /* a joiner is one */
        {"t\xC2\xADhe", "the"},     /* a soft hyphen, too */
        {"t\xEF\xBF\xBDhe", "the"}, /* what was no character */
        {"the\xE2\x80\x94the", "the \xE2\x80\x94 the"},
        {"\xE0\xA4\xB9\xE0\xA4\xBF", "\xE0\xA4\xB9\xE0\xA4\xBF"}, /* a mark that takes room stays */
        {"\xCE\xA3\xCE\xA3", "\xCF\x83 ##\xCF\x83"},              /* no final sigma */
        {"[MASK] the [SEP]", "[MASK] the [SEP]"},
        {"[unused0]", "[UNK] [UNK] [UNK]"}, /* not cut out */
        {"abc", "a ##b ##c"},
    };
    Tokenizer t = {0};
    Buffer got = {0};
    Error err;
    char path[600];
    write_file(folder, "bert.txt", bert_vocabulary);
    snprintf(path, sizeof path, "wordpiece:%s/bert.txt", folder);
    const TokenizerOptions o = {.tokenizer = path};
    if (check(!tokenizer_make(&t, &o, NULL, 0, &err), "%s", err.text)) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            tokens_of(&t, cases[i].text, ' ', &got);
            check(same(&got, cases[i].tokens), "'%s' becomes '%s', expected '%s'", cases[i].text,
                  got.text, cases[i].tokens);
        }
        char word[300];
        for (int n = 99; n <= 101; n++) {
            memset(word, 'a', (size_t)n);
            word[n] = '\0';
            tokens_of(&t, word, ' ', &got);
            check((got.length > 10) == (n <= 100), "a word of %d characters: %.20s", n, got.text);
        }
        int ids[64];
        long n = tokenizer_encode(&t, "the unaffable cafee", 19, ids, 64);
        got.length = 0;
        tokenizer_decode(&t, ids, (int)n, 0, &got);
        check(same(&got, "the unaffable cafee"), "decoded: %s", got.text);
        check(t.special[TOKEN_PAD] == 0 && t.special[TOKEN_UNK] == 2 && ids[0] == 3,
              "ids of special tokens");
        tokenizer_free(&t);
    }
    /* cased: a capital letter in the vocabulary; and a byte-order mark, CR LF */
    write_file(
        folder, "cased.txt",
        "\xEF\xBB\xBF[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nThe\r\nthe\r\nCaf\xC3\xA9\r\n");
    if (check(!read_from(&t, folder, "cased.txt", &err), "%s", err.text)) {
        tokens_of(&t, "The the Caf\xC3\xA9 THE", ' ', &got);
        check(same(&got, "The the Caf\xC3\xA9 [UNK]"), "cased: %s", got.text);
        tokenizer_free(&t);
    }
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "expected tokens, one a line"},
        {"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n", "no token [MASK] or <mask>"},
        {"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nthe\n",
         "line 7: expected a token in UTF-8 that did not occur before"},
        {"[PAD]\ncaf\xE9\n", "line 2: expected a token in UTF-8"},
        {"[PAD]\n\n[UNK]\n", "line 2: expected a token"},
        {"The cat sat.\nThe dog ran.\n", "no token [UNK]"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(folder, "bad.txt", bad[i].text);
        check(read_from(&t, folder, "bad.txt", &err) && strstr(err.text, bad[i].message), "%d: %s",
              (int)i, err.text);
        tokenizer_free(&t);
    }
    free(got.text);
}

/* ---- byte-level BPE -------------------------------------------------------------------------- */

/* Merges by the rule itself: the pair of lowest rank, leftmost first, one at a time. */
static int merge_slowly(const Tokenizer *t, int *token, int n)
{
    for (;;) {
        int best = t->merges.count, at = -1;
        for (int i = 0; i + 1 < n; i++)
            for (int r = 0; r < best; r++)
                if (t->merges.pair[r][0] == token[i] && t->merges.pair[r][1] == token[i + 1])
                    best = r, at = i;
        if (at < 0) return n;
        token[at] = t->merged[best];
        memmove(token + at + 1, token + at + 2, (size_t)(n - at - 2) * sizeof *token);
        n--;
    }
}

static void test_bpe(void)
{
    enum { LONGEST = 60, TEXTS = 300 };
    static const char letters[] = "aab bca'st \n12.,!?";
    uint64_t draws = 0;
    int ids[LONGEST + 2], slow[LONGEST];
    Tokenizer t = {0};
    Buffer text = {0}, got = {0}, pieces = {0};
    /* a text of few letters, whose merges have much to do with each other */
    for (int i = 0; i < 4000; i++)
        buffer_add(&text, &letters[random_below(&draws, sizeof letters - 1)], 1);
    if (!make(&t, "bpe", text.text)) return;
    check(t.size > 400, "only %d tokens", t.size);
    for (int k = 0; k < TEXTS; k++) {
        char line[LONGEST + 1];
        const int n = random_below(&draws, LONGEST);
        for (int i = 0; i < n; i++) line[i] = letters[random_below(&draws, sizeof letters - 1)];
        line[n] = '\0';
        const long length = tokenizer_encode(&t, line, (size_t)n, ids, LONGEST + 2);
        /* piece by piece, slowly */
        int at = 1, right = 1;
        pieces.length = 0;
        buffer_add(&pieces, "", 0);
        tokenizer_split(&t, line, (size_t)n, &pieces);
        for (char *p = pieces.text, *end; *p; p = end) {
            int count = 0;
            end = p + strcspn(p, "\n");
            while (p < end) {
                const size_t bytes = (*p & 0x80) ? 2 : 1;
                char character[3] = {p[0], bytes > 1 ? p[1] : '\0', '\0'};
                slow[count++] = tokenizer_find(&t, character);
                p += bytes;
            }
            count = merge_slowly(&t, slow, count);
            for (int i = 0; i < count; i++) right &= at < length && ids[at++] == slow[i];
            if (*end) end++;
        }
        check(right && at + 1 == length, "'%s' is not merged lowest rank first", line);
    }
    /* nothing is lost of any bytes */
    int lost = 0;
    for (int k = 0; k < TEXTS; k++) {
        char line[LONGEST];
        const int n = random_below(&draws, LONGEST);
        for (int i = 0; i < n; i++) line[i] = (char)random_below(&draws, 256);
        const long length = tokenizer_encode(&t, line, (size_t)n, ids, LONGEST + 2);
        got.length = 0;
        buffer_add(&got, "", 0);
        tokenizer_decode(&t, ids, (int)length, 0, &got);
        lost += got.length != (size_t)n || memcmp(got.text, line, (size_t)n) != 0;
    }
    check(lost == 0, "%d of %d random texts are not given back", lost, TEXTS);
    tokenizer_free(&t);
    free(text.text), free(got.text), free(pieces.text);
}

/* Training by counting anew after each merge. */
static void test_bpe_training(void)
{
    enum { N = 1500, VOCABULARY = 330 };
    static const char letters[] = "aaabbc defghijklmnopqrstuvwxyz' ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint64_t draws = 1000000;
    Tokenizer t = {0};
    for (int round = 0; round < 20; round++) {
        Buffer text = {0}, pieces = {0};
        static int token[2 * N], left[N], right[N];
        int n = 0, size = 261, right_ones = 1;
        Error err;
        for (int i = 0; i < N; i++)
            buffer_add(&text, &letters[random_below(&draws, round % 5 ? 5 + round % 5 : 58)], 1);
        const TokenizerOptions o = {
            .tokenizer = "bpe", .vocab_size = VOCABULARY, .min_frequency = 2};
        if (!check(!tokenizer_make(&t, &o, text.text, text.length, &err), "%s", err.text)) return;
        tokenizer_split(&t, text.text, text.length, &pieces);
        for (char *p = pieces.text; *p;) { /* -1 between pieces */
            const size_t bytes = (*p & 0x80) ? 2 : 1;
            char character[3] = {p[0], bytes > 1 ? p[1] : '\0', '\0'};
            token[n++] = *p == '\n' ? -1 : tokenizer_find(&t, character);
            p += bytes;
        }
        for (int m = 0; size < VOCABULARY; m++) {
            int best = 0, pairs = 0;
            for (int i = 0; i + 1 < n; i++) {
                if (token[i] < 0 || token[i + 1] < 0) continue;
                int count = 0;
                for (int k = 0; k + 1 < n; k++)
                    count += token[k] == token[i] && token[k + 1] == token[i + 1];
                const int less = token[i] != left[m] ? token[i] < left[m] : token[i + 1] < right[m];
                if (count < best || (pairs && count == best && !less)) continue;
                best = count, pairs++, left[m] = token[i], right[m] = token[i + 1];
            }
            if (best < 2) {
                right_ones &= t.merges.count == m;
                break;
            }
            right_ones &= m < t.merges.count && t.merges.pair[m][0] == left[m] &&
                          t.merges.pair[m][1] == right[m];
            if (!right_ones) break;
            if (t.merged[m] == size) size++;
            int to = 0;
            for (int i = 0; i < n; to++) {
                const int merges = i + 1 < n && token[i] == left[m] && token[i + 1] == right[m];
                token[to] = merges ? t.merged[m] : token[i];
                i += merges ? 2 : 1;
            }
            n = to;
        }
        check(right_ones, "round %d: another merge than the most frequent pair", round);
        tokenizer_free(&t);
        free(text.text), free(pieces.text);
    }
}

/* ---- characters ------------------------------------------------------------------------------ */

static void test_characters(void)
{
    static const char *const lines[] = {
        "Anna  Maria",
        " two blanks ",
        "e\xCC\x81t\xC3\xA9",
        "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8\xE0\xA5\x8D\xE0\xA4\xA6\xE0\xA5\x80",
        "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB \xE2\x9D\xA4\xEF\xB8\x8F!",
        "\tTab, \"quotes\" 'n' \\"};
    Buffer all = {0}, got = {0};
    Tokenizer t = {0};
    int ids[100];
    for (int i = 0; i < 6; i++) buffer_print(&all, "%s\r\n", lines[i]);
    if (!make(&t, "char", all.text)) return;
    for (int i = 0; i < 6; i++) {
        const long n = tokenizer_encode(&t, lines[i], strlen(lines[i]), ids, 100);
        got.length = 0;
        tokenizer_decode(&t, ids, (int)n, 0, &got);
        check(same(&got, lines[i]), "'%s' comes back as '%s'", lines[i], got.text);
    }
    check(tokenizer_find(&t, "e\xCC\x81") >= 0 && tokenizer_find(&t, "\xCC\x81") < 0,
          "a mark is a token by itself");
    check(tokenizer_find(&t, "\n") < 0 && tokenizer_find(&t, "\r") < 0,
          "the end of a line is a token");
    tokenizer_free(&t);
    free(all.text), free(got.text);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* What is written is read, and is the same. */
static void test_json_round_trip(const char *folder)
{
    static const char text[] =
        "Don't \"stop\" at 10:30, caf\xC3\xA9!\nThe end. \xE6\x88\x91 \\ / <s>\n";
    static const char *const kinds[] = {"word", "original", "bpe", "char", NULL};
    char bert[600];
    snprintf(bert, sizeof bert, "wordpiece:%s/bert.txt", folder);
    for (int i = 0; i < 6; i++) {
        const char *kind = i < 4 ? kinds[i] : i == 4 ? bert : "word";
        const TokenizerOptions o = {kind, i == 5, i == 5, 1000, 1};
        Tokenizer t = {0}, copy = {0};
        Buffer a = {0}, b = {0}, x = {0}, y = {0};
        Error err;
        if (!check(!tokenizer_make(&t, &o, text, sizeof text - 1, &err), "%s", err.text)) continue;
        tokenizer_to_json(&t, &a);
        if (check(!tokenizer_from_json(&copy, a.text, a.length, &err), "%s: %s", kind, err.text)) {
            tokenizer_to_json(&copy, &b);
            check(same(&b, a.text), "%s: written again, it differs", kind);
            int ids[100];
            const long n = tokenizer_encode(&t, text, strcspn(text, "\n"), ids, 100);
            tokenizer_decode(&t, ids, (int)n, 0, &x);
            tokenizer_decode(&copy, ids, (int)n, 0, &y);
            check(same(&y, x.text), "%s: read again, it decodes %s as %s", kind, x.text, y.text);
            tokens_of(&t, text, '|', &x);
            tokens_of(&copy, text, '|', &y);
            check(same(&y, x.text), "%s: read again, it cuts %s as %s", kind, x.text, y.text);
        }
        tokenizer_free(&t), tokenizer_free(&copy);
        free(a.text), free(b.text), free(x.text), free(y.text);
    }
}

/* A tokenizer.json in which ' stands for ", of these parts; NULL: one that works. */
static int read_parts(Tokenizer *t, const char *more, const char *normalizer, const char *pre,
                      const char *model, Error *err)
{
    static const char words[] =
        "'type': 'WordLevel', 'vocab': {'[UNK]': 0, '[CLS]': 1, '[SEP]': 2, '[PAD]': 3, "
        "'[MASK]': 4, 'red': 5}";
    Buffer json = {0};
    buffer_print(&json, "{%s'normalizer': %s, 'pre_tokenizer': %s, 'model': {%s}}",
                 more ? more : "", normalizer ? normalizer : "null",
                 pre ? pre : "{'type': 'Whitespace'}", model ? model : words);
    for (size_t i = 0; i < json.length; i++)
        if (json.text[i] == '\'') json.text[i] = '"';
    const int status = tokenizer_from_json(t, json.text, json.length, err);
    free(json.text);
    return status;
}

static void test_json_rules(void)
{
    static const char nfd[] =
        "{'type': 'Sequence', 'normalizers': [{'type': 'NFD'}, {'type': 'Lowercase'}]}";
    static const char vocab[] =
        "'vocab': {'[UNK]': 0, '[CLS]': 1, '[SEP]': 2, '[PAD]': 3, '[MASK]': 4";
    static const struct {
        const char *more, *normalizer, *pre, *model, *message;
    } cases[] = {
        {NULL, NULL, NULL, NULL, NULL},
        {NULL, "{'type': 'Lowercase'}", "{'type': 'WhitespaceSplit'}", NULL, NULL},
        {NULL, "{'type': 'BertNormalizer'}", "{'type': 'BertPreTokenizer'}", NULL, NULL},
        {NULL, "{'type': 'Sequence', 'normalizers': []}", NULL, NULL, NULL},
        {NULL, "{'type': 'Sequence', 'normalizers': [{'type': 'NFD'}, {'type': 'StripAccents'}]}",
         NULL, NULL, NULL},
        {NULL, NULL,
         "{'type': 'Sequence', 'pretokenizers': [{'type': 'Digits', 'individual_digits': true}, "
         "{'type': "
         "'Punctuation'}, {'type': 'WhitespaceSplit'}]}",
         NULL, NULL},
        {"'truncation': null, 'padding': null, 'decoder': null, 'post_processor': null, ", NULL,
         NULL, NULL, NULL},
        {"'post_processor': {'type': 'BertProcessing', 'sep': ['[SEP]', 2], 'cls': ['[CLS]', 1]}, ",
         NULL, NULL, NULL, NULL},
        {"'added_tokens': [{'id': 4, 'content': '[MASK]', 'special': true}], ", NULL, NULL, NULL,
         NULL},
        {"'added_tokens': [{'id': 5, 'content': 'red'}, {'id': 6, 'content': '<x>', 'lstrip': "
         "true, "
         "'rstrip': true}], ",
         NULL, NULL, NULL, NULL},
        {NULL, "{'type': 'NFC'}", NULL, NULL, NULL},
        {NULL, nfd, NULL, NULL, NULL},
        {NULL, "{'type': 'Sequence', 'normalizers': [{'type': 'NFC'}, {'type': 'Lowercase'}]}",
         NULL, NULL, NULL},
        {NULL, "{'type': 'Sequence', 'normalizers': [{'type': 'NFKD'}, {'type': 'StripAccents'}]}",
         NULL, NULL, NULL},
        {NULL, NULL, NULL,
         "'type': 'WordLevel', 'unk_token': 'UNK', 'vocab': {'UNK': 0, '[CLS]': 1, '[SEP]': 2, "
         "'[PAD]': 3, '[MASK]': 4}",
         NULL},
        /* what it cannot do */
        {NULL, "{'type': 'NFKC'}", NULL, NULL, "normalizer: cannot do 'NFKC'"},
        {NULL, "{'type': 'Sequence', 'normalizers': [{'type': 'Lowercase'}, {'type': 'NFC'}]}",
         NULL, NULL, "cannot do 'NFC' behind another normalizer"},
        {NULL, "{'type': 'StripAccents'}", NULL, NULL, "cannot do 'StripAccents' without NFD"},
        {NULL, "{'type': 'Replace', 'pattern': {'Regex': 'x'}, 'content': 'y'}", NULL, NULL,
         "cannot do 'Replace'"},
        {NULL, "{'type': 'Prepend', 'prepend': '_'}", NULL, NULL,
         "normalizer: cannot do 'Prepend'"},
        {NULL, "{'type': 'Sequence', 'normalizers': [{'type': 'Lowercase'}, {'type': 'Strip'}]}",
         NULL, NULL, "normalizer: cannot do 'Strip'"},
        {NULL, "{'type': 'Sequence'}", NULL, NULL, "a Sequence without a list"},
        {NULL, "'Lowercase'", NULL, NULL, "normalizer: cannot do"},
        {NULL, NULL, "null", NULL, "pre_tokenizer: expected one that splits"},
        {NULL, NULL, "{'type': 'Metaspace'}", NULL, "pre_tokenizer: cannot do 'Metaspace'"},
        {NULL, NULL, "{'type': 'Split', 'pattern': {'String': ' '}, 'behavior': 'Isolated'}", NULL,
         "cannot do 'Split'"},
        {NULL, NULL, "{'type': 'Digits', 'individual_digits': false}", NULL,
         "without individual_digits"},
        {NULL, NULL, "{'type': 'Punctuation', 'behavior': 'Removed'}", NULL, "another behavior"},
        {NULL, NULL, "{'type': 'ByteLevel', 'add_prefix_space': true}", NULL,
         "with add_prefix_space"},
        {NULL, NULL, "{'type': 'ByteLevel', 'add_prefix_space': false, 'use_regex': false}", NULL,
         "without use_regex"},
        {NULL, NULL, "{'type': 'ByteLevel', 'add_prefix_space': false}", NULL,
         "expected a \"model\""},
        {"'truncation': {'max_length': 512}, ", NULL, NULL, NULL, "\"truncation\" is not null"},
        {"'padding': {'length': 512}, ", NULL, NULL, NULL, "\"padding\" is not null"},
        {"'decoder': {'type': 'Metaspace'}, ", NULL, NULL, NULL, "decoder: expected null"},
        {"'post_processor': {'type': 'TemplateProcessing', 'single': []}, ", NULL, NULL, NULL,
         "post_processor: expected"},
        {"'post_processor': {'type': 'Other'}, ", NULL, NULL, NULL,
         "post_processor: expected one that puts [CLS]"},
        {"'added_tokens': [{'id': 9, 'content': '<x>'}], ", NULL, NULL, NULL,
         "added_tokens: cannot do '<x>': expected its id"},
        {"'added_tokens': [{'id': 3, 'content': '[MASK]'}], ", NULL, NULL, NULL,
         "added_tokens: cannot do '[MASK]': expected its id"},
        {"'added_tokens': [{'id': 4, 'content': '[MASK]', 'single_word': true}], ", NULL, NULL,
         NULL, "added_tokens: cannot do '[MASK]' with single_word"},
        {"'added_tokens': [{'id': 4, 'content': '[MASK]', 'normalized': true}], ",
         "{'type': 'Lowercase'}", NULL, NULL, "with normalized beside a normalizer"},
        {"'added_tokens': [{'id': 5, 'content': 'red'}, {'id': 5, 'content': 'red'}], ", NULL, NULL,
         NULL, "'red': expected a name that did not occur before"},
        {"'added_tokens': [{'id': 6, 'content': ''}], ", NULL, NULL, NULL, "expected a name"},
        {"'added_tokens': [{'id': 6}], ", NULL, NULL, NULL, "cannot do '?': expected a name"},
        {"'post_processor': {'type': 'BertProcessing', 'sep': ['[SEP]', 2], 'cls': ['<s>', 1]}, ",
         NULL, NULL, NULL, "post_processor: expected one that puts [CLS]"},
        {"'added_tokens': 3, ", NULL, NULL, NULL, "\"added_tokens\" is no list"},
        {NULL, NULL, NULL, "'type': 'Unigram', 'vocab': {}", "expected a \"model\" of \"type\""},
        {NULL, NULL, NULL, "'type': 'BPE', 'vocab': {}, 'merges': []",
         "BPE with the pre-tokenizer ByteLevel"},
        {NULL, NULL, NULL, "'type': 'WordPiece', 'continuing_subword_prefix': '@@', 'vocab': {}",
         "than ##"},
        {NULL, NULL, NULL, "'type': 'WordPiece', 'max_input_chars_per_word': 50, 'vocab': {}",
         "than 100"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'dropout': 0.1, 'vocab': {}",
         "cannot do 'dropout'"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {}",
         "\"vocab\" is no object with tokens"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': []", "\"vocab\" is no object"},
        {NULL, NULL, NULL, "'type': 'WordLevel'", "\"vocab\" is no object"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'red': 0}", "no token [UNK] or <unk>"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'red': 0, 'blue': 2}",
         "expected an id from 0 to 1"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'red': 0, 'blue': 0}", "each once"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'red': 0, 'red': 1}", "are the same"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'red': -1}", "expected an id"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'red': 0.5}", "expected an id"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'red': '0'}", "expected an id"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'': 0}", "token 0 is empty"},
        {NULL, NULL, NULL, "'type': 'WordLevel', 'vocab': {'a\\u0000b': 0}", "has a NUL"},
    };
    Tokenizer t = {0};
    Error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int status =
            read_parts(&t, cases[i].more, cases[i].normalizer, cases[i].pre, cases[i].model, &err);
        if (!cases[i].message)
            check(!status, "document %d is refused: %s", (int)i, err.text);
        else
            check(status && strstr(err.text, cases[i].message), "document %d, expected '%s': %s",
                  (int)i, cases[i].message, status ? err.text : "accepted");
        tokenizer_free(&t);
    }
    static const char *const glue[] = {
        "'glue': 3",
        "'glue': [[1]], 'glue_exceptions': []",
        "'glue_exceptions': []",
        "'glue': [[],[],[],[],[]], 'glue_exceptions': 3",
        "'glue': [[],[],[],[],[-1]], 'glue_exceptions': []",
        "'glue': [[],[],[],[],[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]], 'glue_exceptions': []",
        "'glue': [[],[],[],[],[]], 'glue_exceptions': [[0,5]]",
        "'glue': [[],[],[],[],[]], 'glue_exceptions': [[0]]"};
    for (int i = 0; i < 8; i++) {
        char model[400];
        snprintf(model, sizeof model, "'type': 'WordLevel', %s}, %s", vocab, glue[i]);
        check(read_parts(&t, NULL, NULL, NULL, model, &err) && strstr(err.text, "\"glue"), "%s: %s",
              glue[i], err.text);
        tokenizer_free(&t);
    }
    static const char *const none[] = {"[]",        "{}", "3", "{\"model\": 3}", "{\"model\": {}}",
                                       "{\"model\""};
    for (int i = 0; i < 6; i++)
        check(tokenizer_from_json(&t, none[i], strlen(none[i]), &err), "%s is a tokenizer.json",
              none[i]);
    /* what is read is done: no lower-casing, blanks only */
    Buffer got = {0};
    check(!read_parts(&t, NULL, NULL, "{'type': 'WhitespaceSplit'}", NULL, &err), "%s", err.text);
    tokenizer_split(&t, "Red, red.", 9, &got);
    check(same(&got, "Red,\nred."), "WhitespaceSplit without a normalizer: %s", got.text);
    tokenizer_free(&t);
    free(got.text);
}

/* GPT-2's two files, and merges that fit no vocabulary. */
static void test_gpt2(const char *folder)
{
    static const struct {
        const char *merges, *message;
    } cases[] = {
        {"\xEF\xBB\xBF#version: 0.2\nh e\nhe l\n", NULL},
        {"h e\r\nhe l\r\n", NULL},
        {"", NULL},
        {"h e\nx y\n", "merge 1, 'x' 'y': the vocabulary lacks"},
        {"h e\nzz y\n", "merge 1, 'zz' 'y': the vocabulary lacks"},
        {"h e\nl o\n", "merge 1, 'l' 'o': the vocabulary lacks"},
        {"he\n", "merges.txt: 'he': expected two parts"},
    };
    Tokenizer t = {0};
    Buffer json = {0}, got = {0};
    Error err;
    if (!make(&t, "bpe", "x")) return;
    buffer_print(&json, "\xEF\xBB\xBF{");
    for (int byte = 0; byte < 256; byte++) {
        buffer_print(&json, byte ? ", " : "");
        buffer_json_string(&json, t.token[5 + byte], strlen(t.token[5 + byte]));
        buffer_print(&json, ": %d", byte);
    }
    tokenizer_free(&t);
    write_file(folder, "merges.txt", "");
    Buffer whole = {0};
    buffer_print(&whole, "%s, \"he\": 256, \"hel\": 257}", json.text);
    write_file(folder, "vocab.json", whole.text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(folder, "merges.txt", cases[i].merges);
        const int status = tokenizer_read(&t, folder, &err);
        if (cases[i].message) {
            check(status && strstr(err.text, cases[i].message), "merges %d: %s", (int)i, err.text);
        } else if (check(!status, "merges %d: %s", (int)i, err.text)) {
            check(t.size == 258 + 5 && t.special[TOKEN_CLS] >= 258,
                  "the special tokens are not behind the others");
            tokens_of(&t, "hello", '|', &got);
            check(same(&got, t.merges.count ? "hel|l|o" : "h|e|l|l|o"), "merges %d: %s", (int)i,
                  got.text);
        }
        tokenizer_free(&t);
    }
    write_file(folder, "vocab.json", "{\"a\": 0}");
    check(tokenizer_read(&t, folder, &err) && strstr(err.text, "no token for the byte"),
          "a byte is missing: %s", err.text);
    /* where two merges make one token, a later one can open the way for an earlier one */
    Buffer other = {0};
    buffer_print(&other, "%s, \"ab\": 256, \"bc\": 257, \"abc\": 258, \"abcab\": 259}", json.text);
    write_file(folder, "vocab.json", other.text);
    write_file(folder, "merges.txt", "a b\nb c\na bc\nabc ab\nab c\n");
    if (check(!tokenizer_read(&t, folder, &err), "%s", err.text))
        tokens_of(&t, "abcabc", '|', &got);
    check(same(&got, "abcab|c"), "a sweep went too far: %s", got.text);
    tokenizer_free(&t);
    free(other.text);
    free(json.text), free(whole.text), free(got.text);
}

/* A tokenizer.json of byte-level BPE: the bytes behind what `first` lists, then `last`. */
static int read_bytes(Tokenizer *t, const char *first, const char *last, const char *added,
                      const char *post, Error *err)
{
    Tokenizer bytes = {0};
    Buffer json = {0};
    int id = 0, status = -1;
    for (const char *p = first; *p; p++) id += *p == ':';
    if (make(&bytes, "bpe", "x")) {
        buffer_print(
            &json,
            "{\"added_tokens\": [%s], \"normalizer\": null, \"pre_tokenizer\": "
            "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}, "
            "\"post_processor\": %s, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": "
            "{\"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": \"\", "
            "\"merges\": [\"h e\"], \"vocab\": {%s",
            added, post, first);
        for (int byte = 0; byte < 256; byte++) {
            const char *token = bytes.token[TOKEN_SPECIALS + byte];
            buffer_json_string(&json, token, strlen(token));
            buffer_print(&json, ": %d, ", id + byte);
        }
        buffer_print(&json, "%s}}}", last);
        status = tokenizer_from_json(t, json.text, json.length, err);
    }
    tokenizer_free(&bytes);
    free(json.text);
    return status;
}

static void check_bytes(const Tokenizer *t, const char *text, const char *tokens,
                        const char *decoded)
{
    Buffer got = {0};
    int ids[100];
    const long n = tokenizer_encode(t, text, strlen(text), ids, 100);
    tokens_of(t, text, ' ', &got);
    check(same(&got, tokens), "'%s' becomes '%s', expected '%s'", text, got.text, tokens);
    got.length = 0;
    buffer_add(&got, "", 0);
    tokenizer_decode(t, ids, (int)n, 0, &got);
    check(same(&got, decoded), "'%s' is decoded '%s', expected '%s'", text, got.text, decoded);
    free(got.text);
}

/* Files in the shape of GPT-2's own and RoBERTa's. */
static void test_added_tokens(void)
{
    static const char gpt2[] =
        "{\"id\": 257, \"content\": \"<|endoftext|>\", \"single_word\": false, \"lstrip\": false, "
        "\"rstrip\": false, \"normalized\": true, \"special\": true}";
    static const char roberta[] =
        "{\"id\": 0, \"content\": \"<s>\", \"normalized\": true, \"special\": true}, "
        "{\"id\": 2, \"content\": \"</s>\", \"normalized\": true, \"special\": true}, "
        "{\"id\": 261, \"content\": \"<mask>\", \"lstrip\": true, \"special\": true}, "
        "{\"id\": 262, \"content\": \"\u20ac!\"}, "
        "{\"id\": 263, \"content\": \"\u20ac!!\", \"rstrip\": true}";
    Tokenizer t = {0};
    Buffer a = {0}, b = {0};
    Error err;
    if (check(!read_bytes(&t, "", "\"he\": 256, \"<|endoftext|>\": 257", gpt2,
                          "{\"type\": \"ByteLevel\"}", &err),
              "GPT-2's: %s", err.text)) {
        check(t.size == 258 + 5 && t.special[TOKEN_CLS] >= 258, "specials are not behind");
        check_bytes(&t, "he<|endoftext|> x", "he <|endoftext|> \xC4\xA0 x", "he x");
        check_bytes(&t, "<s>", "< s >", "<s>"); /* is none of the file's */
    }
    tokenizer_free(&t);
    if (check(!read_bytes(&t, "\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, \"<unk>\": 3, ",
                          "\"he\": 260, \"<mask>\": 261", roberta,
                          "{\"type\": \"RobertaProcessing\", \"sep\": [\"</s>\", 2], \"cls\": "
                          "[\"<s>\", 0], \"trim_offsets\": true}",
                          &err),
              "RoBERTa's: %s", err.text)) {
        static const int ids[] = {3, 0, 2, 1, 261};
        check(t.size == 264 && !memcmp(t.special, ids, sizeof ids), "ids of special tokens");
        check_bytes(&t, "x \xC2\xA0<mask> he", "x <mask> \xC4\xA0 he", "x he"); /* lstrip */
        check_bytes(&t, "<mask>", "<mask>", "");
        check_bytes(&t, "x \xE2\x82\xAC!\xE2\x82\xAC!! \t he",
                    "x \xC4\xA0 \xE2\x82\xAC! \xE2\x82\xAC!! he",
                    "x \xE2\x82\xAC!\xE2\x82\xAC!!he"); /* the longest; rstrip; as they are */
        tokenizer_to_json(&t, &a);
        tokenizer_free(&t);
        check(!tokenizer_from_json(&t, a.text, a.length, &err), "written, it is refused");
        if (t.size) tokenizer_to_json(&t, &b);
        check(same(&b, a.text), "written again, it differs");
    }
    tokenizer_free(&t);
    free(a.text), free(b.text);
}

/* NFC is done before a text is cut; with NFKD no more than ASCII is taken. */
static void test_composition(void)
{
    static const char pre[] = "{'type': 'WhitespaceSplit'}";
    Tokenizer t = {0};
    Buffer got = {0};
    Error err;
    if (check(!read_parts(&t, "'added_tokens': [{'id': 4, 'content': '[MASK]'}], ",
                          "{'type': 'NFC'}", pre, NULL, &err),
              "%s", err.text)) {
        static const char text[] = "E\xCC\x81 e[MASK]\xCC\x81 \xFF";
        tokenizer_split(&t, text, sizeof text - 1, &got);
        check(same(&got, "\xC3\x89\ne\n[MASK]\n\xCC\x81\n\xEF\xBF\xBD"), "NFC: %s", got.text);
    }
    tokenizer_free(&t);
    if (check(!read_parts(&t, NULL, "{'type': 'NFKD'}", pre, NULL, &err), "%s", err.text)) {
        check(!tokenizer_accepts(&t, "cafe", 4, &err), "ASCII is refused");
        check(tokenizer_accepts(&t, "caf\xC3\xA9", 5, &err) && strstr(err.text, "NFKD") &&
                  strstr(err.text, "byte 4 "),
              "not ASCII: %s", err.text);
    }
    tokenizer_free(&t);
    free(got.text);
}

/* A damaged tokenizer.json is refused, or does something: sanitizers see the rest. */
static void test_damage(void)
{
    enum { ROUNDS = 400 };
    static const char text[] = "red \"fig\" 4.5, it's\nred fig\n";
    static const char *const kinds[] = {"word", "bpe", "char"};
    uint64_t draws = 5000000;
    for (int k = 0; k < 3; k++) {
        const TokenizerOptions o = {.tokenizer = kinds[k], .vocab_size = 280};
        Tokenizer t = {0};
        Buffer json = {0};
        Error err;
        int refused = 0;
        if (!check(!tokenizer_make(&t, &o, text, strlen(text), &err), "%s", err.text)) return;
        tokenizer_to_json(&t, &json);
        tokenizer_free(&t);
        for (int round = 0; round < ROUNDS; round++) {
            Buffer bad = {0}, out = {0};
            int ids[60];
            buffer_add(&bad, json.text, json.length);
            for (int i = 0; i <= round % 3; i++) {
                char *at = bad.text + random_below(&draws, (int)bad.length - 20);
                if (round % 2)
                    memmove(at, at + 1 + i, bad.length - (size_t)(at - bad.text) - i),
                        bad.length -= 1 + i;
                else
                    *at = "0123456789\"[]{},:xe\\"[random_below(&draws, 20)];
            }
            if (tokenizer_from_json(&t, bad.text, bad.length, &err)) {
                refused++;
            } else {
                const long n = tokenizer_encode(&t, text, strlen(text), ids, 60);
                tokenizer_decode(&t, ids, n < 60 ? (int)n : 60, 1, &out);
            }
            tokenizer_free(&t);
            free(bad.text), free(out.text);
        }
        check(refused > ROUNDS / 2, "%s: only %d of %d damaged files are refused", kinds[k],
              refused, ROUNDS);
        free(json.text);
    }
}

static void test_large_vocabulary(void)
{
    enum { WORDS = 1000000 };
    Buffer json = {0};
    Tokenizer t = {0};
    Error err;
    buffer_print(
        &json,
        "{\"pre_tokenizer\": {\"type\": \"WhitespaceSplit\"}, \"model\": {\"type\": \"WordLevel\", "
        "\"vocab\": {\"[UNK]\": 0, \"[CLS]\": 1, \"[SEP]\": 2, \"[PAD]\": 3, \"[MASK]\": 4");
    for (int i = 5; i < WORDS; i++) buffer_print(&json, ", \"w%d\": %d", i, i);
    buffer_print(&json, "}}}");
    if (check(!tokenizer_from_json(&t, json.text, json.length, &err), "%s", err.text))
        check(t.size == WORDS && tokenizer_find(&t, "w999999") == 999999,
              "not all of them are found");
    tokenizer_free(&t);
    free(json.text);
}

/* ---- the blanks between words ---------------------------------------------------------------- */

/* Is text the pattern, in which each [UNK] stands for one character or more that are no blanks? */
static int matches(const char *text, const char *pattern)
{
    const size_t n = strlen("[UNK]");
    if (!*pattern) return !*text;
    if (strncmp(pattern, "[UNK]", n)) return *text == *pattern && matches(text + 1, pattern + 1);
    for (; *text && *text != ' '; text++)
        if (matches(text + 1, pattern + n)) return 1;
    return 0;
}

/* The share of the lines that come back as they were but for what the rules replace, and [UNK]. */
static double lines_given_back(const Tokenizer *t, const char *text, size_t n, FILE *exceptions)
{
    int lines = 0, right = 0;
    static int ids[100000];
    for (size_t at = 0, end; at < n; at = end + 1) {
        Buffer want = {0}, got = {0};
        const char *newline = memchr(text + at, '\n', n - at);
        end = newline ? (size_t)(newline - text) : n;
        const long length = tokenizer_encode(t, text + at, end - at, ids, 100000);
        tokenizer_decode(t, ids, (int)length, 0, &got);
        /* what the rules replace a character by: what a vocabulary of characters, all known, makes
         * of it */
        for (size_t i = at; i < end;) {
            const unsigned char u = (unsigned char)text[i];
            const size_t k = u < 0x80 ? 1 : u < 0xE0 ? 2 : u < 0xF0 ? 3 : 4;
            const size_t before = want.length;
            tokenizer_split(t, text + i, k, &want);
            if (want.length == before && u == ' ') buffer_add(&want, " ", 1);
            i += k;
        }
        buffer_add(&want, "", 0), buffer_add(&got, "", 0);
        const int is_right = matches(want.text, got.text);
        lines++, right += is_right;
        if (!is_right && exceptions) fprintf(exceptions, "%s\n%s\n\n", want.text, got.text);
        free(want.text), free(got.text);
    }
    return lines ? (double)right / lines : 0;
}

static double blanks(const char *train, const char *lines, FILE *exceptions)
{
    const TokenizerOptions o = {.tokenizer = "word", .vocab_size = 100000, .min_frequency = 1};
    size_t n = 0, m = 0;
    Error err;
    Tokenizer t = {0};
    double share = -1;
    char *text = read_file(train, &n, &err), *other = text ? read_file(lines, &m, &err) : NULL;
    if (other && !tokenizer_make(&t, &o, text, n, &err))
        share = lines_given_back(&t, other, m, exceptions);
    else
        fprintf(stderr, "text: %s\n", err.text);
    tokenizer_free(&t);
    free(text), free(other);
    return share;
}

static void test_blanks(void)
{
    static const struct {
        const char *train, *lines;
    } cases[] = {{"data/greetings-train.txt", "data/greetings-test.txt"},
                 {"data/simple-train.txt", "data/simple-test.txt"},
                 {"test/words/lines.txt", "test/words/lines.txt"}};
    for (int i = 0; i < 3; i++) {
        const double share = blanks(cases[i].train, cases[i].lines, NULL);
        check(share >= 0.98, "%s: %.1f %% of the lines come back as they were", cases[i].lines,
              100 * share);
    }
    /* a quotation mark opens and closes by turns, wherever it stood before */
    static const char lines[] = "red \"the\" blue \"fig\" red\n\"red\" the \"blue\"";
    Tokenizer t = {0};
    if (make(&t, "word", "the \"red\" fig\nthe \"blue\" fig\n"))
        check(lines_given_back(&t, lines, strlen(lines), stdout) == 1, "straight quotation marks");
    tokenizer_free(&t);
}

/* ---- all ------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "blanks")) {
        printf("%.2f %%\n", 100 * blanks(argv[2], argv[3], stdout));
        return 0;
    }
    if (argc != 2) {
        fprintf(stderr, "usage: text FOLDER | text blanks TRAIN LINES\n");
        return 2;
    }
    group.name = "columns", test_columns();
    group.name = "durations", test_durations();
    group.name = "JSON", test_json();
    group.name = "rules", test_rules();
    group.name = "WordPiece", test_wordpiece(argv[1]);
    group.name = "byte-level BPE", test_bpe();
    group.name = "training BPE", test_bpe_training();
    group.name = "characters", test_characters();
    group.name = "tokenizer.json written and read", test_json_round_trip(argv[1]);
    group.name = "what a tokenizer.json may ask for", test_json_rules();
    group.name = "vocab.json and merges.txt", test_gpt2(argv[1]);
    group.name = "added tokens", test_added_tokens();
    group.name = "NFC, NFKD", test_composition();
    group.name = "damaged files", test_damage();
    group.name = "a large vocabulary", test_large_vocabulary();
    group.name = "blanks", test_blanks();
    printf("%d passed, %d failed\n", group.passed, group.failed);
    return group.failed > 0;
}
