/* replay.c - the bound of ./sample --eval once more, one sentence and one term at a time.
 *
 *   build/replay CKPT TEXT [SEED]
 *
 * Nothing here comes in batches, is drawn from the terms or left to options: for every sentence
 *   bits = length + prior + sum over ALL t of kl(t) + positions decoder_nll
 * with the library's variational_bound for one sentence and one t; length is -log2 of the share
 * that sentences of so many positions have in the training text, which the checkpoint says. The
 * random numbers are those of text_bound, too: noise_x0 of sentence i has the key (seed,
 * RNG_NOISE_X0, 0, i), its noise_t (seed, RNG_NOISE_T, 1 + t, i). The network gets an estimate of
 * its own if it was trained with one and, if it has a softmax, x_t's evidence beyond 0.5. Prints a
 * name and a number a line. */
#include "tdiff.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    Tokenizer tokenizer;
    Model model;
    Workspace work;
    Diffusion diffusion;
    Corpus text;
    real *lengths;            /* NULL: all have seq_len positions */
    real *noise_x0, *noise_t; /* (N,D) */
} Replay;

static int load(Replay *r, const char *path, const char *text, Error *err)
{
    Checkpoint c;
    Config config = {0};
    int steps_done, status = -1;
    if (!checkpoint_open(&c, path, err) &&
        !checkpoint_config(&c, &config, &r->tokenizer, &steps_done, err) &&
        !model_init(&r->model, &config, err) &&
        !checkpoint_tensors(&c, &r->model, "", r->model.params, err) &&
        !diffusion_init(&r->diffusion, config.noise_schedule, config.diffusion_steps, NULL, err) &&
        !workspace_init(&r->work, &config, 1, config.max_positions, 0, err) &&
        !corpus_read(&r->text, text, err)) {
        const Tensor lengths = length_tensor(config.max_positions);
        const int most = config.max_positions, has_lengths = checkpoint_has(&c, lengths.name);
        const size_t width = config.emb_dim * sizeof(real);
        if ((!has_lengths || (r->lengths = checked_alloc(lengths.size, sizeof *r->lengths, err))) &&
            (!has_lengths || !checkpoint_tensor(&c, &lengths, "", r->lengths, err)) &&
            !corpus_fill(&r->text, text, &r->tokenizer, has_lengths ? most : config.seq_len,
                         !has_lengths, err) &&
            (r->noise_x0 = checked_alloc(most, width, err)) &&
            (r->noise_t = checked_alloc(most, width, err)))
            status = 0;
    }
    checkpoint_close(&c);
    if (r->model.config.predict == PREDICT_SOFTMAX) r->diffusion.evidence_above = 0.5;
    return status;
}

static double bits_of_length(const Replay *r, int N)
{
    const int most = r->model.config.max_positions;
    double sentences = 0;
    if (!r->lengths) return 0;
    for (int k = 0; k <= most; k++) sentences += r->lengths[k];
    return -log2((r->lengths[N] + 1.0 / (most - 2)) / (sentences + 1)); /* none has 0, 1 or 2 */
}

static void replay(Replay *r, uint64_t seed)
{
    const Config *c = &r->model.config;
    const Diffusion *d = &r->diffusion;
    const int rows = r->text.rows;
    double mse, decoder_nll = 0, tT, head_nll, loss, kl, x_T = 0; /* of a sentence, in nats */
    double length = 0, prior = 0, quartile[4] = {0}, decoder = 0, bound = 0,
           squares = 0; /* means, in bits */
    double tokens = 0;
    Losses losses = {&mse, &decoder_nll, &tT, &head_nll, &loss};
    for (int i = 0; i < rows; i++) {
        const int *ids = r->text.ids + r->text.start[i], N = sentence_length(&r->text, i);
        const size_t n = (size_t)N * c->emb_dim;
        double bits = bits_of_length(r, N);
        Error never;
        workspace_fit(&r->work, c, 1, N, &never); /* it began with the most */
        length += bits / rows;
        rng_gaussian(r->noise_x0, n, rng_key(seed, RNG_NOISE_X0, 0, i));
        for (int t = 0; t < d->T; t++) {
            const Batch y = {ids, &t, r->noise_x0, r->noise_t, NULL, c->self_conditioning, 1, N};
            rng_gaussian(r->noise_t, n, rng_key(seed, RNG_NOISE_T, 1 + (uint64_t)t, i));
            variational_bound(&r->model, &r->work, &losses, &kl, &x_T, d, &y, FIXED_SMALL, 0);
            quartile[4 * t / d->T] += kl / log(2) / rows;
            bits += kl / log(2);
        }
        prior += x_T / log(2) / rows;
        decoder += N * decoder_nll / log(2) / rows;
        bits += (x_T + N * decoder_nll) / log(2);
        bound += bits / rows;
        squares += bits * bits / rows;
        const int *special = r->tokenizer.special;
        for (int k = 0; k < N; k++)
            tokens += ids[k] != special[TOKEN_PAD] && ids[k] != special[TOKEN_CLS];
    }
    printf("length %.4f\nwords %.4f\nprior %.4f\n", length, bound - length, prior);
    for (int q = 0; q < 4; q++) printf("quartile%d %.4f\n", q + 1, quartile[q]);
    printf("decoder %.4f\nbound %.4f\n", decoder, bound);
    printf("se %.4f\n", rows > 1 ? sqrt((squares - bound * bound) / (rows - 1)) : 0); /* of it */
    printf("sentences %d\ntokens %.0f\n", rows, tokens);
    bound *= rows / tokens;
    printf("bits/token %.4f\nnats/token %.4f\n", bound, bound * log(2));
}

int main(int argc, char **argv)
{
    Replay run = {0};
    Error err;
    int status = 0;
    if (argc < 3 || argc > 4) status = fail(&err, "usage: replay CKPT TEXT [SEED]");
    if (!status) status = load(&run, argv[1], argv[2], &err);
    if (!status) replay(&run, argc > 3 ? (uint64_t)atoi(argv[3]) : 1);
    if (status) fprintf(stderr, "replay: %s\n", err.text);
    tokenizer_free(&run.tokenizer);
    model_free(&run.model);
    workspace_free(&run.work);
    diffusion_free(&run.diffusion);
    corpus_free(&run.text);
    free(run.lengths);
    free(run.noise_x0);
    free(run.noise_t);
    return status ? 1 : 0;
}
