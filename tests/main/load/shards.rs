//! Checkpoints in several files, which an index lists.

use std::path::{Path, PathBuf};

use repquant::internals::fuse::fuse;
use repquant::internals::load::{LoadOptions, load};
use repquant::{ErrorKind, Model};
use serde_json::{Map, Value, json};

use super::load_ok;
use crate::common::checkpoints::{Checkpoint, description_json, repvgg_description};

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// Two shards, which take turns, and the index's map.
fn write(folder: &Path) -> Map<String, Value> {
    let mut shards = [Checkpoint::default(), Checkpoint::default()];
    let mut map = Map::new();
    for (at, (key, tensor)) in Checkpoint::repvgg().tensors.into_iter().enumerate() {
        map.insert(key.clone(), SHARDS[at % 2].into());
        shards[at % 2].tensors.insert(key, tensor);
    }
    for (shard, name) in shards.iter().zip(SHARDS) {
        std::fs::write(folder.join(name), shard.bytes()).unwrap();
    }
    std::fs::write(folder.join("config.json"), description_json("repvgg", "[1, 2, 1]")).unwrap();
    index(folder, &map);
    map
}

fn index(folder: &Path, map: &Map<String, Value>) -> PathBuf {
    let path = folder.join(INDEX);
    std::fs::write(&path, json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string()).unwrap();
    path
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let expected = fuse(&load_ok(&Checkpoint::repvgg(), &repvgg_description())).unwrap().digest();
    for path in [folder.path().to_owned(), folder.path().join(INDEX)] {
        let net = load(&path, &LoadOptions::default()).unwrap();
        assert_eq!(fuse(&net).unwrap().digest(), expected, "{}", path.display());
        let files = Model::files(&path, &LoadOptions::default());
        for name in [INDEX, "config.json", SHARDS[0], SHARDS[1]] {
            assert!(files.contains(&folder.path().join(name)), "{name}: {files:?}");
        }
    }
    assert_eq!(load(&folder.path().join(INDEX), &LoadOptions::default()).unwrap().name, "model");
    // One file goes before shards, and a description of the same name before the folder's.
    std::fs::write(folder.path().join("model.json"), "{}").unwrap();
    let error = load(&folder.path().join(INDEX), &LoadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("model.json") && error.contains("family"), "{error}");
    std::fs::write(folder.path().join("model.safetensors"), b"").unwrap();
    assert!(load(folder.path(), &LoadOptions::default()).unwrap_err().to_string().contains("model.safetensors: "));
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let refused = |change: &dyn Fn(&Path, &mut Map<String, Value>), words: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut map = write(folder.path());
        change(folder.path(), &mut map);
        index(folder.path(), &map);
        let error = load(folder.path(), &LoadOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        let error = error.to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} are expected in: {error}");
    };
    refused(&|folder, _| std::fs::remove_file(folder.join(SHARDS[1])).unwrap(), &[INDEX, SHARDS[1], "cannot be read"]);
    refused(
        &|_, map| drop(map.insert("stage9.weight".into(), SHARDS[0].into())),
        &[SHARDS[0], "no tensor stage9.weight", "download"],
    );
    refused(&|_, map| drop(map.remove("linear.bias")), &["linear.bias", "does not list"]);
    let outside = ["../other.safetensors", "/etc/passwd", "", "."];
    for path in outside {
        refused(&|_, map| drop(map.insert("linear.bias".into(), path.into())), &[INDEX, "linear.bias", "its folder"]);
    }
    refused(&|_, map| map.clear(), &[INDEX, "lists no tensor"]);
    refused(&|_, map| drop(map.insert("linear.bias".into(), 3.into())), &[INDEX, "weight_map"]);
    refused(
        &|folder, _| std::fs::write(folder.join(SHARDS[0]), b"short").unwrap(),
        &[SHARDS[0], "not a whole safetensors file"],
    );
}
