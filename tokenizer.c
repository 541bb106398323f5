/* tokenizer.c - text to token ids and back; the JSON and the command lines that go with it.
 *
 * A model of text does not see letters: it sees integers, the rows of its embedding table. A
 * word-level tokenizer makes one integer of every word, by these rules in this order (those of
 * Hugging Face's WordLevel with the normalizer NFD, Lowercase, StripAccents and the pre-tokenizer
 * Digits, Whitespace):
 *
 *   1. the special tokens [UNK] [CLS] [SEP] [PAD] [MASK], where the text spells them out, are cut
 *      out as they are;
 *   2. every code point is decomposed (NFD: e-acute becomes e and a combining accent), lower-cased
 *      on its own (so a Greek final sigma stays sigma), and combining marks are dropped: "Café"
 *      becomes "cafe";
 *   3. every numeric character is a token by itself: "42" becomes "4" "2";
 *   4. the rest is split at white space and wherever word characters meet symbols: "what?!"
 *      becomes "what" "?!";
 *   5. a token outside the vocabulary becomes [UNK]; [CLS] goes in front, [SEP] behind.
 *
 * The vocabulary is the five specials and then the words of a training text, the most frequent
 * first. What was dropped or unknown is lost, so decoding gives a readable text, not the original.
 * Order: errors, memory and files; Buffer, UTF-8, JSON, options, Unicode tables, splitting,
 * vocabulary, tokenizer.json, the program. */
#if defined(__unix__) || defined(__APPLE__)
#define _POSIX_C_SOURCE 200112L /* fsync and stat, for files; all works without them */
#define TDIFF_POSIX
#include <sys/stat.h>
#include <unistd.h>
#endif
#include "tdiff.h"
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors, memory, files ------------------------------------------------------------------ */

int fail(Error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return -1;
}

void *checked_alloc(size_t count, size_t size, Error *err)
{
    void *p = size && count > (size_t)-1 / size ? NULL : calloc(count ? count : 1, size ? size : 1);
    if (!p) fail(err, "out of memory: %zu x %zu bytes", count, size);
    return p;
}

char *read_file(const char *path, size_t *length, Error *err)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL, *grown;
    size_t n = 0, room = 0;
    if (!f) {
        fail(err, "%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    for (;;) {
        if (room - n < 2) {
            grown = realloc(text, room = room ? 2 * room : 65536);
            if (!grown) {
                fail(err, "%s: out of memory at %zu bytes", path, room);
                break;
            }
            text = grown;
        }
        size_t got = fread(text + n, 1, room - n - 1, f);
        n += got;
        if (got) continue;
        if (ferror(f)) {
            fail(err, "%s: cannot read: %s", path, strerror(errno));
            break;
        }
        fclose(f);
        text[n] = '\0';
        *length = n;
        return text;
    }
    fclose(f);
    free(text);
    return NULL;
}

int output_spares(const char *path, const char *input, Error *err)
{
    int same = input && !strcmp(path, input);
#ifdef TDIFF_POSIX
    struct stat a, b;
    if (input && !stat(path, &a) && !stat(input, &b))
        same = S_ISREG(a.st_mode) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
#endif
    return same ? fail(err, "%s: the output would overwrite this input; another --out is needed",
                       input)
                : 0;
}

int output_open(Output *o, const char *path, Error *err)
{
    memset(o, 0, sizeof *o);
    if (!*path) return fail(err, "the name of the output file is empty");
    if (strlen(path) >= sizeof o->path) return fail(err, "%.40s...: the path is too long", path);
    strcpy(o->path, path);
    strcpy(o->temporary, path);
#ifdef TDIFF_POSIX
    struct stat status;
    if (stat(path, &status) || S_ISREG(status.st_mode)) /* a device or pipe is written as it is */
#endif
        strcat(o->temporary, ".tmp");
    o->file = fopen(o->temporary, "wb");
    return o->file ? 0 : fail(err, "%s: cannot write: %s", o->temporary, strerror(errno));
}

int output_close(Output *o, int keep, Error *err)
{
    int status = 0;
    if (!o->file) return 0;
    if (keep && (ferror(o->file) || fflush(o->file)))
        status = fail(err, "%s: cannot write: %s", o->path, strerror(errno));
#ifdef TDIFF_POSIX
    if (keep && !status && fsync(fileno(o->file)) && errno != EINVAL && errno != EROFS)
        status = fail(err, "%s: cannot write: %s", o->path, strerror(errno));
#endif
    if (fclose(o->file) && keep && !status)
        status = fail(err, "%s: cannot write: %s", o->path, strerror(errno));
    o->file = NULL;
    if (!strcmp(o->path, o->temporary)) return status;
#ifndef TDIFF_POSIX
    if (keep && !status) remove(o->path); /* elsewhere rename may refuse to replace a file */
#endif
    if (keep && !status && rename(o->temporary, o->path))
        status = fail(err, "%s: cannot replace it: %s", o->path, strerror(errno));
    if (!keep || status) remove(o->temporary);
    return status;
}

/* ---- Buffer --------------------------------------------------------------------------------- */

static int buffer_reserve(Buffer *b, size_t n) /* room for n more bytes and the closing NUL */
{
    size_t capacity = b->capacity ? b->capacity : 64;
    if (n >= (size_t)-1 / 2 - b->length) b->failed = 1;
    if (b->failed) return 0;
    while (capacity <= b->length + n) capacity *= 2;
    if (capacity == b->capacity) return 1;
    char *grown = realloc(b->text, capacity);
    if (!grown) {
        b->failed = 1;
        return 0;
    }
    b->text = grown;
    b->capacity = capacity;
    return 1;
}

void buffer_add(Buffer *b, const char *bytes, size_t n)
{
    if (!buffer_reserve(b, n)) return;
    if (n) memcpy(b->text + b->length, bytes, n);
    b->length += n;
    b->text[b->length] = '\0';
}

void buffer_print(Buffer *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) b->failed = 1;
    if (n < 0 || !buffer_reserve(b, (size_t)n)) return;
    va_start(args, format);
    vsnprintf(b->text + b->length, (size_t)n + 1, format, args);
    va_end(args);
    b->length += (size_t)n;
}

/* ---- UTF-8 ---------------------------------------------------------------------------------- */

/* The code point at s and its length in bytes; 0 if no well-formed sequence starts there. */
static size_t utf8_read(const char *s, size_t n, uint32_t *code)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800,
                                         0x10000}; /* a longer form than needed is malformed */
    const unsigned char *u = (const unsigned char *)s;
    size_t length = u[0] < 0x80   ? 1
                    : u[0] < 0xC0 ? 0
                    : u[0] < 0xE0 ? 2
                    : u[0] < 0xF0 ? 3
                    : u[0] < 0xF8 ? 4
                                  : 0;
    if (length == 0 || length > n) return 0;
    *code = length == 1 ? u[0] : u[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((u[i] & 0xC0) != 0x80) return 0;
        *code = *code << 6 | (u[i] & 0x3F);
    }
    return *code < smallest[length] || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000)
               ? 0
               : length;
}

static void utf8_add(Buffer *b, uint32_t c)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    char s[4];
    for (size_t i = n - 1; i > 0; i--, c >>= 6) s[i] = (char)(0x80 | (c & 0x3F));
    s[0] = (char)(n == 1 ? c : (0xF00u >> n & 0xFF) | c);
    buffer_add(b, s, n);
}

/* ---- JSON (RFC 8259) ------------------------------------------------------------------------ */

void buffer_json_string(Buffer *b, const char *bytes, size_t n)
{
    uint32_t c = 0;
    buffer_add(b, "\"", 1);
    for (size_t i = 0, length; i < n; i += length ? length : 1) {
        length = utf8_read(bytes + i, n - i, &c);
        if (!length)
            utf8_add(b, 0xFFFD);
        else if (c < 0x20)
            buffer_print(b, "\\u%04x", (unsigned)c);
        else if (c == '"' || c == '\\')
            buffer_print(b, "\\%c", (int)c);
        else
            utf8_add(b, c);
    }
    buffer_add(b, "\"", 1);
}

static long hex4(const char *s, size_t n) /* four hexadecimal digits, or -1 */
{
    char digits[5] = "";
    if (n >= 4) memcpy(digits, s, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

/* One character inside a string, plain or escaped; returns the bytes it takes, 0: not allowed. */
static size_t json_character(const char *s, size_t n, uint32_t *code)
{
    static const char escapes[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    const char *e;
    if (n == 0 || (unsigned char)s[0] < 0x20) return 0;
    if (s[0] != '\\') return utf8_read(s, n, code);
    if (n < 2 || !s[1]) return 0;
    if (s[1] != 'u')
        return (e = strchr(escapes, s[1])) ? *code = (uint32_t)meaning[e - escapes], 2 : 0;
    long high = hex4(s + 2, n - 2),
         low = n >= 12 && s[6] == '\\' && s[7] == 'u' ? hex4(s + 8, n - 8) : -1;
    if (high < 0xD800 || high >= 0xE000) return *code = (uint32_t)high, high < 0 ? 0 : 6;
    if (high >= 0xDC00 || low < 0xDC00 || low >= 0xE000)
        return 0; /* beyond U+FFFF: two surrogates */
    *code = (uint32_t)(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
    return 12;
}

enum {
    JSON_MAX_DEPTH = 64,
    JSON_MAX_NODES = 1 << 26
}; /* a hostile file must not eat the stack of the recursion */
typedef struct {
    const char *text;
    size_t at, n;
    Json *j;
    int capacity;
    Error *err;
} JsonParser;

static int json_fail(const JsonParser *p, const char *what)
{
    return fail(p->err, "JSON, byte %zu: %s", p->at, what);
}
static int json_peek(const JsonParser *p)
{
    return p->at < p->n ? (unsigned char)p->text[p->at] : EOF;
}

static size_t json_accept(JsonParser *p, const char *set,
                          size_t most) /* steps over characters of the set; how many */
{
    size_t begin = p->at;
    while (p->at - begin < most && json_peek(p) > 0 && strchr(set, json_peek(p))) p->at++;
    return p->at - begin;
}

static int json_skip(JsonParser *p)
{
    return json_accept(p, " \t\n\r", p->n), json_peek(p);
} /* what follows blanks */

static int json_value(JsonParser *p, int depth)
{
    static const char first[] = "nft0\"[{", *const word[] = {"null", "false",
                                                             "true"}; /* in the order of JsonType */
    static const char digits[] = "0123456789";
    int c = json_skip(p), node = p->j->count;
    const char *found = c > 0 ? strchr(first, c) : NULL;
    uint32_t code;
    JsonType type = found ? (JsonType)(found - first) : JSON_NUMBER;
    if (depth > JSON_MAX_DEPTH) return json_fail(p, "nested too deeply");
    if (node == p->capacity) {
        int capacity = p->capacity ? 2 * p->capacity : 32;
        JsonNode *grown = capacity > JSON_MAX_NODES
                              ? NULL
                              : realloc(p->j->node, (size_t)capacity * sizeof *grown);
        if (!grown) return json_fail(p, "out of memory");
        p->j->node = grown;
        p->capacity = capacity;
    }
    p->j->node[p->j->count++] = (JsonNode){type, p->at, 0, 0, 0};
    if (type < JSON_NUMBER) {
        size_t n = strlen(word[type]);
        if (p->n - p->at < n || memcmp(p->text + p->at, word[type], n) != 0)
            return json_fail(p, "expected a value");
        p->at += n;
    } else if (type == JSON_NUMBER) {
        json_accept(p, "-", 1);
        int good = json_accept(p, "0", 1) ||
                   json_accept(p, digits, p->n); /* no digit may follow a leading zero */
        if (json_accept(p, ".", 1)) good &= json_accept(p, digits, p->n) > 0;
        if (json_accept(p, "eE", 1))
            json_accept(p, "+-", 1), good &= json_accept(p, digits, p->n) > 0;
        if (!good) return json_fail(p, "expected a value");
    } else if (type == JSON_STRING) {
        p->j->node[node].begin = ++p->at;
        for (size_t n; json_peek(p) != '"'; p->at += n) {
            n = json_character(p->text + p->at, p->n - p->at, &code);
            if (!n)
                return json_fail(
                    p, "bad UTF-8, escape or control character in a string, or no end of it");
        }
    } else {
        for (p->at++; json_skip(p) != (c == '{' ? '}' : ']'); p->j->node[node].size++) {
            if (p->j->node[node].size && !json_accept(p, ",", 1))
                return json_fail(p, "expected ',' or a bracket");
            if (c == '{') {
                if (json_skip(p) != '"') return json_fail(p, "expected a string");
                if (json_value(p, depth + 1)) return -1;
                if (json_skip(p) != ':') return json_fail(p, "expected ':'");
                p->at++;
            }
            if (json_value(p, depth + 1)) return -1;
        }
        p->at++;
    }
    p->j->node[node].end = p->at;
    p->j->node[node].next = p->j->count;
    p->at += type == JSON_STRING; /* the closing quote */
    return 0;
}

int json_parse(Json *j, const char *text, size_t n, Error *err)
{
    JsonParser p = {text, 0, n, j, 0, err};
    *j = (Json){text, NULL, 0};
    if (json_value(&p, 0)) return -1;
    json_skip(&p);
    return p.at == n ? 0 : json_fail(&p, "something follows the end of the document");
}

void json_free(Json *j) { free(j->node), memset(j, 0, sizeof *j); }

static const JsonNode *json_node(const Json *j, int node,
                                 JsonType type) /* NULL: there is none of this type */
{
    return node >= 0 && node < j->count && j->node[node].type == type ? &j->node[node] : NULL;
}

char *json_text(const Json *j, int node, size_t *length)
{
    const JsonNode *string = json_node(j, node, JSON_STRING);
    Buffer b = {0};
    uint32_t c;
    size_t n = 1;
    if (!string) return NULL;
    buffer_add(&b, "", 0);
    for (size_t i = string->begin; n && i < string->end; i += n)
        if ((n = json_character(j->text + i, string->end - i, &c)) > 0) utf8_add(&b, c);
    if (b.failed || !n) return free(b.text), NULL;
    *length = b.length;
    return b.text;
}

static int json_is(const Json *j, int node, const char *text) /* is it this string? */
{
    const JsonNode *string = json_node(j, node, JSON_STRING);
    size_t n = string ? string->end - string->begin : 0, length = strlen(text);
    if (!string || n < length) return 0; /* an escape is longer than what it stands for */
    if (!memchr(j->text + string->begin, '\\', n))
        return n == length && memcmp(j->text + string->begin, text, n) == 0;
    char *copy = json_text(j, node, &n);
    int same = copy && n == length && memcmp(copy, text, n) == 0;
    free(copy);
    return same;
}

int json_find(const Json *j, int object, const char *key)
{
    const JsonNode *o = json_node(j, object, JSON_OBJECT);
    for (int i = object + 1; o && i < o->next; i = j->node[i + 1].next)
        if (json_is(j, i, key)) return i + 1;
    return -1;
}

int json_integer(const Json *j, int node, int64_t *value)
{
    const JsonNode *number = json_node(j, node, JSON_NUMBER);
    char s[24] = "", *end; /* 19 digits, a sign and a NUL fit */
    if (!number || number->end - number->begin >= sizeof s) return -1;
    memcpy(s, j->text + number->begin, number->end - number->begin);
    errno = 0;
    long long v = strtoll(s, &end, 10);
    return *end || errno ? -1 : (*value = v, 0);
}

/* ---- command-line options ------------------------------------------------------------------- */

/* The fewest digits that strtod reads back as v; 100 rather than 1e+02. */
static void print_shortest(Buffer *b, double v)
{
    char s[40];
    int digits = v > -1e9 && v < 1e9 && v == (long)v ? 10 : 1;
    do sprintf(s, "%.*g", digits, v);
    while (strtod(s, NULL) != v && digits++ < 17);
    buffer_print(b, "%s", s);
}

int option_set(Option *o, const char *text, Error *err)
{
    static const char *const flag[] = {"0", "1", NULL};
    const char *const *choices = o->kind == OPT_FLAG ? flag : o->choices,
                      *dashes = o->name[1] ? "--" : "-";
    int whole = o->kind == OPT_INT;
    char *end;
    if (o->kind == OPT_TEXT) {
        if (o->times && o->given >= o->times)
            return fail(err, "%s%s: given more than %d times", dashes, o->name, o->times);
        ((const char **)o->value)[o->times ? o->given : 0] = text;
        return 0;
    }
    if (o->kind == OPT_FLAG || o->kind == OPT_CHOICE) {
        Buffer names = {0};
        for (int i = 0; choices[i]; i++) {
            if (strcmp(choices[i], text) == 0) return free(names.text), *(int *)o->value = i, 0;
            buffer_print(&names, "%s%s", i ? ", " : "", choices[i]);
        }
        fail(err, "%s%s: '%.80s' is none of %s", dashes, o->name, text,
             names.failed ? "its names" : names.text);
        return free(names.text), -1;
    }
    errno = 0;
    double v = whole ? (double)strtol(text, &end, 10) : strtod(text, &end);
    int bad = whole ? errno || v < INT_MIN || v > INT_MAX : v - v != 0;
    /* strchr is true of "" and of a blank in front, which strtol and strtod would skip */
    if (bad || *end || strchr(" \t\n\v\f\r", *text) || v < o->min || v > o->max)
        return fail(err, "%s%s: '%.80s' is no %s number from %.10g to %.10g", dashes, o->name, text,
                    whole ? "whole" : "real", o->min, o->max);
    if (whole)
        *(int *)o->value = (int)v;
    else
        *(double *)o->value = v;
    return 0;
}

void option_print(const Option *o, Buffer *out)
{
    const char *text = o->kind == OPT_TEXT ? *(const char **)o->value : NULL;
    if (o->kind == OPT_REAL)
        print_shortest(out, *(double *)o->value);
    else if (o->kind == OPT_TEXT)
        buffer_print(out, "%s", text ? text : "");
    else if (o->kind == OPT_CHOICE)
        buffer_print(out, "%s", o->choices[*(int *)o->value]);
    else
        buffer_print(out, "%d", *(int *)o->value);
}

static Option *option_find(Option *table, const char *name, size_t n)
{
    for (Option *o = table; o->name; o++) {
        size_t i = 0;
        while (i < n && o->name[i] &&
               (o->name[i] == '_' ? '-' : o->name[i]) == (name[i] == '_' ? '-' : name[i]))
            i++;
        if (i == n && !o->name[i] && o->help) return o;
    }
    return NULL;
}

int option_given(const Option *table, const void *value)
{
    while (table->name && table->value != value) table++;
    return table->given;
}

static int is_given(const Option *table, const char *name, size_t n)
{
    for (; table->name; table++)
        if (strlen(table->name) == n && !memcmp(table->name, name, n)) return table->given;
    return 0;
}

/* What was given must have an effect. */
static int check_options(const Option *table, Error *err)
{
    for (const Option *o = table; o->name; o++) {
        const char *dashes = o->name[1] ? "--" : "-", *other = o->excludes ? o->excludes : "";
        if (!o->given) continue;
        for (const Option *p = table; *other == '*' && p->name; p++)
            if (p != o && p->given)
                return fail(err, "%s%s takes no other option; there is --%s", dashes, o->name,
                            p->name);
        if (o->needs && !is_given(table, o->needs, strlen(o->needs)))
            return fail(err, "%s%s needs --%s", dashes, o->name, o->needs);
        for (size_t n; *other; other += n + (other[n] == ' ')) {
            n = strcspn(other, " ");
            if (is_given(table, other, n))
                return fail(err, "%s%s has no effect with --%.*s", dashes, o->name, (int)n, other);
        }
    }
    return 0;
}

int options_parse(Option *table, int argc, char **argv, const char **operand, int max_operands,
                  Error *err)
{
    int operands = 0, only_operands = 0;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *name = arg + 1 + (arg[0] && arg[1] == '-'), *value = NULL;
        if (!only_operands && strcmp(arg, "--") == 0) {
            only_operands = 1;
            continue;
        }
        if (only_operands || arg[0] != '-' || !arg[1]) {
            if (operands == max_operands)
                return fail(err, "'%s' is one operand too many; see --help", arg);
            operand[operands++] = arg;
            continue;
        }
        size_t n = strcspn(name, "=");
        Option *o = option_find(table, name, n);
        if (!o || (arg[1] != '-' && n != 1)) /* -name is not --name */
            return fail(err, "unknown option %.*s; see --help", (int)(name - arg + (long)n), arg);
        if (name[n] == '=') value = name + n + 1;
        if (value && o->kind == OPT_FLAG) return fail(err, "%s: a flag takes no value", arg);
        if (!value && o->kind != OPT_FLAG) { /* what looks like an option is not a value, but -1 is;
                                                --name=--x works */
            if (++i == argc || strncmp(argv[i], "--", 2) == 0)
                return fail(err, "%s needs a value; see --help", arg);
            value = argv[i];
        }
        if (option_set(o, value ? value : "1", err)) return -1;
        o->given++;
    }
    return check_options(table, err) ? -1 : operands;
}

void options_help(const Option *table, FILE *out)
{
    static const char *const type[] = {"INT", "REAL", "TEXT", "",
                                       "NAME"}; /* in the order of OptionKind */
    for (const Option *o = table; o->name; o++) {
        Buffer value = {0};
        if (!o->help) continue;
        int width = fprintf(out, "  %s%s %s", o->name[1] ? "--" : "-", o->name, type[o->kind]);
        fprintf(out, "%*s  %s", width < 28 ? 28 - width : 0, "", o->help);
        for (int i = 0; o->kind == OPT_CHOICE && o->choices[i]; i++)
            fprintf(out, "%s%s", i ? ", " : ": ", o->choices[i]);
        if (o->deflt)
            buffer_print(&value, "%s", o->deflt);
        else if (o->kind != OPT_FLAG)
            option_print(o, &value);
        if (value.length) fprintf(out, " (default %s)", value.text);
        if (o->needs) fprintf(out, " (needs --%s)", o->needs);
        if (o->excludes && *o->excludes == '*') fprintf(out, " (takes no other option)");
        else if (o->excludes) fprintf(out, " (not with: %s)", o->excludes);
        fputc('\n', out);
        free(value.text);
    }
}

/* ---- Unicode -------------------------------------------------------------------------------- */

/* The tables were made with Python's unicodedata (Unicode 14); test/unicode.py compares them. A
 * word character is what \w means to a Unicode regular expression: alphabetic, a mark, a decimal
 * digit, a connector such as '_', or a zero-width joiner. */
typedef enum { WORD, MARK, NUMBER, BLANK, SYMBOL } Class;
/* All code points from 0 on as runs of one class, each its length in base 36 (1 is left out) and
 * the initial of the class. Unassigned code points take the class before them, which keeps the
 * table short. */
static const char class_runs[] = "9S5BiSBfSaN7SqW4SWSqWaSBqSB9SW7S2NSW3SNWS3NSnWSvWScqW4ScWeS5W7SWS"
                                 "WhS34M5WS8WS5W2SWS32WS3vWS7M5sW6S15W8S19MSMS2MS2M"
                                 "S9MzWtSbM5S17WlMaN4S2WM2rWSW7M2S6M2W2MS4M2WaN3W2SWgSWMuWtM2hWbMfW"
                                 "aNxW9M2W4S3WM2SmW4MW9MW3MW7MgSpW5M2S14WS7W8S8M16W"
                                 "oMSxM1iW3MWiMW7MaW2M2SaNSgW4M1jWMWgM9W5M6W4MaN2W2S6N2SWS7M1jWtMdW"
                                 "aN2M3WMbS4M1jWMWiMiW4MaN9SWbM1jWMWuM6W4MaNSWgNM1n"
                                 "WiM7WfMdNdS5M1jWMWqMaW4MhNS7NSW3MS1jWMWvM5W4MbNfW4M1jW2MWgMW5S3WM"
                                 "7N3W4MjNS7W4M1xWsMcN2MdS1cWM2WbMS7W8MSaN13S1cWM2W"
                                 "9MbW8McN11WnS2M6SkNSMSMSM4S2M1dWkMS2M5W1dM8SM1lS17WkMWaN6S6W4M4W3"
                                 "MW3M2W7M3W4MdWcMWMaN4M2S2jWSgxW3M9SnNgWgS2oWSh8W2"
                                 "ShWBqW5S23W3S3NxWdMjW3MbSiWeMiWeM1gWwM3SW4SW3MwNbS3MSMgN2tW2MyWM3"
                                 "aWwM6SaN3kWeNySnW7M2S1hW17MwN7SW8S2dM1bWhMbWaNhS9"
                                 "McS3MuWdM2WaN18WmM4S10WnM5SdN3WaN10W2S1sWgS3MSlM4WM6WM2W3M5iW1sMc"
                                 "dWSW3SbW3SdW3SdW5SbW3SbBS2WqS2B5SBfS2WjSWaSBgSN3W"
                                 "6N5SWaN6SgW1cS1cM2SW4SW2SaWSW3S5W6SWSWSWS4WSbW2S4W5S5W4SWS1fN2W5N"
                                 "k6S1oNqS1gWmNhiSuNvgS6dW6S4W3M7W4SN2S34WfSM2oWwM1"
                                 "bSWcwSB4S2WNpS9N6MS5W2S3N2W4S2gW2M2S3WS2iWS44W2S4NaSwW1cSgWwSaNuS"
                                 "8NSfNwSaN13SfN8wS534W1sSh3kW1sS1aW2S7hW3SgWaN1xW4"
                                 "MSaMSvW2M1yWaN2M11S9W2S2vW2S3bWM3WM4WMnW5M4S4M6NaS1gWcS2M1eWqM2Sg"
                                 "NiM6W3SWS2WMaNsW8M2SnWoMSwW4M1bWeMeSWeN2S5WMaWaN1"
                                 "bWnM3WM8W4McN4SnW3SW3M1eWMW3M2W2M5W2MWMsW2SbW5M2S3WcM2iWSeW6S37W8"
                                 "MS4MgNa9sW4xsSf2WMaWS3sWxSa3WiS3jWxScW4SgMgSgM3S2"
                                 "WoS3WwS3zWhSaN7SqW4SWSqWbS3eWwS74W7S1cN9S1lNhS2N35S3nM2oWMvNwWdNk"
                                 "WN8W6N12WaMvWS1cWS1bN4gWgN5bWSknWS8NnW2S7N13W1lNr"
                                 "W5NmW9NSvW1tS1oW2N2W1sNWfM14W8MgNgStW2NStWzN8WSsW6M5NgS1lW7SoW8No"
                                 "W8NpWgS2fN6yW6N10WcM9cN17W2M3S31WaNvWbM4NrSiW4M16"
                                 "SlWrNwW3M1hWfMbSuNM2W2MaW4M19WbM7SbM3SwWgN3M10WfMaN4SW2M18WM2SaW3"
                                 "M1cWeM4W4S4MS2MaNWSW4SvN18WcM6S1uM15W7S1bWhMgN5M1"
                                 "iW2MWiM7W6M5W4eM1hWiM4W5SaN4SM29WkM2WS9W4wN1bWiMnS4W10M1cWhM3ScWg"
                                 "NwS17WdMW7S1sNtWjMcN4S6kWfM2tS1sWvN1dWfMWMW2McS28"
                                 "N1dWgMWSWsMWaM14W7MW4M8S9MWbM1aWgM3SWiSanWhMWfSwN2SwW32M1dWlMW9Mg"
                                 "N16WeM8W8wNjW4M55SgWlN17SsgW34NgS29dWfStsW34gS7kw"
                                 "WeN2S28WgNwW5MbS1cW7M9S4WcSjNm5WnN2xS27WMW1uM27WSWsMf4sWS2M3mpS28"
                                 "MetS5M3S6M8S8M2S7MuS4M44S3M4bSwN2oS4gNjlWSpWSvWSp"
                                 "WSvWSpWSvWSpWSvWSpWSaW1eNe8S1jM4S1eM8SMeSMmSv9M74W74M1cW7M9WeNW8x"
                                 "SuWiM18W4MfNypS6fW9N1cM1wW7M5WeNlvS1nNS3NS3hNS5tN"
                                 "6oWeoSdNzSqW6SqW6SqW21ySswNgutdW73S1edcM2t4wS";
/* Decomposing, lower-casing and dropping marks map a code point to one other at most: Latin, Greek
 * and Cyrillic are decomposed, other scripts only lower-cased. Ranges that move by one distance, as
 * four numbers in base 36: how far behind the range before it begins, length, step, distance. */
static const char fold_runs[] = "1t q 1 w 3p d 2 w 22 i 2 1 1b 2 2 1 b f 2 1 1j 1 1 5u 1 2 2 1 4 1 "
                                "1 5q 1 1 1 1 2 2 1 5p 2 1 1 1 3 1 1 27 1 1 1 5m "
                                "1 1 1 5n 1 1 1 1 2 1 1 5p 1 1 1 5r 2 1 1 5v 1 1 1 5t 1 1 1 1 4 1 "
                                "1 5v 1 1 1 5x 2 1 1 5y 3 2 2 1 4 1 1 62 1 1 1 1 2"
                                " 1 1 62 3 1 1 1 2 1 1 62 3 2 1 61 2 2 2 1 4 1 1 63 1 1 1 1 4 1 1 "
                                "1 8 1 1 2 1 1 1 1 2 1 1 2 1 1 1 1 2 1 1 2 1 1 1 1"
                                " n 1 1 -70 1 1 1 -71 1 1 1 1 a 1 1 4k 1 1 1 4j 2 1 1 2 1 1 1 1 4 "
                                "1 1 -2p 1 1 1 -1k 5 1 1 -7q 1 1 1 -7r 1 1 1 -7a 1"
                                " 1 1 -7b t 1 1 1 4 1 1 -3m 2 2 2 1 o 1 1 8bv 1 1 1 1 2 1 1 -4j 1 "
                                "1 1 8bs 3 1 1 1 2 1 1 -5f 1 1 1 1x 1 1 1 1z 1 5 2"
                                " 1 8a 2 2 1 4 1 1 -57 2 1 1 1 8 1 1 -n7 1 1 1 38 6 1 1 -kd 2 1 1 "
                                "-k0 20 1 1 8 4 1 1 -1 1 1 1 -2 4 c 2 1 s 1 1 -1o "
                                "3 1 1 1 2 1 1 -7 1 1 1 1 3 3 1 -3m 5 5 1 28 5 1 1 27 1 8 1 28 10 "
                                "1 1 w 17 1 1 -1 9 b 2 1 m 1 1 -1 1 1 1 -2 1 5 2 1"
                                " i r 2 1 1i 1 1 f 3 6 2 1 h 3 2 1 6 1 1 -1 1 1 1 -2 5 5 2 1 a 1 1 "
                                "-1 1 1 1 -2 b t 2 1 1n 12 1 1c 29b 1a 1 5ls lc 2"
                                "8 1 tzk 28 6 1 8 1pc 1c 1 -2bk ej 1 1 -5r0 3 1 1 -5vj 2k 3 2 1 5j "
                                "1 1 -655 c 1 1 -e 1 1 1 -f 1 1 1 -g e 1 1 x 1 1 "
                                "1 w 1 1 1 v e 1 1 -66d 1 1 1 -66e 1 1 1 -68f e 1 1 -66h 89 1 1 "
                                "-5st 4 1 1 -6gv 1 1 1 -6h6 7 1 1 s 1a g 1 g z 1 1 1"
                                " mr q 1 q 1fu 1c 1 1c 2o 1 1 1 2 1 1 -8af 1 1 1 -2xy 1 1 1 -89z 3 "
                                "3 2 1 6 1 1 -8bg 1 1 1 -8al 1 1 1 -8bj 1 1 1 -8b"
                                "i 2 2 3 1 c 2 1 -8cf 2 1e 2 1 2z 2 2 1 7 1 1 1 nym n 2 1 1s e 2 1 "
                                "4i 7 2 1 g v 2 1 1z 2 2 1 4 1 1 -r9g 1 5 2 1 d 1"
                                " 1 1 2 1 1 -wmg 3 2 2 1 6 a 2 1 k 1 1 -wn8 1 1 1 -wnj 1 1 1 -wnf "
                                "1 1 1 -wn5 1 1 1 -wn8 2 1 1 -wlu 1 1 1 -wmi 1 1 1"
                                " -wlx 1 1 1 ps 1 8 2 1 g 1 1 -1c 1 1 1 -wn7 1 1 1 -raw 1 2 2 1 9 "
                                "5 2 1 11 1 1 1 h7w q 1 w yn 14 1 14 4w 10 1 14 5c"
                                " 12 1 13 1e8 1f 1 1s 2e8 w 1 w gww w 1 w o8w y 1 y";
/* The base letters of decomposed blocks: one character (+ offset) per code point, '.' if it has
 * none. */
static const struct {
    uint32_t first, offset;
    const char *letter;
} base_letters[] = {
    {0xC0, 0,
     "aaaaaa.ceeeeiiii.nooooo..uuuuy..aaaaaa.ceeeeiiii.nooooo..uuuuy.yaaaaaaccccccccdd.."
     "eeeeeeeeeegggggggghh"
     "..iiiiiiiii...jjkk.llllll....nnnnnn...oooooo..rrrrrrsssssssstttt..uuuuuuuuuuuuwwyyyzzzzzz"},
    {0x1A0, 0,
     "oo.............uu............................aaiioouuuuuuuuuu.aaaa....ggkkoooo..j...gg..nn"},
    {0x1FA, 0, "aa....aaaaeeeeiiiioooorrrruuuusstt..hh......aaeeooooooooyy"},
    {0x386, 0x3B1 - 'a',
     "a.egi.o.uyiabcdefghijklmnopq.stuvwxyiuaegiu.........................iuouy"},
    {0x400, 0x430 - '@',
     "EE.C........JHS.@ABCDEFGHHJKLMNOPQRSTUVWXYZ[.]^_.........H......................EE.C......."
     ".JHS"},
    {0x4C1, 0x430 - '@', "FF.............@@@@..EE....FFGG..HHHHNN....]]SSSSSSWW..[["},
    {0x1E00, 0,
     "aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmmmmmmnnnnnnnnoooooooopppprrrrr"
     "rrrssss"
     "ssssssttttttttuuuuuuuuuuvvvvwwwwwwwwwwxxxxyyzzzzzzhtwy......"
     "aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeeeeeeeeeeeiiiioo"
     "oooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyy"},
    {0x1F00, 0x3B1 - 'a',
     "aaaaaaaaaaaaaaaaeeeeee..eeeeee..ggggggggggggggggiiiiiiiiiiiiiiiioooooo..oooooo..uuuuuuuu.u"
     ".u.u.uyyyyyyyyyyyyyyyyaaeeggiioouuyy..aaaaaaaaaaaaaaaaggggggggggggggggyyyyyyyyyyyyyyyyaaaaa."
     "aaaaaaa.i...gg"
     "g.ggeeggg...iiii..iiiiii....uuuuqquuuuuuq.....yyy.yyooyyy"},
};

/* t->unicode: per code point what it is folded to << 3 | its own Class (not that of what it is
 * folded to). */
static int unicode_init(Tokenizer *t, Error *err)
{
    static const char initials[] = "WMNBS"; /* in the order of Class */
    uint32_t *u = t->unicode = checked_alloc(0x110000, sizeof *u, err), c = 0, run = 0;
    if (!u) return -1;
    for (const char *s = class_runs; *s; s++) {
        const char *class = strchr(initials, *s);
        if (!class)
            run = 36 * run + (uint32_t)(*s <= '9' ? *s - '0' : *s - 'a' + 10);
        else
            for (run += !run; run; run--, c++) u[c] = c << 3 | (uint32_t)(class - initials);
    }
    c = 0;
    for (const char *s = fold_runs; *s;) {
        long field[4];
        char *end;
        for (int i = 0; i < 4; i++, s = end) field[i] = strtol(s, &end, 36);
        c += (uint32_t)field[0];
        for (long i = 0, from = (long)c; i < field[1]; i++, from += field[2])
            u[from] = (uint32_t)(from + field[3]) << 3 | (u[from] & 7);
    }
    for (size_t k = 0; k < sizeof base_letters / sizeof *base_letters; k++) {
        uint32_t *to = u + base_letters[k].first;
        for (const char *s = base_letters[k].letter; *s; s++, to++)
            if (*s != '.') *to = (base_letters[k].offset + (uint32_t)*s) << 3 | (*to & 7);
    }
    return 0;
}

/* ---- splitting ------------------------------------------------------------------------------ */

static const char *const specials_text[TOKEN_SPECIALS] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]",
                                                          "[MASK]"};

static size_t
special_at(const char *s,
           size_t n) /* the length of the special token that is spelt out at s, or 0 */
{
    for (int id = 0; *s == '[' && id < TOKEN_SPECIALS; id++) {
        size_t length = strlen(specials_text[id]);
        if (length <= n && memcmp(s, specials_text[id], length) == 0) return length;
    }
    return 0;
}

typedef struct {
    const uint32_t *unicode; /* of the Tokenizer */
    const char *at, *end;    /* what is left of the text */
    Buffer word;             /* the token found last */
} Splitter;

/* Rules 1 to 4: the next token into s->word; 0 at the end of the text or out of memory
 * (word.failed). */
static int split_next(Splitter *s)
{
    Class kind = BLANK; /* of the token so far */
    s->word.length = 0;
    while (s->at < s->end && !s->word.failed) {
        uint32_t c;
        size_t left = (size_t)(s->end - s->at), n = special_at(s->at, left);
        if (n && s->word.length) break;
        if (n) {
            buffer_add(&s->word, s->at, n);
            s->at += n;
            break;
        }
        n = utf8_read(s->at, left, &c);
        if (!n || !c) n = 1, c = 0xFFFD; /* not UTF-8, or a NUL: a token is a C string */
        c = s->unicode[c] >> 3;
        Class class = (Class)(s->unicode[c] & 7);
        if (class != MARK) {
            if (s->word.length && (class != kind || kind == NUMBER)) break;
            if (class != BLANK) utf8_add(&s->word, c);
            kind = class;
        }
        s->at += n;
    }
    return s->word.length && !s->word.failed;
}

void tokenizer_split(const Tokenizer *t, const char *text, size_t n, Buffer *out)
{
    Splitter s = {t->unicode, text, text + n, {0}};
    for (int first = 1; split_next(&s); first = 0) {
        if (!first) buffer_add(out, "\n", 1);
        buffer_add(out, s.word.text, s.word.length);
    }
    if (s.word.failed) out->failed = 1;
    free(s.word.text);
}

/* ---- vocabulary ----------------------------------------------------------------------------- */

/* Where token is in the hash table, or the empty slot where it belongs. */
static size_t find_slot(const Tokenizer *t, const char *token)
{
    uint64_t hash =
        0xcbf29ce484222325u; /* FNV-1a, folded because its high bits are the better ones */
    for (const char *p = token; *p; p++) hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    size_t i = (size_t)(hash ^ hash >> 32) & (t->num_slots - 1);
    while (t->slot[i] >= 0 && strcmp(t->token[t->slot[i]], token) != 0)
        i = (i + 1) & (t->num_slots - 1);
    return i;
}

/* Makes the hash table anew, at most a third full, and t->token as large as half of it. */
static int index_tokens(Tokenizer *t, Error *err)
{
    if (t->size > INT_MAX / 64) return fail(err, "more than %d tokens", t->size);
    free(t->slot);
    for (t->num_slots = 16; t->num_slots < 3 * (size_t)t->size;) t->num_slots *= 2;
    t->slot = checked_alloc(t->num_slots, sizeof *t->slot, err);
    char **token = realloc(t->token, t->num_slots / 2 * sizeof *token);
    if (token) t->token = token;
    if (!token || !t->slot) return fail(err, "out of memory at %d tokens", t->size);
    for (size_t i = 0; i < t->num_slots; i++) t->slot[i] = -1;
    for (int id = 0; id < t->size; id++) {
        size_t slot = find_slot(t, t->token[id]);
        if (t->slot[slot] >= 0)
            return fail(err, "tokens %d and %d are the same", t->slot[slot], id);
        t->slot[slot] = id;
    }
    return 0;
}

typedef struct {
    char *token;
    size_t count;
} Count;

static int by_count(const void *a, const void *b)
{
    const Count *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : strcmp(x->token, y->token);
}

int tokenizer_find(const Tokenizer *t, const char *token) { return t->slot[find_slot(t, token)]; }

int tokenizer_add(Tokenizer *t, const char *token, Error *err)
{
    uint32_t code;
    for (size_t at = 0, n = strlen(token), length; at < n; at += length)
        if (!(length = utf8_read(token + at, n - at, &code)))
            return fail(err, "byte %zu of '%.40s' is not UTF-8", at + 1, token);
    for (;;) {
        const char *next = t->size < TOKEN_SPECIALS ? specials_text[t->size] : token;
        if (2 * (size_t)t->size >= t->num_slots && index_tokens(t, err)) return -1;
        size_t slot = find_slot(t, next);
        if (t->slot[slot] < 0) {
            if (!(t->token[t->size] = checked_alloc(strlen(next) + 1, 1, err))) return -1;
            strcpy(t->token[t->size], next);
            t->slot[slot] = t->size++;
        }
        if (next == token) return t->slot[slot];
    }
}

/* All different tokens of the text: the specials, then the words in order of appearance. counts: an
 * array of Count */
static int count_tokens(Tokenizer *t, Buffer *counts, Splitter *s, Error *err)
{
    while (split_next(s)) {
        int id = tokenizer_add(t, s->word.text, err);
        if (id < 0) return -1;
        for (size_t k; (k = counts->length / sizeof(Count)) < (size_t)t->size && !counts->failed;)
            buffer_add(counts, (const char *)&(Count){t->token[k], 0}, sizeof(Count));
        if (counts->failed) return fail(err, "out of memory at %d words", t->size);
        ((Count *)(void *)counts->text)[id].count++;
    }
    return s->word.failed ? fail(err, "out of memory") : 0;
}

int tokenizer_train_word_level(Tokenizer *t, const char *text, size_t n, int vocab_size,
                               int min_frequency, Error *err)
{
    Buffer counts = {0};
    memset(t, 0, sizeof *t);
    int status = unicode_init(t, err);
    Splitter s = {t->unicode, text, text + n, {0}};
    if (!status) status = count_tokens(t, &counts, &s, err);
    if (!status && t->size <= TOKEN_SPECIALS) status = fail(err, "there is no word in the text");
    if (!status && vocab_size <= TOKEN_SPECIALS)
        status = fail(err, "a vocabulary of %d is too small", vocab_size);
    if (!status) {
        Count *count = (void *)counts.text;
        qsort(count + TOKEN_SPECIALS, (size_t)(t->size - TOKEN_SPECIALS), sizeof *count, by_count);
        for (int id = TOKEN_SPECIALS; id < t->size; id++) t->token[id] = count[id].token;
        while (t->size > vocab_size ||
               (t->size > TOKEN_SPECIALS && count[t->size - 1].count < (size_t)min_frequency))
            free(t->token[--t->size]);
        status = t->size > TOKEN_SPECIALS ? index_tokens(t, err)
                                          : fail(err, "no word occurs %d times", min_frequency);
    }
    if (status) tokenizer_free(t);
    free(counts.text), free(s.word.text);
    return status;
}

void tokenizer_free(Tokenizer *t)
{
    for (int id = 0; id < t->size; id++) free(t->token[id]);
    free(t->token), free(t->slot), free(t->unicode);
    memset(t, 0, sizeof *t);
}

long tokenizer_encode(const Tokenizer *t, const char *text, size_t n, int *ids, long max)
{
    Splitter s = {t->unicode, text, text + n, {0}};
    long length = 1;
    ids[0] = TOKEN_CLS;
    for (; split_next(&s); length++) {
        int id = tokenizer_find(t, s.word.text);
        if (length < max) ids[length] = id >= 0 ? id : TOKEN_UNK;
    }
    ids[length < max ? length : max - 1] = TOKEN_SEP;
    free(s.word.text);
    return s.word.failed ? -1 : length + 1;
}

void tokenizer_decode(const Tokenizer *t, const int *ids, int n, int specials, Buffer *out)
{
    /* Each of these loses its blanks, one after the other through the whole text: "hello , i ' m"
     * is "hello, i'm". */
    static const char *const tight[] = {" .",   " ?",  " !",  " ,",   " ' ",
                                        " n't", " 'm", " 's", " 've", " 're"};
    size_t begin = out->length;
    for (int i = 0, first = 1; i < n && (specials || ids[i] != TOKEN_SEP); i++) {
        int id = ids[i] < 0 || ids[i] >= t->size ? TOKEN_UNK : ids[i];
        if (!specials && id < TOKEN_SPECIALS && id != TOKEN_UNK) continue;
        buffer_print(out, first ? "%s" : " %s", t->token[id]);
        first = 0;
    }
    for (size_t k = 0; k < sizeof tight / sizeof *tight && !out->failed && out->text; k++) {
        size_t length = strlen(tight[k]), to = begin;
        for (size_t from = begin; from < out->length;) {
            int match = strncmp(out->text + from, tight[k], length) == 0;
            for (size_t end = from + (match ? length : 1); from < end; from++)
                if (!match || out->text[from] != ' ') out->text[to++] = out->text[from];
        }
        out->text[out->length = to] = '\0';
    }
}

/* ---- a text of many sentences ---------------------------------------------------------------
 * Blank lines are no sentences. People bring all sorts of files; what looks odd about one is said
 * in notes, and only what cannot be read at all is refused. */

/* UTF-16 without a mark: English has a NUL in every other byte. */
static int looks_like_utf16(const char *text, size_t n)
{
    size_t zeros[2] = {0, 0}, most = n < 4096 ? n : 4096;
    if (n >= 2 && (!memcmp(text, "\xFF\xFE", 2) || !memcmp(text, "\xFE\xFF", 2))) return 1;
    for (size_t i = 0; i < most; i++) zeros[i % 2] += !text[i];
    return most >= 4 && (zeros[0] > most / 3 || zeros[1] > most / 3) &&
           (zeros[0] < most / 50 + 1 || zeros[1] < most / 50 + 1);
}

int corpus_read(Corpus *c, const char *path, Error *err)
{
    memset(c, 0, sizeof *c);
    if (!(c->text = read_file(path, &c->length, err))) return -1;
    if (looks_like_utf16(c->text, c->length))
        return fail(err,
                    "%s: this is UTF-16; expected UTF-8, as from: iconv -f UTF-16 -t UTF-8 %s "
                    "> new.txt",
                    path, path);
    if (c->length >= 3 && !memcmp(c->text, "\xEF\xBB\xBF", 3)) {
        c->length -= 3;
        memmove(c->text, c->text + 3, c->length + 1);
    }
    if (!memchr(c->text, '\n', c->length))
        for (size_t i = 0; i < c->length; i++)
            if (c->text[i] == '\r') c->text[i] = '\n';
    return 0;
}

/* Goes through the lines: counts and, where there are ids already, encodes. tokens: of all
 * sentences; whole: NULL, or (rows) the lengths before lines are cut. */
static int read_lines(Corpus *c, const char *path, const Tokenizer *t, int most, int pad,
                      size_t *tokens, long *whole, Error *err)
{
    c->rows = c->longest = c->cut = 0;
    *tokens = 0;
    for (size_t at = 0, end; at < c->length; at = end + 1) {
        const char *newline = memchr(c->text + at, '\n', c->length - at);
        int unused[2];
        end = newline ? (size_t)(newline - c->text) : c->length;
        long n = tokenizer_encode(t, c->text + at, end - at, c->ids ? c->ids + *tokens : unused,
                                  c->ids ? most : 2);
        if (n < 0 || c->rows == INT32_MAX - 1)
            return fail(err, "%s: %s", path, n < 0 ? "out of memory" : "too many lines");
        if (n == 2) continue; /* blank */
        if (whole) whole[c->rows] = n;
        if (n > most) c->cut++;
        if (n > most) n = most;
        for (; pad && n < most; n++)
            if (c->ids) c->ids[*tokens + n] = TOKEN_PAD;
        if (n > c->longest) c->longest = (int)n;
        if (c->start) c->start[c->rows] = *tokens;
        *tokens += n;
        c->rows++;
        if (c->start) c->start[c->rows] = *tokens;
    }
    return c->rows ? 0 : fail(err, "%s: no sentence in it; expected one a line", path);
}

int corpus_measure(Corpus *c, const char *path, const Tokenizer *t, int most, Error *err)
{
    size_t tokens;
    return read_lines(c, path, t, most, 0, &tokens, NULL, err);
}

/* How often a character stands in a line. */
static int occurrences(const char *line, size_t n, char what)
{
    int count = 0;
    for (size_t i = 0; i < n; i++) count += line[i] == what;
    return count;
}

/* What kind of file this is, if it is no plain text, or NULL. */
static const char *kind_of_file(const char *text, size_t n)
{
    static const char separators[] = "\t,;", *const tables[] = {"tab-separated values", "CSV",
                                                                "CSV"};
    size_t control = 0;
    for (size_t i = 0; i < n; i++)
        control += (unsigned char)text[i] < 32 && !strchr("\t\n\r\f\v", text[i] ? text[i] : 1);
    if (control > n / 100) return "a binary file";
    while (n && strchr(" \t\r\n", *text)) text++, n--;
    while (n && strchr(" \t\r\n", text[n - 1])) n--;
    if (n < 2) return NULL;
    if ((*text == '{' && text[n - 1] == '}') || (*text == '[' && text[n - 1] == ']')) return "JSON";
    if (*text == '<' && text[n - 1] == '>') return "HTML or XML";
    for (int k = 0; k < 3; k++) { /* a table has as many separators in every line */
        int lines = 0, first = 0, same = 1;
        for (size_t at = 0, end; at < n && lines < 20; at = end + 1, lines++) {
            const char *newline = memchr(text + at, '\n', n - at);
            end = newline ? (size_t)(newline - text) : n;
            const int count = occurrences(text + at, end - at, separators[k]);
            if (lines == 0) first = count;
            same &= count == first;
        }
        if (same && lines >= 5 && first >= (separators[k] == '\t' ? 1 : 2)) return tables[k];
    }
    return NULL;
}

static void note_encoding(Corpus *c, const char *path)
{
    size_t bad = 0, line = 1, first = 0, among_ascii = 0;
    uint32_t code;
    for (size_t i = 0, n; i < c->length; i += n ? n : 1) {
        n = utf8_read(c->text + i, c->length - i, &code);
        if (n && c->text[i] == '\n') line++;
        if (n) continue;
        if (!bad++) first = line;
        among_ascii += (unsigned char)c->text[i] >= 0xA0 && (unsigned char)c->text[i + 1] < 0x80;
    }
    if (bad)
        buffer_print(&c->notes, "%s: %zu bytes are no UTF-8, the first in line %zu%s\n", path, bad,
                     first,
                     2 * among_ascii > bad ? "; if this is Latin-1: iconv -f LATIN1 -t UTF-8" : "");
}

static int ascending(const void *a, const void *b)
{
    const long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static void note_cuts(Corpus *c, const char *path, long *whole, size_t tokens)
{
    double of_all = 0;
    for (int i = 0; i < c->rows; i++) of_all += (double)whole[i];
    qsort(whole, (size_t)c->rows, sizeof *whole, ascending);
    buffer_print(&c->notes,
                 "%s: %d longer lines were cut to %d positions, which drops %.3g %% of the tokens; "
                 "99 %% of the lines have %ld positions at most\n",
                 path, c->cut, c->longest, 100 * (1 - (double)tokens / of_all),
                 whole[c->rows - 1 - c->rows / 100]);
}

/* The words that are [UNK] most often. */
static int note_unknown(Corpus *c, const char *path, const Tokenizer *t, Error *err)
{
    enum { NAMED = 5 };
    Tokenizer words = {0};
    Buffer split = {0};
    int *count = NULL, status = -1;
    tokenizer_split(t, c->text, c->length, &split);
    if (split.failed || !(count = checked_alloc(c->unknown + TOKEN_SPECIALS, sizeof *count, err)))
        goto done;
    for (char *word = strtok(split.text, "\n"); word; word = strtok(NULL, "\n")) {
        if (tokenizer_find(t, word) >= 0) continue;
        const int id = tokenizer_add(&words, word, err);
        if (id < 0) goto done;
        count[id]++;
    }
    buffer_print(&c->notes, "%s: %.3g %% of the words are not in the vocabulary, but [UNK]:", path,
                 100.0 * c->unknown / c->words);
    for (int k = 0; k < NAMED; k++) {
        int best = TOKEN_SPECIALS;
        for (int id = best; id < words.size; id++)
            if (count[id] > count[best]) best = id;
        if (best >= words.size || !count[best]) break;
        buffer_print(&c->notes, "%s '%.40s' (%d)", k ? "," : "", words.token[best], count[best]);
        count[best] = 0;
    }
    buffer_print(&c->notes, "\n");
    status = 0;
done:
    if (split.failed) fail(err, "%s: out of memory", path);
    tokenizer_free(&words);
    free(split.text);
    free(count);
    return status;
}

static int make_notes(Corpus *c, const char *path, const Tokenizer *t, long *whole, size_t tokens,
                      Error *err)
{
    const char *kind = kind_of_file(c->text, c->length);
    int of_one_word = 0;
    c->words = c->unknown = 0;
    for (size_t i = 0; i < tokens; i++) {
        c->words += c->ids[i] != TOKEN_PAD;
        c->unknown += c->ids[i] == TOKEN_UNK;
    }
    c->words -= 2 * (size_t)c->rows; /* [CLS] and [SEP] */
    for (int i = 0; i < c->rows; i++) of_one_word += whole[i] == SHORTEST;
    if (kind)
        buffer_print(&c->notes,
                     "%s: this looks like %s; each line is taken as a sentence as it stands\n",
                     path, kind);
    note_encoding(c, path);
    if (c->cut) note_cuts(c, path, whole, tokens);
    if (2 * of_one_word > c->rows && c->rows > 1)
        buffer_print(&c->notes,
                     "%s: most lines are one word; with --tokenizer char letters are tokens\n",
                     path);
    return c->unknown ? note_unknown(c, path, t, err) : 0;
}

int corpus_fill(Corpus *c, const char *path, const Tokenizer *t, int most, int pad, Error *err)
{
    size_t tokens;
    if (read_lines(c, path, t, most, pad, &tokens, NULL, err)) return -1;
    long *whole = checked_alloc((size_t)c->rows, sizeof *whole, err);
    c->ids =
        checked_alloc(tokens + 2, sizeof *c->ids, err); /* + 2: a last blank line is encoded, too */
    c->start = checked_alloc((size_t)c->rows + 1, sizeof *c->start, err);
    int status = !whole || !c->ids || !c->start ||
                 read_lines(c, path, t, most, pad, &tokens, whole, err) ||
                 make_notes(c, path, t, whole, tokens, err);
    free(whole);
    free(c->text);
    c->text = NULL;
    return status ? -1 : 0;
}

int sentence_length(const Corpus *c, int i) { return (int)(c->start[i + 1] - c->start[i]); }

void corpus_free(Corpus *c)
{
    free(c->text);
    free(c->ids);
    free(c->start);
    free(c->notes.text);
}

/* ---- tokenizer.json ------------------------------------------------------------------------- */

void tokenizer_to_json(const Tokenizer *t, Buffer *out)
{
    static const char before[] = /* rules 2 to 5; written with ' for " */
        "],\n'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'NFD'}, {'type': "
        "'Lowercase'}, "
        "{'type': 'StripAccents'}]},\n'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': "
        "[{'type': 'Digits', 'individual_digits': true}, {'type': 'Whitespace'}]},\n"
        "'post_processor': {'type': 'TemplateProcessing',\n'single': [{'SpecialToken': {'id': "
        "'[CLS]', 'type_id': 0}}, "
        "{'Sequence': {'id': 'A', 'type_id': 0}},\n{'SpecialToken': {'id': '[SEP]', 'type_id': "
        "0}}],\n"
        "'pair': [{'SpecialToken': {'id': '[CLS]', 'type_id': 0}}, {'Sequence': {'id': 'A', "
        "'type_id': 0}},\n"
        "{'SpecialToken': {'id': '[SEP]', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': "
        "1}},\n"
        "{'SpecialToken': {'id': '[SEP]', 'type_id': 1}}],\n'special_tokens': {'[CLS]': {'id': "
        "'[CLS]', 'ids': [1], "
        "'tokens': ['[CLS]']},\n'[SEP]': {'id': '[SEP]', 'ids': [2], 'tokens': ['[SEP]']}}},\n"
        "'decoder': null,\n'model': {'type': 'WordLevel', 'unk_token': '[UNK]', 'vocab': {";
    buffer_print(
        out,
        "{\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": [");
    for (int id = 0; id < TOKEN_SPECIALS; id++)
        buffer_print(
            out,
            "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
            "\"rstrip\": false, \"normalized\": false, \"special\": true}",
            id ? ",\n" : "", id, specials_text[id]);
    for (const char *p = before; *p; p++) buffer_add(out, *p == '\'' ? "\"" : p, 1);
    for (int id = 0; id < t->size; id++) {
        buffer_print(out, id ? ",\n" : "\n");
        buffer_json_string(out, t->token[id], strlen(t->token[id]));
        buffer_print(out, ": %d", id);
    }
    buffer_print(out, "}}}\n");
}

static int read_vocabulary(Tokenizer *t, const Json *j, Error *err)
{
    int model = json_find(j, 0, "model"), vocab = json_find(j, model, "vocab");
    if (!json_is(j, json_find(j, model, "type"), "WordLevel"))
        return fail(err, "no tokenizer.json with a \"model\" of \"type\" WordLevel");
    if (vocab < 0 || j->node[vocab].type != JSON_OBJECT || j->node[vocab].size < TOKEN_SPECIALS)
        return fail(err, "\"vocab\" is no object with the special tokens and words");
    t->token = checked_alloc((size_t)j->node[vocab].size, sizeof *t->token, err);
    if (!t->token) return -1;
    t->size = j->node[vocab].size;
    for (int key = vocab + 1; key < j->node[vocab].next; key = j->node[key + 1].next) {
        int64_t id;
        size_t n;
        if (json_integer(j, key + 1, &id) < 0 || id < 0 || id >= t->size || t->token[id])
            return fail(err, "byte %zu: expected an id from 0 to %d, each once",
                        j->node[key + 1].begin, t->size - 1);
        if (!(t->token[id] = json_text(j, key, &n))) return fail(err, "out of memory");
        const char *expected = id < TOKEN_SPECIALS ? specials_text[id] : t->token[id];
        if (n == 0 || strlen(t->token[id]) != n || strcmp(t->token[id], expected) != 0)
            return fail(err, "token %d is '%.40s', or has a NUL: expected '%.40s'", (int)id,
                        t->token[id], expected);
    }
    return index_tokens(t, err); /* V ids in range, none twice: none is missing */
}

int tokenizer_from_json(Tokenizer *t, const char *text, size_t n, Error *err)
{
    Json j;
    memset(t, 0, sizeof *t);
    int status = json_parse(&j, text, n, err) || read_vocabulary(t, &j, err) || unicode_init(t, err)
                     ? -1
                     : 0;
    if (status) tokenizer_free(t);
    json_free(&j);
    return status;
}

#ifdef TOKENIZER_MAIN
/* ---- the program ---------------------------------------------------------------------------- */

static int train(const char *path, int vocab_size, int min_frequency, const char *out, Error *err)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path,
               *dot = strrchr(base, '.');
    char name[300]; /* the default: the text's name without folder and extension */
    Tokenizer t;
    Buffer json = {0};
    Output o;
    Error inner;
    size_t n, lines = 0;
    snprintf(name, sizeof name, "%.*s.json",
             (int)(dot && dot > base ? (size_t)(dot - base) : strlen(base)), base);
    if (!out) out = name;
    if (output_spares(out, path, err)) return -1;
    char *text = read_file(path, &n, err);
    if (!text) return -1;
    int status = tokenizer_train_word_level(&t, text, n, vocab_size, min_frequency, &inner);
    if (status)
        fail(err, "%s: %s", path, inner.text);
    else
        tokenizer_to_json(&t, &json);
    if (json.failed) status = fail(err, "%s: out of memory", out);
    if (!status) status = output_open(&o, out, err);
    if (!status) fwrite(json.text, 1, json.length, o.file); /* output_close notices a failure */
    if (!status) status = output_close(&o, 1, err);
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n' || i + 1 == n;
    if (!status)
        fprintf(stderr, "tokenizer: wrote %s: vocabulary %d, %zu lines\n", out, t.size, lines);
    tokenizer_free(&t), free(json.text), free(text);
    return status;
}

/* The ids that a line spells out; their number, or -1. */
static long read_ids(const Tokenizer *t, const Buffer *line, int *ids, Error *err)
{
    static const char blanks[] = " \t\r";
    long n = 0;
    for (char *word = line->text, *end;
         word += strspn(word, blanks), word < line->text + line->length; word = end) {
        long id = strtol(word, &end, 10);
        if (end == word || !strchr(blanks, *end) || id < 0 || id >= t->size)
            return fail(err, "'%.*s' is not an id from 0 to %d", (int)strcspn(word, blanks), word,
                        t->size - 1);
        ids[n++] = (int)id;
    }
    return n;
}

/* The lines of the standard input, of any length, to the standard output. */
static int convert(const char *path, int decode, Error *err)
{
    Tokenizer t;
    Buffer line = {0}, out = {0};
    Error inner;
    size_t length, number = 1;
    int c = 0;
    char *json = read_file(path, &length, err);
    if (!json) return -1;
    int status = tokenizer_from_json(&t, json, length, &inner);
    if (status) fail(err, "%s: %s", path, inner.text);
    for (; !status && c != EOF && !ferror(stdout); number++) {
        line.length = out.length = 0;
        for (buffer_add(&line, "", 0); (c = getc(stdin)) != EOF && c != '\n' && !line.failed;)
            buffer_add(&line, (char[]){(char)c}, 1);
        if (c == EOF && line.length == 0) break;
        size_t most = line.length + 2; /* a token takes a byte at least, and so does an id */
        int *ids = line.failed || most > INT_MAX ? NULL : malloc(most * sizeof *ids);
        fail(&inner, "out of memory");
        long n = !ids     ? -1
                 : decode ? read_ids(&t, &line, ids, &inner)
                          : tokenizer_encode(&t, line.text, line.length, ids, (long)most);
        if (decode && n >= 0) tokenizer_decode(&t, ids, (int)n, 0, &out);
        for (long i = 0; !decode && i < n; i++) buffer_print(&out, i ? " %d" : "%d", ids[i]);
        free(ids);
        buffer_add(&out, "\n", 1);
        if (n < 0 || out.failed)
            status = fail(err, "line %zu: %s", number, inner.text);
        else
            fwrite(out.text, 1, out.length, stdout);
    }
    if (!status && ferror(stdin))
        status = fail(err, "cannot read the standard input: %s", strerror(errno));
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(err, "cannot write the standard output");
    tokenizer_free(&t), free(line.text), free(out.text), free(json);
    return status;
}

int main(int argc, char **argv)
{
    int vocab_size = 10000, min_frequency = 1, help = 0;
    const char *out = NULL, *operand[2] = {"", ""};
    Error err;
    Option table[] = {{"vocab-size", OPT_INT, &vocab_size, .min = 6, .max = 1000000,
                       .help = "train: tokens at most, all in all", .deflt = "10000"},
                      {"min-frequency", OPT_INT, &min_frequency, .min = 1, .max = 1000000,
                       .help = "train: rarer words are [UNK]", .deflt = "1"},
                      {"out", OPT_TEXT, &out, .help = "train: the file to write",
                       .deflt = "FILE's name with .json, here"},
                      {"help", OPT_FLAG, &help, .help = "print this and exit"},
                      {.name = NULL}};
    int status = options_parse(table, argc, argv, operand, 2, &err);
    int training = strcmp(operand[0], "train-word-level") == 0,
        decode = strcmp(operand[0], "decode") == 0;
    if (status >= 0 && help) {
        puts("tokenizer train-word-level FILE   make a vocabulary from a text\n"
             "tokenizer encode FILE.json        lines of text to lines of ids (standard input to "
             "output)\n"
             "tokenizer decode FILE.json        lines of ids to lines of text");
        options_help(table, stdout);
        return fflush(stdout) || ferror(stdout);
    }
    if (status >= 0 && (status < 2 || (!training && !decode && strcmp(operand[0], "encode") != 0)))
        status = fail(&err, "expected train-word-level, encode or decode and a file; see --help");
    else if (status >= 0 && !training && (table[0].given || table[1].given || table[2].given))
        status = fail(&err, "--vocab-size, --min-frequency and --out belong to train-word-level");
    int usage = status < 0;
    if (!usage)
        status = training ? train(operand[1], vocab_size, min_frequency, out, &err)
                          : convert(operand[1], decode, &err);
    if (status < 0) fprintf(stderr, "tokenizer: %s\n", err.text);
    return status < 0 ? 1 + usage : 0;
}
#endif
