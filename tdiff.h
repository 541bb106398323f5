/* tdiff.h - the table of contents of tdiff.c, in its order, and behind it of tokenizer.c.
 *
 * Symbols, used everywhere:
 *   B batch   N positions of a sentence   V vocabulary   D embedding dimension
 *   C model width (hidden size)   H heads   L layers   F feed-forward width   M rows: B*N
 *   T diffusion steps   t a step, 0..T-1 (the papers' t-1)
 * Gradients carry the prefix d: dout is d loss / d out.
 *
 * Conventions: arrays are row-major and layers take raw pointers followed by shapes, outputs first;
 * each parameter's comment is its shape. A forward writes its output, a backward writes the
 * gradient of its input and ADDS to the gradients of weights. Functions that take an Error return
 * -1 (or NULL) and fill it when they fail; a Buffer keeps its failure until it is asked (failed);
 * where a -1 has one possible reason, its comment says which. Nothing but main() exits. Only it
 * prints, but for notes to people on stderr, by functions that say so.
 * What *_init or *_fit allocates is freed by *_free, also after a failure; nothing else allocates.
 *
 * Papers: DDPM = Ho et al. 2020, arXiv:2006.11239. Improved DDPM = Nichol & Dhariwal 2021,
 * arXiv:2102.09672. Diffusion-LM = Li et al. 2022, arXiv:2205.14217. BERT = Devlin et al. 2018,
 * arXiv:1810.04805. Adam = Kingma & Ba 2014, arXiv:1412.6980; AdamW = Loshchilov & Hutter 2017,
 * arXiv:1711.05101. The original = the Python program "minimal text diffusion", an implementation
 * of Diffusion-LM whose numbers the tests check. */
#ifndef TDIFF_H
#define TDIFF_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "-ffast-math removes the checks for numbers that are not finite, and one seed, one result"
#endif
#if defined(__GNUC__) && !defined(_OPENMP)
/* those of OpenMP, in a build without threads */
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#endif

#define TDIFF_VERSION "0.9"

#ifdef TDIFF_DOUBLE
typedef double real; /* the parity and gradient tests build the same sources in double precision */
#else
typedef float real;
#endif

typedef struct {
    char text[512];
} Error;
typedef struct Corpus Corpus; /* these are described with tokenizer.c */
typedef struct Tokenizer Tokenizer;
typedef struct Option Option;
typedef struct Buffer Buffer;
typedef struct Progress Progress;
typedef struct Trained Trained; /* these with section 13 */
typedef struct Guide Guide;
typedef struct Show Show;

/* ---- what the algorithm works with ---------------------------------------------------------- */

/* What the network's output stands for: x_start itself (Diffusion-LM sec. 4.2), the noise (DDPM
 * eq. 11), or a point whose words, as softmax(lm_head(output)), average to x_start. */
typedef enum { PREDICT_XSTART, PREDICT_EPSILON, PREDICT_SOFTMAX } Predict;
typedef struct {
    int vocab;
    int seq_len;       /* positions of a sentence at most; longer lines are cut */
    int max_positions; /* rows of position_embeddings */
    int emb_dim, hidden, layers, heads, ffn, time_dim;
    int diffusion_steps, noise_schedule; /* an index into noise_schedule_names */
    int predict, self_conditioning;      /* a Predict; 0 or 1 */
    double emb_norm;                     /* 0: embeddings are not normalised */
    int identity_projections;            /* 1: D is C, and x_t enters the layers as it is */
    double t_min;                        /* share of the steps, the least noisy, to leave out */
    int neighbours;                      /* 1: attention reads what stands beside, too */
} Config;

typedef enum { INIT_NORMAL, INIT_UNIFORM, INIT_ONE, INIT_ZERO } Init;
typedef struct {
    char name[80];      /* as in the original's state_dict */
    int rank, shape[2]; /* shape[1] is 1 where rank is 1 */
    size_t size;
    real *data, *grad; /* into Model.params and Model.grads */
    Init init;
    int fan_in; /* INIT_UNIFORM: within 1 / sqrt(fan_in) of 0 */
} Tensor;

typedef struct {
    Tensor *weight, *bias;
} Pair; /* a Linear or a LayerNorm */
typedef struct {
    Pair query, key, value; /* their weights lie behind each other, and so do the biases: */
                            /* one product with (3C,C) */
    Pair attn_out, attn_ln, ffn_up, ffn_down, ffn_ln;
} Layer;

typedef struct {
    Config config;
    Tensor *tensors; /* the one table: init, checkpoint, optimiser and gradient check walk it */
    int num_tensors;
    size_t num_params;
    real *params, *grads; /* (num_params) each */
    Pair time_in, time_out, up_in, up_out, down_in, down_out, emb_ln;
    Tensor *word_embedding, *position_embeddings, *lm_head_bias;
    Layer *layer;
    /* (V,D) word_embedding and its gradient or, with emb_norm, tables of their own */
    real *embedding, *dembedding;
} Model;

typedef struct { /* the activations of a layer; backward_examples puts gradients in their place */
    real *qkv /*(B,N,3C)*/, *att /*(B,H,N,N)*/, *context /*(B,N,C)*/;
    real *attn_normed /*(B,N,C) h + attention, then normalised*/, *attn_rstd /*(B,N)*/;
    real *attn_out /*(B,N,C)*/, *ffn_in, *ffn_act /*(B,N,F)*/;
    real *normed /*(B,N,C) h + branch, then normalised*/, *rstd /*(B,N)*/, *out /*(B,N,C)*/;
    /* training only: the gradients of gamma and beta, example by example */
    real *dattn_ln, *dln; /* (B,2,C) */
} LayerActs;

typedef struct { /* every array that a batch needs, in one arena */
    int B, N;    /* the largest batch, and its positions: see workspace_fit */
    int training;
    int first; /* the example that the arrays begin with: 0 */
    real *arena;
    size_t size, positions;    /* that there is room for, in the arena and in nearest */
    size_t layers, layer_size; /* where the layers' activations begin, and how many a layer has */
    int *t;                    /* (B) of the sampling loop */
    int *nearest;              /* (B,N) clamping */
    real *minus_half_squares;  /* (V) clamping */
    real *temb /*(B,time_dim)*/, *time_hidden, *time_act /*(B,4 time_dim)*/, *time /*(B,C)*/;
    real *up_act /*(B,N,C)*/, *emb_normed /*(B,N,C)*/, *emb_rstd /*(B,N)*/, *emb /*(B,N,C)*/;
    real *down_act /*(B,N,C)*/, *dropped /*(B,N,N)*/;
    /* diffusion and loss */
    real *input /*(B,N,2D) with self-conditioning*/, *head /*(B,N,V) with softmax*/;
    real *pred_xstart, *estimate, *noise, *target, *x_start, *x_t, *model_out; /* (B,N,D) */
    real *timesteps /*(B)*/, *logits /*(B,N,V)*/, *weight /*(B)*/;
    /* gradients; training only */
    real *dmodel_out, *dx_start, *dx_t, *dpred;  /* (B,N,D) */
    real *ddown, *dh, *dbranch, *dcontext, *dup; /* (B,N,C) */
    real *dqkv /*(B,N,3C)*/, *dscores /*(B,N,N)*/, *dffn /*(B,N,F)*/, *demb_ln /*(B,2,C)*/;
    real *dtime /*(B,C)*/, *dtime_act /*(B,4 time_dim)*/;
    real *dinput /*(B,N,2D)*/, *dhead /*(B,N,V)*/;
} Workspace;

typedef struct {
    int T, total;          /* steps of this process, and of the whole schedule */
    double first_alpha;    /* alphas_cumprod[0] of that: x_start has variance 1 - first_alpha */
    double evidence_above; /* HUGE_VAL at first: none is added. See add_evidence */
    int *timestep_map;     /* (T) this process's t -> the schedule's */
    double *betas, *alphas_cumprod, *alphas_cumprod_prev; /* (T), as the next ones */
    double *posterior_variance, *posterior_log_variance_clipped;
    double *posterior_mean_coef1, *posterior_mean_coef2;
} Diffusion;

/* rate 0: none. The mask is a hash of key and offset + index: nothing is stored, any thread can
 * compute its part. */
typedef struct {
    uint64_t key;
    double rate;
    size_t offset;
} Dropout;

typedef struct { /* everything random of a step is here, as data */
    const int *ids /*(B,N)*/, *t /*(B)*/;
    const real *noise_x0, *noise_t; /* (B,N,D) of x_start and of x_t */
    const real *weight;             /* (B) of the examples in the gradient; NULL: all 1 */
    int self_condition;             /* 1: the network is given an estimate of its own, 0: none */
    int B, N;
} Batch;
typedef struct {
    double *mse, *decoder_nll, *tT_loss, *head_nll, *loss;
} Losses; /* (B) each */

/* ==== PART ONE: THE ALGORITHM ================================================================ */

/* ---- 2. the diffusion process --------------------------------------------------------------- */

void betas_for_alpha_bar(double *betas /*(T)*/, int T, double (*alpha_bar)(double share));
double sqrt_alpha_bar(double share); /* of the steps, 0..1 */
/* kept: flags (total), one at least, or NULL: every step. */
int diffusion_init(Diffusion *d, int schedule, int total, const unsigned char *kept, Error *err);
void diffusion_free(Diffusion *d);
real diffusion_timestep(const Diffusion *d, int t); /* timestep_map[t], scaled to 0..1000 */

/* Arrays are (B,n), t is (B): every example has its own. */
void q_sample(real *x_t, const real *x_start, const real *noise, const int *t, const Diffusion *d,
              int B, size_t n);
void q_posterior_mean(real *mean, const real *x_start, const real *x_t, const int *t,
                      const Diffusion *d, int B, size_t n);
typedef enum { FIXED_SMALL, FIXED_LARGE } Variance; /* posterior_variance or beta */
double p_variance(const Diffusion *d, int t, Variance kind);
/* x_prev (may be x_t) is drawn from p(x_{t-1} | x_t); no noise is added at t = 0. */
void p_sample(real *x_prev, const real *pred_xstart, const real *x_t, const real *noise,
              const int *t, const Diffusion *d, Variance kind, int B, size_t n);

/* ---- 3. the loss ---------------------------------------------------------------------------- */

/* Forward gives a value per example, backward ADDS weight[b] times its gradient. */
void mse_forward(double *mse /*(B)*/, const real *target, const real *out /*(B,n)*/, int B,
                 size_t n);
void mse_backward(real *dtarget, real *dout, const real *target, const real *out,
                  const real *weight, int B, size_t n);
/* logits: the softmax afterwards */
void decoder_nll_forward(double *nll /*(B)*/, real *logits /*(B,N,V)*/, const Model *m,
                         const real *x /*(B,N,D)*/, const int *ids /*(B,N)*/, int B, int N);
/* probs becomes d nll / d logits, whose product with x is the gradient of lm_head */
void decoder_nll_backward(real *dx, real *probs, const Model *m, const int *ids, const real *weight,
                          int B, int N);
void tT_loss_forward(double *tT /*(B)*/, const real *x_start, const Diffusion *d, int B, size_t n);
void tT_loss_backward(real *dx_start, const real *x_start, const Diffusion *d, const real *weight,
                      int B, size_t n);
void lm_head_forward(const Model *m, real *logits /*(M,V)*/, const real *x /*(M,D)*/, int M);

/* The terms of every example; returns the mean loss. backward: adds the gradient of the mean of
 * weight times loss to m's; after a stop_signal it is not complete. A batch larger than w->B goes
 * in pieces of w->B. */
double training_losses(Model *m, Workspace *w, const Losses *terms, const Diffusion *d,
                       const Batch *y, int backward, Dropout drop);

/* ---- 4. the denoiser ------------------------------------------------------------------------ */

/* out = f(x_t, estimate, timesteps). timesteps are real numbers, 0..1000; estimate, the previous
 * guess of x_start, is read with self-conditioning only, and may be NULL. */
void denoiser_forward(const Model *m, Workspace *w, real *out /*(B,N,D)*/,
                      const real *x_t /*(B,N,D)*/, const real *estimate /*(B,N,D)*/,
                      const real *timesteps /*(B)*/, int B, int N, Dropout drop);
/* Adds to the gradients of m; follows a denoiser_forward with the same arguments, whose activations
 * it overwrites. */
void denoiser_backward(Model *m, Workspace *w, real *dx_t /*(B,N,D)*/, const real *dout /*(B,N,D)*/,
                       const real *x_t, int B, int N, Dropout drop);
/* To be called when weights have changed; training_losses does. */
void embedding_table_forward(Model *m);
void embedding_table_backward(Model *m); /* dembedding into word_embedding->grad */

/* ---- 5. layers ------------------------------------------------------------------------------ */

void linear_forward(real *out /*(M,O)*/, const real *in /*(M,I)*/, const real *w /*(O,I)*/,
                    const real *b /*(O)*/, int M, int O, int I);
void linear_backward_input(real *din /*(M,I)*/, const real *dout /*(M,O)*/, const real *w /*(O,I)*/,
                           int M, int O, int I);
/* Only of the outputs from..to-1, so that threads can share the work. */
void linear_backward_weights(real *dw, real *db, const real *dout /*(M,O)*/,
                             const real *in /*(M,I)*/, int M, int O, int I, int from, int to);
void layernorm_forward(real *out /*(M,C)*/, real *normed /*(M,C)*/, real *rstd /*(M)*/,
                       const real *in /*may be normed*/, const real *gamma /*(C)*/,
                       const real *beta /*(C)*/, int M, int C);
void layernorm_backward(real *din /*(M,C)*/, real *dgamma, real *dbeta,
                        const real *dout /*may be din*/, const real *normed, const real *rstd,
                        const real *gamma, int M, int C);
void gelu_forward(real *out, const real *in, size_t n);
void gelu_backward(real *din, const real *dout /*may be din*/, const real *in /*may be din*/,
                   size_t n);
void tanh_forward(real *out, const real *in /*may be out*/, size_t n);
void tanh_backward(real *din, const real *dout /*may be din*/, const real *out, size_t n);
void silu_forward(real *out, const real *in, size_t n);
void silu_backward(real *din, const real *dout /*may be din*/, const real *in, size_t n);
void dropout_forward(real *out, const real *in /*may be out*/, size_t n, Dropout drop);
void dropout_backward(real *din, const real *dout /*may be din*/, size_t n, Dropout drop);
/* In place, of each head's keys and values: a quarter of the columns moves on by one position, a
 * quarter back by one (Lin et al. 2019, arXiv:1811.08383). by: 1, or -1 for the derivative. */
void shift_neighbours(real *qkv /*(B,N,3C)*/, int by, int B, int N, int C, int H);
/* Multi-head self-attention over all N positions, no mask (BERT). dropped and ds are scratch for
 * one head. */
void attention_forward(real *out /*(B,N,C)*/, real *att /*(B,H,N,N)*/, real *dropped /*(N,N)*/,
                       const real *qkv /*(B,N,3C)*/, Dropout drop, int B, int N, int C, int H);
void attention_backward(real *dqkv /*(B,N,3C)*/, real *ds, real *dropped /*(N,N)*/,
                        const real *dout /*(B,N,C)*/, const real *att, const real *qkv,
                        Dropout drop, int B, int N, int C, int H);
void embedding_forward(real *out /*(M,D)*/, const real *table /*(V,D)*/, const int *ids /*(M)*/,
                       int M, int D);
void embedding_backward(real *dtable /*(V,D)*/, const real *dout /*(M,D)*/, const int *ids, int M,
                        int D);
void timestep_embedding(real *out /*(B,dim)*/, const real *timesteps /*(B)*/, int B, int dim);

/* ---- 6. learning ---------------------------------------------------------------------------- */

typedef struct {
    real *adam_m, *adam_v, *ema; /* (num_params) each */
    double *partial;             /* scratch */
} Optimizer;
double gradient_norm(const Model *m, Optimizer *o); /* Euclidean, of all gradients together */
/* step counts from 0. The gradient is scaled by grad_scale and zeroed; decay[i] says whether tensor
 * i decays. With an ema_rate above .9999 a float of the average would stay where it is: a step adds
 * less to it than rounding takes. */
void adamw_step(Model *m, Optimizer *o, int step, double lr, double weight_decay,
                const unsigned char *decay, double ema_rate, double grad_scale);
double clip_factor(double norm, double clip); /* min(1, clip / (norm + 1e-6)); 1 if clip is 0 */
double learning_rate(double lr, int step, int warmup, int steps);
double ema_warmup(double rate, int step); /* min(rate, (1 + step) / (10 + step)) */

/* ---- 7. sampling ---------------------------------------------------------------------------- */

/* One of from..to, as often as it occurs or, if none does or count is NULL, all alike; u is uniform
 * in [0, 1). */
int draw_length(const real *count /*(to+1)*/, int from, int to, double u);

/* With PREDICT_SOFTMAX programs take ddim_sample with these where nothing else is asked for. */
enum { USUAL_ETA = 2, USUAL_AHEAD = 2 };
typedef struct {
    void *context;
    int (*noise)(void *context, real *out /*(B,N,D)*/, int t); /* the noise of step t; 1: stop */
    /* NULL, or called after every step */
    void (*show)(void *context, int t, const real *pred_xstart);
    Variance variance;
    int start;         /* steps to take, when x is not pure noise; 0: all of d's */
    int clip_denoised; /* the guess of x_start is clipped to [-1, 1] */
    int clamp_from;    /* below this step of the schedule it is the nearest embedding; 0: no */
    int ddim;          /* ddim_sample with this eta in place of p_sample */
    double eta;
    double ahead; /* how far ddim_sample is ahead of the guess: see guess_ahead; 0: not */
    double vary;  /* PREDICT_SOFTMAX: share of all steps, the noisiest, to vary: see is_varied */
    /* NULL, or guidance: dx = the gradient of log p(condition | x_t), where x has come to at t */
    void (*gradient)(void *context, real *dx /*(B,N,D)*/, const real *x, int t);
    const unsigned char *known; /* (B,N) NULL, or the positions where x is to be known_x */
    const real *known_x;        /* (B,N,D) */
} Sampler;
/* x: pure noise in (or x at t = start - 1), the sample out. -1: a number was not finite, or noise
 * has said to stop. */
int p_sample_loop(const Model *m, Workspace *w, const Diffusion *d, const Sampler *s,
                  real *x /*(B,N,D)*/, int B, int N, Error *err);
void likeliest_words(const Model *m, Workspace *w, int *ids /*(B,N)*/, const real *x /*(B,N,D)*/,
                     int B, int N);

/* ==== PART TWO: THE WORKSHOP ================================================================= */

/* ---- 8. numbers ----------------------------------------------------------------------------- */

const char *arithmetic_class(void); /* "fma" or "plain": is a*b+c rounded once? One result each */
/* 0: the machine computes with more than float precision, and no bits are promised. */
int floats_are_exact(void);
real real_exp(real x); /* x is clamped to [-87, 88] */
real real_log(real x); /* x is clamped to the smallest normal number */
real real_tanh(real x);
real real_erf(real x);
real real_sin(real x); /* |x| <= 1000 */
real real_cos(real x);

/* Random numbers: a hash of (key, index), so that any element can be drawn by itself. */
typedef enum {
    RNG_INIT,
    RNG_SHUFFLE,
    RNG_T,
    RNG_NOISE_X0,
    RNG_NOISE_T,
    RNG_DROPOUT,
    RNG_SAMPLE,
    RNG_VALIDATION,
    RNG_SELF_CONDITION,
    RNG_LENGTH
} RngStream;
uint64_t rng_key(uint64_t seed, RngStream stream, uint64_t step, uint64_t item);
uint32_t rng_u32(uint64_t key, uint32_t index);
int rng_below(uint64_t key, uint32_t index, int n);        /* uniform in 0..n-1, n >= 1 */
void rng_gaussian(real *out, size_t n, uint64_t key);      /* out[0..n-1]: standard normal */
void rng_shuffle(int *order /*(n)*/, int n, uint64_t key); /* 0..n-1, every order equally likely */

/* ---- 9. the product ------------------------------------------------------------------------- */

/* C(M,N) = op(A)(M,K) op(B)(K,N) + bias, a row (N) added to every row (NULL: 0). With ADD C +=
 * op(A) op(B). ta = 0: A is (M,K); 1: A is stored (K,M); likewise tb. */
enum { SET, ADD };
void matmul(real *c, int add, const real *bias, const real *a, int ta, const real *b, int tb, int M,
            int N, int K);
void set_threads(int n); /* does nothing in a build without OpenMP */
int max_threads(void);   /* that a call from here may use: 1 inside a parallel region */

/* How many threads are fastest, found out while the work goes on. */
typedef struct {
    int most, threads, trial; /* that may be, that there are, that are being tried or 0 */
    int up;                   /* the last trial was one of more threads */
    int wait, left;           /* steps between trials, steps until the next decision */
    double work, time, rate;  /* since the last decision; work a second before it */
} Pace;
void pace_begin(Pace *p, int threads, int may_change);
/* After each step: its work, in any unit, and its seconds. Sets the threads of the next step. */
void pace_step(Pace *p, double work, double time);

/* ---- 10. parameters, memory, threads -------------------------------------------------------- */

int config_check(const Config *c, Error *err);         /* can there be such a model? */
int model_init(Model *m, const Config *c, Error *err); /* checks c; all weights are zero */
void model_random(Model *m, uint64_t seed); /* the initial weights, as PyTorch draws them */
void model_free(Model *m);
/* Behind the losses of a step: it leaves the tables of words and positions as they are. */
void freeze_embeddings(Model *m);
/* How many examples of a batch training should take at a time. The bits of the result depend on it,
 * so it knows nothing of the threads. */
int piece_of_batch(int B, int N);
/* B: the most examples at a time, N: the number of positions. */
int workspace_init(Workspace *w, const Config *c, int B, int N, int training, Error *err);
/* Numbers in the arena that so many examples need. */
size_t workspace_size(const Workspace *w, const Config *c, int B, int N);
/* Arranges the arrays for another B and N; what they held is lost. Allocates only what no call
 * before needed as much of. */
int workspace_fit(Workspace *w, const Config *c, int B, int N, Error *err);
void workspace_free(Workspace *w);
LayerActs layer_acts(const Workspace *w, const Config *c, int l); /* those of layer l */
Losses losses_at(const Losses *terms, int first);             /* those from example `first` on */
int optimizer_init(Optimizer *o, const Model *m, Error *err); /* moments 0, ema = weights */
void optimizer_free(Optimizer *o);

/* ---- 11. other objectives and schedules, the bound ------------------------------------------ */

extern const char *const noise_schedule_names[]; /* NULL-terminated */
/* betas(T) of a schedule; alphas_cumprod is their running product of 1 - beta. */
void noise_schedule_betas(double *betas, int schedule, int T);
/* Which steps of total a respaced process keeps: "N": N of them, evenly; "a,b,c": so many of each
 * of 3 equal sections; "ddimN": every k-th, so that there are N. kept(total) is filled with flags;
 * returns their number, or -1. */
int space_timesteps(unsigned char *kept, int total, const char *sections, Error *err);
/* The same, but the last step kept becomes total - 1: that is where pure noise is, and so where
 * sampling begins. */
int steps_from_noise(unsigned char *kept, int total, const char *sections, Error *err);
/* How many steps c trains and samples: those from its t_min up. */
int trained_steps(const Config *c);
/* The process that c trains and samples, from its t_min up; of its steps what `sections` keeps, as
 * in steps_from_noise; NULL: all. With a t_min, "N" (8 to half of them) has half as many in the
 * least noisy quarter as in each of the others. */
int diffusion_from_noise(Diffusion *d, const Config *c, const char *sections, Error *err);

void xstart_from_epsilon(real *x_start, const real *x_t, const real *epsilon, const int *t,
                         const Diffusion *d, int B, size_t n);
void epsilon_from_xstart(real *epsilon, const real *x_t, const real *x_start, const int *t,
                         const Diffusion *d, int B, size_t n);
/* Means (B,n) and variances (B) of q(x_t | x_start), q(x_{t-1} | x_t, x_start) and
 * p(x_{t-1} | x_t) */
void q_mean_variance(real *mean, double *variance, double *log_variance, const real *x_start,
                     const int *t, const Diffusion *d, int B, size_t n);
void q_posterior_mean_variance(real *mean, double *variance, double *log_variance,
                               const real *x_start, const real *x_t, const int *t,
                               const Diffusion *d, int B, size_t n);
void p_mean_variance(real *mean, double *variance, double *log_variance, const real *pred_xstart,
                     const real *x_t, const int *t, const Diffusion *d, Variance kind, int B,
                     size_t n);

/* Draws t more often where the loss is large: with probability p[t], in proportion to the root of
 * the mean square of the last per_step losses there, once every t has so many; until then
 * uniformly. The loss of an example at t is to be weighted with 1 / (T p[t]). (Improved DDPM
 * sec. 3.3, "loss second moment") */
typedef struct {
    int T, per_step;
    real *history; /* (T,1+per_step) count, losses */
    double *p;     /* (T) */
} Resampler;
int resampler_init(Resampler *r, int T, int per_step, Error *err);
void resampler_free(Resampler *r);
/* Takes up these losses; B = 0: only makes p anew. */
void resampler_update(Resampler *r, const int *t, const double *loss, int B);
/* p from a history that was read from a file, which it checks */
int resampler_restore(Resampler *r, Error *err);
int resampler_draw(const Resampler *r, double u); /* t, for u uniform in [0, 1) */

/* For every example of y, in nats: kl (B), the bound's term of step t[b] (the bound has the sum
 * over all t); prior (B), what x_T still tells; terms as in training_losses, where N decoder_nll is
 * the decoder's term. No gradient. */
void variational_bound(Model *m, Workspace *w, const Losses *terms, double *kl, double *prior,
                       const Diffusion *d, const Batch *y, Variance kind, int clip_denoised);

enum { SHORTEST = 3 }; /* [CLS], a word, [SEP] */
/* The probability of a sentence of N positions, SHORTEST to most, where count[N] of `total`
 * training sentences have so many: (count[N] + 1/lengths) / (total + 1), lengths being how many
 * lengths there are. So none is impossible. */
double length_probability(const real *count /*(most+1)*/, int most, int N);
/* As what a checkpoint keeps the counts, (most+1); without data */
Tensor length_tensor(int most);

/* The bound of a text: how it is measured. */
typedef struct {
    const char *path; /* of the text */
    uint64_t seed;
    int steps; /* terms that are drawn for a sentence; 0: until the standard error by that is 1 % */
    int all;   /* all are taken, one for every t */
    Variance variance;
    int clip_denoised;
    Pace *pace;
    Progress *progress; /* it is told of every round */
} Measuring;
/* Appends it as text for people: how probable the sentences of the file how->path are, at least.
 * -1: no memory, a number is not finite, or a signal has come. */
int bound_of_file(Buffer *out, Trained *m, Workspace *w, const Measuring *how, Error *err);
/* A batch of a sentence (N) at three t, as training_losses takes it, and what that makes of it, as
 * a JSON object whose arrays are flat: for who rebuilds the network. */
int probe(Buffer *out, Trained *m, Workspace *w, const int *sentence, int N, uint64_t seed,
          Error *err);

/* ---- 12. control ---------------------------------------------------------------------------- */

real real_clip(real x); /* to [-1, 1] */
/* p_sample with DDIM's step; eta says how much new noise: 0 none, 1 as much as p_sample. */
void ddim_sample(real *x_prev, const real *pred_xstart, const real *x_t, const real *noise,
                 const int *t, const Diffusion *d, double eta, int B, size_t n);
/* The guess (n numbers) that ddim_sample takes at t: w->pred_xstart, or with s->ahead what it is
 * about to become, in w->x_start (not in varied steps); w->estimate keeps it for the next step. */
const real *guess_ahead(const Sampler *s, const Workspace *w, const Diffusion *d, int t, size_t n);
/* Numbers outside of [-limit, limit] are replaced by draws until none is left; limit > 0. */
void truncate_noise(real *noise, size_t n, double limit, real (*draw)(void *context),
                    void *context);
/* Standard normal numbers of key, those beyond limit drawn again; 0: no limit. */
void rng_truncated(real *out, size_t n, double limit, uint64_t key);

/* A classifier is a Model whose vocabulary is the labels: p(label | x_t) =
 * softmax(lm_head(f(x_t, timesteps) at position 0)), x_t being that of another Model, the denoiser.
 * nll[b] = -log p(label[b] | x_t); the softmax is left in w->logits (B,V). */
void classifier_forward(const Model *m, Workspace *w, double *nll /*(B)*/,
                        const real *x_t /*(B,N,D)*/, const real *timesteps /*(B)*/,
                        const int *label /*(B)*/, int B, int N, Dropout drop);
/* dx_t = the gradient of weight[b] nll[b]; follows the forward, whose activations it overwrites. No
 * gradient of m's weights. */
void classifier_backward(const Model *m, Workspace *w, real *dx_t, const int *label,
                         const real *weight, int B, int N, Dropout drop);
/* nll of the examples of y, noised as in training_losses with the embeddings of the denoiser, which
 * stays as it is; guess: the likeliest labels. Returns the mean. backward: adds the gradient of the
 * mean of weight times nll to m's. In pieces, as training_losses. */
double classifier_losses(Model *m, Workspace *w, double *nll /*(B)*/, int *guess /*(B)*/,
                         const Model *denoiser, const Diffusion *d, const Batch *y,
                         const int *label /*(B)*/, int backward, Dropout drop);
/* A classifier begins with what its denoiser knows of noisy words; only its labels are new, and
 * nearly alike: m is random before. */
void classifier_begin(Model *m, const Model *denoiser);
/* Moves x (n numbers), drawn by p_sample at t, where s->gradient points; w: scratch. */
void guide(const Sampler *s, const Workspace *w, const Diffusion *d, real *x, int t, size_t n);

/* A sentence that is given: what for, and its words. */
typedef struct {
    int prompt, edit;   /* its [MASK]s are filled in, or it is made noisy */
    int go_on;          /* the sample goes on behind it */
    const char *length; /* NULL, or "N" or "N-M": of the sample, in words */
} Asked;
typedef struct {
    int *ids, size;        /* [CLS] and [SEP] included; none: {0} */
    int shortest, longest; /* that a sample may be, in positions */
} Given;
/* What is given: the lines of the file path, but for blank ones, or the text, each with [MASK] for
 * what is not known, or, where both are NULL, one without words. option: the text's, for messages.
 * The special tokens are cut out of every text from now on. NULL with err filled. */
Given *given_take(Trained *m, const Asked *asked, const char *path, const char *text,
                  const char *option, int *count, Error *err);
void given_free(Given *given, int count); /* NULL: does nothing */
/* For --edit: of a whole sentence, the share of m's steps, from the text on, in which the network
 * still guesses nine tenths of the words right that it does with hardly any noise. Says so. */
int legible_steps(Trained *m, Workspace *w, const Given *g, uint64_t seed, double *steps,
                  Error *err);
/* The length of sample i: the same wherever and beside whatever it is drawn. */
int given_length(const Trained *m, const Given *g, uint64_t seed, int i);
/* What is known of a sample of so many positions: where it begins and ends, and the words of its
 * prompt; else [MASK]. */
void fix_words(int *fixed /*(N)*/, int N, int length, const Given *g, const Trained *m,
               const Asked *asked);
/* What is not known of a sentence are words: what stands for none gets a bias of lm_head that makes
 * it impossible. Without lengths the network says itself where a sentence ends. */
void only_words(Trained *m, int allow_unk);
/* A batch as the network sees it at step t: what it takes each sentence for. */
typedef struct {
    char name; /* of the process: t backward, q forward */
    int t, count, N;
    int finished, all;      /* sentences, for the heading */
    const int *number;      /* (count) of these */
    const int *ids, *fixed; /* (count,N) fixed: [MASK] where the word is not given */
    int has_head;           /* how probable the words are the softmax head says, or the logits that
                               likeliest_words leaves */
} ShownBatch;
/* To be called for each window of sentences, from number `first` on: those that fit are rows of the
 * screen, if there is one and no probabilities are asked for. */
int show_begin(Show *w, const Trained *of, int first, int window, Error *err);
int is_shown(const Show *w, int t, int T); /* a state to show? The first and the last are */
/* Draws the rows, or prints a line a sentence. */
void show_batch(Show *w, const Trained *of, const Workspace *work, const ShownBatch *x);
void show_free(Show *w); /* harmless on {0} */
/* --guide: a classifier of this denoiser, and what it is to say; guide_free after a failure, too */
int guide_load(Guide *g, const Trained *denoiser, const char *path, const char *label, Error *err);
void guide_free(Guide *g);
/* dx = scale times the sum of the gradients of log p(label | x) of all guides, whose workspaces fit
 * the batch: Bayes' rule, for every condition. own: scratch */
enum { GUIDED = 64 /* sentences at a time, at most */ };
void guides_gradient(Guide *guide, int guides, real *dx /*(B,N,D)*/, real *own /*(B,N,D)*/,
                     const real *x, const Diffusion *d, int t, double scale, int B, int N);
/* Appends the n words whose embeddings point nearly where that of word id does, by the cosine of
 * the angle between them: a line each. */
void nearest_words(const Model *m, const Tokenizer *t, int id, int n, Buffer *out);

/* (13. the checkpoint and 14. a training run stand at the end: they need what follows) */

/* ==== tokenizer.c, the ground floor ========================================================== */

/* ---- errors, memory, files ------------------------------------------------------------------ */

#ifdef __GNUC__ /* so that the compiler checks the arguments */
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
#else
#define PRINTF_LIKE(text, first)
#endif
int fail(Error *err, const char *format, ...) PRINTF_LIKE(2, 3); /* fills err, returns -1 */
/* Control characters, which a terminal would obey, become '?', but for \n; text may be NULL. */
void hide_controls(char *text);
/* count * size zeroed bytes, or NULL with err filled; the caller frees. */
void *checked_alloc(size_t count, size_t size, Error *err);
int is_standard_input(const char *path); /* "-", "/dev/stdin" */
/* The whole file, "-" being the standard input, and a closing NUL; *length without it. NULL with
 * err filled; the caller frees. */
char *read_file(const char *path, size_t *length, Error *err);

/* What a file is, by its first bytes. FILE_NEW: there is none, or it is empty or no regular file,
 * so that nothing can be lost by writing it. */
typedef enum {
    FILE_NEW,
    FILE_CHECKPOINT,
    FILE_LOG,
    FILE_TOKENIZER,
    FILE_TEXT,
    FILE_BINARY
} FileKind;
FileKind file_kind(const char *path);
extern const char *const file_kind_names[];     /* in this order, with their article */
void file_date(const char *path, char out[20]); /* of its last change, in words */
int same_file(const char *a, const char *b);    /* under whatever names */
/* Says on stderr if the disk of the file `beside` has no room for `out`, of so many bytes, which
 * takes twice that while an old one stays until the new one is whole, and `kept` more of that size.
 */
void note_room(const char *out, const char *beside, double size, int kept);
double physical_memory(void); /* bytes that the machine has; HUGE_VAL: unknown */

/* A file that replaces path, or what path is a symbolic link to, only when it is whole: it is
 * written beside it under a name of its own and then renamed. The old file's mode is kept; a
 * read-only file is refused. Every failed write is noticed by output_close at the latest. keep = 0
 * throws it away. A device or a pipe is written directly: then temporary is "". */
enum { OUTPUT_NAME = 1000 };
typedef struct {
    FILE *file;
    char path[OUTPUT_NAME], temporary[OUTPUT_NAME + 16];
} Output;
/* Fails where path is one of these files; any of the `count` inputs may be NULL. */
int output_spares(const char *path, const char *const *inputs, int count, Error *err);
int output_open(Output *o, const char *path, Error *err);
int output_close(Output *o, int keep, Error *err); /* does nothing on {0} or when closed already */
/* Is all that was printed on its way? name: for the message, NULL: the standard output */
int output_flushed(FILE *out, const char *name, Error *err);

/* A log, of which a line begins with {"step":N. Begin with {0}: then log_add does nothing. */
typedef struct {
    FILE *file;
    char path[OUTPUT_NAME];
    long size; /* in bytes; -1: nothing was added yet */
} Log;
/* Fails while another process has it open, and if it must be empty and is not. */
int log_open(Log *l, const char *path, int empty, Error *err);
/* Adds a line. The first one is put behind those up to this step: later ones are of a run that was
 * cut off, or of another. After a failure the log is as it was. */
int log_add(Log *l, int step, const Buffer *line, Error *err);
void log_close(Log *l);

/* ---- signals -------------------------------------------------------------------------------- */

/* From now on INT, TERM and HUP, unless they were ignored, do not end the program: it asks. A
 * second one that comes a second or more later ends it. */
void catch_signals(void);
int stop_signal(void); /* 0, or the signal that has come */
/* What the first signal prints at once on stderr */
void stop_note(const char *format, ...) PRINTF_LIKE(1, 2);
void ignore_closed_pipes(void); /* writing to one fails and does not end the program */
/* For main to call first: an instruction that the processor lacks gets a message, and a standard
 * stream that the program was started without will not be the next file that it opens. */
void begin_program(void);
/* fseek and ftell, for places that a long may be too short for */
int file_seek(FILE *f, uint64_t at, int origin);
int64_t file_tell(FILE *f);
int print_version(FILE *out); /* and how this program was built; 1: cannot write, else 0 */
void note_floats(void); /* says on stderr if floats are not exact, and so results not the same */
int on_terminal(FILE *f);
int is_plain(FILE *f); /* no terminal, or one that is to have neither colours nor moving text */
/* That a line of the terminal f can have without being broken, and its rows; 79, 24: unknown. */
void terminal_size(FILE *f, int *columns, int *rows);
void wait_seconds(double s); /* or until a signal comes */
double seconds(void);        /* of a clock that is never set */

/* ---- text ----------------------------------------------------------------------------------- */

/* A growing string: start from {0}; text is closed by NUL once something was added; free(text). */
struct Buffer {
    char *text;
    size_t length, capacity;
    int failed; /* out of memory: later additions do nothing */
};
void buffer_add(Buffer *b, const char *bytes, size_t n);
void buffer_print(Buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buffer_duration(Buffer *b, double seconds); /* as 28h 10m, 5m 09s or 8s */
/* path without its folder, and without the first of the suffixes that it ends in */
void buffer_base_name(Buffer *b, const char *path, const char *const *suffixes /*NULL-ended*/);
void buffer_json_string(Buffer *b, const char *bytes, size_t n); /* quoted and escaped */
/* ,"name":[x0,x1,...]: a member of an object, NAN as null */
void buffer_json_numbers(Buffer *b, const char *name, const double *x, int n);
/* The columns of a terminal that n bytes of text take, `most` at most; *fits: the bytes in these */
int text_columns(const char *text, size_t n, int most, size_t *fits);

/* ---- for people who wait -------------------------------------------------------------------- */

/* How far the sampling or measuring of `all` sentences is: a line on stderr, if that is a terminal,
 * after a few seconds, redrawn five times a second at most. */
struct Progress {
    int all, off;         /* off: nothing is told */
    double started, told; /* in seconds(); told: the last line, or 0 */
};
void progress_begin(Progress *p, int all);
void progress_tell(Progress *p, double finished); /* sentences, the last one in part */
void progress_end(Progress *p);                   /* the line goes away */
/* Prints these parts of a line on stderr and frees them. On a terminal the line takes the place of
 * the last one, unless that stays, and has at most its width: parts that are `dispensable`
 * (count) are left out in this order. */
void tell_parts(Buffer *part, int parts, const int *dispensable, int count, int stays);

/* A heading and rows below it that are drawn over each other on stderr, in colours. */
typedef struct {
    Buffer *row; /* (rows) */
    int rows;    /* 0: stderr is no terminal for that */
    int columns, drawn;
    double frame_at; /* when the last frame was drawn */
} Screen;
/* Hides the cursor, if this is a terminal; *s has as many of the rows as there is room for. */
int screen_begin(Screen *s, int rows, Error *err);
/* Row number `row` becomes this text, whose piece i ends at end[i] and is sure[i] (0..1) sure. */
void screen_row(Screen *s, int row, const Buffer *text, const size_t *end, const double *sure,
                int pieces);
/* Waits until 1 / fps seconds after the last frame, and draws. */
void screen_draw(Screen *s, const char *heading, double fps);
void screen_end(Screen *s, int erase); /* the cursor is back; harmless on {0} */

/* ---- JSON ----------------------------------------------------------------------------------- */

/* JSON. Nodes lie in document order: a container's children follow it (in an object: key, value,
 * key, ...). */
typedef enum {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
} JsonType;
typedef struct {
    JsonType type;
    size_t begin, end; /* its bytes in the text; a string without the quotes, still escaped */
    int size;          /* children: elements of an array, pairs of an object */
    int next;          /* the index of the first node behind it and all inside it */
} JsonNode;
typedef struct {
    const char *text; /* borrowed */
    JsonNode *node;   /* node 0 is the document */
    int count;
} Json;
int json_parse(Json *j, const char *text, size_t n, Error *err);
void json_free(Json *j);
int json_find(const Json *j, int object, const char *key); /* the value's node, or -1 */
/* A string, unescaped; NULL: it is none, has a bad escape, or there is no memory. */
char *json_text(const Json *j, int node, size_t *length);
int json_integer(const Json *j, int node, int64_t *value); /* -1: not an integer of 64 bits */

/* ---- tokenizers, corpora -------------------------------------------------------------------- */

/* WORD and CHAR: a piece of the text is a token. WORDPIECE, BPE: it is one or several. */
typedef enum { TOKENIZER_WORD, TOKENIZER_CHAR, TOKENIZER_WORDPIECE, TOKENIZER_BPE } TokenizerKind;
/* What the special tokens are for. t->special[TOKEN_PAD] is the id of [PAD] or <pad>. */
enum { TOKEN_UNK, TOKEN_CLS, TOKEN_SEP, TOKEN_PAD, TOKEN_MASK, TOKEN_SPECIALS };

/* How text becomes pieces. Each field is a normalizer or a pre-tokenizer of Hugging Face's
 * tokenizer.json; which, stands behind it. */
typedef enum {
    MARKS_KEPT,
    ACCENTS_DROPPED,    /* those of Latin, Greek and Cyrillic: NFD, Replace, NFC */
    NONSPACING_DROPPED, /* of all scripts, as BERT does: BertNormalizer, strip_accents */
    MARKS_DROPPED       /* also those that take room: NFD, StripAccents */
} Marks;
typedef enum {
    SPLIT_WORDS,      /* at blanks and where word characters meet others: Whitespace */
    SPLIT_BLANKS,     /* at blanks: WhitespaceSplit */
    SPLIT_CHARACTERS, /* a code point with the marks behind it is a piece: Split */
    SPLIT_BYTES       /* as GPT-2 does, and every byte becomes a character: ByteLevel */
} Split;
typedef struct {
    Split split;
    Marks marks;
    int ascii;       /* other text is refused: NFKD, which leaves ASCII as it is */
    int composed;    /* a letter and its accents are one code point, where there is one: NFC */
    int decomposed;  /* each is one by itself: NFD, where what follows does not drop them */
    int lower;       /* Lowercase */
    int clean;       /* control characters are dropped: BertNormalizer, clean_text */
    int cjk;         /* Chinese characters are pieces: BertNormalizer, handle_chinese_chars */
    int digits;      /* so is every numeric character: Digits */
    int punctuation; /* and every punctuation mark: Punctuation */
} Rules;

/* A token that is cut out of a text wherever its name stands there: added_tokens. */
typedef struct {
    const char *name; /* of the tokenizer's */
    int id;
    int strips[2]; /* the blanks [before, behind] it go with it: lstrip, rstrip */
    int special;   /* it is not decoded */
} Added;

typedef struct Composition Composition; /* see "NFC" in tokenizer.c */

/* Different pairs of ids, in order, and a hash table to find them. */
typedef struct {
    int (*pair)[2], count;
    int *slot; /* hash table of indices, -1: empty */
    size_t num_slots;
} Pairs; /* begin with {0}; the caller frees pair and slot */
enum { NO_PAIR = 0x7fffffff };
int pair_find(const Pairs *p, int left, int right); /* its index, or NO_PAIR */
int pair_add(Pairs *p, int left, int right);        /* its index, or -1: out of memory */

/* How often a token stood [apart from, glued to] what came [before, behind] it, by what kind of
 * token that was: see "the blanks between words" in tokenizer.c. */
enum { BESIDE_WORD, BESIDE_NUMBER, BESIDE_CJK, BESIDE_SYMBOL, BESIDES };
typedef struct {
    int count[2][BESIDES][2];
} Glue;

struct Tokenizer {
    TokenizerKind kind;
    Rules rules;
    int size;                    /* V */
    int min_frequency;           /* of words and characters that tokenizer_make has counted */
    char **token;                /* (V) UTF-8 */
    int *slot;                   /* hash table of ids, -1: empty */
    size_t num_slots;            /* a power of two */
    int special[TOKEN_SPECIALS]; /* ids */
    Added *added;                /* (num_added) by ids */
    int num_added;
    char begins_added[256];   /* the first bytes of their names */
    uint32_t *unicode;        /* (0x110000) what the rules make of a code point << 4 | its class */
    Composition *composition; /* with rules.composed, decomposed */
    Glue *glue;               /* (V) or NULL */
    Pairs exceptions;         /* neighbours that are not glued where glue says so, or the reverse */
    Pairs merges;             /* BPE: in the order in which they are made */
    int *merged;              /* (merges.count) the id that a merge makes */
    int byte_id[324];         /* BPE: of the characters that stand for bytes */
};

typedef struct {
    /* word, original, bpe or char: a vocabulary is made from the text. wordpiece:VOCAB.txt, or
     * what tokenizer_read reads: the text is not looked at. */
    const char *tokenizer;
    int keep_case, keep_accents; /* of word */
    /* of what is made: tokens at most, all in all; occurrences of each at least, 0: for words as
     * the text suggests, else 1 */
    int vocab_size, min_frequency;
} TokenizerOptions;
/* Words and characters: the most frequent, ties by byte order. bpe: see "byte-level BPE". */
int tokenizer_make(Tokenizer *t, const TokenizerOptions *o, const char *text, size_t n, Error *err);
/* A tokenizer.json, BERT's vocab.txt, or a folder with GPT-2's vocab.json and merges.txt. */
int tokenizer_read(Tokenizer *t, const char *path, Error *err);
int tokenizer_from_json(Tokenizer *t, const char *text, size_t n, Error *err);
void tokenizer_to_json(const Tokenizer *t, Buffer *out); /* Hugging Face's tokenizer.json */
/* Adds the words, or characters, of text that are unknown, in their order. */
int tokenizer_grow(Tokenizer *t, const char *text, size_t n, Error *err);
void tokenizer_free(Tokenizer *t); /* harmless on {0} and after a failure */
/* The id of token, UTF-8, which is added if it is new, after the special ones. Begin with {0}. */
int tokenizer_add(Tokenizer *t, const char *token, Error *err);
int tokenizer_find(const Tokenizer *t, const char *token); /* its id, or -1 */
int tokenizer_is_special(const Tokenizer *t, int id);
int tokenizer_is_made(const char *name); /* as TokenizerOptions.tokenizer: from the text */
/* What the tokenizer is, as a few words: "words, lower-case, ..." */
void tokenizer_describe(const Tokenizer *t, Buffer *out);
/* [CLS] ... [SEP] into ids, at most max of them (a longer text is cut and keeps its [SEP]); returns
 * the uncut length, or -1 when memory runs out. text need not be valid UTF-8. max >= 2. */
long tokenizer_encode(const Tokenizer *t, const char *text, size_t n, int *ids, long max);
/* -1: it has a character that the rules refuse. */
int tokenizer_accepts(const Tokenizer *t, const char *text, size_t n, Error *err);
/* From now on the special tokens are cut out of every text, and [MASK] by this name, too. */
int tokenizer_cut_specials(Tokenizer *t, Error *err);
/* The pieces of text, joined by \n. */
void tokenizer_split(const Tokenizer *t, const char *text, size_t n, Buffer *out);
/* Is this piece [UNK]? */
int tokenizer_unknown(const Tokenizer *t, const char *word);
/* What it takes to spell words out byte by byte, each by how often the words of the vocabulary have
 * it, and a word's end like a byte: bits[0]. (Plus one, so that none is impossible.) */
void tokenizer_byte_bits(const Tokenizer *t, double bits[256]);
double spelling_bits(const double bits[256], const char *word);
/* The words that are spelt most like this one, in quotes. */
void tokenizer_nearest(const Tokenizer *t, const char *word, Buffer *out);
/* The text of ids; specials = 0 leaves out special tokens and stops at the first [SEP]. */
void tokenizer_decode(const Tokenizer *t, const int *ids, int n, int specials, Buffer *out);
/* The same without specials, and as a line. */
void tokenizer_decode_line(const Tokenizer *t, const int *ids, int n, Buffer *out);
/* The same without specials, fit for a terminal: that of ids[i] ends at text[end[i]]. end: (n) */
void tokenizer_decode_pieces(const Tokenizer *t, const int *ids, int n, Buffer *text, size_t *end);

/* A text file as sentences, one a line, each of its own length: the ids of sentence i are
 * ids[start[i]] to ids[start[i + 1] - 1]. */
struct Corpus {
    char *text;
    size_t length; /* of the text */
    int *ids;      /* all sentences, one behind the other */
    size_t *start; /* (rows+1) */
    int rows, longest;
    int cut;               /* lines that were too long */
    size_t words, unknown; /* without [CLS] and [SEP]; those that are [UNK] */
    double spelling;       /* bits to spell those out, byte by byte */
    Buffer notes;          /* for people, one a line: what looks odd about the text */
};
/* The text, without a byte-order mark, and with line ends of \n if all were \r. */
int corpus_read(Corpus *c, const char *path, Error *err);
/* From the text: rows, cut, and longest, which is at most `most`. Blank lines are no sentences. */
int corpus_measure(Corpus *c, const char *path, const Tokenizer *t, int most, Error *err);
/* The same, the sentences and the notes; frees the text. What is cut to `most` positions keeps its
 * [SEP]. pad: what is shorter is filled up with [PAD]. */
int corpus_fill(Corpus *c, const char *path, const Tokenizer *t, int most, int pad, Error *err);
int sentence_length(const Corpus *c, int i);
void corpus_free(Corpus *c);
/* Between corpus_read and corpus_fill: makes *t, if it is {0}, from the text or a file; otherwise,
 * unless grown is NULL, adds the words that are new to that checkpoint. */
int corpus_vocabulary(Corpus *c, const char *path, Tokenizer *t, const TokenizerOptions *o,
                      const char *grown, Error *err);

/* Says on stderr which options a run takes by this text: min_frequency, if it is above 1;
 * vocab_size, if it is not 0: the text would fill a larger vocabulary; and *batch, unless batch is
 * NULL: of long sentences fewer make a step, for which there are more steps in the same time. */
void suit_text(const Corpus *c, int min_frequency, int vocab_size, int *batch);
/* Says on stderr what so many steps are for this text, and which options to think of. -1: out of
 * memory */
int tell_prospects(const Corpus *c, const char *path, const Tokenizer *t, int batch, int steps,
                   Error *err);

/* Between corpus_read and corpus_fill: takes the labels, each behind a TAB, off the lines. Their
 * ids in `labels`, which grows, go to *label, one for each sentence; the caller frees it. What may
 * be wrong with them is noted. words: of the sentences */
int corpus_take_labels(Corpus *c, const char *path, const Tokenizer *words, Tokenizer *labels,
                       int **label, Error *err);
/* Of each of `labels` labels a tenth of the sentences, drawn from all of them, goes to *held, with
 * *held_label, which the caller frees; the others, and their label, move together. */
int corpus_hold_out(Corpus *c, int *label, int labels, Corpus *held, int **held_label, Error *err);

void tell_notes(const Corpus *c); /* on stderr */
/* Prints them on stderr, each as a line that fits the terminal. */
void tell_sentences(const Corpus *sentences, const Tokenizer *t);
/* Of 100 pairs of neighbours in these sentences, [CLS] and [SEP] included, how many are not in the
 * text; or -1: out of memory. */
double pairs_never_seen(const Corpus *text, const Corpus *sentences, Error *err);
double copied_share(const Corpus *text, const Corpus *sentences); /* in %, that the text has */

/* ---- options -------------------------------------------------------------------------------- */

/* One table drives the parser, --help and the checkpoint's metadata. */
typedef enum { OPT_INT, OPT_REAL, OPT_TEXT, OPT_FLAG, OPT_CHOICE } OptionKind;
struct Option {
    const char *name; /* without dashes; one letter: a short option; NULL ends the table */
    OptionKind kind;
    void *value;     /* int *, double *, const char **, int *, int * (index into choices) */
    double min, max; /* of a number */
    int times;       /* OPT_TEXT: value is an array, for so many; 0: one */
    const char *const *choices; /* of OPT_CHOICE: NULL-terminated names */
    const char *help;           /* NULL: not offered, only kept in the checkpoint */
    const char *deflt;          /* what --help shows as the default; NULL: *value */
    const char *needs;          /* NULL, or "a b": without one of these it has no effect */
    const char *excludes;       /* NULL, "*", or "a b": options beside which it has none */
    const char *word;           /* OPT_FLAG: NULL, or what may stand behind it: *value is 2 then */
    const char *what;           /* what --help calls the value; NULL: INT, REAL, TEXT or NAME */
    const char *before;         /* its value in a checkpoint of before it was; NULL: the default */
    int everyday;               /* --help has it, others are for --help all */
    int result;                 /* determines the result: goes into the checkpoint */
    int given;                  /* how often: set by the parser */
};
int option_set(Option *o, const char *text, Error *err); /* *value from text, checked */
void option_print(const Option *o, Buffer *out);         /* as option_set reads it back exactly */
/* Options and operands in any order; "--name value", "--name=value", '_' for '-', "--" ends
 * options. text points into argv. Returns the number of operands. */
int options_parse(Option *table, int argc, char **argv, const char **operand, int max_operands,
                  Error *err);
int option_given(const Option *table, const void *value);   /* how often that with this value was */
void options_help(const Option *table, int all, FILE *out); /* within 79 columns */

/* ==== 13. the checkpoint, in tdiff.c ========================================================= */

/* The options that make a Config, with their ranges: train.c offers them, the checkpoint stores
 * them. */
enum { CONFIG_OPTIONS = 16 };
void config_defaults(Config *c); /* of ./train; vocab and max_positions come from the text */
void config_options(Option out[CONFIG_OPTIONS], Config *c);

/* A .safetensors file: the EMA weights under the original's names, raw.*, adam_m.*, adam_v.*, then
 * the extra tensors, and as metadata the tokenizer, the steps done, a checksum of the tensors and
 * every option that determines the result. Replaces path only when all is written, and never by
 * weights or moments that are not finite. */
int checkpoint_save(const char *path, const Model *m, const Optimizer *o, const Tensor *extra,
                    int extras, const Tokenizer *t, const Option *options, int steps_done,
                    Error *err);

enum { STORED_RANK = 8 };
typedef struct { /* a tensor as it lies in a file */
    char *name;
    int dtype, rank;            /* dtype: an index into dtypes, tdiff.c */
    int64_t shape[STORED_RANK]; /* 1 behind rank */
    uint64_t begin, bytes;
    int wanted; /* it was read */
} Stored;
typedef struct { /* checkpoint_close may follow a failure, and {0} */
    char path[1024];
    FILE *file;
    char *header;
    Json json;
    Stored *stored; /* (count) in the order in which they lie */
    int count;
    uint64_t data, data_size; /* where the tensors begin in the file, and their bytes */
    char front[64];           /* what all names have in front: "", "model.", "bert." */
} Checkpoint;
/* Any safetensors file that keeps the rules of the format: tensors of known types, one behind the
 * other without a gap, each name once. */
int checkpoint_open(Checkpoint *c, const char *path, Error *err);
void checkpoint_close(Checkpoint *c);
int checkpoint_is_ours(const Checkpoint *c); /* ./train has written it: it has our metadata */
char *checkpoint_metadata(const Checkpoint *c, const char *key, Error *err); /* the caller frees */
int checkpoint_option(const Checkpoint *c, Option *o, Error *err); /* *o->value from o->name's */
int checkpoint_config(const Checkpoint *c, Config *config, Tokenizer *t, int *steps_done,
                      Error *err);
int checkpoint_is_bert(const Checkpoint *c); /* its names are those of Hugging Face's BERT */
/* Of a file without our metadata: what its shapes say of *config, and heads as in the config.json
 * beside it, or 0. The rest of *config stays. */
int checkpoint_shapes(const Checkpoint *c, Config *config, Error *err);
/* What a classifier says of its denoiser: embeddings, noise schedule, positions. */
void denoiser_fingerprint(const Model *m, char out[20]);
/* Is c a classifier for this denoiser or, with NULL, a denoiser itself? */
int checkpoint_is(const Checkpoint *c, const Model *denoiser, Error *err);
int checkpoint_has(const Checkpoint *c, const char *tensor);
/* Reads the tensor family + x->name, which must have x's shape, into data (x->size). It may have
 * BERT's name, something in front of it, and be F32, F16, BF16 or F64. */
int checkpoint_tensor(Checkpoint *c, const Tensor *x, const char *family, real *data, Error *err);
/* Reads all tensors of m's table into data (num_params), in the table's order. family: "" the
 * averaged weights, "raw." those that are trained, "adam_m.", "adam_v.". The error lists all that
 * are missing or of another shape, and then none has been read. */
int checkpoint_tensors(Checkpoint *c, const Model *m, const char *family, real *data, Error *err);
/* The same of those whose names begin with part. fewer: the file may have fewer words and positions
 * than m; those behind keep what data has. */
int checkpoint_part(Checkpoint *c, const Model *m, const char *family, const char *part, int fewer,
                    real *data, Error *err);
/* Appends what any safetensors file is, a line for each thing that it says of itself. */
void checkpoint_describe(const Checkpoint *c, Buffer *out);
/* Appends path with this ending in place of .safetensors; the log's is .jsonl. */
void checkpoint_beside(const char *path, const char *ending, Buffer *name);
/* Copies a checkpoint without the tensors that only --resume needs. */
int checkpoint_export(const char *from, const char *to, Error *err);
/* To be called behind these for a file without our metadata: has everything in it been read? An
 * lm_head.weight must be word_embedding.weight; what is no weight by its type does not count. */
int checkpoint_rest(Checkpoint *c, Error *err);
/* What two corpora differ in: the ids of their sentences, and the labels, if there are any. */
void corpus_fingerprint(const Corpus *c, const int *label /*(rows)*/, char out[20]);
/* Options of table, as config_options makes it, that were not given become those of `from`. */
void config_take(Option table[CONFIG_OPTIONS], Config *from);
/* The weights of a new run, over random ones: of one of our checkpoints what the model has, too, of
 * other files all but, of a BERT the layers or the embeddings of words and positions. */
int checkpoint_weights(Checkpoint *c, Model *m, int layers, int embeddings, Error *err);
/* The averaged weights and the moments */
int checkpoint_state(Checkpoint *c, const Model *m, Optimizer *o, Error *err);
/* May a run write path and its log? Not if it takes something away: another run's, or anything
 * else. resume: the checkpoint with which it goes on, or NULL. To be called before the corpus is
 * read, and again with begin before the first step, when the log is made: from then on another run
 * is told that this one is writing. */
int checkpoint_claim(Log *l, const char *path, const char *log, const char *resume, int overwrite,
                     int begin, Error *err);
/* The name of the checkpoint of a step that --keep-every keeps; the caller frees name->text. */
int checkpoint_kept_name(const char *path, int step, Buffer *name, Error *err);
/* May that be written? inputs: `count` files that it must not be, or NULL */
int checkpoint_kept_spare(const char *path, int step, const char *resume, int overwrite,
                          const char *const *inputs, int count, Error *err);
/* Takes what determines the result from the checkpoint of --resume; what was given must agree with
 * it, but for the option with the value may_differ. Texts stay in texts, NULL-ended, for the caller
 * to free: as many as options have texts. */
int checkpoint_options(const Checkpoint *c, Option *table, const void *may_differ, char **texts,
                       Error *err);

/* A model for use, of a checkpoint: its averaged weights, all steps of its diffusion. trained_free
 * may follow a failure, and {0}. */
struct Trained {
    Model model;
    Tokenizer tokenizer; /* of a classifier: its labels */
    Diffusion diffusion;
    real *length_count; /* (max_positions+1) of the training text; NULL: the model fills sentences
                           up with [PAD] itself */
    char *text;         /* the path of that text, or NULL */
    int steps_done;
};
/* denoiser: NULL, or the one that path is to be a classifier of */
int trained_load(Trained *r, const char *path, const Model *denoiser, Error *err);
void trained_free(Trained *r);
struct Show {
    int off, probabilities; /* nothing is shown; lines that say how probable each word is */
    int frames;             /* of a process, at most one more; 0: 16, on a terminal 60 */
    double fps;
    Screen screen;
    int first;    /* the number of the window's first sentence */
    size_t *end;  /* (max_positions) of the pieces of a text */
    double *sure; /* (max_positions) how probable these are */
};
struct Guide {
    Trained of;
    Workspace work;
    int label;
};

/* ==== 14. a training run, in tdiff.c ========================================================= */

/* Of n sentences of a corpus; those of one length keep their order. place: scratch, longest + 2
 * numbers. */
void sort_by_length(int *sorted, const int *row, int n, const Corpus *c, int *place);
/* order: (copies * rows). scratch: 2 * copies * rows + longest + 2 numbers. block: sentences of
 * about one length that stay together. */
void epoch_order(int *order, int *scratch, const Corpus *c, int copies, int block, uint64_t key);

typedef struct {
    int first, count, N; /* sentences of a batch that are computed together: those of N positions */
    size_t at;           /* positions of the batch before them */
} Group;
/* What a run computes with; begin with {0}. trainer_free frees all that is set. */
typedef struct {
    /* set before trainer_room */
    int batch, microbatch; /* sentences a step; those computed at a time at most, 0: as is fast */
    uint64_t seed;
    Corpus corpus, val;
    int *label, *val_label; /* NULL or, of a classifier, one for every sentence */
    Trained denoiser;       /* of a classifier: whose samples it is to guide */
    Model model;
    Optimizer optimizer; /* set before the first step, as the next ones */
    Diffusion diffusion;
    Resampler resampler; /* empty: t is drawn uniformly */
    Tensor losses;       /* its history, for the checkpoint */
    Workspace work;
    /* an epoch: every sentence `copies` times, more than once if there are fewer than a batch */
    uint64_t epoch; /* that order holds, counted from 1 */
    int copies, block, batches;
    int *order;
    int *scratch, *place;      /* of epoch_order and sort_by_length */
    int *val_order, *val_rank; /* held-out sentences by length; which t of those spread evenly */
    /* a batch: of each of `count` sentences its row in the corpus, its length, t, ... */
    int count, groups;
    size_t positions, room; /* of all of them; that ids and noise have room for */
    int *row, *length, *t, *labels, *guess;
    size_t *at; /* and where it begins in ids and noise */
    Group *group;
    int *ids;
    real *noise_x0, *noise_t; /* (positions,D) */
    real *weight, *scaled;    /* scaled: by the share of the positions that are the group's */
    Losses terms;
    unsigned char *decay; /* (num_tensors) of adamw_step: matrices, but no frozen table */
    int rank, ranks;      /* which of how many processes this one is: see ranks_begin */
} Trainer;
/* For main to call first: with MPI, how many processes there are. Only rank 0 has a stderr. */
void ranks_begin(Trainer *r, int *argc, char ***argv);
int ranks_end(const Trainer *r, int status); /* returns status; one that fails ends all */
int ranks_stop(void);                        /* has a signal come to any of them? */
double ranks_slowest(double time);           /* what the slowest of them takes */
/* Everything that a batch, or the validation, needs. frozen: the tables of words and positions. */
int trainer_room(Trainer *r, int frozen, Error *err);
/* The optimiser and the losses by which t is drawn, as a new run has them or, with resumes, as
 * those and the weights are in a checkpoint. Follows model_init. */
int trainer_begin(Trainer *r, Checkpoint *from, int resampled, int resumes, Error *err);
void trainer_free(Trainer *r);
/* The learning rate for a run of so many steps: `rate` up to 10,000, beyond that
 * rate sqrt(10000 / steps), rounded, which it says on stderr. */
double rate_for_steps(double rate, int steps);
/* The weight decay for a run of so many steps: 2000 / steps, at most .5, rounded, which it says on
 * stderr; `decay` where every sentence is seen more than 20 times, or where `decay` is the larger.
 * Follows trainer_room. */
double decay_for_run(const Trainer *r, double decay, int steps);
/* The batch of a step: sentences, t, noise, all a hash of (seed, step, example). */
void draw_batch(Trainer *r, int step);
int self_condition(const Trainer *r, int step); /* half of the steps give the network an estimate */
/* The mean loss of the batch and, with backward, its gradient, of all ranks together; r->terms has
 * those of the examples. With backward, after a stop_signal, it is not complete. */
double batch_losses(Trainer *r, int self_conditioned, int backward, Dropout drop);
/* The loss of the averaged weights on so many held-out sentences; t spread evenly, always the same
 * noise. accuracy: the share of labels that a classifier finds, by noise quartile. */
double validation_loss(Trainer *r, int most, double accuracy[4]);
void swap_average(Trainer *r); /* the weights and their average change places */
/* Sums over steps; of what resampling drew more often, each counts for less (weight). */
typedef struct {
    double loss, mse, decoder_nll, tT_loss, head_nll, quartile[4], weight[4];
    int steps;
} Sums;
void sums_add(Sums *sums, const Trainer *r);                       /* the batch's */
void sums_print(const Sums *sums, const Trainer *r, Buffer *line); /* as members of an object */
const char *infinite_term(const Trainer *r); /* what of this batch is not finite */
/* Of each of `lengths` lengths, which are spread as length_count says, `each` sentences, by 20
 * steps of the averaged weights and from noise that is always the same: *drawn, {0} before, has
 * their ids. The run does not change: weights come back, and what else is written is scratch. */
int few_sentences(Trainer *r, const Tokenizer *words, const real *length_count, Corpus *drawn,
                  int lengths, int each, Error *err);
/* Is it time for sample_figures, `since` steps after it was asked last? The last time is at the
 * end. */
int figures_due(const Trainer *r, int steps, int done, int since);
/* Of 32 such sentences: pairs_never_seen and copied_share. */
int sample_figures(Trainer *r, const Tokenizer *words, const real *length_count, double *unseen,
                   double *copied, Error *err);
/* The seconds that a step takes, with its share of a validation on `held` sentences every
 * `interval` steps and of sample_figures, by *trials steps of training that take `enough` seconds
 * together. Nothing is learnt: AdamW is given gradients of 0 and a rate of 0, which leaves weights
 * and average as they are, and the moments, if they are 0 as before a first step. */
double measured_step(Trainer *r, double enough, double dropout, int held, int interval,
                     int *trials);
/* The bytes of a run, by what they are for, their sum, and those of its file. -1: more than this
 * machine has. To be called before the memory is written to: until then a machine promises more. */
enum { PARAMETERS, GRADIENTS, MOMENTS, EMA, ACTIVATIONS, TEXT, TOTAL, CHECKPOINT, MEMORY };
extern const char *const memory_names[]; /* in this order */
int training_memory(const Trainer *r, const Tokenizer *words, double bytes[MEMORY], Error *err);
/* Bytes of the largest group of an epoch and the validation on `held` sentences: trainer_room is
 * for larger ones, which hardly ever meet, and what is not written to takes no memory. */
double largest_group(Trainer *r, int held);

#endif
