# german.awk - a small German text: sentences in which articles, adjectives and nouns agree in gender and case.
#
#   awk -f data/german.awk >german.txt        3,000 sentences, the same with every awk

function below(n) { state = state * 69621 % 2147483647; return int(state / 2147483647 * n) }
function one_of(list, words) { return words[1 + below(split(list, words, "|"))] }

# The noun, "m Koch" or "f Köchin" or "n Kind", behind an article and perhaps an adjective; kase: nominative, accusative, dative.
function phrase(list, kase, noun, gender, indefinite, article, end, adjective) {
    noun = one_of(list); gender = substr(noun, 1, 1); noun = substr(noun, 3); indefinite = below(2)
    if (gender == "f") article = kase == "dative" ? "der|einer" : "die|eine"
    else if (kase == "dative") article = "dem|einem"
    else if (gender == "n") article = "das|ein"
    else article = kase == "nominative" ? "der|ein" : "den|einen"
    split(article, either, "|")
    end = kase == "dative" || (gender == "m" && kase == "accusative") ? "en" : "e"
    if (indefinite && end == "e" && gender == "m") end = "er"
    if (indefinite && end == "e" && gender == "n") end = "es"
    adjective = below(3) ? one_of("klein|groß|alt|jung|schön|müd|grün|weiß|süß|fröhlich|höflich|kühl|schmal|rund|gemütlich") end " " : ""
    return either[1 + indefinite] " " adjective noun
}
function capital(text) { return toupper(substr(text, 1, 1)) substr(text, 2) }

BEGIN {
    state = 5
    who = "m Koch|f Köchin|n Mädchen|m Bäcker|f Großmutter|n Kätzchen|m Schüler|f Ärztin|m König|f Nachbarin|n Pferd|m Hund"
    what = "m Apfel|f Birne|n Brötchen|m Schlüssel|f Tür|n Buch|m Käse|f Blüte|n Gemüse|m Löffel|f Schüssel|n Bild"
    where = "m Baum|f Brücke|n Haus|m Garten|f Küche|n Gebäude|m Fluss|f Straße|n Tor|m Hügel|f Mühle|n Fenster"
    sees = "sieht|findet|kauft|zählt|trägt|verschönert|sucht|schätzt|hört|öffnet"
    sleeps = "schläft|wartet|singt|träumt|läuft|sitzt|lächelt|spielt|tanzt|steht"
    when = "Am Abend|Heute früh|Im März|Morgens|Später|Jeden Tag|Nächste Woche|Plötzlich"
    place = "vor|hinter|neben|unter"
    for (i = 0; i < 3000; i++) {
        kind = below(5)
        if (kind == 0) print capital(phrase(who, "nominative")), one_of(sees), phrase(what, "accusative") "."
        if (kind == 1) print one_of(when), one_of(sleeps), phrase(who, "nominative"), one_of(place), phrase(where, "dative") "."
        if (kind == 2) print one_of("Warum|Wo|Wann|Wie lange"), one_of(sleeps), phrase(who, "nominative") "?"
        if (kind == 3) print "„" one_of("Wo|Wie teuer|Wie schön") " ist " phrase(what, "nominative") "?“ fragt " phrase(who, "nominative") "."
        if (kind == 4) print one_of(when), one_of(sees), phrase(who, "nominative"), phrase(what, "accusative"), one_of(place), phrase(where, "dative") "."
    }
}
