// page.js - what the page does: it runs the programs (by worker.js) and shows what they print.
'use strict';
const $ = (id) => document.getElementById(id);
const as_text = (bytes) => new TextDecoder().decode(bytes);

function element(tag, text, properties) {
    return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

// ---- the programs ---------------------------------------------------------------------------------------------------

// What the make rule has put into the page: gzip, in base64
async function embedded(id) {
    const packed = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
}

const worker_url = URL.createObjectURL(new Blob([$('worker.js').textContent], { type: 'text/javascript' }));
const modules = {}; // compiled, by the name of the program

// Runs ./PROGRAM ARGS among these files. Promises { code, out, files }, or null if it failed: then its own message stands
// in the element `fault`. The promise's worker can be terminated; then it is never kept.
function run(program, args, files, fault, on_lines = () => {}) {
    const worker = new Worker(worker_url);
    let said = '';
    const done = new Promise((resolve) => {
        const end = (made, message) => { worker.terminate(); fault.textContent = message; resolve(made); };
        worker.onerror = (e) => end(null, `${program}: ${e.message}`);
        worker.onmessage = ({ data }) => {
            if (data.lines) on_lines(data.lines);
            if (data.lines) said += data.lines;
            else if (data.fault) end(null, data.fault);
            else if (data.code) end(null, said.trim().split('\n').pop() || `exit code ${data.code}`);
            else end(data, '');
        };
    });
    worker.postMessage({ module: modules[program], args: [program, ...args].map(String), files });
    return Object.assign(done, { worker });
}

// The picture that draw makes, into the shadow tree of the element: its styles hold there only. Returns the SVG.
async function draw(host, args, files, fault) {
    if (host.job) host.job.worker.terminate();
    host.job = run('draw', args, files, fault);
    const made = await host.job;
    const root = host.shadowRoot || host.attachShadow({ mode: 'open' });
    root.replaceChildren();
    if (!made) return null;
    const svg = new DOMParser().parseFromString(as_text(made.out), 'image/svg+xml').documentElement;
    const width = Math.min(640, 0.7 * svg.viewBox.baseVal.width); // at least: below that one scrolls
    svg.setAttribute('role', 'img');
    root.append(element('style', `svg { max-width: 100%; height: auto; min-width: ${width}px }
        .near { font-weight: bold; text-decoration: underline }`), svg);
    return svg;
}

// ---- models ---------------------------------------------------------------------------------------------------------

const models = new Map(); // file name: bytes
const model = () => ({ [$('model').value]: models.get($('model').value) });

function add_model(name, bytes) {
    if (!models.has(name)) $('model').append(new Option(name.replace('.safetensors', ''), name));
    models.set(name, bytes);
}

function show_kind() {
    const letters = $('model').value === 'names.safetensors', gaps = $('kind').value === 'gaps';
    $('given-row').hidden = $('kind').value === 'noise';
    $('length-row').hidden = !$('given-row').hidden;
    if (gaps) $('given').value = letters ? 'ma[MASK][MASK][MASK]a' : 'the [MASK] onion is [MASK].';
    else $('given').value = letters ? 'marielle' : 'the red onion is raw.';
}

// The chosen model's noise schedule and words; what another has sampled goes.
function show_model() {
    show_kind();
    clear_states();
    const schedule = draw($('schedule'), ['schedule', $('model').value], model(), $('sample-fault'));
    return Promise.all([schedule, show_words()]);
}

// ---- watch it denoise -----------------------------------------------------------------------------------------------

let states = []; // of every sentence, a list of { process, t, noise, words: [[text, percent], ...] }
let sampling = null, playing = 0;

// A line of --show --show-probabilities, or null
function read_state(line) {
    const [, process, t, noise, rest] = /^([tq]) +(\d+) noise ([\d.]+) \| (.*)$/.exec(line) || [];
    const words = [...(rest || '').matchAll(/([^\t]*)\t(\d+)\t/g)].map(([, text, percent]) => [text, Number(percent)]);
    return process ? { process, t: Number(t), noise, words } : null;
}

// Sentences of one length come together, state by state; then those of the next length.
function add_state(state, place) {
    const before = place.last;
    const begins = !before || (before.process === 't' && (state.process === 'q' || state.t > before.t));
    if (begins) place.first = states.length;
    const same = before && state.process === before.process && state.t === before.t;
    place.row = same ? place.row + 1 : place.first;
    place.last = state;
    (states[place.row] = states[place.row] || []).push(state);
}

function show_moment(k) {
    const now = states.length ? states[0][Math.min(k, states[0].length - 1)] : null;
    const told = now ? `${now.process === 'q' ? 'forward' : 'backward'}, t = ${now.t}, noise ${now.noise}` : '';
    $('time').max = now ? states[0].length - 1 : 0;
    $('time').value = k;
    $('time').disabled = $('play').disabled = !now;
    $('time').setAttribute('aria-valuetext', told);
    $('moment').textContent = told || '\u00a0';
    $('sentences').replaceChildren(...states.map((list) => {
        const item = element('li');
        for (const [text, percent] of list[Math.min(k, list.length - 1)].words)
            item.append(text.match(/^ */)[0], // the blank before a word
                element('span', text.trimStart(), { className: `p${Math.round(percent / 25)}`, title: `${percent} %` }));
        return item;
    }));
    mark_schedule(now);
}

function clear_states() {
    if (sampling) sampling.worker.terminate();
    stop_playing();
    states = [];
    show_moment(0);
}

// A line and a point at t, on the curve of the noise (class l1); the ticks of the picture (class m) tell where t is.
function mark_schedule(now) {
    const root = $('schedule').shadowRoot, curve = root && root.querySelector('.panel .l1');
    if (!curve) return;
    root.querySelectorAll('.now').forEach((old) => old.remove());
    if (!now) return;
    const [[left, from], [right, to]] = [...root.querySelectorAll('.panel .m')]
        .map((tick) => [Number(tick.getAttribute('x')), Number(tick.textContent)]);
    const points = curve.getAttribute('d').slice(1).split('L').map((point) => point.split(' ').map(Number));
    const x = left + (right - left) * (now.t - from) / (to - from);
    const [, y] = points.find((point) => point[0] >= x - 0.2) || points.at(-1);
    const mark = document.createElementNS('http://www.w3.org/2000/svg', 'g');
    mark.setAttribute('class', 'now');
    mark.innerHTML = `<path class="l1" d="M${x} 40v200" stroke-dasharray="3 3"/>
        <circle class="a1" cx="${x}" cy="${y}" r="6"/>`;
    curve.after(mark);
}

function stop_playing() {
    clearInterval(playing);
    playing = 0;
    $('play').textContent = 'Play';
}

function play() {
    const last = Number($('time').max), from = Number($('time').value);
    let k = from < last ? from : 0;
    if (playing) return stop_playing();
    $('play').textContent = 'Pause';
    playing = setInterval(() => {
        show_moment(k);
        if (k++ >= last) stop_playing();
    }, 100);
}

async function sample(event) {
    event.preventDefault();
    clear_states();
    const args = [$('model').value, '-n', $('count').value, '--steps', $('steps').value, '--seed', $('seed').value];
    if ($('kind').value === 'noise' && $('length').value) args.push('--length', $('length').value);
    if ($('kind').value === 'gaps') args.push('--prompt', $('given').value);
    if ($('kind').value === 'dissolve') args.push('--edit', $('given').value, '--strength', '1');
    const quoted = args.map((arg) => /^[\w.-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`);
    $('command').textContent = ['./sample', ...quoted].join(' ');
    $('sampled').textContent = '';
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches, place = {};
    args.push('--show', '--show-probabilities', '--frames', 50);
    sampling = run('sample', args, model(), $('sample-fault'), (lines) => {
        for (const state of lines.split('\n').map(read_state)) if (state) add_state(state, place);
        if (!still && states.length) show_moment(states.at(-1).length - 1);
    });
    const made = await sampling;
    if (made) $('sampled').textContent = as_text(made.out);
    if (states.length) show_moment(states[0].length - 1);
}

// ---- watch it learn -------------------------------------------------------------------------------------------------

const AT_A_TIME = 2;  // seconds of training: then the page shows what is learnt, and hears its buttons
const SHOWN = 100000; // characters of a text
let text;             // to be learnt: { name, bytes }
let learning;         // { name, options, steps, done, files, stopping, previewing }

function show_text(file_name, bytes) {
    const whole = as_text(bytes);
    text = { name: file_name.replace(/\.[^.]*$/, ''), bytes };
    $('text').value = whole.slice(0, SHOWN);
    $('learnt').textContent = whole.length > SHOWN
        ? 'Only its beginning is shown; all of it is learnt, unless you change it here.' : '';
}

async function choose_corpus() {
    const corpus = $('corpus').selectedOptions[0];
    $('train-steps').value = corpus.dataset.steps;
    $('options').value = $('options').defaultValue + (corpus.dataset.options || '');
    if (corpus.value !== 'own') show_text(`${corpus.value}.txt`, await embedded(`${corpus.value}.txt`));
}

// A piece of the run is done: its figures at once; samples and losses, if the last ones are there by now
async function show_learnt() {
    const { name, files, done, steps } = learning, kept = [`${name}.safetensors`, `${name}.jsonl`];
    const { loss } = JSON.parse(as_text(files[kept[1]]).trim().split('\n').pop());
    add_model(kept[0], files[kept[0]]);
    $('progress').value = done / steps;
    $('learnt').textContent = `step ${done} of ${steps}, loss ${loss.toFixed(3)}`;
    const link = (file) => element('a', file, { download: file, href: '#',
        onclick() { this.href = URL.createObjectURL(new Blob([files[file]], { type: 'application/octet-stream' })); } });
    $('downloads').replaceChildren('Download ', link(kept[0]), ' ', link(kept[1]));
    if (learning.previewing) return;
    learning.previewing = true;
    const made = await run('sample', [kept[0], '-n', 3], { [kept[0]]: files[kept[0]] }, $('preview-fault'));
    const svg = await draw($('losses'), ['loss', kept[1]], { [kept[1]]: files[kept[1]] }, $('preview-fault'));
    if (svg) svg.viewBox.baseVal.height = svg.height.baseVal.value = 250; // the first two of its panels
    const lines = made ? as_text(made.out).trimEnd().split('\n') : [];
    $('preview').replaceChildren(...lines.map((line) => element('li', line)));
    learning.previewing = false;
}

// In pieces, each of which resumes the one before: the bytes of the checkpoint are those of a run without a stop.
async function go_on() {
    let piece = 10; // steps
    learning.stopping = false;
    $('stop').disabled = false;
    $('begin').disabled = $('go-on').disabled = true;
    while (learning.done < learning.steps && !learning.stopping) {
        const until = Math.min(learning.steps, learning.done + piece), begun = performance.now(), out = `${learning.name}.safetensors`;
        const how = learning.done ? ['--resume', out] : [...learning.options, '--out', out];
        const args = [`${learning.name}.txt`, ...how, '--steps', learning.steps, '--stop-at', until, '--log-interval', 10];
        const made = await run('train', args, learning.files, $('train-fault'), (lines) => { $('said').textContent += lines; });
        if (!made) break;
        const fitting = AT_A_TIME * 1000 * (until - learning.done) / (performance.now() - begun);
        piece = 10 * Math.max(1, Math.round(Math.min(fitting, 4 * piece) / 10));
        learning.files = made.files;
        learning.done = until;
        const shown = show_learnt();
        if (until === learning.steps) await shown;
    }
    $('stop').disabled = true;
    $('begin').disabled = false;
    $('go-on').disabled = !learning.done || learning.done === learning.steps;
}

function train(event) {
    event.preventDefault();
    const options = ['--seed', $('train-seed').value, ...$('options').value.split(' ').filter(Boolean)];
    learning = { name: text.name, options, steps: Number($('train-steps').value), done: 0,
                 files: { [`${text.name}.txt`]: text.bytes } };
    for (const id of ['said', 'learnt', 'preview', 'downloads', 'preview-fault']) $(id).textContent = '';
    return go_on();
}

// ---- see the words --------------------------------------------------------------------------------------------------

let asked; // the program that seeks the words nearest to one

async function show_words() {
    const list = $('model').value === 'simple.safetensors' ? ['simple.list'] : [];
    const files = { ...model(), 'simple.list': await embedded('simple.list') };
    const svg = await draw($('words'), ['words', $('model').value, ...list], files, $('words-fault'));
    const words = svg ? [...svg.querySelectorAll('circle + text')] : [];
    $('vocabulary').replaceChildren(...words.map((word) => new Option(word.textContent)));
    $('nearest').textContent = $('word').value = '';
    for (const word of words) word.onpointerenter = () => show_nearest($('word').value = word.textContent);
}

async function show_nearest(word) {
    if (asked) asked.worker.terminate(); // the pointer has gone on
    asked = run('sample', [$('model').value, '--nearest', word], model(), $('words-fault'));
    const made = await asked;
    const near = made ? as_text(made.out).trim().split('\n').map((line) => line.trim().split(/ +(.*)/)) : [];
    $('nearest').textContent = near.map(([cosine, other]) => `${other} ${cosine}`).join(', ');
    const marked = new Set([word, ...near.map(([, other]) => other)]);
    for (const label of $('words').shadowRoot.querySelectorAll('circle + text'))
        label.classList.toggle('near', near.length > 0 && marked.has(label.textContent));
}

// ---- the rest -------------------------------------------------------------------------------------------------------

// Files that are opened or dropped: a checkpoint if it is called so, otherwise a text
async function take_files(files) {
    for (const file of files) {
        const name = file.name, bytes = new Uint8Array(await file.arrayBuffer());
        if (!name.endsWith('.safetensors')) {
            $('corpus').value = 'own';
            choose_corpus();
            show_text(name, bytes);
        } else if (await run('sample', [name, '-n', 1, '--steps', 1], { [name]: bytes }, $('open-fault'))) {
            add_model(name, bytes);
            $('model').value = name;
            show_model();
        }
    }
}

async function begin() {
    for (const program of ['train', 'sample', 'draw'])
        modules[program] = await WebAssembly.compile(await embedded(`${program}.wasm`));
    for (const name of ['simple.safetensors', 'names.safetensors']) add_model(name, await embedded(name));
    $('open').onchange = () => take_files([...$('open').files]);
    document.ondragover = (event) => event.preventDefault();
    document.ondrop = (event) => { event.preventDefault(); take_files([...event.dataTransfer.files]); };
    $('model').onchange = show_model;
    $('kind').onchange = show_kind;
    $('sample').onsubmit = sample;
    $('time').oninput = () => { stop_playing(); show_moment(Number($('time').value)); };
    $('play').onclick = play;
    $('corpus').onchange = choose_corpus;
    $('text').oninput = () => {
        $('corpus').value = 'own';
        text = { name: 'mine', bytes: new TextEncoder().encode($('text').value) };
    };
    $('train').onsubmit = train;
    $('stop').onclick = () => { learning.stopping = $('stop').disabled = true; };
    $('go-on').onclick = go_on;
    $('word').onchange = () => show_nearest($('word').value);
    await Promise.all([choose_corpus(), show_model()]);
    document.body.dataset.ready = 'yes';
}

begin().catch((e) => { $('open-fault').textContent = `This page does not work here: ${e.message}`; });
