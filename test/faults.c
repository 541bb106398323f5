/* faults.c - lets every call of a program's run fail that can, one after the other, first alone and
 * then with all that follow.
 *
 *   usage: PROGRAM FOLDER RUN RESULT [file...] -- [argument of the program...]
 *
 * For each run the files of FOLDER are copied into RUN; its standard input is RUN/stdin, its
 * outputs go to RUN/stdout and RUN/stderr. A run of which a call fails either makes the same RESULT
 * as one without or has a message, an exit code of 1 or 2, and a RESULT that is the new one or, if
 * files are listed, one of these. It leaves nothing allocated, nothing open and no *.tmp. */
#define FAULTS_C
#include "faults.h"
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>

static long calls, held; /* of this run: calls so far; what is allocated or open */
static long fail_at;     /* this call fails, counted from 1; 0: none */
static int fail_on;      /* and all behind it */
static FILE *broken[8];  /* streams whose error flag is set */

/* Must this call fail? */
static int fails(int reason)
{
    calls++;
    if (!fail_at || calls < fail_at || (calls > fail_at && !fail_on)) return 0;
    errno = reason;
    return 1;
}

static int is_broken(FILE *f, FILE *becomes)
{
    for (int i = 0; i < 8; i++)
        if (broken[i] == f) {
            broken[i] = becomes;
            return 1;
        }
    return 0;
}

static int breaks(FILE *f, int reason)
{
    if (!fails(reason)) return 0;
    if (!is_broken(f, f)) is_broken(NULL, f);
    return 1;
}

static void *hold(void *p)
{
    held += p != NULL;
    return p;
}

void *fault_malloc(size_t n) { return fails(ENOMEM) ? NULL : hold(malloc(n)); }
void *fault_calloc(size_t count, size_t n) { return fails(ENOMEM) ? NULL : hold(calloc(count, n)); }
void *fault_realloc(void *p, size_t n)
{
    if (fails(ENOMEM)) return NULL;
    held -= p != NULL;
    return hold(realloc(p, n));
}
void fault_free(void *p)
{
    held -= p != NULL;
    free(p);
}
FILE *fault_fopen(const char *path, const char *mode)
{
    return fails(EIO) ? NULL : hold(fopen(path, mode));
}
FILE *fault_fdopen(int fd, const char *mode)
{
    return fails(ENOMEM) ? NULL : hold(fdopen(fd, mode));
}
int fault_open(const char *path, int flags, int mode)
{
    return fails(EIO) ? -1 : open(path, flags, mode);
}
size_t fault_fread(void *p, size_t size, size_t n, FILE *f)
{
    return breaks(f, EIO) ? 0 : fread(p, size, n, f);
}
size_t fault_fwrite(const void *p, size_t size, size_t n, FILE *f)
{
    return breaks(f, ENOSPC) ? 0 : fwrite(p, size, n, f);
}
int fault_fflush(FILE *f) { return breaks(f, ENOSPC) ? EOF : fflush(f); }
int fault_fseek(FILE *f, long to, int whence) { return fails(EIO) ? -1 : fseek(f, to, whence); }
long fault_ftell(FILE *f) { return fails(EIO) ? -1 : ftell(f); }
int fault_fseeko(FILE *f, off_t to, int whence) { return fails(EIO) ? -1 : fseeko(f, to, whence); }
off_t fault_ftello(FILE *f) { return fails(EIO) ? -1 : ftello(f); }
int fault_ferror(FILE *f) { return is_broken(f, f) || ferror(f); }
void fault_clearerr(FILE *f)
{
    is_broken(f, NULL);
    clearerr(f);
}
int fault_fclose(FILE *f)
{
    const int failed = fails(EIO);
    is_broken(f, NULL);
    held--;
    return fclose(f) || failed ? EOF : 0;
}
int fault_fsync(int fd)
{
    (void)fd;
    return fails(EIO) ? -1 : 0;
}
int fault_ftruncate(int fd, off_t n) { return fails(EIO) ? -1 : ftruncate(fd, n); }
int fault_rename(const char *from, const char *to) { return fails(EIO) ? -1 : rename(from, to); }

/* ---- the runs ------------------------------------------------------------------------------- */

typedef struct {
    char *text;
    size_t length;
} Bytes;

static char run[500]; /* the folder */

static const char *path_in(const char *folder, const char *name)
{
    static char path[2][1000];
    static int k;
    snprintf(path[k = !k], sizeof path[k], "%s/%s", folder, name);
    return path[k];
}

/* The file's bytes; of a file that there is not, none. */
static Bytes bytes_of(const char *path)
{
    Bytes b = {calloc(1, 1 << 20), 0};
    FILE *f = fopen(path, "rb");
    if (f) b.length = fread(b.text, 1, (1 << 20) - 1, f);
    if (f) fclose(f);
    return b;
}

static int same_bytes(Bytes a, const char *path)
{
    Bytes b = bytes_of(path);
    const int same = a.length == b.length && !memcmp(a.text, b.text, a.length);
    free(b.text);
    return same;
}

/* Calls use(name) for every file of the folder. */
static void for_files(const char *folder, void (*use)(const char *folder, const char *name))
{
    DIR *d = opendir(folder);
    struct dirent *entry;
    while (d && (entry = readdir(d)))
        if (entry->d_name[0] != '.') use(folder, entry->d_name);
    if (d) closedir(d);
}

static void delete (const char *folder, const char *name) { remove(path_in(folder, name)); }

static void copy_to_run(const char *folder, const char *name)
{
    Bytes b = bytes_of(path_in(folder, name));
    FILE *f = fopen(path_in(run, name), "wb");
    if (f) fwrite(b.text, 1, b.length, f);
    if (f) fclose(f);
    free(b.text);
}

static int temporary; /* files */
static void count_temporary(const char *folder, const char *name)
{
    (void)folder;
    if (strstr(name, ".tmp")) temporary++;
}

/* A run of the program in a process of its own; its exit code, or -1 for a signal. Then calls and
 * held are those of the run. */
static int run_once(const char *folder, int argc, char **argv)
{
    int status = 0, channel[2];
    long counts[2] = {0, 0};
    for_files(run, delete);
    for_files(folder, copy_to_run);
    calls = held = 0;
    fflush(stdout); /* or the child has it, too */
    if (pipe(channel)) exit(3);
    const pid_t child = fork();
    if (!child) {
        freopen(path_in(run, "stdout"), "wb", stdout);
        freopen(path_in(run, "stderr"), "wb", stderr);
        freopen(path_in(run, "stdin"), "rb", stdin);
        const int code = fault_main(argc, argv);
        counts[0] = calls;
        counts[1] = held;
        exit(write(channel[1], counts, sizeof counts) == sizeof counts ? code : 3);
    }
    close(channel[1]);
    if (read(channel[0], counts, sizeof counts) < 0) counts[0] = 0;
    calls = counts[0];
    held = counts[1];
    close(channel[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(int argc, char **argv)
{
    const char *folder = argv[1], *result = argv[3];
    int first = 4, passed = 0, failed = 0;
    char what[100];
    while (first < argc && strcmp(argv[first], "--")) first++;
    if (argc < 5 || first >= argc) return 2;
    snprintf(run, sizeof run, "%s", argv[2]);
    int code = run_once(folder, argc - first, argv + first);
    const long all = calls;
    const Bytes expected = bytes_of(result);
    if (code || held || !all) {
        printf("FAIL without a fault: exit code %d, %ld allocated or open\n", code, held);
        failed++;
    }
    for (fail_on = 0; fail_on < 2; fail_on++)
        for (fail_at = 1; fail_at <= all; fail_at++) {
            code = run_once(folder, argc - first, argv + first);
            int known = same_bytes(expected, result) || (code && first == 4);
            Bytes message = bytes_of(path_in(run, "stderr"));
            for (int i = 4; code && i < first && !known; i++) {
                Bytes file = bytes_of(argv[i]);
                known = same_bytes(file, result);
                free(file.text);
            }
            temporary = 0;
            for_files(run, count_temporary);
            if (code < 0 || code > 2)
                snprintf(what, sizeof what, "exit code %d", code);
            else if (held)
                snprintf(what, sizeof what, "%ld allocated or open", held);
            else if (!known)
                snprintf(what, sizeof what, "exit code %d, another result", code);
            else if (code && !strchr(message.text, ':'))
                strcpy(what, "no message");
            else if (temporary)
                strcpy(what, "a temporary file is left");
            else
                *what = '\0';
            free(message.text);
            if (!*what)
                passed++;
            else if (++failed < 20)
                printf("FAIL call %ld of %ld fails%s: %s\n", fail_at, all,
                       fail_on ? ", and all behind it" : "", what);
        }
    free(expected.text);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
