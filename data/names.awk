# names.awk - invented names, for learning letter by letter: a beginning, one or two syllables, an ending.
#
#   awk -f data/names.awk >names.txt        3,000 names, no two alike, the same with every awk

function below(n) { state = state * 69621 % 2147483647; return int(state / 2147483647 * n) }
function one_of(list, parts) { return parts[1 + below(split(list, parts, " "))] }

# Of two vowels that meet, the first goes: "mari" and "anne" make "maranne".
function join(a, b) { if (a ~ /[aeiou]$/ && b ~ /^[aeiou]/) sub(/[aeiou]+$/, "", a); return a b }

BEGIN {
    state = 7
    begin = "al an be bri ca chri da de do el em fa flo ga gre ha i ja jo ka ke la le li lu ma mi na ni o pa pe ra ri ro" \
        " sa se ste ta te ti tho u va ve vi wi ya yo za"
    middle = "bel da den di la le li lo ma mi na ne ni no ra re ri ro sa se ta te ti va vi"
    end = "a ah an ar as ella en er eth ia iel ika in ina is lyn na nor on ra ric rin ron sha ta ton tte us van vin wyn"
    while (count < 3000) {
        name = one_of(begin)
        for (i = below(3); i > 0; i--) name = join(name, one_of(middle))
        name = join(name, one_of(end))
        if (length(name) < 3 || name in seen) continue
        seen[name] = 1
        count++
        print name
    }
}
