/* hostile.c - bytes that nobody meant, for what reads files and command lines: whatever they are,
 * there is no crash, and what is refused is refused with a message. TARGET, in the environment,
 * says what reads them: checkpoint, tokenizer, text or options. With clang it is a target of
 * libFuzzer (make fuzz); without, build/hostile SECONDS FOLDER changes the files of a folder at
 * random, always in the same order. */
#include "tdiff.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef HAVE_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
#endif

static char scratch[64]; /* the file that a checkpoint or tokenizer is read from */

static void must(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "FAIL %s\n", what);
    abort();
}

/* A message is one line of printable text. */
static void check_message(const Error *err)
{
    must(err->text[0] && !strchr(err->text, '\n'), "refused without a message of one line");
}

static void put(const char *data, size_t n)
{
    remove(scratch); /* ext4 waits for the disk when a file is rewritten in place */
    FILE *f = fopen(scratch, "wb");
    must(f && fwrite(data, 1, n, f) == n && !fclose(f), "the scratch file");
}

/* Weights as --resume and --init read them: a checkpoint's own, another program's, a BERT's. */
static int read_weights(Checkpoint *c, Model *m, Error *err)
{
    if (checkpoint_is_ours(c))
        return checkpoint_tensors(c, m, "", m->params, err) ||
               checkpoint_tensors(c, m, "raw.", m->params, err);
    if (!checkpoint_is_bert(c))
        return checkpoint_tensors(c, m, "", m->params, err) || checkpoint_rest(c, err);
    return checkpoint_part(c, m, "", "input_transformers.", 0, m->params, err) ||
           checkpoint_part(c, m, "", "word_embedding.", 1, m->params, err) ||
           checkpoint_part(c, m, "", "position_embeddings.", 1, m->params, err);
}

static void read_checkpoint(const char *data, size_t n)
{
    Checkpoint c;
    Config config = {.seq_len = 4, .emb_dim = 2, .hidden = 2, .ffn = 2, .time_dim = 2, .vocab = 3};
    Tokenizer t = {0};
    Model m = {0};
    Buffer description = {0};
    Error err = {""};
    int steps;
    config.max_positions = config.seq_len;
    config.diffusion_steps = 4;
    put(data, n);
    int status = checkpoint_open(&c, scratch, &err);
    if (!status) {
        checkpoint_describe(&c, &description);
        must(!description.failed, "a description");
        status = checkpoint_is_ours(&c) ? checkpoint_config(&c, &config, &t, &steps, &err)
                                        : checkpoint_shapes(&c, &config, &err);
        if (!config.heads) config.heads = 1; /* a shape does not say it */
    }
    if (!status &&
        (double)config.vocab * config.emb_dim + (double)config.layers * config.hidden * config.ffn <
            1e7)
        status = model_init(&m, &config, &err) || read_weights(&c, &m, &err);
    if (status) check_message(&err);
    free(description.text);
    checkpoint_close(&c);
    tokenizer_free(&t);
    model_free(&m);
}

/* Text to ids and back: all ids are tokens, and bytes come back as they were. */
static void there_and_back(const Tokenizer *t, const char *text, size_t n)
{
    enum { MOST = 4096 };
    static int ids[MOST];
    Buffer out = {0};
    const long length = tokenizer_encode(t, text, n, ids, MOST);
    must(length >= 2, "a text without [CLS] and [SEP]");
    const int kept = length < MOST ? (int)length : MOST;
    for (int i = 0; i < kept; i++)
        must(ids[i] >= 0 && ids[i] < t->size, "an id beyond the vocabulary");
    tokenizer_decode(t, ids, kept, 0, &out);
    if (t->kind == TOKENIZER_BPE && length <= MOST)
        must(out.length == n && (!n || !memcmp(out.text, text, n)), "bytes that do not come back");
    free(out.text);
}

static void read_tokenizer(const char *data, size_t n)
{
    static const char text[] =
        "The caf\xC3\xA9, 42 men\xE2\x80\x99s [MASK] \xE4\xB8\xAD\xE6\x96\x87 un-able\xFF.";
    Tokenizer t;
    Error err = {""};
    put(data, n);
    if (tokenizer_read(&t, scratch, &err)) { /* tokenizer.json, or BERT's vocab.txt */
        check_message(&err);
        return;
    }
    Buffer json = {0};
    tokenizer_to_json(&t, &json);
    must(!json.failed, "a tokenizer that cannot be written");
    Tokenizer again;
    must(!tokenizer_from_json(&again, json.text, json.length, &err),
         "a tokenizer that is not read again");
    must(again.size == t.size, "a tokenizer of another size when it is read again");
    int ids[256];
    tokenizer_encode(&t, text, sizeof text - 1, ids, 256);
    tokenizer_free(&again);
    tokenizer_free(&t);
    free(json.text);
}

/* As sentences of a few positions: most lines are cut */
static void read_sentences(const Tokenizer *t, const char *data, size_t n)
{
    Corpus c = {.text = malloc(n + 1), .length = n};
    Error err = {""};
    must(c.text != NULL, "memory");
    memcpy(c.text, data, n);
    c.text[n] = '\0';
    if (corpus_fill(&c, "text", t, 3 + (int)(n % 8), 0, &err))
        check_message(&err);
    else
        must(c.start[c.rows] >= 3 * (size_t)c.rows, "a sentence without a word");
    corpus_free(&c);
}

static void read_text(const char *data, size_t n)
{
    static const char *const kinds[] = {"word", "original", "char", "bpe"};
    const TokenizerOptions o = {
        .tokenizer = kinds[n % 4], .vocab_size = 400, .min_frequency = 1 + (int)(n % 3)};
    Tokenizer t = {0};
    Error err = {""};
    if (tokenizer_make(&t, &o, data, n, &err))
        check_message(&err);
    else {
        there_and_back(&t, data, n);
        read_sentences(&t, data, n);
    }
    tokenizer_free(&t);
}

static void read_options(const char *data, size_t n)
{
    static const char *const names[] = {"one", "two", NULL};
    enum { MOST = 16 };
    char *text = malloc(n + 1), *argv[MOST + 1] = {"program"};
    const char *operand[2], *string = NULL, *several[3] = {0};
    int whole = 1, flag = 0, choice = 0, argc = 1;
    double number = 1;
    Error err = {""};
    Option table[] = {
        {"whole", OPT_INT, &whole, .min = 1, .max = 1e6, .help = "-"},
        {"number", OPT_REAL, &number, .min = 0, .max = 1, .help = "-", .needs = "whole"},
        {"string", OPT_TEXT, &string, .help = "-", .excludes = "flag"},
        {"several", OPT_TEXT, several, .times = 3, .help = "-"},
        {"flag", OPT_FLAG, &flag, .help = "-"},
        {"n", OPT_CHOICE, &choice, .choices = names, .help = "-"},
        {.name = NULL}};
    must(text != NULL, "memory");
    memcpy(text, data, n);
    text[n] = '\0';
    for (char *word = text; argc < MOST && word <= text + n; word += strlen(word) + 1)
        argv[argc++] = word;
    if (options_parse(table, argc, argv, operand, 2, &err) < 0)
        check_message(&err);
    else
        must(whole >= 1 && whole <= 1000000 && number >= 0 && number <= 1 && choice >= 0 &&
                 choice < 2,
             "a value out of range");
    free(text);
}

static void feed(const char *data, size_t n)
{
    const char *target = getenv("TARGET");
    if (!*scratch)
        snprintf(scratch, sizeof scratch, "build/hostile.%lx.tmp",
                 (unsigned long)(uintptr_t)&target ^ (unsigned long)clock());
    if (!target || !strcmp(target, "checkpoint"))
        read_checkpoint(data, n);
    else if (!strcmp(target, "tokenizer"))
        read_tokenizer(data, n);
    else if (!strcmp(target, "text"))
        read_text(data, n);
    else
        read_options(data, n);
}

#ifdef HAVE_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    feed((const char *)data, n);
    return 0;
}
#else
/* A copy with a few bytes changed, cut out, doubled or moved */
static size_t change(char *out, const char *seed, size_t n, uint64_t key)
{
    memcpy(out, seed, n);
    for (uint32_t i = 0, changes = 1 + rng_u32(key, 0) % 4; i < changes && n > 1; i++) {
        const size_t at = rng_u32(key, 4 * i + 1) % n,
                     span = 1 + rng_u32(key, 4 * i + 2) % (n - at);
        const uint32_t how = rng_u32(key, 4 * i + 3) % 4;
        if (how == 0)
            out[at] = (char)rng_u32(key, 4 * i + 4);
        else if (how == 1)
            out[at] ^= (char)(1 << rng_u32(key, 4 * i + 4) % 8);
        else if (how == 2) {
            memmove(out + at, out + at + span, n - at - span);
            n -= span;
        } else {
            memmove(out + at + span, out + at, n - at);
            n += span;
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    const time_t end = time(NULL) + atoi(argv[1]);
    long executions = 0;
    for (uint64_t round = 0; time(NULL) < end; round++)
        for (int k = 2; k < argc && time(NULL) < end; k++) {
            size_t n;
            Error err;
            char *seed = read_file(argv[k], &n, &err);
            char *changed = seed ? malloc(32 * n + 64) : NULL;
            must(changed != NULL, "a seed that cannot be read");
            for (uint64_t i = 0; i < 64; i++, executions++)
                feed(changed,
                     change(changed, seed, n, rng_key(round, RNG_SHUFFLE, i, (uint64_t)k)));
            free(changed);
            free(seed);
        }
    remove(scratch);
    printf("%ld executions\n", executions);
    return 0;
}
#endif
