# behaviour.sh - do the options mean what they say? What is asked here shows from outside: in the
# log, in the numbers of a checkpoint (build/peek), in samples, in the bound (build/replay). A
# library that is right does not help a program that hands it the wrong noise. Runs in the
# project's folder after make; needs only sh, awk, sed, grep and cmp. test/mutants.txt has the
# faults that it must notice.
. test/count.sh
W=build/behaviour
rm -rf $W && mkdir -p $W
OMP_NUM_THREADS=1 # networks as small as these are faster without threads
export OMP_NUM_THREADS

# fine MESSAGE command...: a command that must work
fine() {
    what=$1
    shift
    "$@" >$W/out 2>$W/err || { bad "$what"; tail -n 3 $W/err | sed 's/^/     /'; }
}
# learn NAME options...: trains $W/NAME.safetensors
learn() { name=$1; shift; fine "train $*" ./train "$@" --overwrite --out $W/$name.safetensors; }
# holds CONDITION MESSAGE: of awk, on numbers
holds() { if awk "BEGIN { exit !($1) }"; then ok; else bad "$2 ($1)"; fi; }
# field NAME FIELD: that number in the last line of the log
field() { sed -n "s/.*\"$2\":\([-+.e0-9]*\).*/\1/p" $W/$1.jsonl | tail -n 1; }
# quartiles NAME: the losses by noise quartile, a line of the log a line, separated by blanks
quartiles() { sed -n 's/.*"loss_by_noise_quartile":\[\([^]]*\)\].*/\1/p' $W/$1.jsonl | tr ',' ' '; }
# tensor NAME TENSOR: its numbers, a row a line
tensor() { build/peek tensor $W/$1.safetensors $2; }
# the numbers of the rows that have another number than 0
nonzero_rows() { awk '{ for (i = 1; i <= NF; i++) if ($i != 0) { print NR; next } }'; }

echo word >$W/one.txt
printf '%s\n' ant bee cat dog eel fox gnu hen >$W/eight.txt
echo 'a red fig is hot' >$W/line.txt
awk '{ for (i = 0; i < 200; i++) print }' $W/line.txt >$W/lines.txt
TINY="--hidden 16 --layers 2 --heads 2 --ffn 24 --emb-dim 8 --time-dim 8 --diffusion-steps 50
    --warmup 5"
MICRO="--hidden 8 --layers 1 --heads 1 --ffn 8 --time-dim 8 --diffusion-steps 20 --warmup 0"

# ---- training: what is random -------------------------------------------------------------------
# Of one word, with most activations left out, a mask that stays would leave most rows of this
# matrix without any gradient.
learn dropout $TINY $W/one.txt --batch 1 --dropout 0.9 --steps 20
rows=$(for layer in 0 1; do
    tensor dropout adam_m.input_transformers.layer.$layer.attention.output.dense.weight
done | nonzero_rows | wc -l)
holds "$rows > 16" "--dropout: every step leaves out the same activations" # of 32

# A network that knows the sentence has only noise to guess. x_start is the embedding and noise of
# variance s2 = 1 - a0, x_t shows it through noise of variance 1 - a: what is left of it is, a
# dimension, 1 / (1 / s2 + a / (1 - a)) at least, and nothing at t = 0, where the embedding itself
# is asked for. With less, the two noises have something in common.
bound=$(awk -v T=50 '
    function alpha_bar(s) { return 1 - sqrt(s + 0.0001) }
    BEGIN {
        for (t = 0; t < T; t++) {
            beta = t < T - 1 ? 1 - alpha_bar((t + 1) / T) / alpha_bar(t / T) : 0.999
            a = (t ? a : 1) * (beta < 0.999 ? 1 - beta : 0.001)
            if (!t) s2 = 1 - a
            else sum += 1 / (1 / s2 + a / (1 - a))
        }
        print sum / T
    }')
learn noise $W/line.txt --val $W/lines.txt --recipe original --hidden 32 --layers 1 --heads 2 \
    --ffn 64 --emb-dim 8 --time-dim 16 --diffusion-steps 50 --batch 64 --warmup 20 --lr 0.02 \
    --ema-rate 0.95 --steps 400
mse=$(field noise mse)
holds "$mse > 0.93 * $bound" "training: x_t tells the noise of x_start; mse too good to be true"
holds "$mse < 1.5 * $bound" "training: a sentence is not learnt; mse above what is left to guess"
mse="$(field noise val_loss) - $(field noise decoder_nll) - $(field noise tT_loss)"
holds "$mse > 0.93 * $bound" "val: x_t tells the noise of x_start; mse too good to be true"
holds "$mse < 1.5 * $bound" "val: a sentence is not learnt; mse above what is left to guess"

learn t $TINY $W/eight.txt --batch 8 --steps 20 --log-interval 1
quartiles t >$W/quartiles
drawn=$(tr ' ' '\n' <$W/quartiles | grep -c '[0-9]') # of 20 steps and 4 quartiles
holds "$drawn > 40" "training: the examples of a batch share one t"
for q in 1 2 3 4; do
    cut -d ' ' -f $q $W/quartiles | grep -q '[0-9]' && ok ||
        bad "training: no t is drawn from quartile $q"
done

# Adam's moments of a word's embedding are 0 until the word is seen: 128 dimensions keep the
# softmax from touching others. The first five rows are special tokens.
EPOCH="$MICRO --emb-dim 128 --recipe original --batch 1 --steps 40 $W/eight.txt"
words() { tensor $1 adam_v.word_embedding.weight | sed 1,5d; }
alike=0
for seed in 1 2 3 4 5 6; do
    for step in 1 8 9; do learn step$step $EPOCH --seed $seed --stop-at $step; done
    seen=$(words step8 | nonzero_rows | wc -l)
    holds "$seen == 8" "training: an epoch does not take every sentence once"
    first=$(words step1 | nonzero_rows)
    words step8 >$W/before
    again=$(words step9 | paste -d ' ' $W/before - | # but for the word that is seen they decay
        awk '{ for (i = 1; i <= NF / 2; i++) if ($(i + NF / 2) > $i) { print NR; exit } }')
    [ "$first" = "$again" ] && alike=$((alike + 1))
done
holds "$alike < 6" "training: every epoch has the same order"

# The second half of the columns of the first layer reads the network's own estimate: without one
# there is no gradient. Half of the steps have one.
with=0
for seed in 1 2 3 4 5 6 7 8 9 10 11 12; do
    learn own $MICRO --emb-dim 8 --recipe best --batch 2 --steps 1 --seed $seed $W/eight.txt
    tensor own adam_m.input_up_proj.0.weight | cut -d ' ' -f 9-16 | nonzero_rows | grep -q . &&
        with=$((with + 1))
done
holds "$with >= 2" "training: self-conditioning is never trained"
holds "$with <= 10" "training: self-conditioning is always on"

# ---- training: what is done with the gradient ---------------------------------------------------
STEP="$MICRO --emb-dim 8 --recipe best --batch 4 --steps 1 $W/eight.txt"
learn still $STEP --lr 1e-9 --weight-decay 0
learn light $STEP --lr 0.01 --weight-decay 0
learn heavy $STEP --lr 0.01 --weight-decay 10
build/peek names $W/heavy.safetensors | sed -n 's/^raw\.\([^ ]*\).*/\1/p' >$W/names
while read -r name; do
    for run in still light heavy; do tensor $run raw.$name >$W/$run; done
    case $name in
    *.bias | *LayerNorm*)
        cmp -s $W/light $W/heavy && ok || bad "--weight-decay: $name has none to have" ;;
    *) # one step takes 0.01 * 10 of the weight more
        paste -d ' ' $W/still $W/light $W/heavy | awk '
            { for (i = 1; i <= NF / 3; i++) {
                off = $(i + NF / 3) - $(i + 2 * NF / 3) - 0.1 * $i
                if (off > 1e-5 || off < -1e-5) exit 1
            } }' && ok || bad "--weight-decay: $name does not shrink by lr * decay" ;;
    esac
done <$W/names

learn clip $STEP --clip 0.001
norm=$(while read -r name; do tensor clip adam_m.$name; done <$W/names |
    awk '{ for (i = 1; i <= NF; i++) sum += $i * $i } END { print sqrt(sum) }')
holds "$norm > 0.99e-4 && $norm < 1.01e-4" "--clip 0.001: not a tenth of it in the first moments"

# ---- training: what is reported -----------------------------------------------------------------
VAL="$TINY $W/eight.txt --batch 8 --steps 20 --log-interval 5"
learn ema0 $VAL --val $W/eight.txt --ema-rate 0
learn ema9 $VAL --val $W/eight.txt --ema-rate 0.9
learn noval $VAL --ema-rate 0.9
for run in ema0 ema9; do
    tensor $run word_embedding.weight >$W/$run
    tensor $run raw.word_embedding.weight >$W/$run.raw
done
cmp -s $W/ema0 $W/ema0.raw && ok || bad "--ema-rate 0: the average is not the weights"
cmp -s $W/ema9 $W/ema9.raw && bad "--ema-rate 0.9: the average is the weights" || ok
[ "$(field ema0 loss)" = "$(field ema9 loss)" ] && ok || bad "--ema-rate changes the training"
[ "$(field ema0 val_loss)" = "$(field ema9 val_loss)" ] &&
    bad "val: not the loss of the averaged weights" || ok
for run in ema9 noval; do # all tensors: the file also says which text --val was
    build/peek names $W/$run.safetensors | while read -r name _; do tensor $run $name; done >$W/$run
done
cmp -s $W/ema9 $W/noval && ok || bad "--val changes the training"

# Of what is drawn more often each counts for less, so that the mean stays that of all t alike: a
# quarter from each quartile.
for sampler in uniform loss-second-moment; do
    learn $sampler $W/eight.txt --hidden 16 --layers 1 --heads 1 --ffn 16 --emb-dim 8 --time-dim 8 \
        --batch 32 --warmup 10 --diffusion-steps 20 --lr 0.01 --steps 600 --log-interval 300 \
        --schedule-sampler $sampler
    mean=$(quartiles $sampler | awk '{ mean = ($1 + $2 + $3 + $4) / 4 } END { print mean }')
    off="$(field $sampler loss) - $mean"
    holds "$off < 0.05 * $mean && $off > -0.05 * $mean" \
        "$sampler: the loss is not the mean over all t"
done

# ---- sampling -----------------------------------------------------------------------------------
# A denoiser that knows six sentences
printf '%s\n' 'a green plum' 'one more line' >$W/three-words.txt
printf '%s\n' 'the red fig is hot' 'the blue pear is cold' 'my old dog sleeps' \
    'the black cat eats a small fish' | cat $W/three-words.txt - >$W/six.txt
echo 'the red fig is hot' >$W/fig.txt
learn six $W/six.txt --hidden 32 --layers 2 --heads 2 --ffn 64 --emb-dim 16 --time-dim 16 \
    --batch 16 --diffusion-steps 50 --warmup 20 --lr 0.005 --steps 400
# draw options...: 50 samples of it
draw() { fine "sample $*" ./sample $W/six.safetensors -n 50 "$@"; }
# found FILE: how many of the samples are lines of this
found() { grep -c -x -F -f $W/$1 $W/out; }

draw
holds "$(found six.txt) > 40" "sample: the sentences are not those of the training"
draw --edit "$(cat $W/fig.txt)" --strength 0.02
holds "$(found fig.txt) > 45" "--edit --strength 0.02: little is left of the sentence"
draw --edit "$(cat $W/fig.txt)"
strength=$(sed -n 's/^--strength \([0-9.]*\): up to there [0-9]* % of its words can be read$/\1/p' $W/err)
holds "$strength + 0 > 0.3 && $strength + 0 < 0.95" "--edit alone: not as far as it can be read"
draw --edit "$(cat $W/fig.txt)" --strength 1
holds "$(found fig.txt) < 40" "--edit --strength 1: the sentence is still there" # of 2 so long
draw --top-p 0.01 --length 5 --eta 1 # two sentences have it
holds "$(sort -u $W/out | wc -l) > 1" "--top-p 0.01: the samples are alike; x_T is truncated, too"
draw --length 3
holds "$(found three-words.txt) > 35" "--length 3: not whole sentences of three words"

# ---- the bound ----------------------------------------------------------------------------------
head -n 200 data/simple-train.txt >$W/train.txt
head -n 70 data/simple-test.txt >$W/test.txt # more than ./sample takes at a time
# part NAME FILE: the number that stands behind this name
part() { awk -v name=$1 '$1 == name { print $2; exit }' $W/$2; }
for recipe in best original; do
    learn $recipe $TINY --recipe $recipe --batch 8 --steps 150 $W/train.txt
    fine "replay" build/replay $W/$recipe.safetensors $W/test.txt 3
    mv $W/out $W/replay
    fine "sample --eval" ./sample $W/$recipe.safetensors --seed 3 --eval $W/test.txt
    tr -d '(),' <$W/out | awk '
        $1 == "bound" { print "bound", $2; print "se", $5 }
        $2 == "nats/token" { print $2, $1; print $4, $3; print $6, $5; print $8, $7 }
        $1 == "length" {
            gsub(":", ""); print $1, $2; print $4, $5; print $6, $7
            for (q = 1; q <= 4; q++) print "quartile" q, $(12 + q)
            print "decoder", $19
        }' >$W/eval
    while read -r name replayed; do
        case $name in bound | se) rounding=0.006 ;; *) rounding=0.0006 ;; esac
        off="$(part $name eval) - $replayed"
        holds "$off < $rounding && $off > -$rounding" \
            "--eval ($recipe): not the $name of test/replay.c"
    done <$W/replay
done

[ $failed -eq 0 ] && rm -rf $W
finish
