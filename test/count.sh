# count.sh - how tests in shell count; they read it with ". test/count.sh", keep what they make in
# the folder $W and close with finish.
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); counted; }
bad() { failed=$((failed + 1)); echo "FAIL $1"; counted; }
counted() { [ -z "$COUNT" ] || echo $((passed + failed)) >"$COUNT"; } # for who waits: run.sh
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
check() { what=$1; shift; if "$@" >$W/out 2>$W/err; then ok; else blame "$what"; fi; }
same() { if cmp -s "$1" "$2"; then ok; else bad "$3"; fi; }
# blame MESSAGE: bad, and what the command said
blame() { bad "$1"; sed 's/^/     /' $W/err | tail -n 3; }

# telling TEXT: what is running now, on stderr: on a terminal a line over the last one, which told takes away
telling() { if [ -t 2 ]; then printf '\r%s\033[K' "$1" >&2; else echo "$1" >&2; fi; }
told() { [ ! -t 2 ] || printf '\r\033[K' >&2; }

# refuse EXIT_CODE 'part of the message' command...: fails with that code, nothing on stdout, and
# names the fault in its last line
refuse() {
    want=$1 part=$2
    shift 2
    "$@" >$W/out 2>$W/err </dev/null
    got=$?
    if [ $got -ne $want ]; then blame "exit code $got, expected $want: $*"
    elif [ -s $W/out ]; then blame "wrote to stdout: $*"
    elif tail -n 1 $W/err | grep -qF -e "$part"; then ok
    else blame "no '$part' in the message of: $*"; fi
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
}
