/* draw.c - pictures of a run, as SVG on the standard output: no script inside, light and dark.
 *
 *   build/draw denoise < shown.txt       an animation of what --show has printed
 *   build/draw loss A.jsonl [B.jsonl]    what ./train has logged, several runs over each other
 *   build/draw words CKPT [LIST]         the embeddings on their two principal components
 *   build/draw schedule CKPT [TEXT]      how noise grows with t, and the loss by t on TEXT
 *
 * shown.txt is made by ./sample CKPT -n 8 --show --show-probabilities 2> shown.txt. A line of LIST
 * is a word, or a group, a TAB and its words, as build/simple --words prints them. */
#include "tdiff.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { COLOURS = 6, SHADES = 8 };
static const char *const light[COLOURS] = {"#2563c4", "#c2410c", "#15803d",
                                           "#a21caf", "#a16207", "#0e7490"};
static const char *const dark[COLOURS] = {"#7fb0ff", "#ff9d66", "#6fdc94",
                                          "#f0a0fa", "#eac54f", "#67d8ef"};

/* ---- SVG ------------------------------------------------------------------------------------ */

static void add_text(Buffer *out, const char *text, size_t n) /* as XML has it */
{
    Buffer json = {0};
    buffer_json_string(&json, text, n); /* UTF-8, with U+FFFD for what is none */
    for (size_t i = 1; i + 1 < json.length; i++) {
        const char c = json.text[i];
        if (c == '\\' && json.text[i + 1] == 'u')
            buffer_print(out, "?"), i += 5; /* a control character */
        else if (c == '\\')
            buffer_print(out, json.text[i + 1] == '"' ? "&quot;" : "\\"), i++;
        else if (c == '&' || c == '<' || c == '>')
            buffer_print(out, c == '&' ? "&amp;" : c == '<' ? "&lt;" : "&gt;");
        else
            buffer_add(out, &c, 1);
    }
    if (json.failed) out->failed = 1;
    free(json.text);
}

/* One scheme's colours: classes f (text), d (dimmed), g (grid), b (ground), 0.. the colours as
 * lines l and as areas a. */
static void add_scheme(Buffer *out, const char *ground, const char *text, const char *dim,
                       const char *grid, const char *const *colours)
{
    buffer_print(out, ".b{fill:%s}.f{fill:%s}.d{fill:%s}.g{stroke:%s}", ground, text, dim, grid);
    for (int i = 0; i < COLOURS; i++)
        buffer_print(out, ".l%d{stroke:%s}.a%d{fill:%s}", i, colours[i], i, colours[i]);
}

/* Words from unsure to sure: three colours and what lies between them. */
static void add_shades(Buffer *out, const int from[3], const int middle[3], const int to[3])
{
    for (int k = 0; k < SHADES; k++) {
        const double x = 2.0 * k / (SHADES - 1);
        const int *a = x < 1 ? from : middle, *b = x < 1 ? middle : to;
        buffer_print(out, ".p%d{fill:#", k);
        for (int i = 0; i < 3; i++)
            buffer_print(out, "%02x", (int)(a[i] + (x < 1 ? x : x - 1) * (b[i] - a[i]) + 0.5));
        buffer_print(out, "}");
    }
}

static void begin_svg(Buffer *out, int width, int height, const char *title)
{
    buffer_print(out,
                 "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                 "height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n<title>",
                 width, height, width, height);
    add_text(out, title, strlen(title));
    buffer_print(out, "</title>\n<style>.c{font-family:ui-monospace,Menlo,Consolas,monospace;"
                      "font-size:16px;white-space:pre}path{fill:none;stroke-width:1.5}.g{"
                      "stroke-width:1}.e{text-anchor:end}.m{text-anchor:middle}");
    add_scheme(out, "#fff", "#1f2328", "#6b7480", "#dde1e6", light);
    add_shades(out, (int[]){0xb9, 0xad, 0xa7}, (int[]){0xd0, 0x7d, 0x2a},
               (int[]){0x0b, 0x5a, 0x40});
    buffer_print(out, "@media (prefers-color-scheme:dark){");
    add_scheme(out, "#0d1117", "#e6edf3", "#8b949e", "#30363d", dark);
    add_shades(out, (int[]){0x5a, 0x55, 0x52}, (int[]){0xd9, 0x93, 0x45},
               (int[]){0x8d, 0xf0, 0xc0});
    buffer_print(out, "}</style>\n<rect class=\"b\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", width,
                 height);
}

/* ---- plots ---------------------------------------------------------------------------------- */

typedef struct {
    double *x, *y;
    int n, colour, dashed;
} Curve; /* NAN in y: there is no value */

typedef struct {
    double left, top, width, height; /* of the frame, in pixels */
    double from_x, to_x, from_y, to_y;
    int logarithmic;
} Plot;

static double place_x(const Plot *p, double x)
{
    return p->left + p->width * (x - p->from_x) / (p->to_x - p->from_x);
}
static double place_y(const Plot *p, double y)
{
    const double share = p->logarithmic ? log(y / p->from_y) / log(p->to_y / p->from_y)
                                        : (y - p->from_y) / (p->to_y - p->from_y);
    return p->top + p->height * (1 - share);
}

static double round_step(double step) /* up to 1, 2 or 5 times a power of ten */
{
    const double power = pow(10, floor(log10(step))), share = step / power;
    return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

static void add_tick(Buffer *out, const Plot *p, int is_y, double value)
{
    const double at = is_y ? place_y(p, value) : place_x(p, value);
    if (is_y)
        buffer_print(out,
                     "<path class=\"g\" d=\"M%.1f %.1fh%.1f\"/><text class=\"d e\" x=\"%.1f\" "
                     "y=\"%.1f\">%.6g</text>\n",
                     p->left, at, p->width, p->left - 6, at + 4, value);
    else
        buffer_print(out,
                     "<path class=\"g\" d=\"M%.1f %.1fv5\"/><text class=\"d m\" x=\"%.1f\" "
                     "y=\"%.1f\">%.6g</text>\n",
                     at, p->top + p->height, at, p->top + p->height + 18, value);
}

/* The range of the curves, rounded, and the axes: logarithmic, if that may be, where y spans more
 * than a factor of 10. */
static void add_axes(Buffer *out, Plot *p, const Curve *curve, int curves, int may_log,
                     const char *title, const char *x_unit)
{
    double least = HUGE_VAL, most = -HUGE_VAL;
    p->from_x = HUGE_VAL, p->to_x = -HUGE_VAL;
    for (int k = 0; k < curves; k++)
        for (int i = 0; i < curve[k].n; i++) {
            if (isnan(curve[k].y[i])) continue;
            least = fmin(least, curve[k].y[i]), most = fmax(most, curve[k].y[i]);
            p->from_x = fmin(p->from_x, curve[k].x[i]), p->to_x = fmax(p->to_x, curve[k].x[i]);
        }
    p->logarithmic = may_log && least > 0 && most > 10 * least;
    if (!p->logarithmic && least > 0 && least < 0.5 * most) least = 0;
    if (!(most > least)) most = least + fmax(fabs(least), 1e-12);
    if (p->from_x > 0 && p->from_x < 0.2 * p->to_x) p->from_x = 0;
    if (!(p->to_x > p->from_x)) p->to_x = p->from_x + 1;
    const double step = round_step((most - least) / 5),
                 step_x = round_step((p->to_x - p->from_x) / 5);
    p->from_y = p->logarithmic ? least / 1.05 : step * floor(least / step + 1e-9);
    p->to_y = p->logarithmic ? most * 1.05 : step * ceil(most / step - 1e-9);
    for (int k = 0; !p->logarithmic && p->from_y + k * step < p->to_y + step / 2; k++)
        add_tick(out, p, 1, p->from_y + k * step);
    for (int e = -30; p->logarithmic && e < 30; e++)
        for (int k = 1; k <= 5; k += k == 1 ? 1 : 3) {
            const double value = k * pow(10, e);
            if (k > 1 && most > 1000 * least) continue;
            if (value >= p->from_y && value <= p->to_y) add_tick(out, p, 1, value);
        }
    for (double x = step_x * ceil(p->from_x / step_x - 1e-9); x <= p->to_x + step_x * 1e-9;
         x += step_x)
        add_tick(out, p, 0, fabs(x) < step_x * 1e-9 ? 0 : x);
    buffer_print(out, "<text class=\"f\" x=\"%.1f\" y=\"%.1f\">%s</text>", p->left, p->top - 10,
                 title);
    buffer_print(out, "<text class=\"d e\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", p->left + p->width,
                 p->top + p->height + 34, x_unit);
}

/* At most MOST points of a curve are drawn, evenly. */
static void add_curve(Buffer *out, const Plot *p, const Curve *c)
{
    enum { MOST = 400 };
    const int every = (c->n + MOST - 1) / MOST;
    int begun = 0;
    buffer_print(out, "<path class=\"l%d\"%s d=\"", c->colour,
                 c->dashed ? " stroke-dasharray=\"5 3\"" : "");
    for (int i = 0; i < c->n; i++) {
        if (isnan(c->y[i]) || (i % every && i < c->n - 1)) continue;
        buffer_print(out, "%s%.1f %.1f", begun ? "L" : "M", place_x(p, c->x[i]),
                     place_y(p, c->y[i]));
        begun = 1;
    }
    buffer_print(out, "\"/>\n");
}

/* ---- denoise -------------------------------------------------------------------------------- */

typedef struct {
    char process; /* t or q */
    int t, row, frame;
    double noise;     /* -1: not told */
    const char *text; /* with TABs and percentages, or without */
    size_t length;
} Shown;

enum { MOST_ROWS = 100, MOST_FRAMES = 1000, COLUMNS = 100, CELL = 10, LINE = 28, MARGIN = 20 };

/* "t  1999 noise 0.97 | the...": 0, if it is another line */
static int read_shown(Shown *s, const char *line, size_t n)
{
    const char *bar = memchr(line, '|', n);
    char head[40], blank;
    if (!bar || bar - line >= (int)sizeof head || bar + 1 >= line + n) return 0;
    memcpy(head, line, bar - line);
    head[bar - line] = '\0';
    s->noise = -1;
    if (sscanf(head, "%c%c%d noise %lf", &s->process, &blank, &s->t, &s->noise) < 3) return 0;
    if ((s->process != 't' && s->process != 'q') || blank != ' ' || s->t < 0) return 0;
    s->text = bar + 2, s->length = n - (size_t)(s->text - line);
    return s->noise <= 1;
}

/* Finds row and frame of every line: sentences of one length come together, state by state, and
 * below them those of the next length. Returns the number of lines; *rows and *frames. */
static int read_frames(Shown *shown, const char *text, size_t n, int *rows, int *frames, Error *err)
{
    int count = 0, row = 0, first = 0, frame = 0, last_rows = 0;
    *rows = *frames = 0;
    for (size_t at = 0, line = 1, length; at < n; at += length + 1, line++) {
        const char *newline = memchr(text + at, '\n', n - at);
        length = newline ? (size_t)(newline - text) - at : n - at;
        Shown *s = &shown[count];
        const Shown *before = s - 1;
        if (!read_shown(s, text + at, length)) continue;
        if (count && s->process == before->process && s->t == before->t)
            row++;
        else {
            const int is_next =
                count && (s->process == before->process ? (s->process == 't') == (s->t < before->t)
                                                        : s->process == 't');
            if (count && frame && row + 1 != last_rows)
                return fail(err, "line %zu: %d sentences of one state, expected %d", line, row + 1,
                            last_rows);
            last_rows = row + 1;
            if (count && !is_next) first += last_rows;
            frame = is_next ? frame + 1 : 0;
            row = 0;
        }
        s->row = first + row, s->frame = frame;
        if (s->row >= MOST_ROWS) return fail(err, "more than %d sentences", MOST_ROWS);
        if (frame >= MOST_FRAMES) return fail(err, "more than %d states", MOST_FRAMES);
        if (s->row >= *rows) *rows = s->row + 1;
        if (frame >= *frames) *frames = frame + 1;
        count++;
    }
    if (!count)
        return fail(err, "no line of --show: expected what ./sample --show --show-probabilities "
                         "prints on stderr");
    return count;
}

/* A sentence as it is shown, cut to COLUMNS; returns its columns. out: NULL, or where it goes. */
static int add_sentence(Buffer *out, const Shown *s)
{
    int columns = 0, shade = -1;
    for (size_t at = 0, end; at < s->length && columns < COLUMNS; at = end) {
        const char *tab = memchr(s->text + at, '\t', s->length - at);
        const size_t piece = tab ? (size_t)(tab - s->text) - at : s->length - at;
        const double percent = tab ? strtod(tab, NULL) : 100;
        const int of = (int)(percent / 100 * (SHADES - 1) + 0.5);
        const int of_piece = of < 0 ? 0 : of < SHADES ? of : SHADES - 1;
        const char *next = tab ? memchr(tab + 1, '\t', s->text + s->length - tab - 1) : NULL;
        size_t fits;
        columns += text_columns(s->text + at, piece, COLUMNS - columns, &fits);
        end = next ? (size_t)(next - s->text) + 1 : s->length;
        if (!out) continue;
        if (of_piece != shade)
            buffer_print(out, "%s<tspan class=\"p%d\">", shade < 0 ? "" : "</tspan>", of_piece);
        shade = of_piece;
        add_text(out, s->text + at, fits);
        if (fits < piece) buffer_print(out, "\xe2\x80\xa6"); /* ... */
    }
    if (out && shade >= 0) buffer_print(out, "</tspan>");
    return columns;
}

/* Frame k is seen from begin to end, in percent of the loop. */
static void add_keyframes(Buffer *out, int k, double begin, double end)
{
    buffer_print(out, "@keyframes k%d{", k);
    if (begin > 0) buffer_print(out, "0%%{opacity:0}");
    buffer_print(out, "%.3g%%{opacity:1}", begin);
    if (end < 99.999) buffer_print(out, "%.4g%%{opacity:0}", end);
    buffer_print(out, "}#k%d{animation-name:k%d}", k, k);
}

/* Every state is a group, of which one is seen at a time; where nothing may move, the last. */
static int draw_denoise(Buffer *out, const char *text, size_t n, Error *err)
{
    const double beat = 0.12, hold_first = 1, hold_last = 4; /* seconds */
    size_t lines = 1;
    int rows, frames, width = 0, status = -1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    Shown *shown = checked_alloc(lines, sizeof *shown, err);
    const Shown **at = NULL;
    const int count = shown ? read_frames(shown, text, n, &rows, &frames, err) : -1;
    if (count < 0 || !(at = checked_alloc((size_t)rows * frames, sizeof *at, err))) goto done;
    for (int i = 0; i < count; i++) {
        const int columns = add_sentence(NULL, &shown[i]) + 1;
        at[shown[i].frame * rows + shown[i].row] = &shown[i];
        if (columns > width) width = columns;
    }
    for (int i = rows; i < rows * frames; i++)
        if (!at[i]) at[i] = at[i - rows]; /* a sentence of fewer states stays as it is */
    width = 2 * MARGIN + CELL * (width < 40 ? 40 : width);
    const int height = 2 * MARGIN + LINE * (rows + 2);
    const double all = hold_first + hold_last + (frames - 1) * beat, bar = width - 2.0 * MARGIN;
    begin_svg(out, width, height, "Sentences come out of noise");
    buffer_print(out, "<style>.k{opacity:0;animation:%.2fs step-end infinite}#k%d{opacity:1}", all,
                 frames - 1);
    for (int k = 0; k < frames; k++) {
        const double begin = k ? hold_first + (k - 1) * beat : 0;
        const double end = k < frames - 1 ? hold_first + k * beat : all;
        add_keyframes(out, k, 100 * begin / all, 100 * end / all);
    }
    buffer_print(out,
                 "@media (prefers-reduced-motion:reduce){.k{animation:none!important}}</style>\n");
    for (int i = 0; i < SHADES; i++)
        buffer_print(out, "<rect class=\"p%d\" x=\"%d\" y=\"%d\" width=\"14\" height=\"8\"/>", i,
                     width - MARGIN - 42 - 14 * (SHADES - i), height - MARGIN - 4);
    buffer_print(out,
                 "<text class=\"d e\" x=\"%d\" y=\"%d\">unsure</text><text class=\"d\" x=\"%d\" "
                 "y=\"%d\">sure</text>\n",
                 width - MARGIN - 48 - 14 * SHADES, height - MARGIN + 4, width - MARGIN - 36,
                 height - MARGIN + 4);
    for (int k = 0; k < frames; k++) {
        const Shown *head = at[k * rows];
        buffer_print(out, "<g class=\"k\" id=\"k%d\">", k);
        buffer_print(out, "<text class=\"d\" x=\"%d\" y=\"%d\">%s, t = %d</text>", MARGIN,
                     MARGIN + 8, head->process == 'q' ? "forward" : "backward", head->t);
        if (head->noise >= 0)
            buffer_print(out,
                         "<text class=\"d e\" x=\"%d\" y=\"%d\">noise %.2f</text>"
                         "<rect class=\"d\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"3\"/>",
                         width - MARGIN, MARGIN + 8, head->noise, MARGIN, MARGIN + 18,
                         bar * head->noise);
        buffer_print(out, "\n");
        for (int row = 0; row < rows; row++) {
            buffer_print(out, "<text class=\"c\" x=\"%d\" y=\"%d\">", MARGIN,
                         MARGIN + 20 + LINE * (row + 1));
            add_sentence(out, at[k * rows + row]);
            buffer_print(out, "</text>\n");
        }
        buffer_print(out, "</g>\n");
    }
    buffer_print(out, "</svg>\n");
    status = 0;
done:
    free(at);
    free(shown);
    return status;
}

/* ---- loss ----------------------------------------------------------------------------------- */

enum { PANELS = 6, MOST_RUNS = 6 };
static const struct {
    const char *key, *title;
    int may_log;
} panels[PANELS] = {
    {"loss", "loss, and val_loss (dashed)", 1},
    {"head_nll", "head_nll: surprise of a word, nats", 1},
    {"mse", "mse: how far the guess is off, squared", 1},
    {"decoder_nll", "decoder_nll: nats a word", 1},
    {"tT_loss", "tT_loss: what is left at t = T-1, squared", 1},
    {"lr", "lr: learning rate", 0},
};

typedef struct {
    const char *path;
    int n;
    double *step, *value[PANELS + 1]; /* (n) the last is val_loss */
} Run;

static double member(const Json *j, const char *key) /* NAN: there is none */
{
    const int node = json_find(j, 0, key);
    return node >= 0 && j->node[node].type == JSON_NUMBER
               ? strtod(j->text + j->node[node].begin, NULL)
               : NAN;
}

static int read_log(Run *r, const char *path, Error *err)
{
    size_t n, lines = 1;
    char *text = read_file(path, &n, err);
    Error inner;
    int status = text ? 0 : -1;
    r->path = path;
    for (size_t i = 0; i < n && text; i++) lines += text[i] == '\n';
    if (text && !(r->step = checked_alloc(lines, (PANELS + 2) * sizeof *r->step, err))) status = -1;
    for (int k = 0; k <= PANELS && !status; k++) r->value[k] = r->step + (k + 1) * lines;
    for (size_t at = 0, line = 1, length; !status && at < n; at += length + 1, line++) {
        const char *newline = memchr(text + at, '\n', n - at);
        Json j = {0};
        length = newline ? (size_t)(newline - text) - at : n - at;
        if (length == 0) continue;
        if (json_parse(&j, text + at, length, &inner))
            status = fail(err, "%s: line %zu: %.300s", path, line, inner.text);
        else if (isnan(r->step[r->n] = member(&j, "step")))
            status = fail(err, "%s: line %zu: no \"step\"; expected a log of ./train", path, line);
        for (int k = 0; k <= PANELS && !status; k++)
            r->value[k][r->n] = member(&j, k < PANELS ? panels[k].key : "val_loss");
        r->n += !status;
        json_free(&j);
    }
    free(text);
    if (!status && r->n == 0) status = fail(err, "%s: empty; expected a log of ./train", path);
    return status;
}

static int draw_loss(Buffer *out, char **paths, int runs, Error *err)
{
    enum { WIDE = 400, HIGH = 250, LEFT = 70, TOP = 40 };
    Run run[MOST_RUNS] = {{0}};
    int shown[PANELS], panel_count = 0, status = 0;
    if (runs > MOST_RUNS) return fail(err, "%d logs; %d at most", runs, MOST_RUNS);
    for (int i = 0; i < runs && !status; i++) status = read_log(&run[i], paths[i], err);
    for (int k = 0; k < PANELS && !status; k++) {
        const double least = panels[k].may_log ? 5e-5 : 0; /* a loss below is 0.0000 throughout */
        int any = 0;
        for (int r = 0; r < runs; r++)
            for (int i = 0; i < run[r].n; i++) any |= run[r].value[k][i] > least;
        if (any) shown[panel_count++] = k;
    }
    if (!status && !panel_count) status = fail(err, "%s: no loss in it", paths[0]);
    if (!status)
        begin_svg(out, 2 * WIDE + 20, (panel_count + 1) / 2 * HIGH + 16 + 20 * runs,
                  "The loss of a training run");
    for (int i = 0; i < panel_count && !status; i++) {
        const int k = shown[i];
        Plot p = {.left = LEFT + i % 2 * WIDE,
                  .top = TOP + i / 2 * HIGH,
                  .width = WIDE - LEFT - 10,
                  .height = HIGH - TOP - 50};
        Curve curve[2 * MOST_RUNS];
        int curves = 0;
        for (int r = 0; r < runs; r++) {
            curve[curves++] = (Curve){run[r].step, run[r].value[k], run[r].n, r, 0};
            if (k == 0)
                curve[curves++] = (Curve){run[r].step, run[r].value[PANELS], run[r].n, r, 1};
        }
        buffer_print(out, "<g class=\"panel\">\n");
        add_axes(out, &p, curve, curves, panels[k].may_log, panels[k].title, "training steps");
        for (int c = 0; c < curves; c++) add_curve(out, &p, &curve[c]);
        buffer_print(out, "</g>\n");
    }
    for (int r = 0; r < runs && !status; r++) {
        const int y = (panel_count + 1) / 2 * HIGH + 10 + 20 * r;
        buffer_print(out,
                     "<path class=\"l%d\" d=\"M%d %dh24\"/><text class=\"f\" x=\"%d\" "
                     "y=\"%d\">",
                     r, LEFT, y, LEFT + 32, y + 4);
        add_text(out, run[r].path, strlen(run[r].path));
        buffer_print(out, "</text>\n");
    }
    if (!status) buffer_print(out, "</svg>\n");
    for (int r = 0; r < runs; r++) free(run[r].step);
    return status;
}

/* ---- words ---------------------------------------------------------------------------------- */

enum { MOST_WORDS = 300 };
typedef struct {
    int id, group;
    double x, y;                     /* on the two components, then in pixels */
    double left, top, right, bottom; /* of the label */
} Word;

static int add_word(Word *word, int *count, int id, int group, const Tokenizer *t)
{
    if (id < 0 || tokenizer_is_special(t, id)) return 0;
    for (int i = 0; i < *count; i++)
        if (word[i].id == id) return 1;
    if (*count < MOST_WORDS) word[(*count)++] = (Word){.id = id, .group = group};
    return 1;
}

/* The words of LIST, "WORD" or "GROUP TAB WORDS" a line; group[]: owned by text, which the caller
 * frees. */
static int list_words(Word *word, int *count, char **group, int *groups, char *text, size_t n,
                      const char *path, const Tokenizer *t, Error *err)
{
    int unknown = 0;
    for (char *line = text, *next; line < text + n; line = next) {
        char *end = memchr(line, '\n', (size_t)(text + n - line));
        if (!end) end = text + n;
        next = end + 1;
        *end = '\0';
        char *tab = strchr(line, '\t');
        int g = 0;
        if (tab) {
            *tab = '\0';
            while (g < *groups && strcmp(group[g], line)) g++;
            if (g == COLOURS) return fail(err, "%s: more than %d groups", path, COLOURS);
            if (g == *groups) group[(*groups)++] = line;
        }
        Buffer pieces = {0};
        const char *words = tab ? tab + 1 : line;
        tokenizer_split(t, words, strlen(words), &pieces);
        for (char *w = pieces.text ? strtok(pieces.text, "\n") : NULL; w; w = strtok(NULL, "\n"))
            unknown += !add_word(word, count, tokenizer_find(t, w), g, t);
        free(pieces.text);
    }
    if (!*count) return fail(err, "%s: none of its words is in the vocabulary", path);
    if (unknown) fprintf(stderr, "draw: %s: %d words are not in the vocabulary\n", path, unknown);
    return 0;
}

/* The principal component of the rows of x (n,D), by power iteration; what they have of it is taken
 * from them. place: (n) */
static double take_component(double *x, double *place, double *axis, int n, int D, int k)
{
    double square = 0;
    real start[2];
    for (int i = 0; i < D; i++) {
        rng_gaussian(start, 2, rng_key(1, RNG_SAMPLE, (uint64_t)k, (uint64_t)i));
        axis[i] = start[0];
    }
    for (int round = 0; round < 500; round++) {
        for (int j = 0; j < n; j++) {
            place[j] = 0;
            for (int i = 0; i < D; i++) place[j] += axis[i] * x[j * D + i];
        }
        memset(axis, 0, D * sizeof *axis);
        for (int j = 0; j < n; j++)
            for (int i = 0; i < D; i++) axis[i] += place[j] * x[j * D + i];
        square = 0;
        for (int i = 0; i < D; i++) square += axis[i] * axis[i];
        for (int i = 0; i < D; i++) axis[i] /= sqrt(fmax(square, 1e-300));
    }
    for (int j = 0; j < n; j++) {
        place[j] = 0;
        for (int i = 0; i < D; i++) place[j] += axis[i] * x[j * D + i];
        for (int i = 0; i < D; i++) x[j * D + i] -= place[j] * axis[i];
    }
    return sqrt(square); /* the sum of the squares of place */
}

/* A place for the label beside its point where no other label is: on a spiral around it. */
static void place_label(Word *word, int k, double width, double right, double bottom)
{
    Word *w = &word[k];
    for (int step = 0; step < 4000; step++) {
        const double radius = 4 + 0.25 * step, angle = 2.4 * step;
        const double x = w->x + radius * cos(angle) + (cos(angle) < 0 ? -width : 0);
        const double y = w->y + radius * sin(angle) - 6;
        int is_free = x > 4 && x + width < right && y > 24 && y + 12 < bottom;
        for (int i = 0; i < k && is_free; i++)
            is_free = x >= word[i].right || word[i].left >= x + width || y >= word[i].bottom ||
                      word[i].top >= y + 12;
        w->left = x, w->right = x + width, w->top = y, w->bottom = y + 12;
        if (is_free) return;
    }
}

static int draw_words(Buffer *out, const char *path, const char *list, Error *err)
{
    enum { WIDE = 900, HIGH = 640, AROUND = 60 };
    Trained trained = {0};
    Word word[MOST_WORDS];
    int count = 0, groups = 0, status = trained_load(&trained, path, NULL, err);
    char *group[COLOURS], *text = NULL;
    size_t n;
    double *x = NULL, share[2], all = 0;
    const Tokenizer *t = &trained.tokenizer;
    const int D = trained.model.config.emb_dim;
    if (status || (list && !(text = read_file(list, &n, err))) ||
        (text && list_words(word, &count, group, &groups, text, n, list, t, err))) {
        status = -1;
        goto done;
    }
    for (int id = 0; id < t->size && !text; id++) add_word(word, &count, id, 0, t);
    status = -1;
    if (count < 3) fail(err, "%s: %d words; expected 3 at least", list ? list : path, count);
    if (count < 3 || !(x = checked_alloc((size_t)(count + 1) * D + 2 * count, sizeof *x, err)))
        goto done;
    double *axis = x + (size_t)count * D, *place[2] = {axis + D, axis + D + count};
    for (int i = 0; i < D; i++) {
        double mean = 0;
        for (int j = 0; j < count; j++)
            mean += trained.model.embedding[(size_t)word[j].id * D + i] / (double)count;
        for (int j = 0; j < count; j++) {
            const double of = trained.model.embedding[(size_t)word[j].id * D + i] - mean;
            x[j * D + i] = of, all += of * of;
        }
    }
    double most[2] = {1e-30, 1e-30};
    for (int k = 0; k < 2; k++) {
        share[k] = take_component(x, place[k], axis, count, D, k) / fmax(all, 1e-300);
        for (int j = 0; j < count; j++) most[k] = fmax(most[k], fabs(place[k][j]));
    }
    for (int j = 0; j < count; j++) {
        word[j].x = WIDE / 2 + (WIDE / 2 - AROUND) * place[0][j] / most[0];
        word[j].y = HIGH / 2 - (HIGH / 2 - AROUND) * place[1][j] / most[1];
    }
    begin_svg(out, WIDE, HIGH, "The embeddings on their two principal components");
    for (int j = 0; j < count; j++) {
        Word *w = &word[j];
        const char *name = t->token[w->id];
        size_t fits;
        const double width = 6.6 * text_columns(name, strlen(name), 24, &fits) + 4;
        place_label(word, j, width, WIDE, HIGH - 24);
        const double near_x = fmin(fmax(w->x, w->left), w->right);
        const double near_y = fmin(fmax(w->y, w->top), w->bottom);
        if (hypot(near_x - w->x, near_y - w->y) > 8)
            buffer_print(out, "<path class=\"g\" d=\"M%.1f %.1fL%.1f %.1f\"/>", w->x, w->y, near_x,
                         near_y);
        buffer_print(out,
                     "<circle class=\"a%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"/><text "
                     "class=\"a%d\" x=\"%.1f\" y=\"%.1f\">",
                     w->group, w->x, w->y, w->group, w->left + 2, w->bottom - 2);
        add_text(out, name, fits);
        buffer_print(out, "</text>\n");
    }
    for (int g = 0; g < groups; g++) {
        buffer_print(out, "<text class=\"a%d\" x=\"%d\" y=\"18\" font-weight=\"bold\">", g,
                     16 + 120 * g);
        add_text(out, group[g], strlen(group[g]));
        buffer_print(out, "</text>");
    }
    buffer_print(
        out,
        "<text class=\"d\" x=\"16\" y=\"%d\">%d words; the two components have %.0f %% and "
        "%.0f %% of the variance</text>\n</svg>\n",
        HIGH - 10, count, 100 * share[0], 100 * share[1]);
    status = 0;
done:
    free(x);
    free(text);
    trained_free(&trained);
    return status;
}

/* ---- schedule ------------------------------------------------------------------------------- */

enum { TIMES = 40, SENTENCES = 32 };

/* mse and head_nll at TIMES steps, means over the first sentences of the text */
static int losses_by_t(Trained *r, const char *path, double *mse, double *head_nll, Error *err)
{
    const Diffusion *d = &r->diffusion;
    const Config *c = &r->model.config;
    const Dropout none = {0, 0, 0};
    Workspace work = {0};
    Corpus text = {0};
    int t[TIMES], *ids = NULL, status = -1;
    real *noise = NULL;
    double terms[5 * TIMES];
    const Losses losses = {terms, terms + TIMES, terms + 2 * TIMES, terms + 3 * TIMES,
                           terms + 4 * TIMES};
    memset(mse, 0, TIMES * sizeof *mse);
    memset(head_nll, 0, TIMES * sizeof *head_nll);
    if (corpus_read(&text, path, err) ||
        corpus_fill(&text, path, &r->tokenizer,
                    c->seq_len < c->max_positions ? c->seq_len : c->max_positions, 0, err) ||
        !(ids = checked_alloc((size_t)text.longest, TIMES * sizeof *ids, err)) ||
        !(noise =
              checked_alloc((size_t)text.longest * c->emb_dim, 2 * TIMES * sizeof *noise, err)) ||
        workspace_init(&work, c, 1, SHORTEST, 0, err))
        goto done;
    const int sentences = text.rows < SENTENCES ? text.rows : SENTENCES;
    for (int i = 0; i < sentences; i++) {
        const int N = sentence_length(&text, i);
        const size_t all = (size_t)TIMES * N * c->emb_dim;
        const Batch y = {ids, t, noise, noise + all, NULL, c->self_conditioning, TIMES, N};
        for (int k = 0; k < TIMES; k++) {
            t[k] = (int)((k + 0.5) * d->T / TIMES);
            memcpy(ids + k * N, text.ids + text.start[i], N * sizeof *ids);
        }
        rng_gaussian(noise, 2 * all, rng_key(1, RNG_SAMPLE, 0, (uint64_t)i));
        if (workspace_fit(&work, c, TIMES, N, err)) goto done;
        training_losses(&r->model, &work, &losses, d, &y, 0, none);
        for (int k = 0; k < TIMES; k++)
            mse[k] += losses.mse[k] / sentences, head_nll[k] += losses.head_nll[k] / sentences;
    }
    status = 0;
done:
    workspace_free(&work);
    free(noise);
    free(ids);
    corpus_free(&text);
    return status;
}

static int draw_schedule(Buffer *out, const char *path, const char *text, Error *err)
{
    enum { WIDE = 420, HIGH = 280, LEFT = 70, TOP = 40 };
    Trained trained = {0};
    const Diffusion *d = &trained.diffusion;
    double at[TIMES], mse[TIMES], head_nll[TIMES], *t = NULL;
    int status = trained_load(&trained, path, NULL, err), T = 0;
    const Config *c = &trained.model.config;
    if (!text && trained.text && file_kind(trained.text) == FILE_TEXT) text = trained.text;
    if (!status && text) status = losses_by_t(&trained, text, mse, head_nll, err);
    if (!status && !(t = checked_alloc((size_t)d->T, 3 * sizeof *t, err))) status = -1;
    if (!status) {
        T = d->T;
        for (int i = 0; i < T; i++)
            t[i] = d->timestep_map[i], t[T + i] = sqrt(d->alphas_cumprod[i]),
            t[2 * T + i] = sqrt(1 - d->alphas_cumprod[i]);
        for (int k = 0; k < TIMES; k++) at[k] = d->timestep_map[(int)((k + 0.5) * T / TIMES)];
        const int softmax = c->predict == PREDICT_SOFTMAX, panel_count = text ? 2 + softmax : 1;
        const Curve curve[] = {{t, d->alphas_cumprod, T, 0, 0},
                               {t, t + T, T, 2, 0},
                               {t, t + 2 * T, T, 1, 0},
                               {at, mse, TIMES, 0, 0},
                               {at, head_nll, TIMES, 0, 0}};
        static const int begin[] = {0, 3, 4, 5};
        static const char *const titles[] = {"the schedule",
                                             "mse by t: how far the guess is off, squared",
                                             "head_nll by t: surprise of a word, nats"};
        static const char *const names[] = {"alphas_cumprod", "sqrt(alphas_cumprod): signal",
                                            "sqrt(1 - alphas_cumprod): noise"};
        begin_svg(out, panel_count * WIDE + 10, HIGH + 60, "The noise schedule");
        for (int k = 0; k < panel_count; k++) {
            Plot p = {.left = LEFT + k * WIDE,
                      .top = TOP,
                      .width = WIDE - LEFT - 20,
                      .height = HIGH - TOP - 40};
            buffer_print(out, "<g class=\"panel\">\n");
            add_axes(out, &p, curve + begin[k], begin[k + 1] - begin[k], 0, titles[k], "t");
            for (int i = begin[k]; i < begin[k + 1]; i++) add_curve(out, &p, &curve[i]);
            buffer_print(out, "</g>\n");
        }
        for (int i = 0; i < 3; i++)
            buffer_print(out,
                         "<path class=\"l%d\" d=\"M%d %dh24\"/><text class=\"f\" x=\"%d\" "
                         "y=\"%d\">%s</text>\n",
                         curve[i].colour, LEFT, HIGH + 14 + 16 * i, LEFT + 32, HIGH + 18 + 16 * i,
                         names[i]);
        buffer_print(out, "</svg>\n");
    }
    free(t);
    trained_free(&trained);
    return status;
}

int main(int argc, char **argv)
{
    begin_program();
    static const char usage[] = "usage: build/draw denoise < shown.txt > out.svg\n"
                                "       build/draw loss LOG.jsonl [LOG.jsonl ...] > out.svg\n"
                                "       build/draw words CHECKPOINT [LIST] > out.svg\n"
                                "       build/draw schedule CHECKPOINT [TEXT] > out.svg\n";
    const char *what = argc > 1 ? argv[1] : "", *second = argc > 3 ? argv[3] : NULL;
    Buffer out = {0};
    Error err;
    int status;
    if (argc == 2 && !strcmp(what, "--help")) return fputs(usage, stdout) < 0;
    if (argc == 2 && !strcmp(what, "denoise")) {
        size_t n;
        char *text = read_file("-", &n, &err);
        status = text ? draw_denoise(&out, text, n, &err) : -1;
        free(text);
    } else if (argc > 2 && !strcmp(what, "loss"))
        status = draw_loss(&out, argv + 2, argc - 2, &err);
    else if ((argc == 3 || argc == 4) && !strcmp(what, "words"))
        status = draw_words(&out, argv[2], second, &err);
    else if ((argc == 3 || argc == 4) && !strcmp(what, "schedule"))
        status = draw_schedule(&out, argv[2], second, &err);
    else
        return fputs(usage, stderr), 2;
    if (!status && out.failed) status = fail(&err, "out of memory");
    if (!status) fwrite(out.text, 1, out.length, stdout);
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(&err, "standard output: cannot write");
    if (status) fprintf(stderr, "draw: %s\n", err.text);
    free(out.text);
    return status ? 1 : 0;
}
