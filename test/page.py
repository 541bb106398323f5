"""page.py - build/tdiff.html in Chromium: are its bytes those of the plain native build, are faults told, can it be used
by keyboard, in the dark, on a narrow screen? Called by "make page-test"; closes with "N passed, N failed". It needs
python3-selenium and chromium-driver (Debian's names). Leaves screenshots of the page in build/page-test/.

The programs that it compares with are build/plain/train and build/plain/sample, compiled for a processor without FMA."""
import json, os, re, shutil, subprocess, sys, time
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

ROOT = os.getcwd()
W = os.path.join(ROOT, "build/page-test")
PAGE = "file://" + os.path.join(ROOT, "build/tdiff.html")
TINY = ("--hidden 16 --layers 1 --heads 2 --ffn 24 --emb-dim 8 --time-dim 8 --batch 8 --diffusion-steps 50 --warmup 5").split()
PATIENCE = 60  # seconds that anything may take, on a busy machine
passed = failed = 0


def check(is_right, what):
    global passed, failed
    if is_right:
        passed += 1
    else:
        failed += 1
        print("FAIL", what)


def native(program, *args):
    """Exit code, stdout and the lines of stderr of the plain build, among the files of W."""
    done = subprocess.run([os.path.join(ROOT, "build/plain", program), *args], cwd=W, capture_output=True)
    said = done.stderr.decode("utf-8", "replace").strip().split("\n")
    return done.returncode, done.stdout, said


def begin_browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,900", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": W})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options)


def js(script, *args):
    return browser.execute_script("const $ = (id) => document.getElementById(id); " + script, *args)


def element(id):
    return browser.find_element(By.ID, id)


def text_of(id):
    return js("return $(arguments[0]).textContent", id)


def fill(id, value):
    js("$(arguments[0]).value = arguments[1]; $(arguments[0]).dispatchEvent(new Event('input'))", id, str(value))


def choose(id, value):
    Select(element(id)).select_by_value(value)


def press(selector):
    browser.find_element(By.CSS_SELECTOR, selector).click()


def wait(condition, *args):
    """Until the JavaScript is true; False after PATIENCE seconds."""
    end = time.time() + PATIENCE
    while time.time() < end:
        if js("return " + condition, *args):
            return True
        time.sleep(0.05)
    return False


def open_page(address=PAGE):
    browser.get(address)
    return wait("document.body.dataset.ready || $('open-fault').textContent")


def choose_model(name):
    js("$('model').value = arguments[0]; $('model').onchange()", name)
    wait("$('words').shadowRoot && $('words').shadowRoot.querySelector('svg') && !$('sentences').textContent")


def fault(id):
    wait("$(arguments[0]).textContent", id)
    return text_of(id)


def sample(**settings):
    """Sets the form's fields and presses Denoise; the text that comes out of it."""
    for id, value in settings.items():
        (choose if id == "kind" else fill)(id, value)
    press("#sample button")
    wait("$('sampled').textContent || $('sample-fault').textContent")
    return text_of("sampled").encode()


def drop(path):
    """A file from outside falls onto the page."""
    with open(path, "rb") as file:
        data = list(file.read())
    js("""const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(arguments[1])], arguments[0]));
          document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));""",
       os.path.basename(path), data)


def download(name):
    """The bytes behind the page's link of that name, by way of the browser's download folder."""
    path = os.path.join(W, name)
    if os.path.exists(path):
        os.remove(path)
    browser.find_element(By.LINK_TEXT, name).click()
    end = time.time() + PATIENCE
    while not os.path.exists(path) and time.time() < end:
        time.sleep(0.1)
    with open(path, "rb") as file:
        return file.read()


def write(name, data):
    with open(os.path.join(W, name), "wb") as file:
        file.write(data)
    return os.path.join(W, name)


def train(options, steps):
    fill("options", " ".join(options))
    fill("train-steps", steps)
    press("#train button")


def wait_for_training():
    return wait("$('stop').disabled && ($('train-fault').textContent || $('learnt').textContent)")


# ---- what is compared with the native programs -----------------------------------------------------------------------


def sampling():
    cases = [("simple", "noise", "", []), ("simple", "noise", "7-9", ["--length", "7-9"]), ("names", "noise", "", []),
             ("simple", "gaps", "the [MASK] snap pea is [MASK].", ["--prompt"]),
             ("simple", "dissolve", "the red onion is raw.", ["--edit"])]
    for model, kind, given, how in cases:
        choose_model(model + ".safetensors")
        field = "length" if kind == "noise" else "given"
        choose("kind", kind)
        got = sample(count=3, steps=25, seed=11, **{field: given})
        args = how + ([given] if how and how[0] != "--length" else []) + (["--strength", "1"] if kind == "dissolve" else [])
        code, want, said = native("sample", model + ".safetensors", "-n", "3", "--steps", "25", "--seed", "11", *args,
                                  "--show", "--show-probabilities", "--frames", "50")
        check(code == 0 and got == want, f"{model}, {kind} {given}: {got} instead of {want}")
        states = [line for line in said if re.match("[tq] ", line)]
        check(sum(as_shown(line) in seen_states() for line in states) == len(states) > 20,
              f"{model}, {kind}: other states than --show prints")
        check(text_of("command").startswith("./sample " + model + ".safetensors -n 3"), "the command is not told")


def as_shown(line):
    head, words = line.split(" | ", 1)
    process, t, _, noise = head.split()
    return [("forward" if process == "q" else "backward") + f", t = {t}, noise {noise}", "".join(words.split("\t")[0::2])]


def seen_states():
    """[moment, sentence] of all sentences at every place of the slider."""
    return js("""const seen = [];
        for (let k = 0; k <= Number($('time').max); k++) {
            $('time').value = k;
            $('time').dispatchEvent(new Event('input'));
            for (const item of $('sentences').children) seen.push([$('moment').textContent, item.textContent]);
        }
        return seen;""")


def schedule():
    """The point on the schedule stands at t, on the curve of the noise."""
    choose_model("simple.safetensors")
    sample(kind="noise", count=1, steps=2000)
    for share in (0, 0.3, 1):
        t, noise, x, y = js("""$('time').value = Math.round(arguments[0] * Number($('time').max));
            $('time').dispatchEvent(new Event('input'));
            const [, t, noise] = /t = ([0-9]+), noise ([0-9.]+)/.exec($('moment').textContent);
            const point = $('schedule').shadowRoot.querySelector('.now circle');
            return [t, noise, point.getAttribute('cx'), point.getAttribute('cy')].map(Number);""", share)
        check(abs(x - (70 + 330 * t / 1999)) < 1 and abs(y - (240 - 200 * noise)) < 4,
              f"at t = {t}, noise {noise} the point is at {x}, {y}")


def training():
    text = "".join(f"The {c} {f} is raw.\n" for c in ("red", "green", "blue") for f in ("fig", "pea", "kale", "leek"))
    fill("text", text)
    write("mine.txt", text.encode())
    train(TINY, 20)
    check(wait("$('progress').value === 1 && $('stop').disabled"), "20 steps do not come to their end")
    got = download("mine.safetensors")
    code, _, said = native("train", "mine.txt", *TINY, "--steps", "20", "--out", "want.safetensors", "--overwrite")
    with open(os.path.join(W, "want.safetensors"), "rb") as file:
        want = file.read()
    check(code == 0 and got == want, "20 steps give other bytes than the native build")
    check("after step 10 of 20" in text_of("said"), "the run was not in pieces")
    check(wait("$('preview').children.length === 3 && $('losses').shadowRoot.querySelector('.l0')"), "no samples or no losses")

    # what the page has written samples natively, and the other way round
    _, want, _ = native("sample", "mine.safetensors", "-n", "4", "--steps", "10", "--seed", "3")
    choose_model("mine.safetensors")
    check(sample(kind="noise", count=4, steps=10, seed=3) == want, "the trained model samples otherwise natively")
    drop(os.path.join(W, "want.safetensors"))
    check(wait("$('model').value === 'want.safetensors' && !$('sentences').textContent"), "a dropped checkpoint is not chosen")
    check(sample(kind="noise", count=4, steps=10, seed=3) == want, "a dropped checkpoint samples otherwise")

    # stopped and gone on with. The page itself presses Stop when it tells its first steps: a fast machine has done all 400
    # before a press from outside arrives.
    js("""new MutationObserver((_, observer) => {
              if (!/^step/.test($('learnt').textContent)) return;
              $('stop').click();
              observer.disconnect();
          }).observe($('learnt'), { childList: true })""")
    train(TINY, 400)
    check(wait("$('stop').disabled && !$('go-on').disabled"), "Stop does not stop")
    done = int(re.match(r"step (\d+) of 400", text_of("learnt"))[1])
    code, out, _ = native("sample", write("stopped.safetensors", download("mine.safetensors")), "-n", "1", "--steps", "2")
    check(0 < done < 400 and code == 0 and out, f"a run that was stopped after step {done} left no checkpoint")
    press("#go-on")
    check(wait("$('progress').value === 1 && $('stop').disabled"), "Go on does not go on")
    native("train", "mine.txt", *TINY, "--steps", "400", "--out", "want.safetensors", "--overwrite")
    with open(os.path.join(W, "want.safetensors"), "rb") as file:
        check(download("mine.safetensors") == file.read(), "a run that was stopped has other bytes")


def words():
    choose_model("simple.safetensors")
    drawn = subprocess.run([os.path.join(ROOT, "build/draw"), "words", "simple.safetensors", "simple.list"], cwd=W,
                           capture_output=True, check=True).stdout.decode()
    circle = re.compile(r'<circle class="(a\d)" cx="([\d.]+)" cy="([\d.]+)" r="2.5"/><text [^>]*>([^<]*)<')
    want = circle.findall(drawn)
    got = js("""return [...$('words').shadowRoot.querySelectorAll('circle')].map((c) =>
        [c.getAttribute('class'), c.getAttribute('cx'), c.getAttribute('cy'), c.nextSibling.textContent])""")
    check(len(got) == len(want) > 100 and all(
        a[0] == b[0] and a[3] == b[3] and abs(float(a[1]) - float(b[1])) < 0.2 and abs(float(a[2]) - float(b[2])) < 0.2
        for a, b in zip(got, want)), "the words are elsewhere than in build/draw words")
    label = [e for e in element("words").shadow_root.find_elements(By.CSS_SELECTOR, "circle + text") if e.text == "shallot"][0]
    js("arguments[0].scrollIntoView({ block: 'center' })", label)
    ActionChains(browser).move_to_element(label).perform()
    check(wait("$('nearest').textContent"), "nothing is nearest")
    _, near, _ = native("sample", "simple.safetensors", "--nearest", "shallot")
    want = ", ".join(" ".join(line.split(None, 1)[::-1]) for line in near.decode().strip().split("\n"))
    check(text_of("nearest") == want, f"{text_of('nearest')} instead of {want}")
    marked = js("return $('words').shadowRoot.querySelectorAll('.near').length")
    check(marked == 11, f"{marked} words are marked as near")
    fill("word", "nonsense")
    js("$('word').dispatchEvent(new Event('change'))")
    check(fault("words-fault") == native("sample", "simple.safetensors", "--nearest", "nonsense")[2][-1],
          "of an unknown word: " + text_of("words-fault"))


# ---- faults ----------------------------------------------------------------------------------------------------------


def broken_checkpoints():
    with open(os.path.join(W, "simple.safetensors"), "rb") as file:
        good = file.read()
    header = b'{"a":{"dtype":"F32","shape":[99],"data_offsets":[0,4]}}'
    for name, data in [("empty", b""), ("cut", good[:5000]), ("short", good[:-1]), ("text", b"no checkpoint at all\n" * 9),
                       ("lies", len(header).to_bytes(8, "little") + header + b"1234"), ("deep", b"[" * 500000),
                       ("nested", (10**6).to_bytes(8, "little") + b'{"a":' * 200000), ("shape", good.replace(b'"48"', b'"47"'))]:
        path = write(name + ".safetensors", data)
        js("$('open-fault').textContent = ''")
        drop(path)
        code, _, said = native("sample", name + ".safetensors", "-n", "1", "--steps", "1")
        check(code == 1 and fault("open-fault") == said[-1], f"{name}: '{text_of('open-fault')}' instead of '{said[-1]}'")
        check(not js("return [...$('model').options].some((o) => o.value === arguments[0])", name + ".safetensors"),
              f"{name}: was added to the models")


def hostile_texts():
    for name, data in [("nothing", b""), ("blank", b"\n\n  \n"), ("binary", bytes(range(256)) * 40), ("once", b"a\n"),
                       ("invalid", b"\xff\xfe\x00a\n" * 50), ("long", b"x" * 300000 + b"\n"),
                       ("script", b"<script>document.title='taken'</script>\n<img src=x onerror=\"document.title='taken'\">\n" * 20)]:
        path = write(name + ".txt", data)
        js("$('train-fault').textContent = $('learnt').textContent = ''; $('text').value = 'not read yet'")
        drop(path)
        wait("$('text').value !== 'not read yet'")
        train(TINY, 10)
        code, _, said = native("train", name + ".txt", *TINY, "--steps", "10", "--out", name + ".safetensors", "--overwrite")
        wait_for_training()
        if code:
            check(fault("train-fault") == said[-1], f"{name}: '{text_of('train-fault')}' instead of '{said[-1]}'")
        else:
            with open(os.path.join(W, name + ".safetensors"), "rb") as file:
                want = file.read()
            check(download(name + ".safetensors") == want, f"{name}: other bytes than the native build")
    check(js("return document.title") == "tdiff: sentences out of noise", "a text was taken for a script")


def wrong_options():
    choose("corpus", "greetings")
    wait("$('text').value.length > 9000")
    train(["--hidden", "16384", "--layers", "200", "--ffn", "65536"], 10)  # more than there is
    check("parameters is too large for this machine" in fault("train-fault"), "too large a model: " + text_of("train-fault"))
    wait_for_training()
    train(["--nonsense"], 10)
    wait("$('train-fault').textContent.includes('nonsense')")
    check(fault("train-fault") == native("train", "greetings.txt", "--nonsense")[2][-1], text_of("train-fault"))
    choose_model("simple.safetensors")
    sample(kind="gaps", given="the [MASK] unheard-of thing.")
    want = native("sample", "simple.safetensors", "-n", "4", "--prompt", "the [MASK] unheard-of thing.")[2]
    check(text_of("sample-fault") in want + [""] and (text_of("sample-fault") or text_of("sampled")), text_of("sample-fault"))


def missing_function():
    """What the page's WASI does not have is a message, never a hang."""
    with open("build/tdiff.html", encoding="utf-8") as file:
        html = file.read()
    write("missing.html", html.replace("fd_seek(fd", "fd_sought(fd").encode())
    open_page("file://" + os.path.join(W, "missing.html"))
    press("#sample button")
    check("the page has no fd_seek for the program" in fault("sample-fault"), "a missing function: " + text_of("sample-fault"))
    write("broken.html", html.replace('id="train.wasm">', 'id="train.wasm">AAAA').encode())
    open_page("file://" + os.path.join(W, "broken.html"))
    check("does not work here" in fault("open-fault"), "a broken page says nothing")


# ---- for everyone ----------------------------------------------------------------------------------------------------

# Text whose contrast to the page's ground is less than 4.5, by WCAG's formula
CONTRAST = """
    const luminance = (colour) => {
        const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map((c) => c / 255)
            .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = luminance(getComputedStyle(document.body).backgroundColor), poor = [];
    const drawn = ['schedule', 'words'].flatMap((id) => [...$(id).shadowRoot.querySelectorAll('text')]);
    if (drawn.length < 100) return ['no pictures'];
    for (const e of [...document.body.querySelectorAll('*'), ...drawn]) {
        const shown = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length;
        if (!shown && !/INPUT|SELECT|TEXTAREA/.test(e.tagName)) continue;
        const own = luminance(getComputedStyle(e)[e.tagName === 'text' ? 'fill' : 'color']);
        const contrast = (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05);
        if (contrast < 4.5) poor.push(`${e.tagName} ${e.className} ${e.textContent.slice(0, 20)} ${contrast.toFixed(2)}`);
    }
    return poor;"""


def emulate(**features):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-" + name.replace("_", "-"), "value": value} for name, value in features.items()]})


def everyone():
    open_page()
    names = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = [n for n in names if n.get("role", {}).get("value") in
                ("button", "textbox", "combobox", "slider", "spinbutton", "progressbar", "searchbox", "region", "img")]
    nameless = [n["role"]["value"] for n in controls if not n.get("name", {}).get("value")]
    check(len(controls) > 15 and not nameless, f"without a name for screen readers: {nameless} of {len(controls)}")

    # by keyboard alone: to the button, then to the slider
    seen, unseen = set(), []
    for _ in range(40):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        id, outline = js("""const e = document.activeElement, style = getComputedStyle(e);
            return [e.id || e.textContent, e === document.body ? '3px' : style.outlineStyle === 'none' ? '0' : style.outlineWidth]""")
        seen.add(id)
        if float(outline.replace("px", "")) < 2:
            unseen.append(id)
        if id == "Denoise":
            ActionChains(browser).send_keys(Keys.ENTER).perform()
            wait("$('sampled').textContent")
    missing = {"open", "model", "kind", "length", "count", "steps", "seed", "Denoise", "play", "time", "corpus", "text",
               "train-steps", "train-seed", "options", "begin", "word", "words"} - seen
    check(not missing and not unseen, f"by the Tab key: not reached {missing}, focus not seen {unseen}")
    element("time").send_keys(Keys.HOME)
    first = text_of("moment")
    element("time").send_keys(Keys.ARROW_RIGHT)
    check("t = 1999" in first and text_of("moment") not in ("", first), "the slider does not move by keys")
    check(js("return $('time').getAttribute('aria-valuetext')") == text_of("moment"), "the slider does not say where it is")

    for scheme in ("light", "dark"):
        emulate(color_scheme=scheme)
        sample(steps=20)
        poor = [line for k in (0, 3, 12, 19) for line in
                (js("$('time').value = arguments[0]; $('time').dispatchEvent(new Event('input'))", k) or js(CONTRAST))]
        check(not poor, f"poor contrast, {scheme}: {poor[:4]}")

    js("window.changes = 0; new MutationObserver(() => window.changes++).observe($('sentences'), { childList: true })")
    changes = {}
    for motion in ("no-preference", "reduce"):
        emulate(reduced_motion=motion)
        js("window.changes = 0")
        sample(steps=100)
        time.sleep(0.2)
        changes[motion] = js("return window.changes")
    check(changes["reduce"] <= 2 < 5 < changes["no-preference"], f"sentences move: {changes}")
    press("#play")
    check(wait("$('time').value > 2"), "Play does not play")
    press("#play")


def pictures():
    def picture(name, width, mobile=False, **features):
        emulate(**features)
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile})
        time.sleep(0.3)
        over = js("return document.documentElement.scrollWidth") - width
        check(over <= 0, f"{name}: {over} pixels wider than the window")
        height = js("return document.documentElement.scrollHeight")
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile})
        time.sleep(0.3)
        browser.save_screenshot(os.path.join(W, name + ".png"))

    open_page()
    sample(kind="dissolve", given="the red onion is raw.", count=4, steps=100, seed=5)
    js("$('time').value = 0.8 * $('time').max; $('time').dispatchEvent(new Event('input'))")
    train([*TINY, "--lr", "0.01"], 100)
    wait("$('progress').value === 1 && $('stop').disabled")
    wait("$('losses').shadowRoot")
    fill("word", "shallot")
    js("$('word').dispatchEvent(new Event('change'))")
    wait("$('nearest').textContent")
    picture("wide", 1280, color_scheme="light")
    picture("dark", 1280, color_scheme="dark")
    picture("narrow", 360, True, color_scheme="light")
    picture("narrow-dark", 320, True, color_scheme="dark")


def silence():
    """Nothing in the console, and no request but for the page itself and what is in it."""
    lines = [entry["message"] for entry in browser.get_log("browser")]
    check(not lines, f"in the console: {lines[:3]}")
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            asked.append(message["params"].get("request", message["params"])["url"])
    other = [url for url in asked if not url.startswith(("file://" + ROOT + "/build/", "blob:", "data:"))]
    check(len(asked) > 0 and not other, f"requests: {other[:3]}")


shutil.rmtree(W, ignore_errors=True)
os.makedirs(W)
for name in ("simple.safetensors", "names.safetensors", "simple.list"):
    shutil.copy(os.path.join("build/page", name), W)
check(os.path.getsize("build/tdiff.html") <= 3 * 1024 * 1024, "the page has more than 3 MB")
browser = begin_browser()
try:
    for test in (sampling, schedule, training, words, broken_checkpoints, hostile_texts, wrong_options, everyone, pictures, silence,
                 missing_function):
        if sys.argv[1:] and test.__name__ not in sys.argv[1:]:
            continue
        begun = time.time()
        try:
            check(open_page(), "the page does not begin")
            test()
        except Exception as e:
            check(False, f"{test.__name__}: {type(e).__name__}: {e}")
        print(f"{test.__name__} ({time.time() - begun:.0f} s)")
finally:
    browser.quit()
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
