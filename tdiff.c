/* tdiff.c - minimal text diffusion.
 *
 *   PART ONE, the algorithm, is read from top to bottom in an evening:
 *     1 the idea   2 the diffusion process   3 the loss   4 the denoiser   5 layers   6 learning
 *     7 sampling
 *   The rest, the workshop, is for looking things up:
 *     8 numbers   9 the product   10 parameters, memory, threads   11 other objectives, the bound
 *     12 control   13 the checkpoint   14 a training run
 *
 * tdiff.h is the table of contents, in the same order, and says the shape of every array. Next come
 * what C needs to know first, and some functions of the workshop that the algorithm calls; a reader
 * goes on at PART ONE. */
#include "tdiff.h"
#include <assert.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if !defined(__GNUC__) || defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* gcc does not know it, and does not contract under -std=c99 */
#endif

/* float or double: with TDIFF_DOUBLE the tests build the same functions in double precision.
 * fmadd(a, b, c) = a b + c with one rounding, where the machine can do that. */
#if defined(FP_FAST_FMAF) || defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__riscv_flen)
#define HAVE_FMA 1
#else
#define HAVE_FMA 0
#endif
#ifdef TDIFF_DOUBLE
#define real_sqrt sqrt
#define r_exp exp
#define r_log log
#define r_tanh tanh
#define r_erf erf
#define r_sin sin
#define r_cos cos
#define fmadd(a, b, c) (HAVE_FMA ? fma(a, b, c) : (a) * (b) + (c))
#else
#define real_sqrt sqrtf
#define fmadd(a, b, c) (HAVE_FMA ? fmaf(a, b, c) : (a) * (b) + (c))
static inline float r_exp(float x); /* section 8, as the next ones */
static inline float r_log(float x);
static inline float r_tanh(float x);
static inline float r_erf(float x);
static inline float r_sin(float x);
static inline float r_cos(float x);
#endif
static inline uint32_t hash32(uint64_t key, uint32_t index);
static uint64_t mix64(uint64_t x);
static real dot(const real *x, const real *y, int n);
static real sum(const real *x, int n);
static real largest(const real *x, int n);
static real square_distance(const real *x, const real *y, size_t n); /* y NULL: |x|^2 */
static void add_to(real *out, const real *in, size_t n);             /* out += in */
static void add_rows(real *out, const real *x, size_t stride, int M, int columns);
static void combine(real *out, const real *x, const real *y, real cx, real cy, size_t n);
static double power(double base, int n);
enum { LANES = 16, CHUNK = 4096 /* elements that one thread takes at a time */ };
static int all_finite(const real *x, size_t n);
/* section 5, before it is reached */
static real softmax(real *x, int n);
/* section 4, likewise */
static void forward_examples(const Model *m, const Workspace *w, real *out, const real *x_t,
                             const real *estimate, const real *timesteps, int B, int N,
                             Dropout drop);
static void backward_examples(const Model *m, const Workspace *w, real *dx_t, const real *dout,
                              int B, int N, Dropout drop);
static void backward_weights(Model *m, const Workspace *w, const real *dout, const real *x_t, int B,
                             int N);

/* What is not whole in memory: element (i,j) is x[i * row + j * col]. */
typedef struct {
    const real *x;
    size_t row, col;
} Matrix;
static Matrix rows_of(const real *x, size_t apart);    /* (i,j) = x[i * apart + j] */
static Matrix columns_of(const real *x, size_t apart); /* (i,j) = x[j * apart + i] */
/* c(M,N) = a(M,K) b(K,N) or, with ADD, c += a b; c's rows lie `apart`. On this thread alone. */
static void product(real *c, size_t apart, int add, Matrix a, Matrix b, int M, int N, int K);

/* section 10: the projections of the denoiser, Linear, tanh, Linear */
static void project(real *out, real *act, const real *in, Pair first, Pair second, int M, int C);
static void project_backward(real *din, real *dact, const real *dout, const real *act, Pair first,
                             Pair second, int M, int C);
/* section 10: the arrays as they begin at an example; gradients of weights, by all threads */
static Workspace from_example(const Workspace *all, const Config *c, int first);
static void weights_of(Pair p, int O, const real *dout, const real *in, int M);
static void layernorm_weights_of(Pair p, const real *partial, int B);
static void embeddings_as_weight(Model *m, real *dbias, const real *dout, const real *in, int M);
static double *diffusion_alloc(Diffusion *d, int schedule, int total, const unsigned char *kept,
                               Error *err);
/* section 11: predicting the noise; x_t's own evidence for its words */
static void noise_mse_forward(const Workspace *w, double *mse, const Batch *y, size_t n);
static void noise_mse_backward(const Workspace *w, const Batch *y, const Diffusion *d,
                               const real *weight, size_t n);
static void past_the_network(const Workspace *w, const Batch *y, const Diffusion *d, size_t n);
static void add_evidence(real *out, const real *x, const Diffusion *d, const int *t, int B,
                         size_t n);
/* section 12 */
static void largest_columns(int *ids, const real *scores, int M, int V);
static void noise_known_words(const Sampler *s, const Workspace *w, const Diffusion *d, real *x,
                              int B, size_t n);
static void keep_known_words(const Sampler *s, real *pred_xstart, int M, int D);
static void clip(real *x, size_t n);
static int is_guided(const Diffusion *d, int t);
static int is_varied(const Sampler *s, const Diffusion *d, int t);
static double eta_at(const Sampler *s, const Diffusion *d, int t);
static void clamp_to_words(const Model *m, Workspace *w, real *x, int M);

/* ==== PART ONE: THE ALGORITHM ================================================================= */

/* ---- 1. the idea ------------------------------------------------------------------------------
 *
 * A word is a point in space, its embedding: a row of D numbers. A sentence of N words is N points.
 * Diffusion learns to turn N points of pure noise, little by little, into the points of a sentence.
 * This is continuous diffusion: it is the points that become noisy. (Masked diffusion, in which
 * words are covered one by one, is another thing.) It takes two processes:
 *
 *   q goes forward and is fixed. Each step t = 0, 1, ... T-1 shrinks the points, at first x_start,
 *   and adds Gaussian noise, so that x_t holds ever less of x_start and at last nothing. All steps
 *   up to t can be done at once:
 *
 *       x_t = sqrt(alphas_cumprod[t]) x_start + sqrt(1 - alphas_cumprod[t]) noise   (DDPM eq. 4)
 *
 *   p goes back and is learnt. A network, the denoiser, sees the noisy points x_t and is told t.
 *   From its output comes a guess of all of x_start at once (in the code pred_xstart; when it is
 *   read again, estimate). Were the guess right, x_{t-1} would be drawn from a Gaussian whose mean
 *   is a weighted sum of the guess and x_t (DDPM eq. 6 and 7). So one step back is: guess, and draw
 *   from that Gaussian.
 *
 * Along one sentence, from words to noise, the names are:
 *
 *   words -> embeddings -> x_start -> x_t at t = 0 -> ... -> x_t at t = T-1
 *                      a little noise   a little more        nothing but noise
 *
 * x_start is the embeddings with a little noise of their own, of variance 1 - first_alpha: as
 * much as q adds in its very first step, as if there were one more before it (Diffusion-LM
 * sec. 4.1). Words must be readable not only at a point but from a little beside it, since no
 * network hits a point exactly; decoder_nll, below, practises that on this noise.
 *
 * What is learnt: the network and, together with it, the embeddings. The loss of Diffusion-LM is a
 * sum of three terms, all with weight 1 (its eq. 2, where x_start is called x_0):
 *
 *   mse          |x_start - guess|^2, the mean over positions and dimensions: the guess must be
 *                right, or there is nothing to draw from. At t = 0 the target is the embedding
 *                without noise: the last step of sampling ends in the guess, and it is words that
 *                are wanted.
 *   decoder_nll  -log p(word | x_start), p = softmax(lm_head(x_start)), where lm_head compares a
 *                point with every embedding (x . e + a bias): words that lie close have like
 *                probabilities, so this keeps them apart. Were there only mse, all embeddings would
 *                move to one point, where guessing is easy. It reads x_start, not the guess: it is
 *                for the embeddings, not for the network.
 *   tT_loss      |sqrt(alphas_cumprod[T-1]) x_start|^2, the mean likewise: sampling begins with
 *                pure noise, so x_t must hold nothing of the sentence at t = T-1. With the noise
 *                schedule used here alphas_cumprod[T-1] is 2e-7, and this term nearly 0: it is a
 *                part of the bound that the paper derives, and does nothing here.
 *
 * The bound is on -log p(sentence), mainly a sum over t of the KL divergence of p's Gaussian from
 * the one with the true x_start. Their variances are equal, so at t > 0 that is the sum of squares
 * |x_start - guess|^2 times posterior_mean_coef1[t]^2 / (2 posterior_variance[t]) (section 11; for
 * the softmax head another). The loss takes all t alike, as DDPM does with the error of the noise
 * (sec. 3.4). For given embeddings the
 * best guess at each t is the same with any weights, the mean of all x_start that x_t may come
 * from: weights only say where to try hardest.
 *
 * In the plain form the network's output is the guess. That learns sentences made from one template
 * well, rare words slowly, and real sentences not at all: they come out as word salad. Five changes
 * mend that. The first two always run by default, the others for any text but the corpus of
 * templates that comes with the program, whose slots need not agree:
 *
 *   the softmax head     The best guess is the embeddings' mean, weighted by the probability of
 *                        each word given x_t. (x_start's own noise is left out: of it x_t tells
 *                        little, except at the first few t.) So the network says just these
 *                        probabilities, p = softmax(lm_head(out)), out being its output, and
 *                        guess = p embeddings, a product. That allows a fourth term,
 *            head_nll    -log p(word): how probable the right word was, which tells the network
 *                        far more than a distance does, and does most of the work. (mse stays: it
 *                        measures the guess itself.)
 *   the embedding norm   All embeddings have one length, 4. That length, beside noise of variance 1
 *                        in each dimension, decides how much noise hides a word: free embeddings of
 *                        128 dimensions, which begin as standard normal numbers, are about
 *                        sqrt(128) = 11 long, so that only the noisiest steps leave any doubt which
 *                        word it is, and all others are wasted. (4 was best of those tried.)
 *   t_min                The least noisy steps, the first 15 %, are left out, in training and in
 *                        sampling. There every point shows its own word, and a network that
 *                        practises saying it learns less of what goes with what (DiNoiSer: Ye et
 *                        al. 2023, arXiv:2302.10025).
 *   self-conditioning    The network reads its previous guess beside x_t, so that the words of a
 *                        sentence agree with each other. In sampling it is that of the step before,
 *                        zeros in the first; in training half of the batches get a guess that was
 *                        made from zeros, the other half zeros.
 *   neighbours           Where attention looks at a word, it also reads a part of the words beside
 *                        it (section 5: shift_neighbours), and soon learns which go side by side.
 *
 * The defaults: D = C = 128, L = 4, H = 4, F = 512, a schedule of 2000 steps; training: 4,000 steps
 * with batches of 32, AdamW with a rate of .002, less beyond 10,000 steps, and a weight decay of
 * 2000 / steps, .5 at most, and .01 where a text is seen often (section 14). Weights begin as
 * PyTorch's do (section 10).
 *
 * A training step (train.c: train_step; section 14: draw_batch, batch_losses; training_losses):
 *
 *   take a batch of sentences; draw t uniformly for each, and two noises
 *   x_start = embeddings + sqrt(1 - first_alpha) noise                             noisy_examples
 *   x_t     = sqrt(alphas_cumprod[t]) x_start + sqrt(1 - alphas_cumprod[t]) other noise
 *   out     = denoiser(x_t, previous guess or zeros, t)                         forward_examples
 *   p       = softmax(lm_head(out));  guess = p embeddings                        predict_xstart
 *   loss    = mse(x_start, guess) + head_nll + decoder_nll + tT_loss          losses_of_examples
 *   the gradient of the loss, back through all of it         backward_examples, weight_gradients
 *   if the gradient is longer than 1, it is shortened to 1                           clip_factor
 *   weights go against the gradient, and an average goes after them                   adamw_step
 *
 * Sampling (sample.c: sample_batch, p_sample_loop):
 *
 *   draw a length N from those of the training text
 *   x = noise (N,D), as at t = T-1
 *   for t = T-1 ... 0:
 *       x     = q_sample(embedding, t) where the word is known already         noise_known_words
 *       out   = denoiser(x, previous guess or zeros, t)
 *       guess = softmax(lm_head(out)) embeddings                                   guess_xstart
 *       guess = embedding where the word is known                              keep_known_words
 *       x     = posterior_mean_coef1[t] guess + posterior_mean_coef2[t] x
 *               + sqrt(posterior_variance[t]) noise, 0 at t = 0                    p_sample
 *   each point's word is the one that lm_head finds likeliest                      likeliest_words
 *
 * That is DDPM's step. With the softmax head ./sample's steps are of another kind (section 12:
 * ddim_sample): they replace more of the noise and go past the guess, and fewer words are wrong.
 *
 * A sentence has its own length: that is how many points the network is given. [CLS] in front and
 * [SEP] at the end are words of it, noisy like all others in training; in sampling they are known,
 * as the words of a prompt are. Only sentences of one length are computed together, in
 * training and in sampling, so nothing is filled up with [PAD] (but by --pad), and no attention is
 * masked. A batch is a few such groups; their gradients add up, and every position counts alike.
 *
 *   symbol  meaning                             symbol  meaning
 *   B       batch: sentences at once            D       embedding dimension
 *   N       positions of a sentence             C       model width (hidden size)
 *   V       vocabulary: words                   H, L    attention heads, layers
 *   T       diffusion steps that are taken      F       feed-forward width
 *   t       one of these, 0..T-1; the papers    M       rows: B*N
 *           count from 1. Its number in the whole schedule is timestep_map[t].
 *
 * A gradient has the name of what it is the gradient of, with d in front: dx_t is d loss / d x_t.
 * Everything random comes in as an argument, as numbers or as a key to hash: the same arguments
 * give the same result. */

/* ---- 2. the diffusion process -----------------------------------------------------------------
 * q_ has x_start, p_ guesses it: arithmetic with a handful of numbers for each t, computed once in
 * double precision. If all 2000 steps of the schedule `sqrt` are taken they are:
 *
 *        t   alphas_cumprod   beta     coef1     coef2   posterior_variance
 *        0       .985         .015    1         0          0
 *        1       .977         .0089    .38       .62        .0056
 *      100       .78          .0014    .0059     .9941      .0014
 *     1000       .30          .0012    .0009     .9989      .0012
 *     1980       .0048        .051     .0036     .9741      .051
 *     1999      2e-7          .999     .014      .032       .999
 *
 * (coef1 and coef2 are posterior_mean_coef1 of the guess and posterior_mean_coef2 of x_t.)
 *
 * What is special at t = 0: the target of mse is the embedding without noise. A step back has mean
 * 1 guess + 0 x_t and variance 0, so it ends in the guess, in which known words are their
 * embeddings already. x_start's own noise has variance 1 - first_alpha = .015. (Look for == 0 and
 * > 0.) */

/* One step of q is x_t = sqrt(1 - beta[t]) x_{t-1} + sqrt(beta[t]) noise (DDPM eq. 2): beta[t] is
 * the share of variance that it adds, and alphas_cumprod[t], the product of 1 - beta up to t, is
 * what is left of x_start, squared. A schedule is a function alpha_bar(s) of the share s
 * of all steps, falling to 0, and beta is its relative loss from one step to the next; so
 * alphas_cumprod[t] = alpha_bar((t+1)/T) / alpha_bar(0). beta is held at .999 at most, lest nothing
 * is left at the end and 1 / alphas_cumprod is infinite. */
void betas_for_alpha_bar(double *betas, int T, double (*alpha_bar)(double))
{
    for (int t = 0; t < T; t++)
        betas[t] = fmin(1 - alpha_bar((t + 1.0) / T) / alpha_bar((double)t / T), 0.999);
}

/* The schedule `sqrt` (Diffusion-LM app. A): much noise in the first steps already, since a word is
 * as recognisable under a little noise as under none. From s = .9999 on the formula is below 0; a
 * line to 0 takes its place. */
double sqrt_alpha_bar(double s) { return fmax(1 - sqrt(s + 0.0001), 1e-5 * (1 - s)); }

/* The tables. Respacing: of `total` steps the process may take some (kept). Those from t_min up are
 * trained, and of these some make a sample. alphas_cumprod stays what it is at those; so one step
 * does the work of all that it leaves out (Improved DDPM sec. 4). t counts the kept steps.
 * (Sampling always keeps the noisiest, to begin there: only there pure noise is right.) */
int diffusion_init(Diffusion *d, int schedule, int total, const unsigned char *kept, Error *err)
{
    double *all = diffusion_alloc(d, schedule, total, kept, err); /* betas of all steps */
    double left = 1, left_before = 1, cumprod = 1;
    if (!all) return -1;
    for (int t = 0, k = 0; t < total; t++) { /* the betas of the steps that are kept */
        left *= 1 - all[t];
        if (t == 0) d->first_alpha = left;
        if (kept && !kept[t]) continue;
        d->betas[k] = 1 - left / left_before;
        d->timestep_map[k++] = t;
        left_before = left;
    }
    free(all);
    for (int t = 0; t < d->T; t++) { /* what follows from them */
        const double prev = cumprod, beta = d->betas[t];
        cumprod *= 1 - beta;
        d->alphas_cumprod_prev[t] = prev, d->alphas_cumprod[t] = cumprod;
        d->posterior_variance[t] = beta * (1 - prev) / (1 - cumprod);             /* DDPM eq. 7 */
        d->posterior_mean_coef1[t] = beta * sqrt(prev) / (1 - cumprod);           /* of x_start */
        d->posterior_mean_coef2[t] = (1 - prev) * sqrt(1 - beta) / (1 - cumprod); /* of x_t */
    }
    for (int t = 0; t < d->T; t++) { /* for the bound; the variance of t = 0 has no logarithm */
        const int of = t == 0 && d->T > 1 ? 1 : t;
        d->posterior_log_variance_clipped[t] = log(d->posterior_variance[of]);
    }
    return 0;
}

/* What the network is told of t: one scale for every T. */
real diffusion_timestep(const Diffusion *d, int t)
{
    return (real)d->timestep_map[t] * ((real)1000 / d->total);
}

/* x_t = sqrt(alphas_cumprod[t]) x_start + sqrt(1 - alphas_cumprod[t]) noise (DDPM eq. 4); every
 * example has its own t. */
void q_sample(real *x_t, const real *x_start, const real *noise, const int *t, const Diffusion *d,
              int B, size_t n)
{
    for (int b = 0; b < B; b++) {
        const double a = d->alphas_cumprod[t[b]];
        combine(x_t + b * n, x_start + b * n, noise + b * n, (real)sqrt(a), (real)sqrt(1 - a), n);
    }
}

/* The mean of q(x_{t-1} | x_t, x_start), a Gaussian of variance posterior_variance[t] (DDPM eq.
 * 6 and 7). Two things are known of x_{t-1}: from x_start, a Gaussian of mean sqrt(a) x_start
 * and variance 1 - a, a = alphas_cumprod[t-1]; from x_t, one of mean x_t / sqrt(1 - beta) and
 * variance beta / (1 - beta). The posterior is their product: inverse variances add up, and
 * means are weighted by them, so it is a weighted sum of the two. If all steps are taken, nearly
 * all of it is x_t over most of t, so that a step moves x only a little way to the guess; in the
 * last handful it turns into x_start. (Of 20 steps each has further to go: the guess counts .1
 * to .9.) At t = T-1 neither counts much, as nearly all of x_{t-1} is new noise. */
void q_posterior_mean(real *mean, const real *x_start, const real *x_t, const int *t,
                      const Diffusion *d, int B, size_t n)
{
    for (int b = 0; b < B; b++)
        combine(mean + b * n, x_start + b * n, x_t + b * n, (real)d->posterior_mean_coef1[t[b]],
                (real)d->posterior_mean_coef2[t[b]], n);
}

/* The variance of a step back: posterior_variance[t] or, larger, beta[t], which DDPM sec. 3.2 finds
 * equally good. (At t = 0 only the bound asks.) */
double p_variance(const Diffusion *d, int t, Variance kind)
{
    if (kind == FIXED_SMALL) return d->posterior_variance[t];
    return t == 0 && d->T > 1 ? d->posterior_variance[1] : d->betas[t];
}

/* One step back: x_{t-1} is drawn as if the guess of x_start were right (DDPM alg. 2, line 4). At
 * t = 0 there is no x_{t-1} to draw; the step ends in the guess. */
void p_sample(real *x_prev, const real *pred_xstart, const real *x_t, const real *noise,
              const int *t, const Diffusion *d, Variance kind, int B, size_t n)
{
    q_posterior_mean(x_prev, pred_xstart, x_t, t, d, B, n);
    for (int b = 0; b < B; b++) {
        const real sigma = t[b] == 0 ? 0 : (real)sqrt(p_variance(d, t[b], kind));
        for (size_t i = b * n; i < (b + 1) * n; i++) x_prev[i] = fmadd(sigma, noise[i], x_prev[i]);
    }
}

/* ---- 3. the loss ------------------------------------------------------------------------------
 * Each term is a pair: forward gives a value for every example, backward ADDS weight[b] times its
 * gradient. The values are means over positions and, for mse and tT_loss, dimensions; weight[b] is
 * 1/B times the Batch's own weight: a Batch is one group, B sentences of one length, and its weight
 * is its share of all positions of the step (section 14), so that the loss is the mean over these.
 * (mse is divided by D, and the terms of words are not: so they weigh D times more against it. That
 * is a choice, and works.)
 *
 * Who calls: training_losses (section 10) makes the table of embeddings, lets each thread take some
 * examples of the batch through losses_of_examples, with arrays that begin at the first of them
 * (w->first), then all threads through weight_gradients, and turns the gradient of the table into
 * that of word_embedding.
 *
 * matmul(c, SET or ADD, bias, a, is a transposed?, b, is b transposed?, rows, columns, inner) is
 * c = a b + bias or c += a b; above each stands what it computes. */

/* mse = mean (target - out)^2 */
void mse_forward(double *mse, const real *target, const real *out, int B, size_t n)
{
    for (int b = 0; b < B; b++)
        mse[b] = (double)square_distance(target + b * n, out + b * n, n) / n;
}

/* d mse / d target = 2/n (target - out) = -d mse / d out */
void mse_backward(real *dtarget, real *dout, const real *target, const real *out,
                  const real *weight, int B, size_t n)
{
    for (int b = 0; b < B; b++)
        for (size_t i = b * n; i < (b + 1) * n; i++) {
            const real g = 2 * weight[b] / n * (target[i] - out[i]);
            dtarget[i] += g;
            dout[i] -= g;
        }
}

/* nll = mean over positions of -log softmax(logits)[id] = log(sum of exp(logits)) - logits[id].
 * softmax (section 5) works in place and returns the first part. (The logarithm of its result would
 * not do: that has 0 for the smallest probabilities.) So the logits are replaced by their softmax,
 * and in the backward that by their gradient. */
static void cross_entropy(double *nll /*(B)*/, real *logits /*(B,N,V)*/, const int *ids /*(B,N)*/,
                          int B, int N, int V)
{
    for (int b = 0; b < B; b++) {
        nll[b] = 0;
        for (int i = b * N; i < (b + 1) * N; i++) {
            real *row = logits + (size_t)i * V;
            const real logit = row[ids[i]];
            nll[b] += (double)(softmax(row, V) - logit) / N;
        }
    }
}

/* logits = x embedding^T + bias: large for the words whose embeddings x is close to. The weight of
 * this Linear is the table of embeddings (in BERT's words, the two are tied). */
void lm_head_forward(const Model *m, real *logits, const real *x, int M)
{
    linear_forward(logits, x, m->embedding, m->lm_head_bias->data, M, m->config.vocab,
                   m->config.emb_dim);
}

/* decoder_nll = mean over positions of -log softmax(lm_head(x))[id] */
void decoder_nll_forward(double *nll, real *logits, const Model *m, const real *x, const int *ids,
                         int B, int N)
{
    lm_head_forward(m, logits, x, B * N);
    cross_entropy(nll, logits, ids, B, N, m->config.vocab);
}

/* dlogits = weight/N (softmax - onehot), in place of the softmax;  dx += dlogits embedding. The
 * weight of this Linear gets its gradient with all other weights: weight_gradients. */
void decoder_nll_backward(real *dx, real *probs, const Model *m, const int *ids, const real *weight,
                          int B, int N)
{
    const int V = m->config.vocab, D = m->config.emb_dim, M = B * N;
    for (int i = 0; i < M; i++) {
        real *p = probs + (size_t)i * V;
        const real scale = weight[i / N] / N; /* row i belongs to example i / N */
        p[ids[i]] -= 1;
        for (int v = 0; v < V; v++) p[v] *= scale;
    }
    matmul(dx, ADD, NULL, probs, 0, m->embedding, 0, M, D, V);
}

/* tT = mean (sqrt(alphas_cumprod[T-1]) x_start)^2 */
void tT_loss_forward(double *tT, const real *x_start, const Diffusion *d, int B, size_t n)
{
    const double left = d->alphas_cumprod[d->T - 1];
    for (int b = 0; b < B; b++)
        tT[b] = left * (double)square_distance(x_start + b * n, NULL, n) / n;
}

void tT_loss_backward(real *dx_start, const real *x_start, const Diffusion *d, const real *weight,
                      int B, size_t n)
{
    for (int b = 0; b < B; b++) {
        const real scale = 2 * weight[b] / n * (real)d->alphas_cumprod[d->T - 1];
        for (size_t i = b * n; i < (b + 1) * n; i++)
            dx_start[i] = fmadd(scale, x_start[i], dx_start[i]);
    }
}

/* The softmax head: p = softmax(lm_head(out)), left in w->head;  pred = p embedding. head_nll:
 * NULL, or the cross-entropy of p with the words. */
static void softmax_head_forward(const Model *m, const Workspace *w, real *pred, double *head_nll,
                                 const real *out, const int *ids, int B, int N)
{
    const int V = m->config.vocab, D = m->config.emb_dim, M = B * N;
    lm_head_forward(m, w->head, out, M);
    if (head_nll)
        cross_entropy(head_nll, w->head, ids, B, N, V);
    else
        for (int i = 0; i < M; i++) softmax(w->head + (size_t)i * V, V);
    matmul(pred, SET, NULL, w->head, 0, m->embedding, 0, M, D, V);
}

/* dlogits, into w->dhead, has two parts. Through the guess: g = dpred embedding^T is d loss / d p,
 * of which softmax's backward makes p (g - sum of p g). From head_nll: weight/N (p - onehot).
 * Then dout += dlogits embedding. */
static void softmax_head_backward(const Model *m, const Workspace *w, real *dout, const real *dpred,
                                  const int *ids, const real *weight, int B, int N)
{
    const int V = m->config.vocab, D = m->config.emb_dim, M = B * N;
    matmul(w->dhead, SET, NULL, dpred, 0, m->embedding, 1, M, V, D);
    for (int i = 0; i < M; i++) {
        real *g = w->dhead + (size_t)i * V;
        const real *p = w->head + (size_t)i * V;
        const real sum_pg = dot(g, p, V), scale = weight[i / N] / N;
        for (int v = 0; v < V; v++) g[v] = p[v] * (g[v] - sum_pg + scale);
        g[ids[i]] -= scale;
    }
    matmul(dout, ADD, NULL, w->dhead, 0, m->embedding, 0, M, D, V);
}

/* The guess of x_start, pred, from the network's output: by the softmax head, or the output itself
 * as in Diffusion-LM. (Section 11 has two other ways, off unless asked for: the output may be the
 * noise, and ./sample --evidence-above may add what x_t alone says of its words.) */
static void predict_xstart(const Model *m, const Workspace *w, real *pred, double *head_nll,
                           real *out, const real *x_t, const int *ids, const int *t,
                           const Diffusion *d, int B, int N)
{
    const size_t n = (size_t)N * m->config.emb_dim;
    if (m->config.predict == PREDICT_SOFTMAX) {
        if (d->evidence_above < HUGE_VAL) add_evidence(out, x_t, d, t, B, n);
        softmax_head_forward(m, w, pred, head_nll, out, ids, B, N);
    } else {
        if (m->config.predict == PREDICT_XSTART)
            memcpy(pred, out, B * n * sizeof *pred);
        else
            xstart_from_epsilon(pred, x_t, out, t, d, B, n);
        for (int b = 0; head_nll && b < B; b++) head_nll[b] = 0;
    }
}

/* The points of the examples: target, the embedding; x_start, the same with noise of its own; and
 * x_t, which the network sees. */
static void noisy_examples(const Model *m, const Workspace *w, const Diffusion *d, const Batch *y)
{
    const size_t n = (size_t)y->N * m->config.emb_dim;
    const real sigma = (real)sqrt(1 - d->first_alpha);
    embedding_forward(w->target, m->embedding, y->ids, y->B * y->N, m->config.emb_dim);
    for (size_t i = 0; i < y->B * n; i++)
        w->x_start[i] = fmadd(sigma, y->noise_x0[i], w->target[i]);
    q_sample(w->x_t, w->x_start, y->noise_t, y->t, d, y->B, n);
    for (int b = 0; b < y->B; b++) w->timesteps[b] = diffusion_timestep(d, y->t[b]);
}

/* The loss of a thread's examples and, with backward, the gradient of all activations. The
 * embeddings receive gradient by five routes:
 *
 *   1 through x_t, the network's input        4 through x_start, the decoder's input
 *   2 through the target of mse               5 as the weight of the decoder, lm_head
 *   3 through x_start in tT_loss
 *
 * and with the softmax head by two more: 6 as its weight, 7 as what its probabilities average.
 * Routes 1 to 4 meet in dx_start, as x_start is the embedding plus a constant noise; 5 to 7 are
 * gradients of a weight, and are taken in weight_gradients. Only the estimate that is read for
 * self-conditioning is taken for a constant. */
static void losses_of_examples(const Model *m, const Workspace *w, const Losses *terms,
                               const Diffusion *d, const Batch *y, const real *weight, int backward,
                               Dropout drop)
{
    const int D = m->config.emb_dim, B = y->B, N = y->N;
    const int epsilon = m->config.predict == PREDICT_EPSILON;
    const size_t n = (size_t)N * D;

    noisy_examples(m, w, d, y);
    for (int b = 0; b < B; b++) /* the target: x_start, but at t = 0 still the embedding */
        if (y->t[b] > 0) memcpy(w->target + b * n, w->x_start + b * n, n * sizeof *w->target);
    if (y->self_condition) { /* a first guess, made from zeros, is read when guessing again */
        forward_examples(m, w, w->model_out, w->x_t, NULL, w->timesteps, B, N, drop);
        predict_xstart(m, w, w->estimate, NULL, w->model_out, w->x_t, NULL, y->t, d, B, N);
    }
    forward_examples(m, w, w->model_out, w->x_t, y->self_condition ? w->estimate : NULL,
                     w->timesteps, B, N, drop);
    predict_xstart(m, w, w->pred_xstart, terms->head_nll, w->model_out, w->x_t, y->ids, y->t, d, B,
                   N);
    if (epsilon)
        noise_mse_forward(w, terms->mse, y, n);
    else
        mse_forward(terms->mse, w->target, w->pred_xstart, B, n);
    decoder_nll_forward(terms->decoder_nll, w->logits, m, w->x_start, y->ids, B, N);
    tT_loss_forward(terms->tT_loss, w->x_start, d, B, n);
    for (int b = 0; b < B; b++)
        terms->loss[b] =
            terms->mse[b] + terms->decoder_nll[b] + terms->tT_loss[b] + terms->head_nll[b];
    if (!backward) return;

    memset(w->dx_start, 0, B * n * sizeof *w->dx_start);
    memset(w->dmodel_out, 0, B * n * sizeof *w->dmodel_out);
    memset(w->dpred, 0, B * n * sizeof *w->dpred);
    tT_loss_backward(w->dx_start, w->x_start, d, weight, B, n);            /* route 3 */
    decoder_nll_backward(w->dx_start, w->logits, m, y->ids, weight, B, N); /* route 4 */
    if (epsilon)
        noise_mse_backward(w, y, d, weight, n);
    else
        mse_backward(w->dx_start, w->dpred, w->target, w->pred_xstart, weight, B, n); /* route 2 */
    if (m->config.predict == PREDICT_SOFTMAX)
        softmax_head_backward(m, w, w->dmodel_out, w->dpred, y->ids, weight, B, N);
    else if (!epsilon)
        add_to(w->dmodel_out, w->dpred, B * n);
    backward_examples(m, w, w->dx_t, w->dmodel_out, B, N, drop);
    if (epsilon) past_the_network(w, y, d, n);
    for (int b = 0; b < B; b++) { /* route 1: x_t holds sqrt(alphas_cumprod) x_start */
        const real scale = (real)sqrt(d->alphas_cumprod[y->t[b]]);
        for (size_t i = b * n; i < (b + 1) * n; i++)
            w->dx_start[i] = fmadd(scale, w->dx_t[i], w->dx_start[i]);
    }
}

/* The gradients of all weights, from what losses_of_examples left in the places of the forward
 * values (w->logits is dlogits now). The embeddings' routes are added one behind the other; of each
 * product all threads compute some rows. */
static void weight_gradients(Model *m, Workspace *w, const Batch *y)
{
    const int M = y->B * y->N;
    backward_weights(m, w, w->dmodel_out, w->x_t, y->B, y->N);
    embeddings_as_weight(m, m->lm_head_bias->grad, w->logits, w->x_start, M); /* route 5 */
    if (m->config.predict == PREDICT_SOFTMAX) {
        embeddings_as_weight(m, m->lm_head_bias->grad, w->dhead, w->model_out, M); /* route 6 */
        embeddings_as_weight(m, NULL, w->head, w->dpred, M);                       /* route 7 */
    }
    embedding_backward(m->dembedding, w->dx_start, y->ids, M, m->config.emb_dim); /* routes 1-4 */
}

/* ---- 4. the denoiser --------------------------------------------------------------------------
 * A BERT encoder (the LayerNorm behind each sum) between two small projections:
 *
 *   x_t (B,N,D) --Linear,tanh,Linear--> (B,N,C)  + position + time  --LayerNorm-->  h
 *   (with self-conditioning x_t and the previous guess side by side, (B,N,2D))
 *   L times:  h = LayerNorm(h + attention(h));   h = LayerNorm(h + Linear(GELU(Linear(h))))
 *   h (B,N,C) --Linear,tanh,Linear--> out (B,N,D)
 *
 *   t --sines, cosines--> (B,time_dim) --Linear,SiLU,Linear--> time (B,C), alike at all positions
 *
 * A Pair is the weight and the bias of a Linear, or gamma and beta of a LayerNorm. query.weight
 * stands for those of query, key and value, which lie behind each other: (3C,C). */

static void linear_of(real *out, const real *in, Pair p, int M)
{
    linear_forward(out, in, p.weight->data, p.bias->data, M, p.weight->shape[0],
                   p.weight->shape[1]);
}

static void linear_of_backward(real *din, Pair p, const real *dout, int M)
{
    linear_backward_input(din, dout, p.weight->data, M, p.weight->shape[0], p.weight->shape[1]);
}

/* In place: normed holds the input, and then the input normalised, which the backward needs. */
static void layernorm_of(real *out, real *normed, real *rstd, Pair p, int M)
{
    layernorm_forward(out, normed, rstd, normed, p.weight->data, p.bias->data, M,
                      (int)p.weight->size);
}

/* In place. The gradients of gamma and beta stay apart for every example, in partial (B,2,C), until
 * backward_weights adds them up. */
static void layernorm_of_backward(real *dx, real *partial, Pair p, const real *normed,
                                  const real *rstd, int B, int N)
{
    const size_t C = p.weight->size;
    memset(partial, 0, 2 * B * C * sizeof *partial);
    for (size_t b = 0; b < (size_t)B; b++)
        layernorm_backward(dx + b * N * C, partial + 2 * b * C, partial + (2 * b + 1) * C,
                           dx + b * N * C, normed + b * N * C, rstd + b * N, p.weight->data, N,
                           (int)C);
}

/* Dropout leaves out a share of the activations, at places 1 to 3 of each layer and, place 0, once
 * before the first, each with a mask of its own. offset: the element at which this thread's
 * examples begin among those that the mask is for. */
static Dropout dropout_site(Dropout drop, int layer, int place, size_t offset)
{
    drop.key = mix64(drop.key + (uint64_t)(4 * layer + place + 1));
    drop.offset = offset;
    return drop;
}

static void add_position_and_time(real *h /*(B,N,C)*/, const real *position /*(N,C)*/,
                                  const real *time /*(B,C)*/, int B, int N, int C)
{
    for (int row = 0; row < B * N; row++) {
        const real *p = position + (size_t)(row % N) * C, *s = time + (size_t)(row / N) * C;
        for (int c = 0; c < C; c++) h[(size_t)row * C + c] += p[c] + s[c];
    }
}

/* What the network reads: x_t or, with self-conditioning, x_t and the previous guess of x_start
 * (NULL: none yet, zeros) side by side (Chen et al. 2022, arXiv:2208.04202). */
static const real *network_input(const Workspace *w, const real *x_t, const real *estimate, int M,
                                 int D)
{
    if (!w->input) return x_t;
    for (size_t row = 0; row < (size_t)M; row++) {
        real *to = w->input + 2 * row * D;
        memcpy(to, x_t + row * D, D * sizeof *to);
        if (estimate)
            memcpy(to + D, estimate + row * D, D * sizeof *to);
        else
            memset(to + D, 0, D * sizeof *to);
    }
    return w->input;
}

static void forward_examples(const Model *m, const Workspace *w, real *out, const real *x_t,
                             const real *estimate, const real *timesteps, int B, int N,
                             Dropout drop)
{
    const Config *c = &m->config;
    const int C = c->hidden, F = c->ffn, M = B * N, T4 = 4 * c->time_dim;
    const size_t n = (size_t)M * C, at = (size_t)w->first * N * C;
    const size_t att_at = (size_t)w->first * c->heads * N * N;

    timestep_embedding(w->temb, timesteps, B, c->time_dim);
    linear_of(w->time_hidden, w->temb, m->time_in, B);
    silu_forward(w->time_act, w->time_hidden, (size_t)B * T4);
    linear_of(w->time, w->time_act, m->time_out, B);

    project(w->emb_normed, w->up_act, network_input(w, x_t, estimate, M, c->emb_dim), m->up_in,
            m->up_out, M, C);
    add_position_and_time(w->emb_normed, m->position_embeddings->data, w->time, B, N, C);
    layernorm_of(w->emb, w->emb_normed, w->emb_rstd, m->emb_ln, M);
    dropout_forward(w->emb, w->emb, n, dropout_site(drop, 0, 0, at));

    const real *h = w->emb;
    for (int l = 0; l < c->layers; l++) {
        const Layer *layer = &m->layer[l];
        const LayerActs a = layer_acts(w, c, l);
        linear_forward(a.qkv, h, layer->query.weight->data, layer->query.bias->data, M, 3 * C, C);
        if (c->neighbours) shift_neighbours(a.qkv, 1, B, N, C, c->heads);
        attention_forward(a.context, a.att, w->dropped, a.qkv, dropout_site(drop, l, 1, att_at), B,
                          N, C, c->heads);
        linear_of(a.attn_normed, a.context, layer->attn_out, M);
        dropout_forward(a.attn_normed, a.attn_normed, n, dropout_site(drop, l, 2, at));
        add_to(a.attn_normed, h, n);
        layernorm_of(a.attn_out, a.attn_normed, a.attn_rstd, layer->attn_ln, M);

        linear_of(a.ffn_in, a.attn_out, layer->ffn_up, M);
        gelu_forward(a.ffn_act, a.ffn_in, (size_t)M * F);
        linear_of(a.normed, a.ffn_act, layer->ffn_down, M);
        dropout_forward(a.normed, a.normed, n, dropout_site(drop, l, 3, at));
        add_to(a.normed, a.attn_out, n);
        layernorm_of(a.out, a.normed, a.rstd, layer->ffn_ln, M);
        h = a.out;
    }

    project(out, w->down_act, h, m->down_in, m->down_out, M, C);
}

/* The forward, line by line from its end: the gradient of every activation. dh is the gradient of
 * h; behind a LayerNorm's backward it is that of the sum h + branch(h), which goes to both, so the
 * branch adds its own to it. backward_weights needs the gradient of each Linear's output later. It
 * is kept in an array of its own (w->d...) or over a forward value that nobody reads any more:
 *
 *   the gradient of  is left in             the gradient of     is left in
 *   down_in's        w->ddown               query, key, value's a.qkv
 *   ffn_down's       a.normed               up_out's            w->emb_normed
 *   ffn_up's         a.ffn_in               up_in's             w->dup
 *   attn_out's       a.attn_normed          time_out's, time_in's  w->dtime, w->dtime_act */
static void backward_examples(const Model *m, const Workspace *w, real *dx_t, const real *dout,
                              int B, int N, Dropout drop)
{
    const Config *c = &m->config;
    const int C = c->hidden, F = c->ffn, M = B * N, T4 = 4 * c->time_dim;
    const size_t n = (size_t)M * C, at = (size_t)w->first * N * C;
    const size_t att_at = (size_t)w->first * c->heads * N * N;
    real *dh = w->dh;

    project_backward(dh, w->ddown, dout, w->down_act, m->down_in, m->down_out, M, C);

    for (int l = c->layers - 1; l >= 0; l--) {
        const Layer *layer = &m->layer[l];
        const LayerActs a = layer_acts(w, c, l);
        real *dffn_down = a.normed, *dffn_up = a.ffn_in, *dattn_out = a.attn_normed, *dqkv = a.qkv;

        layernorm_of_backward(dh, a.dln, layer->ffn_ln, a.normed, a.rstd, B, N);
        dropout_backward(dffn_down, dh, n, dropout_site(drop, l, 3, at));
        linear_of_backward(w->dffn, layer->ffn_down, dffn_down, M);
        gelu_backward(dffn_up, w->dffn, a.ffn_in, (size_t)M * F);
        linear_of_backward(w->dbranch, layer->ffn_up, dffn_up, M);
        add_to(dh, w->dbranch, n);

        layernorm_of_backward(dh, a.dattn_ln, layer->attn_ln, a.attn_normed, a.attn_rstd, B, N);
        dropout_backward(dattn_out, dh, n, dropout_site(drop, l, 2, at));
        linear_of_backward(w->dcontext, layer->attn_out, dattn_out, M);
        attention_backward(w->dqkv, w->dscores, w->dropped, w->dcontext, a.att, a.qkv,
                           dropout_site(drop, l, 1, att_at), B, N, C, c->heads);
        if (c->neighbours) shift_neighbours(w->dqkv, -1, B, N, C, c->heads);
        memcpy(dqkv, w->dqkv, 3 * n * sizeof *dqkv); /* q, k, v were read until now */
        linear_backward_input(w->dbranch, dqkv, layer->query.weight->data, M, 3 * C, C);
        add_to(dh, w->dbranch, n);
    }

    dropout_backward(dh, dh, n, dropout_site(drop, 0, 0, at));
    layernorm_of_backward(dh, w->demb_ln, m->emb_ln, w->emb_normed, w->emb_rstd, B, N);
    memcpy(w->emb_normed, dh, n * sizeof *dh);
    project_backward(w->dinput ? w->dinput : dx_t, w->dup, dh, w->up_act, m->up_in, m->up_out, M,
                     C);
    if (w->dinput) /* of [x_t, estimate]: the estimate is a constant */
        for (size_t row = 0, D = c->emb_dim; row < (size_t)M; row++)
            memcpy(dx_t + row * D, w->dinput + 2 * row * D, D * sizeof *dx_t);

    memset(w->dtime, 0, (size_t)B * C * sizeof *w->dtime); /* time was added at every position */
    for (int b = 0; b < B; b++) add_rows(w->dtime + (size_t)b * C, dh + (size_t)b * N * C, C, N, C);
    linear_of_backward(w->dtime_act, m->time_out, w->dtime, B);
    silu_backward(w->dtime_act, w->dtime_act, w->time_hidden, (size_t)B * T4);
}

/* The gradients of the network's weights, all but word_embedding and lm_head's bias, from what
 * backward_examples left (the table there): sums over all rows of the batch, in order. weights_of
 * does dw += dout^T in; all threads call it, and each computes some rows of dw. (key.bias gets 0
 * but for rounding: it adds the same to all scores of a row, which softmax does not notice. With
 * neighbours it gets a little: a quarter without a neighbour is 0 and has no bias.) */
static void backward_weights(Model *m, const Workspace *w, const real *dout, const real *x_t, int B,
                             int N)
{
    const Config *c = &m->config;
    const int C = c->hidden, M = B * N;
#pragma omp parallel
    {
        weights_of(m->down_out, c->emb_dim, dout, w->down_act, M);
        weights_of(m->down_in, C, w->ddown, layer_acts(w, c, c->layers - 1).out, M);
        for (int l = c->layers - 1; l >= 0; l--) {
            const Layer *layer = &m->layer[l];
            const LayerActs a = layer_acts(w, c, l);
            const real *dffn_down = a.normed, *dffn_up = a.ffn_in, *dattn_out = a.attn_normed;
            const real *dqkv = a.qkv, *h = l > 0 ? layer_acts(w, c, l - 1).out : w->emb;
            weights_of(layer->ffn_down, C, dffn_down, a.ffn_act, M);
            weights_of(layer->ffn_up, c->ffn, dffn_up, a.attn_out, M);
            weights_of(layer->attn_out, C, dattn_out, a.context, M);
            weights_of(layer->query, 3 * C, dqkv, h, M);
            layernorm_weights_of(layer->ffn_ln, a.dln, B);
            layernorm_weights_of(layer->attn_ln, a.dattn_ln, B);
        }
        layernorm_weights_of(m->emb_ln, w->demb_ln, B);
        weights_of(m->up_out, C, w->emb_normed, w->up_act, M);
        weights_of(m->up_in, C, w->dup, w->input ? w->input : x_t, M);
        weights_of(m->time_out, C, w->dtime, w->time_act, B);
        weights_of(m->time_in, 4 * c->time_dim, w->dtime_act, w->temb, B);
#pragma omp single nowait
        add_rows(m->position_embeddings->grad, w->emb_normed, (size_t)N * C, B, N * C);
    }
}

/* The table of embeddings that everything reads, m->embedding: word_embedding itself or, with
 * emb_norm, its rows scaled to that norm. (FLT_MIN: a row of zeros stays zeros.) */
void embedding_table_forward(Model *m)
{
    const int D = m->config.emb_dim;
    if (m->config.emb_norm == 0) return;
    for (int v = 0; v < m->config.vocab; v++) {
        const real *e = m->word_embedding->data + (size_t)v * D;
        const real scale = (real)m->config.emb_norm / real_sqrt(dot(e, e, D) + FLT_MIN);
        for (int d = 0; d < D; d++) m->embedding[(size_t)v * D + d] = scale * e[d];
    }
}

/* With u = e / |e|:  de = emb_norm / |e| (dtable - u (u . dtable)): only what turns a row reaches
 * it, what would make it longer does not. */
void embedding_table_backward(Model *m)
{
    const int D = m->config.emb_dim;
    if (m->config.emb_norm == 0) return;
    for (int v = 0; v < m->config.vocab; v++) {
        const real *e = m->word_embedding->data + (size_t)v * D;
        real *de = m->word_embedding->grad + (size_t)v * D, *dtable = m->dembedding + (size_t)v * D;
        const real square = dot(e, e, D) + FLT_MIN;
        const real scale = (real)m->config.emb_norm / real_sqrt(square);
        const real along = dot(e, dtable, D) / square;
        for (int d = 0; d < D; d++) {
            de[d] += scale * (dtable[d] - along * e[d]);
            dtable[d] = 0;
        }
    }
}

/* ---- 5. layers --------------------------------------------------------------------------------
 * A layer is a pair of functions: outputs first, shapes last, the forward's formula above the
 * derivative. Layers know nothing of threads. */

/* out = in w^T + b */
void linear_forward(real *out, const real *in, const real *w, const real *b, int M, int O, int I)
{
    matmul(out, SET, b, in, 0, w, 1, M, O, I);
}

/* din = dout w */
void linear_backward_input(real *din, const real *dout, const real *w, int M, int O, int I)
{
    matmul(din, SET, NULL, dout, 0, w, 0, M, I, O);
}

/* dw += dout^T in;  db += the sum of dout over its rows; of the outputs from..to-1 */
void linear_backward_weights(real *dw, real *db, const real *dout, const real *in, int M, int O,
                             int I, int from, int to)
{
    product(dw + (size_t)from * I, I, ADD, columns_of(dout + from, O), rows_of(in, I), to - from, I,
            M);
    if (db) add_rows(db + from, dout + from, O, M, to - from);
}

/* normed = (in - mean) / sqrt(var + eps);  out = normed gamma + beta    (eps as BERT has it) */
void layernorm_forward(real *out, real *normed, real *rstd, const real *in, const real *gamma,
                       const real *beta, int M, int C)
{
    for (int row = 0; row < M; row++) {
        const real *x = in + (size_t)row * C;
        real *xn = normed + (size_t)row * C, *y = out + (size_t)row * C;
        const real mean = sum(x, C) / C;
        for (int c = 0; c < C; c++) xn[c] = x[c] - mean;
        const real scale = rstd[row] = 1 / real_sqrt(dot(xn, xn, C) / C + (real)1e-12);
        for (int c = 0; c < C; c++) y[c] = fmadd(xn[c] *= scale, gamma[c], beta[c]);
    }
}

/* With g = dout gamma:  din = rstd (g - mean(g) - normed mean(g normed)), since the mean and the
 * variance both move with every input;  dgamma += dout normed;  dbeta += dout */
void layernorm_backward(real *din, real *dgamma, real *dbeta, const real *dout, const real *normed,
                        const real *rstd, const real *gamma, int M, int C)
{
    for (size_t row = 0; row < (size_t)M; row++)
        for (int c = 0; c < C; c++) {
            dbeta[c] += dout[row * C + c];
            dgamma[c] = fmadd(dout[row * C + c], normed[row * C + c], dgamma[c]);
        }
    for (size_t row = 0; row < (size_t)M; row++) {
        const real *dy = dout + row * C, *xn = normed + row * C;
        real *dx = din + row * C;
        for (int c = 0; c < C; c++) dx[c] = dy[c] * gamma[c];
        const real mean = sum(dx, C) / C, slope = dot(dx, xn, C) / C;
        for (int c = 0; c < C; c++) dx[c] = (dx[c] - mean - xn[c] * slope) * rstd[row];
    }
}

static const double root_half = 0.70710678118654752440, root_two_pi = 2.50662827463100050242;

/* out = x Phi(x), Phi the distribution function of the normal distribution: GELU as in BERT */
void gelu_forward(real *out, const real *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (real)0.5 * in[i] * (1 + r_erf(in[i] * (real)root_half));
}

/* d/dx x Phi(x) = Phi(x) + x phi(x), phi its density */
void gelu_backward(real *din, const real *dout, const real *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const real x = in[i], cdf = (real)0.5 * (1 + r_erf(x * (real)root_half));
        const real pdf = r_exp((real)-0.5 * x * x) * (real)(1 / root_two_pi);
        din[i] = dout[i] * fmadd(x, pdf, cdf);
    }
}

void tanh_forward(real *out, const real *in, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = r_tanh(in[i]);
}

/* tanh' = 1 - tanh^2 */
void tanh_backward(real *din, const real *dout, const real *out, size_t n)
{
    for (size_t i = 0; i < n; i++) din[i] = dout[i] * (1 - out[i] * out[i]);
}

/* out = x s(x), s(x) = 1 / (1 + exp(-x)) */
void silu_forward(real *out, const real *in, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = in[i] / (1 + r_exp(-in[i]));
}

/* (x s)' = s (1 + x (1 - s)) */
void silu_backward(real *din, const real *dout, const real *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const real s = 1 / (1 + r_exp(-in[i]));
        din[i] = dout[i] * s * (1 + in[i] * (1 - s));
    }
}

/* What element i is multiplied by: 0 with probability rate, else 1 / (1 - rate), so that the mean
 * stays. A hash says which: nothing is stored, and the backward finds the same mask. */
static inline real dropout_scale(Dropout drop, size_t i)
{
    const uint32_t hash = hash32(drop.key, (uint32_t)(drop.offset + i)) >> 8;
    return hash < (uint32_t)(drop.rate * 16777216) ? 0 : (real)(1 / (1 - drop.rate));
}

void dropout_forward(real *out, const real *in, size_t n, Dropout drop)
{
    if (drop.rate == 0) {
        if (out != in) memcpy(out, in, n * sizeof *out);
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = in[i] * dropout_scale(drop, i);
}

void dropout_backward(real *din, const real *dout, size_t n, Dropout drop)
{
    dropout_forward(din, dout, n, drop); /* linear in its input, with the same mask */
}

/* In place: x = exp(x) / sum exp(x); returns log(sum exp(x)). What is 1e-14 of the largest or less
 * becomes 0: no sum would notice it, but the smallest have gradients below 1e-38, denormal numbers,
 * with which some processors are a hundred times slower: a training step took 2.5 times as long. (A
 * NaN makes the whole row NaN.) */
static real softmax(real *x, int n)
{
    const real top = largest(x, n);
    for (int i = 0; i < n; i++) x[i] = x[i] - top < -32 ? 0 : r_exp(x[i] - top);
    const real total = sum(x, n), scale = 1 / total;
    for (int i = 0; i < n; i++) x[i] *= scale;
    return top + r_log(total);
}

/* What stands beside a word attention can find by the positions only, which takes long to learn. So
 * the first quarter of each head's keys and values is taken from the position before, the second
 * from the one behind (beyond the ends: 0): a query then finds, and reads, a word together with its
 * neighbours (Lin et al. 2019, arXiv:1811.08383, "temporal shift"). */
void shift_neighbours(real *qkv, int by, int B, int N, int C, int H)
{
    const size_t stride = 3 * (size_t)C, width = C / H, quarter = width / 4;
    for (int b = 0; b < B; b++)
        for (int k = 0; k < 4 * H; k++) { /* two quarters of H heads' keys, then of their values */
            real *x = qkv + b * N * stride + (H + k / 2) * width + k % 2 * quarter;
            const int step = k % 2 ? -by : by; /* row n becomes row n - step */
            for (int i = 0; i < N; i++) {
                const int n = step > 0 ? N - 1 - i : i, from = n - step;
                if (from < 0 || from == N)
                    memset(x + n * stride, 0, quarter * sizeof *x);
                else
                    memcpy(x + n * stride, x + from * stride, quarter * sizeof *x);
            }
        }
}

/* For every head: p = softmax(q k^T / sqrt(C/H)), out = dropout(p) v (Vaswani et al. 2017,
 * arXiv:1706.03762, eq. 1). qkv holds q, k and v of a position side by side, each C wide, in which
 * a head has C/H columns: rows are `stride` apart. */
void attention_forward(real *out, real *att, real *dropped, const real *qkv, Dropout drop, int B,
                       int N, int C, int H)
{
    const int width = C / H;
    const size_t stride = 3 * (size_t)C, square = (size_t)N * N;
    const real scale = 1 / real_sqrt((real)width);
    for (int bh = 0; bh < B * H; bh++) {
        const int b = bh / H, h = bh % H;
        const real *q = qkv + b * N * stride + h * width, *k = q + C, *v = k + C;
        real *p = att + bh * square, *y = out + (size_t)b * N * C + h * width;
        product(p, N, SET, rows_of(q, stride), columns_of(k, stride), N, N, width); /* q k^T */
        for (size_t i = 0; i < square; i++) p[i] *= scale;
        for (int i = 0; i < N; i++) softmax(p + (size_t)i * N, N);
        if (drop.rate > 0) dropout_forward(dropped, p, square, drop);
        const real *used = drop.rate > 0 ? dropped : p;
        product(y, C, SET, rows_of(used, N), rows_of(v, stride), N, width, N); /* used v */
        drop.offset += square;
    }
}

/* With used = dropout(p): dused = dout v^T, dp = dropout's backward of it, and through the softmax
 * ds = p (dp - sum of p dp);  dv = used^T dout;  dq = ds k / sqrt(C/H);  dk = ds^T q / sqrt(C/H) */
void attention_backward(real *dqkv, real *ds, real *dropped, const real *dout, const real *att,
                        const real *qkv, Dropout drop, int B, int N, int C, int H)
{
    const int width = C / H;
    const size_t stride = 3 * (size_t)C, square = (size_t)N * N;
    const real scale = 1 / real_sqrt((real)width);
    for (int bh = 0; bh < B * H; bh++) {
        const int b = bh / H, h = bh % H;
        const real *q = qkv + b * N * stride + h * width, *k = q + C, *v = k + C;
        const real *p = att + bh * square, *dy = dout + (size_t)b * N * C + h * width;
        real *dq = dqkv + b * N * stride + h * width, *dk = dq + C, *dv = dk + C;
        product(ds, N, SET, rows_of(dy, C), columns_of(v, stride), N, N, width); /* dy v^T */
        if (drop.rate > 0) {
            dropout_forward(dropped, p, square, drop);
            dropout_backward(ds, ds, square, drop);
        }
        const real *used = drop.rate > 0 ? dropped : p;
        product(dv, stride, SET, columns_of(used, N), rows_of(dy, C), N, width, N); /* used^T dy */
        for (int i = 0; i < N; i++) {
            const real *pi = p + (size_t)i * N;
            real *row = ds + (size_t)i * N, total = dot(row, pi, N);
            for (int j = 0; j < N; j++) row[j] = pi[j] * (row[j] - total) * scale;
        }
        product(dq, stride, SET, rows_of(ds, N), rows_of(k, stride), N, width, N);    /* ds k */
        product(dk, stride, SET, columns_of(ds, N), rows_of(q, stride), N, width, N); /* ds^T q */
        drop.offset += square;
    }
}

void embedding_forward(real *out, const real *table, const int *ids, int M, int D)
{
    for (size_t row = 0; row < (size_t)M; row++)
        memcpy(out + row * D, table + (size_t)ids[row] * D, D * sizeof *out);
}

/* dtable[ids[row]] += dout[row] */
void embedding_backward(real *dtable, const real *dout, const int *ids, int M, int D)
{
    for (size_t row = 0; row < (size_t)M; row++)
        for (int d = 0; d < D; d++) dtable[(size_t)ids[row] * D + d] += dout[row * D + d];
}

/* [cos(t f_i) | sin(t f_i)], f_i = 10000^(-i / half): as Transformers number positions. f_i comes
 * from libm in double precision, where C libraries agree on all digits that a float has. */
void timestep_embedding(real *out, const real *timesteps, int B, int dim)
{
    const int half = dim / 2;
    const double log_period = 9.21034037197618273608; /* log 10000 */
    for (int b = 0; b < B; b++) {
        real *y = out + (size_t)b * dim;
        for (int i = 0; i < half; i++) {
            const real angle = timesteps[b] * (real)exp(-log_period * i / half);
            y[i] = r_cos(angle);
            y[half + i] = r_sin(angle);
        }
        if (dim % 2) y[dim - 1] = 0;
    }
}

/* ---- 6. learning ------------------------------------------------------------------------------
 * What is done with the gradient. (Which sentences make a batch: section 14.) */

/* A sum over chunks of a fixed size, so that the number of threads does not change it. */
double gradient_norm(const Model *m, Optimizer *o)
{
    const int chunks = (int)(m->num_params / CHUNK + 1);
    double total = 0;
#pragma omp parallel for
    for (int k = 0; k < chunks; k++) {
        const size_t begin = (size_t)k * CHUNK, rest = m->num_params - begin;
        o->partial[k] = square_distance(m->grads + begin, NULL, rest < CHUNK ? rest : CHUNK);
    }
    for (int k = 0; k < chunks; k++) total += o->partial[k];
    return sqrt(total);
}

/* AdamW: am and av are running means of the gradient and of its square, corrected for their start
 * at 0 (Adam, alg. 1); the weight decays by itself, not through the gradient (AdamW, alg. 2).
 * EMA, in the same pass over memory: the average of the weights over the last 1 / (1 - ema_rate)
 * steps or so (ema_rate from ema_warmup). Sampling uses it: single steps jump about, their average
 * does not. */
void adamw_step(Model *m, Optimizer *o, int step, double lr, double weight_decay,
                const unsigned char *decay, double ema_rate, double grad_scale)
{
    const real beta1 = (real)0.9, beta2 = (real)0.999, eps = (real)1e-8, ema_keep = (real)ema_rate;
    const real step_size = (real)(lr / (1 - power(0.9, step + 1)));
    const real root_correction = (real)sqrt(1 - power(0.999, step + 1));
#pragma omp parallel
    for (int i = 0; i < m->num_tensors; i++) {
        const Tensor *t = &m->tensors[i];
        const size_t place = t->data - m->params;
        const real shrink = decay[i] ? (real)(1 - lr * weight_decay) : 1;
        real *p = t->data, *g = t->grad, *ema = o->ema + place;
        real *am = o->adam_m + place, *av = o->adam_v + place;
#pragma omp for nowait
        for (size_t j = 0; j < t->size; j++) {
            const real grad = g[j] * (real)grad_scale;
            am[j] = fmadd(beta1, am[j], (1 - beta1) * grad);
            av[j] = fmadd(beta2, av[j], (1 - beta2) * grad * grad);
            p[j] = p[j] * shrink - step_size * am[j] / (real_sqrt(av[j]) / root_correction + eps);
            ema[j] = fmadd(ema_keep, ema[j], (1 - ema_keep) * p[j]);
            g[j] = 0;
        }
    }
}

/* What the gradient is multiplied by: 1, or less if it is longer than clip. */
double clip_factor(double norm, double clip)
{
    return clip > 0 && norm + 1e-6 > clip ? clip / (norm + 1e-6) : 1;
}

/* Down, to 0 behind the last, and at first also up: Adam's first estimates are poor. */
double learning_rate(double lr, int step, int warmup, int steps)
{
    return lr * (step < warmup ? (step + 1.0) / warmup : 1) * (1 - (double)step / steps);
}

/* The average begins short and grows: with rate .999 from the first step on, the random initial
 * weights would still be 37 % of it after 1,000 steps. */
double ema_warmup(double rate, int step) { return fmin(rate, (1.0 + step) / (10.0 + step)); }

/* ---- 7. sampling ------------------------------------------------------------------------------
 * DDPM alg. 2, with a network that guesses x_start. By itself this is all that p_sample_loop does:
 *
 *     for (t = T-1; t >= 0; t--) {
 *         noise        = standard normal numbers
 *         x            = noisy embeddings where the word is known                noise_known_words
 *         pred_xstart  = the guess, from x and t                                      guess_xstart
 *         pred_xstart  = the embeddings where the word is known                   keep_known_words
 *         x            = one step back, drawn with that noise                             p_sample
 *     }
 *
 * (The noise serves twice: what p_sample makes of a known word is overwritten in the next round.)
 * All else, ./sample's usual step too, is a line more in the loop and a function in section 12. */

/* A sample's length, by u in [0, 1): one of from..to, as often as the training text has it. */
int draw_length(const real *count, int from, int to, double u)
{
    double total = 0, left;
    if (count)
        for (int N = from; N <= to; N++) total += count[N];
    if (total == 0) return from + (int)(u * (to - from + 1)); /* none occurs: all alike */
    left = u * total;
    while (left >= count[from]) left -= count[from++];
    return from;
}

/* w->pred_xstart = the guess, from x at w->t; has_previous: the previous one is there already, to
 * be read with self-conditioning. */
static void guess_xstart(const Model *m, Workspace *w, const Diffusion *d, const real *x,
                         int has_previous, int B, int N)
{
    const Dropout none = {0, 0, 0};
    for (int b = 0; b < B; b++) w->timesteps[b] = diffusion_timestep(d, w->t[b]);
    denoiser_forward(m, w, w->model_out, x, has_previous ? w->pred_xstart : NULL, w->timesteps, B,
                     N, none);
    predict_xstart(m, w, w->pred_xstart, NULL, w->model_out, x, NULL, w->t, d, B, N);
}

int p_sample_loop(const Model *m, Workspace *w, const Diffusion *d, const Sampler *s, real *x,
                  int B, int N, Error *err)
{
    const int D = m->config.emb_dim, first = s->start ? s->start - 1 : d->T - 1;
    const size_t n = (size_t)N * D;
    for (int t = first; t >= 0; t--) {
        for (int b = 0; b < B; b++) w->t[b] = t;
        if (s->noise(s->context, w->noise, t)) return fail(err, "stopped by a signal");
        if (s->known) noise_known_words(s, w, d, x, B, n);
        guess_xstart(m, w, d, x, t < first, B, N);
        if (!all_finite(w->pred_xstart, B * n))
            return fail(err, "step %d of %d: a number is not finite; are the weights?",
                        d->timestep_map[t], d->total);
        if (s->clip_denoised) clip(w->pred_xstart, B * n);
        if (d->timestep_map[t] < s->clamp_from) clamp_to_words(m, w, w->pred_xstart, B * N);
        if (s->known) keep_known_words(s, w->pred_xstart, B * N, D);
        if (s->ddim)
            ddim_sample(x, guess_ahead(s, w, d, t, B * n), x, w->noise, w->t, d, eta_at(s, d, t), B,
                        n);
        else
            p_sample(x, w->pred_xstart, x, w->noise, w->t, d, s->variance, B, n);
        if (s->gradient && is_guided(d, t)) guide(s, w, d, x, t, B * n);
        if (s->show) s->show(s->context, t, w->pred_xstart);
    }
    return 0;
}

/* The word of each point: the one that lm_head finds likeliest. */
void likeliest_words(const Model *m, Workspace *w, int *ids, const real *x, int B, int N)
{
    lm_head_forward(m, w->logits, x, B * N);
    largest_columns(ids, w->logits, B * N, m->config.vocab);
}

/* ==== PART TWO: THE WORKSHOP ==================================================================
 * For looking things up. Each section says what it is, who calls it, and what may be skipped. */

/* ---- 8. numbers -------------------------------------------------------------------------------
 * What: exp and its kin, random numbers, sums over a row. Who: everybody. May be skipped, but for
 * this: why they are the project's own. Branch-free polynomials vectorise, and give the same bits
 * under every C library. */

#ifndef TDIFF_DOUBLE
static inline uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Adding 1.5 * 2^23 leaves no bits for a fraction: x is rounded to an integer, in the low bits of
 * the sum. */
#define ROUND 12582912.0f

/* exp(x) = 2^k exp(r), |r| <= ln 2 / 2; ln 2 in two parts, the first with so few bits that k times
 * it is exact. */
static inline float r_exp(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float z = fmadd(x, 1.44269504f, ROUND), k = z - ROUND;
    float r = fmadd(k, 2.12194440e-4f, fmadd(k, -0.693359375f, x));
    float p = 1.9875691500e-4f;
    p = fmadd(p, r, 1.3981999507e-3f);
    p = fmadd(p, r, 8.3334519073e-3f);
    p = fmadd(p, r, 4.1665795894e-2f);
    p = fmadd(p, r, 1.6666665459e-1f);
    p = fmadd(p, r, 5.0000001201e-1f);
    return (fmadd(p * r, r, r) + 1.0f) * float_of((bits_of(z) << 23) + 0x3f800000u);
}

/* x = 2^e m with m in [sqrt(1/2), sqrt(2)); log(1 + f) by a polynomial in f = m - 1. */
static inline float r_log(float x)
{
    float y = x < FLT_MIN ? FLT_MIN : x;
    /* the constant: 1 - sqrt(1/2) in the bits of a float */
    uint32_t u = bits_of(y), e = (u + 0x004afb0du) >> 23;
    float f = float_of(u - ((e - 127) << 23)) - 1.0f, k = (float)((int32_t)e - 127), z = f * f;
    float p = 7.0376836292e-2f;
    p = fmadd(p, f, -1.1514610310e-1f);
    p = fmadd(p, f, 1.1676998740e-1f);
    p = fmadd(p, f, -1.2420140846e-1f);
    p = fmadd(p, f, 1.4249322787e-1f);
    p = fmadd(p, f, -1.6668057665e-1f);
    p = fmadd(p, f, 2.0000714765e-1f);
    p = fmadd(p, f, -2.4999993993e-1f);
    p = fmadd(p, f, 3.3333331174e-1f);
    y = fmadd(k, -2.12194440e-4f, p * f * z);
    y = fmadd(k, 0.693359375f, f + (y - 0.5f * z));
    return x != x ? x : y;
}

static inline float r_tanh(float x)
{
    float e = r_exp(-2.0f * fabsf(x)), y = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -y : y;
}

/* -log(1 - erf(a)) / a is so smooth that a polynomial does for it on [0, 4]: a least-squares fit,
 * reweighted until the error in erf was even, 3e-9; beyond 4, erf is 1 in float. */
static inline float r_erf(float x)
{
    float a = fabsf(x), p = -8.05407389e-06f, y;
    a = a > 4.0f ? 4.0f : a;
    p = fmadd(p, a, 1.06118508e-4f);
    p = fmadd(p, a, -5.88283182e-4f);
    p = fmadd(p, a, 1.57738772e-3f);
    p = fmadd(p, a, -5.94468108e-5f);
    p = fmadd(p, a, -1.92167459e-2f);
    p = fmadd(p, a, 1.02799084e-1f);
    p = fmadd(p, a, 6.36616126e-1f);
    p = fmadd(p, a, 1.12837933f);
    y = 1.0f - r_exp(-a * p);
    return x < 0.0f ? -y : y;
}

/* x = k pi/2 + r, pi/2 in three parts; the quadrant k + shift picks the polynomial and its sign. */
static inline float cosine(float x, uint32_t shift)
{
    float z = fmadd(x, 0.636619772f, ROUND), k = z - ROUND;
    float r = fmadd(k, -7.54978995e-8f, fmadd(k, -4.83751297e-4f, fmadd(k, -1.5703125f, x))),
          r2 = r * r;
    float c = 2.443315712e-5f, s = -1.9515295891e-4f;
    c = fmadd(fmadd(c, r2, -1.388731625e-3f), r2, 4.166664568e-2f);
    c = fmadd(c * r2, r2, fmadd(-0.5f, r2, 1.0f));
    s = fmadd(fmadd(s, r2, 8.3321608736e-3f), r2, -1.6666654611e-1f);
    s = fmadd(s * r2, r, r);
    uint32_t quadrant = bits_of(z) + shift;
    float y = quadrant & 1 ? s : c;
    return (quadrant + 1) & 2 ? -y : y;
}
static inline float r_cos(float x) { return cosine(x, 0); }
static inline float r_sin(float x) { return cosine(x, 3); } /* sin x = cos(x - pi/2) */
#endif

const char *arithmetic_class(void) { return HAVE_FMA ? "fma" : "plain"; }

int floats_are_exact(void)
{
    volatile float large = 16777216; /* 2^24: 1 more is lost in a float, and in nothing longer */
    return large + 1.0f - large == 0;
}

/* For other files; in this one the inline functions vectorise. */
real real_exp(real x) { return r_exp(x); }
real real_log(real x) { return r_log(x); }
real real_tanh(real x) { return r_tanh(x); }
real real_erf(real x) { return r_erf(x); }
real real_sin(real x) { return r_sin(x); }
real real_cos(real x) { return r_cos(x); }

/* Random numbers are counter-based: a number is a hash of what it is for. Nothing has to be saved
 * but the step, any thread can draw any element, and sample i is the same whether 10 or 1,000 are
 * drawn. */

static uint64_t mix64(uint64_t x) /* the finaliser of splitmix64 */
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t rng_key(uint64_t seed, RngStream stream, uint64_t step, uint64_t item)
{
    const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t key = mix64(seed + golden);
    key = mix64(key ^ ((uint64_t)stream + 1) * golden);
    key = mix64(key + step * golden);
    return mix64(key ^ (item + 1) * golden);
}

/* 32-bit operations only, so that loops over index vectorise. */
static inline uint32_t hash32(uint64_t key, uint32_t index)
{
    uint32_t x = index ^ (uint32_t)key;
    x = (x ^ x >> 17) * 0xed5ad4bbu;
    x = (x ^ x >> 11) * 0xac4c1b51u;
    x = (x ^ x >> 15) + (uint32_t)(key >> 32);
    x = (x ^ x >> 14) * 0x31848babu;
    x = (x ^ x >> 16) * 0x7feb352du;
    return x ^ x >> 15;
}

uint32_t rng_u32(uint64_t key, uint32_t index) { return hash32(key, index); }

int rng_below(uint64_t key, uint32_t index, int n)
{
    return (int)((uint64_t)hash32(key, index) * (uint32_t)n >> 32);
}

/* Box-Muller: two uniform numbers give a radius and an angle, hence two normal ones. */
static inline void gaussian_pair(real *even, real *odd, uint64_t key, uint32_t pair)
{
    const real unit = (real)1 / 16777216, turn = (real)6.283185307179586 / 16777216;
    uint32_t u = hash32(key, 2 * pair) >> 8, v = hash32(key, 2 * pair + 1) >> 8;
    real radius = real_sqrt(-2 * r_log((real)(int32_t)(u + 1) * unit)); /* u + 1: never log 0 */
    *even = radius * r_cos((real)(int32_t)v * turn);
    *odd = radius * r_sin((real)(int32_t)v * turn);
}

void rng_gaussian(real *out, size_t n, uint64_t key)
{
    real unused;
    for (size_t i = 0; i < n / 2; i++)
        gaussian_pair(out + 2 * i, out + 2 * i + 1, key, (uint32_t)i);
    if (n % 2) gaussian_pair(out + n - 1, &unused, key, (uint32_t)(n / 2));
}

/* Fisher and Yates: every order of 0..n-1 is equally likely. Position i is filled from what stands
 * at 0..i. */
void rng_shuffle(int *order, int n, uint64_t key)
{
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        const int j = rng_below(key, (uint32_t)i, i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* Sums over a row run in LANES accumulators, added up pairwise at the end: a fixed order that
 * vectorises. gcc inlines only so much of a file: were these declared inline, too, it would leave
 * out r_exp, and a loop with it takes 6 times as long (make bench; gcc -Winline tells). */

static inline real lanes_sum(real *acc)
{
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) acc[i] += acc[i + width];
    return acc[0];
}

static real dot(const real *x, const real *y, int n)
{
    real acc[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
#pragma GCC unroll 1 /* unrolled, it is 16 scalar steps to gcc */
        for (int l = 0; l < LANES; l++) acc[l] = fmadd(x[i + l], y[i + l], acc[l]);
    for (int l = 0; i + l < n; l++) acc[l] = fmadd(x[i + l], y[i + l], acc[l]);
    return lanes_sum(acc);
}

static real sum(const real *x, int n)
{
    real acc[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) acc[l] += x[i + l];
    for (int l = 0; i + l < n; l++) acc[l] += x[i + l];
    return lanes_sum(acc);
}

static real largest(const real *x, int n)
{
    real acc[LANES], best;
    int i = 0;
    for (int l = 0; l < LANES; l++) acc[l] = x[0];
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) acc[l] = x[i + l] > acc[l] ? x[i + l] : acc[l];
    for (int l = 0; i + l < n; l++) acc[l] = x[i + l] > acc[l] ? x[i + l] : acc[l];
    best = acc[0];
    for (int l = 1; l < LANES; l++) best = acc[l] > best ? acc[l] : best;
    return best;
}

static void add_to(real *out, const real *in, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] += in[i];
}

/* out(columns) += the sum of x(M,columns) over its rows, which lie `stride` apart */
static void add_rows(real *out, const real *x, size_t stride, int M, int columns)
{
    for (int row = 0; row < M; row++)
        for (int c = 0; c < columns; c++) out[c] += x[row * stride + c];
}

/* sum of (x - y)^2; y NULL: of x^2 */
static real square_distance(const real *x, const real *y, size_t n)
{
    real acc[LANES] = {0};
    for (size_t i = 0; i < n; i += LANES) {
        int lanes = n - i < LANES ? (int)(n - i) : LANES;
        for (int l = 0; l < lanes; l++) {
            real e = y ? x[i + l] - y[i + l] : x[i + l];
            acc[l] = fmadd(e, e, acc[l]);
        }
    }
    return lanes_sum(acc);
}

/* out = cx x + cy y */
static void combine(real *out, const real *x, const real *y, real cx, real cy, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = fmadd(cx, x[i], cy * y[i]);
}

static double power(double base, int n) /* pow's last bit differs between libraries */
{
    double result = 1;
    while (n) {
        if (n % 2) result *= base;
        base *= base;
        n /= 2;
    }
    return result;
}

static int all_finite(const real *x, size_t n)
{
    real zero = 0; /* 0 times infinity or NaN is NaN */
    for (size_t i = 0; i < n; i++) zero += x[i] * 0;
    return zero == 0;
}

/* ---- 9. the product ---------------------------------------------------------------------------
 * What: C = A B, of matrices, in which nearly all the time goes. Who: the layers and the loss. May
 * be skipped when one believes that these lines are what it computes:
 *
 *     for (i < M) for (j < N) for (k < K) C[i][j] += A[i][k] * B[k][j];
 *
 * A core multiplies far faster than it loads, so every number loaded must be used many times: a
 * tile of MR x NR results stays in registers while k runs, and each step of k takes MR + NR numbers
 * for MR * NR multiplications. A block of B, KC x NC, is first copied ("packed") into the order in
 * which tiles read it and serves all rows of C from the second cache; MR rows of A stay in the
 * first one for NC / NR tiles. Tiles follow each other along a row of C, so that the processor
 * foresees what is needed next: down a column they were 5 % slower, even with A packed, too, in
 * blocks and each panel of B in the first cache. A result is the sum over blocks of KC of (one
 * accumulator, k in order): MR, NR, NC and the threads never change its bits. */

/* The tile; whether the kernel's loop over its columns goes round the one over its rows; and how
 * many columns of B a block has. All were chosen by measuring: for one order of the loops a
 * compiler keeps the tile in registers, for the other it may store it at every step, at a tenth of
 * the speed, and which is which depends on the compiler and on its vectors. A block of 384 KB
 * leaves room in a second cache of 512 KB; processors with AVX-512 have more. */
#if defined(__AVX512F__)
enum { MR = 8, NR = 32, COLUMNS_OUTSIDE = 0, NC = 768 };
#elif defined(__AVX__)
enum { MR = 6, NR = 16, COLUMNS_OUTSIDE = 0, NC = 384 };
#elif defined(__ARM_NEON) && defined(__clang__)
enum { MR = 5, NR = 16, COLUMNS_OUTSIDE = 1, NC = 384 };
#elif defined(__ARM_NEON)
enum { MR = 5, NR = 16, COLUMNS_OUTSIDE = 0, NC = 384 };
#elif defined(__SSE2__) && !defined(__clang__)
enum { MR = 2, NR = 24, COLUMNS_OUTSIDE = 0, NC = 384 };
#else
enum { MR = 4, NR = 8, COLUMNS_OUTSIDE = 1, NC = 384 };
#endif
enum { KC = 256, LINE = 64 / sizeof(real) };

static Matrix rows_of(const real *x, size_t apart) { return (Matrix){x, apart, 1}; }
static Matrix columns_of(const real *x, size_t apart) { return (Matrix){x, 1, apart}; }

/* c(MR,NR) = start(MR,NR) + a(MR,K) b(K,NR). start is c itself, or a row that stands for all
 * (start_row 0). */
static void kernel(real *c, size_t ldc, const real *start, size_t start_row, Matrix a,
                   const real *b, int K)
{
    real acc[MR][NR] = {{0}}, old[MR][NR];
    /* loaded early, added late: the loads are over when they are needed */
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NR; j++) old[i][j] = start[i * start_row + j];
    for (int k = 0; k < K; k++)
        if (COLUMNS_OUTSIDE)
            for (int j = 0; j < NR; j++)
                for (int i = 0; i < MR; i++)
                    acc[i][j] = fmadd(a.x[i * a.row + k * a.col], b[k * NR + j], acc[i][j]);
        else
            for (int i = 0; i < MR; i++)
                for (int j = 0; j < NR; j++)
                    acc[i][j] = fmadd(a.x[i * a.row + k * a.col], b[k * NR + j], acc[i][j]);
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NR; j++) c[i * ldc + j] = old[i][j] + acc[i][j];
}

static const real ZEROS[NC]; /* rows beyond the edge of a matrix, and a bias of 0; KC < NC */

/* out[k * R + l] = x(l,k) for l < 8, of n rows; the others are 0. Compilers make vector shuffles of
 * the first loop over k, because eight is a power of two; writing straight to out, whose stride
 * they cannot shuffle, takes three times as long. */
static void pack_eight(real *out, int R, const real *x, size_t row, int n, int K)
{
    real strip[8 * KC];
    const real *from[8];
    for (int l = 0; l < 8; l++) from[l] = l < n ? x + l * row : ZEROS;
    for (int k = 0; k < K; k++)
        for (int l = 0; l < 8; l++) strip[k * 8 + l] = from[l][k];
    for (int k = 0; k < K; k++) memcpy(out + (size_t)k * R, strip + k * 8, 8 * sizeof *out);
}

/* out[k * R + l] = x(l,k) for l < R, of n rows; the others are 0. */
static void pack_edge(real *out, int R, const real *x, size_t row, size_t col, int n, int K)
{
    for (int k = 0; k < K; k++)
        for (int l = 0; l < R; l++) out[(size_t)k * R + l] = l < n ? x[l * row + k * col] : 0;
}

/* Panels of R rows of x(n,K), one behind the other, k by k: out[i / R][k][i % R] = x(i, k). The
 * rows that the last panel has beyond n are 0, or stay as they are: nobody reads what comes of
 * them. One of x.row and x.col is 1; n <= R if that is x.col and R no multiple of 8. Panel by
 * panel: k outside would write to all of them in turns, which lie a power of two apart and so share
 * the same few lines of the cache. */
static void pack(real *out, const int R, Matrix x, int n, int K)
{
    int done = 0;
    if (x.row == 1) {
        done = n / R * R;
        for (int i = 0; i < done; i += R)
            for (int k = 0; k < K; k++)
                memcpy(out + i * K + k * R, x.x + k * x.col + i, R * sizeof *out);
    } else if (R % 8 == 0)
        for (; done < n; done += 8)
            pack_eight(out + done / R * R * K + done % R, R, x.x + done * x.row, x.row, n - done,
                       K);
    if (done < n) pack_edge(out + done * K, R, x.x + done * x.row, x.row, x.col, n - done, K);
}

/* C = A B + bias, a row added to every row (NULL: 0), or C += A B; on one thread. A block of B is
 * packed once for all rows of C. MR rows of A are read where they lie, if they lie along memory.
 * b_space: room for NC * KC + LINE numbers. What is packed begins on a line of the cache, or half
 * of all loads would touch two lines: 10 % slower. */
static void product_in(real *b_space, real *c, size_t apart, int add, const real *bias, Matrix a,
                       Matrix b, int M, int N, int K)
{
    real a_pack[MR * KC], tile[MR * NR] = {0}; /* tile: for what hangs over the edge of C */
    real *b_pack = b_space + (LINE - (uintptr_t)b_space / sizeof(real) % LINE) % LINE;
    for (int k0 = 0; k0 < K; k0 += KC)
        for (int j0 = 0; j0 < N; j0 += NC) {
            const int kc = K - k0 < KC ? K - k0 : KC, nc = N - j0 < NC ? N - j0 : NC;
            const Matrix columns_of_b = {b.x + k0 * b.row + j0 * b.col, b.col, b.row};
            pack(b_pack, NR, columns_of_b, nc, kc);
            for (int i = 0; i < M; i += MR) {
                const int rows = M - i < MR ? M - i : MR;
                Matrix panel = {a.x + i * a.row + k0 * a.col, a.row, a.col};
                if (a.col != 1 || rows < MR) {
                    pack(a_pack, MR, panel, rows, kc);
                    panel = columns_of(a_pack, MR);
                }
                for (int j = 0; j < nc; j += NR) {
                    const int columns = nc - j < NR ? nc - j : NR;
                    const int whole = rows == MR && columns == NR, onto_c = k0 > 0 || add;
                    real *dst = c + i * apart + j0 + j;
                    const real *from = onto_c ? dst : bias ? bias + j0 + j : ZEROS;
                    const size_t from_row = onto_c ? apart : 0;
                    if (whole) {
                        kernel(dst, apart, from, from_row, panel, b_pack + j * kc, kc);
                        continue;
                    }
                    for (int r = 0; r < rows; r++)
                        memcpy(tile + r * NR, from + r * from_row, columns * sizeof *c);
                    kernel(tile, NR, tile, NR, panel, b_pack + j * kc, kc);
                    for (int r = 0; r < rows; r++)
                        memcpy(dst + r * apart, tile + r * NR, columns * sizeof *c);
                }
            }
        }
}

/* A block of B for each thread: too large for the stacks that some systems give to threads, so each
 * allocates its own, once. Where there is no memory left the threads take turns with the last. */
static real last_block[NC * KC + LINE];
#ifdef _OPENMP
static real *own_block;
#pragma omp threadprivate(own_block)
#endif

static void product_and_bias(real *c, size_t apart, int add, const real *bias, Matrix a, Matrix b,
                             int M, int N, int K)
{
#ifdef _OPENMP
    if (!own_block) own_block = malloc(sizeof last_block);
    if (own_block) {
        product_in(own_block, c, apart, add, bias, a, b, M, N, K);
        return;
    }
#endif
#pragma omp critical(last_block)
    product_in(last_block, c, apart, add, bias, a, b, M, N, K);
}

static void product(real *c, size_t apart, int add, Matrix a, Matrix b, int M, int N, int K)
{
    product_and_bias(c, apart, add, NULL, a, b, M, N, K);
}

/* Threads take rows of C, or columns where there are more of them. */
void matmul(real *c, int add, const real *bias, const real *a, int ta, const real *b, int tb, int M,
            int N, int K)
{
    const Matrix left = ta ? columns_of(a, M) : rows_of(a, K);
    const Matrix right = tb ? columns_of(b, K) : rows_of(b, N);
    const int by_rows = M >= N, all = by_rows ? M : N, shares = max_threads();
    const int grain = by_rows ? MR : NR, per_share = (all + shares - 1) / shares;
    const int step = (per_share + grain - 1) / grain * grain;
#pragma omp parallel for if ((double)M * N * K > 1e5)
    for (int from = 0; from < all; from += step) {
        const int count = all - from < step ? all - from : step;
        const int i = by_rows ? from : 0, j = by_rows ? 0 : from;
        const Matrix mine = {left.x + i * left.row, left.row, left.col};
        const Matrix its = {right.x + j * right.col, right.row, right.col};
        product_and_bias(c + (size_t)i * N + j, N, add, bias ? bias + j : NULL, mine, its,
                         by_rows ? count : M, by_rows ? N : count, K);
    }
}

void set_threads(int n)
{
#ifdef _OPENMP
    omp_set_num_threads(n);
#else
    (void)n;
#endif
}

int max_threads(void)
{
#ifdef _OPENMP
    return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
    return 1;
#endif
}

/* Threads wait for each other by spinning. When another program takes one of the cores, all wait
 * for the thread on it, ten times longer than the work takes, or a hundred times if a step is
 * short; one thread alone is then faster. So now and then a few steps are done by half as many
 * threads, or twice, and the faster number stays: seldom while it stays the same, at once when
 * the steps of several have become slow. A step that would take s > 2 times as long is tried only
 * every TRIAL_SHARE * s steps. No result depends on it. */
enum { TRIAL = 4, WINDOW = 8, SHORTEST_WAIT = 4, LONGEST_WAIT = 2048, TRIAL_SHARE = 100 };

void pace_begin(Pace *p, int threads, int may_change)
{
    *p = (Pace){.most = may_change ? threads : 1, .threads = threads};
    p->wait = p->left = SHORTEST_WAIT;
    set_threads(threads);
}

void pace_step(Pace *p, double work, double time)
{
    if (p->most == 1) return;
    p->work += work;
    p->time += time;
    p->left--;
    const double rate = p->work / (p->time > 1e-9 ? p->time : 1e-9);
    if (p->trial) {
        if (p->left > 0 && rate > p->rate / 2) return;
        const double ratio = rate / p->rate;
        const double slow = fmin(ratio > 1 ? ratio : 1 / ratio, 1e6);
        if (ratio > 1.05) {
            p->threads = p->trial;
            p->wait = SHORTEST_WAIT;
        } else if (p->wait < LONGEST_WAIT)
            p->wait *= 2;
        p->left = slow > 2 && TRIAL_SHARE * slow > p->wait ? (int)(TRIAL_SHARE * slow) : p->wait;
        p->trial = 0;
        p->rate = 0; /* of this number of threads it is not known yet */
    } else {
        const int slowed = p->threads > 1 && rate < 0.7 * p->rate; /* fewer might be faster */
        if (p->left % WINDOW) return;
        p->rate = rate;
        if (p->left == 0 || slowed) {
            p->up = p->threads < p->most && (!p->up || p->threads == 1);
            p->trial = p->up ? 2 * p->threads : p->threads / 2;
            if (p->trial > p->most) p->trial = p->most;
            p->left = TRIAL;
        }
    }
    set_threads(p->trial ? p->trial : p->threads);
    p->work = p->time = 0;
}

/* ---- 10. parameters, memory, threads ----------------------------------------------------------
 * What: where the numbers are, and how threads share the work. Who: the programs at their start;
 * training_losses and denoiser_forward in every step. May be skipped but for list_tensors, which
 * names every tensor once. Called while m->tensors is NULL it only counts; called again it fills
 * the table and places each tensor. Initial values, checkpoint, optimiser and gradient check all
 * walk this table. A new tensor comes last, as initial values are drawn by place in the table;
 * beside it only the estimates of memory know of sizes. */

static Tensor *tensor(Model *m, const char *prefix, const char *name, Init init, int fan_in,
                      int rank, int rows, int columns)
{
    size_t size = (size_t)rows * columns, place = m->num_params;
    m->num_params += size;
    m->num_tensors++;
    if (!m->tensors) return NULL;
    Tensor *t = &m->tensors[m->num_tensors - 1];
    snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
    t->rank = rank, t->shape[0] = rows, t->shape[1] = columns, t->size = size;
    t->data = m->params + place, t->grad = m->grads + place;
    t->init = init, t->fan_in = fan_in;
    return t;
}

static Tensor *linear_weight(Model *m, const char *prefix, const char *name, int out, int in)
{
    return tensor(m, prefix, name, INIT_UNIFORM, in, 2, out, in);
}

static Tensor *linear_bias(Model *m, const char *prefix, const char *name, int out, int in)
{
    return tensor(m, prefix, name, INIT_UNIFORM, in, 1, out, 1);
}

static Pair linear(Model *m, const char *prefix, const char *name, int out, int in)
{
    char full[72];
    Pair p;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    p.weight = linear_weight(m, full, ".weight", out, in);
    p.bias = linear_bias(m, full, ".bias", out, in);
    return p;
}

static Pair layernorm(Model *m, const char *prefix, const char *name, int C)
{
    char full[72];
    Pair p;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    p.weight = tensor(m, full, ".weight", INIT_ONE, 0, 1, C, 1);
    p.bias = tensor(m, full, ".bias", INIT_ZERO, 0, 1, C, 1);
    return p;
}

static void list_tensors(Model *m)
{
    const Config *c = &m->config;
    const int C = c->hidden;
    m->num_tensors = 0, m->num_params = 0;
    m->word_embedding =
        tensor(m, "", "word_embedding.weight", INIT_NORMAL, 0, 2, c->vocab, c->emb_dim);
    m->lm_head_bias = linear_bias(m, "", "lm_head.bias", c->vocab, c->emb_dim);
    m->time_in = linear(m, "", "time_embed.0", 4 * c->time_dim, c->time_dim);
    m->time_out = linear(m, "", "time_embed.2", C, 4 * c->time_dim);
    if (!c->identity_projections) {
        m->up_in = linear(m, "", "input_up_proj.0", C, c->emb_dim * (1 + c->self_conditioning));
        m->up_out = linear(m, "", "input_up_proj.2", C, C);
    }
    m->position_embeddings =
        tensor(m, "", "position_embeddings.weight", INIT_NORMAL, 0, 2, c->max_positions, C);
    m->emb_ln = layernorm(m, "", "LayerNorm", C);
    for (int l = 0; l < c->layers; l++) {
        Layer *layer = &m->layer[l];
        char prefix[40];
        snprintf(prefix, sizeof prefix, "input_transformers.layer.%d.", l);
        layer->query.weight = linear_weight(m, prefix, "attention.self.query.weight", C, C);
        layer->key.weight = linear_weight(m, prefix, "attention.self.key.weight", C, C);
        layer->value.weight = linear_weight(m, prefix, "attention.self.value.weight", C, C);
        layer->query.bias = linear_bias(m, prefix, "attention.self.query.bias", C, C);
        layer->key.bias = linear_bias(m, prefix, "attention.self.key.bias", C, C);
        layer->value.bias = linear_bias(m, prefix, "attention.self.value.bias", C, C);
        layer->attn_out = linear(m, prefix, "attention.output.dense", C, C);
        layer->attn_ln = layernorm(m, prefix, "attention.output.LayerNorm", C);
        layer->ffn_up = linear(m, prefix, "intermediate.dense", c->ffn, C);
        layer->ffn_down = linear(m, prefix, "output.dense", C, c->ffn);
        layer->ffn_ln = layernorm(m, prefix, "output.LayerNorm", C);
    }
    if (c->identity_projections) return;
    m->down_in = linear(m, "", "output_down_proj.0", C, C);
    m->down_out = linear(m, "", "output_down_proj.2", c->emb_dim, C);
}

/* Everything that can be wrong with a Config beyond the range of each number. */
int config_check(const Config *c, Error *err)
{
    double C = c->hidden, F = c->ffn, params;
    if (c->vocab < 1) return fail(err, "a vocabulary of %d words", c->vocab);
    if (c->hidden % c->heads)
        return fail(err, "hidden %d is not a multiple of heads %d", c->hidden, c->heads);
    if (c->identity_projections && (c->emb_dim != c->hidden || c->self_conditioning))
        return fail(err,
                    "without projections emb-dim %d must be hidden %d, and self-conditioning "
                    "off",
                    c->emb_dim, c->hidden);
    if (c->predict == PREDICT_SOFTMAX && c->emb_norm <= 0)
        return fail(err, "predict softmax weighs words by their distance and needs them at one "
                         "norm: emb-norm must be above 0");
    if ((double)c->vocab * c->emb_dim > UINT32_MAX)
        return fail(err,
                    "%d words of %d numbers: an embedding table has %.0f numbers at most, as many "
                    "as are random",
                    c->vocab, c->emb_dim, (double)UINT32_MAX);
    params = c->layers * C * (4 * C + 2 * F + 13) +
             C * (3 * C + 2.0 * c->emb_dim + 5.0 * c->time_dim + c->max_positions) +
             c->vocab * (c->emb_dim + 1.0) + 4.0 * c->time_dim * c->time_dim;
    if (params * 8 * sizeof(real) > (double)((size_t)-1 / 4))
        return fail(err, "a model of %.3g parameters is too large for this machine", params);
    return 0;
}

int model_init(Model *m, const Config *c, Error *err)
{
    memset(m, 0, sizeof *m);
    if (config_check(c, err)) return -1;
    m->config = *c;
    if (!(m->layer = checked_alloc(c->layers, sizeof *m->layer, err))) return -1;
    list_tensors(m);
    if (!(m->params = checked_alloc(m->num_params, sizeof *m->params, err)) ||
        !(m->grads = checked_alloc(m->num_params, sizeof *m->grads, err)) ||
        !(m->tensors = checked_alloc(m->num_tensors, sizeof *m->tensors, err)))
        return -1;
    list_tensors(m);
    const Tensor *words = m->word_embedding;
    if (c->emb_norm == 0) {
        m->embedding = words->data;
        m->dembedding = words->grad;
    } else if (!(m->embedding = checked_alloc(words->size, sizeof *m->embedding, err)) ||
               !(m->dembedding = checked_alloc(words->size, sizeof *m->dembedding, err)))
        return -1;
    return 0;
}

void model_free(Model *m)
{
    if (m->config.emb_norm > 0) {
        free(m->embedding);
        free(m->dembedding);
    }
    free(m->layer);
    free(m->params);
    free(m->grads);
    free(m->tensors);
    memset(m, 0, sizeof *m);
}

void model_random(Model *m, uint64_t seed)
{
    for (int i = 0; i < m->num_tensors; i++) {
        Tensor *t = &m->tensors[i];
        uint64_t key = rng_key(seed, RNG_INIT, 0, i);
        if (t->init == INIT_NORMAL)
            rng_gaussian(t->data, t->size, key);
        else if (t->init == INIT_UNIFORM) {
            real bound = 1 / real_sqrt((real)t->fan_in);
            for (size_t j = 0; j < t->size; j++)
                t->data[j] = bound * ((real)(int32_t)(hash32(key, (uint32_t)j) >> 8) / 8388608 - 1);
        } else
            for (size_t j = 0; j < t->size; j++) t->data[j] = t->init == INIT_ONE;
    }
}

/* The arrays that a batch needs lie in one arena. list_arrays names each once; while there is no
 * arena it only counts. */

/* The next array of the arena, `each` numbers for every example, from example w->first on. */
static real *take(const Workspace *w, size_t *at, size_t each)
{
    real *p = w->arena ? w->arena + *at + w->first * each : NULL;
    *at += (w->B * each + LANES - 1) / LANES * LANES;
    return p;
}

static LayerActs list_layer(const Workspace *w, const Config *c, size_t *at)
{
    const size_t N = w->N, C = c->hidden, F = c->ffn;
    LayerActs a = {0};
    a.qkv = take(w, at, 3 * N * C);
    a.att = take(w, at, N * c->heads * N);
    a.context = take(w, at, N * C);
    a.attn_normed = take(w, at, N * C);
    a.attn_rstd = take(w, at, N);
    a.attn_out = take(w, at, N * C);
    a.ffn_in = take(w, at, N * F);
    a.ffn_act = w->training ? take(w, at, N * F) : a.ffn_in;
    a.normed = take(w, at, N * C);
    a.rstd = take(w, at, N);
    a.out = take(w, at, N * C);
    if (w->training) {
        a.dattn_ln = take(w, at, 2 * C);
        a.dln = take(w, at, 2 * C);
    }
    return a;
}

LayerActs layer_acts(const Workspace *w, const Config *c, int l)
{
    /* without a backward all layers share the arrays of one */
    size_t at = w->layers + (w->training ? l * w->layer_size : 0);
    return list_layer(w, c, &at);
}

static size_t list_arrays(Workspace *w, const Config *c)
{
    const size_t N = w->N, C = c->hidden, D = c->emb_dim, V = c->vocab,
                 T4 = 4 * (size_t)c->time_dim;
    const int twice = c->self_conditioning, head = c->predict == PREDICT_SOFTMAX;
    size_t n = 0;
    w->temb = take(w, &n, c->time_dim);
    w->time_hidden = take(w, &n, T4);
    w->time_act = take(w, &n, T4);
    w->time = take(w, &n, C);
    w->up_act = take(w, &n, N * C);
    w->emb_normed = take(w, &n, N * C);
    w->emb_rstd = take(w, &n, N);
    w->emb = take(w, &n, N * C);
    w->down_act = take(w, &n, N * C);
    w->dropped = take(w, &n, N * N);
    w->timesteps = take(w, &n, 1);
    w->noise = take(w, &n, N * D);
    w->target = take(w, &n, N * D);
    w->x_start = take(w, &n, N * D);
    w->x_t = take(w, &n, N * D);
    w->model_out = take(w, &n, N * D);
    w->logits = take(w, &n, N * V);
    w->pred_xstart = take(w, &n, N * D);
    w->estimate = take(w, &n, N * D);
    w->input = twice ? take(w, &n, 2 * N * D) : NULL;
    w->head = head ? take(w, &n, N * V) : NULL;
    w->weight = take(w, &n, 1);
    w->layers = n;
    list_layer(w, c, &n);
    w->layer_size = n - w->layers;
    if (!w->training) return n;
    n += (c->layers - 1) * w->layer_size;
    w->dpred = take(w, &n, N * D);
    w->dinput = twice ? take(w, &n, 2 * N * D) : NULL;
    w->dhead = head ? take(w, &n, N * V) : NULL;
    w->dmodel_out = take(w, &n, N * D);
    w->dx_start = take(w, &n, N * D);
    w->dx_t = take(w, &n, N * D);
    w->ddown = take(w, &n, N * C);
    w->dh = take(w, &n, N * C);
    w->dbranch = take(w, &n, N * C);
    w->dcontext = take(w, &n, N * C);
    w->dqkv = take(w, &n, 3 * N * C);
    w->dscores = take(w, &n, N * N);
    w->dffn = take(w, &n, N * c->ffn);
    w->dup = take(w, &n, N * C);
    w->demb_ln = take(w, &n, 2 * C);
    w->dtime = take(w, &n, C);
    w->dtime_act = take(w, &n, T4);
    return n;
}

/* The arrays as they begin at example `first`: what a thread sees that takes the examples from
 * there on. */
static Workspace from_example(const Workspace *all, const Config *c, int first)
{
    Workspace w = *all;
    w.first = first;
    list_arrays(&w, c);
    return w;
}

size_t workspace_size(const Workspace *w, const Config *c, int B, int N)
{
    Workspace counted = *w;
    counted.arena = NULL, counted.B = B, counted.N = N, counted.first = 0;
    return list_arrays(&counted, c);
}

int workspace_fit(Workspace *w, const Config *c, int B, int N, Error *err)
{
    double per_row = 8.0 * c->hidden + 2.0 * c->ffn + (double)c->heads * N + 4;
    per_row = (c->layers + 2) * per_row + 16.0 * c->emb_dim + 3.0 * c->vocab + 13.0 * c->time_dim;
    if (per_row * B * N * sizeof(real) > (double)((size_t)-1 / 4))
        return fail(err, "a batch of %d x %d positions is too large for this machine", B, N);
    w->B = B, w->N = N, w->first = 0;
    const size_t size = workspace_size(w, c, B, N);
    if (size > w->size) {
        free(w->arena);
        w->size = 0;
        if (!(w->arena = checked_alloc(size, sizeof *w->arena, err))) return -1;
        w->size = size;
    }
    if ((size_t)B * N > w->positions) { /* B more: for t */
        free(w->nearest);
        w->positions = 0;
        if (!(w->nearest = checked_alloc(2 * (size_t)B * N, sizeof *w->nearest, err))) return -1;
        w->positions = (size_t)B * N;
    }
    w->t = w->nearest + w->positions;
    list_arrays(w, c);
    return 0;
}

int workspace_init(Workspace *w, const Config *c, int B, int N, int training, Error *err)
{
    memset(w, 0, sizeof *w);
    w->training = training;
    w->minus_half_squares = checked_alloc(c->vocab, sizeof *w->minus_half_squares, err);
    return w->minus_half_squares ? workspace_fit(w, c, B, N, err) : -1;
}

void workspace_free(Workspace *w)
{
    free(w->nearest);
    free(w->minus_half_squares);
    free(w->arena);
    memset(w, 0, sizeof *w);
}

enum { PIECE = 2048 /* positions */ };

int piece_of_batch(int B, int N)
{
    const int most = PIECE / N > 1 ? PIECE / N : 1;
    return B < most ? B : most;
}

/* The examples first..first+count-1 of a batch, without their weights. */
static Batch part_of_batch(const Batch *y, int first, int count, size_t n)
{
    Batch part = *y;
    part.ids += (size_t)first * y->N;
    part.t += first;
    part.noise_x0 += first * n;
    part.noise_t += first * n;
    part.weight = NULL;
    part.B = count;
    return part;
}

/* As many examples from `first` on as w has room for; their weights, by which gradients add up to
 * that of the mean over the batch, are in w->weight. */
static Batch piece_of(const Batch *y, const Workspace *w, int first, size_t n)
{
    const int count = y->B - first < w->B ? y->B - first : w->B;
    for (int b = 0; b < count; b++) w->weight[b] = (y->weight ? y->weight[first + b] : 1) / y->B;
    return part_of_batch(y, first, count, n);
}

Losses losses_at(const Losses *terms, int first)
{
    return (Losses){terms->mse + first, terms->decoder_nll + first, terms->tT_loss + first,
                    terms->head_nll + first, terms->loss + first};
}

/* Every piece of a batch has dropout masks of its own. */
static Dropout dropout_of_piece(Dropout drop, int first)
{
    drop.key += (uint64_t)first << 32;
    return drop;
}

int optimizer_init(Optimizer *o, const Model *m, Error *err)
{
    memset(o, 0, sizeof *o);
    if (!(o->adam_m = checked_alloc(m->num_params, sizeof *o->adam_m, err)) ||
        !(o->adam_v = checked_alloc(m->num_params, sizeof *o->adam_v, err)) ||
        !(o->ema = checked_alloc(m->num_params, sizeof *o->ema, err)) ||
        !(o->partial = checked_alloc(m->num_params / CHUNK + 1, sizeof *o->partial, err)))
        return -1;
    memcpy(o->ema, m->params, m->num_params * sizeof *o->ema);
    return 0;
}

void optimizer_free(Optimizer *o)
{
    free(o->adam_m);
    free(o->adam_v);
    free(o->ema);
    free(o->partial);
    memset(o, 0, sizeof *o);
}

/* B examples in so many shares, of which number k begins here: one for each thread. */
static int shares_of(int B) { return max_threads() < B ? max_threads() : B; }

static int share(int B, int k, int shares) { return (int)((int64_t)B * k / shares); }

/* All threads of a parallel region call these: they share the rows of the weight (O of them, ROWS
 * at a time) and do not wait for each other. */
enum { ROWS = 192 };

static void linear_weights(real *dw, real *db, const real *dout, const real *in, int M, int O,
                           int I)
{
#pragma omp for schedule(dynamic) nowait
    for (int from = 0; from < O; from += ROWS)
        linear_backward_weights(dw, db, dout, in, M, O, I, from, from + ROWS < O ? from + ROWS : O);
}

static void weights_of(Pair p, int O, const real *dout, const real *in, int M)
{
    if (p.weight) linear_weights(p.weight->grad, p.bias->grad, dout, in, M, O, p.weight->shape[1]);
}

/* Linear, tanh, Linear; without these weights, which the original does not have where embeddings
 * come from BERT, the input. */
static void project(real *out, real *act, const real *in, Pair first, Pair second, int M, int C)
{
    const size_t n = (size_t)M * C;
    if (!first.weight) {
        memcpy(out, in, n * sizeof *out);
        return;
    }
    linear_of(act, in, first, M);
    tanh_forward(act, act, n);
    linear_of(out, act, second, M);
}

static void project_backward(real *din, real *dact, const real *dout, const real *act, Pair first,
                             Pair second, int M, int C)
{
    const size_t n = (size_t)M * C;
    if (!first.weight) {
        memcpy(din, dout, n * sizeof *din);
        return;
    }
    linear_of_backward(dact, second, dout, M);
    tanh_backward(dact, dact, act, n);
    linear_of_backward(din, first, dact, M);
}

void freeze_embeddings(Model *m)
{
    memset(m->word_embedding->grad, 0, m->word_embedding->size * sizeof(real));
    memset(m->position_embeddings->grad, 0, m->position_embeddings->size * sizeof(real));
}

/* The table of embeddings as the weight of a Linear; dbias may be NULL. Called by one thread. */
static void embeddings_as_weight(Model *m, real *dbias, const real *dout /*(M,V)*/,
                                 const real *in /*(M,D)*/, int M)
{
#pragma omp parallel
    linear_weights(m->dembedding, dbias, dout, in, M, m->config.vocab, m->config.emb_dim);
}

static void layernorm_weights_of(Pair p, const real *partial, int B)
{
    const int C = (int)p.weight->size;
#pragma omp single nowait
    {
        add_rows(p.weight->grad, partial, 2 * C, B, C);
        add_rows(p.bias->grad, partial + C, 2 * C, B, C);
    }
}

/* Threads. Each takes some of the examples through the whole network, forward and back, alone, and
 * so hardly ever waits; what it computes for an example does not depend on which others share its
 * products (section 9). The gradient of a weight is a sum over all examples; for it, each thread
 * takes some of the weight's rows and sums over the examples in their order. So no sum depends on
 * how many threads there are, and the result has the same bits for any number. */
static void losses_of_piece(Model *m, Workspace *w, const Losses *terms, const Diffusion *d,
                            const Batch *y, int backward, Dropout drop)
{
    const int B = y->B, shares = shares_of(B);
    const size_t n = (size_t)y->N * m->config.emb_dim;
#pragma omp parallel for schedule(static, 1)
    for (int k = 0; k < shares; k++) {
        const int first = share(B, k, shares), count = share(B, k + 1, shares) - first;
        const Workspace part = from_example(w, &m->config, first);
        const Losses own = losses_at(terms, first);
        const Batch mine = part_of_batch(y, first, count, n);
        losses_of_examples(m, &part, &own, d, &mine, w->weight + first, backward, drop);
    }
    if (backward) weight_gradients(m, w, y);
}

/* Piece by piece, so that a large batch needs no more room for activations: gradients add up. (In
 * another order with other pieces: the bits depend on piece_of_batch.) */
double training_losses(Model *m, Workspace *w, const Losses *terms, const Diffusion *d,
                       const Batch *y, int backward, Dropout drop)
{
    const size_t n = (size_t)y->N * m->config.emb_dim;
    double mean = 0;
    assert(y->N == w->N && y->N <= m->config.max_positions);
    assert(!backward || d->evidence_above == HUGE_VAL);
    embedding_table_forward(m);
    for (int first = 0; first < y->B; first += w->B) {
        const Batch piece = piece_of(y, w, first, n);
        const Losses own = losses_at(terms, first);
        if (backward && stop_signal()) break;
        losses_of_piece(m, w, &own, d, &piece, backward, dropout_of_piece(drop, first));
    }
    if (backward) embedding_table_backward(m);
    for (int b = 0; b < y->B; b++) mean += terms->loss[b] / y->B;
    return mean;
}

void denoiser_forward(const Model *m, Workspace *w, real *out, const real *x_t,
                      const real *estimate, const real *timesteps, int B, int N, Dropout drop)
{
    const size_t n = (size_t)N * m->config.emb_dim;
    const int shares = shares_of(B);
    assert(B <= w->B && N == w->N && N <= m->config.max_positions);
#pragma omp parallel for schedule(static, 1)
    for (int k = 0; k < shares; k++) {
        const int first = share(B, k, shares), count = share(B, k + 1, shares) - first;
        const Workspace part = from_example(w, &m->config, first);
        forward_examples(m, &part, out + first * n, x_t + first * n,
                         estimate ? estimate + first * n : NULL, timesteps + first, count, N, drop);
    }
}

static void backward_all_examples(const Model *m, Workspace *w, real *dx_t, const real *dout, int B,
                                  int N, Dropout drop)
{
    const size_t n = (size_t)N * m->config.emb_dim;
    const int shares = shares_of(B);
#pragma omp parallel for schedule(static, 1)
    for (int k = 0; k < shares; k++) {
        const int first = share(B, k, shares), count = share(B, k + 1, shares) - first;
        const Workspace part = from_example(w, &m->config, first);
        backward_examples(m, &part, dx_t + first * n, dout + first * n, count, N, drop);
    }
}

void denoiser_backward(Model *m, Workspace *w, real *dx_t, const real *dout, const real *x_t, int B,
                       int N, Dropout drop)
{
    backward_all_examples(m, w, dx_t, dout, B, N, drop);
    backward_weights(m, w, dout, x_t, B, N);
}

/* A schedule must add noise in every step, and leave something of x_start in every one. */
static int check_betas(const double *betas, const char *name, int total, Error *err)
{
    double left = 1;
    for (int t = 0; t < total; t++) {
        left *= 1 - betas[t];
        if (!(betas[t] > 0 && betas[t] <= 1))
            return fail(err,
                        "noise schedule %s cannot have %d steps: beta[%d] would be %g, "
                        "outside (0, 1]",
                        name, total, t, betas[t]);
        if (!(1 / left <= FLT_MAX))
            return fail(err,
                        "noise schedule %s cannot have %d steps: at t = %d nothing is left of "
                        "x_start (alphas_cumprod %g)",
                        name, total, t, left);
    }
    return 0;
}

/* Counts the steps and makes room for the tables of all of them. Returns the betas of the schedule,
 * (total), which the caller frees, or NULL. */
static double *diffusion_alloc(Diffusion *d, int schedule, int total, const unsigned char *kept,
                               Error *err)
{
    double *betas = checked_alloc(total, sizeof *betas, err);
    memset(d, 0, sizeof *d);
    for (int t = 0; t < total; t++) d->T += !kept || kept[t];
    d->total = total, d->evidence_above = HUGE_VAL;
    d->timestep_map = checked_alloc(d->T, sizeof *d->timestep_map, err);
    d->betas = checked_alloc(d->T, 7 * sizeof *d->betas, err);
    if (betas && d->timestep_map && d->betas) {
        d->alphas_cumprod = d->betas + d->T;
        d->alphas_cumprod_prev = d->alphas_cumprod + d->T;
        d->posterior_variance = d->alphas_cumprod_prev + d->T;
        d->posterior_log_variance_clipped = d->posterior_variance + d->T;
        d->posterior_mean_coef1 = d->posterior_log_variance_clipped + d->T;
        d->posterior_mean_coef2 = d->posterior_mean_coef1 + d->T;
        noise_schedule_betas(betas, schedule, total);
        if (!check_betas(betas, noise_schedule_names[schedule], total, err)) return betas;
    }
    free(betas);
    diffusion_free(d);
    return NULL;
}

void diffusion_free(Diffusion *d)
{
    free(d->timestep_map);
    free(d->betas);
    memset(d, 0, sizeof *d);
}

/* ---- 11. other objectives and schedules, the bound --------------------------------------------
 * What: noise schedules, which of the steps ./sample takes, predicting the noise, which t to train
 * on, evidence, and how probable a text is (./sample --eval). Who: diffusion_init, the loss where
 * an option asks for it, the programs. May be skipped as a whole. */

static void straight_line(double *betas, int T, double from, double to)
{
    for (int i = 0; i < T; i++) betas[i] = T == 1 ? from : from + i * ((to - from) / (T - 1));
}

static double square(double x) { return x * x; }
static double cosine_alpha_bar(double s)
{
    return square(cos((s + 0.008) / 1.008 * 1.57079632679489661923));
}
static double trunc_cos_alpha_bar(double s)
{
    return square(cos((s + 0.1) / 1.1 * 1.57079632679489661923));
}

static void schedule_sqrt(double *betas, int T) { betas_for_alpha_bar(betas, T, sqrt_alpha_bar); }
/* Improved DDPM eq. 17 */
static void schedule_cosine(double *betas, int T)
{
    betas_for_alpha_bar(betas, T, cosine_alpha_bar);
}
/* DDPM sec. 4, which has T = 1000 */
static void schedule_linear(double *betas, int T) { straight_line(betas, T, 0.1 / T, 20.0 / T); }
static void schedule_trunc_lin(double *betas, int T)
{
    straight_line(betas, T, 0.1 / T + 0.01, 20.0 / T + 0.01);
}

/* The code of Diffusion-LM: the first step has noise already */
static void schedule_trunc_cos(double *betas, int T)
{
    betas_for_alpha_bar(betas, T, trunc_cos_alpha_bar);
    memmove(betas + 1, betas, (T - 1) * sizeof *betas);
    betas[0] = fmin(1 - trunc_cos_alpha_bar(0), 0.999);
}

/* The code of Diffusion-LM: down over 10 steps, then up */
static void schedule_pw_lin(double *betas, int T)
{
    int first = T < 10 ? T : 10;
    straight_line(betas, first, 0.1 / T + 0.01, 0.1 / T);
    straight_line(betas + first, T - first, 0.1 / T, 20.0 / T);
}

static void (*const noise_schedules[])(double *betas, int T) = {
    schedule_sqrt,      schedule_cosine,    schedule_linear,
    schedule_trunc_cos, schedule_trunc_lin, schedule_pw_lin};
/* In the same order. A new one comes last: the fingerprint of a denoiser has its place. */
const char *const noise_schedule_names[] = {"sqrt",      "cosine", "linear", "trunc_cos",
                                            "trunc_lin", "pw_lin", NULL};

void noise_schedule_betas(double *betas, int schedule, int T)
{
    noise_schedules[schedule](betas, T);
}

/* A count from a section list, or -1 */
static int section_count(const char **text)
{
    long n = 0;
    if (**text < '0' || **text > '9') return -1;
    for (; **text >= '0' && **text <= '9'; ++*text)
        if ((n = 10 * n + (**text - '0')) > 1000000) return -1;
    return (int)n;
}

/* "ddimN": the stride from 0 on that takes N steps. p: behind "ddim". */
static int even_strides(unsigned char *kept, int total, const char *p, const char *sections,
                        Error *err)
{
    const int count = section_count(&p);
    int fewer = 0, more = total;
    if (count < 1 || *p)
        return fail(err, "steps '%s': expected a whole number behind 'ddim'", sections);
    for (int stride = 1; stride < total; stride++) {
        const int reached = (total - 1) / stride + 1;
        if (reached == count) {
            for (int t = 0; t < total; t += stride) kept[t] = 1;
            return count;
        }
        if (reached < count && reached > fewer) fewer = reached;
        if (reached > count && reached < more) more = reached;
    }
    if (count < 2 || count > total)
        return fail(err, "steps '%s': %d steps allow ddim2 to ddim%d", sections, total, total);
    return fail(err,
                "steps '%s': no whole stride takes %d of %d steps; the nearest it takes are "
                "%d and %d",
                sections, count, total, fewer, more);
}

int space_timesteps(unsigned char *kept, int total, const char *sections, Error *err)
{
    const char *p = sections;
    int parts = 1, start = 0, found = 0;
    memset(kept, 0, total);
    if (!strncmp(sections, "ddim", 4))
        return even_strides(kept, total, sections + 4, sections, err);
    for (const char *q = sections; *q; q++) parts += *q == ',';
    for (int i = 0; i < parts; i++) {
        const int size = total / parts + (i < total % parts), count = section_count(&p);
        if (count < 0 || *p != (i + 1 < parts ? ',' : '\0'))
            return fail(err, "steps '%s': expected a number, numbers with commas between, or ddimN",
                        sections);
        if (count > size && parts == 1)
            return fail(err, "steps '%s': the model was trained with %d, so 1 to %d are possible",
                        sections, total, total);
        if (count > size)
            return fail(err, "steps '%s': section %d has only %d steps of the model's %d, not %d",
                        sections, i + 1, size, total, count);
        const double stride = count <= 1 ? 1 : (size - 1.0) / (count - 1);
        double position = 0;
        for (int k = 0; k < count; k++) {
            kept[start + (int)nearbyint(position)] = 1; /* half to even, as Python rounds */
            position += stride;
        }
        found += count;
        start += size;
        p++;
    }
    if (found) return found;
    return fail(err, "steps '%s': no step is left; 1 to %d are possible", sections, total);
}

int steps_from_noise(unsigned char *kept, int total, const char *sections, Error *err)
{
    const int found = space_timesteps(kept, total, sections, err);
    int last = total - 1;
    if (found < 0) return -1;
    while (!kept[last]) last--;
    kept[last] = 0;
    kept[total - 1] = 1;
    return found;
}

int trained_steps(const Config *c)
{
    /* 1e-6: .15 is a little less in binary, and .15 of 2000 is to be 300 on every machine */
    return c->diffusion_steps - (int)(c->t_min * c->diffusion_steps + 1e-6);
}

/* "N" steps as four sections, the least noisy with half as many as each of the others: where t_min
 * leaves steps out, little is decided just above it, either (test/RESULTS.md, "Fewer steps in the
 * least noisy quarter"). Less than 8 steps, or more than half of all, stay as they are. */
static const char *thinned(char *text, size_t room, const char *sections, int total)
{
    const char *p = sections;
    const int N = section_count(&p), thin = N / 8, rest = N - thin;
    if (*p || thin == 0 || N > total / 2) return sections;
    snprintf(text, room, "%d,%d,%d,%d", thin, (rest + 2) / 3, (rest + 1) / 3, rest / 3);
    return text;
}

int diffusion_from_noise(Diffusion *d, const Config *c, const char *sections, Error *err)
{
    const int total = c->diffusion_steps, first = total - trained_steps(c);
    char text[64];
    unsigned char *kept = checked_alloc(total, 1, err);
    int status = kept ? 0 : -1;
    if (sections && first > 0) sections = thinned(text, sizeof text, sections, total - first);
    if (!status && !sections) memset(kept + first, 1, total - first);
    if (!status && sections && steps_from_noise(kept + first, total - first, sections, err) < 0)
        status = -1;
    if (!status) status = diffusion_init(d, c->noise_schedule, total, kept, err);
    free(kept);
    return status;
}

/* DDPM eq. 4 solved for x_start, and for the noise */
void xstart_from_epsilon(real *x_start, const real *x_t, const real *epsilon, const int *t,
                         const Diffusion *d, int B, size_t n)
{
    for (int b = 0; b < B; b++) {
        double a = d->alphas_cumprod[t[b]];
        combine(x_start + b * n, x_t + b * n, epsilon + b * n, (real)sqrt(1 / a),
                -(real)sqrt(1 / a - 1), n);
    }
}

void epsilon_from_xstart(real *epsilon, const real *x_t, const real *x_start, const int *t,
                         const Diffusion *d, int B, size_t n)
{
    for (int b = 0; b < B; b++) {
        double a = d->alphas_cumprod[t[b]];
        combine(epsilon + b * n, x_t + b * n, x_start + b * n, (real)(1 / sqrt(1 - a)),
                -(real)sqrt(a / (1 - a)), n);
    }
}

void q_mean_variance(real *mean, double *variance, double *log_variance, const real *x_start,
                     const int *t, const Diffusion *d, int B, size_t n)
{
    for (int b = 0; b < B; b++) {
        double a = d->alphas_cumprod[t[b]];
        for (size_t i = 0; i < n; i++) mean[b * n + i] = (real)sqrt(a) * x_start[b * n + i];
        variance[b] = 1 - a;
        log_variance[b] = log(1 - a);
    }
}

void q_posterior_mean_variance(real *mean, double *variance, double *log_variance,
                               const real *x_start, const real *x_t, const int *t,
                               const Diffusion *d, int B, size_t n)
{
    q_posterior_mean(mean, x_start, x_t, t, d, B, n);
    for (int b = 0; b < B; b++) {
        variance[b] = d->posterior_variance[t[b]];
        log_variance[b] = d->posterior_log_variance_clipped[t[b]];
    }
}

void p_mean_variance(real *mean, double *variance, double *log_variance, const real *pred_xstart,
                     const real *x_t, const int *t, const Diffusion *d, Variance kind, int B,
                     size_t n)
{
    q_posterior_mean_variance(mean, variance, log_variance, pred_xstart, x_t, t, d, B, n);
    if (kind == FIXED_SMALL) return;
    for (int b = 0; b < B; b++) {
        variance[b] = p_variance(d, t[b], kind);
        log_variance[b] = log(variance[b]);
    }
}

/* With PREDICT_EPSILON the network says the noise in x_t, and mse compares that (DDPM eq. 14); but
 * at t = 0 the guess of x_start that follows from it, with the embedding. */
static void noise_mse_forward(const Workspace *w, double *mse, const Batch *y, size_t n)
{
    for (int b = 0; b < y->B; b++)
        if (y->t[b] > 0)
            mse_forward(mse + b, y->noise_t + b * n, w->model_out + b * n, 1, n);
        else
            mse_forward(mse + b, w->target + b * n, w->pred_xstart + b * n, 1, n);
}

/* At t = 0, as pred = (x_t - sqrt(1 - a) out) / sqrt(a), dpred goes to out, and past the network to
 * x_t. */
static void noise_mse_backward(const Workspace *w, const Batch *y, const Diffusion *d,
                               const real *weight, size_t n)
{
    const real of_out = -(real)sqrt(1 / d->alphas_cumprod[0] - 1);
    for (int b = 0; b < y->B; b++) {
        real *unwanted = w->dx_t + b * n; /* backward_examples overwrites the noise's gradient */
        if (y->t[b] > 0) {
            mse_backward(unwanted, w->dmodel_out + b * n, y->noise_t + b * n, w->model_out + b * n,
                         weight + b, 1, n);
            continue;
        }
        mse_backward(w->dx_start + b * n, w->dpred + b * n, w->target + b * n,
                     w->pred_xstart + b * n, weight + b, 1, n);
        for (size_t i = b * n; i < (b + 1) * n; i++)
            w->dmodel_out[i] = fmadd(of_out, w->dpred[i], w->dmodel_out[i]);
    }
}

static void past_the_network(const Workspace *w, const Batch *y, const Diffusion *d, size_t n)
{
    const real of_x = (real)sqrt(1 / d->alphas_cumprod[0]);
    for (int b = 0; b < y->B; b++)
        if (y->t[b] == 0)
            for (size_t i = b * n; i < (b + 1) * n; i++) w->dx_t[i] += of_x * w->dpred[i];
}

/* Which t to train on: Improved DDPM sec. 3.3. */

int resampler_init(Resampler *r, int T, int per_step, Error *err)
{
    memset(r, 0, sizeof *r);
    r->T = T, r->per_step = per_step;
    if (!(r->history = checked_alloc(T, (1 + (size_t)per_step) * sizeof *r->history, err)) ||
        !(r->p = checked_alloc(T, sizeof *r->p, err)))
        return -1;
    resampler_update(r, NULL, NULL, 0);
    return 0;
}

void resampler_free(Resampler *r)
{
    free(r->history);
    free(r->p);
    memset(r, 0, sizeof *r);
}

void resampler_update(Resampler *r, const int *t, const double *loss, int B)
{
    const int K = r->per_step;
    double total = 0;
    int full = 1;
    for (int b = 0; b < B; b++) { /* a row: how many losses it has, then these, the oldest first */
        real *row = r->history + (size_t)t[b] * (1 + K);
        if ((int)row[0] == K)
            memmove(row + 1, row + 2, (K - 1) * sizeof *row);
        else
            row[0] += 1;
        row[(int)row[0]] = (real)loss[b];
    }
    for (int i = 0; i < r->T; i++) {
        const real *row = r->history + (size_t)i * (1 + K);
        double squares = 0;
        for (int k = 1; k <= K; k++) squares += (double)row[k] * row[k];
        full &= (int)row[0] == K;
        r->p[i] = sqrt(squares / K);
        total += r->p[i];
    }
    for (int i = 0; i < r->T; i++) /* a thousandth stays uniform, so that no t is forgotten */
        r->p[i] = full && total > 0 ? 0.999 * r->p[i] / total + 0.001 / r->T : 1.0 / r->T;
}

int resampler_restore(Resampler *r, Error *err)
{
    for (int i = 0; i < r->T; i++) {
        const real count = r->history[(size_t)i * (1 + r->per_step)];
        if (!(count >= 0 && count <= r->per_step && count == (int)count))
            return fail(err, "loss_history: row %d says it holds %g losses, expected 0 to %d", i,
                        (double)count, r->per_step);
    }
    resampler_update(r, NULL, NULL, 0);
    return 0;
}

int resampler_draw(const Resampler *r, double u)
{
    int t = 0;
    for (; t < r->T - 1 && u >= r->p[t]; t++) u -= r->p[t];
    return t;
}

/* x_t's own evidence. As x_t = sqrt(a) e + noise of variance 1 - a a0 (x_start's is a part of it),
 * log q(x_t | word) = k x_t . e + what all words have in common (their norm among it), with
 * k = sqrt(a) / (1 - a a0): from 0 in pure noise to 34 at t = 0 of 2,000 steps of sqrt. By Bayes'
 * rule p(word | x_t) ~ p(word | the rest) q(x_t | word). lm_head, too, is a product with the
 * embeddings, so the network's output takes k x_t up in place. A network finds it hard to be as
 * sure as it could be where there is hardly any noise; so what k has above d->evidence_above is
 * added. (With 0, that is Plaid's output prior: Gulrajani & Hashimoto 2023, arXiv:2305.18619. In
 * training it is a hindrance: the network then only sees its own word as something to keep silent
 * about.) */
static void add_evidence(real *out, const real *x, const Diffusion *d, const int *t, int B,
                         size_t n)
{
    for (int b = 0; b < B; b++) {
        const double a = d->alphas_cumprod[t[b]], all = sqrt(a) / (1 - a * d->first_alpha);
        combine(out + b * n, x + b * n, out + b * n, (real)fmax(all - d->evidence_above, 0), 1, n);
    }
}

/* The variational bound: Diffusion-LM eq. 2, DDPM eq. 5, as KL divergences between Gaussians,
 *   KL(q(x_T | x_start) || N(0,1)) + sum over t of KL(q(x_{t-1} | x_t, x_start) || p(x_{t-1} |
 * x_t)) - log p(words | x_start), and at t = 0, KL(q(x_start | words) || p(x_start | x_0)). For
 * words whose x_start has noise of its own that is the bound of a model that has to guess this
 * noise, too. The softmax head does not: there, the noise of x_start is taken as a part of q(x_t |
 * words), with signal-to-noise ratio a_t / (1 - a_t a0), and of Gaussians with the same variance
 * only the means differ: half the fall of that ratio times their squared distance (Kingma et al.
 * 2021, arXiv:2107.00630). */
void variational_bound(Model *m, Workspace *w, const Losses *terms, double *kl, double *prior,
                       const Diffusion *d, const Batch *y, Variance kind, int clip_denoised)
{
    const size_t n = (size_t)y->N * m->config.emb_dim;
    const int marginal = m->config.predict == PREDICT_SOFTMAX;
    const Dropout none = {0, 0, 0};
    assert(y->B <= w->B);
    training_losses(m, w, terms, d, y, 0, none);
    if (marginal)
        embedding_forward(w->target, m->embedding, y->ids, y->B * y->N, m->config.emb_dim);
    for (int b = 0; b < y->B; b++) {
        const int t = y->t[b];
        const double last = d->alphas_cumprod[d->T - 1];
        const double variance = 1 - last * (marginal ? d->first_alpha : 1);
        /* x_start, at t = 0 the embeddings; with softmax always these */
        const real *target = w->target + b * n;
        real *pred = w->pred_xstart + b * n;
        if (clip_denoised) clip(pred, n);
        prior[b] = 0.5 * (n * (variance - 1 - log(variance)) +
                          last * square_distance(marginal ? target : w->x_start + b * n, NULL, n));
        kl[b] = square_distance(target, pred, n);
        if (marginal) {
            const double a = d->alphas_cumprod[t], prev = d->alphas_cumprod_prev[t];
            kl[b] *= 0.5 * (prev / (1 - prev * d->first_alpha) - a / (1 - a * d->first_alpha));
        } else {
            const double q_log = t ? d->posterior_log_variance_clipped[t] : log(1 - d->first_alpha);
            const double p_log = kind == FIXED_SMALL ? d->posterior_log_variance_clipped[t]
                                                     : log(p_variance(d, t, kind));
            kl[b] = 0.5 * (n * (p_log - q_log - 1 + exp(q_log - p_log)) +
                           exp(-p_log) * square(d->posterior_mean_coef1[t]) * kl[b]);
        }
    }
}

Tensor length_tensor(int most)
{
    return (Tensor){
        .name = "length_counts", .rank = 1, .shape = {most + 1, 1}, .size = (size_t)most + 1};
}

double length_probability(const real *count, int most, int N)
{
    const double lengths = most - SHORTEST + 1;
    double total = 0;
    for (int k = SHORTEST; k <= most; k++) total += count[k];
    return (count[N] + 1 / lengths) / (total + 1);
}

/* The bound of a text. Of the sum over t not all terms are needed: rounds of a few drawn ones tell
 * how much they differ. */

typedef struct {
    double mean, se;                            /* bits a sentence, and its standard error */
    double se_t;                                /* that by the choice of t */
    double length, prior, decoder, quartile[4]; /* what it consists of, summed over sentences */
    double tokens;                              /* with the sentences' ends */
    int drawn, is_enough;                       /* terms of a sentence; se_t said how many */
} Bound;

typedef struct {
    Bound sum;
    double *of_t, *squares, *rest; /* (rows) the terms of t, their squares by rounds, the others */
    int K, round;                  /* terms that a round draws for a sentence */
    const int *order;              /* (rows) the sentences by length */
    int *ids;
    real *noise;
} Rounds;

enum { MEASURED = 64 /* sentences at a time, at most */ };

/* A round of the sentences order[first..first+count-1], which have N positions. Of the sum over t,
 * K terms are drawn, one from each of so many equal parts, at a place that every sentence draws for
 * itself: right on average, and exact with all of them. */
static int add_round(Rounds *r, Trained *m, Workspace *w, const Corpus *text, const Measuring *o,
                     int first, int count, int N, Error *err)
{
    const Config *c = &m->model.config;
    const Diffusion *d = &m->diffusion;
    const int T = d->T, K = r->K, *order = r->order + first;
    const size_t n = (size_t)N * c->emb_dim, values = count * n;
    const double length =
        m->length_count ? -log2(length_probability(m->length_count, c->max_positions, N)) : 0;
    double terms[7 * MEASURED] = {0}, *kl = terms + 5 * MEASURED, *prior = terms + 6 * MEASURED,
                     drawn[MEASURED] = {0};
    const Losses losses = {terms, terms + MEASURED, terms + 2 * MEASURED, terms + 3 * MEASURED,
                           terms + 4 * MEASURED};
    const int pad = m->tokenizer.special[TOKEN_PAD];
    int t[MEASURED], *ids = r->ids;
    real *noise = r->noise;
    if (workspace_fit(w, c, count, N, err)) return -1;
    for (int b = 0; b < count; b++) {
        memcpy(ids + b * N, text->ids + text->start[order[b]], N * sizeof *ids);
        rng_gaussian(noise + b * n, n, rng_key(o->seed, RNG_NOISE_X0, 0, order[b]));
    }
    for (int k = 0; k < K; k++) {
        const Batch batch = {ids, t, noise, noise + values, NULL, c->self_conditioning, count, N};
        const uint64_t round = (uint64_t)r->round;
        for (int b = 0; b < count; b++) {
            double u = (rng_u32(rng_key(o->seed, RNG_T, round, order[b]), 0) + 0.5) / 4294967296.0;
            t[b] = (int)((k + u) * T / K);
            rng_gaussian(noise + values + b * n, n,
                         rng_key(o->seed, RNG_NOISE_T, 1 + (uint64_t)t[b], order[b]));
        }
        const double begun = seconds();
        variational_bound(&m->model, w, &losses, kl, prior, d, &batch, o->variance,
                          o->clip_denoised);
        pace_step(o->pace, (double)count * N, seconds() - begun);
        if (stop_signal()) return fail(err, "stopped by a signal");
        for (int b = 0; b < count; b++) {
            double of_all = kl[b] * T / K / log(2), rest = prior[b] + losses.decoder_nll[b];
            if (!(of_all - of_all + rest - rest == 0))
                return fail(err, "%s: sentence %d: the bound is not finite at step %d of %d",
                            o->path, order[b] + 1, d->timestep_map[t[b]], d->total);
            drawn[b] += of_all;
            r->sum.quartile[(int)(4 * (int64_t)t[b] / T)] += of_all;
        }
        progress_tell(o->progress, first + (double)count * (k + 1) / K);
    }
    for (int b = 0; b < count; b++) {
        r->of_t[order[b]] += drawn[b], r->squares[order[b]] += drawn[b] * drawn[b];
        if (r->round > 0) continue;
        /* these are the same for every t */
        r->sum.length += length, r->sum.prior += prior[b] / log(2);
        r->sum.decoder += N * losses.decoder_nll[b] / log(2);
        r->rest[order[b]] = length + (prior[b] + N * losses.decoder_nll[b]) / log(2);
        for (int i = 1; i < N; i++) r->sum.tokens += ids[b * N + i] != pad;
    }
    return 0;
}

/* After a round: the mean bound, its standard error by the choice of sentences, and that by the
 * choice of t, which the rounds of a sentence tell by what they differ in. */
static void mean_bound(Rounds *r, int rows)
{
    const double count = rows, rounds = r->round;
    double all = 0, squares = 0, variance = 0;
    for (int i = 0; i < rows; i++) {
        const double of_t = r->of_t[i] / rounds, bits = of_t + r->rest[i];
        all += bits, squares += bits * bits;
        if (rounds > 1) variance += fmax(r->squares[i] / rounds - of_t * of_t, 0) / (rounds - 1);
    }
    r->sum.mean = all / count;
    r->sum.se =
        count > 1 ? sqrt(fmax(squares / count - r->sum.mean * r->sum.mean, 0) / (count - 1)) : 0;
    r->sum.se_t = sqrt(variance) / count;
}

static int text_bound(Bound *bound, Trained *m, Workspace *w, const Corpus *text,
                      const Measuring *o, Error *err)
{
    enum { DRAWN = 16, ROUNDS = 4 }; /* t that a round draws, and the fewest rounds */
    const double enough = 0.01;      /* of the mean: a standard error by the choice of t */
    const int T = m->diffusion.T, one_round = o->steps || o->all || T <= DRAWN * ROUNDS;
    const size_t all = (size_t)text->rows, positions = (size_t)MEASURED * text->longest;
    Rounds r = {.K = !one_round ? DRAWN : o->steps && o->steps < T ? o->steps : T};
    int status = -1, end;
    int *order = checked_alloc(all, sizeof *order, err);
    int *rows = checked_alloc(all + text->longest + 2, sizeof *rows, err);
    r.order = order;
    r.ids = checked_alloc(positions, sizeof *r.ids, err);
    r.of_t = checked_alloc(all, 3 * sizeof *r.of_t, err);
    r.noise = checked_alloc(positions, 2 * m->model.config.emb_dim * sizeof *r.noise, err);
    if (!order || !rows || !r.ids || !r.of_t || !r.noise) goto done;
    r.squares = r.of_t + all, r.rest = r.squares + all;
    for (int i = 0; i < text->rows; i++) rows[i] = i;
    sort_by_length(order, rows, text->rows, text, rows + all);
    do {
        for (int first = 0; first < text->rows; first = end) {
            const int N = sentence_length(text, order[first]), most = piece_of_batch(MEASURED, N);
            for (end = first + 1;
                 end < text->rows && end - first < most && sentence_length(text, order[end]) == N;)
                end++;
            if (add_round(&r, m, w, text, o, first, end - first, N, err)) goto done;
        }
        r.round++;
        mean_bound(&r, text->rows);
    } while (!one_round && r.round * DRAWN < T &&
             (r.round < ROUNDS || r.sum.se_t > enough * r.sum.mean));
    for (int q = 0; q < 4; q++) r.sum.quartile[q] /= r.round;
    r.sum.drawn = r.K * r.round, r.sum.is_enough = !one_round;
    *bound = r.sum;
    status = 0;
done:
    free(r.noise);
    free(r.of_t);
    free(r.ids);
    free(rows);
    free(order);
    return status;
}

/* For people */
static void bound_print(const Bound *b, const Corpus *text, int T, Buffer *out)
{
    const double count = text->rows, bits = b->mean * count;
    buffer_print(out, "bound %.2f bits/sentence (se %.2f)\n", b->mean, b->se);
    buffer_print(out,
                 "  %.3f nats/token, %.3f bits/token (%.0f sentences, %.0f tokens with their "
                 "ends)\n",
                 bits * log(2) / b->tokens, bits / b->tokens, count, b->tokens);
    buffer_print(out,
                 "  length %.3f + words %.3f: prior %.3f + diffusion by noise quartile %.3f %.3f "
                 "%.3f %.3f + decoder %.3f bits/sentence (%d of %d steps)\n",
                 b->length / count, b->mean - b->length / count, b->prior / count,
                 b->quartile[0] / count, b->quartile[1] / count, b->quartile[2] / count,
                 b->quartile[3] / count, b->decoder / count, b->drawn, T);
    if (b->is_enough)
        buffer_print(out,
                     "  these steps were drawn, until the bound's standard error by that was %.2f "
                     "%%; --eval-all takes all\n",
                     100 * b->se_t / b->mean);
    if (text->unknown)
        buffer_print(out,
                     "  %.2f %% of the words are [UNK]; with these spelt out, byte by byte as the "
                     "words of the vocabulary: bound %.2f bits/sentence\n",
                     100.0 * text->unknown / text->words, b->mean + text->spelling / count);
}

int bound_of_file(Buffer *out, Trained *m, Workspace *w, const Measuring *how, Error *err)
{
    const Config *c = &m->model.config;
    const int pad = !m->length_count;
    Corpus text = {0};
    Bound bound;
    int status = corpus_read(&text, how->path, err);
    if (!status)
        status = corpus_fill(&text, how->path, &m->tokenizer, pad ? c->seq_len : c->max_positions,
                             pad, err);
    if (!status) tell_notes(&text);
    how->progress->all = text.rows;
    if (!status) status = text_bound(&bound, m, w, &text, how, err);
    if (!status) bound_print(&bound, &text, m->diffusion.T, out);
    progress_end(how->progress);
    corpus_free(&text);
    return status;
}

/* --probe: the arrays that training_losses leaves in the workspace, and its terms. */
int probe(Buffer *out, Trained *m, Workspace *w, const int *sentence, int N, uint64_t seed,
          Error *err)
{
    enum { B = 3 };
    const Config *c = &m->model.config;
    const int T = m->diffusion.T, t[B] = {0, T / 2, T - 1};
    const size_t all = (size_t)B * N * c->emb_dim;
    const Dropout none = {0, 0, 0};
    double terms[5 * B];
    real term[5 * B];
    int *ids = checked_alloc(N, B * sizeof *ids, err);
    real *noise = checked_alloc(all, 2 * sizeof *noise, err);
    if (!ids || !noise || workspace_fit(w, c, B, N, err)) {
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
    for (int b = 0; b < B; b++) memcpy(ids + b * N, sentence, N * sizeof *ids);
    rng_gaussian(noise, 2 * all, rng_key(seed, RNG_SAMPLE, 0, 0));
    training_losses(&m->model, w, &losses, &m->diffusion, &y, 0, none);
    for (int i = 0; i < 5 * B; i++) term[i] = (real)terms[i];

    buffer_print(out, "{\"B\":%d,\"N\":%d,\"D\":%d,\"t\":[%d,%d,%d],\n\"ids\":[", B, N, c->emb_dim,
                 t[0], t[1], t[2]);
    for (int i = 0; i < B * N; i++) buffer_print(out, "%s%d", i ? "," : "", ids[i]);
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++) {
        buffer_print(out, "],\n\"%s\":[", arrays[k].name);
        for (size_t i = 0; i < arrays[k].n; i++)
            buffer_print(out, "%s%.9g", i ? "," : "", (double)arrays[k].x[i]);
    }
    buffer_print(out, "]}\n");
    free(ids);
    free(noise);
    return out->failed ? fail(err, "out of memory") : 0;
}

/* ---- 12. control ------------------------------------------------------------------------------
 * What: what p_sample_loop can do beyond DDPM's algorithm, a line of it each; the classifier for
 * guidance; words that are given, and how ./sample shows what it does. Who: that loop, and the
 * programs. May be skipped. */

/* The given words, as noisy as everything else is at t. They take the part of w->noise that falls
 * on them: of what step t will draw there nothing is kept. */
static void noise_known_words(const Sampler *s, const Workspace *w, const Diffusion *d, real *x,
                              int B, size_t n)
{
    const int D = (int)(n / w->N);
    q_sample(w->x_t, s->known_x, w->noise, w->t, d, B, n);
    for (size_t i = 0; i < B * (size_t)w->N; i++)
        if (s->known[i]) memcpy(x + i * D, w->x_t + i * D, D * sizeof *x);
}

/* The guess of a known word is that word: the next step reads it as the previous guess, and the
 * last step ends in it. (What the network says in the place of [CLS] or [SEP] is none: only_words
 * makes them improbable everywhere.) */
static void keep_known_words(const Sampler *s, real *pred_xstart, int M, int D)
{
    for (size_t i = 0; i < (size_t)M; i++)
        if (s->known[i]) memcpy(pred_xstart + i * D, s->known_x + i * D, D * sizeof *pred_xstart);
}

real real_clip(real x) { return x < -1 ? -1 : x > 1 ? 1 : x; }

static void clip(real *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = real_clip(x[i]);
}

/* Which column of each row is the largest. */
static void largest_columns(int *ids, const real *scores, int M, int V)
{
    for (int i = 0; i < M; i++) {
        const real *row = scores + (size_t)i * V;
        ids[i] = 0;
        for (int v = 1; v < V; v++)
            if (row[v] > row[ids[i]]) ids[i] = v;
    }
}

/* Clamping (Diffusion-LM sec. 4.2): x becomes the embedding nearest to it, by |x - e|^2 = |x|^2 - 2
 * (x e - |e|^2 / 2). */
static void clamp_to_words(const Model *m, Workspace *w, real *x, int M)
{
    const int V = m->config.vocab, D = m->config.emb_dim;
    for (int v = 0; v < V; v++)
        w->minus_half_squares[v] = -square_distance(m->embedding + (size_t)v * D, NULL, D) / 2;
    linear_forward(w->logits, x, m->embedding, w->minus_half_squares, M, V, D);
    largest_columns(w->nearest, w->logits, M, V);
    embedding_forward(x, m->embedding, w->nearest, M, D);
}

/* Song et al. 2020, arXiv:2010.02502, eq. 12 and 16: eta = 0 goes back without new noise, eta = 1
 * is DDPM again. More replaces more of x_t's noise by new noise, at most all of it, which is
 * q_sample of the guess: so errors are washed out. */
void ddim_sample(real *x_prev, const real *pred_xstart, const real *x_t, const real *noise,
                 const int *t, const Diffusion *d, double eta, int B, size_t n)
{
    for (int b = 0; b < B; b++) {
        const double a = d->alphas_cumprod[t[b]], prev = d->alphas_cumprod_prev[t[b]];
        const double sigma =
            fmin(eta * sqrt((1 - prev) / (1 - a)) * sqrt(1 - a / prev), sqrt(1 - prev));
        const real of_x = (real)(1 / sqrt(1 - a)), of_start = -(real)sqrt(a / (1 - a));
        const real root = (real)sqrt(prev), rest = (real)sqrt(fmax(1 - prev - sigma * sigma, 0));
        for (size_t i = b * n; i < (b + 1) * n; i++) {
            real epsilon = fmadd(of_x, x_t[i], of_start * pred_xstart[i]);
            x_prev[i] = fmadd(root, pred_xstart[i], fmadd(rest, epsilon, (real)sigma * noise[i]));
        }
    }
}

static double log_snr(const Diffusion *d, int t)
{
    return log(d->alphas_cumprod[t] / (1 - d->alphas_cumprod[t]));
}

/* What ddim_sample is to take for x_start. From step to step the guess grows surer, so it is better
 * to go where the next one will be: changed once more, s->ahead times as much as since the last
 * step, and in proportion to what the log of the signal-to-noise ratio gains. Half of it with eta 0
 * is DPM-Solver++ (2M) (Lu et al. 2022, arXiv:2211.01095), which so is exact to second order. Where
 * sections of --steps meet, the last step was tiny, and the guess changed in it by new noise more
 * than by what it learnt: so the proportion is LARGEST at most, which even steps of the schedule
 * sqrt do not reach. */
const real *guess_ahead(const Sampler *s, const Workspace *w, const Diffusion *d, int t, size_t n)
{
    enum { LARGEST = 8 };
    const int is_first = t == (s->start ? s->start : d->T) - 1;
    if (s->ahead == 0) return w->pred_xstart;
    if (is_first || t == 0 || is_varied(s, d, t)) {
        memcpy(w->estimate, w->pred_xstart, n * sizeof *w->estimate);
        return w->pred_xstart;
    }
    const double gain = log_snr(d, t - 1) - log_snr(d, t),
                 last_gain = log_snr(d, t) - log_snr(d, t + 1);
    const real more = (real)(s->ahead * fmin(gain / last_gain, LARGEST));
    for (size_t i = 0; i < n; i++) {
        const real now = w->pred_xstart[i];
        w->x_start[i] = fmadd(more, now - w->estimate[i], now);
        w->estimate[i] = now;
    }
    return w->x_start;
}

/* Varied steps. Early ones, in much noise, decide which words there will be, later ones how they go
 * together. The usual step makes few errors, but its sentences are more alike than those of the
 * text: frequent words grow more frequent, rare ones rarer. So s->vary, a share of all steps, the
 * noisiest, can go plainly, without guess_ahead and with no more noise than DDPM: in such steps
 * words stay as frequent as in the text (test/RESULTS.md, "The guess of known words"). */
static int is_varied(const Sampler *s, const Diffusion *d, int t)
{
    return d->timestep_map[t] >= (1 - s->vary) * d->total;
}

static double eta_at(const Sampler *s, const Diffusion *d, int t)
{
    return is_varied(s, d, t) ? fmin(s->eta, 1) : s->eta;
}

/* Diffusion-LM's code: what lies outside of [-limit, limit] is drawn again, in order, until it does
 * not. Narrower noise makes likelier and less varied sentences. */
void truncate_noise(real *noise, size_t n, double limit, real (*draw)(void *context), void *context)
{
    int outside;
    do {
        outside = 0;
        for (size_t i = 0; i < n; i++)
            if (noise[i] > limit || noise[i] < -limit) {
                noise[i] = draw(context);
                outside = 1;
            }
    } while (outside);
}

/* Guidance needs p(label | x_t) for noisy x_t at every t. The classifier is a denoiser of its own
 * whose words are the labels: the same encoder, of whose output only the first position is read,
 * and lm_head, which compares that with the embedding of each label. (So its head is Linear, tanh,
 * and two Linear without anything between them. The special tokens are among its labels, too; never
 * seen, they soon have no probability.) */

static void first_positions(real *out /*(B,D)*/, const real *x /*(B,N,D)*/, int B, int N, int D)
{
    for (int b = 0; b < B; b++) memcpy(out + (size_t)b * D, x + (size_t)b * N * D, D * sizeof *out);
}

void classifier_forward(const Model *m, Workspace *w, double *nll, const real *x_t,
                        const real *timesteps, const int *label, int B, int N, Dropout drop)
{
    denoiser_forward(m, w, w->model_out, x_t, NULL, timesteps, B, N, drop);
    first_positions(w->pred_xstart, w->model_out, B, N, m->config.emb_dim);
    decoder_nll_forward(nll, w->logits, m, w->pred_xstart, label, B, 1);
}

void classifier_backward(const Model *m, Workspace *w, real *dx_t, const int *label,
                         const real *weight, int B, int N, Dropout drop)
{
    const size_t D = m->config.emb_dim;
    memset(w->dpred, 0, B * D * sizeof *w->dpred);
    memset(w->dmodel_out, 0, (size_t)B * N * D * sizeof *w->dmodel_out);
    decoder_nll_backward(w->dpred, w->logits, m, label, weight, B, 1);
    for (int b = 0; b < B; b++)
        memcpy(w->dmodel_out + b * N * D, w->dpred + b * D, D * sizeof *w->dpred);
    backward_all_examples(m, w, dx_t, w->dmodel_out, B, N, drop);
}

double classifier_losses(Model *m, Workspace *w, double *nll, int *guess, const Model *denoiser,
                         const Diffusion *d, const Batch *y, const int *label, int backward,
                         Dropout drop)
{
    const int N = y->N;
    double mean = 0;
    assert(m->config.emb_norm == 0); /* the table of labels is its word_embedding */
    for (int first = 0; first < y->B; first += w->B) {
        const Batch piece = piece_of(y, w, first, (size_t)N * m->config.emb_dim);
        const Dropout own_drop = dropout_of_piece(drop, first);
        noisy_examples(denoiser, w, d, &piece);
        classifier_forward(m, w, nll + first, w->x_t, w->timesteps, label + first, piece.B, N,
                           own_drop);
        largest_columns(guess + first, w->logits, piece.B, m->config.vocab);
        if (!backward) continue;
        classifier_backward(m, w, w->dx_t, label + first, w->weight, piece.B, N, own_drop);
        embeddings_as_weight(m, m->lm_head_bias->grad, w->logits, w->pred_xstart, piece.B);
        backward_weights(m, w, w->dmodel_out, w->x_t, piece.B, N);
    }
    for (int b = 0; b < y->B; b++) mean += nll[b] / y->B;
    return mean;
}

void classifier_begin(Model *m, const Model *denoiser)
{
    for (int i = 0; i < m->num_tensors; i++) {
        const Tensor *t = &m->tensors[i];
        if (t != m->word_embedding && t != m->lm_head_bias)
            memcpy(t->data, denoiser->tensors[i].data, t->size * sizeof *t->data);
        else
            for (size_t j = 0; j < t->size; j++) t->data[j] *= (real)0.1;
    }
}

/* In the least noisy 1/200 of all steps there is next to no noise left and the words are decided;
 * and t = 0 has no t-1, whichever step respacing makes it. */
static int is_guided(const Diffusion *d, int t)
{
    enum { UNGUIDED = 200 };
    return t > 0 && d->timestep_map[t] >= d->total / UNGUIDED;
}

/* By Bayes' rule p(x_{t-1} | x_t, label) ~ p(x_{t-1} | x_t) p(label | x_{t-1}). The first is a
 * Gaussian; a Gaussian times exp(g . x) is the same one moved by variance g. So with g = the
 * gradient of log p(label | x_{t-1}) it is enough to move what p_sample has drawn (Dhariwal &
 * Nichol 2021, arXiv:2105.05233, alg. 1, but g is taken where x has come to); variance and spread
 * of the samples stay what the model says. */
void guide(const Sampler *s, const Workspace *w, const Diffusion *d, real *x, int t, size_t n)
{
    const real variance = (real)p_variance(d, t, s->variance);
    s->gradient(s->context, w->x_start, x, t - 1);
    for (size_t i = 0; i < n; i++) x[i] = fmadd(variance, w->x_start[i], x[i]);
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
static int asked_length(Given *g, const Trained *m, const Asked *asked, const char *option,
                        Error *err)
{
    const int most = m->model.config.max_positions - 2; /* without [CLS] and [SEP] */
    char *end;
    long from = strtol(asked->length, &end, 10), to = from;
    if (*end == '-') to = strtol(end + 1, &end, 10);
    if (*end || strspn(asked->length, "0123456789-") < strlen(asked->length) || from < 1 ||
        to < from)
        return fail(err,
                    "--length: '%.40s' is no number of words from 1 on, nor two, the smaller "
                    "first, with a - between",
                    asked->length);
    if (to > most)
        return fail(err, "--length %.40s: the model has room for %d words", asked->length, most);
    if (to + 2 < g->shortest)
        return fail(err, "--length %s: with its prompt a sentence has %d words at least (%s)",
                    asked->length, g->shortest - 2, option);
    g->shortest = from + 2 > g->shortest ? (int)from + 2 : g->shortest;
    g->longest = (int)to + 2;
    return 0;
}

/* The ids of text, with [mask] for [MASK], too; how many, or -1: out of memory */
static long encode_given(const Tokenizer *t, const char *text, int *ids, int most)
{
    Buffer capitals = {0};
    buffer_add(&capitals, "", 0);
    for (const char *p = text; *p; p++) {
        const int is_mask = !strncmp(p, "[mask]", 6);
        buffer_add(&capitals, is_mask ? "[MASK]" : p, is_mask ? 6 : 1);
        p += is_mask ? 5 : 0;
    }
    const long n =
        capitals.failed ? -1 : tokenizer_encode(t, capitals.text, capitals.length, ids, most);
    free(capitals.text);
    return n;
}

/* The words of text, where [MASK] marks what is not known; text may be NULL. option: where it
 * stands */
static int given_words(Given *g, const Trained *m, const Asked *asked, const char *text,
                       const char *option, Error *err)
{
    const Tokenizer *t = &m->tokenizer;
    const int most = m->model.config.max_positions, has_lengths = m->length_count != NULL;
    int masks = 0;
    Error inner;
    g->shortest = asked->length || has_lengths ? SHORTEST : m->model.config.seq_len;
    g->longest = has_lengths ? most : m->model.config.seq_len;
    if (!text) return asked->length ? asked_length(g, m, asked, option, err) : 0;
    if (!(g->ids = checked_alloc(most, sizeof *g->ids, err))) return -1;
    if (tokenizer_accepts(t, text, strlen(text), &inner))
        return fail(err, "%s: %.400s", option, inner.text);
    const long n = encode_given(t, text, g->ids, most);
    if (n < 0) return fail(err, "out of memory");
    if (n > most)
        return fail(err, "%s: %ld positions with [CLS] and [SEP], the model has %d", option, n,
                    most);
    for (int i = 0; i < n; i++) {
        if (g->ids[i] == t->special[TOKEN_UNK]) return unknown_word(t, text, option, err);
        masks += g->ids[i] == t->special[TOKEN_MASK];
    }
    g->size = (int)n;
    if (asked->edit && masks)
        return fail(err, "%s: a [MASK] is for --prompt; expected a whole sentence", option);
    if (asked->edit && n < SHORTEST) return fail(err, "%s: expected a sentence", option);
    if (asked->prompt && !masks && !asked->go_on && !asked->length)
        return fail(err,
                    "%s: no [MASK] in it, so nothing is left to sample; with --continue the "
                    "sentence goes on behind it",
                    option);
    g->shortest = g->longest = (int)n;
    if (!asked->prompt || (!asked->go_on && !asked->length)) return 0;
    g->shortest = masks ? (int)n : (int)n + 1, g->longest = most;
    if (g->shortest > most)
        return fail(err,
                    "%s: no room behind it: the model has %d positions, [CLS] and [SEP] included",
                    option, most);
    return asked->length ? asked_length(g, m, asked, option, err) : 0;
}

/* Those of the lines of a file, but for blank ones. */
static Given *given_lines(const char *path, const Trained *m, const Asked *asked, int *count,
                          Error *err)
{
    Corpus c = {0};
    Buffer where = {0};
    Given *given = NULL;
    size_t lines = 1;
    int line = 1, status = corpus_read(&c, path, err);
    for (size_t i = 0; i < c.length && !status; i++) lines += c.text[i] == '\n';
    if (!status && !(given = checked_alloc(lines, sizeof *given, err))) status = -1;
    *count = 0;
    for (size_t at = 0, end; at < c.length && !status; at = end + 1, line++) {
        for (end = at; end < c.length && c.text[end] != '\n';) end++;
        c.text[end] = '\0';
        where.length = 0;
        buffer_print(&where, "%s: line %d", path, line);
        if (strlen(c.text + at) < end - at)
            status = fail(err, "%s: a byte 0 in it; expected text", where.text);
        else if (where.failed)
            status = fail(err, "out of memory");
        else if (strspn(c.text + at, " \t\r") < end - at)
            status = given_words(&given[(*count)++], m, asked, c.text + at, where.text, err);
    }
    if (!status && !*count) status = fail(err, "%s: no prompt in it", path);
    free(where.text);
    corpus_free(&c);
    if (!status) return given;
    given_free(given, *count);
    return NULL;
}

Given *given_take(Trained *m, const Asked *asked, const char *path, const char *text,
                  const char *option, int *count, Error *err)
{
    *count = 0;
    if ((path || text) && tokenizer_cut_specials(&m->tokenizer, err)) return NULL;
    if (path) return given_lines(path, m, asked, count, err);
    Given *given = checked_alloc(1, sizeof *given, err);
    if (!given) return NULL;
    if (given_words(given, m, asked, text, option, err)) {
        given_free(given, 1);
        return NULL;
    }
    *count = 1;
    return given;
}

void given_free(Given *given, int count)
{
    for (int i = 0; i < count && given; i++) free(given[i].ids);
    free(given);
}

/* The network guesses, of the sentence as ever more noise leaves it, ever fewer words: how soon
 * depends on how alike words are, and how much the others tell of one. Where what the share of
 * right ones has above the limit adds up to the most, it falls below: a single unlucky noise does
 * not move that. */
int legible_steps(Trained *m, Workspace *w, const Given *g, uint64_t seed, double *steps,
                  Error *err)
{
    enum { NOISES = 256, CLEAR = 16 /* of these, the least noisy */, AT_A_TIME = 64 };
    const Config *c = &m->model.config;
    const int N = m->length_count ? g->size : c->seq_len, B = piece_of_batch(AT_A_TIME, N);
    const size_t n = (size_t)N * c->emb_dim;
    const Dropout none = {0, 0, 0};
    const double legible = 0.9;
    double terms[5 * AT_A_TIME] = {0}, right[NOISES] = {0}, clear = 0, above = 0, most = 0;
    int t[AT_A_TIME], status = -1;
    int *ids = checked_alloc((size_t)B * N, sizeof *ids, err);
    int *guess = checked_alloc((size_t)B * N, sizeof *guess, err);
    real *noise = checked_alloc(B * n, 2 * sizeof *noise, err);
    if (ids && guess && noise && !workspace_fit(w, c, B, N, err)) status = 0;
    for (int i = 0; i < B * N && !status; i++)
        ids[i] = i % N < g->size ? g->ids[i % N] : m->tokenizer.special[TOKEN_PAD];
    for (int first = 0; first < NOISES && !status; first += B) {
        const int count = NOISES - first < B ? NOISES - first : B;
        const Batch y = {ids, t, noise, noise + B * n, NULL, c->self_conditioning, count, N};
        const Losses losses = {terms, terms + B, terms + 2 * B, terms + 3 * B, terms + 4 * B};
        for (int b = 0; b < count; b++) t[b] = (first + b) * m->diffusion.T / NOISES;
        rng_gaussian(noise, 2 * B * n, rng_key(seed, RNG_NOISE_T, 0, (uint64_t)first));
        training_losses(&m->model, w, &losses, &m->diffusion, &y, 0, none);
        likeliest_words(&m->model, w, guess, w->pred_xstart, count, N);
        for (int b = 0; b < count; b++)
            for (int i = b * N + 1; i < b * N + g->size - 1; i++) /* without [CLS] and [SEP] */
                right[first + b] += (guess[i] == ids[i]) / (g->size - 2.0);
    }
    for (int k = 0; k < CLEAR; k++) clear += right[k] / CLEAR;
    *steps = 1.0 / NOISES;
    for (int k = 0; k < NOISES; k++) {
        above += right[k] - legible * clear;
        if (above > most) most = above, *steps = (k + 1.0) / NOISES;
    }
    if (!status)
        fprintf(stderr, "--strength %.2f: up to there %.0f %% of its words can be read\n", *steps,
                100 * legible * clear);
    free(ids);
    free(guess);
    free(noise);
    return status;
}

int given_length(const Trained *m, const Given *g, uint64_t seed, int i)
{
    const double u = rng_u32(rng_key(seed, RNG_LENGTH, 0, (uint64_t)i), 0) / 4294967296.0;
    return draw_length(m->length_count, g->shortest, g->longest, u);
}

void fix_words(int *fixed, int N, int length, const Given *g, const Trained *m, const Asked *asked)
{
    const int behind = asked->prompt ? g->size - 1 : 0, *special = m->tokenizer.special;
    const int is_open = !m->length_count && !asked->prompt && !asked->length;
    for (int i = 0; i < N; i++) {
        fixed[i] = special[TOKEN_MASK];
        if (is_open) continue; /* then the network says where it ends */
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

static void rule_out_specials(Model *m, const int *special, int has_lengths, int allow_unk)
{
    for (int role = 0; role < TOKEN_SPECIALS; role++) {
        const int is_place = role == TOKEN_CLS || role == TOKEN_SEP || role == TOKEN_PAD;
        if (is_place && !has_lengths) continue;
        if (role == TOKEN_UNK && allow_unk) continue;
        m->lm_head_bias->data[special[role]] = (real)-1e30;
    }
}

void only_words(Trained *m, int allow_unk)
{
    rule_out_specials(&m->model, m->tokenizer.special, m->length_count != NULL, allow_unk);
}

/* How probable the network finds word id at position i: the softmax head says it, or lm_head. */
static double word_probability(const Model *m, const Workspace *w, size_t i, int id, int has_head)
{
    const int V = m->config.vocab;
    const real *row = (has_head ? w->head : w->logits) + i * V;
    double all = 0;
    if (has_head) return row[id];
    for (int v = 0; v < V; v++) all += real_exp(row[v] - row[id]);
    return 1 / all;
}

/* What is seen of a batch while it is sampled. */

int show_begin(Show *w, const Trained *of, int first, int window, Error *err)
{
    w->first = first;
    if (w->off) return 0;
    if (!w->end &&
        (!(w->end = checked_alloc(of->model.config.max_positions, sizeof *w->end, err)) ||
         !(w->sure = checked_alloc(of->model.config.max_positions, sizeof *w->sure, err))))
        return -1;
    return w->probabilities ? 0 : screen_begin(&w->screen, window, err);
}

int is_shown(const Show *w, int t, int T)
{
    enum { PRINTED = 16, MOVING = 60 /* states, on a terminal */ };
    const int frames = w->frames ? w->frames : w->screen.rows ? MOVING : PRINTED;
    return !w->off && (t % ((T + frames - 1) / frames) == 0 || t == T - 1);
}

/* A line of sentence b; with probabilities every piece of the text is followed by a TAB, how
 * probable its word is in percent, and a TAB. */
static void print_shown(const Show *w, char name, int step, double noise, const Buffer *text, int N)
{
    size_t from = 0;
    fprintf(stderr, "%c %5d", name, step);
    if (w->probabilities) fprintf(stderr, " noise %.2f", noise);
    fprintf(stderr, " | ");
    if (!w->probabilities && !text->failed) fputs(text->text, stderr);
    for (int i = 0; i < N && w->probabilities && !text->failed; i++) {
        if (w->end[i] <= from) continue; /* a word that prints nothing */
        fprintf(stderr, "%.*s\t%.0f\t", (int)(w->end[i] - from), text->text + from,
                100 * w->sure[i]);
        from = w->end[i];
    }
    fputc('\n', stderr);
}

void show_batch(Show *w, const Trained *of, const Workspace *work, const ShownBatch *x)
{
    const double noise = sqrt(1 - of->diffusion.alphas_cumprod[x->t]);
    const int step = of->diffusion.timestep_map[x->t], rows = w->screen.rows;
    const int mask = of->tokenizer.special[TOKEN_MASK];
    int is_seen = 0;
    Buffer head = {0};
    for (int b = 0; b < x->count; b++) {
        const int row = x->number[b] - w->first, at = b * x->N;
        Buffer text = {0};
        if (rows && row >= rows) continue;
        tokenizer_decode_pieces(&of->tokenizer, x->ids + at, x->N, &text, w->end);
        for (int i = at; i < at + x->N && (rows || w->probabilities); i++)
            w->sure[i - at] = x->fixed[i] != mask
                                  ? 1 /* it is given */
                                  : word_probability(&of->model, work, i, x->ids[i], x->has_head);
        if (rows)
            screen_row(&w->screen, row, &text, w->end, w->sure, x->N);
        else
            print_shown(w, x->name, step, noise, &text, x->N);
        is_seen |= rows;
        free(text.text);
    }
    if (!is_seen || stop_signal()) return;
    buffer_print(&head, "%s t %d, noise %.2f %.*s  %d of %d sentences",
                 x->name == 'q' ? "forward," : "back,", step, noise, (int)(20 * noise + 0.5),
                 "####################", x->finished, x->all);
    if (!head.failed) screen_draw(&w->screen, head.text, w->fps);
    free(head.text);
}

void show_free(Show *w)
{
    screen_end(&w->screen, 0);
    free(w->end);
    free(w->sure);
}

int guide_load(Guide *g, const Trained *denoiser, const char *path, const char *label, Error *err)
{
    const Config *c = &g->of.model.config, *of = &denoiser->model.config;
    const Tokenizer *labels = &g->of.tokenizer;
    Buffer names = {0};
    if (trained_load(&g->of, path, &denoiser->model, err) ||
        workspace_init(&g->work, c, 1, SHORTEST, 1, err))
        return -1;
    if (c->emb_dim != of->emb_dim || c->max_positions != of->max_positions || c->emb_norm > 0)
        return fail(err, "%s: not the shape of a classifier for this denoiser", path);
    g->label = tokenizer_find(labels, label);
    if (g->label >= TOKEN_SPECIALS) return 0;
    for (int i = TOKEN_SPECIALS; i < labels->size && names.length < 200; i++)
        buffer_print(&names, "%s'%.40s'", i > TOKEN_SPECIALS ? ", " : "", labels->token[i]);
    fail(err, "--label %.80s: %s knows the labels %s%s", label, path,
         names.failed ? "" : names.text, names.length < 200 ? "" : ", ...");
    free(names.text);
    return -1;
}

void guide_free(Guide *g)
{
    trained_free(&g->of);
    workspace_free(&g->work);
}

void guides_gradient(Guide *guide, int guides, real *dx, real *own, const real *x,
                     const Diffusion *d, int t, double scale, int B, int N)
{
    const size_t n = (size_t)B * N * guide->of.model.config.emb_dim;
    const Dropout none = {0, 0, 0};
    int label[GUIDED];
    double nll[GUIDED];
    real timesteps[GUIDED], weight[GUIDED];
    assert(B <= GUIDED);
    memset(dx, 0, n * sizeof *dx);
    for (Guide *g = guide; g < guide + guides; g++) {
        for (int b = 0; b < B; b++) {
            label[b] = g->label, weight[b] = (real)-scale;
            timesteps[b] = diffusion_timestep(d, t);
        }
        classifier_forward(&g->of.model, &g->work, nll, x, timesteps, label, B, N, none);
        classifier_backward(&g->of.model, &g->work, own, label, weight, B, N, none);
        for (size_t i = 0; i < n; i++) dx[i] += own[i];
    }
}

void nearest_words(const Model *m, const Tokenizer *t, int id, int n, Buffer *out)
{
    const size_t D = m->config.emb_dim;
    const real *of = m->embedding + id * D;
    double last = HUGE_VAL;
    for (int k = 0; k < n; k++) {
        double most = -HUGE_VAL;
        int best = -1;
        for (int v = 0; v < m->config.vocab; v++) {
            double product = 0, squares = 0, of_squares = 0;
            for (size_t i = 0; i < D; i++) {
                const double x = m->embedding[v * D + i];
                product += x * of[i], squares += x * x, of_squares += (double)of[i] * of[i];
            }
            const double cosine_of = product / sqrt(fmax(squares * of_squares, 1e-30));
            if (v != id && !tokenizer_is_special(t, v) && cosine_of < last && cosine_of > most)
                most = cosine_of, best = v;
        }
        if (best < 0) break;
        last = most;
        buffer_print(out, "%6.3f  %s\n", most, t->token[best]);
    }
    hide_controls(out->text);
}

/* What lies beyond limit is drawn again from numbers of its own. */
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

void rng_truncated(real *out, size_t n, double limit, uint64_t key)
{
    Redraw more = {key, 0};
    rng_gaussian(out, n, key);
    if (limit > 0) truncate_noise(out, n, limit, redraw, &more);
}

/* ---- 13. the checkpoint -----------------------------------------------------------------------
 * What: safetensors in and out: 8 bytes of header length, a JSON header, the numbers, little-endian
 * and without gaps; what a run takes from one, and what it must not replace; a model for use. Who:
 * the programs. May be skipped. Who rebuilds the network elsewhere must know the following;
 * test/pytorch.py does it, and ./sample --probe prints numbers to check it by.
 *
 *   - Names and shapes are those of the original's PyTorch state_dict. Those with nothing in front
 *     are the averaged weights, the ones to use. A Linear is y = x W^T + b, W (out,in).
 *   - There is no lm_head.weight: it is word_embedding.weight.
 *   - With emb-norm, word_embedding.weight is stored before its rows are scaled to that norm. All
 *     that reads embeddings reads the scaled ones: x_start, lm_head, the guess.
 *   - With self-conditioning input_up_proj.0 is (C,2D) and reads x_t and the previous guess, at
 *     first zeros.
 *   - t counts all T steps. Those below t-min T are not trained; sampling ends with the first of
 *     the others.
 *   - With neighbours the first quarter (rounded down) of each head's keys and values is that of
 *     the position before, the second that of the position behind; 0 where there is none.
 *   - t is told to the network as t * 1000 / T. Its embedding is all cosines, then all sines, of t
 *     times 10000^(-i / half), i = 0 .. half - 1, and a 0 where time-dim is odd.
 *   - Projection + position + time are added up, and a LayerNorm comes behind each sum, eps 1e-12.
 *     SiLU for the time, Tanh in both projections, GELU by erf in the layers; no attention mask.
 *   - betas are .999 at most; x_start has variance 1 - alphas_cumprod[0] around the embeddings.
 *   - predict says what the output is: `x-start` itself, the noise (`epsilon`), or, with `softmax`,
 *     a point out whose guess is softmax(lm_head(out)) @ embeddings.
 *   - A point becomes the word whose lm_head(x) is largest; special tokens are left out.
 *   - With projections `identity` there is no input_up_proj and no output_down_proj.
 *   - Who writes a file elsewhere leaves the metadata's checksum out: then it is not checked. */

static const char *const predict_names[] = {"x-start", "epsilon", "softmax",
                                            NULL}; /* in the order of Predict */
static const char *const off_on[] = {"off", "on", NULL};
static const char *const projection_names[] = {"learnt", "identity", NULL};
static const char *const format_version = "tdiff 1";

void config_defaults(Config *c)
{
    *c = (Config){.seq_len = 512,
                  .emb_dim = 128,
                  .hidden = 128,
                  .layers = 4,
                  .heads = 4,
                  .ffn = 512,
                  .time_dim = 128,
                  .diffusion_steps = 2000,
                  .predict = PREDICT_SOFTMAX,
                  .self_conditioning = 1,
                  .emb_norm = 4,
                  .t_min = 0.15,
                  .neighbours = 1};
}

void config_options(Option out[CONFIG_OPTIONS], Config *c)
{
    const Option options[CONFIG_OPTIONS] = {
        {"seq-len", OPT_INT, &c->seq_len, .everyday = 1, .min = 3, .max = 4096,
         .help = "positions of a sentence at most, [CLS] and [SEP] included: the rest is cut",
         .result = 1},
        {"max-positions", OPT_INT, &c->max_positions, .min = 3, .max = 65536,
         .help = "rows of position_embeddings", .deflt = "the longest sentence", .result = 1},
        {"emb-dim", OPT_INT, &c->emb_dim, .min = 1, .max = 8192, .help = "embedding dimension D",
         .result = 1},
        {"hidden", OPT_INT, &c->hidden, .everyday = 1, .min = 1, .max = 16384,
         .help = "width of the network, C: wider learns more, and is slower", .result = 1},
        {"layers", OPT_INT, &c->layers, .everyday = 1, .min = 1, .max = 256,
         .help = "layers of the network, L: more learn more, and are slower", .result = 1},
        {"heads", OPT_INT, &c->heads, .min = 1, .max = 256,
         .help = "attention heads H; hidden must be a multiple", .result = 1},
        {"ffn", OPT_INT, &c->ffn, .min = 1, .max = 65536, .help = "feed-forward width F",
         .result = 1},
        {"time-dim", OPT_INT, &c->time_dim, .min = 1, .max = 8192,
         .help = "width of the time embedding", .result = 1},
        {"diffusion-steps", OPT_INT, &c->diffusion_steps, .min = 2, .max = 100000,
         .help = "diffusion steps T", .result = 1},
        {"predict", OPT_CHOICE, &c->predict, .choices = predict_names,
         .help = "what the network's output is", .result = 1},
        {"self-conditioning", OPT_CHOICE, &c->self_conditioning, .choices = off_on,
         .help = "the network reads its last estimate, too", .result = 1},
        {"emb-norm", OPT_REAL, &c->emb_norm, .max = 1000,
         .help = "embeddings are scaled to this norm; 0: they are free", .result = 1},
        {"t-min", OPT_REAL, &c->t_min, .max = 0.9, .before = "0",
         .help = "this share of the diffusion steps, the least noisy, is neither trained nor "
                 "sampled: words can be read there without learning what goes with what",
         .result = 1},
        {"neighbours", OPT_CHOICE, &c->neighbours, .choices = off_on, .before = "off",
         .help = "where attention looks at a position it reads of the two beside it, too",
         .result = 1},
        {"projections", OPT_CHOICE, &c->identity_projections, .choices = projection_names,
         .help = "identity: embeddings are as wide as the network and enter it as they are",
         .result = 1},
        {"noise-schedule", OPT_CHOICE, &c->noise_schedule, .choices = noise_schedule_names,
         .help = "how noise grows with t", .result = 1},
    };
    memcpy(out, options, sizeof options);
}

static void floats_to_bytes(unsigned char *bytes, const real *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float f = (float)x[i];
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        for (int k = 0; k < 4; k++) bytes[4 * i + k] = (unsigned char)(u >> 8 * k);
    }
}

static uint32_t word_at(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

/* The checksum of a checkpoint's tensors is FNV-1a of 64 bits over their bytes, four at a time.
 * Each step is one-to-one, so a single word that differs always shows. */
static const uint64_t checksum_begin = 0xcbf29ce484222325u;
static uint64_t checksum_more(uint64_t sum, const unsigned char *bytes, size_t words)
{
    for (size_t i = 0; i < words; i++) sum = (sum ^ word_at(bytes + 4 * i)) * 0x100000001b3u;
    return sum;
}

static void print_hash(char out[20], uint64_t hash)
{
    snprintf(out, 20, "%08lx%08lx", (unsigned long)(hash >> 32),
             (unsigned long)(hash & 0xffffffff));
}

/* Adds x to the checksum and, with a file, writes it; output_close notices a failure. */
static void put_floats(FILE *f, uint64_t *sum, const real *x, size_t n)
{
    unsigned char bytes[4 * CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t count = n - i < CHUNK ? n - i : CHUNK;
        floats_to_bytes(bytes, x + i, count);
        *sum = checksum_more(*sum, bytes, count);
        if (f) fwrite(bytes, 4, count, f);
    }
}

/* "": the averaged weights, the ones to use */
static const char *const families[] = {"", "raw.", "adam_m.", "adam_v."};

/* The types of a safetensors file, of which the first ones are read. */
enum { F32, F16, BF16, F64, READABLE };
static const struct {
    const char *name;
    int bytes;
} dtypes[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8},     {"I64", 8},
              {"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
              {"U16", 2}, {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

/* The next entry of a header; *offset goes on behind its numbers. */
static void header_entry(Buffer *header, const char *family, const Stored *x, uint64_t *offset)
{
    Buffer name = {0};
    buffer_print(&name, "%s%s", family, x->name);
    buffer_add(header, ",", 1);
    if (name.failed)
        header->failed = 1;
    else
        buffer_json_string(header, name.text, name.length);
    buffer_print(header, ":{\"dtype\":\"%s\",\"shape\":[", dtypes[x->dtype].name);
    for (int i = 0; i < x->rank; i++)
        buffer_print(header, "%s%.0f", i ? "," : "", (double)x->shape[i]);
    buffer_print(header, "],\"data_offsets\":[%.0f,%.0f]}", (double)*offset,
                 (double)(*offset + x->bytes));
    *offset += x->bytes;
    free(name.text);
}

static Stored as_stored(const Tensor *x)
{
    return (Stored){(char *)x->name, F32, x->rank, {x->shape[0], x->shape[1]}, 0, 4 * x->size, 0};
}

/* Closes the header, opens the file and writes it; data: the bytes that are to follow. */
static int begin_file(Output *o, const char *path, Buffer *header, uint64_t data, Error *err)
{
    unsigned char length[8];
    buffer_print(header, "}");
    while (header->length % 8 && !header->failed) buffer_add(header, " ", 1);
    if (header->failed) return fail(err, "%s: out of memory for the header", path);
    if (8 + header->length + data > LONG_MAX)
        return fail(err, "%s: would have %.0f bytes; files can have %ld here", path,
                    8.0 + header->length + data, LONG_MAX);
    if (output_open(o, path, err)) return -1;
    for (int k = 0; k < 8; k++) length[k] = (unsigned char)((uint64_t)header->length >> 8 * k);
    fwrite(length, 1, 8, o->file); /* output_close checks */
    fwrite(header->text, 1, header->length, o->file);
    return 0;
}

/* All tensors, in the header's order; returns their checksum. f NULL: nothing else. */
static uint64_t put_tensors(FILE *f, const Model *m, const Optimizer *o, const Tensor *extra,
                            int extras)
{
    const real *arenas[] = {o->ema, m->params, o->adam_m, o->adam_v};
    uint64_t sum = checksum_begin;
    for (int a = 0; a < 4; a++)
        for (int i = 0; i < m->num_tensors; i++)
            put_floats(f, &sum, arenas[a] + (m->tensors[i].data - m->params), m->tensors[i].size);
    for (int i = 0; i < extras; i++) put_floats(f, &sum, extra[i].data, extra[i].size);
    return sum;
}

/* The name of a tensor that a checkpoint must not have, as a number in it is not finite, or NULL */
static const char *not_finite(const Model *m, const real *arena)
{
    for (int i = 0; i < m->num_tensors; i++)
        if (!all_finite(arena + (m->tensors[i].data - m->params), m->tensors[i].size))
            return m->tensors[i].name;
    return NULL;
}

int checkpoint_save(const char *path, const Model *m, const Optimizer *o, const Tensor *extra,
                    int extras, const Tokenizer *t, const Option *options, int steps_done,
                    Error *err)
{
    const real *arenas[] = {o->ema, m->params, o->adam_m, o->adam_v};
    char checksum[20];
    Buffer header = {0}, value = {0};
    Output out = {0};
    uint64_t offset = 0;
    int status = -1;

    for (int a = 0; a < 4; a++) {
        const char *name = not_finite(m, arenas[a]);
        if (name)
            return fail(err, "%s: not saved: after step %d a number of %s%s is not finite", path,
                        steps_done, families[a], name);
    }
    print_hash(checksum, put_tensors(NULL, m, o, extra, extras));
    buffer_print(&header,
                 "{\"__metadata__\":{\"format\":\"%s\",\"steps-done\":\"%d\",\"checksum\":\"%s\"",
                 format_version, steps_done, checksum);
    for (; options->name; options++) {
        if (!options->result) continue;
        value.length = 0;
        option_print(options, &value);
        buffer_print(&header, ",\"%s\":", options->name);
        buffer_json_string(&header, value.text, value.length);
    }
    value.length = 0;
    tokenizer_to_json(t, &value);
    buffer_print(&header, ",\"tokenizer\":");
    if (value.failed)
        header.failed = 1;
    else
        buffer_json_string(&header, value.text, value.length);
    buffer_print(&header, "}");
    for (int f = 0; f < 4; f++)
        for (int i = 0; i < m->num_tensors; i++) {
            const Stored x = as_stored(&m->tensors[i]);
            header_entry(&header, families[f], &x, &offset);
        }
    for (int i = 0; i < extras; i++) {
        const Stored x = as_stored(&extra[i]);
        header_entry(&header, "", &x, &offset);
    }
    if (!begin_file(&out, path, &header, offset, err)) {
        put_tensors(out.file, m, o, extra, extras);
        status = output_close(&out, 1, err);
    }
    free(header.text);
    free(value.text);
    return status;
}

/* ---- reading */

/* The header's entry of the tensor whose name is node key, checked by itself. */
static int read_entry(const Checkpoint *c, Stored *x, int key, Error *err)
{
    const Json *j = &c->json;
    const int dtype = json_find(j, key + 1, "dtype"), dims = json_find(j, key + 1, "shape");
    const int offsets = json_find(j, key + 1, "data_offsets");
    int64_t from = -1, to = -1;
    size_t length = 0;
    x->name = json_text(j, key, &length);
    if (!x->name || !length || strlen(x->name) != length)
        return fail(err, "%s: header: no name of a tensor at byte %zu", c->path,
                    j->node[key].begin);
    const size_t n = dtype < 0 ? 0 : j->node[dtype].end - j->node[dtype].begin;
    while (x->dtype < DTYPES && (strlen(dtypes[x->dtype].name) != n ||
                                 memcmp(dtypes[x->dtype].name, j->text + j->node[dtype].begin, n)))
        x->dtype++;
    if (x->dtype == DTYPES)
        return fail(err, "%s: tensor '%.80s': no dtype that is known", c->path, x->name);
    if (dims < 0 || j->node[dims].type != JSON_ARRAY || j->node[dims].size > STORED_RANK)
        return fail(err, "%s: tensor '%.80s': no shape of up to %d numbers", c->path, x->name,
                    STORED_RANK);
    x->rank = j->node[dims].size, x->bytes = (uint64_t)dtypes[x->dtype].bytes;
    for (int i = 0; i < STORED_RANK; i++) {
        x->shape[i] = 1;
        if (i < x->rank && (json_integer(j, dims + 1 + i, &x->shape[i]) || x->shape[i] < 0))
            return fail(err, "%s: tensor '%.80s': bad shape", c->path, x->name);
        if (x->shape[i] && x->bytes > INT64_MAX / (uint64_t)x->shape[i])
            return fail(err, "%s: tensor '%.80s': too large", c->path, x->name);
        x->bytes *= (uint64_t)x->shape[i];
    }
    if (offsets < 0 || j->node[offsets].type != JSON_ARRAY || j->node[offsets].size != 2 ||
        json_integer(j, offsets + 1, &from) || json_integer(j, offsets + 2, &to) || from < 0 ||
        to < from || (uint64_t)to > c->data_size)
        return fail(err,
                    "%s: tensor '%.80s': data_offsets are not in the file, which has %.0f bytes",
                    c->path, x->name, (double)c->data_size);
    if ((uint64_t)(to - from) != x->bytes)
        return fail(err, "%s: tensor '%.80s': its shape needs %.0f bytes, data_offsets give %.0f",
                    c->path, x->name, (double)x->bytes, (double)(to - from));
    x->begin = (uint64_t)from;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Stored *)a)->name, ((const Stored *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const Stored *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* No name occurs twice, and the tensors lie one behind the other: none shares a byte with another,
 * and none is left over. */
static int check_places(Checkpoint *c, Error *err)
{
    uint64_t end = 0;
    qsort(c->stored, (size_t)c->count, sizeof *c->stored, by_name);
    for (int i = 1; i < c->count; i++)
        if (!strcmp(c->stored[i - 1].name, c->stored[i].name))
            return fail(err, "%s: two tensors '%.80s'", c->path, c->stored[i].name);
    qsort(c->stored, (size_t)c->count, sizeof *c->stored, by_place);
    for (int i = 0; i < c->count; i++) {
        const Stored *x = &c->stored[i];
        if (x->begin != end)
            return fail(err, "%s: tensor '%.80s' begins at byte %.0f, where %.0f was expected: %s",
                        c->path, x->name, (double)x->begin, (double)end,
                        x->begin < end ? "it overlaps another" : "a hole before it");
        end += x->bytes;
    }
    return end == c->data_size
               ? 0
               : fail(err, "%s: the tensors need %.0f bytes, the file has %.0f for them", c->path,
                      (double)end, (double)c->data_size);
}

static int read_header(Checkpoint *c, size_t length, Error *err)
{
    Error inner;
    if (!(c->header = checked_alloc(length, 1, err))) return -1;
    if (fread(c->header, 1, length, c->file) != length)
        return fail(err, "%s: cannot read the header", c->path);
    if (c->header[0] != '{') return fail(err, "%s: header: does not begin with {", c->path);
    if (json_parse(&c->json, c->header, length, &inner))
        return fail(err, "%s: header: %.400s", c->path, inner.text);
    const Json *j = &c->json;
    if (!(c->stored = checked_alloc((size_t)j->node[0].size, sizeof *c->stored, err))) return -1;
    for (int key = 1; key < j->count; key = j->node[key + 1].next) {
        const JsonNode *k = &j->node[key];
        if (k->end - k->begin == 12 && !memcmp(c->header + k->begin, "__metadata__", 12)) {
            for (int i = key + 2; i < j->node[key + 1].next; i++)
                if (j->node[i].type != JSON_STRING)
                    return fail(err, "%s: metadata: not all values are strings", c->path);
        } else if (read_entry(c, &c->stored[c->count++], key, err))
            return -1;
    }
    return check_places(c, err);
}

/* Tensors have other names in the files of BERT (Hugging Face), and there may be something in front
 * of them all: "model.", "bert.". */
static const struct {
    const char *ours, *theirs;
} names[] = {{"", ""},
             {"word_embedding.", "embeddings.word_embeddings."},
             {"position_embeddings.", "embeddings.position_embeddings."},
             {"input_transformers.", "encoder."}};

/* What is in front of the word embeddings: the shortest, as "raw." comes in front, too. */
static void find_front(Checkpoint *c)
{
    size_t shortest = sizeof c->front;
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < 2; k++) {
            const char *name = c->stored[i].name, *table = k ? names[1].theirs : names[1].ours;
            const char *at = strstr(name, table);
            const size_t n = at ? (size_t)(at - name) : shortest;
            if (n >= shortest || strcmp(at + strlen(table), "weight") || (n && at[-1] != '.'))
                continue;
            shortest = n;
            memcpy(c->front, name, n);
            c->front[n] = '\0';
        }
}

static Stored *stored_as(const Checkpoint *c, const char *name)
{
    for (int i = 0; i < c->count; i++)
        if (!strcmp(c->stored[i].name, name)) return &c->stored[i];
    return NULL;
}

/* A tensor under any of its names, or NULL */
static Stored *find_stored(const Checkpoint *c, const char *family, const char *name)
{
    Stored *x = NULL;
    for (size_t k = 0; k < sizeof names / sizeof *names && !x; k++) {
        char full[256], *old;
        const size_t n = strlen(names[k].ours);
        if (strncmp(name, names[k].ours, n)) continue;
        snprintf(full, sizeof full, "%s%s%s%s", family, c->front, names[k].theirs, name + n);
        if ((x = stored_as(c, full)) || !(old = strstr(full, "LayerNorm."))) continue;
        old += strlen("LayerNorm."); /* older files */
        strcpy(old, strcmp(old, "weight") ? "beta" : "gamma");
        x = stored_as(c, full);
    }
    return x;
}

int checkpoint_is_bert(const Checkpoint *c)
{
    const Stored *words = find_stored(c, "", "word_embedding.weight");
    return words && strstr(words->name, names[1].theirs);
}

/* Are the tensors those that were written? A checkpoint of an earlier version does not say. */
static int verify_checksum(Checkpoint *c, Error *err)
{
    const int metadata = json_find(&c->json, 0, "__metadata__");
    unsigned char bytes[4 * CHUNK];
    uint64_t sum = checksum_begin;
    char found[20];
    if (json_find(&c->json, metadata, "checksum") < 0) return 0;
    char *expected = checkpoint_metadata(c, "checksum", err);
    if (!expected) return -1;
    for (uint64_t left = c->data_size / 4, n; left; left -= n) {
        n = fread(bytes, 4, left < CHUNK ? (size_t)left : CHUNK, c->file);
        if (!n) break;
        sum = checksum_more(sum, bytes, (size_t)n);
    }
    print_hash(found, sum);
    int status = ferror(c->file) ? fail(err, "%s: cannot read: %s", c->path, strerror(errno)) : 0;
    if (!status && strcmp(found, expected))
        status = fail(err, "%s: is damaged: its tensors have the checksum %s, expected %.20s",
                      c->path, found, expected);
    free(expected);
    return status;
}

int checkpoint_open(Checkpoint *c, const char *path, Error *err)
{
    unsigned char bytes[8];
    uint64_t length = 0;
    int64_t size;
    memset(c, 0, sizeof *c);
    if (strlen(path) >= sizeof c->path) return fail(err, "%.40s...: the path is too long", path);
    strcpy(c->path, path);
    if (!(c->file = fopen(path, "rb")))
        return fail(err, "%s: cannot open: %s; ./train makes a checkpoint", path, strerror(errno));
    if (fread(bytes, 1, 8, c->file) != 8 && ferror(c->file))
        return fail(err, "%s: cannot read: %s", path, strerror(errno));
    if (file_seek(c->file, 0, SEEK_END) || (size = file_tell(c->file)) < 0 ||
        file_seek(c->file, 8, SEEK_SET))
        return fail(err,
                    "%s: cannot find its size: %s; expected a file, not a pipe, as tensors are "
                    "read in another order than they lie in",
                    path, strerror(errno));
    const FileKind kind = file_kind(path);
    if (kind != FILE_CHECKPOINT)
        return fail(err, "%s: not a checkpoint of ./train but %s", path, file_kind_names[kind]);
    for (int k = 7; k >= 0; k--) length = length << 8 | bytes[k];
    if (length < 2 || length > (uint64_t)size - 8)
        return fail(
            err, "%s: not a whole checkpoint: the header should have %.0f bytes, the file has %.0f",
            path, (double)length, (double)size);
    c->data = 8 + length, c->data_size = (uint64_t)size - c->data;
    if (read_header(c, (size_t)length, err)) return -1;
    find_front(c);
    return verify_checksum(c, err);
}

void checkpoint_close(Checkpoint *c)
{
    if (c->file) fclose(c->file);
    for (int i = 0; i < c->count; i++) free(c->stored[i].name);
    free(c->stored);
    free(c->header);
    json_free(&c->json);
    memset(c, 0, sizeof *c);
}

int checkpoint_is_ours(const Checkpoint *c)
{
    return json_find(&c->json, json_find(&c->json, 0, "__metadata__"), "format") >= 0;
}

char *checkpoint_metadata(const Checkpoint *c, const char *key, Error *err)
{
    int metadata = json_find(&c->json, 0, "__metadata__"),
        node = metadata < 0 ? -1 : json_find(&c->json, metadata, key);
    size_t length;
    char *text = node < 0 ? NULL : json_text(&c->json, node, &length);
    if (text && strlen(text) == length) return text;
    free(text);
    fail(err, "%s: metadata: no text '%s'; is this a checkpoint of ./train?", c->path, key);
    return NULL;
}

/* An option that a checkpoint does not know yet has its value of before it, or its default. */
int checkpoint_option(const Checkpoint *c, Option *o, Error *err)
{
    Error inner;
    const int metadata = json_find(&c->json, 0, "__metadata__");
    if (metadata >= 0 && json_find(&c->json, metadata, o->name) < 0)
        return o->before ? option_set(o, o->before, err) : 0;
    char *text = checkpoint_metadata(c, o->name, err);
    if (!text) return -1;
    int status = option_set(o, text, &inner);
    if (status) fail(err, "%s: metadata: %.400s", c->path, inner.text);
    free(text);
    return status;
}

int checkpoint_config(const Checkpoint *c, Config *config, Tokenizer *t, int *steps_done,
                      Error *err)
{
    Option options[CONFIG_OPTIONS];
    Option steps = {"steps-done", OPT_INT, steps_done, .max = INT32_MAX};
    Error inner;
    char *text = checkpoint_metadata(c, "format", err);
    memset(t, 0, sizeof *t);
    if (!text) return -1;
    if (strcmp(text, format_version)) {
        fail(err, "%s: metadata: format is '%.40s', expected '%s'", c->path, text, format_version);
        free(text);
        return -1;
    }
    free(text);
    config_defaults(config);
    config_options(options, config);
    for (int i = 0; i < CONFIG_OPTIONS; i++)
        if (checkpoint_option(c, &options[i], err)) return -1;
    *steps_done = 0;
    if (checkpoint_option(c, &steps, err) || !(text = checkpoint_metadata(c, "tokenizer", err)))
        return -1;
    int status = tokenizer_from_json(t, text, strlen(text), &inner);
    if (status) fail(err, "%s: metadata: tokenizer: %.400s", c->path, inner.text);
    free(text);
    config->vocab = t->size;
    if (!status && config_check(config, &inner))
        status = fail(err, "%s: metadata: %.400s", c->path, inner.text);
    return status;
}

/* "num_attention_heads" of the config.json in the folder of the file, 0 if there is none */
static int heads_beside(const Checkpoint *c)
{
    Buffer path = {0};
    const char *slash = strrchr(c->path, '/');
    Error none;
    Json j = {0};
    size_t n;
    int64_t heads = 0;
    buffer_add(&path, c->path, slash ? (size_t)(slash + 1 - c->path) : 0);
    buffer_print(&path, "config.json");
    char *text = path.failed ? NULL : read_file(path.text, &n, &none);
    if (text && !json_parse(&j, text, n, &none))
        json_integer(&j, json_find(&j, 0, "num_attention_heads"), &heads);
    json_free(&j);
    free(text);
    free(path.text);
    return heads > 0 && heads < INT_MAX ? (int)heads : 0;
}

int checkpoint_shapes(const Checkpoint *c, Config *config, Error *err)
{
    const struct {
        const char *tensor;
        int dimension, *size;
    } sizes[] = {{"word_embedding.weight", 0, &config->vocab},
                 {"word_embedding.weight", 1, &config->emb_dim},
                 {"position_embeddings.weight", 0, &config->max_positions},
                 {"position_embeddings.weight", 1, &config->hidden},
                 {"input_transformers.layer.0.intermediate.dense.weight", 0, &config->ffn},
                 {"time_embed.0.weight", 1, &config->time_dim}};
    const Stored *x;
    char layer[80] = "input_transformers.layer.0.output.dense.weight";
    Option options[CONFIG_OPTIONS];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (!(x = find_stored(c, "", sizes[i].tensor))) continue;
        if (x->rank != 2 || x->shape[sizes[i].dimension] > INT_MAX)
            return fail(err, "%s: tensor '%.80s' has the shape of something else", c->path,
                        x->name);
        *sizes[i].size = (int)x->shape[sizes[i].dimension];
    }
    for (config->layers = 0; find_stored(c, "", layer);)
        sprintf(layer, "input_transformers.layer.%d.output.dense.weight", ++config->layers);
    x = find_stored(c, "", "input_up_proj.0.weight");
    config->self_conditioning = x && x->shape[1] == 2 * (int64_t)config->emb_dim;
    config->heads = heads_beside(c);
    config_options(options, config);
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const Option *o = &options[i];
        const int *number = o->value;
        if (o->kind == OPT_INT && number != &config->heads &&
            (*number < o->min || *number > o->max))
            return fail(err, "%s: by its tensors %s is %d, expected %.0f to %.0f", c->path, o->name,
                        *number, o->min, o->max);
    }
    return 0;
}

void denoiser_fingerprint(const Model *m, char out[20])
{
    const Config *c = &m->config;
    uint64_t hash = rng_key(c->noise_schedule, RNG_SHUFFLE, c->diffusion_steps, c->max_positions);
    for (size_t i = 0; i < m->word_embedding->size; i++) {
        float f = (float)m->embedding[i];
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        hash = rng_key(hash, RNG_SHUFFLE, i, u);
    }
    print_hash(out, hash);
}

int checkpoint_is(const Checkpoint *c, const Model *denoiser, Error *err)
{
    Error none;
    char expected[20] = "", *of = checkpoint_metadata(c, "denoiser-is", &none);
    const int classifier = of && *of;
    int status = 0;
    if (denoiser) denoiser_fingerprint(denoiser, expected);
    if (denoiser && !classifier)
        status = fail(err, "%s: not a classifier; ./train --classifier makes one", c->path);
    else if (denoiser && strcmp(of, expected))
        status = fail(err, "%s: the classifier of another denoiser than this one", c->path);
    else if (!denoiser && classifier)
        status = fail(err, "%s: a classifier, not a denoiser; it is for --guide", c->path);
    free(of);
    return status;
}

int checkpoint_has(const Checkpoint *c, const char *tensor)
{
    return find_stored(c, "", tensor) != NULL;
}

/* Number k of those of a type that is read */
static double number_at(const unsigned char *bytes, int dtype, size_t k)
{
    const int size = dtypes[dtype].bytes;
    uint64_t bits = 0;
    uint32_t u;
    float f;
    double d;
    for (int i = size - 1; i >= 0; i--) bits = bits << 8 | bytes[k * size + i];
    if (dtype == F64) return memcpy(&d, &bits, sizeof d), d;
    if (dtype == F16) { /* 1 sign, 5 bits of exponent, 10 of the fraction */
        const int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
        d = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        if (exponent == 31) d = HUGE_VAL;
        return bits >> 15 ? -d : d;
    }
    u = (uint32_t)(dtype == BF16 ? bits << 16 : bits);
    memcpy(&f, &u, sizeof f);
    return f;
}

/* All numbers of a tensor into out */
static int read_stored(Checkpoint *c, const Stored *x, real *out, Error *err)
{
    unsigned char bytes[8 * CHUNK];
    const size_t size = dtypes[x->dtype].bytes, n = (size_t)x->bytes / size;
    if (file_seek(c->file, c->data + x->begin, SEEK_SET))
        return fail(err, "%s: cannot read '%s'", c->path, x->name);
    for (size_t k = 0; k < n; k += CHUNK) {
        const size_t count = n - k < CHUNK ? n - k : CHUNK;
        if (fread(bytes, size, count, c->file) != count)
            return fail(err, "%s: ends within '%s'", c->path, x->name);
        for (size_t i = 0; i < count; i++) {
            out[k + i] = (real)number_at(bytes, x->dtype, i);
            if (!(out[k + i] - out[k + i] == 0))
                return fail(err, "%s: tensor '%s' holds a number that is not finite", c->path,
                            x->name);
        }
    }
    return 0;
}

/* What is wrong with what the file has for a tensor, behind "; ", or nothing. fewer: the file may
 * have fewer rows. */
static void add_fault(Buffer *faults, const Tensor *x, const Stored *stored, const char *family,
                      int fewer)
{
    if (!stored) {
        buffer_print(faults, "; no tensor '%s%s'", family, x->name);
        return;
    }
    const int64_t rows = stored->shape[0];
    if (stored->dtype >= READABLE)
        buffer_print(faults, "; tensor '%.80s' is %s, expected F32 (or F16, BF16, F64)",
                     stored->name, dtypes[stored->dtype].name);
    else if (stored->rank != x->rank || stored->shape[1] != x->shape[1] ||
             (fewer ? rows > x->shape[0] : rows != x->shape[0])) {
        buffer_print(faults, "; tensor '%.80s' has shape [", stored->name);
        for (int i = 0; i < stored->rank; i++)
            buffer_print(faults, "%s%.0f", i ? "," : "", (double)stored->shape[i]);
        buffer_print(faults, x->rank == 2 ? "], expected [%d,%d]" : "], expected [%d]", x->shape[0],
                     x->shape[1]);
    }
}

/* -1 if there are faults: as many as the message has room for */
static int tell_faults(const Checkpoint *c, Buffer *faults, Error *err)
{
    const int any = faults->length > 0 || faults->failed;
    if (any)
        fail(err, "%s: %.380s%s", c->path, faults->failed ? "out of memory" : faults->text + 2,
             faults->length > 380 ? " ..." : "");
    free(faults->text);
    return any ? -1 : 0;
}

int checkpoint_tensor(Checkpoint *c, const Tensor *x, const char *family, real *out, Error *err)
{
    const Stored *stored = find_stored(c, family, x->name);
    Buffer faults = {0};
    add_fault(&faults, x, stored, family, 0);
    return tell_faults(c, &faults, err) ? -1 : read_stored(c, stored, out, err);
}

int checkpoint_part(Checkpoint *c, const Model *m, const char *family, const char *part, int fewer,
                    real *data, Error *err)
{
    Buffer faults = {0};
    for (int all_fit = 0; all_fit < 2; all_fit++) { /* nothing is read unless all is right */
        for (int i = 0; i < m->num_tensors; i++) {
            const Tensor *x = &m->tensors[i];
            Stored *stored = find_stored(c, family, x->name);
            const int table =
                x == m->word_embedding || x == m->lm_head_bias || x == m->position_embeddings;
            if (strncmp(x->name, part, strlen(part))) continue;
            if (!all_fit)
                add_fault(&faults, x, stored, family, fewer && table);
            else if (read_stored(c, stored, data + (x->data - m->params), err))
                return -1;
            if (stored) stored->wanted = 1;
        }
        if (!all_fit && tell_faults(c, &faults, err)) return -1;
    }
    return 0;
}

/* The bytes of two tensors are the same. */
static int same_bytes(Checkpoint *c, const Stored *x, const Stored *y)
{
    unsigned char a[CHUNK], b[CHUNK];
    if (x->dtype != y->dtype || x->bytes != y->bytes) return 0;
    for (uint64_t at = 0; at < x->bytes; at += CHUNK) {
        const size_t n = x->bytes - at < CHUNK ? (size_t)(x->bytes - at) : CHUNK;
        if (file_seek(c->file, c->data + x->begin + at, SEEK_SET) || fread(a, 1, n, c->file) != n ||
            file_seek(c->file, c->data + y->begin + at, SEEK_SET) || fread(b, 1, n, c->file) != n ||
            memcmp(a, b, n))
            return 0;
    }
    return 1;
}

/* Only --resume needs it. */
static int is_training_state(const Stored *x)
{
    int is = !strcmp(x->name, "loss_history");
    for (int f = 1; f < 4; f++) is |= !strncmp(x->name, families[f], strlen(families[f]));
    return is;
}

/* The bytes of what is wanted, to a file if there is one; *sum: their checksum. */
static int copy_wanted(Checkpoint *c, FILE *out, uint64_t *sum, Error *err)
{
    unsigned char bytes[4 * CHUNK];
    *sum = checksum_begin;
    for (int i = 0; i < c->count; i++) {
        const Stored *x = &c->stored[i];
        if (!x->wanted) continue;
        if (file_seek(c->file, c->data + x->begin, SEEK_SET))
            return fail(err, "%s: cannot read '%s'", c->path, x->name);
        for (uint64_t at = 0, n; at < x->bytes; at += n) {
            n = x->bytes - at < sizeof bytes ? x->bytes - at : sizeof bytes;
            if (fread(bytes, 1, (size_t)n, c->file) != n)
                return fail(err, "%s: cannot read '%s'", c->path, x->name);
            *sum = checksum_more(*sum, bytes, (size_t)n / 4);
            if (out) fwrite(bytes, 1, (size_t)n, out);
        }
    }
    return 0;
}

static int export_to(Checkpoint *c, const char *path, Error *err)
{
    const Json *j = &c->json;
    const int metadata = json_find(j, 0, "__metadata__"), old = json_find(j, metadata, "checksum");
    char checksum[20];
    Buffer header = {0};
    Output out = {0};
    Error other;
    uint64_t offset = 0, sum;
    if (!checkpoint_is_ours(c)) return fail(err, "%s: not a checkpoint of ./train", c->path);
    for (int i = 0; i < c->count; i++) c->stored[i].wanted = !is_training_state(&c->stored[i]);
    if (copy_wanted(c, NULL, &sum, err)) return -1;
    print_hash(checksum, sum);
    buffer_print(&header, "{\"__metadata__\":{\"checksum\":\"%s\"", checksum);
    for (int key = metadata + 1; key < j->node[metadata].next; key += 2)
        if (key + 1 != old) {
            buffer_add(&header, ",\"", 2);
            buffer_add(&header, j->text + j->node[key].begin,
                       j->node[key + 1].end + 1 - j->node[key].begin);
        }
    buffer_print(&header, "}");
    for (int i = 0; i < c->count; i++)
        if (c->stored[i].wanted) header_entry(&header, "", &c->stored[i], &offset);
    int status = begin_file(&out, path, &header, offset, err);
    if (!status) status = copy_wanted(c, out.file, &sum, err);
    if (output_close(&out, !status, status ? &other : err)) status = -1;
    free(header.text);
    return status;
}

int checkpoint_export(const char *from, const char *to, Error *err)
{
    Checkpoint c;
    int status = checkpoint_open(&c, from, err);
    if (!status && file_kind(to) != FILE_NEW)
        status = fail(err, "%s: is there already; --export needs another name", to);
    if (!status) status = export_to(&c, to, err);
    checkpoint_close(&c);
    return status;
}

void checkpoint_beside(const char *path, const char *ending, Buffer *name)
{
    static const char suffix[] = ".safetensors";
    const size_t n = strlen(path), k = sizeof suffix - 1;
    buffer_add(name, path, n > k && !strcmp(path + n - k, suffix) ? n - k : n);
    buffer_print(name, "%s", ending);
}

/* What the last line of the log beside the checkpoint says of the losses */
static void describe_log(const Checkpoint *c, Buffer *out)
{
    static const char *const keys[] = {"step",     "loss",        "mse",
                                       "head_nll", "decoder_nll", "val_loss"};
    Buffer name = {0};
    Error none;
    Json j = {0};
    size_t n = 0;
    checkpoint_beside(c->path, ".jsonl", &name);
    char *text = name.failed ? NULL : read_file(name.text, &n, &none);
    while (n && text[n - 1] == '\n') n--;
    size_t begin = n;
    while (begin && text[begin - 1] != '\n') begin--;
    if (n && !json_parse(&j, text + begin, n - begin, &none)) {
        buffer_print(out, "  %-18s", "end of its log");
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            const int node = json_find(&j, 0, keys[k]);
            if (node < 0) continue;
            buffer_print(out, " %s ", keys[k]);
            buffer_add(out, j.text + j.node[node].begin, j.node[node].end - j.node[node].begin);
        }
        buffer_add(out, "\n", 1);
    }
    json_free(&j);
    free(text);
    free(name.text);
}

void checkpoint_describe(const Checkpoint *c, Buffer *out)
{
    const Json *j = &c->json;
    const int metadata = json_find(j, 0, "__metadata__"), ours = checkpoint_is_ours(c);
    const Stored *words = find_stored(c, "", "word_embedding.weight");
    double numbers = 0;
    int state = 0;
    for (int i = 0; i < c->count; i++) {
        state |= is_training_state(&c->stored[i]);
        if (!is_training_state(&c->stored[i]))
            numbers += (double)(c->stored[i].bytes / (uint64_t)dtypes[c->stored[i].dtype].bytes);
    }
    buffer_print(out, "%s: %.2f MB, %.2f million weights", c->path,
                 (double)(c->data + c->data_size) * 1e-6, numbers * 1e-6);
    buffer_print(out,
                 !ours   ? " in %d tensors; not of ./train\n"
                 : state ? " to sample with and a training state\n"
                         : " to sample with, no training state\n",
                 c->count);
    for (int key = metadata + 1; metadata >= 0 && key < j->node[metadata].next; key += 2) {
        const JsonNode *k = &j->node[key], *value = k + 1;
        if (value->begin == value->end || json_find(j, metadata, "tokenizer") == key + 1) continue;
        /* as they are written, so that escapes stay escapes */
        buffer_print(out, "  %-18.*s ", (int)(k->end - k->begin), j->text + k->begin);
        buffer_add(out, j->text + value->begin, value->end - value->begin);
        buffer_add(out, "\n", 1);
    }
    if (words) buffer_print(out, "  %-18s %.0f\n", "vocabulary", (double)words->shape[0]);
    if (ours) describe_log(c, out);
    for (int i = 0; i < c->count && !ours; i++) {
        const Stored *x = &c->stored[i];
        buffer_add(out, "  ", 2);
        buffer_json_string(out, x->name, strlen(x->name));
        buffer_print(out, " %s [", dtypes[x->dtype].name);
        for (int d = 0; d < x->rank; d++)
            buffer_print(out, "%s%.0f", d ? "," : "", (double)x->shape[d]);
        buffer_print(out, "]\n");
    }
}

int checkpoint_rest(Checkpoint *c, Error *err)
{
    const Stored *words = find_stored(c, "", "word_embedding.weight");
    Stored *head = find_stored(c, "", "lm_head.weight");
    Buffer faults = {0};
    if (head && words && !same_bytes(c, head, words))
        return fail(err, "%s: tensor '%.80s' is not '%.80s', to which it is tied here", c->path,
                    head->name, words->name);
    if (head) head->wanted = 1;
    for (int i = 0; i < c->count; i++)
        if (!c->stored[i].wanted && c->stored[i].dtype < READABLE)
            buffer_print(&faults, "; tensor '%.80s' has no place in this network",
                         c->stored[i].name);
    return tell_faults(c, &faults, err);
}

int checkpoint_tensors(Checkpoint *c, const Model *m, const char *family, real *data, Error *err)
{
    return checkpoint_part(c, m, family, "", 0, data, err);
}

void corpus_fingerprint(const Corpus *c, const int *label, char out[20])
{
    uint64_t hash = (uint64_t)c->rows;
    for (size_t i = 0; i < c->start[c->rows]; i++)
        hash = rng_key(hash, RNG_SHUFFLE, i, (uint64_t)c->ids[i]);
    for (int i = 0; i < c->rows && label; i++)
        hash = rng_key(hash, RNG_SHUFFLE, i, (uint64_t)label[i]);
    print_hash(out, hash);
}

void config_take(Option table[CONFIG_OPTIONS], Config *from)
{
    Option of[CONFIG_OPTIONS];
    config_options(of, from);
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        if (table[i].given) continue;
        if (of[i].kind == OPT_REAL)
            *(double *)table[i].value = *(double *)of[i].value;
        else
            *(int *)table[i].value = *(int *)of[i].value;
    }
}

int checkpoint_weights(Checkpoint *c, Model *m, int layers, int embeddings, Error *err)
{
    Config shapes = m->config;
    const int is_bert = checkpoint_is_bert(c);
    if (checkpoint_is_ours(c)) return checkpoint_part(c, m, "", "", 1, m->params, err);
    if (checkpoint_shapes(c, &shapes, err)) return -1;
    if (shapes.vocab != m->config.vocab && (embeddings || !is_bert))
        return fail(err,
                    "%s: has %d words, the vocabulary %d; expected the --tokenizer that it was "
                    "trained with",
                    c->path, shapes.vocab, m->config.vocab);
    if (!is_bert)
        return checkpoint_tensors(c, m, "", m->params, err) || checkpoint_rest(c, err) ? -1 : 0;
    if (layers && checkpoint_part(c, m, "", "input_transformers.", 0, m->params, err)) return -1;
    return embeddings && (checkpoint_part(c, m, "", "word_embedding.", 0, m->params, err) ||
                          checkpoint_part(c, m, "", "position_embeddings.", 0, m->params, err))
               ? -1
               : 0;
}

int checkpoint_state(Checkpoint *c, const Model *m, Optimizer *o, Error *err)
{
    if (checkpoint_tensors(c, m, "", o->ema, err) ||
        checkpoint_tensors(c, m, "adam_m.", o->adam_m, err) ||
        checkpoint_tensors(c, m, "adam_v.", o->adam_v, err))
        return -1;
    for (size_t i = 0; i < m->num_params; i++)
        if (o->adam_v[i] < 0)
            return fail(err, "%s: adam_v, a mean of squares, has a negative number", c->path);
    return 0;
}

/* A run takes nothing away: no other run's checkpoint or log, and nothing else. */
static int spares_what_is_there(const char *path, const char *log, const char *resume,
                                int overwrite, Error *err)
{
    const FileKind kind = file_kind(path), log_kind = file_kind(log);
    int done = 0, steps = 0;
    Option metadata[] = {{"steps-done", OPT_INT, &done, .max = INT32_MAX},
                         {"steps", OPT_INT, &steps, .max = INT32_MAX}};
    char date[20];
    Checkpoint c;
    Error inner;
    if (kind != FILE_NEW && kind != FILE_CHECKPOINT)
        return fail(err, "%s: is there already and is %s; --out must name another", path,
                    file_kind_names[kind]);
    if (log_kind != FILE_NEW && log_kind != FILE_LOG)
        return fail(err,
                    "%s: is %s, and the log of this run would replace it; --out must name "
                    "another",
                    log, file_kind_names[log_kind]);
    if (overwrite || (resume && same_file(resume, path))) return 0;
    if (kind == FILE_CHECKPOINT) {
        const char *advice = resume ? "--out names another"
                                    : "--resume FILE goes on with it, --overwrite begins anew, "
                                      "--out names another";
        const int damaged = checkpoint_open(&c, path, &inner) ||
                            checkpoint_option(&c, &metadata[0], &inner) ||
                            checkpoint_option(&c, &metadata[1], &inner);
        checkpoint_close(&c);
        file_date(path, date);
        return damaged ? fail(err, "%.300s; it is there already: %s", inner.text, advice)
                       : fail(err, "%s: is there already: step %d of %d, %s; %s", path, done, steps,
                              date, advice);
    }
    if (log_kind == FILE_LOG)
        return fail(err, "%s: is the log of another run; %s--out names another", log,
                    resume ? "" : "--overwrite begins anew, ");
    return 0;
}

int checkpoint_claim(Log *l, const char *path, const char *log, const char *resume, int overwrite,
                     int begin, Error *err)
{
    Output trial;
    if (l->file) return 0;
    if (spares_what_is_there(path, log, resume, overwrite, err) || output_open(&trial, path, err))
        return -1;
    const int device = !*trial.temporary, new_log = file_kind(log) == FILE_NEW;
    if (output_close(&trial, 0, err)) return -1;
    if (device || (new_log && !begin)) return 0;
    return log_open(l, log, new_log, err);
}

int checkpoint_kept_name(const char *path, int step, Buffer *name, Error *err)
{
    char ending[40];
    snprintf(ending, sizeof ending, "-%d.safetensors", step);
    checkpoint_beside(path, ending, name);
    return name->failed ? fail(err, "out of memory") : 0;
}

int checkpoint_kept_spare(const char *path, int step, const char *resume, int overwrite,
                          const char *const *inputs, int count, Error *err)
{
    const int may_replace = overwrite || (resume && same_file(resume, path));
    Buffer name = {0};
    int status = checkpoint_kept_name(path, step, &name, err);
    if (!status) status = output_spares(name.text, inputs, count, err);
    const FileKind kind = status ? FILE_NEW : file_kind(name.text);
    if (kind != FILE_NEW && !(kind == FILE_CHECKPOINT && may_replace))
        status = fail(err,
                      "%s: is there already and is %s; --keep-every would replace it, --out "
                      "names another%s",
                      name.text, file_kind_names[kind],
                      kind == FILE_CHECKPOINT && !resume ? ", --overwrite begins anew" : "");
    free(name.text);
    return status;
}

/* What the checkpoint says of key, in the first of texts that is free; NULL: nothing. */
static const char *remember(const Checkpoint *c, const char *key, char **texts)
{
    Error none;
    char *text = checkpoint_metadata(c, key, &none);
    while (*texts) texts++;
    if (text && *text) return *texts = text;
    free(text);
    return NULL;
}

int checkpoint_options(const Checkpoint *c, Option *table, const void *may_differ, char **texts,
                       Error *err)
{
    for (Option *o = table; o->name; o++) {
        Buffer given = {0}, saved = {0};
        if (!o->result) continue;
        if (o->kind == OPT_TEXT) {
            if (!o->given) *(const char **)o->value = remember(c, o->name, texts);
            continue;
        }
        option_print(o, &given);
        int status = checkpoint_option(c, o, err);
        option_print(o, &saved);
        if (!status && o->given && o->value != may_differ && !given.failed && !saved.failed &&
            strcmp(given.text, saved.text))
            status = fail(err,
                          "--%s %s: %s was trained with %s; --init %s begins a new run with "
                          "its weights",
                          o->name, given.text, c->path, saved.text, c->path);
        free(given.text);
        free(saved.text);
        if (status) return -1;
    }
    return 0;
}

/* The lengths of the sentences of the training text, if the checkpoint has them */
static int load_lengths(Trained *r, Checkpoint *c, Error *err)
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

int trained_load(Trained *r, const char *path, const Model *denoiser, Error *err)
{
    Checkpoint c;
    Config config = {0};
    Error none;
    int status = -1;
    memset(r, 0, sizeof *r);
    if (!checkpoint_open(&c, path, err) && !checkpoint_is(&c, denoiser, err) &&
        !checkpoint_config(&c, &config, &r->tokenizer, &r->steps_done, err) &&
        !model_init(&r->model, &config, err) &&
        !checkpoint_tensors(&c, &r->model, "", r->model.params, err) && !load_lengths(r, &c, err) &&
        !diffusion_from_noise(&r->diffusion, &config, NULL, err)) {
        embedding_table_forward(&r->model);
        r->text = checkpoint_metadata(&c, "text", &none);
        status = 0;
    }
    checkpoint_close(&c);
    return status;
}

void trained_free(Trained *r)
{
    tokenizer_free(&r->tokenizer);
    model_free(&r->model);
    diffusion_free(&r->diffusion);
    free(r->length_count);
    free(r->text);
}

/* ---- 14. a training run -----------------------------------------------------------------------
 * What: the batches of a run and what is drawn for them, the loss of a batch and of the held-out
 * text, samples that show what the weights of now make of noise, the memory that all of it takes.
 * Who: ./train. draw_batch and batch_losses are the middle of a training step; the rest may be
 * skipped. */

/* A stable counting sort. */
void sort_by_length(int *sorted, const int *row, int n, const Corpus *c, int *place)
{
    memset(place, 0, ((size_t)c->longest + 2) * sizeof *place);
    /* place[N + 1] = how many have length N; summed up, place[N] = how many are shorter */
    for (int i = 0; i < n; i++) place[sentence_length(c, row[i]) + 1]++;
    for (int N = 1; N <= c->longest; N++) place[N] += place[N - 1];
    for (int i = 0; i < n; i++) sorted[place[sentence_length(c, row[i])]++] = row[i];
}

/* All sentences once (or `copies` times), shuffled. Sentences of one length are computed together,
 * which is fast; but a batch of one length pulls the weights towards that length. So they are
 * sorted by length and cut into blocks of a few, and the blocks are shuffled: a batch is a few
 * blocks. The sentences that fill no block come last. */
void epoch_order(int *order, int *scratch, const Corpus *c, int copies, int block, uint64_t key)
{
    const int n = c->rows * copies, blocks = n / block;
    int *sorted = scratch, *place = scratch + n, *block_order = place;
    rng_shuffle(order, n, rng_key(key, RNG_SHUFFLE, 0, 0));
    for (int i = 0; i < n; i++) order[i] %= c->rows;
    sort_by_length(sorted, order, n, c, place);
    rng_shuffle(block_order, blocks, rng_key(key, RNG_SHUFFLE, 1, 0));
    for (int k = 0; k < blocks; k++)
        memcpy(order + k * block, sorted + block_order[k] * block, block * sizeof *order);
    memcpy(order + blocks * block, sorted + blocks * block, (n % block) * sizeof *order);
}

/* Makes a batch of these sentences, sorted by length and cut into groups. */
static void take_sentences(Trainer *r, const Corpus *c, const int *label, const int *row, int count)
{
    size_t at = 0;
    sort_by_length(r->row, row, count, c, r->place);
    r->count = count;
    r->groups = 0;
    for (int b = 0; b < count; b++) {
        const int N = r->length[b] = sentence_length(c, r->row[b]);
        if (b == 0 || N != r->length[b - 1]) r->group[r->groups++] = (Group){b, 0, N, at};
        r->group[r->groups - 1].count++;
        r->at[b] = at;
        if (label) r->labels[b] = label[r->row[b]];
        memcpy(r->ids + at, c->ids + c->start[r->row[b]], N * sizeof *r->ids);
        at += N;
    }
    r->positions = at;
}

/* Where batch number k of an epoch begins in its order: batches differ by a block at most. */
static int batch_begin(const Trainer *r, int k)
{
    const int all = r->corpus.rows * r->copies, blocks = (all + r->block - 1) / r->block;
    const int begin = r->block * (int)((int64_t)blocks * k / r->batches);
    return begin < all ? begin : all;
}

/* For a number that is said: given as an option, it makes the same run. */
static double rounded(double x) { return floor(x * 100000 + 0.5) / 100000; }

/* The longer a run, the smaller the rate that serves it best: in 40,000 steps .001 learns more than
 * .002, in 5,000 less (test/RESULTS.md, "Fifteen minutes"). */
double rate_for_steps(double rate, int steps)
{
    enum { SHORT = 10000 };
    if (steps <= SHORT) return rate;
    rate = rounded(rate * sqrt((double)SHORT / steps));
    fprintf(stderr, "by the number of steps, unless given: --lr %g\n", rate);
    return rate;
}

/* How fast weights decay by default: so that without gradients a run would shrink them to exp(-2),
 * with a rate that falls from .002 to 0. By that a run learns more in the same steps if it sees a
 * text a few times. If it sees it often, samples are no better, those of a short text worse, and
 * `decay` stays (test/RESULTS.md, "Weight decay"). */
double decay_for_run(const Trainer *r, double decay, int steps)
{
    enum { OFTEN = 20, SUM = 2000 };
    const double strong = rounded(fmin(0.5, (double)SUM / steps));
    if ((double)steps * r->copies / r->batches > OFTEN || strong <= decay) return decay;
    fprintf(stderr, "by the number of steps, unless given: --weight-decay %g\n", strong);
    return strong;
}

/* The batch of a step: sentences, t, noise. */
void draw_batch(Trainer *r, int step)
{
    const size_t D = r->model.config.emb_dim;
    const uint64_t seed = r->seed, epoch = (uint64_t)(step / r->batches);
    if (r->epoch != epoch + 1)
        epoch_order(r->order, r->scratch, &r->corpus, r->copies, r->block,
                    rng_key(seed, RNG_SHUFFLE, epoch, 0));
    r->epoch = epoch + 1;
    const int k = step % r->batches, first = batch_begin(r, k);
    take_sentences(r, &r->corpus, r->label, r->order + first, batch_begin(r, k + 1) - first);
#pragma omp parallel for
    for (int b = 0; b < r->count; b++) {
        uint64_t key = rng_key(seed, RNG_T, step, b);
        r->t[b] = r->resampler.T ? resampler_draw(&r->resampler, rng_u32(key, 0) / 4294967296.0)
                                 : rng_below(key, 0, r->diffusion.T);
        r->weight[b] = r->resampler.T ? (real)(1 / (r->resampler.T * r->resampler.p[r->t[b]])) : 1;
        rng_gaussian(r->noise_x0 + r->at[b] * D, r->length[b] * D,
                     rng_key(seed, RNG_NOISE_X0, step, b));
        rng_gaussian(r->noise_t + r->at[b] * D, r->length[b] * D,
                     rng_key(seed, RNG_NOISE_T, step, b));
    }
}

int self_condition(const Trainer *r, int step)
{
    return r->model.config.self_conditioning &&
           rng_below(rng_key(r->seed, RNG_SELF_CONDITION, step, 0), 0, 2);
}

/* Sentences of N positions that are computed at a time */
static int piece(const Trainer *r, int count, int N)
{
    const int most = piece_of_batch(count, N);
    return r->microbatch && r->microbatch < most ? r->microbatch : most;
}

/* Several machines: built by make MPI=1 and begun by mpirun, ./train is several processes, its
 * ranks. All have the whole model and draw the same batch; each computes a part of every group's
 * losses, the gradients are added up, and all take the same step. */
#ifdef TDIFF_MPI
#include <mpi.h>

void ranks_begin(Trainer *r, int *argc, char ***argv)
{
    MPI_Init(argc, argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &r->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &r->ranks);
    if (r->rank > 0 && !freopen("/dev/null", "w", stderr)) MPI_Abort(MPI_COMM_WORLD, 1);
}

int ranks_end(const Trainer *r, int status)
{
    if (r->ranks > 1 && (status == 1 || status == 2)) MPI_Abort(MPI_COMM_WORLD, status);
    MPI_Finalize();
    return status;
}

/* The gradients and losses of all ranks together */
static void add_up_ranks(Trainer *r)
{
    const MPI_Datatype type = sizeof(real) == 4 ? MPI_FLOAT : MPI_DOUBLE;
    const size_t most = 1 << 28, n = r->ranks > 1 ? r->model.num_params : 0;
    for (size_t i = 0; i < n; i += most)
        MPI_Allreduce(MPI_IN_PLACE, r->model.grads + i, (int)(n - i < most ? n - i : most), type,
                      MPI_SUM, MPI_COMM_WORLD);
    if (r->ranks > 1)
        MPI_Allreduce(MPI_IN_PLACE, r->terms.mse, 5 * r->batch, MPI_DOUBLE, MPI_SUM,
                      MPI_COMM_WORLD);
}

int ranks_stop(void)
{
    int signal = stop_signal();
    MPI_Allreduce(MPI_IN_PLACE, &signal, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return signal;
}

double ranks_slowest(double time)
{
    MPI_Allreduce(MPI_IN_PLACE, &time, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return time;
}
#else
void ranks_begin(Trainer *r, int *argc, char ***argv)
{
    r->rank = 0, r->ranks = 1;
    (void)argc, (void)argv;
}

int ranks_end(const Trainer *r, int status)
{
    (void)r;
    return status;
}

static void add_up_ranks(Trainer *r) { (void)r; }
int ranks_stop(void) { return stop_signal(); }
double ranks_slowest(double time) { return time; }
#endif

/* Group by group: of the denoiser or of the classifier. Every position counts alike, whatever the
 * length of its sentence. */
double batch_losses(Trainer *r, int self_conditioned, int backward, Dropout drop)
{
    const size_t D = r->model.config.emb_dim;
    const int parts = backward ? r->ranks : 1, part = backward ? r->rank : 0;
    double mean = 0, loss;
    Error never;
    if (parts > 1) memset(r->terms.mse, 0, 5 * (size_t)r->batch * sizeof *r->terms.mse);
    for (int k = 0; k < r->groups; k++) {
        const Group *g = &r->group[k];
        const int from = g->count * part / parts, count = g->count * (part + 1) / parts - from;
        const int first = g->first + from;
        const size_t at = g->at + (size_t)from * g->N;
        const Losses terms = losses_at(&r->terms, first);
        /* a piece of a group adds to the bits from 32 on, too */
        const Dropout own = {drop.key + ((uint64_t)k << 48) + ((uint64_t)from << 32), drop.rate, 0};
        const double share = (double)count * g->N / r->positions;
        if (count == 0 || (backward && stop_signal())) continue;
        for (int b = first; b < first + count; b++) r->scaled[b] = r->weight[b] * (real)share;
        const Batch y = {r->ids + at,
                         r->t + first,
                         r->noise_x0 + at * D,
                         r->noise_t + at * D,
                         r->scaled + first,
                         self_conditioned,
                         count,
                         g->N};
        workspace_fit(&r->work, &r->model.config, piece(r, count, g->N), g->N,
                      &never); /* it was as large before */
        loss = !r->label
                   ? training_losses(&r->model, &r->work, &terms, &r->diffusion, &y, backward, own)
                   : classifier_losses(&r->model, &r->work, terms.loss, r->guess + first,
                                       &r->denoiser.model, &r->diffusion, &y, r->labels + first,
                                       backward, own);
        mean += loss * share;
    }
    if (backward) add_up_ranks(r);
    return mean;
}

void swap_average(Trainer *r)
{
    real *a = r->model.params, *b = r->optimizer.ema;
    for (size_t i = 0; i < r->model.num_params; i++) {
        const real x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
}

double validation_loss(Trainer *r, int most, double accuracy[4])
{
    const int rows = r->val.rows < most ? r->val.rows : most;
    const size_t D = r->model.config.emb_dim;
    const Dropout none = {0, 0, 0};
    int right[4] = {0}, of[4] = {0}, *row = r->scratch, count;
    double total = 0, positions = 0;
    swap_average(r);
    rng_shuffle(r->val_rank, rows, 0);
    for (int next = 0; next < r->val.rows;) {
        for (count = 0; next < r->val.rows && count < r->batch; next++)
            if (r->val_order[next] < rows) row[count++] = r->val_order[next];
        if (!count) break;
        take_sentences(r, &r->val, r->val_label, row, count);
        for (int b = 0; b < count; b++) {
            r->t[b] = (int)((r->val_rank[r->row[b]] + 0.5) / rows * r->diffusion.T);
            r->weight[b] = 1;
            rng_gaussian(r->noise_x0 + r->at[b] * D, r->length[b] * D,
                         rng_key(0, RNG_VALIDATION, 0, r->row[b]));
            rng_gaussian(r->noise_t + r->at[b] * D, r->length[b] * D,
                         rng_key(0, RNG_VALIDATION, 1, r->row[b]));
        }
        total += r->positions * batch_losses(r, 0, 0, none);
        positions += r->positions;
        for (int b = 0; b < count && r->label; b++) {
            int quartile = (int)(4 * (int64_t)r->t[b] / r->diffusion.T);
            right[quartile] += r->guess[b] == r->labels[b];
            of[quartile]++;
        }
    }
    for (int q = 0; q < 4; q++) accuracy[q] = of[q] ? (double)right[q] / of[q] : 0;
    swap_average(r);
    return total / positions;
}

void sums_add(Sums *sums, const Trainer *r)
{
    sums->steps++;
    for (int b = 0; b < r->count; b++) {
        const int quartile = (int)(4 * (int64_t)r->t[b] / r->diffusion.T);
        const double weight = r->weight[b], share = weight * r->length[b] / r->positions;
        sums->loss += share * r->terms.loss[b];
        sums->mse += share * r->terms.mse[b];
        sums->decoder_nll += share * r->terms.decoder_nll[b];
        sums->tT_loss += share * r->terms.tT_loss[b];
        sums->head_nll += share * r->terms.head_nll[b];
        sums->quartile[quartile] += weight * r->terms.loss[b];
        sums->weight[quartile] += weight;
    }
}

void sums_print(const Sums *sums, const Trainer *r, Buffer *line)
{
    const int k = sums->steps;
    double quartile[4];
    buffer_print(line, ",\"loss\":%.6g", sums->loss / k);
    if (!r->label)
        buffer_print(line, ",\"mse\":%.6g,\"decoder_nll\":%.6g,\"tT_loss\":%.6g", sums->mse / k,
                     sums->decoder_nll / k, sums->tT_loss / k);
    if (r->model.config.predict == PREDICT_SOFTMAX)
        buffer_print(line, ",\"head_nll\":%.6g", sums->head_nll / k);
    for (int q = 0; q < 4; q++)
        quartile[q] = sums->weight[q] > 0 ? sums->quartile[q] / sums->weight[q] : NAN;
    buffer_json_numbers(line, "loss_by_noise_quartile", quartile, 4);
}

const char *infinite_term(const Trainer *r)
{
    const char *const name[] = {"mse", "decoder_nll", "tT_loss", "head_nll", "loss"};
    const double *const terms[] = {r->terms.mse, r->terms.decoder_nll, r->terms.tT_loss,
                                   r->terms.head_nll, r->terms.loss};
    for (int k = 0; k < 5; k++)
        for (int b = 0; b < r->count; b++)
            if (!(terms[k][b] - terms[k][b] == 0)) return name[k];
    return "the gradient";
}

int trainer_begin(Trainer *r, Checkpoint *from, int resampled, int resumes, Error *err)
{
    enum { LOSSES_KEPT = 10 }; /* for every t */
    Model *m = &r->model;
    if (resumes && checkpoint_tensors(from, m, "raw.", m->params, err)) return -1;
    if (optimizer_init(&r->optimizer, m, err) ||
        (resumes && checkpoint_state(from, m, &r->optimizer, err)))
        return -1;
    if (!resampled) return 0;
    if (resampler_init(&r->resampler, r->diffusion.T, LOSSES_KEPT, err)) return -1;
    r->losses = (Tensor){.name = "loss_history",
                         .rank = 2,
                         .shape = {r->diffusion.T, 1 + LOSSES_KEPT},
                         .data = r->resampler.history,
                         .size = (size_t)r->diffusion.T * (1 + LOSSES_KEPT)};
    return resumes && (checkpoint_tensor(from, &r->losses, "", r->losses.data, err) ||
                       resampler_restore(&r->resampler, err))
               ? -1
               : 0;
}

/* Room in the workspace for the sentences of one length that a batch can have. Returns the
 * positions of the `batch` longest sentences, or 0 after a failure. */
static size_t fit_lengths(Trainer *r, const Corpus *c, int copies, Error *err)
{
    const int B = r->batch;
    int *count = r->place, left = B;
    size_t positions = 0;
    memset(count, 0, ((size_t)c->longest + 1) * sizeof *count);
    for (int i = 0; i < c->rows; i++) count[sentence_length(c, i)] += copies;
    for (int N = c->longest; N > 0; N--) {
        const int most = count[N] < B ? count[N] : B, taken = most < left ? most : left;
        positions += (size_t)taken * N;
        left -= taken;
        if (most && workspace_fit(&r->work, &r->model.config, piece(r, most, N), N, err)) return 0;
    }
    return positions;
}

int trainer_room(Trainer *r, int frozen, Error *err)
{
    enum { LONGEST_BLOCK = 8 }; /* see epoch_order */
    const Config *c = &r->model.config;
    const int rows = r->corpus.rows, B = r->batch;
    r->copies = B / rows > 1 ? B / rows : 1;
    r->block = LONGEST_BLOCK;
    while (B % r->block) r->block--;
    r->batches = (int)(((int64_t)rows * r->copies + B - 1) / B);
    const size_t all = (size_t)rows * r->copies, more = 2 * all > (size_t)B ? 2 * all : (size_t)B;
    const int longest = r->corpus.longest > r->val.longest ? r->corpus.longest : r->val.longest;
    if (!(r->order = checked_alloc(all, sizeof *r->order, err)) ||
        !(r->scratch = checked_alloc(more + longest + 2, sizeof *r->scratch, err)) ||
        !(r->place = checked_alloc((size_t)longest + 2, sizeof *r->place, err)) ||
        !(r->val_order = checked_alloc(2 * (size_t)r->val.rows, sizeof *r->val_order, err)) ||
        !(r->row = checked_alloc(B, 5 * sizeof *r->row, err)) ||
        !(r->at = checked_alloc(B, sizeof *r->at, err)) ||
        !(r->group = checked_alloc(B, sizeof *r->group, err)) ||
        !(r->weight = checked_alloc(B, 2 * sizeof *r->weight, err)) ||
        !(r->terms.mse = checked_alloc(B, 5 * sizeof *r->terms.mse, err)) ||
        !(r->decay = checked_alloc(r->model.num_tensors, 1, err)) ||
        workspace_init(&r->work, c, 1, SHORTEST, 1, err))
        return -1;
    for (int i = 0; i < r->model.num_tensors; i++) {
        const Tensor *x = &r->model.tensors[i];
        const int table = x == r->model.word_embedding || x == r->model.position_embeddings;
        r->decay[i] = x->rank == 2 && !(table && frozen);
    }
    r->val_rank = r->val_order + r->val.rows;
    r->length = r->row + B, r->t = r->length + B, r->labels = r->t + B, r->guess = r->labels + B;
    r->scaled = r->weight + B;
    r->terms.decoder_nll = r->terms.mse + B, r->terms.tT_loss = r->terms.mse + 2 * B;
    r->terms.head_nll = r->terms.mse + 3 * B, r->terms.loss = r->terms.mse + 4 * B;
    size_t positions = fit_lengths(r, &r->corpus, r->copies, err), of_val = 0;
    if (r->val.rows) {
        rng_shuffle(r->val_rank, r->val.rows, 0);
        sort_by_length(r->val_order, r->val_rank, r->val.rows, &r->val, r->place);
        of_val = fit_lengths(r, &r->val, 1, err);
    }
    if (!positions || (r->val.rows && !of_val)) return -1;
    if (of_val > positions) positions = of_val;
    r->room = positions;
    if (!(r->ids = checked_alloc(positions, sizeof *r->ids, err)) ||
        !(r->noise_x0 = checked_alloc(positions, c->emb_dim * sizeof *r->noise_x0, err)) ||
        !(r->noise_t = checked_alloc(positions, c->emb_dim * sizeof *r->noise_t, err)))
        return -1;
    return 0;
}

void trainer_free(Trainer *r)
{
    corpus_free(&r->corpus);
    corpus_free(&r->val);
    model_free(&r->model);
    trained_free(&r->denoiser);
    workspace_free(&r->work);
    optimizer_free(&r->optimizer);
    diffusion_free(&r->diffusion);
    resampler_free(&r->resampler);
    free(r->label);
    free(r->val_label);
    free(r->order);
    free(r->place);
    free(r->scratch);
    free(r->val_order);
    free(r->row);
    free(r->at);
    free(r->group);
    free(r->weight);
    free(r->terms.mse);
    free(r->ids);
    free(r->noise_x0);
    free(r->noise_t);
    free(r->decay);
}

const char *const memory_names[] = {"parameters",  "gradients",     "moments", "average",
                                    "activations", "text, program", "total",   "checkpoint"};

int training_memory(const Trainer *r, const Tokenizer *words, double bytes[MEMORY], Error *err)
{
    const Model *m = &r->model;
    const Corpus *const texts[] = {&r->corpus, &r->val};
    const double number = sizeof(real), params = number * m->num_params;
    const double table = m->config.emb_norm > 0 ? number * m->word_embedding->size : 0;
    const double program = 3e6 + 0x110000 * sizeof *words->unicode;
    bytes[PARAMETERS] = params + table + 2 * number * r->denoiser.model.num_params;
    bytes[GRADIENTS] = params + table, bytes[MOMENTS] = 2 * params, bytes[EMA] = params;
    bytes[ACTIVATIONS] = number * (r->work.size + 2.0 * r->room * m->config.emb_dim);
    bytes[TEXT] = program + 64.0 * words->size + 4.0 * 3 * r->copies * r->corpus.rows;
    for (int i = 0; i < 2; i++)
        if (texts[i]->start)
            bytes[TEXT] += 4.0 * texts[i]->start[texts[i]->rows] + 8.0 * texts[i]->rows;
    bytes[TOTAL] = 0;
    for (int i = 0; i < TOTAL; i++) bytes[TOTAL] += bytes[i];
    bytes[CHECKPOINT] = 4.0 * 4 * m->num_params; /* and its header */
    if (bytes[CHECKPOINT] > (double)LONG_MAX)
        return fail(err, "checkpoints would have %.1f GB; files can have %ld bytes here",
                    bytes[CHECKPOINT] * 1e-9, LONG_MAX);
    if (bytes[TOTAL] <= physical_memory()) return 0;
    return fail(err,
                "%.1f GB of memory are needed, and this machine has %.1f; less are --hidden, "
                "--layers, --emb-dim, --microbatch",
                bytes[TOTAL] * 1e-9, physical_memory() * 1e-9);
}

double largest_group(Trainer *r, int held)
{
    const int B = r->batch;
    size_t most = 0;
    for (int k = 0; k < r->batches + (held + B - 1) / B; k++) {
        const int v = k - r->batches, first = v < 0 ? batch_begin(r, k) : v * B;
        if (v < 0)
            take_sentences(r, &r->corpus, r->label, r->order + first,
                           batch_begin(r, k + 1) - first);
        else
            take_sentences(r, &r->val, r->val_label, r->val_order + first,
                           held - first < B ? held - first : B);
        for (const Group *g = r->group; g < r->group + r->groups; g++) {
            const size_t size =
                workspace_size(&r->work, &r->model.config, piece(r, g->count, g->N), g->N);
            if (size > most) most = size;
        }
    }
    return (double)most * sizeof(real);
}

/* A few sentences: what the weights of now make of noise, for people to read and to be counted. */

enum { FEW_STEPS = 20 };

typedef struct {
    uint64_t seed;
    int first, count; /* sentences that are computed together: the number of the first */
    size_t n;         /* numbers of a sentence */
} FewNoise;

static int draw_few_noise(void *context, real *out, int t)
{
    const FewNoise *f = context;
    for (int b = 0; b < f->count; b++)
        rng_gaussian(out + b * f->n, f->n,
                     rng_key(f->seed, RNG_SAMPLE, (uint64_t)t, (uint64_t)f->first + (uint64_t)b));
    return stop_signal();
}

/* Sentences first to first + count - 1, of N positions: ids (count,N). x, known_x: room for
 * (count,N,D), known: for (count,N); has_ends: [CLS] and [SEP] are known. As many at a time as the
 * workspace had room for before. */
static int draw_few(Trainer *r, const int *special, const Diffusion *d, int N, int first, int count,
                    int has_ends, int *ids, real *x, real *known_x, unsigned char *known,
                    Error *err)
{
    const Model *m = &r->model;
    const int D = m->config.emb_dim, last = first + count;
    FewNoise noise = {r->seed, first, count, (size_t)N * D};
    const Sampler sampler = {.noise = draw_few_noise,
                             .context = &noise,
                             .ddim = m->config.predict == PREDICT_SOFTMAX,
                             .eta = USUAL_ETA,
                             .ahead = USUAL_AHEAD,
                             .known = has_ends ? known : NULL,
                             .known_x = known_x};
    while (noise.count > 1 && workspace_size(&r->work, &m->config, noise.count, N) > r->work.size)
        noise.count--;
    for (int i = 0; i < count * N; i++) {
        known[i] = i % N == 0 || i % N == N - 1;
        ids[i] = special[i % N ? TOKEN_SEP : TOKEN_CLS];
    }
    embedding_forward(known_x, m->embedding, ids, count * N, D);
    for (; noise.first < last; noise.first += noise.count, ids += noise.count * N) {
        if (noise.first + noise.count > last) noise.count = last - noise.first;
        draw_few_noise(&noise, x, d->total);
        if (workspace_fit(&r->work, &m->config, noise.count, N, err) ||
            p_sample_loop(m, &r->work, d, &sampler, x, noise.count, N, err))
            return -1;
        likeliest_words(m, &r->work, ids, x, noise.count, N);
        for (int b = 0; b < noise.count && has_ends; b++) {
            ids[b * N] = special[TOKEN_CLS];
            ids[b * N + N - 1] = special[TOKEN_SEP];
        }
    }
    return 0;
}

int few_sentences(Trainer *r, const Tokenizer *words, const real *length_count, Corpus *drawn,
                  int lengths, int each, Error *err)
{
    Model *m = &r->model;
    const Config *c = &m->config;
    const int D = c->emb_dim, *special = words->special;
    const size_t most = (size_t)each * c->max_positions;
    real bias[TOKEN_SPECIALS];
    Diffusion d = {0};
    int status = -1;
    real *x = checked_alloc(most, 2 * D * sizeof *x, err);
    unsigned char *known = checked_alloc(most, 1, err);
    drawn->ids = checked_alloc(lengths * most, sizeof *drawn->ids, err);
    drawn->start = checked_alloc(lengths * each + 1, sizeof *drawn->start, err);
    swap_average(r);
    embedding_table_forward(m);
    for (int role = 0; role < TOKEN_SPECIALS; role++)
        bias[role] = m->lm_head_bias->data[special[role]];
    rule_out_specials(m, special, length_count != NULL, 0);
    if (x && known && drawn->ids && drawn->start)
        status = diffusion_from_noise(&d, c, trained_steps(c) < FEW_STEPS ? NULL : "20", err);
    for (int k = 0; k < lengths && !status; k++) {
        const int N = length_count ? draw_length(length_count, SHORTEST, c->max_positions,
                                                 (k + 0.5) / lengths)
                                   : c->seq_len;
        status = draw_few(r, special, &d, N, drawn->rows, each, length_count != NULL,
                          drawn->ids + drawn->start[drawn->rows], x, x + most * D, known, err);
        for (int i = 0; i < each; i++, drawn->rows++)
            drawn->start[drawn->rows + 1] = drawn->start[drawn->rows] + N;
    }
    for (int role = 0; role < TOKEN_SPECIALS; role++)
        m->lm_head_bias->data[special[role]] = bias[role];
    swap_average(r);
    diffusion_free(&d);
    free(known);
    free(x);
    return status;
}

/* Salad or memory? The loss does not say what samples are like. Two figures do: pairs of neighbours
 * that the training text never has, of which salad is full, and sentences that it has word for
 * word. They are those of a few sentences, by few steps of the sampler. */
enum {
    LENGTHS = 4, /* spread as those of the text are */
    OF_EACH = 8, /* sentences, computed together */
    FIGURES = 50 /* they may take 1 / FIGURES of the time */
};

/* As often as their share of the time allows. A training step computes a sentence forward and back,
 * which is about three times forward. */
int figures_due(const Trainer *r, int steps, int done, int since)
{
    const double training = 3.0 * r->batch * steps, sampling = LENGTHS * OF_EACH * FEW_STEPS;
    const int64_t times = (int64_t)(training / FIGURES / sampling);
    return times * done / steps > times * (done - since) / steps;
}

int sample_figures(Trainer *r, const Tokenizer *words, const real *length_count, double *unseen,
                   double *copied, Error *err)
{
    Corpus drawn = {0};
    int status = few_sentences(r, words, length_count, &drawn, LENGTHS, OF_EACH, err);
    *unseen = status ? 0 : pairs_never_seen(&r->corpus, &drawn, err);
    *copied = status ? 0 : copied_share(&r->corpus, &drawn);
    corpus_free(&drawn);
    return status || *unseen < 0 ? -1 : 0;
}

double measured_step(Trainer *r, double enough, double dropout, int held, int interval, int *trials)
{
    enum { FEWEST = 5 };
    const Dropout drop = {0, dropout, 0};
    const double start = seconds(), of_epoch = (double)r->copies * r->corpus.start[r->corpus.rows];
    double elapsed = 0, cold = 0, positions = 0, accuracy[4];
    for (*trials = 0; *trials < FEWEST || elapsed < enough; ++*trials) {
        draw_batch(r, *trials);
        batch_losses(r, r->model.config.self_conditioning && *trials % 2, 1, drop);
        memset(r->model.grads, 0, r->model.num_params * sizeof *r->model.grads);
        adamw_step(&r->model, &r->optimizer, 0, 0, 0, r->decay, 1, 1); /* nothing moves */
        positions += (double)r->positions;
        elapsed = ranks_slowest(seconds() - start);
        if (*trials == 0) cold = elapsed, positions = 0; /* it was slow: memory was new to it */
    }
    double step = (elapsed - cold) * of_epoch / positions / r->batches;
    if (r->val.rows) {
        const double begun = seconds();
        validation_loss(r, held, accuracy);
        step += ranks_slowest(seconds() - begun) / interval;
    }
    return step * (1 + 1.0 / FIGURES);
}
