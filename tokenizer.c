/* tokenizer.c - text to token ids and back; the JSON and the command lines that go with it.
 *
 * A model of text does not see letters: it sees integers, the rows of its embedding table. What one
 * integer stands for is a choice: a word, part of one, a letter, some bytes. The tokenizers here
 * are those of Hugging Face's library that text diffusion needs, byte for byte where a file says
 * how, over one type; "TOKENIZERS" begins with a text as each of them sees it.
 *
 * The one that ./train makes by default, `word`, is for reading the samples and learning fast:
 *
 *   1. the special tokens [UNK] [CLS] [SEP] [PAD] [MASK], where the text spells them out, are cut
 *      out as they are;
 *   2. letters are lower-cased, one by one, and the accents of Latin, Greek and Cyrillic dropped:
 *      "Café" becomes "cafe"; the marks of other scripts are part of the spelling, and stay;
 *   3. every numeric character is a token by itself, "42" becomes "4" "2", and so is every Chinese
 *      character;
 *   4. the rest is split at white space and wherever word characters meet symbols: "what?!"
 *      becomes "what" "?!";
 *   5. a token outside the vocabulary becomes [UNK]; [CLS] goes in front, [SEP] behind.
 *
 * `original` differs in 2 and 3, where it drops all marks and has no rule for Chinese, and in
 * decoding: the blanks that `word` has learnt, it puts by ten fixed rules.
 *
 * Order: errors, memory, files, output, signals; Buffer, UTF-8, for people who wait, JSON, options;
 * then the tokenizers: vocabulary, pieces, words and characters, WordPiece, byte-level BPE,
 * encoding, blanks, decoding; sentences of a file, with labels, beside a text; tokenizer.json,
 * other files; Unicode tables, NFC; the program. */
#if defined(__unix__) || defined(__APPLE__)
/* For files and signals: names that are new, links, modes, locks, syncing; all works without. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64 /* files of more than 2 GB, on machines of 32 bits, too */
#define TDIFF_POSIX
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#elif defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#endif
#include "tdiff.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- errors, memory, files ------------------------------------------------------------------ */

int fail(Error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    /* one line, whatever the name has that a file or person gave */
    for (char *at = err->text; (at = strchr(at, '\n'));) *at = '?';
    hide_controls(err->text);
    return -1;
}

void hide_controls(char *text)
{
    unsigned char *at = (unsigned char *)text;
    for (; at && *at; at++)
        if ((*at < ' ' && *at != '\n') || *at == 0x7f)
            *at = '?';
        else if (*at == 0xC2 && at[1] >= 0x80 && at[1] < 0xA0) /* U+0080 to U+009F */
            at[0] = at[1] = '?';
}

void *checked_alloc(size_t count, size_t size, Error *err)
{
    void *p = size && count > (size_t)-1 / size ? NULL : calloc(count ? count : 1, size ? size : 1);
    if (!p) fail(err, "out of memory: %zu x %zu bytes", count, size);
    return p;
}

int is_standard_input(const char *path)
{
    return !strcmp(path, "-") || !strcmp(path, "/dev/stdin");
}

char *read_file(const char *path, size_t *length, Error *err)
{
    FILE *f = is_standard_input(path) ? stdin : fopen(path, "rb");
    char *text = NULL, *grown;
    size_t n = 0, room = 0;
    int whole = 0;
    if (!f) {
        fail(err, "%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    while (!whole) {
        if (room - n < 2) {
            grown = realloc(text, room = room ? 2 * room : 65536);
            if (!grown) {
                fail(err, "%s: out of memory at %zu bytes", path, room);
                break;
            }
            text = grown;
        }
        size_t got = fread(text + n, 1, room - n - 1, f);
        n += got;
        if (ferror(f)) {
            fail(err, "%s: cannot read: %s", path, strerror(errno));
            break;
        }
        whole = !got;
    }
    if (f != stdin) fclose(f);
    if (whole) {
        text[n] = '\0';
        *length = n;
        return text;
    }
    free(text);
    return NULL;
}

const char *const file_kind_names[] = {"an empty file", "a checkpoint", "a log of ./train",
                                       "a tokenizer",   "text",         "binary data"};

FileKind file_kind(const char *path)
{
    char bytes[512];
    FILE *f = NULL;
#ifdef TDIFF_POSIX
    struct stat status;
    if (stat(path, &status) || !S_ISREG(status.st_mode)) return FILE_NEW;
#endif
    if (!(f = fopen(path, "rb"))) return errno == ENOENT ? FILE_NEW : FILE_BINARY;
    const size_t n = fread(bytes, 1, sizeof bytes - 1, f);
    bytes[n] = '\0';
    fclose(f);
    if (!n) return FILE_NEW;
    if (n > 9 && !bytes[7] && bytes[8] == '{') return FILE_CHECKPOINT;
    if (memchr(bytes, 0, n)) return FILE_BINARY;
    if (!strncmp(bytes, "{\"step\":", 8)) return FILE_LOG;
    if (*bytes == '{' && !strncmp(bytes + 1 + strspn(bytes + 1, " \r\n"), "\"version\"", 9))
        return FILE_TOKENIZER;
    return FILE_TEXT;
}

void file_date(const char *path, char out[20])
{
    *out = '\0';
#ifdef TDIFF_POSIX
    struct stat status;
    if (!stat(path, &status)) strftime(out, 20, "%Y-%m-%d %H:%M", localtime(&status.st_mtime));
#else
    (void)path;
#endif
}

int same_file(const char *a, const char *b)
{
#ifdef TDIFF_POSIX
    struct stat x, y;
    if (!stat(a, &x) && !stat(b, &y))
        return S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
#endif
    return !strcmp(a, b);
}

int output_spares(const char *path, const char *const *inputs, int count, Error *err)
{
    for (int i = 0; i < count; i++)
        if (inputs[i] && same_file(path, inputs[i]))
            return fail(err, "%s: the output would overwrite this input; another --out is needed",
                        inputs[i]);
    return 0;
}

int output_flushed(FILE *out, const char *name, Error *err)
{
    if (!fflush(out) && !ferror(out)) return 0;
    return fail(err, "%s: cannot write", name ? name : "standard output");
}

double physical_memory(void)
{
#if defined(TDIFF_POSIX) && defined(_SC_PHYS_PAGES)
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
#else
    return HUGE_VAL;
#endif
}

static double free_bytes(const char *path) /* on the disk of this file; -1: unknown */
{
#ifdef TDIFF_POSIX
    struct statvfs disk;
    if (!statvfs(path, &disk)) return (double)disk.f_bavail * disk.f_frsize;
#else
    (void)path;
#endif
    return -1;
}

void note_room(const char *out, const char *beside, double size, int kept)
{
    const double room = free_bytes(beside);
    const int files = kept + (file_kind(out) == FILE_NEW ? 2 : 1);
    if (room >= 0 && room < files * size)
        fprintf(stderr, "note: %.0f MB are free where %s is written; saving needs %.0f MB, %s%s\n",
                room * 1e-6, out, (kept + 2) * size * 1e-6, "twice the checkpoint",
                kept ? " and those of --keep-every" : "");
}

/* ---- output: what was there stays until what replaces it is whole --------------------------- */

#ifdef TDIFF_POSIX
/* The name at the end of the symbolic links that begin with path, also if there is no such file. */
static int follow_links(char path[OUTPUT_NAME], Error *err)
{
    char target[OUTPUT_NAME];
    for (int links = 0; links < 40; links++) {
        const ssize_t n = readlink(path, target, sizeof target);
        const char *slash = strrchr(path, '/');
        const size_t folder = !slash || *target == '/' ? 0 : (size_t)(slash + 1 - path);
        if (n < 0) return 0;
        if (folder + (size_t)n >= OUTPUT_NAME) return fail(err, "%s: too long a link", path);
        memcpy(path + folder, target, (size_t)n);
        path[folder + (size_t)n] = '\0';
    }
    return fail(err, "%s: too many symbolic links", path);
}

/* A renamed file is safe when its folder has been written. */
static void sync_folder(const char *path)
{
    char folder[OUTPUT_NAME] = ".";
    const char *slash = strrchr(path, '/');
    if (slash) sprintf(folder, "%.*s", (int)(slash + 1 - path), path);
    const int fd = open(folder, O_RDONLY);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}
#endif

/* NULL if there is such a file already. */
static FILE *create_file(const char *path)
{
#ifdef TDIFF_POSIX
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (f || fd < 0) return f;
    close(fd);
    remove(path);
    return NULL;
#else
    FILE *f = fopen(path, "rb");
    if (!f) return fopen(path, "wb");
    fclose(f);
    return NULL;
#endif
}

/* The temporary file of the output that is open: a second signal, which ends the program at once,
 * removes it. */
static const char *volatile unfinished;

int output_open(Output *o, const char *path, Error *err)
{
    memset(o, 0, sizeof *o);
    if (!*path) return fail(err, "the name of the output file is empty");
    if (!strcmp(path, "-")) return fail(err, "'-' is no name of an output file");
    if (strlen(path) >= sizeof o->path) return fail(err, "%.40s...: the path is too long", path);
    strcpy(o->path, path);
#ifdef TDIFF_POSIX
    struct stat there;
    if (follow_links(o->path, err)) return -1;
    const int exists = !stat(o->path, &there);
    if (exists && !S_ISREG(there.st_mode)) { /* a device or pipe is written as it is */
        o->file = fopen(o->path, "wb");
        return o->file ? 0 : fail(err, "%s: cannot write: %s", path, strerror(errno));
    }
    if (exists && (!(there.st_mode & 0222) || access(o->path, W_OK)))
        return fail(err, "%s: cannot write: it is read-only", path);
    const int own = (int)(getpid() % 1000000);
#else
    const int own = 0;
#endif
    for (int i = 0; i < 100 && !o->file; i++) {
        sprintf(o->temporary, "%s.%d.tmp", o->path, own + i);
        o->file = create_file(o->temporary);
    }
    if (!o->file) return fail(err, "%s: cannot write: %s", o->temporary, strerror(errno));
    unfinished = o->temporary;
#ifdef TDIFF_POSIX
    if (exists) fchmod(fileno(o->file), there.st_mode & 07777);
#endif
    return 0;
}

int output_close(Output *o, int keep, Error *err)
{
    int status = 0;
    if (!o->file) return 0;
    if (keep && (ferror(o->file) || fflush(o->file)))
        status = fail(err, "%s: cannot write: %s", o->path, strerror(errno));
#ifdef TDIFF_POSIX
    if (keep && !status && fsync(fileno(o->file)) && errno != EINVAL && errno != EROFS)
        status = fail(err, "%s: cannot write: %s", o->path, strerror(errno));
#endif
    if (fclose(o->file) && keep && !status)
        status = fail(err, "%s: cannot write: %s", o->path, strerror(errno));
    o->file = NULL;
    if (!*o->temporary) return status;
#ifndef TDIFF_POSIX
    if (keep && !status) remove(o->path); /* elsewhere rename may refuse to replace a file */
#endif
    if (keep && !status && rename(o->temporary, o->path))
        status = fail(err, "%s: cannot replace it: %s", o->path, strerror(errno));
    if (!keep || status) remove(o->temporary);
    unfinished = NULL;
#ifdef TDIFF_POSIX
    if (keep && !status) sync_folder(o->path);
#endif
    return status;
}

int log_open(Log *l, const char *path, int empty, Error *err)
{
    memset(l, 0, sizeof *l);
    if (strlen(path) >= sizeof l->path) return fail(err, "%.40s...: the path is too long", path);
    strcpy(l->path, path);
    l->size = -1;
    l->file = fopen(path, "a+b");
    if (!l->file) return fail(err, "%s: cannot write: %s", path, strerror(errno));
    setvbuf(l->file, NULL, _IONBF, 0);
#ifdef TDIFF_POSIX
    /* The lock ends with the process, whatever ends it, or when it closes the file under any other
     * handle, so it does not read it again. Not every file system has locks. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fileno(l->file), F_SETLK, &lock) && (errno == EACCES || errno == EAGAIN)) {
        log_close(l);
        return fail(err, "%s: another run is writing it", path);
    }
#endif
    if (empty && (fseek(l->file, 0, SEEK_END) || ftell(l->file))) {
        log_close(l);
        return fail(err, "%s: another run has written it meanwhile", path);
    }
    return 0;
}

void log_close(Log *l)
{
    if (l->file) fclose(l->file);
    l->file = NULL;
}

/* Leaves the first `size` bytes. */
static int log_cut(Log *l, long size)
{
    clearerr(l->file);
#ifdef TDIFF_POSIX
    return ftruncate(fileno(l->file), size) || fseek(l->file, 0, SEEK_END) ? -1 : 0;
#else
    char *kept = malloc((size_t)size + 1);
    rewind(l->file);
    int bad = !kept || fread(kept, 1, (size_t)size, l->file) != (size_t)size;
    if (!bad) bad = !(l->file = freopen(l->path, "w+b", l->file));
    if (!bad) bad = fwrite(kept, 1, (size_t)size, l->file) != (size_t)size;
    free(kept);
    return bad ? -1 : 0;
#endif
}

int log_add(Log *l, int step, const Buffer *line, Error *err)
{
    char old[1000];
    int number;
    if (!l->file) return 0;
    if (l->size < 0) {
        long size = 0;
        rewind(l->file);
        while (fgets(old, sizeof old, l->file) && strchr(old, '\n') &&
               sscanf(old, "{\"step\":%d", &number) == 1 && number <= step)
            size = ftell(l->file);
        if (log_cut(l, size)) return fail(err, "%s: cannot cut: %s", l->path, strerror(errno));
        l->size = size;
    }
    if (line->failed) return fail(err, "%s: out of memory", l->path);
    if (fwrite(line->text, 1, line->length, l->file) == line->length && !fflush(l->file)) {
        l->size += (long)line->length;
        return 0;
    }
    fail(err, "%s: cannot write: %s", l->path, strerror(errno));
    log_cut(l, l->size); /* no half line */
    return -1;
}

/* ---- signals -------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopped_by;
static volatile time_t stopped_at;
static char stop_text[120];

static void on_signal(int number)
{
    const time_t now = time(NULL);
#ifndef TDIFF_POSIX
    signal(number, on_signal);
#endif
    if (!stopped_by) {
        stopped_by = number;
        stopped_at = now;
#ifdef TDIFF_POSIX
        const int before = errno;
        const ssize_t told = write(STDERR_FILENO, stop_text, strlen(stop_text));
        (void)told;
        errno = before;
#endif
    } else if (now - stopped_at > 1) { /* `timeout` sends two at once, a hand does not */
        if (unfinished) remove(unfinished);
        signal(number, SIG_DFL);
        raise(number);
    }
}

void catch_signals(void)
{
#ifdef TDIFF_POSIX
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction before, action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    for (int i = 0; i < 3; i++)
        if (!sigaction(numbers[i], NULL, &before) && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
#else
    if (signal(SIGINT, on_signal) == SIG_IGN) signal(SIGINT, SIG_IGN);
    signal(SIGTERM, on_signal);
#endif
}

void ignore_closed_pipes(void)
{
#ifdef TDIFF_POSIX
    signal(SIGPIPE, SIG_IGN);
#endif
}

int stop_signal(void) { return stopped_by; }

void stop_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(stop_text, sizeof stop_text, format, args);
    va_end(args);
}

static void on_illegal_instruction(int number)
{
    static const char text[] = "this processor lacks an instruction that the program was built "
                               "with (-march=native); make NATIVE=0 builds for every processor\n";
    (void)number;
#ifdef TDIFF_POSIX
    const ssize_t told = write(STDERR_FILENO, text, sizeof text - 1);
    (void)told;
#else
    fputs(text, stderr);
#endif
    _Exit(1);
}

int file_seek(FILE *f, uint64_t at, int origin)
{
#ifdef TDIFF_POSIX
    return fseeko(f, (off_t)at, origin);
#elif defined(_WIN32)
    return _fseeki64(f, (int64_t)at, origin);
#else
    return at <= LONG_MAX ? fseek(f, (long)at, origin) : -1;
#endif
}

int64_t file_tell(FILE *f)
{
#ifdef TDIFF_POSIX
    return ftello(f);
#elif defined(_WIN32)
    return _ftelli64(f);
#else
    return ftell(f);
#endif
}

void begin_program(void)
{
    signal(SIGILL, on_illegal_instruction);
#ifdef _WIN32 /* \n stays one byte, and no byte ends a text */
    _setmode(0, _O_BINARY), _setmode(1, _O_BINARY);
#endif
#ifdef TDIFF_POSIX
    int fd;
    do fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd < 3);
    if (fd >= 0) close(fd);
#endif
}

int print_version(FILE *out)
{
#ifdef _OPENMP
    const char *threads = "OpenMP";
#else
    const char *threads = "none";
#endif
    fprintf(out, "tdiff " TDIFF_VERSION " (arithmetic: %s, threads: %s)\n", arithmetic_class(),
            threads);
    return fflush(out) || ferror(out) ? 1 : 0;
}

void note_floats(void)
{
    if (!floats_are_exact())
        fprintf(stderr, "note: this build computes with more than float precision; another build "
                        "may give another result\n");
}

double seconds(void)
{
#ifdef TDIFF_POSIX
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#else
    return (double)time(NULL);
#endif
}

int on_terminal(FILE *f)
{
#ifdef TDIFF_POSIX
    return isatty(fileno(f));
#else
    (void)f;
    return 0;
#endif
}

void terminal_size(FILE *f, int *columns, int *rows)
{
    *columns = 79, *rows = 24;
#ifdef TIOCGWINSZ
    struct winsize size;
    if (ioctl(fileno(f), TIOCGWINSZ, &size)) return;
    if (size.ws_col > 1) *columns = size.ws_col - 1;
    if (size.ws_row > 0) *rows = size.ws_row;
#else
    (void)f;
#endif
}

int is_plain(FILE *f)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    return !on_terminal(f) || (no_color && *no_color) || !term || !*term || !strcmp(term, "dumb");
}

void wait_seconds(double s)
{
#ifdef TDIFF_POSIX
    const struct timespec time = {(time_t)s, (long)(1e9 * (s - floor(s)))};
    if (s > 0) nanosleep(&time, NULL);
#else
    (void)s;
#endif
}

/* ---- Buffer --------------------------------------------------------------------------------- */

static int buffer_reserve(Buffer *b, size_t n) /* room for n more bytes and the closing NUL */
{
    size_t capacity = b->capacity ? b->capacity : 64;
    if (n >= (size_t)-1 / 2 - b->length) b->failed = 1;
    if (b->failed) return 0;
    while (capacity <= b->length + n) capacity *= 2;
    if (capacity == b->capacity) return 1;
    char *grown = realloc(b->text, capacity);
    if (!grown) {
        b->failed = 1;
        return 0;
    }
    b->text = grown;
    b->capacity = capacity;
    return 1;
}

void buffer_add(Buffer *b, const char *bytes, size_t n)
{
    if (!buffer_reserve(b, n)) return;
    if (n) memcpy(b->text + b->length, bytes, n);
    b->length += n;
    b->text[b->length] = '\0';
}

void buffer_print(Buffer *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) b->failed = 1;
    if (n < 0 || !buffer_reserve(b, (size_t)n)) return;
    va_start(args, format);
    vsnprintf(b->text + b->length, (size_t)n + 1, format, args);
    va_end(args);
    b->length += (size_t)n;
}

void buffer_duration(Buffer *b, double s)
{
    const double minutes = floor((s + 0.5) / 60), hours = floor(minutes / 60);
    if (hours >= 1)
        buffer_print(b, "%.0fh %02.0fm", hours, minutes - 60 * hours);
    else if (minutes >= 1)
        buffer_print(b, "%.0fm %02.0fs", minutes, floor(s + 0.5 - 60 * minutes));
    else
        buffer_print(b, "%.0fs", fmax(s, 0));
}

void buffer_base_name(Buffer *b, const char *path, const char *const *suffixes)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t n = strlen(base);
    for (; *suffixes; suffixes++) {
        const size_t k = strlen(*suffixes);
        if (n > k && !strcmp(base + n - k, *suffixes)) {
            n -= k;
            break;
        }
    }
    buffer_add(b, base, n);
}

void buffer_json_numbers(Buffer *b, const char *name, const double *x, int n)
{
    for (int i = 0; i < n; i++) {
        if (i == 0) buffer_print(b, ",\"%s\":[", name);
        buffer_print(b, isnan(x[i]) ? "%snull" : "%s%.6g", i ? "," : "", x[i]);
    }
    buffer_print(b, "]");
}

/* ---- UTF-8 ---------------------------------------------------------------------------------- */

/* The code point at s and its length in bytes; 0 if no well-formed sequence starts there. */
static size_t utf8_read(const char *s, size_t n, uint32_t *code)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800,
                                         0x10000}; /* a longer form than needed is malformed */
    const unsigned char *u = (const unsigned char *)s;
    size_t length = u[0] < 0x80   ? 1
                    : u[0] < 0xC0 ? 0
                    : u[0] < 0xE0 ? 2
                    : u[0] < 0xF0 ? 3
                    : u[0] < 0xF8 ? 4
                                  : 0;
    if (length == 0 || length > n) return 0;
    *code = length == 1 ? u[0] : u[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((u[i] & 0xC0) != 0x80) return 0;
        *code = *code << 6 | (u[i] & 0x3F);
    }
    return *code < smallest[length] || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000)
               ? 0
               : length;
}

static size_t first_bad_byte(const char *s, size_t n) /* counted from 1; 0: all is UTF-8 */
{
    uint32_t code;
    for (size_t at = 0, length; at < n; at += length)
        if (!(length = utf8_read(s + at, n - at, &code))) return at + 1;
    return 0;
}

static void utf8_add(Buffer *b, uint32_t c)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    char s[4];
    for (size_t i = n - 1; i > 0; i--, c >>= 6) s[i] = (char)(0x80 | (c & 0x3F));
    s[0] = (char)(n == 1 ? c : (0xF00u >> n & 0xFF) | c);
    buffer_add(b, s, n);
}

int text_columns(const char *text, size_t n, int most, size_t *fits)
{
    static const struct {
        uint32_t first, last;
        int columns;
    } others[] = {
        /* marks, then what is wide in East Asian scripts, then emoji */
        {0x300, 0x36F, 0},     {0x483, 0x489, 0},     {0x591, 0x5BD, 0},     {0x610, 0x61A, 0},
        {0x64B, 0x65F, 0},     {0x900, 0x902, 0},     {0x93C, 0x93C, 0},     {0x941, 0x948, 0},
        {0x94D, 0x94D, 0},     {0xE31, 0xE31, 0},     {0xE34, 0xE3A, 0},     {0xE47, 0xE4E, 0},
        {0x1AB0, 0x1AFF, 0},   {0x1DC0, 0x1DFF, 0},   {0x200B, 0x200F, 0},   {0x20D0, 0x20F0, 0},
        {0xFE00, 0xFE0F, 0},   {0xFE20, 0xFE2F, 0},   {0x1100, 0x115F, 2},   {0x2E80, 0x303E, 2},
        {0x3041, 0x4DBF, 2},   {0x4E00, 0xA4CF, 2},   {0xA960, 0xA97C, 2},   {0xAC00, 0xD7A3, 2},
        {0xF900, 0xFAFF, 2},   {0xFE30, 0xFE6F, 2},   {0xFF00, 0xFF60, 2},   {0xFFE0, 0xFFE6, 2},
        {0x1F300, 0x1F64F, 2}, {0x1F680, 0x1F6FF, 2}, {0x1F900, 0x1FAFF, 2}, {0x20000, 0x3FFFD, 2}};
    int columns = 0;
    for (*fits = 0; *fits < n;) {
        uint32_t code = 0;
        const size_t length = utf8_read(text + *fits, n - *fits, &code);
        int more = 1;
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            if (code >= others[i].first && code <= others[i].last) more = others[i].columns;
        if (columns + more > most) break;
        columns += more;
        *fits += length ? length : 1;
    }
    return columns;
}

/* The lines of a text, without what ends them: *at moves behind the line. 0: there is no more. */
static int next_line(const char *text, size_t n, size_t *at, const char **line, size_t *length)
{
    if (*at >= n) return 0;
    const char *newline = memchr(text + *at, '\n', n - *at);
    *line = text + *at;
    *length = (newline ? (size_t)(newline - text) : n) - *at;
    *at += *length + 1;
    if (*length && (*line)[*length - 1] == '\r') --*length;
    return 1;
}

/* ---- for people who wait -------------------------------------------------------------------- */

void progress_begin(Progress *p, int all) { *p = (Progress){.all = all, .started = seconds()}; }

void progress_tell(Progress *p, double finished)
{
    const double now = seconds(), elapsed = now - p->started;
    Buffer left = {0};
    if (p->off || elapsed < 3 || now - p->told < 0.2 || !on_terminal(stderr)) return;
    buffer_duration(&left, elapsed * (p->all / fmax(finished, 1e-9) - 1));
    fprintf(stderr, "\r%.0f of %d sentences", floor(finished), p->all);
    if (finished > 0 && !left.failed) fprintf(stderr, ", about %s left", left.text);
    fprintf(stderr, "\x1b[K");
    fflush(stderr);
    free(left.text);
    p->told = now;
}

void progress_end(Progress *p)
{
    if (p->told > 0) fprintf(stderr, "\r\x1b[K");
    p->told = 0;
}

void tell_parts(Buffer *part, int parts, const int *dispensable, int count, int stays)
{
    const int terminal = on_terminal(stderr);
    int columns, rows, length = 0;
    terminal_size(stderr, &columns, &rows);
    for (int i = 0; i < parts; i++) length += (int)part[i].length;
    for (int i = 0; i < count && length > columns; i++) {
        length -= (int)part[dispensable[i]].length;
        part[dispensable[i]].length = 0;
    }
    if (terminal) fputc('\r', stderr);
    for (int i = 0; i < parts; i++) {
        if (part[i].length) fputs(part[i].text, stderr);
        free(part[i].text);
    }
    fprintf(stderr, "%s%s", terminal ? "\x1b[K" : "", !terminal || stays ? "\n" : "");
}

int screen_begin(Screen *s, int rows, Error *err)
{
    int most;
    *s = (Screen){0};
    if (is_plain(stderr)) return 0;
    terminal_size(stderr, &s->columns, &most);
    if (rows > most - 2) rows = most > 3 ? most - 2 : 1;
    if (!(s->row = checked_alloc(rows, sizeof *s->row, err))) return -1;
    s->rows = rows;
    fprintf(stderr, "\x1b[?25l"); /* hides the cursor */
    return 0;
}

void screen_row(Screen *s, int row, const Buffer *text, const size_t *end, const double *sure,
                int pieces)
{
    static const int shades[] = {245, 138, 173, 172, 142, 107, 71, 35}; /* of the 256 of xterm */
    enum { SHADES = sizeof shades / sizeof *shades };
    Buffer *out = &s->row[row];
    size_t fits = 0, from = 0;
    int rows;
    terminal_size(stderr, &s->columns, &rows);
    if (!text->failed) text_columns(text->text, text->length, s->columns, &fits);
    const int is_cut = fits < text->length;
    if (is_cut) text_columns(text->text, text->length, s->columns - 1, &fits);
    out->length = 0;
    for (int i = 0; i < pieces && from < fits && !text->failed; i++) {
        const size_t to = end[i] < fits ? end[i] : fits;
        if (to <= from) continue;
        buffer_print(out, "\x1b[38;5;%dm%.*s", shades[(int)(sure[i] * (SHADES - 1) + 0.5)],
                     (int)(to - from), text->text + from);
        from = to;
    }
    buffer_print(out, "\x1b[0m%s", is_cut ? "\xe2\x80\xa6" : "");
}

void screen_draw(Screen *s, const char *heading, double fps)
{
    wait_seconds(s->frame_at + 1 / fps - seconds());
    s->frame_at = seconds();
    if (s->drawn) fprintf(stderr, "\x1b[%dA", s->drawn);
    fprintf(stderr, "\r%.*s\x1b[K\n", s->columns, heading);
    for (int k = 0; k < s->rows; k++)
        fprintf(stderr, "%s\x1b[K\n", s->row[k].text && !s->row[k].failed ? s->row[k].text : "");
    s->drawn = s->rows + 1;
    fflush(stderr);
}

void screen_end(Screen *s, int erase)
{
    if (s->drawn && erase) fprintf(stderr, "\x1b[%dA\r\x1b[J", s->drawn);
    if (s->row) fprintf(stderr, "\x1b[?25h");
    for (int k = 0; k < s->rows; k++) free(s->row[k].text);
    free(s->row);
    *s = (Screen){0};
}

/* ---- JSON (RFC 8259) ------------------------------------------------------------------------ */

void buffer_json_string(Buffer *b, const char *bytes, size_t n)
{
    uint32_t c = 0;
    buffer_add(b, "\"", 1);
    for (size_t i = 0, length; i < n; i += length ? length : 1) {
        length = utf8_read(bytes + i, n - i, &c);
        if (!length)
            utf8_add(b, 0xFFFD);
        else if (c < 0x20)
            buffer_print(b, "\\u%04x", (unsigned)c);
        else if (c == '"' || c == '\\')
            buffer_print(b, "\\%c", (int)c);
        else
            utf8_add(b, c);
    }
    buffer_add(b, "\"", 1);
}

static long hex4(const char *s, size_t n) /* four hexadecimal digits, or -1 */
{
    char digits[5] = "";
    if (n >= 4) memcpy(digits, s, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

/* One character inside a string, plain or escaped; returns the bytes it takes, 0: not allowed. */
static size_t json_character(const char *s, size_t n, uint32_t *code)
{
    static const char escapes[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    const char *e;
    if (n == 0 || (unsigned char)s[0] < 0x20) return 0;
    if (s[0] != '\\') return utf8_read(s, n, code);
    if (n < 2 || !s[1]) return 0;
    if (s[1] != 'u')
        return (e = strchr(escapes, s[1])) ? *code = (uint32_t)meaning[e - escapes], 2 : 0;
    long high = hex4(s + 2, n - 2),
         low = n >= 12 && s[6] == '\\' && s[7] == 'u' ? hex4(s + 8, n - 8) : -1;
    if (high < 0xD800 || high >= 0xE000) return *code = (uint32_t)high, high < 0 ? 0 : 6;
    if (high >= 0xDC00 || low < 0xDC00 || low >= 0xE000)
        return 0; /* beyond U+FFFF: two surrogates */
    *code = (uint32_t)(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
    return 12;
}

enum {
    JSON_MAX_DEPTH = 64,
    JSON_MAX_NODES = 1 << 26
}; /* a hostile file must not eat the stack of the recursion */
typedef struct {
    const char *text;
    size_t at, n;
    Json *j;
    int capacity;
    Error *err;
} JsonParser;

static int json_fail(const JsonParser *p, const char *what)
{
    return fail(p->err, "JSON, byte %zu: %s", p->at, what);
}
static int json_peek(const JsonParser *p)
{
    return p->at < p->n ? (unsigned char)p->text[p->at] : EOF;
}

static size_t json_accept(JsonParser *p, const char *set,
                          size_t most) /* steps over characters of the set; how many */
{
    size_t begin = p->at;
    while (p->at - begin < most && json_peek(p) > 0 && strchr(set, json_peek(p))) p->at++;
    return p->at - begin;
}

static int json_skip(JsonParser *p)
{
    return json_accept(p, " \t\n\r", p->n), json_peek(p);
} /* what follows blanks */

static int json_value(JsonParser *p, int depth)
{
    static const char first[] = "nft0\"[{", *const word[] = {"null", "false",
                                                             "true"}; /* in the order of JsonType */
    static const char digits[] = "0123456789";
    int c = json_skip(p), node = p->j->count;
    const char *found = c > 0 ? strchr(first, c) : NULL;
    uint32_t code;
    JsonType type = found ? (JsonType)(found - first) : JSON_NUMBER;
    if (depth > JSON_MAX_DEPTH) return json_fail(p, "nested too deeply");
    if (node == p->capacity) {
        int capacity = p->capacity ? 2 * p->capacity : 32;
        JsonNode *grown = capacity > JSON_MAX_NODES
                              ? NULL
                              : realloc(p->j->node, (size_t)capacity * sizeof *grown);
        if (!grown) return json_fail(p, "out of memory");
        p->j->node = grown;
        p->capacity = capacity;
    }
    p->j->node[p->j->count++] = (JsonNode){type, p->at, 0, 0, 0};
    if (type < JSON_NUMBER) {
        size_t n = strlen(word[type]);
        if (p->n - p->at < n || memcmp(p->text + p->at, word[type], n) != 0)
            return json_fail(p, "expected a value");
        p->at += n;
    } else if (type == JSON_NUMBER) {
        json_accept(p, "-", 1);
        int good = json_accept(p, "0", 1) ||
                   json_accept(p, digits, p->n); /* no digit may follow a leading zero */
        if (json_accept(p, ".", 1)) good &= json_accept(p, digits, p->n) > 0;
        if (json_accept(p, "eE", 1))
            json_accept(p, "+-", 1), good &= json_accept(p, digits, p->n) > 0;
        if (!good) return json_fail(p, "expected a value");
    } else if (type == JSON_STRING) {
        p->j->node[node].begin = ++p->at;
        for (size_t n; json_peek(p) != '"'; p->at += n) {
            n = json_character(p->text + p->at, p->n - p->at, &code);
            if (!n)
                return json_fail(
                    p, "bad UTF-8, escape or control character in a string, or no end of it");
        }
    } else {
        for (p->at++; json_skip(p) != (c == '{' ? '}' : ']'); p->j->node[node].size++) {
            if (p->j->node[node].size && !json_accept(p, ",", 1))
                return json_fail(p, "expected ',' or a bracket");
            if (c == '{') {
                if (json_skip(p) != '"') return json_fail(p, "expected a string");
                if (json_value(p, depth + 1)) return -1;
                if (json_skip(p) != ':') return json_fail(p, "expected ':'");
                p->at++;
            }
            if (json_value(p, depth + 1)) return -1;
        }
        p->at++;
    }
    p->j->node[node].end = p->at;
    p->j->node[node].next = p->j->count;
    p->at += type == JSON_STRING; /* the closing quote */
    return 0;
}

int json_parse(Json *j, const char *text, size_t n, Error *err)
{
    JsonParser p = {text, 0, n, j, 0, err};
    *j = (Json){text, NULL, 0};
    if (json_value(&p, 0)) return -1;
    json_skip(&p);
    return p.at == n ? 0 : json_fail(&p, "something follows the end of the document");
}

void json_free(Json *j) { free(j->node), memset(j, 0, sizeof *j); }

static const JsonNode *json_node(const Json *j, int node,
                                 JsonType type) /* NULL: there is none of this type */
{
    return node >= 0 && node < j->count && j->node[node].type == type ? &j->node[node] : NULL;
}

char *json_text(const Json *j, int node, size_t *length)
{
    const JsonNode *string = json_node(j, node, JSON_STRING);
    Buffer b = {0};
    uint32_t c;
    size_t n = 1;
    if (!string) return NULL;
    buffer_add(&b, "", 0);
    for (size_t i = string->begin; n && i < string->end; i += n)
        if ((n = json_character(j->text + i, string->end - i, &c)) > 0) utf8_add(&b, c);
    if (b.failed || !n) return free(b.text), NULL;
    *length = b.length;
    return b.text;
}

static int json_is(const Json *j, int node, const char *text) /* is it this string? */
{
    const JsonNode *string = json_node(j, node, JSON_STRING);
    size_t n = string ? string->end - string->begin : 0, length = strlen(text);
    if (!string || n < length) return 0; /* an escape is longer than what it stands for */
    if (!memchr(j->text + string->begin, '\\', n))
        return n == length && memcmp(j->text + string->begin, text, n) == 0;
    char *copy = json_text(j, node, &n);
    int same = copy && n == length && memcmp(copy, text, n) == 0;
    free(copy);
    return same;
}

int json_find(const Json *j, int object, const char *key)
{
    const JsonNode *o = json_node(j, object, JSON_OBJECT);
    for (int i = object + 1; o && i < o->next; i = j->node[i + 1].next)
        if (json_is(j, i, key)) return i + 1;
    return -1;
}

int json_integer(const Json *j, int node, int64_t *value)
{
    const JsonNode *number = json_node(j, node, JSON_NUMBER);
    char s[24] = "", *end; /* 19 digits, a sign and a NUL fit */
    if (!number || number->end - number->begin >= sizeof s) return -1;
    memcpy(s, j->text + number->begin, number->end - number->begin);
    errno = 0;
    long long v = strtoll(s, &end, 10);
    return *end || errno ? -1 : (*value = v, 0);
}

/* ---- command-line options ------------------------------------------------------------------- */

/* The fewest digits that strtod reads back as v; 100 rather than 1e+02. */
static void print_shortest(Buffer *b, double v)
{
    char s[40];
    int digits = v > -1e9 && v < 1e9 && v == (long)v ? 10 : 1;
    do sprintf(s, "%.*g", digits, v);
    while (strtod(s, NULL) != v && digits++ < 17);
    buffer_print(b, "%s", s);
}

int option_set(Option *o, const char *text, Error *err)
{
    static const char *const flag[] = {"0", "1", NULL};
    const char *const *choices = o->kind == OPT_FLAG ? flag : o->choices,
                      *dashes = o->name[1] ? "--" : "-";
    int whole = o->kind == OPT_INT;
    char *end;
    if (o->kind == OPT_TEXT) {
        if (o->times && o->given >= o->times)
            return fail(err, "%s%s: given more than %d times", dashes, o->name, o->times);
        ((const char **)o->value)[o->times ? o->given : 0] = text;
        return 0;
    }
    if (o->kind == OPT_FLAG || o->kind == OPT_CHOICE) {
        Buffer names = {0};
        for (int i = 0; choices[i]; i++) {
            if (strcmp(choices[i], text) == 0) return free(names.text), *(int *)o->value = i, 0;
            buffer_print(&names, "%s%s", i ? ", " : "", choices[i]);
        }
        fail(err, "%s%s: '%.80s' is none of %s", dashes, o->name, text,
             names.failed ? "its names" : names.text);
        return free(names.text), -1;
    }
    errno = 0;
    double v = whole ? (double)strtol(text, &end, 10) : strtod(text, &end);
    int bad = whole ? errno || v < INT_MIN || v > INT_MAX : v - v != 0;
    /* strchr is true of "" and of a blank in front, which strtol and strtod would skip */
    if (bad || *end || strchr(" \t\n\v\f\r", *text) || v < o->min || v > o->max)
        return fail(err, "%s%s: '%.80s' is no %s number from %.10g to %.10g", dashes, o->name, text,
                    whole ? "whole" : "real", o->min, o->max);
    if (whole)
        *(int *)o->value = (int)v;
    else
        *(double *)o->value = v;
    return 0;
}

void option_print(const Option *o, Buffer *out)
{
    const char *text = o->kind == OPT_TEXT ? *(const char **)o->value : NULL;
    if (o->kind == OPT_REAL)
        print_shortest(out, *(double *)o->value);
    else if (o->kind == OPT_TEXT)
        buffer_print(out, "%s", text ? text : "");
    else if (o->kind == OPT_CHOICE)
        buffer_print(out, "%s", o->choices[*(int *)o->value]);
    else
        buffer_print(out, "%d", *(int *)o->value);
}

/* The edit distance (Levenshtein): how many bytes are to be changed, added or dropped. */
static int edit_distance(const char *a, const char *b)
{
    enum { MOST = 64 };
    int row[MOST + 1];
    const int n = (int)strlen(b);
    if (n > MOST) return INT_MAX;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int least = diagonal + (a[i] != b[j]);
            if (row[j] + 1 < least) least = row[j] + 1;
            if (row[j + 1] + 1 < least) least = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = least;
        }
    }
    return row[n];
}

static Option *option_find(Option *table, const char *name, size_t n)
{
    if (n == 1 && *name == 'h') name = "help", n = 4;
    for (Option *o = table; o->name; o++) {
        size_t i = 0;
        while (i < n && o->name[i] &&
               (o->name[i] == '_' ? '-' : o->name[i]) == (name[i] == '_' ? '-' : name[i]))
            i++;
        if (i == n && !o->name[i] && o->help) return o;
    }
    return NULL;
}

int option_given(const Option *table, const void *value)
{
    while (table->name && table->value != value) table++;
    return table->given;
}

/* An unknown option, arg without its value: what else it is called here, or the nearest name. */
static int unknown_option(Option *table, const char *arg, Error *err)
{
    static const struct {
        const char *theirs, *ours, *why;
    } names[] = {
        {"epochs", "steps", ": an epoch is the number of sentences / --batch steps"},
        {"num-train-epochs", "steps", ": an epoch is the number of sentences / --batch steps"},
        {"iters", "steps", ""},
        {"max-iters", "steps", ""},
        {"max-steps", "steps", ""},
        {"learning-rate", "lr", ""},
        {"batch-size", "batch", ""},
        {"validation", "val", ""},
        {"output", "out", ""},
        {"num-layers", "layers", ""},
        {"num-heads", "heads", ""},
        {"d-model", "hidden", ""},
        {"hidden-size", "hidden", ""},
        {"dim", "hidden", ""},
        {"block-size", "seq-len", ""},
        {"max-length", "seq-len", ""},
        {"temperature", "eta",
         ": above 1, as with --top-p, sentences are likelier and less varied"},
        {"top-k", "top-p", ""},
        {"num-samples", "n", ""},
        {"count", "n", ""},
        {"max-length", "length", ""},
        {"verbose", "show", ""},
    };
    const char *name = arg + strspn(arg, "-");
    const Option *nearest = NULL;
    int least = strlen(name) < 4 ? 2 : 3; /* bytes that differ, fewer than this */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const Option *o = option_find(table, names[i].ours, strlen(names[i].ours));
        if (o && strlen(name) == strlen(names[i].theirs) &&
            edit_distance(name, names[i].theirs) == 0)
            return fail(err, "unknown option %.80s; here it is %s%s%s; see --help", arg,
                        o->name[1] ? "--" : "-", o->name, names[i].why);
    }
    for (const Option *o = table; o->name; o++) {
        const int distance = o->help && o->name[1] ? edit_distance(name, o->name) : least;
        if (distance < least) least = distance, nearest = o;
    }
    return nearest ? fail(err, "unknown option %.80s; did you mean --%s? See --help", arg,
                          nearest->name)
                   : fail(err, "unknown option %.80s; see --help", arg);
}

/* The first of these, "a b", that was given, and its length; NULL: none was. */
static const char *first_given(const Option *table, const char *names, size_t *n)
{
    for (; names && *names; names += *n + (names[*n] == ' ')) {
        *n = strcspn(names, " ");
        for (const Option *o = table; o->name; o++)
            if (o->given && strlen(o->name) == *n && !memcmp(o->name, names, *n)) return names;
    }
    return NULL;
}

/* What was given must have an effect. */
static int check_options(const Option *table, Error *err)
{
    for (const Option *o = table; o->name; o++) {
        const char *dashes = o->name[1] ? "--" : "-";
        size_t n;
        if (!o->given) continue;
        for (const Option *p = table; o->excludes && *o->excludes == '*' && p->name; p++)
            if (p != o && p->given)
                return fail(err, "%s%s takes no other option; there is --%s", dashes, o->name,
                            p->name);
        if (o->needs && !first_given(table, o->needs, &n))
            return fail(err, "%s%s needs --%.*s", dashes, o->name, (int)strcspn(o->needs, " "),
                        o->needs);
        const char *other = first_given(table, o->excludes, &n);
        if (other)
            return fail(err, "%s%s has no effect with --%.*s", dashes, o->name, (int)n, other);
    }
    return 0;
}

int options_parse(Option *table, int argc, char **argv, const char **operand, int max_operands,
                  Error *err)
{
    int operands = 0, only_operands = 0;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *name = arg + 1 + (arg[0] && arg[1] == '-'), *value = NULL;
        if (!only_operands && strcmp(arg, "--") == 0) {
            only_operands = 1;
            continue;
        }
        if (only_operands || arg[0] != '-' || !arg[1]) {
            if (operands == max_operands)
                return fail(err, "'%s' is one operand too many; see --help", arg);
            operand[operands++] = arg;
            continue;
        }
        size_t n = strcspn(name, "=");
        Option *o = option_find(table, name, n);
        if (!o || (arg[1] != '-' && n != 1)) { /* -name is not --name */
            char without_value[80];
            snprintf(without_value, sizeof without_value, "%.*s", (int)(name - arg + (long)n), arg);
            for (char *c = without_value; *c; c++) *c = *c == '_' ? '-' : *c;
            return unknown_option(table, without_value, err);
        }
        if (name[n] == '=') value = name + n + 1;
        if (!value && o->word && i + 1 < argc && !strcmp(argv[i + 1], o->word)) value = argv[++i];
        if (value && o->word && !strcmp(value, o->word)) {
            *(int *)o->value = 2;
            o->given++;
            continue;
        }
        if (value && o->kind == OPT_FLAG) return fail(err, "%s: a flag takes no value", arg);
        if (!value && o->kind != OPT_FLAG) { /* what looks like an option is not a value, but -1 is;
                                                --name=--x works */
            if (++i == argc || strncmp(argv[i], "--", 2) == 0)
                return fail(err, "%s needs a value; see --help", arg);
            value = argv[i];
        }
        if (option_set(o, value ? value : "1", err)) return -1;
        o->given++;
    }
    return check_options(table, err) ? -1 : operands;
}

/* Prints words behind column `at`, in lines that begin at column `from` and end at 79. */
static void print_wrapped(const char *text, int at, int from, FILE *out)
{
    for (size_t n; *text; text += n + (text[n] == ' ')) {
        n = strcspn(text, " ");
        if (at + 1 + (int)n > 79)
            at = fprintf(out, "\n%*s", from, "") - 1;
        else if (at > from)
            at += fprintf(out, " ");
        at += fprintf(out, "%.*s", (int)n, text);
    }
    fputc('\n', out);
}

static void print_option(const Option *o, FILE *out)
{
    static const char *const type[] = {"INT", "REAL", "TEXT", "",
                                       "NAME"}; /* in the order of OptionKind */
    enum { COLUMN = 26 };
    Buffer text = {0}, value = {0};
    buffer_print(&text, "%s", o->help);
    for (int i = 0; o->kind == OPT_CHOICE && o->choices[i]; i++)
        buffer_print(&text, "%s%s", i ? ", " : ": ", o->choices[i]);
    if (o->deflt)
        buffer_print(&value, "%s", o->deflt);
    else if (o->kind != OPT_FLAG)
        option_print(o, &value);
    if (value.length) buffer_print(&text, " (default %s)", value.text);
    free(value.text);
    if (o->needs) {
        const size_t n = strcspn(o->needs, " ");
        buffer_print(&text, " (needs --%.*s", (int)n, o->needs);
        if (o->needs[n]) buffer_print(&text, " or --%s", o->needs + n + 1);
        buffer_print(&text, ")");
    }
    if (o->excludes && *o->excludes == '*')
        buffer_print(&text, " (takes no other option)");
    else if (o->excludes)
        buffer_print(&text, " (not with: %s)", o->excludes);
    const int width = fprintf(out, "  %s%s %s ", o->name[1] ? "--" : "-", o->name,
                              o->what ? o->what : type[o->kind]);
    fprintf(out, "%*s", width < COLUMN ? COLUMN - width : 0, "");
    print_wrapped(text.failed ? o->help : text.text, width < COLUMN ? COLUMN : width, COLUMN, out);
    free(text.text);
}

void options_help(const Option *table, int all, FILE *out)
{
    int others = 0;
    for (const Option *o = table; o->name; o++) others += o->help && !o->everyday;
    fprintf(out, others ? "Everyday options:\n" : "Options:\n");
    for (const Option *o = table; o->name; o++)
        if (o->help && o->everyday) print_option(o, out);
    if (others) fprintf(out, all ? "\nMore options:\n" : "\n--help all lists all options.\n");
    for (const Option *o = table; o->name; o++)
        if (o->help && !o->everyday && all) print_option(o, out);
    fprintf(out, "\nExit codes: 0 done, 1 failed, 2 wrong command line, 128 + N after signal N.\n");
}

/* ==== TOKENIZERS ===============================================================================
 * A line of text, as four tokenizers see it (_ is a blank):
 *
 *   text       Don't touch the Cafés!
 *   word       don  '  t  touch  the  cafes  !           words and symbols; a rare one is [UNK]
 *   wordpiece  don  '  t  touch  the  cafe  ##s  !       a rare one is put together from parts
 *   bpe        Don  't  _touch  _the  _Caf  é  s  !      so is everything, from bytes: no [UNK]
 *   char       D  o  n  '  t  _  t  o  u  c  h  _  ...   letters; good for names
 *
 * All are one type. It has a vocabulary, the tokens, whose places are their ids; rules by which
 * text is cut into pieces; and a kind, which says how a piece becomes ids. */

/* ---- the vocabulary ---------------------------------------------------------------------------
 * Tokens by id, and a hash table that finds the id of a token. Five special tokens stand for what
 * is no text: a beginning [CLS], an end [SEP], what fills up [PAD], what is to be guessed [MASK],
 * what is unknown [UNK]. GPT-2's family writes them otherwise. */

static const char *const special_names[2][TOKEN_SPECIALS] = {
    {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"}, {"<unk>", "<s>", "</s>", "<pad>", "<mask>"}};

/* Where token is in the hash table, or the empty slot where it belongs. */
static size_t find_slot(const Tokenizer *t, const char *token)
{
    uint64_t hash =
        0xcbf29ce484222325u; /* FNV-1a, folded because its high bits are the better ones */
    for (const char *p = token; *p; p++) hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    size_t i = (size_t)(hash ^ hash >> 32) & (t->num_slots - 1);
    while (t->slot[i] >= 0 && strcmp(t->token[t->slot[i]], token) != 0)
        i = (i + 1) & (t->num_slots - 1);
    return i;
}

/* Makes the hash table anew, at most a third full, and t->token as large as half of it. */
static int index_tokens(Tokenizer *t, Error *err)
{
    if (t->size > INT_MAX / 64) return fail(err, "more than %d tokens", t->size);
    free(t->slot);
    for (t->num_slots = 16; t->num_slots < 3 * (size_t)t->size;) t->num_slots *= 2;
    t->slot = checked_alloc(t->num_slots, sizeof *t->slot, err);
    char **token = realloc(t->token, t->num_slots / 2 * sizeof *token);
    if (token) t->token = token;
    if (!token || !t->slot) return fail(err, "out of memory at %d tokens", t->size);
    for (size_t i = 0; i < t->num_slots; i++) t->slot[i] = -1;
    for (int id = 0; id < t->size; id++) {
        size_t slot = find_slot(t, t->token[id]);
        if (t->slot[slot] >= 0)
            return fail(err, "tokens %d and %d are the same", t->slot[slot], id);
        t->slot[slot] = id;
    }
    return 0;
}

int tokenizer_find(const Tokenizer *t, const char *token) { return t->slot[find_slot(t, token)]; }

static const Added *find_added(const Tokenizer *t, int id) /* NULL: it is none */
{
    for (int k = 0; k < t->num_added; k++)
        if (t->added[k].id == id) return &t->added[k];
    return NULL;
}

int tokenizer_is_special(const Tokenizer *t, int id)
{
    const Added *added = find_added(t, id);
    for (int role = 0; role < TOKEN_SPECIALS; role++)
        if (t->special[role] == id) return 1;
    return added && added->special;
}

static int add_token(Tokenizer *t, const char *token, Error *err)
{
    if (2 * (size_t)t->size >= t->num_slots && index_tokens(t, err)) return -1;
    size_t slot = find_slot(t, token);
    if (t->slot[slot] < 0) {
        if (!(t->token[t->size] = checked_alloc(strlen(token) + 1, 1, err))) return -1;
        strcpy(t->token[t->size], token);
        t->slot[slot] = t->size++;
    }
    return t->slot[slot];
}

/* The first tokens of a vocabulary that is made here. */
static int add_specials(Tokenizer *t, Error *err)
{
    static const int bpe_order[] = {TOKEN_CLS, TOKEN_PAD, TOKEN_SEP, TOKEN_UNK, TOKEN_MASK};
    const int bpe = t->kind == TOKENIZER_BPE;
    for (int i = 0; i < TOKEN_SPECIALS; i++) {
        const int role = bpe ? bpe_order[i] : i;
        t->special[role] = add_token(t, special_names[bpe][role], err);
        if (t->special[role] < 0) return -1;
    }
    return 0;
}

/* Finds the special tokens of a vocabulary that was read, wherever they are. GPT-2's own has none:
 * they go behind. unknown: the name of [UNK], if the file says it, or NULL */
static int find_specials(Tokenizer *t, const char *unknown, Error *err)
{
    for (int role = 0; role < TOKEN_SPECIALS; role++) {
        const char *name = special_names[0][role], *other = special_names[1][role];
        int id = role == TOKEN_UNK && unknown ? tokenizer_find(t, unknown) : -1;
        if (id < 0) id = tokenizer_find(t, name);
        if (id < 0) id = tokenizer_find(t, other);
        if (id < 0 && t->kind == TOKENIZER_BPE) id = add_token(t, other, err);
        if (id < 0 && t->kind == TOKENIZER_BPE) return -1;
        if (id < 0) return fail(err, "no token %s or %s in the vocabulary", name, other);
        t->special[role] = id;
    }
    return 0;
}

/* Lists a token as one that is cut out, behind those of smaller ids. */
static int cut_out(Tokenizer *t, Added token, Error *err)
{
    Added *all = realloc(t->added, ((size_t)t->num_added + 1) * sizeof *all);
    int at = t->num_added;
    if (!all) return fail(err, "out of memory at %d added tokens", at);
    for (; at > 0 && all[at - 1].id > token.id; at--) all[at] = all[at - 1];
    all[at] = token;
    t->added = all;
    t->num_added++;
    t->begins_added[(unsigned char)*token.name] = 1;
    return 0;
}

static int cut_out_specials(Tokenizer *t, Error *err)
{
    for (int role = 0; role < TOKEN_SPECIALS; role++) {
        const int id = t->special[role];
        if (!find_added(t, id) && cut_out(t, (Added){t->token[id], id, {0, 0}, 1}, err)) return -1;
    }
    return 0;
}

int tokenizer_cut_specials(Tokenizer *t, Error *err)
{
    const int bytes = t->rules.split == SPLIT_BYTES; /* where a word brings its own blank */
    const Added mask = {special_names[0][TOKEN_MASK], t->special[TOKEN_MASK], {bytes, 0}, 1};
    return cut_out_specials(t, err) ? -1 : cut_out(t, mask, err);
}

int tokenizer_add(Tokenizer *t, const char *token, Error *err)
{
    const size_t bad = first_bad_byte(token, strlen(token));
    if (bad) return fail(err, "byte %zu of '%.40s' is not UTF-8", bad, token);
    return t->size == 0 && add_specials(t, err) ? -1 : add_token(t, token, err);
}

/* See "Unicode": t->unicode and t->composition; the other two are about the second. */
static int unicode_init(Tokenizer *t, Error *err);
static void composition_free(Composition *c);
static void normalize(const Composition *k, int composed, const char *text, const char *end,
                      Buffer *out);

void tokenizer_free(Tokenizer *t)
{
    for (int id = 0; id < t->size; id++) free(t->token[id]);
    free(t->token);
    free(t->slot);
    free(t->added);
    free(t->unicode);
    composition_free(t->composition);
    free(t->glue);
    free(t->merges.pair);
    free(t->merges.slot);
    free(t->merged);
    free(t->exceptions.pair);
    free(t->exceptions.slot);
    memset(t, 0, sizeof *t);
}

/* ---- pieces -----------------------------------------------------------------------------------
 * The rules first say what a code point is replaced by, and whether it is dropped: "É" becomes "e"
 * where Lowercase and StripAccents are asked for. All of that stands ready in t->unicode, which
 * "Unicode" below makes. Then text is cut where one character meets another that is not of its
 * sort. With SPLIT_WORDS and digits:
 *
 *   Café, 42 of them?!    cafe  ,  4  2  of  them  ?!
 */

/* A word character is what \w means to a Unicode regular expression: the classes up to NUMBER.
 * CONNECTOR: '_' and its like. JOINER: the two of no width, in Indic scripts and emoji. MARK: an
 * accent or vowel sign above or below its letter; SPACING_MARK: one that takes room. NUMBER: digits
 * and Roman numerals; OTHER_NUMBER: fractions, superscripts. */
typedef enum {
    LETTER,
    CIRCLED_LETTER,
    CONNECTOR,
    JOINER,
    MARK,
    SPACING_MARK,
    NUMBER,
    OTHER_NUMBER,
    BLANK,
    PUNCTUATION,
    SYMBOL,
    CONTROL
} Class;

static Class class_of(const Tokenizer *t, uint32_t c) { return (Class)(t->unicode[c] & 15); }
static int is_word(Class class) { return class <= NUMBER; }
static int is_mark(Class class) { return class == MARK || class == SPACING_MARK; }
static int is_number(Class class) { return class == NUMBER || class == OTHER_NUMBER; }

static int is_punctuation(uint32_t c, Class class) /* as BERT sees it: "$" is, the euro is not */
{
    return class == PUNCTUATION || class == CONNECTOR || (class == SYMBOL && c < 128);
}

static int is_cjk(uint32_t c) /* the blocks that BERT takes for Chinese characters */
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* A text is gone through in stretches, up to the next added token. */
typedef struct {
    const Tokenizer *t;
    const char *at, *stop;  /* what is left of the stretch */
    const Added *added;     /* the token behind it, or NULL */
    const char *rest, *end; /* what is left of the text behind that */
    Buffer normal;          /* the stretch, with rules.composed or decomposed */
    Buffer piece;           /* the one found last */
    int id;                 /* of an added token, or -1 */
    int apart;              /* a blank stands before it */
} Splitter;

static Splitter split_text(const Tokenizer *t, const char *text, size_t n)
{
    return (Splitter){.t = t, .at = text, .stop = text, .rest = text, .end = text + n};
}

static int splitter_free(Splitter *s) /* -1: memory ran out */
{
    const int failed = s->piece.failed || s->normal.failed;
    free(s->piece.text);
    free(s->normal.text);
    return failed ? -1 : 0;
}

/* The longest added token whose name stands at `at`, or NULL. */
static const Added *added_at(const Tokenizer *t, const char *at, const char *end)
{
    const Added *longest = NULL;
    size_t most = 0;
    for (int k = 0; k < t->num_added && t->begins_added[(unsigned char)*at]; k++) {
        const size_t n = strlen(t->added[k].name);
        if (n <= most || n > (size_t)(end - at) || memcmp(at, t->added[k].name, n)) continue;
        longest = &t->added[k];
        most = n;
    }
    return longest;
}

static size_t blank_at(const Tokenizer *t, const char *at, const char *end) /* its length, or 0 */
{
    uint32_t c;
    const size_t n = utf8_read(at, (size_t)(end - at), &c);
    return n && class_of(t, c) == BLANK ? n : 0;
}

/* Puts the added token into s->piece, if one is due, and finds the stretch behind it. */
static void next_stretch(Splitter *s)
{
    if (s->added) {
        buffer_add(&s->piece, s->added->name, strlen(s->added->name));
        s->id = s->added->id;
    }
    const char *begin = s->rest, *at = begin;
    for (s->added = NULL; at < s->end; at++)
        if ((s->added = added_at(s->t, at, s->end))) break;
    s->at = begin;
    s->stop = s->rest = at;
    if (s->added) s->rest += strlen(s->added->name);
    if (s->added && s->added->strips[1])
        for (size_t n; (n = blank_at(s->t, s->rest, s->end)) > 0;) s->rest += n;
    if (s->added && s->added->strips[0])
        for (const char *last = at; last > begin && s->stop > begin;) {
            do last--;
            while (last > begin && (*last & 0xC0) == 0x80);
            if (!blank_at(s->t, last, s->stop)) break;
            s->stop = last;
        }
    const Rules *r = &s->t->rules;
    if ((!r->composed && !r->decomposed) || s->at == s->stop) return;
    s->normal.length = 0;
    normalize(s->t->composition, r->composed, s->at, s->stop, &s->normal);
    s->at = s->stop = s->normal.text;
    if (!s->normal.failed) s->stop += s->normal.length;
}

/* How a character meets the one before it. Of one sort, they are in one piece, unless each is
 * ALONE; a GAP is in none; what is ATTACHED goes with whatever stands before it. */
typedef enum { GAP, ALONE, IN_WORD, IN_SYMBOLS, ATTACHED } Sort;

static Sort sort_of(const Tokenizer *t, uint32_t c)
{
    const Rules *r = &t->rules;
    const Class class = class_of(t, c);
    if (r->split == SPLIT_CHARACTERS) /* the text is a line: what ends it is no part of it */
        return is_mark(class) ? ATTACHED : c == '\n' || c == '\r' ? GAP : ALONE;
    if (class == BLANK) return GAP;
    if (r->cjk && is_cjk(c)) return ALONE;
    if (r->digits && is_number(class)) return ALONE;
    if (r->punctuation && is_punctuation(c, class)) return ALONE;
    return r->split == SPLIT_BLANKS || is_word(class) ? IN_WORD : IN_SYMBOLS;
}

static void byte_level_piece(Splitter *s); /* see "byte-level BPE" */

static void piece_of_characters(Splitter *s)
{
    Sort last = GAP;
    for (size_t n; s->at < s->stop && !s->piece.failed; s->at += n) {
        uint32_t c;
        n = utf8_read(s->at, (size_t)(s->stop - s->at), &c);
        if (!n || !c) n = 1, c = 0xFFFD; /* not UTF-8, or a NUL: a token is a C string */
        c = s->t->unicode[c] >> 4;
        if (!c) continue; /* it is dropped */
        const Sort sort = sort_of(s->t, c);
        if (s->piece.length && sort != ATTACHED && (sort != last || sort == ALONE)) break;
        if (sort != GAP) utf8_add(&s->piece, c);
        if (sort == GAP) s->apart = 1;
        if (sort != ATTACHED) last = sort;
    }
}

/* The next piece into s->piece; 0 at the end of the text or out of memory. */
static int next_piece(Splitter *s)
{
    s->piece.length = 0;
    s->id = -1;
    s->apart = 0;
    while (!s->piece.length && !s->piece.failed && !s->normal.failed) {
        if (s->at == s->stop && !s->added && s->rest == s->end) return 0;
        if (s->at == s->stop)
            next_stretch(s);
        else if (s->t->rules.split == SPLIT_BYTES)
            byte_level_piece(s);
        else
            piece_of_characters(s);
    }
    return s->piece.length && !s->piece.failed;
}

void tokenizer_split(const Tokenizer *t, const char *text, size_t n, Buffer *out)
{
    Splitter s = split_text(t, text, n);
    for (int first = 1; next_piece(&s); first = 0) {
        if (!first) buffer_add(out, "\n", 1);
        buffer_add(out, s.piece.text, s.piece.length);
    }
    if (splitter_free(&s)) out->failed = 1;
}

/* ---- words and characters ---------------------------------------------------------------------
 * A piece is a token, if the vocabulary has it. The vocabulary is the special tokens and then the
 * pieces of a training text, the most frequent first. */

typedef struct {
    char *token;
    size_t count;
} Count;

static int by_count(const void *a, const void *b)
{
    const Count *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : strcmp(x->token, y->token);
}

/* All different pieces of the text become tokens of `pieces`, in order of appearance, which may be
 * t. counts: an array of Count, one for every token */
static int count_pieces(const Tokenizer *t, Tokenizer *pieces, Buffer *counts, const char *text,
                        size_t n, Error *err)
{
    Splitter s = split_text(t, text, n);
    int status = 0;
    while (!status && next_piece(&s)) {
        int id = add_token(pieces, s.piece.text, err);
        for (size_t k; (k = counts->length / sizeof(Count)) < (size_t)pieces->size;) {
            buffer_add(counts, (const char *)&(Count){pieces->token[k], 0}, sizeof(Count));
            if (counts->failed) break;
        }
        if (id < 0 || counts->failed)
            status = fail(err, "out of memory at %d words", pieces->size);
        else
            ((Count *)(void *)counts->text)[id].count++;
    }
    if (splitter_free(&s)) status = fail(err, "out of memory");
    return status;
}

/* Where no least frequency is asked for: a word that occurs once or twice can hardly be learnt, and
 * makes every step of a training longer. So where these are a quarter of all different words or
 * more, and 3 % of the text at most, it is 3, else 1. */
static int usual_min_frequency(const Count *count, int size)
{
    enum { RARE = 3 };
    size_t all = 0, rare = 0;
    int words = 0;
    for (int id = TOKEN_SPECIALS; id < size; id++) {
        const int is_rare = count[id].count < RARE;
        all += count[id].count;
        rare += is_rare ? count[id].count : 0;
        words += is_rare;
    }
    return 4 * words >= size - TOKEN_SPECIALS && 100 * rare <= 3 * all ? RARE : 1;
}

static int train_words(Tokenizer *t, const char *text, size_t n, int vocab_size, int min_frequency,
                       Error *err)
{
    Buffer counts = {0};
    int status = add_specials(t, err) || cut_out_specials(t, err) ? -1 : 0;
    if (!status) status = count_pieces(t, t, &counts, text, n, err);
    if (!status && t->size <= TOKEN_SPECIALS) status = fail(err, "there is no word in the text");
    if (!status && vocab_size <= TOKEN_SPECIALS)
        status = fail(err, "a vocabulary of %d is too small", vocab_size);
    if (!status) {
        Count *count = (void *)counts.text;
        qsort(count + TOKEN_SPECIALS, (size_t)(t->size - TOKEN_SPECIALS), sizeof *count, by_count);
        for (int id = TOKEN_SPECIALS; id < t->size; id++) t->token[id] = count[id].token;
        if (!min_frequency) t->min_frequency = min_frequency = usual_min_frequency(count, t->size);
        while (t->size > vocab_size ||
               (t->size > TOKEN_SPECIALS && count[t->size - 1].count < (size_t)min_frequency))
            free(t->token[--t->size]);
        status = t->size > TOKEN_SPECIALS ? index_tokens(t, err)
                                          : fail(err, "no word occurs %d times", min_frequency);
    }
    free(counts.text);
    return status;
}

/* Where ids go: `length` counts them all, ids[] takes as many as there is room for. */
typedef struct {
    int *ids;
    long length, max;
} Ids;

static void put_id(Ids *out, int id)
{
    if (out->length < out->max) out->ids[out->length] = id;
    out->length++;
}

static void encode_word(const Tokenizer *t, const char *piece, Ids *out)
{
    const int id = tokenizer_find(t, piece);
    put_id(out, id >= 0 ? id : t->special[TOKEN_UNK]);
}

/* ---- WordPiece --------------------------------------------------------------------------------
 * BERT's way (Devlin et al. 2018) with a word that is no token: from the left, take the longest
 * token that it begins with, then the longest that the rest begins with, written with ## in front:
 *
 *   unaffable    un  ##aff  ##able
 *
 * If nothing fits at some point, or the word has more than 100 characters, all of it is [UNK]. The
 * vocabulary was made elsewhere, and is read. */

enum { LONGEST_WORD = 100 };
static const char part_mark[] = "##";

/* The longest token that `rest` begins with, and its length; -1: there is none. */
static int longest_token(const Tokenizer *t, const char *rest, int begins_word, Buffer *part,
                         size_t *length)
{
    const size_t mark = begins_word ? 0 : strlen(part_mark);
    part->length = 0;
    buffer_add(part, part_mark, mark);
    buffer_add(part, rest, strlen(rest));
    for (*length = strlen(rest); *length && !part->failed; --*length) {
        part->text[mark + *length] = '\0';
        const int id = tokenizer_find(t, part->text);
        if (id >= 0) return id;
    }
    return -1;
}

static int encode_word_piece(const Tokenizer *t, const char *piece, Buffer *part, Ids *out)
{
    const long before = out->length;
    int characters = 0;
    for (const char *p = piece; *p; p++) characters += (*p & 0xC0) != 0x80;
    for (size_t at = 0, n; piece[at]; at += n) {
        const int id =
            characters > LONGEST_WORD ? -1 : longest_token(t, piece + at, at == 0, part, &n);
        if (id < 0) {
            out->length = before;
            put_id(out, t->special[TOKEN_UNK]);
            break;
        }
        put_id(out, id);
    }
    return part->failed ? -1 : 0;
}

/* ---- byte-level BPE ---------------------------------------------------------------------------
 * GPT-2's way (Radford et al. 2019; byte pair encoding: Sennrich et al. 2015). Text is bytes. It is
 * cut into pieces, a blank belonging to the word behind it. In a piece, two neighbours that the
 * list of merges has become one token, the pair that is first in the list first. With the merges
 * "l o", "lo w", "e r":
 *
 *   lower     l o w e r     lo w e r     low e r     low er
 *
 * Every byte is a token by itself, so nothing is ever unknown, and what is decoded is, byte for
 * byte, what was encoded. In the vocabulary a byte is written as a character that can be seen: as
 * itself where it can, otherwise as one from U+0100 on; a blank is U+0120. */

enum { BYTE_CHARACTERS = 324 }; /* the characters that stand for bytes lie below */

static uint32_t character_of_byte(unsigned char byte)
{
    if (byte <= 32) return 256u + byte;
    if (byte >= 127 && byte <= 160) return 256u + 33 + byte - 127;
    return byte == 173 ? 323 : byte;
}

static int byte_of_character(uint32_t c) /* -1: it stands for none */
{
    if (c == 323) return 173;
    if (c >= 256 + 33) return c < 323 ? (int)c - 256 - 33 + 127 : -1;
    if (c >= 256) return (int)c - 256;
    return character_of_byte((unsigned char)c) == c ? (int)c : -1;
}

/* The length of the character at `at`, and what it is to GPT-2: BLANK, LETTER, NUMBER or, all the
 * rest, SYMBOL. */
static size_t byte_level_class(const Splitter *s, const char *at, Class *class)
{
    uint32_t c;
    const size_t n = utf8_read(at, (size_t)(s->stop - at), &c);
    *class = n ? class_of(s->t, c) : SYMBOL;
    if (is_number(*class))
        *class = NUMBER;
    else if (*class != BLANK && *class != LETTER)
        *class = SYMBOL;
    return n ? n : 1;
}

/* Where the piece at the splitter ends. As a regular expression:
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const char *byte_level_end(const Splitter *s)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    const char *at = s->at, *last = at;
    Class first, class;
    size_t n;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        n = strlen(endings[i]);
        if ((size_t)(s->stop - at) >= n && memcmp(at, endings[i], n) == 0) return at + n;
    }
    n = byte_level_class(s, at, &first);
    if (*at == ' ' && at + 1 < s->stop) { /* one blank goes with what is behind it */
        byte_level_class(s, at + 1, &class);
        if (class != BLANK) first = class;
    }
    for (at += n; at < s->stop; at += n) {
        n = byte_level_class(s, at, &class);
        if (class != first) break;
        last = at;
    }
    /* of several blanks the last is left to what is behind them */
    return first == BLANK && at < s->stop && last > s->at ? last : at;
}

static void byte_level_piece(Splitter *s)
{
    for (const char *end = byte_level_end(s); s->at < end; s->at++)
        utf8_add(&s->piece, character_of_byte((unsigned char)*s->at));
}

static size_t pair_slot(const Pairs *p, int left, int right)
{
    const uint64_t hash = ((uint64_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(hash >> 32) & (p->num_slots - 1);
    while (p->slot[i] >= 0 && (p->pair[p->slot[i]][0] != left || p->pair[p->slot[i]][1] != right))
        i = (i + 1) & (p->num_slots - 1);
    return i;
}

int pair_find(const Pairs *p, int left, int right)
{
    const int i = p->num_slots ? p->slot[pair_slot(p, left, right)] : -1;
    return i >= 0 ? i : NO_PAIR;
}

int pair_add(Pairs *p, int left, int right)
{
    if (2 * (size_t)p->count >= p->num_slots) { /* the table grows, and is filled anew */
        const size_t num_slots = p->num_slots ? 2 * p->num_slots : 1024;
        int(*pair)[2] = realloc(p->pair, num_slots / 2 * sizeof *pair);
        if (pair) p->pair = pair;
        int *slot = pair ? malloc(num_slots * sizeof *slot) : NULL;
        if (!slot) return -1;
        free(p->slot);
        p->slot = slot;
        p->num_slots = num_slots;
        for (size_t i = 0; i < num_slots; i++) slot[i] = -1;
        for (int i = 0; i < p->count; i++) slot[pair_slot(p, p->pair[i][0], p->pair[i][1])] = i;
    }
    const size_t slot = pair_slot(p, left, right);
    if (p->slot[slot] < 0) {
        p->pair[p->count][0] = left;
        p->pair[p->count][1] = right;
        p->slot[slot] = p->count++;
    }
    return p->slot[slot];
}

/* Merges what can be merged of n tokens; returns how many are left. rank[i]: the merge of the
 * tokens i and i + 1, or NO_PAIR. A sweep from left to right does the first merge of the list that
 * there is wherever it can, but ends when that makes a pair which comes even earlier. */
static int merge_tokens(const Tokenizer *t, int *token, int *rank, int n)
{
    for (;;) {
        int best = NO_PAIR, to = 0;
        for (int i = 0; i + 1 < n; i++)
            if (rank[i] < best) best = rank[i];
        if (best == NO_PAIR) return n;
        const int now = best;
        for (int i = 0; i < n; to++) {
            const int merges = i + 1 < n && rank[i] == now && best == now;
            token[to] = merges ? t->merged[now] : token[i];
            rank[to] = rank[i];
            i += merges ? 2 : 1;
            if (!merges) continue;
            if (i < n) rank[to] = pair_find(&t->merges, token[to], token[i]);
            if (i < n && rank[to] < best) best = rank[to];
            if (to > 0) rank[to - 1] = pair_find(&t->merges, token[to - 1], token[to]);
            if (to > 0 && rank[to - 1] < best) best = rank[to - 1];
        }
        n = to;
    }
}

/* The ids of the bytes that the characters of a piece stand for; returns how many. */
static int byte_ids(const Tokenizer *t, const char *piece, size_t n, int *ids)
{
    int count = 0;
    uint32_t c = 0;
    for (size_t at = 0; at < n; at += utf8_read(piece + at, n - at, &c), count++) {
        utf8_read(piece + at, n - at, &c);
        ids[count] = t->byte_id[c];
    }
    return count;
}

/* scratch: becomes an array of integers, two for every byte */
static int encode_bytes(const Tokenizer *t, const char *piece, size_t n, Buffer *scratch, Ids *out)
{
    if (n > INT_MAX / 2) return -1;
    if (!buffer_reserve(scratch, 2 * n * sizeof(int))) return -1;
    int *token = (void *)scratch->text, *rank = token + n, count = byte_ids(t, piece, n, token);
    for (int i = 0; i + 1 < count; i++) rank[i] = pair_find(&t->merges, token[i], token[i + 1]);
    count = merge_tokens(t, token, rank, count);
    for (int i = 0; i < count; i++) put_id(out, token[i]);
    return 0;
}

static int index_bytes(Tokenizer *t, Error *err) /* fills t->byte_id */
{
    for (uint32_t c = 0; c < BYTE_CHARACTERS; c++) {
        Buffer character = {0};
        const int byte = byte_of_character(c);
        t->byte_id[c] = -1;
        if (byte < 0) continue;
        utf8_add(&character, c);
        if (!character.failed) t->byte_id[c] = tokenizer_find(t, character.text);
        free(character.text);
        if (t->byte_id[c] < 0) return fail(err, "no token for the byte 0x%02X", (unsigned)byte);
    }
    return 0;
}

/* Adds a merge to the list, and the token that it makes; returns its id, or -1. */
static int add_merge(Tokenizer *t, int left, int right, Error *err)
{
    Buffer both = {0};
    buffer_print(&both, "%s%s", t->token[left], t->token[right]);
    const int id = both.failed ? fail(err, "out of memory") : add_token(t, both.text, err);
    const int rank = id < 0 ? -1 : pair_add(&t->merges, left, right);
    int *merged = rank < 0 ? NULL : realloc(t->merged, t->merges.num_slots * sizeof *merged);
    free(both.text);
    if (merged) t->merged = merged;
    if (!merged) return fail(err, "out of memory at %d merges", t->merges.count);
    t->merged[rank] = id;
    return id;
}

/* Training merges, again and again, the pair that is most frequent in the text: of several, that of
 * the smaller left id, then of the smaller right one. Counting anew each time would take hours.
 * So every different piece is kept once, as the tokens that it has come to, with how often it
 * occurs; a merge changes the pieces that have the pair, and the counts of the pairs beside it. Of
 * the pairs the largest is found by a heap. A count in it may be too large by now, never too small:
 * what is taken out is compared with the count of today, and put back with that if it is less. */
typedef struct {
    int *token, n;
    int64_t count;
} Piece;
typedef struct {
    int64_t count, queued; /* today's; the largest that was put into the heap */
    Buffer pieces;         /* array of int: where it may be found */
} PairUse;
typedef struct {
    int64_t count;
    int pair;
} Candidate;
typedef struct {
    Pairs pairs;
    PairUse *use; /* (room), of which pairs.count are taken */
    size_t room;
    Buffer heap;    /* array of Candidate: none is larger than the one at half its place */
    Buffer changed; /* array of int: pairs whose count has grown */
} BpeTraining;

static int comes_first(const BpeTraining *r, const Candidate *a, const Candidate *b)
{
    const int *x = r->pairs.pair[a->pair], *y = r->pairs.pair[b->pair];
    if (a->count != b->count) return a->count > b->count;
    return x[0] != y[0] ? x[0] < y[0] : x[1] < y[1];
}

static void heap_push(BpeTraining *r, int pair)
{
    const Candidate new = {r->use[pair].count, pair};
    size_t at = r->heap.length / sizeof new;
    buffer_add(&r->heap, (const char *)&new, sizeof new);
    if (r->heap.failed) return;
    Candidate *heap = (void *)r->heap.text;
    for (; at > 0 && comes_first(r, &new, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = new;
    r->use[pair].queued = new.count;
}

static Candidate heap_pop(BpeTraining *r)
{
    Candidate *heap = (void *)r->heap.text;
    const size_t n = r->heap.length / sizeof *heap - 1;
    const Candidate top = heap[0], last = heap[n];
    size_t at = 0;
    for (size_t child = 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && comes_first(r, &heap[child + 1], &heap[child])) child++;
        if (!comes_first(r, &heap[child], &last)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    r->heap.length -= sizeof *heap;
    return top;
}

/* The pair occurs `change` times more, or less, because of this piece. */
static int count_pair(BpeTraining *r, int left, int right, int64_t change, int piece)
{
    const int pair = pair_add(&r->pairs, left, right);
    const size_t room = r->pairs.num_slots / 2;
    if (pair < 0) return -1;
    if (room > r->room) {
        PairUse *grown = realloc(r->use, room * sizeof *grown);
        if (!grown) return -1;
        memset(grown + r->room, 0, (room - r->room) * sizeof *grown);
        r->use = grown;
        r->room = room;
    }
    PairUse *use = &r->use[pair];
    use->count += change;
    if (change < 0) return 0;
    buffer_add(&use->pieces, (const char *)&piece, sizeof piece);
    buffer_add(&r->changed, (const char *)&pair, sizeof pair);
    return use->pieces.failed || r->changed.failed ? -1 : 0;
}

static int queue_changed(BpeTraining *r)
{
    const int *pair = (void *)r->changed.text;
    for (size_t i = 0; i < r->changed.length / sizeof *pair; i++)
        if (r->use[pair[i]].count > r->use[pair[i]].queued) heap_push(r, pair[i]);
    r->changed.length = 0;
    return r->heap.failed ? -1 : 0;
}

/* left right become one in this piece. */
static int merge_in_piece(BpeTraining *r, Piece *p, int number, int left, int right, int merged)
{
    int to = 0, status = 0;
    for (int i = 0; i < p->n && !status; to++) {
        if (i + 1 == p->n || p->token[i] != left || p->token[i + 1] != right) {
            p->token[to] = p->token[i++];
            continue;
        }
        if (to > 0) {
            const int before = p->token[to - 1];
            status |= count_pair(r, before, left, -p->count, number);
            status |= count_pair(r, before, merged, p->count, number);
        }
        if (i + 2 < p->n) {
            const int behind = p->token[i + 2];
            status |= count_pair(r, right, behind, -p->count, number);
            status |= count_pair(r, merged, behind, p->count, number);
        }
        p->token[to] = merged;
        i += 2;
    }
    p->n = to;
    return status;
}

static int merge_most_frequent(Tokenizer *t, BpeTraining *r, Piece *piece, int vocab_size,
                               int64_t least, Error *err)
{
    while (t->size < vocab_size && r->heap.length > 0) {
        const Candidate top = heap_pop(r);
        const int left = r->pairs.pair[top.pair][0], right = r->pairs.pair[top.pair][1];
        PairUse *use = &r->use[top.pair];
        if (top.count > use->count) { /* it has become rarer */
            use->queued = 0;
            if (use->count >= least) heap_push(r, top.pair);
            continue;
        }
        if (top.count < least) break;
        const int merged = add_merge(t, left, right, err);
        if (merged < 0) return -1;
        Buffer pieces = use->pieces; /* the array `use` may move */
        use->pieces = (Buffer){0};
        int status = 0;
        for (size_t i = 0; i < pieces.length / sizeof(int) && !status; i++) {
            const int number = ((int *)(void *)pieces.text)[i];
            status = merge_in_piece(r, &piece[number], number, left, right, merged);
        }
        free(pieces.text);
        r->use[top.pair].count = r->use[top.pair].queued = 0;
        if (status || queue_changed(r)) return fail(err, "out of memory at %d tokens", t->size);
    }
    return 0;
}

static int train_bytes(Tokenizer *t, const char *text, size_t n, int vocab_size, int min_frequency,
                       Error *err)
{
    enum { SMALLEST = TOKEN_SPECIALS + 256 };
    Tokenizer pieces = {0};
    Buffer counts = {0};
    BpeTraining r = {0};
    Piece *piece = NULL;
    int *tokens = NULL;
    size_t length = 0;
    int status = add_specials(t, err);
    if (!status && vocab_size < SMALLEST)
        status = fail(err, "a vocabulary of %d is too small; the bytes alone take %d", vocab_size,
                      SMALLEST);
    for (uint32_t c = 0; c < BYTE_CHARACTERS && !status; c++) {
        Buffer character = {0};
        utf8_add(&character, c);
        if (byte_of_character(c) >= 0 && add_token(t, character.text, err) < 0) status = -1;
        free(character.text);
    }
    if (!status) status = index_bytes(t, err);
    if (!status) status = count_pieces(t, &pieces, &counts, text, n, err);
    if (!status && pieces.size == 0) status = fail(err, "there is no text");
    for (int i = 0; i < pieces.size; i++) length += strlen(pieces.token[i]);
    if (!status && (!(piece = checked_alloc((size_t)pieces.size, sizeof *piece, err)) ||
                    !(tokens = checked_alloc(length, sizeof *tokens, err))))
        status = -1;
    length = 0;
    for (int i = 0; i < pieces.size && !status; i++) {
        const char *characters = pieces.token[i];
        const int64_t count = (int64_t)((Count *)(void *)counts.text)[i].count;
        piece[i] = (Piece){tokens + length, 0, count};
        piece[i].n = byte_ids(t, characters, strlen(characters), piece[i].token);
        length += (size_t)piece[i].n;
        for (int k = 0; k + 1 < piece[i].n && !status; k++)
            if (count_pair(&r, piece[i].token[k], piece[i].token[k + 1], count, i))
                status = fail(err, "out of memory at %d pairs", r.pairs.count);
    }
    if (!status && queue_changed(&r)) status = fail(err, "out of memory");
    if (!status)
        status = merge_most_frequent(t, &r, piece, vocab_size,
                                     min_frequency > 1 ? min_frequency : 1, err);
    for (size_t i = 0; i < r.room; i++) free(r.use[i].pieces.text);
    free(r.use);
    free(r.heap.text);
    free(r.changed.text);
    free(r.pairs.pair);
    free(r.pairs.slot);
    free(piece);
    free(tokens);
    free(counts.text);
    tokenizer_free(&pieces);
    return status;
}

/* ---- encoding: [CLS], the ids of the pieces, [SEP] ------------------------------------------ */

long tokenizer_encode(const Tokenizer *t, const char *text, size_t n, int *ids, long max)
{
    Splitter s = split_text(t, text, n);
    Ids out = {ids, 0, max - 1};
    Buffer scratch = {0};
    int status = 0;
    put_id(&out, t->special[TOKEN_CLS]);
    while (!status && next_piece(&s)) {
        if (s.id >= 0)
            put_id(&out, s.id);
        else if (t->kind == TOKENIZER_BPE)
            status = encode_bytes(t, s.piece.text, s.piece.length, &scratch, &out);
        else if (t->kind == TOKENIZER_WORDPIECE)
            status = encode_word_piece(t, s.piece.text, &scratch, &out);
        else
            encode_word(t, s.piece.text, &out);
    }
    ids[out.length < out.max ? out.length : out.max] = t->special[TOKEN_SEP];
    if (splitter_free(&s)) status = -1;
    free(scratch.text);
    return status ? -1 : out.length + 1;
}

/* ---- the blanks between words -----------------------------------------------------------------
 * They are no tokens, so decoding has to guess where they were. For the tokenizer `word` it is
 * learnt, from the text: for every token, how often it stood apart from what came before it, and
 * behind it, and how often glued to that, by four kinds of neighbours. So "." is glued to a word
 * before it and apart from one behind it, but glued to a digit; "(" the other way round; "s" is
 * glued to a symbol before it, mostly:
 *
 *   it ' s £ 4 . 5 ( or so ) .     it's £4.5 (or so).
 *
 * Two words are always apart, and so are two runs of symbols: otherwise they were one. Between
 * others both tokens have their say: the odds of "glued" after the left one times those before the
 * right one. Pairs that most often stood otherwise are exceptions. A straight quotation mark alone
 * opens and closes by turns. */

static int kind_of_neighbour(const Tokenizer *t, int id)
{
    uint32_t c = 0;
    if (tokenizer_is_special(t, id)) return BESIDE_WORD; /* [UNK], which mostly is one */
    utf8_read(t->token[id], strlen(t->token[id]), &c);
    const Class class = class_of(t, c);
    return is_cjk(c)          ? BESIDE_CJK
           : is_number(class) ? BESIDE_NUMBER
           : is_word(class)   ? BESIDE_WORD
                              : BESIDE_SYMBOL;
}

static int always_apart(int left, int right) /* two kinds of neighbours */
{
    return left == right && (left == BESIDE_WORD || left == BESIDE_SYMBOL);
}

static int is_quote(const Tokenizer *t, int id) { return strcmp(t->token[id], "\"") == 0; }

static int odds_glue(const Tokenizer *t, int left, int right)
{
    const int *a = t->glue[left].count[1][kind_of_neighbour(t, right)];
    const int *b = t->glue[right].count[0][kind_of_neighbour(t, left)];
    return (a[1] + 0.5) * (b[1] + 0.5) > (a[0] + 0.5) * (b[0] + 0.5);
}

/* Does right follow left without a blank? quotes: how many quotation marks stand before right. */
static int is_glued(const Tokenizer *t, int left, int right, int quotes)
{
    const int before = kind_of_neighbour(t, left), behind = kind_of_neighbour(t, right);
    if (always_apart(before, behind)) return 0;
    if (is_quote(t, right)) return quotes % 2 == 1 && t->glue[right].count[0][before][1] > 0;
    if (is_quote(t, left)) return quotes % 2 == 1 && t->glue[left].count[1][behind][1] > 0;
    return odds_glue(t, left, right) != (pair_find(&t->exceptions, left, right) != NO_PAIR);
}

/* Neighbours of the text, and how often each pair of them stood [apart, glued]. */
typedef struct {
    Pairs pairs;
    int (*times)[2]; /* (room), of which pairs.count are taken */
    size_t room;
} Neighbours;

static int count_neighbours(Neighbours *all, int left, int right, int glued)
{
    const int pair = pair_add(&all->pairs, left, right);
    const size_t room = all->pairs.num_slots / 2;
    if (pair < 0) return -1;
    if (room > all->room) {
        int(*grown)[2] = realloc(all->times, room * sizeof *grown);
        if (!grown) return -1;
        memset(grown + all->room, 0, (room - all->room) * sizeof *grown);
        all->times = grown;
        all->room = room;
    }
    all->times[pair][glued]++;
    return 0;
}

static int see_neighbours(const Tokenizer *t, const char *line, size_t n, Neighbours *all)
{
    Splitter s = split_text(t, line, n);
    int status = 0;
    for (int left = -1; !status && next_piece(&s);) {
        int id = tokenizer_find(t, s.piece.text);
        if (id < 0) id = t->special[TOKEN_UNK];
        if (left >= 0 && !always_apart(kind_of_neighbour(t, left), kind_of_neighbour(t, id)))
            status = count_neighbours(all, left, id, !s.apart);
        left = id;
    }
    return splitter_free(&s) || status ? -1 : 0;
}

static int learn_blanks(Tokenizer *t, const char *text, size_t n, Error *err)
{
    Neighbours all = {0};
    const char *line;
    size_t length, at = 0;
    int status = 0;
    if (!(t->glue = checked_alloc((size_t)t->size, sizeof *t->glue, err))) return -1;
    while (!status && next_line(text, n, &at, &line, &length))
        status = see_neighbours(t, line, length, &all);
    for (int i = 0; i < all.pairs.count && !status; i++) {
        const int left = all.pairs.pair[i][0], right = all.pairs.pair[i][1];
        int *behind = t->glue[left].count[1][kind_of_neighbour(t, right)];
        int *before = t->glue[right].count[0][kind_of_neighbour(t, left)];
        for (int glued = 0; glued < 2; glued++) {
            behind[glued] += all.times[i][glued];
            before[glued] += all.times[i][glued];
        }
    }
    for (int i = 0; i < all.pairs.count && !status; i++) {
        const int left = all.pairs.pair[i][0], right = all.pairs.pair[i][1];
        const int apart = all.times[i][0], glued = all.times[i][1];
        const int is_exception = odds_glue(t, left, right) ? apart > glued : glued > apart;
        if (is_exception && pair_add(&t->exceptions, left, right) < 0) status = -1;
    }
    free(all.pairs.pair);
    free(all.pairs.slot);
    free(all.times);
    return status ? fail(err, "out of memory") : 0;
}

/* ---- decoding ------------------------------------------------------------------------------- */

/* By the original's rules each of these loses its blanks, one after the other through the whole
 * text: "hello , i ' m" is "hello, i'm". */
static void close_up(Buffer *out, size_t begin)
{
    static const char *const tight[] = {" .",   " ?",  " !",  " ,",   " ' ",
                                        " n't", " 'm", " 's", " 've", " 're"};
    for (size_t k = 0; k < sizeof tight / sizeof *tight && !out->failed && out->text; k++) {
        size_t length = strlen(tight[k]), to = begin;
        for (size_t from = begin; from < out->length;) {
            int match = strncmp(out->text + from, tight[k], length) == 0;
            for (size_t end = from + (match ? length : 1); from < end; from++)
                if (!match || out->text[from] != ' ') out->text[to++] = out->text[from];
        }
        out->text[out->length = to] = '\0';
    }
}

static void add_bytes(Buffer *out, const char *token) /* that its characters stand for */
{
    uint32_t c;
    for (size_t n = strlen(token), at = 0, length; at < n; at += length) {
        if (!(length = utf8_read(token + at, n - at, &c))) return;
        const char byte = (char)byte_of_character(c);
        buffer_add(out, &byte, 1);
    }
}

void tokenizer_decode(const Tokenizer *t, const int *ids, int n, int specials, Buffer *out)
{
    const size_t begin = out->length, mark = strlen(part_mark);
    const int spaced = t->kind == TOKENIZER_WORD || t->kind == TOKENIZER_WORDPIECE;
    int left = -1, quotes = 0;
    for (int i = 0; i < n && (specials || ids[i] != t->special[TOKEN_SEP]); i++) {
        const int unk = t->special[TOKEN_UNK], id = ids[i] < 0 || ids[i] >= t->size ? unk : ids[i];
        const char *token = t->token[id];
        const int special = tokenizer_is_special(t, id);
        if (special && !specials && id != unk) continue;
        const int part = t->kind == TOKENIZER_WORDPIECE && !strncmp(token, part_mark, mark);
        const int glued = part || (t->glue && left >= 0 && is_glued(t, left, id, quotes));
        if (spaced && left >= 0 && !glued) buffer_add(out, " ", 1);
        if (t->kind == TOKENIZER_BPE && !special && !find_added(t, id))
            add_bytes(out, token);
        else
            buffer_print(out, "%s", part ? token + mark : token);
        for (const char *p = token; *p; p++) quotes += *p == '"';
        left = id;
    }
    if (spaced && !t->glue) close_up(out, begin);
}

void tokenizer_decode_line(const Tokenizer *t, const int *ids, int n, Buffer *out)
{
    const size_t begin = out->length;
    tokenizer_decode(t, ids, n, 0, out);
    for (size_t i = begin; i < out->length; i++) /* a line, even of bytes */
        if (out->text[i] == '\n') out->text[i] = ' ';
    buffer_add(out, "\n", 1);
}

void tokenizer_decode_pieces(const Tokenizer *t, const int *ids, int n, Buffer *text, size_t *end)
{
    Buffer part = {0};
    tokenizer_decode(t, ids, n, 0, text);
    buffer_add(text, "", 0);
    for (int i = 0; i < n; i++) {
        part.length = 0;
        tokenizer_decode(t, ids, i + 1, 0, &part);
        end[i] = part.length < text->length ? part.length : text->length;
        while (end[i] < text->length && (text->text[end[i]] & 0xC0) == 0x80) end[i]++; /* UTF-8 */
    }
    if (part.failed) text->failed = 1;
    free(part.text);
    hide_controls(text->text);
}

int tokenizer_accepts(const Tokenizer *t, const char *text, size_t n, Error *err)
{
    for (size_t i = 0; i < n && t->rules.ascii; i++)
        if ((unsigned char)text[i] >= 128)
            return fail(err,
                        "the tokenizer asks for NFKD, which is done for ASCII only; byte %zu "
                        "is another character",
                        i + 1);
    return 0;
}

int tokenizer_unknown(const Tokenizer *t, const char *word)
{
    int ids[3];
    const long n = tokenizer_encode(t, word, strlen(word), ids, 3);
    return n == 3 && ids[1] == t->special[TOKEN_UNK];
}

void tokenizer_nearest(const Tokenizer *t, const char *word, Buffer *out)
{
    enum { NAMED = 3 };
    int last = -1, last_id = -1; /* in order of distance, and then of ids */
    for (int k = 0; k < NAMED; k++) {
        int best = INT_MAX, best_id = -1;
        for (int id = 0; id < t->size; id++) {
            if (tokenizer_is_special(t, id)) continue;
            const int distance = edit_distance(word, t->token[id]);
            if (distance < last || (distance == last && id <= last_id)) continue;
            if (distance < best) best = distance, best_id = id;
        }
        if (best_id < 0) break;
        buffer_print(out, "%s'%.40s'", k ? ", " : "", t->token[best_id]);
        last = best, last_id = best_id;
    }
}

/* ---- a text of many sentences ---------------------------------------------------------------
 * Blank lines are no sentences. People bring all sorts of files; what looks odd about one is said
 * in notes, and only what cannot be read at all is refused. */

/* UTF-16 without a mark: English has a NUL in every other byte. */
static int looks_like_utf16(const char *text, size_t n)
{
    size_t zeros[2] = {0, 0}, most = n < 4096 ? n : 4096;
    if (n >= 2 && (!memcmp(text, "\xFF\xFE", 2) || !memcmp(text, "\xFE\xFF", 2))) return 1;
    for (size_t i = 0; i < most; i++) zeros[i % 2] += !text[i];
    return most >= 4 && (zeros[0] > most / 3 || zeros[1] > most / 3) &&
           (zeros[0] < most / 50 + 1 || zeros[1] < most / 50 + 1);
}

enum { LARGE_TEXT = 20000000 /* bytes: reading it takes seconds */ };

int corpus_read(Corpus *c, const char *path, Error *err)
{
    memset(c, 0, sizeof *c);
    if (!(c->text = read_file(path, &c->length, err))) return -1;
    if (looks_like_utf16(c->text, c->length))
        return fail(err,
                    "%s: this is UTF-16; expected UTF-8, as from: iconv -f UTF-16 -t UTF-8 %s "
                    "> new.txt",
                    path, path);
    if (c->length >= 3 && !memcmp(c->text, "\xEF\xBB\xBF", 3)) {
        c->length -= 3;
        memmove(c->text, c->text + 3, c->length + 1);
    }
    if (!memchr(c->text, '\n', c->length))
        for (size_t i = 0; i < c->length; i++)
            if (c->text[i] == '\r') c->text[i] = '\n';
    if (c->length > LARGE_TEXT)
        fprintf(stderr, "%s: reading %.0f MB\n", path, (double)c->length / 1e6);
    return 0;
}

/* How often a character stands in a text. */
static int occurrences(const char *text, size_t n, char what)
{
    int count = 0;
    for (size_t i = 0; i < n; i++) count += text[i] == what;
    return count;
}

/* What grows line by line: ids (int), where sentences begin (size_t), lengths before lines are cut
 * (long). Buffers hold them, so that the text is encoded only once. */
typedef struct {
    Buffer ids, start, whole;
} Sentences;

/* Goes through the lines: counts and, unless `to` is NULL, encodes. */
static int read_lines(Corpus *c, const char *path, const Tokenizer *t, int most, int pad,
                      Sentences *to, Error *err)
{
    const char *line;
    size_t at = 0, length, tokens = 0;
    c->rows = c->longest = c->cut = 0;
    if (to) buffer_add(&to->start, (const char *)&tokens, sizeof tokens);
    while (next_line(c->text, c->length, &at, &line, &length)) {
        int unused[2], *ids = unused;
        Error inner;
        if (tokenizer_accepts(t, line, length, &inner))
            return fail(err, "%s: line %d: %.400s", path,
                        occurrences(c->text, (size_t)(line - c->text), '\n') + 1, inner.text);
        if (to && !buffer_reserve(&to->ids, most * sizeof *ids))
            return fail(err, "%s: out of memory", path);
        if (to) ids = (int *)(void *)to->ids.text + tokens;
        const long whole = tokenizer_encode(t, line, length, ids, to ? most : 2);
        if (whole < 0 || c->rows == INT32_MAX - 1)
            return fail(err, "%s: %s", path, whole < 0 ? "out of memory" : "too many lines");
        if (whole == 2) continue; /* blank */
        if (whole > most) c->cut++;
        int n = whole > most ? most : (int)whole;
        for (; pad && n < most; n++)
            if (to) ids[n] = t->special[TOKEN_PAD];
        if (n > c->longest) c->longest = n;
        tokens += n;
        c->rows++;
        if (!to) continue;
        to->ids.length += n * sizeof *ids;
        buffer_add(&to->start, (const char *)&tokens, sizeof tokens);
        buffer_add(&to->whole, (const char *)&whole, sizeof whole);
        if (to->start.failed || to->whole.failed) return fail(err, "%s: out of memory", path);
    }
    return c->rows ? 0 : fail(err, "%s: no sentence in it; expected one a line", path);
}

int corpus_measure(Corpus *c, const char *path, const Tokenizer *t, int most, Error *err)
{
    return read_lines(c, path, t, most, 0, NULL, err);
}

/* What kind of file this is, if it is no plain text, or NULL. */
static const char *kind_of_file(const char *text, size_t n)
{
    static const char separators[] = "\t,;", *const tables[] = {"tab-separated values", "CSV",
                                                                "CSV"};
    size_t control = 0;
    for (size_t i = 0; i < n; i++)
        control += (unsigned char)text[i] < 32 && !strchr("\t\n\r\f\v", text[i] ? text[i] : 1);
    if (control > n / 100) return "a binary file";
    while (n && strchr(" \t\r\n", *text)) text++, n--;
    while (n && strchr(" \t\r\n", text[n - 1])) n--;
    if (n < 2) return NULL;
    if ((*text == '{' && text[n - 1] == '}') || (*text == '[' && text[n - 1] == ']')) return "JSON";
    if (*text == '<' && text[n - 1] == '>') return "HTML or XML";
    for (int k = 0; k < 3; k++) { /* a table has as many separators in every line */
        int lines = 0, first = 0, same = 1;
        for (size_t at = 0, end; at < n && lines < 20; at = end + 1, lines++) {
            const char *newline = memchr(text + at, '\n', n - at);
            end = newline ? (size_t)(newline - text) : n;
            const int count = occurrences(text + at, end - at, separators[k]);
            if (lines == 0) first = count;
            same &= count == first;
        }
        if (same && lines >= 5 && first >= (separators[k] == '\t' ? 1 : 2)) return tables[k];
    }
    return NULL;
}

static void note_encoding(Corpus *c, const char *path)
{
    size_t bad = 0, line = 1, first = 0, among_ascii = 0;
    uint32_t code;
    for (size_t i = 0, n; i < c->length; i += n ? n : 1) {
        n = utf8_read(c->text + i, c->length - i, &code);
        if (n && c->text[i] == '\n') line++;
        if (n) continue;
        if (!bad++) first = line;
        among_ascii += (unsigned char)c->text[i] >= 0xA0 && (unsigned char)c->text[i + 1] < 0x80;
    }
    if (bad)
        buffer_print(&c->notes, "%s: %zu bytes are no UTF-8, the first in line %zu%s\n", path, bad,
                     first,
                     2 * among_ascii > bad ? "; if this is Latin-1: iconv -f LATIN1 -t UTF-8" : "");
}

static int ascending(const void *a, const void *b)
{
    const long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static void note_cuts(Corpus *c, const char *path, long *whole, size_t tokens)
{
    double of_all = 0;
    for (int i = 0; i < c->rows; i++) of_all += (double)whole[i];
    qsort(whole, (size_t)c->rows, sizeof *whole, ascending);
    buffer_print(&c->notes,
                 "%s: %d longer lines were cut to %d positions, which drops %.3g %% of the tokens; "
                 "99 %% of the lines have %ld positions at most\n",
                 path, c->cut, c->longest, 100 * (1 - (double)tokens / of_all),
                 whole[c->rows - 1 - c->rows / 100]);
}

void tokenizer_byte_bits(const Tokenizer *t, double bits[256])
{
    double count[256], total = 256;
    for (int i = 0; i < 256; i++) count[i] = 1;
    for (int id = 0; id < t->size; id++) {
        if (tokenizer_is_special(t, id)) continue;
        for (const char *p = t->token[id]; *p; p++) count[(unsigned char)*p]++;
        count[0]++;
        total += (double)strlen(t->token[id]) + 1;
    }
    for (int i = 0; i < 256; i++) bits[i] = -log2(count[i] / total);
}

double spelling_bits(const double bits[256], const char *word)
{
    double sum = bits[0];
    for (; *word; word++) sum += bits[(unsigned char)*word];
    return sum;
}

/* The words that are [UNK] most often, and the bits of all of them; but for those that were cut. */
static int note_unknown(Corpus *c, const char *path, const Tokenizer *t, Error *err)
{
    enum { NAMED = 5 };
    Tokenizer words = {0};
    Buffer split = {0};
    double bits[256];
    const char *line;
    size_t at = 0, length;
    int row = 0, status = -1;
    int *count = checked_alloc(c->unknown + TOKEN_SPECIALS, sizeof *count, err);
    if (!count) goto done;
    tokenizer_byte_bits(t, bits);
    while (row < c->rows && next_line(c->text, c->length, &at, &line, &length)) {
        int left = 0;
        split.length = 0;
        tokenizer_split(t, line, length, &split);
        if (split.failed) goto done;
        if (!split.length) continue; /* blank */
        for (size_t i = c->start[row]; i < c->start[row + 1]; i++)
            left += c->ids[i] == t->special[TOKEN_UNK];
        row++;
        for (char *word = strtok(split.text, "\n"); word && left; word = strtok(NULL, "\n")) {
            if (!tokenizer_unknown(t, word)) continue;
            const int id = tokenizer_add(&words, word, err);
            if (id < 0) goto done;
            left--;
            count[id]++;
            c->spelling += spelling_bits(bits, word);
        }
    }
    buffer_print(&c->notes, "%s: %.3g %% of the words are not in the vocabulary, but [UNK]:", path,
                 100.0 * c->unknown / c->words);
    for (int k = 0; k < NAMED; k++) {
        int best = TOKEN_SPECIALS;
        for (int id = best; id < words.size; id++)
            if (count[id] > count[best]) best = id;
        if (best >= words.size || !count[best]) break;
        buffer_print(&c->notes, "%s '%.40s' (%d)", k ? "," : "", words.token[best], count[best]);
        count[best] = 0;
    }
    buffer_print(&c->notes, "\n");
    status = 0;
done:
    if (split.failed) fail(err, "%s: out of memory", path);
    tokenizer_free(&words);
    free(split.text);
    free(count);
    return status;
}

static int make_notes(Corpus *c, const char *path, const Tokenizer *t, long *whole, Error *err)
{
    const size_t tokens = c->start[c->rows];
    const char *kind = kind_of_file(c->text, c->length);
    int of_one_word = 0;
    c->words = c->unknown = 0;
    for (size_t i = 0; i < tokens; i++) {
        c->words += c->ids[i] != t->special[TOKEN_PAD];
        c->unknown += c->ids[i] == t->special[TOKEN_UNK];
    }
    c->words -= 2 * (size_t)c->rows; /* [CLS] and [SEP] */
    for (int i = 0; i < c->rows; i++) of_one_word += whole[i] == SHORTEST;
    if (kind)
        buffer_print(&c->notes,
                     "%s: this looks like %s; each line is taken as a sentence as it stands\n",
                     path, kind);
    note_encoding(c, path);
    if (c->cut) note_cuts(c, path, whole, tokens);
    if (2 * of_one_word > c->rows && c->rows > 1)
        buffer_print(&c->notes,
                     "%s: most lines are one word; with --tokenizer char letters are tokens\n",
                     path);
    return c->unknown ? note_unknown(c, path, t, err) : 0;
}

/* The array of a buffer, which is done, without the room behind it */
static void *kept(const Buffer *b)
{
    void *smaller = b->length ? realloc(b->text, b->length) : NULL;
    return smaller ? smaller : b->text;
}

int corpus_fill(Corpus *c, const char *path, const Tokenizer *t, int most, int pad, Error *err)
{
    Sentences all = {{0}, {0}, {0}};
    int status = read_lines(c, path, t, most, pad, &all, err);
    c->ids = kept(&all.ids);
    c->start = kept(&all.start);
    if (!status) status = make_notes(c, path, t, (long *)(void *)all.whole.text, err);
    free(all.whole.text);
    free(c->text);
    c->text = NULL;
    return status ? -1 : 0;
}

int sentence_length(const Corpus *c, int i) { return (int)(c->start[i + 1] - c->start[i]); }

void corpus_free(Corpus *c)
{
    free(c->text);
    free(c->ids);
    free(c->start);
    free(c->notes.text);
}

int corpus_vocabulary(Corpus *c, const char *path, Tokenizer *t, const TokenizerOptions *o,
                      const char *grown, Error *err)
{
    const int before = t->size, made = tokenizer_is_made(o->tokenizer);
    Error inner;
    if (before && !grown) return 0;
    if (before) {
        if (tokenizer_grow(t, c->text, c->length, &inner))
            return fail(err, "%s: %.400s", path, inner.text);
        buffer_print(&c->notes, "%s: %d words are new to %s\n", path, t->size - before, grown);
        return 0;
    }
    if (tokenizer_make(t, o, c->text, c->length, &inner))
        return fail(err, "%.200s: %.280s", made ? path : "--tokenizer", inner.text);
    if (made) return 0;
    buffer_print(&c->notes, "--tokenizer %s: ", o->tokenizer);
    tokenizer_describe(t, &c->notes);
    buffer_print(&c->notes, "\n");
    return 0;
}

void suit_text(const Corpus *c, int min_frequency, int vocab_size, int *batch)
{
    enum { LONG = 16 /* positions, on average */, FEWER = 16 };
    const int is_long = batch && c->start[c->rows] >= LONG * (size_t)c->rows;
    Buffer said = {0};
    if (min_frequency > 1) buffer_print(&said, " --min-frequency %d", min_frequency);
    if (vocab_size) buffer_print(&said, " --vocab-size %d", vocab_size);
    if (is_long) buffer_print(&said, " --batch %d", *batch = FEWER);
    if (said.length && !said.failed) fprintf(stderr, "by this text, unless given:%s\n", said.text);
    free(said.text);
}

/* The fewest positions that all but one of a hundred sentences have at most */
static int usual_length(const Corpus *c, int *count /*(longest+1), zeros*/)
{
    int length = 0, seen = 0;
    for (int i = 0; i < c->rows; i++) count[sentence_length(c, i)]++;
    while (seen < c->rows - c->rows / 100) seen += count[++length];
    return length;
}

int tell_prospects(const Corpus *c, const char *path, const Tokenizer *t, int batch, int steps,
                   Error *err)
{
    enum { FEW_TIMES = 5, MANY_TIMES = 100, FEW_ROWS = 1000, MANY_WORDS = 500, LONG = 40 };
    const double times = (double)steps * batch / c->rows;
    const int words = t->size - TOKEN_SPECIALS, more = t->size > c->longest ? t->size : c->longest;
    int rare = 0, *count = checked_alloc((size_t)more + 1, sizeof *count, err);
    if (!count) return -1;
    for (size_t i = 0; i < c->start[c->rows]; i++) count[c->ids[i]]++;
    for (int id = 0; id < t->size; id++) rare += count[id] > 0 && count[id] < 3;
    memset(count, 0, ((size_t)more + 1) * sizeof *count);
    const int usual = usual_length(c, count);
    free(count);
    fprintf(stderr, "%s: %zu words; %d steps of %d sentences see each about %.*f times\n", path,
            c->words, steps, batch, times < 10, times);
    if (times < FEW_TIMES)
        fprintf(stderr, "%s: that is seldom; --steps %.0f sees each ten times\n", path,
                ceil(10.0 * c->rows / batch));
    if (times > MANY_TIMES && c->rows < FEW_ROWS)
        fprintf(stderr,
                "%s: these are few sentences, it may learn them by heart; more text helps, or "
                "fewer --steps\n",
                path);
    if (c->rows > 20 && 3 * (size_t)words > 2 * c->words)
        fprintf(stderr,
                "%s: nearly every word occurs once, so there is little to learn about one; with "
                "--tokenizer bpe its parts are tokens\n",
                path);
    else if (t->kind == TOKENIZER_WORD && words > MANY_WORDS && 3 * rare > words)
        fprintf(stderr,
                "%s: %d of %d words occur once or twice, too seldom to learn; --min-frequency 3 "
                "makes them [UNK]\n",
                path, rare, words);
    if (c->longest > LONG && c->longest > 2 * usual)
        fprintf(stderr,
                "%s: of 100 sentences 99 have %d positions at most, the longest %d; --seq-len %d "
                "saves memory\n",
                path, usual, c->longest, usual);
    return 0;
}

/* ---- a text with labels ---------------------------------------------------------------------- */

enum { LEAST = 5 /* sentences of a label, to hold one out */ };

static int same_but_for_case(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) a++, b++;
    return !*a && !*b;
}

/* What may be wrong with labels */
static int note_labels(Corpus *c, const char *path, const int *label, int rows,
                       const Tokenizer *labels, Error *err)
{
    const int most = labels->size < 1000 ? labels->size : 1000;
    int few = 0, *count = checked_alloc(labels->size, sizeof *count, err);
    if (!count) return -1;
    for (int i = 0; i < rows; i++) count[label[i]]++;
    for (int i = TOKEN_SPECIALS; i < labels->size; i++) few += count[i] < LEAST;
    free(count);
    if (few)
        buffer_print(&c->notes,
                     "note: %s: %d of %d labels have fewer than %d sentences: of these none is "
                     "held out\n",
                     path, few, labels->size - TOKEN_SPECIALS, LEAST);
    if (2 * (labels->size - TOKEN_SPECIALS) > rows)
        buffer_print(&c->notes,
                     "note: %s: nearly every sentence has a label of its own; the label stands "
                     "behind the last TAB of a line\n",
                     path);
    for (int i = TOKEN_SPECIALS; i < most; i++)
        for (int j = TOKEN_SPECIALS; j < i; j++)
            if (same_but_for_case(labels->token[i], labels->token[j]))
                buffer_print(&c->notes, "note: %s: '%.40s' and '%.40s' are two labels\n", path,
                             labels->token[j], labels->token[i]);
    hide_controls(c->notes.text);
    return c->notes.failed ? fail(err, "out of memory") : 0;
}

int corpus_take_labels(Corpus *c, const char *path, const Tokenizer *words, Tokenizer *labels,
                       int **label, Error *err)
{
    Error inner;
    const char *text;
    size_t to = 0, at = 0, n;
    int line = 0, rows = 0, unused[2];
    const int lines = occurrences(c->text, c->length, '\n') + 1;
    if (!(*label = checked_alloc(lines, sizeof **label, err))) return -1;
    while (next_line(c->text, c->length, &at, &text, &n)) {
        const size_t begin = (size_t)(text - c->text);
        size_t end = begin + n, tab;
        line++;
        while (end > begin && strchr(" \r", c->text[end - 1])) end--;
        if (end == begin) continue; /* blank */
        for (tab = end; tab > begin && c->text[tab - 1] != '\t';) tab--;
        if (tab == begin || tab == end || memchr(c->text + tab, 0, end - tab))
            return fail(err, "%s: line %d: expected a sentence, a TAB and a label", path, line);
        if (tokenizer_encode(words, text, tab - 1 - begin, unused, 2) <= 2)
            return fail(err, "%s: line %d: no sentence before the TAB", path, line);
        c->text[end] = '\0';
        const int id = (*label)[rows++] = tokenizer_add(labels, c->text + tab, &inner);
        if (id < 0) return fail(err, "%s: line %d: %.400s", path, line, inner.text);
        if (id < TOKEN_SPECIALS)
            return fail(err, "%s: line %d: %s cannot be a label", path, line, c->text + tab);
        memmove(c->text + to, text, tab - begin);
        to += tab - begin;
        c->text[to - 1] = '\n';
    }
    c->length = to;
    if (rows < 10)
        return fail(err, "%s: %d sentences; expected 10 at least, of which a tenth is held out",
                    path, rows);
    if (labels->size < TOKEN_SPECIALS + 2)
        return fail(err, "%s: a single label; expected two at least", path);
    return note_labels(c, path, *label, rows, labels, err);
}

int corpus_hold_out(Corpus *c, int *label, int labels, Corpus *held, int **held_label, Error *err)
{
    const int rows = c->rows;
    int *order = checked_alloc(rows, sizeof *order, err);
    int *count = order ? checked_alloc(labels, sizeof *count, err) : NULL;
    char *is_held = count ? checked_alloc(rows, 1, err) : NULL;
    size_t begin = 0, end, positions = 0, held_rows = 0;
    int status = -1;
    if (!is_held) goto done;
    rng_shuffle(order, rows, 0);
    for (int i = 0; i < rows; i++) {
        const int row = order[i];
        if (count[label[row]]++ % 10 != LEAST - 1) continue;
        is_held[row] = 1;
        held_rows++;
        positions += sentence_length(c, row);
    }
    held->longest = c->longest;
    if (!(held->ids = checked_alloc(positions, sizeof *held->ids, err)) ||
        !(held->start = checked_alloc(held_rows + 1, sizeof *held->start, err)) ||
        !(*held_label = checked_alloc(held_rows, sizeof **held_label, err)))
        goto done;
    c->rows = 0;
    for (int i = 0; i < rows; i++, begin = end) {
        Corpus *of = is_held[i] ? held : c;
        const size_t to = of->start[of->rows];
        end = c->start[i + 1];
        memmove(of->ids + to, c->ids + begin, (end - begin) * sizeof *of->ids);
        (is_held[i] ? *held_label : label)[of->rows++] = label[i];
        of->start[of->rows] = to + end - begin;
    }
    status = 0;
done:
    free(is_held);
    free(count);
    free(order);
    return status;
}

/* ---- sentences beside a text ------------------------------------------------------------------
 */

void tell_notes(const Corpus *c)
{
    if (c->notes.length && !c->notes.failed) fputs(c->notes.text, stderr);
}

void tell_sentences(const Corpus *sentences, const Tokenizer *t)
{
    int columns, rows;
    terminal_size(stderr, &columns, &rows);
    for (int i = 0; i < sentences->rows; i++) {
        Buffer text = {0};
        size_t fits = 0;
        tokenizer_decode(t, sentences->ids + sentences->start[i], sentence_length(sentences, i), 0,
                         &text);
        hide_controls(text.text);
        if (text.text) text_columns(text.text, text.length, columns - 2, &fits);
        fprintf(stderr, "  %.*s\n", (int)fits, text.text ? text.text : "");
        free(text.text);
    }
}

double pairs_never_seen(const Corpus *text, const Corpus *sentences, Error *err)
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

double copied_share(const Corpus *text, const Corpus *sentences)
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

/* ---- tokenizer.json ---------------------------------------------------------------------------
 * Hugging Face's file: the vocabulary, the merges, and the rules as a list of normalizers and one
 * of pre-tokenizers, which the fields of Rules name. What a file asks for and is not among them is
 * refused by name. "glue" in the model is the project's own, and ignored elsewhere. */

/* As regular expressions: what ACCENTS_DROPPED drops after NFD, and a piece of SPLIT_CHARACTERS */
static const char accents_pattern[] = "[\xCC\x80-\xCD\xAF]"; /* U+0300 to U+036F */
static const char characters_pattern[] = "\\P{M}\\p{M}*|\\p{M}+";

static void quote(Buffer *out, size_t begin) /* templates are written with ' for " */
{
    for (size_t i = begin; i < out->length; i++)
        if (out->text[i] == '\'') out->text[i] = '"';
}

/* {'type': step}, or the step itself if it is an object. Steps are separated by commas. */
static void print_step(Buffer *out, int asked_for, const char *step)
{
    if (!asked_for) return;
    if (out->length && out->text[out->length - 1] != '[') buffer_add(out, ", ", 2);
    buffer_print(out, *step == '{' ? "%s" : "{'type': '%s'}", step);
}

static const char *const truth[] = {"false", "true"};

static void print_rules(const Rules *r, Buffer *out)
{
    const int bert = r->clean || r->cjk || r->marks == NONSPACING_DROPPED;
    const int decomposed = r->marks == ACCENTS_DROPPED || r->marks == MARKS_DROPPED;
    Buffer step = {0};
    buffer_print(&step,
                 "{'type': 'BertNormalizer', 'clean_text': %s, 'handle_chinese_chars': %s, "
                 "'strip_accents': %s, 'lowercase': %s}",
                 truth[r->clean], truth[r->cjk], truth[r->marks == NONSPACING_DROPPED],
                 truth[r->lower]);
    buffer_print(out, "'normalizer': {'type': 'Sequence', 'normalizers': [");
    print_step(out, r->composed, "NFC");
    print_step(out, r->decomposed, "NFD");
    print_step(out, r->ascii, "NFKD");
    print_step(out, bert, step.failed ? "" : step.text);
    print_step(out, decomposed, "NFD");
    print_step(out, r->lower && !bert, "Lowercase");
    print_step(out, r->marks == MARKS_DROPPED, "StripAccents");
    print_step(out, r->marks == ACCENTS_DROPPED,
               "{'type': 'Replace', 'pattern': {'Regex': '[\\u0300-\\u036f]'}, 'content': ''}");
    print_step(out, r->marks == ACCENTS_DROPPED, "NFC");
    buffer_print(out, "]},\n'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [");
    print_step(out, r->digits, "{'type': 'Digits', 'individual_digits': true}");
    print_step(out, r->punctuation, "{'type': 'Punctuation', 'behavior': 'Isolated'}");
    print_step(out, r->split == SPLIT_WORDS, "Whitespace");
    print_step(out, r->split == SPLIT_BLANKS, "WhitespaceSplit");
    print_step(out, r->split == SPLIT_CHARACTERS,
               "{'type': 'Split', 'pattern': {'Regex': '\\\\P{M}\\\\p{M}*|\\\\p{M}+'}, "
               "'behavior': 'Isolated', 'invert': false}");
    print_step(out, r->split == SPLIT_BYTES,
               "{'type': 'ByteLevel', 'add_prefix_space': false, 'trim_offsets': true, "
               "'use_regex': true}");
    buffer_print(out, "]},\n");
    out->failed |= step.failed;
    free(step.text);
}

static void print_glue(const Tokenizer *t, Buffer *out) /* zeros at the end are left out */
{
    for (int id = 0; id < t->size; id++) {
        const int *count = t->glue[id].count[0][0];
        int n = sizeof t->glue->count / sizeof *count;
        while (n > 0 && !count[n - 1]) n--;
        buffer_print(out, id ? ",[" : "[");
        for (int i = 0; i < n; i++) buffer_print(out, i ? ",%d" : "%d", count[i]);
        buffer_print(out, "]");
    }
}

void tokenizer_to_json(const Tokenizer *t, Buffer *out)
{
    static const char *const model[] = {
        "null,\n'model': {'type': 'WordLevel', 'unk_token': '%s'",
        "{'type': 'Fuse'},\n'model': {'type': 'WordLevel', 'unk_token': '%s'",
        "{'type': 'WordPiece', 'prefix': '##', 'cleanup': true},\n'model': {'type': 'WordPiece', "
        "'unk_token': '%s', 'continuing_subword_prefix': '##', 'max_input_chars_per_word': 100",
        "{'type': 'ByteLevel', 'add_prefix_space': false, 'trim_offsets': true, 'use_regex': "
        "true},\n'model': {'type': 'BPE', 'dropout': null, 'unk_token': null, "
        "'continuing_subword_prefix': null, 'end_of_word_suffix': null, 'fuse_unk': false"};
    const int cls = t->special[TOKEN_CLS], sep = t->special[TOKEN_SEP], *id = t->special;
    buffer_print(out, "{\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n"
                      "\"added_tokens\": [");
    for (int k = 0; k < t->num_added; k++) {
        const Added *a = &t->added[k];
        buffer_print(out, "%s{\"id\": %d, \"content\": ", k ? ",\n" : "", a->id);
        buffer_json_string(out, a->name, strlen(a->name));
        buffer_print(out,
                     ", \"single_word\": false, \"lstrip\": %s, \"rstrip\": %s, "
                     "\"normalized\": false, \"special\": %s}",
                     truth[a->strips[0]], truth[a->strips[1]], truth[a->special]);
    }
    const size_t begin = out->length;
    buffer_print(out, "],\n");
    print_rules(&t->rules, out);
    buffer_print(out,
                 "'post_processor': {'type': 'TemplateProcessing',\n'single': [{'SpecialToken': "
                 "{'id': '%s', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}}, "
                 "{'SpecialToken': {'id': '%s', 'type_id': 0}}],\n'pair': [{'Sequence': {'id': "
                 "'A', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': 1}}],\n"
                 "'special_tokens': {",
                 t->token[cls], t->token[sep]);
    for (int i = 0; i < 2; i++)
        buffer_print(out, "%s'%s': {'id': '%s', 'ids': [%d], 'tokens': ['%s']}", i ? ", " : "",
                     t->token[i ? sep : cls], t->token[i ? sep : cls], i ? sep : cls,
                     t->token[i ? sep : cls]);
    buffer_print(out, "}},\n'decoder': ");
    buffer_print(out, model[t->kind], t->token[id[TOKEN_UNK]]);
    buffer_print(out, ", 'vocab': {");
    quote(out, begin);
    for (int i = 0; i < t->size; i++) {
        buffer_print(out, i ? ",\n" : "\n");
        buffer_json_string(out, t->token[i], strlen(t->token[i]));
        buffer_print(out, ": %d", i);
    }
    buffer_print(out, "}");
    if (t->kind == TOKENIZER_BPE) buffer_print(out, ",\n\"merges\": [");
    for (int i = 0; i < t->merges.count; i++) {
        buffer_print(out, i ? ",\n[" : "\n[");
        for (int side = 0; side < 2; side++) {
            const char *part = t->token[t->merges.pair[i][side]];
            if (side) buffer_add(out, ", ", 2);
            buffer_json_string(out, part, strlen(part));
        }
        buffer_print(out, "]");
    }
    if (t->kind == TOKENIZER_BPE) buffer_print(out, "]");
    if (t->glue) {
        buffer_print(out, ",\n\"glue\": [");
        print_glue(t, out);
        buffer_print(out, "],\n\"glue_exceptions\": [");
        for (int i = 0; i < t->exceptions.count; i++)
            buffer_print(out, "%s[%d,%d]", i ? "," : "", t->exceptions.pair[i][0],
                         t->exceptions.pair[i][1]);
        buffer_print(out, "]");
    }
    buffer_print(out, "}}\n");
}

/* A step of the rules, as it was read. Steps may be sequences of steps. */
typedef struct {
    const Json *j;
    Rules rules;
    int decomposed; /* by NFD, and neither stripped nor put together again */
    int split;      /* a Split, or -1: there was none */
    Error *err;
} RulesReader;

static int refuse_step(const RulesReader *r, const char *what, int node, const char *why)
{
    size_t n;
    char *type = json_text(r->j, json_find(r->j, node, "type"), &n);
    fail(r->err, "%s: cannot do '%.40s'%s", what, type ? type : "?", why);
    free(type);
    return -1;
}

static int json_type(const Json *j, int node) /* of a missing one: JSON_NULL */
{
    return node < 0 ? JSON_NULL : (int)j->node[node].type;
}

static int json_flag(const Json *j, int object, const char *key, int missing)
{
    const int type = json_type(j, json_find(j, object, key));
    return type == JSON_NULL ? missing : type == JSON_TRUE;
}

static int has_pattern(const RulesReader *r, int node, const char *pattern)
{
    const int object = json_find(r->j, node, "pattern");
    return json_is(r->j, json_find(r->j, object, "Regex"), pattern);
}

static int read_normalizer(RulesReader *r, int node)
{
    static const char what[] = "normalizer";
    const Json *j = r->j;
    const int type = json_find(j, node, "type");
    Rules *rules = &r->rules;
    if (json_is(j, type, "BertNormalizer")) {
        const int lower = json_flag(j, node, "lowercase", 1);
        rules->clean |= json_flag(j, node, "clean_text", 1);
        rules->cjk |= json_flag(j, node, "handle_chinese_chars", 1);
        rules->lower |= lower;
        if (json_flag(j, node, "strip_accents", lower)) rules->marks = NONSPACING_DROPPED;
    } else if (json_is(j, type, "Lowercase"))
        rules->lower = 1;
    else if (json_is(j, type, "NFD"))
        r->decomposed = 1;
    else if (json_is(j, type, "StripAccents")) {
        if (!r->decomposed && !rules->ascii)
            return refuse_step(r, what, node, " without NFD before it");
        r->decomposed = 0;
        rules->marks = MARKS_DROPPED;
    } else if (json_is(j, type, "Replace") && has_pattern(r, node, accents_pattern) &&
               json_is(j, json_find(j, node, "content"), "")) {
        if (!r->decomposed) return refuse_step(r, what, node, " without NFD before it");
        rules->marks = ACCENTS_DROPPED;
    } else if (json_is(j, type, "NFC")) {
        const int alone = !rules->lower && !rules->clean && !rules->cjk && !rules->marks;
        if (!alone && !(r->decomposed && rules->marks == ACCENTS_DROPPED))
            return refuse_step(r, what, node, " behind another normalizer");
        if (alone) rules->composed = 1;
        r->decomposed = 0;
    } else if (json_is(j, type, "NFKD"))
        rules->ascii = 1;
    else
        return refuse_step(r, what, node, "");
    return 0;
}

static int read_pre_tokenizer(RulesReader *r, int node)
{
    static const char what[] = "pre_tokenizer";
    const Json *j = r->j;
    const int type = json_find(j, node, "type"), behavior = json_find(j, node, "behavior");
    int split = r->split;
    if (json_is(j, type, "Digits")) {
        if (!json_flag(j, node, "individual_digits", 0))
            return refuse_step(r, what, node, " without individual_digits");
        r->rules.digits = 1;
    } else if (json_is(j, type, "Punctuation")) {
        if (behavior >= 0 && !json_is(j, behavior, "Isolated"))
            return refuse_step(r, what, node, " with another behavior than Isolated");
        r->rules.punctuation = 1;
    } else if (json_is(j, type, "BertPreTokenizer")) {
        r->rules.punctuation = 1;
        split = SPLIT_BLANKS;
    } else if (json_is(j, type, "WhitespaceSplit"))
        split = SPLIT_BLANKS;
    else if (json_is(j, type, "Whitespace"))
        split = SPLIT_WORDS;
    else if (json_is(j, type, "ByteLevel")) {
        if (json_flag(j, node, "add_prefix_space", 1))
            return refuse_step(r, what, node, " with add_prefix_space");
        if (!json_flag(j, node, "use_regex", 1))
            return refuse_step(r, what, node, " without use_regex");
        split = SPLIT_BYTES;
    } else if (json_is(j, type, "Split") && has_pattern(r, node, characters_pattern) &&
               json_is(j, behavior, "Isolated") && !json_flag(j, node, "invert", 0))
        split = SPLIT_CHARACTERS;
    else
        return refuse_step(r, what, node, "");
    if (r->split >= 0 && split != r->split) return refuse_step(r, what, node, " beside another");
    r->split = split;
    return 0;
}

static int read_steps(RulesReader *r, int node, const char *what, const char *list,
                      int (*read_step)(RulesReader *, int))
{
    const int steps = json_find(r->j, node, list);
    if (json_type(r->j, node) == JSON_NULL) return 0;
    if (!json_is(r->j, json_find(r->j, node, "type"), "Sequence")) return read_step(r, node);
    if (json_type(r->j, steps) != JSON_ARRAY)
        return fail(r->err, "%s: a Sequence without a list of \"%s\"", what, list);
    for (int k = steps + 1; k < r->j->node[steps].next; k = r->j->node[k].next)
        if (read_steps(r, k, what, list, read_step)) return -1;
    return 0;
}

static int read_rules(Tokenizer *t, const Json *j, Error *err)
{
    RulesReader r = {.j = j, .split = -1, .err = err};
    const char *const absent[] = {"truncation", "padding"};
    for (int i = 0; i < 2; i++)
        if (json_type(j, json_find(j, 0, absent[i])) != JSON_NULL)
            return fail(err, "\"%s\" is not null: the program does that itself", absent[i]);
    if (read_steps(&r, json_find(j, 0, "normalizer"), "normalizer", "normalizers",
                   read_normalizer) ||
        read_steps(&r, json_find(j, 0, "pre_tokenizer"), "pre_tokenizer", "pretokenizers",
                   read_pre_tokenizer))
        return -1;
    if (r.decomposed) r.rules.decomposed = 1, r.rules.composed = 0;
    if (r.split < 0)
        return fail(err, "pre_tokenizer: expected one that splits, as Whitespace does");
    t->rules = r.rules;
    t->rules.split = (Split)r.split;
    return 0;
}

static int json_off(const Json *j, int object, const char *key) /* missing, null, false or "" */
{
    const int node = json_find(j, object, key), type = json_type(j, node);
    return type == JSON_NULL || type == JSON_FALSE || json_is(j, node, "");
}

/* Older files do not name the type of a model, but this field is in no other. */
static int model_is(const Json *j, int model, const char *name, const char *field)
{
    const int type = json_find(j, model, "type");
    return type < 0 ? json_find(j, model, field) >= 0 : json_is(j, type, name);
}

static int read_kind(Tokenizer *t, const Json *j, int model, Error *err)
{
    static const char *const never[] = {"dropout",       "end_of_word_suffix", "fuse_unk",
                                        "byte_fallback", "ignore_merges",      NULL};
    const int split = (int)t->rules.split;
    int64_t longest = LONGEST_WORD;
    const int limit = json_find(j, model, "max_input_chars_per_word");
    const char *prefix = "continuing_subword_prefix";
    for (int i = 0; never[i]; i++)
        if (!json_off(j, model, never[i])) return fail(err, "model: cannot do '%s'", never[i]);
    if (json_is(j, json_find(j, model, "type"), "WordLevel") && split != SPLIT_BYTES)
        t->kind = split == SPLIT_CHARACTERS ? TOKENIZER_CHAR : TOKENIZER_WORD;
    else if (model_is(j, model, "WordPiece", "max_input_chars_per_word") &&
             (split == SPLIT_WORDS || split == SPLIT_BLANKS))
        t->kind = TOKENIZER_WORDPIECE;
    else if (model_is(j, model, "BPE", "merges") && split == SPLIT_BYTES)
        t->kind = TOKENIZER_BPE;
    else
        return fail(err, "expected a \"model\" of \"type\" WordLevel, WordPiece, or BPE with the "
                         "pre-tokenizer ByteLevel");
    if (t->kind == TOKENIZER_WORDPIECE && !json_off(j, model, prefix) &&
        !json_is(j, json_find(j, model, prefix), part_mark))
        return fail(err, "model: cannot do another '%s' than ##", prefix);
    if (t->kind != TOKENIZER_WORDPIECE && !json_off(j, model, prefix))
        return fail(err, "model: cannot do '%s'", prefix);
    if (limit >= 0 && (json_integer(j, limit, &longest) || longest != LONGEST_WORD))
        return fail(err, "model: cannot do another 'max_input_chars_per_word' than %d",
                    LONGEST_WORD);
    const Rules *r = &t->rules;
    if (split == SPLIT_BYTES &&
        (r->marks || r->lower || r->clean || r->cjk || r->digits || r->punctuation))
        return fail(err, "ByteLevel: cannot do any other normalizer or pre-tokenizer beside it");
    return 0;
}

static int read_vocabulary(Tokenizer *t, const Json *j, int vocab, Error *err)
{
    if (json_type(j, vocab) != JSON_OBJECT || j->node[vocab].size == 0)
        return fail(err, "\"vocab\" is no object with tokens and their ids");
    t->token = checked_alloc((size_t)j->node[vocab].size, sizeof *t->token, err);
    if (!t->token) return -1;
    t->size = j->node[vocab].size;
    for (int key = vocab + 1; key < j->node[vocab].next; key = j->node[key + 1].next) {
        int64_t id;
        size_t n;
        if (json_integer(j, key + 1, &id) < 0 || id < 0 || id >= t->size || t->token[id])
            return fail(err, "byte %zu: expected an id from 0 to %d, each once",
                        j->node[key + 1].begin, t->size - 1);
        if (!(t->token[id] = json_text(j, key, &n))) return fail(err, "out of memory");
        if (n == 0 || strlen(t->token[id]) != n)
            return fail(err, "token %d is empty or has a NUL", (int)id);
    }
    return index_tokens(t, err); /* V ids in range, none twice: none is missing */
}

static int read_added_tokens(Tokenizer *t, const Json *j, Error *err)
{
    const int list = json_find(j, 0, "added_tokens");
    if (json_type(j, list) == JSON_NULL) return 0;
    if (json_type(j, list) != JSON_ARRAY) return fail(err, "\"added_tokens\" is no list");
    const Rules *r = &t->rules;
    const int normalizes =
        r->marks || r->composed || r->decomposed || r->lower || r->clean || r->cjk;
    for (int k = list + 1; k < j->node[list].next; k = j->node[k].next) {
        size_t n;
        int64_t number = -1;
        char *name = json_text(j, json_find(j, k, "content"), &n), *why = NULL;
        int id = name ? tokenizer_find(t, name) : -1;
        if (!name || !n || strlen(name) != n || find_added(t, id))
            why = ": expected a name that did not occur before";
        else if (json_integer(j, json_find(j, k, "id"), &number) ||
                 number != (id < 0 ? t->size : id))
            why = ": expected its id of the vocabulary, or the first behind it";
        else if (json_flag(j, k, "single_word", 0))
            why = " with single_word";
        else if (json_flag(j, k, "normalized", 0) && normalizes)
            why = " with normalized beside a normalizer";
        if (why) fail(err, "added_tokens: cannot do '%.40s'%s", name ? name : "?", why);
        if (!why && id < 0) id = add_token(t, name, err);
        free(name);
        if (why || id < 0) return -1;
        const Added token = {t->token[id],
                             id,
                             {json_flag(j, k, "lstrip", 0), json_flag(j, k, "rstrip", 0)},
                             json_flag(j, k, "special", 0)};
        if (cut_out(t, token, err)) return -1;
    }
    return 0;
}

/* A merge of the parts left and right, of so many bytes, as number t->merges.count. */
static int read_merge(Tokenizer *t, const char *left, size_t n, const char *right, size_t m,
                      Error *err)
{
    const int number = t->merges.count, size = t->size;
    Buffer part = {0};
    int id[2] = {-1, -1};
    for (int side = 0; side < 2 && !part.failed; side++) {
        part.length = 0;
        buffer_add(&part, side ? right : left, side ? m : n);
        if (!part.failed) id[side] = tokenizer_find(t, part.text);
    }
    free(part.text);
    if (id[0] < 0 || id[1] < 0 || add_merge(t, id[0], id[1], err) < 0 || t->size != size)
        return fail(err, "merge %d, '%.*s' '%.*s': the vocabulary lacks its parts or their sum",
                    number, (int)(n < 40 ? n : 40), left, (int)(m < 40 ? m : 40), right);
    return 0;
}

static int read_merges(Tokenizer *t, const Json *j, int list, Error *err)
{
    if (json_type(j, list) != JSON_ARRAY) return fail(err, "\"merges\" is no list");
    for (int k = list + 1, status = 0; k < j->node[list].next; k = j->node[k].next) {
        const int pair = json_type(j, k) == JSON_ARRAY && j->node[k].size == 2;
        size_t n = 0, m = 0;
        char *left = json_text(j, pair ? k + 1 : k, &n);
        char *right = pair ? json_text(j, j->node[k + 1].next, &m) : NULL;
        char *blank = left && !pair ? strchr(left, ' ') : NULL;
        if (left && right)
            status = read_merge(t, left, n, right, m, err);
        else if (blank)
            status = read_merge(t, left, (size_t)(blank - left), blank + 1, strlen(blank + 1), err);
        else
            status = fail(err, "merge %d: expected two strings", t->merges.count);
        free(left);
        free(right);
        if (status) return -1;
    }
    return 0;
}

/* The `most` integers at most, from 0 to `last`, of a list; how many there are, or -1. */
static int read_integers(const Json *j, int list, int *out, int most, int last)
{
    int64_t value;
    if (json_type(j, list) != JSON_ARRAY || j->node[list].size > most) return -1;
    for (int i = 0; i < j->node[list].size; i++) {
        if (json_integer(j, list + 1 + i, &value) || value < 0 || value > last) return -1;
        out[i] = (int)value;
    }
    return j->node[list].size;
}

static int read_glue(Tokenizer *t, const Json *j, int model, Error *err)
{
    enum { MOST = sizeof t->glue->count / sizeof(int) };
    const int list = json_find(j, model, "glue"), pairs = json_find(j, model, "glue_exceptions");
    if (list < 0 && pairs < 0) return 0;
    if (json_type(j, list) != JSON_ARRAY || j->node[list].size != t->size ||
        (pairs >= 0 && json_type(j, pairs) != JSON_ARRAY))
        return fail(err, "\"glue\", \"glue_exceptions\": expected two lists, the first of %d",
                    t->size);
    if (!(t->glue = checked_alloc((size_t)t->size, sizeof *t->glue, err))) return -1;
    for (int k = list + 1, id = 0; k < j->node[list].next; k = j->node[k].next, id++)
        if (read_integers(j, k, t->glue[id].count[0][0], MOST, INT_MAX) < 0)
            return fail(err, "\"glue\": expected lists of at most %d counts", MOST);
    for (int k = pairs + 1; pairs >= 0 && k < j->node[pairs].next; k = j->node[k].next) {
        int pair[2];
        if (read_integers(j, k, pair, 2, t->size - 1) != 2)
            return fail(err, "\"glue_exceptions\": expected pairs of ids from 0 to %d",
                        t->size - 1);
        if (pair_add(&t->exceptions, pair[0], pair[1]) < 0) return fail(err, "out of memory");
    }
    return 0;
}

/* What puts [CLS] and [SEP] around a text, and what joins tokens, must do what the program does. */
static int check_surroundings(const Tokenizer *t, const Json *j, Error *err)
{
    static const char *const decoders[] = {"none", "Fuse", "WordPiece", "ByteLevel"};
    const char *cls = t->token[t->special[TOKEN_CLS]], *sep = t->token[t->special[TOKEN_SEP]];
    const int decoder = json_find(j, 0, "decoder"), post = json_find(j, 0, "post_processor");
    const int type = json_find(j, post, "type"), single = json_find(j, post, "single");
    int known = json_type(j, post) == JSON_NULL || json_is(j, type, "ByteLevel");
    if (json_type(j, decoder) != JSON_NULL &&
        !json_is(j, json_find(j, decoder, "type"), decoders[t->kind]))
        return fail(err, "decoder: expected null%s%s", t->kind ? " or " : "",
                    t->kind ? decoders[t->kind] : "");
    if (json_is(j, type, "BertProcessing") || json_is(j, type, "RobertaProcessing")) {
        const int first = json_find(j, post, "cls"), last = json_find(j, post, "sep");
        known = json_type(j, first) == JSON_ARRAY && json_is(j, first + 1, cls) &&
                json_type(j, last) == JSON_ARRAY && json_is(j, last + 1, sep);
    }
    if (json_is(j, type, "TemplateProcessing") && json_type(j, single) == JSON_ARRAY &&
        j->node[single].size == 3) {
        const int first = single + 1, text = j->node[first].next, last = j->node[text].next;
        known = json_is(j, json_find(j, json_find(j, first, "SpecialToken"), "id"), cls) &&
                json_find(j, text, "Sequence") >= 0 &&
                json_is(j, json_find(j, json_find(j, last, "SpecialToken"), "id"), sep);
    }
    return known ? 0
                 : fail(err,
                        "post_processor: expected one that puts %s before a text and %s "
                        "behind it",
                        cls, sep);
}

int tokenizer_from_json(Tokenizer *t, const char *text, size_t n, Error *err)
{
    Json j;
    memset(t, 0, sizeof *t);
    int status = json_parse(&j, text, n, err);
    const int model = status ? -1 : json_find(&j, 0, "model");
    size_t length;
    char *unknown = json_text(&j, json_find(&j, model, "unk_token"), &length);
    if (!status && model < 0) status = fail(err, "no tokenizer.json: there is no \"model\" in it");
    if (!status &&
        (read_rules(t, &j, err) || read_kind(t, &j, model, err) ||
         read_vocabulary(t, &j, json_find(&j, model, "vocab"), err) ||
         read_added_tokens(t, &j, err) || find_specials(t, unknown, err) ||
         check_surroundings(t, &j, err) || read_glue(t, &j, model, err) || unicode_init(t, err)))
        status = -1;
    if (!status && t->kind == TOKENIZER_BPE &&
        (index_bytes(t, err) || read_merges(t, &j, json_find(&j, model, "merges"), err)))
        status = -1;
    if (status) tokenizer_free(t);
    free(unknown);
    json_free(&j);
    return status ? -1 : 0;
}

/* ---- tokenizers from options and files ------------------------------------------------------ */

static const Rules original_rules = {
    .split = SPLIT_WORDS, .marks = MARKS_DROPPED, .lower = 1, .digits = 1};
static const Rules word_rules = {
    .split = SPLIT_WORDS, .marks = ACCENTS_DROPPED, .lower = 1, .cjk = 1, .digits = 1};
static const Rules character_rules = {.split = SPLIT_CHARACTERS};
static const Rules byte_rules = {.split = SPLIT_BYTES};
static const Rules bert_rules = {.split = SPLIT_BLANKS, .clean = 1, .cjk = 1, .punctuation = 1};

static const char *skip_byte_order_mark(const char *text, size_t *n)
{
    const size_t mark = *n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    *n -= mark;
    return text + mark;
}

/* BERT's vocab.txt: a token a line, the first is 0. If one has a capital letter from A to Z,
 * the model is a cased one. */
static int read_vocab_txt(Tokenizer *t, const char *text, size_t n, Error *err)
{
    const char *line;
    size_t length, at = 0;
    t->kind = TOKENIZER_WORDPIECE;
    t->rules = bert_rules;
    int cased = 0;
    for (int id = 0; next_line(text, n, &at, &line, &length); id++) {
        char *token = checked_alloc(length + 1, 1, err);
        if (!token) return -1;
        memcpy(token, line, length);
        const int bad = length == 0 || strlen(token) != length || first_bad_byte(token, length) ||
                        add_token(t, token, err) != id;
        for (size_t i = 0; i < length && *token != '['; i++) /* [CLS] tells nothing */
            cased |= token[i] >= 'A' && token[i] <= 'Z';
        free(token);
        if (bad)
            return fail(err, "line %d: expected a token in UTF-8 that did not occur before",
                        id + 1);
    }
    if (t->size == 0) return fail(err, "expected tokens, one a line");
    if (find_specials(t, NULL, err) || cut_out_specials(t, err)) return -1;
    t->rules.lower = !cased;
    t->rules.marks = cased ? MARKS_KEPT : NONSPACING_DROPPED;
    return unicode_init(t, err);
}

/* GPT-2's vocab.json, and merges.txt: a merge a line, behind a line of comment. */
static int read_gpt2(Tokenizer *t, const char *vocab, size_t n, const char *merges, size_t m,
                     Error *err)
{
    Json j;
    const char *line;
    size_t length, at = 0;
    t->kind = TOKENIZER_BPE;
    t->rules = byte_rules;
    int status = json_parse(&j, vocab, n, err);
    if (!status && (read_vocabulary(t, &j, 0, err) || find_specials(t, NULL, err) ||
                    index_bytes(t, err) || unicode_init(t, err)))
        status = -1;
    json_free(&j);
    while (!status && next_line(merges, m, &at, &line, &length)) {
        const char *blank = memchr(line, ' ', length);
        if (length == 0 || (length > 8 && memcmp(line, "#version", 8) == 0)) continue;
        if (!blank)
            status = fail(err, "merges.txt: '%.*s': expected two parts and a blank between",
                          (int)(length < 40 ? length : 40), line);
        else
            status = read_merge(t, line, (size_t)(blank - line), blank + 1,
                                length - (size_t)(blank + 1 - line), err);
    }
    return status;
}

static char *read_file_of(const char *folder, const char *name, size_t *n, Error *err)
{
    Buffer path = {0};
    buffer_print(&path, "%s/%s", folder, name);
    char *text = path.failed ? NULL : read_file(path.text, n, err);
    free(path.text);
    return text;
}

int tokenizer_read(Tokenizer *t, const char *path, Error *err)
{
    Error inner;
    size_t n, m;
    int status;
    memset(t, 0, sizeof *t);
    char *vocab = read_file_of(path, "vocab.json", &n, &inner), *file = NULL;
    if (vocab) {
        if (!(file = read_file_of(path, "merges.txt", &m, err))) {
            free(vocab);
            return -1;
        }
        const char *json = skip_byte_order_mark(vocab, &n);
        const char *merges = skip_byte_order_mark(file, &m);
        status = read_gpt2(t, json, n, merges, m, &inner);
    } else {
        if (!(file = read_file(path, &n, err))) return -1;
        const char *text = skip_byte_order_mark(file, &n);
        if (text[strspn(text, " \t\r\n")] == '{')
            status = tokenizer_from_json(t, text, n, &inner);
        else
            status = read_vocab_txt(t, text, n, &inner);
    }
    free(vocab);
    free(file);
    if (!status) return 0;
    tokenizer_free(t);
    return fail(err, "%s: %.400s", path, inner.text);
}

static const struct {
    const char *name, *also; /* the original's name for it */
    TokenizerKind kind;
    const Rules *rules;
} made[] = {{"word", "word", TOKENIZER_WORD, &word_rules},
            {"original", "word-level", TOKENIZER_WORD, &original_rules},
            {"bpe", "byte-level", TOKENIZER_BPE, &byte_rules},
            {"char", "char", TOKENIZER_CHAR, &character_rules}};
enum { MADE = sizeof made / sizeof *made };

static int find_made(const char *name) /* its index in made, or MADE */
{
    int k = 0;
    while (k < MADE && strcmp(name, made[k].name) && strcmp(name, made[k].also)) k++;
    return k;
}

int tokenizer_is_made(const char *name) { return find_made(name) < MADE; }

int tokenizer_make(Tokenizer *t, const TokenizerOptions *o, const char *text, size_t n, Error *err)
{
    static const char wordpiece[] = "wordpiece:";
    const size_t prefix = strlen(wordpiece);
    const int k = find_made(o->tokenizer), is_word = k < MADE && made[k].rules == &word_rules;
    const int min_frequency = !o->min_frequency && !is_word ? 1 : o->min_frequency;
    memset(t, 0, sizeof *t);
    if ((o->keep_case || o->keep_accents) && !is_word)
        return fail(err,
                    "--keep-case and --keep-accents are for the tokenizer word; %.80s has "
                    "its own rules",
                    o->tokenizer);
    if (k == MADE && !strncmp(o->tokenizer, wordpiece, prefix))
        return tokenizer_read(t, o->tokenizer + prefix, err);
    if (k == MADE) return tokenizer_read(t, o->tokenizer, err);

    t->kind = made[k].kind;
    t->rules = *made[k].rules;
    t->min_frequency = min_frequency;
    if (o->keep_case) t->rules.lower = 0;
    if (o->keep_accents) t->rules.marks = MARKS_KEPT;
    int status = unicode_init(t, err);
    if (!status)
        status = (t->kind == TOKENIZER_BPE ? train_bytes : train_words)(t, text, n, o->vocab_size,
                                                                        min_frequency, err);
    if (!status && is_word) status = learn_blanks(t, text, n, err);
    if (status) tokenizer_free(t);
    return status;
}

int tokenizer_grow(Tokenizer *t, const char *text, size_t n, Error *err)
{
    const int before = t->size;
    Glue *old = t->glue;
    Buffer pieces = {0};
    int status = 0;
    if (t->kind != TOKENIZER_WORD && t->kind != TOKENIZER_CHAR)
        return fail(err, "its tokens are parts of words, of which any text consists");
    tokenizer_split(t, text, n, &pieces);
    if (pieces.failed) status = fail(err, "out of memory");
    char *piece = pieces.length && !status ? strtok(pieces.text, "\n") : NULL;
    for (; piece && !status; piece = strtok(NULL, "\n"))
        if (tokenizer_unknown(t, piece) && tokenizer_add(t, piece, err) < 0) status = -1;
    if (old && !status) { /* what it has seen, and what it sees now */
        status = learn_blanks(t, text, n, err);
        for (int id = 0; id < before && !status; id++)
            for (int k = 0; k < 2 * BESIDES; k++)
                for (int glued = 0; glued < 2; glued++)
                    t->glue[id].count[k / BESIDES][k % BESIDES][glued] +=
                        old[id].count[k / BESIDES][k % BESIDES][glued];
        free(old);
    }
    free(pieces.text);
    return status;
}

void tokenizer_describe(const Tokenizer *t, Buffer *out)
{
    static const char *const kinds[] = {"words", "characters", "WordPiece", "byte-level BPE"};
    static const char *const marks[] = {"", ", accents dropped", ", accents dropped as BERT does",
                                        ", all marks dropped"};
    const Rules *r = &t->rules;
    buffer_print(out, "%s%s%s", kinds[t->kind], r->lower ? ", lower-case" : "", marks[r->marks]);
    if (r->composed) buffer_print(out, ", composed (NFC)");
    if (r->decomposed) buffer_print(out, ", decomposed (NFD)");
    if (r->ascii) buffer_print(out, ", ASCII only (NFKD)");
    if (r->cjk) buffer_print(out, ", Chinese characters apart");
    if (r->digits) buffer_print(out, ", digits apart");
    if (r->punctuation) buffer_print(out, ", punctuation marks apart");
}

/* ---- Unicode ----------------------------------------------------------------------------------
 * The tables were made with Python's unicodedata (Unicode 14); test/unicode.py compares them. They
 * can be skipped: what reads them stands behind them, NFC and, at the end, unicode_init. */

/* All code points from 0 on as runs of one class, each its length in base 36 (1 is left out) and
 * the letter of the class. Unassigned code points take the class before them, which keeps the
 * table short. */
static const char class_runs[] =
    "9C5BiCB3PS6PS4PaN2P3S2PqL3PSUSqLPSPS6CBqCBP5SP2SLPSC4S2FSL2PSFLP3FPnLSvLScqL4ScLeS5L7SLSLh"
    "S34M5LS8LP5L2SLP32LS3vLS5M2V5sL6P15L4P4S19MPMP2MP2MP9MzLdP6C3S2PS2P2SbMPC3P17LlMaN4P2LM2rL"
    "PL7MCS6M2L2MS4M2LaN3L2SLfPCLMuLtM2hLbMfLaNxL9M2LS3P3LM2SmL4ML9ML3ML7MgPpL5M2P14LS7L8C8M16L"
    "oMCwMV1iLMVML3V8M4VM2VL7MaL2M2PaNPgLM3V1jLML3V6M6VM9L5V6L4MaN2L2S6F2SLP5M2V1jL2M3VoMdLaN2M"
    "3LMbP2M2V1jLML3V8M4V3MiL4MaNP8SL8M3V1jLMLVMV6M6VaM5V6L4MaNSLgFM1nL2VMcV3M7LfVaN3FdSM3VM1jL"
    "ML3M5ViMaL4MhNP7FSLM2VP1jLMLVM6VM5V9M8V5L4MbNfL2M2V1jL2ML3V5M7VML5S3LV7F3L4MaN9FS7LM3V1xL5"
    "M3V6MeVcN2VdP1cLM2LbMS7L8MPaN13P1cLM2L9MbL8McN11L3SfPSP3S2M6SaNaFSMSMSM4P2V1dLeMV5MP2M5L1d"
    "M8SM9S5P4S13P17L2V4MV6MV2M2V2MLaN6P6L2V2M4L3ML3V2L7V3L4MdLM2V2M6VMLVaN3VM2S2jLPgxL3M9PnFgL"
    "gS2oLPh8LSPhLBqL5P23L3P3NxL3MaVjL2MVbPiLeMiLeM1gL2MV7M8VM2VbM3PL3PSL3MgNgFbP3MCMgN2tL2MyLM"
    "3aL3M4V2M9VM6V7M4S2PaN3kLaN4FySnL2M2V3M2P1hLVMV9MVM2V8M6VdMwN7PL8PeMV1xMV1bLMV5MVM5VM2VbLa"
    "N7PaS9M9S3P2MVuLV4M2V2MV3M2LaN18LMV2M3VMV3MaV4P10L8V8M2V5M5PdN3LaN10L2P1sLgP3MPdMV7M4LM6LM"
    "2LV2M5iL1sMcdLSL3SbL3SdL3SdL5SbL3SbBC2J2CoP2B5CBfP2U3PSdPSPUaPBgCF3L6F3S2PLaF3S3PgL1cSdM4V"
    "M3VrM2SL4SL2SaLSL3S5L6SLSLSLS4LSbL2S4L5S5L4SLSgFzN2L4NFamS4PtS2P8lS1oFqS1gOmFh4SePuF1dS2Pv"
    "SaPb7SmP1rS4PwS2PeaS6dL6S4L3M7L4PF2P34LfPM2oLwM1bPLwP2S1aPaoSB3PS2LNaP2ScPS9N4M2VP5L2S3N2L"
    "P3S2gL2M2S3LP2iLP44L2S4FaSwL1cSgLwSaFuS8FSfFwSaF13SfF8wS534L1sSh3kL1sS1aL2P7hL3PgLaN1xLM3V"
    "PaMPvL2M1yLaN2MePnS9L2S2vL2S3bLM3LM4LMnL2V2MV4S4M6FaS1gLcP2V1eLgVaM2PgNiM6L3PLP2LMaNsL8M2P"
    "nLbMdVPwL3MV1bLM2V4M2V2M3VePLeN2P5LMaLaN1bL6M2V2M2VbM3LM8LM3VcN4PnL3SLVMV1eLML3M2L2M5L2MLM"
    "sL2PbLV2M2V2P3LVbM2iLSeL6S37L2VM2VM2VPV3MgNa9sL4xsCf2LMaLS3sLxSa3L2PgS3jLxScL4SgMgPgM3P2Uo"
    "P3UiPSP4SPS6P3zL2C3PS6PS4PaN2P3S2PqL3PSUSqLPSPS7P3eLpS3C4S74L7P1cF9S1hN4FhS2F35S3nM2oLMvFw"
    "LdFkLN8L6N12LaMvLP1cLP1bN4gLgN5bLPknLP8FnL2S7F13L1lFrL5FmL9FPvL1tP1oL2F2L1sFLfM14L8MgFgPtL"
    "2FPtLzF8LSsL6M5FgP1lL7PoL8FoL8FpLgP2fF6yL6F10LcM8gNwF17L2M3P31LaFvLbM4FrPiL4M16PlLrFwLVMV1"
    "hLfMbPkFaNM2L2MaL3MV19L3V4M2V2M2PC4PbM3CwLgN3M10L5MV9MaN4PL2V18LM2PaL2MV1cL3V9M2V4L4P4MPVM"
    "aNLPL4PvF18L3V3M2VMV2M6P1uM15L7P1bLM3VdMgN2M3V1iL2ML2VMfV7L6V5L4V4aM1hL3V8M2V3MVM4L5PaN4PM"
    "29L3V6MVM4V2MV2M2LP9L4wN1bL3V6M4V2MV2MnP4L10M1cL3V8M2VMV2M3PcLgNwP17LMVM2V6MVML7P1sNtL3M2V"
    "4MV9MaN2F3PS6kL3V9MV2M2tP1sLaNlF1dLbV2MVMLVLVMcP28N1dL3V8M4VMLPLsVLaM14L6MVL4M8P9ML6M2V3M1"
    "aLdMV2M3PLiPanLVeMVMLfPaNmF2PwLnMV7MV2MV23M1dLlML9MgN16L6V3M2VMVM8L8wNjL2M2V55PgLlF16SPsgL"
    "34NgP29dLfPtsL34gC7kwLeN2P28LgNwL5MbP1cL7M5P4S4LPbSbN8Fm5LnF2xP27LML1qV4M27LPLcMgVf4sLS2MP"
    "3moC28MetS2V3M3S6V8C8M2S7MuS4M44S3M4bSwF2oS4gFjlLSpLSvLSpLSvLSpLSvLSpLSvLSpLSaL1eNe8S1jM4S"
    "1eM8SMeSM2SkPv9M74L74M1cL7M9LeNL8xSuLiM18L4MfNypS6fL9F1cM1wL7M5LeNlvP1nFS3FS3hFS5tF6oLeoSd"
    "FzSqO6SqO6SqO21ySswNgutdL73C1edcM2t4wC";
/* Ranges that move by one distance, as four numbers in base 36: how far behind the range before it
 * begins, length, step, distance. Lower-casing: */
static const char lower_runs[] =
    "1t q 1 w 3j n 1 w o 7 1 w 14 o 2 1 1c 1 1 -5j 2 3 2 1 7 8 2 1 h n 2 1 1a 1 1 -3d 1 3 2 1 8"
    " 1 1 5u 1 2 2 1 4 1 1 5q 1 1 1 1 2 2 1 5p 2 1 1 1 3 1 1 27 1 1 1 5m 1 1 1 5n 1 1 1 1 2 1 1"
    " 5p 1 1 1 5r 2 1 1 5v 1 1 1 5t 1 1 1 1 4 1 1 5v 1 1 1 5x 2 1 1 5y 1 3 2 1 6 1 1 62 1 1 1 1"
    " 2 1 1 62 3 1 1 1 2 1 1 62 1 1 1 1 2 2 1 61 2 2 2 1 4 1 1 63 1 1 1 1 4 1 1 1 8 1 1 2 1 1 1"
    " 1 2 1 1 2 1 1 1 1 2 1 1 2 1 9 2 1 j 9 2 1 j 1 1 2 1 2 2 1 4 1 1 -2p 1 1 1 -1k 1 k 2 1 14 "
    "1 1 -3m 2 9 2 1 o 1 1 8bv 1 1 1 1 2 1 1 -4j 1 1 1 8bs 3 1 1 1 2 1 1 -5f 1 1 1 1x 1 1 1 1z "
    "1 5 2 1 8a 2 2 1 6 1 1 1 9 1 1 38 7 1 1 12 2 3 1 11 4 1 1 1s 2 2 1 1r 3 h 1 w i 9 1 w 18 1"
    " 1 8 9 c 2 1 s 1 1 -1o 3 1 1 1 2 1 1 -7 1 1 1 1 3 3 1 -3m 3 g 1 28 g w 1 w 28 h 2 1 16 r 2"
    " 1 1i 1 1 f 1 7 2 1 f 1c 2 1 2p 12 1 1c 29b 12 1 5ls 13 1 1 5ls 6 1 1 5ls k3 28 1 tzk 28 6"
    " 1 8 1pc 17 1 -2bk 19 3 1 -2bk 8z 23 2 1 4e 1 1 -5vj 2 1c 2 1 2w 8 1 -8 g 6 1 -8 g 8 1 -8 "
    "g 8 1 -8 g 6 1 -8 h 4 2 -8 f 8 1 -8 w 8 1 -8 g 8 1 -8 g 8 1 -8 g 2 1 -8 2 2 1 -22 2 1 1 -9"
    " c 4 1 -2e 4 1 1 -9 c 2 1 -8 2 2 1 -2s e 2 1 -8 2 2 1 -34 2 1 1 -7 c 2 1 -3k 2 2 1 -3i 2 1"
    " 1 -9 8a 1 1 -5st 4 1 1 -6gv 1 1 1 -6di 7 1 1 s 1a g 1 g z 1 1 1 mr q 1 q 1fu 1c 1 1c 2o 1"
    " 1 1 2 1 1 -8af 1 1 1 -2xy 1 1 1 -89z 3 3 2 1 6 1 1 -8bg 1 1 1 -8al 1 1 1 -8bj 1 1 1 -8bi "
    "2 1 1 1 3 1 1 1 9 2 1 -8cf 2 1e 2 1 2z 2 2 1 7 1 1 1 nym n 2 1 1s e 2 1 4i 7 2 1 g v 2 1 1"
    "z 2 2 1 4 1 1 -r9g 1 5 2 1 d 1 1 1 2 1 1 -wmg 3 2 2 1 6 a 2 1 k 1 1 -wn8 1 1 1 -wnj 1 1 1 "
    "-wnf 1 1 1 -wn5 1 1 1 -wn8 2 1 1 -wlu 1 1 1 -wmi 1 1 1 -wlx 1 1 1 ps 1 8 2 1 g 1 1 -1c 1 1"
    " 1 -wn7 1 1 1 -raw 1 2 2 1 9 1 1 1 6 2 2 1 v 1 1 1 h7w q 1 w yn 14 1 14 4w 10 1 14 5c j 2 "
    "13 1 5 2 13 c 7 2 13 g 3 2 13 8 1 1 13 1d7 1f 1 1s 2e8 w 1 w gww w 1 w o8w y 1 y";
/* Canonical decompositions into two, all numbers in base 36. For every second part: itself, how
 * many there are, and how far each and its first part lie behind those of the one before. What is
 * in the last string is not put together again. Hangul is added by rule. */
static const char *const parts_of[] = {
    "lc 2c 5c 1t 8 4 4 4 6 6 7 6 7 c 8 4 4 4 6 6 7 6 6a 2v 1 w s -4u 1 w ef pz d 3 1v t d 3 52v "
    "-me 1 1 1n 1l 1 1 1b -6u 1 w 11 23 1 w 9 w 1 1 f -1l 1 w h -m 1 w 9 4s 1 1 d e 1 1 7 -9j 1 "
    "w f 613 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1"
    " 8 8 7 7 1 1 7 7 1 1 5 -5h4 2 4 2 2 2 2 2 6 2 6 2 4 1q -1k e 4 2 2 3 5k8 5 -5it 8 -1d 3 5lx"
    " 5 -5kj 8 -12 3 -l9 b l3 2 a ld 39 5d 1t 8 4 4 4 6 6 7 6 3 4 4 8 8 4 4 4 6 6 7 6 3 4 9 -1i "
    "1 w 1e -n 1 w 9 -u 1 w g -s 1 w 5 -v 1 w u -p 1 w 2l 2q 1 w s -51 1 w 5 2m 1 w 1 -v 1 w 1 -"
    "e 1 w au -28 1 kp 2 4 1 2 1 2 2 6 2 6 1 4 1 x s -p 1 4 1 2 1 2 1 i s -c 1 6 1 4 5 9 1c 1t 9"
    " 7 1z p 9 7 52k -oj 1 w d 17 1 1 n -1w 1 w 1 -4k 1 w d -u 1 w d 2w 1 w 5 2f 1 1 1 -71 1 w z"
    " 6w 1 1 9 -7m 1 w x 23 1 w 9 w 1 1 f -1l 1 w h -m 1 w 9 4s 1 1 d e 1 1 r 5sg 1 1 7 7 1 1 7 "
    "7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 7 7 1 1 8 8 7 7 1 1 7 7 1 1 2"
    "p 2e g 1r le w 5e 1t 8 4 4 4 6 6 7 6 7 c 8 4 4 4 6 6 7 6 d -1e 1 w j -s 1 w 7 -v 1 w f -u 1"
    " w 13 -n 1 w n -s 1 w 1 -u 1 w 5qx -v 1 w r 5ye 1 1 p n 1 1 h j 1 1 lf s 5f 1t e d 4 1 e i "
    "e d 4 1 1f -12 1 w 1r -k 1 w 5qr -v 1 w 19 24 1 w 9 w 1 1 7 -5a 1 w 7 2t 1 w h -m 1 w 9 4s "
    "1 1 d e 1 1 9 -9j 1 w lg 18 74 1t 1 w h -s 1 w n -s 1 w x -q 1 w t -q 1 w 2y 2v 1 w 8 -1k 1"
    " w 1 8y 1 1 1 -9t 1 w 9 78 1 1 1p -7p 1 w 1 -x 1 w 3 8p 1 1 1 -d2 1 w j3 pr 1 w b -l 1 w 4z"
    "5 -sc 1 w n 5vz 1 1 z z 1 1 9g -59m 8 -w o 14 8 -w 8 18 8 -w li w 76 1t 1 w h -s 1 w 9 -u 1"
    " w d -u 1 w x -q 1 w t -q 1 w ip q6 b -b w w 11 b 2r -19 1 w e -12 1 w 5 -r 1 w 4zp -el 1 1"
    " 49 5mf 1 1 6x -5bk 8 -w o 14 8 -w 8 18 8 -w lj 1a 7e 1v 1 w b -u 1 w 9 -u 1 w f -u 23 h 1 "
    "w 4q -1l 1 w 7 -i 1 w 5hv -19 1 w 7 -u 1 w j -u 1 w 3 -u 1 w t -r 1 w 3 -v 1 w h -u 1 w 1 -"
    "u 1 w 7 -v 1 w 3 6f 1 1 1 5 1 1 1 5q9 1 1 1 -5xr 1 w r -t 1 w 3 -v 1 w 3 -v 1 w c 7a lk 1i "
    "5g 1t 7 4 4 4 7 6 6 6 8 c 7 4 4 4 7 6 6 6 3 4 3d -w fm n4 1 c v k 1 c 9 d 19 1v 6 -f 22 1b "
    "6 x 3f -1y 1 w 7 4o 1 1 1 -5f 1 w 1 -v 1 w 5 -v 1 w 1 -q 1 w 3 4q 1 1 1 -58 1 w 3 -16 1 w 3"
    " -s 1 w 3 -s 1 w 4z1 -sj 1 w 13 31 1 w 17 39 1 1 9 -7o 1 w 7 -v 1 w a -4 ll o 61u 1t 1 w 5 "
    "2p 1 w 9 w 1 1 7 -5a 1 w 7 2t 1 w 5 -4h 1 w 5 -q 1 w 5 2t 1 w 9 4s 1 1 7 -98 1 w 5 8q 1 1 9"
    " -9j 1 w lm 6 5h 1t w w 3t -c 1 w 5rd 2 1 2 ln 6 9c 27 1 w v -q 1 w ox q6 1 w lo 11 7g 1v 1"
    " w 1 -v 1 w b -v 1 w y -p 1 w 9 -u 1 w g -s 1 w 7 -v 1 w 3 -v 1 w o -q 1 w 27 -1l 1 w 1 -o "
    "1 w 1 -q 1 w 1 -q 1 w 5 2v 1 w c -51 1 w 1 -s 1 w 5 98 1 63 1 -fc 1a -y 1 w",
    "lr e e8 1t 1 w 3 -s 1 w 3 -s 1 w 3 -q 1 w 3 -t 1 w 3 -t 1 w gx sf 1 1 lt c ea 1t 1 w 3 -s 1"
    " w 3 -s 1 w 3 -q 1 w 3 -t 1 w 3 -t 1 w lv e 64g q9 8 -w 8 10 8 -w 8 y 8 -w 8 y 8 -w 8 12 8 "
    "-w 8 12 g 4 8 -w 3g o lw g 64h q9 8 -w 8 10 8 -w 8 y 8 -w 8 y 8 -w 8 12 8 -w 8 12 8 -w 8 10"
    " 8 -w 3g o 7 -w m3 4 bk 27 1 w e -q 1 w mb 16 5xg 1u 1 w 7 -u 1 w n -s 1 w d -t 1 w 3 -v 1 "
    "w b -v 1 w 3 -v 1 w j -s 1 w 7 -v 1 w 9 -v 1 w h -u 1 w 9 -v 1 w 9 -t 1 w d -1l 1 w n -s 1 "
    "w h -s 1 w 1 -q 1 w l 8h 1 1 1 -98 1 w b 8q 1 1 3 -9j 1 w mc 2 60i 2d 1 w md 2 5xc 1t 1 w m"
    "e 4 ew 2b 1 w 1 -v 1 w mf m 5j 1v w w 1n -s 1 w j -s 1 w 4 -v 1 w 9 -u 1 w g -s 1 w 7 -v 1 "
    "w 3 -v 1 w 5h -1b 1 w 5if -x 1 w n -s 1 w mg a 78 1t 1 w j -s 1 w l -s 1 w 1v -k 1 w 3b -12"
    " 1 w ml c 5xu 1w 1 w 5 -v 1 w z -p 1 w d -u 1 w 11 -q 1 w 5 -v 1 w mm 2 5yi 20 1 w mo 6 5y2"
    " 1x 1 w h -s 1 w 1z -k 1 w mp h 5xi 1u 1 w 7 -u 1 w 11 -p 1 w 5 -v 1 w d -u 1 w l -s 1 w f "
    "-u 1 w 11 -q 1 w 1 -i mw 18 6my 6mo 1 2 j 2 v 1o 1 4 1 -2 1h 1d 5 5 3 3 o o 2 2 r n 3 7 3 2"
    " 2 3 n -6q3 2 6qs b -k 1 -6q9 1 2 1 6qu 1 1 3 d 1 1 3 3 1 1 7 3 1 1 3 7 1 1 3 3 1 1 z r 1 6"
    " 1 1 1 2 1d -1b 1 1 1 k 1 1 7 w 1 1 1 1 1 1 n6 t 64m 64g 1 1 7 7 1 1 n n 1 1 7 7 1 1 7 7 1 "
    "1 7 7 1 1 n n 1 1 8 8 7 7 1 1 7 7 1 1 1z -5h4 b -ll 5 lr 9 5jc 7 -5ja 1 h 8 5kk 7 -5kp 1 6 "
    "f -2 n9 1r 680 64g 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 h 1 1 1 1 "
    "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1d 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 "
    "1 1 1 1 1 1 1 1 1 1 1 1 1 3 1 1 -5hb 1 -5 3 5je 5 -5k5 6 5ib 1 -5h9 1 -9 3 5js 5 -5kf 12 5i"
    "d 1 -5gz 1 5 3 5k8 5 -5l9 18z 1 17m 17r 190 6 17n 17r 1 x 2 2 4a 3v 2 -k h h 191 1 17p 17r "
    "1to 3 1t5 1t4 8 8 3 3 1xa 1 1xn 1xj 1xz 1 1xo 1xj 27y 1 28b 287 28m 1 288 287 28n 1 28c 287"
    " 2bi 2 2bu 2bq 1 1 2c7 2 2ac 2aa 1k 1g 2fq 1 2fc 2fa 2iq 1 2iy 2iu 2j9 3 2io 2in 7 7 4 4 2j"
    "a 1 2iw 2iu 2m6 2 2mi 2me 1 1 2mv 1 2mk 2me 2q2 2 2qi 2qh 3 3 2q7 1 2qk 2qh 2qn 1 2qm 2qh 3"
    "72 1 36u 36t 5dh b 5c6 5c5 2 2 2 2 2 2 2 2 4 4 15 15 2 2 3 2 1 1 2 3 9ll 1c 9jg 9jf 2 2 2 2"
    " 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 3 3 2 2 2 2 7 7 3 3 3 3 3 3 3 3 o -1h a 2f e e 2 2 2 2"
    " 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 3 3 2 2 2 2 7 7 3 3 3 3 3 3 3 3 o -1h 3 21 1 1 1 1 1 1"
    " 4 b 9lm a 9kh 9kf 3 3 3 3 3 3 3 3 2c 2c 3 3 3 3 3 3 3 3 1hve 3 1hui 1huh 2 2 f a 1hyf 2 1h"
    "ym 1hyp 1 1 1ida 1 1idn 1idj 1idz 1 1ido 1idj 1ink 1 1inw 1int 1inu 1 1inv 1int 1inx 1 1iny"
    " 1int 1iun 2 1iuy 1iuw 1 1 1jjk 1 1jjs 1jjp",
    "ld 1 n8 lk mw 1 8gs 8gt 14k 1 1dlp 15l 14n 2 1dlr 16a f -y 14o 1 1dm7 15c 14p 1 1dmz 15h 14"
    "s m 1dm8 15c 1 1 1 1 1 1 1 1 1 1 1 1 2 2 1 1 1 1 1 1 1 1 2 2 2 2 1 1 2 2 1 1 2 2 1 1 1 1 1 "
    "1 1 1 14v 3 1dn0 15d 1 a 1 9 14x 2 1dm2 161 2 1cgw 14y 2 1dm3 161 2 1cgw 1to 8 1ug 1sl 1 1 "
    "1 1 1 5 1 5 1 1 1 9 1 4 1x8 3 1y4 1wh 1 1 2 d 20s 6 20j 20i 3 6 z -y 1 1 1 5 3 f 27w 2 28s "
    "275 1 1 31u 1 31v 31t 31w 1 31x 31t 328 3 31y 33m 2 1 9 -1u 33p 2 31l 30g 28 28 33r a 30j 3"
    "0i a a 5 5 5 5 5 5 1j 1j a a 5 5 5 5 5 5 2jxh 4 2jxa 2jx3 1 1 2k 2p 1 1 2jxq 3 2jxc 2jxb 2l"
    " 2k 1 1 2jxr 3 2jxd 2jxb 2m 2k 1 1 2jxs 1 2jxe 2jxb 2jxt 1 2jxf 2jxb 2jxu 1 2jxg 2jxb"};
/* Into one. In front of a colon: how far it lies behind the one before, if that is not 1. */
static const char *const same_as[] = {
    "n4:lc ld 2:lv 1d:jd a:1n 9:53 5ii:q4 2:q5 2:q6 2:q7 2:r0 2:r1 2:r2 1q:p2 3:qh b:p4 2:p5 8:p"
    "c 8:p6 8:q8 8:pa 3:p1 2o a:p8 2:pb 2:50 3:6bm 6bn 85:q1 4:23 5h e6:9hk 9hl 168m:rpk kc4 s7e"
    " rt4 lw1 fg2 gkl vj0 vj0 hn5 ssx gw7 hmw jcm ne1 p6t qin qt6 r20 sjz kxu ljv mah mvy q4d sq"
    "2 uep fia ghh l50 mjf qi5 v8e ifk m3v qfh r50 jih pnc qvz iq2 kd3 lm2 mpo slq fpi g53 gda j"
    "wk l3n mj4 nhj pa9 qh2 qjg s1b tv6 upb v7e nt8 nzz otc q15 t1g vb3 rfa hjz iro okg pdq mle "
    "nuy rsy ttj hjs i8y kyb lp6 lxr oq7 oxj tor gcy pe3 g64 g5o o4c ou6 q29 tpx rk0 jin kxu rge"
    " fg9 i5j iz6 mtj n74 gev nwb fr3 iw9 ff1 lho k1k opu gjn hge ni9 q4p re2 la2 sds lfs jjy pu"
    "t jog n6t fji g2x g5l kn5 oo7 prj rf6 ssv gdx gn6 ho3 ir0 k3p m4e nxm tkd ui2 vbr vda gbf k"
    "au l87 sbm ino j9s jcw jve lyb mdl n0p o22 ovo pdb s9y q9a sgz t3e g7r gbn gql ma0 r0i re2 "
    "iq1 iyd jnf l9q oji mt1 fl0 h6h i5j iii izg muq mzt p7e pc6 svo tti tvs u1k fpn o1a ss4 trs"
    " j4x fie fyy i5q i7z k2h kxu mha ncy q9o sjg vil k94 tny gax kfv kj7 lkx luk mx5 n6h nsb op"
    "c u3i g31 je6 tq0 fu3 ie1 lpm sa2 ivf j7o kk7 mtj tqe g89 glr i91 k5v kem ko8 lid mx2 naa p"
    "6h r0v r1d sss tsy gfz lve gm5 mhc n14 qgq tr7 uvr vbz kgn lor pns o97 obk olu mo0 m8p riw "
    "fk0 px2 g8q g7b ip2 jir onq i2t ljy kac saj qx8 tot r63 iqb g1s gxs 3:hga 2:k8k 3:g66 mqy n"
    "gq ny4 nz2 nz9 o0f tw6 on2 p8d 2:qhe 2:rg8 3:shk sn1 4:u7j u7w u94 v5g sm6 trr fqm fzb g25 "
    "gcp gdg ggh gwt gzq h2g hfk hig i90 i9a j2s j8o j9q jci k0f k4i k9d kn9 lmf lqy lya mem mjv"
    " mxu ntd ny6 nyh nyg nyo nyu nz1 o0d o0e o5c o75 og0 ovo ow9 oxt p6a pad pnx prt prt q53 r2"
    "o r6e rgh ri1 rtf ruw sdy shk tsz u0v u2j j1x 36cu pp4 3:ffq g51 g2w fpc g1x g3k gcn ge2 gw"
    "t gut gwp gyq hga hir hms hn8 huq i08 iqa iqh iuh iwd j4o j7y j60 j9q j8g jci jec jpg jrw j"
    "te k0m k8k kd3 kd7 keu l89 la2 lkx lwb lvv lya m5a mem nmv mk5 mnj mqy n01 n46 n5n nbx nbz "
    "ngq nh7 nhw nka nk0 nv0 o8h og0 ol7 orf ovo p4u pad pxu q27 qrd r41 r5y r6e ren rg8 rez rgh"
    " rge rfx ri1 rka ruw sag sj6 srd sxi tq4 tsz tw6 tzv u0v u17 u2j umq vj0 313e 3138 33dh brx"
    " cns cop 39e1 3bgw 3i6r vgj vim 2skn:fgd fg8 fgh 2tcy fog fqm fqz fsy fwa fx5 fzb fyn ae6 2"
    "ud6 g25 g2c g2s g3b 2u58 aex g2v g3x 2u6j g47 g4k fkc g4s g51 3ly7 g6t g77 afz g8r g92 gaa "
    "gaf ahh gcn gcp gdg ge2 ged gee gev gg9 ggh ggq ghf ghp ghr ghr ghr 2v58 m7k gju gkf 2vdv g"
    "kr gkx gli gpq gmw gnc",
    "4667:go8 gpu gs6 gsw gur gv7 gw4 gw4 gwp gx7 gxf gxu h7a gzq h7b h1t h2s g7b hke hce hdg he"
    "5 haj hf6 hf5 hik 2x9g hki hkn hl2 hlm hlu hnm 2xm0 2xnu hrg hsr ht3 hqw huu aum av0 hzc i0"
    "u i0u 2y88 i4j i54 i5j i5v 2yhk i67 i6e itv i76 ayp i8w i9a ibk ia5 2z1g if7 2z1i ige igb i"
    "gs ijl ijm b3j ikd ilk im5 ind b4y 2zr7 b5o ipc ipf ipi iq2 3pg2 iri 3035 3035 poh isi isi "
    "b7r 335k 3cgq iua iuj b8j ivu ix9 ixj iyh j29 bay ba4 j2s 30t0 j47 j7s j7w j7y j7w j96 j9q "
    "jaq jac jan jby jci jcm jdc jdn jfh jht jis jm8 31n0 jlp jjw jmw jnn jqc 31td js2 jph jop b"
    "hq ju1 jum jvh juf bjg k0f k18 32mi k4j kc8 k7d bo9 k9d bns bms g42 g45 kcg k9o pf1 deh kd3"
    " kd7 kdd kf2 ker 33cz bpl kje kg5 klu kn9 33hp kni kkf kr8 brx ksi kv7 kx6 l2g 33xf l3v bvc"
    " l5t 34br l78 bwu l82 l9b la2 la3 34p9 2yvf 34sa le6 354s lhb lhp lev ljq lku lmf lkx lm1 l"
    "mg lmt 357i lkk lrj lta c37 lvv lvr 35jl lq1 m0e 35ni 35ou m2u m61 m5a m57 c5y m6i m7x m7r "
    "m99 2u5h mdh 368z mfw 36i3 mjs mk5 mkw 36yw mm8 mmt 3779 37dg mt6 mtn cdo mud ce0 ce0 myv m"
    "zg n01 n0l n2i cgr n50 386u n5q 389e n74 2zrz nbk 38v5 38vs 38zo cn0 cnc nhw 394j 394i 395l"
    " 396b nj2 nj3 nj3 nka cop nm3 cp2 cra 39r1 nri nt8 nv0 ctf 3a5i nyu 3a8q 3a9x o0f o2z cvj o"
    "5c o5m o5r 3at8 3b1j 3b1j oa6 d1e 3b8r og6 og9 d2f 3beo onm d5s oo8 oo3 oow 3c06 orn d8h ou"
    "f ow2 oxx d9w 3ciw 3cjr dax 3cnt p6i 3cqm p79 pa2 pad 3d22 3d43 pcw 3d7s pdc 33a7 ded pf6 p"
    "hf dfv pj2 hx1 3dlz 3dmd 33bn 33bw poh pok sda dij psh psb pst gc3 ptd ptf ptp puu 3ebg put"
    " pwd pyb q0d pwj q0t q1z q53 pxv q16 q18 q1o 3eie 3eqz 3emt dnv q9d q9f qae 3g0a qck 3f3g d"
    "p9 dpd 3f75 3ff6 dpn qj4 qjg qjr qjt qll qko qoe qn6 qrd qp4 qqz qrq dsn qu9 qv5 dtl qxs qx"
    "v 3giv r13 r1a dv9 r22 aez 3gz2 3h46 dz2 dzb rds rfx rka rpx 3hrc rsb rsx rvf rxz 3i9b 2upw"
    " s0b rzw s1c 2uvy s7o sag 3jki 3jl9 sk4 smp snl 3ju6 snv svs t07 t08 sxo t89 t91 3ksa tjf e"
    "j9 tkn 3l2v eli ts3 iia tur 3ltx 3lzu epa epi u00 3mdm er6 3mhi u17 u17 u21 3mpi u76 eur u9"
    "5 ucn ude uf2 ez2 3nsg umq uv4 v0d f66 f71 v3b 3owe f7c 3oxx 3p5a 3p8x vcr f9y veh vem vet "
    "vf3 vfa vgb 3pxc"};
/* Canonical combining classes, runs of one: how far behind the run before, length, class. */
static const char order_runs[] =
    "lc l 6e 0 1 6g 0 4 64 0 1 6g 0 1 60 0 5 64 0 2 5m 0 4 64 0 2 5m 0 b 64 0 5 1 0 4 64 0 8 6e "
    "0 1 6o 0 1 6e 0 3 64 0 3 6e 0 2 64 1 3 6e 0 4 64 0 1 6e 0 1 6g 0 2 64 0 1 6e 0 1 6h 0 2 6i "
    "0 1 6h 0 2 6i 0 1 6h 0 d 6e 7n 5 6e 7d 1 64 0 4 6e 0 1 64 0 3 6e 0 1 66 0 1 64 0 6 6e 0 6 6"
    "4 0 2 6e 0 1 64 0 2 6e 0 1 66 0 1 6c 0 1 6e 0 1 a 0 1 b 0 1 c 0 1 d 0 1 e 0 1 f 0 1 g 0 1 h"
    " 0 1 i 0 2 j 0 1 k 0 1 l 0 1 m 1 1 n 1 1 o 0 1 p 1 1 6e 0 1 64 1 1 i 20 8 6e 0 1 u 0 1 v 0 "
    "1 w 1c 1 r 0 1 s 0 1 t 0 1 u 0 1 v 0 1 w 0 1 x 0 1 y 0 2 6e 0 2 64 0 5 6e 0 1 64 0 2 6e 0 1"
    " 64 g 1 z 2t 7 6e 2 4 6e 0 1 64 0 1 6e 2 2 6e 1 1 64 0 2 6e 0 1 64 z 1 10 u 1 6e 0 1 64 0 2"
    " 6e 0 1 64 0 2 6e 0 3 64 0 1 6e 0 2 64 0 1 6e 0 1 64 0 3 6e 0 1 64 0 1 6e 0 1 64 0 1 6e 0 1"
    " 64 0 1 6e 0 1 64 0 2 6e 4g 7 6e 0 1 64 0 1 6e 9 1 64 o 4 6e 1 9 6e 1 3 6e 1 5 6e 17 3 64 1"
    "o 1 6e 0 3 64 0 4 6e 16 5 6e 0 5 64 0 e 6e 1 1 64 0 2 6e 0 1 64 0 2 6e 0 1 64 0 3 6e 0 3 64"
    " 0 1 r 0 1 s 0 1 t 0 3 6e 0 1 64 0 2 6e 0 2 64 0 5 6e 1o 1 7 g 1 9 3 1 6e 0 1 64 0 2 6e 2v "
    "1 7 g 1 9 1c 1 6e 1p 1 7 g 1 9 32 1 7 g 1 9 32 1 7 g 1 9 3j 1 9 32 1 7 g 1 9 7 1 2c 0 1 2j "
    "2t 1 7 g 1 9 31 2 9 g 1 9 3g 1 9 31 2 2v 0 1 9 d 4 2z 30 2 3a 0 1 9 d 4 3e 24 2 64 r 1 64 1"
    " 1 64 1 1 60 1j 1 3l 0 1 3m 1 1 3o 5 4 3m 2 1 3m 1 2 6e 0 1 9 1 2 6e 1q 1 64 34 1 7 1 2 9 2"
    "a 1 64 jz 3 6e qc 2 9 u 1 9 4d 1 9 a 1 6e 5n 1 6c 3z 1 66 0 1 6e 0 1 64 63 1 6e 0 1 64 1z 1"
    " 9 k 8 6e 2 1 64 1c 5 6e 0 6 64 0 2 6e 0 1 64 1 2 64 0 2 6e 0 2 64 0 5 6e 0 1 64 0 4 6e 2t "
    "1 7 f 1 9 12 1 6e 0 1 64 0 7 6e 1i 2 9 1m 1 7 b 2 9 1v 1 7 48 3 6e 1 1 1 0 5 64 0 2 6e 0 4 "
    "64 0 1 6e 1 7 1 4 1 64 6 1 6e 3 2 6e 5i 2 6e 0 1 64 0 7 6e 0 1 64 0 2 6e 0 1 6i 0 1 5y 0 1 "
    "64 0 1 5m 0 11 6e 0 1 6g 0 2 6c 0 1 64 0 1 62 0 1 6e 0 1 6h 0 1 64 0 1 6e 0 1 64 k0 2 6e 0 "
    "2 1 0 4 6e 0 3 1 0 2 6e 4 1 6e 3 2 1 0 1 6e 0 1 64 0 1 6e 0 2 1 0 4 64 0 1 6e 2da 3 6e 3x 1"
    " 9 2o w 6e fe 1 62 0 1 6c 0 1 6g 0 1 66 0 2 68 2x 2 8 n9w 1 6e 4 a 6e w 2 6e 28 2 6e 7o 1 9"
    " 11 1 9 47 1 9 r i 6e 1l 3 64 11 1 9 2n 1 7 c 1 9 6n 1 6e 1 2 6e 0 1 64 2 2 6e 5 2 6e 1 1 6"
    "e 1g 1 9 6u 1 9 fn4 1 q ld 7 6e 0 7 64 0 2 6e r1 1 64 6a 1 64 45 5 6e 1aq 1 64 1 1 6e 14 1 "
    "6e 0 1 1 0 1 64 4 1 9 4l 1 6e 0 1 64 fx 4 6e ar 2 6e 49 2 64 0 3 6e 0 1 64 0 1 6e 0 4 64 1d"
    " 1 6e 0 1 64 0 1 6e 0 1 64 5c 1 9 15 1 9 e 1 9 1l 1 9 0 1 7 1x 3 6e 1c 2 9 1q 1 7 24 1 9 9 "
    "1 7 2y 1 9 0 1 7 4y 1 7 0 1 9 28 2 7 g 1 9 o 7 6e 3 5 6e 5p 1 9 3 1 7 n 1 6e 2r 1 9 0 1 7 6"
    "z 1 9 0 1 7 3i 1 9 3a 1 9 0 1 7 37 1 9 7h 1 9 0 1 7 76 2 9 4 1 7 4c 1 9 2b 1 9 i 1 9 29 1 9"
    " bp 1 9 76 1 7 1 2 9 29 1 9 fa0 5 1 1n 7 6e xl 2 6 f58 1 1 43q 2 60 0 3 1 3 1 6a 0 5 60 8 8"
    " 64 2 5 6e 0 2 64 u 4 6e 44 3 6e 2pn 7 6e 1 h 6e 2 7 6e 1 2 6e 1 5 6e 79 7 6e af 1 6e 1p 4 "
    "6e 15s 7 64 31 6 6e 0 1 7";

/* c is replaced by what `to` is replaced by; its class stays. */
static void replace(uint32_t *unicode, uint32_t c, uint32_t to)
{
    unicode[c] = (unicode[to] & ~15u) | (unicode[c] & 15);
}

static long number_at(const char **at) /* in base 36; steps behind it */
{
    char *end;
    const long value = strtol(*at, &end, 36);
    *at = end;
    return value;
}

static void replace_runs(uint32_t *unicode, const char *runs)
{
    long first = 0;
    for (const char *s = runs; *s;) {
        first += number_at(&s);
        const long length = number_at(&s), step = number_at(&s), distance = number_at(&s);
        for (long i = 0, c = first; i < length; i++, c += step)
            replace(unicode, (uint32_t)c, (uint32_t)(c + distance));
    }
}

static int is_dropped(const Rules *r, uint32_t c, Class class)
{
    if (r->marks == ACCENTS_DROPPED && c >= 0x300 && c < 0x370) return 1;
    if (r->marks >= NONSPACING_DROPPED && class == MARK) return 1;
    if (r->marks == MARKS_DROPPED && class == SPACING_MARK) return 1;
    if (!r->clean || c == '\t' || c == '\n' || c == '\r') return 0;
    return class == CONTROL || class == JOINER || c == 0xFFFD || c < 32 || c == 0x85;
}

/* ---- NFC --------------------------------------------------------------------------------------
 * The letter e with an acute accent is one code point, U+00E9, or two, an e and U+0301, which looks
 * the same. NFC is one spelling for both, the shorter one: everything is taken apart; marks that
 * follow each other and do not touch are put in order, by a class that each has; and what can be
 * put together is, a letter with each of its marks that no other of that class stands before. NFD
 * is the longer spelling: nothing is put together. */

struct Composition {
    uint32_t (*parts)[2]; /* (PARTED) what each consists of; {0, 0}: itself; {x, 0}: only x */
    unsigned char *order; /* (PARTED) its canonical combining class; 0: it is no mark */
    Pairs pairs;          /* of those that are put together */
    uint32_t *whole;      /* (MOST_WHOLE) what a pair makes */
};
enum { CODE_POINTS = 0x110000, PARTED = 0x30000, MOST_WHOLE = 1 << 14 };

static void composition_free(Composition *c)
{
    if (!c) return;
    free(c->parts);
    free(c->order);
    free(c->pairs.pair);
    free(c->pairs.slot);
    free(c->whole);
    free(c);
}

static int add_parts(Composition *k, uint32_t c, long first, long second, int composes)
{
    k->parts[c][0] = (uint32_t)first;
    k->parts[c][1] = (uint32_t)second;
    if (!composes) return 0;
    const int pair = pair_add(&k->pairs, (int)first, (int)second);
    if (pair >= 0) k->whole[pair] = c;
    return pair < 0;
}

static Composition *read_composition(Error *err)
{
    enum { MARKED = sizeof parts_of / sizeof *parts_of, ALIKE = sizeof same_as / sizeof *same_as };
    enum { SYLLABLES = 0xAC00, LEADS = 0x1100, VOWELS = 0x1161, TAILS = 0x11A7 }; /* of Hangul */
    enum { NUM_LEADS = 19, NUM_VOWELS = 21, NUM_TAILS = 28 };
    Composition *k = checked_alloc(1, sizeof *k, err);
    int failed = !k || !(k->parts = checked_alloc(PARTED, sizeof *k->parts, err)) ||
                 !(k->order = checked_alloc(PARTED, 1, err)) ||
                 !(k->whole = checked_alloc(MOST_WHOLE, sizeof *k->whole, err));
    for (int i = 0; i < MARKED && !failed; i++)
        for (const char *s = parts_of[i]; *s;) {
            const long second = number_at(&s);
            long count = number_at(&s), c = 0, first = 0;
            for (; count > 0; count--) {
                c += number_at(&s);
                first += number_at(&s);
                failed |= add_parts(k, (uint32_t)c, first, second, i + 1 < MARKED);
            }
        }
    for (int i = 0, c = 0; i < ALIKE && !failed; i++, c = 0)
        for (const char *s = same_as[i]; *s;) {
            long value = number_at(&s);
            c += *s == ':' ? (int)value : 1;
            if (*s == ':') s++, value = number_at(&s);
            add_parts(k, (uint32_t)c, value, 0, 0);
        }
    for (int i = 0; i < NUM_LEADS * NUM_VOWELS && !failed; i++) {
        const int c = SYLLABLES + NUM_TAILS * i;
        failed |= add_parts(k, (uint32_t)c, LEADS + i / NUM_VOWELS, VOWELS + i % NUM_VOWELS, 1);
        for (int tail = 1; tail < NUM_TAILS; tail++)
            failed |= add_parts(k, (uint32_t)(c + tail), c, TAILS + tail, 1);
    }
    long mark = 0;
    for (const char *s = failed ? "" : order_runs; *s;) {
        mark += number_at(&s);
        const long length = number_at(&s), order = number_at(&s);
        memset(k->order + mark, (int)order, (size_t)length);
        mark += length;
    }
    if (!failed) return k;
    composition_free(k);
    fail(err, "out of memory");
    return NULL;
}

/* A code point on its way: its class, its place and itself, so that sorted they are in order. */
static uint64_t pack(const Composition *k, uint32_t c, size_t place)
{
    return (uint64_t)(c < PARTED ? k->order[c] : 0) << 56 | (uint64_t)place << 24 | c;
}
static int order_of(uint64_t packed) { return (int)(packed >> 56); }
static uint32_t code_of(uint64_t packed) { return packed & 0xFFFFFF; }

static int by_order(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void take_apart(const Composition *k, uint32_t c, Buffer *codes)
{
    const uint32_t *part = c < PARTED ? k->parts[c] : (uint32_t[2]){0, 0};
    if (part[0]) take_apart(k, part[0], codes);
    if (part[1]) take_apart(k, part[1], codes);
    const uint64_t packed = pack(k, c, codes->length / sizeof packed);
    if (!part[0]) buffer_add(codes, (const char *)&packed, sizeof packed);
}

/* Puts together what can be; returns how many are left. */
static size_t put_together(const Composition *k, uint64_t *code, size_t n)
{
    size_t to = 0, letter = n; /* n: there is none yet */
    for (size_t i = 0; i < n; i++) {
        const int order = order_of(code[i]);
        int pair = NO_PAIR;
        if (letter < n && (to == letter + 1 || order_of(code[to - 1]) < order))
            pair = pair_find(&k->pairs, (int)code_of(code[letter]), (int)code_of(code[i]));
        if (pair != NO_PAIR) {
            code[letter] = pack(k, k->whole[pair], 0);
            continue;
        }
        if (!order) letter = to;
        code[to++] = code[i];
    }
    return to;
}

static void normalize(const Composition *k, int composed, const char *text, const char *end,
                      Buffer *out)
{
    Buffer codes = {0};
    for (size_t n; text < end; text += n) {
        uint32_t c;
        n = utf8_read(text, (size_t)(end - text), &c);
        if (!n) n = 1, c = CODE_POINTS + (unsigned char)*text; /* not UTF-8: it stays */
        take_apart(k, c, &codes);
    }
    uint64_t *code = (void *)codes.text;
    size_t n = codes.failed ? 0 : codes.length / sizeof *code;
    for (size_t i = 0, first = 0; i <= n; i++) { /* runs of marks */
        if (i < n && order_of(code[i])) continue;
        if (i > first + 1) qsort(code + first, i - first, sizeof *code, by_order);
        first = i + 1;
    }
    if (composed) n = put_together(k, code, n);
    for (size_t i = 0; i < n; i++) {
        const uint32_t c = code_of(code[i]);
        const char byte = (char)(c - CODE_POINTS);
        if (c < CODE_POINTS)
            utf8_add(out, c);
        else
            buffer_add(out, &byte, 1);
    }
    out->failed |= codes.failed;
    free(codes.text);
}

/* t->unicode by t->rules: per code point what it is replaced by << 4, 0 being nothing, and its own
 * class (not that of what it is replaced by). Where marks are dropped, that is what is left of a
 * letter without them. */
static int unicode_init(Tokenizer *t, Error *err)
{
    static const char initials[] = "LOUJMVNFBPSC"; /* in the order of Class */
    const Rules *r = &t->rules;
    const int normalizes = r->composed || r->decomposed;
    Composition *k = r->marks || normalizes ? read_composition(err) : NULL;
    uint32_t *u = t->unicode = checked_alloc(CODE_POINTS, sizeof *u, err), c = 0, run = 0;
    t->composition = k;
    if (!u || (!k && (r->marks || normalizes))) return -1;
    for (const char *s = class_runs; *s; s++) {
        const char *class = strchr(initials, *s);
        if (!class)
            run = 36 * run + (uint32_t)(*s <= '9' ? *s - '0' : *s - 'a' + 10);
        else
            for (run += !run; run; run--, c++) u[c] = c << 4 | (uint32_t)(class - initials);
    }
    if (r->lower) replace_runs(u, lower_runs);
    for (c = 0; c < PARTED && r->marks; c++) {
        uint32_t base = c, mark;
        if (r->marks == ACCENTS_DROPPED && class_of(t, c) == SYMBOL) continue; /* "not equal" */
        while (k->parts[base][0] &&
               (!(mark = k->parts[base][1]) || is_dropped(r, mark, class_of(t, mark))))
            base = k->parts[base][0];
        if (base != c) replace(u, c, base);
    }
    for (c = 0; c < CODE_POINTS; c++)
        if (is_dropped(r, c, class_of(t, c))) u[c] &= 15;
    if (!normalizes) composition_free(k), t->composition = NULL;
    return 0;
}

#ifdef TOKENIZER_MAIN
/* ---- the program ---------------------------------------------------------------------------- */

static int train(const char *path, const TokenizerOptions *options, const char *out, Error *err)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path,
               *dot = strrchr(base, '.');
    char name[300]; /* the default: the text's name without folder and extension */
    Tokenizer t;
    Buffer json = {0};
    Output o;
    Error inner;
    Corpus c;
    size_t lines = 0;
    snprintf(name, sizeof name, "%.*s.json",
             (int)(dot && dot > base ? (size_t)(dot - base) : strlen(base)), base);
    if (!out && is_standard_input(path))
        return fail(err, "a text from the standard input has no name: --out is needed");
    if (!out) out = name;
    const FileKind kind = file_kind(out);
    if (output_spares(out, &path, 1, err)) return -1;
    if (kind != FILE_NEW && kind != FILE_TOKENIZER)
        return fail(err, "%s: is there already and is %s; another --out is needed", out,
                    file_kind_names[kind]);
    if (corpus_read(&c, path, err)) return corpus_free(&c), -1;
    int status = tokenizer_make(&t, options, c.text, c.length, &inner);
    if (status)
        fail(err, "%s: %s", path, inner.text);
    else
        tokenizer_to_json(&t, &json);
    if (json.failed) status = fail(err, "%s: out of memory", out);
    if (!status) status = output_open(&o, out, err);
    if (!status) fwrite(json.text, 1, json.length, o.file); /* output_close notices a failure */
    if (!status) status = output_close(&o, 1, err);
    for (size_t i = 0; i < c.length; i++) lines += c.text[i] == '\n' || i + 1 == c.length;
    if (!status)
        fprintf(stderr, "tokenizer: wrote %s: vocabulary %d, %zu lines\n", out, t.size, lines);
    tokenizer_free(&t);
    free(json.text);
    corpus_free(&c);
    return status;
}

/* The ids that a line spells out; their number, or -1. */
static long read_ids(const Tokenizer *t, const Buffer *line, int *ids, Error *err)
{
    static const char blanks[] = " \t\r";
    long n = 0;
    for (char *word = line->text, *end;
         word += strspn(word, blanks), word < line->text + line->length; word = end) {
        long id = strtol(word, &end, 10);
        if (end == word || !strchr(blanks, *end) || id < 0 || id >= t->size)
            return fail(err, "'%.*s' is not an id from 0 to %d", (int)strcspn(word, blanks), word,
                        t->size - 1);
        ids[n++] = (int)id;
    }
    return n;
}

/* A tokenizer from a checkpoint, or from what tokenizer_read reads. */
static int load(Tokenizer *t, const char *path, Error *err)
{
    Checkpoint c;
    Config config;
    Error inner;
    int steps_done;
    memset(t, 0, sizeof *t);
    if (checkpoint_open(&c, path, &inner)) {
        checkpoint_close(&c);
        return tokenizer_read(t, path, err);
    }
    const int status = checkpoint_config(&c, &config, t, &steps_done, err);
    checkpoint_close(&c);
    if (status) tokenizer_free(t);
    return status;
}

/* The lines of the standard input, of any length, to the standard output. */
static int convert(const char *path, int decode, int max_len, Error *err)
{
    Tokenizer t;
    Buffer line = {0}, out = {0};
    Error inner;
    size_t number = 1;
    int c = 0, status = load(&t, path, err);
    for (; !status && c != EOF && !ferror(stdout); number++) {
        line.length = out.length = 0;
        for (buffer_add(&line, "", 0); (c = getc(stdin)) != EOF && c != '\n' && !line.failed;)
            buffer_add(&line, (char[]){(char)c}, 1);
        if (c == EOF && line.length == 0) break;
        size_t most = line.length + 2; /* a token takes a byte at least, and so does an id */
        int *ids = line.failed || most > INT_MAX ? NULL : malloc(most * sizeof *ids);
        fail(&inner, "out of memory");
        long n = !ids || (!decode && tokenizer_accepts(&t, line.text, line.length, &inner)) ? -1
                 : decode ? read_ids(&t, &line, ids, &inner)
                          : tokenizer_encode(&t, line.text, line.length, ids,
                                             most < (size_t)max_len ? (long)most : max_len);
        if (!decode && n > max_len) n = max_len;
        if (decode && n >= 0) tokenizer_decode(&t, ids, (int)n, 0, &out);
        for (long i = 0; !decode && i < n; i++) buffer_print(&out, i ? " %d" : "%d", ids[i]);
        free(ids);
        buffer_add(&out, "\n", 1);
        if (n < 0 || out.failed)
            status = fail(err, "line %zu: %s", number, inner.text);
        else
            fwrite(out.text, 1, out.length, stdout);
    }
    if (!status && ferror(stdin))
        status = fail(err, "cannot read the standard input: %s", strerror(errno));
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(err, "cannot write the standard output");
    tokenizer_free(&t);
    free(line.text);
    free(out.text);
    return status;
}

static void show_token(const Tokenizer *t, int id, Buffer *out)
{
    buffer_print(out, "%8d  ", id);
    buffer_json_string(out, t->token[id], strlen(t->token[id]));
    buffer_print(out, "\n");
}

static int show(const char *path, Error *err)
{
    enum { FEW = 10 };
    Tokenizer t;
    Buffer out = {0};
    if (load(&t, path, err)) return -1;
    buffer_print(&out, "kind:     ");
    tokenizer_describe(&t, &out);
    buffer_print(&out, "\nsize:     %d tokens", t.size);
    if (t.merges.count) buffer_print(&out, ", %d merges", t.merges.count);
    buffer_print(&out, "\nspecial:  ");
    for (int role = 0; role < TOKEN_SPECIALS; role++)
        buffer_print(&out, "%s%s = %d", role ? ", " : "", t.token[t.special[role]],
                     t.special[role]);
    for (int k = 0; k < t.num_added; k++)
        if (!tokenizer_is_special(&t, t.added[k].id))
            buffer_print(&out, ", %s = %d", t.added[k].name, t.added[k].id);
    buffer_print(&out, "\nfirst and last tokens, in a vocabulary made here the most frequent and "
                       "the rarest:\n");
    for (int id = 0; id < t.size; id++) {
        if (id == FEW && t.size > 2 * FEW) {
            buffer_print(&out, "     ...\n");
            id = t.size - FEW;
        }
        show_token(&t, id, &out);
    }
    if (!out.failed) fwrite(out.text, 1, out.length, stdout);
    free(out.text);
    tokenizer_free(&t);
    if (out.failed) return fail(err, "out of memory");
    return fflush(stdout) || ferror(stdout) ? fail(err, "cannot write the standard output") : 0;
}

int main(int argc, char **argv)
{
    begin_program();
    static const char *const commands[] = {"encode",     "decode",           "show",
                                           "train-word", "train-original",   "train-bpe",
                                           "train-char", "train-word-level", "train-byte-level",
                                           NULL};
    enum { ENCODE, DECODE, SHOW, TRAIN };
    TokenizerOptions o = {.vocab_size = 10000, .min_frequency = 1};
    int max_len = INT_MAX, help = 0, version = 0, command = 0;
    const char *out = NULL, *operand[2] = {"", ""};
    Error err;
    Option table[] = {
        {"vocab-size", OPT_INT, &o.vocab_size, .everyday = 1, .min = 6, .max = 1000000,
         .help = "train: tokens at most, all in all", .deflt = "10000"},
        {"min-frequency", OPT_INT, &o.min_frequency, .everyday = 1, .min = 1, .max = 1000000,
         .help = "train: rarer words are [UNK], rarer pairs are not merged", .deflt = "1"},
        {"keep-case", OPT_FLAG, &o.keep_case, .everyday = 1,
         .help = "train-word: capital letters stay as they are"},
        {"keep-accents", OPT_FLAG, &o.keep_accents, .everyday = 1,
         .help = "train-word: accents stay as they are"},
        {"out", OPT_TEXT, &out, .what = "FILE", .everyday = 1, .help = "train: the file to write",
         .deflt = "FILE's name with .json, here"},
        {"max-len", OPT_INT, &max_len, .everyday = 1, .min = 2, .max = INT_MAX,
         .help = "encode: ids of a line at most, [CLS] and [SEP] among them", .deflt = "none"},
        {"help", OPT_FLAG, &help, .everyday = 1, .help = "print this and exit"},
        {"version", OPT_FLAG, &version, .everyday = 1, .help = "print the version"},
        {.name = NULL}};
    int status = options_parse(table, argc, argv, operand, 2, &err);
    if (status >= 0 && version) return print_version(stdout);
    if (status >= 0 && help) {
        puts("tokenizer train-KIND FILE   make a vocabulary from a text (-: the standard\n"
             "                            input); KIND is word, original, bpe or char\n"
             "tokenizer encode T          lines of text to lines of ids, standard input to\n"
             "                            standard output\n"
             "tokenizer decode T          lines of ids to lines of text\n"
             "tokenizer show T            what it is: kind, size, first and last tokens\n"
             "T is a tokenizer.json, a checkpoint, BERT's vocab.txt, or a folder with GPT-2's\n"
             "vocab.json and merges.txt. (The original's word-level and byte-level are\n"
             "original and bpe.)\n");
        options_help(table, 1, stdout);
        return fflush(stdout) || ferror(stdout);
    }
    while (commands[command] && strcmp(commands[command], operand[0])) command++;
    const int training = command >= TRAIN && commands[command];
    const int for_training =
        table[0].given + table[1].given + table[2].given + table[3].given + table[4].given;
    if (status >= 0 && (status < 2 || !commands[command]))
        status = fail(&err, "expected train-KIND, encode, decode or show, and a file; see --help");
    else if (status >= 0 && !training && for_training)
        status = fail(&err, "--vocab-size, --min-frequency, --keep-case, --keep-accents and --out "
                            "belong to train-KIND");
    else if (status >= 0 && command != ENCODE && option_given(table, &max_len))
        status = fail(&err, "--max-len belongs to encode");
    int usage = status < 0;
    if (!usage) {
        if (training) o.tokenizer = operand[0] + strlen("train-");
        status = training          ? train(operand[1], &o, out, &err)
                 : command == SHOW ? show(operand[1], &err)
                                   : convert(operand[1], command == DECODE, max_len, &err);
    }
    if (status < 0) fprintf(stderr, "tokenizer: %s\n", err.text);
    return status < 0 ? 1 + usage : 0;
}
#endif
