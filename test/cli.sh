# cli.sh - the programs as a person meets them: options, bad input, resume, the same bytes everywhere.
# Runs in the project's folder after make; needs only sh, cmp and CC. Closes with "N passed, N failed, N skipped".
CC=${CC:-cc}
W=build/cli
. test/count.sh
rm -rf $W && mkdir -p $W

head -n 200 data/simple-train.txt >$W/small-train.txt
head -n 30 data/simple-test.txt >$W/small-test.txt
TINY="--overwrite --hidden 16 --layers 2 --heads 2 --ffn 24 --emb-dim 8 --time-dim 8 --batch 8 --diffusion-steps 50 --warmup 5"
SMALL_BUT_STEPS="$TINY --log-interval 5 --val $W/small-test.txt $W/small-train.txt"
SMALL="$TINY --steps 20 --log-interval 5 --val $W/small-test.txt $W/small-train.txt"

# ---- help, options -------------------------------------------------------------------------------
for program in train sample tokenizer; do
    check "$program --help" ./$program --help
    grep -q 'default' $W/out && ok || bad "$program --help shows no defaults"
    refuse 2 "unknown option --wrong" ./$program --wrong 3
    refuse 2 "unknown option -x" ./$program -x
done
refuse 2 "unknown option --step; did you mean --steps? See --help" ./train --step=7
refuse 2 "unknown option --promt; did you mean --prompt?" ./sample --promt x
refuse 2 "unknown option --epochs; here it is --steps: an epoch is" ./train --epochs 3
refuse 2 "unknown option --learning-rate; here it is --lr;" ./train --learning_rate 3
refuse 2 "unknown option --temperature; here it is --eta: above 1" ./sample --temperature 1
refuse 2 "unknown option --zzzzzz; see --help" ./sample --zzzzzz
for program in train sample tokenizer; do
    check "$program -h" ./$program -h
    cp $W/out $W/help
    check "$program --version" ./$program --version
    grep -q '^tdiff [0-9.]* (arithmetic: [a-z]*, threads: .*)$' $W/out && [ "$(wc -l <$W/out)" -eq 1 ] && ok || bad "$program --version"
    ./$program --help | cmp -s - $W/help && ok || bad "$program -h is not --help"
    ./$program --help all >$W/all-help
    awk 'length > 79 { exit 1 }' $W/all-help && ok || bad "$program --help is wider than 79 columns"
    [ $program = tokenizer ] || { [ $(wc -l <$W/help) -lt $(wc -l <$W/all-help) ] && ok || bad "$program --help has all options"; }
done
refuse 2 "--steps needs a value" ./train --steps
refuse 2 "-n: '12x' is no whole number from 1" ./sample -n 12x
refuse 2 "'1.5' is no whole number" ./train --batch 1.5
refuse 2 "is no real number" ./train --lr nan
refuse 2 "is no real number" ./train --lr 0.1x
refuse 2 "--batch: '-3' is no whole number from 1 to 65536" ./train --batch -3
refuse 2 "-n: '-1' is no whole number from 1" ./sample -n -1
refuse 2 "--hidden: '-16' is no whole number from 1" ./train --hidden -16
refuse 2 "is no whole number from" ./train --hidden 99999999999999999999
refuse 2 "is none of sqrt, cosine, linear" ./train --noise-schedule square
refuse 2 "one operand too many" ./train a b
refuse 2 "unknown option --corpus" ./train --corpus x
refuse 2 "a flag takes no value" ./sample --show=1
refuse 2 "--show forward needs --edit" ./sample --show forward
refuse 2 "one operand too many" ./sample --show forward forward forward --edit x
refuse 2 "'0.99995' is no real number from 0 to 0.9999" ./train --ema-rate 0.99995
refuse 1 "is not a multiple of heads" ./train $SMALL --out $W/no.safetensors --heads 3
refuse 1 "--max-positions 5: the longest sentence has 11" ./train $SMALL --out $W/no.safetensors --max-positions 5
refuse 1 "there are only --steps 20" ./train $SMALL --out $W/no.safetensors --stop-at 30
refuse 1 "cannot have 10 steps" ./train $SMALL --out $W/no.safetensors --diffusion-steps 10 --noise-schedule linear
refuse 1 "cannot have 20 steps: at t = 19 nothing is left of x_start" ./train $SMALL --predict epsilon \
    --out $W/no.safetensors --diffusion-steps 20 --noise-schedule linear

# ---- who waits for the tests is told what is running ------------------------------------------------
check "a part of the tests" sh test/run.sh corpora
grep -q '^== [0-9]*/[0-9]* corpora$' $W/out && [ "$(grep -c '^==' $W/out)" -eq 1 ] && tail -n 1 $W/out | grep -q '^[1-9][0-9]* passed, 0 failed' && ok ||
    bad "run.sh does not say which part is running: $(cat $W/out)"
sh test/run.sh corporal >$W/out 2>&1 && bad "a part of the tests that there is not passes" || ok
grep -qx "FAIL no part has a title like 'corporal'" $W/out && ok || bad "that there is no such part is not told"
MAKE=true sh test/mutants.sh "key ignores seed" >$W/out 2>$W/err </dev/null # without build/unit
grep -q '^making what 1 faults need' $W/err && grep -q '^1 of 1, key ignores seed by unit' $W/err && ok ||
    blame "mutants.sh does not say what it does"

# What --help says of options that need or exclude each other is what happens: a table drives both.
# helped PROGRAM: all of --help, an option a line
helped() { ./$1 --help all | awk '/^                    / { sub(/^ +/, " "); line = line $0; next } { print line; line = $0 } END { print line }'; }
# with PROGRAM OPTION: the option with some value that it takes
with() {
    helped $1 | awk -v name=$2 '$1 == "--" name || $1 == "-" name {
        value = $2 == "INT" ? 7 : $2 == "REAL" ? 0.5 : $2 ~ /^(TEXT|FILE|SENTENCE|WORD|KIND|LABEL|STEPS|N-M)$/ ? "x" : ""
        if ($2 == "NAME") { sub(/.*\(default /, ""); sub(/[); ].*/, ""); value = $0 }
        print (length(name) > 1 ? "--" : "-") name, value
    }'
}
for program in train sample; do
    helped $program | sed -n 's/^  -*\([a-z-]*\) .*(needs --\([a-z-]*\)[ )].*/\1 \2/p' >$W/needs
    while read -r name needed; do
        refuse 2 "$name needs --$needed" ./$program $(with $program $name)
    done <$W/needs
    helped $program | sed -n 's/^  -*\([a-z-]*\) .*(not with: \([a-z -]*\)).*/\1 \2/p' >$W/excludes
    while read -r name others; do
        for other in $others; do
            needed=$(sed -n "s/^$other //p" $W/needs)
            refuse 2 "$name has no effect with --$other" ./$program $(with $program $name) \
                $(with $program $other) $([ "$needed" ] && with $program $needed)
        done
    done <$W/excludes
    [ "$(wc -l <$W/needs)" -gt 1 ] && [ "$(wc -l <$W/excludes)" -gt 4 ] && ok ||
        bad "$program --help does not say what options need and exclude"
done

# ---- bad corpora and bad places -------------------------------------------------------------------
: >$W/empty.txt
printf '\n  \n\t\n\r\n' >$W/blank.txt
printf 'just one line of words\n' >$W/one.txt
printf 'a b\n\377\376\200 caf\303\251 \360\237\230\200 b\na\000b\n' >$W/bytes.txt
awk 'BEGIN { for (i = 0; i < 90; i++) printf "word%d ", i; print "end"; for (i = 0; i < 9; i++) print "a short line" }' >$W/long.txt
refuse 1 "none.txt: cannot open" ./train $W/none.txt
refuse 1 "data: cannot read" ./train data --out $W/no.safetensors
refuse 1 "empty.txt" ./train $W/empty.txt --out $W/no.safetensors
refuse 1 "blank.txt" ./train $W/blank.txt --out $W/no.safetensors
refuse 1 "none.txt: cannot open" ./train $SMALL --val $W/none.txt --out $W/no.safetensors
refuse 1 "blank.txt" ./train $SMALL --val $W/blank.txt --out $W/no.safetensors
refuse 1 "cannot write" ./train $SMALL --out $W/nowhere/x.safetensors
refuse 1 "$W: cannot write" ./train $SMALL --out $W
grep -q '^step' $W/err && bad "a directory as --out is noticed only after training" || ok
refuse 1 "the name of the output file is empty" ./train $SMALL --out ''
refuse 1 "This run has saved nothing in" ./train $SMALL --recipe original --lr 10 --clip 0 --warmup 0 --weight-decay 10 --out $W/nan.safetensors
check "a one-line corpus" ./train $TINY --steps 3 $W/one.txt --out $W/one.safetensors
check "a corpus of any bytes" ./train $TINY --steps 3 $W/bytes.txt --out $W/bytes.safetensors
check "long lines" ./train $TINY --steps 3 $W/long.txt --seq-len 64 --out $W/long.safetensors
grep -q "1 longer lines were cut to 64 positions, which drops [0-9.]* % of the tokens; 99 % of the lines have [0-9]* pos" $W/err &&
    ok || bad "cut lines are not reported"
check "sampling at the cut length" ./sample $W/long.safetensors -n 2 --steps 5 --length 62
[ -e $W/no.safetensors ] && bad "a refused run left a checkpoint" || ok

# ---- the file as it comes: what looks odd about it is said ---------------------------------------
noted() { # MESSAGE: odd.txt as a corpus gets this note
    check "a text that gets a note" ./train $TINY --steps 1 $W/odd.txt --out $W/odd.safetensors
    grep -q "odd.txt: $1" $W/err && ok || { bad "no note: $1"; cat $W/err; }
}
printf 'the caf\351 is open\nthe red fox\n' >$W/odd.txt
noted "1 bytes are no UTF-8, the first in line 1; if this is Latin-1: iconv"
printf '{"a": 1}\n{"a": 2}\n' >$W/odd.txt
noted "this looks like JSON"
printf '<p>\nhello\n</p>\n' >$W/odd.txt
noted "this looks like HTML"
printf 'a,b,c\n1,2,3\n4,5,6\n7,8,9\nx,y,z\n' >$W/odd.txt
noted "this looks like CSV"
printf 'red\ta\nfox\tb\nfig\tc\nbee\td\nyes\te\n' >$W/odd.txt
noted "this looks like tab-separated values"
printf 'a\001\002b\n\003c\n' >$W/odd.txt
noted "this looks like a binary file"
printf 'maria\nanna\njohn, yes\n' >$W/odd.txt
noted "most lines are one word; with --tokenizer char"
awk 'BEGIN { for (i = 0; i < 30; i++) printf "%c%c %cx%c\n", 97 + i % 26, 97 + i / 26, 97 + i / 26, 97 + i % 26 }' >$W/odd.txt
noted "nearly every word occurs once"
awk 'BEGIN { for (i = 0; i < 1200; i++) { j = i % 600; printf "the x%c%c sat\n", 97 + j % 26, 97 + j / 26 } }' >$W/odd.txt
noted "3600 words; 1 steps of 8 sentences see each about 0.0 times"
noted "that is seldom; --steps 1500 sees each ten times"
noted "600 of 602 words occur once or twice, too seldom to learn; --min-frequency 3 makes them"
cat $W/odd.txt $W/odd.txt >$W/twice.txt && mv $W/twice.txt $W/odd.txt
noted "7200 words; 1 steps"
grep -q "seldom to learn" $W/err && bad "words that are not rare are called rare" || ok
awk 'BEGIN { for (i = 0; i < 200; i++) print "a b c"; for (i = 0; i < 60; i++) printf "a "; print "" }' >$W/odd.txt
noted "of 100 sentences 99 have 5 positions at most, the longest 62; --seq-len 5 saves memory"
check "few sentences" ./train $TINY --steps 2 --batch 1024 $W/one.txt --out $W/odd.safetensors
grep -q "one.txt: these are few sentences, it may learn them by heart" $W/err && ok || blame "few sentences are not told"
check "resumed" ./train --resume $W/odd.safetensors --steps 3
grep -q "see each about" $W/err && bad "what was told is told again with --resume" || ok
{ awk 'BEGIN { for (i = 0; i < 99; i++) print "a line, one of many" }'
  awk 'BEGIN { for (i = 0; i < 1000; i++) printf "long "; print "" }'; } >$W/odd.txt
noted "1 longer lines were cut to 512 positions, which drops 27.3 % of the tokens; 99 % of the lines have 8 pos"
printf 'the red fox, the red bee\n' >$W/few.txt
printf 'the red ant\nthe ant, an owl\n' >$W/other.txt
check "unknown words" ./train $TINY --steps 1 $W/few.txt --val $W/other.txt --min-frequency 2 --out $W/odd.safetensors
grep -q "few.txt: 42.9 % of the words are not in the vocabulary, but \[UNK\]: 'fox' (1), ',' (1), 'bee' (1)" $W/err && ok ||
    { bad "unknown words of the corpus are not told"; cat $W/err; }
grep -q "other.txt: 62.5 % of the words .*: 'ant' (2), ',' (1), 'an' (1), 'owl' (1)" $W/err && ok ||
    { bad "unknown words of the held-out text are not told"; cat $W/err; }
printf 'the red\nthe red\n\nthe odd ant bee cat dog elk fly gnu hen\r\n' >$W/odd.txt
check "unknown words of a cut line" ./train $TINY --steps 1 $W/odd.txt --min-frequency 2 --seq-len 5 --out $W/odd.safetensors
grep -q "odd.txt: 28.6 % of the words .*: 'odd' (1), 'ant' (1)$" $W/err && ok ||
    { bad "unknown words of a cut line are not those that were kept"; cat $W/err; }
check "plain text" ./train $TINY --steps 1 --weight-decay 0 $W/one.txt --out $W/odd.safetensors
[ "$(wc -l <$W/err)" -le 7 ] && ok || { bad "a note on plain text"; cat $W/err; }
printf '\357\273\277the red fox\nthe red bee\n' >$W/mark.txt
printf 'the red fox\rthe red bee\r' >$W/mac.txt
printf 'the red fox\nthe red bee\n' >$W/unix.txt
for text in unix mark mac; do
    cp $W/$text.txt $W/any.txt # its name is in the checkpoint
    check "a text of $text" ./train $TINY --steps 2 $W/any.txt --out $W/$text.safetensors
    cmp -s $W/unix.safetensors $W/$text.safetensors && ok || bad "$text.txt is not read as unix.txt"
    check "a vocabulary of $text" ./tokenizer train-word $W/any.txt --out $W/$text.json
    cmp -s $W/unix.json $W/$text.json && ok || bad "./tokenizer does not read $text.txt as unix.txt"
done
refuse 1 "has no name: --out is needed" sh -c "./train $TINY --steps 2 /dev/stdin <$W/any.txt"
# NFKD leaves ASCII as it is; other text is refused, not half-done
printf '%s' '{"normalizer": {"type": "NFKD"}, "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": {"type": "WordLevel",' \
    ' "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4, "the": 5, "red": 6, "fox": 7, "bee": 8}}}' >$W/nfkd.json
check "NFKD" ./train $TINY --steps 2 --tokenizer $W/nfkd.json $W/unix.txt --out $W/nfkd.safetensors
refuse 1 "--prompt: the tokenizer asks for NFKD" ./sample $W/nfkd.safetensors --prompt "the café [MASK]"
printf 'the red fox\nthe red café\n' >$W/cafe.txt
refuse 1 "cafe.txt: line 2: the tokenizer asks for NFKD" ./sample $W/nfkd.safetensors --eval $W/cafe.txt
refuse 1 "line 1: the tokenizer asks for NFKD" sh -c "tail -n 1 $W/cafe.txt | ./tokenizer encode $W/nfkd.json"
printf 't\0h\0e\0 \0r\0e\0d\0\n\0' >$W/utf16.txt
refuse 1 "utf16.txt: this is UTF-16; expected UTF-8" ./train $TINY --steps 1 $W/utf16.txt
refuse 1 "utf16.txt: this is UTF-16; expected UTF-8" ./tokenizer train-word $W/utf16.txt --out $W/no.json
printf '\377\376t\0h\0e\0' >$W/utf16.txt
refuse 1 "utf16.txt: this is UTF-16; expected UTF-8" ./train $TINY --steps 1 $W/utf16.txt

# Of what a model draws nothing is [UNK], though a third of what it has learnt is.
awk 'BEGIN { for (i = 0; i < 40; i++) printf "the %cx%c fox\n", 97 + i % 20, 97 + i / 20 }' >$W/rare.txt
check "a text of rare words" ./train $TINY --steps 200 --lr 0.01 --min-frequency 2 $W/rare.txt --out $W/rare.safetensors
check "its samples" ./sample $W/rare.safetensors -n 50 --steps 10
grep -q '\[UNK\]' $W/out && bad "[UNK] is drawn" || ok
check "--allow-unk" ./sample $W/rare.safetensors -n 50 --steps 10 --allow-unk
[ "$(grep -c '\[UNK\]' $W/out)" -gt 25 ] && ok || bad "--allow-unk: no [UNK] is drawn"
# the bytes of its words are t h e f o x, and two ends; each of 256 counts one more
check "--eval of unknown words" ./sample $W/rare.safetensors --eval $W/rare.txt --eval-steps 5
awk 'function bits(n) { return -log(n / 264) / log(2) }
    NR == FNR { for (i = 1; i <= 3; i++) sum += bits(index("thefox", substr($2, i, 1)) ? 2 : 1); sum += bits(3); next }
    $1 == "bound" { plain = $2 }
    / 33.33 % of the words are \[UNK\]/ { spelt = $(NF - 1) }
    END { off = spelt - plain - sum / 40; exit !(off < 0.02 && off > -0.02) }' $W/rare.txt $W/out && ok ||
    { bad "[UNK] costs nothing in the bound"; cat $W/out; }

# ---- training, resume, sampling ---------------------------------------------------------------------
check "training" ./train $SMALL --out $W/a.safetensors
grep -q "^step 20/20  loss [0-9.]*.*  val [0-9.]* ([+-][0-9.]*)  [0-9]* tokens/s  0s left$" $W/err && ok || bad "the progress line lacks something"
[ $(grep '^step ' $W/err | awk '{ print length }' | sort -n | tail -n 1) -le 79 ] && ok || bad "a progress line is longer than 79 columns"
grep '^step ' $W/err | grep -q ' tT ' && bad "the progress line has a term that is 0 throughout" || ok
[ "$(grep -c '"loss_by_noise_quartile":\[.*"val_loss":.*"seconds":' $W/a.jsonl)" = 4 ] && ok || bad "the log lacks lines"
check "underscores, = and operands anywhere" ./train $W/small-train.txt --hidden=16 --layers 2 --heads 2 --ffn 24 --emb_dim 8 \
    --time_dim=8 --batch 8 --diffusion_steps 50 --warmup 5 --steps 20 --val $W/small-test.txt --out $W/b.safetensors
check "and the same result" cmp $W/a.safetensors $W/b.safetensors
check "stop" ./train $SMALL --stop-at 12 --out $W/c.safetensors
cmp -s $W/a.safetensors $W/c.safetensors && bad "--stop-at did not stop" || ok
refuse 1 "--lr 0.5: $W/c.safetensors was trained with 0.002" ./train $W/small-train.txt --resume $W/c.safetensors --lr 0.5
refuse 1 "--seed 2: $W/c.safetensors was trained with 1" ./train $W/small-train.txt --resume $W/c.safetensors --seed 2
refuse 1 "that was $W/small-train.txt, of $(wc -c <$W/small-train.txt | tr -d ' ') bytes" \
    ./train $W/small-test.txt --resume $W/c.safetensors
check "resume, without a word of the text and --val" ./train --resume $W/c.safetensors --threads 2
grep -q ' val ' $W/err && ok || bad "--resume forgets --val"
check "stop and resume give the same bytes" cmp $W/a.safetensors $W/c.safetensors
check "a finished run" ./train $W/small-train.txt --resume $W/a.safetensors
check "is left as it is" cmp $W/a.safetensors $W/c.safetensors
refuse 1 "--steps 15: $W/a.safetensors has done 20" ./train --resume $W/a.safetensors --steps 15
check "a finished run goes on" ./train --resume $W/a.safetensors --steps 40 --out $W/longer.safetensors
grep -q "falls to 0 at step 40, not 20" $W/err && ok || bad "the new horizon is not told"
check "and is stopped" ./train --resume $W/a.safetensors --steps 40 --stop-at 33 --out $W/parts.safetensors
check "and resumed" ./train --resume $W/parts.safetensors
same $W/longer.safetensors $W/parts.safetensors "a run that goes on for longer: other bytes in two parts"
check "--info" ./sample --info $W/parts.safetensors
grep -q "earlier-steps *20 until step 20" $W/out && ok || bad "the checkpoint does not say that it had another horizon"
sed 's/red/blue/' $W/small-test.txt >$W/other-test.txt
check "another --val" ./train --resume $W/a.safetensors --steps 21 --val $W/other-test.txt --out $W/other-val.safetensors
grep -q "not the held-out text of" $W/err && ok || bad "another held-out text is not told"
cp $W/small-train.txt $W/moved.txt
check "the text under another name" ./train $W/moved.txt --resume $W/a.safetensors --steps 21 --out $W/moved.safetensors
echo more >>$W/moved.txt
refuse 1 "not the text that" ./train --resume $W/moved.safetensors --steps 22
# checkpoints along the way: what a run that stops there leaves
check "--keep-every" ./train $SMALL --keep-every 6 --out $W/k.safetensors
for step in 6 12 18; do
    ./train $SMALL --stop-at $step --out $W/k-stop.safetensors 2>$W/err
    same $W/k-stop.safetensors $W/k-$step.safetensors "--keep-every does not keep step $step as --stop-at $step does"
done
same $W/a.safetensors $W/k.safetensors "--keep-every changes the result"
[ "$(ls $W | grep -c '^k-[0-9]*.safetensors$')" = 3 ] && ok || bad "--keep-every 6 keeps other steps than 6, 12 and 18 of 20"
cp $W/k-6.safetensors $W/k-before
cp $W/k-12.safetensors $W/k.safetensors
check "--keep-every, resumed" ./train $W/small-train.txt --resume $W/k.safetensors --keep-every 6
rm $W/k.safetensors $W/k.jsonl
refuse 1 "k-6.safetensors: is there already and is a checkpoint; --keep-every would replace it" \
    ./train ${SMALL#--overwrite} --keep-every 6 --out $W/k.safetensors
same $W/k-before $W/k-6.safetensors "a refused run changes a checkpoint that was kept"
[ -e $W/k.jsonl ] && bad "a refused run leaves a log" || ok
cp $W/small-train.txt $W/k-18.safetensors
refuse 1 "k-18.safetensors: is there already and is text" ./train $SMALL --keep-every 6 --out $W/k.safetensors
refuse 1 "k-18.safetensors: the output would overwrite this input" ./train $TINY --steps 20 $W/k-18.safetensors --keep-every 6 --out $W/k.safetensors
# what depends on the text where it is not given: said, recorded, and the same as if it were given
UNSUITED="$(echo "$TINY" | sed 's/--batch 8//') --steps 3"
check "short sentences of few words" ./train $UNSUITED $W/small-train.txt --out $W/suit.safetensors
grep -q "by this text" $W/err && bad "a text of short sentences of few words changes a default" || ok
awk 'BEGIN { for (i = 0; i < 400; i++) print "the red fig is hot and the blue pear is cold so we eat it now"
    print "once upon a time there was an owl" }' >$W/suit.txt
check "defaults by the text" ./train $UNSUITED $W/suit.txt --out $W/suit.safetensors
grep -q '^by this text, unless given: --min-frequency 3 --batch 16$' $W/err && ok || { bad "what the text suggests is not told"; cat $W/err; }
check "and recorded" sh -c "./sample --info $W/suit.safetensors | tr -s ' ' | grep -c -e '^ batch 16$' -e '^ min-frequency 3$' -e '^ vocabulary 19$'"
[ "$(cat $W/out)" = 3 ] && ok || bad "what the text suggests is not in the checkpoint"
check "the same, given" ./train $UNSUITED $W/suit.txt --min-frequency 3 --batch 16 --out $W/given.safetensors
same $W/suit.safetensors $W/given.safetensors "what the text suggests differs from what is given"
check "other values, given" ./train $UNSUITED $W/suit.txt --min-frequency 1 --batch 32 --out $W/given.safetensors
grep -q "by this text" $W/err && bad "what is given is told" || ok
grep -q "suit.txt: 401 sentences, 27 words" $W/err && ok || bad "the text overrules --min-frequency 1"
awk 'BEGIN { for (i = 0; i < 10100; i++) printf "%c%c%c\n", 97 + i % 26, 97 + i / 26 % 26, 97 + i / 676 }' >$W/many.txt
check "more words than a vocabulary has" ./train $UNSUITED $W/many.txt --dry-run --out $W/given.safetensors
grep -q '^by this text, unless given: --vocab-size 10000$' $W/err && ok || bad "that the vocabulary is cut is not told"
check "a vocabulary that is given" ./train $UNSUITED $W/many.txt --vocab-size 100 --dry-run --out $W/given.safetensors
grep -q "by this text" $W/err && bad "the size that is given is told" || ok
rm $W/many.txt
# a long run has a smaller rate: said, recorded, and the same as if it were given
RATE='^by the number of steps, unless given: --lr'
check "a run that is not long" ./train $SMALL_BUT_STEPS --steps 10000 --stop-at 3 --out $W/long.safetensors
grep -q "$RATE" $W/err && bad "10000 steps change the rate" || ok
check "a long run" ./train $SMALL_BUT_STEPS --steps 18000 --stop-at 3 --out $W/long.safetensors
grep -q "$RATE 0.00149$" $W/err && ok || { bad "the rate of a long run is not told"; cat $W/err; }
check "the same, given" ./train $SMALL_BUT_STEPS --steps 18000 --stop-at 3 --lr 0.00149 --out $W/given.safetensors
grep -q "$RATE" $W/err && bad "a rate that is given is told" || ok
same $W/long.safetensors $W/given.safetensors "the rate of a long run differs from what is given"
check "gone on with for longer" ./train --resume $W/long.safetensors --steps 40000 --stop-at 6
grep -q "$RATE" $W/err && bad "--resume changes the rate" || ok
check "its rate" sh -c "./sample --info $W/long.safetensors | tr -s ' ' | grep -x ' lr 0.00149'"
# how fast weights decay follows from the steps and the text: said, recorded, the same as if given
DECAY='^by the number of steps, unless given: --weight-decay'
check "a text that is seen 20 times" ./train $SMALL_BUT_STEPS --steps 500 --stop-at 3 --out $W/decay.safetensors
grep -q "$DECAY 0.5$" $W/err && ok || { bad "the decay is not told"; cat $W/err; }
check "the same, given" ./train $SMALL_BUT_STEPS --steps 500 --stop-at 3 --weight-decay 0.5 --out $W/given.safetensors
same $W/decay.safetensors $W/given.safetensors "the decay differs from what is given"
check "another, given" ./train $SMALL_BUT_STEPS --steps 500 --stop-at 3 --weight-decay 0.1 --out $W/given.safetensors
grep -q "$DECAY" $W/err && bad "a decay that is given is told" || ok
check "gone on with for longer" ./train --resume $W/decay.safetensors --steps 10000 --stop-at 6
grep -q "$DECAY" $W/err && bad "--resume changes the decay" || ok
check "its decay" sh -c "./sample --info $W/decay.safetensors | tr -s ' ' | grep -x ' weight-decay 0.5'"
check "more steps" ./train $TINY data/simple-train.txt --steps 8001 --stop-at 3 --out $W/given.safetensors
grep -q "$DECAY 0.24997$" $W/err && ok || bad "8001 steps do not halve the decay"
for little in "--steps 501" "--steps 500 --predict x-start" "--steps 500 --init $W/decay.safetensors"; do
    check "little decay: $little" ./train $SMALL_BUT_STEPS $little --stop-at 3 --out $W/given.safetensors
    grep -q "$DECAY" $W/err && bad "$little changes the decay" || ok
    check "its decay" sh -c "./sample --info $W/given.safetensors | tr -s ' ' | grep -x ' weight-decay 0.01'"
done
# the least noisy steps are left out by default: recorded, kept by --resume, and in --eval they are back;
# a checkpoint of a version that knew nothing of it has them all
check "steps left out" ./train $SMALL_BUT_STEPS --steps 8 --stop-at 4 --out $W/tmin.safetensors
check "its share" sh -c "./sample --info $W/tmin.safetensors | tr -s ' ' | grep -x ' t-min 0.15'"
refuse 1 "--t-min 0.2: $W/tmin.safetensors was trained with 0.15" ./train --resume $W/tmin.safetensors --t-min 0.2
check "some of them" ./sample $W/tmin.safetensors -n 1
grep -q "; 43 of 50 diffusion steps$" $W/err && ok || { bad "--t-min 0.15 does not leave 43 of 50 steps"; cat $W/err; }
check "the bound" ./sample $W/tmin.safetensors --eval $W/small-test.txt
grep -q "; 50 of 50 diffusion steps$" $W/err && ok || bad "--eval leaves steps out"
sed 's/"t-min":"0.15"/"t-old":"0.15"/' $W/tmin.safetensors >$W/old.safetensors
check "an old checkpoint" ./sample $W/old.safetensors -n 1
grep -q "; 50 of 50 diffusion steps$" $W/err && ok || bad "steps of an old checkpoint are left out"
refuse 1 "--t-min 0.15: $W/old.safetensors was trained with 0" ./train --resume $W/old.safetensors --t-min 0.15
for all in "--t-min 0" "--recipe templates" "--recipe original"; do
    check "no steps left out: $all" ./train $SMALL $all --out $W/given.safetensors
    check "all of them" ./sample $W/given.safetensors -n 1
    grep -q "; 50 of 50 diffusion steps$" $W/err && ok || bad "$all leaves steps out"
done
# --init and a classifier go on with the steps of their checkpoint; --init takes others where they are given
check "other steps left out" ./train $SMALL_BUT_STEPS --steps 4 --t-min 0.3 --out $W/tmin.safetensors
check "--init" ./train --init $W/tmin.safetensors $W/small-train.txt --steps 2 --overwrite --out $W/given.safetensors
check "its share" sh -c "./sample --info $W/given.safetensors | tr -s ' ' | grep -x ' t-min 0.3'"
check "--init, given" ./train --init $W/tmin.safetensors $W/small-train.txt --t-min 0.2 --steps 2 --overwrite --out $W/given.safetensors
check "its share" sh -c "./sample --info $W/given.safetensors | tr -s ' ' | grep -x ' t-min 0.2'"
head -n 20 data/simple-labeled.tsv >$W/tmin.tsv
check "a classifier" ./train --classifier $W/tmin.tsv --denoiser $W/tmin.safetensors --steps 2 --out $W/tmin.clf.safetensors
check "its share" sh -c "./sample --info $W/tmin.clf.safetensors | tr -s ' ' | grep -x ' t-min 0.3'"
# neighbours: on by default, recorded, kept by all that goes on with a checkpoint; one of a version that
# knew nothing of them has none
check "neighbours" ./train $SMALL_BUT_STEPS --steps 8 --stop-at 4 --out $W/beside.safetensors
check "they are on" sh -c "./sample --info $W/beside.safetensors | tr -s ' ' | grep -x ' neighbours on'"
refuse 1 "--neighbours off: $W/beside.safetensors was trained with on" ./train --resume $W/beside.safetensors --neighbours off
check "samples" sh -c "./sample $W/beside.safetensors -n 3 >$W/beside.txt"
sed 's/"neighbours":"on"/"neighbourly":"o"/' $W/beside.safetensors >$W/old.safetensors
check "an old checkpoint" sh -c "./sample $W/old.safetensors -n 3 >$W/old.txt"
cmp -s $W/beside.txt $W/old.txt && bad "an old checkpoint is sampled with neighbours" || ok
refuse 1 "--neighbours on: $W/old.safetensors was trained with off" ./train --resume $W/old.safetensors --neighbours on
check "none" ./train $SMALL_BUT_STEPS --steps 4 --neighbours off --out $W/alone.safetensors
check "--init" ./train --init $W/alone.safetensors $W/small-train.txt --steps 2 --overwrite --out $W/given.safetensors
check "none either" sh -c "./sample --info $W/given.safetensors | tr -s ' ' | grep -x ' neighbours off'"
check "a classifier" ./train --classifier $W/tmin.tsv --denoiser $W/alone.safetensors --steps 2 --out $W/alone.clf.safetensors
check "none either" sh -c "./sample --info $W/alone.clf.safetensors | tr -s ' ' | grep -x ' neighbours off'"
for none in templates original; do
    check "$none has none" ./train $SMALL --recipe $none --out $W/given.safetensors
    check "none either" sh -c "./sample --info $W/given.safetensors | tr -s ' ' | grep -x ' neighbours off'"
done
# --minutes: the result is that of its --steps
for minutes in 0.002 0.04; do
    check "--minutes" ./train $SMALL_BUT_STEPS --minutes $minutes --out $W/m.safetensors
    steps=$(sed -n "s/^--minutes $minutes: .* so this is --steps \([0-9]*\)$/\1/p" $W/err)
    echo "$steps" >>$W/steps.txt
done
[ "$(head -n 1 $W/steps.txt)" -lt "$steps" ] && ok || bad "--minutes: more minutes are not more steps: $(cat $W/steps.txt)"
check "--info" ./sample --info $W/m.safetensors
[ "$(grep -c "^  steps\(-done\)\{0,1\} *$steps\$" $W/out)" = 2 ] && ok || bad "--minutes: the checkpoint does not say its $steps steps"
check "those steps" ./train $SMALL_BUT_STEPS --steps $steps --out $W/n.safetensors
same $W/m.safetensors $W/n.safetensors "--minutes gives another result than --steps $steps"
# salad or memory: the figures beside the loss
MANY="$TINY --batch 64"
check "figures" ./train $MANY --steps 340 --log-interval 10 --val $W/small-test.txt $W/small-train.txt --out $W/m.safetensors
figures() { sed -n "s/.*\"step\":\([0-9]*\),.*\"pairs_never_seen\":\([0-9.]*\),\"copied\":\([0-9.]*\),\"val_pairs_never_seen\":\([0-9.]*\),.*/$1/p" $W/m.jsonl; }
[ "$(figures '\1' | tr '\n' ' ')" = "170 340 " ] && ok || bad "the figures are not those of steps 170 and 340 of 340: $(figures '\1')"
[ "$(figures '\4' | sort -u)" = 12.6087 ] && ok || bad "of the held-out pairs 12.6087 % are new (build/evaluate), not $(figures '\4')"
[ "$(grep -c 'pairs never seen [0-9]* % (val [0-9]*), copied [0-9]* %' $W/err)" = 2 ] && ok || bad "the figures are not in the progress lines"
figures '\2 \3' | awk '{ bad += $1 < 10 || $2 > 10 } END { exit bad }' && ok || bad "salad is not told: $(figures '\2 \3')"
check "without the first figures" ./train $MANY --steps 340 --log-interval 340 --val $W/small-test.txt $W/small-train.txt --out $W/n.safetensors
same $W/m.safetensors $W/n.safetensors "the figures beside the loss change the result"
printf 'the red fox is hot\nno big dog was cold here\n' >$W/two.txt
printf 'the big fox is cold here\n' >$W/held.txt
check "memory" ./train $MANY --steps 400 --val $W/held.txt $W/two.txt --out $W/m.safetensors --log-interval 20
[ "$(figures '\2 \3 \4' | tail -n 1)" = "0 100 42.8571" ] && ok ||
    bad "two lines known by heart are not told: $(figures '\2 \3 \4')"
check "dropout, save-interval" ./train $SMALL --dropout 0.2 --save-interval 7 --out $W/d.safetensors
check "dropout, resumed" sh -c "./train $SMALL --dropout 0.2 --stop-at 9 --out $W/e.safetensors && ./train $W/small-train.txt --resume $W/e.safetensors"
check "dropout: the same bytes" cmp $W/d.safetensors $W/e.safetensors
cmp -s $W/a.safetensors $W/d.safetensors && bad "dropout does nothing" || ok

# A signal lets the step end, then saves and exits; the run can go on
./train $TINY --steps 100000 --log-interval 100000 $W/small-train.txt --out $W/int.safetensors 2>$W/err &
pid=$!
sleep 1
kill -TERM $pid
wait $pid
[ $? -eq 143 ] && ok || bad "SIGTERM: exit code"
check "SIGTERM: a whole checkpoint" ./sample $W/int.safetensors -n 1 --steps 5

check "sampling" ./sample $W/a.safetensors -n 70 --steps 8 --seed 3
cp $W/out $W/all.txt
[ "$(wc -l <$W/all.txt)" -eq 70 ] && ok || bad "not one line a sample"
check "fewer samples" ./sample $W/a.safetensors -n 66 --steps 8 --seed 3 --threads 1
head -n 66 $W/all.txt | cmp -s - $W/out && ok || bad "sample i depends on -n or --threads"
check "another seed" ./sample $W/a.safetensors -n 66 --steps 8 --seed 4
cmp -s $W/all.txt $W/out && bad "the seed does nothing" || ok
check "--show" ./sample $W/a.safetensors -n 2 --steps 8 --seed 3 --show
head -n 2 $W/all.txt | cmp -s - $W/out && [ "$(grep -c '^t ' $W/err)" = 16 ] && ok || bad "--show"
check "--out" ./sample $W/a.safetensors -n 70 --steps 8 --seed 3 --out $W/samples.txt
check "--out writes the same" cmp $W/all.txt $W/samples.txt
check "--variance" ./sample $W/a.safetensors -n 70 --steps 8 --seed 3 --variance fixed-small
cp $W/out $W/ddpm.txt
check "--variance" ./sample $W/a.safetensors -n 70 --steps 8 --seed 3 --variance fixed-large
cmp -s $W/ddpm.txt $W/out && bad "--variance does nothing" || ok
check "the usual steps" ./sample $W/a.safetensors -n 70 --steps 8 --seed 3 --eta 2 --ahead 2
same $W/all.txt $W/out "the default of --eta is not 2 with --ahead 2"
check "without --ahead" ./sample $W/a.safetensors -n 70 --steps 8 --seed 3 --eta 2
cmp -s $W/all.txt $W/out && bad "--ahead does nothing" || ok
# varied steps, of a model that has learnt a little
check "150 steps" ./train $TINY --steps 150 --lr 0.005 $W/small-train.txt --out $W/little.safetensors
LITTLE="./sample $W/little.safetensors -n 70 --seed 3"
check "40 usual steps" $LITTLE --steps 40
cp $W/out $W/forty.txt
check "the same, given" $LITTLE --steps 40 --eta 2 --ahead 2 --vary 0.6
same $W/forty.txt $W/out "the default of --vary is not 0.6 of 40 steps"
check "--eta is given" $LITTLE --steps 40 --eta 2 --ahead 2
cp $W/out $W/given.txt
cmp -s $W/forty.txt $W/given.txt && bad "--vary does nothing" || ok
check "--vary 0" $LITTLE --steps 40 --vary 0
same $W/given.txt $W/out "with --eta steps are varied, or with --vary 0"
check "39 usual steps" $LITTLE --steps 39
cp $W/out $W/fewer.txt
check "--vary of 39 steps" $LITTLE --steps 39 --vary 0.6
cmp -s $W/fewer.txt $W/out && bad "39 steps are varied" || ok
refuse 2 "is no real number from 0 to 1" $LITTLE --vary 1.5
check "--clip-denoised" ./sample $W/a.safetensors -n 2 --steps 8 --clip-denoised
for option in "--eta 0" "--top-p 0.5" "--clamp-from 50" "--steps ddim9"; do
    check "$option" ./sample $W/a.safetensors -n 70 --steps 8 --seed 3 $option
    cmp -s $W/all.txt $W/out && bad "$option does nothing" || ok
done
refuse 2 "--top-p is 0 or at least 0.01" ./sample $W/a.safetensors --top-p 0.001
refuse 2 "--top-p has no effect with --eta 0" ./sample $W/a.safetensors --top-p 1 --eta 0
refuse 2 "--variance has no effect with --eta" ./sample $W/a.safetensors --variance fixed-large --eta 1
check "--prompt" ./sample $W/a.safetensors -n 5 --steps 8 --prompt "the [MASK] [MASK] is [MASK]."
[ "$(grep -c '^the .* is .*' $W/out)" -ge 1 ] && [ "$(grep -c '^the' $W/out)" = 5 ] && ok || bad "--prompt does not keep the words"
check "--edit, a little" ./sample $W/a.safetensors -n 2 --steps 43 --edit "$(head -n 1 $W/small-train.txt)" --strength 0.02
refuse 1 "no [MASK]" ./sample $W/a.safetensors --prompt "the red"
refuse 1 "--edit: a [MASK] is for --prompt" ./sample $W/a.safetensors --edit "the red [MASK]"
refuse 1 "--prompt: 'hott' is not in the vocabulary; near it are 'hot', " ./sample $W/a.safetensors --prompt "the [MASK] is hott"
refuse 1 "--prompt: 12 positions with [CLS] and [SEP], the model has 11" ./sample $W/a.safetensors --prompt "[MASK] [MASK] [MASK] [MASK] [MASK] [MASK] [MASK] [MASK] [MASK] [MASK]"
refuse 2 "--prompt has no effect with --edit" ./sample $W/a.safetensors --prompt "[MASK]" --edit "the"
printf 'the [MASK] is hot\n \r\n\nthe red [MASK] is\r\nthe [MASK]' >$W/prompts.txt
check "--prompts" ./sample $W/a.safetensors --prompts $W/prompts.txt -n 40 --steps 8
cp $W/out $W/of-lines.txt
{ ./sample $W/a.safetensors --steps 8 -n 40 --prompt "the [MASK] is hot" &&
    ./sample $W/a.safetensors --steps 8 -n 40 --first 40 --prompt "the red [MASK] is" &&
    ./sample $W/a.safetensors --steps 8 -n 40 --first 80 --prompt "the [MASK]"; } >$W/each.txt 2>$W/err
same $W/of-lines.txt $W/each.txt "--prompts does not draw what --prompt draws, line by line"
check "--prompts, one of each" ./sample $W/a.safetensors --prompts $W/prompts.txt --steps 8
[ "$(wc -l <$W/out)" = 3 ] && ok || bad "--prompts alone does not draw one sentence of each line"
check "--prompts --continue" sh -c "printf 'the red\nthe\nthe red' | ./sample $W/a.safetensors --prompts - -n 40 --steps 8 --continue"
awk '{ red = /^the red / } NR <= 40 || NR > 80 { bad += !red } NR > 40 && NR <= 80 { other += !red && /^the / }
    END { exit !(NR == 120 && !bad && other) }' $W/out && ok || bad "--continue loses a line of --prompts"
printf 'the [MASK]\n\nthe [MASK] is hott\n' >$W/prompts.txt
refuse 1 "prompts.txt: line 3: 'hott' is not in the vocabulary" ./sample $W/a.safetensors --prompts $W/prompts.txt
printf 'the [MASK]\nthe red\n' >$W/prompts.txt
refuse 1 "prompts.txt: line 2: no [MASK]" ./sample $W/a.safetensors --prompts $W/prompts.txt
refuse 1 "words at least ($W/prompts.txt: line 2)" ./sample $W/a.safetensors --prompts $W/prompts.txt --length 2
refuse 1 "-n 60000000: 120000000 sentences, expected 100000000 at most" \
    ./sample $W/a.safetensors --prompts $W/prompts.txt --continue -n 60000000
refuse 1 "another --out is needed" ./sample $W/a.safetensors --prompts $W/prompts.txt --out $W/prompts.txt
refuse 1 "blank.txt: no prompt in it" ./sample $W/a.safetensors --prompts $W/blank.txt
printf 'the [MASK]\nthe\000 red [MASK]\n' >$W/prompts.txt
refuse 1 "prompts.txt: line 2: a byte 0 in it" ./sample $W/a.safetensors --prompts $W/prompts.txt
refuse 1 "none.txt: cannot open" ./sample $W/a.safetensors --prompts $W/none.txt
check "softmax, self-conditioning, norm" ./train $SMALL --predict softmax --self-conditioning on --emb-norm 2 --out $W/f.safetensors
grep -q "head_nll" $W/err && ok || bad "head_nll is not reported"
check "the same in two parts" sh -c "./train $SMALL --predict softmax --self-conditioning on --emb-norm 2 --stop-at 7 --out $W/g.safetensors && ./train $W/small-train.txt --resume $W/g.safetensors --threads 1"
check "and the same bytes" cmp $W/f.safetensors $W/g.safetensors
check "sampling it" ./sample $W/f.safetensors -n 3 --steps 5
check "predicting epsilon" ./train $SMALL --predict epsilon --out $W/h.safetensors
refuse 1 "emb-norm must be above 0" ./train $SMALL --predict softmax --emb-norm 0 --out $W/no.safetensors
refuse 2 "is none of best, templates, original" ./train --recipe worst
check "--recipe original" ./train $SMALL --recipe original --out $W/o.safetensors
check "its samples" ./sample $W/o.safetensors -n 20 --steps 8
cp $W/out $W/out1
check "its samples" ./sample $W/o.safetensors -n 20 --steps 8 --variance fixed-small
same $W/out1 $W/out "what predicts x-start is not sampled by DDPM's steps"
check "the same, option by option" ./train $SMALL --predict x-start --self-conditioning off --emb-norm 0 --t-min 0 --neighbours off --pad on --out $W/p.safetensors
same $W/o.safetensors $W/p.safetensors "a recipe and its options"
refuse 1 "--predict softmax: $W/o.safetensors was trained with x-start" ./train $W/small-train.txt --resume $W/o.safetensors --recipe best
RESAMPLE="--schedule-sampler loss-second-moment --diffusion-steps 4"
check "loss-second-moment" ./train $SMALL $RESAMPLE --out $W/r.safetensors
check "the same in two parts, of threads too" sh -c "./train $SMALL $RESAMPLE --stop-at 9 --threads 3 --out $W/s.safetensors && ./train $W/small-train.txt --resume $W/s.safetensors --threads 1"
same $W/r.safetensors $W/s.safetensors "the history of losses is not resumed"
check "uniform" ./train $SMALL --diffusion-steps 4 --out $W/s.safetensors
cmp -s $W/r.safetensors $W/s.safetensors && bad "loss-second-moment changes nothing" || ok

# ---- before a long run ----------------------------------------------------------------------------
grep -q "million parameters, .* MB of memory, checkpoints of .* MB" $W/err && ok || bad "a run does not begin with its size"
check "--dry-run" ./train $SMALL --dry-run --out $W/no.safetensors
cp $W/err $W/err1
for word in parameters gradients moments average activations total checkpoint tokens/s hours; do
    grep -q " $word" $W/out && ok || bad "--dry-run does not say: $word"
done
[ -e $W/no.safetensors ] || [ -e $W/no.jsonl ] && bad "--dry-run writes a file" || ok
yes "a large text" | head -c 20000001 >$W/large.txt
check "a large text" ./train $W/large.txt --dry-run --out $W/no.safetensors
grep -q "large.txt: reading 20 MB" $W/err && ok || bad "nothing is said while a large text is read"
grep -q "reading" $W/err1 && bad "the reading of a small text is told" || ok
rm -f $W/large.txt
# peak NAME command...: its largest memory in MB, into W/peak
peak() {
    check "$1" python3 -c 'import resource, subprocess, sys
subprocess.check_call(sys.argv[2:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 976.5625)' "$@"
    cp $W/out $W/peak
}
if [ "$SANITIZED" ]; then echo "skipped under sanitizers, which need memory of their own: --dry-run beside the run"
elif python3 -c 'import resource' 2>/dev/null; then
    MEDIUM="--hidden 128 --layers 6 --ffn 512 --batch 16 --steps 12 $W/small-train.txt"
    check "--dry-run of more" ./train $MEDIUM --dry-run
    total=$(awk '$3 == "total" {print $1}' $W/out)
    peak "that run" ./train $MEDIUM --out $W/medium.safetensors
    awk -v total=$total '{exit !($1 > 0.9 * total && $1 < 1.1 * total)}' $W/peak && ok ||
        bad "--dry-run says $total MB, the run took $(cat $W/peak)"
    # sentences stream; a text takes three times its size, beside the model, part of which is behind python3's own here
    peak "100 sentences" ./sample $W/a.safetensors -n 100 --steps 2 --threads 1
    few=$(cat $W/peak)
    peak "40,000 sentences" ./sample $W/a.safetensors -n 40000 --steps 2 --threads 1
    awk -v few=$few '{exit !($1 < 1.15 * few)}' $W/peak && ok || bad "100 sentences take $few MB, 40,000 $(cat $W/peak)"
    for i in 1 2 3 4 5 6 7 8 9 10; do cat data/simple-train.txt; done >$W/long-train.txt
    peak "a text" ./train $TINY --steps 1 data/simple-train.txt --out $W/no.safetensors
    once=$(cat $W/peak)
    peak "ten times that text" ./train $TINY --steps 1 $W/long-train.txt --out $W/no.safetensors
    more=$(wc -c <data/simple-train.txt | awk '{print 9 * $1 / 1e6}')
    awk -v once=$once -v more=$more '{exit !($1 < once + 2.5 * more)}' $W/peak && ok ||
        bad "$more MB more of text take $once and then $(cat $W/peak) MB"
    rm -f $W/no.safetensors $W/no.jsonl
else skip "no python3 to measure memory with"; fi
if [ -r /proc/meminfo ]; then
    layers=$(awk '/MemTotal/ {print int($2 / 2 / 787000) + 1}' /proc/meminfo)
    [ $layers -le 256 ] && refuse 1 "memory" ./train $W/small-train.txt --hidden 4096 --heads 4 --ffn 16384 --layers $layers \
        --out $W/no.safetensors
else skip "it is not known how much memory there is"; fi
norm() { sed -n 's/.*"grad_norm":\([^,]*\).*"loss":\([^,]*\).*/\1 \2/p' $W/$1.jsonl; }
check "--microbatch" ./train $SMALL --microbatch 1 --out $W/micro.safetensors
norm a >$W/norms
norm micro | paste -d ' ' - $W/norms | awk '{for (i = 1; i < 3; i++) if ($i / $(i + 2) > 1.0001 || $i / $(i + 2) < 0.9999) bad++}
    END {exit bad || NR != 4}' && ok || bad "--microbatch gives another gradient"
cmp -s $W/a.safetensors $W/micro.safetensors && bad "--microbatch does nothing" || ok
check "--save-minutes" ./train $SMALL --save-minutes 0.001 --out $W/minutes.safetensors
same $W/a.safetensors $W/minutes.safetensors "--save-minutes changes the result"
rm $W/minutes.safetensors
./train $TINY --steps 100000000 --log-interval 10000000 --save-interval 10000000 --save-minutes 0.02 $W/small-train.txt \
    --out $W/minutes.safetensors 2>$W/err &
pid=$!
sleep 5
kill -KILL $pid
wait $pid 2>/dev/null
grep -q "about [0-9.]* hours to go" $W/err && ok || bad "a long run does not say how long it will be"
check "it was saved by time" ./sample $W/minutes.safetensors -n 1 --steps 5

# ---- weights that travel --------------------------------------------------------------------------
check "--export" ./train --export $W/a.safetensors $W/small.safetensors
[ $(($(wc -c <$W/small.safetensors) * 3)) -lt $(wc -c <$W/a.safetensors) ] && ok || bad "--export leaves more than a third"
check "samples of the export" ./sample $W/small.safetensors -n 66 --steps 8 --seed 3
head -n 66 $W/all.txt | cmp -s - $W/out && ok || bad "the export gives other samples"
refuse 1 "it was exported; --init" ./train --resume $W/small.safetensors --steps 40
refuse 1 "is there already; --export needs another name" ./train --export $W/a.safetensors $W/small.safetensors
refuse 1 "none.safetensors: cannot open" ./train --export $W/none.safetensors $W/x.safetensors
refuse 2 "expected the file to write behind it" ./train --export $W/a.safetensors
refuse 2 "--export takes no other option; there is --steps" ./train --export $W/a.safetensors $W/x.safetensors --steps 3
check "--info" ./sample --info $W/a.safetensors
grep -q "and a training state" $W/out && grep -q "text *$W/small-train.txt" $W/out && grep -q "steps-done *20" $W/out &&
    grep -q "end of its log .*val_loss" $W/out && grep -q "vocabulary *152" $W/out && grep -q "arithmetic *[fp]" $W/out && ok ||
    bad "--info lacks something"
check "--info of the export" ./sample --info $W/small.safetensors
grep -q "no training state" $W/out && ok || bad "--info does not say that the training state is gone"
refuse 2 "--info takes no other option" ./sample --info $W/a.safetensors --seed 3
refuse 1 "not a checkpoint of ./train but text" ./sample --info $W/small-train.txt
# the rules of the format; made HEADER BYTES: a file
made() {
    printf "\\$(printf %03o $((${#1} % 256)))\\$(printf %03o $((${#1} / 256)))\\0\\0\\0\\0\\0\\0%s" "$1" >$W/made.safetensors
    head -c $2 /dev/zero >>$W/made.safetensors
}
A='"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
made "{$A}" 8
check "a safetensors file of others" ./sample --info $W/made.safetensors
grep -q '"a" F32 \[2\]' $W/out && ok || bad "--info does not list the tensors of others"
refuse 1 "is this a checkpoint of ./train?" ./sample $W/made.safetensors
# broken MESSAGE HEADER BYTES
broken() { made "$2" $3; refuse 1 "$1" ./sample --info $W/made.safetensors; }
broken "tensor 'b' begins at byte 4, where 8 was expected: it overlaps another" \
    "{$A,\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}" 8
broken "tensor 'b' begins at byte 12, where 8 was expected: a hole" \
    "{$A,\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}" 16
broken "two tensors 'a'" "{$A,$A}" 8
broken "the tensors need 8 bytes, the file has 9" "{$A}" 9
broken "tensor 'a': data_offsets are not in the file, which has 7 bytes" "{$A}" 7
broken "tensor 'a': its shape needs 8 bytes, data_offsets give 4" \
    '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}' 4
broken "tensor 'a': no dtype that is known" '{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}' 8
broken "tensor 'a?b': no dtype that is known" '{"a\u000ab":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}' 8
broken "tensor 'a': bad shape" '{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}' 8
broken "tensor 'a': too large" '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}' 8
broken "not a checkpoint of ./train but" " {$A}" 8
broken "not a checkpoint of ./train but" "[$A]" 8
broken "not all values are strings" "{\"__metadata__\":{\"x\":1},$A}" 8
broken "bad UTF-8" "$(printf '{"\377":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}')" 8
if mkfifo $W/pipe 2>/dev/null; then
    cat $W/a.safetensors >$W/pipe 2>/dev/null &
    refuse 1 "expected a file, not a pipe" ./sample $W/pipe
else skip "no mkfifo"; fi
check "--probe" ./sample $W/f.safetensors --probe "the red fig is hot."
grep -q '"head_nll":\[' $W/out && ok || bad "--probe prints something else"
refuse 1 "--probe: 'xyzzy' is not in the vocabulary" ./sample $W/f.safetensors --probe "xyzzy"
# --init: other steps, another text, a larger vocabulary
check "--init" ./train --init $W/small.safetensors --steps 5 --seed 9 --out $W/init.safetensors
check "its text is the same" ./sample --info $W/init.safetensors
grep -q "steps-done *5" $W/out && grep -q "init *$W/small.safetensors" $W/out && grep -q "text *$W/small-train.txt" $W/out && ok ||
    bad "--init is not what --info says"
START="--overwrite --steps 1 --lr 1e-9 --weight-decay 0"
sed 's/ is / was /' $W/small-train.txt >$W/was.txt
check "--init, another text" ./train $W/was.txt --init $W/a.safetensors $START --out $W/init.safetensors
tensor() { build/peek tensor $W/$1.safetensors $2 | awk '{for (i = 1; i <= NF; i++) printf "%.5f ", $i; print ""}'; }
tensor a word_embedding.weight >$W/words1
tensor init raw.word_embedding.weight | cmp -s - $W/words1 && ok || bad "--init begins with other embeddings"
check "--grow-vocab" ./train $W/was.txt --init $W/a.safetensors $START --grow-vocab --max-positions 13 --out $W/init.safetensors
grep -q "1 words are new to" $W/err && ok || bad "--grow-vocab does not tell the new word"
tensor init raw.word_embedding.weight >$W/words2
head -n 152 $W/words2 | cmp -s - $W/words1 && [ "$(wc -l <$W/words2 | tr -d ' ')" = 153 ] && ok || bad "--grow-vocab does not append a row"
check "sampling it" ./sample $W/init.safetensors -n 3 --steps 5
refuse 1 "'position_embeddings.weight' has shape [11,16], expected [9,16]" \
    ./train --init $W/a.safetensors --max-positions 9 --seq-len 9 --out $W/no.safetensors
refuse 1 "--seq-len 11 cuts it" ./train $W/long.txt --init $W/a.safetensors --out $W/no.safetensors
refuse 1 "'input_up_proj.0.weight' has shape [16,16], expected [16,8]" \
    ./train --init $W/a.safetensors --recipe templates --out $W/no.safetensors
refuse 1 "--grow-vocab may add words" ./train --init $W/a.safetensors --vocab-size 100 --out $W/no.safetensors
refuse 1 "the output would overwrite this input" ./train --init $W/a.safetensors --out $W/a.safetensors
refuse 2 "--init has no effect with --resume" ./train --init $W/a.safetensors --resume $W/a.safetensors
refuse 2 "--grow-vocab needs --init" ./train --grow-vocab

# ---- the bound ---------------------------------------------------------------------------------------
check "--eval" ./sample $W/f.safetensors --eval $W/small-test.txt
grep -q '^bound [0-9.]* bits/sentence (se [0-9.]*)$' $W/out && grep -q 'nats/token.*30 sentences' $W/out &&
    grep -q '(50 of 50 steps)' $W/out && ok || bad "--eval prints something else"
exact=$(awk 'NR == 1 {print $2}' $W/out)
awk 'NR == 1 {bound = $2} /prior/ {for (i = 1; $i != "bits/sentence"; i++) if ($i ~ /^[0-9.]*$/) sum += $i; exit !(sum > bound - 0.02 && sum < bound + 0.02)}' $W/out &&
    ok || bad "the parts of the bound do not add up"
check "--eval-steps" ./sample $W/f.safetensors --eval $W/small-test.txt --eval-steps 10 --threads 3
awk -v exact=$exact 'NR == 1 {exit !($2 > exact * 0.8 && $2 < exact * 1.25)}' $W/out && ok || bad "10 terms of the bound give another one"
cp $W/out $W/out1
check "--eval-steps" ./sample $W/f.safetensors --eval $W/small-test.txt --eval-steps 10 --threads 1
same $W/out $W/out1 "the bound depends on the number of threads"
check "the default of --steps where the model has 4" ./sample $W/r.safetensors -n 2
grep -q "4 of 4 diffusion steps" $W/err && ok || bad "not all of 4 steps are taken"
refuse 1 "--evidence-above has no effect on the predictions of" ./sample $W/h.safetensors --evidence-above 0.5
refuse 1 "--vary has no effect on the predictions of" ./sample $W/h.safetensors --vary 0.5
refuse 1 "--variance has no effect on the bound of" ./sample $W/f.safetensors --eval $W/small-test.txt --variance fixed-large
refuse 1 "none.txt: cannot open" ./sample $W/f.safetensors --eval none.txt
refuse 1 "no sentence in it" ./sample $W/f.safetensors --eval /dev/null
refuse 2 "'-1' is no whole number from 1" ./sample --eval-steps -1
refuse 2 "sample: -n has no effect with --eval" ./sample $W/f.safetensors --eval $W/small-test.txt -n 3
refuse 2 "sample: --top-p has no effect with --eval" ./sample $W/f.safetensors --top-p 2 --eval $W/small-test.txt
refuse 2 "sample: --eval-steps needs --eval" ./sample $W/f.safetensors --eval-steps 3
refuse 2 "sample: --strength needs --edit" ./sample $W/f.safetensors --strength 0.5
check "sampling that" ./sample $W/h.safetensors -n 3 --steps 5
check "a single step" ./sample $W/a.safetensors -n 3 --steps 1 --show
grep -q '^t    49 | ' $W/err && ok || bad "--steps 1 does not begin at the last step, where pure noise is"
refuse 1 "sentence 1: the bound is not finite at step 49 of 50" ./sample $W/o.safetensors --eval $W/small-test.txt --steps 1
# Of many t as many are drawn as the standard error asks for
check "300 diffusion steps" ./train $SMALL --diffusion-steps 300 --steps 100 --out $W/t300.safetensors
check "--eval-all" ./sample $W/t300.safetensors --eval $W/small-test.txt --eval-all
grep -q '(300 of 300 steps)' $W/out && ok || bad "--eval-all does not take every t"
all=$(sed -n 's/^bound \([0-9.]*\) .*/\1/p' $W/out)
check "--eval of drawn t" ./sample $W/t300.safetensors --eval $W/small-test.txt
awk -v all=$all '/^bound/ { off = $2 / all - 1 } / of 300 steps\)/ { sub(/.*\(/, ""); steps = $1 }
    /standard error by that was/ { for (i = 1; i < NF; i++) if ($(i + 1) == "%;") se = $i }
    END { exit !(se > 0 && se <= 1 && steps >= 64 && steps < 300 && off < 0.04 && off > -0.04) }' $W/out && ok ||
    { bad "--eval does not draw t until the standard error is 1 %; with all t the bound is $all"; cat $W/out; }
check "100,000 diffusion steps" ./train $SMALL --diffusion-steps 100000 --stop-at 1 --out $W/s.safetensors
check "a long way to go" ./train $SMALL --steps 100000000 --stop-at 1 --log-interval 1 --out $W/s.safetensors
grep -q ' [0-9]*h [0-5][0-9]m left' $W/err && ok || bad "the time left is not hours and minutes"
refuse 1 "steps '44': the model was trained with 43, so 1 to 43 are possible" ./sample $W/a.safetensors --steps 44
refuse 1 "section 2 has only 21 steps of the model's 43, not 26" ./sample $W/a.safetensors --steps 3,26
refuse 1 "no step is left; 1 to 43 are possible" ./sample $W/a.safetensors --steps 0
refuse 1 "the nearest it takes are 15 and 22" ./sample $W/a.safetensors --steps ddim20
refuse 1 "43 steps allow ddim2 to ddim43" ./sample $W/a.safetensors --steps ddim51
refuse 1 "expected a number" ./sample $W/a.safetensors --steps many
refuse 1 "none.safetensors: cannot open" ./sample $W/none.safetensors
refuse 1 "cannot read" ./sample data
refuse 1 "not a checkpoint of ./train but an empty file" ./sample $W/empty.txt
refuse 1 "not a checkpoint of ./train but text" ./sample $W/small-train.txt
refuse 1 "cannot write" ./sample $W/a.safetensors --steps 5 --out $W/nowhere/x.txt
if [ -c /dev/full ]; then
    refuse 1 "cannot write" sh -c "./sample $W/a.safetensors --steps 5 >/dev/full"
    refuse 1 "/dev/full: cannot write" ./sample $W/a.safetensors --steps 5 --out /dev/full
    ln -s /dev/full $W/full.safetensors
    refuse 1 "/dev/full: cannot write" ./train $SMALL --out $W/full.safetensors
    [ -c /dev/full ] && ok || bad "/dev/full was replaced"
else skip "there is no /dev/full"; fi

# ---- the tokenizer program ------------------------------------------------------------------------
refuse 2 "and a file" ./tokenizer encode
refuse 2 "expected train-KIND, encode, decode or show" ./tokenizer count $W/small-train.txt
refuse 1 "none.json: cannot open" ./tokenizer encode $W/none.json
refuse 1 "small-train.txt" ./tokenizer decode $W/small-train.txt
check "train-word-level" ./tokenizer train-word-level $W/small-train.txt --vocab-size 60 --out $W/t.json
check "--min-frequency" ./tokenizer train-word-level $W/small-train.txt --min-frequency 10 --out $W/rare.json
[ "$(wc -l <$W/rare.json)" -lt "$(wc -l <$W/t.json)" ] && ok || bad "--min-frequency keeps rare words"
refuse 1 "no word occurs 1000000 times" ./tokenizer train-word-level $W/small-train.txt --min-frequency 1000000
check "encode" sh -c "echo 'The RED, fig is... quux' | ./tokenizer encode $W/t.json"
cp $W/out $W/ids
check "decode" sh -c "./tokenizer decode $W/t.json <$W/ids"
grep -q '^the red' $W/out && ok || bad "decode(encode(text))"
[ -c /dev/full ] && refuse 1 "cannot write" sh -c "echo red | ./tokenizer encode $W/t.json >/dev/full"
refuse 1 "line 1: '99999'" sh -c "echo 99999 | ./tokenizer decode $W/t.json"
# Every kind: trained, shown, and back to what it was
printf "Don't stop at 10:30, it's fine.\nThe red fig is \"hot\".\n" >$W/lines.txt
for kind in word original bpe char word-level byte-level; do
    check "train-$kind" ./tokenizer train-$kind $W/lines.txt --out $W/$kind.json
    check "show $kind" ./tokenizer show $W/$kind.json
    check "$kind: encode and decode" sh -c "./tokenizer encode $W/$kind.json <$W/lines.txt | ./tokenizer decode $W/$kind.json"
    cp $W/out $W/$kind.txt
done
same $W/lines.txt $W/bpe.txt "bpe loses something"
same $W/lines.txt $W/char.txt "char loses something"
tr A-Z a-z <$W/lines.txt | cmp -s - $W/word.txt && ok || bad "word loses more than capital letters"
same $W/original.json $W/word-level.json "word-level is not original"
same $W/bpe.json $W/byte-level.json "byte-level is not bpe"
check "--keep-case" ./tokenizer train-word $W/lines.txt --keep-case --out $W/cased.json
check "and its lines" sh -c "./tokenizer encode $W/cased.json <$W/lines.txt | ./tokenizer decode $W/cased.json"
same $W/lines.txt $W/out "--keep-case does not keep them"
refuse 1 "are for the tokenizer word" ./tokenizer train-bpe $W/lines.txt --keep-case --out $W/no.json
refuse 1 "a vocabulary of 100 is too small" ./tokenizer train-bpe $W/lines.txt --vocab-size 100 --out $W/no.json
check "--max-len" sh -c "./tokenizer encode $W/word.json --max-len 4 <$W/lines.txt"
[ "$(awk '{print NF}' $W/out | sort -u)" = 4 ] && ok || bad "--max-len 4 does not leave 4 ids"
refuse 2 "--max-len belongs to encode" ./tokenizer decode $W/word.json --max-len 4
refuse 2 "belong to train-KIND" ./tokenizer show $W/word.json --vocab-size 10
refuse 1 "no-folder: cannot open" ./tokenizer show $W/no-folder
printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nred\nfig\nis\nhot\n.\n##s\n' >$W/vocab.txt
check "a vocab.txt" sh -c "echo 'The red figs.' | ./tokenizer encode $W/vocab.txt"
[ "$(cat $W/out)" = "2 5 6 7 11 10 3" ] && ok || bad "WordPiece: $(cat $W/out)"
echo '{"added_tokens": [{"id": 5, "content": "<|end|>"}], "pre_tokenizer": {"type": "Whitespace"}, "model":
{"type": "WordLevel", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4}, "unk_token": "[UNK]"}}' >$W/added.json
check "show an added token" ./tokenizer show $W/added.json
grep -q '^special: .*, <|end|> = 5$' $W/out && ok || bad "show does not list an added token"
# ./train --tokenizer: what the checkpoint has is what made it, and samples are words of it
for kind in word bpe char original wordpiece:$W/vocab.txt $W/word.json; do
    check "--tokenizer $kind" ./train $SMALL --tokenizer $kind --steps 3 --out $W/kind.safetensors
    check "show" ./tokenizer show $W/kind.safetensors
    check "sample" ./sample $W/kind.safetensors -n 3 --steps 5
    check "--prompt" ./sample $W/kind.safetensors -n 2 --steps 5 --prompt "the [MASK] is"
    [ "$(grep -c '^ *the.* is' $W/out)" = 2 ] && ok || bad "$kind: --prompt is lost"
done
check "bytes as tokens" ./train $TINY --tokenizer bpe --steps 1 $W/lines.txt --out $W/kind.safetensors
check "200 samples" ./sample $W/kind.safetensors -n 200 --steps 2
[ "$(wc -l <$W/out)" -eq 200 ] && ok || bad "a sample is more than a line"
check "what was read is said" ./train $SMALL --tokenizer wordpiece:$W/vocab.txt --steps 1 --out $W/kind.safetensors
grep -q "^--tokenizer wordpiece:$W/vocab.txt: WordPiece, lower-case, accents dropped as BERT does" $W/err && ok || bad "--tokenizer is not described"
check "--keep-case" ./train $SMALL --keep-case --steps 3 --out $W/kind.safetensors
refuse 1 "are for the tokenizer word" ./train $SMALL --tokenizer char --keep-accents --out $W/no.safetensors
refuse 2 "have no effect with --tokenizer wordpiece" ./train --tokenizer wordpiece:$W/vocab.txt --vocab-size 20
refuse 1 "train: --tokenizer: $W/none.json: cannot open" ./train $SMALL --tokenizer $W/none.json --out $W/no.safetensors
refuse 1 "none.txt: cannot open" ./train $SMALL --tokenizer wordpiece:$W/none.txt --out $W/no.safetensors
refuse 2 "--tokenizer has no effect with --resume" ./train --tokenizer bpe --resume $W/kind.safetensors

# ---- classifiers and guidance -----------------------------------------------------------------------
build/evaluate --label --judge test/words/colours.txt <$W/small-train.txt >$W/small.tsv
CLASSIFY="--classifier $W/small.tsv --denoiser $W/a.safetensors --steps 60 --warmup 5 --lr 0.002 --batch 8 --log-interval 15"
check "--classifier" ./train $CLASSIFY --out $W/a.clf.safetensors
grep -q "200 sentences, 2 labels" $W/err && [ "$(grep -c '  right [0-9 ]* %  ' $W/err)" = 4 ] && ok || bad "--classifier does not report"
grep -q '"accuracy_by_noise_quartile":\[[0-9.]*,[0-9.]*,' $W/a.clf.jsonl && ok || bad "no accuracy in the log"
check "in two parts" sh -c "./train $CLASSIFY --stop-at 7 --out $W/b.clf.safetensors && ./train $CLASSIFY --resume $W/b.clf.safetensors --threads 1"
check "and the same bytes" cmp $W/a.clf.safetensors $W/b.clf.safetensors
printf 'the red apple is raw.\ta b\nthe blue fig is hot.\tc\r\n\n' >$W/two.tsv
for i in 1 2 3 4 5; do cat $W/two.tsv; done >$W/ten.tsv
check "labels with blanks, blank lines, CR" ./train --classifier $W/ten.tsv --denoiser $W/a.safetensors --steps 2 --out $W/ten.clf.safetensors
check "a long run of a classifier" ./train --classifier $W/ten.tsv --denoiser $W/a.safetensors --steps 18000 --stop-at 2 --overwrite --out $W/ten.clf.safetensors
grep -q "$RATE" $W/err && bad "the rate of a classifier changes" || ok
refuse 1 "expected 10 at least" ./train --classifier $W/two.tsv --denoiser $W/a.safetensors --out $W/no.safetensors
refuse 1 "line 1: expected a sentence, a TAB and a label" ./train --classifier $W/small-train.txt --denoiser $W/a.safetensors --out $W/no.safetensors
printf 'the red\t\n' >$W/bad.tsv
refuse 1 "line 1: expected a sentence" ./train --classifier $W/bad.tsv --denoiser $W/a.safetensors --out $W/no.safetensors
printf 'the red\t1\n\t1\n' >$W/bad.tsv
refuse 1 "line 2: no sentence before the TAB" ./train --classifier $W/bad.tsv --denoiser $W/a.safetensors --out $W/no.safetensors
printf 'the red\t\0\n' >$W/bad.tsv
refuse 1 "line 1: expected a sentence" ./train --classifier $W/bad.tsv --denoiser $W/a.safetensors --out $W/no.safetensors
printf 'the red\t[PAD]\n' >$W/bad.tsv
refuse 1 "[PAD] cannot be a label" ./train --classifier $W/bad.tsv --denoiser $W/a.safetensors --out $W/no.safetensors
printf 'the red\ta"\377\n' >$W/bad.tsv
refuse 1 "line 1: byte 3 of 'a\"" ./train --classifier $W/bad.tsv --denoiser $W/a.safetensors --out $W/no.safetensors
sed 's/no$/yes/' $W/small.tsv >$W/bad.tsv
refuse 1 "a single label" ./train --classifier $W/bad.tsv --denoiser $W/a.safetensors --out $W/no.safetensors
refuse 1 "none.tsv: cannot open" ./train --classifier $W/none.tsv --denoiser $W/a.safetensors
check "the first part" ./train $CLASSIFY --stop-at 3 --out $W/c.clf.safetensors
sed '1s/no$/yes/' $W/small.tsv >$W/bad.tsv
refuse 1 "not the text" ./train --classifier $W/bad.tsv --denoiser $W/a.safetensors --resume $W/c.clf.safetensors --out $W/no.safetensors
refuse 1 "is for --guide" ./train --classifier $W/small.tsv --denoiser $W/a.clf.safetensors
refuse 1 "is for --guide" ./sample $W/a.clf.safetensors
refuse 1 "is for --guide" ./train $W/small-train.txt --resume $W/a.clf.safetensors
refuse 1 "not a classifier" ./train $CLASSIFY --resume $W/a.safetensors --out $W/no.safetensors
refuse 2 "--classifier needs --denoiser" ./train --classifier $W/small.tsv
refuse 2 "--denoiser needs --classifier" ./train --denoiser $W/a.safetensors
refuse 2 "--hidden has no effect with --classifier" ./train $CLASSIFY --hidden 8
refuse 2 "has its sentences in" ./train $CLASSIFY $W/small-train.txt
# a denoiser and a classifier that have learnt enough to be guided: 27 of 70 become 70
check "a denoiser to guide" ./train $W/small-train.txt --hidden 48 --layers 2 --heads 2 --ffn 96 --emb-dim 16 --time-dim 16 --diffusion-steps 200 --warmup 20 --batch 16 --steps 600 --recipe templates --overwrite --out $W/h.safetensors
check "the default of --steps where the model has 200" ./sample $W/h.safetensors -n 1
grep -q "; 100 of 200 diffusion steps$" $W/err && ok || { bad "the default is not 100 steps"; cat $W/err; }
check "its classifier" ./train --classifier $W/small.tsv --denoiser $W/h.safetensors --batch 16 --steps 300 --warmup 20 --lr 0.002 --out $W/h.clf.safetensors
GUIDE="--guide $W/h.clf.safetensors --label yes"
DRAW="./sample $W/h.safetensors --steps 20 --seed 3"
check "without --guide" $DRAW -n 70 --variance fixed-small # as with it
cp $W/out $W/free.txt
[ "$(build/evaluate --label --judge test/words/colours.txt <$W/free.txt | grep -c 'yes$')" -lt 40 ] && ok || bad "too many have the label by themselves"
check "--guide" $DRAW -n 70 $GUIDE
cp $W/out $W/guided.txt
[ "$(build/evaluate --label --judge test/words/colours.txt <$W/guided.txt | grep -c 'yes$')" -ge 60 ] && ok || bad "--guide does not reach the label"
check "--guide to the other label" $DRAW -n 70 --guide $W/h.clf.safetensors --label no
[ "$(build/evaluate --label --judge test/words/colours.txt <$W/out | grep -c 'no$')" -ge 60 ] && ok || bad "--guide does not reach the other label"
check "--guide -n 3" $DRAW -n 3 $GUIDE --threads 1
head -n 3 $W/guided.txt | cmp -s - $W/out && ok || bad "a guided sample depends on -n"
check "--guide-scale 0" $DRAW -n 70 $GUIDE --guide-scale 0
cmp -s $W/free.txt $W/out && ok || bad "--guide-scale 0 does something"
check "--guide twice" $DRAW -n 70 $GUIDE $GUIDE --guide-scale 5
cmp -s $W/guided.txt $W/out && ok || bad "two guides are not the sum of two"
refuse 1 "knows the labels 'no', 'yes'" ./sample $W/h.safetensors --guide $W/h.clf.safetensors --label maybe
refuse 1 "knows the labels 'a b', 'c'" ./sample $W/a.safetensors --guide $W/ten.clf.safetensors --label '[PAD]'
refuse 1 "not a classifier" ./sample $W/a.safetensors --guide $W/a.safetensors --label yes
refuse 1 "another denoiser" ./sample $W/a.safetensors $GUIDE
refuse 1 "none.clf: cannot open" ./sample $W/a.safetensors --guide $W/none.clf --label yes
refuse 2 "every --guide needs one --label" ./sample $W/a.safetensors --guide $W/a.clf.safetensors
refuse 2 "--label needs --guide" ./sample $W/a.safetensors --label yes
refuse 2 "given more than 8 times" ./sample $W/a.safetensors $GUIDE $GUIDE $GUIDE $GUIDE $GUIDE $GUIDE $GUIDE $GUIDE $GUIDE
refuse 2 "--guide-scale needs --guide" ./sample $W/a.safetensors --guide-scale 3
refuse 2 "--guide has no effect with --eta" ./sample $W/h.safetensors $GUIDE --eta 0.5
refuse 2 "--guide has no effect with --eval" ./sample $W/h.safetensors $GUIDE --eval $W/small-test.txt
# where all steps are few, too, most of them are guided
check "ten steps" ./train $SMALL --diffusion-steps 10 --recipe templates --out $W/ten.safetensors
check "their classifier" ./train --classifier $W/small.tsv --denoiser $W/ten.safetensors --steps 60 --batch 8 --overwrite --out $W/ten.clf.safetensors
check "without a guide" ./sample $W/ten.safetensors -n 20 --variance fixed-small
cp $W/out $W/out1
check "with a guide" ./sample $W/ten.safetensors -n 20 --guide $W/ten.clf.safetensors --label yes --guide-scale 10000
cmp -s $W/out $W/out1 && bad "--guide does nothing to a model of 10 steps" || ok
check "--length" ./sample $W/a.safetensors -n 5 --steps 8 --length 4
refuse 1 "--length 10: the model has room for 9 words" ./sample $W/a.safetensors --length 10
for length in 0 4- 5-3 -4 x 4-x 99999999999999999999; do refuse 1 "--length" ./sample $W/a.safetensors --length=$length; done
refuse 2 "--length has no effect with --edit" ./sample $W/a.safetensors --length 4 --edit "the red"
refuse 2 "--continue needs --prompt" ./sample $W/a.safetensors --continue
refuse 2 "'red' is no file" sh test/control.sh $W/a.safetensors $W/small-train.txt red

# ---- a sentence has its own length ----------------------------------------------------------------------
./tokenizer train-word-level $W/small-train.txt --out $W/t.json 2>/dev/null
# words FILE: how many tokens each line has
words() { ./tokenizer encode $W/t.json <$1 | awk '{print NF - 2}'; }
words $W/small-train.txt | sort -n | uniq -c >$W/lengths
check "samples as long as the text" ./sample $W/a.safetensors -n 400 --steps 8
words $W/out | sort -n | uniq -c >$W/drawn
awk 'NR == FNR {share[$2] = $1 / 200; next} {apart += share[$2] > $1 / 400 ? 0 : $1 / 400 - share[$2]} END {exit !(apart < 0.08)}' \
    $W/lengths $W/drawn && ok || bad "the lengths of samples are not those of the text"
# as_long LOW HIGH options...: 100 of 100 samples have so many words
as_long() {
    low=$1 high=$2
    shift 2
    check "$*" ./sample $W/a.safetensors -n 100 --steps 8 "$@"
    words $W/out | awk -v low=$low -v high=$high '$1 < low || $1 > high {bad++} END {exit !(NR == 100 && !bad)}' && ok ||
        bad "not all of 100 have $low to $high words: $*"
}
as_long 7 7 --length 7
cp $W/out $W/seven.txt
as_long 1 1 --length 1
as_long 5 8 --length 5-8
[ "$(words $W/out | sort -u | wc -l)" -gt 1 ] && ok || bad "--length 5-8 draws one length only"
as_long 6 9 --prompt "the red [MASK] is" --length 6-9
[ "$(grep -c '^the red .* is' $W/out)" -eq 100 ] && ok || bad "--length loses words of the --prompt"
as_long 3 9 --prompt "the red" --continue
[ "$(grep -c '^the red ' $W/out)" -eq 100 ] && ok || bad "--continue loses words of the --prompt"
as_long 4 4 --prompt "the [MASK] is hot"
as_long 6 6 --edit "the red fig is hot." --strength 1
as_long 9 9 --prompt "[MASK]" --length 9
check "a model that has learnt nothing" ./train $TINY --steps 1 $W/one.txt --out $W/fresh.safetensors
check "its samples" ./sample $W/fresh.safetensors -n 100 --steps 5 --length 5
words $W/out | awk '$1 != 5 {bad++} END {exit !(NR == 100 && !bad)}' && ok ||
    bad "an open position is read as a special token: not all of 100 have 5 words"
check "--first" ./sample $W/a.safetensors -n 5 --first 20 --steps 8 --length 7 --threads 1
sed -n 21,25p $W/seven.txt | cmp -s - $W/out && ok || bad "--first 20 does not begin with sample 20"
check "--length, fewer" ./sample $W/a.safetensors -n 3 --steps 8 --length 7 --threads 1
head -n 3 $W/seven.txt | cmp -s - $W/out && ok || bad "sample i of one length depends on -n"
refuse 1 "with its prompt a sentence has 3 words at least" ./sample $W/a.safetensors --prompt "the red" --length 2
refuse 1 "no room behind it" ./sample $W/a.safetensors --continue --prompt "the red red red red red red red red"
# the bound is one of (length, words): the first part is known
check "--eval" ./sample $W/a.safetensors --eval $W/small-test.txt
words $W/small-test.txt | awk -v "printed=$(grep -o 'length [0-9.]*' $W/out)" 'NR == FNR {count[$2] = $1; next}
    {bits -= log((count[$1] + 1 / 9) / 201) / log(2); n++}
    END {split(printed, p); exit !(bits / n > p[2] - 0.001 && bits / n < p[2] + 0.001)}' $W/lengths - &&
    ok || bad "the bits of the length are not -log2 of (count + 1/9) / (200 + 1)"
# corpora of all shapes
head -n 1 $W/small-train.txt >$W/shape1.txt
grep -x 'The [a-z]* [a-z]* is [a-z]*\.' $W/small-train.txt | head -n 50 >$W/shape2.txt
awk 'BEGIN {for (i = 1; i <= 60; i++) {for (k = 0; k < i; k++) printf "w%d ", k % 7; print ""}}' >$W/shape3.txt
(cat $W/small-train.txt; awk 'BEGIN {for (k = 0; k < 500; k++) printf "the "; print ""}') >$W/shape4.txt
for shape in 1 2 3 4; do
    check "corpus of shape $shape" ./train $TINY --steps 60 $W/shape$shape.txt --val $W/shape$shape.txt --out $W/shape.safetensors
    cp $W/shape.safetensors $W/whole.safetensors
    check "in two parts" sh -c "./train $TINY --steps 60 $W/shape$shape.txt --val $W/shape$shape.txt --stop-at 17 --out $W/shape.safetensors && ./train $W/shape$shape.txt --resume $W/shape.safetensors --threads 1"
    same $W/whole.safetensors $W/shape.safetensors "shape $shape: stop and resume give other bytes"
    check "sampling it" ./sample $W/shape.safetensors -n 3 --steps 5
done
check "a long sample" ./sample $W/shape.safetensors -n 2 --steps 2 --length 500
# filled up as the original does
check "samples of --pad on" ./sample $W/o.safetensors -n 50 --steps 8
check "its --length" ./sample $W/o.safetensors -n 50 --steps 8 --length 4
words $W/out | awk '$1 > 4 {bad++} END {exit !(NR == 50 && !bad)}' && ok || bad "--length does not end a padded sentence"

# ---- no output overwrites what is read ----------------------------------------------------------------
cp $W/small-train.txt $W/text.jsonl
cp $W/h.clf.safetensors $W/guide.safetensors
for files in "./train $TINY --steps 3 $W/text.jsonl --out ./$W/text.jsonl" "./train $TINY --steps 3 $W/text.jsonl --out $W/text.safetensors" \
    "./train $SMALL --val $W/small-test.txt --out ./$W/small-test.txt" "./sample $W/h.safetensors --out $W/../cli/h.safetensors" \
    "./sample $W/a.safetensors --eval $W/small-test.txt --out $W/small-test.txt" \
    "./sample $W/h.safetensors --guide $W/guide.safetensors --label yes --out $W/guide.safetensors" \
    "./train --steps 3 --classifier $W/small.tsv --denoiser $W/h.safetensors --out $W/h.safetensors" \
    "./tokenizer train-word-level $W/text.jsonl --out ./$W/text.jsonl"; do
    refuse 1 "the output would overwrite this input" $files
done
cmp -s $W/small-train.txt $W/text.jsonl && ok || bad "an input was overwritten"

# ---- the judge of samples ---------------------------------------------------------------------------
check "evaluate" sh -c "build/evaluate $W/small-train.txt --test $W/small-test.txt <$W/small-train.txt"
check "evaluate --json" sh -c "build/evaluate $W/small-train.txt --json <$W/small-test.txt"
[ "$(wc -l <$W/out)" -eq 1 ] && grep -q '^{.*}$' $W/out && ok || bad "--json is not one object"
printf 'a b\nb a\n' >$W/ab.txt # 260 bytes counted, 1 of c and 3 ends of words: log2(260 / 1) + log2(260 / 3)
check "evaluate: [UNK] spelt out" sh -c "echo c | build/evaluate $W/ab.txt --test $W/ab.txt --json"
grep -q '"trigram_perplexity":\([0-9.]*\),"spelt_out_perplexity":\1,.*"spelling":{"bits_per_sentence":0,' $W/out && ok ||
    bad "what is in the vocabulary is spelt out"
printf '\357\273\277c\n' >$W/c.txt # with a byte-order mark, which is no part of it
check "evaluate: an unknown word" sh -c "build/evaluate $W/ab.txt --test $W/c.txt --json <$W/ab.txt"
grep -q '"spelling":{"bits_per_sentence":14.45977' $W/out && ok || bad "an unknown word does not cost 14.46 bits"
check "evaluate --mbr" sh -c "build/evaluate --mbr 10 <$W/all.txt"
[ "$(wc -l <$W/out)" -eq 7 ] && ok || bad "--mbr 10 does not keep 7 of 70"
refuse 1 "none.txt: cannot open" build/evaluate $W/none.txt
refuse 1 "" build/evaluate $W/small-train.txt
refuse 2 "unknown option --wrong" build/evaluate --wrong
printf 'Red\ngreen apple\n' >$W/words.txt
printf 'the Red fig is hot.\nthe green fig is hot.\n\na green apple?\nreddish\n' >$W/judged.txt
check "evaluate --judge" sh -c "build/evaluate $W/small-train.txt --judge $W/words.txt <$W/judged.txt"
grep -q "a judged phrase is in 40.00 % of the samples" $W/out && ok || bad "--judge does not find 2 of 5"
check "evaluate --label" sh -c "build/evaluate --label --judge $W/words.txt <$W/judged.txt"
[ "$(cut -f 2 $W/out | tr '\n' ' ')" = "yes no yes no " ] && ok || bad "--label is wrong"
refuse 2 "--label needs --judge" build/evaluate --label
refuse 1 "none.txt: cannot open" build/evaluate $W/small-train.txt --judge $W/none.txt

# ---- the lines of the README, with nothing but cc ---------------------------------------------------
plain="-std=c99 -O2"
check "README: train" $CC $plain -o $W/train train.c tdiff.c tokenizer.c -lm
check "README: sample" $CC $plain -o $W/sample sample.c tdiff.c tokenizer.c -lm
check "README: tokenizer" $CC $plain -DTOKENIZER_MAIN -o $W/tokenizer tokenizer.c tdiff.c -lm
check "plain train runs" $W/train $SMALL --out $W/plain.safetensors
check "plain sample runs" $W/sample $W/plain.safetensors -n 2 --steps 5
check "a run begun elsewhere" $W/train --resume $W/a.safetensors --steps 40 --stop-at 25 --out $W/classes.safetensors
cp $W/err $W/err1
check "and resumed" ./train --resume $W/classes.safetensors --stop-at 30
if ./sample --info $W/a.safetensors | grep -q 'arithmetic *fma'; then
    grep -q "begun by a build of class" $W/err1 && ok || bad "another class of machine is not told"
    grep -q "begun by a build of class" $W/err && bad "another class of machine is told twice" || ok
    check "it is in the checkpoint" sh -c "./sample --info $W/classes.safetensors | grep 'arithmetic *fma and plain'"
else skip "this machine has no fused multiply-add"; fi
check "plain tokenizer runs" sh -c "echo red | $W/tokenizer encode $W/t.json"

# ---- one seed, one result: threads, optimisation, compilers -----------------------------------------
for threads in 1 2 3 4; do
    check "$threads threads" ./train $SMALL --threads $threads --out $W/threads.safetensors
    check "$threads threads: the same bytes" cmp $W/a.safetensors $W/threads.safetensors
done
check "threads with small stacks" sh -c "ulimit -s 512; OMP_STACKSIZE=256k ./train $SMALL --threads 2 --out $W/threads.safetensors"
check "small stacks: the same bytes" cmp $W/a.safetensors $W/threads.safetensors
# same_bytes NAME REFERENCE command...: a build gives the bytes of the reference
same_bytes() {
    name=$1 reference=$2
    shift 2
    check "$name builds" "$@" -std=c99 -o $W/other train.c tdiff.c tokenizer.c -lm
    check "$name runs" $W/other $SMALL --out $W/other.safetensors
    check "$name: the same bytes" cmp $reference $W/other.safetensors
}
exact="-ffp-contract=off"
native=$(grep -o -e '-march=native' build/flags)
for compiler in $CC gcc clang; do
    case " $seen " in *" $compiler "*) continue ;; esac
    seen="$seen $compiler"
    if ! command -v $compiler >/dev/null 2>&1; then skip "$compiler is not installed"; continue; fi
    for level in -O0 -O3; do
        same_bytes "$compiler $level $native" $W/a.safetensors $compiler $exact $level $native
        same_bytes "$compiler $level, no FMA" $W/plain.safetensors $compiler $exact $level
    done
    if [ "$native" ] && grep -q avx2 /proc/cpuinfo 2>/dev/null; then
        same_bytes "$compiler, the tile of x86-64-v3" $W/a.safetensors $compiler $exact -O3 -march=haswell
    else skip "$compiler: no x86-64-v3 here"; fi
done
if command -v tcc >/dev/null 2>&1; then same_bytes "tcc" $W/plain.safetensors tcc
else skip "tcc is not installed"; fi

[ $failed -eq 0 ] && rm -rf $W
finish
