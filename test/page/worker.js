// worker.js - runs one of the programs once, as it is, in a small WASI: files in memory, arguments, the standard
// streams, the clock, exit. (WASI: what programs of WebAssembly ask their host for, as others ask the kernel.)
//
// It is sent { module, args, files }, files being { name: Uint8Array }. It sends { lines } while the program writes to
// its standard error, and at the end { code, out, files }, or { fault } if the program could not run to its end.
'use strict';

const NOT_A_FILE = 8, EXISTS = 20, INVALID = 28, NO_SUCH_FILE = 44, NOT_SEEKABLE = 70; // errors, by WASI's numbers
const STREAM = 0, FOLDER = 3, REGULAR = 4;                                              // kinds of what is open

// A file in memory. Its bytes have room for more than its size, so that appending is cheap.
class File {
    constructor(bytes = new Uint8Array(0)) { this.bytes = bytes; this.size = bytes.length; }
    read(at, most) { return this.bytes.subarray(at, Math.min(this.size, at + most)); }
    write(at, bytes) {
        const end = at + bytes.length;
        if (end > this.bytes.length) {
            const larger = new Uint8Array(2 * end);
            larger.set(this.read(0, this.size));
            this.bytes = larger;
        }
        this.bytes.set(bytes, at);
        this.size = Math.max(this.size, end);
    }
}

// The functions that a program imports; they return an error, or nothing. files: a Map of name to File; out: the File that
// is the standard output; tell: takes the bytes of stderr; memory: the program's; exit: is thrown, with the code.
function wasi(args, files, out, tell, memory, exit) {
    const argv = args.map((arg) => new TextEncoder().encode(arg + '\0'));
    const open = [{ kind: STREAM, file: new File() }, { kind: STREAM, file: out }, { kind: STREAM }, { kind: FOLDER }];
    const view = () => new DataView(memory());
    const bytes = (at, length) => new Uint8Array(memory(), at, length);
    const name = (at, length) => new TextDecoder().decode(bytes(at, length)).replace(/^(\.\/+)+/, '');
    const put32 = (at, value) => view().setUint32(at, value, true);
    const put64 = (at, value) => view().setBigUint64(at, BigInt(value), true);

    // Reads or writes the pieces of memory of a list of (address, length), until one is not done in full.
    function each_piece(list, count, done_at, one) {
        let all = 0;
        for (let i = 0; i < count; i++) {
            const length = view().getUint32(list + 8 * i + 4, true);
            const done = one(bytes(view().getUint32(list + 8 * i, true), length));
            all += done;
            if (done < length) break;
        }
        put32(done_at, all);
    }

    return {
        args_sizes_get(count_at, size_at) {
            put32(count_at, argv.length);
            put32(size_at, argv.reduce((sum, arg) => sum + arg.length, 0));
        },
        args_get(addresses_at, at) {
            argv.forEach((arg, i) => {
                put32(addresses_at + 4 * i, at);
                bytes(at, arg.length).set(arg);
                at += arg.length;
            });
        },
        environ_sizes_get(count_at, size_at) { put32(count_at, 0); put32(size_at, 0); },
        environ_get() {},
        clock_time_get(clock, precision, at) { put64(at, Math.round(1e6 * Date.now())); },
        proc_exit(code) { exit.code = code; throw exit; },
        fd_prestat_get(fd, at) { // file 3 is the folder of all files; its name has one letter
            if (fd !== 3) return NOT_A_FILE;
            put32(at, 0);
            put32(at + 4, 1);
        },
        fd_prestat_dir_name(fd, at) { bytes(at, 1).set([0x2e]); },
        fd_fdstat_get(fd, at) {
            if (!open[fd]) return NOT_A_FILE;
            put64(at, open[fd].kind);
            put64(at + 8, 0x1fffffff); // every right
            put64(at + 16, 0x1fffffff);
        },
        fd_fdstat_set_flags() {},
        path_open(folder, flags, name_at, length, how, rights, inherited, status, fd_at) {
            const path = name(name_at, length), [creates, exclusive, truncates] = [how & 1, how & 4, how & 8];
            if (exclusive && files.has(path)) return EXISTS;
            if (!creates && !files.has(path)) return NO_SUCH_FILE;
            if (truncates || !files.has(path)) files.set(path, new File());
            let fd = 4;
            while (open[fd]) fd++;
            open[fd] = { kind: REGULAR, file: files.get(path), at: 0, appends: status & 1 };
            put32(fd_at, fd);
        },
        fd_close(fd) { delete open[fd]; },
        fd_renumber(from, to) { open[to] = open[from]; delete open[from]; },
        fd_seek(fd, offset, whence, at) {
            const o = open[fd];
            if (!o || o.kind !== REGULAR) return o ? NOT_SEEKABLE : NOT_A_FILE;
            const to = Number(offset) + [0, o.at, o.file.size][whence];
            if (!(to >= 0)) return INVALID;
            o.at = to;
            put64(at, to);
        },
        fd_read(fd, list, count, read_at) {
            const o = open[fd];
            if (!o || !o.file) return NOT_A_FILE;
            each_piece(list, count, read_at, (piece) => {
                const read = o.file.read(o.at || 0, piece.length);
                piece.set(read);
                o.at += read.length;
                return read.length;
            });
        },
        fd_write(fd, list, count, written_at) {
            const o = open[fd];
            if (!o) return NOT_A_FILE;
            each_piece(list, count, written_at, (piece) => {
                const at = o.kind === REGULAR && !o.appends ? o.at : o.file && o.file.size;
                if (o.file) o.file.write(at, piece);
                else tell(piece);
                o.at = at + piece.length;
                return piece.length;
            });
        },
        path_rename(folder, from, from_length, to_folder, to, to_length) {
            const old = name(from, from_length);
            if (!files.has(old)) return NO_SUCH_FILE;
            files.set(name(to, to_length), files.get(old));
            files.delete(old);
        },
        path_unlink_file(folder, at, length) { if (!files.delete(name(at, length))) return NO_SUCH_FILE; },
        path_remove_directory() { return NO_SUCH_FILE; },
    };
}

async function run({ module, args, files: given }) {
    const files = new Map(Object.entries(given).map(([name, bytes]) => [name, new File(bytes)]));
    const out = new File(), decoder = new TextDecoder(), exit = { code: 0 }, imported = {};
    let line = '', program; // line: of stderr, that has not ended yet
    const tell = (bytes) => {
        line += decoder.decode(bytes, { stream: true });
        const end = line.lastIndexOf('\n') + 1;
        if (end) postMessage({ lines: line.slice(0, end) });
        line = line.slice(end);
    };
    const functions = wasi(args, files, out, tell, () => program.exports.memory.buffer, exit);
    for (const { name } of WebAssembly.Module.imports(module))
        imported[name] = (...args) => {
            if (!functions[name]) throw new Error(`the page has no ${name} for the program`);
            return functions[name](...args) || 0;
        };
    program = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: imported });
    try {
        program.exports._start();
    } catch (e) {
        if (e !== exit) throw e;
    }
    if (line) postMessage({ lines: line + '\n' });
    const all = (file) => file.bytes.slice(0, file.size);
    const made = Object.fromEntries([...files].map(([name, file]) => [name, all(file)]));
    return { code: exit.code, out: all(out), files: made };
}

onmessage = ({ data }) => {
    run(data).then(postMessage, (e) => postMessage({ fault: `${data.args[0]}: ${e.message}` }));
};
