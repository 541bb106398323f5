# draw.sh - the pictures: is every SVG well-formed, does it show what it was made of, and what is refused? And --show where
# the sentences move, on a terminal that script (of util-linux) makes.
# Runs in the project's folder after make and make draw. Closes with "N passed, N failed, N skipped".
W=build/draw-test
. test/count.sh
rm -rf $W && mkdir -p $W
TINY="--overwrite --hidden 16 --layers 1 --heads 2 --ffn 24 --emb-dim 8 --time-dim 8 --batch 8 --diffusion-steps 50 --warmup 5"

# Every tag is closed in its order, every & begins an entity, and nothing stands outside of the root.
balanced() {
    awk 'BEGIN { RS = "<" }
        NR == 1 { if ($0 ~ /[^ \n]/) exit 1; next }
        { tag = $0; sub(/>.*/, "", tag); text = $0; sub(/^[^>]*>/, "", text)
          if ($0 !~ />/) exit wrong = 1
          rest = $0; gsub(/&(amp|lt|gt|quot);/, "", rest); if (rest ~ /&/) exit wrong = 1
          name = tag; sub(/[ \n\/].*/, "", name)
          if (tag ~ /^\//) { name = substr(tag, 2); if (depth < 1 || open[depth] != name) exit wrong = 1; depth-- }
          else if (tag !~ /\/$/) open[++depth] = name
          if (!depth && text ~ /[^ \n]/) exit wrong = 1 }
        END { exit wrong || depth || NR < 2 }' "$1"
}
# svg NAME command...: the command writes a well-formed SVG without a script to $W/NAME.svg
svg() {
    name=$1
    shift
    if ! "$@" >$W/$name.svg 2>$W/err; then blame "$name"; return; fi
    if balanced $W/$name.svg && ! grep -qi '<script\|javascript' $W/$name.svg; then ok; else bad "$name.svg is not well-formed"; fi
    command -v xmllint >/dev/null 2>&1 || { no_xmllint=yes; return; }
    xmllint --noout $W/$name.svg 2>$W/xml && ok || bad "$name.svg: $(head -n 1 $W/xml)"
}
# count NAME N PATTERN: so many times
count() {
    found=$(grep -o -e "$3" $W/$1.svg | wc -l)
    if [ $found -eq "$2" ]; then ok; else bad "$1.svg: $found times '$3', expected $2"; fi
}

balanced /dev/null && bad "an empty file counts as well-formed"
printf '<svg><g></svg></g>' >$W/crossed
balanced $W/crossed && bad "crossed tags count as well-formed"

head -n 300 data/simple-train.txt >$W/text.txt
printf 'a<b & "c" > d\n' >>$W/text.txt
check "training" ./train $TINY --t-min 0 --steps 40 --log-interval 4 --val data/simple-test.txt $W/text.txt --out $W/a.safetensors
[ "$(tail -n 1 $W/err)" = "its loss as a picture: make draw && build/draw loss $W/a.jsonl > loss.svg" ] && ok ||
    bad "train does not say how to draw its log"
A=$W/a.safetensors

# ---- denoise: what --show prints, state by state ------------------------------------------------
check "sampling" ./sample $A -n 8 --seed 4 --steps 12 --show
cp $W/out $W/sentences && grep '^t ' $W/err >$W/plain
check "sampling with probabilities" ./sample $A -n 8 --seed 4 --steps 12 --show --show-probabilities
same $W/out $W/sentences "--show-probabilities changes the sentences"
grep '^t ' $W/err >$W/shown
awk -F '\t' '{ sub(/ noise [0-9.]*/, ""); line = $1
               for (i = 2; i <= NF; i += 2) { line = line $(i + 1); if ($i !~ /^[0-9]+$/ || $i > 100) exit 1 } print line }' \
    $W/shown >$W/text-of-shown
same $W/text-of-shown $W/plain "--show-probabilities prints other words, or what is no percentage"
check "one of them" ./sample $A -n 1 --first 3 --seed 4 --steps 12 --show --show-probabilities
[ "$(grep '^t ' $W/err | grep -c -x -F -f $W/shown)" -eq 12 ] && ok || bad "a sentence has other probabilities beside others"
check "a prompt" ./sample $A -n 8 --prompt "the red [MASK] is raw." --steps 12 --show --show-probabilities
awk -F '\t' '/^t / && ($3 != " red" || $4 != 100 || $6 > 99) { exit 1 }' $W/err && ok || bad "a given word is not certain, or a sought one is"
svg denoise build/draw denoise <$W/shown
count denoise 12 '<g class="k"'
count denoise 96 '<text class="c"'
count denoise 12 'noise [01][.][0-9]*<'
count denoise 1 '#k11{opacity:1}' # what is seen where nothing moves
count denoise 1 'prefers-reduced-motion'
count denoise 1 'prefers-color-scheme'
sed -n '/id="k11"/,$p' $W/denoise.svg | sed -n 's/<[^>]*class="c"[^>]*>//p' |
    sed 's/<[^>]*>//g; s/&lt;/</g; s/&gt;/>/g; s/&quot;/"/g; s/&amp;/\&/g' | sort >$W/last
sort $W/sentences | cmp -s - $W/last && ok || bad "the last state of the picture is not what was sampled"
[ $(wc -c <$W/denoise.svg) -lt 200000 ] && ok || bad "denoise.svg has 200 KB or more"
svg plain build/draw denoise <$W/plain
check "a tenth of the steps left out" ./train $TINY --t-min 0.1 --steps 1 $W/text.txt --out $W/late.safetensors
svg late build/draw schedule $W/late.safetensors
count late 1 'class="l0" d="M103.7 ' # t = 5 of 0 to 49
count plain 96 '<text class="c"'
check "--edit" ./sample $A -n 2 --edit "the red onion is raw ." --strength 0.5 --steps 12 --show --show-probabilities
cp $W/err $W/edit
[ $(grep -c '^q ' $W/edit) -eq 12 ] && [ $(grep -c '^t ' $W/edit) -eq 12 ] && ok || bad "--edit does not show 6 states forward and back"
sed -n 's/^q     0 .*| //p' $W/edit | head -n 1 | awk -F '\t' '{ for (i = 1; i < NF; i += 2) printf "%s", $i; print "" }' >$W/begin
[ "$(cat $W/begin)" = "the red onion is raw." ] && ok || bad "the forward process does not begin with the sentence"
svg edit build/draw denoise <$W/edit
count edit 6 '>forward, t'
count edit 6 '>backward, t'
printf 't 9 | a \t100\t\nt 5 | a\t50\t\342\202\t7\t\nt 0 noise 0.1 | a<&>"\\\t1e9\t\n' >$W/odd
svg odd build/draw denoise <$W/odd
count odd 3 '<text class="c"'
refuse 1 "no line of --show" build/draw denoise
printf 't 9 | a\nt 9 | b\nt 5 | a\nt 0 | a\n' >$W/uneven
uneven() { build/draw denoise <$W/uneven; }
refuse 1 "1 sentences of one state, expected 2" uneven

# ---- loss, words, schedule ----------------------------------------------------------------------
svg loss build/draw loss $W/a.jsonl
count loss 5 '<g class="panel"' # not tT_loss, which is nearly 0
count loss 6 '<path class="l0"[^>]*d="M[0-9. ]*L'
count loss 1 'stroke-dasharray'
cp $W/a.jsonl $W/b.jsonl
svg two build/draw loss $W/a.jsonl $W/b.jsonl
count two 6 '<path class="l1"[^>]*d="M[0-9. ]*L'
head -n 1 $W/a.jsonl >$W/one.jsonl
svg one build/draw loss $W/one.jsonl
: >$W/empty
refuse 1 "empty: empty" build/draw loss $W/empty
refuse 1 "none.jsonl: cannot open" build/draw loss $W/none.jsonl
refuse 1 "text.txt: line 1: JSON" build/draw loss $W/text.txt
echo '{"loss":1}' >$W/no-step
refuse 1 'no-step: line 1: no "step"' build/draw loss $W/no-step
vocab=$(./tokenizer show $A | sed -n 's/^size: *\([0-9]*\).*/\1/p')
svg words build/draw words $A
count words $((vocab - 5)) '<circle'
printf 'colour\tred green nothingsuch\nstate\traw cooked\n' >$W/list
svg list build/draw words $A $W/list
grep -q "list: 1 words are not in the vocabulary" $W/err && ok || bad "unknown words are not told"
count list 4 '<circle'
count list 2 'font-weight="bold"'
echo nothingsuch >$W/unknown
refuse 1 "unknown: none of its words is in the vocabulary" build/draw words $A $W/unknown
seq 1 7 | sed 's/$/\tred/' >$W/groups
refuse 1 "groups: more than 6 groups" build/draw words $A $W/groups
refuse 1 "none: cannot open" build/draw words $W/none
refuse 1 "text.txt: " build/draw words $W/text.txt
svg schedule build/draw schedule $A
count schedule 3 '<g class="panel"'
svg no-text build/draw schedule $A data/simple-test.txt
refuse 1 "none.txt: cannot open" build/draw schedule $A $W/none.txt
for command in "" "draw" "loss" "words" "denoise x"; do
    build/draw $command >$W/out 2>$W/err
    [ $? -eq 2 ] && [ ! -s $W/out ] && grep -q usage $W/err && ok || bad "build/draw $command is not refused"
done

# ---- the nearest words --------------------------------------------------------------------------
check "--nearest" ./sample $A --nearest red
[ "$(wc -l <$W/out)" -eq 10 ] && sort -s -r -n -k 1,1 $W/out | cmp -s - $W/out && ok || bad "--nearest: not 10 words in order"
grep -q ' red$' $W/out && bad "--nearest names the word itself" || ok
refuse 1 "'zzzz' is not in the vocabulary" ./sample $A --nearest zzzz
refuse 1 "'red onion' is no single word" ./sample $A --nearest "red onion"
# ---- on a terminal ------------------------------------------------------------------------------
# on_terminal COMMAND: what it writes to one, into $W/screen
on_terminal() { (unset NO_COLOR; export TERM=xterm; script -q -e -c "$1" $W/screen </dev/null >/dev/null 2>&1); }
escape=$(printf '\033')
hidden=$(printf '\033\\[?25l') seen=$(printf '\033\\[?25h')
for env in A=1 NO_COLOR=1 TERM=dumb; do
    check "--show elsewhere" env $env ./sample $A -n 3 --steps 12 --show
    cat $W/out $W/err | grep -q "$escape" && bad "--show has escape codes where there is no terminal" || ok
done
check "--show forward elsewhere" ./sample $A -n 2 --edit "the red onion is raw." --steps 12 --show forward
[ "$(grep -c '^q ' $W/err)" -eq 24 ] && [ "$(grep -c '^t ' $W/err)" -eq 12 ] && ok || bad "--show forward: not 12 states forward and 6 back as lines"
[ "$(grep '^q ' $W/err | head -n 1)" = "q     0 | the red onion is raw." ] && ok || bad "--show forward does not begin with the sentence"
if on_terminal true && [ -e $W/screen ]; then
    check "lines" ./sample $A -n 1 --steps 12 --frames 50 --show
    cp $W/out $W/sentence && sed -n 's/^t .* | //p' $W/err >$W/plain
    on_terminal "./sample $A -n 1 --steps 12 --frames 50 --show --fps 1000"
    tr -d '\r' <$W/screen | sed -n '/back, t/{n;p;}' | sed "s/$escape\[[0-9;]*[mK]//g" >$W/frames
    same $W/frames $W/plain "the frames on a terminal are not the lines elsewhere"
    grep -q "$hidden" $W/screen && grep -q "$seen" $W/screen && ok || bad "the cursor is not hidden, or not restored"
    tr -d '\r' <$W/screen | sed "s/.*$escape\[J//; s/$seen//" | grep -q -x -F "$(cat $W/sentence)" && ok || bad "the sentence is not printed"
    on_terminal "./sample $A -n 2 --edit 'the red onion is raw.' --steps 12 --show --fps 1000"
    [ "$(grep -c 'forward, t' $W/screen)" -eq 6 ] && [ "$(grep -c 'back, t' $W/screen)" -eq 6 ] && ok || bad "--edit does not dissolve and come back"
    on_terminal "./sample $A -n 2 --edit 'the red onion is raw.' --steps 12 --show forward --fps 1000"
    [ "$(grep -c 'forward, t' $W/screen)" -eq 12 ] && [ "$(grep -c 'back, t' $W/screen)" -eq 6 ] && ok || bad "--show forward does not go all the way"
    ./sample $A -n 60 --seed 3 --steps 12 2>/dev/null >$W/all
    on_terminal "stty rows 12 cols 30; timeout -s INT 2 ./sample $A -n 60 --seed 3 --steps 12 --show --fps 9"
    tr -d '\r' <$W/screen | sed "s/.*$seen//" >$W/kept
    grep -c -x -F -f $W/all $W/kept >$W/number
    grep -q "stopped by a signal" $W/screen && grep -q "$seen" $W/screen && [ $(cat $W/number) -gt 3 ] && [ $(cat $W/number) -lt 60 ] && ok ||
        bad "after Ctrl-C the cursor or the sentences are lost ($(cat $W/number) of 60)"
    tr -d '\r' <$W/screen | sed "/stopping/,\$d; s/$escape\[[0-9;?]*[a-zA-Z]//g" | grep -v 'diffusion\|^Script' | LC_ALL=C.UTF-8 grep -q '^.\{30,\}' && bad "a frame is wider than the terminal" || ok
    on_terminal "stty cols 50; ./train $TINY --steps 400 --progress-seconds 0.02 --log-interval 50 --out $W/b.safetensors $W/text.txt"
    tr '\r' '\n' <$W/screen | sed -n "s/$escape\[K\$//; /^step [0-9]*\/400 /p" >$W/lines
    [ $(wc -l <$W/lines) -gt 2 ] && awk 'length > 49 { exit 1 }' $W/lines && ok || bad "progress lines do not fit the terminal"
    tail -n 1 $W/lines | grep -q '^step 400/400 .* left$' && ok || bad "the last progress line is not of the last step"
    kept=$(tr -d '\r' <$W/screen | grep -c "^.*step [0-9]*/400 .*$escape\[K\$") all=$(wc -l <$W/lines)
    [ $kept -eq $(((all + 9) / 10)) ] && ok || bad "of $all progress lines $kept stay, expected every tenth and the last"
    on_terminal "./train $TINY --steps 60 --preview 20 --log-interval 10 --val data/simple-test.txt --out $W/c.safetensors $W/text.txt"
    tr -d '\r' <$W/screen | sed "s/$escape\[K//g" >$W/lines
    [ $(grep -c '^step [246]0 makes of noise:$' $W/lines) -eq 3 ] && [ $(grep -c '^  [^ ]' $W/lines) -eq 9 ] && ok || bad "--preview does not show three sentences three times"
    check "without a terminal" ./train $TINY --steps 60 --preview 20 --log-interval 10 --val data/simple-test.txt --out $W/d.safetensors $W/text.txt
    grep -q 'makes of noise' $W/err && bad "--preview without a terminal" || ok
    same $W/c.safetensors $W/d.safetensors "--preview changes the result"
    for name in c d; do sed 's/,"seconds".*//' $W/$name.jsonl >$W/$name.log; done
    same $W/c.log $W/d.log "--preview changes the log"
    on_terminal "TICK=0.02 sh test/run.sh corpora"
    tr '\r' '\n' <$W/screen | grep -q '^   [0-9]* s.*' && tr -d '\r' <$W/screen | grep -q '^== [0-9]*/[0-9]* corpora' && ok ||
        bad "on a terminal run.sh does not say how far it is"
    on_terminal "NO_COLOR=1 ./sample $A -n 2 --steps 12 --show"
    grep -q "$escape" $W/screen && bad "escape codes with NO_COLOR" || ok
    on_terminal "TERM=dumb ./sample $A -n 2 --steps 12 --show"
    grep -q "$escape" $W/screen && bad "escape codes with TERM=dumb" || ok
else
    skip "there is no script to make a terminal"
fi
[ "$no_xmllint" ] && skip "there is no xmllint"
finish
