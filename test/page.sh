# page.sh - called by "make page", in the project's folder: makes build/tdiff.html, one file with all that it needs.
#
# The programs become WebAssembly, two small models are trained, and page.html's lines <!-- FILE --> become that file of
# test/page/, its lines <!-- data: NAME ... --> those of build/page/, packed by gzip, in base64.
# With --test ("make page-test") the page is then tried in Chromium, by test/page.py; what is not installed is skipped.
CLANG=${CLANG:-clang}
W=build/page
FLAGS="--target=wasm32-wasi -std=c99 -O3 -ffp-contract=off -fno-trapping-math -fno-math-errno -msimd128 -I.
    -D_WASI_EMULATED_SIGNAL -lwasi-emulated-signal -lm -Wl,--stack-first -Wl,-z,stack-size=1048576 -Wl,--strip-all"
mkdir -p $W

printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' >$W/probe.c
if ! $CLANG --target=wasm32-wasi -o $W/probe.wasm $W/probe.c 2>$W/probe.txt; then
    head -n 3 $W/probe.txt >&2
    echo "make page needs clang with lld and its runtime for wasm32, and wasi-libc: on Debian" \
        "apt-get install clang lld libclang-rt-14-dev-wasm32 wasi-libc (14 being clang's version)" >&2
    [ "$1" = --test ] || exit 1
    echo "skipped: the page cannot be made"
    echo "0 passed, 0 failed, 1 skipped"
    exit
fi

# newer FILE SOURCE...: is FILE there, and newer than each of the others?
newer() {
    made=$1
    shift
    [ -f $made ] && [ -z "$(find "$@" -newer $made)" ]
}

for program in train sample draw; do
    source=$program.c
    [ $program = draw ] && source=test/draw.c
    newer $W/$program.wasm $source tdiff.c tokenizer.c tdiff.h test/page.sh && continue
    echo "$CLANG $W/$program.wasm"
    $CLANG $FLAGS -o $W/$program.wasm $source tdiff.c tokenizer.c || exit 1
done

cp data/greetings-train.txt $W/greetings.txt
head -n 2000 data/simple-train.txt >$W/fruit.txt
newer $W/invented.txt data/names.awk || awk -f data/names.awk >$W/invented.txt
awk -f data/german.awk >$W/german.txt
build/simple --words >$W/simple.list

# model NAME TEXT OPTION...: without what only --resume needs
model() {
    name=$1 text=$2
    shift 2
    newer $W/$name.safetensors test/page.sh $text && return
    echo "./train $text $*"
    ./train $text "$@" --overwrite --out $W/whole.safetensors 2>$W/$name.err &&
        ./train --export $W/whole.safetensors $W/new.safetensors 2>>$W/$name.err &&
        mv $W/new.safetensors $W/$name.safetensors || { cat $W/$name.err >&2; exit 1; }
}
model simple data/simple-train.txt --recipe templates --layers 2 --hidden 64 --ffn 256 --emb-dim 48 --time-dim 64 --lr 0.003
model names $W/invented.txt --tokenizer char --layers 3 --hidden 64 --ffn 192 --emb-dim 32 --time-dim 64 --lr 0.003 --steps 3000

while IFS= read -r line; do
    case $line in
    '<!-- data: '*)
        for name in $(expr "$line" : '<!-- data: \(.*\) -->'); do
            printf '<script type="application/octet-stream" id="%s">' $name
            gzip -9nc $W/$name | base64 | tr -d '\n'
            echo '</script>'
        done ;;
    '<!-- '*.css' -->' | '<!-- '*.js' -->') cat test/page/$(expr "$line" : '<!-- \(.*\) -->') ;;
    *) printf '%s\n' "$line" ;;
    esac
done <test/page/page.html >$W/new.html && mv $W/new.html build/tdiff.html
echo "build/tdiff.html: $(($(wc -c <build/tdiff.html) / 1024)) KB"

[ "$1" = --test ] || exit 0
for python in python3 /usr/bin/python3; do
    $python -c 'import selenium' 2>/dev/null && command -v chromedriver >/dev/null 2>&1 && exec $python test/page.py
done
echo "skipped: the page in a browser needs python3-selenium and chromium-driver"
echo "0 passed, 0 failed, 1 skipped"
