//! The program carries inside what becomes the first program of a guest; and it is laid out so that a start touches little of it.

use std::path::PathBuf;

fn main() {
    insula_embed::program("guest-init", "release", "GUEST_INIT");
    lay_out();
}

// What follows is the layout of the program's code, `docs/decisions/0012-what-a-start-touches.md`. Code is put together by whose it is,
// in the linker's words: each function is a section of its own, `.text.` and its mangled name, which holds the names of crate and
// modules (but for the standard library, in the older of the two manglings). Whatever isn't named here, and so whatever is new, isn't
// for starts. `tests/layout.rs` sees to it that a start finds what it calls.

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
    "zmij",
];

/// Of those, what is large and has no part in a start: sorting is made anew for each type, and the rest tells of a
/// panic.
const BUT_NOT: &[&str] = &[
    "*4core5slice4sort*",
    "*5gimli[0-9]*",
    "*9addr2line[0-9]*",
    "*12backtrace_rs*",
    "*14rustc_demangle[0-9]*",
    "*11miniz_oxide*",
];

/// Small sections a start needs whose names tell of no crate: the standard library's (in the newer mangling), methods of primitive
/// types and slices, and what the compiler takes for unlikely.
const ALSO: &[&str] = &[
    ".text.main",
    ".text._R*",
    ".text._ZN??_$LT$u??$u20$as*",
    ".text._ZN*_$LT$$u5b$*",
    ".text.unlikely._R*",
    ".text.unlikely._ZN*3std*",
    ".text.unlikely._ZN*4core*",
    ".text.unlikely._ZN*5alloc*",
    ".text.unlikely._ZN*9hashbrown*",
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
    let mut lines: Vec<String> = vec!["SECTIONS { .text.rest : {".into()];
    lines.extend(BUT_NOT.iter().map(|pattern| format!("*(.text._{pattern})")));
    lines.push("} } INSERT AFTER .text;\nSECTIONS { .text.start : {".into());
    lines.extend(STARTS.iter().flat_map(|path| patterns(path)).map(|pattern| format!("*(.text.{pattern})")));
    lines.extend(ALSO.iter().map(|pattern| format!("*({pattern})")));
    lines.push(format!("*libc.a:*(EXCLUDE_FILE({others}) .text EXCLUDE_FILE({others}) .text.*)"));
    lines.push("*libgcc_eh.a:*(.text) *libm*.a:[es]_*.o(.text) *libcompiler_builtins*:*(.text.*) *crt?.o(.text)".into());
    lines.push("*(.iplt) *(.init) *(.fini)".into());
    lines.push(
        "} } INSERT AFTER .rodata;\nSECTIONS { .rodata.programs : { *(.rodata.*_PROGRAM*) } } INSERT AFTER .text;\n".into(),
    );
    let path = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("layout.ld");
    std::fs::write(&path, lines.join("\n")).unwrap_or_else(|error| panic!("{} could not be written: {error}", path.display()));
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", path.display());
}

/// The mangled names of what is in a crate or module: functions and methods; methods of traits, for a type of it, for references to one,
/// and for every type that has a trait of it.
fn patterns(path: &str) -> Vec<String> {
    let names: Vec<&str> = path.split("::").collect();
    let mangled: String = names.iter().map(|name| format!("{}{name}", name.len())).collect();
    let dotted = names.join("..");
    let mut patterns = vec![format!("_ZN{mangled}*")];
    // The length of what stands in angle brackets comes first.
    for length in ["??", "???"] {
        let start = format!("_ZN{length}_$LT$");
        patterns.extend([
            format!("{start}{dotted}..*"),
            format!("{start}$RF$*{dotted}..*"),
            format!("{start}?$u20$as$u20${dotted}..*"),
        ]);
    }
    patterns
}
