# sweep.sh CHECKPOINT TRAIN_FILE [N] - quality and seconds of N samples (1000) for a growing number of diffusion steps.
# Made of ./sample and build/evaluate (and build/judge, for the simple corpus); OPTIONS in the environment goes to ./sample.
# distinct and copied (found in TRAIN_FILE): % of the samples; unseen: bigrams per 100 tokens that TRAIN_FILE does not have;
# trigram: perplexity under TRAIN_FILE; lengths: distance of sentence lengths to TRAIN_FILE's. More of them: test/evaluate.c.
checkpoint=$1 train=$2 n=${3:-1000}
work=build/sweep
[ -f "$checkpoint" ] || { echo "sweep: '$checkpoint' is no file: make sweep CKPT=name.safetensors [TRAIN=text] [N=1000]" >&2; exit 2; }
[ -f "$train" ] || { echo "sweep: '$train' is no file: TRAIN=the text that the checkpoint was trained on" >&2; exit 2; }
mkdir -p $work
grammar=
case $train in *simple-train.txt) grammar=yes; build/simple --words >$work/words.txt ;; esac

figure() { sed -n "s/.*\"samples\":{[^}]*\"$1\":\([^,}]*\).*/\1/p" $work/figures.json; }

printf '%6s %8s %9s %7s %8s %8s %8s%s\n' steps seconds distinct copied unseen trigram lengths "${grammar:+  grammatical}"
. test/count.sh # for telling
for steps in 5 10 20 50 100 200 1000; do
    telling "$n samples of $steps steps ..."
    start=$(date +%s.%N) # where date knows no %N, awk reads whole seconds
    ./sample "$checkpoint" -n "$n" --steps $steps $OPTIONS >$work/samples.txt 2>$work/err || { cat $work/err >&2; exit 1; }
    seconds=$(echo "$start $(date +%s.%N)" | awk '{printf "%.1f", $2 - $1}')
    build/evaluate "$train" --json <$work/samples.txt >$work/figures.json || exit 1
    told
    printf '%6s %8s %8.1f%% %6.1f%% %8.2f %8.2f %8.3f' $steps "$seconds" \
        "$(figure distinct_percent)" "$(figure verbatim_percent)" "$(figure unseen_bigrams_per_100_tokens)" \
        "$(figure trigram_perplexity)" "$(figure length_distance)"
    [ "$grammar" ] && build/judge $work/words.txt "$train" <$work/samples.txt | sed -n 's/.*grammatical \([0-9.]*\) %.*/      \1 %/p' | tr -d '\n'
    echo
done
