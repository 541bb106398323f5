/* unit.c - the unit tests of tdiff.c. No files are read: every number is drawn from the library's
 * own generator, every expectation is a formula, libm, a naive loop, or a central difference.
 *
 * The file is built twice. In double precision (-DTDIFF_DOUBLE) a derivative can be told from a
 * slightly wrong one; in float, the elementary functions and the order of sums are what there is to
 * test. */
#include "tdiff.h"
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { DOUBLE = sizeof(real) == 8 };

/* ---- counting -------------------------------------------------------------------------------- */

static struct {
    const char *name;
    int passed, failed, all_passed, all_failed;
} group;

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
    return check(fabs(got - want) <= tolerance, "%s: got %.9g, expected %.9g within %g", what, got,
                 want, tolerance);
}

/* ---- memory and data: all is freed when its group ends --------------------------------------- */

static struct {
    void *block[4096];
    int count;
    uint64_t draws;
} pool;

static void *take(size_t count, size_t size)
{
    Error err;
    void *p = pool.count < 4096 ? checked_alloc(count, size, &err) : NULL;
    if (!p) {
        fprintf(stderr, "unit: out of memory\n");
        exit(1);
    }
    return pool.block[pool.count++] = p;
}

static void release(void)
{
    while (pool.count) free(pool.block[--pool.count]);
}

static real *zeros(size_t n) { return take(n, sizeof(real)); }
static uint64_t new_key(void) { return rng_key(2024, RNG_VALIDATION, 0, pool.draws++); }
static double unit_interval(uint64_t key, size_t i)
{
    return rng_u32(key, (uint32_t)i) / 4294967296.0;
}

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

static void near_all(const real *got, const real *want, size_t n, double tolerance,
                     const char *what)
{
    const double scale = largest(want, n);
    size_t bad = 0, where = 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance * scale) && !bad++) where = i;
    check(!bad && scale > 0, "%s: %zu differ, first [%zu]: got %.12g, expected %.12g", what, bad,
          where, (double)got[where], (double)want[where]);
}

/* ---- gradients ------------------------------------------------------------------------------- */

/* x, and what is claimed to be d loss / d x */
typedef struct {
    const char *name;
    real *x, *grad;
    size_t n;
    int adds;
} Slot;

/* Signed central differences against the claim, relative to the largest of the tensor. A tensor
 * whose gradient must be 0 in theory (zero) is held to absolute bounds; any other must have one,
 * else a test of nothing would pass. */
static void check_gradient(const char *where, const Slot *s, int zero, double (*loss)(void *),
                           void *context)
{
    enum { MOST = 200 };
    const double rounding = 1e-11; /* of the loss, divided by h */
    const double h = 2e-4; /* of four points: with an error of order h^4, h need not be so small
                              that rounding shows */
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
        if (!(error <= worst))
            worst = error, index = i, analytic = s->grad[i], numeric = difference;
    }
    check(zero ? most < 1e-8 && largest(s->grad, s->n) < 1e-12
               : most > 1e-6 && worst <= 1e-7 * most + rounding,
          "%s %s[%zu]: analytic %.12g, numeric %.12g, largest of the tensor %.6g%s", where, s->name,
          index, analytic, numeric, most, zero ? ", must be 0" : "");
}

/* A layer on a bench. Its case function is called with SHAPES to list its inputs, then to run
 * either way. */
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
    if (phase == SHAPES)
        slot(b, "in", M * I, 0), slot(b, "w", O * I, 1), slot(b, "b", O, 1), b->out_size = M * O;
    else if (phase == FORWARD)
        linear_forward(b->out, in->x, w->x, bias->x, M, O, I);
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
    if (phase == SHAPES)
        slot(b, "in", M * C, 0), slot(b, "gamma", C, 1), slot(b, "beta", C, 1), b->out_size = M * C;
    else if (phase == FORWARD)
        layernorm_forward(b->out, normed, rstd, in->x, gamma->x, beta->x, M, C);
    else
        layernorm_backward(in->grad, gamma->grad, beta->grad, b->dout, normed, rstd, gamma->x, M,
                           C);
}

static void elementwise(Bench *b, Phase phase, void (*forward)(real *, const real *, size_t),
                        void (*backward)(real *, const real *, const real *, size_t), int from_out)
{
    const size_t n = b->dim[0];
    if (phase == SHAPES)
        slot(b, "in", n, 0), b->out_size = n;
    else if (phase == FORWARD)
        forward(b->out, b->slot[0].x, n);
    else
        backward(b->slot[0].grad, b->dout, from_out ? b->out : b->slot[0].x, n);
}
static void gelu_case(void *bench, Phase phase)
{
    elementwise(bench, phase, gelu_forward, gelu_backward, 0);
}
static void tanh_case(void *bench, Phase phase)
{
    elementwise(bench, phase, tanh_forward, tanh_backward, 1);
}
static void silu_case(void *bench, Phase phase)
{
    elementwise(bench, phase, silu_forward, silu_backward, 0);
}

static void attention_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int B = b->dim[0], N = b->dim[1], C = b->dim[2], H = b->dim[3];
    real *qkv = b->slot[0].x, *att = b->scratch[0], *dropped = b->scratch[1], *ds = b->scratch[2];
    if (phase == SHAPES)
        slot(b, "qkv", B * N * 3 * C, 0), b->out_size = B * N * C;
    else if (phase == FORWARD)
        attention_forward(b->out, att, dropped, qkv, b->drop, B, N, C, H);
    else
        attention_backward(b->slot[0].grad, ds, dropped, b->dout, att, qkv, b->drop, B, N, C, H);
}

static void neighbours_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int B = b->dim[0], N = b->dim[1], C = b->dim[2], H = b->dim[3];
    real *qkv = b->slot[0].x, *dqkv = b->slot[0].grad;
    if (phase == SHAPES) {
        slot(b, "qkv", B * N * 3 * C, 0), b->out_size = B * N * 3 * C;
    } else if (phase == FORWARD) {
        memcpy(b->out, qkv, b->out_size * sizeof *qkv);
        shift_neighbours(b->out, 1, B, N, C, H);
    } else {
        memcpy(dqkv, b->dout, b->out_size * sizeof *dqkv);
        shift_neighbours(dqkv, -1, B, N, C, H);
    }
}

static void dropout_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const size_t n = b->dim[0];
    if (phase == SHAPES)
        slot(b, "in", n, 0), b->out_size = n;
    else if (phase == FORWARD)
        dropout_forward(b->out, b->slot[0].x, n, b->drop);
    else
        dropout_backward(b->slot[0].grad, b->dout, n, b->drop);
}

static void embedding_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int M = b->dim[0], D = b->dim[1], V = b->dim[2];
    if (phase == SHAPES)
        slot(b, "table", V * D, 1), b->out_size = M * D, b->ids = words(M, V);
    else if (phase == FORWARD)
        embedding_forward(b->out, b->slot[0].x, b->ids, M, D);
    else
        embedding_backward(b->slot[0].grad, b->dout, b->ids, M, D);
}

static void mse_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int B = b->dim[0], n = b->dim[1];
    Slot *target = &b->slot[0], *out = &b->slot[1];
    if (phase == SHAPES)
        slot(b, "target", B * n, 1), slot(b, "out", B * n, 1), b->values = B;
    else if (phase == FORWARD)
        mse_forward(b->value, target->x, out->x, B, n);
    else
        mse_backward(target->grad, out->grad, target->x, out->x, b->dout, B, n);
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
        slot(b, "x_start", B * N * D, 1), slot(b, "word_embedding", V * D, 1),
            slot(b, "lm_head.bias", V, 1);
        b->values = B, b->ids = words(B * N, V);
    } else if (phase == FORWARD)
        decoder_nll_forward(b->value, b->scratch[0], &m, x->x, b->ids, B, N);
    else {
        decoder_nll_backward(x->grad, b->scratch[0], &m, b->ids, b->dout, B, N);
        linear_backward_weights(table->grad, bias->grad, b->scratch[0], x->x, B * N, V, D, 0, V);
    }
}

static void tT_case(void *bench, Phase phase)
{
    Bench *b = bench;
    const int B = b->dim[0], n = b->dim[1];
    if (phase == SHAPES)
        slot(b, "x_start", B * n, 1), b->values = B;
    else if (phase == FORWARD)
        tT_loss_forward(b->value, b->slot[0].x, &b->d, B, n);
    else
        tT_loss_backward(b->slot[0].grad, b->slot[0].x, &b->d, b->dout, B, n);
}

static double bench_loss(
    void *bench) /* a random direction of the output, so that every element counts differently */
{
    Bench *b = bench;
    double loss = 0;
    b->run(b, FORWARD);
    for (int i = 0; i < b->values; i++) loss += b->value[i] * b->dout[i];
    for (size_t i = 0; i < b->out_size; i++) loss += (double)b->out[i] * b->dout[i];
    return loss;
}

static const struct {
    const char *name;
    void (*run)(void *, Phase);
    int shapes[8][4];
    double rate;
} layers[] = {
    {"linear",
     linear_case,
     {{1, 1, 1}, {3, 5, 2}, {1, 3, 7}, {7, 33, 5}, {5, 1, 17}},
     0},                                                                           /* M O I */
    {"layernorm", layernorm_case, {{1, 5}, {3, 3}, {4, 17}, {2, 33}, {7, 64}}, 0}, /* M C */
    {"gelu", gelu_case, {{1}, {37}, {200}}, 0},
    {"tanh", tanh_case, {{1}, {37}, {200}}, 0},
    {"silu", silu_case, {{1}, {37}, {200}}, 0},
    {"attention",
     attention_case, /* B N C H */
     {{1, 1, 5, 1},
      {1, 3, 5, 1},
      {2, 3, 6, 2},
      {3, 1, 4, 4},
      {1, 3, 5, 5},
      {2, 4, 6, 3},
      {1, 17, 3, 1},
      {1, 5, 34, 2}},
     0},
    {"attention with dropout",
     attention_case,
     {{1, 3, 5, 1},
      {2, 3, 6, 2},
      {3, 1, 4, 4},
      {1, 3, 5, 5},
      {2, 4, 6, 3},
      {1, 17, 3, 1},
      {1, 5, 34, 2}},
     0.3},
    {"neighbours",
     neighbours_case, /* B N C H */
     {{1, 1, 4, 1}, {1, 2, 4, 1}, {2, 3, 8, 2}, {3, 4, 12, 3}, {1, 17, 5, 1}, {2, 5, 36, 2}},
     0},
    {"dropout", dropout_case, {{37}, {200}}, 0.3},
    {"embedding", embedding_case, {{1, 1, 1}, {9, 3, 4}, {5, 33, 7}}, 0},              /* M D V */
    {"mse", mse_case, {{1, 1}, {3, 5}, {2, 37}}, 0},                                   /* B n */
    {"decoder_nll", decoder_nll_case, {{1, 1, 6, 1}, {1, 3, 7, 5}, {2, 3, 20, 3}}, 0}, /* B N V D */
    {"tT", tT_case, {{1, 1}, {3, 5}, {2, 37}}, 0},                                     /* B n */
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

/* ---- the whole loss -------------------------------------------------------------------------- */

typedef struct {
    Config c;
    int B, t[4];
    double rate;
    int weighted;
} Setup;
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
    real *table[5],
        *droute[5]; /* test_routes: a copy of the embedding for each use, and its gradient */
} World;

static int open_world(World *x, const Setup *s)
{
    Error err;
    memset(x, 0, sizeof *x);
    x->B = s->B, x->N = s->c.seq_len, x->t = s->t;
    if (!check(!model_init(&x->m, &s->c, &err) &&
                   !workspace_init(&x->w, &s->c, x->B, x->N, 1, &err) &&
                   !diffusion_init(&x->d, s->c.noise_schedule, s->c.diffusion_steps, NULL, &err),
               "%s", err.text))
        return -1;

    randomise(x->m.params, x->m.num_params,
              0.6); /* all of it, LayerNorm too: exact 1 and 0 would hide mistakes */
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

/* Only so many of the steps, the last among them. */
static int respace(World *x, const char *steps)
{
    const Config *c = &x->m.config;
    unsigned char *kept = take(c->diffusion_steps, 1);
    Error err;
    diffusion_free(&x->d);
    const int n = steps_from_noise(kept, c->diffusion_steps, steps, &err);
    const int ok =
        n > 0 && !diffusion_init(&x->d, c->noise_schedule, c->diffusion_steps, kept, &err);
    return check(ok, "%s", err.text) - 1;
}

static void fill(const Tensor *t, double value)
{
    for (size_t i = 0; i < t->size; i++) t->data[i] = (real)value;
}

static void silence(World *x) /* the network's output is 0, whatever its input */
{
    fill(x->m.down_out.weight, 0);
    fill(x->m.down_out.bias, 0);
}

static void repeat_example(World *x) /* the first, as often as the batch has examples */
{
    const size_t n = (size_t)x->N * x->m.config.emb_dim;
    for (int b = 1; b < x->B; b++) {
        memcpy(x->ids + b * x->N, x->ids, x->N * sizeof *x->ids);
        memcpy(x->noise_x0 + b * n, x->noise_x0, n * sizeof(real));
        memcpy(x->noise_t + b * n, x->noise_t, n * sizeof(real));
    }
}

static int shrink_workspace(World *x, int B) /* so that a batch goes in pieces of B */
{
    Error err;
    workspace_free(&x->w);
    return check(!workspace_init(&x->w, &x->m.config, B, x->N, 1, &err), "%s", err.text) - 1;
}

static Batch world_batch(const World *x)
{
    return (Batch){x->ids, x->t, x->noise_x0, x->noise_t, x->weight, x->self_condition, x->B, x->N};
}

static double run_loss(World *x, int backward)
{
    const Batch batch = world_batch(x);
    return training_losses(&x->m, &x->w, &x->terms, &x->d, &batch, backward, x->drop);
}

static double world_loss(void *world) /* what the gradient is of: each example with its weight */
{
    World *x = world;
    double loss = run_loss(x, 0), sum = 0;
    for (int b = 0; b < x->B; b++) sum += (x->weight ? x->weight[b] : 1) * x->terms.loss[b] / x->B;
    return x->weight ? sum : loss;
}

/* vocab seq_len max_positions emb_dim hidden layers heads ffn time_dim T schedule, B, t, dropout.
 * Schedule 5 (pw_lin) of few steps keeps much of x_start in x_{T-1}: tT_loss and route 1 then weigh
 * as much as the rest. */
static const Setup setups[] = {
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, 0, 0, 0, 0, 0, 0}, 3, {0, 5, 2, 0}, 0, 0},
    {{7, 3, 4, 4, 4, 2, 1, 5, 3, 6, 5, 0, 0, 0, 1, 0, 0},
     3,
     {0, 5, 2, 0},
     0,
     0}, /* projections are identities */
    {{9, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, 0, 0, 0, 0, 0, 0}, 2, {7, 0, 0, 0}, 0, 0},
    {{6, 3, 3, 2, 5, 2, 1, 3, 2, 5, 0, 0, 0, 0, 0, 0, 0}, 3, {4, 0, 1, 0}, 0, 0},
    {{6, 3, 3, 4, 5, 1, 5, 6, 5, 7, 5, 0, 0, 0, 0, 0, 0}, 2, {0, 6, 0, 0}, 0, 0},
    {{8, 1, 2, 3, 6, 1, 2, 5, 3, 6, 5, 0, 0, 0, 0, 0, 0}, 2, {0, 5, 0, 0}, 0, 0},
    {{8, 1, 1, 1, 3, 1, 1, 1, 2, 6, 5, 0, 0, 0, 0, 0, 0}, 1, {3, 0, 0, 0}, 0, 0},
    {{7, 3, 3, 3, 4, 1, 2, 5, 3, 6, 5, 0, 0, 0, 0, 0, 0}, 1, {0, 0, 0, 0}, 0, 0},
    {{7, 3, 3, 3, 4, 1, 2, 5, 3, 6, 5, 0, 0, 0, 0, 0, 0}, 1, {5, 0, 0, 0}, 0, 0},
    {{9, 4, 5, 3, 6, 2, 2, 5, 3, 6, 5, 0, 0, 0, 0, 0, 0}, 4, {0, 5, 0, 3}, 0.2, 0},
    {{6, 3, 3, 2, 5, 2, 1, 3, 2, 5, 0, 0, 0, 0, 0, 0, 0}, 3, {4, 0, 1, 0}, 0.2, 0},
    {{20, 18, 18, 17, 18, 1, 1, 34, 18, 9, 5, 0, 0, 0, 0, 0, 0},
     2,
     {0, 8, 0, 0},
     0,
     0}, /* beyond 16 lanes; more than 200 elements */
    /* behind the schedule: what is predicted, self-conditioning, norm of the embeddings, identity
       projections, t_min, neighbours; at the end: weighted examples */
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, PREDICT_EPSILON, 0, 0, 0, 0, 0}, 3, {0, 5, 2, 0}, 0, 0},
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, PREDICT_SOFTMAX, 0, 1, 0, 0, 0}, 3, {0, 5, 2, 0}, 0, 0},
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, PREDICT_XSTART, 1, 0, 0, 0, 0}, 3, {0, 5, 2, 0}, 0, 0},
    {{7, 3, 4, 3, 4, 2, 1, 5, 3, 6, 5, PREDICT_XSTART, 0, 1.5, 0, 0, 0}, 3, {0, 5, 2, 0}, 0, 1},
    {{9, 4, 5, 5, 6, 1, 3, 7, 4, 8, 5, PREDICT_EPSILON, 1, 2, 0, 0, 0}, 3, {7, 0, 2, 0}, 0.2, 1},
    {{9, 4, 5, 5, 6, 1, 3, 7, 4, 8, 5, PREDICT_SOFTMAX, 1, 2, 0, 0, 0}, 3, {7, 0, 2, 0}, 0.2, 1},
    {{9, 4, 5, 5, 8, 2, 2, 7, 4, 8, 5, PREDICT_SOFTMAX, 1, 2, 0, 0, 1}, 3, {7, 0, 2, 0}, 0.2, 1},
    {{9, 4, 5, 5, 8, 2, 1, 7, 4, 8, 5, PREDICT_SOFTMAX, 0, 2, 0, 0, 1}, 3, {7, 0, 2, 0}, 0, 0},
};
enum { SETUPS = sizeof setups / sizeof *setups };

static void test_whole_loss(const Setup *s)
{
    World x;
    char where[100];
    snprintf(where, sizeof where, "B=%d N=%d C=%d H=%d dropout %g", s->B, s->c.seq_len, s->c.hidden,
             s->c.heads, s->rate);
    if (!open_world(&x, s)) {
        double loss = run_loss(&x, 1);
        near(loss, run_loss(&x, 0), 0, "the loss without and with backward");
        for (int i = 0; i < x.m.num_tensors; i++) {
            Tensor *t = &x.m.tensors[i];
            Slot slot_i = {t->name, t->data, t->grad, t->size, 1};
            /* softmax does not feel what all keys share; nor, over one position, anything */
            int zero = (strstr(t->name, "key.bias") && !s->c.neighbours) ||
                       (x.N == 1 && (strstr(t->name, "key.") || strstr(t->name, "query.")));
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
            if (strstr(t->name, "query.") || strstr(t->name, "key."))
                continue; /* may be rounding around 0 */
            near_all(t->grad, twice + (t->grad - x.m.grads), t->size, DOUBLE ? 1e-12 : 1e-5,
                     t->name);
        }
    }
    close_world(&x);
}

/* The loss put together from the library's pairs, with a table of its own for each of the
 * embedding's five uses. */
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
    for (int b = 0; b < B; b++)
        loss += (x->terms.mse[b] + x->terms.tT_loss[b] + x->terms.decoder_nll[b]) / B;
    if (!backward) return loss;

    dout = zeros(M * D), dx_t = zeros(M * D);
    mse_backward(dx[1], dout, noised[1], out, weight, B, n);
    denoiser_backward(&x->m, &x->w, dx_t, dout, x_t, B, N, x->drop);
    for (size_t i = 0; i < M * (size_t)D; i++)
        dx[0][i] = (real)sqrt(x->d.alphas_cumprod[x->t[i / n]]) * dx_t[i];
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
    if (s->c.predict || s->c.self_conditioning || s->c.emb_norm || s->weighted)
        return; /* more routes than five */
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
        near_all(e->grad, total, e->size, 1e-12,
                 "word_embedding's gradient and the sum of five routes");
    }
    close_world(&x);
}

/* mse with the estimate that training_losses left: it is a constant for the gradient */
static double frozen_loss(void *world)
{
    World *x = world;
    const size_t n = (size_t)x->N * x->m.config.emb_dim;
    double loss = 0;
    denoiser_forward(&x->m, &x->w, x->table[0], x->table[1], x->table[2], x->table[3], x->B, x->N,
                     x->drop);
    mse_forward(x->terms.mse, x->table[4], x->table[0], x->B, n);
    for (int b = 0; b < x->B; b++) loss += x->terms.mse[b] / x->B;
    return loss;
}

/* Every number says where it is from: 1000 b + 100 n + its column. Two heads of width 4. */
static void test_neighbours(void)
{
    enum { B = 2, N = 4, C = 8, H = 2, ROW = 3 * C };
    real qkv[B * N * ROW];
    int wrong = 0;
    for (int i = 0; i < B * N * ROW; i++)
        qkv[i] = (real)(1000 * (i / ROW / N) + 100 * (i / ROW % N) + i % ROW + 1);
    shift_neighbours(qkv, 1, B, N, C, H);
    for (int b = 0; b < B; b++)
        for (int n = 0; n < N; n++)
            for (int c = 0; c < ROW; c++) {
                const int quarter = c % (C / H), is_query = c < C;
                const int from = is_query || quarter > 1 ? n : quarter == 0 ? n - 1 : n + 1;
                const real want = (real)(from < 0 || from == N ? 0 : 1000 * b + 100 * from + c + 1);
                wrong += qkv[(b * N + n) * ROW + c] != want;
            }
    check(!wrong, "neighbours: %d numbers are not from where they should be", wrong);
}

static void test_self_conditioning(void)
{
    static const Setup s = {
        {9, 4, 5, 5, 6, 1, 3, 7, 4, 8, 5, PREDICT_XSTART, 1, 0, 0, 0, 0}, 3, {7, 0, 2, 0}, 0, 0};
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
                check_gradient("self-conditioning", &slot_i, strstr(t->name, "key.bias") != NULL,
                               frozen_loss, &x);
        }
    }
    close_world(&x);
}

/* ---- matmul ---------------------------------------------------------------------------------- */

static real *uniform(size_t n)
{
    real *x = zeros(n);
    uint64_t key = new_key();
    for (size_t i = 0; i < n; i++) x[i] = (real)(2 * unit_interval(key, i) - 1);
    return x;
}

/* Words so far apart that the softmax of most is nothing: a gradient must be 0 then, not a denormal
 * number, which is slow. */
static void test_denormals(void)
{
    enum { B = 8, N = 12, V = 300, D = 64 };
    real *table = normal(V * D, 1), *x = zeros(B * N * D), *dx = zeros(B * N * D),
         *probs = zeros(B * N * V), weight[B];
    double nll[B];
    const int *ids = words(B * N, V);
    int denormal = 0, none = 0;
    Tensor bias = {0};
    Model m = {0};
    m.embedding = table, m.lm_head_bias = &bias, m.config.vocab = V, m.config.emb_dim = D,
    bias.data = zeros(V);
    for (int i = 0; i < B * N * D; i++) x[i] = table[ids[i / D] * D + i % D];
    for (int b = 0; b < B; b++) weight[b] = (real)1 / B;
    decoder_nll_forward(nll, probs, &m, x, ids, B, N);
    decoder_nll_backward(dx, probs, &m, ids, weight, B, N);
    for (int i = 0; i < B * N * V; i++)
        denormal += probs[i] != 0 && fabs(probs[i]) < FLT_MIN, none += probs[i] == 0;
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
    matmul(c, ADD, NULL, a, ta, b, tb, M, N, K);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double want = start[(size_t)i * N + j];
            for (size_t k = 0; k < (size_t)K; k++)
                want += (double)(ta ? a[k * M + i] : a[(size_t)i * K + k]) *
                        (tb ? b[(size_t)j * K + k] : b[k * N + j]);
            if (!(fabs(c[(size_t)i * N + j] - want) <= tolerance) && !bad++)
                where = (size_t)i * N + j;
        }
    check(!bad, "%dx%dx%d, transposed %d %d: %zu differ, first [%zu] = %g", M, N, K, ta, tb, bad,
          where, (double)c[where]);
    for (size_t i = 0; i < GUARD; i++)
        broken += room[i] != (real)guard || c[size + i] != (real)guard;
    check(!broken, "%dx%dx%d, transposed %d %d: wrote outside of C", M, N, K, ta, tb);
    if (!ta && tb) { /* where in C a result lies must not change its bits */
        int i = rng_below(new_key(), 0, M), j = rng_below(new_key(), 0, N);
        real *row = start + (size_t)i * N, one = row[j];
        matmul(row, ADD, NULL, a + (size_t)i * K, 0, b, 1, 1, N, K);
        check(!memcmp(row, c + (size_t)i * N, N * sizeof *row),
              "%dx%dx%d: row %d alone has other bits", M, N, K, i);
        matmul(&one, ADD, NULL, a + (size_t)i * K, 0, b + (size_t)j * K, 1, 1, 1, K);
        check(!memcmp(&one, row + j, sizeof one), "%dx%dx%d: [%d,%d] alone has other bits", M, N, K,
              i, j);
    }
    release();
}

static void test_matmuls(void)
{
    static const int large[][3] = {
        {300, 257, 513}, {1, 300, 700}, {513, 3, 257}, {160, 512, 256}, {5, 16, 1025}};
    uint64_t key = new_key();
    for (int transposed = 0; transposed < 4; transposed++) {
        for (uint32_t i = 0; i < 500; i++)
            test_matmul(1 + rng_below(key, 3 * i, 70), 1 + rng_below(key, 3 * i + 1, 70),
                        1 + rng_below(key, 3 * i + 2, 70), transposed & 1, transposed >> 1);
        for (size_t i = 0; i < sizeof large / sizeof *large; i++)
            test_matmul(large[i][0], large[i][1], large[i][2], transposed & 1, transposed >> 1);
    }
}

/* An example's losses must not depend on its neighbours in the batch, nor on the number of threads.
 */
static void test_determinism(void)
{
    static const Setup s = {
        {40, 18, 18, 17, 36, 2, 2, 34, 18, 9, 0, 0, 0, 0, 0, 0, 0}, 4, {0, 8, 3, 3}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        const size_t n = (size_t)x.N * s.c.emb_dim;
        double in_batch[4];
        run_loss(&x, 0);
        memcpy(in_batch, x.terms.loss, sizeof in_batch);
        for (int b = 0; b < 4; b++) {
            const Batch alone = {
                x.ids + b * x.N, s.t + b, x.noise_x0 + b * n, x.noise_t + b * n, NULL, 0, 1, x.N};
            training_losses(&x.m, &x.w, &x.terms, &x.d, &alone, 0, x.drop);
            near(x.terms.loss[0], in_batch[b], 0, "an example alone and in a batch");
        }
        real *grads = zeros(x.m.num_params);
        x.drop.rate = 0.2; /* a thread has to find its part of the masks */
        for (int threads = 1; threads <= 3;
             threads++) { /* does nothing without OpenMP: then it tests replaying */
            int given = max_threads();
            set_threads(threads);
            memset(x.m.grads, 0, x.m.num_params * sizeof(real));
            run_loss(&x, 1);
            if (threads == 1) memcpy(grads, x.m.grads, x.m.num_params * sizeof(real));
            check(!memcmp(grads, x.m.grads, x.m.num_params * sizeof(real)),
                  "%d threads give other gradients", threads);
            set_threads(given);
        }
    }
    close_world(&x);
}

/* A batch that the workspace takes in pieces has the gradient, and the losses, of the whole. */
static void test_pieces(void)
{
    const double tolerance = DOUBLE ? 1e-12 : 2e-5;
    static const Setup s = {
        {40, 18, 18, 17, 36, 2, 2, 34, 18, 9, 0, 0, 0, 0, 0, 0, 0}, 4, {0, 8, 3, 3}, 0, 1};
    static const Setup dropping = {
        {40, 18, 18, 17, 36, 2, 2, 34, 18, 9, 0, 0, 0, 0, 0, 0, 0}, 2, {3, 3}, 0.5, 0};
    World x;
    if (!open_world(&x, &s)) {
        double whole[4];
        real *grads = zeros(x.m.num_params);
        double mean = run_loss(&x, 1);
        memcpy(whole, x.terms.loss, sizeof whole);
        memcpy(grads, x.m.grads, x.m.num_params * sizeof *grads);
        memset(x.m.grads, 0, x.m.num_params * sizeof *grads);
        if (!shrink_workspace(&x, 3)) { /* a piece of 3 and a rest of 1 */
            near(run_loss(&x, 1), mean, tolerance * mean, "the mean loss in pieces");
            for (int b = 0; b < 4; b++)
                near(x.terms.loss[b], whole[b], tolerance * whole[b], "a loss in pieces");
            near_all(x.m.grads, grads, x.m.num_params, tolerance, "the gradient in pieces");
        }
    }
    close_world(&x);
    if (!open_world(&x, &dropping) && !shrink_workspace(&x, 1)) {
        repeat_example(&x); /* which loses other elements each time */
        run_loss(&x, 0);
        check(x.terms.loss[0] != x.terms.loss[1], "two pieces with the same dropout mask");
    }
    close_world(&x);
    check(piece_of_batch(64, 12) == 64 && piece_of_batch(64, 64) == 32 &&
              piece_of_batch(3, 5000) == 1,
          "piece_of_batch");
}

/* ---- elementary functions -------------------------------------------------------------------- */

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
        if (i % 2)
            x = (real)(centre + (2 * u - 1) * span * pow(2, -24 * v)); /* dense around 0, or 1 */
        else if (logarithm)
            x = from_bits((uint32_t)(0x00800000u + u * 0x7f000000u)); /* every exponent */
        if (i >= POINTS) x = (real)(i == POINTS ? f->low : f->high);
        double want = f->libm((double)x), error = fabs((double)f->f(x) - want);
        if (f->relative && !(logarithm && error <= 1e-9)) error /= fabs(want);
        if (!(error <= worst)) worst = error, at = x;
    }
    check(worst <= f->tolerance, "%s(%.9g): error %.3g, more than %g", f->name, at, worst,
          f->tolerance);
    check(isnan(f->f((real)NAN)), "%s(NaN) is %g", f->name, (double)f->f((real)NAN));
}

static void test_functions(void)
{
    /* the errors found are below 1e-7, with and without fused multiply-add */
    static const Function functions[] = {
        {"exp", real_exp, exp, -87, 88, 1.5e-7, 1},
        {"log", real_log, log, FLT_MIN, FLT_MAX, 1.5e-7, 1},
        {"erf", real_erf, erf, -8, 8, 1.5e-7, 0},
        {"tanh", real_tanh, tanh, -20, 20, 1.5e-7, 0},
        {"sin", real_sin, sin, -1000, 1000, 1.5e-7, 0},
        {"cos", real_cos, cos, -1000, 1000, 1.5e-7, 0},
    };
    /* two walks over the ends */
    static const double beyond[] = {87, 87.5, 88, 88.5, 100, 1e4, 1e10, FLT_MAX, HUGE_VAL};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) test_function(&functions[i]);
    for (size_t i = 1; i < sizeof beyond / sizeof *beyond; i++) {
        double big = real_exp((real)beyond[i]), small = real_exp((real)-beyond[i]);
        check(big <= FLT_MAX && big >= real_exp((real)beyond[i - 1]), "exp(%g) = %g", beyond[i],
              big);
        check(small >= FLT_MIN && small <= real_exp((real)-beyond[i - 1]), "exp(%g) = %g",
              -beyond[i], small);
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

/* ---- random numbers -------------------------------------------------------------------------- */

static void moments(const real *x, size_t n, double m[4]) /* mean, variance, skew, kurtosis */
{
    double s[5] = {0};
    m[0] = 0;
    for (size_t i = 0; i < n; i++) m[0] += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (int p = 2; p <= 4; p++) s[p] += pow(x[i] - m[0], p) / (double)n;
    m[1] = s[2], m[2] = s[3] / pow(s[2], 1.5), m[3] = s[4] / (s[2] * s[2]);
}

static void uncorrelated(const real *x, const real *y, size_t n,
                         const char *what) /* of variance 1; within 5 sigma */
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
    static const struct {
        const char *ignored;
        uint64_t of[4];
    } neighbour[] = {{"", {7, 3, 10, 20}},
                     {"seed", {8, 3, 10, 20}},
                     {"stream", {7, 4, 10, 20}},
                     {"step", {7, 3, 11, 20}},
                     {"item", {7, 3, 10, 21}},
                     {"order of step and item", {7, 3, 20, 10}},
                     {"order of seed and step", {10, 3, 7, 20}}};
    static const int sizes[] = {1, 2, 3, 5, 16, 17, 1000};
    real *x = zeros(MANY), *y = zeros(FEW), *z = zeros(FEW);
    double m[4], tail = 0;
    for (size_t k = 1; k < sizeof neighbour / sizeof *neighbour; k++) {
        const uint64_t *u = neighbour[0].of, *v = neighbour[k].of;
        check(rng_key(u[0], (RngStream)u[1], u[2], u[3]) !=
                  rng_key(v[0], (RngStream)v[1], v[2], v[3]),
              "rng_key ignores its %s", neighbour[k].ignored);
    }
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
        const uint64_t *v = neighbour[k].of;
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
            if (r < 0 || r >= n)
                outside++;
            else
                count[r]++;
        }
        check(!outside && count[0] && count[n - 1],
              "rng_below(%d): %d outside, 0 %d times, %d %d times", n, outside, count[0], n - 1,
              count[n - 1]);
        check(chi_squared(count, n, share) < n - 1 + 5 * sqrt(2.0 * n), "rng_below(%d): chi^2 = %g",
              n, chi_squared(count, n, share));
    }
}

/* What only very many numbers show. */
static void test_many_random(void)
{
    enum { MANY = 1 << 24, SOME = 1000 };
    real *x = zeros(MANY);
    int beyond = 0;
    rng_gaussian(x, MANY, rng_key(1, RNG_NOISE_T, 5, 6));
    for (int i = 0; i < MANY; i++) beyond += fabs(x[i]) > 4.8;
    check(beyond >= 8 && beyond <= 50,
          "%d of 2^24 normal numbers lie beyond 4.8 sigma, expected about 27", beyond);
    for (int k = 4; k < 24; k++) {
        int again = 0;
        for (int i = 0; i < SOME; i++) again += x[i] == x[i + (1 << k)];
        check(again < SOME / 100, "random numbers repeat after 2^%d: %d of %d are the same again",
              k, again, SOME);
    }
}

/* As many squares of normal numbers as there are degrees of freedom, so to say: within 5 sigma of
 * that. */
static void near_uniform(const int *count, int n, int freedom, double expected, const char *what,
                         int size)
{
    double chi2 = chi_squared(count, n, expected);
    check(fabs(chi2 - freedom) < 5 * sqrt(2.0 * freedom),
          "rng_shuffle of %d, %s: chi^2 = %g with %d degrees of freedom", size, what, chi2,
          freedom);
}

/* What 32-bit indices cannot fill with random numbers is refused before memory is asked for. */
static void test_largest_table(void)
{
    Config c = {.vocab = 1000000,
                .emb_dim = 8192,
                .max_positions = 3,
                .hidden = 2,
                .layers = 1,
                .heads = 1,
                .ffn = 1,
                .time_dim = 1,
                .diffusion_steps = 2};
    Model m;
    Error err = {""};
    const int status = model_init(&m, &c, &err);
    check(status && strstr(err.text, "1000000 words of 8192 numbers"),
          "a table of 8e9 numbers: %d, '%s'", status, err.text);
    model_free(&m);
}

/* An epoch has every sentence, those of a length beside each other, in an order that no key shares
 * with another. */
/* An epoch has every sentence; the longest, which fill no block, come last; the others lie in
 * blocks of about one length, and every order of the blocks, and of the sentences of one length,
 * comes up equally often. */
static void test_epochs(void)
{
    enum {
        ROWS = 9,
        COPIES = 2,
        ALL = ROWS * COPIES,
        BLOCK = 2,
        BLOCKS = ROWS / BLOCK,
        DRAWS = 12000
    };
    static const int length[ROWS] = {5, 3, 4, 4, 12, 3, 4, 5, 4};
    size_t start[ROWS + 1] = {0};
    Corpus c = {.start = start, .rows = ROWS, .longest = 12};
    int order[ALL], sorted[ALL], scratch[2 * ALL + 14], first[24] = {0}, blocks[24] = {0}, bad = 0,
                                                        unsorted = 0;
    for (int i = 0; i < ROWS; i++) start[i + 1] = start[i] + (size_t)length[i];
    for (uint64_t key = 0; key < DRAWS; key++) {
        int seen[ROWS] = {0}, orders = 0, of_blocks = 0, shortest[BLOCKS];
        epoch_order(order, scratch, &c, key % 2 ? COPIES : 1, BLOCK,
                    rng_key(5, RNG_SHUFFLE, key, 0));
        const int all = key % 2 ? ALL : ROWS;
        sort_by_length(sorted, order, all, &c, scratch);
        for (int i = 0; i < all; i++) {
            seen[order[i]]++;
            unsorted += i && length[sorted[i]] < length[sorted[i - 1]];
        }
        for (int i = 0; i < ROWS; i++) bad += seen[i] != all / ROWS;
        if (key % 2) continue;
        bad += length[order[ROWS - 1]] != 12;
        for (int k = 0; k < BLOCKS; k++) { /* 3 3, 4 4, 4 4, 5 5 */
            bad += length[order[BLOCK * k]] != length[order[BLOCK * k + 1]];
            shortest[k] = length[order[BLOCK * k]] * ROWS +
                          (length[order[BLOCK * k]] == 4 ? order[BLOCK * k] : 0);
        }
        for (int k = 0; k < BLOCKS; k++) {
            int smaller = 0;
            for (int j = k + 1; j < BLOCKS; j++) smaller += shortest[j] < shortest[k];
            of_blocks = of_blocks * (BLOCKS - k) + smaller;
        }
        blocks[of_blocks]++;
        for (int i = 2; i < 6; i++) { /* those of length 4: their order, numbered by its digits */
            int smaller = 0;
            for (int k = i + 1; k < 6; k++) smaller += sorted[k] < sorted[i];
            orders = orders * (6 - i) + smaller;
        }
        first[orders]++;
    }
    check(!bad, "epoch_order: a sentence is missing or there too often (%d)", bad);
    check(!unsorted, "sort_by_length: %d times a shorter sentence behind a longer one", unsorted);
    near_uniform(first, 24, 23, DRAWS / 2 / 24.0, "orders within a length", 4);
    near_uniform(blocks, 24, 23, DRAWS / 2 / 24.0, "orders of blocks", 4);
}

/* Steps as a Pace chooses their threads, on a machine of `cores`, of which another program takes
 * one from step `from` to `to`: a step of more than one thread is then `slow` times slower. Returns
 * their time over that of the best choice. */
static double paced(int cores, double slow, int steps, int from, int to)
{
    Pace p;
    double total = 0, best = 0;
    pace_begin(&p, cores, 1);
    for (int step = 0; step < steps; step++) {
        const int threads = p.trial ? p.trial : p.threads, taken = step >= from && step < to;
        const double jam = taken && step % 64 < 16 ? 2 : 1; /* there are more programs still */
        const double time = jam * (taken && threads > 1 ? slow : 1) / threads;
        check(threads >= 1 && threads <= cores, "%d threads", threads);
        total += time;
        best += taken ? jam : 1.0 / cores;
        pace_step(&p, 1, time);
    }
    return total / best;
}

static void test_pace(void)
{
    const double alone = paced(2, 10, 4000, 0, 0), beside = paced(2, 10, 4000, 0, 4000),
                 many = paced(8, 10, 4000, 0, 0), tiny = paced(2, 100, 4000, 0, 4000),
                 between = paced(2, 10, 8000, 2000, 4000);
    check(alone < 1.02, "two threads alone take %g of the time of two", alone);
    check(many < 1.02, "eight threads alone take %g of the time of eight", many);
    check(beside < 1.05, "two threads beside another program take %g of the time of one", beside);
    check(tiny < 1.1, "short steps beside another program take %g of the time of one thread", tiny);
    check(between < 1.15, "two threads, for a while beside another program, take %g of the best",
          between);
    Pace fixed;
    const int given = max_threads();
    pace_begin(&fixed, given, 0);
    for (int step = 0; step < 100; step++) pace_step(&fixed, 1, step < 50 ? 1 : 100);
    check(fixed.threads == given && !fixed.trial, "a given number of threads is changed");
    set_threads(given);
}

static void test_lengths(void)
{
    enum { MOST = 9, DRAWS = 100000 };
    const real count[MOST + 1] = {0, 0, 0, 5, 0, 3, 2, 0, 0, 10};
    int drawn[MOST + 1] = {0}, within[MOST + 1] = {0}, even[MOST + 1] = {0};
    double sum = 0;
    for (int N = SHORTEST; N <= MOST; N++) {
        sum += length_probability(count, MOST, N);
        check(length_probability(count, MOST, N) > 0, "a sentence of %d positions is impossible",
              N);
    }
    near(sum, 1, 1e-12, "the sum of the probabilities of all lengths");
    near(length_probability(count, MOST, 5), (3 + 1 / 7.0) / 21, 1e-12,
         "the probability of a length");
    for (int i = 0; i < DRAWS; i++) {
        const double u = (i + 0.5) / DRAWS;
        drawn[draw_length(count, SHORTEST, MOST, u)]++;
        within[draw_length(count, 4, 8, u)]++;
        even[draw_length(count, 7, 8, u)]++;
    }
    for (int N = 0; N <= MOST; N++) near(drawn[N], DRAWS * count[N] / 20, 1, "samples of a length");
    check(within[5] == DRAWS / 5 * 3 && within[6] == DRAWS / 5 * 2,
          "of lengths 4 to 8: %d have 5, %d have 6", within[5], within[6]);
    check(even[7] == DRAWS / 2 && even[8] == DRAWS / 2,
          "of lengths that never occur: %d have 7, %d have 8", even[7], even[8]);
    check(draw_length(NULL, 4, 6, 0) == 4 && draw_length(NULL, 4, 6, 0.9999) == 6,
          "draw_length without counts");
}

static void test_shuffle(void)
{
    enum { MANY = 1000, ORDERS = 120, DRAWS = 300 };
    int *order = take(MANY, sizeof *order), *orders = take(ORDERS, sizeof *orders), bad = 0;
    int *place = take(MANY, sizeof *place), *apart = take(MANY, sizeof *apart),
        *pair = take(100 * 100, sizeof *pair);
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

/* ---- the diffusion process ------------------------------------------------------------------- */

static void test_schedule(int schedule, int T)
{
    const char *name = noise_schedule_names[schedule];
    /* the fewest steps: the last beta is 20/T, or 20/T + 0.01, and must be below 1 */
    const int steep = schedule == 4 || schedule == 2 || (schedule == 5 && T > 10) ? 21 : 0;
    Diffusion d;
    Error err = {""};
    int status = diffusion_init(&d, schedule, T, NULL, &err), falling = 1, bayes = 1;
    check(status == (T < steep ? -1 : 0), "%s, %d steps: %s", name, T,
          status ? err.text : "not refused");
    check(!status || strstr(err.text, name), "%s, %d steps: message '%s'", name, T, err.text);
    for (int t = 0; !status && t < T; t++) {
        double a = d.alphas_cumprod[t], beta = d.betas[t], prev = t ? d.alphas_cumprod[t - 1] : 1;
        double x = d.posterior_mean_coef1[t], y = d.posterior_mean_coef2[t],
               v = d.posterior_variance[t];
        falling &= a < prev && 1 / a <= FLT_MAX && d.alphas_cumprod_prev[t] == prev && beta > 0 &&
                   beta <= 0.999;
        bayes &= fabs(a - prev * (1 - beta)) < 1e-14 && v >= 0 && v <= beta;
        if (!t)
            bayes &= v == 0 && y == 0 && fabs(x - 1) < 1e-12;
        else { /* the product of q(x_t | x_{t-1}) and q(x_{t-1} | x_0): precisions add up, means are
                  weighed by them */
            bayes &= fabs(v * ((1 - beta) / beta + 1 / (1 - prev)) - 1) < 1e-9;
            bayes &= fabs(x - v * sqrt(prev) / (1 - prev)) < 1e-9 &&
                     fabs(y - v * sqrt(1 - beta) / beta) < 1e-9;
            bayes &= fabs(d.posterior_log_variance_clipped[t] - log(v)) < 1e-12;
        }
        if (falling && bayes && t < T - 1) continue;
        check(falling && bayes,
              "%s, %d steps, t = %d: alphas_cumprod %g, before %g, beta %g, posterior %g %g %g",
              name, T, t, a, prev, beta, v, x, y);
        break;
    }
    if (!status && T >= 1000)
        near(d.posterior_variance[T - 1] / d.betas[T - 1], 1, 0.04,
             "posterior variance / beta at the last step");
    if (!status)
        near(d.posterior_log_variance_clipped[0], d.posterior_log_variance_clipped[1], 0,
             "clipped log variance");
    diffusion_free(&d);
    for (int k = 0; !status && k < 2;
         k++) { /* respacing keeps alphas_cumprod at the steps that it keeps */
        Diffusion whole, part;
        unsigned char *kept = take(T, 1);
        int bad = 0, last = -1;
        if (!check(space_timesteps(kept, T, k ? "2" : "ddim2", &err) == 2 &&
                       !diffusion_init(&whole, schedule, T, NULL, &err) &&
                       !diffusion_init(&part, schedule, T, kept, &err),
                   "%s", err.text))
            break;
        for (int t = 0; t < part.T; t++) {
            int from = part.timestep_map[t];
            bad +=
                from <= last || fabs(part.alphas_cumprod[t] - whole.alphas_cumprod[from]) > 1e-12;
            bad += fabs(diffusion_timestep(&part, t) - 1000.0 * from / T) > 1e-4;
            last = from;
        }
        check(!bad && part.T == 2 && part.timestep_map[0] == 0,
              "%s: %d steps respaced to 2: %d differ", name, T, bad);
        check(!k || last == T - 1, "%s: %d steps respaced to 2 end in %d", name, T, last);
        diffusion_free(&whole);
        diffusion_free(&part);
    }
}

static void test_respacing(void)
{
    static const struct {
        int total;
        const char *sections, *kept;
    } cases[] = {
        {10, "10", "1111111111"},
        {10, "1", "1000000000"},
        {10, "3", "1000100001"}, /* 4.5 -> 4; half-up: 5 */
        {8, "3", "10001001"},
        /* 3.5 -> 4 */ {14, "3", "10000010000001"}, /* 6.5 -> 6; half-up: 7 */
        {10, "2,1,2", "1001100101"},
        {10, "4,3,3", "1111111111"},
        {10, "0,0,1", "0000000100"},
        {10, "ddim5", "1010101010"},
        {10, "ddim10", "1111111111"},
        {10, "ddim4", "1001001001"},
        {10, "ddim2", "1000010000"},
        {10, "11", NULL},
        {10, "5,6", NULL},
        {10, "4,4,3", NULL},
        {10, "0", NULL},
        {10, "", NULL},
        {10, "3,", NULL},
        {10, ",3", NULL},
        {10, "-1", NULL},
        {10, "3 ", NULL},
        {10, "x", NULL},
        {10, "ddim", NULL},
        {10, "ddim0", NULL},
        {10, "ddim7", NULL},
        {10, "ddim11", NULL},
        {10, "ddim5x", NULL},
        {10, "99999999999999999999", NULL},
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
            check(n == want && !strcmp(got, cases[i].kept), "'%s' of %d: %s", cases[i].sections,
                  total, got);
        else
            check(n == -1 && err.text[0], "'%s' of %d: %d, message '%s'", cases[i].sections, total,
                  n, err.text);
    }
    static const struct {
        int total;
        const char *sections;
        int n, step[3];
    } from_noise[] = {{50, "1", 1, {49}},
                      {50, "2", 2, {0, 49}},
                      {200, "1,1,1", 3, {0, 67, 199}},
                      {50, "ddim2", 2, {0, 49}}};
    for (size_t i = 0; i < sizeof from_noise / sizeof *from_noise; i++) {
        const int total = from_noise[i].total;
        unsigned char *kept = take(total, 1);
        char got[100] = "";
        Error err = {""};
        int n = steps_from_noise(kept, total, from_noise[i].sections, &err), found = 0, bad = 0;
        for (int t = 0; t < total; t++) {
            if (!kept[t]) continue;
            bad += found >= from_noise[i].n || t != from_noise[i].step[found];
            if (found++ < 10) snprintf(got + strlen(got), sizeof got - strlen(got), " %d", t);
        }
        check(!bad && n == from_noise[i].n && found == n,
              "steps_from_noise '%s' of %d: returned %d and keeps%s", from_noise[i].sections, total,
              n, got);
    }
}

static void test_moments(const real *x, size_t n, double mean, double variance,
                         const char *what) /* within 5 sigma */
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
    real *x0 = zeros(B * n), *x_t = zeros(B * n), *mean = zeros(B * n), *back = zeros(B * n),
         *quiet = zeros(B * n);
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
            double want = kind == FIXED_SMALL ? d.posterior_variance[s]
                          : s                 ? d.betas[s]
                                              : d.posterior_variance[1];
            near(variance[b], want, 1e-15, "p_variance");
            near(log_variance[b], log(want > 0 ? want : d.posterior_variance[1]), 1e-12,
                 "p_log_variance");
            for (size_t i = 0; i < n; i++) quiet[b * n + i] = back[b * n + i] - mean[b * n + i];
            if (s) test_moments(quiet + b * n, n, 0, want, "p_sample's noise");
            /* with the true x_start, a step back from q(x_t) leads to q(x_{t-1}): DDPM eq. 6 and 7
             * undo eq. 2 */
            if (s && kind == FIXED_SMALL)
                test_moments(back + b * n, n, sqrt(d.alphas_cumprod[s - 1]) * start,
                             1 - d.alphas_cumprod[s - 1], "a step back");
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
        check(!bad && !wrong,
              "rate %g: %g values neither 0 nor 1/(1-rate), %g not masked alike backward", rate,
              bad, wrong);
        dropout_forward(z, one, n, drop);
        check(!memcmp(y, z, n * sizeof *y), "rate %g: one key, two masks", rate);
        dropout_forward(z, z, n, other);
        dropout_forward(one, one, n, other);
        for (size_t i = 0; i < n; i++) same += (y[i] != 0) == (one[i] != 0), one[i] = 1;
        near(same / n, rate * rate + (1 - rate) * (1 - rate), 0.01,
             "how alike the masks of two keys are");
        mean = 0;
        for (size_t i = 0; i < n; i++) mean += z[i] / n;
        near(mean, 1, 5 * sqrt((kept * kept - 1) / n), "mean of two masks, the second in place");
    }
}

/* Every site of dropout has a mask of its own. It is seen where dropout is given 1 everywhere:
 * weights of 0 and biases of 1 do that, and behind a LayerNorm what was kept is above the mean.
 * Over one position, with a head for each channel, attention has as many probabilities, all 1, as
 * there are activations. */
static void test_dropout_sites(void)
{
    enum { LAYERS = 2, PLACES = 3, SITES = 1 + PLACES * LAYERS, C = 64, B = 64 };
    static const Setup s = {
        {5, 1, 1, 2, C, LAYERS, C, 3, 2, 5, 0, 0, 0, 0, 0, 0, 0}, B, {0}, 0.5, 0};
    static const char *const places[] = {"the embeddings", "attention", "attention's output",
                                         "the feed-forward's output"};
    World x;
    if (!open_world(&x, &s)) {
        const size_t n = B * C;
        const real *shown[SITES];
        memset(x.m.params, 0, x.m.num_params * sizeof(real));
        fill(x.m.emb_ln.bias, 1e-3); /* little beside what the first layer adds to it */
        for (int l = 0; l < LAYERS; l++) {
            const LayerActs a = layer_acts(&x.w, &s.c, l);
            fill(x.m.layer[l].value.bias, 1);
            fill(x.m.layer[l].attn_out.bias, 1);
            fill(x.m.layer[l].ffn_down.bias, 1);
            shown[1 + PLACES * l] = a.context;
            shown[2 + PLACES * l] = a.attn_normed;
            shown[3 + PLACES * l] = a.normed;
        }
        shown[0] = x.w.emb;
        denoiser_forward(&x.m, &x.w, zeros(B * s.c.emb_dim), normal(B * s.c.emb_dim, 1), NULL,
                         zeros(B), B, 1, x.drop);
        for (int i = 0; i < SITES; i++) {
            const int layer = i ? (i - 1) / PLACES : 0, place = i ? 1 + (i - 1) % PLACES : 0;
            double kept = 0;
            for (size_t k = 0; k < n; k++) kept += (double)(shown[i][k] > 0) / n;
            check(fabs(kept - 0.5) < 2.5 / sqrt(n),
                  "dropout of %s in layer %d keeps %g, expected .5", places[place], layer, kept);
            for (int j = 0; j < i; j++) {
                double same = 0;
                for (size_t k = 0; k < n; k++)
                    same += (double)((shown[i][k] > 0) == (shown[j][k] > 0)) / n;
                check(fabs(same - 0.5) < 2.5 / sqrt(n),
                      "the dropout masks of %s in layer %d and of %s in layer %d agree at %g, "
                      "expected .5: they are not independent",
                      places[place], layer, places[j ? 1 + (j - 1) % PLACES : 0],
                      j ? (j - 1) / PLACES : 0, same);
            }
        }
    }
    close_world(&x);
}

/* ---- initial weights ------------------------------------------------------------------------- */

static double init_scale(const Tensor *t)
{
    return t->init == INIT_UNIFORM ? 1 / sqrt(t->fan_in) : 1;
}

/* As PyTorch's: Linear evenly within 1/sqrt(fan_in) of 0; Embedding normal; LayerNorm 1 and 0. */
static void test_initial_weights(void)
{
    static const Setup s = {
        {70, 30, 30, 24, 36, 2, 2, 64, 18, 9, 0, 0, 0, 0, 0, 0, 0}, 1, {0}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        const Model *m = &x.m;
        model_random(&x.m, 3);
        for (int i = 0; i < m->num_tensors; i++) {
            const Tensor *t = &m->tensors[i];
            const int embedding = strstr(t->name, "embedding") != NULL;
            const int ln = strstr(t->name, "LayerNorm") != NULL;
            const int one = strstr(t->name, "weight") != NULL;
            const double scale = init_scale(t), want = embedding ? 1 : scale * scale / 3;
            double v[4], most = largest(t->data, t->size);
            int bad = 0;
            moments(t->data, t->size, v);
            for (size_t k = 0; ln && k < t->size; k++) bad += t->data[k] != one;
            check(!bad, "model_random: %s of a LayerNorm is not %d", t->name, one);
            if (ln) continue;
            check(fabs(v[0]) < 5 * sqrt(want / t->size) &&
                      fabs(v[1] - want) < 5 * want * sqrt(2.0 / t->size),
                  "model_random: %s has mean %g and variance %g, expected 0 and %g", t->name, v[0],
                  v[1], want);
            check(embedding || (most <= scale && most > 0.8 * scale &&
                                (t->rank == 1 || t->fan_in == t->shape[1])),
                  "model_random: %s reaches %g, expected 1/sqrt(fan-in) = %g", t->name, most,
                  scale);
            for (int j = 0; j < i; j++) {
                const Tensor *u = &m->tensors[j];
                int same = 0;
                for (int k = 0; k < 10; k++)
                    same += fabs(t->data[k] / scale - u->data[k] / init_scale(u)) < 1e-4;
                check(u->init != t->init || same < 5,
                      "model_random: %s and %s begin with the same random numbers", u->name,
                      t->name);
            }
        }
    }
    close_world(&x);
}

/* ---- the optimiser --------------------------------------------------------------------------- */

static void test_optimizer(void)
{
    const Config c = {7, 3, 3, 3, 4, 1, 2, 5, 3, 6, 0, 0, 0, 0, 0, 0, 0};
    const double lr = 0.02, weight_decay = 0.1;
    Model m;
    Optimizer o = {0};
    Error err;
    if (check(!model_init(&m, &c, &err), "%s", err.text)) {
        model_random(&m, 5);
        const size_t n = m.num_params;
        double *p = take(4 * n, sizeof *p), *am = p + n, *av = p + 2 * n, *ema = p + 3 * n,
               total = 0;
        unsigned char *decay = take(m.num_tensors, 1);
        real *want = zeros(n);
        check(!optimizer_init(&o, &m, &err), "%s", err.text);
        for (size_t i = 0; i < n; i++) p[i] = ema[i] = m.params[i];
        for (int i = 0; i < m.num_tensors; i++) decay[i] = i % 3 == 0;
        for (int step = 0; step < 5; step++) {
            double rate = lr * (5 - step), keep = 0.5 + 0.1 * step, scale = step % 2 ? 0.25 : 1;
            randomise(m.grads, n, 1);
            for (size_t i = 0; i < n; i += 7)
                m.grads[i] *= (real)1e-8; /* eps shows only in small gradients */
            total = 0;
            for (size_t i = 0; i < n; i++) total += (double)m.grads[i] * m.grads[i];
            near(gradient_norm(&m, &o), sqrt(total), 1e-6 * sqrt(total), "gradient_norm");
            for (int k = 0; k < m.num_tensors; k++)
                for (size_t i = m.tensors[k].data - m.params, end = i + m.tensors[k].size; i < end;
                     i++) {
                    double g = m.grads[i] * scale;
                    am[i] = 0.9 * am[i] + 0.1 * g;
                    av[i] = 0.999 * av[i] + 0.001 * g * g;
                    if (decay[k]) p[i] -= rate * weight_decay * p[i];
                    p[i] -= rate * am[i] / (1 - pow(0.9, step + 1)) /
                            (sqrt(av[i] / (1 - pow(0.999, step + 1))) + 1e-8);
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

/* A step takes up only 1e-4 of the difference. Rounding by 6e-8 of the average, once or without a
 * fused multiply-add twice, stops that where .0006 or .0012 are left. */
static void test_ema(void)
{
    enum { STEPS = 100000 };
    static const Config c = {1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 0, 0, 0, 0, 0, 0, 0};
    const int given = max_threads();
    Model m;
    Optimizer o = {0};
    Error err;
    set_threads(1); /* there is nothing to share */
    if (check(!model_init(&m, &c, &err), "%s", err.text)) {
        unsigned char *decay = take(m.num_tensors, 1);
        double apart = 0;
        model_random(&m, 5);
        check(!optimizer_init(&o, &m, &err), "%s", err.text);
        for (size_t i = 0; i < m.num_params; i++) m.params[i] *= (real)1.03;
        for (int step = 0; step < STEPS; step++) adamw_step(&m, &o, step, 0, 0, decay, 0.9999, 1);
        for (size_t i = 0; i < m.num_params; i++)
            if (m.params[i] != 0) apart = fmax(apart, fabs(o.ema[i] / m.params[i] - 1));
        check(apart < 1.5e-3,
              "ema does not follow: %d steps at .9999 after a move of 3 %%, it is %g %% away",
              STEPS, 100 * apart);
    }
    optimizer_free(&o);
    model_free(&m);
    set_threads(given);
}

/* ---- learning: all of it together ------------------------------------------------------------ */

static void loop_noise(const World *x, real *out, int t)
{
    rng_gaussian(out, (size_t)x->B * x->N * x->m.config.emb_dim, rng_key(9, RNG_SAMPLE, 1 + t, 0));
}

/* What a sampling loop asks for and shows. estimate: those of all t */
typedef struct {
    World *world;
    real *estimate /*(T,B,N,D)*/;
    int steps, asked;
    double outside;
    int stop; /* at t = stop - 1; 0: nowhere */
} Watch;

static int watch_noise(void *context, real *out, int t)
{
    const Watch *w = context;
    loop_noise(w->world, out, t);
    return t == w->stop - 1;
}

static void watch(void *context, int t, const real *pred_xstart)
{
    Watch *w = context;
    const size_t n = (size_t)w->world->B * w->world->N * w->world->m.config.emb_dim;
    w->steps++;
    memcpy(w->estimate + t * n, pred_xstart, n * sizeof *w->estimate);
    for (size_t i = 0; i < n; i++) w->outside = fmax(w->outside, fabs(pred_xstart[i]));
}

static void no_gradient(void *context, real *dx, const real *x, int t)
{
    Watch *w = context;
    (void)x, (void)t;
    w->asked++;
    memset(dx, 0, (size_t)w->world->B * w->world->N * w->world->m.config.emb_dim * sizeof *dx);
}

static void run_loop(World *x, const Sampler *s, real *sample)
{
    Error err;
    check(!p_sample_loop(&x->m, &x->w, &x->d, s, sample, x->B, x->N, &err), "%s", err.text);
}

/* The word that clamping is to find, one by one: the library has a product of matrices instead. */
static const real *nearest_embedding(const Model *m, const real *x)
{
    const int D = m->config.emb_dim;
    const real *nearest = NULL;
    double least = HUGE_VAL;
    for (int v = 0; v < m->config.vocab; v++) {
        const real *e = m->embedding + v * D;
        double d2 = 0;
        for (int d = 0; d < D; d++) d2 += pow(x[d] - e[d], 2);
        if (d2 < least) least = d2, nearest = e;
    }
    return nearest;
}

/* p_sample_loop written out, for a network that predicts x_start. */
static void replay(World *x, const Sampler *s, real *sample)
{
    const int B = x->B, M = B * x->N, D = x->m.config.emb_dim, steps = s->start ? s->start : x->d.T;
    const size_t n = (size_t)M * D;
    const Dropout none = {0, 0, 0};
    real *noise = zeros(n), *noisy = zeros(n), *estimate = zeros(n), *pred = zeros(n),
         *timesteps = zeros(B);
    int *t = take(B, sizeof *t);
    for (int step = steps - 1; step >= 0; step--) {
        for (int b = 0; b < B; b++) t[b] = step, timesteps[b] = diffusion_timestep(&x->d, step);
        s->noise(s->context, noise, step);
        if (s->known) q_sample(noisy, s->known_x, noise, t, &x->d, B, n / B);
        for (int i = 0; i < M; i++)
            if (s->known && s->known[i]) memcpy(sample + i * D, noisy + i * D, D * sizeof *sample);
        const real *last = step < steps - 1 ? estimate : NULL;
        denoiser_forward(&x->m, &x->w, pred, sample, last, timesteps, B, x->N, none);
        memcpy(estimate, pred, n * sizeof *pred);
        for (int i = 0; i < M && x->d.timestep_map[step] < s->clamp_from; i++)
            memcpy(estimate + i * D, nearest_embedding(&x->m, estimate + i * D), D * sizeof *pred);
        for (int i = 0; i < M; i++)
            if (s->known && s->known[i])
                memcpy(estimate + i * D, s->known_x + i * D, D * sizeof *estimate);
        p_sample(sample, estimate, sample, noise, t, &x->d, s->variance, B, n / B);
        s->show(s->context, step, estimate);
    }
}

/* From x_T, the loop and its replay have the same bits at every step; returns the sample. */
static real *check_loop(World *x, Sampler s, const real *x_T, const char *wrong)
{
    const size_t n = (size_t)x->B * x->N * x->m.config.emb_dim, all = n * x->d.T;
    real *sample = zeros(n), *expected = zeros(n);
    Watch loop = {x, zeros(all), 0, 0, 0, 0}, steps = {x, zeros(all), 0, 0, 0, 0};
    s.noise = watch_noise, s.show = watch;
    memcpy(sample, x_T, n * sizeof *sample), memcpy(expected, x_T, n * sizeof *sample);
    randomise(x->w.pred_xstart, n, 1); /* what an earlier sample left here is not for this one */
    s.context = &loop, run_loop(x, &s, sample);
    s.context = &steps, replay(x, &s, expected);
    check(!memcmp(sample, expected, n * sizeof *sample) &&
              !memcmp(loop.estimate, steps.estimate, all * sizeof *sample),
          "p_sample_loop differs from its steps written out: %s", wrong);
    return sample;
}

/* DPM-Solver++ (2M), from guesses out of the air, as its paper writes it (arXiv:2211.01095): with
 * alpha = sqrt(a), sigma = sqrt(1 - a), lambda = log(alpha / sigma), h = what lambda gains in a
 * step and r = the h before divided by this one,
 *   D = (1 + 1 / 2r) guess - 1 / 2r (the guess before)
 *   x_{t-1} = sigma_{t-1} / sigma_t x_t - alpha_{t-1} (exp(-h) - 1) D */
static void check_second_order(World *x, const real *x_T)
{
    const int T = x->d.T;
    const size_t n = (size_t)x->B * x->N * x->m.config.emb_dim;
    const Sampler sampler = {.ddim = 1, .ahead = 0.5};
    real *ours = zeros(n), *theirs = zeros(n), *last = zeros(n), *noise = normal(n, 1);
    double h_before = HUGE_VAL;
    memcpy(ours, x_T, n * sizeof *ours), memcpy(theirs, x_T, n * sizeof *ours);
    randomise(x->w.estimate, n, 1); /* what was there before is not for the first step */
    for (int t = T - 1; t > 0; t--) {
        const double a = x->d.alphas_cumprod[t], prev = x->d.alphas_cumprod_prev[t];
        const double h = log(sqrt(prev / (1 - prev))) - log(sqrt(a / (1 - a))), r = h_before / h;
        int all[3] = {t, t, t};
        randomise(x->w.pred_xstart, n, 1);
        for (size_t i = 0; i < n; i++) {
            const double guess = x->w.pred_xstart[i];
            const double D = (1 + 1 / (2 * r)) * guess - 1 / (2 * r) * last[i];
            theirs[i] = sqrt((1 - prev) / (1 - a)) * theirs[i] - sqrt(prev) * (exp(-h) - 1) * D;
            last[i] = (real)guess;
        }
        ddim_sample(ours, guess_ahead(&sampler, &x->w, &x->d, t, n), ours, noise, all, &x->d, 0,
                    x->B, n / x->B);
        near_all(ours, theirs, n, DOUBLE ? 1e-9 : 1e-3, "eta 0, ahead 0.5 and DPM-Solver++ (2M)");
        h_before = h;
    }
}

/* Between t = 100 and 99 next to nothing is gained, and then all that is left: what the guess
 * changes by in a tiny step counts eight times at most. */
static void check_ahead_of_sections(World *x)
{
    const size_t n = (size_t)x->B * x->N * x->m.config.emb_dim;
    const Sampler sampler = {.ddim = 1, .ahead = 0.5};
    Config c = x->m.config;
    Diffusion d;
    Error err;
    real *last = normal(n, 1), *expected = zeros(n);
    c.diffusion_steps = 200;
    if (!check(!diffusion_from_noise(&d, &c, "2,2", &err), "sections are refused")) return;
    check(d.timestep_map[1] == 99 && d.timestep_map[2] == 100, "sections 2,2 of 200 do not meet");
    memcpy(x->w.pred_xstart, last, n * sizeof *last);
    guess_ahead(&sampler, &x->w, &d, 2, n);
    randomise(x->w.pred_xstart, n, 1);
    for (size_t i = 0; i < n; i++)
        expected[i] = x->w.pred_xstart[i] + 4 * (x->w.pred_xstart[i] - last[i]);
    near_all(guess_ahead(&sampler, &x->w, &d, 1, n), expected, n, DOUBLE ? 1e-12 : 1e-5,
             "ahead where sections meet");
    diffusion_free(&d);
}

/* The least noisy steps that are left out change nothing of the others, nor x_start's own noise. */
static void check_t_min(World *x)
{
    enum { STEPS = 200, LEFT_OUT = 30 };
    Config c = x->m.config;
    Diffusion all, d;
    Error err;
    c.diffusion_steps = STEPS;
    int status = diffusion_from_noise(&all, &c, NULL, &err);
    c.t_min = (double)LEFT_OUT / STEPS;
    if (!check(!status && !diffusion_from_noise(&d, &c, NULL, &err), "t_min: %s", err.text)) return;
    check(all.T == STEPS && d.T == STEPS - LEFT_OUT && trained_steps(&c) == d.T && d.total == STEPS,
          "t_min %g leaves %d of %d steps", c.t_min, d.T, all.T);
    for (int t = 0; t < d.T; t++) {
        const int same = d.timestep_map[t] == t + LEFT_OUT;
        check(same, "t_min: step %d is number %d of all", t, d.timestep_map[t]);
        near(d.alphas_cumprod[t], all.alphas_cumprod[t + LEFT_OUT], 1e-12, "alphas_cumprod");
    }
    check(d.first_alpha == all.first_alpha, "t_min changes x_start's own noise");
    diffusion_free(&d);
    if (!check(!diffusion_from_noise(&d, &c, "2", &err), "t_min with --steps: %s", err.text))
        return;
    check(d.T == 2 && d.timestep_map[0] == LEFT_OUT && d.timestep_map[1] == STEPS - 1,
          "t_min: two steps are %d and %d", d.timestep_map[0], d.timestep_map[1]);
    diffusion_free(&d);
    /* of 170 steps the 43 least noisy are a quarter; 7 and 86 are taken evenly */
    static const int few[][2] = {{7, 2}, {8, 1}, {16, 2}, {50, 6}, {85, 10}, {86, 22}};
    for (size_t k = 0; k < sizeof few / sizeof *few; k++) {
        const int N = few[k][0];
        int low = 0;
        char text[16];
        sprintf(text, "%d", N);
        if (!check(!diffusion_from_noise(&d, &c, text, &err), "%s steps: %s", text, err.text))
            return;
        while (d.timestep_map[low] < LEFT_OUT + 43) low++;
        check(d.T == N && low == few[k][1] && d.timestep_map[d.T - 1] == STEPS - 1,
              "t_min: of %d steps %d are in the least noisy quarter", N, low);
        diffusion_free(&d);
    }
    for (int k = 0; k < 2; k++) { /* sections, and a model with all steps, are as asked for */
        c.t_min = k ? 0 : c.t_min;
        if (!check(!diffusion_from_noise(&d, &c, k ? "16" : "4,4,4,4", &err), "%s", err.text))
            return;
        check(d.T == 16 && d.timestep_map[4] - d.timestep_map[3] == (k ? 13 : 1),
              "steps as asked for: the fourth is %d, the fifth %d", d.timestep_map[3],
              d.timestep_map[4]);
        diffusion_free(&d);
    }
    diffusion_free(&all);
}

/* The least mean squared error at t for whoever knows the words but not the noise, and so x_start,
 * which has a variance s^2 of its own, from x_t alone: precisions add up. Who gets below has seen
 * what it should not. At t = 0 the target is the word. */
static double least_mse(const Diffusion *d, int t)
{
    const double s2 = 1 - d->first_alpha, a = d->alphas_cumprod[t];
    return t ? 1 / (1 / s2 + a / (1 - a)) : 0;
}

static void test_memorise(void)
{
    enum { STEPS = 300, SENTENCES = 4, LENGTH = 6 };
    static const Setup s = {
        {16, LENGTH, LENGTH, 8, 32, 1, 2, 64, 8, 40, 0, 0, 0, 0, 0, 0, 0}, 32, {0, 0, 0, 0}, 0, 0};
    static const int batch[SENTENCES][LENGTH] = {
        /* [CLS] ... [SEP] [PAD]; they share words and differ in length */
        {1, 5, 6, 7, 2, 3},
        {1, 8, 6, 9, 10, 2},
        {1, 5, 11, 2, 3, 3},
        {1, 12, 13, 14, 15, 2}};
    World x;
    Optimizer o = {0};
    Error err;
    if (!open_world(&x, &s) && check(!optimizer_init(&o, &x.m, &err), "%s", err.text)) {
        const size_t n = (size_t)x.B * x.N * s.c.emb_dim;
        int *t = take(x.B, sizeof *t), seen[SENTENCES] = {0}, found = 0, kinds = 0;
        unsigned char *decay = take(x.m.num_tensors, 1);
        double first = 0, last = 0, mse = 0, least = 0;
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
            for (int b = 0; b < x.B && step >= STEPS - 10; b++)
                if (t[b] < x.d.T / 2) /* where the words are hardly in doubt */
                    mse += x.terms.mse[b], least += least_mse(&x.d, t[b]);
            adamw_step(&x.m, &o, step, learning_rate(0.01, step, 10, STEPS), 0, decay, 0.99,
                       clip_factor(norm, 1));
        }
        check(first > 1.5 && last < 0.4,
              "the loss went from %g to %g, expected from above 1.5 to below 0.4", first, last);
        check(mse > 0.9 * least,
              "the mean squared error is %g of the least without a leak of the noise or the target",
              mse / least); /* .9: so few examples may have less noise by chance */
        const real *sample = check_loop(&x, (Sampler){0}, normal(n, 1), "the plain loop");
        likeliest_words(&x.m, &x.w, x.ids, sample, x.B, x.N);
        for (int b = 0; b < x.B; b++)
            for (int k = 0; k < SENTENCES; k++)
                if (!memcmp(x.ids + b * LENGTH, batch[k], sizeof batch[k]))
                    found++, kinds += !seen[k]++;
        check(found >= 0.9 * x.B, "only %d of %d samples are sentences of the batch", found, x.B);
        check(kinds > 1, "all samples are the same sentence");
    }
    optimizer_free(&o);
    close_world(&x);
}

/* ---- what the sampling loop can do differently ----------------------------------------------- */

static real one_draw(void *context) /* normal numbers, one after the other */
{
    real pair[2];
    rng_gaussian(pair, 2, (*(uint64_t *)context)++);
    return pair[0];
}

/* Six steps of 600: 0, 120, 240, 359, 479 and 599. */
static void test_loop(void)
{
    static const Setup s = {{9, 4, 4, 5, 6, 1, 3, 7, 4, 600, 0, 0, 1, 0, 0, 0, 0}, 3, {0}, 0, 0};
    World x;
    if (!open_world(&x, &s) && !respace(&x, "6")) {
        const int M = x.B * x.N;
        const size_t n = (size_t)M * s.c.emb_dim;
        const real *x_T = normal(n, 1);
        unsigned char *known = take(M, 1);
        Error err = {""};
        Watch w = {&x, NULL, 0, 0, 0, 0};
        const Sampler plain = {0}, watched = {.noise = watch_noise, .context = &w};
        Sampler sampler = plain;
        check_loop(&x, sampler, x_T,
                   "self-conditioning, where the first step sees no estimate, any other the last");
        sampler.variance = FIXED_LARGE;
        check_loop(&x, sampler, x_T, "the larger variance");

        sampler = plain, sampler.known = known, sampler.known_x = normal(n, 1);
        for (int i = 0; i < M; i++) known[i] = i % 3 != 1;
        check_loop(&x, sampler, x_T,
                   "infilling, where known words have the noise of step t, and the estimate none");

        sampler = plain, sampler.clamp_from = s.c.diffusion_steps;
        check_loop(&x, sampler, x_T,
                   "clamping to the nearest embedding, of embeddings with different norms");
        sampler.clamp_from = 200;
        check_loop(&x, sampler, x_T,
                   "clamping at trained steps below clamp_from, not at respaced ones");

        sampler = watched, sampler.gradient = no_gradient;
        run_loop(&x, &sampler, normal(n, 1)); /* at trained steps 0..2 there is no guidance */
        check(w.asked == 5, "guidance at %d of 6 respaced steps, not 5: it goes by trained steps",
              w.asked);

        w.stop = 3;
        int status = p_sample_loop(&x.m, &x.w, &x.d, &watched, zeros(n), x.B, x.N, &err);
        check(status == -1 && strstr(err.text, "stopped by a signal"),
              "noise that says to stop: p_sample_loop returns %d, message '%s'", status, err.text);
        w.stop = 0;

        for (size_t i = 0; i < x.m.num_params; i++) x.m.params[i] *= (real)(DOUBLE ? 1e300 : 1e30);
        status = p_sample_loop(&x.m, &x.w, &x.d, &watched, normal(n, 1), x.B, x.N, &err);
        check(status == -1 && strstr(err.text, "step 599 of 600") && strstr(err.text, "not finite"),
              "overflow at trained step 599 of 600: p_sample_loop returns %d, message '%s'", status,
              err.text);
    }
    close_world(&x);
}

/* sampler: with eta 1 and ahead. Varied steps have at most eta 1, and are not ahead; of T steps
 * with vary .5 they are those from t = T/2 on. */
static void check_varied_steps(World *x, Sampler sampler, const real *x_T)
{
    const size_t n = (size_t)x->B * x->N * x->m.config.emb_dim;
    const int T = x->d.T;
    real *y = zeros(n), *z = zeros(n);
    Sampler varied = sampler, plain = sampler;
    varied.vary = 1, varied.eta = 3, plain.ahead = 0;
    memcpy(y, x_T, n * sizeof *y), memcpy(z, x_T, n * sizeof *z);
    run_loop(x, &varied, y);
    run_loop(x, &plain, z);
    check(!memcmp(y, z, n * sizeof *y), "varied steps have more noise than DDPM, or are ahead");
    varied.eta = plain.eta = 0;
    memcpy(y, x_T, n * sizeof *y), memcpy(z, x_T, n * sizeof *z);
    run_loop(x, &varied, y);
    run_loop(x, &plain, z);
    check(!memcmp(y, z, n * sizeof *y), "varied steps of DDIM are ahead");
    plain.eta = 1;
    memcpy(z, x_T, n * sizeof *z);
    run_loop(x, &plain, z);
    check(memcmp(y, z, n * sizeof *y), "varied steps of DDIM have noise");

    for (int start = T / 2; start <= T / 2 + 1; start++) {
        varied = plain = sampler, varied.vary = 0.5, varied.start = plain.start = start;
        varied.eta = plain.eta = 3;
        memcpy(y, x_T, n * sizeof *y), memcpy(z, x_T, n * sizeof *z);
        run_loop(x, &varied, y);
        run_loop(x, &plain, z);
        check(!memcmp(y, z, n * sizeof *y) == (start == T / 2),
              "with vary .5 the steps from t = T/2 - 1 on are varied, or that of T/2 is not");
    }
}

static void test_sampler(void)
{
    static const Setup s = {
        {9, 4, 4, 5, 6, 1, 3, 7, 4, 12, 0, PREDICT_SOFTMAX, 1, 2, 0, 0, 0}, 3, {0, 0, 0, 0}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        const int M = x.B * x.N, D = s.c.emb_dim;
        const size_t n = (size_t)M * D, each = n / x.B;
        real *x_T = normal(n, 1), *y = zeros(n), *z = zeros(n), *noise = normal(n, 1),
             *other = normal(n, 1);
        unsigned char *known = take(M, 1);
        int bad = 0;
        embedding_table_forward(&x.m);
        Watch w = {&x, zeros(n * x.d.T), 0, 0, 0, 0};
        Sampler sampler = {.noise = watch_noise, .show = watch, .context = &w};
        memcpy(y, x_T, n * sizeof *y);
        run_loop(&x, &sampler, y);
        check(w.steps == x.d.T && w.outside > 1, "%d steps of %d, estimates up to %g", w.steps,
              x.d.T, w.outside);

        sampler.clip_denoised = 1, w.outside = 0;
        memcpy(z, x_T, n * sizeof *z);
        run_loop(&x, &sampler, z);
        check(w.outside <= 1 && memcmp(y, z, n * sizeof *y), "clipped estimates reach %g",
              w.outside);
        sampler.clip_denoised = 0, sampler.clamp_from = 1, w.steps = 0, sampler.start = 5;
        memcpy(z, x_T, n * sizeof *z);
        run_loop(&x, &sampler, z);
        check(w.steps == 5, "%d steps from start 5", w.steps);
        for (int i = 0; i < M; i++) /* the last estimate is some word's embedding */
            bad += !!memcmp(w.estimate + i * D, nearest_embedding(&x.m, w.estimate + i * D),
                            D * sizeof *y);
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

        for (int step = 0; step < x.d.T;
             step++) { /* DDIM: eta 1 is DDPM, eta 0 does not look at the noise */
            int t[3] = {step, step, step};
            p_sample(y, other, x_T, noise, t, &x.d, FIXED_SMALL, x.B, each);
            ddim_sample(z, other, x_T, noise, t, &x.d, 1, x.B, each);
            near_all(z, y, n, DOUBLE ? 1e-9 : 1e-3, "DDIM with eta 1 and DDPM");
            ddim_sample(y, other, x_T, noise, t, &x.d, 0, x.B, each);
            ddim_sample(z, other, x_T, x_T, t, &x.d, 0, x.B, each);
            near_all(z, y, n, 0, "DDIM with eta 0 and other noise");
            real prev = (real)x.d.alphas_cumprod_prev[step]; /* as much new noise as x_prev can have
                                                                is q_sample of the guess */
            for (size_t i = 0; i < n; i++)
                y[i] = sqrt(prev) * other[i] + (step ? sqrt(1 - prev) * noise[i] : 0);
            ddim_sample(z, other, x_T, noise, t, &x.d, 1000, x.B, each);
            near_all(z, y, n, DOUBLE ? 1e-7 : 1e-3,
                     "DDIM with all noise new"); /* of a difference near 0 the root is taken */
        }
        sampler.known = NULL, sampler.ddim = 1;
        memcpy(y, x_T, n * sizeof *y), memcpy(z, x_T, n * sizeof *z);
        run_loop(&x, &sampler, y);
        sampler.eta = 1;
        run_loop(&x, &sampler, z);
        check(memcmp(y, z, n * sizeof *y), "the loop ignores eta");
        sampler.ahead = 1;
        memcpy(y, x_T, n * sizeof *y);
        run_loop(&x, &sampler, y);
        check(memcmp(y, z, n * sizeof *y), "the loop ignores ahead");
        check_second_order(&x, x_T);
        check_ahead_of_sections(&x);
        check_t_min(&x);
        check_varied_steps(&x, sampler, x_T);

        enum { MANY = 20000 };
        uint64_t key = new_key();
        real *many = normal(MANY, 1);
        double square = 0, most = 0;
        truncate_noise(many, MANY, 0.9, one_draw, &key);
        for (int i = 0; i < MANY; i++)
            square += many[i] * many[i] / MANY, most = fmax(most, fabs(many[i]));
        check(most <= 0.9 && most > 0.89, "truncated noise reaches %g", most);
        near(square, 0.2408, 0.01,
             "variance of normal numbers within 0.9"); /* 1 - 2 a phi(a) / (2 Phi(a) - 1) */

        /* epsilon and x_start are two names of one thing */
        int t[3] = {0, 5, 11};
        epsilon_from_xstart(y, x_T, other, t, &x.d, x.B, each);
        q_sample(z, other, y, t, &x.d, x.B, each);
        near_all(z, x_T, n, DOUBLE ? 1e-9 : 1e-3,
                 "q_sample with the noise that epsilon_from_xstart finds");
        xstart_from_epsilon(z, x_T, y, t, &x.d, x.B, each);
        near_all(z, other, n, DOUBLE ? 1e-8 : 1e-2, "xstart_from_epsilon of epsilon_from_xstart");
    }
    close_world(&x);
}

/* README's example: two words, embeddings +1 and -1 in one dimension, each half of the time. Then
 * the best guess of the word's point is tanh(sqrt(a) x_t / (1 - a a0)), with a = alphas_cumprod[t],
 * a0 that of t = 0. A network that is trained on nothing but the words must find that curve. */
static void test_two_words(void)
{
    enum { STEPS = 3000, BATCH = 64 };
    static const Setup s = {
        {2, 1, 1, 1, 32, 1, 1, 32, 16, 2000, 0, PREDICT_SOFTMAX, 0, 1, 0, 0, 0}, BATCH, {0}, 0, 0};
    World x;
    Optimizer o = {0};
    Error err;
    if (!open_world(&x, &s) && check(!optimizer_init(&o, &x.m, &err), "%s", err.text)) {
        int *t = take(BATCH, sizeof *t);
        unsigned char *decay = take(x.m.num_tensors, 1);
        double worst = 0;
        x.d.evidence_above = HUGE_VAL, x.t = t;
        model_random(&x.m, 1);
        x.m.word_embedding->data[0] = 1, x.m.word_embedding->data[1] = -1;
        for (int b = 0; b < BATCH; b++) x.ids[b] = b % 2;
        for (int step = 0; step < STEPS; step++) {
            rng_gaussian(x.noise_x0, BATCH, rng_key(8, RNG_NOISE_X0, step, 0));
            rng_gaussian(x.noise_t, BATCH, rng_key(8, RNG_NOISE_T, step, 0));
            for (int b = 0; b < BATCH; b++) t[b] = rng_below(rng_key(8, RNG_T, step, b), 0, x.d.T);
            run_loss(&x, 1);
            adamw_step(&x.m, &o, step, learning_rate(0.005, step, 20, STEPS), 0, decay,
                       ema_warmup(0.99, step), clip_factor(gradient_norm(&x.m, &o), 1));
        }
        memcpy(x.m.params, o.ema, x.m.num_params * sizeof *o.ema);
        embedding_table_forward(&x.m);
        for (int k = 0; k < 4; k++)
            for (int i = -4; i <= 4; i++) {
                static const int at[] = {200, 600, 1000, 1600};
                const double a = x.d.alphas_cumprod[at[k]], a0 = x.d.first_alpha, point = i / 2.0;
                const double want = tanh(sqrt(a) * point / (1 - a * a0));
                real out, in = (real)point, timestep = diffusion_timestep(&x.d, at[k]), logit[2];
                denoiser_forward(&x.m, &x.w, &out, &in, NULL, &timestep, 1, 1, x.drop);
                lm_head_forward(&x.m, logit, &out, 1);
                const double guess = tanh((logit[0] - logit[1]) / 2); /* p(+1) - p(-1) */
                worst = fmax(worst, fabs(guess - want));
            }
        check(worst < 0.08, "two words: the guess is up to %g off the curve", worst);
    }
    optimizer_free(&o);
    close_world(&x);
}

/* ---- the classifier and guidance ------------------------------------------------------------- */

typedef struct {
    World denoiser,
        classifier; /* the classifier's ids are labels, its t and noise those of the examples */
    real *x_t, *dx_t, *timesteps;
    int *guess, asked;
    double *nll, last[4];
} Control;

static int open_control(Control *x, const Setup *denoiser, const Setup *classifier)
{
    memset(x, 0, sizeof *x);
    if (open_world(&x->denoiser, denoiser) || open_world(&x->classifier, classifier)) return -1;
    embedding_table_forward(&x->denoiser.m);
    const size_t n = (size_t)x->classifier.B * x->classifier.N * classifier->c.emb_dim;
    x->x_t = normal(n, 1), x->dx_t = zeros(n), x->timesteps = zeros(x->classifier.B);
    x->nll = take(x->classifier.B, sizeof *x->nll),
    x->guess = take(x->classifier.B, sizeof *x->guess);
    for (int b = 0; b < x->classifier.B; b++) x->timesteps[b] = 100 * (real)(b + 1);
    return 0;
}

static double run_classifier(Control *x, int backward)
{
    World *d = &x->denoiser, *c = &x->classifier;
    const Batch batch = {d->ids, d->t, d->noise_x0, d->noise_t, NULL, 0, d->B, d->N};
    return classifier_losses(&c->m, &c->w, x->nll, x->guess, &d->m, &d->d, &batch, c->ids, backward,
                             c->drop);
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
    {{{9, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, 0, 0, 0, 0, 0, 0}, 3, {7, 0, 2, 0}, 0, 0},
     {{7, 4, 4, 5, 6, 2, 2, 7, 4, 8, 5, 0, 0, 0, 0, 0, 0}, 3, {0}, 0, 0}},
    {{{9, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, PREDICT_SOFTMAX, 1, 2, 0, 0, 0}, 3, {7, 0, 2, 0}, 0, 0},
     {{8, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, 0, 1, 0, 0, 0, 0}, 3, {0}, 0.2, 0}},
};

static void test_classifier(void)
{
    for (int k = 0; k < 2; k++) {
        Control x;
        World *c = &x.classifier;
        if (!open_control(&x, &control_setups[k][0], &control_setups[k][1])) {
            const size_t n = (size_t)c->B * c->N * c->m.config.emb_dim;
            near(run_classifier(&x, 1), classifier_loss(&x), 0,
                 "the classifier's loss without and with backward");
            for (int i = 0; i < c->m.num_tensors; i++) {
                const Tensor *t = &c->m.tensors[i];
                const Slot weights = {t->name, t->data, t->grad, t->size, 1};
                check_gradient("classifier", &weights, strstr(t->name, "key.bias") != NULL,
                               classifier_loss, &x);
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

/* A batch that the workspace takes in pieces has the gradient, and the losses, of the whole. */
static void test_classifier_pieces(void)
{
    static const Setup denoiser = {
        {9, 4, 4, 5, 6, 1, 3, 7, 4, 8, 5, 0, 0, 0, 0, 0, 0}, 3, {3, 3, 3}, 0, 0};
    static const Setup classifier = {
        {7, 4, 4, 5, 6, 2, 2, 7, 4, 8, 5, 0, 0, 0, 0, 0, 0}, 3, {0}, 0, 0};
    const double tolerance = DOUBLE ? 1e-12 : 2e-5;
    Control x;
    World *c = &x.classifier;
    if (!open_control(&x, &denoiser, &classifier)) {
        const size_t size = c->m.num_params;
        real *grads = zeros(size);
        double whole[3], mean = run_classifier(&x, 1);
        memcpy(whole, x.nll, sizeof whole);
        memcpy(grads, c->m.grads, size * sizeof *grads);
        memset(c->m.grads, 0, size * sizeof *grads);
        if (!shrink_workspace(c, 2)) { /* a piece of 2 and a rest of 1 */
            near(run_classifier(&x, 1), mean, tolerance * mean,
                 "the classifier's mean loss in pieces");
            for (int b = 0; b < 3; b++)
                near(x.nll[b], whole[b], tolerance * whole[b], "the classifier's loss in pieces");
            near_all(c->m.grads, grads, size, tolerance, "the classifier's gradient in pieces");
        }
        c->drop.rate = 0.5;
        repeat_example(&x.denoiser);
        for (int b = 0; b < 3; b++) c->ids[b] = 0;
        if (!shrink_workspace(c, 1)) {
            run_classifier(&x, 0);
            check(x.nll[0] != x.nll[1] && x.nll[1] != x.nll[2],
                  "two pieces of the classifier with the same dropout mask");
        }
    }
    close_world(&x.denoiser);
    close_world(c);
}

/* The gradient of log p(label | x), whose value is kept. */
static void uphill(void *control, real *dx, const real *x, int t)
{
    Control *y = control;
    World *c = &y->classifier;
    real weight[4];
    for (int b = 0; b < c->B; b++)
        weight[b] = -1, y->timesteps[b] = diffusion_timestep(&y->denoiser.d, t);
    classifier_forward(&c->m, &c->w, y->nll, x, y->timesteps, c->ids, c->B, c->N, c->drop);
    memcpy(y->last, y->nll, c->B * sizeof *y->last);
    y->asked++;
    classifier_backward(&c->m, &c->w, dx, c->ids, weight, c->B, c->N, c->drop);
}

/* log p(label | x) must rise where guide moves x; one step in a hundred may lead over a summit. */
static void test_rising(void)
{
    static const Setup denoiser = {
        {9, 4, 4, 5, 6, 1, 3, 7, 4, 400, 0, PREDICT_SOFTMAX, 0, 2, 0, 0, 0}, 3, {0}, 0, 0};
    static const Setup classifier = {
        {7, 4, 4, 5, 6, 1, 3, 7, 4, 400, 0, 0, 0, 0, 0, 0, 0}, 3, {0}, 0, 0};
    Control x;
    if (!open_control(&x, &denoiser, &classifier)) {
        World *c = &x.classifier;
        const Sampler sampler = {.gradient = uphill, .context = &x};
        const size_t n = (size_t)c->B * c->N * classifier.c.emb_dim;
        int falls = 0;
        double rise = 0;
        for (int t = 1; t < 400; t++) {
            rng_gaussian(x.x_t, n, new_key());
            guide(&sampler, &x.denoiser.w, &x.denoiser.d, x.x_t, t, n);
            classifier_forward(&c->m, &c->w, x.nll, x.x_t, x.timesteps, c->ids, c->B, c->N,
                               c->drop);
            for (int b = 0; b < c->B; b++) {
                falls += x.nll[b] > x.last[b] + 1e-6;
                rise += x.last[b] - x.nll[b];
            }
        }
        check(x.asked == 399, "the gradient was asked for %d times", x.asked);
        check(100 * falls < 1197 && rise > 0.1,
              "log p fell %d times of 1197, and rose by %g in all", falls, rise);
    }
    close_world(&x.denoiser);
    close_world(&x.classifier);
}

/* Data whose guided distribution is known: x_start ~ N(0, s^2), p(label | x_start) = Phi(a x_start
 * + b), Phi the normal distribution's. Then x_start given x_t is Gaussian, (mean k x_t, variance
 * v), p(label | x_t) = Phi(u) with u = (a k x_t + b) / sqrt(1 + a^2 v), and mean and variance of
 * x_start given the label are those of a skew normal. */
typedef struct {
    const Diffusion *d;
    double s2, a, b;
} Known;

static double hazard(double u)
{
    return exp(-u * u / 2) / sqrt(2 * 3.14159265358979324) / (0.5 * erfc(-u / sqrt(2)));
} /* of Phi */

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
    for (int i = 0; i < KNOWN; i++)
        dx[i] = (real)(k->a * slope / scale * hazard((k->a * slope * x[i] + k->b) / scale));
}

static void test_known_guidance(void)
{
    static const double cases[][3] = {{1, 1, 0}, {1, 2, -1.5}, {0.25, -3, -1}}; /* s^2, a, b */
    Error err;
    Diffusion d;
    Workspace w = {0};
    real *x = zeros(KNOWN), *pred = zeros(KNOWN), *noise = zeros(KNOWN);
    double variance;
    w.x_start = zeros(KNOWN);
    check(!diffusion_init(&d, 0, 2000, NULL, &err), "%s", err.text);
    for (int i = 0; i < 3; i++) {
        Known k = {&d, cases[i][0], cases[i][1], cases[i][2]};
        const Sampler s = {.gradient = known_gradient, .variance = FIXED_LARGE, .context = &k};
        double slope, m[4];
        rng_gaussian(x, KNOWN, new_key());
        for (int t = d.T - 1; t >= 0; t--) {
            known_posterior(&k, t, &slope, &variance);
            for (int j = 0; j < KNOWN; j++) pred[j] = (real)slope * x[j];
            rng_gaussian(noise, KNOWN, new_key());
            p_sample(x, pred, x, noise, &t, &d, FIXED_LARGE, 1, KNOWN);
            if (t > 0) guide(&s, &w, &d, x, t, KNOWN);
        }
        const double root = sqrt(1 + k.a * k.a * k.s2), u = k.b / root, h = hazard(u);
        const double want = k.s2 * k.a * h / root;
        const double want_variance = k.s2 - k.s2 * k.s2 * k.a * k.a / root / root * h * (h + u);
        moments(x, KNOWN, m);
        near(m[0], want, 0.08 * sqrt(k.s2), "the guided mean"); /* 2000 steps leave up to .06 */
        near(m[1], want_variance, 0.08 * want_variance, "the guided variance");
    }
    diffusion_free(&d);
}

/* ---- noise, evidence and the bound ----------------------------------------------------------- */

/* x_start has noise_x0, x_t has noise_t, and backward leaves both: of steps that are respaced, and
 * begin behind the first. */
static void test_noisy_examples(void)
{
    static const Setup s = {{9, 4, 4, 5, 6, 1, 3, 7, 4, 9, 0, 0, 0, 0, 0, 0, 0}, 2, {0, 1}, 0, 0};
    World x;
    if (!open_world(&x, &s) && !respace(&x, "0,1,1")) {
        const int D = s.c.emb_dim;
        const size_t each = (size_t)x.N * D, n = x.B * each;
        real *x_start = zeros(n), *x_t = zeros(n);
        run_loss(&x, 1);
        for (size_t i = 0; i < n; i++) {
            const double a = x.d.alphas_cumprod[s.t[i / each]];
            const double start =
                x.m.embedding[x.ids[i / D] * D + i % D] + sqrt(1 - x.d.first_alpha) * x.noise_x0[i];
            x_start[i] = (real)start, x_t[i] = (real)(sqrt(a) * start + sqrt(1 - a) * x.noise_t[i]);
        }
        near_all(x.w.x_start, x_start, n, 1e-6, "x_start and the embedding with noise_x0");
        near_all(x.w.x_t, x_t, n, 1e-6, "x_t and x_start with noise_t");
    }
    close_world(&x);
}

/* With the softmax head, x_t's own evidence beyond the limit, and no more of it, is added to what
 * the network says. */
static void test_evidence(void)
{
    static const double limits[] = {0, 0.8};
    static const Setup s = {
        {9, 4, 4, 5, 6, 1, 3, 7, 4, 12, 0, PREDICT_SOFTMAX, 0, 2, 0, 0, 0}, 4, {0, 2, 6, 11}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        const size_t each = (size_t)x.N * s.c.emb_dim;
        silence(&x);
        for (int k = 0; k < 2; k++) {
            x.d.evidence_above = limits[k];
            run_loss(&x, 0);
            for (int b = 0; b < x.B; b++) {
                const double a = x.d.alphas_cumprod[s.t[b]],
                             all = sqrt(a) / (1 - a * x.d.first_alpha);
                double along = 0, square = 0;
                for (size_t i = b * each; i < (b + 1) * each; i++)
                    along += x.w.model_out[i] * x.w.x_t[i], square += pow(x.w.x_t[i], 2);
                check(fabs(along / square - fmax(all - limits[k], 0)) < 1e-5,
                      "the evidence of x_t at t = %d counts %g, expected what %g has above %g",
                      s.t[b], along / square, all, limits[k]);
            }
        }
    }
    close_world(&x);
}

/* A word whose probability softmax makes 0 costs what its logit says: 60, not the logarithm of the
 * smallest number. */
static void test_improbable_word(void)
{
    static const Setup s = {
        {2, 3, 3, 2, 4, 1, 2, 5, 3, 6, 0, PREDICT_SOFTMAX, 0, 1, 0, 0, 0}, 1, {2}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        silence(&x);
        x.d.evidence_above = HUGE_VAL;
        x.m.lm_head_bias->data[0] = 60, x.m.lm_head_bias->data[1] = 0;
        for (int i = 0; i < x.N; i++) x.ids[i] = 1;
        run_loss(&x, 0);
        near(x.terms.head_nll[0], 60, 1e-4, "head_nll of a word whose logit is 60 below");
    }
    close_world(&x);
}

typedef struct {
    double mean, variance;
} Gauss; /* of one number */

static double kl_of(Gauss q, Gauss p)
{
    const double ratio = q.variance / p.variance;
    return (ratio - 1 - log(ratio) + pow(q.mean - p.mean, 2) / p.variance) / 2;
}

/* x_{t-1} given x_t and a guess of what it comes from: x_{t-1} has mean sqrt(prev) guess and
 * variance 1 - prev of_guess, x_t given x_{t-1} is N(sqrt(alpha) x_{t-1}, 1 - alpha); in their
 * product precisions add up. */
static Gauss step_back(const Diffusion *d, int t, double of_guess, double guess, double x_t)
{
    const double prev = t ? d->alphas_cumprod[t - 1] : 1, alpha = d->alphas_cumprod[t] / prev;
    const double left = 1 - prev * of_guess, variance = 1 / (1 / left + alpha / (1 - alpha));
    const double mean = variance * (sqrt(prev) / left * guess + sqrt(alpha) / (1 - alpha) * x_t);
    return (Gauss){mean, variance};
}

/* The kl and the prior of example b, from their definitions. The softmax head guesses words, any
 * other x_start. */
static void expected_bound(const World *x, int b, Variance kind, double *kl, double *prior)
{
    const Diffusion *d = &x->d;
    const int D = x->m.config.emb_dim, marginal = x->m.config.predict == PREDICT_SOFTMAX,
              t = x->t[b];
    const size_t n = (size_t)x->N * D;
    const double of_guess = marginal ? d->first_alpha : 1, last = d->alphas_cumprod[d->T - 1];
    *kl = *prior = 0;
    for (size_t i = b * n; i < (b + 1) * n; i++) {
        const double e = x->m.embedding[x->ids[i / D] * D + i % D], x_t = x->w.x_t[i];
        const double truth = marginal ? e : x->w.x_start[i], pred = x->w.pred_xstart[i];
        Gauss q = {e, 1 - d->first_alpha}, p = {pred, d->posterior_variance[1]};
        if (t || marginal) { /* else: x_start given the words, and the variance of t = 1 */
            q = step_back(d, t, of_guess, truth, x_t);
            p = step_back(d, t, of_guess, pred, x_t);
        }
        if (t && !marginal && kind == FIXED_LARGE) p.variance = d->betas[t];
        *kl += kl_of(q, p);
        *prior += kl_of((Gauss){sqrt(last) * truth, 1 - last * of_guess}, (Gauss){0, 1});
    }
}

static void run_bound(World *x, double *kl, double *prior, Variance kind)
{
    const Batch batch = world_batch(x);
    variational_bound(&x->m, &x->w, &x->terms, kl, prior, &x->d, &batch, kind, 0);
}

/* Of a model that has learnt nothing, so that a wrong weight of its mistakes shows at every t. */
static void test_bound_terms(void)
{
    for (int predict = PREDICT_XSTART; predict <= PREDICT_SOFTMAX; predict++)
        for (int kind = FIXED_SMALL; kind <= FIXED_LARGE; kind++) {
            const Setup s = {
                {9, 4, 4, 5, 6, 1, 3, 7, 4, 12, 0, predict, 0, 2, 0, 0, 0}, 4, {0, 1, 6, 11}, 0, 0};
            World x;
            if (!open_world(&x, &s)) {
                double kl[4], prior[4], want, want_prior;
                run_bound(&x, kl, prior, (Variance)kind);
                for (int b = 0; b < 4; b++) {
                    expected_bound(&x, b, (Variance)kind, &want, &want_prior);
                    check(fabs(kl[b] - want) <= (DOUBLE ? 1e-9 : 1e-4) * want,
                          "the bound's kl at t = %d of %s, variance %d, is %g, expected %g", s.t[b],
                          predict == PREDICT_SOFTMAX ? "words" : "x_start", kind, kl[b], want);
                    near(prior[b], want_prior, (DOUBLE ? 1e-9 : 1e-4) * (1 + want_prior),
                         "what x_T still tells");
                }
            }
            close_world(&x);
        }
}

/* Words of known probabilities, each sentence one of them: then Bayes' rule is all there is to
 * learn, and with an output of 0 and log p as bias of lm_head, the softmax head has learnt it. So
 * the bound must be the words' entropy; the steps cost a little, since they are finite. And each kl
 * is that of two Gaussians, computed here from their definition. */
static void test_bound(void)
{
    enum { V = 4, DRAWS = 10000 }; /* enough that whatever noise is drawn, the mean is within 2 % */
    static const double p[V] = {0.5, 0.25, 0.15, 0.1};
    static const Setup s = {{V, 1, 1, 16, 6, 1, 3, 7, 4, 400, 0, PREDICT_SOFTMAX, 0, 4, 0, 0, 0},
                            V,
                            {0, 0, 0, 0},
                            0,
                            0};
    World x;
    if (!open_world(&x, &s)) {
        const int D = s.c.emb_dim, T = x.d.T;
        const size_t n = V * (size_t)D;
        double kl[V], prior[V], entropy = 0, bound = 0, mistake = 0, astray = 0;
        int t[V];
        x.d.evidence_above = 0, x.t = t;
        silence(&x);
        for (int v = 0; v < V; v++) {
            x.ids[v] = v, entropy -= p[v] * log(p[v]);
            x.m.lm_head_bias->data[v] = (real)log(p[v]);
            for (int d = 0; d < D; d++)
                x.m.word_embedding->data[v * D + d] = d % V == v ? 1 : -(real)0.3;
        }
        for (int i = 0; i < DRAWS; i++) {
            for (int v = 0; v < V; v++) t[v] = (int)((i + 0.5) / DRAWS * T);
            randomise(x.noise_x0, n, 1), randomise(x.noise_t, n, 1);
            run_bound(&x, kl, prior, FIXED_SMALL);
            for (int v = 0; v < V; v++) {
                const double a = x.d.alphas_cumprod[t[v]], a0 = x.d.first_alpha;
                double posterior[V], sum = 0, want, want_prior;
                expected_bound(&x, v, FIXED_SMALL, &want, &want_prior);
                mistake = fmax(mistake, fabs(kl[v] - want) / (1e-3 + kl[v]));
                for (int k = 0; k < V; k++) { /* p(word k) times the density of x_t, given word k */
                    double d2 = 0;
                    for (int d = 0; d < D; d++)
                        d2 += pow(x.w.x_t[v * D + d] - sqrt(a) * x.m.embedding[k * D + d], 2) -
                              pow(x.w.x_t[v * D + d] - sqrt(a) * x.m.embedding[v * D + d], 2);
                    sum += posterior[k] = p[k] * exp(-d2 / (2 * (1 - a * a0)));
                }
                for (int k = 0; k < V; k++)
                    astray = fmax(astray, fabs(x.w.head[v * V + k] - posterior[k] / sum));
                bound += p[v] * (kl[v] * T + prior[v] + x.terms.decoder_nll[v]) / DRAWS;
            }
        }
        near(astray, 0, DOUBLE ? 1e-9 : 1e-3, "the softmax head and Bayes' rule");
        near(mistake, 0, DOUBLE ? 1e-9 : 1e-3, "kl and the one of two Gaussians");
        near(bound, entropy, 0.05 * entropy, "the bound of an exact model and the entropy");
    }
    close_world(&x);
}

/* ---- what else belongs to training ----------------------------------------------------------- */

/* A classifier belongs to a denoiser while its embeddings and its noise are the same. */
static void test_fingerprint(void)
{
    static const Setup s = {{9, 4, 5, 5, 6, 1, 3, 7, 4, 8, 5, 0, 0, 0, 0, 0, 0}, 1, {0}, 0, 0};
    World x;
    if (!open_world(&x, &s)) {
        Config *c = &x.m.config;
        const struct {
            const char *name;
            int *value;
        } told[] = {{"the noise schedule", &c->noise_schedule},
                    {"diffusion_steps", &c->diffusion_steps},
                    {"max_positions", &c->max_positions}};
        char before[20], after[20];
        denoiser_fingerprint(&x.m, before);
        for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
            --*told[i].value;
            denoiser_fingerprint(&x.m, after);
            check(strcmp(before, after), "the denoiser's fingerprint ignores %s", told[i].name);
            ++*told[i].value;
        }
        for (int i = 0; i < x.m.num_tensors; i++) {
            const Tensor *t = &x.m.tensors[i];
            const int counts = t == x.m.word_embedding;
            const real last = t->data[t->size - 1];
            t->data[t->size - 1] += 1;
            denoiser_fingerprint(&x.m, after);
            t->data[t->size - 1] = last;
            check((strcmp(before, after) != 0) == counts, "the denoiser's fingerprint %s %s",
                  counts ? "ignores" : "depends on", t->name);
        }
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
    for (int i = 0; i < T; i++)
        near(r.p[i], 0.999 * (i + 1) / 15 + 0.001 / T, 1e-9, "p in proportion to the losses");
    for (int i = 0; i < MANY; i++) {
        int drawn = resampler_draw(&r, (i + 0.5) / MANY);
        count[drawn]++,
            expected += 1 / (T * r.p[drawn]) * (drawn + 1) / MANY; /* weighted, the mean of all t */
    }
    for (int i = 0; i < T; i++) near(count[i], MANY * r.p[i], 2, "draws of a t");
    near(expected, 3, 0.01, "the weighted mean");
    check(resampler_draw(&r, 0) == 0 && resampler_draw(&r, 0.9999999999) == T - 1,
          "the ends of the range");
    check(!resampler_restore(&r, &err), "a good history is refused");
    r.history[1 + K] = 2.5;
    check(resampler_restore(&r, &err), "a count of 2.5 is taken");
    r.history[1 + K] = K + 1;
    check(resampler_restore(&r, &err), "more losses than there is room for are taken");
    resampler_free(&r);
}

/* ---- main ------------------------------------------------------------------------------------ */

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
    static const int many[] = {10001, 20000, 100000}; /* for sqrt, whose formula ends below 0 */
    for (int schedule = 0; noise_schedule_names[schedule]; schedule++)
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) test_schedule(schedule, steps[i]);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) test_schedule(0, many[i]);
    Diffusion d;
    Error err = {""};
    check(diffusion_init(&d, 2, 20, NULL, &err) == -1 && strstr(err.text, "linear") &&
              strstr(err.text, "nothing is left"),
          "linear, 20 steps, whose last beta is 1: message '%s', expected that nothing is left",
          err.text);
    diffusion_free(&d);
}

int main(void)
{
    char name[100];
    for (size_t i = 0; DOUBLE && i < sizeof layers / sizeof *layers; i++) {
        snprintf(name, sizeof name, "gradients of %s", layers[i].name);
        begin(name);
        for (int k = 0; k < 8 && layers[i].shapes[k][0]; k++)
            test_layer((int)i, layers[i].shapes[k]);
        end();
    }
    if (DOUBLE) run_setups("five routes to the embedding", test_routes);
    if (DOUBLE) run_setups("gradients of the whole loss", test_whole_loss);
    run("neighbours", test_neighbours);
    if (DOUBLE) run("self-conditioning", test_self_conditioning);
    if (DOUBLE) run("gradients of the classifier", test_classifier);
    run_setups("backward twice", test_twice);
    run("matmul", test_matmuls);
    run("no denormal gradients", test_denormals);
    run("one example, one result", test_determinism);
    run("a batch in pieces", test_pieces);
    run("the classifier's batch in pieces", test_classifier_pieces);
    run("noise of the examples", test_noisy_examples);
    if (!DOUBLE) run("elementary functions", test_functions);
    run("random numbers", test_random);
    if (!DOUBLE) run("many random numbers", test_many_random);
    run("orders", test_shuffle);
    run("the largest table", test_largest_table);
    run("epochs", test_epochs);
    run("how many threads", test_pace);
    run("lengths", test_lengths);
    run("noise schedules", test_schedules);
    run("respacing", test_respacing);
    run("diffusion process", test_process);
    run("dropout", test_dropout);
    run("sites of dropout", test_dropout_sites);
    run("initial weights", test_initial_weights);
    run("optimiser", test_optimizer);
    if (!DOUBLE) run("moving average", test_ema);
    run("memorising a batch", test_memorise);
    run("two words in one dimension", test_two_words);
    run("the sampling loop written out", test_loop);
    run("options of the sampling loop", test_sampler);
    run("guidance uphill", test_rising);
    run("guidance where its result is known", test_known_guidance);
    run("evidence of x_t", test_evidence);
    run("improbable words", test_improbable_word);
    run("the bound's terms", test_bound_terms);
    run("the variational bound", test_bound);
    run("fingerprint of a denoiser", test_fingerprint);
    run("loss-aware sampling of t", test_resampler);
    printf("%d passed, %d failed\n", group.all_passed, group.all_failed);
    return group.all_failed > 0;
}
