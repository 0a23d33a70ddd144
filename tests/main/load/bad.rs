//! What is refused: broken files, tensors that are wrong, descriptions that contradict the weights.

use repquant::internals::export::float::fused_bytes;
use repquant::internals::fuse::fuse;
use repquant::internals::load::{Description, Family, from_bytes};
use repquant::{Error, ErrorKind};
use safetensors::Dtype;

use super::{TIMM, load_ok};
use crate::common::checkpoints::{Checkpoint, description_json, mobileone_description, repvgg_description};

fn refused(bytes: &[u8], description: &Description) -> Error {
    let error = from_bytes("net", bytes, description).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    error
}

#[test]
fn a_broken_container_is_refused() {
    let good = Checkpoint::repvgg().bytes();
    let with_length = |length: u64| [&length.to_le_bytes(), &good[8..]].concat();
    let header = br#"{"a":{"dtype":"F32","shape":[4294967295,4294967295,4294967295],"data_offsets":[0,4]}}"#;
    let lying = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    let cases = [
        ("empty", vec![]),
        ("shorter than its length field", good[..5].to_vec()),
        ("cut in the header", good[..100].to_vec()),
        ("cut in the data", good[..good.len() - 1].to_vec()),
        ("too long", [&good[..], &[0]].concat()),
        ("header longer than the file", with_length(good.len() as u64)),
        ("header of 2^63 bytes", with_length(1 << 63)),
        ("header of no bytes", with_length(0)),
        ("header cut by one", with_length(u64::from_le_bytes(*good.first_chunk().unwrap()) - 1)),
        ("not JSON", [&good[..8], &vec![b'x'; good.len() - 8]].concat()),
        ("a shape that overflows", lying),
        ("another format", b"PK\x03\x04 this is a zip file, as PyTorch writes them".to_vec()),
    ];
    for (case, bytes) in cases {
        let error = refused(&bytes, &repvgg_description()).to_string();
        assert!(error.starts_with("net: this is not a whole safetensors file"), "{case}: {error}");
    }
}

/// Damages the checkpoint and looks for the words in the message.
fn refuses(base: &Checkpoint, description: &Description, damage: impl Fn(&mut Checkpoint), words: &[&str]) {
    let mut checkpoint = base.clone();
    damage(&mut checkpoint);
    let error = refused(&checkpoint.bytes(), description).to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{words:?} are expected in: {error}");
}

#[test]
fn wrong_tensors_are_named() {
    let (base, description) = (Checkpoint::repvgg(), repvgg_description());
    let check = |damage: &dyn Fn(&mut Checkpoint), words: &[&str]| refuses(&base, &description, damage, words);
    let remove = |name: &'static str| move |c: &mut Checkpoint| drop(c.tensors.remove(name).unwrap());
    let dense = "stage1.1.rbr_dense.conv.weight";
    check(&remove(dense), &["missing", dense]);
    check(&remove("stage1.1.rbr_identity.bias"), &["missing", "stage1.1.rbr_identity.bias"]);
    check(&remove("linear.bias"), &["missing", "linear.bias"]);
    check(
        &|c| c.tensors.retain(|k, _| !k.contains("stage1.1.rbr_identity")),
        &["missing", "stage1.1.rbr_identity.running_var"],
    );
    check(&|c| c.tensors.retain(|k, _| !k.contains("stage2.0.rbr_1x1")), &["stage2.0.rbr_1x1.conv.weight"]);
    check(&|c| c.tensors.retain(|k, _| !k.contains("stage1.0")), &["missing", "stage1.0.rbr_dense.conv.weight"]);
    check(&|c| c.tensors.retain(|k, _| !k.contains("stage0")), &["missing", "stage0.rbr_dense.conv.weight"]);
    check(&|c| c.tensors.retain(|k, _| !k.contains("rbr_1x1.bn")), &["and 6 more"]);
    check(&|c| *c = c.renamed(&[("stage2.0", "stage2.1")]), &["missing", "stage2.0.rbr_dense.conv.weight"]);
    check(&|c| *c = c.renamed(&[("stage2.0", "stage3.0")]), &["missing", "stage2.0.rbr_dense"]);
    check(&|c| *c = c.renamed(&[("linear", "fc")]), &["missing: linear.bias", "left over: fc.bias"]);
    check(&|c| *c = c.renamed(&[("stage", "layer")]), &["no known scheme", "layer0.rbr_1x1"]);
    check(&|c| c.tensors.retain(|k, _| k.ends_with("num_batches_tracked")), &["holds no weights"]);

    let copy = |from: &'static str, to: &'static str| {
        move |c: &mut Checkpoint| drop(c.tensors.insert(to.into(), c.tensors[from].clone()))
    };
    check(&copy("linear.bias", "linear.scale"), &["left over", "linear.scale"]);
    check(&copy("linear.bias", "stage0.se.down.weight"), &["missing: stage0.se.down.bias", "stage0.se.up.weight"]);
    check(&copy("linear.bias", "module.linear.bias"), &["same tensor", "module.linear.bias"]);
    check(&copy(dense, "stage1.1.rbr_reparam.weight"), &["missing: stage1.1.rbr_reparam.bias", "left over", dense]);

    let reshape = |name: &'static str, shape: &'static [usize]| move |c: &mut Checkpoint| c.reshape(name, shape);
    check(&reshape(dense, &[6, 3, 3]), &[dense, "4 dimensions"]);
    check(&reshape(dense, &[6, 3, 3, 0]), &[dense, "none of them 0"]);
    check(&reshape(dense, &[6, 3, 3, 1]), &[dense, "square"]);
    check(&reshape(dense, &[6, 3, 2, 2]), &[dense, "odd"]);
    check(&reshape(dense, &[6, 5, 3, 3]), &[dense, "6 input channels"]);
    check(&reshape(dense, &[7, 3, 3, 3]), &[dense, "6 input channels"]);
    check(&reshape("stage0.rbr_dense.conv.weight", &[4, 4, 3, 3]), &["stage0", "3 input channels"]);
    check(&reshape("stage1.1.rbr_1x1.conv.weight", &[6, 6, 1, 1]), &["stage1.1.rbr_1x1", "[6, 3, 1, 1] is expected"]);
    check(&reshape("stage1.1.rbr_1x1.bn.bias", &[5]), &["stage1.1.rbr_1x1.bn.bias", "[6] is expected"]);
    check(&reshape("linear.weight", &[2, 9]), &["linear.weight", "8 channels"]);
    check(&reshape("linear.bias", &[3]), &["linear.bias", "[2] is expected"]);
    check(&|c| c.tensors.get_mut("linear.bias").unwrap().0 = Dtype::I32, &["linear.bias", "I32", "F32"]);

    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        for name in [dense, "stage1.1.rbr_identity.running_var", "linear.weight"] {
            check(&|c| c.set(name, 3, value), &[name, "value 3", shown]);
        }
    }
    check(&|c| c.set("stage0.rbr_1x1.bn.running_var", 2, -1e-9), &["stage0.rbr_1x1.bn.running_var", "negative"]);
}

#[test]
fn wrong_mobileone_tensors_are_named() {
    let (base, description) = (Checkpoint::mobileone(), mobileone_description());
    let check = |damage: &dyn Fn(&mut Checkpoint), words: &[&str]| refuses(&base, &description, damage, words);
    check(
        &|c| *c = c.renamed(&[("stage1.1.rbr_conv.1", "stage1.1.rbr_conv.2")]),
        &["missing: stage1.1.rbr_conv.1.bn.bias", "left over: stage1.1.rbr_conv.2.bn.bias"],
    );
    check(&|c| c.tensors.retain(|k, _| !k.contains("stage1.2.rbr_scale")), &["missing", "stage1.2.rbr_scale.bn.bias"]);
    check(
        &|c| *c = c.renamed(&[("stage1.2.rbr_scale", "stage1.3.rbr_scale")]),
        &["missing: stage1.2.rbr_scale", "left over: stage1.3.rbr_scale"],
    );
    check(&|c| c.reshape("stage1.1.rbr_conv.1.conv.weight", &[6, 2, 1, 1]), &["[6, 4, 1, 1] is expected"]);
}

#[test]
fn a_description_that_contradicts_the_weights_is_refused() {
    let repvgg = |change: fn(&mut Description), words: &[&str]| {
        let mut description = repvgg_description();
        change(&mut description);
        refuses(&Checkpoint::repvgg(), &description, |_| (), words);
    };
    repvgg(|d| d.family = Family::MobileOne, &["says MobileOne", "RepVGG"]);
    repvgg(|d| d.strides = vec![1, 2], &["2 strides", "3 stages"]);
    repvgg(|d| d.strides = vec![1, 2, 1, 1], &["4 strides", "3 stages"]);
    repvgg(|d| d.strides = vec![1, 0, 1], &["strides"]);
    repvgg(|d| d.strides = vec![1, 65, 1], &["strides"]);
    repvgg(|d| d.groups = Some(4), &["4 groups", "stage1.1 has 2"]);
    repvgg(|d| d.groups = Some(1), &["1 groups", "stage1.1 has 2"]);
    repvgg(|d| d.classes = Some(vec!["cat".into()]), &["1 classes", "has 2"]);
    repvgg(|d| d.bn_eps = 0.0, &["bn_eps"]);
    let mut description = repvgg_description();
    description.groups = Some(2);
    load_ok(&Checkpoint::repvgg(), &description);

    // stage1.1 becomes the first block of its stage, and its identity branch says that its stride
    // is 1.
    let moved = Checkpoint::repvgg().renamed(&[("stage2.0", "stage3.0"), ("stage1.1", "stage2.0")]);
    let description = Description::from_json(&description_json("repvgg", "[1, 2, 2, 1]")).unwrap();
    refuses(&moved, &description, |_| (), &["contradicts", "stage2.0 has an identity branch", "stride 2"]);
    let description = Description::from_json(&description_json("repvgg", "[1, 2, 1, 1]")).unwrap();
    load_ok(&moved, &description);

    // timm's fused keys are the same for both families: the shapes tell.
    for (base, good, bad, words) in [
        (
            Checkpoint::repvgg(),
            repvgg_description(),
            description_json("mobileone", "[1, 2, 1]"),
            ["stage1.0", "depthwise"],
        ),
        (Checkpoint::mobileone(), mobileone_description(), description_json("repvgg", "[1, 2]"), ["1×1", "only 3×3"]),
    ] {
        let bytes = fused_bytes(&fuse(&load_ok(&base, &good)).unwrap()).unwrap();
        let fused = Checkpoint::read(&bytes);
        let timm = fused.renamed(&[&TIMM[..], &[("rbr_reparam", "reparam_conv")]].concat());
        load_ok(&timm, &good);
        refuses(&timm, &Description::from_json(&bad).unwrap(), |_| (), &words);
    }
    let mut description = mobileone_description();
    description.groups = Some(4);
    refuses(&Checkpoint::mobileone(), &description, |_| (), &["groups", "MobileOne"]);
}
