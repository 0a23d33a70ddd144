//! The weights of a f32 convolution, laid out for a device by the variant that runs them.

use super::{depthwise, direct, matrices, native, tiled, vectors, winograd};
use crate::device::{Buffer, Device};
use crate::kernels::conv::geometry::{ConvShape, MOST_MACS, ungrouped};
use crate::kernels::conv::variants::{self, LayerShape, Tile};
use crate::kernels::statistics::State;
use crate::model::{Conv, Weights as _};
use crate::{Error, Result};

/// Weights and bias of one convolution, prepared for one device.
pub struct Weights {
    pub(super) shape: ConvShape,
    pub(super) store: Store,
    /// Bound as `states` where no range is wanted: a binding cannot be empty.
    pub(super) no_states: Buffer,
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
    /// All devices, where the layer is depthwise.
    Depthwise(depthwise::Taps),
    /// The Cpu device.
    Winograd(winograd::Winograd),
    Vectors(vectors::Vectors),
    Native(native::Products),
}

impl Weights {
    /// Lays the weights out for `device`, in the way that suits it and the layer best.
    ///
    /// # Errors
    /// If the layer's parts contradict each other, or the device has no memory left.
    pub fn new(device: &Device, conv: &Conv) -> Result<Self> {
        let shape = ConvShape::new(device, &conv.weight, conv.stride, conv.padding, conv.groups)?;
        if conv.bias.len() != conv.out_channels() {
            let lengths = format!("bias has {} values for {} output channels", conv.bias.len(), conv.out_channels());
            return Err(Error::bad(lengths));
        }
        let (shape, store) = if conv.is_depthwise() {
            (shape, Store::Depthwise(depthwise::Taps::new(device, conv)?))
        } else {
            let (weight, groups) = ungrouped(&conv.weight, conv.groups)?;
            let matrices = matrices::Matrices { weight: &weight, bias: &conv.bias, groups };
            (shape.regrouped(groups), dense(device, conv, &matrices)?)
        };
        Ok(Self { shape, store, no_states: device.alloc(State::WORDS, "no states")?, most_macs: MOST_MACS })
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

fn dense(device: &Device, conv: &Conv, matrices: &matrices::Matrices<'_>) -> Result<Store> {
    if !device.is_native() {
        let (o, inputs, kh, kw) = matrices.weight.dim();
        let shape = LayerShape { inputs, outputs: o / matrices.groups, taps: kh * kw };
        let tile = variants::choose(device, &tiled::TILES, shape);
        return Ok(Store::Shader { operands: direct::Operands::new(device, matrices)?, tile });
    }
    let tier = device.tier();
    if let Some(token) = winograd::suits(tier, conv, matrices.groups) {
        return Ok(Store::Winograd(winograd::Winograd::new(token, conv)));
    }
    Ok(match vectors::Vectors::new(tier, matrices) {
        Some(vectors) => Store::Vectors(vectors),
        None => Store::Native(native::Products::new(matrices)),
    })
}
