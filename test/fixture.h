/* fixture.h - reads the files of numbers in test/golden; their FORMAT.md describes them. */
#ifndef FIXTURE_H
#define FIXTURE_H

typedef struct {
    char name[96], kind[8];
    int rank;
    long dim[6], n;
    double *v;
} Item; /* v: (n), row-major */
typedef struct {
    char path[512];
    Item *item;
    int count;
} Fixture;

int fixture_load(Fixture *f, const char *dir,
                 const char *file); /* 1 ok, 0 no such file, -1 bad (message on stderr) */
const Item *fixture_find(const Fixture *f, const char *format, ...); /* NULL: absent */
void fixture_free(Fixture *f);

#endif
