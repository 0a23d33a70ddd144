//! The published split against the parts that `PyTorch` computed.

use ndarray::Array4;
use repquant::internals::model::Support;
use repquant::internals::quantize::{published, published_scales};
use safetensors::SafeTensors;

use crate::common::test_data;

fn tensor(file: &SafeTensors<'_>, name: &str) -> Array4<f32> {
    let view = file.tensor(name).unwrap();
    let shape: [usize; 4] = view.shape().try_into().unwrap();
    let (words, _) = view.data().as_chunks::<4>();
    Array4::from_shape_vec(shape, words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()).unwrap()
}

#[test]
fn parts_are_those_of_pytorch() {
    let Some(data) = test_data() else { return };
    let mut layers = 0;
    for model in ["repvgg-cifar10", "mobileone-cifar10"] {
        let bytes = std::fs::read(data.join(format!("models/{model}.golden.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for name in file.names().into_iter().filter_map(|n| n.strip_prefix("split.")?.strip_suffix(".coarse")) {
            compare(&file, name);
            layers += 1;
        }
    }
    assert_eq!(layers, 8);
}

/// The coarse part is equal to the bit: `g` is an f32 there, too. The fine part was a difference of
/// f32 values there and is exact here, so it differs by the rounding of the coarse weight and of
/// the difference.
fn compare(file: &SafeTensors<'_>, name: &str) {
    let weight = tensor(file, &format!("fused.{name}.weight"));
    let coarse = tensor(file, &format!("split.{name}.coarse"));
    let fine = tensor(file, &format!("split.{name}.fine"));
    let (_, inputs, kh, kw) = weight.dim();
    let support = if kh == 1 { Support::Full } else { Support::Center };
    for o in 0..weight.dim().0 {
        let row = |array: &Array4<f32>| array.index_axis(ndarray::Axis(0), o).iter().copied().collect::<Vec<f32>>();
        let (w, want_coarse, want_fine) = (row(&weight), row(&coarse), row(&fine));
        let mut mask = vec![false; w.len()];
        support.positions(o, inputs, [kh, kw]).for_each(|p| mask[p] = true);
        let (g, s_f) = published_scales(&w, &mask, 8, 0.0);
        let (_, levels) = published(&w, &mask, 8, g, s_f);
        let mut levels = levels.iter();
        let mut max_fine = 0f64;
        for i in 0..w.len() {
            let q_c = if mask[i] { f64::from(*levels.next().unwrap()) } else { 0.0 };
            let real = q_c * f64::from(g);
            assert_eq!(real as f32, want_coarse[i], "{name} {o} {i}");
            let off = (f64::from(w[i]) - real - f64::from(want_fine[i])).abs();
            assert!(off <= f64::from(w[i].abs()) * 2f64.powi(-23), "{name} {o} {i}: fine is off by {off:e}");
            max_fine = max_fine.max(f64::from(want_fine[i].abs()));
        }
        let off = (max_fine / 127.0 - f64::from(s_f)).abs();
        assert!(off <= 2f64.powi(-23) * w.iter().fold(0f64, |m, w| m.max(f64::from(w.abs()))) / 127.0, "{name} {o}");
    }
}
