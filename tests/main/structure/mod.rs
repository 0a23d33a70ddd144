//! The source tree keeps its order. Three rules:
//!
//! 1. Modules have an order, and one imports only those that come before it: data flows one way.
//! 2. Inside a folder no children use each other in a circle, whether files or folders. A name
//!    counts where it is defined: one that `mod.rs` exports again belongs to the child that has it.
//!    `mod.rs` declares and exports its children for free; where it uses them itself, or a child
//!    uses what `mod.rs` defines, it counts as one more child.
//! 3. The command speaks to the library as any user does.
//!
//! What is not seen: methods (an `impl` in one file, called in another) and names that a macro puts
//! together.

mod graph;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graph::{Crate, Use, circles};

/// Modules from first to last; those on one line may not import each other.
const ORDER: &[&[&str]] = &[
    &["error"],
    &["onnx_proto", "output", "profile", "progress", "random", "tensor_file"],
    &["model"],
    &["load"],
    &["fuse"],
    &["images"],
    &["device"],
    &["testing"],
    &["kernels"],
    &["exec"],
    &["calibrate"],
    &["threshold"],
    &["quantize"],
    &["evaluate"],
    &["analyze"],
    &["export", "report"],
    &["files"],
    &["api"],
    &["internals", "options"],
];

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|line| line.contains(&module))
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The library, without the command.
fn library() -> Crate {
    Crate::read(&src(), &["bin"])
}

/// The folders of commands: each has a `main.rs`.
fn commands() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(src().join("bin")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The Rust files of a folder and of the folders in it.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn imports_only_point_up() {
    let library = library();
    for module in library.top_level() {
        assert!(rank(module).is_some(), "{module} has no place in the order of modules");
    }
    for module in ORDER.iter().copied().flatten() {
        assert!(library.top_level().contains(module), "there is no module {module}");
    }
    let up = |import: &Use| rank(&import.to).zip(rank(&import.from)).is_some_and(|(to, from)| to < from);
    let points_down = |import: &Use| import.folder.is_empty() && !up(import);
    let wrong: Vec<String> = library
        .uses()
        .into_iter()
        .filter(points_down)
        .map(|import| format!("{} uses {}: {}", import.from, import.to, import.place))
        .collect();
    assert!(wrong.is_empty(), "these imports point down: {wrong:#?}");
}

#[test]
fn no_folder_has_a_circle() {
    let mut folders: BTreeMap<String, Vec<Use>> = BTreeMap::new();
    let crates = commands().into_iter().map(|folder| {
        let name = format!("bin/{}", folder.file_name().unwrap().to_str().unwrap());
        (name, Crate::read(&folder, &[]))
    });
    for (name, crate_) in crates.chain([(String::new(), library())]) {
        for import in crate_.uses() {
            let folder = [std::slice::from_ref(&name), import.folder.as_slice()].concat().join("/");
            folders.entry(folder.trim_start_matches('/').to_owned()).or_default().push(import);
        }
    }
    let mut wrong = Vec::new();
    for (folder, uses) in &folders {
        for circle in circles(uses) {
            let inside = |import: &&Use| circle.contains(import.from.as_str()) && circle.contains(import.to.as_str());
            let mut lines: Vec<String> =
                uses.iter().filter(inside).map(|i| format!("{} uses {}: {}", i.from, i.to, i.place)).collect();
            lines.sort();
            wrong.push(format!("in src/{folder}: {lines:#?}"));
        }
    }
    assert!(wrong.is_empty(), "these use each other in a circle: {}", wrong.join("\n"));
}

/// The command names the library's items as `repquant::…`, and none of `repquant::internals`.
#[test]
fn the_command_uses_what_any_user_can() {
    let mut files: Vec<PathBuf> = [src().join("main.rs")].into_iter().filter(|file| file.is_file()).collect();
    for folder in &commands() {
        rust_files(folder, &mut files);
    }
    assert!(!files.is_empty(), "there is no command");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let source = source::parse(&text);
        let imports = source.imports.iter().map(|import| &import.path);
        for path in imports.chain(source.paths.iter().map(|named| &named.path)) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let allowed = !matches!(path[..], ["repquant"] | ["repquant", "internals", ..]);
            assert!(allowed, "{} names {}", file.display(), path.join("::"));
        }
        // Nor does it take in the library's files.
        assert!(!source.words.iter().any(|(_, word)| word == "include"), "{} includes a file", file.display());
        let tokens: Vec<String> = source::tokens(&text).into_iter().map(|token| token.text).collect();
        assert!(!tokens.windows(3).any(|w| w == ["#", "[", "path"]), "{} has a module elsewhere", file.display());
    }
}

#[test]
fn files_stay_short() {
    let mut files = Vec::new();
    rust_files(&src(), &mut files);
    let long: Vec<String> = files
        .into_iter()
        .map(|file| (std::fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > 500)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}
