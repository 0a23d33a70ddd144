//! The module tree of a crate, where each name comes from, and which parts of a folder use which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{Import, Source, parse};

/// A module's path from the root of its crate, which is empty.
pub(super) type ModulePath = Vec<String>;

/// What the file of a module itself is called among the module's children.
pub(super) const OWN_FILE: &str = "its own file";

/// A crate's modules, those inside of files included.
pub(super) struct Crate {
    files: BTreeMap<ModulePath, (PathBuf, Source)>,
    modules: BTreeSet<ModulePath>,
    imports: BTreeMap<ModulePath, Vec<Import>>,
}

/// A module uses an item that is defined in another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    /// The module that holds both, the root's path being empty.
    pub(super) folder: ModulePath,
    /// The child of `folder` that uses, and the one that is used; [`OWN_FILE`] for the folder's
    /// `mod.rs`.
    pub(super) from: String,
    pub(super) to: String,
    /// Where, and by what name.
    pub(super) place: String,
}

impl Crate {
    /// The crate whose root is `root`/lib.rs or main.rs, without the folders `left_out` of `root`.
    pub(super) fn read(root: &Path, left_out: &[&str]) -> Self {
        let mut files = Vec::new();
        super::rust_files(root, &mut files);
        let texts = files.into_iter().filter_map(|file| {
            let inside = file.strip_prefix(root).unwrap().to_owned();
            let first = inside.components().next()?.as_os_str().to_str()?.to_owned();
            (!left_out.contains(&first.as_str())).then(|| (inside, std::fs::read_to_string(&file).unwrap()))
        });
        Self::new(texts)
    }

    /// The crate of these files, whose paths start at its root.
    pub(super) fn new(texts: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let files: BTreeMap<_, _> =
            texts.into_iter().map(|(file, text)| (module_of(&file), (file, parse(&text)))).collect();
        let mut modules: BTreeSet<ModulePath> = files.keys().cloned().collect();
        let mut imports: BTreeMap<ModulePath, Vec<Import>> = BTreeMap::new();
        for (module, (_, source)) in &files {
            let inner = |within: &[String]| [module.as_slice(), within].concat();
            modules.extend(source.words.iter().map(|(within, _)| inner(within)));
            for import in &source.imports {
                modules.insert(inner(&import.within));
                imports.entry(inner(&import.within)).or_default().push(import.clone());
            }
        }
        Self { files, modules, imports }
    }

    /// The children of the root that are modules of their own.
    pub(super) fn top_level(&self) -> BTreeSet<&str> {
        self.modules.iter().filter_map(|module| module.first()).map(String::as_str).collect()
    }

    /// Every use of one module's item in another.
    ///
    /// A name counts where it is defined: what a `mod.rs` exports again is its child's. That export
    /// itself is no use, as long as the `mod.rs` does not speak of the name elsewhere.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (module, (file, source)) in &self.files {
            let inner = |within: &[String]| [module.as_slice(), within].concat();
            let mut add = |from: &ModulePath, path: &[String], line: usize, exported: bool| {
                if let Some((to, item)) = self.definition(from, path, &[]) {
                    let place = format!("{}:{line}: {}", file.display(), path.join("::"));
                    uses.extend(between(from, &to, item, exported, place));
                }
            };
            for import in &source.imports {
                let spoken_of =
                    |(within, word): &(Vec<String>, String)| *within == import.within && *word == import.name;
                let exported = import.exported && !source.words.iter().any(spoken_of);
                add(&inner(&import.within), &import.path, import.line, exported);
            }
            for named in &source.paths {
                add(&inner(&named.within), &named.path, named.line, false);
            }
        }
        uses
    }

    /// The module that defines what `path` means in `module`, and whether it is an item of it
    /// rather than the module itself; nothing for what other crates define. `open` has the names
    /// that are being looked up.
    fn definition(&self, module: &ModulePath, path: &[String], open: &Names) -> Option<(ModulePath, bool)> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.inside(vec![], rest, open),
            "self" => self.inside(module.clone(), rest, open),
            "super" => self.inside(parent(module)?, rest, open),
            _ if self.modules.contains(&child(module, first)) => self.inside(child(module, first), rest, open),
            _ => match self.imported(module, first, open)? {
                (found, false) => self.inside(found, rest, open),
                item => Some(item),
            },
        }
    }

    /// [`Crate::definition`] of a path that begins in a module.
    fn inside(&self, mut module: ModulePath, path: &[String], open: &Names) -> Option<(ModulePath, bool)> {
        for (at, name) in path.iter().enumerate() {
            module = if name == "super" {
                parent(&module)?
            } else if self.modules.contains(&child(&module, name)) {
                child(&module, name)
            } else {
                return match self.imported(&module, name, open) {
                    Some((found, false)) => self.inside(found, &path[at + 1..], open),
                    found => Some(found.unwrap_or((module, true))),
                };
            };
        }
        Some((module, false))
    }

    /// Where a name comes from that a module's `use` declarations bring in.
    fn imported(&self, module: &ModulePath, name: &str, open: &Names) -> Option<(ModulePath, bool)> {
        let looked_up = (module.clone(), name.to_owned());
        // `use serde;`, or the crate of `use serde::*;`, looked for in what that brings in.
        if open.contains(&looked_up) {
            return None;
        }
        let open = [open, &[looked_up]].concat();
        let imports = self.imports.get(module)?;
        if let Some(import) = imports.iter().find(|import| import.name == name) {
            return self.definition(module, &import.path, &open);
        }
        imports.iter().filter(|import| import.name == "*").find_map(|import| {
            match self.definition(module, &import.path, &open)? {
                (from, false) if self.modules.contains(&child(&from, name)) => Some((child(&from, name), false)),
                (from, false) => self.imported(&from, name, &open),
                _ => None,
            }
        })
    }
}

/// Names that are being looked up, each with the module it is looked for in.
type Names = [(ModulePath, String)];

fn child(module: &ModulePath, name: &str) -> ModulePath {
    [module.as_slice(), &[name.to_owned()]].concat()
}

fn parent(module: &ModulePath) -> Option<ModulePath> {
    module.split_last().map(|(_, parent)| parent.to_vec())
}

/// `a/mod.rs` and `a.rs` are the module a, `lib.rs` and `main.rs` the root.
fn module_of(file: &Path) -> ModulePath {
    let mut module: ModulePath =
        file.with_extension("").components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
    let is_root = module.len() == 1 && ["lib", "main"].contains(&module[0].as_str());
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The use as the folder sees it that holds both modules; none within one module.
fn between(from: &ModulePath, to: &ModulePath, item: bool, exported: bool, place: String) -> Option<Use> {
    let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let child = |module: &ModulePath| module.get(common).map_or(OWN_FILE, String::as_str).to_owned();
    let folder = from[..common].to_vec();
    let (from_child, to_child) = (child(from), child(to));
    let names_a_folder = to.len() == common && !item;
    let exports_its_child = from.len() == common && exported;
    let inside = from_child == to_child;
    (!names_a_folder && !exports_its_child && !inside).then_some(Use { folder, from: from_child, to: to_child, place })
}

/// The groups of children of one folder that use each other in a circle.
pub(super) fn circles<'a>(uses: impl IntoIterator<Item = &'a Use>) -> Vec<BTreeSet<&'a str>> {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for use_ in uses {
        edges.entry(&use_.from).or_default().insert(&use_.to);
    }
    let reached = |start: &'a str| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(child) = open.pop() {
            open.extend(edges.get(child).into_iter().flatten().filter(|next| reached.insert(**next)));
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|child| (*child, reached(child))).collect();
    let leads = |from: &str, to: &str| reached.get(from).is_some_and(|reached| reached.contains(to));
    let mut circles: Vec<BTreeSet<&str>> = Vec::new();
    for child in reached.keys().copied().filter(|child| leads(child, child)) {
        if !circles.iter().any(|circle| circle.contains(child)) {
            circles.push(reached.keys().copied().filter(|other| leads(child, other) && leads(other, child)).collect());
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The uses in a crate of these files as `folder: from to`.
    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        let texts = files.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_owned()));
        let mut uses: Vec<String> = Crate::new(texts)
            .uses()
            .into_iter()
            .map(|u| format!("{}: {} -> {}", u.folder.join("::"), u.from, u.to))
            .collect();
        uses.sort();
        uses.dedup();
        uses
    }

    #[test]
    fn names_lead_to_where_they_are_defined() {
        let a = ("a/mod.rs", "mod b; mod c; pub use b::B; use c::C as Own; pub struct A;");
        let others =
            [a, ("a/b.rs", "pub struct B;"), ("a/c.rs", "pub struct C;"), ("lib.rs", "mod a; mod d; pub use a::A;")];
        let with = |file, text| uses(&[&others[..], &[(file, text)]].concat());
        let plain = ["a: its own file -> c"];
        assert_eq!(with("d.rs", ""), plain);
        let across = [": d -> a", plain[0]];
        assert_eq!(with("d.rs", "use crate::a::B;"), across);
        assert_eq!(with("d.rs", "use super::a;"), across);
        assert_eq!(with("d.rs", "fn f(x: crate::A) {}"), across);
        assert_eq!(with("d.rs", "use std::fmt; use serde; fn f() { fmt::g(serde::h) }"), plain);
        // Inside the folder: the child that has it, through whatever name it is reached.
        for text in ["use super::B;", "use crate::a::B;", "use crate::a; fn f(x: a::B) {}", "use super::super::a::b;"] {
            assert_eq!(with("a/e.rs", text), ["a: e -> b", plain[0]], "{text}");
        }
        for text in
            ["use super::Own;", "fn f() { super::c::C::new() }", "use super::c; fn f() { c::C }", "use super::c::*;"]
        {
            assert_eq!(with("a/e.rs", text), ["a: e -> c", plain[0]], "{text}");
        }
        assert_eq!(with("a/e.rs", "use super::A;"), ["a: e -> its own file", plain[0]]);
        assert_eq!(with("a/e.rs", "use crate::A;"), ["a: e -> its own file", plain[0]]);
        // A folder with a file beside it instead of a `mod.rs`.
        assert_eq!(
            with("a/c/x.rs", "use super::C; use super::super::B;"),
            ["a: c -> b", plain[0], "a::c: x -> its own file"]
        );
    }

    #[test]
    fn a_folder_s_own_file_exports_for_free_and_uses_like_any_other() {
        let uses = |text| uses(&[("a/mod.rs", text), ("a/b.rs", "pub struct B;")]);
        let nothing: [&str; 0] = [];
        assert_eq!(uses("mod b; pub use b::B;"), nothing);
        assert_eq!(uses("mod b; pub(crate) use self::b::B;"), nothing);
        assert_eq!(uses("pub mod b; pub use b::b;"), nothing);
        for text in ["mod b; use b::B;", "mod b; pub use b::B; fn f(x: B) {}", "mod b; fn f(x: b::B) {}"] {
            assert_eq!(uses(text), ["a: its own file -> b"], "{text}");
        }
    }

    #[test]
    fn modules_inside_files_are_modules() {
        let files = [
            ("a.rs", "fn f() {} #[cfg(test)] mod tests { use super::*; use super::super::b; fn g() { f() } }"),
            ("b.rs", ""),
        ];
        assert_eq!(uses(&files), [": a -> b"]);
        let files = [("a.rs", "use x::X; struct A; mod x { use super::A; pub struct X; }")];
        assert_eq!(uses(&files), ["a: its own file -> x", "a: x -> its own file"]);
    }

    #[test]
    fn circles_are_found() {
        let uses: Vec<Use> = ["ab", "bc", "cb", "cd", "ef", "fg", "ge"]
            .iter()
            .map(|pair| Use { folder: vec![], from: pair[..1].into(), to: pair[1..].into(), place: String::new() })
            .collect();
        assert_eq!(circles(&uses), [BTreeSet::from(["b", "c"]), BTreeSet::from(["e", "f", "g"])]);
        assert_eq!(circles(&uses[..2]), [] as [BTreeSet<&str>; 0]);
    }
}
