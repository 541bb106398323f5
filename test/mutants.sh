# mutants.sh [ONLY] - called by "make mutants": would the tests notice? Each line of
# test/mutants.txt is a fault,
#   NAME <TAB> FILE <TAB> EDIT <TAB> TEST <TAB> MESSAGE
# which EDIT (of sed -E) makes in FILE, in one line. Then TEST - unit, double-unit, text, unicode,
# parity, golden, behaviour, safety, pytorch, draw or cli - must print a line with FAIL and this MESSAGE. With
# ONLY, the faults whose NAME contains it (a pattern of the shell).
. test/count.sh
W=build/mutants
LIST=test/mutants.txt
MAKE=${MAKE:-make}

# What a test needs to be made, and how it is run
targets() {
    case $1 in
    unit | double-unit | text) echo build/$1 ;;
    parity) echo build/parity build/double-parity ;;
    golden) echo all build/peek build/evaluate plain ;;
    behaviour) echo all build/peek build/replay ;;
    unicode) echo build/peek ;;
    pytorch) echo all build/double-peek ;;
    cli) echo all build/evaluate build/peek build/simple ;;
    safety) echo all ;;
    draw) echo all build/draw build/simple ;;
    *) return 1 ;;
    esac
}
run() {
    case $1 in
    unit | double-unit) build/$1 ;;
    text) build/text build ;;
    unicode) ${PYTHON:-/usr/bin/python3} test/unicode.py build/peek ;;
    pytorch) mkdir -p build/pytorch && ${PYTHON:-/usr/bin/python3} test/pytorch.py build/pytorch ;;
    parity) build/double-parity test/golden; build/parity test/golden ;;
    *) sh test/$1.sh ;;
    esac
}

tab=$(printf '\t')
rm -rf $W && mkdir -p $W/clean
while IFS=$tab read -r name rest; do
    case $name in '' | '#'*) ;; *${1:-}*) printf '%s\t%s\n' "$name" "$rest" ;; esac
done <$LIST >$W/list

# The tree without a fault, all made. Objects that there are keep their times and so need not be
# made again, neither here nor for a fault in another file.
mkdir -p build/plain
cp -Rp Makefile *.c *.h data test $W/clean/ && mkdir $W/clean/build &&
    cp -Rp build/plain $(ls build/*.o build/flags 2>/dev/null) $W/clean/build/ || exit 1
telling "making what $(($(wc -l <$W/list))) faults need ..."
needed=$(cut -f 4 $W/list | sort -u | while read -r test; do targets $test; done)
(cd $W/clean && $MAKE $needed >build.txt 2>&1) || { tail -n 5 $W/clean/build.txt; exit 1; }

all=$(wc -l <$W/list) number=0
while IFS=$tab read -r name file edit test message; do
    number=$((number + 1))
    telling "$number of $((all)), $name by $test ..."
    rm -rf $W/tree && cp -Rp $W/clean $W/tree
    sed -E "$edit" $W/clean/$file >$W/tree/$file # the tree's own file may change meanwhile
    changed=$(diff $W/clean/$file $W/tree/$file | grep -c '^<')
    if [ $changed -ne 1 ]; then told; bad "$name: changes $changed lines, must change one"
    elif ! (cd $W/tree && $MAKE $(targets $test)) >$W/build.txt 2>&1; then
        told
        bad "$name: cannot be built"
        tail -n 3 $W/build.txt
    else
        (cd $W/tree && run $test) </dev/null >$W/out 2>&1
        told
        found=$(LC_ALL=C grep '^FAIL' $W/out | LC_ALL=C grep -F -e "$message" | head -n 1)
        if [ "$found" ]; then ok; echo "caught $name by $test: ${found#FAIL }"
        else
            failed=$((failed + 1))
            echo "MISSED $name by $test: no FAIL with '$message'"
            LC_ALL=C grep '^FAIL' $W/out | head -n 3 | sed 's/^/     /'
        fi
    fi
done <$W/list

rm -rf $W
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
