//! The choice of a variant, with the tiles of both families.

use super::variants::{LayerShape, choose, choose_for};
use super::{float, int8};
use crate::device::{AdapterInfo, Device};

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

const DIRECT: &str = "direct";

/// The shaders of the variants for f32 and int8.
fn both(adapter: &AdapterInfo, shape: LayerShape) -> [&'static str; 2] {
    [&float::TILES, &int8::TILES]
        .map(|tiles| choose_for(adapter, tiles, shape).map_or(DIRECT, |tile| tile.shader.name()))
}

const TILED: [&str; 2] = ["conv_f32_tiled", "conv_i8_tiled"];
const NARROW: [&str; 2] = ["conv_f32_tiled_narrow", "conv_i8_tiled_narrow"];

#[test]
fn the_adapter_chooses() {
    assert_eq!(both(&adapter("discrete", Some([32, 32])), LAYER), TILED);
    assert_eq!(both(&adapter("integrated", Some([8, 32])), LAYER), NARROW);
    assert_eq!(both(&adapter("integrated", None), LAYER), NARROW);
    assert_eq!(both(&adapter("software", Some([8, 8])), LAYER), [DIRECT, DIRECT]);
    let small = AdapterInfo { workgroup_memory_bytes: 10 << 10, ..adapter("discrete", Some([32, 32])) };
    assert_eq!(both(&small, LAYER), [NARROW[0], DIRECT]);
    let small = AdapterInfo { max_workgroup_size: 64, ..adapter("discrete", Some([32, 32])) };
    assert_eq!(both(&small, LAYER), [DIRECT, DIRECT]);
    assert!(choose(&Device::cpu(), &float::TILES, LAYER).is_none());
}

#[test]
fn the_layer_chooses() {
    let gpu = adapter("discrete", Some([32, 32]));
    let shape = |inputs, outputs, taps| LayerShape { inputs, outputs, taps };
    // A stem of three channels; few output channels; a short pointwise layer.
    assert_eq!(both(&gpu, shape(3, 64, 9)), [TILED[0], DIRECT]);
    assert_eq!(both(&gpu, shape(64, 24, 9)), [DIRECT, DIRECT]);
    assert_eq!(both(&gpu, shape(48, 48, 1)), [TILED[0], DIRECT]);
    assert_eq!(both(&gpu, shape(64, 64, 1)), TILED);
}
