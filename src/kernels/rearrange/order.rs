//! Where a rearranged activation takes each of its values from.

use rayon::prelude::*;

use crate::model::{Rearrange, Shape};

/// For each place of one image's output, NHWC with padded channels, the place in the input that its
/// value comes from; none for padded channels. Places count words of f32 activations, bytes of int8
/// ones.
pub(super) fn order(rearrange: &Rearrange, x: Shape) -> Vec<Option<u32>> {
    let (y, view) = (rearrange.shape, rearrange.view(x));
    let padded = y.padded_channels();
    let mut places = vec![None; y.pixels() * padded];
    places.par_chunks_exact_mut(padded).enumerate().for_each(|(pixel, places)| {
        for (c, place) in places.iter_mut().enumerate().take(y.channels) {
            let from = view.position(c * y.pixels() + pixel);
            *place = Some((from % x.pixels() * x.padded_channels() + from / x.pixels()) as u32);
        }
    });
    places
}
