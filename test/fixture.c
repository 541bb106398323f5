/* fixture.c - see fixture.h */
#include "fixture.h"
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The next word of the text, cut out in place; NULL at the end. */
static char *next_word(char **at)
{
    char *word = *at + strspn(*at, " \t\r\n"), *end = word + strcspn(word, " \t\r\n");
    if (word == end) return NULL;
    *at = *end ? end + 1 : end;
    *end = '\0';
    return word;
}

static int next_long(char **at, long least, long *value)
{
    char *word = next_word(at), *end;
    if (!word) return 0;
    errno = 0;
    *value = strtol(word, &end, 10);
    return !*end && !errno && *value >= least;
}

/* NULL, or what is wrong. */
static const char *read_item(Item *it, char **at)
{
    char *name = next_word(at), *kind = next_word(at), *end;
    long rank;
    size_t most;
    if (!kind || strlen(name) >= sizeof it->name) return "bad name or kind";
    if (strcmp(kind, "f32") != 0 && strcmp(kind, "f64") != 0 && strcmp(kind, "i64") != 0 &&
        strcmp(kind, "str") != 0)
        return "the kind is none of f32, f64, i64, str";
    strcpy(it->name, name);
    strcpy(it->kind, kind);
    if (!next_long(at, 0, &rank) || rank > 6) return "bad rank";
    it->rank = (int)rank;
    it->n = 1;
    for (int i = 0; i < it->rank; i++) {
        if (!next_long(at, 0, &it->dim[i])) return "bad dimension";
        if (it->dim[i] && it->n > LONG_MAX / it->dim[i]) return "too many values";
        it->n *= it->dim[i];
    }
    most = strlen(*at) / 2 +
           1; /* a value takes two bytes at least: a wrong shape asks for no memory */
    if ((size_t)it->n > most) return "fewer values than the shape says";
    it->v = malloc(((size_t)it->n + 1) * sizeof *it->v);
    if (!it->v) return "out of memory";
    for (long i = 0; i < it->n; i++) {
        char *word = next_word(at);
        if (!word) return "fewer values than the shape says";
        it->v[i] = strtod(word, &end);
        if (*end) return "a value is no number";
        if (it->kind[1] == '3') it->v[i] = (double)(float)it->v[i];
    }
    return NULL;
}

static char *slurp(FILE *f)
{
    size_t n = 0, room = 1 << 16;
    char *text = malloc(room), *grown;
    while (text && (n += fread(text + n, 1, room - n - 1, f)) == room - 1) {
        if (!(grown = realloc(text, room *= 2))) free(text);
        text = grown;
    }
    if (text) text[n] = '\0';
    return text;
}

int fixture_load(Fixture *f, const char *dir, const char *file)
{
    const char *wrong = NULL;
    char *text, *at;
    FILE *in;
    memset(f, 0, sizeof *f);
    snprintf(f->path, sizeof f->path, "%s/%s", dir, file);
    if (!(in = fopen(f->path, "rb"))) return 0;
    at = text = slurp(in);
    if (!text)
        wrong = "out of memory";
    else if (ferror(in))
        wrong = "cannot be read";
    fclose(in);
    while (!wrong) {
        Item *grown;
        at += strspn(at, " \t\r\n");
        if (!*at) break;
        if (*at == '#') {
            at += strcspn(at, "\n");
            continue;
        }
        if ((f->count & (f->count - 1)) == 0) { /* full: 0, 1, 2, 4, 8 ... items */
            grown = realloc(f->item, (f->count ? 2 * (size_t)f->count : 1) * sizeof *grown);
            if (!grown) {
                wrong = "out of memory";
                break;
            }
            f->item = grown;
        }
        memset(&f->item[f->count], 0, sizeof *f->item);
        wrong = read_item(&f->item[f->count++], &at);
    }
    if (wrong)
        fprintf(stderr, "%s: item %d %s: %s\n", f->path, f->count,
                f->count ? f->item[f->count - 1].name : "", wrong);
    free(text);
    if (wrong) fixture_free(f);
    return wrong ? -1 : 1;
}

const Item *fixture_find(const Fixture *f, const char *format, ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    for (int i = 0; i < f->count; i++)
        if (strcmp(f->item[i].name, name) == 0) return &f->item[i];
    return NULL;
}

void fixture_free(Fixture *f)
{
    for (int i = 0; i < f->count; i++) free(f->item[i].v);
    free(f->item);
    f->item = NULL;
    f->count = 0;
}
