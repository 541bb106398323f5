# check.sh - called by "make check": no warning from gcc, clang, cppcheck or clang-tidy, the layout of .clang-format, and
# the tests under AddressSanitizer and UBSan; ThreadSanitizer.
status=0
sources="tdiff.c tokenizer.c train.c sample.c data/simple.c test/unit.c test/parity.c test/parity_text.c test/fixture.c test/fuzz.c test/judge.c test/evaluate.c test/bench.c test/peek.c test/replay.c test/faults.c test/text.c test/hostile.c test/draw.c"
mkdir -p build
for compiler in gcc clang; do
    if ! command -v $compiler >/dev/null 2>&1; then echo "warnings of $compiler: skipped, not installed"; continue; fi
    for variant in "" "-DTDIFF_DOUBLE" "-DTOKENIZER_MAIN"; do
        $compiler $WARNINGS -Werror -O2 $variant -I. -Itest -fsyntax-only $sources || status=1
    done
    [ $status -eq 0 ] && echo "warnings of $compiler: none ($WARNINGS)"
done
if ! command -v clang-format >/dev/null 2>&1; then echo "layout: skipped, there is no clang-format"
elif clang-format --dry-run -Werror *.h *.c test/*.h test/*.c data/simple.c; then echo "layout: that of .clang-format"
else status=1; fi
# cppcheck takes an output parameter for an uninitialised argument: ctuuninitvar
if ! command -v cppcheck >/dev/null 2>&1; then echo "cppcheck: skipped, not installed"
elif cppcheck -q --enable=warning,performance,portability --std=c99 --suppress=missingIncludeSystem --suppress=toomanyconfigs \
    --suppress=ctuuninitvar --error-exitcode=1 -I. tdiff.c tokenizer.c train.c sample.c; then echo "cppcheck: no finding"
else status=1; fi
# clang-tidy: without what it says of sound code here
tidy="clang-analyzer-*,bugprone-*,performance-*,portability-*"
# tables of arrays give NULL when they only count; a va_list is lost between two files; a string was measured before strcpy
tidy=$tidy,-clang-analyzer-core.NullDereference,-clang-analyzer-core.NonNullParamChecker
tidy=$tidy,-clang-analyzer-valist.Uninitialized,-clang-analyzer-security.insecureAPI.strcpy
# int times int beside a pointer: no more than 65,536 sentences of 4,096 positions, 2^28; an int as a float is meant, and
# so are (size_t)-1 / 4, !strcmp(), _POSIX_C_SOURCE, and functions of several ints
tidy=$tidy,-bugprone-implicit-widening-of-multiplication-result,-bugprone-narrowing-conversions,-bugprone-integer-division
tidy=$tidy,-bugprone-suspicious-string-compare,-bugprone-reserved-identifier,-bugprone-easily-swappable-parameters
if ! command -v clang-tidy >/dev/null 2>&1; then echo "clang-tidy: skipped, not installed"
elif clang-tidy --quiet --checks="-*,$tidy" --warnings-as-errors='*' tdiff.c tokenizer.c train.c sample.c -- -std=c99 \
    -Wno-unknown-pragmas >build/tidy.txt 2>&1; then echo "clang-tidy: no finding"
else status=1; grep -A2 'error:' build/tidy.txt; fi
# ThreadSanitizer; LLVM's Archer tells it what OpenMP's barriers order, without which it would not know
threads() { # PROGRAM and arguments
    program=build/tsan-$1
    shift
    ARCHER_OPTIONS=verbose=1 TSAN_OPTIONS=ignore_noninstrumented_modules=1 $program "$@" --threads 3 >build/tsan.txt 2>&1
}
for program in train sample; do
    clang -std=c99 -g -O1 -ffp-contract=off -fopenmp -fsanitize=thread -o build/tsan-$program $program.c tdiff.c tokenizer.c \
        -lm 2>/dev/null || rm -f build/tsan-$program
done
tiny="--hidden 16 --layers 2 --heads 2 --ffn 24 --emb-dim 8 --time-dim 8 --batch 8 --diffusion-steps 50 --warmup 1 --steps 3"
model=build/tsan.safetensors classifier=build/tsan-classifier.safetensors
threads train $tiny --out $model --overwrite --recipe best --dropout 0.1 --schedule-sampler loss-second-moment --microbatch 3 \
    --val data/simple-test.txt data/simple-train.txt
races=$?
if ! grep -q "Archer detected" build/tsan.txt; then echo "ThreadSanitizer: skipped, no clang with OpenMP and Archer"
elif [ $races -eq 0 ] &&
    threads train --classifier data/simple-labeled.tsv --denoiser $model --steps 2 --batch 8 --overwrite --out $classifier &&
    threads sample $model -n 40 --steps 3 --guide $classifier --label 1 --clamp-from 20 --top-p 1 &&
    threads sample $model --eval data/greetings-test.txt --eval-steps 3 &&
    threads train $tiny --recipe original --pad on --overwrite --out $model data/greetings-train.txt &&
    threads sample $model --eval data/greetings-test.txt --eval-steps 3; then echo "ThreadSanitizer: no race"
else status=1; grep -A8 'WARNING: Thread' build/tsan.txt || tail -n 3 build/tsan.txt; fi
flags="-std=c99 -g -O2 -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all"
if ! $CC $flags -o build/probe build/probe.c >/dev/null 2>&1; then
    echo "sanitizers: skipped, $CC cannot link them"
    exit $status
fi
run() { # NAME, sources and flags; then -- and the arguments
    name=build/asan-$1
    shift
    build=
    while [ $# -gt 0 ] && [ "$1" != -- ]; do build="$build $1"; shift; done
    shift
    $CC $flags -I. -Itest $build tdiff.c tokenizer.c -lm -o $name && $name "$@" >build/asan.txt 2>&1 ||
        { status=1; tail -n 20 build/asan.txt; }
    echo "sanitized $name: $(tail -n 1 build/asan.txt)"
}
run double-unit test/unit.c -DTDIFF_DOUBLE --
run unit test/unit.c --
mkdir -p build/text-files
run text test/text.c -- build/text-files
run parity test/parity.c test/parity_text.c test/fixture.c -- test/golden
run fuzz test/fuzz.c -- build/fuzz.safetensors
# The programs, as the command-line tests use them
copy=build/sanitized
rm -rf $copy && mkdir -p $copy && cp -r Makefile *.c *.h data test $copy/ &&
    (cd $copy && make CC="$CC" CFLAGS="$flags" all build/evaluate build/peek build/simple draw >build.txt 2>&1 && SANITIZED=1 sh test/cli.sh &&
        SANITIZED=1 sh test/safety.sh && sh test/draw.sh) >build/asan.txt 2>&1 ||
    { status=1; tail -n 20 build/asan.txt; }
echo "sanitized programs: $(tail -n 1 build/asan.txt)"
rm -rf $copy
[ $status -eq 0 ] && echo "all clean"
exit $status
