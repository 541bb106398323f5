/* The benchmark: make bench, or build/bench PART ... with PART one of
 *
 *   machine            the vectors, the tile and the block that the product was compiled with
 *   matmul             GFLOP/s of the products of training; with BLAS=-lopenblas beside OpenBLAS
 *   elements           nanoseconds per element of what is not a product
 *   text               seconds to make tokenizers of 10 MB of text, and MB/s of encoding it
 *   step SIZE THREADS  one training and one sampling step; SIZE: everyday, medium, large, or six
 *                      numbers B,N,C,L,H,V; prints "SIZE THREADS train_ms sample_ms peak_MB
 *                      GFLOP_of_training GFLOP_of_sampling"
 *   parts SIZE         where the time of these goes, on one thread
 *   ranks SIZE         with MPI=1, under mpirun: how much of a step is communication
 *
 * Every figure is the median of repetitions that take turns with what it is compared with; +- is
 * half the distance of the quartiles. Nothing here is a test: machines are noisy. */
#define _XOPEN_SOURCE 600
#include "../tdiff.c"

#include <sys/resource.h>
#include <time.h>

#ifdef BLAS
void cblas_sgemm(int order, int ta, int tb, int M, int N, int K, float alpha, const float *a,
                 int lda, const float *b, int ldb, float beta, float *c, int ldc);
void openblas_set_num_threads(int n);
#endif

enum { REPEAT = 9 };
static int repeat = REPEAT; /* fewer where a step takes a quarter of a minute */
static volatile real sink;

static int by_value(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

typedef struct {
    double median, spread;
} Figure;
static Figure figure(double *x, int n)
{
    qsort(x, n, sizeof *x, by_value);
    Figure f = {n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2,
                (x[n - 1 - n / 4] - x[n / 4]) / 2};
    return f;
}

static void *need(size_t count)
{
    Error err;
    void *p = checked_alloc(count, sizeof(real), &err);
    if (!p) fprintf(stderr, "bench: %s\n", err.text), exit(1);
    rng_gaussian(p, count, rng_key(1, RNG_NOISE_T, 0, count));
    return p;
}

/* Seconds of one call, from calls that together last long enough for the clock. */
typedef void (*Work)(void *);
static double time_of(Work work, void *context, double at_least)
{
    for (int calls = 1;; calls *= 2) {
        double start = seconds();
        for (int i = 0; i < calls; i++) work(context);
        double took = seconds() - start;
        if (took >= at_least) return took / calls;
    }
}

static Figure measure(Work work, void *context)
{
    double x[REPEAT];
    work(context);
    for (int r = 0; r < repeat; r++) x[r] = time_of(work, context, 0.01);
    return figure(x, repeat);
}

static void bench_machine(void)
{
#if defined(__AVX512F__)
    const int bits = 512;
#elif defined(__AVX__)
    const int bits = 256;
#elif defined(__SSE2__) || defined(__ARM_NEON)
    const int bits = 128;
#else
    const int bits = 0; /* as far as this program knows */
#endif
    const int block = (int)(NC * KC * sizeof(real) >> 10);
    printf("vectors of %d bits, arithmetic class %s; a tile of %d x %d, a block of B of %d KB\n",
           bits, arithmetic_class(), MR, NR, block);
}

/* ---- matmul ---------------------------------------------------------------------------------- */

typedef struct {
    real *a, *b, *c;
    int ta, tb, M, N, K;
} Product;

static void ours(void *context)
{
    const Product *p = context;
    matmul(p->c, ADD, NULL, p->a, p->ta, p->b, p->tb, p->M, p->N, p->K);
}

#ifdef BLAS
static void theirs(void *context)
{
    const Product *p = context;
    cblas_sgemm(101, 111 + p->ta, 111 + p->tb, p->M, p->N, p->K, 1, p->a, p->ta ? p->M : p->K, p->b,
                p->tb ? p->K : p->N, 1, p->c, p->N);
}
#endif

/* With two threads beside our own single one, not beside OpenBLAS: its threads go on spinning after
 * a product, on our cores. */
static void bench_matmul(int threads)
{
    static double alone[64];
    static const int tokens[] = {64, 640, 4096},
                     sizes[][2] = {{128, 128},  {256, 256}, {1024, 256},
                                   {256, 1024}, {768, 768}, {3072, 768}};
    static const char *const layouts[] = {"x W^T", "dy W", "dy^T x"};
    double logs = 0, worst = HUGE_VAL;
    int count = 0, line = 0;
    set_threads(threads);
#ifdef BLAS
    openblas_set_num_threads(1);
#endif
    printf("matmul, %d thread%s: GFLOP/s%s\n", threads, threads > 1 ? "s" : "",
           sizeof(real) == 4 ? "" : " in double");
    for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int layout = 0; layout < 3; layout++) {
                const int m = tokens[t], out = sizes[s][0], in = sizes[s][1];
                Product p = {NULL,
                             NULL,
                             NULL,
                             layout == 2,
                             layout == 0,
                             layout == 2 ? out : m,
                             layout == 0 ? out : in,
                             layout == 0   ? in
                             : layout == 1 ? out
                                           : m};
                double x[REPEAT], y[REPEAT], flop = 2e-9 * p.M * p.N * p.K;
                p.a = need((size_t)p.M * p.K), p.b = need((size_t)p.K * p.N),
                p.c = need((size_t)p.M * p.N);
                ours(&p);
                for (int r = 0; r < REPEAT; r++) {
                    x[r] = flop / time_of(ours, &p, 0.01);
#ifdef BLAS
                    y[r] = threads == 1 ? flop / time_of(theirs, &p, 0.01) : 0;
#else
                    y[r] = 0;
#endif
                }
                Figure own = figure(x, REPEAT), other = figure(y, REPEAT);
                printf("  %4d tokens %4d x %4d  %-7s %7.1f +- %.1f", m, out, in, layouts[layout],
                       own.median, own.spread);
                if (threads == 1)
                    alone[line] = own.median;
                else
                    printf("   %.2f of 1 thread", own.median / alone[line]);
                line++;
                if (other.median > 0) {
                    double ratio = own.median / other.median;
                    printf("   BLAS %7.1f +- %.1f   ratio %.2f", other.median, other.spread, ratio);
                    logs += log(ratio), count++;
                    worst = ratio < worst ? ratio : worst;
                }
                printf("\n");
                free(p.a), free(p.b), free(p.c);
            }
    if (count)
        printf("  ratio to BLAS: geometric mean %.3f, smallest %.2f\n", exp(logs / count), worst);
}

/* ---- element by element ---------------------------------------------------------------------- */

enum { N_ELEMENTS = 16384, ROW = 64, WIDTH = 256 };
typedef struct {
    real *x, *y, *z, *g;
    Model m;
    Optimizer o;
    unsigned char *decay;
} Elements;

static void do_exp(void *v)
{
    Elements *e = v;
    for (int i = 0; i < N_ELEMENTS; i++) e->y[i] = r_exp(e->x[i]);
}
static void do_gelu(void *v)
{
    Elements *e = v;
    gelu_forward(e->y, e->x, N_ELEMENTS);
}
static void do_gelu_backward(void *v)
{
    Elements *e = v;
    gelu_backward(e->z, e->y, e->x, N_ELEMENTS);
}
static void do_copy(void *v)
{
    Elements *e = v;
    memcpy(e->y, e->x, N_ELEMENTS * sizeof *e->y);
    sink = e->y[7];
}
static void do_softmax(void *v)
{
    Elements *e = v;
    do_copy(v); /* in place: without fresh numbers it would work on its own result */
    for (int i = 0; i < N_ELEMENTS; i += ROW) softmax(e->y + i, ROW);
}
static void do_layernorm(void *v)
{
    Elements *e = v;
    layernorm_forward(e->y, e->z, e->g, e->x, e->x, e->x, N_ELEMENTS / WIDTH, WIDTH);
}
static void do_layernorm_backward(void *v)
{
    Elements *e = v;
    layernorm_backward(e->y, e->g, e->g + WIDTH, e->x, e->z, e->g + 2 * WIDTH, e->x,
                       N_ELEMENTS / WIDTH, WIDTH);
}
static void do_adamw(void *v)
{
    Elements *e = v;
    adamw_step(&e->m, &e->o, 100, 1e-3, 0.01, e->decay, 0.999, 1);
}
static void do_gaussian(void *v)
{
    Elements *e = v;
    rng_gaussian(e->y, N_ELEMENTS, 7);
}

static int model_of(Model *m, const Config *c)
{
    Error err;
    if (!model_init(m, c, &err)) return 0;
    fprintf(stderr, "bench: %s\n", err.text);
    exit(1);
}

static void bench_elements(void)
{
    static const Config small = {165, 12, 12, 64, 64, 1, 4, 256, 64, 2000, 0, PREDICT_XSTART,
                                 0,   0,  0,  0,  0};
    static const Config big = {2000,           32, 32, 128, 256, 6, 8, 1024, 128, 2000, 0,
                               PREDICT_XSTART, 0,  0,  0,   0,   0};
    static const struct {
        const char *name;
        Work work;
    } works[] = {{"copying, for comparison", do_copy},
                 {"exp", do_exp},
                 {"GELU", do_gelu},
                 {"GELU's gradient", do_gelu_backward},
                 {"softmax, rows of 64", do_softmax},
                 {"LayerNorm, rows of 256", do_layernorm},
                 {"LayerNorm's gradient", do_layernorm_backward},
                 {"Gaussian noise", do_gaussian}};
    real *all = need(4 * N_ELEMENTS); /* as in a workspace: arrays one behind the other */
    Elements e;
    e.x = all, e.y = all + N_ELEMENTS, e.z = all + 2 * N_ELEMENTS, e.g = all + 3 * N_ELEMENTS;
    Error err;
    set_threads(1);
    printf("element by element, 1 thread: nanoseconds per element\n");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        Figure f = measure(works[i].work, &e);
        printf("  %-28s %6.3f +- %.3f\n", works[i].name, 1e9 * f.median / N_ELEMENTS,
               1e9 * f.spread / N_ELEMENTS);
    }
    for (int k = 0; k < 2; k++) {
        model_of(&e.m, k ? &big : &small);
        e.decay = calloc(e.m.num_tensors, 1);
        if (!e.decay || optimizer_init(&e.o, &e.m, &err)) exit(1);
        Figure f = measure(do_adamw, &e);
        printf("  AdamW and EMA, %4.2f M numbers %5.3f +- %.3f\n", 1e-6 * (double)e.m.num_params,
               1e9 * f.median / (double)e.m.num_params, 1e9 * f.spread / (double)e.m.num_params);
        optimizer_free(&e.o), model_free(&e.m), free(e.decay);
    }
    free(all);
}

/* ---- whole steps ----------------------------------------------------------------------------- */

typedef struct {
    Config c;
    int B, N, M;
    Model m;
    Workspace w;
    Diffusion d, few;
    Optimizer o;
    Losses terms;
    unsigned char *decay;
    int *ids, *t;
    real *noise_x0, *noise_t, *x;
    double *lines;
    int step;
} Bench;

static Config size_of(const char *name, int *B)
{
    static const struct {
        const char *name, *numbers;
    } sizes[] = {{"everyday", "64,12,128,4,4,165"},
                 {"medium", "64,32,256,6,8,2000"},
                 {"large", "64,64,768,12,12,10000"}};
    int N, C, L, H, V;
    const char *text = name;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!strcmp(name, sizes[i].name)) text = sizes[i].numbers;
    if (sscanf(text, "%d,%d,%d,%d,%d,%d", B, &N, &C, &L, &H, &V) != 6 || *B < 1) {
        fprintf(stderr, "bench: '%s' is no size: everyday, medium, large or B,N,C,L,H,V\n", name);
        exit(1);
    }
    Config c = {V, N, N, 128, C, L, H, 4 * C, 128, 2000, 0, PREDICT_XSTART, 0, 0, 0, 0, 0};
    return c;
}

static void open_bench(Bench *b, const char *size)
{
    static const unsigned char first[2000] = {1}; /* a process of one step */
    Error err = {""};
    memset(b, 0, sizeof *b);
    b->c = size_of(size, &b->B);
    b->N = b->c.seq_len, b->M = b->B * b->N;
    model_of(&b->m, &b->c);
    model_random(&b->m, 1);
    if (workspace_init(&b->w, &b->c, piece_of_batch(b->B, b->N), b->N, 1, &err) ||
        diffusion_init(&b->d, 0, 2000, NULL, &err) ||
        diffusion_init(&b->few, 0, 2000, first, &err) || optimizer_init(&b->o, &b->m, &err))
        fprintf(stderr, "bench: %s\n", err.text), exit(1);
    b->decay = calloc(b->m.num_tensors, 1), b->ids = calloc(b->M, sizeof *b->ids),
    b->t = calloc(b->B, sizeof *b->t);
    b->lines = calloc(5 * (size_t)b->B, sizeof *b->lines);
    if (!b->decay || !b->ids || !b->t || !b->lines) exit(1);
    b->noise_x0 = need((size_t)b->M * b->c.emb_dim), b->noise_t = need((size_t)b->M * b->c.emb_dim),
    b->x = need((size_t)b->M * b->c.emb_dim);
    b->terms = (Losses){b->lines, b->lines + b->B, b->lines + 2 * b->B, b->lines + 3 * b->B,
                        b->lines + 4 * b->B};
}

static void data(void *v)
{
    Bench *b = v;
    for (int i = 0; i < b->B; i++) {
        uint64_t key = rng_key(1, RNG_T, b->step, i);
        size_t row = (size_t)rng_below(key, 1, 16384);
        b->t[i] = rng_below(key, 0, 2000);
        for (int n = 0; n < b->N; n++) b->ids[i * b->N + n] = (int)((row * 31 + n) % b->c.vocab);
    }
}

static void noise(void *v)
{
    Bench *b = v;
    const size_t n = (size_t)b->N * b->c.emb_dim;
#pragma omp parallel for
    for (int i = 0; i < b->B; i++) {
        rng_gaussian(b->noise_x0 + i * n, n, rng_key(1, RNG_NOISE_X0, b->step, i));
        rng_gaussian(b->noise_t + i * n, n, rng_key(1, RNG_NOISE_T, b->step, i));
    }
}

static void losses(Bench *b)
{
    const Batch batch = {b->ids, b->t, b->noise_x0, b->noise_t, NULL, 0, b->B, b->N};
    training_losses(&b->m, &b->w, &b->terms, &b->d, &batch, 1, (Dropout){0, 0, 0});
}

static void optimiser(void *v)
{
    Bench *b = v;
    double norm = gradient_norm(&b->m, &b->o);
    adamw_step(&b->m, &b->o, b->step, 1e-4, 0.01, b->decay, 0.999, clip_factor(norm, 1));
}

static void training_step(void *v)
{
    Bench *b = v;
    data(v);
    noise(v);
    losses(b);
    optimiser(v);
    b->step++;
}

static int sampler_noise(void *v, real *out, int t)
{
    Bench *b = v;
    const size_t n = (size_t)b->N * b->c.emb_dim;
    (void)t;
#pragma omp parallel for
    for (int i = 0; i < b->w.B; i++)
        rng_gaussian(out + i * n, n, rng_key(1, RNG_NOISE_T, b->step, i));
    return 0;
}

static void sampling_step(void *v)
{
    Bench *b = v;
    const Sampler sampler = {.noise = sampler_noise, .context = b};
    const size_t n = (size_t)b->N * b->c.emb_dim;
    Error err;
    for (int i = 0; i < b->B; i += b->w.B)
        if (p_sample_loop(&b->m, &b->w, &b->few, &sampler, b->x + i * n,
                          b->B - i < b->w.B ? b->B - i : b->w.B, b->N, &err))
            fprintf(stderr, "bench: %s\n", err.text), exit(1);
    b->step++;
}

/* Multiplications and additions of the products, in 1e9. */
static double gflop(const Bench *b, int training)
{
    const Config *c = &b->c;
    double C = c->hidden, D = c->emb_dim, T4 = 4.0 * c->time_dim, token,
           example = c->time_dim * T4 + T4 * C;
    token = 2 * C * D + 2 * C * C + c->layers * (4 * C * C + 2 * C * c->ffn + 2 * C * b->N) +
            (training ? D * c->vocab : 0);
    return 2e-9 * (training ? 3 : 1) * (b->M * token + b->B * example);
}

static void bench_step(const char *size, int threads)
{
    Bench b;
    struct rusage use;
    double train[5], sample[5];
    set_threads(threads);
    open_bench(&b, size);
    const double least = b.c.hidden > 512 ? 0 : 0.4;
    const int rounds = b.c.hidden > 512 ? 2 : 5;
    training_step(&b);
    for (int r = 0; r < rounds; r++) {
        train[r] = time_of(training_step, &b, least);
        sample[r] = time_of(sampling_step, &b, least / 2);
    }
    getrusage(RUSAGE_SELF, &use);
    printf("%s %d %.3f %.3f %.0f %.4g %.4g\n", size, threads, 1e3 * figure(train, rounds).median,
           1e3 * figure(sample, rounds).median, (double)use.ru_maxrss / 1024, gflop(&b, 1),
           gflop(&b, 0));
}

/* ---- several machines ------------------------------------------------------------------------ */

#ifdef TDIFF_MPI
#include <mpi.h>

/* Each rank takes its share of the batch through a step; when all are done, their gradients are
 * summed, as train.c does it. */
static void bench_ranks(const char *size)
{
    enum { ROUNDS = 3 };
    Bench b;
    double step[ROUNDS], sum[ROUNDS];
    int rank, ranks;
    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    set_threads(1);
    open_bench(&b, size);
    b.B /= ranks, b.M = b.B * b.N;
    if (b.B == 0 || b.m.num_params > INT_MAX) exit(1);
    for (int r = 0; r < ROUNDS; r++) {
        MPI_Barrier(MPI_COMM_WORLD);
        const double begin = seconds();
        training_step(&b);
        MPI_Barrier(MPI_COMM_WORLD);
        const double end = seconds();
        MPI_Allreduce(MPI_IN_PLACE, b.m.grads, (int)b.m.num_params, MPI_FLOAT, MPI_SUM,
                      MPI_COMM_WORLD);
        step[r] = 1e3 * (end - begin), sum[r] = 1e3 * (seconds() - end);
    }
    const double computing = figure(step, ROUNDS).median, adding = figure(sum, ROUNDS).median;
    if (rank == 0)
        printf("  %-9s %d ranks of %2d sentences: a step %9.2f ms, the sum of %6.1f MB %8.2f ms: "
               "%4.1f %% of both\n",
               size, ranks, b.B, computing, 4e-6 * (double)b.m.num_params, adding,
               100 * adding / (computing + adding));
    MPI_Finalize();
}
#endif

/* ---- the parts of a step --------------------------------------------------------------------- */

typedef struct {
    real *a, *b, *c, *d, *e;
    int M, O, I, B, N, C, H;
} Part; /* arrays, and the shapes of a layer */

static void forward_linear(void *v)
{
    Part *p = v;
    linear_forward(p->a, p->b, p->c, p->c, p->M, p->O, p->I);
}
static void backward_linear(void *v)
{
    Part *p = v;
    linear_backward_input(p->b, p->a, p->c, p->M, p->O, p->I);
    for (int from = 0; from < p->O; from += ROWS)
        linear_backward_weights(p->d, p->e, p->a, p->b, p->M, p->O, p->I, from,
                                from + ROWS < p->O ? from + ROWS : p->O);
}
static Dropout no_dropout;
static void forward_attention(void *v)
{
    Part *p = v;
    attention_forward(p->a, p->b, p->c, p->d, no_dropout, p->B, p->N, p->C, p->H);
}
static void backward_attention(void *v)
{
    Part *p = v;
    attention_backward(p->e, p->c, p->c, p->a, p->b, p->d, no_dropout, p->B, p->N, p->C, p->H);
}
static void forward_norm(void *v)
{
    Part *p = v;
    layernorm_forward(p->a, p->b, p->c, p->d, p->e, p->e, p->M, p->O);
}
static void backward_norm(void *v)
{
    Part *p = v;
    layernorm_backward(p->a, p->e, p->e + p->O, p->a, p->b, p->c, p->e + 2 * p->O, p->M, p->O);
}
static void forward_gelu(void *v)
{
    Part *p = v;
    gelu_forward(p->a, p->b, (size_t)p->M * p->O);
}
static void backward_gelu(void *v)
{
    Part *p = v;
    gelu_backward(p->c, p->a, p->b, (size_t)p->M * p->O);
}
static void forward_tanh(void *v)
{
    Part *p = v;
    tanh_forward(p->a, p->b, (size_t)p->M * p->O);
}
static void backward_tanh(void *v)
{
    Part *p = v;
    tanh_backward(p->c, p->a, p->b, (size_t)p->M * p->O);
}
static void residual(void *v)
{
    Part *p = v;
    add_to(p->a, p->b, (size_t)p->M * p->O);
}
static void word_softmax(void *v)
{
    Part *p = v;
    for (int m = 0; m < p->M; m++) softmax(p->a + (size_t)m * p->O, p->O);
}

/* The parts timed one by one on one thread, each on warm arrays of its own as large as a piece of
 * the batch: what the step takes beyond their sum is the rest, which includes what memory costs
 * when the parts push each other out of the caches. */
static void bench_parts(const char *size)
{
    Bench b;
    set_threads(1);
    open_bench(&b, size);
    const int C = b.c.hidden, D = b.c.emb_dim, F = b.c.ffn, V = b.c.vocab, L = b.c.layers,
              M = b.w.B * b.N;
    const double pieces = (double)b.B / b.w.B;
    if (C > 512) repeat = 1;
    const struct {
        const char *name;
        int kind, O, I, count;
        Work forward, backward;
    } parts[] = {{"linear", 0, C, D, 1, forward_linear, backward_linear},
                 {"linear", 0, C, C, 2 + L, forward_linear, backward_linear},
                 {"linear", 0, 3 * C, C, L, forward_linear, backward_linear},
                 {"linear", 0, F, C, L, forward_linear, backward_linear},
                 {"linear", 0, C, F, L, forward_linear, backward_linear},
                 {"linear", 0, D, C, 1, forward_linear, backward_linear},
                 {"lm_head", 1, V, D, 1, forward_linear, backward_linear},
                 {"attention", 2, b.c.heads * b.N, C, L, forward_attention, backward_attention},
                 {"LayerNorm", 3, C, C, 2 * L + 1, forward_norm, backward_norm},
                 {"GELU", 4, F, F, L, forward_gelu, backward_gelu},
                 {"other", 5, C, C, 2, forward_tanh, backward_tanh},
                 {"other", 5, C, C, 2 * L, residual, residual},
                 {"other", 1, V, V, 1, word_softmax, NULL}};
    static const char *const kinds[] = {"linear layers", "words: lm_head and softmax",
                                        "attention",     "LayerNorm",
                                        "GELU",          "tanh, residuals"};
    double train[9] = {0}, sample[9] = {0}, sum[2] = {0, 0}, whole[2];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const int O = parts[i].O, I = parts[i].I,
                  wide = (O > I ? O : I) > 3 * C ? (O > I ? O : I) : 3 * C;
        Part p = {need((size_t)M * wide),
                  need((size_t)M * wide),
                  need(2 * ((size_t)M + O) * wide),
                  need(((size_t)M + O) * wide),
                  need((size_t)M * wide),
                  M,
                  O,
                  I,
                  b.w.B,
                  b.N,
                  C,
                  b.c.heads};
        double forward = pieces * parts[i].count * measure(parts[i].forward, &p).median;
        train[parts[i].kind] +=
            forward + (parts[i].backward
                           ? pieces * parts[i].count * measure(parts[i].backward, &p).median
                           : 0);
        if (parts[i].kind != 1) sample[parts[i].kind] += forward;
        free(p.a), free(p.b), free(p.c), free(p.d), free(p.e);
    }
    training_step(&b);
    train[6] = measure(optimiser, &b).median, train[7] = measure(noise, &b).median,
    train[8] = measure(data, &b).median;
    sample[7] = train[7] / 2;
    whole[0] = measure(training_step, &b).median, whole[1] = measure(sampling_step, &b).median;
    printf("%s, 1 thread: milliseconds of a    training step        sampling step\n", size);
    for (int k = 0; k < 9; k++) {
        printf("  %-30s %10.3f %5.1f %%  %10.3f %5.1f %%\n",
               k < 6    ? kinds[k]
               : k == 6 ? "optimiser"
               : k == 7 ? "noise"
                        : "data",
               1e3 * train[k], 100 * train[k] / whole[0], 1e3 * sample[k],
               100 * sample[k] / whole[1]);
        sum[0] += train[k], sum[1] += sample[k];
    }
    printf("  %-30s %10.3f %5.1f %%  %10.3f %5.1f %%\n", "the rest", 1e3 * (whole[0] - sum[0]),
           100 - 100 * sum[0] / whole[0], 1e3 * (whole[1] - sum[1]), 100 - 100 * sum[1] / whole[1]);
    printf("  %-30s %10.3f          %10.3f   (%.1f and %.1f GFLOP/s)\n", "in all", 1e3 * whole[0],
           1e3 * whole[1], gflop(&b, 1) / whole[0], gflop(&b, 0) / whole[1]);
}

/* Made-up text: words of syllables, few of them frequent, as in a language (Zipf). */
static void add_sentences(Buffer *out, size_t bytes)
{
    static const char *const syllables[] = {"ba", "ten", "lo", "ri", "sha", "mu",
                                            "e",  "gan", "is", "do", "ly",  "ver"};
    enum { WORDS = 50000, SYLLABLES = sizeof syllables / sizeof *syllables };
    for (uint32_t i = 0; out->length < bytes && !out->failed; i++) {
        const double u = rng_u32(rng_key(3, RNG_T, 0, 0), i) / 4294967296.0;
        uint32_t word = (uint32_t)exp(u * log(WORDS)),
                 left = rng_u32(rng_key(4, RNG_T, 0, 0), word);
        for (uint32_t k = 0; k < 1 + word % 4; k++, left /= SYLLABLES)
            buffer_print(out, "%s", syllables[left % SYLLABLES]);
        buffer_print(out, i % 11 == 10 ? ".\n" : " ");
    }
}

static void bench_text(void)
{
    static const char *const kinds[] = {"word", "char", "bpe"};
    Buffer text = {0};
    add_sentences(&text, 10000000);
    const double MB = 1e-6 * (double)text.length;
    for (int k = 0; k < 3 && !text.failed; k++) {
        const TokenizerOptions o = {.tokenizer = kinds[k], .vocab_size = 10000, .min_frequency = 1};
        Tokenizer t;
        Error err;
        double begin = seconds();
        if (tokenizer_make(&t, &o, text.text, text.length, &err))
            fprintf(stderr, "bench: %s\n", err.text), exit(1);
        const double making = seconds() - begin;
        long tokens = 0;
        begin = seconds();
        for (const char *line = text.text, *end; line < text.text + text.length; line = end + 1) {
            int ids[2];
            end = strchr(line, '\n');
            if (!end) end = text.text + text.length;
            tokens += tokenizer_encode(&t, line, (size_t)(end - line), ids, 2) - 2;
        }
        printf("  %-5s a vocabulary of %5d from %.0f MB in %6.2f s; encoded at %5.1f MB/s, %.2f "
               "bytes a token\n",
               kinds[k], t.size, MB, making, MB / (seconds() - begin),
               (double)text.length / (double)tokens);
        tokenizer_free(&t);
    }
    free(text.text);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "machine"))
        bench_machine();
    else if (argc == 2 && !strcmp(argv[1], "matmul"))
        bench_matmul(1), bench_matmul(2);
    else if (argc == 2 && !strcmp(argv[1], "elements"))
        bench_elements();
    else if (argc == 2 && !strcmp(argv[1], "text"))
        bench_text();
    else if (argc == 4 && !strcmp(argv[1], "step"))
        bench_step(argv[2], atoi(argv[3]));
    else if (argc == 3 && !strcmp(argv[1], "parts"))
        bench_parts(argv[2]);
#ifdef TDIFF_MPI
    else if (argc == 3 && !strcmp(argv[1], "ranks"))
        bench_ranks(argv[2]);
#endif
    else
        return fprintf(
                   stderr,
                   "usage: bench machine | matmul | elements | text | step SIZE THREADS | parts "
                   "SIZE | ranks SIZE\n"),
               1;
    return 0;
}
