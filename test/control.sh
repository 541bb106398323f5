# control.sh CHECKPOINT TRAIN_FILE "WORDS..." [N] - does guidance do what is asked for? For every file of words or phrases (one a
# line) a classifier is trained on TRAIN_FILE, label yes where a sentence has one of them; then N samples (1000) are drawn for a
# growing --guide-scale, asking all of them for yes. success: % of the samples that have a word of every file, which is a matter
# of reading, not of the classifiers. distinct and copied (found in TRAIN_FILE): % of the samples.
# OPTIONS in the environment goes to ./sample, TRAIN_OPTIONS to ./train.
checkpoint=$1 train=$2 files=$3 n=${4:-1000}
work=build/control
[ -f "$checkpoint" ] || { echo "control: '$checkpoint' is no file: make control CKPT=name.safetensors [TRAIN=text] [WORDS='files'] [N=1000]" >&2; exit 2; }
for file in "$train" $files; do
    [ -f "$file" ] || { echo "control: '$file' is no file: TRAIN=the text that the checkpoint was trained on, WORDS=files of words" >&2; exit 2; }
done
mkdir -p $work
grammar=
case $train in *simple-train.txt) grammar=yes; build/simple --words >$work/words.txt ;; esac

# The lines of a text that are labelled yes for every file, as a share of all, in %.
success() {
    rm -f $work/*.yes
    for file in $files; do
        build/evaluate --label --judge "$file" <"$1" | awk -F '\t' '{print $NF}' >$work/$(basename "$file").yes || exit 1
    done
    paste -d ' ' $work/*.yes | awk '{all++; yes += !/no/} END {printf "%.1f", all ? 100 * yes / all : 0}'
}
figure() { sed -n "s/.*\"samples\":{[^}]*\"$1\":\([^,}]*\).*/\1/p" $work/figures.json; }

guides= # of ./sample; a file name with a blank is one argument too many, and ./sample says so
for file in $files; do
    name=$work/$(basename "$file" .txt)
    build/evaluate --label --judge "$file" <"$train" >$name.tsv || exit 1
    ./train --classifier $name.tsv --denoiser "$checkpoint" --out $name.clf.safetensors $TRAIN_OPTIONS >$work/log 2>&1 || { tail -1 $work/log >&2; exit 1; }
    echo "$name.clf.safetensors: $(sed -n 's/.*  \(right [0-9 ]*%\).*/\1, by noise quartile/p' $work/log | tail -1)"
    guides="$guides --guide $name.clf.safetensors --label yes"
done
echo "in the training text: $(success "$train") %"
printf '%6s %8s %9s %9s %7s%s\n' scale seconds success distinct copied "${grammar:+  grammatical}"
for scale in 0 1 2 5 10 20; do
    start=$(date +%s.%N) # where date knows no %N, awk reads whole seconds
    ./sample "$checkpoint" -n "$n" $guides --guide-scale $scale $OPTIONS >$work/samples.txt 2>$work/err || { cat $work/err >&2; exit 1; }
    seconds=$(echo "$start $(date +%s.%N)" | awk '{printf "%.1f", $2 - $1}')
    build/evaluate "$train" --json <$work/samples.txt >$work/figures.json || exit 1
    printf '%6s %8s %8s%% %8.1f%% %6.1f%%' $scale "$seconds" "$(success $work/samples.txt)" "$(figure distinct_percent)" \
        "$(figure verbatim_percent)"
    [ "$grammar" ] && build/judge $work/words.txt "$train" <$work/samples.txt | sed -n 's/.*grammatical \([0-9.]*\) %.*/      \1 %/p' | tr -d '\n'
    echo
done
