# faults.sh - every failure once, called by "make faults" (as SQLite's tests do). The programs are
# built with test/faults.h, and of a small run of each the n-th call that allocates, opens, reads,
# writes, flushes, syncs, renames or closes fails, for every n that the run reaches: once, and from
# then on. Either the run says so, ends with another code than 0 and leaves what was there or what
# it had saved; or it gives the same result as without a fault. Nothing stays allocated or open.
# Then 50 SIGKILLs at random moments, which must not change the result.
# SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' looks closer, and is slow.
. test/count.sh
CC=${CC:-cc}
W=build/faults
rm -rf $W && mkdir -p $W/run
FLAGS="-std=c99 -g -O1 -ffp-contract=off"
OMP_NUM_THREADS=1
export OMP_NUM_THREADS

$CC $FLAGS $SANITIZE -c -o $W/faults.o test/faults.c || exit 1
build() { $CC $FLAGS $SANITIZE -include test/faults.h -o $W/$1 $2 $W/faults.o -lm || exit 1; }
build train "train.c tdiff.c tokenizer.c"
build sample "sample.c tdiff.c tokenizer.c"
build tokenizer "-DTOKENIZER_MAIN tokenizer.c tdiff.c"

# every PROGRAM NAME RESULT 'files that may be left' arguments...: RESULT is the file in $R that the
# program makes; what the folder $W/NAME has is there before
R=$W/run
every() {
    program=$1 name=$2 result=$3 others=$4
    shift 4
    $W/$program $W/$name $R $R/$result $others -- "$@" >$W/faults.txt
    status=$?
    sed "/^FAIL/s/^FAIL/FAIL $program ($name):/" $W/faults.txt | grep '^FAIL'
    set -- $(tail -n 1 $W/faults.txt | tr -d ,)
    [ "$2" = passed ] || { bad "$program ($name): it did not come to its end: $status"; return; }
    passed=$((passed + $1)) failed=$((failed + $3))
    echo "$program ($name): $(($1 + $3)) faults"
}

# What is there before the runs
mkdir -p $W/begin $W/go-on $W/draw
printf '%s\n' 'a red fig' 'the fig is hot' 'a plum' >$W/text.txt
for i in 1 2 3 4 5 6; do printf 'a red fig\tyes\nthe plum\tno\n'; done >$W/labels.tsv
TINY="--hidden 8 --layers 1 --heads 1 --ffn 8 --emb-dim 4 --time-dim 4 --batch 2 --warmup 1
    --diffusion-steps 5 --save-interval 1 --log-interval 1"
# as plain as the programs with faults: the bytes are those of this machine's other class
learn() { build/plain/train $W/text.txt $TINY "$@" 2>$W/err || blame "train $*"; }
learn --steps 1 --out $W/begin/m
learn --steps 2 --stop-at 1 --out $W/go-on/m
learn --steps 2 --out $W/draw/m
CLASSIFY="--classifier $W/labels.tsv --batch 4 --steps 1"
build/plain/train $CLASSIFY --denoiser $W/draw/m --out $W/draw/c 2>$W/err || blame "a classifier"
./tokenizer train-word-level $W/text.txt --out $W/draw/t.json 2>$W/err || blame "a tokenizer"
echo old >$W/draw/out.txt
cp $W/text.txt $W/draw/stdin

every train begin m "$W/begin/m $W/go-on/m" $W/text.txt $TINY --steps 2 --overwrite --out $R/m
every train go-on m $W/go-on/m $W/text.txt --save-interval 1 --log-interval 1 --resume $R/m
every train draw c $W/draw/c $CLASSIFY --denoiser $R/m --overwrite --out $R/c
every sample draw out.txt $W/draw/out.txt $R/m -n 3 --out $R/out.txt
every sample draw stdout "" $R/m -n 3 --prompt "a [MASK]" --continue --guide $R/c --label yes
every sample draw stdout "" $R/m --eval -
every tokenizer draw t.json $W/draw/t.json train-word-level $W/text.txt --min-frequency 2 \
    --out $R/t.json
every tokenizer draw stdout "" encode $R/t.json

# SIGKILL: the steps that were saved are not lost, and the end is that of a run without any
RUN="./train $W/text.txt --hidden 16 --layers 1 --heads 2 --ffn 16 --emb-dim 8 --time-dim 8"
RUN="$RUN --batch 4 --steps 20000 --save-interval 50 --log-interval 70"
GO_ON="./train $W/text.txt --save-interval 50 --log-interval 70 --resume $W/killed.safetensors"
check "without SIGKILL" $RUN --out $W/whole.safetensors
kills=0 tries=0
while [ $kills -lt 50 ] && [ $tries -lt 100 ]; do
    if [ -e $W/killed.safetensors ]; then $GO_ON 2>$W/err &
    else $RUN --overwrite --out $W/killed.safetensors 2>$W/err & fi
    sleep 0.$(awk -v n=$tries 'BEGIN { srand(n); printf "%02d", 2 + 13 * rand() }')
    kill -KILL $! 2>/dev/null && kills=$((kills + 1))
    wait $! 2>/dev/null
    tries=$((tries + 1))
done
echo "$kills SIGKILLs, $(ls $W/killed*.tmp 2>/dev/null | wc -l) of them during a save"
check "after $kills SIGKILLs" $GO_ON
same $W/whole.safetensors $W/killed.safetensors "after $kills SIGKILLs: not the same bytes"
grep -o '^{"step":[0-9]*' $W/whole.jsonl >$W/steps
grep -o '^{"step":[0-9]*' $W/killed.jsonl | cmp -s - $W/steps && ok ||
    bad "after $kills SIGKILLs: the log does not have every step once"

[ $failed -eq 0 ] && rm -rf $W
finish
