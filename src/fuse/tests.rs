//! Fused blocks against their branches, run one by one in f64.

use ndarray::{Array1, Array3, Array4};
use proptest::prelude::*;

use super::branches::fuse_block;
use super::fuse;
use crate::load::{BatchNorm, Block, Branch, TrainedNet};
use crate::model::{Color, Conv, Decode, Fit, Interpolation, Op, Preprocessing, Shape};
use crate::random::Random;

/// The plainest convolution, padded by half the kernel.
fn convolve(x: &Array3<f64>, w: &Array4<f32>, stride: usize, groups: usize) -> Array3<f64> {
    let (channels, height, width) = x.dim();
    let (outputs, inputs, k, _) = w.dim();
    assert_eq!(channels, inputs * groups);
    let side = |n: usize| (n + 2 * (k / 2) - k) / stride + 1;
    Array3::from_shape_fn((outputs, side(height), side(width)), |(o, y, x0)| {
        let first = o / (outputs / groups) * inputs;
        let mut sum = 0.0;
        for i in 0..inputs {
            for dy in 0..k {
                for dx in 0..k {
                    let (row, column) = ((y * stride + dy).checked_sub(k / 2), (x0 * stride + dx).checked_sub(k / 2));
                    if let (Some(row), Some(column)) = (row, column)
                        && row < height
                        && column < width
                    {
                        sum += f64::from(w[[o, i, dy, dx]]) * x[[first + i, row, column]];
                    }
                }
            }
        }
        sum
    })
}

fn normalize(y: &Array3<f64>, norm: Option<&BatchNorm>, bias: Option<&Array1<f32>>) -> Array3<f64> {
    let mut y = y.clone();
    for ((c, ..), v) in y.indexed_iter_mut() {
        *v += bias.map_or(0.0, |b| f64::from(b[c]));
        if let Some(n) = norm {
            let deviation = (f64::from(n.variance[c]) + n.epsilon).sqrt();
            *v = f64::from(n.weight[c]) * (*v - f64::from(n.mean[c])) / deviation + f64::from(n.bias[c]);
        }
    }
    y
}

fn vector(random: &mut Random, len: usize) -> Array1<f32> {
    Array1::from_shape_simple_fn(len, || random.uniform())
}

fn weights(random: &mut Random, o: usize, i: usize, k: usize) -> Array4<f32> {
    Array4::from_shape_simple_fn((o, i, k, k), || random.uniform())
}

fn norm(random: &mut Random, channels: usize) -> BatchNorm {
    BatchNorm {
        weight: vector(random, channels),
        bias: vector(random, channels),
        mean: vector(random, channels),
        variance: vector(random, channels).mapv(|v| v * v),
        epsilon: 1e-3,
    }
}

fn random_block(seed: u64, groups: usize, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Block {
    let mut random = Random::new(seed);
    let (in_channels, out_channels) = (groups * inputs, groups * outputs);
    let mut branches = vec![
        Branch::Conv {
            weight: weights(&mut random, out_channels, inputs, kernel),
            bias: None,
            norm: Some(norm(&mut random, out_channels)),
        },
        Branch::Conv {
            weight: weights(&mut random, out_channels, inputs, 1),
            bias: Some(vector(&mut random, out_channels)),
            norm: Some(norm(&mut random, out_channels)),
        },
        Branch::Conv {
            weight: weights(&mut random, out_channels, inputs, kernel),
            bias: Some(vector(&mut random, out_channels)),
            norm: None,
        },
    ];
    if in_channels == out_channels && stride == 1 {
        branches.push(Branch::Identity(norm(&mut random, in_channels)));
    }
    let name = "stage1.0".into();
    // Every third block is one of a QARepVGG: the input as it is, and a batch norm of the sum.
    let sum = seed.is_multiple_of(3).then(|| norm(&mut random, out_channels));
    if sum.is_some() && in_channels == out_channels && stride == 1 {
        branches.push(Branch::Input);
    }
    let padding = kernel / 2;
    Block { name, in_channels, out_channels, kernel, stride, padding, groups, branches, norm: sum, squeeze: None }
}

proptest! {
    #[test]
    fn fused_equals_branches(
        seed: u64,
        groups in 1_usize..4,
        inputs in 1_usize..4,
        outputs in 1_usize..4,
        half in 0_usize..3,
        stride in 1_usize..3,
        height in 1_usize..7,
        width in 1_usize..7,
    ) {
        // Every second case has as many channels out as in, so that the identity branch is met
        // often.
        let outputs = if seed % 2 == 0 { inputs } else { outputs };
        let block = random_block(seed, groups, inputs, outputs, 2 * half + 1, stride);
        let mut random = Random::new(!seed);
        let x = Array3::from_shape_fn((block.in_channels, height, width), |_| f64::from(random.uniform()));
        let branches = block.branches.iter().map(|branch| match branch {
            Branch::Conv { weight, bias, norm } => {
                normalize(&convolve(&x, weight, stride, groups), norm.as_ref(), bias.as_ref())
            }
            Branch::Identity(norm) => normalize(&x, Some(norm), None),
            Branch::Input => x.clone(),
        });
        let expected = normalize(&branches.reduce(|a, b| a + b).unwrap(), block.norm.as_ref(), None);
        let (weight, bias) = fuse_block(&block).unwrap();
        let got = normalize(&convolve(&x, &weight, stride, groups), None, Some(&bias));
        // Each weight is rounded once: 2^-24 of it, added up over the kernel.
        let magnitude = convolve(&x.mapv(f64::abs), &weight.mapv(f32::abs), stride, groups);
        for ((index, e), g) in expected.indexed_iter().zip(&got) {
            let bound = 2.0_f64.powi(-24) * (magnitude[index] + f64::from(bias[index.0].abs())) + 1e-12;
            prop_assert!((e - g).abs() <= bound, "{index:?}: expected {e}, got {g}, bound {bound}");
        }
    }
}

fn net(block: Block) -> TrainedNet {
    let input = Preprocessing {
        size: [4, 4],
        resize: None,
        interpolation: Interpolation::Bilinear,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        fit: Fit::Crop,
        color: Color::Rgb,
        decode: Decode::Full,
    };
    let channels = block.out_channels;
    TrainedNet {
        name: "net".into(),
        input,
        classes: None,
        input_shape: Shape::new(block.in_channels, 4, 4),
        blocks: vec![block],
        classifier: Conv::linear(ndarray::Array2::ones((2, channels)), Array1::zeros(2)),
        classifier_name: "head.fc".into(),
        notes: vec![],
    }
}

#[test]
fn nodes_are_in_order_and_named() {
    let graph = fuse(&net(random_block(1, 1, 3, 5, 3, 2))).unwrap();
    let names: Vec<_> = graph.nodes.iter().map(|n| (n.name.as_str(), n.inputs.as_slice(), n.relu)).collect();
    let expected: [(&str, &[usize], bool); 4] =
        [("input", &[], false), ("stage1.0", &[0], true), ("pool", &[1], false), ("head.fc", &[2], false)];
    assert_eq!(names, expected);
    assert_eq!(graph.shapes()[1], Shape::new(5, 2, 2));
}

#[test]
fn what_f32_cannot_hold_is_an_error_that_names_the_layer() {
    let mut block = random_block(1, 1, 2, 2, 3, 1);
    let Branch::Identity(norm) = &mut block.branches[3] else { panic!("the last branch is the identity") };
    norm.weight[1] = f32::MAX;
    norm.variance[1] = 0.0;
    let error = fuse(&net(block)).unwrap_err().to_string();
    assert!(error.contains("layer stage1.0") && error.contains("f32"), "{error}");
}

#[test]
fn branches_that_do_not_fit_are_an_error() {
    let good = random_block(1, 2, 2, 2, 3, 1);
    let breaks: [fn(&mut Block); 6] = [
        |b| b.groups = 3,
        |b| b.kernel = 1,
        |b| b.stride = 2,
        |b| b.out_channels = 8,
        |b| b.branches.push(Branch::Conv { weight: Array4::zeros((4, 2, 2, 2)), bias: None, norm: None }),
        |b| {
            b.branches.push(Branch::Conv {
                weight: Array4::zeros((4, 2, 1, 1)),
                bias: Some(Array1::zeros(3)),
                norm: None,
            });
        },
    ];
    for (index, damage) in breaks.iter().enumerate() {
        let mut block = good.clone();
        damage(&mut block);
        assert!(fuse_block(&block).is_err(), "case {index}");
    }
    let Op::Conv(conv) = &fuse(&net(good)).unwrap().nodes[1].op else { panic!("a block is a convolution") };
    assert_eq!((conv.groups, conv.padding), (2, [1, 1]));
}
