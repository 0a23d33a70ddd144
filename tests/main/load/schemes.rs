//! What is loaded: every key scheme, every type, and the files that this program writes.

use repquant::internals::export::float::fused_bytes;
use repquant::internals::fuse::fuse;
use repquant::internals::load::{Branch, LoadOptions, load};
use repquant::internals::model::{Graph, Op};
use safetensors::Dtype;

use super::{MMPRETRAIN_MOBILEONE, MMPRETRAIN_REPVGG, TIMM, load_ok};
use crate::common::checkpoints::{Checkpoint, mobileone_description, repvgg_description};

/// Everything that is computed: names but the classifier's, bits of the weights, geometry.
fn content(graph: &Graph) -> String {
    let mut graph = graph.clone();
    if let Some(last) = graph.nodes.last_mut() {
        last.name = "classifier".into();
    }
    graph.digest()
}

#[test]
fn a_network_is_read_as_it_is() {
    let net = load_ok(&Checkpoint::repvgg(), &repvgg_description());
    let blocks: Vec<_> = net.blocks.iter().map(|b| (b.name.as_str(), b.stride, b.groups, b.branches.len())).collect();
    assert_eq!(blocks, [("stage0", 1, 1, 2), ("stage1.0", 2, 1, 2), ("stage1.1", 1, 2, 3), ("stage2.0", 1, 1, 2)]);
    let Branch::Identity(norm) = &net.blocks[2].branches[2] else { panic!("the third branch is the identity") };
    assert_eq!((norm.weight.len(), norm.epsilon), (6, 1e-3));
    assert_eq!((net.classifier_name.as_str(), net.classes.unwrap().len()), ("linear", 2));

    let net = load_ok(&Checkpoint::mobileone(), &mobileone_description());
    let blocks: Vec<_> = net.blocks.iter().map(|b| (b.kernel, b.padding, b.groups, b.branches.len())).collect();
    assert_eq!(blocks, [(3, 1, 1, 3), (3, 1, 4, 3), (1, 0, 1, 2), (3, 1, 6, 4), (1, 0, 1, 3)]);
}

#[test]
fn every_scheme_gives_the_same_network() {
    for (base, description, mmpretrain) in [
        (Checkpoint::repvgg(), repvgg_description(), &MMPRETRAIN_REPVGG[..]),
        (Checkpoint::mobileone(), mobileone_description(), &MMPRETRAIN_MOBILEONE[..]),
    ] {
        let expected = fuse(&load_ok(&base, &description)).unwrap();
        let prefixed = [("stage", "module.model.stage"), ("linear", "module.model.linear")];
        for changes in [&TIMM[..], mmpretrain, &prefixed] {
            let graph = fuse(&load_ok(&base.renamed(changes), &description)).unwrap();
            assert_eq!(content(&graph), content(&expected), "{changes:?}");
        }
        // Fused already: this program's own file, and the same tensors under the others' names.
        let bytes = fused_bytes(&expected).unwrap();
        let fused = Checkpoint::read(&bytes);
        let timm = [&TIMM[..], &[("rbr_reparam", "reparam_conv")]].concat();
        let reparam = [("rbr_reparam", "branch_reparam"), ("reparam_conv", "branch_reparam")];
        for changes in [&[][..], &timm, &[mmpretrain, &reparam].concat()] {
            let graph = fuse(&load_ok(&fused.renamed(changes), &description)).unwrap();
            assert_eq!(content(&graph), content(&expected), "{changes:?}");
        }
    }
}

#[test]
fn a_quantization_aware_repvgg_has_a_batch_norm_of_the_sum() {
    let base = Checkpoint::repvgg();
    let mut aware = base.renamed(&[("rbr_1x1.conv.weight", "rbr_1x1.weight"), ("rbr_1x1.bn.", "bn.")]);
    aware.tensors.retain(|key, _| !key.contains("rbr_identity"));
    let net = load_ok(&aware, &repvgg_description());
    let branches: Vec<usize> = net.blocks.iter().map(|block| block.branches.len()).collect();
    assert_eq!(branches, [2, 2, 3, 2]);
    for (block, plain) in net.blocks.iter().zip(load_ok(&base, &repvgg_description()).blocks) {
        let (Branch::Conv { norm: None, weight, bias: None }, Branch::Conv { norm: Some(norm), weight: same, .. }) =
            (&block.branches[1], &plain.branches[1])
        else {
            panic!("the second branch is a 1×1 convolution")
        };
        assert_eq!((weight, &block.norm.as_ref().unwrap().mean), (same, &norm.mean));
    }
    assert!(matches!(net.blocks[2].branches[2], Branch::Input));
    fuse(&net).unwrap();

    // The convolution fused, the batch norm behind it (YOLOv6's way of deploying them).
    let fused = Checkpoint::read(&fused_bytes(&fuse(&load_ok(&base, &repvgg_description())).unwrap()).unwrap());
    let mut deployed = fused.clone();
    deployed.tensors.extend(aware.tensors.into_iter().filter(|(key, _)| key.contains("0.bn.")));
    let net = load_ok(&deployed, &repvgg_description());
    let normed: Vec<bool> = net.blocks.iter().map(|block| block.norm.is_some()).collect();
    assert_eq!(normed, [true, true, false, true]);
    let graphs = [&fused, &deployed].map(|file| fuse(&load_ok(file, &repvgg_description())).unwrap());
    assert_ne!(content(&graphs[0]), content(&graphs[1]));
}

#[test]
fn squeeze_and_excitation_has_other_names_everywhere() {
    let mut base = Checkpoint::repvgg();
    for (name, shape) in
        [("down.weight", &[2, 6, 1, 1][..]), ("down.bias", &[2]), ("up.weight", &[6, 2, 1, 1]), ("up.bias", &[6])]
    {
        base.values(&format!("stage1.1.se.{name}"), shape, 0.0);
    }
    let expected = fuse(&load_ok(&base, &repvgg_description())).unwrap();
    assert_eq!(expected.nodes.len(), 1 + 4 + 5 + 2);
    let timm = [&TIMM[..], &[("se.down", "attn.fc1"), ("se.up", "attn.fc2")]].concat();
    let names = [("se.down", "se_layer.conv1.conv"), ("se.up", "se_layer.conv2.conv")];
    for changes in [timm, [&MMPRETRAIN_REPVGG[..], &names].concat()] {
        let graph = fuse(&load_ok(&base.renamed(&changes), &repvgg_description())).unwrap();
        assert_eq!(content(&graph), content(&expected), "{changes:?}");
    }
    // Only a chain of convolutions has a file of its own.
    assert!(fused_bytes(&expected).is_err());
}

#[test]
fn sixteen_bit_types_are_widened() {
    let base = Checkpoint::repvgg();
    let expected = fuse(&load_ok(&base, &repvgg_description())).unwrap().digest();
    for dtype in [Dtype::F16, Dtype::BF16] {
        let graph = fuse(&load_ok(&base.narrowed(dtype), &repvgg_description())).unwrap();
        assert_eq!(graph.digest(), expected, "{dtype:?}");
    }
}

#[test]
fn a_fused_file_needs_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    for (base, description) in
        [(Checkpoint::repvgg(), repvgg_description()), (Checkpoint::mobileone(), mobileone_description())]
    {
        let graph = fuse(&load_ok(&base.renamed(&[("linear", "head.fc")]), &description)).unwrap();
        let bytes = fused_bytes(&graph).unwrap();
        assert_eq!(bytes, fused_bytes(&graph).unwrap());
        let file = folder.path().join("net.safetensors");
        std::fs::write(&file, &bytes).unwrap();
        // A file beside it that is no description does not matter.
        std::fs::write(folder.path().join("net.json"), r#"{"results": []}"#).unwrap();
        let again = fuse(&load(&file, &LoadOptions::default()).unwrap()).unwrap();
        assert_eq!((again.digest(), &again.input), (graph.digest(), &graph.input));
        assert_eq!((&again.name, &again.classes), (&graph.name, &graph.classes));
        assert_eq!(fused_bytes(&again).unwrap(), bytes);
    }
}

#[test]
fn what_no_checkpoint_holds_is_not_written() {
    let graph = fuse(&load_ok(&Checkpoint::repvgg(), &repvgg_description())).unwrap();
    let damages: [fn(&mut Graph); 5] = [
        |g| g.nodes[2].name = "stage1.7".into(),
        |g| g.nodes[3].relu = false,
        |g| g.nodes[3].inputs = vec![1],
        |g| drop(g.nodes.pop()),
        |g| {
            let Op::Conv(conv) = &mut g.nodes[3].op else { panic!("node 3 is a convolution") };
            conv.stride = [2, 2];
        },
    ];
    for (index, damage) in damages.iter().enumerate() {
        let mut graph = graph.clone();
        damage(&mut graph);
        assert!(fused_bytes(&graph).is_err(), "case {index}");
    }
}
