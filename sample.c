/* sample.c - draws sentences from a checkpoint that ./train has written.
 *
 *   ./sample                                 10 sentences of simple.safetensors
 *   ./sample mine.safetensors -n 3 --show    how three sentences come out of the noise
 *   ./sample mine.safetensors --eval FILE    how probable the sentences of FILE are, at least
 *   ./sample mine.safetensors --guide mine.clf.safetensors --label good      sentences with this label
 *
 * Sentences go to stdout, one a line; everything else goes to stderr. The noise of sample i is a hash of
 * (seed, step, i): the same seed gives the same sentences whatever their number and the number of threads. */
#include "tdiff.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64 /* sentences at a time, or fewer: see Sampling.batch */, SHOWN = 16 /* states that --show prints, at most one more */, GUIDES = 8 };

typedef struct { Model model; Workspace work; int label; } Guide; /* a classifier and what it is to say */

typedef struct {
    int n, seed, threads, show, variance, help, clip_denoised, clamp_from, eval_steps, length, guide_steps;
    double guide_scale, guide_adagrad, fluency, top_p, eta, strength, evidence_above;
    const char *steps /* NULL: the default, which depends on the model */, *out, *prompt, *edit, *eval;
    const char *guide[GUIDES], *label[GUIDES]; /* as many of both */
    Guide guides[GUIDES];
    int num_guides;
    int batch; /* sentences at a time: as many as there are, and no more than BATCH or a piece of a batch */
    real *dx; /* (batch,N,D) the gradient of one */
    int start;
    Tokenizer tokenizer;
    Model model;
    Workspace work;
    Diffusion diffusion;
    int *ids; /* (batch,N) */
    real *x;  /* (batch,N,D) */
    unsigned char *known; /* (batch,N) the words that a prompt gives */
    real *known_x;        /* (batch,N,D) their embeddings, or those of the sentence to edit */
    int *given;           /* (N) and their ids */
    int first, count; /* the samples of the current batch */
} Sampling;

typedef struct { uint64_t key; uint32_t index; } Redraw;

static real redraw(void *context)
{
    Redraw *r = context;
    real pair[2];
    rng_gaussian(pair, 2, rng_key(r->key, RNG_SAMPLE, r->index++, 0));
    return pair[0];
}

static void draw_noise(void *context, real *out, int t)
{
    const Sampling *r = context;
    const size_t n = (size_t)r->model.config.seq_len * r->model.config.emb_dim;
    const int step = t < r->diffusion.T ? r->diffusion.timestep_map[t] : r->diffusion.total; /* T: x_T itself */
#pragma omp parallel for
    for (int b = 0; b < r->count; b++) {
        Redraw more = {rng_key((uint64_t)r->seed, RNG_SAMPLE, (uint64_t)step, r->first + b), 0};
        rng_gaussian(out + b * n, n, more.key);
        if (r->top_p > 0 && t < r->diffusion.T) truncate_noise(out + b * n, n, r->top_p, redraw, &more);
    }
}

/* Bayes' rule, for every condition: the gradients of log p(label | x_t) add up, each guide_scale times. */
static void add_guides(void *context, real *dx, const real *x, int t)
{
    Sampling *r = context;
    const int N = r->model.config.seq_len, B = r->count;
    const size_t n = (size_t)B * N * r->model.config.emb_dim;
    const Dropout none = {0, 0, 0};
    int label[BATCH];
    double nll[BATCH];
    real timesteps[BATCH], weight[BATCH];
    memset(dx, 0, n * sizeof *dx);
    for (int g = 0; g < r->num_guides; g++) {
        Guide *guide = &r->guides[g];
        for (int b = 0; b < B; b++) {
            label[b] = guide->label, weight[b] = (real)-r->guide_scale, timesteps[b] = diffusion_timestep(&r->diffusion, t);
        }
        classifier_forward(&guide->model, &guide->work, nll, x, timesteps, label, B, N, none);
        classifier_backward(&guide->model, &guide->work, r->dx, label, weight, B, N, none);
        for (size_t i = 0; i < n; i++) dx[i] += r->dx[i];
    }
}

/* The words nearest to x, as text: a sentence a line. */
static int print_words(Sampling *r, const real *x, const char *before, FILE *out, Error *err)
{
    const int N = r->model.config.seq_len;
    Buffer text = {0};
    nearest_words(&r->model, &r->work, r->ids, x, r->count, N);
    for (int i = 0; r->prompt && i < r->count * N; i++) /* lm_head might read even a given embedding as another word */
        if (r->known[i]) r->ids[i] = r->given[i % N];
    for (int b = 0; b < r->count; b++) {
        buffer_print(&text, "%s", before);
        tokenizer_decode(&r->tokenizer, r->ids + (size_t)b * N, N, 0, &text);
        buffer_add(&text, "\n", 1);
    }
    if (!text.failed) fwrite(text.text, 1, text.length, out);
    free(text.text);
    return text.failed ? fail(err, "out of memory") : 0;
}

static void show_state(void *context, int t, const real *pred_xstart)
{
    Sampling *r = context;
    const int every = (r->diffusion.T + SHOWN - 1) / SHOWN;
    char before[32];
    Error ignored;
    if (t % every && t != r->diffusion.T - 1) return;
    snprintf(before, sizeof before, "t %5d | ", r->diffusion.timestep_map[t]);
    print_words(r, pred_xstart, before, stderr, &ignored);
}

/* The steps that --steps asks for, or 50, or all. */
static int init_diffusion(Sampling *r, const Config *c, Error *err)
{
    const int total = c->diffusion_steps;
    const char *sections = r->steps ? r->steps : r->eval || total < 50 ? NULL : "50";
    unsigned char *kept = checked_alloc(total, 1, err);
    int status = !kept || (sections && steps_from_noise(kept, total, sections, err) < 0) ? -1 : 0;
    if (!status) status = diffusion_init(&r->diffusion, c->noise_schedule, total, sections ? kept : NULL, err);
    free(kept);
    return status;
}

static int load(Sampling *r, const char *path, Error *err)
{
    Checkpoint c;
    Config config = {0};
    int steps_done, status = -1;
    if (!checkpoint_open(&c, path, err) && !checkpoint_is(&c, NULL, err) &&
        !checkpoint_config(&c, &config, &r->tokenizer, &steps_done, err) &&
        !model_init(&r->model, &config, err) && !checkpoint_tensors(&c, &r->model, "", r->model.params, err) &&
        !init_diffusion(r, &config, err) &&
        !workspace_init(&r->work, &config, r->batch = piece_of_batch(r->eval || r->n > BATCH ? BATCH : r->n, config.seq_len),
                        config.seq_len, 0, err)) {
        const size_t values = (size_t)r->batch * config.seq_len;
        embedding_table_forward(&r->model);
        r->diffusion.evidence_above = r->evidence_above;
        r->ids = checked_alloc(values, sizeof *r->ids, err);
        r->x = r->ids ? checked_alloc(values, config.emb_dim * sizeof *r->x, err) : NULL;
        status = r->x ? 0 : -1;
        fprintf(stderr, "%s: step %d, %.2f million parameters; %d of %d diffusion steps\n", path, steps_done,
                r->model.num_params * 1e-6, r->diffusion.T, r->diffusion.total);
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
        !checkpoint_config(&c, &config, &labels, &steps_done, err) && !model_init(&guide->model, &config, err) &&
        !checkpoint_tensors(&c, &guide->model, "", guide->model.params, err) &&
        !workspace_init(&guide->work, &config, r->batch, of->seq_len, 1, err)) {
        guide->label = tokenizer_find(&labels, label);
        if (config.emb_dim != of->emb_dim || config.seq_len != of->seq_len || config.emb_norm > 0)
            fail(err, "%s: not the shape of a classifier for this denoiser", path);
        else if (guide->label >= TOKEN_SPECIALS) status = 0;
        else {
            Buffer names = {0};
            for (int i = TOKEN_SPECIALS; i < labels.size && names.length < 200; i++)
                buffer_print(&names, "%s'%.40s'", i > TOKEN_SPECIALS ? ", " : "", labels.token[i]);
            fail(err, "--label %.80s: %s knows the labels %s%s", label, path, names.failed ? "" : names.text,
                 names.length < 200 ? "" : ", ...");
            free(names.text);
        }
    }
    r->num_guides = g + 1;
    checkpoint_close(&c);
    tokenizer_free(&labels);
    return status;
}

/* The embeddings of a sentence for every sample of a batch; in a prompt, [MASK] marks what is not known. */
static int given_words(Sampling *r, const char *text, const char *option, Error *err)
{
    const int N = r->model.config.seq_len, D = r->model.config.emb_dim;
    const size_t values = (size_t)r->batch * N;
    int masks = 0;
    if (!(r->given = checked_alloc(N, sizeof *r->given, err)) || !(r->known = checked_alloc(values, 1, err)) ||
        !(r->known_x = checked_alloc(values, D * sizeof *r->known_x, err)))
        return -1;
    long n = tokenizer_encode(&r->tokenizer, text, strlen(text), r->given, N);
    if (n < 0) return fail(err, "out of memory");
    if (n > N) return fail(err, "%s: %ld positions with [CLS] and [SEP], the model has %d", option, n, N);
    for (int i = 0; i < N; i++) {
        if (i >= n) r->given[i] = TOKEN_PAD;
        if (r->given[i] == TOKEN_UNK) return fail(err, "%s: word %d is not in the vocabulary", option, i);
        masks += r->given[i] == TOKEN_MASK;
        r->known[i] = r->given[i] != TOKEN_MASK;
    }
    if (r->prompt && !masks) return fail(err, "%s: no [MASK] in it, so nothing is left to sample", option);
    if (r->edit && masks) return fail(err, "%s: a [MASK] is for --prompt; expected a whole sentence", option);
    embedding_forward(r->known_x, r->model.embedding, r->given, N, D);
    for (int b = 1; b < r->batch; b++) {
        memcpy(r->known + (size_t)b * N, r->known, N);
        memcpy(r->known_x + (size_t)b * N * D, r->known_x, (size_t)N * D * sizeof *r->known_x);
    }
    return 0;
}

static int sample(Sampling *r, FILE *out, Error *err)
{
    const int N = r->model.config.seq_len, T = r->diffusion.T;
    const size_t n = (size_t)N * r->model.config.emb_dim;
    const Sampler sampler = {.variance = (Variance)r->variance, .noise = draw_noise, .show = r->show ? show_state : NULL,
                             .context = r, .clip_denoised = r->clip_denoised, .clamp_from = r->clamp_from, .ddim = r->eta >= 0,
                             .eta = r->eta, .start = r->start, .known = r->prompt ? r->known : NULL, .known_x = r->known_x,
                             .gradient = r->num_guides ? add_guides : NULL, .guide_steps = r->guide_steps,
                             .guide_adagrad = r->guide_adagrad, .fluency = r->fluency};
    for (r->first = 0; r->first < r->n; r->first += r->batch) {
        r->count = r->n - r->first < r->batch ? r->n - r->first : r->batch;
        draw_noise(r, r->x, T);
        for (int b = 0, t = r->start - 1; b < r->count && r->edit; b++) /* x_T's noise serves for x_t as well */
            q_sample(r->x + b * n, r->known_x + b * n, r->x + b * n, &t, &r->diffusion, 1, n);
        if (p_sample_loop(&r->model, &r->work, &r->diffusion, &sampler, r->x, r->count, N, err)) return -1;
        if (print_words(r, r->x, "", out, err)) return -1;
        if (fflush(out) || ferror(out)) return fail(err, "%s: cannot write", r->out ? r->out : "standard output");
    }
    return 0;
}

/* The variational bound on -log2 p(sentence), of all lines of a text. Of the sum over t, r->eval_steps terms are drawn, one from
 * each of so many equal parts, at a place that every sentence draws for itself: right on average, and exact with all of them. */
static int evaluate(Sampling *r, FILE *out, Error *err)
{
    const Config *c = &r->model.config;
    const Diffusion *d = &r->diffusion;
    const int N = c->seq_len, T = d->T, K = r->eval_steps && r->eval_steps < T ? r->eval_steps : T;
    const size_t n = (size_t)N * c->emb_dim, values = (size_t)r->batch * n;
    Corpus text;
    int t[BATCH], status = -1;
    double terms[7 * BATCH], *kl = terms + 5 * BATCH, *prior = terms + 6 * BATCH, bits[BATCH];
    double sum = 0, squares = 0, priors = 0, decoder = 0, quartile[4] = {0}, tokens = 0;
    Losses losses = {terms, terms + BATCH, terms + 2 * BATCH, terms + 3 * BATCH, terms + 4 * BATCH};
    real *noise = checked_alloc(values, 2 * sizeof *noise, err);
    if (corpus_read(&text, r->eval, err) || corpus_fill(&text, r->eval, &r->tokenizer, N, err) || !noise) goto done;
    if (text.cut) fprintf(stderr, "%s: %d longer lines were cut\n", r->eval, text.cut);
    for (int first = 0; first < text.rows; first += r->batch) {
        const int count = text.rows - first < r->batch ? text.rows - first : r->batch, *ids = text.ids + (size_t)first * N;
        for (int b = 0; b < count; b++) {
            rng_gaussian(noise + b * n, n, rng_key((uint64_t)r->seed, RNG_NOISE_X0, 0, first + b));
            bits[b] = 0;
            for (int i = 1; i < N; i++) tokens += ids[b * N + i] != TOKEN_PAD;
        }
        for (int k = 0; k < K; k++) {
            const Batch batch = {ids, t, noise, noise + values, NULL, c->self_conditioning, count, N};
            for (int b = 0; b < count; b++) {
                double u = (rng_u32(rng_key((uint64_t)r->seed, RNG_T, 0, first + b), 0) + 0.5) / 4294967296.0;
                t[b] = (int)((k + u) * T / K);
                rng_gaussian(noise + values + b * n, n, rng_key((uint64_t)r->seed, RNG_NOISE_T, 1 + (uint64_t)t[b], first + b));
            }
            variational_bound(&r->model, &r->work, &losses, kl, prior, d, &batch, (Variance)r->variance, r->clip_denoised);
            for (int b = 0; b < count; b++) {
                double of_all = kl[b] * T / K / log(2), rest = prior[b] + losses.decoder_nll[b];
                if (!(of_all - of_all + rest - rest == 0)) {
                    fail(err, "%s: sentence %d: the bound is not finite at step %d of %d", r->eval, first + b + 1,
                         d->timestep_map[t[b]], d->total);
                    goto done;
                }
                bits[b] += of_all;
                quartile[(int)(4 * (int64_t)t[b] / T)] += of_all;
            }
        }
        for (int b = 0; b < count; b++) { /* these two are the same for every t */
            priors += prior[b] / log(2), decoder += N * losses.decoder_nll[b] / log(2);
            bits[b] += (prior[b] + N * losses.decoder_nll[b]) / log(2);
            sum += bits[b], squares += bits[b] * bits[b];
        }
    }
    const double rows = text.rows, mean = sum / rows;
    fprintf(out, "bound %.2f bits/sentence (se %.2f)\n", mean,
            rows > 1 ? sqrt(fmax(squares / rows - mean * mean, 0) / (rows - 1)) : 0);
    fprintf(out, "  %.3f nats/token, %.3f bits/token (%.0f sentences, %.0f tokens with their ends)\n", sum * log(2) / tokens,
            sum / tokens, rows, tokens);
    fprintf(out, "  prior %.3f + diffusion by noise quartile %.3f %.3f %.3f %.3f + decoder %.3f bits/sentence (%d of %d steps)\n",
            priors / rows, quartile[0] / rows, quartile[1] / rows, quartile[2] / rows, quartile[3] / rows, decoder / rows, K, T);
    status = fflush(out) || ferror(out) ? fail(err, "%s: cannot write", r->out ? r->out : "standard output") : 0;
done:
    free(noise);
    corpus_free(&text);
    return status;
}

static void defaults(Sampling *r)
{
    memset(r, 0, sizeof *r);
    r->n = 10, r->seed = 1, r->threads = max_threads(), r->strength = 0.5;
    r->guide_scale = 10, r->guide_steps = 1, r->fluency = 0.01;
    r->evidence_above = HUGE_VAL, r->eta = -1;
}

int main(int argc, char **argv)
{
    static const char *const variances[] = {"fixed-small", "fixed-large", NULL};
    const char *path = "simple.safetensors";
    Sampling run;
    Output file = {0};
    Buffer masks = {0};
    Error err;
    defaults(&run);
    Option options[] = {
        {"n", OPT_INT, &run.n, 1, 1e8, "sentences to draw", NULL, NULL, 0, 0},
        {"steps", OPT_TEXT, &run.steps, 0, 0, "diffusion steps to take: N of those trained, a,b,c for sections, or ddimN",
         "50, if it has as many; all with --eval", NULL, 0, 0},
        {"seed", OPT_INT, &run.seed, 0, INT32_MAX, "of the noise", NULL, NULL, 0, 0},
        {"prompt", OPT_TEXT, &run.prompt, 0, 0, "keep the words of this sentence and fill in its [MASK]s", NULL, NULL, 0, 0},
        {"length", OPT_INT, &run.length, 1, 4096, "of the sentences, in words and punctuation marks", "any", NULL, 0, 0},
        {"edit", OPT_TEXT, &run.edit, 0, 0, "begin with this sentence, made noisy, in place of noise", NULL, NULL, 0, 0},
        {"strength", OPT_REAL, &run.strength, 0.001, 1, "of --edit: the share of the steps to take; 1 keeps nothing",
         NULL, NULL, 0, 0},
        {"guide", OPT_TEXT, run.guide, 0, GUIDES, "sentences that this classifier gives the --label; may be given repeatedly",
         NULL, NULL, 0, 0},
        {"label", OPT_TEXT, run.label, 0, GUIDES, "of --guide, one for each", NULL, NULL, 0, 0},
        {"guide-scale", OPT_REAL, &run.guide_scale, 0, 1e6, "of --guide: how strongly the labels are asked for; 0: not at all",
         NULL, NULL, 0, 0},
        {"guide-steps", OPT_INT, &run.guide_steps, 1, 1000, "gradients that --guide follows after each diffusion step",
         NULL, NULL, 0, 0},
        {"guide-adagrad", OPT_REAL, &run.guide_adagrad, 0, 10,
         "of --guide: Diffusion-LM's rule with this learning rate; 0: Bayes' rule", NULL, NULL, 0, 0},
        {"fluency", OPT_REAL, &run.fluency, 0, 1e6, "of --guide-adagrad: how strongly x is held near the model's mean",
         NULL, NULL, 0, 0},
        {"eta", OPT_REAL, &run.eta, 0, 1000, "noise of a step: 0: none (DDIM), 1: DDPM's, 2 to 3: fewer errors, less varied",
         "DDPM's steps", NULL, 0, 0},
        {"top-p", OPT_REAL, &run.top_p, 0, 100, "draw noise beyond this (0.01 or more) again: likelier, less varied; 0: do not",
         NULL, NULL, 0, 0},
        {"clamp-from", OPT_INT, &run.clamp_from, 0, 100000,
         "below this trained step round x_start to the nearest word; 0: never", NULL, NULL, 0, 0},
        {"clip-denoised", OPT_FLAG, &run.clip_denoised, 0, 0, "clip x_start to [-1, 1]", NULL, NULL, 0, 0},
        {"variance", OPT_CHOICE, &run.variance, 0, 0, "of a step back", NULL, variances, 0, 0},
        {"eval", OPT_TEXT, &run.eval, 0, 0, "in place of sampling: the variational bound on this text", NULL, NULL, 0, 0},
        {"eval-steps", OPT_INT, &run.eval_steps, 0, 100000, "of --eval: terms of the bound to draw for a sentence; 0: all",
         NULL, NULL, 0, 0},
        {"evidence-above", OPT_REAL, &run.evidence_above, 0, 1e6,
         "softmax: count x_t's evidence for its words beyond this by Bayes' rule", "none; 0.5 with --eval", NULL, 0, 0},
        {"show", OPT_FLAG, &run.show, 0, 0, "print the sentences while they come out of the noise, on stderr",
         NULL, NULL, 0, 0},
        {"out", OPT_TEXT, &run.out, 0, 0, "write the sentences to this file", "standard output", NULL, 0, 0},
        {"threads", OPT_INT, &run.threads, 1, 1024, "does not change the result", NULL, NULL, 0, 0},
        {"help", OPT_FLAG, &run.help, 0, 0, "print this", NULL, NULL, 0, 0},
        {NULL, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL, 0, 0},
    };
    if (options_parse(options, argc, argv, &path, 1, &err) < 0) {
        fprintf(stderr, "sample: %s\n", err.text);
        return 2;
    }
    if (run.help) {
        defaults(&run);
        printf("usage: ./sample [options] [CHECKPOINT]\n"
               "Draws sentences from CHECKPOINT (default simple.safetensors), one a line on stdout.\n\n");
        options_help(options, stdout);
        return fflush(stdout) || ferror(stdout) ? 1 : 0;
    }
    if (!!run.prompt + !!run.length + !!run.edit + !!run.eval > 1) {
        fprintf(stderr, "sample: only one of --prompt, --length, --edit and --eval can be given\n");
        return 2;
    }
    for (int g = 0; g < GUIDES; g++)
        if (!run.guide[g] != !run.label[g]) {
            fprintf(stderr, "sample: every --guide needs one --label, and every --label one --guide\n");
            return 2;
        }
    for (int i = 0; i < run.length; i++) buffer_print(&masks, "[MASK] ");
    if (run.length) run.prompt = masks.failed ? "" : masks.text;
    for (const Option *o = options; o->name; o++) {
        const char *why = o->value == &run.eval_steps && !run.eval ? "needs --eval"
                          : o->value == &run.strength && !run.edit ? "needs --edit"
                          : !strncmp(o->name, "guide-", 6) && !run.guide[0] ? "needs --guide"
                          : o->value == &run.fluency && !run.guide_adagrad ? "needs --guide-adagrad"
                          : o->value == &run.eta && run.guide[0] ? "and --guide exclude each other"
                          : o->value == &run.variance && run.eta >= 0 ? "has no effect with --eta"
                          : o->value == &run.top_p && run.eta == 0 ? "has no effect with --eta 0"
                          : o->value == &run.top_p && run.top_p > 0 && run.top_p < 0.01 ? "is 0 or at least 0.01" : NULL;
        char word[32];
        snprintf(word, sizeof word, " %s ", o->name);
        if (run.eval && strstr(" n eta top-p clamp-from show guide label ", word)) why = "has no effect with --eval";
        if (o->given && why) {
            fprintf(stderr, "sample: %s%s %s\n", o->name[1] ? "--" : "-", o->name, why);
            return 2;
        }
        if (run.eval && o->value == &run.evidence_above && !o->given) run.evidence_above = 0.5;
    }
    set_threads(run.threads);
    if (!floats_are_exact())
        fprintf(stderr, "note: this build computes with more than float precision; another build may give other sentences\n");

    int status = 0;
    const char *const inputs[] = {path, run.eval};
    for (int i = 0; i < 2 && run.out && !status; i++) status = output_spares(run.out, inputs[i], &err);
    for (int g = 0; g < GUIDES && run.out && !status; g++) status = output_spares(run.out, run.guide[g], &err);
    if (!status) status = load(&run, path, &err);
    for (const Option *o = options; o->name && !status; o++) {
        const int softmax = run.model.config.predict == PREDICT_SOFTMAX;
        if (o->given && ((o->value == &run.evidence_above && !softmax) || (o->value == &run.variance && run.eval && softmax)))
            status = fail(&err, "--%s has no effect on %s %s", o->name, softmax ? "the bound of" : "the predictions of", path);
    }
    if (!status && run.prompt) status = given_words(&run, run.prompt, run.length ? "--length" : "--prompt", &err);
    if (!status && run.guide[0])
        run.dx = checked_alloc((size_t)BATCH * run.model.config.seq_len, run.model.config.emb_dim * sizeof *run.dx, &err);
    if (!status && run.guide[0] && !run.dx) status = -1;
    for (int g = 0; g < GUIDES && run.guide[g] && !status; g++) status = load_guide(&run, g, &err);
    if (!status && run.edit) {
        status = given_words(&run, run.edit, "--edit", &err);
        run.start = (int)(run.strength * run.diffusion.T + 0.5);
        if (run.start < 1) run.start = 1;
    }
    if (!status && run.out) status = output_open(&file, run.out, &err);
    if (!status) status = (run.eval ? evaluate : sample)(&run, run.out ? file.file : stdout, &err);
    if (file.file) {
        Error other;
        if (output_close(&file, !status, status ? &other : &err)) status = -1;
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
    free(masks.text);
    free(run.dx);
    free(run.ids);
    free(run.x);
    free(run.known);
    free(run.known_x);
    free(run.given);
    return status ? 1 : 0;
}
