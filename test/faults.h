/* faults.h - read before every source of a build for test/faults.sh (cc -include test/faults.h):
 * the calls that can fail go through faults.c, which lets one of them fail, and whose main calls
 * the program's. */
#ifndef FAULTS_H
#define FAULTS_H
#define _POSIX_C_SOURCE 200809L /* as in the sources */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int fault_main(int argc, char **argv);
void *fault_malloc(size_t n);
void *fault_calloc(size_t count, size_t n);
void *fault_realloc(void *p, size_t n);
void fault_free(void *p);
FILE *fault_fopen(const char *path, const char *mode);
FILE *fault_fdopen(int fd, const char *mode);
int fault_open(const char *path, int flags, int mode);
size_t fault_fread(void *p, size_t size, size_t n, FILE *f);
size_t fault_fwrite(const void *p, size_t size, size_t n, FILE *f);
int fault_fflush(FILE *f);
int fault_fseek(FILE *f, long to, int whence);
long fault_ftell(FILE *f);
int fault_fseeko(FILE *f, off_t to, int whence);
off_t fault_ftello(FILE *f);
int fault_ferror(FILE *f);
void fault_clearerr(FILE *f);
int fault_fclose(FILE *f);
int fault_fsync(int fd);
int fault_ftruncate(int fd, off_t n);
int fault_rename(const char *from, const char *to);

#ifndef FAULTS_C
#define main fault_main
#define malloc(n) fault_malloc(n)
#define calloc(count, n) fault_calloc(count, n)
#define realloc(p, n) fault_realloc(p, n)
#define free(p) fault_free(p)
#define fopen(path, mode) fault_fopen(path, mode)
#define fdopen(fd, mode) fault_fdopen(fd, mode)
#define FAULT_MODE(path, flags, mode, ...) fault_open(path, flags, mode)
#define open(...) FAULT_MODE(__VA_ARGS__, 0, 0)
#define fread(p, size, n, f) fault_fread(p, size, n, f)
#define fwrite(p, size, n, f) fault_fwrite(p, size, n, f)
#define fflush(f) fault_fflush(f)
#define fseek(f, to, whence) fault_fseek(f, to, whence)
#define ftell(f) fault_ftell(f)
#define fseeko(f, to, whence) fault_fseeko(f, to, whence)
#define ftello(f) fault_ftello(f)
#undef ferror
#define ferror(f) fault_ferror(f)
#undef clearerr
#define clearerr(f) fault_clearerr(f)
#define fclose(f) fault_fclose(f)
#define fsync(fd) fault_fsync(fd)
#define ftruncate(fd, n) fault_ftruncate(fd, n)
#define rename(from, to) fault_rename(from, to)
#endif
#endif
