/* sample.c - draws sentences from a checkpoint that ./train has written.
 *
 *   ./sample                                 10 sentences of simple.safetensors
 *   ./sample mine.safetensors -n 3 --show    how three sentences come out of the noise
 *   ./sample mine.safetensors --prompts FILE     fills the gaps of every line of FILE
 *   ./sample mine.safetensors --eval FILE    how probable the sentences of FILE are, at least
 *   ./sample mine.safetensors --guide mine.clf.safetensors --label good      with this label
 *   ./sample mine.safetensors --info         what it is
 *   ./sample mine.safetensors --probe SENTENCE   numbers to check a network rebuilt elsewhere by
 *   ./sample mine.safetensors --nearest WORD     the words nearest to it
 *
 * Sentences go to stdout, one a line; everything else goes to stderr. The length of sample i is a
 * hash of (seed, i), its noise one of (seed, step, i): the same seed gives the same sentences
 * whatever their number and the number of threads. */
#include "tdiff.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 64 /* sentences at a time, at most */,
    WINDOW = 1024 /* whose lengths are drawn at once: equal ones meet */,
    FRAMES_PRINTED = 16 /* states that --show prints, at most one more */,
    FRAMES_MOVING = 60 /* on a terminal */,
    GUIDES = 8,
    MOST = 100000000 /* sentences */
};

typedef struct {
    Model model;
    Workspace work;
    int label;
} Guide; /* a classifier and what it is to say */

/* The words of --prompt, a line of --prompts, --edit or --probe, or of no text at all. */
typedef struct {
    int *ids, size;        /* [CLS] and [SEP] included */
    int shortest, longest; /* that a sample may be, in positions */
} Given;

typedef struct {
    int n /* of every Given */, first, seed, threads, show, show_probabilities, frames, info,
        variance, help, version, clip_denoised, clamp_from, eval_steps, eval_all, go_on, allow_unk;
    double guide_scale, top_p, eta, ahead, strength, evidence_above, fps;
    const char *steps /* NULL: the default, which depends on the model */, *out, *prompt, *prompts,
        *length, *edit, *eval, *probe, *nearest;
    const char *guide[GUIDES], *label[GUIDES]; /* as many of both */
    Guide guides[GUIDES];
    int num_guides;
    int start;
    int written; /* sentences */
    Pace pace;
    double begun;         /* the diffusion step that is being computed, in seconds() */
    double started, told; /* the run; the last line of progress, or 0 */
    int finished;         /* sentences, not all of them written */
    /* --show on a terminal: a row for each of the first sentences of a window, below a heading */
    Buffer *row;
    int rows, drawn; /* 0: there is no such terminal; what is on it now */
    int base;        /* the number of the window's first sentence */
    double frame_at; /* when the last frame was drawn */
    Tokenizer tokenizer;
    Model model;
    Workspace work;
    Diffusion diffusion;
    real *length_count; /* (max_positions+1) of the training text; NULL: the model fills sentences
                           up with [PAD] itself */
    Given *given;
    int num_given;
    int shortest, longest; /* of all of them */
    /* the current batch: samples number[0..count-1], of N positions each; their arrays have room
     * for (positions) */
    int number[BATCH], count, N;
    int *ids, *fixed;       /* (count,N) fixed: the words that are known, [MASK] where none is */
    real *x, *dx, *known_x; /* (count,N,D) dx: the gradient of one guide, or x_t to be shown;
                               known_x: embeddings of what is known, or edited */
    size_t *end;            /* (N) of the pieces of a text */
    unsigned char *known;   /* (count,N) */
} Sampling;

/* Is all that was printed on its way? */
static int flushed(const Sampling *r, FILE *out, Error *err)
{
    if (!fflush(out) && !ferror(out)) return 0;
    return fail(err, "%s: cannot write", r->out ? r->out : "standard output");
}

typedef struct {
    uint64_t key;
    uint32_t index;
} Redraw;

static real redraw(void *context)
{
    Redraw *r = context;
    real pair[2];
    rng_gaussian(pair, 2, rng_key(r->key, RNG_SAMPLE, r->index++, 0));
    return pair[0];
}

/* For people who wait: a line on stderr, if that is a terminal, after a few seconds. */
static void tell_progress(Sampling *r, double now, double finished)
{
    const double elapsed = now - r->started;
    const int all = r->n * r->num_given;
    Buffer left = {0};
    if (r->show || elapsed < 3 || now - r->told < 0.2 || !on_terminal(stderr)) return;
    buffer_duration(&left, elapsed * (all / fmax(finished, 1e-9) - 1));
    fprintf(stderr, "\r%.0f of %d sentences", floor(finished), all);
    if (finished > 0 && !left.failed) fprintf(stderr, ", about %s left", left.text);
    fprintf(stderr, "\x1b[K");
    fflush(stderr);
    free(left.text);
    r->told = now;
}

static void end_progress(Sampling *r)
{
    if (r->told > 0) fprintf(stderr, "\r\x1b[K");
    r->told = 0;
}

static void draw_noise(void *context, real *out, int t)
{
    Sampling *r = context;
    const size_t n = (size_t)r->N * r->model.config.emb_dim;
    const int T = r->diffusion.T, is_begin = t == T; /* x_T itself */
    const int step = is_begin ? r->diffusion.total : r->diffusion.timestep_map[t];
    const double now = seconds();
    if (!is_begin && t < (r->start ? r->start : T) - 1)
        pace_step(&r->pace, (double)r->count * r->N, now - r->begun);
    r->begun = now;
    tell_progress(r, now, r->finished + r->count * (is_begin ? 0 : 1 - (t + 1.0) / T));
#pragma omp parallel for
    for (int b = 0; b < r->count; b++) {
        Redraw more = {
            rng_key((uint64_t)r->seed, RNG_SAMPLE, (uint64_t)step, (uint64_t)r->number[b]), 0};
        rng_gaussian(out + b * n, n, more.key);
        if (r->top_p > 0 && !is_begin) truncate_noise(out + b * n, n, r->top_p, redraw, &more);
    }
}

/* Bayes' rule, for every condition: the gradients of log p(label | x_t) add up, each guide_scale
 * times. */
static void add_guides(void *context, real *dx, const real *x, int t)
{
    Sampling *r = context;
    const int N = r->N, B = r->count;
    const size_t n = (size_t)B * N * r->model.config.emb_dim;
    const Dropout none = {0, 0, 0};
    int label[BATCH];
    double nll[BATCH];
    real timesteps[BATCH], weight[BATCH];
    memset(dx, 0, n * sizeof *dx);
    for (int g = 0; g < r->num_guides; g++) {
        Guide *guide = &r->guides[g];
        for (int b = 0; b < B; b++) {
            label[b] = guide->label, weight[b] = (real)-r->guide_scale,
            timesteps[b] = diffusion_timestep(&r->diffusion, t);
        }
        classifier_forward(&guide->model, &guide->work, nll, x, timesteps, label, B, N, none);
        classifier_backward(&guide->model, &guide->work, r->dx, label, weight, B, N, none);
        for (size_t i = 0; i < n; i++) dx[i] += r->dx[i];
    }
}

/* What is not known of a sentence are words: what stands for no word gets a bias of lm_head that
 * makes it impossible. Without lengths the network says itself where a sentence ends. */
static void only_words(Sampling *r)
{
    for (int role = 0; role < TOKEN_SPECIALS; role++) {
        const int is_place = role == TOKEN_CLS || role == TOKEN_SEP || role == TOKEN_PAD;
        if (is_place && !r->length_count) continue;
        if (role == TOKEN_UNK && r->allow_unk) continue;
        r->model.lm_head_bias->data[r->tokenizer.special[role]] = (real)-1e30;
    }
}

/* The words nearest to x, where none is known. */
static void read_words(Sampling *r, const real *x)
{
    likeliest_words(&r->model, &r->work, r->ids, x, r->count, r->N);
    for (int i = 0; i < r->count * r->N; i++)
        if (r->fixed[i] != r->tokenizer.special[TOKEN_MASK]) r->ids[i] = r->fixed[i];
}

/* How probable the network finds the word of position i: the softmax head says it, or lm_head. A
 * word that is given is certain. */
static double word_probability(const Sampling *r, int i, int has_head)
{
    const int V = r->model.config.vocab, id = r->ids[i];
    const real *row = (has_head ? r->work.head : r->work.logits) + (size_t)i * V;
    double sum = 0;
    if (r->fixed[i] != r->tokenizer.special[TOKEN_MASK]) return 1;
    if (has_head) return row[id];
    for (int v = 0; v < V; v++) sum += real_exp(row[v] - row[id]);
    return 1 / sum;
}

/* The text of sentence b of the batch: of position i that is text[end[i-1]] to text[end[i] - 1]. */
static void text_of(const Sampling *r, int b, Buffer *text, size_t *end)
{
    const int *ids = r->ids + b * r->N;
    Buffer part = {0};
    tokenizer_decode(&r->tokenizer, ids, r->N, 0, text);
    buffer_add(text, "", 0);
    for (int i = 0; i < r->N; i++) {
        part.length = 0;
        tokenizer_decode(&r->tokenizer, ids, i + 1, 0, &part);
        end[i] = part.length < text->length ? part.length : text->length;
        while (end[i] < text->length && (text->text[end[i]] & 0xC0) == 0x80) end[i]++; /* UTF-8 */
    }
    if (part.failed) text->failed = 1;
    free(part.text);
    hide_controls(text->text);
}

/* A line of --show for each sentence: what the network takes it for at t. With
 * --show-probabilities every piece of the text is followed by a TAB, how probable its word is in
 * percent, and a TAB. name: of the process, t backward and q forward. */
static void show_lines(Sampling *r, char name, int t, int has_head)
{
    for (int b = 0; b < r->count; b++) {
        Buffer text = {0};
        size_t from = 0;
        text_of(r, b, &text, r->end);
        fprintf(stderr, "%c %5d", name, r->diffusion.timestep_map[t]);
        if (r->show_probabilities)
            fprintf(stderr, " noise %.2f", sqrt(1 - r->diffusion.alphas_cumprod[t]));
        fprintf(stderr, " | ");
        if (!r->show_probabilities && !text.failed) fputs(text.text, stderr);
        if (r->show_probabilities && !text.failed)
            for (int i = 0; i < r->N; i++) {
                if (r->end[i] <= from) continue; /* a word that prints nothing */
                fprintf(stderr, "%.*s\t%.0f\t", (int)(r->end[i] - from), text.text + from,
                        100 * word_probability(r, b * r->N + i, has_head));
                from = r->end[i];
            }
        fputc('\n', stderr);
        free(text.text);
    }
}

/* Sentence b of the batch as a row of so many columns, every word coloured from unsure to sure. */
static void draw_row(Sampling *r, int b, int columns, Buffer *row, int has_head)
{
    static const int shades[] = {245, 138, 173, 172, 142, 107, 71, 35}; /* of the 256 of xterm */
    enum { SHADES = sizeof shades / sizeof *shades };
    Buffer text = {0};
    size_t fits = 0, from = 0;
    text_of(r, b, &text, r->end);
    if (!text.failed) text_columns(text.text, text.length, columns, &fits);
    const int is_cut = fits < text.length;
    if (is_cut) text_columns(text.text, text.length, columns - 1, &fits);
    row->length = 0;
    for (int i = 0; i < r->N && from < fits && !text.failed; i++) {
        const size_t end = r->end[i] < fits ? r->end[i] : fits;
        if (end <= from) continue;
        const double p = word_probability(r, b * r->N + i, has_head);
        buffer_print(row, "\x1b[38;5;%dm%.*s", shades[(int)(p * (SHADES - 1) + 0.5)],
                     (int)(end - from), text.text + from);
        from = end;
    }
    buffer_print(row, "\x1b[0m%s", is_cut ? "\xe2\x80\xa6" : "");
    free(text.text);
}

/* The heading and all rows, over those of the last frame, which is seen for 1 / fps seconds. */
static void draw_frame(Sampling *r, char name, int t, int has_head)
{
    int columns, rows, is_seen = 0;
    const double noise = sqrt(1 - r->diffusion.alphas_cumprod[t]), begun = seconds();
    char head[120];
    terminal_size(stderr, &columns, &rows);
    for (int b = 0; b < r->count; b++)
        if (r->number[b] - r->base < r->rows) {
            draw_row(r, b, columns, &r->row[r->number[b] - r->base], has_head);
            is_seen = 1;
        }
    if (!is_seen || stop_signal()) return;
    wait_seconds(r->frame_at + 1 / r->fps - begun);
    r->frame_at = seconds();
    r->begun += r->frame_at - begun; /* the time of a step is without it */
    snprintf(head, sizeof head, "%s t %d, noise %.2f %.*s  %d of %d sentences",
             name == 'q' ? "forward," : "back,", r->diffusion.timestep_map[t], noise,
             (int)(20 * noise + 0.5), "####################", r->finished, r->n * r->num_given);
    if (r->drawn) fprintf(stderr, "\x1b[%dA", r->drawn);
    fprintf(stderr, "\r%.*s\x1b[K\n", columns, head);
    for (int k = 0; k < r->rows; k++)
        fprintf(stderr, "%s\x1b[K\n", r->row[k].text && !r->row[k].failed ? r->row[k].text : "");
    r->drawn = r->rows + 1;
    fflush(stderr);
}

/* Rows for as many of a window's sentences as there is room for. */
static int begin_screen(Sampling *r, int first, int window, Error *err)
{
    int columns, rows;
    r->base = first;
    if (!r->show || r->show_probabilities || is_plain(stderr)) return 0;
    terminal_size(stderr, &columns, &rows);
    r->rows = window < rows - 2 ? window : rows > 3 ? rows - 2 : 1;
    if (!(r->row = checked_alloc(r->rows, sizeof *r->row, err))) return -1;
    fprintf(stderr, "\x1b[?25l"); /* hides the cursor */
    return 0;
}

/* The sentences will be printed where they were shown, if that is a terminal, too. */
static void end_screen(Sampling *r, int erase)
{
    if (r->drawn && erase) fprintf(stderr, "\x1b[%dA\r\x1b[J", r->drawn);
    if (r->row) fprintf(stderr, "\x1b[?25h");
    for (int k = 0; k < r->rows && r->row; k++) free(r->row[k].text);
    free(r->row);
    r->row = NULL, r->drawn = 0;
}

/* Is t one of the states to show? The first and the last are. */
static int is_shown(const Sampling *r, int t)
{
    const int T = r->start ? r->start : r->diffusion.T;
    const int frames = r->frames ? r->frames : r->row ? FRAMES_MOVING : FRAMES_PRINTED;
    return t % ((T + frames - 1) / frames) == 0 || t == T - 1;
}

static void show_state(void *context, int t, const real *pred_xstart)
{
    Sampling *r = context;
    if (!is_shown(r, t)) return;
    read_words(r, pred_xstart);
    (r->row ? draw_frame : show_lines)(r, 't', t, r->model.config.predict == PREDICT_SOFTMAX);
}

/* How the sentences dissolve in noise: the words that x_t alone makes probable, by Bayes' rule if
 * all embeddings are of one norm. */
static void show_forward(Sampling *r, const real *noise)
{
    const size_t n = (size_t)r->N * r->model.config.emb_dim;
    for (int t = 0; t < r->start; t++) {
        const double a = r->diffusion.alphas_cumprod[t];
        if (!is_shown(r, t)) continue;
        for (int b = 0; b < r->count; b++)
            q_sample(r->dx + b * n, r->known_x + b * n, noise + b * n, &t, &r->diffusion, 1, n);
        for (size_t i = 0; i < r->count * n; i++) r->dx[i] *= (real)(sqrt(a) / (1 - a));
        read_words(r, r->dx);
        (r->row ? draw_frame : show_lines)(r, 'q', t, 0);
    }
}

/* The steps that --steps asks for, or 50, or all. */
static int init_diffusion(Sampling *r, const Config *c, Error *err)
{
    const int total = c->diffusion_steps;
    const int all = r->eval || r->probe || r->nearest || total < 50;
    const char *sections = r->steps ? r->steps : all ? NULL : "50";
    unsigned char *kept = checked_alloc(total, 1, err);
    int status = !kept || (sections && steps_from_noise(kept, total, sections, err) < 0) ? -1 : 0;
    if (!status)
        status =
            diffusion_init(&r->diffusion, c->noise_schedule, total, sections ? kept : NULL, err);
    free(kept);
    return status;
}

static int load_lengths(Sampling *r, Checkpoint *c, Error *err)
{
    const Tensor lengths = length_tensor(r->model.config.max_positions);
    if (!checkpoint_has(c, lengths.name)) return 0;
    if (!(r->length_count = checked_alloc(lengths.size, sizeof *r->length_count, err)) ||
        checkpoint_tensor(c, &lengths, "", r->length_count, err))
        return -1;
    for (size_t N = 0; N < lengths.size; N++)
        if (r->length_count[N] < 0 || (N < SHORTEST && r->length_count[N] > 0))
            return fail(err, "%s: tensor '%s': %g sentences of %zu positions", c->path,
                        lengths.name, (double)r->length_count[N], N);
    return 0;
}

static int load(Sampling *r, const char *path, Error *err)
{
    Checkpoint c;
    Config config = {0};
    int steps_done, status = -1;
    if (!checkpoint_open(&c, path, err) && !checkpoint_is(&c, NULL, err) &&
        !checkpoint_config(&c, &config, &r->tokenizer, &steps_done, err) &&
        !model_init(&r->model, &config, err) &&
        !checkpoint_tensors(&c, &r->model, "", r->model.params, err) && !load_lengths(r, &c, err) &&
        !init_diffusion(r, &config, err) &&
        !workspace_init(&r->work, &config, 1, SHORTEST, 0, err)) {
        embedding_table_forward(&r->model);
        r->diffusion.evidence_above = r->evidence_above;
        status = 0;
        fprintf(stderr, "%s: step %d, %.2f million parameters; %d of %d diffusion steps\n", path,
                steps_done, r->model.num_params * 1e-6, r->diffusion.T, r->diffusion.total);
    }
    checkpoint_close(&c);
    return status;
}

/* --guide number g */
static int load_guide(Sampling *r, int g, Error *err)
{
    const char *path = r->guide[g], *label = r->label[g];
    const Config *of = &r->model.config;
    Checkpoint c;
    Config config = {0};
    Tokenizer labels = {0};
    Guide *guide = &r->guides[g];
    int steps_done, status = -1;
    if (!checkpoint_open(&c, path, err) && !checkpoint_is(&c, &r->model, err) &&
        !checkpoint_config(&c, &config, &labels, &steps_done, err) &&
        !model_init(&guide->model, &config, err) &&
        !checkpoint_tensors(&c, &guide->model, "", guide->model.params, err) &&
        !workspace_init(&guide->work, &config, 1, SHORTEST, 1, err)) {
        guide->label = tokenizer_find(&labels, label);
        if (config.emb_dim != of->emb_dim || config.max_positions != of->max_positions ||
            config.emb_norm > 0)
            fail(err, "%s: not the shape of a classifier for this denoiser", path);
        else if (guide->label >= TOKEN_SPECIALS)
            status = 0;
        else {
            Buffer names = {0};
            for (int i = TOKEN_SPECIALS; i < labels.size && names.length < 200; i++)
                buffer_print(&names, "%s'%.40s'", i > TOKEN_SPECIALS ? ", " : "", labels.token[i]);
            fail(err, "--label %.80s: %s knows the labels %s%s", label, path,
                 names.failed ? "" : names.text, names.length < 200 ? "" : ", ...");
            free(names.text);
        }
    }
    r->num_guides = g + 1;
    checkpoint_close(&c);
    tokenizer_free(&labels);
    return status;
}

/* Says which word of the text it is, and what it may have been meant to be. */
static int unknown_word(const Tokenizer *t, const char *text, const char *option, Error *err)
{
    Buffer pieces = {0}, near = {0};
    tokenizer_split(t, text, strlen(text), &pieces);
    fail(err, "out of memory");
    for (char *word = strtok(pieces.text, "\n"); word; word = strtok(NULL, "\n"))
        if (tokenizer_unknown(t, word)) {
            tokenizer_nearest(t, word, &near);
            fail(err, "%s: '%.80s' is not in the vocabulary; near it are %.200s", option, word,
                 near.failed ? "?" : near.text);
            break;
        }
    free(pieces.text);
    free(near.text);
    return -1;
}

/* "N" or "N-M" words: the lengths that are left of those that a prompt allows. */
static int asked_length(const Sampling *r, Given *g, const char *option, Error *err)
{
    const int most = r->model.config.max_positions - 2; /* without [CLS] and [SEP] */
    char *end;
    long from = strtol(r->length, &end, 10), to = from;
    if (*end == '-') to = strtol(end + 1, &end, 10);
    if (*end || strspn(r->length, "0123456789-") < strlen(r->length) || from < 1 || to < from)
        return fail(err,
                    "--length: '%.40s' is no number of words from 1 on, nor two, the smaller "
                    "first, with a - between",
                    r->length);
    if (to > most)
        return fail(err, "--length %.40s: the model has room for %d words", r->length, most);
    if (to + 2 < g->shortest)
        return fail(err, "--length %s: with its prompt a sentence has %d words at least (%s)",
                    r->length, g->shortest - 2, option);
    g->shortest = from + 2 > g->shortest ? (int)from + 2 : g->shortest;
    g->longest = (int)to + 2;
    return 0;
}

/* The words of text, where [MASK] marks what is not known, and how long a sample may be. option:
 * where the text stands; text may be NULL. */
static int given_words(Sampling *r, Given *g, const char *text, const char *option, Error *err)
{
    const int most = r->model.config.max_positions, is_prompt = r->prompt || r->prompts;
    int masks = 0;
    Error inner;
    g->shortest = r->length || r->length_count ? SHORTEST : r->model.config.seq_len;
    g->longest = r->length_count ? most : r->model.config.seq_len;
    if (!text) return r->length ? asked_length(r, g, option, err) : 0;
    if (!(g->ids = checked_alloc(most, sizeof *g->ids, err))) return -1;
    if (tokenizer_accepts(&r->tokenizer, text, strlen(text), &inner))
        return fail(err, "%s: %.400s", option, inner.text);
    Buffer capitals = {0}; /* [mask] is meant as [MASK] */
    buffer_add(&capitals, "", 0);
    for (const char *p = text; *p; p++) {
        const int is_mask = !strncmp(p, "[mask]", 6);
        buffer_add(&capitals, is_mask ? "[MASK]" : p, is_mask ? 6 : 1);
        p += is_mask ? 5 : 0;
    }
    long n = capitals.failed
                 ? -1
                 : tokenizer_encode(&r->tokenizer, capitals.text, capitals.length, g->ids, most);
    free(capitals.text);
    if (n < 0) return fail(err, "out of memory");
    if (n > most)
        return fail(err, "%s: %ld positions with [CLS] and [SEP], the model has %d", option, n,
                    most);
    for (int i = 0; i < n; i++) {
        if (g->ids[i] == r->tokenizer.special[TOKEN_UNK])
            return unknown_word(&r->tokenizer, text, option, err);
        masks += g->ids[i] == r->tokenizer.special[TOKEN_MASK];
    }
    g->size = (int)n;
    if (r->edit && masks)
        return fail(err, "%s: a [MASK] is for --prompt; expected a whole sentence", option);
    if (r->edit && n < SHORTEST) return fail(err, "%s: expected a sentence", option);
    if (is_prompt && !masks && !r->go_on && !r->length)
        return fail(err,
                    "%s: no [MASK] in it, so nothing is left to sample; with --continue the "
                    "sentence goes on behind it",
                    option);
    g->shortest = g->longest = (int)n;
    if (!is_prompt || (!r->go_on && !r->length)) return 0;
    g->shortest = masks ? (int)n : (int)n + 1, g->longest = most;
    if (g->shortest > most)
        return fail(err,
                    "%s: no room behind it: the model has %d positions, [CLS] and [SEP] included",
                    option, most);
    return r->length ? asked_length(r, g, option, err) : 0;
}

/* The lines of --prompts, but for blank ones */
static int read_prompts(Sampling *r, Error *err)
{
    Corpus c = {0};
    Buffer where = {0};
    size_t lines = 1;
    int line = 1, status = corpus_read(&c, r->prompts, err);
    for (size_t i = 0; i < c.length && !status; i++) lines += c.text[i] == '\n';
    if (!status && !(r->given = checked_alloc(lines, sizeof *r->given, err))) status = -1;
    for (size_t at = 0, end; at < c.length && !status; at = end + 1, line++) {
        for (end = at; end < c.length && c.text[end] != '\n';) end++;
        c.text[end] = '\0';
        where.length = 0;
        buffer_print(&where, "%s: line %d", r->prompts, line);
        if (strlen(c.text + at) < end - at)
            status = fail(err, "%s: a byte 0 in it; expected text", where.text);
        else if (where.failed)
            status = fail(err, "out of memory");
        else if (strspn(c.text + at, " \t\r") < end - at)
            status = given_words(r, &r->given[r->num_given++], c.text + at, where.text, err);
    }
    if (!status && !r->num_given) status = fail(err, "%s: no prompt in it", r->prompts);
    free(where.text);
    corpus_free(&c);
    return status;
}

static int take_given(Sampling *r, Error *err)
{
    static const char *const name[] = {"--prompt", "--edit", "--probe", "--nearest"};
    const char *const text[] = {r->prompt, r->edit, r->probe, r->nearest};
    int k = 0; /* that was given, if any was */
    while (k < 3 && !text[k]) k++;
    if ((r->prompts || text[k]) && tokenizer_cut_specials(&r->tokenizer, err)) return -1;
    if (r->prompts) return read_prompts(r, err);
    if (!(r->given = checked_alloc(1, sizeof *r->given, err))) return -1;
    r->num_given = 1;
    return given_words(r, r->given, text[k], name[k], err);
}

/* The default of --strength: the share of the steps from where the network, of the sentence as
 * noise leaves it there, still guesses most of the words right that it does with hardly any noise.
 * (In how much noise that is depends on how alike words are, and how much the others tell of one.)
 * It is where what the share of right words has above that adds up to the most, so that a single
 * unlucky noise does not matter. */
static int legible_strength(Sampling *r, Error *err)
{
    enum { NOISES = 256, CLEAR = 16 }; /* of rising strength; the first of these are hardly any */
    const double most_of_it = 0.9;
    const Config *c = &r->model.config;
    const int size = r->given->size, N = r->length_count ? size : c->seq_len;
    const int B = piece_of_batch(BATCH, N), T = r->diffusion.T;
    const size_t n = (size_t)N * c->emb_dim;
    const Dropout none = {0, 0, 0};
    double terms[5 * BATCH], right[NOISES] = {0}, clear = 0, above = 0, most = 0;
    int t[BATCH], status = -1;
    int *ids = checked_alloc((size_t)B * N, sizeof *ids, err);
    int *guess = checked_alloc((size_t)B * N, sizeof *guess, err);
    real *noise = checked_alloc(B * n, 2 * sizeof *noise, err);
    if (ids && guess && noise && !workspace_fit(&r->work, c, B, N, err)) status = 0;
    for (int i = 0; i < B * N && !status; i++)
        ids[i] = i % N < size ? r->given->ids[i % N] : r->tokenizer.special[TOKEN_PAD];
    for (int first = 0; first < NOISES && !status; first += B) {
        const int count = NOISES - first < B ? NOISES - first : B;
        const Batch y = {ids, t, noise, noise + B * n, NULL, c->self_conditioning, count, N};
        const Losses losses = {terms, terms + B, terms + 2 * B, terms + 3 * B, terms + 4 * B};
        for (int b = 0; b < count; b++) t[b] = (first + b) * T / NOISES;
        rng_gaussian(noise, 2 * B * n, rng_key((uint64_t)r->seed, RNG_NOISE_T, 0, (uint64_t)first));
        training_losses(&r->model, &r->work, &losses, &r->diffusion, &y, 0, none);
        likeliest_words(&r->model, &r->work, guess, r->work.pred_xstart, count, N);
        for (int b = 0; b < count; b++) /* without [CLS] and [SEP] */
            for (int i = b * N + 1; i < b * N + size - 1; i++)
                right[first + b] += (guess[i] == ids[i]) / (size - 2.0);
    }
    free(ids);
    free(guess);
    free(noise);
    if (status) return -1;
    for (int k = 0; k < CLEAR; k++) clear += right[k] / CLEAR;
    r->strength = 1.0 / NOISES;
    for (int k = 0; k < NOISES; k++) {
        above += right[k] - most_of_it * clear;
        if (above > most) most = above, r->strength = (k + 1.0) / NOISES;
    }
    fprintf(stderr, "--strength %.2f: up to there %.0f %% of its words can be read\n", r->strength,
            100 * most_of_it * clear);
    return 0;
}

/* How long the samples may be, what of them is known, and room for a batch. */
static int plan(Sampling *r, Error *err)
{
    const Config *c = &r->model.config;
    size_t positions = 0;
    if (take_given(r, err)) return -1;
    if (r->edit && !r->strength && legible_strength(r, err)) return -1;
    const double all = (double)r->n * r->num_given;
    if (all > MOST) return fail(err, "-n %d: %.0f sentences, expected %d at most", r->n, all, MOST);
    const int most = all < BATCH ? (int)all : BATCH, has_dx = r->num_guides || (r->show && r->edit);
    r->shortest = r->given->shortest, r->longest = r->given->longest;
    for (const Given *g = r->given; g < r->given + r->num_given; g++) {
        if (g->shortest < r->shortest) r->shortest = g->shortest;
        if (g->longest > r->longest) r->longest = g->longest;
    }
    for (int length = r->shortest; length <= r->longest; length++) {
        const int N = r->length_count ? length : c->seq_len;
        const size_t needed = (size_t)piece_of_batch(most, N) * N;
        if (needed > positions) positions = needed;
    }
    r->start = (int)(r->strength * r->diffusion.T + 0.5);
    if (r->start < 1) r->start = 1;
    if (!r->edit) r->start = 0;
    if (!(r->fixed = checked_alloc(positions, sizeof *r->fixed, err)) ||
        !(r->ids = checked_alloc(positions, sizeof *r->ids, err)) ||
        !(r->x = checked_alloc(positions, c->emb_dim * sizeof *r->x, err)) ||
        !(r->end = checked_alloc(c->max_positions, sizeof *r->end, err)) ||
        !(r->dx = checked_alloc(positions, (has_dx ? c->emb_dim : 0) * sizeof *r->dx, err)) ||
        !(r->known_x = checked_alloc(positions, c->emb_dim * sizeof *r->known_x, err)) ||
        !(r->known = checked_alloc(positions, 1, err)))
        return -1;
    return 0;
}

/* What is given for sample i */
static const Given *given_for(const Sampling *r, int i) { return &r->given[(i - r->first) / r->n]; }

/* The length of sample i: the same wherever and beside whatever it is drawn. */
static int length_of(const Sampling *r, int i)
{
    const double u =
        rng_u32(rng_key((uint64_t)r->seed, RNG_LENGTH, 0, (uint64_t)i), 0) / 4294967296.0;
    return draw_length(r->length_count, given_for(r, i)->shortest, given_for(r, i)->longest, u);
}

/* What is known of sample b of the batch: where it begins and ends, and the words of its prompt. */
static void fix_words(Sampling *r, int b, int length)
{
    const Given *g = given_for(r, r->number[b]);
    const int is_prompt = r->prompt || r->prompts, behind = is_prompt ? g->size - 1 : 0;
    const int padded = !r->length_count, *special = r->tokenizer.special;
    int *fixed = r->fixed + b * r->N;
    for (int i = 0; i < r->N; i++) {
        fixed[i] = special[TOKEN_MASK];
        if (padded && !is_prompt && !r->length) continue; /* then the network says where it ends */
        if (i >= length)
            fixed[i] = special[TOKEN_PAD];
        else if (i == length - 1)
            fixed[i] = special[TOKEN_SEP];
        else if (i == 0)
            fixed[i] = special[TOKEN_CLS];
        else if (i < behind)
            fixed[i] = g->ids[i];
    }
}

/* The samples r->number[0..count-1], all of one length, into text[number - first]. */
static int sample_batch(Sampling *r, int length, Buffer *text, int first, Error *err)
{
    const int D = r->model.config.emb_dim, T = r->diffusion.T,
              N = r->N = r->length_count ? length : r->model.config.seq_len;
    const size_t n = (size_t)N * D;
    const int mask = r->tokenizer.special[TOKEN_MASK], pad = r->tokenizer.special[TOKEN_PAD];
    int any = 0;
    if (workspace_fit(&r->work, &r->model.config, r->count, N, err)) return -1;
    for (int g = 0; g < r->num_guides; g++)
        if (workspace_fit(&r->guides[g].work, &r->guides[g].model.config, r->count, N, err))
            return -1;
    for (int b = 0; b < r->count; b++) {
        const Given *g = given_for(r, r->number[b]);
        const int *fixed = r->fixed + b * N;
        fix_words(r, b, length);
        for (int i = 0; i < N; i++) any |= r->known[b * N + i] = fixed[i] != mask;
        for (int i = 0; i < N; i++)
            r->ids[b * N + i] = !r->edit ? fixed[i] : i < g->size ? g->ids[i] : pad;
    }
    embedding_forward(r->known_x, r->model.embedding, r->ids, r->count * N, D);
    draw_noise(r, r->x, T);
    if (r->show && r->edit) show_forward(r, r->x);
    for (int b = 0, t = r->start - 1; b < r->count && r->edit;
         b++) /* x_T's noise serves for x_t as well */
        q_sample(r->x + b * n, r->known_x + b * n, r->x + b * n, &t, &r->diffusion, 1, n);
    const Sampler sampler = {.variance = (Variance)r->variance,
                             .noise = draw_noise,
                             .show = r->show ? show_state : NULL,
                             .context = r,
                             .clip_denoised = r->clip_denoised,
                             .clamp_from = r->clamp_from,
                             .ddim = r->eta >= 0,
                             .eta = r->eta,
                             .ahead = r->ahead,
                             .start = r->start,
                             .known = any ? r->known : NULL,
                             .known_x = r->known_x,
                             .gradient = r->num_guides ? add_guides : NULL};
    if (p_sample_loop(&r->model, &r->work, &r->diffusion, &sampler, r->x, r->count, N, err))
        return -1;
    read_words(r, r->x);
    for (int b = 0; b < r->count; b++) {
        Buffer *out = &text[r->number[b] - first];
        tokenizer_decode(&r->tokenizer, r->ids + b * N, N, 0, out);
        for (size_t i = 0; i < out->length; i++) /* a sample is a line, even of bytes */
            if (out->text[i] == '\n') out->text[i] = ' ';
        buffer_add(out, "\n", 1);
        if (out->failed) return fail(err, "out of memory");
    }
    return 0;
}

/* Window by window: the samples of one length are computed together, and all are printed in order.
 */
static int sample(Sampling *r, FILE *out, Error *err)
{
    Buffer text[WINDOW] = {{0}};
    int length[WINDOW], status = 0, terminal = on_terminal(out);
    const int all = r->n * r->num_given;
    r->started = seconds();
    for (int done = 0; done < all && !status; done += WINDOW) {
        const int first = r->first + done, window = all - done < WINDOW ? all - done : WINDOW;
        for (int i = 0; i < window; i++) length[i] = length_of(r, first + i), text[i].length = 0;
        status = begin_screen(r, first, window, err);
        for (int N = r->shortest; N <= r->longest && !status; N++) {
            const int most = piece_of_batch(BATCH, r->length_count ? N : r->model.config.seq_len);
            r->count = 0;
            for (int i = 0; i < window && !status; i++) {
                if (length[i] == N) r->number[r->count++] = first + i;
                if (r->count == most || (r->count && i == window - 1)) {
                    status = stop_signal() ? fail(err, "stopped by a signal")
                                           : sample_batch(r, N, text, first, err);
                    r->finished += r->count;
                    r->count = 0;
                }
            }
        }
        end_progress(r);
        end_screen(r, terminal && !stop_signal());
        for (int i = 0; i < window && (!status || r->rows); i++) {
            if (terminal) hide_controls(text[i].text);
            if (text[i].length) fwrite(text[i].text, 1, text[i].length, out);
        }
        if (!status) status = flushed(r, out, err);
        if (!status) r->written += window;
    }
    for (int i = 0; i < WINDOW; i++) free(text[i].text);
    return status;
}

/* What the bound on -log2 p(sentence) consists of, in bits, summed over sentences */
typedef struct {
    double length, prior, decoder, quartile[4], tokens;
    /* (rows) of each sentence: the terms of t, their squares by rounds, and the rest */
    double *of_t, *squares, *rest;
    int K, round; /* terms that a round draws for a sentence */
} Bits;

/* A round of the variational bound of the sentences order[0..count-1] of a text, which have N
 * positions. Of the sum over t, K terms are drawn, one from each of so many equal parts, at a place
 * that every sentence draws for itself: right on average, and exact with all of them. */
static int add_bound(Sampling *r, Bits *sum, const Corpus *text, const int *order, int count, int N,
                     int *ids, real *noise, Error *err)
{
    const Config *c = &r->model.config;
    const Diffusion *d = &r->diffusion;
    const int T = d->T, K = sum->K;
    const size_t n = (size_t)N * c->emb_dim, values = count * n;
    const double length =
        r->length_count ? -log2(length_probability(r->length_count, c->max_positions, N)) : 0;
    double terms[7 * BATCH] = {0}, *kl = terms + 5 * BATCH, *prior = terms + 6 * BATCH,
                     drawn[BATCH] = {0};
    const Losses losses = {terms, terms + BATCH, terms + 2 * BATCH, terms + 3 * BATCH,
                           terms + 4 * BATCH};
    const int pad = r->tokenizer.special[TOKEN_PAD];
    int t[BATCH];
    if (workspace_fit(&r->work, c, count, N, err)) return -1;
    for (int b = 0; b < count; b++) {
        memcpy(ids + b * N, text->ids + text->start[order[b]], N * sizeof *ids);
        rng_gaussian(noise + b * n, n, rng_key((uint64_t)r->seed, RNG_NOISE_X0, 0, order[b]));
    }
    for (int k = 0; k < K; k++) {
        const Batch batch = {ids, t, noise, noise + values, NULL, c->self_conditioning, count, N};
        const uint64_t round = (uint64_t)sum->round;
        for (int b = 0; b < count; b++) {
            double u = (rng_u32(rng_key((uint64_t)r->seed, RNG_T, round, order[b]), 0) + 0.5) /
                       4294967296.0;
            t[b] = (int)((k + u) * T / K);
            rng_gaussian(noise + values + b * n, n,
                         rng_key((uint64_t)r->seed, RNG_NOISE_T, 1 + (uint64_t)t[b], order[b]));
        }
        const double begun = seconds();
        variational_bound(&r->model, &r->work, &losses, kl, prior, d, &batch, (Variance)r->variance,
                          r->clip_denoised);
        pace_step(&r->pace, (double)count * N, seconds() - begun);
        for (int b = 0; b < count; b++) {
            double of_all = kl[b] * T / K / log(2), rest = prior[b] + losses.decoder_nll[b];
            if (!(of_all - of_all + rest - rest == 0))
                return fail(err, "%s: sentence %d: the bound is not finite at step %d of %d",
                            r->eval, order[b] + 1, d->timestep_map[t[b]], d->total);
            drawn[b] += of_all;
            sum->quartile[(int)(4 * (int64_t)t[b] / T)] += of_all;
        }
        tell_progress(r, seconds(), r->finished + (double)count * (k + 1) / K);
        if (stop_signal()) return fail(err, "stopped by a signal");
    }
    r->finished += count;
    for (int b = 0; b < count; b++) {
        sum->of_t[order[b]] += drawn[b], sum->squares[order[b]] += drawn[b] * drawn[b];
        if (sum->round > 0) continue;
        /* these are the same for every t */
        sum->length += length, sum->prior += prior[b] / log(2),
            sum->decoder += N * losses.decoder_nll[b] / log(2);
        sum->rest[order[b]] = length + (prior[b] + N * losses.decoder_nll[b]) / log(2);
        for (int i = 1; i < N; i++) sum->tokens += ids[b * N + i] != pad;
    }
    return 0;
}

/* After so many rounds: the mean bound, its standard error by the choice of sentences, and that by
 * the choice of t, which the rounds of a sentence tell by what they differ in. */
static void mean_bound(const Bits *sum, int rows, int rounds, double *mean, double *se,
                       double *se_t)
{
    const double count = rows;
    double all = 0, squares = 0, variance = 0;
    for (int i = 0; i < rows; i++) {
        const double of_t = sum->of_t[i] / rounds, bits = of_t + sum->rest[i];
        all += bits, squares += bits * bits;
        if (rounds > 1) variance += fmax(sum->squares[i] / rounds - of_t * of_t, 0) / (rounds - 1);
    }
    *mean = all / count;
    *se = count > 1 ? sqrt(fmax(squares / count - *mean * *mean, 0) / (count - 1)) : 0;
    *se_t = sqrt(variance) / count;
}

/* The bound of all lines of a text, those of one length together. */
static int evaluate(Sampling *r, FILE *out, Error *err)
{
    enum { DRAWN = 16, ROUNDS = 4 }; /* t that a round draws, and the fewest rounds */
    const double enough = 0.01;      /* of the mean: a standard error by the choice of t */
    const Config *c = &r->model.config;
    const int pad = !r->length_count, T = r->diffusion.T;
    const int one_round = r->eval_steps || r->eval_all || T <= DRAWN * ROUNDS;
    Bits sum = {.K = !one_round ? DRAWN : r->eval_steps && r->eval_steps < T ? r->eval_steps : T};
    Corpus text = {0};
    int status = -1, *order = NULL, *rows = NULL, *ids = NULL, end;
    real *noise = NULL;
    double mean, se, se_t;
    r->started = seconds();
    if (corpus_read(&text, r->eval, err) ||
        corpus_fill(&text, r->eval, &r->tokenizer, pad ? c->seq_len : c->max_positions, pad, err))
        goto done;
    if (text.notes.length) fputs(text.notes.text, stderr);
    const size_t all = (size_t)text.rows, positions = (size_t)BATCH * text.longest;
    if (!(order = checked_alloc(all, sizeof *order, err)) ||
        !(rows = checked_alloc(all + text.longest + 2, sizeof *rows, err)) ||
        !(ids = checked_alloc(positions, sizeof *ids, err)) ||
        !(sum.of_t = checked_alloc(all, 3 * sizeof *sum.of_t, err)) ||
        !(noise = checked_alloc(positions, 2 * c->emb_dim * sizeof *noise, err)))
        goto done;
    sum.squares = sum.of_t + all, sum.rest = sum.squares + all;
    r->n = text.rows;
    for (int i = 0; i < text.rows; i++) rows[i] = i;
    sort_by_length(order, rows, text.rows, &text, rows + all);
    do {
        r->finished = 0;
        for (int first = 0; first < text.rows; first = end) {
            const int N = sentence_length(&text, order[first]), most = piece_of_batch(BATCH, N);
            for (end = first + 1;
                 end < text.rows && end - first < most && sentence_length(&text, order[end]) == N;)
                end++;
            if (add_bound(r, &sum, &text, order + first, end - first, N, ids, noise, err))
                goto done;
        }
        sum.round++;
        mean_bound(&sum, text.rows, sum.round, &mean, &se, &se_t);
    } while (!one_round && sum.round * DRAWN < T && (sum.round < ROUNDS || se_t > enough * mean));
    end_progress(r);
    const double count = text.rows, bits = mean * count;
    for (int q = 0; q < 4; q++) sum.quartile[q] /= sum.round;
    fprintf(out, "bound %.2f bits/sentence (se %.2f)\n", mean, se);
    fprintf(out,
            "  %.3f nats/token, %.3f bits/token (%.0f sentences, %.0f tokens with their ends)\n",
            bits * log(2) / sum.tokens, bits / sum.tokens, count, sum.tokens);
    fprintf(out,
            "  length %.3f + words %.3f: prior %.3f + diffusion by noise quartile %.3f %.3f %.3f "
            "%.3f + decoder %.3f bits/sentence"
            " (%d of %d steps)\n",
            sum.length / count, mean - sum.length / count, sum.prior / count,
            sum.quartile[0] / count, sum.quartile[1] / count, sum.quartile[2] / count,
            sum.quartile[3] / count, sum.decoder / count, sum.K * sum.round, T);
    if (!one_round)
        fprintf(out,
                "  these steps were drawn, until the bound's standard error by that was %.2f %%; "
                "--eval-all takes all\n",
                100 * se_t / mean);
    if (text.unknown)
        fprintf(out,
                "  %.2f %% of the words are [UNK]; with these spelt out, byte by byte as the words "
                "of the vocabulary: bound %.2f bits/sentence\n",
                100.0 * text.unknown / text.words, mean + text.spelling / count);
    status = flushed(r, out, err);
done:
    end_progress(r);
    free(noise);
    free(ids);
    free(rows);
    free(order);
    free(sum.of_t);
    corpus_free(&text);
    return status;
}

/* --probe: a batch of the sentence at three t, as training_losses takes it, and what that makes of
 * it: the arrays that it leaves in the workspace, and its terms. A JSON object; arrays are flat. */
static int probe(Sampling *r, FILE *out, Error *err)
{
    enum { B = 3 };
    const Config *c = &r->model.config;
    const Workspace *w = &r->work;
    const int N = r->given->size, T = r->diffusion.T, t[B] = {0, T / 2, T - 1};
    const size_t all = (size_t)B * N * c->emb_dim;
    const Dropout none = {0, 0, 0};
    double terms[5 * B];
    real term[5 * B];
    int *ids = checked_alloc(N, B * sizeof *ids, err);
    real *noise = checked_alloc(all, 2 * sizeof *noise, err);
    if (!ids || !noise || workspace_fit(&r->work, c, B, N, err)) {
        free(ids);
        free(noise);
        return -1;
    }
    const Batch y = {ids, t, noise, noise + all, NULL, c->self_conditioning, B, N};
    const Losses losses = {terms, terms + B, terms + 2 * B, terms + 3 * B, terms + 4 * B};
    const struct {
        const char *name;
        const real *x;
        size_t n;
    } arrays[] = {
        {"timesteps", w->timesteps, B},
        {"noise_x0", y.noise_x0, all},
        {"noise_t", y.noise_t, all},
        {"x_start", w->x_start, all},
        {"x_t", w->x_t, all},
        {"estimate", w->estimate, c->self_conditioning ? all : 0},
        {"output", w->model_out, all},
        {"guess", w->pred_xstart, all},
        {"mse", term, B},
        {"decoder_nll", term + B, B},
        {"tT_loss", term + 2 * B, B},
        {"head_nll", term + 3 * B, B},
        {"loss", term + 4 * B, B},
    };
    for (int b = 0; b < B; b++) memcpy(ids + b * N, r->given->ids, N * sizeof *ids);
    rng_gaussian(noise, 2 * all, rng_key((uint64_t)r->seed, RNG_SAMPLE, 0, 0));
    training_losses(&r->model, &r->work, &losses, &r->diffusion, &y, 0, none);
    for (int i = 0; i < 5 * B; i++) term[i] = (real)terms[i];

    fprintf(out, "{\"B\":%d,\"N\":%d,\"D\":%d,\"t\":[%d,%d,%d],\n\"ids\":[", B, N, c->emb_dim, t[0],
            t[1], t[2]);
    for (int i = 0; i < B * N; i++) fprintf(out, "%s%d", i ? "," : "", ids[i]);
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++) {
        fprintf(out, "],\n\"%s\":[", arrays[k].name);
        for (size_t i = 0; i < arrays[k].n; i++)
            fprintf(out, "%s%.9g", i ? "," : "", (double)arrays[k].x[i]);
    }
    fprintf(out, "]}\n");
    free(ids);
    free(noise);
    return flushed(r, out, err);
}

/* --nearest: the words whose embeddings point nearly where that of the given one does, by the
 * cosine of the angle between them. */
static int nearest(Sampling *r, FILE *out, Error *err)
{
    enum { LISTED = 10 };
    const size_t D = r->model.config.emb_dim;
    const int is_word = r->given->size == SHORTEST, V = r->model.config.vocab;
    const int id = is_word ? r->given->ids[1] : 0;
    const real *of = r->model.embedding + id * D;
    double last = HUGE_VAL;
    if (!is_word)
        return fail(err, "--nearest: '%.80s' is no single word of the vocabulary", r->nearest);
    for (int k = 0; k < LISTED; k++) {
        double most = -HUGE_VAL;
        int best = -1;
        for (int v = 0; v < V; v++) {
            double dot = 0, squares = 0, of_squares = 0;
            for (size_t i = 0; i < D; i++) {
                const double x = r->model.embedding[v * D + i];
                dot += x * of[i], squares += x * x, of_squares += (double)of[i] * of[i];
            }
            const double cosine = dot / sqrt(fmax(squares * of_squares, 1e-30));
            if (v != id && !tokenizer_is_special(&r->tokenizer, v) && cosine < last &&
                cosine > most)
                most = cosine, best = v;
        }
        if (best < 0) break;
        last = most;
        Buffer word = {0};
        buffer_print(&word, "%s", r->tokenizer.token[best]);
        hide_controls(word.text);
        fprintf(out, "%6.3f  %s\n", most, word.failed ? "" : word.text);
        free(word.text);
    }
    return flushed(r, out, err);
}

static int info(const char *path, Error *err)
{
    Checkpoint c;
    Buffer text = {0};
    int status = checkpoint_open(&c, path, err);
    if (!status) checkpoint_describe(&c, &text);
    if (text.failed) status = fail(err, "out of memory");
    if (!status) fwrite(text.text, 1, text.length, stdout);
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(err, "standard output: cannot write");
    checkpoint_close(&c);
    free(text.text);
    return status;
}

static void defaults(Sampling *r)
{
    memset(r, 0, sizeof *r);
    r->n = 10, r->seed = 1, r->threads = max_threads();
    r->guide_scale = 10, r->fps = 12;
    r->evidence_above = HUGE_VAL, r->eta = -1;
}

int main(int argc, char **argv)
{
    begin_program();
    static const char *const variances[] = {"fixed-small", "fixed-large", NULL};
    const char *path = "simple.safetensors";
    Sampling run;
    Output file = {0};
    Error err;
    defaults(&run);
    Option options[] = {
        {"n", OPT_INT, &run.n, .everyday = 1, .min = 1, .max = MOST,
         .help = "sentences to draw; with --prompts for every line",
         .deflt = "10; 1 with --prompts", .excludes = "eval"},
        {"first", OPT_INT, &run.first, .max = 1e9,
         .help = "the number of the first one: several runs can share the sentences of a seed",
         .excludes = "eval"},
        {"steps", OPT_TEXT, &run.steps, .what = "STEPS", .everyday = 1,
         .help = "steps from noise to text, fewer are faster: N of those trained, a,b,c for "
                 "sections, or ddimN",
         .deflt = "50, if it has as many; all with --eval"},
        {"seed", OPT_INT, &run.seed, .everyday = 1, .max = INT32_MAX,
         .help = "of the noise: the same seed gives the same sentences"},
        {"prompt", OPT_TEXT, &run.prompt, .what = "SENTENCE", .everyday = 1,
         .help = "keep the words of this sentence and fill in its [MASK]s",
         .excludes = "edit eval"},
        {"prompts", OPT_TEXT, &run.prompts, .what = "FILE",
         .help = "every line of this file is such a --prompt; -: the standard input",
         .excludes = "prompt edit eval"},
        {"continue", OPT_FLAG, &run.go_on, .everyday = 1,
         .help = "the sentences go on behind the prompt, as long as those of the training text",
         .needs = "prompt prompts"},
        {"length", OPT_TEXT, &run.length, .what = "N-M", .everyday = 1,
         .help = "N or N-M: of the sentences, in words and punctuation marks",
         .deflt = "as in the training text", .excludes = "edit eval"},
        {"edit", OPT_TEXT, &run.edit, .what = "SENTENCE", .everyday = 1,
         .help = "begin with this sentence, made noisy, in place of noise", .excludes = "eval"},
        {"strength", OPT_REAL, &run.strength, .everyday = 1, .min = 0.001, .max = 1,
         .help = "of --edit: the share of the steps to take; 1 keeps nothing", .needs = "edit"},
        {"guide", OPT_TEXT, run.guide, .what = "FILE", .everyday = 1, .times = GUIDES,
         .help = "sentences that this classifier gives the --label; may be given repeatedly",
         .excludes = "eta eval"},
        {"label", OPT_TEXT, run.label, .what = "LABEL", .everyday = 1, .times = GUIDES,
         .help = "of --guide, one for each", .needs = "guide"},
        {"guide-scale", OPT_REAL, &run.guide_scale, .max = 1e6,
         .help = "of --guide: how strongly the labels are asked for; 0: not at all",
         .needs = "guide"},
        {"eta", OPT_REAL, &run.eta, .everyday = 1, .max = 1000,
         .help = "noise of a step: 0: none (DDIM), 1: DDPM's, 2 to 3: fewer errors, less varied",
         .deflt = "2, with --ahead 2; 1 with --guide, --variance or a model that predicts x-start",
         .excludes = "eval"},
        {"ahead", OPT_REAL, &run.ahead, .max = 100,
         .help = "of --eta: step towards the guess as it will be when it has changed so many times "
                 "as much as in the last step; makes up for few steps",
         .needs = "eta"},
        {"top-p", OPT_REAL, &run.top_p, .max = 100,
         .help = "draw noise beyond this (0.01 or more) again: likelier, less varied; 0: do not",
         .excludes = "eval"},
        {"clamp-from", OPT_INT, &run.clamp_from, .max = 100000,
         .help = "below this trained step round x_start to the nearest word; 0: never",
         .excludes = "eval"},
        {"clip-denoised", OPT_FLAG, &run.clip_denoised, .help = "clip x_start to [-1, 1]"},
        {"variance", OPT_CHOICE, &run.variance, .choices = variances, .help = "of a step back",
         .excludes = "eta"},
        {"eval", OPT_TEXT, &run.eval, .what = "FILE", .everyday = 1,
         .help = "in place of sampling: how probable the sentences of this file are, at least (the "
                 "variational bound); -: the standard input"},
        {"eval-steps", OPT_INT, &run.eval_steps, .min = 1, .max = 100000,
         .help = "of --eval: terms of the bound to draw for a sentence",
         .deflt = "as many as give a standard error of 1 %", .needs = "eval",
         .excludes = "eval-all"},
        {"eval-all", OPT_FLAG, &run.eval_all,
         .help = "of --eval: take all terms of the bound, one for every t", .needs = "eval"},
        {"probe", OPT_TEXT, &run.probe, .what = "SENTENCE",
         .help = "in place of sampling: what the network and the loss make of this sentence, as "
                 "JSON, to check a network rebuilt elsewhere by",
         .excludes = "n first steps prompt prompts length edit guide eta top-p clamp-from "
                     "clip-denoised variance eval evidence-above allow-unk show"},
        {"nearest", OPT_TEXT, &run.nearest, .what = "WORD",
         .help = "in place of sampling: the words whose embeddings are nearest to this one's, by "
                 "cosine",
         .excludes = "n first seed steps prompt prompts length edit guide eta top-p clamp-from "
                     "clip-denoised variance eval probe evidence-above allow-unk show"},
        {"info", OPT_FLAG, &run.info,
         .help = "in place of sampling: what this checkpoint or other safetensors file is",
         .excludes = "*"},
        {"evidence-above", OPT_REAL, &run.evidence_above, .max = 1e6,
         .help = "softmax: count x_t's evidence for its words beyond this by Bayes' rule",
         .deflt = "none; 0.5 with --eval"},
        {"allow-unk", OPT_FLAG, &run.allow_unk,
         .help = "sentences may have [UNK], which stands for words outside the vocabulary",
         .excludes = "eval"},
        {"show", OPT_FLAG, &run.show, .everyday = 1,
         .help = "show the sentences while they come out of the noise; with --edit first how that "
                 "one dissolves. On a terminal they move, elsewhere they are lines on stderr",
         .excludes = "eval"},
        {"show-probabilities", OPT_FLAG, &run.show_probabilities,
         .help = "behind every word of --show a TAB, how probable it is in percent, and a TAB; "
                 "build/draw denoise makes a picture of it",
         .needs = "show"},
        {"frames", OPT_INT, &run.frames, .min = 1, .max = 1e6,
         .help = "of --show: states to print, evenly, at most one more",
         .deflt = "16; 60 on a terminal", .needs = "show"},
        {"fps", OPT_REAL, &run.fps, .everyday = 1, .min = 0.01, .max = 1000,
         .help = "of --show on a terminal: states a second", .needs = "show"},
        {"out", OPT_TEXT, &run.out, .what = "FILE", .everyday = 1,
         .help = "write the sentences to this file", .deflt = "standard output"},
        {"threads", OPT_INT, &run.threads, .min = 1, .max = 1024,
         .help = "does not change the result"},
        {"help", OPT_FLAG, &run.help, .everyday = 1, .help = "print this"},
        {"version", OPT_FLAG, &run.version, .everyday = 1, .help = "print the version"},
        {.name = NULL},
    };
    if (options_parse(options, argc, argv, &path, 1, &err) < 0) {
        fprintf(stderr, "sample: %s\n", err.text);
        return 2;
    }
    if (run.help) {
        defaults(&run);
        printf("usage: ./sample [options] [CHECKPOINT]\n"
               "Draws sentences from CHECKPOINT (default simple.safetensors), one a line on\n"
               "stdout.\n\n"
               "  ./sample mine.safetensors -n 3 --show         watch three come out of noise\n"
               "  ./sample -n 3 --prompt \"the [MASK] onion is [MASK].\"        fill in words\n\n");
        options_help(options, !strcmp(path, "all"), stdout);
        return fflush(stdout) || ferror(stdout) ? 1 : 0;
    }
    if (run.version) return print_version(stdout);
    if (run.info) {
        const int status = info(path, &err);
        if (status) fprintf(stderr, "sample: %s\n", err.text);
        return status ? 1 : 0;
    }
    for (int g = 0; g < GUIDES; g++)
        if (!run.guide[g] != !run.label[g]) {
            fprintf(stderr,
                    "sample: every --guide needs one --label, and every --label one --guide\n");
            return 2;
        }
    if (run.top_p > 0 && run.top_p < 0.01) {
        fprintf(stderr, "sample: --top-p is 0 or at least 0.01\n");
        return 2;
    }
    if (run.top_p > 0 && run.eta == 0) {
        fprintf(stderr, "sample: --top-p has no effect with --eta 0\n");
        return 2;
    }
    if (run.prompts && !option_given(options, &run.n)) run.n = 1;
    if (run.eval && !option_given(options, &run.evidence_above)) run.evidence_above = 0.5;
    pace_begin(&run.pace, run.threads, !option_given(options, &run.threads));
    if (!floats_are_exact())
        fprintf(stderr, "note: this build computes with more than float precision; another build "
                        "may give other sentences\n");

    int status = 0;
    const char *const inputs[] = {path, run.eval, run.prompts};
    for (int i = 0; i < 3 && run.out && !status; i++)
        status = output_spares(run.out, inputs[i], &err);
    for (int g = 0; g < GUIDES && run.out && !status; g++)
        status = output_spares(run.out, run.guide[g], &err);
    const FileKind kind = run.out && !status ? file_kind(run.out) : FILE_NEW;
    if (kind != FILE_NEW && kind != FILE_TEXT)
        status = fail(&err, "%s: is there already and is %s; only text is replaced", run.out,
                      file_kind_names[kind]);
    if (!status) status = load(&run, path, &err);
    for (const Option *o = options; o->name && !status; o++) {
        const int softmax = run.model.config.predict == PREDICT_SOFTMAX;
        if (o->given && ((o->value == &run.evidence_above && !softmax) ||
                         (o->value == &run.variance && run.eval && softmax)))
            status = fail(&err, "--%s has no effect on %s %s", o->name,
                          softmax ? "the bound of" : "the predictions of", path);
    }
    if (!option_given(options, &run.eta) && !option_given(options, &run.variance) &&
        !run.guide[0] && run.model.config.predict == PREDICT_SOFTMAX)
        run.eta = USUAL_ETA, run.ahead = USUAL_AHEAD;
    for (int g = 0; g < GUIDES && run.guide[g] && !status; g++) status = load_guide(&run, g, &err);
    if (!status) status = plan(&run, &err);
    if (!status && !run.eval && !run.probe && !run.nearest) only_words(&run);
    const int is_moving = run.show && !run.show_probabilities && !is_plain(stderr);
    if (!status && run.out) status = output_open(&file, run.out, &err);
    if (!status && (run.out || is_moving)) {
        stop_note("%sstopping after these sentences; those before them are kept\n",
                  is_moving ? "\x1b[?25h" : "");
        catch_signals();
        ignore_closed_pipes();
    }
    int (*const job)(Sampling *, FILE *, Error *) = run.eval      ? evaluate
                                                    : run.probe   ? probe
                                                    : run.nearest ? nearest
                                                                  : sample;
    if (!status) status = job(&run, run.out ? file.file : stdout, &err);
    if (file.file) {
        Error other;
        const int closed = output_close(&file, !status || run.written, status ? &other : &err);
        if (status && run.written && !closed)
            fprintf(stderr, "%s: has the first %d of %d sentences\n", run.out, run.written,
                    run.n * run.num_given);
        if (closed) status = -1;
    }
    if (status) fprintf(stderr, "sample: %s\n", err.text);
    tokenizer_free(&run.tokenizer);
    model_free(&run.model);
    workspace_free(&run.work);
    diffusion_free(&run.diffusion);
    for (int g = 0; g < run.num_guides; g++) {
        model_free(&run.guides[g].model);
        workspace_free(&run.guides[g].work);
    }
    free(run.length_count);
    free(run.fixed);
    free(run.end);
    free(run.dx);
    free(run.ids);
    free(run.x);
    free(run.known);
    free(run.known_x);
    for (int g = 0; g < run.num_given; g++) free(run.given[g].ids);
    free(run.given);
    return !status ? 0 : stop_signal() ? 128 + stop_signal() : 1;
}
