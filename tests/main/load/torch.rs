//! Files of `torch.save`, made by `tests/data/torch_checkpoints.py`.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use repquant::files::{FileKind, kind};
use repquant::internals::fuse::read;
use repquant::internals::load::LoadOptions;
use repquant::internals::model::Graph;
use repquant::{Error, ErrorKind};

use crate::common::checkpoints::description_json;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch").join(name)
}

/// Reads a file with the description of the fixtures' network.
fn network(path: &Path) -> Result<Graph, Error> {
    let folder = tempfile::tempdir().unwrap();
    let description = folder.path().join("description.json");
    std::fs::write(&description, description_json("repvgg", "[1, 2]")).unwrap();
    read(path, &LoadOptions { describe: Some(description), ..Default::default() })
}

/// What was said of the file.
fn assumed(graph: &Graph) -> Option<&str> {
    graph.notes.iter().find(|note| note.layer == "checkpoint").map(|note| note.text.as_str())
}

#[test]
fn every_form_gives_the_same_network() {
    let expected = network(&fixture("weights.safetensors")).unwrap();
    assert_eq!(expected.nodes.len(), 1 + 3 + 2);
    assert_eq!(assumed(&expected), None);
    for (name, note) in [
        ("zip.pth", None),
        ("protocol4.pth", None),
        ("legacy.pth", None),
        ("half.pth", None),
        ("bfloat16.pth", None),
        ("double.pth", None),
        ("views.pth", None),
        ("views_legacy.pth", None),
        ("module.pth", None),
        (
            "training.pth.tar",
            Some("the weights are `state_dict` of the file, beside args, best_acc1, epoch, optimizer, state_dict_ema"),
        ),
        ("ema.pt", Some("the weights are `model_ema` of the file, beside args, best_acc1, epoch, optimizer")),
        ("unknown_name.pth", Some("the weights are `generator` of the file, beside epoch")),
        ("parallel.pth", Some("the weights are `module` of the file")),
    ] {
        assert_eq!(kind(&fixture(name)).unwrap(), FileKind::Checkpoint, "{name}");
        let graph = network(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(graph.digest(), expected.digest(), "{name}");
        assert_eq!(assumed(&graph), note, "{name}");
    }
    assert_eq!(network(&fixture("training.pth.tar")).unwrap().name, "training");
}

#[test]
fn what_lies_beside_the_file_describes_it() {
    let folder = tempfile::tempdir().unwrap();
    let description = description_json("repvgg", "[1, 2]");
    std::fs::copy(fixture("training.pth.tar"), folder.path().join("best.pth.tar")).unwrap();
    std::fs::write(folder.path().join("best.json"), &description).unwrap();
    let graph = read(&folder.path().join("best.pth.tar"), &LoadOptions::default()).unwrap();
    assert_eq!(graph.classes.unwrap(), ["cat", "dog"]);

    // A Hugging Face folder of old, and in shards.
    std::fs::write(folder.path().join("config.json"), &description).unwrap();
    std::fs::copy(fixture("zip.pth"), folder.path().join("pytorch_model.bin")).unwrap();
    let whole = read(folder.path(), &LoadOptions::default()).unwrap().digest();
    std::fs::rename(folder.path().join("pytorch_model.bin"), folder.path().join("pytorch_model-00001-of-00001.bin"))
        .unwrap();
    let bytes = std::fs::read(fixture("weights.safetensors")).unwrap();
    let names = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let map: serde_json::Map<String, serde_json::Value> =
        names.names().iter().map(|name| ((*name).to_owned(), "pytorch_model-00001-of-00001.bin".into())).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(folder.path().join("pytorch_model.bin.index.json"), index).unwrap();
    assert_eq!(read(folder.path(), &LoadOptions::default()).unwrap().digest(), whole);
}

#[test]
fn what_is_no_plain_checkpoint_is_refused() {
    for (name, words) in [
        ("script.pt", &["TorchScript program", "state_dict()"][..]),
        ("sparse.pth", &["_rebuild_sparse_tensor", "torch.save(model.state_dict()"]),
        ("expanded.pth", &["repeat", ".contiguous()"]),
        ("empty.pth", &["holds no tensors"]),
        ("module_legacy.pth", &["not a whole PyTorch checkpoint", "model.state_dict()"]),
    ] {
        let error = network(&fixture(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{name}");
        let error = error.to_string();
        assert!(error.contains(name) && words.iter().all(|word| error.contains(word)), "{name}: {error}");
    }
    // Bytes that are cut or no file of torch.save's at all.
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(fixture("zip.pth")).unwrap();
    let old = std::fs::read(fixture("legacy.pth")).unwrap();
    for (name, bytes, words) in [
        ("cut.pth", &good[..good.len() / 2], "not a whole PyTorch checkpoint"),
        ("cut_old.pth", &old[..old.len() - 3], "not a whole PyTorch checkpoint"),
        ("numbers.pkl", &b"\x80\x04K\x01."[..], "not a whole PyTorch checkpoint"),
        ("hdf5.pth", &b"\x89HDF\r\n\x1a\n        "[..], "neither a safetensors file nor one of torch.save"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = network(&path).unwrap_err();
        assert!(error.kind() == ErrorKind::Input && error.to_string().contains(words), "{name}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is damaged: the network, another one, or an error, and never a panic.
    #[test]
    fn damaged_bytes_do_no_harm(
        which in 0_usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let name = ["zip.pth", "legacy.pth", "training.pth.tar", "views_legacy.pth", "protocol4.pth"][which];
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.pth");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(graph) = network(&path) {
            graph.check().unwrap();
        }
    }
}
