# run.sh [ONLY] - all tests, called by "make test" in the project's folder; with ONLY, a pattern of the shell, those whose
# title it matches. Says which part is running and, on a terminal, how far it is. Closes with "N passed, N failed, N skipped".
only=$1
passed=0 failed=0 skipped=0 part=0
parts=$(grep -c '^suite "' test/run.sh)
mkdir -p build
out=build/run-$$.txt # what the part that is running prints; build/run-$$.N: how many checks part N has made (count.sh)

# ticking BEGUN: redraws a line every second: for how long, how many checks, of how many the last time
ticking() {
    while sleep ${TICK:-1}; do
        printf '\r   %d s' $(($(date +%s) - $1))
        if [ -s "$COUNT" ]; then printf ', %s checks%s' "$(cat "$COUNT")" "$(sed 's/^/ of /' build/part-$part.checks 2>/dev/null)"
        else printf ': %s' "$(tail -n 1 $out 2>/dev/null | cut -c 1-60)"; fi
        printf '\033[K'
    done
}

# suite TITLE command...: the command's last line is "N passed, N failed" or "N passed, N failed, N skipped"
suite() {
    title=$1
    shift
    part=$((part + 1))
    case $title in ${only:-*}) ;; *) return ;; esac
    echo "== $part/$parts $title"
    COUNT=build/run-$$.$part ticker=
    export COUNT
    if [ -t 1 ]; then ticking $(date +%s) & ticker=$!; fi
    "$@" >$out 2>&1
    status=$?
    if [ "$ticker" ]; then kill $ticker; wait $ticker 2>/dev/null; printf '\r\033[K'; fi
    grep -v '^[0-9]* passed, [0-9]* failed' $out
    set -- $(tail -n 1 $out | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\1 \2 \4/p')
    if [ $# -lt 2 ]; then echo "FAIL $title: it did not come to its end (exit code $status)"; set -- 0 1; fi
    if [ $status -ne 0 ] && [ $2 -eq 0 ]; then echo "FAIL $title: exit code $status"; set -- $1 1 ${3:-0}; fi
    echo "   $1 passed, $2 failed"
    echo $(($1 + $2)) >build/part-$part.checks
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + ${3:-0}))
}

# A short run on the simple corpus: RECIPE, the loss it must reach and the least that it can have, and what its samples must be
# like. A loss below what there is to guess means that the network is told what it should guess.
learning() {
    p=0 f=0
    build/simple --words >build/words.txt &&
        ./train --recipe $1 --ffn 256 --emb-dim 64 --time-dim 64 --layers 2 --batch 48 --lr 3e-3 --seed 2 --steps 2000 --log-interval 500 \
            --overwrite --out build/short.safetensors 2>build/err.txt || { cat build/err.txt; return 1; }
    val=$(sed -n 's/.*"val_loss":\([0-9.]*\).*/\1/p' build/short.jsonl | tail -n 1)
    if awk "BEGIN { exit !($val > 0 && $val < $2) }"; then p=$((p + 1)); else f=$((f + 1)); printf 'FAIL '; fi
    echo "validation loss $val, must be below $2"
    if awk "BEGIN { exit !($val > $3) }"; then p=$((p + 1))
    else f=$((f + 1)); echo "FAIL validation loss $val, must be above $3: too good to be true, so something leaks"; fi
    ./sample build/short.safetensors -n 500 --steps 20 2>/dev/null | build/judge build/words.txt data/simple-train.txt $4 $5
    if [ $? -eq 0 ]; then p=$((p + 1)); else f=$((f + 1)); printf 'FAIL '; fi
    echo "at least $4 % must be grammatical and $5 % distinct"
    echo "$p passed, $f failed"
    [ $f -eq 0 ]
}

# The corpora are what their generator makes.
corpora() {
    p=0 f=0
    data=build/run-$$.data
    mkdir $data && build/simple $data
    for file in simple-train.txt simple-test.txt simple-labeled.tsv; do
        if cmp -s $data/$file data/$file; then p=$((p + 1)); else f=$((f + 1)); echo "FAIL data/$file is not what data/simple.c makes"; fi
    done
    if [ "$(awk -f data/german.awk | cksum)" = "394024852 161144" ]; then p=$((p + 1)); else f=$((f + 1)); echo "FAIL data/german.awk: another text than README's"; fi
    if [ "$(awk -f data/names.awk | cksum)" = "51811474 22675" ]; then p=$((p + 1)); else f=$((f + 1)); echo "FAIL data/names.awk: other names"; fi
    for name in simple greetings; do
        if [ "$(sort data/$name-train.txt data/$name-test.txt | uniq -d | wc -l)" -eq 0 ]; then p=$((p + 1))
        else f=$((f + 1)); echo "FAIL data/$name: a line occurs twice"; fi
    done
    echo "$p passed, $f failed"
    [ $f -eq 0 ]
}

# The Unicode tables, beside those of a python3 that has the same Unicode.
unicode() {
    for python in python3 /usr/bin/python3; do
        command -v $python >/dev/null 2>&1 || continue
        $python test/unicode.py build/peek >build/unicode.txt
        status=$?
        grep -q ' 1 skipped' build/unicode.txt || { cat build/unicode.txt; return $status; }
    done
    echo "skipped: there is no python3 with Unicode 14"
    echo "0 passed, 0 failed, 1 skipped"
}

# The network once more in PyTorch, by a python3 that has it.
pytorch() {
    rm -rf build/pytorch && mkdir build/pytorch
    for python in python3 /usr/bin/python3; do
        $python -c 'import torch' 2>/dev/null || continue
        $python test/pytorch.py build/pytorch
        return
    done
    echo "skipped: there is no python3 with torch"
    echo "0 passed, 0 failed, 1 skipped"
}

# The command line takes as long as all others together, so it runs beside them; threads that wait leave
# the processor to the others.
export OMP_WAIT_POLICY=passive
cli_title="command line, resume, the same bytes everywhere" cli=
case $cli_title in ${only:-*}) COUNT=build/run-$$.$parts sh test/cli.sh >build/cli.txt 2>&1 & cli=$! ;; esac
trap 'kill $cli $ticker 2>/dev/null; rm -rf build/run-$$.*; exit 1' INT TERM
command_line() {
    wait $cli
    status=$?
    cat build/cli.txt
    return $status
}

suite "units, double precision" build/double-unit
suite "units, single precision" build/unit
mkdir -p build/text-files
suite "text: JSON, tokenizers, blanks" build/text build/text-files
suite "the original's numbers, double precision" build/double-parity test/golden
suite "the original's numbers, single precision" build/parity test/golden
suite "checkpoint: round trip, truncation, byte flips" build/fuzz build/fuzz.safetensors
suite "corpora" corpora
suite "Unicode tables" unicode
suite "learning, the original's recipe" learning original 0.06 0.045 90 97
suite "learning, the best recipe" learning best 0.70 0.61 93 97
suite "golden bytes" sh test/golden.sh
suite "what the options mean" sh test/behaviour.sh
suite "the network rebuilt in PyTorch" pytorch
suite "nothing lost, nothing half-done" sh test/safety.sh
suite "pictures, watching" sh test/draw.sh
suite "$cli_title" command_line

rm -rf build/run-$$.*
echo
if [ $((passed + failed + skipped)) -eq 0 ]; then
    echo "FAIL no part has a title like '$only'"
    failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
