/* sample.c - draws sentences from a checkpoint that ./train has written.
 *
 *   ./sample                                 10 sentences of simple.safetensors
 *   ./sample mine.safetensors -n 3 --show    how three sentences come out of the noise
 *
 * Sentences go to stdout, one a line; everything else goes to stderr. The noise of sample i is a hash of
 * (seed, step, i): the same seed gives the same sentences whatever their number and the number of threads. */
#include "tdiff.h"
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64, SHOWN = 16 /* states that --show prints, at most about twice as many */ };

typedef struct {
    int n, seed, threads, show, variance, help;
    const char *steps, *out;
    Tokenizer tokenizer;
    Model model;
    Workspace work;
    Diffusion diffusion;
    int *ids; /* (BATCH,N) */
    real *x;  /* (BATCH,N,D) */
    int first, count; /* the samples of the current batch */
} Sampling;

static void draw_noise(void *context, real *out, int t)
{
    const Sampling *r = context;
    const size_t n = (size_t)r->model.config.seq_len * r->model.config.emb_dim;
    const int step = t < r->diffusion.T ? r->diffusion.timestep_map[t] : r->diffusion.total; /* T: x_T itself */
    for (int b = 0; b < r->count; b++)
        rng_gaussian(out + b * n, n, rng_key((uint64_t)r->seed, RNG_SAMPLE, step, r->first + b));
}

/* The words nearest to x, as text: a sentence a line. */
static int print_words(Sampling *r, const real *x, const char *before, FILE *out, Error *err)
{
    const int N = r->model.config.seq_len;
    Buffer text = {0};
    nearest_words(&r->model, &r->work, r->ids, x, r->count, N);
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

static int load(Sampling *r, const char *path, Error *err)
{
    Checkpoint c;
    Config config = {0};
    int steps_done, status = -1;
    if (!checkpoint_open(&c, path, err) && !checkpoint_config(&c, &config, &r->tokenizer, &steps_done, err) &&
        !model_init(&r->model, &config, err) && !checkpoint_tensors(&c, &r->model, "", r->model.params, err) &&
        !diffusion_init(&r->diffusion, config.noise_schedule, config.diffusion_steps, r->steps, err) &&
        !workspace_init(&r->work, &config, BATCH, config.seq_len, 0, err)) {
        const size_t values = (size_t)BATCH * config.seq_len;
        r->ids = checked_alloc(values, sizeof *r->ids, err);
        r->x = r->ids ? checked_alloc(values, config.emb_dim * sizeof *r->x, err) : NULL;
        status = r->x ? 0 : -1;
        fprintf(stderr, "%s: step %d, %.2f million parameters; %d of %d diffusion steps\n", path, steps_done,
                r->model.num_params * 1e-6, r->diffusion.T, r->diffusion.total);
    }
    checkpoint_close(&c);
    return status;
}

static int sample(Sampling *r, FILE *out, Error *err)
{
    const Sampler sampler = {(Variance)r->variance, draw_noise, r->show ? show_state : NULL, r};
    for (r->first = 0; r->first < r->n; r->first += BATCH) {
        r->count = r->n - r->first < BATCH ? r->n - r->first : BATCH;
        draw_noise(r, r->x, r->diffusion.T);
        p_sample_loop(&r->model, &r->work, &r->diffusion, &sampler, r->x, r->count, r->model.config.seq_len);
        if (print_words(r, r->x, "", out, err)) return -1;
        if (fflush(out) || ferror(out)) return fail(err, "%s: cannot write", r->out ? r->out : "standard output");
    }
    return 0;
}

static void defaults(Sampling *r)
{
    memset(r, 0, sizeof *r);
    r->n = 10, r->seed = 1, r->threads = max_threads(), r->steps = "50";
}

int main(int argc, char **argv)
{
    static const char *const variances[] = {"fixed-small", "fixed-large", NULL};
    const char *path = "simple.safetensors";
    Sampling run;
    Output file = {0};
    Error err;
    defaults(&run);
    Option options[] = {
        {"n", OPT_INT, &run.n, 1, 1e8, "sentences to draw", NULL, NULL, 0, 0},
        {"steps", OPT_TEXT, &run.steps, 0, 0, "diffusion steps to take: N of those trained, or a,b,c for sections", NULL, NULL, 0, 0},
        {"seed", OPT_INT, &run.seed, 0, INT32_MAX, "of the noise", NULL, NULL, 0, 0},
        {"variance", OPT_CHOICE, &run.variance, 0, 0, "of a step back", NULL, variances, 0, 0},
        {"show", OPT_FLAG, &run.show, 0, 0, "print the sentences while they come out of the noise, on stderr", NULL, NULL, 0, 0},
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
    set_threads(run.threads);
    if (!floats_are_exact())
        fprintf(stderr, "note: this build computes with more than float precision; another build may give other sentences\n");

    int status = load(&run, path, &err);
    if (!status && run.out) status = output_open(&file, run.out, &err);
    if (!status) status = sample(&run, run.out ? file.file : stdout, &err);
    if (file.file) {
        Error other;
        if (output_close(&file, !status, status ? &other : &err)) status = -1;
    }
    if (status) fprintf(stderr, "sample: %s\n", err.text);
    tokenizer_free(&run.tokenizer);
    model_free(&run.model);
    workspace_free(&run.work);
    diffusion_free(&run.diffusion);
    free(run.ids);
    free(run.x);
    return status ? 1 : 0;
}
