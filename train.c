/* train.c - trains a denoiser on a text file, one sentence a line.
 *
 *   ./train                               the simple corpus, a minute or two: simple.safetensors
 *   ./train mine.txt --val held-out.txt   your own: mine.safetensors
 *   ./train --resume mine.safetensors            after Ctrl-C; with --steps MORE, after its end
 *   ./train other.txt --init mine.safetensors    begins with its weights
 *   ./train --export mine.safetensors small.safetensors    what ./sample needs of it
 *   ./train --classifier labeled.tsv --denoiser mine.safetensors     for ./sample --guide
 *
 * A step draws a batch of sentences, a diffusion step t and noise for each, and follows the
 * gradient of training_losses. Everything random is a hash of (seed, step, example), so a run that
 * was stopped and resumed writes the same bytes as one that was not. */
#include "tdiff.h"
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- options -------------------------------------------------------------------------------- */

/* What two corpora differ in: a run can only be resumed on the sentences, and labels, it began
 * with. label: NULL, or one for each sentence. */
static void corpus_fingerprint(const Corpus *c, const int *label, char out[20])
{
    uint64_t hash = (uint64_t)c->rows;
    for (size_t i = 0; i < c->start[c->rows]; i++)
        hash = rng_key(hash, RNG_SHUFFLE, i, (uint64_t)c->ids[i]);
    for (int i = 0; i < c->rows && label; i++)
        hash = rng_key(hash, RNG_SHUFFLE, i, (uint64_t)label[i]);
    snprintf(out, 20, "%08lx%08lx", (unsigned long)(hash >> 32),
             (unsigned long)(hash & 0xffffffff));
}

typedef struct {
    Config config;
    int recipe, steps, stop_at, batch, microbatch, warmup, schedule_sampler, seed, threads,
        log_interval, save_interval, keep_every, pad, grow_vocab, init_pretrained,
        pretrained_embeddings, freeze_embeddings, dry_run, overwrite, help, version, preview;
    TokenizerOptions text;
    double minutes, save_minutes, progress_seconds, lr, weight_decay, dropout, ema_rate, clip;
    const char *val, *out, *resume, *init, *export, *classifier, *denoiser;
    /* what else the checkpoint says of the run */
    const char *text_path, *fingerprint, *val_fingerprint, *denoiser_is, *earlier_steps,
        *arithmetic;
    double text_bytes;
} Settings;

enum { CLASSIFIER_STEPS = 1000 }; /* the defaults with --classifier */
#define CLASSIFIER_LR 5e-4
enum {
    LOSSES_KEPT = 10,  /* for every t */
    LONGEST_BLOCK = 8, /* see epoch_order */
    FEW = 5,           /* sentences of a label, to hold one out */
    VALIDATED = 256    /* held-out sentences, at most, that val is measured on */
};

static void defaults(Settings *s)
{
    memset(s, 0, sizeof *s);
    config_defaults(&s->config);
    s->steps = 4000, s->batch = 32, s->warmup = 100, s->seed = 1;
    s->text = (TokenizerOptions){"word", .vocab_size = 10000, .min_frequency = 1};
    s->lr = 2e-3, s->weight_decay = 0.01, s->ema_rate = 0.999, s->clip = 1;
    s->threads = max_threads(), s->log_interval = 100, s->save_interval = 500;
    s->save_minutes = 5, s->progress_seconds = 5;
}

static const char *const schedule_samplers[] = {"uniform", "loss-second-moment", NULL};
static const char *const off_on[] = {"off", "on", NULL};
static const char *const recipe_names[] = {"best", "templates", "original", NULL};
enum { TEMPLATES = 1 /* the one for the default corpus */, ORIGINAL };
static const struct {
    const char *option, *value[3];
} recipes[] = {
    /* in that order; the first are the defaults */
    {"predict", {"softmax", "softmax", "x-start"}},
    {"self-conditioning", {"on", "off", "off"}},
    {"emb-norm", {"4", "4", "0"}},
    {"pad", {"off", "off", "on"}},
};

/* Sets what the recipe says and was not given by itself. It counts as given then, too, if the
 * recipe was. */
static void apply_recipe(const Settings *s, Option *table)
{
    Error never;
    const int given = option_given(table, &s->recipe);
    for (Option *o = table; o->name; o++)
        for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
            if (!o->given && !strcmp(o->name, recipes[i].option)) {
                option_set(o, recipes[i].value[s->recipe], &never);
                o->given = given;
            }
}

/* The table of all options, or NULL with err filled; the caller frees it. */
static Option *list_options(Settings *s, Error *err)
{
    const Option options[] = {
        {"recipe", OPT_CHOICE, &s->recipe, .choices = recipe_names, .excludes = "classifier",
         .help = "the defaults of predict, self-conditioning, emb-norm and pad",
         .deflt = "best; templates for the default corpus"},
        {"val", OPT_TEXT, &s->val, .what = "FILE", .everyday = 1, .excludes = "classifier",
         .help = "held-out sentences to measure the loss on",
         .deflt = "data/simple-test.txt for the default corpus; those of the run resumed",
         .result = 1},
        {"classifier", OPT_TEXT, &s->classifier, .what = "FILE", .everyday = 1,
         .help = "train a classifier for ./sample --guide on this file: a sentence, a TAB and a "
                 "label a line",
         .needs = "denoiser"},
        {"denoiser", OPT_TEXT, &s->denoiser, .what = "FILE", .everyday = 1,
         .help = "of --classifier: the checkpoint whose samples it is to guide",
         .needs = "classifier"},
        {"out", OPT_TEXT, &s->out, .what = "FILE", .everyday = 1,
         .help = "the checkpoint to write; the log goes beside it",
         .deflt = "NAME.safetensors, NAME.clf.safetensors with --classifier, or the one resumed"},
        {"steps", OPT_INT, &s->steps, .everyday = 1, .min = 1, .max = 1e8,
         .help = "training steps in all; the learning rate falls to 0 over them",
         .deflt = "4000; 1000 with --classifier", .result = 1},
        {"minutes", OPT_REAL, &s->minutes, .everyday = 1, .max = 1e6,
         .help = "as many steps as take so long here, by the speed of a few; 0: --steps says how "
                 "many",
         .excludes = "steps stop-at resume"},
        {"stop-at", OPT_INT, &s->stop_at, .min = 1, .max = 1e8,
         .help = "save and stop after this step", .deflt = "steps"},
        {"batch", OPT_INT, &s->batch, .everyday = 1, .min = 1, .max = 65536,
         .help = "sentences a step", .deflt = "32; 16 if they have 16 positions or more on average",
         .result = 1},
        {"microbatch", OPT_INT, &s->microbatch, .max = 65536,
         .help = "sentences to compute at a time; fewer need less memory, and give the same but "
                 "for rounding and dropout",
         .deflt = "as many as are fast", .result = 1},
        {"pad", OPT_CHOICE, &s->pad, .choices = off_on,
         .help = "fill every sentence up to the longest, and let the network say where it ends",
         .excludes = "classifier", .result = 1},
        {"tokenizer", OPT_TEXT, &s->text.tokenizer, .what = "KIND", .everyday = 1,
         .help = "word, bpe, char, original, wordpiece:VOCAB.txt, or FILE.json: what a token is",
         .deflt = "word", .excludes = "classifier resume"},
        {"keep-case", OPT_FLAG, &s->text.keep_case, .everyday = 1,
         .help = "of the tokenizer word: capital letters stay as they are",
         .excludes = "classifier resume"},
        {"keep-accents", OPT_FLAG, &s->text.keep_accents,
         .help = "of the tokenizer word: accents stay as they are",
         .excludes = "classifier resume"},
        {"vocab-size", OPT_INT, &s->text.vocab_size, .min = TOKEN_SPECIALS + 1, .max = 1e6,
         .help = "tokens to keep, the most frequent; other words are [UNK]",
         .excludes = "classifier", .result = 1},
        {"min-frequency", OPT_INT, &s->text.min_frequency, .min = 1, .max = 1e8,
         .help = "words that occur less often are [UNK], pairs of bpe stay two",
         .deflt = "1; 3 if so rare words are many, but at most 3 % of the text",
         .excludes = "classifier", .result = 1},
        {"lr", OPT_REAL, &s->lr, .everyday = 1, .min = 1e-9, .max = 10,
         .help = "learning rate of AdamW: how far a step moves the weights",
         .deflt = "0.002; 0.0005 with --classifier", .result = 1},
        {"warmup", OPT_INT, &s->warmup, .max = 1e8,
         .help = "steps over which the learning rate rises", .result = 1},
        {"weight-decay", OPT_REAL, &s->weight_decay, .max = 10,
         .help = "of all weights but biases and LayerNorm", .result = 1},
        {"dropout", OPT_REAL, &s->dropout, .max = 0.95,
         .help = "share of activations that a step leaves out", .result = 1},
        {"schedule-sampler", OPT_CHOICE, &s->schedule_sampler, .choices = schedule_samplers,
         .help = "draws the t to train on, all alike or those of large loss more often",
         .excludes = "classifier", .result = 1},
        {"ema-rate", OPT_REAL, &s->ema_rate, .max = 0.9999, /* see adamw_step in tdiff.h */
         .help = "of the average of the weights over the steps, which is what samples",
         .result = 1},
        {"clip", OPT_REAL, &s->clip, .max = 1e9,
         .help = "largest norm of the gradient; 0: no limit", .result = 1},
        {"seed", OPT_INT, &s->seed, .everyday = 1, .max = INT32_MAX,
         .help = "of everything random: the same seed gives the same model", .result = 1},
        /* no help: in the checkpoint only */
        {"text", OPT_TEXT, &s->text_path, .result = 1},
        {"text-bytes", OPT_REAL, &s->text_bytes, .max = 1e18, .result = 1},
        {"corpus", OPT_TEXT, &s->fingerprint, .result = 1},
        {"val-corpus", OPT_TEXT, &s->val_fingerprint, .result = 1},
        {"denoiser-is", OPT_TEXT, &s->denoiser_is, .result = 1},
        {"earlier-steps", OPT_TEXT, &s->earlier_steps, .result = 1},
        {"arithmetic", OPT_TEXT, &s->arithmetic, .result = 1},
        {"threads", OPT_INT, &s->threads, .everyday = 1, .min = 1, .max = 1024,
         .help = "does not change the result"},
        {"log-interval", OPT_INT, &s->log_interval, .min = 1, .max = 1e8,
         .help = "steps between lines of the log"},
        {"progress-seconds", OPT_REAL, &s->progress_seconds, .min = 0.01, .max = 1e6,
         .help = "between lines of progress on a terminal, of which every tenth stays"},
        {"preview", OPT_INT, &s->preview, .max = 1e8,
         .help = "steps between samples of the model as it is then, on a terminal; 0: none",
         .deflt = "a tenth of --steps, for at most 2 % of the time", .excludes = "classifier"},
        {"save-interval", OPT_INT, &s->save_interval, .min = 1, .max = 1e8,
         .help = "steps between checkpoints"},
        {"save-minutes", OPT_REAL, &s->save_minutes, .min = 0.001, .max = 1e6,
         .help = "minutes between checkpoints, if those steps take longer"},
        {"keep-every", OPT_INT, &s->keep_every, .max = 1e8,
         .help = "steps between checkpoints that stay, as NAME-STEP.safetensors, to choose from; "
                 "0: none"},
        {"dry-run", OPT_FLAG, &s->dry_run, .everyday = 1,
         .help =
             "say what memory and time the run would take, after five steps, and write nothing"},
        {"resume", OPT_TEXT, &s->resume, .what = "FILE", .everyday = 1,
         .help = "go on with this checkpoint; options that determine the result must agree, but "
                 "--steps may change"},
        {"init", OPT_TEXT, &s->init, .what = "FILE", .everyday = 1,
         .help = "begin with the weights of this checkpoint, or of a safetensors file with the "
                 "names of the original; shape and vocabulary are its own",
         .excludes = "resume classifier", .result = 1},
        {"grow-vocab", OPT_FLAG, &s->grow_vocab,
         .help = "add the words of the text that the checkpoint of --init does not know",
         .needs = "init"},
        {"init-pretrained", OPT_FLAG, &s->init_pretrained,
         .help = "take the layers from the BERT (Hugging Face's names) of --init", .needs = "init"},
        {"use-pretrained-embeddings", OPT_FLAG, &s->pretrained_embeddings,
         .help = "take its embeddings of words and positions, without projections",
         .needs = "init"},
        {"freeze-embeddings", OPT_FLAG, &s->freeze_embeddings, .excludes = "classifier",
         .help = "leave the embeddings of words and positions as they are", .result = 1},
        {"export", OPT_TEXT, &s->export, .what = "FILE",
         .help = "copy this checkpoint, without what only --resume needs, into the file that is "
                 "named behind it",
         .excludes = "*"},
        {"overwrite", OPT_FLAG, &s->overwrite, .everyday = 1,
         .help = "begin anew where there is a checkpoint or log already", .excludes = "resume"},
        {"help", OPT_FLAG, &s->help, .everyday = 1, .help = "print this"},
        {"version", OPT_FLAG, &s->version, .everyday = 1, .help = "print the version"},
        {.name = NULL},
    };
    Option *table =
        checked_alloc(CONFIG_OPTIONS + sizeof options / sizeof *options, sizeof *table, err);
    if (!table) return NULL;
    config_options(table, &s->config);
    for (int i = 0; i < CONFIG_OPTIONS; i++) table[i].excludes = "classifier";
    memcpy(table + CONFIG_OPTIONS, options, sizeof options);
    return table;
}

/* path without its folder, and without the first of the suffixes (NULL-terminated) that it ends in
 */
static void base_name(Buffer *out, const char *path, const char *const *suffixes)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t n = strlen(base);
    for (; *suffixes; suffixes++) {
        size_t k = strlen(*suffixes);
        if (n > k && !strcmp(base + n - k, *suffixes)) {
            n -= k;
            break;
        }
    }
    buffer_add(out, base, n);
}

/* ---- training ------------------------------------------------------------------------------- */

/* Sentences of a batch that are computed together: those of one length, N. */
typedef struct {
    int first, count, N;
    size_t at; /* positions of the batch before them */
} Group;

/* Sums over the steps since the last line of the log; of what resampling drew more often, each
 * counts for less (weight). */
typedef struct {
    double loss, mse, decoder_nll, tT_loss, head_nll, quartile[4], weight[4];
    int steps;
} Sums;

/* What the line of progress needs: the last line of the log, val as it was last and before. */
typedef struct {
    Sums sums;
    double val, val_before, accuracy[4]; /* NAN: it was not measured yet */
    int seen[4]; /* of mse, decoder_nll, tT, head_nll: was it ever more than 0.0000? */
    double at;   /* when it was printed last */
    int lines;
} Told;

enum { REMEMBERED = 10 };
typedef struct {
    Settings s;
    Option *options;
    Checkpoint from;              /* of --resume or --init, while it is read */
    char *remembered[REMEMBERED]; /* texts that it says */
    Tokenizer tokenizer;          /* of a classifier: its labels */
    Corpus corpus, val;
    Model model;
    Model denoiser; /* of a classifier: whose samples it is to guide, and that one's words */
    Tokenizer words;
    int *label, *val_label; /* one for every sentence of corpus and of val */
    Workspace work;
    Optimizer optimizer;
    Diffusion diffusion;
    Resampler resampler; /* with loss-second-moment: otherwise empty */
    /* what the checkpoint holds beside the weights: the resampler's losses, the lengths */
    Tensor extra[2];
    int extras;
    real *length_count;   /* (max_positions+1) */
    unsigned char *decay; /* (num_tensors) */
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
    double val_unseen;       /* pairs_never_seen of the held-out text */
    double tokens;           /* of all batches of this run */
    char fingerprint[3][20]; /* of the corpus, of the held-out text, of the denoiser */
    Log log;
    Told told;
    int done, saved; /* steps: taken, and those that the checkpoint has */
} Training;

/* Makes a batch of these sentences, sorted by length and cut into groups. */
static void take_sentences(Training *r, const Corpus *c, const int *label, const int *row,
                           int count)
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
static int batch_begin(const Training *r, int k)
{
    const int all = r->corpus.rows * r->copies, blocks = (all + r->block - 1) / r->block;
    const int begin = r->block * (int)((int64_t)blocks * k / r->batches);
    return begin < all ? begin : all;
}

/* The batch of a step: sentences, t, noise. */
static void draw_batch(Training *r, int step)
{
    const size_t D = r->s.config.emb_dim;
    const uint64_t seed = (uint64_t)r->s.seed, epoch = (uint64_t)(step / r->batches);
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

/* Half of the steps give the network an estimate of its own. */
static int self_condition(const Settings *s, int step)
{
    return s->config.self_conditioning &&
           rng_below(rng_key((uint64_t)s->seed, RNG_SELF_CONDITION, step, 0), 0, 2);
}

static void swap_arenas(real *a, real *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        real x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
}

/* Sentences of N positions that are computed at a time */
static int piece(const Settings *s, int count, int N)
{
    const int most = piece_of_batch(count, N);
    return s->microbatch && s->microbatch < most ? s->microbatch : most;
}

/* ---- several machines -------------------------------------------------------------------------
 * Built by make MPI=1 and begun by mpirun, ./train is several processes, its ranks. All have the
 * whole model and draw the same batch; each computes a part of every group's losses, the gradients
 * are added up, and all take the same step. Rank 0 alone speaks, measures val, logs and saves. */
static int rank = 0, ranks = 1;
#ifdef TDIFF_MPI
#include <mpi.h>

static void begin_ranks(int *argc, char ***argv)
{
    MPI_Init(argc, argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (rank > 0 && !freopen("/dev/null", "w", stderr)) MPI_Abort(MPI_COMM_WORLD, 1);
}

/* One that fails ends all. */
static int end_ranks(int status)
{
    if (ranks > 1 && (status == 1 || status == 2)) MPI_Abort(MPI_COMM_WORLD, status);
    MPI_Finalize();
    return status;
}

/* The gradients and losses of all ranks together */
static void add_up_ranks(Training *r)
{
    const MPI_Datatype type = sizeof(real) == 4 ? MPI_FLOAT : MPI_DOUBLE;
    const size_t most = 1 << 28, n = ranks > 1 ? r->model.num_params : 0;
    for (size_t i = 0; i < n; i += most)
        MPI_Allreduce(MPI_IN_PLACE, r->model.grads + i, (int)(n - i < most ? n - i : most), type,
                      MPI_SUM, MPI_COMM_WORLD);
    if (ranks > 1)
        MPI_Allreduce(MPI_IN_PLACE, r->terms.mse, 5 * r->s.batch, MPI_DOUBLE, MPI_SUM,
                      MPI_COMM_WORLD);
}

static int stopping(void) /* has a signal come to any of them? */
{
    int signal = stop_signal();
    MPI_Allreduce(MPI_IN_PLACE, &signal, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return signal;
}

static double slowest(double time) /* what the slowest of them takes */
{
    MPI_Allreduce(MPI_IN_PLACE, &time, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return time;
}
#else
static void begin_ranks(int *argc, char ***argv) { (void)argc, (void)argv; }
static int end_ranks(int status) { return status; }
static void add_up_ranks(Training *r) { (void)r; }
static int stopping(void) { return stop_signal(); }
static double slowest(double time) { return time; }
#endif

/* The mean loss of the batch and, with backward, its gradient, group by group: of the denoiser or
 * of the classifier. Every position counts alike, whatever the length of its sentence. */
static double losses(Training *r, int self_conditioned, int backward, Dropout drop)
{
    const size_t D = r->s.config.emb_dim;
    const int parts = backward ? ranks : 1, part = backward ? rank : 0;
    double mean = 0, loss;
    Error never;
    if (parts > 1) memset(r->terms.mse, 0, 5 * (size_t)r->s.batch * sizeof *r->terms.mse);
    for (int k = 0; k < r->groups; k++) {
        const Group *g = &r->group[k];
        const int from = g->count * part / parts, count = g->count * (part + 1) / parts - from;
        const int first = g->first + from;
        const size_t at = g->at + (size_t)from * g->N;
        const Losses terms = losses_at(&r->terms, first);
        /* a piece of a group adds to the bits from 32 on, too */
        const Dropout own = {drop.key + ((uint64_t)k << 48) + ((uint64_t)from << 32), drop.rate, 0};
        const double share = (double)count * g->N / r->positions;
        if (count == 0) continue;
        for (int b = first; b < first + count; b++) r->scaled[b] = r->weight[b] * (real)share;
        const Batch y = {r->ids + at,
                         r->t + first,
                         r->noise_x0 + at * D,
                         r->noise_t + at * D,
                         r->scaled + first,
                         self_conditioned,
                         count,
                         g->N};
        workspace_fit(&r->work, &r->s.config, piece(&r->s, count, g->N), g->N,
                      &never); /* it was as large before */
        loss =
            !r->label
                ? training_losses(&r->model, &r->work, &terms, &r->diffusion, &y, backward, own)
                : classifier_losses(&r->model, &r->work, terms.loss, r->guess + first, &r->denoiser,
                                    &r->diffusion, &y, r->labels + first, backward, own);
        mean += loss * share;
    }
    if (backward) add_up_ranks(r);
    return mean;
}

/* The loss of the averaged weights on so many held-out sentences; t spread evenly, always the same
 * noise. accuracy: the share of labels that a classifier finds, by noise quartile. */
static double validation_loss(Training *r, int most, double accuracy[4])
{
    const int rows = r->val.rows < most ? r->val.rows : most;
    const size_t D = r->s.config.emb_dim;
    const Dropout none = {0, 0, 0};
    int right[4] = {0}, of[4] = {0}, *row = r->scratch, count;
    double total = 0, positions = 0;
    swap_arenas(r->model.params, r->optimizer.ema, r->model.num_params);
    rng_shuffle(r->val_rank, rows, 0);
    for (int next = 0; next < r->val.rows;) {
        for (count = 0; next < r->val.rows && count < r->s.batch; next++)
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
        total += r->positions * losses(r, 0, 0, none);
        positions += r->positions;
        for (int b = 0; b < count && r->label; b++) {
            int quartile = (int)(4 * (int64_t)r->t[b] / r->diffusion.T);
            right[quartile] += r->guess[b] == r->labels[b];
            of[quartile]++;
        }
    }
    for (int q = 0; q < 4; q++) accuracy[q] = of[q] ? (double)right[q] / of[q] : 0;
    swap_arenas(r->model.params, r->optimizer.ema, r->model.num_params);
    return total / positions;
}

static void add_up(Sums *sums, Training *r)
{
    sums->steps++;
    r->tokens += r->positions;
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

/* ---- a few sentences ---------------------------------------------------------------------------
 * What the weights of now make of noise, for people to read and to be counted. */

enum { PREVIEWED = 3, FEW_STEPS = 20 };

typedef struct {
    uint64_t seed;
    int first, count; /* sentences that are computed together: the number of the first */
    size_t n;         /* numbers of a sentence */
} FewNoise;

static void draw_few_noise(void *context, real *out, int t)
{
    const FewNoise *f = context;
    for (int b = 0; b < f->count; b++)
        rng_gaussian(out + b * f->n, f->n,
                     rng_key(f->seed, RNG_SAMPLE, (uint64_t)t, (uint64_t)f->first + (uint64_t)b));
}

/* Sentences first to first + count - 1, of N positions: ids (count,N). x, known_x: room for
 * (count,N,D), known: for (count,N). As many at a time as the workspace had room for before. */
static int draw_few(Training *r, const Diffusion *d, int N, int first, int count, int *ids, real *x,
                    real *known_x, unsigned char *known, Error *err)
{
    const Model *m = &r->model;
    const int D = m->config.emb_dim, *special = r->tokenizer.special;
    const int last = first + count, has_length = r->length_count != NULL;
    FewNoise noise = {(uint64_t)r->s.seed, first, count, (size_t)N * D};
    const Sampler sampler = {.noise = draw_few_noise,
                             .context = &noise,
                             .ddim = m->config.predict == PREDICT_SOFTMAX,
                             .eta = USUAL_ETA,
                             .ahead = USUAL_AHEAD,
                             .known = has_length ? known : NULL,
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
        if (has_length)
            for (int b = 0; b < noise.count; b++) {
                ids[b * N] = special[TOKEN_CLS];
                ids[b * N + N - 1] = special[TOKEN_SEP];
            }
    }
    return 0;
}

/* Of each of `lengths` lengths, which are spread as those of the text are, `each` sentences, by few
 * steps of the averaged weights and from noise that is always the same: *drawn has their ids. The
 * run does not change: the weights come back, and what else is written is scratch. */
static int few_sentences(Training *r, Corpus *drawn, int lengths, int each, Error *err)
{
    const Config *c = &r->s.config;
    Model *m = &r->model;
    const int D = c->emb_dim, T = c->diffusion_steps, *special = r->tokenizer.special;
    const size_t most = (size_t)each * c->max_positions;
    real bias[TOKEN_SPECIALS];
    Diffusion d = {0};
    int status = -1;
    real *x = checked_alloc(most, 2 * D * sizeof *x, err);
    unsigned char *known = checked_alloc(most, 1, err), *kept = checked_alloc(T, 1, err);
    drawn->ids = checked_alloc(lengths * most, sizeof *drawn->ids, err);
    drawn->start = checked_alloc(lengths * each + 1, sizeof *drawn->start, err);
    swap_arenas(m->params, r->optimizer.ema, m->num_params);
    embedding_table_forward(m);
    for (int role = 0; role < TOKEN_SPECIALS; role++) { /* words only, as in ./sample */
        real *of = &m->lm_head_bias->data[special[role]];
        const int is_place = role != TOKEN_UNK && role != TOKEN_MASK;
        bias[role] = *of;
        if (r->length_count || !is_place) *of = (real)-1e30;
    }
    if (x && known && kept && drawn->ids && drawn->start &&
        (T < FEW_STEPS || steps_from_noise(kept, T, "20", err) == FEW_STEPS) &&
        !diffusion_init(&d, c->noise_schedule, T, T < FEW_STEPS ? NULL : kept, err))
        status = 0;
    for (int k = 0; k < lengths && !status; k++) {
        const int N = r->length_count ? draw_length(r->length_count, SHORTEST, c->max_positions,
                                                    (k + 0.5) / lengths)
                                      : c->seq_len;
        status = draw_few(r, &d, N, drawn->rows, each, drawn->ids + drawn->start[drawn->rows], x,
                          x + most * D, known, err);
        for (int i = 0; i < each; i++, drawn->rows++)
            drawn->start[drawn->rows + 1] = drawn->start[drawn->rows] + N;
    }
    for (int role = TOKEN_SPECIALS; role-- > 0;) m->lm_head_bias->data[special[role]] = bias[role];
    swap_arenas(m->params, r->optimizer.ema, m->num_params);
    diffusion_free(&d);
    free(kept);
    free(known);
    free(x);
    return status;
}

/* Prints a few of them, on a terminal. */
static int preview(Training *r, Error *err)
{
    Corpus drawn = {0};
    int columns, rows;
    const int status = few_sentences(r, &drawn, 1, PREVIEWED, err);
    terminal_size(stderr, &columns, &rows);
    if (!status) fprintf(stderr, "\r\x1b[Kstep %d makes of noise:\n", r->done);
    for (int b = 0; b < drawn.rows && !status; b++) {
        Buffer text = {0};
        size_t fits = 0;
        tokenizer_decode(&r->tokenizer, drawn.ids + drawn.start[b], sentence_length(&drawn, b), 0,
                         &text);
        hide_controls(text.text);
        if (text.text) text_columns(text.text, text.length, columns - 2, &fits);
        fprintf(stderr, "  %.*s\n", (int)fits, text.text ? text.text : "");
        free(text.text);
    }
    corpus_free(&drawn);
    return status;
}

/* ---- salad or memory? --------------------------------------------------------------------------
 * The loss does not say what samples are like. Two figures do: pairs of neighbours that the
 * training text never has, of which salad is full, and sentences that it has word for word. They
 * are those of a few sentences, by few steps of the sampler, always from the same noise. */
enum {
    LENGTHS = 4, /* spread as those of the text are */
    OF_EACH = 8  /* sentences, computed together */
};

/* How often in the run: as often as a fiftieth of the time allows, the last time at its end. A
 * training step computes a sentence forward and back, which is about three times forward. */
static int figures_due(const Settings *s, int done, int since)
{
    const double training = 3.0 * s->batch * s->steps, sampling = LENGTHS * OF_EACH * FEW_STEPS;
    const int64_t times = (int64_t)(training / 50 / sampling);
    return times * done / s->steps > times * (done - since) / s->steps;
}

/* Of 100 pairs of neighbours in these sentences, [CLS] and [SEP] included, how many are not in the
 * text; or -1: out of memory. */
static double pairs_never_seen(const Corpus *text, const Corpus *sentences, Error *err)
{
    const int *ids = sentences->ids;
    Pairs pairs = {0};
    unsigned char *seen = NULL;
    int status = 0;
    double unseen = 0, all = 0;
    for (int row = 0; row < sentences->rows; row++)
        for (size_t i = sentences->start[row] + 1; i < sentences->start[row + 1] && !status; i++)
            if (pair_add(&pairs, ids[i - 1], ids[i]) < 0) status = fail(err, "out of memory");
    if (!status && !(seen = checked_alloc(pairs.count, 1, err))) status = -1;
    for (int row = 0; row < text->rows && !status; row++)
        for (size_t i = text->start[row] + 1; i < text->start[row + 1]; i++) {
            const int k = pair_find(&pairs, text->ids[i - 1], text->ids[i]);
            if (k < pairs.count) seen[k] = 1;
        }
    for (int row = 0; row < sentences->rows && !status; row++)
        for (size_t i = sentences->start[row] + 1; i < sentences->start[row + 1]; i++, all++)
            unseen += !seen[pair_find(&pairs, ids[i - 1], ids[i])];
    free(seen);
    free(pairs.pair);
    free(pairs.slot);
    return status ? -1 : 100 * unseen / all;
}

/* The share of these sentences, in percent, that the text has */
static double copied_share(const Corpus *text, const Corpus *sentences)
{
    int copied = 0;
    for (int i = 0; i < sentences->rows; i++) {
        const int N = sentence_length(sentences, i), *ids = sentences->ids + sentences->start[i];
        int row = 0;
        while (row < text->rows && (sentence_length(text, row) != N ||
                                    memcmp(text->ids + text->start[row], ids, N * sizeof *ids)))
            row++;
        copied += row < text->rows;
    }
    return 100.0 * copied / sentences->rows;
}

/* Adds both figures of the averaged weights to the line of the log, and tells people. */
static int text_figures(Training *r, Buffer *line, Error *err)
{
    Corpus drawn = {0};
    int status = few_sentences(r, &drawn, LENGTHS, OF_EACH, err);
    const double unseen = status ? 0 : pairs_never_seen(&r->corpus, &drawn, err);
    if (unseen < 0) status = -1;
    if (!status) {
        const double copied = copied_share(&r->corpus, &drawn);
        fprintf(stderr, "%sstep %d: pairs never seen %.0f %%",
                on_terminal(stderr) ? "\r\x1b[K" : "", r->done, unseen);
        if (r->val.rows) fprintf(stderr, " (val %.0f)", r->val_unseen);
        fprintf(stderr, ", copied %.0f %%\n", copied);
        buffer_print(line, ",\"pairs_never_seen\":%.6g,\"copied\":%.6g", unseen, copied);
        if (r->val.rows) buffer_print(line, ",\"val_pairs_never_seen\":%.6g", r->val_unseen);
    }
    corpus_free(&drawn);
    return status;
}

/* What does not end the run: the next interval tries again. */
static void complain(const Training *r, const Error *err)
{
    fprintf(stderr, "%strain: step %d: %s\n", on_terminal(stderr) ? "\n" : "", r->done, err->text);
}

/* The line of progress, as much of it as fits: what matters least is left out first. On a terminal
 * the next one takes its place, but for every tenth. */
static void tell(Training *r, const Sums *now, double elapsed, int steps_run)
{
    enum { STEP, LOSS, MSE, DECODER_NLL, TT, HEAD_NLL, VAL, MOVED, RIGHT, SPEED, LEFT, PARTS };
    static const int dispensable[] = {TT, DECODER_NLL, MSE, HEAD_NLL, MOVED, SPEED, RIGHT};
    static const char *const names[] = {"mse", "decoder_nll", "tT", "head_nll"};
    Told *told = &r->told;
    const Sums *sums = now->steps ? now : &told->sums;
    const double terms[] = {sums->mse, sums->decoder_nll, sums->tT_loss, sums->head_nll};
    const int k = sums->steps, terminal = on_terminal(stderr);
    Buffer part[PARTS] = {{0}};
    int columns, rows, length = 0;
    terminal_size(stderr, &columns, &rows);
    buffer_print(&part[STEP], "step %d/%d", r->done, r->s.steps);
    buffer_print(&part[LOSS], "  loss %.4f", sums->loss / k);
    if (!r->label) /* a classifier's loss is one term */
        for (int i = 0; i < 4; i++) {
            told->seen[i] |= terms[i] / k >= 5e-5;
            if (told->seen[i]) buffer_print(&part[MSE + i], "  %s %.4f", names[i], terms[i] / k);
        }
    if (!isnan(told->val)) buffer_print(&part[VAL], "  val %.4f", told->val);
    if (!isnan(told->val_before))
        buffer_print(&part[MOVED], " (%+.4f)", told->val - told->val_before);
    if (r->label && !isnan(told->val))
        for (int q = 0; q < 4; q++)
            buffer_print(&part[RIGHT], "%s%.0f%s", q ? " " : "  right ", 100 * told->accuracy[q],
                         q < 3 ? "" : " %");
    buffer_print(&part[SPEED], "  %.0f tokens/s", r->tokens / elapsed);
    buffer_print(&part[LEFT], "  ");
    buffer_duration(&part[LEFT], (r->s.steps - r->done) * elapsed / steps_run);
    buffer_print(&part[LEFT], " left");
    for (int i = 0; i < PARTS; i++) length += (int)part[i].length;
    for (int i = 0; i < 7 && length > columns; i++) {
        length -= (int)part[dispensable[i]].length;
        part[dispensable[i]].length = 0;
    }
    if (terminal) fputc('\r', stderr);
    for (int i = 0; i < PARTS; i++) {
        if (part[i].length) fputs(part[i].text, stderr);
        free(part[i].text);
    }
    told->lines++;
    fprintf(stderr, "%s%s", terminal ? "\x1b[K" : "",
            !terminal || told->lines % 10 == 0 ? "\n" : "");
    told->at = elapsed;
}

/* A line of the log; -1 if it cannot be written. */
static int report(Training *r, Sums *sums, double lr, double norm, double elapsed, int steps_run,
                  Error *err)
{
    const int k = sums->steps;
    Told *told = &r->told;
    Buffer line = {0};
    if (r->val.rows) {
        const int all = r->label && r->done == r->s.stop_at;
        told->val_before = told->val;
        told->val = validation_loss(r, all ? r->val.rows : VALIDATED, told->accuracy);
    }
    buffer_print(&line, "{\"step\":%d,\"lr\":%.6g,\"grad_norm\":%.6g,\"loss\":%.6g", r->done, lr,
                 norm, sums->loss / k);
    if (!r->label)
        buffer_print(&line, ",\"mse\":%.6g,\"decoder_nll\":%.6g,\"tT_loss\":%.6g", sums->mse / k,
                     sums->decoder_nll / k, sums->tT_loss / k);
    if (r->s.config.predict == PREDICT_SOFTMAX)
        buffer_print(&line, ",\"head_nll\":%.6g", sums->head_nll / k);
    for (int q = 0; q < 4; q++) {
        buffer_print(&line, "%s", q ? "," : ",\"loss_by_noise_quartile\":[");
        if (sums->weight[q] > 0)
            buffer_print(&line, "%.6g", sums->quartile[q] / sums->weight[q]);
        else
            buffer_print(&line, "null");
    }
    buffer_print(&line, "]");
    if (r->val.rows) buffer_print(&line, ",\"val_loss\":%.6g", told->val);
    if (r->length_count && figures_due(&r->s, r->done, k) && text_figures(r, &line, err))
        complain(r, err);
    if (r->val.rows && r->label)
        for (int q = 0; q < 4; q++)
            buffer_print(&line, "%s%.6g%s", q ? "," : ",\"accuracy_by_noise_quartile\":[",
                         told->accuracy[q], q < 3 ? "" : "]");
    buffer_print(&line, ",\"seconds\":%.2f}\n", elapsed);
    told->sums = *sums;
    memset(sums, 0, sizeof *sums);
    const int status = log_add(&r->log, r->done - steps_run, &line, err);
    free(line.text);
    return status;
}

static int save_as(const Training *r, const char *path, Error *err)
{
    return rank == 0 ? checkpoint_save(path, &r->model, &r->optimizer, r->extra, r->extras,
                                       &r->tokenizer, r->options, r->done, err)
                     : 0;
}

static int save(Training *r, Error *err)
{
    if (save_as(r, r->s.out, err)) return -1;
    r->saved = r->done;
    return 0;
}

/* The name of the checkpoint of a step that --keep-every keeps; the caller frees name->text. */
static int kept_name(const Settings *s, int step, Buffer *name, Error *err)
{
    char ending[40];
    snprintf(ending, sizeof ending, "-%d.safetensors", step);
    checkpoint_beside(s->out, ending, name);
    return name->failed ? fail(err, "out of memory") : 0;
}

static int keep(const Training *r, Error *err)
{
    Buffer name = {0};
    const int status = kept_name(&r->s, r->done, &name, err) || save_as(r, name.text, err);
    free(name.text);
    return status ? -1 : 0;
}

/* What of this step is not finite. */
static const char *not_finite(const Training *r)
{
    const char *const names[] = {"mse", "decoder_nll", "tT_loss", "head_nll", "loss"};
    const double *const terms[] = {r->terms.mse, r->terms.decoder_nll, r->terms.tT_loss,
                                   r->terms.head_nll, r->terms.loss};
    for (int k = 0; k < 5; k++)
        for (int b = 0; b < r->count; b++)
            if (!(terms[k][b] - terms[k][b] == 0)) return names[k];
    return "the gradient";
}

/* What a step tells the log */
typedef struct {
    double lr, norm; /* of the gradient */
} Step;

static Step train_step(Training *r)
{
    const Settings *s = &r->s;
    const int step = r->done;
    const Dropout drop = {rng_key((uint64_t)s->seed, RNG_DROPOUT, step, 0), s->dropout, 0};
    draw_batch(r, step);
    losses(r, self_condition(s, step), 1, drop);
    if (s->freeze_embeddings) freeze_embeddings(&r->model);
    if (r->resampler.T) resampler_update(&r->resampler, r->t, r->terms.loss, r->count);
    const double norm = gradient_norm(&r->model, &r->optimizer);
    const double lr = learning_rate(s->lr, step, s->warmup, s->steps);
    if (norm - norm == 0) { /* finite */
        adamw_step(&r->model, &r->optimizer, step, lr, s->weight_decay, r->decay,
                   ema_warmup(s->ema_rate, step), clip_factor(norm, s->clip));
        r->done++;
    }
    return (Step){lr, norm};
}

static int train(Training *r, Error *err)
{
    const Settings *s = &r->s;
    const int terminal = on_terminal(stderr), first = r->done;
    Sums sums = {0};
    const double start = seconds();
    int log_status = 0, told = 0;
    double saved_at = 0, previewing = 0, last_preview = 0;
    Pace pace;
    const int given = option_given(r->options, &s->preview);
    const int previews = r->label ? 0 : given ? s->preview : s->steps / 10;
    pace_begin(&pace, s->threads, ranks == 1 && !option_given(r->options, &s->threads));
    r->told.val = r->told.val_before = NAN;
    r->saved = first;
    stop_note("stopping after this step, then saving\n");
    catch_signals();
    while (r->done < s->stop_at && !stopping()) {
        const int step = r->done;
        const double begun = seconds();
        const Step last = train_step(r);
        pace_step(&pace, (double)r->positions, seconds() - begun);
        if (r->done == step) /* do not save over the last good state */
            return fail(err, "step %d: %s is not finite; a lower --lr may help. %s %s", step + 1,
                        not_finite(r),
                        r->saved > first ? "The last good state is in"
                                         : "This run has saved nothing in",
                        s->out);
        add_up(&sums, r);
        const double elapsed = seconds() - start, per_step = elapsed / (r->done - first);
        const double hours = per_step * (s->stop_at - r->done) / 3600;
        stop_note("%sstopping after this step, about %.0f s, then saving\n", terminal ? "\n" : "",
                  ceil(per_step));
        const int ends = r->done == s->stop_at || stop_signal();
        const int due = r->done % s->log_interval == 0 || ends;
        if (due && rank == 0) {
            log_status = report(r, &sums, last.lr, last.norm, elapsed, r->done - first, err);
            if (log_status) complain(r, err);
        }
        const double asked = s->preview ? HUGE_VAL : 0.02 * elapsed;
        if (rank == 0 && terminal && previews && r->done % previews == 0 &&
            previewing + last_preview <= asked) {
            const double from = seconds();
            if (preview(r, err)) complain(r, err);
            last_preview = seconds() - from, previewing += last_preview;
        }
        if (rank == 0 && (terminal ? ends || elapsed >= r->told.at + s->progress_seconds : due)) {
            tell(r, &sums, elapsed, r->done - first);
            told = 1;
        }
        if (!told && !terminal && elapsed > 3) {
            fprintf(stderr, hours < 1 ? "about %.0f minutes to go\n" : "about %.1f hours to go\n",
                    hours < 1 ? ceil(60 * hours) : hours);
            told = 1;
        }
        if (s->keep_every && r->done % s->keep_every == 0 && keep(r, err)) complain(r, err);
        if (r->done < s->stop_at &&
            (r->done % s->save_interval == 0 || elapsed - saved_at > 60 * s->save_minutes)) {
            if (save(r, err)) complain(r, err);
            saved_at = elapsed;
        }
    }
    if (terminal && r->told.lines % 10) fputc('\n', stderr);
    if (r->saved < r->done && save(r, err)) return -1;
    if (log_status) return fail(err, "%s: its last lines are missing", r->log.path);
    fprintf(stderr, "%s %s after step %d of %d (%.1f s)\n",
            r->done > first ? "wrote" : "stopped before anything was written:", s->out, r->done,
            s->steps, seconds() - start);
    if (r->done == s->steps && r->log.file)
        fprintf(stderr,
                "now: ./sample %s%s%s%s\nits loss as a picture: make draw && build/draw loss %s > "
                "loss.svg\n",
                r->label ? s->denoiser : s->out, r->label ? " --guide " : "",
                r->label ? s->out : "", r->label ? " --label LABEL" : "", r->log.path);
    return 0;
}

/* ---- what a classifier needs more ----------------------------------------------------------- */

static int load_denoiser(Training *r, Error *err)
{
    Config *c = &r->s.config, of = {0};
    Checkpoint k;
    int steps_done, status = -1;
    if (!checkpoint_open(&k, r->s.denoiser, err) && !checkpoint_is(&k, NULL, err) &&
        !checkpoint_config(&k, &of, &r->words, &steps_done, err) &&
        !model_init(&r->denoiser, &of, err) &&
        !checkpoint_tensors(&k, &r->denoiser, "", r->denoiser.params, err))
        status = 0;
    checkpoint_close(&k);
    if (status) return -1;
    embedding_table_forward(&r->denoiser);
    *c = of;
    c->predict = PREDICT_XSTART, c->emb_norm = 0;
    return 0;
}

/* A classifier begins with what its denoiser knows of noisy words; only its labels are new, and
 * nearly alike. */
static void begin_with_denoiser(Model *m, const Model *denoiser)
{
    for (int i = 0; i < m->num_tensors; i++) {
        const Tensor *t = &m->tensors[i];
        if (t != m->word_embedding && t != m->lm_head_bias)
            memcpy(t->data, denoiser->tensors[i].data, t->size * sizeof *t->data);
        else
            for (size_t j = 0; j < t->size; j++) t->data[j] *= (real)0.1;
    }
}

/* Takes the labels off the lines: their numbers into r->label, their names into r->tokenizer. */
static int take_labels(Training *r, const char *path, Error *err)
{
    Corpus *c = &r->corpus;
    Error inner;
    size_t to = 0;
    int line = 0, rows = 0, unused[2];
    for (size_t i = 0; i < c->length; i++) line += c->text[i] == '\n';
    if (!(r->label = checked_alloc((size_t)line + 1, sizeof *r->label, err))) return -1;
    line = 0;
    for (size_t at = 0, end, next; at < c->length; at = next) {
        char *newline = memchr(c->text + at, '\n', c->length - at);
        end = newline ? (size_t)(newline - c->text) : c->length;
        next = end + 1;
        line++;
        while (end > at && strchr(" \r", c->text[end - 1])) end--;
        if (end == at) continue; /* blank */
        size_t tab = end;
        while (tab > at && c->text[tab - 1] != '\t') tab--;
        if (tab == at || tab == end || memchr(c->text + tab, 0, end - tab))
            return fail(err, "%s: line %d: expected a sentence, a TAB and a label", path, line);
        if (tokenizer_encode(&r->words, c->text + at, tab - 1 - at, unused, 2) <= 2)
            return fail(err, "%s: line %d: no sentence before the TAB", path, line);
        c->text[end] = '\0';
        r->label[rows] = tokenizer_add(&r->tokenizer, c->text + tab, &inner);
        if (r->label[rows] < 0) return fail(err, "%s: line %d: %.400s", path, line, inner.text);
        if (r->label[rows] < TOKEN_SPECIALS)
            return fail(err, "%s: line %d: %s cannot be a label", path, line, c->text + tab);
        rows++;
        memmove(c->text + to, c->text + at, tab - at);
        to += tab - at;
        c->text[to - 1] = '\n';
    }
    c->length = to;
    if (rows < 10)
        return fail(err, "%s: %d sentences; expected 10 at least, of which a tenth is held out",
                    path, rows);
    if (r->tokenizer.size < TOKEN_SPECIALS + 2)
        return fail(err, "%s: a single label; expected two at least", path);
    return 0;
}

static int same_but_for_case(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) a++, b++;
    return !*a && !*b;
}

/* What may be wrong with labels: count[i] sentences have label i. */
static void note_labels(const Training *r, const char *path, const int *count)
{
    const Tokenizer *labels = &r->tokenizer;
    const int most = labels->size < 1000 ? labels->size : 1000;
    int few = 0;
    for (int i = TOKEN_SPECIALS; i < labels->size; i++) few += count[i] < FEW;
    if (few)
        fprintf(stderr,
                "note: %s: %d of %d labels have fewer than %d sentences: of these none is "
                "held out\n",
                path, few, labels->size - TOKEN_SPECIALS, FEW);
    if (2 * (labels->size - TOKEN_SPECIALS) > r->corpus.rows)
        fprintf(stderr,
                "note: %s: nearly every sentence has a label of its own; the label stands "
                "behind the last TAB of a line\n",
                path);
    for (int i = TOKEN_SPECIALS; i < most; i++)
        for (int j = TOKEN_SPECIALS; j < i; j++)
            if (same_but_for_case(labels->token[i], labels->token[j])) {
                Buffer pair = {0};
                buffer_print(&pair, "'%.40s' and '%.40s'", labels->token[j], labels->token[i]);
                hide_controls(pair.text);
                fprintf(stderr, "note: %s: %s are two labels\n", path,
                        pair.failed ? "" : pair.text);
                free(pair.text);
            }
}

/* Of every label a tenth of the sentences, drawn from all of the file, goes to val; the others move
 * together. */
static int hold_out(Training *r, const char *path, Error *err)
{
    const int rows = r->corpus.rows;
    int *order = checked_alloc(rows, sizeof *order, err);
    int *count = order ? checked_alloc(r->tokenizer.size, sizeof *count, err) : NULL;
    char *held = count ? checked_alloc(rows, 1, err) : NULL;
    size_t begin = 0, end, positions = 0, held_rows = 0;
    int status = -1;
    if (!held) goto done;
    rng_shuffle(order, rows, 0);
    for (int i = 0; i < rows; i++) {
        const int row = order[i];
        if (count[r->label[row]]++ % 10 != FEW - 1) continue;
        held[row] = 1;
        held_rows++;
        positions += sentence_length(&r->corpus, row);
    }
    note_labels(r, path, count);
    r->val.longest = r->corpus.longest;
    if (!(r->val.ids = checked_alloc(positions, sizeof *r->val.ids, err)) ||
        !(r->val.start = checked_alloc(held_rows + 1, sizeof *r->val.start, err)) ||
        !(r->val_label = checked_alloc(held_rows, sizeof *r->val_label, err)))
        goto done;
    r->corpus.rows = 0;
    for (int i = 0; i < rows; i++, begin = end) {
        Corpus *c = held[i] ? &r->val : &r->corpus;
        const size_t to = c->start[c->rows];
        end = r->corpus.start[i + 1];
        memmove(c->ids + to, r->corpus.ids + begin, (end - begin) * sizeof *c->ids);
        (held[i] ? r->val_label : r->label)[c->rows++] = r->label[i];
        c->start[c->rows] = to + end - begin;
    }
    status = 0;
done:
    free(held);
    free(count);
    free(order);
    return status;
}

/* ---- what a run begins with ----------------------------------------------------------------- */

/* What the checkpoint says of key, owned by r; NULL: nothing. */
static const char *remember(Training *r, const char *key)
{
    Error none;
    char **slot = r->remembered;
    char *text = checkpoint_metadata(&r->from, key, &none);
    while (*slot) slot++;
    if (text && *text) return *slot = text;
    free(text);
    return NULL;
}

/* Takes what determines the result from the checkpoint; what was given on the command line must
 * agree with it, but for --steps. */
static int resume_options(Training *r, Error *err)
{
    for (Option *o = r->options; o->name; o++) {
        Buffer given = {0}, saved = {0};
        if (!o->result) continue;
        if (o->kind == OPT_TEXT) {
            if (!o->given) *(const char **)o->value = remember(r, o->name);
            continue;
        }
        option_print(o, &given);
        int status = checkpoint_option(&r->from, o, err);
        option_print(o, &saved);
        if (!status && o->given && o->value != &r->s.steps && !given.failed && !saved.failed &&
            strcmp(given.text, saved.text))
            status = fail(err,
                          "--%s %s: %s was trained with %s; --init %s begins a new run with "
                          "its weights",
                          o->name, given.text, r->from.path, saved.text, r->from.path);
        free(given.text);
        free(saved.text);
        if (status) return -1;
    }
    return 0;
}

/* Goes on with a run to another last step, which the learning rate is for, and notes that. */
static int change_horizon(Training *r, int steps, Error *err)
{
    Settings *s = &r->s;
    Buffer text = {0};
    if (steps <= r->done) return fail(err, "--steps %d: %s has done %d", steps, s->resume, r->done);
    fprintf(stderr, "note: the learning rate falls to 0 over %d steps from here on, not %d\n",
            steps, s->steps);
    if (s->earlier_steps) buffer_print(&text, "%s, ", s->earlier_steps);
    buffer_print(&text, "%d until step %d", s->steps, r->done);
    if (text.failed) return fail(err, "out of memory");
    r->remembered[REMEMBERED - 1] = text.text;
    s->earlier_steps = text.text, s->steps = steps;
    return 0;
}

/* There are two classes of machine, each with one result; a run of both has that of neither. */
static void note_arithmetic(Settings *s)
{
    const char *here = arithmetic_class(), *before = s->arithmetic ? s->arithmetic : here;
    s->arithmetic = strcmp(before, here) ? "fma and plain" : here;
    if (!strcmp(before, s->arithmetic)) return;
    fprintf(stderr,
            "note: %s was begun by a build of class %s, this one is of class %s (with and "
            "without fused multiply-add): the result will be that of neither\n",
            s->resume, before, here);
}

/* Options that make a Config and were not given become those of `from`. */
static void take_config(Option *table, Config *from)
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

/* --init of a checkpoint: what is not given is as it was there. */
static int init_from_ours(Training *r, Error *err)
{
    Settings *s = &r->s;
    const void *const of_vocabulary[] = {&s->text.tokenizer, &s->text.keep_case,
                                         &s->text.keep_accents, &s->text.vocab_size,
                                         &s->text.min_frequency};
    Config of;
    int steps;
    if (checkpoint_config(&r->from, &of, &r->tokenizer, &steps, err)) return -1;
    for (Option *o = r->options; o->name; o++)
        if (o->value == &s->pad && !o->given && checkpoint_option(&r->from, o, err)) return -1;
    s->text_path = remember(r, "text");
    for (int i = 0; i < 5; i++)
        if (option_given(r->options, of_vocabulary[i]))
            return fail(err, "%s: has its vocabulary already; --grow-vocab is all that changes it",
                        s->init);
    take_config(r->options, &of);
    return 0;
}

/* --init of other weights: sizes that are not given are those of the tensors that are taken. */
static int init_from_others(Training *r, Error *err)
{
    Settings *s = &r->s;
    const int bert = checkpoint_is_bert(&r->from);
    Config of = s->config, shapes = s->config;
    if (bert && !s->init_pretrained && !s->pretrained_embeddings)
        return fail(err,
                    "%s: a BERT; expected --init-pretrained, --use-pretrained-embeddings or both",
                    s->init);
    if (checkpoint_shapes(&r->from, &shapes, err)) return -1;
    if (bert)
        of.hidden = shapes.hidden, of.layers = shapes.layers, of.ffn = shapes.ffn;
    else {
        if (!option_given(r->options, &s->recipe)) s->recipe = ORIGINAL;
        apply_recipe(s, r->options);
        of = shapes;
        of.predict = s->config.predict, of.emb_norm = s->config.emb_norm;
    }
    if (s->pretrained_embeddings) {
        of.emb_dim = shapes.emb_dim, of.max_positions = shapes.max_positions;
        of.identity_projections = 1, of.self_conditioning = 0;
    }
    of.heads = shapes.heads;
    if (!of.heads && !option_given(r->options, &s->config.heads))
        return fail(err,
                    "%s: does not say how many attention heads it has, nor does a config.json "
                    "beside it; expected --heads",
                    s->init);
    take_config(r->options, &of);
    return 0;
}

/* Opens the checkpoint of --resume or --init and takes from it what is not given. */
static int open_source(Training *r, Error *err)
{
    Settings *s = &r->s;
    const int steps = s->steps, more = option_given(r->options, &s->steps);
    if (s->classifier && load_denoiser(r, err)) return -1;
    if (!s->resume && !s->init) return 0;
    if (checkpoint_open(&r->from, s->resume ? s->resume : s->init, err) ||
        checkpoint_is(&r->from, s->classifier ? &r->denoiser : NULL, err))
        return -1;
    if ((s->init_pretrained || s->pretrained_embeddings) && !checkpoint_is_bert(&r->from))
        return fail(err, "%s: no BERT: there is no embeddings.word_embeddings.weight in it",
                    s->init);
    if (s->init) return (checkpoint_is_ours(&r->from) ? init_from_ours : init_from_others)(r, err);
    if (!checkpoint_has(&r->from, "raw.word_embedding.weight"))
        return fail(err,
                    "%s: has no training state, it was exported; --init %s begins a new run "
                    "with its weights",
                    s->resume, s->resume);
    if (resume_options(r, err) ||
        checkpoint_config(&r->from, &s->config, &r->tokenizer, &r->done, err))
        return -1;
    note_arithmetic(s);
    return more && steps != s->steps ? change_horizon(r, steps, err) : 0;
}

/* The vocabulary of the text, if there is none yet, or with --grow-vocab what it has more. */
static int make_vocabulary(Training *r, const char *path, Error *err)
{
    TokenizerOptions *o = &r->s.text;
    const Corpus *c = &r->corpus;
    const int before = r->tokenizer.size, made = tokenizer_is_made(o->tokenizer);
    Buffer what = {0};
    Error inner;
    if (before && r->s.grow_vocab) {
        if (tokenizer_grow(&r->tokenizer, c->text, c->length, &inner))
            return fail(err, "%s: %.400s", path, inner.text);
        fprintf(stderr, "%s: %d words are new to %s\n", path, r->tokenizer.size - before,
                r->s.init);
    }
    if (before) return 0;
    if (made && !option_given(r->options, &o->min_frequency)) o->min_frequency = 0;
    if (tokenizer_make(&r->tokenizer, o, c->text, c->length, &inner))
        return fail(err, "%.200s: %.280s", made ? path : "--tokenizer", inner.text);
    if (made) o->min_frequency = r->tokenizer.min_frequency;
    tokenizer_describe(&r->tokenizer, &what);
    if (!made && !what.failed) fprintf(stderr, "--tokenizer %s: %s\n", o->tokenizer, what.text);
    free(what.text);
    return 0;
}

/* What depends on the text where it is not given: it is said, and recorded as if it had been given.
 * Of long sentences fewer make a step, for which there are more steps in the same time. */
static void suit_text(Training *r)
{
    enum { LONG = 16 /* positions, on average */, FEWER = 16 };
    Settings *s = &r->s;
    const Corpus *c = &r->corpus;
    const int is_long = c->start[c->rows] >= LONG * (size_t)c->rows;
    const int drops_rare = s->text.min_frequency > 1 && !s->init;
    Buffer said = {0};
    if (s->resume || s->classifier) return;
    if (drops_rare && !option_given(r->options, &s->text.min_frequency))
        buffer_print(&said, " --min-frequency %d", s->text.min_frequency);
    if (is_long && !option_given(r->options, &s->batch))
        buffer_print(&said, " --batch %d", s->batch = FEWER);
    if (said.length && !said.failed) fprintf(stderr, "by this text, unless given:%s\n", said.text);
    free(said.text);
}

/* The weights of --init, over random ones */
static int init_weights(Training *r, Error *err)
{
    const Settings *s = &r->s;
    Checkpoint *from = &r->from;
    const Model *m = &r->model;
    real *params = r->model.params;
    Config shapes = m->config;
    if (checkpoint_is_ours(from)) return checkpoint_part(from, m, "", "", 1, params, err);
    if (checkpoint_shapes(from, &shapes, err)) return -1;
    if (shapes.vocab != m->config.vocab && (s->pretrained_embeddings || !checkpoint_is_bert(from)))
        return fail(err,
                    "%s: has %d words, the vocabulary %d; expected the --tokenizer that it was "
                    "trained with",
                    s->init, shapes.vocab, m->config.vocab);
    if (!checkpoint_is_bert(from))
        return checkpoint_tensors(from, m, "", params, err) || checkpoint_rest(from, err) ? -1 : 0;
    if (s->init_pretrained && checkpoint_part(from, m, "", "input_transformers.", 0, params, err))
        return -1;
    return s->pretrained_embeddings &&
                   (checkpoint_part(from, m, "", "word_embedding.", 0, params, err) ||
                    checkpoint_part(from, m, "", "position_embeddings.", 0, params, err))
               ? -1
               : 0;
}

/* The weights at the first step, the optimiser, the losses by which t is drawn. */
static int load_weights(Training *r, Error *err)
{
    const Settings *s = &r->s;
    Checkpoint *from = &r->from;
    Model *m = &r->model;
    Optimizer *o = &r->optimizer;
    if (!s->resume) model_random(m, (uint64_t)s->seed);
    if (!s->resume && s->classifier) begin_with_denoiser(m, &r->denoiser);
    if (!s->resume && s->init && init_weights(r, err)) return -1;
    if (s->resume && checkpoint_tensors(from, m, "raw.", m->params, err)) return -1;
    if (optimizer_init(o, m, err)) return -1;
    if (s->resume && (checkpoint_tensors(from, m, "", o->ema, err) ||
                      checkpoint_tensors(from, m, "adam_m.", o->adam_m, err) ||
                      checkpoint_tensors(from, m, "adam_v.", o->adam_v, err)))
        return -1;
    for (size_t i = 0; i < m->num_params; i++)
        if (o->adam_v[i] < 0)
            return fail(err, "%s: adam_v, a mean of squares, has a negative number", s->resume);
    return 0;
}

/* Room in the workspace for the sentences of one length that a batch can have. Returns the
 * positions of the `batch` longest sentences, or 0 after a failure. */
static size_t fit_lengths(Training *r, const Corpus *c, int copies, Error *err)
{
    const int B = r->s.batch;
    int *count = r->place, left = B;
    size_t positions = 0;
    memset(count, 0, ((size_t)c->longest + 1) * sizeof *count);
    for (int i = 0; i < c->rows; i++) count[sentence_length(c, i)] += copies;
    for (int N = c->longest; N > 0; N--) {
        const int most = count[N] < B ? count[N] : B, taken = most < left ? most : left;
        positions += (size_t)taken * N;
        left -= taken;
        if (most && workspace_fit(&r->work, &r->s.config, piece(&r->s, most, N), N, err)) return 0;
    }
    return positions;
}

/* Everything that a batch of an epoch, or of the validation, needs. */
static int make_room(Training *r, Error *err)
{
    const Config *c = &r->s.config;
    const int rows = r->corpus.rows, B = r->s.batch;
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
        workspace_init(&r->work, c, 1, SHORTEST, 1, err))
        return -1;
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

static void print_notes(const Corpus *c)
{
    if (c->notes.length) fputs(c->notes.text, stderr);
}

/* ---- memory and time ------------------------------------------------------------------------ */

/* The bytes of a run, by what they are for, and their sum */
enum { PARAMETERS, GRADIENTS, MOMENTS, EMA, ACTIVATIONS, TEXT, TOTAL, FAMILIES };

static void count_memory(const Training *r, double bytes[FAMILIES])
{
    const Model *m = &r->model;
    const Corpus *const texts[] = {&r->corpus, &r->val};
    const double number = sizeof(real), params = number * m->num_params;
    const double table = m->config.emb_norm > 0 ? number * m->word_embedding->size : 0;
    const double program = 3e6 + 0x110000 * sizeof *r->tokenizer.unicode;
    bytes[PARAMETERS] = params + table + 2 * number * r->denoiser.num_params;
    bytes[GRADIENTS] = params + table, bytes[MOMENTS] = 2 * params, bytes[EMA] = params;
    bytes[ACTIVATIONS] = number * (r->work.size + 2.0 * r->room * m->config.emb_dim);
    bytes[TEXT] = program + 64.0 * r->tokenizer.size + 4.0 * 3 * r->copies * r->corpus.rows;
    for (int i = 0; i < 2; i++)
        if (texts[i]->start)
            bytes[TEXT] += 4.0 * texts[i]->start[texts[i]->rows] + 8.0 * texts[i]->rows;
    bytes[TOTAL] = 0;
    for (int i = 0; i < TOTAL; i++) bytes[TOTAL] += bytes[i];
}

static double file_size(const Model *m) { return 4.0 * 4 * m->num_params; } /* and its header */

/* Before the memory is written to: until then a machine promises more than it has. */
static int check_memory(const Training *r, Error *err)
{
    double bytes[FAMILIES];
    count_memory(r, bytes);
    if (file_size(&r->model) > (double)LONG_MAX)
        return fail(err, "checkpoints would have %.1f GB; files can have %ld bytes here",
                    file_size(&r->model) * 1e-9, LONG_MAX);
    if (bytes[TOTAL] <= physical_memory()) return 0;
    return fail(err,
                "%.1f GB of memory are needed, and this machine has %.1f; less are --hidden, "
                "--layers, --emb-dim, --microbatch",
                bytes[TOTAL] * 1e-9, physical_memory() * 1e-9);
}

/* Bytes of the largest group of an epoch and the validation: make_room is for larger ones, which
 * hardly ever meet, and what is not written to takes no memory. */
static double largest_group(Training *r)
{
    const int B = r->s.batch, held = r->val.rows < VALIDATED ? r->val.rows : VALIDATED;
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
                workspace_size(&r->work, &r->s.config, piece(&r->s, g->count, g->N), g->N);
            if (size > most) most = size;
        }
    }
    return (double)most * sizeof(real);
}

static int dry_run(Training *r)
{
    static const char *const names[] = {"parameters",  "gradients",     "moments", "average",
                                        "activations", "text, program", "total"};
    enum { TRIALS = 5 };
    const int steps = r->s.stop_at - r->done;
    const double start = seconds();
    double bytes[FAMILIES], tokens = 0;
    for (int i = 0; i < TRIALS; i++) {
        train_step(r);
        tokens += r->positions;
    }
    const double elapsed = seconds() - start, hours = elapsed / TRIALS * steps / 3600;
    count_memory(r, bytes);
    const double unused = sizeof(real) * (double)r->work.size - largest_group(r);
    bytes[ACTIVATIONS] -= unused, bytes[TOTAL] -= unused;
    printf("%.2f million parameters\n", r->model.num_params * 1e-6);
    for (int i = 0; i < FAMILIES; i++) printf("%12.1f MB %s\n", bytes[i] * 1e-6, names[i]);
    printf("%12.1f MB checkpoint\n", file_size(&r->model) * 1e-6);
    printf("%12.0f tokens/s in %d steps; %d steps take %.2f hours\n", tokens / fmax(elapsed, 1e-9),
           TRIALS, steps, hours);
    return fflush(stdout) || ferror(stdout) ? -1 : 0;
}

/* --minutes: sets the steps by the time that the gradients of a few take, for a hundredth of the
 * minutes. Nothing is learnt from them: the result depends on the steps alone. */
static void measure_speed(Training *r)
{
    enum { FEWEST = 4 };
    Settings *s = &r->s;
    const Dropout drop = {0, s->dropout, 0};
    const double available = 60 * s->minutes, start = seconds();
    double elapsed = 0, positions = 0, accuracy[4], val = 0;
    int trials = 0;
    while (trials < FEWEST || elapsed < available / 100) {
        draw_batch(r, trials);
        losses(r, s->config.self_conditioning && trials % 2, 1, drop);
        positions += (double)r->positions;
        elapsed = slowest(seconds() - start);
        trials++;
    }
    memset(r->model.grads, 0, r->model.num_params * sizeof *r->model.grads);
    if (r->val.rows) {
        const double begun = seconds();
        validation_loss(r, VALIDATED, accuracy);
        val = slowest(seconds() - begun);
    }
    const double of_epoch = (double)r->copies * r->corpus.start[r->corpus.rows];
    const double step = elapsed * of_epoch / positions / r->batches;
    const double steps = (available - elapsed - val) / (step + val / s->log_interval);
    s->steps = s->stop_at = (int)fmin(fmax(steps, 1), 1e8);
    fprintf(stderr, "--minutes %g: %.3g s a step, measured in %d, so this is --steps %d\n",
            s->minutes, step, trials, s->steps);
}

/* Everything between the command line and the first step. Returns 1 if there is nothing to do. */
static int prepare(Training *r, const char *path, Error *err)
{
    Settings *s = &r->s;
    Config *c = &s->config;
    Corpus *corpus = &r->corpus;
    char(*fingerprint)[20] = r->fingerprint;
    double bytes[FAMILIES];

    if (s->resume && r->done >= (s->stop_at ? s->stop_at : s->steps)) {
        fprintf(stderr,
                "%s: step %d of %d is done already; nothing to do (--steps N goes on to "
                "step N)\n",
                s->resume, r->done, s->steps);
        return 1;
    }
    if (!s->stop_at) s->stop_at = s->steps;
    if (s->stop_at > s->steps)
        return fail(err, "--stop-at %d: there are only --steps %d", s->stop_at, s->steps);
    if (!s->resume) c->vocab = TOKEN_SPECIALS; /* and the words, which come from the text */
    if (config_check(c, err) ||
        diffusion_init(&r->diffusion, c->noise_schedule, c->diffusion_steps, NULL, err) ||
        corpus_read(corpus, path, err))
        return -1;
    const double text_bytes = (double)corpus->length;
    if (s->classifier ? take_labels(r, path, err) : make_vocabulary(r, path, err)) return -1;
    c->vocab = r->tokenizer.size;
    const Tokenizer *words = s->classifier ? &r->words : &r->tokenizer;
    if (s->pad && corpus_measure(corpus, path, words, c->seq_len, err)) return -1;
    if (s->pad && corpus->longest < c->seq_len) c->seq_len = corpus->longest;
    if (corpus_fill(corpus, path, words, c->seq_len, s->pad, err)) return -1;
    if (!c->max_positions) c->max_positions = corpus->longest;
    if (s->classifier)
        fprintf(stderr, "%s: %d sentences, %d labels; ", path, corpus->rows,
                c->vocab - TOKEN_SPECIALS);
    else
        fprintf(stderr, "%s: %d sentences, %d %s in the vocabulary; ", path, corpus->rows, c->vocab,
                words->kind == TOKENIZER_WORD ? "words" : "tokens");
    fprintf(stderr, "the longest sentence has %d positions\n", corpus->longest);
    print_notes(corpus);
    suit_text(r);
    if (!s->classifier && corpus->rows > 20 &&
        3 * (size_t)(c->vocab - TOKEN_SPECIALS) > 2 * corpus->words)
        fprintf(stderr,
                "%s: nearly every word occurs once, so there is little to learn about one; with "
                "--tokenizer bpe its parts are tokens\n",
                path);
    if (corpus->longest > c->max_positions)
        return fail(err, "--max-positions %d: the longest sentence has %d; --seq-len %d cuts it",
                    c->max_positions, corpus->longest, c->max_positions);
    if (s->val) {
        const int most = c->seq_len < c->max_positions ? c->seq_len : c->max_positions;
        if (corpus_read(&r->val, s->val, err) ||
            corpus_fill(&r->val, s->val, words, most, s->pad, err))
            return -1;
        print_notes(&r->val);
    }

    corpus_fingerprint(corpus, r->label, fingerprint[0]);
    if (s->resume && s->fingerprint && strcmp(s->fingerprint, fingerprint[0]))
        return fail(err,
                    "%s: not the text that %s was trained on: that was %s, of %.0f bytes, "
                    "this has %.0f",
                    path, s->resume, s->text_path ? s->text_path : "another", s->text_bytes,
                    text_bytes);
    s->fingerprint = fingerprint[0], s->text_path = path, s->text_bytes = text_bytes;
    if (s->val) {
        corpus_fingerprint(&r->val, NULL, fingerprint[1]);
        if (s->resume && s->val_fingerprint && strcmp(s->val_fingerprint, fingerprint[1]))
            fprintf(stderr,
                    "note: %s: not the held-out text of %s until now; val is another loss\n",
                    s->val, s->resume);
        s->val_fingerprint = fingerprint[1];
    }
    if (s->classifier) {
        denoiser_fingerprint(&r->denoiser, fingerprint[2]);
        s->denoiser_is = fingerprint[2];
        if (hold_out(r, path, err)) return -1;
    }
    if (!s->resume) note_arithmetic(s);

    if (model_init(&r->model, c, err) || check_memory(r, err) || load_weights(r, err)) return -1;
    if (s->schedule_sampler) {
        if (resampler_init(&r->resampler, r->diffusion.T, LOSSES_KEPT, err)) return -1;
        const Tensor history = {.name = "loss_history",
                                .rank = 2,
                                .shape = {r->diffusion.T, 1 + LOSSES_KEPT},
                                .data = r->resampler.history,
                                .size = (size_t)r->diffusion.T * (1 + LOSSES_KEPT)};
        if (s->resume && (checkpoint_tensor(&r->from, &history, "", history.data, err) ||
                          resampler_restore(&r->resampler, err)))
            return -1;
        r->extra[r->extras++] = history;
    }
    if (!s->pad && !s->classifier) { /* ./sample draws lengths by these */
        r->extra[r->extras] = length_tensor(c->max_positions);
        if (!(r->length_count =
                  checked_alloc(r->extra[r->extras].size, sizeof *r->length_count, err)))
            return -1;
        for (int i = 0; i < corpus->rows; i++) r->length_count[sentence_length(corpus, i)]++;
        if (r->val.rows && (r->val_unseen = pairs_never_seen(corpus, &r->val, err)) < 0) return -1;
        r->extra[r->extras++].data = r->length_count;
    }
    checkpoint_close(&r->from);
    if (make_room(r, err) || check_memory(r, err) ||
        !(r->decay = checked_alloc(r->model.num_tensors, 1, err)))
        return -1;
    for (int i = 0; i < r->model.num_tensors; i++) {
        const Tensor *x = &r->model.tensors[i];
        const int table = x == r->model.word_embedding || x == r->model.position_embeddings;
        r->decay[i] = x->rank == 2 && !(table && s->freeze_embeddings);
    }
    count_memory(r, bytes);
    fprintf(stderr,
            "%.2f million parameters, %d threads%s; %.1f MB of memory, checkpoints of %.1f MB\n",
            r->model.num_params * 1e-6, max_threads(), s->resume ? ", resumed" : "",
            bytes[TOTAL] * 1e-6, file_size(&r->model) * 1e-6);
    if (s->minutes > 0) measure_speed(r);
    return 0;
}

static void release(Training *r)
{
    checkpoint_close(&r->from);
    for (int i = 0; i < REMEMBERED; i++) free(r->remembered[i]);
    tokenizer_free(&r->tokenizer);
    tokenizer_free(&r->words);
    corpus_free(&r->corpus);
    corpus_free(&r->val);
    model_free(&r->model);
    model_free(&r->denoiser);
    workspace_free(&r->work);
    optimizer_free(&r->optimizer);
    diffusion_free(&r->diffusion);
    resampler_free(&r->resampler);
    free(r->options);
    free(r->label);
    free(r->val_label);
    free(r->length_count);
    free(r->decay);
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
    log_close(&r->log);
}

/* A run takes nothing away: no other run's checkpoint or log, and nothing else. */
static int spares_what_is_there(const Settings *s, const char *log, Error *err)
{
    const FileKind kind = file_kind(s->out), log_kind = file_kind(log);
    int done = 0, steps = 0;
    Option metadata[] = {{"steps-done", OPT_INT, &done, .max = INT32_MAX},
                         {"steps", OPT_INT, &steps, .max = INT32_MAX}};
    char date[20];
    Checkpoint c;
    Error inner;
    if (kind != FILE_NEW && kind != FILE_CHECKPOINT)
        return fail(err, "%s: is there already and is %s; --out must name another", s->out,
                    file_kind_names[kind]);
    if (log_kind != FILE_NEW && log_kind != FILE_LOG)
        return fail(err,
                    "%s: is %s, and the log of this run would replace it; --out must name "
                    "another",
                    log, file_kind_names[log_kind]);
    if (s->overwrite || (s->resume && same_file(s->resume, s->out))) return 0;
    if (kind == FILE_CHECKPOINT) {
        const char *advice = s->resume ? "--out names another"
                                       : "--resume FILE goes on with it, --overwrite begins anew, "
                                         "--out names another";
        const int damaged = checkpoint_open(&c, s->out, &inner) ||
                            checkpoint_option(&c, &metadata[0], &inner) ||
                            checkpoint_option(&c, &metadata[1], &inner);
        checkpoint_close(&c);
        file_date(s->out, date);
        return damaged ? fail(err, "%.300s; it is there already: %s", inner.text, advice)
                       : fail(err, "%s: is there already: step %d of %d, %s; %s", s->out, done,
                              steps, date, advice);
    }
    if (log_kind == FILE_LOG)
        return fail(err, "%s: is the log of another run; %s--out names another", log,
                    s->resume ? "" : "--overwrite begins anew, ");
    return 0;
}

/* Nor do the checkpoints that --keep-every keeps, but for those of the run that goes on. */
static int kept_spare_what_is_there(const Training *r, const char *const inputs[4], Error *err)
{
    const Settings *s = &r->s;
    const int may_replace = s->overwrite || (s->resume && same_file(s->resume, s->out));
    for (int step = r->done + 1; step <= s->stop_at && s->keep_every; step++) {
        Buffer name = {0};
        if (step % s->keep_every) continue;
        int status = kept_name(s, step, &name, err);
        for (int i = 0; i < 4 && !status; i++) status = output_spares(name.text, inputs[i], err);
        const FileKind kind = status ? FILE_NEW : file_kind(name.text);
        if (kind != FILE_NEW && !(kind == FILE_CHECKPOINT && may_replace))
            status = fail(err,
                          "%s: is there already and is %s; --keep-every would replace it, --out "
                          "names another%s",
                          name.text, file_kind_names[kind],
                          kind == FILE_CHECKPOINT && !s->resume ? ", --overwrite begins anew" : "");
        free(name.text);
        if (status) return -1;
    }
    return 0;
}

/* Before the corpus is read, and again before the first step, when the log is made: from then on
 * another run is told that this one is writing. */
static int claim_output(Training *r, const char *log, int begin, Error *err)
{
    Output trial;
    if (r->log.file) return 0;
    if (spares_what_is_there(&r->s, log, err) || output_open(&trial, r->s.out, err)) return -1;
    const int device = !*trial.temporary, new_log = file_kind(log) == FILE_NEW;
    if (output_close(&trial, 0, err)) return -1;
    if (device || (new_log && !begin)) return 0;
    return log_open(&r->log, log, new_log, err);
}

/* Twice the size while the old file stays until the new one is whole. */
static void note_room(const Training *r)
{
    const Settings *s = &r->s;
    const double size = file_size(&r->model), room = free_bytes(r->log.path);
    const int kept = s->keep_every ? s->stop_at / s->keep_every - r->done / s->keep_every : 0;
    const int files = kept + (file_kind(s->out) == FILE_NEW ? 2 : 1);
    if (r->log.file && room >= 0 && room < files * size)
        fprintf(stderr, "note: %.0f MB are free where %s is written; saving needs %.0f MB, %s%s\n",
                room * 1e-6, s->out, (kept + 2) * size * 1e-6, "twice the checkpoint",
                kept ? " and those of --keep-every" : "");
}

static int export_checkpoint(const char *from, const char *to, Error *err)
{
    Checkpoint c;
    int status = checkpoint_open(&c, from, err);
    if (!status && file_kind(to) != FILE_NEW)
        status = fail(err, "%s: is there already; --export needs another name", to);
    if (!status) status = checkpoint_export(&c, to, err);
    checkpoint_close(&c);
    return status;
}

static int print_help(Settings *s, const Option *options, int all)
{
    defaults(s);
    printf("usage: ./train [options] [CORPUS]\n"
           "       ./train --classifier LABELED --denoiser CHECKPOINT [options]\n"
           "       ./train --export CHECKPOINT FILE\n"
           "Trains on CORPUS (default data/simple-train.txt; -: the standard input), one\n"
           "sentence a line, and writes NAME.safetensors, NAME being CORPUS without folder,\n"
           "-train.txt and .txt. Then: ./sample NAME.safetensors\n\n"
           "  ./train mine.txt --val held-out.txt       learn your own sentences\n"
           "  ./train --resume mine.safetensors         go on after Ctrl-C\n\n");
    options_help(options, all, stdout);
    return fflush(stdout) || ferror(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
    static const char *const corpus_suffixes[] = {"-train.txt", "-labeled.tsv", ".txt", ".tsv",
                                                  NULL};
    begin_program();
    ignore_closed_pipes();
    begin_ranks(&argc, &argv);
    Training run = {0};
    Settings *s = &run.s;
    const char *path = NULL;
    Buffer out = {0}, log = {0};
    Error err;
    defaults(s);
    if (!(run.options = list_options(s, &err))) {
        fprintf(stderr, "train: %s\n", err.text);
        return 1;
    }
    int operands = options_parse(run.options, argc, argv, &path, 1, &err);
    if (operands > 0 && s->classifier)
        operands = fail(&err, "'%s': --classifier has its sentences in %s", path, s->classifier);
    if (operands == 0 && s->export)
        operands = fail(&err, "--export %s: expected the file to write behind it", s->export);
    const char *tokenizer = s->text.tokenizer;
    if (operands >= 0 && !tokenizer_is_made(tokenizer) &&
        (option_given(run.options, &s->text.vocab_size) ||
         option_given(run.options, &s->text.min_frequency)))
        operands = fail(&err,
                        "--vocab-size and --min-frequency have no effect with --tokenizer "
                        "%.80s, which has its vocabulary already",
                        tokenizer);
    if (operands < 0 || s->help || s->version) {
        const int status = operands < 0 ? 2
                           : s->help    ? print_help(s, run.options, path && !strcmp(path, "all"))
                                        : print_version(stdout);
        if (operands < 0) fprintf(stderr, "train: %s\n", err.text);
        free(run.options);
        return end_ranks(status);
    }
    if (s->export) {
        const int status = export_checkpoint(s->export, path, &err);
        if (status) fprintf(stderr, "train: %s\n", err.text);
        free(run.options);
        return end_ranks(status ? 1 : 0);
    }
    if (s->classifier && !option_given(run.options, &s->steps)) s->steps = CLASSIFIER_STEPS;
    if (s->classifier && !option_given(run.options, &s->lr)) s->lr = CLASSIFIER_LR;
    int default_text = !operands && !s->classifier && !s->resume && !s->init;
    if (default_text && !option_given(run.options, &s->recipe)) s->recipe = TEMPLATES;
    apply_recipe(s, run.options);
    int status = open_source(&run, &err);
    if (!operands && s->text_path && is_standard_input(s->text_path))
        status = fail(&err, "%s: its text came from the standard input; expected it again",
                      run.from.path);
    if (s->classifier)
        path = s->classifier;
    else if (!operands)
        path = s->text_path;
    if (!path) path = "data/simple-train.txt", default_text = 1;
    if (default_text && !s->val) s->val = "data/simple-test.txt";
    if (!s->out && s->resume)
        buffer_print(&out, "%s", s->resume);
    else if (!s->out) {
        base_name(&out, path, corpus_suffixes);
        buffer_print(&out, s->classifier ? ".clf.safetensors" : ".safetensors");
    }
    if (!s->out) s->out = out.failed ? "" : out.text; /* refused below */
    set_threads(s->threads);
    if (!floats_are_exact())
        fprintf(stderr, "note: this build computes with more than float precision; another build "
                        "may give another result\n");

    checkpoint_beside(s->out, ".jsonl", &log);
    if (!status && (out.failed || log.failed)) status = fail(&err, "out of memory");
    if (!status && is_standard_input(path) && s->out == out.text && !s->resume)
        status = fail(&err, "a text from the standard input has no name: --out is needed");
    if (!status && is_standard_input(path) && s->val && is_standard_input(s->val))
        status = fail(&err, "the standard input cannot be the text and --val, too");
    const char *const inputs[] = {path, s->val, s->denoiser, s->resume ? NULL : s->init};
    for (int i = 0; i < 4 && !status; i++)
        if (output_spares(s->out, inputs[i], &err) || output_spares(log.text, inputs[i], &err))
            status = -1;
    if (!status && !s->dry_run && rank == 0) status = claim_output(&run, log.text, 0, &err);
    if (!status) status = prepare(&run, path, &err);
    if (!status && s->dry_run) {
        if (dry_run(&run)) status = fail(&err, "standard output: cannot write");
    } else if (!status && rank == 0 && !(status = kept_spare_what_is_there(&run, inputs, &err)))
        status = claim_output(&run, log.text, 1, &err);
    if (!status && !s->dry_run) {
        note_room(&run);
        status = train(&run, &err);
        if (!status && run.done < s->stop_at) status = 128 + stop_signal();
    }
    if (status < 0) fprintf(stderr, "train: %s\n", err.text);
    release(&run);
    free(out.text);
    free(log.text);
    return end_ranks(status < 0 ? 1 : status > 1 ? status : 0);
}
