//! Which variant of a kernel a layer is run by: one table for all of them.
//!
//! A direct kernel reads its operands from buffers; a tiled one brings them to workgroup memory and holds many outputs in
//! registers. Software adapters have neither: on lavapipe direct kernels were the faster by up to 1.7 (Mesa 25.0, AVX2,
//! layers of 64 to 256 channels). The choice depends on the adapter and on the layer, never on the batch: f32 results
//! must not depend on how images are put together.

use super::{conv_f32, conv_i8};
use crate::device::{AdapterInfo, Device, KernelSpec};

/// How a kernel computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Operands from buffers.
    Direct,
    /// Operands through workgroup memory; f32: 8 pixels × 8 channels an invocation, int8: 8 × 4, of both parts.
    Tiled,
    /// The same where registers are few; f32: 8 × 4, int8: 4 × 4.
    Narrow,
}

/// A tiled kernel: what it asks of an adapter, and the layers that fill its tiles.
#[derive(Debug)]
pub struct Tile {
    /// The kernel.
    pub spec: &'static KernelSpec,
    /// Which variant it is, and of which kernel.
    pub variant: Variant,
    /// The direct variant.
    pub direct: &'static KernelSpec,
    /// Workgroup memory it has, bytes; `tests/main/shaders.rs` checks it.
    pub workgroup_bytes: u32,
    /// Least subgroup size of an adapter, 0 for one that has none.
    least_subgroup: u32,
    /// Fewest input channels of a group.
    least_inputs: usize,
    /// Fewest output channels of a group.
    least_outputs: usize,
    /// Fewest products of an output.
    least_depth: usize,
}

/// Every tiled kernel. The first of a kernel's that suits adapter and layer is taken, else the direct variant.
///
/// The bounds are counted from the shaders, not measured:
/// - All tiles are 64 output channels wide. Half full they still read fewer words for a product than the direct variant,
///   and so few products (less than a tile along K) are not worth a barrier.
/// - An adapter whose subgroups are never narrower than 32 lanes has some 200 registers a lane, which 64 totals, their
///   operands and the next tile need; one that goes down to 8 or 16 has about 128.
pub static TILED: &[Tile] = &[
    Tile {
        spec: &conv_f32::tiled::SPEC,
        variant: Variant::Tiled,
        direct: &conv_f32::SPEC,
        workgroup_bytes: 12_812,
        least_subgroup: 32,
        least_inputs: 1,
        least_outputs: 32,
        least_depth: 16,
    },
    Tile {
        spec: &conv_f32::tiled::NARROW,
        variant: Variant::Narrow,
        direct: &conv_f32::SPEC,
        workgroup_bytes: 8_716,
        least_subgroup: 0,
        least_inputs: 1,
        least_outputs: 32,
        least_depth: 16,
    },
    Tile {
        spec: &conv_i8::tiled::SPEC,
        variant: Variant::Tiled,
        direct: &conv_i8::SPEC,
        workgroup_bytes: 12_288,
        least_subgroup: 32,
        // 16 channels of a tap at a time: with fewer, most products are with zeros.
        least_inputs: 16,
        least_outputs: 32,
        least_depth: 64,
    },
    Tile {
        spec: &conv_i8::tiled::NARROW,
        variant: Variant::Narrow,
        direct: &conv_i8::SPEC,
        workgroup_bytes: 12_288,
        least_subgroup: 0,
        least_inputs: 16,
        least_outputs: 32,
        least_depth: 64,
    },
];

/// Sizes of a group of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerShape {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) taps: usize,
}

/// The variant of `kernel`, named by its direct one, for a layer.
pub(super) fn choose(device: &Device, kernel: &KernelSpec, shape: LayerShape) -> Variant {
    device.adapter().map_or(Variant::Direct, |adapter| choose_for(adapter, kernel, shape))
}

fn choose_for(adapter: &AdapterInfo, kernel: &KernelSpec, shape: LayerShape) -> Variant {
    let mut tiles = TILED.iter().filter(|tile| tile.direct.name == kernel.name);
    let suits = |tile: &&Tile| !adapter.is_software() && tile.fits(adapter) && tile.pays(adapter, shape);
    tiles.find(suits).map_or(Variant::Direct, |tile| tile.variant)
}

/// Whether the device can run a kernel: the Cpu device has one way for each, and tiles ask for workgroup memory.
pub(super) fn runs_on(device: &Device, kernel: &KernelSpec) -> bool {
    let tile = TILED.iter().find(|tile| tile.spec.name == kernel.name);
    tile.is_none_or(|tile| device.adapter().is_some_and(|adapter| tile.fits(adapter)))
}

impl Tile {
    fn fits(&self, adapter: &AdapterInfo) -> bool {
        self.workgroup_bytes <= adapter.workgroup_memory_bytes
            && self.spec.workgroup_size.iter().product::<u32>() <= adapter.max_workgroup_size
    }

    fn pays(&self, adapter: &AdapterInfo, shape: LayerShape) -> bool {
        adapter.subgroup_size.map_or(0, |[least, _]| least) >= self.least_subgroup
            && shape.inputs >= self.least_inputs
            && shape.outputs >= self.least_outputs
            && shape.inputs * shape.taps >= self.least_depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(kind: &str, subgroup_size: Option<[u32; 2]>) -> AdapterInfo {
        AdapterInfo {
            index: 0,
            name: String::new(),
            backend: "vulkan".into(),
            kind: kind.into(),
            driver: String::new(),
            max_binding_bytes: 1 << 30,
            max_buffer_bytes: 1 << 30,
            workgroup_memory_bytes: 48 << 10,
            max_workgroup_size: 1024,
            subgroup_size,
            f16: false,
            timestamps: false,
        }
    }

    /// A 3×3 layer of RepVGG's third stage.
    const LAYER: LayerShape = LayerShape { inputs: 256, outputs: 256, taps: 9 };

    fn both(adapter: &AdapterInfo, shape: LayerShape) -> [Variant; 2] {
        [&conv_f32::SPEC, &conv_i8::SPEC].map(|kernel| choose_for(adapter, kernel, shape))
    }

    #[test]
    fn the_adapter_chooses() {
        use Variant::{Direct, Narrow, Tiled};
        assert_eq!(both(&adapter("discrete", Some([32, 32])), LAYER), [Tiled, Tiled]);
        assert_eq!(both(&adapter("integrated", Some([8, 32])), LAYER), [Narrow, Narrow]);
        assert_eq!(both(&adapter("integrated", None), LAYER), [Narrow, Narrow]);
        assert_eq!(both(&adapter("software", Some([8, 8])), LAYER), [Direct, Direct]);
        let small = AdapterInfo { workgroup_memory_bytes: 10 << 10, ..adapter("discrete", Some([32, 32])) };
        assert_eq!(both(&small, LAYER), [Narrow, Direct]);
        let small = AdapterInfo { max_workgroup_size: 64, ..adapter("discrete", Some([32, 32])) };
        assert_eq!(both(&small, LAYER), [Direct, Direct]);
        assert_eq!(choose(&Device::cpu(), &conv_f32::SPEC, LAYER), Direct);
    }

    #[test]
    fn the_layer_chooses() {
        use Variant::{Direct, Tiled};
        let gpu = adapter("discrete", Some([32, 32]));
        let shape = |inputs, outputs, taps| LayerShape { inputs, outputs, taps };
        // A stem of three channels; few output channels; a short pointwise layer.
        assert_eq!(both(&gpu, shape(3, 64, 9)), [Tiled, Direct]);
        assert_eq!(both(&gpu, shape(64, 24, 9)), [Direct, Direct]);
        assert_eq!(both(&gpu, shape(48, 48, 1)), [Tiled, Direct]);
        assert_eq!(both(&gpu, shape(64, 64, 1)), [Tiled, Tiled]);
    }
}
