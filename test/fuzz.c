/* fuzz.c - the checkpoint: round trip, every truncation, 10,000 seeded byte flips of a small file.
 * usage: fuzz FILE (a scratch file, removed at the end). A load is valid if everything in it is
 * finite and of the right shape; what is not valid must be refused with one line that names the
 * file. */
#include "tdiff.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

static void check(int ok, const char *what, long where)
{
    if (ok)
        passed++;
    else if (failed++ < 10)
        printf("FAIL %s (%ld)\n", what, where);
}

typedef struct {
    Config config;
    Tokenizer tokenizer;
    Model model;
    Optimizer state;
    int steps;
} Loaded;

static int load(Loaded *x, const char *path, Error *err)
{
    Checkpoint c;
    memset(x, 0, sizeof *x);
    int status = checkpoint_open(&c, path, err) ||
                 checkpoint_config(&c, &x->config, &x->tokenizer, &x->steps, err) ||
                 model_init(&x->model, &x->config, err) ||
                 optimizer_init(&x->state, &x->model, err) ||
                 checkpoint_tensors(&c, &x->model, "", x->state.ema, err) ||
                 checkpoint_tensors(&c, &x->model, "raw.", x->model.params, err) ||
                 checkpoint_tensors(&c, &x->model, "adam_m.", x->state.adam_m, err) ||
                 checkpoint_tensors(&c, &x->model, "adam_v.", x->state.adam_v, err);
    checkpoint_close(&c);
    return status ? -1 : 0;
}

static void release(Loaded *x)
{
    tokenizer_free(&x->tokenizer);
    model_free(&x->model);
    optimizer_free(&x->state);
}

static void put(const char *path, const char *bytes, size_t n)
{
    remove(path); /* ext4 waits for the disk when a file is rewritten in place */
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) {
        fprintf(stderr, "fuzz: cannot write %s\n", path);
        exit(1);
    }
}

/* Loads what lies at path; must_fail: a valid load is a failure, too. */
static void attempt(const char *path, int must_fail, const char *what, long where)
{
    Loaded x;
    Error err = {""};
    int status = load(&x, path, &err);
    size_t bad = 0;
    if (status)
        check(strstr(err.text, path) == err.text && !strchr(err.text, '\n'), what, where);
    else {
        for (size_t i = 0; i < x.model.num_params; i++) {
            real sum = x.model.params[i] + x.state.ema[i] + x.state.adam_m[i] + x.state.adam_v[i];
            bad += !(sum == sum);
        }
        check(!must_fail && !bad && x.config.vocab == x.tokenizer.size, what, where);
    }
    release(&x);
}

int main(int argc, char **argv)
{
    static const char text[] = "the red fig is raw.\nthe blue \"fig\\\" is r\xc3\xa9"
                               "d.\n";
    const char *path = argc > 1 ? argv[1] : "fuzz.safetensors";
    Loaded x = {.config = {.seq_len = 4,
                           .max_positions = 5,
                           .emb_dim = 2,
                           .hidden = 2,
                           .layers = 1,
                           .heads = 1,
                           .ffn = 3,
                           .time_dim = 1,
                           .diffusion_steps = 4,
                           .noise_schedule = 1},
                .steps = 7},
           y;
    Option options[CONFIG_OPTIONS + 1];
    Error err;
    char *first, *second;
    size_t n, m;

    config_options(options, &x.config);
    options[CONFIG_OPTIONS].name = NULL;
    if (tokenizer_make(&x.tokenizer, &(TokenizerOptions){"original", .vocab_size = 100}, text,
                       sizeof text - 1, &err))
        goto broken;
    x.config.vocab = x.tokenizer.size;
    if (model_init(&x.model, &x.config, &err)) goto broken;
    model_random(&x.model, 3);
    if (optimizer_init(&x.state, &x.model, &err)) goto broken;
    for (size_t i = 0; i < x.model.num_params; i++) {
        x.state.ema[i] = (real)i / 4;
        x.state.adam_m[i] = -(real)i;
        x.state.adam_v[i] = (real)i * 16;
    }
    if (checkpoint_save(path, &x.model, &x.state, NULL, 0, &x.tokenizer, options, x.steps, &err))
        goto broken;
    if (!(first = read_file(path, &n, &err))) goto broken;

    check(n > 16 && (n - 8) % 4 == 0, "size", (long)n);
    check(!load(&y, path, &err), "round trip", 0);
    if (y.state.ema) {
        const size_t bytes = x.model.num_params * sizeof(real);
        check(y.steps == 7 && y.config.noise_schedule == 1 && y.config.max_positions == 5 &&
                  y.config.vocab == x.config.vocab,
              "round trip of the settings", 0);
        check(!memcmp(y.model.params, x.model.params, bytes), "raw", 0);
        check(!memcmp(y.state.ema, x.state.ema, bytes), "ema", 0);
        check(!memcmp(y.state.adam_m, x.state.adam_m, bytes), "adam_m", 0);
        check(!memcmp(y.state.adam_v, x.state.adam_v, bytes), "adam_v", 0);
        for (int i = 0; i < x.tokenizer.size; i++)
            check(!strcmp(x.tokenizer.token[i], y.tokenizer.token[i]), "vocabulary", i);
        config_options(options, &y.config);
        if (checkpoint_save(path, &y.model, &y.state, NULL, 0, &y.tokenizer, options, y.steps,
                            &err))
            goto broken;
        if (!(second = read_file(path, &m, &err))) goto broken;
        check(n == m && !memcmp(first, second, n), "saved again: the same bytes", 0);
        free(second);
    }
    release(&y);

    /* what is not finite is not saved, and what was there stays */
    for (int k = 0; k < 2; k++) {
        real *number = k ? &x.state.adam_v[x.model.num_params - 1] : &x.model.params[0],
             was = *number;
        *number = (real)(k ? HUGE_VAL : HUGE_VAL - HUGE_VAL);
        check(checkpoint_save(path, &x.model, &x.state, NULL, 0, &x.tokenizer, options, x.steps,
                              &err) &&
                  strstr(err.text, k ? "of adam_v." : "after step 7 a number of raw."),
              "inf or nan is saved", k);
        *number = was;
        char *kept = read_file(path, &m, &err);
        check(kept && n == m && !memcmp(first, kept, n), "inf or nan replaces the last checkpoint",
              k);
        free(kept);
    }

    /* a setting that the checkpoint does not know has its default */
    for (size_t i = 8; i + 10 < n; i++)
        if (!memcmp(first + i, "\"time-dim\"", 10)) {
            first[i + 5] = '_';
            put(path, first, n);
            check(load(&y, path, &err) && strstr(err.text, "time_embed.0.weight"),
                  "another default", 0);
            check(y.config.time_dim == 128, "the default of a missing setting", y.config.time_dim);
            release(&y);
            first[i + 5] = '-';
        }

    for (size_t length = 0; length < n; length++) {
        put(path, first, length);
        attempt(path, 1, "truncated to a length", (long)length);
    }
    char *longer = calloc(n + 1, 1);
    if (!longer) goto broken;
    memcpy(longer, first, n);
    put(path, longer, n + 1);
    attempt(path, 1, "a byte too many", 0);
    free(longer);

    for (size_t i = 8; i + 10 < n; i++) /* without a checksum, as earlier versions wrote */
        if (!memcmp(first + i, "\"checksum\"", 10)) first[i + 1] = '_';
    put(path, first, n);
    attempt(path, 0, "no checksum", 0);
    static const char not_finite[2][4] = {{0, 0, (char)0x80, 0x7f},
                                          {1, 0, (char)0xc0, (char)0xff}}; /* inf, nan */
    for (int k = 0; k < 2; k++) {
        char last[4];
        memcpy(last, first + n - 4, 4);
        memcpy(first + n - 4, not_finite[k], 4);
        put(path, first, n);
        attempt(path, 1, "inf or nan as a weight", k);
        memcpy(first + n - 4, last, 4);
    }
    for (size_t i = 8; i + 10 < n; i++)
        if (!memcmp(first + i, "\"_hecksum\"", 10)) first[i + 1] = 'c';

    /* half of the flips in the header, which is where the trouble is; a bit, or a whole byte */
    const size_t header = 8 + ((unsigned char)first[0] | (size_t)(unsigned char)first[1] << 8);
    for (int k = 0; k < 10000; k++) {
        size_t at = (size_t)rng_below(rng_key(1, RNG_SAMPLE, k, 0), 0, (int)(k % 2 ? n : header));
        uint32_t bits = rng_u32(rng_key(1, RNG_SAMPLE, k, 1), 0);
        char before = first[at];
        first[at] = (char)(k % 4 < 2 ? before ^ 1 << bits % 8 : (int)(bits >> 8 & 255));
        put(path, first, n);
        attempt(path, at >= header && first[at] != before, "flip", k); /* the checksum shows it */
        first[at] = before;
    }
    free(first);
    release(&x);
    remove(path);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
broken:
    fprintf(stderr, "fuzz: %s\n", err.text);
    return 1;
}
