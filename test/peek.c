/* peek.c - what the tests in shell have to know and POSIX tools cannot tell them.
 *
 *   build/peek hash FILE...         a hash of each file's bytes: 64 bits, FNV-1a
 *   build/peek class                arithmetic_class() of this build: fma or plain
 *   build/peek unicode              the tables of tokenizer.c
 *   build/peek NFC                  the lines of the standard input, which have no blanks, as NFC
 *   build/peek NFD                  likewise
 *   build/peek names CKPT           the tensors of a checkpoint, with their shapes
 *   build/peek tensor CKPT NAME     the numbers of one, a row a line; NAME as in names
 *   build/peek gradients CKPT PROBE what training_losses makes of what ./sample CKPT --probe
 * printed into the file PROBE: a tensor a line, its name and numbers */
#include "tdiff.h"
#include <stdlib.h>
#include <string.h>

static int hash_file(const char *path, Error *err)
{
    size_t length;
    char *bytes = read_file(path, &length, err);
    uint64_t hash = 0xcbf29ce484222325u;
    if (!bytes) return -1;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    printf("%08lx%08lx\n", (unsigned long)(hash >> 32), (unsigned long)(hash & 0xffffffff));
    free(bytes);
    return 0;
}

static int print_tensor(Checkpoint *c, const Tensor *x, Error *err)
{
    real *data = checked_alloc(x->size, sizeof *data, err);
    const int status = data ? checkpoint_tensor(c, x, "", data, err) : -1;
    for (size_t i = 0; i < x->size && !status; i++)
        printf("%.9g%c", (double)data[i], (i + 1) % x->shape[1] ? ' ' : '\n');
    free(data);
    return status;
}

/* Prints the tensor of this name or, with NULL, all names. */
static int peek_into(const char *path, const char *name, Error *err)
{
    Checkpoint c;
    int status = checkpoint_open(&c, path, err), found = 0;
    for (int i = 0; !status && !found && i < c.count; i++) {
        const Stored *s = &c.stored[i];
        Tensor x = {.rank = s->rank,
                    .shape = {(int)s->shape[0], (int)s->shape[1]},
                    .size = (size_t)(s->shape[0] * s->shape[1])};
        snprintf(x.name, sizeof x.name, "%s", s->name);
        if (!name && x.rank == 2)
            printf("%s %d %d\n", x.name, x.shape[0], x.shape[1]);
        else if (!name)
            printf("%s %d\n", x.name, x.shape[0]);
        else if ((found = !strcmp(x.name, name)))
            status = print_tensor(&c, &x, err);
    }
    if (!status && name && !found)
        status = fail(err, "%s: no tensor '%s'; build/peek names lists them", path, name);
    checkpoint_close(&c);
    return status;
}

/* The numbers of a member of the JSON object, of which there must be n; the caller frees. */
static real *member(const Json *j, const char *name, size_t n, Error *err)
{
    const int array = json_find(j, 0, name);
    real *x = checked_alloc(n, sizeof *x, err);
    if (x && (array < 0 || (size_t)j->node[array].size != n)) {
        fail(err, "the probe has not %lu numbers '%s'", (unsigned long)n, name);
        free(x);
        return NULL;
    }
    for (size_t i = 0; x && i < n; i++)
        x[i] = (real)strtod(j->text + j->node[array + 1 + i].begin, NULL);
    return x;
}

/* The gradient of the mean loss of the probe's batch. */
static int print_gradients(const char *path, const char *probe, Error *err)
{
    Checkpoint c;
    Config config;
    Tokenizer words = {0};
    Model m = {0};
    Workspace w = {0};
    Diffusion d = {0};
    Json j = {0};
    size_t length;
    int64_t B = 0, N = 0;
    int steps_done, status = -1;
    real *x[4] = {NULL};
    char *text = read_file(probe, &length, err);
    if (!checkpoint_open(&c, path, err) && text && !json_parse(&j, text, length, err) &&
        !json_integer(&j, json_find(&j, 0, "B"), &B) &&
        !json_integer(&j, json_find(&j, 0, "N"), &N) &&
        !checkpoint_config(&c, &config, &words, &steps_done, err) &&
        !model_init(&m, &config, err) && !checkpoint_tensors(&c, &m, "", m.params, err) &&
        !diffusion_init(&d, config.noise_schedule, config.diffusion_steps, NULL, err) &&
        !workspace_init(&w, &config, (int)B, (int)N, 1, err)) {
        const size_t M = (size_t)(B * N), all = M * config.emb_dim;
        int *ids = checked_alloc(M, sizeof *ids, err), *t = checked_alloc(B, sizeof *t, err);
        double *terms = checked_alloc(B, 5 * sizeof *terms, err);
        if (ids && t && terms && (x[0] = member(&j, "ids", M, err)) &&
            (x[1] = member(&j, "t", B, err)) && (x[2] = member(&j, "noise_x0", all, err)) &&
            (x[3] = member(&j, "noise_t", all, err))) {
            const Losses losses = {terms, terms + B, terms + 2 * B, terms + 3 * B, terms + 4 * B};
            const Dropout none = {0, 0, 0};
            const Batch y = {ids, t, x[2], x[3], NULL, config.self_conditioning, (int)B, (int)N};
            for (size_t i = 0; i < M; i++) ids[i] = (int)x[0][i];
            for (int b = 0; b < B; b++) t[b] = (int)x[1][b];
            training_losses(&m, &w, &losses, &d, &y, 1, none);
            for (int i = 0; i < m.num_tensors; i++) {
                printf("%s", m.tensors[i].name);
                for (size_t k = 0; k < m.tensors[i].size; k++)
                    printf(" %.9g", (double)m.tensors[i].grad[k]);
                printf("\n");
            }
            status = 0;
        }
        free(ids);
        free(t);
        free(terms);
    }
    for (int i = 0; i < 4; i++) free(x[i]);
    free(text);
    json_free(&j);
    checkpoint_close(&c);
    tokenizer_free(&words);
    model_free(&m);
    workspace_free(&w);
    diffusion_free(&d);
    return status;
}

/* For test/unicode.py: a line a code point, its class and what it is replaced by, by the original's
 * rules, by those that keep accents and by those that keep capital letters. */
static int peek_unicode(Error *err)
{
    static const TokenizerOptions options[] = {{.tokenizer = "original", .vocab_size = 10},
                                               {"word", .keep_accents = 1, .vocab_size = 10},
                                               {"word", .keep_case = 1, .vocab_size = 10}};
    Tokenizer t[3] = {{0}};
    int status = 0;
    for (int i = 0; i < 3 && !status; i++)
        status = tokenizer_make(&t[i], &options[i], "word", 4, err);
    for (size_t c = 0; c < 0x110000 && !status; c++)
        printf("%u %u %u %u\n", (unsigned)t[0].unicode[c] & 15, (unsigned)t[0].unicode[c] >> 4,
               (unsigned)t[1].unicode[c] >> 4, (unsigned)t[2].unicode[c] >> 4);
    for (int i = 0; i < 3; i++) tokenizer_free(&t[i]);
    return status;
}

/* The other half of it: what a tokenizer.json that asks for NFC, or NFD, makes of each line. */
static int peek_normal_form(const char *form, Error *err)
{
    Buffer json = {0};
    Tokenizer t = {0};
    Buffer out = {0};
    char line[1000];
    buffer_print(
        &json,
        "{\"normalizer\": {\"type\": \"%s\"}, \"pre_tokenizer\": {\"type\": "
        "\"WhitespaceSplit\"}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"[UNK]\": 0, "
        "\"[CLS]\": 1, \"[SEP]\": 2, \"[PAD]\": 3, \"[MASK]\": 4}}}",
        form);
    int status = tokenizer_from_json(&t, json.text, json.length, err);
    while (!status && fgets(line, sizeof line, stdin)) {
        out.length = 0;
        tokenizer_split(&t, line, strcspn(line, "\n"), &out);
        printf("%.*s\n", (int)out.length, out.text ? out.text : "");
    }
    free(json.text);
    free(out.text);
    tokenizer_free(&t);
    return status;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    Error err;
    int status = 0;
    if (!strcmp(what, "hash") && argc > 2)
        for (int i = 2; i < argc && !status; i++) status = hash_file(argv[i], &err);
    else if (!strcmp(what, "class") && argc == 2)
        puts(arithmetic_class());
    else if (!strcmp(what, "unicode") && argc == 2)
        status = peek_unicode(&err);
    else if ((!strcmp(what, "NFC") || !strcmp(what, "NFD")) && argc == 2)
        status = peek_normal_form(what, &err);
    else if (!strcmp(what, "names") && argc == 3)
        status = peek_into(argv[2], NULL, &err);
    else if (!strcmp(what, "tensor") && argc == 4)
        status = peek_into(argv[2], argv[3], &err);
    else if (!strcmp(what, "gradients") && argc == 4)
        status = print_gradients(argv[2], argv[3], &err);
    else
        status = fail(&err, "usage: peek hash FILE... | class | unicode | NFC | NFD | names CKPT | "
                            "tensor CKPT NAME | gradients CKPT PROBE");
    if (status) fprintf(stderr, "peek: %s\n", err.text);
    return status ? 1 : 0;
}
