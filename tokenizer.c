/* tokenizer.c - text to token ids and back; the JSON and the command lines that go with it.
 *
 * A model of text does not see letters: it sees integers, the rows of its embedding table. A word-level
 * tokenizer makes one integer of every word, by these rules in this order (those of Hugging Face's WordLevel
 * with the normalizer NFD, Lowercase, StripAccents and the pre-tokenizer Digits, Whitespace):
 *
 *   1. the special tokens [UNK] [CLS] [SEP] [PAD] [MASK], where the text spells them out, are cut out as they are;
 *   2. every code point is decomposed (NFD: e-acute becomes e and a combining accent), lower-cased on its own (so
 *      a Greek final sigma stays sigma), and combining marks are dropped: "Café" becomes "cafe";
 *   3. every numeric character is a token by itself: "42" becomes "4" "2";
 *   4. the rest is split at white space and wherever word characters meet symbols: "what?!" becomes "what" "?!";
 *   5. a token outside the vocabulary becomes [UNK]; [CLS] goes in front, [SEP] behind.
 *
 * The vocabulary is the five specials and then the words of a training text, the most frequent first.
 * What was dropped or unknown is lost, so decoding gives a readable text, not the original.
 *
 * Order: Buffer, UTF-8, JSON, options, Unicode tables, splitting, vocabulary, tokenizer.json, the program. */
#include "tdiff.h"
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- Buffer ------------------------------------------------------------------------------------ */

/* Room for n more bytes and the closing NUL. */
static int buffer_reserve(Buffer *b, size_t n)
{
    size_t capacity = b->capacity ? b->capacity : 64;
    if (!b->failed && n < b->capacity && b->length < b->capacity - n) return 1;
    if (b->failed || n >= (size_t)-1 / 2 - b->length) return b->failed = 1, 0;
    while (capacity <= b->length + n) capacity *= 2;
    char *grown = realloc(b->text, capacity);
    if (!grown) return b->failed = 1, 0;
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
    int n;
    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) b->failed = 1;
    if (n < 0 || !buffer_reserve(b, (size_t)n)) return;
    va_start(args, format);
    vsnprintf(b->text + b->length, (size_t)n + 1, format, args);
    va_end(args);
    b->length += (size_t)n;
}

/* ---- UTF-8 ------------------------------------------------------------------------------------- */

/* The code point at s and its length in bytes; 0 if no well-formed sequence starts there. */
static size_t utf8_read(const char *s, size_t n, uint32_t *code)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000}; /* a longer form than needed is malformed */
    const unsigned char *u = (const unsigned char *)s;
    size_t length = u[0] < 0x80 ? 1 : u[0] < 0xC0 ? 0 : u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3 : u[0] < 0xF8 ? 4 : 0;
    if (length == 0 || length > n) return 0;
    *code = length == 1 ? u[0] : u[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((u[i] & 0xC0) != 0x80) return 0;
        *code = *code << 6 | (u[i] & 0x3F);
    }
    return *code < smallest[length] || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000) ? 0 : length;
}

static void utf8_add(Buffer *b, uint32_t c)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (!buffer_reserve(b, n)) return;
    char *s = b->text + b->length;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) s[i] = (char)(0x80 | (c & 0x3F));
    s[0] = (char)(n == 1 ? c : (0xF00u >> n & 0xFF) | c);
    s[n] = '\0';
    b->length += n;
}

/* ---- JSON (RFC 8259) ----------------------------------------------------------------------------- */

void buffer_json_string(Buffer *b, const char *bytes, size_t n)
{
    uint32_t c;
    buffer_add(b, "\"", 1);
    for (size_t i = 0, length; i < n; i += length ? length : 1) {
        length = utf8_read(bytes + i, n - i, &c);
        if (!length) utf8_add(b, 0xFFFD);
        else if (c < 0x20) buffer_print(b, "\\u%04x", (unsigned)c);
        else {
            if (c == '"' || c == '\\') buffer_add(b, "\\", 1);
            buffer_add(b, bytes + i, length);
        }
    }
    buffer_add(b, "\"", 1);
}

enum { JSON_MAX_DEPTH = 64 }; /* the parser is recursive: a hostile file must not eat the stack */
typedef struct { const char *text; size_t at, n; Json *j; int capacity; Error *err; } JsonParser;

static int json_fail(const JsonParser *p, const char *what) { return fail(p->err, "JSON, byte %zu: %s", p->at, what); }

static int json_peek(const JsonParser *p) { return p->at < p->n ? (unsigned char)p->text[p->at] : EOF; }

static int json_skip(JsonParser *p) /* white space; returns what follows */
{
    int c;
    while ((c = json_peek(p)) == ' ' || c == '\t' || c == '\n' || c == '\r') p->at++;
    return c;
}

static int json_new(JsonParser *p, JsonType type) /* the index of a new node, or -1 */
{
    Json *j = p->j;
    if (j->count == p->capacity) {
        JsonNode *grown = NULL;
        int capacity = p->capacity ? p->capacity : 32;
        if (capacity <= INT_MAX / 2 && (size_t)(capacity *= 2) <= (size_t)-1 / sizeof *grown)
            grown = realloc(j->node, (size_t)capacity * sizeof *grown);
        if (!grown) return json_fail(p, "out of memory");
        j->node = grown;
        p->capacity = capacity;
    }
    j->node[j->count] = (JsonNode){type, p->at, p->at, 0, j->count + 1};
    return j->count++;
}

static long hex4(const char *s, size_t n) /* four hexadecimal digits, or -1 */
{
    long v = 0;
    if (n < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int lower = s[i] | 32;
        if (s[i] >= '0' && s[i] <= '9') v = v << 4 | (s[i] - '0');
        else if (lower >= 'a' && lower <= 'f') v = v << 4 | (lower - 'a' + 10);
        else return -1;
    }
    return v;
}

/* One character inside a string, plain or escaped; returns the bytes it takes, 0: not allowed. */
static size_t json_character(const char *s, size_t n, uint32_t *code)
{
    static const char escapes[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    const char *e;
    long high, low;
    if (n == 0 || (unsigned char)s[0] < 0x20) return 0;
    if (s[0] != '\\') return utf8_read(s, n, code);
    if (n < 2 || !s[1]) return 0;
    if (s[1] != 'u') return (e = strchr(escapes, s[1])) ? *code = (uint32_t)meaning[e - escapes], 2 : 0;
    high = hex4(s + 2, n - 2);
    if (high < 0 || (high >= 0xDC00 && high < 0xE000)) return 0;
    *code = (uint32_t)high;
    if (high < 0xD800 || high >= 0xDC00) return 6;
    low = n < 12 || s[6] != '\\' || s[7] != 'u' ? -1 : hex4(s + 8, n - 8); /* beyond U+FFFF: two surrogates */
    if (low < 0xDC00 || low >= 0xE000) return 0;
    *code = (uint32_t)(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
    return 12;
}

static int json_string(JsonParser *p)
{
    uint32_t c;
    size_t length;
    int node;
    if (json_peek(p) != '"') return json_fail(p, "expected a string");
    p->at++;
    if ((node = json_new(p, JSON_STRING)) < 0) return -1;
    for (; json_peek(p) != '"'; p->at += length) {
        if (p->at == p->n) return json_fail(p, "the string does not end");
        length = json_character(p->text + p->at, p->n - p->at, &c);
        if (!length) return json_fail(p, "bad UTF-8, escape or control character in a string");
    }
    p->j->node[node].end = p->at++;
    return 0;
}

static int json_digits(JsonParser *p)
{
    size_t begin = p->at;
    while (json_peek(p) >= '0' && json_peek(p) <= '9') p->at++;
    return p->at > begin ? 0 : json_fail(p, "expected a digit");
}

static int json_number(JsonParser *p)
{
    int node = json_new(p, JSON_NUMBER);
    if (node < 0) return -1;
    if (json_peek(p) == '-') p->at++;
    if (json_peek(p) == '0') p->at++; /* no digit may follow a leading zero */
    else if (json_digits(p) < 0) return -1;
    if (json_peek(p) == '.' && (p->at++, json_digits(p) < 0)) return -1;
    if (json_peek(p) == 'e' || json_peek(p) == 'E') {
        p->at++;
        if (json_peek(p) == '+' || json_peek(p) == '-') p->at++;
        if (json_digits(p) < 0) return -1;
    }
    p->j->node[node].end = p->at;
    return 0;
}

static int json_value(JsonParser *p, int depth)
{
    static const char *const word[] = {"null", "false", "true"}; /* in the order of JsonType */
    int c = json_skip(p), node, close = c == '{' ? '}' : ']';
    if (c == EOF) return json_fail(p, "the text ends too early");
    if (c == '"') return json_string(p);
    if (c == '-' || (c >= '0' && c <= '9')) return json_number(p);
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(word[i]);
        if (p->n - p->at < length || memcmp(p->text + p->at, word[i], length) != 0) continue;
        if ((node = json_new(p, (JsonType)i)) < 0) return -1;
        p->j->node[node].end = p->at += length;
        return 0;
    }
    if (c != '{' && c != '[') return json_fail(p, "expected a value");
    if (depth == JSON_MAX_DEPTH) return json_fail(p, "nested too deeply");
    if ((node = json_new(p, c == '{' ? JSON_OBJECT : JSON_ARRAY)) < 0) return -1;
    p->at++;
    if (json_skip(p) != close) {
        for (;; p->at++) {
            if (c == '{') {
                json_skip(p);
                if (json_string(p) < 0) return -1;
                if (json_skip(p) != ':') return json_fail(p, "expected ':'");
                p->at++;
            }
            if (json_value(p, depth + 1) < 0) return -1;
            p->j->node[node].size++;
            if (json_skip(p) == close) break;
            if (json_peek(p) != ',') return json_fail(p, c == '{' ? "expected ',' or '}'" : "expected ',' or ']'");
        }
    }
    p->j->node[node].end = ++p->at;
    p->j->node[node].next = p->j->count;
    return 0;
}

int json_parse(Json *j, const char *text, size_t n, Error *err)
{
    JsonParser p = {text, 0, n, j, 0, err};
    *j = (Json){text, NULL, 0};
    if (json_value(&p, 0) < 0) return -1;
    return json_skip(&p) == EOF && p.at == n ? 0 : json_fail(&p, "something follows the end of the document");
}

void json_free(Json *j)
{
    free(j->node);
    *j = (Json){NULL, NULL, 0};
}

char *json_text(const Json *j, int node, size_t *length)
{
    Buffer b = {0};
    uint32_t c;
    if (node < 0 || node >= j->count || j->node[node].type != JSON_STRING) return NULL;
    buffer_add(&b, "", 0);
    for (size_t i = j->node[node].begin, used; i < j->node[node].end; i += used) {
        used = json_character(j->text + i, j->node[node].end - i, &c);
        if (!used) b.failed = used = 1; /* cannot happen in a parsed text that has not changed since */
        else utf8_add(&b, c);
    }
    if (b.failed) {
        free(b.text);
        return NULL;
    }
    *length = b.length;
    return b.text;
}

static int json_is(const Json *j, int node, const char *text) /* is it this string? */
{
    size_t length;
    char *s = json_text(j, node, &length);
    int same = s && length == strlen(text) && memcmp(s, text, length) == 0;
    free(s);
    return same;
}

int json_find(const Json *j, int object, const char *key)
{
    if (object < 0 || object >= j->count || j->node[object].type != JSON_OBJECT) return -1;
    for (int i = object + 1; i < j->node[object].next; i = j->node[i + 1].next)
        if (json_is(j, i, key)) return i + 1;
    return -1;
}

int json_integer(const Json *j, int node, int64_t *value)
{
    if (node < 0 || node >= j->count || j->node[node].type != JSON_NUMBER) return -1;
    const char *s = j->text + j->node[node].begin, *end = j->text + j->node[node].end;
    int negative = *s == '-';
    int64_t v = 0;
    for (s += negative; s < end; s++) { /* counted downwards: the negative side reaches one further */
        int digit = *s - '0';
        if (digit < 0 || digit > 9 || v < (INT64_MIN + digit) / 10) return -1;
        v = v * 10 - digit;
    }
    if (!negative && v == INT64_MIN) return -1;
    *value = negative ? v : -v;
    return 0;
}

/* ---- command-line options ------------------------------------------------------------------------ */

static const char *option_dashes(const Option *o) { return o->name[1] ? "--" : "-"; }

/* The fewest digits that strtod reads back as v; 100 rather than 1e+02. */
static void print_shortest(Buffer *b, double v)
{
    char s[40];
    int whole = v > -1e9 && v < 1e9 && v == (long)v;
    for (int digits = whole ? 10 : 1; digits <= 17; digits++) {
        sprintf(s, "%.*g", digits, v);
        if (strtod(s, NULL) == v) break;
    }
    buffer_print(b, "%s", s);
}

static int option_out_of_range(const Option *o, const char *text, Error *err)
{
    Buffer b = {0};
    print_shortest(&b, o->min);
    buffer_add(&b, " to ", 4);
    print_shortest(&b, o->max);
    fail(err, "%s%s: %s is out of range, expected %s", option_dashes(o), o->name, text, b.failed ? "less" : b.text);
    free(b.text);
    return -1;
}

int option_set(Option *o, const char *text, Error *err)
{
    const char *dashes = option_dashes(o);
    char *end = NULL;
    int blank = !*text || strchr(" \t\n\v\f\r", *text) != NULL; /* strtol and strtod would skip it */
    if (o->kind == OPT_TEXT) {
        *(const char **)o->value = text;
    } else if (o->kind == OPT_INT) {
        errno = 0;
        long v = strtol(text, &end, 10);
        if (blank || *end) return fail(err, "%s%s: '%s' is not a whole number", dashes, o->name, text);
        if (errno || v < INT_MIN || v > INT_MAX || (double)v < o->min || (double)v > o->max)
            return option_out_of_range(o, text, err);
        *(int *)o->value = (int)v;
    } else if (o->kind == OPT_REAL) {
        double v = strtod(text, &end);
        if (blank || *end || v - v != 0) return fail(err, "%s%s: '%s' is not a finite number", dashes, o->name, text);
        if (v < o->min || v > o->max) return option_out_of_range(o, text, err);
        *(double *)o->value = v;
    } else if (o->kind == OPT_FLAG) {
        if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
            return fail(err, "%s%s: '%s' is neither 0 nor 1", dashes, o->name, text);
        *(int *)o->value = *text == '1';
    } else {
        Buffer names = {0};
        for (int i = 0; o->choices[i]; i++) {
            if (strcmp(o->choices[i], text) == 0) {
                free(names.text);
                *(int *)o->value = i;
                return 0;
            }
            buffer_print(&names, "%s%s", i ? ", " : "", o->choices[i]);
        }
        fail(err, "%s%s: '%s' is none of %s", dashes, o->name, text, names.failed ? "its names" : names.text);
        free(names.text);
        return -1;
    }
    return 0;
}

void option_print(const Option *o, Buffer *out)
{
    const char *text = o->kind == OPT_TEXT ? *(const char **)o->value : NULL;
    if (o->kind == OPT_REAL) print_shortest(out, *(double *)o->value);
    else if (o->kind == OPT_TEXT) buffer_print(out, "%s", text ? text : "");
    else if (o->kind == OPT_CHOICE) buffer_print(out, "%s", o->choices[*(int *)o->value]);
    else buffer_print(out, "%d", *(int *)o->value);
}

static Option *option_find(Option *table, const char *name, size_t n)
{
    for (Option *o = table; o->name; o++) {
        size_t i = 0;
        while (i < n && o->name[i] && (o->name[i] == '_' ? '-' : o->name[i]) == (name[i] == '_' ? '-' : name[i])) i++;
        if (i == n && !o->name[i]) return o;
    }
    return NULL;
}

int options_parse(Option *table, int argc, char **argv, const char **operand, int max_operands, Error *err)
{
    int operands = 0, only_operands = 0;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *name = arg + 1 + (arg[0] && arg[1] == '-'), *value = NULL;
        if (!only_operands && strcmp(arg, "--") == 0) {
            only_operands = 1;
        } else if (only_operands || arg[0] != '-' || !arg[1]) {
            if (operands == max_operands) return fail(err, "'%s' is one operand too many; see --help", arg);
            operand[operands++] = arg;
        } else {
            size_t n = strcspn(name, "=");
            Option *o = option_find(table, name, n);
            if (!o || (arg[1] != '-' && n != 1)) /* -name is not --name */
                return fail(err, "unknown option %.*s; see --help", (int)(name - arg + (long)n), arg);
            if (name[n] == '=') value = name + n + 1;
            if (o->kind == OPT_FLAG) {
                if (value) return fail(err, "%s%s takes no value", option_dashes(o), o->name);
                value = "1";
            } else if (!value) { /* what looks like an option is not a value, but -1 is, and --name=--x is possible */
                if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0)
                    return fail(err, "%s%s needs a value; see --help", option_dashes(o), o->name);
                value = argv[++i];
            }
            if (option_set(o, value, err) < 0) return -1;
            o->given = 1;
        }
    }
    return operands;
}

void options_help(const Option *table, FILE *out)
{
    static const char *const type[] = {"INT", "REAL", "TEXT", "", "NAME"}; /* in the order of OptionKind */
    size_t width = 0;
    for (const Option *o = table; o->name; o++) {
        size_t n = strlen(option_dashes(o)) + strlen(o->name) + 1 + strlen(type[o->kind]);
        if (n > width) width = n;
    }
    for (const Option *o = table; o->name; o++) {
        Buffer line = {0}, value = {0};
        buffer_print(&line, "%s%s %s", option_dashes(o), o->name, type[o->kind]);
        fprintf(out, "  %-*s  %s", (int)width, line.failed ? "" : line.text, o->help);
        for (int i = 0; o->kind == OPT_CHOICE && o->choices[i]; i++)
            fprintf(out, "%s%s", i ? ", " : ": ", o->choices[i]);
        if (o->deflt || o->kind == OPT_FLAG) buffer_print(&value, "%s", o->deflt ? o->deflt : "");
        else option_print(o, &value);
        if (!value.failed && value.length) fprintf(out, " (default %s)", value.text);
        fputc('\n', out);
        free(line.text);
        free(value.text);
    }
}

/* ---- Unicode ------------------------------------------------------------------------------------- */

/* The tables were made with Python's unicodedata (Unicode 14). Decomposing, lower-casing and dropping marks
 * together map a code point to one other at most, here for Latin, Greek, Cyrillic, Arabic, Indic scripts and kana;
 * Hangul, Hebrew and CJK compatibility forms and mathematical signs are not decomposed. Where most of a block has
 * base letters, they are written as a string, one character (+ offset) per code point, '.' if none. */
static const struct { uint32_t first, last, offset; const char *letter; } base_letters[] = {
    {0xC0, 0x17F, 0,
     "aaaaaa.ceeeeiiii.nooooo..uuuuy..aaaaaa.ceeeeiiii.nooooo..uuuuy.yaaaaaaccccccccdd..eeeeeeeeeegggggggghh..iiiiiiii"
     "i...jjkk.llllll....nnnnnn...oooooo..rrrrrrsssssssstttt..uuuuuuuuuuuuwwyyyzzzzzz."},
    {0x1A0, 0x1F9, 0,
     "oo.............uu............................aaiioouuuuuuuuuu.aaaa....ggkkoooo..j...gg..nn"},
    {0x1FA, 0x233, 0,
     "aa....aaaaeeeeiiiioooorrrruuuusstt..hh......aaeeooooooooyy"},
    {0x386, 0x3CE, 0x3B1 - 'a',
     "a.egi.o.uyiabcdefghijklmnopq.stuvwxyiuaegiu.........................iuouy"},
    {0x400, 0x45E, 0x430 - '@',
     "EE.C........JHS.@ABCDEFGHHJKLMNOPQRSTUVWXYZ[.]^_.........H......................EE.C........JHS"},
    {0x4C1, 0x4F9, 0x430 - '@',
     "FF.............@@@@..EE....FFGG..HHHHNN....]]SSSSSSWW..[["},
    {0x1E00, 0x1EF9, 0,
     "aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmmmmmmnnnnnnnnoooooooopppprrrrrrrrsssssssssstttttt"
     "ttuuuuuuuuuuvvvvwwwwwwwwwwxxxxyyzzzzzzhtwy......aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeeeeeeeeeeeiiiioooooooooooooooooooo"
     "oooouuuuuuuuuuuuuuyyyyyyyy"},
    {0x1F00, 0x1FFC, 0x3B1 - 'a',
     "aaaaaaaaaaaaaaaaeeeeee..eeeeee..ggggggggggggggggiiiiiiiiiiiiiiiioooooo..oooooo..uuuuuuuu.u.u.u.uyyyyyyyyyyyyyyyy"
     "aaeeggiioouuyy..aaaaaaaaaaaaaaaaggggggggggggggggyyyyyyyyyyyyyyyyaaaaa.aaaaaaa.i...ggg.ggeeggg...iiii..iiiiii...."
     "uuuuqquuuuuuq.....yyy.yyooyyy"},
    {0x304C, 0x3094, 0x304B - '0',
     "0.2.4.6.8.:.<.>.@.B.D.F..I.K.M......TT.WW.ZZ.]].``......................."},
    {0x30AC, 0x30F4, 0x30AB - '0',
     "0.2.4.6.8.:.<.>.@.B.D.F..I.K.M......TT.WW.ZZ.]].``......................."},
};
/* What remains, mostly plain lower-casing: from first to last, every step-th code point moves by delta. */
static const struct { uint32_t first, last; int step, delta; } fold_ranges[] = {
    {0xC6,0xDE,2,32}, {0x110,0x132,2,1}, {0x13F,0x141,2,1}, {0x14A,0x166,2,1}, {0x181,0x181,1,210}, {0x182,0x184,2,1},
    {0x186,0x186,1,206}, {0x187,0x187,1,1}, {0x189,0x18A,1,205}, {0x18B,0x18B,1,1}, {0x18E,0x18E,1,79},
    {0x18F,0x18F,1,202}, {0x190,0x190,1,203}, {0x191,0x191,1,1}, {0x193,0x193,1,205}, {0x194,0x194,1,207},
    {0x196,0x196,1,211}, {0x197,0x197,1,209}, {0x198,0x198,1,1}, {0x19C,0x19C,1,211}, {0x19D,0x19D,1,213},
    {0x19F,0x19F,1,214}, {0x1A2,0x1A4,2,1}, {0x1A6,0x1A6,1,218}, {0x1A7,0x1A7,1,1}, {0x1A9,0x1A9,1,218},
    {0x1AC,0x1AC,1,1}, {0x1AE,0x1AE,1,218}, {0x1B1,0x1B2,1,217}, {0x1B3,0x1B5,2,1}, {0x1B7,0x1B7,1,219},
    {0x1B8,0x1B8,1,1}, {0x1BC,0x1BC,1,1}, {0x1C4,0x1C4,1,2}, {0x1C5,0x1C5,1,1}, {0x1C7,0x1C7,1,2}, {0x1C8,0x1C8,1,1},
    {0x1CA,0x1CA,1,2}, {0x1CB,0x1CB,1,1}, {0x1E2,0x1E2,1,-252}, {0x1E3,0x1E3,1,-253}, {0x1E4,0x1E4,1,1},
    {0x1EE,0x1EE,1,164}, {0x1EF,0x1EF,1,163}, {0x1F1,0x1F1,1,2}, {0x1F2,0x1F2,1,1}, {0x1F6,0x1F6,1,-97},
    {0x1F7,0x1F7,1,-56}, {0x1FC,0x1FC,1,-278}, {0x1FD,0x1FD,1,-279}, {0x1FE,0x1FE,1,-262}, {0x1FF,0x1FF,1,-263},
    {0x21C,0x21C,1,1}, {0x220,0x220,1,-130}, {0x222,0x224,2,1}, {0x23A,0x23A,1,10795}, {0x23B,0x23B,1,1},
    {0x23D,0x23D,1,-163}, {0x23E,0x23E,1,10792}, {0x241,0x241,1,1}, {0x243,0x243,1,-195}, {0x244,0x244,1,69},
    {0x245,0x245,1,71}, {0x246,0x24E,2,1}, {0x370,0x372,2,1}, {0x374,0x374,1,-187}, {0x376,0x376,1,1},
    {0x37E,0x37E,1,-835}, {0x37F,0x37F,1,116}, {0x385,0x385,1,-733}, {0x387,0x387,1,-720}, {0x3CF,0x3CF,1,8},
    {0x3D3,0x3D3,1,-1}, {0x3D4,0x3D4,1,-2}, {0x3D8,0x3EE,2,1}, {0x3F4,0x3F4,1,-60}, {0x3F7,0x3F7,1,1},
    {0x3F9,0x3F9,1,-7}, {0x3FA,0x3FA,1,1}, {0x3FD,0x3FF,1,-130}, {0x402,0x406,1,80}, {0x407,0x407,1,79},
    {0x408,0x40F,1,80}, {0x42C,0x42C,1,32}, {0x457,0x457,1,-1}, {0x460,0x474,2,1}, {0x476,0x476,1,-1},
    {0x477,0x477,1,-2}, {0x478,0x480,2,1}, {0x48A,0x4BE,2,1}, {0x4C0,0x4C0,1,15}, {0x4C3,0x4CD,2,1},
    {0x4D4,0x4D8,2,1}, {0x4DA,0x4DA,1,-1}, {0x4DB,0x4DB,1,-2}, {0x4E0,0x4E8,2,1}, {0x4EA,0x4EA,1,-1},
    {0x4EB,0x4EB,1,-2}, {0x4F6,0x52E,2,1}, {0x531,0x556,1,48}, {0x622,0x622,1,5}, {0x623,0x623,1,4},
    {0x624,0x624,1,36}, {0x625,0x625,1,2}, {0x626,0x626,1,36}, {0x6C0,0x6C0,1,21}, {0x6C2,0x6C2,1,-1},
    {0x6D3,0x6D3,1,-1}, {0x929,0x929,1,-1}, {0x931,0x934,3,-1}, {0x958,0x95A,1,-67}, {0x95B,0x95B,1,-63},
    {0x95C,0x95D,1,-59}, {0x95E,0x95E,1,-51}, {0x95F,0x95F,1,-48}, {0x9DC,0x9DD,1,-59}, {0x9DF,0x9DF,1,-48},
    {0xA33,0xA33,1,-1}, {0xA36,0xA36,1,2}, {0xA59,0xA5A,1,-67}, {0xA5B,0xA5B,1,-63}, {0xA5E,0xA5E,1,-51},
    {0xB5C,0xB5D,1,-59}, {0xB94,0xB94,1,-2}, {0x10A0,0x10CD,1,7264}, {0x13A0,0x13EF,1,38864}, {0x13F0,0x13F5,1,8},
    {0x1C90,0x1CBF,1,-3008}, {0x1E9B,0x1E9B,1,-7452}, {0x1E9E,0x1E9E,1,-7615}, {0x1EFA,0x1EFE,2,1},
    {0x1FC1,0x1FC1,1,-7961}, {0x1FCD,0x1FCD,1,-14}, {0x1FCE,0x1FCE,1,-15}, {0x1FCF,0x1FCF,1,-16},
    {0x1FDD,0x1FDD,1,33}, {0x1FDE,0x1FDE,1,32}, {0x1FDF,0x1FDF,1,31}, {0x1FED,0x1FED,1,-8005},
    {0x1FEE,0x1FEE,1,-8006}, {0x1FEF,0x1FEF,1,-8079}, {0x1FFD,0x1FFD,1,-8009}, {0x2126,0x2126,1,-7517},
    {0x212A,0x212A,1,-8383}, {0x212B,0x212B,1,-8394}, {0x2132,0x2132,1,28}, {0x2160,0x216F,1,16}, {0x2183,0x2183,1,1},
    {0x24B6,0x24CF,1,26}, {0x2C00,0x2C2F,1,48}, {0x2C60,0x2C60,1,1}, {0x2C62,0x2C62,1,-10743},
    {0x2C63,0x2C63,1,-3814}, {0x2C64,0x2C64,1,-10727}, {0x2C67,0x2C6B,2,1}, {0x2C6D,0x2C6D,1,-10780},
    {0x2C6E,0x2C6E,1,-10749}, {0x2C6F,0x2C6F,1,-10783}, {0x2C70,0x2C70,1,-10782}, {0x2C72,0x2C75,3,1},
    {0x2C7E,0x2C7F,1,-10815}, {0x2C80,0x2CE2,2,1}, {0x2CEB,0x2CED,2,1}, {0x2CF2,0x2CF2,1,1}, {0x3094,0x3094,1,-78},
    {0x309E,0x309E,1,-1}, {0x30F4,0x30F4,1,-78}, {0x30F7,0x30FA,1,-8}, {0x30FE,0x30FE,1,-1}, {0xA640,0xA66C,2,1},
    {0xA680,0xA69A,2,1}, {0xA722,0xA72E,2,1}, {0xA732,0xA76E,2,1}, {0xA779,0xA77B,2,1}, {0xA77D,0xA77D,1,-35332},
    {0xA77E,0xA786,2,1}, {0xA78B,0xA78B,1,1}, {0xA78D,0xA78D,1,-42280}, {0xA790,0xA792,2,1}, {0xA796,0xA7A8,2,1},
    {0xA7AA,0xA7AA,1,-42308}, {0xA7AB,0xA7AB,1,-42319}, {0xA7AC,0xA7AC,1,-42315}, {0xA7AD,0xA7AD,1,-42305},
    {0xA7AE,0xA7AE,1,-42308}, {0xA7B0,0xA7B0,1,-42258}, {0xA7B1,0xA7B1,1,-42282}, {0xA7B2,0xA7B2,1,-42261},
    {0xA7B3,0xA7B3,1,928}, {0xA7B4,0xA7C2,2,1}, {0xA7C4,0xA7C4,1,-48}, {0xA7C5,0xA7C5,1,-42307},
    {0xA7C6,0xA7C6,1,-35384}, {0xA7C7,0xA7C9,2,1}, {0xA7D0,0xA7D8,2,1}, {0xA7F5,0xA7F5,1,1}, {0xFF21,0xFF3A,1,32},
    {0x10400,0x10427,1,40}, {0x104B0,0x104D3,1,40}, {0x10570,0x10595,1,39}, {0x10C80,0x10CB2,1,64},
    {0x118A0,0x118BF,1,32}, {0x16E40,0x16E5F,1,32}, {0x1E900,0x1E921,1,34},
};
/* The last hexadecimal digit is a Class, the others are the code point where it begins. Unassigned code points
 * take the class before them, which keeps the table short. A word character is what \w means to a Unicode regular
 * expression: alphabetic, a mark, a decimal digit, a connector such as '_', or a zero-width joiner. */
typedef enum { WORD, MARK, NUMBER, SPACE, SYMBOL } Class;
static const uint32_t class_starts[] = {
    0x804,0x853,0x864,0xA03,0xA14,0xAA0,0xAB4,0xB22,0xB44,0xB50,0xB64,0xB92,0xBA0,0xBB4,0xBC2,0xBF4,0xC00,0xD74,0xD80,
    0xF74,0xF80,0x2C24,0x2C60,0x2D24,0x2E00,0x2E54,0x2EC0,0x2ED4,0x2EE0,0x2EF4,0x3001,0x3700,0x3754,0x3760,0x37E4,
    0x37F0,0x3844,0x3860,0x3874,0x3880,0x3F64,0x3F70,0x4824,0x4831,0x48A0,0x55A4,0x5600,0x5894,0x5911,0x5BE4,0x5BF1,
    0x5C04,0x5C11,0x5C34,0x5C41,0x5C64,0x5C71,0x5D00,0x5F34,0x6101,0x61B4,0x6200,0x64B1,0x6602,0x66A4,0x66E0,0x6701,
    0x6710,0x6D44,0x6D50,0x6D61,0x6DD4,0x6DF1,0x6E50,0x6E71,0x6E94,0x6EA1,0x6EE0,0x6F02,0x6FA0,0x6FD4,0x6FF0,0x7004,
    0x7100,0x7111,0x7120,0x7301,0x74D0,0x7A61,0x7B10,0x7C02,0x7CA0,0x7EB1,0x7F40,0x7F64,0x7FA0,0x7FD1,0x7FE4,0x8000,
    0x8161,0x81A0,0x81B1,0x8240,0x8251,0x8280,0x8291,0x8304,0x8400,0x8591,0x85E4,0x8600,0x8884,0x8890,0x8904,0x8981,
    0x8A00,0x8CA1,0x8E24,0x8E31,0x9040,0x93A1,0x93D0,0x93E1,0x9500,0x9511,0x9580,0x9621,0x9644,0x9662,0x9704,0x9710,
    0x9811,0x9850,0x9BC1,0x9BD0,0x9BE1,0x9CE0,0x9D71,0x9DC0,0x9E21,0x9E62,0x9F00,0x9F24,0x9F42,0x9FA4,0x9FC0,0x9FD4,
    0x9FE1,0xA050,0xA3C1,0xA590,0xA662,0xA701,0xA720,0xA751,0xA764,0xA811,0xA850,0xABC1,0xABD0,0xABE1,0xAD00,0xAE21,
    0xAE62,0xAF04,0xAF90,0xAFA1,0xB050,0xB3C1,0xB3D0,0xB3E1,0xB5C0,0xB621,0xB662,0xB704,0xB710,0xB722,0xB821,0xB830,
    0xBBE1,0xBD00,0xBD71,0xBE62,0xBF34,0xC001,0xC050,0xC3C1,0xC3D0,0xC3E1,0xC580,0xC621,0xC662,0xC774,0xC782,0xC7F4,
    0xC800,0xC811,0xC844,0xC850,0xCBC1,0xCBD0,0xCBE1,0xCDD0,0xCE21,0xCE62,0xCF10,0xD001,0xD040,0xD3B1,0xD3D0,0xD3E1,
    0xD4E0,0xD4F4,0xD540,0xD571,0xD582,0xD5F0,0xD621,0xD662,0xD794,0xD7A0,0xD811,0xD850,0xDCA1,0xDE62,0xDF21,0xDF44,
    0xE010,0xE311,0xE320,0xE341,0xE3F4,0xE400,0xE471,0xE4F4,0xE502,0xE5A4,0xE810,0xEB11,0xEB20,0xEB41,0xEBD0,0xEC81,
    0xED02,0xEDC0,0xF014,0xF181,0xF1A4,0xF202,0xF344,0xF351,0xF364,0xF371,0xF384,0xF391,0xF3A4,0xF3E1,0xF400,0xF711,
    0xF854,0xF861,0xF880,0xF8D1,0xFBE4,0xFC61,0xFC74,0x10000,0x102B1,0x103F0,0x10402,0x104A4,0x10500,0x10561,0x105A0,
    0x105E1,0x10610,0x10621,0x10650,0x10671,0x106E0,0x10711,0x10750,0x10821,0x108E0,0x108F1,0x10902,0x109A1,0x109E4,
    0x10A00,0x10FB4,0x10FC0,0x135D1,0x13604,0x13692,0x13800,0x13904,0x13A00,0x14004,0x14010,0x166D4,0x166F0,0x16803,
    0x16810,0x169B4,0x16A00,0x16EB4,0x16EE2,0x16F10,0x17121,0x171F0,0x17321,0x17354,0x17400,0x17521,0x17600,0x17721,
    0x17800,0x17B41,0x17D44,0x17D70,0x17D84,0x17DC0,0x17DD1,0x17E02,0x18004,0x180B1,0x180E4,0x180F1,0x18102,0x18200,
    0x18851,0x18870,0x18A91,0x18AA0,0x19201,0x19404,0x19462,0x19500,0x19D02,0x19DE4,0x1A000,0x1A171,0x1A1E4,0x1A200,
    0x1A551,0x1A802,0x1AA04,0x1AA70,0x1AA84,0x1AB01,0x1B050,0x1B341,0x1B450,0x1B502,0x1B5A4,0x1B6B1,0x1B744,0x1B801,
    0x1B830,0x1BA11,0x1BAE0,0x1BB02,0x1BBA0,0x1BE61,0x1BFC4,0x1C000,0x1C241,0x1C3B4,0x1C402,0x1C4D0,0x1C502,0x1C5A0,
    0x1C7E4,0x1C800,0x1CC04,0x1CD01,0x1CD34,0x1CD41,0x1CE90,0x1CED1,0x1CEE0,0x1CF41,0x1CF50,0x1CF71,0x1CFA0,0x1DC01,
    0x1E000,0x1FBD4,0x1FBE0,0x1FBF4,0x1FC20,0x1FCD4,0x1FD00,0x1FDD4,0x1FE00,0x1FED4,0x1FF20,0x1FFD4,0x20003,0x200B4,
    0x200C0,0x200E4,0x20283,0x202A4,0x202F3,0x20304,0x203F0,0x20414,0x20540,0x20554,0x205F3,0x20604,0x20702,0x20710,
    0x20742,0x207A4,0x207F0,0x20802,0x208A4,0x20900,0x20A04,0x20D01,0x21004,0x21020,0x21034,0x21070,0x21084,0x210A0,
    0x21144,0x21150,0x21164,0x21190,0x211E4,0x21240,0x21254,0x21260,0x21274,0x21280,0x21294,0x212A0,0x212E4,0x212F0,
    0x213A4,0x213C0,0x21404,0x21450,0x214A4,0x214E0,0x214F4,0x21502,0x21830,0x21852,0x218A4,0x24602,0x249C4,0x24B60,
    0x24EA2,0x25004,0x27762,0x27944,0x2C000,0x2CE54,0x2CEB0,0x2CEF1,0x2CF20,0x2CF94,0x2CFD2,0x2CFE4,0x2D000,0x2D704,
    0x2D7F1,0x2D800,0x2DE01,0x2E004,0x2E2F0,0x2E304,0x30003,0x30014,0x30050,0x30072,0x30084,0x30212,0x302A1,0x30304,
    0x30310,0x30364,0x30382,0x303B0,0x303D4,0x30410,0x30991,0x309B4,0x309D0,0x30A04,0x30A10,0x30FB4,0x30FC0,0x31904,
    0x31922,0x31964,0x31A00,0x31C04,0x31F00,0x32004,0x32202,0x322A4,0x32482,0x32504,0x32512,0x32604,0x32802,0x328A4,
    0x32B12,0x32C04,0x34000,0x4DC04,0x4E000,0xA4904,0xA4D00,0xA4FE4,0xA5000,0xA60D4,0xA6100,0xA6202,0xA62A0,0xA66F1,
    0xA6734,0xA6741,0xA67E4,0xA67F0,0xA69E1,0xA6A00,0xA6E62,0xA6F01,0xA6F24,0xA7170,0xA7204,0xA7220,0xA7894,0xA78B0,
    0xA8021,0xA8030,0xA8061,0xA8070,0xA80B1,0xA80C0,0xA8231,0xA8284,0xA82C1,0xA8302,0xA8364,0xA8400,0xA8744,0xA8801,
    0xA8820,0xA8B41,0xA8CE4,0xA8D02,0xA8E01,0xA8F20,0xA8F84,0xA8FB0,0xA8FC4,0xA8FD0,0xA8FF1,0xA9002,0xA90A0,0xA9261,
    0xA92E4,0xA9300,0xA9471,0xA95F4,0xA9600,0xA9801,0xA9840,0xA9B31,0xA9C14,0xA9CF0,0xA9D02,0xA9DE4,0xA9E00,0xA9E51,
    0xA9E60,0xA9F02,0xA9FA0,0xAA291,0xAA400,0xAA431,0xAA440,0xAA4C1,0xAA502,0xAA5C4,0xAA600,0xAA774,0xAA7A0,0xAA7B1,
    0xAA7E0,0xAAB01,0xAAB10,0xAAB21,0xAAB50,0xAAB71,0xAAB90,0xAABE1,0xAAC00,0xAAC11,0xAAC20,0xAADE4,0xAAE00,0xAAEB1,
    0xAAF04,0xAAF20,0xAAF51,0xAB010,0xAB5B4,0xAB5C0,0xAB6A4,0xAB700,0xABE31,0xABEB4,0xABEC1,0xABF02,0xAC000,0xE0004,
    0xF9000,0xFB1E1,0xFB1F0,0xFB294,0xFB2A0,0xFBB24,0xFBD30,0xFD3E4,0xFD500,0xFDCF4,0xFDF00,0xFDFC4,0xFE001,0xFE104,
    0xFE201,0xFE304,0xFE330,0xFE354,0xFE4D0,0xFE504,0xFE700,0xFEFF4,0xFF102,0xFF1A4,0xFF210,0xFF3B4,0xFF3F0,0xFF404,
    0xFF410,0xFF5B4,0xFF660,0xFFE04,0x100000,0x101004,0x101072,0x101374,0x101402,0x101794,0x1018A2,0x1018C4,0x101FD1,
    0x102800,0x102E01,0x102E12,0x103000,0x103202,0x1032D0,0x103412,0x103420,0x1034A2,0x103500,0x103761,0x103800,
    0x1039F4,0x103A00,0x103D04,0x103D12,0x104000,0x104A02,0x104B00,0x1056F4,0x105700,0x108574,0x108582,0x108600,
    0x108774,0x108792,0x108800,0x108A72,0x108E00,0x108FB2,0x109000,0x109162,0x1091F4,0x109200,0x1093F4,0x109800,
    0x109BC2,0x109BE0,0x109C02,0x10A000,0x10A011,0x10A100,0x10A381,0x10A402,0x10A504,0x10A600,0x10A7D2,0x10A7F4,
    0x10A800,0x10A9D2,0x10AC00,0x10AC84,0x10AC90,0x10AE51,0x10AEB2,0x10AF04,0x10B000,0x10B394,0x10B400,0x10B582,
    0x10B600,0x10B782,0x10B800,0x10B994,0x10BA92,0x10C000,0x10CFA2,0x10D000,0x10D241,0x10D302,0x10E800,0x10EAB1,
    0x10EAD4,0x10EB00,0x10F1D2,0x10F270,0x10F461,0x10F512,0x10F554,0x10F700,0x10F821,0x10F864,0x10FB00,0x10FC52,
    0x10FE00,0x110001,0x110030,0x110381,0x110474,0x110522,0x110701,0x110710,0x110731,0x110750,0x1107F1,0x110830,
    0x110B01,0x110BB4,0x110C21,0x110CD4,0x110D00,0x110F02,0x111001,0x111030,0x111271,0x111362,0x111404,0x111440,
    0x111451,0x111470,0x111731,0x111744,0x111760,0x111801,0x111830,0x111B31,0x111C10,0x111C54,0x111C91,0x111CD4,
    0x111CE1,0x111D02,0x111DA0,0x111DB4,0x111DC0,0x111DD4,0x111E12,0x112000,0x1122C1,0x112384,0x1123E1,0x112800,
    0x112A94,0x112B00,0x112DF1,0x112F02,0x113001,0x113050,0x1133B1,0x1133D0,0x1133E1,0x113500,0x113571,0x1135D0,
    0x113621,0x114000,0x114351,0x114470,0x1144B4,0x114502,0x1145A4,0x1145E1,0x1145F0,0x114B01,0x114C40,0x114C64,
    0x114C70,0x114D02,0x115800,0x115AF1,0x115C14,0x115D80,0x115DC1,0x116000,0x116301,0x116414,0x116440,0x116502,
    0x116604,0x116800,0x116AB1,0x116B80,0x116B94,0x116C02,0x117000,0x1171D1,0x117302,0x1173C4,0x117400,0x1182C1,
    0x1183B4,0x118A00,0x118E02,0x118FF0,0x119301,0x1193F0,0x119401,0x119410,0x119421,0x119444,0x119502,0x119A00,
    0x119D11,0x119E10,0x119E24,0x119E30,0x119E41,0x11A000,0x11A011,0x11A0B0,0x11A331,0x11A3A0,0x11A3B1,0x11A3F4,
    0x11A471,0x11A500,0x11A511,0x11A5C0,0x11A8A1,0x11A9A4,0x11A9D0,0x11A9E4,0x11AB00,0x11C2F1,0x11C400,0x11C414,
    0x11C502,0x11C704,0x11C720,0x11C921,0x11D000,0x11D311,0x11D460,0x11D471,0x11D502,0x11D600,0x11D8A1,0x11D980,
    0x11DA02,0x11EE00,0x11EF31,0x11EF74,0x11FB00,0x11FC02,0x11FD54,0x120000,0x124002,0x124704,0x124800,0x12FF14,
    0x130000,0x134304,0x144000,0x16A602,0x16A6E4,0x16A700,0x16AC02,0x16AD00,0x16AF01,0x16AF54,0x16B000,0x16B301,
    0x16B374,0x16B400,0x16B444,0x16B502,0x16B630,0x16E802,0x16E974,0x16F000,0x16F4F1,0x16F500,0x16F511,0x16F930,
    0x16FE24,0x16FE30,0x16FE41,0x170000,0x1BC9C4,0x1BC9D1,0x1BC9F4,0x1CF001,0x1CF504,0x1D1651,0x1D16A4,0x1D16D1,
    0x1D1734,0x1D17B1,0x1D1834,0x1D1851,0x1D18C4,0x1D1AA1,0x1D1AE4,0x1D2421,0x1D2454,0x1D2E02,0x1D3004,0x1D3602,
    0x1D4000,0x1D6C14,0x1D6C20,0x1D6DB4,0x1D6DC0,0x1D6FB4,0x1D6FC0,0x1D7154,0x1D7160,0x1D7354,0x1D7360,0x1D74F4,
    0x1D7500,0x1D76F4,0x1D7700,0x1D7894,0x1D78A0,0x1D7A94,0x1D7AA0,0x1D7C34,0x1D7C40,0x1D7CE2,0x1D8004,0x1DA001,
    0x1DA374,0x1DA3B1,0x1DA6D4,0x1DA751,0x1DA764,0x1DA841,0x1DA854,0x1DA9B1,0x1DF000,0x1E0001,0x1E1000,0x1E1301,
    0x1E1370,0x1E1402,0x1E14E0,0x1E14F4,0x1E2900,0x1E2AE1,0x1E2C00,0x1E2EC1,0x1E2F02,0x1E2FF4,0x1E7E00,0x1E8C72,
    0x1E8D01,0x1E9000,0x1E9441,0x1E94B0,0x1E9502,0x1E95E4,0x1EC712,0x1ECAC4,0x1ECAD2,0x1ECB04,0x1ECB12,0x1ED2E4,
    0x1ED2F2,0x1EE000,0x1EEF04,0x1F1002,0x1F10D4,0x1F1300,0x1F14A4,0x1F1500,0x1F16A4,0x1F1700,0x1F18A4,0x1FBF02,
    0x200000,0xE00014,0xE01001,0xF00004,
};

static uint32_t fold(uint32_t c)
{
    size_t low = 0, high = sizeof fold_ranges / sizeof *fold_ranges;
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    for (size_t i = 0; i < sizeof base_letters / sizeof *base_letters && c >= base_letters[i].first; i++)
        if (c <= base_letters[i].last && base_letters[i].letter[c - base_letters[i].first] != '.')
            return base_letters[i].offset + (uint32_t)base_letters[i].letter[c - base_letters[i].first];
    while (low < high) { /* the first range that ends at or behind c */
        size_t middle = (low + high) / 2;
        if (fold_ranges[middle].last < c) low = middle + 1;
        else high = middle;
    }
    if (low == sizeof fold_ranges / sizeof *fold_ranges || c < fold_ranges[low].first) return c;
    if ((c - fold_ranges[low].first) % (uint32_t)fold_ranges[low].step) return c;
    return (uint32_t)((int32_t)c + fold_ranges[low].delta);
}

static Class classify(uint32_t c)
{
    size_t low = 0, high = sizeof class_starts / sizeof *class_starts;
    if (c < 0x80) {
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_') return WORD;
        return c >= '0' && c <= '9' ? NUMBER : c == ' ' || (c >= '\t' && c <= '\r') ? SPACE : SYMBOL;
    }
    while (high - low > 1) { /* the last start at or before c */
        size_t middle = (low + high) / 2;
        if (class_starts[middle] >> 4 <= c) low = middle;
        else high = middle;
    }
    return (Class)(class_starts[low] & 15);
}

/* ---- splitting ----------------------------------------------------------------------------------- */

static const char *const specials_text[TOKEN_SPECIALS] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"};

/* The special token that is spelt out at s, or -1. */
static int special_at(const char *s, size_t n)
{
    for (int id = 0; n && *s == '[' && id < TOKEN_SPECIALS; id++) {
        size_t length = strlen(specials_text[id]);
        if (length <= n && memcmp(s, specials_text[id], length) == 0) return id;
    }
    return -1;
}

typedef struct {
    const char *at, *end; /* what is left of the text */
    Buffer word;          /* the token found last */
    int special;          /* its id if it is a special token, else -1 */
} Splitter;

/* Rules 1 to 4: the next token into s->word; 0 at the end of the text or out of memory (word.failed). */
static int split_next(Splitter *s)
{
    Class kind = SPACE; /* of the token so far */
    s->word.length = 0;
    while (s->at < s->end && !s->word.failed) {
        size_t left = (size_t)(s->end - s->at), n;
        uint32_t c;
        Class class;
        s->special = special_at(s->at, left);
        if (s->special >= 0) {
            n = strlen(specials_text[s->special]);
            if (s->word.length) break;
            buffer_add(&s->word, s->at, n);
            s->at += n;
            return !s->word.failed;
        }
        n = utf8_read(s->at, left, &c);
        if (!n) n = 1, c = 0xFFFD;
        if (c == 0) c = 0xFFFD; /* a token is a C string */
        c = fold(c);
        class = classify(c);
        if (class != MARK) {
            if (s->word.length && (class != kind || kind == NUMBER)) break;
            if (class != SPACE) utf8_add(&s->word, c);
            kind = class;
        }
        s->at += n;
    }
    s->special = -1;
    return s->word.length && !s->word.failed;
}

void tokenizer_split(const Tokenizer *t, const char *text, size_t n, Buffer *out)
{
    Splitter s = {text, text + n, {0}, -1};
    (void)t; /* word level has one way to split */
    for (int first = 1; split_next(&s); first = 0) {
        if (!first) buffer_add(out, "\n", 1);
        buffer_add(out, s.word.text, s.word.length);
    }
    if (s.word.failed) out->failed = 1;
    free(s.word.text);
}

/* ---- vocabulary ---------------------------------------------------------------------------------- */

/* Where word is in the hash table, or the empty slot where it belongs. */
static size_t find_slot(const Tokenizer *t, const char *word)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, folded because its high bits are the better ones */
    for (const char *p = word; *p; p++) hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    size_t i = (size_t)(hash ^ hash >> 32) & (t->num_slots - 1);
    while (t->slot[i] >= 0 && strcmp(t->token[t->slot[i]], word) != 0) i = (i + 1) & (t->num_slots - 1);
    return i;
}

/* A hash table of num_slots for all tokens; -1 if memory runs out or a token is there twice. */
static int index_tokens(Tokenizer *t, size_t num_slots, Error *err)
{
    free(t->slot);
    t->num_slots = num_slots;
    t->slot = checked_alloc(num_slots, sizeof *t->slot, err);
    if (!t->slot) return -1;
    for (size_t i = 0; i < num_slots; i++) t->slot[i] = -1;
    for (int id = 0; id < t->size; id++) {
        size_t slot = find_slot(t, t->token[id]);
        if (t->slot[slot] >= 0) return fail(err, "tokens %d and %d are the same", t->slot[slot], id);
        t->slot[slot] = id;
    }
    return 0;
}

static size_t slots_for(int size) /* a power of two; at most half of the slots are taken */
{
    size_t n = 16;
    while (n < 2 * (size_t)size) n *= 2;
    return n;
}

static char *copy_text(const char *s, size_t n, Error *err)
{
    char *copy = checked_alloc(n + 1, 1, err);
    return copy ? memcpy(copy, s, n) : NULL;
}

typedef struct { char *word; size_t count; } Count;

static int by_count(const void *a, const void *b)
{
    const Count *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : strcmp(x->word, y->word);
}

/* Appends a word and its count 0 to the growing vocabulary of a training text. */
static int add_word(Tokenizer *t, Count **counts, const char *word, size_t n, Error *err)
{
    if (2 * (size_t)t->size >= t->num_slots) {
        size_t num_slots = t->num_slots ? 2 * t->num_slots : 4096, most = num_slots / 2;
        if (num_slots > INT_MAX / 2 || num_slots > (size_t)-1 / sizeof **counts)
            return fail(err, "more than %d different words", t->size);
        char **token = realloc(t->token, most * sizeof *token);
        if (token) t->token = token;
        Count *grown = realloc(*counts, most * sizeof *grown);
        if (grown) *counts = grown;
        if (!token || !grown) return fail(err, "out of memory at %d different words", t->size);
        if (index_tokens(t, num_slots, err) < 0) return -1;
    }
    if (!(t->token[t->size] = copy_text(word, n, err))) return -1;
    (*counts)[t->size] = (Count){t->token[t->size], 0};
    t->slot[find_slot(t, word)] = t->size;
    t->size++;
    return 0;
}

int tokenizer_train_word_level(Tokenizer *t, const char *text, size_t n, int vocab_size, Error *err)
{
    Splitter s = {text, text + n, {0}, -1};
    Tokenizer seen = {0}; /* every word of the text, in order of appearance */
    Count *counts = NULL;
    int result = -1, kept;
    memset(t, 0, sizeof *t);
    while (split_next(&s)) {
        if (s.special >= 0) continue;
        int id = seen.num_slots ? seen.slot[find_slot(&seen, s.word.text)] : -1;
        if (id < 0) {
            id = seen.size;
            if (add_word(&seen, &counts, s.word.text, s.word.length, err) < 0) goto done;
        }
        counts[id].count++;
    }
    if (s.word.failed) { fail(err, "out of memory"); goto done; }
    if (seen.size == 0) { fail(err, "there is no word in the text"); goto done; }
    if (vocab_size <= TOKEN_SPECIALS) { fail(err, "a vocabulary of %d has no room for words", vocab_size); goto done; }

    qsort(counts, (size_t)seen.size, sizeof *counts, by_count);
    kept = seen.size < vocab_size - TOKEN_SPECIALS ? seen.size : vocab_size - TOKEN_SPECIALS;
    t->kind = TOKENIZER_WORD_LEVEL;
    t->token = checked_alloc((size_t)kept + TOKEN_SPECIALS, sizeof *t->token, err);
    if (!t->token) goto done;
    for (; t->size < kept + TOKEN_SPECIALS; t->size++) {
        const char *word = t->size < TOKEN_SPECIALS ? specials_text[t->size] : counts[t->size - TOKEN_SPECIALS].word;
        if (!(t->token[t->size] = copy_text(word, strlen(word), err))) goto done;
    }
    result = index_tokens(t, slots_for(t->size), err);
done:
    if (result < 0) tokenizer_free(t);
    tokenizer_free(&seen);
    free(counts);
    free(s.word.text);
    return result;
}

void tokenizer_free(Tokenizer *t)
{
    for (int id = 0; id < t->size; id++) free(t->token[id]);
    free(t->token);
    free(t->slot);
    memset(t, 0, sizeof *t);
}

long tokenizer_encode(const Tokenizer *t, const char *text, size_t n, int *ids, long max)
{
    Splitter s = {text, text + n, {0}, -1};
    long length = 1;
    int failed;
    ids[0] = TOKEN_CLS;
    for (; split_next(&s); length++) {
        int id = s.special >= 0 ? s.special : t->slot[find_slot(t, s.word.text)];
        if (length < max) ids[length] = id >= 0 ? id : TOKEN_UNK;
    }
    ids[length < max ? length : max - 1] = TOKEN_SEP;
    failed = s.word.failed;
    free(s.word.text);
    return failed ? -1 : length + 1;
}

void tokenizer_decode(const Tokenizer *t, const int *ids, int n, int specials, Buffer *out)
{
    /* Each of these loses its blanks, one after the other through the whole text: "hello , i ' m" is "hello, i'm". */
    static const char *const tight[] = {" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"};
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
            if (strncmp(out->text + from, tight[k], length) != 0) { out->text[to++] = out->text[from++]; continue; }
            for (size_t i = 0; i < length; i++)
                if (tight[k][i] != ' ') out->text[to++] = tight[k][i];
            from += length;
        }
        out->text[out->length = to] = '\0';
    }
}

/* ---- tokenizer.json ------------------------------------------------------------------------------ */

void tokenizer_to_json(const Tokenizer *t, Buffer *out)
{
    static const char before[] = /* rules 2 to 5; written with ' for " */
        "],\n'normalizer': {'type': 'Sequence', 'normalizers': ["
        "{'type': 'NFD'}, {'type': 'Lowercase'}, {'type': 'StripAccents'}]},\n"
        "'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': ["
        "{'type': 'Digits', 'individual_digits': true}, {'type': 'Whitespace'}]},\n"
        "'post_processor': {'type': 'TemplateProcessing',\n"
        "'single': [{'SpecialToken': {'id': '[CLS]', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}},\n"
        "{'SpecialToken': {'id': '[SEP]', 'type_id': 0}}],\n"
        "'pair': [{'SpecialToken': {'id': '[CLS]', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}},\n"
        "{'SpecialToken': {'id': '[SEP]', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': 1}},\n"
        "{'SpecialToken': {'id': '[SEP]', 'type_id': 1}}],\n"
        "'special_tokens': {'[CLS]': {'id': '[CLS]', 'ids': [1], 'tokens': ['[CLS]']},\n"
        "'[SEP]': {'id': '[SEP]', 'ids': [2], 'tokens': ['[SEP]']}}},\n"
        "'decoder': null,\n'model': {'type': 'WordLevel', 'unk_token': '[UNK]', 'vocab': {";
    buffer_print(out, "{\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": [");
    for (int id = 0; id < TOKEN_SPECIALS; id++)
        buffer_print(out, "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
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

/* One entry of the vocabulary: key is the token's node, the id follows it. */
static int read_token(Tokenizer *t, const Json *j, int key, Error *err)
{
    int64_t id;
    size_t n;
    if (json_integer(j, key + 1, &id) < 0) return fail(err, "byte %zu: expected a token's id", j->node[key + 1].begin);
    if (id < 0 || id >= t->size)
        return fail(err, "token id %lld: the %d tokens have the ids 0 to %d", (long long)id, t->size, t->size - 1);
    if (t->token[id]) return fail(err, "token id %lld is there twice", (long long)id);
    if (!(t->token[id] = json_text(j, key, &n))) return fail(err, "out of memory");
    if (n == 0 || strlen(t->token[id]) != n) return fail(err, "token %lld is empty or contains a NUL", (long long)id);
    if (id < TOKEN_SPECIALS && strcmp(t->token[id], specials_text[id]) != 0)
        return fail(err, "token %lld is '%.40s', expected %s", (long long)id, t->token[id], specials_text[id]);
    return 0;
}

int tokenizer_from_json(Tokenizer *t, const char *text, size_t n, Error *err)
{
    Json j;
    int result = -1, model, vocab;
    memset(t, 0, sizeof *t);
    if (json_parse(&j, text, n, err) < 0) goto done;
    model = json_find(&j, 0, "model");
    vocab = json_find(&j, model, "vocab");
    if (model < 0) { fail(err, "no tokenizer.json: \"model\" is missing"); goto done; }
    if (!json_is(&j, json_find(&j, model, "type"), "WordLevel")) { fail(err, "the type is not WordLevel"); goto done; }
    if (vocab < 0 || j.node[vocab].type != JSON_OBJECT) { fail(err, "\"model\" has no object \"vocab\""); goto done; }
    if (j.node[vocab].size < TOKEN_SPECIALS) { fail(err, "\"vocab\" lacks the special tokens"); goto done; }
    t->kind = TOKENIZER_WORD_LEVEL;
    t->token = checked_alloc((size_t)j.node[vocab].size, sizeof *t->token, err);
    if (!t->token) goto done;
    t->size = j.node[vocab].size;
    for (int key = vocab + 1; key < j.node[vocab].next; key = j.node[key + 1].next)
        if (read_token(t, &j, key, err) < 0) goto done;
    result = index_tokens(t, slots_for(t->size), err); /* V ids in range, none twice: none is missing */
done:
    if (result < 0) tokenizer_free(t);
    json_free(&j);
    return result;
}

#ifdef TOKENIZER_MAIN
/* ---- the program --------------------------------------------------------------------------------- */

/* A new file takes the place of the old one only when it is complete. */
static int write_file(const char *path, const Buffer *b, Error *err)
{
    Buffer temporary = {0};
    FILE *f;
    int result = -1;
    buffer_print(&temporary, "%s.tmp", path);
    if (b->failed || temporary.failed) fail(err, "%s: out of memory", path);
    else if (!(f = fopen(temporary.text, "wb"))) fail(err, "%s: cannot create: %s", temporary.text, strerror(errno));
    else {
        int written = fwrite(b->text, 1, b->length, f) == b->length;
        if (fclose(f) == 0 && written && rename(temporary.text, path) == 0) result = 0;
        else fail(err, "%s: cannot write: %s", path, strerror(errno));
        if (result < 0) remove(temporary.text);
    }
    free(temporary.text);
    return result;
}

static int train(const char *path, int vocab_size, const char *out, Error *err)
{
    Tokenizer t = {0};
    Buffer json = {0}, name = {0};
    Error inner;
    size_t n, lines = 0, words = 0;
    char *text = read_file(path, &n, err);
    int result = -1;
    if (!text) return -1;
    if (!out) { /* the file's name without folder and extension */
        const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path, *dot = strrchr(base, '.');
        buffer_print(&name, "%.*s.json", dot && dot > base ? (int)(dot - base) : (int)strlen(base), base);
        out = name.failed ? "" : name.text;
    }
    if (n == 0) fail(err, "%s: the file is empty", path);
    else if (strcmp(path, out) == 0) fail(err, "%s: --out would overwrite the text", path);
    else if (tokenizer_train_word_level(&t, text, n, vocab_size, &inner) < 0) fail(err, "%s: %s", path, inner.text);
    else {
        tokenizer_to_json(&t, &json);
        result = write_file(out, &json, err);
    }
    if (result == 0) {
        Splitter s = {text, text + n, {0}, -1};
        while (split_next(&s)) words += s.special < 0;
        for (size_t i = 0; i < n; i++) lines += text[i] == '\n' || i + 1 == n;
        fprintf(stderr, "tokenizer: wrote %s: vocabulary %d, %zu lines, %zu words\n", out, t.size, lines, words);
        free(s.word.text);
    }
    tokenizer_free(&t);
    free(json.text);
    free(name.text);
    free(text);
    return result;
}

/* A line of any length without its \n; 0 at the end of the input. */
static int read_line(FILE *f, Buffer *line)
{
    char chunk[4096];
    size_t n = 0;
    int c;
    line->length = 0;
    buffer_add(line, "", 0);
    while ((c = getc(f)) != EOF && c != '\n') {
        chunk[n++] = (char)c;
        if (n == sizeof chunk) { buffer_add(line, chunk, n); n = 0; }
    }
    buffer_add(line, chunk, n);
    return !line->failed && (c != EOF || line->length > 0);
}

static void encode_line(const Tokenizer *t, const Buffer *line, Buffer *out, int *ids)
{
    long n = tokenizer_encode(t, line->text, line->length, ids, (long)line->length + 2);
    if (n < 0) out->failed = 1;
    for (long i = 0; i < n; i++) buffer_print(out, i ? " %d" : "%d", ids[i]);
}

/* The first bad word of a line of ids, or NULL. */
static const char *decode_line(const Tokenizer *t, const Buffer *line, Buffer *out, int *ids)
{
    static const char blanks[] = " \t\r";
    int n = 0;
    for (char *word = line->text + strspn(line->text, blanks), *end; *word; word = end + strspn(end, blanks)) {
        long id = strtol(word, &end, 10);
        if (end != word + strcspn(word, blanks) || id < 0 || id >= t->size) {
            word[strcspn(word, blanks)] = '\0';
            return word;
        }
        ids[n++] = (int)id;
    }
    tokenizer_decode(t, ids, n, 0, out);
    return NULL;
}

/* Lines of text to lines of ids, or back. */
static int convert(const char *path, int decode, Error *err)
{
    Tokenizer t = {0};
    Buffer line = {0}, out = {0};
    Error inner;
    size_t n, number = 0;
    int *ids = NULL, result = -1;
    char *json = read_file(path, &n, err);
    if (!json) return -1;
    if (tokenizer_from_json(&t, json, n, &inner) < 0) { fail(err, "%s: %s", path, inner.text); goto done; }
    while (read_line(stdin, &line)) {
        const char *bad = NULL;
        number++;
        out.length = 0;
        free(ids);
        if (line.length > INT_MAX - 2) { fail(err, "line %zu is too long", number); goto done; }
        if (!(ids = checked_alloc(line.length + 2, sizeof *ids, err))) goto done; /* a token takes a byte at least */
        if (decode && strlen(line.text) != line.length) bad = "a NUL";
        else if (decode) bad = decode_line(&t, &line, &out, ids);
        else encode_line(&t, &line, &out, ids);
        if (bad) {
            fail(err, "line %zu: '%.40s' is not an id of %s (0 to %d)", number, bad, path, t.size - 1);
            goto done;
        }
        buffer_add(&out, "\n", 1);
        if (out.failed || fwrite(out.text, 1, out.length, stdout) != out.length) break;
    }
    if (line.failed || out.failed) fail(err, "out of memory in line %zu", number + (size_t)line.failed);
    else if (ferror(stdin)) fail(err, "cannot read the standard input: %s", strerror(errno));
    else if (fflush(stdout) != 0 || ferror(stdout)) fail(err, "cannot write the standard output: %s", strerror(errno));
    else result = 0;
done:
    tokenizer_free(&t);
    free(ids);
    free(line.text);
    free(out.text);
    free(json);
    return result;
}

int main(int argc, char **argv)
{
    int vocab_size = 10000, help = 0, operands, usage = 1, result = -1;
    const char *out = NULL, *operand[2] = {"", ""};
    Error err;
    Option table[] = {
        {"vocab-size", OPT_INT, &vocab_size, 6, 1000000, "train: tokens at most, all in all", "10000", NULL, 0, 0},
        {"out", OPT_TEXT, &out, 0, 0, "train: the file to write", "FILE's name with .json, here", NULL, 0, 0},
        {"help", OPT_FLAG, &help, 0, 0, "print this and exit", NULL, NULL, 0, 0},
        {NULL, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL, 0, 0}};
    operands = options_parse(table, argc, argv, operand, 2, &err);
    if (operands >= 0 && help) {
        puts("tokenizer train-word-level FILE   make a vocabulary from a text\n"
             "tokenizer encode FILE.json        lines of text to lines of ids (standard input to output)\n"
             "tokenizer decode FILE.json        lines of ids to lines of text");
        options_help(table, stdout);
        if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
        usage = 0;
        fail(&err, "cannot write the standard output: %s", strerror(errno));
    } else if (operands >= 0 && operands < 2) {
        fail(&err, "expected a command and a file; see --help");
    } else if (operands == 2) {
        const int training = strcmp(operand[0], "train-word-level") == 0, decode = strcmp(operand[0], "decode") == 0;
        if (!training && !decode && strcmp(operand[0], "encode") != 0)
            fail(&err, "'%s' is none of train-word-level, encode, decode; see --help", operand[0]);
        else if (!training && (table[0].given || table[1].given))
            fail(&err, "--vocab-size and --out belong to train-word-level");
        else {
            usage = 0;
            result = training ? train(operand[1], vocab_size, out, &err) : convert(operand[1], decode, &err);
        }
    }
    if (result < 0) fprintf(stderr, "tokenizer: %s\n", err.text);
    return result < 0 ? 1 + usage : 0;
}
#endif
