// page.js - what the page does: it runs the programs (worker.js) and shows what they print.
'use strict';
const $ = (id) => document.getElementById(id);
const utf8 = new TextEncoder();
const still = matchMedia('(prefers-reduced-motion: reduce)');

// ---- the programs ---------------------------------------------------------------------------------------------------

// What the make rule has put into the page: gzip, in base64
async function embedded(id) {
    const packed = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
}

const worker_url = URL.createObjectURL(new Blob([$('worker.js').textContent], { type: 'text/javascript' }));
const modules = {}; // compiled, by the name of the program

// Begins ./PROGRAM ARGS among these files. done: a promise of { code, out, files, said }, or of null if it was ended.
function start(program, args, files, on_lines = () => {}) {
    const worker = new Worker(worker_url);
    let said = '', end;
    const done = new Promise((resolve, reject) => {
        end = () => { worker.terminate(); resolve(null); };
        worker.onerror = (e) => reject(new Error(`${program}: ${e.message}`));
        worker.onmessage = ({ data }) => {
            if (data.lines) {
                said += data.lines;
                on_lines(data.lines);
                return;
            }
            worker.terminate();
            if (data.fault) reject(new Error(data.fault));
            else resolve({ ...data, said });
        };
        worker.postMessage({ module: modules[program], args: [program, ...args], files });
    });
    return { done, end };
}

// What a program made, or null if it failed: then its own message stands in the element.
async function finish(job, fault) {
    try {
        const made = await job.done;
        const failed = made && made.code !== 0;
        fault.textContent = failed ? made.said.trim().split('\n').pop() || `exit code ${made.code}` : '';
        return failed ? null : made;
    } catch (e) {
        fault.textContent = e.message;
        return null;
    }
}

const as_text = (bytes) => new TextDecoder().decode(bytes);

// build/draw's picture, into the shadow tree of an element: its styles hold there only.
async function draw(host, args, files, fault) {
    const made = await finish(start('draw', args, files), fault);
    const root = host.shadowRoot || host.attachShadow({ mode: 'open' });
    root.replaceChildren();
    if (!made) return null;
    const svg = document.importNode(
        new DOMParser().parseFromString(as_text(made.out), 'image/svg+xml').documentElement, true);
    const style = document.createElement('style');
    style.textContent = `svg { max-width: 100%; height: auto; min-width: ${Math.min(640, svg.viewBox.baseVal.width * 0.7)}px }
        .near { font-weight: bold; text-decoration: underline }`;
    svg.setAttribute('role', 'img');
    root.append(style, svg);
    return svg;
}

// ---- models ---------------------------------------------------------------------------------------------------------

const models = new Map(); // file name: bytes
const model = () => ({ [$('model').value]: models.get($('model').value) });

function add_model(name, bytes) {
    if (!models.has(name)) $('model').append(new Option(name.replace('.safetensors', ''), name));
    models.set(name, bytes);
}

const example = {
    gaps: { 'names.safetensors': 'ma[MASK][MASK][MASK]a', '': 'the [MASK] onion is [MASK].' },
    dissolve: { 'names.safetensors': 'marielle', '': 'the red onion is raw.' },
};
function offer_example() {
    const kind = $('kind').value, of_kind = example[kind] || {};
    $('given-row').hidden = kind === 'noise';
    $('length-row').hidden = kind !== 'noise';
    $('given').value = of_kind[$('model').value] || of_kind[''] || '';
}

// The noise schedule and the words of another model
async function show_model() {
    offer_example();
    stop_playing();
    states.length = 0;
    show_moment(0);
    $('nearest').textContent = $('word').value = '';
    await Promise.all([
        draw($('schedule'), ['schedule', $('model').value], model(), $('sample-fault')),
        draw_words(),
    ]);
}

// ---- watch it denoise -----------------------------------------------------------------------------------------------

const states = []; // of every sentence, a list of { process, t, noise, words: [[text, percent], ...] }
let sampling = null, playing = 0;

// A line of --show --show-probabilities, or null
function read_state(line) {
    const [, process, t, noise, rest] = /^([tq]) +(\d+) noise ([\d.]+) \| (.*)$/.exec(line) || [];
    if (!process) return null;
    const parts = rest.split('\t'), words = [];
    for (let i = 0; i + 1 < parts.length; i += 2) words.push([parts[i], Number(parts[i + 1])]);
    return { process, t: Number(t), noise: Number(noise), words };
}

// Sentences of one length come together, state by state; then those of the next length.
function add_states(lines, place) {
    for (const state of lines.split('\n').map(read_state)) {
        if (!state) continue;
        const before = place.last;
        if (before && state.process === before.process && state.t === before.t) place.row++;
        else {
            const begins = !before || (before.process === 't' && (state.process === 'q' || state.t > before.t));
            if (begins) place.first = states.length;
            place.row = place.first;
        }
        (states[place.row] = states[place.row] || []).push(state);
        place.last = state;
    }
}

function word_element([text, percent]) {
    const span = document.createElement('span');
    span.className = `p${Math.round(percent / 25)}`;
    span.title = `${percent} %`;
    span.textContent = text;
    return span;
}

function show_moment(k) {
    const last = Math.max(0, ...states.map((list) => list.length - 1));
    const now = states.length ? states[0][Math.min(k, states[0].length - 1)] : null;
    const told = now ? `${now.process === 'q' ? 'forward' : 'backward'}, t = ${now.t}, noise ${now.noise.toFixed(2)}` : '';
    $('time').max = last;
    $('time').value = k;
    $('time').disabled = $('play').disabled = !states.length;
    $('time').setAttribute('aria-valuetext', told);
    $('moment').textContent = told || '\u00a0';
    $('sentences').replaceChildren(...states.map((list) => {
        const item = document.createElement('li');
        item.append(...list[Math.min(k, list.length - 1)].words.map(word_element));
        return item;
    }));
    mark_schedule(now, Math.max(...states.flat().map((state) => state.t)));
}

// A line and a point at t, on the curve of the noise: the path of class l1
function mark_schedule(now, last_t) {
    const root = $('schedule').shadowRoot, curve = root && root.querySelector('.panel .l1');
    if (!curve) return;
    root.querySelectorAll('.now').forEach((old) => old.remove());
    if (!now) return;
    const points = curve.getAttribute('d').slice(1).split('L').map((point) => point.split(' ').map(Number));
    const left = points[0][0], right = points[points.length - 1][0];
    const x = left + (right - left) * now.t / last_t;
    const [, y] = points.find((point) => point[0] >= x - 0.1) || points[points.length - 1];
    const add = (name, attributes) => {
        const element = document.createElementNS('http://www.w3.org/2000/svg', name);
        for (const key in attributes) element.setAttribute(key, attributes[key]);
        curve.parentNode.append(element);
    };
    add('path', { class: 'now l1', d: `M${x} 40v200`, 'stroke-dasharray': '3 3' });
    add('circle', { class: 'now a1', cx: x, cy: y, r: 6 });
}

function stop_playing() {
    clearInterval(playing);
    playing = 0;
    $('play').textContent = 'Play';
}

function play() {
    if (playing) return stop_playing();
    const last = Number($('time').max);
    let k = Number($('time').value) < last ? Number($('time').value) : 0;
    $('play').textContent = 'Pause';
    playing = setInterval(() => {
        show_moment(k);
        if (k++ >= last) stop_playing();
    }, 100);
}

// As it would be typed to a shell
const quoted = (arg) => /^[\w.\/-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`;

async function sample(event) {
    event.preventDefault();
    stop_playing();
    if (sampling) sampling.end();
    const kind = $('kind').value;
    const args = [$('model').value, '-n', $('count').value, '--steps', $('steps').value, '--seed', $('seed').value];
    if (kind === 'noise' && $('length').value) args.push('--length', $('length').value);
    if (kind === 'gaps') args.push('--prompt', $('given').value);
    if (kind === 'dissolve') args.push('--edit', $('given').value, '--strength', '1');
    $('command').textContent = ['./sample', ...args].map(quoted).join(' ');
    $('text-of-samples').textContent = '';
    states.length = 0;
    const place = {};
    const job = sampling = start('sample', [...args, '--show', '--show-probabilities', '--frames', '50'], model(), (lines) => {
        add_states(lines, place);
        if (!still.matches) show_moment(states[0] ? states[0].length - 1 : 0);
    });
    const made = await finish(job, $('sample-fault'));
    if (made) $('text-of-samples').textContent = as_text(made.out);
    if (job === sampling) show_moment(Number.MAX_SAFE_INTEGER);
}

// ---- watch it learn -------------------------------------------------------------------------------------------------

const SIZE = '--hidden 96 --layers 3 --ffn 256 --emb-dim 64 --time-dim 64 --lr 0.003';
const AT_A_TIME = 2; // seconds of training: then the page shows what is learnt, and hears the button Stop
const SHOWN = 100000; // characters of a text
let text = { name: 'mine', bytes: new Uint8Array(0) }; // what is to be learnt
let run = null; // { name, steps, done, files, stopping, previewing }

function show_text(name, bytes) {
    const whole = as_text(bytes);
    text = { name: name.replace(/\.[^.]*$/, ''), bytes };
    $('text').value = whole.slice(0, SHOWN);
    if (whole.length > SHOWN) $('learnt').textContent = 'Only the beginning of the text is shown; all of it is learnt.';
}

async function choose_corpus() {
    const { value, selectedOptions: [{ dataset }] } = $('corpus');
    $('train-steps').value = dataset.steps;
    $('options').value = [SIZE, dataset.options].filter(Boolean).join(' ');
    if (value !== 'own') show_text(`${value}.txt`, await embedded(`${value}.txt`));
}

function link(name, bytes) {
    const a = document.createElement('a');
    a.href = URL.createObjectURL(new Blob([bytes], { type: 'application/octet-stream' }));
    a.download = a.textContent = name;
    return a;
}

async function show_learnt() {
    const { name, files, done, steps } = run, log = as_text(files[`${name}.jsonl`]);
    const { loss } = JSON.parse(log.trim().split('\n').pop());
    add_model(`${name}.safetensors`, files[`${name}.safetensors`]);
    $('progress').value = done / steps;
    $('learnt').textContent = `step ${done} of ${steps}, loss ${loss.toFixed(3)}`;
    $('downloads').querySelectorAll('a').forEach((a) => URL.revokeObjectURL(a.href));
    $('downloads').replaceChildren('Download: ', link(`${name}.safetensors`, files[`${name}.safetensors`]), ', ',
        link(`${name}.jsonl`, files[`${name}.jsonl`]));
    if (run.previewing) return;
    run.previewing = true;
    const args = [`${name}.safetensors`, '-n', '3', '--steps', '20'];
    const [made] = await Promise.all([
        finish(start('sample', args, { [args[0]]: files[args[0]] }), $('train-fault')),
        draw($('losses'), ['loss', `${name}.jsonl`], { [`${name}.jsonl`]: files[`${name}.jsonl`] }, $('train-fault')),
    ]);
    $('preview').replaceChildren(...(made ? as_text(made.out).trimEnd().split('\n') : []).map((line) => {
        const item = document.createElement('li');
        item.textContent = line;
        return item;
    }));
    run.previewing = false;
}

// Pieces of the run, each of which the next one resumes: the bytes of the checkpoint are those of a run in one piece.
async function go_on() {
    const { name } = run;
    let piece = 10;
    run.stopping = false;
    $('stop').disabled = false;
    $('go-on').disabled = true;
    while (run.done < run.steps && !run.stopping) {
        const until = Math.min(run.steps, run.done + piece), begun = performance.now();
        const how = run.done ? ['--resume', `${name}.safetensors`] : [...run.options, '--out', `${name}.safetensors`];
        const made = await finish(start('train', [`${name}.txt`, ...how, '--steps', `${run.steps}`, '--stop-at', `${until}`,
            '--log-interval', '10'], run.files, (lines) => { $('said').textContent += lines; }), $('train-fault'));
        if (!made) break;
        const per_step = (performance.now() - begun) / 1000 / (until - run.done);
        piece = Math.max(10, 10 * Math.min(Math.round(AT_A_TIME / per_step / 10), piece));
        run.files = made.files;
        run.done = until;
        const shown = show_learnt();
        if (until === run.steps) await shown;
    }
    $('stop').disabled = true;
    $('go-on').disabled = !run.done || run.done === run.steps;
}

async function train(event) {
    event.preventDefault();
    if (run && !$('stop').disabled) return; // one at a time
    const options = $('options').value.split(' ').filter(Boolean);
    run = { name: text.name, steps: Number($('train-steps').value), done: 0, files: { [`${text.name}.txt`]: text.bytes },
        options: ['--seed', $('train-seed').value, ...options] };
    $('said').textContent = $('train-fault').textContent = $('learnt').textContent = '';
    $('preview').replaceChildren();
    await go_on();
}

// ---- see the words --------------------------------------------------------------------------------------------------

async function draw_words() {
    const list = $('model').value === 'simple.safetensors';
    const files = { ...model(), 'simple.list': await embedded('simple.list') };
    const svg = await draw($('words'), ['words', $('model').value, ...(list ? ['simple.list'] : [])], files, $('words-fault'));
    const words = svg ? [...svg.querySelectorAll('circle + text')] : [];
    $('vocabulary').replaceChildren(...words.map((word) => new Option(word.textContent)));
    for (const word of words)
        word.addEventListener('pointerenter', () => {
            $('word').value = word.textContent;
            show_nearest();
        });
}

async function show_nearest() {
    const word = $('word').value;
    const made = word && await finish(start('sample', [$('model').value, '--nearest', word], model()), $('words-fault'));
    if (word !== $('word').value) return;
    const near = made ? as_text(made.out).trim().split('\n').map((line) => line.trim().split(/ +(.*)/)) : [];
    $('nearest').textContent = near.map(([cosine, other]) => `${other} ${cosine}`).join(', ');
    const names = new Set([word, ...near.map(([, other]) => other)]);
    for (const text of $('words').shadowRoot.querySelectorAll('circle + text'))
        text.classList.toggle('near', made && names.has(text.textContent));
}

// ---- files that are opened or dropped -------------------------------------------------------------------------------

async function take_file(file) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (!file.name.endsWith('.safetensors')) {
        $('corpus').value = 'own';
        choose_corpus();
        show_text(file.name, bytes);
        return;
    }
    const made = await finish(start('sample', [file.name, '-n', '1', '--steps', '1'], { [file.name]: bytes }), $('open-fault'));
    if (!made) return;
    add_model(file.name, bytes);
    $('model').value = file.name;
    await show_model();
}

// ---- begin ----------------------------------------------------------------------------------------------------------

async function begin() {
    for (const program of ['train', 'sample', 'draw']) modules[program] = await WebAssembly.compile(await embedded(`${program}.wasm`));
    for (const name of ['simple.safetensors', 'names.safetensors']) add_model(name, await embedded(name));
    $('model').onchange = show_model;
    $('kind').onchange = offer_example;
    $('sample').onsubmit = sample;
    $('time').oninput = () => { stop_playing(); show_moment(Number($('time').value)); };
    $('play').onclick = play;
    $('corpus').onchange = choose_corpus;
    $('text').oninput = () => { text = { name: 'mine', bytes: utf8.encode($('text').value) }; $('corpus').value = 'own'; };
    $('train').onsubmit = train;
    $('stop').onclick = () => { run.stopping = true; $('stop').disabled = true; };
    $('go-on').onclick = go_on;
    $('word').onchange = show_nearest;
    $('open').onchange = async () => { for (const file of $('open').files) await take_file(file); };
    document.ondragover = (event) => event.preventDefault();
    document.ondrop = async (event) => {
        event.preventDefault();
        for (const file of event.dataTransfer.files) await take_file(file);
    };
    await Promise.all([choose_corpus(), show_model()]);
    document.body.dataset.ready = 'yes';
}

begin().catch((e) => { $('open-fault').textContent = `This page does not work here: ${e.message}`; });
