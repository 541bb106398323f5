# portability.sh - called by "make portability": the programs, built by other compilers and for other machines, which
# an emulator runs where there is one. A training of 20 steps, the same with a stop and a resume from this machine's
# own checkpoint, and 5 samples must have the bytes of their class, with or without fused multiply-add. What is not
# installed is skipped; CI installs it (.ci/run has the names of the Debian packages).
. test/count.sh
W=build/portability
P=$(pwd)/$W
EXACT="-std=c99 -O2 -ffp-contract=off"
SOURCES="tdiff.c tokenizer.c"
TRAIN="--hidden 16 --layers 1 --heads 2 --ffn 24 --emb-dim 8 --time-dim 8 --batch 8 --diffusion-steps 50
    --warmup 5 --steps 20 --threads 1 --val data/simple-test.txt data/simple-train.txt --overwrite"
rm -rf $W && mkdir -p $W

# build FOLDER COMPILER...
build() {
    folder=$1
    shift
    mkdir -p $folder
    for program in train sample; do "$@" -o $folder/$program $program.c $SOURCES -lm 2>>$folder/cc.txt || return 1; done
}

# run FOLDER [EMULATOR...]: what it makes, into FOLDER
run() {
    folder=$1
    shift
    cp $reference/half.safetensors $folder/again.safetensors &&
        "$@" $folder/train $TRAIN --out $folder/whole.safetensors >/dev/null 2>$folder/err.txt &&
        "$@" $folder/train --resume $folder/again.safetensors --val data/simple-test.txt data/simple-train.txt \
            --threads 1 >/dev/null 2>>$folder/err.txt &&
        "$@" $folder/sample $folder/whole.safetensors -n 5 --threads 1 >$folder/samples.txt 2>>$folder/err.txt
}

# This machine, without and with fused multiply-add: what all others are compared with
flags_plain="" flags_fma="-mfma"
for class in plain fma; do
    reference=$W/$class
    build $reference ${CC:-cc} $EXACT $(eval echo \$flags_$class) &&
        $reference/train $TRAIN --stop-at 10 --out $reference/half.safetensors 2>/dev/null &&
        run $reference || { echo "$class: not to be had on this machine"; rm -rf $reference; }
done

# machine NAME CLASS "COMPILER..." "EMULATOR...": 1 passed if its bytes are those of the class
machine() {
    name=$1 reference=$W/$2
    set -- "$3" "$4"
    for tool in ${1%% *} ${2%% *}; do
        command -v $tool >/dev/null 2>&1 || { skip "$name: there is no $tool"; return; }
    done
    [ -d $reference ] || { skip "$name: this machine has no such arithmetic"; return; }
    if ! build $W/$name $1 $EXACT; then
        bad "$name: does not compile"
        head -n 5 $W/$name/cc.txt
    elif ! run $W/$name $2; then
        bad "$name: does not run"
        tail -n 3 $W/$name/err.txt
    else
        for file in whole.safetensors again.safetensors samples.txt; do
            cmp -s $W/$name/$file $reference/$file && ok || bad "$name: $file has not the bytes of $reference"
        done
        echo "$name: ${reference#$W/}"
    fi
}

machine gcc plain "gcc" ""
machine clang plain "clang" ""
machine tcc plain "tcc" ""
machine musl plain "musl-gcc -static" ""
for standard in c99 c11 c17 c2x; do
    machine $standard plain "gcc -pedantic-errors -Wall -Wextra -Wshadow -Werror -Wno-unknown-pragmas -std=$standard" ""
done
machine i686 plain "i686-linux-gnu-gcc -static -msse2 -mfpmath=sse" "qemu-i386"
if [ -x $W/i686/sample ]; then # a file of more than 2 GB, which a long cannot count there
    header='{"a":{"dtype":"U8","shape":[2400000000],"data_offsets":[0,2400000000]}}'
    printf "$(printf '\\%03o' ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header" >$W/large
    truncate -s $((8 + ${#header} + 2400000000)) $W/large
    qemu-i386 $W/i686/sample --info $W/large >$W/info.txt 2>&1 && grep -q '"a" U8' $W/info.txt && ok ||
        bad "i686: a file of 2.4 GB: $(head -n 1 $W/info.txt)"
    rm $W/large
fi
machine armhf plain "arm-linux-gnueabihf-gcc -static" "qemu-arm"
machine aarch64 fma "aarch64-linux-gnu-gcc -static" "qemu-aarch64"
machine riscv64 fma "riscv64-linux-gnu-gcc -static" "qemu-riscv64"
machine s390x fma "s390x-linux-gnu-gcc -static -fexcess-precision=fast" "qemu-s390x" # big-endian

# WebAssembly, run by node: a file system of this folder and no more
cat >$W/wasi.mjs <<'EOF'
import { WASI } from 'node:wasi';
import { readFileSync } from 'node:fs';
const wasi = new WASI({ version: 'preview1', args: process.argv.slice(2), preopens: { '.': '.' } });
const code = await WebAssembly.compile(readFileSync(process.argv[2]));
process.exit(wasi.start(await WebAssembly.instantiate(code, { wasi_snapshot_preview1: wasi.wasiImport })) ?? 0);
EOF
machine wasm32 plain "clang --target=wasm32-wasi -D_WASI_EMULATED_SIGNAL -lwasi-emulated-signal" "node --no-warnings $P/wasi.mjs"

# Several processes: the losses of one within rounding, and the same bytes when they do it again
several() {
    for tool in mpicc mpirun; do command -v $tool >/dev/null 2>&1 || { skip "MPI: there is no $tool"; return; }; done
    build $W/mpi mpicc $EXACT -DTDIFF_MPI || { bad "MPI: does not compile"; head -n 5 $W/mpi/cc.txt; return; }
    mpi="mpirun --allow-run-as-root --oversubscribe"
    long="$TRAIN --recipe best --schedule-sampler loss-second-moment --steps 40 --log-interval 40"
    $W/mpi/train $long --out $W/mpi/1.safetensors 2>/dev/null
    for n in 2 4; do
        for again in "" again; do $mpi -n $n $W/mpi/train $long --out $W/mpi/$n$again.safetensors 2>$W/mpi/err.txt; done
        cmp -s $W/mpi/$n.safetensors $W/mpi/${n}again.safetensors && ok || bad "MPI: $n processes do not do the same twice"
        cat $W/mpi/1.jsonl $W/mpi/$n.jsonl | sed -n 's/.*"loss":\([0-9.]*\).*"val_loss":\([0-9.]*\).*/\1 \2/p' | awk '
            NR == 1 { loss = $1; val = $2; next }
            { off = ($1 / loss - 1)^2 + ($2 / val - 1)^2 }
            END { exit !(NR == 2 && off < 1e-8) }' && ok || bad "MPI: $n processes learn something else than one"
    done
    # a process that dies ends all, and what was saved stays
    $mpi -n 2 $W/mpi/train $long --steps 1000000 --save-interval 10 --out $W/mpi/dead.safetensors >$W/mpi/err.txt 2>&1 &
    all=$!
    for i in 1 2 3 4 5 6 7 8 9 10; do [ -s $W/mpi/dead.safetensors ] && break; sleep 1; done
    one=$(ps -ef | awk -v "program=$W/mpi/train" '$8 == program { print $2; exit }')
    kill -KILL $one
    wait $all && bad "MPI: a process that dies is not noticed" || ok
    $W/mpi/sample $W/mpi/dead.safetensors -n 1 --threads 1 >/dev/null 2>&1 && ok || bad "MPI: what was saved is lost"
    echo "MPI: 2 and 4 processes"
}
several

# Windows: compiled and linked; nothing here can run it
if command -v x86_64-w64-mingw32-gcc >/dev/null 2>&1; then
    build $W/mingw x86_64-w64-mingw32-gcc $EXACT && ok || { bad "mingw: does not compile"; head -n 5 $W/mingw/cc.txt; }
else skip "mingw: there is no x86_64-w64-mingw32-gcc"; fi

finish
