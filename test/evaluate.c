/* evaluate.c - judges sentences, whoever made them, by the text that their maker was trained on.
 *
 *   ./sample -n 1000 | build/evaluate data/simple-train.txt --test data/simple-test.txt
 *   ./sample -n 1000 | build/evaluate --mbr 10 > best.txt
 *
 * No figure alone tells good samples: copies of training lines have a low perplexity, word salad
 * has no copies, one good sentence over and over has neither fault. So read them together, and
 * beside two columns: the floor, which is what as many random training lines have (no sampler can
 * be expected to come closer), and the held-out text of --test, real sentences that were not
 * trained on. Sentences become words by the project's word-level rules.
 *
 * Order: n-gram table, reading, Kneser-Ney model, figures, report, minimum Bayes risk, main. */
#include "tdiff.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BEGIN = TOKEN_CLS, END = TOKEN_SEP, DRAWS = 20, MAX_ORDER = 3, BLEU_ORDER = 4 };

static void *resize(void *old, size_t count,
                    size_t size) /* never NULL: without memory there is nothing to say */
{
    void *p = count < (size_t)-1 / size ? realloc(old, (count + !count) * size) : NULL;
    if (p) return p;
    fprintf(stderr, "evaluate: out of memory\n");
    exit(1);
}

/* ---- a hash table of up to three integers: n-grams, edges of a tree, words at positions ---- */

typedef struct {
    int key[3];
    uint32_t count, followers, distinct; /* the last two: of an n-gram as a context */
} Entry;
typedef struct {
    Entry *entry;   /* (n) in order of appearance: an entry keeps its index for good */
    uint32_t *slot; /* (num_slots, a power of two) index + 1; 0: empty */
    size_t n, num_slots;
} Table;

static void table_free(Table *t) { free(t->entry), free(t->slot), memset(t, 0, sizeof *t); }

static size_t table_slot(const Table *t,
                         const int key[3]) /* where key is, or the empty slot where it belongs */
{
    uint64_t h = 0;
    for (int i = 0; i < 3; i++) h = (h ^ h >> 29 ^ (uint32_t)key[i]) * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(h ^ h >> 32) & (t->num_slots - 1);
    while (t->slot[i] && memcmp(t->entry[t->slot[i] - 1].key, key, 3 * sizeof *key))
        i = (i + 1) & (t->num_slots - 1);
    return i;
}

static void table_grow(Table *t) /* at most half full, and indices must fit an int */
{
    t->num_slots = t->num_slots ? 2 * t->num_slots : 1024;
    t->entry = resize(t->entry, t->num_slots / 2 < INT_MAX ? t->num_slots / 2 : (size_t)-1,
                      sizeof *t->entry);
    t->slot = resize(t->slot, t->num_slots, sizeof *t->slot);
    memset(t->slot, 0, t->num_slots * sizeof *t->slot);
    for (size_t i = 0; i < t->n; i++) t->slot[table_slot(t, t->entry[i].key)] = (uint32_t)i + 1;
}

/* The entry of n integers (the rest of the key is -1) or NULL; table_add makes one, and may move
 * all others. */
static Entry *table_find(const Table *t, const int *integers, int n)
{
    int key[3] = {-1, -1, -1};
    for (int i = 0; i < n; i++) key[i] = integers[i];
    const uint32_t found = t->num_slots ? t->slot[table_slot(t, key)] : 0;
    return found ? &t->entry[found - 1] : NULL;
}

static Entry *table_add(Table *t, const int *integers, int n)
{
    Entry *e = table_find(t, integers, n), new = {{-1, -1, -1}, 0, 0, 0};
    if (e) return e;
    if (2 * t->n == t->num_slots) table_grow(t);
    for (int i = 0; i < n; i++) new.key[i] = integers[i];
    t->slot[table_slot(t, new.key)] = (uint32_t)t->n + 1;
    t->entry[t->n] = new;
    return &t->entry[t->n++];
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct {
    Buffer raw, decoded; /* as it was read; as tokenizer_decode writes it */
    int *ids;            /* all sentences, each BEGIN word ... END */
    size_t *start;       /* (n+1) sentence s is ids[start[s]] .. ids[start[s+1]-1] */
    int n;
    double spelling; /* nats to spell out, byte by byte, what has become [UNK] */
    int keep_blank; /* a blank line is an empty sentence: one of samples is a fault, one of a corpus
                       is nothing */
} Text;

static void text_free(Text *t)
{
    free(t->raw.text), free(t->decoded.text), free(t->ids), free(t->start);
}
static int text_words(const Text *t, int s) { return (int)(t->start[s + 1] - t->start[s]) - 2; }

static int read_input(Buffer *b, Error *err)
{
    char chunk[65536];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, stdin)) > 0;) buffer_add(b, chunk, n);
    if (ferror(stdin)) return fail(err, "cannot read the standard input: %s", strerror(errno));
    if (b->failed) return fail(err, "out of memory for the standard input");
    return b->length ? 0 : fail(err, "the standard input is empty; expected sentences, one a line");
}

static size_t line_end(const Buffer *b, size_t at)
{
    const char *newline = memchr(b->text + at, '\n', b->length - at);
    return newline ? (size_t)(newline - b->text) : b->length;
}

static int encode(Text *t, const Tokenizer *k, const Buffer *from, Error *err)
{
    size_t lines = 1, at = 0;
    for (size_t i = 0; i < from->length; i++) lines += from->text[i] == '\n';
    t->ids = resize(t->ids, from->length + 2 * lines,
                    sizeof *t->ids); /* a token takes a byte at least */
    t->start = resize(t->start, lines + 1, sizeof *t->start);
    t->n = 0, t->start[0] = 0;
    for (size_t begin = 0, end; begin < from->length; begin = end + 1) {
        end = line_end(from, begin);
        if (end - begin > INT_MAX - 2 || t->n == INT_MAX)
            return fail(err, "more than %d lines, or bytes in one", INT_MAX);
        const long n = tokenizer_encode(k, from->text + begin, end - begin, t->ids + at,
                                        (long)(end - begin) + 2);
        if (n < 0) return fail(err, "out of memory");
        if (n > 2 || t->keep_blank) t->start[++t->n] = at += (size_t)n;
    }
    return 0;
}

/* Words to integers, by a vocabulary of all words of all texts, so that nothing is lost. Samples
 * were made text by tokenizer_decode, which glues what the corpus may write apart ("do n't", "'
 * ."), and splitting what was glued may give other words. So every text goes that way once: split,
 * decoded, split again. */
static int tokenise(Tokenizer *k, Text *text, int count, Error *err)
{
    const TokenizerOptions original = {.tokenizer = "original", .vocab_size = INT_MAX};
    int status = 0;
    for (int pass = 0; pass < 2 && !status; pass++) {
        Buffer all = {0};
        for (int i = 0; i < count; i++) {
            const Buffer *b = pass ? &text[i].decoded : &text[i].raw;
            buffer_add(&all, b->text, b->length);
            buffer_add(&all, "\n", 1);
            all.failed |= b->failed;
        }
        buffer_add(&all, ".", 1); /* the tokenizer refuses a text without words */
        tokenizer_free(k);
        status = all.failed ? fail(err, "out of memory")
                            : tokenizer_make(k, &original, all.text, all.length, err);
        free(all.text);
        for (int i = 0; i < count && !status; i++) {
            Text *t = &text[i];
            status = encode(t, k, pass ? &t->decoded : &t->raw, err);
            for (int s = 0; s < t->n && !status && !pass; s++) {
                tokenizer_decode(k, t->ids + t->start[s] + 1, text_words(t, s), 1, &t->decoded);
                buffer_add(&t->decoded, "\n", 1);
            }
        }
    }
    return status;
}

/* Words that training has less than min_frequency times, all those it has not among them, become
 * [UNK]. What that costs is what it takes to spell them out, as ./sample --eval does: by the bytes
 * of the words that are left. A text's own [UNK] costs as much as one of these, on average. */
static int cut_vocabulary(Text *text, int count, const Tokenizer *k, size_t min_frequency,
                          Error *err)
{
    size_t *frequency = resize(NULL, (size_t)k->size, sizeof *frequency);
    Tokenizer left = {0};
    double bits[256], mean = 0;
    int status = 0;
    memset(frequency, 0, (size_t)k->size * sizeof *frequency);
    for (size_t i = 0; i < text[0].start[text[0].n]; i++) frequency[text[0].ids[i]]++;
    for (int id = TOKEN_SPECIALS; id < k->size && !status; id++)
        if (frequency[id] >= min_frequency) status = tokenizer_add(&left, k->token[id], err) < 0;
    tokenizer_byte_bits(&left, bits);
    for (int id = TOKEN_SPECIALS; id < left.size; id++)
        mean += spelling_bits(bits, left.token[id]) / (left.size - TOKEN_SPECIALS);
    for (int j = 0; j < count; j++)
        for (size_t i = 0; i < text[j].start[text[j].n]; i++) {
            int *id = &text[j].ids[i];
            const int is_word = *id >= TOKEN_SPECIALS;
            if (is_word ? frequency[*id] >= min_frequency : *id != TOKEN_UNK) continue;
            text[j].spelling += log(2) * (is_word ? spelling_bits(bits, k->token[*id]) : mean);
            *id = TOKEN_UNK;
        }
    free(frequency);
    tokenizer_free(&left);
    return status ? -1 : 0;
}

/* ---- interpolated Kneser-Ney (Chen & Goodman 1999), discount d = 0.75 at all orders -------------
 *
 *   p_k(w | c) = (max(n(c w) - d, 0) + d distinct(c) p_{k-1}(w | c without its first word)) /
 * sum_w' n(c w')
 *
 * distinct(c): how many different words follow c. n is the plain count at the highest order; below,
 * it is the number of different words in front of "c w": there it matters in how many surroundings
 * a word appears. p_0 is uniform over the words of training, END and [UNK]. A sentence begins with
 * as many BEGIN as the order needs. */

static const double discount = 0.75;

static void gram_at(int gram[MAX_ORDER], const int *sentence, size_t i,
                    int order) /* the order words up to word i */
{
    for (int j = 0; j < order; j++) {
        const size_t back = (size_t)(order - 1 - j);
        gram[j] = sentence[i < back ? 0 : i - back];
    }
}

static void model_count(Table *t, const Text *text, int order)
{
    int gram[MAX_ORDER];
    for (int s = 0; s < text->n; s++)
        for (size_t i = 1; i < text->start[s + 1] - text->start[s]; i++) {
            gram_at(gram, text->ids + text->start[s], i, order);
            /* An n-gram seen for the first time is one more word in front of the shorter one. */
            for (int k = order, first = 1; k > 0 && first; k--) {
                const int *g = gram + order - k;
                first = table_add(t, g, k)->count++ == 0;
                Entry *context = table_add(t, g, k - 1);
                context->followers++;
                context->distinct += (uint32_t)first;
            }
        }
}

static double model_probability(Table *t, const int *gram,
                                int k) /* of the last of k words after the others */
{
    if (k == 0) {
        const int unk = TOKEN_UNK;
        const Entry *root = table_find(t, NULL, 0), *seen = table_find(t, &unk, 1);
        return 1.0 / (root->distinct + !(seen && seen->count)); /* [UNK] is always one of them */
    }
    const double lower = model_probability(t, gram + 1, k - 1);
    const Entry *context = table_find(t, gram, k - 1), *e = table_find(t, gram, k);
    if (!context || !context->followers) return lower;
    const double over = e && e->count ? e->count - discount : 0;
    return (over + discount * context->distinct * lower) / context->followers;
}

static double model_nll(Table *t, const Text *text,
                        int order) /* nats, all sentences together, END counted */
{
    double nll = 0;
    int gram[MAX_ORDER];
    for (int s = 0; s < text->n; s++)
        for (size_t i = 1; i < text->start[s + 1] - text->start[s]; i++) {
            gram_at(gram, text->ids + text->start[s], i, order);
            nll -= log(model_probability(t, gram, order));
        }
    return nll;
}

/* ---- a rule for control: is one of some words or phrases in the sentence? -------------------- */

static int has_phrase(const Text *t, int s, const Text *phrases)
{
    const int *word = t->ids + t->start[s] + 1, n = text_words(t, s);
    for (int p = 0; p < phrases->n; p++) {
        const int length = text_words(phrases, p);
        for (int i = 0; i + length <= n; i++)
            if (!memcmp(word + i, phrases->ids + phrases->start[p] + 1,
                        (size_t)length * sizeof *word))
                return 1;
    }
    return 0;
}

static double percent_with_phrase(const Text *t, const Text *phrases)
{
    double hits = 0;
    for (int s = 0; s < t->n; s++) hits += has_phrase(t, s, phrases);
    return 100 * hits / t->n;
}

/* Every sentence as it was read, a TAB, and yes or no: what ./train --classifier reads. */
static void print_labels(const Text *t, const Text *phrases, Buffer *out)
{
    size_t begin = 0;
    for (int s = 0; s < t->n; s++) { /* sentences are lines, as blank ones are kept */
        const size_t end = line_end(&t->raw, begin);
        if (text_words(t, s)) {
            buffer_add(out, t->raw.text + begin, end - begin);
            buffer_print(out, "\t%s\n", has_phrase(t, s, phrases) ? "yes" : "no");
        }
        begin = end + 1;
    }
}

/* ---- figures --------------------------------------------------------------------------------- */

enum {
    SENTENCES,
    MEAN_LENGTH,
    DISTINCT,
    VERBATIM,
    UNSEEN,
    UNSEEN_BIGRAMS,
    UNKNOWN,
    PERPLEXITY,
    SPELT_OUT,
    UNIGRAM,
    POSITION,
    LENGTH,
    FIGURES
};
static const struct {
    const char *key, *label;
    int decimals;
} figure[FIGURES] = {
    {"sentences", "sentences", 0},
    {"mean_length", "words per sentence", 2},
    {"distinct_percent", "distinct, %", 2},
    {"verbatim_percent", "found verbatim in training, %", 2},
    {"unseen_bigram_sentences_percent", "with a bigram unseen in training, %", 2},
    {"unseen_bigrams_per_100_tokens", "unseen bigrams per 100 tokens", 3},
    {"unknown_per_100_tokens", "[UNK] per 100 tokens", 3},
    {"trigram_perplexity", "trigram perplexity", 3},
    {"spelt_out_perplexity", "the same, with [UNK] spelt out", 3},
    {"unigram_distance", "distance of words", 4},
    {"position_distance", "distance of words by position", 4},
    {"length_distance", "distance of sentence lengths", 4},
};

/* Counts, by key: {position, word}, {ANYWHERE, word}, {LENGTHS, length}. END is not among the
 * words. */
enum { ANYWHERE = -2, LENGTHS = -3 };
typedef struct {
    Table counts;
    int longest;
    double sentences, words;
} Marginals;

static void marginals_add(Marginals *m, const Text *t, int s)
{
    const int *word = t->ids + t->start[s] + 1, n = text_words(t, s), length[2] = {LENGTHS, n};
    for (int i = 0; i < n; i++) {
        const int here[2] = {i, word[i]}, anywhere[2] = {ANYWHERE, word[i]};
        table_add(&m->counts, here, 2)->count++;
        table_add(&m->counts, anywhere, 2)->count++;
    }
    table_add(&m->counts, length, 2)->count++;
    if (n > m->longest) m->longest = n;
    m->sentences++;
    m->words += n;
}

static double share_of_length(Marginals *m, int n)
{
    const int length[2] = {LENGTHS, n};
    const Entry *e = table_find(&m->counts, length, 2);
    return e ? e->count / m->sentences : 0;
}

/* Adds the distances of a to b, the training text. Total variation, half the sum of |a - b|, of
 * distributions is 1 - sum of min(a, b), so only what both have counts. Behind the end of a
 * sentence every position holds END, hence END's share at position i is that of lengths <= i. The
 * mean is over the positions of the longest sentence of b. */
static void distances(double f[FIGURES], Marginals *a, Marginals *b)
{
    double words = 0, positions = 0, lengths = 0, ends_a = 0, ends_b = 0;
    for (size_t i = 0; i < a->counts.n; i++) {
        const Entry *x = &a->counts.entry[i], *y = table_find(&b->counts, x->key, 2);
        const double count = y ? y->count : 0;
        if (x->key[0] == ANYWHERE)
            words += fmin(x->count / a->words, count / b->words);
        else
            *(x->key[0] == LENGTHS ? &lengths : &positions) +=
                fmin(x->count / a->sentences, count / b->sentences);
    }
    for (int i = 0; i < b->longest; i++) {
        ends_a += share_of_length(a, i), ends_b += share_of_length(b, i);
        positions += fmin(ends_a, ends_b);
    }
    f[UNIGRAM] += 1 - words, f[POSITION] += 1 - positions / b->longest, f[LENGTH] += 1 - lengths;
}

typedef struct {
    const Text *text;
    Table tree; /* of its sentences; their END counts them */
    Table trigrams;
    Marginals marginals;
} Training;

/* The END of a sentence in the tree; NULL if the tree has no such sentence. add: it gets one. */
static Entry *tree_sentence(Table *tree, const Text *t, int s, int add)
{
    Entry *e = NULL;
    for (size_t i = t->start[s]; i < t->start[s + 1]; i++) {
        const int edge[2] = {e ? (int)(e - tree->entry) : -1, t->ids[i]};
        if (!(e = add ? table_add(tree, edge, 2) : table_find(tree, edge, 2))) return NULL;
    }
    return e;
}

/* m is {0}; it is filled for the caller, who frees it. */
static void judge(double f[FIGURES], Training *r, const Text *t, Marginals *m)
{
    Table tree = {0};
    double distinct = 0, verbatim = 0, unseen = 0, bigrams = 0, unknown = 0;
    for (int s = 0; s < t->n; s++) {
        const double before = bigrams;
        distinct += tree_sentence(&tree, t, s, 1)->count++ == 0;
        verbatim += tree_sentence(&r->tree, t, s, 0) != NULL;
        for (size_t i = t->start[s] + 1; i < t->start[s + 1]; i++) {
            const Entry *e = table_find(&r->trigrams, t->ids + i - 1, 2);
            bigrams += !e || !e->count; /* without a count it is only a context */
            unknown += t->ids[i] == TOKEN_UNK;
        }
        unseen += bigrams > before;
        marginals_add(m, t, s);
    }
    const double tokens = m->words + m->sentences;
    f[SENTENCES] = t->n, f[MEAN_LENGTH] = m->words / t->n;
    f[DISTINCT] = 100 * distinct / t->n, f[VERBATIM] = 100 * verbatim / t->n,
    f[UNSEEN] = 100 * unseen / t->n;
    f[UNSEEN_BIGRAMS] = 100 * bigrams / tokens, f[UNKNOWN] = 100 * unknown / tokens;
    const double nll = model_nll(&r->trigrams, t, MAX_ORDER);
    f[PERPLEXITY] = exp(nll / tokens), f[SPELT_OUT] = exp((nll + t->spelling) / tokens);
    distances(f, m, &r->marginals);
    table_free(&tree);
}

static void judge_random_lines(double f[FIGURES], Training *r, int n)
{
    for (int draw = 0; draw < DRAWS; draw++) {
        Marginals m = {0};
        for (int i = 0; i < n; i++)
            marginals_add(
                &m, r->text,
                rng_below(rng_key(7, RNG_SAMPLE, (uint64_t)draw, (uint64_t)i), 0, r->text->n));
        distances(f, &m, &r->marginals);
        table_free(&m.counts);
    }
    for (int i = UNIGRAM; i <= LENGTH; i++) f[i] /= DRAWS;
}

/* ---- report ---------------------------------------------------------------------------------- */

enum { SAMPLES, FLOOR, HELD_OUT };
typedef struct {
    double column[3][FIGURES];
    /* Per sentence, per token: the held-out text under models of each order, and in addition what
     * it takes to spell out its [UNK]. */
    double bits[MAX_ORDER + 1], nats[MAX_ORDER + 1];
    int held_out; /* is there one? */
    int judged;   /* were there phrases? The share of sentences with one: */
    double with_phrase, with_phrase_train;
    const char *opening;       /* a word, NULL: none is frequent enough */
    double share, share_train; /* of it, among the opening words */
} Report;

/* The opening word of at least 3 samples whose share grew most: what a sampler that has collapsed
 * shows first. */
static void find_opening(Report *p, const Tokenizer *k, const Marginals *m, Marginals *train)
{
    for (size_t i = 0; i < m->counts.n; i++) {
        const Entry *x = &m->counts.entry[i], *y = table_find(&train->counts, x->key, 2);
        const double a = x->count / m->sentences, b = y ? y->count / train->sentences : 0;
        if (x->key[0] != 0 || x->count < 3) continue;
        /* Compares ratios without dividing, because b may be 0; of two infinite ones the larger
         * share wins. */
        if (!p->opening || a * p->share_train > p->share * b ||
            (b + p->share_train <= 0 && a > p->share))
            p->opening = k->token[x->key[1]], p->share = a, p->share_train = b;
    }
}

/* text: the training text, samples, the held-out text if there is one */
static void fill_report(Report *p, const Text *text, const Tokenizer *k)
{
    Training r = {&text[0], {0}, {0}, {{0}, 0, 0, 0}};
    Marginals samples = {{0}, 0, 0, 0}, held_out = {{0}, 0, 0, 0};
    for (int s = 0; s < text[0].n; s++) {
        tree_sentence(&r.tree, &text[0], s, 1);
        marginals_add(&r.marginals, &text[0], s);
    }
    model_count(&r.trigrams, &text[0], MAX_ORDER);
    judge(p->column[SAMPLES], &r, &text[1], &samples);
    find_opening(p, k, &samples, &r.marginals);
    judge_random_lines(p->column[FLOOR], &r, text[1].n);
    if (p->held_out) judge(p->column[HELD_OUT], &r, &text[2], &held_out);
    for (int o = 0; o < MAX_ORDER && p->held_out; o++) {
        Table model = {0};
        model_count(&model, &text[0], o + 1);
        const double nll = model_nll(&model, &text[2], o + 1);
        p->bits[o] = nll / log(2) / held_out.sentences;
        p->nats[o] = nll / (held_out.words + held_out.sentences);
        table_free(&model);
    }
    if (p->held_out) {
        p->bits[MAX_ORDER] = text[2].spelling / log(2) / held_out.sentences;
        p->nats[MAX_ORDER] = text[2].spelling / (held_out.words + held_out.sentences);
    }
    table_free(&samples.counts), table_free(&held_out.counts);
    table_free(&r.tree), table_free(&r.trigrams), table_free(&r.marginals.counts);
}

static const char *const order_name[MAX_ORDER + 1] = {"unigram", "bigram", "trigram", "spelling"};

static void print_json(const Report *p, Buffer *b)
{
    static const char *const column[] = {"samples", "floor", "test"};
    for (int c = SAMPLES; c <= (p->held_out ? HELD_OUT : FLOOR); c++) {
        const int first = c == FLOOR ? UNIGRAM : 0;
        buffer_print(b, "%s\"%s\":", c ? "}," : "{", column[c]);
        for (int i = first; i < FIGURES; i++)
            buffer_print(b, "%c\"%s\":%.10g", i > first ? ',' : '{', figure[i].key,
                         p->column[c][i]);
    }
    for (int o = 0; o <= MAX_ORDER && p->held_out; o++)
        buffer_print(b, "},%s\"%s\":{\"bits_per_sentence\":%.10g,\"nats_per_token\":%.10g",
                     o ? "" : "\"baselines\":{", order_name[o], p->bits[o], p->nats[o]);
    buffer_print(b, "}%s,\"opening_word\":", p->held_out ? "}" : "");
    if (p->opening) {
        buffer_print(b, "{\"word\":");
        buffer_json_string(b, p->opening, strlen(p->opening));
        buffer_print(b, ",\"samples_percent\":%.10g,\"train_percent\":%.10g}", 100 * p->share,
                     100 * p->share_train);
    } else
        buffer_print(b, "null");
    if (p->judged)
        buffer_print(b, ",\"judged\":{\"samples_percent\":%.10g,\"train_percent\":%.10g}",
                     p->with_phrase, p->with_phrase_train);
    buffer_print(b, "}\n");
}

static void print_text(const Report *p, Buffer *b)
{
    buffer_print(b, "%-36s%12s%12s%s\n", "", "samples", "floor", p->held_out ? "    held-out" : "");
    for (int i = 0; i < FIGURES; i++) {
        buffer_print(b, "%-36s%12.*f", figure[i].label, figure[i].decimals, p->column[SAMPLES][i]);
        if (i >= UNIGRAM) buffer_print(b, "%12.*f", figure[i].decimals, p->column[FLOOR][i]);
        if (p->held_out)
            buffer_print(b, "%*.*f", i >= UNIGRAM ? 12 : 24, figure[i].decimals,
                         p->column[HELD_OUT][i]);
        buffer_print(b, "\n");
    }
    if (!p->opening)
        buffer_print(b, "\nno word opens 3 samples or more\n");
    else {
        buffer_print(b, "\n'%s' opens %.2f %% of the samples and %.2f %% of training, ", p->opening,
                     100 * p->share, 100 * p->share_train);
        if (p->share_train > 0)
            buffer_print(b, "%.2f times as many: the largest ratio\n", p->share / p->share_train);
        else
            buffer_print(b, "where it is new\n");
    }
    if (p->judged)
        buffer_print(b, "a judged phrase is in %.2f %% of the samples and %.2f %% of training\n",
                     p->with_phrase, p->with_phrase_train);
    if (p->held_out)
        buffer_print(b, "\n%-36s%12s%12s\n", "held-out text under models", "bits/sent.",
                     "nats/token");
    for (int o = 0; o < MAX_ORDER && p->held_out; o++)
        buffer_print(b, "  %-34s%12.2f%12.4f\n", order_name[o], p->bits[o], p->nats[o]);
    if (p->held_out)
        buffer_print(b, "%-36s%12.2f%12.4f\n", "and to spell out its [UNK]", p->bits[MAX_ORDER],
                     p->nats[MAX_ORDER]);
}

/* ---- minimum Bayes risk: of every group the sentence that is most like the others ------------ */

static int by_value(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static int gram_count(int n, int order) { return n < order ? 0 : n - order + 1; }
static int grams_up_to(int n, int order)
{
    return order ? gram_count(n, order) + grams_up_to(n, order - 1) : 0;
}

/* BLEU-4 (Papineni et al. 2002) of a sentence of n words against one of m, from the sorted n-grams
 * of both. Above order 1 one match and one n-gram are added (Lin & Och 2004), else most sentences
 * would have 0. */
static double bleu(const Table *tree, const int *a, int n, const int *b, int m)
{
    const int *const a_end = a + grams_up_to(n, BLEU_ORDER), *const b_end =
                                                                 b + grams_up_to(m, BLEU_ORDER);
    int matches[BLEU_ORDER + 1] = {0};
    double sum = 0;
    while (a < a_end && b < b_end) {
        if (*a == *b) matches[tree->entry[*a].count]++;
        const int step_a = *a <= *b, step_b = *b <= *a;
        a += step_a, b += step_b;
    }
    if (!matches[1]) return 0;
    for (int o = 1; o <= BLEU_ORDER; o++)
        sum += log((double)(matches[o] + (o > 1)) / (gram_count(n, o) + (o > 1)));
    return exp(sum / BLEU_ORDER +
               (n < m ? 1 - (double)m / n : 0)); /* the last: the brevity penalty */
}

/* The best line of every group of the text into out. */
static void keep_best(const Text *t, int group, Buffer *out)
{
    int *grams = resize(NULL, t->start[t->n],
                        BLEU_ORDER * sizeof *grams); /* of sentence s: from 4 start[s] on */
    size_t begin = 0;
    Table tree = {0}; /* an n-gram is the node where it ends, whose count is its n */
    for (int s = 0; s < t->n; s++) {
        int *to = grams + BLEU_ORDER * t->start[s];
        const int *word = t->ids + t->start[s] + 1, n = text_words(t, s);
        for (int i = 0; i < n; i++)
            for (int o = 1, edge[2] = {-1, 0}; o <= BLEU_ORDER && i + o <= n; o++) {
                edge[1] = word[i + o - 1];
                Entry *e = table_add(&tree, edge, 2);
                e->count = (uint32_t)o;
                *to++ = edge[0] = (int)(e - tree.entry);
            }
        qsort(grams + BLEU_ORDER * t->start[s], (size_t)grams_up_to(n, BLEU_ORDER), sizeof *grams,
              by_value);
    }
    for (int first = 0, last; first < t->n; first = last) {
        int best = first;
        double best_score = -1;
        last = t->n - first < group ? t->n : first + group;
        for (int s = first; s < last; s++) {
            double score = 0;
            for (int other = first; other < last; other++)
                if (other != s)
                    score += bleu(&tree, grams + BLEU_ORDER * t->start[s], text_words(t, s),
                                  grams + BLEU_ORDER * t->start[other], text_words(t, other));
            if (score > best_score) best = s, best_score = score;
        }
        for (int s = first; s < last; s++) { /* sentences are lines, as blank ones are kept */
            const size_t end = line_end(&t->raw, begin);
            if (s == best)
                buffer_add(out, t->raw.text + begin, end - begin), buffer_add(out, "\n", 1);
            begin = end + 1;
        }
    }
    table_free(&tree), free(grams);
}

/* ---- the program ----------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    const char *train = NULL, *test = NULL, *judged = NULL;
    int min_frequency = 1, group = 0, label = 0, json = 0, help = 0, status = 0;
    Option options[] = {
        {"test", OPT_TEXT, &test, .everyday = 1,
         .help = "judge this held-out text beside the samples", .deflt = "none"},
        {"min-frequency", OPT_INT, &min_frequency, .everyday = 1, .min = 1, .max = INT_MAX,
         .help = "rarer words of TRAIN_FILE are [UNK]"},
        {"judge", OPT_TEXT, &judged, .everyday = 1,
         .help = "a word or phrase a line: how many sentences have one of them?", .deflt = "none"},
        {"label", OPT_FLAG, &label, .everyday = 1,
         .help = "only print each sentence, a TAB, and yes or no, as --judge finds"},
        {"mbr", OPT_INT, &group, .everyday = 1, .min = 1, .max = INT_MAX,
         .help = "keep the best of every so many sentences by BLEU", .deflt = "off"},
        {"json", OPT_FLAG, &json, .everyday = 1, .help = "one JSON object on one line"},
        {"help", OPT_FLAG, &help, .everyday = 1, .help = "print this"},
        {.name = NULL},
    };
    Text text[4] = {{{0}, {0}, NULL, NULL, 0, 0, 0}}; /* the training text, samples; then the
                                                      held-out text and phrases, if given */
    Tokenizer tokenizer = {0};
    Report report = {0};
    Buffer out = {0};
    Error err;
    const int operands = options_parse(options, argc, argv, &train, 1, &err);
    if (operands >= 0 && help) {
        min_frequency = 1;
        printf("usage: evaluate [options] TRAIN_FILE < sentences\n       evaluate --mbr K < "
               "sentences\n"
               "       evaluate --label --judge FILE < sentences\n"
               "Judges the sentences of the standard input, one a line, by the text their maker "
               "was trained on.\n\n");
        options_help(options, 1, stdout);
        return fflush(stdout) || ferror(stdout) ? 1 : 0;
    }
    if (operands >= 0 && (group || label) &&
        (operands || test || json || min_frequency != 1 || (group && (label || judged))))
        status =
            fail(&err, "--%s reads the standard input and no TRAIN_FILE, and takes no other option",
                 group ? "mbr" : "label");
    else if (operands >= 0 && label && !judged)
        status = fail(&err, "--label needs --judge");
    else if (operands == 0 && !group && !label)
        status = fail(&err, "expected TRAIN_FILE; see --help");
    if (operands < 0 || status) {
        fprintf(stderr, "evaluate: %s\n", err.text);
        return 2;
    }
    const int count = 2 + !!test + !!judged;
    const char *const path[4] = {train, NULL, test ? test : judged, judged};
    text[1].keep_blank = 1;
    report.judged = judged != NULL;
    report.held_out = test != NULL;
    for (int i = 0; i < count && !status; i++) {
        Corpus read = {0};
        if (path[i]) status = corpus_read(&read, path[i], &err);
        text[i].raw.text = read.text, text[i].raw.length = read.length;
    }
    if (!status) status = read_input(&text[1].raw, &err);
    if (!status) status = tokenise(&tokenizer, text, count, &err);
    for (int i = 0; i < count && !status; i++)
        if (path[i] && !text[i].n)
            status = fail(&err, "%s: no sentence in it; expected one a line", path[i]);
    if (!status && group)
        keep_best(&text[1], group, &out);
    else if (!status && label)
        print_labels(&text[1], &text[2], &out);
    else if (!status) {
        if (judged) report.with_phrase = percent_with_phrase(&text[1], &text[count - 1]);
        if (judged) report.with_phrase_train = percent_with_phrase(&text[0], &text[count - 1]);
        if (cut_vocabulary(text, count, &tokenizer, (size_t)min_frequency, &err)) status = -1;
        if (!status) fill_report(&report, text, &tokenizer);
        if (!status && json)
            print_json(&report, &out);
        else if (!status)
            print_text(&report, &out);
    }
    if (out.failed) status = fail(&err, "out of memory");
    if (!status && out.length) fwrite(out.text, 1, out.length, stdout);
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(&err, "cannot write the standard output");
    if (status) fprintf(stderr, "evaluate: %s\n", err.text);
    for (int i = 0; i < 4; i++) text_free(&text[i]);
    tokenizer_free(&tokenizer), free(out.text);
    return status ? 1 : 0;
}
