/* train.c - trains a denoiser on a text file, one sentence a line.
 *
 *   ./train                               the simple corpus, a minute or two: simple.safetensors
 *   ./train mine.txt --val held-out.txt   your own: mine.safetensors
 *   ./train --resume mine.safetensors            after Ctrl-C; with a larger --steps, after its end
 *   ./train other.txt --init mine.safetensors    begins with its weights
 *   ./train --export mine.safetensors small.safetensors    what ./sample needs of it
 *   ./train --classifier labeled.tsv --denoiser mine.safetensors     for ./sample --guide
 *
 * A step draws a batch of sentences, a diffusion step t and noise for each, and follows the
 * gradient of training_losses. Everything random is a hash of (seed, step, example), so a run that
 * was stopped and resumed writes the same bytes as one that was not. */
#include "tdiff.h"
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- options -------------------------------------------------------------------------------- */

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
    VALIDATED = 256, /* held-out sentences, at most, that val is measured on */
    PREVIEWED = 3    /* sentences */
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
    {"t-min", {"0.15", "0", "0"}},
    {"neighbours", {"on", "off", "off"}},
    {"pad", {"off", "off", "on"}},
};

/* Sets what the recipe says and was not given by itself; it counts as given if the recipe was. */
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
         .help = "the defaults of predict, self-conditioning, emb-norm, t-min, neighbours and pad",
         .deflt = "best; templates for the default corpus"},
        {"val", OPT_TEXT, &s->val, .what = "FILE", .everyday = 1, .excludes = "classifier",
         .help = "held-out sentences; the loss is measured on the first 256 of them",
         .deflt = "none; data/simple-test.txt for the default corpus; that of the run resumed",
         .result = 1},
        {"classifier", OPT_TEXT, &s->classifier, .what = "FILE", .everyday = 1,
         .help = "train a classifier for ./sample --guide on this file: a sentence, a TAB and a "
                 "label a line; a tenth is held out",
         .needs = "denoiser"},
        {"denoiser", OPT_TEXT, &s->denoiser, .what = "FILE", .everyday = 1,
         .help = "of --classifier: the checkpoint whose samples it is to guide",
         .needs = "classifier"},
        {"out", OPT_TEXT, &s->out, .what = "FILE", .everyday = 1,
         .help = "the checkpoint to write; the log goes beside it, as .jsonl",
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
         .deflt = "1; 3 if rarer words are a quarter of all or more, and 3 % of the text at most",
         .excludes = "classifier", .result = 1},
        {"lr", OPT_REAL, &s->lr, .everyday = 1, .min = 1e-9, .max = 10,
         .help = "learning rate of AdamW: how far a step moves the weights",
         .deflt = "0.002, less beyond 10000 steps; 0.0005 with --classifier", .result = 1},
        {"warmup", OPT_INT, &s->warmup, .max = 1e8,
         .help = "steps over which the learning rate rises", .result = 1},
        {"weight-decay", OPT_REAL, &s->weight_decay, .max = 10,
         .help = "of all weights but biases and LayerNorm",
         .deflt = "2000 / steps, 0.5 at most; 0.01 where every sentence is seen more than 20 "
                  "times, with --init and --classifier, and without softmax head",
         .result = 1},
        {"dropout", OPT_REAL, &s->dropout, .max = 0.95,
         .help = "share of activations that a step leaves out", .result = 1},
        {"schedule-sampler", OPT_CHOICE, &s->schedule_sampler, .choices = schedule_samplers,
         .help = "draws the t to train on, all alike or those of large loss more often",
         .excludes = "classifier", .result = 1},
        {"ema-rate", OPT_REAL, &s->ema_rate, .max = 0.9999, /* see adamw_step in tdiff.h */
         .help = "of the average of the weights over the steps, which ./sample takes", .result = 1},
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
         .help = "how many compute, by default fewer where that is faster; the result is the same"},
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
         .help = "say what memory and time the run would take, by a second of it, and write "
                 "nothing"},
        {"resume", OPT_TEXT, &s->resume, .what = "FILE", .everyday = 1,
         .help = "go on with this checkpoint; options that determine the result must agree, but "
                 "--steps and --val may change"},
        {"init", OPT_TEXT, &s->init, .what = "FILE", .everyday = 1,
         .help = "begin with the weights of this checkpoint, or of a safetensors file with the "
                 "names of the original; its shape and vocabulary stay",
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

/* ---- training ------------------------------------------------------------------------------- */

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
    Trainer trainer;
    /* what the checkpoint holds beside the weights: the resampler's losses, the lengths */
    Tensor extra[2];
    int extras;
    real *length_count;      /* (max_positions+1) */
    double val_unseen;       /* pairs_never_seen of the held-out text */
    double tokens;           /* of all batches of this run */
    char fingerprint[3][20]; /* of the corpus, of the held-out text, of the denoiser */
    Log log;
    Told told;
    double begun, previewing, last_preview; /* when, in seconds(); for how long */
    int log_failed;
    int first, done, saved; /* steps: taken before, taken, and those that the checkpoint has */
} Training;

/* What a step tells the log */
typedef struct {
    double lr, norm; /* of the gradient */
    int stopped;     /* by a signal: the step was not taken */
} Step;

/* Takes a step, unless a signal comes meanwhile or the gradient is not finite. */
static Step train_step(Training *r)
{
    const Settings *s = &r->s;
    Trainer *t = &r->trainer;
    const int step = r->done;
    const Dropout drop = {rng_key((uint64_t)s->seed, RNG_DROPOUT, step, 0), s->dropout, 0};
    draw_batch(t, step);
    batch_losses(t, self_condition(t, step), 1, drop);
    if (ranks_stop()) return (Step){.stopped = 1};
    if (s->freeze_embeddings) freeze_embeddings(&t->model);
    if (t->resampler.T) resampler_update(&t->resampler, t->t, t->terms.loss, t->count);
    const double norm = gradient_norm(&t->model, &t->optimizer);
    const double lr = learning_rate(s->lr, step, s->warmup, s->steps);
    if (norm - norm == 0) { /* finite */
        adamw_step(&t->model, &t->optimizer, step, lr, s->weight_decay, t->decay,
                   ema_warmup(s->ema_rate, step), clip_factor(norm, s->clip));
        r->done++;
    }
    return (Step){lr, norm, 0};
}

/* ---- what a run tells ----------------------------------------------------------------------- */

/* Adds both figures of the averaged weights to the line of the log, and tells people. */
static int text_figures(Training *r, Buffer *line, Error *err)
{
    double unseen, copied;
    const int has_val = r->trainer.val.rows > 0;
    if (sample_figures(&r->trainer, &r->tokenizer, r->length_count, &unseen, &copied, err))
        return -1;
    fprintf(stderr, "%sstep %d: pairs never seen %.0f %%", on_terminal(stderr) ? "\r\x1b[K" : "",
            r->done, unseen);
    if (has_val) fprintf(stderr, " (val %.0f)", r->val_unseen);
    fprintf(stderr, ", copied %.0f %%\n", copied);
    buffer_print(line, ",\"pairs_never_seen\":%.6g,\"copied\":%.6g", unseen, copied);
    if (has_val) buffer_print(line, ",\"val_pairs_never_seen\":%.6g", r->val_unseen);
    return 0;
}

/* What does not end the run: the next interval tries again. */
static void complain(const Training *r, const Error *err)
{
    fprintf(stderr, "%strain: step %d: %s\n", on_terminal(stderr) ? "\n" : "", r->done, err->text);
}

/* The line of progress, as much of it as fits: what matters least is left out first. On a terminal
 * every tenth stays. */
static void tell(Training *r, const Sums *now, double elapsed)
{
    enum { STEP, LOSS, MSE, DECODER_NLL, TT, HEAD_NLL, VAL, MOVED, RIGHT, SPEED, LEFT, PARTS };
    static const int dispensable[] = {TT, DECODER_NLL, MSE, HEAD_NLL, MOVED, SPEED, RIGHT};
    static const char *const names[] = {"mse", "decoder_nll", "tT", "head_nll"};
    Told *told = &r->told;
    const Sums *sums = now->steps ? now : &told->sums;
    const double terms[] = {sums->mse, sums->decoder_nll, sums->tT_loss, sums->head_nll};
    const int k = sums->steps, classifies = r->trainer.label != NULL;
    Buffer part[PARTS] = {{0}};
    if (!k) return; /* not one step was taken */
    buffer_print(&part[STEP], "step %d/%d", r->done, r->s.steps);
    buffer_print(&part[LOSS], "  loss %.4f", sums->loss / k);
    for (int i = 0; i < 4 && !classifies; i++) { /* a classifier's loss is one term */
        told->seen[i] |= terms[i] / k >= 5e-5;
        if (told->seen[i]) buffer_print(&part[MSE + i], "  %s %.4f", names[i], terms[i] / k);
    }
    if (!isnan(told->val)) buffer_print(&part[VAL], "  val %.4f", told->val);
    if (!isnan(told->val_before))
        buffer_print(&part[MOVED], " (%+.4f)", told->val - told->val_before);
    for (int q = 0; q < 4 && classifies && !isnan(told->val); q++)
        buffer_print(&part[RIGHT], "%s%.0f%s", q ? " " : "  right ", 100 * told->accuracy[q],
                     q < 3 ? "" : " %");
    buffer_print(&part[SPEED], "  %.0f tokens/s", r->tokens / elapsed);
    buffer_print(&part[LEFT], "  ");
    buffer_duration(&part[LEFT], (r->s.steps - r->done) * elapsed / (r->done - r->first));
    buffer_print(&part[LEFT], " left");
    tell_parts(part, PARTS, dispensable, sizeof dispensable / sizeof *dispensable,
               ++told->lines % 10 == 0);
    told->at = elapsed;
}

/* A line of the log; -1 if it cannot be written. After a signal without what must be measured. */
static int report(Training *r, Sums *sums, Step last, double elapsed, Error *err)
{
    const int k = sums->steps, is_over = stop_signal();
    Told *told = &r->told;
    Trainer *t = &r->trainer;
    Buffer line = {0};
    if (t->val.rows && !is_over) {
        const int all = t->label && r->done == r->s.stop_at;
        told->val_before = told->val;
        told->val = validation_loss(t, all ? t->val.rows : VALIDATED, told->accuracy);
    }
    buffer_print(&line, "{\"step\":%d,\"lr\":%.6g,\"grad_norm\":%.6g", r->done, last.lr, last.norm);
    sums_print(sums, t, &line);
    if (t->val.rows && !is_over) buffer_print(&line, ",\"val_loss\":%.6g", told->val);
    if (r->length_count && !is_over && figures_due(t, r->s.steps, r->done, k) &&
        text_figures(r, &line, err))
        complain(r, err);
    if (t->val.rows && t->label && !is_over)
        buffer_json_numbers(&line, "accuracy_by_noise_quartile", told->accuracy, 4);
    buffer_print(&line, ",\"seconds\":%.2f}\n", elapsed);
    told->sums = *sums;
    memset(sums, 0, sizeof *sums);
    const int status = log_add(&r->log, r->first, &line, err);
    free(line.text);
    return status;
}

/* The checkpoint or, with kept, the one of this step that --keep-every keeps */
static int save(Training *r, int kept, Error *err)
{
    const Trainer *t = &r->trainer;
    Buffer name = {0};
    if (t->rank > 0) return 0;
    int status = kept ? checkpoint_kept_name(r->s.out, r->done, &name, err) : 0;
    if (!status)
        status = checkpoint_save(kept ? name.text : r->s.out, &t->model, &t->optimizer, r->extra,
                                 r->extras, &r->tokenizer, r->options, r->done, err);
    if (!status && !kept) r->saved = r->done;
    free(name.text);
    return status;
}

/* Samples of the model as it is now, on a terminal; by default for at most 2 % of the time. */
static void preview(Training *r, double elapsed)
{
    const int given = option_given(r->options, &r->s.preview);
    const int interval = r->trainer.label ? 0 : given ? r->s.preview : r->s.steps / 10;
    const double begun = seconds();
    Corpus drawn = {0};
    Error err;
    if (!on_terminal(stderr) || !interval || r->done % interval || stop_signal()) return;
    if (!given && r->previewing + r->last_preview > 0.02 * elapsed) return;
    if (few_sentences(&r->trainer, &r->tokenizer, r->length_count, &drawn, 1, PREVIEWED, &err))
        complain(r, &err);
    else {
        fprintf(stderr, "\r\x1b[Kstep %d makes of noise:\n", r->done);
        tell_sentences(&drawn, &r->tokenizer);
    }
    corpus_free(&drawn);
    r->last_preview = seconds() - begun, r->previewing += r->last_preview;
}

/* After a step, or when the run ends: a line of the log, samples, a line of progress. */
static void tell_step(Training *r, Sums *sums, Step last, int ends)
{
    const Settings *s = &r->s;
    const double elapsed = seconds() - r->begun, left = s->stop_at - r->done;
    const int due = sums->steps && (r->done % s->log_interval == 0 || ends);
    const int terminal = on_terminal(stderr);
    Error err;
    if (due && (r->log_failed = report(r, sums, last, elapsed, &err))) complain(r, &err);
    preview(r, elapsed);
    if (terminal ? ends || elapsed >= r->told.at + s->progress_seconds : due)
        tell(r, sums, elapsed);
    if (terminal || r->told.lines || elapsed <= 3) return;
    const double hours = elapsed / (r->done - r->first) * left / 3600;
    fprintf(stderr, hours < 1 ? "about %.0f minutes to go\n" : "about %.1f hours to go\n",
            hours < 1 ? ceil(60 * hours) : hours);
    r->told.lines++;
}

/* How the run has ended, and what can be done with it. */
static void say_what_next(const Training *r)
{
    const Settings *s = &r->s;
    fprintf(stderr, "%s %s after step %d of %d (%.1f s)\n",
            r->done > r->first ? "wrote" : "stopped without writing", s->out, r->done, s->steps,
            seconds() - r->begun);
    if (r->done < s->steps || !r->log.file) return;
    if (s->classifier)
        fprintf(stderr, "now: ./sample %s --guide %s --label LABEL\n", s->denoiser, s->out);
    else
        fprintf(stderr, "now: ./sample %s\n", s->out);
    fprintf(stderr, "its loss as a picture: make draw && build/draw loss %s > loss.svg\n",
            r->log.path);
}

static int train(Training *r, Error *err)
{
    const Settings *s = &r->s;
    const int terminal = on_terminal(stderr);
    Sums sums = {0};
    Step last = {0};
    double saved_at = 0;
    Pace pace;
    pace_begin(&pace, s->threads, r->trainer.ranks == 1 && !option_given(r->options, &s->threads));
    r->told.val = r->told.val_before = NAN;
    r->saved = r->first = r->done, r->begun = seconds();
    stop_note("%sstopping, then saving\n", terminal ? "\n" : "");
    catch_signals();
    for (int ends = 0; !ends;) {
        const int step = r->done;
        const double begun = seconds();
        const Step now = train_step(r);
        const double elapsed = seconds() - r->begun;
        pace_step(&pace, (double)r->trainer.positions, seconds() - begun);
        if (r->done == step && !now.stopped) /* do not save over the last good state */
            return fail(err, "step %d: %s is not finite; a lower --lr may help. %s %s", step + 1,
                        infinite_term(&r->trainer),
                        r->saved > r->first ? "The last good state is in"
                                            : "This run has saved nothing in",
                        s->out);
        if (!now.stopped) {
            sums_add(&sums, &r->trainer);
            r->tokens += (double)r->trainer.positions;
            last = now;
        }
        ends = now.stopped || r->done == s->stop_at;
        if (r->trainer.rank == 0) tell_step(r, &sums, last, ends);
        if (s->keep_every && !now.stopped && r->done % s->keep_every == 0 && save(r, 1, err))
            complain(r, err);
        if (!ends &&
            (r->done % s->save_interval == 0 || elapsed - saved_at > 60 * s->save_minutes)) {
            if (save(r, 0, err)) complain(r, err);
            saved_at = elapsed;
        }
    }
    if (terminal && r->told.lines % 10) fputc('\n', stderr);
    if (r->saved < r->done && save(r, 0, err)) return -1;
    if (r->log_failed) return fail(err, "%s: its last lines are missing", r->log.path);
    say_what_next(r);
    return 0;
}

/* ---- what a run begins with ----------------------------------------------------------------- */

/* Goes on with a run to another last step, which the learning rate is for, and notes that. */
static int change_horizon(Training *r, int steps, Error *err)
{
    Settings *s = &r->s;
    Buffer text = {0};
    if (steps <= r->done)
        return fail(err, "--steps %d: %s has done %d, which count", steps, s->resume, r->done);
    fprintf(stderr, "note: the learning rate falls to 0 at step %d, not %d\n", steps, s->steps);
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

/* --init of a checkpoint: what is not given of the model is as it was there, and so is the text. */
static int init_from_ours(Training *r, Error *err)
{
    Settings *s = &r->s;
    const void *const of_vocabulary[] = {&s->text.tokenizer, &s->text.keep_case,
                                         &s->text.keep_accents, &s->text.vocab_size,
                                         &s->text.min_frequency};
    Config of;
    Error none;
    int steps;
    if (checkpoint_config(&r->from, &of, &r->tokenizer, &steps, err)) return -1;
    for (Option *o = r->options; o->name; o++)
        if (o->value == &s->pad && !o->given && checkpoint_option(&r->from, o, err)) return -1;
    s->text_path = r->remembered[0] = checkpoint_metadata(&r->from, "text", &none);
    if (s->text_path && !*s->text_path) s->text_path = NULL;
    for (int i = 0; i < 5; i++)
        if (option_given(r->options, of_vocabulary[i]))
            return fail(err, "%s: its tokenizer and vocabulary stay; --grow-vocab may add words",
                        s->init);
    config_take(r->options, &of);
    return 0;
}

/* --init of other weights: sizes that are not given are those of the tensors that are taken. */
static int init_from_others(Training *r, Error *err)
{
    Settings *s = &r->s;
    const int bert = checkpoint_is_bert(&r->from);
    if (bert && !s->init_pretrained && !s->pretrained_embeddings)
        return fail(err,
                    "%s: a BERT; expected --init-pretrained, --use-pretrained-embeddings or both",
                    s->init);
    if (!bert && !option_given(r->options, &s->recipe)) s->recipe = ORIGINAL;
    if (!bert) apply_recipe(s, r->options);
    Config of = s->config, shapes = s->config;
    if (checkpoint_shapes(&r->from, &shapes, err)) return -1;
    if (bert)
        of.hidden = shapes.hidden, of.layers = shapes.layers, of.ffn = shapes.ffn,
        of.neighbours &= !s->init_pretrained; /* BERT's own layers know nothing of them */
    else
        of = shapes;
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
    config_take(r->options, &of);
    return 0;
}

/* Opens the checkpoints of --denoiser, --resume, --init and takes from them what is not given. */
static int open_source(Training *r, Error *err)
{
    Settings *s = &r->s;
    const int steps = s->steps, more = option_given(r->options, &s->steps);
    if (s->classifier) { /* it has the shape of its denoiser */
        if (trained_load(&r->trainer.denoiser, s->denoiser, NULL, err)) return -1;
        s->config = r->trainer.denoiser.model.config;
        s->config.predict = PREDICT_XSTART, s->config.emb_norm = 0;
    }
    if (!s->resume && !s->init) return 0;
    if (checkpoint_open(&r->from, s->resume ? s->resume : s->init, err) ||
        checkpoint_is(&r->from, s->classifier ? &r->trainer.denoiser.model : NULL, err))
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
    if (checkpoint_options(&r->from, r->options, &s->steps, r->remembered, err) ||
        checkpoint_config(&r->from, &s->config, &r->tokenizer, &r->done, err))
        return -1;
    note_arithmetic(s);
    return more && steps != s->steps ? change_horizon(r, steps, err) : 0;
}

/* ---- memory and time ------------------------------------------------------------------------ */

static int dry_run(Training *r)
{
    Trainer *t = &r->trainer;
    const Settings *s = &r->s;
    const int steps = s->stop_at - r->done;
    const double tokens = (double)t->copies * t->corpus.start[t->corpus.rows] / t->batches;
    double bytes[MEMORY];
    int trials;
    Error never; /* prepare has asked */
    const double step = measured_step(t, 1, s->dropout, VALIDATED, s->log_interval, &trials);
    training_memory(t, &r->tokenizer, bytes, &never);
    const int held = t->val.rows < VALIDATED ? t->val.rows : VALIDATED;
    const double unused = sizeof(real) * (double)t->work.size - largest_group(t, held);
    bytes[ACTIVATIONS] -= unused, bytes[TOTAL] -= unused;
    printf("%.2f million parameters\n", t->model.num_params * 1e-6);
    for (int i = 0; i < MEMORY; i++) printf("%12.1f MB %s\n", bytes[i] * 1e-6, memory_names[i]);
    printf("%12.0f tokens/s in %d steps; %d steps take %.2f hours\n", tokens / fmax(step, 1e-9),
           trials, steps, steps * step / 3600);
    return fflush(stdout) || ferror(stdout) ? -1 : 0;
}

/* The text, its vocabulary, and its sentences, or those of the classifier and their labels. */
static int read_text(Training *r, const char *path, Error *err)
{
    Settings *s = &r->s;
    Config *c = &s->config;
    Trainer *t = &r->trainer;
    Corpus *corpus = &t->corpus;
    const Tokenizer *words = s->classifier ? &t->denoiser.tokenizer : &r->tokenizer;
    const int counts_words = !words->size && tokenizer_is_made(s->text.tokenizer);
    if (counts_words && !s->init && !option_given(r->options, &s->text.min_frequency))
        s->text.min_frequency = 0; /* as it suits the text */
    if (corpus_read(corpus, path, err)) return -1;
    const double text_bytes = (double)corpus->length;
    if (s->classifier ? corpus_take_labels(corpus, path, words, &r->tokenizer, &t->label, err)
                      : corpus_vocabulary(corpus, path, &r->tokenizer, &s->text,
                                          s->grow_vocab ? s->init : NULL, err))
        return -1;
    c->vocab = r->tokenizer.size;
    if (counts_words) s->text.min_frequency = r->tokenizer.min_frequency;
    if (s->pad && corpus_measure(corpus, path, words, c->seq_len, err)) return -1;
    if (s->pad && corpus->longest < c->seq_len) c->seq_len = corpus->longest;
    if (corpus_fill(corpus, path, words, c->seq_len, s->pad, err)) return -1;
    if (!c->max_positions) c->max_positions = corpus->longest;
    fprintf(stderr, "%s: %d sentences, ", path, corpus->rows);
    if (s->classifier)
        fprintf(stderr, "%d labels; ", c->vocab - TOKEN_SPECIALS);
    else
        fprintf(stderr, "%d %s in the vocabulary; ", c->vocab,
                words->kind == TOKENIZER_WORD ? "words" : "tokens");
    fprintf(stderr, "the longest sentence has %d positions\n", corpus->longest);
    tell_notes(corpus);
    const int is_chosen = counts_words && !option_given(r->options, &s->text.min_frequency);
    const int is_full = counts_words && c->vocab == s->text.vocab_size &&
                        !option_given(r->options, &s->text.vocab_size);
    if (!s->resume && !s->classifier)
        suit_text(corpus, is_chosen ? s->text.min_frequency : 1, is_full ? c->vocab : 0,
                  option_given(r->options, &s->batch) ? NULL : &s->batch);
    if (corpus->longest > c->max_positions)
        return fail(err, "--max-positions %d: the longest sentence has %d; --seq-len %d cuts it",
                    c->max_positions, corpus->longest, c->max_positions);
    corpus_fingerprint(corpus, t->label, r->fingerprint[0]);
    if (s->resume && s->fingerprint && strcmp(s->fingerprint, r->fingerprint[0]))
        return fail(err,
                    "%s: not the text that %s was trained on: that was %s, of %.0f bytes, "
                    "this has %.0f",
                    path, s->resume, s->text_path ? s->text_path : "another", s->text_bytes,
                    text_bytes);
    s->fingerprint = r->fingerprint[0], s->text_path = path, s->text_bytes = text_bytes;
    return 0;
}

/* The sentences that are held out: those of --val or, of a classifier, a tenth of each label. */
static int read_held_out(Training *r, Error *err)
{
    Settings *s = &r->s;
    const Config *c = &s->config;
    Trainer *t = &r->trainer;
    if (s->val) {
        const int most = c->seq_len < c->max_positions ? c->seq_len : c->max_positions;
        if (corpus_read(&t->val, s->val, err) ||
            corpus_fill(&t->val, s->val, &r->tokenizer, most, s->pad, err))
            return -1;
        tell_notes(&t->val);
        corpus_fingerprint(&t->val, NULL, r->fingerprint[1]);
        if (s->resume && s->val_fingerprint && strcmp(s->val_fingerprint, r->fingerprint[1]))
            fprintf(stderr,
                    "note: %s: not the held-out text of %s until now; val is another loss\n",
                    s->val, s->resume);
        s->val_fingerprint = r->fingerprint[1];
    }
    if (!s->classifier) return 0;
    denoiser_fingerprint(&t->denoiser.model, r->fingerprint[2]);
    s->denoiser_is = r->fingerprint[2];
    return corpus_hold_out(&t->corpus, t->label, c->vocab, &t->val, &t->val_label, err);
}

/* Everything between the command line and the first step. Returns 1 if there is nothing to do. */
static int prepare(Training *r, const char *path, Error *err)
{
    Settings *s = &r->s;
    Config *c = &s->config;
    Trainer *t = &r->trainer;
    Corpus *corpus = &t->corpus;
    double bytes[MEMORY], step;
    int trials;
    if (s->resume && r->done >= (s->stop_at ? s->stop_at : s->steps)) {
        fprintf(stderr, "%s: step %d of %d is done; nothing to do (--steps N goes on to step N)\n",
                s->resume, r->done, s->steps);
        return 1;
    }
    if (!s->stop_at) s->stop_at = s->steps;
    if (s->stop_at > s->steps)
        return fail(err, "--stop-at %d: there are only --steps %d", s->stop_at, s->steps);
    if (!s->resume) c->vocab = TOKEN_SPECIALS; /* and the words, which come from the text */
    if (config_check(c, err) || diffusion_from_noise(&t->diffusion, c, NULL, err) ||
        read_text(r, path, err) || read_held_out(r, err))
        return -1;
    if (!s->resume) note_arithmetic(s);
    t->batch = s->batch, t->microbatch = s->microbatch, t->seed = (uint64_t)s->seed;
    if (model_init(&t->model, c, err) || training_memory(t, &r->tokenizer, bytes, err)) return -1;
    if (!s->resume) model_random(&t->model, (uint64_t)s->seed);
    if (!s->resume && s->classifier) classifier_begin(&t->model, &t->denoiser.model);
    if (s->init &&
        checkpoint_weights(&r->from, &t->model, s->init_pretrained, s->pretrained_embeddings, err))
        return -1;
    if (trainer_begin(t, &r->from, s->schedule_sampler, s->resume != NULL, err)) return -1;
    if (s->schedule_sampler) r->extra[r->extras++] = t->losses;
    if (!s->pad && !s->classifier) { /* ./sample draws lengths by these */
        r->extra[r->extras] = length_tensor(c->max_positions);
        if (!(r->length_count =
                  checked_alloc(r->extra[r->extras].size, sizeof *r->length_count, err)))
            return -1;
        for (int i = 0; i < corpus->rows; i++) r->length_count[sentence_length(corpus, i)]++;
        if (t->val.rows && (r->val_unseen = pairs_never_seen(corpus, &t->val, err)) < 0) return -1;
        r->extra[r->extras++].data = r->length_count;
    }
    checkpoint_close(&r->from);
    if (trainer_room(t, s->freeze_embeddings, err) || training_memory(t, &r->tokenizer, bytes, err))
        return -1;
    fprintf(stderr,
            "%.2f million parameters, %d threads%s; %.1f MB of memory, checkpoints of %.1f MB\n",
            t->model.num_params * 1e-6, max_threads(), s->resume ? ", resumed" : "",
            bytes[TOTAL] * 1e-6, bytes[CHECKPOINT] * 1e-6);
    if (s->minutes > 0) { /* measuring takes a hundredth, at least 3 s, at most a tenth */
        const double all = 60 * s->minutes, begun = seconds();
        step = measured_step(t, fmax(all / 100, fmin(all / 10, 3)), s->dropout, VALIDATED,
                             s->log_interval, &trials);
        const double left = all - ranks_slowest(seconds() - begun);
        s->steps = s->stop_at = (int)fmin(fmax(left / step, 1), 1e8);
        fprintf(stderr, "--minutes %g: %.3g s a step, measured in %d, so this is --steps %d\n",
                s->minutes, step, trials, s->steps);
    }
    if (s->resume || s->classifier) return 0;
    if (!option_given(r->options, &s->lr)) s->lr = rate_for_steps(s->lr, s->steps);
    if (!option_given(r->options, &s->weight_decay) && !s->init && c->predict == PREDICT_SOFTMAX)
        s->weight_decay = decay_for_run(t, s->weight_decay, s->steps);
    return tell_prospects(corpus, path, &r->tokenizer, s->batch, s->steps, err);
}

static void release(Training *r)
{
    checkpoint_close(&r->from);
    for (int i = 0; i < REMEMBERED; i++) free(r->remembered[i]);
    tokenizer_free(&r->tokenizer);
    trainer_free(&r->trainer);
    free(r->options);
    free(r->length_count);
    log_close(&r->log);
}

/* May the run write its checkpoint, its log, and what --keep-every keeps? */
static int claim_output(Training *r, const char *log, const char *const *inputs, int count,
                        int begin, Error *err)
{
    const Settings *s = &r->s;
    for (int step = r->done + 1; step <= s->stop_at && s->keep_every && begin; step++)
        if (step % s->keep_every == 0 &&
            checkpoint_kept_spare(s->out, step, s->resume, s->overwrite, inputs, count, err))
            return -1;
    return checkpoint_claim(&r->log, s->out, log, s->resume, s->overwrite, begin, err);
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

/* The command line: returns the number of operands, or -1. */
static int parse(Training *r, int argc, char **argv, const char **path, Error *err)
{
    const Settings *s = &r->s;
    const int operands = options_parse(r->options, argc, argv, path, 1, err);
    const int of_vocabulary = option_given(r->options, &s->text.vocab_size) ||
                              option_given(r->options, &s->text.min_frequency);
    if (operands > 0 && s->classifier)
        return fail(err, "'%s': --classifier has its sentences in %s", *path, s->classifier);
    if (operands == 0 && s->export)
        return fail(err, "--export %s: expected the file to write behind it", s->export);
    if (operands >= 0 && of_vocabulary && !tokenizer_is_made(s->text.tokenizer))
        return fail(err,
                    "--vocab-size and --min-frequency have no effect with --tokenizer %.80s, which "
                    "has its vocabulary already",
                    s->text.tokenizer);
    return operands;
}

int main(int argc, char **argv)
{
    static const char *const corpus_suffixes[] = {"-train.txt", "-labeled.tsv", ".txt", ".tsv",
                                                  NULL};
    begin_program();
    ignore_closed_pipes();
    Training run = {0};
    ranks_begin(&run.trainer, &argc, &argv);
    Settings *s = &run.s;
    const char *path = NULL;
    Buffer out = {0}, log = {0};
    Error err;
    defaults(s);
    if (!(run.options = list_options(s, &err))) {
        fprintf(stderr, "train: %s\n", err.text);
        return 1;
    }
    const int operands = parse(&run, argc, argv, &path, &err);
    if (operands < 0 || s->help || s->version || s->export) {
        const int failed =
            operands >= 0 && !s->help && !s->version && checkpoint_export(s->export, path, &err);
        const int status = operands < 0 ? 2
                           : s->help    ? print_help(s, run.options, path && !strcmp(path, "all"))
                           : s->version ? print_version(stdout)
                                        : failed != 0;
        if (operands < 0 || failed) fprintf(stderr, "train: %s\n", err.text);
        free(run.options);
        return ranks_end(&run.trainer, status);
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
        buffer_base_name(&out, path, corpus_suffixes);
        buffer_print(&out, s->classifier ? ".clf.safetensors" : ".safetensors");
    }
    if (!s->out) s->out = out.failed ? "" : out.text; /* refused below */
    set_threads(s->threads);
    note_floats();
    checkpoint_beside(s->out, ".jsonl", &log);
    if (!status && (out.failed || log.failed)) status = fail(&err, "out of memory");
    if (!status && is_standard_input(path) && s->out == out.text && !s->resume)
        status = fail(&err, "a text from the standard input has no name: --out is needed");
    if (!status && is_standard_input(path) && s->val && is_standard_input(s->val))
        status = fail(&err, "the standard input cannot be the text and --val, too");
    const char *const inputs[] = {path, s->val, s->denoiser, s->resume ? NULL : s->init};
    if (!status &&
        (output_spares(s->out, inputs, 4, &err) || output_spares(log.text, inputs, 4, &err)))
        status = -1;
    const int writes = !s->dry_run && run.trainer.rank == 0;
    if (!status && writes) status = claim_output(&run, log.text, inputs, 4, 0, &err);
    if (!status) status = prepare(&run, path, &err);
    if (!status && s->dry_run && dry_run(&run))
        status = fail(&err, "standard output: cannot write");
    if (!status && writes) status = claim_output(&run, log.text, inputs, 4, 1, &err);
    if (!status && !s->dry_run) {
        const int kept = s->keep_every ? s->stop_at / s->keep_every - run.done / s->keep_every : 0;
        if (writes) note_room(s->out, run.log.path, 16.0 * run.trainer.model.num_params, kept);
        status = train(&run, &err);
        if (!status && run.done < s->stop_at) status = 128 + stop_signal();
    }
    if (status < 0) fprintf(stderr, "train: %s\n", err.text);
    release(&run);
    free(out.text);
    free(log.text);
    return ranks_end(&run.trainer, status < 0 ? 1 : status > 1 ? status : 0);
}
