# make            ./train ./sample ./tokenizer          make demo     train on data/simple-train.txt, or go on, then sample
# make test [ONLY='units*']   all tests, or those parts  make check    warnings on gcc and clang, tests under sanitizers
# make parity DIR=path   the numbers of the original    make data     generate data/simple-* anew
# make evaluate   build/evaluate, the judge of samples: ./sample ... | build/evaluate TRAIN_FILE
# make draw       build/draw, pictures of a run as SVG: denoising, losses, words, the noise schedule
# make bench [BLAS=-lopenblas]   speed, beside OpenBLAS and PyTorch where they are; with MPI=1: what communication takes
# make control CKPT=a.safetensors TRAIN=a.txt WORDS=b.txt   guidance towards sentences with one of these words, by scale
# make page       build/tdiff.html, one page to train and watch it in a browser     make page-test   the page in a real one
# make portability   the programs by other compilers and on other machines, which emulators run: the same bytes?
# make faults     every allocation, read and write of small runs fails once; 50 SIGKILLs
# make fuzz [SECONDS=60]   hostile checkpoints, tokenizers, texts and command lines, each for so long
# make golden     take the bytes that the programs make today as those that make test expects
# make mutants [ONLY=name]   is every fault of test/mutants.txt noticed by the test that is there for it?
# make sweep CKPT=a.safetensors TRAIN=a.txt   quality and seconds for 5 to 1000 sampling steps
#
# make install [PREFIX=/usr/local]   tdiff-train, tdiff-sample, tdiff-tokenizer in PREFIX/bin
# V=1: whole commands. DEMO="--steps 8000": options of make demo's ./train. MPI=1: with mpicc, for mpirun -n N ./train. NATIVE=0: no -march=native. OMP=0: no threads. CC and CFLAGS (default -O3) are honoured. GNU make and a C compiler suffice.

CFLAGS ?= -O3
NATIVE = 1
OMP = 1
DIR = test/golden
CKPT = simple.safetensors
TRAIN = data/simple-train.txt
SECONDS = 60
N = 1000
WARNINGS = -std=c99 -pedantic -Wall -Wextra -Wshadow -Wno-unknown-pragmas

# $(call try,FLAGS): FLAGS if the compiler takes them, without a warning, and what it makes links
PROBE := $(shell mkdir -p build && printf 'int main(void) { return 0; }\n' > build/probe.c)
try = $(shell $(CC) -Werror $(1) -o build/probe build/probe.c >/dev/null 2>&1 && echo '$(1)')

# No contraction and no reordering, ever: one seed, one result. (s390x would compute floats as doubles without the second
# flag.) The last two change no value: nobody reads errno or floating-point exceptions here, and only without them do square
# roots and comparisons vectorise.
EXACT := -std=c99 $(foreach f,-ffp-contract=off -fexcess-precision=fast -fno-trapping-math -fno-math-errno,$(call try,$f))
ifeq ($(NATIVE),1)
  MARCH := $(call try,-march=native)
  # For many a processor with AVX-512 compilers choose vectors of 256 bits, of which matmul's tile needs too many: half the speed.
  MARCH += $(if $(MARCH),$(call try,-mprefer-vector-width=512))
endif
ifeq ($(OMP),1)
  THREADS := $(call try,-fopenmp)
  # Apple's clang with Homebrew's libomp
  BREW := $(firstword $(wildcard /opt/homebrew/opt/libomp /usr/local/opt/libomp))
  ifeq ($(THREADS),)
    THREADS := $(if $(BREW),$(call try,-Xclang -fopenmp -I$(BREW)/include -L$(BREW)/lib -lomp))
  endif
endif
ifeq ($(MPI),1)
  CC = mpicc
  RANKS = -DTDIFF_MPI
endif
# A line of the build says what is made; with V=1 it is the whole command.
cc = $(if $(V),,@echo '$(firstword $(CC)) $@'; )$(CC)
FLAGS = $(EXACT) $(CFLAGS) $(MARCH) $(THREADS) $(RANKS)

all: train sample tokenizer
	@echo "compiler: $(CC)   native: $(if $(strip $(MARCH)),yes ($(strip $(MARCH))),no)   threads: $(if $(THREADS),yes (OpenMP),no)"

# The flags of the last build: objects made with others are made anew.
build/flags: FORCE
	@mkdir -p build
	@echo '$(CC) $(FLAGS)' | cmp -s - $@ || echo '$(CC) $(FLAGS)' > $@
FORCE:

build/%.o: %.c tdiff.h build/flags
	$(cc) $(FLAGS) $(LDFLAGS) -c -o $@ $<
build/tokenizer-main.o: tokenizer.c tdiff.h build/flags
	$(cc) $(FLAGS) -DTOKENIZER_MAIN -c -o $@ $<
build/double-%.o: %.c tdiff.h build/flags
	$(cc) $(FLAGS) -DTDIFF_DOUBLE -c -o $@ $<

LIBRARY = build/tdiff.o build/tokenizer.o
train: build/train.o $(LIBRARY)
	$(cc) $(FLAGS) $(LDFLAGS) -o $@ $^ -lm
sample: build/sample.o $(LIBRARY)
	$(cc) $(FLAGS) $(LDFLAGS) -o $@ $^ -lm
tokenizer: build/tokenizer-main.o build/tdiff.o
	$(cc) $(FLAGS) $(LDFLAGS) -o $@ $^ -lm

demo: all
	./train $(if $(wildcard simple.safetensors),--resume simple.safetensors) $(DEMO) && ./sample

# The programs under names that say whose they are
PREFIX = /usr/local
install: all
	mkdir -p '$(DESTDIR)$(PREFIX)/bin'
	for p in train sample tokenizer; do cp $$p '$(DESTDIR)$(PREFIX)/bin/tdiff-'$$p || exit 1; done

data: build/simple
	build/simple data
build/simple: data/simple.c build/flags
	$(cc) $(FLAGS) -o $@ $<

# Tests: the same objects as the programs, and the same sources in double precision.
TESTS = unit text fuzz judge evaluate peek replay draw
PARITY_SOURCES = test/parity.c test/parity_text.c test/fixture.c
build/parity: $(PARITY_SOURCES) test/fixture.h tdiff.h $(LIBRARY)
	$(cc) $(FLAGS) $(LDFLAGS) -I. -Itest -o $@ $(PARITY_SOURCES) $(LIBRARY) -lm
build/double-parity: $(PARITY_SOURCES) test/fixture.h tdiff.h $(LIBRARY:build/%=build/double-%)
	$(cc) $(FLAGS) $(LDFLAGS) -DTDIFF_DOUBLE -I. -Itest -o $@ $(PARITY_SOURCES) $(LIBRARY:build/%=build/double-%) -lm
build/double-unit build/double-peek: build/double-%: test/%.c tdiff.h $(LIBRARY:build/%=build/double-%)
	$(cc) $(FLAGS) $(LDFLAGS) -DTDIFF_DOUBLE -I. -o $@ $< $(LIBRARY:build/%=build/double-%) -lm
$(TESTS:%=build/%): build/%: test/%.c tdiff.h $(LIBRARY)
	$(cc) $(FLAGS) $(LDFLAGS) -I. -o $@ $< $(LIBRARY) -lm

# Compiled as by the README's line with nothing but cc: for the golden bytes of machines without FMA.
PLAIN = -std=c99 -O2 $(call try,-ffp-contract=off)
PLAIN_PROGRAMS = $(addprefix build/plain/,train sample peek)
build/plain/%.o: %.c tdiff.h build/flags
	@mkdir -p $(@D)
	$(cc) $(PLAIN) -c -o $@ $<
build/plain/peek.o: test/peek.c tdiff.h build/flags
	@mkdir -p $(@D)
	$(cc) $(PLAIN) -I. -c -o $@ $<
$(PLAIN_PROGRAMS): %: %.o $(LIBRARY:build/%=build/plain/%)
	$(cc) $(PLAIN) -o $@ $^ -lm
plain: $(PLAIN_PROGRAMS)

evaluate: build/evaluate
draw: build/draw

page: all build/simple
	@sh test/page.sh
page-test: all build/simple build/draw plain
	@sh test/page.sh --test

golden: all build/peek build/evaluate plain
	@sh test/golden.sh --update

fuzz: all
	@CC='$(CC)' sh test/hostile.sh $(SECONDS)

portability:
	@CC='$(CC)' sh test/portability.sh

faults: all plain
	@CC='$(CC)' sh test/faults.sh

mutants:
	@MAKE='$(MAKE)' CC='$(CC)' sh test/mutants.sh '$(ONLY)'

sweep: sample build/evaluate build/judge build/simple
	@sh test/sweep.sh '$(CKPT)' '$(TRAIN)' '$(N)'

control: WORDS = test/words/colours.txt
control: train sample build/evaluate build/judge build/simple
	@sh test/control.sh '$(CKPT)' '$(TRAIN)' '$(WORDS)' '$(N)'

# Compiled anew each time: BLAS may have changed.
build/bench: test/bench.c tdiff.c tdiff.h build/tokenizer.o FORCE
	$(cc) $(FLAGS) $(LDFLAGS) $(if $(BLAS),-DBLAS) -I. -o $@ test/bench.c build/tokenizer.o -lm $(BLAS)
bench: build/bench
	@sh test/bench.sh

parity: build/parity build/double-parity
	@echo "in double precision:"; build/double-parity $(DIR); double=$$?; \
	 echo "in single precision:"; build/parity $(DIR) && exit $$double

test: all $(TESTS:%=build/%) build/double-unit build/double-peek build/parity build/double-parity build/simple plain
	@CC='$(CC)' sh test/run.sh '$(ONLY)'

check:
	@CC='$(CC)' WARNINGS='$(WARNINGS)' sh test/check.sh

clean:
	rm -rf build train sample tokenizer

.PHONY: all demo install data evaluate draw page page-test plain golden faults mutants control sweep bench parity test check clean FORCE
