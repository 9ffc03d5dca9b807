//! The program carries inside what becomes the first program of a guest; and it is laid out so that a start touches little of it.

use std::path::PathBuf;

fn main() {
    insula_embed::program("guest-init", "release", "GUEST_INIT");
    lay_out();
}

// What follows is the layout of the program's code, `docs/decisions/0012-what-a-start-touches.md`. Code is put together by whose it is,
// in the linker's words: each function is a section of its own, `.text.` and its mangled name (the newer mangling, which
// `.cargo/config.toml` asks for: it names the crates and modules of a function and of the types it was made for). Whatever isn't named
// here, and so whatever is new, isn't for starts. `tests/layout.rs` sees to it that a start finds what it calls.

/// Crates and modules whose code a start runs.
const STARTS: &[&str] = &[
    "alloc",
    "anyhow",
    "clap_builder",
    "clap_lex",
    "core",
    "hashbrown",
    "insula::attend",
    "insula::background",
    "insula::cli",
    "insula::commands::check_preserved",
    "insula::commands::exec",
    "insula::commands::lifecycle",
    "insula::commands::plan_of_bundle",
    "insula::commands::read_limited",
    "insula::commands::run",
    "insula::commands::write_pid_file",
    "insula::global",
    "insula::main",
    "insula::show",
    "insula_boundary",
    "insula_container",
    "insula_seccomp",
    "insula_spec",
    "insula_sys::bpf",
    "insula_sys::capability",
    "insula_sys::child",
    "insula_sys::epoll",
    "insula_sys::error",
    "insula_sys::exe",
    "insula_sys::host::cgroup",
    "insula_sys::mount",
    "insula_sys::net",
    "insula_sys::process",
    "insula_sys::seccomp",
    "insula_sys::signals",
    "insula_sys::tty",
    "itoa",
    "memchr",
    "oci_spec",
    "rustix",
    "serde",
    "serde_core",
    "serde_json",
    "std",
    "syscalls",
    "zmij",
];

/// Of those, what is large and has no part in a start: it tells of a panic. The same goes for what is made for a type of another crate of
/// ours.
const BUT_NOT: &[&str] = &["gimli", "addr2line", "std::backtrace_rs", "rustc_demangle", "miniz_oxide"];

/// What a start runs although its name doesn't tell: of all functions that do the same, the compiler keeps one, under any of their names.
/// Mostly these drop something, see to a vector's room, or know of nothing. And what allocates.
const ALSO: &[&str] = &[
    "main",
    "_R*13drop_in_place*",
    "_R*4Drop4drop*",
    "_R*7raw_vec*",
    "_R*5Error*6source*",
    "_R*12slice_insert*",
    "_R*7___rustc*",
];

/// Members of the C library without which every program here starts: wide characters, other character sets, floating-point numbers as text,
/// name look-up, loading of libraries, and variants of string functions for other processors.
const C_BUT_NOT: &[&str] = &[
    "gconv*",
    "iconv*",
    "vfw*",
    "wgen*",
    "wfile*",
    "*printf_fp*",
    "strtof*",
    "strtod*",
    "strtold*",
    "res_*",
    "resolv*",
    "dcigettext*",
    "loadmsg*",
    "plural*",
    "*locale*",
    "dl-open*",
    "dl-deps*",
    "dl-close*",
    "dl-profile*",
    "dl-version*",
    "ifaddrs*",
    "spawni*",
    "*rtm.o",
    "*avx512*",
    "*evex*",
    "*ssse3*",
    "*sse4*",
    "*sse2*",
];

/// Has the linker put the code of a start together, into a segment of its own, and what is only carried into another: the kernel maps
/// code around what is touched, as far as the segment goes.
fn lay_out() {
    let others: Vec<String> = C_BUT_NOT.iter().map(|member| format!("*:{member}")).collect();
    let others = others.join(" ");
    // A function goes where it is asked for first.
    let mut lines: Vec<String> = vec!["SECTIONS { .text.single : {".into()];
    lines.extend(ALSO.iter().map(|name| format!("*(.text.{name} .text.unlikely.{name})")));
    lines.push("} } INSERT AFTER .rodata;\nSECTIONS { .text.rest : {".into());
    lines.extend(BUT_NOT.iter().map(|path| functions(path)));
    lines.extend(other_crates().iter().map(|name| functions(name)));
    lines.push("} } INSERT AFTER .text;\nSECTIONS { .text.start : {".into());
    lines.extend(STARTS.iter().map(|path| functions(path)));
    lines.push(format!("*libc.a:*(EXCLUDE_FILE({others}) .text EXCLUDE_FILE({others}) .text.*)"));
    lines.push("*libgcc_eh.a:*(.text) *libm*.a:[es]_*.o(.text) *libcompiler_builtins*:*(.text.*) *crt*.o(.text)".into());
    lines.push("*(.iplt) *(.init) *(.fini)".into());
    lines.push(
        "} } INSERT AFTER .text.single;\nSECTIONS { .rodata.programs : { *(.rodata.*_PROGRAM*) } } INSERT AFTER .text;\n".into(),
    );
    // Tables by which a stack is walked. A program that ends at its first panic and has no symbols would walk it and tell nothing.
    if std::env::var("CARGO_CFG_PANIC").is_ok_and(|way| way == "abort") {
        lines.push("SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) } } INSERT AFTER .text;\n".into());
    }
    let path = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("layout.ld");
    std::fs::write(&path, lines.join("\n")).unwrap_or_else(|error| panic!("{} could not be written: {error}", path.display()));
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", path.display());
}

/// The crates of ours that a start has no need of.
fn other_crates() -> Vec<String> {
    let crates = std::fs::read_dir("..").unwrap_or_else(|error| panic!("the directory of crates can't be read: {error}"));
    let names = crates.flatten().map(|entry| format!("insula_{}", entry.file_name().to_string_lossy().replace('-', "_")));
    let mut names: Vec<String> = names.filter(|name| !STARTS.iter().any(|path| path.split("::").next() == Some(name))).collect();
    names.sort();
    names
}

/// The functions in a crate or module, and those made for a type or trait of it, in the linker's words. A name that ends with a crate's tells
/// only where a function was made first, and is no other crate's.
fn functions(path: &str) -> String {
    let mangled: String = path.split("::").map(|name| format!("{}{name}", name.len())).collect();
    let more = if path.contains("::") { "*" } else { "?*" };
    format!("*(.text._R*{mangled}{more} .text.unlikely._R*{mangled}{more})")
}
