# check.sh - called by "make check": no warning from gcc, clang or cppcheck, the layout of .clang-format, and the tests under
# AddressSanitizer and UBSan.
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
elif cppcheck -q --enable=warning,performance,portability --std=c99 --suppress=missingIncludeSystem \
    --suppress=ctuuninitvar --error-exitcode=1 -I. tdiff.c tokenizer.c train.c sample.c; then echo "cppcheck: no finding"
else status=1; fi
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
    (cd $copy && make CC="$CC" CFLAGS="$flags" all build/evaluate build/peek draw >build.txt 2>&1 && SANITIZED=1 sh test/cli.sh &&
        sh test/safety.sh && sh test/draw.sh) >build/asan.txt 2>&1 ||
    { status=1; tail -n 20 build/asan.txt; }
echo "sanitized programs: $(tail -n 1 build/asan.txt)"
rm -rf $copy
[ $status -eq 0 ] && echo "all clean"
exit $status
