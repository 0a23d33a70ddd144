//! Which variant of a kernel a layer is run by: how a family's tiles are chosen.
//!
//! A direct kernel reads its operands from buffers; a tiled one brings them to workgroup memory and
//! holds many outputs in registers. Software adapters have neither: on lavapipe direct kernels were
//! the faster by up to 1.7 (Mesa 25.0, AVX2, layers of 64 to 256 channels). The choice depends on
//! the adapter and on the layer, never on the batch: f32 results must not depend on how images are
//! put together.

use crate::device::{AdapterInfo, Device, Shader};

/// A tiled variant: what it asks of an adapter, and the layers that fill its tiles. A family lists
/// its own; the first that suits adapter and layer is taken, else the direct variant.
///
/// The bounds are counted from the shaders, not measured:
/// - All tiles are 64 output channels wide. Half full they still read fewer words for a product
///   than the direct variant, and so few products (less than a tile along K) are not worth a
///   barrier.
/// - An adapter whose subgroups are never narrower than 32 lanes has some 200 registers a lane,
///   which 64 totals, their operands and the next tile need; one that goes down to 8 or 16 has
///   about 128.
#[derive(Debug)]
pub(crate) struct Tile {
    /// Its shader.
    pub(crate) shader: &'static Shader,
    /// Workgroup memory that it has, bytes.
    pub(crate) workgroup_bytes: u32,
    /// Output pixels of a workgroup.
    pub(super) pixels: usize,
    /// Least subgroup size of an adapter, 0 for one that has none.
    pub(super) least_subgroup: u32,
    /// Fewest input channels of a group.
    pub(super) least_inputs: usize,
    /// Fewest output channels of a group.
    pub(super) least_outputs: usize,
    /// Fewest products of an output.
    pub(super) least_depth: usize,
}

/// Output quads of a workgroup of any tiled variant.
pub(super) const TILE_QUADS: usize = 16;

/// Sizes of a group of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerShape {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) taps: usize,
}

/// The first of these tiles that suits device and layer; none: the direct variant.
pub(super) fn choose(device: &Device, tiles: &'static [Tile], shape: LayerShape) -> Option<&'static Tile> {
    device.adapter().and_then(|adapter| choose_for(adapter, tiles, shape))
}

/// [`choose`] for an adapter.
pub(super) fn choose_for(adapter: &AdapterInfo, tiles: &'static [Tile], shape: LayerShape) -> Option<&'static Tile> {
    let suits = |tile: &&Tile| {
        let fits = fits_adapter(adapter, tile.shader, tile.workgroup_bytes);
        !adapter.is_software() && fits && tile.pays(adapter, shape)
    };
    tiles.iter().find(suits)
}

/// Whether the device can run a shader with so much workgroup memory; the Cpu device has no tiles.
pub(crate) fn fits(device: &Device, shader: &Shader, workgroup_bytes: u32) -> bool {
    device.adapter().is_some_and(|adapter| fits_adapter(adapter, shader, workgroup_bytes))
}

fn fits_adapter(adapter: &AdapterInfo, shader: &Shader, workgroup_bytes: u32) -> bool {
    workgroup_bytes <= adapter.workgroup_memory_bytes && shader.workgroup_size() <= adapter.max_workgroup_size
}

impl Tile {
    /// Whether the device can run it.
    pub(super) fn runs_on(&self, device: &Device) -> bool {
        fits(device, self.shader, self.workgroup_bytes)
    }

    fn pays(&self, adapter: &AdapterInfo, shape: LayerShape) -> bool {
        adapter.subgroup_size.map_or(0, |[least, _]| least) >= self.least_subgroup
            && shape.inputs >= self.least_inputs
            && shape.outputs >= self.least_outputs
            && shape.inputs * shape.taps >= self.least_depth
    }
}
