# safety.sh - nothing lost, nothing half-done: what is there already, what cuts a run off, what an
# output does to its neighbours. Runs in the project's folder after make; needs only POSIX tools.
. test/count.sh
CC=${CC:-cc}
W=build/safety
rm -rf $W && mkdir -p $W/kept
OMP_NUM_THREADS=1 # networks as small as these are faster without threads
export OMP_NUM_THREADS

head -n 200 data/simple-train.txt >$W/text.txt
TINY="--hidden 16 --layers 2 --heads 2 --ffn 24 --emb-dim 8 --time-dim 8 --batch 8 --warmup 5"
RUN="./train $TINY --diffusion-steps 50 --log-interval 5 $W/text.txt"
LONG="$RUN --steps 1000000 --log-interval 1000000"
# steps FILE: those that a checkpoint has, or the last one of a log
steps() { tr ',' '\n' <$1 | sed -n 's/.*"step[s-]*[done]*":"*\([0-9][0-9]*\).*/\1/p' | tail -n 1; }
# there FILE: waits until it is there, ten seconds at most
there() { i=0; until [ -e $1 ] || [ $i -eq 100 ]; do sleep 0.1; i=$((i + 1)); done; }
# ends CODE MESSAGE [SECONDS]: the program in the background ends with this code; what goes on is a failure
ends() {
    run=$!
    (sleep ${3:-120} && kill -KILL $run) &
    wait $run
    got=$?
    kill $!
    [ $got -eq $1 ] && ok || blame "$2: exit code $got, expected $1"
}

# ---- a run takes nothing away --------------------------------------------------------------------
check "a first run" $RUN --steps 20 --out $W/a.safetensors
check "another" $RUN --steps 20 --out $W/open.safetensors
cp $W/a.safetensors $W/a.jsonl $W/text.txt $W/kept
refuse 1 "a.safetensors: is there already: step 20 of 20, " $RUN --steps 30 --out $W/a.safetensors
refuse 1 "--overwrite begins anew" $RUN --steps 30 --out $W/a.safetensors
refuse 2 "--overwrite has no effect with --resume" $RUN --resume $W/a.safetensors --overwrite
grep . data/simple-train.txt >$W/notes.jsonl
cp $W/notes.jsonl $W/kept
refuse 1 "notes.jsonl: is text, and the log of this run would replace it" \
    $RUN --steps 5 --out $W/notes.safetensors --overwrite
refuse 1 "text.txt: is there already and is text" ./train --overwrite --out $W/text.txt
refuse 1 "is text, and the log" ./train $W/text.txt --resume $W/a.safetensors --out $W/notes
check "half a run" $RUN --steps 20 --stop-at 10 --out $W/half.safetensors
refuse 1 "a.safetensors: is there already" \
    ./train $W/text.txt --resume $W/half.safetensors --out $W/a.safetensors
rm $W/half.safetensors
refuse 1 "half.jsonl: is the log of another run" $RUN --steps 20 --out $W/half.safetensors
check "a tokenizer" ./tokenizer train-word-level $W/text.txt --out $W/t.json
cp $W/t.json $W/kept
for kind in "a.safetensors: is there already and is a checkpoint" \
    "a.jsonl: is there already and is a log of ./train" \
    "t.json: is there already and is a tokenizer"; do
    refuse 1 "$kind" ./sample $W/open.safetensors --steps 5 --out $W/${kind%%:*}
done
for file in a.safetensors a.jsonl notes.jsonl; do
    refuse 1 "$file: is there already and is" \
        ./tokenizer train-word-level $W/text.txt --out $W/$file
done
check "text is replaced" sh -c "echo old >$W/out.txt && ./sample $W/a.safetensors --out $W/out.txt"
[ "$(wc -l <$W/out.txt)" -eq 10 ] && ok || bad "./sample --out does not replace text"
for file in $W/kept/*; do same $file $W/${file##*/} "${file##*/} was taken away"; done
check "--overwrite" $RUN --steps 10 --out $W/a.safetensors --overwrite
[ "$(steps $W/a.safetensors)" -eq 10 ] && [ "$(wc -l <$W/a.jsonl)" -eq 2 ] && ok ||
    bad "--overwrite does not begin anew"

# ---- a build that must not be, and one that must not warn -------------------------------------------
echo 'int main(void) { return 0; }' >$W/probe.c
if $CC -ffast-math -c -o $W/probe.o $W/probe.c 2>/dev/null; then
    refuse 1 "" $CC -std=c99 -O2 -ffast-math -c -o $W/no.o tokenizer.c
    grep -q 'error.*-ffast-math removes the checks' $W/err && ok || blame "-ffast-math is not refused"
else skip "$CC has no -ffast-math"; fi
if $CC -Wall -c -o $W/probe.o $W/probe.c 2>/dev/null; then
    check "-Wall" $CC -Wall -std=c99 -O2 -o $W/plain train.c tdiff.c tokenizer.c -lm
    [ -s $W/err ] && blame "-Wall without OpenMP warns" || ok
fi

# ---- what can be known at once is said at once: there is no such corpus --------------------------
refuse 1 "hidden 100 is not a multiple of heads 3" ./train $W/none.txt --hidden 100 --heads 3
refuse 1 "cannot have 10 steps" ./train $W/none.txt --diffusion-steps 10 --noise-schedule linear
refuse 1 "cannot write" ./train $W/none.txt --out $W/nowhere/x.safetensors
refuse 1 "./train makes a checkpoint" ./sample $W/none.safetensors
refuse 1 "not a checkpoint of ./train but text" ./sample $W/text.txt
refuse 1 "not a checkpoint of ./train but a log" ./sample $W/a.jsonl

# ---- a run that is cut off keeps its work --------------------------------------------------------
{ $RUN --steps 300 --out $W/pipe.safetensors; echo $? >$W/status; } 2>&1 | head -n 1 >$W/out
[ "$(cat $W/status)" -eq 0 ] && [ "$(steps $W/pipe.safetensors)" -eq 300 ] && ok ||
    bad "a closed pipe ends the training"
check "without standard streams" sh -c "$RUN --steps 20 --out $W/closed.safetensors <&- >&- 2>&-"
same $W/open.safetensors $W/closed.safetensors "a closed stderr gets into the checkpoint"
$LONG --out $W/illegal.safetensors 2>$W/err &
there $W/illegal.jsonl
kill -ILL $!
ends 1 "an illegal instruction"
grep -q "this processor lacks an instruction" $W/err && ok || blame "nothing is said of SIGILL"
both="HUP TERM"
if [ "$(sh -c 'kill -HUP $$; echo ignored' 2>/dev/null)" ]; then
    both=TERM
    skip "HUP is ignored here, as by nohup"
fi
for signal in $both; do
    $LONG --out $W/$signal.safetensors 2>$W/err &
    there $W/$signal.jsonl
    sleep 0.3
    kill -$signal $! && kill -$signal $! # as timeout does
    if [ $signal = HUP ]; then ends 129 HUP; else ends 143 TERM; fi
    grep -q '^stopping, then saving' $W/err && ok ||
        blame "$signal is not answered at once"
    check "$signal: a whole checkpoint" ./sample $W/$signal.safetensors -n 1 --steps 5
done
(trap '' TERM; exec $RUN --steps 3000 --out $W/ignored.safetensors 2>$W/err) &
there $W/ignored.jsonl
kill -TERM $!
ends 0 "TERM that was ignored"
if [ "$SANITIZED" ]; then echo "skipped under sanitizers, for which a part of that step is long, too: TERM within a long step"
else
    $LONG --out $W/twice.safetensors --hidden 512 --ffn 2048 --batch 65536 --threads 1 2>$W/err & # a step takes minutes
    there $W/twice.jsonl
    sleep 1
    kill -TERM $!
    ends 143 "TERM within a long step" 60
    grep -q "stopped without writing" $W/err && ok || blame "TERM is answered after a step that takes long, not within"
fi
$LONG --overwrite --out $W/twice.safetensors --hidden 512 --ffn 2048 --batch 512 2>$W/err &
there $W/twice.jsonl
sleep 1
kill -TERM $!
sleep 0.02
kill -STOP $! # as a disk does on which saving hangs
sleep 2.2
kill -TERM $! 2>/dev/null
kill -CONT $! 2>/dev/null
ends 143 "a second TERM, later"
if command -v timeout >/dev/null 2>&1; then
    timeout -s INT 1 $LONG --out $W/int.safetensors 2>$W/err
    [ $? -eq 124 ] && [ -s $W/int.safetensors ] && ok || blame "timeout -s INT"
else skip "there is no timeout"; fi

./sample $W/a.safetensors -n 100000000 --steps 2 --out $W/cut.txt 2>$W/err &
sleep 2
kill -TERM $!
ends 143 "./sample, TERM"
n=$(wc -l <$W/cut.txt) whole=$(($(wc -l <$W/cut.txt) / 1024 * 1024))
[ $n -ge 1024 ] && ok || blame "./sample --out, interrupted, leaves $n lines"
grep -q "cut.txt: has $((n)) of 100000000 sentences" $W/err && ok || blame "no note of $n lines"
check "the same" ./sample $W/a.safetensors -n 1024 --steps 2
head -n 1024 $W/cut.txt | cmp -s - $W/out && ok || bad "an interrupted ./sample leaves others"
check "the last ones" ./sample $W/a.safetensors -n 1024 --first $whole --steps 2
[ $(tail -n +$((whole + 1)) $W/cut.txt | grep -c -v -x -F -f $W/out) -eq 0 ] && ok ||
    bad "of the last sentences an interrupted ./sample leaves others"
# one long batch is not waited for, and a signal does not lose what a pipe would get
./sample $W/a.safetensors -n 100000000 --steps 2 >$W/piped.txt 2>$W/err &
sleep 1
kill -TERM $!
ends 143 "./sample without --out, TERM"
[ $(wc -l <$W/piped.txt) -gt 0 ] && grep -q "stopped by a signal" $W/err && ok || blame "a signal loses what was sampled"

check "half a run" $RUN --steps 20 --stop-at 10 --out $W/log.safetensors
printf '{"step":15,"lr":1}\n{"step":20,"lr' >>$W/log.jsonl
check "resumed" ./train --log-interval 5 $W/text.txt --resume $W/log.safetensors
log=$(cut -d , -f 1 $W/log.jsonl | sed 's/{"step"://' | tr '\n' ' ')
[ "$log" = '5 10 15 20 ' ] && ok || bad "after a resume the log has the steps $log"

# ---- two at once ---------------------------------------------------------------------------------
$LONG --out $W/two.safetensors 2>$W/err1 &
there $W/two.jsonl
refuse 1 "another run is writing it" $RUN --steps 20 --overwrite --out $W/two.safetensors
kill -TERM $!
ends 143 "the first of two runs"
for i in 1 2 3 4 5 6; do
    ./sample $W/a.safetensors -n 200 --steps 2 --seed $i --out $W/six.txt 2>$W/err &
done
wait
found=0
for i in 1 2 3 4 5 6; do
    ./sample $W/a.safetensors -n 200 --steps 2 --seed $i 2>/dev/null | cmp -s - $W/six.txt &&
        found=1
done
[ $found -eq 1 ] && ok || bad "six runs of ./sample at once leave a mixture"

# ---- what is read is what was written -------------------------------------------------------------
size=$(wc -c <$W/a.safetensors)
check "a second model" $RUN --steps 20 --seed 2 --out $W/b.safetensors
half=$((size / 2))
(head -c $half $W/a.safetensors && tail -c +$((half + 1)) $W/b.safetensors) >$W/mixed.safetensors
refuse 1 "mixed.safetensors: is damaged" ./sample $W/mixed.safetensors
refuse 1 "is damaged" ./train $W/text.txt --resume $W/mixed.safetensors
refuse 1 "is damaged: its tensors have the checksum" $RUN --out $W/mixed.safetensors
# the last number of adam_v becomes -1, in a checkpoint that does not know of checksums
check "half a run" $RUN --steps 20 --stop-at 10 --recipe original --out $W/c.safetensors
(head -c $(($(wc -c <$W/c.safetensors) - 4)) $W/c.safetensors && printf '\000\000\200\277') |
    LC_ALL=C sed 's/"checksum"/"no-check"/' >$W/negative.safetensors
refuse 1 "adam_v, a mean of squares, has a negative number" \
    ./train $W/text.txt --resume $W/negative.safetensors
check "without a checksum" ./sample $W/negative.safetensors -n 1 --steps 2

# a text of control characters, a label of them
printf 'one \033 two \302\233\nthree \033 four \302\233\n' >$W/escape.txt
check "control characters" ./train $TINY --steps 300 --diffusion-steps 50 $W/escape.txt \
    --out $W/escape.safetensors
check "control characters" ./sample $W/escape.safetensors -n 20 --show
LC_ALL=C grep -q "$(printf '\033')" $W/out && ok || bad "control characters do not get into a file"
LC_ALL=C grep -q "$(printf '[\033\233]')" $W/err && bad "control characters reach the terminal" || ok

# ---- labels: what is held out, and what may be wrong ----------------------------------------------
classify() { # NAME: on $W/NAME.tsv
    check "a classifier of $1.tsv" ./train --classifier $W/$1.tsv --denoiser $W/a.safetensors \
        --batch 8 --steps 3 --overwrite --out $W/labels.clf.safetensors
}
awk '{ print $0 "\t" (NR % 10 == 0 ? "tenth" : "other") }' $W/text.txt >$W/tenths.tsv
classify tenths
grep -q '^note' $W/err && blame "a note of good labels" || ok
awk '{ print $0 "\t" (NR <= 196 ? "many" : "few") }' $W/text.txt >$W/few.tsv
classify few
grep -q "1 of 2 labels have fewer than 5 sentences: of these none is held out" $W/err && ok ||
    blame "no note of a label that is never held out"
awk '{ print $0 "\t" (NR % 2 ? "good" : NR % 4 ? "Good" : "bad") }' $W/text.txt >$W/case.tsv
classify case
grep -q "'good' and 'Good' are two labels" $W/err && ok || blame "no note of good and Good"
awk '{ print "the\t" $0 }' $W/text.txt >$W/first.tsv
classify first
grep -q "the label stands behind the last TAB" $W/err && ok || blame "no note of labels in front"
printf 'a fig\t\033[31mred\na plum\t\033[31mred\n' | awk '{ for (i = 0; i < 9; i++) print }
    END { for (i = 0; i < 9; i++) print "a fig\tblue" }' >$W/red.tsv
classify red
refuse 1 "'?[31mred'" ./sample $W/a.safetensors --guide $W/labels.clf.safetensors --label green

# ---- the standard input ---------------------------------------------------------------------------
check "./train -" sh -c "./train - $TINY --steps 3 --out $W/stdin.safetensors <$W/text.txt"
check "./train FILE" ./train $W/text.txt $TINY --steps 3 --out $W/file.safetensors
for name in stdin file; do ./sample --info $W/$name.safetensors | grep checksum >$W/$name.sum; done
same $W/stdin.sum $W/file.sum "./train - reads something else"
refuse 1 "its text came from the standard input" ./train --resume $W/stdin.safetensors --steps 5
refuse 1 "--out is needed" ./train -
refuse 1 "the standard input cannot be the text and --val, too" ./train - --val - --out $W/x2
check "./sample --eval -" sh -c "./sample $W/a.safetensors --eval - --eval-steps 5 <$W/text.txt"
cp $W/out $W/bound
check "./sample --eval FILE" ./sample $W/a.safetensors --eval $W/text.txt --eval-steps 5
same $W/bound $W/out "./sample --eval - reads something else"
check "./tokenizer" sh -c "./tokenizer train-word-level - --out $W/stdin.json <$W/text.txt"
same $W/stdin.json $W/t.json "./tokenizer train-word-level - reads something else"
refuse 1 "--out is needed" ./tokenizer train-word-level -
refuse 1 "'-' is no name of an output file" ./sample $W/a.safetensors --out -

# ---- an output and its neighbours ----------------------------------------------------------------
cp $W/text.txt $W/x.tmp
cp $W/text.txt $W/target
ln -s target $W/y.tmp
check "train x.tmp --out x" ./train --steps 2 $W/x.tmp --hidden 16 --heads 2 --out $W/x
check "a link NAME.tmp" $RUN --steps 2 --out $W/y
check "sample --out" ./sample $W/a.safetensors -n 1 --out $W/y.txt
same $W/text.txt $W/x.tmp "an output destroys NAME.tmp"
same $W/text.txt $W/target "an output destroys what NAME.tmp is a link to"
mkdir $W/far
ln -s far/real.safetensors $W/link.safetensors
for i in 1 2; do
    check "--out through a link" $RUN --steps 2 --overwrite --out $W/link.safetensors
    [ -h $W/link.safetensors ] && [ -f $W/far/real.safetensors ] && ok || bad "a link is replaced"
done
ln -s loop $W/loop
refuse 1 "too many symbolic links" $RUN --steps 2 --out $W/loop
chmod 600 $W/far/real.safetensors
check "again" $RUN --steps 2 --overwrite --out $W/link.safetensors
case $(ls -l $W/far/real.safetensors) in -rw-------*) ok ;; *) bad "a file's mode is not kept" ;; esac
chmod 400 $W/far/real.safetensors
refuse 1 "cannot write: it is read-only" $RUN --steps 2 --overwrite --out $W/link.safetensors
check "--out /dev/null" $RUN --steps 2 --out /dev/null
[ -e /dev/null.jsonl ] && bad "/dev/null.jsonl was made" || ok

# ---- a disk that is full, as far as a limit on the size of files can stand for one ---------------
cp $W/open.safetensors $W/full.safetensors
sh -c "ulimit -f 100; trap '' XFSZ
    $RUN --steps 20 --save-interval 5 --overwrite --out $W/full.safetensors" 2>$W/err
[ $? -eq 1 ] && [ "$(grep -c 'full.safetensors: cannot write' $W/err)" -eq 4 ] && ok ||
    blame "a full disk: not said at every interval, or no failure at the end"
same $W/open.safetensors $W/full.safetensors "a full disk takes the old checkpoint away"

debris=$(find $W -name '*.[0-9]*.tmp' | head -n 1)
[ "$debris" ] && bad "$debris is left" || ok
[ $failed -eq 0 ] && rm -rf $W
finish
