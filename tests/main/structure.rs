//! The source tree keeps its order: a module imports only those that come before it, so data flows one way.

use std::path::{Path, PathBuf};

/// Modules from first to last; those on one line may not import each other.
const ORDER: &[&[&str]] = &[
    &["error", "onnx_proto", "output", "profile", "progress", "random", "tensor_file"],
    &["model"],
    &["load"],
    &["fuse"],
    &["images"],
    &["device"],
    &["kernels"],
    &["exec"],
    &["calibrate"],
    &["threshold"],
    &["quantize"],
    &["evaluate"],
    &["export", "report"],
    &["files", "pipeline"],
    &["api"],
    &["options"],
];

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|line| line.contains(&module))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, PathBuf)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    let module = |file: &PathBuf| {
        let first = file.strip_prefix(&src).unwrap().components().next().unwrap();
        Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
    };
    files.into_iter().map(|file| (module(&file), file)).collect()
}

/// The modules named after `crate::` in a text, `use crate::{a, b::c}` included; comments do not count.
fn imports(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let word =
        |item: &str| item.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned();
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            None => found.push(word(part)),
            Some(list) => found.extend(top_level_items(list).iter().map(|item| word(item))),
        }
    }
    found.retain(|w| !w.is_empty());
    found
}

/// The items of a `{…}` list whose opening brace was taken off, split at the commas outside inner braces.
fn top_level_items(list: &str) -> Vec<String> {
    let (mut items, mut depth) = (vec![String::new()], 0);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ => items.last_mut().unwrap().push(c),
        }
    }
    items
}

#[test]
fn imports_only_point_up() {
    assert_eq!(imports("use crate::{Error, model::{A, B}, gpu::Device};"), ["Error", "model", "gpu"]);
    assert_eq!(imports("use crate::load::{self, X};\n crate::fuse::fuse()"), ["load", "fuse"]);
    let mut wrong = Vec::new();
    for (module, file) in sources() {
        let Some(own) = rank(&module) else {
            assert!(["lib", "bin"].contains(&module.as_str()), "{module} has no place in the order of modules");
            continue;
        };
        let text = std::fs::read_to_string(&file).unwrap();
        for import in imports(&text) {
            match rank(&import) {
                Some(theirs) if import == module || theirs < own => {}
                Some(_) => wrong.push(format!("{} imports {import}", file.display())),
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "these imports point down: {wrong:#?}");
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(_, file)| (std::fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > 500)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}
