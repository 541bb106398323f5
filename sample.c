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
    BATCH = GUIDED /* sentences at a time, at most */,
    WINDOW = 1024 /* whose lengths are drawn at once: equal ones meet */,
    GUIDES = 8,
    FORWARD = 2 /* --show forward */,
    VARIED_FROM = 40 /* steps; with fewer, varied ones make too many errors */,
    MOST = 100000000 /* sentences */
};

typedef struct {
    int n /* of every Given */, first, seed, threads, show, info, variance, help, version,
        eval_steps, eval_all, allow_unk;
    double guide_scale, top_p, strength, evidence_above;
    const char *steps /* NULL: the default, which depends on the model */, *out, *prompt, *prompts,
        *edit, *eval, *probe, *nearest;
    const char *guide[GUIDES], *label[GUIDES]; /* as many of both */
    Guide guides[GUIDES];
    int num_guides;
    Sampler how;           /* what options say of it; the rest in sample_batch */
    int written, finished; /* sentences: printed, and sampled */
    Pace pace;
    double begun; /* the diffusion step that is being computed, in seconds() */
    Progress progress;
    Show view;
    Trained of;
    Workspace work;
    Asked asked;
    Given *given;
    int num_given;
    int shortest, longest; /* of all of them */
    /* the current batch: samples number[0..count-1], of N positions each; their arrays have room
     * for (positions) */
    int number[BATCH], count, N;
    int *ids, *fixed;       /* (count,N) fixed: the words that are known, [MASK] where none is */
    real *x, *dx, *known_x; /* (count,N,D) dx: the gradient of one guide, or x_t to be shown;
                               known_x: embeddings of what is known, or edited */
    unsigned char *known;   /* (count,N) */
} Sampling;

/* The noise of step t or, at t = T, x_T itself. */
static int draw_noise(void *context, real *out, int t)
{
    Sampling *r = context;
    const Diffusion *d = &r->of.diffusion;
    const size_t n = (size_t)r->N * r->of.model.config.emb_dim;
    const int T = d->T, is_begin = t == T, step = is_begin ? d->total : d->timestep_map[t];
    const double now = seconds();
    if (!is_begin && t < (r->how.start ? r->how.start : T) - 1)
        pace_step(&r->pace, (double)r->count * r->N, now - r->begun);
    r->begun = now;
    progress_tell(&r->progress, r->finished + r->count * (is_begin ? 0 : 1 - (t + 1.0) / T));
#pragma omp parallel for
    for (int b = 0; b < r->count; b++)
        rng_truncated(
            out + b * n, n, is_begin ? 0 : r->top_p,
            rng_key((uint64_t)r->seed, RNG_SAMPLE, (uint64_t)step, (uint64_t)r->number[b]));
    return stop_signal();
}

static void add_guides(void *context, real *dx, const real *x, int t)
{
    Sampling *r = context;
    guides_gradient(r->guides, r->num_guides, dx, r->dx, x, &r->of.diffusion, t, r->guide_scale,
                    r->count, r->N);
}

/* The words nearest to x, where none is known. */
static void read_words(Sampling *r, const real *x)
{
    likeliest_words(&r->of.model, &r->work, r->ids, x, r->count, r->N);
    for (int i = 0; i < r->count * r->N; i++)
        if (r->fixed[i] != r->of.tokenizer.special[TOKEN_MASK]) r->ids[i] = r->fixed[i];
}

/* Shows what the network takes the sentences for at t, in the process of this name. */
static void show(Sampling *r, char name, int t, int has_head)
{
    const ShownBatch x = {name,      t,      r->count, r->N,    r->finished, r->progress.all,
                          r->number, r->ids, r->fixed, has_head};
    const double begun = seconds();
    show_batch(&r->view, &r->of, &r->work, &x);
    r->begun += seconds() - begun; /* the time of a step is without it */
}

static void show_state(void *context, int t, const real *pred_xstart)
{
    Sampling *r = context;
    if (!is_shown(&r->view, t, r->how.start ? r->how.start : r->of.diffusion.T)) return;
    read_words(r, pred_xstart);
    show(r, 't', t, r->of.model.config.predict == PREDICT_SOFTMAX);
}

/* How the sentences dissolve in noise: the words that x_t alone makes probable, by Bayes' rule if
 * all embeddings are of one norm. */
static void show_forward(Sampling *r, const real *noise)
{
    const size_t n = (size_t)r->N * r->of.model.config.emb_dim;
    const Diffusion *d = &r->of.diffusion;
    const int T = r->show == FORWARD ? d->T : r->how.start;
    for (int t = 0; t < T; t++) {
        const double a = d->alphas_cumprod[t];
        if (!is_shown(&r->view, t, T)) continue;
        for (int b = 0; b < r->count; b++)
            q_sample(r->dx + b * n, r->known_x + b * n, noise + b * n, &t, d, 1, n);
        for (size_t i = 0; i < r->count * n; i++) r->dx[i] *= (real)(sqrt(a) / (1 - a));
        read_words(r, r->dx);
        show(r, 'q', t, 0);
    }
}

/* The model, its diffusion of the steps that --steps asks for, or 100, or all, and the guides. */
static int load(Sampling *r, const char *path, Error *err)
{
    Trained *of = &r->of;
    if (trained_load(of, path, NULL, err)) return -1;
    Config c = of->model.config;
    if (r->eval || r->probe) c.t_min = 0; /* the bound is a sum over every t */
    const int all = r->eval || r->probe || r->nearest || trained_steps(&c) < 100;
    diffusion_free(&of->diffusion);
    if (diffusion_from_noise(&of->diffusion, &c, r->steps || all ? r->steps : "100", err) ||
        workspace_init(&r->work, &c, 1, SHORTEST, 0, err))
        return -1;
    of->diffusion.evidence_above = r->evidence_above;
    fprintf(stderr, "%s: step %d, %.2f million parameters; %d of %d diffusion steps\n", path,
            of->steps_done, of->model.num_params * 1e-6, of->diffusion.T, of->diffusion.total);
    while (r->num_guides < GUIDES && r->guide[r->num_guides]) {
        const int g = r->num_guides++;
        if (guide_load(&r->guides[g], of, r->guide[g], r->label[g], err)) return -1;
    }
    return 0;
}

/* How long the samples may be, what of them is known, and room for a batch. */
static int plan(Sampling *r, Error *err)
{
    const Config *c = &r->of.model.config;
    size_t positions = 0;
    static const char *const name[] = {"--prompt", "--edit", "--probe", "--nearest"};
    const char *const text[] = {r->prompt, r->edit, r->probe, r->nearest};
    int k = 0; /* that was given, if any was */
    while (k < 3 && !text[k]) k++;
    r->asked.prompt = r->prompt || r->prompts, r->asked.edit = r->edit != NULL;
    r->given = given_take(&r->of, &r->asked, r->prompts, text[k], name[k], &r->num_given, err);
    if (!r->given) return -1;
    const double all = (double)r->n * r->num_given;
    if (all > MOST) return fail(err, "-n %d: %.0f sentences, expected %d at most", r->n, all, MOST);
    const int most = all < BATCH ? (int)all : BATCH, has_dx = r->num_guides || (r->show && r->edit);
    r->shortest = r->given->shortest, r->longest = r->given->longest;
    for (const Given *g = r->given; g < r->given + r->num_given; g++) {
        if (g->shortest < r->shortest) r->shortest = g->shortest;
        if (g->longest > r->longest) r->longest = g->longest;
    }
    for (int length = r->shortest; length <= r->longest; length++) {
        const int N = r->of.length_count ? length : c->seq_len;
        const size_t needed = (size_t)piece_of_batch(most, N) * N;
        if (needed > positions) positions = needed;
    }
    if (r->edit && r->strength == 0 &&
        legible_steps(&r->of, &r->work, r->given, (uint64_t)r->seed, &r->strength, err))
        return -1;
    if (r->edit) r->how.start = (int)fmax(r->strength * r->of.diffusion.T + 0.5, 1);
    const size_t numbers = positions * c->emb_dim;
    if (!(r->ids = checked_alloc(positions, 2 * sizeof *r->ids, err)) ||
        !(r->x = checked_alloc(numbers, (has_dx ? 3 : 2) * sizeof *r->x, err)) ||
        !(r->known = checked_alloc(positions, 1, err)))
        return -1;
    r->fixed = r->ids + positions, r->known_x = r->x + numbers;
    if (has_dx) r->dx = r->known_x + numbers;
    return 0;
}

/* What is given for sample i */
static const Given *given_for(const Sampling *r, int i) { return &r->given[(i - r->first) / r->n]; }

/* The samples r->number[0..count-1], all of one length, into text[number - first]. */
static int sample_batch(Sampling *r, int length, Buffer *text, int first, Error *err)
{
    const Config *c = &r->of.model.config;
    const Diffusion *d = &r->of.diffusion;
    const int N = r->N = r->of.length_count ? length : c->seq_len,
              *special = r->of.tokenizer.special;
    const size_t n = (size_t)N * c->emb_dim;
    int any = 0;
    if (workspace_fit(&r->work, c, r->count, N, err)) return -1;
    for (Guide *g = r->guides; g < r->guides + r->num_guides; g++)
        if (workspace_fit(&g->work, &g->of.model.config, r->count, N, err)) return -1;
    for (int b = 0; b < r->count; b++) {
        const Given *g = given_for(r, r->number[b]);
        int *fixed = r->fixed + b * N;
        fix_words(fixed, N, length, g, &r->of, &r->asked);
        for (int i = 0; i < N; i++) any |= r->known[b * N + i] = fixed[i] != special[TOKEN_MASK];
        for (int i = 0; i < N; i++)
            r->ids[b * N + i] = !r->edit ? fixed[i] : i < g->size ? g->ids[i] : special[TOKEN_PAD];
    }
    embedding_forward(r->known_x, r->of.model.embedding, r->ids, r->count * N, c->emb_dim);
    draw_noise(r, r->x, d->T); /* of x_T, or of the x_t that --edit begins with */
    if (r->show && r->edit) show_forward(r, r->x);
    for (int b = 0, t = r->how.start - 1; b < r->count && r->edit; b++)
        q_sample(r->x + b * n, r->known_x + b * n, r->x + b * n, &t, d, 1, n);
    Sampler how = r->how;
    how.context = r, how.noise = draw_noise, how.show = r->show ? show_state : NULL;
    how.variance = (Variance)r->variance, how.ddim = how.eta >= 0;
    how.known = any ? r->known : NULL, how.known_x = r->known_x;
    how.gradient = r->num_guides ? add_guides : NULL;
    if (p_sample_loop(&r->of.model, &r->work, d, &how, r->x, r->count, N, err)) return -1;
    read_words(r, r->x);
    for (int b = 0; b < r->count; b++) {
        Buffer *out = &text[r->number[b] - first];
        tokenizer_decode_line(&r->of.tokenizer, r->ids + b * N, N, out);
        if (out->failed) return fail(err, "out of memory");
    }
    r->finished += r->count;
    return 0;
}

/* Window by window: the samples of one length are computed together, and all are printed in order;
 * after a signal those that are finished. */
static int sample(Sampling *r, FILE *out, Error *err)
{
    Buffer text[WINDOW] = {{0}};
    int length[WINDOW], status = 0, terminal = on_terminal(out);
    const int all = r->progress.all = r->n * r->num_given;
    for (int done = 0; done < all && !status; done += WINDOW) {
        const int first = r->first + done, window = all - done < WINDOW ? all - done : WINDOW;
        for (int i = 0; i < window; i++) {
            length[i] = given_length(&r->of, given_for(r, first + i), (uint64_t)r->seed, first + i);
            text[i].length = 0;
        }
        status = show_begin(&r->view, &r->of, first, window, err);
        for (int N = r->shortest; N <= r->longest && !status; N++) {
            const int most =
                piece_of_batch(BATCH, r->of.length_count ? N : r->of.model.config.seq_len);
            r->count = 0;
            for (int i = 0; i < window && !status; i++) {
                if (length[i] == N) r->number[r->count++] = first + i;
                if (r->count == most || (r->count && i == window - 1)) {
                    status = sample_batch(r, N, text, first, err);
                    r->count = 0;
                }
            }
        }
        progress_end(&r->progress);
        screen_end(&r->view.screen, terminal && !stop_signal());
        for (int i = 0; i < window && (!status || stop_signal()); i++) {
            if (terminal) hide_controls(text[i].text);
            if (text[i].length) fwrite(text[i].text, 1, text[i].length, out);
            r->written += text[i].length > 0;
        }
        if (!status || stop_signal()) status |= output_flushed(out, r->out, err);
    }
    for (int i = 0; i < WINDOW; i++) free(text[i].text);
    return status;
}

/* --eval, --info, --probe, --nearest: what is printed in place of samples */
static int describe(Sampling *r, const char *path, FILE *out, Error *err)
{
    enum { LISTED = 10 };
    const Given *g = r->given;
    const Measuring how = {r->eval,     (uint64_t)r->seed,     r->eval_steps,
                           r->eval_all, (Variance)r->variance, r->how.clip_denoised,
                           &r->pace,    &r->progress};
    Buffer text = {0};
    Checkpoint c;
    int status = 0;
    if (r->info) {
        status = checkpoint_open(&c, path, err);
        if (!status) checkpoint_describe(&c, &text);
        checkpoint_close(&c);
    } else if (r->eval)
        status = bound_of_file(&text, &r->of, &r->work, &how, err);
    else if (r->probe)
        status = probe(&text, &r->of, &r->work, g->ids, g->size, (uint64_t)r->seed, err);
    else if (g->size != SHORTEST)
        status = fail(err, "--nearest: '%.80s' is no single word of the vocabulary", r->nearest);
    else
        nearest_words(&r->of.model, &r->of.tokenizer, g->ids[1], LISTED, &text);
    if (!status && text.failed) status = fail(err, "out of memory");
    if (!status) fwrite(text.text, 1, text.length, out);
    if (!status) status = output_flushed(out, r->out, err);
    free(text.text);
    return status;
}

static void defaults(Sampling *r)
{
    memset(r, 0, sizeof *r);
    r->n = 10, r->seed = 1, r->threads = max_threads();
    r->guide_scale = 10, r->view.fps = 12, r->evidence_above = HUGE_VAL, r->how.eta = -1;
}

/* What the command line says beyond what its options say each by itself */
static int check_options(const Sampling *r, Error *err)
{
    for (int g = 0; g < GUIDES; g++)
        if (!r->guide[g] != !r->label[g])
            return fail(err, "every --guide needs one --label, and every --label one --guide");
    if (r->show == FORWARD && !r->edit) return fail(err, "--show forward needs --edit");
    if (r->top_p > 0 && r->top_p < 0.01) return fail(err, "--top-p is 0 or at least 0.01");
    if (r->top_p > 0 && r->how.eta == 0) return fail(err, "--top-p has no effect with --eta 0");
    return 0;
}

/* Nothing that is read or that is no text is replaced by --out. */
static int spares_others(const Sampling *r, const char *path, Error *err)
{
    const char *const inputs[] = {path, r->eval, r->prompts};
    if (output_spares(r->out, inputs, 3, err) || output_spares(r->out, r->guide, GUIDES, err))
        return -1;
    const FileKind kind = file_kind(r->out);
    if (kind == FILE_NEW || kind == FILE_TEXT) return 0;
    return fail(err, "%s: is there already and is %s; only text is replaced", r->out,
                file_kind_names[kind]);
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
         .help = "steps from noise to text, fewer are faster: N, evenly (of a model with --t-min "
                 "half as many in the least noisy quarter); a,b,...: so many of each equal part "
                 "of them, the least noisy first; ddimN: N of one stride",
         .deflt = "100, if it has as many; all with --eval"},
        {"seed", OPT_INT, &run.seed, .everyday = 1, .max = INT32_MAX,
         .help = "of the noise: the same seed gives the same sentences"},
        {"prompt", OPT_TEXT, &run.prompt, .what = "SENTENCE", .everyday = 1,
         .help = "keep the words of this sentence and fill in its [MASK]s",
         .excludes = "edit eval"},
        {"prompts", OPT_TEXT, &run.prompts, .what = "FILE",
         .help = "every line of this file is such a --prompt; -: the standard input",
         .excludes = "prompt edit eval"},
        {"continue", OPT_FLAG, &run.asked.go_on, .everyday = 1,
         .help = "the sentences go on behind the prompt, as long as those of the training text",
         .needs = "prompt prompts"},
        {"length", OPT_TEXT, &run.asked.length, .what = "N-M", .everyday = 1,
         .help = "of the sentences: N or N-M tokens, as words and punctuation marks are",
         .deflt = "as in the training text", .excludes = "edit eval"},
        {"edit", OPT_TEXT, &run.edit, .what = "SENTENCE", .everyday = 1,
         .help = "begin with this sentence, made noisy, in place of noise", .excludes = "eval"},
        {"strength", OPT_REAL, &run.strength, .everyday = 1, .min = 0.001, .max = 1,
         .help = "of --edit: the share of the steps to take; 1 keeps nothing",
         .deflt = "up to where most of its words can be read", .needs = "edit"},
        {"guide", OPT_TEXT, run.guide, .what = "FILE", .everyday = 1, .times = GUIDES,
         .help = "sentences that this classifier gives the --label; may be given repeatedly",
         .excludes = "eta eval"},
        {"label", OPT_TEXT, run.label, .what = "LABEL", .everyday = 1, .times = GUIDES,
         .help = "of --guide, one for each", .needs = "guide"},
        {"guide-scale", OPT_REAL, &run.guide_scale, .max = 1e6,
         .help = "of --guide: how strongly the labels are asked for; 0: not at all",
         .needs = "guide"},
        {"eta", OPT_REAL, &run.how.eta, .everyday = 1, .max = 1000,
         .help = "noise of a step: 0: none (DDIM), 1: DDPM's, 2 to 3: fewer errors, less varied",
         .deflt = "2, with --ahead 2; 1 with --edit, --guide, --variance or without softmax head",
         .excludes = "eval"},
        {"ahead", OPT_REAL, &run.how.ahead, .max = 100,
         .help = "of --eta: expect the guess to change again, by so many times its last change, "
                 "and step towards that; makes up for few steps",
         .needs = "eta", .deflt = "0; 2 where --eta is 2 by default"},
        {"vary", OPT_REAL, &run.how.vary, .max = 1, .excludes = "eval",
         .help = "softmax: this share of the steps, the noisiest, has no --ahead, and --eta 1 at "
                 "most: more varied",
         .deflt = "0.6 where --eta is 2 by default, with 40 steps or more; else 0"},
        {"top-p", OPT_REAL, &run.top_p, .max = 100,
         .help = "draw noise beyond this (0.01 or more) again: likelier, less varied; 0: do not",
         .excludes = "eval"},
        {"clamp-from", OPT_INT, &run.how.clamp_from, .max = 100000,
         .help = "below this step of --diffusion-steps round x_start to the nearest word; 0: never",
         .excludes = "eval"},
        {"clip-denoised", OPT_FLAG, &run.how.clip_denoised, .help = "clip x_start to [-1, 1]"},
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
         .excludes = "n first steps prompt prompts length edit guide eta vary top-p clamp-from "
                     "clip-denoised variance eval evidence-above allow-unk show"},
        {"nearest", OPT_TEXT, &run.nearest, .what = "WORD",
         .help = "in place of sampling: the words whose embeddings are nearest, by cosine",
         .excludes = "n first seed steps prompt prompts length edit guide eta vary top-p "
                     "clamp-from clip-denoised variance eval probe evidence-above allow-unk show"},
        {"info", OPT_FLAG, &run.info,
         .help = "in place of sampling: what this checkpoint or other safetensors file is",
         .excludes = "*"},
        {"evidence-above", OPT_REAL, &run.evidence_above, .max = 1e6,
         .help = "softmax: add x_t's own evidence for its words, its weight beyond this",
         .deflt = "none; 0.5 with --eval"},
        {"allow-unk", OPT_FLAG, &run.allow_unk,
         .help = "sentences may have [UNK], which stands for words outside the vocabulary",
         .excludes = "eval"},
        {"show", OPT_FLAG, &run.show, .everyday = 1, .word = "forward", .what = "[forward]",
         .help = "show how the sentences come out of the noise, and before it how that of --edit "
                 "dissolves (\"forward\": wholly); moving on a terminal, else lines on stderr",
         .excludes = "eval"},
        {"show-probabilities", OPT_FLAG, &run.view.probabilities,
         .help = "behind every word of --show a TAB, how probable it is in percent, and a TAB; "
                 "build/draw denoise makes a picture of it",
         .needs = "show"},
        {"frames", OPT_INT, &run.view.frames, .min = 1, .max = 1e6,
         .help = "of --show: states to print, evenly, at most, beside the first",
         .deflt = "16; 60 on a terminal", .needs = "show"},
        {"fps", OPT_REAL, &run.view.fps, .everyday = 1, .min = 0.01, .max = 1000,
         .help = "of --show on a terminal: states a second", .needs = "show"},
        {"out", OPT_TEXT, &run.out, .what = "FILE", .everyday = 1,
         .help = "write the sentences to this file", .deflt = "standard output"},
        {"threads", OPT_INT, &run.threads, .min = 1, .max = 1024,
         .help = "how many compute, by default fewer where that is faster; the result is the same"},
        {"help", OPT_FLAG, &run.help, .everyday = 1, .help = "print this"},
        {"version", OPT_FLAG, &run.version, .everyday = 1, .help = "print the version"},
        {.name = NULL},
    };
    if (options_parse(options, argc, argv, &path, 1, &err) < 0 ||
        (!run.help && !run.version && !run.info && check_options(&run, &err))) {
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
    if (run.prompts && !option_given(options, &run.n)) run.n = 1;
    if (run.eval && !option_given(options, &run.evidence_above)) run.evidence_above = 0.5;
    pace_begin(&run.pace, run.threads, !option_given(options, &run.threads));
    if (!run.info) note_floats();

    int status = run.out ? spares_others(&run, path, &err) : 0;
    if (!status && !run.info) status = load(&run, path, &err);
    for (const Option *o = options; o->name && !status; o++) {
        const int softmax = run.of.model.config.predict == PREDICT_SOFTMAX;
        if (o->given &&
            (((o->value == &run.evidence_above || o->value == &run.how.vary) && !softmax) ||
             (o->value == &run.variance && run.eval && softmax)))
            status = fail(&err, "--%s has no effect on %s %s", o->name,
                          softmax ? "the bound of" : "the predictions of", path);
    }
    if (!option_given(options, &run.how.eta) && !option_given(options, &run.variance) &&
        !run.edit && !run.guide[0] && run.of.model.config.predict == PREDICT_SOFTMAX) {
        run.how.eta = USUAL_ETA, run.how.ahead = USUAL_AHEAD;
        if (!option_given(options, &run.how.vary) && run.of.diffusion.T >= VARIED_FROM)
            run.how.vary = 0.6;
    }
    if (!status && !run.info) status = plan(&run, &err);
    const int samples = !run.eval && !run.probe && !run.nearest && !run.info;
    const int is_moving = run.show && !run.view.probabilities && !is_plain(stderr);
    if (!status && samples) only_words(&run.of, run.allow_unk);
    if (!status && run.out) status = output_open(&file, run.out, &err);
    if (!status && (samples || run.out)) {
        stop_note("%sstopping after this step; what was sampled is kept\n",
                  is_moving ? "\x1b[?25h" : "");
        catch_signals();
    }
    if (run.out || is_moving) ignore_closed_pipes();
    progress_begin(&run.progress, 0);
    run.progress.off = run.show, run.view.off = !run.show;
    FILE *out = run.out ? file.file : stdout;
    if (!status) status = samples ? sample(&run, out, &err) : describe(&run, path, out, &err);
    if (file.file) {
        Error other;
        const int closed = output_close(&file, !status || run.written, status ? &other : &err);
        if (status && run.written && !closed)
            fprintf(stderr, "%s: has %d of %d sentences\n", run.out, run.written, run.progress.all);
        if (closed) status = -1;
    }
    if (status) fprintf(stderr, "sample: %s\n", err.text);
    trained_free(&run.of);
    workspace_free(&run.work);
    for (int g = 0; g < run.num_guides; g++) guide_free(&run.guides[g]);
    given_free(run.given, run.num_given);
    show_free(&run.view);
    free(run.ids);
    free(run.x);
    free(run.known);
    return !status ? 0 : stop_signal() ? 128 + stop_signal() : 1;
}
