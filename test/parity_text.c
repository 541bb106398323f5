/* parity_text.c - tokenisation against the numbers of the reference (the files 09_*). */
#include "../tdiff.h"
#include "fixture.h"
#include <stdlib.h>
#include <string.h>

void parity_text(const char *dir, int *passed, int *failed);

/* The text of a file of dir, or NULL: there is none. */
static char *load(const char *dir, const char *file, size_t *n)
{
    char path[512];
    Error err;
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (!(f = fopen(path, "rb"))) return NULL;
    fclose(f);
    char *text = read_file(path, n, &err);
    if (!text) fprintf(stderr, "%s\n", err.text);
    return text;
}

static void report(int ok, const char *file, const char *what, int *passed, int *failed)
{
    printf("%-26s %s%s\n", file, what, ok ? "" : "  FAIL");
    ++*(ok ? passed : failed);
}

/* A tokenizer from lines "id<TAB>token" and, of BPE, lines "left right", by way of a
 * tokenizer.json. */
static int from_tsv(Tokenizer *t, const char *tsv, const char *merges, Error *err)
{
    static const char rules[] =
        "\"added_tokens\": [{\"id\": 0, \"content\": \"[UNK]\"}, {\"id\": 1, \"content\": "
        "\"[CLS]\"}, "
        "{\"id\": 2, \"content\": \"[SEP]\"}, {\"id\": 3, \"content\": \"[PAD]\"}, "
        "{\"id\": 4, \"content\": \"[MASK]\"}],\n"
        "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFD\"}, "
        "{\"type\": \"Lowercase\"}, {\"type\": \"StripAccents\"}]},\n"
        "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
        "\"individual_digits\": true}, {\"type\": \"Whitespace\"}]},\n";
    static const char bytes[] =
        "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false},\n";
    Buffer json = {0};
    int result;
    buffer_print(&json, "{%s\"model\": {\"type\": \"%s\", \"vocab\": {", merges ? bytes : rules,
                 merges ? "BPE" : "WordLevel");
    for (const char *line = tsv, *end, *comma = ""; *line;
         line = *end ? end + 1 : end, comma = ",") {
        const char *tab = line + strcspn(line, "\t\n");
        end = line + strcspn(line, "\n");
        buffer_print(&json, "%s", comma);
        buffer_json_string(&json, tab + (*tab == '\t'), (size_t)(end - tab) - (*tab == '\t'));
        buffer_print(&json, ": %.*s", (int)(tab - line), line);
    }
    buffer_print(&json, merges ? "}, \"merges\": [" : "}");
    for (const char *line = merges, *end, *comma = ""; line && *line;
         line = *end ? end + 1 : end, comma = ",") {
        end = line + strcspn(line, "\n");
        buffer_print(&json, "%s", comma);
        buffer_json_string(&json, line, (size_t)(end - line));
    }
    buffer_print(&json, merges ? "]}}" : "}}");
    result = json.failed ? fail(err, "out of memory")
                         : tokenizer_from_json(t, json.text, json.length, err);
    free(json.text);
    return result;
}

static int same_text(const Item *want, const Buffer *got, const char *name, const char *what)
{
    int same = !got->failed && (size_t)want->n == got->length;
    for (long i = 0; same && i < want->n; i++) same = want->v[i] == (unsigned char)got->text[i];
    if (!same) fprintf(stderr, "%s.%s: got '%s'\n", name, what, got->text ? got->text : "");
    return same;
}

/* ids of text, with room for max of them */
static int same_ids(const Item *want, const Tokenizer *t, const Buffer *text, long max,
                    const char *name)
{
    int *ids = malloc((size_t)max * sizeof *ids), same;
    long n = ids ? tokenizer_encode(t, text->text, text->length, ids, max) : -1;
    if (n > max) n = max;
    same = n == want->n;
    for (long i = 0; same && i < n; i++) same = want->v[i] == ids[i];
    if (!same) fprintf(stderr, "%s.ids: %ld ids, expected %ld\n", name, n, want->n);
    free(ids);
    return same;
}

static int check_text(const Fixture *f, const Tokenizer *t, const Item *source, const char *name)
{
    const Item *tokens = fixture_find(f, "%s.tokens", name), *ids = fixture_find(f, "%s.ids", name);
    const Item *cut = fixture_find(f, "%s.ids512", name),
               *decoded = fixture_find(f, "%s.decoded", name);
    const Item *post =
        fixture_find(f, "%s.ids_post", name); /* of BPE: with <s> and </s>, cut to 512 */
    Buffer text = {0}, split = {0}, joined = {0};
    int ok = 1;
    buffer_add(&text, "", 0);
    for (long i = 0; i < source->n; i++) {
        char byte = (char)(unsigned char)source->v[i];
        buffer_add(&text, &byte, 1);
    }
    if (text.failed) return 0;
    if (tokens) {
        tokenizer_split(t, text.text, text.length, &split);
        ok &= same_text(tokens, &split, name, "tokens");
    }
    if (post) {
        int *list = malloc((size_t)(post->n + 1) * sizeof *list);
        for (long i = 0; list && i < post->n; i++) list[i] = (int)post->v[i];
        ok &= same_ids(post, t, &text, 512, name);
        if (list && post->n < 512) tokenizer_decode(t, list, (int)post->n, 0, &joined);
        if (list && post->n < 512) ok &= same_text(source, &joined, name, "text");
        free(list);
        ids = NULL;
    }
    if (ids) ok &= same_ids(ids, t, &text, (long)text.length + 2, name);
    if (ids && !cut) ok &= same_ids(ids, t, &text, 512, name); /* "only if it differs" */
    if (cut) ok &= same_ids(cut, t, &text, 512, name);
    if (ids && decoded) {
        int *list = malloc((size_t)(ids->n + 1) * sizeof *list);
        for (long i = 0; list && i < ids->n; i++) list[i] = (int)ids->v[i];
        if (list) tokenizer_decode(t, list, (int)ids->n, 1, &joined);
        ok &= list && same_text(decoded, &joined, name, "decoded");
        free(list);
    }
    free(text.text);
    free(split.text);
    free(joined.text);
    return ok;
}

static void check_encoding(const char *dir, const char *file, const char *vocabulary,
                           const char *merges, int *passed, int *failed)
{
    const char *kind = merges ? "byte-level BPE" : "word level";
    Fixture f;
    Tokenizer t = {0};
    Error err;
    char what[64];
    size_t n;
    int loaded = fixture_load(&f, dir, file), texts = 0, exact = 0;
    char *tsv = loaded ? load(dir, vocabulary, &n) : NULL,
         *list = merges ? load(dir, merges, &n) : NULL;
    if (loaded < 0) {
        report(0, file, "bad file", passed, failed);
    } else if (loaded && (!tsv || (merges && !list))) {
        report(0, file, "its vocabulary or merges are missing", passed, failed);
    } else if (loaded && from_tsv(&t, tsv, list, &err) < 0) {
        fprintf(stderr, "%s: %s\n", vocabulary, err.text);
        report(0, file, "bad vocabulary", passed, failed);
    } else if (loaded) {
        for (int i = 0; i < f.count; i++) {
            char name[96];
            size_t length = strlen(f.item[i].name);
            if (length < 6 || strcmp(f.item[i].name + length - 5, ".text") != 0) continue;
            snprintf(name, sizeof name, "%.*s", (int)length - 5, f.item[i].name);
            exact += check_text(&f, &t, &f.item[i], name);
            texts++;
        }
        if (exact == texts)
            snprintf(what, sizeof what, "%s: %d texts exact", kind, texts);
        else
            snprintf(what, sizeof what, "%s: %d of %d texts exact", kind, exact, texts);
        report(exact == texts && texts > 0, file, what, passed, failed);
    }
    tokenizer_free(&t);
    fixture_free(&f);
    free(tsv);
    free(list);
}

/* The vocabulary from `first` on and, if there is such a file, the merges. */
static void check_training(const char *dir, const TokenizerOptions *options, const char *vocabulary,
                           int first, const char *merges, int *passed, int *failed)
{
    Tokenizer t = {0};
    Error err;
    char what[64];
    size_t n = 0, m = 0, k = 0;
    char *want = load(dir, vocabulary, &n),
         *corpus = want ? load(dir, "09_train_corpus.txt", &m) : NULL;
    char *list = merges ? load(dir, merges, &k) : NULL;
    if (want && (!corpus || (merges && !list))) {
        report(0, vocabulary, "09_train_corpus.txt or the merges are missing", passed, failed);
    } else if (want) {
        Buffer got = {0}, pairs = {0};
        if (tokenizer_make(&t, options, corpus, m, &err) < 0)
            fprintf(stderr, "%s: %s\n", vocabulary, err.text);
        buffer_add(&pairs, "", 0);
        for (int id = first; id < t.size; id++) buffer_print(&got, "%d\t%s\n", id, t.token[id]);
        for (int i = 0; i < t.merges.count; i++)
            buffer_print(&pairs, "%s %s\n", t.token[t.merges.pair[i][0]],
                         t.token[t.merges.pair[i][1]]);
        snprintf(what, sizeof what, "%s: trained a vocabulary of %d", options->tokenizer, t.size);
        int same = got.text && got.length == n && memcmp(got.text, want, n) == 0;
        same &= !merges || (pairs.length == k && memcmp(pairs.text, list, k) == 0);
        report(same, vocabulary, what, passed, failed);
        free(got.text);
        free(pairs.text);
    }
    tokenizer_free(&t);
    free(want);
    free(corpus);
    free(list);
}

void parity_text(const char *dir, int *passed, int *failed)
{
    static const struct {
        TokenizerOptions options;
        int first; /* the files of BPE begin behind the bytes */
        const char *vocabulary, *merges;
    } trained[] = {
        {{"original", .vocab_size = 10000}, 0, "09_train_word_vocab.tsv", NULL},
        {{"original", .vocab_size = 40}, 0, "09_train_word_vocab_max40.tsv", NULL},
        {{"bpe", .vocab_size = 10000, .min_frequency = 1},
         261,
         "09_train_bpe_minfreq1_size10000_vocab.tsv",
         "09_train_bpe_minfreq1_size10000_merges.txt"},
        {{"bpe", .vocab_size = 300, .min_frequency = 1},
         261,
         "09_train_bpe_minfreq1_size300_vocab.tsv",
         "09_train_bpe_minfreq1_size300_merges.txt"},
        {{"bpe", .vocab_size = 10000, .min_frequency = 2},
         261,
         "09_train_bpe_minfreq2_size10000_vocab.tsv",
         "09_train_bpe_minfreq2_size10000_merges.txt"},
    };
    check_encoding(dir, "09_word_simple.txt", "09_word_simple_vocab.tsv", NULL, passed, failed);
    check_encoding(dir, "09_word_greetings.txt", "09_word_greetings_vocab.tsv", NULL, passed,
                   failed);
    check_encoding(dir, "09_bpe_simple.txt", "09_bpe_simple_vocab.tsv", "09_bpe_simple_merges.txt",
                   passed, failed);
    for (size_t i = 0; i < sizeof trained / sizeof *trained; i++)
        check_training(dir, &trained[i].options, trained[i].vocabulary, trained[i].first,
                       trained[i].merges, passed, failed);
}
