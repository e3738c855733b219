//! Compiles SQLite with SQLite3 Multiple Ciphers around it, with what is used here of the options that rusqlite's own bundled SQLite has.

fn main() {
    let source = sqlite3mc_src::source_dir();
    let mut build = cc::Build::new();
    build.file(source.join(sqlite3mc_src::SOURCE_FILE)).include(source).warnings(false);
    // As libsqlite3-sys sets them, less what nobody here calls. SQLite's tables of functions name it, so it would be linked in:
    // full-text search, R-trees, JSON in SQL, statistics for the planner and about pages, and the loading of extensions, which a
    // program that keeps patients' records must not do anyway. Without memory management each connection has its pages to itself,
    // and without statistics of memory, which nobody reads, there is no lock on every allocation.
    for define in [
        "SQLITE_CORE",
        "SQLITE_OMIT_DEPRECATED",
        "SQLITE_OMIT_JSON",
        "SQLITE_OMIT_LOAD_EXTENSION",
        "SQLITE_OMIT_SHARED_CACHE",
        "SQLITE_USE_URI",
        "HAVE_ISNAN",
    ] {
        build.define(define, None);
    }
    build.define("SQLITE_DEFAULT_MEMSTATUS", "0");
    build.define("SQLITE_DEFAULT_FOREIGN_KEYS", "1").define("SQLITE_THREADSAFE", "1").define("HAVE_USLEEP", "1");
    // One cipher: ChaCha20-Poly1305, which is fast without instructions for AES. Freed memory can be filled.
    for cipher in ["AES_128_CBC", "AES_256_CBC", "SQLCIPHER", "RC4", "ASCON128", "AEGIS"] {
        build.define(&format!("HAVE_CIPHER_{cipher}"), "0");
    }
    build.define("HAVE_CIPHER_CHACHA20", "1").define("SQLITE3MC_SECURE_MEMORY", "1");
    build.cargo_metadata(false).compile("sqlite3mc");
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    println!("cargo:rustc-link-search=native={out}");
    // Whole, because nothing in this crate names its functions: rusqlite's bindings do, wherever they stand in the link order.
    println!("cargo:rustc-link-lib=static:+whole-archive=sqlite3mc");
    println!("cargo:rerun-if-changed=build.rs");
}
