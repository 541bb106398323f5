# hostile.sh SECONDS - called by "make fuzz": each target of test/hostile.c for so long, by libFuzzer where clang has it,
# else by seeded changes. What a target ends on is kept in build/hostile.
. test/count.sh
W=build/hostile
SECONDS_EACH=${1:-60}
rm -rf $W && mkdir -p $W/checkpoint $W/tokenizer $W/text $W/options
head -n 40 data/simple-train.txt >$W/text/simple
head -n 40 data/greetings-train.txt >$W/text/greetings
head -n 30 test/words/lines.txt >$W/text/lines
printf -- '--whole\0003\000--number=0.5\000--string\000x\000--several\000a\000file' >$W/options/one
printf -- '-n\000two\000--flag\000--\000--whole' >$W/options/two
./train --hidden 4 --layers 1 --heads 1 --ffn 4 --emb-dim 2 --time-dim 2 --batch 4 --diffusion-steps 4 --steps 1 \
    --out $W/checkpoint/whole $W/text/greetings --vocab-size 9 2>/dev/null && rm $W/checkpoint/whole.jsonl &&
    ./train --export $W/checkpoint/whole $W/checkpoint/export || exit 1
# The same without a checksum, which hides what lies behind it; without what says that it is ours; a BERT
sed 's/"checksum"/"_hecksum"/' $W/checkpoint/whole >$W/checkpoint/unchecked
sed 's/"format"/"_ormat"/' $W/checkpoint/export >$W/checkpoint/foreign
header='{"embeddings.word_embeddings.weight":{"dtype":"F16","shape":[3,2],"data_offsets":[0,12]}'
header=$header',"embeddings.position_embeddings.weight":{"dtype":"BF16","shape":[4,2],"data_offsets":[12,28]}}'
printf "$(printf '\\%03o' ${#header})\\0\\0\\0\\0\\0\\0\\0%sabcdefghijklmnopqrstuvwxyzab" "$header" >$W/checkpoint/bert
printf '[CLS]\n[SEP]\n[PAD]\n[UNK]\n[MASK]\nthe\nun\n##able\nRed\n' >$W/tokenizer/vocab.txt
for kind in word original char bpe; do
    ./tokenizer train-$kind $W/text/greetings --vocab-size 300 --out $W/tokenizer/$kind.json 2>/dev/null || exit 1
done

SOURCES="test/hostile.c tdiff.c tokenizer.c"
# They do the same for every input, a million times: counting that took most of the time.
printf 'fun:unicode_init\nfun:is_dropped\n' >$W/uncounted
if clang -std=c99 -g -O1 -I. -DHAVE_LIBFUZZER -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fsanitize-coverage-ignorelist=$W/uncounted -o $W/run $SOURCES -lm 2>/dev/null; then
    how="libFuzzer"
    options="-max_total_time=$SECONDS_EACH -max_len=65536 -rss_limit_mb=0 -malloc_limit_mb=0 -timeout=20 -print_final_stats=1"
else
    how="seeded changes"
    ${CC:-cc} -std=c99 -g -O1 -I. -o $W/run $SOURCES -lm || exit 1
fi
for target in checkpoint tokenizer text options; do
    if [ "$how" = libFuzzer ]; then
        TARGET=$target ASAN_OPTIONS=allocator_may_return_null=1 $W/run $options -artifact_prefix=$W/$target- $W/$target >$W/out.txt 2>&1
    else TARGET=$target $W/run $SECONDS_EACH $W/$target/* >$W/out.txt 2>&1; fi
    if [ $? -eq 0 ]; then
        ok
        echo "$target, $how: $(sed -n 's/^stat::number_of_executed_units: *\(.*\)/\1 executions/p; t; /^[0-9]* executions/p' $W/out.txt)" \
            "$(grep -o 'cov: [0-9]*' $W/out.txt | tail -n 1)"
    else
        bad "$target: $(grep -E 'FAIL|ERROR|runtime error' $W/out.txt | head -n 1)"
        tail -n 3 $W/out.txt
    fi
done
rm -f build/hostile.*.tmp
finish
