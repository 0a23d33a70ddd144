//! Where the checkpoint and its description are found: files, folders, options, and what a file
//! says of itself.

use std::collections::HashMap;
use std::path::Path;

use repquant::ErrorKind;
use repquant::internals::load::{LoadOptions, architecture_names, load};

use crate::common::checkpoints::{Checkpoint, description_json};

const REPVGG_STRIDES: &str = "[1, 2, 1]";

fn error(path: &Path, options: &LoadOptions) -> (ErrorKind, String) {
    let error = load(path, options).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn the_description_is_found_beside_the_file_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.v1.safetensors");
    std::fs::write(&file, Checkpoint::repvgg().bytes()).unwrap();
    let (kind, message) = error(&file, &LoadOptions::default());
    assert_eq!(kind, ErrorKind::Input);
    assert!(message.contains("small.v1.json") && message.contains("`arch`"), "{message}");

    let other = folder.path().join("other.json");
    std::fs::write(&other, description_json("repvgg", REPVGG_STRIDES)).unwrap();
    let named = LoadOptions { describe: Some(other.clone()), ..Default::default() };
    let net = load(&file, &named).unwrap();
    assert_eq!((net.name.as_str(), net.input.resize, net.input_shape.height), ("small.v1", Some(10), 8));

    let beside = folder.path().join("small.v1.json");
    std::fs::copy(&other, &beside).unwrap();
    assert_eq!(load(&file, &LoadOptions::default()).unwrap().blocks.len(), 4);

    // A bad description is named, not the checkpoint.
    std::fs::write(&beside, description_json("repvgg", "[1, 2, 1], \"stride\": 2")).unwrap();
    let (kind, message) = error(&file, &LoadOptions::default());
    assert_eq!(kind, ErrorKind::Input);
    assert!(message.starts_with(&beside.display().to_string()) && message.contains("`stride`"), "{message}");
    for text in [&b"{\"family\": "[..], b"\xff\xfe", b"", b"[1]"] {
        std::fs::write(&beside, text).unwrap();
        assert!(error(&file, &LoadOptions::default()).1.starts_with(&beside.display().to_string()));
    }
}

#[test]
fn an_architecture_is_held_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.safetensors");
    std::fs::write(&file, Checkpoint::repvgg().bytes()).unwrap();
    let arch = |name: &str| LoadOptions { arch: Some(name.into()), ..Default::default() };
    let (kind, message) = error(&file, &arch("repvgg-a1"));
    assert_eq!(kind, ErrorKind::Input);
    assert!(message.contains("5 strides, the checkpoint 3 stages"), "{message}");
    let (kind, message) = error(&file, &arch("vgg16"));
    assert_eq!(kind, ErrorKind::Usage);
    assert!(architecture_names().iter().all(|name| message.contains(name)), "{message}");
    let (kind, message) = error(&file, &arch("RepViT_m0_9"));
    assert_eq!(kind, ErrorKind::Input);
    assert!(message.contains("stem.conv1.weight is missing"), "{message}");
    let both = LoadOptions { describe: Some(file.clone()), arch: Some("repvgg-a1".into()), ..Default::default() };
    assert_eq!(error(&file, &both).0, ErrorKind::Usage);
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = LoadOptions::default();
    let (kind, message) = error(&folder.path().join("no.safetensors"), &options);
    assert_eq!(kind, ErrorKind::Input);
    assert!(message.contains("no.safetensors") && message.contains("cannot be read"), "{message}");
    assert!(error(folder.path(), &options).1.contains("no model.safetensors"));
    let pth = folder.path().join("model.pth");
    std::fs::write(&pth, b"PK").unwrap();
    assert!(error(&pth, &options).1.contains("convert"));
    std::fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    assert!(error(folder.path(), &options).1.contains("is not a file"));
}

#[test]
fn files_of_this_program_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let description = description_json("repvgg", REPVGG_STRIDES);
    let load_with = |own: &str| {
        let metadata = HashMap::from([("repquant".to_owned(), own.to_owned())]);
        std::fs::write(&file, Checkpoint::repvgg().bytes_with(metadata)).unwrap();
        load(&file, &LoadOptions::default()).map_err(|e| (e.kind(), e.to_string()))
    };
    let float = format!(r#"{{"kind": "float", "version": 1, "description": {description}}}"#);
    assert_eq!(load_with(&float).unwrap().blocks.len(), 4);
    for (own, words) in [
        (r#"{"kind": "quantized", "version": 1}"#.to_owned(), "is a quantized model; a float one is needed here"),
        (r#"{"kind": "quantized", "version": 1}"#.to_owned(), "give the float network that it was made from"),
        (r#"{"kind": "statistics", "version": 1}"#.to_owned(), "statistics of a network, not the network"),
        (r#"{"kind": "other", "version": 1}"#.to_owned(), "holds `other`"),
        (float.replace("\"version\": 1", "\"version\": 2"), "another version"),
        (float.replace("repvgg", "resnet"), "resnet"),
        (r#"{"kind": "float", "version": 1}"#.to_owned(), "description"),
        ("{}".to_owned(), "does not say"),
        ("{".to_owned(), "cannot be read"),
    ] {
        let (kind, message) = load_with(&own).unwrap_err();
        assert_eq!(kind, ErrorKind::Input);
        assert!(message.contains("net.safetensors") && message.contains(words), "{own}: {message}");
    }
}

#[test]
fn a_hugging_face_folder_is_held_to_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), Checkpoint::repvgg().bytes()).unwrap();
    assert!(error(folder.path(), &LoadOptions::default()).1.contains("config.json"));
    std::fs::write(folder.path().join("config.json"), r#"{"architecture": "repvgg_z9"}"#).unwrap();
    let (_, message) = error(folder.path(), &LoadOptions::default());
    assert!(message.contains("config.json") && message.contains("repvgg_z9"), "{message}");
    // A description of this program's own form works there too.
    std::fs::write(folder.path().join("config.json"), description_json("repvgg", REPVGG_STRIDES)).unwrap();
    let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(load(folder.path(), &LoadOptions::default()).unwrap().name, name);
}
