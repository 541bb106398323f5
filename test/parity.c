/* parity.c - tdiff against numbers that the reference program computed: parity DIR.
 *
 * DIR holds files as FORMAT.md describes them; which are there, their sizes and their settings are
 * read from the files themselves. One line a file says how many checks ran and the largest error,
 * as a multiple of its tolerance.
 *
 * The double build (-DTDIFF_DOUBLE) has to meet the tight tolerances of FORMAT.md: it proves that
 * the algorithm is the reference's. The float build meets those of single precision: it proves that
 * the project's own elementary functions and sums are good. Both are compared with the reference's
 * double results, f64.*, wherever there are any.
 *
 * "skipped" is what is not built yet and counts at the end; "ignored" is what never will be, and
 * does not. */
#include "../tdiff.h"
#include "fixture.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void parity_text(const char *dir, int *passed, int *failed); /* parity_text.c: the files 09_* */

typedef struct {
    int files, passed, failed, skipped;
} Totals;
typedef struct {
    double absolute, relative;
} Tolerance; /* an error may be absolute + relative * |expected| */
typedef struct Block {
    struct Block *next;
    double bytes[];
} Block;

typedef struct { /* a fixture file, what is built from it, and what was found; check_file frees
                    everything */
    Fixture fixture;
    const char *name;
    char wanted[96];     /* the item that was looked for last, for messages */
    unsigned char *seen; /* (items) looked for: the others are listed at the end */
    int unusable;        /* an input is missing, or not as it should be */
    Block *blocks;
    int passed, failed, skipped, left; /* left: something was skipped or ignored */
    double worst;
    char where[160];
    Config config;
    int B, N;
    Model model;
    Tensor **order; /* the model's tensors in the order of the items w.*, which is that of the flat
                       vectors */
    int num_order;
    Workspace work;
    Diffusion diffusion;
    Optimizer optimizer;
} File;

static const int is_double = sizeof(real) == sizeof(double);

static double pick(double in_double, double in_float) { return is_double ? in_double : in_float; }

static Tolerance within(double in_double, double in_float)
{
    Tolerance t = {pick(in_double, in_float), pick(in_double, in_float)};
    return t;
}

static const Tolerance exact = {0, 0};

/* ---- reports --------------------------------------------------------------------------------- */

/* The file is not as it should be, or cannot be used: a failure. */
static int bad(File *f, const char *format, ...)
{
    va_list args;
    printf("%-26s FAIL ", f->name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    f->failed++;
    return 0;
}

static int leave(File *f, const char *verdict, const char *what, const char *reason)
{
    printf("%-26s %s%s: %s\n", f->name, what, verdict, reason);
    f->left = 1;
    return 0;
}

static int ignore(File *f, const char *what, const char *reason)
{
    return leave(f, "ignored", what, reason);
}

static int skip(File *f, const char *what, const char *reason)
{
    f->skipped++;
    return leave(f, "skipped", what, reason);
}

/* The error as a multiple of what is allowed. Infinities and NaN have to be the same. */
static double error_of(double got, double want, Tolerance tol)
{
    double error = fabs(got - want), allowed = tol.absolute + tol.relative * fabs(want);
    if (got == want || (isnan(got) && isnan(want))) return 0;
    if (!isfinite(got) || !isfinite(want) || allowed == 0) return HUGE_VAL;
    return error / allowed;
}

/* One check: n numbers, which are in x or in y, against want; want NULL: against 0. */
static void check(File *f, const char *name, const real *x, const double *y, const double *want,
                  long n, Tolerance tol)
{
    double worst = 0;
    long at = 0;
    for (long i = 0; i < n; i++) {
        double error = error_of(x ? (double)x[i] : y[i], want ? want[i] : 0, tol);
        if (error > worst) worst = error, at = i;
    }
    if (worst > 1)
        printf("%-26s FAIL %s[%ld]: got %.17g, expected %.17g: %.3g of its tolerance\n", f->name,
               name, at, x ? (double)x[at] : y[at], want ? want[at] : 0, worst);
    ++*(worst > 1 ? &f->failed : &f->passed);
    if (worst >= f->worst) {
        f->worst = worst;
        snprintf(f->where, sizeof f->where, "%s", name);
    }
}

/* The same against an item; there is none: no check. */
static void check_item(File *f, const Item *want, const real *x, const double *y, long n,
                       Tolerance tol)
{
    if (!want) return;
    if (want->n != n)
        bad(f, "%s has %ld values, expected %ld", want->name, want->n, n);
    else
        check(f, want->name, x, y, want->v, n, tol);
}

/* ---- what a file holds ----------------------------------------------------------------------- */

static void *own(File *f, size_t count, size_t size) /* zeroed; freed with the file */
{
    Error err;
    Block *b = checked_alloc(1, sizeof *b + (count ? count : 1) * size, &err);
    if (!b) {
        fprintf(stderr, "%s: %s\n", f->name, err.text);
        exit(1);
    }
    b->next = f->blocks;
    f->blocks = b;
    return b->bytes;
}

static const Item *find(File *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->wanted, sizeof f->wanted, format, args);
    va_end(args);
    const Item *it = fixture_find(&f->fixture, "%s", f->wanted);
    if (it) f->seen[it - f->fixture.item] = 1;
    return it;
}

/* The item found last as n numbers for the library, or NULL: then f->unusable is set. n < 0: as
 * many as there are. */
static real *reals(File *f, const Item *it, long n)
{
    real *x = NULL;
    if (!it || (n >= 0 && it->n != n)) {
        if (it)
            bad(f, "%s has %ld values, expected %ld", it->name, it->n, n);
        else
            bad(f, "%s is missing", f->wanted);
        f->unusable = 1;
    } else {
        x = own(f, (size_t)it->n, sizeof *x);
        for (long i = 0; i < it->n; i++) x[i] = (real)it->v[i];
    }
    return x;
}

/* The same as whole numbers from least to most. */
static int *ints(File *f, const Item *it, long n, int least, int most)
{
    int *x = reals(f, it, n) ? own(f, (size_t)it->n, sizeof *x) : NULL;
    for (long i = 0; x && i < it->n; i++) {
        if (it->v[i] >= least && it->v[i] <= most)
            x[i] = (int)it->v[i];
        else {
            bad(f, "%s[%ld] is %g, expected %d..%d", it->name, i, it->v[i], least, most);
            f->unusable = 1;
            return NULL;
        }
    }
    return x;
}

static int number(File *f, const char *name, int otherwise)
{
    const Item *it = find(f, "%s", name);
    return it && it->n && fabs(it->v[0]) < 1e9 ? (int)it->v[0] : otherwise;
}

static const char *text(File *f, const Item *it) /* "" if there is none */
{
    char *s = own(f, it ? (size_t)it->n + 1 : 1, 1);
    for (long i = 0; it && i < it->n; i++)
        s[i] = it->v[i] > 0 && it->v[i] < 128 ? (char)it->v[i] : '?';
    return s;
}

static int schedule_named(const char *name) /* -1: unknown */
{
    for (int i = 0; noise_schedule_names[i]; i++)
        if (strcmp(noise_schedule_names[i], name) == 0) return i;
    return -1;
}

/* Is the item called NAME + suffix? name becomes NAME. */
static int is_called(const Item *it, char name[96], const char *suffix)
{
    size_t n = strlen(it->name), m = strlen(suffix);
    if (n <= m || strcmp(it->name + n - m, suffix) != 0) return 0;
    snprintf(name, 96, "%.*s", (int)(n - m), it->name);
    return 1;
}

/* ---- the model and the process of a file ----------------------------------------------------- */

/* Tensors go by name, because the file's order is not the model's; each side has to have all of the
 * other's. */
static int load_weights(File *f)
{
    Model *m = &f->model;
    f->order = own(f, (size_t)m->num_tensors, sizeof *f->order);
    f->num_order = 0;
    for (int i = 0; i < f->fixture.count; i++) {
        const Item *it = &f->fixture.item[i];
        Tensor *t = NULL;
        if (strncmp(it->name, "w.", 2) != 0) continue;
        for (int j = 0; j < m->num_tensors; j++)
            if (strcmp(m->tensors[j].name, it->name + 2) == 0) t = &m->tensors[j];
        for (int j = 0; t && j < f->num_order; j++)
            if (f->order[j] == t) return bad(f, "%s occurs twice", it->name);
        if (!t) return bad(f, "%s: the model has no such tensor", it->name);
        if (it->rank != t->rank || it->dim[0] != t->shape[0] ||
            (t->rank > 1 && it->dim[1] != t->shape[1]))
            return bad(f, "%s has another shape than the model's, (%d,%d)", it->name, t->shape[0],
                       t->shape[1]);
        for (size_t j = 0; j < t->size; j++) t->data[j] = (real)it->v[j];
        f->order[f->num_order++] = t;
    }
    for (int j = 0; j < m->num_tensors; j++)
        if (!fixture_find(&f->fixture, "w.%s", m->tensors[j].name))
            return bad(f, "w.%s is missing", m->tensors[j].name);
    return 1;
}

static int setup_model(File *f)
{
    Error err;
    int *v = ints(f, find(f, "config"), 10, 1, 100000);
    if (!v) return 0;
    f->B = v[8], f->N = v[9];
    f->config.vocab = v[0], f->config.emb_dim = v[1], f->config.time_dim = v[2],
    f->config.hidden = v[3];
    f->config.heads = v[4], f->config.layers = v[5], f->config.ffn = v[6],
    f->config.max_positions = v[7];
    f->config.seq_len = v[9], f->config.diffusion_steps = 1000;
    f->config.identity_projections = number(f, "identity_proj", 0);
    f->config.predict = number(f, "predict_xstart", 1) ? PREDICT_XSTART : PREDICT_EPSILON;
    if (model_init(&f->model, &f->config, &err) ||
        workspace_init(&f->work, &f->config, f->B, f->N, 1, &err))
        return bad(f, "%s", err.text);
    return load_weights(f);
}

/* Which sections keep the steps of map? A file says which steps they are, not how they were asked
 * for; but so many equal sections can only have the counts that are found in them. NULL: none of up
 * to 64 sections. */
static const char *sections_of(File *f, int total, const int *map, int T)
{
    Error err;
    unsigned char *kept = own(f, (size_t)total, 1);
    char *s = own(f, 64, 8), *end = s;
    for (int parts = 0; parts <= 64; parts++, end = s) { /* 0 stands for ddimN */
        int k = 0, section_end = 0, same;
        if (!parts) sprintf(s, "ddim%d", T);
        for (int i = 0; i < parts; i++) {
            int begin = k;
            section_end += total / parts + (i < total % parts);
            while (k < T && map[k] < section_end) k++;
            end += sprintf(end, "%s%d", i ? "," : "", k - begin);
        }
        same = space_timesteps(kept, total, s, &err) == T;
        for (int i = 0; same && i < T; i++) same = kept[map[i]];
        if (same) return s;
    }
    return NULL;
}

static int setup_diffusion(File *f, const char *schedule, int total, const int *map, int T)
{
    Error err;
    int kind = schedule_named(schedule);
    const char *sections = NULL;
    if (kind < 0) return skip(f, "", "an unknown noise schedule");
    if (total < 1 || total > 1000000) return bad(f, "%d diffusion steps", total);
    if (map && T < total && !(sections = sections_of(f, total, map, T)))
        return skip(f, "", "no list of sections keeps these steps");
    unsigned char *kept = sections ? own(f, (size_t)total, 1) : NULL;
    if ((kept && space_timesteps(kept, total, sections, &err) < 0) ||
        diffusion_init(&f->diffusion, kind, total, kept, &err))
        return bad(f, "%s", err.text);
    return 1;
}

/* from the items schedule, steps_total, num_timesteps, timestep_map */
static int setup_process(File *f)
{
    const char *schedule = text(f, find(f, "schedule"));
    int total = number(f, "steps_total", 0), T = number(f, "num_timesteps", total);
    const Item *kept = find(f, "timestep_map");
    const int *map = kept || T != total ? ints(f, kept, T, 0, total - 1) : NULL;
    if (f->unusable || !setup_diffusion(f, schedule, total, map, T)) return 0;
    for (int i = 0; map && i < T; i++)
        if (f->diffusion.T != T || f->diffusion.timestep_map[i] != map[i])
            return bad(f, "timestep_map[%d] differs", i);
    return 1;
}

static int all_equal(const double *v, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (v[i] != v[0]) return 0;
    return 1;
}

/* A flat vector, one check a tensor; base: params, or any array laid out like it. key_bias widens
 * the tolerance of the attention's key.bias alone. */
static void check_flat(File *f, const Item *want, const real *base, Tolerance tol, double key_bias)
{
    const Model *m = &f->model;
    char name[200];
    if (!want) return;
    if ((size_t)want->n != m->num_params) {
        bad(f, "%s has %ld values, expected %lu", want->name, want->n,
            (unsigned long)m->num_params);
        return;
    }
    const double *v = want->v;
    for (int i = 0; i < f->num_order; v += f->order[i++]->size) {
        const Tensor *t = f->order[i];
        Tolerance own_tol = {tol.absolute + (strstr(t->name, ".key.bias") ? key_bias : 0),
                             tol.relative};
        snprintf(name, sizeof name, "%s:%s", want->name, t->name);
        check(f, name, base + (t->data - m->params), NULL, v, (long)t->size, own_tol);
    }
}

/* training_losses on the batch PREFIX + ids, t, noise_x0, noise_t of the file; terms gets mse,
 * decoder_nll, tT_loss and loss, (B) each. The gradients are in the model afterwards. */
static double run_losses(File *f, const char *prefix, double *terms)
{
    const int B = f->B, N = f->N;
    const long n = (long)B * N * f->config.emb_dim;
    Losses losses = {terms, terms + B, terms + 2 * B, terms + 4 * B, terms + 3 * B};
    const Dropout none = {0, 0, 0};
    const int *ids = ints(f, find(f, "%sids", prefix), (long)B * N, 0, f->config.vocab - 1);
    const int *t = ints(f, find(f, "%st", prefix), B, 0, f->diffusion.T - 1);
    const real *noise_x0 = reals(f, find(f, "%snoise_x0", prefix), n);
    const real *noise_t = reals(f, find(f, "%snoise_t", prefix), n);
    if (f->unusable) return 0;
    const Batch batch = {ids, t, noise_x0, noise_t, NULL, 0, B, N};
    return training_losses(&f->model, &f->work, &losses, &f->diffusion, &batch, 1, none);
}

/* ---- one function a family of files: 0 if the file was left early, with a message ------------ */

static int check_schedules(File *f)
{
    const Tolerance tol = within(1e-12, 1e-12); /* the tables are double in both builds */
    for (int k = 0; k < f->fixture.count; k++) {
        char name[96], schedule[100];
        const Item *it = &f->fixture.item[k];
        if (!is_called(it, name, ".idx")) continue;
        size_t dot = strcspn(name, ".");
        snprintf(schedule, sizeof schedule, "%.*s", (int)dot, name);
        long T = name[dot] ? strtol(name + dot + 1, NULL, 10) : 0;
        int kind = schedule_named(schedule);
        if (T < 1 || T > 1000000) return bad(f, "%s: bad number of steps", it->name);
        if (kind < 0) {
            skip(f, strcat(schedule, " "), "an unknown noise schedule");
            continue;
        }
        const int *idx = ints(f, it, -1, 0, (int)T - 1);
        double *betas = own(f, (size_t)T, sizeof *betas),
               *some = own(f, (size_t)it->n, sizeof *some), clipped = 0, ok;
        Diffusion d;
        Error err;
        if (!idx) return 0;
        noise_schedule_betas(betas, kind, (int)T);
        for (long t = 0; t < T; t++) clipped += betas[t] == 0.999;
        for (long i = 0; i < it->n; i++) some[i] = betas[idx[i]];
        check_item(f, find(f, "%s.betas", name), NULL, some, it->n, tol);
        check_item(f, find(f, "%s.nclip", name), NULL, &clipped, 1, exact);
        ok = diffusion_init(&d, kind, (int)T, NULL, &err) == 0;
        if (!ok && betas[T - 1] == 1) {
            ignore(f, strcat(name, " "),
                   "its last beta is 1: tdiff refuses what leaves nothing of x_start");
            continue;
        }
        check_item(f, find(f, "%s.ok", name), NULL, &ok, 1, exact);
        if (!ok) continue;
        const char *const names[] = {"betas",
                                     "alphas_cumprod",
                                     "posterior_variance",
                                     "posterior_log_variance_clipped",
                                     "posterior_mean_coef1",
                                     "posterior_mean_coef2"};
        const double *const tables[] = {d.betas,
                                        d.alphas_cumprod,
                                        d.posterior_variance,
                                        d.posterior_log_variance_clipped,
                                        d.posterior_mean_coef1,
                                        d.posterior_mean_coef2};
        for (int j = 0; j < 6; j++) {
            for (long i = 0; i < it->n; i++) some[i] = tables[j][idx[i]];
            check_item(f, find(f, "%s.%s", name, names[j]), NULL, some, it->n, tol);
        }
        diffusion_free(&d);
    }
    return 1;
}

static int check_respacing(File *f)
{
    const Tolerance tol = within(1e-12, 1e-12);
    for (int k = 0; k < f->fixture.count; k++) {
        char name[100];
        const Item *it = &f->fixture.item[k], *schedule;
        if (!is_called(it, name, ".arg")) continue;
        const char *sections = text(f, it);
        const int *total = ints(f, find(f, "%s.T", name), 1, 1, 1000000);
        Error err;
        if (!total) return 0;
        unsigned char *kept = own(f, (size_t)*total, 1);
        real *timesteps = own(f, (size_t)*total, sizeof *timesteps);
        double *steps = own(f, (size_t)*total, sizeof *steps),
               ok = space_timesteps(kept, *total, sections, &err) > 0;
        long n = 0;
        for (int t = 0; ok && t < *total; t++)
            if (kept[t]) steps[n++] = t;
        check_item(f, find(f, "%s.ok", name), NULL, &ok, 1, exact);
        check_item(f, find(f, "%s.steps", name), NULL, steps, n, exact);
        if (!(schedule = find(f, "%s.schedule", name))) continue;

        Diffusion *d = &f->diffusion;
        int kind = schedule_named(text(f, schedule));
        diffusion_free(d);
        if (kind < 0) {
            skip(f, strcat(name, " "), "an unknown noise schedule");
            continue;
        }
        if (diffusion_init(d, kind, *total, kept, &err)) return bad(f, "%s: %s", name, err.text);
        for (int t = 0; t < d->T; t++)
            steps[t] = d->timestep_map[t], timesteps[t] = diffusion_timestep(d, t);
        check_item(f, find(f, "%s.timestep_map", name), NULL, steps, d->T, exact);
        check_item(f, find(f, "%s.betas", name), NULL, d->betas, d->T, tol);
        check_item(f, find(f, "%s.alphas_cumprod", name), NULL, d->alphas_cumprod, d->T, tol);
        /* there are only float32 values: equal in float; in double they lack two roundings */
        check_item(f, find(f, "%s.model_ts", name), timesteps, NULL, d->T, within(1.2e-7, 1e-12));
    }
    return 1;
}

static int check_timestep_embedding(File *f)
{
    for (int k = 0; find(f, "e%d.t", k); k++) {
        const Item *t = find(f, "e%d.t", k), *want = find(f, "e%d.f64", k);
        const int *dim = ints(f, find(f, "e%d.dim", k), 1, 1, 100000);
        if (!dim) return 0;
        if (!want || want->rank != 2 || want->dim[0] != t->n || want->dim[1] > *dim)
            return bad(f, "e%d.f64: bad shape", k);
        real *timesteps = reals(f, t, t->n), *out = own(f, (size_t)(t->n * *dim), sizeof *out);
        timestep_embedding(out, timesteps, (int)t->n, *dim);
        for (long b = 0; b < t->n; b++) {
            char name[96];
            /* an angle t has a rounding error of about 1e-7 t in float, so each row has its own
             * tolerance */
            Tolerance tol = {pick(1e-12, 1e-7 * (1 + fabs(t->v[b]))), pick(1e-12, 0)};
            snprintf(name, sizeof name, "e%d.f64, t = %g", k, t->v[b]);
            check(f, name, out + b * *dim, NULL, want->v + b * want->dim[1], want->dim[1], tol);
            if (want->dim[1] < *dim) /* dim 1: the reference forgets the closing zero */
                check(f, name, out + b * *dim + want->dim[1], NULL, NULL, *dim - want->dim[1],
                      exact);
        }
    }
    return 1;
}

static int check_model(File *f)
{
    Tolerance tol = within(1e-11, 2e-5);
    const Dropout none = {0, 0, 0};
    if (!setup_model(f)) return 0;
    const Config *c = &f->config;
    Workspace *w = &f->work;
    const int B = f->B, M = B * f->N;
    const long MC_ = (long)M * c->hidden, MD = (long)M * c->emb_dim, MV = (long)M * c->vocab;
    const real *x = reals(f, find(f, "x"), MD), *timesteps = reals(f, find(f, "timesteps"), B);
    if (f->unusable) return 0;
    /* In float the angles t f_i of the time embedding carry an error of 1e-7 t f_i; f_0 = 1 is
     * exact, so f_1 is the largest that counts. In a narrow embedding it is small and this adds
     * nothing to speak of. */
    for (int b = 0; b < B && c->time_dim >= 4; b++)
        tol.absolute = fmax(
            tol.absolute, pick(0, 1e-7 * fabs(timesteps[b]) * pow(1e-4, 1.0 / (c->time_dim / 2))));
    denoiser_forward(&f->model, w, w->model_out, x, NULL, timesteps, B, f->N, none);
    lm_head_forward(&f->model, w->logits, x, M);
    check_item(f, find(f, "f64.temb"), w->temb, NULL, (long)B * c->time_dim, tol);
    check_item(f, find(f, "f64.time_embed"), w->time, NULL, (long)B * c->hidden, tol);
    check_item(f, find(f, "f64.emb_ln"), w->emb, NULL, MC_, tol);
    for (int l = 0; l < c->layers; l++) {
        check_item(f, find(f, "f64.layer%d.attn", l), layer_acts(w, &f->config, l).attn_out, NULL,
                   MC_, tol);
        check_item(f, find(f, "f64.layer%d.out", l), layer_acts(w, &f->config, l).out, NULL, MC_,
                   tol);
    }
    check_item(f, find(f, "f64.out"), w->model_out, NULL, MD, tol);
    check_item(f, find(f, "f64.logits_of_x"), w->logits, NULL, MV, tol);
    return 1;
}

static double largest(const Item *it)
{
    double most = 0;
    for (long i = 0; i < it->n; i++) most = fmax(most, fabs(it->v[i]));
    return most;
}

/* Frozen embeddings show as a gradient of zeros, which is no true one. */
static int embeddings_are_frozen(const File *f, const Item *grad)
{
    const double *v = grad->v;
    for (int i = 0; i < f->num_order; v += f->order[i++]->size)
        if (f->order[i] == f->model.word_embedding)
            return v[0] == 0 && all_equal(v, f->order[i]->size);
    return 0;
}

/* The original's lookup of pretrained embeddings sends no gradient to this word (padding_idx),
 * which is not the true derivative: here what it would send is taken off ours. */
static void take_off_lookups(File *f, int word)
{
    const int *ids = ints(f, find(f, "ids"), (long)f->B * f->N, 0, f->config.vocab - 1),
              D = f->config.emb_dim;
    for (int i = 0; ids && i < f->B * f->N; i++)
        for (int d = 0; ids[i] == word && d < D; d++)
            f->model.word_embedding->grad[word * D + d] -= f->work.dx_start[i * D + d];
}

static int check_loss(File *f)
{
    const Tolerance tol = within(1e-10, 1e-5);
    const Item *mask = find(f, "mask01"), *grad;
    if (mask &&
        !all_equal(mask->v,
                   (size_t)mask->n)) /* the same number on every score would change nothing */
        return ignore(f, "",
                      "the reference adds the 0/1 mask to the scores un-inverted: no attention is "
                      "masked here");
    if (!setup_model(f) || !setup_process(f)) return 0;

    Workspace *w = &f->work;
    const int B = f->B;
    const size_t n = (size_t)f->N * f->config.emb_dim;
    double *terms = own(f, 5 * (size_t)B, sizeof *terms), mean = run_losses(f, "", terms);
    if (f->unusable) return 0;
    check_item(f, find(f, "f64.x_start"), w->x_start, NULL, (long)(B * n), tol);
    check_item(f, find(f, "f64.x_t"), w->x_t, NULL, (long)(B * n), tol);
    check_item(f, find(f, "f64.model_out"), w->model_out, NULL, (long)(B * n), tol);
    check_item(f, find(f, "f64.model_ts"), w->timesteps, NULL, B, tol);
    check_item(f, find(f, "f64.mse"), NULL, terms, B, tol);
    check_item(f, find(f, "f64.decoder_nll"), NULL, terms + B, B, tol);
    check_item(f, find(f, "f64.tT_loss"), NULL, terms + 2 * B, B, tol);
    check_item(f, find(f, "f64.loss"), NULL, terms + 3 * B, B, tol);
    check_item(f, find(f, "f64.mean_loss"), NULL, &mean, 1, tol);
    if ((grad = find(f, "f64.grad")) != NULL) {
        /* In float an element may be off by 1e-5 of the largest of all: small ones are differences
         * of large ones. That also serves key.bias, whose gradient is 0 in theory (softmax does not
         * see what all scores share). */
        Tolerance grad_tol = {pick(1e-10, 1e-5 * largest(grad)), pick(1e-10, 0)};
        if (number(f, "padding_idx", -1) >= 0) take_off_lookups(f, number(f, "padding_idx", -1));
        if (embeddings_are_frozen(f, grad)) freeze_embeddings(&f->model);
        check_flat(f, grad, f->model.grads, grad_tol, 0);
    }

    /* what mse is made of, for every example, whatever its t */
    const int *ids = ints(f, find(f, "ids"), (long)B * f->N, 0, f->config.vocab - 1);
    embedding_forward(w->target, f->model.word_embedding->data, ids, B * f->N, f->config.emb_dim);
    if (f->config.predict == PREDICT_EPSILON)
        mse_forward(terms, reals(f, find(f, "noise_t"), (long)(B * n)), w->model_out, B, n);
    else
        mse_forward(terms, w->x_start, w->model_out, B, n);
    check_item(f, find(f, "f64.mse_raw"), NULL, terms, B, tol);
    mse_forward(terms, w->target, w->pred_xstart, B, n);
    check_item(f, find(f, "f64.t0_loss"), NULL, terms, B, tol);
    return 1;
}

static void check_sums(File *f, const Item *want, const real *x, Tolerance tol)
{
    double sums[2] = {0, 0};
    for (size_t i = 0; i < f->model.num_params; i++)
        sums[0] += x[i], sums[1] += (double)x[i] * x[i];
    check_item(f, want, NULL, sums, 2, tol);
}

/* The weights expected after step k, or an EMA. Some exist in float32 only: the float build takes
 * those: is_f32. */
static const Item *after_step(File *f, int k, int ema, int *is_f32)
{
    char name[24] = "w";
    if (ema >= 0) snprintf(name, sizeof name, "ema%d", ema);
    const Item *it = find(f, "f64.s%d.%s", k, name);
    *is_f32 = !it && !is_double;
    return *is_f32 ? find(f, "f32.s%d.%s", k, name) : it;
}

/* The gradient of key.bias is 0 in theory and rounding noise in practice, in float of the size of
 * Adam's eps, so that Adam makes steps of up to lr of it. It has to be noise; then the float build
 * sets it to 0, and all weights can be compared closely. (The reference's float32 results did take
 * those steps: check_flat's key_bias.) */
static void check_key_bias(File *f, int k, int report)
{
    const Model *m = &f->model;
    char name[128];
    double most = 0;
    for (size_t i = 0; i < m->num_params; i++) most = fmax(most, fabs((double)m->grads[i]));
    for (int l = 0; l < m->config.layers; l++) {
        Tensor *bias = m->layer[l].key.bias;
        Tolerance tol = {pick(1e-10, 1e-5) * most, 0};
        snprintf(name, sizeof name, "s%d, gradient of %s", k, bias->name);
        if (report) check(f, name, bias->grad, NULL, NULL, (long)bias->size, tol);
        if (!is_double) memset(bias->grad, 0, bias->size * sizeof *bias->grad);
    }
}

/* Trains with the ema-th rate. The weights are the same for all: checked for the first. */
static int check_training(File *f, const double *hyper, double rate, int ema)
{
    const Tolerance tol = within(1e-9, 1e-5);
    Model *m = &f->model;
    Optimizer *o = &f->optimizer;
    Error err;
    const int anneal = (int)hyper[2];
    const Item *want;
    unsigned char *decay = own(f, (size_t)m->num_tensors, 1);
    double *terms = own(f, 5 * (size_t)f->B, sizeof *terms);
    optimizer_free(o);
    if (!load_weights(f)) return 0;
    if (optimizer_init(o, m, &err)) return bad(f, "%s", err.text);
    memset(decay, 1, (size_t)m->num_tensors); /* the reference lets every tensor decay */
    for (int k = 0; find(f, "s%d.ids", k); k++) {
        char prefix[16];
        int is_f32;
        snprintf(prefix, sizeof prefix, "s%d.", k);
        double loss = run_losses(f, prefix, terms), norm = gradient_norm(m, o);
        double lr = anneal > 0 ? learning_rate(hyper[0], k, 0, anneal) : hyper[0];
        double factor = clip_factor(norm, hyper[3] > 0 ? hyper[3] : 0), clipped = norm * factor;
        if (f->unusable) return 0;
        check_key_bias(f, k, ema == 0);
        adamw_step(m, o, k, lr, hyper[1], decay, rate, factor);
        if (ema == 0) {
            check_item(f, find(f, "f64.s%d.lr", k), NULL, &lr, 1, within(1e-12, 1e-12));
            check_item(f, find(f, "f64.s%d.loss", k), NULL, &loss, 1, tol);
            check_item(f, find(f, "f64.s%d.gnorm", k), NULL, &clipped, 1, tol);
            check_sums(f, find(f, "f64.s%d.wsum", k), m->params, tol);
            want = after_step(f, k, -1, &is_f32);
            check_flat(f, want, m->params, tol, is_f32 ? (k + 1) * hyper[0] : 0);
        }
        check_sums(f, find(f, "f64.s%d.ema%dsum", k, ema), o->ema, tol);
        want = after_step(f, k, ema, &is_f32);
        check_flat(f, want, o->ema, tol, is_f32 ? (k + 1) * hyper[0] : 0);
    }
    return 1;
}

static int check_optimizer(File *f)
{
    const Item *hyper = find(f, "hyper"), *rates = find(f, "ema_rates");
    if (!hyper || hyper->n != 4 || !rates)
        return bad(f, "hyper (4 values) and ema_rates are needed");
    if (!(fabs(hyper->v[2]) < 1e9)) return bad(f, "hyper: anneal_steps is %g", hyper->v[2]);
    if (!setup_model(f)) return 0;
    /* the first files of the family name their process in a comment only */
    if (find(f, "steps_total") ? !setup_process(f) : !setup_diffusion(f, "sqrt", 20, NULL, 0))
        return 0;
    for (long r = 0; r < rates->n; r++)
        if (!check_training(f, hyper->v, rates->v[r], (int)r)) return 0;
    return 1;
}

typedef struct {
    const Item *raw;
    long used;
} Draws;

static real next_draw(void *context)
{
    Draws *d = context;
    return d->used < d->raw->n ? (real)d->raw->v[d->used++] : 0; /* too many draws show as zeros */
}

static int check_diffusion(File *f)
{
    const Tolerance tol = within(1e-11, 1e-5);
    const int *shape = ints(f, find(f, "shape"), 3, 1, 10000), total = number(f, "T", 0);
    if (!shape || !setup_diffusion(f, text(f, find(f, "schedule")), total, NULL, 0)) return 0;
    const Diffusion *d = &f->diffusion;
    const int B = shape[0];
    const long n = (long)shape[1] * shape[2], Bn = B * n;
    const int *t = ints(f, find(f, "t"), B, 0, total - 1);
    const real *x_start = reals(f, find(f, "x_start"), Bn);
    const real *x_t = reals(f, find(f, "x_t"), Bn);
    const real *noise = reals(f, find(f, "noise"), Bn);
    const real *model_out = reals(f, find(f, "model_out"), Bn);
    real *out = own(f, (size_t)Bn, sizeof *out), *pred = own(f, (size_t)Bn, sizeof *pred);
    double *variance = own(f, (size_t)B, sizeof *variance),
           *log_variance = own(f, (size_t)B, sizeof *log_variance);
    if (f->unusable) return 0;
    q_sample(out, x_start, noise, t, d, B, (size_t)n);
    check_item(f, find(f, "f64.q_sample"), out, NULL, Bn, tol);
    q_mean_variance(out, variance, log_variance, x_start, t, d, B, (size_t)n);
    check_item(f, find(f, "f64.q_mean"), out, NULL, Bn, tol);
    check_item(f, find(f, "f64.q_variance"), NULL, variance, B, tol);
    check_item(f, find(f, "f64.q_log_variance"), NULL, log_variance, B, tol);
    q_posterior_mean_variance(out, variance, log_variance, x_start, x_t, t, d, B, (size_t)n);
    check_item(f, find(f, "f64.post_mean"), out, NULL, Bn, tol);
    check_item(f, find(f, "f64.post_variance"), NULL, variance, B, tol);
    check_item(f, find(f, "f64.post_log_variance"), NULL, log_variance, B, tol);
    for (int large = 0; large < 2; large++) {
        const char *name = large ? "large" : "small";
        const Variance kind = large ? FIXED_LARGE : FIXED_SMALL;
        p_mean_variance(out, variance, log_variance, model_out, x_t, t, d, kind, B, (size_t)n);
        check_item(f, find(f, "f64.%s.variance", name), NULL, variance, B, tol);
        check_item(f, find(f, "f64.%s.log_variance", name), NULL, log_variance, B, tol);
        for (int kinds = 0; kinds < 4; kinds++) { /* x_start or epsilon predicted, clipped or not */
            const char *predicts = kinds / 2 ? "eps" : "xstart";
            if (kinds / 2)
                xstart_from_epsilon(pred, x_t, model_out, t, d, B, (size_t)n);
            else
                memcpy(pred, model_out, (size_t)Bn * sizeof *pred);
            for (long i = 0; i < Bn && kinds % 2; i++) pred[i] = real_clip(pred[i]);
            check_item(f, find(f, "f64.%s.%s.clip%d.pred_xstart", name, predicts, kinds % 2), pred,
                       NULL, Bn, tol);
            p_mean_variance(out, variance, log_variance, pred, x_t, t, d, kind, B, (size_t)n);
            check_item(f, find(f, "f64.%s.%s.clip%d.mean", name, predicts, kinds % 2), out, NULL,
                       Bn, tol);
            p_sample(out, pred, x_t, noise, t, d, kind, B, (size_t)n);
            check_item(f, find(f, "f64.%s.%s.clip%d.sample", name, predicts, kinds % 2), out, NULL,
                       Bn, tol);
        }
    }
    xstart_from_epsilon(out, x_t, model_out, t, d, B, (size_t)n);
    check_item(f, find(f, "f64.xstart_from_eps"), out, NULL, Bn, tol);
    epsilon_from_xstart(out, x_t, model_out, t, d, B, (size_t)n);
    check_item(f, find(f, "f64.eps_from_xstart"), out, NULL, Bn, tol);
    const Item *raw = find(f, "top_p.raw"), *truncated = find(f, "top_p.noise");
    if (raw && truncated && raw->n >= Bn) {
        Draws draws = {raw, Bn};
        for (long i = 0; i < Bn; i++) out[i] = (real)raw->v[i];
        truncate_noise(out, (size_t)Bn, find(f, "top_p.value")->v[0], next_draw, &draws);
        check_item(f, truncated, out, NULL, Bn, exact);
    }
    return 1;
}

typedef struct {
    const real *noise, *x;
    real *sample, *pred_xstart;
    size_t n;
    int T;
} Replay;

static int replay_noise(void *context, real *out, int t)
{
    const Replay *r = context;
    memcpy(out, r->noise + (size_t)(r->T - 1 - t) * r->n, r->n * sizeof *out);
    return 0;
}

static void record(void *context, int t, const real *pred_xstart)
{
    Replay *r = context;
    memcpy(r->sample + (size_t)(r->T - 1 - t) * r->n, r->x, r->n * sizeof *r->x);
    memcpy(r->pred_xstart, pred_xstart, r->n * sizeof *r->pred_xstart);
}

static int check_loop(File *f)
{
    const Tolerance tol = within(1e-9, 1e-3); /* in float the errors of all steps add up */
    if (!setup_model(f) || !setup_process(f)) return 0;
    const int BN = f->B * f->N, T = f->diffusion.T;
    const long n = (long)BN * f->config.emb_dim;
    real *x = reals(f, find(f, "x_T"), n);
    const real *noise = reals(f, find(f, "noise"), T * n);
    if (f->unusable) return 0;
    Replay r = {noise,     x, own(f, (size_t)(T * n), sizeof *x), own(f, (size_t)n, sizeof *x),
                (size_t)n, T};
    Sampler s = {.variance = number(f, "sigma_small", 1) ? FIXED_SMALL : FIXED_LARGE,
                 .noise = replay_noise,
                 .show = record,
                 .context = &r,
                 .clip_denoised = number(f, "clip_denoised", 0)};
    Error err;
    if (p_sample_loop(&f->model, &f->work, &f->diffusion, &s, x, f->B, f->N, &err))
        return bad(f, "%s", err.text);
    check_item(f, find(f, "f64.sample"), r.sample, NULL, T * n, tol);
    check_item(f, find(f, "f64.pred_xstart_last"), r.pred_xstart, NULL, n, tol);

    int *ids = own(f, (size_t)BN, sizeof *ids);
    double *words = own(f, (size_t)BN, sizeof *words);
    const Item *margin = find(f, "f64.min_logit_margin"), *want = find(f, "f64.ids");
    likeliest_words(&f->model, &f->work, ids, x, f->B, f->N);
    for (int i = 0; i < BN; i++) words[i] = ids[i];
    if (margin && margin->n == 1 && margin->v[0] < 10 * tol.absolute)
        skip(f, "f64.ids ", "two words are equally near");
    else
        check_item(f, want, NULL, words, BN, exact);
    return 1;
}

/* Bits per dimension: a row of vb is prior, the steps from T-1 to 0, decoder. */
static int check_bound(File *f)
{
    const Tolerance tol = within(1e-9, 1e-4);
    if (!setup_model(f) || !setup_process(f)) return 0;
    const Diffusion *d = &f->diffusion;
    const int B = f->B, T = d->T;
    const size_t n = (size_t)f->N * f->config.emb_dim;
    const double unit = n * log(2);
    const int *ids = ints(f, find(f, "ids"), (long)B * f->N, 0, f->config.vocab - 1);
    const real *noise_x0 = reals(f, find(f, "noise_x0"), (long)(B * n)),
               *noise = reals(f, find(f, "noise"), (long)(T * B * n));
    const Variance kind = number(f, "sigma_small", 1) ? FIXED_SMALL : FIXED_LARGE;
    double *vb = own(f, (size_t)B * (T + 2), sizeof *vb), *total = own(f, (size_t)B, sizeof *total);
    double *terms = own(f, 7 * (size_t)B, sizeof *terms), *kl = terms + 5 * B,
           *prior = terms + 6 * B;
    double *xstart_mse = own(f, (size_t)B * T, sizeof *terms),
           *mse = own(f, (size_t)B * T, sizeof *terms);
    real *epsilon = own(f, n, sizeof *epsilon);
    int *t = own(f, (size_t)B, sizeof *t);
    if (f->unusable) return 0;
    Losses losses = {terms, terms + B, terms + 2 * B, terms + 4 * B, terms + 3 * B};
    for (int k = 0; k < T; k++) {
        const Batch batch = {ids, t, noise_x0, noise + k * B * n, NULL, 0, B, f->N};
        for (int b = 0; b < B; b++) t[b] = T - 1 - k;
        variational_bound(&f->model, &f->work, &losses, kl, prior, d, &batch, kind,
                          number(f, "clip_denoised", 0));
        for (int b = 0; b < B; b++) {
            const real *pred = f->work.pred_xstart + b * n;
            double *row = vb + (size_t)b * (T + 2);
            row[0] = prior[b] / unit, row[1 + k] = kl[b] / unit,
            row[T + 1] = losses.decoder_nll[b] * f->N / unit;
            epsilon_from_xstart(epsilon, f->work.x_t + b * n, pred, t + b, d, 1, n);
            mse_forward(xstart_mse + b * T + k, f->work.x_start + b * n, pred, 1, n);
            mse_forward(mse + b * T + k, batch.noise_t + b * n, epsilon, 1, n);
        }
    }
    for (int b = 0; b < B; b++)
        for (int k = 0; k < T + 2; k++) total[b] += vb[b * (T + 2) + k];
    for (int b = 0; b < B; b++) prior[b] /= unit;
    check_item(f, find(f, "f64.vb"), NULL, vb, (long)B * (T + 2), tol);
    check_item(f, find(f, "f64.total_bpd"), NULL, total, B, tol);
    check_item(f, find(f, "f64.prior_bpd"), NULL, prior, B, tol);
    check_item(f, find(f, "f64.xstart_mse"), NULL, xstart_mse, (long)B * T, tol);
    check_item(f, find(f, "f64.mse"), NULL, mse, (long)B * T, tol);
    return 1;
}

static int check_classifier(File *f)
{
    return ignore(f, "", "the reference's classifier is another network");
}

static int check_resampler(File *f)
{
    const Tolerance tol =
        within(1e-12, 1e-12); /* double in both builds; these losses are exact in float */
    const int T = number(f, "T", 0), split = number(f, "split", 0);
    const Item *losses = find(f, "losses");
    const int *t = ints(f, find(f, "ts"), losses ? losses->n : -1, 0, T - 1);
    double *importance = own(f, (size_t)(T > 0 ? T : 0), sizeof *importance);
    Resampler r;
    Error err;
    if (!t || !losses || T < 1) return bad(f, "T, ts and losses are needed");
    if (resampler_init(&r, T, number(f, "history_per_term", 1), &err))
        return bad(f, "%s", err.text);
    resampler_update(&r, t, losses->v, split);
    for (int i = 0; i < T; i++) importance[i] = T * r.p[i];
    check_item(f, find(f, "weights_after_split"), NULL, importance, T,
               tol); /* 1, where ours sum to 1 */
    resampler_update(&r, t + split, losses->v + split, (int)losses->n - split);
    check_item(f, find(f, "p"), NULL, r.p, T, tol);
    for (int i = 0; i < T; i++) importance[i] = 1 / (T * r.p[i]);
    check_item(f, find(f, "importance"), NULL, importance, T, tol);
    resampler_free(&r);
    return 1;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* What became of the results that no check asked for. */
static void list_unseen(File *f)
{
    static const struct {
        const char *part;
        int never;
        const char *reason;
    } reasons[] = {
        {"xprev", 1, "no network predicts x_prev here"},
        {"added_mask01", 1,
         "the reference adds the 0/1 mask to the scores un-inverted: no attention is masked here"},
        {"seed_returned", 1, "the reference's sampler stops early, with noise left"},
        {"", 0, "nothing here knows this item"},
    };
    for (int i = 0; i < f->fixture.count; i++) {
        char what[100];
        int k = 0;
        if (f->seen[i] || strncmp(f->fixture.item[i].name, "f64.", 4) != 0) continue;
        snprintf(what, sizeof what, "%s ", f->fixture.item[i].name);
        while (!strstr(what, reasons[k].part)) k++;
        (reasons[k].never ? ignore : skip)(f, what, reasons[k].reason);
    }
}

static void check_file(const char *dir, const char *name, int (*checks)(File *), Totals *total)
{
    File f;
    int loaded;
    memset(&f, 0, sizeof f);
    f.name = name;
    loaded = fixture_load(&f.fixture, dir, name);
    if (!loaded) return;
    if (loaded < 0)
        bad(&f, "cannot be read");
    else {
        f.seen = own(&f, (size_t)f.fixture.count, 1);
        if (checks(&f)) list_unseen(&f);
        if (!f.passed && !f.failed && !f.left) bad(&f, "nothing in it could be checked");
    }
    if (f.where[0])
        printf("%-26s %3d checks, worst %.2g of tolerance (%s)\n", name, f.passed + f.failed,
               f.worst, f.where);
    total->files++, total->passed += f.passed, total->failed += f.failed,
        total->skipped += f.skipped;
    model_free(&f.model);
    workspace_free(&f.work);
    diffusion_free(&f.diffusion);
    optimizer_free(&f.optimizer);
    fixture_free(&f.fixture);
    for (Block *b = f.blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*checks)(File *);
    } families[] = {
        /* *: a letter, a to z */
        {"01_schedules.txt", check_schedules},
        {"02_respace.txt", check_respacing},
        {"03_timestep_embedding.txt", check_timestep_embedding},
        {"04_model_*.txt", check_model},
        {"05_loss_*.txt", check_loss},
        {"06_optim_*.txt", check_optimizer},
        {"07_diffusion.txt", check_diffusion},
        {"07_loop_*.txt", check_loop},
        {"08_vb_*.txt", check_bound},
        {"10_classifier_*.txt", check_classifier},
        {"11_resample.txt", check_resampler},
    };
    Totals total = {0, 0, 0, 0};
    if (argc != 2) {
        fprintf(stderr, "usage: parity DIR (fixtures: see FORMAT.md)\n");
        return 2;
    }
    printf("parity, %s build, %s\n", is_double ? "double" : "float", argv[1]);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        for (const char *letter = "abcdefghijklmnopqrstuvwxyz"; *letter; letter++) {
            char name[64], *hole;
            snprintf(name, sizeof name, "%s", families[i].name);
            if ((hole = strchr(name, '*')) != NULL) *hole = *letter;
            check_file(argv[1], name, families[i].checks, &total);
            if (!hole) break;
        }
    parity_text(argv[1], &total.passed, &total.failed);
    if (!total.files && !total.passed && !total.failed && !total.skipped) {
        fprintf(stderr, "%s: no fixtures\n", argv[1]);
        total.failed++;
    }
    printf("%d passed, %d failed, %d skipped\n", total.passed, total.failed, total.skipped);
    return total.failed != 0;
}
