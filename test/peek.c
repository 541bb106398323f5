/* peek.c - what the tests in shell have to know and POSIX tools cannot tell them.
 *
 *   build/peek hash FILE...         a hash of each file's bytes: 64 bits, FNV-1a
 *   build/peek class                arithmetic_class() of this build: fma or plain
 *   build/peek unicode              the tables of tokenizer.c
 *   build/peek names CKPT           the tensors of a checkpoint, with their shapes
 *   build/peek tensor CKPT NAME     the numbers of one, a row a line; NAME as in names */
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

/* Name and shape of the tensor whose name is the header's node key; its entry is the next node. */
static int tensor_of(Tensor *x, const Checkpoint *c, int key, Error *err)
{
    const Json *j = &c->json;
    const int dims = json_find(j, key + 1, "shape"); /* checkpoint_open has checked it */
    int64_t size;
    size_t length;
    char *name = json_text(j, key, &length);
    memset(x, 0, sizeof *x);
    if (!name || length >= sizeof x->name) {
        free(name);
        return fail(err, "%s: a tensor's name is too long, or memory too short", c->path);
    }
    strcpy(x->name, name);
    free(name);
    x->rank = j->node[dims].size, x->shape[1] = 1, x->size = 1;
    for (int i = 0; i < x->rank; i++) {
        json_integer(j, dims + 1 + i, &size);
        x->shape[i] = (int)size, x->size *= (size_t)size;
    }
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
    Tensor x;
    int status = checkpoint_open(&c, path, err), found = 0;
    for (int key = 1; !status && !found && key < c.json.count; key = c.json.node[key + 1].next) {
        if (json_find(&c.json, key + 1, "data_offsets") < 0) continue; /* the metadata */
        if ((status = tensor_of(&x, &c, key, err))) break;
        if (!name && x.rank == 2) printf("%s %d %d\n", x.name, x.shape[0], x.shape[1]);
        else if (!name) printf("%s %d\n", x.name, x.shape[0]);
        else if ((found = !strcmp(x.name, name))) status = print_tensor(&c, &x, err);
    }
    if (!status && name && !found)
        status = fail(err, "%s: no tensor '%s'; build/peek names lists them", path, name);
    checkpoint_close(&c);
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
    for (int i = 0; i < 3 && !status; i++) status = tokenizer_make(&t[i], &options[i], "word", 4, err);
    for (size_t c = 0; c < 0x110000 && !status; c++)
        printf("%u %u %u %u\n", (unsigned)t[0].unicode[c] & 15, (unsigned)t[0].unicode[c] >> 4,
               (unsigned)t[1].unicode[c] >> 4, (unsigned)t[2].unicode[c] >> 4);
    for (int i = 0; i < 3; i++) tokenizer_free(&t[i]);
    return status;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    Error err;
    int status = 0;
    if (!strcmp(what, "hash") && argc > 2)
        for (int i = 2; i < argc && !status; i++) status = hash_file(argv[i], &err);
    else if (!strcmp(what, "class") && argc == 2) puts(arithmetic_class());
    else if (!strcmp(what, "unicode") && argc == 2) status = peek_unicode(&err);
    else if (!strcmp(what, "names") && argc == 3) status = peek_into(argv[2], NULL, &err);
    else if (!strcmp(what, "tensor") && argc == 4) status = peek_into(argv[2], argv[3], &err);
    else
        status = fail(&err, "usage: peek hash FILE... | class | unicode | names CKPT | "
                            "tensor CKPT NAME");
    if (status) fprintf(stderr, "peek: %s\n", err.text);
    return status ? 1 : 0;
}
