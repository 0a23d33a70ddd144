//! The weights of an integer convolution, laid out for a device by the variant that runs them.

use super::constants::{CoarseMode, Constants};
use super::{depthwise, direct, native, tiled, vectors};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::conv::geometry::{ConvShape, MOST_MACS, ungrouped};
use crate::kernels::conv::variants::{self, LayerShape, Tile};
use crate::model::{QConv, Weights as _};

/// The weights of a layer on a device.
pub struct Weights {
    pub(super) shape: ConvShape,
    pub(super) constants: Constants,
    pub(super) store: Store,
    /// Of no words: tells which device weights that are no buffers were laid out for.
    pub(super) home: Buffer,
    /// Most multiplications of a dispatch.
    pub(super) most_macs: usize,
}

/// How they lie, and so which variant they are run by.
pub(super) enum Store {
    /// Adapters: the direct variant, or a tiled one.
    Shader {
        operands: direct::Operands,
        tile: Option<&'static Tile>,
    },
    /// Adapters, where the layer is depthwise.
    Depthwise(direct::Operands),
    /// The Cpu device, where the layer is depthwise.
    Taps(depthwise::Taps),
    /// The Cpu device.
    Vectors(vectors::Vectors),
    Native(native::Products),
}

impl Weights {
    /// Packs and uploads a layer's weights, in the way that suits the device and the layer best.
    ///
    /// # Errors
    /// If the layer's parts contradict each other, or the device has no memory left.
    pub fn new(device: &Device, conv: &QConv) -> Result<Self> {
        Self::with_products(device, conv, None)
    }

    /// With a `kind` the Cpu device has matrix products of that kind for a dense layer; without,
    /// the fastest way that its tier has.
    pub(super) fn with_products(device: &Device, conv: &QConv, kind: Option<native::Kind>) -> Result<Self> {
        let shape = ConvShape::new(device, &conv.fine, conv.stride, conv.padding, conv.groups)?;
        let mut constants = Constants::new(conv)?;
        let (shape, store) = if conv.is_depthwise() {
            if constants.coarse == CoarseMode::Diagonal {
                constants.coarse = CoarseMode::Center;
            }
            let store = if device.is_native() {
                Store::Taps(depthwise::Taps::new(conv, &constants))
            } else {
                Store::Depthwise(depthwise::operands(device, conv, &constants)?)
            };
            (shape, store)
        } else {
            let (store, groups) = dense(device, conv, &constants, kind)?;
            (shape.regrouped(groups), store)
        };
        Ok(Self { shape, constants, store, home: device.alloc(0, "weights")?, most_macs: MOST_MACS })
    }

    /// The same weights of a dense layer, to be run on an adapter by the direct variant or by a
    /// tile, which the adapter must be able to run; the Cpu device has one way alone.
    #[must_use]
    pub(super) fn with_tile(self, tile: Option<&'static Tile>) -> Self {
        let store = match self.store {
            Store::Shader { operands, .. } => Store::Shader { operands, tile },
            store => store,
        };
        Self { store, ..self }
    }

    /// The same weights, with dispatches of at most so many multiplications, or of one workgroup's
    /// pixels.
    #[must_use]
    pub(super) fn with_most_macs(self, most_macs: usize) -> Self {
        Self { most_macs, ..self }
    }
}

/// A layer that is not depthwise, and the groups that its weights have on the device.
fn dense(device: &Device, conv: &QConv, constants: &Constants, kind: Option<native::Kind>) -> Result<(Store, usize)> {
    let (fine, groups) = ungrouped(&conv.fine, conv.groups)?;
    let coarse = match (&conv.coarse, constants.coarse) {
        (Some(part), CoarseMode::Center | CoarseMode::Full) => Some(ungrouped(&part.weights, conv.groups)?.0),
        _ => None,
    };
    let coarse = coarse.as_ref();
    if !device.is_native() {
        let (o, inputs, kh, kw) = fine.dim();
        let tile = variants::choose(device, &tiled::TILES, LayerShape { inputs, outputs: o / groups, taps: kh * kw });
        let operands = direct::Operands::new(device, &fine, coarse, constants)?;
        return Ok((Store::Shader { operands, tile }, groups));
    }
    let vectors = match kind {
        None => vectors::Vectors::new(device.tier(), &fine, coarse, groups, constants),
        Some(_) => None,
    };
    let store = if let Some(vectors) = vectors {
        Store::Vectors(vectors)
    } else {
        let kind = kind.unwrap_or_else(native::Kind::best);
        Store::Native(native::Products::new(kind, &fine, coarse, groups))
    };
    Ok((store, groups))
}
