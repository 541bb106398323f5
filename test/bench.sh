#!/bin/sh
# make bench: all that build/bench measures and, where a python3 has torch, the same steps there, in turns with ours.
# SIZES="everyday medium" ROUNDS=5 PARTS="matmul elements text steps" choose; PYTHON names another python3.
# OPENBLAS_CORETYPE is passed on: where OpenBLAS does not know the processor, its figures are too low without it.
SIZES=${SIZES-everyday medium large}
ROUNDS=${ROUNDS-3}
PARTS=${PARTS-matmul elements text steps}
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
threads=1
[ "$cores" -gt 1 ] && threads="1 2"
log=build/bench.log

for python in $PYTHON python3 /usr/bin/python3 none; do
    [ "$python" = none ] || "$python" -c 'import torch' 2>/dev/null && break
done
echo "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -1), $cores cores; load $(cut -d' ' -f1 /proc/loadavg 2>/dev/null)"
cache() { getconf "LEVEL$1_SIZE" 2>/dev/null | awk '$1 > 0 {print $1 / 1024 " KB"; ok = 1} END {if (!ok) print "?"}'; }
echo "caches: first $(cache 1_DCACHE), second $(cache 2_CACHE), third $(cache 3_CACHE)"
build/bench machine || exit 1
[ "$python" = none ] && echo "PyTorch: skipped, no python3 with torch"
[ "$python" = none ] || "$python" -c 'import torch; print("PyTorch", torch.__version__)'

for part in $PARTS; do
    [ "$part" = steps ] || build/bench "$part" || exit 1
done
case $PARTS in *steps*) ;; *) exit 0 ;; esac
for size in $SIZES; do
    build/bench parts "$size" || exit 1
    : > $log
    round=0
    while [ $round -lt "$ROUNDS" ]; do
        for t in $threads; do
            line=$(build/bench step "$size" $t) || exit 1
            echo "tdiff $line" >> $log
            [ "$python" = none ] && continue
            line=$("$python" test/bench_torch.py "$size" $t) || exit 1
            echo "torch $line" >> $log
        done
        round=$((round + 1))
    done
    # a line: who size threads train_ms sample_ms peak_MB; the middle of an odd number of rounds is the median
    for key in $(cut -d' ' -f1,3 $log | tr ' ' : | sort -u); do
        who=${key%:*} t=${key#*:}
        for column in 4 5 6; do
            awk -v w="$who" -v t="$t" -v c=$column '$1 == w && $3 == t {print $c}' $log | sort -n | awk '{x[NR] = $1} END {printf "%s %s ", x[int((NR + 1) / 2)], (x[NR] - x[1]) / 2}'
        done | awk -v w="$who" -v t="$t" -v s="$size" '{print w, t, s, $0}'
    done > $log.medians
    awk '{
        printf "  %-9s %s  %s thread%s  training step %10.2f +- %.2f ms   sampling step %9.2f +- %.2f ms   peak memory %6.0f MB\n",
               $3, $1, $2, ($2 > 1 ? "s" : " "), $4, $5, $6, $7, $8
        train[$1, $2] = $4; sample[$1, $2] = $6; memory[$1] = memory[$1] > $8 ? memory[$1] : $8; torch += $1 == "torch"
    }
    function least(x, who) { return !((who, 2) in x) || x[who, 1] < x[who, 2] ? x[who, 1] : x[who, 2] }
    END {
        if (("tdiff", 2) in train) printf "  2 threads against 1: training %.2f, sampling %.2f\n", train["tdiff", 1] / train["tdiff", 2], sample["tdiff", 1] / sample["tdiff", 2]
        if (!torch) exit
        printf "  PyTorch (its faster) / tdiff (its faster): training %.2f, sampling %.2f; one thread each: %.2f, %.2f; memory tdiff / PyTorch %.2f\n",
               least(train, "torch") / least(train, "tdiff"), least(sample, "torch") / least(sample, "tdiff"),
               train["torch", 1] / train["tdiff", 1], sample["torch", 1] / sample["tdiff", 1], memory["tdiff"] / memory["torch"]
    }' $log.medians
done
