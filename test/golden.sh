# golden.sh - have the bytes changed that the programs make? Called after make; with --update, by
# "make golden".
#
# One seed gives one result in each arithmetic class (fma or plain): checkpoints, samples, the
# numbers of --eval. Their hashes are in golden_bytes.txt, a row a case and class: NAME CLASS
# HASH. Every case runs with the programs as they were built and with those of build/plain, which
# make builds without -march. This test cannot say which bits are right; it says that they are
# others. After a change that is meant to do so: make golden, and the new rows go into the commit.
. test/count.sh
W=build/golden
ROWS=test/golden_bytes.txt
rm -rf $W && mkdir -p $W
OMP_NUM_THREADS=1 # networks as small as these are faster without threads
export OMP_NUM_THREADS

head -n 200 data/simple-train.txt >$W/train.txt
head -n 30 data/simple-test.txt >$W/test.txt
build/evaluate --label --judge test/words/colours.txt <$W/train.txt >$W/labeled.tsv
TINY="--hidden 16 --layers 2 --heads 2 --ffn 24 --emb-dim 8 --time-dim 8 --batch 8 --warmup 5
    --diffusion-steps 50"
SENTENCE=$(head -n 1 $W/train.txt)

# run PROGRAM options...: what it prints goes to $dir/out
run() {
    program=$1
    shift
    $programs/$program "$@" >$dir/out 2>$dir/err ||
        bad "golden bytes: $name ($class): $program fails: $(tail -n 1 $dir/err)"
}
# learn NAME options...: a case, the checkpoint that ./train writes
learn() { name=$1; shift; run train "$@" --out $dir/$name; names="$names $name"; }
# print NAME options...: a case, what ./sample prints
print() { name=$1; shift; run sample "$@"; mv $dir/out $dir/$name; names="$names $name"; }

# Makes the bytes of all cases in $dir, with the programs of the folder $programs; their names are
# in $names then.
all_cases() {
    names=
    for recipe in best templates original; do
        learn train-$recipe $TINY --recipe $recipe --steps 20 $W/train.txt
    done
    learn train-epsilon $TINY --predict epsilon --steps 20 $W/train.txt
    learn train-dropout $TINY --dropout 0.2 --steps 20 $W/train.txt
    learn train-second-moment $TINY --schedule-sampler loss-second-moment --diffusion-steps 4 \
        --steps 20 --val $W/test.txt --log-interval 5 $W/train.txt
    sed 's/,"seconds".*//' $dir/train-second-moment.jsonl >$dir/log
    names="$names log"

    # denoisers that have learnt a little, so that samples depend on what is done with them
    learn some-best $TINY --recipe best --steps 150 --lr 0.005 $W/train.txt
    learn some-original $TINY --recipe original --steps 150 --lr 0.005 $W/train.txt
    learn train-classifier --classifier $W/labeled.tsv --denoiser $dir/some-best --batch 8 \
        --steps 60 --warmup 5 --lr 0.002
    for recipe in best original; do
        print eval-$recipe $dir/some-$recipe --eval $W/test.txt
        print eval-$recipe-10 $dir/some-$recipe --eval $W/test.txt --eval-steps 10
    done
    print sample-original $dir/some-original -n 8
    best="$dir/some-best -n 8"
    print sample-best $best
    print sample-seed $best --seed 7
    print sample-steps $best --steps 10
    print sample-steps-sections $best --steps 10,5,3
    print sample-steps-ddim $best --steps ddim9
    print sample-eta-0 $best --eta 0
    print sample-eta-2 $best --eta 2
    print sample-top-p $best --top-p 0.8
    print sample-clamp-from $best --clamp-from 25
    print sample-clip-denoised $best --clip-denoised
    print sample-variance $best --variance fixed-large
    print sample-evidence-above $best --evidence-above 0.5
    print sample-prompt $best --prompt "the [MASK] [MASK] is [MASK]."
    print sample-length $best --length 5
    print sample-edit $best --edit "$SENTENCE" --strength 0.6
    guide="--guide $dir/train-classifier --label yes"
    print sample-guide $best $guide
}

# The rows of this machine, of both builds
for build in as-built plain; do
    programs=. peek=build/peek dir=$W/$build
    [ $build = plain ] && programs=build/plain peek=build/plain/peek
    class=$($peek class) || { bad "golden bytes: there is no $peek; make $peek"; continue; }
    mkdir $dir
    all_cases
    (cd $dir && ../../peek hash $names) >$dir/hashes || bad "golden bytes: a case is missing"
    printf '%s\n' $names | paste -d ' ' - $dir/hashes | sed "s/ / $class /" >>$W/rows
done
sort -u $W/rows >$W/here
for row in $(cut -d ' ' -f 1,2 $W/here | uniq -d | tr ' ' ,); do
    bad "golden bytes: $row: the two builds do not agree" # they may have one class
done
[ $failed -eq 0 ] || { finish; exit 1; }
[ -f $ROWS ] || : >$ROWS
classes=$(cut -d ' ' -f 2 $W/here | sort -u)
# The rows of the file that this machine cannot make, and those that it could
cp $ROWS $W/others
: >$W/known
for class in $classes; do
    grep " $class " $ROWS >>$W/known
    grep -v " $class " $W/others >$W/out
    mv $W/out $W/others
done

if [ "$1" = --update ]; then
    awk '{ row = $1 " " $2 }
        known { old[row] = $3; next }
        !(row in old) { print "new     " $0 }
        row in old && old[row] != $3 { print "changed " $0 ", was " old[row] }
        { delete old[row] }
        END { for (row in old) print "removed " row " " old[row] }
        ' known=1 $W/known known=0 $W/here | sort -k 2
    sort $W/here $W/others >$ROWS
    rm -rf $W
    exit
fi

decision="a change of bits must be a decision: make golden"
while read -r name class hash; do
    was=$(sed -n "s/^$name $class //p" $ROWS)
    if [ "$hash" = "$was" ]; then ok
    elif ! grep -q " $class " $ROWS; then skipped=$((skipped + 1))
    else bad "golden bytes: $name ($class): $hash, was ${was:-not there}; $decision"; fi
done <$W/here
while read -r name class hash; do
    grep -q "^$name $class " $W/here ||
        bad "golden bytes: $name ($class): was $hash, is a case no more; $decision"
done <$W/known
[ $skipped -eq 0 ] || echo "skipped: $skipped rows of a class that $ROWS does not know"

[ $failed -eq 0 ] && rm -rf $W
finish
