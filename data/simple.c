/* simple.c - makes the simple corpus: sentences `The COLOUR FOOD is STATE.`
 *
 *   cc -std=c99 -O2 -o simple simple.c
 *   ./simple DIR        writes into DIR (default: the current directory)
 *       simple-train.txt     20,000 sentences, one a line
 *       simple-test.txt      500 others
 *       simple-labeled.tsv   the training sentences, each with a TAB and a label:
 *                            1 if the colour is red, blue, green or white, else 0
 *   ./simple --words    prints the three lists, a line `colour|food|state TAB word(s)` each
 *
 * 10 colours * 90 foods * 54 states = 48,600 sentences, all equally likely: log2(48,600) = 15.57
 * bits each. The test sentences are among the 28,600 that are not for training, so the least that a
 * model can need for one of them is log2(28,600) = 14.80 bits. One shuffle orders them all, the
 * first 20,000 are the training set and the next 500 the test set, so that no sentence occurs
 * twice. The output is the same on every machine. No colour word occurs in a food or a state, so
 * every sentence has one reading.
 *
 * Beside it lie greetings-train.txt (300 lines) and greetings-test.txt (100 others): short
 * greetings written by hand for this project. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { COLOURS = 10, LABEL_ONE = 4, FOODS = 90, STATES = 54 };
enum { SENTENCES = COLOURS * FOODS * STATES, TRAIN = 20000, TEST = 500 };

static const char *const colours[COLOURS] = {
    /* the first LABEL_ONE have label 1 */
    "red", "blue", "green", "white", "black", "yellow", "orange", "purple", "pink", "brown",
};

static const char *const foods[FOODS] = {
    "apple",
    "apricot",
    "artichoke",
    "asparagus",
    "avocado",
    "banana",
    "bean",
    "beet",
    "broccoli",
    "cabbage",
    "carrot",
    "cauliflower",
    "celery",
    "chard",
    "cherry",
    "chestnut",
    "chickpea",
    "chicory",
    "clementine",
    "coconut",
    "corn",
    "cranberry",
    "cucumber",
    "currant",
    "date",
    "eggplant",
    "endive",
    "fennel",
    "fig",
    "garlic",
    "ginger",
    "gooseberry",
    "grape",
    "grapefruit",
    "guava",
    "kale",
    "kiwi",
    "kohlrabi",
    "leek",
    "lemon",
    "lentil",
    "lettuce",
    "lime",
    "lychee",
    "mandarin",
    "mango",
    "melon",
    "mulberry",
    "mushroom",
    "nectarine",
    "okra",
    "olive",
    "onion",
    "papaya",
    "parsnip",
    "pea",
    "peach",
    "pear",
    "pepper",
    "persimmon",
    "pineapple",
    "plum",
    "pomegranate",
    "potato",
    "pumpkin",
    "quince",
    "radish",
    "raspberry",
    "rhubarb",
    "rutabaga",
    "shallot",
    "spinach",
    "squash",
    "strawberry",
    "tomato",
    "turnip",
    "watermelon",
    "zucchini",
    "bean sprout",
    "bell pepper",
    "bok choy",
    "broad bean",
    "brussels sprout",
    "passion fruit",
    "runner bean",
    "snap pea",
    "spring onion",
    "star fruit",
    "sweet corn",
    "sweet potato",
};

static const char *const states[STATES] = {
    "baked",      "bitter",     "blanched",  "boiled",      "braised",    "bruised",
    "burnt",      "candied",    "canned",    "chilled",     "chopped",    "cold",
    "cooked",     "crisp",      "crushed",   "delicious",   "dried",      "fermented",
    "fresh",      "fried",      "frozen",    "glazed",      "grated",     "grilled",
    "halved",     "hot",        "juicy",     "marinated",   "mashed",     "moldy",
    "peeled",     "pickled",    "poached",   "raw",         "ripe",       "roasted",
    "rotten",     "salted",     "sliced",    "smoked",      "soft",       "steamed",
    "stewed",     "stuffed",    "tender",    "toasted",     "deep-fried", "freeze-dried",
    "half-eaten", "oven-baked", "pan-fried", "slow-cooked", "stir-fried", "sun-dried",
};

static int order[SENTENCES]; /* (colour * FOODS + food) * STATES + state, shuffled */

/* Fisher-Yates. The high half of a 64-bit LCG (Knuth's MMIX constants) is the random number; the
 * bias of % is below SENTENCES / 2^32, about one in 10^5. */
static void shuffle(void)
{
    uint64_t lcg = 5;
    for (int i = 0; i < SENTENCES; i++) order[i] = i;
    for (int i = SENTENCES - 1; i > 0; i--) {
        lcg = lcg * 6364136223846793005u + 1442695040888963407u;
        int j = (int)((lcg >> 32) % (uint64_t)(i + 1));
        int swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* Writes sentences first .. first + count - 1 to dir/name; 0, or -1 after a message. */
static int write_file(const char *dir, const char *name, int first, int count, int labeled)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        fprintf(stderr, "simple: the directory name is too long\n");
        return -1;
    }
    FILE *f = fopen(path, "wb"); /* "wb": \n alone ends a line everywhere */
    int ok = f != NULL;
    for (int i = first; ok && i < first + count; i++) {
        int colour = order[i] / (FOODS * STATES), food = order[i] / STATES % FOODS,
            state = order[i] % STATES;
        ok = fprintf(f, "The %s %s is %s.%s\n", colours[colour], foods[food], states[state],
                     !labeled             ? ""
                     : colour < LABEL_ONE ? "\t1"
                                          : "\t0") > 0;
    }
    int error = errno; /* of the first failure; fclose may set another */
    if (f && fclose(f) != 0 && ok) {
        ok = 0;
        error = errno;
    }
    if (!ok) fprintf(stderr, "simple: cannot write %s: %s\n", path, strerror(error));
    return ok ? 0 : -1;
}

static int print_words(void)
{
    int ok = 1;
    for (int i = 0; i < COLOURS; i++) ok = ok && printf("colour\t%s\n", colours[i]) > 0;
    for (int i = 0; i < FOODS; i++) ok = ok && printf("food\t%s\n", foods[i]) > 0;
    for (int i = 0; i < STATES; i++) ok = ok && printf("state\t%s\n", states[i]) > 0;
    if (fclose(stdout) != 0) ok = 0;
    if (!ok) fprintf(stderr, "simple: cannot write the word lists: %s\n", strerror(errno));
    return ok ? 0 : -1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--words") == 0) return print_words() ? 1 : 0;
    if (argc > 2 || (argc == 2 && (argv[1][0] == '-' || argv[1][0] == '\0'))) {
        fprintf(stderr, "usage: simple [DIR | --words]\n");
        return 1;
    }
    const char *dir = argc == 2 ? argv[1] : ".";
    shuffle();
    if (write_file(dir, "simple-train.txt", 0, TRAIN, 0)) return 1;
    if (write_file(dir, "simple-test.txt", TRAIN, TEST, 0)) return 1;
    if (write_file(dir, "simple-labeled.tsv", 0, TRAIN, 1)) return 1;
    return 0;
}
