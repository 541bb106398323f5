/* judge.c - judges samples of the simple corpus by the grammar that made it.
 *
 *   build/simple --words > words; ./sample -n 1000 | build/judge words data/simple-train.txt
 * [MIN_GRAMMATICAL [MIN_DISTINCT]]
 *
 * Prints the share that the grammar can make, the share of distinct ones among the first 500, the
 * share found in the training file, and the total variation distance of the colours, foods and
 * states to the training file's, beside the distance that as many random training lines have. Exits
 * 1 below a minimum (percent). */
#include "tdiff.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 3, MAX_WORDS = 200, MAX_LINE = 400, DRAWS = 50 };
static const char *const slot_names[SLOTS] = {"colour", "food", "state"};

typedef struct {
    char word[SLOTS][MAX_WORDS][40];
    int count[SLOTS];
} Words;
typedef struct {
    char *line;
    int slot[SLOTS];
} Sentence; /* slot[0] < 0: not of the grammar */
typedef struct {
    Sentence *s;
    int n;
} Sentences;

/* As the word-level tokenizer gives it back: lower case, a hyphen is a word. */
static void normalise(char *out, const char *in)
{
    size_t n = 0;
    for (; *in && n + 4 < MAX_LINE; in++)
        if (*in == '-' && n && out[n - 1] != ' ') {
            memcpy(out + n, " - ", 3);
            n += 3;
        } else if (*in != '\n' && *in != '\r')
            out[n++] = (char)tolower((unsigned char)*in);
    out[n] = '\0';
}

static int find(const Words *w, int slot, const char *text, size_t n)
{
    for (int i = 0; i < w->count[slot]; i++)
        if (strlen(w->word[slot][i]) == n && !memcmp(w->word[slot][i], text, n)) return i;
    return -1;
}

/* the COLOUR FOOD is STATE. */
static void parse(Sentence *s, const Words *w)
{
    const char *p = s->line + 4, *space, *is;
    s->slot[0] = -1;
    if (strncmp(s->line, "the ", 4) || !(space = strchr(p, ' ')) || !(is = strstr(space, " is ")))
        return;
    size_t tail = strlen(is + 4);
    int food = is > space ? find(w, 1, space + 1, (size_t)(is - space - 1)) : -1;
    int state = tail && is[4 + tail - 1] == '.' ? find(w, 2, is + 4, tail - 1) : -1;
    if (food < 0 || state < 0) return;
    s->slot[0] = find(w, 0, p, (size_t)(space - p));
    s->slot[1] = food;
    s->slot[2] = state;
}

static void read_sentences(Sentences *x, const Words *w, FILE *f)
{
    char raw[MAX_LINE], line[MAX_LINE];
    while (fgets(raw, sizeof raw, f)) {
        if (x->n % 1024 == 0) x->s = realloc(x->s, (x->n + 1024) * sizeof *x->s);
        normalise(line, raw);
        if (!x->s || !(x->s[x->n].line = malloc(strlen(line) + 1))) exit(1);
        strcpy(x->s[x->n].line, line);
        parse(&x->s[x->n++], w);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **sorted(const Sentences *x, int n)
{
    char **lines = malloc((n + 1) * sizeof *lines);
    if (!lines) exit(1);
    for (int i = 0; i < n; i++) lines[i] = x->s[i].line;
    qsort(lines, n, sizeof *lines, by_text);
    return lines;
}

static double distance(const int *a, const int *b, int words)
{
    double total_a = 0, total_b = 0, sum = 0;
    for (int i = 0; i < words; i++) total_a += a[i], total_b += b[i];
    for (int i = 0; i < words; i++) {
        double d = (total_a ? a[i] / total_a : 0) - (total_b ? b[i] / total_b : 0);
        sum += d < 0 ? -d : d;
    }
    return sum / 2;
}

int main(int argc, char **argv)
{
    static Words w;
    Sentences train = {0}, samples = {0};
    char line[MAX_LINE], *tab;
    FILE *words = argc > 2 ? fopen(argv[1], "r") : NULL,
         *text = argc > 2 ? fopen(argv[2], "r") : NULL;
    if (!words || !text) {
        fprintf(stderr,
                "usage: judge WORDS TRAIN_FILE [MIN_GRAMMATICAL [MIN_DISTINCT]] < samples\n");
        return 2;
    }
    while (fgets(line, sizeof line, words))
        for (int k = 0; k < SLOTS; k++)
            if ((tab = strchr(line, '\t')) &&
                !strncmp(line, slot_names[k], strlen(slot_names[k])) && w.count[k] < MAX_WORDS) {
                char word[MAX_LINE];
                normalise(word, tab + 1);
                if (strlen(word) < sizeof w.word[k][0]) strcpy(w.word[k][w.count[k]++], word);
            }
    read_sentences(&train, &w, text);
    read_sentences(&samples, &w, stdin);
    fclose(words);
    fclose(text);

    static int trained[SLOTS][MAX_WORDS], drawn[SLOTS][MAX_WORDS];
    const int first = samples.n < 500 ? samples.n : 500;
    int good = 0, distinct = first > 0, copied = 0;
    char **train_lines = sorted(&train, train.n), **lines = sorted(&samples, first);
    for (int i = 1; i < first; i++) distinct += strcmp(lines[i], lines[i - 1]) != 0;
    for (int i = 0; i < train.n; i++)
        for (int k = 0; k < SLOTS; k++)
            trained[k][train.s[i].slot[0] < 0 ? 0 : train.s[i].slot[k]]++;
    for (int i = 0; i < samples.n; i++) {
        copied +=
            bsearch(&samples.s[i].line, train_lines, train.n, sizeof *train_lines, by_text) != NULL;
        if (samples.s[i].slot[0] < 0) continue;
        good++;
        for (int k = 0; k < SLOTS; k++) drawn[k][samples.s[i].slot[k]]++;
    }
    const double grammatical = samples.n ? 100.0 * good / samples.n : 0,
                 different = first ? 100.0 * distinct / first : 0;
    printf("%d sentences: grammatical %.1f %%, distinct %.1f %% (of %d), from the training file "
           "%.1f %%\n",
           samples.n, grammatical, different, first, samples.n ? 100.0 * copied / samples.n : 0);
    for (int k = 0; k < SLOTS; k++) {
        double floor = 0;
        for (int d = 0; d < DRAWS && train.n; d++) {
            int random[MAX_WORDS] = {0};
            for (int i = 0; i < samples.n; i++) {
                int row = rng_below(rng_key(7, RNG_SAMPLE, d, i), 0, train.n);
                if (train.s[row].slot[0] >= 0) random[train.s[row].slot[k]]++;
            }
            floor += distance(random, trained[k], w.count[k]) / DRAWS;
        }
        printf("%s: distance %.3f, random training lines %.3f\n", slot_names[k],
               distance(drawn[k], trained[k], w.count[k]), floor);
    }
    for (int i = 0; i < train.n; i++) free(train.s[i].line);
    for (int i = 0; i < samples.n; i++) free(samples.s[i].line);
    free(train.s);
    free(samples.s);
    free(train_lines);
    free(lines);
    return (argc > 3 && grammatical < atof(argv[3])) || (argc > 4 && different < atof(argv[4]));
}
