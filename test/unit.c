/* unit.c - the unit tests of tdiff.c. No files are read: every number is drawn from the library's own
 * generator, every expectation is a formula, libm, a naive loop, or a central difference.
 *
 * The file is built twice. In double precision (-DTDIFF_DOUBLE) a derivative can be told from a slightly wrong
 * one; in float, the elementary functions and the order of sums are what there is to test. */
#include "tdiff.h"
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { DOUBLE = sizeof(real) == 8 };

/* ---- counting ------------------------------------------------------------------------------------ */

static struct { const char *name; int passed, failed, all_passed, all_failed; } group;

static int check(int ok, const char *format, ...)
{
    va_list args;
    if (ok) return group.passed++, 1;
    if (group.failed++ < 10) { /* one broken line can fail thousands of checks */
        printf("FAIL %s: ", group.name);
        va_start(args, format);
        vprintf(format, args);
        va_end(args);
        printf("\n");
    }
    return 0;
}

static int near(double got, double want, double tolerance, const char *what)
{
    return check(fabs(got - want) <= tolerance, "%s: got %.9g, expected %.9g within %g", what, got, want, tolerance);
}

/* ---- memory and data: all is freed when its group ends -------------------------------------------- */

static struct { void *block[4096]; int count; uint64_t draws; } pool;

static void *take(size_t count, size_t size)
{
    Error err;
    void *p = pool.count < 4096 ? checked_alloc(count, size, &err) : NULL;
    if (!p) { fprintf(stderr, "unit: out of memory\n"); exit(1); }
    return pool.block[pool.count++] = p;
}

static void release(void)
{
    while (pool.count) free(pool.block[--pool.count]);
}

static real *zeros(size_t n) { return take(n, sizeof(real)); }
static uint64_t new_key(void) { return rng_key(2024, RNG_VALIDATION, 0, pool.draws++); }
static double unit_interval(uint64_t key, size_t i) { return rng_u32(key, (uint32_t)i) / 4294967296.0; }

static void randomise(real *x, size_t n, double scale)
{
    rng_gaussian(x, n, new_key());
    for (size_t i = 0; i < n; i++) x[i] *= (real)scale;
}

static real *normal(size_t n, double scale)
{
    real *x = zeros(n);
    randomise(x, n, scale);
    return x;
}

static int *words(size_t n, int below)
{
    int *ids = take(n, sizeof *ids);
    uint64_t key = new_key();
    for (size_t i = 0; i < n; i++) ids[i] = rng_below(key, (uint32_t)i, below);
    return ids;
}

static double largest(const real *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fabs(x[i]) > most || x[i] != x[i] ? fabs(x[i]) : most;
    return most;
}

static void near_all(const real *got, const real *want, size_t n, double tolerance, const char *what)
{
    const double scale = largest(want, n);
    size_t bad = 0, where = 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance * scale) && !bad++) where = i;
    check(!bad && scale > 0, "%s: %zu differ, first [%zu]: got %.12g, expected %.12g", what, bad, where,
          (double)got[where], (double)want[where]);
}

/* ---- gradients ------------------------------------------------------------------------------------ */

/* x, and what is claimed to be d loss / d x */
typedef struct { const char *name; real *x, *grad; size_t n; int adds; } Slot;

/* Signed central differences against the claim, relative to the largest of the tensor. A tensor whose gradient must
 * be 0 in theory (zero) is held to absolute bounds; any other must have one, else a test of nothing would pass. */
static void check_gradient(const char *where, const Slot *s, int zero, double (*loss)(void *), void *context)
{
    enum { MOST = 200 };
    const double rounding = 1e-11; /* of the loss, divided by h */
    const double h = 2e-4; /* of four points: with an error of order h^4, h need not be so small that rounding shows */
    const uint64_t key = new_key();
    static const int point[] = {-2, -1, 1, 2}, weight[] = {1, -8, 8, -1};
    double most = 0, worst = -1, analytic = 0, numeric = 0;
    size_t index = 0;
    for (size_t k = 0; k < s->n && k < MOST; k++) {
        size_t i = s->n > MOST ? (size_t)rng_below(key, (uint32_t)k, (int)s->n) : k;
        real x = s->x[i];
        double difference = 0, error;
        for (int p = 0; p < 4; p++) {
            s->x[i] = (real)(x + h * point[p]);
            difference += weight[p] * loss(context) / (12 * h);
        }
        s->x[i] = x;
        error = fabs(difference - s->grad[i]);
        most = fmax(most, fabs(difference));
        if (!(error <= worst)) worst = error, index = i, analytic = s->grad[i], numeric = difference;
    }
    check(zero ? most < 1e-8 && largest(s->grad, s->n) < 1e-12 : most > 1e-6 && worst <= 1e-7 * most + rounding,
          "%s %s[%zu]: analytic %.12g, numeric %.12g, largest of the tensor %.6g%s", where, s->name, index, analytic,
          numeric, most, zero ? ", must be 0" : "");
}

/* A layer on a bench. Its case function is called with SHAPES to list its inputs, then to run either way. */
typedef enum { SHAPES, FORWARD, BACKWARD } Phase;
typedef struct {
    const int *dim;
    int slots;
    Slot slot[3];
    size_t out_size;
    real *out, *dout, *scratch[4];
    double value[8]; /* the loss pairs' output, a value per example, */
    int values;      /* one per example: their backwards take a weight for each */
    Dropout drop;
    int *ids;
    Diffusion d;
    void (*run)(void *bench, Phase phase);
} Bench;

static void slot(Bench *b, const char *name, size_t n, int adds)
{
    real *grad = normal(n, 1); /* a backward overwrites this, or adds to it */
    b->slot[b->slots++] = (Slot){name, normal(n, 1), grad, n, adds};
}

static void linear_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int M = b->dim[0], O = b->dim[1], I = b->dim[2];
    Slot *in = &b->slot[0], *w = &b->slot[1], *bias = &b->slot[2];
    if (phase == SHAPES) slot(b, "in", M * I, 0), slot(b, "w", O * I, 1), slot(b, "b", O, 1), b->out_size = M * O;
    else if (phase == FORWARD) linear_forward(b->out, in->x, w->x, bias->x, M, O, I);
    else { /* in two parts, as threads would */
        linear_backward_input(in->grad, b->dout, w->x, M, O, I);
        linear_backward_weights(w->grad, bias->grad, b->dout, in->x, M, O, I, 0, O / 3);
        linear_backward_weights(w->grad, bias->grad, b->dout, in->x, M, O, I, O / 3, O);
    }
}

static void layernorm_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int M = b->dim[0], C = b->dim[1];
    Slot *in = &b->slot[0], *gamma = &b->slot[1], *beta = &b->slot[2];
    real *normed = b->scratch[0], *rstd = b->scratch[1];
    if (phase == SHAPES) slot(b, "in", M * C, 0), slot(b, "gamma", C, 1), slot(b, "beta", C, 1), b->out_size = M * C;
    else if (phase == FORWARD) layernorm_forward(b->out, normed, rstd, in->x, gamma->x, beta->x, M, C);
    else layernorm_backward(in->grad, gamma->grad, beta->grad, b->dout, normed, rstd, gamma->x, M, C);
}

static void elementwise(Bench *b, Phase phase, void (*forward)(real *, const real *, size_t),
                        void (*backward)(real *, const real *, const real *, size_t), int from_out)
{
    const size_t n = b->dim[0];
    if (phase == SHAPES) slot(b, "in", n, 0), b->out_size = n;
    else if (phase == FORWARD) forward(b->out, b->slot[0].x, n);
    else backward(b->slot[0].grad, b->dout, from_out ? b->out : b->slot[0].x, n);
}
static void gelu_case(void *bench, Phase phase) { elementwise(bench, phase, gelu_forward, gelu_backward, 0); }
static void tanh_case(void *bench, Phase phase) { elementwise(bench, phase, tanh_forward, tanh_backward, 1); }
static void silu_case(void *bench, Phase phase) { elementwise(bench, phase, silu_forward, silu_backward, 0); }

static void attention_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int B = b->dim[0], N = b->dim[1], C = b->dim[2], H = b->dim[3];
    real *qkv = b->slot[0].x, *att = b->scratch[0], *dropped = b->scratch[1], *ds = b->scratch[2];
    if (phase == SHAPES) slot(b, "qkv", B * N * 3 * C, 0), b->out_size = B * N * C;
    else if (phase == FORWARD) attention_forward(b->out, att, dropped, qkv, b->drop, B, N, C, H);
    else attention_backward(b->slot[0].grad, ds, dropped, b->dout, att, qkv, b->drop, B, N, C, H);
}

static void dropout_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const size_t n = b->dim[0];
    if (phase == SHAPES) slot(b, "in", n, 0), b->out_size = n;
    else if (phase == FORWARD) dropout_forward(b->out, b->slot[0].x, n, b->drop);
    else dropout_backward(b->slot[0].grad, b->dout, n, b->drop);
}

static void embedding_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int M = b->dim[0], D = b->dim[1], V = b->dim[2];
    if (phase == SHAPES) slot(b, "table", V * D, 1), b->out_size = M * D, b->ids = words(M, V);
    else if (phase == FORWARD) embedding_forward(b->out, b->slot[0].x, b->ids, M, D);
    else embedding_backward(b->slot[0].grad, b->dout, b->ids, M, D);
}

static void mse_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int B = b->dim[0], n = b->dim[1];
    Slot *target = &b->slot[0], *out = &b->slot[1];
    if (phase == SHAPES) slot(b, "target", B * n, 1), slot(b, "out", B * n, 1), b->values = B;
    else if (phase == FORWARD) mse_forward(b->value, target->x, out->x, B, n);
    else mse_backward(target->grad, out->grad, target->x, out->x, b->dout, B, n);
}

static void decoder_nll_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int B = b->dim[0], N = b->dim[1], V = b->dim[2], D = b->dim[3];
    Slot *x = &b->slot[0], *table = &b->slot[1], *bias = &b->slot[2];
    Model m = {0}; /* the decoder looks at two tensors only */
    Tensor e = {0}, h = {0};
    e.data = table->x, h.data = bias->x;
    m.embedding = e.data, m.lm_head_bias = &h, m.config.vocab = V, m.config.emb_dim = D;
    if (phase == SHAPES) {
        slot(b, "x_start", B * N * D, 1), slot(b, "word_embedding", V * D, 1), slot(b, "lm_head.bias", V, 1);
        b->values = B, b->ids = words(B * N, V);
    } else if (phase == FORWARD) decoder_nll_forward(b->value, b->scratch[0], &m, x->x, b->ids, B, N);
    else {
        decoder_nll_backward(x->grad, b->scratch[0], &m, b->ids, b->dout, B, N);
        linear_backward_weights(table->grad, bias->grad, b->scratch[0], x->x, B * N, V, D, 0, V);
    }
}

static void tT_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int B = b->dim[0], n = b->dim[1];
    if (phase == SHAPES) slot(b, "x_start", B * n, 1), b->values = B;
    else if (phase == FORWARD) tT_loss_forward(b->value, b->slot[0].x, &b->d, B, n);
    else tT_loss_backward(b->slot[0].grad, b->slot[0].x, &b->d, b->dout, B, n);
}

static double bench_loss(void *bench) /* a random direction of the output, so that every element counts differently */
{
    Bench *b = bench;
    double loss = 0;
    b->run(b, FORWARD);
    for (int i = 0; i < b->values; i++) loss += b->value[i] * b->dout[i];
    for (size_t i = 0; i < b->out_size; i++) loss += (double)b->out[i] * b->dout[i];
    return loss;
}

static const struct { const char *name; void (*run)(void *, Phase); int shapes[8][4]; double rate; } layers[] = {
    {"linear", linear_case, {{1, 1, 1}, {3, 5, 2}, {1, 3, 7}, {7, 33, 5}, {5, 1, 17}}, 0}, /* M O I */
    {"layernorm", layernorm_case, {{1, 5}, {3, 3}, {4, 17}, {2, 33}, {7, 64}}, 0},          /* M C */
    {"gelu", gelu_case, {{1}, {37}, {200}}, 0},
    {"tanh", tanh_case, {{1}, {37}, {200}}, 0},
    {"silu", silu_case, {{1}, {37}, {200}}, 0},
    {"attention", attention_case,                                                         /* B N C H */
     {{1, 1, 5, 1}, {1, 3, 5, 1}, {2, 3, 6, 2}, {3, 1, 4, 4}, {1, 3, 5, 5}, {2, 4, 6, 3}, {1, 17, 3, 1}, {1, 5, 34, 2}},
     0},
    {"attention with dropout", attention_case,
     {{1, 3, 5, 1}, {2, 3, 6, 2}, {3, 1, 4, 4}, {1, 3, 5, 5}, {2, 4, 6, 3}, {1, 17, 3, 1}, {1, 5, 34, 2}}, 0.3},
    {"dropout", dropout_case, {{37}, {200}}, 0.3},
    {"embedding", embedding_case, {{1, 1, 1}, {9, 3, 4}, {5, 33, 7}}, 0},                  /* M D V */
    {"mse", mse_case, {{1, 1}, {3, 5}, {2, 37}}, 0},                                       /* B n */
    {"decoder_nll", decoder_nll_case, {{1, 1, 6, 1}, {1, 3, 7, 5}, {2, 3, 20, 3}}, 0},     /* B N V D */
    {"tT", tT_case, {{1, 1}, {3, 5}, {2, 37}}, 0},                                         /* B n */
};

static void test_layer(int which, const int *dim)
{
    Bench b = {0};
    Error err;
    char where[100];
    b.dim = dim, b.run = layers[which].run;
    b.drop.key = new_key(), b.drop.rate = layers[which].rate;
    for (int i = 0; i < 4; i++) b.scratch[i] = zeros(2048);
    if (!check(!diffusion_init(&b.d, 5, 9, NULL, &err), "%s", err.text)) return;
    b.run(&b, SHAPES);
    b.out = zeros(b.out_size), b.dout = normal(b.out_size + b.values, 1);
    real *before[3];
    for (int i = 0; i < b.slots; i++) {
        before[i] = zeros(b.slot[i].n);
        if (b.slot[i].adds) memcpy(before[i], b.slot[i].grad, b.slot[i].n * sizeof(real));
    }
    b.run(&b, FORWARD);
    b.run(&b, BACKWARD);
    for (int i = 0; i < b.slots; i++) {
        for (size_t k = 0; k < b.slot[i].n; k++) b.slot[i].grad[k] -= before[i][k];
        snprintf(where, sizeof where, "(%d,%d,%d,%d)", dim[0], dim[1], dim[2], dim[3]);
        check_gradient(where, &b.slot[i], 0, bench_loss, &b);
    }
    diffusion_free(&b.d);
}

/* ---- the whole loss -------------------------------------------------------------------------------- */

typedef struct { Config c; int B, t[4]; double rate; int weighted; } Setup;
typedef struct {
    Model m;
    Workspace w;
    Diffusion d;
    Losses terms;
    const int *t;
    int *ids, B, N;
    real *noise_x0, *noise_t, *weight;
    int self_condition;
    Dropout drop;
    real *table[5], *droute[5]; /* test_routes: a copy of the embedding for each use, and its gradient */
} World;

static int open_world(World *x, const Setup *s)
{
    Error err;
    memset(x, 0, sizeof *x);
    x->B = s->B, x->N = s->c.seq_len, x->t = s->t;
    if (!check(!model_init(&x->m, &s->c, &err) && !workspace_init(&x->w, &s->c, x->B, x->N, 1, &err) &&
               !diffusion_init(&x->d, s->c.noise_schedule, s->c.diffusion_steps, NULL, &err), "%s", err.text))
        return -1;
    x->d.evidence_above = 0.1; /* little enough to matter at most t of these schedules */
    randomise(x->m.params, x->m.num_params, 0.6); /* all of it, LayerNorm too: exact 1 and 0 would hide mistakes */
    for (int i = 0; i < x->m.num_tensors; i++)
        for (size_t k = 0; k < x->m.tensors[i].size && x->m.tensors[i].init == INIT_ONE; k++)
            x->m.tensors[i].data[k] += 1;
    x->terms.mse = take(5 * x->B, sizeof(double)), x->terms.decoder_nll = x->terms.mse + x->B;
    x->terms.tT_loss = x->terms.mse + 2 * x->B, x->terms.loss = x->terms.mse + 3 * x->B;
    x->terms.head_nll = x->terms.mse + 4 * x->B;
    x->ids = words(x->B * x->N, s->c.vocab);
    size_t n = (size_t)x->B * x->N * s->c.emb_dim;
    x->noise_x0 = normal(n, 1), x->noise_t = normal(n, 1);
    x->drop.key = new_key(), x->drop.rate = s->rate;
    x->weight = s->weighted ? normal(x->B, 1) : NULL;
    return 0;
}

static void close_world(World *x)
{
    model_free(&x->m);
    workspace_free(&x->w);
    diffusion_free(&x->d);
}

static double run_loss(World *x, int backward)
{
    const Batch batch = {x->ids, x->t, x->noise_x0, x->noise_t, x->weight, x->self_condition, x->B, x->N};
    return training_losses(&x->m, &x->w, &x->terms, &x->d, &batch, backward, x->drop);
}

static double world_loss(void *world) /* what the gradient is of: each example with its weight */
{
    World *x = world;
    double loss = run_loss(x, 0), sum = 0;
    for (int b = 0; b < x->B; b++) sum += (x->weight ? x->weight[b] : 1) * x->terms.loss[b] / x->B;
    return x->weight ? sum : loss;
}

/* vocab seq_len max_positions emb_dim hidden layers heads ffn time_dim T schedule, B, t, dropout. Schedule 5 (pw_lin)
 * of few steps keeps much of x_start in x_{T-1}: tT_loss and route 1 then weigh as much as the rest. */
static const Setup setups[] = {
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, 0, 0, 0}, 3, {0, 5, 2, 0}, 0, 0},
    {{9, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, 0, 0, 0}, 2, {7, 0, 0, 0}, 0, 0},
    {{6, 3, 3, 2, 5, 2, 1, 3, 2, 5, 0, 0, 0, 0}, 3, {4, 0, 1, 0}, 0, 0},
    {{6, 3, 3, 4, 5, 1, 5, 6, 5, 7, 5, 0, 0, 0}, 2, {0, 6, 0, 0}, 0, 0},
    {{8, 1, 2, 3, 6, 1, 2, 5, 3, 6, 5, 0, 0, 0}, 2, {0, 5, 0, 0}, 0, 0},
    {{8, 1, 1, 1, 3, 1, 1, 1, 2, 6, 5, 0, 0, 0}, 1, {3, 0, 0, 0}, 0, 0},
    {{7, 3, 3, 3, 4, 1, 2, 5, 3, 6, 5, 0, 0, 0}, 1, {0, 0, 0, 0}, 0, 0},
    {{7, 3, 3, 3, 4, 1, 2, 5, 3, 6, 5, 0, 0, 0}, 1, {5, 0, 0, 0}, 0, 0},
    {{9, 4, 5, 3, 6, 2, 2, 5, 3, 6, 5, 0, 0, 0}, 4, {0, 5, 0, 3}, 0.2, 0},
    {{6, 3, 3, 2, 5, 2, 1, 3, 2, 5, 0, 0, 0, 0}, 3, {4, 0, 1, 0}, 0.2, 0},
    {{20, 18, 18, 17, 18, 1, 1, 34, 18, 9, 5, 0, 0, 0}, 2, {0, 8, 0, 0}, 0, 0}, /* beyond 16 lanes; more than 200 elements */
    /* behind the schedule: what is predicted, self-conditioning, norm of the embeddings; at the end: weighted examples */
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, PREDICT_EPSILON, 0, 0}, 3, {0, 5, 2, 0}, 0, 0},
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, PREDICT_SOFTMAX, 0, 1}, 3, {0, 5, 2, 0}, 0, 0},
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, PREDICT_XSTART, 1, 0}, 3, {0, 5, 2, 0}, 0, 0},
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, PREDICT_XSTART, 0, 1.5}, 3, {0, 5, 2, 0}, 0, 1},
    {{9, 4, 5, 5, 6, 1, 3, 7, 4, 8, 5, PREDICT_EPSILON, 1, 2}, 3, {7, 0, 2, 0}, 0.2, 1},
    {{9, 4, 5, 5, 6, 1, 3, 7, 4, 8, 5, PREDICT_SOFTMAX, 1, 2}, 3, {7, 0, 2, 0}, 0.2, 1},
};
enum { SETUPS = sizeof setups / sizeof *setups };

static void test_whole_loss(const Setup *s)
{
    World x;
    char where[100];
    snprintf(where, sizeof where, "B=%d N=%d C=%d H=%d dropout %g", s->B, s->c.seq_len, s->c.hidden, s->c.heads,
             s->rate);
    if (!open_world(&x, s)) {
        double loss = run_loss(&x, 1);
        near(loss, run_loss(&x, 0), 0, "the loss without and with backward");
        for (int i = 0; i < x.m.num_tensors; i++) {
            Tensor *t = &x.m.tensors[i];
            Slot slot_i = {t->name, t->data, t->grad, t->size, 1};
            /* softmax does not feel what all keys share; nor, over one position, anything */
            int zero =
                strstr(t->name, "key.bias") || (x.N == 1 && (strstr(t->name, "key.") || strstr(t->name, "query.")));
            check_gradient(where, &slot_i, zero, world_loss, &x);
        }
    }
    close_world(&x);
}

static void test_twice(const Setup *s)
{
    World x;
    if (!open_world(&x, s)) {
        real *twice = zeros(x.m.num_params);
        run_loss(&x, 1);
        for (size_t i = 0; i < x.m.num_params; i++) twice[i] = 2 * x.m.grads[i];
        run_loss(&x, 1);
        for (int i = 0; i < x.m.num_tensors; i++) {
            const Tensor *t = &x.m.tensors[i];
            if (strstr(t->name, "query.") || strstr(t->name, "key.")) continue; /* may be rounding around 0 */
            near_all(t->grad, twice + (t->grad - x.m.grads), t->size, DOUBLE ? 1e-12 : 1e-5, t->name);
        }
    }
    close_world(&x);
}

/* The loss put together from the library's pairs, with a table of its own for each of the embedding's five uses. */
static double routes(World *x, int backward)
{
    const int B = x->B, N = x->N, D = x->m.config.emb_dim, V = x->m.config.vocab, M = B * N;
    const size_t n = (size_t)N * D;
    const real sigma = (real)sqrt(1 - x->d.alphas_cumprod[0]);
    real *weight = zeros(B);
    real *x_t = zeros(M * D), *out = zeros(M * D), *logits = zeros(M * V), *timesteps = zeros(B);
    real *noised[4], *dx[4], *dout, *dx_t;
    Model head = x->m;
    double loss = 0;
    head.embedding = x->table[4];
    for (int b = 0; b < B; b++) weight[b] = (real)1 / B;
    for (int r = 0; r < 4; r++) {
        noised[r] = zeros(M * D), dx[r] = zeros(M * D);
        embedding_forward(noised[r], x->table[r], x->ids, M, D);
        for (size_t i = 0; i < M * (size_t)D; i++)
            if (r != 1 || x->t[i / n]) noised[r][i] += sigma * x->noise_x0[i];
    }
    for (int b = 0; b < B; b++) timesteps[b] = diffusion_timestep(&x->d, x->t[b]);
    q_sample(x_t, noised[0], x->noise_t, x->t, &x->d, B, n);
    denoiser_forward(&x->m, &x->w, out, x_t, NULL, timesteps, B, N, x->drop);
    mse_forward(x->terms.mse, noised[1], out, B, n);
    tT_loss_forward(x->terms.tT_loss, noised[2], &x->d, B, n);
    decoder_nll_forward(x->terms.decoder_nll, logits, &head, noised[3], x->ids, B, N);
    for (int b = 0; b < B; b++) loss += (x->terms.mse[b] + x->terms.tT_loss[b] + x->terms.decoder_nll[b]) / B;
    if (!backward) return loss;

    dout = zeros(M * D), dx_t = zeros(M * D);
    mse_backward(dx[1], dout, noised[1], out, weight, B, n);
    denoiser_backward(&x->m, &x->w, dx_t, dout, x_t, B, N, x->drop);
    for (size_t i = 0; i < M * (size_t)D; i++) dx[0][i] = (real)sqrt(x->d.alphas_cumprod[x->t[i / n]]) * dx_t[i];
    tT_loss_backward(dx[2], noised[2], &x->d, weight, B, n);
    decoder_nll_backward(dx[3], logits, &head, x->ids, weight, B, N);
    linear_backward_weights(x->droute[4], zeros(V), logits, noised[3], M, V, D, 0, V);
    for (int r = 0; r < 4; r++) embedding_backward(x->droute[r], dx[r], x->ids, M, D);
    return loss;
}

static double routes_loss(void *world)
{
    int blocks = pool.count;
    double loss = routes(world, 0);
    while (pool.count > blocks) free(pool.block[--pool.count]);
    return loss;
}

static void test_routes(const Setup *s)
{
    static const char *const names[] = {"route 1, x_t", "route 2, the target", "route 3, tT_loss",
                                        "route 4, the decoder's input", "route 5, lm_head"};
    World x;
    if (s->c.predict || s->c.self_conditioning || s->c.emb_norm || s->weighted) return; /* more routes than five */
    if (!open_world(&x, s)) {
        const Tensor *e = x.m.word_embedding;
        real *total = zeros(e->size);
        for (int r = 0; r < 5; r++) {
            x.table[r] = zeros(e->size), x.droute[r] = zeros(e->size);
            memcpy(x.table[r], e->data, e->size * sizeof(real));
        }
        double loss = routes(&x, 1);
        for (int r = 0; r < 5; r++) {
            Slot route = {names[r], x.table[r], x.droute[r], e->size, 0};
            check_gradient("", &route, 0, routes_loss, &x);
            for (size_t i = 0; i < e->size; i++) total[i] += x.droute[r][i];
        }
        memset(x.m.grads, 0, x.m.num_params * sizeof(real));
        near(run_loss(&x, 1), loss, 1e-12 * loss, "the loss of training_losses and of its parts");
        near_all(e->grad, total, e->size, 1e-12, "word_embedding's gradient and the sum of five routes");
    }
    close_world(&x);
}

/* mse with the estimate that training_losses left: it is a constant for the gradient */
static double frozen_loss(void *world)
{
    World *x = world;
    const size_t n = (size_t)x->N * x->m.config.emb_dim;
    double loss = 0;
    denoiser_forward(&x->m, &x->w, x->table[0], x->table[1], x->table[2], x->table[3], x->B, x->N, x->drop);
    mse_forward(x->terms.mse, x->table[4], x->table[0], x->B, n);
    for (int b = 0; b < x->B; b++) loss += x->terms.mse[b] / x->B;
    return loss;
}

static void test_self_conditioning(void)
{
    static const Setup s = {{9, 4, 5, 5, 6, 1, 3, 7, 4, 8, 5, PREDICT_XSTART, 1, 0}, 3, {7, 0, 2, 0}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        const size_t n = (size_t)x.B * x.N * s.c.emb_dim;
        double mean = 0;
        x.self_condition = 1;
        run_loss(&x, 1);
        for (int b = 0; b < x.B; b++) mean += x.terms.mse[b] / x.B;
        for (int i = 0; i < 5; i++) x.table[i] = zeros(n);
        memcpy(x.table[1], x.w.x_t, n * sizeof(real));
        memcpy(x.table[2], x.w.estimate, n * sizeof(real));
        memcpy(x.table[3], x.w.timesteps, x.B * sizeof(real));
        memcpy(x.table[4], x.w.target, n * sizeof(real));
        denoiser_forward(&x.m, &x.w, x.table[0], x.table[1], NULL, x.table[3], x.B, x.N, x.drop);
        near_all(x.table[0], x.table[2], n, 0, "the estimate is what the network says without one");
        near(frozen_loss(&x), mean, 1e-12 * mean, "the loss with the estimate");
        for (int i = 0; i < x.m.num_tensors; i++) {
            Tensor *t = &x.m.tensors[i];
            Slot slot_i = {t->name, t->data, t->grad, t->size, 1};
            if (t != x.m.word_embedding && t != x.m.lm_head_bias) /* these have other routes, too */
                check_gradient("self-conditioning", &slot_i, strstr(t->name, "key.bias") != NULL, frozen_loss, &x);
        }
    }
    close_world(&x);
}

/* ---- matmul ----------------------------------------------------------------------------------------- */

static real *uniform(size_t n)
{
    real *x = zeros(n);
    uint64_t key = new_key();
    for (size_t i = 0; i < n; i++) x[i] = (real)(2 * unit_interval(key, i) - 1);
    return x;
}

/* Words so far apart that the softmax of most is nothing: a gradient must be 0 then, not a denormal number, which is slow. */
static void test_denormals(void)
{
    enum { B = 8, N = 12, V = 300, D = 64 };
    real *table = normal(V * D, 1), *x = zeros(B * N * D), *dx = zeros(B * N * D), *probs = zeros(B * N * V), weight[B];
    double nll[B];
    const int *ids = words(B * N, V);
    int denormal = 0, none = 0;
    Tensor bias = {0};
    Model m = {0};
    m.embedding = table, m.lm_head_bias = &bias, m.config.vocab = V, m.config.emb_dim = D, bias.data = zeros(V);
    for (int i = 0; i < B * N * D; i++) x[i] = table[ids[i / D] * D + i % D];
    for (int b = 0; b < B; b++) weight[b] = (real)1 / B;
    decoder_nll_forward(nll, probs, &m, x, ids, B, N);
    decoder_nll_backward(dx, probs, &m, ids, weight, B, N);
    for (int i = 0; i < B * N * V; i++) denormal += probs[i] != 0 && fabs(probs[i]) < FLT_MIN, none += probs[i] == 0;
    check(!denormal, "%d gradients of %d are denormal", denormal, B * N * V);
    check(none > B * N * V / 2, "only %d of %d gradients are 0", none, B * N * V);
}

static void test_matmul(int M, int N, int K, int ta, int tb)
{
    enum { GUARD = 80 };
    const double tolerance = (DOUBLE ? DBL_EPSILON : FLT_EPSILON) * 16 * sqrt(K), guard = 12345;
    const size_t size = (size_t)M * N;
    real *a = uniform((size_t)M * K), *b = uniform((size_t)K * N), *start = uniform(size),
         *room = zeros(size + 2 * GUARD);
    real *c = room + GUARD;
    size_t bad = 0, where = 0, broken = 0;
    for (size_t i = 0; i < size + 2 * GUARD; i++) room[i] = (real)guard;
    memcpy(c, start, size * sizeof *c);
    matmul(c, a, ta, b, tb, M, N, K);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double want = start[(size_t)i * N + j];
            for (size_t k = 0; k < (size_t)K; k++)
                want += (double)(ta ? a[k * M + i] : a[(size_t)i * K + k]) * (tb ? b[(size_t)j * K + k] : b[k * N + j]);
            if (!(fabs(c[(size_t)i * N + j] - want) <= tolerance) && !bad++) where = (size_t)i * N + j;
        }
    check(!bad, "%dx%dx%d, transposed %d %d: %zu differ, first [%zu] = %g", M, N, K, ta, tb, bad, where,
          (double)c[where]);
    for (size_t i = 0; i < GUARD; i++) broken += room[i] != (real)guard || c[size + i] != (real)guard;
    check(!broken, "%dx%dx%d, transposed %d %d: wrote outside of C", M, N, K, ta, tb);
    if (!ta && tb) { /* where in C a result lies must not change its bits */
        int i = rng_below(new_key(), 0, M), j = rng_below(new_key(), 0, N);
        real *row = start + (size_t)i * N, one = row[j];
        matmul(row, a + (size_t)i * K, 0, b, 1, 1, N, K);
        check(!memcmp(row, c + (size_t)i * N, N * sizeof *row), "%dx%dx%d: row %d alone has other bits", M, N, K, i);
        matmul(&one, a + (size_t)i * K, 0, b + (size_t)j * K, 1, 1, 1, K);
        check(!memcmp(&one, row + j, sizeof one), "%dx%dx%d: [%d,%d] alone has other bits", M, N, K, i, j);
    }
    release();
}

static void test_matmuls(void)
{
    static const int large[][3] = {{300, 257, 513}, {1, 300, 700}, {513, 3, 257}, {160, 512, 256}, {5, 16, 1025}};
    uint64_t key = new_key();
    for (int transposed = 0; transposed < 4; transposed++) {
        for (uint32_t i = 0; i < 500; i++)
            test_matmul(1 + rng_below(key, 3 * i, 70), 1 + rng_below(key, 3 * i + 1, 70),
                        1 + rng_below(key, 3 * i + 2, 70), transposed & 1, transposed >> 1);
        for (size_t i = 0; i < sizeof large / sizeof *large; i++)
            test_matmul(large[i][0], large[i][1], large[i][2], transposed & 1, transposed >> 1);
    }
}

/* An example's losses must not depend on its neighbours in the batch, nor on the number of threads. */
static void test_determinism(void)
{
    static const Setup s = {{40, 18, 18, 17, 36, 2, 2, 34, 18, 9, 0, 0, 0, 0}, 4, {0, 8, 3, 3}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        const size_t n = (size_t)x.N * s.c.emb_dim;
        double in_batch[4];
        run_loss(&x, 0);
        memcpy(in_batch, x.terms.loss, sizeof in_batch);
        for (int b = 0; b < 4; b++) {
            const Batch alone = {x.ids + b * x.N, s.t + b, x.noise_x0 + b * n, x.noise_t + b * n, NULL, 0, 1, x.N};
            training_losses(&x.m, &x.w, &x.terms, &x.d, &alone, 0, x.drop);
            near(x.terms.loss[0], in_batch[b], 0, "an example alone and in a batch");
        }
        real *grads = zeros(x.m.num_params);
        for (int threads = 1; threads <= 3; threads++) { /* does nothing without OpenMP: then it tests replaying */
            int given = max_threads();
            set_threads(threads);
            memset(x.m.grads, 0, x.m.num_params * sizeof(real));
            run_loss(&x, 1);
            if (threads == 1) memcpy(grads, x.m.grads, x.m.num_params * sizeof(real));
            check(!memcmp(grads, x.m.grads, x.m.num_params * sizeof(real)), "%d threads give other gradients", threads);
            set_threads(given);
        }
    }
    close_world(&x);
}

/* A batch that the workspace takes in pieces has the gradient, and the losses, of the whole. */
static void test_pieces(void)
{
    const double tolerance = DOUBLE ? 1e-12 : 2e-5;
    static const Setup s = {{40, 18, 18, 17, 36, 2, 2, 34, 18, 9, 0, 0, 0, 0}, 4, {0, 8, 3, 3}, 0, 1};
    World x;
    if (!open_world(&x, &s)) {
        double whole[4], most = 0;
        Error err;
        real *grads = zeros(x.m.num_params);
        double mean = run_loss(&x, 1);
        memcpy(whole, x.terms.loss, sizeof whole);
        memcpy(grads, x.m.grads, x.m.num_params * sizeof *grads);
        memset(x.m.grads, 0, x.m.num_params * sizeof *grads);
        for (size_t i = 0; i < x.m.num_params; i++) most = fmax(most, fabs(grads[i]));
        workspace_free(&x.w);
        if (check(!workspace_init(&x.w, &s.c, 3, x.N, 1, &err), "%s", err.text)) { /* a piece of 3 and a rest of 1 */
            near(run_loss(&x, 1), mean, tolerance * mean, "the mean loss in pieces");
            for (int b = 0; b < 4; b++) near(x.terms.loss[b], whole[b], tolerance * whole[b], "a loss in pieces");
            for (size_t i = 0; i < x.m.num_params; i++)
                if (!(fabs(x.m.grads[i] - grads[i]) <= tolerance * most)) {
                    check(0, "gradient %zu in pieces: %g, not %g", i, (double)x.m.grads[i], (double)grads[i]);
                    break;
                }
            check(1, "gradients in pieces");
        }
    }
    close_world(&x);
    static const Setup dropping = {{40, 18, 18, 17, 36, 2, 2, 34, 18, 9, 0, 0, 0, 0}, 2, {3, 3}, 0.5, 0};
    if (!open_world(&x, &dropping)) { /* the same example twice, in pieces of one: it loses other elements each time */
        const size_t n = (size_t)x.N * dropping.c.emb_dim;
        Error err;
        int ids[36];
        memcpy(ids, x.ids, x.N * sizeof *ids), memcpy(ids + x.N, x.ids, x.N * sizeof *ids);
        memcpy(x.noise_x0 + n, x.noise_x0, n * sizeof(real)), memcpy(x.noise_t + n, x.noise_t, n * sizeof(real));
        workspace_free(&x.w);
        const Batch twice = {ids, x.t, x.noise_x0, x.noise_t, NULL, 0, 2, x.N};
        if (check(!workspace_init(&x.w, &dropping.c, 1, x.N, 1, &err), "%s", err.text)) {
            training_losses(&x.m, &x.w, &x.terms, &x.d, &twice, 0, x.drop);
            check(x.terms.loss[0] != x.terms.loss[1], "two pieces with the same dropout mask");
        }
    }
    close_world(&x);
    check(piece_of_batch(64, 12) == 64 && piece_of_batch(64, 64) == 32 && piece_of_batch(3, 5000) == 1, "piece_of_batch");
}

/* ---- elementary functions ---------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    real (*f)(real);
    double (*libm)(double), low, high, tolerance;
    int relative;
} Function;

static real from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return (real)x;
}

static void test_function(const Function *f)
{
    enum { POINTS = 1000000 };
    const uint64_t key = new_key();
    const int logarithm = f->libm == log;
    double worst = -1, at = 0;
    for (uint32_t i = 0; i < POINTS + 2; i++) {
        double u = unit_interval(key, 2 * i), v = unit_interval(key, 2 * i + 1);
        double centre = logarithm ? 1 : 0, span = logarithm ? 0.5 : fmin(-f->low, f->high);
        real x = (real)(f->low + u * (f->high - f->low));
        if (i % 2) x = (real)(centre + (2 * u - 1) * span * pow(2, -24 * v)); /* dense around 0, or 1 */
        else if (logarithm) x = from_bits((uint32_t)(0x00800000u + u * 0x7f000000u)); /* every exponent */
        if (i >= POINTS) x = (real)(i == POINTS ? f->low : f->high);
        double want = f->libm((double)x), error = fabs((double)f->f(x) - want);
        if (f->relative && !(logarithm && error <= 1e-9)) error /= fabs(want);
        if (!(error <= worst)) worst = error, at = x;
    }
    check(worst <= f->tolerance, "%s(%.9g): error %.3g, more than %g", f->name, at, worst, f->tolerance);
    check(isnan(f->f((real)NAN)), "%s(NaN) is %g", f->name, (double)f->f((real)NAN));
}

static void test_functions(void)
{
    /* the errors found are below 1e-7, with and without fused multiply-add */
    static const Function functions[] = {
        {"exp", real_exp, exp, -87, 88, 1.5e-7, 1},     {"log", real_log, log, FLT_MIN, FLT_MAX, 1.5e-7, 1},
        {"erf", real_erf, erf, -8, 8, 1.5e-7, 0},       {"tanh", real_tanh, tanh, -20, 20, 1.5e-7, 0},
        {"sin", real_sin, sin, -1000, 1000, 1.5e-7, 0}, {"cos", real_cos, cos, -1000, 1000, 1.5e-7, 0},
    };
    /* two walks over the ends */
    static const double beyond[] = {87, 87.5, 88, 88.5, 100, 1e4, 1e10, FLT_MAX, HUGE_VAL};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) test_function(&functions[i]);
    for (size_t i = 1; i < sizeof beyond / sizeof *beyond; i++) {
        double big = real_exp((real)beyond[i]), small = real_exp((real)-beyond[i]);
        check(big <= FLT_MAX && big >= real_exp((real)beyond[i - 1]), "exp(%g) = %g", beyond[i], big);
        check(small >= FLT_MIN && small <= real_exp((real)-beyond[i - 1]), "exp(%g) = %g", -beyond[i], small);
        near(real_tanh((real)beyond[i]), 1, 0, "tanh at the end");
        near(real_erf((real)-beyond[i]), -1, 0, "erf at the end");
    }
    near(real_exp(0), 1, 0, "exp(0)");
    near(real_log(1), 0, 0, "log(1)");
    near(real_log(0), log(FLT_MIN), 1e-5, "log(0)");
    near(real_log(-3), log(FLT_MIN), 1e-5, "log(-3)");
    near(real_sin(0), 0, 0, "sin(0)");
    near(real_cos(0), 1, 0, "cos(0)");
}

/* ---- random numbers ---------------------------------------------------------------------------------- */

static void moments(const real *x, size_t n, double m[4]) /* mean, variance, skew, kurtosis */
{
    double s[5] = {0};
    m[0] = 0;
    for (size_t i = 0; i < n; i++) m[0] += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (int p = 2; p <= 4; p++) s[p] += pow(x[i] - m[0], p) / (double)n;
    m[1] = s[2], m[2] = s[3] / pow(s[2], 1.5), m[3] = s[4] / (s[2] * s[2]);
}

static void uncorrelated(const real *x, const real *y, size_t n, const char *what) /* of variance 1; within 5 sigma */
{
    double c = 0;
    for (size_t i = 0; i < n; i++) c += (double)x[i] * y[i] / (double)n;
    near(c, 0, 5 / sqrt((double)n), what);
}

static double chi_squared(const int *count, int n, double expected)
{
    double chi2 = 0;
    for (int i = 0; i < n; i++) chi2 += (count[i] - expected) * (count[i] - expected) / expected;
    return chi2;
}

static void test_random(void)
{
    enum { MANY = 1000000, FEW = 100000 };
    static const uint64_t neighbour[][4] = {{7, 3, 10, 20}, {8, 3, 10, 20}, {7, 4, 10, 20}, {7, 3, 11, 20},
                                            {7, 3, 10, 21}, {7, 3, 20, 10}, {10, 3, 7, 20}};
    static const int sizes[] = {1, 2, 3, 5, 16, 17, 1000};
    real *x = zeros(MANY), *y = zeros(FEW), *z = zeros(FEW);
    double m[4], tail = 0;
    rng_gaussian(x, MANY, rng_key(1, RNG_NOISE_T, 2, 3));
    moments(x, MANY, m);
    near(m[0], 0, 0.005, "mean");
    near(m[1], 1, 0.007, "variance");
    near(m[2], 0, 0.0125, "skew");
    near(m[3], 3, 0.025, "kurtosis");
    for (size_t i = 0; i < MANY; i++) tail += fabs(x[i]) > 3;
    near(tail / MANY, 0.0026998, 0.00026, "share beyond 3 sigma");
    for (int lag = 1; lag <= 4; lag++) uncorrelated(x, x + lag, MANY - lag, "neighbours");
    rng_gaussian(y, 4097, rng_key(1, RNG_NOISE_T, 2, 3));
    check(!memcmp(x, y, 4097 * sizeof *x), "how many are drawn changes their bits");

    rng_gaussian(x, FEW, rng_key(7, 3, 10, 20));
    for (size_t k = 1; k < sizeof neighbour / sizeof *neighbour; k++) {
        const uint64_t *v = neighbour[k];
        rng_gaussian(y, FEW, rng_key(v[0], (RngStream)v[1], v[2], v[3]));
        uncorrelated(x, y, FEW, "keys of neighbours");
        for (size_t i = 0; i < FEW; i++) z[i] = (x[i] * x[i] - 1) * (y[i] * y[i] - 1) / 2;
        for (size_t i = 0; i < FEW; i++) y[i] = 1;
        uncorrelated(z, y, FEW, "squares of keys of neighbours");
    }
    for (int k = 0; k < 3; k++) { /* the first number of each seed, step, item */
        for (size_t i = 0; i < FEW; i++)
            rng_gaussian(x + i, 1, rng_key(k == 0 ? i : 0, RNG_T, k == 1 ? i : 0, k == 2 ? i : 0));
        moments(x, FEW, m);
        near(m[1], 1, 0.025, "variance across keys");
        uncorrelated(x, x + 1, FEW - 1, "first numbers of neighbouring keys");
    }
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int n = sizes[k], draws = FEW + 20 * n;
        const double share = (double)draws / n;
        int *count = take(n, sizeof *count), outside = 0;
        uint64_t key = new_key();
        for (int i = 0; i < draws; i++) {
            int r = rng_below(key, i, n);
            if (r < 0 || r >= n) outside++;
            else count[r]++;
        }
        check(!outside && count[0] && count[n - 1], "rng_below(%d): %d outside, 0 %d times, %d %d times", n, outside,
              count[0], n - 1, count[n - 1]);
        check(chi_squared(count, n, share) < n - 1 + 5 * sqrt(2.0 * n), "rng_below(%d): chi^2 = %g", n,
              chi_squared(count, n, share));
    }
}

/* As many squares of normal numbers as there are degrees of freedom, so to say: within 5 sigma of that. */
static void near_uniform(const int *count, int n, int freedom, double expected, const char *what, int size)
{
    double chi2 = chi_squared(count, n, expected);
    check(fabs(chi2 - freedom) < 5 * sqrt(2.0 * freedom), "rng_shuffle of %d, %s: chi^2 = %g with %d degrees of freedom", size,
          what, chi2, freedom);
}

static void test_shuffle(void)
{
    enum { MANY = 1000, ORDERS = 120, DRAWS = 300 };
    int *order = take(MANY, sizeof *order), *orders = take(ORDERS, sizeof *orders), bad = 0;
    int *place = take(MANY, sizeof *place), *apart = take(MANY, sizeof *apart), *pair = take(100 * 100, sizeof *pair);
    for (int n = 3, all = 6; n <= 5; n++, all *= n) { /* all orders, numbered by their digits */
        memset(orders, 0, ORDERS * sizeof *orders);
        for (uint64_t key = 0; key < 400 * (uint64_t)all; key++) {
            int number = 0;
            rng_shuffle(order, n, rng_key(3, RNG_SHUFFLE, key, 0));
            for (int i = 0; i < n; i++) {
                int smaller = 0;
                for (int k = i + 1; k < n; k++) smaller += order[k] < order[i];
                number = number * (n - i) + smaller;
            }
            orders[number]++;
        }
        near_uniform(orders, all, all - 1, 400, "all orders", n);
    }
    for (uint64_t key = 0; key < DRAWS; key++) {
        rng_shuffle(order, MANY, rng_key(4, RNG_SHUFFLE, key, 0));
        memset(place, 0, MANY * sizeof *place);
        for (int i = 0; i < MANY; i++) {
            place[order[i]]++;
            pair[i / 10 * 100 + order[i] / 10]++; /* position and what stands there, in tenths */
            if (i) apart[(order[i] - order[i - 1] + MANY) % MANY]++;
        }
        for (int i = 0; i < MANY; i++) bad += place[i] != 1;
    }
    check(!bad, "rng_shuffle of %d: %d numbers missing or twice", MANY, bad);
    near_uniform(pair, 100 * 100, 99 * 99, DRAWS * MANY / 1e4, "pairs", MANY);
    check(!apart[0], "rng_shuffle of %d: a number follows itself", MANY);
    near_uniform(apart + 1, MANY - 1, MANY - 2, DRAWS, "neighbours", MANY);
}

/* ---- the diffusion process ----------------------------------------------------------------------------- */

static void test_schedule(int schedule, int T)
{
    const char *name = noise_schedule_names[schedule];
    /* the fewest steps: the last beta is 20/T, or 20/T + 0.01, and must be below 1 */
    const int steep = schedule == 4 || schedule == 2 || (schedule == 5 && T > 10) ? 21 : 0;
    Diffusion d;
    Error err = {""};
    int status = diffusion_init(&d, schedule, T, NULL, &err), falling = 1, bayes = 1;
    check(status == (T < steep ? -1 : 0), "%s, %d steps: status %d", name, T, status);
    check(!status || strstr(err.text, name), "%s, %d steps: message '%s'", name, T, err.text);
    for (int t = 0; !status && t < T; t++) {
        double a = d.alphas_cumprod[t], beta = d.betas[t], prev = t ? d.alphas_cumprod[t - 1] : 1;
        double x = d.posterior_mean_coef1[t], y = d.posterior_mean_coef2[t], v = d.posterior_variance[t];
        falling &= a > 0 && a < prev && d.alphas_cumprod_prev[t] == prev;
        bayes &= fabs(a - prev * (1 - beta)) < 1e-14 && v >= 0 && v <= beta;
        if (!t) bayes &= v == 0 && y == 0 && fabs(x - 1) < 1e-12;
        else { /* the product of q(x_t | x_{t-1}) and q(x_{t-1} | x_0): precisions add up, means are weighed by them */
            bayes &= fabs(v * ((1 - beta) / beta + 1 / (1 - prev)) - 1) < 1e-9;
            bayes &= fabs(x - v * sqrt(prev) / (1 - prev)) < 1e-9 && fabs(y - v * sqrt(1 - beta) / beta) < 1e-9;
            bayes &= fabs(d.posterior_log_variance_clipped[t] - log(v)) < 1e-12;
        }
        if (!check(falling && bayes, "%s, %d steps, t = %d: alphas_cumprod %g, before %g, beta %g, posterior %g %g %g",
                   name, T, t, a, prev, beta, v, x, y))
            break;
    }
    if (!status && T >= 1000)
        near(d.posterior_variance[T - 1] / d.betas[T - 1], 1, 0.04, "posterior variance / beta at the last step");
    if (!status)
        near(d.posterior_log_variance_clipped[0], d.posterior_log_variance_clipped[1], 0, "clipped log variance");
    diffusion_free(&d);
    for (int k = 0; !status && k < 2; k++) { /* respacing keeps alphas_cumprod at the steps that it keeps */
        Diffusion whole, part;
        unsigned char *kept = take(T, 1);
        int bad = 0, last = -1;
        if (!check(space_timesteps(kept, T, k ? "2" : "ddim2", &err) == 2 && !diffusion_init(&whole, schedule, T, NULL, &err) &&
                   !diffusion_init(&part, schedule, T, kept, &err), "%s", err.text))
            break;
        for (int t = 0; t < part.T; t++) {
            int from = part.timestep_map[t];
            bad += from <= last || fabs(part.alphas_cumprod[t] - whole.alphas_cumprod[from]) > 1e-12;
            bad += fabs(diffusion_timestep(&part, t) - 1000.0 * from / T) > 1e-4;
            last = from;
        }
        check(!bad && part.T == 2 && part.timestep_map[0] == 0, "%s: %d steps respaced to 2: %d differ", name, T, bad);
        check(!k || last == T - 1, "%s: %d steps respaced to 2 end in %d", name, T, last);
        diffusion_free(&whole);
        diffusion_free(&part);
    }
}

static void test_respacing(void)
{
    static const struct { int total; const char *sections, *kept; } cases[] = {
        {10, "10", "1111111111"}, {10, "1", "1000000000"}, {10, "3", "1000100001"}, /* 4.5 -> 4; half-up: 5 */
        {8, "3", "10001001"}, /* 3.5 -> 4 */ {14, "3", "10000010000001"}, /* 6.5 -> 6; half-up: 7 */
        {10, "2,1,2", "1001100101"}, {10, "4,3,3", "1111111111"}, {10, "0,0,1", "0000000100"},
        {10, "ddim5", "1010101010"}, {10, "ddim10", "1111111111"}, {10, "ddim4", "1001001001"},
        {10, "ddim2", "1000010000"},
        {10, "11", NULL}, {10, "5,6", NULL}, {10, "4,4,3", NULL}, {10, "0", NULL}, {10, "", NULL}, {10, "3,", NULL},
        {10, ",3", NULL}, {10, "-1", NULL}, {10, "3 ", NULL}, {10, "x", NULL}, {10, "ddim", NULL}, {10, "ddim0", NULL},
        {10, "ddim7", NULL}, {10, "ddim11", NULL}, {10, "ddim5x", NULL}, {10, "99999999999999999999", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int total = cases[i].total;
        unsigned char kept[16];
        char got[17];
        Error err = {""};
        int n = space_timesteps(kept, total, cases[i].sections, &err), want = 0;
        for (int t = 0; t < total; t++)
            got[t] = (char)('0' + kept[t]), want += cases[i].kept && cases[i].kept[t] == '1';
        got[total] = '\0';
        if (cases[i].kept)
            check(n == want && !strcmp(got, cases[i].kept), "'%s' of %d: %s", cases[i].sections, total, got);
        else check(n == -1 && err.text[0], "'%s' of %d: %d, message '%s'", cases[i].sections, total, n, err.text);
    }
}

static void test_moments(const real *x, size_t n, double mean, double variance, const char *what) /* within 5 sigma */
{
    double m[4];
    moments(x, n, m);
    near(m[0], mean, 5 * sqrt(variance / (double)n) + 1e-6, what);
    near(m[1], variance, 5 * sqrt(2 / (double)n) * variance + 1e-6, what);
}

static void test_process(void)
{
    enum { n = 100000, B = 3 };
    const double start = 1.7;
    const int t[B] = {0, 6, 11};
    real *x0 = zeros(B * n), *x_t = zeros(B * n), *mean = zeros(B * n), *back = zeros(B * n), *quiet = zeros(B * n);
    real *noise = normal(B * n, 1);
    double variance[B], log_variance[B];
    Diffusion d;
    Error err;
    if (!check(!diffusion_init(&d, 0, 12, NULL, &err), "%s", err.text)) return;
    for (size_t i = 0; i < B * n; i++) x0[i] = (real)start;
    q_sample(x_t, x0, noise, t, &d, B, n);
    q_mean_variance(mean, variance, log_variance, x0, t, &d, B, n);
    for (int b = 0; b < B; b++) {
        double a = d.alphas_cumprod[t[b]];
        test_moments(x_t + b * n, n, sqrt(a) * start, 1 - a, "q_sample");
        near(mean[b * n], sqrt(a) * start, 1e-6, "q_mean");
        near(variance[b], 1 - a, 1e-15, "q_variance");
        near(log_variance[b], log(1 - a), 1e-12, "q_log_variance");
    }
    randomise(noise, B * n, 1);
    for (int kind = FIXED_SMALL; kind <= FIXED_LARGE; kind++) {
        p_sample(back, x0, x_t, noise, t, &d, (Variance)kind, B, n);
        p_sample(quiet, x0, x_t, zeros(B * n), t, &d, (Variance)kind, B, n);
        p_mean_variance(mean, variance, log_variance, x0, x_t, t, &d, (Variance)kind, B, n);
        near_all(quiet, mean, B * n, 1e-6, "p_sample without noise and p_mean");
        check(!memcmp(back, quiet, n * sizeof *back), "p_sample adds noise at t = 0");
        near_all(back, x0, n, 1e-6, "p_sample at t = 0 and x_start");
        for (int b = 0; b < B; b++) {
            int s = t[b];
            double want = kind == FIXED_SMALL ? d.posterior_variance[s] : s ? d.betas[s] : d.posterior_variance[1];
            near(variance[b], want, 1e-15, "p_variance");
            near(log_variance[b], log(want > 0 ? want : d.posterior_variance[1]), 1e-12, "p_log_variance");
            for (size_t i = 0; i < n; i++) quiet[b * n + i] = back[b * n + i] - mean[b * n + i];
            if (s) test_moments(quiet + b * n, n, 0, want, "p_sample's noise");
            /* with the true x_start, a step back from q(x_t) leads to q(x_{t-1}): DDPM eq. 6 and 7 undo eq. 2 */
            if (s && kind == FIXED_SMALL)
                test_moments(back + b * n, n, sqrt(d.alphas_cumprod[s - 1]) * start, 1 - d.alphas_cumprod[s - 1],
                             "a step back");
        }
    }
    p_sample(x_t, x0, x_t, noise, t, &d, FIXED_LARGE, B, n);
    check(!memcmp(x_t, back, B * n * sizeof *back), "p_sample in place differs");
    diffusion_free(&d);
}

static void test_dropout(void)
{
    enum { n = 200000 };
    static const double rates[] = {0.1, 0.3, 0.5, 0.9};
    real *one = zeros(n), *x = normal(n, 1), *y = zeros(n), *z = zeros(n);
    Dropout drop = {new_key(), 0, 0};
    for (size_t i = 0; i < n; i++) one[i] = 1;
    dropout_forward(y, x, n, drop);
    check(!memcmp(y, x, n * sizeof *x), "rate 0 is not the identity");
    for (size_t k = 0; k < sizeof rates / sizeof *rates; k++) {
        const double rate = drop.rate = rates[k], kept = 1 / (1 - rate);
        Dropout other = {drop.key + 1, rate, 0};
        double mean = 0, bad = 0, wrong = 0, same = 0;
        dropout_forward(y, one, n, drop);
        dropout_backward(z, x, n, drop);
        for (size_t i = 0; i < n; i++) {
            mean += y[i] / n;
            bad += y[i] != 0 && fabs(y[i] - kept) > 1e-6 * kept;
            wrong += fabs(z[i] - y[i] * x[i]) > 1e-5 * fabs(y[i] * x[i]);
        }
        near(mean, 1, 5 * sqrt(rate / (1 - rate) / n), "mean");
        check(!bad && !wrong, "rate %g: %g values neither 0 nor 1/(1-rate), %g not masked alike backward", rate, bad,
              wrong);
        dropout_forward(z, one, n, drop);
        check(!memcmp(y, z, n * sizeof *y), "rate %g: one key, two masks", rate);
        dropout_forward(z, z, n, other);
        dropout_forward(one, one, n, other);
        for (size_t i = 0; i < n; i++) same += (y[i] != 0) == (one[i] != 0), one[i] = 1;
        near(same / n, rate * rate + (1 - rate) * (1 - rate), 0.01, "how alike the masks of two keys are");
        mean = 0;
        for (size_t i = 0; i < n; i++) mean += z[i] / n;
        near(mean, 1, 5 * sqrt((kept * kept - 1) / n), "mean of two masks, the second in place");
    }
}

/* ---- the optimiser ---------------------------------------------------------------------------------------- */

static void test_optimizer(void)
{
    const Config c = {7, 3, 3, 3, 4, 1, 2, 5, 3, 6, 0, 0, 0, 0};
    const double lr = 0.02, weight_decay = 0.1;
    Model m;
    Optimizer o = {0};
    Error err;
    if (check(!model_init(&m, &c, &err), "%s", err.text)) {
        model_random(&m, 5);
        const size_t n = m.num_params;
        double *p = take(4 * n, sizeof *p), *am = p + n, *av = p + 2 * n, *ema = p + 3 * n, total = 0;
        unsigned char *decay = take(m.num_tensors, 1);
        real *want = zeros(n);
        check(!optimizer_init(&o, &m, &err), "%s", err.text);
        for (size_t i = 0; i < n; i++) p[i] = ema[i] = m.params[i];
        for (int i = 0; i < m.num_tensors; i++) decay[i] = i % 3 == 0;
        for (int step = 0; step < 5; step++) {
            double rate = lr * (5 - step), keep = 0.5 + 0.1 * step, scale = step % 2 ? 0.25 : 1;
            randomise(m.grads, n, 1);
            for (size_t i = 0; i < n; i += 7) m.grads[i] *= (real)1e-8; /* eps shows only in small gradients */
            total = 0;
            for (size_t i = 0; i < n; i++) total += (double)m.grads[i] * m.grads[i];
            near(gradient_norm(&m, &o), sqrt(total), 1e-6 * sqrt(total), "gradient_norm");
            for (int k = 0; k < m.num_tensors; k++)
                for (size_t i = m.tensors[k].data - m.params, end = i + m.tensors[k].size; i < end; i++) {
                    double g = m.grads[i] * scale;
                    am[i] = 0.9 * am[i] + 0.1 * g;
                    av[i] = 0.999 * av[i] + 0.001 * g * g;
                    if (decay[k]) p[i] -= rate * weight_decay * p[i];
                    p[i] -= rate * am[i] / (1 - pow(0.9, step + 1)) / (sqrt(av[i] / (1 - pow(0.999, step + 1))) + 1e-8);
                    ema[i] = keep * ema[i] + (1 - keep) * p[i];
                }
            adamw_step(&m, &o, step, rate, weight_decay, decay, keep, scale);
            for (size_t i = 0; i < n; i++) want[i] = (real)p[i];
            near_all(m.params, want, n, DOUBLE ? 1e-13 : 1e-6, "weights");
            for (size_t i = 0; i < n; i++) want[i] = (real)ema[i];
            near_all(o.ema, want, n, DOUBLE ? 1e-13 : 1e-6, "ema");
            check(largest(m.grads, n) == 0, "the gradient is not zeroed");
        }
    }
    optimizer_free(&o);
    model_free(&m);
    near(clip_factor(0.5, 1), 1, 0, "clip_factor below");
    near(clip_factor(2, 1), 1 / (2 + 1e-6), 0, "clip_factor above");
    near(clip_factor(1, 1), 1 / (1 + 1e-6), 0, "clip_factor at the bound");
    near(clip_factor(1e9, 0), 1, 0, "clip_factor off");
    near(learning_rate(2, 0, 10, 100), 0.2, 1e-15, "learning_rate, first");
    near(learning_rate(2, 9, 10, 100), 2 * 0.91, 1e-15, "learning_rate, last of the warm-up");
    near(learning_rate(2, 10, 10, 100), 2 * 0.9, 1e-15, "learning_rate, after the warm-up");
    near(learning_rate(2, 99, 10, 100), 0.02, 1e-15, "learning_rate, last");
    near(learning_rate(2, 100, 10, 100), 0, 0, "learning_rate, end");
    near(learning_rate(2, 0, 0, 100), 2, 0, "learning_rate without warm-up");
    near(ema_warmup(0.9999, 0), 0.1, 1e-15, "ema_warmup, first");
    near(ema_warmup(0.9999, 90), 0.91, 1e-15, "ema_warmup, 90");
    near(ema_warmup(0.9999, 1000000), 0.9999, 0, "ema_warmup, end");
}

/* ---- learning: all of it together --------------------------------------------------------------------------- */

static void loop_noise(void *world, real *out, int t)
{
    World *x = world;
    rng_gaussian(out, (size_t)x->B * x->N * x->m.config.emb_dim, rng_key(9, RNG_SAMPLE, 1 + t, 0));
}

static void run_loop(World *x, const Sampler *s, real *sample)
{
    Error err;
    check(!p_sample_loop(&x->m, &x->w, &x->d, s, sample, x->B, x->N, &err), "%s", err.text);
}

static void test_memorise(void)
{
    enum { STEPS = 300, SENTENCES = 4, LENGTH = 6 };
    static const Setup s = {{16, LENGTH, LENGTH, 8, 32, 1, 2, 64, 8, 40, 0, 0, 0, 0}, 32, {0, 0, 0, 0}, 0, 0};
    static const int batch[SENTENCES][LENGTH] = { /* [CLS] ... [SEP] [PAD]; they share words and differ in length */
        {1, 5, 6, 7, 2, 3}, {1, 8, 6, 9, 10, 2}, {1, 5, 11, 2, 3, 3}, {1, 12, 13, 14, 15, 2}};
    World x;
    Optimizer o = {0};
    Error err;
    if (!open_world(&x, &s) && check(!optimizer_init(&o, &x.m, &err), "%s", err.text)) {
        const size_t n = (size_t)x.B * x.N * s.c.emb_dim;
        int *t = take(x.B, sizeof *t), seen[SENTENCES] = {0}, found = 0, kinds = 0;
        unsigned char *decay = take(x.m.num_tensors, 1);
        double first = 0, last = 0;
        x.t = t;
        model_random(&x.m, 1);
        for (int i = 0; i < x.B * LENGTH; i++) x.ids[i] = batch[i / LENGTH % SENTENCES][i % LENGTH];
        for (int step = 0; step < STEPS; step++) {
            rng_gaussian(x.noise_x0, n, rng_key(3, RNG_NOISE_X0, step, 0));
            rng_gaussian(x.noise_t, n, rng_key(3, RNG_NOISE_T, step, 0));
            for (int b = 0; b < x.B; b++) t[b] = rng_below(rng_key(3, RNG_T, step, b), 0, x.d.T);
            double loss = run_loss(&x, 1), norm = gradient_norm(&x.m, &o);
            if (step == 0) first = loss;
            if (step >= STEPS - 10) last += loss / 10;
            adamw_step(&x.m, &o, step, learning_rate(0.01, step, 10, STEPS), 0, decay, 0.99, clip_factor(norm, 1));
        }
        check(first > 1.5 && last < 0.4, "the loss went from %g to %g, expected from above 1.5 to below 0.4", first,
              last);
        Sampler sampler = {.noise = loop_noise, .context = &x};
        real *sample = normal(n, 1), *replay = zeros(n), *pred = zeros(n), *noise = zeros(n), *timesteps = zeros(x.B);
        memcpy(replay, sample, n * sizeof *replay);
        run_loop(&x, &sampler, sample);
        for (int step = x.d.T - 1; step >= 0; step--) { /* the loop, written out */
            for (int b = 0; b < x.B; b++) t[b] = step, timesteps[b] = diffusion_timestep(&x.d, step);
            denoiser_forward(&x.m, &x.w, pred, replay, NULL, timesteps, x.B, x.N, x.drop);
            loop_noise(&x, noise, step);
            p_sample(replay, pred, replay, noise, t, &x.d, FIXED_SMALL, x.B, n / x.B);
        }
        check(!memcmp(sample, replay, n * sizeof *replay), "p_sample_loop differs from its steps");
        nearest_words(&x.m, &x.w, x.ids, sample, x.B, x.N);
        for (int b = 0; b < x.B; b++)
            for (int k = 0; k < SENTENCES; k++)
                if (!memcmp(x.ids + b * LENGTH, batch[k], sizeof batch[k])) found++, kinds += !seen[k]++;
        check(found >= 0.9 * x.B, "only %d of %d samples are sentences of the batch", found, x.B);
        check(kinds > 1, "all samples are the same sentence");
    }
    optimizer_free(&o);
    close_world(&x);
}

/* ---- what the sampling loop can do differently ----------------------------------------------------- */

typedef struct { World *world; real *last; int steps; double outside; } Watch;

static void watch_noise(void *context, real *out, int t) { loop_noise(((Watch *)context)->world, out, t); }

static void watch(void *context, int t, const real *pred_xstart)
{
    Watch *w = context;
    const size_t n = (size_t)w->world->B * w->world->N * w->world->m.config.emb_dim;
    (void)t;
    w->steps++;
    memcpy(w->last, pred_xstart, n * sizeof *w->last);
    for (size_t i = 0; i < n; i++) w->outside = fmax(w->outside, fabs(pred_xstart[i]));
}

static real one_draw(void *context) /* normal numbers, one after the other */
{
    real pair[2];
    rng_gaussian(pair, 2, (*(uint64_t *)context)++);
    return pair[0];
}

static void test_sampler(void)
{
    static const Setup s = {{9, 4, 4, 5, 6, 1, 3, 7, 4, 12, 0, PREDICT_SOFTMAX, 1, 2}, 3, {0, 0, 0, 0}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        const int M = x.B * x.N, D = s.c.emb_dim;
        const size_t n = (size_t)M * D, each = n / x.B;
        real *x_T = normal(n, 1), *y = zeros(n), *z = zeros(n), *noise = normal(n, 1), *other = normal(n, 1);
        unsigned char *known = take(M, 1);
        int bad = 0;
        embedding_table_forward(&x.m);
        Watch w = {&x, zeros(n), 0, 0};
        Sampler sampler = {.noise = watch_noise, .show = watch, .context = &w};
        memcpy(y, x_T, n * sizeof *y);
        run_loop(&x, &sampler, y);
        check(w.steps == x.d.T && w.outside > 1, "%d steps of %d, estimates up to %g", w.steps, x.d.T, w.outside);

        sampler.clip_denoised = 1, w.outside = 0;
        memcpy(z, x_T, n * sizeof *z);
        run_loop(&x, &sampler, z);
        check(w.outside <= 1 && memcmp(y, z, n * sizeof *y), "clipped estimates reach %g", w.outside);
        sampler.clip_denoised = 0, sampler.clamp_from = 1, w.steps = 0, sampler.start = 5;
        memcpy(z, x_T, n * sizeof *z);
        run_loop(&x, &sampler, z);
        check(w.steps == 5, "%d steps from start 5", w.steps);
        for (int i = 0; i < M; i++) { /* the last estimate is some word's embedding, and no nearer one exists */
            double nearest = 1e9;
            for (int v = 0; v < s.c.vocab; v++) {
                double d2 = 0;
                for (int d = 0; d < D; d++) d2 += pow(w.last[i * D + d] - x.m.embedding[v * D + d], 2);
                nearest = fmin(nearest, d2);
            }
            bad += nearest > 1e-12;
        }
        check(!bad, "%d clamped estimates are no embedding", bad);

        sampler.clamp_from = 0, sampler.start = 0, sampler.known = known, sampler.known_x = other;
        for (int i = 0; i < M; i++) known[i] = i % 3 != 1;
        memcpy(z, x_T, n * sizeof *z);
        run_loop(&x, &sampler, z);
        for (int i = 0; i < M; i++) {
            int same = !memcmp(z + i * D, other + i * D, D * sizeof *z);
            bad += same != known[i] || (!known[i] && !memcmp(z + i * D, y + i * D, D * sizeof *z));
        }
        check(!bad, "infilling: %d positions are not what they should be", bad);

        for (int step = 0; step < x.d.T; step++) { /* DDIM: eta 1 is DDPM, eta 0 does not look at the noise */
            int t[3] = {step, step, step};
            p_sample(y, other, x_T, noise, t, &x.d, FIXED_SMALL, x.B, each);
            ddim_sample(z, other, x_T, noise, t, &x.d, 1, x.B, each);
            near_all(z, y, n, DOUBLE ? 1e-9 : 1e-3, "DDIM with eta 1 and DDPM");
            ddim_sample(y, other, x_T, noise, t, &x.d, 0, x.B, each);
            ddim_sample(z, other, x_T, x_T, t, &x.d, 0, x.B, each);
            near_all(z, y, n, 0, "DDIM with eta 0 and other noise");
            real prev = (real)x.d.alphas_cumprod_prev[step]; /* as much new noise as x_prev can have is q_sample of the guess */
            for (size_t i = 0; i < n; i++) y[i] = sqrt(prev) * other[i] + (step ? sqrt(1 - prev) * noise[i] : 0);
            ddim_sample(z, other, x_T, noise, t, &x.d, 1000, x.B, each);
            near_all(z, y, n, DOUBLE ? 1e-7 : 1e-3, "DDIM with all noise new"); /* of a difference near 0 the root is taken */
        }
        sampler.known = NULL, sampler.ddim = 1;
        memcpy(y, x_T, n * sizeof *y), memcpy(z, x_T, n * sizeof *z);
        run_loop(&x, &sampler, y);
        sampler.eta = 1;
        run_loop(&x, &sampler, z);
        check(memcmp(y, z, n * sizeof *y), "the loop ignores eta");

        enum { MANY = 20000 };
        uint64_t key = new_key();
        real *many = normal(MANY, 1);
        double square = 0, most = 0;
        truncate_noise(many, MANY, 0.9, one_draw, &key);
        for (int i = 0; i < MANY; i++) square += many[i] * many[i] / MANY, most = fmax(most, fabs(many[i]));
        check(most <= 0.9 && most > 0.89, "truncated noise reaches %g", most);
        near(square, 0.2408, 0.01, "variance of normal numbers within 0.9"); /* 1 - 2 a phi(a) / (2 Phi(a) - 1) */

        /* epsilon and x_start are two names of one thing */
        int t[3] = {0, 5, 11};
        epsilon_from_xstart(y, x_T, other, t, &x.d, x.B, each);
        q_sample(z, other, y, t, &x.d, x.B, each);
        near_all(z, x_T, n, DOUBLE ? 1e-9 : 1e-3, "q_sample with the noise that epsilon_from_xstart finds");
        xstart_from_epsilon(z, x_T, y, t, &x.d, x.B, each);
        near_all(z, other, n, DOUBLE ? 1e-8 : 1e-2, "xstart_from_epsilon of epsilon_from_xstart");
    }
    close_world(&x);
}

/* ---- the classifier and guidance --------------------------------------------------------------------- */

typedef struct {
    World denoiser, classifier; /* the classifier's ids are labels, its t and noise those of the examples */
    real *x_t, *dx_t, *timesteps;
    int *guess, asked, falls;
    double *nll, last[4], rise;
} Control;

static int open_control(Control *x, const Setup *denoiser, const Setup *classifier)
{
    memset(x, 0, sizeof *x);
    if (open_world(&x->denoiser, denoiser) || open_world(&x->classifier, classifier)) return -1;
    embedding_table_forward(&x->denoiser.m);
    const size_t n = (size_t)x->classifier.B * x->classifier.N * classifier->c.emb_dim;
    x->x_t = normal(n, 1), x->dx_t = zeros(n), x->timesteps = zeros(x->classifier.B);
    x->nll = take(x->classifier.B, sizeof *x->nll), x->guess = take(x->classifier.B, sizeof *x->guess);
    for (int b = 0; b < x->classifier.B; b++) x->timesteps[b] = 100 * (real)(b + 1);
    return 0;
}

static double run_classifier(Control *x, int backward)
{
    World *d = &x->denoiser, *c = &x->classifier;
    const Batch batch = {d->ids, d->t, d->noise_x0, d->noise_t, NULL, 0, d->B, d->N};
    return classifier_losses(&c->m, &c->w, x->nll, x->guess, &d->m, &d->d, &batch, c->ids, backward, c->drop);
}

static double classifier_loss(void *control) { return run_classifier(control, 0); }

static double nll_of_x(void *control)
{
    Control *x = control;
    World *c = &x->classifier;
    double sum = 0;
    classifier_forward(&c->m, &c->w, x->nll, x->x_t, x->timesteps, c->ids, c->B, c->N, c->drop);
    for (int b = 0; b < c->B; b++) sum += (b + 1) * x->nll[b];
    return sum;
}

static const Setup control_setups[2][2] = {
    {{{9, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, 0, 0, 0}, 3, {7, 0, 2, 0}, 0, 0},
     {{7, 4, 4, 5, 6, 2, 2, 7, 4, 8, 5, 0, 0, 0}, 3, {0}, 0, 0}},
    {{{9, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, PREDICT_SOFTMAX, 1, 2}, 3, {7, 0, 2, 0}, 0, 0},
     {{8, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, 0, 1, 0}, 3, {0}, 0.2, 0}},
};

static void test_classifier(void)
{
    for (int k = 0; k < 2; k++) {
        Control x;
        World *c = &x.classifier;
        if (!open_control(&x, &control_setups[k][0], &control_setups[k][1])) {
            const size_t n = (size_t)c->B * c->N * c->m.config.emb_dim;
            near(run_classifier(&x, 1), classifier_loss(&x), 0, "the classifier's loss without and with backward");
            for (int i = 0; i < c->m.num_tensors; i++) {
                const Tensor *t = &c->m.tensors[i];
                const Slot weights = {t->name, t->data, t->grad, t->size, 1};
                check_gradient("classifier", &weights, strstr(t->name, "key.bias") != NULL, classifier_loss, &x);
            }
            real weight[] = {1, 2, 3};
            nll_of_x(&x);
            classifier_backward(&c->m, &c->w, x.dx_t, c->ids, weight, c->B, c->N, c->drop);
            const Slot of_x = {"x_t", x.x_t, x.dx_t, n, 0};
            check_gradient("classifier", &of_x, 0, nll_of_x, &x);
        }
        close_world(&x.denoiser);
        close_world(c);
    }
}

/* log p(label | x) must rise with every gradient that is followed: counts where it falls. */
static void rising(void *control, real *dx, const real *x, int t)
{
    Control *y = control;
    World *c = &y->classifier;
    real weight[4];
    for (int b = 0; b < c->B; b++) weight[b] = -1, y->timesteps[b] = diffusion_timestep(&y->denoiser.d, t);
    classifier_forward(&c->m, &c->w, y->nll, x, y->timesteps, c->ids, c->B, c->N, c->drop);
    for (int b = 0; b < c->B; b++) {
        y->falls += y->asked % 4 && y->nll[b] > y->last[b] + 1e-6;
        y->rise += y->asked % 4 ? y->last[b] - y->nll[b] : 0;
        y->last[b] = y->nll[b];
    }
    y->asked++;
    classifier_backward(&c->m, &c->w, dx, c->ids, weight, c->B, c->N, c->drop);
}

static void control_noise(void *control, real *out, int t)
{
    loop_noise(&((Control *)control)->denoiser, out, t);
}

static void test_rising(void)
{
    static const Setup denoiser = {{9, 4, 4, 5, 6, 1, 3, 7, 4, 400, 0, PREDICT_SOFTMAX, 0, 2}, 3, {0}, 0, 0};
    static const Setup classifier = {{7, 4, 4, 5, 6, 1, 3, 7, 4, 400, 0, 0, 0, 0}, 3, {0}, 0, 0};
    Control x;
    if (!open_control(&x, &denoiser, &classifier)) {
        const Sampler sampler = {.noise = control_noise, .gradient = rising, .guide_steps = 4, .context = &x};
        run_loop(&x.denoiser, &sampler, x.x_t);
        check(x.asked == 4 * (400 - 400 / 200), "the gradient was asked for %d times", x.asked);
        check(!x.falls && x.rise > 0.1, "log p fell %d times of %d, and rose by %g in all", x.falls, 3 * x.asked, x.rise);
    }
    close_world(&x.denoiser);
    close_world(&x.classifier);
}

/* Data whose guided distribution is known: x_start ~ N(0, s^2), p(label | x_start) = Phi(a x_start + b), Phi the normal
 * distribution's. Then x_start given x_t is Gaussian, (mean k x_t, variance v), p(label | x_t) = Phi(u) with
 * u = (a k x_t + b) / sqrt(1 + a^2 v), and mean and variance of x_start given the label are those of a skew normal. */
typedef struct { const Diffusion *d; double s2, a, b, g; } Known;

static double hazard(double u) { return exp(-u * u / 2) / sqrt(2 * 3.14159265358979324) / (0.5 * erfc(-u / sqrt(2))); } /* of Phi */

static void known_posterior(const Known *k, int t, double *slope, double *variance)
{
    const double signal = k->d->alphas_cumprod[t], noise = 1 - signal;
    *slope = sqrt(signal) * k->s2 / (signal * k->s2 + noise);
    *variance = k->s2 * noise / (signal * k->s2 + noise);
}

enum { KNOWN = 6000 };
static void known_gradient(void *context, real *dx, const real *x, int t)
{
    const Known *k = context;
    double slope, v;
    known_posterior(k, t, &slope, &v);
    const double scale = sqrt(1 + k->a * k->a * v);
    for (int i = 0; i < KNOWN; i++) dx[i] = (real)(k->a * slope / scale * hazard((k->a * slope * x[i] + k->b) / scale));
}

static void constant_gradient(void *context, real *dx, const real *x, int t)
{
    (void)x, (void)t;
    for (int i = 0; i < KNOWN; i++) dx[i] = (real)((const Known *)context)->g;
}

static void test_known_guidance(void)
{
    static const double cases[][3] = {{1, 1, 0}, {1, 2, -1.5}, {0.25, -3, -1}}; /* s^2, a, b */
    Error err;
    Diffusion d;
    Workspace w = {0};
    real *x = zeros(KNOWN), *pred = zeros(KNOWN), *mean = zeros(KNOWN), *noise = zeros(KNOWN);
    double variance, ignored;
    w.x_start = zeros(KNOWN), w.estimate = zeros(KNOWN);
    check(!diffusion_init(&d, 0, 2000, NULL, &err), "%s", err.text);
    for (int i = 0; i < 3; i++)
        for (int steps = 1; steps <= (i == 1 ? 3 : 1); steps += 2) {
            Known k = {&d, cases[i][0], cases[i][1], cases[i][2], 0};
            const Sampler s = {.gradient = known_gradient, .guide_steps = steps, .context = &k};
            double slope, m[4];
            rng_gaussian(x, KNOWN, new_key());
            for (int t = d.T - 1; t >= 0; t--) {
                known_posterior(&k, t, &slope, &variance);
                for (int j = 0; j < KNOWN; j++) pred[j] = (real)slope * x[j];
                p_mean_variance(mean, &variance, &ignored, pred, x, &t, &d, FIXED_LARGE, 1, KNOWN);
                rng_gaussian(noise, KNOWN, new_key());
                p_sample(x, pred, x, noise, &t, &d, FIXED_LARGE, 1, KNOWN);
                if (t) guide(&s, &w, x, mean, variance, t, KNOWN);
            }
            const double root = sqrt(1 + k.a * k.a * k.s2), u = k.b / root, h = hazard(u);
            const double want = k.s2 * k.a * h / root, want_variance = k.s2 - k.s2 * k.s2 * k.a * k.a / root / root * h * (h + u);
            moments(x, KNOWN, m);
            near(m[0], want, 0.08 * sqrt(k.s2), "the guided mean"); /* 2000 steps leave up to .06, 8000 .012 */
            near(m[1], want_variance, 0.08 * want_variance, "the guided variance");
        }
    /* Diffusion-LM's rule climbs on g x - fluency (x - mean)^2 / (2 variance), whose top is known, wherever it begins. */
    Known k = {&d, 1, 0, 0, 3};
    const Sampler s = {.gradient = constant_gradient, .guide_steps = 1000, .guide_adagrad = 1, .fluency = 0.5, .context = &k};
    double worst = 0;
    rng_gaussian(x, KNOWN, new_key());
    rng_gaussian(mean, KNOWN, new_key());
    guide(&s, &w, x, mean, 0.2, 50, KNOWN);
    for (int j = 0; j < KNOWN; j++) worst = fmax(worst, fabs(x[j] - mean[j] - 3 * 0.2 / 0.5));
    check(worst < 1e-3, "Adagrad ends %g from the top", worst);
    diffusion_free(&d);
}

/* Words of known probabilities, each sentence one of them: then Bayes' rule is all there is to learn, and with an output of 0
 * and log p as bias of lm_head, the softmax head has learnt it. So the bound must be the words' entropy; the steps cost
 * a little, since they are finite. And each kl is that of two Gaussians, computed here from their definition. */
static void test_bound(void)
{
    enum { V = 4, DRAWS = 10000 }; /* enough that whatever noise is drawn, the mean is within 2 % */
    static const double p[V] = {0.5, 0.25, 0.15, 0.1};
    static const Setup s = {{V, 1, 1, 16, 6, 1, 3, 7, 4, 400, 0, PREDICT_SOFTMAX, 0, 4}, V, {0, 0, 0, 0}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        const int D = s.c.emb_dim, T = x.d.T;
        const size_t n = V * (size_t)D;
        x.d.evidence_above = 0;
        double kl[V], prior[V], entropy = 0, bound = 0, mistake = 0, astray = 0;
        int t[V], ids[V];
        real *noise_x0 = zeros(n), *noise_t = zeros(n);
        memset(x.m.down_out.weight->data, 0, x.m.down_out.weight->size * sizeof(real));
        memset(x.m.down_out.bias->data, 0, x.m.down_out.bias->size * sizeof(real));
        for (int v = 0; v < V; v++) {
            ids[v] = v, entropy -= p[v] * log(p[v]);
            x.m.lm_head_bias->data[v] = (real)log(p[v]);
            for (int d = 0; d < D; d++) x.m.word_embedding->data[v * D + d] = d % V == v ? 1 : -(real)0.3;
        }
        for (int i = 0; i < DRAWS; i++) {
            const Batch batch = {ids, t, noise_x0, noise_t, NULL, 0, V, 1};
            for (int v = 0; v < V; v++) t[v] = (int)((i + 0.5) / DRAWS * T);
            rng_gaussian(noise_x0, n, new_key()), rng_gaussian(noise_t, n, new_key());
            variational_bound(&x.m, &x.w, &x.terms, kl, prior, &x.d, &batch, FIXED_SMALL, 0);
            for (int v = 0; v < V; v++) {
                const double a = x.d.alphas_cumprod[t[v]], prev = x.d.alphas_cumprod_prev[t[v]], a0 = x.d.first_alpha;
                /* x_{t-1} given words: mean sqrt(prev) e, variance 1 - prev a0; x_t given x_{t-1}: alpha = a / prev, beta */
                const double alpha = a / prev, variance = 1 / (1 / (1 - prev * a0) + alpha / (1 - alpha));
                double apart = 0;
                for (int d = 0; d < D; d++) /* the part of e in the posterior's mean is variance sqrt(prev) / (1 - prev a0) */
                    apart += pow(variance * sqrt(prev) / (1 - prev * a0) *
                                 (x.m.embedding[v * D + d] - x.w.pred_xstart[v * D + d]), 2);
                mistake = fmax(mistake, fabs(kl[v] - apart / (2 * variance)) / (1e-3 + kl[v]));
                double posterior[V], sum = 0;
                for (int k = 0; k < V; k++) { /* p(word k) times the density of x_t, given word k */
                    double d2 = 0;
                    for (int d = 0; d < D; d++)
                        d2 += pow(x.w.x_t[v * D + d] - sqrt(a) * x.m.embedding[k * D + d], 2) -
                              pow(x.w.x_t[v * D + d] - sqrt(a) * x.m.embedding[v * D + d], 2);
                    sum += posterior[k] = p[k] * exp(-d2 / (2 * (1 - a * a0)));
                }
                for (int k = 0; k < V; k++) astray = fmax(astray, fabs(x.w.head[v * V + k] - posterior[k] / sum));
                bound += p[v] * (kl[v] * T + prior[v] + x.terms.decoder_nll[v]) / DRAWS;
            }
        }
        near(astray, 0, DOUBLE ? 1e-9 : 1e-3, "the softmax head and Bayes' rule");
        near(mistake, 0, DOUBLE ? 1e-9 : 1e-3, "kl and the one of two Gaussians");
        near(bound, entropy, 0.05 * entropy, "the bound of an exact model and the entropy");
    }
    close_world(&x);
}

static void test_resampler(void)
{
    enum { T = 5, K = 3, MANY = 20000 };
    Resampler r;
    Error err;
    int t[T * K], count[T] = {0};
    double loss[T * K], expected = 0;
    if (!check(!resampler_init(&r, T, K, &err), "%s", err.text)) return;
    for (int i = 0; i < T * K; i++) t[i] = i % T, loss[i] = 1 + i % T;
    resampler_update(&r, t, loss, T * K - 1);
    near(r.p[0], 1.0 / T, 1e-12, "p while a loss is missing");
    resampler_update(&r, t + T * K - 1, loss + T * K - 1, 1);
    for (int i = 0; i < T; i++) near(r.p[i], 0.999 * (i + 1) / 15 + 0.001 / T, 1e-9, "p in proportion to the losses");
    for (int i = 0; i < MANY; i++) {
        int drawn = resampler_draw(&r, (i + 0.5) / MANY);
        count[drawn]++, expected += 1 / (T * r.p[drawn]) * (drawn + 1) / MANY; /* weighted, the mean of all t */
    }
    for (int i = 0; i < T; i++) near(count[i], MANY * r.p[i], 2, "draws of a t");
    near(expected, 3, 0.01, "the weighted mean");
    check(resampler_draw(&r, 0) == 0 && resampler_draw(&r, 0.9999999999) == T - 1, "the ends of the range");
    check(!resampler_restore(&r, &err), "a good history is refused");
    r.history[1 + K] = 2.5;
    check(resampler_restore(&r, &err), "a count of 2.5 is taken");
    r.history[1 + K] = K + 1;
    check(resampler_restore(&r, &err), "more losses than there is room for are taken");
    resampler_free(&r);
}

/* ---- main ---------------------------------------------------------------------------------------------------- */

static void begin(const char *name)
{
    group.name = name;
    group.passed = group.failed = 0;
}

static void end(void)
{
    printf("%s: %d passed", group.name, group.passed);
    if (group.failed) printf(", %d FAILED", group.failed);
    printf("\n");
    fflush(stdout);
    group.all_passed += group.passed;
    group.all_failed += group.failed;
    release();
}

static void run(const char *name, void (*test)(void))
{
    begin(name);
    test();
    end();
}

static void run_setups(const char *name, void (*test)(const Setup *))
{
    begin(name);
    for (int i = 0; i < SETUPS; i++) test(&setups[i]);
    end();
}

static void test_schedules(void)
{
    static const int steps[] = {2, 9, 10, 19, 20, 21, 50, 200, 1000, 2000};
    for (int schedule = 0; noise_schedule_names[schedule]; schedule++)
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) test_schedule(schedule, steps[i]);
}

int main(void)
{
    char name[100];
    for (size_t i = 0; DOUBLE && i < sizeof layers / sizeof *layers; i++) {
        snprintf(name, sizeof name, "gradients of %s", layers[i].name);
        begin(name);
        for (int k = 0; k < 8 && layers[i].shapes[k][0]; k++) test_layer((int)i, layers[i].shapes[k]);
        end();
    }
    if (DOUBLE) run_setups("five routes to the embedding", test_routes);
    if (DOUBLE) run_setups("gradients of the whole loss", test_whole_loss);
    if (DOUBLE) run("self-conditioning", test_self_conditioning);
    if (DOUBLE) run("gradients of the classifier", test_classifier);
    run_setups("backward twice", test_twice);
    run("matmul", test_matmuls);
    run("no denormal gradients", test_denormals);
    run("one example, one result", test_determinism);
    run("a batch in pieces", test_pieces);
    if (!DOUBLE) run("elementary functions", test_functions);
    run("random numbers", test_random);
    run("orders", test_shuffle);
    run("noise schedules", test_schedules);
    run("respacing", test_respacing);
    run("diffusion process", test_process);
    run("dropout", test_dropout);
    run("optimiser", test_optimizer);
    run("memorising a batch", test_memorise);
    run("options of the sampling loop", test_sampler);
    run("guidance uphill", test_rising);
    run("guidance where its result is known", test_known_guidance);
    run("the variational bound", test_bound);
    run("loss-aware sampling of t", test_resampler);
    printf("%d passed, %d failed\n", group.all_passed, group.all_failed);
    return group.all_failed > 0;
}
